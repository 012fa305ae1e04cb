/** The record of one admitted image (docs/state.md): what was let in under a name, and on whose word. */
import { createHash } from 'node:crypto';
import { checkFormat, type DocumentReader, parseDocument, SHA256_HEX, TIMESTAMP } from '../fs/document.ts';
import { canonicalJson } from '../json/canonical.ts';
import { subjectOfAttachedTag } from '../oci/attached-tag.ts';
import { type Digest, digestAlgorithm, digestHex, isDigest } from '../oci/digest.ts';
import { parseImageName } from '../oci/reference.ts';

export const RECORD_FORMAT = 1;
export const MAX_RECORD = 16 * 1024 * 1024;

/** What a verifier found when the image was let in. */
export interface EvidenceJudgement {
  readonly state: 'verified' | 'carried' | 'invalid' | 'expired';
  /** Why, in words. */
  readonly reason: string;
  /** Absent where it was not verified, like all below. */
  readonly format?: string | undefined;
  /** Fingerprint of the key that signed. */
  readonly signer?: string | undefined;
  readonly claimedName?: string | undefined;
  /** `YYYY-MM-DDTHH:MM:SSZ`, as is `expires`. */
  readonly signedAt?: string | undefined;
  readonly expires?: string | undefined;
}

const STATES = ['verified', 'carried', 'invalid', 'expired'] as const;

export interface EvidenceRecord {
  readonly digest: Digest;
  readonly mediaType: string;
  /** Empty where it has none. */
  readonly artifactType: string;
  /** Bytes of the evidence manifest. */
  readonly size: number;
  readonly subject: Digest;
  /** The tag that says what it is about: `sha256-HEX.sig`. */
  readonly tag?: string | undefined;
  /** Absent where nobody judged it: it is carried. */
  readonly judged?: EvidenceJudgement | undefined;
}

/** What was let in under a name, and on whose word. */
export interface ImageRecord {
  /** Full name: `docker.io/library/alpine:3.20`. */
  readonly name: string;
  readonly digest: Digest;
  readonly mediaType: string;
  /** Bytes of the manifest itself. */
  readonly size: number;
  /** Bytes of all distinct blobs of the image, without evidence. */
  readonly contentSize: number;
  readonly platforms: readonly string[];
  /** Children of an index that were not carried. */
  readonly omitted: readonly Digest[];
  readonly evidence: readonly EvidenceRecord[];
  /** The digest is that of no registry: it was made when the image was exported. */
  readonly digestMadeHere?: true | undefined;
  readonly collectionId: string;
  readonly bundleVersion: number;
  /** The role that answered for the name. */
  readonly role: string;
  /** `YYYY-MM-DDTHH:MM:SSZ`, as is `trustExpires`. */
  readonly importedAt: string;
  /** When the trust it was let in on expires. */
  readonly trustExpires: string;
}

/**
 * Evidence of `records` by the tag it had where it came from. Such a tag moves with every signature that is added: of
 * several, the one that was imported last.
 */
export function taggedEvidence(records: readonly ImageRecord[]): ReadonlyMap<string, EvidenceRecord> {
  const found = new Map<string, EvidenceRecord>();
  const age = (record: ImageRecord): string =>
    `${record.importedAt} ${String(record.bundleVersion).padStart(16, '0')} ${record.name}`;
  for (const { evidence } of [...records].sort((a, b) => (age(a) < age(b) ? -1 : 1))) {
    for (const piece of evidence) if (piece.tag !== undefined) found.set(piece.tag, piece);
  }
  return found;
}

/**
 * File name of the record of `name` at `digest`. The digest is part of it, so that the record of the old image stays
 * until index.json has moved to the new one.
 */
export function recordFileName(name: string, digest: Digest): string {
  const hash = createHash('sha256').update(name, 'utf8').digest('hex');
  return `${hash}-${digestAlgorithm(digest)}-${digestHex(digest)}.json`;
}

