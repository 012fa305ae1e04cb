import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import type { WorkerPool } from '../../../core/pool/pool.ts';
import { createWorkerPool } from '../../../core/pool/worker-pool.ts';

const directory = mkdtempSync(path.join(os.tmpdir(), 'sealift-pool-'));
const pools: WorkerPool[] = [];
const descriptors: number[] = [];
let count = 0;

function makePool(size: number, entry?: URL): WorkerPool {
  const pool = createWorkerPool({ size, ...(entry ? { entry } : {}) });
  pools.push(pool);
  return pool;
}

/** A new file with `bytes`, open. */
function makeFile(bytes: Uint8Array = new Uint8Array(), flags = 'r+'): { file: string; fd: number } {
  count += 1;
  const file = path.join(directory, String(count));
  writeFileSync(file, bytes);
  const fd = openSync(file, flags);
  descriptors.push(fd);
  return { file, fd };
}

const hex = (bytes: Uint8Array, algorithm = 'sha256') => createHash(algorithm).update(bytes).digest('hex');

/** A thread that does what `script` says, as a program of its own. */
const program = (script: string) => new URL(`data:text/javascript,${encodeURIComponent(script)}`);

afterEach(async () => {
  await Promise.all(pools.splice(0).map((pool) => pool.close()));
  for (const fd of descriptors.splice(0)) closeSync(fd);
});

afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** Bytes that differ everywhere, so that a piece in another place shows. */
function content(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i + 4 <= length; i += 4) bytes.writeUInt32LE((i * 2654435761) >>> 0, i);
  return bytes;
}

