/** Whether an export can have every layer where a delta is among its sources; asked before anything is signed. */
import type { Context } from '../context.ts';
import { SealiftError } from '../errors.ts';
import type { SourceSet } from '../exporting/sources.ts';
import type { Digest } from '../oci/digest.ts';
import type { Content, ContentBlob, ImageRequest } from '../transport/collect.ts';
import { formatBytes } from '../util/format.ts';
import { count, nameLacking } from './base.ts';
import type { LeftOut } from './leave-out.ts';

/**
 * @param requests what `content` was collected from, in the same order
 * @throws SealiftError `base-needed` where layers that a delta leaves out are nowhere that was named
 */
export async function assertComplete(
  content: Content,
  leftOut: LeftOut | undefined,
  requests: readonly ImageRequest[],
  sources: Pick<SourceSet, 'elsewhere'>,
  context: Context,
): Promise<void> {
  const delta = requests.find(({ source }) => source.base !== undefined)?.source;
  if (!delta) return;
  const missing = new Map<Digest, ContentBlob>();
  for (const blob of content.blobs.values()) {
    context.signal.throwIfAborted();
    if (blob.kind !== 'layer' || leftOut?.digests.has(blob.digest)) continue;
    if (await isAtHand(blob, requests)) continue;
    if ((await sources.elsewhere(blob)).length === 0) missing.set(blob.digest, blob);
  }
  if (missing.size === 0) return;
  const byName = new Map<string, Digest[]>();
  for (const { digest, images } of missing.values()) {
    for (const name of new Set([...images].map((index) => requests[index]?.name ?? '')))
      byName.set(name, [...(byName.get(name) ?? []), digest]);
  }
  const sizes = new Map([...missing].map(([digest, { size }]) => [digest, size] as const));
  const bytes = [...sizes.values()].reduce((sum, size) => sum + size, 0);
  // Sources answer in no order that could be told.
  const lacking = [...byName.keys()].sort().map((name) => ({ name, blobs: byName.get(name)?.sort() ?? [] }));
  nameLacking(lacking, sizes, context);
  throw new SealiftError(
    'base-needed',
    `${delta.location} is a delta on version ${delta.base}, and ${count(missing.size, 'layer')} (${formatBytes(bytes)}) of ${count(lacking.length, 'image')} are in no place that was named`,
    {
      subject: lacking[0]?.name,
      got: content.blobs.size - missing.size,
      want: content.blobs.size,
      hint: 'name an earlier bundle or a store that has them: --blobs-from EARLIER; or leave them out again, for whoever has them: --since WHAT for an export, --keep-delta for bundle merge, subset and repack',
    },
  );
}

/** Whether one of the sources of its images has it, as far as that can be told. */
async function isAtHand(blob: ContentBlob, requests: readonly ImageRequest[]): Promise<boolean> {
  for (const index of blob.images) {
    const source = requests[index]?.source;
    if (source && (!source.holds || (await source.holds(blob)))) return true;
  }
  return false;
}
