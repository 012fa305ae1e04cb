/** Where everything in a bundle lies. Writers and readers share this. */
import { SealiftError } from '../errors.ts';
import { BLOCK_SIZE, END_BLOCKS, headerSizeOf, paddingOf } from './tar.ts';

export interface LaidOutEntry {
  readonly name: string;
  readonly headerOffset: number;
  readonly headerSize: number;
  readonly contentOffset: number;
  readonly size: number;
  readonly paddingSize: number;
}

/** A head file and its bytes. */
export interface HeadFile {
  readonly name: string;
  readonly bytes: Uint8Array;
}

export interface BundleLayout {
  /** Seconds since 1970, of every header. */
  readonly mtime: number;
  /** Every entry in archive order: head files, then blobs. */
  readonly entries: readonly LaidOutEntry[];
  readonly byName: ReadonlyMap<string, LaidOutEntry>;
  /** Offset of the two end blocks. */
  readonly endOffset: number;
  /** Bytes of the whole bundle. */
  readonly size: number;
}

/**
 * Offsets of entries written one after another from 0.
 * @throws SealiftError `bundle-too-large` where an offset would not be a safe integer
 */
export function layoutEntries(
  entries: Iterable<{ readonly name: string; readonly size: number }>,
  mtime: number,
): BundleLayout {
  const laidOut: LaidOutEntry[] = [];
  const byName = new Map<string, LaidOutEntry>();
  let offset = 0;
  for (const { name, size } of entries) {
    const headerSize = headerSizeOf(name);
    const contentOffset = offset + headerSize;
    const paddingSize = paddingOf(size);
    const entry = { name, headerOffset: offset, headerSize, contentOffset, size, paddingSize };
    laidOut.push(entry);
    byName.set(name, entry);
    offset = contentOffset + size + paddingSize;
    if (!Number.isSafeInteger(offset + END_BLOCKS.length)) {
      throw new SealiftError('bundle-too-large', 'the entries are larger than 2^53 bytes together', {
        subject: name,
      });
    }
  }
  if (byName.size !== laidOut.length) throw new SealiftError('internal', 'an entry is laid out twice');
  return { mtime, entries: laidOut, byName, endOffset: offset, size: offset + END_BLOCKS.length };
}

export interface BundlePlan {
  readonly layout: BundleLayout;
  readonly head: readonly HeadFile[];
  /** Blobs in archive order. */
  readonly blobs: readonly LaidOutEntry[];
}

/**
 * Lays out a whole bundle.
 * @param head head files in archive order
 * @param blobs blobs in archive order
 * @param mtime seconds since 1970 of `created`
 */
export function layoutBundle(
  head: readonly HeadFile[],
  blobs: readonly { readonly name: string; readonly size: number }[],
  mtime: number,
): BundlePlan {
  const files = head.map(({ name, bytes }) => ({ name, size: bytes.length }));
  const layout = layoutEntries([...files, ...blobs.map(({ name, size }) => ({ name, size }))], mtime);
  return { layout, head, blobs: layout.entries.slice(head.length) };
}

export const MIN_BUNDLE_SIZE: number = BLOCK_SIZE + END_BLOCKS.length;
