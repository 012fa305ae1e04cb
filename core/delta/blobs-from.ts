/**
 * Earlier bundles and stores as bags of bytes (`--blobs-from`): expired, below the floor, deltas, it does not matter. The
 * form of a bundle is checked so that blobs can be found; every blob is hashed by whoever takes it; nothing they say is
 * believed.
 */
import { parseBundleManifest } from '../bundle/manifest.ts';
import { openBundleAt } from '../bundle/open.ts';
import type { Context } from '../context.ts';
import { inert, isSealiftError, SealiftError } from '../errors.ts';
import { kindOfPath } from '../locate.ts';
import { blobPath, type Digest, digestAlgorithm } from '../oci/digest.ts';
import type { Hashes } from '../pool/pool.ts';
import { assertHash } from '../store/ingest.ts';
import { type Ingest, openStore, type Store } from '../store/store.ts';
import { readContent } from '../transport/content.ts';

/** One place that lists a blob. */
export interface BlobReading {
  /** Path that was named. */
  readonly file: string;
  /** The content, not hashed. */
  read(): Promise<AsyncIterable<Uint8Array>>;
}

export interface BlobSources {
  /** Whether one of the places lists the blob with that size. */
  has(digest: Digest, size: number): Promise<boolean>;
  /** All that do, in the order they were named. */
  readings(digest: Digest, size: number): Promise<readonly BlobReading[]>;
  /**
   * Takes a blob into the store from the first place in which its hash is right.
   * @throws SealiftError `digest-mismatch`, `bundle-truncated`; `blob-missing` where none has it
   */
  copy(digest: Digest, size: number, store: Pick<Store, 'ingest'>, signal: AbortSignal): Promise<void>;
  /** Writes a blob to the beginning of a file, from the first place in which its hash is right. @throws as `copy()` */
  write(digest: Digest, size: number, fd: number, signal: AbortSignal): Promise<void>;
  /**
   * Reads a blob and compares, wherever it is first right.
   * @throws SealiftError as `copy()`
   */
  verify(digest: Digest, size: number, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

interface Place {
  has(digest: Digest, size: number): Promise<boolean>;
  read(digest: Digest, size: number): AsyncIterable<Uint8Array>;
  close(): Promise<void>;
}

/** @throws SealiftError as `openBundleAt()` and `openStore()`, with the place that was named */
export async function openBlobSources(files: readonly string[], context: Context): Promise<BlobSources> {
  const places: { readonly file: string; readonly place: Place }[] = [];
  const close = async () => {
    for (const { place } of places) await place.close();
  };
  try {
    for (const file of files) places.push({ file, place: await openPlace(file, context) });
  } catch (error) {
    await close();
    throw isSealiftError(error)
      ? error.with({ hint: 'leave this --blobs-from out, or name a copy that is whole' })
      : error;
  }

  async function readings(digest: Digest, size: number): Promise<readonly BlobReading[]> {
    const found: BlobReading[] = [];
    for (const { file, place } of places)
      if (await place.has(digest, size)) found.push({ file, read: async () => place.read(digest, size) });
    return found;
  }

  /** Runs `take` on one place after another, until one has the right bytes. */
  async function first(
    digest: Digest,
    size: number,
    take: (content: AsyncIterable<Uint8Array>) => Promise<void>,
  ): Promise<void> {
    let failure: SealiftError | undefined;
    for (const { file, read } of await readings(digest, size)) {
      try {
        context.emit({ type: 'blob', state: 'started', digest, bytes: 0, size });
        await take(await read());
        context.emit({ type: 'blob', state: 'done', digest, bytes: size, size });
        return;
      } catch (error) {
        // A full disk does not get emptier by asking another place.
        if (!isSealiftError(error) || !['malformed', 'needed'].includes(error.category)) throw error;
        failure ??= error.with({ subject: digest, hint: damagedHint(file) });
      }
    }
    throw failure ?? new SealiftError('blob-missing', 'no bundle has the blob', { subject: digest });
  }

  return {
    has: async (digest, size) => (await readings(digest, size)).length > 0,
    readings,
    copy: (digest, size, store, signal) =>
      first(digest, size, async (content) => {
        const target = await store.ingest(digest, size);
        try {
          await target.commit(await pour(content, target, signal, context));
        } catch (error) {
          await target.abort();
          throw error;
        }
      }),
    write: (digest, size, fd, signal) =>
      first(digest, size, async (content) =>
        assertHash(digest, await pour(content, { digest, size, fd }, signal, context)),
      ),
    verify: (digest, size, signal) =>
      first(digest, size, async (content) =>
        assertHash(digest, await pour(content, { digest, size }, signal, context)),
      ),
    close,
  };
}

export function damagedHint(file: string): string {
  return `${inert(file, 4096)} is damaged; name another place that has it with --blobs-from`;
}

async function openPlace(file: string, context: Context): Promise<Place> {
  if ((await kindOfPath(file)) === 'store') return openStorePlace(file, context);
  const bundle = await openBundleAt({ path: file }, context);
  try {
    bundle.accept(parseBundleManifest(bundle.head.manifest, context.limits));
  } catch (error) {
    await bundle.close();
    throw error;
  }
  return {
    has: async (digest, size) => bundle.blob(blobPath(digest))?.size === size,
    read(digest) {
      const place = bundle.blob(blobPath(digest));
      if (!place) throw new SealiftError('blob-missing', 'the bundle has no such blob', { subject: digest });
      return bundle.content(place);
    },
    close: () => bundle.close(),
  };
}

async function openStorePlace(directory: string, context: Context): Promise<Place> {
  const store = await openStore(directory, { create: false, limits: context.limits });
  return {
    has: (digest, size) => store.has(digest, size),
    read: (digest, size) =>
      readContent(
        async () => {
          const opened = await store.openBlob(digest);
          if (!opened)
            throw new SealiftError('blob-missing', 'the store has no such blob', { subject: digest });
          const { handle } = opened;
          return { handle, offset: 0, size: opened.size, close: () => handle.close() };
        },
        { digest, size },
        context.signal,
      ),
    close: async () => {},
  };
}

async function pour(
  content: AsyncIterable<Uint8Array>,
  { digest, size, fd }: Pick<Ingest, 'digest' | 'size'> & { readonly fd?: number },
  signal: AbortSignal,
  context: Context,
): Promise<Hashes> {
  const sink = context.pool.stream({
    ...(fd === undefined ? {} : { target: { fd, offset: 0 } }),
    algorithms: [digestAlgorithm(digest)],
  });
  let bytes = 0;
  try {
    for await (const chunk of content) {
      signal.throwIfAborted();
      bytes += chunk.length;
      await sink.write(chunk);
      context.emit({ type: 'blob', state: 'progress', digest, bytes, size });
    }
    return (await sink.finish()).hashes;
  } catch (error) {
    sink.abort();
    await sink.released;
    throw error;
  }
}
