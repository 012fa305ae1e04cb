/**
 * Bundles for the eyes of a few: one OpenPGP message of one literal packet, AES in CFB with the integrity check of
 * RFC 4880 (section 5.13), not compressed. Stock gpg 2.2 decrypts it. It keeps a secret and proves nothing: whoever has
 * the certificate can make one, so what comes out is a stranger's bundle.
 */
import type { PublicKey } from 'openpgp';
import type { Context } from '../context.ts';
import { inert, SealiftError } from '../errors.ts';
import { loadOpenpgp } from '../trust/openpgp-packets.ts';
import { sealContent } from './seal.ts';
import { makeSessionKey } from './session-keys.ts';

export interface CertificateFile {
  /** For messages. */
  readonly path: string;
  readonly bytes: Uint8Array;
}

export interface Recipients {
  readonly keys: readonly PublicKey[];
  /** Fingerprints of the primary keys, lower-case hex. */
  readonly fingerprints: readonly string[];
}

const CONFIG = {
  // RFC 4880, section 5.13: the form every gpg reads. The newer ones gpg 2.2 does not.
  aeadProtect: false,
  // As in rejected keys elsewhere: 2047 bits and more.
  minRSABits: 2047,
} as const;

/**
 * Certificates to encrypt to, armored or binary, several in a file or one.
 * @throws SealiftError `invalid-argument` where a file holds no certificate, `key-expired` where one has no key to
 *   encrypt to at `now` (expired, or made for signing only), `key-revoked`
 */
export async function readRecipients(files: readonly CertificateFile[], now: Date): Promise<Recipients> {
  const { readKeys, config } = await loadOpenpgp();
  const keys = new Map<string, PublicKey>();
  for (const { path, bytes } of files) {
    const subject = inert(path, 4096);
    const text = Buffer.from(bytes).toString('latin1');
    const found = await (text.includes('-----BEGIN PGP')
      ? readKeys({ armoredKeys: text })
      : readKeys({ binaryKeys: bytes })
    ).catch((cause: unknown) => {
      throw new SealiftError('invalid-argument', 'not an OpenPGP certificate', {
        subject,
        hint: 'write one with: gpg --export --armor FINGERPRINT > recipient.asc',
        cause,
      });
    });
    for (const key of found) {
      const fingerprint = key.getFingerprint();
      await key
        .getEncryptionKey(undefined, now, undefined, { ...config, ...CONFIG })
        .catch(async (cause: Error) => {
          throw await unusable(key, `${subject}: ${fingerprint}`, now, cause);
        });
      keys.set(fingerprint, key.toPublic());
    }
  }
  if (keys.size === 0)
    throw new SealiftError('invalid-argument', 'nobody to encrypt to', { subject: '--encrypt-to' });
  return { keys: [...keys.values()], fingerprints: [...keys.keys()] };
}

/** Why nothing can be encrypted to a certificate. */
async function unusable(key: PublicKey, subject: string, now: Date, cause: Error): Promise<SealiftError> {
  const hint = 'ask the recipient for a certificate that is valid and has an encryption subkey';
  const primary = await key.verifyPrimaryKey(now).then(
    () => '',
    (error: Error) => error.message,
  );
  if (/revoked/i.test(primary))
    return new SealiftError('key-revoked', 'the certificate has been revoked', { subject, hint, cause });
  if (/expired/i.test(primary)) {
    const ended = await key.getExpirationTime().catch(() => null);
    return new SealiftError('key-expired', 'the certificate has expired', {
      subject,
      hint,
      cause,
      ...(ended instanceof Date ? { got: ended.toISOString() } : {}),
    });
  }
  const why = primary === '' ? '' : `: ${inert(primary)}`;
  return new SealiftError(
    'key-expired',
    `the certificate has no key to encrypt to: it is made for signing only, or that key has expired or been revoked${why}`,
    { subject, hint, cause },
  );
}

/** `content` as one message; flat memory, ends with the error of `content` where that fails. Pieces belong to the taker. */
export async function* encryptStream(
  content: AsyncIterable<Uint8Array>,
  recipients: Recipients,
  { now, pool }: Pick<Context, 'now' | 'pool'>,
): AsyncGenerator<Uint8Array> {
  const { session, packets } = await makeSessionKey(recipients.keys, now, CONFIG);
  yield packets;
  yield* sealContent(content, session, now, pool);
}
