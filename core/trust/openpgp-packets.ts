/**
 * The framing of OpenPGP packets (RFC 4880 sections 4.2 and 5.2.3), read strictly and before the library sees
 * them: openpgp.js skips packets it does not know, lets subpackets run over the end of their area, and lets
 * unhashed subpackets speak for hashed ones. No cryptography here.
 */
import { createPublicKey, type KeyObject } from 'node:crypto';
import { SealiftError } from '../errors.ts';

/** Loads the library on first use; it is large, and most commands need none of it. */
export const loadOpenpgp = () => import('openpgp');

export const PACKET = {
  signature: 2,
  secretKey: 5,
  publicKey: 6,
  secretSubkey: 7,
  trust: 12,
  userId: 13,
  publicSubkey: 14,
  userAttribute: 17,
} as const;

export const SUBPACKET = {
  created: 2,
  expires: 3,
  keyExpires: 9,
  issuerKeyId: 16,
  notation: 20,
  signersUserId: 28,
  embeddedSignature: 32,
  issuerFingerprint: 33,
} as const;

export interface Packet {
  readonly tag: number;
  readonly body: Uint8Array;
}

function malformed(message: string): SealiftError {
  return new SealiftError('signature-invalid', `OpenPGP data: ${message}`);
}

/**
 * Splits `bytes` into packets, old or new header; all bytes belong to one. Lengths are definite, unless `partial` allows
 * partial ones (RFC 4880 section 4.2.2.4) and, of the last packet, an indeterminate one (4.2.1), as messages have them.
 * @throws SealiftError `signature-invalid`
 */
export function splitPackets(
  bytes: Uint8Array,
  { partial = false }: { readonly partial?: boolean } = {},
): readonly Packet[] {
  const packets: Packet[] = [];
  let at = 0;
  const octet = (): number => {
    const value = bytes[at];
    if (value === undefined) throw malformed('a packet header is cut off');
    at += 1;
    return value;
  };
  const number = (octets: number): number => {
    let value = 0;
    for (let i = 0; i < octets; i += 1) value = value * 256 + octet();
    return value;
  };
  const take = (length: number): Uint8Array => {
    if (length > bytes.length - at) throw malformed('a packet is cut off');
    at += length;
    return bytes.subarray(at - length, at);
  };
  const bodyOfNewFormat = (): Uint8Array => {
    const parts: Uint8Array[] = [];
    for (;;) {
      const l = octet();
      if (l < 224 || l === 255) {
        parts.push(take(l < 192 ? l : l < 224 ? (l - 192) * 256 + octet() + 192 : number(4)));
        return parts.length === 1 ? (parts[0] ?? new Uint8Array()) : Buffer.concat(parts);
      }
      if (!partial) throw malformed('a packet of partial lengths is not taken');
      parts.push(take(2 ** (l & 0x1f)));
    }
  };
  while (at < bytes.length) {
    const first = octet();
    if ((first & 0x80) === 0) throw malformed(`no packet begins with octet ${first}`);
    if ((first & 0x40) !== 0) {
      packets.push({ tag: first & 0x3f, body: bodyOfNewFormat() });
      continue;
    }
    const type = first & 0x03;
    if (type === 3 && !partial) throw malformed('a packet of indeterminate length is not taken');
    const length = type === 3 ? bytes.length - at : number(1 << type);
    packets.push({ tag: (first & 0x3c) >> 2, body: take(length) });
  }
  return packets;
}

/** A packet with a header of the new format, in its shortest form. */
export function framePacket(tag: number, body: Uint8Array): Buffer {
  const { length } = body;
  let header: number[];
  if (length < 192) header = [length];
  else if (length < 8384) header = [((length - 192) >> 8) + 192, (length - 192) & 0xff];
  else header = [255, length >>> 24, (length >>> 16) & 0xff, (length >>> 8) & 0xff, length & 0xff];
  return Buffer.concat([Buffer.from([0xc0 | tag, ...header]), body]);
}

export interface Subpacket {
  readonly type: number;
  readonly critical: boolean;
  readonly body: Uint8Array;
}

export interface SignatureBody {
  readonly version: number;
  readonly type: number;
  readonly publicKeyAlgorithm: number;
  readonly hashAlgorithm: number;
  readonly hashed: readonly Subpacket[];
  readonly unhashed: readonly Subpacket[];
  /** The body with an empty unhashed area: nothing that is not signed can speak any more. */
  readonly withoutUnhashed: Uint8Array;
}

function readSubpackets(area: Uint8Array): readonly Subpacket[] {
  const found: Subpacket[] = [];
  let at = 0;
  const octet = (): number => {
    const value = area[at];
    if (value === undefined) throw malformed('a subpacket is cut off');
    at += 1;
    return value;
  };
  while (at < area.length) {
    const l = octet();
    let length = l;
    if (l >= 192 && l < 255) length = (l - 192) * 256 + octet() + 192;
    else if (l === 255) length = ((octet() * 256 + octet()) * 256 + octet()) * 256 + octet();
    if (length < 1 || length > area.length - at) throw malformed('a subpacket has a wrong length');
    const head = octet();
    found.push({
      type: head & 0x7f,
      critical: (head & 0x80) !== 0,
      body: area.subarray(at, at + length - 1),
    });
    at += length - 1;
  }
  return found;
}

