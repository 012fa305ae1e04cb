/**
 * Brings a destination to what a plan says. What is there is not sent again; each stage is durable before the next one
 * begins, so that whoever pulls meanwhile, or after a kill, finds everything a tag leads to. Removal goes the other way.
 */
import type { Context } from '../context.ts';
import { SealiftError } from '../errors.ts';
import { type Digest, digestOf } from '../oci/digest.ts';
import { PLACE_MAX } from '../pool/pool.ts';
import { forEachLimited } from '../util/concurrency.ts';
import { formatBytes } from '../util/format.ts';
import type { BlobSource, Companion, Destination, Listed, ObjectToPut } from './destination.ts';
import {
  encodeState,
  type PlannedObject,
  type PublishPlan,
  STATE_KEY,
  stagesAt,
  tagsList,
  tagsListKey,
} from './plan.ts';
import {
  decide,
  parseState,
  STATE_MAX,
  straysOf,
  TAG_KEY,
  type WithdrawnTag,
  withdrawnTags,
} from './strays.ts';

export interface ApplyOptions {
  readonly concurrency: number;
  readonly dryRun: boolean;
  /** Looks at blobs that are there and sends the wrong ones again; with `deep` each is read whole. */
  readonly repair?: { readonly deep: boolean } | undefined;
  /** Takes away what the plan does not hold; undefined leaves it. */
  readonly prune?:
    | {
        /** Milliseconds an object stays after the last tag that needed it went away. */
        readonly grace: number;
        /** Only below this key: `v2/` or `v2/PREFIX/`. */
        readonly scope: string;
      }
    | undefined;
  /** Tags that go at once, also without `prune`, where they still lead to what was withdrawn. */
  readonly withdrawn?: readonly WithdrawnTag[] | undefined;
  /** Further documents of the destination, such as the catalog, by key. */
  readonly documents: ReadonlyMap<string, Companion>;
}

export interface DestinationResult {
  readonly location: string;
  /** False where everything was there already. */
  readonly changed: boolean;
  /** Blobs that were sent. */
  readonly sent: { readonly blobs: number; readonly bytes: number };
  /** Blobs the destination had in another repository. */
  readonly copied: { readonly blobs: number; readonly bytes: number };
  /** Blobs that were there already. */
  readonly present: { readonly blobs: number; readonly bytes: number };
  /** Manifests, referrers, lists and other documents that were written. */
  readonly documents: number;
  /** `REPOSITORY:TAG`, ascending. */
  readonly tags: {
    readonly set: readonly string[];
    readonly unchanged: number;
    readonly removed: readonly string[];
    /** In the destination and not in the store; they stay without --prune. */
    readonly unknown: readonly string[];
  };
  /** Objects that were deleted. */
  readonly removed: { readonly objects: number; readonly bytes: number };
  /** Objects nothing needs any more that wait for the end of their grace period. */
  readonly waiting: { readonly objects: number; readonly bytes: number };
}

/** What stands between a plan and a destination. Opened by `preparePublication`, and gone through in this order. */
export interface Publication {
  readonly location: string;
  /** Blobs that have to be sent. */
  readonly toSend: { readonly blobs: number; readonly bytes: number };
  /** Bytes of blobs that are there already. */
  readonly presentBytes: number;
  /** Bytes that can still be put; undefined where nobody knows. */
  readonly free: number | undefined;
  /** Blobs that neither the destination nor the source has, and all manifests that lead to them. They are left as they are. */
  readonly broken: ReadonlySet<string>;
  sendBlobs(): Promise<void>;
  /**
   * Everything else, tags last.
   * @param beforeTags called when all that tags lead to is there and durable
   */
  finish(beforeTags?: () => Promise<void>): Promise<DestinationResult>;
}

/**
 * @throws SealiftError what the destination refuses; `destination-full`. Whatever was reached stays, can be pulled from,
 *   and is not sent again.
 */
