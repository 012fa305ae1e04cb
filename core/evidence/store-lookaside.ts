/** Signatures of a store's images as a lookaside, for clients that pull the images from where no signatures API is. */
import type { Context } from '../context.ts';
import type { Digest } from '../oci/digest.ts';
import { parseImageName, repositoryName } from '../oci/reference.ts';
import { signaturesOf, storeReader, walkRecords } from '../publish/content.ts';
import { openStore } from '../store/store.ts';
import { writeLookaside } from './lookaside.ts';

export interface LookasideResult {
  readonly store: string;
  readonly directory: string;
  readonly signatures: readonly {
    readonly name: string;
    /** The manifest that is signed. */
    readonly digest: string;
    readonly file: string;
  }[];
  /** Images that have none. */
  readonly unsigned: readonly string[];
}

/**
 * Writes every simple-signing signature of a store's images, of an index and of each platform, beside those that are
 * there. Each lies there twice: where clients look that pull the image by its own name, over a mirror, and where those
 * look that pull `HOST/` and the whole name.
 * @throws SealiftError `store-not-found`; `blob-missing`, `digest-mismatch` where the store is damaged
 */
export async function writeStoreLookaside(
  options: { readonly store: string; readonly directory: string },
  context: Context,
): Promise<LookasideResult> {
  const { directory } = options;
  const store = await openStore(options.store, { create: false, limits: context.limits });
  const { images } = await store.list();
  const signatures: { name: string; digest: Digest; file: string }[] = [];
  const unsigned: string[] = [];
  for (const record of images) {
    context.signal.throwIfAborted();
    const nodes = await walkRecords(storeReader(store), [record], context.limits, (error) => {
      throw error;
    });
    const found = signaturesOf(nodes.values());
    if (found.size === 0) unsigned.push(record.name);
    for (const [digest, list] of found) {
      for (const { digest: blob, size } of list) {
        const bytes = await store.readBlob(blob, size);
        for (const name of placesOf(record.name)) {
          const file = await writeLookaside(directory, name, digest, bytes);
          signatures.push({ name: record.name, digest, file });
        }
      }
    }
  }
  return { store: store.directory, directory, signatures, unsigned };
}

/** Names whose path is where a client looks: it drops the host. */
function placesOf(name: string): readonly string[] {
  const reference = parseImageName(name);
  // A port is no part of a path.
  if (reference.domain.includes(':')) return [name];
  return [name, `host.invalid/${repositoryName(reference)}:any`];
}
