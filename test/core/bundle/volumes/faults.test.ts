/** Media that fill up in the middle of a volume, or keep other bytes than were written. */
import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { MediumRequest } from '../../../../core/bundle/volumes/medium.ts';
import type * as Sink from '../../../../core/bundle/volumes/sink.ts';
import type * as ReadBack from '../../../../core/fs/read-back.ts';
import type { VolumeOutput } from '../../../../core/workflow-options.ts';
import { largeImage, manyLayersImage } from '../../../../fixtures/images.ts';
import { makeWorld, START, TEST_PASSPHRASE, type World } from '../../../../fixtures/world.ts';
import { errorOf } from './helpers.ts';

const VOLUME = 40_000;
const IMAGES = {
  'registry.example/large:1': largeImage(2, 90_000),
  'registry.example/many:1': manyLayersImage(4),
};

/** The file system is full in the middle of this volume, or the medium keeps other bytes of it; as often as `times` says. */
const fault = vi.hoisted(() => ({ fullIn: 0, badIn: 0, times: 0 }));

vi.mock('../../../../core/bundle/volumes/sink.ts', async (original) => {
  const real = await original<typeof Sink>();
  const createVolumeFiles: typeof real.createVolumeFiles = (options, context) => {
    const target = real.createVolumeFiles(options, context);
    return {
      async open(cut, from) {
        const sink = await target.open(cut, from);
        let bytes = from;
        return {
          ...sink,
          async write(chunk) {
            bytes += chunk.length;
            if (cut.number === fault.fullIn && bytes > cut.size / 2 && fault.times > 0) {
              fault.times -= 1;
              // What came before has reached the medium.
              await sink.sync();
              throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
            }
            await sink.write(chunk);
          },
        };
      },
    };
  };
  return { ...real, createVolumeFiles };
});

vi.mock('../../../../core/fs/read-back.ts', async (original) => {
  const real = await original<typeof ReadBack>();
  const hashPastCache: typeof real.hashPastCache = async (file, ...rest) => {
    const found = await real.hashPastCache(file, ...rest);
    if (!file.includes(`.00${fault.badIn}`) || fault.times === 0) return found;
    fault.times -= 1;
    // What a dying stick gives back: one bit is another.
    return { hashes: { sha256: `0${found?.hashes.sha256?.slice(1)}` }, bytes: found?.bytes ?? 0 };
  };
  const readPastCache: typeof real.readPastCache = async (file, signal) => {
    if (fault.badIn !== -1 || fault.times === 0) return real.readPastCache(file, signal);
    fault.times -= 1;
    return (async function* pieces() {
      const bytes = readFileSync(file);
      const last = bytes.length - 2000;
      bytes[last] = (bytes[last] ?? 0) ^ 1;
      yield bytes;
    })();
  };
  return { ...real, hashPastCache, readPastCache };
});

let world: World;
let directory: string;
beforeEach(async () => {
  Object.assign(fault, { fullIn: 0, badIn: 0, times: 0 });
  world = await makeWorld();
  directory = path.join(world.directory, 'medium');
});
afterEach(() => world.close());

function run(volumes: Partial<VolumeOutput> = {}, passphrase = true) {
  return world.export(IMAGES, {
    created: START,
    file: path.join(directory, 'images.tar'),
    readBack: async () => true,
    volumes: { size: VOLUME, ...volumes },
    passphrase: async () => {
      if (!passphrase) throw new Error('a passphrase was asked for');
      return TEST_PASSPHRASE;
    },
  });
}

const volumesIn = (where: string): string[] => readdirSync(where).filter((name) => /\.\d{3}$/.test(name));
const all = (): string[] => readdirSync(directory).sort();

async function again(): Promise<Awaited<ReturnType<typeof run>>> {
  // The same command names the same images.
  const images = readdirSync(world.directory)
    .filter((name) => name.startsWith('layout-'))
    .slice(0, 1);
  const { parseLocation } = await import('../../../../core/transport/location.ts');
  const layout = path.join(world.directory, images[0] ?? '');
  return world.export(
    {},
    {
      images: Object.keys(IMAGES).map((name) => parseLocation(`${name}=oci:${layout}:${name}`)),
      created: START,
      file: path.join(directory, 'images.tar'),
      readBack: async () => true,
      volumes: { size: VOLUME },
      passphrase: () => Promise.reject(new Error('a passphrase was asked for')),
    },
  );
}

