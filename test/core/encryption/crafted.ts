/** Messages made by hand, right or wrong in one place. */
import { createCipheriv, createHash } from 'node:crypto';
import { encryptSessionKey, generateKey, readKey } from 'openpgp';

/** Of every crafted message. */
export const SESSION_KEY: Buffer = Buffer.alloc(32, 7);
const PREFIX = Buffer.from('000102030405060708090a0b0c0d0e0f0e0f', 'hex');

export const MDC_HEADER: Buffer = Buffer.of(0xd3, 0x14);

/** A definite length, always of five octets. */
export function longLength(length: number): Buffer {
  const octets = Buffer.alloc(5, 255);
  octets.writeUInt32BE(length, 1);
  return octets;
}

export const packet = (tag: number, body: Uint8Array): Buffer =>
  Buffer.concat([Buffer.of(0xc0 | tag), longLength(body.length), body]);

/** The old form: a length of one, two or four octets, or (3) none. */
export function oldPacket(tag: number, body: Uint8Array, type: 0 | 1 | 2 | 3): Buffer {
  const length = Buffer.alloc(type === 3 ? 0 : 1 << type);
  if (length.length > 0) length.writeUIntBE(body.length, 0, length.length);
  return Buffer.concat([Buffer.of(0x80 | (tag << 2) | type), length, body]);
}

/** A packet in parts of these sizes, powers of two, and the rest. */
export function partialPacket(tag: number, body: Uint8Array, exponents: readonly number[]): Buffer {
  const out: Uint8Array[] = [Buffer.of(0xc0 | tag)];
  let at = 0;
  for (const exponent of exponents) {
    const size = 2 ** exponent;
    if (body.length - at < size) break;
    out.push(Buffer.of(224 + exponent), body.subarray(at, at + size));
    at += size;
  }
  return Buffer.concat([...out, longLength(body.length - at), body.subarray(at)]);
}

export const literalBody = (content: Uint8Array, name = ''): Buffer =>
  Buffer.concat([Buffer.from(`b${String.fromCharCode(name.length)}${name}`), Buffer.alloc(4, 1), content]);

export const literal = (content: Uint8Array): Buffer => packet(11, literalBody(content));

/** With the check that belongs to it at its end. */
export function checked(inner: Uint8Array, prefix: Uint8Array = PREFIX): Buffer {
  const hashed = Buffer.concat([prefix, inner, MDC_HEADER]);
  return Buffer.concat([inner, MDC_HEADER, createHash('sha1').update(hashed).digest()]);
}

/** The body of an integrity protected packet that holds exactly `plain`. */
export function protectedBody(plain: Uint8Array, key = SESSION_KEY, prefix: Uint8Array = PREFIX): Buffer {
  const cipher = createCipheriv('aes-256-cfb', key, Buffer.alloc(16));
  return Buffer.concat([Buffer.of(1), cipher.update(prefix), cipher.update(plain)]);
}

/** The packets that give the session key away to the owner of a certificate. */
export async function sessionPackets(certificate: string, key: Uint8Array = SESSION_KEY): Promise<Buffer> {
  const packets = await encryptSessionKey({
    data: key,
    algorithm: 'aes256',
    encryptionKeys: await readKey({ armoredKey: certificate }),
    date: new Date('2026-03-01T00:00:00Z'),
    format: 'binary',
  });
  return Buffer.from(packets);
}

/** A key pair of somebody who reads, armored. */
export async function newReader(
  over: object = {},
): Promise<{ readonly secret: string; readonly certificate: string }> {
  const { privateKey, publicKey } = await generateKey({
    type: 'ecc',
    curve: 'curve25519Legacy',
    userIDs: [{ name: 'reader (test key)' }],
    date: new Date('2026-01-01T00:00:00Z'),
    ...over,
  });
  return { secret: privateKey, certificate: publicKey };
}
