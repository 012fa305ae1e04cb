/** What an export would carry, before it does: one image at its source, and the names a source lists. */
import type { Context } from './context.ts';
import { inert, SealiftError } from './errors.ts';
import { openLayout } from './oci/layout.ts';
import { parseReference } from './oci/reference.ts';
import { collectContent } from './transport/collect.ts';
import { imageNameOf, type NamedLocation, referenceIn } from './transport/location.ts';
import { listRepositoryTags } from './transport/registry/tags.ts';
import { openSource, type SourceOptions } from './transport/source.ts';

export interface PreviewOptions {
  readonly image: NamedLocation;
  /** `os/arch[/variant]`; empty for every platform. */
  readonly platforms: readonly string[];
  readonly includeEvidence: boolean;
  readonly source: SourceOptions;
}

export interface ImagePreview {
  /** Full name the image would have in the bundle. */
  readonly name: string;
  readonly digest: string;
  readonly platforms: readonly string[];
  /** Platforms of the image that the choice leaves behind. */
  readonly omitted: readonly string[];
  /** Bytes of all distinct blobs of the image, without evidence. */
  readonly size: number;
  /** Artifact types of the evidence found, one for each piece; empty where it has none. */
  readonly evidence: readonly string[];
  /** Every blob an export would carry for it, evidence included. */
  readonly blobs: readonly { readonly digest: string; readonly size: number }[];
}

/**
 * Fetches manifests and evidence of one image; no layers, no key, nothing is written.
 * @throws SealiftError as an export gives for its sources
 */
export async function previewImage(options: PreviewOptions, context: Context): Promise<ImagePreview> {
  const { image, platforms, includeEvidence } = options;
  const name = imageNameOf(image);
  const source = await openSource(image.location, options.source, context);
  try {
    const content = await collectContent(
      [{ name, reference: referenceIn(image.location), source }],
      { platforms, includeEvidence, concurrency: 4 },
      context,
    );
    const [collected] = content.images;
    if (!collected)
      throw new SealiftError('internal', 'an image was collected and is not there', { subject: name });
    return {
      name,
      digest: collected.manifest.digest,
      platforms: collected.platforms,
      omitted: collected.omitted.map(({ digest, platform }) => platform ?? digest),
      size: collected.contentSize,
      evidence: collected.evidence.map((digest) => content.evidence.get(digest)?.artifactType ?? ''),
      blobs: [...content.blobs.values()].map(({ digest, size }) => ({ digest, size })),
    };
  } finally {
    await source.close();
  }
}

export interface TagListOptions {
  /** A repository such as `quay.io/acme/app`, or `oci:DIRECTORY`. */
  readonly location: string;
  readonly source: SourceOptions;
}

export interface TagList {
  /** Locations as an export takes them, in the order the source has them. */
  readonly locations: readonly string[];
  /** The source has more than were read. */
  readonly truncated: boolean;
}

/**
 * Names at a source.
 * @throws SealiftError `invalid-reference`, `layout-invalid`, `source-*`
 */
export async function listTags(options: TagListOptions, context: Context): Promise<TagList> {
  const { location } = options;
  if (location.startsWith('oci:')) {
    const directory = location.slice('oci:'.length);
    const layout = await openLayout(directory, context.limits);
    const names = layout.images().flatMap(({ refName, name }) => {
      const known = refName ?? name;
      return known === undefined || inert(known, 1000) !== known ? [] : [known];
    });
    return { locations: [...new Set(names)].map((name) => `oci:${directory}:${name}`), truncated: false };
  }
  const reference = parseReference(location.replace(/^docker:\/\//, ''));
  const { tags, truncated } = await listRepositoryTags(reference, options.source, context);
  const { domain, path } = reference;
  return { locations: tags.map((tag) => `docker://${domain}/${path}:${tag}`), truncated };
}
