/**
 * What networks do to an export: a corrupt mirror beside a good one, connections that are slow each, one very large layer.
 *
 *   node test/bench/network.ts mirrors [--rounds 5] [--layers 16] [--layer-mib 32]
 *   node test/bench/network.ts ranges [--rounds 3] [--layer-mib 512] [--limit-mib 16]
 *   node test/bench/network.ts huge [--gigabytes 20]
 *
 * All with [--dir DIR] for the data (default: the directory for temporary files) and [--json FILE].
 * Exit 1 where a target is missed.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  globSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { buildIfStale } from '../../fixtures/cli.ts';
import { blobsOf, digestOf, largeImage, MEDIA, pushImage } from '../../fixtures/images.ts';
import { type RunningRegistry, startDockerRegistry } from '../../fixtures/registry.ts';
import { makeWalk, type Walk } from '../../fixtures/walk.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string' },
    dir: { type: 'string', default: os.tmpdir() },
    layers: { type: 'string', default: '16' },
    'layer-mib': { type: 'string' },
    'limit-mib': { type: 'string', default: '16' },
    gigabytes: { type: 'string', default: '20' },
    json: { type: 'string' },
  },
});
const MIB = 1024 * 1024;
const numbers: Record<string, unknown> = {
  node: process.version,
  cpus: os.cpus().length,
  directory: values.dir,
};

function median(list: readonly number[]): number {
  const sorted = [...list].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return (performance.now() - begun) / 1000;
}

function tell(what: string, value: string, met?: boolean): void {
  console.log(
    `${what.padEnd(60)} ${value.padStart(12)}${met === undefined ? '' : met ? '  met' : '  MISSED'}`,
  );
  if (met === false) process.exitCode = 1;
}

// ---------------------------------------------------------------- mirrors

/** Turns one byte around in the middle of every layer a registry keeps. */
function spoil(directory: string, digests: readonly string[]): void {
  for (const digest of digests) {
    const hex = digest.slice('sha256:'.length);
    const [file] = globSync(
      `${directory}/*/data/docker/registry/v2/blobs/sha256/${hex.slice(0, 2)}/${hex}/data`,
    );
    if (file === undefined) throw new Error(`the registry has no ${digest}`);
    const handle = openSync(file, 'r+');
    const byte = Buffer.alloc(1);
    const at = statSync(file).size >> 1;
    readSync(handle, byte, 0, 1, at);
    byte[0] = (byte[0] ?? 0) ^ 1;
    writeSync(handle, byte, 0, 1, at);
    closeSync(handle);
  }
}

async function mirrors(directory: string): Promise<void> {
  const [layers, size] = [Number(values.layers), Number(values['layer-mib'] ?? 32) * MIB];
  const image = largeImage(layers, size, 'mirrors');
  const homes = ['good', 'bad', 'own'].map((name) => mkdtempSync(path.join(directory, name)));
  const running: RunningRegistry[] = [];
  const walk = makeWalk(directory);
  try {
    for (const home of homes) running.push(await startDockerRegistry({ directory: home }));
    for (const { url } of running) await pushImage(url, 'team/app', 'v1', image);
    spoil(
      homes[1] ?? '',
      blobsOf(image)
        .slice(-layers)
        .map(({ digest }) => digest),
    );
    const [good, bad, own] = running.map(({ host }) => host);
    await walk.init();
    const times: Record<'good' | 'both', number[]> = { good: [], both: [] };
    const rounds = Number(values.rounds ?? 5);
    // One more before the first, for the page cache.
    for (let round = -1; round < rounds; round += 1) {
      const turns = [
        ['good', `${good}`],
        ['both', `${bad},${good}`],
      ] as const;
      for (const [kind, places] of round % 2 === 0 ? turns : turns.toReversed()) {
        const bundle = walk.sandbox.path('out.tar');
        const args = ['--mirror', `${own}=${places}`];
        let stderr = '';
        const time = await seconds(async () => {
          ({ stderr } = await walk.export([`${own}/team/app:v1`], bundle, { args, timeout: 1_200_000 }));
        });
        if (kind === 'both' && !stderr.includes(`${bad}/team/app: sends something else`))
          throw new Error('the corrupt mirror was not named');
        if (round >= 0) times[kind].push(time);
        rmSync(bundle);
      }
    }
    const ratio = median(times.both) / median(times.good);
    numbers['mirrors'] = { layers, size, rounds, times };
    tell(
      `the good mirror alone, ${layers} layers of ${size / MIB} MiB`,
      `${median(times.good).toFixed(2)} s`,
    );
    tell('a corrupt mirror before it', `${median(times.both).toFixed(2)} s`);
    tell('ratio (target 1.3)', ratio.toFixed(2), ratio <= 1.3);
  } finally {
    for (const registry of running) await registry.stop();
    walk.sandbox.remove();
  }
}

