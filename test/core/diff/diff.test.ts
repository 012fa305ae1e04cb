import { readFileSync, writeFileSync } from 'node:fs';
import { afterEach, describe, expect, test } from 'vitest';
import { type DiffOptions, diffLocations } from '../../../core/diff.ts';
import { withdrawNames } from '../../../core/trust-ops/index.ts';
import {
  AMD64,
  ARM64,
  attachEvidence,
  type FixtureManifest,
  makeImage,
  makeIndex,
  makeLayer,
} from '../../../fixtures/images.ts';
import { makeWorld, SOURCE_OPTIONS, TEST_PASSPHRASE, type World } from '../../../fixtures/world.ts';

const BASE = makeLayer({ 'etc/os-release': 'test 1', 'bin/sh': 'shell' });
const WEB = 'docker.io/acme/web:1';
const API = 'docker.io/acme/api:1';
const OLD = 'docker.io/acme/old:1';

const worlds: World[] = [];
afterEach(async () => {
  for (const world of worlds.splice(0)) await world.close();
});

async function newWorld(): Promise<World> {
  const world = await makeWorld();
  worlds.push(world);
  return world;
}

function web(content: string, version: string): FixtureManifest {
  const layers = [BASE, makeLayer({ 'srv/index.html': content, [`srv/${version}`]: '' })];
  return makeImage({ layers, labels: { version } });
}

const spdx = (packages: Readonly<Record<string, string>>): string =>
  JSON.stringify({
    spdxVersion: 'SPDX-2.3',
    packages: Object.entries(packages).map(([name, versionInfo]) => ({
      name,
      versionInfo,
      externalRefs: [{ referenceType: 'purl', referenceLocator: `pkg:apk/alpine/${name}@${versionInfo}` }],
    })),
  });

function run(world: World, before: string, after: string, over: Partial<DiffOptions> = {}) {
  return diffLocations({ before, after, files: false, source: SOURCE_OPTIONS, ...over }, world.context());
}

describe('two bundles of one collection', () => {
  test('differ by what was added, moved, withdrawn, and what the second does not bring', async () => {
    const world = await newWorld();
    const first = await world.export({
      [WEB]: web('one', '1'),
      [API]: web('api', '1'),
      [OLD]: web('old', '1'),
    });
    await withdrawNames(
      {
        collection: world.collection,
        names: [OLD],
        reason: 'it has a hole',
        passphrase: async () => TEST_PASSPHRASE,
        pid: process.pid,
      },
      world.context(),
    );
    const second = await world.export({ [WEB]: web('two', '2'), 'docker.io/acme/new:1': web('new', '1') });
    const result = await run(world, first.output, second.output);

    expect(result.before.collection).toMatchObject({ name: 'test', version: first.collection.version });
    expect(result.added.map(({ name }) => name)).toEqual(['docker.io/acme/new:1']);
    expect(result.withdrawn).toMatchObject([{ name: OLD, reason: 'it has a hole' }]);
    expect(result.notCarried).toMatchObject([{ name: API, moved: false }]);
    expect([result.removed, result.unchanged, result.evidenceChanged]).toEqual([[], [], []]);
    expect(result.moved).toHaveLength(1);
    const [platform] = result.moved[0]?.platforms ?? [];
    expect(platform).toMatchObject({
      platform: 'linux/amd64',
      state: 'changed',
      layers: { kept: 1, added: [{}], removed: [{}] },
      labels: [{ name: 'version', before: '1', after: '2' }],
      settings: [],
    });
    expect(platform).not.toHaveProperty('files');
  });

  test('of which the second shares layers is carried without them', async () => {
    const world = await newWorld();
    const first = await world.export({ [WEB]: web('one', '1') });
    const young = web('two', '2');
    const second = await world.export({ [WEB]: young });
    const result = await run(world, first.output, second.output);
    expect(result.shared).toEqual({ blobs: 1, bytes: BASE.blob.size });
    const own = young.size + young.blobs.reduce((sum, { size }) => sum + size, 0) - BASE.blob.size;
    expect(result.carry).toEqual({ blobs: 3, bytes: own });
    expect(result.moved[0]?.bytes).toBe(own);
  });

  test('are the same where nothing moved', async () => {
    const world = await newWorld();
    const images = { [WEB]: web('one', '1'), [API]: web('api', '1') };
    const [first, second] = [await world.export(images), await world.export(images)];
    const result = await run(world, first.output, second.output);
    expect(result.unchanged.map(({ name }) => name)).toEqual([API, WEB]);
    expect(result.carry).toEqual({ blobs: 0, bytes: 0 });
    expect([result.added, result.moved, result.removed, result.notCarried]).toEqual([[], [], [], []]);
  });
});

