/** Bundles in volumes are read however they are given, and each fault is told of its volume. */
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { MediumRequest } from '../../../../core/bundle/volumes/medium.ts';
import {
  assertPortableName,
  cutVolumes,
  parseVolumeName,
  parseVolumeSize,
  volumeName,
} from '../../../../core/bundle/volumes/names.ts';
import { findVolumes, openVolumes } from '../../../../core/bundle/volumes/set.ts';
import { encodeVolumeIndex, parseVolumeIndex } from '../../../../core/bundle/volumes/volume-index.ts';
import { ERROR_CODES } from '../../../../core/errors.ts';
import { importBundle } from '../../../../core/import.ts';
import { inspectLocation } from '../../../../core/inspect.ts';
import { openBundleSource } from '../../../../core/transport/bundle/source.ts';
import { verifyBundle } from '../../../../core/verify.ts';
import type { BundleInput } from '../../../../core/workflow-options.ts';
import { largeImage, manyLayersImage } from '../../../../fixtures/images.ts';
import { blobDigests } from '../../../../fixtures/store.ts';
import { makeWorld, type World } from '../../../../fixtures/world.ts';
import { cutByHand, errorOf, flipByte, sha256 } from './helpers.ts';

const IMAGES = {
  'registry.example/large:1': largeImage(3, 90_000),
  'registry.example/many:1': manyLayersImage(6),
};

let world: World;
let bundle: string;
let other: string;
let size: number;
/** Five volumes, so that the large layers lie across borders. */
let volumeSize: number;
let directory: string;

beforeAll(async () => {
  world = await makeWorld();
  bundle = (await world.export(IMAGES)).output;
  other = (
    await world.export({
      'registry.example/large:1': largeImage(3, 90_000, 'others'),
      'registry.example/many:1': manyLayersImage(6),
    })
  ).output;
  await world.pin(bundle);
  ({ size } = statSync(bundle));
  volumeSize = Math.ceil(size / 5) + 1;
  directory = path.join(world.directory, 'volumes');
});
afterAll(() => world?.close());

/** The volumes of the bundle, as they should be. */
const fresh = (options: Parameters<typeof cutByHand>[3] = {}): string[] =>
  cutByHand(bundle, directory, volumeSize, options);

const verify = (input: Omit<Extract<BundleInput, { kind: 'file' }>, 'kind'>) =>
  verifyBundle(
    {
      bundle: { kind: 'file', ...input },
      gate: world.gate,
      names: [],
      deep: true,
      overrides: { allowClockJump: false },
    },
    world.context(),
  );

const importFrom = (input: Omit<Extract<BundleInput, { kind: 'file' }>, 'kind'>, store: string) =>
  importBundle(
    {
      bundle: { kind: 'file', ...input },
      gate: world.gate,
      store,
      only: [],
      overrides: { allowClockJump: false },
      concurrency: 2,
      pid: process.pid,
      actor: 'tester',
    },
    world.context(),
  );

