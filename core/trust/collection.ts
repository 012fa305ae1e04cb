/**
 * The connected side's collection: a directory that is a TUF repository, with its keys.
 *
 *     collection.json          format version, id, name, kind of keys, when it was made; canonical JSON
 *     counter                  the last version that was given out; a number is never given twice
 *     metadata/                every root by number, timestamp.json, and VERSION.ROLE.json
 *     certificates/FPR.pgp     OpenPGP certificates, binary
 *     keys/                    encrypted secret keys: FPR.asc or KEYID.pem
 *     revocation/FPR.asc       revocation certificates, to be published when a key is lost
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
import type { CollectionSummary } from '../results.ts';
import { FINGERPRINT, KEY_ID, keyIdOf, type Purpose, type TufKey } from './keys.ts';
import {
  BUNDLE_PREFIX,
  type Delegation,
  encodeMetadata,
  formatDate,
  MEDIA_TYPE_FIELD,
  type MetadataType,
  type MetaEntry,
  parseRoot,
  parseSnapshot,
  parseTargets,
  parseTimestamp,
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
  /** What to pin: the fingerprint of the newest root. */
  readonly rootFingerprint: string;
  readonly rootVersion: number;
  /** All names and what they are bound to. */
  readonly images: ReadonlyMap<string, ImageTarget>;
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
   * Signs what names the images. A role is signed anew when its names change, and when it would end before the
   * new timestamp although the signer could renew it.
   * @throws SealiftError `metadata-expired` where a role would end before the timestamp, `signature-needed` where
   * another key is needed, `lifetime-too-long`, `invalid-argument`
   */
  stage(options: StageOptions, signer: Signer): Promise<StagedCollection>;
  /**
   * Makes these the collection's current metadata: timestamp.json is replaced last, and until then a reader sees
   * the old state. Hold the lock. Returns the collection reopened. The same files again change nothing.
   * @throws SealiftError `rollback` where the collection has moved on since they were staged
   */
  publish(files: readonly FinishedFile[]): Promise<Collection>;
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

