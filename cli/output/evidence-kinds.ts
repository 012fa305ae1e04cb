/** Counts of evidence in words. */
import type { EvidenceKind, KindCount } from '../../core/evidence/kinds.ts';
import { plural } from './format.ts';

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
