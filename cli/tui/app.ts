/** The program without its screen: a stack of pages, the keys that reach them, and the work they start. */
import { availableParallelism } from 'node:os';
import type { Context } from '../../core/context.ts';
import { inert, SealiftError, toSealiftError } from '../../core/errors.ts';
import type { SealiftEvent } from '../../core/events.ts';
import type { WorkerPool } from '../../core/pool/pool.ts';
import type { StatePaths } from '../options/paths.ts';
import type { Style } from '../output/style.ts';
import type { Workflows } from '../workflows.ts';
import { type Action, actionOf, type KeyPress } from './keys.ts';
import type { Machine } from './machine.ts';
import type { Page } from './page.ts';
import { helpPage } from './pages/help.ts';

export interface AppOptions {
  readonly workflows: Workflows;
  readonly machine: Machine;
  readonly paths: StatePaths;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly home: string;
  readonly cwd: string;
  readonly actor: string;
  readonly pid: number;
  /** Read once for every workflow that is started. */
  readonly readNow: () => Date;
  readonly clock: () => number;
  /** Aborts when the process is told to stop. */
  readonly signal: AbortSignal;
  /** What Ctrl-C does outside of raw mode: the first time `signal` aborts, the second the process ends. */
  readonly interrupt: () => void;
  readonly style: Style;
  /** Writes to the terminal beside the pages; for the clipboard. */
  readonly writeTerminal: (text: string) => void;
  /** Told when blobs begin to move, and when none move any more. */
  readonly onTransfer?: (transferring: boolean) => void;
}

export interface App {
  readonly options: AppOptions;
  readonly page: Page;
  readonly pages: readonly Page[];
  /** A line above the footer, until the next key. */
  readonly note: string;
  readonly stopping: boolean;
  /** What is left behind on the screen: results and refusals, as the commands print them. */
  readonly summary: readonly string[];
  push(page: Page): void;
  /** In place of `old`, wherever it is in the stack, with everything above it. */
  replace(old: Page, page: Page): void;
  pop(page?: Page): void;
  /** Back to the first page. */
  home(): void;
  changed(): void;
  subscribe(listener: () => void): () => void;
  press(keys: readonly KeyPress[]): void;
  say(note: string): void;
  copy(text: string, what: string): void;
  leaveBehind(text: string): void;
  /** How what was stopped goes on; told after the program has ended. */
  resumeHint: string | undefined;
  quit(): void;
  /** Runs a workflow; it is stopped with the program, and the program waits for it. */
  work<T>(
    run: (context: Context) => Promise<T>,
    options: { readonly emit?: (event: SealiftEvent) => void; readonly signal?: AbortSignal },
  ): Promise<T>;
  /** Settles when the program is to end and nothing runs any more. */
  readonly ended: Promise<void>;
  /** Ends threads. */
  close(): Promise<void>;
}

