import { setTimeout as wait } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type BlobInParts, blobInParts } from '../../../../fixtures/blob-in-parts.ts';
import {
  blob,
  endless,
  type FaultRegistry,
  manifest,
  reply,
  reset,
  type Step,
  silence,
  startFaultRegistry,
} from '../../../../fixtures/fault-registry.ts';
import { randomContent, singleImage } from '../../../../fixtures/images.ts';
import { blobOf, collect, failureOf, registrySource, type TestSource } from '../surroundings.ts';

const KIB = 1024;
const CONTENT = randomContent(2 * KIB * KIB, 'in parts');
const BLOB = blobOf(CONTENT);
const BLOB_PATH = `/v2/team/app/blobs/${BLOB.digest}`;
const TAG_PATH = '/v2/team/app/manifests/1';
const IMAGE = singleImage();
const PARTS = {
  from: 256 * KIB,
  size: 64 * KIB,
  most: 4,
  patience: 64 * KIB,
  enough: Number.POSITIVE_INFINITY,
};
/** More than the patience, and less than where the first part begins. */
const PAUSE = 100_000;

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

async function open(options: Parameters<typeof registrySource>[1] = {}, host = registry.host) {
  // No time passes: parts are as fast as anything.
  const test = await registrySource(host, { parts: PARTS, clock: () => 0, ...options });
  opened.push(test);
  return test;
}

async function expectWhole({ source }: TestSource): Promise<void> {
  // Not toEqual(): it looks at every byte by itself.
  expect((await collect(source, BLOB)).equals(CONTENT)).toBe(true);
}

function serve(faults: Record<number, Step> = {}, headers: Record<string, string> = {}): BlobInParts {
  const served = blobInParts(CONTENT, PAUSE, faults, headers);
  registry.script(BLOB_PATH, served.step);
  return served;
}

/** A good part with a head that is changed. */
const answered =
  (status: number, change: (start: number, end: number) => Record<string, string>): Step =>
  (request, response) => {
    const [start = 0, end = 0] = (request.headers.range ?? '').match(/\d+/g)?.map(Number) ?? [];
    const part = CONTENT.subarray(start, end + 1);
    response.writeHead(status, {
      'content-length': part.length,
      'content-range': `bytes ${start}-${end}/${CONTENT.length}`,
      ...change(start, end),
    });
    response.end(part);
  };

/** The first `length` bytes of a part, and then what `end` does. */
const begun =
  (length: number, end: (request: Parameters<Step>[0]) => void): Step =>
  (request, response) => {
    const [start = 0, last = 0] = (request.headers.range ?? '').match(/\d+/g)?.map(Number) ?? [];
    response.writeHead(206, {
      'content-length': last + 1 - start,
      'content-range': `bytes ${start}-${last}/${CONTENT.length}`,
    });
    response.write(CONTENT.subarray(start, start + length), () => setTimeout(() => end(request), 20));
  };

