/** `sealift.json`, the bundle manifest (docs/bundle-format.md, "sealift.json"), and the table of entries it must follow. */
import { inert, SealiftError } from '../errors.ts';
import { canonicalJson, parseCanonicalJson } from '../json/canonical.ts';
import type { JsonObject, JsonValue } from '../json/strict.ts';
import { subjectOfAttachedTag } from '../oci/attached-tag.ts';
import { type Digest, parseDigest } from '../oci/digest.ts';
import { parseImageName } from '../oci/reference.ts';
import { END_BLOCKS, headerSizeOf, MAX_MTIME, paddingOf } from './tar.ts';

export const BUNDLE_FORMAT_VERSION = 1;
export const BUNDLE_MEDIA_TYPE = 'application/vnd.sealift.bundle.v1+json';
/** Required features this reader knows. */
export const KNOWN_FEATURES: readonly string[] = ['delta', 'tagged-evidence', 'omitted-evidence'];

/** What a blob is used as; of several uses the first in this order. */
export const BLOB_KINDS = ['manifest', 'config', 'evidence', 'layer'] as const;
export type BlobKind = (typeof BLOB_KINDS)[number];

export interface BundleEntry {
  readonly name: string;
  /** Bytes; absent for entries that are signed or computed later. */
  readonly size?: number | undefined;
  /** Lower-case hex; absent like `size`, and for blobs named by sha512. */
  readonly sha256?: string | undefined;
  /** Of blobs only. */
  readonly kind?: BlobKind | undefined;
}

export interface OmittedPart {
  readonly digest: Digest;
  readonly platform?: string | undefined;
  /** `evidence`: an attestation that is part of an index, left out by choice. */
  readonly reason: 'platform' | 'foreign' | 'evidence';
}

/** Whether attestations that are part of an index were left out of an image. */
export function omitsEvidence({ omitted }: Pick<BundleImage, 'omitted'>): boolean {
  return omitted.some(({ reason }) => reason === 'evidence');
}

export interface BundleImage {
  readonly name: string;
  readonly digest: Digest;
  readonly mediaType: string;
  /** Bytes of the manifest. */
  readonly size: number;
  readonly platforms: readonly string[];
  readonly omitted: readonly OmittedPart[];
  /** Bytes of all distinct blobs of the image without evidence. */
  readonly contentSize: number;
  readonly evidence: readonly Digest[];
  readonly digestMadeHere?: true | undefined;
}

export interface BundleEvidence {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly artifactType: string;
  readonly size: number;
  readonly subject: Digest;
  /** How it was found: a token. */
  readonly via: string;
  /** The tag that says what it is about: `sha256-HEX.sig`. Its manifest then needs no `subject`. */
  readonly tag?: string | undefined;
  /** The carrier found it good when the bundle was made; `signer` is who signed it. */
  readonly verified?: { readonly signer: string } | undefined;
}

export interface MissingBlob {
  readonly name: string;
  readonly size: number;
  readonly sha256?: string | undefined;
}

export interface BundleBase {
  readonly collection: string;
  readonly version: number;
  readonly missing: readonly MissingBlob[];
}

export interface BundleManifest {
  readonly formatVersion: 1;
  readonly mediaType: typeof BUNDLE_MEDIA_TYPE;
  readonly generator: string;
  readonly requires: readonly string[];
  readonly features: readonly string[];
  readonly collection: { readonly id: string; readonly name: string };
  readonly version: number;
  /** `YYYY-MM-DDTHH:MM:SSZ` */
  readonly created: string;
  readonly images: readonly BundleImage[];
  readonly evidence: readonly BundleEvidence[];
  readonly entries: readonly BundleEntry[];
  readonly base?: BundleBase | undefined;
}

/** What an entry is, from its name alone. */
export type EntryName =
  | { readonly type: 'oci-layout' | 'readme' | 'timestamp' | 'manifest' | 'sha256sums' | 'sha512sums' }
  | { readonly type: 'sha256sums-signature' | 'index' | 'docker-manifest' }
  | { readonly type: 'certificate'; readonly fingerprint: string }
  | { readonly type: 'root' | 'snapshot' | 'targets'; readonly version: number }
  | { readonly type: 'delegated'; readonly version: number; readonly role: string }
  | { readonly type: 'blob'; readonly algorithm: 'sha256' | 'sha512'; readonly hex: string };

