import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { loadHostCertificates } from '../../../../cli/options/certificates-directory.ts';
import { type Authority, makeAuthority, type Pair } from '../../../../fixtures/certificates.ts';
import {
  blob,
  type FaultRegistry,
  manifest,
  reply,
  startFaultRegistry,
} from '../../../../fixtures/fault-registry.ts';
import { randomContent, singleImage } from '../../../../fixtures/images.ts';
import { describePeer } from '../../../../fixtures/peers.ts';
import {
  type RunningRegistry,
  startDockerRegistry,
  TLS_CERTIFICATE_FILE,
} from '../../../../fixtures/registry.ts';
import { blobOf, collect, failureOf, registrySource, type TestSource } from '../surroundings.ts';

const IMAGE = singleImage();
const TAG_PATH = '/v2/team/app/manifests/1';

describePeer(['openssl', 'docker-registry'], 'docker-registry that wants a client certificate', () => {
  it('is read from with one, and with none not', async () => {
    const authority = makeAuthority();
    const directory = mkdtempSync(path.join(os.tmpdir(), 'sealift-mtls-'));
    let registry: RunningRegistry | undefined;
    try {
      const clientCa = path.join(directory, 'clients.pem');
      writeFileSync(clientCa, authority.ca);
      registry = await startDockerRegistry({ tls: true, clientCa });
      const open = async (): Promise<string> => {
        const { source } = await registrySource(registry?.host ?? '', {
          plainHttp: false,
          retryTimes: 0,
          hostCertificates: loadHostCertificates([directory]),
        });
        const error = await failureOf(source.manifest('1'));
        await source.close();
        return error.code;
      };
      const own = path.join(directory, registry.host);
      mkdirSync(own);
      writeFileSync(path.join(own, 'ca.crt'), readFileSync(TLS_CERTIFICATE_FILE));
      expect(await open()).toBe('source-tls');
      const { cert, key } = authority.issue('client', 'extendedKeyUsage=clientAuth');
      writeFileSync(path.join(own, 'me.cert'), cert);
      writeFileSync(path.join(own, 'me.key'), key);
      // It lets us in, and has no such image.
      expect(await open()).toBe('source-not-found');
    } finally {
      await registry?.stop();
      authority.remove();
      rmSync(directory, { recursive: true, force: true });
    }
  });
});

describePeer(['openssl'], 'certs.d', () => {
  let authority: Authority;
  let server: Pair;
  let client: Pair;
  let directory: string;
  const started: FaultRegistry[] = [];
  const opened: TestSource[] = [];

  beforeAll(() => {
    authority = makeAuthority();
    server = authority.issue('server', 'subjectAltName=IP:127.0.0.1');
    client = authority.issue('client', 'extendedKeyUsage=clientAuth');
    directory = mkdtempSync(path.join(os.tmpdir(), 'sealift-certs-'));
  });
  afterAll(() => {
    authority.remove();
    rmSync(directory, { recursive: true, force: true });
  });
  afterEach(async () => {
    for (const { source } of opened.splice(0)) await source.close();
    for (const registry of started.splice(0)) await registry.stop();
    rmSync(path.join(directory, 'certs.d'), { recursive: true, force: true });
  });

  async function start(wantsClient: boolean): Promise<FaultRegistry> {
    const registry = await startFaultRegistry({
      tls: { ...server, ...(wantsClient ? { clientCa: authority.ca } : {}) },
    });
    started.push(registry);
    registry.script(TAG_PATH, manifest(IMAGE.bytes));
    return registry;
  }
  function put(host: string, files: Readonly<Record<string, Uint8Array>>): void {
    const folder = path.join(directory, 'certs.d', host);
    mkdirSync(folder, { recursive: true });
    for (const [name, bytes] of Object.entries(files)) writeFileSync(path.join(folder, name), bytes);
  }
  async function open(registry: FaultRegistry): Promise<TestSource> {
    const test = await registrySource(registry.host, {
      plainHttp: false,
      retryTimes: 0,
      hostCertificates: loadHostCertificates([path.join(directory, 'none'), path.join(directory, 'certs.d')]),
    });
    opened.push(test);
    return test;
  }

  it('trusts the authority of a host for that host', async () => {
    const [registry, other] = [await start(false), await start(false)];
    put(registry.host, { 'ca.crt': authority.ca });
    expect((await (await open(registry)).source.manifest('1')).digest).toBe(IMAGE.digest);
    expect((await failureOf((await open(other)).source.manifest('1'))).code).toBe('source-tls');
  });

  it('shows the client certificate to a server that wants one', async () => {
    const registry = await start(true);
    put(registry.host, { 'ca.crt': authority.ca, 'me.cert': client.cert, 'me.key': client.key });
    expect((await (await open(registry)).source.manifest('1')).digest).toBe(IMAGE.digest);
    expect(registry.requests[0]?.clientName).toBe('client');
  });

  it('names certs.d where a server wants a client certificate and there is none', async () => {
    const registry = await start(true);
    put(registry.host, { 'ca.crt': authority.ca });
    const error = await failureOf((await open(registry)).source.manifest('1'));
    expect(error.code).toBe('source-tls');
    expect(error.hint).toContain(`certs.d/${registry.host}`);
    expect(registry.requests).toHaveLength(0);
  });

  it('follows a redirect with the authority of the registry, but without its client certificate', async () => {
    const [registry, storage] = [await start(true), await start(false)];
    const content = randomContent(1000, 'redirected');
    const wanted = blobOf(content);
    put(registry.host, { 'ca.crt': authority.ca, 'me.cert': client.cert, 'me.key': client.key });
    registry.script(`/v2/team/app/blobs/${wanted.digest}`, reply(307, { location: `${storage.url}/b` }));
    storage.script('/b', blob(content));
    expect(await collect((await open(registry)).source, wanted)).toEqual(content);
    expect(registry.requests[0]?.clientName).toBe('client');
    expect(storage.requests[0]?.clientName).toBeUndefined();
  });

  it.each([
    ['me.cert', () => ({ 'me.cert': client.cert })],
    ['me.key', () => ({ 'me.key': client.key })],
  ])('refuses %s without its other half', async (name, files) => {
    const registry = await start(false);
    put(registry.host, files());
    const error = await failureOf((await open(registry)).source.manifest('1'));
    expect(error.code).toBe('invalid-argument');
    expect(error.subject).toContain(name);
  });

  it('refuses a key that is not the one of the certificate, quoting neither', async () => {
    const registry = await start(false);
    put(registry.host, { 'ca.crt': authority.ca, 'me.cert': client.cert, 'me.key': server.key });
    const error = await failureOf((await open(registry)).source.manifest('1'));
    expect(error.code).toBe('invalid-argument');
    expect(error.message).not.toContain('BEGIN');
  });

  it('looks for no directory outside of certs.d', async () => {
    const load = loadHostCertificates([path.join(directory, 'certs.d')]);
    put('.', { 'me.cert': client.cert });
    put('host.example:443', { 'ca.crt': authority.ca });
    for (const host of ['..', '.', '../certs.d', 'a/../..', '']) expect(await load(host)).toBeUndefined();
    expect((await load('host.example'))?.authorities).toHaveLength(1);
    expect(await load('host.example:5000')).toBeUndefined();
  });
});
