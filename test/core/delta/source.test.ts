/** A delta as where images come from: completed by what is named, or named with what it lacks; never half. */
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { BundleManifest } from '../../../core/bundle/manifest.ts';
import { diffLocations } from '../../../core/diff.ts';
import { previewExport } from '../../../core/preview.ts';
import { type RebundleOptions, rebundle } from '../../../core/rebundle.ts';
import { parseLocation } from '../../../core/transport/location.ts';
import { readRoot } from '../../../core/trust-admin.ts';
import { withdrawNames } from '../../../core/trust-ops/index.ts';
import { splitBundle } from '../../../core/volumes.ts';
import { type FixtureManifest, makeImage, makeLayer, singleImage } from '../../../fixtures/images.ts';
import {
  DAY,
  filesOf,
  flip,
  layerNames,
  makeWorld,
  SOURCE_OPTIONS,
  START,
  TEST_PASSPHRASE,
  type World,
} from '../../../fixtures/world.ts';

const APP = 'registry.example/team/app:1';
const LIB = 'registry.example/team/lib:2';
const OLD = 'registry.example/team/old:1';
const later = (days: number) => new Date(START.getTime() + days * DAY);
const LAST = { kind: 'last' } as const;

/** An image of one layer that never changes and one of its own. */
function grown(label: string): FixtureManifest {
  return makeImage({
    platform: { os: 'linux', architecture: 'amd64' },
    layers: [
      makeLayer({ 'base.txt': 'the same in all'.repeat(500) }),
      makeLayer({ 'own.txt': label.repeat(300) }),
    ],
  });
}

function manifestOf(file: string): BundleManifest {
  return JSON.parse(String(filesOf(file).get('sealift.json'))) as BundleManifest;
}

const blobsOf = (file: string): string[] =>
  [...filesOf(file).keys()].filter((name) => name.startsWith('blobs/')).sort();

interface Refused {
  readonly code: string;
  readonly message: string;
  readonly hint: string;
  readonly subject: string;
}

async function refusal(work: Promise<unknown>): Promise<Refused> {
  return work.then(
    () => ({ code: 'accepted', message: '', hint: '', subject: '' }),
    (error: Refused) => error,
  );
}

let world: World;
let first: string;
let delta: string;
beforeEach(async () => {
  world = await makeWorld();
  first = (await world.export({ [APP]: grown('one'), [LIB]: singleImage('lib') })).output;
  delta = (
    await world.export({ [APP]: grown('two'), [LIB]: singleImage('lib') }, { now: later(1), since: LAST })
  ).output;
  expect(layerNames(delta)).toHaveLength(1);
  await world.pin(first);
});
afterEach(() => world.close());

const at = (name: string) => path.join(world.directory, name);
const images = (file: string) => [parseLocation(`bundle:${file}`)];
const notices = (code: string) =>
  world.events.flatMap((event) => (event.type === 'notice' && event.code === code ? [event.message] : []));

function exported(file: string, over: Parameters<World['export']>[1] = {}) {
  return world.export({}, { now: later(2), images: images(file), file: at('again.tar'), ...over });
}

function rewritten(bundles: readonly string[], over: Partial<RebundleOptions> = {}) {
  world.events.length = 0;
  return rebundle(
    {
      collection: world.collection,
      bundles,
      fingerprints: [],
      names: [],
      output: { kind: 'file', path: at('rewritten.tar') },
      platforms: [],
      lifetime: 90 * DAY,
      includeEvidence: true,
      dockerArchive: false,
      force: false,
      concurrency: 2,
      source: SOURCE_OPTIONS,
      passphrase: async () => TEST_PASSPHRASE,
      pid: process.pid,
      ...over,
    },
    world.context(later(2)),
  );
}

