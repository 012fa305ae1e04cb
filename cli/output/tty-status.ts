import { createProgressStore } from './progress-store.ts';
import type { StatusHandler } from './status.ts';
import type { Style } from './style.ts';

export interface TtyStatusOptions {
  readonly style: Style;
  readonly stderr: NodeJS.WriteStream;
  readonly stdin: NodeJS.ReadStream;
  readonly clock: () => number;
}

const SHOW_CURSOR = '\u001b[?25h';

/** Progress as a picture. Ink is loaded at the first event, so that a quick refusal never waits for it. */
export function createTtyStatus({ style, stderr, stdin, clock }: TtyStatusOptions): StatusHandler {
  const store = createProgressStore();
  let printedUpTo = 0;
  let view: Promise<{ close(): Promise<void> }> | undefined;
  let paused = false;
  let stopped = false;

  async function show(): Promise<{ close(): Promise<void> }> {
    // Ink's colours know FORCE_COLOR only; with NO_COLOR beside it Node prints a warning. Children see the same.
    process.env['FORCE_COLOR'] = style.color ? '1' : '0';
    delete process.env['NO_COLOR'];
    process.env['NODE_ENV'] ??= 'production';
    const { showProgress } = await import('./progress-view.ts');
    return showProgress({ store, style, stderr, stdin, clock, printedUpTo });
  }
  async function close(): Promise<void> {
    const open = view;
    view = undefined;
    if (open === undefined) return;
    await (await open).close();
    printedUpTo = store.lines.at(-1)?.key ?? printedUpTo;
  }
  return {
    showsChecks: true,
    take: (event) => {
      store.take(event, clock());
      if (!paused && !stopped) view ??= show();
    },
    pause: async () => {
      paused = true;
      await close();
    },
    resume: () => {
      paused = false;
    },
    stop: async () => {
      stopped = true;
      // Lines that came while no picture was shown are owed.
      if (view === undefined && (store.lines.at(-1)?.key ?? 0) > printedUpTo) view = show();
      await close();
    },
    abandon: () => {
      if (view !== undefined) stderr.write(SHOW_CURSOR);
    },
  };
}
