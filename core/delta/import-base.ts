/** The base of a delta at an import: looked for in the store and in earlier bundles, and taken from there. */
import type { BundleManifest } from '../bundle/manifest.ts';
import type { Context } from '../context.ts';
import { type Digest, digestOfBlobPath } from '../oci/digest.ts';
import type { Store } from '../store/store.ts';
import { forEachLimited } from '../util/concurrency.ts';
import type { ImportOptions } from '../workflow-options.ts';
import type { BaseHolder, Shortfall } from './base.ts';
import { type BlobSources, openBlobSources } from './blobs-from.ts';
import { holderWords } from './verify-base.ts';

export interface ImportBase {
  readonly holder: BaseHolder;
  /** Sizes of what the delta left out. */
  readonly leftOut: ReadonlyMap<Digest, number>;
  /** Takes what is wanted and left out into the store, as far as it is not there. */
  take(
    wanted: ReadonlySet<Digest>,
  ): Promise<{ readonly bytes: number; readonly blobs: number; readonly reusedBytes: number }>;
  /** Bundles and stores that were named, for what destinations are filled from. */
  readonly named: BlobSources;
  close(): Promise<void>;
}

export async function openImportBase(
  manifest: BundleManifest,
  store: Pick<Store, 'has' | 'verifyBlob' | 'ingest'>,
  options: Pick<ImportOptions, 'blobsFrom' | 'checkBase' | 'only' | 'concurrency'>,
  context: Context,
  onMissing: (shortfall: Shortfall) => Promise<void>,
): Promise<ImportBase> {
  const { blobsFrom = [], checkBase = false, only } = options;
  const sources = await openBlobSources(blobsFrom, context);
  const leftOut = new Map(manifest.base?.missing.map(({ name, size }) => [digestOfBlobPath(name), size]));
  const stored = async (digest: Digest, size: number): Promise<boolean> =>
    (await store.has(digest, size)) && (!checkBase || (await store.verifyBlob(digest, size, context.signal)));
  return {
    leftOut,
    named: sources,
    holder: {
      words: holderWords(true, blobsFrom),
      only,
      holds: async (digest, size) => (await stored(digest, size)) || (await sources.has(digest, size)),
      onMissing,
    },
    async take(wanted) {
      const taken = { bytes: 0, blobs: 0, reusedBytes: 0 };
      const coming: { digest: Digest; size: number }[] = [];
      for (const [digest, size] of leftOut) {
        if (!wanted.has(digest)) continue;
        if (await store.has(digest, size)) taken.reusedBytes += size;
        else coming.push({ digest, size });
      }
      if (coming.length > 0) {
        const bytes = coming.reduce((sum, { size }) => sum + size, 0);
        context.emit({ type: 'phase', phase: 'base', title: 'taking layers out of earlier bundles' });
        context.emit({ type: 'transfer', bytes, blobs: coming.length, skippedBytes: taken.reusedBytes });
      }
      await forEachLimited(coming, options.concurrency, context.signal, async ({ digest, size }, signal) => {
        await sources.copy(digest, size, store, signal);
        taken.bytes += size;
        taken.blobs += 1;
      });
      return taken;
    },
    close: () => sources.close(),
  };
}
