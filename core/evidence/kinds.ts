/** What a piece of evidence is, as far as its type and its tag tell. Nothing is judged by it. */
import { subjectOfAttachedTag } from '../oci/attached-tag.ts';
import { CONTENT_TRUST_ARTIFACT, SIMPLE_SIGNING_ARTIFACT } from '../trust/evidence/media-types.ts';

/** Kinds by name (docs/json-output.md), in the order in which they are shown. */
export const EVIDENCE_KINDS = [
  'openpgp-signature',
  'cosign-signature',
  'sigstore-bundle',
  'notation-signature',
  'content-trust',
  'cosign-attestation',
  'buildkit-attestation',
  'attestation',
  'sbom',
  'other',
] as const;
export type EvidenceKind = (typeof EVIDENCE_KINDS)[number];

/** What people call one of them. */
export const KIND_WORDS: Readonly<Record<EvidenceKind, string>> = {
  'openpgp-signature': 'OpenPGP signature',
  'cosign-signature': 'cosign signature',
  'sigstore-bundle': 'Sigstore bundle',
  'notation-signature': 'Notation signature',
  'content-trust': 'Docker Content Trust record',
  'cosign-attestation': 'cosign attestation',
  'buildkit-attestation': 'BuildKit attestation',
  attestation: 'attestation',
  sbom: 'SBOM',
  other: 'other piece',
};

export interface KindCount {
  readonly kind: EvidenceKind;
  readonly count: number;
}

const TYPES: readonly (readonly [RegExp, EvidenceKind])[] = [
  [/^application\/vnd\.dev\.sigstore\.bundle/, 'sigstore-bundle'],
  [/^application\/vnd\.dev\.cosign\.(?:simplesigning|artifact\.sig)/, 'cosign-signature'],
  [/^application\/vnd\.cncf\.notary\.signature$/, 'notation-signature'],
  [/^application\/vnd\.(?:in-toto|dsse)/, 'attestation'],
  [/spdx|cyclonedx|syft|\bsbom\b/, 'sbom'],
];

const TAGS = { sig: 'cosign-signature', att: 'cosign-attestation', sbom: 'sbom' } as const;

export function evidenceKind(piece: {
  readonly artifactType: string;
  readonly tag?: string | undefined;
}): EvidenceKind {
  if (piece.artifactType === SIMPLE_SIGNING_ARTIFACT) return 'openpgp-signature';
  if (piece.artifactType === CONTENT_TRUST_ARTIFACT) return 'content-trust';
  const tagged = piece.tag === undefined ? undefined : subjectOfAttachedTag(piece.tag);
  if (tagged) return TAGS[tagged.kind];
  return TYPES.find(([pattern]) => pattern.test(piece.artifactType))?.[1] ?? 'other';
}

/** How many there are of each kind, none of those that are not there. */
export function countKinds(kinds: Iterable<EvidenceKind>): readonly KindCount[] {
  const counts = new Map<EvidenceKind, number>();
  for (const kind of kinds) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return EVIDENCE_KINDS.flatMap((kind) => {
    const count = counts.get(kind);
    return count === undefined ? [] : [{ kind, count }];
  });
}
