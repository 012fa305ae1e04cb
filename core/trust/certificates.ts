/**
 * OpenPGP certificates (transferable public keys, RFC 4880 section 11.1), read strictly.
 *
 * openpgp.js reads packets and verifies signatures; which self-signatures count, what a revocation means and
 * how two renderings of one certificate are merged is decided here: its own `Key.update` replaces a binding
 * by a newer one that it has not verified, and its own judgement of a key looks at one moment only.
 */
import type { KeyObject } from 'node:crypto';
import type { AnyKeyPacket, Config, SignaturePacket } from 'openpgp';
import { inert, SealiftError } from '../errors.ts';
import type { Limits } from '../limits.ts';
import { materialOf } from './keys.ts';
import {
  framePacket,
  keyPacketMaterial,
  loadOpenpgp,
  PACKET,
  type Packet,
  readSignatureBody,
  splitPackets,
} from './openpgp-packets.ts';

/** How a key was revoked. Hard: as if it had never been good. Soft: not used any more. */
export type Revocation = 'none' | 'soft' | 'hard';

/** The primary key or a subkey of a certificate. */
export interface CertificateKey {
  /** Lower-case hex, 40 digits. */
  readonly fingerprint: string;
  readonly isPrimary: boolean;
  readonly created: Date;
  /** Absent where it never does; a subkey's own, the primary's not counted in. */
  readonly expires?: Date | undefined;
  readonly revocation: Revocation;
  /** May sign data: algorithm, key flags and, for a subkey, a valid back-signature. */
  readonly canSign: boolean;
  /** Why not, where it may not. */
  readonly refusal?:
    | { readonly code: 'weak-algorithm' | 'signature-invalid'; readonly reason: string }
    | undefined;
  /** Names the key material; equal for equal keys of whatever type. Empty where the algorithm is unknown. */
  readonly material: string;
  readonly publicKey?: KeyObject | undefined;
  readonly packet: AnyKeyPacket;
}

export interface Certificate {
  /** Of the primary key, lower-case hex. */
  readonly fingerprint: string;
  /** First user id, inert. */
  readonly userId: string;
  readonly created: Date;
  /** When the primary key ends; absent where it never does. */
  readonly expires?: Date | undefined;
  readonly revocation: Revocation;
  readonly bytes: Uint8Array;
  /** Primary first. Subkeys that are not bound to the primary are left out. */
  readonly keys: readonly CertificateKey[];
}

const SIGNATURE_TYPE = {
  certGeneric: 0x10,
  certPositive: 0x13,
  subkeyBinding: 0x18,
  keyBinding: 0x19,
  directKey: 0x1f,
  keyRevocation: 0x20,
  subkeyRevocation: 0x28,
  certRevocation: 0x30,
} as const;
/** Reasons (RFC 4880 section 5.2.3.23) that leave earlier signatures good: superseded, retired, user id no longer valid. */
const SOFT_REASONS: ReadonlySet<number> = new Set([1, 3, 32]);
const SIGN_FLAG = 0x02;
const MIN_RSA_BITS = 2048;

interface Signed {
  readonly packet: SignaturePacket;
  readonly type: number;
  readonly body: Uint8Array;
}

interface Component {
  readonly packet: Packet;
  readonly signatures: Signed[];
}

/** A certificate taken apart, with the signatures that were found behind each part, not yet verified. */
interface Parts {
  readonly primary: Component;
  readonly users: Component[];
  readonly subkeys: Component[];
}

function malformed(message: string, subject?: string): SealiftError {
  return new SealiftError('metadata-malformed', `certificate: ${message}`, { subject });
}

