/**
 * The store: a directory that is an OCI image layout (`oci:DIR:NAME` for skopeo), format 1 (docs/state.md), filled
 * only through a gate. Blobs, then their directories, then the records of what was let in, then index.json: after a
 * crash at any point index.json names only what is whole.
 *
 * Everything that writes wants the store's lock to be held by this object.
 */
import { createHash } from 'node:crypto';
import { constants, write as fsWrite } from 'node:fs';
import { type FileHandle, lstat, open, readdir, rename, rm, statfs } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { inert, isSealiftError, SealiftError } from '../errors.ts';
import { openAs } from '../fs/access.ts';
import { checkFormat, parseDocument } from '../fs/document.ts';
import {
  fsyncDirectory,
  makeDirectory,
  readFileLimited,
  sweepTemporary,
  temporaryName,
  writeFileDurably,
} from '../fs/durable.ts';
import { acquireLock, type Lock } from '../fs/lock.ts';
import { canonicalJson } from '../json/canonical.ts';
import { DEFAULT_LIMITS, type Limits } from '../limits.ts';
import { assertDigest, blobPath, type Digest, digestAlgorithm, digestHex, isDigest } from '../oci/digest.ts';
import type { GarbageResult } from '../results.ts';
import { type BlobFile, markReachable } from './garbage.ts';
import {
  EMPTY_INDEX,
  encodeIndexFile,
  entryOf,
  type IndexEntry,
  type IndexFile,
  isEntryOf,
  parseIndexFile,
} from './index-file.ts';
import { createQuarantine, type Ingest, type Piece, type PieceIngest } from './ingest.ts';
import { encodeRecord, type ImageRecord, MAX_RECORD, parseRecord, recordFileName } from './records.ts';

export type { Ingest, Piece, PieceIngest } from './ingest.ts';
export type { EvidenceRecord, ImageRecord } from './records.ts';

export const STORE_FORMAT = 1;
const KNOWN_FEATURES: readonly string[] = [];

/** A name in index.json that came in through no gate, and why it is taken for such. */
export interface NotAdmitted {
  readonly name: string;
  readonly digest: string;
  readonly reason: string;
}

export interface StoreListing {
  /** Ascending by name. */
  readonly images: readonly ImageRecord[];
  readonly notAdmitted: readonly NotAdmitted[];
}

export interface Store {
  readonly directory: string;
  /** @throws SealiftError `destination-locked` */
  lock(pid: number): Promise<Lock>;
  /** Size of a blob that is there; undefined where there is none. */
  blobSize(digest: Digest): Promise<number | undefined>;
  /** The file a blob has when it is there; links are not to be followed, and its content is believed. */
  blobFile(digest: Digest): string;
  /** Whether the blob is there with that size; its content is believed (see `verifyBlob`). */
  has(digest: Digest, size: number): Promise<boolean>;
  /** Reads and hashes a blob that is there. A wrong one is removed (where the lock is held), and false is the answer. */
  verifyBlob(digest: Digest, size: number, signal?: AbortSignal): Promise<boolean>;
  /** Begins to take a blob in. Nothing else may be ingesting the same digest. */
  ingest(digest: Digest, size: number): Promise<Ingest>;
  /** Begins to take in a blob that comes in pieces, or goes on with one that an earlier run began. */
  ingestPieces(digest: Digest, size: number): Promise<PieceIngest>;
  /** What an earlier run has left of a blob that comes in pieces. */
  piecesOf(digest: Digest, size: number): Promise<readonly Piece[]>;
  /** Takes in a blob that is in memory. @throws SealiftError `digest-mismatch` */
  putBytes(digest: Digest, bytes: Uint8Array): Promise<void>;
  /** Makes all blobs taken in so far durable. */
  sync(): Promise<void>;
  /**
   * Lets images in and takes withdrawn names out: the records, then index.json in one step for all of them. A name that is there
   * is moved. Wants all blobs to be there; calls `sync` first. Resolves to the names that were taken out.
   * @throws SealiftError `blob-missing` for a manifest that is not there; `name-conflict` for a name given twice
   */
  admit(
    images: readonly ImageRecord[],
    options?: { readonly withdraw?: readonly string[] | undefined },
  ): Promise<readonly string[]>;
  /** Takes names out; their blobs stay until `gc`. Resolves to the names that were there. */
  withdraw(names: readonly string[]): Promise<readonly string[]>;
  list(): Promise<StoreListing>;
  /** One admitted image by its full name. */
  image(name: string): Promise<ImageRecord | undefined>;
  /**
   * A whole blob of at most `max` bytes, its digest checked.
   * @throws SealiftError `blob-missing`, `digest-mismatch`, `size-mismatch`
   */
  readBlob(digest: Digest, max: number): Promise<Buffer>;
  /**
   * A blob opened for reading, with its size; undefined where there is none. Links are not followed. The caller closes it and
   * believes its content (see `verifyBlob`).
   */
  openBlob(
    digest: Digest,
  ): Promise<{ readonly handle: FileHandle; readonly size: number; readonly file: string } | undefined>;
  /** Changes whenever the images of the store change; cheap. */
  revision(): Promise<string>;
  /** Bytes free for an ordinary user on the store's file system. */
  freeBytes(): Promise<number>;
  /**
   * Removes blobs no image needs, and quarantined leftovers. What hangs on an image by `subject` is needed.
   * @param options `keep`: further digests that stay, without what they name
   * @throws SealiftError `state-damaged` where an image's manifest is missing or does not parse: nothing is removed then
   */
  gc(options: {
    readonly dryRun: boolean;
    readonly keep?: readonly Digest[] | undefined;
  }): Promise<GarbageResult>;
}

