/** A bucket: the same objects as a directory, nothing sent twice, and what happens when the server misbehaves. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { isSealiftError } from '../../../core/errors.ts';
import { type BucketOptions, openBucket } from '../../../core/publish/bucket.ts';
import {
  FAKE_CREDENTIALS,
  type FakeFault,
  type FakeOperation,
  type FakeS3,
  startFakeS3,
} from '../../../fixtures/fake-s3.ts';
import {
  largeImage,
  multiArchImage,
  schema2Image,
  sha512Image,
  sharingImages,
  signedImage,
  singleImage,
} from '../../../fixtures/images.ts';
import { snapshotOf } from '../../../fixtures/store.ts';
import { HOUR, makePublishing, NOW, type Publishing } from './publishing.ts';

let world: Publishing;
let server: FakeS3;
const saved = { ...process.env };
beforeAll(() => {
  Object.assign(process.env, FAKE_CREDENTIALS, { AWS_EC2_METADATA_DISABLED: 'true' });
});
afterAll(() => {
  for (const name of [...Object.keys(FAKE_CREDENTIALS), 'AWS_EC2_METADATA_DISABLED']) {
    if (saved[name] === undefined) delete process.env[name];
    else process.env[name] = saved[name];
  }
});
beforeEach(async () => {
  world = makePublishing();
  server = await startFakeS3();
});
afterEach(async () => {
  await world.close();
  await server.close();
});

function sync(options: Partial<BucketOptions> = {}, more: Parameters<Publishing['sync']>[0] = {}) {
  const bucket: BucketOptions = {
    bucket: 'images',
    prefix: '',
    endpoint: server.url,
    region: 'us-east-1',
    pathStyle: true,
    retryTimes: 2,
    retryDelayMs: 1,
    timeoutMs: 400,
    ...options,
  };
  return world.sync({ ...more, destinations: [(context) => openBucket(bucket, context)] });
}

async function errorOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    if (isSealiftError(error)) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'no error';
}

/** Keys and hashes of all objects. */
const state = (): Record<string, string> =>
  Object.fromEntries(
    [...server.objects]
      .map(([key, { bytes, headers }]) => [key, `${headers['content-type']} ${sha256(bytes)}`] as const)
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Whatever can be named can be pulled. */
function expectWhole(when: string): void {
  for (const [key, { bytes }] of server.objects) {
    if (!/\/manifests\//.test(key)) continue;
    const base = key.slice(0, key.indexOf('/manifests/'));
    const document = JSON.parse(bytes.toString());
    for (const blob of [...(document.config ? [document.config] : []), ...(document.layers ?? [])]) {
      const found = server.objects.get(`${base}/blobs/${blob.digest}`);
      const algorithm = blob.digest.slice(0, 6);
      const got = found && `${algorithm}:${createHash(algorithm).update(found.bytes).digest('hex')}`;
      expect(got, `${when}: ${key}`).toBe(blob.digest);
    }
    for (const child of document.manifests ?? []) {
      expect(server.objects.has(`${base}/manifests/${child.digest}`), `${when}: ${key}`).toBe(true);
    }
  }
}

const IMAGES = {
  'docker.io/library/alpine:3.20': multiArchImage(),
  'quay.io/acme/signed:v1': signedImage(),
  'quay.io/acme/docker:v1': schema2Image(),
  'quay.io/acme/one:v1': sharingImages()[0],
  'quay.io/acme/two:v1': sharingImages()[1],
};

describe('a bucket', () => {
  it('answers the referrers API for no manifest, so that clients go by the fallback tags', async () => {
    await world.admit(IMAGES);
    await sync();
    const keys = [...server.objects.keys()];
    expect(keys.filter((key) => key.includes('/referrers/'))).toEqual([]);
    const { digest } = signedImage();
    expect(keys).toContain(`v2/quay.io/acme/signed/manifests/${digest.replace(':', '-')}`);
  });

  it('holds what a directory holds, with the headers clients and caches want', async () => {
    await world.admit({ ...IMAGES, 'quay.io/acme/long:v1': sha512Image() });
    await world.sync();
    server.pageSize = 7;
    const result = await sync();
    const files = Object.keys(snapshotOf(world.tree)).filter(
      (name) => /^(?:v2\/|index)/.test(name) && !/~|\/referrers\/sha256:/.test(name),
    );
    const keys = [...server.objects.keys()].filter((key) => key !== '.sealift/state.json');
    expect(keys.sort()).toEqual(files.map((name) => (name === 'v2/index.json' ? 'v2/' : name)).sort());
    for (const key of keys) {
      const file = key === 'v2/' ? 'v2/index.json' : key;
      expect(server.objects.get(key)?.bytes.equals(readFileSync(path.join(world.tree, file))), key).toBe(
        true,
      );
    }
    const { digest } = IMAGES['docker.io/library/alpine:3.20'];
    expect(server.objects.get(`v2/library/alpine/manifests/${digest}`)?.headers).toEqual({
      'content-type': 'application/vnd.oci.image.index.v1+json',
      'cache-control': 'public, max-age=31536000, immutable',
      'x-amz-meta-docker-content-digest': digest,
    });
    expect(server.objects.get('v2/library/alpine/manifests/3.20')?.headers).toEqual({
      'content-type': 'application/vnd.oci.image.index.v1+json',
      'cache-control': 'no-cache',
      'x-amz-meta-docker-content-digest': digest,
    });
    // What two repositories share is sent once.
    expect(result.destinations[0]?.copied.blobs).toBeGreaterThan(5);
    expect(server.log.filter((line) => line.startsWith('copy'))).toHaveLength(
      result.destinations[0]?.copied.blobs ?? 0,
    );
    expectWhole('after a sync');
  });

  it('is not written to by a second sync', async () => {
    await world.admit(IMAGES);
    await sync({ prefix: 'some/where' });
    expect([...server.objects.keys()].every((key) => key.startsWith('some/where/'))).toBe(true);
    const before = state();
    server.log.length = 0;
    const second = await sync({ prefix: 'some/where' });
    expect(second.destinations[0]).toMatchObject({ changed: false, location: 's3://images/some/where' });
    expect(server.log.filter((line) => !/^(?:get|head|list) /.test(line))).toEqual([]);
    expect(state()).toEqual(before);
  });

  it('puts right a tag of the same size and a manifest of another type', async () => {
    await world.admit(IMAGES);
    await sync();
    const before = state();
    const tag = 'v2/quay.io/acme/docker/manifests/v1';
    const object = server.objects.get(tag);
    if (!object) throw new Error('no tag');
    const other = Buffer.from(object.bytes);
    other[5] = (other[5] ?? 0) ^ 1;
    server.objects.set(tag, { ...object, bytes: other });
    const manifest = `v2/quay.io/acme/docker/manifests/${IMAGES['quay.io/acme/docker:v1'].digest}`;
    const second = server.objects.get(manifest);
    if (!second) throw new Error('no manifest');
    server.objects.set(manifest, { ...second, headers: { ...second.headers, 'content-type': 'text/plain' } });
    await sync();
    expect(state()).toEqual(before);
  });

  it('works where the server knows no conditional writes, and tries them once', async () => {
    server.conditional = '501';
    await world.admit(IMAGES);
    await sync({}, { concurrency: 1 });
    expectWhole('without conditional writes');
    const puts = server.log.filter((line) => line.startsWith('put'));
    expect(puts.length - new Set(puts).size).toBe(1);
  });

  it('moves a tag where no entity tag ever matches', async () => {
    server.conditional = 'no-match';
    await world.admit({ 'quay.io/acme/app:v1': singleImage() });
    await sync();
    await world.admit({ 'quay.io/acme/app:v1': singleImage('2') });
    await sync();
    expect(server.objects.get('v2/quay.io/acme/app/manifests/v1')?.bytes.equals(singleImage('2').bytes)).toBe(
      true,
    );
  });

  it('does not overwrite a tag that somebody else moved meanwhile', async () => {
    await world.admit({ 'quay.io/acme/app:v1': singleImage() });
    await sync();
    await world.admit({ 'quay.io/acme/app:v1': singleImage('2') });
    server.fault = (operation, key) => {
      if (operation !== 'put' || !key.endsWith('manifests/v1')) return undefined;
      server.objects.set(key, { bytes: Buffer.from('{}'), headers: {}, etag: '"other"' });
      return undefined;
    };
    expect(await errorOf(sync())).toBe('destination-failed: somebody else changed it in the meantime');
    expect(server.objects.get('v2/quay.io/acme/app/manifests/v1')?.bytes.toString()).toBe('{}');
  });

  it('never completes a blob that is damaged in the store, whether the server checks or not', async () => {
    const image = largeImage(1, 3_000_000);
    await world.admit({ 'quay.io/acme/app:v1': image });
    const digest = image.blobs.find(({ size }) => size > 2_000_000)?.digest ?? '';
    const blob = path.join(world.store, 'blobs/sha256', digest.slice(7));
    const bytes = readFileSync(blob);
    bytes[2_000_000] = (bytes[2_000_000] ?? 0) ^ 1;
    rmSync(blob);
    writeFileSync(blob, bytes);
    expect(await errorOf(sync())).toMatch(/^digest-mismatch: the blob is damaged where it is read from/);
    expect(server.log.filter((line) => line.includes(digest) && line.startsWith('put'))).toEqual([]);
    expect(await errorOf(sync({ multipartFrom: 1_000_000, partSize: 500_000 }))).toMatch(/^digest-mismatch/);
    expect(server.uploads.size).toBe(0);
    expect([...server.objects.keys()].filter((key) => key.includes('/manifests/'))).toEqual([]);
  });

  it('sends a large blob in parts, and the finished parts never again', async () => {
    const image = largeImage(1, 4_000_000);
    await world.admit({ 'quay.io/acme/app:v1': image });
    const large = { multipartFrom: 1_000_000, partSize: 512_000 };
    let parts = 0;
    server.fault = (operation) =>
      operation === 'part' && ++parts > 5 ? { status: 403, code: 'AccessDenied' } : undefined;
    expect(await errorOf(sync(large))).toMatch(/^destination-failed: writing part 6/);
    expect(server.uploads.size).toBe(1);
    server.fault = undefined;
    server.log.length = 0;
    await sync(large);
    const blob = image.blobs.find(({ size }) => size > 2_000_000);
    expect(server.log.filter((line) => line.startsWith('part'))).toHaveLength(
      Math.ceil((blob?.size ?? 0) / 512_000) - 5,
    );
    expect(server.uploads.size).toBe(0);
    expectWhole('after parts');
  });

  it('goes on with parts after kill -9, and sends what had arrived never again', async () => {
    const image = largeImage(1, 4_000_000);
    await world.admit({ 'quay.io/acme/app:v1': image });
    const blob = image.blobs.find(({ size }) => size > 2_000_000);
    const parts = Math.ceil((blob?.size ?? 0) / (256 * 1024));
    const run = () =>
      spawn(
        process.execPath,
        [path.join(import.meta.dirname, '../../../fixtures/sync-parts.ts'), world.store, server.url],
        { stdio: ['ignore', 'ignore', 'inherit'] },
      );
    const first = run();
    server.fault = (operation) => {
      const [upload] = server.uploads.values();
      if (operation !== 'part' || (upload?.parts.size ?? 0) < 6) return undefined;
      first.kill('SIGKILL');
      return 'stall';
    };
    expect(await once(first, 'exit')).toEqual([null, 'SIGKILL']);
    server.fault = undefined;
    const [upload] = server.uploads.values();
    const arrived = upload?.parts.size ?? 0;
    expect(arrived).toBeGreaterThanOrEqual(6);
    server.log.length = 0;
    expect(await once(run(), 'exit')).toEqual([0, null]);
    expect(server.log.filter((line) => line.startsWith('part '))).toHaveLength(parts - arrived);
    expect(server.log.filter((line) => line.startsWith('create-upload'))).toEqual([]);
    expectWhole('after a kill');
  });

  it('loses what is withdrawn, tags at once and the rest after the grace period', async () => {
    await world.admit(IMAGES);
    await sync();
    await world.withdraw('docker.io/library/alpine:3.20');
    const prune = { grace: 24 * HOUR };
    await sync({}, { prune });
    expect(server.objects.has('v2/library/alpine/manifests/3.20')).toBe(false);
    const { digest } = IMAGES['docker.io/library/alpine:3.20'];
    expect(server.objects.has(`v2/library/alpine/manifests/${digest}`)).toBe(true);
    server.log.length = 0;
    await sync({}, { prune, now: new Date(NOW.getTime() + 25 * HOUR) });
    expect([...server.objects.keys()].filter((key) => key.includes('alpine'))).toEqual([]);
    // An index goes before what it lists, and blobs go last.
    const gone = server.log
      .filter((line) => line.startsWith('delete v2/library/'))
      .map((line) => line.split('/').slice(3).join('/'));
    expect(gone[0]).toBe(`manifests/${digest}`);
    expect(gone.findIndex((key) => key.startsWith('blobs'))).toBe(5);
    expectWhole('after pruning');
  });
});

describe('a server that misbehaves', () => {
  const OPERATIONS: readonly FakeOperation[] = [
    'list',
    'get',
    'put',
    'copy',
    'create-upload',
    'list-uploads',
    'part',
    'complete',
    'delete',
  ];
  const ONCE: readonly (readonly [string, FakeFault])[] = [
    ['500', { status: 500, code: 'InternalError' }],
    ['503 with Retry-After', { status: 503, code: 'SlowDown', headers: { 'retry-after': '0' } }],
    ['a stall', 'stall'],
    ['an end of the connection', 'drop'],
    ['an answer that is lost', 'lose-answer'],
    ['an answer that is cut short', 'truncate'],
  ];
  const large = { multipartFrom: 90_000, partSize: 40_000 };
  const prune = { grace: 0 };

  async function prepare(): Promise<Record<string, string>> {
    await world.admit(IMAGES);
    await sync(large);
    await world.withdraw('quay.io/acme/docker:v1');
    await sync(large, { prune });
    const wanted = state();
    server.objects.clear();
    await world.admit(IMAGES);
    await sync(large);
    for (const key of server.objects.keys())
      if (!key.includes('acme/docker') && key !== '.sealift/state.json') server.objects.delete(key);
    await world.withdraw('quay.io/acme/docker:v1');
    return wanted;
  }

  it.each(ONCE)('is asked again: %s, once for each kind of request', async (_what, fault) => {
    const wanted = await prepare();
    const hit = new Set<FakeOperation>();
    server.fault = (operation) => {
      if (hit.has(operation) || !OPERATIONS.includes(operation)) return undefined;
      hit.add(operation);
      return fault;
    };
    await sync(large, { prune });
    expect([...hit].sort()).toEqual([...OPERATIONS].sort());
    server.fault = undefined;
    expectWhole('after faults');
    expect(state()).toEqual(wanted);
  });

  it.each(OPERATIONS)(
    'refuses for good (403) or has nothing but trouble (500) at %s: clear error, nothing half, goes on',
    async (operation) => {
      const wanted = await prepare();
      let number = 0;
      for (const fault of [
        { status: 403, code: 'AccessDenied' },
        { status: 500, code: 'InternalError' },
      ]) {
        number = 0;
        // The second of its kind, so that something was done before.
        server.fault = (found) => (found === operation && ++number > 1 ? fault : undefined);
        const error = await errorOf(sync({ ...large, retryTimes: 0 }, { prune }));
        if (number > 1 && operation !== 'list-uploads')
          expect(error).toMatch(new RegExp(`^destination-failed: .*status ${fault.status}`));
        expectWhole(`${fault.status} at ${operation}`);
      }
      server.fault = undefined;
      await sync(large, { prune });
      expect(state()).toEqual(wanted);
    },
  );

  it('lists the same page for ever: that is noticed', async () => {
    await world.admit(IMAGES);
    await sync();
    server.pageSize = 1;
    server.listsFrom = () => '';
    await expect(sync()).rejects.toMatchObject({ code: 'destination-failed' });
  });

  it('changes content on the way: the server refuses it, and nothing is published', async () => {
    await world.admit({ 'quay.io/acme/app:v1': singleImage() });
    server.fault = (operation, key) =>
      operation === 'put' && key.includes('/blobs/')
        ? { status: 400, code: 'XAmzContentSHA256Mismatch' }
        : undefined;
    expect(await errorOf(sync())).toMatch(/^digest-mismatch: .*other bytes/);
    expect([...server.objects.keys()]).toEqual(['v2/']);
  });

  it.each([
    ['no such bucket', { bucket: 'elsewhere' }, 'there is no such bucket'],
    ['nobody there', { endpoint: 'http://127.0.0.1:9' }, 'could not be reached'],
    ['a key that is too long', { prefix: 'x'.repeat(1024) }, 'a key would have'],
  ])('is not there: %s', async (_what, options, text) => {
    await world.admit({ 'quay.io/acme/app:v1': singleImage() });
    expect(await errorOf(sync(options))).toContain(text);
    expect(server.objects.size).toBe(0);
  });
});
