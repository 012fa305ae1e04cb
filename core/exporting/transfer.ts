/** Blobs from wherever they are to where the plan has them, hashed on the way. */
import { type FileHandle, open } from 'node:fs/promises';
import type { ReusableFile } from '../bundle/journal.ts';
import type { Context } from '../context.ts';
import { isSealiftError, SealiftError } from '../errors.ts';
import {
  blobPath,
  type Digest,
  digestAlgorithm,
  digestHex,
  digestOfBlobPath,
  formatDigest,
} from '../oci/digest.ts';
import type { HashAlgorithm } from '../pool/pool.ts';
import type { Source } from '../transport/source.ts';
import type { SignedPlan } from './plan.ts';
import type { SourceSet } from './sources.ts';

/** Bytes after which a blob's progress is told. */
const PROGRESS_STEP = 1024 * 1024;
export interface Transfer {
  toFile(
    name: string,
    size: number,
    target: { readonly fd: number; readonly offset: number },
    signal: AbortSignal,
  ): Promise<void>;
  /**
   * The content in order; hashed by whoever takes it. Where a place breaks off or has no such blob, another goes on behind
   * what was given.
   */
  open(name: string, size: number): Promise<AsyncIterable<Uint8Array>>;
  /**
   * What `open()` gave of a blob had another digest: where it came from is not asked for that blob again. False where there
   * is nobody else.
   */
  distrust(name: string, size: number): Promise<boolean>;
  close(): Promise<void>;
}

export async function openTransfer(
  plan: SignedPlan,
  sources: SourceSet,
  context: Context,
): Promise<Transfer> {
  const held = new Map(plan.journal.held.map(({ name, bytes }) => [name, bytes]));
  const places = new Map(plan.journal.sources.map((place) => [place.name, place]));
  const { reuse } = plan.journal;
  const old = reuse ? await open(reuse.path, 'r').catch(() => undefined) : undefined;
  const reusable = new Map(old && reuse ? reuse.blobs.map((blob) => [blobPath(blob.digest), blob]) : []);

  /** Places that gave wrong bytes, by blob. */
  const distrusted = new Map<string, Set<unknown>>();
  /** Places that the last reading of a blob came from. */
  const givers = new Map<string, Set<Place>>();

  /** Every place that may have a blob, those of its images first. A place that has others in turn comes more than once. */
  async function* placesOf(name: string, size: number): AsyncGenerator<Place, void, void> {
    const digest = digestOfPath(name);
    const bad = distrusted.get(name);
    const mediaType = places.get(name)?.mediaType ?? '';
    const seen = new Set<Source>();
    for (const image of places.get(name)?.images ?? []) {
      const source = await sources.get(image).catch((error: unknown) => {
        if (isOfPlace(error)) return error;
        throw error;
      });
      if (isSealiftError(source)) {
        yield { key: image, read: () => Promise.reject(source) };
        continue;
      }
      if (seen.has(source) || bad?.has(source)) continue;
      seen.add(source);
      if (source.holds && !(await source.holds({ digest, size }))) continue;
      do yield { key: source, source, read: () => source.blob({ digest, size, mediaType }) };
      while (source.hasOther?.(digest) === true);
    }
    for (const { file, read } of await sources.elsewhere({ digest, size }))
      if (!bad?.has(file)) yield { key: file, read };
  }

  async function* inTurn(name: string, size: number): AsyncGenerator<Uint8Array, void, void> {
    const given = new Set<Place>();
    givers.set(name, given);
    let delivered = 0;
    let failure: SealiftError | undefined;
    for await (const place of placesOf(name, size)) {
      given.add(place);
      let before = delivered;
      try {
        for await (const chunk of await place.read()) {
          const rest = chunk.subarray(Math.min(before, chunk.length));
          before -= chunk.length - rest.length;
          if (rest.length === 0) continue;
          delivered += rest.length;
          yield rest;
        }
        return;
      } catch (error) {
        // What was handed on cannot be taken back: whoever takes it has to begin again, with `distrust()`.
        if (!isOfPlace(error) || error.code === 'digest-mismatch') throw error;
        failure ??= error.with({ subject: digestOfPath(name) });
      }
    }
    throw failure ?? nowhere(name);
  }

  async function copyOnce(
    content: AsyncIterable<Uint8Array>,
    name: string,
    size: number,
    target: { readonly fd: number; readonly offset: number },
    signal: AbortSignal,
  ): Promise<void> {
    const digest = digestOfPath(name);
    const algorithm = digestAlgorithm(digest);
    const sink = context.pool.stream({ target, algorithms: [algorithm] });
    let told = 0;
    let bytes = 0;
    context.emit({ type: 'blob', state: 'started', digest, bytes, size });
    try {
      for await (const chunk of content) {
        signal.throwIfAborted();
        // Before it is given away, and with it its length.
        bytes += chunk.length;
        if (bytes > size) break;
        await sink.give(chunk);
        if (bytes - told >= PROGRESS_STEP) {
          told = bytes;
          context.emit({ type: 'blob', state: 'progress', digest, bytes, size });
        }
      }
      const { hashes } = await sink.finish();
      checkBlob(digest, algorithm, hashes[algorithm], bytes, size);
    } catch (error) {
      sink.abort();
      // The descriptor may be closed next, and its number given to another file.
      await sink.released;
      throw error;
    }
    context.emit({ type: 'blob', state: 'done', digest, bytes: size, size });
  }

  return {
    async toFile(name, size, target, signal) {
      const before = reusable.get(name);
      if (old && before && (await copyReusable(old, before, target, signal, context))) return;
      let failure: SealiftError | undefined;
      for await (const place of placesOf(name, size)) {
        try {
          return await copyOnce(await place.read(), name, size, target, signal);
        } catch (error) {
          // The digest decides, so any source will do; a full disk will not get emptier by asking another one.
          if (!isOfPlace(error)) throw error;
          failure ??= error.with({ subject: digestOfPath(name) });
        }
      }
      throw failure ?? nowhere(name);
    },
    async open(name, size) {
      const bytes = held.get(name);
      if (bytes) return once(bytes);
      return inTurn(name, size);
    },
    async distrust(name, size) {
      const bad = distrusted.get(name) ?? new Set<unknown>();
      distrusted.set(name, bad);
      for (const { key, source } of givers.get(name) ?? [])
        if (source?.hasOther?.(digestOfPath(name)) !== true) bad.add(key);
      for await (const _ of placesOf(name, size)) return true;
      return false;
    },
    async close() {
      await old?.close();
    },
  };
}

