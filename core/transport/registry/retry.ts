/** When to try again, and how long to wait before. */
import { setTimeout as wait } from 'node:timers/promises';
import type { Context } from '../../context.ts';
import { SealiftError } from '../../errors.ts';
import type { SourceOptions } from '../source.ts';

/** A failure that may be gone next time. `failure` is what is reported when it is not. */
export class Transient extends Error {
  override readonly name = 'Transient';
  readonly failure: SealiftError;
  /** Milliseconds the server asks to wait. */
  readonly retryAfter: number | undefined;

  constructor(failure: SealiftError, retryAfter?: number) {
    super(failure.message, { cause: failure });
    this.failure = failure;
    this.retryAfter = retryAfter;
  }
}

const FIRST_WAIT = 500;
const LONGEST_WAIT = 30_000;
/** Longest Retry-After that is waited for. */
export const LONGEST_RETRY_AFTER = 5 * 60_000;

/**
 * Milliseconds a Retry-After field asks for, or undefined where it cannot be read.
 * @param date the response's own Date field; a date is measured from it, as clocks differ
 */
export function parseRetryAfter(
  text: string | undefined,
  date: string | undefined,
  now: Date,
): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,10}$/.test(text.trim())) return Number(text.trim()) * 1000;
  const until = Date.parse(text);
  if (Number.isNaN(until)) return undefined;
  const reference = date === undefined ? Number.NaN : Date.parse(date);
  return Math.max(0, until - (Number.isNaN(reference) ? now.getTime() : reference));
}

/**
 * Waits before the next attempt and says so.
 * @param failed number of attempts that have failed in a row, from 1
 * @throws the failure itself where there were enough attempts; `source-rate-limited` where the wait would be too long
 */
export async function waitForRetry(
  error: Transient,
  failed: number,
  options: SourceOptions,
  context: Context,
): Promise<void> {
  const { failure, retryAfter } = error;
  const longest = options.longestWaitMs ?? LONGEST_RETRY_AFTER;
  if (retryAfter !== undefined && retryAfter > longest) {
    throw new SealiftError(
      'source-rate-limited',
      `asked to wait for ${Math.ceil(retryAfter / 1000)} seconds, want at most ${longest / 1000}`,
      {
        subject: failure.subject,
        got: Math.ceil(retryAfter / 1000),
        want: longest / 1000,
        hint: 'run the same command again later; logging in to the registry often raises the limit',
        cause: failure,
      },
    );
  }
  if (failed > options.retryTimes) throw failure;
  const random = options.random ?? Math.random;
  const backOff = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** (failed - 1)) * (0.5 + random() / 2);
  const milliseconds = Math.round(Math.max(backOff, retryAfter ?? 0));
  context.emit({
    type: 'notice',
    level: 'info',
    code: 'source-retry',
    message: `${failure.subject ?? 'source'}: ${failure.message}; trying again in ${milliseconds} ms (${failed} of ${options.retryTimes})`,
  });
  const sleep = options.sleep ?? ((ms: number, signal: AbortSignal) => wait(ms, undefined, { signal }));
  try {
    await sleep(milliseconds, context.signal);
  } catch (error) {
    if (context.signal.aborted) throw new SealiftError('cancelled', 'stopped', { cause: error });
    throw error;
  }
}

/** Runs `attempt` until it succeeds, fails for good, or has failed too often. */
export async function retrying<T>(
  attempt: () => Promise<T>,
  options: SourceOptions,
  context: Context,
): Promise<T> {
  for (let failed = 1; ; failed += 1) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof Transient)) throw error;
      await waitForRetry(error, failed, options, context);
    }
  }
}
