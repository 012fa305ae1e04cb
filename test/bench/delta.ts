/**
 * What a delta costs against shipping everything, on the built program.
 *
 *   node test/bench/delta.ts [--images 24] [--months 6] [--layer-mib 8] [--changed 0.2] [--many 10000] [--dir DIR]
 *
 * First: `images` images of three layers each; each month the top layers of a share `changed` of them are new. The same
 * months go out as whole bundles and as deltas by receipt, into two stores, whose blobs must be the same at the end.
 * Second: `many` small images that have not changed go out again: the bundle must hold no layer, and the seconds are
 * told; 0 leaves it out. Exit 1 where a delta carries a layer that the other side held, or the stores differ.
 */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { buildIfStale, succeeded } from '../../fixtures/cli.ts';
import {
  type FixtureManifest,
  makeImage,
  makeLargeLayer,
  makeLayer,
  makeLayout,
} from '../../fixtures/images.ts';
import { makeWalk, type Walk } from '../../fixtures/walk.ts';
import { filesOf } from '../../fixtures/world.ts';

const { values } = parseArgs({
  options: {
    images: { type: 'string', default: '24' },
    months: { type: 'string', default: '6' },
    'layer-mib': { type: 'string', default: '8' },
    changed: { type: 'string', default: '0.2' },
    many: { type: 'string', default: '10000' },
    dir: { type: 'string', default: os.tmpdir() },
  },
});
const MIB = 1024 * 1024;
const images = Number(values.images);
const months = Number(values.months);
const layerBytes = Number(values['layer-mib']) * MIB;
const every = Math.max(1, Math.round(1 / Number(values.changed)));
const LONG = { timeout: 3_600_000 };
const faults: string[] = [];

interface Bundle {
  readonly base?: { readonly missing: readonly object[] };
  readonly entries: readonly { readonly name: string; readonly kind?: string }[];
}

function print(...cells: readonly string[]): void {
  process.stdout.write(
    `${cells.map((cell, at) => (at === 0 ? cell.padEnd(34) : cell.padStart(at === cells.length - 1 ? 20 : 14))).join('')}\n`,
  );
}
const mib = (bytes: number): string => `${(bytes / MIB).toFixed(1)} MiB`;
const s = (seconds: number): string => `${seconds.toFixed(1)} s`;

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

function blobsOf(store: string): string {
  return readdirSync(path.join(store, 'blobs/sha256')).sort().join();
}

function layersIn(file: string): number {
  const { entries } = JSON.parse(String(filesOf(file).get('sealift.json'))) as Bundle;
  return entries.filter(({ kind }) => kind === 'layer').length;
}

async function ready(directory: string, first: readonly string[]): Promise<{ walk: Walk; file: string }> {
  mkdirSync(directory, { recursive: true });
  const walk = makeWalk(directory);
  await walk.init({ keys: 'native' });
  const file = walk.sandbox.path('first.tar');
  await walk.export(first, file, LONG);
  await walk.pin(file, await walk.rootFingerprint());
  return { walk, file };
}

async function receiptIn(walk: Walk, pin: boolean): Promise<string> {
  const file = walk.sandbox.path('receipt.json');
  const made = await walk.json<{ receipt: { gate: string } }>(['receipt', '--output', file], LONG);
  if (pin)
    succeeded(
      await walk.sandbox.run(['trust', 'pin-gate', file, '--fingerprint', made.receipt.gate]),
      'pin-gate',
    );
  return file;
}

function imageIn(number: number, month: number): FixtureManifest {
  const version = Math.floor((month + number) / every);
  return makeImage({
    layers: [
      makeLargeLayer(layerBytes, `base-${number % 4}`),
      makeLargeLayer(layerBytes, `middle-${number}`),
      makeLargeLayer(Math.round(layerBytes / 4), `top-${number}-${version}`),
    ],
  });
}

