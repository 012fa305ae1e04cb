/** Reads bundles: a file at random access, or a stream in one pass. Nothing here trusts what it reads. */
import { createHash } from 'node:crypto';
import { inert, SealiftError } from '../errors.ts';
import type { Limits } from '../limits.ts';
import type { WorkerPool } from '../pool/pool.ts';
import { type BundleBytes, openFileBytes, type Stretch } from './bytes.ts';
import { type BundleHead, checkHead, readHead } from './head.ts';
import { checkSignal, createInput, type Input } from './input.ts';
import type { BundleLayout, LaidOutEntry } from './layout.ts';
import type { BlobKind, BundleManifest } from './manifest.ts';
import { END_BLOCKS, isZero, paddingOf, tarHeader } from './tar.ts';

export { type BundleHead, checkDockerManifest, checkHead, type HeadEntry } from './head.ts';

export interface ReadOptions {
  readonly limits: Limits;
  readonly signal: AbortSignal;
  readonly pool: WorkerPool;
}

export interface BlobInfo {
  readonly name: string;
  readonly size: number;
  /** Lower-case hex; absent for blobs named by sha512. */
  readonly sha256?: string | undefined;
  readonly kind: BlobKind;
}

/** A blob's place in the bundle. */
export interface BlobPlace extends BlobInfo {
  readonly offset: number;
}

/** A stretch of a blob in one open file; the whole blob, unless a volume ends or begins inside it. */
export interface BlobPiece {
  readonly blob: BlobPlace;
  readonly fd: number;
  /** In the file. */
  readonly offset: number;
  readonly size: number;
  /** Where the stretch begins in the blob. */
  readonly at: number;
  readonly whole: boolean;
}

/** A bundle at random access: a file, or volumes. */
export interface FileBundle {
  readonly kind: 'file';
  readonly head: BundleHead;
  /** Bytes of the bundle. */
  readonly size: number;
  /** False for volumes, which may have to be asked for, and in which a blob may lie in pieces. */
  readonly isOneFile: boolean;
  /** True where every byte can be read without asking for a medium; for volumes, known after `accept()`. */
  readonly complete: boolean;
  /**
   * checkHead(); needed before anything behind the head can be asked for.
   * @throws SealiftError as checkHead(); `volume-missing`, `volume-unexpected`, `volume-damaged`
   */
  accept(manifest: BundleManifest): void;
  /**
   * Headers, paddings, end blocks, end of file: every byte behind the head that is no content of a blob. Of volumes that
   * are not at hand it is checked when they are taken.
   * @throws SealiftError `bundle-not-canonical`, `bundle-truncated`, `bundle-trailing-data`
   */
  verifyFrame(): Promise<void>;
  /** Where a blob lies; undefined where the bundle has none of that name (`blobs/ALG/HEX`). */
  blob(name: string): BlobPlace | undefined;
  /**
   * A whole blob, its hash checked against its name.
   * @throws SealiftError `blob-missing`, `bundle-too-large` (over `max` bytes), `digest-mismatch`, `bundle-truncated`
   */
  readBlob(name: string, max: number): Promise<Buffer>;
  /** The bytes of a blob in order, each piece with memory of its own; not hashed here. */
  content(place: BlobPlace): AsyncGenerator<Uint8Array, void, void>;
  /** Any stretch of the bundle, the same way. */
  bytes(offset: number, size: number): AsyncGenerator<Uint8Array, void, void>;
  /**
   * Hands out where `places` lie in open files, file by file: those at hand first, unless `inOrder`; then media are
   * asked for. Descriptors are valid during the call only. With `everything`, also volumes that hold none of them; with
   * `stretches` (of the bundle), only volumes that hold a part of those.
   */
  take(
    places: readonly BlobPlace[],
    use: (pieces: readonly BlobPiece[]) => Promise<void>,
    options?: {
      readonly inOrder?: boolean | undefined;
      readonly everything?: boolean | undefined;
      readonly stretches?: readonly Stretch[] | undefined;
    },
  ): Promise<void>;
  /** An error about a stretch of the bundle, told of the volume it lies in; the head where none is given. */
  explain(error: unknown, stretch?: Stretch): Promise<unknown>;
  /** @throws SealiftError `bundle-not-canonical` where the file is not as it was when it was opened */
  assertUnchanged(): Promise<void>;
  close(): Promise<void>;
}

