import { execFileSync } from 'node:child_process';
import { closeSync, ftruncateSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { Readable } from 'node:stream';
import { TarArchive } from 'archiver';
import fc from 'fast-check';
import { Header } from 'tar/header';
import { describe, expect, it } from 'vitest';
import { END_BLOCKS, headerSizeOf, isZero, paddingOf, tarHeader } from '../../../core/bundle/tar.ts';
import { describePeer } from '../../../fixtures/peers.ts';
import { temporaryDirectory } from './helpers.ts';

const MTIME = 1_767_323_045;

interface Packer {
  entry(header: object, callback: (error?: Error | null) => void): { destroy(): void };
  read(): Buffer | null;
  on(event: string, listener: (...values: never[]) => void): void;
  destroy(): void;
}
const require = createRequire(import.meta.url);
const pack = (createRequire(require.resolve('archiver'))('tar-stream') as { pack(): Packer }).pack;

/** What archiver's own library writes before the content of an entry. */
async function libraryHeader(name: string, size: number, mtime: number): Promise<Buffer> {
  const packer = pack();
  packer.on('error', () => {});
  packer.entry({ name, size, mode: 0o644, mtime: new Date(mtime * 1000), type: 'file' }, () => {});
  const want = headerSizeOf(name);
  const chunks: Buffer[] = [];
  while (Buffer.concat(chunks).length < want) {
    const chunk = packer.read();
    if (chunk) chunks.push(chunk);
    else await new Promise((resolve) => setImmediate(resolve));
  }
  packer.destroy();
  return Buffer.concat(chunks);
}

/** An archive of archiver itself. */
async function archive(name: string, bytes: Buffer): Promise<Buffer> {
  const archiver = new TarArchive();
  const chunks: Buffer[] = [];
  archiver.on('data', (chunk: Buffer) => chunks.push(chunk));
  const date = new Date(MTIME * 1000);
  const stats = { size: bytes.length, mode: 0o644, mtime: date } as import('node:fs').Stats;
  archiver.append(Readable.from([bytes]), { name, date, mode: 0o644, stats });
  await archiver.finalize();
  return Buffer.concat(chunks);
}

const NAMES = [
  'oci-layout',
  `blobs/sha256/${'a'.repeat(64)}`,
  `blobs/sha512/${'b'.repeat(128)}`,
  `metadata/1.${'r'.repeat(84)}.json`,
  `metadata/1.${'r'.repeat(85)}.json`,
  `metadata/1.${'r'.repeat(93)}.json`,
  `metadata/1.${'r'.repeat(94)}.json`,
  `metadata/1.${'r'.repeat(128)}.json`,
];

describe('a header', () => {
  it('is the one archiver writes', async () => {
    for (const name of NAMES) {
      const bytes = Buffer.from('hello');
      const want = Buffer.concat([tarHeader(name, 5, MTIME), bytes, Buffer.alloc(paddingOf(5)), END_BLOCKS]);
      expect((await archive(name, bytes)).equals(want)).toBe(true);
    }
  });

  it('is the one its library writes, also for sizes of more than 8 GiB', async () => {
    const sizes = [0, 1, 511, 512, 8 ** 11 - 1, 8 ** 11, 8 ** 11 + 1, 20 * 2 ** 30, Number.MAX_SAFE_INTEGER];
    for (const name of NAMES) {
      for (const size of sizes) {
        const got = await libraryHeader(name, size, MTIME);
        expect(got.equals(tarHeader(name, size, MTIME)), `${name} of ${size}`).toBe(true);
      }
    }
  });

  it('is decoded again to what it was made of', () => {
    const name = fc
      .stringMatching(/^[a-z0-9.]{1,60}(\/[a-z0-9.]{1,30}){0,3}$/)
      .filter((text) => text.length <= 100);
    fc.assert(
      fc.property(name, fc.maxSafeNat(), fc.nat({ max: 2 ** 33 - 1 }), (path, size, mtime) => {
        const bytes = tarHeader(path, size, mtime);
        const header = new Header(bytes);
        expect(header).toMatchObject({
          path,
          size,
          mode: 0o644,
          uid: 0,
          gid: 0,
          cksumValid: true,
          type: 'File',
        });
        expect(header.mtime?.getTime()).toBe(mtime * 1000);
      }),
    );
  });

  it('is refused for what the format cannot say', () => {
    expect(() => tarHeader('', 1, 1)).toThrow(/name/);
    expect(() => tarHeader('a b', 1, 1)).toThrow(/name/);
    expect(() => tarHeader('ä', 1, 1)).toThrow(/name/);
    expect(() => tarHeader('a', -1, 1)).toThrow(/size/);
    expect(() => tarHeader('a', 2 ** 53, 1)).toThrow(/size/);
    expect(() => tarHeader('a', 1, 8 ** 11)).toThrow(/time/);
    expect(() => tarHeader('a', 1, 0.5)).toThrow(/time/);
  });
});

describePeer(['tar', 'python3'], 'a header read by others', () => {
  it('is taken by GNU tar and Python for long names and 9 GiB', () => {
    const directory = temporaryDirectory();
    const file = path.join(directory, 'large.tar');
    const size = 9 * 2 ** 30;
    const fd = openSync(file, 'w');
    const first = tarHeader(NAMES[2] ?? '', 3, MTIME);
    writeSync(
      fd,
      Buffer.concat([first, Buffer.from('abc'), Buffer.alloc(509), tarHeader('large', size, MTIME)]),
    );
    const end = first.length + 512 + 512 + size;
    ftruncateSync(fd, end + 1024);
    closeSync(fd);
    const listing = execFileSync('tar', ['--utc', '-tvf', file], { encoding: 'utf8' });
    expect(listing).toBe(
      `-rw-r--r-- 0/0               3 2026-01-02 03:04 ${NAMES[2]}\n-rw-r--r-- 0/0      9663676416 2026-01-02 03:04 large\n`,
    );
    const script = 'import sys,tarfile\nfor m in tarfile.open(sys.argv[1]): print(m.name, m.size)';
    const python = execFileSync('python3', ['-c', script, file], { encoding: 'utf8' });
    expect(python).toBe(`${NAMES[2]} 3\nlarge ${size}\n`);
  });

  it('with a prefix is taken by GNU tar', () => {
    const file = path.join(temporaryDirectory(), 'prefix.tar');
    const name = NAMES[5] ?? '';
    expect(headerSizeOf(name)).toBe(512);
    writeFileSync(file, Buffer.concat([tarHeader(name, 0, MTIME), END_BLOCKS]));
    expect(execFileSync('tar', ['tf', file], { encoding: 'utf8' })).toBe(`${name}\n`);
  });
});

describe('padding', () => {
  it('goes up to the next block', () => {
    expect([0, 1, 511, 512, 513].map(paddingOf)).toEqual([0, 511, 1, 0, 511]);
    expect(isZero(END_BLOCKS)).toBe(true);
    expect(isZero(Buffer.from([0, 0, 1]))).toBe(false);
  });
});