for (const size of [0, 1, 2]) {
  describe(`a pool of ${size} threads`, () => {
    it('hashes and writes a stream, however it is cut', async () => {
      const pool = makePool(size);
      const bytes = content(5 * 1024 * 1024 + 77);
      const cut = fc.array(fc.integer({ min: 0, max: 2 * 1024 * 1024 }), { maxLength: 12 });
      await fc.assert(
        fc.asyncProperty(cut, fc.boolean(), fc.nat({ max: bytes.length }), async (lengths, wait, length) => {
          const { file, fd } = makeFile();
          const sink = pool.stream({ target: { fd, offset: 10 }, algorithms: ['sha256', 'sha512'] });
          const writes: Promise<void>[] = [];
          let at = 0;
          for (const step of [...lengths, length]) {
            const chunk = Buffer.from(bytes.subarray(at, Math.min(length, at + step)));
            at += chunk.length;
            const write = sink.write(chunk);
            // The pool has its copy.
            chunk.fill(0);
            if (wait) await write;
            else writes.push(write);
          }
          await Promise.all(writes);
          const { hashes, bytes: total } = await sink.finish();
          await sink.released;
          const want = bytes.subarray(0, at);
          expect(total).toBe(at);
          expect(hashes).toEqual({ sha256: hex(want), sha512: hex(want, 'sha512') });
          if (at > 0) expect(readFileSync(file).subarray(10).equals(want)).toBe(true);
        }),
        { numRuns: 25 },
      );
    });

    it('hashes and copies ranges', async () => {
      const pool = makePool(size);
      const bytes = content(3 * 1024 * 1024 + 5);
      const source = makeFile(bytes);
      await fc.assert(
        fc.asyncProperty(fc.nat({ max: bytes.length }), fc.nat({ max: bytes.length }), async (a, b) => {
          const [from, to] = a < b ? [a, b] : [b, a];
          const target = makeFile();
          const hashes = await pool.range({
            source: { fd: source.fd, offset: from },
            size: to - from,
            target: { fd: target.fd, offset: 3 },
            algorithms: ['sha256'],
          });
          const want = bytes.subarray(from, to);
          expect(hashes).toEqual({ sha256: hex(want) });
          if (want.length > 0) expect(readFileSync(target.file).subarray(3).equals(want)).toBe(true);
        }),
        { numRuns: 20 },
      );
    });

    it('does many things at once', async () => {
      const pool = makePool(size);
      const bytes = content(2 * 1024 * 1024);
      const source = makeFile(bytes);
      const ranges = Array.from({ length: 20 }, (_, i) =>
        pool.range({ source: { fd: source.fd, offset: i }, size: bytes.length - i, algorithms: ['sha256'] }),
      );
      const streams = Array.from({ length: 10 }, async (_, i) => {
        const sink = pool.stream({ algorithms: ['sha256'] });
        for (let at = i; at < bytes.length; at += 100_000) await sink.write(bytes.subarray(at, at + 100_000));
        return (await sink.finish()).hashes;
      });
      const want = (i: number) => ({ sha256: hex(bytes.subarray(i)) });
      expect(await Promise.all(ranges)).toEqual(ranges.map((_, i) => want(i)));
      expect(await Promise.all(streams)).toEqual(streams.map((_, i) => want(i)));
    });

    it('does not let long ranges keep a stream waiting', async () => {
      const pool = makePool(size);
      const { fd } = makeFile();
      ftruncateSync(fd, 96 * 1024 * 1024);
      const order: string[] = [];
      const ranges = Array.from({ length: 2 * Math.max(1, size) }, () =>
        pool
          .range({ source: { fd, offset: 0 }, size: 96 * 1024 * 1024, algorithms: ['sha256'] })
          .then(() => order.push('range')),
      );
      const sink = pool.stream({ algorithms: ['sha256'] });
      for (let i = 0; i < 8; i += 1) await sink.write(new Uint8Array(1024 * 1024));
      await sink.finish().then(() => order.push('stream'));
      await Promise.all(ranges);
      expect(order[0]).toBe('stream');
    });

    it('says that a source ends early', async () => {
      const pool = makePool(size);
      const source = makeFile(content(1000));
      const job = { source: { fd: source.fd, offset: 500 }, size: 501, algorithms: ['sha256'] } as const;
      await expect(pool.range(job)).rejects.toMatchObject({ name: 'SealiftError', code: 'bundle-truncated' });
    });

    it('says that a target cannot be written', async () => {
      const pool = makePool(size);
      const source = makeFile(content(1000));
      const { fd } = makeFile(new Uint8Array(), 'r');
      const target = { fd, offset: 0 };
      const job = {
        source: { fd: source.fd, offset: 0 },
        size: 1000,
        target,
        algorithms: ['sha256'],
      } as const;
      await expect(pool.range(job)).rejects.toMatchObject({ code: 'EBADF', syscall: 'write' });

      const finished = pool.stream({ target, algorithms: ['sha256'] });
      await finished.write(content(10));
      await expect(finished.finish()).rejects.toMatchObject({ code: 'EBADF' });
      await finished.released;

      const written = pool.stream({ target, algorithms: ['sha256'] });
      const writing = async () => {
        for (let i = 0; i < 100; i += 1) await written.write(content(1024 * 1024));
      };
      await expect(writing()).rejects.toMatchObject({ code: 'EBADF' });
      await expect(written.finish()).rejects.toMatchObject({ code: 'EBADF' });
      await written.released;
    });

    it('says that a device is full', async () => {
      const pool = makePool(size);
      const fd = openSync('/dev/full', 'w');
      descriptors.push(fd);
      const sink = pool.stream({ target: { fd, offset: 0 }, algorithms: ['sha256'] });
      await sink.write(content(10));
      await expect(sink.finish()).rejects.toMatchObject({ code: 'ENOSPC' });
    });

    it('stops a range: one that runs, one that waits, one that never began', async () => {
      const pool = makePool(size);
      const { fd } = makeFile();
      ftruncateSync(fd, 2 ** 40);
      const controller = new AbortController();
      const { signal } = controller;
      let began = () => {};
      const running = new Promise<void>((resolve) => {
        began = resolve;
      });
      const job = { source: { fd, offset: 0 }, size: 2 ** 40, algorithms: ['sha256'], signal } as const;
      const jobs = Array.from({ length: 8 }, () => pool.range({ ...job, onProgress: () => began() }));
      const settled = Promise.allSettled(jobs);
      await running;
      controller.abort();
      const cancelled = { status: 'rejected', reason: { code: 'cancelled' } };
      expect(await settled).toMatchObject(jobs.map(() => cancelled));
      await expect(pool.range(job)).rejects.toMatchObject({ code: 'cancelled' });
      expect(await pool.range({ ...job, size: 1, signal: undefined })).toEqual({
        sha256: hex(Buffer.alloc(1)),
      });
    });

    it('tells how far a range has come', async () => {
      const pool = makePool(size);
      const { fd } = makeFile();
      ftruncateSync(fd, 2 ** 40);
      const controller = new AbortController();
      const seen: number[] = [];
      const onProgress = (bytes: number) => {
        seen.push(bytes);
        if (seen.length === 3) controller.abort();
      };
      const job = {
        source: { fd, offset: 0 },
        size: 2 ** 40,
        algorithms: [],
        signal: controller.signal,
        onProgress,
      } as const;
      await expect(pool.range(job)).rejects.toMatchObject({ code: 'cancelled' });
      expect(seen.slice(0, 3)).toEqual([...seen.slice(0, 3)].sort((a, b) => a - b));
      expect(seen[0]).toBeGreaterThan(0);
    });

    it('gives a stream up at any time', async () => {
      const pool = makePool(size);
      const { fd } = makeFile();
      const sink = pool.stream({ target: { fd, offset: 0 }, algorithms: ['sha256'] });
      const writes = Array.from({ length: 10 }, () => sink.write(content(1024 * 1024)));
      sink.abort();
      sink.abort();
      await sink.released;
      await Promise.allSettled(writes);
      await expect(sink.write(content(1))).rejects.toMatchObject({ code: 'cancelled' });
      await expect(sink.finish()).rejects.toMatchObject({ code: 'cancelled' });

      const other = pool.stream({ algorithms: ['sha256'] });
      expect((await other.finish()).bytes).toBe(0);
      other.abort();
      await other.released;
    });

    it('bounds what is in flight', async () => {
      const pool = makePool(size);
      const sink = pool.stream({ algorithms: ['sha256'] });
      const chunk = content(1024 * 1024);
      let ready = 0;
      const writes: Promise<void>[] = [];
      for (let i = 0; i < 12; i += 1) {
        writes.push(
          sink.write(chunk).then(() => {
            ready += 1;
          }),
        );
      }
      await Promise.resolve();
      await Promise.resolve();
      expect(ready).toBeLessThanOrEqual(4);
      await Promise.all(writes);
      await sink.finish();
    });

    it('refuses work when it is closed, and ends what it was doing', async () => {
      const pool = makePool(size);
      const { fd } = makeFile();
      ftruncateSync(fd, 2 ** 40);
      const job = { source: { fd, offset: 0 }, size: 2 ** 40, algorithms: ['sha256'] } as const;
      const running = Promise.allSettled([
        pool.range(job),
        pool.range(job),
        pool.range(job),
        pool.range(job),
        pool.range(job),
      ]);
      const sink = pool.stream({ algorithms: ['sha256'] });
      const finishing = Promise.allSettled([sink.write(content(10)), sink.finish()]);
      await pool.close();
      await pool.close();
      expect((await running).every(({ status }) => status === 'rejected')).toBe(true);
      await finishing;
      await sink.released;
      await expect(pool.range(job)).rejects.toMatchObject({ code: 'cancelled' });
      expect(() => pool.stream({ algorithms: [] })).toThrow(/closed/);
    });
  });
}

