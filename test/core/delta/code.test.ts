import fc from 'fast-check';
import { expect, test } from 'vitest';
import { looksLikeCode, paperCode, parseCode } from '../../../core/delta/code.ts';

const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const hex = fc.stringMatching(/^[0-9a-f]{64}$/);
const arrivals = fc.record({
  collection: hex,
  version: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
  manifest: hex,
});

test('a code is what was written down in the docs', () => {
  const code = paperCode({ collection: '1'.repeat(64), version: 17, manifest: '2'.repeat(64) });
  expect(code).toMatch(/^17-[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}$/);
  expect(code).toBe('17-T6QK-0TH7');
});

test('every code is understood in any spelling people use', () => {
  fc.assert(
    fc.property(arrivals, (arrival) => {
      const code = paperCode(arrival);
      expect(looksLikeCode(code)).toBe(true);
      const [version, first, second] = code.split('-');
      const sloppy = `${version}-${first}${second}`.toLowerCase().replaceAll('0', 'o');
      // The digits of the version stay digits.
      const spelt = `${version}${sloppy.slice(String(version).length)}`;
      for (const text of [
        code,
        ` ${code}\n`,
        code.toLowerCase(),
        spelt,
        spelt.replaceAll('1', 'l').replace(/^[^-]*/, `${version}`),
      ])
        expect(parseCode(text)).toEqual({ code, version: arrival.version });
    }),
  );
});

test('every single wrong character is found, and every two neighbours swapped', () => {
  fc.assert(
    fc.property(arrivals, fc.nat(), fc.nat({ max: 30 }), (arrival, at, other) => {
      const code = paperCode(arrival);
      const places = [...code].flatMap((c, i) => (c === '-' ? [] : [i]));
      const place = places[at % places.length] ?? 0;
      const digits = place < code.indexOf('-') ? '0123456789' : ALPHABET;
      const wrong = [...digits].filter((c) => c !== code[place]);
      const typed = `${code.slice(0, place)}${wrong[other % wrong.length]}${code.slice(place + 1)}`;
      expect(() => parseCode(typed)).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
      const next = places[(at % places.length) + 1];
      if (next === undefined || code[next] === code[place]) return;
      // A letter cannot stand in the version: that is refused by its form.
      const swapped = [...code];
      [swapped[place], swapped[next]] = [code[next] ?? '', code[place] ?? ''];
      expect(() => parseCode(swapped.join(''))).toThrow(
        expect.objectContaining({ code: 'invalid-argument' }),
      );
    }),
  );
});

test('what is no code is refused as none', () => {
  for (const text of [
    '',
    '17',
    '17-K7Q2',
    '0-K7Q2-9FMD',
    '17-K7Q2-9FMDD',
    '17-K7U2-9FMD',
    '17-K7Q2-9FM',
    'last',
  ])
    expect(() => parseCode(text), text).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
  for (const text of ['last', 'receipt.json', './17-K7Q2-9FMD', 'b.tar'])
    expect(looksLikeCode(text)).toBe(false);
});
