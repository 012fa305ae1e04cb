/**
 * Reading an OCI image layout (OCI image specification 1.1, image-layout.md).
 *
 * The directory may come from anyone. Paths are built from validated digests only, and nothing inside the
 * layout may be a symbolic link, so that a layout cannot make sealift read files outside it. Node has no
 * openat: somebody who can write to the layout while it is read could still exchange `blobs` itself between
 * check and open, and would gain no more than wrong bytes, which their digest gives away.
 */
import { constants } from 'node:fs';
import { type FileHandle, lstat, open } from 'node:fs/promises';
import path from 'node:path';
import { inert, SealiftError } from '../errors.ts';
import { asObject, asString, parseJson } from '../json/strict.ts';
import type { Limits } from '../limits.ts';
import type { Descriptor } from './descriptor.ts';
import { assertDigest, blobPath, type Digest, isDigest } from './digest.ts';
import { type ParsedManifest, parseManifest } from './manifest.ts';
import { OCI_INDEX } from './media-types.ts';
import { imageName, parseReference } from './reference.ts';

export const LAYOUT_FILE = 'oci-layout';
export const INDEX_FILE = 'index.json';
export const LAYOUT_VERSION = '1.0.0';
export const REF_NAME = 'org.opencontainers.image.ref.name';
export const CONTAINERD_NAME = 'io.containerd.image.name';

/** Room for the one object of `oci-layout`. */
const LAYOUT_FILE_MAX = 64 * 1024;

/** One entry of a layout's index. */
export interface LayoutImage {
  readonly descriptor: Descriptor;
  /** Annotation `org.opencontainers.image.ref.name`, as it stands: a tag, a full name or anything else. */
  readonly refName?: string;
  /** Annotation `io.containerd.image.name`, as it stands. */
  readonly containerdName?: string;
  /** The full name, where one of the two is one. */
  readonly name?: string;
}

export interface OpenedBlob {
  readonly handle: FileHandle;
  /** Where in the file the content begins. */
  readonly offset: number;
  /** Bytes that are there, not the size that was announced. */
  readonly size: number;
  /** Gives the blob up; the file may be one that others go on reading. */
  close(): Promise<void>;
}

/** The files of a layout, wherever they lie. */
export interface LayoutFiles {
  /** For messages. */
  readonly place: string;
  /**
   * Opens a regular file; undefined where there is none. `member` is a constant or comes from blobPath.
   * @throws SealiftError `layout-invalid` where it is a link or no regular file
   */
  open(member: string): Promise<OpenedBlob | undefined>;
}

export interface Layout {
  readonly directory: string;
  /** index.json as it was when the layout was opened. */
  index(): ParsedManifest;
  /** All entries of the index, in its order. */
  images(): readonly LayoutImage[];
  /**
   * The entry a person means by `name`: either annotation, the full name in any spelling, or a digest. Without
   * a name the only named entry, or the only entry.
   * @throws SealiftError `name-not-found`; `name-conflict` where entries with different digests fit
   */
  find(name?: string): LayoutImage;
  /**
   * Where a blob of a directory lies. To read it use openBlob, which follows no links.
   * @throws SealiftError `invalid-digest`
   */
  blobFile(digest: Digest): string;
  /**
   * Opens a blob; the caller closes it and checks what it reads.
   * @throws SealiftError `blob-missing`; `layout-invalid` where it is a link or no regular file
   */
  openBlob(digest: Digest): Promise<OpenedBlob>;
  /**
   * A small blob, whole and verified.
   * @throws SealiftError as openBlob; `size-mismatch`, `digest-mismatch`; `source-too-large` above `maxBytes`
   */
  readBlob(blob: { readonly digest: Digest; readonly size: number }, maxBytes: number): Promise<Buffer>;
  /** A manifest, verified and parsed. @throws SealiftError as readBlob and parseManifest */
  readManifest(descriptor: {
    readonly digest: Digest;
    readonly size: number;
    readonly mediaType: string;
  }): Promise<ParsedManifest>;
}

/**
 * Opens the image layout in `directory`.
 *
 * @throws SealiftError `layout-invalid` where it is none or has a version other than 1.0.0; as parseManifest
 * for its index
 */
