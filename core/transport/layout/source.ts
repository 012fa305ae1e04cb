/** An OCI image layout, on disk or in an archive, as a source. */
import type { Context } from '../../context.ts';
import { inert, isSealiftError, SealiftError } from '../../errors.ts';
import { attachedTags } from '../../oci/attached-tag.ts';
import type { Descriptor } from '../../oci/descriptor.ts';
import { type Digest, digestAlgorithm, digestHex, isDigest } from '../../oci/digest.ts';
import { type Layout, openLayout, readLayout } from '../../oci/layout.ts';
import type { ParsedManifest } from '../../oci/manifest.ts';
import { isIndexType, isManifestType } from '../../oci/media-types.ts';
import { openArchiveFile } from '../archive/spool.ts';
import { indexTar, type TarIndex } from '../archive/tar-index.ts';
import { readContent } from '../content.ts';
import type { Location } from '../location.ts';
import type { Referrers, Source, SourceManifest, SourceOptions, TaggedEvidence } from '../source.ts';

/**
 * An OCI image layout on disk. `manifest('')` is its only image.
 * @throws SealiftError `layout-invalid`, and as `openLayout()`
 */
export async function openLayoutSource(
  location: Extract<Location, { kind: 'oci' }>,
  context: Context,
): Promise<Source> {
  const layout = await openLayout(location.directory, context.limits);
  return layoutSource(layout, `oci:${location.directory}`, async () => {}, context);
}

/**
 * A tar archive of an OCI image layout; compressed ones are written out first.
 * @throws SealiftError `archive-invalid`, `layout-invalid`, `source-not-found`, `destination-full`
 */
export async function openLayoutArchive(
  location: Extract<Location, { kind: 'oci-archive' }>,
  options: SourceOptions,
  context: Context,
): Promise<Source> {
  const archive = await openArchiveFile(location.file, options.temporary, context);
  try {
    return await archivedLayout(await indexTar(archive, context), `oci-archive:${location.file}`, context);
  } catch (error) {
    await archive.close();
    throw error;
  }
}

/** The layout in an archive; closing the source closes the archive. */
export async function archivedLayout(tar: TarIndex, place: string, context: Context): Promise<Source> {
  const layout = await readLayout({ place, open: async (member) => tar.open(member) }, context.limits);
  return layoutSource(layout, place, () => tar.archive.close(), context);
}

function layoutSource(layout: Layout, place: string, close: () => Promise<void>, context: Context): Source {
  let scanned: Promise<Scan> | undefined;
  return {
    location: inert(place),
    manifest: (reference) => readManifest(layout, reference, context),
    blob: async (blob) => readContent(() => layout.openBlob(blob.digest), blob, context.signal),
    async referrers(subject): Promise<Referrers> {
      scanned ??= scan(layout, context);
      const descriptors = (await scanned).bySubject.get(subject) ?? new Map<Digest, Descriptor>();
      return { descriptors: [...descriptors.values()], via: 'layout' };
    },
    async tagged(subject) {
      const found: TaggedEvidence[] = [];
      for (const tag of attachedTags(subject)) {
        // Annotations hold a tag or a full name.
        const known = layout.images().find(({ refName }) => refName === tag || refName?.endsWith(`:${tag}`));
        if (known)
          found.push({ tag, manifest: await readManifest(layout, known.descriptor.digest, context) });
      }
      return found;
    },
    names: async () =>
      layout
        .images()
        .flatMap(({ name, descriptor }) =>
          name === undefined ? [] : [{ name, reference: name, digest: descriptor.digest }],
        ),
    close,
  };
}

async function readManifest(layout: Layout, reference: string, context: Context): Promise<SourceManifest> {
  context.signal.throwIfAborted();
  if (!isDigest(reference)) {
    const { descriptor } = layout.find(reference === '' ? undefined : reference);
    const bytes = await layout.readBlob(descriptor, context.limits.manifest);
    return { bytes, mediaType: descriptor.mediaType, digest: descriptor.digest };
  }
  const listed = layout.images().find(({ descriptor }) => descriptor.digest === reference)?.descriptor;
  const size = listed?.size ?? (await sizeOf(layout, reference));
  const bytes = await layout.readBlob({ digest: reference, size }, context.limits.manifest);
  return { bytes, mediaType: listed?.mediaType ?? '', digest: reference };
}

