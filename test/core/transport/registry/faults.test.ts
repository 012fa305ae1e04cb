import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { digestOf } from '../../../../core/oci/digest.ts';
import { parseReference } from '../../../../core/oci/reference.ts';
import { repositoryOf } from '../../../../core/transport/registry/source.ts';
import {
  blob,
  chunked,
  cut,
  drip,
  endless,
  type FaultRegistry,
  manifest,
  raw,
  reply,
  reset,
  silence,
  stall,
  startFaultRegistry,
} from '../../../../fixtures/fault-registry.ts';
import { randomContent, singleImage } from '../../../../fixtures/images.ts';
import {
  blobOf,
  collect,
  failureOf,
  NOW,
  registrySource,
  type TestSource,
  visible,
} from '../surroundings.ts';

const CONTENT = randomContent(300_000, 'blob');
const BLOB = blobOf(CONTENT);
const BLOB_PATH = `/v2/team/app/blobs/${BLOB.digest}`;
const IMAGE = singleImage();
const MANIFEST = IMAGE.bytes;
const MANIFEST_DIGEST = digestOf(MANIFEST);
const TAG_PATH = '/v2/team/app/manifests/1';
const DIGEST_PATH = `/v2/team/app/manifests/${MANIFEST_DIGEST}`;

let registry: FaultRegistry;
let opened: TestSource[];

beforeEach(async () => {
  registry = await startFaultRegistry();
  opened = [];
});

afterEach(async () => {
  for (const { source } of opened) await source.close();
  await registry.stop();
});

async function open(
  ...parameters: Parameters<typeof registrySource> extends [string, ...infer R] ? R : never
) {
  const test = await registrySource(registry.host, ...parameters);
  opened.push(test);
  return test;
}

const retries = (test: TestSource): number =>
  test.events.filter((event) => event.type === 'notice' && event.code === 'source-retry').length;