export type EntryType = EntryName['type'];

const FIXED_NAMES: ReadonlyMap<string, EntryName> = new Map([
  ['oci-layout', { type: 'oci-layout' }],
  ['README.txt', { type: 'readme' }],
  ['metadata/timestamp.json', { type: 'timestamp' }],
  ['sealift.json', { type: 'manifest' }],
  ['SHA256SUMS', { type: 'sha256sums' }],
  ['SHA512SUMS', { type: 'sha512sums' }],
  ['SHA256SUMS.asc', { type: 'sha256sums-signature' }],
  ['index.json', { type: 'index' }],
  ['manifest.json', { type: 'docker-manifest' }],
]);

/** Position of each kind of entry in the archive. */
export const ENTRY_ORDER: Readonly<Record<EntryType, number>> = {
  'oci-layout': 0,
  readme: 1,
  certificate: 2,
  root: 3,
  timestamp: 4,
  snapshot: 5,
  targets: 6,
  delegated: 7,
  manifest: 8,
  sha256sums: 9,
  sha512sums: 10,
  'sha256sums-signature': 11,
  index: 12,
  'docker-manifest': 13,
  blob: 14,
};

/** Entries every bundle has. */
export const NEEDED_ENTRIES: readonly EntryType[] = [
  'oci-layout',
  'readme',
  'root',
  'timestamp',
  'snapshot',
  'targets',
  'delegated',
  'manifest',
  'sha256sums',
  'index',
];

/** Kinds of entries of which there may be several. */
export const REPEATED_ENTRIES: ReadonlySet<EntryType> = new Set(['certificate', 'root', 'delegated', 'blob']);

const HEX_64 = /^[0-9a-f]{64}$/;
const BLOB_NAME = /^blobs\/(?:(sha256)\/([0-9a-f]{64})|(sha512)\/([0-9a-f]{128}))$/;
const CERTIFICATE_NAME = /^metadata\/certificates\/([0-9a-f]{40})\.pgp$/;
const METADATA_NAME = /^metadata\/([1-9][0-9]{0,15})\.([a-z0-9][a-z0-9._-]{0,127})\.json$/;
const CREATED = /^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$/;
const PLATFORM = /^[A-Za-z0-9._-]+\/[A-Za-z0-9._-]+(?:\/[A-Za-z0-9._-]+)?$/;

/** What the entry called `name` is; undefined where the format has no such name. */
export function parseEntryName(name: string): EntryName | undefined {
  const fixed = FIXED_NAMES.get(name);
  if (fixed) return fixed;
  const blob = BLOB_NAME.exec(name);
  if (blob) {
    return blob[1] === undefined
      ? { type: 'blob', algorithm: 'sha512', hex: blob[4] ?? '' }
      : { type: 'blob', algorithm: 'sha256', hex: blob[2] ?? '' };
  }
  const certificate = CERTIFICATE_NAME.exec(name);
  if (certificate) return { type: 'certificate', fingerprint: certificate[1] ?? '' };
  const metadata = METADATA_NAME.exec(name);
  if (!metadata) return undefined;
  const version = Number(metadata[1]);
  const role = metadata[2] ?? '';
  if (!Number.isSafeInteger(version) || role === 'timestamp') return undefined;
  if (role === 'root' || role === 'snapshot' || role === 'targets') return { type: role, version };
  return { type: 'delegated', version, role };
}

/** True for entries that the manifest lists by name only, since they are signed or computed after it. */
export function isLateEntry(entry: EntryName): boolean {
  switch (entry.type) {
    case 'timestamp':
    case 'snapshot':
    case 'manifest':
    case 'sha256sums':
    case 'sha512sums':
    case 'sha256sums-signature':
      return true;
    case 'delegated':
      return entry.role === 'bundles';
    default:
      return false;
  }
}