describe('an export from a delta', () => {
  test('without its base names each layer that lacks and what to add, before anything is signed', async () => {
    const version = (): string => String(readdirSync(path.join(world.collection, 'exports')));
    const before = version();
    const error = await refusal(exported(delta));
    expect(error).toMatchObject({ code: 'base-needed', subject: APP });
    expect(error.message).toContain('2 layers');
    expect(error.message).toContain('2 images');
    expect(error.hint).toContain('--blobs-from');
    expect(notices('base-missing')).toHaveLength(2);
    expect(existsSync(at('again.tar'))).toBe(false);
    expect(version()).toBe(before);
    expect(
      await refusal(
        previewExport(
          {
            images: images(delta),
            platforms: [],
            includeEvidence: true,
            concurrency: 2,
            source: SOURCE_OPTIONS,
          },
          world.context(later(2)),
        ),
      ),
    ).toMatchObject({ code: 'base-needed' });
  });

  test.each(['an earlier bundle', 'its volumes', 'a store'])('is whole with %s', async (what) => {
    let from = first;
    if (what === 'a store') {
      await world.import(first);
      from = world.store;
    } else if (what === 'its volumes') {
      from = at('volumes');
      const cut = { volumeSize: 8192, directory: from, force: false, readBack: async () => false };
      await splitBundle({ bundle: first, ...cut }, world.context());
    }
    const { output, base } = await exported(delta, { blobsFrom: [from] });
    expect(base).toBeUndefined();
    const whole = await world.export(
      { [APP]: grown('two'), [LIB]: singleImage('lib') },
      { now: later(3), file: at('whole.tar') },
    );
    expect(blobsOf(output)).toEqual(blobsOf(whole.output));
  });

  test('takes what other images of the same export bring, also into volumes and as a stream', async () => {
    const both = [parseLocation(`${OLD}=bundle:${first}:${APP}`), ...images(delta)];
    // The layer of the library lies in the earlier bundle only, which is asked for another image.
    const result = await world.export({}, { now: later(2), images: both, file: at('both.tar') });
    expect(result.images.map(({ name }) => name)).toEqual([APP, LIB, OLD]);
    const volumes = { size: 8192 };
    const cut = await world.export({}, { now: later(3), images: both, file: at('cut/both.tar'), volumes });
    await world.import(path.dirname(cut.output), { now: later(3) });
    const sequential = { writer: 'sequential' as const };
    const stream = await world.export({}, { now: later(4), images: both, file: at('s.tar'), ...sequential });
    expect(blobsOf(stream.output)).toEqual(blobsOf(result.output));
  });

  test('stays a delta for whoever has the rest', async () => {
    const { output, base } = await exported(delta, { since: { kind: 'file', path: first } });
    expect(base).toMatchObject({ blobs: 2 });
    await world.import(first);
    expect((await world.import(output, { now: later(2) })).imported).toEqual([APP]);
  });

  test('asks the next place where the first one is damaged, and names it where there is none', async () => {
    const [missing] = manifestOf(delta).base?.missing ?? [];
    const bad = flip(first, at('bad.tar'), missing?.name ?? '', 40);
    const error = await refusal(exported(delta, { blobsFrom: [bad] }));
    expect(error).toMatchObject({ code: 'digest-mismatch' });
    expect(existsSync(at('again.tar'))).toBe(false);
    await exported(delta, { blobsFrom: [bad, first] });
    expect((await world.import(at('again.tar'), { now: later(2) })).imported).toEqual([APP, LIB]);
  });

  test('into volumes asks the next place too, and writes again what was wrong', async () => {
    const [missing] = manifestOf(delta).base?.missing ?? [];
    const bad = flip(first, at('bad.tar'), missing?.name ?? '', 40);
    const { output } = await exported(delta, {
      file: at('cut/again.tar'),
      volumes: { size: 4096 },
      blobsFrom: [bad, first],
    });
    expect(notices('source-damaged')).toHaveLength(1);
    expect((await world.import(path.dirname(output), { now: later(2) })).imported).toEqual([APP, LIB]);
  });

  test('is not fooled by a place that lists the layer with other bytes', async () => {
    const [missing] = manifestOf(delta).base?.missing ?? [];
    const bad = flip(first, at('bad.tar'), missing?.name ?? '', 40);
    for (const over of [{ volumes: { size: 4096 } }, { writer: 'sequential' as const }]) {
      const file = at(`${Object.keys(over)[0]}/again.tar`);
      const error = await refusal(exported(delta, { blobsFrom: [bad], file, ...over }));
      expect(error.code).toBe('digest-mismatch');
      // Volumes before the blob are right, and stay; none holds any of it.
      for (const name of readdirSync(path.dirname(file)).filter((one) => one.endsWith('.tar')))
        expect.fail(`${name} has its name`);
    }
  });
});

