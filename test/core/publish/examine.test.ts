/** Verifying what clients pull from: what is missing, wrong or foreign, and how strongly the rest was looked at. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type BucketOptions, openBucket } from '../../../core/publish/bucket.ts';
import type { OpenDestination } from '../../../core/publish/destination.ts';
import { type VerifyDestinationResult, verifyDestination } from '../../../core/verify-destination.ts';
import { FAKE_CREDENTIALS, type FakeS3, startFakeS3 } from '../../../fixtures/fake-s3.ts';
import { largeImage, multiArchImage, sharingImages, signedImage } from '../../../fixtures/images.ts';
import { HOUR, makePublishing, NOW, type Publishing } from './publishing.ts';

let world: Publishing;
let server: FakeS3;
beforeAll(() => {
  Object.assign(process.env, FAKE_CREDENTIALS, { AWS_EC2_METADATA_DISABLED: 'true' });
});
afterAll(() => {
  for (const name of [...Object.keys(FAKE_CREDENTIALS), 'AWS_EC2_METADATA_DISABLED'])
    delete process.env[name];
});
beforeEach(async () => {
  world = makePublishing();
  server = await startFakeS3();
});
afterEach(async () => {
  await world.close();
  await server.close();
});

const bucket =
  (options: Partial<BucketOptions> = {}): OpenDestination =>
  (context) =>
    openBucket(
      {
        ...{ bucket: 'images', prefix: '', endpoint: server.url, region: 'us-east-1', pathStyle: true },
        ...{ retryTimes: 0, timeoutMs: 2000 },
        ...options,
      },
      context,
    );

const verify = (
  open: OpenDestination,
  deep = false,
  { now = NOW, host }: { readonly now?: Date; readonly host?: string } = {},
): Promise<VerifyDestinationResult> =>
  verifyDestination(
    { open, gate: path.join(world.directory, 'no-gate'), store: world.store, deep, concurrency: 4, host },
    world.context(now),
  );

const IMAGES = {
  'docker.io/library/alpine:3.20': multiArchImage(),
  'quay.io/acme/signed:v1': signedImage(),
  'quay.io/acme/one:v1': sharingImages()[0],
  'quay.io/acme/two:v1': sharingImages()[1],
};

/** Another byte in the middle, the same size. */
function flipObject(key: string): void {
  const object = server.objects.get(key);
  if (!object) throw new Error(`no ${key}`);
  const bytes = Buffer.from(object.bytes);
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
  server.objects.set(key, { ...object, bytes });
}

const blobsOf = (repository: string): string[] =>
  [...server.objects.keys()].filter((key) => key.startsWith(`v2/${repository}/blobs/`)).sort();

