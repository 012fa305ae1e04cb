/** Diff: what changed between two bundles, stores or images, before anything is let in. It compares claims. */
import type { Context } from './context.ts';
import type { BlobSources } from './delta/blobs-from.ts';
import { isReceiptFile } from './delta/receipt.ts';
import { applyLayer, compareTrees, copyTree, emptyTree, type FileTree } from './diff/files.ts';
import { type CompareFiles, diffImages, sizesOf } from './diff/image.ts';
import { diffReceipt } from './diff/receipt.ts';
import type { DiffImage, DiffResult, ImageDiff } from './diff/result.ts';
import { openSide, type Side } from './diff/side.ts';
import { isSealiftError, SealiftError } from './errors.ts';
import { type Digest, parseDigest } from './oci/digest.ts';
import { isTarLayer } from './oci/media-types.ts';
import type { CollectedImage } from './transport/collect.ts';
import type { SourceOptions } from './transport/source.ts';

export type { DiffResult } from './diff/result.ts';

export interface DiffOptions {
  /** Locations; of a place on disk, its path. The first may be a receipt. */
  readonly before: string;
  readonly after: string;
  /** Reads the layers of what moved and compares the files in them. */
  readonly files: boolean;
  /** Earlier bundles and stores in which layers are looked for that a delta leaves out. */
  readonly blobsFrom?: readonly string[] | undefined;
  readonly source: SourceOptions;
}

/**
 * Compares two bundles, stores or images; layers are only read where files are asked for.
 * @throws SealiftError of the locations; `name-not-found` where one image is compared with a place that has none of its
 *   name; `receipt-invalid`, `receipt-mismatch`; with files `digest-mismatch` and `archive-invalid` of layers
 */
export async function diffLocations(options: DiffOptions, context: Context): Promise<DiffResult> {
  context.emit({ type: 'phase', phase: 'resolve', title: `reading ${options.before}` });
  if (await isReceiptFile(options.after)) {
    throw new SealiftError('unknown-location', 'a receipt can only be the first side', {
      subject: options.after,
      hint: 'sealift diff RECEIPT BUNDLE shows what the bundle would bring to the gate that wrote the receipt',
    });
  }
  const openAfter = () => openSide(options.after, options.source, context);
  if (await isReceiptFile(options.before)) {
    const after = await openAfter();
    try {
      return await diffReceipt(options.before, after);
    } finally {
      await after.close();
    }
  }
  const before = await openSide(options.before, options.source, context);
  try {
    context.emit({ type: 'phase', phase: 'resolve', title: `reading ${options.after}` });
    const after = await openAfter();
    let bag: BlobSources | undefined;
    try {
      if (options.blobsFrom && options.blobsFrom.length > 0) {
        const { openBlobSources } = await import('./delta/blobs-from.ts');
        bag = await openBlobSources(options.blobsFrom, context);
      }
      return await compareSides({ before, after }, bag, options, context);
    } finally {
      await bag?.close();
      await after.close();
    }
  } finally {
    await before.close();
  }
}

interface Sides {
  readonly before: Side;
  readonly after: Side;
}

async function compareSides(
  sides: Sides,
  bag: BlobSources | undefined,
  options: Pick<DiffOptions, 'files'>,
  context: Context,
): Promise<DiffResult> {
  const { before, after } = sides;
  const [old, young] = chooseImages(sides);
  context.emit({ type: 'phase', phase: 'compare', title: 'comparing' });
  const compareFiles = options.files ? fileComparison(sides, bag, context) : undefined;
  const bytesOf = sizesOf(after, ({ digest }) => before.content.blobs.has(digest));

  const moved: ImageDiff[] = [];
  const evidenceChanged: ImageDiff[] = [];
  const unchanged: DiffImage[] = [];
  const added: DiffResult['added'][number][] = [];
  const gone = {
    removed: [] as DiffImage[],
    withdrawn: [] as DiffResult['withdrawn'][number][],
    notCarried: [] as DiffResult['notCarried'][number][],
  };

  for (const [name, image] of old) {
    context.signal.throwIfAborted();
    const { digest } = image.manifest;
    const other = young.get(name);
    if (!other) {
      const tombstone = after.withdrawn.get(name);
      const spoken = after.spokenFor?.get(name);
      if (tombstone) gone.withdrawn.push({ name, digest, reason: tombstone.reason, at: tombstone.at });
      else if (spoken) gone.notCarried.push({ name, digest, moved: spoken !== digest });
      else gone.removed.push({ name, digest });
      continue;
    }
    const found = await diffImages({ before: image, after: other }, sides, bytesOf, compareFiles, context);
    if (found.before !== found.after) moved.push(found);
    else if (found.evidence.length > 0) evidenceChanged.push(found);
    else unchanged.push({ name, digest });
  }
  for (const [name, image] of young) {
    if (old.has(name)) continue;
    const { platforms } = image;
    added.push({ name, digest: image.manifest.digest, platforms, bytes: bytesOf(image) });
  }
  return {
    before: before.facts,
    after: after.facts,
    added,
    ...gone,
    moved,
    evidenceChanged,
    unchanged,
    ...countBlobs(sides, new Set(young.values())),
  };
}

