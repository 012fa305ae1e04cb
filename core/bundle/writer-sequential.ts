/**
 * Writes a laid-out bundle in order to a stream, through archiver. What archiver writes is compared on the way
 * with what the format prescribes, so that a change in the library can never change a bundle.
 */
import { createHash } from 'node:crypto';
import { Readable, type Writable } from 'node:stream';
import type { TarArchive } from 'archiver';
import { SealiftError } from '../errors.ts';
import type { HashAlgorithm, WorkerPool } from '../pool/pool.ts';
import { checkSignal } from './input.ts';
import type { BundlePlan } from './layout.ts';
import { END_BLOCKS, tarHeader } from './tar.ts';

export interface SequentialOptions {
  readonly output: Writable;
  readonly plan: BundlePlan;
  readonly pool: WorkerPool;
  readonly signal: AbortSignal;
  /** The content of a blob (`blobs/ALG/HEX`); asked for one after another in archive order. Hashed here. */
  readonly blob: (name: string, size: number) => Promise<AsyncIterable<Uint8Array>>;
  /** Bytes of the blob handed on so far. */
  readonly onProgress?: ((name: string, bytes: number) => void) | undefined;
}

/** archiver keeps times in 32 bits. */
const LAST_MTIME = 0x7fff_ffff;
const PIECE_BYTES = 1024 * 1024;
/** Blobs up to this size are held in memory and hashed here: a thread and a stream would cost more. */
const INLINE_BYTES = 64 * 1024;

/** Compares bytes that go by with the frame of the layout and the head files; blobs are somebody else's. */
function createFrameCheck(plan: BundlePlan): { take(chunk: Uint8Array): void; finish(): void } {
  function* segments(): Generator<Uint8Array | number, void, void> {
    for (const [i, { name, size, paddingSize }] of plan.layout.entries.entries()) {
      yield tarHeader(name, size, plan.layout.mtime);
      yield plan.head[i]?.bytes ?? size;
      yield END_BLOCKS.subarray(0, paddingSize);
    }
    yield END_BLOCKS;
  }
  const wanted = segments();
  let current: Uint8Array | number | undefined;
  let at = 0;
  const lengthOf = (segment: Uint8Array | number) => (typeof segment === 'number' ? segment : segment.length);
  const advance = () => {
    while (current === undefined || at === lengthOf(current)) {
      const next = wanted.next();
      at = 0;
      current = undefined;
      if (next.done) return;
      current = next.value;
    }
  };
  const wrong = (what: string) => new SealiftError('internal', `the archive library ${what}`);
  return {
    take(chunk) {
      for (let done = 0; done < chunk.length; ) {
        advance();
        if (current === undefined) throw wrong('writes behind the end of the archive');
        const length = Math.min(lengthOf(current) - at, chunk.length - done);
        if (typeof current !== 'number') {
          const same =
            Buffer.compare(chunk.subarray(done, done + length), current.subarray(at, at + length)) === 0;
          if (!same) throw wrong('writes other bytes than the format prescribes');
        }
        at += length;
        done += length;
      }
    },
    finish() {
      advance();
      if (current !== undefined) throw wrong('ends the archive too early');
    },
  };
}

interface Watch {
  /** What `promise` gives, unless the output fails, is closed early, or the run is stopped before that. */
  guard<T>(promise: Promise<T>): Promise<T>;
  stop(): void;
}

function watchFailure(output: Writable, signal: AbortSignal): Watch {
  // Not one promise to race against: it would keep a reaction for every piece that ever went by.
  const waiting = new Set<(error: Error) => void>();
  let failure: Error | undefined;
  const fail = (error: Error) => {
    failure ??= error;
    for (const reject of waiting) reject(failure);
    waiting.clear();
  };
  const onClose = () =>
    fail(new SealiftError('destination-failed', 'the output was closed before the bundle was written'));
  const onAbort = () => fail(new SealiftError('cancelled', 'stopped', { cause: signal.reason }));
  output.on('error', (error: NodeJS.ErrnoException) => {
    const gone = error.code === 'EPIPE' || error.code === 'ECONNRESET';
    fail(
      gone
        ? new SealiftError('destination-failed', 'whoever read the output has gone', { cause: error })
        : error,
    );
  });
  output.on('close', onClose);
  signal.addEventListener('abort', onAbort, { once: true });
  return {
    guard(promise) {
      return new Promise((resolve, reject) => {
        if (failure) {
          promise.catch(() => {});
          reject(failure);
          return;
        }
        waiting.add(reject);
        promise.then(resolve, reject).finally(() => waiting.delete(reject));
      });
    },
    stop() {
      // The error listener stays: a destroyed output may still report what it was destroyed with.
      output.off('close', onClose);
      signal.removeEventListener('abort', onAbort);
    },
  };
}

function sizeMismatch(name: string, got: number, want: number): SealiftError {
  const how = got > want ? 'more' : 'fewer';
  return new SealiftError(
    'size-mismatch',
    `${name} has ${how} bytes than announced: got ${got}, want ${want}`,
    {
      subject: name,
      got,
      want,
    },
  );
}

function checkHash(name: string, got: string | undefined): void {
  const [, algorithm, hex] = name.split('/');
  if (got === hex) return;
  throw new SealiftError(
    'digest-mismatch',
    `the content of ${name} has another digest: got ${algorithm}:${got}`,
    {
      subject: name,
      got: `${algorithm}:${got}`,
      want: `${algorithm}:${hex}`,
    },
  );
}