async function takeApart(bytes: Uint8Array, limits: Limits): Promise<Parts> {
  if (bytes.length > limits.certificate) {
    throw malformed(`too large, got ${bytes.length} bytes, want at most ${limits.certificate}`);
  }
  const { SignaturePacket } = await loadOpenpgp();
  let packets: readonly Packet[];
  try {
    packets = splitPackets(bytes);
  } catch (cause) {
    throw malformed('not a sequence of OpenPGP packets', undefined).with({ cause });
  }
  const users: Component[] = [];
  const subkeys: Component[] = [];
  let primary: Component | undefined;
  let current: Component | undefined;
  for (const packet of packets) {
    if (packet.tag === PACKET.signature) {
      if (!current) throw malformed('a signature stands before the primary key');
      const signed = readSignature(packet.body, SignaturePacket);
      if (signed) current.signatures.push(signed);
      continue;
    }
    if (primary === undefined) {
      if (packet.tag !== PACKET.publicKey)
        throw malformed(`first packet has tag ${packet.tag}, want a public key`);
      primary = { packet, signatures: [] };
      current = primary;
    } else if (packet.tag === PACKET.userId || packet.tag === PACKET.userAttribute) {
      if (subkeys.length > 0) throw malformed('a user id stands behind a subkey');
      current = { packet, signatures: [] };
      users.push(current);
    } else if (packet.tag === PACKET.publicSubkey) {
      current = { packet, signatures: [] };
      subkeys.push(current);
    } else {
      throw malformed(`packet with tag ${packet.tag} does not belong into one public key`);
    }
  }
  if (!primary) throw malformed('empty');
  return { primary, users, subkeys };
}

/** A self-signature candidate; undefined for what cannot be one: other versions and algorithms. */
function readSignature(body: Uint8Array, Packet: typeof SignaturePacket): Signed | undefined {
  try {
    const { type } = readSignatureBody(body);
    const packet = new Packet();
    packet.read(body);
    // What the library understood must be what is there.
    return Buffer.from(packet.write()).equals(body) ? { packet, type, body } : undefined;
  } catch {
    return undefined; // third-party certifications may be of any kind; they carry nothing here
  }
}

/** Key packets of the library, checked to hold exactly what stands in the bytes. */
async function readKeyPacket(packet: Packet, isPrimary: boolean): Promise<AnyKeyPacket | undefined> {
  const { PublicKeyPacket, PublicSubkeyPacket } = await loadOpenpgp();
  if (packet.body[0] !== 4) throw malformed(`got a key of version ${packet.body[0] ?? 'none'}, want 4`);
  const key = isPrimary ? new PublicKeyPacket() : new PublicSubkeyPacket();
  try {
    await key.read(packet.body);
  } catch (cause) {
    if (isPrimary) throw malformed('the primary key cannot be read').with({ cause });
    return undefined; // a subkey of an algorithm the library does not know cannot sign here
  }
  if (!Buffer.from(key.write()).equals(packet.body))
    throw malformed('a key packet does not re-serialise to the same bytes');
  return key;
}

/** Verifies a self-signature, whatever its date. */
async function verifies(
  signed: Signed,
  key: AnyKeyPacket,
  type: number,
  data: object,
  weakHashes: boolean,
): Promise<boolean> {
  const { config: defaults, enums } = await loadOpenpgp();
  // A revocation by a weak hash still revokes; nothing else rests on one.
  const reject = weakHashes ? [] : [enums.hash.md5, enums.hash.ripemd, enums.hash.sha1];
  const config: Config = { ...defaults, rejectHashAlgorithms: new Set(reject) };
  try {
    // The library takes null for "at no time in particular" and today for undefined.
    await signed.packet.verify(key, type, data, null as unknown as Date, false, config);
    return true;
  } catch {
    return false;
  }
}

const strictest = (a: Revocation, b: Revocation): Revocation =>
  a === 'hard' || b === 'hard' ? 'hard' : a === 'soft' ? a : b;

function revocationOf(signed: Signed): Revocation {
  const reason = signed.packet.reasonForRevocationFlag as number | null;
  return reason !== null && SOFT_REASONS.has(reason) ? 'soft' : 'hard';
}

/** The one with the latest creation time; of equal ones the one that says less. */
function latest(signatures: readonly Signed[]): SignaturePacket | undefined {
  let best: Signed | undefined;
  for (const candidate of signatures) {
    if (!best) {
      best = candidate;
      continue;
    }
    const difference = (candidate.packet.created?.getTime() ?? 0) - (best.packet.created?.getTime() ?? 0);
    if (difference > 0 || (difference === 0 && lifetime(candidate.packet) < lifetime(best.packet)))
      best = candidate;
  }
  return best?.packet;
}

function lifetime(signature: SignaturePacket): number {
  return signature.keyNeverExpires === false ? (signature.keyExpirationTime ?? Infinity) : Infinity;
}

