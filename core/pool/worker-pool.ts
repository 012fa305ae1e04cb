/** Worker threads that hash and move bytes; see pool.ts for the contract. */
import { SealiftError } from '../errors.ts';
import type { WorkerPool } from './pool.ts';

export interface WorkerPoolOptions {
  /** Number of threads; 0 does the same work on the calling thread. */
  readonly size: number;
  /** The worker's program; beside this module unless given. */
  readonly entry?: URL | undefined;
}

export function createWorkerPool(_options: WorkerPoolOptions): WorkerPool {
  throw new SealiftError('internal', 'not made yet');
}
