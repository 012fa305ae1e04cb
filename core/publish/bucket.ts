/**
 * An S3-compatible bucket as a destination (docs/static-bucket.md). Every upload is signed with the hash of its content,
 * so that a server that checks it takes nothing else; the content is hashed on its way here as well, for servers that do not.
 */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import type { Context } from '../context.ts';
import { isSealiftError, SealiftError } from '../errors.ts';
import { digestAlgorithm, digestHex, digestOf, formatDigest } from '../oci/digest.ts';
import { createSemaphore, forEachLimited } from '../util/concurrency.ts';
import { checkedChunks, hasMd5, putParts } from './bucket-parts.ts';
import { type BucketOptions, configOf, createSender, ExpectedFailure, signWith } from './bucket-requests.ts';
import type { Destination, Listed, ObjectToPut } from './destination.ts';
import { ROOT_KEY } from './plan.ts';
import { damagedSource } from './static-directory.ts';

const MULTIPART_FROM = 512 * 1024 * 1024;
const MOST_COPY = 5 * 1024 ** 3;
const CHUNK = 1024 * 1024;
const FOREVER = 'public, max-age=31536000, immutable';
const DIGEST_HEADER = 'docker-content-digest';
/** Pages of a listing, of which most servers fill each with 1,000 objects. */
const MOST_PAGES = 100_000;

/** Parts in memory at once, over all blobs. */
const PARTS_HELD = 4;

export type { BucketOptions } from './bucket-requests.ts';

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
  const send = createSender(client, options, location, context);
  const held = createSemaphore(PARTS_HELD);

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
      'size-mismatch',
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

  /** The SHA-256 of the whole that the server keeps, in base64. */
  async function checksumOf(key: string): Promise<string | undefined> {
    const answer = await send(`looking at ${key}`, (s3, signal) =>
      s3.send(new sdk.HeadObjectCommand({ Bucket, Key: keyOf(key), ChecksumMode: 'ENABLED' }), {
        abortSignal: signal,
      }),
    );
    const { ChecksumSHA256: told, ChecksumType: type } = answer;
    return type === 'COMPOSITE' || told?.includes('-') ? undefined : told;
  }

  /** Reads a whole blob and hashes it; undefined where there is none. */
  async function digestAt(object: ObjectToPut): Promise<string | undefined> {
    const algorithm = digestAlgorithm(object.digest);
    try {
      return await send(
        `reading ${object.key}`,
        async (s3, signal) => {
          const answer = await s3.send(new sdk.GetObjectCommand({ Bucket, Key: keyOf(object.key) }), {
            abortSignal: signal,
          });
          const hash = createHash(algorithm);
          let size = 0;
          for await (const chunk of answer.Body as Readable) {
            hash.update(chunk as Buffer);
            size += (chunk as Buffer).length;
            if (size > object.size) throw tooLarge(object.key, object.size);
          }
          if (size !== object.size)
            throw Object.assign(new Error('the answer ended early'), { code: 'ECONNRESET' });
          return formatDigest(algorithm, hash.digest('hex'));
        },
        ({ status, name }) => status === 404 && name !== 'NoSuchBucket',
      );
    } catch (error) {
      if (error instanceof ExpectedFailure) return undefined;
      throw error;
    }
  }

  const sizeOf = async (key: string): Promise<number | undefined> => (await head(key))?.size;
  const tagOf = async (key: string): Promise<string | undefined> => (await head(key))?.etag;

  return {
    location,
    identity:
      options.endpoint === undefined ? location : `${location} at ${options.endpoint.replace(/\/$/, '')}`,
    // What is missing in a bucket is 404, and an API that knows some manifests only is none: oras gives up there.
    hasReferrersApi: false,
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
        let pages = 0;
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
          pages += 1;
          if (token === undefined || (token !== ContinuationToken && pages < MOST_PAGES)) continue;
          throw new SealiftError('destination-failed', `the listing of ${prefix} has no end`, {
            subject: location,
            got: `${listed.size} objects`,
            hint: 'the server answers what it may not; choose a prefix of its own for sealift',
          });
        } while (token !== undefined);
      }
      return new Map(listed);
    },
    async holds(object, found) {
      if (isCovered(object.key, listedPrefixes) && found === undefined) return false;
      if (found && found.size !== object.size) return false;
      return isBlob(object) && found ? true : isThere(object);
    },
    async examine(object, found, { deep, source }) {
      if (!isBlob(object)) {
        if (await isThere(object)) return { proof: 'content' };
        const isMissing =
          object.key === ROOT_KEY ? (await head(object.key)) === undefined : found === undefined;
        return isMissing
          ? { fault: 'missing' }
          : { fault: 'wrong', detail: 'it has other content, or another media type' };
      }
      if (!found) return { fault: 'missing' };
      if (found.size !== object.size)
        return { fault: 'wrong', detail: `got ${found.size} bytes, want ${object.size}` };
      if (!deep) {
        const told = await checksumOf(object.key);
        if (told !== undefined && digestAlgorithm(object.digest) === 'sha256') {
          if (Buffer.from(told, 'base64').toString('hex') === digestHex(object.digest))
            return { proof: 'checksum' };
          return { fault: 'wrong', detail: 'the server has another SHA-256 of it' };
        }
        if (!source || (source.has && !(await source.has(object.digest)))) return { proof: 'size' };
        if (await hasMd5(unquoted(found.etag), object, source)) return { proof: 'etag' };
        // An entity tag that is no MD5 says nothing; what it does not vouch for is read.
      }
      const digest = await digestAt(object);
      if (digest === object.digest) return { proof: 'content' };
      return digest === undefined
        ? { fault: 'missing' }
        : { fault: 'wrong', detail: `its digest is ${digest}` };
    },
    read: async (key, max) => (await get(key, max))?.bytes,
    async putBlob(object, source, progress) {
      const blob = await source.open(object.digest);
      try {
        if (blob.size !== object.size) throw damagedSource(object);
        if (object.size > (options.multipartFrom ?? MULTIPART_FROM)) {
          const { Bucket: bucket, Key: key, ...headers } = headersOf(object);
          const isThere = async () => (await sizeOf(object.key)) === object.size;
          const { partSize } = options;
          const { pool, signal } = context;
          const target = { sdk, send, bucket, key, headers, partSize, held, pool, signal, isThere };
          return await putParts(target, object, blob, progress);
        }
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

function unquoted(etag: string | undefined): string | undefined {
  return etag?.replaceAll('"', '');
}

function isBlob({ key, mutable }: ObjectToPut): boolean {
  return !mutable && key.includes('/blobs/');
}

function isCovered(key: string, prefixes: readonly string[]): boolean {
  return key !== ROOT_KEY && prefixes.some((prefix) => key.startsWith(prefix));
}
