import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type RequestLogEntry, type RunningRegistry, serveRegistry } from '../../../core/publish/registry.ts';
import { openStore, type Store } from '../../../core/store/store.ts';
import {
  artifactImage,
  type FixtureManifest,
  MEDIA,
  makeImage,
  makeLargeLayer,
  manifestsOf,
  multiArchImage,
  schema2Image,
  sha512Image,
  sharingImages,
  signedImage,
  singleImage,
} from '../../../fixtures/images.ts';
import { fill, putBlobs } from '../store/fill.ts';

interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Buffer;
}

const alpine = multiArchImage();
const signed = signedImage();
const schema2 = schema2Image();
const sha512 = sha512Image();
const chart = artifactImage();
const single = singleImage();
const large = makeImage({ layers: [makeLargeLayer(3_000_000, 'large')] });

let directory: string;
let store: Store;
let registry: RunningRegistry;
const errors: unknown[] = [];
const requests: RequestLogEntry[] = [];

/** Sends the path exactly as given; URL would tidy it up. */
function ask(
  target: string,
  options: { method?: string; headers?: Record<string, string>; port?: number } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = http.request(
      {
        host: '127.0.0.1',
        port: options.port ?? registry.port,
        path: target,
        method: options.method ?? 'GET',
        headers: options.headers ?? {},
        agent: false,
      },
      (response) => {
        const parts: Buffer[] = [];
        response.on('data', (chunk: Buffer) => parts.push(chunk));
        response.on('error', reject);
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(parts),
          }),
        );
      },
    );
    request.on('error', reject);
    request.end();
  });
}

const json = (answer: Answer): unknown => JSON.parse(answer.body.toString());
const blobOf = (image: FixtureManifest, at: number): { digest: string; bytes: Uint8Array } => {
  const blob = image.blobs[at]!;
  return { digest: blob.digest, bytes: blob.bytes() };
};

beforeAll(async () => {
  directory = await mkdtemp(path.join(os.tmpdir(), 'registry-'));
  store = await openStore(path.join(directory, 'store'), { create: true });
  await fill(store, {
    'docker.io/library/alpine:3.20': alpine,
    'docker.io/library/alpine:latest': single,
    'docker.io/acme/signed:v1': signed,
    'docker.io/acme/manifests/tags:v1': chart,
    'quay.io/acme/old:v1': schema2,
    'quay.io/acme/sums:v1': sha512,
    'quay.io/acme/large:v1': large,
    [`quay.io/acme/untagged@${single.digest}`]: single,
  });
  registry = await serveRegistry({
    store,
    host: '127.0.0.1',
    port: 0,
    signal: new AbortController().signal,
    onError: (error) => errors.push(error),
    onRequest: (entry) => requests.push(entry),
  });
});

afterAll(async () => {
  await registry.close();
  await rm(directory, { recursive: true, force: true });
});

afterEach(() => {
  expect(errors.splice(0)).toEqual([]);
});

describe('the base', () => {
  it.each(['/v2/', '/v2'])('%s answers 200', async (target) => {
    const answer = await ask(target);
    expect(answer).toMatchObject({
      status: 200,
      headers: { 'docker-distribution-api-version': 'registry/2.0' },
    });
    expect(json(answer)).toEqual({});
  });

  it('/ says in plain text what this is', async () => {
    const answer = await ask('/');
    expect(answer).toMatchObject({
      status: 200,
      headers: { 'content-type': 'text/plain; charset=utf-8', 'x-content-type-options': 'nosniff' },
    });
    expect(answer.body.toString()).toContain('read-only');
  });

  it.each(['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])('%s is refused', async (method) => {
    for (const target of ['/v2/library/alpine/blobs/uploads/', '/v2/library/alpine/manifests/3.20', '/']) {
      const answer = await ask(target, { method });
      expect(answer).toMatchObject({ status: 405, headers: { allow: 'GET, HEAD' } });
      expect(json(answer)).toMatchObject({ errors: [{ code: 'UNSUPPORTED' }] });
    }
  });

  it('tells of every request', async () => {
    requests.length = 0;
    await ask('/v2/\u007f'.replace('\u007f', '%1b[2J'));
    await expect.poll(() => requests).toHaveLength(1);
    expect(requests[0]).toMatchObject({ method: 'GET', url: '/v2/%1b[2J', status: 404, complete: true });
  });
});

