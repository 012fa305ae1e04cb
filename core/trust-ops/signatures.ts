/** Which signatures on metadata count, and how many people they are by. */
import type { Context } from '../context.ts';
import { isSealiftError } from '../errors.ts';
import { readCertificate } from '../trust/certificates.ts';
import { materialOf, nativePublicKey, type TufKey, verifyNative } from '../trust/keys.ts';
import type { Metadata } from '../trust/metadata.ts';
import { verifyOpenpgp } from '../trust/openpgp.ts';
import { distinct } from '../trust/threshold.ts';

/** Reading a certificate verifies what it says of its keys; one may sign hundreds of roles. */
const certificatesRead = new WeakMap<Uint8Array, ReturnType<typeof readCertificate>>();

function readOnce(bytes: Uint8Array, context: Context): ReturnType<typeof readCertificate> {
  const known = certificatesRead.get(bytes);
  if (known) return known;
  const reading = readCertificate(bytes, context.limits);
  certificatesRead.set(bytes, reading);
  return reading;
}

/** Signatures that do not verify today are as good as none. */
export async function validSignatures(
  statement: Pick<Metadata, 'signedBytes' | 'signatures' | 'type'>,
  keys: ReadonlyMap<string, TufKey>,
  certificates: ReadonlyMap<string, Uint8Array>,
  context: Context,
): Promise<Map<string, string>> {
  const valid = new Map<string, string>();
  for (const [keyId, sig] of statement.signatures) {
    const key = keys.get(keyId);
    if (!key) continue;
    try {
      if (key.keytype === 'openpgp') {
        const certificate = certificates.get(key.keyval.public);
        if (!certificate) continue;
        await verifyOpenpgp(await readOnce(certificate, context), statement.signedBytes, sig, {
          purpose: `tuf-${statement.type}`,
          now: context.now,
          mode: 'final',
        });
        valid.set(keyId, sig);
      } else if (verifyNative(key, statement.signedBytes, sig)) valid.set(keyId, sig);
    } catch (error) {
      if (!isSealiftError(error)) throw error;
    }
  }
  return valid;
}

/** How many people have signed: keys of one person are one signature to every gate. */
export async function countPersons(
  keyids: readonly string[],
  signatures: ReadonlyMap<string, string>,
  keys: ReadonlyMap<string, TufKey>,
  certificates: ReadonlyMap<string, Uint8Array>,
  context: Context,
): Promise<number> {
  const signers: { tokens: string[]; until: number }[] = [];
  for (const keyId of keyids) {
    const key = signatures.has(keyId) ? keys.get(keyId) : undefined;
    if (!key) continue;
    if (key.keytype !== 'openpgp') {
      signers.push({ tokens: [`material ${materialOf(nativePublicKey(key))}`], until: Infinity });
      continue;
    }
    const bytes = certificates.get(key.keyval.public) ?? new Uint8Array();
    const certificate = await readOnce(bytes, context);
    const materials = certificate.keys
      .filter(({ canSign }) => canSign)
      .map(({ material }) => `material ${material}`);
    signers.push({ tokens: [`primary ${certificate.fingerprint}`, ...materials], until: Infinity });
  }
  return distinct(signers).length;
}
