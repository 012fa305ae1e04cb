/** Signers: what signs TUF metadata and the list of checksums, from encrypted key files. */
import { constants, createPrivateKey, createPublicKey, type KeyObject, sign } from 'node:crypto';
import type { PrivateKey } from 'openpgp';
import { inert, SealiftError } from '../errors.ts';
import { DEFAULT_LIMITS } from '../limits.ts';
import { type Certificate, readCertificate } from './certificates.ts';
import { keyIdOf, nativeTufKey, openpgpTufKey, type Purpose, type TufKey } from './keys.ts';
import { armorSignature, signOpenpgp, verifyOpenpgp } from './openpgp.ts';
import { loadOpenpgp } from './openpgp-packets.ts';

export interface Signer {
  readonly key: TufKey;
  readonly keyId: string;
  /** Fingerprint of the OpenPGP primary key; absent for native keys. */
  readonly fingerprint?: string | undefined;
  /** Transferable public key, binary; absent for native keys. */
  readonly certificate?: Uint8Array | undefined;
  /** The `sig` field: lower-case hex. `created` goes into OpenPGP signatures. */
  sign(bytes: Uint8Array, purpose: Purpose, created: Date): Promise<string>;
  /** Armored detached signature with the purpose sha256sums; only OpenPGP signers have it. */
  readonly detached?: ((bytes: Uint8Array, created: Date) => Promise<string>) | undefined;
}

/** Passphrases, and what the library says about them, stay out of every message. */
function wrongPassphrase(subject: string): SealiftError {
  return new SealiftError('passphrase-needed', 'the passphrase does not open the key', {
    subject: inert(subject),
    hint: 'give the passphrase of this key with --passphrase-file, --passphrase-fd or at the prompt',
  });
}

function unreadable(subject: string): SealiftError {
  return new SealiftError('state-damaged', 'the file does not hold a private key sealift can read', {
    subject: inert(subject),
  });
}

/**
 * A signer from an OpenPGP secret key, armored or binary.
 * @param subject what the key is, for messages
 * @throws SealiftError `passphrase-needed`, `state-damaged`, and what {@link readCertificate} throws
 */
export async function openOpenpgpSigner(
  keyFile: Uint8Array,
  passphrase: string,
  subject: string,
): Promise<Signer> {
  const { readPrivateKey, decryptKey } = await loadOpenpgp();
  let locked: PrivateKey;
  try {
    const text = Buffer.from(keyFile).toString('latin1');
    locked = text.startsWith('-----BEGIN ')
      ? await readPrivateKey({ armoredKey: text })
      : await readPrivateKey({ binaryKey: keyFile });
  } catch {
    throw unreadable(subject);
  }
  let privateKey: PrivateKey;
  try {
    privateKey = locked.isDecrypted() ? locked : await decryptKey({ privateKey: locked, passphrase });
  } catch {
    throw wrongPassphrase(subject);
  }
  const certificate = await readCertificate(privateKey.toPublic().write(), DEFAULT_LIMITS);
  return makeOpenpgpSigner(privateKey, certificate);
}

function makeOpenpgpSigner(privateKey: PrivateKey, certificate: Certificate): Signer {
  const { fingerprint } = certificate;
  const key = openpgpTufKey(fingerprint);
  const make = async (bytes: Uint8Array, purpose: Purpose, created: Date): Promise<Uint8Array> => {
    let packet: Uint8Array;
    try {
      packet = await signOpenpgp(privateKey, bytes, purpose, created);
    } catch (cause) {
      throw new SealiftError('key-expired', 'the key cannot sign at that time', {
        subject: fingerprint,
        got: created.toISOString(),
        hint: 'the key may be expired or revoked, or younger than the time that is to be signed',
        cause,
      });
    }
    // What the other side would refuse, for whatever reason, must not leave this one.
    await verifyOpenpgp(certificate, bytes, Buffer.from(packet).toString('hex'), {
      purpose,
      now: created,
      mode: 'final',
    });
    return packet;
  };
  return {
    key,
    keyId: keyIdOf(key),
    fingerprint,
    certificate: certificate.bytes,
    sign: async (bytes, purpose, created) => Buffer.from(await make(bytes, purpose, created)).toString('hex'),
    detached: async (bytes, created) => await armorSignature(await make(bytes, 'sha256sums', created)),
  };
}

