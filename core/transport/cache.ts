/**
 * Blobs kept from one export to the next, by digest. Any number of runs may use one directory at once: what is in place
 * is whole, and whatever it says is checked against its name before it is believed.
 */
import { createHash, randomBytes } from 'node:crypto';
import { type FileHandle, open, readdir, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import type { Context } from '../context.ts';
import { inert, SealiftError } from '../errors.ts';
import { makeDirectory } from '../fs/durable.ts';
import { type Digest, digestAlgorithm, digestHex } from '../oci/digest.ts';
import type { Source } from './source.ts';

type Blob = Parameters<Source['blob']>[0];

const READ_BYTES = 256 * 1024;
/** A partial file older than this is one nobody writes to any more. */
const STALE_MS = 24 * 3600 * 1000;
const PARTIAL = /^partial-[0-9a-f]{24}$/;

export interface BlobCache {
  /** The blob where it is here and right; a wrong one is removed. */
  find(blob: Blob): Promise<AsyncIterable<Uint8Array> | undefined>;
  /** Hands on what it is given, and keeps it when it was whole and right. */
  keep(blob: Blob, content: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array>;
}

/** The cache in `directory`, which is made where it is not there. Failures are told, and then it does without. */
export function openBlobCache(directory: string, context: Context): BlobCache {
  let isBroken = false;
  let prepared: Promise<boolean> | undefined;
  const fileOf = (digest: Digest): string => path.join(directory, digestAlgorithm(digest), digestHex(digest));

  function fail(error: unknown): void {
    if (isBroken) return;
    isBroken = true;
    const why = inert((error as NodeJS.ErrnoException).code ?? (error as Error).message);
    context.emit({
      type: 'notice',
      level: 'warning',
      code: 'cache-failed',
      message: `${inert(directory, 4096)}: the cache cannot be used (${why}); going on without it`,
    });
  }

  async function prepare(): Promise<boolean> {
    try {
      for (const name of ['sha256', 'sha512']) await makeDirectory(path.join(directory, name), 'secret');
      for (const name of await readdir(directory)) {
        if (!PARTIAL.test(name)) continue;
        const file = path.join(directory, name);
        // Another run may be done with it by now.
        const age = await stat(file).then(
          ({ mtimeMs }) => context.now.getTime() - mtimeMs,
          () => 0,
        );
        if (age > STALE_MS) await rm(file, { force: true });
      }
      return true;
    } catch (error) {
      fail(error);
      return false;
    }
  }

  function usable(): Promise<boolean> {
    prepared ??= prepare();
    return prepared.then((ready) => ready && !isBroken);
  }

  return {
    async find({ digest, size }) {
      if (!(await usable())) return undefined;
      const file = fileOf(digest);
      let handle: FileHandle | undefined;
      try {
        // One opening for both readings: what was checked is what is read, whoever removes or replaces the file.
        handle = await open(file, 'r');
        const { size: found } = await handle.stat();
        if (found === size && (await hashOf(handle, digest, context.signal)) === digestHex(digest)) {
          // By this it can be told what is still used.
          await handle.utimes(context.now, context.now).catch(() => {});
          const content = read(handle, true);
          handle = undefined;
          return content;
        }
        await rm(file, { force: true });
        context.emit({
          type: 'notice',
          level: 'warning',
          code: 'cache-damaged',
          message: `${inert(file, 4096)}: is not what its name says; removed, and read from the source`,
        });
      } catch (error) {
        if (context.signal.aborted) throw new SealiftError('cancelled', 'stopped', { cause: error });
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') fail(error);
      } finally {
        await handle?.close();
      }
      return undefined;
    },
    async *keep({ digest, size }, content) {
      if (!(await usable())) {
        yield* content;
        return;
      }
      const partial = path.join(directory, `partial-${randomBytes(12).toString('hex')}`);
      const hash = createHash(digestAlgorithm(digest));
      let handle: FileHandle | undefined;
      const giveUp = async (): Promise<void> => {
        await handle?.close().catch(() => {});
        handle = undefined;
        await rm(partial, { force: true }).catch(() => {});
      };
      try {
        handle = await open(partial, 'wx', 0o600).catch((error: unknown) => {
          fail(error);
          return undefined;
        });
        let bytes = 0;
        for await (const chunk of content) {
          // Before it is handed on: the consumer may give its memory away.
          if (handle) {
            bytes += chunk.length;
            hash.update(chunk);
            try {
              await writeAll(handle, chunk);
            } catch (error) {
              fail(error);
              await giveUp();
            }
          }
          yield chunk;
        }
        if (!handle || bytes !== size || hash.digest('hex') !== digestHex(digest)) return;
        try {
          await handle.close();
          handle = undefined;
          await rename(partial, fileOf(digest));
        } catch (error) {
          fail(error);
        }
      } finally {
        await giveUp();
      }
    },
  };
}

async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await handle.write(bytes, done, bytes.length - done)).bytesWritten;
  }
}

function read(handle: FileHandle, autoClose: boolean): AsyncIterable<Uint8Array> {
  const stream = handle.createReadStream({ start: 0, autoClose, highWaterMark: READ_BYTES });
  return stream as AsyncIterable<Uint8Array>;
}

async function hashOf(handle: FileHandle, digest: Digest, signal: AbortSignal): Promise<string> {
  const hash = createHash(digestAlgorithm(digest));
  for await (const chunk of read(handle, false)) {
    signal.throwIfAborted();
    hash.update(chunk);
  }
  return hash.digest('hex');
}

/** `source`, with its blobs from the cache where they are there, and into it where they are not. */
export function cachedSource(source: Source, cache: BlobCache): Source {
  return {
    ...source,
    blob: async (blob) => {
      const content = await source.blob(blob);
      return readThrough(blob, content, cache);
    },
  };
}

async function* readThrough(
  blob: Blob,
  content: AsyncIterable<Uint8Array>,
  cache: BlobCache,
): AsyncGenerator<Uint8Array, void> {
  const found = await cache.find(blob);
  // Nothing has been asked of the source yet, so there is nothing to end where it is not read.
  yield* found ?? cache.keep(blob, content);
}