describe('a bundle in volumes', () => {
  it('has layers that lie across volumes, or nothing here would be tried', () => {
    const files = fresh();
    expect(files).toHaveLength(5);
    expect(Buffer.concat(files.map((file) => readFileSync(file))).equals(readFileSync(bundle))).toBe(true);
    expect(volumeSize).toBeLessThan(90_000);
  });

  it('is verified from a directory, from its first volume, from any other, and from all in any order', async () => {
    const files = fresh();
    const wanted = await verify({ path: bundle });
    for (const input of [
      { path: directory },
      { path: files[0] as string },
      { path: files[3] as string },
      { path: files[4] as string, volumes: [0, 2, 1, 3].map((at) => files[at] as string) },
    ]) {
      const result = await verify(input);
      expect({ ...result, bundle: '' }).toEqual({ ...wanted, bundle: '' });
    }
  });

  it('is verified without a list of volumes, and when they lie in several directories', async () => {
    const files = fresh({ index: false });
    const spread = files.map((file, at) => {
      const there = path.join(world.directory, `medium-${at}`, path.basename(file));
      mkdirSync(path.dirname(there), { recursive: true });
      copyFileSync(file, there);
      return there;
    });
    const result = await verify({
      path: spread[2] as string,
      volumes: [0, 1, 3, 4].map((at) => spread[at] as string),
    });
    expect(result.images).toHaveLength(2);
    expect((await verify({ path: directory })).size).toBe(size);
  });

  it('is imported with the same store as from one file', async () => {
    fresh();
    const whole = path.join(world.directory, 'store-whole');
    const pieces = path.join(world.directory, 'store-pieces');
    await importFrom({ path: bundle }, whole);
    const result = await importFrom({ path: directory }, pieces);
    expect(result.imported).toHaveLength(2);
    expect(blobDigests(pieces)).toEqual(blobDigests(whole));
    expect(readFileSync(path.join(pieces, 'index.json'))).toEqual(
      readFileSync(path.join(whole, 'index.json')),
    );
  });

  it('is told from a whole bundle whose name ends in a number', async () => {
    fresh();
    const named = path.join(world.directory, 'numbered', 'images-1.2.003');
    mkdirSync(path.dirname(named), { recursive: true });
    copyFileSync(bundle, named);
    copyFileSync(other, path.join(path.dirname(named), 'images-1.2.004'));
    expect((await verify({ path: named })).images).toHaveLength(2);
  });

  it('is shown by inspect, and is a source of images', async () => {
    fresh();
    const shown = await inspectLocation({ location: directory, names: [] }, world.context());
    expect(shown.images.map(({ name }) => name)).toEqual(Object.keys(IMAGES).sort());
    const source = await openBundleSource({ kind: 'bundle', file: directory }, world.context());
    try {
      const image = IMAGES['registry.example/large:1'];
      for (const layer of image.blobs) {
        const pieces: Uint8Array[] = [];
        for await (const piece of await source.blob({
          digest: layer.digest as never,
          size: layer.size,
          mediaType: '',
        }))
          pieces.push(piece);
        expect(`sha256:${sha256(Buffer.concat(pieces))}`).toBe(layer.digest);
      }
    } finally {
      await source.close();
    }
  });

  it('is read in volumes of any size, also where headers and end blocks are cut', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 4096, max: 40_000 }), async (cut) => {
        cutByHand(bundle, directory, cut);
        expect((await verify({ path: directory })).images).toHaveLength(2);
      }),
      { numRuns: 8 },
    );
    cutByHand(bundle, directory, size - 700);
    expect((await verify({ path: directory })).images).toHaveLength(2);
  });
});

