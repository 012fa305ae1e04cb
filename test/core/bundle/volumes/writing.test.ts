/** Exports into volumes: the same bytes as into one file, on whatever media, however often it was stopped. */
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openVolumeLog } from '../../../../core/bundle/volumes/log.ts';
import type { MediumRequest } from '../../../../core/bundle/volumes/medium.ts';
import { parseVolumeIndex } from '../../../../core/bundle/volumes/volume-index.ts';
import type { SealiftEvent } from '../../../../core/events.ts';
import { exportBundle } from '../../../../core/export.ts';
import type { ExportResult } from '../../../../core/results.ts';
import { parseLocation } from '../../../../core/transport/location.ts';
import { joinBundle } from '../../../../core/volumes.ts';
import type { VolumeOutput } from '../../../../core/workflow-options.ts';
import { largeImage, makeLayout, manyLayersImage, sha512Image } from '../../../../fixtures/images.ts';
import {
  DAY,
  makeWorld,
  SOURCE_OPTIONS,
  START,
  TEST_PASSPHRASE,
  type World,
} from '../../../../fixtures/world.ts';
import { errorOf, sha256 } from './helpers.ts';

const IMAGES = {
  'registry.example/large:1': largeImage(3, 90_000),
  'registry.example/many:1': manyLayersImage(6),
  'registry.example/long:1': sha512Image(),
};
const VOLUME = 40_000;

let world: World;
let layout: string;
let whole: Buffer;
let start: string;

beforeAll(async () => {
  world = await makeWorld();
  layout = path.join(world.directory, 'layout');
  makeLayout(
    layout,
    Object.entries(IMAGES).map(([name, root]) => ({ name, root })),
  );
  start = path.join(world.directory, 'collection-start');
  cpSync(world.collection, start, { recursive: true });
  const result = await run({ directory: path.join(world.directory, 'whole') });
  whole = readFileSync(result.output);
  await world.pin(result.output);
});
afterAll(() => world?.close());

interface Run {
  readonly directory: string;
  readonly volumes?: Partial<VolumeOutput> | undefined;
  /** False goes on with the collection as the last run left it. */
  readonly anew?: boolean;
  readonly passphrase?: boolean;
  readonly force?: boolean;
  readonly readBack?: boolean;
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: SealiftEvent) => void;
}

async function run(options: Run): Promise<ExportResult> {
  const {
    directory,
    volumes,
    readBack = false,
    anew = true,
    passphrase = true,
    force = false,
    signal,
    onEvent,
  } = options;
  if (anew) {
    rmSync(world.collection, { recursive: true, force: true });
    cpSync(start, world.collection, { recursive: true });
    rmSync(directory, { recursive: true, force: true });
  }
  const context = world.context();
  return exportBundle(
    {
      collection: world.collection,
      images: Object.keys(IMAGES).map((name) => parseLocation(`${name}=oci:${layout}:${name}`)),
      output: { kind: 'file', path: path.join(directory, 'images.tar') },
      platforms: [],
      lifetime: 90 * DAY,
      created: START,
      includeEvidence: true,
      dockerArchive: false,
      force,
      readBack: async () => readBack,
      concurrency: 4,
      source: SOURCE_OPTIONS,
      passphrase: async () => {
        if (!passphrase) throw new Error('a passphrase was asked for');
        return TEST_PASSPHRASE;
      },
      pid: process.pid,
      ...(volumes === undefined ? {} : { volumes: { size: VOLUME, ...volumes } }),
    },
    { ...context, ...(signal ? { signal } : {}), ...(onEvent ? { emit: onEvent } : {}) },
  );
}

const put = (...parts: string[]): string => path.join(world.directory, ...parts);
const joined = (directory: string): Buffer =>
  Buffer.concat(
    readdirSync(directory)
      .filter((name) => /\.\d{3}$/.test(name))
      .sort()
      .map((name) => readFileSync(path.join(directory, name))),
  );

