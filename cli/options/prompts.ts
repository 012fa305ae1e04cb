/**
 * Questions to a person. They go to the terminal, never to standard output; what is typed in secret is not
 * echoed, and the terminal is as it was on every way out.
 */
import { openSync } from 'node:fs';
import tty from 'node:tty';
import { SealiftError } from '../../core/errors.ts';

/** Asks a yes-or-no question; anything but yes is no. */
export type Confirm = (question: string) => Promise<boolean>;

export interface Terminal {
  readonly input: tty.ReadStream;
  readonly output: NodeJS.WritableStream;
  /** Gives the terminal back; it is opened again for the next question. */
  close(): void;
}

export interface TerminalStreams {
  readonly stdin: NodeJS.ReadableStream & { readonly isTTY?: boolean };
  readonly stderr: NodeJS.WritableStream & { readonly isTTY?: boolean };
}

/** Standard input where it is a terminal, else the terminal the process belongs to; undefined where there is none. */
export function openTerminal({ stdin, stderr }: TerminalStreams): Terminal | undefined {
  if (stdin instanceof tty.ReadStream && stdin.isTTY && stderr.isTTY === true) {
    return { input: stdin, output: stderr, close: () => stdin.pause() };
  }
  try {
    const input = new tty.ReadStream(openSync('/dev/tty', 'r'));
    const output = new tty.WriteStream(openSync('/dev/tty', 'w'));
    return {
      input,
      output,
      close: () => {
        input.destroy();
        output.destroy();
      },
    };
  } catch {
    return undefined;
  }
}

const MOST_CHARACTERS = 4096;

/**
 * One line typed at the terminal.
 * @throws SealiftError `cancelled` at Ctrl-C, at the end of the input and when `signal` aborts
 */
export function readLine(
  terminal: Terminal,
  prompt: string,
  echo: boolean,
  signal: AbortSignal,
): Promise<string> {
  const { input, output } = terminal;
  return new Promise((resolve, reject) => {
    const wasRaw = input.isRaw;
    let typed: string[] = [];
    function settle(act: () => void): void {
      input.off('data', take);
      input.off('end', ended);
      signal.removeEventListener('abort', aborted);
      input.setRawMode(wasRaw);
      input.pause();
      output.write('\n');
      act();
    }
    const stop = (): void => settle(() => reject(new SealiftError('cancelled', 'stopped at the question')));
    const ended = stop;
    const aborted = stop;
    // A terminal hands over several keys in one chunk when somebody types quickly or pastes.
    function take(chunk: Buffer | string): void {
      for (const key of chunk.toString()) {
        if (key === '\r' || key === '\n') {
          settle(() => resolve(typed.join('')));
          return;
        }
        if (key === '\u0003' || (key === '\u0004' && typed.length === 0)) {
          stop();
          return;
        }
        if (key === '\u007f' || key === '\b') {
          if (typed.pop() !== undefined && echo) output.write('\b \b');
        } else if (key === '\u0015') {
          if (echo) output.write('\b \b'.repeat(typed.length));
          typed = [];
        } else if (key >= ' ' && typed.length < MOST_CHARACTERS) {
          typed.push(key);
          if (echo) output.write(key);
        }
      }
    }
    if (signal.aborted) {
      reject(new SealiftError('cancelled', 'stopped at the question'));
      return;
    }
    signal.addEventListener('abort', aborted, { once: true });
    // Echo off before the question is seen: what is typed early must not show either.
    input.setRawMode(true);
    input.setEncoding('utf8');
    input.on('data', take);
    input.on('end', ended);
    output.write(prompt);
    input.resume();
  });
}

/** A yes-or-no question; Enter alone is no. */
export async function askConfirmation(
  terminal: Terminal,
  question: string,
  signal: AbortSignal,
): Promise<boolean> {
  const answer = await readLine(terminal, `${question} [y/N] `, true, signal);
  return /^\s*y(es)?\s*$/i.test(answer);
}