export interface StreamBlob extends BlobInfo {
  /** Exactly `size` bytes, not hashed here. Once only; a piece is valid until the next is asked for. */
  readonly content: AsyncIterable<Uint8Array>;
  /** The whole content, its hash checked. @throws SealiftError `bundle-too-large`, `digest-mismatch` */
  bytes(max: number): Promise<Buffer>;
  /** Reads over the content, checking its hash. @throws SealiftError `digest-mismatch` */
  skip(): Promise<void>;
}

export interface StreamBundle {
  readonly kind: 'stream';
  readonly head: BundleHead;
  /** checkHead(); needed before blobs can be asked for. */
  accept(manifest: BundleManifest): void;
  /**
   * The next blob; a content that was not touched is skipped with its hash checked. Undefined after the last
   * one, when end blocks and end of stream have been checked too.
   */
  nextBlob(): Promise<StreamBlob | undefined>;
  /**
   * The blobs still to come: `small` stops before the first layer, `all` goes to the end of the stream. May be
   * left and called again.
   */
  blobs(which?: 'small' | 'all'): AsyncIterable<StreamBlob>;
  /** Bytes of the stream read so far. */
  readonly position: number;
  close(): Promise<void>;
}

export type BundleReader = FileBundle | StreamBundle;

interface Accepted {
  readonly layout: BundleLayout;
  /** Blobs in archive order. */
  readonly blobs: readonly (BlobInfo & { readonly place: LaidOutEntry })[];
}

function acceptHead(head: BundleHead, manifest: BundleManifest, limits: Limits): Accepted {
  const layout = checkHead(head, manifest, limits);
  const blobs: (BlobInfo & { place: LaidOutEntry })[] = [];
  for (const [i, { name, sha256, kind }] of manifest.entries.entries()) {
    const place = layout.entries[i];
    if (kind && place) blobs.push({ name, size: place.size, sha256, kind, place });
  }
  return { layout, blobs };
}

function notAccepted(): SealiftError {
  return new SealiftError('internal', 'blobs are asked for before the bundle manifest was accepted');
}

function hashOf(name: string): { readonly algorithm: 'sha256' | 'sha512'; readonly hex: string } {
  const [, algorithm, hex = ''] = name.split('/');
  return { algorithm: algorithm === 'sha512' ? 'sha512' : 'sha256', hex };
}

function checkHash(name: string, got: string | undefined): void {
  const { algorithm, hex } = hashOf(name);
  if (got === hex) return;
  throw new SealiftError(
    'digest-mismatch',
    `the content of ${name} has another digest: got ${algorithm}:${got}`,
    {
      subject: name,
      got: `${algorithm}:${got}`,
      want: `${algorithm}:${hex}`,
    },
  );
}

function tooLarge(name: string, size: number, max: number): SealiftError {
  return new SealiftError(
    'bundle-too-large',
    `${name} is too large: got ${size} bytes, want at most ${max}`,
    {
      subject: name,
      got: size,
      want: max,
    },
  );
}

/** Bytes between two contents: padding of the one, header of the next, or the end blocks. */
function checkGap(got: Uint8Array, padding: number, want: Uint8Array, before: string, what: string): void {
  if (!isZero(got.subarray(0, padding))) {
    throw new SealiftError('bundle-not-canonical', `the padding of ${before} is not zero`, {
      subject: before,
    });
  }
  const rest = got.subarray(padding);
  if (Buffer.compare(rest, want) !== 0) {
    if (isZero(rest)) {
      throw new SealiftError('bundle-truncated', `the archive ends before ${what}`, { subject: what });
    }
    throw new SealiftError('bundle-not-canonical', `${what} is not what the format prescribes`, {
      subject: what,
    });
  }
}

function trailing(size: number): SealiftError {
  return new SealiftError(
    'bundle-trailing-data',
    `there is data behind the end of the bundle: want ${size} bytes`,
    {
      want: size,
    },
  );
}