/** Seconds since 1970 of a `YYYY-MM-DDTHH:MM:SSZ`; undefined where it is none, or none that a header can hold (after 2242). */
export function createdSeconds(created: string): number | undefined {
  if (!CREATED.test(created)) return undefined;
  const milliseconds = Date.parse(created);
  if (!Number.isFinite(milliseconds) || milliseconds < 0 || milliseconds / 1000 > MAX_MTIME) return undefined;
  // Date.parse lets some dates run over (24:00:00); the text must come back as it went in.
  const again = new Date(milliseconds).toISOString().replace('.000Z', 'Z');
  return again === created ? milliseconds / 1000 : undefined;
}

/** `date` as `YYYY-MM-DDTHH:MM:SSZ`, the fraction of a second cut off. */
export function formatCreated(date: Date): string {
  return `${date.toISOString().slice(0, 19)}Z`;
}

function refuse(path: string, got: string, want: string): SealiftError {
  return new SealiftError(
    'bundle-not-canonical',
    `bundle manifest: ${path}: got ${inert(got, 120)}, want ${want}`,
    {
      subject: 'sealift.json',
      got: inert(got, 120),
      want,
    },
  );
}

function show(value: JsonValue | undefined): string {
  return value === undefined ? 'nothing' : JSON.stringify(value);
}

function objectAt(value: JsonValue | undefined, path: string): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw refuse(path, show(value), 'an object');
  }
  return value as JsonObject;
}

function arrayAt(value: JsonValue | undefined, path: string): readonly JsonValue[] {
  if (!Array.isArray(value)) throw refuse(path, show(value), 'an array');
  return value;
}

function stringAt(value: JsonValue | undefined, path: string): string {
  if (typeof value !== 'string') throw refuse(path, show(value), 'a string');
  return value;
}

function stringsAt(value: JsonValue | undefined, path: string): readonly string[] {
  return arrayAt(value, path).map((item, i) => stringAt(item, `${path}[${i}]`));
}

function integerAt(value: JsonValue | undefined, path: string, least = 0): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < least) {
    throw refuse(path, show(value), `an integer of at least ${least}`);
  }
  return value;
}

function hexAt(value: JsonValue | undefined, path: string): string {
  if (typeof value !== 'string' || !HEX_64.test(value))
    throw refuse(path, show(value), '64 lower-case hex digits');
  return value;
}

function oneOf<T extends string>(value: JsonValue | undefined, path: string, choices: readonly T[]): T {
  const found = choices.find((choice) => choice === value);
  if (found === undefined) throw refuse(path, show(value), choices.join(' or '));
  return found;
}

function tokenAt(value: JsonValue | undefined, path: string): string {
  const text = stringAt(value, path);
  if (!/^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$/.test(text))
    throw refuse(path, text, 'a token of lower-case letters, digits and dashes');
  return text;
}

function digestAt(value: JsonValue | undefined, path: string): Digest {
  const text = stringAt(value, path);
  try {
    return parseDigest(text);
  } catch {
    throw refuse(path, text, 'a digest');
  }
}

function checkAscending(names: readonly string[], path: string): void {
  for (let i = 1; i < names.length; i += 1) {
    const [before, here] = [names[i - 1] ?? '', names[i] ?? ''];
    if (!(before < here))
      throw refuse(`${path}[${i}]`, here, `more than ${inert(before)}: ascending, none twice`);
  }
}

function checkDistinct(values: readonly string[], path: string): void {
  const seen = new Set<string>();
  for (const value of values) {
    if (seen.has(value)) throw refuse(path, `${value} twice`, 'each once');
    seen.add(value);
  }
}

