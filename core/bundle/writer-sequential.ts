/** Writes a laid-out bundle in order to a stream, through archiver. */
import type { Writable } from 'node:stream';
import { SealiftError } from '../errors.ts';
import type { WorkerPool } from '../pool/pool.ts';
import type { BundlePlan } from './layout.ts';

export interface SequentialOptions {
  readonly output: Writable;
  readonly plan: BundlePlan;
  readonly pool: WorkerPool;
  readonly signal: AbortSignal;
  /** The content of a blob (`blobs/ALG/HEX`); asked for one after another in archive order. Hashed here. */
  readonly blob: (name: string, size: number) => Promise<AsyncIterable<Uint8Array>>;
  /** Bytes of the blob handed on so far. */
  readonly onProgress?: ((name: string, bytes: number) => void) | undefined;
}

/** Writes it all and ends `output`; resolves when `output` has finished. */
export async function writeSequentially(
  _options: SequentialOptions,
): Promise<{ readonly size: number; readonly sha256: string }> {
  throw new SealiftError('internal', 'not made yet');
}
