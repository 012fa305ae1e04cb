/**
 * Brings a destination to what a plan says. What is there is not sent again; each stage is durable before the next one
 * begins, so that whoever pulls meanwhile, or after a kill, finds everything a tag leads to. Removal goes the other way.
 */
import type { Context } from '../context.ts';
import { isSealiftError, SealiftError } from '../errors.ts';
import { formatTimestamp, parseDocument, TIMESTAMP } from '../fs/document.ts';
import { type Digest, digestOf } from '../oci/digest.ts';
import { forEachLimited } from '../util/concurrency.ts';
import { formatBytes } from '../util/format.ts';
import type { BlobSource, Companion, Destination, Listed, ObjectToPut } from './destination.ts';
import {
  encodeState,
  type PlannedObject,
  type PublishPlan,
  ROOT_KEY,
  STATE_KEY,
  tagsList,
  tagsListKey,
} from './plan.ts';

export interface ApplyOptions {
  readonly concurrency: number;
  readonly dryRun: boolean;
  /** Takes away what the plan does not hold; undefined leaves it. */
  readonly prune?:
    | {
        /** Milliseconds an object stays after the last tag that needed it went away. */
        readonly grace: number;
        /** Only below this key: `v2/` or `v2/PREFIX/`. */
        readonly scope: string;
      }
    | undefined;
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

const STATE_MAX = 256 * 1024 * 1024;
const TAG_KEY = /^v2\/(.+)\/manifests\/([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})$/;
/** Tags of evidence: those that list referrers, and cosign's. */
const FALLBACK = /^sha256-[0-9a-f]{64}(?:\.(?:sig|att|sbom))?$/;
const DIGEST_KEY = /^v2\/.+\/(?:manifests|blobs|referrers)\/sha(?:256:[0-9a-f]{64}|512:[0-9a-f]{128})$/;
const LIST_KEY = /^v2\/.+\/tags\/list$/;

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
  const { dryRun, prune } = options;
  const planned = plan.stages.flat();
  await destination.check(planned.map(({ key }) => key));
  if (!dryRun) await destination.lock();
  const prefixes = prune ? ['v2/'] : [...plan.tags.keys()].sort().map((repository) => `v2/${repository}/`);
  const there = await destination.list(withoutNested(prefixes));
  const tally = createTally();

  const wanted = new Set(planned.map(({ key }) => key));
  const strays = straysOf(there, wanted, plan, prune?.scope);
  await sendAll(plan, destination, source, there, tally, options, context);

  const lists = listsOf(plan, prune ? [] : strays.tags);
  for (const list of lists) await putDocument(list, there, destination, tally, dryRun);
  if (!dryRun) await destination.flush();
  const state = parseState(await destination.read(STATE_KEY, STATE_MAX));
  const doomed = prune
    ? await decide(strays, state, prune.grace, destination, context)
    : { now: [], waiting: new Map<string, string>() };
  if (prune) {
    tally.removedTags.push(...strays.tags.map(placeOfTag));
    // A tag is taken off its list before it goes; a repository without tags has no list.
    const emptied = strays.lists.filter((key) => !lists.some((list) => list.key === key));
    await removeAll([emptied, strays.tags, ...doomed.now], there, destination, tally, dryRun);
  }
  const kept = prune ? doomed.waiting : new Map([...state].filter(([key]) => !wanted.has(key)));
  for (const key of kept.keys()) {
    tally.waiting.objects += 1;
    tally.waiting.bytes += there.get(key)?.size ?? 0;
  }
  const manifests = planned
    .filter(({ kind }) => kind === 'manifest' || kind === 'tag' || kind === 'referrers')
    .map(toPut);
  const extras = [
    ...options.documents,
    ...(await destination.companions(manifests)),
    [STATE_KEY, stateOf(plan, kept)] as const,
  ];
  for (const [key, { bytes, mediaType }] of extras) {
    const object = { key, mediaType, size: bytes.length, digest: digestOf(bytes), mutable: true, bytes };
    await putDocument(object, there, destination, tally, dryRun, true);
  }
  if (!dryRun) await destination.flush();
  return tally.result(destination.location, prune ? [] : strays.tags.map(placeOfTag));
}

type Document = ObjectToPut & { readonly bytes: Uint8Array };