export async function applyPlan(
  plan: PublishPlan,
  destination: Destination,
  source: BlobSource,
  options: ApplyOptions,
  context: Context,
): Promise<DestinationResult> {
  const publication = await preparePublication(plan, destination, source, options, context);
  assertSpace(publication);
  await publication.sendBlobs();
  return publication.finish();
}

/** @throws SealiftError `destination-full` */
export function assertSpace({ toSend, free, location }: Publication): void {
  if (free === undefined || toSend.bytes <= free) return;
  throw new SealiftError(
    'destination-full',
    `not enough free space: got ${formatBytes(free)}, want ${formatBytes(toSend.bytes)}`,
    {
      subject: location,
      got: free,
      want: toSend.bytes,
      hint: 'free some space and run the same command again',
    },
  );
}

/** Locks the destination and finds out what it has; writes nothing else. */
export async function preparePublication(
  plan: PublishPlan,
  destination: Destination,
  source: BlobSource,
  options: ApplyOptions,
  context: Context,
): Promise<Publication> {
  const { dryRun, prune, withdrawn = [] } = options;
  const stages = stagesAt(plan, destination);
  const planned = stages.flat();
  await destination.check(planned.map(({ key }) => key));
  if (!dryRun) await destination.lock();
  const repositories = new Set(plan.tags.keys());
  for (const { key } of withdrawn) repositories.add(TAG_KEY.exec(key)?.[1] ?? '');
  const prefixes = prune ? ['v2/'] : [...repositories].sort().map((repository) => `v2/${repository}/`);
  const there = await destination.list(withoutNested(prefixes));
  const tally = createTally();
  const wanted = new Set(planned.map(({ key }) => key));
  const strays = straysOf(there, wanted, repositories, prune?.scope);
  const gone = prune
    ? strays.tags
    : await withdrawnTags(strays.tags, withdrawn, destination, context.limits.manifest);
  const staying = strays.tags.filter((key) => !gone.includes(key));

  const work: Work[] = [];
  const toSend = { blobs: 0, bytes: 0 };
  const lost = new Set<Digest>();
  const blobs = groupBlobs(planned.filter(({ kind }) => kind === 'blob'));
  await forEachLimited(blobs, options.concurrency, context.signal, async ([digest, keys]) => {
    const { size } = keys[0];
    const present: PlannedObject[] = [];
    const missing: PlannedObject[] = [];
    for (const object of keys) {
      const listed = there.get(object.key);
      const holds = options.repair
        ? (await destination.examine(toPut(object), listed, { ...options.repair, source })).proof !==
          undefined
        : await destination.holds(toPut(object), listed);
      (holds ? present : missing).push(object);
    }
    tally.present.blobs += present.length;
    tally.present.bytes += present.length * size;
    const [first, ...others] = missing;
    if (!first) return;
    if (present.length === 0 && source.has && !(await source.has(digest))) {
      lost.add(digest);
      return;
    }
    if (present.length === 0) {
      toSend.blobs += 1;
      toSend.bytes += size;
    }
    work.push({ from: present[0]?.key, missing: [first, ...others] });
  });
  const broken = lost.size === 0 ? new Set<string>() : reachingTo(plan, lost);
  const isWhole = ({ digest, kind }: PlannedObject): boolean =>
    !broken.has(digest) || (kind !== 'manifest' && kind !== 'tag');

  return {
    location: destination.location,
    toSend,
    presentBytes: tally.present.bytes,
    free: await destination.freeBytes(),
    broken,
    async sendBlobs() {
      context.emit({ type: 'phase', phase: 'publish', title: `publishing to ${destination.location}` });
      context.emit({ type: 'transfer', ...toSend, skippedBytes: tally.present.bytes });
      const [root = []] = stages;
      for (const object of root) await putPlanned(object, there, destination, source, tally, dryRun, context);
      const { large, batches } = portion(work, destination.putSmall !== undefined && !dryRun);
      await forEachLimited(large, options.concurrency, context.signal, async ({ from, missing }) => {
        let copyFrom = from;
        for (const object of missing) {
          copyFrom = await putBlob(object, copyFrom, destination, source, tally, dryRun, context);
        }
      });
      await forEachLimited(batches, options.concurrency, context.signal, (batch) =>
        putBatch(batch, destination, source, tally, context),
      );
      if (!dryRun) await destination.flush();
    },
    async finish(beforeTags) {
      const rest = stages.slice(2);
      for (const [at, stage] of rest.entries()) {
        if (at === rest.length - 1) await beforeTags?.();
        await forEachLimited(stage.filter(isWhole), options.concurrency, context.signal, (object) =>
          putPlanned(object, there, destination, source, tally, dryRun, context),
        );
        if (!dryRun) await destination.flush();
      }
      const lists = listsOf(repositories, plan, staying);
      for (const list of lists) await putDocument(list, there, destination, tally, dryRun);
      if (!dryRun) await destination.flush();
      // A tag is taken off its list before it goes; a repository without tags has no list.
      tally.removedTags.push(...gone.map(placeOfTag));
      const listed = new Set(lists.map(({ key }) => key));
      const emptied = strays.lists.filter((key) => !listed.has(key) && (prune || isEmptied(key, gone)));
      await removeAll([emptied, gone], there, destination, tally, dryRun);
      const state = parseState(await destination.read(STATE_KEY, STATE_MAX));
      const doomed = prune
        ? await decide(strays, state, prune.grace, destination, context)
        : { now: [], waiting: new Map([...state].filter(([key]) => !wanted.has(key))) };
      await removeAll(doomed.now, there, destination, tally, dryRun);
      for (const key of doomed.waiting.keys()) {
        tally.waiting.objects += 1;
        tally.waiting.bytes += there.get(key)?.size ?? 0;
      }
      const manifests = planned
        .filter(({ kind }) => kind === 'manifest' || kind === 'tag' || kind === 'referrers')
        .map(toPut);
      const extras = [
        ...options.documents,
        ...(await destination.companions(manifests)),
        [STATE_KEY, stateOf(plan, doomed.waiting)] as const,
      ];
      for (const [key, { bytes, mediaType }] of extras) {
        const object = { key, mediaType, size: bytes.length, digest: digestOf(bytes), mutable: true, bytes };
        await putDocument(object, there, destination, tally, dryRun, true);
      }
      if (!dryRun) await destination.flush();
      return tally.result(destination.location, staying.map(placeOfTag));
    },
  };
}