describe('a thread that dies', () => {
  const job = (fd: number) => ({ source: { fd, offset: 0 }, size: 10, algorithms: ['sha256'] }) as const;

  it('at its start, rejects its jobs', async () => {
    const pool = makePool(2, program('throw new Error("no start")'));
    const { fd } = makeFile(content(10));
    const settled = await Promise.allSettled(Array.from({ length: 9 }, () => pool.range(job(fd))));
    expect(settled).toMatchObject(
      settled.map(() => ({
        status: 'rejected',
        reason: { code: 'internal', message: expect.stringMatching(/no start/) },
      })),
    );
  });

  it('because there is no program, rejects its jobs', async () => {
    const pool = makePool(1, new URL('file:///nowhere/hash-worker.js'));
    const sink = pool.stream({ algorithms: ['sha256'] });
    await expect(sink.finish()).rejects.toMatchObject({ code: 'internal' });
    await sink.released;
  });

  it('in the middle of a stream, rejects its writes', async () => {
    const script = `import { parentPort } from 'node:worker_threads';
      parentPort.on('message', (m) => { if (m.type === 'block') process.exit(3); });`;
    const pool = makePool(1, program(script));
    const sink = pool.stream({ algorithms: ['sha256'] });
    const writing = async () => {
      for (;;) await sink.write(content(1024 * 1024));
    };
    await expect(writing()).rejects.toMatchObject({
      code: 'internal',
      message: expect.stringMatching(/exit code 3/),
    });
    await expect(sink.finish()).rejects.toMatchObject({ code: 'internal' });
    await sink.released;
  });

  it('is replaced for the next job', async () => {
    const marker = path.join(directory, 'died-once');
    const engine = new URL('../../../core/pool/engine.ts', import.meta.url).href;
    const script = `import { parentPort } from 'node:worker_threads';
      import { existsSync, writeFileSync } from 'node:fs';
      import { createEngine } from '${engine}';
      const first = !existsSync(${JSON.stringify(marker)});
      if (first) writeFileSync(${JSON.stringify(marker)}, '');
      const engine = createEngine((r) => parentPort.postMessage(r), setImmediate);
      parentPort.on('message', (m) => { if (first) throw new Error('once'); engine.handle(m); });`;
    const pool = makePool(1, program(script));
    const { fd } = makeFile(content(10));
    await expect(pool.range(job(fd))).rejects.toMatchObject({
      code: 'internal',
      message: expect.stringMatching(/once/),
    });
    expect(await pool.range(job(fd))).toEqual({ sha256: hex(content(10)) });
  });
});

