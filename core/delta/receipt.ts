/** Receipts (docs/receipts-and-deltas.md, "The receipt"): written by a gate, read as hostile input on the other side. */
import { createHmac } from 'node:crypto';
import { open } from 'node:fs/promises';
import { inert, isSealiftError, SealiftError } from '../errors.ts';
import { checkFormat, type DocumentReader, parseDocument, SHA256_HEX, TIMESTAMP } from '../fs/document.ts';
import { readFileLimited } from '../fs/durable.ts';
import { canonicalJson, parseCanonicalJson } from '../json/canonical.ts';
import type { JsonObject } from '../json/strict.ts';
import { type GateKey, gateTufKey, verifyGateSignature } from '../trust/gate-key.ts';
import { keyIdOf } from '../trust/keys.ts';
import { GENERATOR } from '../version.ts';
import { type ImportRecord, REMEMBERED_ARRIVALS } from './arrivals.ts';

export const RECEIPT_FORMAT = 1;
export const RECEIPT_MEDIA_TYPE = 'application/vnd.sealift.receipt.v1+json';
const MAX_RECEIPT = 32 * 1024 * 1024;
export const MAX_LIFETIME = 400 * 24 * 60 * 60 * 1000;
/** Bytes of a keyed hash that are told. */
const PREFIX = 16;
const MAX_PREFIXES = 1_000_000;
const MAX_SCOPES = 10_000;
const BEGINNING = '{"signatures":[';

/** What a receipt says. */
export interface ReceiptContent {
  readonly number: number;
  readonly collection: { readonly id: string; readonly name: string };
  readonly created: string;
  readonly expires: string;
  readonly pin: {
    readonly fingerprint: string;
    readonly rootVersion: number;
    readonly scopes: readonly string[];
  };
  readonly root: { readonly version: number; readonly fingerprint: string };
  /** The last accepted bundle; absent before the first. */
  readonly accepted?:
    | {
        readonly version: number;
        readonly expires: string;
        /** SHA-256 of its sealift.json. */
        readonly manifest: string;
        readonly clockFloor: string;
      }
    | undefined;
  readonly imports: readonly ImportRecord[];
  /** SHA-256 of the gate's policy; absent where none is set. */
  readonly policy?: string | undefined;
  /** Head of the audit log before the receipt was entered. */
  readonly auditHead: string;
  /** 32 bytes, lower-case hex. */
  readonly nonce: string;
  /** Keyed hashes, see {@link keyedHash}. */
  readonly images: ReadonlySet<string>;
  readonly blobs: ReadonlySet<string>;
  /** Of a request: the bundle whose base was missing, and how much of it. */
  readonly request?:
    | {
        readonly version: number;
        readonly images: number;
        readonly blobs: number;
        readonly bytes: number;
      }
    | undefined;
}

export interface Receipt extends ReceiptContent {
  /** Key id of the gate that signed: the fingerprint to pin. */
  readonly gate: string;
  readonly generator: string;
}

/** What a receipt lists of `image NAME@DIGEST` or `blob DIGEST`: it can be matched with the nonce, and not be read. */
export function keyedHash(nonce: string, kind: 'image' | 'blob', text: string): string {
  return createHmac('sha256', Buffer.from(nonce, 'hex'))
    .update(`${kind} ${text}`, 'utf8')
    .digest()
    .subarray(0, PREFIX)
    .toString('base64');
}

function joined(hashes: ReadonlySet<string>): string {
  const sorted = [...hashes].map((hash) => Buffer.from(hash, 'base64')).sort(Buffer.compare);
  return Buffer.concat(sorted).toString('base64');
}

