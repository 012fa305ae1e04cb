/** Writes a laid-out bundle into a file, many blobs at once, each straight to its place. */
import { SealiftError } from '../errors.ts';
import type { BundlePlan } from './layout.ts';

export interface PositionalOptions {
  /** Path of the file, made with mode 0644 or opened where it is there (to go on), or an open descriptor (not closed here). */
  readonly file: string | number;
  readonly plan: BundlePlan;
  readonly signal: AbortSignal;
  /** For file systems without holes: blobs must be taken in archive order, one after another. */
  readonly ordered?: boolean | undefined;
  /** Names of blobs that an earlier run has already put in place and made durable. */
  readonly present?: ReadonlySet<string> | undefined;
}

export interface BlobTarget {
  readonly fd: number;
  readonly offset: number;
}

export interface PositionalWriter {
  readonly fd: number;
  readonly ordered: boolean;
  /** Bytes written by this writer itself: head files, headers, paddings, end blocks. */
  readonly bytesWritten: number;
  /** Where the content of `name` goes; for pool.stream() or pool.range(). Each blob once. */
  target(name: string): BlobTarget;
  /** `name` has been written whole and its hash was right. */
  done(name: string): void;
  /** fdatasync, for a journal that wants to say what is durable. */
  sync(): Promise<void>;
  /** Checks that every blob is done and the file has its size, then fsync; closes the file it opened. */
  finish(): Promise<void>;
  /** Closes without a check; the partial file stays. */
  close(): Promise<void>;
}

export async function createPositionalWriter(_options: PositionalOptions): Promise<PositionalWriter> {
  throw new SealiftError('internal', 'not made yet');
}
