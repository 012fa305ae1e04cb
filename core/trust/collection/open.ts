/** Opening a collection. */
import path from 'node:path';
import { inert, SealiftError } from '../../errors.ts';
import { acquireLock, type Lock } from '../../fs/lock.ts';
import type { Limits } from '../../limits.ts';
import type { CollectionSummary, KeySummary, RoleSummary } from '../../results.ts';
import { readCertificate } from '../certificates.ts';
import { BUNDLE_PREFIX, formatDate, rootFingerprint } from '../metadata.ts';
import { carrierReach } from '../reach.ts';
import { openKeyring, unlock } from './keys.ts';
import { prune, publish, stageRoles } from './publish.ts';
import { toImageTarget } from './sign.ts';
import { stage, verifyAsGate } from './stage.ts';
import {
  type CollectionState,
  FILES,
  filesOf,
  keysOfRole,
  metadataOf,
  readState,
  requireCollection,
  reserveVersion,
} from './state.ts';
import type { Collection, ImageTarget } from './types.ts';

/**
 * Takes the lock of the collection in a directory, without reading more of it than that it is one.
 * @throws SealiftError `collection-not-found`, `destination-locked`
 */
export async function lockCollection(directory: string, pid: number): Promise<Lock> {
  const home = path.resolve(directory);
  await requireCollection(home);
  return await acquireLock(path.join(home, FILES.lock), pid);
}

/**
 * Opens a collection. Signatures and expiry are not judged here: it must be possible to open one in order to
 * renew it.
 * @throws SealiftError `collection-not-found`, `state-damaged`, `format-unsupported`
 */
export async function openCollection(directory: string, limits: Limits): Promise<Collection> {
  return collectionOf(await readState(path.resolve(directory), limits), limits);
}

function collectionOf(state: CollectionState, limits: Limits): Collection {
  const images = new Map<string, ImageTarget>();
  for (const { targets } of state.delegated.values()) {
    for (const [name, target] of targets) {
      if (!name.startsWith(BUNDLE_PREFIX) && !images.has(name)) images.set(name, toImageTarget(target));
    }
  }
  // Verifies every signature there is: made where somebody asks for it.
  let summary: Promise<CollectionSummary> | undefined;
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
    summary: async () => {
      const now = state.timestamp.created ?? state.created;
      summary ??= summarise(state.id, state.name, filesOf(state), state, now);
      return await summary;
    },
    lock: async (pid) => await acquireLock(path.join(state.directory, FILES.lock), pid),
    reserveVersion: async () => await reserveVersion(state),
    unlock: async (passphrase) => await unlock(state, passphrase),
    keyring: async (roles, access, leaving) => await openKeyring(state, roles, access, leaving),
    stageRoles: async (change) => {
      const known = await stageRoles(state, change);
      return collectionOf(await readState(state.directory, limits, { known }), limits);
    },
    stage: async (options, signers) => await stage(state, options, 'sign' in signers ? [signers] : signers),
    publish: async (files) => {
      const replaced = await publish(state, files);
      const next = collectionOf(await readState(state.directory, limits, { known: state }), limits);
      if (replaced) await prune(replaced, next.state);
      return next;
    },
  };
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
    carrier: carrierReach(state),
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
