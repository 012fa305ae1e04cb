/** Worker threads that hash and move bytes; see pool.ts for the contract. */
import { Worker } from 'node:worker_threads';
import { SealiftError } from '../errors.ts';
import {
  BLOCK_BYTES,
  createEngine,
  FLAG_ABORT,
  FLAG_BUSY,
  type PlainError,
  type Reply,
  type Request,
} from './engine.ts';
import {
  type CipherJob,
  type CipherStream,
  type Hashes,
  PLACE_MAX,
  type PlaceJob,
  type PlaceOutcome,
  type RangeJob,
  type StreamJob,
  type StreamSink,
  type WorkerPool,
} from './pool.ts';

export interface WorkerPoolOptions {
  /** Number of threads; 0 does the same work on the calling thread. Threads start when there is work for them. */
  readonly size: number;
  /** The worker's program; beside this module unless given. */
  readonly entry?: URL | undefined;
}

/** Blocks a stream may have in flight. */
const BLOCKS_PER_STREAM = 4;
/**
 * What one worker has to do at the same time; more waits for whoever is free first, so that all end together. Behind a little
 * work there is more at hand, so that the worker need not ask for it.
 */
const TASKS_PER_WORKER = 2;
const LITTLE_WORK = 8 * 1024 * 1024;
/** What a file costs, in bytes. */
const FILE_COST = 128 * 1024;
/** Spare blocks kept for the next stream. */
const SPARE_BLOCKS = 16;
/** How long abort() holds the thread for a write that is under way. */
const ABORT_WAIT_MS = 250;

const READY: Promise<void> = Promise.resolve();

function noop(): void {}

interface Deferred<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: Error) => void;
}

/** A promise that others settle. A rejection nobody waits for is no accident here: writers may have gone already. */
function defer<T>(): Deferred<T> {
  let resolve: (value: T) => void = noop;
  let reject: (error: Error) => void = noop;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  promise.catch(noop);
  return { promise, resolve, reject };
}

function reviveError(plain: PlainError): Error {
  if (plain.sealift !== undefined) return new SealiftError(plain.sealift, plain.message);
  const { message, ...details } = plain;
  return Object.assign(new Error(message), details);
}

function closedError(): SealiftError {
  return new SealiftError('cancelled', 'the worker pool is closed');
}

/** True for a chunk that is all there is in its buffer and large enough to be worth moving instead of copying. */
function isWhole(chunk: Uint8Array): chunk is Uint8Array<ArrayBuffer> {
  const { buffer, byteLength } = chunk;
  return buffer instanceof ArrayBuffer && byteLength === buffer.byteLength && byteLength >= 4096;
}

/** What the pool wants to know about a job on a thread. */
interface Job {
  /** How busy it keeps its thread, where one is that of hashing. */
  readonly weight?: number | undefined;
  reply(reply: Reply): void;
  /** The thread is gone. */
  lost(error: SealiftError): void;
}

/** A thread, or the calling thread in its place. */
interface Lane {
  readonly jobs: Map<number, Job>;
  tasks: number;
  /** Bytes of its tasks. */
  load: number;
  send(request: Request, transfer?: readonly ArrayBuffer[]): void;
  /** Keeps the process alive exactly while there are jobs. */
  settle(): void;
  stop(): Promise<void>;
}

interface WaitingTask {
  start(lane: Lane): void;
  fail(error: Error): void;
}

/** AES in CFB, block behind block, takes this many times what SHA-256 does. */
const CIPHER_WEIGHT = 3;

function weightOf({ jobs }: Lane): number {
  let sum = 0;
  for (const { weight = 1 } of jobs.values()) sum += weight;
  return sum;
}

function dispatch(lane: Lane, reply: Reply): void {
  lane.jobs.get(reply.id)?.reply(reply);
}

function createInlineLane(): Lane {
  let stopped = false;
  const soon = (turn: () => void) => setImmediate(() => stopped || turn());
  const lane: Lane = {
    jobs: new Map(),
    tasks: 0,
    load: 0,
    send: (request) => soon(() => engine.handle(request)),
    settle: noop,
    stop: () => {
      stopped = true;
      for (const job of [...lane.jobs.values()]) job.lost(closedError());
      lane.jobs.clear();
      return READY;
    },
  };
  const engine = createEngine((reply) => dispatch(lane, reply), soon);
  return lane;
}

