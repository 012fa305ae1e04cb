/** The secret keys of a collection: making them, opening them, and who must sign a role. */

import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { inert, SealiftError } from '../../errors.ts';
import { checkFormat, parseDocument } from '../../fs/document.ts';
import { readFileLimited } from '../../fs/durable.ts';
import { canonicalJson } from '../../json/canonical.ts';
import type { KeyAccess, PassphraseProvider } from '../../workflow-options.ts';
import { openGpgSigner } from '../gpg.ts';
import { keyIdOf, type TufKey } from '../keys.ts';
import type { RoleKeys } from '../metadata.ts';
import { loadOpenpgp } from '../openpgp-packets.ts';
import { openNativeSigner, openOpenpgpSigner, type Signer } from '../signer.ts';
import type { CreateCollectionOptions } from './create.ts';
import { type CollectionState, DIRECTORIES, damaged, keysOfRole } from './state.ts';

const RSA_BITS = 3072;
export interface MadeKey {
  readonly signer: Signer;
  /** File name below keys/, and what goes there. */
  readonly fileName: string;
  readonly secret: string;
  readonly revocation?: string | undefined;
}

/** A key that gpg holds, in the place of one that is made. @throws SealiftError as `openGpgSigner` */
export async function takeGpgKey(reference: string, access: KeyAccess): Promise<MadeKey> {
  const signer = await openGpgSigner(reference, access);
  return { signer, fileName: `${signer.fingerprint}.gpg`, secret: heldByGpg(signer.reference).toString() };
}

/** A new key pair, its secret half encrypted. */
export async function makeKey(
  options: Pick<CreateCollectionOptions, 'keys' | 'rsaBits'>,
  passphrase: string,
  userId: string,
  created: Date,
): Promise<MadeKey> {
  if (passphrase === '') {
    throw new SealiftError('passphrase-needed', 'the key needs a passphrase, got an empty one');
  }
  if (options.keys === 'native') {
    const { privateKey }: { privateKey: KeyObject } = generateKeyPairSync('ed25519');
    const secret = privateKey
      .export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase })
      .toString();
    const signer = openNativeSigner(Buffer.from(secret), passphrase, 'new key');
    return { signer, fileName: `${signer.keyId}.pem`, secret };
  }
  const { generateKey } = await loadOpenpgp();
  const [, name = userId, email] = /^(.*?)\s*<([^<>]+)>$/s.exec(userId) ?? [];
  let made: { readonly privateKey: string; readonly revocationCertificate: string };
  try {
    made = await generateKey({
      type: 'rsa',
      rsaBits: options.rsaBits ?? RSA_BITS,
      userIDs: [email === undefined ? { name } : { name, email }],
      passphrase,
      date: created,
      subkeys: [],
      format: 'armored',
      config: { v6Keys: false, aeadProtect: false, nonDeterministicSignaturesViaNotation: false },
    });
  } catch (cause) {
    throw new SealiftError('invalid-argument', 'no OpenPGP key can be made with this user id', {
      subject: inert(userId),
      cause,
    });
  }
  const secret = made.privateKey.replaceAll('\r\n', '\n');
  const signer = await openOpenpgpSigner(Buffer.from(secret), passphrase, 'new key');
  return {
    signer,
    fileName: `${signer.fingerprint}.asc`,
    secret,
    revocation: made.revocationCertificate.replaceAll('\r\n', '\n'),
  };
}

