import { describe, expect, test } from 'vitest';
import { COMMANDS } from '../../cli/commands/index.ts';
import { parseArguments } from '../../cli/parse.ts';

const parse = (...argv: string[]) => parseArguments(argv, COMMANDS);
const refused = (...argv: string[]) =>
  parse(...argv).then(
    () => {
      throw new Error('was taken');
    },
    (error: unknown) => error,
  );

describe('what a parser may get wrong', () => {
  test('text that looks like a number stays text', async () => {
    const { args } = await parse('export', '1.10', '0x10', '-o', '1.10');
    expect(args.positionals('IMAGE')).toEqual(['1.10', '0x10']);
    expect(args.text('output')).toBe('1.10');
  });

  test('all positionals are kept, not the last one', async () => {
    const { args } = await parse('export', 'a', 'b', '-o', 'x', 'c');
    expect(args.positionals('IMAGE')).toEqual(['a', 'b', 'c']);
  });

  test('a repeatable option does not swallow the positional behind it', async () => {
    const { args } = await parse('export', '--platform', 'linux/amd64', 'alpine', '-o', 'x');
    expect(args.list('platform')).toEqual(['linux/amd64']);
    expect(args.positionals('IMAGE')).toEqual(['alpine']);
  });

  test('a repeatable option keeps every value', async () => {
    const { args } = await parse(
      'export',
      'a',
      '--platform',
      'linux/amd64',
      '--platform=linux/arm64',
      '-o',
      'x',
    );
    expect(args.list('platform')).toEqual(['linux/amd64', 'linux/arm64']);
  });

  test('an option given twice is refused', async () => {
    const { args } = await parse('export', 'a', '-o', 'x', '--output', 'y');
    expect(() => args.text('output')).toThrow('option --output was given 2 times, want once');
  });

  test('an empty value is refused', async () => {
    const { args } = await parse('export', 'a', '--output', '');
    expect(() => args.text('output')).toThrow('option --output has an empty value');
  });

  test('an empty value of a repeatable option is refused', async () => {
    const { args } = await parse('export', 'a', '--platform=', '-o', 'x');
    expect(() => args.list('platform')).toThrow('option --platform has an empty value');
  });

  test('an empty positional is refused', async () => {
    await expect(refused('verify', '')).resolves.toMatchObject({
      code: 'invalid-argument',
      message: 'BUNDLE is empty',
    });
  });

  test('a dot in an option makes no object', async () => {
    await expect(refused('export', 'a', '--out.put', 'x')).resolves.toMatchObject({
      message: 'unknown option, got --out.put',
    });
  });

  test('camel case is no other spelling', async () => {
    await expect(refused('export', 'a', '--plainHttp', '-o', 'x')).resolves.toMatchObject({
      message: 'unknown option, got --plainHttp',
    });
  });

  test('--no- in front of an option is not understood as its opposite', async () => {
    await expect(refused('export', 'a', '--no-force', '-o', 'x')).resolves.toMatchObject({
      message: 'unknown option, got --no-force',
    });
    const { args } = await parse('ls', '--no-color');
    expect(args.flag('no-color')).toBe(true);
  });

  test('an option is no value of the one before', async () => {
    await expect(refused('export', 'a', '-o', '--force')).resolves.toMatchObject({
      message: 'option -o wants a value',
    });
  });

  test('a lone dash is a value', async () => {
    const { args } = await parse('verify', '-');
    expect(args.positional('BUNDLE')).toBe('-');
    expect((await parse('export', 'a', '-o', '-')).args.text('output')).toBe('-');
    expect((await parse('export', 'a', '-', '-o-')).args.positionals('IMAGE')).toEqual(['a', '-']);
  });

  test('what stands behind -- is a positional, whatever it looks like', async () => {
    const { args } = await parse('verify', '--no-deep', '--', '-x.tar', '--json');
    expect(args.positional('BUNDLE')).toBe('-x.tar');
    expect(args.positionals('NAME')).toEqual(['--json']);
    expect(args.flag('json')).toBe(false);
  });

  test('names of the prototype are no options', async () => {
    for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty']) {
      await expect(refused('export', 'a', `--${name}`, 'x')).resolves.toMatchObject({
        code: 'invalid-argument',
      });
    }
    expect(Object.hasOwn(Object.prototype, 'x')).toBe(false);
  });

  test('a short option with its value attached is refused, not misread', async () => {
    await expect(refused('export', 'a', '-ofile')).resolves.toMatchObject({ code: 'invalid-argument' });
    const { args } = await parse('export', 'a', '-oq');
    expect(() => args.text('output')).toThrow('empty value');
  });

  test('a positional that looks like a negative number is kept as it is written', async () => {
    expect((await parse('verify', '-5')).args.positional('BUNDLE')).toBe('-5');
  });

  test('one positional too many is refused', async () => {
    await expect(refused('ls', 'a', 'b')).resolves.toMatchObject({ message: 'unexpected argument, got b' });
  });

  test('a missing positional is named, with the line to write', async () => {
    await expect(refused('verify')).resolves.toMatchObject({
      message: 'BUNDLE is missing',
      hint: 'write sealift verify BUNDLE [NAME...] [options]',
    });
  });

  test('a value outside the choices is refused', async () => {
    const { args } = await parse('init', '--keys', 'dsa');
    expect(() => args.text('keys')).toThrow('option --keys: got dsa, want one of openpgp, native');
  });

  test('escape sequences in an argument do not reach the terminal', async () => {
    const error = (await refused('export', 'a', '--\u001b[2Jx')) as Error;
    expect(error.message).toContain('\\u{1b}');
    expect(error.message).not.toContain('\u001b');
  });

  test('whole numbers only, within bounds', async () => {
    for (const bad of ['0', '65', '4x', '1e1', '-1', '0x4', ' 4']) {
      const { args } = await parse('export', 'a', '-o', 'x', `--concurrency=${bad}`);
      expect(() => args.integer('concurrency', 1, 64), bad).toThrow('want a whole number from 1 to 64');
    }
    expect((await parse('export', 'a', '--concurrency', '8')).args.integer('concurrency', 1, 64)).toBe(8);
  });

  test('an option read that is not declared is a defect, not undefined', async () => {
    const { args } = await parse('ls');
    expect(() => args.flag('deep')).toThrow('option --deep is not declared');
  });
});