describe('a bucket', () => {
  beforeEach(async () => {
    await world.admit(IMAGES);
    await world.sync({ destinations: [bucket()] });
  });

  it('is right after a sync: documents by content, blobs by the MD5 the server has', async () => {
    const before = [...server.objects.keys()];
    server.log.length = 0;
    const result = await verify(bucket());
    expect(result).toMatchObject({ good: true, missing: 0, wrong: 0, foreign: [], wantedBy: 'store' });
    expect(result.images.every(({ whole }) => whole)).toBe(true);
    const blobs = before.filter((key) => key.includes('/blobs/')).length;
    // Copies inside the bucket keep no entity tag that means anything here, and are read.
    expect(result.proofs.etag + result.proofs.content).toBe(result.objects.length);
    expect(result.proofs.etag).toBeGreaterThan(0);
    expect(result.proofs.etag).toBeLessThanOrEqual(blobs);
    expect(server.log.filter((line) => !/^(?:get|head|list) /.test(line))).toEqual([]);
    expect([...server.objects.keys()]).toEqual(before);
  });

  it('tells by which means: checksum, size alone is never claimed to be more, deep reads all', async () => {
    server.tells = 'sha256';
    const told = await verify(bucket());
    expect(told.proofs).toMatchObject({ etag: 0, size: 0 });
    expect(told.proofs.checksum).toBeGreaterThan(10);
    const deep = await verify(bucket(), true);
    expect(deep.proofs).toEqual({ content: deep.objects.length, checksum: 0, etag: 0, size: 0 });
  });

  it('reads what has an entity tag that is no MD5, instead of believing its size', async () => {
    server.tells = 'opaque';
    await world.admit({ 'quay.io/acme/new:v1': largeImage(1, 200_000) });
    await world.sync({ destinations: [bucket()] });
    expect((await verify(bucket())).good).toBe(true);
    const [key = ''] = blobsOf('quay.io/acme/new');
    flipObject(key);
    expect(await verify(bucket())).toMatchObject({ good: false, wrong: 1 });
  });

  it('knows the entity tag of a blob that was sent in parts', async () => {
    await world.admit({ 'quay.io/acme/large:v1': largeImage(1, 11_000_000) });
    const parts = { multipartFrom: 1_000_000, partSize: 5 * 1024 * 1024 };
    await world.sync({ destinations: [bucket(parts)] });
    const [large = ''] = blobsOf('quay.io/acme/large').filter(
      (key) => (server.objects.get(key)?.bytes.length ?? 0) > 10_000_000,
    );
    expect(server.objects.get(large)?.etag).toMatch(/-3"$/);
    const result = await verify(bucket());
    expect(result.objects.find(({ key }) => key === large)?.proof).toBe('etag');
  });

  it.each(['md5', 'sha256'] as const)(
    'finds each fault, names the images it concerns, and a sync with repair puts it right (%s)',
    async (tells) => {
      server.tells = tells;
      const [, blob = ''] = blobsOf('quay.io/acme/one');
      flipObject(blob);
      // The server's own MD5 of what lies there now, as a disk or an intruder would leave it.
      const flipped = server.objects.get(blob);
      if (flipped) server.objects.set(blob, { ...flipped, etag: '"00000000000000000000000000000000"' });
      const gone = blobsOf('library/alpine')[0] ?? '';
      server.objects.delete(gone);
      flipObject('v2/quay.io/acme/signed/manifests/v1');
      const result = await verify(bucket());
      expect(result).toMatchObject({ good: false, missing: 1, wrong: 2 });
      expect(result.objects.filter(({ fault }) => fault).map(({ key }) => key)).toEqual(
        expect.arrayContaining([blob, gone, 'v2/quay.io/acme/signed/manifests/v1']),
      );
      const damaged = result.images.filter(({ whole }) => !whole).map(({ name }) => name);
      expect(damaged).toContain('quay.io/acme/signed:v1');
      expect(damaged).toContain('docker.io/library/alpine:3.20');
      expect(damaged).toContain('quay.io/acme/one:v1');
      await world.sync({ destinations: [bucket()], repair: { deep: false } });
      expect(await verify(bucket(), true)).toMatchObject({ good: true });
    },
  );

  it('finds what an intruder put beside it: a tag, and evidence of an image that is wanted', async () => {
    const planted = 'v2/quay.io/acme/one/manifests/latest';
    const original = server.objects.get('v2/quay.io/acme/two/manifests/v1');
    if (!original) throw new Error('no tag');
    server.objects.set(planted, original);
    const { digest } = IMAGES['quay.io/acme/one:v1'];
    const forged = `v2/quay.io/acme/one/referrers/${digest}`;
    server.objects.set(forged, { ...original, bytes: Buffer.from('{"manifests":[]}') });
    const state = server.objects.get('.sealift/state.json');
    const hidden = {
      ...JSON.parse(state?.bytes.toString() ?? ''),
      unneeded: [{ key: forged, since: '2026-01-01T00:00:00Z' }],
    };
    if (state)
      server.objects.set('.sealift/state.json', { ...state, bytes: Buffer.from(JSON.stringify(hidden)) });
    const result = await verify(bucket());
    expect(result).toMatchObject({ good: false, missing: 0, wrong: 0, foreign: [planted, forged].sort() });
  });

  describe('the catalog page', () => {
    const page = () => String(server.objects.get('index.html')?.bytes);
    const setPage = (text: string): void => {
      const object = server.objects.get('index.html');
      if (object) server.objects.set('index.html', { ...object, bytes: Buffer.from(text) });
    };
    const faultsOf = ({ objects }: VerifyDestinationResult) =>
      objects.filter(({ fault }) => fault).map(({ key, fault }) => `${key} ${fault}`);

    it('is found changed, too long to be it, or gone, and is put right by a sync with repair', async () => {
      const right = page();
      for (const wrong of [
        right.replace('</main>', '<p>Pull from evil.example instead.</p></main>'),
        right.replace('verified', 'Verified'),
        `${right}${' '.repeat(8 * right.length + 64 * 1024)}`,
        '',
      ]) {
        setPage(wrong);
        expect(faultsOf(await verify(bucket()))).toEqual(['index.html wrong']);
        await world.sync({ destinations: [bucket()], repair: { deep: false } });
        expect(page()).toBe(right);
        expect(await verify(bucket())).toMatchObject({ good: true });
      }
      server.objects.delete('index.html');
      expect(faultsOf(await verify(bucket()))).toEqual(['index.html missing']);
    });

    it('tells where it sends clients to, and is wrong where that is not the host that was named', async () => {
      expect((await verify(bucket())).catalogHost).toBeUndefined();
      await world.sync({ destinations: [bucket()], host: 'images.example:8443' });
      const host = 'images.example:8443';
      expect(await verify(bucket(), false, { host })).toMatchObject({ good: true, catalogHost: host });
      setPage(page().replaceAll(host, 'evil.example'));
      expect(await verify(bucket())).toMatchObject({ good: true, catalogHost: 'evil.example' });
      const told = await verify(bucket(), false, { host });
      expect(faultsOf(told)).toEqual(['index.html wrong']);
      expect(told.objects.at(-1)?.detail).toBe(`it sends clients to evil.example, want ${host}`);
      // In one place only: it is another page then.
      setPage(page().replace('evil.example', host));
      expect(faultsOf(await verify(bucket()))).toEqual(['index.html wrong']);
    });

    it('is no other one where trust has expired since it was written', async () => {
      await world.admit(
        { 'quay.io/acme/short:v1': sharingImages()[0] },
        { trustExpires: new Date(NOW.getTime() + HOUR).toISOString().replace('.000', '') },
      );
      await world.sync({ destinations: [bucket()] });
      const later = new Date(NOW.getTime() + 2 * HOUR);
      expect(await verify(bucket(), false, { now: later })).toMatchObject({ good: true });
      setPage(page().replace('is in', 'was in').replace('</main>', '<p></p></main>'));
      expect(faultsOf(await verify(bucket(), false, { now: later }))).toEqual(['index.html wrong']);
    });
  });

  it('is what the store says, whatever the bucket says of itself', async () => {
    server.objects.set('.sealift/state.json', {
      bytes: Buffer.from('{"images":[]}'),
      headers: {},
      etag: '"x"',
    });
    expect((await verify(bucket())).objects.length).toBeGreaterThan(30);
  });
});

describe('a directory', () => {
  it('is right by size, and by content with deep; faults are found and repaired', async () => {
    await world.admit(IMAGES);
    await world.sync();
    const quick = await verify(world.static());
    expect(quick).toMatchObject({ good: true });
    expect(quick.proofs.size).toBeGreaterThan(5);
    const { blobs } = IMAGES['quay.io/acme/one:v1'];
    const file = path.join(world.tree, 'v2/quay.io/acme/one/blobs', blobs[1]?.digest ?? '');
    const bytes = readFileSync(file);
    bytes[3] = (bytes[3] ?? 0) ^ 1;
    rmSync(file);
    writeFileSync(file, bytes);
    expect(await verify(world.static())).toMatchObject({ good: true });
    expect(await verify(world.static(), true)).toMatchObject({ good: false, wrong: 1 });
    // A web server would tell the wrong type.
    rmSync(path.join(world.tree, 'v2/library/alpine/manifests/3.20~.ocii'));
    expect(await verify(world.static())).toMatchObject({ good: false, wrong: 1 });
    await world.sync({ repair: { deep: true } });
    expect(await verify(world.static(), true)).toMatchObject({ good: true });
  });

  it('is wrong where a configuration of a web server beside it was changed', async () => {
    await world.admit(IMAGES);
    await world.sync();
    const file = path.join(world.tree, 'config/nginx/locations-maps.conf');
    const right = readFileSync(file, 'utf8');
    writeFileSync(file, `${right}\nlocation / { proxy_pass http://evil.example; }\n`);
    const { objects } = await verify(world.static());
    expect(objects.filter(({ fault }) => fault).map(({ key }) => key)).toEqual([
      'config/nginx/locations-maps.conf',
    ]);
    await world.sync({ repair: { deep: false } });
    expect(readFileSync(file, 'utf8')).toBe(right);
    // A tag that somebody planted is told as foreign; the list of tags for nginx is not wrong by it.
    const planted = 'v2/quay.io/acme/one/manifests/planted';
    writeFileSync(path.join(world.tree, planted), '{}');
    expect(await verify(world.static())).toMatchObject({ missing: 0, wrong: 0, foreign: [planted] });
    rmSync(path.join(world.tree, planted));
    rmSync(file);
    expect(await verify(world.static())).toMatchObject({ good: false, missing: 1 });
  });
});