describe('a store and a bundle', () => {
  test('show what an import would change', async () => {
    const world = await newWorld();
    const first = await world.export({ [WEB]: web('one', '1') });
    await world.pin(first.output);
    await world.import(first.output);
    const second = await world.export({ [WEB]: web('two', '2') });
    const result = await run(world, world.store, second.output);
    expect(result.before).toMatchObject({ kind: 'store', images: 1 });
    expect(result.moved.map(({ name }) => name)).toEqual([WEB]);
  });
});

describe('one image', () => {
  test('is compared with the image of its name in a bundle, and with another image whatever that is called', async () => {
    const world = await newWorld();
    const first = await world.export({ [WEB]: web('one', '1'), [API]: web('one', '1') });
    const second = await world.export({ [WEB]: web('two', '2') });
    const single = await run(world, `bundle:${first.output}:${WEB}`, second.output);
    expect(single.moved.map(({ name }) => name)).toEqual([WEB]);
    const two = await run(world, `bundle:${first.output}:${API}`, `bundle:${second.output}:${WEB}`);
    expect(two.moved).toMatchObject([{ name: API, afterName: WEB }]);
    await expect(run(world, `bundle:${first.output}:${API}`, second.output)).rejects.toMatchObject({
      code: 'name-not-found',
      subject: API,
    });
  });

  test('of several platforms is compared platform by platform', async () => {
    const world = await newWorld();
    const arm = makeImage({ platform: ARM64, layers: [BASE] });
    const before = makeIndex([makeImage({ platform: AMD64, layers: [BASE] }), arm]);
    const after = makeIndex([
      makeImage({ platform: AMD64, layers: [BASE, makeLayer({ 'etc/new': 'x' })] }),
      arm,
      makeImage({ platform: { os: 'linux', architecture: 's390x' }, layers: [BASE] }),
    ]);
    const [first, second] = [await world.export({ [WEB]: before }), await world.export({ [WEB]: after })];
    const result = await run(world, first.output, second.output, { files: true });
    expect(result.moved[0]?.platforms.map(({ platform, state }) => `${platform} ${state}`)).toEqual([
      'linux/amd64 changed',
      'linux/s390x added',
    ]);
    expect(result.moved[0]?.platforms[0]?.files).toMatchObject([
      { path: '/etc/new', state: 'added', after: { type: 'file', size: 1, mode: '0644', owner: '0:0' } },
    ]);
  });
});

describe('evidence', () => {
  test('is told by type: lost, gained, replaced', async () => {
    const world = await newWorld();
    const image = web('one', '1');
    attachEvidence(image, 'application/vnd.example.signature', '{"by":"a"}');
    attachEvidence(image, 'application/vnd.example.scan', '{"found":0}');
    const first = await world.export({ [WEB]: image });
    const again = web('one', '1');
    attachEvidence(again, 'application/vnd.example.scan', '{"found":0}');
    attachEvidence(again, 'application/vnd.example.review', '{"ok":true}');
    const second = await world.export({ [WEB]: again });
    const result = await run(world, first.output, second.output);
    expect(result.moved).toEqual([]);
    expect(result.evidenceChanged[0]?.evidence).toEqual([
      { artifactType: 'application/vnd.example.review', before: 0, after: 1, same: 0 },
      { artifactType: 'application/vnd.example.signature', before: 1, after: 0, same: 0 },
    ]);
  });

  test('with SBOMs on both sides names the packages that changed', async () => {
    const world = await newWorld();
    const image = web('one', '1');
    attachEvidence(image, 'application/spdx+json', spdx({ openssl: '3.0.1', busybox: '1.36', gone: '1' }));
    const first = await world.export({ [WEB]: image });
    const next = web('two', '2');
    attachEvidence(next, 'application/spdx+json', spdx({ openssl: '3.0.2', busybox: '1.36', curl: '8.1' }));
    const second = await world.export({ [WEB]: next });
    const result = await run(world, first.output, second.output);
    expect(result.moved[0]?.packages).toEqual([
      { name: 'apk/curl', after: ['8.1'] },
      { name: 'apk/gone', before: ['1'] },
      { name: 'apk/openssl', before: ['3.0.1'], after: ['3.0.2'] },
    ]);
  });
});

test('a damaged bundle is refused and not compared', async () => {
  const world = await newWorld();
  const first = await world.export({ [WEB]: web('one', '1') });
  const other = await world.stranger();
  const second = await other.export({ [WEB]: web('two', '2') });
  const bytes = readFileSync(second.output);
  const place = bytes.indexOf('"signatures"') + 40;
  bytes.writeUInt8(bytes.readUInt8(place) ^ 1, place);
  writeFileSync(second.output, bytes);
  await expect(run(world, first.output, second.output)).rejects.toMatchObject({ name: 'SealiftError' });
});
