/** From the packets at the head of a message to the key that its body is encrypted with; all of it is the library's work. */
import type { Config, PrivateKey, PublicKey } from 'openpgp';
import { inert, SealiftError } from '../errors.ts';
import type { CipherAlgorithm } from '../pool/pool.ts';
import { loadOpenpgp } from '../trust/openpgp-packets.ts';
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

/**
 * @param wanted key ids the message names, lower-case hex; zeros where it hides one
 * @throws SealiftError `decryption-key-needed`, `decryption-failed` where there are too many
 */
export function assertForKeys(wanted: readonly string[], keys: readonly PrivateKey[]): void {
  if (wanted.length > MOST_RECIPIENTS)
    throw malformed(`got ${wanted.length} recipients, want at most ${MOST_RECIPIENTS}`);
  const own = new Set(keys.flatMap((key) => key.getKeyIDs().map((id) => id.toHex())));
  // A message may hide for whom it is; then every key is tried.
  if (wanted.length === 0 || wanted.some((id) => own.has(id) || /^0+$/.test(id))) return;
  throw new SealiftError('decryption-key-needed', 'the bundle is encrypted to other keys', {
    got: [...own].join(', '),
    want: wanted.join(', '),
    hint: 'give the secret key of one of them with --decrypt-key',
  });
}

/**
 * Keys that `packets`, the session key packets of a message, hold for one of `keys`. Undefined where a key is of a cipher
 * that is not ours.
 * @throws SealiftError `decryption-key-needed`, `decryption-failed`
 */
export async function readSessionKeys(
  packets: Uint8Array,
  keys: readonly PrivateKey[],
  now: Date,
): Promise<readonly SessionKey[] | undefined> {
  const { decryptSessionKeys, readMessage } = await loadOpenpgp();
  const message = await readMessage({ binaryMessage: packets }).catch(refuse);
  assertForKeys(
    message.getEncryptionKeyIDs().map((id) => id.toHex()),
    keys,
  );
  const found = await decryptSessionKeys({ message, decryptionKeys: [...keys], date: now }).catch(refuse);
  const session: SessionKey[] = [];
  for (const { data, algorithm } of found) {
    const cipher = CIPHERS[algorithm ?? ''];
    if (!cipher) return undefined;
    if (data.length === cipher.octets) session.push({ algorithm: cipher.algorithm, key: data });
  }
  return session;
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
  const cipher = CIPHERS[algorithm];
  if (cipher === undefined) throw new SealiftError('internal', `no cipher ${inert(algorithm)}`);
  const packets = await encryptSessionKey({ ...options, data, algorithm, format: 'binary' });
  return { session: { algorithm: cipher.algorithm, key: data }, packets };
}

function refuse(cause: unknown): never {
  throw malformed(inert((cause as Error).message), cause);
}
