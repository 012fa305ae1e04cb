/** What the metadata of a notary server claims of an image. Nobody has judged it: no signature is looked at. */
import type { Limits } from '../../limits.ts';
import { expiryOf, readSigned, tagsIn } from './metadata.ts';
import type { MetadataFile } from './server.ts';

export interface ContentTrustClaims {
  /** The repository as its server calls it. */
  readonly gun: string;
  /** What is said of the image's tag, and other tags that are said to be this image; by role. */
  readonly tags: readonly {
    /** `targets`, or a delegated one such as `targets/releases`. */
    readonly role: string;
    readonly tag: string;
    /** What the tag is said to be, `sha256:…`; absent where no hash of that algorithm is given. */
    readonly digest?: string | undefined;
  }[];
  /** The earliest end of any of the files in force. */
  readonly expires: string;
  /** Whose end that is: `timestamp`. */
  readonly expiresFirst: string;
}

const TYPES: Readonly<Record<string, string>> = {
  root: 'Root',
  timestamp: 'Timestamp',
  snapshot: 'Snapshot',
};
/** As many as anybody reads. */
const MAX_TAGS = 64;

/**
 * @param image the tag it is known by, if any, and its digest
 * @throws SealiftError `json-*`, `source-protocol` where a file is not of that form
 */
export function claimsOf(
  gun: string,
  files: readonly MetadataFile[],
  image: { readonly tag: string | undefined; readonly digest: string },
  limits: Limits,
): ContentTrustClaims {
  const tags: ContentTrustClaims['tags'][number][] = [];
  let earliest: { readonly role: string; readonly at: Date } | undefined;
  for (const { name, bytes } of files) {
    const role = name.replace(/\.json$/, '');
    // Roots that were replaced have ended, which says nothing.
    if (/^\d+\.root$/.test(role)) continue;
    const signed = readSigned(bytes, TYPES[role] ?? 'Targets', name, limits);
    const at = expiryOf(signed);
    if (earliest === undefined || at < earliest.at) earliest = { role, at };
    if (TYPES[role] !== undefined) continue;
    for (const found of tagsIn(signed)) {
      const digest = found.sha256 === undefined ? undefined : `sha256:${found.sha256}`;
      if (found.tag !== image.tag && digest !== image.digest) continue;
      if (tags.length < MAX_TAGS)
        tags.push({ role, tag: found.tag, ...(digest === undefined ? {} : { digest }) });
    }
  }
  return {
    gun,
    tags,
    expires: earliest === undefined ? '' : `${earliest.at.toISOString().slice(0, 19)}Z`,
    expiresFirst: earliest?.role ?? '',
  };
}