function cutShort(got: number, want: number): SealiftError {
  return new SealiftError('bundle-truncated', `the bundle ends too early: got ${got} bytes, want ${want}`, {
    got,
    want,
  });
}

/** Gaps smaller than this lie in one read together. */
const FRAME_WINDOW = 64 * 1024;
/** Bytes of a piece of content; large enough for a buffer of its own. */
const CONTENT_PIECE = 1024 * 1024;

/**
 * Opens a bundle in a regular file and reads its head.
 * @throws SealiftError `bundle-not-found`; `invalid-argument` for a directory, FIFO or device; those of readHead()
 */
export async function openBundleFile(file: string, options: ReadOptions): Promise<FileBundle> {
  checkSignal(options.signal);
  return openBundleBytes(await openFileBytes(file), options);
}

interface Gap extends Stretch {
  readonly before: string;
  readonly what: string;
  readonly padding: number;
  /** Behind the padding. */
  readonly want: () => Uint8Array;
  /** Bytes of content behind it. */
  readonly near: number;
}

/** What lies between the contents of the blobs, in order. */
function* gapsOf({ layout, blobs }: Accepted, headSize: number): Generator<Gap, void, void> {
  let offset = headSize;
  let before = 'the head';
  let padding = 0;
  for (const { name, place } of blobs) {
    yield {
      offset,
      size: padding + place.headerSize,
      before,
      what: `the header of ${name}`,
      padding,
      want: () => tarHeader(name, place.size, layout.mtime),
      near: place.size,
    };
    before = name;
    padding = place.paddingSize;
    offset = place.contentOffset + place.size;
  }
  yield {
    offset,
    size: padding + END_BLOCKS.length,
    before,
    what: 'the end of the archive',
    padding,
    want: () => END_BLOCKS,
    near: Number.MAX_SAFE_INTEGER,
  };
}

