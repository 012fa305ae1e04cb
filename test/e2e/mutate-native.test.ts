/** Any single byte changed anywhere in a bundle with native keys is refused. Every position is tried. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeArtifact, makeLayout, singleImage } from '../../fixtures/images.ts';
import { changed, createJudge, entriesOf, type Judge } from '../../fixtures/mutate.ts';
import { makeWalk, type Walk } from '../../fixtures/walk.ts';

/** What a refusal over bytes, types or trust may be called; anything else is the wrong reason. */
const REFUSALS = new Set([
  'bundle-not-canonical',
  'bundle-truncated',
  'bundle-trailing-data',
  'bundle-compressed',
  'bundle-too-large',
  'derived-file-mismatch',
  'blob-missing',
  'digest-mismatch',
  'size-mismatch',
  'media-type-mismatch',
  'json-invalid',
  'json-duplicate-key',
  'metadata-malformed',
  'format-unsupported',
  'manifest-invalid',
  'pin-mismatch',
  'not-pinned',
  'root-chain-broken',
  'signature-threshold',
  'signature-invalid',
  'weak-algorithm',
  'mix-and-match',
  'target-mismatch',
]);

let walk: Walk;
let judge: Judge;

beforeAll(async () => {
  walk = makeWalk();
  const layout = walk.sandbox.path('layout');
  const artifact = makeArtifact({
    artifactType: 'application/vnd.example.small',
    files: { note: 'small\n' },
  });
  makeLayout(layout, [
    { name: 'single', root: singleImage() },
    { name: 'artifact', root: artifact },
  ]);
  await walk.init({ keys: 'native' });
  const bundle = walk.sandbox.path('small.sealift');
  await walk.export(
    ['single', 'artifact'].map((name) => `registry.example/${name}:v1=oci:${layout}:${name}`),
    bundle,
  );
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

it('refuses at least 20,000 changes of one byte, at every position of the file', async () => {
  const { bundle } = judge;
  const positions = bundle.length;
  const rounds = Math.ceil(20_000 / positions);
  const accepted: number[] = [];
  const wrong: string[] = [];
  let tried = 0;
  for (let round = 0; round < rounds; round++) {
    for (let offset = 0; offset < positions; offset++) {
      const byte = changed(bundle[offset] as number, offset + round * 7919);
      const { code } = await judge.at(offset, byte);
      tried += 1;
      if (code === undefined) accepted.push(offset);
      else if (!REFUSALS.has(code)) wrong.push(`${offset}: ${code}`);
    }
  }
  expect(tried).toBeGreaterThanOrEqual(20_000);
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
