/**
 * OpenPGP signatures over metadata and checksums (docs/tuf-profile.md, "OpenPGP signatures").
 *
 * The library does the arithmetic, over one packet whose unhashed area has been emptied. Everything else is
 * decided here: it takes no signature at all, text signatures, notations it does not know and keys that have
 * expired since for reasons to be content.
 */
import { createHash } from 'node:crypto';
import type { PrivateKey, SignaturePacket } from 'openpgp';
import { inert, SealiftError } from '../errors.ts';
import type { Certificate, CertificateKey } from './certificates.ts';
import { decodeHex, type Purpose } from './keys.ts';
import {
  loadOpenpgp,
  PACKET,
  readSignatureBody,
  SIGNING_ALGORITHMS,
  type SignatureBody,
  SUBPACKET,
  splitPackets,
} from './openpgp-packets.ts';

export const PURPOSE_NOTATION = 'purpose@sealift';
/** How far a signature may be dated ahead of the time of the run: clocks on sealed networks drift. */
export const MAX_AHEAD_MS = 48 * 60 * 60 * 1000;
/** SHA-256, SHA-384, SHA-512 (RFC 4880 section 9.4). */
const HASHES: ReadonlySet<number> = new Set([8, 9, 10]);
/** Subpackets that may be marked critical: those this file reads, and the signer's user id, which says nothing. */
const KNOWN_CRITICAL: ReadonlySet<number> = new Set([
  SUBPACKET.created,
  SUBPACKET.issuerKeyId,
  SUBPACKET.notation,
  SUBPACKET.signersUserId,
  SUBPACKET.issuerFingerprint,
]);
const MAX_SIGNATURE_BYTES = 64 * 1024;

export interface VerifyOptions {
  readonly purpose: Purpose;
  /** Time of the run. */
  readonly now: Date;
  /** `final`: the key must be good now. `link`: expiry and soft revocation are ignored, hard revocation is not. */
  readonly mode: 'final' | 'link';
  /** Takes signatures from more than 48 h in the future. */
  readonly allowFuture?: boolean | undefined;
}

export interface VerifiedSignature {
  readonly fingerprint: string;
  /** The key that made it: the primary or a signing subkey. */
  readonly key: CertificateKey;
  readonly created: Date;
  /** When the primary key or the subkey that signed ends, whichever comes first. */
  readonly expires?: Date | undefined;
}

function invalid(message: string, subject?: string): SealiftError {
  return new SealiftError('signature-invalid', message, { subject });
}

/**
 * Verifies the `sig` field of metadata: lower-case hex of one signature packet.
 * @throws SealiftError `signature-invalid`, `weak-algorithm`, `key-expired`, `key-revoked`
 */
export async function verifyOpenpgp(
  certificate: Certificate,
  bytes: Uint8Array,
  sig: string,
  options: VerifyOptions,
): Promise<VerifiedSignature> {
  const subject = certificate.fingerprint;
  const packetBytes = sig.length <= 2 * MAX_SIGNATURE_BYTES ? decodeHex(sig) : undefined;
  if (!packetBytes) throw invalid('signature is not lower-case hex of whole bytes', subject);
  return await verifyPacket(certificate, bytes, packetBytes, options);
}

/**
 * Verifies an armored detached signature, as `SHA256SUMS.asc` holds it.
 * @throws SealiftError as {@link verifyOpenpgp}
 */
export async function verifyArmored(
  certificate: Certificate,
  bytes: Uint8Array,
  armored: Uint8Array,
  options: VerifyOptions,
): Promise<VerifiedSignature> {
  return await verifyPacket(certificate, bytes, await readArmored(armored), options);
}

/**
 * Fingerprint, or else key id, in the hashed area of an armored detached signature: which certificate to take.
 * @throws SealiftError `signature-invalid`
 */
export async function armoredIssuer(armored: Uint8Array): Promise<string> {
  const { fingerprint, keyId } = readIssuer(readOnePacket(await readArmored(armored)), undefined);
  return fingerprint ?? keyId ?? '';
}

