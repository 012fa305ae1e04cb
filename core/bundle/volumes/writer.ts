/**
 * Writes a laid-out bundle into volumes, in order, from any of its bytes on. Each blob is hashed as a whole, also where
 * only a part of it is written.
 */
import { createHash, type Hash } from 'node:crypto';
import { SealiftError } from '../../errors.ts';
import type { WorkerPool } from '../../pool/pool.ts';
import { checkSignal } from '../input.ts';
import type { BundlePlan, LaidOutEntry } from '../layout.ts';
import { END_BLOCKS, tarHeader } from '../tar.ts';
import type { VolumeCut } from './names.ts';
import { createRoller } from './roller.ts';
import type { VolumeTarget } from './sink.ts';

export interface VolumeWriterOptions {
  readonly plan: BundlePlan;
  readonly cuts: readonly VolumeCut[];
  /** The first byte to write, and the one behind the last. */
  readonly start: number;
  readonly end: number;
  readonly target: VolumeTarget;
  readonly pool: WorkerPool;
  readonly signal: AbortSignal;
  /** The content of a blob from its first byte; asked for one after another, of those that reach into what is written. */
  readonly blob: (name: string, size: number) => Promise<AsyncIterable<Uint8Array>>;
  /** SHA-256 of a blob up to the end of the volume, where an earlier run has written that volume; by volume. */
  readonly prefixes: ReadonlyMap<number, string>;
  /** A volume is whole; with the hash of the blob up to its end, where it ends inside one. */
  readonly onVolume: (cut: VolumeCut, sha256: string, prefix: string | undefined) => Promise<void>;
  /** The hash of a blob was right; its last bytes go out only now. */
  readonly onVerified: (name: string, size: number) => void;
  /** A blob has been written whole; `sync` makes it durable. */
  readonly onBlob: (sync: () => Promise<void>) => Promise<void>;
  readonly onProgress: (name: string, bytes: number, size: number) => void;
}

/** Blobs up to this size are held and hashed here: a thread would take longer to be told. */
const INLINE_BYTES = 64 * 1024;

/** A blob is not what its name says, or not what it was when an earlier volume was written. */
export class TaintedVolumes extends Error {
  /** Number of the first volume that holds bytes of the blob. */
  readonly first: number;
  /** The blob: `blobs/ALG/HEX`. */
  readonly blob: string;
  constructor(first: number, blob: string, cause: unknown) {
    super('volumes hold bytes of a blob that is not right', { cause });
    this.first = first;
    this.blob = blob;
  }
}

