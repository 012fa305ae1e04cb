/**
 * A year of monthly sticks over 24 images: lost, repeated, out of order, one damaged, one by a copy of the collection.
 * After each month the store holds exactly what was accepted last, whole, or is as it was before.
 */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { keptByReceipts } from '../../core/delta/kept.ts';
import { makeReceipt } from '../../core/delta/make-receipt.ts';
import { pinGateOfReceipt } from '../../core/delta/pin-gate.ts';
import type { ReceiptResult } from '../../core/results.ts';
import { openStore } from '../../core/store/store.ts';
import type { ImportOptions, SinceSpec } from '../../core/workflow-options.ts';
import {
  AMD64,
  ARM64,
  artifactImage,
  attachEvidence,
  digestsOf,
  type FixtureManifest,
  makeImage,
  makeIndex,
  makeLargeLayer,
  makeLayer,
  schema2Image,
  sha512Image,
} from '../../fixtures/images.ts';
import { blobDigests } from '../../fixtures/store.ts';
import { DAY, filesOf, flip, layerNames, makeWorld, START, type World } from '../../fixtures/world.ts';

const COUNT = 24;
const day = (month: number, plus = 0) => new Date(START.getTime() + (30 * (month - 1) + plus) * DAY);

/**
 * Image `number` as it is in `month`: a base that four share and that moves twice a year, a middle that moves every
 * quarter, and an application that moves every month for every fourth image, else twice a year.
 */
function imageOf(number: number, month: number): FixtureManifest {
  if (number === 21) return schema2Image();
  if (number === 22) return sha512Image();
  if (number === 23) return artifactImage();
  const moves = number % 4 === 0 ? month : Math.floor(month / 6);
  const layers = [
    makeLargeLayer(20_000, `base-${number % 6}-${Math.floor(month / 7)}`),
    makeLargeLayer(8_000, `middle-${number}-${Math.floor(month / 3)}`),
    makeLayer({ [`app-${number}`]: `version ${moves}\n`.repeat(50) }),
  ];
  const image =
    number % 8 === 1
      ? makeIndex(
          [AMD64, ARM64].map((platform) =>
            makeImage({ platform, layers: [...layers, makeLayer({ arch: platform.architecture })] }),
          ),
        )
      : makeImage({ layers });
  if (number % 5 === 0)
    attachEvidence(image, 'application/spdx+json', `{"spdxVersion":"SPDX-2.3","name":"${number}"}`);
  return image;
}

const nameOf = (number: number) => `registry.example/team/app-${String(number).padStart(2, '0')}:1`;

const made = new Map<number, Record<string, FixtureManifest>>();

function imagesOf(month: number): Record<string, FixtureManifest> {
  const images =
    made.get(month) ??
    Object.fromEntries(
      Array.from({ length: COUNT }, (_, number) => [nameOf(number), imageOf(number, month)]),
    );
  made.set(month, images);
  return images;
}

let world: World;
let receipts = 0;
/** What the store must hold: the images of the month that was accepted last. */
let accepted = 0;
const shipped: { month: number; bytes: number; whole: boolean }[] = [];

beforeAll(async () => {
  // The ceremony of the second year is another story.
  world = await makeWorld({ lifetimes: { targets: 700 * DAY } });
});
afterAll(() => world.close());

async function send(
  month: number,
  since?: SinceSpec,
  more: { plus?: number; world?: World } = {},
): Promise<string> {
  const from = more.world ?? world;
  const file = path.join(from.directory, `month-${month}-${more.plus ?? 0}.tar`);
  const { size, base } = await from.export(imagesOf(month), {
    file,
    now: day(month, more.plus),
    ...(since === undefined ? {} : { since }),
  });
  shipped.push({ month, bytes: size, whole: base === undefined });
  return file;
}

/** Imports a stick that is accepted, and checks the whole store. */
async function arrives(
  month: number,
  file: string,
  more: Partial<ImportOptions> & { plus?: number } = {},
): Promise<string> {
  const { plus, ...options } = more;
  const { code } = await world.import(file, { now: day(month, plus), ...options });
  accepted = month;
  await holdsExactly();
  return code ?? '';
}

/** Imports a stick that is refused, and checks that nothing has changed. */
async function isRefused(
  month: number,
  file: string,
  code: string,
  more: Partial<ImportOptions> & { plus?: number } = {},
): Promise<void> {
  const { plus, ...options } = more;
  const before = images();
  await expect(world.import(file, { now: day(month, plus), ...options })).rejects.toMatchObject({ code });
  expect(images()).toEqual(before);
  if (accepted > 0) await holdsExactly();
}

/** Names and records; the notes of receipts are no images. */
function images(): unknown {
  return Object.entries(world.imagesState() as object).filter(
    ([file]) => !file.startsWith('.sealift/receipts'),
  );
}

/** Every image of the month that was accepted last is there under its name, whole, and every blob is what it is named. */
async function holdsExactly(): Promise<void> {
  const want = imagesOf(accepted);
  const store = await openStore(world.store, { create: false });
  const { images: listed, notAdmitted } = await store.list();
  expect(notAdmitted).toEqual([]);
  expect(Object.fromEntries(listed.map(({ name, digest }) => [name, digest]))).toEqual(
    Object.fromEntries(Object.entries(want).map(([name, { digest }]) => [name, digest])),
  );
  // Reads and hashes all of them.
  const there = new Set(blobDigests(world.store));
  const missing = Object.values(want).flatMap((image) =>
    digestsOf(image).filter((digest) => !there.has(digest)),
  );
  expect(missing).toEqual([]);
}

