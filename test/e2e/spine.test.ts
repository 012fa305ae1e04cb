/** The backbone: out of a registry, into one bundle, verified, imported, served, and back; digest by digest. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runProgram, succeeded } from '../../fixtures/cli.ts';
import {
  artifactImage,
  blobsOf,
  digestsOf,
  type FixtureManifest,
  makeLayout,
  manifestsOf,
  multiArchImage,
  nestedIndex,
  pushImage,
  schema2Image,
  schema2List,
  sha512Image,
  sharingImages,
  signedImage,
} from '../../fixtures/images.ts';
import { startOciRegistry } from '../../fixtures/oci-registry.ts';
import { hasPeer } from '../../fixtures/peers.ts';
import { type RunningRegistry, startAnyRegistry } from '../../fixtures/registry.ts';
import { blobDigests, expectServed, snapshotOf, timesOf } from '../../fixtures/store.ts';
import { makeWalk, type Walk } from '../../fixtures/walk.ts';

interface Stored {
  readonly name: string;
  readonly digest: string;
  readonly platforms: readonly string[];
  readonly evidence: readonly { readonly digest: string }[];
}

/** Everything a bundle and a store must hold for these images, each once. */
function allDigests(images: readonly FixtureManifest[]): string[] {
  return [...new Set(images.flatMap((image) => digestsOf(image)))].sort();
}

/** Digests of the manifests that hang on an image, directly or over others, ascending. */
function evidenceOf(image: FixtureManifest): string[] {
  const own = new Set(manifestsOf(image, false).map((one) => one.digest));
  return manifestsOf(image)
    .map((one) => one.digest)
    .filter((digest) => !own.has(digest))
    .sort();
}

const sharing = sharingImages();
const CASES: Record<string, Record<string, FixtureManifest>> = {
  'a multi-arch image': { 'team/multi': multiArchImage() },
  'a Docker schema 2 image': { 'team/schema2': schema2Image() },
  'a Docker manifest list': { 'team/list': schema2List() },
  'an artifact with artifactType': { 'team/chart': artifactImage() },
  'an image with evidence on the index, a child and on evidence': { 'team/signed': signedImage() },
  'three images that share layers': {
    'team/one': sharing[0],
    'team/two': sharing[1],
    'team/three': sharing[2],
  },
  'an index in an index': { 'team/nested': nestedIndex() },
};

/** skopeo cannot copy an index in an index. */
const NOT_FOR_SKOPEO = new Set(['team/nested']);

