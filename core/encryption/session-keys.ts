/** From the packets at the head of a message to the key that its body is encrypted with; all of it is the library's work. */
import type { Config, PrivateKey, PublicKey } from 'openpgp';
import { inert, SealiftError } from '../errors.ts';
import type { CipherAlgorithm } from '../pool/pool.ts';
import { loadOpenpgp } from '../trust/openpgp-packets.ts';
import type { HeldKey } from './held-keys.ts';
import { malformed } from './packets.ts';
import type { SessionKey } from './seal.ts';

/** Every key is tried for each who is hidden. */
const MOST_RECIPIENTS = 1000;

/** By the names of the library. Others are of 64 bit blocks, or rare. */
const CIPHERS: Readonly<Record<string, { readonly algorithm: CipherAlgorithm; readonly octets: number }>> = {
  aes128: { algorithm: 'aes-128-cfb', octets: 16 },
  aes192: { algorithm: 'aes-192-cfb', octets: 24 },
  aes256: { algorithm: 'aes-256-cfb', octets: 32 },
};

/** The id of a recipient whom a message does not name. */
export const isHidden = (id: string): boolean => /^0+$/.test(id);

/** What a message may be opened with. */
export interface DecryptionKeys {
  /** Unlocked. */
  readonly own: readonly PrivateKey[];
  /** Those that gpg holds. */
  readonly held: readonly HeldKey[];
}

/** A session key as this side uses it; undefined where it is of another cipher, or has not its length. */
export function cipherOf(name: string | undefined, key: Uint8Array): SessionKey | undefined {
  const cipher = CIPHERS[name ?? ''];
  return cipher?.octets === key.length ? { algorithm: cipher.algorithm, key } : undefined;
}

/**
 * Keys of the user that a message may be for.
 * @param wanted key ids the message names, lower-case hex; zeros where it hides one
 * @throws SealiftError `decryption-key-needed`, `decryption-failed` where there are too many
 */
export function keysFor(wanted: readonly string[], { own, held }: DecryptionKeys): DecryptionKeys {
  if (wanted.length > MOST_RECIPIENTS)
    throw malformed(`got ${wanted.length} recipients, want at most ${MOST_RECIPIENTS}`);
  // A message may hide for whom it is; then every key is tried.
  const hides = wanted.length === 0 || wanted.some(isHidden);
  const fitting: DecryptionKeys = {
    own: own.filter((key) => hides || key.getKeyIDs().some((id) => wanted.includes(id.toHex()))),
    held: held.filter(({ ids }) => hides || !ids || wanted.some((id) => ids.has(id))),
  };
  if (fitting.own.length === 0 && fitting.held.length === 0) throw forOthers(wanted, { own, held });
  return fitting;
}

function forOthers(wanted: readonly string[], { own, held }: DecryptionKeys): SealiftError {
  const ids = own.flatMap((key) => key.getKeyIDs().map((id) => id.toHex()));
  return new SealiftError('decryption-key-needed', 'the bundle is encrypted to other keys', {
    got: [...new Set([...ids, ...held.map(({ reference }) => inert(reference))])].join(', '),
    want: wanted.join(', '),
    hint: 'give the secret key of one of them with --decrypt-key; whose they are: gpg --list-keys KEY-ID',
  });
}

/**
 * Keys that `packets`, the session key packets of a message, hold for one of `keys`. Undefined where a key is of a cipher
 * that is not ours.
 * @param start the first bytes of the body
 * @throws SealiftError `decryption-key-needed`, `decryption-failed`, `passphrase-needed`
 */
export async function readSessionKeys(
  packets: Uint8Array,
  start: Uint8Array,
  keys: DecryptionKeys,
  now: Date,
): Promise<readonly SessionKey[] | undefined> {
  const { decryptSessionKeys, readMessage } = await loadOpenpgp();
  const message = await readMessage({ binaryMessage: packets }).catch(refuse);
  const wanted = message.getEncryptionKeyIDs().map((id) => id.toHex());
  const { own, held } = keysFor(wanted, keys);
  const session: SessionKey[] = [];
  if (own.length > 0) {
    // Where gpg may have the key, it is no failure yet that nobody else has.
    const orElse = held.length > 0 ? () => [] : refuse;
    for (const { data, algorithm } of await decryptSessionKeys({
      message,
      decryptionKeys: [...own],
      date: now,
    }).catch(orElse)) {
      if (CIPHERS[algorithm ?? ''] === undefined) return undefined;
      const key = cipherOf(algorithm ?? undefined, data);
      if (key) session.push(key);
    }
    if (session.length > 0 || held.length === 0) return session;
  }
  for (const key of held) {
    const found = await key.sessionKey(packets, start);
    if (found) return [found];
  }
  throw forOthers(wanted, keys);
}

/** A new key of a cipher that all recipients can read, and the packets that hold it for each. */
export async function makeSessionKey(
  keys: readonly PublicKey[],
  now: Date,
  config: Partial<Config>,
): Promise<{ readonly session: SessionKey; readonly packets: Uint8Array }> {
  const { encryptSessionKey, enums, generateSessionKey } = await loadOpenpgp();
  const options = {
    encryptionKeys: [...keys],
    date: now,
    config: { ...config, preferredSymmetricAlgorithm: enums.symmetric.aes256 },
  };
  const { data, algorithm } = await generateSessionKey(options);
  const session = cipherOf(algorithm, data);
  if (!session) throw new SealiftError('internal', `no cipher ${inert(algorithm)}`);
  return { session, packets: await encryptSessionKey({ ...options, data, algorithm, format: 'binary' }) };
}

function refuse(cause: unknown): never {
  throw malformed(inert((cause as Error).message), cause);
}
