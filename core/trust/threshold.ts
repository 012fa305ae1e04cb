/** Thresholds: which signatures on metadata count, and how many distinct keys they are by. */
import { inert, SealiftError } from '../errors.ts';
import type { CertificateStore } from './certificates.ts';
import { materialOf, nativePublicKey, type Purpose, type TufKey, verifyNative } from './keys.ts';
import type { Metadata, RoleKeys } from './metadata.ts';
import { verifyOpenpgp } from './openpgp.ts';

/** Which refusal is told when several signatures of a role fail. */
const TELLING = ['key-revoked', 'key-expired', 'weak-algorithm', 'signature-invalid'] as const;

/** Who made a signature, as far as it matters whether two of them are one. */
export interface SignerTrace {
  /** Everything two signers may have in common: primary fingerprint and key material. */
  readonly tokens: readonly string[];
  /** When the signature stops counting; Infinity where it never does. */
  readonly until: number;
}

/** By what a signature is judged. */
export interface SignatureRules {
  readonly certificates: Pick<CertificateStore, 'get'>;
  /** Time of the run. */
  readonly time: Date;
  /** A link of the root chain outlives the expiry of the keys that made it. */
  readonly mode: 'final' | 'link';
  readonly allowFuture?: boolean | undefined;
}

/** One signature by one key of a role. @throws SealiftError saying why it does not count */
export async function verifySignature(
  metadata: Metadata,
  keyId: string,
  key: TufKey,
  sig: string,
  { certificates, time, mode, allowFuture }: SignatureRules,
): Promise<SignerTrace> {
  if (key.keytype === 'openpgp') {
    const certificate = certificates.get(key.keyval.public);
    if (!certificate) {
      throw new SealiftError(
        'signature-invalid',
        `the certificate of key ${inert(key.keyval.public)} is not here`,
        { subject: inert(keyId) },
      );
    }
    const purpose: Purpose = `tuf-${metadata.type}`;
    const { expires } = await verifyOpenpgp(certificate, metadata.signedBytes, sig, {
      purpose,
      now: time,
      mode,
      allowFuture,
    });
    const materials = certificate.keys
      .filter(({ canSign }) => canSign)
      .map(({ material }) => `material ${material}`);
    return {
      tokens: [`primary ${certificate.fingerprint}`, ...materials],
      until: expires?.getTime() ?? Infinity,
    };
  }
  if (!verifyNative(key, metadata.signedBytes, sig)) {
    throw new SealiftError('signature-invalid', 'signature does not verify', { subject: inert(keyId) });
  }
  return { tokens: [`material ${materialOf(nativePublicKey(key))}`], until: Infinity };
}

/**
 * A threshold of distinct keys. Resolves to when it stops counting, in milliseconds since 1970; Infinity where it never does.
 * @throws SealiftError `signature-threshold` where signatures are missing; where there are enough but some do
 * not count, why: `key-revoked`, `key-expired`, `weak-algorithm`, `signature-invalid`
 */
export async function verifyThreshold(
  metadata: Metadata,
  role: RoleKeys,
  keys: ReadonlyMap<string, TufKey>,
  rules: SignatureRules,
  name: string,
): Promise<number> {
  const signers: SignerTrace[] = [];
  const failures: SealiftError[] = [];
  for (const keyId of role.keyids) {
    const key = keys.get(keyId);
    const sig = metadata.signatures.get(keyId);
    if (!key || sig === undefined) continue;
    try {
      signers.push(await verifySignature(metadata, keyId, key, sig, rules));
    } catch (error) {
      if (!(error instanceof SealiftError) || error.code === 'internal') throw error;
      failures.push(error);
    }
  }
  const persons = distinct(signers);
  const check = metadata.type === 'root' ? 'root-chain' : metadata.type;
  if (persons.length < role.threshold) {
    for (const code of TELLING) {
      const failure = failures.find((error) => error.code === code);
      // Without the failed ones there would have been too few anyway: then that is what is wrong.
      if (failure && persons.length + failures.length >= role.threshold) {
        throw new SealiftError(code, `${inert(name)}: ${failure.message}`, {
          subject: inert(name),
          hint: failure.hint,
          check,
          cause: failure,
        });
      }
    }
    throw new SealiftError(
      'signature-threshold',
      `${inert(name)} has too few signatures by distinct keys: got ${persons.length}, want ${role.threshold}`,
      {
        subject: inert(name),
        got: persons.length,
        want: role.threshold,
        check,
      },
    );
  }
  // It lasts as long as enough of them last.
  return persons.toSorted((a, b) => b - a)[role.threshold - 1] ?? 0;
}

/**
 * Signers that have nothing in common: how long each of them counts. Those who share a primary fingerprint or
 * key material, be it over a third, are one.
 */
export function distinct(signers: readonly SignerTrace[]): readonly number[] {
  const groups: { tokens: Set<string>; until: number }[] = [];
  for (const { tokens, until } of signers) {
    const joined = { tokens: new Set(tokens), until };
    for (let i = groups.length - 1; i >= 0; i -= 1) {
      const group = groups[i];
      if (!group || !tokens.some((token) => group.tokens.has(token))) continue;
      for (const token of group.tokens) joined.tokens.add(token);
      joined.until = Math.max(joined.until, group.until);
      groups.splice(i, 1);
    }
    groups.push(joined);
  }
  return groups.map(({ until }) => until);
}