export function createApp(options: AppOptions, first: (app: App) => Page): App {
  const listeners = new Set<() => void>();
  const summary: string[] = [];
  const running = new Set<Promise<unknown>>();
  const transferring = new Set<symbol>();
  const end = Promise.withResolvers<void>();
  let pool: Promise<WorkerPool> | undefined;
  let pages: Page[] = [];
  let note = '';
  let stopping = false;
  let ending = false;

  function moves(work: symbol, now: boolean): void {
    const before = transferring.size > 0;
    if (now) transferring.add(work);
    else transferring.delete(work);
    if (transferring.size > 0 !== before) options.onTransfer?.(!before);
  }

  function finish(): void {
    if (ending) return;
    ending = true;
    for (const page of pages) page.closed?.();
    Promise.allSettled(running).then(
      () => end.resolve(),
      () => end.resolve(),
    );
  }
  options.signal.addEventListener('abort', () => {
    stopping = true;
    app.changed();
    finish();
  });

  function dispatch(action: Action): void {
    const { page } = app;
    // While work is being stopped only the second Ctrl-C means anything.
    if (action !== 'stop' && (stopping || ending)) return;
    if (action !== 'stop' && page.act(action)) return;
    switch (action) {
      case 'stop':
        options.interrupt();
        break;
      case 'help':
        app.push(helpPage(app, page));
        break;
      case 'quit':
        if (pages.some((one) => one.busy === true)) app.say('work is going on; Ctrl-C stops it');
        else app.quit();
        break;
      case 'back':
        if (page.busy === true) app.say('work is going on; Ctrl-C stops it');
        else if (pages.length > 1) app.pop();
        else app.say('q leaves');
        break;
      default:
        break;
    }
  }

  const app: App = {
    options,
    summary,
    resumeHint: undefined,
    get page() {
      return pages.at(-1) as Page;
    },
    get pages() {
      return pages;
    },
    get note() {
      return note;
    },
    get stopping() {
      return stopping;
    },
    push: (page) => {
      pages = [...pages, page];
      app.changed();
    },
    replace: (old, page) => {
      const at = pages.indexOf(old);
      // It was left meanwhile; what it led to is not wanted any more.
      if (at < 0) return;
      for (const gone of pages.slice(at)) gone.closed?.();
      pages = [...pages.slice(0, at), page];
      app.changed();
    },
    pop: (page = app.page) => {
      const at = pages.indexOf(page);
      if (at < 1) return;
      for (const gone of pages.slice(at)) gone.closed?.();
      pages = pages.slice(0, at);
      app.page.shown?.();
      app.changed();
    },
    home: () => {
      const second = pages[1];
      if (second !== undefined) app.pop(second);
    },
    changed: () => {
      for (const listener of listeners) listener();
    },
    subscribe: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    press: (keys) => {
      note = '';
      for (const key of keys) {
        const { page } = app;
        const { field } = page;
        if (field !== undefined && !stopping && field.take(key)) page.typed?.();
        else {
          // In a field letters are text; what is left are keys without one.
          const actions = page.keys.map(({ action }) => action);
          const action =
            field !== undefined && key.name.length === 1 ? undefined : actionOf(key.name, actions);
          if (action !== undefined) dispatch(action);
        }
      }
      app.changed();
    },
    say: (text) => {
      // What failed, and what a directory holds, is told in words from outside.
      note = inert(text, 1000);
      app.changed();
    },
    copy: (text, what) => {
      // OSC 52: the terminal, not a program on this machine, puts it on the clipboard; some are told not to.
      options.writeTerminal(`\u001b]52;c;${Buffer.from(text).toString('base64')}\u0007`);
      app.say(`${what} sent to the terminal's clipboard (OSC 52)`);
    },
    leaveBehind: (text) => {
      summary.push(text);
    },
    quit: finish,
    work: async (run, { emit = () => {}, signal }) => {
      const parts = [options.signal, ...(signal === undefined ? [] : [signal])];
      const me = Symbol('work');
      const task = (async () => {
        try {
          pool ??= options.workflows.createPool(Math.max(1, Math.min(8, availableParallelism())));
          const context: Context = {
            now: options.readNow(),
            signal: AbortSignal.any(parts),
            limits: await options.workflows.limits(),
            pool: await pool,
            emit: (event) => {
              if (event.type === 'transfer') moves(me, true);
              emit(event);
            },
          };
          context.signal.throwIfAborted();
          return await run(context);
        } catch (error) {
          const known = toSealiftError(error);
          throw options.signal.aborted && known.code === 'cancelled'
            ? new SealiftError('cancelled', known.message, { cause: error })
            : known;
        }
      })();
      running.add(task);
      try {
        return await task;
      } finally {
        running.delete(task);
        moves(me, false);
      }
    },
    ended: end.promise,
    close: async () => {
      await (await pool)?.close();
    },
  };
  pages = [first(app)];
  return app;
}
