/** What a file system can hold: free bytes, the largest file, and whether files may have holes. */
import { statfs } from 'node:fs/promises';
import { SealiftError } from '../errors.ts';
import { formatBytes } from '../util/format.ts';

export interface FileSystemFacts {
  /** For people; `unknown` where the type is none we know. */
  readonly name: string;
  /** Bytes an ordinary user may still write; infinite where the file system does not say. */
  readonly freeBytes: number;
  /** Bytes the largest file may have; undefined where that is no concern. */
  readonly maxFileSize?: number;
  /** True where a hole costs nothing: only there is writing out of order cheap. */
  readonly holes: boolean;
}

interface KnownType {
  readonly name: string;
  readonly holes: boolean;
  readonly maxFileSize?: number;
}

/** `f_type` of statfs(2) on Linux. FAT32 keeps a file's size in 32 bits. */
const TYPES: Readonly<Record<number, KnownType>> = {
  19780: { name: 'FAT32', holes: false, maxFileSize: 2 ** 32 - 1 },
  538032816: { name: 'exFAT', holes: false },
  61267: { name: 'ext4', holes: true },
  1481003842: { name: 'XFS', holes: true },
  2435016766: { name: 'Btrfs', holes: true },
  16914836: { name: 'tmpfs', holes: true },
  801189825: { name: 'ZFS', holes: true },
  4076150800: { name: 'F2FS', holes: true },
  2035054128: { name: 'overlayfs', holes: true },
  1936094318: { name: 'NTFS', holes: true },
};

/** @param directory one that exists */
export async function inspectFileSystem(directory: string): Promise<FileSystemFacts> {
  const facts = await statfs(directory);
  const known = TYPES[facts.type >>> 0] ?? { name: 'unknown', holes: false };
  // Some file systems do not count (ramfs, parts of FUSE): all zeros means unknown, not full.
  const freeBytes = facts.blocks === 0 ? Number.POSITIVE_INFINITY : facts.bavail * facts.bsize;
  return { ...known, freeBytes };
}

/**
 * Refuses what will not fit, before the first byte is written.
 * @param needed bytes that are still to be written
 * @param fileSize bytes of the whole file
 * @throws SealiftError `destination-limit`, `destination-full`
 */
export function assertFits(facts: FileSystemFacts, needed: number, fileSize: number, subject: string): void {
  if (facts.maxFileSize !== undefined && fileSize > facts.maxFileSize) {
    throw new SealiftError(
      'destination-limit',
      `${facts.name} holds no file this large: got ${formatBytes(fileSize)}, want at most ${formatBytes(facts.maxFileSize)}`,
      {
        subject,
        got: fileSize,
        want: facts.maxFileSize,
        hint: 'format the medium as exFAT or ext4, or export fewer images at once',
      },
    );
  }
  if (needed > facts.freeBytes) {
    throw new SealiftError(
      'destination-full',
      `not enough free space: got ${formatBytes(facts.freeBytes)}, want ${formatBytes(needed)}`,
      {
        subject,
        got: facts.freeBytes,
        want: needed,
        hint: 'free some space or choose another place with -o, and run the command again',
      },
    );
  }
}
