import type { OptionGroup } from './args.ts';
import type { Command } from './command.ts';
import { commonOptions } from './options/common.ts';

/**
 * What may come next, for a shell.
 * @param words those behind `sealift`; the last one is under the cursor: begun, or empty
 * @returns candidates that begin like it; none where a file name or a free text is wanted
 */
export function completions(words: readonly string[], commands: readonly Command[]): readonly string[] {
  const typed = words.at(-1) ?? '';
  const before = words.slice(0, -1);
  const startsLike = (word: string): boolean => word.startsWith(typed);
  const names = before.filter((word) => !word.startsWith('-'));
  const command = commands.find((candidate) => candidate.words.every((word, index) => names[index] === word));
  const options: OptionGroup = { ...commonOptions, ...command?.options };
  const previous = before.at(-1);
  const wanted = Object.entries(options).find(
    ([name, spec]) => previous === `--${name}` || (spec.alias !== undefined && previous === `-${spec.alias}`),
  );
  if (wanted !== undefined && wanted[1].kind !== 'flag') return (wanted[1].choices ?? []).filter(startsLike);
  if (typed.startsWith('-'))
    return Object.keys(options)
      .map((name) => `--${name}`)
      .filter(startsLike);
  if (command !== undefined) return [];
  const next = commands
    .filter((candidate) => names.every((word, index) => candidate.words[index] === word))
    .map((candidate) => candidate.words[names.length] ?? '');
  return [...new Set(next)].filter(startsLike);
}