interface Work {
  /** A key the destination has the blob at. */
  readonly from: string | undefined;
  readonly missing: Keys;
}

/** Where one blob belongs. */
type Keys = readonly [PlannedObject, ...PlannedObject[]];

function isEmptied(listKey: string, gone: readonly string[]): boolean {
  const base = listKey.slice(0, -'tags/list'.length);
  return gone.some((key) => key.startsWith(`${base}manifests/`));
}

/** Manifests that lead to one of the blobs. */
function reachingTo(plan: PublishPlan, blobs: ReadonlySet<Digest>): ReadonlySet<string> {
  const reaching = new Set<string>(blobs);
  for (let before = -1; before !== reaching.size; ) {
    before = reaching.size;
    for (const [digest, { manifest }] of plan.graph) {
      if (!manifest) continue;
      const below = [
        ...manifest.manifests,
        ...manifest.layers,
        ...(manifest.config ? [manifest.config] : []),
      ];
      if (below.some((child) => reaching.has(child.digest))) reaching.add(digest);
    }
  }
  return reaching;
}

type Document = ObjectToPut & { readonly bytes: Uint8Array };

/** What a destination is told of a planned object. */
export function toPut({ key, mediaType, size, digest, kind }: PlannedObject): ObjectToPut {
  return { key, mediaType, size, digest, mutable: kind === 'tag' || kind === 'referrers' || kind === 'root' };
}

