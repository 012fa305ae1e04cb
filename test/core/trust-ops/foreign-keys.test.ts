/** Keys that other programs made: docker's and notary's, X.509 certificates, and PEM as OpenSSL writes it. */
import { execFile } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DEFAULT_LIMITS } from '../../../core/limits.ts';
import { openCollection } from '../../../core/trust/collection.ts';
import { openNativeSigner } from '../../../core/trust/signer.ts';
import {
  addDelegation,
  addNames,
  importKey,
  listKeys,
  publishRequest,
  readPublicKey,
  signRequest,
} from '../../../core/trust-ops/index.ts';
import { singleImage } from '../../../fixtures/images.ts';
import { describePeer } from '../../../fixtures/peers.ts';
import { makeWorld, TEST_PASSPHRASE, type World } from '../../../fixtures/world.ts';
import { codeOf } from '../../stories/story.ts';

const run = promisify(execFile);
const FOREIGN = 'passphrase of a foreign key';
const APP = 'docker.io/acme/app:1.0';
const passphrase = async (): Promise<string> => TEST_PASSPHRASE;
const foreign = async (): Promise<string> => FOREIGN;

let world: World;
let work: string;
beforeEach(async () => {
  world = await makeWorld();
  work = mkdtempSync(path.join(os.tmpdir(), 'sealift-keys-'));
});
afterEach(async () => {
  await world?.close();
  rmSync(work, { recursive: true, force: true });
});

const trust = <T extends object>(more: T) => ({
  collection: world.collection,
  passphrase,
  pid: process.pid,
  ...more,
});

/** Imports a key and hands it a namespace: what it signs must reach a gate. */
async function signsNamespace(secret: string, publicKey: string): Promise<void> {
  const context = world.context();
  const first = await world.export({ 'docker.io/library/alpine:3.20': singleImage('one') });
  await world.pin(first.output);
  const request = path.join(work, 'request.json');
  await addDelegation(trust({ prefix: 'docker.io/acme/', add: [publicKey], request }), context);
  await signRequest({ request, keys: [{ file: secret, passphrase: foreign }], passphrase }, context);
  await publishRequest(trust({ requests: [request] }), context);
  const name = path.join(work, 'name.json');
  const images = new Map([[APP, { length: 3, sha256: 'a'.repeat(64), mediaType: 'application/x' }]]);
  await addNames(trust({ images, request: name }), context);
  await signRequest({ request: name, keys: [{ file: secret, passphrase: foreign }], passphrase }, context);
  await publishRequest(trust({ requests: [name] }), context);
  const bundle = await world.export({}, { metadataOnly: true });
  const imported = await world.import(bundle.output);
  expect(imported.collection.roles.map(({ role }) => role)).toContain('docker.io-acme');
}

/** A key file of docker or notary becomes one of the collection, and opens with its passphrase. */
async function isTakenIn(file: string): Promise<string> {
  const held = await importKey(trust({ file, passphrase: foreign }), world.context());
  const bytes = readFileSync(held.file);
  expect(bytes.toString()).toMatch(/^-----BEGIN ENCRYPTED PRIVATE KEY-----\n[A-Za-z0-9+/]/);
  expect(openNativeSigner(bytes, FOREIGN, 'key').keyId).toBe(held.keyId);
  const { unused } = await listKeys({ collection: world.collection }, world.context());
  expect(unused).toContain(held.file);
  expect(await codeOf(importKey(trust({ file, passphrase: foreign }), world.context()))).toBe(
    'destination-exists',
  );
  expect(await codeOf(importKey(trust({ file }), world.context()))).toBe('passphrase-needed');
  return held.keyId;
}

const privateKeys = (directory: string): string[] =>
  readdirSync(directory)
    .filter((name) => name.endsWith('.key'))
    .map((name) => path.join(directory, name));

describePeer(['notary'], 'keys of notary', () => {
  it('are taken in, whatever role they had', async () => {
    const env = {
      ...process.env,
      NOTARY_ROOT_PASSPHRASE: FOREIGN,
      NOTARY_DELEGATION_PASSPHRASE: FOREIGN,
      NOTARY_TARGETS_PASSPHRASE: FOREIGN,
    };
    const home = path.join(work, 'notary');
    await run('notary', ['-d', home, 'key', 'generate', 'ecdsa'], { env });
    await run('notary', ['-d', home, 'key', 'generate', 'ecdsa', '--role', 'targets/releases'], { env });
    const files = privateKeys(path.join(home, 'private'));
    expect(files).toHaveLength(2);
    expect(files.map((file) => /^role: (.*)$/m.exec(readFileSync(file, 'utf8'))?.[1]).sort()).toEqual([
      'root',
      'targets/releases',
    ]);
    for (const file of files) await isTakenIn(file);
  });
});