describe('manifests', () => {
  it.each(['docker.io/library/alpine', 'library/alpine', 'alpine', 'index.docker.io/library/alpine'])(
    'are found under %s',
    async (name) => {
      const answer = await ask(`/v2/${name}/manifests/3.20`);
      expect(answer).toMatchObject({
        status: 200,
        headers: {
          'content-type': MEDIA.index,
          'content-length': String(alpine.size),
          'docker-content-digest': alpine.digest,
          etag: `"${alpine.digest}"`,
        },
      });
      expect(answer.body).toEqual(alpine.bytes);
    },
  );

  it.each([
    ['/v2/library/alpine/manifests/3.20?ns=docker.io', 200],
    ['/v2/alpine/manifests/3.20?ns=docker.io', 200],
    ['/v2/acme/old/manifests/v1?ns=quay.io', 200],
    ['/v2/quay.io/acme/old/manifests/v1?ns=quay.io', 200],
    ['/v2/quay.io/acme/old/manifests/v1?ns=docker.io', 404],
    ['/v2/library/alpine/manifests/3.20?ns=quay.io', 404],
    ['/v2/acme/old/manifests/v1?ns=docker.io', 404],
    ['/v2/acme/old/manifests/v1', 404],
    ['/v2/docker.io/library/alpine/manifests/3.20?ns=evil.example', 404],
    ['/v2/library/alpine/manifests/3.20?ns=', 404],
    ['/v2/library/alpine/manifests/3.20?ns=docker.io@', 404],
  ])('containerd’s ns names one host and no other: %s', async (target, status) => {
    expect((await ask(target)).status).toBe(status);
  });

  it('have the type their descriptor gives', async () => {
    expect((await ask('/v2/quay.io/acme/old/manifests/v1')).headers['content-type']).toBe(
      MEDIA.dockerManifest,
    );
    expect((await ask('/v2/library/alpine/manifests/latest')).headers['content-type']).toBe(MEDIA.manifest);
  });

  it('are found by digest, children and evidence included', async () => {
    for (const manifest of manifestsOf(signed)) {
      for (const method of ['GET', 'HEAD']) {
        const answer = await ask(`/v2/acme/signed/manifests/${manifest.digest}`, { method });
        expect(answer).toMatchObject({
          status: 200,
          headers: { 'content-type': manifest.mediaType, 'content-length': String(manifest.size) },
        });
        expect(answer.body.length).toBe(method === 'GET' ? manifest.size : 0);
      }
    }
  });

  it('are found by sha512, by an escaped colon, and without a tag', async () => {
    expect((await ask(`/v2/quay.io/acme/sums/manifests/${sha512.digest}`)).body).toEqual(sha512.bytes);
    expect((await ask(`/v2/alpine/manifests/${alpine.digest.replace(':', '%3A')}`)).status).toBe(200);
    expect((await ask(`/v2/quay.io/acme/untagged/manifests/${single.digest}`)).body).toEqual(single.bytes);
  });

  it('are not sent again to who has them', async () => {
    const headers = { 'if-none-match': `"${alpine.digest}"` };
    expect(await ask('/v2/alpine/manifests/3.20', { headers })).toMatchObject({
      status: 304,
      body: Buffer.alloc(0),
    });
    expect((await ask('/v2/alpine/manifests/latest', { headers })).status).toBe(200);
  });

  it.each([
    ['/v2/library/alpine/manifests/none', 'MANIFEST_UNKNOWN'],
    ['/v2/library/alpine/manifests/-bad', 'MANIFEST_UNKNOWN'],
    [`/v2/library/alpine/manifests/sha256:${'0'.repeat(64)}`, 'MANIFEST_UNKNOWN'],
    ['/v2/library/none/manifests/3.20', 'NAME_UNKNOWN'],
    ['/v2/Library/Alpine/manifests/3.20', 'NAME_INVALID'],
  ])('%s: %s', async (target, code) => {
    const answer = await ask(target);
    expect(answer).toMatchObject({ status: 404, headers: { 'content-type': 'application/json' } });
    expect(json(answer)).toMatchObject({ errors: [{ code, message: expect.any(String) }] });
    const head = await ask(target, { method: 'HEAD' });
    expect(head).toMatchObject({ status: 404, body: Buffer.alloc(0) });
  });

  it('of a config or layer there is none', async () => {
    expect((await ask(`/v2/alpine/manifests/${single.blobs[0]!.digest}`)).status).toBe(404);
  });

  it('of a repository named like a part of the protocol are found', async () => {
    expect((await ask('/v2/acme/manifests/tags/manifests/v1')).body).toEqual(chart.bytes);
    expect(json(await ask('/v2/acme/manifests/tags/tags/list'))).toEqual({
      name: 'acme/manifests/tags',
      tags: ['v1'],
    });
  });
});