describe('manifests', () => {
  it('comes with its bytes, its type without parameters, and its digest', async () => {
    registry.script(TAG_PATH, manifest(MANIFEST, `${IMAGE.mediaType}; charset=utf-8`));
    const { source } = await open();
    const answer = await source.manifest('1');
    expect(Buffer.from(answer.bytes)).toEqual(MANIFEST);
    expect(answer).toMatchObject({ mediaType: IMAGE.mediaType, digest: MANIFEST_DIGEST });
    const [request] = registry.requests;
    expect(request?.headers['accept-encoding']).toBe('identity');
    expect(request?.headers.accept?.split(', ')).toEqual(
      expect.arrayContaining([
        'application/vnd.oci.image.index.v1+json',
        'application/vnd.docker.distribution.manifest.list.v2+json',
        'application/vnd.docker.distribution.manifest.v2+json',
      ]),
    );
    expect(request?.headers.authorization).toBeUndefined();
  });

  it('is refused where it is not the digest asked for', async () => {
    registry.script(DIGEST_PATH, reply(200, { 'content-type': IMAGE.mediaType }, '{"schemaVersion":2}'));
    const error = await failureOf((await open()).source.manifest(MANIFEST_DIGEST));
    expect(error).toMatchObject({ code: 'digest-mismatch', want: MANIFEST_DIGEST });
  });

  it('is refused where the registry names another digest than it sends', async () => {
    registry.script(
      TAG_PATH,
      manifest(MANIFEST, IMAGE.mediaType, { 'docker-content-digest': digestOf(CONTENT) }),
    );
    expect((await failureOf((await open()).source.manifest('1'))).code).toBe('digest-mismatch');
  });

  it('is refused unread where it is announced as too large', async () => {
    registry.script(TAG_PATH, reply(200, { 'content-length': 5_000_000 }));
    const error = await failureOf((await open()).source.manifest('1'));
    expect(error).toMatchObject({ code: 'source-too-large', got: 5_000_000 });
  });

  it('is refused at the limit where it does not end', async () => {
    registry.script(TAG_PATH, endless());
    expect((await failureOf((await open()).source.manifest('1'))).code).toBe('source-too-large');
  });

  it('is refused where it is compressed', async () => {
    registry.script(TAG_PATH, manifest(MANIFEST, IMAGE.mediaType, { 'content-encoding': 'gzip' }));
    expect(await failureOf((await open()).source.manifest('1'))).toMatchObject({
      code: 'source-protocol',
      got: 'gzip',
    });
  });

  it('is not found with the words of the registry, made inert', async () => {
    const body = JSON.stringify({
      errors: [{ code: 'MANIFEST_UNKNOWN', message: 'no \u001b[31mtag\u202e' }],
    });
    registry.script(TAG_PATH, reply(404, {}, body));
    const error = await failureOf((await open()).source.manifest('1'));
    expect(error.code).toBe('source-not-found');
    expect(error.message).toContain('MANIFEST_UNKNOWN: no \\u{1b}[31mtag\\u{202e}');
  });

  it.each([
    ['alpine', 'https://registry-1.docker.io/v2/library/alpine/', 'docker.io'],
    ['quay.io/acme/app', 'https://quay.io/v2/acme/app/', 'quay.io'],
    ['[::1]:5000/app', 'https://[::1]:5000/v2/app/', '[::1]:5000'],
    ['localhost:443/app', 'https://localhost/v2/app/', 'localhost:443'],
  ])('of %s is at %s', (reference, url, credentialsHost) => {
    const repository = repositoryOf(parseReference(reference), false);
    expect(repository).toMatchObject({ credentialsHost, base: new URL(url) });
  });

  it.each(['1.2', '999.1.1.1', '0x7f.1'])('is not looked for at %s', async (host) => {
    expect((await failureOf(registrySource(host))).code).toBe('invalid-reference');
  });

  it('asks nothing for what is neither tag nor digest', async () => {
    const error = await failureOf((await open()).source.manifest('../../other/manifests/1'));
    expect(error.code).toBe('invalid-reference');
    expect(registry.requests).toHaveLength(0);
  });

  it('is not found with the title of a page, and nothing else of it', async () => {
    const page = '<!DOCTYPE html><html><head><title>404 Not Found</title></head><body>nginx</body></html>';
    registry.script(TAG_PATH, reply(404, { 'content-type': 'text/html' }, page));
    const error = await failureOf((await open()).source.manifest('1'));
    expect(error.message).toBe('no manifest 1: status 404 (404 Not Found)');
  });

  it('reads no endless error page', async () => {
    registry.script(TAG_PATH, endless(418));
    expect(await failureOf((await open()).source.manifest('1'))).toMatchObject({
      code: 'source-protocol',
      got: 418,
    });
  });

  it('stops for an answer that is not HTTP', async () => {
    registry.script(TAG_PATH, raw('SSH-2.0-OpenSSH_9.2\r\n'));
    expect((await failureOf((await open()).source.manifest('1'))).code).toBe('source-protocol');
  });

  it('refuses headers without end', async () => {
    registry.script(TAG_PATH, raw(`HTTP/1.1 200 OK\r\nX-Long: ${'a'.repeat(200_000)}\r\n\r\n`));
    expect((await failureOf((await open()).source.manifest('1'))).code).toBe('source-protocol');
  });
});

