/**
 * Packages as an image's SBOMs list them: SPDX 2 and CycloneDX as JSON, bare, in an in-toto statement, or that in a
 * DSSE envelope. Claims of whoever made the SBOM.
 */
import type { Context } from '../context.ts';
import { isSealiftError } from '../errors.ts';
import { type JsonObject, type JsonValue, parseJson } from '../json/strict.ts';
import { isAttestation } from '../oci/attestation.ts';
import { parseManifest } from '../oci/manifest.ts';
import type { CollectedImage } from '../transport/collect.ts';
import type { Pair } from './image.ts';
import type { PackageChange } from './result.ts';
import type { Side } from './side.ts';

/** SBOMs of large images are tens of megabytes. */
const MAX_SBOM = 64 * 1024 * 1024;
const MAY_BE_SBOM = /spdx|cyclonedx|in-toto|dsse/i;

/** Versions by package. */
export type Packages = ReadonlyMap<string, ReadonlySet<string>>;

/** Undefined unless both images have an SBOM that can be read. @throws SealiftError what the sources give */
export async function comparePackages(
  { before, after }: Pair,
  sides: { readonly before: Side; readonly after: Side },
  context: Context,
): Promise<readonly PackageChange[] | undefined> {
  const old = await packagesOf(before, sides.before, context);
  const young = old && (await packagesOf(after, sides.after, context));
  if (!young) return undefined;
  const changes: PackageChange[] = [];
  for (const name of [...new Set([...old.keys(), ...young.keys()])].sort()) {
    const [was, is] = [old.get(name), young.get(name)].map((versions) => versions && [...versions].sort());
    if (was && is && was.length === is.length && was.every((version, i) => version === is[i])) continue;
    changes.push({ name, ...(was ? { before: was } : {}), ...(is ? { after: is } : {}) });
  }
  return changes;
}

async function packagesOf(
  image: CollectedImage,
  side: Side,
  context: Context,
): Promise<Packages | undefined> {
  const found = new Map<string, Set<string>>();
  let any = false;
  for (const { digest, size } of sbomBlobs(image, side, context)) {
    if (size > MAX_SBOM) continue;
    const packages = await readSbom(() => side.read(digest, MAX_SBOM), context);
    if (!packages) continue;
    any = true;
    for (const [name, version] of packages) {
      const versions = found.get(name) ?? new Set();
      versions.add(version);
      found.set(name, versions);
    }
  }
  return any ? found : undefined;
}

/** What hangs on the image as evidence, and what BuildKit lists in the index itself. */
function sbomBlobs(image: CollectedImage, side: Side, context: Context) {
  const { evidence, content } = { evidence: image.evidence, content: side.content };
  const attestations = image.manifest.manifests.filter(isAttestation).map(({ digest }) => digest);
  return [...evidence, ...attestations].flatMap((digest) => {
    const bytes = content.blobs.get(digest)?.bytes;
    if (!bytes) return [];
    const { layers, artifactType } = parseManifest(bytes, {
      digest,
      mediaType: undefined,
      limits: context.limits,
    });
    return layers.filter(
      ({ mediaType }) => MAY_BE_SBOM.test(mediaType) || MAY_BE_SBOM.test(artifactType ?? ''),
    );
  });
}

async function readSbom(
  read: () => Promise<Uint8Array>,
  context: Context,
): Promise<readonly (readonly [string, string])[] | undefined> {
  try {
    return parsePackages(await read(), context.limits.jsonDepth);
  } catch (error) {
    // A document that is none of these, or is not here, tells nothing of packages.
    if (isSealiftError(error) && error.category === 'malformed') return undefined;
    throw error;
  }
}

/**
 * Name and version of every package in an SBOM; undefined where the document is none.
 * @throws SealiftError `json-*`
 */
export function parsePackages(
  bytes: Uint8Array,
  maxDepth: number,
): readonly (readonly [name: string, version: string])[] | undefined {
  return packagesIn(parseJson(bytes, { what: 'SBOM', maxBytes: MAX_SBOM, maxDepth }), maxDepth);
}

function packagesIn(document: JsonValue, maxDepth: number): [string, string][] | undefined {
  if (!isObject(document)) return undefined;
  const { payload, payloadType, predicate, spdxVersion, bomFormat } = document;
  if (typeof payload === 'string' && typeof payloadType === 'string') {
    const inner = parseJson(Buffer.from(payload, 'base64'), { what: 'SBOM', maxBytes: MAX_SBOM, maxDepth });
    return isObject(inner) && inner['payload'] !== undefined ? undefined : packagesIn(inner, maxDepth);
  }
  if (isObject(predicate)) {
    // cosign wraps some predicates once more.
    const { Data: data } = predicate;
    return packagesIn(isObject(data) ? data : { ...predicate, predicate: null }, maxDepth);
  }
  if (typeof spdxVersion === 'string') return spdxPackages(document['packages']);
  if (bomFormat === 'CycloneDX') return cycloneComponents(document['components']);
  return undefined;
}

function spdxPackages(list: JsonValue | undefined): [string, string][] {
  return objects(list).flatMap((entry): [string, string][] => {
    const purl = objects(entry['externalRefs']).find(({ referenceType }) => referenceType === 'purl')?.[
      'referenceLocator'
    ];
    return named(purl, entry['name'], entry['versionInfo']);
  });
}

function cycloneComponents(list: JsonValue | undefined): [string, string][] {
  return objects(list).flatMap((entry): [string, string][] => [
    ...(entry['type'] === 'file' ? [] : named(entry['purl'], entry['name'], entry['version'])),
    ...cycloneComponents(entry['components']),
  ]);
}

/** By package URL where there is one, since two ecosystems may use one name; its version and qualifiers are cut off. */
function named(
  purl: JsonValue | undefined,
  name: JsonValue | undefined,
  version: JsonValue | undefined,
): [string, string][] {
  if (typeof name !== 'string' || name === '') return [];
  const type = typeof purl === 'string' ? /^pkg:([a-z0-9.+-]+)\//i.exec(purl)?.[1] : undefined;
  return [
    [type === undefined ? name : `${type.toLowerCase()}/${name}`, typeof version === 'string' ? version : ''],
  ];
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function objects(value: JsonValue | undefined): JsonObject[] {
  return Array.isArray(value) ? (value as readonly JsonValue[]).filter(isObject) : [];
}
