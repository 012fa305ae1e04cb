/**
 * Makes files out of small blobs, in a thread of the pool. For a small file the way to a thread and back costs more than
 * the work; here all of it is done with blocking calls, one after the other.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  linkSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import type { PlaceJob, PlaceOutcome } from './pool.ts';

/** Links are not followed, and a pipe that lies where a blob should does not block. */
const READ = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
/** The file system has no such thing as one file under two names, or not for these two. */
const NO_LINK: ReadonlySet<string> = new Set(['EPERM', 'EMLINK', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EXDEV']);
/** A link, a socket or nothing lies where a blob should. */
const NO_BLOB: ReadonlySet<string> = new Set(['ENOENT', 'ELOOP', 'ENXIO']);

type Name = PlaceJob['names'][number];

/**
 * @param buffer room for the blob
 * @throws file system errors as they come; no temporary name is left then
 */
export function placeBlob(job: PlaceJob, buffer: Uint8Array): PlaceOutcome {
  const [first, ...others] = job.names;
  if (!first) return 'placed';
  const bytes = buffer.subarray(0, job.size);
  const outcome = (job.share ? shareFirst(job, first, bytes) : undefined) ?? copyFirst(job, first, bytes);
  if (outcome !== 'placed') return outcome;
  for (const name of others) {
    if (tryLink(first.file, name.temporary)) renameLink(name);
    else writeFile(name, bytes);
  }
  return 'placed';
}

/** Undefined where the blob cannot be shared and has to be copied. */
function shareFirst({ source, size, algorithm, hash }: PlaceJob, name: Name, bytes: Uint8Array) {
  if (!('file' in source) || !tryLink(source.file, name.temporary)) return undefined;
  let outcome: PlaceOutcome | undefined;
  try {
    // Under its new name, so that what is published is what was read.
    outcome = readVerified({ file: name.temporary }, { size, algorithm, hash }, bytes);
    return outcome;
  } finally {
    if (outcome === 'placed') renameLink(name);
    else remove(name.temporary);
  }
}

function copyFirst(job: PlaceJob, name: Name, bytes: Uint8Array): PlaceOutcome {
  const outcome = readVerified(job.source, job, bytes);
  if (outcome === 'placed') writeFile(name, bytes);
  return outcome;
}

/** Fills `bytes` with the blob; `placed` where it is what it is named by. */
function readVerified(
  source: PlaceJob['source'],
  { size, algorithm, hash }: Pick<PlaceJob, 'size' | 'algorithm' | 'hash'>,
  bytes: Uint8Array,
): PlaceOutcome {
  const opened = 'file' in source ? openBlob(source.file) : undefined;
  if ('file' in source && opened === undefined) return 'missing';
  const { fd, offset } = 'file' in source ? { fd: opened ?? -1, offset: 0 } : source;
  try {
    if (opened !== undefined) {
      const stats = fstatSync(opened);
      if (!stats.isFile()) return 'missing';
      if (stats.size !== size) return 'damaged';
    }
    for (let done = 0; done < size; ) {
      const got = readSync(fd, bytes, done, size - done, offset + done);
      if (got === 0) return 'damaged';
      done += got;
    }
  } finally {
    if (opened !== undefined) closeSync(opened);
  }
  return createHash(algorithm).update(bytes).digest('hex') === hash ? 'placed' : 'damaged';
}

function openBlob(file: string): number | undefined {
  try {
    return openSync(file, READ);
  } catch (error) {
    if (NO_BLOB.has(codeOf(error))) return undefined;
    throw error;
  }
}

function writeFile(name: Name, bytes: Uint8Array): void {
  const fd = openSync(name.temporary, 'wx', 0o644);
  try {
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, done);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    remove(name.temporary);
    throw error;
  }
  rename(name);
}

/** False where the file system has no such thing as a second name for this file, or the file is not there. */
function tryLink(file: string, name: string): boolean {
  try {
    linkSync(file, name);
    return true;
  } catch (error) {
    if (NO_LINK.has(codeOf(error)) || codeOf(error) === 'ENOENT') return false;
    throw error;
  }
}

function rename({ temporary, file }: Name): void {
  try {
    renameSync(temporary, file);
  } catch (error) {
    remove(temporary);
    throw error;
  }
}

function renameLink(name: Name): void {
  rename(name);
  // Renaming one name of a file to another name of the same file does nothing.
  remove(name.temporary);
}

function remove(file: string): void {
  rmSync(file, { force: true });
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? '';
}