async function signMetadata(
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

function envelope<T extends MetadataType>(type: T, version: number, expires: string) {
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

interface MadeKey {
  readonly signer: Signer;
  /** File name below keys/, and what goes there. */
  readonly fileName: string;
  readonly secret: string;
  readonly revocation?: string | undefined;
}

async function makeKey(
  options: CreateCollectionOptions,
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
  const timestamp = await signTimestamp(version, after(created, life.timestamp), snapshot, main, created);
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
  signer: Signer,
  created: Date,
): Promise<Buffer> {
  return await signMetadata(
    {
      ...envelope('timestamp', version, expires),
      meta: { 'snapshot.json': metaOf(version, snapshot) } as unknown as JsonObject,
      'x-created': formatDate(created),
    },
    [signer],
    created,
  );
}

// Opening one

interface State {
  readonly directory: string;
  readonly limits: Limits;
  readonly id: string;
  readonly name: string;
  readonly created: Date;
  readonly keys: 'openpgp' | 'native';
  readonly roots: readonly RootMetadata[];
  readonly root: RootMetadata;
  readonly timestamp: TimestampMetadata;
  readonly snapshot: SnapshotMetadata;
  readonly targets: TargetsMetadata;
  /** In search order. */
  readonly delegated: ReadonlyMap<string, TargetsMetadata>;
  readonly certificates: ReadonlyMap<string, Uint8Array>;
}

function damaged(message: string, subject: string, cause?: unknown): SealiftError {
  return new SealiftError('state-damaged', message, {
    subject: inert(subject),
    cause,
    hint: 'restore the collection from its backup',
  });
}

async function readState(directory: string, limits: Limits): Promise<State> {
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
  const read = async (name: string): Promise<Buffer> => {
    const file = path.join(directory, DIRECTORIES.metadata, name);
    const bytes = await readFileLimited(file, limits.metadataFile);
    if (!bytes) throw damaged('a metadata file of the collection is missing', file);
    return bytes;
  };
  const options = (role: string) => ({ role, limits, strict: true });
  const roots: RootMetadata[] = [];
  while (roots.length < limits.roots) {
    const name = `${roots.length + 1}.root.json`;
    const bytes = await readFileLimited(
      path.join(directory, DIRECTORIES.metadata, name),
      limits.metadataFile,
    );
    if (!bytes) break;
    const root = await guarded(name, () => parseRoot(bytes, options('root')));
    if (root.version !== roots.length + 1)
      throw damaged('a root has another version than its name says', name);
    roots.push(root);
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
  const checked = async (role: string, entry: MetaEntry): Promise<Buffer> => {
    const name = `${entry.version}.${role}.json`;
    const bytes = await read(name);
    if (sha256(bytes) !== entry.hashes.get('sha256'))
      throw damaged('a metadata file of the collection is not the one that was signed', name);
    return bytes;
  };
  const snapshotBytes = await checked('snapshot', timestamp.snapshot);
  const snapshot = await guarded('snapshot', () => parseSnapshot(snapshotBytes, options('snapshot')));
  const parsed = async (role: string): Promise<TargetsMetadata> => {
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
  return { directory, limits, ...facts, roots, root, timestamp, snapshot, targets, delegated, certificates };
}

function readFacts(bytes: Uint8Array, limits: Limits): Pick<State, 'id' | 'name' | 'created' | 'keys'> {
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
    rootFingerprint: rootFingerprint(state.root),
    rootVersion: state.root.version,
    images,
    summary: () => summary,
    lock: async (pid) => await acquireLock(path.join(state.directory, FILES.lock), pid),
    reserveVersion: async () => await reserveVersion(state),
    unlock: async (passphrase) => await unlock(state, passphrase),
    stage: async (options, signer) => await stage(state, options, signer),
    publish: async (files) => await publish(state, files),
  };
}

/** The current metadata by file name below metadata/. */
function filesOf(state: State): Map<string, Uint8Array> {
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
  state: Pick<State, 'root' | 'certificates' | 'limits'>,
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
  state: State,
  now: Date,
): Promise<CollectionSummary> {
  const base = {
    id,
    name: inert(name),
    version: state.timestamp.version,
    created: formatDate(state.timestamp.created ?? state.created),
    rootFingerprint: rootFingerprint(state.root),
    rootVersion: state.root.version,
  };
  try {
    const set = await verifyAsGate(files, state, now);
    return { ...base, expires: formatDate(set.effectiveExpiry()), roles: set.roleSummaries() };
  } catch {
    // A revoked or expired key: what is there can still be shown, as something nobody will take any more.
    const all = [state.root, state.timestamp, state.snapshot, state.targets, ...state.delegated.values()];
    return {
      ...base,
      expires: formatDate(new Date(Math.min(...all.map(({ expires }) => expires.getTime())))),
      roles: [],
    };
  }
}

async function reserveVersion(state: State): Promise<number> {
  const file = path.join(state.directory, FILES.counter);
  const bytes = await readFileLimited(file, 64);
  const match = /^([1-9][0-9]{0,14})\n$/.exec(bytes?.toString('latin1') ?? '');
  if (!match) throw damaged('the counter of the collection cannot be read', file);
  const published = await readFileLimited(
    path.join(state.directory, DIRECTORIES.metadata, 'timestamp.json'),
    state.limits.metadataFile,
  );
  const current = published
    ? parseTimestamp(published, { role: 'timestamp', limits: state.limits, strict: true }).version
    : state.timestamp.version;
  const version = Math.max(Number(match[1]), current) + 1;
  await writeFileDurably(file, `${version}\n`);
  return version;
}

async function unlock(state: State, passphrase: string): Promise<Signer> {
  for (const keyId of state.root.roles.timestamp.keyids) {
    const key = state.root.keys.get(keyId);
    if (!key) continue;
    const isOpenpgp = key.keytype === 'openpgp';
    const file = path.join(
      state.directory,
      DIRECTORIES.keys,
      isOpenpgp ? `${key.keyval.public}.asc` : `${keyId}.pem`,
    );
    const secret = await readFileLimited(file, state.limits.certificate);
    if (!secret) continue;
    const signer = isOpenpgp
      ? await openOpenpgpSigner(secret, passphrase, file)
      : openNativeSigner(secret, passphrase, file);
    if (signer.keyId !== keyIdOf(key) || signer.keyId !== keyId)
      throw damaged('a key file holds another key than its name says', file);
    return signer;
  }
  throw new SealiftError('signature-needed', 'the key that signs exports is not in the collection', {
    subject: inert(state.directory),
    hint: 'put the key file back below keys/',
  });
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

function mustSign(keyids: readonly string[], threshold: number, signer: Signer, role: string): void {
  if (threshold === 1 && keyids.includes(signer.keyId)) return;
  throw new SealiftError('signature-needed', `${inert(role)} is signed by other keys, or by more than one`, {
    subject: inert(role),
  });
}

interface StagedRole {
  readonly version: number;
  readonly bytes: Uint8Array;
  readonly expires: Date;
}

async function stage(state: State, options: StageOptions, signer: Signer): Promise<StagedCollection> {
  const { version, images } = options;
  const created = seconds(options.created);
  if (options.lifetimeMs > MAX_LIFETIME_MS || options.lifetimeMs <= 0) {
    throw new SealiftError('lifetime-too-long', 'a bundle is valid for 400 days at most', {
      got: Math.round(options.lifetimeMs / DAY_MS),
      want: MAX_LIFETIME_MS / DAY_MS,
      hint: 'give a shorter --expires',
    });
  }
  if (version <= state.timestamp.version)
    throw new SealiftError('internal', 'a version was staged that was not reserved');
  const until = new Date(created.getTime() + options.lifetimeMs);
  const { timestamp: timestampRole, snapshot: snapshotRole } = state.root.roles;
  mustSign(timestampRole.keyids, timestampRole.threshold, signer, 'timestamp');
  mustSign(snapshotRole.keyids, snapshotRole.threshold, signer, 'snapshot');
  const delegations = state.targets.delegations?.roles ?? [];
  const bundlesRole = delegations.find(({ name }) => name === 'bundles');
  if (!bundlesRole) throw damaged('the collection has no role for bundles', state.directory);
  mustSign(bundlesRole.keyids, bundlesRole.threshold, signer, 'bundles');
  refuseEarlyEnd('root', state.root.expires, until);
  refuseEarlyEnd('targets', state.targets.expires, until);

  const changes = new Map<Delegation, Map<string, ImageTarget>>();
  for (const [name, image] of images) {
    checkImage(name, image);
    const ruler = delegations.find((delegation) =>
      delegation.paths.some((pattern) => matchesPattern(pattern, name)),
    );
    if (!ruler)
      throw new SealiftError('invalid-argument', `no role of the collection may name ${inert(name)}`, {
        subject: inert(name),
      });
    const known = state.delegated.get(ruler.name)?.targets.get(name);
    if (known && isSame(image, known)) continue;
    const group = changes.get(ruler) ?? new Map<string, ImageTarget>();
    changes.set(ruler, group.set(name, image));
  }

  const roles = new Map<string, StagedRole>();
  for (const [role, metadata] of state.delegated) {
    if (role === 'bundles') continue;
    const delegation = delegations.find(({ name }) => name === role);
    const changed = delegation && changes.get(delegation);
    const canSign = delegation?.threshold === 1 && delegation.keyids.includes(signer.keyId);
    if (changed) mustSign(delegation.keyids, delegation.threshold, signer, role);
    // Without the second condition a collection at rest could not be exported any more half-way to the role's end.
    const staged =
      changed || (canSign && metadata.expires < until)
        ? await signImages(metadata, role, version, created, changed ?? new Map(), signer)
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
      [signer],
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
    meta['bundles.json'] = { ...metaOf(version, bundles) };
    const snapshot = await signMetadata(
      { ...envelope('snapshot', version, expires), meta },
      [signer],
      created,
    );
    const timestamp = await signTimestamp(version, expires, snapshot, signer, created);
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
      hint: `give a shorter --expires, or have ${inert(role)} signed anew`,
    },
  );
}

async function signImages(
  metadata: TargetsMetadata,
  role: string,
  version: number,
  created: Date,
  changes: ReadonlyMap<string, ImageTarget>,
  signer: Signer,
): Promise<StagedRole> {
  const targets: Record<string, JsonValue> = Object.create(null) as Record<string, JsonValue>;
  const known = metadata.signed['targets'] as JsonObject;
  for (const name of Object.keys(known)) targets[name] = known[name] ?? null;
  for (const [name, image] of changes) targets[name] = toJsonTarget(image);
  // What stands in the role and is not ours to change stays: delegations, unknown fields.
  const signed: Record<string, JsonValue> = { ...metadata.signed };
  delete signed['x-withdrawn'];
  const withdrawn = metadata.withdrawn.filter(({ name }) => !changes.has(name));
  if (withdrawn.length > 0) signed['x-withdrawn'] = withdrawn.map((entry) => ({ ...entry }));
  const lifetime = role === 'images' ? DEFAULT_LIFETIMES.images : DEFAULT_LIFETIMES.targets;
  const expires = new Date(created.getTime() + lifetime);
  const bytes = await signMetadata(
    { ...signed, ...envelope('targets', version, formatDate(expires)), targets },
    [signer],
    created,
  );
  return { version, bytes, expires };
}

// Publishing

async function publish(state: State, files: readonly FinishedFile[]): Promise<Collection> {
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
    if (there && filesOf(current).has(name))
      throw damaged('a metadata file differs from the one that was published', file);
    await writeFileDurably(file, bytes);
  }
  await writeFileDurably(path.join(directory, DIRECTORIES.metadata, 'timestamp.json'), timestampBytes);

  const reopened = await openCollection(directory, limits);
  await prune(directory, current, await readState(directory, limits));
  return reopened;
}

/** Takes away what neither the current nor the last published version needs; a reader may still be in that one. */
async function prune(directory: string, previous: State, current: State): Promise<void> {
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
