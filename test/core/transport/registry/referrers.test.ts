import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Digest, digestOf, parseDigest } from '../../../../core/oci/digest.ts';
import {
  endless,
  type FaultRegistry,
  manifest,
  notFound,
  reply,
  type Step,
  startFaultRegistry,
} from '../../../../fixtures/fault-registry.ts';
import { failureOf, registrySource, type TestSource } from '../surroundings.ts';

const INDEX = 'application/vnd.oci.image.index.v1+json';
const SUBJECT = digestOf(Buffer.from('subject'));
const API = `/v2/team/app/referrers/${SUBJECT}`;
const TAG = `/v2/team/app/manifests/${SUBJECT.replace(':', '-')}`;

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

async function ask(subject: Digest = SUBJECT, limits = {}) {
  const test = await registrySource(registry.host, {}, limits);
  opened.push(test);
  const answer = await test.source.referrers(subject);
  return { ...answer, digests: answer.descriptors.map(({ digest }) => digest), events: test.events };
}

const descriptor = (name: string) => ({
  mediaType: 'application/vnd.oci.image.manifest.v1+json',
  digest: digestOf(Buffer.from(name)),
  size: 100,
  artifactType: 'application/vnd.example.signature',
});
const digests = (...names: string[]) => names.map((name) => descriptor(name).digest);
const index = (...names: string[]): Buffer =>
  Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests: names.map(descriptor) }));
const page = (body: Buffer | string, link?: string): Step =>
  reply(200, { 'content-type': INDEX, ...(link === undefined ? {} : { link }) }, body);

describe('the referrers API', () => {
  it('lists evidence', async () => {
    registry.script(API, page(index('a', 'b')));
    const answer = await ask();
    expect(answer).toMatchObject({ via: 'referrers-api', digests: digests('a', 'b') });
    expect(answer.descriptors[0]?.artifactType).toBe('application/vnd.example.signature');
  });

  it.each(['{"schemaVersion":2,"manifests":null}', '{"schemaVersion":2,"manifests":[]}'])(
    'may list none: %s',
    async (body) => {
      registry.script(API, page(body));
      expect(await ask()).toMatchObject({ via: 'referrers-api', digests: [] });
    },
  );

  it('is read page by page', async () => {
    registry.script(API, (request, response, body) => {
      const last = new URL(request.url ?? '', registry.url).searchParams.get('last');
      const step =
        last === null
          ? page(index('a'), `<${API}?last=a&n=1>; rel="next"`)
          : last === 'a'
            ? page(index('b'), `<${registry.url}${API}?last=b>; title="x, y"; rel=next`)
            : page(index('c'), `<${API}?last=zero>; rel="prev"`);
      step(request, response, body);
    });
    expect((await ask()).digests).toEqual(digests('a', 'b', 'c'));
  });

  it('is not followed to another origin', async () => {
    const other = await startFaultRegistry();
    try {
      registry.script(API, page(index('a'), `<${other.url}/v2/x>; rel="next"`));
      expect(await failureOf(ask())).toMatchObject({ code: 'source-protocol', got: other.url });
      expect(other.requests).toHaveLength(0);
    } finally {
      await other.stop();
    }
  });

  it('is refused where its pages go in a circle', async () => {
    registry.script(API, page(index('a'), `<${API}>; rel="next"`));
    expect((await failureOf(ask())).code).toBe('source-protocol');
    expect(registry.requests).toHaveLength(1);
  });

  it('is refused where its pages do not end', async () => {
    let number = 0;
    registry.script(API, (request, response, body) => {
      number += 1;
      page(index('a'), `<${API}?page=${number}>; rel="next"`)(request, response, body);
    });
    expect((await failureOf(ask())).code).toBe('source-protocol');
    expect(number).toBe(100);
  });

  it('is refused where it lists more than an image may have', async () => {
    registry.script(API, page(index('a', 'b', 'c')));
    expect((await failureOf(ask(SUBJECT, { manifestsPerImage: 2 }))).code).toBe('source-too-large');
  });

  it('is refused where a page does not end', async () => {
    registry.script(API, endless(200, { 'content-type': INDEX }));
    expect((await failureOf(ask())).code).toBe('source-too-large');
  });

  it.each([
    ['json-invalid', '{"manifests":'],
    ['json-duplicate-key', '{"manifests":[],"manifests":[]}'],
    ['manifest-invalid', '[]'],
    ['manifest-invalid', '{"manifests":{}}'],
    ['manifest-invalid', '{"manifests":[{"mediaType":"a/b","digest":"sha256:../../etc","size":1}]}'],
    ['manifest-invalid', JSON.stringify({ manifests: [{ ...descriptor('a'), size: -1 }] })],
  ])('is refused as %s: %s', async (code, body) => {
    registry.script(API, page(body));
    expect((await failureOf(ask())).code).toBe(code);
  });

  it('is not asked again where it refuses for good', async () => {
    registry.script(API, reply(403));
    expect((await failureOf(ask())).code).toBe('source-unauthorized');
  });
});

describe('the referrers tag', () => {
  it('is read where there is no API', async () => {
    registry.script(API, reply(404, { 'content-type': 'text/plain' }, '404 page not found\n'));
    registry.script(TAG, manifest(index('a'), INDEX));
    expect(await ask()).toMatchObject({ via: 'referrers-tag', digests: digests('a'), events: [] });
  });

  it.each([
    ['status 405', reply(405)],
    ['a page for people', reply(200, { 'content-type': 'text/html' }, '<html>welcome</html>')],
  ])('is read where the API answers with %s, and that is said', async (_what, step) => {
    registry.script(API, step);
    registry.script(TAG, manifest(index('a'), INDEX));
    const answer = await ask();
    expect(answer).toMatchObject({ via: 'referrers-tag', digests: digests('a') });
    expect(answer.events).toMatchObject([{ code: 'referrers-unsupported' }]);
  });

  it('is merged with what the API lists, each once', async () => {
    registry.script(API, page(index('a', 'b', 'a')));
    registry.script(TAG, manifest(index('b', 'c'), INDEX));
    expect(await ask()).toMatchObject({ via: 'referrers-api', digests: digests('a', 'b', 'c') });
  });

  it('may be missing', async () => {
    registry.script(API, notFound);
    expect(await ask()).toMatchObject({ via: 'referrers-tag', digests: [] });
  });

  it.each([
    [
      'an image',
      Buffer.from(JSON.stringify({ schemaVersion: 2, config: descriptor('c'), layers: [] })),
      'application/vnd.oci.image.manifest.v1+json',
    ],
    ['no JSON', Buffer.from('hello'), INDEX],
    ['an index served as an image', index('a'), 'application/vnd.oci.image.manifest.v1+json'],
  ])('is ignored with a warning where it is %s', async (_what, bytes, type) => {
    registry.script(API, notFound);
    registry.script(TAG, manifest(bytes, type));
    const answer = await ask();
    expect(answer.digests).toEqual([]);
    expect(answer.events).toMatchObject([{ level: 'warning', code: 'referrers-tag-ignored' }]);
  });

  it('is cut for sha512', async () => {
    const subject = parseDigest(`sha512:${'0123456789abcdef'.repeat(8)}`);
    registry.script(
      `/v2/team/app/manifests/sha512-${'0123456789abcdef'.repeat(4)}`,
      manifest(index('a'), INDEX),
    );
    expect((await ask(subject)).digests).toEqual(digests('a'));
  });
});

it('never lists the subject as evidence of itself', async () => {
  registry.script(API, page(index('subject', 'a')));
  expect((await ask()).digests).toEqual(digests('a'));
});
