/**
 * JSON from outside, read so that no two readers can understand it differently.
 *
 * No maintained package does this: those that see duplicate keys (momoa, lossless-json) recurse or build a
 * syntax tree, and none caps depth before it parses. So an own scanner walks the text once without recursion
 * and JSON.parse makes the value; what the scanner does not understand JSON.parse refuses.
 */
import { type ErrorCode, inert, SealiftError } from '../errors.ts';

export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;
/** Has no prototype, so that looking up `constructor` or `__proto__` finds only what the document says. */
export type JsonObject = { readonly [key: string]: JsonValue };

export interface JsonOptions {
  /** What the document is, for messages: `image manifest sha256:…`. */
  readonly what: string;
  readonly maxBytes: number;
  /** Deepest nesting of arrays and objects; a bare value has depth 0. */
  readonly maxDepth: number;
  /**
   * Refuse a number that is an integer but not written as one, or not exactly held (`1.0`, `1e3`, `2^53+1`):
   * readers with integer types would fail or see another number.
   */
  readonly plainIntegers?: boolean | undefined;
}

/** V8 gives all strings above 16 Ki characters that are of one length the same hash; keys stay far below. */
const MAX_KEY_LENGTH = 4096;

/** Arrays and objects in one document. A bundle may have a million entries; 64 MiB of `{},` would fill the heap. */
const MAX_CONTAINERS = 4_000_000;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const MINUS = 0x2d;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/**
 * The value of one JSON document (RFC 8259), of at most `maxBytes` bytes, in time linear in its length.
 *
 * @throws SealiftError `json-too-large` (in bytes, or above 4,000,000 arrays and objects); `json-too-deep`;
 * `json-duplicate-key` (compared after unescaping, at every level); `json-invalid` for invalid UTF-8, a byte
 * order mark, anything behind the value, a number beyond the range of doubles, a key above 4096 characters,
 * and with `plainIntegers` for disguised integers
 */
export function parseJson(bytes: Uint8Array, options: JsonOptions): JsonValue {
  const { what, maxBytes } = options;
  const subject = inert(what);
  if (bytes.length > maxBytes) {
    throw new SealiftError(
      'json-too-large',
      `document is too large: got ${bytes.length} bytes, want at most ${maxBytes}`,
      { subject, got: bytes.length, want: maxBytes },
    );
  }
  const text = decode(bytes, subject);
  scan(text, options, subject);
  let value: JsonValue;
  try {
    value = JSON.parse(text) as JsonValue;
  } catch (cause) {
    throw invalid(subject, `not JSON: ${inert(cause instanceof Error ? cause.message : String(cause), 200)}`);
  }
  dropPrototypes(value);
  return value;
}

function invalid(subject: string, message: string): SealiftError {
  return new SealiftError('json-invalid', message, { subject });
}

function decode(bytes: Uint8Array, subject: string): string {
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) {
    throw invalid(subject, 'document begins with a byte order mark, want none');
  }
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw invalid(subject, 'document is not valid UTF-8');
  }
}

