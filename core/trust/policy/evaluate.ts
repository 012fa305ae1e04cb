/**
 * What a policy says of images and their evidence. No file and no socket is opened here but the key files that the
 * policy names. Nothing is accepted by absence: what is not known, not there or not judged refuses.
 */
import { inert, isSealiftError, SealiftError, toSealiftError } from '../../errors.ts';
import type { Digest } from '../../oci/digest.ts';
import type { Verdict } from '../../results.ts';
import type { Keyring } from '../evidence/keyring.ts';
import { simpleSigningVerifier } from '../evidence/simple-signing.ts';
import type { Evidence, EvidenceSubject, VerifiedEvidence } from '../evidence/verifier.ts';
import { identityMatches } from './identity.ts';
import type { LoadedPolicy } from './load.ts';
import { type Requirement, requirementText } from './policy.ts';
import { findScope, scopeText } from './scopes.ts';

/** An image with what was carried about it. */
export interface ImageEvidence {
  readonly name: string;
  /** The manifest or index that the name stands for. */
  readonly top: EvidenceSubject;
  /** Of an index: every platform manifest that is carried. */
  readonly children: readonly EvidenceSubject[];
  readonly pieces: readonly Evidence[];
}

export interface PieceJudgement {
  readonly state: Exclude<Verdict, 'unsigned'>;
  readonly reason: string;
  readonly verified?: VerifiedEvidence | undefined;
  /** Expired since the carrier found it good, and accepted because the requirement says so. */
  readonly waived?: boolean | undefined;
}

export interface PolicyDecision {
  readonly name: string;
  readonly allowed: boolean;
  readonly verdict: Verdict;
  readonly reason: string;
  /** Which part of the policy applied, in words. */
  readonly scope: string;
  /** The requirement that decided, with its line in the policy. */
  readonly requirement: string;
  readonly pieces: ReadonlyMap<Digest, PieceJudgement>;
}

interface Answer {
  readonly allowed: boolean;
  readonly verdict: Verdict;
  readonly reason: string;
}

const RANK: Readonly<Record<PieceJudgement['state'], number>> = {
  verified: 3,
  expired: 2,
  invalid: 1,
  carried: 0,
};

/** Judges images one after the other; what one piece is for one keyring is worked out once. */
export class PolicyJudge {
  readonly #policy: LoadedPolicy;
  readonly #now: Date;
  readonly #verified = new Map<Keyring, Map<string, Promise<VerifiedEvidence | SealiftError>>>();

  constructor(policy: LoadedPolicy, now: Date) {
    this.#policy = policy;
    this.#now = now;
  }

  /** All requirements of the one scope that applies must hold. */
  async judge(image: ImageEvidence): Promise<PolicyDecision> {
    const { scope, requirements } = findScope(this.#policy.policy, image.name);
    const pieces = new Map<Digest, PieceJudgement>();
    let refusal: { readonly answer: Answer; readonly requirement: Requirement } | undefined;
    let last: { readonly answer: Answer; readonly requirement: Requirement } | undefined;
    for (const requirement of requirements) {
      const answer = await this.#ask(requirement, image, pieces);
      last = { answer, requirement };
      if (!answer.allowed) refusal ??= last;
    }
    const decided = refusal ?? last;
    if (!decided) throw new SealiftError('internal', 'a scope without requirements', { subject: image.name });
    return {
      name: image.name,
      ...decided.answer,
      scope: scopeText(scope),
      requirement: `line ${decided.requirement.line}: ${requirementText(decided.requirement)}`,
      pieces,
    };
  }

  async #ask(
    requirement: Requirement,
    image: ImageEvidence,
    pieces: Map<Digest, PieceJudgement>,
  ): Promise<Answer> {
    switch (requirement.type) {
      case 'insecureAcceptAnything':
        return { allowed: true, verdict: 'verified', reason: 'the policy demands no evidence for it' };
      case 'reject':
        return {
          allowed: false,
          verdict: 'invalid',
          reason: 'the policy rejects it, whatever evidence there is',
        };
      case 'signedBy':
        return this.#signedBy(requirement, image, pieces);
      default:
        return {
          allowed: false,
          verdict: 'invalid',
          reason: `the policy demands ${requirement.type}, which this sealift cannot judge`,
        };
    }
  }

