import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { listNames } from '../../core/trust-ops/index.ts';
import { forge } from '../../fixtures/world.ts';
import { ALPINE, at, codeOf, image, NGINX, type Story, tell } from './story.ts';

let story: Story;
afterEach(async () => {
  await story?.world.close();
});

it('a bad image is withdrawn by a bundle of kilobytes, and returns only by a later export of its name', async () => {
  story = await tell();
  const { world } = story;
  const bad = image('bad');
  const first = await story.bundle(0, { [ALPINE]: image('one'), [NGINX]: bad });
  await world.pin(first.output);
  await story.import(first, 0);

  const said = await story.withdraw(3, [NGINX], 'CVE-2026-1: do not run it');
  expect(said.withdrawn).toEqual([
    { name: NGINX, digest: bad.digest, role: 'images', reason: 'CVE-2026-1: do not run it' },
  ]);
  const notice = await story.bundle(3);
  const imported = await story.import(notice, 4);
  expect(imported.removed).toEqual([NGINX]);
  expect(imported.withdrawn).toMatchObject([{ name: NGINX, digest: bad.digest, at: '2026-03-04T00:00:00Z' }]);
  const index = readFileSync(path.join(world.store, 'index.json'), 'utf8');
  expect(index).toContain(ALPINE);
  expect(index).not.toContain(NGINX);
  expect(readFileSync(path.join(world.gate, 'audit.log'), 'utf8')).toContain('CVE-2026-1: do not run it');

  // Played back, the old bundle does not bring it back; another export of the other image does not either.
  expect(await codeOf(story.import(first, 5))).toBe('rollback');
  const other = await story.import(await story.bundle(5, { [ALPINE]: image('two') }), 6);
  expect(other.withdrawn.map(({ name }) => name)).toEqual([NGINX]);

  const fixed = image('fixed');
  const back = await story.import(await story.bundle(7, { [NGINX]: fixed }), 8);
  expect(back.imported).toEqual([NGINX]);
  expect(back.withdrawn).toEqual([]);
  const names = await listNames({ collection: world.collection, roles: ['images'] }, world.context(at(8)));
  expect(names.images.map(({ name }) => name)).toEqual([ALPINE, NGINX]);
  expect(names.withdrawn).toEqual([]);
});

it('a name is withdrawn once, with a reason, and only where it is known', async () => {
  story = await tell();
  await story.bundle(0, { [ALPINE]: image('one') });
  expect(await codeOf(story.withdraw(1, [NGINX]))).toBe('name-not-found');
  expect(await codeOf(story.withdraw(1, [ALPINE], ' '))).toBe('invalid-argument');
  expect(await codeOf(story.withdraw(1, [ALPINE], 'two\nlines'))).toBe('invalid-argument');
  await story.withdraw(1, [ALPINE]);
  expect(await codeOf(story.withdraw(1, [ALPINE]))).toBe('name-not-found');
});

it('a tombstone is signed: nobody on the way can take it out', async () => {
  story = await tell();
  const { world } = story;
  await world.pin((await story.bundle(0, { [ALPINE]: image('one') })).output);
  await story.withdraw(1, [ALPINE]);
  const notice = await story.bundle(1);
  const target = forge(notice.output, `${notice.output}.forged`, (files) => {
    const name = [...files.keys()].find((entry) => entry.endsWith('.images.json')) ?? '';
    const text = String(files.get(name)).replace(/,"x-withdrawn":\[.*?\]/, '');
    files.set(name, Buffer.from(text));
  });
  expect(await codeOf(world.import(target, { now: at(2) }))).toBe('mix-and-match');
});
