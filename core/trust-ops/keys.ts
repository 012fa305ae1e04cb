/** The secret keys of a collection: what is in keys/, and what each of them signs. */
import { createPrivateKey, type KeyObject } from 'node:crypto';
import { readdir, rename } from 'node:fs/promises';
import path from 'node:path';
import type { Context } from '../context.ts';
import { inert, SealiftError } from '../errors.ts';
import { fsyncDirectory, makeDirectory, readFileLimited, writeFileDurably } from '../fs/durable.ts';
import type { ExpiringKey } from '../results.ts';
import { CertificateStore, readCertificate } from '../trust/certificates.ts';
import {
  findSecretFile,
  makeKey,
  openCollection,
  readHeld,
  rolesByKey,
  secretFile,
  takeGpgKey,
} from '../trust/collection.ts';
import { tellExpiring, withExpiring } from '../trust/expiring.ts';
import { isGpgReference, readGpgCertificate } from '../trust/gpg.ts';
import { nativePublicKey, type TufKey } from '../trust/keys.ts';
import { formatDate } from '../trust/metadata.ts';
import { loadOpenpgp } from '../trust/openpgp-packets.ts';
import { isPrivatePem, openSigner, type Signer, toKeyFile } from '../trust/signer.ts';
import type { PassphraseProvider } from '../workflow-options.ts';
import { type TrustOptions, withCollection } from './common.ts';
import { readPublicKey } from './rekey.ts';

export interface KeyEntry {
  readonly keyId: string;
  readonly type: string;
  readonly fingerprint?: string | undefined;
  readonly userId?: string | undefined;
  readonly expires?: string | undefined;
  /** Roles it signs; empty for a key that signs nothing yet, or any more. */
  readonly roles: readonly string[];
  /** Where the secret half is; absent where it is elsewhere. */
  readonly file?: string | undefined;
  /** The file is a note: gpg holds the secret half, on a card perhaps. */
  readonly heldByGpg?: boolean | undefined;
}

export interface KeyListing {
  readonly collection: string;
  readonly keys: readonly KeyEntry[];
  /** Key files that no role names, by their path. */
  readonly unused: readonly string[];
  /** Absent where no key ends soon. */
  readonly expiringKeys?: readonly ExpiringKey[] | undefined;
}

const SECRET_NAME = /^(?:[0-9a-f]{40}\.(?:asc|gpg)|[0-9a-f]{64}\.pem)$/;

/** Every key of the roles, and every key file. @throws SealiftError `collection-not-found` */
export async function listKeys(
  options: { readonly collection: string },
  context: Context,
): Promise<KeyListing> {
  const { state, directory } = await openCollection(options.collection, context.limits);
  const home = path.join(directory, 'keys');
  const files = new Set((await readdir(home)).filter((name) => SECRET_NAME.test(name)));
  const keys: KeyEntry[] = [];
  for (const [keyId, { key, roles }] of rolesByKey(state)) {
    const bytes = key.keytype === 'openpgp' ? state.certificates.get(key.keyval.public) : undefined;
    const certificate = bytes && (await readCertificate(bytes, context.limits).catch(() => undefined));
    const file = await findSecretFile(directory, key);
    if (file !== undefined) files.delete(path.basename(file));
    keys.push({
      keyId,
      type: key.keytype,
      ...(key.keytype === 'openpgp' ? { fingerprint: key.keyval.public } : {}),
      userId: certificate?.userId,
      expires: certificate?.expires && formatDate(certificate.expires),
      roles,
      ...(file === undefined ? {} : { file }),
      ...(file?.endsWith('.gpg') ? { heldByGpg: true } : {}),
    });
  }
  const expiringKeys = await tellExpiring(state, context);
  const unused = [...files].sort().map((name) => path.join(home, name));
  return withExpiring({ collection: directory, keys, unused }, expiringKeys);
}

export interface NewKeyOptions extends Omit<TrustOptions, 'passphrase'> {
  readonly newPassphrase: PassphraseProvider;
  readonly kind?: 'openpgp' | 'native' | undefined;
  readonly userId?: string | undefined;
  /** For tests; 3072 unless given. */
  readonly rsaBits?: number | undefined;
}

