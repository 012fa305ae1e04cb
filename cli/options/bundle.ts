import path from 'node:path';
import { SealiftError } from '../../core/errors.ts';
import type { VerifyOptions } from '../../core/workflow-options.ts';
import type { OptionGroup } from '../args.ts';
import type { Runtime } from '../command.ts';

/** Options of commands that judge a bundle. */
export const judgeOptions = {
  'allow-clock-jump': {
    kind: 'flag',
    describe: 'accept a bundle from more than 48 hours ahead of this clock (is recorded)',
  },
} as const satisfies OptionGroup;

/** The bundle a command is to read: a file, or standard input for `-`. */
export function bundleFrom(runtime: Runtime): VerifyOptions['bundle'] {
  const text = runtime.args.positional('BUNDLE');
  if (text === undefined) throw new SealiftError('internal', 'no bundle among the positionals');
  if (text === '-') return { kind: 'stream', stream: runtime.stdin };
  return { kind: 'file', path: bundlePath(text, runtime.cwd) };
}

/** `bundle:FILE`, or FILE. */
function bundlePath(text: string, cwd: string): string {
  return path.resolve(cwd, text.startsWith('bundle:') ? text.slice('bundle:'.length) : text);
}
