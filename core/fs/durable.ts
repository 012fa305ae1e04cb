/** Files that are either whole and durable or not there: temporary name, fsync, rename, fsync of the directory. */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { inert, SealiftError } from '../errors.ts';
import { type Access, directoryMode, openAs, shareDirectory } from './access.ts';

/** Makes a directory's entries durable. Some file systems (FAT) refuse to open a directory for that; they are let off. */
export async function fsyncDirectory(directory: string): Promise<void> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(directory, 'r');
    await handle.sync();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== 'EINVAL' && code !== 'EISDIR' && code !== 'EPERM' && code !== 'ENOTSUP') throw error;
  } finally {
    await handle?.close();
  }
}

/** Makes `directory` and its parents, each durable in its parent. */
export async function makeDirectory(directory: string, access: Access = 'public'): Promise<void> {
  const first = await mkdir(directory, { recursive: true, mode: directoryMode(access) });
  if (first === undefined) return;
  const top = path.dirname(path.resolve(first));
  // From the top: whether one is shared is seen in its parent.
  const below = path.relative(top, path.resolve(directory)).split(path.sep);
  for (let depth = 1; depth <= below.length; depth += 1) {
    await shareDirectory(path.join(top, ...below.slice(0, depth)), access);
  }
  let current = path.resolve(directory);
  while (current !== top && current !== path.dirname(current)) {
    current = path.dirname(current);
    await fsyncDirectory(current);
  }
}

/** Name for a temporary file beside `file`; never a valid tag, digest or bundle name. */
export function temporaryName(file: string): string {
  return path.join(path.dirname(file), `.${path.basename(file)}~${randomBytes(6).toString('hex')}`);
}

const TEMPORARY = /^\..+~[0-9a-f]{12}$/;

/** Removes what runs that were killed left half-written. Only while holding the lock of these directories. */
export async function sweepTemporary(directories: readonly string[]): Promise<void> {
  for (const directory of directories) {
    const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw error;
    });
    for (const name of names) if (TEMPORARY.test(name)) await rm(path.join(directory, name), { force: true });
  }
}

/** What a partial file (`.NAME.partial`) is called when it is whole. */
export function finalName(partial: string): string {
  const name = path.basename(partial).replace(/^\.|\.partial$/g, '');
  return path.join(path.dirname(partial), name);
}

/** An empty file to be written for long, in the place of whatever is there: a link on a stick is replaced, never followed. */
export async function createPartial(file: string): Promise<FileHandle> {
  await rm(file, { force: true });
  return openAs(file, 'wx+');
}

/**
 * Opens what an earlier run has begun to write, to go on with it.
 * @throws SealiftError `destination-failed` where something has put a link in its place
 */
export async function reopenPartial(file: string, create = 0): Promise<FileHandle> {
  return openAs(file, constants.O_RDWR | constants.O_NOFOLLOW | create).catch((cause: unknown) => {
    if ((cause as NodeJS.ErrnoException).code !== 'ELOOP') throw cause;
    throw new SealiftError('destination-failed', 'there is a link in the place of the partial file', {
      subject: inert(file, 4096),
      hint: 'somebody has put it there; remove it, and run the same command again',
      cause,
    });
  });
}

/** Puts `bytes` at `file`: after a crash at any point the old content is there, or the new, never a mixture. */
export async function writeFileDurably(
  file: string,
  bytes: Uint8Array | string,
  access: Access = 'public',
): Promise<void> {
  const temporary = temporaryName(file);
  try {
    const handle = await openAs(temporary, 'wx', access);
    try {
      await handle.writeFile(bytes);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await fsyncDirectory(path.dirname(file));
}

/**
 * Reads a file of at most `limit` bytes; undefined where there is none.
 * @throws SealiftError `state-damaged` where it is larger.
 */
export async function readFileLimited(file: string, limit: number): Promise<Buffer | undefined> {
  let handle: FileHandle;
  try {
    handle = await open(file, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const { size } = await handle.stat();
    if (size > limit) {
      throw new SealiftError('state-damaged', `file is too large: got ${size} bytes, want at most ${limit}`, {
        subject: file,
        got: size,
        want: limit,
      });
    }
    const bytes = await readUpTo(handle, size, limit + 1);
    if (bytes.length > limit) {
      throw new SealiftError('state-damaged', `file grew while it was read: want at most ${limit} bytes`, {
        subject: file,
      });
    }
    return bytes;
  } finally {
    await handle.close();
  }
}

/** What a file has, `most` bytes at the most: a device says that it has none and never ends. */
async function readUpTo(handle: FileHandle, expected: number, most: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for (let length = 0; length < most; ) {
    const wanted = Math.min(most - length, Math.max(expected + 1 - length, 4096));
    const { buffer, bytesRead } = await handle.read(Buffer.allocUnsafe(wanted), 0, wanted, null);
    if (bytesRead === 0) break;
    chunks.push(buffer.subarray(0, bytesRead));
    length += bytesRead;
  }
  return chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks);
}
