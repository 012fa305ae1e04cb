/**
 * The work itself: hashing and moving bytes with blocking calls. It runs in a worker thread, or inline where
 * the pool has no threads; either way it only knows messages.
 */
import { type Cipheriv, createCipheriv, createDecipheriv, createHash, type Hash } from 'node:crypto';
import { readSync, writeSync, writevSync } from 'node:fs';
import type { ErrorCode } from '../errors.ts';
import { placeBlob } from './place-blob.ts';
import {
  type CipherJob,
  type HashAlgorithm,
  type Hashes,
  PLACE_MAX,
  type PlaceJob,
  type PlaceOutcome,
} from './pool.ts';

/** Bytes of one block of a stream's ring. Larger ones only keep more memory in flight. */
export const BLOCK_BYTES: number = 256 * 1024;
/** Bytes of one read of a range: what is hashed and written next has to be in the processor's cache still. */
const RANGE_BYTES = 128 * 1024;
/** Steps of a job before others have their turn. */
const STEPS_PER_TURN = 32;
const PROGRESS_INTERVAL_MS = 100;

/** Bits of a job's flag, which pool and worker share. */
export const FLAG_BUSY = 1;
export const FLAG_ABORT = 2;

export interface Place {
  readonly fd: number;
  readonly offset: number;
}

export type Request =
  | {
      readonly type: 'range';
      readonly id: number;
      readonly source: Place;
      readonly size: number;
      readonly target: Place | undefined;
      readonly algorithms: readonly HashAlgorithm[];
      readonly flag: Int32Array;
    }
  | {
      readonly type: 'place';
      readonly id: number;
      readonly jobs: readonly PlaceJob[];
      readonly flag: Int32Array;
    }
  | {
      readonly type: 'stream';
      readonly id: number;
      readonly target: Place | undefined;
      readonly algorithms: readonly HashAlgorithm[];
      readonly flag: Int32Array;
    }
  | { readonly type: 'block'; readonly id: number; readonly block: Uint8Array; readonly length: number }
  /** Chunks whose memory has moved here. */
  | { readonly type: 'chunks'; readonly id: number; readonly chunks: readonly Uint8Array<ArrayBuffer>[] }
  | { readonly type: 'cipher'; readonly id: number; readonly job: CipherJob }
  /** A block for a cipher; with `iv` it begins there. */
  | {
      readonly type: 'crypt';
      readonly id: number;
      readonly block: Uint8Array;
      readonly iv: Uint8Array | undefined;
    }
  | { readonly type: 'end' | 'abort'; readonly id: number };

/** An error as it travels between threads. */
export interface PlainError {
  readonly message: string;
  /** Set where it is a SealiftError. */
  readonly sealift?: ErrorCode | undefined;
  readonly code?: string | undefined;
  readonly errno?: number | undefined;
  readonly syscall?: string | undefined;
  readonly path?: string | undefined;
}

export type Reply =
  /** A block, or the chunks of one message, have been dealt with. */
  | { readonly type: 'free'; readonly id: number; readonly block: Uint8Array | undefined }
  | { readonly type: 'progress'; readonly id: number; readonly bytes: number }
  | { readonly type: 'done'; readonly id: number; readonly hashes: Hashes; readonly bytes: number }
  | { readonly type: 'placed'; readonly id: number; readonly outcomes: readonly PlaceOutcome[] }
  | { readonly type: 'crypted'; readonly id: number; readonly block: Uint8Array<ArrayBuffer> }
  | { readonly type: 'failed'; readonly id: number; readonly error: PlainError }
  | { readonly type: 'aborted'; readonly id: number };

interface Hashing {
  readonly hashes: readonly (readonly [HashAlgorithm, Hash])[];
}

interface RangeState extends Hashing {
  readonly request: Request & { readonly type: 'range' };
  done: number;
  reported: number;
}

interface PlaceState {
  readonly request: Request & { readonly type: 'place' };
  readonly outcomes: PlaceOutcome[];
}

interface StreamState extends Hashing {
  readonly request: Request & { readonly type: 'stream' };
  done: number;
  failed: boolean;
}