export interface StoreOptions {
  /** Makes the store where there is none. */
  readonly create: boolean;
  readonly limits?: Limits | undefined;
}

const writeAsync = promisify(fsWrite);

const MAX_STORE_FILE = 1024 * 1024;
const LAYOUT_FILE = '{"imageLayoutVersion":"1.0.0"}';
/** Links are never followed, and a pipe that lies where a blob should does not block. */
const READ = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const ALGORITHMS = ['sha256', 'sha512'] as const;
const HEX = { sha256: /^[0-9a-f]{64}$/, sha512: /^[0-9a-f]{128}$/ } as const;
/** Small files written at once. */
const LANES = 16;

interface Places {
  readonly layout: string;
  readonly index: string;
  readonly blobs: string;
  readonly own: string;
  readonly storeFile: string;
  readonly ingest: string;
  readonly records: string;
}

function placesOf(directory: string): Places {
  const own = path.join(directory, '.sealift');
  return {
    layout: path.join(directory, 'oci-layout'),
    index: path.join(directory, 'index.json'),
    blobs: path.join(directory, 'blobs'),
    own,
    storeFile: path.join(own, 'store.json'),
    ingest: path.join(own, 'ingest'),
    records: path.join(own, 'records'),
  };
}

/**
 * Opens the store at `directory`. Reading it writes nothing.
 * @throws SealiftError `store-not-found`; `layout-invalid` where the directory holds something else;
 * `format-unsupported`; `state-damaged`
 */
