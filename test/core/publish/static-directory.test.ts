/** A tree of files: what is in it, what is not sent twice, what is refused, and what is taken away when. */

import {
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isSealiftError } from '../../../core/errors.ts';
import { PLACE_MAX } from '../../../core/pool/pool.ts';
import type { OpenDestination } from '../../../core/publish/destination.ts';
import { openStaticDirectory } from '../../../core/publish/static-directory.ts';
import { syncStore } from '../../../core/sync.ts';
import {
  digestOf,
  type FixtureManifest,
  largeImage,
  makeIndex,
  manifestsOf,
  multiArchImage,
  schema2Image,
  sha512Image,
  sharingImages,
  signedImage,
  singleImage,
} from '../../../fixtures/images.ts';
import { snapshotOf, timesOf } from '../../../fixtures/store.ts';
import { HOUR, makePublishing, NOW, type Publishing } from './publishing.ts';

let world: Publishing;
beforeEach(() => {
  world = makePublishing();
});
afterEach(() => world.close());

const file = (...parts: string[]): string => path.join(world.tree, ...parts);
const read = (key: string): Buffer => readFileSync(file(key));
const json = (key: string): unknown => JSON.parse(read(key).toString());
const later = (hours: number): Date => new Date(NOW.getTime() + hours * HOUR);

async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    if (isSealiftError(error)) return `${error.code}: ${error.subject}`;
    throw error;
  }
  return 'no error';
}

/** Everything a client could ask for is there, under every name of the repository. */
function expectImage(repository: string, tag: string, image: FixtureManifest): void {
  const base = `v2/${repository}`;
  expect(read(`${base}/manifests/${tag}`).equals(image.bytes)).toBe(true);
  for (const manifest of manifestsOf(image)) {
    expect(read(`${base}/manifests/${manifest.digest}`).equals(manifest.bytes)).toBe(true);
    for (const blob of manifest.blobs) {
      expect(
        digestOf(
          read(`${base}/blobs/${blob.digest}`),
          blob.digest.startsWith('sha512') ? 'sha512' : 'sha256',
        ),
      ).toBe(blob.digest);
    }
    if (manifest.referrers.length === 0) continue;
    const want = manifest.referrers.map(({ digest }) => digest).sort();
    for (const key of [
      `${base}/referrers/${manifest.digest}`,
      `${base}/manifests/${manifest.digest.replace(':', '-')}`,
    ]) {
      expect(
        (json(key) as { manifests: { digest: string }[] }).manifests.map(({ digest }) => digest),
      ).toEqual(want);
    }
  }
}