describe('blobs', () => {
  const layer = blobOf(large, 1);
  const at = `/v2/quay.io/acme/large/blobs/${layer.digest}`;

  it('come whole, with length and digest', async () => {
    const answer = await ask(at);
    expect(answer).toMatchObject({
      status: 200,
      headers: {
        'content-type': 'application/octet-stream',
        'content-length': String(layer.bytes.length),
        'docker-content-digest': layer.digest,
        'accept-ranges': 'bytes',
      },
    });
    expect(`sha256:${createHash('sha256').update(answer.body).digest('hex')}`).toBe(layer.digest);
  });

  it.each([
    ['bytes=0-0', 0, 1],
    ['bytes=100-199', 100, 200],
    ['bytes=1000000-', 1_000_000, undefined],
    ['bytes=-100', -100, undefined],
  ])('come in part: %s', async (range, start, end) => {
    const answer = await ask(at, { headers: { range } });
    const want = Buffer.from(layer.bytes).subarray(start, end);
    const from = start < 0 ? layer.bytes.length + start : start;
    expect(answer.status).toBe(206);
    expect(answer.headers['content-range']).toBe(
      `bytes ${from}-${from + want.length - 1}/${layer.bytes.length}`,
    );
    expect(answer.headers['content-length']).toBe(String(want.length));
    expect(answer.body.equals(want)).toBe(true);
  });

  it('behind their end there is nothing', async () => {
    const answer = await ask(at, { headers: { range: `bytes=${layer.bytes.length}-` } });
    expect(answer).toMatchObject({
      status: 416,
      headers: { 'content-range': `bytes */${layer.bytes.length}` },
    });
  });

  it('come whole where the part was of something else', async () => {
    const headers = { range: 'bytes=0-9', 'if-range': '"sha256:other"' };
    expect((await ask(at, { headers })).status).toBe(200);
    expect((await ask(at, { headers: { ...headers, 'if-range': `"${layer.digest}"` } })).status).toBe(206);
  });

  it('HEAD tells length and digest and sends nothing', async () => {
    expect(await ask(at, { method: 'HEAD' })).toMatchObject({
      status: 200,
      headers: { 'content-length': String(layer.bytes.length), 'docker-content-digest': layer.digest },
      body: Buffer.alloc(0),
    });
  });

  it('are not sent again to who has them', async () => {
    expect((await ask(at, { headers: { 'if-none-match': `W/"x", "${layer.digest}"` } })).status).toBe(304);
  });

  it('of another repository are not served', async () => {
    const answer = await ask(`/v2/library/alpine/blobs/${layer.digest}`);
    expect(answer.status).toBe(404);
    expect(json(answer)).toMatchObject({ errors: [{ code: 'BLOB_UNKNOWN' }] });
  });

  it('that no admitted image reaches are not served', async () => {
    const stray = singleImage('stray');
    const lock = await store.lock(process.pid);
    await putBlobs(store, [stray]);
    await lock.release();
    for (const digest of [stray.digest, stray.blobs[0]!.digest]) {
      expect((await ask(`/v2/library/alpine/blobs/${digest}`)).status).toBe(404);
      expect((await ask(`/v2/library/alpine/manifests/${digest}`)).status).toBe(404);
    }
  });

  it.each([
    'sha256:xyz',
    'sha256',
    `SHA256:${'0'.repeat(64)}`,
    `md5:${'0'.repeat(32)}`,
    `sha256:${'A'.repeat(64)}`,
  ])('want a digest, not %s', async (digest) => {
    const answer = await ask(`/v2/library/alpine/blobs/${digest}`);
    expect(answer.status).toBe(400);
    expect(json(answer)).toMatchObject({ errors: [{ code: 'DIGEST_INVALID' }] });
  });

  it('go to many at once', async () => {
    const answers = await Promise.all(Array.from({ length: 40 }, () => ask(at)));
    for (const { body } of answers) expect(body.equals(Buffer.from(layer.bytes))).toBe(true);
  });

  it('a client that goes away leaves the server well', async () => {
    const before = requests.length;
    await new Promise<void>((resolve) => {
      const socket = net.connect(registry.port, '127.0.0.1', () =>
        socket.write(`GET ${at} HTTP/1.1\r\nHost: x\r\n\r\n`),
      );
      socket.once('data', () => socket.destroy());
      socket.once('close', () => resolve());
    });
    expect((await ask(at, { method: 'HEAD' })).status).toBe(200);
    await expect.poll(() => requests.length).toBeGreaterThan(before);
  });
});