/** Finds what JSON.parse lets pass: depth, equal keys, numbers that do not survive. Leaves the grammar to it. */
function scan(text: string, options: JsonOptions, subject: string): void {
  const { maxDepth } = options;
  const plainIntegers = options.plainIntegers === true;
  // One entry for each level that was ever open, used again by the next object on that level.
  const levels: KeySet[] = [];
  let depth = 0;
  let containers = 0;
  let keys: KeySet | undefined;
  let keyNext = false;
  const { length } = text;
  let at = 0;
  while (at < length) {
    const c = text.charCodeAt(at);
    if (c === QUOTE) {
      const start = at;
      let escaped = false;
      at += 1;
      while (at < length) {
        const d = text.charCodeAt(at);
        if (d === QUOTE) break;
        if (d === BACKSLASH) {
          escaped = true;
          at += 1;
        }
        at += 1;
      }
      if (at >= length) throw invalid(subject, 'not JSON: a string does not end');
      at += 1;
      if (keyNext && keys !== undefined) {
        keyNext = false;
        addKey(keys, text, start, at, escaped, subject);
      }
    } else if (c === OPEN_OBJECT || c === OPEN_ARRAY) {
      if (depth >= maxDepth) {
        throw new SealiftError(
          'json-too-deep',
          `document is nested too deeply: want at most ${maxDepth} levels`,
          {
            subject,
            want: maxDepth,
          },
        );
      }
      containers += 1;
      if (containers > MAX_CONTAINERS) {
        throw new SealiftError(
          'json-too-large',
          `document has too many arrays and objects: want at most ${MAX_CONTAINERS}`,
          { subject, want: MAX_CONTAINERS },
        );
      }
      keys = levels[depth] ?? newKeySet();
      levels[depth] = keys;
      depth += 1;
      keyNext = c === OPEN_OBJECT;
      keys.isObject = keyNext;
      keys.few.length = 0;
      if (keys.many.size > 0) keys.many = new Set();
      at += 1;
    } else if (c === CLOSE_OBJECT || c === CLOSE_ARRAY) {
      depth = Math.max(0, depth - 1);
      keys = depth === 0 ? undefined : levels[depth - 1];
      keyNext = false;
      at += 1;
    } else if (c === COMMA) {
      keyNext = keys?.isObject === true;
      at += 1;
    } else if (c === MINUS || (c >= 0x30 && c <= 0x39)) {
      at = checkNumber(text, at, plainIntegers, subject);
    } else {
      at += 1;
    }
  }
}

/** The keys of one open object; most have so few that comparing all is quicker than hashing. */
interface KeySet {
  isObject: boolean;
  readonly few: string[];
  many: Set<string>;
}

const FEW = 8;

function newKeySet(): KeySet {
  return { isObject: false, few: [], many: new Set() };
}

/** Whether `key` was not there yet. */
function addTo(keys: KeySet, key: string): boolean {
  const { few, many } = keys;
  if (many.size === 0) {
    if (few.includes(key)) return false;
    few.push(key);
    if (few.length > FEW) for (const one of few) many.add(one);
    return true;
  }
  const before = many.size;
  many.add(key);
  return many.size > before;
}

function addKey(
  keys: KeySet,
  text: string,
  start: number,
  end: number,
  escaped: boolean,
  subject: string,
): void {
  if (end - start - 2 > MAX_KEY_LENGTH) {
    throw invalid(
      subject,
      `a key is too long: got ${end - start - 2} characters, want at most ${MAX_KEY_LENGTH}`,
    );
  }
  let key = text.slice(start + 1, end - 1);
  if (escaped) {
    try {
      key = JSON.parse(text.slice(start, end)) as string;
    } catch {
      throw invalid(subject, 'not JSON: bad escape in a key');
    }
  }
  if (!addTo(keys, key)) {
    throw new SealiftError('json-duplicate-key', `an object has the key "${inert(key, 100)}" twice`, {
      subject,
      got: inert(key, 100),
    });
  }
}

/** Checks the number that begins at `start`; returns where it ends. */
function checkNumber(text: string, start: number, plainIntegers: boolean, subject: string): number {
  let at = start + 1;
  let digitsOnly = true;
  while (at < text.length) {
    const c = text.charCodeAt(at);
    if (c >= 0x30 && c <= 0x39) at += 1;
    else if (c === 0x2e || c === 0x45 || c === 0x65 || c === 0x2b || c === MINUS) {
      digitsOnly = false;
      at += 1;
    } else break;
  }
  if (digitsOnly && at - start <= 15) return at;
  const literal = text.slice(start, at);
  const value = Number(literal);
  // NaN is no number at all: JSON.parse says where.
  if (Number.isNaN(value)) return at;
  const isDisguised = Number.isInteger(value) && !(digitsOnly && Number.isSafeInteger(value));
  if (!Number.isFinite(value) || (plainIntegers && isDisguised)) {
    throw invalid(
      subject,
      `a number cannot be held exactly: got ${inert(literal, 40)}, want a plain integer within ±(2^53-1)`,
    );
  }
  return at;
}

