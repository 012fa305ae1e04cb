/** A plain file as an OCI artifact (image specification 1.1, manifest.md, "Guidelines for Artifact Usage"). */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import path from 'node:path';
import type { Context } from '../../context.ts';
import { inert, SealiftError } from '../../errors.ts';
import { digestOf, formatDigest } from '../../oci/digest.ts';
import { OCI_EMPTY, OCI_EMPTY_CONTENT, OCI_MANIFEST } from '../../oci/media-types.ts';
import { readContent } from '../content.ts';
import type { Location } from '../location.ts';
import type { Source, SourceManifest } from '../source.ts';

export const FILE_ARTIFACT = 'application/vnd.sealift.file.v1';
const FILE_CONTENT = 'application/octet-stream';
const TITLE = 'org.opencontainers.image.title';

/**
 * The manifest depends on the content and the last part of the path alone.
 * @throws SealiftError `source-not-found`; `invalid-argument` for what is no regular file or has a name with control
 *   characters
 */
export async function openFileSource(
  location: Extract<Location, { kind: 'file' }>,
  context: Context,
): Promise<Source> {
  const { file } = location;
  const title = path.basename(file);
  if (inert(title) !== title) {
    throw new SealiftError('invalid-argument', "the file's name has characters that do not print", {
      subject: inert(file),
    });
  }
  const handle = await openRegular(file);
  let made: Promise<SourceManifest> | undefined;
  const empty = Buffer.from(OCI_EMPTY_CONTENT);
  const emptyDigest = digestOf(empty);
  const { size } = await handle.stat();
  const make = async (): Promise<SourceManifest> => {
    const { sha256 } = await context.pool.range({
      source: { fd: handle.fd, offset: 0 },
      size,
      algorithms: ['sha256'],
      signal: context.signal,
    });
    const bytes = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: OCI_MANIFEST,
        artifactType: FILE_ARTIFACT,
        config: { mediaType: OCI_EMPTY, digest: emptyDigest, size: empty.length },
        layers: [
          {
            mediaType: FILE_CONTENT,
            digest: formatDigest('sha256', sha256 ?? ''),
            size,
            annotations: { [TITLE]: title },
          },
        ],
      }),
    );
    return { bytes, mediaType: OCI_MANIFEST, digest: digestOf(bytes), digestMadeHere: true };
  };
  return {
    location: inert(`file:${file}`),
    manifest() {
      made ??= make();
      return made;
    },
    blob: async (blob) =>
      blob.digest === emptyDigest && blob.size === empty.length
        ? once(empty)
        : readContent(
            async () => ({ handle, offset: 0, size: (await handle.stat()).size, close: async () => {} }),
            blob,
            context.signal,
          ),
    referrers: async () => ({ descriptors: [], via: 'layout' }),
    close: () => handle.close(),
  };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield Uint8Array.from(bytes);
}

async function openRegular(file: string): Promise<FileHandle> {
  let handle: FileHandle;
  try {
    handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw code === 'ENOENT' || code === 'ENOTDIR'
      ? new SealiftError('source-not-found', 'there is no such file', { subject: inert(file), cause })
      : new SealiftError('source-unreachable', `cannot read the file: ${inert(code ?? '')}`, {
          subject: inert(file),
          cause,
        });
  }
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  throw new SealiftError('invalid-argument', 'only a regular file can be wrapped', { subject: inert(file) });
}
