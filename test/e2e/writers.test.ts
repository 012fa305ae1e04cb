/** One valid byte sequence: whichever writer, whichever run. */
import { cpSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { succeeded } from '../../fixtures/cli.ts';
import { makeLayout, sha512Image, sharingImages, signedImage, singleImage } from '../../fixtures/images.ts';
import { makeWalk, nowInSeconds, type Walk } from '../../fixtures/walk.ts';

describe.each(['openpgp', 'native'] as const)('a collection with %s keys', (keys) => {
  let walk: Walk;
  let layout: string;
  let created: string;
  const sharing = sharingImages();
  const images = {
    signed: signedImage(),
    one: sharing[0],
    two: sharing[1],
    sums: sha512Image(),
    single: singleImage(),
  };

  beforeAll(async () => {
    walk = makeWalk();
    layout = walk.sandbox.path('layout');
    makeLayout(
      layout,
      Object.entries(images).map(([name, root]) => ({ name, root })),
    );
    await walk.init({ keys });
    created = nowInSeconds();
  });
  afterAll(() => walk?.sandbox.remove());

  /** One export on a copy of the collection as it is now. */
  async function exportOnCopy(id: string, names: readonly string[], sequential: boolean): Promise<Buffer> {
    const collection = walk.sandbox.path(`collection-${id}`);
    cpSync(walk.sandbox.path('collection'), collection, { recursive: true });
    const sources = names.map((name) => `registry.example/${name}:v1=oci:${layout}:${name}`);
    const output = walk.sandbox.path(`${id}.sealift`);
    const result = succeeded(
      await walk.tryExport(sources, sequential ? '-' : output, {
        args: ['--created', created],
        env: { SEALIFT_COLLECTION: collection },
      }),
      'export',
    );
    return sequential ? result.stdoutBytes : readFileSync(output);
  }

  it('gives the same bytes from the positional and the sequential writer, and from two runs', async () => {
    for (const names of [Object.keys(images), ['single']]) {
      const id = names.join('-');
      const first = await exportOnCopy(`${id}-a`, names, false);
      const second = await exportOnCopy(`${id}-b`, names, false);
      const streamed = await exportOnCopy(`${id}-c`, names, true);
      expect(first.length).toBeGreaterThan(10_240);
      expect(second.equals(first)).toBe(true);
      expect(streamed.equals(first)).toBe(true);
    }
  });

  it('gives the same bytes whatever the order of the arguments', async () => {
    const names = ['signed', 'one', 'two'];
    const first = await exportOnCopy('order-a', names, false);
    expect((await exportOnCopy('order-b', names.toReversed(), false)).equals(first)).toBe(true);
  });
});
