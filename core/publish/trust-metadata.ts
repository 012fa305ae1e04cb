/**
 * What a gate trusts, as a TUF repository that is read over HTTP: any TUF client follows the collections of the sealed
 * side from here and fetches the manifests they name. The client verifies all of it anew.
 *
 *     /_trust/                          which collections there are; JSON
 *     /_trust/ID/metadata/FILE          N.root.json, timestamp.json, N.snapshot.json, N.ROLE.json, certificates/FPR.pgp
 *     /_trust/ID/targets/DIR/HASH.NAME  the manifest of an image that is in the store
 *     /_trust/metadata/, /_trust/targets/   the same, where the gate has one collection
 *
 * Nothing of a request becomes a path: files are looked up in a map, names in the store.
 */
import { createHash } from 'node:crypto';
import type { Gate, KeptState } from '../gate/gate.ts';
import type { Limits } from '../limits.ts';
import type { Store } from '../store/store.ts';
import { parseSnapshot, parseTargets, parseTimestamp } from '../trust/metadata.ts';

export const TRUST_PREFIX = '/_trust/';

export interface TrustAnswer {
  readonly status: 200 | 404 | 503;
  readonly type: string;
  readonly bytes: Uint8Array;
}

export interface TrustMetadataOptions {
  readonly gate: Gate;
  readonly store: Store;
  readonly limits: Limits;
}

/** Answers paths below {@link TRUST_PREFIX}. */
export type TrustMetadata = (path: string) => Promise<TrustAnswer>;

interface Published {
  readonly id: string;
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** False between two steps of an import: the files do not belong together, and none is shown but the roots. */
  readonly isWhole: boolean;
}

interface View {
  readonly revision: string;
  readonly index: Buffer;
  readonly collections: ReadonlyMap<string, Published>;
}

const JSON_TYPE = 'application/json';
const answer = (status: TrustAnswer['status'], type: string, bytes: Uint8Array): TrustAnswer => ({
  status,
  type,
  bytes,
});
const missing = (): TrustAnswer => answer(404, 'text/plain', Buffer.from('not here\n'));
const unsettled = (): TrustAnswer =>
  answer(503, 'text/plain', Buffer.from('the gate is between two bundles\n'));

/** The trust metadata of `gate`. Follows its changes by itself. */
export function createTrustMetadata({ gate, store, limits }: TrustMetadataOptions): TrustMetadata {
  let view: View | undefined;
  let reading: Promise<View> | undefined;

  async function currentView(): Promise<View> {
    const revision = await gate.revision();
    if (view?.revision === revision) return view;
    reading ??= readView(gate, revision, limits).finally(() => {
      reading = undefined;
    });
    view = await reading;
    return view;
  }

  async function target({ id }: Published, rest: string): Promise<TrustAnswer> {
    const match = /^((?:[^/]+\/)*)([0-9a-f]{64}|[0-9a-f]{128})\.([^/]+)$/.exec(rest);
    if (!match) return missing();
    const [, folder = '', hash = '', last = ''] = match;
    const record = await store.image(`${folder}${last}`);
    if (record?.collectionId !== id) return missing();
    const bytes = await store.readBlob(record.digest, limits.manifest);
    const algorithm = hash.length === 64 ? 'sha256' : 'sha512';
    if (createHash(algorithm).update(bytes).digest('hex') !== hash) return missing();
    return answer(200, record.mediaType, bytes);
  }

  return async (path) => {
    const { index, collections } = await currentView();
    const rest = path.slice(TRUST_PREFIX.length);
    if (rest === '') return answer(200, JSON_TYPE, index);
    const match = /^(?:([0-9a-f]{64})\/)?(metadata|targets)\/(.+)$/.exec(rest);
    const [, id, kind, name = ''] = match ?? [];
    const [only, ...others] = collections.values();
    const published = id === undefined ? (others.length === 0 ? only : undefined) : collections.get(id);
    if (!published) return missing();
    if (kind === 'targets') return await target(published, name);
    const bytes = published.files.get(name);
    if (!published.isWhole && !name.endsWith('.root.json')) return unsettled();
    if (!bytes) return missing();
    return answer(200, name.endsWith('.json') ? JSON_TYPE : 'application/pgp-keys', bytes);
  };
}

async function readView(gate: Gate, revision: string, limits: Limits): Promise<View> {
  const states = await gate.collections();
  const index = {
    collections: states.map((state) => ({
      id: state.collectionId,
      name: state.collectionName,
      rootVersion: state.root.version,
      rootFingerprint: state.root.fingerprint,
      version: state.version,
      expires: state.expires,
    })),
  };
  return {
    revision,
    index: Buffer.from(`${JSON.stringify(index)}\n`),
    collections: new Map(states.map((state) => [state.collectionId, publish(state, limits)])),
  };
}

function publish(state: KeptState, limits: Limits): Published {
  const files = new Map<string, Uint8Array>();
  for (const [version, bytes] of state.earlierRoots) files.set(`${version}.root.json`, bytes);
  files.set(`${state.root.version}.root.json`, state.root.bytes);
  for (const [fingerprint, bytes] of state.certificates) files.set(`certificates/${fingerprint}.pgp`, bytes);
  return { id: state.collectionId, files, isWhole: addRoles(files, state, limits) };
}

/** Adds what timestamp and snapshot name; false where something of it is not what is kept. */
function addRoles(files: Map<string, Uint8Array>, state: KeptState, limits: Limits): boolean {
  const options = (role: string) => ({ role, limits, strict: true });
  if (!state.timestamp || !state.snapshot || !state.targets) return false;
  const timestamp = parseTimestamp(state.timestamp, options('timestamp'));
  const snapshot = parseSnapshot(state.snapshot, options('snapshot'));
  if (timestamp.snapshot.version !== snapshot.version) return false;
  files.set('timestamp.json', state.timestamp);
  files.set(`${snapshot.version}.snapshot.json`, state.snapshot);
  const roles = new Map([['targets', state.targets] as const, ...state.delegated]);
  for (const [role, bytes] of roles) {
    const { version } = parseTargets(bytes, options(role));
    const wanted = snapshot.meta.get(role)?.version;
    if (wanted === version) files.set(`${version}.${role}.json`, bytes);
    // A role nobody delegates to any more may be kept from an earlier bundle.
    else if (role === 'targets' || wanted === undefined || wanted > version) return false;
  }
  return true;
}