describe.each(Object.keys(CASES))('%s', (title) => {
  const images = CASES[title] as Record<string, FixtureManifest>;
  const wanted = allDigests(Object.values(images));
  let registry: RunningRegistry;
  let walk: Walk;
  let bundle: string;
  let root: string;
  const nameOf = (repository: string): string => `registry.example/${repository}:v1`;

  beforeAll(async () => {
    registry = await startAnyRegistry();
    walk = makeWalk();
    bundle = walk.sandbox.path('out.sealift');
    for (const [repository, image] of Object.entries(images))
      await pushImage(registry.url, repository, 'v1', image);
    await walk.init({ keys: 'native' });
    root = await walk.rootFingerprint();
  });
  afterAll(async () => {
    await registry?.stop();
    walk?.sandbox.remove();
  });

  it('goes out of the registry into one bundle', async () => {
    const sources = Object.keys(images).map(
      (repository) => `${nameOf(repository)}=docker://${registry.host}/${repository}:v1`,
    );
    await walk.export(sources, bundle);
    const list = succeeded(await runProgram('tar', ['-tf', bundle]), 'tar')
      .stdout.trimEnd()
      .split('\n');
    const blobs = list
      .filter((entry) => entry.startsWith('blobs/'))
      .map((entry) => entry.split('/').slice(1).join(':'));
    expect(blobs.sort()).toEqual(wanted);
  });

  it('is refused until its root is pinned', async () => {
    const result = await walk.sandbox.run(['verify', bundle, '--json']);
    expect(result.code).toBe(5);
    expect(JSON.parse(result.stdout)).toMatchObject({ error: { code: 'not-pinned' } });
  });

  it('verifies once pinned, and changes nothing by that', async () => {
    await walk.pin(bundle, root);
    const before = snapshotOf(walk.sandbox.path('store'));
    const result = await walk.json<{ images: { name: string; verdict: string }[] }>(['verify', bundle]);
    expect(result.images.map((image) => image.name).sort()).toEqual(Object.keys(images).map(nameOf).sort());
    for (const image of result.images) expect(image.verdict).toBe('verified');
    expect(snapshotOf(walk.sandbox.path('store'))).toEqual(before);
  });

  it('is imported with every digest and every blob once', async () => {
    await walk.import(bundle);
    expect(blobDigests(walk.sandbox.path('store'))).toEqual(wanted);
  });

  it('is listed', async () => {
    const { images: stored } = await walk.json<{ images: Stored[] }>(['ls']);
    expect(
      stored
        .map(({ name, digest, evidence }) => ({
          name,
          digest,
          evidence: evidence.map((one) => one.digest).sort(),
        }))
        .sort((a, b) => (a.name < b.name ? -1 : 1)),
    ).toEqual(
      Object.entries(images)
        .map(([repository, image]) => ({
          name: nameOf(repository),
          digest: image.digest,
          evidence: evidenceOf(image),
        }))
        .sort((a, b) => (a.name < b.name ? -1 : 1)),
    );
  });

  it('changes nothing when imported again', async () => {
    const store = walk.sandbox.path('store');
    const [files, times] = [snapshotOf(store), timesOf(path.join(store, 'blobs'))];
    await walk.import(bundle);
    expect(snapshotOf(store)).toEqual(files);
    expect(timesOf(path.join(store, 'blobs'))).toEqual(times);
  });

  it('is served byte for byte', async () => {
    const server = await walk.serve();
    try {
      for (const [repository, image] of Object.entries(images)) {
        await expectServed(server.url, `registry.example/${repository}`, 'v1', image);
      }
    } finally {
      await server.stop();
    }
  });

  it.skipIf(!hasPeer('skopeo'))('is inspected and copied back by skopeo', async () => {
    const server = await walk.serve();
    try {
      for (const [repository, image] of Object.entries(images)) {
        const location = `docker://${server.host}/registry.example/${repository}:v1`;
        const raw = succeeded(
          await runProgram('skopeo', ['inspect', '--raw', '--tls-verify=false', location]),
          'skopeo inspect',
        );
        expect(raw.stdoutBytes.equals(image.bytes)).toBe(true);
        if (NOT_FOR_SKOPEO.has(repository)) continue;
        const directory = walk.sandbox.path('copied');
        succeeded(
          await runProgram('skopeo', [
            '--insecure-policy',
            'copy',
            '-q',
            '--all',
            '--preserve-digests',
            '--src-tls-verify=false',
            location,
            `dir:${directory}`,
          ]),
          'skopeo copy',
        );
        expect(readFileSync(path.join(directory, 'manifest.json')).equals(image.bytes)).toBe(true);
        for (const blob of blobsOf(image, false)) {
          const copied = readFileSync(path.join(directory, blob.digest.replace(/^sha256:/, '')));
          expect(copied.equals(blob.bytes())).toBe(true);
        }
        rmSync(directory, { recursive: true });
      }
    } finally {
      await server.stop();
    }
  });
});

