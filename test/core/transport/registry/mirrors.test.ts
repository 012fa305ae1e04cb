import { createHash } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  endpointsFor,
  inTrialOrder,
  type Mirror,
  type MirrorRule,
  showEndpoint,
} from '../../../../core/transport/mirrors.ts';
import {
  blob,
  cut,
  type FaultRegistry,
  manifest,
  reply,
  startFaultRegistry,
} from '../../../../fixtures/fault-registry.ts';
import { randomContent, singleImage } from '../../../../fixtures/images.ts';
import { blobOf, collect, failureOf, registrySource, type TestSource } from '../surroundings.ts';

const mirror = (location: string, more: Partial<Mirror> = {}): Mirror => ({
  location,
  insecure: false,
  pull: 'all',
  ...more,
});
const rule = (prefix: string, mirrors: Mirror[] = [], more: Partial<MirrorRule> = {}): MirrorRule => ({
  prefix,
  insecure: false,
  blocked: false,
  mirrors,
  ...more,
});

describe('the order of blobs', () => {
  const sizes = [9e6, 1e3, 4e6, 3e5, 8e6, 5e5];
  const order = (rules: MirrorRule[]) =>
    inTrialOrder(
      sizes.map((size) => ({ size })),
      { first: [], rules },
      2,
    ).map(({ size }) => size);

  it('begins with the smallest that tell something of a mirror, where there are mirrors', () => {
    expect(order([rule('docker.io', [mirror('a.example')])])).toEqual([3e5, 5e5, 9e6, 1e3, 4e6, 8e6]);
    expect(order([rule('docker.io')])).toEqual(sizes);
    expect(inTrialOrder([{ size: 9e6 }, { size: 3e5 }], undefined, 2)).toEqual([
      { size: 9e6 },
      { size: 3e5 },
    ]);
  });
});

describe('places of a repository', () => {
  const of = (name: string, rules: MirrorRule[], first: MirrorRule[] = []) => {
    const slash = name.indexOf('/');
    const repository = { domain: name.slice(0, slash), path: name.slice(slash + 1) };
    return endpointsFor(repository, { first, rules }).map(
      (endpoint) => `${showEndpoint(endpoint)}${endpoint.plainHttp ? ' http' : ''}`,
    );
  };

  it('are its mirrors in order, then itself', () => {
    const rules = [rule('docker.io', [mirror('a.example/hub'), mirror('b.example')])];
    expect(of('docker.io/library/alpine', rules)).toEqual([
      'a.example/hub/library/alpine',
      'b.example/library/alpine',
      'docker.io/library/alpine',
    ]);
    expect(of('quay.io/team/app', rules)).toEqual(['quay.io/team/app']);
  });

  it('come from the longest prefix, which ends at a slash', () => {
    const rules = [
      rule('r.example', [mirror('short.example')]),
      rule('r.example/team', [mirror('long.example/t')]),
    ];
    expect(of('r.example/team/app', rules)).toEqual(['long.example/t/app', 'r.example/team/app']);
    expect(of('r.example/teams/app', rules)).toEqual(['short.example/teams/app', 'r.example/teams/app']);
    expect(of('r.example.evil.test/team/app', rules)).toEqual(['r.example.evil.test/team/app']);
  });

  it('may be for all below a domain, and somewhere else altogether', () => {
    expect(of('eu.r.example/app', [rule('*.r.example', [mirror('m.example/x')])])).toEqual([
      'm.example/x/app',
      'eu.r.example/app',
    ]);
    expect(of('r.example/app', [rule('r.example', [], { location: 'real.example/deep' })])).toEqual([
      'real.example/deep/app',
    ]);
  });

  it('that are insecure are asked over TLS and then over HTTP', () => {
    expect(of('r.example/app', [rule('r.example', [mirror('m.example', { insecure: true })])])).toEqual([
      'm.example/app',
      'm.example/app http',
      'r.example/app',
    ]);
  });

  it('begin with those of --mirror', () => {
    const rules = [rule('r.example', [mirror('b.example')])];
    expect(of('r.example/app', rules, [rule('r.example', [mirror('a.example')])])).toEqual([
      'a.example/app',
      'b.example/app',
      'r.example/app',
    ]);
  });

  it('are none where the registry is blocked', () => {
    expect(() => of('r.example/app', [rule('r.example', [], { blocked: true })])).toThrow(/blocked/);
  });
});

