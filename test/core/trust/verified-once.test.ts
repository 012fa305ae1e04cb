/** What has been verified in this run is not computed again; nothing else may pass because of it. */
import { expect, it } from 'vitest';
import { SealiftError } from '../../../core/errors.ts';
import { DEFAULT_LIMITS } from '../../../core/limits.ts';
import { type Certificate, readCertificate } from '../../../core/trust/certificates.ts';
import { verifyOpenpgp } from '../../../core/trust/openpgp.ts';
import { testSigner } from '../../../fixtures/keys/test-keys.ts';

const NOW = new Date('2026-06-01T00:00:00Z');
const DATA = Buffer.from('what is signed\n');

async function judge(certificate: Certificate, bytes: Uint8Array, sig: string, now = NOW): Promise<string> {
  try {
    await verifyOpenpgp(certificate, bytes, sig, { purpose: 'tuf-root', now, mode: 'final' });
    return 'accepted';
  } catch (error) {
    if (error instanceof SealiftError) return error.code;
    throw error;
  }
}

it('a signature that was good stays bad over other bytes, with other bits, by another key, and at another time', async () => {
  const [mine, other] = [await testSigner('rsa-a'), await testSigner('rsa-b')];
  const certificate = await readCertificate(mine.certificate ?? new Uint8Array(), DEFAULT_LIMITS);
  const stranger = await readCertificate(other.certificate ?? new Uint8Array(), DEFAULT_LIMITS);
  const sig = await mine.sign(DATA, 'tuf-root', NOW);
  const bytes = Buffer.from(DATA);
  expect(await judge(certificate, bytes, sig)).toBe('accepted');
  expect(await judge(certificate, bytes, sig)).toBe('accepted');

  expect(await judge(certificate, Buffer.from('what is signed!'), sig)).toBe('signature-invalid');
  const last = sig.at(-1) === '0' ? '1' : '0';
  expect(await judge(certificate, bytes, `${sig.slice(0, -1)}${last}`)).toBe('signature-invalid');
  expect(await judge(stranger, bytes, sig)).toBe('signature-invalid');
  // The same buffer with other content.
  bytes[0] = 0x57;
  expect(await judge(certificate, bytes, sig)).toBe('signature-invalid');
  bytes[0] = 0x77;
  // What is judged of the key and the clock is judged anew.
  const [primary] = certificate.keys;
  if (!primary) throw new Error('no primary key');
  const revoked: Certificate = { ...certificate, keys: [{ ...primary, revocation: 'hard' }] };
  expect(await judge(revoked, bytes, sig)).toBe('key-revoked');
  const ended: Certificate = { ...certificate, keys: [{ ...primary, expires: NOW }] };
  expect(await judge(ended, bytes, sig)).toBe('key-expired');
  const earlier = new Date(NOW.getTime() - 72 * 60 * 60 * 1000);
  expect(await judge(certificate, bytes, sig, earlier)).toBe('signature-invalid');
  expect(await judge(certificate, bytes, sig)).toBe('accepted');
});