function algorithmOf(name: string): HashAlgorithm {
  return name.startsWith('blobs/sha512/') ? 'sha512' : 'sha256';
}

/** The pieces of `source`, exactly `size` bytes or an error. */
async function* counted(
  name: string,
  size: number,
  source: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, void, void> {
  let bytes = 0;
  for await (const piece of source) {
    bytes += piece.length;
    if (bytes > size) throw sizeMismatch(name, bytes, size);
    if (piece.length > 0) yield piece;
  }
  if (bytes < size) throw sizeMismatch(name, bytes, size);
}

/** A blob's pieces, counted and hashed; fails before its end where it is not what its name says. */
async function* checkedContent(
  name: string,
  size: number,
  source: AsyncIterable<Uint8Array>,
  pool: WorkerPool,
  onProgress: SequentialOptions['onProgress'],
): AsyncGenerator<Uint8Array, void, void> {
  const sink = pool.stream({ algorithms: [algorithmOf(name)] });
  let bytes = 0;
  try {
    for await (const piece of counted(name, size, source)) {
      bytes += piece.length;
      await sink.write(piece);
      onProgress?.(name, bytes);
      yield piece;
    }
    const { hashes } = await sink.finish();
    checkHash(name, hashes[algorithmOf(name)]);
  } finally {
    sink.abort();
  }
}

/** A small blob as a whole, checked. */
async function checkedBytes(name: string, size: number, source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of counted(name, size, source)) pieces.push(piece);
  const bytes = Buffer.concat(pieces, size);
  checkHash(name, createHash(algorithmOf(name)).update(bytes).digest('hex'));
  return bytes;
}

/**
 * Writes the whole bundle and ends `output`. Where anything fails `output` is destroyed without end blocks, so
 * that no reader takes what is there for a bundle.
 * @returns bytes written, and their SHA-256 in lower-case hex
 * @throws SealiftError `size-mismatch` or `digest-mismatch` for a blob that is not what its name says,
 * `destination-failed`, `cancelled`, `invalid-argument` for a time after 2038-01-19; errors of the blobs and of
 * the output as they come
 */
export async function writeSequentially(
  options: SequentialOptions,
): Promise<{ readonly size: number; readonly sha256: string }> {
  const { output, plan, pool, signal, onProgress } = options;
  const { layout, head, blobs } = plan;
  checkSignal(signal);
  if (layout.mtime > LAST_MTIME) {
    throw new SealiftError('invalid-argument', 'a streamed bundle cannot be made after 2038-01-19', {
      got: layout.mtime,
      want: LAST_MTIME,
      hint: 'write the bundle to a file',
    });
  }
  const { TarArchive } = await import('archiver');
  const archive: TarArchive = new TarArchive({ highWaterMark: PIECE_BYTES });
  const { guard, stop } = watchFailure(output, signal);
  const whole = pool.stream({ algorithms: ['sha256'] });
  let source: Readable | undefined;

  /** Appends one entry and waits until the archive has taken it whole. */
  const append = async (content: Buffer | Readable, name: string, size: number) => {
    const date = new Date(layout.mtime * 1000);
    const taken = new Promise<void>((resolve, reject) => {
      archive.once('entry', () => resolve());
      // pipe() does not hand on errors of its source.
      if (content instanceof Readable) content.once('error', reject);
    });
    // Without stats archiver holds a stream in memory whole to learn its size; it reads these three fields only.
    const stats = { size, mode: 0o644, mtime: date } as import('node:fs').Stats;
    archive.append(content, { name, date, mode: 0o644, stats });
    await guard(taken);
  };
  const produce = async () => {
    for (const { name, bytes } of head) {
      await append(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), name, bytes.length);
    }
    for (const { name, size } of blobs) {
      const content = await guard(options.blob(name, size));
      if (size <= INLINE_BYTES) {
        await append(await guard(checkedBytes(name, size, content)), name, size);
        onProgress?.(name, size);
        continue;
      }
      const checked = checkedContent(name, size, content, pool, onProgress);
      source = Readable.from(checked, { objectMode: false, highWaterMark: PIECE_BYTES });
      await append(source, name, size);
    }
    await archive.finalize();
  };
  const consume = async () => {
    const check = createFrameCheck(plan);
    const iterator = (archive as unknown as Readable).iterator({ destroyOnReturn: false });
    for await (const chunk of iterator as AsyncIterable<Uint8Array>) {
      check.take(chunk);
      await whole.write(chunk);
      if (!output.write(chunk)) {
        await guard(new Promise<void>((resolve) => output.once('drain', resolve)));
      }
    }
    check.finish();
  };

  try {
    const archiveFailed = new Promise<never>((_, reject) => archive.on('error', reject));
    await guard(Promise.race([Promise.all([produce(), consume()]), archiveFailed]));
    const { hashes, bytes } = await whole.finish();
    await guard(
      new Promise<void>((resolve) => {
        output.end(() => {
          stop();
          resolve();
        });
      }),
    );
    return { size: bytes, sha256: hashes.sha256 ?? '' };
  } catch (error) {
    output.destroy(error instanceof Error ? error : undefined);
    source?.on('error', () => {});
    source?.destroy();
    // The archive is only left alone: to abort or destroy it makes its queue throw where nobody can catch it.
    archive.on('error', () => {});
    throw error;
  } finally {
    whole.abort();
    stop();
  }
}
