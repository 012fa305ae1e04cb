/**
 * From arguments to a command and its values. yargs does the splitting; every trap it leaves open by default is
 * closed here or in args.ts, and each has a test.
 */
import yargs, { type Argv, type Options } from 'yargs';
import { inert, SealiftError } from '../core/errors.ts';
import { type Args, createArgs, type OptionGroup } from './args.ts';
import type { Command } from './command.ts';
import { commandLine, nearest } from './help.ts';
import { commonOptions } from './options/common.ts';

export interface Parsed {
  readonly command: Command;
  readonly args: Args;
}

// Not a character an argument can hold: the operating system ends arguments at NUL.
const MARK = '\0';

/**
 * yargs loses a positional that is a lone dash, and drops what stands behind `--` in commands that want some. Both are
 * marked, parsed like others and unmarked when read.
 */
function protect(argv: readonly string[]): string[] {
  const end = argv.indexOf('--');
  const before = end < 0 ? argv : argv.slice(0, end);
  const behind = end < 0 ? [] : argv.slice(end + 1);
  return [...before.map((arg) => (arg === '-' ? `${MARK}-` : arg)), ...behind.map((arg) => MARK + arg)];
}

const restore = (text: string): string => (text.startsWith(MARK) ? text.slice(1) : text);

function yargsOptions(group: OptionGroup): Record<string, Options> {
  return Object.fromEntries(
    Object.entries(group).map(([name, spec]) => [
      name,
      {
        type: spec.kind === 'flag' ? 'boolean' : spec.kind === 'list' ? 'array' : 'string',
        ...(spec.kind === 'flag' ? {} : { string: true, requiresArg: true }),
        ...(spec.alias === undefined ? {} : { alias: spec.alias }),
        // Help is written by help.ts; yargs would lay out its own at every run.
        hidden: true,
      } satisfies Options,
    ]),
  );
}

/** All options of a command: the common ones and its own. */
export function optionsOf(command: Command): OptionGroup {
  return { ...commonOptions, ...command.options };
}

function yargsCommand(command: Command): string {
  const positionals = (command.positionals ?? []).map(({ name, many }) =>
    many ? `[${name}..]` : `[${name}]`,
  );
  return [command.words.at(-1) ?? '', ...positionals].join(' ');
}

function usageError(message: string, hint: string): SealiftError {
  return new SealiftError('invalid-argument', message, { hint });
}

/** yargs' words for a mistake, in ours. */
function explain(
  error: Error,
  argv: readonly string[],
  known: OptionGroup,
  command: Command | undefined,
): SealiftError {
  const help = `sealift ${command === undefined ? '' : `${command.words.join(' ')} `}--help shows what there is`;
  const unknown = /^Unknown arguments?: (.*)$/.exec(error.message)?.[1];
  if (unknown !== undefined) {
    const first = unknown.split(', ')[0] ?? '';
    // yargs names options without their dashes.
    if (argv.includes(restore(first)))
      return usageError(`unexpected argument, got ${inert(restore(first))}`, help);
    const guess = nearest(first, Object.keys(known));
    return usageError(
      `unknown option, got ${first.length === 1 ? '-' : '--'}${inert(first)}`,
      guess === undefined ? help : `did you mean --${guess}?`,
    );
  }
  const missing = /^Not enough arguments following: (.*)$/.exec(error.message)?.[1];
  if (missing !== undefined) {
    return usageError(`option ${missing.length === 1 ? '-' : '--'}${inert(missing)} wants a value`, help);
  }
  return usageError(inert(error.message.charAt(0).toLowerCase() + error.message.slice(1)), help);
}

interface Builder {
  readonly parser: Argv;
  /** The command yargs ran, and the ones it looked into on the way. */
  readonly state: { found?: Command; entered?: Command; group?: string };
}

