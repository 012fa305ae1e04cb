import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  ftruncateSync,
  openSync,
  readFileSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createPositionalWriter, type PositionalOptions } from '../../../core/bundle/writer-positional.ts';
import { writeSequentially } from '../../../core/bundle/writer-sequential.ts';
import { createWorkerPool } from '../../../core/pool/worker-pool.ts';
import {
  blobName,
  codeOf,
  hex,
  inlinePool,
  type MadeBlob,
  type MadeBundle,
  makeBundle,
  SOME_BLOBS,
  temporaryDirectory,
} from './helpers.ts';

const signal = new AbortController().signal;

async function* pieces(bytes: Uint8Array, size = 1000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

class Collector extends Writable {
  readonly chunks: Buffer[] = [];
  override _write(chunk: Buffer, _encoding: string, callback: () => void): void {
    this.chunks.push(chunk);
    setImmediate(callback);
  }
  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }
}

async function sequential(bundle: MadeBundle): Promise<Buffer> {
  const output = new Collector({ highWaterMark: 1000 });
  const result = await writeSequentially({
    output,
    plan: bundle.plan,
    pool: inlinePool(),
    signal,
    blob: async (name) => pieces(bundle.blobs.get(name) ?? new Uint8Array()),
  });
  expect(result).toEqual({ size: output.bytes.length, sha256: hex(output.bytes) });
  return output.bytes;
}

async function positional(bundle: MadeBundle, more: Partial<PositionalOptions> = {}): Promise<Buffer> {
  const file = path.join(temporaryDirectory(), 'bundle.tar');
  const pool = inlinePool();
  const writer = await createPositionalWriter({ file, plan: bundle.plan, signal, ...more });
  let content = 0;
  const put = async (name: string) => {
    const sink = pool.stream({ target: writer.target(name), algorithms: ['sha256'] });
    for await (const piece of pieces(bundle.blobs.get(name) ?? new Uint8Array())) await sink.write(piece);
    const { bytes } = await sink.finish();
    content += bytes;
    writer.done(name);
  };
  if (writer.ordered) for (const name of writer.missing) await put(name);
  else await Promise.all([...writer.missing].reverse().map(put));
  await writer.finish();
  const written = readFileSync(file);
  expect(writer.bytesWritten + content).toBe(written.length);
  return written;
}

const blobs = fc.array(
  fc.record({
    bytes: fc.uint8Array({ maxLength: 3000 }),
    kind: fc.constantFrom('manifest', 'config', 'evidence', 'layer'),
    algorithm: fc.constantFrom('sha256', 'sha256', 'sha512'),
  }) satisfies fc.Arbitrary<MadeBlob>,
  { maxLength: 12 },
);

describe('both writers', () => {
  it('write the bytes that the format prescribes, for any bundle', async () => {
    await fc.assert(
      fc.asyncProperty(
        blobs,
        fc.boolean(),
        fc.integer({ min: 1, max: 4 }),
        async (some, signedSums, roots) => {
          const bundle = makeBundle({ blobs: some, signedSums, roots });
          expect((await sequential(bundle)).equals(bundle.bytes)).toBe(true);
          expect((await positional(bundle)).equals(bundle.bytes)).toBe(true);
          expect((await positional(bundle, { ordered: true })).equals(bundle.bytes)).toBe(true);
        },
      ),
      { numRuns: 40 },
    );
  });

  it('write role names of any length', async () => {
    for (const length of [80, 90, 94, 95, 100, 128]) {
      const bundle = makeBundle({ role: 'r'.repeat(length) });
      expect((await sequential(bundle)).equals(bundle.bytes)).toBe(true);
      expect((await positional(bundle)).equals(bundle.bytes)).toBe(true);
    }
  });

  it('write what tar and sha256sum take', async () => {
    const directory = temporaryDirectory();
    const file = path.join(directory, 'bundle.tar');
    const bundle = makeBundle({
      blobs: [...SOME_BLOBS, { bytes: Buffer.from('x'), kind: 'layer', algorithm: 'sha512' }],
    });
    writeFileSync(file, await sequential(bundle));
    const listing = execFileSync('tar', ['tf', file], { encoding: 'utf8' }).trim().split('\n');
    expect(listing).toEqual(bundle.manifest.entries.map(({ name }) => name));
    const long = execFileSync('tar', ['--utc', '-tvf', file], { encoding: 'utf8' });
    expect(long.split('\n')[0]).toBe('-rw-r--r-- 0/0              30 2026-01-02 03:04 oci-layout');
    execFileSync('tar', ['xf', file, '-C', directory]);
    execFileSync('sha256sum', ['--check', '--strict', '--quiet', 'SHA256SUMS'], { cwd: directory });
    execFileSync('sha512sum', ['--check', '--strict', '--quiet', 'SHA512SUMS'], { cwd: directory });
  });
});

