/** Volumes of a bundle: their names, and where the byte stream is cut (docs/volumes.md). */
import { inert, SealiftError } from '../../errors.ts';

/** Three digits always, so that a shell's `NAME.tar.*` is the right order. */
export const MAX_VOLUMES = 999;
/** Smaller volumes are of no use to anybody. */
export const MIN_VOLUME_SIZE = 4096;
/** What Joliet takes; FAT and exFAT take 255. */
const MAX_NAME = 64;

const GIB = 1024 ** 3;

/** Sizes by the name of a medium, in bytes. */
export const MEDIUM_SIZES: Readonly<Record<string, number>> = {
  /** The largest file FAT32 holds. */
  fat32: 4 * GIB - 1,
  /** The largest file of ISO 9660 in whole sectors; it leaves room for the index on a single-layer DVD. */
  dvd: 4 * GIB - 2048,
  /** A single-layer BD-R with spare areas, less 32 MiB for the file system and the index. */
  bd25: 24_756_879_360 - 32 * 1024 * 1024,
};

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  KB: 1000,
  MB: 1000 ** 2,
  GB: 1000 ** 3,
  TB: 1000 ** 4,
  K: 1024,
  M: 1024 ** 2,
  G: GIB,
  T: 1024 ** 4,
  KIB: 1024,
  MIB: 1024 ** 2,
  GIB,
  TIB: 1024 ** 4,
};

/**
 * Bytes of `4GiB`, `700MB`, `2G`, a plain number, `fat32`, `dvd` or `bd25`. KiB and K are 1024 bytes, KB is 1000.
 * @throws SealiftError `invalid-argument`
 */
export function parseVolumeSize(text: string): number {
  const known = Object.hasOwn(MEDIUM_SIZES, text.toLowerCase())
    ? MEDIUM_SIZES[text.toLowerCase()]
    : undefined;
  if (known !== undefined) return known;
  const match = /^(\d{1,15})(?:\.(\d{1,3}))?\s?([A-Za-z]{0,3})$/.exec(text);
  const unit = UNITS[match?.[3]?.toUpperCase() ?? '-'];
  const size =
    match && unit !== undefined ? Math.floor(Number(`${match[1]}.${match[2] ?? '0'}`) * unit) : Number.NaN;
  if (!Number.isSafeInteger(size)) {
    throw new SealiftError(
      'invalid-argument',
      `no size of a volume: got ${inert(text)}, want a number of bytes, 4GiB, 700MB, fat32, dvd or bd25`,
      { subject: '--volume-size', got: inert(text) },
    );
  }
  if (size < MIN_VOLUME_SIZE) {
    throw new SealiftError(
      'invalid-argument',
      `a volume is too small: got ${size} bytes, want at least ${MIN_VOLUME_SIZE}`,
      { subject: '--volume-size', got: size, want: MIN_VOLUME_SIZE },
    );
  }
  return size;
}

/** `images.tar.003` for volume 3 of `images.tar`. */
export function volumeName(base: string, number: number): string {
  return `${base}.${String(number).padStart(3, '0')}`;
}

export interface VolumeName {
  /** The bundle's name, `images.tar`. */
  readonly base: string;
  readonly number: number;
}

/** What a file's name says, without its directory; undefined where it is no volume's name. */
export function parseVolumeName(name: string): VolumeName | undefined {
  const match = /^(.+)\.(\d{3})$/s.exec(name);
  const number = Number(match?.[2]);
  return match?.[1] !== undefined && number > 0 ? { base: match[1], number } : undefined;
}

/** `images.volumes.json` for `images.tar`. */
export function volumeIndexName(base: string): string {
  return `${base.replace(/\.tar$/i, '')}.volumes.json`;
}

const RESERVED = /^(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|$)/i;

/**
 * Refuses names that ISO 9660 with Joliet, FAT or exFAT do not take, or not as they are.
 * @param base the bundle's name, `images.tar`
 * @throws SealiftError `invalid-argument`
 */
export function assertPortableName(base: string): void {
  const refuse = (problem: string) =>
    new SealiftError('invalid-argument', `not a name that every medium takes: ${problem}`, {
      subject: inert(base),
      hint: 'use letters, digits, dots, dashes and underscores, as in images.tar',
    });
  if (!/^[\x20-\x7e]+$/.test(base)) throw refuse('it has characters outside ASCII');
  const bad = /["*/:;<>?\\|]/.exec(base)?.[0];
  if (bad !== undefined) throw refuse(`FAT and Joliet do not take ${bad}`);
  if (/^[ .]|[ .]$/.test(base)) throw refuse('it begins or ends with a blank or a dot');
  if (RESERVED.test(base)) throw refuse('it is the name of a device elsewhere');
  const longest = Math.max(volumeName(base, 1).length, volumeIndexName(base).length);
  if (longest > MAX_NAME) {
    throw refuse(
      `it is too long: got ${base.length} characters, want at most ${base.length - (longest - MAX_NAME)}`,
    );
  }
}

/** A volume's place in the bundle. */
export interface VolumeCut {
  /** From 1. */
  readonly number: number;
  readonly offset: number;
  readonly size: number;
}

/** Number of volumes of `volumeSize` bytes that `size` bytes make. */
export function volumeCount(size: number, volumeSize: number): number {
  return Math.max(1, Math.ceil(size / volumeSize));
}

/**
 * The volumes of a bundle of `size` bytes: all of `volumeSize` but the last.
 * @throws SealiftError `invalid-argument` where there would be more than 999
 */
export function cutVolumes(size: number, volumeSize: number): VolumeCut[] {
  const count = volumeCount(size, volumeSize);
  if (count > MAX_VOLUMES) {
    throw new SealiftError(
      'invalid-argument',
      `too many volumes: got ${count}, want at most ${MAX_VOLUMES}`,
      {
        subject: '--volume-size',
        got: count,
        want: MAX_VOLUMES,
        hint: `choose at least --volume-size ${Math.ceil(size / MAX_VOLUMES)}`,
      },
    );
  }
  return Array.from({ length: count }, (_, index) => {
    const offset = index * volumeSize;
    return { number: index + 1, offset, size: Math.min(volumeSize, size - offset) };
  });
}

/** `volume 3`, `volumes 3 and 5`, `volumes 1, 2 and 4`. */
export function volumesText(numbers: readonly number[]): string {
  const sorted = [...numbers].sort((a, b) => a - b);
  const shown = sorted.length > 12 ? [...sorted.slice(0, 10), `${sorted.length - 10} more`] : sorted;
  const last = shown.at(-1);
  return shown.length < 2 ? `volume ${last}` : `volumes ${shown.slice(0, -1).join(', ')} and ${last}`;
}