describe('faults of volumes', () => {
  it('a volume is missing', async () => {
    const files = fresh();
    rmSync(files[2] as string);
    const error = await errorOf(() => verify({ path: directory }));
    expect(error).toMatchObject({ code: 'volume-missing', category: 'needed' });
    expect(error.message).toContain('volume 3');
    expect(error.message).toContain('missing');
    expect(error.subject).toContain('images.tar.003');
  });

  it('the last volumes are missing, which the bundle itself tells, with a list or without', async () => {
    for (const index of [true, false]) {
      const files = fresh({ index });
      rmSync(files[3] as string);
      rmSync(files[4] as string);
      const error = await errorOf(() => verify({ path: directory }));
      expect(error).toMatchObject({ code: 'volume-missing', want: 5 });
      expect(error.message).toBe('volumes 4 and 5 of 5 are missing');
    }
  });

  it('the first volume is missing', async () => {
    const files = fresh();
    rmSync(files[0] as string);
    const error = await errorOf(() => verify({ path: files[0] as string }));
    expect(error).toMatchObject({ code: 'volume-missing' });
    expect(error.message).toContain('volume 1');
  });

  it.each([true, false])('a volume is damaged, and named, list or none: %s', async (index) => {
    for (const [at, number] of [
      [20, 1],
      [volumeSize - 9, 3],
      [33, 4],
      [9, 5],
    ] as const) {
      const files = fresh({ index });
      flipByte(files[number - 1] as string, at);
      const error = await errorOf(() => verify({ path: directory }));
      expect(error, error.message).toMatchObject({ code: 'volume-damaged', category: 'malformed' });
      // Without a list a layer across two volumes is known to be wrong, not in which of them.
      expect(error.message).toMatch(new RegExp(`volumes? .*${number}\\b.*damaged`));
      if (index) expect(error.message).toContain(`volume ${number} of 5`);
    }
  });

  it('a volume is damaged: nothing of the image is in the store', async () => {
    const files = fresh();
    flipByte(files[2] as string, 4000);
    const store = path.join(world.directory, 'store-damaged');
    const error = await errorOf(() => importFrom({ path: directory }, store));
    expect(error).toMatchObject({ code: 'volume-damaged' });
    expect(error.message).toContain('volume 3 of 5');
    expect(
      existsSync(path.join(store, 'index.json')) ? readFileSync(path.join(store, 'index.json'), 'utf8') : '',
    ).not.toContain('registry.example');
    // Throws where a blob under its name is not what the name says.
    blobDigests(store);
  });

  it('a volume ends too early, or is too long', async () => {
    const files = fresh();
    truncateSync(files[1] as string, volumeSize - 1);
    const short = await errorOf(() => verify({ path: directory }));
    expect(short).toMatchObject({ code: 'volume-damaged', got: volumeSize - 1, want: volumeSize });
    expect(short.message).toContain('volume 2 of 5 ends too early');
    fresh();
    const last = files[4] as string;
    writeFileSync(last, Buffer.concat([readFileSync(last), Buffer.alloc(1)]));
    const long = await errorOf(() => verify({ path: directory }));
    expect(long).toMatchObject({ code: 'volume-damaged' });
    expect(long.message).toContain('volume 5 of 5 is too long');
    fresh();
    truncateSync(files[0] as string, 5000);
    expect((await errorOf(() => verify({ path: directory }))).message).toContain(
      'volume 1 of 5 ends too early',
    );
  });

  it('the same volume is given twice', async () => {
    const files = fresh();
    const copy = path.join(world.directory, 'copy', path.basename(files[1] as string));
    mkdirSync(path.dirname(copy), { recursive: true });
    copyFileSync(files[1] as string, copy);
    const error = await errorOf(() => verify({ path: directory, volumes: [copy] }));
    expect(error).toMatchObject({ code: 'volume-duplicate', category: 'malformed' });
    expect(error.message).toContain('volume 2 is there twice');
  });

  it('a volume is from another bundle, on a medium with a list of its own', async () => {
    const files = fresh();
    const foreign = path.join(world.directory, 'foreign');
    const theirs = cutByHand(other, foreign, volumeSize);
    const medium = path.join(world.directory, 'medium-foreign');
    mkdirSync(medium, { recursive: true });
    copyFileSync(theirs[2] as string, path.join(medium, 'images.tar.003'));
    copyFileSync(path.join(foreign, 'images.volumes.json'), path.join(medium, 'images.volumes.json'));
    const mine = [0, 1, 3, 4].map((at) => files[at] as string);
    const error = await errorOf(() => verify({ path: path.join(medium, 'images.tar.003'), volumes: mine }));
    expect(error).toMatchObject({ code: 'volume-foreign', category: 'malformed' });
    expect(error.message).toContain('volume 3 of 5 is from another bundle');
  });

  it('a volume is from another bundle, put among the others', async () => {
    const files = fresh();
    const theirs = cutByHand(other, path.join(world.directory, 'foreign'), volumeSize);
    copyFileSync(theirs[3] as string, files[3] as string);
    const error = await errorOf(() => verify({ path: directory }));
    expect(error).toMatchObject({ code: 'volume-damaged' });
    expect(error.message).toContain('volume 4 of 5 is damaged, or from another bundle');
  });

  it('volumes of several bundles lie in one directory', async () => {
    const files = fresh();
    copyFileSync(files[0] as string, path.join(directory, 'other.tar.001'));
    expect(await errorOf(() => verify({ path: directory }))).toMatchObject({ code: 'volume-foreign' });
    expect((await verify({ path: files[0] as string })).images).toHaveLength(2);
  });

  it('volumes have one another’s numbers', async () => {
    const files = fresh();
    const aside = path.join(directory, 'aside');
    renameSync(files[1] as string, aside);
    renameSync(files[2] as string, files[1] as string);
    renameSync(aside, files[2] as string);
    const error = await errorOf(() => verify({ path: directory }));
    expect(error).toMatchObject({ code: 'volume-misplaced', category: 'malformed' });
    expect(error.message).toMatch(
      /the file of volume 2 of 5 holds volume 3|the file of volume 3 of 5 holds volume 2/,
    );
  });

  it('a volume too many', async () => {
    const files = fresh();
    copyFileSync(files[4] as string, path.join(directory, 'images.tar.006'));
    const error = await errorOf(() => verify({ path: directory }));
    expect(error).toMatchObject({ code: 'volume-unexpected', category: 'malformed' });
    expect(error.message).toContain('volume 6 does not belong to the bundle, which has 5 volumes');
  });

  it('a volume is no ordinary file', async () => {
    const files = fresh();
    rmSync(files[1] as string);
    mkdirSync(files[1] as string);
    expect(await errorOf(() => verify({ path: files[0] as string }))).toMatchObject({
      code: 'volume-damaged',
    });
  });
});

