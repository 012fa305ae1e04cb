/** Against the real program: what gpg makes is judged by the profile, and what sealift makes gpg verifies. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { SealiftError } from '../../../core/errors.ts';
import { DEFAULT_LIMITS } from '../../../core/limits.ts';
import { readCertificate } from '../../../core/trust/certificates.ts';
import { verifyArmored, verifyOpenpgp } from '../../../core/trust/openpgp.ts';
import { openOpenpgpSigner } from '../../../core/trust/signer.ts';
import {
  readTestKey,
  TEST_PASSPHRASE,
  type TestKeyName,
  testSigner,
} from '../../../fixtures/keys/test-keys.ts';
import { describePeer } from '../../../fixtures/peers.ts';

const run = promisify(execFile);
const NOW = new Date('2026-06-01T00:00:00Z');
/** gpg's clock stands still; a second self-signature needs a later one. */
let clock = '20260601T000000!';
const DATA = Buffer.from('line one\nline two\n');

let home: string;
let work: string;

async function gpg(...args: string[]): Promise<{ stdout: Buffer; stderr: string }> {
  const { stdout, stderr } = await run(
    'gpg',
    [
      '--batch',
      '--yes',
      '--no-tty',
      '--pinentry-mode',
      'loopback',
      '--passphrase',
      TEST_PASSPHRASE,
      '--faked-system-time',
      clock,
      ...args,
    ],
    { env: { ...process.env, GNUPGHOME: home, LC_ALL: 'C' }, encoding: 'buffer' },
  );
  return { stdout, stderr: stderr.toString() };
}

async function codeOf(action: Promise<unknown>): Promise<string> {
  try {
    await action;
  } catch (error) {
    return (error as SealiftError).code ?? `not a SealiftError: ${String(error)}`;
  }
  return 'accepted';
}

const KEYS: readonly TestKeyName[] = ['rsa-a', 'ed25519-a', 'ecdsa', 'subkey'];

beforeAll(async () => {
  // Short: a socket's path has about a hundred characters at most.
  home = await mkdtemp(path.join(os.tmpdir(), 'sl-gpg-'));
  // Else the agent takes a tenth of a second for each passphrase.
  await writeFile(path.join(home, 'gpg-agent.conf'), 's2k-count 65536\n');
  work = await mkdtemp(path.join(os.tmpdir(), 'sl-work-'));
  await writeFile(path.join(work, 'data'), DATA);
  for (const name of KEYS) {
    const file = path.join(work, `${name}.asc`);
    await writeFile(file, await readTestKey(name));
    await gpg('--import', file);
  }
});

afterAll(async () => {
  await run('gpgconf', ['--kill', 'all'], { env: { ...process.env, GNUPGHOME: home } });
  await rm(home, { recursive: true, force: true });
  await rm(work, { recursive: true, force: true });
});

/** A detached signature by gpg, and the certificate as gpg exports it. */
async function signWithGpg(
  name: TestKeyName,
  ...options: string[]
): Promise<{ sig: string; certificate: Uint8Array }> {
  const { fingerprint } = await testSigner(name);
  const file = path.join(work, 'data');
  const { stdout } = await gpg(
    ...options,
    '--local-user',
    fingerprint!,
    '--output',
    '-',
    '--detach-sign',
    file,
  );
  const exported = await gpg('--export', fingerprint!);
  return { sig: stdout.toString('hex'), certificate: exported.stdout };
}

const PURPOSE = ['--set-notation', 'purpose@sealift=tuf-root'];
const options = { purpose: 'tuf-root', now: NOW, mode: 'final' } as const;

async function judge(made: { sig: string; certificate: Uint8Array }): Promise<string> {
  const certificate = await readCertificate(made.certificate, DEFAULT_LIMITS);
  return await codeOf(verifyOpenpgp(certificate, DATA, made.sig, options));
}

describePeer(['gpg'], 'signatures gpg makes', () => {
  it('are taken with the notation, by every kind of key', async () => {
    for (const name of KEYS) expect(await judge(await signWithGpg(name, ...PURPOSE)), name).toBe('accepted');
  });

  it('are refused without the notation', async () => {
    expect(await judge(await signWithGpg('ed25519-a'))).toBe('signature-invalid');
  });

  it('are refused with the notation for another purpose', async () => {
    expect(await judge(await signWithGpg('ed25519-a', '--set-notation', 'purpose@sealift=sha256sums'))).toBe(
      'signature-invalid',
    );
  });

  it('are refused in text mode', async () => {
    expect(await judge(await signWithGpg('rsa-a', '--textmode', ...PURPOSE))).toBe('signature-invalid');
  });

  it('are refused with SHA-1', async () => {
    expect(await judge(await signWithGpg('rsa-a', '--digest-algo', 'SHA1', ...PURPOSE))).toBe(
      'weak-algorithm',
    );
  });

  it('are refused with a critical notation nobody knows', async () => {
    expect(
      await judge(await signWithGpg('rsa-a', ...PURPOSE, '--set-notation', '!other@example.org=x')),
    ).toBe('signature-invalid');
  });

  it('are refused when they expire by themselves', async () => {
    expect(await judge(await signWithGpg('rsa-a', ...PURPOSE, '--default-sig-expire', '1y'))).toBe(
      'signature-invalid',
    );
  });

  it('are refused as a signed message instead of a detached signature', async () => {
    const { fingerprint } = await testSigner('rsa-a');
    const { stdout } = await gpg(
      ...PURPOSE,
      '--local-user',
      fingerprint!,
      '--output',
      '-',
      '--sign',
      path.join(work, 'data'),
    );
    const { certificate } = await signWithGpg('rsa-a', ...PURPOSE);
    expect(await judge({ sig: stdout.toString('hex'), certificate })).toBe('signature-invalid');
  });

  it('are taken in armor', async () => {
    const { fingerprint } = await testSigner('rsa-a');
    const { stdout } = await gpg(
      '--armor',
      '--set-notation',
      'purpose@sealift=sha256sums',
      '--local-user',
      fingerprint!,
      '--output',
      '-',
      '--detach-sign',
      path.join(work, 'data'),
    );
    const certificate = await readCertificate((await testSigner('rsa-a')).certificate!, DEFAULT_LIMITS);
    expect(
      await codeOf(verifyArmored(certificate, DATA, stdout, { ...options, purpose: 'sha256sums' })),
    ).toBe('accepted');
  });
});

