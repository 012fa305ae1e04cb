/**
 * Very large blobs over several connections. Some registries, and the hosts they redirect to, limit every connection; others
 * limit the line, where more of them gain nothing. So a blob begins over one. While places of its host stay idle, parts
 * behind it are read ahead into memory, handed on in their order, and it stays that way where it turned out to be faster.
 *
 * Nothing here fails a blob: where a part cannot be had, the one connection goes on from there, and whatever is wrong is
 * found and said as it always is. That all parts are of the same content only the digest can tell.
 */
import { performance } from 'node:perf_hooks';
import type { Context } from '../../context.ts';
import { isSealiftError, SealiftError } from '../../errors.ts';
import { ask, type Repository } from './authorization.ts';
import { type Blob, checkBlobAnswer, type Span, strongTag } from './blob-answer.ts';
import { showUrl } from './failures.ts';
import type { Answer } from './request.ts';
import { Transient } from './retry.ts';
import type { Session } from './session.ts';

export interface PartSettings {
  /** Bytes that have to be to come still; more than two parts. */
  readonly from: number;
  /** Bytes of a part. */
  readonly size: number;
  /** Parts in memory at once, of all blobs that share connections. */
  readonly most: number;
  /** Bytes over one connection, with a place idle all the while, before others are opened. */
  readonly patience: number;
  /** Bytes in a second over one connection that are enough, so that no others are opened. */
  readonly enough: number;
}

const MIB = 1024 * 1024;

/**
 * 32 MiB of memory at most. A part takes long enough for its question to weigh little. What is as fast as a gigabit line
 * has no limit for each connection that is worth getting around.
 */
export const DEFAULT_PARTS: PartSettings = {
  from: 128 * MIB,
  size: 8 * MIB,
  most: 4,
  patience: 8 * MIB,
  enough: 100 * MIB,
};

/** What all blobs of a session share. */
export interface PartsShared {
  /** Parts in memory. */
  held: number;
  /** Origins that send no parts, or want fewer requests. */
  readonly refused: Set<string>;
}

/** Number of parts after which is judged whether they are faster. */
const TRIAL = 8;
/** Times as fast as one connection they have to be. */
const GAIN = 1.2;
/** Small chunks are copied together into pieces of this size. */
const PIECE_BYTES = 256 * 1024;
/** Chunks from this size on are no small ones. */
const WHOLE_BYTES = 8 * 1024;

interface Part extends Span {
  /** Beginning of what was not handed on. */
  readonly pieces: Uint8Array[];
  /** Bytes that came. */
  received: number;
  state: 'asked' | 'coming' | 'whole' | 'failed';
  answer: Answer | undefined;
  isDropped: boolean;
}

export interface PartReader {
  /** The one connection has its answer, and goes on from `delivered`. */
  begin(answer: Answer, delivered: number): void;
  /** It has come so far; others may be opened now. */
  passed(delivered: number): void;
  /** How many bytes of the one connection are wanted still: parts go on behind them, if `areComing()`. */
  room(delivered: number): number;
  /** Whether parts take over where `room()` has ended; where they are not ready in time, they are given up. */
  areComing(): boolean;
  /** The parts in their order, as far as there are any. */
  take(): AsyncGenerator<Uint8Array, void, undefined>;
  /** The place of the last part, for the one connection to go on in, where there is one; once. */
  takePlace(): (() => void) | undefined;
  /** Why the host wants fewer requests, where that ended the parts; once. */
  refusal(): Transient | undefined;
  /** Nothing more is wanted. */
  end(): void;
}

