/**
 * A directory as a destination: files in the key layout of a registry, for any web server (docs/static-bucket.md).
 * Every file is written beside its place, fsynced and renamed. Manifests lie there twice, once under their plain key and
 * once with a suffix that tells a web server their media type.
 */
import { constants } from 'node:fs';
import {
  copyFile,
  type FileHandle,
  link,
  lstat,
  open,
  readdir,
  rename,
  rm,
  rmdir,
  statfs,
} from 'node:fs/promises';
import path from 'node:path';
import type { Context } from '../context.ts';
import { inert, SealiftError } from '../errors.ts';
import { openAs } from '../fs/access.ts';
import {
  fsyncDirectory,
  makeDirectory,
  readFileLimited,
  sweepTemporary,
  temporaryName,
} from '../fs/durable.ts';
import { acquireLock, type Lock } from '../fs/lock.ts';
import { digestAlgorithm, digestHex, digestOf, isDigest } from '../oci/digest.ts';
import { DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST } from '../oci/media-types.ts';
import type { PlaceJob } from '../pool/pool.ts';
import { forEachLimited, mapLimited } from '../util/concurrency.ts';
import type {
  BlobSource,
  Companion,
  Destination,
  Listed,
  ObjectToPut,
  OpenBlob,
  SmallBlob,
} from './destination.ts';
import { ROOT_KEY } from './plan.ts';
import {
  caddyfile,
  type MappedTag,
  nginxExample,
  nginxMapLocations,
  nginxMaps,
  nginxSuffixLocations,
} from './web-servers.ts';

/** Endings by media type; `~` cannot occur in a tag or digest. */
export const SUFFIXES: ReadonlyMap<string, string> = new Map([
  [OCI_MANIFEST, '~.ocim'],
  [OCI_INDEX, '~.ocii'],
  [DOCKER_MANIFEST, '~.dkm'],
  [DOCKER_LIST, '~.dkl'],
]);

/** `v2/` cannot be a file; web servers that know no better show this for it. */
const ROOT_FILE = 'v2/index.json';
const MANIFEST_KEY = /^v2\/.+\/manifests\/[^/]+$/;
const PLAIN_KEY = /^[A-Za-z0-9._:/@-]+$/;
const FALLBACK_KEY = /\/manifests\/sha256-[0-9a-f]{64}$/;
const TEMPORARY = /^\..+~[0-9a-f]{12}$/;

/** Files looked at, and directories made durable, at once. */
const LOOKS = 16;
/** Bytes of a large blob after which what was written is sent to the disk, while the rest is still hashed. */
const FLUSH_BYTES = 32 * 1024 * 1024;

export interface StaticDirectoryOptions {
  readonly directory: string;
  readonly pid: number;
  /**
   * Shares blobs with the store where both are on one file system, instead of copying them: one file under two names, so
   * that whoever can write to a file of the tree can write to the store.
   */
  readonly hardLink?: boolean | undefined;
}