describe('lists', () => {
  it('tags are sorted, under the name that was asked for', async () => {
    expect(json(await ask('/v2/library/alpine/tags/list'))).toEqual({
      name: 'library/alpine',
      tags: ['3.20', 'latest'],
    });
    expect(json(await ask('/v2/quay.io/acme/untagged/tags/list'))).toEqual({
      name: 'quay.io/acme/untagged',
      tags: [],
    });
    expect((await ask('/v2/library/none/tags/list')).status).toBe(404);
  });

  it('come in pages', async () => {
    const first = await ask('/v2/alpine/tags/list?n=1');
    expect(json(first)).toEqual({ name: 'alpine', tags: ['3.20'] });
    expect(first.headers['link']).toBe('</v2/alpine/tags/list?n=1&last=3.20>; rel="next"');
    const second = await ask('/v2/alpine/tags/list?n=1&last=3.20');
    expect(json(second)).toEqual({ name: 'alpine', tags: ['latest'] });
    expect(second.headers['link']).toBeUndefined();
    expect(json(await ask('/v2/alpine/tags/list?n=0'))).toEqual({ name: 'alpine', tags: [] });
    expect((await ask('/v2/alpine/tags/list?n=-1')).status).toBe(400);
    expect((await ask('/v2/alpine/tags/list?n=1e9')).status).toBe(400);
  });

  it('the catalog has full names, in pages that together are all', async () => {
    const all = (json(await ask('/v2/_catalog')) as { repositories: string[] }).repositories;
    expect(all).toEqual([
      'docker.io/acme/manifests/tags',
      'docker.io/acme/signed',
      'docker.io/library/alpine',
      'quay.io/acme/large',
      'quay.io/acme/old',
      'quay.io/acme/sums',
      'quay.io/acme/untagged',
    ]);
    const pages: string[] = [];
    let next: string | undefined = '/v2/_catalog?n=3';
    while (next !== undefined) {
      const answer: Answer = await ask(next);
      pages.push(...(json(answer) as { repositories: string[] }).repositories);
      next = /^<([^>]+)>; rel="next"$/.exec(answer.headers['link']?.toString() ?? '')?.[1];
    }
    expect(pages).toEqual(all);
  });
});

