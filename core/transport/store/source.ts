/** A store as a source: what was let in, with the evidence that came with it. */
import type { Context } from '../../context.ts';
import { inert, SealiftError } from '../../errors.ts';
import { type Digest, isDigest } from '../../oci/digest.ts';
import type { OpenedBlob } from '../../oci/layout.ts';
import type { EvidenceRecord } from '../../store/store.ts';
import { openStore } from '../../store/store.ts';
import { findByName, madeHere } from '../bundle/names.ts';
import { readContent } from '../content.ts';
import type { Location } from '../location.ts';
import type { Source } from '../source.ts';
import { readTagged } from '../tagged.ts';

/** @throws SealiftError `store-not-found` and as `openStore()` */
export async function openStoreSource(
  location: Extract<Location, { kind: 'store' }>,
  context: Context,
): Promise<Source> {
  const { directory } = location;
  const store = await openStore(directory, { create: false, limits: context.limits });
  const { images } = await store.list();
  const omitted = new Set<Digest>(images.flatMap((image) => image.omitted));
  const evidence = new Map<Digest, EvidenceRecord>(
    images.flatMap((image) => image.evidence.map((record) => [record.digest, record] as const)),
  );
  const openBlob = async (digest: Digest): Promise<OpenedBlob> => {
    const opened = await store.openBlob(digest);
    if (!opened)
      throw new SealiftError('blob-missing', `the store has no blob ${digest}`, { subject: digest });
    const { handle, size } = opened;
    return { handle, offset: 0, size, close: () => handle.close() };
  };
  return {
    location: inert(`store:${directory}`),
    async manifest(reference) {
      const image = isDigest(reference)
        ? images.find(({ digest }) => digest === reference)
        : findByName(images, reference, 'store');
      const known = image ?? (isDigest(reference) ? evidence.get(reference) : undefined);
      const digest = known?.digest ?? (reference as Digest);
      return {
        bytes: await store.readBlob(digest, context.limits.manifest),
        mediaType: known?.mediaType ?? '',
        digest,
        ...madeHere(image),
      };
    },
    blob: async (blob) => readContent(() => openBlob(blob.digest), blob, context.signal),
    referrers: async (subject) => ({
      descriptors: [...evidence.values()].filter(
        (record) => record.subject === subject && record.tag === undefined,
      ),
      via: 'layout',
    }),
    tagged: (subject) =>
      readTagged([...evidence.values()], subject, (digest) =>
        store.readBlob(digest, context.limits.manifest),
      ),
    names: async () =>
      images.map((image) => ({
        name: image.name,
        reference: image.name,
        digest: image.digest,
        ...madeHere(image),
      })),
    holds: ({ digest, size }) => store.has(digest, size),
    omits: (digest) => omitted.has(digest),
    close: async () => {},
  };
}
