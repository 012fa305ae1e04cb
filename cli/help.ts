/** Help as text, made from the same descriptions the parser uses; needs no parser, so that it is there at once. */
import type { OptionGroup, OptionSpec } from './args.ts';
import type { Command } from './command.ts';
import { EXIT_CODES } from './exit-codes.ts';
import { commonOptions } from './options/common.ts';
import { table, wrap } from './output/format.ts';

/** `sealift export IMAGE... [options]`. */
export function commandLine(command: Command): string {
  const positionals = (command.positionals ?? []).map(({ name, required, many }) => {
    const word = many === true ? `${name}...` : name;
    return required === true ? word : `[${word}]`;
  });
  return ['sealift', ...command.words, ...positionals, '[options]'].join(' ');
}

function optionLabel([name, spec]: readonly [string, OptionSpec]): string {
  const short = spec.alias === undefined ? '    ' : `-${spec.alias}, `;
  return `${short}--${name}${spec.value === undefined ? '' : ` ${spec.value}`}`;
}

/** Two columns, the second wrapped to the width there is. */
function described(rows: readonly (readonly [string, string])[], columns: number): readonly string[] {
  const left = Math.max(...rows.map(([label]) => label.length)) + 4;
  return rows.flatMap(([label, text]) => {
    const parts = wrap(text, Math.max(30, columns - left));
    return [
      `  ${label.padEnd(left - 2)}${parts[0] ?? ''}`,
      ...parts.slice(1).map((part) => ' '.repeat(left) + part),
    ];
  });
}

function optionRows(group: OptionGroup): readonly (readonly [string, string])[] {
  return Object.entries(group).map((entry) => [optionLabel(entry), entry[1].describe] as const);
}

function exitCodeLines(): readonly string[] {
  return table(
    Object.values(EXIT_CODES).map(([code, meaning]) => [String(code).padStart(3), meaning]),
    '  ',
  );
}

const EXTRA: readonly (readonly [string, string])[] = [
  ['-h, --help', 'show this help; with a command, its own'],
  ['-V, --version', 'show the version'],
];

/** `sealift --help`. */
export function mainHelp(commands: readonly Command[], columns: number): string {
  const width = Math.min(100, columns);
  return [
    'sealift carries container images across an air gap in one signed, verifiable file.',
    '',
    'Examples, on the connected side:',
    '  sealift init',
    '  sealift export alpine:3.20 nginx:1.29 --output /media/stick/images.tar',
    'and on the sealed side, with the fingerprint that the other side reads out:',
    '  sealift trust pin /media/stick/images.tar --fingerprint SHA256',
    '  sealift import /media/stick/images.tar',
    '  sealift serve',
    'On a terminal, sealift alone opens pages for both.',
    '',
    ...sectionsOf(commands).flatMap(({ title, rows }) => [`${title}:`, ...described(rows, width), '']),
    'Options of all commands:',
    ...described([...optionRows(commonOptions), ...EXTRA], width),
    '',
    'Exit codes:',
    ...exitCodeLines(),
    '',
    'sealift COMMAND --help shows the options of a command, and the commands behind a word such as trust.',
    '',
  ].join('\n');
}

/** First words of commands, by who needs them. */
const SECTIONS: readonly (readonly [title: string, words: readonly string[]])[] = [
  ['On the connected side', ['init', 'export', 'inspect', 'diff', 'bundle', 'sign', 'login', 'logout']],
  ['On the sealed side', ['verify', 'import', 'approve', 'receipt', 'ls', 'why', 'gc']],
  ['For those who pull', ['serve', 'sync', 'client-config', 'lookaside']],
  ['What is trusted, and what is demanded', ['trust', 'policy', 'officers']],
];

/** What the commands behind one first word are about. */
const FAMILIES: Readonly<Record<string, string>> = {
  bundle: 'make bundles from bundles',
  trust: 'pins, keys, roles, namespaces, withdrawals, the audit log',
  policy: 'which evidence an image must have to be let in',
  officers: 'whose approval a bundle must have',
};

interface HelpSection {
  readonly title: string;
  readonly rows: readonly (readonly [string, string])[];
}

