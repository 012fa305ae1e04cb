/**
 * A bundle in volumes beside the same in one file: export, verification and import, interleaved; medians, peak memory and
 * bytes written over those of the bundle.
 *
 *   node test/bench/volumes.ts [--mib 1024] [--volume 100MiB] [--rounds 3] [--dir DIR]
 */
import { mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { buildIfStale, succeeded } from '../../fixtures/cli.ts';
import { largeImage, makeLayout } from '../../fixtures/images.ts';
import { makeWalk } from '../../fixtures/walk.ts';

const { values } = parseArgs({
  options: {
    mib: { type: 'string', default: '1024' },
    volume: { type: 'string', default: '100MiB' },
    rounds: { type: 'string', default: '3' },
    dir: { type: 'string', default: os.tmpdir() },
  },
});

interface Measured {
  readonly seconds: number;
  readonly peakBytes: number;
  readonly writtenBytes: number;
}

const MIB = 1024 * 1024;
const LAYERS = 8;
const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >> 1] ?? 0;

buildIfStale();
mkdirSync(values.dir, { recursive: true });
const walk = makeWalk(values.dir);
const usage = walk.sandbox.path('usage');
const env = {
  NODE_OPTIONS: `--require ${path.join(import.meta.dirname, 'record-usage.cjs')}`,
  SEALIFT_BENCH_USAGE: usage,
};
const results = new Map<string, Measured[]>();

async function measure(what: string, run: () => Promise<unknown>): Promise<void> {
  const began = performance.now();
  await run();
  const seconds = (performance.now() - began) / 1000;
  const used = JSON.parse(readFileSync(usage, 'utf8')) as Omit<Measured, 'seconds'>;
  results.set(what, [...(results.get(what) ?? []), { seconds, ...used }]);
}

try {
  const layout = walk.sandbox.path('layout');
  makeLayout(layout, [{ name: 'large', root: largeImage(LAYERS, (Number(values.mib) / LAYERS) * MIB) }]);
  const image = [`registry.example/large:1=oci:${layout}:large`];
  await walk.init({ keys: 'native' });
  const file = walk.sandbox.path('plain', 'images.tar');
  const volumes = walk.sandbox.path('volumes');
  const again = walk.sandbox.path('again');
  const store = walk.sandbox.path('store');
  const media = walk.sandbox.path('medium');
  let bytes = 0;
  for (let round = 0; round < Number(values.rounds); round += 1) {
    for (const one of [path.dirname(file), volumes, again, media])
      rmSync(one, { recursive: true, force: true });
    await measure('export into one file', () => walk.export(image, file, { env }));
    await measure('export into volumes', () =>
      walk.export(image, path.join(volumes, 'images.tar'), { env, args: ['--volume-size', values.volume] }),
    );
    bytes = statSync(file).size;
    if (round === 0) await walk.pin(file, await walk.rootFingerprint());
    await measure('bundle split', async () =>
      succeeded(
        await walk.sandbox.run(['bundle', 'split', file, '--volume-size', values.volume, '-o', again], {
          env,
        }),
        'split',
      ),
    );
    for (const [what, bundle] of [
      ['one file', file],
      ['volumes', again],
    ] as const) {
      await measure(`verify ${what}`, async () =>
        succeeded(await walk.sandbox.run(['verify', bundle], { env }), `verify ${what}`),
      );
      rmSync(store, { recursive: true, force: true });
      await measure(`import ${what}`, () => walk.import(bundle, { env }));
    }
    rmSync(store, { recursive: true, force: true });
    mkdirSync(media);
    // Each volume is there only while it is wanted, as on media that are changed.
    const next = `rm -f ${media}/*.tar.* && ln ${again}/$(basename "$SEALIFT_VOLUME_PATH") ${media}/`;
    succeeded(await walk.sandbox.run(['version'], {}), 'version');
    await measure('import media one by one', async () => {
      const { linkSync } = await import('node:fs');
      linkSync(path.join(again, 'images.tar.001'), path.join(media, 'images.tar.001'));
      await walk.import(path.join(media, 'images.tar.001'), { env, args: ['--volume-command', next] });
    });
  }
  console.log(
    `bundle of ${(bytes / MIB).toFixed(0)} MiB, volumes of ${values.volume}, ${values.rounds} rounds`,
  );
  for (const [what, list] of results) {
    const seconds = median(list.map((one) => one.seconds));
    const peak = Math.max(...list.map((one) => one.peakBytes)) / MIB;
    const written = median(list.map((one) => one.writtenBytes)) / bytes;
    console.log(
      `${what.padEnd(24)} ${seconds.toFixed(2).padStart(6)} s  ${peak.toFixed(0).padStart(4)} MiB peak  ${written.toFixed(3)} of the bundle written`,
    );
  }
} finally {
  walk.sandbox.remove();
}