function expiryOf(key: AnyKeyPacket, signature: SignaturePacket | undefined): Date | undefined {
  const seconds = signature ? lifetime(signature) : Infinity;
  const ends = [seconds === Infinity ? Infinity : key.getCreationTime().getTime() + seconds * 1000];
  // A self-signature may itself end; then the key has none.
  const signatureEnds = signature?.getExpirationTime() ?? Infinity;
  ends.push(signatureEnds === Infinity ? Infinity : (signatureEnds as Date).getTime());
  const first = Math.min(...ends);
  return first === Infinity ? undefined : new Date(first);
}

interface Judged {
  readonly certificate: Certificate;
  /** The certificate reduced to what the primary key has signed, for merging. */
  readonly parts: Parts;
}

async function judge(parts: Parts, bytes: Uint8Array): Promise<Judged> {
  const { UserIDPacket } = await loadOpenpgp();
  const primary = await readKeyPacket(parts.primary.packet, true);
  if (!primary) throw malformed('the primary key cannot be read');
  const fingerprint = primary.getFingerprint();
  const publicKey = keyPacketMaterial(parts.primary.packet.body);
  if (!publicKey) {
    throw new SealiftError(
      'weak-algorithm',
      'the primary key is neither RSA, legacy EdDSA nor ECDSA on a NIST curve',
      {
        subject: fingerprint,
      },
    );
  }
  if (isShortRsa(publicKey)) {
    throw new SealiftError('weak-algorithm', `RSA key is too short: want ${MIN_RSA_BITS} bits at least`, {
      subject: fingerprint,
    });
  }
  const data = { key: primary };

  let revocation: Revocation = 'none';
  const ownSignatures: Signed[] = [];
  const statements: Signed[] = [];
  for (const signed of parts.primary.signatures) {
    if (
      signed.type === SIGNATURE_TYPE.keyRevocation &&
      (await verifies(signed, primary, signed.type, data, true))
    ) {
      revocation = strictest(revocation, revocationOf(signed));
      ownSignatures.push(signed);
    } else if (
      signed.type === SIGNATURE_TYPE.directKey &&
      (await verifies(signed, primary, signed.type, data, false))
    ) {
      statements.push(signed);
      ownSignatures.push(signed);
    }
  }

  let userId: string | undefined;
  let isAnyUserRevoked = false;
  const users: Component[] = [];
  for (const user of parts.users) {
    if (user.packet.tag !== PACKET.userId) continue;
    const packet = new UserIDPacket();
    packet.read(user.packet.body);
    if (!Buffer.from(packet.write()).equals(user.packet.body)) continue; // not UTF-8: nobody's name
    const certifications: Signed[] = [];
    const revocations: Signed[] = [];
    for (const signed of user.signatures) {
      const userData = { key: primary, userID: packet };
      if (signed.type >= SIGNATURE_TYPE.certGeneric && signed.type <= SIGNATURE_TYPE.certPositive) {
        if (await verifies(signed, primary, signed.type, userData, false)) certifications.push(signed);
      } else if (signed.type === SIGNATURE_TYPE.certRevocation) {
        if (await verifies(signed, primary, signed.type, userData, true)) revocations.push(signed);
      }
    }
    if (certifications.length === 0 && revocations.length === 0) continue;
    users.push({ packet: user.packet, signatures: [...certifications, ...revocations] });
    const last = latest(certifications)?.created?.getTime() ?? 0;
    // A user id may be certified again after it was revoked.
    if (revocations.some((signed) => (signed.packet.created?.getTime() ?? 0) >= last)) {
      isAnyUserRevoked = true;
      continue;
    }
    userId ??= packet.userID;
    statements.push(...certifications);
  }
  if (statements.length === 0) {
    if (!isAnyUserRevoked) throw malformed('the primary key has signed nothing about itself', fingerprint);
    revocation = strictest(revocation, 'soft');
  }
  // A direct-key signature may speak of other things than use; where any says what the key is for, that one counts.
  const withFlags = statements.filter((signed) => signed.packet.keyFlags !== null);
  const statement = latest(withFlags.length > 0 ? withFlags : statements);
  const expires = expiryOf(primary, statement);
  const primarySigns = ((statement?.keyFlags?.[0] ?? 0) & SIGN_FLAG) !== 0;
  const keys: CertificateKey[] = [
    {
      fingerprint,
      isPrimary: true,
      created: primary.getCreationTime(),
      expires,
      revocation,
      canSign: primarySigns,
      refusal: primarySigns
        ? undefined
        : { code: 'signature-invalid', reason: 'the primary key has no flag that lets it sign' },
      material: materialOf(publicKey),
      publicKey,
      packet: primary,
    },
  ];
  const subkeys: Component[] = [];
  for (const subkey of parts.subkeys) {
    const judged = await judgeSubkey(subkey, primary);
    if (!judged) continue;
    subkeys.push(judged.component);
    keys.push(judged.key);
  }
  const certificate: Certificate = {
    fingerprint,
    userId: inert(userId ?? ''),
    created: primary.getCreationTime(),
    expires,
    revocation,
    bytes,
    keys,
  };
  return {
    certificate,
    parts: { primary: { packet: parts.primary.packet, signatures: ownSignatures }, users, subkeys },
  };
}