export async function openStore(directory: string, options: StoreOptions): Promise<Store> {
  const limits = options.limits ?? DEFAULT_LIMITS;
  const places = placesOf(directory);
  await prepare(directory, places, options.create);

  let locks = 0;
  let last: Promise<unknown> = Promise.resolve();
  const unsynced = new Set<string>();

  function assertLocked(): void {
    if (locks === 0) throw new SealiftError('internal', 'the store is written to without its lock');
  }

  /** Changes of index.json follow one another. */
  function write<T>(work: () => Promise<T>): Promise<T> {
    const result = last.then(() => {
      assertLocked();
      return work();
    });
    last = result.catch(() => undefined);
    return result;
  }

  function blobFile(digest: Digest): string {
    return path.join(directory, blobPath(digest));
  }

  const quarantine = createQuarantine(places.ingest, blobFile, (changed) => unsynced.add(changed));

  async function openBlob(
    digest: Digest,
  ): Promise<{ handle: FileHandle; size: number; file: string } | undefined> {
    let handle: FileHandle;
    const file = blobFile(digest);
    try {
      handle = await open(file, READ);
    } catch (error) {
      // ELOOP and ENXIO: a link or a socket lies where a blob should; it is none.
      if (isCode(error, 'ENOENT', 'ELOOP', 'ENXIO')) return undefined;
      throw error;
    }
    try {
      const stats = await handle.stat();
      if (stats.isFile()) return { handle, size: stats.size, file };
    } catch (error) {
      await handle.close();
      throw error;
    }
    await handle.close();
    return undefined;
  }

  async function has(digest: Digest, size: number): Promise<boolean> {
    return (await blobSize(digest)) === size;
  }

  async function blobSize(digest: Digest): Promise<number | undefined> {
    try {
      const stats = await lstat(blobFile(digest));
      return stats.isFile() ? stats.size : undefined;
    } catch (error) {
      if (isCode(error, 'ENOENT')) return undefined;
      throw error;
    }
  }

  async function readBlob(digest: Digest, max: number): Promise<Buffer> {
    const blob = await openBlob(digest);
    if (!blob) throw new SealiftError('blob-missing', 'the store has no such blob', { subject: digest });
    try {
      if (blob.size > max) {
        throw new SealiftError(
          'size-mismatch',
          `blob is too large: got ${blob.size} bytes, want at most ${max}`,
          {
            subject: digest,
            got: blob.size,
            want: max,
          },
        );
      }
      const bytes = Buffer.alloc(blob.size);
      let done = 0;
      while (done < bytes.length) {
        const { bytesRead } = await blob.handle.read(bytes, done, bytes.length - done, done);
        if (bytesRead === 0) break;
        done += bytesRead;
      }
      assertDigest(bytes.subarray(0, done), digest);
      return bytes;
    } finally {
      await blob.handle.close();
    }
  }

  async function verifyBlob(digest: Digest, size: number, signal?: AbortSignal): Promise<boolean> {
    const blob = await openBlob(digest);
    let good = false;
    if (blob) {
      try {
        const hash = createHash(digestAlgorithm(digest));
        let bytes = 0;
        const stream = blob.handle.createReadStream({
          autoClose: false,
          start: 0,
          ...(signal && { signal }),
        });
        for await (const chunk of stream) {
          hash.update(chunk as Buffer);
          bytes += (chunk as Buffer).length;
        }
        good = bytes === size && hash.digest('hex') === digestHex(digest);
      } finally {
        await blob.handle.close();
      }
    }
    if (!good && locks > 0) await rm(blobFile(digest), { force: true });
    return good;
  }

  async function ingest(digest: Digest, size: number): Promise<Ingest> {
    assertLocked();
    return quarantine.ingest(digest, size);
  }

  async function putBytes(digest: Digest, bytes: Uint8Array): Promise<void> {
    assertDigest(bytes, digest);
    if (await has(digest, bytes.length)) return;
    const blob = await ingest(digest, bytes.length);
    try {
      await writeFully(blob.fd, bytes);
      await blob.commit({ [digestAlgorithm(digest)]: digestHex(digest) });
    } finally {
      await blob.abort();
    }
  }

  async function sync(): Promise<void> {
    for (const changed of [...unsynced]) {
      await fsyncDirectory(changed);
      unsynced.delete(changed);
    }
  }

  async function readIndex(): Promise<IndexFile> {
    const bytes = await readFileLimited(places.index, limits.bundleFile);
    if (!bytes) throw indexMissing(places);
    return parseIndexFile(bytes, places.index, limits);
  }

  async function writeIndex(index: IndexFile): Promise<void> {
    await writeFileDurably(places.index, encodeIndexFile(index));
  }

  /** The record that vouches for an entry of index.json, or why there is none. */
  async function recordOf(entry: IndexEntry): Promise<ImageRecord | string> {
    if (entry.name === '' || !isDigest(entry.digest)) return 'it has no name or no digest';
    const file = path.join(places.records, recordFileName(entry.name, entry.digest));
    try {
      const bytes = await readFileLimited(file, MAX_RECORD);
      if (!bytes) return 'it came in through no gate';
      const record = parseRecord(bytes, file);
      return isEntryOf(entry, record) ? record : 'its record is about something else';
    } catch (error) {
      if (isSealiftError(error)) return `its record cannot be used: ${error.message}`;
      throw error;
    }
  }

  async function listOf(index: IndexFile): Promise<StoreListing> {
    const names = new Map<string, number>();
    for (const { name } of index.entries) names.set(name, (names.get(name) ?? 0) + 1);
    const images: ImageRecord[] = [];
    const notAdmitted: NotAdmitted[] = [];
    const found = await inLanes(index.entries, recordOf);
    for (const [at, entry] of index.entries.entries()) {
      const record = names.get(entry.name) === 1 ? found[at] : 'index.json names it more than once';
      if (typeof record === 'object') images.push(record);
      else notAdmitted.push({ name: inert(entry.name), digest: inert(entry.digest), reason: record ?? '' });
    }
    images.sort((a, b) => (a.name < b.name ? -1 : 1));
    return { images, notAdmitted };
  }

  async function image(name: string): Promise<ImageRecord | undefined> {
    const entries = (await readIndex()).entries.filter((entry) => entry.name === name);
    const [entry] = entries;
    if (!entry || entries.length > 1) return undefined;
    const record = await recordOf(entry);
    return typeof record === 'object' ? record : undefined;
  }

  async function admit(
    images: readonly ImageRecord[],
    withdraw: readonly string[],
  ): Promise<readonly string[]> {
    const files = new Map<string, Buffer>();
    const names = new Set<string>();
    for (const record of images) {
      const file = path.join(places.records, recordFileName(record.name, record.digest));
      const bytes = encodeRecord(record);
      // What cannot be read back must not become the record.
      parseRecord(bytes, file);
      if (names.has(record.name)) {
        throw new SealiftError('name-conflict', 'one name was given two images', { subject: record.name });
      }
      names.add(record.name);
      files.set(file, bytes);
      for (const needed of [record, ...record.evidence]) {
        if (!(await has(needed.digest, needed.size))) {
          throw new SealiftError('blob-missing', `the store has no manifest ${needed.digest}`, {
            subject: record.name,
            want: needed.digest,
          });
        }
      }
    }
    const index = await readIndex();
    const gone = new Set(withdraw.filter((name) => !names.has(name)));
    const removed = index.entries.map(({ name }) => name).filter((name) => gone.has(name));
    if (images.length === 0 && removed.length === 0) return [];
    await sync();
    await writeFiles(files, places.records);
    const others = index.entries.filter(({ name }) => !names.has(name) && !gone.has(name));
    const entries = [...others, ...images.map(entryOf)];
    await writeIndex({ ...index, entries });
    await sweepRecords(entries);
    return [...new Set(removed)].sort();
  }

  /** Removes records that index.json does not point at any more. Failing is harmless: the next write tries again. */
  async function sweepRecords(entries: readonly IndexEntry[]): Promise<void> {
    try {
      const named = new Set<string>();
      for (const { name, digest } of entries) if (isDigest(digest)) named.add(recordFileName(name, digest));
      for (const file of await readdir(places.records)) {
        if (!named.has(file)) await rm(path.join(places.records, file), { force: true });
      }
    } catch {
      // index.json is durable already.
    }
  }

  async function listBlobs(): Promise<BlobFile[]> {
    const blobs: BlobFile[] = [];
    for (const algorithm of ALGORITHMS) {
      const names = (await readdir(path.join(places.blobs, algorithm))).filter((name) =>
        HEX[algorithm].test(name),
      );
      const sizes = await inLanes(names, async (name) => {
        const stats = await lstat(path.join(places.blobs, algorithm, name));
        // A link is no blob; it has no size and goes as what nobody needs.
        return stats.isFile() || stats.isSymbolicLink()
          ? { size: stats.isFile() ? stats.size : 0 }
          : undefined;
      });
      for (const [at, hex] of names.entries()) {
        const found = sizes[at];
        if (found) blobs.push({ algorithm, hex, size: found.size });
      }
    }
    return blobs;
  }

  async function gc(gcOptions: {
    readonly dryRun: boolean;
    readonly keep?: readonly Digest[] | undefined;
  }): Promise<GarbageResult> {
    if (quarantine.busy) throw new SealiftError('internal', 'blobs are being taken in');
    const index = await readIndex();
    const { images } = await listOf(index);
    const blobs = await listBlobs();
    const marked = await markReachable({
      reader: { exists: async (digest) => (await blobSize(digest)) !== undefined, read: readBlob },
      index,
      records: images,
      blobs,
      keep: gcOptions.keep ?? [],
      limits,
    });
    let removedBlobs = 0;
    let removedBytes = 0;
    async function remove(file: string, size: number): Promise<void> {
      removedBlobs += 1;
      removedBytes += size;
      if (!gcOptions.dryRun) await rm(file, { force: true });
    }
    let keptBlobs = 0;
    for (const { algorithm, hex, size } of blobs) {
      if (marked.has(`${algorithm}:${hex}`)) keptBlobs += 1;
      else await remove(path.join(places.blobs, algorithm, hex), size);
    }
    for (const name of await readdir(places.ingest)) {
      const file = path.join(places.ingest, name);
      const { size } = await lstat(file);
      // A note is about pieces and no blob of its own.
      if (!name.endsWith('.note')) await remove(file, size);
      else if (!gcOptions.dryRun) await rm(file, { force: true });
    }
    if (!gcOptions.dryRun) await sweepRecords(index.entries);
    return { store: directory, removedBlobs, removedBytes, keptBlobs, dryRun: gcOptions.dryRun };
  }

  return {
    directory,
    lock: async (pid) => {
      const lock = await acquireLock(path.join(places.own, 'lock'), pid);
      if (locks === 0) await sweepTemporary([directory, places.own, places.records]);
      locks += 1;
      let released = false;
      return {
        release: async () => {
          if (released) return;
          released = true;
          await last;
          locks -= 1;
          await lock.release();
        },
      };
    },
    blobSize,
    blobFile,
    has,
    verifyBlob,
    ingest,
    ingestPieces: async (digest, size) => {
      assertLocked();
      return quarantine.ingestPieces(digest, size);
    },
    piecesOf: quarantine.piecesOf,
    putBytes,
    sync,
    admit: (images, admitOptions) => write(() => admit(images, admitOptions?.withdraw ?? [])),
    withdraw: (names) => write(() => admit([], names)),
    list: async () => listOf(await readIndex()),
    image,
    readBlob,
    openBlob,
    revision: async () => {
      const stats = await lstat(places.index, { bigint: true });
      return `${stats.ino}-${stats.size}-${stats.mtimeNs}`;
    },
    freeBytes: async () => {
      const facts = await statfs(directory);
      return facts.bavail * facts.bsize;
    },
    gc: (gcOptions) => write(() => gc(gcOptions)),
  };
}

