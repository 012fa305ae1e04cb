import type { Context } from '../core/context.ts';
import type { VerifyResult } from '../core/results.ts';
import type { GpgSettings, PassphraseProvider } from '../core/workflow-options.ts';
import type { Args, OptionGroup } from './args.ts';
import type { StatePaths } from './options/paths.ts';
import type { Style } from './output/style.ts';
import type { Workflows } from './workflows.ts';

export interface PositionalSpec {
  readonly name: string;
  readonly describe: string;
  readonly required?: boolean;
  readonly many?: boolean;
}

/** What a text rendering may take into account. */
export interface TextView {
  readonly style: Style;
  /** The checks were shown on the same screen while they ran; they need not be listed again. */
  readonly checksShown: boolean;
  readonly now: Date;
}

/** What a command hands back. It never prints; `text` is called only where text is wanted. */
export interface Outcome {
  /** The `result` of the JSON document. */
  readonly result: unknown;
  readonly text: (view: TextView) => string;
  /** With --quiet: the one value a script wants, or nothing. */
  readonly quiet?: string | undefined;
  readonly exitCode?: number | undefined;
  /** Runs on after the result was printed (serve). */
  readonly running?: Promise<void> | undefined;
}

/** What a command is given. */
export interface Runtime {
  readonly args: Args;
  readonly paths: StatePaths;
  readonly workflows: Workflows;
  readonly passphrase: PassphraseProvider;
  /** A passphrase for a new key: asked twice on a terminal. */
  readonly newPassphrase: PassphraseProvider;
  /**
   * Asks at the terminal for a line; what is typed shows with `echo` only. Undefined where there is nobody to ask.
   * @throws SealiftError `cancelled`
   */
  readonly ask: (prompt: string, echo: boolean) => Promise<string | undefined>;
  /** How the gpg program is reached. */
  readonly gpg: GpgSettings;
  /** Undefined where there is nobody to ask. */
  readonly confirm: ((found: VerifyResult, store: string) => Promise<boolean>) | undefined;
  /** Milliseconds since 1970 are never read again: every decision of the run uses this. */
  readonly now: Date;
  readonly signal: AbortSignal;
  readonly pid: number;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  /** Who runs this, for locks and the audit log. */
  readonly actor: string;
  readonly stdin: NodeJS.ReadStream | NodeJS.ReadableStream;
  readonly stdout: NodeJS.WritableStream;
  readonly verbose: boolean;
  readonly columns: number;
  /** The surroundings for core; threads are started the first time. */
  context(): Promise<Context>;
  notice(level: 'info' | 'warning', code: string, message: string): void;
  /** Standard output carries the bundle: no result text goes there. */
  claimStdout(): NodeJS.WritableStream;
}

export interface Command {
  readonly words: readonly string[];
  readonly summary: string;
  /** A paragraph for `--help`. */
  readonly about?: string;
  readonly positionals?: readonly PositionalSpec[];
  readonly options: OptionGroup;
  readonly examples: readonly string[];
  readonly run: (runtime: Runtime) => Promise<Outcome>;
}
