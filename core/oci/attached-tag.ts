/**
 * Tags that say what they are about by their name, as cosign uses them: `sha256-HEX.sig` for the signatures of the
 * manifest `sha256:HEX`, `.att` for its attestations, `.sbom` for its list of contents. The manifest behind such a
 * tag need not have a `subject`.
 */
import { type Digest, digestAlgorithm, digestHex, isDigest } from './digest.ts';

export const ATTACHED_KINDS = ['sig', 'att', 'sbom'] as const;
export type AttachedKind = (typeof ATTACHED_KINDS)[number];

const ATTACHED_TAG = /^sha256-([0-9a-f]{64})\.(sig|att|sbom)$/;

/** The tags that may be about a manifest; none for sha512, which is too long for a tag. */
export function attachedTags(subject: Digest): readonly string[] {
  if (digestAlgorithm(subject) !== 'sha256') return [];
  return ATTACHED_KINDS.map((kind) => `sha256-${digestHex(subject)}.${kind}`);
}

/** What a tag is about; undefined where it is an ordinary one. */
export function subjectOfAttachedTag(
  tag: string,
): { readonly subject: Digest; readonly kind: AttachedKind } | undefined {
  const [, hex = '', suffix] = ATTACHED_TAG.exec(tag) ?? [];
  const subject = `sha256:${hex}`;
  const kind = ATTACHED_KINDS.find((known) => known === suffix);
  return kind !== undefined && isDigest(subject) ? { subject, kind } : undefined;
}
