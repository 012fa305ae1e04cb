/** Attacks on the bundle as a whole (docs/threats.md): what a hostile carrier, medium or sender can do without the keys. */
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ErrorCode } from '../../core/errors.ts';
import { openGate } from '../../core/gate/gate.ts';
import { signedImage, singleImage } from '../../fixtures/images.ts';
import {
  DAY,
  filesOf,
  flip,
  forge,
  layerNames,
  makeWorld,
  START,
  type World,
  writeArchive,
} from '../../fixtures/world.ts';

const APP = 'registry.example/team/app:1';
const OTHER = 'registry.example/bank/core:9';
const later = (days: number) => new Date(START.getTime() + days * DAY);

async function refusedWith(work: Promise<unknown>, code: ErrorCode, check?: string): Promise<void> {
  const error = await work.then(
    () => ({ code: 'accepted', check: undefined }),
    (reason: { code?: string; check?: string }) => reason,
  );
  expect({ code: error.code, check: error.check }).toEqual({ code, check: check ?? error.check });
}

describe('a bundle that was tampered with', () => {
  let world: World;
  let genuine: string;
  let scratch: string;
  let number = 0;
  const target = () => {
    number += 1;
    return path.join(world.directory, `hostile-${number}.tar`);
  };

  beforeAll(async () => {
    world = await makeWorld();
    scratch = (await world.export({ [APP]: signedImage() })).output;
    await world.pin(scratch);
    await world.import(scratch);
    genuine = (await world.export({ [APP]: signedImage(), [OTHER]: singleImage('core') }, { now: later(1) }))
      .output;
  });
  afterAll(() => world.close());

  /** Each attack is made on the second bundle, and the store must stay as the first left it. */
  async function expectRefused(file: string, code: ErrorCode, check?: string): Promise<void> {
    const before = world.storeState();
    await refusedWith(world.import(file, { now: later(1) }), code, check);
    expect(world.storeState()).toEqual(before);
  }

  test('the stick is swapped for one of another collection', async () => {
    const stranger = await world.stranger();
    const { output } = await stranger.export({ [APP]: singleImage('evil') });
    await expectRefused(output, 'not-pinned', 'root-chain');
  });

  test('pinning the swapped stick with the genuine fingerprint fails', async () => {
    const stranger = await world.stranger();
    const { output } = await stranger.export({ [APP]: singleImage('evil') });
    await refusedWith(world.pin(output), 'pin-mismatch');
  });

  test('the roots of another collection are put in front of genuine metadata', async () => {
    const stranger = await world.stranger();
    const { output } = await stranger.export({ [APP]: singleImage('evil') });
    const root = filesOf(output).get('metadata/1.root.json') as Buffer;
    await expectRefused(
      forge(genuine, target(), (files) => files.set('metadata/1.root.json', root)),
      'not-pinned',
    );
  });

  test('evidence is stripped', async () => {
    const file = forge(genuine, target(), (files, manifest) => {
      const gone = manifest.evidence[0]?.digest ?? '';
      files.delete(`blobs/${gone.replace(':', '/')}`);
      Object.assign(manifest, {
        evidence: manifest.evidence.filter(({ digest }) => digest !== gone),
        images: manifest.images.map((image) => ({
          ...image,
          evidence: image.evidence.filter((digest) => digest !== gone),
        })),
      });
    });
    await expectRefused(file, 'target-mismatch', 'bundle-manifest');
  });

  test('a signature blob is cut out of the archive only', async () => {
    const files = filesOf(genuine);
    const name = [...files.keys()].findLast((key) => key.startsWith('blobs/')) as string;
    files.delete(name);
    const file = target();
    writeArchive(file, files, later(1).getTime() / 1000);
    const before = world.storeState();
    await expect(world.import(file, { now: later(1) })).rejects.toThrow(
      expect.objectContaining({ category: 'malformed' }),
    );
    expect(world.storeState()).toEqual(before);
  });

  test('an image inside is renamed', async () => {
    const file = forge(genuine, target(), (_files, manifest) => {
      Object.assign(manifest, {
        images: manifest.images.map((image) =>
          image.name === APP ? { ...image, name: 'registry.example/zzz/core:9' } : image,
        ),
      });
    });
    await expectRefused(file, 'target-mismatch', 'bundle-manifest');
  });

  test('two names are exchanged in index.json only', async () => {
    const file = forge(genuine, target(), (files) => {
      const index = String(files.get('index.json'))
        .replaceAll(APP, 'X')
        .replaceAll(OTHER, APP)
        .replaceAll('X', OTHER);
      files.set('index.json', Buffer.from(index));
    });
    const before = world.storeState();
    await expect(world.import(file, { now: later(1) })).rejects.toThrow(
      expect.objectContaining({ category: 'trust' }),
    );
    expect(world.storeState()).toEqual(before);
  });

  test('a name is bound to another digest in the images role', async () => {
    const file = forge(genuine, target(), (files) => {
      const [name] = [...files.keys()].filter((key) => key.endsWith('.images.json'));
      const text = String(files.get(name as string));
      files.set(
        name as string,
        Buffer.from(text.replace(/[0-9a-f]{64}(?="[^"]*"?\},"length")/, 'a'.repeat(64))),
      );
    });
    const before = world.storeState();
    await expect(world.import(file, { now: later(1) })).rejects.toThrow(
      expect.objectContaining({ category: 'trust' }),
    );
    expect(world.storeState()).toEqual(before);
  });

  test.each([['timestamp'], ['snapshot'], ['targets'], ['images'], ['bundles']])(
    'the %s of an older bundle is mixed in',
    async (role) => {
      const old = filesOf(scratch);
      const file = forge(genuine, target(), (files) => {
        const pick = (names: Iterable<string>) =>
          [...names].find((name) => new RegExp(`^metadata/([0-9]+\\.)?${role}\\.json$`).test(name)) as string;
        const bytes = old.get(pick(old.keys())) as Buffer;
        files.set(pick(files.keys()), bytes);
      });
      const before = world.storeState();
      const accepted = await world.import(file, { now: later(1) }).then(
        () => true,
        () => false,
      );
      // targets did not change between the two bundles: mixing it in changes nothing, and only that may pass.
      expect(accepted).toBe(role === 'targets');
      if (!accepted) expect(world.storeState()).toEqual(before);
    },
  );

  test('a layer is damaged: trust moves, images do not', async () => {
    const fresh = await makeWorld();
    try {
      const first = (await fresh.export({ [APP]: singleImage('one') })).output;
      await fresh.pin(first);
      await fresh.import(first);
      const second = (await fresh.export({ [APP]: singleImage('two') }, { now: later(1) })).output;
      const layer = layerNames(second)[0] as string;
      const damaged = flip(second, path.join(fresh.directory, 'damaged.tar'), layer, 700);
      const before = fresh.imagesState();
      await refusedWith(fresh.import(damaged, { now: later(1) }), 'digest-mismatch', 'layers');
      expect(fresh.imagesState()).toEqual(before);
      const gate = await openGate(fresh.gate, { create: false });
      const [state] = await gate.collections();
      expect(state?.clockFloor).toBe('2026-03-02T00:00:00Z');
      // And so the first bundle can no longer be played back.
      await refusedWith(fresh.import(first, { now: later(1) }), 'rollback', 'timestamp');
    } finally {
      await fresh.close();
    }
  });
});

describe('a bundle that was signed, but not for now', () => {
  let world: World;
  beforeAll(async () => {
    world = await makeWorld();
  });
  afterAll(() => world.close());

  test("last year's bundle is played back", async () => {
    const old = (await world.export({ [APP]: singleImage('old') })).output;
    const current = (await world.export({ [APP]: singleImage('new') }, { now: later(1) })).output;
    await world.pin(old);
    await world.import(current, { now: later(1) });
    const before = world.storeState();
    await refusedWith(world.import(old, { now: later(1) }), 'rollback', 'timestamp');
    expect(world.storeState()).toEqual(before);
  });

  test('a bundle is imported after its trust has ended', async () => {
    const { output } = await world.export({ [APP]: singleImage('late') }, { now: later(2) });
    await refusedWith(world.import(output, { now: later(2 + 91) }), 'metadata-expired', 'timestamp');
  });

  test('the clock is set back so that an expired bundle looks fresh', async () => {
    const long = await makeWorld();
    try {
      const first = (await long.export({ [APP]: singleImage('a') }, { now: later(0) })).output;
      await long.pin(first);
      await long.import(first);
      const stale = (await long.export({ [APP]: singleImage('b') }, { now: later(40), lifetime: 10 * DAY }))
        .output;
      const newest = (await long.export({ [APP]: singleImage('c') }, { now: later(80) })).output;
      await long.import(newest, { now: later(80) });
      const after = (await long.export({ [APP]: singleImage('d') }, { now: later(41), lifetime: 10 * DAY }))
        .output;
      await refusedWith(long.import(after, { now: later(41) }), 'metadata-expired', 'timestamp');
      await refusedWith(long.import(stale, { now: later(41) }), 'rollback', 'timestamp');
    } finally {
      await long.close();
    }
  });

  test('a date in 2036 is signed', async () => {
    const far = await makeWorld({ lifetimes: { root: 6000 * DAY, targets: 6000 * DAY, images: 6000 * DAY } });
    try {
      const first = (await far.export({ [APP]: singleImage('now') })).output;
      await far.pin(first);
      await far.import(first);
      const before = far.storeState();
      const output = (
        await far.export({ [APP]: singleImage('2036') }, { now: new Date('2036-03-01T00:00:00Z') })
      ).output;
      await refusedWith(far.import(output), 'clock-jump', 'timestamp');
      expect(far.storeState()).toEqual(before);
      const allowed = await far.import(output, { allowClockJump: true });
      expect(allowed.weakened).toEqual([expect.objectContaining({ option: '--allow-clock-jump' })]);
    } finally {
      await far.close();
    }
  });

  test('nobody signs a bundle for longer than 400 days by mistake', async () => {
    await refusedWith(
      world.export({ [APP]: singleImage('long') }, { lifetime: 500 * DAY }),
      'lifetime-too-long',
    );
  });

  test('two copies of a collection make the same version with other content', async () => {
    const copy = world.fork();
    const mine = (await world.export({ [APP]: singleImage('day shift') }, { now: later(20) })).output;
    const theirs = (await copy.export({ [APP]: singleImage('night shift') }, { now: later(20) })).output;
    await world.import(mine, { now: later(20) });
    const before = world.storeState();
    await refusedWith(world.import(theirs, { now: later(20) }), 'fork', 'timestamp');
    expect(world.storeState()).toEqual(before);
  });
});