async function readArmored(armored: Uint8Array): Promise<Uint8Array> {
  if (armored.length > MAX_SIGNATURE_BYTES) throw invalid('armored signature is too large');
  const text = Buffer.from(armored).toString('latin1');
  // ASCII, one block, nothing before or behind it: the library skips both.
  const form =
    /^-----BEGIN PGP SIGNATURE-----\r?\n(?:[A-Za-z]+: [\x20-\x7e]*\r?\n)*\r?\n([A-Za-z0-9+/=\r\n]+)-----END PGP SIGNATURE-----\r?\n$/;
  if (!form.test(text)) throw invalid('not one armored OpenPGP signature');
  const { unarmor, enums } = await loadOpenpgp();
  try {
    const { type, data } = await unarmor(text);
    if (type !== enums.armor.signature) throw new Error('another type of armor');
    const chunks: Uint8Array[] = [];
    if (data instanceof Uint8Array) chunks.push(data);
    else for await (const chunk of data as AsyncIterable<Uint8Array>) chunks.push(chunk);
    return Buffer.concat(chunks);
  } catch (cause) {
    throw invalid('the armor of the signature is damaged').with({ cause });
  }
}

function readOnePacket(packetBytes: Uint8Array): SignatureBody & { readonly body: Uint8Array } {
  const [packet, ...rest] = splitPackets(packetBytes);
  if (!packet || rest.length > 0)
    throw invalid(`got ${packet ? rest.length + 1 : 0} OpenPGP packets, want exactly one`);
  if (packet.tag !== PACKET.signature)
    throw invalid(`got an OpenPGP packet with tag ${packet.tag}, want a signature`);
  return { ...readSignatureBody(packet.body), body: packet.body };
}

function readIssuer(
  body: SignatureBody,
  subject: string | undefined,
): { readonly fingerprint?: string | undefined; readonly keyId?: string | undefined } {
  const fingerprints = body.hashed.filter(({ type }) => type === SUBPACKET.issuerFingerprint);
  const keyIds = body.hashed.filter(({ type }) => type === SUBPACKET.issuerKeyId);
  if (fingerprints.length > 1 || keyIds.length > 1)
    throw invalid('signature names its issuer more than once', subject);
  const [fingerprint] = fingerprints;
  const [keyId] = keyIds;
  if (!fingerprint && !keyId) throw invalid('signature does not name its issuer in the hashed area', subject);
  if (fingerprint && (fingerprint.body.length !== 21 || fingerprint.body[0] !== 4)) {
    throw invalid('signature names an issuer that is no v4 key', subject);
  }
  if (keyId && keyId.body.length !== 8) throw invalid('signature has a malformed issuer', subject);
  return {
    fingerprint: fingerprint && Buffer.from(fingerprint.body.subarray(1)).toString('hex'),
    keyId: keyId && Buffer.from(keyId.body).toString('hex'),
  };
}

function readCreated(body: SignatureBody, subject: string): Date {
  const [created, ...more] = body.hashed.filter(({ type }) => type === SUBPACKET.created);
  if (created?.body.length !== 4 || more.length > 0) {
    throw invalid('signature does not have exactly one creation time in the hashed area', subject);
  }
  return new Date(Buffer.from(created.body).readUInt32BE(0) * 1000);
}

/** The value of the purpose notation (RFC 4880 section 5.2.3.16). */
function readPurpose(body: SignatureBody, subject: string): string {
  let purpose: string | undefined;
  for (const { type, critical, body: data } of body.hashed) {
    if (type !== SUBPACKET.notation) continue;
    const view = Buffer.from(data);
    const nameLength = view.length >= 8 ? view.readUInt16BE(4) : 0;
    const valueLength = view.length >= 8 ? view.readUInt16BE(6) : 0;
    if (view.length < 8 || view.length !== 8 + nameLength + valueLength)
      throw invalid('signature has a malformed notation', subject);
    const name = view.toString('latin1', 8, 8 + nameLength);
    if (name !== PURPOSE_NOTATION) {
      if (critical)
        throw invalid(`signature has a critical notation that is not known: ${inert(name)}`, subject);
      continue;
    }
    if (purpose !== undefined)
      throw invalid(`signature has the notation ${PURPOSE_NOTATION} more than once`, subject);
    if (view.readUInt32BE(0) !== 0x80000000)
      throw invalid(`the notation ${PURPOSE_NOTATION} is not marked as text`, subject);
    purpose = view.toString('latin1', 8 + nameLength);
  }
  if (purpose === undefined) throw invalid(`signature has no notation ${PURPOSE_NOTATION}`, subject);
  return purpose;
}

