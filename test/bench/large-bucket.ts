/**
 * A bundle that is larger than the free disk goes straight into a bucket, is killed half-way, and goes on: what had arrived
 * is not sent again, and memory stays flat. The state of the sealed side lies on a file system of 64 MiB (a tmpfs, so it
 * wants root), the bundle elsewhere, the bucket only hashes and counts.
 *
 *   node test/bench/large-bucket.ts [--gib 6] [--dir DIR]
 *
 * --dir: where the bundle goes; it wants room for twice its size. Exit 1 where a promise is broken.
 */
import { type ChildProcess, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statfsSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { buildIfStale, startSealift, succeeded } from '../../fixtures/cli.ts';
import { FAKE_CREDENTIALS, startFakeS3 } from '../../fixtures/fake-s3.ts';
import { makeWalk } from '../../fixtures/walk.ts';

const { values } = parseArgs({
  options: { gib: { type: 'string', default: '6' }, dir: { type: 'string', default: os.tmpdir() } },
});
const MIB = 1024 ** 2;
const SIZE = Number(values.gib) * 1024 * MIB;
const PART = 8 * MIB;
const MEMORY = 200 * MIB;
const SMALL = '64m';
const NAME = 'bench.example/large:v1';

/** An image of one layer of zeros, which takes no room on the disk. */
function makeLargeLayout(directory: string): void {
  const blobs = path.join(directory, 'blobs/sha256');
  mkdirSync(blobs, { recursive: true });
  const hash = createHash('sha256');
  for (let at = 0; at < SIZE; at += MIB) hash.update(ZEROS);
  const layer = hash.digest('hex');
  writeFileSync(path.join(blobs, layer), '');
  truncateSync(path.join(blobs, layer), SIZE);
  const put = (document: object) => {
    const bytes = Buffer.from(JSON.stringify(document));
    const digest = createHash('sha256').update(bytes).digest('hex');
    writeFileSync(path.join(blobs, digest), bytes);
    return { digest: `sha256:${digest}`, size: bytes.length };
  };
  const diffIds = [`sha256:${layer}`];
  const config = put({ architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: diffIds } });
  const type = 'application/vnd.oci.image';
  const manifest = put({
    schemaVersion: 2,
    mediaType: `${type}.manifest.v1+json`,
    config: { mediaType: `${type}.config.v1+json`, ...config },
    layers: [{ mediaType: `${type}.layer.v1.tar`, digest: `sha256:${layer}`, size: SIZE }],
  });
  const annotations = { 'org.opencontainers.image.ref.name': 'v1' };
  const manifests = [{ mediaType: `${type}.manifest.v1+json`, ...manifest, annotations }];
  writeFileSync(path.join(directory, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }));
  writeFileSync(path.join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
}
const ZEROS = Buffer.alloc(MIB);

const problems: string[] = [];
function expect(holds: boolean, what: string): void {
  console.log(`${holds ? 'met   ' : 'BROKEN'} ${what}`);
  if (!holds) problems.push(what);
}

buildIfStale();
mkdirSync(values.dir, { recursive: true });
const work = mkdtempSync(path.join(values.dir, 'sealift-large-'));
const small = path.join(work, 'small');
mkdirSync(small);
execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${SMALL}`, 'tmpfs', small]);
const server = await startFakeS3();
server.discardFrom = 4 * MIB;
try {
  const walk = makeWalk(small);
  const layout = path.join(work, 'layout');
  makeLargeLayout(layout);
  await walk.init({ keys: 'native' });
  const bundle = path.join(work, 'large.tar');
  await walk.export([`${NAME}=oci:${layout}:v1`], bundle, { timeout: 3_600_000 });
  rmSync(layout, { recursive: true });
  await walk.pin(bundle, await walk.rootFingerprint());
  const { bavail, bsize } = statfsSync(small);
  expect(
    bavail * bsize < SIZE / 10,
    `free disk is ${Math.round((bavail * bsize) / MIB)} MiB, the bundle ${SIZE / MIB}`,
  );

  const usage = path.join(small, 'usage');
  const begin = (): ChildProcess =>
    startSealift(
      ['import', bundle, '--to', 's3://images', '--endpoint-url', server.url, '--yes', '--no-input'],
      {
        cwd: small,
        env: {
          ...walk.sandbox.env,
          ...FAKE_CREDENTIALS,
          TMPDIR: small,
          NODE_OPTIONS: `--require ${path.join(import.meta.dirname, 'record-usage.cjs')}`,
          SEALIFT_BENCH_USAGE: usage,
        },
      },
    );
  const total = Math.ceil(SIZE / PART);
  const arrived = (): number => [...server.uploads.values()][0]?.parts.size ?? 0;
  const sent = (): number => server.log.filter((line) => line.startsWith('part ')).length;
  const started = performance.now();
  const first = begin();
  const watch = setInterval(() => {
    if (arrived() > total / 2) first.kill('SIGKILL');
  }, 20);
  const [, signal] = await once(first, 'exit');
  clearInterval(watch);
  expect(signal === 'SIGKILL', `killed when more than half of ${total} parts had arrived`);
  const before = arrived();
  server.log.length = 0;
  server.received = 0;
  const second = begin();
  second.stdout?.resume();
  let told = '';
  second.stderr?.on('data', (chunk) => {
    told += String(chunk);
  });
  const [code] = await once(second, 'exit');
  succeeded({ code, signal: null, stdout: '', stderr: told } as never, 'import');
  console.log(`both runs: ${((performance.now() - started) / 1000).toFixed(0)} s`);
  expect(sent() === total - before, `${before} parts were there, ${sent()} of ${total} were sent`);
  expect(
    server.received < (total - before) * PART + 4 * MIB,
    `${Math.round(server.received / MIB)} MiB sent again`,
  );
  const blob = [...server.objects].find(
    ([key]) => key.includes('/blobs/') && server.objects.get(key)?.size === SIZE,
  );
  expect(blob !== undefined, 'the layer is there, whole');
  expect(server.objects.has('v2/bench.example/large/manifests/v1'), 'the tag is set');
  const { peakBytes } = JSON.parse(readFileSync(usage, 'utf8')) as { peakBytes: number };
  expect(peakBytes < MEMORY, `peak memory ${Math.round(peakBytes / MIB)} MiB, want at most ${MEMORY / MIB}`);
} finally {
  await server.close();
  execFileSync('umount', [small]);
  rmSync(work, { recursive: true, force: true });
}
if (problems.length > 0) process.exitCode = 1;
