/** What was done at a destination, in words. */
import { inert } from '../../core/errors.ts';
import type { DestinationResult } from '../../core/publish/apply.ts';
import { formatSize, plural } from './format.ts';
import type { Style } from './style.ts';

export function destinationLines(
  one: DestinationResult,
  images: number,
  dryRun: boolean,
  style: Style,
): readonly string[] {
  const lines: string[] = [];
  const location = inert(one.location, 4096);
  if (!one.changed) {
    lines.push(
      `${style.pass} ${style.good('unchanged')}  ${location}: all ${plural(images, 'image')} were there already`,
    );
  } else {
    const mark = dryRun ? style.skip : style.pass;
    lines.push(
      `${mark} ${dryRun ? 'would publish' : style.good('published')}  ${plural(images, 'image')} at ${location}`,
    );
    lines.push(
      `  ${dryRun ? 'to send' : 'sent'} ${plural(one.sent.blobs, 'blob')}, ${formatSize(one.sent.bytes)}; there already ${plural(one.present.blobs, 'blob')}, ${formatSize(one.present.bytes)}; ${dryRun ? 'to copy' : 'copied'} over there ${plural(one.copied.blobs, 'blob')}`,
    );
    lines.push(
      `  tags ${dryRun ? 'to set' : 'set'} ${one.tags.set.length}, unchanged ${one.tags.unchanged}, ${dryRun ? 'to remove' : 'removed'} ${one.tags.removed.length}`,
    );
    for (const tag of one.tags.removed) lines.push(`  ${dryRun ? 'would remove' : 'removed'} ${inert(tag)}`);
    if (one.removed.objects > 0)
      lines.push(
        `  ${dryRun ? 'would delete' : 'deleted'} ${plural(one.removed.objects, 'object')}, ${formatSize(one.removed.bytes)}`,
      );
  }
  if (one.waiting.objects > 0) {
    lines.push(
      `  ${plural(one.waiting.objects, 'object')}, ${formatSize(one.waiting.bytes)}, ${one.waiting.objects === 1 ? 'is' : 'are'} not needed any more; a later run with --prune deletes what has waited long enough`,
    );
  }
  if (one.tags.unknown.length > 0) {
    lines.push(
      `  ${style.attention} ${plural(one.tags.unknown.length, 'tag')} at the destination that nothing here put there: ${one.tags.unknown
        .slice(0, 5)
        .map((tag) => inert(tag))
        .join(', ')}${one.tags.unknown.length > 5 ? ', …' : ''}; --prune takes them away`,
    );
  }
  return lines;
}
