import { spawn } from 'node:child_process';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { inert, SealiftError } from '../../core/errors.ts';
import type { PassphraseProvider } from '../../core/workflow-options.ts';
import type { Args, OptionGroup } from '../args.ts';
import { openTerminal, readLine, type TerminalStreams } from './prompts.ts';

/** A passphrase never comes as an argument or an environment variable: other users of the machine can read those. */
export const passphraseOptions = {
  'passphrase-file': {
    kind: 'text',
    value: 'FILE',
    describe: 'the first line of a file is the passphrase',
  },
  'passphrase-fd': {
    kind: 'text',
    value: 'N',
    describe: 'the passphrase is read from this open file descriptor',
  },
  'passphrase-command': {
    kind: 'text',
    value: 'COMMAND',
    describe: 'the first line a command prints (run by sh -c) is the passphrase',
  },
} as const satisfies OptionGroup;

const MOST_BYTES = 4096;

export interface PassphraseSurroundings extends TerminalStreams {
  readonly signal: AbortSignal;
  readonly noInput: boolean;
  notice(level: 'info' | 'warning', code: string, message: string): void;
  /** The screen is needed for a question; what is shown there makes way until the answer is in. */
  whileAsking<T>(ask: () => Promise<T>): Promise<T>;
}

function firstLine(bytes: Buffer, where: string): string {
  const end = bytes.indexOf(0x0a);
  const line = (end < 0 ? bytes : bytes.subarray(0, end)).toString('utf8').replace(/\r$/, '');
  if (line === '') throw new SealiftError('invalid-argument', 'the passphrase is empty', { subject: where });
  if (end < 0 && bytes.length >= MOST_BYTES) {
    throw new SealiftError('invalid-argument', `the passphrase is longer than ${MOST_BYTES} bytes`, {
      subject: where,
    });
  }
  return line;
}

/** First line of what can be read from a descriptor. */
function readDescriptor(fd: number, where: string): string {
  const bytes = Buffer.alloc(MOST_BYTES);
  let length = 0;
  while (length < bytes.length && !bytes.subarray(0, length).includes(0x0a)) {
    const count = readSync(fd, bytes, length, bytes.length - length, null);
    if (count === 0) break;
    length += count;
  }
  return firstLine(bytes.subarray(0, length), where);
}

/** First line of a file; warns where others can read it. */
export function readPassphraseFile(
  file: string,
  surroundings: Pick<PassphraseSurroundings, 'notice'>,
): string {
  let fd: number;
  try {
    fd = openSync(file, 'r');
  } catch (error) {
    throw new SealiftError(
      'invalid-argument',
      `cannot read the passphrase file: ${inert((error as Error).message)}`,
      {
        subject: inert(file),
        cause: error,
      },
    );
  }
  try {
    const { mode } = fstatSync(fd);
    if ((mode & 0o077) !== 0) {
      surroundings.notice(
        'warning',
        'passphrase-file-readable',
        `the passphrase file ${inert(file)} can be read by other users; chmod 600 it`,
      );
    }
    return readDescriptor(fd, inert(file));
  } finally {
    closeSync(fd);
  }
}

function runPassphraseCommand(command: string, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('/bin/sh', ['-c', command], { stdio: ['inherit', 'pipe', 'inherit'], signal });
    const chunks: Buffer[] = [];
    let length = 0;
    child.stdout.on('data', (chunk: Buffer) => {
      if (length < MOST_BYTES) chunks.push(chunk);
      length += chunk.length;
    });
    child.on('error', (error) =>
      reject(
        signal.aborted
          ? new SealiftError('cancelled', 'stopped')
          : new SealiftError('invalid-argument', 'the passphrase command cannot be run', {
              subject: '--passphrase-command',
              cause: error,
            }),
      ),
    );
    child.on('close', (code) => {
      if (code !== 0) {
        const message = `the passphrase command failed, got exit code ${code ?? 'none'}, want 0`;
        reject(new SealiftError('invalid-argument', message, { subject: '--passphrase-command' }));
        return;
      }
      try {
        resolve(firstLine(Buffer.concat(chunks).subarray(0, MOST_BYTES), '--passphrase-command'));
      } catch (error) {
        reject(error as Error);
      }
    });
  });
}

/** What the options say, before anybody is asked; undefined where they say nothing. */
function passphraseFromOptions(
  args: Args,
  surroundings: PassphraseSurroundings,
): (() => Promise<string>) | undefined {
  const file = args.text('passphrase-file');
  const fd = args.integer('passphrase-fd', 0, 1023);
  const command = args.text('passphrase-command');
  const given = [file, fd, command].filter((value) => value !== undefined).length;
  if (given > 1) {
    throw new SealiftError('invalid-argument', `got ${given} ways to the passphrase, want one`, {
      subject: '--passphrase-file, --passphrase-fd, --passphrase-command',
    });
  }
  if (file !== undefined) return async () => readPassphraseFile(file, surroundings);
  if (fd !== undefined) {
    return async () => {
      try {
        return readDescriptor(fd, '--passphrase-fd');
      } catch (error) {
        if (error instanceof SealiftError) throw error;
        throw new SealiftError(
          'invalid-argument',
          `cannot read file descriptor ${fd}: ${inert((error as Error).message)}`,
          {
            subject: '--passphrase-fd',
          },
        );
      }
    };
  }
  if (command !== undefined) return () => runPassphraseCommand(command, surroundings.signal);
  return undefined;
}

export interface PassphraseProviders {
  /** For a key that exists. */
  readonly existing: PassphraseProvider;
  /** For a key that is being made: typed twice. */
  readonly fresh: PassphraseProvider;
  /** The options name a source, so that nobody is asked. */
  readonly fromOptions: boolean;
}

/** File, descriptor or command, each read once; else the terminal; else undefined. */
export function createPassphraseProviders(
  args: Args,
  surroundings: PassphraseSurroundings,
): PassphraseProviders {
  const source = passphraseFromOptions(args, surroundings);
  if (source !== undefined) {
    let value: Promise<string> | undefined;
    const provide: PassphraseProvider = () => {
      value ??= source();
      return value;
    };
    return { existing: provide, fresh: provide, fromOptions: true };
  }
  function ask(purpose: string, twice: boolean): Promise<string | undefined> {
    if (surroundings.noInput) return Promise.resolve(undefined);
    return surroundings.whileAsking(async () => {
      const terminal = openTerminal(surroundings);
      if (terminal === undefined) return undefined;
      try {
        for (;;) {
          const first = await readLine(
            terminal,
            `Passphrase for ${inert(purpose)}: `,
            false,
            surroundings.signal,
          );
          if (first === '') {
            terminal.output.write('An empty passphrase protects nothing.\n');
            continue;
          }
          if (!twice) return first;
          const second = await readLine(terminal, 'The same again: ', false, surroundings.signal);
          if (first === second) return first;
          terminal.output.write('The two are not the same.\n');
        }
      } finally {
        terminal.close();
      }
    });
  }
  return {
    existing: (purpose) => ask(purpose, false),
    fresh: (purpose) => ask(purpose, true),
    fromOptions: false,
  };
}