export function createPartReader(
  { session, repository, url, blob }: { session: Session; repository: Repository; url: URL; blob: Blob },
  context: Context,
): PartReader {
  const settings = session.options.parts ?? DEFAULT_PARTS;
  const clock = session.options.clock ?? (() => performance.now());
  const limiter = session.limiterFor(repository.base);
  const shared = session.parts;
  const { origin } = repository.base;

  const parts: Part[] = [];
  /** Where the next part begins. */
  let next = 0;
  let goesOn = false;
  let isTaken = false;
  /** The blob's only place, while no part is on its way: it is the one that it goes on with. */
  let kept: (() => void) | undefined;
  let etag: string | undefined;
  let { patience } = settings;
  /** Since when the one connection has had idle places beside it. */
  let since = { at: 0, ms: 0 };
  let trial: { at: number; ms: number; bytesBefore: number; msBefore: number } | undefined;
  let refused: Transient | undefined;
  /** No answer of a registry, but a mistake here. */
  let fault: { readonly error: unknown } | undefined;
  let wake = (): void => {};

  function drop(index: number, count = parts.length): void {
    for (const part of parts.splice(index, count)) {
      shared.held -= 1;
      part.isDropped = true;
      part.answer?.discard();
    }
  }

  function giveUp(): void {
    goesOn = false;
    patience *= 2;
    drop(0);
  }

  /** Opens as many connections as there are places, once one has shown what it is worth. */
  function fill(): void {
    while (goesOn && parts[0]?.state !== 'asked' && next < blob.size && start());
  }

  function start(): boolean {
    const release = shared.held < settings.most ? (kept ?? limiter.tryAcquire()) : undefined;
    if (!release) return false;
    kept = undefined;
    const part: Part = {
      start: next,
      end: Math.min(next + settings.size, blob.size),
      pieces: [],
      received: 0,
      state: 'asked',
      answer: undefined,
      isDropped: false,
    };
    next = part.end;
    parts.push(part);
    shared.held += 1;
    void fetchPart(part)
      .catch((error: unknown) => failed(part, error))
      .then(() => {
        if (isTaken && !parts.some(({ state }) => state === 'asked' || state === 'coming')) kept = release;
        else release();
        wake();
        fill();
      });
    return true;
  }

  async function fetchPart(part: Part): Promise<void> {
    for (let isSecond = false; ; isSecond = true) {
      try {
        await fetchRest(part);
        part.state = 'whole';
        return;
      } catch (error) {
        // One broken connection is no reason to throw away what the others have.
        const isBreak = error instanceof Transient && part.answer !== undefined && part.received > 0;
        if (isSecond || !isBreak || part.isDropped) throw error;
      }
    }
  }

  async function fetchRest(part: Part): Promise<void> {
    const rest = { start: part.start + part.received, end: part.end };
    const headers: Record<string, string> = { Accept: '*/*', Range: `bytes=${rest.start}-${rest.end - 1}` };
    if (etag !== undefined) headers['If-Range'] = etag;
    part.answer = undefined;
    const answer = await ask(session, repository, { url, headers, placed: true }, context);
    await checkBlobAnswer(answer, blob, rest, session, context);
    const tag = strongTag(answer);
    if (part.isDropped || (etag !== undefined && tag !== undefined && tag !== etag)) {
      answer.discard();
      throw badPart(answer, 'the part is of another content');
    }
    part.answer = answer;
    part.state = 'coming';
    wake();
    fill();
    await keep(part, answer);
    if (part.received < part.end - part.start)
      throw new Transient(
        new SealiftError('source-unreachable', 'part ended too early', { subject: showUrl(answer.url) }),
      );
  }

  /**
   * Keeps what comes. A chunk that fills its buffer is kept as it is; small ones are copied together, as each would hold on
   * to the much larger buffer it was received in.
   */
  async function keep(part: Part, answer: Answer): Promise<void> {
    let piece: Uint8Array<ArrayBuffer> | undefined;
    let filled = 0;
    const push = (): void => {
      if (piece && filled > 0) part.pieces.push(filled === piece.length ? piece : piece.slice(0, filled));
      piece = undefined;
      filled = 0;
      wake();
    };
    try {
      for await (const chunk of answer.body()) {
        const left = part.end - part.start - part.received;
        if (chunk.length > left) throw badPart(answer, 'the part does not end');
        if (chunk.length >= WHOLE_BYTES && chunk.length === chunk.buffer.byteLength) {
          push();
          part.pieces.push(chunk);
          part.received += chunk.length;
          continue;
        }
        for (let at = 0; at < chunk.length; ) {
          piece ??= new Uint8Array(Math.min(PIECE_BYTES, part.end - part.start - part.received));
          const length = Math.min(chunk.length - at, piece.length - filled);
          piece.set(chunk.subarray(at, at + length), filled);
          filled += length;
          at += length;
          part.received += length;
          if (filled === piece.length) push();
        }
      }
    } finally {
      push();
    }
  }

  function badPart(answer: Answer, message: string): SealiftError {
    return new SealiftError('source-protocol', message, { subject: showUrl(answer.url) });
  }

  function failed(part: Part, error: unknown): void {
    part.state = 'failed';
    if (part.isDropped || context.signal.aborted) return;
    goesOn = false;
    patience *= 2;
    // Where the one connection still goes on, it is left alone; else it has to begin again anyway, behind what is good.
    drop(isTaken ? parts.indexOf(part) + 1 : 0);
    if (error instanceof Transient) {
      const isRefusal = error.failure.code === 'source-rate-limited';
      if (isRefusal) shared.refused.add(origin);
      if (isTaken && (isRefusal || error.retryAfter !== undefined)) refused = error;
    } else if (isSealiftError(error)) shared.refused.add(origin);
    else fault = { error };
  }

  function judge(delivered: number): void {
    if (!trial || delivered - trial.at < TRIAL * settings.size) return;
    const { at, ms, bytesBefore, msBefore } = trial;
    trial = undefined;
    if ((delivered - at) * msBefore >= GAIN * bytesBefore * (clock() - ms)) return;
    goesOn = false;
    // Most lines stay as they are.
    patience *= 4;
  }

  return {
    begin(answer, delivered) {
      if (answer.headers['accept-ranges']?.trim().toLowerCase() === 'none') shared.refused.add(origin);
      etag = strongTag(answer) ?? etag;
      since = { at: delivered, ms: clock() };
    },
    passed(delivered) {
      if (parts.length > 0 || blob.size - delivered < settings.from || shared.refused.has(origin)) return;
      if (!limiter.hasIdle() || shared.held >= settings.most) {
        since = { at: delivered, ms: clock() };
        return;
      }
      if (delivered - since.at < patience) return;
      const now = clock();
      const [bytesBefore, msBefore] = [delivered - since.at, now - since.ms];
      if (bytesBefore * 1000 >= settings.enough * msBefore) {
        since = { at: delivered, ms: now };
        return;
      }
      trial = { at: delivered, ms: now, bytesBefore, msBefore };
      // The one connection goes on for as long as the question may take.
      next = delivered + settings.size;
      goesOn = true;
      refused = undefined;
      start();
    },
    room: (delivered) => (parts[0] ? parts[0].start - delivered : Number.POSITIVE_INFINITY),
    areComing() {
      if (parts[0] && parts[0].state !== 'asked') return true;
      giveUp();
      return false;
    },
    async *take() {
      isTaken = true;
      let delivered = parts[0]?.start ?? 0;
      try {
        for (let part = parts[0]; part; part = parts[0]) {
          const piece = part.pieces.shift();
          if (piece) {
            delivered += piece.length;
            // Before it is handed on: the consumer may give its memory away.
            yield piece;
            judge(delivered);
            fill();
          } else if (part.state === 'whole') {
            drop(0, 1);
            fill();
          } else if (part.state === 'failed') drop(0);
          else
            await new Promise<void>((resolve) => {
              wake = resolve;
            });
        }
        if (fault) throw fault.error;
      } finally {
        isTaken = false;
      }
    },
    takePlace() {
      const place = kept;
      kept = undefined;
      return place;
    },
    refusal() {
      const once = refused;
      refused = undefined;
      return once;
    },
    end() {
      goesOn = false;
      drop(0);
      kept?.();
    },
  };
}
