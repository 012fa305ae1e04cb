/** Archives that cannot be read where they lie are written out once, without a name, and read from there. */
import { constants, createReadStream } from 'node:fs';
import { type FileHandle, mkdtemp, open, rm, statfs } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import type { Context } from '../../context.ts';
import { inert, isSealiftError, SealiftError } from '../../errors.ts';
import { formatBytes } from '../../util/format.ts';

/** Bytes after which free space is looked at again. */
const LOOK_EVERY = 64 * 1024 * 1024;
/** Share of a file system that is left free: a full /tmp harms more than this run. */
const LEAVE_FREE = 128 * 1024 * 1024;

export type Compression = 'none' | 'gzip' | 'zstd';

const OTHER_COMPRESSIONS: readonly (readonly [string, readonly number[]])[] = [
  ['bzip2', [0x42, 0x5a, 0x68]],
  ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ['lz4', [0x04, 0x22, 0x4d, 0x18]],
];

/** What the first bytes of a file say. */
export function compressionOf(head: Uint8Array): Compression | { readonly unknown: string } {
  const begins = (magic: readonly number[]) => magic.every((byte, i) => head[i] === byte);
  if (begins([0x1f, 0x8b])) return 'gzip';
  if (begins([0x28, 0xb5, 0x2f, 0xfd])) return 'zstd';
  const other = OTHER_COMPRESSIONS.find(([, magic]) => begins(magic));
  return other ? { unknown: other[0] } : 'none';
}

/** A file that is open for reading at any place. */
export interface OpenArchive {
  readonly handle: FileHandle;
  readonly size: number;
  /** As given, for messages. */
  readonly place: string;
  close(): Promise<void>;
}

/** Where things are written that are read again at once. Undefined where the caller named no place. */
export type TemporaryDirectory = string | undefined;

/**
 * Opens an archive: where it lies, or decompressed into the temporary directory.
 * @throws SealiftError `source-not-found`, `archive-invalid`, `destination-full`
 */
export async function openArchiveFile(
  file: string,
  temporary: TemporaryDirectory,
  context: Context,
): Promise<OpenArchive> {
  const handle = await openRegular(file);
  let compression: Compression;
  try {
    const head = Buffer.alloc(8);
    await handle.read(head, 0, head.length, 0);
    const found = compressionOf(head);
    if (typeof found === 'object') {
      throw new SealiftError('archive-invalid', `the archive is compressed with ${found.unknown}`, {
        subject: inert(file),
        want: 'no compression, gzip or zstd',
        hint: `decompress it first: ${found.unknown} -d`,
      });
    }
    compression = found;
    if (compression === 'none') {
      const { size } = await handle.stat();
      return { handle, size, place: file, close: () => handle.close() };
    }
  } catch (error) {
    await handle.close();
    throw error;
  }
  try {
    const spool = await createSpool(temporary, file, context);
    try {
      const input = createReadStream('', {
        fd: handle,
        start: 0,
        autoClose: false,
        highWaterMark: 1024 * 1024,
      });
      await pipeline(input, compression === 'gzip' ? createGunzip() : createZstdDecompress(), spool.sink, {
        signal: context.signal,
      });
      return await spool.finish();
    } catch (error) {
      await spool.abort();
      throw spoolFailure(error, file, 'the archive does not decompress', context.signal);
    }
  } finally {
    await handle.close();
  }
}

/** Takes in a stream, which must be an uncompressed archive. @throws SealiftError `destination-full` and the stream's own */
export async function spoolStream(
  content: Readable | AsyncIterable<Uint8Array>,
  place: string,
  temporary: TemporaryDirectory,
  context: Context,
): Promise<OpenArchive> {
  const spool = await createSpool(temporary, place, context);
  try {
    await pipeline(Readable.from(content), spool.sink, { signal: context.signal });
    return await spool.finish();
  } catch (error) {
    await spool.abort();
    throw spoolFailure(error, place, 'the archive broke off', context.signal);
  }
}

