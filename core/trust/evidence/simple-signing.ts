/**
 * OpenPGP simple signing (containers-signature(5)): one signed message whose content names a manifest and a name
 * for it. The library does the arithmetic of v4 signatures, node:crypto that of v3, which the library does not read;
 * the structure of the message is taken apart here, because the library accepts far more than one signed message.
 */
import { createHash, verify as verifyWithKey } from 'node:crypto';
import { inflateRawSync, inflateSync } from 'node:zlib';
import type { PrivateKey, SignaturePacket } from 'openpgp';
import { inert, isSealiftError, SealiftError } from '../../errors.ts';
import { asObject, asString, assertOnlyKeys, parseJson } from '../../json/strict.ts';
import { type Digest, digestAlgorithm, digestOf, isDigest } from '../../oci/digest.ts';
import { GENERATOR } from '../../version.ts';
import type { CertificateKey } from '../certificates.ts';
import type { GpgSigner } from '../gpg.ts';
import { MAX_AHEAD_MS } from '../openpgp.ts';
import {
  loadOpenpgp,
  type Packet,
  readSignatureBody,
  SIGNING_ALGORITHMS,
  SUBPACKET,
  splitPackets,
} from '../openpgp-packets.ts';
import type { Keyring } from './keyring.ts';
import { SIMPLE_SIGNING_ARTIFACT } from './media-types.ts';
import type { Evidence, EvidenceSubject, EvidenceVerifier, VerifiedEvidence } from './verifier.ts';

/** One signature; those in the wild have less than 2 KiB. */
export const MAX_SIMPLE_SIGNATURE = 256 * 1024;

const SIGNATURE_TYPE = 'atomic container signature';
const HASHES: ReadonlyMap<number, string> = new Map([
  [8, 'sha256'],
  [9, 'sha384'],
  [10, 'sha512'],
]);
const TAG = { signature: 2, onePass: 4, compressed: 8, literal: 11 } as const;
const KNOWN_CRITICAL: ReadonlySet<number> = new Set([
  SUBPACKET.created,
  SUBPACKET.expires,
  SUBPACKET.issuerKeyId,
  SUBPACKET.signersUserId,
  SUBPACKET.issuerFingerprint,
]);

function invalid(message: string, cause?: unknown): SealiftError {
  return new SealiftError('signature-invalid', message, { cause });
}

// ---------------------------------------------------------------- the message

interface Message {
  readonly content: Uint8Array;
  /** Body of the one signature packet. */
  readonly signature: Uint8Array;
}

/**
 * What containers/image takes for simple signing by its first octet: a compressed message, a one-pass signature or a
 * signature packet, or a blob that says so itself.
 */
function messageIn(bytes: Uint8Array): Uint8Array {
  if (bytes.length > MAX_SIMPLE_SIGNATURE) throw invalid('signature is too large');
  const [first] = bytes;
  if (first === 0) {
    const end = bytes.indexOf(0x0a);
    const format = Buffer.from(bytes.subarray(1, end < 0 ? 1 : Math.min(end, 64))).toString('latin1');
    if (format !== 'simple-signing')
      throw invalid(`signature is of the format "${inert(format, 40)}", want simple-signing`);
    return bytes.subarray(end + 1);
  }
  const starts = [0xa0, 0xa1, 0xa2, 0xa3, 0xc8, 0x90, 0x91, 0x92, 0x93, 0xc4, 0x88, 0x89, 0x8a, 0x8b, 0xc2];
  if (first === undefined || !starts.includes(first))
    throw invalid('not a binary signed OpenPGP message (armored, cleartext, encrypted or something else)');
  return bytes;
}

/** Takes a signed message apart: exactly one signature over exactly one literal, compressed as a whole or not. */
function readMessage(bytes: Uint8Array): Message {
  let packets = splitPackets(messageIn(bytes), { partial: true });
  const [outer] = packets;
  if (packets.length === 1 && outer?.tag === TAG.compressed)
    packets = splitPackets(inflate(outer.body), { partial: true });
  const tags = packets.map(({ tag }) => tag).join(' ');
  if (tags === `${TAG.literal}`) throw invalid('message is not signed');
  const [first, second, third] = packets;
  let literal: Packet | undefined;
  let signature: Packet | undefined;
  if (tags === `${TAG.onePass} ${TAG.literal} ${TAG.signature}`) {
    if (first?.body.length !== 13 || first.body[0] !== 3 || first.body[12] !== 1)
      throw invalid('one-pass packet is malformed, or announces more signatures');
    [literal, signature] = [second, third];
  } else if (tags === `${TAG.signature} ${TAG.literal}`) {
    [signature, literal] = [first, second];
  }
  if (!literal || !signature)
    throw invalid(`got OpenPGP packets ${tags || 'none'}, want one signature over one literal`);
  const nameLength = literal.body[1] ?? 0;
  const start = 2 + nameLength + 4;
  if (start > literal.body.length) throw invalid('literal packet is cut off');
  return { content: literal.body.subarray(start), signature: signature.body };
}