describe('a hostile list of volumes', () => {
  const list = () => path.join(directory, 'images.volumes.json');

  it.each([
    ['no JSON', () => 'volumes: 5'],
    ['deep', () => '['.repeat(5000)],
    ['a key twice', (good: string) => good.replace('"name"', '"name":"images.tar","name"')],
    ['a name that leads elsewhere', (good: string) => good.replace('"images.tar.002"', '"../../etc/passwd"')],
    ['another bundle’s name', (good: string) => good.replace('"name":"images.tar",', '"name":"other.tar",')],
    ['a size that is none', (good: string) => good.replace(/"volumeSize":\d+/, '"volumeSize":-1')],
    [
      'a size of zero, which would never end',
      (good: string) => good.replace(/"volumeSize":\d+/, '"volumeSize":0'),
    ],
    ['a billion volumes', (good: string) => good.replace(/("bundle":\{.*?"size":)\d+/, '$19007199254740991')],
    ['a hash that is none', (good: string) => good.replace(/"sha256":"[0-9a-f]{64}"/, '"sha256":"zz"')],
    ['a format to come', (good: string) => good.replace('"formatVersion":1', '"formatVersion":2')],
    ['two megabytes', (good: string) => good + ' '.repeat(2 * 1024 * 1024)],
  ])('is refused by name: %s', async (_, edit) => {
    fresh();
    writeFileSync(list(), edit(readFileSync(list(), 'utf8')));
    const error = await errorOf(() => verify({ path: directory }));
    expect(error).toMatchObject({ code: 'volume-index-invalid', category: 'malformed' });
    expect(error.subject).toContain('images.volumes.json');
  });

  it('decides nothing: wrong hashes, sizes and number, and the bundle is let in all the same', async () => {
    fresh();
    const manifestSha256 = 'a'.repeat(64);
    const lies = {
      name: 'images.tar',
      manifestSha256,
      size: 7 * volumeSize,
      volumeSize,
      hashes: Array.from({ length: 7 }, () => 'b'.repeat(64)),
    };
    writeFileSync(list(), encodeVolumeIndex(lies));
    expect((await verify({ path: directory })).images).toHaveLength(2);
    expect(world.events).toContainEqual(expect.objectContaining({ code: 'volume-index-foreign' }));
  });

  it('that says a damaged volume is fine does not get it in', async () => {
    const files = fresh();
    flipByte(files[2] as string, 4000);
    const good = parseVolumeIndex(readFileSync(list()), 'images.tar', list());
    const hashes = files.map((file) => sha256(readFileSync(file)));
    writeFileSync(list(), encodeVolumeIndex({ ...good, hashes }));
    expect(await errorOf(() => verify({ path: directory }))).toMatchObject({ code: 'volume-damaged' });
  });

  it('is written and read the same, whatever is in it', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 4096, max: 2 ** 40 }),
        fc.integer({ min: 1, max: 999 }),
        fc.nat(4095),
        fc.boolean(),
        (cut, count, less, known) => {
          const index = {
            name: 'a.tar',
            manifestSha256: 'c'.repeat(64),
            size: cut * count - less,
            volumeSize: cut,
            hashes: Array.from({ length: count }, () => (known ? 'd'.repeat(64) : undefined)),
          };
          expect(parseVolumeIndex(encodeVolumeIndex(index), 'a.tar', 'file')).toEqual(index);
        },
      ),
      { numRuns: 50 },
    );
  });
});

