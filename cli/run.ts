/**
 * One run of the program: arguments in, exit code out. The only place that builds the surroundings of core,
 * chooses how things are shown, prints a result and turns an error into words and a number.
 */
import { availableParallelism } from 'node:os';
import type { Context } from '../core/context.ts';
import { inert, isSealiftError, SealiftError, toSealiftError } from '../core/errors.ts';
import type { SealiftEvent } from '../core/events.ts';
import { tellOddities } from '../core/gate/ownership.ts';
import type { WorkerPool } from '../core/pool/pool.ts';
import type { Args } from './args.ts';
import type { Command, Outcome, Runtime, TextView } from './command.ts';
import { COMPLETE } from './commands/completion.ts';
import { completions } from './completions.ts';
import { EXIT_CODES, exitCodeOf, type StopSignal } from './exit-codes.ts';
import { helpFor, mainHelp } from './help.ts';
import { createPassphraseProviders } from './options/passphrase.ts';
import { actorName, resolvePaths, type StatePaths } from './options/paths.ts';
import { askConfirmation, openTerminal, readLine } from './options/prompts.ts';
import { gpgSettings } from './options/signer.ts';
import { errorText } from './output/error-text.ts';
import { confirmationText } from './output/report.ts';
import {
  createJsonStatus,
  createPlainStatus,
  createQuietStatus,
  type StatusHandler,
} from './output/status.ts';
import { createStyle, type Style, wantsAnimation, wantsColor, wantsUnicode } from './output/style.ts';
import type { Workflows } from './workflows.ts';

/** Format of the JSON document (docs/json-output.md). */
export const JSON_SCHEMA_VERSION = 1;

type Output = NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number };

/** What a run is given; the process in `process.ts`, something made up in tests. */
export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly platform: string;
  readonly cwd: string;
  readonly home: string;
  readonly uid: number | undefined;
  readonly pid: number;
  readonly stdin: NodeJS.ReadableStream & { readonly isTTY?: boolean };
  readonly stdout: Output;
  readonly stderr: Output;
  /** Read once for a run. */
  readonly now: Date;
  /** Milliseconds that never go back; for rates only. */
  readonly clock: () => number;
  readonly signal: AbortSignal;
  /** Which signal stopped the run, if one did. */
  stoppedBy(): StopSignal | undefined;
  /** What Ctrl-C does, for a screen that reads every key itself. */
  readonly interrupt?: () => void;
  /** Told how the terminal is put right on the shortest way out. */
  onAbandon(abandon: () => void): void;
  readonly commands: readonly Command[];
  readonly workflows: Workflows;
}

interface Screen {
  readonly json: boolean;
  readonly quiet: boolean;
  readonly silent: boolean;
  readonly debug: boolean;
  readonly out: Style;
  readonly err: Style;
  readonly status: StatusHandler;
}

