/**
 * Archives of `docker save` and `podman save` (`docker-archive:`). They hold a config and layers, and no manifest: the
 * manifest, and with it the digest, is made here, the same for the same content.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import type { Context } from '../../context.ts';
import { inert, SealiftError } from '../../errors.ts';
import { asArray, asObject, asString, asStrings, parseJson } from '../../json/strict.ts';
import { type Digest, digestOf, formatDigest, isDigest } from '../../oci/digest.ts';
import type { OpenedBlob } from '../../oci/layout.ts';
import {
  DOCKER_CONFIG,
  DOCKER_LAYER,
  DOCKER_LAYER_GZIP,
  DOCKER_LAYER_ZSTD,
  DOCKER_MANIFEST,
} from '../../oci/media-types.ts';
import { imageName, parseReference } from '../../oci/reference.ts';
import { readContent } from '../content.ts';
import type { Location } from '../location.ts';
import type { Source, SourceManifest, SourceOptions } from '../source.ts';
import { compressionOf, type OpenArchive, openArchiveFile } from './spool.ts';
import { indexTar, type Member, type TarIndex } from './tar-index.ts';

const MANIFEST = 'manifest.json';
/** More than any engine runs. */
const MOST_LAYERS = 4096;

const LAYER_TYPES = { none: DOCKER_LAYER, gzip: DOCKER_LAYER_GZIP, zstd: DOCKER_LAYER_ZSTD } as const;

interface Entry {
  readonly config: string;
  readonly layers: readonly string[];
  /** Full names. */
  readonly names: readonly string[];
}

/**
 * Opens an archive file; compressed ones are written out first.
 * @throws SealiftError `archive-invalid`, `source-not-found`, `destination-full`
 */
export async function openDockerArchive(
  location: Extract<Location, { kind: 'docker-archive' }>,
  options: SourceOptions,
  context: Context,
): Promise<Source> {
  const archive = await openArchiveFile(location.file, options.temporary, context);
  return dockerArchive(archive, `docker-archive:${location.file}`, context);
}

/** The images in an open archive; closing the source closes it. */
export async function dockerArchive(archive: OpenArchive, place: string, context: Context): Promise<Source> {
  try {
    const tar = await indexTar(archive, context);
    return sourceOf(tar, await readEntries(tar, context), place, context);
  } catch (error) {
    await archive.close();
    throw error;
  }
}

function invalid(place: string, message: string, hint?: string): SealiftError {
  return new SealiftError('archive-invalid', message, { subject: inert(place), hint });
}

async function readEntries(tar: TarIndex, context: Context): Promise<Entry[]> {
  const { limits } = context;
  const { place } = tar.archive;
  const bytes = await tar.read(MANIFEST, limits.bundleFile);
  if (!bytes) {
    if (tar.find('oci-layout')) {
      throw invalid(
        place,
        'the archive is an OCI layout and no docker archive',
        `write oci-archive:${inert(place)}`,
      );
    }
    throw invalid(
      place,
      tar.find('repositories')
        ? 'the archive is of a docker older than 1.10, got no manifest.json'
        : 'not an archive of docker save or podman save, got no manifest.json',
      'save the image again with docker save or podman save',
    );
  }
  const value = parseJson(bytes, { what: MANIFEST, maxBytes: limits.bundleFile, maxDepth: limits.jsonDepth });
  return asArray(value, MANIFEST, 'archive-invalid').map((item, i) => {
    const entry = asObject(item, `${MANIFEST}[${i}]`, 'archive-invalid');
    const tags = entry['RepoTags'];
    const layers = entry['Layers'];
    return {
      config: asString(entry['Config'], `${MANIFEST}[${i}].Config`, 'archive-invalid'),
      layers:
        layers === undefined || layers === null
          ? []
          : asStrings(layers, `${MANIFEST}[${i}].Layers`, 'archive-invalid'),
      names:
        tags === undefined || tags === null
          ? []
          : asStrings(tags, `${MANIFEST}[${i}].RepoTags`, 'archive-invalid').map((tag) =>
              imageName(parseReference(tag)),
            ),
    };
  });
}

interface Place {
  readonly member: Member;
  readonly digest: Digest;
}

