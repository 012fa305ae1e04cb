/** Blobs on their way into the store. */
import { createReadStream, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { singleImage } from '../../fixtures/images.ts';
import { entriesOf } from '../../fixtures/mutate.ts';
import { makeWorld, type World } from '../../fixtures/world.ts';

let world: World;
beforeEach(async () => {
  world = await makeWorld();
});
afterEach(() => world.close());

it('a stream that is damaged before anything is decided leaves nothing in quarantine', async () => {
  const images = [singleImage('one'), singleImage('two'), singleImage('three')];
  const { output } = await world.export(
    Object.fromEntries(images.map((image, at) => [`a.example/app:${at}`, image])),
  );
  await world.pin(output);
  const bytes = readFileSync(output);
  const configs = new Set(images.map(({ blobs: [config] }) => config?.digest.replace(':', '/')));
  const places = entriesOf(bytes).filter(({ name }) => configs.has(name.replace('blobs/', '')));
  const last = places.at(-1);
  if (!last || places.length !== 3) throw new Error('no configs');
  bytes[last.contentOffset] = (bytes[last.contentOffset] ?? 0) ^ 1;
  const damaged = path.join(world.directory, 'damaged.tar');
  writeFileSync(damaged, bytes);
  const bundle = { kind: 'stream', stream: createReadStream(damaged) } as const;
  await expect(world.import(damaged, { bundle })).rejects.toMatchObject({ code: 'digest-mismatch' });
  expect(readdirSync(path.join(world.store, '.sealift', 'ingest'))).toEqual([]);
});
