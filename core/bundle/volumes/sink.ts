/**
 * Where the bytes of volumes go: one interface, and the files behind it. Whoever wants something else in a volume than the
 * plain bytes of the bundle puts another target in front of this one.
 */
import { type FileHandle, lstat, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import type { Context } from '../../context.ts';
import { inert, SealiftError } from '../../errors.ts';
import { createPartial, finalName, fsyncDirectory, reopenPartial } from '../../fs/durable.ts';
import { hashPastCache, NotKept, tellReadBackImpossible } from '../../fs/read-back.ts';
import type { StreamSink } from '../../pool/pool.ts';
import { type VolumeCut, volumeName } from './names.ts';

/** One volume that is being written, from its first byte to its last. */
export interface VolumeSink {
  /** Takes the next bytes; the memory is the caller's again when the promise resolves. */
  write(chunk: Uint8Array): Promise<void>;
  /** Makes durable what was taken. */
  sync(): Promise<void>;
  /** Durable and under its final name. SHA-256 in lower-case hex of what is in the file. */
  finish(): Promise<{ readonly sha256: string }>;
  /** Gives up; what was written stays, to be gone on with. */
  close(): Promise<void>;
}

/** Where volumes are opened one after another. */
export interface VolumeTarget {
  /**
   * @param from bytes of the volume that an earlier run has written and made durable; they are kept
   */
  open(cut: VolumeCut, from: number): Promise<VolumeSink>;
}

/** Pieces smaller than this are written together. */
const BATCH = 1024 * 1024;

/** Where a volume is while it is being written. */
export function partialVolume(directory: string, base: string, number: number): string {
  return path.join(directory, `.${volumeName(base, number)}.partial`);
}

export interface VolumeFilesOptions {
  /** Where the next volume goes; asked for each. It is there. */
  readonly directory: () => string;
  /** The bundle's name, `images.tar`. */
  readonly base: string;
  /** Reads each volume from its medium before it gets its name. */
  readonly readBack: (directory: string) => Promise<boolean>;
}

/** Volumes as files. */
export function createVolumeFiles(
  { directory, base, readBack }: VolumeFilesOptions,
  context: Context,
): VolumeTarget {
  return {
    async open(cut, from) {
      const where = directory();
      const partial = partialVolume(where, base, cut.number);
      const handle = await (from > 0 ? reopenPartial(partial) : createPartial(partial));
      const hash = context.pool.stream({ algorithms: ['sha256'] });
      try {
        await rehash(handle, from, hash, partial);
        await handle.truncate(from);
      } catch (error) {
        hash.abort();
        await handle.close();
        throw error;
      }
      return createFileSink(
        { cut, from, handle, hash, partial, final: path.join(where, volumeName(base, cut.number)) },
        () => readBack(where),
        context,
      );
    },
  };
}

/** Feeds what is there already to the hash. */
async function rehash(handle: FileHandle, size: number, hash: StreamSink, file: string): Promise<void> {
  for (let offset = 0; offset < size; ) {
    const buffer = Buffer.allocUnsafeSlow(Math.min(BATCH, size - offset));
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, offset);
    if (bytesRead === 0) {
      throw new SealiftError('destination-failed', 'the partial volume is shorter than it was', {
        subject: inert(file),
      });
    }
    offset += bytesRead;
    await hash.write(buffer.subarray(0, bytesRead));
  }
}

interface OpenFile {
  readonly cut: VolumeCut;
  readonly from: number;
  readonly handle: FileHandle;
  readonly hash: StreamSink;
  readonly partial: string;
  readonly final: string;
}

function createFileSink(
  { cut, from, handle, hash, partial, final }: OpenFile,
  readBack: () => Promise<boolean>,
  context: Context,
): VolumeSink {
  const batch = Buffer.allocUnsafeSlow(BATCH);
  let filled = 0;
  let position = from;
  let closed = false;

  async function put(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position);
      done += bytesWritten;
      position += bytesWritten;
    }
  }
  async function flush(): Promise<void> {
    const length = filled;
    filled = 0;
    if (length > 0) await put(batch.subarray(0, length));
  }
  async function close(): Promise<void> {
    if (closed) return;
    closed = true;
    hash.abort();
    await handle.close();
  }

  return {
    async write(chunk) {
      const hashed = hash.write(chunk);
      if (filled + chunk.length > batch.length) await flush();
      if (chunk.length > batch.length) await put(chunk);
      else {
        batch.set(chunk, filled);
        filled += chunk.length;
      }
      await hashed;
    },
    async sync() {
      await flush();
      await handle.datasync();
    },
    async finish() {
      await flush();
      const { hashes } = await hash.finish();
      const { size } = await handle.stat();
      if (size !== cut.size || position !== cut.size) {
        throw new SealiftError(
          'destination-failed',
          `the volume has another size: got ${size} bytes, want ${cut.size}`,
          { subject: inert(partial), got: size, want: cut.size },
        );
      }
      await handle.sync();
      await close();
      const sha256 = hashes.sha256 ?? '';
      if (await readBack()) await assertKept(partial, sha256, context);
      await rename(partial, final);
      await fsyncDirectory(path.dirname(final));
      return { sha256 };
    },
    close,
  };
}

/**
 * Reads a file from its medium and compares.
 * @throws SealiftError `destination-failed` where the medium has other bytes than were written; the file is removed
 */
export async function assertKept(file: string, sha256: string, context: Context): Promise<void> {
  context.emit({
    type: 'phase',
    phase: 'read-back',
    title: `reading ${inert(path.basename(finalName(file)))} back from the medium`,
  });
  const found = await hashPastCache(file, ['sha256'], context.pool, context.signal);
  if (!found) {
    tellReadBackImpossible(path.dirname(file), context);
    return;
  }
  if (found.hashes.sha256 === sha256) return;
  // It would be gone on with as if it were good.
  await rm(file, { force: true });
  throw new NotKept(finalName(file));
}

/** Bytes of a partial volume that are there; 0 where there is none. */
export async function partialSize(directory: string, base: string, number: number): Promise<number> {
  const found = await lstat(partialVolume(directory, base, number)).catch(() => undefined);
  return found?.isFile() ? found.size : 0;
}
