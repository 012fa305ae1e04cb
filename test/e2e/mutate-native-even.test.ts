/** Any single byte changed anywhere in a bundle with native keys is refused: the bytes at even places. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createNativeJudge, type Judge, mutateEach } from '../../fixtures/mutate.ts';
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

it('refuses every second byte changed, at least 10,000 changes', async () => {
  const { tried, accepted, wrong } = await mutateEach(judge, { part: 0, parts: 2, least: 10_000 });
  expect(tried).toBeGreaterThanOrEqual(10_000);
  expect(accepted).toEqual([]);
  expect(wrong).toEqual([]);
}, 300_000);