describe('referrers', () => {
  const of = async (digest: string, query = ''): Promise<{ answer: Answer; digests: string[] }> => {
    const answer = await ask(`/v2/acme/signed/referrers/${digest}${query}`);
    const { manifests } = json(answer) as { manifests: { digest: string }[] };
    return { answer, digests: manifests.map((manifest) => manifest.digest) };
  };

  it('lists what hangs on an image, sorted, as an index', async () => {
    const { answer, digests } = await of(signed.digest);
    expect(answer).toMatchObject({ status: 200, headers: { 'content-type': MEDIA.index } });
    expect(digests).toEqual(signed.referrers.map((referrer) => referrer.digest).sort());
    const { manifests } = json(answer) as { manifests: object[] };
    const referrer = signed.referrers.find(({ digest }) => digest === digests[0])!;
    expect(manifests[0]).toEqual({
      mediaType: referrer.mediaType,
      digest: referrer.digest,
      size: referrer.size,
      artifactType: referrer.artifactType,
    });
  });

  it('lists what hangs on a child, and on evidence', async () => {
    const child = signed.children[0]!;
    expect((await of(child.digest)).digests).toEqual(child.referrers.map((referrer) => referrer.digest));
    for (const evidence of signed.referrers) {
      expect((await of(evidence.digest)).digests).toEqual(
        evidence.referrers.map((referrer) => referrer.digest),
      );
    }
  });

  it('filters by type and says so', async () => {
    const { answer, digests } = await of(signed.digest, '?artifactType=application/spdx%2Bjson');
    expect(answer.headers['oci-filters-applied']).toBe('artifactType');
    expect(digests).toEqual(
      signed.referrers.filter((one) => one.artifactType === 'application/spdx+json').map((one) => one.digest),
    );
    expect((await of(signed.digest, '?artifactType=none')).digests).toEqual([]);
    expect((await of(signed.digest)).answer.headers['oci-filters-applied']).toBeUndefined();
  });

  it('of what has none is an empty index, never 404', async () => {
    expect((await of(`sha256:${'0'.repeat(64)}`)).digests).toEqual([]);
    expect((await ask('/v2/library/none/referrers/sha256:0')).status).toBe(404);
    expect((await ask('/v2/acme/signed/referrers/v1')).status).toBe(400);
  });

  it('are under the fallback tag too, and only where there are any', async () => {
    const tag = signed.digest.replace(':', '-');
    const answer = await ask(`/v2/acme/signed/manifests/${tag}`);
    expect(answer).toMatchObject({ status: 200, headers: { 'content-type': MEDIA.index } });
    expect(answer.body).toEqual((await ask(`/v2/acme/signed/referrers/${signed.digest}`)).body);
    expect((await ask(`/v2/alpine/manifests/${alpine.digest.replace(':', '-')}`)).status).toBe(404);
    expect((await ask(`/v2/acme/signed/manifests/${tag}.sig`)).status).toBe(404);
  });
});