export interface HeldKey {
  readonly keyId: string;
  readonly type: string;
  readonly fingerprint?: string | undefined;
  readonly file: string;
}

const heldKey = ({ keyId, key, fingerprint }: Signer, file: string): HeldKey => ({
  keyId,
  type: key.keytype,
  fingerprint,
  file,
});

async function demand(provider: PassphraseProvider, purpose: string): Promise<string> {
  const answer = await provider(purpose);
  if (answer !== undefined) return answer;
  throw new SealiftError('passphrase-needed', 'a passphrase is needed and there is no way to ask for it', {
    hint: 'run it on a terminal, or give --passphrase-file FILE',
  });
}

/** Makes a key in keys/ that signs nothing yet. @throws SealiftError `passphrase-needed` */
export async function generateKey(options: NewKeyOptions, context: Context): Promise<HeldKey> {
  return await withCollection(
    { ...options, passphrase: options.newPassphrase },
    context,
    async (collection, created) => {
      const passphrase = await demand(
        options.newPassphrase,
        `a new key of the collection ${collection.name}`,
      );
      const kind = { keys: options.kind ?? collection.keys, rsaBits: options.rsaBits };
      const made = await makeKey(kind, passphrase, options.userId ?? collection.name, created);
      const file = path.join(collection.directory, 'keys', made.fileName);
      await writeFileDurably(file, made.secret, 'state');
      if (made.revocation !== undefined) {
        const name = `${made.signer.fingerprint}.asc`;
        await writeFileDurably(path.join(collection.directory, 'revocation', name), made.revocation, 'state');
      }
      return heldKey(made.signer, file);
    },
  );
}

/**
 * Takes a secret key into keys/: OpenPGP, or PEM, such as those below `~/.docker/trust/private`. Of a key
 * that gpg holds, `gpg:FINGERPRINT`, a note is kept.
 * @throws SealiftError `passphrase-needed`, `state-damaged`, `invalid-argument` for a key without a passphrase
 */
export async function importKey(
  options: TrustOptions & { readonly file: string },
  context: Context,
): Promise<HeldKey> {
  return await withCollection(options, context, async (collection) => {
    if (isGpgReference(options.file)) {
      const { signer, fileName, secret } = await takeGpgKey(options.file, options);
      const file = path.join(collection.directory, 'keys', fileName);
      const there = await findSecretFile(collection.directory, signer.key);
      if (there !== undefined)
        throw new SealiftError('destination-exists', 'the key is here already', { subject: there });
      await writeFileDurably(file, secret, 'state');
      return heldKey(signer, file);
    }
    const bytes = await readFileLimited(options.file, context.limits.certificate);
    if (!bytes) {
      throw new SealiftError('invalid-argument', 'there is no key file at that place', {
        subject: inert(options.file),
      });
    }
    const passphrase = await demand(options.passphrase, `the key in ${options.file}`);
    const signer = await openSigner(bytes, passphrase, options.file);
    const secret = isPrivatePem(bytes)
      ? toKeyFile(bytes, passphrase, options.file)
      : await lockedOpenpgp(bytes);
    if (secret === undefined) {
      throw new SealiftError('invalid-argument', 'the key has no passphrase, so anybody could use it', {
        subject: inert(options.file),
        hint: 'give it one first: gpg --change-passphrase, or openssl pkcs8 -topk8',
      });
    }
    const file = secretFile(collection.directory, signer.key);
    if (await readFileLimited(file, context.limits.certificate))
      throw new SealiftError('destination-exists', 'the key is here already', { subject: file });
    await writeFileDurably(file, secret, 'state');
    return heldKey(signer, file);
  });
}

export interface RefreshedKey {
  readonly fingerprint: string;
  readonly userId: string;
  readonly expires?: string | undefined;
  /** False where the collection had all of it already. */
  readonly changed: boolean;
}

