/**
 * Times of export and import beside skopeo's, peak memory, bytes written, start-up. Runs are interleaved, so
 * that a slow spell of the machine hits both; medians of the rounds are compared.
 *
 *   node test/bench/bench.ts [--rounds 5] [--dir DIR] [--layers 16] [--layer-mib 64] [--large] [--json FILE]
 *                            [--startup-only] [--no-startup]
 *
 * --dir: where all data goes (default: the directory for temporary files); /dev/shm takes the disk out.
 * --large: one more export and import of 4 GiB, for the memory that must not grow with it.
 * Exit 1 where a target is missed.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { buildIfStale, programFile, runProgram, succeeded } from '../../fixtures/cli.ts';
import { largeImage, pushImage } from '../../fixtures/images.ts';
import { hasPeer } from '../../fixtures/peers.ts';
import { startDockerRegistry } from '../../fixtures/registry.ts';
import { makeWalk, type Walk } from '../../fixtures/walk.ts';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    dir: { type: 'string', default: os.tmpdir() },
    layers: { type: 'string', default: '16' },
    'layer-mib': { type: 'string', default: '64' },
    large: { type: 'boolean', default: false },
    json: { type: 'string' },
    'startup-only': { type: 'boolean', default: false },
    'no-startup': { type: 'boolean', default: false },
  },
});

interface Usage {
  readonly peakBytes: number;
  readonly writtenBytes: number;
}

interface Row {
  readonly what: string;
  readonly got: string;
  readonly target: string;
  readonly met: boolean;
}

const MIB = 1024 * 1024;
const TARGETS = { export: 0.35, import: 0.35, memory: 200 * MIB, written: 1.02, version: 1.6, help: 3 };
const rows: Row[] = [];
const numbers: Record<string, unknown> = {
  node: process.version,
  cpus: os.cpus().length,
  directory: values.dir,
};

function row(what: string, value: number, target: number, format: (value: number) => string): void {
  rows.push({ what, got: format(value), target: `<= ${format(target)}`, met: value <= target });
}
const ratio = (value: number): string => value.toFixed(2);
const mib = (value: number): string => `${(value / MIB).toFixed(0)} MiB`;

function median(list: readonly number[]): number {
  const sorted = [...list].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return (performance.now() - begun) / 1000;
}

/** Environment that makes the measured program leave its usage in `file`. */
function measured(file: string): Record<string, string> {
  return {
    NODE_OPTIONS: `--require ${path.join(import.meta.dirname, 'record-usage.cjs')}`,
    SEALIFT_BENCH_USAGE: file,
  };
}

async function startUp(): Promise<void> {
  const env = { PATH: process.env['PATH'], HOME: '/nonexistent' };
  const once = (args: string[]): Promise<number> =>
    seconds(async () => succeeded(await runProgram(process.execPath, args, { env }), args.join(' ')));
  const program = programFile();
  const times: Record<'bare' | 'version' | 'help', number[]> = { bare: [], version: [], help: [] };
  for (let round = 0; round < 21; round++) {
    times.bare.push(await once(['-e', '0']));
    times.version.push(await once([program, '--version']));
    times.help.push(await once([program, '--help']));
  }
  const bare = median(times.bare);
  numbers['startUp'] = { bare, version: median(times.version), help: median(times.help) };
  row('start-up, --version to bare Node', median(times.version) / bare, TARGETS.version, ratio);
  row('start-up, --help to bare Node', median(times.help) / bare, TARGETS.help, ratio);
}

async function skopeo(args: readonly string[], temporary: string): Promise<void> {
  succeeded(
    await runProgram('skopeo', ['--insecure-policy', 'copy', '-q', ...args], {
      timeout: 1_200_000,
      env: { ...process.env, TMPDIR: temporary },
    }),
    `skopeo copy ${args.join(' ')}`,
  );
}

interface Pair {
  readonly bundle: string;
  readonly exportUsage: Usage;
  readonly importUsage: Usage;
  readonly exportSeconds: number;
  readonly importSeconds: number;
}

/** One export and one import of ours, the bundle removed by the caller. */
async function ours(walk: Walk, source: string, name: string): Promise<Pair> {
  const bundle = walk.sandbox.path('out.sealift');
  const usage = (kind: string): string => walk.sandbox.path(`${kind}.usage`);
  const read = (kind: string): Usage => JSON.parse(readFileSync(usage(kind), 'utf8')) as Usage;
  const exportSeconds = await seconds(() =>
    walk.export([`${name}=docker://${source}`], bundle, {
      env: measured(usage('export')),
      timeout: 1_200_000,
    }),
  );
  const store = walk.sandbox.path('bench-store');
  const importSeconds = await seconds(() =>
    walk.import(bundle, { store, env: measured(usage('import')), timeout: 1_200_000 }),
  );
  rmSync(store, { recursive: true });
  return { bundle, exportUsage: read('export'), importUsage: read('import'), exportSeconds, importSeconds };
}