export function encodeRecord(record: ImageRecord): Buffer {
  return canonicalJson({
    formatVersion: RECORD_FORMAT,
    requires: [],
    name: record.name,
    digest: record.digest,
    mediaType: record.mediaType,
    size: record.size,
    contentSize: record.contentSize,
    platforms: [...record.platforms],
    omitted: [...record.omitted],
    evidence: record.evidence.map(({ digest, mediaType, artifactType, size, subject, tag, judged }) => ({
      digest,
      mediaType,
      artifactType,
      size,
      subject,
      ...(tag === undefined ? {} : { tag }),
      ...(judged === undefined ? {} : { judged: { ...judgementOf(judged) } }),
    })),
    ...(record.digestMadeHere === true ? { digestMadeHere: true } : {}),
    collection: record.collectionId,
    bundleVersion: record.bundleVersion,
    role: record.role,
    importedAt: record.importedAt,
    trustExpires: record.trustExpires,
  });
}

/** @throws SealiftError `state-damaged`, `format-unsupported` */
export function parseRecord(bytes: Uint8Array, file: string): ImageRecord {
  const document = parseDocument(bytes, {
    file,
    hint: 'import the bundle again; the image is not served until then',
    maxBytes: MAX_RECORD,
  });
  checkFormat(document, file, RECORD_FORMAT, []);
  const name = document.string('name');
  try {
    parseImageName(name);
  } catch {
    throw document.damaged('name is no full image name');
  }
  const asDigest = (text: string): Digest => {
    if (!isDigest(text)) throw document.damaged('malformed digest');
    return text;
  };
  return {
    name,
    digest: asDigest(document.string('digest')),
    mediaType: document.string('mediaType'),
    size: document.integer('size'),
    contentSize: document.integer('contentSize'),
    platforms: document.strings('platforms'),
    omitted: document.strings('omitted').map(asDigest),
    evidence: document.objects('evidence').map((item) => {
      const subject = asDigest(item.string('subject'));
      const tag = item.optionalString('tag');
      if (tag !== undefined && subjectOfAttachedTag(tag)?.subject !== subject)
        throw document.damaged('malformed tag of evidence');
      const found = item.optionalObject('judged');
      const judged = found && parseJudgement(found);
      return {
        digest: asDigest(item.string('digest')),
        mediaType: item.string('mediaType'),
        artifactType: item.string('artifactType'),
        size: item.integer('size'),
        subject,
        ...(tag === undefined ? {} : { tag }),
        ...(judged === undefined ? {} : { judged }),
      };
    }),
    ...(flag(document, 'digestMadeHere') ? { digestMadeHere: true as const } : {}),
    collectionId: document.string('collection', SHA256_HEX),
    bundleVersion: document.integer('bundleVersion'),
    role: document.string('role'),
    importedAt: document.string('importedAt', TIMESTAMP),
    trustExpires: document.string('trustExpires', TIMESTAMP),
  };
}

function parseJudgement(item: DocumentReader): EvidenceJudgement {
  const text = item.string('state');
  const state = STATES.find((one) => one === text);
  if (state === undefined) throw item.damaged('malformed state of evidence');
  return judgementOf({
    state,
    reason: item.string('reason'),
    format: item.optionalString('format'),
    signer: item.optionalString('signer'),
    claimedName: item.optionalString('claimedName'),
    signedAt: item.optionalString('signedAt', TIMESTAMP),
    expires: item.optionalString('expires', TIMESTAMP),
  });
}

/** In one order of fields, so that records can be compared as text. */
export function judgementOf({ state, reason, ...rest }: EvidenceJudgement): EvidenceJudgement {
  const { format, signer, claimedName, signedAt, expires } = rest;
  return {
    state,
    reason,
    ...(format === undefined ? {} : { format }),
    ...(signer === undefined ? {} : { signer }),
    ...(claimedName === undefined ? {} : { claimedName }),
    ...(signedAt === undefined ? {} : { signedAt }),
    ...(expires === undefined ? {} : { expires }),
  };
}

/** `true` or nothing. */
function flag(document: DocumentReader, key: string): boolean {
  const value = Object.hasOwn(document.value, key) ? document.value[key] : undefined;
  if (value === undefined || value === true) return value === true;
  throw document.damaged(`${key} is neither true nor absent`);
}
