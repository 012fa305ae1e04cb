/** Writes a laid-out bundle into a file, many blobs at once, each straight to its place. */
import { createHash } from 'node:crypto';
import { constants, fdatasync, fstat, fsync, ftruncate, writeSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { promisify } from 'node:util';
import { inert, SealiftError } from '../errors.ts';
import { reopenPartial } from '../fs/durable.ts';
import { checkSignal } from './input.ts';
import type { BundlePlan, LaidOutEntry } from './layout.ts';
import { END_BLOCKS, tarHeader } from './tar.ts';

export interface PositionalOptions {
  /** Path of the file, made with mode 0644 or opened where it is there (to go on), or an open descriptor (not closed here). */
  readonly file: string | number;
  readonly plan: BundlePlan;
  readonly signal: AbortSignal;
  /** For file systems without holes: blobs must be taken in archive order, one after another. */
  readonly ordered?: boolean | undefined;
  /** Names of blobs that an earlier run has already put in place and made durable. */
  readonly present?: ReadonlySet<string> | undefined;
  /** Blobs that are in memory already, by name: written here in large pieces together with what lies around them. */
  readonly held?: ReadonlyMap<string, Uint8Array> | undefined;
}

export interface BlobTarget {
  readonly fd: number;
  readonly offset: number;
}

export interface PositionalWriter {
  readonly fd: number;
  readonly ordered: boolean;
  /** Bytes written by this writer itself: head files, held blobs, headers, paddings, end blocks. */
  readonly bytesWritten: number;
  /** Names of the blobs that are still to be written, in archive order. */
  readonly missing: readonly string[];
  /**
   * Where the content of `name` goes; for pool.stream() or pool.range(). May be asked for again, after a failed
   * attempt. Where `ordered`, only the first missing blob has a target.
   */
  target(name: string): BlobTarget;
  /** `name` has been written whole and its hash was right. */
  done(name: string): void;
  /** Makes durable what has been written so far, for a journal that wants to say so. */
  sync(): Promise<void>;
  /** Checks that every blob is done and the file has its size, then fsync; closes the file it opened. */
  finish(): Promise<void>;
  /** Closes without a check; the partial file stays. */
  close(): Promise<void>;
}

/** Pieces that lie next to each other are written together up to this size. */
const BATCH_BYTES = 1024 * 1024;

/** Collects pieces of a file in ascending order and writes neighbours together. */
function createBatch(fd: number, onWritten: (bytes: number) => void) {
  const buffer = Buffer.allocUnsafe(BATCH_BYTES);
  let start = 0;
  let filled = 0;
  const write = (bytes: Uint8Array, offset: number) => {
    let written = 0;
    while (written < bytes.length) {
      written += writeSync(fd, bytes, written, bytes.length - written, offset + written);
    }
    onWritten(bytes.length);
  };
  const flush = () => {
    if (filled > 0) write(buffer.subarray(0, filled), start);
    filled = 0;
  };
  return {
    flush,
    add(offset: number, bytes: Uint8Array) {
      if (offset !== start + filled || filled + bytes.length > buffer.length) flush();
      if (bytes.length > buffer.length) {
        write(bytes, offset);
        return;
      }
      if (filled === 0) start = offset;
      buffer.set(bytes, filled);
      filled += bytes.length;
    },
  };
}

function checkHeld(name: string, bytes: Uint8Array, size: number): void {
  const [, algorithm = 'sha256', hex] = name.split('/');
  if (bytes.length === size && createHash(algorithm).update(bytes).digest('hex') === hex) return;
  throw new SealiftError('digest-mismatch', `the content held for ${name} is not what its name says`, {
    subject: name,
  });
}

/** Gives the event loop a turn, so that a stop is heard between many small writes. */
const breathe = () => new Promise<void>((resolve) => setImmediate(resolve));

/**
 * Opens the file, gives it its size (with holes, unless `ordered`) and writes everything but the blobs that are
 * neither present nor held. No byte is written twice.
 * @throws SealiftError `digest-mismatch` for a held blob that is not what its name says, `cancelled`; file system
 * errors as they come
 */
export async function createPositionalWriter(options: PositionalOptions): Promise<PositionalWriter> {
  const { file, plan, signal, ordered = false, present, held } = options;
  const { layout, head, blobs } = plan;
  checkSignal(signal);
  let handle: FileHandle | undefined;
  if (typeof file === 'string') handle = await reopenPartial(file, constants.O_CREAT);
  const fd = handle ? handle.fd : (file as number);
  let bytesWritten = 0;
  let closed = false;
  const batch = createBatch(fd, (bytes) => {
    bytesWritten += bytes;
  });
  const byName = new Map(blobs.map((place) => [place.name, place]));
  const missing = new Map<string, LaidOutEntry>();
  for (const place of blobs) {
    if (!present?.has(place.name) && !held?.has(place.name)) missing.set(place.name, place);
  }

  const addHeader = ({ name, headerOffset, size }: LaidOutEntry) => {
    batch.add(headerOffset, tarHeader(name, size, layout.mtime));
  };
  const addPadding = ({ contentOffset, size, paddingSize }: LaidOutEntry) => {
    batch.add(contentOffset + size, END_BLOCKS.subarray(0, paddingSize));
  };
  const addHead = () => {
    for (const [i, { bytes }] of head.entries()) {
      const place = layout.entries[i];
      if (!place || place.size !== bytes.length)
        throw new SealiftError('internal', 'head files do not fit the layout');
      addHeader(place);
      batch.add(place.contentOffset, bytes);
      addPadding(place);
    }
  };

  /** Index of the first blob whose header has not been written. */
  let next = 0;
  /** Writes what surrounds the blobs from `next` on; where `ordered`, up to the first that is missing. */
  const addFrame = (): boolean => {
    let place = blobs[next];
    if (ordered && place && next > 0) {
      const before = blobs[next - 1];
      if (before && missing.has(before.name)) return false;
    }
    for (let count = 0; place; place = blobs[next]) {
      addHeader(place);
      const bytes = held?.get(place.name);
      if (bytes) {
        checkHeld(place.name, bytes, place.size);
        batch.add(place.contentOffset, bytes);
      }
      next += 1;
      if (ordered && missing.has(place.name)) return false;
      addPadding(place);
      count += 1;
      if (count === 1024) return true;
    }
    return false;
  };

  const close = async () => {
    if (closed) return;
    closed = true;
    await handle?.close();
  };

  try {
    const { size } = await promisify(fstat)(fd);
    if (!ordered || size > layout.size) await promisify(ftruncate)(fd, layout.size);
    addHead();
    while (addFrame()) {
      checkSignal(signal);
      await breathe();
    }
    if (!ordered) batch.add(layout.endOffset, END_BLOCKS);
    batch.flush();
  } catch (error) {
    await close();
    throw error;
  }

  return {
    fd,
    ordered,
    get bytesWritten() {
      return bytesWritten;
    },
    get missing() {
      return [...missing.keys()];
    },
    target(name) {
      const place = missing.get(name);
      if (!place) {
        const why = byName.has(name) ? 'is written already' : 'is not in the bundle';
        throw new SealiftError('internal', `${inert(name)} ${why}`);
      }
      if (ordered) {
        const [first] = missing.keys();
        if (first !== name) {
          throw new SealiftError('internal', `blobs are written in order here: got ${name}, want ${first}`);
        }
      }
      return { fd, offset: place.contentOffset };
    },
    done(name) {
      const place = missing.get(name);
      if (!place) throw new SealiftError('internal', `${inert(name)} is done twice`);
      if (ordered && missing.keys().next().value !== name) {
        throw new SealiftError('internal', `blobs are written in order here: ${name} is not the next`);
      }
      missing.delete(name);
      if (!ordered) return;
      addPadding(place);
      let more = addFrame();
      while (more) more = addFrame();
      batch.flush();
    },
    sync: () => promisify(fdatasync)(fd),
    async finish() {
      if (missing.size > 0) {
        throw new SealiftError('internal', `a bundle is finished with ${missing.size} blobs missing`);
      }
      try {
        if (ordered) {
          batch.add(layout.endOffset, END_BLOCKS);
          batch.flush();
        }
        const { size } = await promisify(fstat)(fd);
        if (size !== layout.size) {
          throw new SealiftError(
            'destination-failed',
            `the file has another size: got ${size} bytes, want ${layout.size}`,
            {
              got: size,
              want: layout.size,
            },
          );
        }
        await promisify(fsync)(fd);
      } finally {
        await close();
      }
    },
    close,
  };
}