/** Makes the store, or what an interrupted making left out, and refuses what is none. */
async function prepare(directory: string, places: Places, create: boolean): Promise<void> {
  const storeBytes = (await isLink(places.own))
    ? undefined
    : await readFileLimited(places.storeFile, MAX_STORE_FILE);
  if (storeBytes) {
    const hint = 'restore it from a backup; it holds only the number of the format';
    const document = parseDocument(storeBytes, { file: places.storeFile, hint, maxBytes: MAX_STORE_FILE });
    checkFormat(document, places.storeFile, STORE_FORMAT, KNOWN_FEATURES);
  } else {
    await assertFree(directory, places, create);
    await makeDirectory(places.own);
    await writeFileDurably(
      places.storeFile,
      canonicalJson({ formatVersion: STORE_FORMAT, requires: KNOWN_FEATURES }),
    );
  }
  const directories = [
    places.ingest,
    places.records,
    ...ALGORITHMS.map((name) => path.join(places.blobs, name)),
  ];
  if (create) for (const wanted of directories) await makeDirectory(wanted);
  // The store itself may be reached over a link; nothing inside may be one.
  for (const wanted of [places.own, places.blobs, ...directories]) await assertDirectory(wanted);
  if (await isMissing(places.index)) {
    // Records without index.json: it was there once.
    const fresh = create && (await readdir(places.records)).length === 0;
    if (!fresh) throw indexMissing(places);
    await writeFileDurably(places.index, encodeIndexFile(EMPTY_INDEX));
  }
  if (await isMissing(places.layout)) {
    if (!create) throw damagedLayout(places.layout);
    await writeFileDurably(places.layout, LAYOUT_FILE);
  }
}

