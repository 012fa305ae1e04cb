/**
 * The body of a message: a packet that protects its integrity (RFC 4880, section 5.13), in it one literal packet and the
 * SHA-1 of everything. The cipher works on a thread of the pool, block by block, while this one hashes what comes next.
 */
import { createHash, randomFillSync } from 'node:crypto';
import { CIPHER_BLOCK, type CipherAlgorithm, type WorkerPool } from '../pool/pool.ts';
import { encodeLength, encodePartLength, TAG } from './packets.ts';

export interface SessionKey {
  readonly algorithm: CipherAlgorithm;
  readonly key: Uint8Array;
}

/** Parts of both packets: CIPHER_BLOCK bytes. */
const PART_EXPONENT = 20;
const PART: number = 2 ** PART_EXPONENT;
/** Blocks on their way through the cipher. */
const MOST_BLOCKS = 4;

/** Random, and the end of it again: whoever has another key sees it at once. */
const RANDOM_OCTETS = 16;
/** A packet of type 19 and 20 bytes. */
const MDC_HEADER: Uint8Array = Uint8Array.of(0xd3, 0x14);

/** The packet, piece by piece; each piece belongs to whoever takes it. */
export async function* sealContent(
  content: AsyncIterable<Uint8Array>,
  session: SessionKey,
  now: Date,
  pool: WorkerPool,
): AsyncGenerator<Uint8Array> {
  const cipher = pool.cipher({ ...session, direction: 'encrypt' });
  const hash = createHash('sha1');
  const sealed: Promise<Uint8Array>[] = [];
  const spare = Array.from({ length: MOST_BLOCKS + 2 }, () => sharedBlock());
  let first = true;
  let block = spare.pop() ?? sharedBlock();
  let filled = 0;
  /** The octet for the version of the packet is not encrypted, but counts. */
  const room = () => (first ? PART - 1 : PART);

  function send(): void {
    const full = block;
    const done = cipher.update(full.subarray(0, filled)).then((bytes) => {
      spare.push(full);
      return bytes;
    });
    // Told to whoever takes it.
    done.catch(() => undefined);
    sealed.push(done);
    first = false;
    block = spare.pop() ?? sharedBlock();
    filled = 0;
  }

  /** Copies into the blocks, and sends those that are full once more follows. */
  function put(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      if (filled === room()) send();
      const length = Math.min(bytes.length - at, room() - filled);
      block.set(bytes.subarray(at, at + length), filled);
      filled += length;
      at += length;
    }
  }

  function add(bytes: Uint8Array): void {
    hash.update(bytes);
    put(bytes);
  }

  let begun = false;
  function* framed(bytes: Uint8Array, length: Uint8Array): Generator<Uint8Array> {
    if (begun) yield length;
    else yield Uint8Array.of(0xc0 | TAG.integrityProtected, ...length, 1);
    begun = true;
    yield bytes;
  }

  try {
    const prefix = new Uint8Array(RANDOM_OCTETS + 2);
    randomFillSync(prefix, 0, RANDOM_OCTETS);
    prefix.copyWithin(RANDOM_OCTETS, RANDOM_OCTETS - 2, RANDOM_OCTETS);
    add(prefix);
    add(Uint8Array.of(0xc0 | TAG.literal));
    for await (const [part, isLast] of inParts(literalBody(content, now))) {
      add(isLast ? encodeLength(part.length) : encodePartLength(PART_EXPONENT));
      add(part);
      while (sealed.length > MOST_BLOCKS)
        yield* framed((await sealed.shift()) ?? new Uint8Array(), encodePartLength(PART_EXPONENT));
    }
    hash.update(MDC_HEADER);
    put(MDC_HEADER);
    put(hash.digest());
    const octets = filled + (first ? 1 : 0);
    send();
    while (sealed.length > 0) {
      const length = sealed.length === 1 ? encodeLength(octets) : encodePartLength(PART_EXPONENT);
      yield* framed((await sealed.shift()) ?? new Uint8Array(), length);
    }
  } finally {
    cipher.close();
  }
}

/** Binary, no name, and when it was made (section 5.9). */
async function* literalBody(content: AsyncIterable<Uint8Array>, now: Date): AsyncGenerator<Uint8Array> {
  const header = Buffer.alloc(6);
  header.write('b');
  header.writeUInt32BE(Math.floor(now.getTime() / 1000), 2);
  yield header;
  yield* content;
}

/** As parts of one size; the last is shorter, or of no bytes, or whole. The memory of a part is used again for the next. */
async function* inParts(
  content: AsyncIterable<Uint8Array>,
): AsyncGenerator<readonly [part: Uint8Array, isLast: boolean]> {
  const part = new Uint8Array(PART);
  let filled = 0;
  for await (const piece of content) {
    for (let at = 0; at < piece.length; ) {
      if (filled === PART) {
        yield [part, false];
        filled = 0;
      }
      const length = Math.min(piece.length - at, PART - filled);
      part.set(piece.subarray(at, at + length), filled);
      filled += length;
      at += length;
    }
  }
  yield [part.subarray(0, filled), true];
}

/** Memory that both threads see. */
export function sharedBlock(): Uint8Array<SharedArrayBuffer> {
  return new Uint8Array(new SharedArrayBuffer(CIPHER_BLOCK));
}