type Images = ReadonlyMap<string, CollectedImage>;

/** By name; one image against a place is compared with that place's image of its name, two images whatever they are called. */
function chooseImages({ before, after }: Sides): readonly [Images, Images] {
  const byName = (side: Side): Images =>
    new Map([...side.images].sort((a, b) => (a.name < b.name ? -1 : 1)).map((image) => [image.name, image]));
  const [old, young] = [byName(before), byName(after)];
  const [first] = old.values();
  const [second] = young.values();
  if (before.single && after.single && first && second)
    return [new Map([[first.name, first]]), new Map([[first.name, second]])];
  const narrow = (images: Images, one: CollectedImage, side: Side): Images => {
    const found = images.get(one.name);
    if (!found) {
      throw new SealiftError('name-not-found', 'the other side has no image of that name', {
        subject: one.name,
        hint: `see what it has with: sealift inspect ${side.facts.location}`,
      });
    }
    return new Map([[one.name, found]]);
  };
  if (before.single && first) return [old, narrow(young, first, after)];
  if (after.single && second) return [narrow(old, second, before), young];
  return [old, young];
}

function countBlobs(
  { before, after }: Sides,
  images: ReadonlySet<CollectedImage>,
): Pick<DiffResult, 'carry' | 'shared'> {
  const carry = { blobs: 0, bytes: 0 };
  const shared = { blobs: 0, bytes: 0 };
  const wanted = new Set(after.images.flatMap((image, index) => (images.has(image) ? [index] : [])));
  for (const blob of after.content.blobs.values()) {
    if (![...blob.images].some((index) => wanted.has(index))) continue;
    const sum = before.content.blobs.has(blob.digest) ? shared : carry;
    sum.blobs += 1;
    sum.bytes += blob.size;
  }
  return { carry, shared };
}

/**
 * Layers both stacks begin with are read once; a layer that one side leaves out (a delta) comes from the other, or from
 * what was named beside them.
 */
function fileComparison(
  { before, after }: Sides,
  bag: BlobSources | undefined,
  context: Context,
): CompareFiles {
  return async (old, young) => {
    if (![...old, ...young].every(({ mediaType }) => isTarLayer(mediaType))) return undefined;
    let common = 0;
    while (common < old.length && old[common]?.digest === young[common]?.digest) common += 1;
    const add = async (tree: FileTree, layers: typeof old, sides: readonly Side[]) => {
      for (const layer of layers) {
        context.signal.throwIfAborted();
        const { size, mediaType } = layer;
        const digest = parseDigest(layer.digest);
        const content = () => openFirst(sides, bag, { digest, size, mediaType });
        await applyLayer(tree, { digest, content }, context);
      }
      return tree;
    };
    const base = await add(emptyTree(), old.slice(0, common), [before, after]);
    const left = await add(copyTree(base), old.slice(common), [before, after]);
    const right = await add(base, young.slice(common), [after, before]);
    return compareTrees(left, right);
  };
}

/** What a side answers that does not have a layer. */
const NOT_HERE: ReadonlySet<string> = new Set(['blob-missing', 'source-not-found', 'base-needed']);

async function openFirst(
  sides: readonly Side[],
  bag: BlobSources | undefined,
  layer: { readonly digest: Digest; readonly size: number; readonly mediaType: string },
): Promise<AsyncIterable<Uint8Array>> {
  let failure: unknown;
  const others = (await bag?.readings(layer.digest, layer.size)) ?? [];
  for (const open of [...sides.map((side) => () => side.open(layer)), ...others.map(({ read }) => read)]) {
    try {
      const content = (await open())[Symbol.asyncIterator]();
      const first = await content.next();
      return resumed(first, content);
    } catch (error) {
      if (!isSealiftError(error) || !NOT_HERE.has(error.code)) throw error;
      failure ??= error;
    }
  }
  throw failure;
}

async function* resumed(
  first: IteratorResult<Uint8Array>,
  rest: AsyncIterator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  try {
    for (let step = first; !step.done; step = await rest.next()) yield step.value;
  } finally {
    await rest.return?.();
  }
}
