/** A crash or a full disk at every step of an import leaves the images as they were, or as they are to be. */
import { cp, mkdtemp, readdir, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openStore, type Store } from '../../../core/store/store.ts';
import { sharingImages, signedImage } from '../../../fixtures/images.ts';
import { putBlobs, recordOf } from './fill.ts';
import { arm, disarm, faults } from './fs-faults.ts';

vi.mock('node:fs/promises', async (original) => {
  const { withFaults } = await import('./fs-faults.ts');
  return withFaults(await original());
});

const [one, two, three] = sharingImages();
const signed = signedImage();
const BEFORE = [recordOf('docker.io/acme/a:v1', one), recordOf('docker.io/acme/b:v1', one)];
/** Moves one name, adds one, and renews the record of one. */
const CHANGE = [
  recordOf('docker.io/acme/a:v1', two, { bundleVersion: 8 }),
  recordOf('docker.io/acme/c:v1', signed, { bundleVersion: 8 }),
];
const AFTER = [CHANGE[0], BEFORE[1], CHANGE[1]];

let directory: string;
let base: string;

beforeEach(async () => {
  directory = await mkdtemp(path.join(os.tmpdir(), 'store-crash-'));
  base = path.join(directory, 'base');
  await within(base, true, async (store) => {
    await putBlobs(store, [one, three]);
    await store.admit(BEFORE);
  });
});

afterEach(async () => {
  disarm();
  await rm(directory, { recursive: true, force: true });
});

async function within<T>(place: string, create: boolean, work: (store: Store) => Promise<T>): Promise<T> {
  const store = await openStore(place, { create });
  const lock = await store.lock(process.pid);
  try {
    return await work(store);
  } finally {
    disarm();
    await lock.release();
  }
}

describe.each(['crash', 'full'] as const)('%s', (mode) => {
  it.each([
    ['admit', (store: Store): Promise<unknown> => store.admit(CHANGE), AFTER],
    [
      'admit and withdraw together',
      (store: Store): Promise<unknown> => store.admit(CHANGE, { withdraw: ['docker.io/acme/b:v1'] }),
      CHANGE,
    ],
    ['withdraw', (store: Store): Promise<unknown> => store.withdraw(['docker.io/acme/a:v1']), [BEFORE[1]]],
  ])('during %s', async (_what, work, after) => {
    await within(base, false, (store) => putBlobs(store, [two, signed]));
    const seen = new Set<string>();
    for (let at = 0, reached = true; reached; at += 1) {
      const copy = path.join(directory, `copy-${at}`);
      await cp(base, copy, { recursive: true });
      const failed = await within(copy, false, async (store) => {
        arm(at, mode);
        return work(store).then(
          () => false,
          () => true,
        );
      });
      reached = faults.steps.length > at;
      const { images, notAdmitted } = await (await openStore(copy, { create: false })).list();
      expect(notAdmitted).toEqual([]);
      const isOld = JSON.stringify(images) === JSON.stringify(BEFORE);
      if (!isOld) expect(images).toEqual(after);
      if (!failed) expect(isOld).toBe(false);
      seen.add(`${failed ? 'failed' : 'done'} ${isOld ? 'old' : 'new'}`);
      await within(copy, false, work);
      const again = await openStore(copy, { create: false });
      expect((await again.list()).images).toEqual(after);
      await within(copy, false, (store) => store.gc({ dryRun: false }));
      expect(await readdir(path.join(copy, '.sealift', 'records'))).toHaveLength(after.length);
      await rm(copy, { recursive: true });
    }
    expect([...seen]).toEqual(expect.arrayContaining(['failed old', 'done new']));
  });

  it('during putBytes', async () => {
    for (let at = 0, reached = true; reached; at += 1) {
      const copy = path.join(directory, `copy-${at}`);
      await cp(base, copy, { recursive: true });
      await within(copy, false, async (store) => {
        arm(at, mode);
        await store.putBytes(CHANGE[0]!.digest, two.bytes).catch(() => undefined);
        await store.sync().catch(() => undefined);
      });
      reached = faults.steps.length > at;
      await within(copy, false, async (store) => {
        const isThere = await store.has(CHANGE[0]!.digest, two.size);
        if (isThere) expect(await store.readBlob(CHANGE[0]!.digest, two.size)).toEqual(two.bytes);
        await store.putBytes(CHANGE[0]!.digest, two.bytes);
        expect(await store.verifyBlob(CHANGE[0]!.digest, two.size)).toBe(true);
        expect(await readdir(path.join(copy, '.sealift', 'ingest'))).toEqual([]);
      });
    }
  });
});

it('a store whose making broke off is made by the next run', async () => {
  for (let at = 0, reached = true; reached; at += 1) {
    const place = path.join(directory, `new-${at}`);
    arm(at);
    const failed = await openStore(place, { create: true }).then(
      () => false,
      () => true,
    );
    reached = faults.steps.length > at;
    disarm();
    expect(failed).toBe(reached);
    expect((await (await openStore(place, { create: true })).list()).images).toEqual([]);
  }
});

it('the order is: blobs, their directories, records, index.json', async () => {
  await within(base, false, async (store) => {
    arm(Number.POSITIVE_INFINITY);
    await putBlobs(store, [two, signed]);
    await store.admit(CHANGE);
  });
  const at = (pattern: RegExp): number[] =>
    faults.steps.flatMap((step, index) => (pattern.test(step) ? [index] : []));
  const blobs = at(/^rename sha256\//);
  const directories = at(/^sync blobs\/sha256$/);
  const records = at(/^rename records\//);
  const recordsDirectory = at(/^sync \.sealift\/records$/);
  const index = at(/^rename base\/index\.json$/);
  expect([records.length, index.length]).toEqual([2, 1]);
  const order = [Math.max(...blobs), Math.max(...directories), Math.min(...records), Math.max(...records)];
  expect([...order, Math.max(...recordsDirectory), index[0]!]).toEqual(
    [...order, Math.max(...recordsDirectory), index[0]!].toSorted((a, b) => a - b),
  );
  for (const blob of blobs) expect(faults.steps[blob - 1]).toMatch(/^sync ingest\//);
  expect(faults.steps.slice(index[0])).toContain(`sync ${path.basename(directory)}/base`);
});