async function compareMonths(directory: string): Promise<void> {
  const layout = (month: number): string[] => {
    const place = path.join(directory, `month-${month}`);
    const named = Array.from({ length: images }, (_, number) => ({
      name: `registry.example/bench/app-${number}:1`,
      root: imageIn(number, month),
    }));
    makeLayout(place, named);
    return [`oci:${place}`];
  };
  const whole = await ready(path.join(directory, 'whole'), layout(0));
  const delta = await ready(path.join(directory, 'delta'), [`oci:${path.join(directory, 'month-0')}`]);
  for (const { walk, file } of [whole, delta]) await walk.import(file, LONG);
  print('month', 'whole', 'export', 'import', 'delta', 'export', 'import');
  const total = { whole: 0, delta: 0, wholeSeconds: 0, deltaSeconds: 0 };
  for (let month = 1; month <= months; month += 1) {
    const from = layout(month);
    const all = whole.walk.sandbox.path('month.tar');
    const part = delta.walk.sandbox.path('month.tar');
    const receipt = await receiptIn(delta.walk, month === 1);
    const times = [
      await seconds(() => whole.walk.export(from, all, LONG)),
      await seconds(() => whole.walk.import(all, LONG)),
      await seconds(() => delta.walk.export(from, part, { ...LONG, args: ['--since', receipt] })),
      await seconds(() => delta.walk.import(part, LONG)),
    ] as const;
    const sizes = [statSync(all).size, statSync(part).size] as const;
    print(`${month}`, mib(sizes[0]), s(times[0]), s(times[1]), mib(sizes[1]), s(times[2]), s(times[3]));
    total.whole += sizes[0];
    total.delta += sizes[1];
    total.wholeSeconds += times[0] + times[1];
    total.deltaSeconds += times[2] + times[3];
    rmSync(all);
    rmSync(part);
    rmSync(path.join(directory, `month-${month - 1}`), { recursive: true });
  }
  print('together', mib(total.whole), s(total.wholeSeconds), '', mib(total.delta), s(total.deltaSeconds), '');
  print(
    'delta to whole',
    (total.delta / total.whole).toFixed(3),
    (total.deltaSeconds / total.wholeSeconds).toFixed(2),
  );
  if (blobsOf(whole.walk.sandbox.path('store')) !== blobsOf(delta.walk.sandbox.path('store')))
    faults.push('the two stores do not have the same blobs');
}

async function unchangedMany(directory: string, count: number): Promise<void> {
  const place = path.join(directory, 'many');
  const shared = makeLargeLayer(MIB, 'shared');
  makeLayout(
    place,
    Array.from({ length: count }, (_, number) => ({
      name: `registry.example/many/app-${number}:1`,
      root: makeImage({ layers: [shared, makeLayer({ app: `${number}\n`.repeat(3000) })] }),
    })),
  );
  const { walk, file } = await ready(directory, [`oci:${place}`]);
  const imported = await seconds(() => walk.import(file, LONG));
  let receipt = '';
  const told = await seconds(async () => {
    receipt = await receiptIn(walk, true);
  });
  const again = walk.sandbox.path('again.tar');
  const out = await seconds(() =>
    walk.export([`oci:${place}`], again, { ...LONG, args: ['--since', receipt] }),
  );
  const taken = await seconds(() => walk.import(again, LONG));
  print(`${count} unchanged images`, 'bundle', 'export', 'import', 'receipt');
  print('whole, the first time', mib(statSync(file).size), '', s(imported), '');
  print('delta', mib(statSync(again).size), s(out), s(taken), `${mib(statSync(receipt).size)}, ${s(told)}`);
  const carried = layersIn(again);
  if (carried > 0) faults.push(`${carried} layers of unchanged images were carried again`);
}

buildIfStale();
const directory = mkdtempSync(path.join(values.dir, 'sealift-delta-'));
try {
  if (images > 0) await compareMonths(path.join(directory, 'a'));
  if (Number(values.many) > 0) await unchangedMany(path.join(directory, 'b'), Number(values.many));
} finally {
  rmSync(directory, { recursive: true, force: true });
}
for (const fault of faults) process.stderr.write(`${fault}\n`);
process.exitCode = faults.length > 0 ? 1 : 0;
