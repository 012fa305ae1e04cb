import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { isSealiftError } from '../../../../core/errors.ts';
import { exportBundle } from '../../../../core/export.ts';
import { inspectLocation } from '../../../../core/inspect.ts';
import type { ImageSummary } from '../../../../core/results.ts';
import { parseLocation } from '../../../../core/transport/location.ts';
import type { ExportOptions } from '../../../../core/workflow-options.ts';
import { dockerArchiveOf, tarDirectory, writeFiles } from '../../../../fixtures/archives.ts';
import {
  digestOf,
  makeImage,
  makeLayer,
  makeLayout,
  manyLayersImage,
  multiArchImage,
  schema2Image,
  signedImage,
  singleImage,
  tarOf,
} from '../../../../fixtures/images.ts';
import { describePeer } from '../../../../fixtures/peers.ts';
import {
  DAY,
  filesOf,
  makeWorld,
  SOURCE_OPTIONS,
  TEST_PASSPHRASE,
  type World,
} from '../../../../fixtures/world.ts';
import { failureOf } from '../surroundings.ts';

let world: World;
let tmp: string;
beforeAll(async () => {
  world = await makeWorld();
  tmp = path.join(world.directory, 'tmp');
  mkdirSync(tmp);
});
afterAll(() => world.close());

let count = 0;
const at = (name: string) => path.join(world.directory, name);
function write(content: Uint8Array, ending = 'tar'): string {
  count += 1;
  const file = at(`archive-${count}.${ending}`);
  writeFileSync(file, content);
  return file;
}

async function exported(
  locations: string | readonly string[],
  options: Partial<ExportOptions> & { file?: string } = {},
): Promise<readonly ImageSummary[]> {
  count += 1;
  const result = await world.export(
    {},
    {
      images: [locations].flat().map((text) => parseLocation(text)),
      source: { ...SOURCE_OPTIONS, temporary: tmp },
      file: at(`out-${count}.tar`),
      ...options,
    },
  );
  return result.images;
}

function layoutArchive(...names: string[]): Buffer {
  count += 1;
  const directory = at(`layout-of-archive-${count}`);
  makeLayout(
    directory,
    names.map((name, i) => ({ name, root: i === 0 ? signedImage() : singleImage(name) })),
  );
  return tarDirectory(directory);
}

const APP = 'quay.io/acme/app:1';

describe('oci-archive', () => {
  it.each([
    ['uncompressed', (bytes: Buffer) => bytes],
    ['gzip', (bytes: Buffer) => gzipSync(bytes)],
    ['zstd', (bytes: Buffer) => zstdCompressSync(bytes)],
  ])('%s gives the image with its digest and its evidence', async (_title, compress) => {
    const [image] = await exported(`oci-archive:${write(compress(layoutArchive(APP)))}`);
    expect(image?.name).toBe(APP);
    expect(image?.digest).toBe(signedImage().digest);
    expect(image?.evidence.length).toBeGreaterThan(0);
    expect(image?.digestMadeHere).toBe(false);
    expect(readdirSync(tmp)).toEqual([]);
  });

  it('takes one of several images by its name', async () => {
    const file = write(layoutArchive(APP, 'quay.io/acme/other:2'));
    const [image, none] = await exported(`oci-archive:${file}:quay.io/acme/other:2`);
    expect(image?.digest).toBe(singleImage('quay.io/acme/other:2').digest);
    expect(none).toBeUndefined();
    expect(await exported(`oci-archive:${file}`)).toHaveLength(2);
  });

  it('refuses compressed archives without a temporary directory', async () => {
    const file = write(gzipSync(layoutArchive(APP)));
    const failure = await failureOf(exported(`oci-archive:${file}`, { source: SOURCE_OPTIONS }));
    expect(failure.code).toBe('invalid-argument');
    expect(failure.hint).toContain('--tmpdir');
  });

  it('stops writing a decompression bomb out at the limit', async () => {
    const file = write(gzipSync(Buffer.alloc(8 * 1024 * 1024)));
    const context = world.context();
    const { openSource } = await import('../../../../core/transport/source.ts');
    const failure = await failureOf(
      openSource(
        parseLocation(`oci-archive:${file}`).location,
        { ...SOURCE_OPTIONS, temporary: tmp },
        { ...context, limits: { ...context.limits, spool: 1024 * 1024 } },
      ),
    );
    expect(failure.code).toBe('source-too-large');
    expect(readdirSync(tmp)).toEqual([]);
  });

  it.each([
    ['a truncated gzip', () => gzipSync(layoutArchive(APP)).subarray(0, 2000), 'archive-invalid'],
    ['a truncated archive', () => layoutArchive(APP).subarray(0, 3000), 'archive-invalid'],
    ['no archive at all', () => Buffer.from('hello\n'.repeat(500)), 'archive-invalid'],
    ['an empty file', () => Buffer.alloc(0), 'archive-invalid'],
    ['zeros', () => Buffer.alloc(10_240), 'archive-invalid'],
    ['xz', () => Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, 0, 0]), 'archive-invalid'],
    ['an archive of something else', () => tarOf({ 'README.md': 'hello' }), 'layout-invalid'],
  ])('refuses %s', async (_title, content, code) => {
    expect((await failureOf(exported(`oci-archive:${write(content())}`))).code).toBe(code);
    expect(readdirSync(tmp)).toEqual([]);
  });

  it('refuses a second index.json', async () => {
    const archive = layoutArchive(APP);
    const twice = Buffer.concat([tarOf({ 'index.json': '{}' }).subarray(0, 1024), archive]);
    const failure = await failureOf(exported(`oci-archive:${write(twice)}`));
    expect(failure.code).toBe('archive-invalid');
    expect(failure.message).toContain('2 times');
  });

  it('refuses a blob with other content than its name', async () => {
    const archive = Buffer.from(layoutArchive(APP));
    const layer = singleBlobOffset(archive);
    archive[layer] = (archive[layer] ?? 0) ^ 1;
    expect((await failureOf(exported(`oci-archive:${write(archive)}`))).code).toBe('digest-mismatch');
  });

  it('says that there is no such file', async () => {
    expect((await failureOf(exported('oci-archive:/nonexistent/x.tar'))).code).toBe('source-not-found');
  });
});

