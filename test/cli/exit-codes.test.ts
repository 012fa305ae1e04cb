import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { COMMANDS } from '../../cli/commands/index.ts';
import { EXIT_CODES, exitCodeOf } from '../../cli/exit-codes.ts';
import { helpFor } from '../../cli/help.ts';
import { ERROR_CODES, type ErrorCode } from '../../core/errors.ts';
import { renderErrorTable } from '../../docs/generate-errors.ts';

describe('exit codes', () => {
  test('are those that were promised', () => {
    expect(Object.fromEntries(Object.entries(EXIT_CODES).map(([name, [code]]) => [name, code]))).toEqual({
      done: 0,
      unexpected: 1,
      usage: 2,
      partly: 3,
      malformed: 4,
      trust: 5,
      source: 6,
      destination: 7,
      needed: 8,
      cancelled: 130,
      terminated: 143,
    });
  });

  test('exist for every error code, and none is success', () => {
    for (const [code, [category]] of Object.entries(ERROR_CODES)) {
      expect(exitCodeOf({ code: code as ErrorCode }), code).toBe(EXIT_CODES[category][0]);
      expect(exitCodeOf({ code: code as ErrorCode }), code).not.toBe(0);
    }
  });

  test('tell which signal stopped a run', () => {
    expect(exitCodeOf({ code: 'cancelled' }, 'SIGINT')).toBe(130);
    expect(exitCodeOf({ code: 'cancelled' }, 'SIGTERM')).toBe(143);
    expect(exitCodeOf({ code: 'rollback' }, 'SIGTERM')).toBe(5);
  });

  test('docs/errors.md lists every code as the source has it', () => {
    const file = path.join(import.meta.dirname, '../../docs/errors.md');
    expect(readFileSync(file, 'utf8'), 'run npm run docs').toBe(renderErrorTable());
  });
});

describe('help', () => {
  test('names every first word once, under who needs it', () => {
    const text = helpFor(['--help'], COMMANDS, 100) ?? '';
    for (const word of new Set(COMMANDS.map(({ words }) => words[0] ?? '')))
      expect(text.match(new RegExp(`^  ${word}(?: …)?  `, 'gm')), word).toHaveLength(1);
    const further = text.slice(text.indexOf('\nFurther:'), text.indexOf('\nOptions of all commands:'));
    expect(further.match(/^ {2}\S/gm)).toHaveLength(2);
  });

  const lists = [[], ...COMMANDS.map((command) => command.words)];

  test.each(lists)('%s %s shows examples before options, and all exit codes', (...words: string[]) => {
    const text = helpFor([...words, '--help'], COMMANDS, 80) ?? '';
    const example = text.search(/^ {2}sealift /m);
    expect(example).toBeGreaterThanOrEqual(0);
    expect(example).toBeLessThan(text.indexOf('--json'));
    for (const [code, meaning] of Object.values(EXIT_CODES))
      expect(text).toMatch(new RegExp(`^ +${code} +${meaning.slice(0, 12)}`, 'm'));
    expect(text.endsWith('\n')).toBe(true);
  });

  test('names every option of a command', () => {
    for (const command of COMMANDS) {
      const text = helpFor([...command.words, '-h'], COMMANDS, 80) ?? '';
      for (const name of Object.keys(command.options)) expect(text).toContain(`--${name}`);
    }
  });

  test('keeps to the width, examples and usage lines aside', () => {
    for (const width of [60, 80, 100]) {
      const text = helpFor(['export', '--help'], COMMANDS, width) ?? '';
      const options = text.slice(text.indexOf('Options:'), text.indexOf('Exit codes:'));
      for (const line of options.split('\n'))
        expect(line.length, line).toBeLessThanOrEqual(Math.max(width, 66));
    }
  });

  test('a command is no help for an unknown one', () => {
    expect(helpFor(['exprt', '--help'], COMMANDS, 80)).toBeUndefined();
    expect(helpFor(['verify', '--', '--help'], COMMANDS, 80)).toBeUndefined();
    expect(helpFor(['help', 'verify'], COMMANDS, 80)).toBe(helpFor(['verify', '--help'], COMMANDS, 80));
  });
});