/** Reads the head of a bundle; closes `bytes` where that fails, and with the bundle. */
export async function openBundleBytes(bytes: BundleBytes, options: ReadOptions): Promise<FileBundle> {
  const { limits, signal } = options;
  let head: BundleHead;
  const input = createInput(bytes.pieces(), signal);
  try {
    head = await readHead(input, limits);
    await input.close();
    bytes.bind(createHash('sha256').update(head.manifest).digest('hex'));
  } catch (error) {
    const told = await bytes.explain(error, { offset: 0, size: Math.max(1, input.position) });
    await bytes.close();
    throw told;
  }
  let accepted: Accepted | undefined;
  let byName: ReadonlyMap<string, Accepted['blobs'][number]> = new Map();
  /** Volumes whose frame has been checked; undefined once all of it has. */
  let framed: Set<number> | undefined = new Set();

  const blob = (name: string): BlobPlace | undefined => {
    if (!accepted) throw notAccepted();
    const found = byName.get(name);
    if (!found) return undefined;
    const { place, ...info } = found;
    return { ...info, offset: place.contentOffset };
  };
  const placeOf = (name: string): BlobPlace => {
    const place = blob(name);
    if (!place)
      throw new SealiftError('blob-missing', `${inert(name)} is not in the bundle`, {
        subject: inert(name),
      });
    return place;
  };

  /** Checks what lies between the blobs from `from` to `to`; a gap that is cut there only as far as it goes. */
  async function checkFrame({ layout, blobs }: Accepted, from: number, to: number): Promise<void> {
    let window: Buffer = Buffer.alloc(0);
    let windowOffset = 0;
    /** Bytes of the file, through a window so that many small blobs do not mean as many reads. */
    const bytesAt = async (offset: number, length: number, near: number): Promise<Buffer> => {
      if (offset < windowOffset || offset + length > windowOffset + window.length) {
        checkSignal(signal);
        const wanted = Math.max(length, near < FRAME_WINDOW / 4 ? FRAME_WINDOW : length);
        window = await bytes.read(offset, Math.min(wanted, to - offset));
        windowOffset = offset;
        if (window.length < length) throw cutShort(offset + window.length, layout.size);
      }
      return window.subarray(offset - windowOffset, offset - windowOffset + length);
    };
    for (const gap of gapsOf({ layout, blobs }, head.size)) {
      if (gap.offset + gap.size <= from) continue;
      if (gap.offset >= to) return;
      const start = Math.max(from, gap.offset);
      const end = Math.min(to, gap.offset + gap.size);
      try {
        const got = await bytesAt(start, end - start, gap.near);
        if (end - start === gap.size) {
          checkGap(got, gap.padding, gap.want(), gap.before, gap.what);
          continue;
        }
        const whole = Buffer.concat([Buffer.alloc(gap.padding), gap.want()]);
        if (Buffer.compare(got, whole.subarray(start - gap.offset, end - gap.offset)) !== 0) {
          throw new SealiftError('bundle-not-canonical', `${gap.what} is not what the format prescribes`, {
            subject: gap.what,
          });
        }
      } catch (error) {
        throw await bytes.explain(error, { offset: start, size: end - start });
      }
    }
  }

  async function* stretch(offset: number, size: number): AsyncGenerator<Uint8Array, void, void> {
    for (let at = 0; at < size; ) {
      checkSignal(signal);
      const piece = await bytes.read(offset + at, Math.min(CONTENT_PIECE, size - at));
      if (piece.length === 0) throw cutShort(offset + at, offset + size);
      at += piece.length;
      yield piece;
    }
  }

  return {
    kind: 'file',
    head,
    isOneFile: bytes.isOneFile,
    get complete() {
      return bytes.complete;
    },
    get size() {
      return bytes.size;
    },
    accept(manifest) {
      accepted = acceptHead(head, manifest, limits);
      byName = new Map(accepted.blobs.map((entry) => [entry.name, entry]));
      bytes.expect(accepted.layout.size);
    },
    async verifyFrame() {
      if (!accepted) throw notAccepted();
      const { layout } = accepted;
      if (!bytes.complete) return;
      if (bytes.size < layout.size) throw cutShort(bytes.size, layout.size);
      await checkFrame(accepted, 0, layout.size);
      if (bytes.size > layout.size) throw trailing(layout.size);
      await bytes.assertUnchanged();
      framed = undefined;
    },
    blob,
    async readBlob(name, max) {
      const place = placeOf(name);
      if (place.size > max) throw tooLarge(name, place.size, max);
      checkSignal(signal);
      const read = await bytes.read(place.offset, place.size);
      try {
        if (read.length < place.size) throw cutShort(place.offset + read.length, place.offset + place.size);
        checkHash(name, createHash(hashOf(name).algorithm).update(read).digest('hex'));
      } catch (error) {
        throw await bytes.explain(error, place);
      }
      return read;
    },
    content: (place) => stretch(place.offset, place.size),
    bytes: stretch,
    async take(places, use, order) {
      if (!accepted) throw notAccepted();
      const whole = accepted;
      const behind = { offset: head.size, size: whole.layout.size - head.size };
      await bytes.visit(
        order?.everything ? [behind] : (order?.stretches ?? places),
        async (part) => {
          const end = part.offset + part.size;
          if (framed && !framed.has(part.volume)) {
            await checkFrame(whole, part.offset, end);
            framed.add(part.volume);
          }
          const pieces = places.flatMap((place): BlobPiece[] => {
            const from = Math.max(place.offset, part.offset);
            const to = Math.min(place.offset + place.size, end);
            if (from >= to && (place.size > 0 || place.offset < part.offset || place.offset >= end))
              return [];
            const size = to - from;
            return [
              {
                blob: place,
                fd: part.fd,
                offset: from - part.offset,
                size,
                at: from - place.offset,
                whole: size === place.size,
              },
            ];
          });
          await use(pieces);
        },
        order,
      );
    },
    explain: (error, stretch = { offset: 0, size: head.size }) => bytes.explain(error, stretch),
    assertUnchanged: () => bytes.assertUnchanged(),
    close: () => bytes.close(),
  };
}

/** Contents up to this size are hashed here: a thread would take longer to be told. */
const INLINE_BYTES = 64 * 1024;

interface OpenBlob {
  readonly info: BlobInfo;
  readonly place: LaidOutEntry;
  state: 'untouched' | 'reading' | 'read';
}