describe('media one after another', () => {
  /** One directory for each volume, as sticks would be. */
  function media(): string[] {
    return fresh().map((file, at) => {
      const medium = path.join(world.directory, `stick-${at + 1}`);
      rmSync(medium, { recursive: true, force: true });
      mkdirSync(medium);
      copyFileSync(file, path.join(medium, path.basename(file)));
      copyFileSync(path.join(directory, 'images.volumes.json'), path.join(medium, 'images.volumes.json'));
      return medium;
    });
  }

  it.each([
    ['in order', [1, 2, 3, 4, 5]],
    ['backwards', [1, 5, 4, 3, 2]],
    ['anyhow, with one that was there already and one that is no medium of ours', [1, 4, 1, 0, 2, 5, 3]],
  ])('are imported %s, each read once', async (name, order) => {
    const sticks = media();
    const store = path.join(world.directory, `store-media-${order.join('')}`);
    const asked: MediumRequest[] = [];
    const result = await importFrom(
      {
        path: path.join(sticks[0] as string, 'images.tar.001'),
        medium: async (request) => {
          asked.push(request);
          const number = order[asked.length] as number;
          return sticks[number - 1] ?? world.directory;
        },
      },
      store,
    );
    expect(result.imported, name).toHaveLength(2);
    const whole = path.join(world.directory, 'store-by-file');
    await importFrom({ path: bundle }, whole);
    expect(blobDigests(store)).toEqual(blobDigests(whole));
    expect(asked).toHaveLength(order.length - 1);
    expect(asked[0]).toMatchObject({ purpose: 'read', wanted: [2, 3, 4, 5], total: 5, name: 'images.tar' });
    if (order.includes(0)) expect(asked.some(({ problem }) => problem !== undefined)).toBe(true);
  });

  it('the first volume is asked for when another one comes first', async () => {
    const sticks = media();
    const order = [3, 1, 2, 3, 4, 5];
    let at = 0;
    const result = await verify({
      path: path.join(sticks[2] as string, 'images.tar.003'),
      medium: async ({ wanted }) => {
        at += 1;
        if (at === 1) expect(wanted).toEqual([1]);
        return sticks[(order[at] as number) - 1] as string;
      },
    });
    expect(result.images).toHaveLength(2);
  });

  it('a volume that holds nothing but the end is asked for before a bundle is called verified', async () => {
    const rest = size % 4 || 4;
    const files = cutByHand(bundle, directory, (size - rest) / 4, { index: false });
    expect(files).toHaveLength(5);
    const [first = '', second = '', third = '', fourth = '', last = ''] = files;
    const elsewhere = path.join(world.directory, 'only-the-end');
    mkdirSync(elsewhere, { recursive: true });
    renameSync(last, path.join(elsewhere, path.basename(last)));
    const asked: (readonly number[])[] = [];
    const input = (answer: string | undefined) => ({
      path: first,
      volumes: [second, third, fourth],
      medium: async ({ wanted }: MediumRequest) => {
        asked.push(wanted);
        return answer;
      },
    });
    expect(await errorOf(() => verify(input(undefined)))).toMatchObject({ code: 'volume-missing' });
    expect(asked).toEqual([[5]]);
    const damaged = path.join(elsewhere, path.basename(last));
    flipByte(damaged, rest - 1);
    expect(await errorOf(() => verify(input(elsewhere)))).toMatchObject({ code: 'volume-damaged' });
    flipByte(damaged, rest - 1);
    expect((await verify(input(elsewhere))).images).toHaveLength(2);
  });

  it('what arrived is kept: after a stop only media with something new are asked for', async () => {
    const sticks = media();
    const store = path.join(world.directory, 'store-stopped');
    const first = path.join(sticks[0] as string, 'images.tar.001');
    let asked = 0;
    const stopped = await errorOf(() =>
      importFrom(
        {
          path: first,
          medium: async () => {
            asked += 1;
            return asked < 4 ? (sticks[asked] as string) : undefined;
          },
        },
        store,
      ),
    );
    expect(stopped).toMatchObject({ code: 'volume-missing', category: 'needed' });
    expect(stopped.message).toContain('volume 5 of 5 is missing');
    const before = blobDigests(store).length;
    expect(before).toBeGreaterThan(0);
    const again: (readonly number[])[] = [];
    const result = await importFrom(
      {
        path: first,
        medium: async ({ wanted }) => {
          again.push(wanted);
          return sticks[(wanted[0] as number) - 1] as string;
        },
      },
      store,
    );
    expect(result.imported).toHaveLength(2);
    expect(result.written.reusedBytes).toBeGreaterThan(0);
    expect(again[0]?.length).toBeLessThan(4);
  });
});

