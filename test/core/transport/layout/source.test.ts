import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { blobPath, digestOf, parseDigest } from '../../../../core/oci/digest.ts';
import { parseLocation, referenceIn } from '../../../../core/transport/location.ts';
import { openSource, type SourceOptions } from '../../../../core/transport/source.ts';
import {
  attachEvidence,
  blobsOf,
  type FixtureManifest,
  largeImage,
  MEDIA,
  makeLayout,
  manifestsOf,
  type NamedFixture,
  sha512Image,
  signedImage,
  singleImage,
} from '../../../../fixtures/images.ts';
import { collect, failureOf, surroundings } from '../surroundings.ts';

const OPTIONS: SourceOptions = {
  plainHttp: false,
  insecureSkipTlsVerify: false,
  credentials: async () => undefined,
  retryTimes: 0,
  concurrencyPerHost: 1,
  timeoutMs: 1000,
};

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(os.tmpdir(), 'sealift-layout-source-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

async function open(images: readonly NamedFixture[], name?: string) {
  makeLayout(directory, images);
  return reopen(name);
}

async function reopen(name?: string) {
  const { location } = parseLocation(`oci:${directory}${name === undefined ? '' : `:${name}`}`);
  const around = surroundings();
  return {
    ...around,
    source: await openSource(location, OPTIONS, around.context),
    reference: referenceIn(location),
  };
}

const digestsOf = (list: readonly { readonly digest: string }[]): string[] =>
  list.map(({ digest }) => digest).sort();
const referrer = (of: FixtureManifest) => digestsOf(of.referrers);

describe('a layout', () => {
  it('gives every manifest and blob byte for byte', async () => {
    const root = signedImage();
    const { source, reference } = await open([{ name: 'quay.io/acme/app:1', root }], 'quay.io/acme/app:1');
    expect(await source.manifest(reference)).toMatchObject({
      digest: root.digest,
      mediaType: root.mediaType,
    });
    for (const one of manifestsOf(root)) {
      const answer = await source.manifest(one.digest);
      expect(Buffer.from(answer.bytes)).toEqual(one.bytes);
      expect(answer.digest).toBe(one.digest);
    }
    for (const blob of blobsOf(root)) {
      const bytes = await collect(source, { digest: parseDigest(blob.digest), size: blob.size });
      expect(bytes.equals(blob.bytes())).toBe(true);
    }
  });

  it('gives blobs larger than one chunk', async () => {
    const root = largeImage(1, 3_500_000);
    const { source } = await open([{ name: '1', root }]);
    const layer = blobsOf(root).find(({ size }) => size > 3_000_000);
    const bytes = await collect(source, { digest: parseDigest(layer?.digest ?? ''), size: layer?.size ?? 0 });
    expect(bytes.equals(Buffer.from(layer?.bytes() ?? []))).toBe(true);
  });

  it('gives its only image where none is named, evidence not counted', async () => {
    const root = signedImage();
    const { source, reference } = await open([{ name: '1', root }]);
    expect((await source.manifest(reference)).digest).toBe(root.digest);
  });

  it('gives none of several where none is named', async () => {
    const { source, reference } = await open([
      { name: '1', root: singleImage('one') },
      { name: '2', root: singleImage('two') },
    ]);
    expect((await failureOf(source.manifest(reference))).code).toBe('name-conflict');
    expect((await source.manifest('2')).digest).toBe(singleImage('two').digest);
  });

  it('gives no other image than the one named', async () => {
    const { source, reference } = await open([{ name: '1', root: singleImage() }], '2');
    expect((await failureOf(source.manifest(reference))).code).toBe('name-not-found');
  });

  it('carries sha512', async () => {
    const root = sha512Image();
    const { source, reference } = await open([{ name: '1', root }]);
    expect((await source.manifest(reference)).digest).toBe(root.digest);
  });

  it('is refused where there is none', async () => {
    expect((await failureOf(reopen())).code).toBe('layout-invalid');
  });
});

describe('a damaged layout', () => {
  const root = singleImage();
  const layer = root.blobs[1];
  const wanted = { digest: parseDigest(layer?.digest ?? ''), size: layer?.size ?? 0 };
  const fileOf = (digest: string): string => path.join(directory, blobPath(parseDigest(digest)));

  it('is refused where a manifest has other content', async () => {
    const { source } = await open([{ name: '1', root }]);
    const bytes = readFileSync(fileOf(root.digest));
    bytes[bytes.length - 2] = 0x20;
    writeFileSync(fileOf(root.digest), bytes);
    expect((await failureOf(source.manifest('1'))).code).toBe('digest-mismatch');
    expect((await failureOf(source.manifest(root.digest))).code).toBe('digest-mismatch');
  });

  it('is refused where a blob is shorter than announced', async () => {
    const { source } = await open([{ name: '1', root }]);
    truncateSync(fileOf(wanted.digest), 10);
    expect(await failureOf(collect(source, wanted))).toMatchObject({ code: 'size-mismatch', got: 10 });
  });

  it('is refused where a blob shrinks while it is read', async () => {
    const large = largeImage(1, 3_500_000);
    const { source } = await open([{ name: '1', root: large }]);
    const blob = blobsOf(large).find(({ size }) => size > 3_000_000);
    const reading = async () => {
      const want = { digest: parseDigest(blob?.digest ?? ''), size: blob?.size ?? 0, mediaType: '' };
      for await (const _ of await source.blob(want)) truncateSync(fileOf(want.digest), 100);
    };
    expect((await failureOf(reading())).code).toBe('size-mismatch');
  });

  it('is refused where a blob is missing', async () => {
    const { source } = await open([{ name: '1', root }]);
    rmSync(fileOf(wanted.digest));
    expect((await failureOf(collect(source, wanted))).code).toBe('blob-missing');
  });

  it('stops when the run is stopped', async () => {
    const { source, abort } = await open([{ name: '1', root }]);
    abort.abort();
    await expect(collect(source, wanted)).rejects.toMatchObject({ name: 'AbortError' });
  });
});

describe('evidence in a layout', () => {
  it('is found by subject: on the index, on a child, on evidence', async () => {
    const root = signedImage();
    const { source } = await open([{ name: '1', root }]);
    for (const one of manifestsOf(root)) {
      const answer = await source.referrers(parseDigest(one.digest));
      expect(answer.via).toBe('layout');
      expect(digestsOf(answer.descriptors)).toEqual(referrer(one));
    }
    const [first] = (await source.referrers(parseDigest(root.digest))).descriptors;
    expect(first?.artifactType).toBeDefined();
  });

  it('is found in an index of the fallback tag', async () => {
    const root = singleImage();
    const { source: before } = await open([{ name: '1', root }]);
    expect((await before.referrers(parseDigest(root.digest))).descriptors).toEqual([]);
    const evidence = attachEvidence(root, 'application/vnd.example.signature', '{}');
    const listed = { mediaType: evidence.mediaType, digest: evidence.digest, size: evidence.size };
    const bytes = Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType: MEDIA.index, manifests: [listed] }),
    );
    const index: FixtureManifest = { ...singleImage(), ...fixture(bytes), children: [evidence], blobs: [] };
    makeLayout(directory, [
      { name: '1', root: { ...root, referrers: [] } },
      { name: root.digest.replace(':', '-'), root: index },
    ]);
    const { source } = await reopen('1');
    expect(digestsOf((await source.referrers(parseDigest(root.digest))).descriptors)).toEqual([
      evidence.digest,
    ]);
  });

  it('is left out with a warning where it cannot be read as a manifest', async () => {
    const root = singleImage();
    makeLayout(directory, [{ name: '1', root }]);
    const bad = Buffer.from('{"schemaVersion":2,"layers":[],"manifests":[]}');
    const entry = { ...fixture(bad), mediaType: MEDIA.manifest };
    writeFileSync(path.join(directory, blobPath(parseDigest(entry.digest))), bad);
    const file = path.join(directory, 'index.json');
    const index = JSON.parse(readFileSync(file, 'utf8')) as { manifests: object[] };
    index.manifests.push({ mediaType: entry.mediaType, digest: entry.digest, size: entry.size });
    writeFileSync(file, JSON.stringify(index));
    const { source, events } = await reopen('1');
    expect((await source.referrers(parseDigest(root.digest))).descriptors).toEqual([]);
    expect(events).toMatchObject([{ level: 'warning', code: 'layout-manifest-skipped' }]);
  });

  it('is looked for although platforms are missing', async () => {
    const root = signedImage();
    const { source } = await open([{ name: '1', root }]);
    rmSync(path.join(directory, blobPath(parseDigest(root.children[1]?.digest ?? ''))));
    expect(digestsOf((await source.referrers(parseDigest(root.digest))).descriptors)).toEqual(referrer(root));
  });
});

function fixture(bytes: Buffer) {
  return { bytes, digest: digestOf(bytes), size: bytes.length, mediaType: MEDIA.index, referrers: [] };
}