function parseImage(value: JsonValue, path: string): BundleImage {
  const image = objectAt(value, path);
  const name = stringAt(image['name'], `${path}.name`);
  try {
    parseImageName(name);
  } catch {
    throw refuse(`${path}.name`, name, 'a full image name');
  }
  const platforms = stringsAt(image['platforms'], `${path}.platforms`);
  for (const platform of platforms) {
    if (!PLATFORM.test(platform)) throw refuse(`${path}.platforms`, platform, 'os/arch or os/arch/variant');
  }
  checkAscending(platforms, `${path}.platforms`);
  const omitted = arrayAt(image['omitted'], `${path}.omitted`).map((item, i): OmittedPart => {
    const at = `${path}.omitted[${i}]`;
    const part = objectAt(item, at);
    const platform =
      part['platform'] === undefined ? undefined : stringAt(part['platform'], `${at}.platform`);
    return {
      digest: digestAt(part['digest'], `${at}.digest`),
      ...(platform === undefined ? {} : { platform }),
      reason: oneOf(part['reason'], `${at}.reason`, ['platform', 'foreign', 'evidence'] as const),
    };
  });
  const evidence = arrayAt(image['evidence'], `${path}.evidence`).map((item, i) =>
    digestAt(item, `${path}.evidence[${i}]`),
  );
  checkDistinct(evidence, `${path}.evidence`);
  const madeHere = image['digestMadeHere'];
  if (madeHere !== undefined && madeHere !== true) {
    throw refuse(`${path}.digestMadeHere`, show(madeHere), 'true, or nothing');
  }
  return {
    name,
    digest: digestAt(image['digest'], `${path}.digest`),
    mediaType: stringAt(image['mediaType'], `${path}.mediaType`),
    size: integerAt(image['size'], `${path}.size`),
    platforms,
    omitted,
    contentSize: integerAt(image['contentSize'], `${path}.contentSize`),
    evidence,
    ...(madeHere === true ? { digestMadeHere: true as const } : {}),
  };
}

function parseEvidence(value: JsonValue, path: string): BundleEvidence {
  const evidence = objectAt(value, path);
  const subject = digestAt(evidence['subject'], `${path}.subject`);
  const tag = evidence['tag'] === undefined ? undefined : stringAt(evidence['tag'], `${path}.tag`);
  if (tag !== undefined && subjectOfAttachedTag(tag)?.subject !== subject)
    throw refuse(`${path}.tag`, tag, `a tag that is about ${subject}`);
  const statement =
    evidence['verified'] === undefined ? undefined : objectAt(evidence['verified'], `${path}.verified`);
  const signer = statement && stringAt(statement['signer'], `${path}.verified.signer`);
  return {
    digest: digestAt(evidence['digest'], `${path}.digest`),
    mediaType: stringAt(evidence['mediaType'], `${path}.mediaType`),
    artifactType: stringAt(evidence['artifactType'], `${path}.artifactType`),
    size: integerAt(evidence['size'], `${path}.size`),
    subject,
    via: tokenAt(evidence['via'], `${path}.via`),
    ...(tag === undefined ? {} : { tag }),
    ...(signer === undefined ? {} : { verified: { signer } }),
  };
}

/** Name, size and hash of a blob: the hash is in the name, so a listed SHA-256 must be that one. */
function checkBlobHash(
  entry: EntryName & { type: 'blob' },
  sha256: JsonValue | undefined,
  path: string,
): void {
  if (entry.algorithm === 'sha512') {
    if (sha256 !== undefined) throw refuse(`${path}.sha256`, show(sha256), 'nothing: the name is a sha512');
  } else if (hexAt(sha256, `${path}.sha256`) !== entry.hex) {
    throw refuse(`${path}.sha256`, show(sha256), `${entry.hex} as the name says`);
  }
}

function parseEntry(value: JsonValue, path: string): { entry: BundleEntry; parsed: EntryName } {
  const object = objectAt(value, path);
  const name = stringAt(object['name'], `${path}.name`);
  const parsed = parseEntryName(name);
  if (!parsed) throw refuse(`${path}.name`, name, 'a name of the bundle format');
  const { size, sha256, kind } = object;
  if (parsed.type !== 'blob' && kind !== undefined) {
    throw refuse(`${path}.kind`, show(kind), 'nothing: only blobs have a kind');
  }
  if (isLateEntry(parsed)) {
    if (size !== undefined) throw refuse(`${path}.size`, show(size), 'nothing: the file is made later');
    if (sha256 !== undefined) throw refuse(`${path}.sha256`, show(sha256), 'nothing: the file is made later');
    return { entry: { name }, parsed };
  }
  const bytes = integerAt(size, `${path}.size`);
  if (parsed.type !== 'blob') {
    return { entry: { name, size: bytes, sha256: hexAt(sha256, `${path}.sha256`) }, parsed };
  }
  checkBlobHash(parsed, sha256, path);
  const use = oneOf(kind, `${path}.kind`, BLOB_KINDS);
  const hash = parsed.algorithm === 'sha256' ? { sha256: parsed.hex } : {};
  return { entry: { name, size: bytes, ...hash, kind: use }, parsed };
}