async function assertFree(directory: string, places: Places, create: boolean): Promise<void> {
  let found: string[] = [];
  try {
    found = await readdir(directory);
  } catch (error) {
    if (!isCode(error, 'ENOENT')) throw error;
  }
  if (found.some((name) => name !== '.sealift' && name !== 'lost+found')) {
    const layout = found.includes('oci-layout');
    throw new SealiftError(
      'layout-invalid',
      layout
        ? 'this is an image layout that sealift did not make, so nothing says what was let in'
        : 'directory is not empty and no store',
      {
        subject: directory,
        want: 'a store or an empty directory',
        hint: 'choose another directory for the store',
      },
    );
  }
  if (await isLink(places.own)) throw damagedLayout(places.own);
  if (!create) {
    throw new SealiftError('store-not-found', 'there is no store at that place', {
      subject: directory,
      hint: 'an import makes it: sealift import BUNDLE --store DIR',
    });
  }
}

async function assertDirectory(directory: string): Promise<void> {
  try {
    if ((await lstat(directory)).isDirectory()) return;
  } catch (error) {
    if (!isCode(error, 'ENOENT')) throw error;
  }
  throw damagedLayout(directory);
}

function damagedLayout(subject: string): SealiftError {
  return new SealiftError(
    'layout-invalid',
    'a part of the store is missing, or is a link or something else',
    {
      subject,
      hint: 'remove what is there and import again, which makes what is missing',
    },
  );
}