/** Every command once; those behind a common first word as one row. */
function sectionsOf(commands: readonly Command[]): readonly HelpSection[] {
  const rows = new Map<string, readonly [string, string]>();
  for (const { words, summary } of commands) {
    const [first = ''] = words;
    if (words.length === 1) rows.set(first, [first, summary]);
    else if (!rows.has(first)) {
      const seconds = commands.flatMap((other) => (other.words[0] === first ? [other.words[1] ?? ''] : []));
      const list = [...new Set(seconds)].join(', ');
      rows.set(first, [`${first} …`, FAMILIES[first] ? `${FAMILIES[first]}: ${list}` : list]);
    }
  }
  const take = (word: string): readonly (readonly [string, string])[] => {
    const row = rows.get(word);
    rows.delete(word);
    return row ? [row] : [];
  };
  const sections = SECTIONS.map(([title, words]) => ({ title, rows: words.flatMap(take) }));
  return [...sections, { title: 'Further', rows: [...rows.values()] }].filter(
    (section) => section.rows.length > 0,
  );
}

/** `sealift COMMAND --help`. */
export function commandHelp(command: Command, columns: number): string {
  const width = Math.min(100, columns);
  const { positionals = [], options } = command;
  return [
    'Examples:',
    ...command.examples.map((example) => `  ${example}`),
    '',
    `Usage: ${commandLine(command)}`,
    '',
    ...wrap(
      `${command.summary.charAt(0).toUpperCase()}${command.summary.slice(1)}. ${command.about ?? ''}`,
      width,
    ),
    ...(positionals.length === 0
      ? []
      : [
          '',
          'Arguments:',
          ...described(
            positionals.map(({ name, describe }) => [name, describe]),
            width,
          ),
        ]),
    ...(Object.keys(options).length === 0 ? [] : ['', 'Options:', ...described(optionRows(options), width)]),
    '',
    'Options of all commands:',
    ...described(optionRows(commonOptions), width),
    '',
    'Exit codes:',
    ...exitCodeLines(),
    '',
  ].join('\n');
}

/** `sealift trust --help`. */
function groupHelp(word: string, commands: readonly Command[], columns: number): string {
  return [
    `Usage: sealift ${word} COMMAND`,
    '',
    'Commands:',
    ...described(
      commands.map((command) => [command.words.join(' '), command.summary] as const),
      Math.min(100, columns),
    ),
    '',
    `sealift ${word} COMMAND --help shows the options of a command.`,
    '',
  ].join('\n');
}

/** The help an argument list asks for; undefined where it asks for none. */
export function helpFor(
  argv: readonly string[],
  commands: readonly Command[],
  columns: number,
): string | undefined {
  const end = argv.indexOf('--');
  const before = end < 0 ? argv : argv.slice(0, end);
  const asked = before.some((arg) => arg === '--help' || arg === '-h');
  if (!asked && before[0] !== 'help') return undefined;
  const words = before.filter((arg) => !arg.startsWith('-')).slice(!asked || before[0] === 'help' ? 1 : 0);
  const command = commands.find((candidate) => candidate.words.every((word, index) => words[index] === word));
  if (command !== undefined) return commandHelp(command, columns);
  for (let depth = Math.min(words.length, 2); depth > 0; depth -= 1) {
    const before = words.slice(0, depth);
    const group = commands.filter(
      (candidate) =>
        candidate.words.length > depth && before.every((word, index) => candidate.words[index] === word),
    );
    if (group.length > 0) return groupHelp(before.join(' '), group, columns);
  }
  return words.length === 0 ? mainHelp(commands, columns) : undefined;
}

/** The word of `words` that `typed` most likely means; undefined where none is near. */
export function nearest(typed: string, words: readonly string[]): string | undefined {
  let best: string | undefined;
  let least = Math.max(1, Math.floor(typed.length / 3)) + 1;
  for (const word of words) {
    const distance = editDistance(typed, word);
    if (distance < least) {
      least = distance;
      best = word;
    }
  }
  return best;
}

/** Letters to change, add, leave out or swap with their neighbour. */
function editDistance(a: string, b: string): number {
  if (a.length > 64 || b.length > 64) return 64;
  const rows = [Array.from({ length: b.length + 1 }, (_, index) => index)];
  const at = (i: number, j: number): number => rows[i]?.[j] ?? 64;
  for (let i = 1; i <= a.length; i++) {
    rows[i] = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const least = Math.min(at(i - 1, j - 1) + same, at(i - 1, j) + 1, at(i, j - 1) + 1);
      rows[i]?.push(swapped ? Math.min(least, at(i - 2, j - 2) + 1) : least);
    }
  }
  return at(a.length, b.length);
}