/** The whole table "Entries, in this order", over the listed entries. */
function checkEntryOrder(
  entries: readonly BundleEntry[],
  parsed: readonly EntryName[],
  version: number,
  path: string,
): void {
  const seen = new Set<EntryType>();
  const roles = new Set<string>();
  let roots = 0;
  let sha512 = false;
  for (const [i, entry] of parsed.entries()) {
    const at = `${path}[${i}]`;
    const { name, kind } = entries[i] ?? { name: '' };
    const before = parsed[i - 1];
    const previous = entries[i - 1];
    if (before && previous) {
      const rise = ENTRY_ORDER[entry.type] - ENTRY_ORDER[before.type];
      if (rise < 0 || (rise === 0 && !REPEATED_ENTRIES.has(entry.type))) {
        throw refuse(at, name, `an entry that may follow ${inert(previous.name)}`);
      }
      const sameGroup = (kind === 'layer') === (previous.kind === 'layer');
      if (rise === 0 && entry.type === 'blob' && previous.kind === 'layer' && !sameGroup) {
        throw refuse(at, name, 'no manifest, config or evidence behind the first layer');
      }
      const ordered = entry.type === 'certificate' || (entry.type === 'blob' && sameGroup);
      if (rise === 0 && ordered && !(previous.name < name)) {
        throw refuse(at, name, `more than ${inert(previous.name)}: ascending, none twice`);
      }
    }
    if (entry.type === 'root') {
      roots += 1;
      if (entry.version !== roots)
        throw refuse(at, name, `metadata/${roots}.root.json: every root since the first`);
    }
    if (entry.type === 'snapshot' || (entry.type === 'delegated' && entry.role === 'bundles')) {
      if (entry.version !== version) throw refuse(at, name, `version ${version}, the bundle's`);
    }
    if (entry.type === 'delegated') {
      if (roles.has(entry.role)) throw refuse(at, name, 'each role once');
      roles.add(entry.role);
    }
    if (entry.type === 'blob' && entry.algorithm === 'sha512') sha512 = true;
    seen.add(entry.type);
  }
  for (const type of NEEDED_ENTRIES) {
    if (!seen.has(type)) throw refuse(path, 'a list without it', `the entry ${type}`);
  }
  if (!roles.has('bundles')) throw refuse(path, 'a list without it', 'the metadata of the role bundles');
  if (seen.has('sha512sums') !== sha512) {
    throw refuse(
      path,
      seen.has('sha512sums') ? 'SHA512SUMS' : 'none',
      'SHA512SUMS exactly where a blob is named by sha512',
    );
  }
  // The groups are ascending each; a blob in both would still be there twice.
  checkDistinct(
    entries.map(({ name }) => name),
    path,
  );
}

function parseBase(value: JsonValue, path: string, entries: ReadonlySet<string>): BundleBase {
  const base = objectAt(value, path);
  const missing = arrayAt(base['missing'], `${path}.missing`).map((item, i): MissingBlob => {
    const at = `${path}.missing[${i}]`;
    const blob = objectAt(item, at);
    const name = stringAt(blob['name'], `${at}.name`);
    const parsed = parseEntryName(name);
    if (parsed?.type !== 'blob') throw refuse(`${at}.name`, name, 'the name of a blob');
    if (entries.has(name)) throw refuse(`${at}.name`, name, 'a blob that is not in the archive');
    checkBlobHash(parsed, blob['sha256'], at);
    const hash = parsed.algorithm === 'sha256' ? { sha256: parsed.hex } : {};
    return { name, size: integerAt(blob['size'], `${at}.size`), ...hash };
  });
  checkAscending(
    missing.map(({ name }) => name),
    `${path}.missing`,
  );
  return {
    collection: hexAt(base['collection'], `${path}.collection`),
    version: integerAt(base['version'], `${path}.version`, 1),
    missing,
  };
}

function checkTotal(entries: readonly BundleEntry[], path: string): void {
  let total = END_BLOCKS.length;
  for (const { name, size = 0 } of entries) {
    total += headerSizeOf(name) + size + paddingOf(size);
    if (!Number.isSafeInteger(total)) throw refuse(path, 'sizes of more than 2^53 bytes together', 'less');
  }
}