function createStreamBlob(current: OpenBlob, input: Input, pool: WorkerPool): StreamBlob {
  const { info } = current;
  const { name, size } = info;
  const start = () => {
    if (current.state !== 'untouched')
      throw new SealiftError('internal', `the content of ${name} is read twice`);
    current.state = 'reading';
  };
  async function* content(): AsyncGenerator<Uint8Array, void, void> {
    start();
    // Marked before the last piece is handed out: a reader that knows the size need not ask again.
    let left = size;
    if (left === 0) current.state = 'read';
    for await (const piece of input.pieces(size, name)) {
      left -= piece.length;
      if (left === 0) current.state = 'read';
      yield piece;
    }
  }
  return {
    ...info,
    content: content(),
    async bytes(max) {
      if (size > max) throw tooLarge(name, size, max);
      start();
      const bytes = await input.read(size, name);
      current.state = 'read';
      checkHash(name, createHash(hashOf(name).algorithm).update(bytes).digest('hex'));
      return bytes;
    },
    async skip() {
      if (size <= INLINE_BYTES) {
        await this.bytes(INLINE_BYTES);
        return;
      }
      start();
      const { algorithm } = hashOf(name);
      const sink = pool.stream({ algorithms: [algorithm] });
      try {
        for await (const piece of input.pieces(size, name)) await sink.write(piece);
        const { hashes } = await sink.finish();
        current.state = 'read';
        checkHash(name, hashes[algorithm]);
      } finally {
        sink.abort();
      }
    },
  };
}

/**
 * Reads the head of a bundle that comes as a stream, in one pass. `close()` destroys the stream.
 * @throws SealiftError those of readHead()
 */
export async function openBundleStream(
  stream: AsyncIterable<Uint8Array>,
  options: ReadOptions,
): Promise<StreamBundle> {
  const { limits, signal, pool } = options;
  const input = createInput(stream, signal);
  let head: BundleHead;
  try {
    head = await readHead(input, limits);
  } catch (error) {
    await input.close();
    throw error;
  }
  let accepted: Accepted | undefined;
  let index = 0;
  let finished = false;
  let current: OpenBlob | undefined;
  let handle: StreamBlob | undefined;

  const finishCurrent = async () => {
    if (!current || !handle) return;
    if (current.state === 'untouched') await handle.skip();
    if (current.state !== 'read') {
      throw new SealiftError('internal', `the content of ${current.info.name} was left in the middle`);
    }
  };

  const nextBlob = async (): Promise<StreamBlob | undefined> => {
    if (!accepted) throw notAccepted();
    if (finished) return undefined;
    const { layout, blobs } = accepted;
    await finishCurrent();
    const before = current?.info.name ?? 'the head';
    const padding = current ? paddingOf(current.place.size) : 0;
    const next = blobs[index];
    const what = next ? `the header of ${next.name}` : 'the end of the archive';
    const want = next ? tarHeader(next.name, next.size, layout.mtime) : END_BLOCKS;
    const got = await input.readUpTo(padding + want.length);
    if (got.length < padding + want.length) throw cutShort(input.position, layout.size);
    checkGap(got, padding, want, before, what);
    if (next) {
      index += 1;
      const { place, ...info } = next;
      current = { info, place, state: 'untouched' };
      handle = createStreamBlob(current, input, pool);
      return handle;
    }
    current = undefined;
    if ((await input.readUpTo(1)).length > 0) throw trailing(layout.size);
    finished = true;
    return undefined;
  };

  return {
    kind: 'stream',
    head,
    accept(manifest) {
      accepted = acceptHead(head, manifest, limits);
    },
    nextBlob,
    async *blobs(which = 'all') {
      for (;;) {
        if (which === 'small' && accepted && (accepted.blobs[index]?.kind ?? 'layer') === 'layer') {
          // The last small blob is done with before anything is decided.
          await finishCurrent();
          return;
        }
        const blob = await nextBlob();
        if (!blob) return;
        yield blob;
      }
    },
    get position() {
      return input.position;
    },
    close: () => input.close(),
  };
}