/** Of a manifest whose descriptor is not at hand; its digest is checked all the same. */
async function sizeOf(layout: Layout, digest: Digest): Promise<number> {
  const opened = await layout.openBlob(digest);
  await opened.close();
  return opened.size;
}

interface Scan {
  readonly bySubject: Map<Digest, Map<Digest, Descriptor>>;
}

/** Looks at every manifest that index.json leads to, once, for what is about what. */
async function scan(layout: Layout, context: Context): Promise<Scan> {
  const { limits, signal } = context;
  const bySubject: Scan['bySubject'] = new Map();
  const seen = new Set<Digest>();
  const add = (subject: Digest, descriptor: Descriptor): void => {
    if (descriptor.digest === subject) return;
    const known = bySubject.get(subject) ?? new Map<Digest, Descriptor>();
    if (!known.has(descriptor.digest)) known.set(descriptor.digest, descriptor);
    bySubject.set(subject, known);
  };
  const visit = async (descriptor: Descriptor, depth: number): Promise<ParsedManifest | undefined> => {
    signal.throwIfAborted();
    if (seen.has(descriptor.digest)) return undefined;
    if (!isManifestType(descriptor.mediaType) && !isIndexType(descriptor.mediaType)) return undefined;
    if (depth > limits.graphDepth || seen.size >= limits.entries) {
      throw new SealiftError('layout-invalid', 'manifests of the layout are too many or nested too deeply', {
        subject: inert(layout.directory),
      });
    }
    seen.add(descriptor.digest);
    const manifest = await readScanned(layout, descriptor, context);
    if (!manifest) return undefined;
    if (manifest.subject) add(manifest.subject.digest, plain(descriptor, manifest));
    for (const child of manifest.manifests) await visit(child, depth + 1);
    return manifest;
  };
  for (const { descriptor, refName } of layout.images()) {
    const manifest = await visit(descriptor, 0);
    const subject = refName === undefined ? undefined : subjectOfTag(refName, layout);
    if (manifest?.kind === 'index' && subject !== undefined) {
      for (const child of manifest.manifests) add(subject, child);
    }
  }
  return { bySubject };
}

/** A manifest of the layout; undefined where it is not there or not one sealift understands. */
async function readScanned(
  layout: Layout,
  descriptor: Descriptor,
  context: Context,
): Promise<ParsedManifest | undefined> {
  try {
    return await layout.readManifest(descriptor);
  } catch (error) {
    if (!isSealiftError(error)) throw error;
    // Layouts may hold a part of an index's platforms only.
    if (error.code === 'blob-missing') return undefined;
    if (error.code === 'digest-mismatch' || error.code === 'size-mismatch') throw error;
    context.emit({
      type: 'notice',
      level: 'warning',
      code: 'layout-manifest-skipped',
      message: `${descriptor.digest}: ${error.message}; if it is evidence, it is not taken`,
    });
    return undefined;
  }
}

/** The descriptor as a registry would list it: without the annotations that name an image. */
function plain(descriptor: Descriptor, manifest: ParsedManifest): Descriptor {
  const artifactType = manifest.artifactType ?? manifest.config?.mediaType;
  return {
    mediaType: descriptor.mediaType,
    digest: descriptor.digest,
    size: descriptor.size,
    ...(artifactType === undefined ? {} : { artifactType }),
    annotations: manifest.annotations,
  };
}

/**
 * What a tag `sha256-HEX` is about (distribution specification, "Referrers Tag Schema"). A sha512 digest is cut
 * in the tag, so it is looked for among the entries of the index.
 */
function subjectOfTag(refName: string, layout: Layout): Digest | undefined {
  // Annotations hold a tag or a full name.
  const tag = refName.slice(refName.lastIndexOf(':') + 1);
  const digest = tag.replace('-', ':');
  if (digest.startsWith('sha256:') && isDigest(digest)) return digest;
  if (!/^sha512-[0-9a-f]{64}$/.test(tag)) return undefined;
  return layout
    .images()
    .map(({ descriptor }) => descriptor.digest)
    .find(
      (known) =>
        digestAlgorithm(known) === 'sha512' && digestHex(known).startsWith(tag.slice('sha512-'.length)),
    );
}