/** Does what the arguments say. Never rejects. */
export async function runSealift(argv: readonly string[], surroundings: Surroundings): Promise<number> {
  const { stdout, stderr, env } = surroundings;
  const width = (stream: Output): number => stream.columns ?? 80;
  if (argv[0] === COMPLETE) {
    const words = completions(argv.slice(1), surroundings.commands);
    stdout.write(words.map((word) => `${word}\n`).join(''));
    return EXIT_CODES.done[0];
  }
  if (argv.length === 0) {
    if (canOpenScreen(surroundings)) return openScreen(surroundings);
    stderr.write(mainHelp(surroundings.commands, width(stderr)));
    return EXIT_CODES.usage[0];
  }
  const help = helpFor(argv, surroundings.commands, width(stdout));
  if (help !== undefined) {
    stdout.write(help);
    return EXIT_CODES.done[0];
  }
  // Before the arguments are understood their mistakes must be shown as asked for, too.
  const asked = (option: string): boolean =>
    argv.slice(0, argv.indexOf('--') < 0 ? argv.length : argv.indexOf('--')).includes(option);
  const unicode = wantsUnicode(env, surroundings.platform);
  const styleOf = (stream: Output, noColor: boolean): Style =>
    createStyle({ color: wantsColor(env, stream.isTTY === true, noColor), unicode, columns: width(stream) });
  let screen: Screen = {
    json: asked('--json'),
    quiet: false,
    silent: asked('--silent'),
    debug: asked('--debug'),
    out: styleOf(stdout, asked('--no-color')),
    err: styleOf(stderr, asked('--no-color')),
    status: createQuietStatus(() => {}, styleOf(stderr, true)),
  };
  let command: Command | undefined;
  try {
    const { parseArguments } = await import('./parse.ts');
    const parsed = await parseArguments(argv, surroundings.commands);
    ({ command } = parsed);
    screen = await chooseScreen(parsed.args, command, surroundings, screen);
    surroundings.onAbandon(screen.status.abandon);
    const { status } = screen;
    surroundings.signal.addEventListener('abort', () => {
      if (stderr.isTTY !== true || surroundings.stoppedBy() === undefined) return;
      status.take({
        type: 'notice',
        level: 'info',
        code: 'stopping',
        message: 'stopping; Ctrl-C again stops at once',
      });
    });
    return await runCommand(command, parsed.args, surroundings, screen);
  } catch (thrown) {
    await screen.status.stop().catch(() => {});
    return reportError(
      whyStopped(toSealiftError(thrown), command, surroundings),
      command,
      surroundings,
      screen,
    );
  }
}

/** Whether there is a person at a terminal that can show pages. */
function canOpenScreen({ env, stdin, stdout, interrupt }: Surroundings): boolean {
  return interrupt !== undefined && stdin.isTTY === true && wantsAnimation(env, stdout.isTTY === true);
}

/** `sealift` alone: the interactive program. */
async function openScreen(surroundings: Surroundings): Promise<number> {
  const { env, stdin, stdout, stderr, signal, stoppedBy, platform, interrupt } = surroundings;
  const style = createStyle({
    color: wantsColor(env, stdout.isTTY === true, false),
    unicode: wantsUnicode(env, platform),
    columns: stdout.columns ?? 80,
  });
  try {
    const { runTui } = await import('./tui/run.ts');
    const { left, resumeHint } = await runTui({
      ...surroundings,
      paths: resolvePaths(NO_ARGS, surroundings),
      actor: actorName(env),
      interrupt: interrupt ?? (() => {}),
      style,
      stdin: stdin as NodeJS.ReadStream,
      stdout: stdout as NodeJS.WriteStream,
    });
    if (left) return EXIT_CODES.done[0];
    const reason = isSealiftError(signal.reason) ? signal.reason : new SealiftError('cancelled', 'stopped');
    throw reason.with({ hint: resumeHint });
  } catch (thrown) {
    const error = toSealiftError(thrown);
    stderr.write(`${errorText(error, style)}\n`);
    return exitCodeOf(error, stoppedBy());
  }
}

/** What was aborted says only that; the reason is in the signal, and what to do depends on the command. */
function whyStopped(
  error: SealiftError,
  command: Command | undefined,
  { signal, stoppedBy }: Surroundings,
): SealiftError {
  if (error.code !== 'cancelled' || !signal.aborted || !isSealiftError(signal.reason)) return error;
  const goesOn = stoppedBy() !== undefined && RESUMABLE.has(command?.words[0] ?? '');
  return signal.reason.with({
    check: error.check,
    hint: goesOn ? 'the same command goes on where this one stopped' : undefined,
  });
}

/** Commands that go on with what an interrupted run left. */
const RESUMABLE = new Set(['export', 'import', 'sync']);