/**
 * Reads the body of a signature packet up to its signature values.
 * @throws SealiftError `signature-invalid`; versions other than 4 included
 */
export function readSignatureBody(body: Uint8Array): SignatureBody {
  const [version, type, publicKeyAlgorithm, hashAlgorithm] = body;
  if (version !== 4) throw malformed(`got a signature of version ${version ?? 'none'}, want 4`);
  if (
    type === undefined ||
    publicKeyAlgorithm === undefined ||
    hashAlgorithm === undefined ||
    body.length < 10
  ) {
    throw malformed('a signature is cut off');
  }
  const view = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  const hashedEnd = 6 + view.readUInt16BE(4);
  if (hashedEnd + 2 > view.length) throw malformed('the hashed area is cut off');
  const unhashedEnd = hashedEnd + 2 + view.readUInt16BE(hashedEnd);
  if (unhashedEnd + 2 > view.length) throw malformed('the unhashed area is cut off');
  return {
    version,
    type,
    publicKeyAlgorithm,
    hashAlgorithm,
    hashed: readSubpackets(view.subarray(6, hashedEnd)),
    unhashed: readSubpackets(view.subarray(hashedEnd + 2, unhashedEnd)),
    withoutUnhashed: Buffer.concat([
      view.subarray(0, hashedEnd),
      Buffer.from([0, 0]),
      view.subarray(unhashedEnd),
    ]),
  };
}

/** Public-key algorithms that can sign here (RFC 4880 section 9.1). */
export const SIGNING_ALGORITHMS: ReadonlyMap<number, string> = new Map([
  [1, 'RSA'],
  [3, 'RSA'],
  [19, 'ECDSA'],
  [22, 'EdDSA'],
]);

const CURVES: ReadonlyMap<string, { readonly crv: string; readonly size: number }> = new Map([
  ['2a8648ce3d030107', { crv: 'P-256', size: 32 }],
  ['2b81040022', { crv: 'P-384', size: 48 }],
  ['2b81040023', { crv: 'P-521', size: 66 }],
]);
const ED25519_LEGACY = '2b06010401da470f01';

/**
 * The public key in the body of a v4 key packet, as a key object: for its size, and to tell equal material.
 * Undefined for algorithms that cannot sign here.
 * @throws SealiftError `signature-invalid` where the packet is malformed
 */
export function keyPacketMaterial(body: Uint8Array): KeyObject | undefined {
  const view = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  const algorithm = view[5];
  if (view[0] !== 4 || algorithm === undefined)
    throw malformed(`got a key packet of version ${view[0] ?? 'none'}, want 4`);
  let at = 6;
  const take = (length: number): Buffer => {
    if (length > view.length - at) throw malformed('a key packet is cut off');
    at += length;
    return view.subarray(at - length, at);
  };
  const mpi = (): Buffer => {
    const bits = take(2).readUInt16BE();
    const bytes = take((bits + 7) >> 3);
    if (bits === 0 || Math.clz32(bytes[0] ?? 0) - 24 !== (8 - (bits % 8)) % 8)
      throw malformed('a number of a key has a wrong length');
    return bytes;
  };
  try {
    let key: KeyObject | undefined;
    if (algorithm === 1 || algorithm === 3) {
      const n = mpi().toString('base64url');
      key = createPublicKey({ key: { kty: 'RSA', n, e: mpi().toString('base64url') }, format: 'jwk' });
    } else if (algorithm === 19) {
      const curve = CURVES.get(take(take(1).readUInt8()).toString('hex'));
      if (!curve) return undefined;
      const point = mpi();
      if (point[0] !== 4 || point.length !== 1 + 2 * curve.size)
        throw malformed('a point of a key is not uncompressed');
      const x = point.subarray(1, 1 + curve.size).toString('base64url');
      const y = point.subarray(1 + curve.size).toString('base64url');
      key = createPublicKey({ key: { kty: 'EC', crv: curve.crv, x, y }, format: 'jwk' });
    } else if (algorithm === 22) {
      if (take(take(1).readUInt8()).toString('hex') !== ED25519_LEGACY) return undefined;
      const point = mpi();
      if (point[0] !== 0x40 || point.length !== 33) throw malformed('a point of a key is not a native one');
      key = createPublicKey({
        key: { kty: 'OKP', crv: 'Ed25519', x: point.subarray(1).toString('base64url') },
        format: 'jwk',
      });
    } else {
      return undefined;
    }
    if (at !== view.length) throw malformed('there is data behind a key');
    return key;
  } catch (error) {
    if (error instanceof SealiftError) throw error;
    throw malformed('the numbers of a key are not a key');
  }
}
