/**
 * The volumes of a bundle as one run of bytes. What is in them is nobody's word but the bundle's own: names, sizes and
 * the list of volumes only help to say which one is missing or bad.
 */
import type { BigIntStats } from 'node:fs';
import { type FileHandle, readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import type { Context } from '../../context.ts';
import { inert, isSealiftError, SealiftError } from '../../errors.ts';
import { readFileLimited } from '../../fs/durable.ts';
import { assertSame, type BundleBytes, openRegularFile, type Stretch, unreadable } from '../bytes.ts';
import { readAt } from '../input.ts';
import type { MediumProvider } from './medium.ts';
import {
  MAX_VOLUMES,
  parseVolumeName,
  volumeCount,
  volumeIndexName,
  volumeName,
  volumesText,
} from './names.ts';
import { MAX_VOLUME_INDEX, parseVolumeIndex, type VolumeIndex } from './volume-index.ts';

/** A file that by its name is a volume. */
export interface FoundVolume {
  readonly base: string;
  readonly number: number;
  readonly path: string;
}

interface Volume extends FoundVolume {
  readonly size: number;
  readonly opened: BigIntStats;
  /** Open while its medium is there. */
  handle: FileHandle | undefined;
}

const PIECE = 256 * 1024;
/** More names are not looked through. */
const MAX_NAMES = 100_000;

/** Volumes in a directory, ascending; of `base` only, where one is given. */
export async function findVolumes(directory: string, base?: string): Promise<FoundVolume[]> {
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return [];
    throw unreadable(error, directory);
  });
  return names
    .slice(0, MAX_NAMES)
    .flatMap((name) => {
      const parsed = parseVolumeName(name);
      if (!parsed || (base !== undefined && parsed.base !== base)) return [];
      return [{ ...parsed, path: path.join(directory, name) }];
    })
    .sort((a, b) => a.number - b.number);
}

/**
 * The volumes that `paths` mean: one directory of volumes, one volume with its siblings, or several volumes. Undefined
 * where it is one file that has no volume's name.
 * @throws SealiftError `bundle-not-found`, `invalid-argument` for what are no volumes of one bundle, `volume-duplicate`
 */
export async function locateVolumes(
  paths: readonly [string, ...string[]],
): Promise<readonly [FoundVolume, ...FoundVolume[]] | undefined> {
  const [first, ...more] = paths;
  const given = await Promise.all(paths.map((one) => stat(one).catch(() => undefined)));
  const missing = paths.find((_, index) => given[index] === undefined);
  if (missing !== undefined && more.length > 0)
    throw new SealiftError('bundle-not-found', 'there is no such volume', { subject: inert(missing) });
  if (more.length === 0 && given[0]?.isDirectory() !== true) {
    const name = parseVolumeName(path.basename(first));
    // `images-1.2.003` may be a whole bundle of that name: only the first volume begins as a bundle does.
    if (!name || (name.number > 1 && (await beginsAsBundle(first)))) return undefined;
    // Also where that volume itself is not there: then it is named as missing.
    return oneBundle(await findVolumes(path.dirname(first), name.base), first);
  }
  const found: FoundVolume[] = [];
  for (const [index, one] of paths.entries()) {
    if (given[index]?.isDirectory()) {
      found.push(...(await findVolumes(one)));
      continue;
    }
    const name = parseVolumeName(path.basename(one));
    if (!name) {
      throw new SealiftError('invalid-argument', 'of several files each must be a volume of one bundle', {
        subject: inert(one),
        hint: 'name one bundle, or all its volumes: NAME.tar.001 NAME.tar.002',
      });
    }
    found.push({ ...name, path: one });
  }
  return oneBundle(found, first);
}