describe('a very large blob', () => {
  it('comes over several connections in its order, while others are idle', async () => {
    // Answered when another has been asked for beside it.
    const served = serve({
      1: (request, response, body) => {
        const timer = setInterval(() => {
          if (served.asked.length < 3) return;
          clearInterval(timer);
          blob(CONTENT)(request, response, body);
        }, 1);
      },
    });
    await expectWhole(await open());
    const [first] = served.asked;
    expect(first?.start).toBeGreaterThan(PAUSE);
    let next = first?.start;
    for (const { start, end } of served.asked.toSorted((one, other) => one.start - other.start)) {
      expect(start).toBe(next);
      next = end;
    }
    expect(next).toBe(CONTENT.length);
    expect(served.rests).toEqual([0]);
    expect(served.most()).toBeLessThanOrEqual(4);
  });

  it.each([1, 2, 3])('takes no more connections than the %i allowed', async (concurrencyPerHost) => {
    const served = serve({ 0: answered(206, () => ({})) });
    if (concurrencyPerHost === 1) registry.script(BLOB_PATH, blob(CONTENT));
    await expectWhole(await open({ concurrencyPerHost }));
    expect(served.most()).toBeLessThanOrEqual(concurrencyPerHost);
    if (concurrencyPerHost === 1) expect(registry.requests).toHaveLength(1);
  });

  it('is not read further ahead than memory is meant for', async () => {
    const served = serve();
    const { source } = await open({ concurrencyPerHost: 16 });
    let length = 0;
    for await (const chunk of await source.blob({ ...BLOB, mediaType: '' })) {
      // Where the first part begins, all that may be asked for is asked for, and no more.
      if (length < (served.asked[0]?.start ?? Number.POSITIVE_INFINITY)) {
        if (served.asked.length > 0) await wait(20);
        expect(served.asked.length).toBeLessThanOrEqual(PARTS.most);
      }
      length += chunk.length;
    }
    expect(length).toBe(CONTENT.length);
    expect(served.asked.length).toBeGreaterThan(PARTS.most);
  });

  it('leaves its places to others that wait for them, but for one of its own', async () => {
    const served = serve();
    let now = 0;
    let most = 0;
    let seen = 0;
    /** Answered after a while, in which nothing may be asked beyond the two places. */
    const counted =
      (step: Step): Step =>
      (request, response, body) => {
        now += 1;
        most = Math.max(most, now);
        setTimeout(() => {
          now -= 1;
          step(request, response, body);
        }, 2);
      };
    registry.script(BLOB_PATH, counted(served.step));
    registry.script(
      TAG_PATH,
      counted((request, response, body) => {
        seen += served.asked.at(-1)?.end === CONTENT.length ? 0 : 1;
        manifest(IMAGE.bytes)(request, response, body);
      }),
    );
    const { source } = await open({ concurrencyPerHost: 2 });
    let others: Promise<unknown> | undefined;
    for await (const _ of await source.blob({ ...BLOB, mediaType: '' })) {
      if (served.asked.length >= 2)
        others ??= Promise.all(Array.from({ length: 6 }, () => source.manifest('1')));
    }
    await others;
    // All of them while the blob was read.
    expect(seen).toBe(6);
    expect(most).toBeLessThanOrEqual(2);
  });

  it('comes over one where all places are taken', async () => {
    registry.script(BLOB_PATH, blob(CONTENT));
    registry.script(TAG_PATH, silence);
    const { source, abort } = await open({ concurrencyPerHost: 2 });
    const busy = failureOf(source.manifest('1'));
    await wait(20);
    expect((await collect(source, BLOB)).equals(CONTENT)).toBe(true);
    expect(registry.requestsFor(BLOB_PATH)).toHaveLength(1);
    abort.abort();
    await busy;
  });

  it('comes over one where not much of it is left', async () => {
    registry.script(BLOB_PATH, blob(CONTENT));
    const parts = { ...PARTS, from: CONTENT.length - PARTS.patience + 1 };
    await expectWhole(await open({ parts }));
    expect(registry.requests).toHaveLength(1);
  });

  it('comes over one where that is fast enough', async () => {
    registry.script(BLOB_PATH, blob(CONTENT));
    let seconds = 0;
    // No more than a chunk in each second.
    const clock = () => 1000 * seconds++;
    await expectWhole(await open({ parts: { ...PARTS, enough: 1 }, clock }));
    expect(registry.requests).toHaveLength(1);
  });

  it('comes over one where the server says that it sends no parts', async () => {
    registry.script(BLOB_PATH, blob(CONTENT, { 'accept-ranges': 'none' }));
    await expectWhole(await open());
    expect(registry.requests).toHaveLength(1);
  });

  it('goes back to one connection where several are not faster, and tries again later', async () => {
    const size = PARTS.size;
    const served = serve();
    // As slow in parts as it was before: a line that is full.
    let passed = 0;
    const { source } = await open({ clock: () => passed });
    let length = 0;
    for await (const chunk of await source.blob({ ...BLOB, mediaType: '' })) {
      length += chunk.length;
      passed = length;
    }
    expect(length).toBe(CONTENT.length);
    expect(served.asked.length).toBeGreaterThanOrEqual(7);
    const first = served.asked[0]?.start ?? 0;
    // The second attempt is begun only after four times the patience.
    const [, again] = served.rests;
    expect(again).toBeGreaterThan(first + 7 * size);
    for (const { start } of served.asked.slice(12)) {
      expect(start).toBeGreaterThanOrEqual((again ?? 0) + 4 * PARTS.patience);
    }
  });

  it('asks for parts of the same content where it knows how to', async () => {
    serve({}, { etag: '"strong"' });
    await collect((await open()).source, BLOB);
    const [, ...parts] = registry.requests;
    expect(parts.length).toBeGreaterThan(4);
    for (const { headers } of parts) expect(headers['if-range']).toBe('"strong"');
  });

  it('ends all its connections when the consumer has had enough', async () => {
    const served = serve({ 3: silence, 4: silence, 5: silence, 6: silence });
    const { source } = await open({ timeoutMs: 100 });
    for await (const _ of await source.blob({ ...BLOB, mediaType: '' })) if (served.asked.length >= 4) break;
    registry.script(TAG_PATH, manifest(IMAGE.bytes));
    const everyPlace = () => Promise.all(Array.from({ length: 4 }, () => source.manifest('1')));
    await everyPlace();
    const { length } = served.asked;
    expect(length).toBeLessThan(10);
    await everyPlace();
    expect(served.asked).toHaveLength(length);
  });

  it('stops at once when the run is stopped', async () => {
    const stopped: Step = () => test.abort.abort();
    serve({ 2: stopped, 3: silence, 4: silence, 5: silence });
    const test = await open();
    expect((await failureOf(collect(test.source, BLOB))).code).toBe('cancelled');
  });

  it('takes memory by what came, not by how it was cut', async () => {
    const held: number[] = [];
    // Each byte a chunk of its own.
    const crumbs: Step = (request, response) => {
      const [start = 0, end = 0] = (request.headers.range ?? '').match(/\d+/g)?.map(Number) ?? [];
      response.writeHead(206, {
        'transfer-encoding': 'chunked',
        'content-range': `bytes ${start}-${end}/${CONTENT.length}`,
      });
      response.flushHeaders();
      const part = [...CONTENT.subarray(start, end + 1)];
      request.socket.write(Buffer.from(part.flatMap((byte) => [0x31, 13, 10, byte, 13, 10])));
      response.end();
    };
    const served = serve({ 1: crumbs });
    const { source } = await open();
    const chunks: Uint8Array[] = [];
    for await (const chunk of await source.blob({ ...BLOB, mediaType: '' })) {
      held.push(chunk.length);
      chunks.push(chunk);
    }
    expect(Buffer.concat(chunks).equals(CONTENT)).toBe(true);
    expect(served.rests).toEqual([0]);
    expect(held.length).toBeLessThan(200);
  });
});

