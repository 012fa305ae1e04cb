import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SealiftError } from '../../../core/errors.ts';
import { canonicalJson, parseCanonicalJson } from '../../../core/json/canonical.ts';

const options = { what: 'metadata', maxBytes: 1 << 20, maxDepth: 64 };

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof SealiftError) return error.code;
    throw error;
  }
  return 'accepted';
}

/** Values that have a canonical form. */
const canonicalText = fc
  .string({ unit: 'binary' })
  .map((text) => text.replace(/[\u0000-\u001f\u007f]|\p{Cs}/gu, ''));
const { value: canonicalValue } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 5 },
    fc.constantFrom(null, true, false),
    fc.maxSafeInteger().map((n) => (n === 0 ? 0 : n)),
    canonicalText,
    fc.array(tie('value'), { maxLength: 5 }),
    fc.dictionary(canonicalText, tie('value'), { maxKeys: 5 }),
  ),
}));

describe('canonical form', () => {
  it.each([
    [{ b: 1, a: [true, null, 'x'] }, '{"a":[true,null,"x"],"b":1}'],
    [{ a: 'q"b\\s/' }, '{"a":"q\\"b\\\\s/"}'],
    [{ é: 'ü😀' }, '{"é":"ü😀"}'],
    [{ 10: 1, 9: 2, a: 3 }, '{"10":1,"9":2,"a":3}'],
    [{ signed: {}, signatures: [] }, '{"signatures":[],"signed":{}}'],
    [-1, '-1'],
    [Number.MAX_SAFE_INTEGER, '9007199254740991'],
  ])('of %j', (value, text) => {
    expect(canonicalJson(value).toString()).toBe(text);
  });

  it('does not depend on the order of keys, and is read back as the same value and the same bytes', () => {
    fc.assert(
      fc.property(canonicalValue, (value) => {
        const bytes = canonicalJson(value);
        expect(canonicalJson(reversed(value)).equals(bytes)).toBe(true);
        const back = parseCanonicalJson(bytes, options);
        expect(canonicalJson(back).equals(bytes)).toBe(true);
        expect(JSON.parse(JSON.stringify(back))).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });

  it('is the only text of its value that is taken', () => {
    fc.assert(
      fc.property(canonicalValue, fc.nat(), fc.constantFrom(' ', '\n', '\t'), (value, at, space) => {
        const bytes = canonicalJson(value);
        const where = at % (bytes.length + 1);
        const changed = Buffer.concat([bytes.subarray(0, where), Buffer.from(space), bytes.subarray(where)]);
        const code = codeOf(() => parseCanonicalJson(changed, options));
        // White space within a string makes another value, whose canonical form this is; or a control character.
        if (code === 'accepted') {
          expect(canonicalJson(JSON.parse(changed.toString())).equals(changed)).toBe(true);
          expect(JSON.stringify(JSON.parse(changed.toString()))).not.toBe(
            JSON.stringify(JSON.parse(bytes.toString())),
          );
        } else expect(['metadata-malformed', 'json-invalid', 'json-duplicate-key']).toContain(code);
      }),
    );
  });
});

function reversed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reversed);
  if (typeof value !== 'object' || value === null) return value;
  const object = Object.create(null) as Record<string, unknown>;
  for (const [key, inner] of Object.entries(value).reverse()) object[key] = reversed(inner);
  return object;
}

describe('values without a canonical form', () => {
  const cyclic: unknown[] = [];
  cyclic.push(cyclic);
  const cases: [string, unknown][] = [
    ['float', 1.5],
    ['NaN', Number.NaN],
    ['infinity', Infinity],
    ['integer above 2^53-1', 2 ** 53],
    ['integer below -(2^53-1)', -(2 ** 53)],
    ['minus zero', -0],
    ['undefined', undefined],
    ['undefined field', { a: undefined }],
    ['hole in an array', new Array(1)],
    ['bigint', 1n],
    ['function', () => 1],
    ['newline in a string', 'a\nb'],
    ['NUL in a string', 'a\0'],
    ['delete in a string', 'a\u007f'],
    ['control character in a key', { 'a\u001f': 1 }],
    ['lone high surrogate', '\ud800'],
    ['lone low surrogate', 'a\udc00b'],
    ['lone surrogate in a key', { '\udfff': 1 }],
    ['date', new Date(0)],
    ['map', new Map()],
    ['bytes', Buffer.from('a')],
    ['boxed number', Object(1)],
    ['nested float', { a: [{ b: 0.1 }] }],
  ];
  it.each(cases)('%s', (_, value) => {
    expect(codeOf(() => canonicalJson(value))).toBe('json-invalid');
  });

  it('a cycle, and what is too deep', () => {
    expect(codeOf(() => canonicalJson(cyclic))).toBe('json-too-deep');
    expect(codeOf(() => canonicalJson([[[]]], 3))).toBe('accepted');
    expect(codeOf(() => canonicalJson([[[]]], 2))).toBe('json-too-deep');
  });
});

describe('documents', () => {
  it.each([
    ['white space', '{"a": 1}', 'metadata-malformed'],
    ['newline at the end', '{"a":1}\n', 'metadata-malformed'],
    ['unsorted keys', '{"b":1,"a":2}', 'metadata-malformed'],
    ['needless escape', '{"a":"\\u0062"}', 'metadata-malformed'],
    ['escaped slash', '{"a":"\\/"}', 'metadata-malformed'],
    ['integer with a fraction', '{"a":1.0}', 'metadata-malformed'],
    ['integer with an exponent', '{"a":1e2}', 'metadata-malformed'],
    ['minus zero', '{"a":-0}', 'json-invalid'],
    ['integer that is not held exactly', '{"a":9007199254740993}', 'json-invalid'],
    ['float', '{"a":0.5}', 'json-invalid'],
    ['escaped control character', '{"a":"\\u001f"}', 'json-invalid'],
    ['escaped newline', '{"a":"\\n"}', 'json-invalid'],
    ['escaped lone surrogate', '{"a":"\\ud800"}', 'json-invalid'],
    ['raw control character', '{"a":"\u0001"}', 'json-invalid'],
    ['duplicate key', '{"a":1,"a":1}', 'json-duplicate-key'],
    ['trailing data', '{"a":1}{}', 'json-invalid'],
    ['byte order mark', '\ufeff{"a":1}', 'json-invalid'],
  ])('%s', (_, text, code) => {
    expect(codeOf(() => parseCanonicalJson(Buffer.from(text), options))).toBe(code);
  });

  it('invalid UTF-8', () => {
    expect(codeOf(() => parseCanonicalJson(Buffer.from([0x22, 0xff, 0x22]), options))).toBe('json-invalid');
  });

  it('carry the code and the name they are given', () => {
    const bytes = Buffer.from('{"a": 1}');
    expect(() => parseCanonicalJson(bytes, { ...options, code: 'bundle-not-canonical' })).toThrow(
      expect.objectContaining({ code: 'bundle-not-canonical', subject: 'metadata', got: 5 }),
    );
    expect(() => parseCanonicalJson(Buffer.from('0.5'), options)).toThrow(
      expect.objectContaining({ code: 'json-invalid', subject: 'metadata' }),
    );
  });

  it('sorted by UTF-16 code units', () => {
    // U+1F600 begins with 0xd83d, which is below U+FF5E; by code points it would come last.
    const text = '{"\u{1f600}":1,"\uff5e":2}';
    expect(codeOf(() => parseCanonicalJson(Buffer.from(text), options))).toBe('accepted');
  });
});