describe('the tree', () => {
  it('holds images with evidence, in both name forms, with sorted lists', async () => {
    const images = {
      'docker.io/library/alpine:3.9': singleImage('a'),
      'docker.io/library/alpine:3.20': multiArchImage(),
      'quay.io/acme/signed:v1': signedImage(),
      'quay.io/acme/docker:v1': schema2Image(),
      'quay.io/acme/long:v1': sha512Image(),
    };
    await world.admit(images);
    const result = await world.sync();
    for (const repository of ['docker.io/library/alpine', 'library/alpine']) {
      expectImage(repository, '3.9', images['docker.io/library/alpine:3.9']);
      expectImage(repository, '3.20', images['docker.io/library/alpine:3.20']);
      expect(json(`v2/${repository}/tags/list`)).toEqual({ name: repository, tags: ['3.20', '3.9'] });
    }
    expectImage('quay.io/acme/signed', 'v1', images['quay.io/acme/signed:v1']);
    expectImage('quay.io/acme/docker', 'v1', images['quay.io/acme/docker:v1']);
    expectImage('quay.io/acme/long', 'v1', images['quay.io/acme/long:v1']);
    expect(json('v2/index.json')).toEqual({});
    expect(result.images.find(({ name }) => name.includes('alpine:3.9'))?.places).toEqual([
      'docker.io/library/alpine:3.9',
      'library/alpine:3.9',
    ]);
    expect(json('.sealift/state.json')).toMatchObject({
      formatVersion: 1,
      images: expect.arrayContaining([
        expect.objectContaining({ name: 'quay.io/acme/docker:v1', places: ['quay.io/acme/docker:v1'] }),
      ]),
    });
  });

  it('keeps one copy of a blob however many repositories have it', async () => {
    const [one, two] = sharingImages();
    await world.admit({ 'quay.io/acme/one:v1': one, 'quay.io/acme/two:v1': two });
    const result = await world.sync();
    const shared = one.blobs[1]?.digest ?? '';
    const inodes = ['one', 'two'].map(
      (name) => statSync(file(`v2/quay.io/acme/${name}/blobs/${shared}`)).ino,
    );
    expect(inodes[0]).toBe(inodes[1]);
    expect(result.destinations[0]?.copied.blobs).toBe(2);
  });

  it('is left exactly as it is by a second sync', async () => {
    await world.admit({
      'docker.io/library/alpine:3.20': multiArchImage(),
      'quay.io/acme/s:v1': signedImage(),
    });
    expect((await world.sync()).destinations[0]?.changed).toBe(true);
    const times = timesOf(world.tree);
    const before = snapshotOf(world.tree);
    const second = await world.sync();
    expect(second.destinations[0]).toMatchObject({
      changed: false,
      sent: { blobs: 0 },
      documents: 0,
      tags: { set: [] },
    });
    expect(snapshotOf(world.tree)).toEqual(before);
    expect(timesOf(world.tree)).toEqual(times);
  });

  it('moves a tag to an image of another type and leaves no file of the old type', async () => {
    await world.admit({ 'quay.io/acme/app:v1': singleImage() });
    await world.sync();
    await world.admit({ 'quay.io/acme/app:v1': multiArchImage() });
    const result = await world.sync();
    expect(result.destinations[0]?.tags.set).toEqual(['quay.io/acme/app:v1']);
    const names = readdirSync(file('v2/quay.io/acme/app/manifests')).filter((name) => name.startsWith('v1'));
    expect(names.sort()).toEqual(['v1', 'v1~.ocii']);
  });

  it('puts right what somebody changed: a tag of the same size, a suffixed file, a short blob', async () => {
    await world.admit({ 'quay.io/acme/app:v1': singleImage() });
    await world.sync();
    const before = snapshotOf(world.tree);
    const tag = file('v2/quay.io/acme/app/manifests/v1');
    const digest = singleImage().digest;
    const bytes = readFileSync(tag);
    bytes[10] = (bytes[10] ?? 0) ^ 1;
    writeFileSync(tag, bytes);
    rmSync(file(`v2/quay.io/acme/app/manifests/${digest}~.ocim`));
    writeFileSync(file(`v2/quay.io/acme/app/manifests/${digest}~.dkl`), 'another');
    writeFileSync(file(`v2/quay.io/acme/app/blobs/${singleImage().blobs[0]?.digest}`), 'short');
    expect((await world.sync()).destinations[0]?.changed).toBe(true);
    expect(snapshotOf(world.tree)).toEqual(before);
  });

  it('clears what a killed sync left, and takes over its lock', async () => {
    await world.admit({ 'quay.io/acme/app:v1': singleImage() });
    mkdirSync(file('.sealift'), { recursive: true });
    mkdirSync(file('v2/quay.io/acme/app/blobs'), { recursive: true });
    writeFileSync(file('.sealift/lock'), 'elsewhere-no-such 1 1\n');
    const first = await codeOf(world.sync());
    expect(first).toContain('destination-locked');
    writeFileSync(file('.sealift/lock'), `${(await import('node:os')).hostname()} 999999 1\n`);
    writeFileSync(file('v2/quay.io/acme/app/blobs/.sha256:00~0123456789ab'), 'half');
    await world.sync();
    expect(Object.keys(snapshotOf(world.tree)).filter((name) => name.includes('~0123'))).toEqual([]);
    expect(existsSync(file('.sealift/lock'))).toBe(false);
  });

  it('does not publish a blob that is damaged in the store, nor the tag above it', async () => {
    const image = singleImage();
    await world.admit({ 'quay.io/acme/app:v1': image });
    const digest = image.blobs[1]?.digest ?? '';
    const blob = path.join(world.store, 'blobs/sha256', digest.slice(7));
    const bytes = readFileSync(blob);
    bytes[20] = (bytes[20] ?? 0) ^ 1;
    rmSync(blob);
    writeFileSync(blob, bytes);
    expect(await codeOf(world.sync())).toBe(`digest-mismatch: ${digest}`);
    expect(existsSync(file(`v2/quay.io/acme/app/blobs/${digest}`))).toBe(false);
    expect(existsSync(file('v2/quay.io/acme/app/manifests/v1'))).toBe(false);
  });

  it('does not publish a large blob that is damaged in the store either', async () => {
    const image = largeImage(2, 2 * PLACE_MAX);
    await world.admit({ 'quay.io/acme/app:v1': image });
    const layers = image.blobs.filter(({ size }) => size > PLACE_MAX);
    expect(layers).toHaveLength(2);
    for (const hardLink of [false, true]) {
      const digest = layers[0]?.digest ?? '';
      const blob = path.join(world.store, 'blobs/sha256', digest.slice(7));
      const bytes = readFileSync(blob);
      bytes[PLACE_MAX + 7] = (bytes[PLACE_MAX + 7] ?? 0) ^ 1;
      rmSync(blob);
      writeFileSync(blob, bytes);
      const open: OpenDestination = async (context) =>
        openStaticDirectory({ directory: world.tree, pid: process.pid, hardLink }, context);
      expect(await codeOf(world.sync({ destinations: [open] }))).toBe(`digest-mismatch: ${digest}`);
      expect(existsSync(file(`v2/quay.io/acme/app/blobs/${digest}`))).toBe(false);
      expect(existsSync(file('v2/quay.io/acme/app/manifests/v1'))).toBe(false);
      bytes[PLACE_MAX + 7] = (bytes[PLACE_MAX + 7] ?? 0) ^ 1;
      writeFileSync(blob, bytes);
      await world.sync({ destinations: [open] });
      expectImage('quay.io/acme/app', 'v1', image);
      rmSync(world.tree, { recursive: true });
    }
  });

  it('says which blob the store has lost', async () => {
    const image = singleImage();
    await world.admit({ 'quay.io/acme/app:v1': image });
    const open: OpenDestination = async (context) => {
      const there = await world.static()(context);
      // It is there when the sync begins, and a link in its place when it is read.
      const digest = image.blobs[1]?.digest ?? '';
      const blob = path.join(world.store, 'blobs/sha256', digest.slice(7));
      return {
        ...there,
        putSmall: async (blobs, source) => {
          renameSync(blob, `${blob}.real`);
          symlinkSync(`${blob}.real`, blob);
          await there.putSmall?.(blobs, source);
        },
      };
    };
    expect(await codeOf(world.sync({ destinations: [open] }))).toBe(
      `blob-missing: ${image.blobs[1]?.digest}`,
    );
    expect(existsSync(file('v2/quay.io/acme/app/manifests/v1'))).toBe(false);
  });

  it('is not begun where there is too little space', async () => {
    await world.admit({ 'quay.io/acme/app:v1': singleImage() });
    const small: OpenDestination = async (context) => ({
      ...(await world.static()(context)),
      freeBytes: async () => 10,
    });
    expect(await codeOf(world.sync({ destinations: [small] }))).toContain('destination-full');
    expect(existsSync(file('v2'))).toBe(false);
  });

  it('stops when it is told to, and goes on', async () => {
    await world.admit({ 'quay.io/acme/app:v1': multiArchImage() });
    await world.sync();
    const wanted = snapshotOf(world.tree);
    rmSync(world.tree, { recursive: true });
    const stop = new AbortController();
    const context = {
      ...world.context(NOW, stop.signal),
      emit: (event: { type: string; state?: string }) => {
        if (event.type === 'blob' && event.state === 'done') stop.abort();
      },
    };
    const options = {
      ...{ store: world.store, destinations: [world.static()], placement: {}, dryRun: false },
      ...{ concurrency: 1, pid: process.pid },
    };
    await expect(syncStore(options, context)).rejects.toThrow(/abort/i);
    expect(Object.keys(snapshotOf(world.tree)).some((name) => name.includes('/manifests/'))).toBe(false);
    await world.sync();
    expect(snapshotOf(world.tree)).toEqual(wanted);
  });

  it('shows only what was let in through a gate', async () => {
    await world.admit({ 'quay.io/acme/app:v1': singleImage() });
    const index = JSON.parse(readFileSync(path.join(world.store, 'index.json'), 'utf8'));
    const [entry] = index.manifests;
    const name = 'quay.io/acme/smuggled:v1';
    index.manifests.push({
      ...entry,
      annotations: { 'io.containerd.image.name': name, 'org.opencontainers.image.ref.name': name },
    });
    writeFileSync(path.join(world.store, 'index.json'), JSON.stringify(index));
    await world.sync();
    expect(existsSync(file('v2/quay.io/acme/app'))).toBe(true);
    expect(existsSync(file('v2/quay.io/acme/smuggled'))).toBe(false);
    expect(world.events).toContainEqual(expect.objectContaining({ code: 'not-admitted' }));
  });
});

