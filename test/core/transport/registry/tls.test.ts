import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  type FaultRegistry,
  manifest,
  reply,
  startFaultRegistry,
} from '../../../../fixtures/fault-registry.ts';
import { singleImage } from '../../../../fixtures/images.ts';
import { findPeer, peersRequired } from '../../../../fixtures/peers.ts';
import { failureOf, registrySource } from '../surroundings.ts';

const IMAGE = singleImage();
const TAG_PATH = '/v2/team/app/manifests/1';
const SECURE = { plainHttp: false };

interface Pair {
  readonly cert: Buffer;
  readonly key: Buffer;
}

describe.skipIf(!findPeer('openssl') && !peersRequired())('TLS (needs openssl)', () => {
  let directory: string;
  let ca: Buffer;
  let good: Pair;
  let wrongName: Pair;
  let expired: Pair;
  let registry: FaultRegistry | undefined;

  const openssl = (...parameters: string[]): void => {
    execFileSync('openssl', parameters, { cwd: directory, stdio: 'pipe' });
  };
  const issue = (name: string, san: string, ...validity: string[]): Pair => {
    writeFileSync(path.join(directory, `${name}.ext`), `subjectAltName=${san}\n`);
    openssl(
      'req',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.csr`,
      '-subj',
      `/CN=${name}`,
    );
    openssl(
      'x509',
      '-req',
      '-in',
      `${name}.csr`,
      '-CA',
      'ca.pem',
      '-CAkey',
      'ca.key',
      '-CAcreateserial',
      '-out',
      `${name}.pem`,
      '-extfile',
      `${name}.ext`,
      ...validity,
    );
    return {
      cert: readFileSync(path.join(directory, `${name}.pem`)),
      key: readFileSync(path.join(directory, `${name}.key`)),
    };
  };

  beforeAll(() => {
    directory = mkdtempSync(path.join(os.tmpdir(), 'sealift-tls-'));
    openssl(
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-keyout',
      'ca.key',
      '-out',
      'ca.pem',
      '-subj',
      '/CN=test CA',
      '-days',
      '30',
    );
    ca = readFileSync(path.join(directory, 'ca.pem'));
    good = issue('good', 'IP:127.0.0.1', '-days', '30');
    wrongName = issue('wrong-name', 'DNS:registry.example', '-days', '30');
    expired = issue('expired', 'IP:127.0.0.1', '-days', '-1');
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));
  afterEach(async () => {
    await registry?.stop();
    registry = undefined;
  });

  async function start(tls?: Pair): Promise<FaultRegistry> {
    registry = await startFaultRegistry(tls ? { tls } : {});
    registry.script(TAG_PATH, manifest(IMAGE.bytes));
    return registry;
  }
  async function pull(server: FaultRegistry, options: Parameters<typeof registrySource>[1]): Promise<string> {
    const { source } = await registrySource(server.host, options);
    try {
      return (await source.manifest('1')).digest;
    } finally {
      await source.close();
    }
  }

  it('trusts the authority in the CA file', async () => {
    expect(await pull(await start(good), { ...SECURE, caFile: ca })).toBe(IMAGE.digest);
  });

  it('trusts no unknown authority, and names the option', async () => {
    const server = await start(good);
    const error = await failureOf(pull(server, SECURE));
    expect(error.code).toBe('source-tls');
    expect(error.hint).toContain('--ca-file');
    expect(server.requests).toHaveLength(0);
  });

  it('refuses a certificate for another name', async () => {
    const error = await failureOf(pull(await start(wrongName), { ...SECURE, caFile: ca }));
    expect(error).toMatchObject({ code: 'source-tls', got: 'ERR_TLS_CERT_ALTNAME_INVALID' });
  });

  it('refuses an expired certificate', async () => {
    const error = await failureOf(pull(await start(expired), { ...SECURE, caFile: ca }));
    expect(error).toMatchObject({ code: 'source-tls', got: 'CERT_HAS_EXPIRED' });
  });

  it('takes any certificate where that was asked for', async () => {
    expect(await pull(await start(expired), { ...SECURE, insecureSkipTlsVerify: true })).toBe(IMAGE.digest);
  });

  it('names --plain-http where the server speaks HTTP', async () => {
    const server = await start();
    const error = await failureOf(pull(server, SECURE));
    expect(error.code).toBe('source-tls');
    expect(error.hint).toContain('--plain-http');
    expect(server.requests).toHaveLength(0);
  });

  it('names --plain-http where HTTP is spoken to a TLS port', async () => {
    const error = await failureOf(pull(await start(good), { plainHttp: true, retryTimes: 0 }));
    expect(error.hint).toContain('--plain-http');
  });

  it('refuses a redirect from https to http', async () => {
    const plain = await startFaultRegistry();
    try {
      plain.script('/m', manifest(IMAGE.bytes));
      const server = await start(good);
      server.script(TAG_PATH, reply(307, { location: `${plain.url}/m` }));
      const error = await failureOf(pull(server, { ...SECURE, caFile: ca }));
      expect(error).toMatchObject({ code: 'source-protocol', got: `${plain.url}/m` });
      expect(plain.requests).toHaveLength(0);
    } finally {
      await plain.stop();
    }
  });

  it('refuses a token server on http for a registry on https', async () => {
    const tokens = await startFaultRegistry();
    try {
      const server = await start(good);
      server.script(TAG_PATH, reply(401, { 'www-authenticate': `Bearer realm="${tokens.url}/token"` }));
      const credentials = async () => ({ username: 'user', password: 'pass-word' });
      const error = await failureOf(pull(server, { ...SECURE, caFile: ca, credentials }));
      expect(error.code).toBe('source-protocol');
      expect(tokens.requests).toHaveLength(0);
    } finally {
      await tokens.stop();
    }
  });

  it('refuses a CA file without certificates', async () => {
    const error = await failureOf(pull(await start(good), { ...SECURE, caFile: Buffer.from('hello') }));
    expect(error.code).toBe('invalid-argument');
  });
});