/**
 * Takes what is new of an OpenPGP certificate into the collection: a later expiry, another signing subkey, a
 * revocation. The next bundle carries it.
 * @param options.source a file, or `gpg:FINGERPRINT`
 * @throws SealiftError `name-not-found` for a key of no role; `key-revoked` and its kin where the roots would not hold
 */
export async function refreshKey(
  options: TrustOptions & { readonly source: string },
  context: Context,
): Promise<RefreshedKey> {
  return await withCollection(options, context, async (collection, created) => {
    const { fingerprint, certificate } = await readPublicKey(options.source, context, options.gpg);
    if (fingerprint === undefined || !certificate) {
      throw new SealiftError(
        'invalid-argument',
        'that is no OpenPGP certificate; other keys have nothing to refresh',
        {
          subject: inert(options.source),
        },
      );
    }
    const known = collection.certificates.get(fingerprint);
    if (!known) {
      throw new SealiftError('name-not-found', 'the key signs no role of the collection', {
        subject: fingerprint,
        hint: 'sealift trust key list shows the keys',
      });
    }
    const certificates = new CertificateStore(context.limits);
    await certificates.add(known);
    const { bytes, userId, expires } = await certificates.add(certificate);
    const changed = !Buffer.from(bytes).equals(known);
    if (changed) {
      const version = await collection.reserveVersion();
      await collection.stageRoles({ version, created, certificates: new Map([[fingerprint, bytes]]) });
    }
    return { fingerprint, userId, expires: expires && formatDate(expires), changed };
  });
}

/** An OpenPGP secret key as keys/ holds it, in armor; undefined where it has no passphrase. */
async function lockedOpenpgp(bytes: Buffer): Promise<string | undefined> {
  const { readPrivateKey } = await loadOpenpgp();
  const text = bytes.toString('latin1');
  const isArmored = text.startsWith('-----BEGIN');
  const key = isArmored
    ? await readPrivateKey({ armoredKey: text })
    : await readPrivateKey({ binaryKey: bytes });
  if (key.isDecrypted()) return undefined;
  return isArmored ? text : key.armor().replaceAll('\r\n', '\n');
}

/** Finds a key file by key id, fingerprint or path. */
async function findSecret(
  directory: string,
  name: string,
  context: Context,
): Promise<{ file: string; bytes: Buffer }> {
  const text = name.toLowerCase();
  for (const candidate of [`${text}.asc`, `${text}.gpg`, `${text}.pem`]) {
    if (!SECRET_NAME.test(candidate)) continue;
    const file = path.join(directory, 'keys', candidate);
    const found = await readFileLimited(file, context.limits.certificate);
    if (found) return { file, bytes: found };
  }
  // The key id of an OpenPGP key is not its fingerprint.
  const { state } = await openCollection(directory, context.limits);
  const key = rolesByKey(state).get(text)?.key;
  const other = key && (await findSecretFile(directory, key));
  const bytes = other && (await readFileLimited(other, context.limits.certificate));
  if (other && bytes) return { file: other, bytes };
  throw new SealiftError('name-not-found', 'the secret half of that key is not here', {
    subject: inert(name),
    hint: 'sealift trust key list shows the keys',
  });
}

export interface PublicHalf {
  readonly keyId: string;
  readonly fingerprint?: string | undefined;
  /** PEM, or an armored OpenPGP certificate. */
  readonly text: string;
}

/**
 * The public half of a key, to be handed to whoever delegates to it.
 * @throws SealiftError `name-not-found`, `passphrase-needed` for native keys, whose public half is not in the open
 */
