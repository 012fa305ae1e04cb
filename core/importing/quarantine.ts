/** Where a check command looks at images that go into no store: written out of the bundle, one image at a time. */
import { mkdtemp, open, rm } from 'node:fs/promises';
import path from 'node:path';
import type { CheckPlace } from '../admission/check-command.ts';
import type { FileBundle } from '../bundle/reader.ts';
import type { Context } from '../context.ts';
import { SealiftError } from '../errors.ts';
import { assertFits, inspectFileSystem } from '../fs/space.ts';
import { blobPath, type Digest, digestAlgorithm, digestHex } from '../oci/digest.ts';

export interface Quarantine extends CheckPlace {
  /** Removes it. */
  close(): Promise<void>;
}

/**
 * A directory nobody else can look into.
 * @param parent an existing directory
 * @param images digests of everything each image needs; there has to be room for the largest
 * @throws SealiftError `destination-full`, `destination-limit`
 */
export async function openQuarantine(
  bundle: FileBundle,
  parent: string,
  images: Iterable<Iterable<Digest>>,
  context: Context,
): Promise<Quarantine> {
  const sizeOf = (digest: Digest): number => bundle.blob(blobPath(digest))?.size ?? 0;
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
    copy: (digest, file) => writeOut(bundle, digest, file, context),
    close: () => rm(directory, { recursive: true, force: true }),
  };
}

/** @throws SealiftError `blob-missing`, `digest-mismatch` */
async function writeOut(bundle: FileBundle, digest: Digest, file: string, context: Context): Promise<void> {
  const place = bundle.blob(blobPath(digest));
  if (!place)
    throw new SealiftError('blob-missing', 'the bundle does not have this blob', { subject: digest });
  const target = await open(file, 'wx', 0o600);
  try {
    const algorithm = digestAlgorithm(digest);
    await bundle.take([place], async (pieces) => {
      for (const { fd, offset, size, at } of pieces) {
        const hashes = await context.pool.range({
          source: { fd, offset },
          size,
          target: { fd: target.fd, offset: at },
          algorithms: [algorithm],
          signal: context.signal,
        });
        const got = hashes[algorithm];
        if (got === digestHex(digest)) continue;
        throw new SealiftError(
          'digest-mismatch',
          `blob has another digest: got ${algorithm}:${got}, want ${digest}`,
          {
            subject: digest,
            got: `${algorithm}:${got}`,
            want: digest,
            hint: 'the medium is damaged or was tampered with; copy the bundle again',
          },
        );
      }
    });
  } finally {
    await target.close();
  }
}