  async #signedBy(
    requirement: Requirement & { readonly type: 'signedBy' },
    image: ImageEvidence,
    pieces: Map<Digest, PieceJudgement>,
  ): Promise<Answer> {
    const refuse = (verdict: Verdict, reason: string): Answer => ({ allowed: false, verdict, reason });
    if (requirement.keyType !== 'GPGKeys')
      return refuse(
        'invalid',
        `the policy demands keys of the type ${requirement.keyType}, which nobody can judge`,
      );
    const keyring = await this.#policy.keyring(requirement);
    if (isSealiftError(keyring)) return refuse('invalid', `keys of the policy: ${keyring.message}`);
    const found: PieceJudgement[] = [];
    const accepts = async (subject: EvidenceSubject): Promise<PieceJudgement | undefined> => {
      let accepted: PieceJudgement | undefined;
      for (const piece of image.pieces) {
        if (piece.subject !== subject.digest || !simpleSigningVerifier.accepts(piece.artifactType)) continue;
        const judged = await this.#piece(piece, subject, keyring, requirement, image.name);
        found.push(judged);
        const before = pieces.get(piece.digest);
        if (!before || RANK[judged.state] > RANK[before.state]) pieces.set(piece.digest, judged);
        if (judged.state === 'verified' && accepted?.state !== 'verified') accepted = judged;
        else if (judged.waived) accepted ??= judged;
      }
      return accepted;
    };
    const top = await accepts(image.top);
    if (top) return { allowed: true, verdict: 'verified', reason: top.reason };
    let child: PieceJudgement | undefined;
    let all = image.children.length > 0;
    for (const subject of image.children) {
      const signed = await accepts(subject);
      if (signed) child ??= signed;
      else all = false;
    }
    if (all && child)
      return {
        allowed: true,
        verdict: 'verified',
        reason: `each platform's manifest is ${child.reason}`,
      };
    if (found.length === 0)
      return refuse('unsigned', 'there is no OpenPGP signature of the image in the bundle');
    if (child) return refuse('unsigned', 'not every platform that is carried has an accepted signature');
    const telling = found.find(({ state }) => state === 'expired') ?? found[0];
    const more = found.length > 1 ? ` (and ${found.length - 1} more)` : '';
    return refuse(telling?.state === 'expired' ? 'expired' : 'invalid', `${telling?.reason ?? ''}${more}`);
  }

  async #piece(
    piece: Evidence,
    subject: EvidenceSubject,
    keyring: Keyring,
    requirement: Requirement & { readonly type: 'signedBy' },
    name: string,
  ): Promise<PieceJudgement> {
    let verified = await this.#verify(piece, subject, keyring);
    let waived: string | undefined;
    if (isSealiftError(verified)) {
      const { code, message } = verified;
      if (code !== 'signature-expired' && code !== 'key-expired')
        return { state: 'invalid', reason: message };
      const earlier =
        requirement.expiry === 'log' ? await verifyThen(piece, subject, keyring, this.#now) : undefined;
      if (!earlier) return { state: 'expired', reason: message };
      verified = earlier;
      waived = message;
    }
    if (!identityMatches(requirement.identity, name, verified.claimedName)) {
      return {
        state: 'invalid',
        reason: `signature is for ${inert(verified.claimedName, 160)}, which ${requirement.identity.type} does not take for this name`,
        verified,
      };
    }
    if (waived === undefined) return { state: 'verified', reason: signedText(verified), verified };
    const since = piece.statement?.at.toISOString().slice(0, 10);
    const reason = `${signedText(verified)}; ${waived}, the carrier found it good on ${since}, and the policy says to log that`;
    return { state: 'expired', reason, verified, waived: true };
  }

  #verify(
    piece: Evidence,
    subject: EvidenceSubject,
    keyring: Keyring,
  ): Promise<VerifiedEvidence | SealiftError> {
    const known = this.#verified.get(keyring) ?? new Map<string, Promise<VerifiedEvidence | SealiftError>>();
    this.#verified.set(keyring, known);
    const before = known.get(piece.digest);
    if (before) return before;
    const verifying = (async () => {
      try {
        return await simpleSigningVerifier.verify(piece, subject, keyring, this.#now);
      } catch (error) {
        return toSealiftError(error);
      }
    })();
    known.set(piece.digest, verifying);
    return verifying;
  }
}

function signedText({ signer, signedAt, claimedName }: VerifiedEvidence): string {
  return `signed as ${inert(claimedName, 160)} by ${signer} on ${signedAt.toISOString().slice(0, 10)}`;
}

/**
 * Judges what has expired by the time of the export, where the signed bundle manifest says that the carrier found it good
 * then. Nobody is believed: the signature has to verify at that time, by the same signer; a revocation counts whenever it
 * was made.
 */
async function verifyThen(
  piece: Evidence,
  subject: EvidenceSubject,
  keyring: Keyring,
  now: Date,
): Promise<VerifiedEvidence | undefined> {
  const { statement } = piece;
  if (!statement || statement.at > now) return undefined;
  try {
    const verified = await simpleSigningVerifier.verify(piece, subject, keyring, statement.at);
    return verified.signer === statement.signer ? verified : undefined;
  } catch (error) {
    if (isSealiftError(error)) return undefined;
    throw error;
  }
}
