/** What is at a destination, held against what ought to be there, and how strongly each object was looked at. */
import type { Context } from '../context.ts';
import type { Digest } from '../oci/digest.ts';
import { forEachLimited } from '../util/concurrency.ts';
import { listsOf, toPut } from './apply.ts';
import type { BlobSource, Destination, ObjectToPut, Proof } from './destination.ts';
import { type DocumentOptions, examineDocuments } from './examine-documents.ts';
import { type PlannedObject, type PublishPlan, STATE_KEY, stagesAt } from './plan.ts';
import { parseState, STATE_MAX, straysOf } from './strays.ts';

export interface ObjectReport {
  readonly key: string;
  readonly size: number;
  /** How it was found to be right; absent where it is missing or wrong. */
  readonly proof?: Proof | undefined;
  readonly fault?: 'missing' | 'wrong' | undefined;
  /** What is wrong, in words. */
  readonly detail?: string | undefined;
}

export interface Examination {
  /** Everything that is wanted, in the order it is written. */
  readonly objects: readonly ObjectReport[];
  readonly images: readonly { readonly name: string; readonly digest: string; readonly whole: boolean }[];
  /** Tags and indexes of evidence that nothing here put there: whoever pulls them gets what nobody has verified. */
  readonly foreign: readonly string[];
  /** Objects that are named by a digest and that nothing wants any more. */
  readonly leftovers: { readonly objects: number; readonly bytes: number; readonly waiting: number };
  /** Where the catalog page sends clients to; absent where it names no host. */
  readonly catalogHost?: string | undefined;
}

export interface ExamineOptions extends DocumentOptions {
  /** Reads every object whole. */
  readonly deep: boolean;
  readonly concurrency: number;
  /** Only below this key: `v2/` or `v2/PREFIX/`. */
  readonly scope: string;
  /** Blobs as they ought to be, where they are at hand. */
  readonly source?: BlobSource | undefined;
}

/** Reads, and changes nothing. @throws SealiftError what the destination refuses */
export async function examineDestination(
  plan: PublishPlan,
  destination: Destination,
  options: ExamineOptions,
  context: Context,
): Promise<Examination> {
  const there = await destination.list([options.scope]);
  const repositories = new Set(plan.tags.keys());
  const planned = stagesAt(plan, destination).flat();
  const wanted: (ObjectToPut & Pick<PlannedObject, 'kind'>)[] = planned.map((object) => ({
    ...toPut(object),
    kind: object.kind,
  }));
  for (const list of listsOf(repositories, plan, [])) wanted.push({ ...list, kind: 'root' });
  const keys = new Set(wanted.map(({ key }) => key));
  const strays = straysOf(there, keys, repositories, options.scope);

  const bytes = wanted.reduce((sum, { size }) => sum + size, 0);
  context.emit({ type: 'phase', phase: 'verify', title: `verifying ${destination.location}` });
  context.emit({ type: 'transfer', bytes, blobs: wanted.length, skippedBytes: 0 });
  const objects: ObjectReport[] = new Array(wanted.length);
  await forEachLimited(wanted.entries(), options.concurrency, context.signal, async ([at, object]) => {
    const { key, size, digest } = object;
    context.emit({ type: 'blob', state: 'started', digest, bytes: 0, size });
    const { deep, source } = options;
    objects[at] = { key, size, ...(await destination.examine(object, there.get(key), { deep, source })) };
    context.emit({ type: 'blob', state: 'done', digest, bytes: size, size });
  });

  const manifests = wanted.filter(({ kind }) => kind !== 'blob' && kind !== 'root');
  const documents = await examineDocuments(plan, destination, manifests, options, context.now);

  const bad = new Set<string>(wanted.filter((_, at) => objects[at]?.fault).map(badOf));
  const forged = strays.objects.filter((key) => isForgedIndex(key, plan));
  const leftovers = strays.objects.filter((key) => !forged.includes(key));
  const state = parseState(await destination.read(STATE_KEY, STATE_MAX));
  return {
    objects: [...objects, ...documents.objects],
    ...(documents.host === undefined ? {} : { catalogHost: documents.host }),
    images: plan.images.map(({ record: { name, digest }, places }) => ({
      name,
      digest,
      whole:
        !places.some((place) => bad.has(`tag ${place}`)) &&
        !reachOf(plan, [digest]).some((one) => bad.has(one)),
    })),
    foreign: [...strays.tags, ...strays.lists, ...forged].sort(),
    leftovers: {
      objects: leftovers.length,
      bytes: leftovers.reduce((sum, key) => sum + (there.get(key)?.size ?? 0), 0),
      waiting: leftovers.filter((key) => state.has(key)).length,
    },
  };
}

/** What a faulty object makes of images: a tag of one place, or all that reach a digest. */
function badOf({ key, kind, digest }: ObjectToPut & Pick<PlannedObject, 'kind'>): string {
  if (kind !== 'tag') return digest;
  const [, repository, tag] = /^v2\/(.+)\/manifests\/([^/]+)$/.exec(key) ?? [];
  return `tag ${repository}:${tag}`;
}

function reachOf(plan: PublishPlan, from: readonly Digest[]): readonly string[] {
  const reached = new Set<string>();
  const open: string[] = [...from];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (reached.has(next)) continue;
    reached.add(next);
    const manifest = plan.graph.get(next)?.manifest;
    if (!manifest) continue;
    for (const { digest } of [...manifest.manifests, ...manifest.layers]) open.push(digest);
    if (manifest.config) open.push(manifest.config.digest);
  }
  return [...reached];
}

/** Says what hangs on an image that is wanted, and is none of what came with it. */
function isForgedIndex(key: string, plan: PublishPlan): boolean {
  const [, api, hex] =
    /\/(?:referrers\/([^/]+)|manifests\/sha256-([0-9a-f]{64})(?:\.[a-z]+)?)$/.exec(key) ?? [];
  return plan.graph.has(api ?? `sha256:${hex}`);
}
