import { ERROR_CODES, type ErrorCategory, type SealiftError } from '../core/errors.ts';

/** The one table of exit codes: shown by --help, listed in docs/errors.md, tested. */
export const EXIT_CODES = {
  done: [0, 'done'],
  unexpected: [1, 'unexpected: a defect of sealift itself'],
  usage: [2, 'usage: an option, a name or a place is wrong'],
  partly: [3, 'partly done: some images passed, others were refused or could not be had'],
  malformed: [4, 'damaged or malformed'],
  trust: [5, 'trust refused: signature, expiry, rollback, requirement'],
  source: [6, 'source not reachable, or it refused'],
  destination: [7, 'destination failed: full, locked, there already'],
  needed: [8, 'something more is needed: a passphrase, a signature, a base'],
  cancelled: [130, 'stopped by Ctrl-C (SIGINT), or a question was answered with no'],
  terminated: [143, 'stopped by SIGTERM'],
} as const satisfies Record<ErrorCategory | 'done' | 'partly' | 'terminated', readonly [number, string]>;

export type StopSignal = 'SIGINT' | 'SIGTERM';

/** The number for an error; `signal` is what stopped the run, if anything did. */
export function exitCodeOf(error: Pick<SealiftError, 'code'>, signal?: StopSignal): number {
  const category = ERROR_CODES[error.code][0];
  if (category === 'cancelled' && signal === 'SIGTERM') return EXIT_CODES.terminated[0];
  return EXIT_CODES[category][0];
}