function spoolFailure(error: unknown, place: string, message: string, signal: AbortSignal): unknown {
  if (isSealiftError(error)) return error;
  if (signal.aborted) return signal.reason;
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'ENOSPC' || code === 'EDQUOT') return noRoom(place, undefined);
  if (typeof code === 'string' && /^(Z_|ERR_Z|ZSTD_|ERR_ZSTD)/.test(code)) {
    return new SealiftError('archive-invalid', `${message}: ${inert((error as Error).message)}`, {
      subject: inert(place),
      cause: error,
    });
  }
  return error;
}

function noRoom(place: string, written: number | undefined): SealiftError {
  const much = written === undefined ? '' : ` after ${formatBytes(written)}`;
  return new SealiftError('destination-full', `the temporary directory is full${much}`, {
    subject: inert(place),
    hint: 'name a directory with more room with --tmpdir, or give the archive uncompressed',
  });
}

/** A private directory in the temporary one. @throws SealiftError `invalid-argument` where none was named */
export async function makeTemporary(temporary: TemporaryDirectory, place: string): Promise<string> {
  if (temporary === undefined) {
    throw new SealiftError('invalid-argument', 'this location needs a temporary directory', {
      subject: inert(place),
      hint: 'name one with --tmpdir',
    });
  }
  try {
    return await mkdtemp(path.join(temporary, 'sealift-'));
  } catch (error) {
    throw new SealiftError('destination-failed', 'cannot write to the temporary directory', {
      subject: inert(temporary),
      hint: 'name another one with --tmpdir',
      cause: error,
    });
  }
}

async function createSpool(temporary: TemporaryDirectory, place: string, context: Context) {
  const directory = await makeTemporary(temporary, place);
  const handle = await open(path.join(directory, 'archive.tar'), 'wx+', 0o600);
  // Without a name nothing is left behind, however this process ends; where that cannot be, at its end.
  const nameless = await rm(directory, { recursive: true }).then(
    () => true,
    () => false,
  );
  const close = async () => {
    await handle.close();
    if (!nameless) await rm(directory, { recursive: true, force: true });
  };
  let written = 0;
  let looked = 0;
  return {
    async sink(source: AsyncIterable<Uint8Array>): Promise<void> {
      for await (const chunk of source) {
        if (written - looked >= LOOK_EVERY || looked === 0) {
          looked = Math.max(written, 1);
          const facts = await statfs(temporary ?? '.');
          if (facts.bavail * facts.bsize < LEAVE_FREE) throw noRoom(place, written);
        }
        written += chunk.length;
        if (written > context.limits.spool) {
          throw new SealiftError(
            'source-too-large',
            `the archive is too large to be written out: want at most ${formatBytes(context.limits.spool)}`,
            { subject: inert(place), want: context.limits.spool, hint: 'give it uncompressed' },
          );
        }
        for (let done = 0; done < chunk.length; ) {
          const { bytesWritten } = await handle.write(chunk, done, chunk.length - done);
          done += bytesWritten;
        }
      }
    },
    finish: async (): Promise<OpenArchive> => ({ handle, size: written, place, close }),
    abort: close,
  };
}

async function openRegular(file: string): Promise<FileHandle> {
  let handle: FileHandle;
  try {
    // Non-blocking, so that a pipe in its place does not make the run wait for ever.
    handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      throw new SealiftError('source-not-found', 'there is no such file', { subject: inert(file), cause });
    }
    throw new SealiftError('source-unreachable', `cannot read the file: ${inert(code ?? '')}`, {
      subject: inert(file),
      cause,
    });
  }
  const facts = await handle.stat();
  if (facts.isFile()) return handle;
  await handle.close();
  throw new SealiftError('archive-invalid', 'an archive is a regular file', {
    subject: inert(file),
    hint: facts.isDirectory() ? `for a directory write oci:${inert(file)}` : undefined,
  });
}
