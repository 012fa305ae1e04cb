/** How blobs get from a bundle into the store: hashed on their way, and in quarantine until they are known to be right. */

import type { Stretch } from '../bundle/bytes.ts';
import type { BundleManifest } from '../bundle/manifest.ts';
import type {
  BlobPiece,
  BlobPlace,
  BundleReader,
  FileBundle,
  StreamBlob,
  StreamBundle,
} from '../bundle/reader.ts';
import type { Context } from '../context.ts';
import { isSealiftError, SealiftError } from '../errors.ts';
import type { ManifestReader } from '../judge.ts';
import { type Digest, digestAlgorithm } from '../oci/digest.ts';
import type { HashAlgorithm, Hashes } from '../pool/pool.ts';
import { missingPieces } from '../store/ingest.ts';
import type { Ingest, Piece, PieceIngest, Store } from '../store/store.ts';
import { forEachLimited } from '../util/concurrency.ts';
import { blobPlaces, digestOfName, heldManifests, readSmallBlobs, tellPieces } from '../verify.ts';

export interface Written {
  bytes: number;
  blobs: number;
  reusedBytes: number;
}

export interface Intake {
  readonly readManifest: ManifestReader;
  size(): number;
  /** Bytes of `wanted` that the store does not have. */
  missingBytes(wanted: ReadonlySet<Digest>): Promise<number>;
  /** Takes in what is wanted and not there. */
  take(wanted: ReadonlySet<Digest>): Promise<Written>;
  /** Lets go of what was taken into quarantine and not committed. */
  abandon(): Promise<void>;
}

export async function openIntake(
  reader: BundleReader,
  manifest: BundleManifest,
  store: Store | undefined,
  /** Lets nothing of a stream into the store before its end has been read. */
  untilEnd: boolean,
  context: Context,
): Promise<Intake> {
  if (!store) return readOnlyIntake(reader, context);
  const sizes = new Map(
    [...manifest.entries.filter(({ kind }) => kind), ...(manifest.base?.missing ?? [])].flatMap(
      ({ name, size }) => (size === undefined ? [] : [[digestOfName(name), size] as const]),
    ),
  );
  const inPieces = reader.kind === 'file' && !reader.isOneFile;
  const missingBytes = async (wanted: ReadonlySet<Digest>): Promise<number> => {
    let bytes = 0;
    for (const digest of wanted) {
      const size = sizes.get(digest) ?? 0;
      if (await store.has(digest, size)) continue;
      bytes += size;
      if (inPieces) for (const piece of await store.piecesOf(digest, size)) bytes -= piece.size;
    }
    return bytes;
  };
  return reader.kind === 'file'
    ? fileIntake(reader, manifest, store, missingBytes, context)
    : streamIntake(reader, store, sizes, missingBytes, untilEnd, context);
}

/** For an import into destinations alone: the bundle is read, and nothing is taken in here. */
function readOnlyIntake(reader: BundleReader, context: Context): Intake {
  if (reader.kind === 'stream') throw new SealiftError('internal', 'a stream without a store');
  return {
    readManifest: (name) => reader.readBlob(name, context.limits.manifest),
    size: () => reader.size,
    missingBytes: async () => 0,
    take: async () => ({ bytes: 0, blobs: 0, reusedBytes: 0 }),
    async abandon() {},
  };
}