async function beginsAsBundle(file: string): Promise<boolean> {
  const { handle } = await openRegularFile(file).catch(() => ({ handle: undefined }));
  if (!handle) return false;
  try {
    const block = await readAt(handle, 0, 512);
    return (
      block.toString('latin1', 0, 11) === 'oci-layout\0' && block.toString('latin1', 257, 262) === 'ustar'
    );
  } finally {
    await handle.close();
  }
}

function oneBundle(found: readonly FoundVolume[], subject: string): readonly [FoundVolume, ...FoundVolume[]] {
  const [first, ...rest] = [...found].sort((a, b) => a.number - b.number);
  if (!first)
    throw new SealiftError('bundle-not-found', 'there is no bundle and no volume of one', {
      subject: inert(subject),
      hint: 'name the bundle, or its first volume: NAME.tar.001',
    });
  const bases = [...new Set(found.map(({ base }) => base))];
  if (bases.length > 1) {
    throw new SealiftError(
      'volume-foreign',
      `these are volumes of ${bases.length} bundles: ${inert(bases.slice(0, 4).join(', '))}`,
      { subject: inert(subject), hint: `name the volumes of one: ${inert(volumeName(bases[0] ?? '', 1))}` },
    );
  }
  for (const [index, volume] of rest.entries()) {
    const before = [first, ...rest][index];
    if (before?.number !== volume.number) continue;
    throw new SealiftError('volume-duplicate', `volume ${volume.number} is there twice`, {
      subject: inert(volume.path),
      got: inert(before.path),
      hint: 'leave one of the two out; sealift verify tells whether it is the right one',
    });
  }
  return [first, ...rest];
}

export interface MediaHooks {
  /** Asked for volumes that are not at hand; without it they are missing. */
  readonly medium?: MediumProvider | undefined;
  /** Told of every volume that is opened, while its medium is there. */
  readonly onMedium?: ((file: string) => Promise<void>) | undefined;
}

/**
 * Opens the volumes of one bundle.
 * @throws SealiftError `volume-missing`, `volume-damaged`, `volume-index-invalid`, `bundle-unreadable`
 */
export async function openVolumes(
  found: readonly [FoundVolume, ...FoundVolume[]],
  context: Pick<Context, 'signal' | 'emit' | 'pool'>,
  media: MediaHooks = {},
): Promise<BundleBytes> {
  const set = createVolumeSet(found[0].base, path.dirname(found[0].path), context, media);
  try {
    for (const volume of found) await set.register(volume);
    await set.start();
  } catch (error) {
    await set.close();
    throw error;
  }
  return set;
}

