/** What an export would carry, before it does: images at their sources, and the names a source lists. */
import type { Context } from './context.ts';
import { type LeftOut, leaveOut } from './delta/leave-out.ts';
import type { Held } from './delta/since.ts';
import { inert } from './errors.ts';
import type { KindCount } from './evidence/kinds.ts';
import { refuseNothing, requestsOf, SourceSet } from './exporting/sources.ts';
import { openLayout } from './oci/layout.ts';
import { parseReference } from './oci/reference.ts';
import type { ExportPreview } from './results.ts';
import {
  type Content,
  collectContent,
  type FailedImage,
  imageFailure,
  throwFailures,
} from './transport/collect.ts';
import { imageNameOf, type NamedLocation, parseLocation } from './transport/location.ts';
import { listRepositories, listRepositoryTags } from './transport/registry/tags.ts';
import { openSource, type SourceOptions } from './transport/source.ts';
import { openCollection } from './trust/collection.ts';
import type { ExportOptions, SinceSpec } from './workflow-options.ts';

export type PreviewOptions = Pick<
  ExportOptions,
  | 'images'
  | 'platforms'
  | 'includeEvidence'
  | 'excludeReferrers'
  | 'excludeTagged'
  | 'excludeAttestations'
  | 'lookaside'
  | 'contentTrust'
  | 'includeForeign'
  | 'concurrency'
  | 'source'
  | 'blobsFrom'
>;

export interface ImagePreview {
  /** Full name the image would have in the bundle. */
  readonly name: string;
  /** As it was asked for. */
  readonly location: string;
  readonly digest: string;
  readonly mediaType: string;
  readonly platforms: readonly string[];
  /** Platforms of the image that the choice leaves behind. */
  readonly omitted: readonly string[];
  /** Bytes of all distinct blobs of the image, without evidence. */
  readonly size: number;
  /** Artifact types of the evidence found, one for each piece; empty where it has none. */
  readonly evidence: readonly string[];
  /** How many there are of each kind, with the attestations that are part of an index. */
  readonly evidenceKinds?: readonly KindCount[] | undefined;
  /** Every blob an export would carry for it, evidence included. */
  readonly blobs: readonly { readonly digest: string; readonly size: number }[];
  readonly digestMadeHere: boolean;
}

interface Collected {
  readonly leftOut?: LeftOut | undefined;
  readonly images: readonly NamedLocation[];
  readonly content: Content;
  /** What some of the images fail with, where others can be had. */
  readonly failed: readonly FailedImage[];
}

/** Fetches manifests and evidence as an export does; no layers, no key, nothing is written. */
async function collectImages(
  options: PreviewOptions,
  context: Context,
  /** Also whether an export of what can be had would have every layer, with what is held on the other side. */
  complete?: { readonly held: Held | undefined },
): Promise<Collected> {
  refuseNothing(options.images);
  const sources = new SourceSet(options, context);
  try {
    context.emit({ type: 'phase', phase: 'resolve', title: 'resolving images' });
    const images = await sources.named();
    const requests = await requestsOf(images, sources, options, context);
    const content = await collectContent(requests, { ...options, tolerant: true }, context);
    const failed = [...sources.failed, ...content.failed];
    if (content.images.length === 0) throwFailures(failed, failed.length);
    const leftOut = complete?.held && leaveOut(content, complete.held);
    if (complete) {
      const { assertComplete } = await import('./delta/completeness.ts');
      await assertComplete(content, leftOut, requests, sources, context);
    }
    return { images, content, failed, leftOut };
  } finally {
    await sources.close();
  }
}

function describe(images: readonly NamedLocation[], content: Content): readonly ImagePreview[] {
  const places = new Map<string, { readonly text: string; readonly indexes: Set<number> }>();
  for (const [index, named] of images.entries()) {
    const name = imageNameOf(named);
    const place = places.get(name) ?? { text: named.text, indexes: new Set() };
    place.indexes.add(index);
    places.set(name, place);
  }
  return content.images.map((image) => {
    const { text = image.name, indexes = new Set<number>() } = places.get(image.name) ?? {};
    return {
      name: image.name,
      location: text,
      digest: image.manifest.digest,
      mediaType: image.manifest.mediaType,
      platforms: image.platforms,
      omitted: image.omitted.map(({ digest, platform }) => platform ?? digest),
      size: image.contentSize,
      evidence: image.evidence.map((digest) => content.evidence.get(digest)?.artifactType ?? ''),
      evidenceKinds: image.evidenceKinds,
      blobs: [...content.blobs.values()]
        .filter((blob) => [...blob.images].some((index) => indexes.has(index)))
        .map(({ digest, size }) => ({ digest, size })),
      digestMadeHere: image.digestMadeHere,
    };
  });
}

/**
 * Looks at images at their sources, as an export would carry them; a location that names none of its images stands for all.
 * @throws SealiftError of the sources where any image cannot be had; `invalid-argument` where nothing was asked for
 */
export async function previewImages(
  options: PreviewOptions,
  context: Context,
): Promise<readonly ImagePreview[]> {
  const { images, content, failed } = await collectImages(options, context);
  throwFailures(failed, content.images.length + failed.length);
  return describe(images, content);
}