describe('trying again', () => {
  it.each([408, 429, 500, 502, 503, 504])('takes the good answer after status %i', async (status) => {
    registry.script(TAG_PATH, reply(status), manifest(MANIFEST));
    const test = await open();
    expect((await test.source.manifest('1')).digest).toBe(MANIFEST_DIGEST);
    expect(retries(test)).toBe(1);
  });

  it.each([
    [500, 'source-unreachable'],
    [503, 'source-unreachable'],
    [429, 'source-rate-limited'],
  ])('gives up on status %i after as many attempts as asked for', async (status, code) => {
    registry.script(TAG_PATH, reply(status));
    const test = await open({ retryTimes: 2 });
    expect(await failureOf(test.source.manifest('1'))).toMatchObject({ code, got: status });
    expect(registry.requests).toHaveLength(3);
    expect(test.waits).toEqual([250, 500]);
  });

  it('doubles the wait, with jitter, up to a limit', async () => {
    registry.script(TAG_PATH, reply(500));
    const test = await open({ retryTimes: 9, random: () => 0.999 });
    await failureOf(test.source.manifest('1'));
    expect(test.waits.slice(0, 3)).toEqual([500, 1000, 1999]);
    expect(Math.max(...test.waits)).toBeLessThanOrEqual(30_000);
  });

  it('does not try again what will not change', async () => {
    registry.script(TAG_PATH, reply(404));
    await failureOf((await open()).source.manifest('1'));
    expect(registry.requests).toHaveLength(1);
  });

  it('waits as long as Retry-After says in seconds', async () => {
    registry.script(TAG_PATH, reply(429, { 'retry-after': '7' }), manifest(MANIFEST));
    const test = await open();
    await test.source.manifest('1');
    expect(test.waits).toEqual([7000]);
  });

  it("waits as long as Retry-After says as a date, by the server's own clock", async () => {
    const date = new Date(NOW.getTime() + 86_400_000);
    const later = new Date(date.getTime() + 90_000).toUTCString();
    registry.script(
      TAG_PATH,
      reply(503, { date: date.toUTCString(), 'retry-after': later }),
      manifest(MANIFEST),
    );
    const test = await open();
    await test.source.manifest('1');
    expect(test.waits).toEqual([90_000]);
  });

  it('does not wait for longer than five minutes', async () => {
    registry.script(TAG_PATH, reply(429, { 'retry-after': '21600' }));
    const test = await open();
    expect(await failureOf(test.source.manifest('1'))).toMatchObject({
      code: 'source-rate-limited',
      got: 21_600,
    });
    expect(test.waits).toEqual([]);
    expect(registry.requests).toHaveLength(1);
  });

  it('survives a reset before the answer', async () => {
    registry.script(TAG_PATH, reset, manifest(MANIFEST));
    const test = await open();
    expect((await test.source.manifest('1')).digest).toBe(MANIFEST_DIGEST);
  });

  it('calls a server that never answers unreachable', async () => {
    registry.script(TAG_PATH, silence);
    const test = await open({ timeoutMs: 50, retryTimes: 1 });
    const error = await failureOf(test.source.manifest('1'));
    expect(error.code).toBe('source-unreachable');
    expect(error.message).toContain('no answer within 50 ms');
    expect(registry.requests).toHaveLength(2);
  });

  it('does not wait for a document that drips for ever', async () => {
    registry.script(TAG_PATH, drip());
    const error = await failureOf((await open({ timeoutMs: 150, retryTimes: 0 })).source.manifest('1'));
    expect(error.code).toBe('source-unreachable');
    expect(error.message).toContain('did not end within 1500 ms');
  });

  it('does not wait for an error page that drips for ever', async () => {
    registry.script(TAG_PATH, drip(404));
    const error = await failureOf((await open({ timeoutMs: 50 })).source.manifest('1'));
    expect(error.code).toBe('source-not-found');
  });

  it('calls a closed port unreachable', async () => {
    const { host } = registry;
    await registry.stop();
    const test = await registrySource(host, { retryTimes: 1 });
    expect(await failureOf(test.source.manifest('1'))).toMatchObject({
      code: 'source-unreachable',
      got: 'ECONNREFUSED',
    });
    expect(test.waits).toHaveLength(1);
    await test.source.close();
    registry = await startFaultRegistry();
  });

  it('stops at once when the run is stopped', async () => {
    registry.script(TAG_PATH, silence);
    const test = await open();
    const answer = failureOf(test.source.manifest('1'));
    setTimeout(() => test.abort.abort(), 30);
    expect((await answer).code).toBe('cancelled');
  });
});

