/** Content trust as it lies in a bundle or a store. */
import { isSealiftError } from '../../errors.ts';
import type { ReadBlob } from '../../image-details.ts';
import type { Limits } from '../../limits.ts';
import { parseDigest } from '../../oci/digest.ts';
import { parseManifest } from '../../oci/manifest.ts';
import { parseImageName } from '../../oci/reference.ts';
import type { EvidenceSummary, ImageSummary } from '../../results.ts';
import { CONTENT_TRUST_GUN } from '../../trust/evidence/media-types.ts';
import { TITLE } from '../wrap.ts';
import { type ContentTrustClaims, claimsOf } from './claims.ts';
import { MAX_CONTENT_TRUST, type MetadataFile } from './server.ts';

/**
 * What a piece claims of an image; undefined where it cannot be read as what it says it is, which whoever judges it
 * refuses.
 * @param read gives a blob of at most so many bytes
 * @throws SealiftError what `read` throws
 */
export async function readContentTrust(
  piece: Pick<EvidenceSummary, 'digest' | 'size' | 'subject'>,
  image: Pick<ImageSummary, 'name'>,
  read: ReadBlob,
  limits: Limits,
): Promise<ContentTrustClaims | undefined> {
  const digest = parseDigest(piece.digest);
  const bytes = await read(digest, limits.manifest);
  const manifest = unlessMalformed(() => parseManifest(bytes, { digest, limits }));
  if (manifest === undefined) return undefined;
  const files: MetadataFile[] = [];
  let total = 0;
  for (const { digest: blob, size, annotations } of manifest.layers) {
    total += size;
    if (total > MAX_CONTENT_TRUST) return undefined;
    files.push({ name: annotations?.[TITLE] ?? '', bytes: await read(blob, size) });
  }
  const { tag } = parseImageName(image.name);
  const gun = manifest.annotations[CONTENT_TRUST_GUN] ?? '';
  return unlessMalformed(() => claimsOf(gun, files, { tag, digest: piece.subject }, limits));
}

function unlessMalformed<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (isSealiftError(error)) return undefined;
    throw error;
  }
}
