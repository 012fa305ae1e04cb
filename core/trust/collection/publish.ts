/** Roles signed by hand that wait for the next bundle, and making signed files the current metadata. */

import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { inert, SealiftError } from '../../errors.ts';
import { readFileLimited, writeFileDurably } from '../../fs/durable.ts';
import type { Limits } from '../../limits.ts';
import {
  parseRoot,
  parseSnapshot,
  parseTargets,
  parseTimestamp,
  type RootMetadata,
  rootFingerprint,
  type TargetsMetadata,
} from '../metadata.ts';
import { clearStaged, readStaged, writeStaged } from '../staging.ts';
import { TrustedSet } from '../trusted-set.ts';
import { findSecretFile } from './keys.ts';
import { assertStageable } from './rehearse.ts';
import {
  type CollectionState,
  DIRECTORIES,
  damaged,
  filesOf,
  type Known,
  leavingKeys,
  metadataOf,
  readState,
  stateAfter,
} from './state.ts';
import type { FinishedFile, RoleChange } from './types.ts';

/** Resolves to what is known from now on. */
export async function stageRoles(state: CollectionState, change: RoleChange): Promise<Known> {
  const { directory, limits } = state;
  const current = await readState(directory, limits, { known: state });
  const before = current.staged;
  const options = (role: string) => ({ role, limits, strict: true });
  const files = new Map(before?.files);
  for (const bytes of change.roots ?? []) {
    const { version } = parseRoot(bytes, options('root'));
    files.set(`${version}.root.json`, bytes);
  }
  const changes = new Map<string, RootMetadata | TargetsMetadata>();
  for (const [role, given] of change.roles ?? []) {
    const metadata = given instanceof Uint8Array ? parseTargets(given, options(role)) : given;
    const { version, bytes } = metadata;
    changes.set(role, metadata);
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
    if (root.version >= current.root.version) changes.set('root', root);
  }
  await checkRoots([...roots.values()], {
    ...current,
    certificates,
    now: change.created,
  });
  const after = stateAfter(current, changes);
  await assertStageable(current, after, new Set(changes.keys()), certificates, change.created);
  for (const [fingerprint, bytes] of change.certificates ?? []) {
    await writeFileDurably(path.join(directory, DIRECTORIES.certificates, `${fingerprint}.pgp`), bytes);
  }
  const aside = before && !before.aside ? undefined : new Set(before?.aside);
  for (const key of leavingKeys(current, after)) {
    const file = await findSecretFile(directory, key);
    if (file !== undefined) aside?.add(path.basename(file));
  }
  const staged = { version: change.version, files, aside: aside && [...aside].sort() };
  const written = await writeStaged(directory, staged, before);
  return { ...after, staged: written };
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

/** Resolves to the state that was replaced; undefined where nothing had to be. */
export async function publish(
  state: CollectionState,
  files: readonly FinishedFile[],
): Promise<CollectionState | undefined> {
  const { directory, limits } = state;
  const current = await readState(directory, limits, { known: state });
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
  if (Buffer.from(timestampBytes).equals(current.timestamp.bytes)) return undefined;
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
  return current;
}

/** Signatures may be added to a root: by the recovery key, when the key that had signed it is revoked. */
function isSameRoot(name: string, a: Uint8Array, b: Uint8Array, limits: Limits): boolean {
  if (!name.endsWith('.root.json')) return false;
  const [one, other] = [a, b].map((bytes) => parseRoot(bytes, { role: 'root', limits, strict: true }));
  return one !== undefined && other !== undefined && rootFingerprint(one) === rootFingerprint(other);
}

/** Takes away what neither the current nor the last published version needs; a reader may still be in that one. */
export async function prune(previous: CollectionState, current: CollectionState): Promise<void> {
  const { directory } = current;
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