function inflate(body: Uint8Array): Uint8Array {
  const [algorithm] = body;
  const options = { maxOutputLength: MAX_SIMPLE_SIGNATURE };
  try {
    if (algorithm === 0) return body.subarray(1);
    if (algorithm === 1) return inflateRawSync(body.subarray(1), options);
    if (algorithm === 2) return inflateSync(body.subarray(1), options);
  } catch (cause) {
    throw invalid('compressed message does not unpack', cause);
  }
  throw invalid(`message is compressed with algorithm ${algorithm ?? 'none'}, want ZIP or ZLIB`);
}

// ---------------------------------------------------------------- the signature

interface Parsed {
  readonly version: 3 | 4;
  /** Fingerprint or key id, lower-case hex: a hint where to look; the arithmetic decides. */
  readonly issuer: string;
  readonly created: Date;
  readonly expires?: Date | undefined;
  readonly check: (key: CertificateKey, content: Uint8Array) => Promise<void>;
}

function readSignature(body: Uint8Array): Parsed {
  return body[0] === 3 ? readV3(body) : readV4(body);
}

function assertAlgorithms(type: number, hash: number, publicKey: number): string {
  if (type !== 0x00)
    throw invalid(`signature is of type 0x${type.toString(16).padStart(2, '0')}, want 0x00 (binary)`);
  const name = HASHES.get(hash);
  if (name === undefined || !SIGNING_ALGORITHMS.has(publicKey)) {
    throw new SealiftError(
      'weak-algorithm',
      `signature uses hash ${hash} and public-key algorithm ${publicKey}, want SHA-256, SHA-384 or SHA-512 with RSA, ECDSA or legacy EdDSA`,
    );
  }
  return name;
}

/** RFC 4880 section 5.2.2: what is hashed is the content, the type and the time. RSA only. */
function readV3(body: Uint8Array): Parsed {
  const view = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  if (view.length < 21 || view[1] !== 5) throw invalid('signature of version 3 is malformed');
  const [publicKey, algorithm] = [view.readUInt8(15), view.readUInt8(16)];
  const hash = assertAlgorithms(view.readUInt8(2), algorithm, publicKey);
  if (publicKey !== 1 && publicKey !== 3) throw invalid('signature of version 3 is by no RSA key');
  const length = (view.readUInt16BE(19) + 7) >> 3;
  if (21 + length !== view.length) throw invalid('signature of version 3 is malformed');
  const value = view.subarray(21);
  return {
    version: 3,
    issuer: view.toString('hex', 7, 15),
    created: new Date(view.readUInt32BE(3) * 1000),
    check: async (key, content) => {
      const bits = key.publicKey?.asymmetricKeyDetails?.modulusLength;
      if (key.publicKey?.asymmetricKeyType !== 'rsa' || bits === undefined)
        throw invalid('signature of version 3 is by no RSA key');
      const size = (bits + 7) >> 3;
      if (value.length > size) throw invalid('signature does not verify');
      const padded = Buffer.concat([Buffer.alloc(size - value.length), value]);
      const data = Buffer.concat([content, view.subarray(2, 7)]);
      const start = createHash(hash).update(data).digest().subarray(0, 2);
      if (!start.equals(view.subarray(17, 19)) || !verifyWithKey(hash, data, key.publicKey, padded))
        throw invalid('signature does not verify');
    },
  };
}

