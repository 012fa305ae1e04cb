/** The moving part of a progress view as lines; what shows them is elsewhere. */
import { inert } from '../../core/errors.ts';
import { formatSeconds, formatSize, plural, shortDigest } from './format.ts';
import type { ProgressStore } from './progress-store.ts';
import type { Style } from './style.ts';

/** A bar of `width` characters, such as `█████░░░` or `#####---`. */
export function bar(share: number, width: number, unicode: boolean): string {
  const full = Math.round(Math.min(1, Math.max(0, share)) * width);
  return (unicode ? '█' : '#').repeat(full) + (unicode ? '░' : '-').repeat(width - full);
}

/** The lines of one picture, already cut to the room there is. */
export function pictureLines(
  store: ProgressStore,
  style: Style,
  now: number,
  columns: number,
  rows: number,
): readonly string[] {
  const lines: string[] = [];
  const width = Math.max(8, Math.min(30, columns - 50));
  const clip = (text: string): string =>
    text.length >= columns ? text.slice(0, Math.max(0, columns - 1)) : text;
  if (store.phase !== '') lines.push(clip(inert(store.phase)));
  const { total } = store;
  if (total === undefined) return lines;
  const blobs = store.active();
  // Phase, total and a spare row stay; blobs get the rest, and at least half the screen is left to the reader.
  const room = Math.max(1, Math.min(rows - 4, Math.floor(rows / 2), 8));
  for (const blob of blobs.slice(0, blobs.length > room ? room - 1 : room)) {
    const share = blob.size === 0 ? 1 : blob.bytes / blob.size;
    lines.push(
      clip(
        `  ${shortDigest(blob.digest).padEnd(19)} ${bar(share, width, style.unicode)} ${formatSize(blob.bytes).padStart(8)} of ${formatSize(blob.size)}`,
      ),
    );
  }
  if (blobs.length > room) lines.push(clip(`  and ${plural(blobs.length - room + 1, 'more blob')}`));
  const share = total.bytes === 0 ? 1 : store.doneBytes / total.bytes;
  const rate = store.rate(now);
  const left = store.left(now);
  lines.push(
    clip(
      `  ${`${store.doneBlobs} of ${plural(total.blobs, 'blob')}`.padEnd(19)} ${bar(share, width, style.unicode)} ${`${Math.floor(Math.min(1, share) * 100)} %`.padStart(5)}  ${formatSize(store.doneBytes)} of ${formatSize(total.bytes)}${rate === undefined ? '' : `  ${formatSize(rate)}/s`}${left === undefined ? '' : `  ${formatSeconds(left)} left`}`,
    ),
  );
  return lines;
}