async function receiptOf(month: number, plus = 0): Promise<{ file: string; made: ReceiptResult }> {
  receipts += 1;
  const file = path.join(world.directory, `receipt-${receipts}.json`);
  const made = await makeReceipt(
    {
      gate: world.gate,
      store: world.store,
      lifetime: 45 * DAY,
      output: { kind: 'file', path: file, force: false },
      pid: process.pid,
      actor: 'tester',
    },
    world.context(day(month, plus)),
  );
  return { file, made };
}

const fileSince = (file: string): SinceSpec => ({ kind: 'file', path: file });
const LAST: SinceSpec = { kind: 'last' };

test('a year of deltas, with all that happens to sticks', { timeout: 120_000 }, async () => {
  // January: everything, and a receipt, whose gate is pinned once.
  const january = await send(1);
  await world.pin(january);
  await arrives(1, january);
  const back = await receiptOf(1, 2);
  await pinGateOfReceipt(
    {
      collection: world.collection,
      receipt: back.file,
      fingerprint: back.made.receipt.gate,
      pid: process.pid,
    },
    world.context(day(1, 2)),
  );

  // February: by the receipt. What arrives is told on paper.
  const february = await send(2, fileSince(back.file));
  const code = await arrives(2, february);

  // March is made by the code, and lost on the way.
  const march = await send(3, { kind: 'code', code });
  // April takes March for arrived. It says what it lacks, and a request mends it.
  const april = await send(4, LAST);
  const request = path.join(world.directory, 'request.json');
  await isRefused(4, april, 'base-needed', { request });
  const mended = await send(4, fileSince(request), { plus: 3 });
  await arrives(4, mended, { plus: 3 });
  // The lost stick is found: as a statement it is too old.
  await isRefused(4, march, 'rollback', { plus: 4 });

  // May comes twice.
  const may = await send(5, LAST);
  await arrives(5, may);
  const twice = await world.import(may, { now: day(5, 1) });
  expect(twice).toMatchObject({ imported: [], written: { blobs: 0 } });
  await holdsExactly();

  // July comes before June: it takes the bytes of June, and June is too old then.
  const june = await send(6, LAST);
  const july = await send(7, LAST);
  await isRefused(7, july, 'base-needed');
  await arrives(7, july, { plus: 1, blobsFrom: [june] });
  await isRefused(7, june, 'rollback', { plus: 1 });

  // August is damaged on the stick: nothing of it is let in, and a second copy is.
  const august = await send(8, LAST);
  const damaged = flip(august, path.join(world.directory, 'damaged.tar'), layerNames(august)[0] ?? '', 40);
  await isRefused(8, damaged, 'digest-mismatch');
  await arrives(8, august, { plus: 1 });

  // September: a copy of the collection, keys and all, exports too. One of the two is accepted, never both.
  const copy = world.fork();
  const september = await send(9, LAST);
  const theirs = await send(10, undefined, { world: copy });
  await arrives(9, september);
  await isRefused(9, theirs, 'fork', { plus: 1 });
  const after = await receiptOf(9, 2);
  await expect(
    copy.export(imagesOf(10), { now: day(10), since: fileSince(after.file) }),
  ).rejects.toMatchObject({ code: expect.stringMatching(/^(fork|rollback)$/) as string });

  // October: garbage is collected in between, and the receipt keeps what it lists.
  const october = await send(10, fileSince(after.file));
  const store = await openStore(world.store, { create: false });
  const lock = await store.lock(process.pid);
  await store.gc({ dryRun: false, keep: await keptByReceipts(world.store, day(10), true) });
  await lock.release();
  await arrives(10, october);

  // November: the receipt has expired, so the code is read out instead; and the store has lost a layer.
  await expect(send(11, fileSince(after.file), { plus: 1 })).rejects.toMatchObject({
    code: 'receipt-expired',
  });
  const november = await send(11, LAST, { plus: 2 });
  const lost = leftOut(november)[0] ?? '';
  const bytes = readFileSync(path.join(world.store, lost));
  rmSync(path.join(world.store, lost));
  const before = images();
  await expect(world.import(november, { now: day(11, 2) })).rejects.toMatchObject({ code: 'base-needed' });
  expect(images()).toEqual(before);
  expect(world.events.some((event) => event.type === 'notice' && event.code === 'base-missing')).toBe(true);
  // The layer is in one of the old sticks, and which one need not be known.
  const drawer = [january, february, mended, may, june, july, august, september, october];
  await arrives(11, november, { plus: 3, blobsFrom: drawer });
  expect(readFileSync(path.join(world.store, lost))).toEqual(bytes);

  // December: nothing of the year is left open.
  const december = await send(12, fileSince((await receiptOf(11, 5)).file));
  await arrives(12, december);
  expect(existsSync(path.join(world.store, '.sealift/ingest'))).toBe(true);

  // What was carried: whole bundles are the first one and the copy's; every delta is smaller.
  const whole = shipped.filter((one) => one.whole);
  expect(whole.map(({ month }) => month)).toEqual([1, 10]);
  const most = Math.min(...whole.map((one) => one.bytes));
  for (const one of shipped.filter((each) => !each.whole)) expect(one.bytes).toBeLessThan(most);
});

/** Names of the blobs that a delta left out. */
function leftOut(file: string): string[] {
  const manifest = JSON.parse(String(filesOf(file).get('sealift.json'))) as {
    base?: { missing: { name: string }[] };
  };
  return manifest.base?.missing.map(({ name }) => name) ?? [];
}