function readV4(body: Uint8Array): Parsed {
  const signature = readSignatureBody(body);
  assertAlgorithms(signature.type, signature.hashAlgorithm, signature.publicKeyAlgorithm);
  for (const { type, critical } of signature.hashed) {
    if (critical && !KNOWN_CRITICAL.has(type))
      throw invalid(`signature has a critical subpacket of type ${type} that is not known`);
  }
  const one = (type: number, size: number): Buffer | undefined => {
    const [found, ...more] = signature.hashed.filter((subpacket) => subpacket.type === type);
    if (more.length > 0 || (found && found.body.length !== size))
      throw invalid(`signature has a malformed subpacket ${type}`);
    return found && Buffer.from(found.body);
  };
  const seconds = one(SUBPACKET.created, 4)?.readUInt32BE(0);
  if (seconds === undefined) throw invalid('signature has no creation time');
  const lifetime = one(SUBPACKET.expires, 4)?.readUInt32BE(0) ?? 0;
  const fingerprint = one(SUBPACKET.issuerFingerprint, 21)?.subarray(1);
  // Old programs name the issuer in the unhashed area only. It is no more than a hint.
  const keyId = [...signature.hashed, ...signature.unhashed].find(
    ({ type }) => type === SUBPACKET.issuerKeyId,
  )?.body;
  const issuer = Buffer.from(fingerprint ?? keyId ?? []).toString('hex');
  if (issuer.length < 16) throw invalid('signature does not name its issuer');
  return {
    version: 4,
    issuer,
    created: new Date(seconds * 1000),
    expires: lifetime === 0 ? undefined : new Date((seconds + lifetime) * 1000),
    check: async (key, content) => {
      const { SignaturePacket: SignatureReader, createMessage, config } = await loadOpenpgp();
      let packet: SignaturePacket;
      try {
        packet = new SignatureReader();
        packet.read(signature.withoutUnhashed);
        if (!Buffer.from(packet.write()).equals(signature.withoutUnhashed))
          throw new Error('not the same bytes');
      } catch (cause) {
        throw invalid('signature packet does not re-serialise to the same bytes', cause);
      }
      // The library refuses signatures whose issuer it does not know; the arithmetic below is what decides.
      if (fingerprint === undefined) packet.issuerKeyID = key.packet.getKeyID();
      const literal = (await createMessage({ binary: content })).packets[0];
      if (!literal) throw new SealiftError('internal', 'no packet to verify');
      try {
        await packet.verify(key.packet, 0, literal, null as unknown as Date, true, config);
      } catch (cause) {
        throw invalid('signature does not verify', cause);
      }
    },
  };
}

// ---------------------------------------------------------------- the payload

export interface SimpleSigningPayload {
  readonly reference: string;
  readonly digest: Digest;
  readonly creator?: string | undefined;
  readonly timestamp?: number | undefined;
}

/**
 * Reads what was signed (containers-signature(5), "Payload"). Unknown and repeated fields refuse but below `optional`.
 * @throws SealiftError `signature-invalid`
 */
export function parsePayload(bytes: Uint8Array): SimpleSigningPayload {
  const code = 'signature-invalid';
  try {
    const value = parseJson(bytes, { what: 'signed content', maxBytes: MAX_SIMPLE_SIGNATURE, maxDepth: 64 });
    const root = asObject(value, 'payload', code);
    assertOnlyKeys(root, ['critical', 'optional'], 'payload', code);
    const critical = asObject(root['critical'], 'critical', code);
    assertOnlyKeys(critical, ['type', 'image', 'identity'], 'critical', code);
    const type = asString(critical['type'], 'critical.type', code);
    if (type !== SIGNATURE_TYPE)
      throw invalid(`critical.type: got "${inert(type, 80)}", want "${SIGNATURE_TYPE}"`);
    const image = asObject(critical['image'], 'critical.image', code);
    assertOnlyKeys(image, ['docker-manifest-digest'], 'critical.image', code);
    const digest = asString(image['docker-manifest-digest'], 'critical.image.docker-manifest-digest', code);
    if (!isDigest(digest))
      throw invalid(`critical.image.docker-manifest-digest: got "${inert(digest, 160)}", want a digest`);
    const identity = asObject(critical['identity'], 'critical.identity', code);
    assertOnlyKeys(identity, ['docker-reference'], 'critical.identity', code);
    const reference = asString(identity['docker-reference'], 'critical.identity.docker-reference', code);
    const optional = asObject(root['optional'], 'optional', code);
    const { creator, timestamp } = optional;
    if (creator !== undefined && typeof creator !== 'string') throw invalid('optional.creator is no text');
    if (timestamp !== undefined && (typeof timestamp !== 'number' || !Number.isInteger(timestamp)))
      throw invalid('optional.timestamp is no integer');
    return { reference, digest, creator, timestamp };
  } catch (error) {
    if (isSealiftError(error) && error.code !== code)
      throw invalid(`signed content: ${error.message}`, error);
    throw error;
  }
}

// ---------------------------------------------------------------- verify and make

/**
 * Verifies one signature: structure, key, arithmetic, then content, in this order.
 * @throws SealiftError as {@link EvidenceVerifier}
 */
