/** Content descriptors (OCI image specification 1.1, descriptor.md) and platforms (image-index.md). */
import { inert, SealiftError } from '../errors.ts';
import {
  asArray,
  asInteger,
  asObject,
  asString,
  asStringMap,
  type JsonObject,
  type JsonValue,
} from '../json/strict.ts';
import { type Digest, digestAlgorithm, digestOf, isDigest } from './digest.ts';
import { isMediaType } from './media-types.ts';

export interface Platform {
  readonly architecture: string;
  readonly os: string;
  readonly variant?: string;
  readonly 'os.version'?: string;
}

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
  readonly annotations?: { readonly [key: string]: string };
  readonly platform?: Platform;
  readonly artifactType?: string;
  readonly urls?: readonly string[];
  /** The content itself, decoded; it has the size and the digest. */
  readonly data?: Uint8Array;
}

const CODE = 'manifest-invalid';
const DESCRIPTOR_FIELDS = [
  'mediaType',
  'digest',
  'size',
  'annotations',
  'platform',
  'artifactType',
  'urls',
  'data',
];
const PLATFORM_FIELDS = ['architecture', 'os', 'variant', 'os.version'];
const PLATFORM_WORD = /^[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}$/;

/**
 * Refuses keys that readers which ignore case (all that are written in Go) would take for one of `fields`
 * and this reader would not.
 * @throws SealiftError `manifest-invalid`
 */
export function assertSpelling(object: JsonObject, fields: readonly string[], path: string): void {
  const known = new Set(fields);
  const folded = new Map(fields.map((field) => [foldCase(field), field]));
  for (const key of Object.keys(object)) {
    if (known.has(key)) continue;
    const field = folded.get(foldCase(key));
    if (field !== undefined) {
      throw new SealiftError(
        CODE,
        `${inert(path)}: got the field "${inert(key, 80)}", want it spelt "${field}"`,
        {
          got: inert(key, 80),
          want: field,
        },
      );
    }
  }
}

/** As Go's encoding/json folds: the long s and the Kelvin sign are s and k there. */
function foldCase(key: string): string {
  return key.toLowerCase().replaceAll('\u017f', 's').replaceAll('\u212a', 'k');
}

/** A field that may be absent; null counts as absent, because Go writes an empty list so. */
export function isPresent(value: JsonValue | undefined): value is Exclude<JsonValue, null> {
  return value !== undefined && value !== null;
}

/**
 * The descriptor at `path` of a document.
 *
 * @throws SealiftError `manifest-invalid`; `size-mismatch` or `digest-mismatch` where embedded data is not
 * what the descriptor says
 */
export function parseDescriptor(value: JsonValue | undefined, path: string): Descriptor {
  const object = asObject(value, path, CODE);
  assertSpelling(object, DESCRIPTOR_FIELDS, path);
  const mediaType = parseMediaType(object['mediaType'], `${path}.mediaType`);
  const digest = asString(object['digest'], `${path}.digest`, CODE);
  if (!isDigest(digest)) {
    throw new SealiftError(
      CODE,
      `${inert(path)}.digest: got "${inert(digest, 160)}", want sha256: and 64, or sha512: and 128 lower-case hex digits`,
      { got: inert(digest, 160) },
    );
  }
  const size = asInteger(object['size'], `${path}.size`, CODE);
  const { annotations, artifactType, urls, data } = object;
  const platform = isPresent(object['platform'])
    ? parsePlatformField(object['platform'], `${path}.platform`)
    : undefined;
  return {
    mediaType,
    digest,
    size,
    ...(isPresent(annotations) ? { annotations: asStringMap(annotations, `${path}.annotations`, CODE) } : {}),
    ...(platform === undefined ? {} : { platform }),
    ...(isPresent(artifactType) && artifactType !== ''
      ? { artifactType: parseMediaType(artifactType, `${path}.artifactType`) }
      : {}),
    ...(isPresent(urls)
      ? {
          urls: asArray(urls, `${path}.urls`, CODE).map((url, i) =>
            asString(url, `${path}.urls[${i}]`, CODE),
          ),
        }
      : {}),
    ...(isPresent(data) ? { data: parseData(data, digest, size, `${path}.data`) } : {}),
  };
}

/** @throws SealiftError `manifest-invalid` where the value is no media type of RFC 6838 */
export function parseMediaType(value: JsonValue | undefined, path: string): string {
  const text = asString(value, path, CODE);
  if (!isMediaType(text)) {
    throw new SealiftError(CODE, `${inert(path)}: got "${inert(text, 160)}", want a media type`, {
      got: inert(text, 160),
    });
  }
  return text;
}

