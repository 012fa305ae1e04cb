/** Small blobs that become files in a thread: whole, hashed and under their name, or not there at all. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PLACE_MAX, type PlaceJob, type WorkerPool } from '../../../core/pool/pool.ts';
import { createWorkerPool } from '../../../core/pool/worker-pool.ts';

let directory: string;
let pool: WorkerPool;
beforeEach(() => {
  directory = mkdtempSync(path.join(os.tmpdir(), 'sealift-place-'));
  mkdirSync(path.join(directory, 'from'));
  mkdirSync(path.join(directory, 'to'));
});
afterEach(async () => {
  await pool.close();
  rmSync(directory, { recursive: true, force: true });
});

const from = (name: string): string => path.join(directory, 'from', name);
const to = (name: string): string => path.join(directory, 'to', name);

function jobOf(bytes: Uint8Array | string, name: string, changes: Partial<PlaceJob> = {}): PlaceJob {
  return {
    source: { file: from(name) },
    size: Buffer.from(bytes).length,
    algorithm: 'sha256',
    hash: createHash('sha256').update(bytes).digest('hex'),
    names: [{ temporary: to(`.${name}~`), file: to(name) }],
    share: false,
    ...changes,
  };
}

for (const size of [0, 2]) {
  describe(`placing with ${size} threads`, () => {
    beforeEach(() => {
      pool = createWorkerPool({ size });
    });

    it('makes files of files and of parts of an open file, also empty ones', async () => {
      const bytes = Buffer.from('something of some length');
      writeFileSync(from('whole'), bytes);
      writeFileSync(from('empty'), '');
      const fd = openSync(from('whole'), 'r');
      const part = jobOf(bytes.subarray(5, 9), 'part', { source: { fd, offset: 5 } });
      expect(await pool.place([jobOf(bytes, 'whole'), part, jobOf('', 'empty')])).toEqual([
        'placed',
        'placed',
        'placed',
      ]);
      closeSync(fd);
      expect(readdirSync(to(''))).toEqual(['empty', 'part', 'whole']);
      expect(readFileSync(to('whole')).equals(bytes)).toBe(true);
      expect(readFileSync(to('part'), 'utf8')).toBe('hing');
    });

    it('gives one file all its names, and shares the file of the source where it may', async () => {
      writeFileSync(from('one'), 'content');
      const names = ['a', 'b', 'c'].map((name) => ({ temporary: to(`.${name}`), file: to(name) }));
      expect(await pool.place([jobOf('content', 'one', { names })])).toEqual(['placed']);
      expect(statSync(to('a')).nlink).toBe(3);
      expect(statSync(to('a')).ino).not.toBe(statSync(from('one')).ino);
      const shared = jobOf('content', 'one', { names, share: true });
      expect(await pool.place([shared])).toEqual(['placed']);
      expect(statSync(to('c')).ino).toBe(statSync(from('one')).ino);
      // A second name of the file that is there already.
      expect(await pool.place([shared])).toEqual(['placed']);
      expect(readdirSync(to(''))).toEqual(['a', 'b', 'c']);
    });

    it('places nothing that has another hash or size than it is named by, and goes on', async () => {
      for (const name of ['flipped', 'short', 'long', 'good']) writeFileSync(from(name), 'content!');
      for (const share of [false, true]) {
        const outcomes = await pool.place([
          jobOf('content?', 'flipped', { share }),
          jobOf('content!!', 'short', { share }),
          jobOf('content', 'long', { share }),
          jobOf('content!', 'good', { share }),
        ]);
        expect(outcomes).toEqual(['damaged', 'damaged', 'damaged', 'placed']);
        expect(readdirSync(to(''))).toEqual(['good']);
      }
    });

    it('finds no blob in a link, a folder, a pipe, or where nothing is', async () => {
      writeFileSync(from('target'), 'content');
      symlinkSync(from('target'), from('link'));
      mkdirSync(from('folder'));
      execFileSync('mkfifo', [from('pipe')]);
      const names = ['link', 'pipe', 'nothing'];
      for (const share of [false, true]) {
        const jobs = names.map((name) => jobOf('content', name, { share }));
        expect(await pool.place(jobs)).toEqual(names.map(() => 'missing'));
      }
      expect(await pool.place([jobOf('content', 'folder')])).toEqual(['missing']);
      expect(readdirSync(to(''))).toEqual([]);
    });

    it('leaves no temporary name behind what fails, and says where that was', async () => {
      writeFileSync(from('one'), 'content');
      mkdirSync(to('one'));
      const inTheWay = pool.place([jobOf('content', 'one')]);
      await expect(inTheWay).rejects.toMatchObject({ code: 'EISDIR' });
      expect(readdirSync(to(''))).toEqual(['one']);
      const names = [{ temporary: to('gone/.one'), file: to('gone/one') }];
      await expect(pool.place([jobOf('content', 'one', { names })])).rejects.toMatchObject({
        code: 'ENOENT',
        path: to('gone/.one'),
      });
    });

    it('takes no blob that is too large for it, and none when it was stopped', async () => {
      await expect(pool.place([jobOf('', 'x', { size: PLACE_MAX + 1 })])).rejects.toMatchObject({
        code: 'internal',
      });
      writeFileSync(from('one'), 'content');
      const stop = new AbortController();
      stop.abort();
      await expect(pool.place([jobOf('content', 'one')], stop.signal)).rejects.toMatchObject({
        code: 'cancelled',
      });
      expect(existsSync(to('one'))).toBe(false);
    });
  });
}