describe('help with slips', () => {
  test.each([
    [['exprt'], 'unknown command, got exprt', 'did you mean sealift export?'],
    [['trust', 'pni'], 'unknown command, got trust pni', 'did you mean sealift trust pin?'],
    [['--gate', 'x', 'improt'], 'unknown command, got improt', 'did you mean sealift import?'],
    [
      ['trust'],
      'sealift trust wants a command',
      'it is one of pin, pin-gate, status, root, list, lookup, add, remove, renew, witness, sign, publish, staged, reset, key, delegation, audit, clock',
    ],
    [
      ['trust', 'key'],
      'sealift trust key wants a command',
      'it is one of list, rotate, add, refresh, remove, generate, import, export, passwd',
    ],
    [['trust', 'key', 'lsit'], 'unknown command, got trust key lsit', 'did you mean sealift trust key list?'],
    [['export', 'a', '--outptu', 'x'], 'unknown option, got --outptu', 'did you mean --output?'],
    [['ls', '--colection', 'x'], 'unknown option, got --colection', 'did you mean --collection?'],
  ])('%j', async (argv, message, hint) => {
    await expect(refused(...argv)).resolves.toMatchObject({ code: 'invalid-argument', message, hint });
  });

  test('the language of the environment changes nothing', async () => {
    const before = process.env['LANG'];
    process.env['LANG'] = 'de_DE.UTF-8';
    try {
      await expect(refused('export', '-o')).resolves.toMatchObject({ message: 'option -o wants a value' });
    } finally {
      process.env['LANG'] = before;
    }
  });
});
