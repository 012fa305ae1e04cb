import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseRange } from '../../../core/publish/range.ts';

const whole = { kind: 'whole' };
const unsatisfiable = { kind: 'unsatisfiable' };
const part = (start: number, end: number): object => ({ kind: 'part', start, end });

describe('parseRange', () => {
  it.each([
    [undefined, whole],
    ['bytes=0-9', part(0, 9)],
    ['bytes=3-5', part(3, 5)],
    ['bytes=3-', part(3, 9)],
    ['bytes=-4', part(6, 9)],
    ['bytes=-100', part(0, 9)],
    ['bytes=0-100', part(0, 9)],
    ['bytes=9-9', part(9, 9)],
    ['bytes=10-', unsatisfiable],
    ['bytes=10-12', unsatisfiable],
    ['bytes=-0', unsatisfiable],
    ['bytes=5-3', whole],
    ['bytes=-', whole],
    ['bytes=0-1,3-4', whole],
    ['bytes= 0-1', whole],
    ['bytes=0x1-2', whole],
    ['items=0-1', whole],
    [`bytes=${'9'.repeat(16)}-`, whole],
  ])('%s of 10 bytes', (header, want) => {
    expect(parseRange(header, 10)).toEqual(want);
  });

  it('has nothing to give of an empty blob', () => {
    expect(parseRange('bytes=0-', 0)).toEqual(unsatisfiable);
    expect(parseRange('bytes=-5', 0)).toEqual(unsatisfiable);
  });

  it('never leaves the blob', () => {
    fc.assert(
      fc.property(fc.nat(2 ** 31), fc.option(fc.nat()), fc.option(fc.nat()), (size, first, last) => {
        const answer = parseRange(`bytes=${first ?? ''}-${last ?? ''}`, size);
        if (answer.kind !== 'part') return;
        expect(answer.start).toBeGreaterThanOrEqual(0);
        expect(answer.start).toBeLessThanOrEqual(answer.end);
        expect(answer.end).toBeLessThan(size);
      }),
    );
  });
});
