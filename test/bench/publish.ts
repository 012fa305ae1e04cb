/**
 * Publishing beside the tools people use for it, in one run: a sync to a directory beside `cp -r`, a sync to a bucket
 * (Swift from Debian's packages) beside `rclone copy` and `s3cmd sync`. Rounds take turns; medians are compared.
 *
 *   node test/bench/publish.ts [--rounds 5] [--dir DIR] [--layers 16] [--layer-mib 64] [--no-bucket] [--cold] [--json FILE]
 *
 * A sync hashes every layer and is durable when it ends, a copy is neither. So `cp -r` is timed twice: alone, and with the
 * `sync -f` behind it that makes it last. With --cold nothing of the store is in memory before each run, as on a machine that
 * did something else since the import; only root can see to that. Exit 1 where a target is missed.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { openStore } from '../../core/store/store.ts';
import { buildIfStale, programFile, runProgram, succeeded } from '../../fixtures/cli.ts';
import { largeImage } from '../../fixtures/images.ts';
import { hasPeer } from '../../fixtures/peers.ts';
import { SWIFT_CREDENTIALS, startSwift } from '../../fixtures/swift.ts';
import { putBlobs, recordOf } from '../core/store/fill.ts';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    dir: { type: 'string', default: os.tmpdir() },
    layers: { type: 'string', default: '16' },
    'layer-mib': { type: 'string', default: '64' },
    'no-bucket': { type: 'boolean', default: false },
    cold: { type: 'boolean', default: false },
    json: { type: 'string' },
  },
});
const TARGET = 1.1;
const MEMORY_MIB = 200;
const rounds = Number(values.rounds);

buildIfStale();
mkdirSync(values.dir, { recursive: true });
const work = mkdtempSync(path.join(values.dir, 'sealift-publish-'));
const store = path.join(work, 'store');
const usage = path.join(work, 'usage');
// rclone 1.60 cannot take certificates from the environment; there is no TLS here.
const { AWS_CA_BUNDLE: _bundle, ...surroundings } = process.env;
const environment = {
  ...surroundings,
  ...SWIFT_CREDENTIALS,
  AWS_EC2_METADATA_DISABLED: 'true',
  SEALIFT_GATE: path.join(work, 'gate'),
};
const times = new Map<string, number[]>();
let peakMib = 0;

async function timed(what: string, work: () => Promise<unknown>): Promise<void> {
  if (values.cold) {
    await run('sync', ['-f', store]);
    writeFileSync('/proc/sys/vm/drop_caches', '3');
  }
  const begun = performance.now();
  await work();
  const list = times.get(what) ?? [];
  times.set(what, [...list, (performance.now() - begun) / 1000]);
}

async function run(command: string, args: readonly string[]): Promise<void> {
  succeeded(await runProgram(command, args, { env: environment, timeout: 1_200_000 }), command);
}

async function sealift(...args: string[]): Promise<void> {
  const env = {
    ...environment,
    NODE_OPTIONS: `--require ${path.join(import.meta.dirname, 'record-usage.cjs')}`,
    SEALIFT_BENCH_USAGE: usage,
  };
  const all = [programFile(), 'sync', `store:${store}`, ...args, '--no-input'];
  succeeded(await runProgram(process.execPath, all, { env, timeout: 1_200_000 }), 'sealift sync');
  const { peakBytes } = JSON.parse(readFileSync(usage, 'utf8')) as { peakBytes: number };
  peakMib = Math.max(peakMib, peakBytes / 1024 ** 2);
}

/** Runs each in turn, the order reversed every second round. */
async function rotate(works: readonly (() => Promise<void>)[]): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    for (const work of round % 2 === 0 ? works : [...works].reverse()) await work();
    process.stderr.write(`round ${round + 1} of ${rounds}\n`);
  }
}

async function directory(): Promise<void> {
  const tree = path.join(work, 'tree');
  const copy = path.join(work, 'copy');
  await rotate([
    async () => {
      await timed('sealift sync static:', () => sealift(`static:${tree}`));
      rmSync(tree, { recursive: true });
    },
    async () => {
      await timed('sealift sync --hard-link static:', () => sealift(`static:${tree}`, '--hard-link'));
      rmSync(tree, { recursive: true });
    },
    async () => {
      await timed('cp -r', () => run('cp', ['-r', store, copy]));
      rmSync(copy, { recursive: true });
    },
    async () => {
      await timed('cp -r, then sync -f', async () => {
        await run('cp', ['-r', store, copy]);
        await run('sync', ['-f', copy]);
      });
      rmSync(copy, { recursive: true });
    },
  ]);
}