const isShortRsa = (key: KeyObject): boolean =>
  key.asymmetricKeyType === 'rsa' && (key.asymmetricKeyDetails?.modulusLength ?? 0) < MIN_RSA_BITS;

async function judgeSubkey(
  subkey: Component,
  primary: AnyKeyPacket,
): Promise<{ readonly key: CertificateKey; readonly component: Component } | undefined> {
  const { SignaturePacket } = await loadOpenpgp();
  const packet = await readKeyPacket(subkey.packet, false);
  if (!packet) return undefined;
  const data = { key: primary, bind: packet };
  const bindings: Signed[] = [];
  const revocations: Signed[] = [];
  let revocation: Revocation = 'none';
  for (const signed of subkey.signatures) {
    if (
      signed.type === SIGNATURE_TYPE.subkeyBinding &&
      (await verifies(signed, primary, signed.type, data, false))
    ) {
      bindings.push(signed);
    } else if (
      signed.type === SIGNATURE_TYPE.subkeyRevocation &&
      (await verifies(signed, primary, signed.type, data, true))
    ) {
      revocation = strictest(revocation, revocationOf(signed));
      revocations.push(signed);
    }
  }
  const binding = latest(bindings);
  if (!binding) return undefined;
  let publicKey: KeyObject | undefined;
  try {
    publicKey = keyPacketMaterial(subkey.packet.body);
  } catch {
    publicKey = undefined; // encryption subkeys may hold anything; they never sign
  }
  let refusal: CertificateKey['refusal'];
  if (!publicKey)
    refusal = { code: 'weak-algorithm', reason: 'the subkey has an algorithm that is not accepted' };
  else if (isShortRsa(publicKey))
    refusal = { code: 'weak-algorithm', reason: `the subkey has less than ${MIN_RSA_BITS} bits` };
  else if (((binding.keyFlags?.[0] ?? 0) & SIGN_FLAG) === 0) {
    refusal = { code: 'signature-invalid', reason: 'the subkey has no flag that lets it sign' };
  } else {
    // RFC 4880 section 5.2.1, type 0x19: without it anybody could adopt somebody else's key as a subkey.
    const back = binding.embeddedSignature;
    let backBody: Uint8Array | undefined;
    if (back && (back.signatureType as number) === SIGNATURE_TYPE.keyBinding && back.version === 4)
      backBody = back.write();
    const fresh = backBody === undefined ? undefined : readSignature(backBody, SignaturePacket);
    if (!fresh || !(await verifies(fresh, packet, SIGNATURE_TYPE.keyBinding, data, false))) {
      refusal = { code: 'signature-invalid', reason: 'the subkey has no valid back-signature' };
    }
  }
  return {
    key: {
      fingerprint: packet.getFingerprint(),
      isPrimary: false,
      created: packet.getCreationTime(),
      expires: expiryOf(packet, binding),
      revocation,
      canSign: refusal === undefined,
      refusal,
      material: publicKey ? materialOf(publicKey) : '',
      publicKey,
      packet,
    },
    component: { packet: subkey.packet, signatures: [...bindings, ...revocations] },
  };
}

/**
 * Reads one certificate.
 * @throws SealiftError `metadata-malformed` for anything but exactly one v4 public key that has certified itself;
 * `weak-algorithm` where its primary key has an algorithm or size that is not accepted
 */
