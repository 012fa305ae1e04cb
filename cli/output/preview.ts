/** What an export would carry, as text. */
import { inert } from '../../core/errors.ts';
import type { ExportPreview } from '../../core/results.ts';
import type { TextView } from '../command.ts';
import { failureText } from './error-text.ts';
import { kindsText } from './evidence-kinds.ts';
import { formatSize, plural, table } from './format.ts';

export function previewText(result: ExportPreview, { style }: TextView): string {
  const { images, failed, blobs, base, skipped } = result;
  return [
    ...images.flatMap((image) => [
      style.bold(inert(image.name)),
      `  ${style.dim(image.digest)}`,
      `  ${[
        image.platforms.length === 0 ? 'no platform' : image.platforms.map((text) => inert(text)).join(', '),
        formatSize(image.size),
      ].join(', ')}`,
      `  ${kindsText(image.evidenceKinds)}`,
      ...(image.digestMadeHere
        ? ['  digest made here: signatures of the image in a registry cannot apply to it']
        : []),
    ]),
    ...(failed.length === 0
      ? []
      : ['', style.bold('Cannot be had'), ...failed.flatMap((failure) => failureText(failure))]),
    ...(skipped.length === 0
      ? []
      : [
          '',
          style.bold('Left out'),
          ...table(
            skipped.map(({ value, place, reason }) => [value === '' ? '""' : value, place, reason]),
            '  ',
          ),
        ]),
    '',
    `${plural(images.length, 'image')}, ${plural(blobs.count, 'blob')}, ${formatSize(blobs.bytes)} in all; nothing was signed or written`,
    ...(base === undefined
      ? []
      : [
          `a delta on version ${base.version}: ${plural(base.blobs, 'layer')}, ${formatSize(base.bytes)}, would be left out beside that`,
        ]),
    ...(failed.length === 0
      ? []
      : [
          `${plural(failed.length, 'image')} cannot be had: an export of this list would stop before it signs`,
        ]),
  ]
    .map((line) => line.trimEnd())
    .join('\n');
}
