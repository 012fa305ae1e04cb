/**
 * Image manifests and indexes: OCI image specification 1.1 (manifest.md, image-index.md) and Docker schema 2.
 * The bytes stay beside what was read from them; nothing is ever written again from the parsed form.
 */
import { inert, SealiftError } from '../errors.ts';
import {
  asArray,
  asInteger,
  asObject,
  asString,
  asStringMap,
  type JsonObject,
  parseJson,
} from '../json/strict.ts';
import type { Limits } from '../limits.ts';
import { assertSpelling, type Descriptor, isPresent, parseDescriptor, parseMediaType } from './descriptor.ts';
import { assertDigest, type Digest, digestOf } from './digest.ts';
import {
  isImageConfig,
  isIndexType,
  isManifestType,
  isSchema1Type,
  OCI_INDEX,
  OCI_MANIFEST,
  withoutParameters,
} from './media-types.ts';

export interface ParsedManifest {
  readonly kind: 'image' | 'index';
  /** Exactly as received. */
  readonly bytes: Uint8Array;
  readonly digest: Digest;
  /** Effective type: the announced one, else the field, else the OCI type of that shape. */
  readonly mediaType: string;
  /** Of an image; undefined for an index. */
  readonly config?: Descriptor;
  /** Of an image; empty for an index. */
  readonly layers: readonly Descriptor[];
  /** Of an index; empty for an image. */
  readonly manifests: readonly Descriptor[];
  readonly subject?: Descriptor;
  /** The field as it stands; see artifactTypeOf. */
  readonly artifactType?: string;
  readonly annotations: { readonly [key: string]: string };
}

export interface ParseManifestOptions {
  /** Type that was announced, by a descriptor or a Content-Type header (parameters are ignored). */
  readonly mediaType?: string | undefined;
  /** Digest the bytes must have. */
  readonly digest?: Digest | undefined;
  readonly limits: Pick<Limits, 'manifest' | 'jsonDepth'>;
}

const CODE = 'manifest-invalid';
const FIELDS = [
  'schemaVersion',
  'mediaType',
  'config',
  'layers',
  'manifests',
  'subject',
  'artifactType',
  'annotations',
  'fsLayers',
];

/**
 * The manifest in `bytes`.
 *
 * @throws SealiftError `json-too-large`; `digest-mismatch`; `schema1-unsupported`; `media-type-mismatch`
 * where announced type, field and shape do not agree; `manifest-invalid` where a field does not follow the
 * specification, the type is none of the four, or the document could be read as image and as index
 * (CVE-2021-41190); `size-mismatch` for embedded data; `json-…` as parseJson
 */
export function parseManifest(bytes: Uint8Array, options: ParseManifestOptions): ParsedManifest {
  const { limits } = options;
  if (bytes.length > limits.manifest) {
    throw new SealiftError(
      'json-too-large',
      `manifest is too large: got ${bytes.length} bytes, want at most ${limits.manifest}`,
      { subject: options.digest, got: bytes.length, want: limits.manifest },
    );
  }
  const digest = options.digest ?? digestOf(bytes);
  if (options.digest !== undefined) assertDigest(bytes, options.digest);
  try {
    return parse(bytes, digest, options);
  } catch (error) {
    throw error instanceof SealiftError ? error.with({ subject: digest }) : error;
  }
}

