/**
 * TUF keys: the key object, its id, and verification with the native key types (docs/tuf-profile.md, "Keys").
 */
import { constants, createHash, createPublicKey, type KeyObject, verify } from 'node:crypto';
import { canonicalize } from '@tufjs/canonical-json';
import { inert, SealiftError } from '../errors.ts';
import type { JsonObject, JsonValue } from '../json/strict.ts';

/** A key object as it stands in root and in delegations. Unknown fields are kept: they are part of the key id. */
export interface TufKey {
  readonly keytype: string;
  readonly scheme: string;
  readonly keyval: { readonly public: string };
}

/** What signatures are made for; a signature for one purpose is none for another. */
export type Purpose =
  | 'tuf-root'
  | 'tuf-timestamp'
  | 'tuf-snapshot'
  | 'tuf-targets'
  | 'sha256sums'
  | 'approval';

export const KEY_ID = /^[0-9a-f]{64}$/;
export const FINGERPRINT = /^[0-9a-f]{40}$/;
const MIN_RSA_BITS = 2048;

/** Key id: lower-case hex SHA-256 of the canonical key object. */
export function keyIdOf(key: TufKey): string {
  return createHash('sha256').update(canonicalize(key), 'utf8').digest('hex');
}

/** The key object of an OpenPGP key, by the fingerprint of its primary key. */
export function openpgpTufKey(fingerprint: string): TufKey {
  return { keytype: 'openpgp', scheme: 'openpgp-v4', keyval: { public: fingerprint } };
}

/**
 * The key object of a native public key.
 * @throws SealiftError `weak-algorithm` where it is neither ed25519, ecdsa P-256 nor RSA of 2048 bits at least
 */
export function nativeTufKey(key: KeyObject): TufKey {
  const publicKey = key.type === 'public' ? key : createPublicKey(key);
  const type = publicKey.asymmetricKeyType;
  if (type === 'ed25519') {
    const raw = Buffer.from(publicKey.export({ format: 'jwk' }).x ?? '', 'base64url');
    return { keytype: 'ed25519', scheme: 'ed25519', keyval: { public: raw.toString('hex') } };
  }
  const pem = publicKey.export({ format: 'pem', type: 'spki' }).toString();
  let tufKey: TufKey | undefined;
  if (type === 'ec') tufKey = { keytype: 'ecdsa', scheme: 'ecdsa-sha2-nistp256', keyval: { public: pem } };
  if (type === 'rsa') tufKey = { keytype: 'rsa', scheme: 'rsassa-pss-sha256', keyval: { public: pem } };
  if (!tufKey) {
    throw new SealiftError(
      'weak-algorithm',
      `key type is not accepted: got ${inert(String(type))}, want ed25519, ecdsa P-256 or RSA`,
    );
  }
  nativePublicKey(tufKey);
  return tufKey;
}

/** SubjectPublicKeyInfo of Ed25519 up to the 32 bytes of the key (RFC 8410). */
const ED25519_SPKI = Buffer.from('302a300506032b6570032100', 'hex');

/**
 * The public key of a native key object.
 * @throws SealiftError `weak-algorithm` for key types, schemes and sizes that are not accepted, `metadata-malformed`
 */
export function nativePublicKey(key: TufKey): KeyObject {
  const text = key.keyval.public;
  const isPem = /^-----BEGIN PUBLIC KEY-----\n/.test(text);
  let publicKey: KeyObject;
  try {
    if (key.keytype === 'ed25519' && /^[0-9a-f]{64}$/.test(text)) {
      publicKey = createPublicKey({
        key: Buffer.concat([ED25519_SPKI, Buffer.from(text, 'hex')]),
        format: 'der',
        type: 'spki',
      });
    } else if (isPem) {
      publicKey = createPublicKey({ key: text, format: 'pem' });
    } else {
      throw new Error('neither hex of an ed25519 key nor PEM');
    }
  } catch (cause) {
    throw new SealiftError(
      'metadata-malformed',
      `public key cannot be read, got keytype ${inert(key.keytype)}`,
      { cause },
    );
  }
  const type = publicKey.asymmetricKeyType;
  const details = publicKey.asymmetricKeyDetails ?? {};
  const isEcdsa = key.keytype === 'ecdsa' || key.keytype === 'ecdsa-sha2-nistp256';
  const accepted =
    (key.keytype === 'ed25519' && key.scheme === 'ed25519' && type === 'ed25519') ||
    (isEcdsa &&
      key.scheme === 'ecdsa-sha2-nistp256' &&
      type === 'ec' &&
      details.namedCurve === 'prime256v1') ||
    (key.keytype === 'rsa' &&
      key.scheme === 'rsassa-pss-sha256' &&
      type === 'rsa' &&
      (details.modulusLength ?? 0) >= MIN_RSA_BITS);
  if (!accepted) {
    throw new SealiftError(
      'weak-algorithm',
      `key is not accepted: got ${inert(key.keytype)} with scheme ${inert(key.scheme)}, want ed25519, ecdsa-sha2-nistp256 or rsassa-pss-sha256 of ${MIN_RSA_BITS} bits at least`,
    );
  }
  return publicKey;
}

