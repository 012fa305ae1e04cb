import { afterEach, describe, expect, test } from 'vitest';
import { type RebundleOptions, rebundle } from '../../core/rebundle.ts';
import { readRoot } from '../../core/trust-admin.ts';
import { withdrawNames } from '../../core/trust-ops/index.ts';
import {
  AMD64,
  ARM64,
  attachEvidence,
  digestsOf,
  type FixtureManifest,
  makeImage,
  makeIndex,
  makeLayer,
  singleImage,
} from '../../fixtures/images.ts';
import { DAY, filesOf, makeWorld, START, TEST_PASSPHRASE, type World } from '../../fixtures/world.ts';

const WEB = 'docker.io/acme/web:1';
const API = 'docker.io/acme/api:1';

const worlds: World[] = [];
afterEach(async () => {
  for (const world of worlds.splice(0)) await world.close();
});

async function newWorld(): Promise<World> {
  const world = await makeWorld();
  worlds.push(world);
  return world;
}

const SOURCE = {
  plainHttp: false,
  insecureSkipTlsVerify: false,
  credentials: async () => undefined,
  retryTimes: 0,
  concurrencyPerHost: 1,
  timeoutMs: 10_000,
};

function run(
  world: World,
  bundles: readonly string[],
  over: Partial<RebundleOptions> = {},
  now: Date = START,
) {
  return rebundle(
    {
      collection: world.collection,
      bundles,
      fingerprints: [],
      names: [],
      output: { kind: 'file', path: `${world.directory}/rebundled.tar` },
      platforms: [],
      lifetime: 90 * DAY,
      includeEvidence: true,
      dockerArchive: false,
      force: false,
      concurrency: 2,
      source: SOURCE,
      passphrase: async () => TEST_PASSPHRASE,
      pid: process.pid,
      ...over,
    },
    world.context(now),
  );
}

const namesOf = (result: { readonly images: readonly { readonly name: string }[] }) =>
  result.images.map(({ name }) => name);

function withEvidence(label: string): FixtureManifest {
  const image = singleImage(label);
  attachEvidence(image, 'application/vnd.example.signature', `{"of":"${label}"}`);
  return image;
}

describe('merge', () => {
  test('carries what both carry, blob for blob, as a new version that a gate takes', async () => {
    const world = await newWorld();
    const [web, api] = [withEvidence('web'), withEvidence('api')];
    const first = await world.export({ [WEB]: web });
    const second = await world.export({ [API]: api });
    await world.pin(first.output);
    const merged = await run(world, [first.output, second.output]);
    expect(merged.collection.version).toBe(second.collection.version + 1);
    expect(namesOf(merged)).toEqual([API, WEB]);
    const blobs = [...filesOf(merged.output).keys()].filter((name) => name.startsWith('blobs/'));
    const wanted = [...digestsOf(web), ...digestsOf(api)].map(
      (digest) => `blobs/${digest.replace(':', '/')}`,
    );
    expect(new Set(blobs)).toEqual(new Set(wanted));
    const imported = await world.import(merged.output);
    expect(imported.imported).toEqual([API, WEB]);
    expect(imported.images.flatMap(({ evidence }) => evidence)).toHaveLength(2);
  });

  test('tells nobody that verified bundles were not verified', async () => {
    const world = await newWorld();
    const first = await world.export({ [WEB]: singleImage('web') });
    world.events.length = 0;
    await run(world, [first.output]);
    const codes = world.events.flatMap((event) => (event.type === 'notice' ? [event.code] : []));
    expect(codes).not.toContain('bundle-not-verified');
  });

  test('takes a bundle of another collection by the fingerprint of its root only, and only while it is valid', async () => {
    const world = await newWorld();
    const other = await world.stranger();
    const theirs = await other.export({ [API]: singleImage('api') });
    await expect(run(world, [theirs.output])).rejects.toMatchObject({ code: 'not-pinned' });
    await expect(run(world, [theirs.output], { fingerprints: ['0'.repeat(64)] })).rejects.toMatchObject({
      code: 'not-pinned',
    });
    const { fingerprint } = await readRoot(other.collection, other.context());
    await expect(
      run(world, [theirs.output], { fingerprints: [fingerprint] }, new Date(START.getTime() + 100 * DAY)),
    ).rejects.toMatchObject({ code: 'metadata-expired' });
    expect(namesOf(await run(world, [theirs.output], { fingerprints: [fingerprint] }))).toEqual([API]);
  });

  test('refuses two digests for one name', async () => {
    const world = await newWorld();
    const other = await world.stranger();
    const ours = await world.export({ [API]: singleImage('ours') });
    const theirs = await other.export({ [API]: singleImage('theirs') });
    const { fingerprint } = await readRoot(other.collection, other.context());
    await expect(
      run(world, [ours.output, theirs.output], { fingerprints: [fingerprint] }),
    ).rejects.toMatchObject({ code: 'name-conflict', subject: API });
  });
});