export async function openLayout(directory: string, limits: Limits): Promise<Layout> {
  return readLayout(
    {
      place: directory,
      async open(member) {
        const parts = member.split('/');
        for (let depth = 1; depth < parts.length; depth += 1)
          await refuseLink(directory, parts.slice(0, depth).join('/'));
        return openMember(directory, member);
      },
    },
    limits,
  );
}

/** The image layout in `files`. @throws SealiftError as openLayout() */
export async function readLayout(files: LayoutFiles, limits: Limits): Promise<Layout> {
  const directory = files.place;
  await checkLayoutFile(files, limits);
  const bytes = await readMember(files, INDEX_FILE, limits.bundleFile);
  const index = parseManifest(bytes, {
    mediaType: OCI_INDEX,
    limits: { manifest: limits.bundleFile, jsonDepth: limits.jsonDepth },
  });
  const images = index.manifests.map(toLayoutImage);

  const openBlob = async (digest: Digest): Promise<OpenedBlob> => {
    const opened = await files.open(blobPath(digest));
    if (opened === undefined) {
      throw new SealiftError('blob-missing', `the layout has no blob ${digest}`, { subject: digest });
    }
    return opened;
  };

  const readBlob: Layout['readBlob'] = async ({ digest, size }, maxBytes) => {
    if (size > maxBytes) throw tooLarge(digest, size, maxBytes);
    const opened = await openBlob(digest);
    try {
      if (opened.size !== size) throw sizeMismatch(digest, opened.size, size);
      const content = await readAtMost(opened, size);
      if (content === undefined || content.length !== size)
        throw sizeMismatch(digest, content?.length ?? size + 1, size);
      assertDigest(content, digest);
      return content;
    } finally {
      await opened.close();
    }
  };

  return {
    directory,
    index: () => index,
    images: () => images,
    find: (name) => findImage(images, name),
    blobFile: (digest) => path.join(directory, ...blobPath(digest).split('/')),
    openBlob,
    readBlob,
    readManifest: async (descriptor) =>
      parseManifest(await readBlob(descriptor, limits.manifest), {
        mediaType: descriptor.mediaType,
        digest: descriptor.digest,
        limits,
      }),
  };
}

function tooLarge(subject: string, got: number, want: number): SealiftError {
  return new SealiftError('source-too-large', `blob is too large: got ${got} bytes, want at most ${want}`, {
    subject,
    got,
    want,
  });
}

function sizeMismatch(subject: string, got: number, want: number): SealiftError {
  return new SealiftError('size-mismatch', `blob has another size: got ${got} bytes, want ${want}`, {
    subject,
    got,
    want,
  });
}

function invalidLayout(directory: string, message: string, cause?: unknown): SealiftError {
  return new SealiftError('layout-invalid', message, { subject: inert(directory), cause });
}

async function checkLayoutFile(files: LayoutFiles, limits: Limits): Promise<void> {
  const bytes = await readMember(files, LAYOUT_FILE, LAYOUT_FILE_MAX);
  const value = parseJson(bytes, {
    what: LAYOUT_FILE,
    maxBytes: LAYOUT_FILE_MAX,
    maxDepth: limits.jsonDepth,
  });
  const version = asString(
    asObject(value, LAYOUT_FILE, 'layout-invalid')['imageLayoutVersion'],
    'imageLayoutVersion',
    'layout-invalid',
  );
  if (version !== LAYOUT_VERSION) {
    throw invalidLayout(
      files.place,
      `layout has another version: got "${inert(version, 40)}", want ${LAYOUT_VERSION}`,
    );
  }
}

/** Reads a file of the layout. `member` is a constant or comes from blobPath. */
async function readMember(files: LayoutFiles, member: string, maxBytes: number): Promise<Buffer> {
  const opened = await files.open(member);
  if (opened === undefined) throw invalidLayout(files.place, `not an image layout: got no ${member}`);
  try {
    const bytes = opened.size > maxBytes ? undefined : await readAtMost(opened, maxBytes);
    if (bytes === undefined) {
      throw new SealiftError('json-too-large', `${member} is too large: want at most ${maxBytes} bytes`, {
        subject: member,
        got: opened.size,
        want: maxBytes,
      });
    }
    return bytes;
  } finally {
    await opened.close();
  }
}

