/**
 * An S3-compatible bucket as a destination (docs/static-bucket.md). Every upload is signed with the hash of its content,
 * so that a server that checks it takes nothing else; the content is hashed on its way here as well, for servers that do not.
 */
import { createHash, type Hash } from 'node:crypto';
import { read as fsRead } from 'node:fs';
import { Readable } from 'node:stream';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { S3Client, S3ClientConfig } from '@aws-sdk/client-s3';
import type { Context } from '../context.ts';
import { inert, isSealiftError, SealiftError } from '../errors.ts';
import { digestAlgorithm, digestHex, digestOf } from '../oci/digest.ts';
import { forEachLimited } from '../util/concurrency.ts';
import type { Destination, Listed, ObjectToPut, OpenBlob } from './destination.ts';
import { ROOT_KEY } from './plan.ts';
import { damagedSource } from './static-directory.ts';

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

const MULTIPART_FROM = 512 * 1024 * 1024;
const PART_SIZE = 32 * 1024 * 1024;
const MOST_PARTS = 10_000;
const MOST_COPY = 5 * 1024 ** 3;
const CHUNK = 1024 * 1024;
const MOST_WAIT = 30_000;
const FOREVER = 'public, max-age=31536000, immutable';
const DIGEST_HEADER = 'docker-content-digest';
const readAsync = promisify(fsRead);

type Sdk = typeof import('@aws-sdk/client-s3');

/** What an answer that is no success says. */
interface Failure {
  readonly status: number;
  readonly name: string;
  readonly message: string;
  readonly retryAfterMs: number | undefined;
}