/** Chosen once: picture on a terminal, lines elsewhere, JSON lines or nothing when asked for. */
async function chooseScreen(
  args: Args,
  command: Command,
  surroundings: Surroundings,
  before: Screen,
): Promise<Screen> {
  const { env, stdin, stderr, stdout, clock } = surroundings;
  const noColor = args.flag('no-color');
  const columns = (stream: Output): number => stream.columns ?? 80;
  const style = (stream: Output): Style =>
    createStyle({
      color: wantsColor(env, stream.isTTY === true, noColor),
      unicode: before.out.unicode,
      columns: columns(stream),
    });
  const err = style(stderr);
  const silent = Object.hasOwn(command.options, 'silent') && args.flag('silent');
  const quiet = args.flag('quiet') || silent;
  const json =
    args.flag('json') || (Object.hasOwn(command.options, 'format') && args.text('format') === 'json');
  const write = (line: string): void => {
    stderr.write(`${line}\n`);
  };
  async function chooseStatus(): Promise<StatusHandler> {
    if (silent) return createQuietStatus(() => {}, err);
    if (args.flag('progress-json')) return createJsonStatus(write);
    if (quiet || args.flag('no-progress')) return createQuietStatus(write, err);
    if (wantsAnimation(env, stderr.isTTY === true) && !args.flag('verbose')) {
      const { createTtyStatus } = await import('./output/tty-status.ts');
      return createTtyStatus({
        style: err,
        stderr: stderr as NodeJS.WriteStream,
        stdin: stdin as NodeJS.ReadStream,
        clock,
      });
    }
    return createPlainStatus(write, err, { verbose: args.flag('verbose'), clock });
  }
  return {
    json,
    quiet,
    silent,
    debug: args.flag('debug'),
    out: style(stdout),
    err,
    status: await chooseStatus(),
  };
}

async function runCommand(
  command: Command,
  args: Args,
  surroundings: Surroundings,
  screen: Screen,
): Promise<number> {
  const { stdout, stderr, stdin, env, signal, now, workflows } = surroundings;
  const { status } = screen;
  let stdoutClaimed = false;
  let pool: WorkerPool | undefined;
  let context: Promise<Context> | undefined;

  function notice(level: 'info' | 'warning', code: string, message: string): void {
    status.take({ type: 'notice', level, code, message });
  }
  async function whileAsking<T>(ask: () => Promise<T>): Promise<T> {
    await status.pause();
    try {
      return await ask();
    } finally {
      status.resume();
    }
  }
  async function buildContext(): Promise<Context> {
    const [limits, made] = await Promise.all([
      workflows.limits(),
      workflows.createPool(Math.max(1, Math.min(8, availableParallelism()))),
    ]);
    pool = made;
    return { now, signal, limits, pool: made, emit: (event: SealiftEvent) => status.take(event) };
  }

  const noInput = args.flag('no-input');
  const paths = resolvePaths(args, surroundings);
  const providers = createPassphraseProviders(
    // Commands without a key have none of these options.
    Object.hasOwn(command.options, 'passphrase-file') ? args : NO_ARGS,
    { stdin, stderr, signal, noInput, notice, whileAsking },
  );
  const mayAsk =
    !noInput && !args.flag('yes') && !screen.json && stdin.isTTY === true && stderr.isTTY === true;
  const textView: TextView = {
    style: screen.out,
    now,
    checksShown: status.showsChecks && stdout.isTTY === true && stderr.isTTY === true,
  };
  const runtime: Runtime = {
    args,
    paths,
    workflows,
    passphrase: providers.existing,
    newPassphrase: providers.fresh,
    gpg: gpgSettings({ env, stdin, signal, noInput, passphraseGiven: providers.fromOptions }),
    ask: async (prompt, echo) =>
      noInput
        ? undefined
        : whileAsking(async () => {
            const terminal = openTerminal({ stdin, stderr });
            if (terminal === undefined) return undefined;
            try {
              return await readLine(terminal, prompt, echo, signal);
            } finally {
              terminal.close();
            }
          }),
    confirm: mayAsk
      ? (found, store) =>
          whileAsking(async () => {
            const terminal = openTerminal({ stdin, stderr });
            if (terminal === undefined) return true;
            try {
              const view = { style: screen.err, now, checksShown: status.showsChecks };
              stderr.write(`${confirmationText(found, view)}\n`);
              return await askConfirmation(terminal, `Import into ${inert(store, 4096)}?`, signal);
            } finally {
              terminal.close();
            }
          })
      : undefined,
    now,
    signal,
    pid: surroundings.pid,
    env,
    cwd: surroundings.cwd,
    actor: actorName(env),
    stdin,
    stdout,
    verbose: args.flag('verbose'),
    columns: screen.out.columns,
    context: () => {
      context ??= buildContext();
      return context;
    },
    notice,
    claimStdout: () => {
      stdoutClaimed = true;
      return stdout;
    },
  };
  // A dry run needs none.
  const isDry = Object.hasOwn(command.options, 'dry-run') && args.flag('dry-run');
  if (!screen.quiet && !isDry) showPaths(command, paths, notice);
  for (const kind of STATE_IN_USE[command.words.join(' ')] ?? [])
    await tellOddities(kind, paths[kind].path, surroundings.uid, notice);
  try {
    const outcome = await command.run(runtime);
    await status.stop();
    printOutcome(command, outcome, stdoutClaimed ? stderr : stdout, screen, textView);
    await outcome.running;
    return outcome.exitCode ?? EXIT_CODES.done[0];
  } finally {
    await pool?.close();
  }
}