/** Opens a regular file of the layout; undefined where there is none. */
async function openMember(directory: string, member: string): Promise<OpenedBlob | undefined> {
  const file = path.join(directory, ...member.split('/'));
  let handle: FileHandle;
  try {
    // Without O_NONBLOCK the open of a planted FIFO would wait for a writer for ever.
    handle = await open(file, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0));
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    if (code === 'ELOOP' || code === 'EMLINK') throw linkInside(directory, member);
    if (code === 'ENXIO') throw invalidLayout(directory, `${member} is not a regular file`, cause);
    throw cause;
  }
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) throw invalidLayout(directory, `${member} is not a regular file`);
    return { handle, offset: 0, size: stat.size, close: () => handle.close() };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function refuseLink(directory: string, member: string): Promise<void> {
  const stat = await lstat(path.join(directory, ...member.split('/'))).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
      throw error;
    },
  );
  if (stat?.isSymbolicLink()) throw linkInside(directory, member);
}

function linkInside(directory: string, member: string): SealiftError {
  return invalidLayout(directory, `${member} is a symbolic link, want the file or directory itself`);
}

/** The whole content; undefined where it is longer than `maxBytes`, however large it said it was. */
async function readAtMost(
  { handle, offset, size }: OpenedBlob,
  maxBytes: number,
): Promise<Buffer | undefined> {
  if (size > maxBytes) return undefined;
  // One byte more than announced shows a file that has grown; in an archive the size is the header's.
  const most = offset === 0 ? size + 1 : size;
  const buffer = Buffer.allocUnsafe(most);
  let length = 0;
  while (length < most) {
    const { bytesRead } = await handle.read(buffer, length, most - length, offset + length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return length > size ? undefined : buffer.subarray(0, length);
}

function toLayoutImage(descriptor: Descriptor): LayoutImage {
  const annotations = descriptor.annotations;
  const refName = annotations?.[REF_NAME];
  const containerdName = annotations?.[CONTAINERD_NAME];
  const name = fullNameOf(containerdName, false) ?? fullNameOf(refName, true);
  return {
    descriptor,
    ...(refName === undefined ? {} : { refName }),
    ...(containerdName === undefined ? {} : { containerdName }),
    ...(name === undefined ? {} : { name }),
  };
}

/** `text` as a full name. A ref.name is one only where it is so already: `latest` there is a tag, no repository. */
function fullNameOf(text: string | undefined, mustBeFull: boolean): string | undefined {
  if (text === undefined) return undefined;
  try {
    const name = imageName(parseReference(text));
    return mustBeFull && name !== text ? undefined : name;
  } catch {
    return undefined;
  }
}

function findImage(images: readonly LayoutImage[], name: string | undefined): LayoutImage {
  const candidates = name === undefined ? onlyCandidates(images) : images.filter(matcher(name));
  const first = candidates[0];
  if (first === undefined) {
    const wanted = name === undefined ? 'an image' : `"${inert(name, 160)}"`;
    throw new SealiftError('name-not-found', `the layout has no entry for ${wanted}`, {
      subject: name === undefined ? undefined : inert(name, 160),
      hint: namesHint(images),
    });
  }
  if (candidates.some(({ descriptor }) => descriptor.digest !== first.descriptor.digest)) {
    throw new SealiftError(
      'name-conflict',
      name === undefined
        ? 'the layout has several images, want the name of one'
        : `the layout has several images that fit "${inert(name, 160)}"`,
      { subject: name === undefined ? undefined : inert(name, 160), hint: namesHint(images) },
    );
  }
  return first;
}

/** Evidence stands in the index of many layouts as entries without a name; it is no image people mean. */
function onlyCandidates(images: readonly LayoutImage[]): readonly LayoutImage[] {
  const named = images.filter((image) => image.refName !== undefined || image.containerdName !== undefined);
  return named.length > 0 ? named : images;
}

function matcher(name: string): (image: LayoutImage) => boolean {
  if (isDigest(name)) return (image) => image.descriptor.digest === name;
  const full = fullNameOf(name, false);
  return (image) =>
    image.refName === name || image.containerdName === name || (full !== undefined && image.name === full);
}

function namesHint(images: readonly LayoutImage[]): string {
  const shown = images
    .slice(0, 8)
    .map((image) => inert(image.refName ?? image.name ?? image.descriptor.digest, 160));
  if (shown.length === 0) return 'its index is empty';
  return `it has: ${shown.join(', ')}${images.length > shown.length ? ', …' : ''}`;
}