export async function readCertificate(bytes: Uint8Array, limits: Limits): Promise<Certificate> {
  return (await judge(await takeApart(bytes, limits), bytes)).certificate;
}

/**
 * The union of two renderings of one certificate, reduced to what its primary key has signed: what either has
 * revoked stays revoked, and nothing that does not verify can push something out.
 */
async function merge(a: Uint8Array, b: Uint8Array, limits: Limits): Promise<Certificate> {
  const first = await judge(await takeApart(a, limits), a);
  const second = await judge(await takeApart(b, limits), b);
  const collect = (components: readonly Component[]): Component[] => {
    const byPacket = new Map<string, { packet: Packet; signatures: Map<string, Signed> }>();
    for (const { packet, signatures } of components) {
      const id = Buffer.from(packet.body).toString('latin1');
      const entry = byPacket.get(id) ?? { packet, signatures: new Map<string, Signed>() };
      byPacket.set(id, entry);
      for (const signed of signatures)
        entry.signatures.set(Buffer.from(signed.body).toString('latin1'), signed);
    }
    return [...byPacket.values()].map(({ packet, signatures }) => ({
      packet,
      signatures: [...signatures.values()],
    }));
  };
  const frame = ({ packet, signatures }: Component): Buffer =>
    Buffer.concat([
      framePacket(packet.tag, packet.body),
      ...signatures.map((s) => framePacket(PACKET.signature, s.body)),
    ]);
  const bytes = Buffer.concat([
    ...collect([first.parts.primary, second.parts.primary]).map(frame),
    ...collect([...first.parts.users, ...second.parts.users]).map(frame),
    ...collect([...first.parts.subkeys, ...second.parts.subkeys]).map(frame),
  ]);
  return await readCertificate(bytes, limits);
}

/**
 * The certificate with a revocation of its primary key put in, as `revocation/FPR.asc` holds it.
 * @param revocation armored; signatures only
 * @throws SealiftError `signature-invalid` where it does not revoke this key
 */
export async function revokeCertificate(
  certificate: Uint8Array,
  revocation: Uint8Array,
  limits: Limits,
): Promise<Uint8Array> {
  const { unarmor } = await loadOpenpgp();
  const refuse = (cause?: unknown) =>
    new SealiftError('signature-invalid', 'the revocation certificate does not revoke this key', { cause });
  let packets: readonly Packet[];
  try {
    const { data } = await unarmor(Buffer.from(revocation).toString('latin1'));
    const chunks: Uint8Array[] = [];
    if (data instanceof Uint8Array) chunks.push(data);
    else for await (const chunk of data as AsyncIterable<Uint8Array>) chunks.push(chunk);
    packets = splitPackets(Buffer.concat(chunks)).filter(({ tag }) => tag === PACKET.signature);
  } catch (cause) {
    throw refuse(cause);
  }
  const [primary, ...rest] = splitPackets(certificate);
  if (!primary || packets.length === 0) throw refuse();
  const bytes = Buffer.concat([primary, ...packets, ...rest].map(({ tag, body }) => framePacket(tag, body)));
  if ((await readCertificate(bytes, limits)).revocation === 'none') throw refuse();
  return bytes;
}

/** Certificates by the fingerprint of their primary key. */
export class CertificateStore {
  readonly #certificates = new Map<string, Certificate>();
  readonly #limits: Limits;

  constructor(limits: Limits) {
    this.#limits = limits;
  }

  /**
   * Adds a certificate; one that is there already is merged with it, so that a revocation once seen stays.
   * @throws SealiftError as {@link readCertificate}
   */
  async add(bytes: Uint8Array): Promise<Certificate> {
    const read = await readCertificate(bytes, this.#limits);
    const known = this.#certificates.get(read.fingerprint);
    const certificate =
      known === undefined || Buffer.from(known.bytes).equals(bytes)
        ? read
        : await merge(known.bytes, bytes, this.#limits);
    this.#certificates.set(certificate.fingerprint, certificate);
    return certificate;
  }

  get(fingerprint: string): Certificate | undefined {
    return this.#certificates.get(fingerprint);
  }

  get all(): ReadonlyMap<string, Certificate> {
    return this.#certificates;
  }
}