/** `v2/a/` covers `v2/a/b/`. */
function withoutNested(prefixes: readonly string[]): readonly string[] {
  return prefixes.filter((one) => !prefixes.some((other) => other !== one && one.startsWith(other)));
}

function placeOfTag(key: string): string {
  const [, repository, tag] = TAG_KEY.exec(key) ?? [];
  return `${repository}:${tag}`;
}

// ---------------------------------------------------------------- sending

function groupBlobs(objects: readonly PlannedObject[]): ReadonlyMap<Digest, Keys> {
  const groups = new Map<Digest, [PlannedObject, ...PlannedObject[]]>();
  for (const object of objects) {
    const group = groups.get(object.digest);
    if (group) group.push(object);
    else groups.set(object.digest, [object]);
  }
  return groups;
}

/** A batch of small blobs: enough to be worth a message, not so much that one worker ends long after the others. */
const BATCH_BLOBS = 64;
const BATCH_BYTES = 4 * PLACE_MAX;

/** Blobs that go one by one, the largest first so that none of them is begun when all others are done, and small ones. */
function portion(
  work: readonly Work[],
  inBatches: boolean,
): { readonly large: readonly Work[]; readonly batches: readonly (readonly Work[])[] } {
  const isSmall = ({ from, missing: [{ size }] }: Work): boolean =>
    inBatches && from === undefined && size <= PLACE_MAX;
  const batches: Work[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const one of work.filter(isSmall)) {
    const last = batches.at(-1);
    const { size } = one.missing[0];
    if (!last || last.length === BATCH_BLOBS || bytes + size > BATCH_BYTES) {
      batches.push([one]);
      bytes = size;
    } else {
      last.push(one);
      bytes += size;
    }
  }
  const large = work.filter((one) => !isSmall(one)).sort((a, b) => b.missing[0].size - a.missing[0].size);
  return { large, batches };
}

async function putBatch(
  batch: readonly Work[],
  destination: Destination,
  source: BlobSource,
  tally: Tally,
  context: Context,
): Promise<void> {
  for (const { missing } of batch) {
    const [{ digest, size }] = missing;
    context.emit({ type: 'blob', state: 'started', digest, bytes: 0, size });
  }
  await destination.putSmall?.(
    batch.map(({ missing: [first, ...others] }) => [toPut(first), ...others.map(toPut)]),
    source,
  );
  for (const { missing } of batch) {
    const [{ digest, size }] = missing;
    context.emit({ type: 'blob', state: 'done', digest, bytes: size, size });
    tally.sent.blobs += 1;
    tally.sent.bytes += size;
    tally.copied.blobs += missing.length - 1;
    tally.copied.bytes += (missing.length - 1) * size;
  }
}

/** Puts one blob at one key; resolves to where it can be copied from next. */
async function putBlob(
  object: PlannedObject,
  from: string | undefined,
  destination: Destination,
  source: BlobSource,
  tally: Tally,
  dryRun: boolean,
  context: Context,
): Promise<string> {
  const { digest, size } = object;
  if (from !== undefined && (dryRun || (await destination.copyBlob(from, toPut(object))))) {
    tally.copied.blobs += 1;
    tally.copied.bytes += size;
    return from;
  }
  if (!dryRun) {
    context.emit({ type: 'blob', state: 'started', digest, bytes: 0, size });
    await destination.putBlob(toPut(object), source, (bytes) =>
      context.emit({ type: 'blob', state: 'progress', digest, bytes, size }),
    );
    context.emit({ type: 'blob', state: 'done', digest, bytes: size, size });
  }
  tally.sent.blobs += 1;
  tally.sent.bytes += size;
  return object.key;
}