/**
 * A name for the key material itself, equal for the same key under different key types and encodings, so that
 * one key never counts twice for a threshold.
 */
export function materialOf(publicKey: KeyObject): string {
  return createHash('sha256')
    .update(publicKey.export({ format: 'der', type: 'spki' }))
    .digest('hex');
}

/**
 * True where `sig` (lower-case hex) is a signature by the native `key` over `bytes`.
 * @throws SealiftError as {@link nativePublicKey}
 */
export function verifyNative(key: TufKey, bytes: Uint8Array, sig: string): boolean {
  const publicKey = nativePublicKey(key);
  const signature = decodeHex(sig);
  if (!signature) return false;
  try {
    switch (publicKey.asymmetricKeyType) {
      case 'ed25519':
        return verify(null, bytes, publicKey, signature);
      case 'ec':
        return verify('sha256', bytes, publicKey, signature);
      case 'rsa':
        return verify(
          'sha256',
          bytes,
          {
            key: publicKey,
            padding: constants.RSA_PKCS1_PSS_PADDING,
            saltLength: constants.RSA_PSS_SALTLEN_AUTO,
          },
          signature,
        );
      default:
        return false;
    }
  } catch {
    return false; // a signature OpenSSL cannot even read verifies nothing
  }
}

/** Bytes of lower-case hex; undefined for anything else. Buffer.from(text, 'hex') alone drops a bad tail silently. */
export function decodeHex(text: string): Buffer | undefined {
  if (text.length === 0 || text.length % 2 !== 0) return undefined;
  const bytes = Buffer.from(text, 'hex');
  return bytes.toString('hex') === text ? bytes : undefined;
}

/**
 * Reads a key object and checks its id.
 * @param strict refuses key types and schemes the profile does not know; otherwise such keys are kept and verify nothing
 * @throws SealiftError `metadata-malformed`, `weak-algorithm`
 */
export function parseTufKey(keyId: string, value: JsonValue, strict: boolean): TufKey {
  const malformed = (message: string) =>
    new SealiftError('metadata-malformed', message, { subject: inert(keyId) });
  if (value === null || typeof value !== 'object' || Array.isArray(value))
    throw malformed('key is not an object');
  const object = value as JsonObject;
  const { keytype, scheme, keyval } = object;
  if (typeof keytype !== 'string' || typeof scheme !== 'string')
    throw malformed('key has no keytype or no scheme');
  if (keyval === null || typeof keyval !== 'object' || Array.isArray(keyval))
    throw malformed('key has no keyval');
  const publicText = (keyval as JsonObject)['public'];
  if (typeof publicText !== 'string') throw malformed('key has no public value');
  const key = value as unknown as TufKey;
  if (strict) {
    if (!KEY_ID.test(keyId) || keyIdOf(key) !== keyId) {
      throw malformed(`key id is not the hash of its key: got ${inert(keyId)}, want ${keyIdOf(key)}`);
    }
    if (keytype === 'openpgp') {
      if (scheme !== 'openpgp-v4' || !FINGERPRINT.test(publicText)) {
        throw malformed('openpgp key: want scheme openpgp-v4 and a fingerprint of 40 lower-case hex digits');
      }
    } else {
      nativePublicKey(key);
    }
  }
  return key;
}