function fileIntake(
  bundle: FileBundle,
  manifest: BundleManifest,
  store: Store,
  missingBytes: Intake['missingBytes'],
  context: Context,
): Intake {
  return {
    readManifest: (name) => bundle.readBlob(name, context.limits.manifest),
    size: () => bundle.size,
    missingBytes,
    async take(wanted) {
      const written: Written = { bytes: 0, blobs: 0, reusedBytes: 0 };
      const places = [];
      for (const place of blobPlaces(bundle, manifest)) {
        const digest = digestOfName(place.name);
        if (!wanted.has(digest)) continue;
        if (await store.has(digest, place.size)) written.reusedBytes += place.size;
        else places.push(place);
      }
      announce(places, written.reusedBytes, context);
      const told = tellPieces(context);
      const cut = createCutBlobs(store, context);
      const took = (size: number): void => {
        written.bytes += size;
        written.blobs += 1;
      };
      const takePiece = async (piece: BlobPiece, signal: AbortSignal): Promise<void> => {
        const { blob, fd, offset, size, whole } = piece;
        const digest = digestOfName(blob.name);
        if (!whole) {
          if (!(await cut.take(piece, signal, told.progress(piece)))) return;
        } else {
          await ingest(store, digest, size, (target) =>
            context.pool.range({
              source: { fd, offset },
              size,
              target: { fd: target.fd, offset: 0 },
              algorithms: [digestAlgorithm(digest)],
              signal,
              onProgress: told.progress(piece),
            }),
          );
        }
        told.done(piece);
        took(blob.size);
      };
      const takePlaces = (wantedPlaces: readonly BlobPlace[], stretches: readonly Stretch[]) =>
        bundle.take(
          wantedPlaces,
          (pieces) =>
            forEachLimited(pieces, Math.max(1, context.pool.size), context.signal, (piece, signal) =>
              takePiece(piece, signal).catch(async (error: unknown) => {
                throw await bundle.explain(error, piece.blob);
              }),
            ),
          { stretches },
        );
      try {
        if (bundle.isOneFile) await takePlaces(places, places);
        else {
          const stretches: Stretch[] = [];
          for (const place of places) {
            const missing = place.size === 0 ? [{ at: 0, size: 0 }] : await cut.missingOf(place);
            if (missing.length === 0 && (await cut.finish(place))) took(place.size);
            for (const { at, size } of missing) stretches.push({ offset: place.offset + at, size });
          }
          await takePlaces(places, stretches);
          // What an earlier run has left was wrong, or what came now: all volumes of these are read again.
          const again = cut.again();
          await takePlaces(again, again);
        }
      } finally {
        await cut.close();
      }
      await bundle.assertUnchanged();
      return written;
    },
    async abandon() {},
  };
}

/**
 * Blobs that lie in several volumes: their pieces come in any order, and in several runs, into one quarantined file, which
 * is hashed when it is whole. Nobody knows before that whether any of it is right.
 */
function createCutBlobs(store: Store, context: Context) {
  const open = new Map<Digest, PieceIngest>();
  const again: BlobPlace[] = [];
  const targetOf = async ({ name, size }: BlobPlace): Promise<PieceIngest> => {
    const digest = digestOfName(name);
    const target = open.get(digest) ?? (await store.ingestPieces(digest, size));
    open.set(digest, target);
    return target;
  };

  /** Hashes what is whole; false where it is wrong and an earlier run has brought some of it. */
  async function complete(target: PieceIngest, place: BlobPlace): Promise<boolean> {
    const { digest, size, fd, resumed } = target;
    open.delete(digest);
    try {
      const algorithms = [digestAlgorithm(digest)];
      const source = { fd, offset: 0 };
      await target.commit(await context.pool.range({ source, size, algorithms, signal: context.signal }));
      return true;
    } catch (error) {
      const isWrong = isSealiftError(error) && error.code === 'digest-mismatch';
      // Stopped while it was hashed: it is whole.
      if (isWrong) await target.abort();
      else await target.leave();
      if (!isWrong || !resumed) throw error;
      again.push(place);
      context.emit({
        type: 'notice',
        level: 'warning',
        code: 'pieces-wrong',
        message: `what an earlier run took in of ${digest} does not fit what came now; all volumes of it are read again`,
      });
      return false;
    }
  }

  return {
    /** Stretches of a blob that no earlier run has left. */
    missingOf: async ({ name, size }: BlobPlace): Promise<readonly Piece[]> =>
      missingPieces(await store.piecesOf(digestOfName(name), size), size),
    /** Takes a blob in of which everything is there. */
    finish: async (place: BlobPlace): Promise<boolean> => complete(await targetOf(place), place),
    /** True with the last piece, when the blob has been taken in. */
    async take(
      { blob, fd, offset, size, at }: BlobPiece,
      signal: AbortSignal,
      onProgress: (bytes: number) => void,
    ): Promise<boolean> {
      const target = await targetOf(blob);
      const isThere = target.pieces().some((piece) => piece.at <= at && at + size <= piece.at + piece.size);
      if (!isThere) {
        await context.pool.range({
          source: { fd, offset },
          size,
          target: { fd: target.fd, offset: at },
          algorithms: [],
          signal,
          onProgress,
        });
        await target.note({ at, size });
      }
      return missingPieces(target.pieces(), blob.size).length === 0 && complete(target, blob);
    },
    /** Blobs that have to be read once more, from their beginning. */
    again: (): readonly BlobPlace[] => again.splice(0),
    async close(): Promise<void> {
      for (const target of open.values()) await target.leave();
    },
  };
}

/** Runs `fill` on a quarantined file, and takes the blob in where its hash is right. */
async function ingest(
  store: Store,
  digest: Digest,
  size: number,
  fill: (target: Ingest) => Promise<Hashes>,
): Promise<void> {
  const target = await store.ingest(digest, size);
  try {
    await target.commit(await fill(target));
  } catch (error) {
    await target.abort();
    if (isSealiftError(error))
      throw error.with({
        subject: digest,
        hint: 'the medium is damaged or was tampered with; copy the bundle again',
      });
    throw error;
  }
}