describe('subset', () => {
  test('carries the names that were asked for, in any spelling, and nothing else', async () => {
    const world = await newWorld();
    const web = singleImage('web');
    const whole = await world.export({ [WEB]: web, [API]: singleImage('api') });
    const small = await run(world, [whole.output], { names: ['acme/web:1'] });
    expect(namesOf(small)).toEqual([WEB]);
    expect(small.blobs.count).toBe(digestsOf(web).length);
    await expect(run(world, [whole.output], { names: ['acme/none:1'] })).rejects.toMatchObject({
      code: 'name-not-found',
      subject: 'docker.io/acme/none:1',
    });
  });
});

describe('repack', () => {
  test('gives an expired bundle of ours a new expiry', async () => {
    const world = await newWorld();
    const old = await world.export({ [WEB]: singleImage('web') });
    const later = new Date(START.getTime() + 100 * DAY);
    await world.pin(old.output);
    await expect(world.import(old.output, { now: later })).rejects.toMatchObject({
      code: 'metadata-expired',
    });
    const fresh = await run(world, [old.output], {}, later);
    expect((await world.import(fresh.output, { now: later })).imported).toEqual([WEB]);
  });

  test('leaves platforms behind where that is asked for', async () => {
    const world = await newWorld();
    const layer = makeLayer({ 'bin/x': 'x' });
    const index = makeIndex([
      makeImage({ platform: AMD64, layers: [layer] }),
      makeImage({ platform: ARM64, layers: [layer, makeLayer({ 'bin/y': 'y' })] }),
    ]);
    const whole = await world.export({ [WEB]: index });
    const slim = await run(world, [whole.output], { platforms: ['linux/amd64'] });
    expect(slim.images).toMatchObject([{ platforms: ['linux/amd64'], digest: index.digest }]);
  });

  test('does not bring back what the collection has moved on from or withdrawn', async () => {
    const world = await newWorld();
    const old = await world.export({ [WEB]: singleImage('old'), [API]: singleImage('api') });
    await world.export({ [WEB]: singleImage('new') });
    await expect(run(world, [old.output])).rejects.toMatchObject({ code: 'name-conflict', subject: WEB });
    await withdrawNames(
      {
        collection: world.collection,
        names: [API],
        reason: 'it has a hole',
        passphrase: async () => TEST_PASSPHRASE,
        pid: process.pid,
      },
      world.context(),
    );
    await expect(run(world, [old.output], { names: [API] })).rejects.toMatchObject({
      code: 'name-withdrawn',
    });
  });

  test('of other names is none the worse for it', async () => {
    const world = await newWorld();
    const old = await world.export({ [WEB]: singleImage('old'), [API]: singleImage('api') });
    await world.export({ [WEB]: singleImage('new') });
    expect(namesOf(await run(world, [old.output], { names: [API] }))).toEqual([API]);
  });
});