/** The bucket as a destination. AWS's own client library is loaded here and nowhere else. */
export async function openBucket(options: BucketOptions, context: Context): Promise<Destination> {
  const sdk = await import('@aws-sdk/client-s3');
  const client = new sdk.S3Client(configOf(options));
  const { bucket: Bucket } = options;
  const location = `s3://${Bucket}${options.prefix === '' ? '' : `/${options.prefix}`}`;
  const keyOf = (key: string): string => (options.prefix === '' ? key : `${options.prefix}/${key}`);
  const listed = new Map<string, Listed>();
  let listedPrefixes: readonly string[] = [];
  let isConditional = true;
  let matchesTags = true;

  /** Sends, and sends again what may succeed another time. `make` is called for each attempt. */
  async function send<T>(
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
  }

  /** What must hold at the key for a write to be made, where the server knows such a thing. */
  function conditionOf(object: ObjectToPut): { IfNoneMatch?: '*'; IfMatch?: string } {
    if (!isConditional || !isCovered(object.key, listedPrefixes)) return {};
    const before = listed.get(object.key);
    if (!before) return { IfNoneMatch: '*' };
    return object.mutable && before.etag !== undefined && matchesTags ? { IfMatch: before.etag } : {};
  }

  function headersOf(object: ObjectToPut) {
    return {
      Bucket,
      Key: keyOf(object.key),
      ContentType: object.mediaType,
      CacheControl: object.mutable ? 'no-cache' : FOREVER,
      Metadata: { [DIGEST_HEADER]: object.digest },
    };
  }

  /** One PUT of a whole object whose hash is known. */
  async function putWhole(
    object: ObjectToPut,
    sha256: string,
    body: (abort: (reason: unknown) => void) => Readable | Uint8Array,
  ): Promise<void> {
    for (;;) {
      const condition = conditionOf(object);
      try {
        await send(
          `writing ${object.key}`,
          async (s3, signal) => {
            const broken = new AbortController();
            let reason: unknown;
            const command = new sdk.PutObjectCommand({
              ...headersOf(object),
              ...condition,
              ContentLength: object.size,
              Body: body((why) => {
                reason = why;
                broken.abort();
              }),
            });
            signWith(command, sha256);
            try {
              await s3.send(command, { abortSignal: AbortSignal.any([signal, broken.signal]) });
            } catch (error) {
              throw reason ?? error;
            }
          },
          ({ status, name }) =>
            Object.keys(condition).length > 0 &&
            (status === 412 || status === 501 || name === 'NotImplemented'),
        );
        return;
      } catch (error) {
        if (!(error instanceof ExpectedFailure)) throw error;
        if (error.failure.status !== 412) {
          isConditional = false;
          continue;
        }
        // An immutable key that appeared meanwhile: a write of our own whose answer was lost, or another run's.
        if (await isThere(object)) return;
        // Ceph 16 finds that no entity tag matches, whatever it is.
        if (
          condition.IfMatch !== undefined &&
          unquoted(await tagOf(object.key)) === unquoted(condition.IfMatch)
        ) {
          matchesTags = false;
          continue;
        }
        throw new SealiftError('destination-failed', 'somebody else changed it in the meantime', {
          subject: `${location}: ${object.key}`,
          hint: 'see that only one sync runs at a time, and run the same command again',
        });
      }
    }
  }

  async function get(
    key: string,
    max: number,
  ): Promise<{ bytes: Buffer; type: string | undefined } | undefined> {
    try {
      return await send(
        `reading ${key}`,
        async (s3, signal) => {
          const answer = await s3.send(new sdk.GetObjectCommand({ Bucket, Key: keyOf(key) }), {
            abortSignal: signal,
          });
          const chunks: Buffer[] = [];
          let size = 0;
          for await (const chunk of answer.Body as Readable) {
            chunks.push(chunk as Buffer);
            size += (chunk as Buffer).length;
            if (size > max) throw tooLarge(key, max);
          }
          if (answer.ContentLength !== undefined && size !== answer.ContentLength) {
            throw Object.assign(new Error('the answer ended early'), { code: 'ECONNRESET' });
          }
          return { bytes: Buffer.concat(chunks), type: answer.ContentType };
        },
        ({ status, name }) => status === 404 && name !== 'NoSuchBucket',
      );
    } catch (error) {
      if (error instanceof ExpectedFailure) return undefined;
      throw error;
    }
  }

  function tooLarge(key: string, max: number): SealiftError {
    return new SealiftError(
      'destination-failed',
      `an object is larger than it can be: want at most ${max} bytes`,
      {
        subject: `${location}: ${key}`,
        want: max,
      },
    );
  }

  /** A document by its content, a blob by its size: its name is its digest, and the server was told it. */
  async function isThere(object: ObjectToPut): Promise<boolean> {
    if (isBlob(object)) return (await sizeOf(object.key)) === object.size;
    const found = await get(object.key, Math.max(object.size, 1)).catch((error: unknown) => {
      if (isSealiftError(error) && error.want === Math.max(object.size, 1)) return undefined;
      throw error;
    });
    return (
      found !== undefined &&
      found.type === object.mediaType &&
      digestOf(found.bytes, digestAlgorithm(object.digest)) === object.digest
    );
  }

  async function head(key: string): Promise<{ size: number; etag: string | undefined } | undefined> {
    try {
      return await send(
        `looking for ${key}`,
        async (s3, signal) => {
          const command = new sdk.HeadObjectCommand({ Bucket, Key: keyOf(key) });
          const { ContentLength = 0, ETag } = await s3.send(command, { abortSignal: signal });
          return { size: ContentLength, etag: ETag };
        },
        ({ status }) => status === 404,
      );
    } catch (error) {
      if (error instanceof ExpectedFailure) return undefined;
      throw error;
    }
  }

  const sizeOf = async (key: string): Promise<number | undefined> => (await head(key))?.size;
  const tagOf = async (key: string): Promise<string | undefined> => (await head(key))?.etag;

  async function putParts(
    object: ObjectToPut,
    blob: OpenBlob,
    progress: (bytes: number) => void,
  ): Promise<void> {
    const Key = keyOf(object.key);
    const partSize = Math.max(options.partSize ?? PART_SIZE, Math.ceil(object.size / MOST_PARTS));
    const { id, there } = await findUpload(sdk, send, Bucket, Key, object.key);
    const UploadId =
      id ??
      (await send(`beginning ${object.key}`, async (s3, signal) => {
        const { Bucket: _bucket, Key: _key, ...rest } = headersOf(object);
        const command = new sdk.CreateMultipartUploadCommand({ Bucket, Key, ...rest });
        return (await s3.send(command, { abortSignal: signal })).UploadId;
      }));
    const whole = createHash(digestAlgorithm(object.digest));
    const parts: { PartNumber: number; ETag: string }[] = [];
    for (let at = 0; at < object.size; at += partSize) {
      const bytes = await readPart(blob, at, Math.min(partSize, object.size - at));
      whole.update(bytes);
      const PartNumber = parts.length + 1;
      const md5 = createHash('md5').update(bytes).digest('hex');
      const before = there.get(PartNumber);
      if (before?.size === bytes.length && before.etag.replaceAll('"', '') === md5) {
        parts.push({ PartNumber, ETag: before.etag });
      } else {
        const sha256 = createHash('sha256').update(bytes).digest('hex');
        const ETag = await send(`writing part ${PartNumber} of ${object.key}`, async (s3, signal) => {
          const command = new sdk.UploadPartCommand({ Bucket, Key, UploadId, PartNumber, Body: bytes });
          signWith(command, sha256);
          return (await s3.send(command, { abortSignal: signal })).ETag ?? `"${md5}"`;
        });
        parts.push({ PartNumber, ETag });
      }
      progress(at + bytes.length);
    }
    if (whole.digest('hex') !== digestHex(object.digest)) {
      await send('giving up an upload', (s3, signal) =>
        s3.send(new sdk.AbortMultipartUploadCommand({ Bucket, Key, UploadId }), { abortSignal: signal }),
      );
      throw damagedSource(object);
    }
    await send(`finishing ${object.key}`, async (s3, signal) => {
      const command = new sdk.CompleteMultipartUploadCommand({
        Bucket,
        Key,
        UploadId,
        MultipartUpload: { Parts: parts },
      });
      try {
        await s3.send(command, { abortSignal: signal });
      } catch (error) {
        // Completed already, by an attempt whose answer was lost.
        if (failureOf(error).name !== 'NoSuchUpload' || (await sizeOf(object.key)) !== object.size)
          throw error;
      }
    });
  }

  return {
    location,
    lock: async () => {},
    check: async (keys) => {
      const longest = keys.reduce((most, key) => Math.max(most, Buffer.byteLength(keyOf(key))), 0);
      if (longest <= 1024) return;
      throw new SealiftError('invalid-argument', `a key would have ${longest} bytes, want at most 1024`, {
        subject: location,
        hint: 'use a shorter prefix',
      });
    },
    async list(prefixes) {
      listed.clear();
      listedPrefixes = prefixes;
      const strip = options.prefix === '' ? 0 : options.prefix.length + 1;
      for (const prefix of prefixes) {
        let token: string | undefined;
        do {
          const ContinuationToken = token;
          const page = await send(`listing ${prefix}`, (s3, signal) =>
            s3.send(new sdk.ListObjectsV2Command({ Bucket, Prefix: keyOf(prefix), ContinuationToken }), {
              abortSignal: signal,
            }),
          );
          for (const { Key = '', Size = 0, ETag } of page.Contents ?? []) {
            const key = Key.slice(strip);
            if (key !== ROOT_KEY) listed.set(key, { size: Size, etag: ETag });
          }
          token = page.IsTruncated === true ? page.NextContinuationToken : undefined;
        } while (token !== undefined);
      }
      return new Map(listed);
    },
    async holds(object, found) {
      if (isCovered(object.key, listedPrefixes) && found === undefined) return false;
      if (found && found.size !== object.size) return false;
      return isBlob(object) && found ? true : isThere(object);
    },
    read: async (key, max) => (await get(key, max))?.bytes,
    async putBlob(object, source, progress) {
      const blob = await source.open(object.digest);
      try {
        if (blob.size !== object.size) throw damagedSource(object);
        if (object.size > (options.multipartFrom ?? MULTIPART_FROM))
          return await putParts(object, blob, progress);
        const algorithm = digestAlgorithm(object.digest);
        const sha256 =
          algorithm === 'sha256'
            ? digestHex(object.digest)
            : ((
                await context.pool.range({
                  source: { fd: blob.fd, offset: blob.offset },
                  size: object.size,
                  algorithms: ['sha256'],
                  signal: context.signal,
                })
              ).sha256 ?? '');
        await putWhole(object, sha256, (abort) => {
          if (object.size === 0) return new Uint8Array(0);
          const body = Readable.from(checkedChunks(object, blob, createHash(algorithm), progress), {
            objectMode: false,
            highWaterMark: CHUNK,
          });
          body.once('error', abort);
          return body;
        });
      } finally {
        await blob.close();
      }
    },
    async copyBlob(from, object) {
      if (object.size > MOST_COPY) return false;
      const CopySource = encodeURI(`${Bucket}/${keyOf(from)}`).replaceAll('+', '%2B');
      try {
        await send(
          `copying to ${object.key}`,
          (s3, signal) =>
            s3.send(
              new sdk.CopyObjectCommand({ ...headersOf(object), CopySource, MetadataDirective: 'REPLACE' }),
              { abortSignal: signal },
            ),
          ({ status, name }) => status === 501 || status === 404 || name === 'NotImplemented',
        );
        return true;
      } catch (error) {
        if (error instanceof ExpectedFailure) return false;
        throw error;
      }
    },
    putDocument: (object, bytes) =>
      putWhole(object, createHash('sha256').update(bytes).digest('hex'), () => bytes),
    flush: async () => {},
    remove: (keys) =>
      forEachLimited(keys, 8, context.signal, async (key) => {
        await send(`deleting ${key}`, (s3, signal) =>
          s3.send(new sdk.DeleteObjectCommand({ Bucket, Key: keyOf(key) }), { abortSignal: signal }),
        );
      }),
    freeBytes: async () => undefined,
    companions: async () => new Map(),
    close: async () => client.destroy(),
  };
}

