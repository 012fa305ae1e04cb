/** Content trust as evidence of manifests: one look at the server for each repository of an export. */
import type { Context } from '../../context.ts';
import { inert } from '../../errors.ts';
import type { ParsedManifest } from '../../oci/manifest.ts';
import { type Reference, repositoryName } from '../../oci/reference.ts';
import type { SourceOptions } from '../../transport/source.ts';
import { type AttachedEvidence, wrapContentTrust } from '../wrap.ts';
import { claimsOf } from './claims.ts';
import { fetchContentTrust, type MetadataFile } from './server.ts';
import { type ContentTrustSettings, notaryServerFor } from './settings.ts';

/** Gives the content trust of a manifest of an image; none where nothing in it is about that manifest or its tag. */
export type ContentTrustFinder = (
  reference: Reference,
  manifest: ParsedManifest,
  isTop: boolean,
) => Promise<readonly AttachedEvidence[]>;

/**
 * @param settings the servers that are asked, each once about a repository
 * @returns a function that throws SealiftError `source-*`, `json-*`, `digest-mismatch`; `invalid-argument` where the
 *   server's address cannot be used
 */
export function contentTrustFinder(
  settings: ContentTrustSettings,
  options: SourceOptions,
  context: Context,
): ContentTrustFinder {
  const known = new Map<string, Promise<readonly MetadataFile[] | undefined>>();
  return async (reference, manifest, isTop) => {
    const server = notaryServerFor(settings, reference.domain, options.plainHttp);
    if (server === undefined) return [];
    const gun = repositoryName(reference);
    const found = known.get(gun) ?? fetchContentTrust(server, reference, options, context);
    known.set(gun, found);
    const files = await found;
    if (files === undefined) return [];
    const { digest } = manifest;
    const tag = isTop ? reference.tag : undefined;
    const { tags } = claimsOf(gun, files, { tag, digest }, context.limits);
    if (isTop) tell(gun, tag, tags, digest, context);
    return tags.length === 0 ? [] : [wrapContentTrust(gun, files, manifest, context.limits)];
  };
}

/** What makes nothing worse than no content trust, and yet is not what people expect who use it. */
function tell(
  gun: string,
  tag: string | undefined,
  tags: ReturnType<typeof claimsOf>['tags'],
  digest: string,
  context: Context,
): void {
  const ofTag = tags.filter((claim) => claim.tag === tag);
  const other = ofTag.find((claim) => claim.digest !== undefined && claim.digest !== digest);
  if (other) {
    context.emit({
      type: 'notice',
      level: 'warning',
      code: 'content-trust-other',
      message: `${gun}: ${inert(other.role)} of its content trust says that ${inert(other.tag)} is ${other.digest}, and the registry has ${digest}`,
    });
  } else if (tags.length === 0) {
    context.emit({
      type: 'notice',
      level: 'info',
      code: 'content-trust-silent',
      message: `${gun}: there is content trust, which says nothing of ${tag ?? digest}; it is not carried`,
    });
  }
}