// ---------------------------------------------------------------- one layer from a server of our own

interface Layer {
  readonly digest: string;
  readonly size: number;
  /** Content from `start` up to but without `end`. */
  bytes(start: number, end: number): Iterable<Buffer>;
}

const BLOCK = MIB;
const noise = Buffer.alloc(BLOCK);
for (let i = 0; i < BLOCK; i += 32) createHash('sha256').update(`noise ${i}`).digest().copy(noise, i);

/** Blocks of noise with their number in front: no two are alike, and none costs anything. */
function makeLayer(size: number): Layer {
  const block = (index: number): Buffer => {
    const copy = Buffer.from(noise);
    copy.writeUIntBE(index, 0, 6);
    return copy;
  };
  function* bytes(start: number, end: number): Generator<Buffer> {
    for (let at = start; at < end; ) {
      const index = Math.floor(at / BLOCK);
      const to = Math.min(end, (index + 1) * BLOCK);
      yield block(index).subarray(at - index * BLOCK, to - index * BLOCK);
      at = to;
    }
  }
  const hash = createHash('sha256');
  for (const chunk of bytes(0, size)) hash.update(chunk);
  return { digest: `sha256:${hash.digest('hex')}`, size, bytes };
}

interface Served {
  readonly host: string;
  readonly manifest: Buffer;
  stop(): Promise<void>;
}

/** Resolves when more can be written, or never will be. */
function writable(response: http.ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const go = (): void => {
      response.off('drain', go).off('close', go);
      resolve();
    };
    response.on('drain', go).on('close', go);
  });
}

/** How fast a server is: bytes a second for each connection, or for all of them together. */
interface Speed {
  readonly bytes: number;
  readonly isShared: boolean;
}

/** Lets so many bytes a second pass. */
function createPace(bytesPerSecond: number): (bytes: number) => Promise<void> {
  let free = 0;
  return async (bytes) => {
    const now = performance.now();
    free = Math.max(free, now) + (bytes / bytesPerSecond) * 1000;
    if (free > now) await wait(free - now);
  };
}