describe('part of the platforms', () => {
  const image = multiArchImage();
  const left = new Set(
    image.children.slice(2).flatMap((child) => [child.digest, ...blobsOf(child).map((blob) => blob.digest)]),
  );
  for (const child of image.children.slice(0, 2)) for (const blob of blobsOf(child)) left.delete(blob.digest);
  const name = 'registry.example/team/multi:v1';
  let registry: RunningRegistry;
  let walk: Walk;

  beforeAll(async () => {
    registry = await startAnyRegistry();
    walk = makeWalk();
    await pushImage(registry.url, 'team/multi', 'v1', image);
    await walk.init({ keys: 'native' });
  });
  afterAll(async () => {
    await registry?.stop();
    walk?.sandbox.remove();
  });

  it('keeps the bytes of the index, says what was left out, and serves the rest', async () => {
    const bundle = walk.sandbox.path('out.sealift');
    await walk.export([`${name}=docker://${registry.host}/team/multi:v1`], bundle, {
      args: ['--platform', 'linux/amd64', '--platform', 'linux/arm64/v8'],
    });
    await walk.pin(bundle, await walk.rootFingerprint());
    const verified = await walk.json<{
      images: { digest: string; omitted: { digest: string; reason: string }[] }[];
    }>(['verify', bundle]);
    expect(verified.images[0]?.digest).toBe(image.digest);
    expect(verified.images[0]?.omitted.map((one) => `${one.reason} ${one.digest}`).sort()).toEqual(
      image.children
        .slice(2)
        .map((child) => `platform ${child.digest}`)
        .sort(),
    );
    await walk.import(bundle);
    expect(blobDigests(walk.sandbox.path('store'))).toEqual(
      digestsOf(image).filter((digest) => !left.has(digest)),
    );
    const server = await walk.serve();
    try {
      await expectServed(server.url, 'registry.example/team/multi', 'v1', image, left);
    } finally {
      await server.stop();
    }
  });
});

describe('other ways out', () => {
  let walk: Walk;
  beforeAll(async () => {
    walk = makeWalk();
    await walk.init({ keys: 'native' });
  });
  afterAll(() => walk?.sandbox.remove());

  it('reads an OCI layout, names by sha512 included', async () => {
    const images = { 'signed:v1': signedImage(), 'sums:v1': sha512Image() };
    const layout = walk.sandbox.path('layout');
    makeLayout(
      layout,
      Object.entries(images).map(([name, root]) => ({ name, root })),
    );
    const bundle = walk.sandbox.path('layout.sealift');
    await walk.export(
      Object.keys(images).map((name) => `registry.example/${name}=oci:${layout}:${name}`),
      bundle,
    );
    await walk.pin(bundle, await walk.rootFingerprint());
    const store = walk.sandbox.path('from-layout');
    await walk.import(bundle, { store });
    expect(blobDigests(store)).toEqual(allDigests(Object.values(images)));
  });

  it('finds evidence over the referrers API as over the referrers tag', async () => {
    const image = signedImage();
    for (const referrersApi of [true, false]) {
      const registry = await startOciRegistry({ referrersApi });
      try {
        await pushImage(registry.url, 'team/signed', 'v1', image);
        const bundle = walk.sandbox.path(`referrers-${referrersApi}.sealift`);
        await walk.export(
          [`registry.example/team/signed:v1=docker://${registry.host}/team/signed:v1`],
          bundle,
        );
        const manifest = JSON.parse(
          succeeded(await runProgram('tar', ['-xOf', bundle, 'sealift.json']), 'tar').stdout,
        ) as { evidence: { digest: string; via: string }[] };
        expect(manifest.evidence).toHaveLength(5);
        for (const one of manifest.evidence)
          expect(one.via).toBe(referrersApi ? 'referrers-api' : 'referrers-tag');
      } finally {
        await registry.stop();
      }
    }
  });

  it('refuses a stick on which one byte of a layer was changed, and keeps the store as it was', async () => {
    const layout = walk.sandbox.path('plain');
    const image = multiArchImage();
    makeLayout(layout, [{ name: 'v1', root: image }]);
    const bundle = walk.sandbox.path('tampered.sealift');
    await walk.export([`registry.example/team/tampered:v1=oci:${layout}:v1`], bundle);
    const bytes = readFileSync(bundle);
    const at = bytes.lastIndexOf('the same on every platform');
    expect(at).toBeGreaterThan(0);
    bytes[at] = (bytes[at] as number) ^ 1;
    writeFileSync(bundle, bytes);
    await walk.sandbox.run(['trust', 'pin', bundle, '--fingerprint', await walk.rootFingerprint(), '--yes']);
    const store = walk.sandbox.path('untouched');
    const result = await walk.tryImport(bundle, { store, args: ['--json'] });
    expect(result.code).toBe(4);
    expect(JSON.parse(result.stdout)).toMatchObject({ error: { code: 'digest-mismatch' } });
    const listed = await walk.sandbox.run(['ls', '--store', store, '--json']);
    expect(listed.stdout).not.toContain('tampered');
  });
});
