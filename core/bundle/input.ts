/** Bytes from a stream or file in order, in the amounts the reader asks for. */
import type { FileHandle } from 'node:fs/promises';
import { SealiftError } from '../errors.ts';

export interface Input {
  /** Bytes taken so far. */
  readonly position: number;
  /** Exactly `size` bytes, or fewer where the input ends. Holds only what has arrived. */
  readUpTo(size: number): Promise<Buffer>;
  /** Exactly `size` bytes. @throws SealiftError `bundle-truncated` */
  read(size: number, what: string): Promise<Buffer>;
  /** Exactly `size` bytes in pieces as they come. @throws SealiftError `bundle-truncated` */
  pieces(size: number, what: string): AsyncGenerator<Uint8Array, void, void>;
  /** Puts back bytes that were read last. */
  unread(bytes: Uint8Array): void;
  /** Gives the source up. */
  close(): Promise<void>;
}

function cancelled(signal: AbortSignal): SealiftError {
  return new SealiftError('cancelled', 'stopped', { cause: signal.reason });
}

export function checkSignal(signal: AbortSignal): void {
  if (signal.aborted) throw cancelled(signal);
}

/** What `promise` gives, or `cancelled` as soon as the signal says so. */
async function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  checkSignal(signal);
  let onAbort: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(cancelled(signal));
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    if (onAbort) signal.removeEventListener('abort', onAbort);
  }
}

function truncated(position: number, what: string): SealiftError {
  return new SealiftError('bundle-truncated', `the bundle ends in ${what}, after ${position} bytes`, {
    subject: what,
    got: position,
  });
}

/** @param source pieces of any size; a text piece is refused */
export function createInput(source: AsyncIterable<Uint8Array>, signal: AbortSignal): Input {
  const iterator = source[Symbol.asyncIterator]();
  let waiting: Uint8Array | undefined;
  let position = 0;
  let ended = false;
  /** At most `max` bytes; undefined at the end. */
  const some = async (max: number): Promise<Uint8Array | undefined> => {
    while (!waiting || waiting.length === 0) {
      if (ended) return undefined;
      const next = await orAborted(iterator.next(), signal);
      if (next.done) {
        ended = true;
        return undefined;
      }
      if (!(next.value instanceof Uint8Array))
        throw new SealiftError('internal', 'a bundle is read as bytes, not as text');
      waiting = next.value;
    }
    const piece = waiting.subarray(0, max);
    waiting = waiting.subarray(piece.length);
    position += piece.length;
    return piece;
  };
  const readUpTo = async (size: number): Promise<Buffer> => {
    if (waiting && waiting.length >= size) {
      const bytes = Buffer.from(waiting.subarray(0, size));
      waiting = waiting.subarray(size);
      position += size;
      return bytes;
    }
    const pieces: Uint8Array[] = [];
    let got = 0;
    while (got < size) {
      const piece = await some(size - got);
      if (!piece) break;
      pieces.push(piece);
      got += piece.length;
    }
    return Buffer.concat(pieces, got);
  };
  return {
    get position() {
      return position;
    },
    readUpTo,
    async read(size, what) {
      const bytes = await readUpTo(size);
      if (bytes.length < size) throw truncated(position, what);
      return bytes;
    },
    async *pieces(size, what) {
      let left = size;
      while (left > 0) {
        const piece = await some(left);
        if (!piece) throw truncated(position, what);
        left -= piece.length;
        yield piece;
      }
    },
    unread(bytes) {
      waiting = waiting && waiting.length > 0 ? Buffer.concat([bytes, waiting]) : bytes;
      position -= bytes.length;
    },
    async close() {
      ended = true;
      waiting = undefined;
      const stream = source as { destroy?: () => void };
      // A generator that waits for its next piece would keep return() waiting too; a stream is simply destroyed.
      if (typeof stream.destroy === 'function') stream.destroy();
      else if (!signal.aborted) await iterator.return?.();
    },
  };
}

/** The first piece, enough for most heads, and the following ones. */
const FIRST_PIECE = 32 * 1024;
const FILE_PIECE = 256 * 1024;

/** A file from its start in pieces. */
export async function* readPieces(handle: FileHandle): AsyncGenerator<Uint8Array, void, void> {
  let offset = 0;
  for (;;) {
    const size = offset === 0 ? FIRST_PIECE : FILE_PIECE;
    const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(size), 0, size, offset);
    if (bytesRead === 0) return;
    offset += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

/** Up to `size` bytes at `offset`, fewer only where the file ends. */
export async function readAt(handle: FileHandle, offset: number, size: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(size);
  let got = 0;
  while (got < size) {
    const { bytesRead } = await handle.read(buffer, got, size - got, offset + got);
    if (bytesRead === 0) break;
    got += bytesRead;
  }
  return buffer.subarray(0, got);
}
