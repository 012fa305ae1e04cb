/** Counts of evidence in words. */

import { inert } from '../../core/errors.ts';
import { KIND_WORDS, type KindCount } from '../../core/evidence/kinds.ts';
import type { ImageSummary } from '../../core/results.ts';
import { plural, shortDigest } from './format.ts';

/** `2 OpenPGP signatures, 1 SBOM`; `no evidence`. */
export function kindsText(kinds: readonly KindCount[]): string {
  if (kinds.length === 0) return 'no evidence';
  return kinds.map(({ kind, count }) => plural(count, KIND_WORDS[kind])).join(', ');
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
