/**
 * Any single byte changed in a bundle with OpenPGP keys is refused, or lies inside the armor of SHA256SUMS.asc
 * and changes nothing of the result.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeLayout, singleImage } from '../../fixtures/images.ts';
import { changed, createJudge, entriesOf, type Judge } from '../../fixtures/mutate.ts';
import { makeWalk, type Walk } from '../../fixtures/walk.ts';

let walk: Walk;
let judge: Judge;

beforeAll(async () => {
  walk = makeWalk();
  const layout = walk.sandbox.path('layout');
  makeLayout(layout, [{ name: 'single', root: singleImage() }]);
  await walk.init({ keys: 'openpgp' });
  const bundle = walk.sandbox.path('small.sealift');
  await walk.export([`registry.example/single:v1=oci:${layout}:single`], bundle);
  judge = await createJudge({
    bundle,
    scratch: walk.sandbox.path('scratch.sealift'),
    gate: walk.sandbox.path('gate'),
    fingerprint: await walk.rootFingerprint(),
  });
});
afterAll(async () => {
  await judge?.close();
  walk?.sandbox.remove();
});

it('refuses, or in armor and unhashed areas gives exactly the same result', async () => {
  const { bundle, wanted } = judge;
  const entries = entriesOf(bundle);
  const armor = entries.find((entry) => entry.name === 'SHA256SUMS.asc');
  if (armor === undefined) throw new Error('no SHA256SUMS.asc in the bundle');
  const offsets = new Set<number>();
  // All of the armor, a third of the timestamp, and a part of the rest.
  for (let place = 0; place < armor.size; place++) offsets.add(armor.contentOffset + place);
  const timestamp = entries.find((entry) => entry.name === 'metadata/timestamp.json');
  if (timestamp === undefined) throw new Error('no timestamp in the bundle');
  for (let place = 0; place < timestamp.size; place += 3) offsets.add(timestamp.contentOffset + place);
  for (let offset = 3; offset < bundle.length; offset += 23) offsets.add(offset);
  const outside: number[] = [];
  const other: number[] = [];
  let same = 0;
  for (const offset of offsets) {
    const { code, result } = await judge.at(offset, changed(bundle[offset] as number, offset));
    if (code !== undefined) continue;
    if (offset < armor.contentOffset || offset >= armor.contentOffset + armor.size) outside.push(offset);
    if (JSON.stringify(result) === JSON.stringify(wanted)) same += 1;
    else other.push(offset);
  }
  expect(outside).toEqual([]);
  expect(other).toEqual([]);
  // Where nothing at all is let through, the exception above is not looked at.
  expect(same).toBeLessThan(armor.size);
}, 300_000);