/** A registry with one image of one layer. */
async function serveLayer(layer: Layer, speed?: Speed): Promise<Served> {
  const all = speed && createPace(speed.bytes);
  const config = Buffer.from(
    JSON.stringify({
      os: 'linux',
      architecture: 'amd64',
      rootfs: { type: 'layers', diff_ids: [layer.digest] },
    }),
  );
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA.manifest,
      config: { mediaType: MEDIA.config, digest: digestOf(config), size: config.length },
      layers: [
        { mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: layer.digest, size: layer.size },
      ],
    }),
  );
  const server = http.createServer(async (request, response) => {
    const url = request.url ?? '';
    if (url.endsWith(`/blobs/${layer.digest}`)) {
      const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
      const start = Number(range?.[1] ?? 0);
      const end = range?.[2] ? Number(range[2]) + 1 : layer.size;
      response.writeHead(range ? 206 : 200, {
        'content-length': end - start,
        ...(range ? { 'content-range': `bytes ${start}-${end - 1}/${layer.size}` } : {}),
      });
      const pace = speed?.isShared === false ? createPace(speed.bytes) : all;
      for (const chunk of layer.bytes(start, end)) {
        if (response.destroyed) return;
        if (!response.write(chunk)) await writable(response);
        await pace?.(chunk.length);
      }
      response.end();
    } else if (url.endsWith(`/blobs/${digestOf(config)}`)) response.end(config);
    else if (url.includes('/manifests/sha256-')) response.writeHead(404).end();
    else if (url.includes('/manifests/'))
      response.writeHead(200, { 'content-type': MEDIA.manifest }).end(manifest);
    else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    manifest,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** Where the measured program leaves its figures. */
function usageOf(walk: Walk): { env: Record<string, string>; peakMib(): number; cpuSeconds(): number } {
  const file = walk.sandbox.path('usage');
  const read = () => JSON.parse(readFileSync(file, 'utf8')) as { peakBytes: number; cpuSeconds: number };
  return {
    env: {
      NODE_OPTIONS: `--require ${path.join(import.meta.dirname, 'record-usage.cjs')}`,
      SEALIFT_BENCH_USAGE: file,
    },
    peakMib: () => read().peakBytes / MIB,
    cpuSeconds: () => read().cpuSeconds,
  };
}

/** One layer over one connection (`--concurrency 1`) and over up to four, in turns. */
async function ranges(directory: string): Promise<void> {
  const layer = makeLayer(Number(values['layer-mib'] ?? 512) * MIB);
  const limit = Number(values['limit-mib']) * MIB;
  const walk = makeWalk(directory);
  const rounds = Number(values.rounds ?? 3);
  const { env, peakMib, cpuSeconds } = usageOf(walk);
  try {
    await walk.init();
    for (const [title, speed, target] of [
      ['no limit', undefined, 1.1],
      [`${(limit * 2) / MIB} MiB/s for all connections`, { bytes: limit * 2, isShared: true }, 1.1],
      [`${limit / MIB} MiB/s for each connection`, { bytes: limit, isShared: false }, 0.5],
    ] as const) {
      const served = await serveLayer(layer, speed);
      try {
        const times: Record<1 | 4, number[]> = { 1: [], 4: [] };
        const peaks: Record<1 | 4, number[]> = { 1: [], 4: [] };
        const cpu: Record<1 | 4, number[]> = { 1: [], 4: [] };
        // One more before the first, for the page cache.
        for (let round = -1; round < rounds; round += 1) {
          for (const connections of round % 2 === 0 ? ([1, 4] as const) : ([4, 1] as const)) {
            const bundle = walk.sandbox.path('out.tar');
            const args = ['--concurrency', String(connections)];
            const time = await seconds(() =>
              walk.export([`${served.host}/team/app:v1`], bundle, { args, env, timeout: 1_200_000 }),
            );
            rmSync(bundle);
            if (round < 0) continue;
            times[connections].push(time);
            peaks[connections].push(peakMib());
            cpu[connections].push(cpuSeconds());
          }
        }
        numbers[title] = { times, peaks, cpu };
        for (const connections of [1, 4] as const) {
          tell(
            `${title}: ${layer.size / MIB} MiB, --concurrency ${connections}`,
            `${median(times[connections]).toFixed(2)} s`,
          );
          tell('  CPU', `${median(cpu[connections]).toFixed(2)} s`);
          tell('  peak memory', `${Math.max(...peaks[connections]).toFixed(0)} MiB`);
        }
        const ratio = median(times[4]) / median(times[1]);
        tell(`  ratio of the times (target ${target})`, ratio.toFixed(2), ratio <= target);
        const more = Math.max(...peaks[4]) - Math.max(...peaks[1]);
        tell('  more memory (target 48 MiB)', `${more.toFixed(0)} MiB`, more <= 48);
      } finally {
        await served.stop();
      }
    }
  } finally {
    walk.sandbox.remove();
  }
}

async function huge(directory: string): Promise<void> {
  const size = Math.round(Number(values.gigabytes) * 1e9);
  const layer = makeLayer(size);
  const served = await serveLayer(layer);
  const walk: Walk = makeWalk(directory);
  const { env, peakMib } = usageOf(walk);
  try {
    await walk.init();
    const bundle = walk.sandbox.path('out.tar');
    const timeout = 3_600_000;
    const exportSeconds = await seconds(() =>
      walk.export([`${served.host}/team/app:v1`], bundle, { env, timeout }),
    );
    const exportPeak = peakMib();
    tell(`export of one layer of ${values.gigabytes} GB`, `${exportSeconds.toFixed(0)} s`);
    tell('  peak memory (target 200 MiB)', `${exportPeak.toFixed(0)} MiB`, exportPeak <= 200);
    await walk.pin(bundle, await walk.rootFingerprint());
    const store = walk.sandbox.path('store');
    const importSeconds = await seconds(() => walk.import(bundle, { store, env, timeout }));
    const importPeak = peakMib();
    tell('import of it', `${importSeconds.toFixed(0)} s`);
    tell('  peak memory (target 200 MiB)', `${importPeak.toFixed(0)} MiB`, importPeak <= 200);
    const kept = statSync(path.join(store, 'blobs/sha256', layer.digest.slice('sha256:'.length))).size;
    tell('  the layer in the store', `${kept}`, kept === size);
    numbers['huge'] = { size, exportSeconds, exportPeak, importSeconds, importPeak };
  } finally {
    await served.stop();
    walk.sandbox.remove();
  }
}

const work = { mirrors, ranges, huge }[positionals[0] ?? ''];
if (work === undefined) throw new Error('want mirrors, ranges or huge');
buildIfStale();
const directory = mkdtempSync(path.join(values.dir, 'sealift-bench-'));
try {
  await work(directory);
} finally {
  rmSync(directory, { recursive: true, force: true });
}
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(numbers, null, 2)}\n`);
