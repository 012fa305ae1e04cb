/** Looking: the names of a collection, and the audit log and the clock of a gate. */
import path from 'node:path';
import type { Context } from '../context.ts';
import { inert, SealiftError } from '../errors.ts';
import { formatTimestamp } from '../fs/document.ts';
import { readFileLimited } from '../fs/durable.ts';
import { type AuditEntry, type AuditVerification, openGate } from '../gate/gate.ts';
import type { ExpiringKey } from '../results.ts';
import { openCollection, readState, rulerOf } from '../trust/collection.ts';
import { tellExpiring, withExpiring } from '../trust/expiring.ts';
import { BUNDLE_PREFIX } from '../trust/metadata.ts';
import { assertRole } from './common.ts';

export interface TrustListing {
  readonly collection: string;
  readonly collectionId: string;
  readonly name: string;
  /** Ascending by name. */
  readonly images: readonly {
    readonly name: string;
    readonly digest: string;
    /** Bytes of the manifest, as the metadata has it. */
    readonly size: number;
    readonly role: string;
  }[];
  readonly withdrawn: readonly {
    readonly name: string;
    readonly digest: string;
    readonly role: string;
    readonly reason: string;
    readonly at: string;
  }[];
  /** True where something of this waits for the next bundle. */
  readonly staged: boolean;
  /** Absent where no key ends soon. */
  readonly expiringKeys?: readonly ExpiringKey[] | undefined;
}

/**
 * The names of a collection and who rules them.
 * @throws SealiftError `collection-not-found`, `name-not-found` for a role that is not there
 */
export async function listNames(
  options: { readonly collection: string; readonly roles: readonly string[] },
  context: Context,
): Promise<TrustListing> {
  const collection = await openCollection(options.collection, context.limits);
  for (const role of options.roles) assertRole(collection.state, role);
  const chosen = [...collection.state.delegated].filter(
    ([role]) => options.roles.length === 0 || options.roles.includes(role),
  );
  const expiringKeys = await tellExpiring(collection.state, context);
  const byName = (a: { readonly name: string }, b: { readonly name: string }) => (a.name < b.name ? -1 : 1);
  const listing = {
    collection: collection.directory,
    collectionId: collection.id,
    name: collection.name,
    images: chosen
      .flatMap(([role, { targets }]) =>
        [...targets].flatMap(([name, { length, hashes }]) => {
          // A name that a namespace has taken over still stands in the role it came from.
          if (name.startsWith(BUNDLE_PREFIX) || rulerOf(collection.state, name) !== role) return [];
          const sha512 = hashes.get('sha512');
          const digest = sha512 === undefined ? `sha256:${hashes.get('sha256') ?? ''}` : `sha512:${sha512}`;
          return [{ name, digest, size: length, role }];
        }),
      )
      .sort(byName),
    withdrawn: chosen
      .flatMap(([role, { withdrawn }]) => withdrawn.map((entry) => ({ ...entry, role })))
      .sort(byName),
    staged: collection.stagedVersion !== undefined,
  };
  return withExpiring(listing, expiringKeys);
}

export interface NameLookup {
  readonly collection: string;
  readonly name: string;
  readonly digest: string;
  readonly size: number;
  readonly mediaType: string;
  readonly role: string;
  /** True where the next bundle is the first to say so. */
  readonly staged: boolean;
  /** Absent where no key ends soon. */
  readonly expiringKeys?: readonly ExpiringKey[] | undefined;
}

/**
 * What a name is bound to.
 * @throws SealiftError `name-not-found`, `name-withdrawn`, `collection-not-found`
 */
export async function lookUpName(
  options: { readonly collection: string; readonly name: string },
  context: Context,
): Promise<NameLookup> {
  const { images, withdrawn, expiringKeys = [] } = await listNames({ ...options, roles: [] }, context);
  const { name } = options;
  const gone = withdrawn.find((entry) => entry.name === name);
  if (gone) {
    throw new SealiftError('name-withdrawn', `the image was withdrawn: ${inert(gone.reason, 1000)}`, {
      subject: inert(name),
      got: gone.digest,
    });
  }
  const found = images.find((image) => image.name === name);
  if (!found) {
    throw new SealiftError('name-not-found', 'the collection has no such name', {
      subject: inert(name),
      hint: 'names are full references, such as docker.io/library/alpine:3.20; sealift trust list shows them',
    });
  }
  const published = await readState(path.resolve(options.collection), context.limits, { withStaged: false });
  const before = published.delegated.get(found.role)?.targets.get(name);
  const { mediaType } = (await openCollection(options.collection, context.limits)).images.get(name) ?? {};
  const hash = before?.hashes.get(found.digest.slice(0, 6));
  const lookup = {
    collection: published.directory,
    ...found,
    mediaType: mediaType ?? '',
    staged: hash === undefined || !found.digest.endsWith(hash),
  };
  return withExpiring(lookup, expiringKeys);
}

