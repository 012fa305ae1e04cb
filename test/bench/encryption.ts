/**
 * Encrypting a stream beside `gpg --encrypt -z 0` on the same file, and decrypting beside `gpg --decrypt`: interleaved
 * runs, medians, peak memory.
 *
 *   node test/bench/encryption.ts [--mib 1024] [--rounds 5] [--dir DIR]
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import os, { availableParallelism } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { generateKey, readPrivateKey } from 'openpgp';
import { readPieces } from '../../core/bundle/input.ts';
import { decryptStream } from '../../core/encryption/decrypt.ts';
import { encryptStream, readRecipients } from '../../core/encryption/encrypt.ts';
import { createWorkerPool } from '../../core/pool/worker-pool.ts';
import { randomContent } from '../../fixtures/images.ts';

const { values, positionals } = parseArgs({
  options: {
    mib: { type: 'string', default: '1024' },
    rounds: { type: 'string', default: '5' },
    dir: { type: 'string', default: os.tmpdir() },
  },
  allowPositionals: true,
});

const PIECE = 1024 * 1024;
const now = new Date('2026-03-01T00:00:00Z');

/** A process of its own for each run, so that peak memory is that of the run. */
if (positionals[0] !== undefined) {
  const [what, directory = ''] = positionals;
  const at = (name: string) => path.join(directory, name);
  const context = { now, pool: createWorkerPool({ size: availableParallelism() }) };
  const input = await open(at(what === 'encrypt' ? 'plain' : 'theirs.gpg'));
  let result: AsyncIterable<Uint8Array>;
  if (what === 'encrypt') {
    const to = await readRecipients([{ path: 'cert', bytes: readFileSync(at('cert.asc')) }], now);
    result = encryptStream(readPieces(input), to, context);
  } else {
    const key = await readPrivateKey({ armoredKey: readFileSync(at('secret.asc'), 'utf8') });
    result = decryptStream(readPieces(input), { own: [key], held: [] }, context);
  }
  const output = await open(at(what === 'encrypt' ? 'ours.gpg' : 'out'), 'w');
  for await (const piece of result) await output.write(piece);
  const { maxRSS } = process.resourceUsage();
  console.log(
    JSON.stringify({
      peak: maxRSS * 1024,
    }),
  );
  process.exit(0);
}

const directory = mkdtempSync(path.join(values.dir, 'sealift-bench-'));
const at = (name: string) => path.join(directory, name);
interface Run {
  /** By the clock, from the start of the program on. */
  readonly seconds: number;
  readonly cpu: number;
  readonly peak: number;
}
/** CPU time of children that have ended, as the system counts it. */
const childrenCpu = (): number => {
  const fields = readFileSync('/proc/self/stat', 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[13]) + Number(fields[14])) / 100;
};
const timed = (run: () => number): Run => {
  const cpu = childrenCpu();
  const began = performance.now();
  const peak = run();
  return { seconds: (performance.now() - began) / 1000, cpu: childrenCpu() - cpu, peak };
};
const gpg = (...args: readonly string[]): Run =>
  timed(() => {
    const base = ['--homedir', directory, '--batch', '--yes', '--quiet', '--trust-model', 'always'];
    execFileSync('gpg', [...base, ...args], { stdio: ['ignore', 'ignore', 'ignore'] });
    return 0;
  });
const ours = (what: string): Run =>
  timed(() => {
    const run = spawnSync(process.execPath, [import.meta.filename, what, directory], { encoding: 'utf8' });
    if (run.status !== 0) throw new Error(run.stderr);
    return JSON.parse(run.stdout).peak;
  });
const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >> 1] ?? 0;

try {
  const { privateKey, publicKey } = await generateKey({
    type: 'rsa',
    rsaBits: 2048,
    userIDs: [{ name: 'bench (test key)', email: 'bench@example.org' }],
    date: new Date('2026-01-01T00:00:00Z'),
  });
  writeFileSync(at('secret.asc'), privateKey);
  writeFileSync(at('cert.asc'), publicKey);
  gpg('--import', at('secret.asc'));
  const handle = await open(at('plain'), 'w');
  const piece = randomContent(PIECE, 'bench');
  for (let i = 0; i < Number(values.mib); i += 1) {
    piece.writeUInt32LE(i);
    await handle.write(piece);
  }
  await handle.close();

  const steps: Record<string, () => Run> = {
    encrypt: () => ours('encrypt'),
    'gpg encrypt': () =>
      gpg('--encrypt', '-z', '0', '-r', 'bench@example.org', '-o', at('theirs.gpg'), at('plain')),
    decrypt: () => ours('decrypt'),
    'gpg decrypt': () => gpg('--decrypt', '-o', at('out'), at('ours.gpg')),
  };
  const runs: Record<string, Run[]> = {};
  for (let round = 0; round < Number(values.rounds); round += 1) {
    for (const [what, step] of Object.entries(steps)) {
      runs[what] ??= [];
      runs[what].push(step());
    }
  }
  const of = (what: string, figure: keyof Run) => median((runs[what] ?? []).map((run) => run[figure]));
  for (const what of Object.keys(steps)) {
    console.log(
      `${what.padEnd(12)} ${of(what, 'seconds').toFixed(2)} s, ${of(what, 'cpu').toFixed(2)} s of CPU, for ${values.mib} MiB`,
    );
  }
  const ratio = (what: string, figure: keyof Run) =>
    (of(what, figure) / of(`gpg ${what}`, figure)).toFixed(2);
  for (const what of ['encrypt', 'decrypt'])
    console.log(`${what}: ${ratio(what, 'seconds')} of gpg's time, ${ratio(what, 'cpu')} of its CPU time`);
  const peaks = Object.values(runs)
    .flat()
    .map(({ peak }) => peak);
  console.log(`peak memory ${(Math.max(...peaks) / PIECE).toFixed(0)} MiB`);
} finally {
  execFileSync('gpgconf', ['--homedir', directory, '--kill', 'gpg-agent']);
  rmSync(directory, { recursive: true, force: true });
}