/** PKCS#8, and the older forms of OpenSSL, which notary wrote at first. */
const PRIVATE_PEM = /^-----BEGIN (?:ENCRYPTED |EC |RSA )?PRIVATE KEY-----\r?\n/;

/**
 * PEM without the headers `role:` and `gun:` that docker and notary put into keys. OpenSSL knows no others than those
 * of its old encryption, which stay.
 */
export function withoutHeaders(bytes: Uint8Array): string {
  const text = Buffer.from(bytes).toString('latin1');
  return text.replace(
    /^(-----BEGIN [A-Z ]+-----\r?\n)((?:[A-Za-z-]+: [^\r\n]*\r?\n)+)\r?\n/,
    (_, begin: string, headers: string) => {
      const kept = headers.split(/\r?\n/).filter((line) => /^(?:Proc-Type|DEK-Info): /.test(line));
      return kept.length === 0 ? begin : `${begin}${kept.join('\n')}\n\n`;
    },
  );
}

function openPrivatePem(keyFile: Uint8Array, passphrase: string, subject: string): KeyObject {
  const pem = withoutHeaders(keyFile);
  if (!PRIVATE_PEM.test(pem)) throw unreadable(subject);
  try {
    return createPrivateKey({ key: pem, format: 'pem', passphrase });
  } catch {
    throw wrongPassphrase(subject);
  }
}

/**
 * The same secret key as keys/ holds it, encrypted PKCS#8; undefined where it has no passphrase.
 * @throws SealiftError `passphrase-needed`, `state-damaged`
 */
export function toKeyFile(keyFile: Uint8Array, passphrase: string, subject: string): string | undefined {
  const pem = withoutHeaders(keyFile);
  const privateKey = openPrivatePem(keyFile, passphrase, subject);
  if (pem.startsWith('-----BEGIN ENCRYPTED PRIVATE KEY-----')) return pem;
  // Of a key that needs none, any passphrase would do.
  if (!/^Proc-Type: 4,ENCRYPTED\r?$/m.test(pem)) return undefined;
  return privateKey.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase }).toString();
}

/**
 * A signer from an encrypted key in PEM: ed25519, ecdsa P-256 or RSA.
 * @param subject what the key is, for messages
 * @throws SealiftError `passphrase-needed`, `state-damaged`, `weak-algorithm`
 */
export function openNativeSigner(keyFile: Uint8Array, passphrase: string, subject: string): Signer {
  const privateKey = openPrivatePem(keyFile, passphrase, subject);
  const key = nativeTufKey(createPublicKey(privateKey));
  return {
    key,
    keyId: keyIdOf(key),
    sign: async (bytes) => {
      switch (privateKey.asymmetricKeyType) {
        case 'ed25519':
          return sign(null, bytes, privateKey).toString('hex');
        case 'ec':
          return sign('sha256', bytes, privateKey).toString('hex');
        default:
          return sign('sha256', bytes, {
            key: privateKey,
            padding: constants.RSA_PKCS1_PSS_PADDING,
            saltLength: constants.RSA_PSS_SALTLEN_DIGEST,
          }).toString('hex');
      }
    },
  };
}

export const isPrivatePem = (keyFile: Uint8Array): boolean =>
  PRIVATE_PEM.test(Buffer.from(keyFile.subarray(0, 64)).toString('latin1'));

/**
 * A signer from a secret key file: OpenPGP, or PEM.
 * @param subject what the key is, for messages
 * @throws SealiftError as {@link openOpenpgpSigner} and {@link openNativeSigner}
 */
export async function openSigner(keyFile: Uint8Array, passphrase: string, subject: string): Promise<Signer> {
  return isPrivatePem(keyFile)
    ? openNativeSigner(keyFile, passphrase, subject)
    : await openOpenpgpSigner(keyFile, passphrase, subject);
}