describe('blobs shared with the store', () => {
  const shared = () =>
    world.sync({
      destinations: [
        async (context) =>
          openStaticDirectory({ directory: world.tree, pid: process.pid, hardLink: true }, context),
      ],
    });
  const inStore = (digest: string) => path.join(world.store, 'blobs/sha256', digest.slice(7));

  it('are one file under two names, and the same tree otherwise', async () => {
    const image = singleImage();
    await world.admit({ 'quay.io/acme/app:v1': image, 'quay.io/acme/signed:v1': signedImage() });
    await shared();
    expectImage('quay.io/acme/app', 'v1', image);
    expect(image.blobs).toHaveLength(2);
    for (const { digest } of image.blobs) {
      const published = file(`v2/quay.io/acme/app/blobs/${digest}`);
      expect(statSync(published).ino).toBe(statSync(inStore(digest)).ino);
    }
    expect(readdirSync(file('v2/quay.io/acme/app/blobs')).filter((name) => name.includes('~'))).toEqual([]);
    const again = await shared();
    expect(again.destinations[0]?.changed).toBe(false);
  });

  it('are hashed as copies are: what is damaged in the store is not published', async () => {
    const image = singleImage();
    await world.admit({ 'quay.io/acme/app:v1': image });
    const digest = image.blobs[1]?.digest ?? '';
    const bytes = readFileSync(inStore(digest));
    bytes[20] = (bytes[20] ?? 0) ^ 1;
    rmSync(inStore(digest));
    writeFileSync(inStore(digest), bytes);
    expect(await codeOf(shared())).toBe(`digest-mismatch: ${digest}`);
    expect(existsSync(file(`v2/quay.io/acme/app/blobs/${digest}`))).toBe(false);
  });

  it('stay in the tree when the store has let them go', async () => {
    const image = singleImage();
    await world.admit({ 'quay.io/acme/app:v1': image });
    await shared();
    for (const { digest } of image.blobs) rmSync(inStore(digest));
    expectImage('quay.io/acme/app', 'v1', image);
  });
});