/** The bytes of a signed receipt. */
export function encodeReceipt(content: ReceiptContent, gate: GateKey): Buffer {
  const { images, blobs, accepted, policy, request, ...rest } = content;
  const signed = {
    formatVersion: RECEIPT_FORMAT,
    mediaType: RECEIPT_MEDIA_TYPE,
    requires: [],
    features: [],
    generator: GENERATOR,
    gate: gate.key,
    ...rest,
    ...(accepted ? { accepted } : {}),
    ...(policy === undefined ? {} : { policy }),
    ...(request ? { request } : {}),
    images: joined(images),
    blobs: joined(blobs),
  };
  const sig = gate.sign(canonicalJson(signed));
  const bytes = canonicalJson({ signatures: [{ keyid: gate.keyId, sig }], signed });
  // What cannot be read on the other side must not leave this one.
  parseReceipt(bytes, 'the new receipt');
  return bytes;
}

/** True where the file begins as receipts do and bundles cannot. */
export async function isReceiptFile(file: string): Promise<boolean> {
  const handle = await open(file, 'r').catch(() => undefined);
  if (!handle) return false;
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(BEGINNING.length), 0, BEGINNING.length, 0);
    return buffer.subarray(0, bytesRead).toString('latin1') === BEGINNING;
  } catch {
    return false; // a directory
  } finally {
    await handle.close();
  }
}

/** @throws SealiftError `receipt-invalid`, `signature-invalid`, `bundle-not-found` */
export async function readReceipt(file: string): Promise<Receipt> {
  const subject = inert(file, 4096);
  const bytes = await readFileLimited(file, MAX_RECEIPT).catch((cause: unknown) => {
    throw new SealiftError('receipt-invalid', 'it cannot be read, or is too large for a receipt', {
      subject,
      cause,
    });
  });
  if (!bytes) throw new SealiftError('bundle-not-found', 'there is nothing at that path', { subject });
  return parseReceipt(bytes, file);
}

/**
 * Reads a receipt and checks that the key it names has signed it; whether that is the key of a gate one knows is for
 * the caller.
 * @throws SealiftError `receipt-invalid`, `signature-invalid`, `format-unsupported`
 */
export function parseReceipt(bytes: Uint8Array, file: string): Receipt {
  const subject = inert(file, 4096);
  let receipt: Receipt;
  let signature: { readonly keyid: string; readonly sig: string };
  let signedBytes: Buffer;
  let keyPublic: string;
  try {
    const value = parseCanonicalJson(bytes, { what: subject, maxBytes: MAX_RECEIPT, maxDepth: 8 });
    const document = parseDocument(bytes, { file: subject, hint: '', maxBytes: MAX_RECEIPT });
    const signed = document.object('signed');
    checkFormat(signed, subject, RECEIPT_FORMAT, []);
    if (signed.string('mediaType') !== RECEIPT_MEDIA_TYPE) throw signed.damaged('mediaType is another one');
    const signatures = document.objects('signatures');
    const [only] = signatures;
    if (!only || signatures.length > 1) throw document.damaged('want exactly one signature');
    signature = {
      keyid: only.string('keyid', SHA256_HEX),
      sig: only.string('sig', /^[0-9a-f]{128}$/),
    };
    const key = signed.object('gate');
    keyPublic = key.object('keyval').string('public', SHA256_HEX);
    if (key.string('keytype') !== 'ed25519' || key.string('scheme') !== 'ed25519')
      throw key.damaged('gate is no ed25519 key');
    receipt = {
      ...readContent(signed),
      gate: keyIdOf(gateTufKey(keyPublic)),
      generator: signed.string('generator'),
    };
    signedBytes = canonicalJson((value as JsonObject)['signed']);
  } catch (error) {
    if (!isSealiftError(error) || error.code === 'format-unsupported') throw error;
    throw new SealiftError('receipt-invalid', `it is no receipt: ${error.message}`, {
      subject,
      hint: 'copy it again; sealift receipt -o FILE on the sealed side makes one',
      cause: error,
    });
  }
  const key = gateTufKey(keyPublic);
  if (signature.keyid !== receipt.gate || !verifyGateSignature(key, signedBytes, signature.sig)) {
    throw new SealiftError('signature-invalid', 'the receipt is not as the gate signed it', {
      subject,
      hint: 'it was damaged or tampered with on its way; copy it again',
    });
  }
  return receipt;
}

