/**
 * The base of a delta that goes straight to where clients pull from: looked for there, and in bundles and stores that are
 * named. A destination is never trusted: of what it has, a blob counts whose content was read and hashed now, or of which
 * the server keeps the right SHA-256 (docs/static-bucket.md, "Verifying").
 */
import type { BundleManifest } from '../bundle/manifest.ts';
import type { Context } from '../context.ts';
import { openBlobSources } from '../delta/blobs-from.ts';
import type { ImportBase } from '../delta/import-base.ts';
import { type Digest, digestOfBlobPath } from '../oci/digest.ts';
import type { Destination, Listed, OpenDestination } from '../publish/destination.ts';
import type { ImportOptions } from '../workflow-options.ts';

/** Where a destination lists a blob. */
interface Candidate {
  readonly key: string;
  readonly listed: Listed;
}

/** @throws SealiftError as `openBlobSources()`, and what a destination refuses */
export async function openDirectBase(
  manifest: BundleManifest,
  open: readonly OpenDestination[],
  options: Pick<ImportOptions, 'blobsFrom' | 'checkBase' | 'only'>,
  context: Context,
): Promise<ImportBase> {
  const { blobsFrom = [], checkBase = false, only } = options;
  const leftOut = new Map(manifest.base?.missing.map(({ name, size }) => [digestOfBlobPath(name), size]));
  const named = await openBlobSources(blobsFrom, context);
  const destinations: Destination[] = [];
  const close = async (): Promise<void> => {
    await named.close();
    for (const destination of destinations) await destination.close();
  };
  try {
    const places: { readonly destination: Destination; readonly blobs: BlobKeys }[] = [];
    for (const openOne of leftOut.size === 0 ? [] : open) {
      const destination = await openOne(context);
      destinations.push(destination);
      places.push({ destination, blobs: keysOf(await destination.list(['v2/']), leftOut) });
    }
    const words = places.map(({ destination }) => destination.location).join(' and ');
    return {
      leftOut,
      named,
      holder: {
        words: blobsFrom.length === 0 ? words : `${words}, or the places named`,
        only,
        hint: 'if an earlier bundle or a store has them, name it: sealift import BUNDLE --to LOCATION --blobs-from EARLIER; if not, have the bundle made without --since',
        async holds(digest, size) {
          if (await named.has(digest, size)) return true;
          for (const { destination, blobs } of places)
            if (!(await isRight(destination, blobs.get(digest) ?? [], { digest, size }, checkBase, context)))
              return false;
          return places.length > 0;
        },
      },
      // It is there already, or is sent from where it was named.
      take: async () => ({ bytes: 0, blobs: 0, reusedBytes: 0 }),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

type BlobKeys = ReadonlyMap<Digest, readonly Candidate[]>;

const BLOB_KEY = /^v2\/.+\/blobs\/(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;

function keysOf(there: ReadonlyMap<string, Listed>, wanted: ReadonlyMap<Digest, number>): BlobKeys {
  const keys = new Map<Digest, Candidate[]>();
  for (const [key, listed] of there) {
    const digest = BLOB_KEY.exec(key)?.[1] as Digest | undefined;
    if (digest === undefined || wanted.get(digest) !== listed.size) continue;
    const found = keys.get(digest) ?? [];
    found.push({ key, listed });
    keys.set(digest, found);
  }
  return keys;
}

/** Whether every copy of a blob that a destination lists is right; at least one there has to be. */
async function isRight(
  destination: Destination,
  candidates: readonly Candidate[],
  { digest, size }: { readonly digest: Digest; readonly size: number },
  deep: boolean,
  context: Context,
): Promise<boolean> {
  context.signal.throwIfAborted();
  for (const { key, listed } of candidates) {
    const object = { key, size, digest, mediaType: 'application/octet-stream', mutable: false };
    context.emit({ type: 'blob', state: 'started', digest, bytes: 0, size });
    const first = await destination.examine(object, listed, { deep });
    // A size is the server's word alone.
    const { proof } =
      first.proof === 'size' ? await destination.examine(object, listed, { deep: true }) : first;
    if (proof !== 'content' && proof !== 'checksum') return false;
    context.emit({ type: 'blob', state: 'done', digest, bytes: size, size });
  }
  return candidates.length > 0;
}