describe('the golden bundle of format 1', () => {
  it('is written byte for byte', async () => {
    const golden = readFileSync(new URL('../../golden/bundle-v1.tar', import.meta.url));
    const bundle = makeBundle({
      blobs: [...SOME_BLOBS, { bytes: Buffer.from('x'), kind: 'layer', algorithm: 'sha512' }],
      dockerManifest: true,
    });
    expect((await sequential(bundle)).equals(golden)).toBe(true);
    expect((await positional(bundle)).equals(golden)).toBe(true);
  });
});

describe('the positional writer', () => {
  it('goes on with what is present, and writes what is held', async () => {
    const bundle = makeBundle();
    const [first = '', second = '', third = ''] = bundle.plan.blobs.map(({ name }) => name);
    const held = new Map([[second, bundle.blobs.get(second) ?? new Uint8Array()]]);
    for (const ordered of [false, true]) {
      const file = path.join(temporaryDirectory(), 'bundle.tar');
      const fd = openSync(file, 'w+');
      writeSync(
        fd,
        bundle.blobs.get(first) ?? new Uint8Array(),
        0,
        null,
        bundle.plan.blobs[0]?.contentOffset,
      );
      writeSync(
        fd,
        bundle.blobs.get(third) ?? new Uint8Array(),
        0,
        null,
        bundle.plan.blobs[2]?.contentOffset,
      );
      if (!ordered) ftruncateSync(fd, bundle.bytes.length + 5000);
      const writer = await createPositionalWriter({
        file: fd,
        plan: bundle.plan,
        signal,
        ordered,
        held,
        present: new Set([first, third]),
      });
      expect(writer.missing).toEqual(bundle.plan.blobs.slice(3).map(({ name }) => name));
      for (const name of writer.missing) {
        const { offset } = writer.target(name);
        writeSync(fd, bundle.blobs.get(name) ?? new Uint8Array(), 0, null, offset);
        writer.done(name);
      }
      await writer.finish();
      closeSync(fd);
      expect(readFileSync(file).equals(bundle.bytes)).toBe(true);
    }
  });

  it('makes holes for what is not there yet', async () => {
    const size = 64 * 1024 * 1024;
    const name = blobName({ bytes: Buffer.from('x'), kind: 'layer' });
    const bundle = makeBundle();
    const { layoutBundle } = await import('../../../core/bundle/layout.ts');
    const plan = layoutBundle(bundle.head, [{ name, size }], bundle.plan.layout.mtime);
    const file = path.join(temporaryDirectory(), 'bundle.tar');
    const writer = await createPositionalWriter({ file, plan, signal });
    await writer.close();
    expect(statSync(file).size).toBe(plan.layout.size);
    expect(statSync(file).blocks * 512).toBeLessThan(size / 2);
  });

  it('refuses blobs out of order where there are no holes', async () => {
    const bundle = makeBundle();
    const file = path.join(temporaryDirectory(), 'bundle.tar');
    const writer = await createPositionalWriter({ file, plan: bundle.plan, signal, ordered: true });
    const [first = '', second = ''] = writer.missing;
    expect(() => writer.target(second)).toThrow(/in order/);
    expect(() => writer.done(second)).toThrow(/in order/);
    writer.target(first);
    expect(statSync(file).size).toBeLessThan(bundle.bytes.length);
    await writer.close();
  });

  it('does not finish with a blob missing', async () => {
    const bundle = makeBundle();
    const file = path.join(temporaryDirectory(), 'bundle.tar');
    const writer = await createPositionalWriter({ file, plan: bundle.plan, signal });
    expect(await codeOf(() => writer.finish())).toBe('internal');
    await writer.close();
  });

  it('refuses a held blob that is not what its name says', async () => {
    const bundle = makeBundle();
    const file = path.join(temporaryDirectory(), 'bundle.tar');
    const held = new Map([[bundle.plan.blobs[0]?.name ?? '', Buffer.from('other')]]);
    expect(await codeOf(() => createPositionalWriter({ file, plan: bundle.plan, signal, held }))).toBe(
      'digest-mismatch',
    );
  });

  it('hands on what the file system says', async () => {
    const bundle = makeBundle();
    const file = path.join(temporaryDirectory(), 'none', 'bundle.tar');
    await expect(createPositionalWriter({ file, plan: bundle.plan, signal })).rejects.toMatchObject({
      code: 'ENOENT',
    });
    const readOnly = path.join(temporaryDirectory(), 'bundle.tar');
    writeFileSync(readOnly, '');
    const fd = openSync(readOnly, constants.O_RDONLY);
    await expect(createPositionalWriter({ file: fd, plan: bundle.plan, signal })).rejects.toHaveProperty(
      'code',
    );
    closeSync(fd);
  });
});

const LARGE_BLOBS: readonly MadeBlob[] = [
  { bytes: Buffer.alloc(100_000, 'c'), kind: 'config' },
  { bytes: Buffer.alloc(100_000, 'l'), kind: 'layer' },
  { bytes: Buffer.alloc(150_000, 'm'), kind: 'layer', algorithm: 'sha512' },
];

