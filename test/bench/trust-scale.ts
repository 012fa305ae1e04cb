/**
 * Time and memory of what a large collection makes slow: 10,000 images under 200 namespaces, and half and a quarter
 * of that, so that growth shows. Each step runs in a process of its own.
 *
 *   node test/bench/trust-scale.ts [--sizes 2500,5000,10000] [--keys native|openpgp] [--dir DIR] [--json FILE]
 *
 * The file is bundled first, as sealift is. There is one namespace for 50 images. Seconds are CPU seconds where the machine is busy otherwise (--cpu), else of
 * the clock. Exit 1 where a step of the largest size takes more than 2 s or 300 MiB, or grows more than linearly by half.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { exportBundle } from '../../core/export.ts';
import { importBundle } from '../../core/import.ts';
import { DEFAULT_LIMITS } from '../../core/limits.ts';
import { createWorkerPool } from '../../core/pool/worker-pool.ts';
import { createCollection, openCollection } from '../../core/trust/collection.ts';
import { pinRoot, readRoot, trustStatus } from '../../core/trust-admin.ts';
import {
  addDelegation,
  addNames,
  exportKey,
  listKeys,
  listNames,
  publishRequest,
  withdrawNames,
} from '../../core/trust-ops/index.ts';
import { DAY, SOURCE_OPTIONS, START, TEST_PASSPHRASE } from '../../fixtures/world.ts';

const { values } = parseArgs({
  options: {
    sizes: { type: 'string', default: '2500,5000,10000' },
    keys: { type: 'string', default: 'native' },
    dir: { type: 'string', default: os.tmpdir() },
    json: { type: 'string' },
    cpu: { type: 'boolean', default: false },
    step: { type: 'string' },
    work: { type: 'string' },
    size: { type: 'string' },
  },
});

const IMAGES_OF_NAMESPACE = 50;
const MIB = 1024 * 1024;
const LIMITS = { seconds: 2, bytes: 300 * MIB, growth: 1.5 };

interface Measured {
  readonly seconds: number;
  readonly cpu: number;
  readonly peakBytes: number;
}

const work = values.work ?? '';
const size = Number(values.size ?? 0);
const collection = path.join(work, 'collection');
const gate = path.join(work, 'gate');
const store = path.join(work, 'store');
const namespaces = Math.max(1, Math.round(size / IMAGES_OF_NAMESPACE));
const passphrase = async (): Promise<string> => TEST_PASSPHRASE;
const ops = { collection, passphrase, pid: process.pid };

function contextAt(day: number) {
  return {
    now: new Date(START.getTime() + day * DAY),
    signal: new AbortController().signal,
    emit: () => undefined,
    limits: DEFAULT_LIMITS,
    pool: createWorkerPool({ size: 0 }),
  };
}

const prefixOf = (index: number): string => `registry.example/team-${index % namespaces}/`;

function targetsFor(numbers: readonly number[], revision: string) {
  return new Map(
    numbers.map((index) => [
      `${prefixOf(index)}application-${Math.floor(index / namespaces)}:1.0`,
      {
        length: 1000 + index,
        sha256: createHash('sha256').update(`${revision} ${index}`).digest('hex'),
        mediaType: 'application/vnd.oci.image.manifest.v1+json',
      },
    ]),
  );
}

const bundleOf = (name: string): string => path.join(work, `${name}.tar`);

async function exportMetadata(name: string, day: number): Promise<void> {
  await exportBundle(
    {
      collection,
      images: [],
      output: { kind: 'file', path: bundleOf(name) },
      platforms: [],
      lifetime: 90 * DAY,
      includeEvidence: true,
      dockerArchive: false,
      force: false,
      concurrency: 1,
      source: SOURCE_OPTIONS,
      passphrase,
      pid: process.pid,
      metadataOnly: true,
    },
    contextAt(day),
  );
}

async function importMetadata(name: string, day: number): Promise<void> {
  await importBundle(
    {
      bundle: { kind: 'file', path: bundleOf(name) },
      gate,
      store,
      only: [],
      overrides: { allowClockJump: false },
      concurrency: 1,
      pid: process.pid,
      actor: 'bench',
    },
    contextAt(day),
  );
}

/** In order; what stands in brackets prepares and is not judged. */
const STEPS: Record<string, () => Promise<unknown>> = {
  init: async () => {
    await createCollection({
      directory: collection,
      name: 'bench',
      keys: values.keys === 'openpgp' ? 'openpgp' : 'native',
      passphrase: TEST_PASSPHRASE,
      recoveryPassphrase: TEST_PASSPHRASE,
      recoveryFile: path.join(work, 'recovery'),
      created: START,
      limits: DEFAULT_LIMITS,
    });
  },
  '(namespaces)': async () => {
    const { keys } = await listKeys(ops, contextAt(0));
    const half = await exportKey({ ...ops, key: keys[0]?.keyId ?? '' }, contextAt(0));
    writeFileSync(path.join(work, 'public'), half.text);
    for (let index = 0; index < namespaces - 1; index += 1)
      await addDelegation(
        { ...ops, prefix: prefixOf(index), add: [path.join(work, 'public')] },
        contextAt(0),
      );
  },
  'add a namespace': () =>
    addDelegation(
      { ...ops, prefix: prefixOf(namespaces - 1), add: [path.join(work, 'public')] },
      contextAt(0),
    ),
  'add all names': () =>
    addNames({ ...ops, images: targetsFor([...Array(size).keys()], 'one') }, contextAt(0)),
  export: () => exportMetadata('first', 0),
  '(pin)': async () => {
    const { fingerprint } = await readRoot(collection, contextAt(0));
    await pinRoot(
      { gate, source: bundleOf('first'), fingerprint, scopes: [], pid: process.pid, actor: 'bench' },
      contextAt(0),
    );
  },
  'first import': () => importMetadata('first', 0),
  'add a name': () => addNames({ ...ops, images: targetsFor([7], 'two') }, contextAt(1)),
  'withdraw a name': () =>
    withdrawNames({ ...ops, names: [...targetsFor([8], 'one').keys()], reason: 'bench' }, contextAt(1)),
  'ask for a name': () =>
    addNames(
      { ...ops, images: targetsFor([9], 'two'), request: path.join(work, 'request.json') },
      contextAt(1),
    ),
  publish: () => publishRequest({ ...ops, requests: [path.join(work, 'request.json')] }, contextAt(1)),
  'next export': () => exportMetadata('second', 1),
  'next import': () => importMetadata('second', 1),
  'trust list': () => listNames({ collection, roles: [] }, contextAt(1)),
  'trust status': () => trustStatus({ gate }, contextAt(1)),
  'open and verify': async () => (await openCollection(collection, DEFAULT_LIMITS)).summary(),
};

