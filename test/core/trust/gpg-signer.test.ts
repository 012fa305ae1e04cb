/** `gpg:FINGERPRINT`: the real program makes the signatures, and every way it fails has its error. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isSealiftError } from '../../../core/errors.ts';
import { DEFAULT_LIMITS } from '../../../core/limits.ts';
import { digestOf } from '../../../core/oci/digest.ts';
import { readCertificate } from '../../../core/trust/certificates.ts';
import { readKeyring } from '../../../core/trust/evidence/keyring.ts';
import { makeSimpleSignature, verifySimpleSignature } from '../../../core/trust/evidence/simple-signing.ts';
import { openGpgSigner } from '../../../core/trust/gpg.ts';
import { verifyOpenpgp } from '../../../core/trust/openpgp.ts';
import type { GpgSettings, KeyAccess } from '../../../core/workflow-options.ts';
import { type GpgHome, makeGpgHome } from '../../../fixtures/gpg-home.ts';
import { TEST_PASSPHRASE } from '../../../fixtures/keys/test-keys.ts';
import { describePeer } from '../../../fixtures/peers.ts';

const NOW = new Date('2026-06-01T00:00:00Z');
const LATER = new Date('2026-09-01T00:00:00Z');
const DAY = 24 * 60 * 60 * 1000;
const DATA = Buffer.from('line one\nline two\n');

let home: GpgHome;
const access = (more: Partial<KeyAccess> & { settings?: Partial<GpgSettings> } = {}): KeyAccess => {
  const { settings, ...rest } = more;
  return { passphrase: async () => TEST_PASSPHRASE, gpg: { ...home.settings, ...settings }, ...rest };
};

async function refusal(action: Promise<unknown>): Promise<{ code: string; hint: string; message: string }> {
  try {
    await action;
  } catch (error) {
    if (!isSealiftError(error)) throw error;
    return { code: error.code, hint: error.hint ?? '', message: error.message };
  }
  return { code: 'accepted', hint: '', message: '' };
}

/** Signs as metadata and judges it as a gate would. */
async function signAndJudge(reference: string, given = access()) {
  const signer = await openGpgSigner(reference, given);
  const sig = await signer.sign(DATA, 'tuf-timestamp', NOW);
  const certificate = await readCertificate(signer.certificate, DEFAULT_LIMITS);
  return await verifyOpenpgp(certificate, DATA, sig, { purpose: 'tuf-timestamp', now: NOW, mode: 'final' });
}

