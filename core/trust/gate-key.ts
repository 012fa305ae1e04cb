/** The key of a gate that signs receipts (docs/receipts-and-deltas.md): ed25519, made on first use, unencrypted beside the gate. */
import { createPrivateKey, createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { SealiftError } from '../errors.ts';
import { keyIdOf, nativeTufKey, type TufKey, verifyNative } from './keys.ts';

export interface GateKey {
  readonly key: TufKey;
  readonly keyId: string;
  /** PKCS#8, DER. */
  readonly secret: Buffer;
  /** Lower-case hex. */
  sign(bytes: Uint8Array): string;
}

export function makeGateKey(): GateKey {
  const { privateKey } = generateKeyPairSync('ed25519');
  return openGateKey(privateKey.export({ format: 'der', type: 'pkcs8' }), 'a new key');
}

/** @throws SealiftError `state-damaged` where the bytes are no ed25519 key */
export function openGateKey(secret: Buffer, subject: string): GateKey {
  try {
    const privateKey = createPrivateKey({ key: secret, format: 'der', type: 'pkcs8' });
    if (privateKey.asymmetricKeyType !== 'ed25519') throw new Error('another type of key');
    const key = nativeTufKey(createPublicKey(privateKey));
    return {
      key,
      keyId: keyIdOf(key),
      secret,
      sign: (bytes) => sign(null, bytes, privateKey).toString('hex'),
    };
  } catch (cause) {
    throw new SealiftError('state-damaged', "the gate's key cannot be read", {
      subject,
      hint: 'restore it from a backup; or remove it: a new one is made, which the other side must pin again',
      cause,
    });
  }
}

/** The TUF key object of a raw ed25519 public key in lower-case hex. */
export function gateTufKey(publicHex: string): TufKey {
  return { keytype: 'ed25519', scheme: 'ed25519', keyval: { public: publicHex } };
}

/** True where `sig` (lower-case hex) is the key's signature over `bytes`. */
export function verifyGateSignature(key: TufKey, bytes: Uint8Array, sig: string): boolean {
  try {
    return verifyNative(key, bytes, sig);
  } catch {
    return false; // no point of the curve: a key that signs nothing
  }
}