function buildParser(argv: readonly string[], commands: readonly Command[]): Builder {
  const state: Builder['state'] = {};
  function register(parser: Argv, list: readonly Command[], depth: number): Argv {
    const groups = new Map<string, Command[]>();
    for (const command of list) {
      const word = command.words[depth] ?? '';
      groups.set(word, [...(groups.get(word) ?? []), command]);
    }
    for (const [word, members] of groups) {
      const [only] = members;
      if (only !== undefined && members.length === 1 && only.words.length === depth + 1) {
        parser.command(
          yargsCommand(only),
          false,
          (inner) => {
            state.entered = only;
            // yargs reads a positional as an array only when it is told that it is one.
            for (const { name, many } of only.positionals ?? []) {
              inner.positional(name, {
                type: 'string',
                hidden: true,
                ...(many === true ? { array: true } : {}),
              });
            }
            return inner.options(yargsOptions(only.options));
          },
          () => {
            state.found = only;
          },
        );
      } else {
        parser.command(
          word,
          false,
          (inner) => {
            state.group = members[0]?.words.slice(0, depth + 1).join(' ') ?? word;
            return register(inner, members, depth + 1);
          },
          () => {},
        );
      }
    }
    return parser;
  }
  const parser = yargs([...argv])
    .scriptName('sealift')
    .locale('en')
    .exitProcess(false)
    .fail(false)
    .version(false)
    .help(false)
    .parserConfiguration({
      'dot-notation': false,
      'camel-case-expansion': false,
      'greedy-arrays': false,
      'parse-numbers': false,
      'parse-positional-numbers': false,
      'strip-aliased': true,
      'boolean-negation': false,
      // An option given twice must be seen as given twice, so that args.ts can refuse it: with `false` yargs keeps
      // one value, of positionals and of repeatable options too.
      'duplicate-arguments-array': true,
      'flatten-duplicate-arrays': true,
    })
    .options(yargsOptions(commonOptions))
    .strict();
  return { parser: register(parser, commands, 0), state };
}

/** @throws SealiftError `invalid-argument` */
export async function parseArguments(argv: readonly string[], commands: readonly Command[]): Promise<Parsed> {
  const { parser, state } = buildParser(protect(argv), commands);
  let values: Record<string, unknown>;
  try {
    values = (await parser.parseAsync()) as Record<string, unknown>;
  } catch (error) {
    const { entered, group } = state;
    if (entered === undefined) {
      const word = /^Unknown arguments?: ([^,]*)/.exec((error as Error).message)?.[1];
      if (word !== undefined && argv.includes(word)) throw unknownCommand(word, group, commands);
    }
    throw explain(error as Error, argv, entered === undefined ? commonOptions : optionsOf(entered), entered);
  }
  const { found } = state;
  if (found === undefined) throw unknownCommand(undefined, state.group, commands);
  const args = createArgs(values, optionsOf(found), restore);
  for (const { name, required, many } of found.positionals ?? []) {
    const given = many === true ? args.positionals(name).length : args.positional(name) === undefined ? 0 : 1;
    if (required === true && given === 0) {
      throw usageError(`${name} is missing`, `write ${commandLine(found)}`);
    }
  }
  return { command: found, args };
}

function unknownCommand(
  word: string | undefined,
  group: string | undefined,
  commands: readonly Command[],
): SealiftError {
  const before = group === undefined ? [] : group.split(' ');
  const inGroup = commands.filter(
    ({ words }) => words.length > before.length && before.every((part, index) => words[index] === part),
  );
  const names = [...new Set(inGroup.map((command) => command.words[before.length] ?? ''))];
  const prefix = group === undefined ? 'sealift' : `sealift ${group}`;
  const guess = word === undefined ? undefined : nearest(word, names);
  return usageError(
    word === undefined
      ? `${prefix} wants a command`
      : `unknown command, got ${group === undefined ? '' : `${group} `}${inert(word)}`,
    guess === undefined ? `it is one of ${names.join(', ')}` : `did you mean ${prefix} ${guess}?`,
  );
}
