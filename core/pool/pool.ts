/**
 * The worker pool, interface version 1: hashing, and moving bytes between files, away from the main thread.
 * File descriptors are shared by all threads of a process, so only numbers travel.
 */

export type HashAlgorithm = 'sha256' | 'sha512';

/** Lower-case hex by algorithm, for the algorithms that were asked for. */
export type Hashes = { readonly [A in HashAlgorithm]?: string };

export interface RangeJob {
  /** Descriptor and byte offset to read from. */
  readonly source: { readonly fd: number; readonly offset: number };
  readonly size: number;
  /** Where the bytes also go; without it they are only hashed. */
  readonly target?: { readonly fd: number; readonly offset: number } | undefined;
  readonly algorithms: readonly HashAlgorithm[];
  readonly signal?: AbortSignal | undefined;
  /** Bytes done so far; called a few times a second at most per job. */
  readonly onProgress?: ((bytes: number) => void) | undefined;
}

/** Bytes a blob has at most that `place` takes. */
export const PLACE_MAX: number = 1024 * 1024;

/** A small blob that becomes a file, or several names of one file. */
export interface PlaceJob {
  /** A file that holds nothing but the blob; links are not followed. Or where it lies in an open file. */
  readonly source: { readonly file: string } | { readonly fd: number; readonly offset: number };
  /** At most `PLACE_MAX`. */
  readonly size: number;
  readonly algorithm: HashAlgorithm;
  /** Lower-case hex. */
  readonly hash: string;
  /** Each is written, or linked, under its temporary name, and renamed when it is whole. */
  readonly names: readonly { readonly temporary: string; readonly file: string }[];
  /** The file of the source gets another name instead of being copied, where the file system can do that. */
  readonly share: boolean;
}

/** `missing`: there is no such source; `damaged`: it has another size or hash. Nothing was made of it then. */
export type PlaceOutcome = 'placed' | 'missing' | 'damaged';

export interface StreamJob {
  /** Where the bytes also go, in order from this offset; without it they are only hashed. */
  readonly target?: { readonly fd: number; readonly offset: number } | undefined;
  readonly algorithms: readonly HashAlgorithm[];
}

export interface StreamSink {
  /**
   * Takes a chunk. The bytes are copied before this returns, so the caller may reuse the buffer. The promise
   * resolves when more may be written (a bounded number of bytes is in flight), and rejects when writing failed.
   */
  write(chunk: Uint8Array): Promise<void>;
  /**
   * As `write`, but the chunk is given away: its memory moves to the thread, and afterwards the chunk is empty. For chunks
   * that nobody else looks at and that come by the gigabyte; it saves copying them, and collecting them.
   */
  give(chunk: Uint8Array): Promise<void>;
  /** All is written to the target (not yet fsynced); the hashes and the number of bytes. */
  finish(): Promise<{ readonly hashes: Hashes; readonly bytes: number }>;
  /** Gives up; safe to call at any time, also after finish. */
  abort(): void;
  /** Resolves when nothing touches the target's descriptor any more: after finish() or abort(). Never rejects. */
  readonly released: Promise<void>;
}

/** Bytes of a block that goes to a cipher; more only keeps more memory in flight. */
export const CIPHER_BLOCK: number = 2 ** 20;

export type CipherAlgorithm = 'aes-128-cfb' | 'aes-192-cfb' | 'aes-256-cfb';

export interface CipherJob {
  readonly algorithm: CipherAlgorithm;
  readonly direction: 'encrypt' | 'decrypt';
  readonly key: Uint8Array;
}

export interface CipherStream {
  /**
   * The block encrypted or decrypted. Blocks of one stream are done in order: with `iv` from there, otherwise going on
   * behind the block before. The block must not change until then; where its memory is shared it is not copied.
   */
  update(block: Uint8Array, iv?: Uint8Array): Promise<Uint8Array<ArrayBuffer>>;
  /** Gives up what is not done; safe to call at any time. */
  close(): void;
}

export interface WorkerPool {
  /** Number of threads. */
  readonly size: number;
  /** Starts the threads, ahead of work that is about to come; they start with their first work otherwise. */
  warm(): void;
  /**
   * Reads a range, hashes it and, with a target, writes it there.
   * @throws SealiftError `bundle-truncated` when the source ends early; file system errors as they come.
   */
  range(job: RangeJob): Promise<Hashes>;
  /**
   * Makes files of small blobs: each is read and hashed, written where its hash is right, fsynced and renamed; their
   * directories are not fsynced. Goes on behind what is missing or damaged, and ends at the first other failure.
   * @throws file system errors as they come; what was placed before stays.
   */
  place(jobs: readonly PlaceJob[], signal?: AbortSignal): Promise<readonly PlaceOutcome[]>;
  /** A sink for bytes that come over the main thread, such as a registry's answer. */
  stream(job: StreamJob): StreamSink;
  /** A cipher; `key` has the length of its algorithm. */
  cipher(job: CipherJob): CipherStream;
  close(): Promise<void>;
}