async function verifyPacket(
  certificate: Certificate,
  bytes: Uint8Array,
  packetBytes: Uint8Array,
  options: VerifyOptions,
): Promise<VerifiedSignature> {
  const subject = certificate.fingerprint;
  const signature = readOnePacket(packetBytes);
  if (signature.type !== 0x00) {
    throw invalid(
      `signature is of type 0x${signature.type.toString(16).padStart(2, '0')}, want 0x00 (binary)`,
      subject,
    );
  }
  if (!HASHES.has(signature.hashAlgorithm)) {
    throw new SealiftError(
      'weak-algorithm',
      `signature uses hash algorithm ${signature.hashAlgorithm}, want SHA-256, SHA-384 or SHA-512`,
      {
        subject,
        got: signature.hashAlgorithm,
      },
    );
  }
  if (!SIGNING_ALGORITHMS.has(signature.publicKeyAlgorithm)) {
    throw new SealiftError(
      'weak-algorithm',
      `signature uses public-key algorithm ${signature.publicKeyAlgorithm}, want RSA, legacy EdDSA or ECDSA`,
      { subject, got: signature.publicKeyAlgorithm },
    );
  }
  for (const { type, critical } of signature.hashed) {
    if (type === SUBPACKET.expires)
      throw invalid(
        'signature has an expiry of its own; that of the metadata is the one that counts',
        subject,
      );
    if (critical && !KNOWN_CRITICAL.has(type))
      throw invalid(`signature has a critical subpacket of type ${type} that is not known`, subject);
  }
  const created = readCreated(signature, subject);
  const issuer = readIssuer(signature, subject);
  const purpose = readPurpose(signature, subject);
  if (purpose !== options.purpose) {
    throw new SealiftError(
      'signature-invalid',
      `signature is for another purpose: got ${inert(purpose)}, want ${options.purpose}`,
      {
        subject,
        got: inert(purpose),
        want: options.purpose,
      },
    );
  }

  const candidates = certificate.keys.filter(
    ({ fingerprint }) =>
      (issuer.fingerprint === undefined || issuer.fingerprint === fingerprint) &&
      (issuer.keyId === undefined || issuer.keyId === fingerprint.slice(-16)),
  );
  const [key, ...others] = candidates;
  if (!key || others.length > 0) {
    throw invalid(
      `signature is by ${issuer.fingerprint ?? issuer.keyId ?? 'nobody'}, which is no key of this certificate`,
      subject,
    );
  }
  const primary = certificate.keys[0] ?? key;
  if (!key.canSign) {
    throw new SealiftError(
      key.refusal?.code ?? 'signature-invalid',
      key.refusal?.reason ?? 'the key may not sign',
      { subject },
    );
  }
  if (created < key.created || created < primary.created) {
    throw invalid('signature is older than the key that made it', subject);
  }
  if (options.allowFuture !== true && created.getTime() > options.now.getTime() + MAX_AHEAD_MS) {
    throw new SealiftError(
      'signature-invalid',
      `signature is from the future: got ${created.toISOString()}, want at most 48 h after ${options.now.toISOString()}`,
      {
        subject,
        got: created.toISOString(),
      },
    );
  }

  await checkArithmetic(signature, key, bytes, created, subject);

  for (const part of key === primary ? [primary] : [primary, key]) {
    if (part.revocation === 'hard' || (part.revocation === 'soft' && options.mode === 'final')) {
      throw new SealiftError(
        'key-revoked',
        `${part.isPrimary ? 'the key' : 'the subkey'} ${part.fingerprint} has been revoked`,
        {
          subject,
          hint: 'have the metadata signed by a key that is still good',
        },
      );
    }
  }
  const ends = [primary.expires, key.expires].filter((date) => date !== undefined);
  const expires = ends.length > 0 ? new Date(Math.min(...ends.map((date) => date.getTime()))) : undefined;
  if (options.mode === 'final' && expires !== undefined && expires <= options.now) {
    throw new SealiftError('key-expired', `the key ${key.fingerprint} expired on ${expires.toISOString()}`, {
      subject,
      got: expires.toISOString(),
      hint: 'bring the renewed certificate',
    });
  }
  return { fingerprint: certificate.fingerprint, key, created, expires };
}

