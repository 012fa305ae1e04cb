import type { EventSink } from './events.ts';
import type { Limits } from './limits.ts';
import type { WorkerPool } from './pool/pool.ts';

/**
 * The surroundings of a run, handed in by the front end. core reads no clock, environment, standard stream
 * or signal of its own.
 */
export interface Context {
  /** The one reading of the host's clock that every decision of this run uses. */
  readonly now: Date;
  readonly signal: AbortSignal;
  readonly emit: EventSink;
  readonly limits: Limits;
  readonly pool: WorkerPool;
}
