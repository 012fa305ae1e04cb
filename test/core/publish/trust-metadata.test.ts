import { createHash } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openGate } from '../../../core/gate/gate.ts';
import { type ServedStore, serveStore } from '../../../core/publish/serve.ts';
import type { ExportResult } from '../../../core/results.ts';
import { filesOf, forge } from '../../../fixtures/world.ts';
import { ALPINE, at, codeOf, image, NGINX, type Story, tell } from '../../stories/story.ts';

const ONE = image('one');
const HASH = createHash('sha256').update(ONE.bytes).digest('hex');

let story: Story;
let first: ExportResult;
let server: ServedStore;
let stop: AbortController;

beforeEach(async () => {
  story = await tell();
  first = await story.bundle(0, { [ALPINE]: ONE, [NGINX]: image('two') });
  await story.world.pin(first.output);
  await story.world.import(first.output, { now: at(0), only: [ALPINE] });
  stop = new AbortController();
  const { store: directory, gate } = story.world;
  server = await serveStore({ directory, gate, host: '127.0.0.1', port: 0, signal: stop.signal });
});
afterEach(async () => {
  stop?.abort();
  await server?.closed;
  await story?.world.close();
});

const ask = async (path: string, method = 'GET') => {
  const response = await fetch(`${server.url}${path}`, { method, headers: { connection: 'close' } });
  return {
    status: response.status,
    headers: response.headers,
    bytes: Buffer.from(await response.arrayBuffer()),
  };
};
const statusOf = async (path: string): Promise<number> => (await ask(path)).status;

describe('the trust metadata of a gate', () => {
  it('is what the bundle brought, byte for byte, and says which collections there are', async () => {
    expect(server.trustUrl).toBe(`${server.url}/_trust/`);
    const files = [...filesOf(first.output)].filter(
      ([name]) => name.startsWith('metadata/') && name.endsWith('.json'),
    );
    expect(files.length).toBeGreaterThan(5);
    for (const [name, bytes] of files) {
      const answer = await ask(`/_trust/${name}`);
      expect(answer.status, name).toBe(200);
      expect(answer.bytes.equals(bytes), name).toBe(true);
      expect((await ask(`/_trust/${first.collection.id}/${name}`)).bytes.equals(bytes), name).toBe(true);
    }
    const head = await ask('/_trust/metadata/timestamp.json', 'HEAD');
    expect([head.status, head.bytes.length]).toEqual([200, 0]);
    expect(head.headers.get('cache-control')).toBe('no-cache');
    expect(JSON.parse(String((await ask('/_trust/')).bytes))).toEqual({
      collections: [
        {
          id: first.collection.id,
          name: 'test',
          rootVersion: 1,
          rootFingerprint: first.collection.rootFingerprint,
          version: first.collection.version,
          expires: first.collection.expires,
        },
      ],
    });
    expect((await ask('/_trust/metadata/timestamp.json', 'PUT')).status).toBe(405);
  });

  it('has the manifests of images that were let in, by hash and name, and of no others', async () => {
    const answer = await ask(`/_trust/targets/docker.io/library/${HASH}.alpine:3.20`);
    expect([answer.status, answer.headers.get('content-type')]).toEqual([200, ONE.mediaType]);
    expect(answer.bytes.equals(ONE.bytes)).toBe(true);
    const two = createHash('sha256').update(image('two').bytes).digest('hex');
    for (const path of [
      `docker.io/library/${two}.nginx:1.29`,
      `docker.io/library/${'0'.repeat(64)}.alpine:3.20`,
      'docker.io/library/alpine:3.20',
      `docker.io/library/${HASH}.alpine`,
      `..%2f..%2f${HASH}.alpine:3.20`,
      `${HASH}.`,
      '',
    ])
      expect(await statusOf(`/_trust/targets/${path}`), path).toBe(404);
    for (const path of [
      'metadata/',
      'metadata/..%2fstate.json',
      'metadata/1.nobody.json',
      'state.json',
      'x/y',
    ])
      expect(await statusOf(`/_trust/${path}`), path).toBe(404);
    expect(await statusOf(`/_trust/${'0'.repeat(64)}/metadata/timestamp.json`)).toBe(404);
  });

  it('follows the gate, and keeps every root since the pinned one for those who slept', async () => {
    for (const day of [1, 2]) {
      await story.rotate(day, { roles: ['root'] });
      await story.import(await story.bundle(day), day);
    }
    const last = await story.bundle(3);
    await story.import(last, 3);
    for (const version of [1, 2, 3]) {
      const { status, bytes } = await ask(`/_trust/metadata/${version}.root.json`);
      expect([status, JSON.parse(String(bytes)).signed.version]).toEqual([200, version]);
    }
    expect(await statusOf('/_trust/metadata/4.root.json')).toBe(404);
    const { bytes } = await ask('/_trust/metadata/timestamp.json');
    expect(bytes.equals(filesOf(last.output).get('metadata/timestamp.json') ?? Buffer.alloc(0))).toBe(true);
  });

  it('is silent while what is kept does not belong together, but for the roots', async () => {
    const next = await story.bundle(1, { [NGINX]: image('three') });
    const broken = forge(next.output, `${next.output}.broken`, (files) => {
      const name = [...files.keys()].find((entry) => entry.endsWith('.snapshot.json')) ?? '';
      files.set(name, Buffer.from('{}'));
    });
    // Trust moves first: the timestamp was taken, and nothing that it names.
    expect(await codeOf(story.world.import(broken, { now: at(1) }))).toBe('mix-and-match');
    expect(await statusOf('/_trust/metadata/timestamp.json')).toBe(503);
    expect(await statusOf('/_trust/metadata/1.root.json')).toBe(200);
    await story.import(next, 1);
    expect(await statusOf('/_trust/metadata/timestamp.json')).toBe(200);
  });
});

it('is not there where there is no gate; the images are', async () => {
  const end = new AbortController();
  const bare = await serveStore({
    directory: story.world.store,
    gate: `${story.world.directory}/nowhere`,
    host: '127.0.0.1',
    port: 0,
    signal: end.signal,
  });
  try {
    expect(bare.trustUrl).toBeUndefined();
    expect((await fetch(`${bare.url}/_trust/`, { headers: { connection: 'close' } })).status).toBe(404);
    expect((await fetch(`${bare.url}/v2/`, { headers: { connection: 'close' } })).status).toBe(200);
  } finally {
    end.abort();
    await bare.closed;
  }
});

it('a gate of before, which kept no earlier roots, is read and goes on', async () => {
  const gate = await openGate(story.world.gate, { create: false });
  const before = await gate.revision();
  expect((await gate.collections())[0]?.earlierRoots.size).toBe(0);
  await story.rotate(1, { roles: ['root'] });
  await story.import(await story.bundle(1), 1);
  expect(await gate.revision()).not.toBe(before);
  expect([...((await gate.collections())[0]?.earlierRoots.keys() ?? [])]).toEqual([1]);
});