export interface AuditReport extends AuditVerification {
  readonly gate: string;
  /** The newest ones last; all of them where no number was given. */
  readonly shown: readonly AuditEntry[];
  /** False where the chain is broken, or the head that was looked for is not in it. */
  readonly whole: boolean;
}

const MAX_LOG = 1024 * 1024 * 1024;

/**
 * Walks the audit log of a gate and shows its last entries. Problems are in the report, not thrown.
 * @throws SealiftError `not-pinned` where there is no gate
 */
export async function auditGate(
  options: {
    readonly gate: string;
    /** A head that was printed or written down elsewhere. */
    readonly knownHead?: string | undefined;
    /** Number of entries to show. */
    readonly last?: number | undefined;
  },
  context: Context,
): Promise<AuditReport> {
  const gate = await openGate(options.gate, { create: false });
  const verification = await gate.verifyAudit({ knownHead: options.knownHead });
  context.signal.throwIfAborted();
  const bytes = await readFileLimited(path.join(gate.directory, 'audit.log'), MAX_LOG);
  const lines = (bytes?.toString('utf8') ?? '').split('\n').filter((line) => line !== '');
  const shown = lines
    .slice(options.last === undefined ? 0 : Math.max(0, lines.length - options.last))
    .flatMap((line) => {
      try {
        return [JSON.parse(line) as AuditEntry];
      } catch {
        return []; // among the problems already
      }
    });
  return { ...verification, gate: gate.directory, shown, whole: verification.problems.length === 0 };
}

export interface ClockReport {
  readonly gate: string;
  /** Clock of this host. */
  readonly now: string;
  readonly collections: readonly {
    readonly id: string;
    readonly name: string;
    /** Latest moment an accepted bundle was made; time never falls behind it. */
    readonly floor?: string | undefined;
    /** The later of both: what expiry is judged by. */
    readonly time: string;
    readonly reset: boolean;
  }[];
}

/**
 * The clock floors of a gate; with `reset` they are cleared, and the audit log says so.
 * @throws SealiftError `not-pinned`
 */
export async function gateClock(
  options: {
    readonly gate: string;
    /** Ids of the collections whose floor is cleared; `all` for every one. */
    readonly reset?: readonly string[] | 'all' | undefined;
    readonly pid: number;
    readonly actor: string;
  },
  context: Context,
): Promise<ClockReport> {
  const gate = await openGate(options.gate, { create: false });
  const now = formatTimestamp(context.now);
  const { reset } = options;
  const report = async (cleared: ReadonlySet<string>): Promise<ClockReport> => ({
    gate: gate.directory,
    now,
    collections: (await gate.collections()).map(({ collectionId, collectionName, clockFloor }) => ({
      id: collectionId,
      name: collectionName,
      floor: clockFloor,
      time: clockFloor !== undefined && clockFloor > now ? clockFloor : now,
      reset: cleared.has(collectionId),
    })),
  });
  if (reset === undefined) return await report(new Set());
  const lock = await gate.lock(options.pid);
  try {
    const states = await gate.collections();
    const unknown =
      reset === 'all' ? undefined : reset.find((id) => !states.some((s) => s.collectionId === id));
    if (unknown !== undefined) {
      throw new SealiftError('not-pinned', 'no collection of that id is pinned in this gate', {
        subject: unknown,
        hint: 'sealift trust status shows the ids',
      });
    }
    const cleared = new Set<string>();
    for (const { collectionId, clockFloor } of states) {
      if (clockFloor === undefined || (reset !== 'all' && !reset.includes(collectionId))) continue;
      // Told first: a reset nobody hears of would be worse than one that is told and did not happen.
      await gate.audit({
        now: context.now,
        actor: options.actor,
        event: 'clock-reset',
        fields: { collection: collectionId, floor: clockFloor },
      });
      await gate.save(collectionId, { clockFloor: null });
      cleared.add(collectionId);
    }
    return await report(cleared);
  } finally {
    await lock.release();
  }
}