export async function exists(file: string): Promise<boolean> {
  try {
    await stat(file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

/** Names below keys/ that the secret half of a key may have: its file, then a note that gpg holds it. */
export function secretNames(key: TufKey): readonly [string, ...string[]] {
  const { public: name } = key.keyval;
  return key.keytype === 'openpgp' ? [`${name}.asc`, `${name}.gpg`] : [`${keyIdOf(key)}.pem`];
}

/** Where the secret half of a key lies, unless gpg holds it. */
export function secretFile(directory: string, key: TufKey): string {
  return path.join(directory, DIRECTORIES.keys, secretNames(key)[0]);
}

/** What stands in such a note. */
export function heldByGpg(reference: string): Buffer {
  return canonicalJson({ formatVersion: 1, requires: [], signer: reference });
}

/** Where the secret half of a key is: its file, or the note that gpg holds it; undefined where it is elsewhere. */
export async function findSecretFile(directory: string, key: TufKey): Promise<string | undefined> {
  for (const name of secretNames(key)) {
    const file = path.join(directory, DIRECTORIES.keys, name);
    if (await exists(file)) return file;
  }
  return undefined;
}

/** What a note says; undefined for any other file. @throws SealiftError `state-damaged`, `format-unsupported` */
export function readHeld(file: string, bytes: Uint8Array): string | undefined {
  if (!file.endsWith('.gpg')) return undefined;
  const document = parseDocument(bytes, {
    file,
    hint: 'sealift trust key import gpg:FINGERPRINT writes it anew',
    maxBytes: 4096,
  });
  checkFormat(document, file, 1, []);
  return document.string('signer', /^gpg:[0-9A-Fa-f]{40}!?$/);
}

/** Reads a secret key; undefined where it is not here. */
async function openSecret(
  state: CollectionState,
  key: TufKey,
  passphrase: string | KeyAccess,
): Promise<Signer | undefined> {
  const file = await findSecretFile(state.directory, key);
  const secret = file === undefined ? undefined : await readFileLimited(file, state.limits.certificate);
  if (file === undefined || !secret) return undefined;
  const reference = readHeld(file, secret);
  let signer: Signer;
  if (reference !== undefined) {
    if (typeof passphrase === 'string') return undefined;
    signer = await openGpgSigner(reference, passphrase);
  } else if (typeof passphrase !== 'string') return undefined;
  else
    signer =
      key.keytype === 'openpgp'
        ? await openOpenpgpSigner(secret, passphrase, file)
        : openNativeSigner(secret, passphrase, file);
  if (signer.keyId !== keyIdOf(key)) throw damaged('a key file holds another key than its name says', file);
  return signer;
}

export async function unlock(state: CollectionState, passphrase: string): Promise<Signer> {
  for (const keyId of state.root.roles.timestamp.keyids) {
    const key = state.root.keys.get(keyId);
    const signer = key && (await openSecret(state, key, passphrase));
    if (signer) return signer;
  }
  throw new SealiftError('signature-needed', 'the key that signs exports is not in the collection', {
    subject: inert(state.directory),
    hint: 'put the key file back below keys/, or replace a lost key: sealift trust key rotate --role all --recovery-key FILE',
  });
}

export async function openKeyring(
  state: CollectionState,
  roles: readonly string[],
  access: KeyAccess,
  leaving: ReadonlySet<string> = new Set(),
): Promise<readonly Signer[]> {
  const opened = new Map<string, Signer>();
  for (const reference of access.signers ?? []) {
    const signer = await openGpgSigner(reference, access);
    opened.set(signer.keyId, signer);
  }
  const working: string[] = [];
  for (const role of roles) {
    const found = keysOfRole(state, role);
    if (!found) continue;
    let missing = found.threshold - found.keyids.filter((keyId) => opened.has(keyId)).length;
    const staying = found.keyids.filter((keyId) => !leaving.has(keyId));
    for (const keyId of new Set([...staying, ...found.keyids])) {
      if (missing <= 0) break;
      const key = found.keys.get(keyId);
      const file = key && (await findSecretFile(state.directory, key));
      if (!key || file === undefined || opened.has(keyId)) continue;
      const signer = file.endsWith('.gpg')
        ? await openSecret(state, key, access)
        : await openWithAny(state, key, working, access.passphrase, opened.size === 0);
      if (!signer) throw damaged('a key file went away', file);
      opened.set(keyId, signer);
      missing -= 1;
    }
  }
  return [...opened.values()];
}

async function openWithAny(
  state: CollectionState,
  key: TufKey,
  working: string[],
  passphrase: PassphraseProvider,
  isFirst: boolean,
): Promise<Signer> {
  for (const known of working) {
    try {
      const signer = await openSecret(state, key, known);
      if (signer) return signer;
    } catch (error) {
      if (!(error instanceof SealiftError) || error.code !== 'passphrase-needed') throw error;
    }
  }
  const name = isFirst ? '' : ` (${key.keytype === 'openpgp' ? key.keyval.public : keyIdOf(key)})`;
  const answer = await passphrase(`key of the collection ${state.name}${name}`);
  if (answer === undefined) {
    throw new SealiftError('passphrase-needed', `the key of the collection ${inert(state.name)} is locked`, {
      subject: inert(state.directory),
      hint: 'run it on a terminal, or give --passphrase-file FILE',
    });
  }
  const signer = await openSecret(state, key, answer);
  if (!signer) throw damaged('a key file went away', state.directory);
  working.push(answer);
  return signer;
}

/** A key as people know it. */
function keyName(keyId: string, keys: ReadonlyMap<string, TufKey>): string {
  const key = keys.get(keyId);
  return key?.keytype === 'openpgp' ? key.keyval.public : keyId;
}

/** As many of the signers as the role asks for; undefined where there are too few. */
export function signersFor(role: RoleKeys, signers: readonly Signer[]): readonly Signer[] | undefined {
  const mine = signers.filter(({ keyId }) => role.keyids.includes(keyId));
  return mine.length < role.threshold ? undefined : mine.slice(0, role.threshold);
}

/**
 * The signers of a role.
 * @throws SealiftError `signature-needed`, naming the keys that are not here
 */
export function requireSigners(
  state: CollectionState,
  role: string,
  signers: readonly Signer[],
  hint = 'put the key file below keys/, or run it where the key is; a lost key is replaced with sealift trust key rotate --recovery-key FILE',
): readonly Signer[] {
  const found = keysOfRole(state, role);
  if (!found) throw damaged(`the collection has no role ${inert(role)}`, state.directory);
  const mine = signersFor(found, signers);
  if (mine) return mine;
  const here = new Set(signers.map(({ keyId }) => keyId));
  const absent = found.keyids.filter((keyId) => !here.has(keyId)).map((keyId) => keyName(keyId, found.keys));
  throw new SealiftError(
    'signature-needed',
    `${inert(role)} needs ${found.threshold} of ${found.keyids.length} signatures, got ${found.keyids.length - absent.length}; not here: ${absent.join(', ')}`,
    {
      subject: inert(role),
      got: found.keyids.length - absent.length,
      want: found.threshold,
      hint,
    },
  );
}