describe('a server that', () => {
  const etag = { etag: '"first"' };
  const lies: readonly (readonly [string, Step])[] = [
    ['sends the whole instead of a part', reply(200, {}, CONTENT)],
    [
      'sends another part',
      answered(206, (start, end) => ({ 'content-range': `bytes ${start + 1}-${end + 1}/${CONTENT.length}` })),
    ],
    [
      'sends a part of another whole',
      answered(206, (start, end) => ({ 'content-range': `bytes ${start}-${end}/999999999` })),
    ],
    ['does not say which part it sends', answered(206, () => ({ 'content-range': '' }))],
    ['says it in other words', answered(206, () => ({ 'content-range': 'bytes=oh no\u00ff' }))],
    ['announces another length', answered(206, () => ({ 'content-length': '17' }))],
    ['names another digest', answered(206, () => ({ 'docker-content-digest': IMAGE.digest }))],
    ['compresses parts', answered(206, () => ({ 'content-encoding': 'gzip' }))],
    ['changes the blob meanwhile', answered(206, () => ({ etag: '"second"' }))],
    ['finds no such part', reply(416)],
    ['finds nothing any more', reply(404)],
    ['lets nobody in any more', reply(403)],
    ['fails', reply(500)],
    ['is overloaded', reply(503)],
    ['never ends a part', endless(206)],
    ['hangs up', reset],
    ['is silent', silence],
    [
      'redirects in circles',
      (request, response) => reply(302, { location: request.url ?? '' })(request, response, Buffer.alloc(0)),
    ],
    ['redirects to a file', reply(302, { location: 'file:///etc/passwd' })],
  ];

  it.each(lies)('%s at the first is read from over one connection, with nothing lost', async (_what, lie) => {
    const served = serve({ 0: lie }, etag);
    const test = await open();
    await expectWhole(test);
    expect(served.rests).toEqual([0]);
    expect(test.waits).toEqual([]);
  });

  it.each(lies)('%s later is gone on with over one connection from there', async (_what, lie) => {
    const served = serve({ 4: lie, 5: lie, 6: lie, 7: lie }, etag);
    const test = await open(lie === silence ? { timeoutMs: 500 } : {});
    await expectWhole(test);
    // Not where the part that was a lie began, but behind all that was right; and the registry was not asked too soon.
    const [, rest] = served.rests;
    expect(rest).toBeGreaterThanOrEqual((served.asked[0]?.start ?? 0) + 3 * PARTS.size);
    expect(served.rests).toHaveLength(2);
    expect(test.waits).toEqual([]);
  });

  it.each([
    ['hangs up', begun(20_000, (request) => request.socket.resetAndDestroy())],
    ['stalls', begun(20_000, () => {})],
  ])('%s within a part is asked for the rest of it', async (_what, step) => {
    const served = serve({ 2: step });
    await expectWhole(await open({ timeoutMs: 500 }));
    const broken = served.asked[2];
    const again = served.asked.filter(({ end }) => end === broken?.end);
    expect(again).toHaveLength(2);
    expect(again[1]?.start).toBe((broken?.start ?? 0) + 20_000);
    expect(served.rests).toEqual([0]);
  });

  it('hangs up within each part is read from over one connection in the end', async () => {
    const short = begun(20_000, (request) => request.socket.resetAndDestroy());
    const served = serve({ 2: short, 3: short, 4: short, 5: short, 6: short, 7: short, 8: short });
    await expectWhole(await open());
    expect(served.rests.length).toBeGreaterThan(1);
  });

  it.each([
    ['sends short parts without a length', (start: number, end: number) => CONTENT.subarray(start, end)],
    ['sends long parts without a length', (start: number, end: number) => CONTENT.subarray(start, end + 2)],
  ])('%s is read from over one connection', async (_what, cutOut) => {
    const step: Step = (request, response, body) => {
      const [start = 0, end = 0] = (request.headers.range ?? '').match(/\d+/g)?.map(Number) ?? [];
      const head = { 'content-range': `bytes ${start}-${end}/${CONTENT.length}` };
      response.writeHead(206, { 'transfer-encoding': 'chunked', ...head });
      response.end(cutOut(start, end));
      void body;
    };
    const all = Object.fromEntries(Array.from({ length: 100 }, (_, number) => [number, step]));
    serve(all);
    await expectWhole(await open());
  });

  it('wants fewer requests gets one at a time, after the wait it asked for', async () => {
    const busy = reply(429, { 'retry-after': '7' });
    const served = serve({ 4: busy, 5: busy, 6: busy });
    const test = await open();
    await expectWhole(test);
    expect(test.waits).toEqual([7000]);
    expect(served.rests).toHaveLength(2);
    const { length } = served.asked;
    // Nor are there parts of any other blob.
    await expectWhole(test);
    expect(served.asked).toHaveLength(length);
  });

  it('wants fewer requests while one goes on loses only the others', async () => {
    const served = serve({ 0: reply(429, { 'retry-after': '21600' }) });
    const test = await open({ retryTimes: 0 });
    await expectWhole(test);
    expect(served.asked).toHaveLength(1);
    expect(test.waits).toEqual([]);
  });

  it('has nothing more for one connection either fails the blob with what it says to that', async () => {
    const served = blobInParts(CONTENT, PAUSE, { 4: reset, 5: reset, 6: reset, 7: reset });
    registry.script(BLOB_PATH, (request, response, body) => {
      if (served.rests.length > 0 && /^bytes=\d+-$/.test(request.headers.range ?? ''))
        reply(416)(request, response, body);
      else served.step(request, response, body);
    });
    expect(await failureOf(collect((await open()).source, BLOB))).toMatchObject({
      code: 'source-protocol',
      got: 416,
    });
  });

  it('redirects gets no Authorization for any part at the other host', async () => {
    const other = await startFaultRegistry();
    try {
      const served = blobInParts(CONTENT, PAUSE);
      other.script('/signed', served.step);
      const away = reply(307, { location: `${other.url}/signed?X-Signature=1` });
      registry.script(BLOB_PATH, (request, response, body) =>
        (request.headers.authorization ? away : reply(401, { 'www-authenticate': 'Basic realm="r"' }))(
          request,
          response,
          body,
        ),
      );
      await expectWhole(
        await open({ credentials: async () => ({ username: 'user', password: 'pass-word' }) }),
      );
      expect(served.asked.length).toBeGreaterThan(4);
      for (const { headers } of other.requests) expect(headers.authorization).toBeUndefined();
    } finally {
      await other.stop();
    }
  });

  it('lets the token end amid the parts is asked with a new one, fetched once', async () => {
    const tokens = await startFaultRegistry();
    try {
      const served = blobInParts(CONTENT, PAUSE);
      let valid = 1;
      tokens.script('/token', (request, response, body) =>
        reply(200, {}, JSON.stringify({ token: `token-${valid}` }))(request, response, body),
      );
      registry.script(BLOB_PATH, (request, response, body) => {
        if (served.asked.length === 6) valid = 2;
        if (request.headers.authorization === `Bearer token-${valid}`) served.step(request, response, body);
        else
          reply(401, { 'www-authenticate': `Bearer realm="${tokens.url}/token"` })(request, response, body);
      });
      await expectWhole(await open());
      expect(tokens.requests).toHaveLength(2);
      expect(served.rests).toEqual([0]);
    } finally {
      await tokens.stop();
    }
  });

  it('is a mirror with one wrong part is named, and another place asked', async () => {
    const own = await startFaultRegistry();
    try {
      const wrong = randomContent(CONTENT.length, 'wrong');
      serve({ 5: blob(wrong) });
      own.script(BLOB_PATH, blob(CONTENT));
      const mirrors = [{ location: registry.host, insecure: false, pull: 'all' as const }];
      const rule = { prefix: own.host, insecure: false, blocked: false, mirrors };
      const test = await open({ mirrors: { first: [], rules: [rule] } }, own.host);
      await expectWhole(test);
      expect(test.events).toContainEqual(
        expect.objectContaining({ code: 'mirror-corrupt', message: expect.stringContaining(registry.host) }),
      );
    } finally {
      await own.stop();
    }
  });

  it('is a mirror that breaks off amid the parts is gone on from at the next place', async () => {
    const own = await startFaultRegistry();
    try {
      const served = blobInParts(CONTENT, PAUSE, { 4: reset, 5: reset, 6: reset, 7: reset });
      registry.script(BLOB_PATH, (request, response, body) => {
        const isRest = /^bytes=\d+-$/.test(request.headers.range ?? '');
        (isRest ? reply(503) : served.step)(request, response, body);
      });
      own.script(BLOB_PATH, blob(CONTENT));
      const mirrors = [{ location: registry.host, insecure: false, pull: 'all' as const }];
      const rule = { prefix: own.host, insecure: false, blocked: false, mirrors };
      await expectWhole(await open({ mirrors: { first: [], rules: [rule] } }, own.host));
      const from = Number(/^bytes=(\d+)-/.exec(own.requests[0]?.headers.range ?? '')?.[1]);
      expect(from).toBeGreaterThanOrEqual((served.asked[0]?.start ?? 0) + 3 * PARTS.size);
    } finally {
      await own.stop();
    }
  });
});