describe('blobs', () => {
  it('comes whole', async () => {
    registry.script(BLOB_PATH, blob(CONTENT));
    expect(await collect((await open()).source, BLOB)).toEqual(CONTENT);
  });

  it('may be empty', async () => {
    const empty = blobOf(Buffer.alloc(0));
    registry.script(`/v2/team/app/blobs/${empty.digest}`, blob(Buffer.alloc(0)));
    expect(await collect((await open()).source, empty)).toHaveLength(0);
  });

  it('goes on by Range after a reset', async () => {
    registry.script(BLOB_PATH, cut(CONTENT, 100_000, { etag: '"strong"' }), blob(CONTENT));
    const test = await open();
    expect(await collect(test.source, BLOB)).toEqual(CONTENT);
    const second = registry.requests[1]?.headers;
    expect(second?.range).toMatch(/^bytes=\d+-$/);
    expect(Number(second?.range?.match(/\d+/)?.[0])).toBeGreaterThan(0);
    expect(second?.['if-range']).toBe('"strong"');
    expect(retries(test)).toBe(1);
  });

  it('sends no If-Range for a weak tag', async () => {
    registry.script(BLOB_PATH, cut(CONTENT, 100_000, { etag: 'W/"weak"' }), blob(CONTENT));
    expect(await collect((await open()).source, BLOB)).toEqual(CONTENT);
    expect(registry.requests[1]?.headers['if-range']).toBeUndefined();
  });

  it('steps over what it has where the server ignores Range', async () => {
    registry.script(BLOB_PATH, cut(CONTENT, 100_000), reply(200, {}, CONTENT));
    expect(await collect((await open()).source, BLOB)).toEqual(CONTENT);
  });

  it('goes on after a stall', async () => {
    registry.script(BLOB_PATH, stall(CONTENT, 100_000), blob(CONTENT));
    expect(await collect((await open({ timeoutMs: 100 })).source, BLOB)).toEqual(CONTENT);
    expect(registry.requests).toHaveLength(2);
  });

  it('does not take a slow consumer for a stall', async () => {
    registry.script(BLOB_PATH, blob(CONTENT));
    const { source } = await open({ timeoutMs: 60, retryTimes: 0 });
    let length = 0;
    for await (const chunk of await source.blob({ ...BLOB, mediaType: '' })) {
      if (length === 0) await new Promise((resolve) => setTimeout(resolve, 200));
      length += chunk.length;
    }
    expect(length).toBe(CONTENT.length);
  });

  it('says how far it got where it is cut short again and again', async () => {
    registry.script(BLOB_PATH, cut(CONTENT, 100_000), reset);
    const test = await open({ retryTimes: 2 });
    const error = await failureOf(collect(test.source, BLOB));
    expect(error).toMatchObject({ code: 'source-unreachable', want: CONTENT.length, subject: BLOB.digest });
    expect(error.got).toBeGreaterThan(0);
    expect(error.got).toBeLessThanOrEqual(100_000);
  });

  it('is refused where an unannounced body is too short for ever', async () => {
    registry.script(BLOB_PATH, chunked(CONTENT.subarray(0, 1000)));
    const error = await failureOf(collect((await open()).source, BLOB));
    expect(error).toMatchObject({ code: 'source-unreachable', got: 1000 });
  });

  it('is refused where an unannounced body is too long', async () => {
    registry.script(BLOB_PATH, chunked(Buffer.concat([CONTENT, Buffer.from('x')])));
    const { source } = await open();
    let length = 0;
    const error = await failureOf(
      (async () => {
        for await (const chunk of await source.blob({ ...BLOB, mediaType: '' })) length += chunk.length;
      })(),
    );
    expect(error.code).toBe('source-too-large');
    expect(length).toBeLessThanOrEqual(CONTENT.length);
  });

  it('is refused where it does not end', async () => {
    registry.script(BLOB_PATH, endless());
    expect((await failureOf(collect((await open()).source, BLOB))).code).toBe('source-too-large');
  });

  it.each([CONTENT.length - 1, CONTENT.length + 1])(
    'is refused where %i bytes are announced',
    async (length) => {
      registry.script(BLOB_PATH, (_request, response) => {
        response.writeHead(200, { 'content-length': length });
        response.flushHeaders();
      });
      const error = await failureOf(collect((await open()).source, BLOB));
      expect(error).toMatchObject({ code: 'size-mismatch', got: length, want: CONTENT.length });
      expect(registry.requests).toHaveLength(1);
    },
  );

  it('is refused where the registry names another digest', async () => {
    registry.script(BLOB_PATH, blob(CONTENT, { 'docker-content-digest': MANIFEST_DIGEST }));
    expect((await failureOf(collect((await open()).source, BLOB))).code).toBe('digest-mismatch');
  });

  it('is refused where it is compressed', async () => {
    registry.script(BLOB_PATH, blob(CONTENT, { 'content-encoding': 'gzip' }));
    expect((await failureOf(collect((await open()).source, BLOB))).code).toBe('source-protocol');
  });

  it.each([
    ['another beginning', `bytes 5-${CONTENT.length - 1}/${CONTENT.length}`],
    ['another whole', `bytes 100000-${CONTENT.length - 1}/999999`],
    ['nothing', ''],
  ])('is refused where Content-Range lies about %s', async (_what, range) => {
    registry.script(BLOB_PATH, cut(CONTENT, 100_000), (request, response) => {
      const from = Number(/\d+/.exec(request.headers.range ?? '')?.[0]);
      response.writeHead(206, {
        'content-length': CONTENT.length - from,
        ...(range === '' ? {} : { 'content-range': range }),
      });
      response.end(CONTENT.subarray(from));
    });
    expect((await failureOf(collect((await open()).source, BLOB))).code).toBe('source-protocol');
  });

  it('is refused where a part comes that was not asked for', async () => {
    registry.script(BLOB_PATH, reply(206, {}, CONTENT));
    expect(await failureOf(collect((await open()).source, BLOB))).toMatchObject({
      code: 'source-protocol',
      got: 206,
    });
  });

  it('is refused where the rest cannot be had', async () => {
    registry.script(BLOB_PATH, cut(CONTENT, 100_000), reply(416));
    expect(await failureOf(collect((await open()).source, BLOB))).toMatchObject({
      code: 'source-protocol',
      got: 416,
    });
  });

  it('ends the connection when the consumer has had enough', async () => {
    let closed: Promise<void> | undefined;
    registry.script(BLOB_PATH, (request, response, body) => {
      closed = new Promise((resolve) => response.once('close', resolve));
      endless()(request, response, body);
    });
    const { source } = await open({ concurrencyPerHost: 1 });
    for await (const _ of await source.blob({ ...BLOB, mediaType: '' })) break;
    await closed;
    registry.script(TAG_PATH, manifest(MANIFEST));
    expect((await source.manifest('1')).digest).toBe(MANIFEST_DIGEST);
  });

  it('keeps to the number of requests allowed at once', async () => {
    let now = 0;
    let most = 0;
    registry.script(TAG_PATH, (request, response, body) => {
      now += 1;
      most = Math.max(most, now);
      setTimeout(() => {
        now -= 1;
        manifest(MANIFEST)(request, response, body);
      }, 20);
    });
    const { source } = await open({ concurrencyPerHost: 2 });
    await Promise.all(Array.from({ length: 8 }, () => source.manifest('1')));
    expect(most).toBe(2);
  });

  it('goes on although its place has gone to another that waits for it', async () => {
    const second = randomContent(300_000, 'second');
    registry.script(BLOB_PATH, cut(CONTENT, 100_000), blob(CONTENT));
    registry.script(`/v2/team/app/blobs/${blobOf(second).digest}`, blob(second));
    const { source } = await open({ concurrencyPerHost: 1 });
    const first = collect(source, BLOB);
    const iterator = (await source.blob({ ...blobOf(second), mediaType: '' }))[Symbol.asyncIterator]();
    const begun = iterator.next();
    expect(await first).toEqual(CONTENT);
    await begun;
    await iterator.return?.();
  });

  it('refuses a blob beyond the limit without asking', async () => {
    const { source } = await open({}, { blob: 1000 });
    expect((await failureOf(collect(source, BLOB))).code).toBe('source-too-large');
    expect(registry.requests).toHaveLength(0);
  });
});