function dropPrototypes(value: JsonValue): void {
  const open: object[] = [];
  const push = (inner: unknown): void => {
    if (typeof inner === 'object' && inner !== null) open.push(inner);
  };
  push(value);
  for (let current = open.pop(); current !== undefined; current = open.pop()) {
    if (Array.isArray(current)) {
      for (const inner of current) push(inner);
    } else {
      Object.setPrototypeOf(current, null);
      for (const key of Object.keys(current)) push((current as Record<string, unknown>)[key]);
    }
  }
}

// Guards, for readers written by hand. `path` says where in the document: `manifests[3].size`.

function wrong(value: JsonValue | undefined, path: string, code: ErrorCode, want: string): SealiftError {
  const got = describe(value);
  return new SealiftError(code, `${inert(path)}: got ${got}, want ${want}`, { got, want });
}

function describe(value: JsonValue | undefined): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'null';
  if (typeof value === 'string') return `"${inert(value, 80)}"`;
  if (typeof value === 'object') return Array.isArray(value) ? 'an array' : 'an object';
  return String(value);
}

/** `value` as an object. @throws SealiftError with `code` where it is none */
export function asObject(value: JsonValue | undefined, path: string, code: ErrorCode): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw wrong(value, path, code, 'an object');
  return value as JsonObject;
}

/** `value` as an array. @throws SealiftError with `code` where it is none */
export function asArray(value: JsonValue | undefined, path: string, code: ErrorCode): readonly JsonValue[] {
  if (!Array.isArray(value)) throw wrong(value, path, code, 'an array');
  return value as readonly JsonValue[];
}

/** `value` as a string, where given one that `pattern` matches. @throws SealiftError with `code` where it is none */
export function asString(
  value: JsonValue | undefined,
  path: string,
  code: ErrorCode,
  pattern?: RegExp,
): string {
  if (typeof value !== 'string') throw wrong(value, path, code, 'a string');
  if (pattern !== undefined && !pattern.test(value))
    throw wrong(value, path, code, `a string like ${pattern.source}`);
  return value;
}

/** `value` as a safe integer from `min` (0) to `max` (2^53-1). @throws SealiftError with `code` where it is none */
export function asInteger(
  value: JsonValue | undefined,
  path: string,
  code: ErrorCode,
  { min = 0, max = Number.MAX_SAFE_INTEGER }: { min?: number; max?: number } = {},
): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < min || value > max) {
    throw wrong(value, path, code, `an integer from ${min} to ${max}`);
  }
  return value;
}

/** `value` as a boolean. @throws SealiftError with `code` where it is none */
export function asBoolean(value: JsonValue | undefined, path: string, code: ErrorCode): boolean {
  if (typeof value !== 'boolean') throw wrong(value, path, code, 'true or false');
  return value;
}

/** `value` as an array of strings. @throws SealiftError with `code` where it is none */
export function asStrings(
  value: JsonValue | undefined,
  path: string,
  code: ErrorCode,
  pattern?: RegExp,
): readonly string[] {
  return asArray(value, path, code).map((item, i) => asString(item, `${path}[${i}]`, code, pattern));
}

/** `value` as an object whose values are all strings. @throws SealiftError with `code` where it is none */
export function asStringMap(
  value: JsonValue | undefined,
  path: string,
  code: ErrorCode,
): { readonly [key: string]: string } {
  const object = asObject(value, path, code);
  for (const key of Object.keys(object)) asString(object[key], `${path}.${key}`, code);
  return object as { readonly [key: string]: string };
}

/** Refuses an object that has other keys than these. @throws SealiftError with `code` */
export function assertOnlyKeys(
  object: JsonObject,
  keys: readonly string[],
  path: string,
  code: ErrorCode,
): void {
  for (const key of Object.keys(object)) {
    if (!keys.includes(key)) {
      throw new SealiftError(
        code,
        `${inert(path)}: got the unknown field "${inert(key, 80)}", want none but ${keys.join(', ')}`,
        {
          got: inert(key, 80),
        },
      );
    }
  }
}
