/** A sealift bundle as a source: what it holds can go into another bundle, under the signature of who exports that. */
import type { FileHandle } from 'node:fs/promises';
import { open } from 'node:fs/promises';
import { parseBundleManifest } from '../../bundle/manifest.ts';
import { openBundleFile } from '../../bundle/reader.ts';
import type { Context } from '../../context.ts';
import { inert, SealiftError } from '../../errors.ts';
import { blobPath, isDigest } from '../../oci/digest.ts';
import type { OpenedBlob } from '../../oci/layout.ts';
import { readContent } from '../content.ts';
import type { Location } from '../location.ts';
import type { Source } from '../source.ts';
import { readTagged } from '../tagged.ts';
import { findByName } from './names.ts';

/**
 * Reads a bundle without a gate: its form and every digest are checked, its signatures are not, and a notice says so.
 * @param options.delta takes a delta too, of which some layers are not there
 * @throws SealiftError as `openBundleFile()`; `base-needed` for a delta
 */
export async function openBundleSource(
  location: Extract<Location, { kind: 'bundle' }>,
  context: Context,
  options: { readonly delta?: boolean } = {},
): Promise<Source> {
  const { file } = location;
  const bundle = await openBundleFile(file, context);
  let handle: FileHandle | undefined;
  try {
    const manifest = parseBundleManifest(bundle.head.manifest, context.limits);
    if (manifest.base && !options.delta) {
      throw new SealiftError('base-needed', 'the bundle is a delta: it holds a part of its images only', {
        subject: inert(file),
        hint: 'import it, then export from the store with store:DIRECTORY',
      });
    }
    bundle.accept(manifest);
    // One of its own, since the reader gives out a bare number.
    const content = await open(file, 'r');
    handle = content;
    context.emit({
      type: 'notice',
      level: 'warning',
      code: 'bundle-not-verified',
      message: `${inert(file)} is taken as it is, without asking who signed it; to pass on only what was verified, import it and export from store:DIRECTORY`,
    });
    const omitted = new Set(manifest.images.flatMap((image) => image.omitted.map(({ digest }) => digest)));
    const openBlob = async (name: string): Promise<OpenedBlob> => {
      const place = bundle.blob(name);
      if (!place)
        throw new SealiftError('blob-missing', `the bundle has no ${name}`, { subject: inert(file) });
      return { handle: content, offset: place.offset, size: place.size, close: async () => {} };
    };
    return {
      location: inert(`bundle:${file}`),
      async manifest(reference) {
        if (isDigest(reference)) {
          const bytes = await bundle.readBlob(blobPath(reference), context.limits.manifest);
          const known =
            manifest.images.find(({ digest }) => digest === reference) ??
            manifest.evidence.find(({ digest }) => digest === reference);
          return { bytes, mediaType: known?.mediaType ?? '', digest: reference };
        }
        const { digest, mediaType } = findByName(manifest.images, reference, 'bundle');
        return {
          bytes: await bundle.readBlob(blobPath(digest), context.limits.manifest),
          mediaType,
          digest,
        };
      },
      blob: async (blob) => readContent(() => openBlob(blobPath(blob.digest)), blob, context.signal),
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
          ...(digestMadeHere ? { digestMadeHere } : {}),
        })),
      omits: (digest) => omitted.has(digest),
      async close() {
        await content.close();
        await bundle.close();
      },
    };
  } catch (error) {
    await handle?.close();
    await bundle.close();
    throw error;
  }
}