describe('an export into volumes', () => {
  it('gives the bytes of the export into one file, with a list that fits', async () => {
    const directory = put('plain');
    const { volumes } = await run({ directory, volumes: {} });
    expect(joined(directory).equals(whole)).toBe(true);
    expect(volumes).toMatchObject({ size: VOLUME, total: Math.ceil(whole.length / VOLUME) });
    const list = parseVolumeIndex(
      readFileSync(path.join(directory, 'images.volumes.json')),
      'images.tar',
      '',
    );
    expect(list.hashes).toEqual(volumes?.written.map(({ path: file }) => sha256(readFileSync(file))));
    expect(readdirSync(directory).filter((name) => name.startsWith('.'))).toEqual([]);
    expect((await world.import(directory)).imported).toHaveLength(3);
  });

  it('does so in volumes of any size', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 4096, max: whole.length + 5000 }), async (size) => {
        const directory = put('any');
        await run({ directory, volumes: { size } });
        expect(joined(directory).equals(whole)).toBe(true);
      }),
      { numRuns: 8 },
    );
  });

  it('ends volumes on borders of blobs and headers too', async () => {
    const manifest = JSON.parse(readFileSync(put('plain', 'images.volumes.json'), 'utf8')) as {
      bundle: { size: number };
    };
    for (const size of [
      manifest.bundle.size,
      manifest.bundle.size - 1024,
      manifest.bundle.size - 512,
      8192,
      4608,
    ]) {
      const directory = put('borders');
      await run({ directory, volumes: { size } });
      expect(joined(directory).equals(whole), String(size)).toBe(true);
    }
  });

  it('reads each volume back before it has its name', async () => {
    const phases: string[] = [];
    const directory = put('read-back');
    await run({
      directory,
      volumes: {},
      readBack: true,
      onEvent: (event) => {
        if (event.type === 'phase' && event.phase === 'read-back') {
          phases.push(event.title);
          expect(readdirSync(directory).some((name) => name.endsWith('.partial'))).toBe(true);
        }
      },
    });
    expect(phases).toHaveLength(Math.ceil(whole.length / VOLUME));
  });

  it('into one file is read back too', async () => {
    const phases: string[] = [];
    const directory = put('read-back');
    const result = await run({
      directory,
      readBack: true,
      onEvent: (event) => {
        if (event.type === 'phase') phases.push(event.phase);
      },
    });
    expect(phases).toContain('read-back');
    expect(readFileSync(result.output).equals(whole)).toBe(true);
  });

  it('never follows a link that somebody has put in the place of a partial file', async () => {
    const precious = put('precious');
    writeFileSync(precious, 'of the carrier');
    const home = put('linked');
    const stick = put('linked-stick');
    rmSync(stick, { recursive: true, force: true });
    mkdirSync(stick);
    symlinkSync(precious, path.join(stick, '.images.tar.002.partial'));
    await run({
      directory: home,
      volumes: { changeMedia: true, size: Math.ceil(whole.length / 2), medium: async () => stick },
    });
    expect(readFileSync(precious, 'utf8')).toBe('of the carrier');
    expect(Buffer.concat([joined(home), joined(stick)]).equals(whole)).toBe(true);

    const output = put('joined', 'images.tar');
    mkdirSync(path.dirname(output), { recursive: true });
    symlinkSync(precious, put('joined', '.images.tar.partial'));
    const volumes = [path.join(home, 'images.tar.001'), path.join(stick, 'images.tar.002')] as const;
    await joinBundle({ volumes, output, force: false }, world.context());
    expect(readFileSync(precious, 'utf8')).toBe('of the carrier');
    expect(readFileSync(output).equals(whole)).toBe(true);
  });

  it('refuses what is there, odd names and too many volumes, before anything is signed', async () => {
    const directory = put('plain');
    await run({ directory, volumes: {} });
    const again = { directory, anew: false, passphrase: false } as const;
    expect(await errorOf(() => run({ ...again, volumes: {} }))).toMatchObject({ code: 'destination-exists' });
    expect(await errorOf(() => run({ directory: put('small'), volumes: { size: 10 } }))).toMatchObject({
      code: 'invalid-argument',
    });
    const result = await run({ directory, anew: false, force: true, volumes: {} });
    expect(result.collection.version).toBe(3);
    expect((await world.verify(directory)).images).toHaveLength(3);
  });
});

