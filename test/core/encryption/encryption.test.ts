import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { generateKey, readPrivateKey, revokeKey, type SecretKeyPacket } from 'openpgp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decryptStream, openDecryptionKey } from '../../../core/encryption/decrypt.ts';
import { encryptStream, type Recipients, readRecipients } from '../../../core/encryption/encrypt.ts';
import { createWorkerPool } from '../../../core/pool/worker-pool.ts';
import { randomContent } from '../../../fixtures/images.ts';
import { describePeer } from '../../../fixtures/peers.ts';
import { TEST_PASSPHRASE } from '../../../fixtures/world.ts';

const NOW = new Date('2026-03-01T00:00:00Z');
const MADE = new Date('2026-01-01T00:00:00Z');
const CONTENT = randomContent(3_000_000, 'secret');

const CONTEXT = { now: NOW, pool: createWorkerPool({ size: 0 }) };

let alice: { readonly secret: string; readonly certificate: string };
let bob: typeof alice;
let directory: string;

async function newKey(name: string, over: object = {}): Promise<typeof alice> {
  const { privateKey, publicKey } = await generateKey({
    type: 'ecc',
    curve: 'curve25519Legacy',
    userIDs: [{ name: `${name} (test key)`, email: `${name}@example.org` }],
    date: MADE,
    ...over,
  });
  return { secret: privateKey, certificate: publicKey };
}

beforeAll(async () => {
  directory = mkdtempSync(path.join(os.tmpdir(), 'sl-enc-'));
  [alice, bob] = await Promise.all([newKey('alice'), newKey('bob')]);
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const file = (text: string, name = 'key.asc') => ({ path: name, bytes: Buffer.from(text) });

function recipients(...keys: readonly (typeof alice)[]): Promise<Recipients> {
  return readRecipients(
    keys.map(({ certificate }) => file(certificate)),
    NOW,
  );
}

async function* pieces(bytes: Uint8Array, size = 100_000): AsyncGenerator<Uint8Array> {
  for (let i = 0; i < bytes.length; i += size) yield Uint8Array.from(bytes.subarray(i, i + size));
}

async function gather(content: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of content) chunks.push(Uint8Array.from(chunk));
  return Buffer.concat(chunks);
}

const encrypted = async (to: Recipients, bytes: Uint8Array = CONTENT) =>
  gather(encryptStream(pieces(bytes), to, CONTEXT));

async function decrypted(message: Uint8Array, key = alice): Promise<Buffer> {
  return gather(
    decryptStream(
      pieces(message),
      { own: [await readPrivateKey({ armoredKey: key.secret })], held: [] },
      CONTEXT,
    ),
  );
}

describe('an encrypted stream', () => {
  test('comes out as it went in, for each who may read it', async () => {
    const message = await encrypted(await recipients(alice, bob));
    expect(message.includes(CONTENT.subarray(1000, 1064))).toBe(false);
    expect((await decrypted(message, alice)).equals(CONTENT)).toBe(true);
    expect((await decrypted(message, bob)).equals(CONTENT)).toBe(true);
  });

  test('of nothing is a message of nothing', async () => {
    expect(await decrypted(await encrypted(await recipients(alice), Buffer.alloc(0)))).toHaveLength(0);
  });

  test('ends with the error of what was to be encrypted', async () => {
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield Buffer.alloc(200_000);
      throw new Error('the source broke');
    }
    await expect(gather(encryptStream(broken(), await recipients(alice), CONTEXT))).rejects.toThrow(
      'the source broke',
    );
  });

  test('for others is refused by the keys it is for', async () => {
    await expect(decrypted(await encrypted(await recipients(bob)))).rejects.toMatchObject({
      code: 'decryption-key-needed',
    });
  });

  test.each([0.3, 0.7, 0.999])(
    'changed in one byte at %d of its length is refused at the end',
    async (where) => {
      const message = await encrypted(await recipients(alice));
      const place = Math.floor(message.length * where);
      message.writeUInt8(message.readUInt8(place) ^ 1, place);
      await expect(decrypted(message).then(({ length }) => length)).rejects.toMatchObject({
        code: 'decryption-failed',
      });
    },
  );

  test('cut short is refused', async () => {
    const message = await encrypted(await recipients(alice));
    for (const length of [100, 1_500_000, message.length - 22, message.length - 1])
      await expect(decrypted(message.subarray(0, length))).rejects.toMatchObject({
        code: 'decryption-failed',
      });
  });

  test('with a packet of gigabytes before its content is refused before it fills the memory', async () => {
    const piece = 1024 * 1024;
    let given = 0;
    async function* endless(): AsyncGenerator<Uint8Array> {
      // A session key of 4 GiB less one byte.
      yield Uint8Array.from([0xc1, 0xff, 0xff, 0xff, 0xff, 0xff, 3]);
      for (; given < 160 * piece; given += piece) yield new Uint8Array(piece);
    }
    const key = await readPrivateKey({ armoredKey: alice.secret });
    await expect(gather(decryptStream(endless(), { own: [key], held: [] }, CONTEXT))).rejects.toMatchObject({
      code: 'decryption-failed',
    });
    expect(given).toBeLessThanOrEqual(65 * piece);
  });

  test('for thousands of hidden recipients is refused before a key is tried on each', async () => {
    const message = await encrypted(await recipients(alice), Buffer.alloc(10));
    // One session key packet, its length in one byte; then the key it is for is hidden.
    const session = message.subarray(0, 2 + message.readUInt8(1));
    session.fill(0, 3, 11);
    const many = Buffer.concat([...new Array<Buffer>(1001).fill(session), message.subarray(session.length)]);
    await expect(decrypted(many)).rejects.toMatchObject({
      code: 'decryption-failed',
      message: expect.stringContaining('1001 recipients'),
    });
  });

  test('that is no message at all is refused', async () => {
    await expect(decrypted(CONTENT.subarray(0, 1000))).rejects.toMatchObject({ code: 'decryption-failed' });
  });
});

