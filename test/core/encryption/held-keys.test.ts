/** `--decrypt-key gpg:…`: the real program opens the session key, and everything else is checked as ever. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { readPrivateKey } from 'openpgp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { decryptStream } from '../../../core/encryption/decrypt.ts';
import { openHeldKey } from '../../../core/encryption/held-keys.ts';
import type { DecryptionKeys } from '../../../core/encryption/session-keys.ts';
import { createWorkerPool } from '../../../core/pool/worker-pool.ts';
import type { GpgSettings } from '../../../core/workflow-options.ts';
import { type GpgHome, makeGpgHome } from '../../../fixtures/gpg-home.ts';
import { TEST_PASSPHRASE } from '../../../fixtures/keys/test-keys.ts';
import { describePeer } from '../../../fixtures/peers.ts';
import {
  checked,
  literal,
  newReader,
  packet,
  protectedBody,
  SESSION_KEY,
  sessionPackets,
} from './crafted.ts';

const NOW = new Date('2026-03-01T00:00:00Z');
const CONTENT = Buffer.from('what nobody else is to read');

let home: GpgHome;
/** With an encryption subkey and no passphrase; with a passphrase; whose secret part is not here. */
let open: string;
let locked: string;
let elsewhere: Awaited<ReturnType<typeof newReader>>;
let fingerprintElsewhere: string;

async function certificateOf(fingerprint: string): Promise<string> {
  return (await home.run(['--armor', '--export', fingerprint])).stdout.toString();
}

async function messageFor(...certificates: readonly string[]): Promise<Buffer> {
  const sessions = await Promise.all(certificates.map((certificate) => sessionPackets(certificate)));
  return Buffer.concat([...sessions, packet(18, protectedBody(checked(literal(CONTENT))))]);
}

const asked: string[] = [];
async function keysOf(references: readonly string[], settings: Partial<GpgSettings> = {}, answer?: string) {
  const passphrase = async (purpose: string) => {
    asked.push(purpose);
    return answer;
  };
  const held = references.map((one) => openHeldKey(one, { ...home.settings, ...settings }, passphrase));
  return { own: [], held: await Promise.all(held) };
}

