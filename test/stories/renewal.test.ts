import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { isSealiftError } from '../../core/errors.ts';
import { DEFAULT_LIMITS } from '../../core/limits.ts';
import { openCollection } from '../../core/trust/collection.ts';
import { filesOf } from '../../fixtures/world.ts';
import { ALPINE, at, codeOf, image, NGINX, type Story, tell } from './story.ts';

let story: Story;
afterEach(async () => {
  await story?.world.close();
});

describe('a collection at rest', () => {
  it('refuses exports before targets ends, says which command renews it, and goes on for years', async () => {
    story = await tell();
    const first = await story.bundle(0, { [ALPINE]: image('one') });
    await story.world.pin(first.output);
    await story.import(first, 1);
    const error: unknown = await story.bundle(300, {}).catch((reason: unknown) => reason);
    expect(isSealiftError(error) && error.code).toBe('metadata-expired');
    expect(isSealiftError(error) && error.hint).toContain('sealift trust renew --role targets');

    const renewed = await story.renew(300);
    expect(renewed.roles.map(({ role }) => role)).toEqual(['targets', 'images']);
    await story.import(await story.bundle(300), 301);
    // Root ends after three years, and is renewed with the rest in its last one.
    const later = await story.renew(800);
    expect(later.roles.map(({ role }) => role)).toEqual(['root', 'targets', 'images']);
    expect(later.rootVersion).toBe(2);
    const last = await story.bundle(1000);
    const imported = await story.import(last, 1001);
    expect(imported.collection).toMatchObject({ rootVersion: 2, version: last.collection.version });
    // The image that came in the first bundle is vouched for by the last.
    expect(imported.withdrawn).toEqual([]);
    const index = readFileSync(path.join(story.world.store, 'index.json'), 'utf8');
    expect(index).toContain(ALPINE);
  });

  it('is renewed by one role, for as long as asked, and nothing else changes', async () => {
    story = await tell();
    const renewed = await story.renew(10, { roles: ['targets'], lifetime: 700 * 24 * 3600 * 1000 });
    expect(renewed.roles).toEqual([
      { role: 'targets', version: 2, expires: at(710).toISOString().replace('.000', '') },
    ]);
    expect(renewed.rootVersion).toBe(1);
    const next = await story.bundle(11, { [ALPINE]: image('one') });
    expect(next.collection.roles.find(({ role }) => role === 'targets')?.expires).toBe(
      renewed.roles[0]?.expires,
    );
  });

  it('keeps what is staged until a bundle takes it along, also by several steps', async () => {
    story = await tell();
    const first = await story.bundle(0, { [ALPINE]: image('one'), [NGINX]: image('two') });
    await story.renew(1, { roles: ['targets'] });
    await story.withdraw(2, [NGINX]);
    await story.renew(3, { roles: ['root'] });
    const waiting = await openCollection(story.world.collection, DEFAULT_LIMITS);
    expect(waiting.stagedVersion).toBeDefined();
    expect(waiting.state.root.version).toBe(2);
    // What is read out meanwhile is a root that the bundles there are have.
    expect(waiting.rootVersion).toBe(1);
    await story.world.pin(first.output);
    await story.import(first, 1);
    const second = await story.bundle(4);
    const done = await openCollection(story.world.collection, DEFAULT_LIMITS);
    expect(done.stagedVersion).toBeUndefined();
    expect(existsSync(path.join(story.world.collection, 'staged.json'))).toBe(false);
    expect(readdirSync(path.join(story.world.collection, 'metadata'))).toContain('2.root.json');
    const imported = await story.import(second, 5);
    expect(imported.removed).toEqual([NGINX]);
    expect(imported.collection.rootVersion).toBe(2);
  });

  it('says what is signed by exports anyway, and which roles there are', async () => {
    story = await tell();
    expect(await codeOf(story.renew(1, { roles: ['timestamp'] }))).toBe('invalid-argument');
    expect(await codeOf(story.renew(1, { roles: ['nobody'] }))).toBe('name-not-found');
  });
});

describe('a bundle of metadata only', () => {
  it('is a few kilobytes, verifies, imports, and renews what is in the store', async () => {
    story = await tell();
    const first = await story.bundle(0, { [ALPINE]: image('one') });
    await story.world.pin(first.output);
    await story.import(first, 1);
    const renewal = await story.bundle(60);
    expect(statSync(renewal.output).size).toBeLessThan(64 * 1024);
    expect(renewal.images).toEqual([]);
    expect(String(filesOf(renewal.output).get('README.txt'))).toContain('Images (0)');
    expect((await story.world.verify(renewal.output, { now: at(61) })).images).toEqual([]);
    const imported = await story.import(renewal, 61);
    expect(imported).toMatchObject({ imported: [], unchanged: [], removed: [] });
    const [record] = readdirSync(path.join(story.world.store, '.sealift/records'));
    const text = readFileSync(path.join(story.world.store, '.sealift/records', record ?? ''), 'utf8');
    expect(text).toContain(renewal.collection.expires);
  });

  it('takes no images', async () => {
    story = await tell();
    const both = story.world.export({ [ALPINE]: image('one') }, { metadataOnly: true });
    expect(await codeOf(both)).toBe('invalid-argument');
  });
});
