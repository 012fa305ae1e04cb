/** A sealift bundle as a source: what it holds can go into another bundle, under the signature of who exports that. */
import { parseBundleManifest } from '../../bundle/manifest.ts';
import { openBundleAt } from '../../bundle/open.ts';
import type { Context } from '../../context.ts';
import { inert, SealiftError } from '../../errors.ts';
import { blobPath, type Digest, digestOfBlobPath, isDigest } from '../../oci/digest.ts';
import type { Location } from '../location.ts';
import type { Source } from '../source.ts';
import { readTagged } from '../tagged.ts';
import { findByName, madeHere } from './names.ts';

/**
 * Reads a bundle without a gate: its form and every digest are checked, its signatures are not, and a notice says so.
 * Of a delta some layers are not there (`base-needed` where they are read).
 * @throws SealiftError as `openBundleAt()`
 */
export async function openBundleSource(
  location: Extract<Location, { kind: 'bundle' }>,
  context: Context,
): Promise<Source> {
  const { file } = location;
  const bundle = await openBundleAt({ path: file }, context);
  try {
    const manifest = parseBundleManifest(bundle.head.manifest, context.limits);
    bundle.accept(manifest);
    context.emit({
      type: 'notice',
      level: 'warning',
      code: 'bundle-not-verified',
      message: `${inert(file)} is taken as it is, without asking who signed it; to pass on only what was verified, import it and export from store:DIRECTORY`,
    });
    const { base } = manifest;
    const leftOut = new Set<Digest>(base?.missing.map(({ name }) => digestOfBlobPath(name)));
    const omitted = new Set(manifest.images.flatMap((image) => image.omitted.map(({ digest }) => digest)));
    return {
      location: inert(`bundle:${file}`),
      async manifest(reference) {
        if (isDigest(reference)) {
          const bytes = await bundle.readBlob(blobPath(reference), context.limits.manifest);
          const image = manifest.images.find(({ digest }) => digest === reference);
          const known = image ?? manifest.evidence.find(({ digest }) => digest === reference);
          return { bytes, mediaType: known?.mediaType ?? '', digest: reference, ...madeHere(image) };
        }
        const image = findByName(manifest.images, reference, 'bundle');
        return {
          bytes: await bundle.readBlob(blobPath(image.digest), context.limits.manifest),
          mediaType: image.mediaType,
          digest: image.digest,
          ...madeHere(image),
        };
      },
      async blob({ digest, size }) {
        const place = bundle.blob(blobPath(digest));
        if (!place && leftOut.has(digest)) {
          throw new SealiftError(
            'base-needed',
            `the bundle is a delta on version ${base?.version} and leaves this layer out`,
            { subject: digest, hint: 'name an earlier bundle or a store that has it: --blobs-from EARLIER' },
          );
        }
        if (!place)
          throw new SealiftError('blob-missing', `the bundle has no ${blobPath(digest)}`, {
            subject: inert(file),
          });
        if (place.size !== size) {
          throw new SealiftError(
            'size-mismatch',
            `blob has another size: got ${place.size} bytes, want ${size}`,
            { subject: digest, got: place.size, want: size },
          );
        }
        return bundle.content(place);
      },
      referrers: async (subject) => ({
        descriptors: manifest.evidence.filter(
          (evidence) => evidence.subject === subject && evidence.tag === undefined,
        ),
        via: 'layout',
      }),
      tagged: (subject) =>
        readTagged(manifest.evidence, subject, (digest) =>
          bundle.readBlob(blobPath(digest), context.limits.manifest),
        ),
      names: async () =>
        manifest.images.map(({ name, digest, digestMadeHere }) => ({
          name,
          reference: name,
          digest,
          ...madeHere({ digestMadeHere }),
        })),
      holds: async ({ digest, size }) => bundle.blob(blobPath(digest))?.size === size,
      ...(base ? { base: base.version } : {}),
      omits: (digest) => omitted.has(digest),
      close: () => bundle.close(),
    };
  } catch (error) {
    await bundle.close();
    throw error;
  }
}