async function putPlanned(
  object: PlannedObject,
  there: ReadonlyMap<string, Listed>,
  destination: Destination,
  source: BlobSource,
  tally: Tally,
  dryRun: boolean,
  context: Context,
): Promise<void> {
  if (await destination.holds(toPut(object), there.get(object.key))) {
    if (object.kind === 'tag') tally.unchangedTags += 1;
    return;
  }
  if (object.kind === 'tag') tally.setTags.push(placeOfTag(object.key));
  else tally.documents += 1;
  if (dryRun) return;
  await destination.putDocument(toPut(object), object.bytes ?? (await readWhole(source, object, context)));
}

async function readWhole(source: BlobSource, object: PlannedObject, context: Context): Promise<Uint8Array> {
  const bytes = await source.read(object.digest, context.limits.manifest);
  if (bytes.length !== object.size) {
    throw new SealiftError('size-mismatch', 'a manifest has another size than when it was planned', {
      subject: object.digest,
      got: bytes.length,
      want: object.size,
    });
  }
  return bytes;
}

async function putDocument(
  object: Document,
  there: ReadonlyMap<string, Listed>,
  destination: Destination,
  tally: Tally,
  dryRun: boolean,
  isExtra = false,
): Promise<void> {
  if (await destination.holds(object, there.get(object.key))) return;
  if (isExtra) tally.extras += 1;
  else tally.documents += 1;
  if (!dryRun) await destination.putDocument(object, object.bytes);
}

/** Lists of tags: those of the plan, and those that stay beside them. A repository without tags has none. */
export function listsOf(
  repositories: ReadonlySet<string>,
  plan: PublishPlan,
  staying: readonly string[],
): readonly Document[] {
  const others = new Map<string, string[]>();
  for (const key of staying) {
    const [, repository = '', tag = ''] = TAG_KEY.exec(key) ?? [];
    others.set(repository, [...(others.get(repository) ?? []), tag]);
  }
  return [...repositories].flatMap((repository) => {
    const planned = plan.tags.get(repository);
    const all = [...new Set([...(planned ?? []), ...(others.get(repository) ?? [])])].sort();
    if (!planned && all.length === 0) return [];
    const bytes = tagsList(repository, all);
    const key = tagsListKey(repository);
    const facts = { key, mediaType: 'application/json', size: bytes.length, digest: digestOf(bytes) };
    return [{ ...facts, mutable: true, bytes }];
  });
}

async function removeAll(
  groups: readonly (readonly string[])[],
  there: ReadonlyMap<string, Listed>,
  destination: Destination,
  tally: Tally,
  dryRun: boolean,
): Promise<void> {
  for (const keys of groups) {
    if (keys.length === 0) continue;
    for (const key of keys) {
      tally.removed.objects += 1;
      tally.removed.bytes += there.get(key)?.size ?? 0;
    }
    if (dryRun) continue;
    await destination.remove(keys);
    await destination.flush();
  }
}

function stateOf(plan: PublishPlan, unneeded: ReadonlyMap<string, string>): Companion {
  return { bytes: encodeState(plan, unneeded), mediaType: 'application/json' };
}

// ---------------------------------------------------------------- counting

type Tally = ReturnType<typeof createTally>;

function createTally() {
  const tally = {
    sent: { blobs: 0, bytes: 0 },
    copied: { blobs: 0, bytes: 0 },
    present: { blobs: 0, bytes: 0 },
    documents: 0,
    extras: 0,
    setTags: [] as string[],
    unchangedTags: 0,
    removedTags: [] as string[],
    removed: { objects: 0, bytes: 0 },
    waiting: { objects: 0, bytes: 0 },
    result(location: string, unknown: readonly string[]): DestinationResult {
      const { sent, copied, present, documents, removed, waiting } = tally;
      const writes =
        sent.blobs + copied.blobs + documents + tally.extras + tally.setTags.length + removed.objects;
      return {
        location,
        changed: writes > 0,
        sent,
        copied,
        present,
        documents,
        tags: {
          set: tally.setTags.sort(),
          unchanged: tally.unchangedTags,
          removed: tally.removedTags.sort(),
          unknown,
        },
        removed,
        waiting,
      };
    },
  };
  return tally;
}
