/** Two copies of one collection that both go on: day shift and night shift. */
import { cpSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { SealiftError } from '../../core/errors.ts';
import { addNames, publishRequest } from '../../core/trust-ops/index.ts';
import type { FixtureManifest } from '../../fixtures/images.ts';
import { TEST_PASSPHRASE, type World } from '../../fixtures/world.ts';
import { ALPINE, at, codeOf, image, NGINX, type Story, tell } from './story.ts';

let story: Story;
let night: World;
beforeEach(async () => {
  story = await tell();
  const first = await story.bundle(0, { [ALPINE]: image('one') });
  await story.world.pin(first.output);
  await story.import(first, 0);
  night = story.world.fork();
});
afterEach(async () => {
  await story?.world.close();
});

const refusalOf = async (action: Promise<unknown>): Promise<SealiftError> =>
  (await action.catch((error: unknown) => error)) as SealiftError;

describe('at the gate', () => {
  it('the second bundle of a version is named a fork, with what tells the two apart', async () => {
    const { world } = story;
    await story.import(await story.bundle(1, { [ALPINE]: image('day') }), 1);
    const before = world.imagesState();
    const other = await story.bundle(2, { [ALPINE]: image('night') }, night);
    const refusal = await refusalOf(story.import(other, 2));
    expect(refusal).toMatchObject({ code: 'fork', subject: 'timestamp', check: 'timestamp' });
    expect(refusal.want).toContain('made 2026-03-02T00:00:00Z');
    expect(refusal.got).toContain('made 2026-03-03T00:00:00Z');
    expect(refusal.hint).toContain('two copies');
    expect(world.imagesState()).toEqual(before);
    // The shift that was taken first goes on.
    expect((await story.import(await story.bundle(3, { [NGINX]: image('two') }), 3)).imported).toEqual([
      NGINX,
    ]);
  });

  it('a later bundle of the other copy is a fork where it carries a role that both have signed', async () => {
    const { world } = story;
    await story.import(await story.bundle(1, { [ALPINE]: image('day') }), 1);
    await story.bundle(1, { [ALPINE]: image('night') }, night);
    const later = await story.bundle(2, {}, night);
    const before = world.imagesState();
    expect(await refusalOf(story.import(later, 2))).toMatchObject({ code: 'fork', subject: 'images' });
    expect(world.imagesState()).toEqual(before);
  });
});

describe('on the connected side', () => {
  const common = (collection: string) => ({
    collection,
    passphrase: async () => TEST_PASSPHRASE,
    pid: process.pid,
  });
  const names = (name: string, root: FixtureManifest) =>
    new Map([
      [name, { length: root.size, sha256: root.digest.replace('sha256:', ''), mediaType: root.mediaType }],
    ]);
  const request = (world: World, name: string) => path.join(world.directory, name);

  async function signedAtNight(file: string): Promise<void> {
    await addNames(
      { ...common(night.collection), images: names(NGINX, image('night')), request: file },
      night.context(at(1)),
    );
  }

  it('where one takes over what the other has signed under the same version, it is named a fork', async () => {
    const file = request(night, 'night.json');
    await signedAtNight(file);
    await story.bundle(1, { [ALPINE]: image('day') });
    const publishing = publishRequest(
      { ...common(story.world.collection), requests: [file] },
      story.world.context(at(2)),
    );
    expect(await refusalOf(publishing)).toMatchObject({
      code: 'fork',
      subject: 'images',
      message: expect.stringContaining('two copies'),
      hint: expect.stringContaining('fresh copy'),
    });
  });

  it('a higher version does not undo what the other has added meanwhile', async () => {
    for (let i = 0; i < 3; i += 1) await story.bundle(1, {}, night);
    const file = request(night, 'night.json');
    await signedAtNight(file);
    const publish = () =>
      codeOf(
        publishRequest({ ...common(story.world.collection), requests: [file] }, story.world.context(at(2))),
      );
    await story.bundle(1, { [ALPINE]: image('day') });
    expect(await publish()).toBe('fork');
    // On a fresh copy it is written anew, and nothing is lost.
    for (const part of ['metadata', 'counter'])
      cpSync(path.join(story.world.collection, part), path.join(night.collection, part), { recursive: true });
    await signedAtNight(file);
    expect(await publish()).toBe('accepted');
    const imported = await story.import(await story.bundle(3), 3);
    expect(imported.vanished).toEqual([]);
    expect((await story.import(await story.bundle(4, { [NGINX]: image('night') }), 4)).imported).toEqual([
      NGINX,
    ]);
  });
});