export interface ParseManifestLimits {
  /** Bytes of the file. */
  readonly bundleFile: number;
  readonly jsonDepth: number;
  /** Entries listed. */
  readonly entries: number;
}

/**
 * Reads `sealift.json` strictly. The caller has checked its hash and length against the `bundles` role.
 * @throws SealiftError `format-unsupported` for another format version or an unknown required feature, by name;
 * `bundle-not-canonical` for anything that is not what the format prescribes; `bundle-too-large` for too many
 * entries; json-… for what is not JSON
 */
export function parseBundleManifest(
  bytes: Uint8Array,
  limits: ParseManifestLimits,
  knownFeatures: readonly string[] = KNOWN_FEATURES,
): BundleManifest {
  const root = objectAt(
    parseCanonicalJson(bytes, {
      what: 'sealift.json',
      maxBytes: limits.bundleFile,
      maxDepth: limits.jsonDepth,
      code: 'bundle-not-canonical',
    }),
    'the document',
  );
  const formatVersion = integerAt(root['formatVersion'], 'formatVersion', 1);
  if (formatVersion !== BUNDLE_FORMAT_VERSION) {
    throw new SealiftError(
      'format-unsupported',
      `bundle format: got version ${formatVersion}, want version 1`,
      {
        subject: 'sealift.json',
        got: formatVersion,
        want: BUNDLE_FORMAT_VERSION,
        hint: 'use a newer sealift',
      },
    );
  }
  const requires = stringsAt(root['requires'], 'requires');
  const unknown = requires.find((feature) => !knownFeatures.includes(feature));
  if (unknown !== undefined) {
    throw new SealiftError(
      'format-unsupported',
      `the bundle needs the feature ${inert(unknown)}, which is not known here`,
      {
        subject: 'sealift.json',
        got: inert(unknown),
        hint: 'use a newer sealift',
      },
    );
  }
  checkDistinct(requires, 'requires');
  const features = stringsAt(root['features'], 'features');
  checkDistinct(features, 'features');
  const mediaType = oneOf(root['mediaType'], 'mediaType', [BUNDLE_MEDIA_TYPE] as const);
  const collection = objectAt(root['collection'], 'collection');
  const version = integerAt(root['version'], 'version', 1);
  const created = stringAt(root['created'], 'created');
  if (createdSeconds(created) === undefined) throw refuse('created', created, 'YYYY-MM-DDTHH:MM:SSZ');

  const listed = arrayAt(root['entries'], 'entries');
  if (listed.length > limits.entries) {
    throw new SealiftError(
      'bundle-too-large',
      `too many entries: got ${listed.length}, want at most ${limits.entries}`,
      {
        subject: 'sealift.json',
        got: listed.length,
        want: limits.entries,
      },
    );
  }
  const both = listed.map((item, i) => parseEntry(item, `entries[${i}]`));
  const entries = both.map(({ entry }) => entry);
  checkEntryOrder(
    entries,
    both.map(({ parsed }) => parsed),
    version,
    'entries',
  );
  checkTotal(entries, 'entries');

  const images = arrayAt(root['images'], 'images').map((item, i) => parseImage(item, `images[${i}]`));
  checkAscending(
    images.map(({ name }) => name),
    'images',
  );
  const evidence = arrayAt(root['evidence'], 'evidence').map((item, i) =>
    parseEvidence(item, `evidence[${i}]`),
  );
  checkAscending(
    evidence.map(({ digest }) => digest),
    'evidence',
  );
  if (evidence.some(({ tag }) => tag !== undefined) && !requires.includes('tagged-evidence'))
    throw refuse('requires', 'nothing of it', 'tagged-evidence, where evidence has tags');
  if (images.some(omitsEvidence) && !requires.includes('omitted-evidence'))
    throw refuse('requires', 'nothing of it', 'omitted-evidence, where an attestation is left out');
  const known = new Set<string>(evidence.map(({ digest }) => digest));
  for (const [i, image] of images.entries()) {
    const stray = image.evidence.find((digest) => !known.has(digest));
    if (stray !== undefined) throw refuse(`images[${i}].evidence`, stray, 'a digest listed in evidence');
  }
  const base =
    root['base'] === undefined
      ? undefined
      : parseBase(root['base'], 'base', new Set(entries.map(({ name }) => name)));
  if ((base !== undefined) !== requires.includes('delta')) {
    throw refuse('base', base ? 'a base' : 'no base', 'a base exactly with the required feature delta');
  }
  if (base && base.version >= version) {
    throw refuse('base.version', String(base.version), `less than ${version}, the bundle's`);
  }
  if (base && both.some(({ parsed }) => parsed.type === 'docker-manifest')) {
    throw refuse('entries', 'manifest.json', 'none in a delta: it would name layers that are not there');
  }
  return {
    formatVersion: BUNDLE_FORMAT_VERSION,
    mediaType,
    generator: stringAt(root['generator'], 'generator'),
    requires,
    features,
    collection: {
      id: hexAt(collection['id'], 'collection.id'),
      name: stringAt(collection['name'], 'collection.name'),
    },
    version,
    created,
    images,
    evidence,
    entries,
    ...(base ? { base } : {}),
  };
}

