import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseChallenges } from '../../../../core/transport/registry/challenge.ts';

const plain = (fields: string[]) =>
  parseChallenges(fields).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);

describe('WWW-Authenticate', () => {
  it.each<[string, [string, Record<string, string>][]]>([
    ['Basic realm="a"', [['basic', { realm: 'a' }]]],
    ['BASIC', [['basic', {}]]],
    [
      'Bearer realm="https://t/token",service="r",scope="repository:a/b:pull,push"',
      [['bearer', { realm: 'https://t/token', service: 'r', scope: 'repository:a/b:pull,push' }]],
    ],
    ['Bearer realm = "a" , service=b', [['bearer', { realm: 'a', service: 'b' }]]],
    [
      'Basic realm="a, b=\\"c\\"", Bearer realm="d"',
      [
        ['basic', { realm: 'a, b="c"' }],
        ['bearer', { realm: 'd' }],
      ],
    ],
    [
      'Negotiate, Basic realm="a"',
      [
        ['negotiate', {}],
        ['basic', { realm: 'a' }],
      ],
    ],
    [
      'Negotiate YII+/=, Bearer realm="a"',
      [
        ['negotiate', {}],
        ['bearer', { realm: 'a' }],
      ],
    ],
    ['Bearer realm="a",realm="evil"', [['bearer', { realm: 'a' }]]],
    ['Bearer realm="a', [['bearer', {}]]],
    [', ,Basic realm=a,,', [['basic', { realm: 'a' }]]],
    ['realm="a"', []],
    ['', []],
  ])('reads %s', (field, want) => {
    expect(plain([field])).toEqual(want);
  });

  it('reads several fields', () => {
    expect(plain(['Basic realm="a"', 'Bearer realm="b"'])).toEqual([
      ['basic', { realm: 'a' }],
      ['bearer', { realm: 'b' }],
    ]);
  });

  it('reads back what is written, whatever the realm', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.stringMatching(/^[a-z]{1,8}$/), fc.string()), { maxLength: 5 }),
        (pairs) => {
          const field = pairs
            .map(([scheme, realm]) => `${scheme} realm="${realm.replace(/["\\]/g, '\\$&')}"`)
            .join(', ');
          expect(plain([field])).toEqual(pairs.map(([scheme, realm]) => [scheme, { realm }]));
        },
      ),
    );
  });

  it('never throws, never takes long, never returns many', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'binary', maxLength: 200 })), (fields) => {
        expect(parseChallenges(fields).length).toBeLessThanOrEqual(16);
      }),
    );
    expect(
      parseChallenges([`Basic ${'a='.repeat(1_000_000)}`, 'a '.repeat(100_000)]).length,
    ).toBeLessThanOrEqual(16);
  });
});
