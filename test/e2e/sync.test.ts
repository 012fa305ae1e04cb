/** The command: publishing what was imported, going on after kill -9, and a puller that never sees a half state. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { succeeded } from '../../fixtures/cli.ts';
import {
  makeImage,
  makeLayer,
  makeLayout,
  multiArchImage,
  sharingImages,
  signedImage,
} from '../../fixtures/images.ts';
import { describePeer } from '../../fixtures/peers.ts';
import { snapshotOf, timesOf } from '../../fixtures/store.ts';
import { makeWalk, type Walk } from '../../fixtures/walk.ts';
import { startNginxOver } from '../../fixtures/web-server.ts';
import { makePublishing } from '../core/publish/publishing.ts';

const POINTS = 20;
const HOOK = path.join(import.meta.dirname, '../../fixtures/kill-at-step.cjs');

let walk: Walk;
let tree: string;
beforeAll(async () => {
  walk = makeWalk();
  tree = walk.sandbox.path('tree');
  const layout = walk.sandbox.path('layout');
  const sharing = sharingImages();
  const images = { signed: signedImage(), one: sharing[0], two: sharing[1] };
  makeLayout(
    layout,
    Object.entries(images).map(([name, root]) => ({ name, root })),
  );
  await walk.init({ keys: 'native' });
  const bundle = walk.sandbox.path('images.tar');
  const sources = Object.keys(images).map((name) => `docker.io/acme/${name}:v1=oci:${layout}:${name}`);
  await walk.export(sources, bundle);
  await walk.pin(bundle, await walk.rootFingerprint());
  await walk.import(bundle);
});
afterAll(() => walk?.sandbox.remove());

const sync = (...args: string[]) => walk.sandbox.run(['sync', `static:${tree}`, '--no-input', ...args]);

describe('sealift sync', () => {
  it('publishes, then changes nothing and says so', async () => {
    const told = succeeded(await sync('--dry-run'), 'sync --dry-run');
    expect(told.stdout).toContain('would publish');
    expect(existsSync(tree)).toBe(false);
    const first = succeeded(await sync('--host', 'images.example'), 'sync');
    expect(first.stdout).toContain('published  3 images');
    expect(readFileSync(path.join(tree, 'index.html'), 'utf8')).toContain(
      'images.example/docker.io/acme/one:v1',
    );
    const times = timesOf(tree);
    const second = succeeded(await sync('--host', 'images.example'), 'sync');
    expect(second.stdout).toContain('unchanged');
    expect(timesOf(tree)).toEqual(times);
  });

  it('tells a machine the same', async () => {
    const result = await walk.json<{ images: { name: string; places: string[] }[]; destinations: unknown[] }>(
      [
        ...['sync', `store:${walk.sandbox.path('store')}`, `static:${walk.sandbox.path('second')}`],
        ...['--map', 'docker.io/acme=ours'],
      ],
    );
    expect(result.images[0]?.places).toEqual(['ours/one:v1']);
    expect(result.destinations).toMatchObject([
      { changed: true, tags: { set: expect.any(Array), unknown: [] } },
    ]);
  });

  it.each([
    ['no place', ['sync'], 'LOCATION'],
    ['an unknown kind of place', ['sync', 'ftp://there'], 'static:'],
    ['a grace period without pruning', ['sync', 'static:x', '--grace', '1h'], '--prune'],
    ['a prefix that is no repository', ['sync', 'static:x', '--prefix', 'UP'], '--prefix'],
    ['a mapping that is none', ['sync', 'static:x', '--map', 'nothing'], '--map'],
  ])('refuses %s', async (_what, args, text) => {
    const result = await walk.sandbox.run(args);
    expect(result.code).toBe(2);
    expect(result.stderr).toContain(text);
  });

  it(`ends in the same tree after kill -9 at ${POINTS} points`, async () => {
    const counter = walk.sandbox.path('steps');
    const env = { NODE_OPTIONS: `--require ${HOOK}`, SEALIFT_KILL_COUNTER: counter };
    const attempt = (more: Record<string, string> = {}) =>
      walk.sandbox.run(['sync', `static:${tree}`, '--no-input'], { env: { ...env, ...more } });
    const fresh = (): void => {
      for (const one of [tree, counter]) rmSync(one, { recursive: true, force: true });
    };
    fresh();
    succeeded(await attempt(), 'sync');
    const wanted = snapshotOf(tree);
    const steps = statSync(counter).size;
    expect(steps).toBeGreaterThan(POINTS * 4);
    for (let index = 0; index < POINTS; index++) {
      // How many steps there are differs a little from run to run; the last point must be one that every run reaches.
      const at = 1 + Math.round((index * (steps * 0.95 - 1)) / (POINTS - 1));
      fresh();
      const killed = await attempt({ SEALIFT_KILL_AT: String(at) });
      expect(killed.signal, `step ${at}: ${killed.stderr}`).toBe('SIGKILL');
      expectWhole(tree, `killed at step ${at} of ${steps}`);
      succeeded(await sync(), `sync after a kill at step ${at}`);
      expect(snapshotOf(tree), `step ${at} of ${steps}`).toEqual(wanted);
    }
  }, 120_000);
});

/** Whatever has a name in the tree can be pulled: every tag leads to manifests and blobs that are there and right. */
function expectWhole(directory: string, when: string): void {
  for (const key of Object.keys(snapshotOf(directory)).filter((name) => /\/manifests\/[^~/]+$/.test(name))) {
    if (path.basename(key).startsWith('.')) continue;
    const repository = key.slice(0, key.lastIndexOf('/manifests/'));
    const document = JSON.parse(readFileSync(path.join(directory, key), 'utf8')) as {
      config?: { digest: string };
      layers?: { digest: string }[];
      manifests?: { digest: string }[];
    };
    for (const blob of [...(document.config ? [document.config] : []), ...(document.layers ?? [])]) {
      const bytes = readFileSync(path.join(directory, repository, 'blobs', blob.digest));
      expect(`sha256:${createHash('sha256').update(bytes).digest('hex')}`, when).toBe(blob.digest);
    }
    for (const child of document.manifests ?? []) {
      expect(existsSync(path.join(directory, repository, 'manifests', child.digest)), `${when}: ${key}`).toBe(
        true,
      );
    }
  }
}

