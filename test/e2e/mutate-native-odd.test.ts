/** Any single byte changed anywhere in a bundle with native keys is refused: the bytes at odd places, and what is no change of a byte. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { changed, createNativeJudge, entriesOf, type Judge, mutateEach } from '../../fixtures/mutate.ts';
import type { Walk } from '../../fixtures/walk.ts';

let walk: Walk;
let judge: Judge;

beforeAll(async () => {
  ({ judge, walk } = await createNativeJudge());
});
afterAll(async () => {
  await judge?.close();
  walk?.sandbox.remove();
});

it('refuses every other byte changed, at least 10,000 changes', async () => {
  const { tried, accepted, wrong } = await mutateEach(judge, { part: 1, parts: 2, least: 10_000 });
  expect(tried).toBeGreaterThanOrEqual(10_000);
  expect(accepted).toEqual([]);
  expect(wrong).toEqual([]);
}, 300_000);

it('refuses the same changes on the way through a stream', async () => {
  const { bundle } = judge;
  const entries = entriesOf(bundle);
  const offsets = new Set<number>();
  // Each field of each header, both ends of each content, its padding, and the end blocks.
  for (const { headerOffset, contentOffset, size } of entries) {
    for (const field of [0, 99, 100, 108, 124, 135, 136, 148, 156, 157, 257, 265, 329, 345, 511]) {
      offsets.add(headerOffset + field);
    }
    for (const place of [0, size >> 1, size - 1, size]) offsets.add(contentOffset + place);
  }
  offsets.add(bundle.length - 1024).add(bundle.length - 1);
  const accepted: number[] = [];
  for (const offset of offsets) {
    const copy = Buffer.from(bundle);
    copy[offset] = changed(copy[offset] as number, offset);
    const { code } = await judge.stream(copy);
    if (code === undefined) accepted.push(offset);
  }
  expect((await judge.stream(bundle)).code).toBeUndefined();
  expect(accepted).toEqual([]);
}, 120_000);

it('refuses a file that is shorter or longer', async () => {
  const { bundle } = judge;
  const wrong: string[] = [];
  for (const length of [
    0,
    1,
    511,
    512,
    bundle.length >> 1,
    bundle.length - 1024,
    bundle.length - 512,
    bundle.length - 1,
  ]) {
    const cut = bundle.subarray(0, length);
    for (const read of [judge.whole, judge.stream]) {
      if ((await read(cut)).code === undefined) wrong.push(`cut to ${length}`);
    }
  }
  for (const tail of [Buffer.alloc(1), Buffer.alloc(512), Buffer.alloc(9216), Buffer.from('x'), bundle]) {
    for (const read of [judge.whole, judge.stream]) {
      if ((await read(Buffer.concat([bundle, tail]))).code === undefined)
        wrong.push(`${tail.length} bytes behind`);
    }
  }
  expect(wrong).toEqual([]);
});

it('refuses a byte put in or taken out', async () => {
  const { bundle } = judge;
  const accepted: string[] = [];
  for (let index = 0; index < 500; index++) {
    const offset = Math.floor((index * bundle.length) / 500);
    const less = Buffer.concat([bundle.subarray(0, offset), bundle.subarray(offset + 1)]);
    const more = Buffer.concat([
      bundle.subarray(0, offset),
      bundle.subarray(offset, offset + 1),
      bundle.subarray(offset),
    ]);
    for (const [what, bytes] of [
      ['less', less],
      ['more', more],
    ] as const) {
      if ((await judge.whole(bytes)).code === undefined) accepted.push(`${what} at ${offset}`);
    }
  }
  expect(accepted).toEqual([]);
}, 120_000);
