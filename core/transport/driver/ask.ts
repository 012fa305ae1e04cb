/**
 * One question to a driver (docs/drivers.md): one process, the question on its standard input, the answer on its
 * standard output. Nothing it does is trusted: it has a limit, a time and an end.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import type { Context } from '../../context.ts';
import { type ErrorCode, inert, SealiftError } from '../../errors.ts';
import type { Environment } from '../../programs.ts';

export type DriverAction = 'capabilities' | 'list' | 'resolve' | 'manifest' | 'blob' | 'referrers';

export interface Driver {
  /** `sealift-transport-NAME` */
  readonly program: string;
  /** Its path. */
  readonly file: string;
  /** The location, for messages. */
  readonly location: string;
  readonly environment: Environment;
  /** Milliseconds it may be silent. */
  readonly timeoutMs: number;
  /** Ends a group of processes. */
  readonly endGroup: ((group: number, signal: 'SIGTERM' | 'SIGKILL') => void) | undefined;
}

export interface DriverQuestion {
  readonly action: DriverAction;
  /** What it is asked, beside the protocol's version. */
  readonly request: Readonly<Record<string, string | number>>;
  /** Most bytes of an answer. */
  readonly limit: number;
  /** Milliseconds until the whole answer has to be there. */
  readonly longestMs?: number | undefined;
}

export const DRIVER_PROTOCOL = 1;

/** What an exit code says (docs/drivers.md). Everything else but 0 is a failure like any other. */
const EXITS: ReadonlyMap<number, readonly [ErrorCode, string]> = new Map([
  [3, ['source-not-found', 'has no such thing']],
  [4, ['source-unauthorized', 'may not read it']],
]);

/** Milliseconds to tidy up after being asked to end. */
const PATIENCE = 2000;
/** Milliseconds for what a program has left running to let go of its output. */
const LAST_WORDS = 1000;
const MOST_MESSAGE = 4096;

type Child = ChildProcessByStdio<Writable, Readable, Readable>;

interface Ended {
  readonly code: number | null;
  readonly signal: string | null;
  readonly cause?: unknown;
}

/**
 * The bytes of an answer, which counts once this has ended without an error. Ending early ends the program.
 * @throws SealiftError `source-too-large`, `source-unreachable` where it fails, hangs or cannot be started,
 *   `source-not-found` and `source-unauthorized` where it says so, `cancelled`
 */