describe('one medium after another', () => {
  it('each with one volume and a list of what is known by then', async () => {
    const home = put('drive');
    const asked: MediumRequest[] = [];
    const result = await run({
      directory: home,
      volumes: {
        changeMedia: true,
        medium: async (request) => {
          asked.push(request);
          const medium = put(`disc-${request.wanted[0]}`);
          rmSync(medium, { recursive: true, force: true });
          mkdirSync(medium);
          return medium;
        },
      },
    });
    const total = Math.ceil(whole.length / VOLUME);
    expect(asked.map(({ wanted }) => wanted[0])).toEqual(
      Array.from({ length: total - 1 }, (_, at) => at + 2),
    );
    expect(asked[0]).toMatchObject({ purpose: 'write', total, name: 'images.tar', directory: home });
    const media = [home, ...asked.map(({ wanted }) => put(`disc-${wanted[0]}`))];
    for (const [at, medium] of media.entries()) {
      expect(readdirSync(medium).sort()).toEqual([
        `images.tar.${String(at + 1).padStart(3, '0')}`,
        'images.volumes.json',
      ]);
      const list = parseVolumeIndex(readFileSync(path.join(medium, 'images.volumes.json')), 'images.tar', '');
      expect(list.hashes.filter((hash) => hash !== undefined)).toHaveLength(at + 1);
    }
    const bytes = result.volumes?.written.map(({ path: file }) => readFileSync(file)) ?? [];
    expect(Buffer.concat(bytes).equals(whole)).toBe(true);
  });

  it('without a way to ask ends with what is needed, and the same command goes on with the next', async () => {
    const drive = put('drive');
    const media: string[] = [];
    const total = Math.ceil(whole.length / VOLUME);
    for (let number = 1; number < total; number += 1) {
      const error = await errorOf(() =>
        run({
          directory: drive,
          volumes: { changeMedia: true },
          anew: number === 1,
          passphrase: number === 1,
        }),
      );
      expect(error).toMatchObject({ code: 'medium-needed', category: 'needed', got: number, want: total });
      expect(error.message).toContain(`volume ${number + 1} of ${total}`);
      // Somebody takes the medium out and puts an empty one in its place.
      const away = put(`away-${number}`);
      rmSync(away, { recursive: true, force: true });
      renameSync(drive, away);
      mkdirSync(drive);
      media.push(away);
    }
    await run({ directory: drive, volumes: { changeMedia: true }, anew: false, passphrase: false });
    const all = Buffer.concat([...media, drive].map((medium) => joined(medium)));
    expect(all.equals(whole)).toBe(true);
  });
});

describe('an export into volumes that was stopped', () => {
  it('goes on without a passphrase, repeats no volume, and gives the same bytes', async () => {
    const total = Math.ceil(whole.length / VOLUME);
    for (let stop = 1; stop < total; stop += 2) {
      const directory = put('stopped');
      const controller = new AbortController();
      let seen = 0;
      await errorOf(() =>
        run({
          directory,
          volumes: {},
          signal: controller.signal,
          onEvent: (event) => {
            if (event.type !== 'notice' || event.code !== 'volume-written') return;
            seen += 1;
            if (seen === stop) controller.abort();
          },
        }),
      );
      const before = readdirSync(directory).filter((name) => /\.\d{3}$/.test(name));
      expect(before.length).toBeGreaterThanOrEqual(stop);
      const result = await run({ directory, volumes: {}, anew: false, passphrase: false });
      expect(result.resumed).toBe(true);
      expect(result.volumes?.written.map(({ number }) => number)).toEqual(
        Array.from({ length: total - before.length }, (_, at) => before.length + 1 + at),
      );
      expect(joined(directory).equals(whole), `stopped after ${stop}`).toBe(true);
    }
  });

  it('is begun anew where the volumes are to have another size', async () => {
    const directory = put('stopped');
    const controller = new AbortController();
    await errorOf(() =>
      run({
        directory,
        volumes: {},
        signal: controller.signal,
        onEvent: (event) => {
          if (event.type === 'notice' && event.code === 'volume-written') controller.abort();
        },
      }),
    );
    const error = await errorOf(() => run({ directory, volumes: { size: 50_000 }, anew: false }));
    expect(error).toMatchObject({ code: 'destination-exists' });
    await run({ directory, volumes: { size: 50_000 }, anew: false, force: true });
    expect((await world.verify(path.join(directory, 'images.tar.001'))).images).toHaveLength(3);
  });
});