describe('certificates', () => {
  test('are refused where they have expired, cannot be encrypted to, or are none', async () => {
    const expired = await newKey('old', { keyExpirationTime: 3600 });
    const signing = await newKey('signer', { subkeys: [{ sign: true }] });
    for (const { certificate } of [expired, signing])
      await expect(readRecipients([file(certificate)], NOW)).rejects.toMatchObject({ code: 'key-expired' });
    await expect(readRecipients([file(expired.certificate)], NOW)).rejects.toMatchObject({
      message: 'the certificate has expired',
      got: '2026-01-01T01:00:00.000Z',
    });
    await expect(readRecipients([file(signing.certificate)], NOW)).rejects.toThrow('made for signing only');
    await expect(readRecipients([file('nothing')], NOW)).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(readRecipients([], NOW)).rejects.toMatchObject({ code: 'invalid-argument' });
  });

  test('are refused where they have been revoked, or the key in them that encrypts', async () => {
    const { privateKey } = await generateKey({
      type: 'ecc',
      curve: 'curve25519Legacy',
      userIDs: [{ name: 'gone (test key)' }],
      date: MADE,
      format: 'object',
    });
    const [subkey] = privateKey.getSubkeys();
    const revokedSubkey = await readPrivateKey({ armoredKey: privateKey.armor() });
    const revoked = await subkey?.revoke(privateKey.keyPacket as SecretKeyPacket, { string: 'lost' }, MADE);
    if (revoked) revokedSubkey.subkeys = [revoked];
    await expect(readRecipients([file(revokedSubkey.toPublic().armor())], NOW)).rejects.toThrow(
      'been revoked',
    );
    const { publicKey } = await revokeKey({ key: privateKey, date: MADE, format: 'armored' });
    await expect(readRecipients([file(publicKey)], NOW)).rejects.toMatchObject({ code: 'key-revoked' });
  });

  test('of secret keys give away nothing secret', async () => {
    const { keys } = await readRecipients([file(alice.secret)], NOW);
    expect(keys.map((key) => key.isPrivate())).toEqual([false]);
  });
});