function sourceOf(tar: TarIndex, entries: readonly Entry[], place: string, context: Context): Source {
  const places = new Map<Digest, Member>();
  const made = new Map<Entry, Promise<SourceManifest>>();
  const manifests = new Map<Digest, SourceManifest>();
  const hashed = new Map<number, Promise<Digest>>();

  /** Digest of a member as it is; the same one is hashed once, however many images share it. */
  const digestOfMember = (member: Member): Promise<Digest> => {
    let digest = hashed.get(member.offset);
    if (!digest) {
      digest = context.pool
        .range({
          source: { fd: tar.archive.handle.fd, offset: member.offset },
          size: member.size,
          algorithms: ['sha256'],
          signal: context.signal,
        })
        .then(({ sha256 }) => formatDigest('sha256', sha256 ?? ''));
      hashed.set(member.offset, digest);
    }
    return digest;
  };

  const member = (name: string): Member => {
    const found = tar.find(normal(name));
    if (!found) throw invalid(place, `${MANIFEST} names ${inert(name, 120)}, which is not in the archive`);
    return found;
  };

  async function layer(name: string, diffId: string): Promise<Place & { readonly mediaType: string }> {
    const found = member(name);
    const digest = await digestOfMember(found);
    const head = Buffer.alloc(8);
    await tar.archive.handle.read(head, 0, Math.min(head.length, found.size), found.offset);
    const compression = compressionOf(head);
    if (typeof compression === 'object')
      throw invalid(place, `a layer is compressed with ${compression.unknown}: ${inert(name, 120)}`);
    const content = compression === 'none' ? digest : await digestOfContent(tar, found, compression, context);
    if (content !== diffId) {
      throw new SealiftError(
        'digest-mismatch',
        `layer ${inert(name, 120)} is not what its image's config says: got ${content}, want ${inert(diffId, 160)}`,
        { subject: inert(place), got: content, want: inert(diffId, 160), hint: 'save the image again' },
      );
    }
    return { member: found, digest, mediaType: LAYER_TYPES[compression] };
  }

  async function build(entry: Entry): Promise<SourceManifest> {
    const { limits } = context;
    if (entry.layers.length > MOST_LAYERS)
      throw invalid(
        place,
        `an image has too many layers: got ${entry.layers.length}, want at most ${MOST_LAYERS}`,
      );
    const bytes = await tar.read(normal(entry.config), limits.config);
    if (!bytes)
      throw invalid(place, `${MANIFEST} names ${inert(entry.config, 120)}, which is not in the archive`);
    const config = digestOf(bytes);
    const claimed = /(?:^|\/)([0-9a-f]{64})(?:\.json)?$/.exec(entry.config)?.[1];
    if (claimed !== undefined && config !== `sha256:${claimed}`) {
      throw new SealiftError(
        'digest-mismatch',
        `the image's config is not what its name says: got ${config}, want sha256:${claimed}`,
        { subject: inert(place), got: config, want: `sha256:${claimed}`, hint: 'save the image again' },
      );
    }
    const diffIds = diffIdsOf(bytes, context);
    if (diffIds.length !== entry.layers.length) {
      throw invalid(
        place,
        `an image has ${entry.layers.length} layers, but its config names ${diffIds.length}`,
      );
    }
    places.set(config, member(entry.config));
    const layers = [];
    for (const [i, name] of entry.layers.entries()) {
      const found = await layer(name, diffIds[i] ?? '');
      places.set(found.digest, found.member);
      layers.push({ mediaType: found.mediaType, size: found.member.size, digest: found.digest });
    }
    const manifest = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: DOCKER_MANIFEST,
        config: { mediaType: DOCKER_CONFIG, size: bytes.length, digest: config },
        layers,
      }),
    );
    const answer: SourceManifest = {
      bytes: manifest,
      mediaType: DOCKER_MANIFEST,
      digest: digestOf(manifest),
      digestMadeHere: true,
    };
    manifests.set(answer.digest, answer);
    return answer;
  }

  const openBlob = async (digest: Digest): Promise<OpenedBlob> => {
    // After an interruption the manifest was signed already and nobody has asked for it in this run.
    if (!places.has(digest)) for (const entry of entries) await manifestOf(entry);
    const found = places.get(digest);
    if (!found) {
      throw new SealiftError('source-not-found', 'the archive has no such blob', {
        subject: digest,
        hint: 'the archive was replaced since the export began; begin anew with --force',
      });
    }
    return { handle: tar.archive.handle, offset: found.offset, size: found.size, close: async () => {} };
  };

  const manifestOf = (entry: Entry): Promise<SourceManifest> => {
    const known = made.get(entry) ?? build(entry);
    made.set(entry, known);
    return known;
  };

  return {
    location: inert(place),
    async manifest(reference) {
      context.signal.throwIfAborted();
      if (isDigest(reference)) {
        const known = manifests.get(reference);
        if (known) return known;
        throw new SealiftError('source-not-found', 'a docker archive knows no digests of registries', {
          subject: reference,
          hint: 'name the image by its tag, or by its number as in :@0',
        });
      }
      return manifestOf(findEntry(entries, reference));
    },
    blob: async (blob) => readContent(() => openBlob(blob.digest), blob, context.signal),
    referrers: async () => ({ descriptors: [], via: 'layout' }),
    names: async () =>
      entries.flatMap((entry, i) => entry.names.map((name) => ({ name, reference: `@${i}` }))),
    close: () => tar.archive.close(),
  };
}