function readContent(signed: DocumentReader): ReceiptContent {
  const collection = signed.object('collection');
  const pin = signed.object('pin');
  const root = signed.object('root');
  const accepted = signed.optionalObject('accepted');
  const request = signed.optionalObject('request');
  const created = signed.string('created', TIMESTAMP);
  const expires = signed.string('expires', TIMESTAMP);
  const lifetime = Date.parse(expires) - Date.parse(created);
  if (!(lifetime > 0 && lifetime <= MAX_LIFETIME))
    throw signed.damaged('it ends before it begins, or after more than 400 days');
  const scopes = pin.strings('scopes');
  if (scopes.length === 0 || scopes.length > MAX_SCOPES) throw pin.damaged('no scopes, or too many');
  const imports = signed.objects('imports');
  if (imports.length > REMEMBERED_ARRIVALS) throw signed.damaged('too many imports');
  return {
    number: signed.integer('number'),
    collection: { id: collection.string('id', SHA256_HEX), name: collection.string('name') },
    created,
    expires,
    pin: {
      fingerprint: pin.string('fingerprint', SHA256_HEX),
      rootVersion: pin.integer('rootVersion'),
      scopes,
    },
    root: { version: root.integer('version'), fingerprint: root.string('fingerprint', SHA256_HEX) },
    accepted: accepted && {
      version: accepted.integer('version'),
      expires: accepted.string('expires', TIMESTAMP),
      manifest: accepted.string('manifest', SHA256_HEX),
      clockFloor: accepted.string('clockFloor', TIMESTAMP),
    },
    imports: imports.map((item) => ({
      version: item.integer('version'),
      manifest: item.string('manifest', SHA256_HEX),
      at: item.string('at', TIMESTAMP),
      images: item.integer('images'),
      admitted: item.integer('admitted'),
      refused: item.integer('refused'),
    })),
    policy: signed.optionalString('policy', SHA256_HEX),
    auditHead: signed.string('auditHead', SHA256_HEX),
    nonce: signed.string('nonce', SHA256_HEX),
    images: hashesAt(signed, 'images'),
    blobs: hashesAt(signed, 'blobs'),
    request: request && {
      version: request.integer('version'),
      images: request.integer('images'),
      blobs: request.integer('blobs'),
      bytes: request.integer('bytes'),
    },
  };
}

/** Prefixes one behind the other: whole ones, ascending, none twice, in the one base64 there is. */
function hashesAt(document: DocumentReader, key: string): ReadonlySet<string> {
  const text = document.string(key);
  const bytes = Buffer.from(text, 'base64');
  if (bytes.toString('base64') !== text || bytes.length % PREFIX !== 0)
    throw document.damaged(`${key} is no list of keyed hashes`);
  if (bytes.length / PREFIX > MAX_PREFIXES) throw document.damaged(`${key} has too many keyed hashes`);
  const hashes = new Set<string>();
  for (let at = 0; at < bytes.length; at += PREFIX) {
    const hash = bytes.subarray(at, at + PREFIX);
    if (at > 0 && Buffer.compare(bytes.subarray(at - PREFIX, at), hash) >= 0)
      throw document.damaged(`${key} is not ascending`);
    hashes.add(hash.toString('base64'));
  }
  return hashes;
}

/** @throws SealiftError `receipt-expired` */
export function assertCurrent(receipt: Receipt, now: Date, file: string): void {
  if (Date.parse(receipt.expires) > now.getTime()) return;
  throw new SealiftError('receipt-expired', `the receipt has expired: got ${receipt.expires}`, {
    subject: inert(file, 4096),
    got: receipt.expires,
    want: `later than ${now.toISOString().slice(0, 19)}Z`,
    hint: 'have a new one made on the sealed side: sealift receipt -o FILE; layers that it listed may be gone',
  });
}
