/** Requests to a bucket: how they are signed and sent, tried again, and what their failures mean. */
import { setTimeout as wait } from 'node:timers/promises';
import type { S3Client, S3ClientConfig } from '@aws-sdk/client-s3';
import type { Context } from '../context.ts';
import { inert, isSealiftError, SealiftError } from '../errors.ts';

export interface BucketOptions {
  readonly bucket: string;
  /** Before every key, without slashes at its ends; empty for none. */
  readonly prefix: string;
  readonly endpoint?: string | undefined;
  readonly region?: string | undefined;
  readonly profile?: string | undefined;
  /** The bucket is part of the path, not of the host. */
  readonly pathStyle: boolean;
  /** Certificates (PEM) the endpoint may be signed by, beside those of the system. */
  readonly ca?: readonly string[] | undefined;
  /** How often a failed request is tried again. */
  readonly retryTimes: number;
  /** A server that says nothing for this long is given up, milliseconds. */
  readonly timeoutMs: number;
  /** Blobs larger than this go in parts that a later run need not send again; bytes. */
  readonly multipartFrom?: number | undefined;
  /** Bytes; larger where there would be more than 10,000 parts. */
  readonly partSize?: number | undefined;
  /** Waits before a request is tried again, milliseconds; doubled each time. */
  readonly retryDelayMs?: number | undefined;
}

/** What an answer that is no success says. */
export interface Failure {
  readonly status: number;
  readonly name: string;
  readonly message: string;
  readonly retryAfterMs: number | undefined;
}

const MOST_WAIT = 30_000;

/** Sends, and sends again what may succeed another time. `make` is called for each attempt. */
export type Send = <T>(
  what: string,
  make: (client: S3Client, signal: AbortSignal) => Promise<T>,
  expected?: (failure: Failure) => boolean,
) => Promise<T>;

export function createSender(
  client: S3Client,
  options: Pick<BucketOptions, 'retryTimes' | 'retryDelayMs'>,
  location: string,
  context: Context,
): Send {
  return async function send<T>(
    what: string,
    make: (client: S3Client, signal: AbortSignal) => Promise<T>,
    expected: (failure: Failure) => boolean = () => false,
  ): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      context.signal.throwIfAborted();
      try {
        return await make(client, context.signal);
      } catch (error) {
        context.signal.throwIfAborted();
        if (isSealiftError(error)) throw error;
        const failure = failureOf(error);
        if (expected(failure)) throw new ExpectedFailure(failure);
        if (!isTransient(failure) || attempt >= options.retryTimes)
          throw explain(failure, what, location, error);
        const delay = failure.retryAfterMs ?? (options.retryDelayMs ?? 250) * 2 ** attempt;
        context.emit({
          type: 'notice',
          level: 'info',
          code: 'retry',
          message: `${what}: ${failure.status || inert(failure.name)}; trying again`,
        });
        await wait(Math.min(delay, MOST_WAIT), undefined, { signal: context.signal });
      }
    }
  };
}

/** A failure that the caller of `send` knows what to do about. */
export class ExpectedFailure extends Error {
  readonly failure: Failure;
  constructor(failure: Failure) {
    super(failure.message);
    this.failure = failure;
  }
}

export function configOf(options: BucketOptions): S3ClientConfig {
  const { endpoint, region, profile, ca } = options;
  return {
    ...(endpoint !== undefined && { endpoint }),
    ...(region !== undefined && { region }),
    ...(profile !== undefined && { profile }),
    forcePathStyle: options.pathStyle,
    // What is on by default, others' servers refuse; the hash of the content is signed in any case.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // A stream cannot be sent twice by the library; `send` tries again with a new one.
    maxAttempts: 1,
    // Failures are told by `send`; the library would write some of them to the console.
    logger: { trace: nothing, debug: nothing, info: nothing, warn: nothing, error: nothing },
    requestHandler: {
      connectionTimeout: Math.min(options.timeoutMs, 10_000),
      socketTimeout: options.timeoutMs,
      ...(ca !== undefined && { httpsAgent: { keepAlive: true, maxSockets: 64, ca: [...ca] } }),
    },
  };
}

function nothing(): void {}

/** Signs with the hash of the content, which is known beforehand (SigV4, `x-amz-content-sha256`). */
export function signWith(
  command: {
    readonly middlewareStack: {
      add(middleware: never, options: { step: 'build'; name: string; override: boolean }): void;
    };
  },
  sha256: string,
): void {
  const middleware =
    (next: (args: unknown) => unknown) => (args: { request: { headers: Record<string, string> } }) => {
      args.request.headers['x-amz-content-sha256'] = sha256;
      return next(args);
    };
  command.middlewareStack.add(middleware as never, {
    step: 'build',
    name: 'sealiftContentHash',
    override: true,
  });
}

export function failureOf(error: unknown): Failure {
  const {
    name = '',
    message = '',
    code,
    $metadata,
    $response,
  } = error as {
    name?: string;
    message?: string;
    code?: string;
    $metadata?: { httpStatusCode?: number };
    $response?: { statusCode?: number; headers?: Record<string, string> };
  };
  const status = $metadata?.httpStatusCode ?? $response?.statusCode ?? 0;
  const after = $response?.headers?.['retry-after'];
  return {
    status,
    name: typeof code === 'string' && status === 0 ? code : name,
    message,
    retryAfterMs: after !== undefined && /^\d{1,5}$/.test(after) ? Number(after) * 1000 : undefined,
  };
}

const TRANSIENT = new Set(['SlowDown', 'RequestTimeout', 'InternalError', 'ConditionalRequestConflict']);
const NETWORK = /^(?:E[A-Z]+|TimeoutError|HPE_\w+|NetworkingError)$/;

function isTransient({ status, name }: Failure): boolean {
  if (status === 0) return NETWORK.test(name);
  if (status === 501) return false;
  return status >= 500 || status === 429 || status === 408 || status === 409 || TRANSIENT.has(name);
}

function explain(failure: Failure, what: string, location: string, cause: unknown): SealiftError {
  const { status, name } = failure;
  const message = inert(failure.message || name);
  const details = { subject: location, cause };
  if (name === 'XAmzContentSHA256Mismatch' || name === 'BadDigest') {
    return new SealiftError(
      'digest-mismatch',
      `${what}: the server received other bytes than were signed for`,
      {
        ...details,
        hint: 'something on the way changes content; run the same command again',
      },
    );
  }
  if (/Credential|Token/.test(name) && (status === 0 || status === 400)) {
    return new SealiftError(
      'destination-failed',
      `there are no usable credentials for the bucket: ${message}`,
      {
        ...details,
        hint: 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile with --profile',
      },
    );
  }
  if (status === 401 || status === 403) {
    return new SealiftError('destination-failed', `${what}: refused with status ${status}: ${message}`, {
      ...details,
      hint: 'the credentials need to list, read, write and, with --prune, delete objects of the bucket',
    });
  }
  if (name === 'NoSuchBucket') {
    return new SealiftError('destination-failed', 'there is no such bucket', {
      ...details,
      hint: 'make the bucket first; sealift makes none',
    });
  }
  if (message.includes('Region is missing')) {
    return new SealiftError('invalid-argument', 'the region of the bucket is not known', {
      subject: '--region',
      hint: 'add --region, or set AWS_REGION',
      cause,
    });
  }
  return new SealiftError(
    'destination-failed',
    status === 0
      ? `${what}: the server could not be reached, or broke off: ${message}`
      : `${what}: status ${status}: ${message}`,
    { ...details, hint: 'run the same command again; it goes on where it stopped' },
  );
}
