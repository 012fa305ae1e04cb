/**
 * The other side of a message's body: decrypts a packet that protects its integrity (RFC 4880, section 5.13) and takes
 * the literal packet out. In CFB each block needs only the ciphertext before it, so that all threads of the pool share
 * the work; this one hashes what comes out.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { CIPHER_BLOCK, type WorkerPool } from '../pool/pool.ts';
import { createPacketReader, malformed, TAG } from './packets.ts';
import { type SessionKey, sharedBlock } from './seal.ts';

const CIPHER_BYTES = 16;
/** Random, and the end of it again. */
const PREFIX = CIPHER_BYTES + 2;
/** The packet at the end: its header, and the SHA-1 of everything before that. */
const MDC_HEADER: Buffer = Buffer.of(0xd3, 0x14);
const MDC = 22;

const MOST_LANES = 4;
const BLOCKS_PER_LANE = 2;

/** Signatures inside, which are not looked at: the bundle has its own. */
const MOST_SIGNATURES = 64 * 1024;
/** Format, the length of a name and the name, a date (section 5.9). */
const MOST_LITERAL_HEADER = 2 + 255 + 4;

/** Of several keys those that `start`, the first bytes of the body, was encrypted with, as far as that can be told. */
export async function fittingKeys(
  start: Uint8Array,
  keys: readonly SessionKey[],
  pool: WorkerPool,
): Promise<readonly SessionKey[]> {
  const fitting: SessionKey[] = [];
  for (const session of keys) {
    const cipher = pool.cipher({ ...session, direction: 'decrypt' });
    const prefix = await cipher.update(start.subarray(0, PREFIX));
    cipher.close();
    const [a, b, c, d] = prefix.subarray(CIPHER_BYTES - 2);
    if (d !== undefined && a === c && b === d) fitting.push(session);
  }
  return fitting;
}

/**
 * The content of the literal packet in `body`, which is what the packet holds behind the octet of its version. It comes
 * before the integrity check, which the iteration ends with.
 * @throws SealiftError `decryption-failed` where the check fails, or something else than one literal packet is in it
 */
export async function* openContent(
  body: AsyncIterable<Uint8Array>,
  session: SessionKey,
  pool: WorkerPool,
): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha1');
  const literal = createLiteralReader();
  let toSkip = PREFIX;
  let held: Uint8Array | undefined;
  const take = (plain: Uint8Array): Uint8Array => {
    hash.update(plain);
    const skipped = Math.min(toSkip, plain.length);
    toSkip -= skipped;
    return literal.read(plain.subarray(skipped));
  };
  for await (const plain of decipher(body, session, pool)) {
    if (held !== undefined && plain.length < MDC) {
      held = Buffer.concat([held, plain]);
      continue;
    }
    if (held !== undefined) {
      const content = take(held);
      if (content.length > 0) yield content;
    }
    held = plain;
  }
  if (held === undefined || held.length < MDC) throw noCheck();
  const end = held.subarray(held.length - MDC);
  const content = take(held.subarray(0, held.length - MDC));
  hash.update(MDC_HEADER);
  // Nothing of the last block before its check, and no word about what is in it either.
  if (toSkip > 0 || !MDC_HEADER.equals(end.subarray(0, MDC_HEADER.length))) throw noCheck();
  if (!timingSafeEqual(hash.digest(), end.subarray(MDC_HEADER.length)))
    throw malformed('its integrity check failed: it was changed');
  literal.finish();
  if (content.length > 0) yield content;
}

function noCheck() {
  return malformed('it has no integrity check where its end is');
}