function parse(bytes: Uint8Array, digest: Digest, options: ParseManifestOptions): ParsedManifest {
  const announced = options.mediaType === undefined ? undefined : withoutParameters(options.mediaType);
  if (announced !== undefined && isSchema1Type(announced)) throw schema1();
  const value = parseJson(bytes, {
    what: `manifest ${digest}`,
    maxBytes: options.limits.manifest,
    maxDepth: options.limits.jsonDepth,
    plainIntegers: true,
  });
  const object = asObject(value, 'manifest', CODE);
  assertSpelling(object, FIELDS, 'manifest');
  assertNotSchema1(object);
  asInteger(object['schemaVersion'], 'schemaVersion', CODE, { min: 2, max: 2 });

  const kind = kindByShape(object);
  const mediaType = effectiveType(object, kind, announced);
  const { subject, artifactType, annotations } = object;
  const common = {
    kind,
    bytes,
    digest,
    mediaType,
    ...(isPresent(subject) ? { subject: parseDescriptor(subject, 'subject') } : {}),
    ...(isPresent(artifactType) && artifactType !== ''
      ? { artifactType: parseMediaType(artifactType, 'artifactType') }
      : {}),
    annotations: isPresent(annotations) ? asStringMap(annotations, 'annotations', CODE) : {},
  };
  if (kind === 'index') return { ...common, layers: [], manifests: descriptors(object, 'manifests') };
  return {
    ...common,
    config: parseDescriptor(object['config'], 'config'),
    layers: descriptors(object, 'layers'),
    manifests: [],
  };
}

function schema1(): SealiftError {
  return new SealiftError(
    'schema1-unsupported',
    'this is a Docker image manifest of schema 1, want schema 2 or OCI',
    {
      hint: 'pull and push the image once with a current docker or skopeo, which writes it anew',
    },
  );
}

function assertNotSchema1(object: JsonObject): void {
  const type = object['mediaType'];
  const isTyped = typeof type === 'string' && isSchema1Type(type);
  // A document of schema 2 with fsLayers would be schema 1 to another reader.
  if (object['schemaVersion'] === 1 || isTyped || object['fsLayers'] !== undefined) throw schema1();
}

function kindByShape(object: JsonObject): 'image' | 'index' {
  const isIndex = object['manifests'] !== undefined;
  const isImage = object['config'] !== undefined || object['layers'] !== undefined;
  if (isIndex && isImage) {
    throw new SealiftError(
      CODE,
      'the document is an image and an index at once: got manifests beside config or layers',
    );
  }
  if (!isIndex && !isImage) {
    throw new SealiftError(CODE, 'neither an image nor an index: got no config, layers or manifests');
  }
  return isIndex ? 'index' : 'image';
}

function effectiveType(object: JsonObject, kind: 'image' | 'index', announced: string | undefined): string {
  const value = object['mediaType'];
  const field = isPresent(value) && value !== '' ? asString(value, 'mediaType', CODE) : undefined;
  for (const type of [announced, field]) {
    if (type !== undefined && !isManifestType(type)) {
      throw new SealiftError(CODE, `not the type of an image manifest or index: got "${inert(type, 160)}"`, {
        got: inert(type, 160),
      });
    }
  }
  if (announced !== undefined && field !== undefined && announced !== field) {
    throw new SealiftError(
      'media-type-mismatch',
      `manifest says it is another type: got ${field}, want ${announced}`,
      {
        got: field,
        want: announced,
      },
    );
  }
  const type = announced ?? field ?? (kind === 'index' ? OCI_INDEX : OCI_MANIFEST);
  if (isIndexType(type) !== (kind === 'index')) {
    throw new SealiftError(
      'media-type-mismatch',
      `manifest is of another kind: got the fields of an ${kind}, want ${type}`,
      {
        got: kind,
        want: type,
      },
    );
  }
  return type;
}

/** The descriptors in `field`; null counts as none, because Go writes an empty list so. */
function descriptors(object: JsonObject, field: string): Descriptor[] {
  const value = object[field];
  if (value === null) return [];
  return asArray(value, field, CODE).map((item, i) => parseDescriptor(item, `${field}[${i}]`));
}

/**
 * Type of an artifact, as the referrers API lists it (distribution specification 1.1): the field, else the
 * type of the config where that is not a container image's. Undefined for container images.
 */
export function artifactTypeOf(manifest: ParsedManifest): string | undefined {
  if (manifest.artifactType !== undefined) return manifest.artifactType;
  const config = manifest.config?.mediaType;
  return config === undefined || isImageConfig(config) ? undefined : config;
}