const NO_ARGS: Args = {
  flag: () => false,
  text: () => undefined,
  list: () => [],
  integer: () => undefined,
  positional: () => undefined,
  positionals: () => [],
};

/** Whose owners are looked at before a command works on it. */
const STATE_IN_USE: Readonly<Record<string, readonly ('collection' | 'gate')[]>> = {
  export: ['collection'],
  'trust publish': ['collection'],
  verify: ['gate'],
  import: ['gate'],
  receipt: ['gate'],
  approve: ['gate'],
  'trust pin': ['gate'],
  'trust status': ['gate'],
  'trust audit': ['gate'],
};

/** Which state a command works on is said before it does. */
function showPaths(
  command: Command,
  paths: StatePaths,
  notice: (level: 'info' | 'warning', code: string, message: string) => void,
): void {
  const used: Readonly<Record<string, readonly ('collection' | 'gate' | 'store')[]>> = {
    export: ['collection'],
    verify: ['gate'],
    import: ['gate'],
    'trust pin': ['gate'],
    'trust status': ['gate'],
  };
  const kinds = used[command.words.join(' ')] ?? [];
  for (const kind of kinds) notice('info', `${kind}-used`, `${kind}: ${paths[kind].path}`);
  if (kinds.includes('gate') && paths.gateBehindSudo !== undefined) {
    notice(
      'warning',
      'gate-of-another-user',
      `with sudo this is root's gate; there is another one at ${paths.gateBehindSudo}, which this command does not use (--gate chooses)`,
    );
  }
}

function printOutcome(
  command: Command,
  outcome: Outcome,
  stream: Output,
  screen: Screen,
  view: TextView,
): void {
  if (screen.silent && !screen.json) return;
  if (screen.json) {
    const exitCode = outcome.exitCode ?? EXIT_CODES.done[0];
    stream.write(
      `${JSON.stringify({
        schemaVersion: JSON_SCHEMA_VERSION,
        ok: exitCode === 0,
        exitCode,
        command: command.words.join(' '),
        result: outcome.result,
      })}\n`,
    );
    return;
  }
  const text = screen.quiet ? (outcome.quiet ?? '') : outcome.text(view);
  if (text !== '') stream.write(`${text}\n`);
}

function reportError(
  error: SealiftError,
  command: Command | undefined,
  { stdout, stderr, stoppedBy }: Surroundings,
  screen: Screen,
): number {
  const exitCode = exitCodeOf(error, stoppedBy());
  if (!screen.silent) stderr.write(`${errorText(error, screen.err, screen.debug)}\n`);
  if (screen.json) {
    const { code, message, subject, got, want, hint, check, failures } = error;
    stdout.write(
      `${JSON.stringify({
        schemaVersion: JSON_SCHEMA_VERSION,
        ok: false,
        exitCode,
        command: command === undefined ? null : command.words.join(' '),
        error: { code, message, subject, got, want, hint, check, failures },
      })}\n`,
    );
  }
  return exitCode;
}
