/**
 * The connected side's collection: a directory that is a TUF repository, with its keys.
 *
 *     collection.json          format version, id, name, kind of keys, when it was made; canonical JSON
 *     counter                  the last version that was given out; a number is never given twice
 *     metadata/                every root by number, timestamp.json, and VERSION.ROLE.json
 *     certificates/FPR.pgp     OpenPGP certificates, binary
 *     keys/                    encrypted secret keys: FPR.asc or KEYID.pem
 *     revocation/FPR.asc       revocation certificates, to be published when a key is lost
 *     staged.json, staged/     what was signed by hand and waits for the next bundle (staging.ts)
 *     .lock
 *
 * The recovery key lies in a file of its own, elsewhere. A new collection is complete: targets, bundles, images,
 * snapshot and timestamp exist with version 1, so that the first bundle has version 2.
 */
import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { readdir, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { inert, SealiftError } from '../errors.ts';
import {
  fsyncDirectory,
  makeDirectory,
  readFileLimited,
  temporaryName,
  writeFileDurably,
} from '../fs/durable.ts';
import { acquireLock, type Lock } from '../fs/lock.ts';
import { canonicalJson, parseCanonicalJson } from '../json/canonical.ts';
import { asInteger, asObject, asString, type JsonObject, type JsonValue } from '../json/strict.ts';
import { DEFAULT_LIMITS, type Limits } from '../limits.ts';
import type { CollectionSummary, KeySummary, RoleSummary } from '../results.ts';
import type { PassphraseProvider } from '../workflow-options.ts';
import { readCertificate } from './certificates.ts';
import { FINGERPRINT, KEY_ID, keyIdOf, type Purpose, type TufKey } from './keys.ts';
import {
  BUNDLE_PREFIX,
  encodeMetadata,
  formatDate,
  MEDIA_TYPE_FIELD,
  type MetadataType,
  type MetaEntry,
  parseRoot,
  parseSnapshot,
  parseTargets,
  parseTimestamp,
  type RoleKeys,
  type RootMetadata,
  rootFingerprint,
  type SnapshotMetadata,
  signedForm,
  type Target,
  type TargetsMetadata,
  type TimestampMetadata,
} from './metadata.ts';
import { loadOpenpgp } from './openpgp-packets.ts';
import { matchesPattern, prefixPatterns } from './search.ts';
import { openNativeSigner, openOpenpgpSigner, type Signer } from './signer.ts';
import { clearStaged, readStaged, writeStaged } from './staging.ts';
import { advance, TrustedSet } from './trusted-set.ts';

export interface CreateCollectionOptions {
  readonly directory: string;
  readonly name: string;
  readonly keys: 'openpgp' | 'native';
  readonly passphrase: string;
  readonly recoveryPassphrase: string;
  /** Where the recovery key goes; it belongs on another medium. */
  readonly recoveryFile: string;
  /** User id of the OpenPGP keys, `Name <mail@example.org>`; the name of the collection unless given. */
  readonly userId?: string | undefined;
  readonly created: Date;
  /** Milliseconds; the profile's defaults unless given. */
  readonly lifetimes?:
    | {
        readonly root?: number;
        readonly targets?: number;
        readonly images?: number;
        readonly timestamp?: number;
      }
    | undefined;
  /** For tests; 3072 unless given. */
  readonly rsaBits?: number | undefined;
  readonly limits: Limits;
}

export interface ImageTarget {
  readonly length: number;
  /** Lower-case hex. */
  readonly sha256: string;
  readonly sha512?: string | undefined;
  readonly mediaType: string;
}

/** A file of the bundle below `metadata/`. `bytes` is undefined while it is still to be signed. */
export interface StagedFile {
  /** Entry name, `metadata/…`. */
  readonly name: string;
  readonly bytes: Uint8Array | undefined;
}

export interface FinishedFile {
  readonly name: string;
  readonly bytes: Uint8Array;
}

export interface StageOptions {
  /** From `reserveVersion()`. */
  readonly version: number;
  readonly created: Date;
  /** Milliseconds from created to the expiry of timestamp, snapshot and bundles. */
  readonly lifetimeMs: number;
  /** Names added or moved; names not given stay. */
  readonly images: ReadonlyMap<string, ImageTarget>;
}

export interface StagedCollection {
  readonly version: number;
  /** Every metadata entry of the bundle in its order; those signed later without bytes. */
  readonly metadataFiles: readonly StagedFile[];
  /** Signs bundles, snapshot, timestamp; checks the whole as a gate would. */
  finish(bundleManifest: Uint8Array): Promise<FinishedCollection>;
}

export interface FinishedCollection {
  /** In the bundle's order. */
  readonly files: readonly FinishedFile[];
  readonly summary: CollectionSummary;
}

export interface Collection {
  readonly directory: string;
  readonly id: string;
  readonly name: string;
  readonly created: Date;
  readonly keys: 'openpgp' | 'native';
  /** Certificates by fingerprint. */
  readonly certificates: ReadonlyMap<string, Uint8Array>;
  /** What to pin: the fingerprint of the newest root that a bundle has. */
  readonly rootFingerprint: string;
  readonly rootVersion: number;
  /** All names and what they are bound to. */
  readonly images: ReadonlyMap<string, ImageTarget>;
  /** The current metadata, what is staged included. */
  readonly state: CollectionState;
  /** Number of what waits for the next bundle; absent where nothing does. */
  readonly stagedVersion: number | undefined;
  summary(): CollectionSummary;
  /** Held while a version is reserved, staged and published. */
  lock(pid: number): Promise<Lock>;
  /** Raises the counter durably; a number is never given twice. Hold the lock. */
  reserveVersion(): Promise<number>;
  /**
   * Opens the collection's key.
   * @throws SealiftError `passphrase-needed` where the passphrase is wrong, `signature-needed` where the key is elsewhere
   */
  unlock(passphrase: string): Promise<Signer>;
  /**
   * Opens keys that lie in keys/, for each of `roles` as many as its threshold asks for. Fewer where the others are
   * elsewhere: whoever signs says what is missing. A passphrase that opened one key is tried on the next.
   * @throws SealiftError `passphrase-needed`
   */
  keyring(roles: readonly string[], passphrase: PassphraseProvider): Promise<readonly Signer[]>;
  /**
   * Keeps signed roots and target roles until the next bundle takes them along; all or none. Hold the lock.
   * @throws SealiftError what a gate would say of them: `root-chain-broken`, `signature-threshold` and its kin
   */
  stageRoles(change: RoleChange): Promise<Collection>;
  /**
   * Signs what names the images. A role is signed anew when its names change, and when it would end before the
   * new timestamp although the signer could renew it.
   * @throws SealiftError `metadata-expired` where a role would end before the timestamp, `signature-needed` where
   * another key is needed, `lifetime-too-long`, `invalid-argument`
   */
  stage(options: StageOptions, signers: Signer | readonly Signer[]): Promise<StagedCollection>;
  /**
   * Makes these the collection's current metadata: timestamp.json is replaced last, and until then a reader sees
   * the old state. Hold the lock. Returns the collection reopened. The same files again change nothing.
   * @throws SealiftError `rollback` where the collection has moved on since they were staged
   */
  publish(files: readonly FinishedFile[]): Promise<Collection>;
}

/** Signed files that are to replace the current ones of their roles. */
export interface RoleChange {
  /** From `reserveVersion()`. */
  readonly version: number;
  readonly created: Date;
  /** Further roots, ascending; before them earlier ones to which a signature was added. */
  readonly roots?: readonly Uint8Array[] | undefined;
  /** Targets and delegated roles by name; each with a version it has not had yet. */
  readonly roles?: ReadonlyMap<string, Uint8Array> | undefined;
  /** Certificates of keys that are new, by fingerprint. */
  readonly certificates?: ReadonlyMap<string, Uint8Array> | undefined;
}

const FORMAT_VERSION = 1;
const DAY_MS = 24 * 60 * 60 * 1000;
const MAX_LIFETIME_MS = 400 * DAY_MS;
export const DEFAULT_LIFETIMES = {
  root: 3 * 365 * DAY_MS,
  targets: 365 * DAY_MS,
  images: 180 * DAY_MS,
  timestamp: 90 * DAY_MS,
} as const;
const SPEC_VERSION = '1.0.34';
const RSA_BITS = 3072;
const SECRET_FILE = 0o600;
const SECRET_DIRECTORY = 0o700;
const MAX_COMPONENTS = 32;
const MAX_NAME_LENGTH = 1024;
const METADATA = 'metadata/';
const FILES = { collection: 'collection.json', counter: 'counter', lock: '.lock' } as const;
const DIRECTORIES = {
  metadata: 'metadata',
  certificates: 'certificates',
  keys: 'keys',
  revocation: 'revocation',
} as const;

const seconds = (date: Date): Date => new Date(Math.floor(date.getTime() / 1000) * 1000);
const after = (date: Date, ms: number): string => formatDate(new Date(date.getTime() + ms));
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

interface MetaFile {
  readonly version: number;
  readonly length: number;
  readonly hashes: { readonly sha256: string };
}

function metaOf(version: number, bytes: Uint8Array): MetaFile {
  return { version, length: bytes.length, hashes: { sha256: sha256(bytes) } };
}

/** Signs what stands in `signed` with all of `signers`, whoever they are. */
export async function signMetadata(
  signed: JsonObject & { readonly _type: MetadataType },
  signers: readonly Signer[],
  created: Date,
): Promise<Buffer> {
  const bytes = signedForm(signed);
  const purpose: Purpose = `tuf-${signed._type}`;
  const signatures = new Map<string, string>();
  for (const signer of signers) signatures.set(signer.keyId, await signer.sign(bytes, purpose, created));
  return encodeMetadata(signed, signatures);
}

/** The fields every metadata file begins with. */
export function envelope<T extends MetadataType>(type: T, version: number, expires: string) {
  return { _type: type, spec_version: SPEC_VERSION, version, expires };
}

function toJsonTarget(image: ImageTarget): JsonObject {
  const hashes: Record<string, string> = { sha256: image.sha256 };
  if (image.sha512 !== undefined) hashes['sha512'] = image.sha512;
  return { custom: { [MEDIA_TYPE_FIELD]: image.mediaType }, hashes, length: image.length };
}

function toImageTarget(target: Target): ImageTarget {
  const mediaType = target.custom?.[MEDIA_TYPE_FIELD];
  return {
    length: target.length,
    sha256: target.hashes.get('sha256') ?? '',
    sha512: target.hashes.get('sha512'),
    mediaType: typeof mediaType === 'string' ? mediaType : '',
  };
}

// Making a collection

export interface MadeKey {
  readonly signer: Signer;
  /** File name below keys/, and what goes there. */
  readonly fileName: string;
  readonly secret: string;
  readonly revocation?: string | undefined;
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

async function exists(file: string): Promise<boolean> {
  try {
    await stat(file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

/**
 * Makes a collection: its keys, its recovery key, and complete metadata of version 1. It appears under its name
 * only when it is whole.
 * @throws SealiftError `collection-exists`, `destination-exists` (the directory is not empty, or the recovery file
 * is there), `passphrase-needed` for an empty passphrase, `invalid-argument`
 */
export async function createCollection(options: CreateCollectionOptions): Promise<Collection> {
  const directory = path.resolve(options.directory);
  const recoveryFile = path.resolve(options.recoveryFile);
  const created = seconds(options.created);
  if (await exists(path.join(directory, FILES.collection))) {
    throw new SealiftError('collection-exists', 'there is a collection already', {
      subject: inert(directory),
    });
  }
  if ((await exists(directory)) && (await readdir(directory)).length > 0) {
    throw new SealiftError('destination-exists', 'the directory for the collection is not empty', {
      subject: inert(directory),
    });
  }
  if (await exists(recoveryFile)) {
    throw new SealiftError('destination-exists', 'there is a file where the recovery key is to go', {
      subject: inert(recoveryFile),
    });
  }
  if (options.name === '' || /[\p{Cc}\p{Cs}]/u.test(options.name)) {
    throw new SealiftError('invalid-argument', 'a collection needs a name without control characters', {
      subject: inert(options.name),
    });
  }
  const userId = options.userId ?? options.name;
  const main = await makeKey(options, options.passphrase, userId, created);
  const recovery = await makeKey(options, options.recoveryPassphrase, recoveryUserId(userId), created);
  const metadata = await firstMetadata(main.signer, recovery.signer, created, options.lifetimes ?? {});
  const root = metadata.get('1.root.json') ?? Buffer.alloc(0);
  const id = rootFingerprint(parseRoot(root, { role: 'root', limits: options.limits, strict: true }));

  await makeDirectory(path.dirname(directory));
  const temporary = temporaryName(directory);
  let hasRecoveryFile = false;
  try {
    for (const part of [DIRECTORIES.metadata, DIRECTORIES.certificates])
      await makeDirectory(path.join(temporary, part));
    for (const part of [DIRECTORIES.keys, DIRECTORIES.revocation])
      await makeDirectory(path.join(temporary, part), SECRET_DIRECTORY);
    for (const [name, bytes] of metadata)
      await writeFileDurably(path.join(temporary, DIRECTORIES.metadata, name), bytes);
    for (const { signer, revocation } of [main, recovery]) {
      if (signer.fingerprint === undefined || signer.certificate === undefined) continue;
      await writeFileDurably(
        path.join(temporary, DIRECTORIES.certificates, `${signer.fingerprint}.pgp`),
        signer.certificate,
      );
      if (revocation !== undefined) {
        await writeFileDurably(
          path.join(temporary, DIRECTORIES.revocation, `${signer.fingerprint}.asc`),
          revocation,
          SECRET_FILE,
        );
      }
    }
    await writeFileDurably(path.join(temporary, DIRECTORIES.keys, main.fileName), main.secret, SECRET_FILE);
    await writeFileDurably(path.join(temporary, FILES.counter), '1\n');
    const facts = {
      created: formatDate(created),
      formatVersion: FORMAT_VERSION,
      id,
      keys: options.keys,
      name: options.name,
    };
    await writeFileDurably(path.join(temporary, FILES.collection), canonicalJson(facts));
    await makeDirectory(path.dirname(recoveryFile));
    await writeFileDurably(recoveryFile, recovery.secret, SECRET_FILE);
    hasRecoveryFile = true;
    await rename(temporary, directory);
    await fsyncDirectory(path.dirname(directory));
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    if (hasRecoveryFile) await rm(recoveryFile, { force: true });
    throw error;
  }
  return await openCollection(directory, options.limits);
}

function recoveryUserId(userId: string): string {
  const match = /^(.*?)\s*(<[^<>]+>)$/s.exec(userId);
  return match ? `${match[1]} (recovery) ${match[2]}` : `${userId} (recovery)`;
}

async function firstMetadata(
  main: Signer,
  recovery: Signer,
  created: Date,
  lifetimes: NonNullable<CreateCollectionOptions['lifetimes']>,
): Promise<ReadonlyMap<string, Buffer>> {
  const life = { ...DEFAULT_LIFETIMES, ...lifetimes };
  const version = 1;
  const keyObject = (signer: Signer): Record<string, JsonValue> => ({
    [signer.keyId]: signer.key as unknown as JsonValue,
  });
  const byMain = { keyids: [main.keyId], threshold: 1 };
  const root = await signMetadata(
    {
      ...envelope('root', 1, after(created, life.root)),
      consistent_snapshot: true,
      keys: { ...keyObject(main), ...keyObject(recovery) },
      roles: {
        root: { keyids: [main.keyId, recovery.keyId], threshold: 1 },
        snapshot: byMain,
        targets: byMain,
        timestamp: byMain,
      },
    },
    [main, recovery],
    created,
  );
  const id = rootFingerprint(parseRoot(root, { role: 'root', limits: DEFAULT_LIMITS, strict: true }));
  const delegation = (name: string, paths: readonly string[]): JsonObject => ({
    name,
    ...byMain,
    paths,
    terminating: true,
  });
  const targets = await signMetadata(
    {
      ...envelope('targets', version, after(created, life.targets)),
      delegations: {
        keys: keyObject(main),
        roles: [
          delegation('bundles', [`${BUNDLE_PREFIX}${id}/*.json`]),
          delegation('images', prefixPatterns('', MAX_COMPONENTS)),
        ],
      },
      targets: {},
    },
    [main],
    created,
  );
  const empty = async (lifetime: number): Promise<Buffer> =>
    await signMetadata(
      { ...envelope('targets', version, after(created, lifetime)), targets: {} },
      [main],
      created,
    );
  const bundles = await empty(life.timestamp);
  const images = await empty(life.images);
  const snapshot = await signMetadata(
    {
      ...envelope('snapshot', version, after(created, life.timestamp)),
      meta: {
        'bundles.json': metaOf(version, bundles),
        'images.json': metaOf(version, images),
        'targets.json': metaOf(version, targets),
      } as unknown as JsonObject,
    },
    [main],
    created,
  );
  const timestamp = await signTimestamp(version, after(created, life.timestamp), snapshot, [main], created);
  return new Map([
    ['1.root.json', root],
    [`${version}.targets.json`, targets],
    [`${version}.bundles.json`, bundles],
    [`${version}.images.json`, images],
    [`${version}.snapshot.json`, snapshot],
    ['timestamp.json', timestamp],
  ]);
}

async function signTimestamp(
  version: number,
  expires: string,
  snapshot: Buffer,
  signers: readonly Signer[],
  created: Date,
): Promise<Buffer> {
  return await signMetadata(
    {
      ...envelope('timestamp', version, expires),
      meta: { 'snapshot.json': metaOf(version, snapshot) } as unknown as JsonObject,
      'x-created': formatDate(created),
    },
    signers,
    created,
  );
}

// Opening one

/** A collection as it stands on disk, parsed; what is staged stands in place of what it replaces. */
export interface CollectionState {
  readonly directory: string;
  readonly limits: Limits;
  readonly id: string;
  readonly name: string;
  readonly created: Date;
  readonly keys: 'openpgp' | 'native';
  readonly roots: readonly RootMetadata[];
  /** The newest, by whose keys is signed from now on. */
  readonly root: RootMetadata;
  /** The newest that a bundle has: what can be pinned today. */
  readonly publishedRoot: RootMetadata;
  readonly timestamp: TimestampMetadata;
  readonly snapshot: SnapshotMetadata;
  readonly targets: TargetsMetadata;
  /** In search order. */
  readonly delegated: ReadonlyMap<string, TargetsMetadata>;
  readonly certificates: ReadonlyMap<string, Uint8Array>;
  /** Absent where all of it has been published. */
  readonly stagedVersion: number | undefined;
}

function damaged(message: string, subject: string, cause?: unknown): SealiftError {
  return new SealiftError('state-damaged', message, {
    subject: inert(subject),
    cause,
    hint: 'restore the collection from its backup',
  });
}

async function readState(directory: string, limits: Limits): Promise<CollectionState> {
  const factsFile = path.join(directory, FILES.collection);
  const factsBytes = await readFileLimited(factsFile, 64 * 1024);
  if (!factsBytes) {
    throw new SealiftError('collection-not-found', 'there is no collection', {
      subject: inert(directory),
      hint: 'sealift init makes one',
    });
  }
  const guarded = async <T>(subject: string, action: () => T | Promise<T>): Promise<T> => {
    try {
      return await action();
    } catch (cause) {
      if (
        cause instanceof SealiftError &&
        (cause.code === 'state-damaged' || cause.code === 'format-unsupported')
      )
        throw cause;
      throw damaged(
        `a file of the collection cannot be read: ${cause instanceof Error ? inert(cause.message) : ''}`,
        subject,
        cause,
      );
    }
  };
  const facts = await guarded(factsFile, () => readFacts(factsBytes, limits));
  const index = await readStaged(directory, limits);
  const publishedBytes = await readFileLimited(
    path.join(directory, DIRECTORIES.metadata, 'timestamp.json'),
    limits.metadataFile,
  );
  const published =
    publishedBytes &&
    (await guarded('timestamp.json', () =>
      parseTimestamp(publishedBytes, { role: 'timestamp', limits, strict: true }),
    ));
  // A bundle that took it along may have been published by a run that ended before it tidied up.
  const staged = index && index.version > (published?.version ?? 0) ? index : undefined;
  const read = async (name: string): Promise<Uint8Array> => {
    const waiting = staged?.files.get(name);
    if (waiting) return waiting;
    const file = path.join(directory, DIRECTORIES.metadata, name);
    const bytes = await readFileLimited(file, limits.metadataFile);
    if (!bytes) throw damaged('a metadata file of the collection is missing', file);
    return bytes;
  };
  const options = (role: string) => ({ role, limits, strict: true });
  const roots: RootMetadata[] = [];
  let publishedRoot: RootMetadata | undefined;
  while (roots.length < limits.roots) {
    const name = `${roots.length + 1}.root.json`;
    const there = await readFileLimited(
      path.join(directory, DIRECTORIES.metadata, name),
      limits.metadataFile,
    );
    const bytes = staged?.files.get(name) ?? there;
    if (!bytes) break;
    const root = await guarded(name, () => parseRoot(bytes, options('root')));
    if (root.version !== roots.length + 1)
      throw damaged('a root has another version than its name says', name);
    roots.push(root);
    if (there) publishedRoot = root;
  }
  const [first] = roots;
  const root = roots.at(-1);
  if (!first || !root) throw damaged('the collection has no root', directory);
  if (rootFingerprint(first) !== facts.id)
    throw damaged('the first root is not the one the collection is named by', directory);

  const timestampBytes = await read('timestamp.json');
  const timestamp = await guarded('timestamp.json', () =>
    parseTimestamp(timestampBytes, options('timestamp')),
  );
  const checked = async (role: string, entry: MetaEntry): Promise<Uint8Array> => {
    const name = `${entry.version}.${role}.json`;
    const bytes = await read(name);
    if (sha256(bytes) !== entry.hashes.get('sha256'))
      throw damaged('a metadata file of the collection is not the one that was signed', name);
    return bytes;
  };
  const snapshotBytes = await checked('snapshot', timestamp.snapshot);
  const snapshot = await guarded('snapshot', () => parseSnapshot(snapshotBytes, options('snapshot')));
  const waiting = new Map<string, Uint8Array>();
  for (const [name, bytes] of staged?.files ?? []) waiting.set(name.replace(/^[0-9]+\.|\.json$/g, ''), bytes);
  const parsed = async (role: string): Promise<TargetsMetadata> => {
    const replacement = waiting.get(role);
    if (replacement) return await guarded(role, () => parseTargets(replacement, options(role)));
    const entry = snapshot.meta.get(role);
    if (!entry) throw damaged(`the snapshot does not list ${inert(role)}`, directory);
    const bytes = await checked(role, entry);
    return await guarded(role, () => parseTargets(bytes, options(role)));
  };
  const targets = await parsed('targets');
  const delegated = new Map<string, TargetsMetadata>();
  const descend = async (metadata: TargetsMetadata): Promise<void> => {
    for (const { name } of metadata.delegations?.roles ?? []) {
      if (delegated.has(name)) continue;
      if (delegated.size >= limits.delegatedRoles)
        throw damaged('the collection has too many roles', directory);
      const child = await parsed(name);
      delegated.set(name, child);
      await descend(child);
    }
  };
  await descend(targets);

  const certificates = new Map<string, Uint8Array>();
  const keySets: ReadonlyMap<string, TufKey>[] = roots.map(({ keys }) => keys);
  for (const metadata of [targets, ...delegated.values()])
    if (metadata.delegations) keySets.push(metadata.delegations.keys);
  const fingerprints = new Set<string>();
  for (const keys of keySets)
    for (const { keytype, keyval } of keys.values())
      if (keytype === 'openpgp') fingerprints.add(keyval.public);
  for (const fingerprint of [...fingerprints].sort()) {
    if (!FINGERPRINT.test(fingerprint)) throw damaged('a key has no fingerprint', fingerprint);
    const file = path.join(directory, DIRECTORIES.certificates, `${fingerprint}.pgp`);
    const bytes = await readFileLimited(file, limits.certificate);
    if (!bytes) throw damaged('a certificate of the collection is missing', file);
    certificates.set(fingerprint, bytes);
  }
  return {
    directory,
    limits,
    ...facts,
    roots,
    root,
    publishedRoot: publishedRoot ?? first,
    timestamp,
    snapshot,
    targets,
    delegated,
    certificates,
    stagedVersion: staged?.version,
  };
}

function readFacts(
  bytes: Uint8Array,
  limits: Limits,
): Pick<CollectionState, 'id' | 'name' | 'created' | 'keys'> {
  const code = 'state-damaged';
  const facts = asObject(
    parseCanonicalJson(bytes, {
      what: FILES.collection,
      maxBytes: bytes.length,
      maxDepth: limits.jsonDepth,
      code,
    }),
    FILES.collection,
    code,
  );
  const format = asInteger(facts['formatVersion'], 'formatVersion', code);
  if (format !== FORMAT_VERSION) {
    throw new SealiftError('format-unsupported', `collection has format ${format}, want ${FORMAT_VERSION}`, {
      got: format,
      want: FORMAT_VERSION,
      hint: 'use a newer sealift',
    });
  }
  return {
    id: asString(facts['id'], 'id', code, KEY_ID),
    name: asString(facts['name'], 'name', code),
    created: new Date(asString(facts['created'], 'created', code)),
    keys: asString(facts['keys'], 'keys', code, /^(?:openpgp|native)$/) as 'openpgp' | 'native',
  };
}

/**
 * Opens a collection. Signatures and expiry are not judged here: it must be possible to open one in order to
 * renew it.
 * @throws SealiftError `collection-not-found`, `state-damaged`, `format-unsupported`
 */
export async function openCollection(directory: string, limits: Limits): Promise<Collection> {
  const state = await readState(path.resolve(directory), limits);
  const images = new Map<string, ImageTarget>();
  for (const { targets } of state.delegated.values()) {
    for (const [name, target] of targets) {
      if (!name.startsWith(BUNDLE_PREFIX) && !images.has(name)) images.set(name, toImageTarget(target));
    }
  }
  const summary = await summarise(
    state.id,
    state.name,
    filesOf(state),
    state,
    state.timestamp.created ?? state.created,
  );
  return {
    directory: state.directory,
    id: state.id,
    name: state.name,
    created: state.created,
    keys: state.keys,
    certificates: state.certificates,
    rootFingerprint: rootFingerprint(state.publishedRoot),
    rootVersion: state.publishedRoot.version,
    images,
    state,
    stagedVersion: state.stagedVersion,
    summary: () => summary,
    lock: async (pid) => await acquireLock(path.join(state.directory, FILES.lock), pid),
    reserveVersion: async () => await reserveVersion(state),
    unlock: async (passphrase) => await unlock(state, passphrase),
    keyring: async (roles, passphrase) => await openKeyring(state, roles, passphrase),
    stageRoles: async (change) => await stageRoles(state, change),
    stage: async (options, signers) => await stage(state, options, 'sign' in signers ? [signers] : signers),
    publish: async (files) => await publish(state, files),
  };
}

/** The current metadata by file name below metadata/. */
function filesOf(state: CollectionState): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  for (const root of state.roots) files.set(`${root.version}.root.json`, root.bytes);
  files.set('timestamp.json', state.timestamp.bytes);
  files.set(`${state.snapshot.version}.snapshot.json`, state.snapshot.bytes);
  files.set(`${state.targets.version}.targets.json`, state.targets.bytes);
  for (const [role, { version, bytes }] of state.delegated) files.set(`${version}.${role}.json`, bytes);
  return files;
}

async function verifyAsGate(
  files: ReadonlyMap<string, Uint8Array>,
  state: Pick<CollectionState, 'root' | 'certificates' | 'limits'>,
  now: Date,
): Promise<TrustedSet> {
  const set = await TrustedSet.fromPin(rootFingerprint(state.root), [state.root.bytes], {
    now,
    limits: state.limits,
    certificates: [...state.certificates.values()],
  });
  await advance(set, files, async () => {});
  return set;
}

async function summarise(
  id: string,
  name: string,
  files: ReadonlyMap<string, Uint8Array>,
  state: CollectionState,
  now: Date,
): Promise<CollectionSummary> {
  const base = {
    id,
    name: inert(name),
    version: state.timestamp.version,
    created: formatDate(state.timestamp.created ?? state.created),
    rootFingerprint: rootFingerprint(state.publishedRoot),
    rootVersion: state.publishedRoot.version,
  };
  try {
    // What is staged is named by no snapshot yet, and so cannot be verified as a whole.
    if (state.stagedVersion !== undefined)
      throw new SealiftError('mix-and-match', 'there is something staged');
    const set = await verifyAsGate(files, state, now);
    return { ...base, expires: formatDate(set.effectiveExpiry()), roles: set.roleSummaries() };
  } catch {
    // A revoked or expired key: what is there can still be shown, as something nobody will take any more.
    const roles = await describeRoles(state);
    return { ...base, expires: roles.map(({ expires }) => expires).sort()[0] ?? base.created, roles };
  }
}

/** What the metadata says of its roles; nothing is verified. */
async function describeRoles(state: CollectionState): Promise<RoleSummary[]> {
  const names = ['root', 'timestamp', 'snapshot', 'targets', ...state.delegated.keys()];
  const roles: RoleSummary[] = [];
  for (const role of names) {
    const metadata = metadataOf(state, role);
    const found = keysOfRole(state, role);
    if (!metadata || !found) continue;
    const keys: KeySummary[] = [];
    for (const keyId of found.keyids) {
      const key = found.keys.get(keyId);
      if (!key) continue;
      const certificate = key.keytype === 'openpgp' ? state.certificates.get(key.keyval.public) : undefined;
      const judged = certificate && (await readCertificate(certificate, state.limits).catch(() => undefined));
      keys.push({
        keyId,
        type: inert(key.keytype),
        ...(key.keytype === 'openpgp' ? { fingerprint: key.keyval.public } : {}),
        userId: judged?.userId,
        expires: judged?.expires && formatDate(judged.expires),
      });
    }
    roles.push({
      role,
      version: metadata.version,
      expires: formatDate(metadata.expires),
      threshold: found.threshold,
      keys,
    });
  }
  return roles;
}

/** The current metadata of a role. */
export function metadataOf(state: CollectionState, role: string) {
  switch (role) {
    case 'root':
      return state.root;
    case 'timestamp':
      return state.timestamp;
    case 'snapshot':
      return state.snapshot;
    case 'targets':
      return state.targets;
    default:
      return state.delegated.get(role);
  }
}

/** Who signs a role: its key ids and threshold, the keys, and for a delegated role who delegates to it. */
export function keysOfRole(
  state: CollectionState,
  role: string,
): (RoleKeys & { readonly keys: ReadonlyMap<string, TufKey>; readonly delegator: string }) | undefined {
  if (role === 'root' || role === 'timestamp' || role === 'snapshot' || role === 'targets')
    return { ...state.root.roles[role], keys: state.root.keys, delegator: 'root' };
  for (const [delegator, metadata] of [['targets', state.targets] as const, ...state.delegated]) {
    const found = metadata.delegations?.roles.find(({ name }) => name === role);
    if (found && metadata.delegations) return { ...found, keys: metadata.delegations.keys, delegator };
  }
  return undefined;
}

/**
 * The role that rules a name: the first one on the way down that lists it, else the last one it is delegated to.
 * Undefined where nobody may name it.
 */
export function rulerOf(state: CollectionState, name: string): string | undefined {
  let role: string | undefined;
  let metadata = state.targets;
  for (let depth = 0; depth <= state.delegated.size; depth += 1) {
    if (role !== undefined && metadata.targets.has(name)) return role;
    const next = metadata.delegations?.roles.find((delegation) =>
      delegation.paths.some((pattern) => matchesPattern(pattern, name)),
    );
    const child = next && state.delegated.get(next.name);
    if (!next || !child) return role;
    role = next.name;
    metadata = child;
  }
  return role;
}

async function reserveVersion(state: CollectionState): Promise<number> {
  const file = path.join(state.directory, FILES.counter);
  const bytes = await readFileLimited(file, 64);
  const match = /^([1-9][0-9]{0,15})\n$/.exec(bytes?.toString('latin1') ?? '');
  if (!match) throw damaged('the counter of the collection cannot be read', file);
  const published = await readFileLimited(
    path.join(state.directory, DIRECTORIES.metadata, 'timestamp.json'),
    state.limits.metadataFile,
  );
  const current = published
    ? parseTimestamp(published, { role: 'timestamp', limits: state.limits, strict: true }).version
    : state.timestamp.version;
  const version = Math.max(Number(match[1]), current) + 1;
  if (!Number.isSafeInteger(version)) throw damaged('the counter of the collection is at its end', file);
  await writeFileDurably(file, `${version}\n`);
  return version;
}

/** Where the secret half of a key lies. */
export function secretFile(directory: string, key: TufKey): string {
  const name = key.keytype === 'openpgp' ? `${key.keyval.public}.asc` : `${keyIdOf(key)}.pem`;
  return path.join(directory, DIRECTORIES.keys, name);
}

/** Reads a secret key; undefined where it is not here. */
async function openSecret(
  state: CollectionState,
  key: TufKey,
  passphrase: string,
): Promise<Signer | undefined> {
  const file = secretFile(state.directory, key);
  const secret = await readFileLimited(file, state.limits.certificate);
  if (!secret) return undefined;
  const signer =
    key.keytype === 'openpgp'
      ? await openOpenpgpSigner(secret, passphrase, file)
      : openNativeSigner(secret, passphrase, file);
  if (signer.keyId !== keyIdOf(key)) throw damaged('a key file holds another key than its name says', file);
  return signer;
}

async function unlock(state: CollectionState, passphrase: string): Promise<Signer> {
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

async function openKeyring(
  state: CollectionState,
  roles: readonly string[],
  passphrase: PassphraseProvider,
): Promise<readonly Signer[]> {
  const opened = new Map<string, Signer>();
  const working: string[] = [];
  for (const role of roles) {
    const found = keysOfRole(state, role);
    if (!found) continue;
    let missing = found.threshold - found.keyids.filter((keyId) => opened.has(keyId)).length;
    for (const keyId of found.keyids) {
      if (missing <= 0) break;
      const key = found.keys.get(keyId);
      if (!key || opened.has(keyId) || !(await exists(secretFile(state.directory, key)))) continue;
      const signer = await openWithAny(state, key, working, passphrase, opened.size === 0);
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

// Staging an export

const SHA256_HEX = /^[0-9a-f]{64}$/;
const SHA512_HEX = /^[0-9a-f]{128}$/;

function checkImage(name: string, image: ImageTarget): void {
  const components = name.split('/');
  if (
    name === '' ||
    name.length > MAX_NAME_LENGTH ||
    !/^[\x21-\x7e]+$/.test(name) ||
    name.startsWith(BUNDLE_PREFIX) ||
    components.length > MAX_COMPONENTS ||
    components.includes('')
  ) {
    throw new SealiftError('invalid-argument', `not a name for an image: ${inert(name)}`, {
      subject: inert(name),
    });
  }
  if (
    !SHA256_HEX.test(image.sha256) ||
    (image.sha512 !== undefined && !SHA512_HEX.test(image.sha512)) ||
    !Number.isSafeInteger(image.length) ||
    image.length < 0
  ) {
    throw new SealiftError('internal', 'an image was staged with a malformed digest or length', {
      subject: inert(name),
    });
  }
}

function isSame(image: ImageTarget, target: Target): boolean {
  const known = toImageTarget(target);
  return (
    known.length === image.length &&
    known.sha256 === image.sha256 &&
    known.sha512 === image.sha512 &&
    known.mediaType === image.mediaType
  );
}

/** A key as people know it. */
function keyName(keyId: string, keys: ReadonlyMap<string, TufKey>): string {
  const key = keys.get(keyId);
  return key?.keytype === 'openpgp' ? key.keyval.public : keyId;
}

/** As many of the signers as the role asks for; undefined where there are too few. */
function signersFor(role: RoleKeys, signers: readonly Signer[]): readonly Signer[] | undefined {
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
      hint: 'put the key file below keys/, or run it where the key is; a lost key is replaced with sealift trust key rotate --recovery-key FILE',
    },
  );
}

interface StagedRole {
  readonly version: number;
  readonly bytes: Uint8Array;
  readonly expires: Date;
}

async function stage(
  state: CollectionState,
  options: StageOptions,
  signers: readonly Signer[],
): Promise<StagedCollection> {
  const { version, images } = options;
  const created = seconds(options.created);
  if (options.lifetimeMs > MAX_LIFETIME_MS || options.lifetimeMs <= 0) {
    throw new SealiftError('lifetime-too-long', 'a bundle is valid for 400 days at most', {
      got: Math.round(options.lifetimeMs / DAY_MS),
      want: MAX_LIFETIME_MS / DAY_MS,
      hint: 'give a shorter --expires',
    });
  }
  if (version <= Math.max(state.timestamp.version, state.stagedVersion ?? 0))
    throw new SealiftError('internal', 'a version was staged that was not reserved');
  const until = new Date(created.getTime() + options.lifetimeMs);
  const timestampSigners = requireSigners(state, 'timestamp', signers);
  const snapshotSigners = requireSigners(state, 'snapshot', signers);
  if (!state.delegated.has('bundles'))
    throw damaged('the collection has no role for bundles', state.directory);
  const bundlesSigners = requireSigners(state, 'bundles', signers);
  refuseEarlyEnd('root', state.root.expires, until);
  refuseEarlyEnd('targets', state.targets.expires, until);

  const changes = new Map<string, Map<string, ImageTarget>>();
  for (const [name, image] of images) {
    checkImage(name, image);
    const ruler = rulerOf(state, name);
    if (ruler === undefined)
      throw new SealiftError('invalid-argument', `no role of the collection may name ${inert(name)}`, {
        subject: inert(name),
      });
    const known = state.delegated.get(ruler)?.targets.get(name);
    if (known && isSame(image, known)) continue;
    const group = changes.get(ruler) ?? new Map<string, ImageTarget>();
    changes.set(ruler, group.set(name, image));
  }

  const roles = new Map<string, StagedRole>();
  for (const [role, metadata] of state.delegated) {
    if (role === 'bundles') continue;
    const keys = keysOfRole(state, role);
    const changed = changes.get(role);
    const able = changed ? requireSigners(state, role, signers) : keys && signersFor(keys, signers);
    // Without the second condition a collection at rest could not be exported any more half-way to the role's end.
    const staged =
      able && (changed || metadata.expires < until)
        ? await signTargets(metadata, { role, version, created, images: changed }, able)
        : metadata;
    refuseEarlyEnd(role, staged.expires, until);
    roles.set(role, staged);
  }

  const roleFile = (role: string, roleVersion: number): string => `${METADATA}${roleVersion}.${role}.json`;
  const metadataFiles: StagedFile[] = [
    ...[...state.certificates].map(([fingerprint, bytes]) => ({
      name: `${METADATA}certificates/${fingerprint}.pgp`,
      bytes,
    })),
    ...state.roots.map((root) => ({ name: roleFile('root', root.version), bytes: root.bytes })),
    { name: `${METADATA}timestamp.json`, bytes: undefined },
    { name: roleFile('snapshot', version), bytes: undefined },
    { name: roleFile('targets', state.targets.version), bytes: state.targets.bytes },
    ...[...state.delegated.keys()].map((role) =>
      role === 'bundles'
        ? { name: roleFile(role, version), bytes: undefined }
        : { name: roleFile(role, roles.get(role)?.version ?? 0), bytes: roles.get(role)?.bytes },
    ),
  ];

  const finish = async (bundleManifest: Uint8Array): Promise<FinishedCollection> => {
    const expires = formatDate(until);
    const bundles = await signMetadata(
      {
        ...envelope('targets', version, expires),
        targets: {
          [`${BUNDLE_PREFIX}${state.id}/${version}.json`]: {
            hashes: { sha256: sha256(bundleManifest) },
            length: bundleManifest.length,
          },
        },
      },
      bundlesSigners,
      created,
    );
    const meta: Record<string, JsonValue> = {};
    // 5.5.5: what was listed once stays listed, also a role that nobody delegates to any more.
    for (const [role, entry] of state.snapshot.meta) {
      meta[`${role}.json`] = {
        version: entry.version,
        length: entry.length ?? 0,
        hashes: Object.fromEntries(entry.hashes),
      };
    }
    for (const [role, staged] of roles) meta[`${role}.json`] = { ...metaOf(staged.version, staged.bytes) };
    meta['targets.json'] = { ...metaOf(state.targets.version, state.targets.bytes) };
    meta['bundles.json'] = { ...metaOf(version, bundles) };
    const snapshot = await signMetadata(
      { ...envelope('snapshot', version, expires), meta },
      snapshotSigners,
      created,
    );
    const timestamp = await signTimestamp(version, expires, snapshot, timestampSigners, created);
    const late = new Map<string, Uint8Array>([
      [`${METADATA}timestamp.json`, timestamp],
      [roleFile('snapshot', version), snapshot],
      [roleFile('bundles', version), bundles],
    ]);
    const files = metadataFiles.map(({ name, bytes }) => {
      const content = bytes ?? late.get(name);
      if (!content)
        throw new SealiftError('internal', 'a metadata file was staged without content', { subject: name });
      return { name, bytes: content };
    });
    // What a gate would refuse must not leave this side.
    const set = await verifyAsGate(
      new Map(files.map(({ name, bytes }) => [name.slice(METADATA.length), bytes] as const)),
      state,
      created,
    );
    const summary: CollectionSummary = {
      id: state.id,
      name: inert(state.name),
      version,
      created: formatDate(created),
      expires: formatDate(set.effectiveExpiry()),
      rootFingerprint: rootFingerprint(state.root),
      rootVersion: state.root.version,
      roles: set.roleSummaries(),
    };
    return { files, summary };
  };
  return { version, metadataFiles, finish };
}

function refuseEarlyEnd(role: string, expires: Date, until: Date): void {
  if (expires >= until) return;
  throw new SealiftError(
    'metadata-expired',
    `${inert(role)} would end before the bundle: got ${formatDate(expires)}, want ${formatDate(until)} at least`,
    {
      subject: inert(role),
      got: formatDate(expires),
      want: formatDate(until),
      hint: `sign it anew: sealift trust renew --role ${inert(role)}; or give a shorter --expires`,
    },
  );
}

/** How a target role is to change. What stands in it and is not named here stays: delegations, unknown fields. */
export interface TargetsChange {
  readonly role: string;
  readonly version: number;
  readonly created: Date;
  /** Milliseconds; the profile's default of the role unless given. */
  readonly lifetimeMs?: number | undefined;
  /** Names added or moved; a tombstone of such a name goes. */
  readonly images?: ReadonlyMap<string, ImageTarget> | undefined;
  /** Names taken away, with the reason. */
  readonly withdraw?: ReadonlyMap<string, string> | undefined;
  /** Replaces the delegations. */
  readonly delegations?: JsonObject | undefined;
  /** Takes over the names and tombstones of a role that goes: it ruled them, whatever stands here still. */
  readonly inherit?: TargetsMetadata | undefined;
}

/** Signs a target role anew. */
export async function signTargets(
  metadata: TargetsMetadata,
  change: TargetsChange,
  signers: readonly Signer[],
): Promise<StagedRole> {
  const { role, version, created, images, withdraw } = change;
  const targets: Record<string, JsonValue> = Object.create(null) as Record<string, JsonValue>;
  const known = metadata.signed['targets'] as JsonObject;
  for (const name of Object.keys(known)) if (!withdraw?.has(name)) targets[name] = known[name] ?? null;
  const inherited = new Map((change.inherit?.withdrawn ?? []).map((entry) => [entry.name, entry]));
  for (const name of inherited.keys()) delete targets[name];
  const taken = (change.inherit?.signed['targets'] ?? {}) as JsonObject;
  for (const name of Object.keys(taken)) targets[name] = taken[name] ?? null;
  for (const [name, image] of images ?? []) targets[name] = toJsonTarget(image);
  const signed: Record<string, JsonValue> = { ...metadata.signed };
  delete signed['x-withdrawn'];
  if (change.delegations) signed['delegations'] = change.delegations;
  const before = new Map(metadata.withdrawn.map((entry) => [entry.name, entry]));
  const withdrawn = [
    ...[...new Map([...before, ...inherited]).values()].filter(
      ({ name }) => targets[name] === undefined && !withdraw?.has(name),
    ),
    ...[...(withdraw ?? [])].flatMap(([name, reason]) => {
      const target = metadata.targets.get(name);
      if (!target) return [];
      const sha512 = target.hashes.get('sha512');
      const digest =
        sha512 === undefined ? `sha256:${target.hashes.get('sha256') ?? ''}` : `sha512:${sha512}`;
      return [{ name, digest, reason, at: formatDate(created) }];
    }),
  ].sort((a, b) => (a.name < b.name ? -1 : 1));
  if (withdrawn.length > 0) signed['x-withdrawn'] = withdrawn.map((entry) => ({ ...entry }));
  const lifetime =
    change.lifetimeMs ?? (role === 'images' ? DEFAULT_LIFETIMES.images : DEFAULT_LIFETIMES.targets);
  const expires = new Date(created.getTime() + lifetime);
  const bytes = await signMetadata(
    { ...signed, ...envelope('targets', version, formatDate(expires)), targets },
    signers,
    created,
  );
  return { version, bytes, expires };
}

// Roles signed by hand

async function stageRoles(state: CollectionState, change: RoleChange): Promise<Collection> {
  const { directory, limits } = state;
  const current = await readState(directory, limits);
  const before = current.stagedVersion === undefined ? undefined : await readStaged(directory, limits);
  const options = (role: string) => ({ role, limits, strict: true });
  const files = new Map(before?.files);
  for (const bytes of change.roots ?? []) {
    const { version } = parseRoot(bytes, options('root'));
    files.set(`${version}.root.json`, bytes);
  }
  for (const [role, bytes] of change.roles ?? []) {
    const { version } = parseTargets(bytes, options(role));
    if (version <= (metadataOf(current, role)?.version ?? 0))
      throw new SealiftError('internal', 'a role was signed with a version that it has had');
    for (const name of files.keys()) if (name.replace(/^[0-9]+\./, '') === `${role}.json`) files.delete(name);
    files.set(`${version}.${role}.json`, bytes);
  }
  const certificates = new Map(current.certificates);
  for (const [fingerprint, bytes] of change.certificates ?? []) certificates.set(fingerprint, bytes);
  const roots = new Map(current.roots.map(({ version, bytes }) => [version, bytes]));
  for (const bytes of change.roots ?? []) {
    const root = parseRoot(bytes, options('root'));
    const known = current.roots.find(({ version }) => version === root.version);
    if (known && rootFingerprint(known) !== rootFingerprint(root))
      throw new SealiftError('internal', 'another root of a version that there is was staged');
    roots.set(root.version, bytes);
  }
  await checkRoots([...roots.values()], {
    ...current,
    certificates,
    now: change.created,
  });
  for (const [fingerprint, bytes] of change.certificates ?? []) {
    await writeFileDurably(path.join(directory, DIRECTORIES.certificates, `${fingerprint}.pgp`), bytes);
  }
  await writeStaged(directory, { version: change.version, files });
  return await openCollection(directory, limits);
}

/** The whole chain, as a gate that slept since the first root would follow it. */
async function checkRoots(
  roots: readonly Uint8Array[],
  options: Pick<CollectionState, 'id' | 'certificates' | 'limits'> & { readonly now: Date },
): Promise<void> {
  const [first, ...later] = roots;
  if (!first) return;
  const set = await TrustedSet.fromPin(options.id, [first], {
    now: options.now,
    limits: options.limits,
    certificates: [...options.certificates.values()],
  });
  for (const bytes of later) await set.updateRoot(bytes);
  await set.finishRoots();
}

// Publishing

async function publish(state: CollectionState, files: readonly FinishedFile[]): Promise<Collection> {
  const { directory, limits } = state;
  const current = await readState(directory, limits);
  const given = new Map<string, Uint8Array>();
  for (const { name, bytes } of files) {
    const match =
      /^metadata\/((?:certificates\/[0-9a-f]{40}\.pgp)|(?:[1-9][0-9]*\.[a-z0-9][a-z0-9._-]{0,127}\.json)|timestamp\.json)$/.exec(
        name,
      );
    if (!match?.[1])
      throw new SealiftError('internal', 'a file was given for publishing that is no metadata', {
        subject: inert(name),
      });
    given.set(match[1], bytes);
  }
  const timestampBytes = given.get('timestamp.json');
  if (!timestampBytes) throw new SealiftError('internal', 'nothing was given for publishing');
  if (Buffer.from(timestampBytes).equals(current.timestamp.bytes))
    return await openCollection(directory, limits);
  const next = parseTimestamp(timestampBytes, { role: 'timestamp', limits, strict: true });
  const moved = (message: string) =>
    new SealiftError('rollback', message, {
      subject: inert(directory),
      got: next.version,
      want: current.timestamp.version + 1,
      hint: 'another export was published in between; export again',
    });
  if (next.version <= current.timestamp.version) throw moved('the collection has a newer version already');
  const snapshotBytes = given.get(`${next.snapshot.version}.snapshot.json`);
  if (!snapshotBytes) throw new SealiftError('internal', 'no snapshot was given for publishing');
  const snapshot = parseSnapshot(snapshotBytes, { role: 'snapshot', limits, strict: true });
  for (const { version } of current.roots) {
    if (!given.has(`${version}.root.json`)) throw moved('the collection has a newer root already');
  }
  if ((snapshot.meta.get('targets')?.version ?? 0) < current.targets.version)
    throw moved('the collection has newer delegations already');
  for (const [role, metadata] of current.delegated) {
    const version = snapshot.meta.get(role)?.version ?? 0;
    if (version < metadata.version) throw moved(`the collection has a newer ${inert(role)} already`);
    if (role === 'bundles' || version === metadata.version) continue;
    const bytes = given.get(`${version}.${role}.json`);
    if (!bytes)
      throw new SealiftError('internal', 'a role was not given for publishing', { subject: inert(role) });
    const staged = parseTargets(bytes, { role, limits, strict: true });
    const tombstones = new Set(staged.withdrawn.map(({ name }) => name));
    for (const name of metadata.targets.keys()) {
      if (!staged.targets.has(name) && !tombstones.has(name))
        throw moved(`${inert(name)} would vanish from the collection`);
    }
  }

  for (const [name, bytes] of given) {
    if (name === 'timestamp.json') continue;
    const file = name.startsWith('certificates/')
      ? path.join(directory, name)
      : path.join(directory, DIRECTORIES.metadata, name);
    const there = await readFileLimited(file, limits.metadataFile);
    if (there && Buffer.from(bytes).equals(there)) continue;
    // Only what a run left behind that was never published may be replaced.
    if (there && filesOf(current).has(name) && !isSameRoot(name, there, bytes, limits))
      throw damaged('a metadata file differs from the one that was published', file);
    await writeFileDurably(file, bytes);
  }
  await writeFileDurably(path.join(directory, DIRECTORIES.metadata, 'timestamp.json'), timestampBytes);
  if ((await readStaged(directory, limits)) !== undefined) await clearStaged(directory);

  const reopened = await openCollection(directory, limits);
  await prune(directory, current, await readState(directory, limits));
  return reopened;
}

/** Signatures may be added to a root: by the recovery key, when the key that had signed it is revoked. */
function isSameRoot(name: string, a: Uint8Array, b: Uint8Array, limits: Limits): boolean {
  if (!name.endsWith('.root.json')) return false;
  const [one, other] = [a, b].map((bytes) => parseRoot(bytes, { role: 'root', limits, strict: true }));
  return one !== undefined && other !== undefined && rootFingerprint(one) === rootFingerprint(other);
}

/** Takes away what neither the current nor the last published version needs; a reader may still be in that one. */
async function prune(directory: string, previous: CollectionState, current: CollectionState): Promise<void> {
  const needed = new Set([...filesOf(previous).keys(), ...filesOf(current).keys()]);
  // What a role that nobody delegates to any more is listed with stays too.
  for (const { snapshot } of [previous, current])
    for (const [role, { version }] of snapshot.meta) needed.add(`${version}.${role}.json`);
  for (const name of await readdir(path.join(directory, DIRECTORIES.metadata))) {
    const match = /^([1-9][0-9]*)\.([a-z0-9][a-z0-9._-]{0,127})\.json$/.exec(name);
    if (!match || match[2] === 'root' || needed.has(name) || Number(match[1]) > current.timestamp.version)
      continue;
    await rm(path.join(directory, DIRECTORIES.metadata, name), { force: true });
  }
}
