/** What is signed and waits for the next bundle: looking at it, and throwing it away. */
import { rename } from 'node:fs/promises';
import path from 'node:path';
import { forgetUnpublished } from '../bundle/journal.ts';
import type { Context } from '../context.ts';
import { SealiftError } from '../errors.ts';
import { fsyncDirectory, readFileLimited } from '../fs/durable.ts';
import type { JsonObject } from '../json/strict.ts';
import type { ExpiringKey } from '../results.ts';
import { readCertificate } from '../trust/certificates.ts';
import {
  type CollectionState,
  findSecretFile,
  leavingKeys,
  metadataOf,
  openCollection,
  readState,
  secretNames,
} from '../trust/collection.ts';
import { tellExpiring, withExpiring } from '../trust/expiring.ts';
import { formatDate, TOP_LEVEL_ROLES } from '../trust/metadata.ts';
import { clearStaged, readStaged } from '../trust/staging.ts';
import { type TrustOptions, withCollection } from './common.ts';
import { statementsOf } from './statements.ts';

export interface StagedListing {
  readonly collection: string;
  readonly collectionId: string;
  readonly name: string;
  /** Roles that differ from those of the last bundle; empty where nothing waits. */
  readonly roles: readonly {
    readonly role: string;
    readonly version: number;
    readonly expires: string;
    /** In words, against what the last bundle has. */
    readonly statements: readonly string[];
  }[];
  /** True where a bundle is due: also for certificates, which are no role. */
  readonly staged: boolean;
  /** Absent where no key ends soon. */
  readonly expiringKeys?: readonly ExpiringKey[] | undefined;
}

const rolesOf = (state: CollectionState): string[] => [...TOP_LEVEL_ROLES, ...state.delegated.keys()];

/** What the next bundle will bring beside its images. @throws SealiftError `collection-not-found`, `state-damaged` */
export async function listStaged(
  options: { readonly collection: string },
  context: Context,
): Promise<StagedListing> {
  const collection = await openCollection(options.collection, context.limits);
  const published = await readState(collection.directory, context.limits, { withStaged: false });
  return withExpiring(listing(collection.state, published), await tellExpiring(collection.state, context));
}

function listing(state: CollectionState, published: CollectionState): StagedListing {
  const roles = rolesOf(state).flatMap((role) => {
    const now = metadataOf(state, role);
    const before = metadataOf(published, role);
    if (!now || Buffer.from(now.bytes).equals(before?.bytes ?? Buffer.alloc(0))) return [];
    return [
      {
        role,
        version: now.version,
        expires: formatDate(now.expires),
        statements: statementsOf(role, now.signed, before?.signed as JsonObject | undefined),
      },
    ];
  });
  const gone = [...published.delegated.keys()].filter((role) => !state.delegated.has(role));
  return {
    collection: state.directory,
    collectionId: state.id,
    name: state.name,
    roles: [
      ...roles,
      ...gone.map((role) => ({
        role,
        version: published.delegated.get(role)?.version ?? 0,
        expires: formatDate(published.delegated.get(role)?.expires ?? published.created),
        statements: ['goes'],
      })),
    ],
    staged: state.stagedVersion !== undefined,
  };
}

export interface ResetResult extends StagedListing {
  /** Secret keys that sign again, where they lie now. */
  readonly restored: readonly string[];
}

/**
 * Throws away what waits for the next bundle. No gate has seen it; version numbers that it took stay used. Secret
 * keys that it put aside come back, and those that were made stay, signing nothing; so do keys that somebody has put
 * aside by hand while a role counted on them.
 * @throws SealiftError `invalid-argument` where a certificate has been revoked since: that cannot be unsaid
 */
export async function resetStaged(options: TrustOptions, context: Context): Promise<ResetResult> {
  return await withCollection(options, context, async (collection) => {
    const { directory } = collection;
    const published = await readState(directory, context.limits, { withStaged: false });
    for (const [fingerprint, bytes] of published.certificates) {
      if ((await readCertificate(bytes, context.limits)).revocation === 'none') continue;
      throw new SealiftError('invalid-argument', 'a key has been revoked, and cannot come back', {
        subject: fingerprint,
        hint: 'let the next bundle carry what is staged: sealift export --metadata-only',
      });
    }
    const thrownAway = listing(collection.state, published);
    if (!thrownAway.staged) return { ...thrownAway, restored: [] };
    // An export that was stopped half-way has signed it already.
    await forgetUnpublished(directory, published.timestamp.version);
    const restored = await restoreKeys(published, collection.state, context);
    await clearStaged(directory);
    return { ...thrownAway, restored };
  });
}

/** Brings back from keys/retired and keys/revoked what was in use until the staged roles took its place. */
async function restoreKeys(
  published: CollectionState,
  state: CollectionState,
  context: Context,
): Promise<string[]> {
  const { directory } = state;
  const keys = path.join(directory, 'keys');
  const aside = (await readStaged(directory, context.limits))?.aside;
  const restored: string[] = [];
  for (const key of leavingKeys(published, state)) {
    if ((await findSecretFile(directory, key)) !== undefined) continue;
    const names = secretNames(key).filter((name) => aside === undefined || aside.includes(name));
    for (const from of ['retired', 'revoked'].flatMap((folder) =>
      names.map((name) => path.join(keys, folder, name)),
    )) {
      if (!(await readFileLimited(from, context.limits.certificate))) continue;
      const home = path.join(keys, path.basename(from));
      await rename(from, home);
      await fsyncDirectory(keys);
      await fsyncDirectory(path.dirname(from));
      restored.push(home);
      break;
    }
  }
  return restored;
}