/** A byte of the content of the largest member. */
function singleBlobOffset(archive: Buffer): number {
  let best = { offset: 0, size: 0 };
  for (let offset = 0; offset + 512 <= archive.length; ) {
    const size = Number.parseInt(archive.toString('latin1', offset + 124, offset + 135), 8) || 0;
    if (size > best.size) best = { offset: offset + 512, size };
    offset += 512 + Math.ceil(size / 512) * 512;
  }
  return best.offset + 20;
}

describePeer(['tar'], 'archives of the real tar', () => {
  it('are read with ./ in front, in every format, links followed inside', async () => {
    const directory = at('packed');
    const files = new Map<string, Uint8Array>();
    dockerArchiveOf([{ root: singleImage('links'), tags: ['acme/links:1'] }], (made) => {
      for (const [name, content] of Object.entries(made)) files.set(name, Buffer.from(content as string));
    });
    writeFiles(directory, Object.fromEntries(files));
    // As docker did for a layer that several images share.
    const layer = [...files.keys()].find((name) => name.endsWith('/layer.tar')) ?? '';
    const long = `${'d'.repeat(90)}/${'e'.repeat(90)}`;
    mkdirSync(path.join(directory, long), { recursive: true });
    symlinkSync(`../../${layer}`, path.join(directory, long, 'layer.tar'));
    const [entry] = JSON.parse(String(files.get('manifest.json')));
    entry.Layers = entry.Layers.map((name: string) => (name === layer ? `${long}/layer.tar` : name));
    writeFiles(directory, { 'manifest.json': JSON.stringify([entry]) });
    const digests = [];
    for (const format of ['ustar', 'pax', 'gnu']) {
      const file = at(`${format}.tar`);
      execFileSync('tar', [`--format=${format}`, '-C', directory, '-cf', file, '.']);
      const [image] = await exported(`docker-archive:${file}`);
      digests.push(image?.digest);
      expect(image?.name).toBe('docker.io/acme/links:1');
    }
    expect(new Set(digests).size).toBe(1);
    expect(digests[0]).toMatch(/^sha256:/);
  });
});

