/**
 * What every verifier of evidence has in common: bytes that say something about a manifest go in, with what is
 * trusted and the time; who says it comes out. A verifier opens no file and no socket.
 */
import type { Digest } from '../../oci/digest.ts';

/** One piece of evidence as it was carried. */
export interface Evidence {
  /** Of its manifest. */
  readonly digest: Digest;
  readonly artifactType: string;
  /** The manifest it is about. */
  readonly subject: Digest;
  /** Content of its layers, in order. */
  readonly payloads: readonly Uint8Array[];
  /** What the carrier says: that it was good, by whom, when the bundle was made. */
  readonly statement?: { readonly signer: string; readonly at: Date } | undefined;
}

/** The manifest that evidence is about. */
export interface EvidenceSubject {
  readonly digest: Digest;
  readonly bytes: Uint8Array;
}

export interface VerifiedEvidence {
  readonly format: string;
  /** As the signature says it; it has been compared with the subject. */
  readonly subjectDigest: string;
  /** The name the signature claims for the image, as written there; the policy decides whether it counts. */
  readonly claimedName: string;
  /** Fingerprint or identity of who signed. */
  readonly signer: string;
  readonly signedAt: Date;
  readonly expires?: Date | undefined;
  /** What was checked, in words, in order. */
  readonly checks: readonly string[];
}

/** A format of evidence; `Trust` is the key material it wants. */
export interface EvidenceVerifier<Trust> {
  readonly format: string;
  /** Whether evidence of this artifact type is of this format. */
  accepts(artifactType: string): boolean;
  /**
   * @throws SealiftError `signature-invalid`, `signature-expired`, `weak-algorithm`, `key-expired`, `key-revoked`,
   *   `json-*`: why it does not count
   */
  verify(evidence: Evidence, subject: EvidenceSubject, trust: Trust, now: Date): Promise<VerifiedEvidence>;
}