const IMAGE = singleImage();
const TAG_PATH = '/v2/team/app/manifests/1';
const DIGEST_PATH = `/v2/team/app/manifests/${IMAGE.digest}`;
const SMALL = randomContent(300_000, 'small');
const LARGE = randomContent(5_000_000, 'large');
const pathOf = (bytes: Uint8Array): string => `/v2/team/app/blobs/${blobOf(bytes).digest}`;
const spoilt = (bytes: Uint8Array): Buffer => {
  const copy = Buffer.from(bytes);
  copy[copy.length - 1] = (copy[copy.length - 1] ?? 0) ^ 1;
  return copy;
};

describe('reading', () => {
  let first: FaultRegistry;
  let second: FaultRegistry;
  let own: FaultRegistry;
  let test: TestSource;

  beforeEach(async () => {
    [first, second, own] = await Promise.all([
      startFaultRegistry(),
      startFaultRegistry(),
      startFaultRegistry(),
    ]);
    for (const one of [first, second, own]) {
      one.script(TAG_PATH, manifest(IMAGE.bytes));
      one.script(DIGEST_PATH, manifest(IMAGE.bytes));
      for (const bytes of [SMALL, LARGE]) one.script(pathOf(bytes), blob(bytes));
    }
    await open();
  });
  afterEach(async () => {
    await test.source.close();
    await Promise.all([first, second, own].map((one) => one.stop()));
  });

  async function open(pull: Mirror['pull'] = 'all'): Promise<void> {
    const mirrors = [mirror(first.host, { pull }), mirror(second.host)];
    test = await registrySource(own.host, { mirrors: { first: [], rules: [rule(own.host, mirrors)] } });
  }
  const notices = (code: string): string[] =>
    test.events.flatMap((event) => (event.type === 'notice' && event.code === code ? [event.message] : []));

  it('asks the first mirror, and nobody else', async () => {
    expect((await test.source.manifest('1')).digest).toBe(IMAGE.digest);
    expect(await collect(test.source, blobOf(LARGE))).toEqual(LARGE);
    expect([second, own].flatMap(({ requests }) => requests)).toEqual([]);
    expect(test.source.location).toBe(`docker://${own.host}/team/app`);
  });

  it('asks a mirror for digests only where it is for these', async () => {
    await test.source.close();
    await open('digest-only');
    await test.source.manifest('1');
    await test.source.manifest(IMAGE.digest);
    expect(first.requests.map(({ url }) => url)).toEqual([DIGEST_PATH]);
    expect(second.requests.map(({ url }) => url)).toEqual([TAG_PATH]);
  });

  it('goes on with the next where a mirror has it not, and says so once', async () => {
    first.script(TAG_PATH, reply(404));
    second.script(TAG_PATH, reply(404));
    expect((await test.source.manifest('1')).digest).toBe(IMAGE.digest);
    expect((await test.source.manifest('1')).digest).toBe(IMAGE.digest);
    expect(notices('mirror-failed').map((text) => text.split('/')[0])).toEqual([first.host, second.host]);
  });

  it('asks a mirror that failed after the others from then on', async () => {
    first.script(TAG_PATH, reply(500));
    await test.source.manifest('1');
    await test.source.manifest(IMAGE.digest);
    expect(first.requestsFor(DIGEST_PATH)).toEqual([]);
    expect(second.requestsFor(DIGEST_PATH)).toHaveLength(1);
  });

  it('does not wait for a mirror that wants to be left alone', async () => {
    first.script(TAG_PATH, reply(429, { 'retry-after': '60' }));
    expect((await test.source.manifest('1')).digest).toBe(IMAGE.digest);
    expect(test.waits).toEqual([]);
  });

  it.each([
    ['small', SMALL],
    ['large', LARGE],
  ])('goes on in the middle of a %s blob with Range at the next', async (_size, bytes) => {
    const half = bytes.length >> 1;
    first.script(pathOf(bytes), cut(bytes, half), reply(503));
    expect(await collect(test.source, blobOf(bytes))).toEqual(bytes);
    const [request] = second.requestsFor(pathOf(bytes));
    const from = Number(/^bytes=(\d+)-$/.exec(request?.headers.range ?? '')?.[1]);
    expect(from).toBeGreaterThan(0);
    expect(from).toBeLessThanOrEqual(half);
    expect(own.requests).toEqual([]);
  });

  it('takes a manifest with a wrong digest from the next, and names the mirror', async () => {
    first.script(DIGEST_PATH, manifest(spoilt(IMAGE.bytes)));
    const answer = await test.source.manifest(IMAGE.digest);
    expect(createHash('sha256').update(answer.bytes).digest('hex')).toBe(IMAGE.digest.slice(7));
    expect(notices('mirror-corrupt')).toEqual([expect.stringContaining(first.host)]);
  });

  it('takes a small blob with a wrong digest from the next, unnoticed above', async () => {
    first.script(pathOf(SMALL), blob(spoilt(SMALL)));
    expect(await collect(test.source, blobOf(SMALL))).toEqual(SMALL);
    expect(notices('mirror-corrupt')).toEqual([expect.stringContaining(first.host)]);
    expect(first.requestsFor(pathOf(SMALL))).toHaveLength(1);
    // From now on it is asked last.
    await test.source.manifest('1');
    expect(first.requestsFor(TAG_PATH)).toEqual([]);
  });

  it('ends a large blob with a wrong digest with the name of the mirror, and reads it from the next when asked again', async () => {
    first.script(pathOf(LARGE), blob(spoilt(LARGE)));
    const { digest } = blobOf(LARGE);
    expect(test.source.hasOther?.(digest)).toBe(false);
    const error = await failureOf(collect(test.source, blobOf(LARGE)));
    expect(error.code).toBe('digest-mismatch');
    expect(error.message).toContain(first.host);
    expect(test.source.hasOther?.(digest)).toBe(true);
    expect(await collect(test.source, blobOf(LARGE))).toEqual(LARGE);
    expect(test.source.hasOther?.(digest)).toBe(false);
    expect(first.requestsFor(pathOf(LARGE))).toHaveLength(1);
  });

  it('blames the mirrors, not the registry, where a blob came from both', async () => {
    second.script(pathOf(LARGE), reply(404));
    first.script(pathOf(LARGE), cut(spoilt(randomContent(LARGE.length, 'other')), 1_000_000), reply(503));
    await failureOf(collect(test.source, blobOf(LARGE)));
    expect(notices('mirror-corrupt')).toEqual([expect.stringContaining(first.host)]);
    expect(await collect(test.source, blobOf(LARGE))).toEqual(LARGE);
  });

  it('tries each mirror with one large blob, until one has turned out right', async () => {
    const blobs = ['a', 'b', 'c', 'd', 'e'].map((seed) => randomContent(4_500_000, seed));
    for (const one of [first, second]) for (const bytes of blobs) one.script(pathOf(bytes), blob(bytes));
    const [last, ...atOnce] = blobs;
    await Promise.all(atOnce.map((bytes) => collect(test.source, blobOf(bytes))));
    const asked = (one: FaultRegistry) => one.requests.filter(({ url }) => url.includes('/blobs/')).length;
    const before = asked(first);
    // Whichever was first to show what it is worth has the other two.
    expect([before > 0, asked(second) > 0, before + asked(second), asked(own)]).toEqual([true, true, 4, 0]);
    await collect(test.source, blobOf(last as Buffer));
    expect(asked(first)).toBe(before + 1);
  });

  it('asks a corrupt mirror for one large blob and no more', async () => {
    const blobs = ['a', 'b', 'c', 'd', 'e'].map((seed) => randomContent(4_500_000, seed));
    for (const bytes of blobs) {
      first.script(pathOf(bytes), blob(spoilt(bytes)));
      second.script(pathOf(bytes), blob(bytes));
    }
    const codes = await Promise.all(
      blobs.map((bytes) =>
        collect(test.source, blobOf(bytes)).then(
          (got) => got.equals(bytes),
          (error: { code: string }) => error.code,
        ),
      ),
    );
    expect(codes).toEqual(['digest-mismatch', true, true, true, true]);
    const asked = (one: FaultRegistry) => one.requests.filter(({ url }) => url.includes('/blobs/')).length;
    expect([first, second, own].map(asked)).toEqual([1, 4, 0]);
  });

  it('waits for no mirror whose blob nobody goes on reading', async () => {
    const [begun, wanted, third] = ['a', 'b', 'c'].map((seed) => randomContent(4_500_000, seed));
    for (const bytes of [begun, wanted, third])
      for (const one of [first, second]) one.script(pathOf(bytes as Buffer), blob(bytes as Buffer));
    const readers = [begun, wanted].map(async (bytes) => {
      const content = await test.source.blob({ ...blobOf(bytes as Buffer), mediaType: '' });
      const iterator = content[Symbol.asyncIterator]();
      await iterator.next();
      return iterator;
    });
    const iterators = await Promise.all(readers);
    expect((await collect(test.source, blobOf(third as Buffer))).equals(third as Buffer)).toBe(true);
    for (const iterator of iterators) await iterator.return?.();
  });

  it('ends where all send something wrong', async () => {
    for (const one of [first, second, own]) {
      one.script(pathOf(LARGE), blob(spoilt(LARGE)));
      one.script(pathOf(SMALL), blob(spoilt(SMALL)));
    }
    expect((await failureOf(collect(test.source, blobOf(SMALL)))).code).toBe('digest-mismatch');
    const { digest } = blobOf(LARGE);
    let rounds = 0;
    do {
      expect((await failureOf(collect(test.source, blobOf(LARGE)))).code).toBe('digest-mismatch');
      rounds += 1;
    } while (test.source.hasOther?.(digest) === true && rounds < 10);
    expect(rounds).toBe(3);
  });

  it('reports what the registry itself says where nobody has it, and names who was asked', async () => {
    for (const one of [first, second]) one.script(TAG_PATH, reply(500));
    own.script(TAG_PATH, reply(404));
    const error = await failureOf(test.source.manifest('1'));
    expect(error.code).toBe('source-not-found');
    expect(error.message).toContain(first.host);
    expect(error.message).toContain(second.host);
  });

  it('looks for evidence in all of them', async () => {
    const index = {
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.index.v1+json',
      manifests: [{ mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: IMAGE.digest, size: 5 }],
    };
    const { digest } = blobOf(LARGE);
    own.script(
      `/v2/team/app/referrers/${digest}`,
      reply(200, { 'content-type': index.mediaType }, JSON.stringify(index)),
    );
    const { descriptors, via } = await test.source.referrers(digest);
    expect(descriptors.map((one) => one.digest)).toEqual([IMAGE.digest]);
    expect(via).toBe('referrers-api');
  });

  it('sends each place the credentials filed under its own host', async () => {
    await test.source.close();
    const asked: string[] = [];
    test = await registrySource(own.host, {
      mirrors: { first: [], rules: [rule(own.host, [mirror(`${first.host}`)])] },
      credentials: async (host) => {
        asked.push(host);
        return { username: 'u', password: `for-${host}` };
      },
    });
    first.script(TAG_PATH, reply(401, { 'www-authenticate': 'Basic realm="r"' }));
    await test.source.manifest('1');
    expect(asked).toEqual([first.host]);
    expect(own.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
  });
});