interface Place {
  /** Tells it from other places. */
  readonly key: unknown;
  readonly source?: Source;
  read(): Promise<AsyncIterable<Uint8Array>>;
}

/** An error that another place need not have. */
function isOfPlace(error: unknown): error is SealiftError {
  return isSealiftError(error) && (error.category === 'source' || error.category === 'malformed');
}

function nowhere(name: string): SealiftError {
  return new SealiftError('source-not-found', 'no source has the blob', {
    subject: digestOfPath(name),
    hint: 'name an earlier bundle or a store that has it: --blobs-from EARLIER',
  });
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** Takes a blob from an abandoned partial file; false where it is not what it should be. */
async function copyReusable(
  old: FileHandle,
  blob: ReusableFile['blobs'][number],
  target: { readonly fd: number; readonly offset: number },
  signal: AbortSignal,
  context: Context,
): Promise<boolean> {
  const algorithm = digestAlgorithm(blob.digest);
  const { digest, size } = blob;
  context.emit({ type: 'blob', state: 'started', digest, bytes: 0, size });
  try {
    const hashes = await context.pool.range({
      source: { fd: old.fd, offset: blob.offset },
      size,
      target,
      algorithms: [algorithm],
      signal,
    });
    if (hashes[algorithm] !== digestHex(digest)) return false;
  } catch (error) {
    if (isSealiftError(error) && error.code === 'bundle-truncated') return false;
    throw error;
  }
  context.emit({ type: 'blob', state: 'done', digest, bytes: size, size });
  return true;
}

function checkBlob(
  digest: Digest,
  algorithm: HashAlgorithm,
  hex: string | undefined,
  bytes: number,
  size: number,
): void {
  if (bytes !== size) {
    throw new SealiftError(
      'size-mismatch',
      `blob has another size than announced: got ${bytes}, want ${size}`,
      {
        subject: digest,
        got: bytes,
        want: size,
      },
    );
  }
  const got = formatDigest(algorithm, hex ?? '');
  if (got !== digest) {
    throw new SealiftError('digest-mismatch', `blob has another digest: got ${got}, want ${digest}`, {
      subject: digest,
      got,
      want: digest,
      hint: 'the source holds damaged content; repair it there, or name another source with NAME=LOCATION',
    });
  }
}

/** `blobs/sha256/HEX` as a digest. */
export const digestOfPath: typeof digestOfBlobPath = digestOfBlobPath;

export function announceTransfer(
  blobs: readonly { readonly size: number }[],
  skippedBytes: number,
  context: Context,
): void {
  context.emit({ type: 'phase', phase: 'transfer', title: 'transferring' });
  context.emit({
    type: 'transfer',
    bytes: blobs.reduce((sum, { size }) => sum + size, 0),
    blobs: blobs.length,
    skippedBytes,
  });
}