describe('a process with a pool', () => {
  const poolModule = new URL('../../../core/pool/worker-pool.ts', import.meta.url).href;
  const run = (body: string) =>
    promisify(execFile)(
      process.execPath,
      ['--input-type=module', '-e', `import { createWorkerPool } from '${poolModule}'; ${body}`],
      { timeout: 20_000 },
    );

  it('ends by itself when the pool is idle, closed or not', async () => {
    const work = `const pool = createWorkerPool({ size: 2 });
      const sink = pool.stream({ algorithms: ['sha256'] });
      await sink.write(Buffer.from('x'));
      console.log((await sink.finish()).hashes.sha256);`;
    expect((await run(work)).stdout.trim()).toBe(hex(Buffer.from('x')));
    expect((await run(`${work} await pool.close();`)).stdout.trim()).toBe(hex(Buffer.from('x')));
  });

  it('ends by itself when its threads were started and nothing came', async () => {
    const body = `const pool = createWorkerPool({ size: 2 }); pool.warm();`;
    expect((await run(`${body} console.log('ended');`)).stdout).toBe('ended\n');
    expect((await run(`${body} await pool.close(); pool.warm(); console.log('ended');`)).stdout).toBe(
      'ended\n',
    );
  });

  it('does not end while a job runs', async () => {
    const body = `import { openSync } from 'node:fs';
      const pool = createWorkerPool({ size: 1 });
      const fd = openSync('/dev/zero', 'r');
      pool.range({ source: { fd, offset: 0 }, size: 50_000_000, algorithms: ['sha256'] }).then(({ sha256 }) => console.log(sha256));`;
    const want = execFileSync('sh', ['-c', 'head -c 50000000 /dev/zero | sha256sum'], { encoding: 'utf8' });
    expect((await run(body)).stdout.trim()).toBe(want.slice(0, 64));
  });
});
