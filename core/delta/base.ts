/** The check `base` (docs/receipts-and-deltas.md): whether what a delta left out is here, and whose layers are not. */
import type { BundleManifest } from '../bundle/manifest.ts';
import type { Context } from '../context.ts';
import { SealiftError } from '../errors.ts';
import type { Checklist } from '../judge.ts';
import { type Digest, digestOfBlobPath } from '../oci/digest.ts';
import type { BaseSummary } from '../results.ts';
import { fullName } from '../transport/bundle/names.ts';
import { mapLimited } from '../util/concurrency.ts';
import { formatBytes } from '../util/format.ts';

/** Who may have the layers that a delta left out. */
export interface BaseHolder {
  /** In words: `the store`. */
  readonly words: string;
  /** Names that are asked for, in any spelling; empty for all. What only others need is not missed. */
  readonly only: readonly string[];
  holds(digest: Digest, size: number): Promise<boolean>;
  /** What to do where something is missing; what an import into a store can do unless given. */
  readonly hint?: string;
  /** Told of what is missing before the check refuses. */
  readonly onMissing?: ((shortfall: Shortfall) => Promise<void>) | undefined;
}

export interface Shortfall {
  /** Version of the delta. */
  readonly version: number;
  readonly base: number;
  /** In the order of the bundle. */
  readonly images: readonly { readonly name: string; readonly blobs: readonly Digest[] }[];
  readonly blobs: number;
  readonly bytes: number;
}

/** Files looked at at once. */
const LANES = 16;
/** Images that are named one by one. */
const NAMED = 50;

/** What a delta leaves out; undefined for a whole bundle. */
export function baseSummary(manifest: BundleManifest): BaseSummary | undefined {
  const { base } = manifest;
  return (
    base && {
      version: base.version,
      blobs: base.missing.length,
      bytes: base.missing.reduce((sum, { size }) => sum + size, 0),
    }
  );
}

/**
 * @param blobsByImage digests of each image's blobs by its name; asked for only where something is missing
 * @throws SealiftError `base-needed`
 */
export async function checkBase(
  manifest: BundleManifest,
  holder: BaseHolder | undefined,
  blobsByImage: () => Promise<ReadonlyMap<string, ReadonlySet<Digest>>>,
  checklist: Checklist,
  context: Context,
): Promise<void> {
  const { base } = manifest;
  const summary = baseSummary(manifest);
  if (!base || !summary) {
    await checklist.run('base', () => [undefined, 'complete, no base needed']);
    return;
  }
  const size = `${count(summary.blobs, 'layer')}, ${formatBytes(summary.bytes)}`;
  if (!holder) {
    checklist.skip('base', `a delta on version ${base.version}: ${size} must be there; not looked for here`);
    return;
  }
  await checklist.run('base', async () => {
    const found = await mapLimited(base.missing, LANES, context.signal, async (blob) => {
      const digest = digestOfBlobPath(blob.name);
      return (await holder.holds(digest, blob.size)) ? undefined : { digest, size: blob.size };
    });
    const missing = new Map(found.flatMap((blob) => (blob ? [[blob.digest, blob.size] as const] : [])));
    const there = `a delta on version ${base.version}: ${size}, all in ${holder.words}`;
    if (missing.size === 0) return [undefined, there];
    const byImage = await blobsByImage();
    const only = new Set(holder.only.map(fullName));
    const images = manifest.images.flatMap(({ name }) => {
      if (only.size > 0 && !only.has(name)) return [];
      const blobs = [...(byImage.get(name) ?? [])].filter((digest) => missing.has(digest));
      return blobs.length === 0 ? [] : [{ name, blobs }];
    });
    const [first] = images;
    if (!first) return [undefined, `${there} save ${count(missing.size, 'layer')} of images not asked for`];
    const lacking = new Set(images.flatMap(({ blobs }) => blobs));
    const bytes = [...lacking].reduce((sum, digest) => sum + (missing.get(digest) ?? 0), 0);
    nameLacking(images, missing, context);
    await holder.onMissing?.({
      version: manifest.version,
      base: base.version,
      images,
      blobs: lacking.size,
      bytes,
    });
    throw new SealiftError(
      'base-needed',
      `the bundle is a delta on version ${base.version}, and ${count(lacking.size, 'layer')} (${formatBytes(bytes)}) of ${count(images.length, 'image')} are not in ${holder.words}`,
      {
        subject: first.name,
        got: summary.blobs - missing.size,
        want: summary.blobs,
        hint:
          holder.hint ??
          'if an earlier bundle has them, name it: sealift import BUNDLE --blobs-from EARLIER; if not, sealift import BUNDLE --request FILE writes what the other side takes with: sealift export … --since FILE',
      },
    );
  });
}

/** Tells of each image what it lacks. @param sizes of what is missing */
export function nameLacking(
  images: Shortfall['images'],
  sizes: ReadonlyMap<Digest, number>,
  context: Context,
): void {
  for (const { name, blobs } of images.slice(0, NAMED)) {
    const needs = blobs.slice(0, 4).map((digest) => `${digest} (${formatBytes(sizes.get(digest) ?? 0)})`);
    const more = blobs.length > needs.length ? ` and ${blobs.length - needs.length} more` : '';
    const message = `${name} lacks ${needs.join(', ')}${more}`;
    context.emit({ type: 'notice', level: 'warning', code: 'base-missing', message });
  }
}

export function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? '' : 's'}`;
}