describe('names', () => {
  it('are placed by --map and --prefix', async () => {
    await world.admit({
      'docker.io/acme/app:v1': singleImage(),
      'docker.io/acmeother/app:v1': singleImage('o'),
    });
    await world.sync({ placement: { prefix: 'mirror', map: [{ from: 'docker.io/acme', to: 'ours' }] } });
    expectImage('mirror/ours/app', 'v1', singleImage());
    expectImage('mirror/docker.io/acmeother/app', 'v1', singleImage('o'));
    expectImage('mirror/acmeother/app', 'v1', singleImage('o'));
    expect(existsSync(file('v2/mirror/docker.io/acme'))).toBe(false);
  });

  it.each([
    ['a component that is a folder of the layout', 'quay.io/acme/manifests/x:v1'],
    ['a component that is a folder of the layout', 'quay.io/blobs:v1'],
    ['a port in the host', 'localhost:5000/app:v1'],
  ])('are refused before anything is written: %s (%s)', async (_why, name) => {
    await world.admit({ 'quay.io/acme/good:v1': singleImage(), [name]: singleImage('b') });
    expect(await codeOf(world.sync())).toBe(`invalid-argument: ${name}`);
    expect(existsSync(world.tree)).toBe(false);
  });

  it('are refused where two images want one place', async () => {
    await world.admit({ 'quay.io/acme/app:v1': singleImage(), 'ghcr.io/acme/app:v1': singleImage('b') });
    const map = ['quay.io', 'ghcr.io'].map((from) => ({ from, to: 'all' }));
    expect(await codeOf(world.sync({ placement: { map } }))).toContain('name-conflict');
    expect(existsSync(world.tree)).toBe(false);
  });

  it('are refused where a file stands where a folder must be', async () => {
    await world.admit({ 'quay.io/acme/app:v1': singleImage() });
    mkdirSync(file('v2/quay.io'), { recursive: true });
    writeFileSync(file('v2/quay.io/acme'), 'in the way');
    expect(await codeOf(world.sync())).toContain('destination-failed');
    expect(Object.keys(snapshotOf(world.tree))).toEqual(['v2/quay.io/acme']);
  });
});