describe('docker-archive', () => {
  const archive = () =>
    dockerArchiveOf([
      { root: singleImage('a'), tags: ['acme/a:1', 'acme/a:latest'] },
      { root: schema2Image(), tags: ['quay.io/acme/b:2'] },
      { root: singleImage('untagged'), tags: [] },
    ]);

  it('makes digests, the same for the same content, and says so in the bundle', async () => {
    const plain = await exported(`docker-archive:${write(archive())}:acme/a:1`, { file: at('made.tar') });
    const packed = await exported(`docker-archive:${write(gzipSync(archive()))}:acme/a:1`);
    expect(plain[0]?.digestMadeHere).toBe(true);
    expect(plain[0]?.digest).toBe(packed[0]?.digest);
    const files = filesOf(at('made.tar'));
    const manifest = JSON.parse(String(files.get('sealift.json')));
    expect(manifest.images[0].digestMadeHere).toBe(true);
    const image = JSON.parse(String(files.get(`blobs/sha256/${plain[0]?.digest.slice(7)}`)));
    // What docker load would give: the config is the image's id and stays byte for byte.
    expect(image.config.digest).toBe(singleImage('a').blobs[0]?.digest);
    for (const { digest } of image.layers)
      expect(digestOf(files.get(`blobs/sha256/${digest.slice(7)}`) ?? Buffer.alloc(0))).toBe(digest);
    await world.pin(at('made.tar'));
    expect((await world.verify(at('made.tar'))).images[0]?.digestMadeHere).toBe(true);
  });

  it('exports every name of the archive where none is given', async () => {
    const images = await exported(`docker-archive:${write(archive())}`);
    expect(images.map(({ name }) => name)).toEqual([
      'docker.io/acme/a:1',
      'docker.io/acme/a:latest',
      'quay.io/acme/b:2',
    ]);
  });

  it('takes an image by its number, and gives it the name in front', async () => {
    const file = write(archive());
    const [image] = await exported(`acme/c:3=docker-archive:${file}:@2`);
    expect(image?.name).toBe('docker.io/acme/c:3');
    expect((await failureOf(exported(`acme/c:3=docker-archive:${file}:@7`))).code).toBe('name-not-found');
    expect((await failureOf(exported(`acme/c:3=docker-archive:${file}`))).code).toBe('name-conflict');
    expect((await failureOf(exported(`docker-archive:${file}:@2`))).code).toBe('invalid-reference');
    expect((await failureOf(exported(`docker-archive:${file}:acme/none:1`))).code).toBe('name-not-found');
  });

  it('keeps compressed layers as they are', async () => {
    const root = singleImage('compressed');
    const [, layer] = root.blobs;
    const bytes = layer?.bytes() ?? Buffer.alloc(0);
    const file = write(
      dockerArchiveOf([{ root, tags: ['acme/z:1'] }], (files) => {
        const [entry] = JSON.parse(String(files['manifest.json']));
        files['layer.gz'] = bytes;
        files['manifest.json'] = JSON.stringify([
          { ...entry, Layers: ['layer.gz', ...entry.Layers.slice(1)] },
        ]);
      }),
    );
    await exported(`docker-archive:${file}`, { file: at('z.tar') });
    expect(filesOf(at('z.tar')).get(`blobs/sha256/${digestOf(bytes).slice(7)}`)).toEqual(bytes);
  });

  it('goes on where it was interrupted, although the archive must be written out again', async () => {
    const file = write(gzipSync(dockerArchiveOf([{ root: manyLayersImage(6), tags: ['acme/many:1'] }])));
    const out = at('interrupted.tar');
    const options = {
      collection: world.collection,
      images: [parseLocation(`docker-archive:${file}`)],
      output: { kind: 'file', path: out } as const,
      platforms: [],
      lifetime: DAY,
      includeEvidence: true,
      dockerArchive: false,
      force: false,
      concurrency: 1,
      source: { ...SOURCE_OPTIONS, temporary: tmp },
      passphrase: async () => TEST_PASSPHRASE,
      pid: process.pid,
    };
    const stop = new AbortController();
    let done = 0;
    const interrupted = exportBundle(options, {
      ...world.context(),
      signal: stop.signal,
      emit: (event) => {
        if (event.type === 'blob' && event.state === 'done') done += 1;
        if (done === 3) stop.abort();
      },
    });
    await expect(interrupted).rejects.toThrow();
    expect(existsSync(out)).toBe(false);
    const asked = vi.fn(options.passphrase);
    const result = await exportBundle({ ...options, passphrase: asked }, world.context());
    expect(result.resumed).toBe(true);
    expect(asked).not.toHaveBeenCalled();
    await world.pin(out);
    await world.verify(out);
    expect(readdirSync(tmp)).toEqual([]);
  });

  it('reads what is a layout too, as docker 25 and sealift write it', async () => {
    const first = at('both.tar');
    const [carried] = (
      await world.export({ [APP]: singleImage('both') }, { file: first, dockerArchive: true })
    ).images;
    const [layout] = await exported(`oci-archive:${first}`);
    expect(layout).toMatchObject({ name: APP, digest: carried?.digest, digestMadeHere: false });
    const [docker] = await exported(`docker-archive:${first}`);
    expect(docker).toMatchObject({ name: APP, digestMadeHere: true });
    expect(docker?.digest).not.toBe(carried?.digest);
    expect(docker?.size).toBeGreaterThan(0);
  });

  const damaged = (edit: (files: Record<string, string | Uint8Array>) => void) =>
    write(dockerArchiveOf([{ root: singleImage('x'), tags: ['acme/x:1'] }], edit));
  const layerOf = (files: Record<string, unknown>) =>
    Object.keys(files).find((name) => name.endsWith('layer.tar')) ?? '';
  const configOf = (files: Record<string, unknown>) =>
    Object.keys(files).find((name) => /^[0-9a-f]{64}\.json$/.test(name)) ?? '';
  it.each<[string, (files: Record<string, string | Uint8Array>) => void, string]>([
    [
      'another layer than the config says',
      (files) => {
        files[layerOf(files)] = tarOf({ evil: 'content' });
      },
      'digest-mismatch',
    ],
    [
      'another config than its name says',
      (files) => {
        files[configOf(files)] = '{"rootfs":{"diff_ids":[]}}';
      },
      'digest-mismatch',
    ],
    [
      'a layer too many',
      (files) => {
        const [entry] = JSON.parse(String(files['manifest.json']));
        files['manifest.json'] = JSON.stringify([{ ...entry, Layers: [...entry.Layers, entry.Layers[0]] }]);
      },
      'archive-invalid',
    ],
    [
      'a layer outside the archive',
      (files) => {
        const [entry] = JSON.parse(String(files['manifest.json']));
        files['manifest.json'] = JSON.stringify([{ ...entry, Layers: ['../../../etc/passwd'] }]);
      },
      'archive-invalid',
    ],
    [
      'a missing layer',
      (files) => {
        delete files[layerOf(files)];
      },
      'archive-invalid',
    ],
    [
      'no manifest.json',
      (files) => {
        delete files['manifest.json'];
        files['repositories'] = '{}';
      },
      'archive-invalid',
    ],
    [
      'a name that is none',
      (files) => {
        const [entry] = JSON.parse(String(files['manifest.json']));
        files['manifest.json'] = JSON.stringify([{ ...entry, RepoTags: ['../../x'] }]);
      },
      'invalid-reference',
    ],
    [
      'a duplicate key',
      (files) => {
        files['manifest.json'] = String(files['manifest.json']).replace(
          '"Config":',
          '"Config":"x","Config":',
        );
      },
      'json-duplicate-key',
    ],
  ])('refuses %s', async (_title, edit, code) => {
    expect((await failureOf(exported(`docker-archive:${damaged(edit)}`))).code).toBe(code);
  });
});

