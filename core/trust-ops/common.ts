/** What every trust operation on a collection begins and ends with. */
import type { Context } from '../context.ts';
import { inert, SealiftError } from '../errors.ts';
import { readFileLimited } from '../fs/durable.ts';
import type { JsonObject, JsonValue } from '../json/strict.ts';
import type { ExpiringKey } from '../results.ts';
import {
  type Collection,
  type CollectionState,
  envelope,
  keysOfRole,
  lockCollection,
  metadataOf,
  openCollection,
  requireSigners,
  signMetadata,
} from '../trust/collection.ts';
import { tellExpiring, withExpiring } from '../trust/expiring.ts';
import { isGpgReference, openGpgSigner } from '../trust/gpg.ts';
import type { TufKey } from '../trust/keys.ts';
import { formatDate, rootFingerprint, TOP_LEVEL_ROLES } from '../trust/metadata.ts';
import { openSigner, type Signer } from '../trust/signer.ts';
import type { KeyAccess } from '../workflow-options.ts';

/** Signed by every export, not by hand. */
export const BY_EXPORT: ReadonlySet<string> = new Set(['timestamp', 'snapshot', 'bundles']);

export interface TrustOptions extends KeyAccess {
  /** Directory of the collection. */
  readonly collection: string;
  /** Number of this process, for the lock. */
  readonly pid: number;
  /** When it is signed; the run's clock unless given. */
  readonly created?: Date | undefined;
}

/** A secret key in a file of its own, such as the recovery key, or one that gpg holds. */
export interface KeyFile extends KeyAccess {
  /** Path, or `gpg:FINGERPRINT`. */
  readonly file: string;
}

/** What an operation has signed. It is on its way with the next bundle. */
export interface StagedRoles {
  readonly collection: string;
  readonly collectionId: string;
  readonly name: string;
  /** The newest root, which sealed sides learn by themselves. */
  readonly rootVersion: number;
  readonly rootFingerprint: string;
  readonly roles: readonly {
    readonly role: string;
    readonly version: number;
    readonly expires: string;
  }[];
  /** Absent where no key ends soon. */
  readonly expiringKeys?: readonly ExpiringKey[] | undefined;
}

/** Opens the collection, holds its lock while `work` runs, and tells of keys that end soon. */
export async function withCollection<T extends object>(
  options: TrustOptions,
  context: Context,
  work: (collection: Collection, created: Date) => Promise<T>,
): Promise<T & { readonly expiringKeys?: readonly ExpiringKey[] | undefined }> {
  const lock = await lockCollection(options.collection, options.pid);
  try {
    const created = options.created ?? context.now;
    const collection = await openCollection(options.collection, context.limits);
    const expiringKeys = await tellExpiring(collection.state, context);
    const result = await work(collection, new Date(Math.floor(created.getTime() / 1000) * 1000));
    return withExpiring(result, expiringKeys);
  } finally {
    await lock.release();
  }
}

export function stagedRoles(collection: Collection, roles: readonly string[]): StagedRoles {
  const { state } = collection;
  const wanted = new Set(roles);
  return {
    collection: collection.directory,
    collectionId: collection.id,
    name: collection.name,
    rootVersion: state.root.version,
    rootFingerprint: rootFingerprint(state.root),
    roles: [...TOP_LEVEL_ROLES, ...state.delegated.keys()].flatMap((role) => {
      const metadata = wanted.has(role) ? metadataOf(state, role) : undefined;
      return metadata ? [{ role, version: metadata.version, expires: formatDate(metadata.expires) }] : [];
    }),
  };
}

/** @throws SealiftError `name-not-found` */
export function assertRole(state: CollectionState, role: string): void {
  if (keysOfRole(state, role)) return;
  const known = ['root', 'targets', 'snapshot', 'timestamp', ...state.delegated.keys()];
  throw new SealiftError('name-not-found', `the collection has no role ${inert(role)}`, {
    subject: inert(role),
    want: known.join(', '),
    hint: `its roles are ${known.join(', ')}`,
  });
}

/** @throws SealiftError `invalid-argument`, `passphrase-needed`, `state-damaged` */
export async function openKeyFile(given: KeyFile, context: Context): Promise<Signer> {
  if (isGpgReference(given.file)) return await openGpgSigner(given.file, given);
  const bytes = await readFileLimited(given.file, context.limits.certificate);
  if (!bytes) {
    throw new SealiftError('invalid-argument', 'there is no key file at that place', {
      subject: inert(given.file),
    });
  }
  const passphrase = await given.passphrase(`the key in ${given.file}`);
  if (passphrase === undefined) {
    throw new SealiftError('passphrase-needed', 'the key is locked', {
      subject: inert(given.file),
      hint: 'run it on a terminal, or give --recovery-passphrase-file FILE',
    });
  }
  return await openSigner(bytes, passphrase, given.file);
}

export interface RootEdit {
  readonly roles: Readonly<
    Record<'root' | 'timestamp' | 'snapshot' | 'targets', { keyids: string[]; threshold: number }>
  >;
  readonly keys: ReadonlyMap<string, TufKey>;
}

/**
 * The next root: signed by a threshold of the keys of the last one and of its own. Keys no role names go.
 * @throws SealiftError `signature-needed`
 */
export async function signRoot(
  state: CollectionState,
  edit: RootEdit,
  signers: readonly Signer[],
  created: Date,
  lifetimeMs: number,
): Promise<Buffer> {
  const byOld = requireSigners(state, 'root', signers);
  const mine = signers.filter(({ keyId }) => edit.roles.root.keyids.includes(keyId));
  if (mine.length < edit.roles.root.threshold) {
    throw new SealiftError('signature-needed', 'the new root needs signatures by keys that are not here', {
      subject: 'root',
      got: mine.length,
      want: edit.roles.root.threshold,
    });
  }
  const able = [...new Map([...byOld, ...mine].map((signer) => [signer.keyId, signer])).values()];
  return await signRootWith(state, edit, able, created, lifetimeMs);
}

/** The same with whatever signers there are: others add theirs. */
export async function signRootWith(
  state: CollectionState,
  edit: RootEdit,
  signers: readonly Signer[],
  created: Date,
  lifetimeMs: number,
): Promise<Buffer> {
  const used = new Set(Object.values(edit.roles).flatMap(({ keyids }) => keyids));
  const keys: Record<string, JsonValue> = {};
  for (const [id, key] of edit.keys) if (used.has(id)) keys[id] = key as unknown as JsonValue;
  return await signMetadata(
    {
      ...state.root.signed,
      ...envelope('root', state.root.version + 1, formatDate(new Date(created.getTime() + lifetimeMs))),
      keys,
      roles: edit.roles as unknown as JsonObject,
    },
    signers,
    created,
  );
}

/** The current root as something to change. */
export function editableRoot(state: CollectionState): RootEdit {
  const copy = (role: 'root' | 'timestamp' | 'snapshot' | 'targets') => ({
    keyids: [...state.root.roles[role].keyids],
    threshold: state.root.roles[role].threshold,
  });
  return {
    roles: {
      root: copy('root'),
      snapshot: copy('snapshot'),
      targets: copy('targets'),
      timestamp: copy('timestamp'),
    },
    keys: state.root.keys,
  };
}
