/**
 * The moving picture on a terminal: an inline Ink view on standard error. Loaded only when it is shown.
 * Written without JSX so that the program also runs straight from source.
 */
import { Box, render, Static, Text, useWindowSize } from 'ink';
import { createElement as h, type ReactElement, useEffect, useState } from 'react';
import { pictureLines } from './picture.ts';
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
