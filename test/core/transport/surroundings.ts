/** What the tests of sources hand in instead of a front end. */
import type { Context } from '../../../core/context.ts';
import { isSealiftError, type SealiftError } from '../../../core/errors.ts';
import type { SealiftEvent } from '../../../core/events.ts';
import { DEFAULT_LIMITS, type Limits } from '../../../core/limits.ts';
import { type Digest, digestOf } from '../../../core/oci/digest.ts';
import type { WorkerPool } from '../../../core/pool/pool.ts';
import { parseLocation } from '../../../core/transport/location.ts';
import { openSource, type Source, type SourceOptions } from '../../../core/transport/source.ts';

export const NOW = new Date('2026-01-02T03:04:05Z');

export interface Surroundings {
  readonly context: Context;
  readonly events: SealiftEvent[];
  readonly abort: AbortController;
}

export function surroundings(limits: Partial<Limits> = {}): Surroundings {
  const events: SealiftEvent[] = [];
  const abort = new AbortController();
  return {
    events,
    abort,
    context: {
      now: NOW,
      signal: abort.signal,
      emit: (event) => events.push(event),
      limits: { ...DEFAULT_LIMITS, ...limits },
      pool: undefined as unknown as WorkerPool,
    },
  };
}

export interface TestSource extends Surroundings {
  readonly source: Source;
  /** Milliseconds of every wait before a retry; none is really waited. */
  readonly waits: number[];
}

/** A registry source for `HOST/team/app`, over plain HTTP unless told otherwise. */
export async function registrySource(
  host: string,
  options: Partial<SourceOptions> = {},
  limits: Partial<Limits> = {},
): Promise<TestSource> {
  const around = surroundings(limits);
  const waits: number[] = [];
  const source = await openSource(
    parseLocation(`docker://${host}/team/app:1`).location,
    {
      plainHttp: true,
      insecureSkipTlsVerify: false,
      credentials: async () => undefined,
      retryTimes: 3,
      concurrencyPerHost: 4,
      timeoutMs: 5000,
      random: () => 0,
      sleep: async (milliseconds) => {
        waits.push(milliseconds);
      },
      ...options,
    },
    around.context,
  );
  return { ...around, source, waits };
}

export async function collect(source: Source, blob: { digest: Digest; size: number }): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of await source.blob({ ...blob, mediaType: 'application/octet-stream' })) {
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

export function blobOf(bytes: Uint8Array): { digest: Digest; size: number } {
  return { digest: digestOf(bytes), size: bytes.length };
}

/** The SealiftError a promise is rejected with. */
export async function failureOf(promise: Promise<unknown>): Promise<SealiftError> {
  try {
    await promise;
  } catch (error) {
    if (isSealiftError(error)) return error;
    throw error;
  }
  throw new Error('was fulfilled, want a SealiftError');
}

/** Everything of an error and the events that a person or a log could see. */
export function visible(error: SealiftError | undefined, events: readonly SealiftEvent[] = []): string {
  const texts: string[] = [JSON.stringify(events)];
  for (let current: unknown = error; current instanceof Error; current = current.cause) {
    texts.push(current.message, current.stack ?? '', JSON.stringify(current));
  }
  return texts.join('\n');
}