export async function verifySimpleSignature(
  bytes: Uint8Array,
  subject: EvidenceSubject,
  keyring: Keyring,
  now: Date,
): Promise<VerifiedEvidence & { readonly payload: SimpleSigningPayload }> {
  const { content, fingerprint, created, expires, version } = await verifyEnvelope(bytes, keyring, now);
  const payload = parsePayload(content);
  const got = digestOf(subject.bytes, digestAlgorithm(payload.digest));
  if (got !== payload.digest)
    throw new SealiftError(
      'signature-invalid',
      `signature is about ${payload.digest}, not about this manifest`,
      {
        got: payload.digest,
        want: got,
      },
    );
  return {
    format: 'simple-signing',
    subjectDigest: payload.digest,
    claimedName: payload.reference,
    signer: fingerprint,
    signedAt: created,
    expires,
    checks: [
      `OpenPGP signature of version ${version} verifies`,
      'key is accepted and good',
      'digest is that of the manifest',
    ],
    payload,
  };
}

/** Verifies the signed message alone; resolves to what was signed, which is not looked at. */
export async function verifyEnvelope(bytes: Uint8Array, keyring: Keyring, now: Date) {
  const message = readMessage(bytes);
  const signature = readSignature(message.signature);
  const candidates = keyring.find(signature.issuer);
  if (candidates.length === 0)
    throw invalid(`signature is by the key ${signature.issuer}, which is not accepted`);
  let failure: unknown;
  for (const { certificate, key } of candidates) {
    try {
      const primary = certificate.keys[0] ?? key;
      if (!key.canSign)
        throw new SealiftError(
          key.refusal?.code ?? 'signature-invalid',
          key.refusal?.reason ?? 'the key may not sign',
        );
      await signature.check(key, message.content);
      for (const part of new Set([primary, key])) {
        if (part.revocation !== 'none')
          throw new SealiftError('key-revoked', `the key ${part.fingerprint} has been revoked`);
        if (part.expires !== undefined && part.expires <= now)
          throw new SealiftError(
            'key-expired',
            `the key ${part.fingerprint} expired on ${part.expires.toISOString()}`,
          );
        if (signature.created < part.created) throw invalid('signature is older than the key that made it');
      }
      if (signature.created.getTime() > now.getTime() + MAX_AHEAD_MS)
        throw invalid(`signature is from the future: got ${signature.created.toISOString()}`);
      if (signature.expires !== undefined && signature.expires <= now)
        throw new SealiftError(
          'signature-expired',
          `signature expired on ${signature.expires.toISOString()}`,
        );
      return {
        content: message.content,
        /** Of the primary key, also where a subkey signed. */
        fingerprint: certificate.fingerprint,
        created: signature.created,
        expires: signature.expires,
        version: signature.version,
      };
    } catch (error) {
      failure ??= error;
    }
  }
  throw failure;
}

export const simpleSigningVerifier: EvidenceVerifier<Keyring> = {
  format: 'simple-signing',
  accepts: (artifactType) => artifactType === SIMPLE_SIGNING_ARTIFACT,
  verify: (evidence: Evidence, subject, keyring, now) => {
    const [payload, ...more] = evidence.payloads;
    if (!payload || more.length > 0)
      throw invalid(`got ${evidence.payloads.length} layers, want one signature`);
    return verifySimpleSignature(payload, subject, keyring, now);
  },
};

/** Key id or fingerprint a signature says it is by, for display before anything is verified; undefined where it says none. */
export function claimedSigner(bytes: Uint8Array): string | undefined {
  try {
    return readSignature(readMessage(bytes).signature).issuer;
  } catch {
    return undefined;
  }
}

/**
 * Signs a manifest under a name: the bytes of a `signature-N` file, as skopeo, podman and gpg take them.
 * @param reference full name with a tag or a digest
 */
export async function makeSimpleSignature(
  privateKey: PrivateKey | Pick<GpgSigner, 'signMessage'>,
  reference: string,
  digest: Digest,
  created: Date,
): Promise<Uint8Array> {
  const { sign, createMessage, enums } = await loadOpenpgp();
  const payload = JSON.stringify({
    critical: {
      identity: { 'docker-reference': reference },
      image: { 'docker-manifest-digest': digest },
      type: SIGNATURE_TYPE,
    },
    optional: { creator: GENERATOR, timestamp: Math.floor(created.getTime() / 1000) },
  });
  if ('signMessage' in privateKey) return await privateKey.signMessage(Buffer.from(payload));
  return (await sign({
    message: await createMessage({ binary: Buffer.from(payload), date: created }),
    signingKeys: privateKey,
    format: 'binary',
    date: created,
    config: {
      nonDeterministicSignaturesViaNotation: false,
      preferredHashAlgorithm: enums.hash.sha512,
      rejectHashAlgorithms: new Set([enums.hash.md5, enums.hash.ripemd, enums.hash.sha1]),
    },
  })) as Uint8Array;
}
