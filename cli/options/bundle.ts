import { existsSync } from 'node:fs';
import path from 'node:path';
import { parseVolumeName } from '../../core/bundle/volumes/names.ts';
import { SealiftError } from '../../core/errors.ts';
import type { BundleInput } from '../../core/workflow-options.ts';
import type { OptionGroup } from '../args.ts';
import type { Runtime } from '../command.ts';
import { mediumFrom } from './volumes.ts';

/** Options of commands that judge a bundle. */
export const judgeOptions = {
  'allow-clock-jump': {
    kind: 'flag',
    describe: 'accept a bundle from more than 48 hours ahead of this clock (is recorded)',
  },
} as const satisfies OptionGroup;

/** The bundle a command is to read: a file or volumes, or standard input for `-`. */
export function bundleFrom(runtime: Runtime, given = runtime.args.positionals('BUNDLE')): BundleInput {
  const [text, ...more] = given;
  if (text === undefined) throw new SealiftError('internal', 'no bundle among the positionals');
  if (given.includes('-')) {
    if (more.length > 0) {
      throw new SealiftError('invalid-argument', 'standard input is one bundle: got further arguments', {
        subject: '-',
        hint: 'feed it all volumes in order: cat images.tar.??? | sealift import -',
      });
    }
    return { kind: 'stream', stream: runtime.stdin };
  }
  const medium = mediumFrom(runtime);
  return {
    kind: 'file',
    path: bundlePath(text, runtime.cwd),
    ...(more.length === 0 ? {} : { volumes: more.map((one) => bundlePath(one, runtime.cwd)) }),
    ...(medium === undefined ? {} : { medium }),
  };
}

/**
 * Of the words behind a bundle those that are further volumes of it, and those that are something else: a file that is
 * there, with the number of a volume at its end, and the bundle's own file name before it where that is a volume too.
 */
export function volumesAmong(
  bundle: string,
  words: readonly string[],
  cwd: string,
): { readonly volumes: readonly string[]; readonly others: readonly string[] } {
  const base = parseVolumeName(path.basename(bundle))?.base;
  const isVolume = (word: string): boolean => {
    const name = parseVolumeName(path.basename(word));
    return name !== undefined && (base ?? name.base) === name.base && existsSync(bundlePath(word, cwd));
  };
  return { volumes: words.filter(isVolume), others: words.filter((word) => !isVolume(word)) };
}

/** `bundle:FILE`, or FILE. */
export function bundlePath(text: string, cwd: string): string {
  return path.resolve(cwd, text.startsWith('bundle:') ? text.slice('bundle:'.length) : text);
}
