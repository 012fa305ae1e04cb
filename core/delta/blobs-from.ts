/**
 * Earlier bundles as bags of bytes (`--blobs-from`): expired, below the floor, deltas, it does not matter. Their form is
 * checked so that blobs can be found; every blob is hashed as it is copied; nothing they say is believed.
 */
import { parseBundleManifest } from '../bundle/manifest.ts';
import { openBundleAt } from '../bundle/open.ts';
import type { FileBundle } from '../bundle/reader.ts';
import type { Context } from '../context.ts';
import { inert, isSealiftError, SealiftError } from '../errors.ts';
import { blobPath, type Digest, digestAlgorithm } from '../oci/digest.ts';
import type { Hashes } from '../pool/pool.ts';
import type { Ingest, Store } from '../store/store.ts';

export interface BlobSources {
  /** Whether one of the bundles lists the blob with that size. */
  has(digest: Digest, size: number): boolean;
  /**
   * Takes a blob into the store from the first bundle in which its hash is right.
   * @throws SealiftError `digest-mismatch`, `bundle-truncated`; `blob-missing` where none has it
   */
  copy(digest: Digest, size: number, store: Pick<Store, 'ingest'>, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/** @throws SealiftError as `openBundleAt()`, with the file that was named */
export async function openBlobSources(files: readonly string[], context: Context): Promise<BlobSources> {
  const bundles: { readonly file: string; readonly bundle: FileBundle }[] = [];
  const close = async () => {
    for (const { bundle } of bundles) await bundle.close();
  };
  try {
    for (const file of files) {
      const bundle = await openBundleAt({ path: file }, context);
      bundles.push({ file, bundle });
      bundle.accept(parseBundleManifest(bundle.head.manifest, context.limits));
    }
  } catch (error) {
    await close();
    throw isSealiftError(error)
      ? error.with({ hint: 'leave this --blobs-from out, or name a copy that is whole' })
      : error;
  }

  function placesOf(digest: Digest, size: number) {
    return bundles.flatMap(({ file, bundle }) => {
      const place = bundle.blob(blobPath(digest));
      return place?.size === size ? [{ file, bundle, place }] : [];
    });
  }

  return {
    has: (digest, size) => placesOf(digest, size).length > 0,
    async copy(digest, size, store, signal) {
      let failure: SealiftError | undefined;
      for (const { file, bundle, place } of placesOf(digest, size)) {
        const target = await store.ingest(digest, size);
        try {
          context.emit({ type: 'blob', state: 'started', digest, bytes: 0, size });
          await target.commit(await pour(bundle.content(place), target, signal, context));
          context.emit({ type: 'blob', state: 'done', digest, bytes: size, size });
          return;
        } catch (error) {
          await target.abort();
          // A full disk does not get emptier by asking another bundle.
          if (!isSealiftError(error) || !['malformed', 'needed'].includes(error.category)) throw error;
          failure ??= error.with({
            subject: digest,
            hint: `${inert(file)} is damaged; name another bundle that has it with --blobs-from`,
          });
        }
      }
      throw failure ?? new SealiftError('blob-missing', 'no bundle has the blob', { subject: digest });
    },
    close,
  };
}

async function pour(
  content: AsyncIterable<Uint8Array>,
  { digest, size, fd }: Ingest,
  signal: AbortSignal,
  context: Context,
): Promise<Hashes> {
  const sink = context.pool.stream({ target: { fd, offset: 0 }, algorithms: [digestAlgorithm(digest)] });
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
