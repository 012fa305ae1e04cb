/** The other side of encryption: from one OpenPGP message back to the bytes of a bundle, which nobody vouches for. */
import type { PrivateKey } from 'openpgp';
import type { Context } from '../context.ts';
import { inert, SealiftError } from '../errors.ts';
import { framePacket, loadOpenpgp } from '../trust/openpgp-packets.ts';
import type { PassphraseProvider } from '../workflow-options.ts';
import { decryptOtherForm } from './other-forms.ts';
import { createPacketReader, malformed, type PacketPart, TAG } from './packets.ts';
import { type DecryptionKeys, readSessionKeys } from './session-keys.ts';
import { fittingKeys, openContent } from './unseal.ts';

/** Bytes of packets before the content. */
const MOST_HEAD = 4 * 1024 * 1024;

const IN_HEAD: ReadonlySet<number> = new Set([
  TAG.publicKeySessionKey,
  TAG.passwordSessionKey,
  TAG.marker,
  TAG.padding,
]);

/** The version, and random bytes that tell whether a session key fits. */
const BODY_START = 1 + 18;

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
      hint: 'write one with: gpg --export-secret-keys --armor FINGERPRINT; or leave it with gpg: --decrypt-key gpg:FINGERPRINT',
      cause,
    });
  });
  if (locked.isDecrypted()) return locked;
  const answer = await passphrase(`the key that decrypts, ${subject}`);
  if (answer === undefined) {
    throw new SealiftError('passphrase-needed', 'the key that decrypts has a passphrase', {
      subject,
      hint: 'give it with --passphrase-file; or leave the key with gpg, which asks: --decrypt-key gpg:FINGERPRINT',
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
 *   changed, ends early, is compressed, or is followed by something; also from the iteration
 */
export async function* decryptStream(
  content: AsyncIterable<Uint8Array>,
  keys: DecryptionKeys,
  { now, pool }: Pick<Context, 'now' | 'pool'>,
): AsyncGenerator<Uint8Array> {
  const input = content[Symbol.asyncIterator]();
  /** What was read of the head, for the library to read again; undefined behind it. */
  let head: Uint8Array[] | undefined = [];
  async function* recorded(): AsyncGenerator<Uint8Array> {
    let begun = false;
    for (let next = await input.next(); next.done !== true; next = await input.next()) {
      if (!begun && next.value.length > 0) assertMessage(next.value);
      begun ||= next.value.length > 0;
      head?.push(next.value);
      yield next.value;
    }
  }
  const parts = packetParts(recorded());
  try {
    const packets = await readHead(parts);
    const body = packets && (await startBody(parts));
    const session =
      body && (await readSessionKeys(packets, body.start.subarray(0, BODY_START - 1), keys, now));
    if (!session) {
      const again = head;
      head = undefined;
      yield* decryptOtherForm(chain(again, input), keys, now);
      return;
    }
    head = undefined;
    const [key] = await fittingKeys(body.start, session, pool);
    if (!key) throw malformed('its session key is of another message');
    yield* openContent(body.rest, key, pool);
    // One message, and nothing behind it.
    for (let next = await parts.next(); next.done !== true; next = await parts.next()) {
      if (next.value.type === 'start') throw malformed('something follows the message');
    }
  } finally {
    await input.return?.();
  }
}

/** @throws SealiftError `decryption-failed` where the first bytes are those of something else */
function assertMessage(start: Uint8Array): void {
  if (((start[0] ?? 0) & 0x80) !== 0) return;
  const isArmored = Buffer.from(start.subarray(0, 10)).toString('latin1') === '-----BEGIN';
  throw new SealiftError(
    'decryption-failed',
    isArmored ? 'the bundle is armored: it is text' : 'the bundle is no OpenPGP message',
    {
      want: 'a binary OpenPGP message',
      hint: isArmored
        ? 'take the armor off: gpg --dearmor FILE; it makes a bundle a third larger and nothing safer'
        : 'where it is not encrypted, leave --decrypt-key out',
    },
  );
}

type Parts = AsyncGenerator<PacketPart, void, void>;

async function* packetParts(content: AsyncIterable<Uint8Array>): Parts {
  const reader = createPacketReader();
  for await (const piece of content) yield* reader.read(piece);
  yield* reader.finish();
}

/** The session key packets of a message; undefined where it begins with something else, or is of another form. */
async function readHead(parts: Parts): Promise<Uint8Array | undefined> {
  const packets: Uint8Array[] = [];
  let byPassword = false;
  let tag = 0;
  let bytes = 0;
  let body: Uint8Array[] = [];
  for (;;) {
    const { done, value: part } = await parts.next();
    if (done === true) return undefined;
    if (part.type === 'start') {
      if (packets.length === 0 && byPassword && !IN_HEAD.has(part.tag)) {
        throw new SealiftError(
          'decryption-failed',
          'the bundle is encrypted with a passphrase and to no key',
          {
            hint: 'let gpg decrypt: gpg --decrypt BUNDLE | sealift import -',
          },
        );
      }
      if (part.tag === TAG.integrityProtected) return packets.length > 0 ? Buffer.concat(packets) : undefined;
      byPassword ||= part.tag === TAG.passwordSessionKey;
      if (!IN_HEAD.has(part.tag)) return undefined;
      tag = part.tag;
      body = [];
    } else if (part.type === 'body') {
      bytes += part.bytes.length;
      if (bytes > MOST_HEAD) return undefined;
      body.push(part.bytes);
    } else if (tag === TAG.publicKeySessionKey) packets.push(framePacket(tag, Buffer.concat(body)));
  }
}

/** The body from behind its version on, with what it begins with at hand; undefined where it is of another version. */
async function startBody(
  parts: Parts,
): Promise<{ readonly start: Uint8Array; readonly rest: AsyncIterable<Uint8Array> } | undefined> {
  let start = Buffer.alloc(0);
  let ended = false;
  while (!ended && start.length < BODY_START) {
    const { done, value: part } = await parts.next();
    if (done === true || part.type !== 'body') ended = true;
    else start = Buffer.concat([start, part.bytes]);
  }
  if (start[0] !== 1) return undefined;
  async function* rest(): AsyncGenerator<Uint8Array> {
    yield start.subarray(1);
    while (!ended) {
      const { done, value: part } = await parts.next();
      if (done === true || part.type !== 'body') ended = true;
      else yield part.bytes;
    }
  }
  return { start: start.subarray(1), rest: rest() };
}

async function* chain(
  first: readonly Uint8Array[],
  rest: AsyncIterator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  yield* first;
  for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value;
}
