/** The base of a delta where nothing is taken in: looked for in the store, and in bundles and stores that are named. */
import type { BundleManifest } from '../bundle/manifest.ts';
import type { Context } from '../context.ts';
import { isSealiftError } from '../errors.ts';
import { type Digest, digestOfBlobPath } from '../oci/digest.ts';
import type { Store } from '../store/store.ts';
import { fullName } from '../transport/bundle/names.ts';
import type { VerifyOptions } from '../workflow-options.ts';
import type { BaseHolder } from './base.ts';
import { type BlobSources, openBlobSources } from './blobs-from.ts';

export interface VerifyBase {
  readonly holder: BaseHolder;
  /** Reads and hashes what is wanted and only the named places have: what they list is nobody's word. */
  hashNamed(
    wanted: ReadonlyMap<string, ReadonlySet<Digest>>,
  ): Promise<{ readonly blobs: number; readonly bytes: number }>;
  close(): Promise<void>;
}

/**
 * Undefined where there is nothing to look in. The store is asked only where its gate judges.
 * @throws SealiftError as `openBlobSources()`
 */
export async function openVerifyBase(
  manifest: BundleManifest,
  options: Pick<VerifyOptions, 'store' | 'fingerprint' | 'names' | 'blobsFrom'>,
  context: Context,
): Promise<VerifyBase | undefined> {
  const { blobsFrom = [], names } = options;
  const store = options.fingerprint === undefined ? await findStore(options.store) : undefined;
  if (!store && blobsFrom.length === 0) return undefined;
  const sources = await openBlobSources(blobsFrom, context);
  const stored = async (digest: Digest, size: number): Promise<boolean> =>
    (await store?.has(digest, size)) === true;
  return {
    holder: {
      words: holderWords(store !== undefined, blobsFrom),
      only: names,
      holds: async (digest, size) => (await stored(digest, size)) || (await sources.has(digest, size)),
    },
    async hashNamed(wanted) {
      const digests = new Set<Digest>();
      const only = new Set(names.map(fullName));
      for (const [name, blobs] of wanted) {
        if (only.size > 0 && !only.has(name)) continue;
        for (const digest of blobs) digests.add(digest);
      }
      return hashAll(manifest, digests, { stored, sources }, context);
    },
    close: () => sources.close(),
  };
}

async function hashAll(
  manifest: BundleManifest,
  wanted: ReadonlySet<Digest>,
  { stored, sources }: { stored(digest: Digest, size: number): Promise<boolean>; sources: BlobSources },
  { signal }: Context,
): Promise<{ readonly blobs: number; readonly bytes: number }> {
  const hashed = { blobs: 0, bytes: 0 };
  for (const { name, size } of manifest.base?.missing ?? []) {
    const digest = digestOfBlobPath(name);
    if (!wanted.has(digest) || (await stored(digest, size))) continue;
    await sources.verify(digest, size, signal);
    hashed.blobs += 1;
    hashed.bytes += size;
  }
  return hashed;
}

async function findStore(directory: string | undefined): Promise<Store | undefined> {
  if (directory === undefined) return undefined;
  const { openStore } = await import('../store/store.ts');
  return openStore(directory, { create: false }).catch((error: unknown) => {
    if (isSealiftError(error) && error.code === 'store-not-found') return undefined;
    throw error;
  });
}

/** Where a base is looked for, in words. */
export function holderWords(store: boolean, blobsFrom: readonly string[]): string {
  if (blobsFrom.length === 0) return 'the store';
  return store ? 'the store or the places named' : 'the places named';
}