describe('the medium itself', () => {
  it('is written into the audit log with name and serial, each once, and so is one that is refused', async () => {
    const files = fresh();
    const device = async (file: string) => ({
      device: 'sdb1',
      model: 'SanDisk Ultra',
      serial: file.endsWith('.002') ? 'SECOND' : 'FIRST',
      removable: true,
    });
    const run = (store: string) =>
      importBundle(
        {
          bundle: { kind: 'file', path: directory },
          gate: world.gate,
          store: path.join(world.directory, store),
          device,
          only: [],
          overrides: { allowClockJump: false },
          concurrency: 2,
          pid: process.pid,
          actor: 'tester',
        },
        world.context(),
      );
    const result = await run('store-media-audit');
    expect(result.media?.map(({ serial }) => serial)).toEqual(['FIRST', 'SECOND']);
    const lastEntry = () =>
      JSON.parse(
        readFileSync(path.join(world.gate, 'audit.log'), 'utf8').trimEnd().split('\n').at(-1) as string,
      ) as { event: string; fields: { media: unknown } };
    const media = ['FIRST', 'SECOND'].map((serial) => ({ device: 'sdb1', model: 'SanDisk Ultra', serial }));
    expect(lastEntry()).toMatchObject({ event: 'import', fields: { media } });
    flipByte(files[2] as string, 4000);
    await errorOf(() => run('store-media-refused'));
    expect(lastEntry()).toMatchObject({ event: 'refused', fields: { code: 'volume-damaged', media } });
  });

  it('is left as it was: read-only, of another owner, without a right too many', async () => {
    const files = fresh();
    for (const file of files) {
      chmodSync(file, 0o444);
      if (process.getuid?.() === 0) chownSync(file, 65_534, 12_345);
    }
    chmodSync(directory, 0o555);
    const before = readdirSync(directory).map((name) => [name, statSync(path.join(directory, name)).mtimeMs]);
    try {
      const result = await importFrom({ path: directory }, path.join(world.directory, 'store-read-only'));
      expect(result.imported).toHaveLength(2);
    } finally {
      chmodSync(directory, 0o755);
    }
    expect(
      readdirSync(directory).map((name) => [name, statSync(path.join(directory, name)).mtimeMs]),
    ).toEqual(before);
  });
});

describe('names and sizes', () => {
  it('sizes are read with their units', () => {
    expect(parseVolumeSize('4GiB')).toBe(2 ** 32);
    expect(parseVolumeSize('fat32')).toBe(2 ** 32 - 1);
    expect(parseVolumeSize('700MB')).toBe(700_000_000);
    expect(parseVolumeSize('1.5G')).toBe(1.5 * 2 ** 30);
    expect(parseVolumeSize('8192')).toBe(8192);
    expect(parseVolumeSize('dvd')).toBeLessThan(2 ** 32);
    expect(parseVolumeSize('BD25')).toBeLessThan(25e9);
    for (const bad of ['', 'cd', '-1', '4 GiBs', '0', '100', '1e9', 'GiB', '1.GiB', 'constructor'])
      expect(() => parseVolumeSize(bad), bad).toThrow(/volume/);
  });

  it('a bundle that claims to be billions of its volumes is refused before they are counted', async () => {
    fresh();
    const [found, ...others] = await findVolumes(directory);
    if (!found) throw new Error('no volume');
    for (const claimed of [volumeSize * 1000, 2 ** 50]) {
      const bytes = await openVolumes([found, ...others], world.context(), {
        medium: async () => undefined,
      });
      try {
        expect(await errorOf(async () => bytes.expect(claimed))).toMatchObject({
          code: 'volume-damaged',
          want: 999,
        });
      } finally {
        await bytes.close();
      }
    }
  });

  it('names that some medium does not take are refused', () => {
    for (const good of ['images.tar', 'Images-2026_11.tar', 'a b.tar', `${'x'.repeat(51)}.tar`])
      expect(() => assertPortableName(good), good).not.toThrow();
    for (const bad of [
      'a:b.tar',
      'a*.tar',
      'a?.tar',
      'a;1.tar',
      'a\\b.tar',
      'con.tar',
      'LPT1.tar',
      'ä.tar',
      ' a.tar',
      'a.tar.',
      `${'x'.repeat(61)}.tar`,
    ])
      expect(() => assertPortableName(bad), bad).toThrow(/medium/);
  });

  it('cuts cover the bundle without a gap, and names say their number', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 40 }), fc.integer({ min: 1, max: 999 }), (bytes, parts) => {
        const cut = Math.ceil(bytes / parts);
        let at = 0;
        for (const { number, offset, size: length } of cutVolumes(bytes, cut)) {
          expect(offset).toBe(at);
          at += length;
          expect(parseVolumeName(volumeName('x.tar', number))).toEqual({ base: 'x.tar', number });
        }
        expect(at).toBe(bytes);
      }),
    );
    expect(() => cutVolumes(1_000_000, 1000)).toThrow(/at most 999/);
  });

  it('every code of a volume is one of damage or of need', () => {
    const codes = Object.entries(ERROR_CODES).filter(([code]) => code.startsWith('volume-'));
    expect(codes).toHaveLength(7);
    for (const [code, [category]] of codes)
      expect(category, code).toBe(code === 'volume-missing' ? 'needed' : 'malformed');
  });
});
