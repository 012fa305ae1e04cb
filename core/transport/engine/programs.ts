/** Other programs, asked for an image: without a shell, with a fixed list of arguments, and ended with the run. */
import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import path from 'node:path';
import type { Context } from '../../context.ts';
import { inert, SealiftError } from '../../errors.ts';
import type { SourceOptions } from '../source.ts';

const MOST_MESSAGE = 4096;

/** The first of `names` that is on the PATH of the given environment. */
export async function findProgram(
  names: readonly string[],
  environment: SourceOptions['environment'],
): Promise<{ readonly name: string; readonly file: string } | undefined> {
  for (const name of names) {
    for (const directory of (environment?.['PATH'] ?? '').split(path.delimiter)) {
      // A relative entry would make what runs depend on where sealift was started.
      if (!path.isAbsolute(directory)) continue;
      const file = path.join(directory, name);
      try {
        await access(file, constants.X_OK);
        if ((await stat(file)).isFile()) return { name, file };
      } catch {
        // not here
      }
    }
  }
  return undefined;
}

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
    signal: context.signal,
    killSignal: 'SIGTERM',
  });
  let said = '';
  child.stderr.on('data', (part: Buffer) => {
    // The end of it says why.
    said = (said + part.toString('utf8')).slice(-MOST_MESSAGE);
  });
  return new Promise((resolve, reject) => {
    child.once('error', (cause) => {
      if (context.signal.aborted) reject(context.signal.reason);
      else {
        reject(
          new SealiftError('source-unreachable', `cannot start ${inert(path.basename(file))}`, {
            subject: inert(file),
            cause,
          }),
        );
      }
    });
    child.once('close', (code, signal) => {
      if (context.signal.aborted) reject(context.signal.reason);
      else if (code === 0) resolve({});
      else resolve({ failure: said.trim().split('\n').at(-1) || `it ended with ${code ?? signal}` });
    });
  });
}