/** @throws TaintedVolumes; SealiftError `size-mismatch`, `cancelled`; errors of blobs and volumes as they come */
export async function writeVolumes(options: VolumeWriterOptions): Promise<void> {
  const { plan, cuts, start, end, target, pool, signal, prefixes } = options;
  const { layout, head } = plan;
  /** Of the blob that is under way, where it lies in several volumes. */
  let running: Hash | undefined;
  const roller = createRoller({
    cuts,
    start,
    end,
    target,
    onVolume: (cut, sha256) => options.onVolume(cut, sha256, running?.copy().digest('hex')),
  });

  const bordersIn = ({ contentOffset, size }: LaidOutEntry): readonly VolumeCut[] =>
    cuts.filter((cut) => {
      const border = cut.offset + cut.size;
      return border > contentOffset && border < contentOffset + size;
    });
  const volumeAt = (offset: number): number =>
    cuts.find((cut) => offset < cut.offset + cut.size)?.number ?? cuts.length;

  /** The last bytes of a blob, kept back until its hash was right: a volume must not end on a blob nobody has checked. */
  async function writeLast(place: LaidOutEntry, last: Uint8Array): Promise<void> {
    options.onVerified(place.name, place.size);
    await roller.put(place.contentOffset + place.size - last.length, last);
  }

  /** A blob in one volume; hashed on a thread, unless it is small. */
  async function writeWhole(place: LaidOutEntry, content: AsyncIterable<Uint8Array>): Promise<void> {
    const [, named] = place.name.split('/');
    const algorithm = named === 'sha512' ? 'sha512' : 'sha256';
    let last: Uint8Array = new Uint8Array(0);
    if (place.size <= INLINE_BYTES) {
      const pieces: Uint8Array[] = [];
      for await (const { piece } of counted(place, content)) pieces.push(Buffer.from(piece));
      last = Buffer.concat(pieces);
      checkBlob(place, createHash(algorithm).update(last).digest('hex'));
      await writeLast(place, last);
      return;
    }
    const sink = pool.stream({ algorithms: [algorithm] });
    try {
      for await (const { at, piece } of counted(place, content)) {
        const hashed = sink.write(piece);
        if (at + piece.length === place.size) last = Buffer.from(piece);
        else await roller.put(place.contentOffset + at, piece);
        await hashed;
      }
      const { hashes } = await sink.finish();
      checkBlob(place, hashes[algorithm]);
    } finally {
      sink.abort();
    }
    await writeLast(place, last);
  }

  /** A blob that lies across volumes: hashed here, so that the hash so far can be told at each border. */
  async function writeAcross(
    place: LaidOutEntry,
    content: AsyncIterable<Uint8Array>,
    borders: readonly VolumeCut[],
  ): Promise<void> {
    const [, algorithm = 'sha256'] = place.name.split('/');
    const hash = createHash(algorithm);
    // Prefixes are SHA-256, whatever names the blob.
    const prefix = algorithm === 'sha256' ? hash : createHash('sha256');
    const update = (bytes: Uint8Array): void => {
      hash.update(bytes);
      if (prefix !== hash) prefix.update(bytes);
    };
    let last: Uint8Array = new Uint8Array(0);
    running = prefix;
    try {
      for await (const { at, piece } of counted(place, content)) {
        let done = 0;
        for (const cut of borders) {
          const border = cut.offset + cut.size - place.contentOffset;
          if (border <= at + done || border > at + piece.length) continue;
          const part = piece.subarray(done, border - at);
          update(part);
          checkPrefix(place, cut, prefix);
          await roller.put(place.contentOffset + at + done, part);
          done += part.length;
        }
        const rest = piece.subarray(done);
        update(rest);
        if (at + piece.length === place.size) last = Buffer.from(rest);
        else await roller.put(place.contentOffset + at + done, rest);
      }
    } finally {
      running = undefined;
    }
    checkBlob(place, hash.digest('hex'));
    await writeLast(place, last);
  }

  function checkPrefix(place: LaidOutEntry, cut: VolumeCut, hash: Hash): void {
    const want = prefixes.get(cut.number);
    if (want === undefined || hash.copy().digest('hex') === want) return;
    throw new SealiftError('digest-mismatch', 'the source gave other bytes for a blob than before', {
      subject: place.name,
      hint: 'run the same command again: the volumes that hold it are written anew',
    });
  }

  async function* counted(
    place: LaidOutEntry,
    content: AsyncIterable<Uint8Array>,
  ): AsyncGenerator<{ readonly at: number; readonly piece: Uint8Array }, void, void> {
    let at = 0;
    for await (const piece of content) {
      checkSignal(signal);
      if (at + piece.length > place.size) throw sizeMismatch(place, at + piece.length);
      if (piece.length > 0) yield { at, piece };
      at += piece.length;
      options.onProgress(place.name, at, place.size);
    }
    if (at < place.size) throw sizeMismatch(place, at);
  }

  try {
    for (const [index, place] of layout.entries.entries()) {
      checkSignal(signal);
      const { name, size, headerOffset, contentOffset, paddingSize } = place;
      if (contentOffset + size + paddingSize <= start) continue;
      if (headerOffset >= end) break;
      await roller.put(headerOffset, tarHeader(name, size, layout.mtime));
      const bytes = head[index]?.bytes;
      if (bytes) await roller.put(contentOffset, bytes);
      else if (contentOffset < end && contentOffset + size > start) {
        const borders = bordersIn(place);
        try {
          const content = await options.blob(name, size);
          await (borders.length > 0 ? writeAcross(place, content, borders) : writeWhole(place, content));
        } catch (error) {
          throw isWrongContent(error) ? new TaintedVolumes(volumeAt(contentOffset), name, error) : error;
        }
      }
      await roller.put(contentOffset + size, END_BLOCKS.subarray(0, paddingSize));
      if (!bytes) await options.onBlob(roller.sync);
    }
    await roller.put(layout.endOffset, END_BLOCKS);
    await roller.finish();
  } finally {
    await roller.close();
  }
}

function isWrongContent(error: unknown): boolean {
  return (
    error instanceof SealiftError && (error.code === 'digest-mismatch' || error.code === 'size-mismatch')
  );
}

function sizeMismatch({ name, size }: LaidOutEntry, got: number): SealiftError {
  return new SealiftError('size-mismatch', `blob has another size: got ${got} bytes, want ${size}`, {
    subject: name,
    got,
    want: size,
  });
}

function checkBlob({ name }: LaidOutEntry, got: string | undefined): void {
  const [, algorithm, want] = name.split('/');
  if (got === want) return;
  throw new SealiftError('digest-mismatch', `blob has another digest: got ${algorithm}:${got}`, {
    subject: `${algorithm}:${want}`,
    got: `${algorithm}:${got}`,
    want: `${algorithm}:${want}`,
    hint: 'the source holds damaged content; repair it there, or name another source with NAME=LOCATION',
  });
}
