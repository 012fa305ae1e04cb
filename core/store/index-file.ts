/** index.json of the store: one descriptor for each image, found by its name. Other people's descriptors are left as they are. */
import { isSealiftError, SealiftError } from '../errors.ts';
import { type JsonObject, type JsonValue, parseJson } from '../json/strict.ts';
import type { Limits } from '../limits.ts';
import { isManifestType, OCI_INDEX } from '../oci/media-types.ts';
import type { ImageRecord } from './records.ts';

export const REF_NAME = 'org.opencontainers.image.ref.name';
export const CONTAINERD_NAME = 'io.containerd.image.name';

/** A descriptor as it stands in index.json, whoever wrote it. */
export interface IndexEntry {
  /** Empty where it has none. */
  readonly name: string;
  /** As it is written there; checked by nobody. */
  readonly digest: string;
  readonly mediaType: string;
  readonly size: number;
  readonly value: JsonObject;
}

export interface IndexFile {
  readonly document: JsonObject;
  readonly entries: readonly IndexEntry[];
}

export const EMPTY_INDEX: IndexFile = { document: {}, entries: [] };

/** @throws SealiftError `state-damaged` */
export function parseIndexFile(bytes: Uint8Array, file: string, limits: Limits): IndexFile {
  const damaged = (problem: string, cause?: unknown): SealiftError =>
    new SealiftError('state-damaged', `damaged: ${problem}`, {
      subject: file,
      hint: 'restore it from a backup; or empty the store and import the newest bundle again',
      cause,
    });
  let document: JsonValue;
  try {
    document = parseJson(bytes, { what: file, maxBytes: limits.bundleFile, maxDepth: limits.jsonDepth });
  } catch (error) {
    throw isSealiftError(error) ? damaged(error.message, error) : error;
  }
  if (!isObject(document)) throw damaged('it is no object');
  const manifests = document['manifests'];
  if (!Array.isArray(manifests)) throw damaged('manifests is no array');
  return { document, entries: manifests.map(indexEntry) };
}

export function encodeIndexFile(index: IndexFile): string {
  const { schemaVersion: _, mediaType: __, manifests: ___, ...others } = index.document;
  const manifests = [...index.entries].sort(byName).map((entry) => entry.value);
  return JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, ...others, manifests });
}

/** The descriptor of an admitted image. */
export function entryOf(record: ImageRecord): IndexEntry {
  const { name, digest, mediaType, size } = record;
  const value = { mediaType, digest, size, annotations: { [CONTAINERD_NAME]: name, [REF_NAME]: name } };
  return { name, digest, mediaType, size, value };
}

/** Whether the entry is the one sealift wrote for `record`. */
export function isEntryOf(entry: IndexEntry, record: ImageRecord): boolean {
  return (
    entry.name === record.name &&
    entry.digest === record.digest &&
    entry.mediaType === record.mediaType &&
    entry.size === record.size &&
    isManifestType(entry.mediaType)
  );
}

function indexEntry(value: JsonValue): IndexEntry {
  const object = isObject(value) ? value : {};
  const annotations = isObject(object['annotations']) ? object['annotations'] : {};
  const size = object['size'];
  return {
    name: text(annotations[CONTAINERD_NAME]) || text(annotations[REF_NAME]),
    digest: text(object['digest']),
    mediaType: text(object['mediaType']),
    size: typeof size === 'number' ? size : -1,
    value: object,
  };
}

/** By UTF-16 code units, as everything in sealift sorts. */
function byName(a: IndexEntry, b: IndexEntry): number {
  if (a.name !== b.name) return a.name < b.name ? -1 : 1;
  return a.digest < b.digest ? -1 : Number(a.digest > b.digest);
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function text(value: JsonValue | undefined): string {
  return typeof value === 'string' ? value : '';
}