describe('any change of an archive', () => {
  it('ends in an error of ours, or in the same image', async () => {
    const { openSource } = await import('../../../../core/transport/source.ts');
    const original = dockerArchiveOf([{ root: singleImage('mutated'), tags: ['acme/m:1'] }]);
    const file = write(original);
    const source = (name: string) =>
      openSource(parseLocation(`docker-archive:${name}`).location, SOURCE_OPTIONS, world.context());
    const opened = await source(file);
    const want = (await opened.manifest('')).digest;
    await opened.close();
    // Headers and small documents are where a reader can be led astray; they are hit more often than layers.
    const place = fc.oneof(
      fc.nat(original.length - 1),
      fc.nat(1100),
      fc.nat(511).map((n) => n + 512),
    );
    await fc.assert(
      fc.asyncProperty(place, fc.integer({ min: 1, max: 255 }), fc.boolean(), async (offset, flip, cut) => {
        const changed = Buffer.from(cut ? original.subarray(0, offset) : original);
        if (!cut) changed[offset] = (changed[offset] ?? 0) ^ flip;
        writeFileSync(file, changed);
        let again: Awaited<ReturnType<typeof source>> | undefined;
        try {
          again = await source(file);
          expect((await again.manifest('')).digest).toBe(want);
        } catch (error) {
          if (!isSealiftError(error)) throw error;
        } finally {
          await again?.close();
        }
      }),
      { numRuns: 400 },
    );
  });
});

describePeer(['skopeo'], 'archives of skopeo', () => {
  it('are read, of both kinds', async () => {
    const root = makeImage({ layers: [makeLayer({ 'a/b': 'skopeo' })] });
    makeLayout(at('for-skopeo'), [{ name: 'v1', root }]);
    const copy = (target: string) =>
      execFileSync('skopeo', ['--insecure-policy', 'copy', '-q', `oci:${at('for-skopeo')}:v1`, target]);
    copy(`oci-archive:${at('s-oci.tar')}:${APP}`);
    copy(`docker-archive:${at('s-docker.tar')}:${APP}`);
    const [oci] = await exported(`oci-archive:${at('s-oci.tar')}`);
    expect(oci).toMatchObject({ name: APP, digest: root.digest, digestMadeHere: false });
    const [docker] = await exported(`docker-archive:${at('s-docker.tar')}`);
    expect(docker).toMatchObject({ name: APP, digestMadeHere: true, platforms: ['linux/amd64'] });
  });
});