describe('what is not in the store', () => {
  it('stays and is reported, and stays in the list of tags', async () => {
    await world.admit({ 'quay.io/acme/app:v1': singleImage(), 'quay.io/acme/app:v2': singleImage('2') });
    await world.sync();
    await world.withdraw('quay.io/acme/app:v2');
    const result = await world.sync();
    expect(result.destinations[0]?.tags.unknown).toEqual(['quay.io/acme/app:v2']);
    expectImage('quay.io/acme/app', 'v2', singleImage('2'));
    expect(json('v2/quay.io/acme/app/tags/list')).toEqual({ name: 'quay.io/acme/app', tags: ['v1', 'v2'] });
  });

  it('goes with --prune: the tag at once, its content after the grace period', async () => {
    const gone = makeIndex([signedImage().children[0] as FixtureManifest, singleImage('x')]);
    await world.admit({ 'quay.io/acme/app:v1': singleImage() });
    await world.sync();
    const only = snapshotOf(world.tree);
    await world.admit({ 'quay.io/acme/app:v2': gone, 'docker.io/library/other:v1': signedImage() });
    await world.sync();
    await world.withdraw('quay.io/acme/app:v2', 'docker.io/library/other:v1');
    const prune = { grace: 24 * HOUR };

    const told = await world.sync({ prune, dryRun: true });
    expect(told.destinations[0]?.tags.removed).toEqual([
      'docker.io/library/other:v1',
      'library/other:v1',
      'quay.io/acme/app:v2',
    ]);
    expect(existsSync(file('v2/library/other/manifests/v1'))).toBe(true);

    const first = await world.sync({ prune });
    expect(first.destinations[0]?.tags.removed).toEqual(told.destinations[0]?.tags.removed);
    expect(first.destinations[0]?.waiting.objects).toBeGreaterThan(10);
    expect(existsSync(file('v2/library/other/manifests/v1'))).toBe(false);
    expect(existsSync(file('v2/library/other/manifests/v1~.ocii'))).toBe(false);
    expect(existsSync(file('v2/library/other/tags'))).toBe(false);
    expect(json('v2/quay.io/acme/app/tags/list')).toEqual({ name: 'quay.io/acme/app', tags: ['v1'] });
    // A pull that has begun goes on by digest.
    expect(read(`v2/quay.io/acme/app/manifests/${gone.digest}`).equals(gone.bytes)).toBe(true);

    const early = await world.sync({ prune, now: later(23) });
    expect(early.destinations[0]).toMatchObject({ changed: false, removed: { objects: 0 } });
    const late = await world.sync({ prune, now: later(25) });
    expect(late.destinations[0]?.removed.objects).toBe(first.destinations[0]?.waiting.objects);
    expect(late.destinations[0]?.waiting.objects).toBe(0);
    expect(snapshotOf(world.tree)).toEqual(only);
    expect(existsSync(file('v2/library'))).toBe(false);
  });

  it('is kept where it is needed again before its time is over', async () => {
    await world.admit({ 'quay.io/acme/app:v1': singleImage(), 'quay.io/acme/app:v2': singleImage('2') });
    await world.sync();
    await world.withdraw('quay.io/acme/app:v2');
    const prune = { grace: 24 * HOUR };
    await world.sync({ prune });
    await world.admit({ 'quay.io/acme/app:v3': singleImage('2') });
    await world.sync({ prune, now: later(1) });
    const last = await world.sync({ prune, now: later(48) });
    expect(last.destinations[0]?.changed).toBe(false);
    expectImage('quay.io/acme/app', 'v3', singleImage('2'));
  });

  it('is never what sealift did not put there, nor outside of the prefix', async () => {
    await world.admit({ 'quay.io/acme/app:v1': singleImage() });
    await world.sync();
    await world.sync({ placement: { prefix: 'mirror' } });
    writeFileSync(file('v2/notes.txt'), 'mine');
    linkSync(file('v2/notes.txt'), file('hello.txt'));
    await world.sync({ placement: { prefix: 'mirror' }, prune: { grace: 0 } });
    expect(existsSync(file('v2/notes.txt'))).toBe(true);
    expectImage('quay.io/acme/app', 'v1', singleImage());
    const result = await world.sync({ prune: { grace: 0 } });
    expect(result.destinations[0]?.tags.removed).toEqual(['mirror/quay.io/acme/app:v1']);
    expect(existsSync(file('v2/mirror'))).toBe(false);
    expect(existsSync(file('v2/notes.txt'))).toBe(true);
  });
});