describe('hostile requests', () => {
  it.each([
    '/v2/../../../../etc/passwd',
    '/v2/library/alpine/blobs/../../../../../etc/passwd',
    '/v2/library/alpine/blobs/..%2f..%2f..%2fetc%2fpasswd',
    '/v2/%2e%2e/%2e%2e/etc/passwd',
    '/v2/library%2falpine/manifests/3.20',
    '/v2/library/alpine/manifests/%33.20',
    '/v2/library/alpine/manifests/..',
    '/v2/library/alpine%00/manifests/3.20',
    '/v2/library\\alpine/manifests/3.20',
    '/v2//library/alpine/manifests/3.20',
    '/v2/library/alpine//manifests/3.20',
    '/v2/library/./alpine/manifests/3.20',
    '/v2/library/alpine/manifests/3.20/',
    '/v2/__proto__/manifests/constructor',
    '/v2/library/alpine/manifests/__proto__',
    '/v2/library/alpine/manifests/constructor',
    '/v2/.sealift/manifests/store.json',
    '/v2/library/alpine/blobs/.sealift',
    '//v2/library/alpine/manifests/3.20',
    '/index.json',
    '/oci-layout',
    '/.sealift/store.json',
    'http://evil.example/v2/library/alpine/manifests/3.20',
    `/v2/${'a/'.repeat(1000)}b/manifests/x`,
    `/v2/${'a'.repeat(3000)}/manifests/x`,
    `/v2/library/alpine/manifests/${'a'.repeat(200)}`,
  ])('%s finds nothing', async (target) => {
    const answer = await ask(target);
    expect([400, 404]).toContain(answer.status);
    expect(json(answer)).toMatchObject({ errors: [{ code: expect.stringMatching(/^[A-Z_]+$/) }] });
  });

  it('an address of absurd length is refused', async () => {
    expect((await ask(`/v2/${'a'.repeat(5000)}/manifests/x`)).status).toBe(414);
    expect((await ask(`/v2/${'a'.repeat(40_000)}/manifests/x`).catch(() => ({ status: 431 }))).status).toBe(
      431,
    );
  });

  it('nonsense instead of HTTP ends the connection and nothing else', async () => {
    const socket = net.connect(registry.port, '127.0.0.1', () =>
      socket.write('\x16\x03\x01\x02\x00\x01\r\n\r\n'),
    );
    await new Promise((resolve) => socket.once('close', resolve));
    expect((await ask('/v2/')).status).toBe(200);
  });
});

