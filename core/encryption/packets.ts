/**
 * OpenPGP packets of any size (RFC 4880, section 4.2), read piece by piece: the headers are taken out, the content stays
 * where it is. Data from outside; no cryptography here.
 */
import { SealiftError } from '../errors.ts';

export const TAG = {
  publicKeySessionKey: 1,
  signature: 2,
  passwordSessionKey: 3,
  onePassSignature: 4,
  compressed: 8,
  encrypted: 9,
  marker: 10,
  literal: 11,
  integrityProtected: 18,
  padding: 21,
} as const;

export type PacketPart =
  | { readonly type: 'start'; readonly tag: number }
  | { readonly type: 'body'; readonly bytes: Uint8Array }
  | { readonly type: 'end' };

export interface PacketReader {
  /**
   * What a piece holds; parts of the body are views of it.
   * @throws SealiftError `decryption-failed`
   */
  read(piece: Uint8Array): Generator<PacketPart, void, void>;
  /**
   * Nothing follows. The end of the last packet, where only this tells it.
   * @throws SealiftError `decryption-failed` in the middle of a packet
   */
  finish(): Generator<PacketPart, void, void>;
}

const END: PacketPart = { type: 'end' };

/** Packets whose length need not be known before their end (sections 4.2.1 and 4.2.2.4). */
const STREAMED: ReadonlySet<number> = new Set([
  TAG.compressed,
  TAG.encrypted,
  TAG.literal,
  TAG.integrityProtected,
]);

export function malformed(why: string, cause?: unknown): SealiftError {
  return new SealiftError('decryption-failed', `the bundle does not decrypt: ${why}`, {
    hint: 'the medium is damaged or the file was changed: copy it again, or ask for it again; encrypted by hand, it must not be compressed: gpg --encrypt -z 0',
    cause,
  });
}

export function createPacketReader(): PacketReader {
  /** Octets of a header that is not whole. */
  let header: number[] = [];
  /** Of the packet that is open; undefined between packets. */
  let tag: number | undefined;
  /** Bytes of it, or of its part, that are to come. */
  let left = 0;
  /** Another length comes behind the part. */
  let more = false;
  /** How many octets the header takes that begins with `header`, as far as that can be told. */
  function wanted(): number {
    const [first = 0, length] = header;
    if (tag === undefined) {
      if ((first & 0x80) === 0) throw malformed(`no packet begins with octet ${first}`);
      if ((first & 0x40) === 0) return (first & 3) === 3 ? 1 : 1 + (1 << (first & 3));
      return length === undefined ? 2 : 1 + lengthOctets(length);
    }
    return lengthOctets(first);
  }

  function number(octets: readonly number[]): number {
    return octets.reduce((value, octet) => value * 256 + octet, 0);
  }

  /** Takes a header that is whole; true where it begins a packet. */
  function open(): boolean {
    const begins = tag === undefined;
    const [first = 0, ...rest] = header;
    const length = begins ? rest : header;
    header = [];
    if (begins) {
      const isNew = (first & 0x40) !== 0;
      tag = isNew ? first & 0x3f : (first & 0x3c) >> 2;
      if (!isNew) {
        more = false;
        left = (first & 3) === 3 ? Number.POSITIVE_INFINITY : number(length);
        if (left === Number.POSITIVE_INFINITY && !STREAMED.has(tag))
          throw malformed(`a packet of type ${tag} has no length`);
        return true;
      }
    }
    const [lead = 0, ...others] = length;
    more = lead >= 224 && lead < 255;
    if (more && (tag === undefined || !STREAMED.has(tag)))
      throw malformed(`a packet of type ${tag} comes in parts`);
    if (more) left = 2 ** (lead & 0x1f);
    else if (lead < 192) left = lead;
    else left = lead === 255 ? number(others) : (lead - 192) * 256 + number(others) + 192;
    return begins;
  }

  return {
    *read(piece) {
      let at = 0;
      while (at < piece.length || (tag !== undefined && left === 0 && !more)) {
        if (tag !== undefined && left === 0 && !more) {
          tag = undefined;
          yield END;
        } else if (tag !== undefined && left > 0) {
          const bytes = piece.subarray(at, Math.min(piece.length, at + left));
          at += bytes.length;
          left -= bytes.length;
          yield { type: 'body', bytes };
        } else {
          header.push(piece[at] ?? 0);
          at += 1;
          if (header.length >= wanted() && open()) yield { type: 'start', tag: tag ?? 0 };
        }
      }
    },
    *finish() {
      if (tag !== undefined && left === Number.POSITIVE_INFINITY) {
        tag = undefined;
        yield END;
      }
      if (tag !== undefined || header.length > 0) throw malformed('it ends in the middle of a packet');
    },
  };
}

/** Octets of a length of the new format that begins with this one. */
function lengthOctets(first: number): number {
  if (first === 255) return 5;
  return first >= 192 && first < 224 ? 2 : 1;
}

/** The length of a whole packet, or of its last part, in its shortest form. */
export function encodeLength(length: number): Uint8Array {
  if (length < 192) return Uint8Array.of(length);
  if (length < 8384) return Uint8Array.of(((length - 192) >> 8) + 192, (length - 192) & 0xff);
  return Uint8Array.of(255, length >>> 24, (length >>> 16) & 0xff, (length >>> 8) & 0xff, length & 0xff);
}

/** The length of a part that is not the last one: a power of two. */
export function encodePartLength(exponent: number): Uint8Array {
  return Uint8Array.of(224 + exponent);
}
