/**
 * Reading a file from its medium, past the page cache: what was written to a stick is only known to be there when the
 * stick itself has said so.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { Context } from '../context.ts';
import { inert, SealiftError } from '../errors.ts';
import type { HashAlgorithm, Hashes, WorkerPool } from '../pool/pool.ts';

const PIECE = 1024 * 1024;
const PAGE = 64 * 1024;

/** Memory that begins on a page, as reads past the cache demand; no other memory of the runtime promises that. */
function alignedMemory(): Uint8Array {
  const { WebAssembly } = globalThis as unknown as {
    WebAssembly: { Memory: new (options: { initial: number; maximum: number }) => { buffer: ArrayBuffer } };
  };
  const pages = PIECE / PAGE;
  return new Uint8Array(new WebAssembly.Memory({ initial: pages, maximum: pages }).buffer);
}

/** A file for reading past the cache; undefined where the system or the file system cannot do that. */
async function openDirect(file: string): Promise<FileHandle | undefined> {
  const direct = (constants as { readonly O_DIRECT?: number }).O_DIRECT;
  if (direct === undefined) return undefined;
  try {
    return await open(file, constants.O_RDONLY | direct);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EINVAL' || code === 'ENOTSUP' || code === 'EOPNOTSUPP') return undefined;
    throw error;
  }
}

/**
 * Pieces of a file, from the medium; a piece is valid until the next is asked for. Undefined where that cannot be.
 */
export async function readPastCache(
  file: string,
  signal: AbortSignal,
): Promise<AsyncGenerator<Uint8Array, void, void> | undefined> {
  const handle = await openDirect(file);
  if (!handle) return undefined;
  const buffer = alignedMemory();
  const read = async (offset: number): Promise<number | undefined> => {
    try {
      return (await handle.read(buffer, 0, PIECE, offset)).bytesRead;
    } catch (error) {
      if (offset === 0 && (error as NodeJS.ErrnoException).code === 'EINVAL') return undefined;
      throw error;
    }
  };
  // Some file systems take the flag and refuse the read.
  const first = await read(0).catch(async (error: unknown) => {
    await handle.close();
    throw error;
  });
  if (first === undefined) {
    await handle.close();
    return undefined;
  }
  return (async function* pieces() {
    try {
      let offset = 0;
      for (let got = first; got > 0; got = (await read(offset)) ?? 0) {
        signal.throwIfAborted();
        yield buffer.subarray(0, got);
        offset += got;
        // Behind the end an unaligned read would be asked for.
        if (got % 512 !== 0) return;
      }
    } finally {
      await handle.close();
    }
  })();
}

/**
 * Hashes of a file as its medium has it. Undefined where the page cache cannot be gone past.
 */
export async function hashPastCache(
  file: string,
  algorithms: readonly HashAlgorithm[],
  pool: WorkerPool,
  signal: AbortSignal,
): Promise<{ readonly hashes: Hashes; readonly bytes: number } | undefined> {
  const pieces = await readPastCache(file, signal);
  if (!pieces) return undefined;
  const sink = pool.stream({ algorithms });
  try {
    for await (const piece of pieces) await sink.write(piece);
    return await sink.finish();
  } finally {
    sink.abort();
  }
}

export function tellReadBackImpossible(directory: string, context: Pick<Context, 'emit'>): void {
  context.emit({
    type: 'notice',
    level: 'info',
    code: 'read-back-impossible',
    message: `${inert(directory)} cannot be read past the page cache; what is on the medium was not compared`,
  });
}

/** The medium has other bytes than were written (`destination-failed`). */
export class NotKept extends SealiftError {
  constructor(file: string, cause?: unknown) {
    super('destination-failed', 'the medium did not keep what was written to it', {
      subject: inert(file, 4096),
      hint: 'use another medium, and run the same command again; what is good is kept',
      cause,
    });
  }
}