async function transfers(directory: string): Promise<void> {
  const registry = await startDockerRegistry({ directory });
  const walk = makeWalk(directory);
  try {
    const layers = Number(values.layers);
    const size = Number(values['layer-mib']) * MIB;
    const total = layers * size;
    await pushImage(registry.url, 'bench/image', 'v1', largeImage(layers, size, 'bench'));
    const source = `${registry.host}/bench/image:v1`;
    const name = 'bench.example/image:v1';
    await walk.init();
    const root = await walk.rootFingerprint();
    const times = { ourExport: [], ourImport: [], theirExport: [], theirImport: [] } as Record<
      string,
      number[]
    >;
    const usage: Pair[] = [];
    let bundleSize = 0;
    const rounds = Number(values.rounds);
    for (let round = 0; round < rounds; round++) {
      const archive = walk.sandbox.path('skopeo.tar');
      const layout = walk.sandbox.path('skopeo-layout');
      const theirs = async (): Promise<void> => {
        times['theirExport']?.push(
          await seconds(() =>
            skopeo(['--src-tls-verify=false', `docker://${source}`, `oci-archive:${archive}:v1`], directory),
          ),
        );
        times['theirImport']?.push(
          await seconds(() => skopeo([`oci-archive:${archive}:v1`, `oci:${layout}:v1`], directory)),
        );
        rmSync(archive);
        rmSync(layout, { recursive: true });
      };
      const mine = async (): Promise<void> => {
        if (round === 0) await pinFirst(walk, source, name, root);
        const pair = await ours(walk, source, name);
        times['ourExport']?.push(pair.exportSeconds);
        times['ourImport']?.push(pair.importSeconds);
        usage.push(pair);
        bundleSize = statSync(pair.bundle).size;
        rmSync(pair.bundle);
      };
      for (const turn of round % 2 === 0 ? [mine, theirs] : [theirs, mine]) await turn();
      process.stderr.write(`round ${round + 1} of ${rounds}\n`);
    }
    const middle = Object.fromEntries(
      Object.entries(times).map(([key, list]) => [key, median(list)]),
    ) as Record<'ourExport' | 'ourImport' | 'theirExport' | 'theirImport', number>;
    numbers['transfer'] = { bytes: total, layers, rounds, bundleSize, medians: middle, all: times };
    row(
      'export to skopeo docker:// -> oci-archive:',
      middle.ourExport / middle.theirExport,
      TARGETS.export,
      ratio,
    );
    row(
      'import to skopeo oci-archive: -> oci:',
      middle.ourImport / middle.theirImport,
      TARGETS.import,
      ratio,
    );
    report('', usage, bundleSize);
    if (values.large) {
      await pushImage(
        registry.url,
        'bench/large',
        'v1',
        largeImage(layers, (4096 * MIB) / layers, 'bench-large'),
      );
      const pair = await ours(walk, `${registry.host}/bench/large:v1`, 'bench.example/large:v1');
      const large = statSync(pair.bundle).size;
      numbers['large'] = pair;
      report(', 4 GiB', [pair], large);
    }
  } finally {
    await registry.stop();
    walk.sandbox.remove();
  }
}

function report(suffix: string, usage: readonly Pair[], bundleSize: number): void {
  const peak = (list: readonly Usage[]): number => Math.max(...list.map((one) => one.peakBytes));
  const written = (list: readonly Usage[]): number =>
    Math.max(...list.map((one) => one.writtenBytes)) / bundleSize;
  const exports = usage.map((pair) => pair.exportUsage);
  const imports = usage.map((pair) => pair.importUsage);
  row(`export, peak memory${suffix}`, peak(exports), TARGETS.memory, mib);
  row(`import, peak memory${suffix}`, peak(imports), TARGETS.memory, mib);
  row(`export, bytes written to bundle size${suffix}`, written(exports), TARGETS.written, (value) =>
    value.toFixed(3),
  );
  row(`import, bytes written to bundle size${suffix}`, written(imports), TARGETS.written, (value) =>
    value.toFixed(3),
  );
}

/** The first bundle of the gate, and a warm page cache for both sides. */
async function pinFirst(walk: Walk, source: string, name: string, root: string): Promise<void> {
  const bundle = walk.sandbox.path('first.sealift');
  await walk.export([`${name}=docker://${source}`], bundle, { timeout: 1_200_000 });
  await walk.pin(bundle, root);
  rmSync(bundle);
}

buildIfStale();
mkdirSync(values.dir, { recursive: true });
const directory = mkdtempSync(path.join(values.dir, 'sealift-bench-'));
try {
  if (!values['no-startup']) await startUp();
  if (!values['startup-only']) {
    if (!hasPeer('skopeo') || !hasPeer('docker-registry')) {
      throw new Error('the bench needs skopeo and docker-registry on the PATH');
    }
    await transfers(directory);
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
const width = Math.max(...rows.map((one) => one.what.length));
for (const one of rows) {
  console.log(
    `${one.what.padEnd(width)}  ${one.got.padStart(9)}  ${one.target.padStart(11)}  ${one.met ? 'met' : 'MISSED'}`,
  );
}
const document = JSON.stringify({ ...numbers, rows }, null, 2);
if (values.json !== undefined) writeFileSync(values.json, `${document}\n`);
else console.log(document);
if (rows.some((one) => !one.met)) process.exitCode = 1;