interface CipherState {
  readonly job: CipherJob;
  cipher?: Cipheriv;
}

export interface Engine {
  handle(request: Request): void;
}

function startHashes(algorithms: readonly HashAlgorithm[]): Hashing['hashes'] {
  return [...new Set(algorithms)].map((algorithm) => [algorithm, createHash(algorithm)] as const);
}

function finishHashes({ hashes }: Hashing): Hashes {
  return Object.fromEntries(hashes.map(([algorithm, hash]) => [algorithm, hash.digest('hex')]));
}

function writeFully(fd: number, bytes: Uint8Array, length: number, position: number): void {
  let written = 0;
  while (written < length) {
    written += writeSync(fd, bytes, written, length - written, position + written);
  }
}

/** Several pieces in one call of the system, however many it takes. */
function writeAllFully(fd: number, pieces: readonly Uint8Array[], position: number): void {
  const bytes = pieces.reduce((sum, { length }) => sum + length, 0);
  let written = writevSync(fd, pieces, position);
  if (written === bytes) return;
  for (const piece of pieces) {
    if (written < piece.length) {
      writeFully(fd, piece.subarray(written), piece.length - written, position + written);
      written = 0;
    } else written -= piece.length;
    position += piece.length;
  }
}

function plainError(error: unknown): PlainError {
  if (!(error instanceof Error)) return { message: String(error) };
  const { message, code, errno, syscall, path } = error as NodeJS.ErrnoException;
  return { message, code, errno, syscall, path };
}

/** One without an end to be told of: CFB has no padding. */
function startCipher({ algorithm, direction, key }: CipherJob, iv: Uint8Array): Cipheriv {
  return direction === 'encrypt' ? createCipheriv(algorithm, key, iv) : createDecipheriv(algorithm, key, iv);
}

/** A block in memory of its own, which can be moved. */
function ownMemory(bytes: Buffer): Uint8Array<ArrayBuffer> {
  const { buffer, byteLength } = bytes;
  return buffer instanceof ArrayBuffer && buffer.byteLength === byteLength
    ? new Uint8Array(buffer)
    : Uint8Array.from(bytes);
}

/**
 * @param post takes replies, and memory in them that may move
 * @param soon runs a function after waiting messages had their turn
 */
