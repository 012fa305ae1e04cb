/**
 * The moving picture on a terminal: an inline Ink view on standard error. Loaded only when it is shown.
 * Written without JSX so that the program also runs straight from source.
 */
import { Box, render, Static, Text, useWindowSize } from 'ink';
import { createElement as h, type ReactElement, useEffect, useState } from 'react';
import { inert } from '../../core/errors.ts';
import { formatSeconds, formatSize, plural, shortDigest } from './format.ts';
import type { DoneLine, ProgressStore } from './progress-store.ts';
import { statusLine } from './status.ts';
import type { Style } from './style.ts';

/** Pictures a second, at most. */
const FRAMES = 10;

export interface ViewOptions {
  readonly store: ProgressStore;
  readonly style: Style;
  readonly stderr: NodeJS.WriteStream;
  readonly stdin: NodeJS.ReadStream;
  readonly clock: () => number;
  /** Lines up to this key were printed by an earlier view. */
  readonly printedUpTo: number;
}

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

function Picture({
  store,
  style,
  clock,
  printedUpTo,
  closing,
}: ViewOptions & { readonly closing?: boolean }): ReactElement {
  const [, setFrame] = useState(0);
  const { columns, rows } = useWindowSize();
  useEffect(() => {
    const timer = setInterval(() => setFrame((frame) => frame + 1), 1000 / FRAMES);
    return () => clearInterval(timer);
  }, []);
  const done = store.lines.filter((line) => line.key > printedUpTo);
  return h(
    Box,
    { flexDirection: 'column' },
    h(Static<DoneLine>, {
      items: done,
      // biome-ignore lint/correctness/noChildrenProp: Static takes its renderer as children
      children: (line: DoneLine) =>
        h(
          Text,
          { key: line.key, wrap: 'truncate' },
          line.event.type === 'phase' ? '' : statusLine(line.event, style),
        ),
    }),
    ...(closing === true ? [] : pictureLines(store, style, clock(), columns, rows)).map((line, index) =>
      h(Text, { key: `p${index}`, wrap: 'truncate' }, line),
    ),
  );
}

export interface View {
  /** Takes the picture away, leaves the lines, gives the cursor back. */
  close(): Promise<void>;
}

export function showProgress(options: ViewOptions): View {
  const instance = render(h(Picture, options), {
    // Standard output is for results; the picture belongs to the messages.
    stdout: options.stderr,
    stderr: options.stderr,
    stdin: options.stdin,
    interactive: true,
    exitOnCtrlC: false,
    patchConsole: false,
    maxFps: FRAMES,
  });
  return {
    close: async () => {
      // One last picture without its moving part: lines that came since the one before are printed and stay.
      instance.rerender(h(Picture, { ...options, closing: true }));
      await instance.waitUntilRenderFlush();
      instance.unmount();
      await instance.waitUntilExit();
    },
  };
}