describe('redirects', () => {
  let other: FaultRegistry;
  beforeEach(async () => {
    other = await startFaultRegistry();
  });
  afterEach(() => other.stop());

  const withPassword = { credentials: async () => ({ username: 'user', password: 'pass-word' }) };
  const challenge = reply(401, { 'www-authenticate': 'Basic realm="test"' });

  it('leave the Authorization header behind at another host, and do not bring it back', async () => {
    registry.script(BLOB_PATH, challenge, reply(307, { location: `${other.url}/signed?key=1` }));
    other.script('/signed', reply(307, { location: `${registry.url}/back` }));
    registry.script('/back', blob(CONTENT));
    const test = await open(withPassword);
    expect(await collect(test.source, BLOB)).toEqual(CONTENT);
    expect(registry.requests[1]?.headers.authorization).toMatch(/^Basic /);
    expect(other.requests).toHaveLength(1);
    expect(other.requests[0]?.headers.authorization).toBeUndefined();
    expect(registry.requestsFor('/back')[0]?.headers.authorization).toBeUndefined();
  });

  it('offer no credentials to another host that asks for some', async () => {
    registry.script(BLOB_PATH, reply(307, { location: `${other.url}/blob` }));
    other.script('/blob', challenge);
    expect((await failureOf(collect((await open(withPassword)).source, BLOB))).code).toBe(
      'source-unauthorized',
    );
    expect(other.requests).toHaveLength(1);
  });

  it('keep the Authorization header at the same host', async () => {
    registry.script(BLOB_PATH, challenge, reply(302, { location: '/elsewhere' }));
    registry.script('/elsewhere', blob(CONTENT));
    expect(await collect((await open(withPassword)).source, BLOB)).toEqual(CONTENT);
    expect(registry.requestsFor('/elsewhere')[0]?.headers.authorization).toMatch(/^Basic /);
  });

  it('take Range along', async () => {
    registry.script(BLOB_PATH, reply(307, { location: `${other.url}/blob` }));
    other.script('/blob', cut(CONTENT, 100_000), blob(CONTENT));
    expect(await collect((await open()).source, BLOB)).toEqual(CONTENT);
    expect(other.requests[1]?.headers.range).toMatch(/^bytes=\d+-$/);
  });

  it('show no query in errors and notices', async () => {
    registry.script(BLOB_PATH, reply(307, { location: `${other.url}/blob?X-Signature=hidden-key` }));
    other.script('/blob', reply(500), reply(404));
    const test = await open();
    const error = await failureOf(collect(test.source, BLOB));
    expect(error.code).toBe('source-not-found');
    expect(error.subject).toBe(`${other.url}/blob`);
    expect(retries(test)).toBe(1);
    expect(visible(error, test.events)).not.toContain('hidden-key');
  });

  it('are refused in a circle', async () => {
    registry.script(BLOB_PATH, reply(302, { location: '/a' }));
    registry.script('/a', reply(302, { location: BLOB_PATH }));
    const error = await failureOf(collect((await open()).source, BLOB));
    expect(error.code).toBe('source-protocol');
    expect(error.message).toContain('circle');
    expect(registry.requests).toHaveLength(2);
  });

  it('are refused after the fifth', async () => {
    for (let i = 1; i <= 6; i += 1) registry.script(`/${i}`, reply(302, { location: `/${i + 1}` }));
    registry.script('/6', blob(CONTENT));
    registry.script(BLOB_PATH, reply(302, { location: '/1' }));
    const error = await failureOf(collect((await open()).source, BLOB));
    expect(error.message).toContain('too many redirects');
    expect(registry.requestsFor('/6')).toHaveLength(0);
    registry.script('/5', blob(CONTENT));
    expect(await collect((await open()).source, BLOB)).toEqual(CONTENT);
  });

  it.each(['file:///etc/shadow', 'ftp://127.0.0.1/x', 'http://user:secret@127.0.0.1:1/', 'http://['])(
    'are refused to %s',
    async (location) => {
      registry.script(BLOB_PATH, reply(302, { location }));
      const error = await failureOf(collect((await open()).source, BLOB));
      expect(error.code).toBe('source-protocol');
      expect(visible(error)).not.toContain('secret@');
    },
  );
});
