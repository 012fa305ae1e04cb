import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseLocation } from '../../../core/transport/location.ts';
import {
  digestOf,
  type FixtureBlob,
  type FixtureManifest,
  gzipStored,
  MEDIA,
  manifestsOf,
  manyLayersImage,
  nestedIndex,
  randomContent,
  singleImage,
  tarOf,
} from '../../../fixtures/images.ts';
import { filesOf, makeWorld, type World } from '../../../fixtures/world.ts';
import { failureOf } from './surroundings.ts';

let world: World;
let count = 0;
beforeAll(async () => {
  world = await makeWorld();
});
afterAll(() => world.close());

const NAME = 'quay.io/acme/awkward:1';

function blob(bytes: Buffer, mediaType: string): FixtureBlob {
  return { mediaType, digest: digestOf(bytes), size: bytes.length, bytes: () => bytes };
}

/** An image whose layers are exactly these. */
function imageOf(
  layers: readonly (FixtureBlob & { readonly more?: object })[],
  more: object = {},
): FixtureManifest {
  const config = blob(
    Buffer.from(
      JSON.stringify({ os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: [] } }),
    ),
    MEDIA.config,
  );
  const descriptor = ({ mediaType, digest, size }: FixtureBlob) => ({ mediaType, digest, size });
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA.manifest,
      config: {
        ...descriptor(config),
        data: config.bytes() && Buffer.from(config.bytes()).toString('base64'),
      },
      layers: layers.map((layer) => ({ ...descriptor(layer), ...layer.more })),
      ...more,
    }),
  );
  return {
    bytes,
    mediaType: MEDIA.manifest,
    digest: digestOf(bytes),
    size: bytes.length,
    blobs: [config, ...layers],
    children: [],
    referrers: [],
  };
}

const inStore = (digest: string) => readFileSync(path.join(world.store, 'blobs', ...digest.split(':')));

/** Exports and imports an image; everything of it must be in the store, byte for byte. */
async function travels(root: FixtureManifest, name = NAME, includeForeign = false): Promise<void> {
  count += 1;
  const file = path.join(world.directory, `awkward-${count}.tar`);
  await world.export({ [name]: root }, { file, includeForeign });
  await world.pin(file);
  const { images } = await world.import(file);
  expect(images.find((image) => image.name === name)).toMatchObject({ digest: root.digest, admitted: true });
  for (const manifest of manifestsOf(root)) {
    expect(inStore(manifest.digest)).toEqual(manifest.bytes);
    for (const one of manifest.blobs) expect(inStore(one.digest)).toEqual(Buffer.from(one.bytes()));
  }
}

const tar = tarOf({ 'srv/x': randomContent(5000, 'awkward') });

describe('foreign layers', () => {
  const foreign = () =>
    imageOf([
      {
        ...blob(gzipStored(tar), 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip'),
        more: { urls: ['https://vendor.example/layer'] },
      },
    ]);

  it('are refused by name', async () => {
    const failure = await failureOf(world.export({ [NAME]: foreign() }));
    expect(failure).toMatchObject({ code: 'foreign-layer', subject: NAME });
    expect(failure.message).toContain(foreign().blobs[1]?.digest);
    expect(failure.hint).toContain('--include-foreign');
  });

  it('are carried where that is asked for', () => travels(foreign(), NAME, true));
});

describe('travels byte for byte:', () => {
  it.each<[string, () => FixtureManifest]>([
    ['an index inside an index', nestedIndex],
    ['an image of 300 layers', () => manyLayersImage(300)],
    [
      'zstd, with a frame that is skipped behind it, as zstd:chunked has',
      () => {
        const skipped = Buffer.concat([
          Buffer.from([0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0]),
          Buffer.from('toc!'),
        ]);
        return imageOf([
          blob(
            Buffer.concat([zstdCompressSync(tar), skipped]),
            'application/vnd.oci.image.layer.v1.tar+zstd',
          ),
        ]);
      },
    ],
    [
      'estargz: gzip members one behind the other',
      () => imageOf([blob(Buffer.concat([gzipStored(tar), gzipStored(Buffer.from('toc'))]), MEDIA.layer)]),
    ],
    [
      'an encrypted layer',
      () =>
        imageOf([blob(randomContent(3000, 'key'), 'application/vnd.oci.image.layer.v1.tar+gzip+encrypted')]),
    ],
    [
      'urls and data in descriptors',
      () => {
        const layer = blob(gzipStored(Buffer.from('small')), MEDIA.layer);
        const data = Buffer.from(layer.bytes()).toString('base64');
        return imageOf([{ ...layer, more: { urls: ['https://a.example/x', 'https://b.example/y'], data } }]);
      },
    ],
    [
      'the same layer twice, and an empty one',
      () => {
        const layer = blob(gzipStored(tar), MEDIA.layer);
        return imageOf([layer, layer, blob(Buffer.alloc(0), MEDIA.layer)]);
      },
    ],
  ])('%s', (_title, image) => travels(image()));

  it('an image whose name has the longest repository and tag', () => {
    const repository = `registry.example:5000/${Array.from({ length: 29 }, () => 'abcde').join('/')}`;
    const name = `${repository}/${'x'.repeat(255 - repository.length - 1)}:${'t'.repeat(128)}`;
    return travels(singleImage('long'), name);
  });
});

describe('a plain file', () => {
  const wrap = (file: string) => {
    count += 1;
    return {
      images: [parseLocation(`quay.io/acme/rules:7=file:${file}`)],
      file: path.join(world.directory, `file-${count}.tar`),
    };
  };

  it('is an artifact with its title, the same every time, and comes back byte for byte', async () => {
    const content = randomContent(2_000_000, 'file');
    for (const directory of ['one', 'two']) {
      mkdirSync(path.join(world.directory, directory));
      writeFileSync(path.join(world.directory, directory, 'rules 7.json'), content);
    }
    const options = wrap(path.join(world.directory, 'one', 'rules 7.json'));
    const [image] = (await world.export({}, options)).images;
    const [again] = (await world.export({}, wrap(path.join(world.directory, 'two', 'rules 7.json')))).images;
    expect(again?.digest).toBe(image?.digest);
    const files = filesOf(options.file);
    const manifest = JSON.parse(String(files.get(`blobs/sha256/${image?.digest.slice(7)}`)));
    expect(manifest).toMatchObject({
      artifactType: 'application/vnd.sealift.file.v1',
      layers: [
        {
          mediaType: 'application/octet-stream',
          digest: digestOf(content),
          annotations: { 'org.opencontainers.image.title': 'rules 7.json' },
        },
      ],
    });
    await world.pin(options.file);
    await world.import(options.file);
    expect(inStore(digestOf(content))).toEqual(content);
  });

  it('may be empty, and is refused where it is none', async () => {
    const empty = path.join(world.directory, 'empty');
    writeFileSync(empty, '');
    expect((await world.export({}, wrap(empty))).images).toHaveLength(1);
    expect((await failureOf(world.export({}, wrap('/nonexistent')))).code).toBe('source-not-found');
    expect((await failureOf(world.export({}, wrap(world.directory)))).code).toBe('invalid-argument');
    const evil = path.join(world.directory, 'evil\u001b[31m');
    writeFileSync(evil, 'x');
    expect((await failureOf(world.export({}, wrap(evil)))).code).toBe('invalid-argument');
  });
});
