/** Where a check command looks at images that go into no store: written out of the bundle, one image at a time. */
import { mkdtemp, open, rm } from 'node:fs/promises';
import path from 'node:path';
import type { CheckPlace } from '../admission/check-command.ts';
import type { FileBundle } from '../bundle/reader.ts';
import type { Context } from '../context.ts';
import type { ImportBase } from '../delta/import-base.ts';
import { SealiftError } from '../errors.ts';
import { assertFits, inspectFileSystem } from '../fs/space.ts';
import { blobPath, type Digest, digestAlgorithm } from '../oci/digest.ts';
import type { Hashes } from '../pool/pool.ts';
import { refuseOtherDigest } from '../verify.ts';

export interface Quarantine extends CheckPlace {
  /** Removes it. */
  close(): Promise<void>;
}

/**
 * A directory nobody else can look into.
 * @param parent an existing directory
 * @param images digests of everything each image needs; there has to be room for the largest
 * @param base of a delta: what it leaves out has to be in a place that was named
 * @throws SealiftError `destination-full`, `destination-limit`; `base-needed`
 */
export async function openQuarantine(
  bundle: FileBundle,
  parent: string,
  images: Iterable<Iterable<Digest>>,
  base: Pick<ImportBase, 'leftOut' | 'named'>,
  context: Context,
): Promise<Quarantine> {
  for (const digest of new Set([...images].flatMap((digests) => [...digests]))) {
    const size = base.leftOut.get(digest);
    if (size === undefined || (await base.named.has(digest, size))) continue;
    throw new SealiftError(
      'base-needed',
      'the check command wants whole images, and layers of this delta are only where it goes to',
      {
        subject: digest,
        hint: 'name an earlier bundle that has them with --blobs-from, or let the import fill a store on the way: --to store:DIR --to LOCATION',
      },
    );
  }
  const sizeOf = (digest: Digest): number =>
    bundle.blob(blobPath(digest))?.size ?? base.leftOut.get(digest) ?? 0;
  let most = 0;
  let largest = 0;
  for (const digests of images) {
    const sizes = [...digests].map(sizeOf);
    most = Math.max(
      most,
      sizes.reduce((sum, size) => sum + size, 0),
    );
    largest = Math.max(largest, ...sizes);
  }
  assertFits(await inspectFileSystem(parent), most, largest, parent);
  const directory = await mkdtemp(path.join(parent, 'sealift-check-'));
  return {
    quarantine: path.join(directory, 'images'),
    copy: (digest, file) => writeOut(bundle, base, digest, file, context),
    close: () => rm(directory, { recursive: true, force: true }),
  };
}

/** @throws SealiftError `blob-missing`, `digest-mismatch` */
async function writeOut(
  bundle: FileBundle,
  { leftOut, named }: Pick<ImportBase, 'leftOut' | 'named'>,
  digest: Digest,
  file: string,
  context: Context,
): Promise<void> {
  const target = await open(file, 'wx+', 0o600);
  const { fd } = target;
  const algorithms = [digestAlgorithm(digest)];
  const { signal } = context;
  try {
    const place = bundle.blob(blobPath(digest));
    if (!place) {
      await named.write(digest, leftOut.get(digest) ?? 0, fd, signal);
      return;
    }
    let whole: Hashes | undefined;
    await bundle.take([place], async (pieces) => {
      for (const piece of pieces) {
        const source = { fd: piece.fd, offset: piece.offset };
        const hashes = await context.pool.range({
          source,
          size: piece.size,
          target: { fd, offset: piece.at },
          algorithms: piece.whole ? algorithms : [],
          signal,
        });
        if (piece.whole) whole = hashes;
      }
    });
    // A blob that lies in several volumes is hashed when it is whole.
    whole ??= await context.pool.range({ source: { fd, offset: 0 }, size: place.size, algorithms, signal });
    refuseOtherDigest(place.name, digestAlgorithm(digest), whole[digestAlgorithm(digest)]);
  } finally {
    await target.close();
  }
}