function indexMissing(places: Places): SealiftError {
  return new SealiftError('state-damaged', 'index.json is not there, but the rest of a store is', {
    subject: places.index,
    hint: 'restore it from a backup; or empty the store and import the newest bundle again',
  });
}

async function writeFully(fd: number, bytes: Uint8Array): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesWritten } = await writeAsync(fd, bytes, done, bytes.length - done, done);
    done += bytesWritten;
  }
}

/** Writes small files, each whole or not there; durable together at the end. Files with that content already are left. */
async function writeFiles(files: ReadonlyMap<string, Buffer>, directory: string): Promise<void> {
  await inLanes([...files], async ([file, bytes]) => {
    const there = await readFileLimited(file, MAX_RECORD).catch(() => undefined);
    if (there?.equals(bytes)) return;
    const temporary = temporaryName(file);
    try {
      const handle = await openAs(temporary, 'wx');
      try {
        await handle.writeFile(bytes);
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(temporary, file);
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => undefined);
      throw error;
    }
  });
  await fsyncDirectory(directory);
}

/** Results in the order of the items; the first failure is thrown when all that had begun have ended. */
async function inLanes<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = new Array(items.length);
  const queue = items.entries();
  let failure: { readonly error: unknown } | undefined;
  async function lane(): Promise<void> {
    for (const [at, item] of queue) {
      if (failure) return;
      try {
        results[at] = await work(item);
      } catch (error) {
        failure ??= { error };
        return;
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(LANES, items.length) }, lane));
  if (failure) throw failure.error;
  return results;
}

async function isLink(file: string): Promise<boolean> {
  try {
    return (await lstat(file)).isSymbolicLink();
  } catch (error) {
    if (isCode(error, 'ENOENT', 'ENOTDIR')) return false;
    throw error;
  }
}

async function isMissing(file: string): Promise<boolean> {
  try {
    await lstat(file);
    return false;
  } catch (error) {
    if (isCode(error, 'ENOENT')) return true;
    throw error;
  }
}

function isCode(error: unknown, ...codes: readonly string[]): boolean {
  return codes.includes((error as NodeJS.ErrnoException).code ?? '');
}
