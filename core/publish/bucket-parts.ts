/** Blobs in parts: each is signed with its own hash, and what the server has of an unfinished upload is not sent again. */
import { createHash, type Hash } from 'node:crypto';
import { read as fsRead } from 'node:fs';
import { promisify } from 'node:util';
import type { CreateMultipartUploadCommandInput } from '@aws-sdk/client-s3';
import { digestAlgorithm, digestHex } from '../oci/digest.ts';
import type { Hashes, WorkerPool } from '../pool/pool.ts';
import { ExpectedFailure, failureOf, type Send, signWith } from './bucket-requests.ts';
import type { BlobSource, ObjectToPut, OpenBlob } from './destination.ts';
import { damagedSource } from './static-directory.ts';

const PART_SIZE = 8 * 1024 * 1024;
const MOST_PARTS = 10_000;
const CHUNK = 1024 * 1024;
const readAsync = promisify(fsRead);

type Sdk = typeof import('@aws-sdk/client-s3');

/** What sending in parts needs of a bucket. */
export interface PartsTarget {
  readonly sdk: Sdk;
  readonly send: Send;
  readonly bucket: string;
  /** The key with the prefix of the destination. */
  readonly key: string;
  /** What the whole object shall say of itself. */
  readonly headers: Pick<CreateMultipartUploadCommandInput, 'ContentType' | 'CacheControl' | 'Metadata'>;
  /** Bytes; larger where there would be more than 10,000 parts. */
  readonly partSize?: number | undefined;
  /** Bounds the parts that are in memory, over all blobs of a run. */
  readonly held: <T>(work: () => Promise<T>) => Promise<T>;
  readonly pool: WorkerPool;
  readonly signal: AbortSignal;
  /** Whether the whole object is there. */
  readonly isThere: () => Promise<boolean>;
}

/** Sends a blob in parts, several at once; the upload is only completed where the whole has the right hash. */
export async function putParts(
  target: PartsTarget,
  object: ObjectToPut,
  blob: OpenBlob,
  progress: (bytes: number) => void,
): Promise<void> {
  const { sdk, send, bucket: Bucket, key: Key, held, pool } = target;
  const partSize = Math.max(target.partSize ?? PART_SIZE, Math.ceil(object.size / MOST_PARTS));
  const { id, there } = await findUpload(sdk, send, Bucket, Key, object.key);
  const UploadId =
    id ??
    (await send(`beginning ${object.key}`, async (s3, signal) => {
      const command = new sdk.CreateMultipartUploadCommand({ Bucket, Key, ...target.headers });
      return (await s3.send(command, { abortSignal: signal })).UploadId;
    }));
  const whole = createHash(digestAlgorithm(object.digest));
  const parts: { PartNumber: number; ETag: string }[] = [];
  let failure: { readonly error: unknown } | undefined;
  let done = 0;

  /** Reads a part, then sends it, unless the server has it. Parts are read one after another: the whole is hashed in order. */
  async function take(PartNumber: number, onRead: () => void): Promise<void> {
    const at = (PartNumber - 1) * partSize;
    const size = Math.min(partSize, object.size - at);
    const before = there.get(PartNumber);
    const mayBeThere = before?.size === size;
    // The hash of the part is made by a thread while the part is read here for the hash of the whole.
    const [bytes, hashes] = await Promise.all([
      readPart(blob, at, size),
      mayBeThere ? undefined : hashPart(at, size),
    ]);
    whole.update(bytes);
    onRead();
    if (mayBeThere && before.etag.replaceAll('"', '') === md5Of(bytes)) {
      parts.push({ PartNumber, ETag: before.etag });
    } else {
      const sha256 = hashes?.sha256 ?? createHash('sha256').update(bytes).digest('hex');
      const ETag = await send(`writing part ${PartNumber} of ${object.key}`, async (s3, signal) => {
        const command = new sdk.UploadPartCommand({ Bucket, Key, UploadId, PartNumber, Body: bytes });
        signWith(command, sha256);
        return (await s3.send(command, { abortSignal: signal })).ETag ?? `"${md5Of(bytes)}"`;
      });
      parts.push({ PartNumber, ETag });
    }
    done += size;
    progress(done);
  }

  const hashPart = (at: number, size: number): Promise<Hashes> =>
    pool.range({
      source: { fd: blob.fd, offset: blob.offset + at },
      size,
      algorithms: ['sha256'],
      signal: target.signal,
    });
  const sending: Promise<void>[] = [];
  for (let number = 1; (number - 1) * partSize < object.size && !failure; number++) {
    await new Promise<void>((resolve) => {
      const part = held(() => take(number, resolve)).catch((error: unknown) => {
        failure ??= { error };
        resolve();
      });
      sending.push(part);
    });
  }
  await Promise.all(sending);
  if (failure) throw failure.error;
  if (whole.digest('hex') !== digestHex(object.digest)) {
    await send('giving up an upload', (s3, signal) =>
      s3.send(new sdk.AbortMultipartUploadCommand({ Bucket, Key, UploadId }), { abortSignal: signal }),
    );
    throw damagedSource(object);
  }
  parts.sort((a, b) => a.PartNumber - b.PartNumber);
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
      if (failureOf(error).name !== 'NoSuchUpload' || !(await target.isThere())) throw error;
    }
  });
}

function md5Of(bytes: Uint8Array): string {
  return createHash('md5').update(bytes).digest('hex');
}

/** The unfinished upload of that key, the newest where there are several, and its parts. */
async function findUpload(
  sdk: Sdk,
  send: Send,
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
export async function* checkedChunks(
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

const ETAG = /^([0-9a-f]{32})(?:-(\d{1,5}))?$/;
const MIB = 1024 * 1024;
/** Sizes of parts that this and other programs use, where there need not be larger ones. */
const USUAL_PARTS = [PART_SIZE, 16 * MIB, 32 * MIB, 5 * MIB, 64 * MIB];

/** Whether an entity tag is the MD5 that the blob has, or that of the MD5s of its parts. */
export async function hasMd5(
  etag: string | undefined,
  object: ObjectToPut,
  source: BlobSource,
): Promise<boolean> {
  const [, want, count] = ETAG.exec(etag ?? '') ?? [];
  if (want === undefined) return false;
  const blob = await source.open(object.digest);
  try {
    if (count === undefined) return (await md5OfRange(blob, 0, object.size)).toString('hex') === want;
    const least = Math.ceil(object.size / MOST_PARTS);
    for (const usual of USUAL_PARTS) {
      const partSize = Math.max(usual, least);
      if (Math.ceil(object.size / partSize) !== Number(count)) continue;
      const all = createHash('md5');
      for (let at = 0; at < object.size; at += partSize)
        all.update(await md5OfRange(blob, at, Math.min(partSize, object.size - at)));
      if (all.digest('hex') === want) return true;
    }
    return false;
  } finally {
    await blob.close();
  }
}

async function md5OfRange(blob: OpenBlob, from: number, size: number): Promise<Buffer> {
  const hash = createHash('md5');
  for (let at = 0; at < size; at += CHUNK)
    hash.update(await readPart(blob, from + at, Math.min(CHUNK, size - at)));
  return hash.digest();
}