export function createEngine(
  post: (reply: Reply, move?: readonly ArrayBuffer[]) => void,
  soon: (turn: () => void) => void,
): Engine {
  const streams = new Map<number, StreamState>();
  const ciphers = new Map<number, CipherState>();
  const tasks: (RangeState | PlaceState)[] = [];
  let turning = false;
  let buffer: Uint8Array | undefined;
  let placeBuffer: Uint8Array | undefined;

  /** One piece of the work; true when the job is over. */
  function step(state: RangeState | PlaceState): boolean {
    const { id, flag } = state.request;
    if ((Atomics.load(flag, 0) & FLAG_ABORT) !== 0) {
      post({ type: 'failed', id, error: { message: 'stopped', sealift: 'cancelled' } });
      return true;
    }
    return 'outcomes' in state ? stepPlace(state) : stepRange(state);
  }

  function stepPlace({ request: { id, jobs }, outcomes }: PlaceState): boolean {
    const job = jobs[outcomes.length];
    placeBuffer ??= new Uint8Array(PLACE_MAX);
    if (job) outcomes.push(placeBlob(job, placeBuffer));
    if (outcomes.length < jobs.length) return false;
    post({ type: 'placed', id, outcomes });
    return true;
  }

  function stepRange(state: RangeState): boolean {
    const { id, source, size, target } = state.request;
    if (state.done < size) {
      buffer ??= new Uint8Array(RANGE_BYTES);
      const wanted = Math.min(buffer.length, size - state.done);
      const got = readSync(source.fd, buffer, 0, wanted, source.offset + state.done);
      if (got === 0) {
        const message = `the source ends early: got ${state.done} bytes, want ${size}`;
        post({ type: 'failed', id, error: { message, sealift: 'bundle-truncated' } });
        return true;
      }
      const bytes = buffer.subarray(0, got);
      for (const [, hash] of state.hashes) hash.update(bytes);
      if (target) writeFully(target.fd, bytes, got, target.offset + state.done);
      state.done += got;
      const now = performance.now();
      if (now - state.reported >= PROGRESS_INTERVAL_MS) {
        state.reported = now;
        post({ type: 'progress', id, bytes: state.done });
      }
    }
    if (state.done < size) return false;
    post({ type: 'done', id, hashes: finishHashes(state), bytes: state.done });
    return true;
  }

  function turn(): void {
    turning = false;
    const state = tasks.shift();
    if (!state) return;
    let over = false;
    try {
      for (let i = 0; i < STEPS_PER_TURN && !over; i += 1) over = step(state);
    } catch (error) {
      over = true;
      post({ type: 'failed', id: state.request.id, error: plainError(error) });
    }
    if (!over) tasks.push(state);
    scheduleTurn();
  }

  function scheduleTurn(): void {
    if (turning || tasks.length === 0) return;
    turning = true;
    soon(turn);
  }

  function takePieces(state: StreamState, pieces: readonly Uint8Array[]): void {
    const { id, target, flag } = state.request;
    // Busy is set before abort is looked at, and the pool does it the other way round: one of both sees the other.
    const before = Atomics.or(flag, 0, FLAG_BUSY);
    try {
      if (state.failed || (before & FLAG_ABORT) !== 0) return;
      let length = 0;
      for (const piece of pieces) {
        for (const [, hash] of state.hashes) hash.update(piece);
        length += piece.length;
      }
      if (target) writeAllFully(target.fd, pieces, target.offset + state.done);
      state.done += length;
    } catch (error) {
      state.failed = true;
      post({ type: 'failed', id, error: plainError(error) });
    } finally {
      Atomics.and(flag, 0, ~FLAG_BUSY);
      Atomics.notify(flag, 0);
    }
  }

  function crypt(id: number, block: Uint8Array, iv: Uint8Array | undefined): void {
    const state = ciphers.get(id);
    if (!state) return;
    try {
      if (iv || !state.cipher) state.cipher = startCipher(state.job, iv ?? new Uint8Array(16));
      const done = ownMemory(state.cipher.update(block));
      post({ type: 'crypted', id, block: done }, [done.buffer]);
    } catch (error) {
      ciphers.delete(id);
      post({ type: 'failed', id, error: plainError(error) });
    }
  }

  return {
    handle(request) {
      switch (request.type) {
        case 'range':
          tasks.push({
            request,
            hashes: startHashes(request.algorithms),
            done: 0,
            reported: performance.now(),
          });
          scheduleTurn();
          return;
        case 'place':
          tasks.push({ request, outcomes: [] });
          scheduleTurn();
          return;
        case 'stream':
          streams.set(request.id, {
            request,
            hashes: startHashes(request.algorithms),
            done: 0,
            failed: false,
          });
          return;
        case 'block': {
          const state = streams.get(request.id);
          if (state) takePieces(state, [request.block.subarray(0, request.length)]);
          post({ type: 'free', id: request.id, block: request.block });
          return;
        }
        case 'chunks': {
          const state = streams.get(request.id);
          if (state) takePieces(state, request.chunks);
          // Their memory is given back now; the collector would let it pile up.
          for (const { buffer } of request.chunks) buffer.transfer(0);
          post({ type: 'free', id: request.id, block: undefined });
          return;
        }
        case 'cipher':
          ciphers.set(request.id, { job: request.job });
          return;
        case 'crypt':
          crypt(request.id, request.block, request.iv);
          return;
        case 'end': {
          const state = streams.get(request.id);
          streams.delete(request.id);
          if (state && !state.failed) {
            post({ type: 'done', id: request.id, hashes: finishHashes(state), bytes: state.done });
          }
          return;
        }
        case 'abort':
          streams.delete(request.id);
          ciphers.delete(request.id);
          post({ type: 'aborted', id: request.id });
          return;
      }
    },
  };
}
