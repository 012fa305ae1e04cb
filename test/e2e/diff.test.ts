import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeImage, makeLayer, makeLayout } from '../../fixtures/images.ts';
import { makeWalk, type Walk } from '../../fixtures/walk.ts';

const NAME = 'registry.example/team/web:v1';
const BASE = makeLayer({ 'etc/os-release': 'test' });

let walk: Walk;
const bundles: string[] = [];

beforeAll(async () => {
  walk = makeWalk();
  await walk.init({ keys: 'native' });
  for (const version of ['1', '2']) {
    const layout = walk.sandbox.path(`layout-${version}`);
    const root = makeImage({ layers: [BASE, makeLayer({ 'srv/version': version })], labels: { version } });
    makeLayout(layout, [{ name: NAME, root }]);
    const bundle = walk.sandbox.path(`bundle-${version}.tar`);
    await walk.export([`${NAME}=oci:${layout}:${NAME}`], bundle);
    bundles.push(bundle);
  }
});
afterAll(() => walk?.sandbox.remove());

it('compares two bundles by path, with the files in their layers', async () => {
  const before = bundles.map((file) => readFileSync(file));
  const result = await walk.sandbox.run(['diff', '--files', ...bundles]);
  expect(result.code).toBe(0);
  expect(result.stdout).toContain('label version: 1 -> 2');
  expect(result.stdout).toContain('~ /srv/version  content, 1 B -> 1 B');
  expect(bundles.map((file) => readFileSync(file))).toEqual(before);
});

it('gives the same as JSON, however it is asked for', async () => {
  const [first, second] = await Promise.all([
    walk.sandbox.run(['diff', '--format', 'json', ...bundles]),
    walk.sandbox.run(['diff', '--json', ...bundles]),
  ]);
  expect(first.stdout).toBe(second.stdout);
  expect(JSON.parse(first.stdout)).toMatchObject({
    ok: true,
    command: 'diff',
    result: { moved: [{ name: NAME }], shared: { blobs: 1, bytes: BASE.blob.size } },
  });
});

it('says which path is nothing to compare', async () => {
  const result = await walk.sandbox.run(['diff', bundles[0] ?? '', walk.sandbox.path('.')]);
  expect(result.code).toBe(2);
  expect(result.stderr).toContain('nothing to compare');
});