describe.each([
  ['small', SOME_BLOBS],
  ['large', LARGE_BLOBS],
])('the sequential writer, with %s blobs', (_, blobsOfBundle) => {
  async function failing(
    bundle: MadeBundle,
    blob: (name: string) => Promise<AsyncIterable<Uint8Array>>,
    output = new Collector(),
    stop = signal,
  ): Promise<string> {
    const code = await codeOf(() =>
      writeSequentially({ output, plan: bundle.plan, pool: inlinePool(), signal: stop, blob }),
    );
    expect(output.destroyed).toBe(true);
    expect(output.bytes.length).toBeLessThan(bundle.bytes.length);
    return code;
  }
  const bundle = makeBundle({ blobs: blobsOfBundle });
  const content = (name: string) => bundle.blobs.get(name) ?? new Uint8Array();
  const last = bundle.plan.blobs.at(-1)?.name ?? '';

  it('writes what the format prescribes', async () => {
    expect((await sequential(bundle)).equals(bundle.bytes)).toBe(true);
  });

  it('ends without end blocks when the last blob has another content', async () => {
    const wrong = async (name: string) =>
      pieces(name === last ? Buffer.alloc(content(name).length) : content(name));
    expect(await failing(bundle, wrong)).toBe('digest-mismatch');
  });

  it('ends without end blocks when a blob is short', async () => {
    expect(await failing(bundle, async (name) => pieces(content(name).subarray(1)))).toBe('size-mismatch');
  });

  it('ends without end blocks when a blob is long', async () => {
    expect(await failing(bundle, async (name) => pieces(Buffer.concat([content(name), content(name)])))).toBe(
      'size-mismatch',
    );
  });

  it('ends without end blocks when a blob breaks off', async () => {
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('x');
      throw Object.assign(new Error('gone'), { code: 'ECONNRESET' });
    }
    const output = new Collector();
    const work = writeSequentially({
      output,
      plan: bundle.plan,
      pool: inlinePool(),
      signal,
      blob: async () => broken(),
    });
    await expect(work).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(output.destroyed).toBe(true);
  });

  it('stops when it is told to, even where a blob never comes', async () => {
    const controller = new AbortController();
    const never = async () => {
      setImmediate(() => controller.abort());
      return new Promise<AsyncIterable<Uint8Array>>(() => {});
    };
    expect(await failing(bundle, never, new Collector(), controller.signal)).toBe('cancelled');
  });

  it('stops when the output fails', async () => {
    const output = new Collector();
    output._write = (_chunk, _encoding, callback: (error?: Error) => void) => {
      callback(Object.assign(new Error('full'), { code: 'ENOSPC' }));
    };
    const work = writeSequentially({
      output,
      plan: bundle.plan,
      pool: inlinePool(),
      signal,
      blob: async (name) => pieces(content(name)),
    });
    await expect(work).rejects.toMatchObject({ code: 'ENOSPC' });
  });

  it('stops when the reader of a pipe goes', async () => {
    const output = new Collector();
    output._write = (_chunk, _encoding, callback: (error?: Error) => void) => {
      callback(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
    };
    expect(await failing(bundle, async (name) => pieces(content(name)), output)).toBe('destination-failed');
  });

  it('stops when the output is closed by the other side', async () => {
    const output = new PassThrough({ highWaterMark: 10 });
    setImmediate(() => output.destroy());
    const code = await codeOf(() =>
      writeSequentially({
        output,
        plan: bundle.plan,
        pool: inlinePool(),
        signal,
        blob: async (name) => pieces(content(name)),
      }),
    );
    expect(code).toBe('destination-failed');
  });

  it('refuses a time that its library cannot write', async () => {
    const plan = { ...bundle.plan, layout: { ...bundle.plan.layout, mtime: 2 ** 31 } };
    const work = () =>
      writeSequentially({
        output: new Collector(),
        plan,
        pool: inlinePool(),
        signal,
        blob: async (name) => pieces(content(name)),
      });
    expect(await codeOf(work)).toBe('invalid-argument');
  });

  it('does not run ahead of a slow output', async () => {
    const bytes = Buffer.alloc(24 * 1024 * 1024, 'z');
    const large = makeBundle({ blobs: [{ bytes, kind: 'layer' }] });
    let produced = 0;
    let taken = 0;
    let furthest = 0;
    const output = new Writable({
      highWaterMark: 64 * 1024,
      write(chunk: Buffer, _encoding, callback) {
        taken += chunk.length;
        furthest = Math.max(furthest, produced - taken);
        setImmediate(callback);
      },
    });
    const pool = createWorkerPool({ size: 1 });
    async function* counted(): AsyncGenerator<Uint8Array> {
      for await (const piece of pieces(bytes, 64 * 1024)) {
        produced += piece.length;
        yield piece;
      }
    }
    await writeSequentially({ output, plan: large.plan, pool, signal, blob: async () => counted() });
    await pool.close();
    expect(taken).toBe(large.bytes.length);
    expect(furthest).toBeLessThan(6 * 1024 * 1024);
  });
});