async function read(message: Uint8Array, keys: DecryptionKeys | Promise<DecryptionKeys>): Promise<string> {
  async function* content() {
    yield message;
  }
  const chunks: Uint8Array[] = [];
  const context = { now: NOW, pool: createWorkerPool({ size: 0 }) };
  for await (const chunk of decryptStream(content(), await keys, context)) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

/** A program that answers as gpg does, and keeps what it was shown. */
function fakeGpg(name: string, says: string): string {
  const program = path.join(home.directory, name);
  writeFileSync(program, `#!/bin/sh\ncat >'${program}.shown'\n${says}\n`, { mode: 0o755 });
  return program;
}

describePeer(['gpg'], 'keys that gpg holds', () => {
  beforeAll(async () => {
    home = makeGpgHome(NOW);
    open = await home.make('Open');
    await home.run(['--passphrase', '', '--quick-add-key', open, 'cv25519', 'encr', '1y']);
    locked = await home.make('Locked', {
      algorithm: 'rsa2048',
      usage: 'sign,encr',
      passphrase: TEST_PASSPHRASE,
    });
    elsewhere = await newReader();
    await home.run(['--import'], Buffer.from(elsewhere.certificate));
    fingerprintElsewhere = (await readPrivateKey({ armoredKey: elsewhere.secret })).getFingerprint();
  });
  afterAll(async () => {
    await home?.close();
  });

  test('open a message, named or not', async () => {
    const message = await messageFor(await certificateOf(open));
    const listed = (await home.run(['--with-colons', '--list-keys', open])).stdout.toString();
    const [, subkey = ''] = [...listed.matchAll(/^fpr:+([0-9A-F]{40}):/gm)].map((match) => match[1]);
    for (const reference of ['gpg:', `gpg:${open}`, `gpg:${subkey}`, `gpg:0x${open.toLowerCase()}`])
      expect(await read(message, keysOf([reference]))).toBe(CONTENT.toString());
  });

  test('open one that is for others too, and one that does not say for whom', async () => {
    const both = await messageFor(elsewhere.certificate, await certificateOf(open));
    expect(await read(both, keysOf([`gpg:${open}`]))).toBe(CONTENT.toString());
    writeFileSync(path.join(home.directory, 'plain'), CONTENT);
    const out = path.join(home.directory, 'hidden.gpg');
    await home.run([
      ...['--trust-model', 'always', '-z', '0', '--encrypt', '-R', open, '--output', out],
      path.join(home.directory, 'plain'),
    ]);
    for (const reference of ['gpg:', `gpg:${open}`])
      expect(await read(readFileSync(out), keysOf([reference]))).toBe(CONTENT.toString());
  });

  test('are asked for their passphrase', async () => {
    const message = await messageFor(await certificateOf(locked));
    await home.forget();
    asked.length = 0;
    expect(await read(message, keysOf([`gpg:${locked}`], {}, TEST_PASSPHRASE))).toBe(CONTENT.toString());
    expect(asked).toEqual([`the key ${locked.toLowerCase()} that gpg holds`]);
    for (const [answer, ask] of [
      ['wrong', 'provider'],
      [undefined, 'provider'],
      [TEST_PASSPHRASE, 'never'],
    ] as const) {
      await home.forget();
      await expect(read(message, keysOf(['gpg:'], { ask }, answer))).rejects.toMatchObject({
        code: 'passphrase-needed',
      });
    }
  });

  test('do not open what is for others, and gpg is not asked where they are named', async () => {
    const message = await messageFor(elsewhere.certificate);
    const before = home.calls();
    const keys = await keysOf([`gpg:${open}`]);
    await expect(read(message, keys)).rejects.toMatchObject({
      code: 'decryption-key-needed',
      got: `gpg:${open}`,
    });
    expect(home.calls().slice(before.length)).not.toContain('--decrypt');
    for (const reference of ['gpg:', `gpg:${fingerprintElsewhere}`]) {
      await expect(read(message, keysOf([reference]))).rejects.toMatchObject({
        code: 'decryption-key-needed',
      });
    }
  });

  test('stand beside keys from files', async () => {
    const own = [await readPrivateKey({ armoredKey: elsewhere.secret })];
    const { held } = await keysOf(['gpg:']);
    for (const certificate of [elsewhere.certificate, await certificateOf(open)])
      expect(await read(await messageFor(certificate), { own, held })).toBe(CONTENT.toString());
    const stranger = await newReader();
    await expect(read(await messageFor(stranger.certificate), { own, held })).rejects.toMatchObject({
      code: 'decryption-key-needed',
    });
  });

  test('are refused where there is no such key, or no whole fingerprint', async () => {
    await expect(keysOf([`gpg:${'0'.repeat(40)}`])).rejects.toMatchObject({ code: 'decryption-key-needed' });
    await expect(keysOf(['gpg:0123456789ABCDEF'])).rejects.toMatchObject({ code: 'invalid-argument' });
  });

  test('do not spare a message its integrity check', async () => {
    const message = await messageFor(await certificateOf(open));
    for (let at = message.length - 60; at < message.length; at += 1) {
      const bad = Buffer.from(message);
      bad[at] = (bad[at] ?? 0) ^ 1;
      const program = fakeGpg(
        'right',
        `echo '[GNUPG:] SESSION_KEY 9:${SESSION_KEY.toString('hex').toUpperCase()}' >&3`,
      );
      await expect(read(bad, keysOf(['gpg:'], { program }))).rejects.toMatchObject({
        code: 'decryption-failed',
      });
    }
  });

  test('come to nothing where gpg tells another session key', async () => {
    const message = await messageFor(await certificateOf(open));
    for (const told of [`9:${'AB'.repeat(32)}`, `9:${'AB'.repeat(16)}`, `2:${'AB'.repeat(24)}`, 'nonsense']) {
      const program = fakeGpg('wrong', `echo '[GNUPG:] SESSION_KEY ${told}' >&3`);
      const refusal = await read(message, keysOf(['gpg:'], { program })).catch((error: Error) => error);
      expect(refusal).toMatchObject({ code: expect.stringMatching(/^decryption-/) });
      expect(JSON.stringify(refusal)).not.toContain('ABABAB');
    }
  });

  test('are shown the head of a message and nothing of its content', async () => {
    const certificate = await certificateOf(open);
    const other = await sessionPackets(elsewhere.certificate);
    const message = Buffer.concat([other, await messageFor(certificate)]);
    const program = fakeGpg('curious', 'exit 2');
    const { held } = await keysOf([`gpg:${open}`]);
    const { held: fake } = await keysOf(['gpg:'], { program });
    await expect(read(message, { own: [], held: fake })).rejects.toMatchObject({
      code: 'decryption-key-needed',
    });
    const shown = readFileSync(`${program}.shown`);
    expect(shown.length).toBe(message.length - protectedBody(checked(literal(CONTENT))).length - 5 + 1 + 19);
    expect(await read(message, { own: [], held })).toBe(CONTENT.toString());
  });

  test('are not tried on hidden recipients without end', async () => {
    const session = await sessionPackets(await certificateOf(open));
    session.fill(0, 3, 11);
    const body = packet(18, protectedBody(checked(literal(CONTENT))));
    const many = Buffer.concat([...new Array<Buffer>(33).fill(session), body]);
    await expect(read(many, keysOf(['gpg:']))).rejects.toMatchObject({
      code: 'decryption-failed',
      got: 33,
    });
  });

  test.each([
    ['whose card was taken out', 112, 'decryption-key-needed'],
    ['whose PIN is blocked', 130, 'decryption-key-needed'],
    ['whose PIN was wrong', 87, 'passphrase-needed'],
    ['whose PIN nobody typed', 99, 'cancelled'],
  ])('%s say so', async (_, failure, code) => {
    const message = await messageFor(await certificateOf(open));
    const line = `[GNUPG:] ERROR pkdecrypt_failed ${0x6000000 + failure}`;
    const program = fakeGpg(`card-${failure}`, `echo '${line}' >&3; exit 2`);
    await expect(read(message, keysOf(['gpg:'], { program, ask: 'agent' }))).rejects.toMatchObject({ code });
  });

  test('need gpg', async () => {
    const message = await messageFor(await certificateOf(open));
    const settings = { program: undefined, environment: { PATH: '/nowhere' } };
    await expect(read(message, keysOf(['gpg:'], settings))).rejects.toMatchObject({
      code: 'decryption-key-needed',
      hint: expect.stringContaining('install gnupg'),
    });
  });
});
