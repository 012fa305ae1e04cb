/** The program on a terminal without a window: keys in, the grid of characters out. */
import { PassThrough } from 'node:stream';
import xterm from '@xterm/headless';
import { createStyle } from '../../cli/output/style.ts';
import { type App, type AppOptions, createApp } from '../../cli/tui/app.ts';
import { createMachine } from '../../cli/tui/machine.ts';
import type { Page } from '../../cli/tui/page.ts';
import { startPage } from '../../cli/tui/pages/start.ts';
import { showScreen } from '../../cli/tui/screen.ts';
import { coreWorkflows } from '../../cli/workflows.ts';
import type { World } from '../../fixtures/world.ts';

export interface TestScreen {
  readonly app: App;
  readonly written: string[];
  /** The grid as text, without blanks at the ends of lines. */
  text(): string;
  lines(): readonly string[];
  /** True where any character of the grid is more than plain. */
  styled(): boolean;
  type(keys: string): Promise<void>;
  waitFor(text: string | RegExp | (() => boolean), what?: string): Promise<string>;
  resize(columns: number, rows: number): Promise<void>;
  alternate(): boolean;
  close(): Promise<void>;
}

export interface ScreenOptions {
  readonly columns?: number;
  readonly rows?: number;
  readonly color?: boolean;
  readonly unicode?: boolean;
  readonly spoken?: boolean;
  readonly first?: (app: App) => Page;
  readonly options?: Partial<AppOptions>;
}

/** Paths of a world; media are the directories of `mounts`. */
export function appOptions(
  world: Pick<World, 'directory' | 'collection' | 'gate' | 'store'>,
  { color = true, unicode = true, columns = 80 }: ScreenOptions,
): AppOptions {
  const from = 'environment' as const;
  const surroundings = { env: {}, uid: 1000, home: world.directory, cwd: world.directory };
  return {
    workflows: {
      ...coreWorkflows,
      createPool: async () => (await import('../../core/pool/worker-pool.ts')).createWorkerPool({ size: 0 }),
    },
    machine: createMachine(surroundings, { mounts: '/nonexistent' }),
    paths: {
      collection: { path: world.collection, from },
      gate: { path: world.gate, from },
      store: { path: world.store, from },
      gateBehindSudo: undefined,
    },
    env: {},
    home: world.directory,
    cwd: world.directory,
    actor: 'tester',
    pid: process.pid,
    readNow: () => new Date('2026-03-01T00:00:00Z'),
    clock: () => performance.now(),
    signal: new AbortController().signal,
    interrupt: () => {},
    style: createStyle({ color, unicode, columns }),
    writeTerminal: () => {},
  };
}

export async function openScreen(
  world: Pick<World, 'directory' | 'collection' | 'gate' | 'store'>,
  options: ScreenOptions = {},
): Promise<TestScreen> {
  const { columns = 80, rows = 24, first = startPage } = options;
  const terminal = new xterm.Terminal({ cols: columns, rows, allowProposedApi: true, convertEol: true });
  const stdout = Object.assign(new PassThrough(), { isTTY: true, columns, rows });
  let drawn: Promise<void> = Promise.resolve();
  stdout.on('data', (part: Buffer) => {
    drawn = drawn.then(() => new Promise((resolve) => terminal.write(part, resolve)));
  });
  const stdin = Object.assign(new PassThrough(), {
    isTTY: true,
    isRaw: false,
    setRawMode: () => stdin,
    ref: () => stdin,
    unref: () => stdin,
  });
  const written: string[] = [];
  const app = createApp(
    { ...appOptions(world, options), writeTerminal: (text) => written.push(text), ...options.options },
    first,
  );
  const screen = showScreen(app, {
    stdin,
    stdout,
    ...(options.spoken === true ? { screenReader: true } : {}),
  });
  const settle = async (): Promise<void> => {
    await new Promise((resolve) => setTimeout(resolve, 5));
    await screen.flushed();
    await drawn;
  };
  const test: TestScreen = {
    app,
    written,
    lines: () => {
      const { active } = terminal.buffer;
      return Array.from(
        { length: terminal.rows },
        (_, at) => active.getLine(active.viewportY + at)?.translateToString(true) ?? '',
      );
    },
    text: () => test.lines().join('\n'),
    styled: () => {
      const { active } = terminal.buffer;
      for (let y = 0; y < terminal.rows; y += 1) {
        const line = active.getLine(active.viewportY + y);
        for (let x = 0; x < terminal.cols; x += 1) {
          const cell = line?.getCell(x);
          if (cell && !cell.isAttributeDefault()) return true;
        }
      }
      return false;
    },
    type: async (keys) => {
      stdin.write(keys);
      // Ink waits for the rest of a sequence before it takes escape for itself; on a busy machine it is late.
      if (keys.endsWith('\u001b')) await new Promise((resolve) => setTimeout(resolve, 300));
      await settle();
    },
    waitFor: async (wanted, what = String(wanted)) => {
      const until = performance.now() + 15_000;
      for (;;) {
        await settle();
        const text = test.text();
        const found =
          typeof wanted === 'string'
            ? text.includes(wanted)
            : typeof wanted === 'function'
              ? wanted()
              : wanted.test(text);
        if (found) return text;
        if (performance.now() > until) throw new Error(`${what} did not come:\n${text}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    resize: async (nextColumns, nextRows) => {
      terminal.resize(nextColumns, nextRows);
      stdout.columns = nextColumns;
      stdout.rows = nextRows;
      stdout.emit('resize');
      await settle();
    },
    alternate: () => terminal.buffer.active.type === 'alternate',
    close: async () => {
      app.quit();
      await app.ended;
      await screen.close();
      await drawn;
      await app.close();
      terminal.dispose();
    },
  };
  await settle();
  return test;
}

export const KEYS = {
  enter: '\r',
  esc: '\u001b',
  up: '\u001b[A',
  down: '\u001b[B',
  left: '\u001b[D',
  pageDown: '\u001b[6~',
  tab: '\t',
} as const;
