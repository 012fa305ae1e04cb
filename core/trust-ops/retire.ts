/** Keys that no role has any more: their secret halves go aside, and of stolen ones the certificates are revoked. */
import { rename } from 'node:fs/promises';
import path from 'node:path';
import type { Context } from '../context.ts';
import { inert, SealiftError } from '../errors.ts';
import { fsyncDirectory, makeDirectory, readFileLimited } from '../fs/durable.ts';
import { revokeCertificate } from '../trust/certificates.ts';
import { type Collection, type CollectionState, findSecretFile, leavingKeys } from '../trust/collection.ts';
import type { TufKey } from '../trust/keys.ts';

/** Moves a file below keys/ into a folder there. */
export async function putAside(file: string, folder: 'retired' | 'revoked'): Promise<string> {
  const aside = path.join(path.dirname(file), folder, path.basename(file));
  await makeDirectory(path.dirname(aside), 'state');
  await rename(file, aside);
  await fsyncDirectory(path.dirname(aside));
  await fsyncDirectory(path.dirname(file));
  return aside;
}

/** Secret keys that no role has any more go aside; they open old backups and nothing else. */
export async function retireUnused(
  before: CollectionState,
  after: CollectionState,
  folder: 'retired' | 'revoked',
): Promise<string[]> {
  const moved: string[] = [];
  for (const key of leavingKeys(before, after)) {
    const file = await findSecretFile(before.directory, key);
    if (file !== undefined) moved.push(await putAside(file, folder)); // else the key was lost, or is elsewhere
  }
  return moved;
}

/**
 * OpenPGP certificates of `keys` with their revocation put in, by fingerprint.
 * @throws SealiftError `invalid-argument` where a revocation certificate is not here
 */
export async function revocationsFor(
  collection: Collection,
  keys: readonly TufKey[],
  context: Context,
): Promise<Map<string, Uint8Array>> {
  const revoked = new Map<string, Uint8Array>();
  for (const key of keys) {
    const fingerprint = key.keyval.public;
    if (key.keytype !== 'openpgp' || revoked.has(fingerprint)) continue;
    const certificate = collection.certificates.get(fingerprint);
    const file = path.join(collection.directory, 'revocation', `${fingerprint}.asc`);
    const revocation = await readFileLimited(file, context.limits.certificate);
    if (!certificate || !revocation) {
      throw new SealiftError('invalid-argument', 'the revocation certificate of the key is not here', {
        subject: inert(file),
        hint: 'put it there; without it the key is only replaced: leave --stolen out',
      });
    }
    revoked.set(fingerprint, await revokeCertificate(certificate, revocation, context.limits));
  }
  return revoked;
}
