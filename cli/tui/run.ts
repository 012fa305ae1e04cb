/** `sealift` on a terminal: opens the program, waits until it is left, leaves a plain summary behind. */
import type { StatePaths } from '../options/paths.ts';
import type { Style } from '../output/style.ts';
import type { Workflows } from '../workflows.ts';
import { createApp } from './app.ts';
import { tuneHeap } from './heap.ts';
import { createMachine } from './machine.ts';
import { startPage } from './pages/start.ts';

export interface TuiOptions {
  readonly workflows: Workflows;
  readonly paths: StatePaths;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly home: string;
  readonly uid: number | undefined;
  readonly cwd: string;
  readonly actor: string;
  readonly pid: number;
  readonly clock: () => number;
  readonly signal: AbortSignal;
  readonly interrupt: () => void;
  readonly style: Style;
  readonly stdin: NodeJS.ReadStream;
  readonly stdout: NodeJS.WriteStream;
  /** Told how the terminal is put right on the shortest way out. */
  onAbandon(abandon: () => void): void;
}

const MAIN_SCREEN = '\u001b[?1049l\u001b[?25h';

export interface TuiEnd {
  /** False where it was stopped. */
  readonly left: boolean;
  /** How what was stopped goes on. */
  readonly resumeHint: string | undefined;
}

/** Words only: symbols would be read out by their names, or not at all. */
export function spokenStyle(style: Style): Style {
  return { ...style, pass: '', fail: '', attention: 'note:', skip: '', dash: 'to' };
}

export async function runTui(options: TuiOptions): Promise<TuiEnd> {
  const { style, stdin, stdout, signal, env, home, uid, cwd } = options;
  // Ink's colours know FORCE_COLOR only; with NO_COLOR beside it Node prints a warning.
  process.env['FORCE_COLOR'] = style.color ? '1' : '0';
  delete process.env['NO_COLOR'];
  process.env['NODE_ENV'] ??= 'production';
  tuneHeap(false);
  const spoken = env['INK_SCREEN_READER'] === 'true';
  const { showScreen } = await import('./screen.ts');
  const app = createApp(
    {
      ...options,
      style: spoken ? spokenStyle(style) : style,
      machine: createMachine({ env, home, uid, cwd }),
      readNow: () => new Date(),
      onTransfer: tuneHeap,
      writeTerminal: (text) => {
        stdout.write(text);
      },
    },
    startPage,
  );
  const screen = showScreen(app, {
    stdin,
    stdout,
    ...(spoken ? { screenReader: true } : {}),
  });
  options.onAbandon(() => {
    screen.abandon();
    if (stdin.isTTY && stdin.isRaw) stdin.setRawMode(false);
    stdout.write(MAIN_SCREEN);
  });
  try {
    await app.ended;
  } finally {
    await screen.close();
    options.onAbandon(() => {});
    await app.close();
  }
  const summary = app.summary.join('\n\n');
  if (summary !== '') stdout.write(`${summary}\n`);
  return { left: !signal.aborted, resumeHint: app.resumeHint };
}
