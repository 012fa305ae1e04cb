/** A collection as it stands on disk, and the questions its metadata answers. */
import path from 'node:path';
import { inert, SealiftError } from '../../errors.ts';
import { readFileLimited, writeFileDurably } from '../../fs/durable.ts';
import { parseCanonicalJson } from '../../json/canonical.ts';
import { asInteger, asObject, asString } from '../../json/strict.ts';
import type { Limits } from '../../limits.ts';
import { FINGERPRINT, KEY_ID, type TufKey } from '../keys.ts';
import {
  type MetaEntry,
  parseRoot,
  parseSnapshot,
  parseTargets,
  parseTimestamp,
  type RoleKeys,
  type RootMetadata,
  rootFingerprint,
  type SnapshotMetadata,
  type TargetsMetadata,
  type TimestampMetadata,
  TOP_LEVEL_ROLES,
} from '../metadata.ts';
import { delegationOf } from '../search.ts';
import { readStaged, type Staged } from '../staging.ts';
import { sha256 } from './sign.ts';

export const FORMAT_VERSION = 1;
export const METADATA = 'metadata/';
export const FILES = { collection: 'collection.json', counter: 'counter', lock: '.lock' } as const;
export const DIRECTORIES = {
  metadata: 'metadata',
  certificates: 'certificates',
  keys: 'keys',
  revocation: 'revocation',
} as const;

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
  readonly staged?: Staged | undefined;
}

/** The roles that name keys, each by its metadata. */
export type Roles = Pick<CollectionState, 'root' | 'targets' | 'delegated'>;

/** What this run knows of a collection already. */
export type Known = Roles & Pick<CollectionState, 'staged'>;

export function damaged(message: string, subject: string, cause?: unknown): SealiftError {
  return new SealiftError('state-damaged', message, {
    subject: inert(subject),
    cause,
    hint: 'restore the collection from its backup',
  });
}

/**
 * What collection.json holds.
 * @throws SealiftError `collection-not-found`
 */
export async function requireCollection(directory: string): Promise<Buffer> {
  const bytes = await readFileLimited(path.join(directory, FILES.collection), 64 * 1024);
  if (bytes) return bytes;
  throw new SealiftError('collection-not-found', 'there is no collection', {
    subject: inert(directory),
    hint: 'sealift init makes one',
  });
}

/**
 * Reads a collection.
 * @param known what was read before: a role of the same bytes is not parsed again
 * @throws SealiftError `collection-not-found`, `state-damaged`, `format-unsupported`
 */
export async function readState(
  directory: string,
  limits: Limits,
  {
    withStaged = true,
    known,
  }: { readonly withStaged?: boolean | undefined; readonly known?: Known | undefined } = {},
): Promise<CollectionState> {
  const factsFile = path.join(directory, FILES.collection);
  const factsBytes = await requireCollection(directory);
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
  const index = withStaged ? await readStaged(directory, limits, known?.staged) : undefined;
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
    const entry = snapshot.meta.get(role);
    let bytes = waiting.get(role);
    if (!bytes && !entry) throw damaged(`the snapshot does not list ${inert(role)}`, directory);
    if (!bytes && entry) bytes = await checked(role, entry);
    const content = bytes ?? new Uint8Array();
    const before = role === 'targets' ? known?.targets : known?.delegated.get(role);
    if (before && Buffer.from(content).equals(before.bytes)) return before;
    return await guarded(role, () => parseTargets(content, options(role)));
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
    staged,
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

/** The current metadata by file name below metadata/. */
export function filesOf(state: CollectionState): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  for (const root of state.roots) files.set(`${root.version}.root.json`, root.bytes);
  files.set('timestamp.json', state.timestamp.bytes);
  files.set(`${state.snapshot.version}.snapshot.json`, state.snapshot.bytes);
  files.set(`${state.targets.version}.targets.json`, state.targets.bytes);
  for (const [role, { version, bytes }] of state.delegated) files.set(`${version}.${role}.json`, bytes);
  return files;
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
  state: Pick<CollectionState, 'root' | 'targets' | 'delegated'>,
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

/** Every key of the roles, by its id, and the roles it signs. */
export function rolesByKey(state: Roles): Map<string, { readonly key: TufKey; readonly roles: string[] }> {
  const delegations = new Map<string, RoleKeys & { readonly keys: ReadonlyMap<string, TufKey> }>();
  for (const { delegations: here } of [state.targets, ...state.delegated.values()])
    for (const found of here?.roles ?? [])
      if (here && !delegations.has(found.name)) delegations.set(found.name, { ...found, keys: here.keys });
  const all = new Map<string, { readonly key: TufKey; readonly roles: string[] }>();
  const add = (role: string, found: (RoleKeys & { keys: ReadonlyMap<string, TufKey> }) | undefined): void => {
    for (const keyId of found?.keyids ?? []) {
      const key = found?.keys.get(keyId);
      if (!key) continue;
      const entry = all.get(keyId) ?? { key, roles: [] };
      entry.roles.push(role);
      all.set(keyId, entry);
    }
  };
  for (const role of TOP_LEVEL_ROLES) add(role, keysOfRole(state, role));
  for (const role of state.delegated.keys()) add(role, delegations.get(role));
  return all;
}

/** The roles of a collection once these, by name, are taken over. */
export function stateAfter(
  state: Roles,
  changes: Iterable<readonly [role: string, RootMetadata | TargetsMetadata]>,
): Roles {
  let { root, targets } = state;
  const delegated = new Map(state.delegated);
  for (const [role, metadata] of changes) {
    if (metadata.type === 'root') root = metadata;
    else if (role === 'targets') targets = metadata;
    else delegated.set(role, metadata);
  }
  return { root, targets, delegated };
}

/** Keys that sign a role before a change, and none after it. */
export function leavingKeys(before: Roles, after: Roles): TufKey[] {
  const used = rolesByKey(after);
  return [...rolesByKey(before)].flatMap(([keyId, { key }]) => (used.has(keyId) ? [] : [key]));
}

/**
 * The role that rules a name: the first one on the way down that lists it, else the last one it is delegated to.
 * Undefined where nobody may name it.
 */
export function rulerOf(state: Roles, name: string): string | undefined {
  let role: string | undefined;
  let metadata = state.targets;
  for (let depth = 0; depth <= state.delegated.size; depth += 1) {
    if (role !== undefined && metadata.targets.has(name)) return role;
    const next = delegationOf(metadata.delegations, name);
    const child = next && state.delegated.get(next.name);
    if (!next || !child) return role;
    role = next.name;
    metadata = child;
  }
  return role;
}

export async function reserveVersion(state: CollectionState): Promise<number> {
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
