/** Split and join, held against the tools everybody has. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseVolumeIndex } from '../../../../core/bundle/volumes/volume-index.ts';
import { joinBundle, type SplitOptions, splitBundle } from '../../../../core/volumes.ts';
import { largeImage, manyLayersImage } from '../../../../fixtures/images.ts';
import { makeWorld, type World } from '../../../../fixtures/world.ts';
import { cutByHand, errorOf, flipByte } from './helpers.ts';

let world: World;
let bundle: string;
let size: number;
let directory: string;
const VOLUME = 50_000;

beforeAll(async () => {
  world = await makeWorld();
  bundle = (
    await world.export(
      { 'registry.example/large:1': largeImage(3, 90_000), 'registry.example/many:1': manyLayersImage(6) },
      { file: path.join(world.directory, 'images.tar') },
    )
  ).output;
  await world.pin(bundle);
  ({ size } = statSync(bundle));
  directory = path.join(world.directory, 'volumes');
});
afterAll(() => world?.close());

const split = (options: Partial<SplitOptions> = {}) =>
  splitBundle(
    { bundle, volumeSize: VOLUME, directory, force: true, readBack: async () => false, ...options },
    world.context(),
  );
const join = (volumes: readonly [string, ...string[]], output: string) =>
  joinBundle({ volumes, output, force: true }, world.context());
const shell = (script: string): string =>
  execFileSync('/bin/sh', ['-c', script], { cwd: directory, encoding: 'utf8' });

describe('split', () => {
  it('is what cat puts together, byte for byte, and what sha256sum says', async () => {
    const result = await split();
    expect(result.volumes).toHaveLength(Math.ceil(size / VOLUME));
    expect(shell('cat images.tar.??? | sha256sum').slice(0, 64)).toBe(
      shell(`sha256sum < ${bundle}`).slice(0, 64),
    );
    const sums = result.volumes.map((volume) => `${volume.sha256}  ${path.basename(volume.path)}\n`).join('');
    writeFileSync(path.join(world.directory, 'sums'), sums);
    expect(shell('sha256sum --quiet -c ../sums')).toBe('');
    expect(statSync(result.volumes[0]?.path as string).size).toBe(VOLUME);
  });

  it('writes the same volumes as a knife, and the list beside them', async () => {
    await split();
    const byHand = path.join(world.directory, 'by-hand');
    cutByHand(bundle, byHand, VOLUME);
    const files = readdirSync(byHand).sort();
    expect(readdirSync(directory).sort()).toEqual(files);
    for (const file of files)
      expect(
        readFileSync(path.join(directory, file)).equals(readFileSync(path.join(byHand, file))),
        file,
      ).toBe(true);
  });

  it('makes one volume again, alone, and completes the list', async () => {
    await split();
    const third = path.join(directory, 'images.tar.003');
    const good = readFileSync(third);
    const alone = path.join(world.directory, 'alone');
    const result = await split({ only: 3, directory: alone });
    expect(result.volumes.map(({ number }) => number)).toEqual([3]);
    expect(readFileSync(path.join(alone, 'images.tar.003')).equals(good)).toBe(true);
    flipByte(third, 9);
    await split({ only: 3 });
    expect(readFileSync(third).equals(good)).toBe(true);
    const list = parseVolumeIndex(
      readFileSync(path.join(directory, 'images.volumes.json')),
      'images.tar',
      '',
    );
    expect(list.hashes.every((hash) => hash !== undefined)).toBe(true);
    expect(await errorOf(() => split({ only: 99 }))).toMatchObject({ code: 'invalid-argument' });
  });

  it('reads back what it wrote, where the medium lets it', async () => {
    const result = await split({ readBack: async () => true });
    expect(result.volumes.length).toBeGreaterThan(2);
    expect(world.events).toContainEqual(expect.objectContaining({ phase: 'read-back' }));
  });

  it('replaces nothing unless told, and leaves nothing half under a final name', async () => {
    await split();
    expect(await errorOf(() => split({ force: false }))).toMatchObject({ code: 'destination-exists' });
    const damaged = path.join(world.directory, 'no-bundle.tar');
    writeFileSync(damaged, readFileSync(bundle).subarray(0, size - 600));
    const empty = path.join(world.directory, 'empty');
    expect(await errorOf(() => split({ bundle: damaged, directory: empty }))).toMatchObject({
      code: 'bundle-truncated',
    });
    mkdirSync(empty, { recursive: true });
    expect(readdirSync(empty)).toEqual([]);
  });

  it('takes volumes and cuts them anew', async () => {
    await split();
    const larger = path.join(world.directory, 'larger');
    const result = await split({
      bundle: path.join(directory, 'images.tar.001'),
      volumeSize: 120_000,
      directory: larger,
    });
    expect(result.total).toBe(Math.ceil(size / 120_000));
    expect((await world.verify(larger)).images).toHaveLength(2);
  });

  it('refuses names that some medium does not take', async () => {
    const odd = path.join(world.directory, 'im:ages.tar');
    writeFileSync(odd, readFileSync(bundle));
    expect(await errorOf(() => split({ bundle: odd }))).toMatchObject({ code: 'invalid-argument' });
  });
});

describe('join', () => {
  it('gives the bundle back, from a directory or from volumes in any order', async () => {
    const { volumes } = await split();
    const output = path.join(world.directory, 'joined.tar');
    const result = await join([directory], output);
    expect(readFileSync(output).equals(readFileSync(bundle))).toBe(true);
    expect(result.sha256).toBe(shell(`sha256sum < ${bundle}`).slice(0, 64));
    rmSync(output);
    const [first = '', ...rest] = volumes.map((volume) => volume.path).reverse();
    await join([first, ...rest], output);
    expect(readFileSync(output).equals(readFileSync(bundle))).toBe(true);
  });

  it('names the volume that is damaged, and leaves no file under the name', async () => {
    await split();
    flipByte(path.join(directory, 'images.tar.004'), 20_000);
    const output = path.join(world.directory, 'never.tar');
    const error = await errorOf(() => join([directory], output));
    expect(error).toMatchObject({ code: 'volume-damaged' });
    expect(error.message).toContain('volume 4 of');
    expect(readdirSync(world.directory)).not.toContain('never.tar');
  });
});