function announce(
  places: readonly { readonly size: number }[],
  skippedBytes: number,
  context: Context,
): void {
  const bytes = places.reduce((sum, { size }) => sum + size, 0);
  context.emit({ type: 'phase', phase: 'layers', title: 'importing' });
  context.emit({ type: 'transfer', bytes, blobs: places.length, skippedBytes });
}

/**
 * A stream gives its small blobs before anything is decided: manifests are held, the others wait in quarantine, and
 * nothing of either is in the store until the decision. Layers follow and go straight in, unless they have to wait for
 * the end as well.
 */
async function streamIntake(
  bundle: StreamBundle,
  store: Store,
  sizes: ReadonlyMap<Digest, number>,
  missingBytes: Intake['missingBytes'],
  untilEnd: boolean,
  context: Context,
): Promise<Intake> {
  const waiting = new Map<Digest, { readonly target: Ingest; readonly hashes: Hashes }>();
  const settle = async (blob: StreamBlob, digest: Digest) => {
    const target = await store.ingest(digest, blob.size);
    try {
      const hashes = await pour(blob, target, context);
      await target.settle(hashes);
      waiting.set(digest, { target, hashes });
    } catch (error) {
      await target.abort();
      throw error;
    }
  };
  let bytesRead = bundle.head.size;
  const abandon = async (): Promise<void> => {
    for (const { target } of waiting.values()) await target.abort();
  };
  const manifests = await readSmallBlobs(bundle, context, async (blob) => {
    const digest = digestOfName(blob.name);
    bytesRead += blob.size;
    if (await store.has(digest, blob.size)) return blob.skip();
    await settle(blob, digest);
  }).catch(async (error: unknown) => {
    await abandon();
    throw error;
  });
  return {
    readManifest: heldManifests(manifests),
    size: () => bytesRead,
    missingBytes,
    async take(wanted) {
      const written: Written = { bytes: 0, blobs: 0, reusedBytes: 0 };
      const coming = [];
      for (const digest of wanted) {
        const size = sizes.get(digest) ?? 0;
        if (await store.has(digest, size)) written.reusedBytes += size;
        else coming.push({ digest, size });
      }
      announce(coming, written.reusedBytes, context);
      const took = (size: number) => {
        written.bytes += size;
        written.blobs += 1;
      };
      const commitWaiting = async () => {
        for (const [name, bytes] of manifests) {
          const digest = digestOfName(name);
          if (!wanted.has(digest) || (await store.has(digest, bytes.length))) continue;
          await store.putBytes(digest, bytes);
          took(bytes.length);
        }
        for (const [digest, { target, hashes }] of waiting) {
          if (!wanted.has(digest)) continue;
          await target.commit(hashes);
          took(target.size);
        }
      };
      if (!untilEnd) await commitWaiting();
      for (let blob = await bundle.nextBlob(); blob; blob = await bundle.nextBlob()) {
        context.signal.throwIfAborted();
        const { name, size } = blob;
        const digest = digestOfName(name);
        bytesRead += size;
        if (!wanted.has(digest) || (await store.has(digest, size))) {
          await blob.skip();
          continue;
        }
        if (untilEnd) {
          await settle(blob, digest);
          continue;
        }
        const layer = blob;
        await ingest(store, digest, size, (target) => pour(layer, target, context));
        took(size);
      }
      if (untilEnd) await commitWaiting();
      return written;
    },
    abandon,
  };
}

async function pour(blob: StreamBlob, target: Ingest, context: Context): Promise<Hashes> {
  const { digest } = target;
  const algorithm: HashAlgorithm = digestAlgorithm(digest);
  const sink = context.pool.stream({ target: { fd: target.fd, offset: 0 }, algorithms: [algorithm] });
  let bytes = 0;
  let told = 0;
  context.emit({ type: 'blob', state: 'started', digest, bytes, size: blob.size });
  try {
    for await (const chunk of blob.content) {
      context.signal.throwIfAborted();
      await sink.write(chunk);
      bytes += chunk.length;
      if (bytes - told >= 1024 * 1024) {
        told = bytes;
        context.emit({ type: 'blob', state: 'progress', digest, bytes, size: blob.size });
      }
    }
    const { hashes } = await sink.finish();
    context.emit({ type: 'blob', state: 'done', digest, bytes, size: blob.size });
    return hashes;
  } catch (error) {
    sink.abort();
    await sink.released;
    throw error;
  }
}