/** SHA-256 of what has been verified: key, signature and bytes together decide, and nothing else does. */
const verified = new Set<string>();
const MAX_VERIFIED = 4096;

function nameOf(
  signature: SignatureBody & { readonly body: Uint8Array },
  key: CertificateKey,
  bytes: Uint8Array,
) {
  const hash = createHash('sha256');
  for (const part of [key.packet.write(), signature.body, signature.withoutUnhashed, bytes])
    hash.update(`${part.length}:`).update(part);
  return hash.digest('base64');
}

/** Whoever signs verifies what they made, and so does whoever takes it over: often the same run. */
async function checkArithmetic(
  signature: SignatureBody & { readonly body: Uint8Array },
  key: CertificateKey,
  bytes: Uint8Array,
  created: Date,
  subject: string,
): Promise<void> {
  const name = nameOf(signature, key, bytes);
  if (verified.has(name)) return;
  await verifyArithmetic(signature, key, bytes, created, subject);
  if (verified.size >= MAX_VERIFIED) verified.clear();
  verified.add(name);
}

async function verifyArithmetic(
  signature: SignatureBody & { readonly body: Uint8Array },
  key: CertificateKey,
  bytes: Uint8Array,
  created: Date,
  subject: string,
): Promise<void> {
  const { SignaturePacket: Packet, createMessage, config } = await loadOpenpgp();
  let packet: SignaturePacket;
  try {
    const whole = new Packet();
    whole.read(signature.body);
    if (!Buffer.from(whole.write()).equals(signature.body)) throw new Error('not the same bytes');
    packet = new Packet();
    packet.read(signature.withoutUnhashed);
    if (!Buffer.from(packet.write()).equals(signature.withoutUnhashed)) throw new Error('not the same bytes');
  } catch (cause) {
    throw invalid('signature packet does not re-serialise to the same bytes', subject).with({ cause });
  }
  const message = await createMessage({ binary: bytes, date: created });
  const literal = message.packets[0];
  if (!literal) throw new SealiftError('internal', 'no packet to verify');
  try {
    await packet.verify(key.packet, 0, literal, null as unknown as Date, true, {
      ...config,
      knownNotations: [PURPOSE_NOTATION],
    });
  } catch (cause) {
    throw invalid('signature does not verify', subject).with({ cause });
  }
}

/**
 * Signs with an unlocked OpenPGP key. The same bytes, purpose and date give the same signature for RSA and
 * legacy EdDSA keys.
 * @returns the binary signature packet
 */
export async function signOpenpgp(
  privateKey: PrivateKey,
  bytes: Uint8Array,
  purpose: Purpose,
  created: Date,
): Promise<Uint8Array> {
  const { sign, createMessage, enums } = await loadOpenpgp();
  const signature = await sign({
    message: await createMessage({ binary: bytes, date: created }),
    signingKeys: privateKey,
    detached: true,
    format: 'binary',
    date: created,
    signatureNotations: [
      { name: PURPOSE_NOTATION, value: Buffer.from(purpose, 'ascii'), humanReadable: true, critical: false },
    ],
    config: {
      nonDeterministicSignaturesViaNotation: false,
      v6Keys: false,
      preferredHashAlgorithm: enums.hash.sha512,
      // So that gpg 2.2 and the old Go library need nothing new to check it.
      rejectHashAlgorithms: new Set([enums.hash.md5, enums.hash.ripemd, enums.hash.sha1]),
    },
  });
  return signature as Uint8Array;
}

/** The same signature in armor, as `gpg --verify` takes it. */
export async function armorSignature(packet: Uint8Array): Promise<string> {
  const { armor, enums } = await loadOpenpgp();
  const text = armor(enums.armor.signature, packet, undefined, undefined, undefined, true, undefined);
  return text.replaceAll('\r\n', '\n');
}