describe('merge, subset and repack', () => {
  test('of a base and its delta give the whole bundle, each name as it is today', async () => {
    const { output, images: carried } = await rewritten([first, delta]);
    expect(carried.map(({ name }) => name)).toEqual([APP, LIB]);
    expect(notices('superseded')).toEqual([expect.stringContaining(`${APP}: `)]);
    expect(manifestOf(output).base).toBeUndefined();
    const imported = await world.import(output, { now: later(2) });
    expect(imported.imported).toEqual([APP, LIB]);
    const today = manifestOf(delta).images.find(({ name }) => name === APP)?.digest;
    expect(imported.images.find(({ name }) => name === APP)?.digest).toBe(today);
  });

  test('of a base whose image the delta withdraws leave it out', async () => {
    await world.export({ [OLD]: singleImage('old') }, { now: later(2), file: at('old.tar') });
    await withdrawNames(
      {
        collection: world.collection,
        names: [OLD],
        reason: 'a hole',
        passphrase: async () => TEST_PASSPHRASE,
        pid: process.pid,
      },
      world.context(later(2)),
    );
    const after = await world.export({ [APP]: grown('two') }, { now: later(2), since: LAST });
    expect((await refusal(rewritten([at('old.tar'), delta, first]))).code).toBe('name-withdrawn');
    const { images: carried } = await rewritten([at('old.tar'), first, delta, after.output]);
    expect(carried.map(({ name }) => name)).toEqual([APP, LIB]);
  });

  test('of a delta alone name what lacks; with --blobs-from they are whole', async () => {
    const error = await refusal(rewritten([delta], { names: [APP] }));
    expect(error).toMatchObject({ code: 'base-needed', subject: APP });
    expect(error.hint).toContain('--keep-delta');
    await rewritten([delta], { names: [APP], blobsFrom: [first] });
    expect(layerNames(at('rewritten.tar'))).toHaveLength(2);
  });

  test('of a delta can stay a delta, with the base it had', async () => {
    const { base } = await rewritten([delta], { names: [APP], keepDelta: true });
    expect(base).toMatchObject({ version: manifestOf(delta).base?.version, blobs: 1 });
    await world.import(first);
    expect((await world.import(at('rewritten.tar'), { now: later(2) })).imported).toEqual([APP]);
    expect(await refusal(rewritten([first], { keepDelta: true, names: [LIB], force: true }))).toMatchObject({
      code: 'invalid-argument',
      subject: '--keep-delta',
    });
  });

  test('never bring an image back that only an older bundle has', async () => {
    expect(await refusal(rewritten([first]))).toMatchObject({ code: 'name-conflict', subject: APP });
    // Another collection's word does not make it older.
    const stranger = await world.stranger();
    const theirs = (await stranger.export({ [APP]: grown('two') })).output;
    const { fingerprint } = await readRoot(stranger.collection, world.context());
    expect(await refusal(rewritten([first, theirs], { fingerprints: [fingerprint] }))).toMatchObject({
      code: 'name-conflict',
    });
  });
});

describe('verify of a delta', () => {
  test('takes bundles and stores that are named for its base, and hashes what they have of it', async () => {
    const alone = await world.verify(delta, { now: later(1), store: world.store });
    expect(alone.checks.find(({ check }) => check === 'base')?.status).toBe('skipped');
    const named = await world.verify(delta, { now: later(1), blobsFrom: [first] });
    expect(named.checks.find(({ check }) => check === 'base')).toMatchObject({ status: 'passed' });
    expect(named.checks.find(({ check }) => check === 'layers')?.detail).toContain('2 of the base');
    const [missing] = manifestOf(delta).base?.missing ?? [];
    const bad = flip(first, at('bad.tar'), missing?.name ?? '', 40);
    const error = await refusal(world.verify(delta, { now: later(1), blobsFrom: [bad] }));
    expect(error).toMatchObject({ code: 'digest-mismatch', check: 'layers' });
    expect(error.hint).toContain('bad.tar');
    const other = (await world.export({ [OLD]: singleImage('old') }, { now: later(2) })).output;
    expect(await refusal(world.verify(delta, { now: later(1), blobsFrom: [other] }))).toMatchObject({
      code: 'base-needed',
      check: 'base',
    });
  });

  test('refuses a place that is neither bundle nor store', async () => {
    writeFileSync(at('nothing'), 'no bundle');
    const error = await refusal(world.verify(delta, { now: later(1), blobsFrom: [at('nothing')] }));
    expect(error.hint).toContain('--blobs-from');
  });
});

describe('diff of a delta', () => {
  test('compares files of two deltas with what has their layers', async () => {
    const third = (
      await world.export({ [APP]: grown('three') }, { now: later(2), since: LAST, file: at('third.tar') })
    ).output;
    const options = { before: delta, after: third, files: true, source: SOURCE_OPTIONS };
    expect((await refusal(diffLocations(options, world.context(later(2))))).code).toBe('base-needed');
    const { moved } = await diffLocations({ ...options, blobsFrom: [first] }, world.context(later(2)));
    expect(moved[0]?.platforms[0]?.files).toMatchObject([{ path: '/own.txt', state: 'changed' }]);
  });
});
