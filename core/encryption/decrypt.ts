/** The other side of encryption: from one OpenPGP message back to the bytes of a bundle, which nobody vouches for. */
import type { PrivateKey } from 'openpgp';
import { inert, isSealiftError, SealiftError } from '../errors.ts';
import { loadOpenpgp } from '../trust/openpgp-packets.ts';
import type { PassphraseProvider } from '../workflow-options.ts';
import { webStream } from './encrypt.ts';

/** Bytes that may go in before any come out: a few pieces as large as the format allows, and packets nobody asked for. */
const MOST_AHEAD = 64 * 1024 * 1024;

/** Every key is tried for each who is hidden. */
const MOST_RECIPIENTS = 1000;

/**
 * A secret key to decrypt with, armored or binary, unlocked.
 * @throws SealiftError `invalid-argument`, `passphrase-needed`
 */
export async function openDecryptionKey(
  file: { readonly path: string; readonly bytes: Uint8Array },
  passphrase: PassphraseProvider,
): Promise<PrivateKey> {
  const { readPrivateKey, decryptKey } = await loadOpenpgp();
  const subject = inert(file.path, 4096);
  const text = Buffer.from(file.bytes).toString('latin1');
  const locked = await (text.includes('-----BEGIN PGP')
    ? readPrivateKey({ armoredKey: text })
    : readPrivateKey({ binaryKey: file.bytes })
  ).catch((cause: unknown) => {
    throw new SealiftError('invalid-argument', 'not an OpenPGP secret key', {
      subject,
      hint: 'write one with: gpg --export-secret-keys --armor FINGERPRINT, or let gpg decrypt: gpg --decrypt BUNDLE | sealift import -',
      cause,
    });
  });
  if (locked.isDecrypted()) return locked;
  const answer = await passphrase(`the key that decrypts, ${subject}`);
  if (answer === undefined) {
    throw new SealiftError('passphrase-needed', 'the key that decrypts has a passphrase', {
      subject,
      hint: 'give it with --passphrase-file, or let gpg decrypt: gpg --decrypt BUNDLE | sealift import -',
    });
  }
  return decryptKey({ privateKey: locked, passphrase: answer }).catch((cause: unknown) => {
    throw new SealiftError('passphrase-needed', 'the passphrase does not open the key', { subject, cause });
  });
}

/**
 * The content of a message. Bytes come before the integrity check at the end of it has passed: whoever takes them commits
 * nothing before the iteration has ended well.
 * @throws SealiftError `decryption-key-needed` where the message is for others, `decryption-failed` where it is none, was
 *   changed, ends early, or is compressed; also from the iteration
 */
export async function* decryptStream(
  content: AsyncIterable<Uint8Array>,
  keys: readonly PrivateKey[],
  now: Date,
): AsyncGenerator<Uint8Array> {
  const { decrypt, readMessage } = await loadOpenpgp();
  let sourceFailure: unknown;
  /** What went in since the last piece came out; undefined while nobody waits for one. */
  let ahead: number | undefined = 0;
  async function* watched(): AsyncGenerator<Uint8Array> {
    try {
      for await (const piece of content) {
        if (ahead !== undefined) ahead += piece.length;
        // The library holds every packet but the content itself in memory, and a piece of that until it is authentic.
        if (ahead !== undefined && ahead > MOST_AHEAD)
          throw failed(`got ${ahead} bytes of packets that are no content, want at most ${MOST_AHEAD}`);
        // Given away as it is: the library keeps no reference once it has read a piece.
        yield piece;
      }
    } catch (error) {
      sourceFailure = error;
      throw error;
    }
  }
  try {
    const message = await readMessage({ binaryMessage: webStream(watched()) });
    const wanted = message.getEncryptionKeyIDs().map((id) => id.toHex());
    if (wanted.length > MOST_RECIPIENTS)
      throw failed(`got ${wanted.length} recipients, want at most ${MOST_RECIPIENTS}`);
    const own = new Set(keys.flatMap((key) => key.getKeyIDs().map((id) => id.toHex())));
    // A message may hide for whom it is; then every key is tried.
    if (wanted.length > 0 && !wanted.some((id) => own.has(id) || /^0+$/.test(id))) {
      throw new SealiftError('decryption-key-needed', 'the bundle is encrypted to other keys', {
        got: [...own].join(', '),
        want: wanted.join(', '),
        hint: 'give the secret key of one of them with --decrypt-key',
      });
    }
    // The library's own decrypt(): only there does the end of the data wait for the integrity check.
    const { data } = await decrypt({
      message,
      decryptionKeys: [...keys],
      format: 'binary',
      date: now,
      config: {
        allowUnauthenticatedStream: true,
        // Without an integrity check there is nothing to wait for at the end.
        allowUnauthenticatedMessages: false,
        // Nothing compressed: a bundle is not, and what unpacks has no end.
        maxDecompressedMessageSize: 0,
      },
    });
    for await (const piece of data as unknown as AsyncIterable<Uint8Array>) {
      ahead = undefined;
      yield piece;
      ahead = 0;
    }
  } catch (error) {
    if (sourceFailure !== undefined) throw sourceFailure;
    if (isSealiftError(error)) throw error;
    throw failed(inert((error as Error).message), error);
  }
}

function failed(why: string, cause?: unknown): SealiftError {
  return new SealiftError('decryption-failed', `the bundle does not decrypt: ${why}`, {
    hint: 'the medium is damaged or the file was changed: copy it again, or ask for it again; encrypted by hand, it must not be compressed: gpg --encrypt -z 0',
    cause,
  });
}
