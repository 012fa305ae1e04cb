/** The catalog page, and what lies beside a tree for web servers: people and programs do what they say. */
import { isSealiftError } from '../errors.ts';
import { CATALOG_KEY, type CatalogOptions, catalogDocument, examineCatalog } from './catalog.ts';
import type { Destination, ObjectToPut } from './destination.ts';
import type { ObjectReport } from './examine.ts';
import type { PublishPlan } from './plan.ts';

export interface DocumentOptions {
  /** Where the page has to send clients to, if that is known; else where it sends them is told. */
  readonly host?: string | undefined;
  /** What the page tells of names that were withdrawn. */
  readonly withdrawn: CatalogOptions['withdrawn'];
}

const RIGHT = { proof: 'content' } as const;
const OTHER_CONTENT = { fault: 'wrong', detail: 'it is not what a sync writes' } as const;

/** Longer than this a document is another one anyway; a host stands in the page a few times for each image. */
const mostOf = (wanted: Uint8Array): number => 64 * 1024 + 8 * wanted.length;

/**
 * Reads them, and holds them against what a sync would write now.
 * @param manifests what clients ask for by other names than that of a blob
 * @returns also the host of a page that is right in everything else
 */
export async function examineDocuments(
  plan: PublishPlan,
  destination: Destination,
  manifests: readonly ObjectToPut[],
  options: DocumentOptions,
  now: Date,
): Promise<{ readonly objects: readonly ObjectReport[]; readonly host?: string | undefined }> {
  const objects: ObjectReport[] = [];
  // Tags that nothing here put there are told as such: whether they came before or after the last sync is no fault here.
  const without = await destination.companions(manifests, { ownTagsOnly: true });
  for (const [key, { bytes }] of await destination.companions(manifests)) {
    const got = await read(destination, key, mostOf(bytes));
    const right = [bytes, without.get(key)?.bytes].some((one) => one && got && Buffer.from(one).equals(got));
    objects.push({
      key,
      size: bytes.length,
      ...(got ? (right ? RIGHT : OTHER_CONTENT) : { fault: 'missing' }),
    });
  }
  const [, { bytes }] = catalogDocument(plan, { withdrawn: options.withdrawn, now });
  const page = await read(destination, CATALOG_KEY, mostOf(bytes));
  const object = { key: CATALOG_KEY, size: page?.length ?? bytes.length };
  if (!page) return { objects: [...objects, { ...object, fault: 'missing' }] };
  const { right, host } = examineCatalog(page, plan, { withdrawn: options.withdrawn, now });
  if (!right) return { objects: [...objects, { ...object, ...OTHER_CONTENT }] };
  if (options.host === undefined || options.host === host)
    return { objects: [...objects, { ...object, ...RIGHT }], host };
  const detail = `it sends clients to ${host ?? 'no host'}, want ${options.host}`;
  return { objects: [...objects, { ...object, fault: 'wrong', detail }], host };
}

/** One that is too large is nothing that was written here: what it holds does not matter then. */
async function read(destination: Destination, key: string, most: number): Promise<Uint8Array | undefined> {
  try {
    return await destination.read(key, most);
  } catch (error) {
    if (isSealiftError(error) && (error.code === 'state-damaged' || error.code === 'size-mismatch'))
      return new Uint8Array(0);
    throw error;
  }
}
