/**
 * A directory in the key layout of a registry (docs/static-bucket.md), read where it lies. Keys are built from names and
 * digests of their grammars only, and nothing in it may be a link.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import path from 'node:path';
import type { Context } from '../../context.ts';
import { inert, SealiftError } from '../../errors.ts';
import { asObject, asString, parseJson } from '../../json/strict.ts';
import { attachedTags } from '../../oci/attached-tag.ts';
import { assertDigest, type Digest, digestOf, isDigest } from '../../oci/digest.ts';
import type { OpenedBlob } from '../../oci/layout.ts';
import { parseManifest } from '../../oci/manifest.ts';
import { OCI_INDEX } from '../../oci/media-types.ts';
import { formatReference } from '../../oci/reference.ts';
import { readContent } from '../content.ts';
import type { Location } from '../location.ts';
import type { Source, SourceManifest, TaggedEvidence } from '../source.ts';

type StaticLocation = Extract<Location, { kind: 'static' }>;

/** @throws SealiftError `source-not-found` where the directory has no such repository */
export async function openStaticSource(location: StaticLocation, context: Context): Promise<Source> {
  const { directory, reference } = location;
  const place = inert(`static:${directory}:${formatReference(reference)}`);
  const wanted = reference.digest ?? reference.tag ?? 'latest';
  const { limits } = context;

  const openKey = (repository: string, key: string): Promise<OpenedBlob | undefined> =>
    openRegular(path.join(directory, 'v2', ...repository.split('/'), ...key.split('/')), place);
  const readKey = async (repository: string, key: string, max: number): Promise<Buffer | undefined> => {
    const opened = await openKey(repository, key);
    if (!opened) return undefined;
    try {
      if (opened.size > max) {
        throw new SealiftError(
          'source-too-large',
          `${inert(key)} is too large: got ${opened.size} bytes, want at most ${max}`,
          { subject: place },
        );
      }
      const bytes = Buffer.alloc(opened.size);
      const { bytesRead } = await opened.handle.read(bytes, 0, bytes.length, 0);
      return bytes.subarray(0, bytesRead);
    } finally {
      await opened.close();
    }
  };

  // Trees hold the full name; those of other programs, the path alone.
  const repository = await firstOf(
    [`${reference.domain}/${reference.path}`, reference.path],
    async (name) => {
      const found = await openKey(name, `manifests/${wanted}`);
      await found?.close();
      return found !== undefined;
    },
  );
  if (repository === undefined) {
    throw new SealiftError('source-not-found', 'the directory has no such image', {
      subject: place,
      hint: `it was looked for at v2/${reference.domain}/${reference.path}/manifests/${wanted}`,
    });
  }

  const readManifest = async (asked: string): Promise<SourceManifest> => {
    const bytes = await readKey(repository, `manifests/${asked}`, limits.manifest);
    if (!bytes)
      throw new SealiftError('source-not-found', 'the directory has no such manifest', { subject: asked });
    if (isDigest(asked)) assertDigest(bytes, asked);
    return {
      bytes,
      mediaType: mediaTypeIn(bytes, context),
      digest: isDigest(asked) ? asked : digestOf(bytes),
    };
  };
  const openBlob = async (digest: Digest): Promise<OpenedBlob> => {
    const opened = await openKey(repository, `blobs/${digest}`);
    if (!opened)
      throw new SealiftError('source-not-found', 'the directory has no such blob', { subject: digest });
    return opened;
  };
  return {
    location: place,
    manifest: (asked) => readManifest(asked === '' ? wanted : asked),
    blob: async (blob) => readContent(() => openBlob(blob.digest), blob, context.signal),
    async referrers(subject) {
      for (const [key, via] of [
        [`referrers/${subject}`, 'referrers-api'],
        [`manifests/${subject.replace(':', '-')}`, 'referrers-tag'],
      ] as const) {
        const bytes = await readKey(repository, key, limits.registryDocument);
        if (!bytes) continue;
        const { manifests } = parseManifest(bytes, {
          mediaType: OCI_INDEX,
          limits: { manifest: limits.registryDocument, jsonDepth: limits.jsonDepth },
        });
        return { descriptors: manifests, via };
      }
      return { descriptors: [], via: 'referrers-api' };
    },
    async tagged(subject) {
      const found: TaggedEvidence[] = [];
      for (const tag of attachedTags(subject)) {
        const opened = await openKey(repository, `manifests/${tag}`);
        await opened?.close();
        if (opened) found.push({ tag, manifest: await readManifest(tag) });
      }
      return found;
    },
    close: async () => {},
  };
}

/** The type the document itself says; without one it is told by its shape. */
function mediaTypeIn(bytes: Uint8Array, { limits }: Context): string {
  const value = parseJson(bytes, { what: 'manifest', maxBytes: limits.manifest, maxDepth: limits.jsonDepth });
  const { mediaType } = asObject(value, 'manifest', 'manifest-invalid') as { mediaType?: never };
  return mediaType === undefined ? '' : asString(mediaType, 'mediaType', 'manifest-invalid');
}

async function firstOf(
  names: readonly string[],
  is: (name: string) => Promise<boolean>,
): Promise<string | undefined> {
  for (const name of names) if (await is(name)) return name;
  return undefined;
}

async function openRegular(file: string, place: string): Promise<OpenedBlob | undefined> {
  let handle: FileHandle;
  try {
    handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new SealiftError('source-unreachable', `cannot read a file of the tree: ${inert(code ?? '')}`, {
      subject: place,
      cause,
    });
  }
  const facts = await handle.stat();
  if (facts.isFile()) return { handle, offset: 0, size: facts.size, close: () => handle.close() };
  await handle.close();
  throw new SealiftError('source-protocol', 'the tree holds something that is no file', { subject: place });
}
