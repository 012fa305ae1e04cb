/** Ink's part: puts the lines on the terminal, hands keys over, gives the terminal back. Written without JSX. */
import { Box, render, Text, useInput, useIsScreenReaderEnabled, useWindowSize } from 'ink';
import { createElement as h, type ReactElement, useEffect, useState } from 'react';
import type { App } from './app.ts';
import { frame } from './frame.ts';
import { decodeKeys } from './keys.ts';

/** Milliseconds between pictures while something runs. */
const EVERY = 200;
/** The same where each picture is read out. */
const EVERY_SPOKEN = 10_000;

function Screen({ app }: { readonly app: App }): ReactElement {
  const [, setFrame] = useState(0);
  const size = useWindowSize();
  const screenReader = useIsScreenReaderEnabled();
  const busy = app.pages.some((page) => page.busy === true);
  useEffect(() => app.subscribe(() => setFrame((count) => count + 1)), [app]);
  useEffect(() => {
    if (!busy) return undefined;
    const every = screenReader ? EVERY_SPOKEN : EVERY;
    const timer = setInterval(() => setFrame((count) => count + 1), every);
    return () => clearInterval(timer);
  }, [busy, screenReader]);
  useInput((input, key) => app.press(decodeKeys(input, key)));
  const lines = frame(app, size, screenReader);
  return h(
    Box,
    { flexDirection: 'column' },
    ...lines.map((line, at) => h(Text, { key: at, wrap: 'truncate' }, line === '' ? ' ' : line)),
  );
}

export interface ScreenStreams {
  readonly stdin: NodeJS.ReadableStream;
  readonly stdout: NodeJS.WritableStream;
  readonly screenReader?: boolean;
}

export interface ShownScreen {
  /** Gives the terminal back. */
  close(): Promise<void>;
  /** The same on the shortest way out. */
  abandon(): void;
  /** Settles when everything drawn so far has been written. */
  flushed(): Promise<void>;
}

export function showScreen(app: App, { stdin, stdout, screenReader }: ScreenStreams): ShownScreen {
  const instance = render(h(Screen, { app }), {
    stdin,
    stdout,
    // Nothing may be written beside the picture; what is left behind comes when it is gone.
    stderr: stdout,
    interactive: true,
    // A screen reader reads what was written, line after line; a screen that vanishes takes it away.
    alternateScreen: screenReader !== true,
    incrementalRendering: true,
    exitOnCtrlC: false,
    patchConsole: false,
    maxFps: 30,
    ...(screenReader === undefined ? {} : { isScreenReaderEnabled: screenReader }),
  });
  return {
    close: async () => {
      instance.unmount();
      await instance.waitUntilExit();
    },
    abandon: () => instance.unmount(),
    flushed: () => instance.waitUntilRenderFlush(),
  };
}
