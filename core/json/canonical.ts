/** Canonical JSON (OLPC), the form in which trust metadata and the bundle manifest are signed and carried. */
import { canonicalize } from '@tufjs/canonical-json';
import { type ErrorCode, inert, SealiftError } from '../errors.ts';
import { DEFAULT_LIMITS } from '../limits.ts';
import { type JsonOptions, type JsonValue, parseJson } from './strict.ts';

/**
 * The canonical form of `value` as UTF-8 (docs/tuf-profile.md, "Canonical form").
 *
 * @param maxDepth deepest nesting of arrays and objects
 * @throws SealiftError `json-invalid` where the value has something the form cannot say in one way only:
 * a float, an integer outside ±(2^53-1), minus zero, a control character or lone surrogate in a string or key,
 * undefined, a hole, an object that is not plain; `json-too-deep`
 */
export function canonicalJson(value: unknown, maxDepth: number = DEFAULT_LIMITS.jsonDepth): Buffer {
  assertCanonical(value, '$', maxDepth);
  return Buffer.from(canonicalize(value), 'utf8');
}

export interface CanonicalJsonOptions extends JsonOptions {
  /** Code for a document that is JSON but not in canonical form; `metadata-malformed` where absent. */
  readonly code?: ErrorCode | undefined;
}

/**
 * The value of a document that equals its own canonical form byte for byte.
 *
 * @throws SealiftError as parseJson and canonicalJson do; `code` of the options where the bytes differ
 */
export function parseCanonicalJson(bytes: Uint8Array, options: CanonicalJsonOptions): JsonValue {
  const value = parseJson(bytes, options);
  const subject = inert(options.what);
  let canonical: Buffer;
  try {
    canonical = canonicalJson(value, options.maxDepth);
  } catch (error) {
    throw error instanceof SealiftError ? error.with({ subject }) : error;
  }
  if (!canonical.equals(bytes)) {
    const at = firstDifference(canonical, bytes);
    throw new SealiftError(
      options.code ?? 'metadata-malformed',
      `document is not in canonical form: byte ${at} differs from what is prescribed`,
      { subject, got: at },
    );
  }
  return value;
}

function firstDifference(a: Uint8Array, b: Uint8Array): number {
  let at = 0;
  while (at < a.length && at < b.length && a[at] === b[at]) at += 1;
  return at;
}

function refuse(path: string, what: string): SealiftError {
  return new SealiftError('json-invalid', `${inert(path)}: ${what} has no canonical form`);
}

function assertCanonicalString(text: string, path: string): void {
  if (/[\u0000-\u001f\u007f]/.test(text)) throw refuse(path, 'a control character in a string');
  if (/\p{Cs}/u.test(text)) throw refuse(path, 'a lone surrogate');
}

function assertCanonical(value: unknown, path: string, depthLeft: number): void {
  switch (typeof value) {
    case 'string':
      assertCanonicalString(value, path);
      return;
    case 'boolean':
      return;
    case 'number':
      if (!Number.isSafeInteger(value) || Object.is(value, -0))
        throw refuse(path, `the number ${String(value)}`);
      return;
    case 'object':
      break;
    default:
      throw refuse(path, `a value of type ${typeof value}`);
  }
  if (value === null) return;
  if (depthLeft <= 0) throw new SealiftError('json-too-deep', `${inert(path)}: value is nested too deeply`);
  if (Array.isArray(value)) {
    // By index: a hole is undefined then, and refused; the encoder would skip it.
    for (let i = 0; i < value.length; i += 1) assertCanonical(value[i], `${path}[${i}]`, depthLeft - 1);
    return;
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== null && prototype !== Object.prototype) throw refuse(path, 'an object that is not plain');
  for (const key of Object.keys(value)) {
    assertCanonicalString(key, path);
    assertCanonical((value as Record<string, unknown>)[key], `${path}.${key}`, depthLeft - 1);
  }
}