async function runStep(name: string): Promise<void> {
  const step = STEPS[name];
  if (!step) throw new Error(`no step ${name}`);
  const before = process.cpuUsage();
  const begun = performance.now();
  await step();
  const seconds = (performance.now() - begun) / 1000;
  const { user, system } = process.cpuUsage(before);
  const measured: Measured = {
    seconds,
    cpu: (user + system) / 1e6,
    peakBytes: process.resourceUsage().maxRSS * 1024,
  };
  process.stdout.write(JSON.stringify(measured));
}

/** This file as one program, as sealift itself is built: stripping types takes time and memory that users do not spend. */
function bundled(directory: string): string {
  const rolldown = path.resolve(import.meta.dirname, '../../node_modules/.bin/rolldown');
  const to = path.join(directory, 'program');
  execFileSync(rolldown, [import.meta.filename, '--platform', 'node', '--format', 'esm', '--dir', to], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  writeFileSync(path.join(to, 'package.json'), '{"type":"module"}');
  return path.join(to, 'trust-scale.js');
}

function measureSize(count: number, program: string): Map<string, Measured> {
  const directory = mkdtempSync(path.join(values.dir, 'sealift-scale-'));
  mkdirSync(directory, { recursive: true });
  const results = new Map<string, Measured>();
  try {
    for (const name of Object.keys(STEPS)) {
      const args = [program, '--step', name, '--work', directory, '--size', String(count)];
      const output = execFileSync(process.execPath, [...args, '--keys', values.keys], { encoding: 'utf8' });
      results.set(name, JSON.parse(output) as Measured);
    }
    process.stderr.write(
      `${count} images, ${Math.round(count / IMAGES_OF_NAMESPACE)} namespaces: bundle of ${Math.round(statSync(path.join(directory, 'second.tar')).size / 1024)} KiB\n`,
    );
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  return results;
}

function main(): void {
  const sizes = values.sizes.split(',').map(Number);
  const directory = mkdtempSync(path.join(values.dir, 'sealift-scale-'));
  const program = bundled(directory);
  const all = sizes.map((count) => ({ count, results: measureSize(count, program) }));
  rmSync(directory, { recursive: true });
  const largest = all.at(-1);
  const before = all.at(-2);
  const of = ({ seconds, cpu }: Measured): number => (values.cpu ? cpu : seconds);
  const head = ['step', ...sizes.map((count) => `${count}`), 'memory', 'growth', ''];
  const rows = [head, head.map(() => '---')];
  let missed = 0;
  for (const name of Object.keys(STEPS)) {
    const last = largest?.results.get(name);
    const earlier = before?.results.get(name);
    if (!largest || !last) continue;
    const growth = before && earlier ? of(last) / of(earlier) / (largest.count / before.count) : Number.NaN;
    const isJudged = !name.startsWith('(');
    const isMet =
      of(last) <= LIMITS.seconds &&
      last.peakBytes <= LIMITS.bytes &&
      // What takes no time has no growth to speak of.
      (of(last) < 0.2 || Number.isNaN(growth) || growth <= LIMITS.growth);
    if (isJudged && !isMet) missed += 1;
    rows.push([
      name,
      ...all.map(({ results }) => {
        const measured = results.get(name);
        return measured ? `${of(measured).toFixed(2)} s` : '';
      }),
      `${(last.peakBytes / MIB).toFixed(0)} MiB`,
      growth.toFixed(2),
      isJudged ? (isMet ? 'ok' : 'MISSED') : '',
    ]);
  }
  for (const row of rows) process.stdout.write(`| ${row.join(' | ')} |\n`);
  if (values.json !== undefined) {
    const plain = all.map(({ count, results }) => ({ count, steps: Object.fromEntries(results) }));
    writeFileSync(
      values.json,
      `${JSON.stringify({ keys: values.keys, node: process.version, sizes: plain })}\n`,
    );
  }
  process.exitCode = missed > 0 ? 1 : 0;
}

if (values.step === undefined) main();
else await runStep(values.step);