describe('a store that changes', () => {
  let place: string;
  let changing: Store;
  let shown: RunningRegistry;
  const failures: { code?: string }[] = [];
  const [one, two] = sharingImages();
  const tag = (): Promise<Answer> => ask('/v2/acme/app/manifests/v1', { port: shown.port });

  beforeAll(async () => {
    place = await mkdtemp(path.join(os.tmpdir(), 'registry-'));
    changing = await openStore(path.join(place, 'store'), { create: true });
    const signal = new AbortController().signal;
    const onError = (error: unknown): void => void failures.push(error as { code?: string });
    shown = await serveRegistry({ store: changing, host: '127.0.0.1', port: 0, signal, onError });
  });
  afterAll(async () => {
    await shown.close();
    await rm(place, { recursive: true, force: true });
  });

  it('is followed: an image comes, moves and goes', async () => {
    expect((await tag()).status).toBe(404);
    await fill(changing, { 'docker.io/acme/app:v1': one });
    expect((await tag()).body).toEqual(one.bytes);
    await fill(changing, { 'docker.io/acme/app:v1': two });
    expect((await tag()).body).toEqual(two.bytes);
    expect((await ask(`/v2/acme/app/manifests/${one.digest}`, { port: shown.port })).status).toBe(404);
    const lock = await changing.lock(process.pid);
    await changing.withdraw(['docker.io/acme/app:v1']);
    await lock.release();
    expect((await tag()).status).toBe(404);
    expect(failures).toEqual([]);
  });

  it('shows nothing that came in through no gate', async () => {
    await fill(changing, { 'docker.io/acme/app:v1': one });
    const lock = await changing.lock(process.pid);
    await putBlobs(changing, [two]);
    await lock.release();
    const entry = {
      mediaType: two.mediaType,
      digest: two.digest,
      size: two.size,
      annotations: { 'org.opencontainers.image.ref.name': 'docker.io/acme/evil:v1' },
    };
    const index = JSON.parse(Buffer.from(await readIndex()).toString());
    await writeFile(
      path.join(changing.directory, 'index.json'),
      JSON.stringify({ ...index, manifests: [...index.manifests, entry] }),
    );
    expect((await ask('/v2/acme/evil/manifests/v1', { port: shown.port })).status).toBe(404);
    expect((await tag()).status).toBe(200);
  });

  it('with a damaged manifest or blob says so and sends no wrong byte', async () => {
    await fill(changing, { 'docker.io/acme/app:v1': one });
    expect((await tag()).status).toBe(200);
    const layer = one.blobs[1]!;
    const file = (digest: string): string => path.join(changing.directory, 'blobs', ...digest.split(':'));
    await writeFile(file(one.digest), Buffer.alloc(one.size, 0x20));
    expect((await tag()).status).toBe(500);
    await writeFile(file(layer.digest), 'short');
    expect((await ask(`/v2/acme/app/blobs/${layer.digest}`, { port: shown.port })).status).toBe(500);
    await rm(file(layer.digest));
    await symlink('/etc/hostname', file(layer.digest));
    expect((await ask(`/v2/acme/app/blobs/${layer.digest}`, { port: shown.port })).status).toBe(404);
    expect(failures.splice(0).map((failure) => failure.code)).toEqual(['digest-mismatch', 'size-mismatch']);
  });

  it('with a damaged index answers 500, and recovers with it', async () => {
    const good = await readIndex();
    await writeFile(path.join(changing.directory, 'index.json'), '{');
    expect((await tag()).status).toBe(500);
    expect(failures.splice(0)).toMatchObject([{ code: 'state-damaged' }]);
    await writeFile(path.join(changing.directory, 'index.json'), good);
    expect((await ask('/v2/acme/app/tags/list', { port: shown.port })).status).toBe(200);
  });

  it('tells a damaged image from one that is not there', async () => {
    expect((await tag()).status).toBe(500);
    expect((await ask('/v2/acme/app/manifests/none', { port: shown.port })).status).toBe(404);
    expect(failures.splice(0)).toMatchObject([{ code: 'digest-mismatch' }]);
    await writeFile(path.join(changing.directory, 'blobs', ...one.digest.split(':')), one.bytes);
    await fill(changing, { 'docker.io/acme/app:v1': one });
    expect((await tag()).body).toEqual(one.bytes);
    expect(failures).toEqual([]);
  });

  it('one damaged image does not take the others of its repository away', async () => {
    await fill(changing, { 'docker.io/acme/app:good': single, 'docker.io/acme/app:bad': chart });
    await writeFile(path.join(changing.directory, 'blobs', ...chart.digest.split(':')), '{}');
    expect((await ask('/v2/acme/app/manifests/good', { port: shown.port })).body).toEqual(single.bytes);
    expect((await ask('/v2/acme/app/manifests/bad', { port: shown.port })).status).toBe(500);
    expect(failures.splice(0)).toMatchObject([{ code: 'digest-mismatch' }]);
  });

  async function readIndex(): Promise<Uint8Array> {
    return readFile(path.join(changing.directory, 'index.json'));
  }
});

describe('serveRegistry', () => {
  it('ends with its signal', async () => {
    const controller = new AbortController();
    const short = await serveRegistry({ store, host: '127.0.0.1', port: 0, signal: controller.signal });
    expect((await ask('/v2/', { port: short.port })).status).toBe(200);
    controller.abort();
    await short.close();
    await expect(ask('/v2/', { port: short.port })).rejects.toThrow();
  });

  it('refuses a port that is taken', async () => {
    const signal = new AbortController().signal;
    await expect(
      serveRegistry({ store, host: '127.0.0.1', port: registry.port, signal }),
    ).rejects.toMatchObject({
      code: 'destination-failed',
    });
  });
});
