/** What was done at a destination, in words. */
import { inert } from '../../core/errors.ts';
import type { DestinationResult } from '../../core/publish/apply.ts';
import type { VerifyDestinationResult } from '../../core/verify-destination.ts';
import type { TextView } from '../command.ts';
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

const MOST_LINES = 20;

/** What was found at a place that clients pull from. */
export function examinationText(result: VerifyDestinationResult, { style }: TextView): string {
  const { proofs, missing, wrong, foreign, leftovers } = result;
  const damaged = result.images.filter(({ whole }) => !whole);
  const verdict = result.good
    ? `${style.pass} ${style.good('right')}`
    : missing + wrong > 0
      ? `${style.fail} ${style.bad('damaged')}`
      : `${style.attention} ${style.warn('not alone')}`;
  const some = (list: readonly string[]): readonly string[] =>
    list.length <= MOST_LINES
      ? list
      : [...list.slice(0, MOST_LINES), `  … and ${list.length - MOST_LINES} more; --json has all`];
  const faults = result.objects.flatMap(({ key, fault, detail }) =>
    fault === undefined
      ? []
      : [`  ${style.bad(fault)} ${inert(key, 4096)}${detail === undefined ? '' : `: ${inert(detail)}`}`],
  );
  const count = (number: number, what: string): string => (number === 0 ? '' : `  ${number} ${what}`);
  return [
    `${verdict}  ${style.bold(inert(result.location, 4096))}: ${plural(result.images.length, 'image')}, ${plural(result.objects.length, 'object')}, as ${result.wantedBy === 'gate' ? 'the gate has it' : 'it is in the store'}`,
    count(proofs.content, 'read whole and hashed'),
    count(proofs.checksum, 'by the SHA-256 that the server has'),
    count(proofs.etag, 'by the MD5 that the server has'),
    count(proofs.size, 'by their size alone; --deep reads them'),
    count(missing, 'missing'),
    count(wrong, 'wrong'),
    ...some(faults),
    ...some(damaged.map(({ name }) => `  ${style.fail} cannot be pulled whole: ${inert(name)}`)),
    ...some(foreign.map((key) => `  ${style.attention} nothing here put it there: ${inert(key, 4096)}`)),
    result.catalogHost === undefined
      ? ''
      : `  the catalog page sends clients to ${style.bold(inert(result.catalogHost))}`,
    leftovers.objects === 0
      ? ''
      : `  ${plural(leftovers.objects, 'object')}, ${formatSize(leftovers.bytes)}, not needed any more; --prune takes them away`,
    ...nextSteps(result),
  ]
    .filter((line) => line !== '')
    .join('\n');
}

function nextSteps({
  missing,
  wrong,
  foreign,
  wantedBy,
  location,
}: VerifyDestinationResult): readonly string[] {
  const steps: string[] = [];
  const again =
    wantedBy === 'store'
      ? `sealift sync ${inert(location, 4096)}`
      : `sealift import BUNDLE --to ${inert(location, 4096)}`;
  if (missing + wrong > 0) steps.push(`    ${again} --repair`);
  if (foreign.length > 0) steps.push(`    ${again} --prune`);
  return steps.length === 0 ? [] : ['', 'Next', ...steps];
}