describePeer(['gpg'], 'keys that gpg holds', () => {
  beforeAll(() => {
    home = makeGpgHome(NOW);
  });
  afterAll(async () => {
    await home?.close();
  });

  it.each([
    ['RSA', 'rsa2048'],
    ['legacy Ed25519', 'ed25519'],
    ['ECDSA P-256', 'nistp256'],
  ])('sign metadata and checksums: %s', async (user, algorithm) => {
    const fingerprint = await home.make(user, { algorithm });
    const verified = await signAndJudge(`gpg:${fingerprint}`);
    expect(verified.fingerprint).toBe(fingerprint.toLowerCase());
    expect(verified.created).toEqual(NOW);
    const signer = await openGpgSigner(`gpg:${fingerprint}`, access());
    const sums = path.join(home.directory, 'SHA256SUMS');
    writeFileSync(sums, DATA);
    writeFileSync(`${sums}.asc`, (await signer.detached?.(DATA, NOW)) ?? '');
    const checked = await home.run(['--verify', `${sums}.asc`, sums]);
    expect(checked.status).toContain(`VALIDSIG ${fingerprint}`);
    expect(checked.status).toContain('NOTATION_DATA sha256sums');
  });

  it('sign with a signing subkey, with the one that is named, or with the primary where that is named', async () => {
    const primary = await home.make('Several');
    await home.run(['--passphrase', '', '--quick-add-key', primary, 'ed25519', 'sign', '1y']);
    home.setClock(new Date(NOW.getTime() + 1000));
    await home.run(['--passphrase', '', '--quick-add-key', primary, 'rsa2048', 'sign', '1y']);
    const listed = (await home.run(['--with-colons', '--list-secret-keys', primary])).stdout.toString();
    const [, first = '', second = ''] = [...listed.matchAll(/^fpr:+([0-9A-F]{40}):/gm)].map((m) => m[1]);
    const by = async (reference: string) => (await signAndJudge(reference)).key.fingerprint.toUpperCase();
    expect(await by(`gpg:${primary}`)).toBe(second);
    expect(await by(`gpg:${first}`)).toBe(first);
    expect(await by(`gpg:${primary}!`)).toBe(primary);
    expect(await by(`gpg:0x${primary.toLowerCase()}`)).toBe(second);
    home.setClock(NOW);
  });

  it('hand the passphrase on once, and never in an argument', async () => {
    const fingerprint = await home.make('Locked', { passphrase: TEST_PASSPHRASE });
    await home.forget();
    let asked = 0;
    const counting = access({
      passphrase: async () => {
        asked += 1;
        return TEST_PASSPHRASE;
      },
    });
    const signer = await openGpgSigner(`gpg:${fingerprint}`, counting);
    for (let i = 0; i < 3; i += 1) await signer.sign(DATA, 'tuf-root', NOW);
    expect(asked).toBe(1);
    expect(home.calls()).toContain(fingerprint);
    expect(home.calls()).not.toContain(TEST_PASSPHRASE);
  });

  it('say so where the passphrase is wrong, missing or cannot be asked for', async () => {
    const reference = `gpg:${await home.make('Locked too', { passphrase: TEST_PASSPHRASE })}`;
    const open = async (given: Parameters<typeof access>[0]) => {
      await home.forget();
      return await refusal(openGpgSigner(reference, access(given)));
    };
    const wrong = await open({ passphrase: async () => 'not it' });
    expect(wrong).toMatchObject({
      code: 'passphrase-needed',
      message: expect.stringContaining('does not open'),
    });
    expect((await open({ passphrase: async () => undefined })).code).toBe('passphrase-needed');
    const never = await open({ settings: { ask: 'never' } });
    expect(never).toMatchObject({ code: 'passphrase-needed', hint: expect.stringContaining('GPG_TTY') });
    expect((await open({ settings: { ask: 'agent' } })).code).toBe('passphrase-needed');
  });

  it('do not listen to a gpg.conf that would spoil the signature', async () => {
    const fingerprint = await home.make('Configured');
    const other = await home.make('Another');
    const file = path.join(home.directory, 'gpg.conf');
    writeFileSync(file, `armor\ntextmode\ndefault-sig-expire 1y\nlocal-user ${other}\ndigest-algo SHA1\n`);
    try {
      expect((await signAndJudge(`gpg:${fingerprint}`)).fingerprint).toBe(fingerprint.toLowerCase());
    } finally {
      writeFileSync(file, '');
    }
  });

  it('sign images as containers-signature(5) wants it', async () => {
    const fingerprint = await home.make('Images', { algorithm: 'rsa2048' });
    const signer = await openGpgSigner(`gpg:${fingerprint}`, access());
    const manifest = Buffer.from('{"schemaVersion":2}');
    const subject = { bytes: manifest, digest: digestOf(manifest) };
    const name = 'registry.example.com/app/web:1.0';
    const signature = await makeSimpleSignature(signer, name, subject.digest, NOW);
    const keyring = await readKeyring([signer.certificate], DEFAULT_LIMITS);
    const verified = await verifySimpleSignature(signature, subject, keyring, NOW);
    expect(verified.claimedName).toBe(name);
    expect(verified.signer).toContain(fingerprint.toLowerCase());
  });

  it('are refused where they cannot sign: unknown, public half only, expired, revoked, for encryption', async () => {
    const codeFor = async (reference: string, given = access()) =>
      (await refusal(openGpgSigner(reference, given))).code;
    expect(await codeFor(`gpg:${'0'.repeat(40)}`)).toBe('signature-needed');

    const expiring = await home.make('Expiring', { expires: '2026-06-15' });
    const revoked = await home.make('Revoked');
    const file = path.join(home.directory, 'openpgp-revocs.d', `${revoked}.rev`);
    await home.run(['--import'], Buffer.from(readFileSync(file, 'utf8').replace(':---', '---')));
    expect(await codeFor(`gpg:${revoked}`)).toBe('key-revoked');
    home.setClock(LATER);
    const expired = await refusal(openGpgSigner(`gpg:${expiring}`, access()));
    expect(expired).toMatchObject({
      code: 'key-expired',
      hint: expect.stringContaining('trust key refresh'),
    });
    home.setClock(NOW);
    expect(await codeFor(`gpg:${expiring}`)).toBe('accepted');

    const certifier = await home.make('Certifier', { usage: 'cert' });
    expect(await codeFor(`gpg:${certifier}`)).toBe('invalid-argument');

    const elsewhere = makeGpgHome(NOW);
    try {
      await elsewhere.run(['--import'], (await home.run(['--export', expiring])).stdout);
      expect(await codeFor(`gpg:${expiring}`, { ...access(), gpg: elsewhere.settings })).toBe(
        'signature-needed',
      );
    } finally {
      await elsewhere.close();
    }
  });

  it('are not dated by --created: gpg has a clock of its own', async () => {
    home.setClock(new Date(NOW.getTime() - 60 * DAY));
    const fingerprint = await home.make('Dated');
    home.setClock(NOW);
    const signer = await openGpgSigner(`gpg:${fingerprint}`, access());
    const long = await refusal(signer.sign(DATA, 'tuf-root', new Date(NOW.getTime() - 30 * DAY)));
    expect(long).toMatchObject({
      code: 'invalid-argument',
      message: expect.stringContaining('its own clock'),
    });
    expect((await refusal(signer.sign(DATA, 'tuf-root', new Date(NOW.getTime() - DAY)))).code).toBe(
      'accepted',
    );
  });

  it('end with the run', async () => {
    const stop = new AbortController();
    const given = access({ settings: { signal: stop.signal } });
    const signer = await openGpgSigner(`gpg:${await home.make('Stopped')}`, given);
    stop.abort();
    await expect(signer.sign(DATA, 'tuf-root', NOW)).rejects.toThrow(/abort/i);
  });

  describe('on a card', () => {
    /** A program that lists a key on a card and fails to sign as gpg does. */
    async function withCard(failure: number): Promise<{ code: string; hint: string; message: string }> {
      const fingerprint = await home.make(`Card ${failure}`);
      const program = path.join(home.directory, `card-${failure}`);
      writeFileSync(
        program,
        `#!/bin/sh
for argument; do last=$argument; done
case "$*" in
  *--list-secret-keys*) printf 'sec:u:255:22:X:1780272000:::u:::scSC:::D2760001240102010006000000010000::ed25519:::0:\\nfpr:::::::::%s:\\n' "$last" ;;
  *--export*) exec '${path.join(home.directory, 'gpg')}' "$@" ;;
  *) echo '[GNUPG:] FAILURE sign ${0x6000000 + failure}' >&3; exit 2 ;;
esac
`,
        { mode: 0o755 },
      );
      const given = access({ settings: { program, ask: 'agent' } });
      // Opening touches no card.
      const signer = await openGpgSigner(`gpg:${fingerprint}`, given);
      return await refusal(signer.sign(DATA, 'tuf-root', NOW));
    }

    it.each([
      ['taken out', 112, 'signature-needed', /card is not there/],
      ['with a PIN that is blocked', 130, 'signature-needed', /blocked/],
      ['with a wrong PIN', 87, 'passphrase-needed', /PIN/],
      ['and nobody typed the PIN', 99, 'cancelled', /not given/],
      ['and something else', 4711, 'signature-needed', /no signature/],
    ])('%s', async (_, failure, code, message) => {
      const found = await withCard(failure);
      expect(found.code).toBe(code);
      expect(found.message).toMatch(message);
    });
  });
});

describe('without gpg', () => {
  const passphrase = async () => undefined;

  it('a key that gpg holds cannot sign, and the hint says what to do', async () => {
    const reference = `gpg:${'a'.repeat(40)}`;
    const settings = { environment: { PATH: '/nowhere' }, ask: 'agent' } as const;
    const found = await refusal(openGpgSigner(reference, { passphrase, gpg: settings }));
    expect(found).toMatchObject({ code: 'signature-needed', hint: expect.stringContaining('install gnupg') });
    expect((await refusal(openGpgSigner(reference, { passphrase }))).code).toBe('signature-needed');
  });

  it.each([
    'gpg:',
    'gpg:D1F3595945BABD9E',
    `gpg:${'a'.repeat(39)}`,
    'gpg:--version',
    `gpg:${'a'.repeat(64)}`,
  ])('%s names no key: ids are short enough to be made on purpose', async (reference) => {
    const settings = { environment: {}, ask: 'agent' } as const;
    expect((await refusal(openGpgSigner(reference, { passphrase, gpg: settings }))).code).toBe(
      'invalid-argument',
    );
  });
});