describe('archives of docker 26', () => {
  const saved = (name: string) => path.join(import.meta.dirname, '../../../../fixtures/archives', name);
  const classic = saved('docker-26.tar');
  const containerd = saved('docker-26-containerd.tar');

  it('give the digests that the same images have in an archive of an older docker', async () => {
    const images = await exported(`docker-archive:${classic}`);
    expect(images.map(({ name }) => name)).toEqual([
      'docker.io/acme/saved:1',
      'quay.io/acme/saved:stable',
      'registry.example:5000/acme/other:2',
    ]);
    const older = write(
      dockerArchiveOf([
        { root: singleImage('saved by docker'), tags: ['acme/saved:1', 'quay.io/acme/saved:stable'] },
        { root: singleImage('saved beside it'), tags: ['registry.example:5000/acme/other:2'] },
      ]),
    );
    const digests = (list: readonly ImageSummary[]) => list.map(({ digest }) => digest);
    expect(digests(images)).toEqual(digests(await exported(`docker-archive:${older}`)));
    expect(new Set(digests(images)).size).toBe(2);
    expect(images.every(({ digestMadeHere }) => digestMadeHere)).toBe(true);
  });

  it('are layouts too: with the containerd image store those of the registry, every platform and digest kept', async () => {
    const [image, ...others] = await exported(`oci-archive:${containerd}`);
    expect(others).toEqual([]);
    expect(image).toMatchObject({
      name: 'quay.io/acme/multi:1',
      digest: multiArchImage().digest,
      digestMadeHere: false,
    });
    expect(image?.platforms.length).toBeGreaterThan(1);
    const [docker] = await exported(`docker-archive:${containerd}`);
    expect(docker).toMatchObject({ name: 'quay.io/acme/multi:1', digestMadeHere: true });
    expect(docker?.platforms).toHaveLength(1);
    expect(await exported(`oci-archive:${classic}`)).toHaveLength(3);
  });
});

describe('bundle and store', () => {
  it('keep that a digest was made here', async () => {
    const saved = write(dockerArchiveOf([{ root: singleImage('kept'), tags: ['acme/kept:1'] }]));
    const first = at('kept.tar');
    const [made] = await exported(`docker-archive:${saved}`, { file: first });
    expect(made).toMatchObject({ name: 'docker.io/acme/kept:1', digestMadeHere: true });
    await world.pin(first);
    await world.import(first);
    for (const location of [`bundle:${first}`, `store:${world.store}:docker.io/acme/kept:1`])
      expect((await exported(location))[0]).toMatchObject({ digest: made?.digest, digestMadeHere: true });
    const { images } = await inspectLocation({ location: world.store, names: [] }, world.context());
    expect(images.find(({ name }) => name === made?.name)?.digestMadeHere).toBe(true);
  });

  it('give on what they hold, names, digests and evidence, also of a part of the platforms', async () => {
    const first = at('first.tar');
    const other = await world.stranger();
    const { images } = await other.export(
      { [APP]: signedImage(), 'quay.io/acme/multi:1': multiArchImage() },
      { file: first, platforms: ['linux/amd64'] },
    );
    const again = await exported(`bundle:${first}`, { file: at('again.tar') });
    expect(again).toEqual(
      images.map((image) => ({
        ...image,
        evidence: image.evidence.map((one) => ({ ...one, via: 'layout' })),
      })),
    );
    expect(world.events).toContainEqual(expect.objectContaining({ code: 'bundle-not-verified' }));

    await other.pin(first);
    await other.import(first);
    expect(await exported(`store:${other.store}`)).toEqual(again);
    const [one, none] = await exported(`store:${other.store}:quay.io/acme/multi:1`);
    expect(one?.omitted.length).toBeGreaterThan(0);
    expect(none).toBeUndefined();
    expect((await failureOf(exported(`store:${other.store}:acme/none:1`))).code).toBe('name-not-found');
    expect(
      (await failureOf(exported(`bundle:${first}:quay.io/acme/multi:1`, { platforms: ['linux/arm64'] })))
        .code,
    ).toBe('source-not-found');
  });

  it('say that there is none', async () => {
    expect((await failureOf(exported('bundle:/nonexistent'))).code).toBe('bundle-not-found');
    expect((await failureOf(exported('store:/nonexistent'))).code).toBe('store-not-found');
  });
});