/**
 * What an export of `options.images` would carry: everything small is fetched, nothing is signed or written. What some of
 * the images fail with is part of the result.
 * @throws SealiftError of the sources where no image can be had; `invalid-argument` where nothing was asked for
 */
export async function previewExport(
  options: PreviewOptions & { readonly delta?: DeltaPreview | undefined },
  context: Context,
): Promise<Omit<ExportPreview, 'skipped'>> {
  const held = options.delta && (await heldThere(options.delta, context));
  const { images, content, failed, leftOut } = await collectImages(options, context, { held });
  const left = [...content.blobs.values()].filter(({ digest }) => leftOut?.digests.has(digest) === true);
  const bytesOf = (blobs: Iterable<{ readonly size: number }>) =>
    [...blobs].reduce((sum, { size }) => sum + size, 0);
  return {
    dryRun: true,
    images: describe(images, content).map(
      ({
        name,
        location,
        digest,
        mediaType,
        platforms,
        size,
        evidence,
        evidenceKinds = [],
        digestMadeHere,
      }) => ({
        name,
        location,
        digest,
        mediaType,
        platforms,
        size,
        evidence: evidence.length,
        evidenceKinds,
        digestMadeHere,
      }),
    ),
    failed: failed.map(imageFailure),
    blobs: {
      count: content.blobs.size - left.length,
      bytes: bytesOf(content.blobs.values()) - bytesOf(left),
    },
    ...(leftOut ? { base: { version: leftOut.version, blobs: left.length, bytes: bytesOf(left) } } : {}),
  };
}

/** What a delta would start from. */
export interface DeltaPreview {
  /** Directory of the collection. */
  readonly collection: string;
  readonly since: SinceSpec;
}

async function heldThere({ collection, since }: DeltaPreview, context: Context): Promise<Held> {
  const { resolveSince } = await import('./delta/since.ts');
  return resolveSince(await openCollection(collection, context.limits), since, context, false);
}

export interface NameListOptions {
  /** A registry (`quay.io`), a repository (`quay.io/acme/app`), or a place of images (`oci:DIRECTORY`, `bundle:FILE`, …). */
  readonly location: string;
  readonly source: SourceOptions;
}

export interface NameList {
  /** What is listed: repositories, whose tags can be listed in turn, or images. */
  readonly of: 'repositories' | 'images';
  /** Locations, in the order the source has them: repositories as this function takes them, images as an export does. */
  readonly locations: readonly string[];
  /** The source has more than were read. */
  readonly truncated: boolean;
}

/** `localhost`, or what has a dot or a port and no path. */
const HOST =
  /^(?:docker:\/\/)?([a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)+(?::\d{1,5})?|[a-zA-Z0-9-]+:\d{4,5}|localhost(?::\d{1,5})?|\[[0-9a-fA-F:]+\](?::\d{1,5})?)\/?$/;

/** `HOST[:PORT]` where `text` names a registry and no image in it. */
export function registryHost(text: string): string | undefined {
  return HOST.exec(text)?.[1];
}

/**
 * Names at a source.
 * @throws SealiftError `invalid-reference`, `layout-invalid`, `source-*`
 */
export async function listNames(options: NameListOptions, context: Context): Promise<NameList> {
  const { location, source } = options;
  const host = registryHost(location);
  if (host !== undefined) {
    const { names, truncated } = await listRepositories(host, source, context);
    return { of: 'repositories', locations: names.map((name) => `${host}/${name}`), truncated };
  }
  if (/^[a-z-]+:(?!\/\/)[^@]*$/.test(location)) {
    const place = parseLocation(location).location;
    if (place.kind === 'oci') {
      return { of: 'images', locations: await namesOfLayout(place.directory, context), truncated: false };
    }
    if (place.kind !== 'docker') {
      return { of: 'images', locations: await namesAt(location, options, context), truncated: false };
    }
  }
  const reference = parseReference(location.replace(/^docker:\/\//, ''));
  const { names, truncated } = await listRepositoryTags(reference, source, context);
  const { domain, path } = reference;
  return { of: 'images', locations: names.map((tag) => `docker://${domain}/${path}:${tag}`), truncated };
}

/** With tags that are no full names, which whoever exports must complete. */
async function namesOfLayout(directory: string, context: Context): Promise<readonly string[]> {
  const layout = await openLayout(directory, context.limits);
  const names = layout.images().flatMap(({ refName, name }) => {
    const known = refName ?? name;
    return known === undefined || inert(known, 1000) !== known ? [] : [known];
  });
  return [...new Set(names)].map((name) => `oci:${directory}:${name}`);
}

async function namesAt(
  location: string,
  options: NameListOptions,
  context: Context,
): Promise<readonly string[]> {
  const opened = await openSource(parseLocation(location).location, options.source, context);
  try {
    return ((await opened.names?.()) ?? []).flatMap(({ name, reference }) => {
      const text = name === reference ? `${location}:${name}` : `${name}=${location}:${reference}`;
      return inert(text, 4096) === text ? [text] : [];
    });
  } finally {
    await opened.close();
  }
}
