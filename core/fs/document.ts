/**
 * sealift's own JSON documents on disk: gate, store and journal state. They are read as strictly as what comes from
 * outside, because a disk may damage them; every fault is `state-damaged` and names the file.
 */
import { isSealiftError, SealiftError } from '../errors.ts';
import { type JsonObject, type JsonValue, parseJson } from '../json/strict.ts';

/** `YYYY-MM-DDTHH:MM:SSZ` */
export const TIMESTAMP =
  /^\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\dZ$/;
export const SHA256_HEX = /^[0-9a-f]{64}$/;

/** A point in time as all our documents spell it: whole seconds, UTC. */
export function formatTimestamp(date: Date): string {
  return `${date.toISOString().slice(0, 19)}Z`;
}

/** One object of a document, read field by field. Every getter throws `state-damaged`. */
export interface DocumentReader {
  string(key: string, pattern?: RegExp): string;
  integer(key: string): number;
  object(key: string): DocumentReader;
  optionalString(key: string, pattern?: RegExp): string | undefined;
  optionalInteger(key: string): number | undefined;
  optionalObject(key: string): DocumentReader | undefined;
  strings(key: string, pattern?: RegExp): string[];
  integers(key: string): number[];
  objects(key: string): DocumentReader[];
  keys(): string[];
  readonly value: JsonObject;
  /** The error for a fault in this document. */
  damaged(problem: string): SealiftError;
}

export interface DocumentOptions {
  /** Path of the file, for messages. */
  readonly file: string;
  /** What to do when it is damaged. */
  readonly hint: string;
  readonly maxBytes: number;
}

/**
 * Reads one JSON object.
 * @throws SealiftError `state-damaged`
 */
export function parseDocument(bytes: Uint8Array, options: DocumentOptions): DocumentReader {
  let value: JsonValue;
  try {
    value = parseJson(bytes, { what: options.file, maxBytes: options.maxBytes, maxDepth: 32 });
  } catch (error) {
    if (!isSealiftError(error)) throw error;
    throw damagedDocument(options, error.message, error);
  }
  return readerOf(value, '', options);
}

/**
 * Refuses what a newer sealift wrote.
 * @throws SealiftError `format-unsupported`
 */
export function checkFormat(
  document: DocumentReader,
  file: string,
  version: number,
  known: readonly string[],
): void {
  const found = document.integer('formatVersion');
  const hint = 'use the version of sealift that wrote it, or a newer one';
  if (found !== version) {
    throw new SealiftError('format-unsupported', `unknown format: got version ${found}, want ${version}`, {
      subject: file,
      got: found,
      want: version,
      hint,
    });
  }
  for (const feature of document.strings('requires', /^[a-z0-9][a-z0-9.-]{0,63}$/)) {
    if (!known.includes(feature)) {
      throw new SealiftError('format-unsupported', `unknown required feature ${feature}`, {
        subject: file,
        got: feature,
        hint,
      });
    }
  }
}

export function damagedDocument(
  options: Pick<DocumentOptions, 'file' | 'hint'>,
  problem: string,
  cause?: unknown,
): SealiftError {
  return new SealiftError('state-damaged', `damaged: ${problem}`, {
    subject: options.file,
    hint: options.hint,
    cause,
  });
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function readerOf(value: JsonValue | undefined, at: string, options: DocumentOptions): DocumentReader {
  const damaged = (problem: string): SealiftError => damagedDocument(options, problem);
  if (!isObject(value)) throw damaged(`${at || 'document'} is no object`);
  const object = value;
  const where = (key: string): string => (at === '' ? key : `${at}.${key}`);
  const own = (key: string): JsonValue | undefined => (Object.hasOwn(object, key) ? object[key] : undefined);

  function stringAt(found: JsonValue | undefined, place: string, pattern?: RegExp): string {
    if (typeof found !== 'string') throw damaged(`${place} is no string`);
    if (pattern && !pattern.test(found)) throw damaged(`${place} is malformed`);
    return found;
  }
  function integerAt(found: JsonValue | undefined, place: string): number {
    if (typeof found !== 'number' || !Number.isSafeInteger(found) || found < 0) {
      throw damaged(`${place} is no integer of 0 or more`);
    }
    return found;
  }
  function arrayAt(key: string): readonly JsonValue[] {
    const found = own(key);
    if (!Array.isArray(found)) throw damaged(`${where(key)} is no array`);
    return found;
  }

  return {
    value: object,
    damaged,
    keys: () => Object.keys(object),
    string: (key, pattern) => stringAt(own(key), where(key), pattern),
    integer: (key) => integerAt(own(key), where(key)),
    object: (key) => readerOf(own(key), where(key), options),
    optionalString: (key, pattern) =>
      own(key) === undefined ? undefined : stringAt(own(key), where(key), pattern),
    optionalInteger: (key) => (own(key) === undefined ? undefined : integerAt(own(key), where(key))),
    optionalObject: (key) => (own(key) === undefined ? undefined : readerOf(own(key), where(key), options)),
    strings: (key, pattern) =>
      arrayAt(key).map((item, index) => stringAt(item, `${where(key)}[${index}]`, pattern)),
    integers: (key) => arrayAt(key).map((item, index) => integerAt(item, `${where(key)}[${index}]`)),
    objects: (key) => arrayAt(key).map((item, index) => readerOf(item, `${where(key)}[${index}]`, options)),
  };
}