function parseData(value: JsonValue, digest: Digest, size: number, path: string): Uint8Array {
  const text = asString(value, path, CODE);
  const data = Buffer.from(text, 'base64');
  // Buffer.from ignores what is no base64: only text that comes out again is.
  if (data.toString('base64') !== text)
    throw new SealiftError(CODE, `${inert(path)}: got something else, want base64`);
  if (data.length !== size) {
    throw new SealiftError('size-mismatch', `${inert(path)}: got ${data.length} bytes, want ${size}`, {
      got: data.length,
      want: size,
    });
  }
  const got = digestOf(data, digestAlgorithm(digest));
  if (got !== digest) {
    throw new SealiftError('digest-mismatch', `${inert(path)}: got ${got}, want ${digest}`, {
      got,
      want: digest,
    });
  }
  return data;
}

/** A platform as an index has it; undefined where os and architecture are empty, as some artifact tools write. */
function parsePlatformField(value: JsonValue, path: string): Platform | undefined {
  const object = asObject(value, path, CODE);
  assertSpelling(object, PLATFORM_FIELDS, path);
  const word = (field: string): string | undefined => {
    const text = object[field];
    if (!isPresent(text) || text === '') return undefined;
    const word = asString(text, `${path}.${field}`, CODE);
    if (!PLATFORM_WORD.test(word)) {
      throw new SealiftError(
        CODE,
        `${inert(path)}.${field}: got "${inert(word, 80)}", want letters, digits, ".", "_", "+" and "-"`,
      );
    }
    return word;
  };
  const os = word('os');
  const architecture = word('architecture');
  const variant = word('variant');
  const version = word('os.version');
  if (os === undefined && architecture === undefined) return undefined;
  if (os === undefined || architecture === undefined) {
    throw new SealiftError(CODE, `${inert(path)}: got one of os and architecture, want both`);
  }
  return {
    architecture,
    os,
    ...(variant === undefined ? {} : { variant }),
    ...(version === undefined ? {} : { 'os.version': version }),
  };
}

const ARCHITECTURES: ReadonlyMap<string, readonly [architecture: string, variant?: string]> = new Map([
  ['x86_64', ['amd64']],
  ['x86-64', ['amd64']],
  ['aarch64', ['arm64']],
  ['i386', ['386']],
  ['i486', ['386']],
  ['i586', ['386']],
  ['i686', ['386']],
  ['armhf', ['arm', 'v7']],
  ['armel', ['arm', 'v6']],
] as const);

/** What an architecture without a variant is. */
const DEFAULT_VARIANTS: ReadonlyMap<string, string> = new Map([
  ['arm64', 'v8'],
  ['arm', 'v7'],
  ['amd64', 'v1'],
]);

/** `linux/arm64/v8` */
export function formatPlatform(platform: Platform): string {
  const text = `${platform.os}/${platform.architecture}`;
  return platform.variant === undefined ? text : `${text}/${platform.variant}`;
}

/**
 * A platform as people write it: `linux/amd64`, `linux/arm/v7`; other common spellings (`linux/x86_64`,
 * `linux/aarch64`) become these.
 * @throws SealiftError `invalid-argument`
 */
export function parsePlatform(text: string): Platform {
  const [os, architecture, variant, ...rest] = text.split('/');
  const words = [os, architecture, variant].filter((word) => word !== undefined);
  if (!os || !architecture || rest.length > 0 || !words.every((word) => PLATFORM_WORD.test(word))) {
    throw new SealiftError(
      'invalid-argument',
      `not a platform: got "${inert(text, 80)}", want OS/ARCHITECTURE[/VARIANT]`,
      {
        got: inert(text, 80),
        want: 'linux/amd64',
      },
    );
  }
  const lower = architecture.toLowerCase();
  const [name, implied] = ARCHITECTURES.get(lower) ?? [lower];
  const chosen = variant?.toLowerCase() ?? implied;
  return { architecture: name, os: os.toLowerCase(), ...(chosen === undefined ? {} : { variant: chosen }) };
}

/** Whether `have` is what `want` asks for. Without a variant or version, `want` takes any. */
export function platformMatches(want: Platform, have: Platform): boolean {
  if (want.os !== have.os || want.architecture !== have.architecture) return false;
  if (want['os.version'] !== undefined && want['os.version'] !== have['os.version']) return false;
  if (want.variant === undefined) return true;
  return want.variant === (have.variant ?? DEFAULT_VARIANTS.get(have.architecture));
}