function createThreadLane(entry: URL, onExit: (lane: Lane) => void): Lane {
  const worker = new Worker(entry, { execArgv: [] });
  let failure: SealiftError | undefined;
  let stopping = false;
  const lane: Lane = {
    jobs: new Map(),
    tasks: 0,
    load: 0,
    send: (request, transfer = []) => worker.postMessage(request, transfer),
    settle: () => (lane.jobs.size > 0 ? worker.ref() : worker.unref()),
    stop: async () => {
      stopping = true;
      await worker.terminate();
    },
  };
  worker.on('message', (reply: Reply) => dispatch(lane, reply));
  worker.on('error', (cause) => {
    failure = new SealiftError('internal', `a worker thread failed: ${String(cause)}`, { cause });
  });
  worker.on('exit', (code) => {
    onExit(lane);
    const error = stopping
      ? closedError()
      : (failure ?? new SealiftError('internal', `a worker thread ended: got exit code ${code}`));
    for (const job of [...lane.jobs.values()]) job.lost(error);
    lane.jobs.clear();
  });
  return lane;
}

/**
 * Makes a pool. Jobs on a thread that dies are rejected with `internal`; the next job gets a new thread. An
 * idle pool does not keep the process alive.
 */
export function createWorkerPool(options: WorkerPoolOptions): WorkerPool {
  const { size } = options;
  if (!Number.isSafeInteger(size) || size < 0) {
    throw new SealiftError('internal', `no size for a worker pool: got ${size}`);
  }
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const entry = options.entry ?? new URL(`./hash-worker.${extension}`, import.meta.url);
  const lanes: Lane[] = [];
  const waiting: WaitingTask[] = [];
  const spare: Uint8Array[] = [];
  let nextId = 1;
  let closed = false;

  function addLane(): Lane {
    const lane =
      size === 0
        ? createInlineLane()
        : createThreadLane(entry, (gone) => {
            const index = lanes.indexOf(gone);
            if (index !== -1) lanes.splice(index, 1);
            startWaiting();
          });
    lanes.push(lane);
    return lane;
  }

  /** The lane with the least to do; a new one as long as all others are busy and there may be more. */
  function pickLane(): Lane {
    const least = lanes.reduce<Lane | undefined>(
      (a, b) => (a && weightOf(a) <= weightOf(b) ? a : b),
      undefined,
    );
    if (least && (least.jobs.size === 0 || lanes.length >= Math.max(1, size))) return least;
    return addLane();
  }

  function hasRoom(lane: Lane): boolean {
    return lane.tasks === 0 || (lane.tasks < TASKS_PER_WORKER && lane.load < LITTLE_WORK);
  }

  function startWaiting(): void {
    while (waiting.length > 0 && !closed) {
      const free = lanes.filter(hasRoom);
      if (free.length === 0 && lanes.length >= Math.max(1, size)) return;
      let lane = pickLane();
      if (!hasRoom(lane)) lane = free.reduce((a, b) => (weightOf(a) <= weightOf(b) ? a : b));
      waiting.shift()?.start(lane);
    }
  }

  function register(lane: Lane, job: Job): number {
    const id = nextId;
    nextId += 1;
    lane.jobs.set(id, job);
    lane.settle();
    return id;
  }

  function release(lane: Lane, id: number): void {
    lane.jobs.delete(id);
    lane.settle();
  }

  /** Has a task done by whichever lane is free first. `take` is told what comes back, and true is its end. */
  function run(
    task: {
      readonly load: number;
      readonly signal: AbortSignal | undefined;
      readonly request: (id: number, flag: Int32Array) => Request;
    },
    take: (reply: Reply) => boolean,
  ): Promise<void> {
    const { load, signal } = task;
    if (closed) return Promise.reject(closedError());
    const cancelled = () => new SealiftError('cancelled', 'stopped', { cause: signal?.reason });
    if (signal?.aborted) return Promise.reject(cancelled());
    return new Promise((resolve, reject) => {
      const flag = new Int32Array(new SharedArrayBuffer(4));
      let started = false;
      const onAbort = () => {
        // Once started, the answer comes from the thread: only then does nothing touch the descriptors any more.
        Atomics.or(flag, 0, FLAG_ABORT);
        if (started) return;
        waiting.splice(waiting.indexOf(queued), 1);
        queued.fail(cancelled());
      };
      const settle = () => signal?.removeEventListener('abort', onAbort);
      const queued: WaitingTask = {
        fail(error) {
          settle();
          reject(error);
        },
        start(lane) {
          started = true;
          lane.tasks += 1;
          lane.load += load;
          const over = () => {
            settle();
            lane.tasks -= 1;
            lane.load -= load;
            release(lane, id);
          };
          const id = register(lane, {
            reply(reply) {
              if (reply.type === 'failed') {
                over();
                reject(reply.error.sealift === 'cancelled' ? cancelled() : reviveError(reply.error));
                startWaiting();
              } else if (take(reply)) {
                over();
                resolve();
                startWaiting();
              }
            },
            lost(error) {
              settle();
              reject(error);
            },
          });
          lane.send(task.request(id, flag));
        },
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      waiting.push(queued);
      startWaiting();
    });
  }

  async function range(job: RangeJob): Promise<Hashes> {
    const { source, size: bytes, target, algorithms, signal, onProgress } = job;
    let hashes: Hashes = {};
    await run(
      {
        load: bytes,
        signal,
        request: (id, flag) => ({ type: 'range', id, source, size: bytes, target, algorithms, flag }),
      },
      (reply) => {
        if (reply.type === 'progress') onProgress?.(reply.bytes);
        if (reply.type === 'done') hashes = reply.hashes;
        return reply.type === 'done';
      },
    );
    return hashes;
  }

  async function place(jobs: readonly PlaceJob[], signal?: AbortSignal): Promise<readonly PlaceOutcome[]> {
    if (jobs.some(({ size }) => size > PLACE_MAX)) {
      throw new SealiftError('internal', `a blob is too large to be placed: want at most ${PLACE_MAX} bytes`);
    }
    const load = jobs.reduce((sum, job) => sum + job.size, jobs.length * FILE_COST);
    let outcomes: readonly PlaceOutcome[] = [];
    await run({ load, signal, request: (id, flag) => ({ type: 'place', id, jobs, flag }) }, (reply) => {
      if (reply.type === 'placed') outcomes = reply.outcomes;
      return reply.type === 'placed';
    });
    return outcomes;
  }

  function stream(job: StreamJob): StreamSink {
    if (closed) throw closedError();
    const lane = pickLane();
    const flag = new Int32Array(new SharedArrayBuffer(4));
    const pending: Uint8Array[] = [];
    let inFlight = 0;
    let current: Uint8Array | undefined;
    let filled = 0;
    let failure: Error | undefined;
    let ended = false;
    let aborted = false;
    let room: Deferred<void> | undefined;
    let finished: Deferred<{ hashes: Hashes; bytes: number }> | undefined;
    const released = defer<void>();

    const over = () => {
      release(lane, id);
      released.resolve();
    };
    const fail = (error: Error) => {
      failure ??= error;
      pending.length = 0;
      room?.reject(failure);
      room = undefined;
      finished?.reject(failure);
    };
    const id = register(lane, {
      reply(reply) {
        switch (reply.type) {
          case 'free':
            inFlight -= 1;
            if (reply.block && spare.length < SPARE_BLOCKS) spare.push(reply.block);
            drain();
            return;
          case 'done':
            over();
            finished?.resolve({ hashes: reply.hashes, bytes: reply.bytes });
            return;
          case 'failed':
            fail(reviveError(reply.error));
            giveUp();
            return;
          case 'aborted':
            over();
            return;
          default:
            return;
        }
      },
      lost(error) {
        fail(error);
        released.resolve();
      },
    });
    lane.send({ type: 'stream', id, target: job.target, algorithms: job.algorithms, flag });

    /** Chunks that were given, until there are enough for a message. */
    let given: Uint8Array<ArrayBuffer>[] = [];
    let givenBytes = 0;
    const sendGiven = () => {
      if (given.length === 0) return;
      lane.send(
        { type: 'chunks', id, chunks: given },
        given.map(({ buffer }) => buffer),
      );
      inFlight += 1;
      given = [];
      givenBytes = 0;
    };
    const flush = () => {
      sendGiven();
      if (!current || filled === 0) return;
      lane.send({ type: 'block', id, block: current, length: filled });
      inFlight += 1;
      current = undefined;
      filled = 0;
    };
    /** Copies as much as there is room for; the number of bytes taken. */
    const take = (chunk: Uint8Array): number => {
      sendGiven();
      let taken = 0;
      while (taken < chunk.length) {
        if (!current) {
          if (inFlight >= BLOCKS_PER_STREAM) break;
          current = spare.pop() ?? new Uint8Array(new SharedArrayBuffer(BLOCK_BYTES));
        }
        const length = Math.min(chunk.length - taken, current.length - filled);
        current.set(
          taken === 0 && length === chunk.length ? chunk : chunk.subarray(taken, taken + length),
          filled,
        );
        filled += length;
        taken += length;
        if (filled === current.length) flush();
      }
      return taken;
    };
    const drain = () => {
      if (failure || aborted) return;
      for (let chunk = pending[0]; chunk; chunk = pending[0]) {
        const taken = take(chunk);
        if (taken < chunk.length) {
          pending[0] = chunk.subarray(taken);
          return;
        }
        pending.shift();
      }
      if (ended) end();
      if (inFlight < BLOCKS_PER_STREAM) {
        room?.resolve();
        room = undefined;
      }
    };
    const giveUp = () => {
      if (aborted || !lane.jobs.has(id)) return;
      aborted = true;
      // The caller may close the descriptor next, and its number may be given to another file.
      if ((Atomics.or(flag, 0, FLAG_ABORT) & FLAG_BUSY) !== 0) {
        Atomics.wait(flag, 0, FLAG_ABORT | FLAG_BUSY, ABORT_WAIT_MS);
      }
      lane.send({ type: 'abort', id });
    };
    let endSent = false;
    const end = () => {
      if (endSent) return;
      endSent = true;
      flush();
      if (current && spare.length < SPARE_BLOCKS) spare.push(current);
      current = undefined;
      lane.send({ type: 'end', id });
    };

    const write = (chunk: Uint8Array): Promise<void> => {
      if (failure) return Promise.reject(failure);
      if (ended || aborted)
        return Promise.reject(new SealiftError('internal', 'a write behind the end of a stream'));
      // What finds no room is copied too, since the caller may reuse its buffer.
      const taken = pending.length === 0 ? take(chunk) : 0;
      if (taken < chunk.length) pending.push(new Uint8Array(chunk.subarray(taken)));
      if (pending.length === 0 && inFlight < BLOCKS_PER_STREAM) return READY;
      room ??= defer<void>();
      return room.promise;
    };

    return {
      released: released.promise,
      write,
      give(chunk) {
        if (!isWhole(chunk) || pending.length > 0) {
          const room = write(chunk);
          if (isWhole(chunk)) chunk.buffer.transfer(0);
          return room;
        }
        if (failure) return Promise.reject(failure);
        if (ended || aborted)
          return Promise.reject(new SealiftError('internal', 'a write behind the end of a stream'));
        if (filled > 0) flush();
        given.push(chunk);
        givenBytes += chunk.length;
        if (givenBytes >= BLOCK_BYTES) sendGiven();
        if (inFlight < BLOCKS_PER_STREAM) return READY;
        room ??= defer<void>();
        return room.promise;
      },
      finish() {
        if (failure) return Promise.reject(failure);
        if (ended) return Promise.reject(new SealiftError('internal', 'a stream is finished once'));
        ended = true;
        finished = defer();
        drain();
        return finished.promise;
      },
      abort() {
        fail(new SealiftError('cancelled', 'the stream was given up'));
        giveUp();
      },
    };
  }

  function cipher(job: CipherJob): CipherStream {
    if (closed) throw closedError();
    const lane = pickLane();
    const waiting: Deferred<Uint8Array<ArrayBuffer>>[] = [];
    let failure: Error | undefined;
    const fail = (error: Error) => {
      failure ??= error;
      for (const { reject } of waiting.splice(0)) reject(failure);
    };
    const id = register(lane, {
      weight: CIPHER_WEIGHT,
      reply(reply) {
        if (reply.type === 'crypted') waiting.shift()?.resolve(reply.block);
        if (reply.type === 'failed') fail(reviveError(reply.error));
        if (reply.type === 'failed' || reply.type === 'aborted') release(lane, id);
      },
      lost: fail,
    });
    lane.send({ type: 'cipher', id, job });
    return {
      update(block, iv) {
        if (failure) return Promise.reject(failure);
        const done = defer<Uint8Array<ArrayBuffer>>();
        waiting.push(done);
        lane.send({ type: 'crypt', id, block, iv });
        return done.promise;
      },
      close() {
        if (failure === undefined) lane.send({ type: 'abort', id });
        fail(new SealiftError('cancelled', 'the cipher was given up'));
      },
    };
  }

  return {
    size,
    warm() {
      if (closed) return;
      while (lanes.length < size) addLane().settle();
    },
    range,
    place,
    stream,
    cipher,
    async close() {
      if (closed) return;
      closed = true;
      for (const job of waiting.splice(0)) job.fail(closedError());
      await Promise.all([...lanes].map((lane) => lane.stop()));
    },
  };
}