describePeer(['docker'], 'keys of docker trust', () => {
  it('are taken in, and sign a namespace by the public key docker wrote', async () => {
    const env = {
      ...process.env,
      DOCKER_CONFIG: path.join(work, 'docker'),
      DOCKER_CONTENT_TRUST_REPOSITORY_PASSPHRASE: FOREIGN,
    };
    await run('docker', ['trust', 'key', 'generate', 'jo'], { env, cwd: work });
    const [secret = ''] = privateKeys(path.join(work, 'docker/trust/private'));
    expect(readFileSync(path.join(work, 'jo.pub'), 'utf8')).toContain('role: jo');
    const { keyId } = await readPublicKey(path.join(work, 'jo.pub'), world.context());
    await signsNamespace(secret, path.join(work, 'jo.pub'));
    const held = await importKey(trust({ file: secret, passphrase: foreign }), world.context());
    expect(held.keyId).toBe(keyId);
  });
});

describePeer(['openssl'], 'X.509 certificates', () => {
  const certify = async (
    kind: readonly string[],
    days = '3650',
  ): Promise<{ secret: string; certificate: string }> => {
    const secret = path.join(work, 'key.pem');
    const certificate = path.join(work, 'cert.pem');
    writeFileSync(path.join(work, 'pass'), FOREIGN);
    await run('openssl', [
      ...['req', '-x509', '-newkey', ...kind, '-keyout', secret, '-out', certificate, '-days', days],
      ...['-subj', '/CN=acme', '-passout', `file:${path.join(work, 'pass')}`],
    ]);
    return { secret, certificate };
  };
  // OpenSSL dates certificates by the clock of the machine.
  const today = () => world.context(new Date(Date.now() + 1000));

  it.each([
    ['ECDSA', ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256']],
    ['RSA', ['rsa:2048']],
  ])('hand a namespace to their %s key', async (_, kind) => {
    const { secret, certificate } = await certify(kind);
    const { key, keyId } = await readPublicKey(certificate, today());
    expect(key.keyval.public).toMatch(/^-----BEGIN PUBLIC KEY-----\n/);
    // The certificate is no part of it: another one for the same key is the same key.
    const bare = path.join(work, 'public.pem');
    const { stdout } = await run('openssl', ['x509', '-in', certificate, '-noout', '-pubkey']);
    writeFileSync(bare, stdout);
    expect((await readPublicKey(bare, world.context())).keyId).toBe(keyId);
    await signsNamespace(secret, bare);
  });

  it('are not taken once they have expired, or before they begin', async () => {
    const { certificate } = await certify(['ec', '-pkeyopt', 'ec_paramgen_curve:P-256'], '1');
    expect(await codeOf(readPublicKey(certificate, today()))).toBe('accepted');
    const tomorrow = world.context(new Date(Date.now() + 2 * 24 * 60 * 60 * 1000));
    expect(await codeOf(readPublicKey(certificate, tomorrow))).toBe('key-expired');
    expect(await codeOf(readPublicKey(certificate, world.context(new Date('2020-01-01T00:00:00Z'))))).toBe(
      'key-expired',
    );
  });

  it.each([
    ['a curve nobody accepts', ['ec', '-pkeyopt', 'ec_paramgen_curve:secp384r1']],
    ['a short RSA key', ['rsa:1024']],
  ])('are refused with %s', async (_, kind) => {
    const { certificate } = await certify(kind);
    expect(await codeOf(readPublicKey(certificate, today()))).toBe('weak-algorithm');
  });
});

describe('older forms of PEM', () => {
  const sec1 = (cipher: { cipher: string; passphrase: string } | object): string =>
    generateKeyPairSync('ec', { namedCurve: 'P-256' })
      .privateKey.export({ type: 'sec1', format: 'pem', ...cipher })
      .toString();
  const write = (text: string): string => {
    mkdirSync(path.join(work, 'private'), { recursive: true });
    const file = path.join(work, 'private', 'old.key');
    writeFileSync(file, text);
    return file;
  };

  it('are taken in as PKCS#8: the encryption of OpenSSL, with headers of notary among its own', async () => {
    const old = sec1({ cipher: 'aes-256-cbc', passphrase: FOREIGN });
    expect(old).toContain('DEK-Info: AES-256-CBC');
    await isTakenIn(write(old.replace(/^(DEK-Info: .*\n)/m, '$1gun: docker.io/acme/app\nrole: targets\n')));
  });

  it('are taken in as PKCS#8: RSA', async () => {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const pem = privateKey.export({
      type: 'pkcs1',
      format: 'pem',
      cipher: 'aes-256-cbc',
      passphrase: FOREIGN,
    });
    await isTakenIn(write(pem.toString()));
  });

  it.each([
    ['SEC1', () => sec1({})],
    ['with headers', () => sec1({}).replace('-----\n', '-----\nrole: root\n\n')],
    [
      'PKCS#8',
      () => generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    ],
  ])('are refused without a passphrase: %s', async (_, make) => {
    const file = write(make());
    expect(await codeOf(importKey(trust({ file, passphrase: foreign }), world.context()))).toBe(
      'invalid-argument',
    );
    expect(readdirSync(path.join(world.collection, 'keys'))).toHaveLength(1);
  });

  it('are refused where they are no key at all', async () => {
    const file = write('-----BEGIN PRIVATE KEY-----\nrole: root\n\n!!!\n-----END PRIVATE KEY-----\n');
    expect(await codeOf(importKey(trust({ file, passphrase: foreign }), world.context()))).toBe(
      'passphrase-needed',
    );
    const { state } = await openCollection(world.collection, DEFAULT_LIMITS);
    expect(state.root.version).toBe(1);
  });
});