function createVolumeSet(
  base: string,
  directory: string,
  { signal, emit, pool }: Pick<Context, 'signal' | 'emit' | 'pool'>,
  { medium, onMedium }: MediaHooks,
) {
  const volumes = new Map<number, Volume>();
  /** By directory. */
  const indexes = new Map<string, VolumeIndex>();
  let lastDirectory = directory;
  let manifestSha256: string | undefined;
  /** Of every volume but the last. */
  let volumeSize = 0;
  let total: number | undefined;
  let size = 0;

  const ofTotal = (): string => {
    // Until the bundle itself has said it, the list may; it is only a word in a message.
    const [index] = indexes.values();
    const count = total ?? index?.hashes.length;
    return count === undefined ? '' : ` of ${count}`;
  };
  const pathOf = (number: number): string =>
    inert(volumes.get(number)?.path ?? path.join(lastDirectory, volumeName(base, number)));
  const remake = (numbers: readonly number[]): string =>
    `copy ${volumesText(numbers)} again from where the bundle was made; what is lost there too is made anew with: sealift export … --only-volume ${numbers[0]}`;

  function missing(numbers: readonly number[]): SealiftError {
    const text = volumesText(numbers);
    return new SealiftError(
      'volume-missing',
      `${text}${ofTotal()} ${numbers.length === 1 ? 'is' : 'are'} missing`,
      {
        subject: pathOf(numbers[0] ?? 1),
        got: volumes.size,
        want: total,
        hint: `put it beside the others, or name all volumes: ${inert(volumeName(base, 1))} …`,
      },
    );
  }

  function wrongSize(number: number, got: number, want: number): SealiftError {
    const how = got < want ? 'ends too early' : 'is too long';
    return new SealiftError(
      'volume-damaged',
      `volume ${number}${ofTotal()} ${how}: got ${got} bytes, want ${want}`,
      { subject: pathOf(number), got, want, hint: remake([number]) },
    );
  }

  async function readIndexIn(where: string): Promise<void> {
    if (indexes.has(where)) return;
    const file = path.join(where, volumeIndexName(base));
    const info = await stat(file).catch(() => undefined);
    // Anything but an ordinary file of a decent size is no list.
    if (!info) return;
    const bytes = info.isFile()
      ? await readFileLimited(file, MAX_VOLUME_INDEX).catch(() => undefined)
      : undefined;
    indexes.set(where, parseVolumeIndex(bytes ?? Buffer.alloc(0), base, inert(file)));
  }

  async function register(found: FoundVolume): Promise<void> {
    const known = volumes.get(found.number);
    const { handle, opened } = await openRegularFile(found.path).catch((error: unknown) => {
      if (isSealiftError(error) && error.code === 'invalid-argument')
        throw new SealiftError('volume-damaged', `volume ${found.number} is no ordinary file`, {
          subject: inert(found.path),
          cause: error,
        });
      throw error;
    });
    await known?.handle?.close();
    volumes.set(found.number, { ...found, handle, opened, size: Number(opened.size) });
    lastDirectory = path.dirname(found.path);
    await onMedium?.(found.path);
    await readIndexIn(lastDirectory);
    if (total !== undefined) checkSize(found.number);
  }

  function offsetOf(number: number): number {
    return (number - 1) * volumeSize;
  }

  function sizeOf(number: number): number {
    return Math.min(volumeSize, size - offsetOf(number));
  }

  /** Once the size of the bundle is known. */
  function checkSize(number: number): void {
    const volume = volumes.get(number);
    if (!volume || total === undefined) return;
    if (number > total) {
      throw new SealiftError(
        'volume-unexpected',
        `volume ${number} does not belong to the bundle, which has ${total} volume${total === 1 ? '' : 's'}`,
        {
          subject: inert(volume.path),
          got: number,
          want: total,
          hint: 'it was left by another export; remove it, or name the volumes one by one',
        },
      );
    }
    if (volume.size !== sizeOf(number)) throw wrongSize(number, volume.size, sizeOf(number));
  }

  function numbersOf(wanted: readonly Stretch[]): number[] {
    const numbers = new Set<number>();
    for (const { offset, size: length } of wanted) {
      const last = Math.floor((offset + Math.max(1, length) - 1) / volumeSize) + 1;
      for (let number = Math.floor(offset / volumeSize) + 1; number <= last; number += 1) numbers.add(number);
    }
    return [...numbers].sort((a, b) => a - b);
  }

  const atHand = (number: number): boolean => volumes.get(number)?.handle !== undefined;

  /** Closes all files, so that the medium can be taken out. */
  async function letGo(): Promise<void> {
    for (const volume of volumes.values()) {
      const { handle } = volume;
      volume.handle = undefined;
      await handle?.close().catch(() => undefined);
    }
  }

  /** Asks for media until one of `wanted` is at hand. */
  async function demand(wanted: readonly number[]): Promise<void> {
    let problem: string | undefined;
    while (!wanted.some(atHand)) {
      signal.throwIfAborted();
      if (!medium) throw missing(wanted);
      await letGo();
      const answer = await medium({
        purpose: 'read',
        wanted,
        total,
        name: base,
        directory: lastDirectory,
        ...(problem === undefined ? {} : { problem }),
      });
      if (answer === undefined) throw missing(wanted);
      const found = await findVolumes(answer, base);
      lastDirectory = answer;
      problem =
        found.length === 0
          ? `no volume of ${inert(base)} is there`
          : `there ${found.length === 1 ? 'is' : 'are'} ${volumesText(found.map(({ number }) => number))}`;
      for (const volume of found) if (total === undefined || volume.number <= total) await register(volume);
    }
  }

  async function handleOf(number: number): Promise<FileHandle> {
    if (!atHand(number)) await demand([number]);
    const { handle } = volumes.get(number) ?? {};
    if (!handle) throw missing([number]);
    return handle;
  }

  /** Up to `length` bytes at a place in the bundle. */
  async function read(offset: number, length: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    let at = offset;
    const end = total === undefined ? offset + length : Math.min(size, offset + length);
    while (at < end) {
      const number = Math.floor(at / volumeSize) + 1;
      // Before the size is known the end shows by a volume that is not there, or is shorter than the first.
      if (total === undefined && !atHand(number) && lastIsShort()) break;
      const handle = await handleOf(number);
      const inside = at - offsetOf(number);
      const want = Math.min(end - at, volumeSize - inside);
      const got = await readAt(handle, inside, want).catch((error: unknown) => {
        throw unreadable(error, pathOf(number));
      });
      parts.push(got);
      at += got.length;
      if (got.length < want) break;
    }
    return parts.length === 1 && parts[0] ? parts[0] : Buffer.concat(parts);
  }

  function lastIsShort(): boolean {
    const last = volumes.get(Math.max(...volumes.keys()));
    return last !== undefined && last.size < volumeSize;
  }

  async function hashOf(number: number): Promise<string | undefined> {
    const volume = volumes.get(number);
    if (!volume?.handle) return undefined;
    const hashes = await pool.range({
      source: { fd: volume.handle.fd, offset: 0 },
      size: volume.size,
      algorithms: ['sha256'],
      signal,
    });
    return hashes.sha256;
  }

  function faulty(error: SealiftError, number: number, hash: string | undefined): SealiftError | undefined {
    const volume = volumes.get(number);
    if (!volume) return undefined;
    const { check } = error;
    const details = { subject: inert(volume.path), check, cause: error, hint: remake([number]) };
    const own = indexes.get(path.dirname(volume.path));
    // Without a head that can be read nobody knows which bundle a list is about.
    const isBound = (index: VolumeIndex): boolean =>
      manifestSha256 === undefined || index.manifestSha256 === manifestSha256;
    const bound = [...indexes.values()].filter(isBound);
    if (own && !isBound(own) && hash !== undefined && own.hashes.includes(hash)) {
      return new SealiftError(
        'volume-foreign',
        `volume ${number}${ofTotal()} is from another bundle`,
        details,
      );
    }
    for (const index of bound) {
      const other = hash === undefined ? -1 : index.hashes.indexOf(hash);
      if (other === number - 1) return undefined;
      if (other >= 0) {
        return new SealiftError(
          'volume-misplaced',
          `the file of volume ${number}${ofTotal()} holds volume ${other + 1}`,
          {
            ...details,
            got: other + 1,
            want: number,
            hint: 'give the files their right numbers, or copy them again',
          },
        );
      }
    }
    return new SealiftError(
      'volume-damaged',
      `volume ${number}${ofTotal()} is damaged, or from another bundle: ${error.message}`,
      details,
    );
  }

  return {
    path: volumeName(path.join(directory, base), 1),
    get size() {
      return size;
    },
    isOneFile: false,
    get complete() {
      return total !== undefined && Array.from({ length: total }, (_, index) => index + 1).every(atHand);
    },
    register,
    /** The first volume is needed before all others: it has the head. */
    async start(): Promise<void> {
      await handleOf(1);
      const highest = Math.max(...volumes.keys());
      volumeSize = Math.max(...[...volumes.values()].map((volume) => volume.size));
      const first = volumes.get(1)?.size ?? 0;
      if (first < volumeSize) throw wrongSize(1, first, volumeSize);
      if (volumeSize === 0) throw wrongSize(1, 0, 1);
      const gaps = Array.from({ length: highest }, (_, index) => index + 1).filter(
        (number) => !volumes.has(number),
      );
      if (!medium && gaps.length > 0) throw missing(gaps);
    },
    async *pieces() {
      for (let offset = 0; ; ) {
        // Not over a border: the next volume may be one to be asked for.
        const piece = await read(offset, Math.min(PIECE, volumeSize - (offset % volumeSize)));
        if (piece.length === 0) return;
        offset += piece.length;
        yield piece;
      }
    },
    read,
    bind(sha256: string) {
      manifestSha256 = sha256;
      for (const [where, index] of indexes) {
        if (index.manifestSha256 === sha256) continue;
        emit({
          type: 'notice',
          level: 'warning',
          code: 'volume-index-foreign',
          message: `${inert(path.join(where, volumeIndexName(base)))} is about another bundle; the volumes are judged without it`,
        });
      }
    },
    expect(bytes: number) {
      const count = volumeCount(bytes, volumeSize);
      // A manifest may claim any size, and volumes may be of any.
      if (count > MAX_VOLUMES) {
        throw new SealiftError(
          'volume-damaged',
          `the volumes are too small for the bundle, which would have ${count}: got ${volumeSize} bytes each, want at least ${Math.ceil(bytes / MAX_VOLUMES)}`,
          { subject: pathOf(1), got: count, want: MAX_VOLUMES, hint: remake([1]) },
        );
      }
      size = bytes;
      total = count;
      for (const number of volumes.keys()) checkSize(number);
      const gaps = Array.from({ length: total }, (_, index) => index + 1).filter(
        (number) => !volumes.has(number),
      );
      if (!medium && gaps.length > 0) throw missing(gaps);
    },
    async visit(wanted, use, { inOrder = false } = {}) {
      let left = numbersOf(wanted);
      while (left.length > 0) {
        signal.throwIfAborted();
        const number = inOrder ? left[0] : left.find(atHand);
        if (number === undefined || !atHand(number)) {
          await demand(number === undefined ? left : [number]);
          continue;
        }
        const handle = await handleOf(number);
        try {
          await use({ volume: number, fd: handle.fd, offset: offsetOf(number), size: sizeOf(number) });
        } catch (error) {
          throw unreadable(error, pathOf(number));
        }
        left = left.filter((other) => other !== number);
      }
    },
    async explain(error, stretch) {
      const known = unreadable(error, pathOf(numbersOf([stretch])[0] ?? 1));
      if (!isSealiftError(known) || known.category !== 'malformed' || known.code.startsWith('volume-'))
        return known;
      const suspects = numbersOf([stretch]).filter((number) => atHand(number));
      if (suspects.length === 0) return known;
      const faults: { readonly number: number; readonly fault: SealiftError }[] = [];
      for (const number of suspects) {
        const fault = faulty(known, number, await hashOf(number).catch(() => undefined));
        if (fault) faults.push({ number, fault });
      }
      const [first, ...others] = faults;
      if (first && others.length === 0) return first.fault;
      const named = first ? faults.map(({ number }) => number) : suspects;
      const one = named.length === 1;
      return new SealiftError(
        'volume-damaged',
        `${one ? '' : 'one of '}${volumesText(named)}${ofTotal()} is damaged: ${known.message}`,
        { subject: pathOf(named[0] ?? 1), check: known.check, cause: known, hint: remake(named) },
      );
    },
    async assertUnchanged() {
      for (const volume of volumes.values()) {
        if (!volume.handle) continue;
        assertSame(await volume.handle.stat({ bigint: true }), volume.opened, volume.path);
      }
    },
    close: letGo,
  } satisfies BundleBytes & { register(found: FoundVolume): Promise<void>; start(): Promise<void> };
}