function toPut({ key, mediaType, size, digest, kind }: PlannedObject): ObjectToPut {
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

async function sendAll(
  plan: PublishPlan,
  destination: Destination,
  source: BlobSource,
  there: ReadonlyMap<string, Listed>,
  tally: Tally,
  options: ApplyOptions,
  context: Context,
): Promise<void> {
  const { dryRun, concurrency } = options;
  const blobs = groupBlobs(plan.stages.flat().filter(({ kind }) => kind === 'blob'));
  const work = [];
  let bytes = 0;
  for (const keys of blobs.values()) {
    const [first] = keys;
    if (!first) continue;
    const present: PlannedObject[] = [];
    const missing: PlannedObject[] = [];
    for (const object of keys) {
      const holds = await destination.holds(toPut(object), there.get(object.key));
      (holds ? present : missing).push(object);
    }
    tally.present.blobs += present.length;
    tally.present.bytes += present.length * first.size;
    if (missing.length === 0) continue;
    if (present.length === 0) bytes += first.size;
    work.push({ from: present[0]?.key, missing });
  }
  const sending = work.filter(({ from }) => from === undefined).length;
  context.emit({ type: 'phase', phase: 'publish', title: `publishing to ${destination.location}` });
  context.emit({ type: 'transfer', bytes, blobs: sending, skippedBytes: tally.present.bytes });
  const free = await destination.freeBytes();
  if (free !== undefined && bytes > free) {
    throw new SealiftError(
      'destination-full',
      `not enough free space: got ${formatBytes(free)}, want ${formatBytes(bytes)}`,
      {
        subject: destination.location,
        got: free,
        want: bytes,
        hint: 'free some space and run the same command again',
      },
    );
  }
  const [root = [], , ...rest] = plan.stages;
  for (const object of root) await putPlanned(object, there, destination, source, tally, dryRun, context);
  await forEachLimited(work, concurrency, context.signal, async ({ from, missing }) => {
    let copyFrom = from;
    for (const object of missing) {
      copyFrom = await putBlob(object, copyFrom, destination, source, tally, dryRun, context);
    }
  });
  if (!dryRun) await destination.flush();
  for (const stage of rest) {
    await forEachLimited(stage, concurrency, context.signal, (object) =>
      putPlanned(object, there, destination, source, tally, dryRun, context),
    );
    if (!dryRun) await destination.flush();
  }
}

function groupBlobs(objects: readonly PlannedObject[]): ReadonlyMap<Digest, readonly PlannedObject[]> {
  const groups = new Map<Digest, PlannedObject[]>();
  for (const object of objects) {
    const group = groups.get(object.digest);
    if (group) group.push(object);
    else groups.set(object.digest, [object]);
  }
  return groups;
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

/** Lists of tags: those of the plan, and those that stay beside them. */
function listsOf(plan: PublishPlan, staying: readonly string[]): readonly Document[] {
  const others = new Map<string, string[]>();
  for (const key of staying) {
    const [, repository = '', tag = ''] = TAG_KEY.exec(key) ?? [];
    others.set(repository, [...(others.get(repository) ?? []), tag]);
  }
  return [...plan.tags].map(([repository, tags]) => {
    const all = [...new Set([...tags, ...(others.get(repository) ?? [])])].sort();
    const bytes = tagsList(repository, all);
    const key = tagsListKey(repository);
    return {
      key,
      mediaType: 'application/json',
      size: bytes.length,
      digest: digestOf(bytes),
      mutable: true,
      bytes,
    };
  });
}

// ---------------------------------------------------------------- removing

interface Strays {
  readonly tags: readonly string[];
  readonly lists: readonly string[];
  /** Keys that are named by a digest, and fallback tags. */
  readonly objects: readonly string[];
}

/** What is there and not wanted, of the kinds a sync makes; anything else is nobody's business. */
function straysOf(
  there: ReadonlyMap<string, Listed>,
  wanted: ReadonlySet<string>,
  plan: PublishPlan,
  scope: string | undefined,
): Strays {
  const tags: string[] = [];
  const lists: string[] = [];
  const objects: string[] = [];
  for (const key of there.keys()) {
    if (wanted.has(key) || key === ROOT_KEY || (scope !== undefined && !key.startsWith(scope))) continue;
    const [, repository, tag] = TAG_KEY.exec(key) ?? [];
    // A nested repository of somebody else's was listed only because its key begins alike.
    if (scope === undefined && repository !== undefined && !plan.tags.has(repository)) continue;
    if (tag !== undefined && !FALLBACK.test(tag)) tags.push(key);
    else if (tag !== undefined || DIGEST_KEY.test(key)) objects.push(key);
    else if (LIST_KEY.test(key)) lists.push(key);
  }
  return { tags: tags.sort(), lists: lists.sort(), objects: objects.sort() };
}

/** Which strays have been unneeded for long enough, in the order they go, and which wait. */
async function decide(
  strays: Strays,
  state: ReadonlyMap<string, string>,
  grace: number,
  destination: Destination,
  context: Context,
): Promise<{ now: readonly (readonly string[])[]; waiting: Map<string, string> }> {
  const waiting = new Map<string, string>();
  const due: string[] = [];
  for (const key of strays.objects) {
    const since = state.get(key) ?? formatTimestamp(context.now);
    const age = context.now.getTime() - Date.parse(since);
    // A time ahead of this clock would keep an object for ever.
    if (age >= grace) due.push(key);
    else waiting.set(key, age < 0 ? formatTimestamp(context.now) : since);
  }
  const isReferrers = (key: string): boolean => key.includes('/referrers/') || TAG_KEY.test(key);
  const manifests = due.filter((key) => key.includes('/manifests/') && !isReferrers(key));
  const indexes = new Set<string>();
  for (const key of manifests) {
    if (await isIndex(destination, key, context.limits.manifest)) indexes.add(key);
  }
  return {
    now: [
      due.filter(isReferrers),
      manifests.filter((key) => indexes.has(key)),
      manifests.filter((key) => !indexes.has(key)),
      due.filter((key) => key.includes('/blobs/')),
    ],
    waiting,
  };
}

/** Only decides the order in which manifests go that nothing needs; what cannot be read goes first. */
async function isIndex(destination: Destination, key: string, max: number): Promise<boolean> {
  try {
    const bytes = await destination.read(key, max);
    return (
      bytes === undefined ||
      Array.isArray((JSON.parse(bytes.toString('utf8')) as { manifests?: unknown }).manifests)
    );
  } catch (error) {
    if (isSealiftError(error) || error instanceof SyntaxError || error instanceof TypeError) return true;
    throw error;
  }
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

/** Since when objects are unneeded. A note that is damaged or of a newer kind only makes every grace period begin anew. */
function parseState(bytes: Buffer | undefined): ReadonlyMap<string, string> {
  if (!bytes) return new Map();
  try {
    const document = parseDocument(bytes, { file: STATE_KEY, hint: '', maxBytes: STATE_MAX });
    if (document.integer('formatVersion') !== 1) return new Map();
    return new Map(
      document
        .objects('unneeded')
        .map((item) => [item.string('key'), item.string('since', TIMESTAMP)] as const),
    );
  } catch (error) {
    if (isSealiftError(error)) return new Map();
    throw error;
  }
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