describe('a medium that is full in the middle of a volume', () => {
  it('ends the run with the volume, what is whole and what to do; the same command goes on', async () => {
    Object.assign(fault, { fullIn: 3, times: 1 });
    const error = await errorOf(() => run());
    expect(error).toMatchObject({ code: 'destination-full', category: 'destination', got: 2 });
    expect(error.message).toContain('in the middle of volume 3 of ');
    expect(error.hint).toContain('volumes 1 and 2 are whole');
    expect(error.hint).toContain('larger medium');
    expect(volumesIn(directory)).toEqual(['images.tar.001', 'images.tar.002']);
    const inodes = volumesIn(directory).map((name) => statSync(path.join(directory, name)).ino);
    const result = await again();
    expect(result.resumed).toBe(true);
    expect(
      volumesIn(directory)
        .slice(0, 2)
        .map((name) => statSync(path.join(directory, name)).ino),
    ).toEqual(inodes);
    await world.pin(path.join(directory, 'images.tar.001'));
    expect((await world.import(directory)).imported).toHaveLength(2);
    expect(all().filter((name) => name.startsWith('.'))).toEqual([]);
  });

  it('is changed for a larger one in the same run, and the volume is whole there', async () => {
    Object.assign(fault, { fullIn: 2, times: 1 });
    const asked: MediumRequest[] = [];
    const other = path.join(world.directory, 'larger');
    mkdirSync(other);
    const { volumes } = await run({
      medium: async (request) => {
        asked.push(request);
        return other;
      },
    });
    expect(asked).toMatchObject([{ purpose: 'write', wanted: [2] }]);
    expect(asked[0]?.problem).toContain('full in the middle of volume 2');
    expect(volumesIn(directory)).toEqual(['images.tar.001']);
    expect(all().filter((name) => name.endsWith('.partial'))).toEqual([]);
    expect(volumesIn(other)).toHaveLength((volumes?.total ?? 0) - 1);
    const paths = volumes?.written.map((one) => one.path) ?? [];
    await world.pin(paths[0] ?? '');
    expect(
      await world.import(paths[0] ?? '', {
        bundle: { kind: 'file', path: paths[0] ?? '', volumes: paths.slice(1) },
      }),
    ).toMatchObject({ imported: Object.keys(IMAGES) });
  });

  it('where room was made on it, is gone on with in the same run', async () => {
    Object.assign(fault, { fullIn: 2, times: 2 });
    const { volumes } = await run({ medium: async ({ directory: same }) => same });
    expect(volumesIn(directory)).toHaveLength(volumes?.total ?? 0);
    await world.pin(path.join(directory, 'images.tar.001'));
    expect((await world.import(directory)).imported).toHaveLength(2);
  });

  it('again and again ends the run', async () => {
    Object.assign(fault, { fullIn: 2, times: 1000 });
    const error = await errorOf(() => run({ medium: async ({ directory: same }) => same }));
    expect(error.code).toBe('destination-full');
    expect(volumesIn(directory)).toEqual(['images.tar.001']);
  });
});

describe('a medium that keeps other bytes than were written', () => {
  it('is named with the volume; nothing of it has its name, and that volume alone is made again', async () => {
    Object.assign(fault, { badIn: 2, times: 1 });
    const error = await errorOf(() => run());
    expect(error).toMatchObject({
      code: 'destination-failed',
      subject: path.join(directory, 'images.tar.002'),
    });
    expect(error.message).toContain('did not keep volume 2 of ');
    expect(error.hint).toContain('volume 1 is whole');
    expect(all()).toEqual(['images.tar.001', 'images.volumes.json']);
    const { ino } = statSync(path.join(directory, 'images.tar.001'));
    await again();
    expect(statSync(path.join(directory, 'images.tar.001')).ino).toBe(ino);
    await world.pin(path.join(directory, 'images.tar.001'));
    expect((await world.import(directory)).imported).toHaveLength(2);
  });

  it('is changed for another in the same run, and only that volume goes there again', async () => {
    Object.assign(fault, { badIn: 2, times: 1 });
    const other = path.join(world.directory, 'sound');
    mkdirSync(other);
    const asked: string[] = [];
    const { volumes } = await run({
      medium: async ({ problem = '' }) => {
        asked.push(problem);
        return other;
      },
    });
    expect(asked).toEqual([expect.stringContaining('did not keep volume 2')]);
    expect(volumesIn(directory)).toEqual(['images.tar.001']);
    expect(volumesIn(other)).toHaveLength((volumes?.total ?? 0) - 1);
  });

  it('keeps no bundle in one file either, and the same command writes it again', async () => {
    Object.assign(fault, { badIn: -1, times: 1 });
    const options = { file: path.join(directory, 'one.tar'), readBack: async () => true };
    const error = await errorOf(() => world.export(IMAGES, options));
    expect(error).toMatchObject({ code: 'destination-failed', subject: options.file });
    expect(all()).toEqual([]);
    await world.export(IMAGES, options);
    expect(all()).toEqual(['one.tar']);
  });
});
