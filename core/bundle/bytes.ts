/** The bytes of a bundle at random access, wherever they lie: one file, or several volumes. */
import { type BigIntStats, constants } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { inert, isSealiftError, SealiftError } from '../errors.ts';
import { readAt, readPieces } from './input.ts';

/** A stretch of the bundle in one open file. */
export interface BundlePart {
  /** Number of the volume, from 1; 1 for a whole file. */
  readonly volume: number;
  readonly fd: number;
  /** Where the file begins in the bundle. */
  readonly offset: number;
  /** Bytes of the file. */
  readonly size: number;
}

export interface Stretch {
  readonly offset: number;
  readonly size: number;
}

export interface BundleBytes {
  /** For messages. */
  readonly path: string;
  /** Bytes of the whole bundle; for volumes, known after `expect()`. */
  readonly size: number;
  /** The bytes from the start. */
  pieces(): AsyncIterable<Uint8Array>;
  /** Up to `size` bytes at `offset`, fewer only where the bundle ends. */
  read(offset: number, size: number): Promise<Buffer>;
  /** SHA-256 of sealift.json in lower-case hex: what a list of volumes must be bound to. */
  bind(manifestSha256: string): void;
  /**
   * What the accepted bundle manifest says the size is; volumes that are missing or too many are refused here.
   * @throws SealiftError `volume-missing`, `volume-unexpected`, `volume-damaged`
   */
  expect(size: number): void;
  /**
   * Runs `use` on every file that holds a part of `wanted`, one after another: those at hand first, unless `inOrder`; then
   * media are asked for. The descriptor is valid during the call only.
   */
  visit(
    wanted: readonly Stretch[],
    use: (part: BundlePart) => Promise<void>,
    options?: { readonly inOrder?: boolean | undefined },
  ): Promise<void>;
  /** False for volumes. */
  readonly isOneFile: boolean;
  /** True where every byte can be read without asking anybody. */
  readonly complete: boolean;
  /** The error of what was read at a stretch, told of the volume it lies in. */
  explain(error: unknown, stretch: Stretch): Promise<unknown>;
  /** @throws SealiftError `bundle-not-canonical` where a file is not as it was when it was opened */
  assertUnchanged(): Promise<void>;
  close(): Promise<void>;
}

/** Opens a file that must be a regular one. @throws SealiftError `bundle-not-found`, `invalid-argument`, `bundle-unreadable` */
export async function openRegularFile(
  file: string,
): Promise<{ readonly handle: FileHandle; readonly opened: BigIntStats }> {
  const subject = inert(file);
  const notAFile = (what: string, hint?: string) =>
    new SealiftError('invalid-argument', `a bundle is a file: got ${what}`, { subject, got: what, hint });
  // Looked at before it is opened: opening a FIFO waits for a writer, opening a device may do anything.
  const before = await stat(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') {
      throw new SealiftError('bundle-not-found', 'there is no such bundle', { subject, cause: error });
    }
    throw unreadable(error, file);
  });
  if (before.isDirectory()) throw notAFile('a directory');
  const pipeHint = 'give - and feed it on standard input';
  if (before.isFIFO()) throw notAFile('a FIFO', pipeHint);
  if (!before.isFile()) throw notAFile('a device or socket', pipeHint);
  // Without blocking, should it have become a FIFO in between.
  const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK).catch((error: unknown) => {
    throw unreadable(error, file);
  });
  try {
    const opened = await handle.stat({ bigint: true });
    if (!opened.isFile()) throw notAFile('something that has just changed');
    return { handle, opened };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

const GONE: ReadonlySet<string> = new Set([
  'EIO',
  'ENODEV',
  'ENXIO',
  'ESTALE',
  'ENOTCONN',
  'ECONNABORTED',
  'EREMOTEIO',
  'ENOMEDIUM',
]);

/** A medium that was pulled out or fails, in sealift's words; everything else as it is. */
export function unreadable(error: unknown, file: string): unknown {
  if (isSealiftError(error) || !(error instanceof Error)) return error;
  const { code = '', syscall } = error as NodeJS.ErrnoException;
  // What is written goes to another place than the bundle.
  if (!GONE.has(code) || syscall === 'write' || syscall === 'fsync') return error;
  return new SealiftError('bundle-unreadable', `the medium cannot be read any more: got ${code}`, {
    subject: inert(file),
    got: code,
    hint: 'put the medium back, or copy it to another one, and run the same command again; it goes on where it stopped',
    cause: error,
  });
}

export function assertSame(now: BigIntStats, opened: BigIntStats, file: string): void {
  if (now.size === opened.size && now.mtimeNs === opened.mtimeNs && now.ctimeNs === opened.ctimeNs) return;
  throw new SealiftError('bundle-not-canonical', 'the file was changed while it was read', {
    subject: inert(file),
    hint: 'run the command again when nothing writes to it any more',
  });
}

/** A bundle in one file. */
export async function openFileBytes(file: string): Promise<BundleBytes> {
  const { handle, opened } = await openRegularFile(file);
  const size = Number(opened.size);
  const told = <T>(promise: Promise<T>): Promise<T> =>
    promise.catch((error: unknown) => {
      throw unreadable(error, file);
    });
  return {
    path: file,
    size,
    isOneFile: true,
    complete: true,
    async *pieces() {
      try {
        yield* readPieces(handle);
      } catch (error) {
        throw unreadable(error, file);
      }
    },
    read: (offset, length) => told(readAt(handle, offset, length)),
    bind() {},
    expect() {},
    visit: (wanted, use) =>
      wanted.length === 0 ? Promise.resolve() : told(use({ volume: 1, fd: handle.fd, offset: 0, size })),
    explain: async (error) => unreadable(error, file),
    async assertUnchanged() {
      assertSame(await told(handle.stat({ bigint: true })), opened, file);
    },
    close: () => handle.close(),
  };
}
