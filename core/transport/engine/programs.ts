/** Other programs, asked for an image: without a shell, with a fixed list of arguments, and ended with the run. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import type { Context } from '../../context.ts';
import { inert, SealiftError } from '../../errors.ts';
import type { SourceOptions } from '../source.ts';

const MOST_MESSAGE = 4096;
/** Milliseconds a program has to tidy up after it was asked to end. */
const PATIENCE = 5000;

/**
 * Runs a program to its end. Resolves to what it said on standard error where it failed.
 * @throws SealiftError `source-unreachable` where it cannot be started
 */
export async function runProgram(
  file: string,
  args: readonly string[],
  environment: SourceOptions['environment'],
  context: Context,
): Promise<{ readonly failure?: string }> {
  context.signal.throwIfAborted();
  const child = spawn(file, [...args], {
    env: { ...environment } as NodeJS.ProcessEnv,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (part: Buffer) => {
    // The end of it says why.
    said = (said + part.toString('utf8')).slice(-MOST_MESSAGE);
  });
  let patience: NodeJS.Timeout | undefined;
  const stop = () => {
    child.kill('SIGTERM');
    patience = setTimeout(() => child.kill('SIGKILL'), PATIENCE);
  };
  context.signal.addEventListener('abort', stop, { once: true });
  try {
    // Also after an abort the end is waited for: what it writes to is removed next.
    const { code, signal } = await new Promise<{ code: number | null; signal: string | null }>(
      (resolve, reject) => {
        child.once('error', reject);
        child.once('close', (exit, by) => resolve({ code: exit, signal: by }));
      },
    );
    context.signal.throwIfAborted();
    if (code === 0) return {};
    return { failure: said.trim().split('\n').at(-1) || `it ended with ${code ?? signal}` };
  } catch (cause) {
    if (context.signal.aborted) throw context.signal.reason;
    throw new SealiftError('source-unreachable', `cannot start ${inert(path.basename(file))}`, {
      subject: inert(file),
      cause,
    });
  } finally {
    clearTimeout(patience);
    context.signal.removeEventListener('abort', stop);
  }
}
