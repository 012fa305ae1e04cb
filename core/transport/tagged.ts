/** Tagged evidence of places that list what they hold: bundles and stores. */
import type { Digest } from '../oci/digest.ts';
import type { TaggedEvidence } from './source.ts';

interface Listed {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly subject: Digest;
  readonly tag?: string | undefined;
}

/** What is listed with a tag about `subject`, read by `read`. */
export async function readTagged(
  listed: Iterable<Listed>,
  subject: Digest,
  read: (digest: Digest) => Promise<Uint8Array>,
): Promise<readonly TaggedEvidence[]> {
  const found: TaggedEvidence[] = [];
  for (const { tag, digest, mediaType, subject: about } of listed) {
    if (tag === undefined || about !== subject) continue;
    found.push({ tag, manifest: { bytes: await read(digest), mediaType, digest } });
  }
  return found;
}