export async function exportKey(
  options: Pick<TrustOptions, 'collection' | 'passphrase' | 'gpg'> & { readonly key: string },
  context: Context,
): Promise<PublicHalf> {
  const { directory, state } = await openCollection(options.collection, context.limits);
  const known = rolesByKey(state).get(options.key.toLowerCase());
  if (known && known.key.keytype !== 'openpgp')
    return { keyId: options.key.toLowerCase(), text: pemOf(known.key) };
  const { file, bytes } = await findSecret(directory, options.key, context);
  if (file.endsWith('.pem')) {
    const signer = await openSigner(
      bytes,
      await demand(options.passphrase, `the key ${path.basename(file)}`),
      file,
    );
    return { keyId: signer.keyId, text: pemOf(signer.key) };
  }
  const { readKey, readPrivateKey } = await loadOpenpgp();
  const held = readHeld(file, bytes);
  const certificate =
    held === undefined
      ? (await readPrivateKey({ armoredKey: bytes.toString('latin1') })).toPublic()
      : await readKey({ binaryKey: (await readGpgCertificate(held, options.gpg)).bytes });
  const fingerprint = certificate.getFingerprint();
  const text = certificate.armor().replaceAll('\r\n', '\n');
  return { keyId: options.key.toLowerCase(), fingerprint, text };
}

const pemOf = (key: TufKey): string =>
  nativePublicKey(key).export({ type: 'spki', format: 'pem' }).toString();

/**
 * Gives a key another passphrase.
 * @throws SealiftError `passphrase-needed`, `name-not-found`
 */
export async function changePassphrase(
  options: TrustOptions & { readonly key: string; readonly newPassphrase: PassphraseProvider },
  context: Context,
): Promise<HeldKey> {
  return await withCollection(options, context, async ({ directory }) => {
    const { file, bytes } = await findSecret(directory, options.key, context);
    if (readHeld(file, bytes) !== undefined) {
      throw new SealiftError('invalid-argument', 'gpg holds the key, and changes its passphrase', {
        subject: file,
        hint: `gpg --change-passphrase ${path.basename(file, '.gpg')}`,
      });
    }
    const old = await demand(options.passphrase, `the key ${path.basename(file)}`);
    const signer = await openSigner(bytes, old, file);
    const fresh = await demand(options.newPassphrase, `the key ${path.basename(file)}, from now on`);
    if (fresh === '')
      throw new SealiftError('passphrase-needed', 'the key needs a passphrase, got an empty one');
    await writeFileDurably(file, await encryptAgain(bytes, old, fresh), 'state');
    return heldKey(signer, file);
  });
}

async function encryptAgain(bytes: Buffer, old: string, fresh: string): Promise<string> {
  const text = bytes.toString('latin1');
  if (/^-----BEGIN (?:ENCRYPTED )?PRIVATE KEY-----/.test(text)) {
    const key: KeyObject = createPrivateKey({ key: text, format: 'pem', passphrase: old });
    return key.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: fresh }).toString();
  }
  const { readPrivateKey, decryptKey, encryptKey } = await loadOpenpgp();
  const locked = await readPrivateKey({ armoredKey: text });
  const privateKey = locked.isDecrypted()
    ? locked
    : await decryptKey({ privateKey: locked, passphrase: old });
  const locked2 = await encryptKey({ privateKey, passphrase: fresh });
  return locked2.armor().replaceAll('\r\n', '\n');
}

/**
 * Moves a secret key out of use, into keys/retired. What it signed stays good.
 * @throws SealiftError `name-not-found`; `invalid-argument` for one that a role still counts on
 */
export async function retireKey(
  options: TrustOptions & { readonly key: string; readonly force: boolean },
  context: Context,
): Promise<{ readonly file: string; readonly roles: readonly string[] }> {
  return await withCollection(options, context, async ({ directory, state }) => {
    const { file } = await findSecret(directory, options.key, context);
    const roles: string[] = [];
    for (const entry of rolesByKey(state).values())
      if ((await findSecretFile(directory, entry.key)) === file) roles.push(...entry.roles);
    if (roles.length > 0 && !options.force) {
      throw new SealiftError('invalid-argument', `the key still signs ${roles.join(', ')}`, {
        subject: file,
        hint: 'put another in its place first: sealift trust key rotate; --force moves it away all the same',
      });
    }
    const aside = path.join(directory, 'keys', 'retired', path.basename(file));
    await makeDirectory(path.dirname(aside), 'state');
    await rename(file, aside);
    await fsyncDirectory(path.dirname(aside));
    await fsyncDirectory(path.dirname(file));
    return { file: aside, roles };
  });
}
