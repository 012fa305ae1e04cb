import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SealiftError } from '../../../core/errors.ts';
import {
  asArray,
  asBoolean,
  asInteger,
  asObject,
  asString,
  asStringMap,
  asStrings,
  assertOnlyKeys,
  type JsonValue,
  parseJson,
} from '../../../core/json/strict.ts';

const options = { what: 'a document', maxBytes: 64 * 1024 * 1024, maxDepth: 64 };

function parse(
  text: string | Uint8Array,
  extra: Partial<typeof options & { plainIntegers: boolean }> = {},
): JsonValue {
  return parseJson(typeof text === 'string' ? Buffer.from(text) : text, { ...options, ...extra });
}

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof SealiftError) return error.code;
    throw error;
  }
  return 'accepted';
}

function hasInfinity(value: unknown): boolean {
  if (typeof value === 'object' && value !== null) return Object.values(value).some(hasInfinity);
  return typeof value === 'number' && !Number.isFinite(value);
}

/** Objects without prototype as ordinary ones, so that they compare with what JSON.parse makes. */
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

describe('values', () => {
  it.each([
    'null',
    'true',
    '0',
    '-0',
    '-1.5e-7',
    '""',
    '"\\u0041\\"\\\\"',
    '[]',
    '{}',
    ' [1 , {"a" : [ ] }] ',
    '"{,}[:]"',
  ])('reads %s as JSON.parse does', (text) => {
    expect(plain(parse(text))).toEqual(plain(JSON.parse(text)));
  });

  it('agrees with JSON.parse about every document JSON.stringify can write', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 6 }), fc.nat(3), (text, space) => {
        const spaced = JSON.stringify(JSON.parse(text), undefined, space);
        expect(plain(parse(spaced))).toEqual(plain(JSON.parse(spaced)));
      }),
    );
  });

  it('refuses a number that is larger than any', () => {
    expect(codeOf(() => parse('[1e511]'))).toBe('json-invalid');
  });

  it('accepts no text that JSON.parse refuses', () => {
    const token = fc.constantFrom(
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '"a"',
      '"b"',
      '"',
      '\\',
      '1',
      '-',
      '1e5',
      '.',
      'true',
      'nul',
      ' ',
    );
    fc.assert(
      fc.property(fc.array(token, { maxLength: 12 }), (tokens) => {
        const text = tokens.join('');
        const code = codeOf(() => parse(text));
        let valid = true;
        try {
          // What is larger than any number (1e511) is Infinity there and refused here.
          valid = !hasInfinity(JSON.parse(text));
        } catch {
          valid = false;
        }
        if (valid) expect(['accepted', 'json-duplicate-key']).toContain(code);
        else expect(['json-invalid', 'json-duplicate-key']).toContain(code);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('refusals', () => {
  it.each([
    ['empty document', ''],
    ['nothing but white space', ' \n'],
    ['data behind the value', '{} x'],
    ['two values', '{}{}'],
    ['a NUL behind the value', '{}\0'],
    ['comment', '{/* */}'],
    ['single quotes', "{'a':1}"],
    ['trailing comma in an array', '[1,]'],
    ['trailing comma in an object', '{"a":1,}'],
    ['NaN', 'NaN'],
    ['leading zero', '01'],
    ['plus sign', '+1'],
    ['hexadecimal', '0x10'],
    ['raw newline in a string', '"a\nb"'],
    ['bad escape', '"\\x41"'],
    ['bad escape in a key', '{"\\u00zz":1}'],
    ['string without an end', '"abc'],
    ['string that ends in a backslash', '"abc\\'],
    ['no-break space between tokens', '[1,\u00a02]'],
    ['mismatched brackets', '[}'],
    ['missing bracket', '[[1]'],
  ])('%s', (_, text) => {
    expect(codeOf(() => parse(text))).toBe('json-invalid');
  });

  it('byte order mark', () => {
    expect(codeOf(() => parse(Buffer.from([0xef, 0xbb, 0xbf, 0x7b, 0x7d])))).toBe('json-invalid');
    expect(codeOf(() => parse(Buffer.from('\ufeff{}', 'utf16le')))).toBe('json-invalid');
  });

  it.each([
    ['stray continuation byte', [0x22, 0x80, 0x22]],
    ['overlong slash', [0x22, 0xc0, 0xaf, 0x22]],
    ['encoded surrogate', [0x22, 0xed, 0xa0, 0x80, 0x22]],
    ['beyond U+10FFFF', [0x22, 0xf4, 0x90, 0x80, 0x80, 0x22]],
    ['cut sequence', [0x22, 0xe2, 0x82, 0x22]],
    ['latin-1', [0x22, 0xe9, 0x22]],
  ])('bad UTF-8: %s', (_, bytes) => {
    expect(codeOf(() => parse(Buffer.from(bytes)))).toBe('json-invalid');
  });

  it('a document above the cap, before it is decoded', () => {
    const bytes = Buffer.alloc(101, 0xff);
    expect(codeOf(() => parse(bytes, { maxBytes: 100 }))).toBe('json-too-large');
    expect(codeOf(() => parse('"aa"', { maxBytes: 4 }))).toBe('accepted');
  });

  it('millions of empty objects, which would fill the heap', () => {
    expect(codeOf(() => parse(`[${'{},'.repeat(4_000_000)}{}]`))).toBe('json-too-large');
  });

  it('huge numbers', () => {
    expect(codeOf(() => parse('1e999'))).toBe('json-invalid');
    expect(codeOf(() => parse(`[-${'9'.repeat(400)}]`))).toBe('json-invalid');
    expect(codeOf(() => parse('9007199254740993'))).toBe('accepted');
  });

  it.each([
    '1.0',
    '1e3',
    '9007199254740993',
    '-9007199254740993',
    '4503599627370496.4',
    '1E2',
    '0.0',
    `1${'0'.repeat(300)}`,
  ])('the disguised integer %s where plain ones are wanted', (text) => {
    expect(codeOf(() => parse(`{"size":${text}}`, { plainIntegers: true }))).toBe('json-invalid');
    expect(codeOf(() => parse(`{"size":${text}}`))).toBe('accepted');
  });

  it.each(['0', '-1', '9007199254740991', '-9007199254740991', '0.5', '1.5e-3'])(
    'takes %s where plain integers are wanted',
    (text) => {
      expect(parse(text, { plainIntegers: true })).toBe(Number(text));
    },
  );
});

describe('nesting', () => {
  it('counts arrays and objects together', () => {
    expect(codeOf(() => parse('[{"a":[1]}]', { maxDepth: 3 }))).toBe('accepted');
    expect(codeOf(() => parse('[{"a":[1]}]', { maxDepth: 2 }))).toBe('json-too-deep');
    expect(codeOf(() => parse('1', { maxDepth: 0 }))).toBe('accepted');
  });

  it('does not count siblings or brackets in strings', () => {
    expect(codeOf(() => parse('[[],[],{},"[[[["]', { maxDepth: 2 }))).toBe('accepted');
  });

  it('refuses millions of levels without running out of stack', () => {
    expect(codeOf(() => parse('['.repeat(5_000_000)))).toBe('json-too-deep');
    expect(codeOf(() => parse('{"a":'.repeat(2_000_000)))).toBe('json-too-deep');
  });

  it('survives depth that the caller allows', () => {
    const depth = 200_000;
    expect(codeOf(() => parse('['.repeat(depth) + ']'.repeat(depth), { maxDepth: depth }))).toBe('accepted');
  });
});

describe('duplicate keys', () => {
  it.each([
    ['plain', '{"a":1,"a":1}'],
    ['written with an escape', '{"a":1,"\\u0061":2}'],
    ['two spellings of one escape', '{"\\u000a":1,"\\n":2}'],
    ['upper and lower case hex', '{"\\u00ea":1,"\\u00EA":2}'],
    ['surrogate pair', '{"😀":1,"\\ud83d\\ude00":2}'],
    ['escaped slash', '{"a/b":1,"a\\/b":2}'],
    ['nested in an object', '{"x":{"a":1,"b":{},"a":2}}'],
    ['nested in an array', '[0,[{"a":1},{"a":1,"b":[{}],"a":2}]]'],
    ['behind a nested object', '{"a":{"b":[]},"a":2}'],
    ['the empty key', '{"":1,"":2}'],
    ['__proto__', '{"__proto__":1,"__proto__":2}'],
    ['apart by white space', '{ "a" : 1 ,\n\t"a" : 2 }'],
  ])('%s', (_, text) => {
    expect(codeOf(() => parse(text))).toBe('json-duplicate-key');
  });

  it.each([
    ['the same key in two objects', '[{"a":1},{"a":2}]'],
    ['the same key in parent and child', '{"a":{"a":{"a":1}}}'],
    ['a value equal to a key', '{"a":"a","b":["a","a"]}'],
    ['other case', '{"a":1,"A":2}'],
    ['other normal form', '{"\u00e9":1,"e\u0301":2}'],
    ['strings with structure in them', '{"a":",\\"a\\":","b":"}{"}'],
  ])('are not: %s', (_, text) => {
    expect(codeOf(() => parse(text))).toBe('accepted');
  });

  it('are found wherever they are put, however they are escaped', () => {
    const escapeAll = (key: string): string =>
      `"${[...key].map((c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`).join('')}"`;
    const key = fc.string({ unit: 'grapheme-ascii', maxLength: 8 });
    fc.assert(
      fc.property(
        fc.uniqueArray(key, { minLength: 1, maxLength: 10 }),
        fc.nat(),
        fc.boolean(),
        (keys, pick, nested) => {
          const wrap = (members: string[]): string =>
            nested ? `[{"k":{${members.join()}}}]` : `{${members.join()}}`;
          const members = keys.map((k) => `${JSON.stringify(k)}:0`);
          expect(codeOf(() => parse(wrap(members)))).toBe('accepted');
          members.push(`${escapeAll(keys[pick % keys.length] ?? '')}:0`);
          expect(codeOf(() => parse(wrap(members)))).toBe('json-duplicate-key');
        },
      ),
    );
  });

  it('are not carried from one object to the next on the same level', () => {
    const many = Array.from({ length: 30 }, (_, i) => `"k${i}":[{"k${i}":0}]`);
    expect(codeOf(() => parse(`[{${many.join()}},{${many.join()}}]`))).toBe('accepted');
    for (const i of [0, 7, 8, 9, 29]) {
      expect(codeOf(() => parse(`[{${many.join()}},{${many.join()},"k${i}":1}]`))).toBe('json-duplicate-key');
    }
  });

  it('makes keys long enough to collide in the hash table impossible', () => {
    expect(codeOf(() => parse(`{"${'a'.repeat(4096)}":1}`))).toBe('accepted');
    expect(codeOf(() => parse(`{"${'a'.repeat(4097)}":1}`))).toBe('json-invalid');
  });
});

describe('harmless keys', () => {
  it('__proto__ is a field like any other', () => {
    const value = asObject(parse('{"__proto__":{"polluted":true},"a":{}}'), 'value', 'json-invalid');
    expect(Object.getPrototypeOf(value)).toBeNull();
    expect(value['polluted']).toBeUndefined();
    expect(Object.keys(value)).toEqual(['__proto__', 'a']);
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });

  it('what Object.prototype has is not found in a document', () => {
    const value = asObject(parse('{"a":[{"b":{}}]}'), 'value', 'json-invalid');
    const inner = asObject(asArray(value['a'], 'a', 'json-invalid')[0], 'a[0]', 'json-invalid');
    for (const object of [value, inner, asObject(inner['b'], 'b', 'json-invalid')]) {
      for (const key of ['constructor', 'toString', 'hasOwnProperty', '__proto__'])
        expect(object[key]).toBeUndefined();
    }
  });
});

it('reads a document of the largest allowed size', () => {
  const item = '{"name":"blobs/sha256/0123456789abcdef","size":1234567,"kind":"layer"}';
  const count = Math.floor((64 * 1024 * 1024 - 2) / (item.length + 1));
  const value = parse(`[${`${item},`.repeat(count - 1)}${item}]`);
  expect(asArray(value, 'value', 'json-invalid')).toHaveLength(count);
}, 60_000);

it('shows hostile keys and names inert', () => {
  try {
    parseJson(Buffer.from('{"\\u001b[2J":1,"\\u001b[2J":2}'), { ...options, what: 'x\u202ey' });
    expect.unreachable();
  } catch (error) {
    const { message, subject } = error as SealiftError;
    expect(message).toBe('an object has the key "\\u{1b}[2J" twice');
    expect(subject).toBe('x\\u{202e}y');
  }
});

describe('guards', () => {
  const code = 'manifest-invalid';
  const bad: [string, () => unknown][] = [
    ['null as object', () => asObject(null, 'a', code)],
    ['array as object', () => asObject([], 'a', code)],
    ['nothing as object', () => asObject(undefined, 'a', code)],
    ['object as array', () => asArray({}, 'a', code)],
    ['number as string', () => asString(1, 'a', code)],
    ['string that does not match', () => asString('x', 'a', code, /^y$/)],
    ['string as integer', () => asInteger('1', 'a', code)],
    ['float as integer', () => asInteger(1.5, 'a', code)],
    ['negative integer', () => asInteger(-1, 'a', code)],
    ['unsafe integer', () => asInteger(2 ** 53, 'a', code)],
    ['integer above max', () => asInteger(3, 'a', code, { max: 2 })],
    ['string as boolean', () => asBoolean('true', 'a', code)],
    ['number among strings', () => asStrings(['a', 1], 'a', code)],
    ['number in a string map', () => asStringMap({ a: 1 }, 'a', code)],
    ['unknown field', () => assertOnlyKeys({ a: 1, b: 2 }, ['a'], 'x', code)],
  ];
  it.each(bad)('refuse %s', (_, action) => {
    expect(codeOf(action)).toBe(code);
  });

  it('say where, what was found and what was wanted', () => {
    expect(() => asInteger('7', 'manifests[3].size', code)).toThrow(
      'manifests[3].size: got "7", want an integer from 0 to 9007199254740991',
    );
  });

  it('hand through what is right', () => {
    expect(asInteger(0, 'a', code)).toBe(0);
    expect(asInteger(-5, 'a', code, { min: -5 })).toBe(-5);
    expect(asString('y', 'a', code, /^y$/)).toBe('y');
    expect(asBoolean(false, 'a', code)).toBe(false);
    expect(asStrings(['a'], 'a', code)).toEqual(['a']);
    expect(asStringMap({ a: 'b' }, 'a', code)).toEqual({ a: 'b' });
    expect(() => assertOnlyKeys({ a: 1 }, ['a', 'b'], 'x', code)).not.toThrow();
  });
});