/** A failure that the caller of `send` knows what to do about. */
class ExpectedFailure extends Error {
  readonly failure: Failure;
  constructor(failure: Failure) {
    super(failure.message);
    this.failure = failure;
  }
}

function configOf(options: BucketOptions): S3ClientConfig {
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
function signWith(
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

function unquoted(etag: string | undefined): string | undefined {
  return etag?.replaceAll('"', '');
}

function isBlob({ key, mutable }: ObjectToPut): boolean {
  return !mutable && key.includes('/blobs/');
}

function isCovered(key: string, prefixes: readonly string[]): boolean {
  return key !== ROOT_KEY && prefixes.some((prefix) => key.startsWith(prefix));
}

/** The unfinished upload of that key, the newest where there are several, and its parts. */
async function findUpload(
  sdk: Sdk,
  send: <T>(
    what: string,
    make: (client: S3Client, signal: AbortSignal) => Promise<T>,
    expected?: (failure: Failure) => boolean,
  ) => Promise<T>,
  Bucket: string,
  Key: string,
  shown: string,
): Promise<{ id: string | undefined; there: Map<number, { size: number; etag: string }> }> {
  const there = new Map<number, { size: number; etag: string }>();
  const found = await send(
    `looking for parts of ${shown}`,
    (s3, signal) =>
      s3.send(new sdk.ListMultipartUploadsCommand({ Bucket, Prefix: Key }), { abortSignal: signal }),
    ({ status }) => status === 501 || status === 403,
  ).catch((error: unknown) => {
    // A server that cannot say starts the upload anew.
    if (error instanceof ExpectedFailure) return { Uploads: [] };
    throw error;
  });
  const newest = (found.Uploads ?? [])
    .filter((upload) => upload.Key === Key && upload.UploadId !== undefined)
    .sort((a, b) => (b.Initiated?.getTime() ?? 0) - (a.Initiated?.getTime() ?? 0))[0];
  if (!newest?.UploadId) return { id: undefined, there };
  const UploadId = newest.UploadId;
  let marker: string | undefined;
  do {
    const PartNumberMarker = marker;
    const page = await send(`listing parts of ${shown}`, (s3, signal) =>
      s3.send(new sdk.ListPartsCommand({ Bucket, Key, UploadId, PartNumberMarker }), { abortSignal: signal }),
    );
    for (const { PartNumber, Size, ETag } of page.Parts ?? []) {
      if (PartNumber !== undefined && ETag !== undefined)
        there.set(PartNumber, { size: Size ?? -1, etag: ETag });
    }
    marker = page.IsTruncated === true ? page.NextPartNumberMarker : undefined;
  } while (marker !== undefined);
  return { id: UploadId, there };
}

async function readPart(blob: OpenBlob, at: number, size: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(size);
  let done = 0;
  while (done < size) {
    const { bytesRead } = await readAsync(blob.fd, bytes, done, size - done, blob.offset + at + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return bytes.subarray(0, done);
}

/** The blob in pieces. The last one is held back until the whole is known to be right: a wrong blob is never complete. */
async function* checkedChunks(
  object: ObjectToPut,
  blob: OpenBlob,
  hash: Hash,
  progress: (bytes: number) => void,
): AsyncGenerator<Buffer> {
  for (let at = 0; at < object.size; at += CHUNK) {
    const bytes = await readPart(blob, at, Math.min(CHUNK, object.size - at));
    hash.update(bytes);
    const isLast = at + CHUNK >= object.size;
    if (isLast && hash.digest('hex') !== digestHex(object.digest)) throw damagedSource(object);
    progress(at + bytes.length);
    yield bytes;
  }
}

function failureOf(error: unknown): Failure {
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