describePeer(['gpg'], 'signatures sealift makes', () => {
  it('are verified by gpg: SHA256SUMS.asc', async () => {
    for (const name of KEYS) {
      const signer = await testSigner(name);
      const file = path.join(work, `${name}-SHA256SUMS`);
      await writeFile(file, DATA);
      await writeFile(`${file}.asc`, (await signer.detached?.(DATA, NOW)) ?? '');
      const { stdout } = await gpg('--status-fd', '1', '--verify', `${file}.asc`, file);
      expect(stdout.toString()).toMatch(
        new RegExp(`VALIDSIG [0-9A-F]{40} 2026-06-01 .*${signer.fingerprint?.toUpperCase()}`),
      );
      expect(stdout.toString()).toContain('NOTATION_DATA sha256sums');
      await writeFile(file, 'else');
      await expect(gpg('--verify', `${file}.asc`, file)).rejects.toThrow();
    }
  });

  it('over metadata are verified by gpg too', async () => {
    const sig = await (await testSigner('rsa-a')).sign(DATA, 'tuf-root', NOW);
    const file = path.join(work, 'metadata.sig');
    await writeFile(file, Buffer.from(sig, 'hex'));
    const { stdout } = await gpg('--status-fd', '1', '--verify', file, path.join(work, 'data'));
    expect(stdout.toString()).toContain('GOODSIG');
  });
});

describePeer(['gpg'], 'keys gpg makes', () => {
  const make = async (user: string, algorithm: string): Promise<string> => {
    await gpg('--quick-generate-key', user, algorithm, 'sign', '1y');
    const { stdout } = await gpg('--with-colons', '--list-keys', user);
    return /^fpr:+([0-9A-F]{40}):/m.exec(stdout.toString())?.[1] ?? '';
  };

  it('are read, sign, expire, are renewed and revoked', async () => {
    const fingerprint = await make('Gpg Made <gpg@example.invalid>', 'ed25519');
    await gpg('--quick-add-key', fingerprint, 'ed25519', 'sign', '6m');
    await gpg('--quick-add-key', fingerprint, 'cv25519', 'encr', 'never');
    const before = await readCertificate((await gpg('--export', fingerprint)).stdout, DEFAULT_LIMITS);
    expect(before.fingerprint).toBe(fingerprint.toLowerCase());
    expect(before.userId).toBe('Gpg Made <gpg@example.invalid>');
    expect(before.keys.map(({ canSign }) => canSign)).toEqual([true, true, false]);
    expect(before.expires?.getUTCFullYear()).toBe(2027);

    const secret = (await gpg('--export-secret-keys', fingerprint)).stdout;
    const signer = await openOpenpgpSigner(secret, TEST_PASSPHRASE, 'gpg');
    const sig = await signer.sign(DATA, 'tuf-root', NOW);
    const verify = async (bytes: Uint8Array, now = NOW, mode: 'final' | 'link' = 'final') =>
      await codeOf(
        verifyOpenpgp(await readCertificate(bytes, DEFAULT_LIMITS), DATA, sig, { ...options, now, mode }),
      );
    const exported = (await gpg('--export', fingerprint)).stdout;
    expect(await verify(exported)).toBe('accepted');
    const afterExpiry = new Date('2028-01-01T00:00:00Z');
    expect(await verify(exported, afterExpiry)).toBe('key-expired');
    expect(await verify(exported, afterExpiry, 'link')).toBe('accepted');

    clock = '20260601T001000!';
    await gpg('--quick-set-expire', fingerprint, '5y');
    await gpg('--quick-set-expire', fingerprint, '5y', '*');
    expect(await verify((await gpg('--export', fingerprint)).stdout, afterExpiry)).toBe('accepted');

    // The revocation certificate gpg lays aside; a colon keeps it from being imported by mistake.
    const file = path.join(home, 'openpgp-revocs.d', `${fingerprint}.rev`);
    const text = (await readFile(file, 'utf8')).replace(/^:-----BEGIN/m, '-----BEGIN');
    await writeFile(path.join(work, 'revocation'), text.slice(text.indexOf('-----BEGIN')));
    await gpg('--import', path.join(work, 'revocation'));
    const revoked = (await gpg('--export', fingerprint)).stdout;
    expect((await readCertificate(revoked, DEFAULT_LIMITS)).revocation).toBe('hard');
    expect(await verify(revoked)).toBe('key-revoked');
    expect(await verify(revoked, NOW, 'link')).toBe('key-revoked');
  });

  it('are refused in a ring of two, and as secret keys', async () => {
    const ring = (await gpg('--export')).stdout;
    expect(await codeOf(readCertificate(ring, DEFAULT_LIMITS))).toBe('metadata-malformed');
    const secret = (await gpg('--export-secret-keys', (await testSigner('rsa-a')).fingerprint!)).stdout;
    expect(await codeOf(readCertificate(secret, DEFAULT_LIMITS))).toBe('metadata-malformed');
  });
});