/** Undefined fields are left out, as they are not JSON. */
function plain(value: unknown): JsonValue {
  return JSON.parse(JSON.stringify(value)) as JsonValue;
}

/**
 * The bytes of `sealift.json`.
 * @throws SealiftError `bundle-not-canonical` where the manifest breaks a rule of the format: what is written can be read
 */
export function encodeBundleManifest(manifest: BundleManifest): Buffer {
  const bytes = canonicalJson(plain(manifest));
  parseBundleManifest(bytes, { bundleFile: bytes.length, jsonDepth: 64, entries: Number.MAX_SAFE_INTEGER });
  return bytes;
}

export interface EntryParts {
  readonly version: number;
  /** Head files that are known before anything is signed, by entry name: README, certificates, roots, targets, delegated roles, index.json, manifest.json. */
  readonly files: ReadonlyMap<string, { readonly size: number; readonly sha256: string }>;
  /** Delegated roles in search order with their versions, `bundles` included. */
  readonly delegated: readonly { readonly role: string; readonly version: number }[];
  readonly signedSums: boolean;
  readonly blobs: readonly { readonly name: string; readonly size: number; readonly kind: BlobKind }[];
}

/**
 * The list `entries` in the order of the format, from its parts in any order.
 * @throws SealiftError `internal` where a file has a name the format does not know
 */
export function listEntries(parts: EntryParts): BundleEntry[] {
  const { version, files, delegated, blobs } = parts;
  const roleRank = new Map(delegated.map(({ role }, i) => [role, i]));
  const rows: { entry: BundleEntry; rank: number; minor: number }[] = [];
  const add = (entry: BundleEntry, minorRank?: number) => {
    const parsed = parseEntryName(entry.name);
    if (!parsed) throw new SealiftError('internal', `no name of the bundle format: got ${inert(entry.name)}`);
    let minor = minorRank ?? 0;
    if (parsed.type === 'root') minor = parsed.version;
    if (parsed.type === 'delegated') minor = roleRank.get(parsed.role) ?? Number.MAX_SAFE_INTEGER;
    rows.push({ entry, rank: ENTRY_ORDER[parsed.type], minor });
  };
  for (const [name, { size, sha256 }] of files) add({ name, size, sha256 });
  const late = [
    'metadata/timestamp.json',
    `metadata/${version}.snapshot.json`,
    `metadata/${version}.bundles.json`,
  ];
  late.push('sealift.json', 'SHA256SUMS');
  if (blobs.some(({ name }) => name.startsWith('blobs/sha512/'))) late.push('SHA512SUMS');
  if (parts.signedSums) late.push('SHA256SUMS.asc');
  for (const name of late) add({ name });
  for (const { name, size, kind } of blobs) {
    const parsed = parseEntryName(name);
    const hash = parsed?.type === 'blob' && parsed.algorithm === 'sha256' ? { sha256: parsed.hex } : {};
    add({ name, size, ...hash, kind }, kind === 'layer' ? 1 : 0);
  }
  const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);
  rows.sort((a, b) => a.rank - b.rank || a.minor - b.minor || compare(a.entry.name, b.entry.name));
  return rows.map(({ entry }) => entry);
}
