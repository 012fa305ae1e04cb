/** Counts of evidence in words. */

import { inert } from '../../core/errors.ts';
import type { EvidenceKind, KindCount } from '../../core/evidence/kinds.ts';
import type { ImageSummary } from '../../core/results.ts';
import { plural, shortDigest } from './format.ts';

const WORDS: Readonly<Record<EvidenceKind, string>> = {
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

/** `2 OpenPGP signatures, 1 SBOM`; `no evidence`. */
export function kindsText(kinds: readonly KindCount[]): string {
  if (kinds.length === 0) return 'no evidence';
  return kinds.map(({ kind, count }) => plural(count, WORDS[kind])).join(', ');
}

/** What was left out: platforms, and how many attestations. */
export function omittedNames({ omitted }: Pick<ImageSummary, 'omitted'>): readonly string[] {
  const attestations = omitted.filter(({ reason }) => reason === 'evidence').length;
  const others = omitted.filter(({ reason }) => reason !== 'evidence');
  return [
    ...others.map((part) => inert(part.platform ?? shortDigest(part.digest))),
    ...(attestations === 0 ? [] : [plural(attestations, 'BuildKit attestation')]),
  ];
}