describe('one volume again', () => {
  it('has the same bytes, wherever it lies', async () => {
    const directory = put('again');
    const { volumes } = await run({ directory, volumes: {} });
    for (const { number, path: file, sha256: hash } of volumes?.written ?? []) {
      rmSync(file);
      const result = await run({ directory, volumes: { only: number }, anew: false, passphrase: false });
      expect(result.volumes?.written).toEqual([expect.objectContaining({ number, sha256: hash })]);
      expect(sha256(readFileSync(file))).toBe(hash);
    }
    expect(joined(directory).equals(whole)).toBe(true);
  });

  it('is made of what was exported then, also when the collection has moved on', async () => {
    const directory = put('again');
    await run({ directory, volumes: {} });
    const third = readFileSync(path.join(directory, 'images.tar.003'));
    await run({ directory: put('later'), anew: false });
    await run({ directory, volumes: { only: 3 }, anew: false, passphrase: false, force: true });
    expect(readFileSync(path.join(directory, 'images.tar.003')).equals(third)).toBe(true);
  });

  it('is refused where it is there, where nothing is known of it, and where the command was another one', async () => {
    const directory = put('again');
    await run({ directory, volumes: {} });
    const again = { directory, anew: false, passphrase: false } as const;
    expect(await errorOf(() => run({ ...again, volumes: { only: 2 } }))).toMatchObject({
      code: 'destination-exists',
    });
    expect(await errorOf(() => run({ ...again, volumes: { only: 99 } }))).toMatchObject({
      code: 'invalid-argument',
    });
    expect(await errorOf(() => run({ ...again, volumes: { only: 2, size: 50_000 } }))).toMatchObject({
      code: 'invalid-argument',
    });
    expect(
      await errorOf(() => run({ ...again, directory: put('elsewhere'), volumes: { only: 2 } })),
    ).toMatchObject({ code: 'invalid-argument' });
  });
});

describe('a source that is damaged', () => {
  it('leaves no volume that holds any of the bad blob, and the same command goes on when it is repaired', async () => {
    const layer = IMAGES['registry.example/large:1'].blobs.find(({ size }) => size > 2 * VOLUME);
    if (!layer) throw new Error('no layer is larger than two volumes');
    const file = path.join(layout, 'blobs', layer.digest.replace(':', '/'));
    const good = readFileSync(file);
    const bad = Buffer.from(good);
    bad[bad.length - 1] = (bad.at(-1) ?? 0) ^ 1;
    const directory = put('damaged');
    try {
      writeFileSync(file, bad);
      const error = await errorOf(() => run({ directory, volumes: {} }));
      expect(error.code).toBe('digest-mismatch');
    } finally {
      writeFileSync(file, good);
    }
    const at = whole.indexOf(good);
    expect(at).toBeGreaterThan(0);
    const first = Math.floor(at / VOLUME) + 1;
    expect(existsSync(path.join(directory, `images.tar.${String(first).padStart(3, '0')}`))).toBe(false);
    const result = await run({ directory, volumes: {}, anew: false, passphrase: false });
    expect(result.volumes?.written[0]?.number).toBe(first);
    expect(joined(directory).equals(whole)).toBe(true);
  });

  it('that gives other bytes for a blob than before the stop is found out, and its volumes are written anew', async () => {
    const layer = IMAGES['registry.example/large:1'].blobs.find(({ size }) => size > 2 * VOLUME);
    const file = path.join(layout, 'blobs', (layer?.digest ?? '').replace(':', '/'));
    const good = readFileSync(file);
    const first = Math.floor(whole.indexOf(good) / VOLUME) + 1;
    const directory = put('changed');
    const bad = Buffer.from(good);
    bad[5] = (bad[5] ?? 0) ^ 1;
    const controller = new AbortController();
    try {
      // The volume in which the layer begins is written from bad bytes, and nobody knows, since the end is not reached.
      writeFileSync(file, bad);
      await errorOf(() =>
        run({
          directory,
          volumes: {},
          signal: controller.signal,
          onEvent: (event) => {
            if (event.type === 'notice' && event.message.startsWith(`volume ${first} `)) controller.abort();
          },
        }),
      );
    } finally {
      writeFileSync(file, good);
    }
    const error = await errorOf(() => run({ directory, volumes: {}, anew: false, passphrase: false }));
    expect(error.message).toContain('other bytes for a blob than before');
    await run({ directory, volumes: {}, anew: false, passphrase: false });
    expect(joined(directory).equals(whole)).toBe(true);
  });
});

describe('the log of volumes', () => {
  it('is what was written, whatever a torn write left', async () => {
    const directory = put('log');
    mkdirSync(directory);
    const log = openVolumeLog(directory);
    const hash = 'a'.repeat(64);
    await log.add({ number: 1, sha256: hash });
    await log.add({ number: 2, sha256: hash, prefix: hash });
    writeFileSync(path.join(directory, 'volumes.log'), `volume 3 ${hash}`, { flag: 'a' });
    await log.finish();
    expect(await log.read()).toEqual({
      volumes: [
        { number: 1, sha256: hash },
        { number: 2, sha256: hash, prefix: hash },
      ],
      finished: true,
    });
    await log.forget(2);
    expect(await log.read()).toEqual({ volumes: [{ number: 1, sha256: hash }], finished: false });
  });
});