function normal(name: string): string {
  return name.replace(/^(?:\.\/)+/, '');
}

/** By number (`@0`), by name in any spelling, or the only one. */
function findEntry(entries: readonly Entry[], reference: string): Entry {
  const shown = entries.map((entry, i) => entry.names[0] ?? `@${i}`);
  const hint =
    entries.length === 0
      ? 'the archive is empty'
      : `it has: ${shown
          .slice(0, 8)
          .map((name) => inert(name))
          .join(', ')}${shown.length > 8 ? ', …' : ''}`;
  let found: readonly Entry[] = entries;
  if (/^@\d{1,6}$/.test(reference)) found = entries.slice(Number(reference.slice(1))).slice(0, 1);
  else if (reference !== '') {
    const name = imageName(parseReference(reference));
    found = entries.filter(({ names }) => names.includes(name));
  }
  const [first, second] = found;
  if (!first)
    throw new SealiftError('name-not-found', 'the archive has no such image', {
      subject: inert(reference),
      hint,
    });
  if (second)
    throw new SealiftError('name-conflict', 'the archive has several images, want the name of one', { hint });
  return first;
}

function diffIdsOf(bytes: Uint8Array, context: Context): readonly string[] {
  const value = parseJson(bytes, {
    what: 'image config',
    maxBytes: context.limits.config,
    maxDepth: context.limits.jsonDepth,
  });
  const config = asObject(value, 'image config', 'archive-invalid');
  const rootfs = asObject(config['rootfs'], 'image config: rootfs', 'archive-invalid');
  const ids = rootfs['diff_ids'];
  return ids === undefined || ids === null
    ? []
    : asStrings(ids, 'image config: rootfs.diff_ids', 'archive-invalid');
}

/** Digest of what a compressed layer holds. */
async function digestOfContent(
  tar: TarIndex,
  member: Member,
  compression: 'gzip' | 'zstd',
  context: Context,
): Promise<Digest> {
  const hash = createHash('sha256');
  let bytes = 0;
  const input = createReadStream('', {
    fd: tar.archive.handle,
    start: member.offset,
    end: member.offset + member.size - 1,
    autoClose: false,
    highWaterMark: 1024 * 1024,
  });
  try {
    await pipeline(
      input,
      compression === 'gzip' ? createGunzip() : createZstdDecompress(),
      async (source: AsyncIterable<Uint8Array>) => {
        for await (const chunk of source) {
          bytes += chunk.length;
          if (bytes > context.limits.blob) throw invalid(tar.archive.place, 'a layer is too large');
          hash.update(chunk);
        }
      },
      { signal: context.signal },
    );
  } catch (error) {
    if (error instanceof SealiftError) throw error;
    if (context.signal.aborted) throw context.signal.reason;
    throw new SealiftError('archive-invalid', 'a layer does not decompress', {
      subject: inert(tar.archive.place),
      cause: error,
    });
  }
  return formatDigest('sha256', hash.digest('hex'));
}
