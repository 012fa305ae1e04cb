/**
 * Encrypting a stream beside `gpg --encrypt -z 0` on the same file, and decrypting beside `gpg --decrypt`: interleaved
 * runs, medians, peak memory.
 *
 *   node test/bench/encryption.ts [--mib 1024] [--rounds 5] [--dir DIR]
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  createReadStream,
  createWriteStream,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { parseArgs } from 'node:util';
import { generateKey, readPrivateKey } from 'openpgp';
import { decryptStream } from '../../core/encryption/decrypt.ts';
import { encryptStream, readRecipients } from '../../core/encryption/encrypt.ts';
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
  const began = performance.now();
  if (what === 'encrypt') {
    const to = await readRecipients([{ path: 'cert', bytes: readFileSync(at('cert.asc')) }], now);
    const content = createReadStream(at('plain'), { highWaterMark: PIECE });
    await pipeline(Readable.from(encryptStream(content, to, now)), createWriteStream(at('ours.gpg')));
  } else {
    const key = await readPrivateKey({ armoredKey: readFileSync(at('secret.asc'), 'utf8') });
    const content = createReadStream(at('theirs.gpg'), { highWaterMark: PIECE });
    await pipeline(Readable.from(decryptStream(content, [key], now)), createWriteStream(at('out')));
  }
  console.log(
    JSON.stringify({
      seconds: (performance.now() - began) / 1000,
      peak: process.resourceUsage().maxRSS * 1024,
    }),
  );
  process.exit(0);
}

const directory = mkdtempSync(path.join(values.dir, 'sealift-bench-'));
const at = (name: string) => path.join(directory, name);
const gpg = (...args: readonly string[]) => {
  const began = performance.now();
  execFileSync('gpg', [
    '--homedir',
    directory,
    '--batch',
    '--yes',
    '--quiet',
    '--trust-model',
    'always',
    ...args,
  ]);
  return (performance.now() - began) / 1000;
};
const ours = (what: string): { readonly seconds: number; readonly peak: number } => {
  const run = spawnSync(process.execPath, [import.meta.filename, what, directory], { encoding: 'utf8' });
  if (run.status !== 0) throw new Error(run.stderr);
  return JSON.parse(run.stdout);
};
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

  const times: Record<string, number[]> = { encrypt: [], 'gpg encrypt': [], decrypt: [], 'gpg decrypt': [] };
  let peak = 0;
  for (let round = 0; round < Number(values.rounds); round += 1) {
    const encrypt = ours('encrypt');
    times['encrypt']?.push(encrypt.seconds);
    times['gpg encrypt']?.push(
      gpg('--encrypt', '-z', '0', '-r', 'bench@example.org', '-o', at('theirs.gpg'), at('plain')),
    );
    const decrypt = ours('decrypt');
    times['decrypt']?.push(decrypt.seconds);
    times['gpg decrypt']?.push(gpg('--decrypt', '-o', at('out'), at('ours.gpg')));
    peak = Math.max(peak, encrypt.peak, decrypt.peak);
  }
  for (const [what, list] of Object.entries(times))
    console.log(`${what.padEnd(12)} ${median(list).toFixed(2)} s for ${values.mib} MiB`);
  const ratio = (a: string, b: string) => (median(times[a] ?? []) / median(times[b] ?? [])).toFixed(2);
  console.log(
    `encrypt ${ratio('encrypt', 'gpg encrypt')} and decrypt ${ratio('decrypt', 'gpg decrypt')} of gpg`,
  );
  console.log(`peak memory ${(peak / PIECE).toFixed(0)} MiB`);
} finally {
  execFileSync('gpgconf', ['--homedir', directory, '--kill', 'gpg-agent']);
  rmSync(directory, { recursive: true, force: true });
}