/** The file system has no such thing as one file under two names, or not for these two. */
const NO_LINK = ['EPERM', 'EMLINK', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EXDEV'] as const;

/** The directory as a destination; it is made where it is not there. */
export function openStaticDirectory(options: StaticDirectoryOptions, context: Context): Destination {
  const { directory } = options;
  const dirty = new Set<string>();
  /** Suffixed files that were listed, by the key they belong to. */
  const twins = new Map<string, Set<string>>();
  let lock: Lock | undefined;

  const fileOf = (key: string): string => path.join(directory, key === ROOT_KEY ? ROOT_FILE : key);

  async function prepare(file: string): Promise<string> {
    const parent = path.dirname(file);
    if (!dirty.has(parent)) await makeDirectory(parent);
    dirty.add(parent);
    return temporaryName(file);
  }

  /** Writes beside `file` and puts it there. */
  async function place(file: string, write: (handle: FileHandle) => Promise<void>): Promise<void> {
    const temporary = await prepare(file);
    try {
      const handle = await openAs(temporary, 'wx+');
      try {
        await write(handle);
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(temporary, file);
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => undefined);
      throw explain(error, file);
    }
  }

  /** Hashes a blob where it lies and gives its file a second name; false where that cannot be. */
  async function shareBlob(
    object: ObjectToPut,
    blob: OpenBlob,
    progress: (bytes: number) => void,
  ): Promise<boolean> {
    if (blob.file === undefined || blob.offset !== 0) return false;
    const file = fileOf(object.key);
    const temporary = await prepare(file);
    try {
      await link(blob.file, temporary);
      const named = await open(temporary, constants.O_RDONLY | constants.O_NOFOLLOW);
      try {
        const algorithm = digestAlgorithm(object.digest);
        const { size } = await named.stat();
        // Under its new name, so that what is published is what was read.
        const hashes =
          size === object.size
            ? await context.pool.range({
                source: { fd: named.fd, offset: 0 },
                size,
                algorithms: [algorithm],
                signal: context.signal,
                onProgress: progress,
              })
            : {};
        if (hashes[algorithm] !== digestHex(object.digest)) throw damagedSource(object);
      } finally {
        await named.close();
      }
      await rename(temporary, file);
      return true;
    } catch (error) {
      if (isCode(error, ...NO_LINK)) return false;
      throw error instanceof SealiftError ? error : explain(error, file);
    } finally {
      // Two names of one file: renaming one to the other does nothing.
      await rm(temporary, { force: true }).catch(() => undefined);
    }
  }

  /** Everything below, by key; with its size where `look` asks for it. */
  async function walk(relative: string, found: Map<string, Listed>, look: boolean): Promise<void> {
    let entries: Awaited<ReturnType<typeof readEntries>>;
    try {
      entries = await readEntries(path.join(directory, relative));
    } catch (error) {
      if (isCode(error, 'ENOENT', 'ENOTDIR')) return;
      throw error;
    }
    const files: string[] = [];
    for (const entry of entries) {
      context.signal.throwIfAborted();
      const key = `${relative}${entry.name}`;
      if (entry.isDirectory()) {
        await walk(`${key}/`, found, look);
      } else if (entry.isFile() && !TEMPORARY.test(entry.name)) {
        const tilde = key.lastIndexOf('~.');
        if (tilde >= 0) {
          const plain = key.slice(0, tilde);
          const suffixes = twins.get(plain) ?? new Set();
          twins.set(plain, suffixes.add(key.slice(tilde)));
        } else if (key !== ROOT_FILE) {
          files.push(key);
        }
      }
    }
    const sizes = look
      ? await mapLimited(files, LOOKS, context.signal, async (key) => {
          const { size } = await lstat(path.join(directory, key));
          return size;
        })
      : [];
    for (const [at, key] of files.entries()) found.set(key, { size: sizes[at] ?? 0 });
  }

  /** What a thread is to do for a blob; what has to be open for it is added to `lent`. */
  async function placeJob(
    [first, ...others]: SmallBlob,
    source: BlobSource,
    lent: OpenBlob[],
  ): Promise<PlaceJob> {
    const { digest, size } = first;
    const names: { temporary: string; file: string }[] = [];
    for (const { key } of [first, ...others]) {
      const file = fileOf(key);
      names.push({ temporary: await prepare(file), file });
    }
    const algorithm = digestAlgorithm(digest);
    const job = { size, algorithm, hash: digestHex(digest), names, share: options.hardLink === true };
    const file = source.fileOf?.(digest);
    if (file !== undefined) return { ...job, source: { file } };
    const blob = await source.open(digest);
    lent.push(blob);
    if (blob.size !== size) throw damagedSource(first);
    if (blob.file !== undefined && blob.offset === 0) return { ...job, source: { file: blob.file } };
    return { ...job, source: { fd: blob.fd, offset: blob.offset } };
  }

  async function isSame(file: string, object: ObjectToPut): Promise<boolean> {
    const bytes = await readFileLimited(file, Math.max(object.size, 1)).catch(() => undefined);
    return bytes !== undefined && digestOf(bytes, digestAlgorithm(object.digest)) === object.digest;
  }

  /** Tags of this sync, and those that others left, by what their files say; `ownOnly` knows none of others. */
  async function allTags(objects: readonly ObjectToPut[], ownOnly: boolean): Promise<readonly MappedTag[]> {
    const found = new Map<string, Listed>();
    if (!ownOnly) await walk('v2/', found, false);
    const all = new Map<string, MappedTag>();
    const isTagKey = (key: string): boolean =>
      // Names end up in configurations: what is no name of a repository and a tag is nobody's tag.
      PLAIN_KEY.test(key) &&
      MANIFEST_KEY.test(key) &&
      !FALLBACK_KEY.test(key) &&
      !isDigest(key.slice(key.lastIndexOf('/') + 1));
    for (const { key, digest } of objects) if (isTagKey(key)) all.set(key, { key, digest });
    for (const key of found.keys()) {
      if (!isTagKey(key) || all.has(key)) continue;
      const bytes = await readFileLimited(fileOf(key), context.limits.manifest);
      if (bytes) all.set(key, { key, digest: digestOf(bytes) });
    }
    return [...all.values()];
  }

  return {
    location: `static:${directory}`,
    identity: `static:${directory}`,
    // As the configurations beside it have it.
    hasReferrersApi: true,
    async lock() {
      await makeDirectory(path.join(directory, '.sealift'));
      lock = await acquireLock(path.join(directory, '.sealift', 'lock'), options.pid);
      await sweep(directory);
    },
    async check(keys) {
      // What stands in the way from before: a file where a folder must be, or the other way round.
      const folders = new Map<string, Map<string, boolean>>();
      for (const [at, wantDirectory] of shapesOf(keys)) {
        const folder = path.dirname(at);
        const names = folders.get(folder) ?? new Map<string, boolean>();
        folders.set(folder, names.set(path.basename(at), wantDirectory));
      }
      for (const [folder, names] of folders) {
        const entries = await readEntries(path.join(directory, folder)).catch((error: unknown) => {
          if (isCode(error, 'ENOENT', 'ENOTDIR')) return [];
          throw error;
        });
        for (const entry of entries) {
          const wantDirectory = names.get(entry.name);
          if (wantDirectory === undefined || (wantDirectory ? entry.isDirectory() : entry.isFile())) continue;
          throw new SealiftError(
            'destination-failed',
            `something else is in the way: want a ${wantDirectory ? 'folder' : 'file'}`,
            {
              subject: path.join(directory, folder, entry.name),
              hint: 'remove it, or choose another directory',
            },
          );
        }
      }
    },
    async list(prefixes) {
      const found = new Map<string, Listed>();
      twins.clear();
      for (const prefix of prefixes) await walk(prefix, found, true);
      return found;
    },
    async holds(object, listed) {
      if (object.key === ROOT_KEY) return isSame(fileOf(ROOT_KEY), object);
      if (!object.mutable && !MANIFEST_KEY.test(object.key)) return listed?.size === object.size;
      if (!(await isSame(fileOf(object.key), object))) return false;
      const suffix = MANIFEST_KEY.test(object.key) ? SUFFIXES.get(object.mediaType) : undefined;
      if (suffix === undefined) return true;
      const beside = twins.get(object.key);
      return beside?.size === 1 && beside.has(suffix) && (await isSame(fileOf(object.key) + suffix, object));
    },
    async examine(object, listed, { deep }) {
      const isBlob = !object.mutable && !MANIFEST_KEY.test(object.key);
      if (object.key !== ROOT_KEY && !listed) return { fault: 'missing' };
      if (!isBlob) {
        if (await this.holds(object, listed)) return { proof: 'content' };
        const there = object.key === ROOT_KEY && !(await readFileLimited(fileOf(ROOT_KEY), 1024));
        return there ? { fault: 'missing' } : { fault: 'wrong', detail: 'it has other content' };
      }
      if (listed?.size !== object.size)
        return { fault: 'wrong', detail: `got ${listed?.size} bytes, want ${object.size}` };
      if (!deep) return { proof: 'size' };
      const handle = await open(fileOf(object.key), 'r');
      try {
        const algorithm = digestAlgorithm(object.digest);
        const hashes = await context.pool.range({
          source: { fd: handle.fd, offset: 0 },
          size: object.size,
          algorithms: [algorithm],
          signal: context.signal,
        });
        if (hashes[algorithm] === digestHex(object.digest)) return { proof: 'content' };
        return { fault: 'wrong', detail: `its digest is ${algorithm}:${hashes[algorithm]}` };
      } finally {
        await handle.close();
      }
    },
    read: (key, max) => readFileLimited(fileOf(key), max),
    async putBlob(object: ObjectToPut, source: BlobSource, progress) {
      const blob = await source.open(object.digest);
      try {
        if (options.hardLink && (await shareBlob(object, blob, progress))) return;
        await place(fileOf(object.key), async (handle) => {
          const algorithm = digestAlgorithm(object.digest);
          const early = flushEarly(handle);
          const hashes = await context.pool
            .range({
              source: { fd: blob.fd, offset: blob.offset },
              size: object.size,
              target: { fd: handle.fd, offset: 0 },
              algorithms: [algorithm],
              signal: context.signal,
              onProgress: (bytes) => {
                early.reached(bytes);
                progress(bytes);
              },
            })
            .finally(early.settled);
          if (blob.size === object.size && hashes[algorithm] === digestHex(object.digest)) return;
          throw damagedSource(object);
        });
      } finally {
        await blob.close();
      }
    },
    async putSmall(blobs, source) {
      const lent: OpenBlob[] = [];
      try {
        const jobs: PlaceJob[] = [];
        for (const blob of blobs) jobs.push(await placeJob(blob, source, lent));
        const outcomes = await context.pool.place(jobs, context.signal);
        for (const [at, [object]] of blobs.entries()) {
          if (outcomes[at] === 'missing') throw missingBlob(object);
          if (outcomes[at] !== 'placed') throw damagedSource(object);
        }
      } catch (error) {
        throw explain(error, (error as NodeJS.ErrnoException).path ?? directory);
      } finally {
        for (const one of lent) await one.close();
      }
    },
    async copyBlob(from, object) {
      const file = fileOf(object.key);
      const temporary = await prepare(file);
      try {
        // One file under two names, durable with its directory; a file system that has no such thing gets a copy.
        await link(fileOf(from), temporary).catch(async (error: unknown) => {
          if (!isCode(error, ...NO_LINK)) throw error;
          await copyFile(fileOf(from), temporary);
          const handle = await open(temporary, 'r');
          await handle.sync().finally(() => handle.close());
        });
        await rename(temporary, file);
        return true;
      } catch (error) {
        throw explain(error, file);
      } finally {
        await rm(temporary, { force: true }).catch(() => undefined);
      }
    },
    async putDocument(object, bytes) {
      const file = fileOf(object.key);
      await place(file, (handle) => handle.writeFile(bytes));
      const suffix = MANIFEST_KEY.test(object.key) ? SUFFIXES.get(object.mediaType) : undefined;
      if (suffix === undefined) return;
      await place(file + suffix, (handle) => handle.writeFile(bytes));
      // A tag that was of another type: the old file is served until now, then the new one.
      for (const other of SUFFIXES.values()) if (other !== suffix) await rm(file + other, { force: true });
    },
    async flush() {
      await forEachLimited(dirty, LOOKS, context.signal, fsyncDirectory);
      dirty.clear();
    },
    async remove(keys) {
      for (const key of keys) {
        const file = fileOf(key);
        if (MANIFEST_KEY.test(key)) {
          for (const suffix of SUFFIXES.values()) await rm(file + suffix, { force: true });
        }
        await rm(file, { force: true });
        await removeEmptyParents(directory, file);
      }
    },
    async freeBytes() {
      // What is shared takes no room; nobody knows yet how much that will be.
      if (options.hardLink) return undefined;
      for (let at = directory; ; at = path.dirname(at)) {
        try {
          const facts = await statfs(at);
          return facts.bavail * facts.bsize;
        } catch (error) {
          if (!isCode(error, 'ENOENT') || path.dirname(at) === at) throw error;
        }
      }
    },
    async companions(objects, { ownTagsOnly = false } = {}) {
      const text = (content: string): Companion => ({ bytes: Buffer.from(content), mediaType: 'text/plain' });
      return new Map([
        ['config/nginx/maps.conf', text(nginxMaps(await allTags(objects, ownTagsOnly)))],
        ['config/nginx/locations-maps.conf', text(nginxMapLocations(directory))],
        ['config/nginx/locations-suffixes.conf', text(nginxSuffixLocations(directory))],
        ['config/nginx/example.conf', text(nginxExample(directory))],
        ['config/Caddyfile', text(caddyfile(directory))],
      ]);
    },
    async close() {
      await lock?.release();
    },
  };
}

/** The source is not what it is named by; nothing of it was kept. */
export function damagedSource(object: Pick<ObjectToPut, 'digest'>): SealiftError {
  return new SealiftError('digest-mismatch', 'the blob is damaged where it is read from', {
    subject: object.digest,
    hint: 'import its bundle again; then run the same command again',
  });
}

function missingBlob({ digest }: ObjectToPut): SealiftError {
  return new SealiftError('blob-missing', 'the store has no such blob', { subject: digest });
}

/**
 * Has a file written to the disk while more of it is still coming, so that little is left to wait for at its end.
 * `settled` wants to be awaited: it tells what went wrong, and only then is the file left alone.
 */
function flushEarly(handle: FileHandle) {
  let flushed = 0;
  let running: Promise<void> | undefined;
  let failure: { readonly error: unknown } | undefined;
  return {
    reached(bytes: number): void {
      if (running || bytes - flushed < FLUSH_BYTES) return;
      flushed = bytes;
      running = handle
        .datasync()
        .catch((error: unknown) => {
          // The system tells it once; the fsync at the end would know nothing of it.
          failure = { error };
        })
        .finally(() => {
          running = undefined;
        });
    },
    async settled(): Promise<void> {
      await running;
      if (failure) throw failure.error;
    },
  };
}

function readEntries(directory: string) {
  return readdir(directory, { withFileTypes: true });
}

/** Every file and folder the keys need, and whether it is a folder. */
function shapesOf(keys: readonly string[]): ReadonlyMap<string, boolean> {
  const shapes = new Map<string, boolean>();
  for (const key of keys) {
    if (key !== ROOT_KEY) shapes.set(key, false);
    for (let at = path.dirname(key); at !== '.' && !shapes.get(at); at = path.dirname(at))
      shapes.set(at, true);
  }
  return shapes;
}

/** Leftovers of runs that were killed, wherever they are. */
async function sweep(directory: string): Promise<void> {
  const folders = [directory];
  for (const root of ['v2', 'config', '.sealift']) {
    const entries = await readdir(path.join(directory, root), { withFileTypes: true, recursive: true }).catch(
      (error: unknown) => {
        if (isCode(error, 'ENOENT')) return [];
        throw error;
      },
    );
    folders.push(path.join(directory, root));
    for (const entry of entries)
      if (entry.isDirectory()) folders.push(path.join(entry.parentPath, entry.name));
  }
  await sweepTemporary(folders);
}

async function removeEmptyParents(top: string, file: string): Promise<void> {
  for (let at = path.dirname(file); at !== top && at.startsWith(top); at = path.dirname(at)) {
    try {
      await rmdir(at);
    } catch (error) {
      if (isCode(error, 'ENOENT')) continue;
      if (isCode(error, 'ENOTEMPTY', 'EEXIST')) return;
      throw error;
    }
  }
}

function explain(error: unknown, file: string): unknown {
  if (!isCode(error, 'ENOTDIR', 'EISDIR', 'EEXIST', 'ENAMETOOLONG', 'EINVAL', 'ELOOP')) return error;
  return new SealiftError(
    'destination-failed',
    `the file system cannot hold it: ${inert((error as Error).message)}`,
    {
      subject: file,
      cause: error,
    },
  );
}

function isCode(error: unknown, ...codes: readonly string[]): boolean {
  return codes.includes((error as NodeJS.ErrnoException).code ?? '');
}