export async function* askDriver(
  driver: Driver,
  { action, request, limit, longestMs }: DriverQuestion,
  context: Context,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { signal } = context;
  signal.throwIfAborted();
  const child = start(driver, action);
  const watched = watch(child, driver);
  const said = lastWords(child.stderr);
  const failed = (what: string, cause?: unknown) =>
    new SealiftError('source-unreachable', `${inert(driver.program)} ${what}`, {
      subject: driver.location,
      hint: said() === '' ? tryByHand(driver) : `it says: ${said()}`,
      cause,
    });

  let received = 0;
  let waiting = false;
  let late: string | undefined;
  const giveUp = (why: string): void => {
    late ??= why;
    child.stdout.destroy();
  };
  /** What it left behind may hold its output open for ever; what it wrote itself is read before. */
  const letGo = (): void => {
    const before = received;
    setImmediate(() => {
      if (waiting && received === before) child.stdout.destroy();
    });
  };
  const idle = setTimeout(() => {
    if (!waiting) return;
    if (watched.hasEnded()) letGo();
    else giveUp(`wrote nothing for ${driver.timeoutMs} ms`);
  }, driver.timeoutMs);
  const whole =
    longestMs === undefined
      ? undefined
      : setTimeout(() => giveUp(`gave no whole answer within ${longestMs} ms`), longestMs);
  const abort = (): void => {
    child.stdout.destroy();
    // Whoever reads may be a while coming back.
    void watched.stop();
  };
  signal.addEventListener('abort', abort, { once: true });
  let linger: NodeJS.Timeout | undefined;
  void watched.ended.then(() => {
    linger = setTimeout(letGo, LAST_WORDS);
  });
  // A program that ends without reading is judged by its answer.
  child.stdin.on('error', () => {});
  child.stdin.end(`${JSON.stringify({ protocol: DRIVER_PROTOCOL, ...request })}\n`);

  try {
    const iterator = child.stdout[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    for (;;) {
      waiting = true;
      idle.refresh();
      // A pipe that is destroyed while it is waited for ends with an error; why, is known.
      const next = await iterator.next().catch(() => ({ done: true as const, value: undefined }));
      waiting = false;
      signal.throwIfAborted();
      if (late !== undefined) throw failed(late);
      if (next.done === true) break;
      received += next.value.length;
      if (received > limit) {
        throw new SealiftError(
          'source-too-large',
          `${inert(driver.program)} wrote more than it should: want at most ${limit} bytes`,
          { subject: driver.location, want: limit },
        );
      }
      yield next.value;
    }
    const end = await watched.endWithin(driver.timeoutMs, signal);
    signal.throwIfAborted();
    if (end === undefined) throw failed(`did not end within ${driver.timeoutMs} ms of its answer`);
    if (end.cause !== undefined) throw failed('cannot be started', end.cause);
    if (end.code !== 0) throw exitFailure(end, failed);
    if (said() !== '')
      context.emit({
        type: 'notice',
        level: 'info',
        code: 'driver-says',
        message: `${inert(driver.program)}: ${said()}`,
      });
  } finally {
    clearTimeout(idle);
    clearTimeout(whole);
    clearTimeout(linger);
    signal.removeEventListener('abort', abort);
    child.stdout.destroy();
    await watched.stop();
    child.stderr.destroy();
  }
}

function start({ file, environment, endGroup }: Driver, action: DriverAction): Child {
  return spawn(file, [action], {
    env: { ...environment } as NodeJS.ProcessEnv,
    stdio: ['pipe', 'pipe', 'pipe'],
    shell: false,
    // A process group of its own, where there is somebody who can end one.
    detached: endGroup !== undefined,
  });
}

interface Watched {
  readonly ended: Promise<Ended>;
  hasEnded(): boolean;
  /** Undefined where it goes on. */
  endWithin(milliseconds: number, signal: AbortSignal): Promise<Ended | undefined>;
  /** Ends it, where it has not ended, and everything in its group. */
  stop(): Promise<void>;
}

function watch(child: Child, { endGroup }: Driver): Watched {
  let end: Ended | undefined;
  const kill = (signal: 'SIGTERM' | 'SIGKILL'): void => {
    if (child.pid === undefined) return;
    if (endGroup) endGroup(child.pid, signal);
    else child.kill(signal);
  };
  const ended = new Promise<Ended>((resolve) => {
    const tell = (what: Ended): void => {
      end ??= what;
      resolve(end);
    };
    child.once('error', (cause) => tell({ code: null, signal: null, cause }));
    child.once('exit', (code, signal) => {
      kill('SIGKILL');
      tell({ code, signal });
    });
  });
  const within = async (milliseconds: number, signal?: AbortSignal): Promise<Ended | undefined> => {
    let timer: NodeJS.Timeout | undefined;
    let abort: (() => void) | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), milliseconds);
      abort = () => resolve(undefined);
      signal?.addEventListener('abort', abort, { once: true });
    });
    try {
      return await Promise.race([ended, late]);
    } finally {
      clearTimeout(timer);
      if (abort) signal?.removeEventListener('abort', abort);
    }
  };
  return {
    ended,
    hasEnded: () => end !== undefined,
    endWithin: within,
    async stop() {
      if (end !== undefined) return;
      kill('SIGTERM');
      if ((await within(PATIENCE)) !== undefined) return;
      kill('SIGKILL');
      await within(PATIENCE);
    },
  };
}

/** The last line of what is said, made inert; the rest is let go of as it comes. */
function lastWords(stderr: Readable): () => string {
  let kept = '';
  stderr.on('error', () => {});
  stderr.on('data', (part: Buffer) => {
    kept = (kept + part.toString('utf8')).slice(-MOST_MESSAGE);
  });
  return () =>
    inert(
      kept
        .trim()
        .split(/[\r\n]+/)
        .at(-1) ?? '',
      300,
    );
}

function exitFailure(
  { code, signal }: Ended,
  failed: (what: string, cause?: unknown) => SealiftError,
): SealiftError {
  const known = code === null ? undefined : EXITS.get(code);
  const error = failed(
    known?.[1] ?? (code === null ? `was ended by ${signal ?? 'a signal'}` : `ended with exit code ${code}`),
  );
  if (!known) return error;
  return new SealiftError(known[0], error.message, { subject: error.subject, hint: error.hint });
}

function tryByHand({ program }: Driver): string {
  return `try it by hand: echo '{"protocol":${DRIVER_PROTOCOL}}' | ${inert(program)} capabilities`;
}