/** Blocks in the clear, in order; all but the last of CIPHER_BLOCK bytes. */
async function* decipher(
  body: AsyncIterable<Uint8Array>,
  session: SessionKey,
  pool: WorkerPool,
): AsyncGenerator<Uint8Array> {
  const lanes = Array.from({ length: Math.min(MOST_LANES, Math.max(1, pool.size)) }, () =>
    pool.cipher({ ...session, direction: 'decrypt' }),
  );
  const most = lanes.length * BLOCKS_PER_LANE;
  const spare: Uint8Array[] = [];
  const plain: Promise<Uint8Array>[] = [];
  let block: Uint8Array = sharedBlock();
  let filled = 0;
  let iv = new Uint8Array(CIPHER_BYTES);
  let sent = 0;

  function send(): void {
    const full = block;
    const done = lanes[sent % lanes.length]?.update(full.subarray(0, filled), iv).then((bytes) => {
      spare.push(full);
      return bytes;
    });
    if (!done) return;
    // Told to whoever takes it.
    done.catch(() => undefined);
    plain.push(done);
    iv = Uint8Array.from(full.subarray(filled - CIPHER_BYTES, filled));
    sent += 1;
    block = spare.pop() ?? sharedBlock();
    filled = 0;
  }

  try {
    for await (const bytes of body) {
      for (let at = 0; at < bytes.length; ) {
        const length = Math.min(bytes.length - at, CIPHER_BLOCK - filled);
        block.set(bytes.subarray(at, at + length), filled);
        filled += length;
        at += length;
        if (filled < CIPHER_BLOCK) continue;
        send();
        while (plain.length >= most) yield (await plain.shift()) ?? new Uint8Array();
      }
    }
    if (filled > 0) send();
    while (plain.length > 0) yield (await plain.shift()) ?? new Uint8Array();
  } finally {
    for (const lane of lanes) lane.close();
  }
}

interface LiteralReader {
  /** The content in a piece, moved together within it. */
  read(piece: Uint8Array): Uint8Array;
  /** Nothing follows. */
  finish(): void;
}

/** One literal packet, perhaps signed, and nothing else (section 11.3). */
function createLiteralReader(): LiteralReader {
  const packets = createPacketReader();
  let tag: number | undefined;
  let literals = 0;
  let around = 0;
  let header: number[] | undefined;

  function begin(found: number): void {
    tag = found;
    if (found === TAG.literal) {
      literals += 1;
      header = [];
      if (literals > 1) throw malformed('it holds more than one file');
      return;
    }
    if (found === TAG.compressed) throw malformed('it is compressed');
    if (!AROUND.has(found)) throw malformed(`it holds a packet of type ${found}`);
  }

  function end(): void {
    if (tag === TAG.literal && header !== undefined) throw malformed('it holds half a file');
    tag = undefined;
  }

  /** What of a literal packet is behind its header. */
  function behindHeader(bytes: Uint8Array): Uint8Array {
    if (header === undefined) return bytes;
    let at = 0;
    while (at < bytes.length && header.length < MOST_LITERAL_HEADER) {
      if (header.length >= 2 && header.length === 6 + (header[1] ?? 0)) break;
      header.push(bytes[at] ?? 0);
      at += 1;
    }
    if (header.length >= 2 && header.length === 6 + (header[1] ?? 0)) header = undefined;
    return bytes.subarray(at);
  }

  return {
    read(piece) {
      let length = 0;
      for (const part of packets.read(piece)) {
        if (part.type === 'start') begin(part.tag);
        else if (part.type === 'end') end();
        else if (tag === TAG.literal) {
          const content = behindHeader(part.bytes);
          const from = content.byteOffset - piece.byteOffset;
          if (from !== length) piece.copyWithin(length, from, from + content.length);
          length += content.length;
        } else {
          around += part.bytes.length;
          if (around > MOST_SIGNATURES) throw malformed('it holds signatures without end');
        }
      }
      return piece.subarray(0, length);
    },
    finish() {
      for (const part of packets.finish()) if (part.type === 'end') end();
      if (literals === 0) throw malformed('it holds no file');
    },
  };
}

const AROUND: ReadonlySet<number> = new Set([TAG.onePassSignature, TAG.signature, TAG.marker, TAG.padding]);