describe('sealift client-config', () => {
  it('prints what a client needs', async () => {
    const { stdout } = succeeded(
      await walk.sandbox.run(['client-config', 'images.example:5000', 'podman', '--registry', 'docker.io']),
      'client-config',
    );
    expect(stdout).toContain('location = "images.example:5000/docker.io"');
    const docker = await walk.json<{ files: { path: string; content: string }[] }>([
      ...['client-config', 'images.example', 'docker', '--plain-http'],
    ]);
    expect(JSON.parse(docker.files[0]?.content ?? '')).toEqual({
      'registry-mirrors': ['http://images.example'],
      'insecure-registries': ['images.example'],
    });
    for (const args of [
      ['images.example', 'rocket'],
      ['https://images.example', 'podman'],
      ['images.example"]\nx', 'podman'],
    ]) {
      expect((await walk.sandbox.run(['client-config', ...args])).code, args.join()).toBe(2);
    }
  });
});

describePeer(['nginx'], 'a puller in a loop', () => {
  it.each(['suffixes', 'maps'] as const)(
    'never finds a half state while 50 tags are replaced (%s)',
    async (way) => {
      const world = makePublishing();
      const images = (round: number) =>
        Object.fromEntries(
          Array.from({ length: 50 }, (_, at) => {
            const layers = [
              makeLayer({ 'etc/round': `${round}` }),
              makeLayer({ 'etc/of': `${at} ${round}` }),
            ];
            // The type changes from round to round as well.
            const image = round % 2 === 0 ? makeImage({ layers }) : multiArchImage();
            return [`quay.io/acme/app:v${at}`, image];
          }),
        );
      await world.admit(images(0));
      await world.sync();
      const web = await startNginxOver(world.tree, path.join(world.directory, 'web'), way);
      let done = false;
      let pulls = 0;
      const problems: string[] = [];
      const pull = async (): Promise<void> => {
        for (let turn = 0; !done; turn++) {
          const base = `${web.url}/v2/quay.io/acme/app`;
          const get = async (place: string): Promise<Buffer> => {
            // A server that reloads closes idle connections; every client asks again then.
            const answer = await fetch(`${base}/${place}`).catch(() => fetch(`${base}/${place}`));
            const bytes = Buffer.from(await answer.arrayBuffer());
            const type = answer.headers.get('content-type') ?? '';
            const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
            const told = answer.headers.get('docker-content-digest');
            if (answer.status !== 200) problems.push(`${place}: ${answer.status}`);
            else if (told === null && way === 'maps') problems.push(`${place}: no digest told`);
            else if (told !== null && told !== digest) problems.push(`${place}: told ${told}, got ${digest}`);
            else if (place.includes('sha256:') && !place.endsWith(digest))
              problems.push(`${place}: other bytes`);
            else if (place.startsWith('manifests') && type !== JSON.parse(bytes.toString()).mediaType)
              problems.push(`${place}: type ${type}`);
            return bytes;
          };
          const tag = `manifests/v${(turn * 7) % 50}`;
          let document = JSON.parse((await get(tag)).toString());
          if (document.errors) continue;
          if (document.manifests) {
            document = JSON.parse((await get(`manifests/${document.manifests[0].digest}`)).toString());
          }
          if (document.errors) continue;
          for (const blob of [document.config, ...document.layers]) await get(`blobs/${blob.digest}`);
          pulls += 1;
        }
      };
      try {
        const pulling = Promise.all([pull(), pull()]);
        for (let round = 1; round <= 2; round++) {
          await world.admit(images(round));
          const result = await world.sync();
          expect(result.destinations[0]?.tags.set).toHaveLength(50);
          if (way === 'maps') await web.reload();
        }
        done = true;
        await pulling;
        expect(problems).toEqual([]);
        expect(pulls).toBeGreaterThan(20);
      } finally {
        done = true;
        await web.stop();
        await world.close();
      }
    },
  );
});