test('a locked key is opened with its passphrase, and says so where that is wrong', async () => {
  const locked = await newKey('locked', { passphrase: TEST_PASSPHRASE });
  const message = await encrypted(await recipients(locked));
  const key = await openDecryptionKey(file(locked.secret), async () => TEST_PASSPHRASE);
  expect(
    (await gather(decryptStream(pieces(message), { own: [key], held: [] }, CONTEXT))).equals(CONTENT),
  ).toBe(true);
  for (const answer of ['wrong', undefined])
    await expect(openDecryptionKey(file(locked.secret), async () => answer)).rejects.toMatchObject({
      code: 'passphrase-needed',
    });
});

describePeer(['gpg'], 'gpg', () => {
  const gpg = (...args: readonly string[]): Buffer =>
    execFileSync('gpg', ['--homedir', directory, '--batch', '--quiet', '--trust-model', 'always', ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      maxBuffer: 64 * 1024 * 1024,
    });
  const at = (name: string) => path.join(directory, name);

  beforeAll(() => {
    writeFileSync(at('alice.asc'), alice.secret);
    gpg('--import', at('alice.asc'));
  });
  afterAll(() => {
    execFileSync('gpgconf', ['--homedir', directory, '--kill', 'gpg-agent']);
  });

  test('decrypts what sealift encrypts, and finds nothing compressed in it', async () => {
    writeFileSync(at('message.gpg'), await encrypted(await recipients(alice)));
    expect(gpg('--decrypt', at('message.gpg')).equals(CONTENT)).toBe(true);
    const packets = gpg('--list-packets', at('message.gpg')).toString();
    expect(packets).toContain(':encrypted data packet:');
    expect(packets).toContain('mdc_method: 2');
    expect(packets).not.toContain(':compressed packet:');
  });

  test('encrypts what sealift decrypts, unless it is compressed', async () => {
    writeFileSync(at('plain'), CONTENT);
    gpg('--encrypt', '-z', '0', '-r', 'alice@example.org', '-o', at('gpg.gpg'), at('plain'));
    expect((await decrypted(readFileSync(at('gpg.gpg')))).equals(CONTENT)).toBe(true);
    writeFileSync(at('text'), 'a'.repeat(100_000));
    gpg(
      '--encrypt',
      '--compress-algo',
      'zlib',
      '-r',
      'alice@example.org',
      '-o',
      at('packed.gpg'),
      at('text'),
    );
    await expect(decrypted(readFileSync(at('packed.gpg')))).rejects.toMatchObject({
      code: 'decryption-failed',
    });
  });

  test.each([0, 1_048_551, 1_048_570, 1_048_576, 2_097_100])(
    'decrypts %i bytes, and encrypts them from a pipe',
    async (length) => {
      const content = randomContent(length, 'sized');
      writeFileSync(at('sized.gpg'), await encrypted(await recipients(alice, bob), content));
      expect(gpg('--decrypt', at('sized.gpg')).equals(content)).toBe(true);
      // From a pipe gpg knows no length: its packets come in parts of 8 KiB.
      const message = execFileSync(
        'gpg',
        ['--homedir', directory, '--batch', '--trust-model', 'always', '-z0', '-er', 'alice@example.org'],
        { input: content, maxBuffer: 64 * 1024 * 1024, stdio: ['pipe', 'pipe', 'ignore'] },
      );
      expect((await decrypted(message)).equals(content)).toBe(true);
    },
  );

  test('signs and encrypts at once what sealift decrypts', async () => {
    gpg('--sign', '--encrypt', '-z', '0', '-r', 'alice@example.org', '-o', at('signed.gpg'), at('plain'));
    expect((await decrypted(readFileSync(at('signed.gpg')))).equals(CONTENT)).toBe(true);
  });

  test('encrypts to somebody it does not name, and sealift tries its keys', async () => {
    gpg('--encrypt', '-z', '0', '-R', 'alice@example.org', '-o', at('hidden.gpg'), at('plain'));
    expect((await decrypted(readFileSync(at('hidden.gpg')))).equals(CONTENT)).toBe(true);
  });
});