async function bucket(): Promise<void> {
  const swift = await startSwift(path.join(work, 'swift'));
  try {
    const config = path.join(work, 's3cfg');
    const host = new URL(swift.url).host;
    writeFileSync(
      config,
      `[default]\naccess_key = test:tester\nsecret_key = testing\nhost_base = ${host}\nhost_bucket = ${host}\nuse_https = False\n`,
    );
    const rclone = path.join(work, 'rclone.conf');
    writeFileSync(
      rclone,
      `[there]\ntype = s3\nprovider = Other\naccess_key_id = test:tester\nsecret_access_key = testing\nendpoint = ${swift.url}\nregion = us-east-1\n`,
    );
    const s3cmd = (...args: string[]) => run('s3cmd', ['-c', config, '-q', ...args]);
    const empty = async (name: string): Promise<void> => {
      await s3cmd('del', '-r', '-f', `s3://${name}`);
    };
    for (const name of ['ours', 'rclone', 's3cmd']) await s3cmd('mb', `s3://${name}`);
    const works = [
      async () => {
        await timed('sealift sync s3:', () => sealift('s3://ours', '--endpoint-url', swift.url));
        await empty('ours');
      },
    ];
    if (hasPeer('rclone')) {
      works.push(async () => {
        await timed('rclone copy', () => run('rclone', ['--config', rclone, 'copy', store, 'there:rclone']));
        await empty('rclone');
      });
    }
    works.push(async () => {
      await timed('s3cmd sync', () => s3cmd('sync', `${store}/`, 's3://s3cmd/'));
      await empty('s3cmd');
    });
    await rotate(works);
  } finally {
    await swift.stop();
  }
}

function median(list: readonly number[]): number {
  return [...list].sort((a, b) => a - b)[list.length >> 1] ?? Number.NaN;
}

try {
  const opened = await openStore(store, { create: true });
  const lock = await opened.lock(process.pid);
  const image = largeImage(Number(values.layers), Number(values['layer-mib']) * 1024 ** 2, 'publish');
  await putBlobs(opened, [image]);
  // One name at one place: what copies send is as much.
  await opened.admit([recordOf('bench.example/image:v1', image)]);
  await lock.release();
  await directory();
  if (!values['no-bucket'] && hasPeer('swift-proxy-server') && hasPeer('s3cmd')) await bucket();
  const rows: { what: string; got: number; target: number }[] = [];
  const compare = (ours: string, theirs: string): void => {
    const [a, b] = [times.get(ours), times.get(theirs)];
    if (a && b) rows.push({ what: `${ours} to ${theirs}`, got: median(a) / median(b), target: TARGET });
  };
  compare('sealift sync static:', 'cp -r');
  compare('sealift sync --hard-link static:', 'cp -r');
  compare('sealift sync static:', 'cp -r, then sync -f');
  compare('sealift sync --hard-link static:', 'cp -r, then sync -f');
  compare('sealift sync s3:', 'rclone copy');
  compare('sealift sync s3:', 's3cmd sync');
  rows.push({ what: 'peak memory of a sync, MiB', got: peakMib, target: MEMORY_MIB });
  for (const [what, list] of times)
    console.log(
      `${what.padEnd(24)} ${median(list).toFixed(2)} s  (${list.map((one) => one.toFixed(2)).join(' ')})`,
    );
  for (const { what, got, target } of rows)
    console.log(`${what.padEnd(44)} ${got.toFixed(2)}  <= ${target}  ${got <= target ? 'met' : 'MISSED'}`);
  if (values.json !== undefined)
    writeFileSync(values.json, `${JSON.stringify({ rows, times: Object.fromEntries(times) }, null, 2)}\n`);
  if (rows.some(({ got, target }) => got > target)) process.exitCode = 1;
} finally {
  rmSync(work, { recursive: true, force: true });
}
