/**
 * Quarantine: blobs on their way into a store. A blob that comes whole is written anew after an interruption; of one that
 * comes in pieces, from one medium after another, what is durable is noted and stays (docs/state.md, "The store").
 */
import { constants } from 'node:fs';
import { type FileHandle, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { SealiftError } from '../errors.ts';
import { openAs } from '../fs/access.ts';
import { fsyncDirectory, readFileLimited, reopenPartial } from '../fs/durable.ts';
import { blobPath, type Digest, digestAlgorithm, digestHex, formatDigest } from '../oci/digest.ts';
import type { Hashes } from '../pool/pool.ts';

/** A blob on its way in. Its file is in quarantine until `commit`. */
export interface Ingest {
  readonly digest: Digest;
  readonly size: number;
  /** Open for reading and writing, empty. Write from offset 0. */
  readonly fd: number;
  /**
   * Checks size and hash, makes the content durable and closes `fd`; the blob stays in quarantine until `commit`. For blobs
   * that wait for a decision, so that they hold no file open.
   * @throws SealiftError `digest-mismatch`, `size-mismatch`; the quarantined file is gone then
   */
  settle(hashes: Hashes): Promise<void>;
  /**
   * Takes the blob in where size and hash are right; closes `fd`. Durable after the next `sync()` or `admit()`.
   * @throws SealiftError `digest-mismatch`, `size-mismatch`; the quarantined file is gone then
   */
  commit(hashes: Hashes): Promise<void>;
  /** Gives up and removes the quarantined file; safe to call at any time, also after commit. */
  abort(): Promise<void>;
}

/** A stretch of a blob. */
export interface Piece {
  readonly at: number;
  readonly size: number;
}

/** A blob that comes in pieces; nobody knows before it is whole whether any of them is right. */
export interface PieceIngest extends Ingest {
  /** What is durable already, ascending; none touches another. */
  pieces(): readonly Piece[];
  /** True where some of it was brought by an earlier run. */
  readonly resumed: boolean;
  /** Makes a piece that has been written durable, and notes it. */
  note(piece: Piece): Promise<void>;
  /** Closes the file and keeps what was noted for a later run; safe to call at any time, also after commit. */
  leave(): Promise<void>;
}

/** At least one line for each piece of 999 volumes, many times over. */
const MAX_NOTE = 1024 * 1024;
const LINE = /^piece (\d{1,16}) (\d{1,16})$/;

export interface Quarantine {
  ingest(digest: Digest, size: number): Promise<Ingest>;
  ingestPieces(digest: Digest, size: number): Promise<PieceIngest>;
  /** Pieces that an earlier run has left of a blob. */
  piecesOf(digest: Digest, size: number): Promise<readonly Piece[]>;
  /** True while blobs are being taken in. */
  readonly busy: boolean;
}

/**
 * @param directory of the quarantine
 * @param fileOf where a blob goes
 * @param onCommit told of the directory whose entries have changed
 */
export function createQuarantine(
  directory: string,
  fileOf: (digest: Digest) => string,
  onCommit: (directory: string) => void,
): Quarantine {
  const running = new Set<string>();
  // The path of a blob is made from valid digests only.
  const nameOf = (digest: Digest) => path.join(directory, blobPath(digest).split('/').slice(1).join('-'));
  const piecesFile = (digest: Digest) => `${nameOf(digest)}.pieces`;
  const noteFile = (digest: Digest) => `${nameOf(digest)}.note`;

  async function begin(
    digest: Digest,
    size: number,
    file: string,
    open: () => Promise<FileHandle>,
  ): Promise<Ingest & { readonly handle: FileHandle; close(): Promise<void> }> {
    if (running.has(digest)) throw new SealiftError('internal', `blob is taken in twice at once: ${digest}`);
    running.add(digest);
    const handle = await open().catch((error: unknown) => {
      running.delete(digest);
      throw error;
    });
    let state: 'open' | 'settled' | 'ended' = 'open';
    async function close(): Promise<void> {
      if (state === 'ended') return;
      const wasOpen = state === 'open';
      state = 'ended';
      running.delete(digest);
      if (wasOpen) await handle.close();
    }
    async function abort(): Promise<void> {
      if (state === 'ended') return;
      await close();
      await rm(file, { force: true });
    }
    async function settle(hashes: Hashes): Promise<void> {
      if (state !== 'open')
        throw new SealiftError('internal', `blob is not being taken in any more: ${digest}`);
      try {
        const stats = await handle.stat();
        if (stats.size !== size) throw sizeMismatch(digest, stats.size, size);
        assertHash(digest, hashes);
        await handle.sync();
        await handle.close();
        state = 'settled';
      } catch (error) {
        await abort().catch(() => undefined);
        throw error;
      }
    }
    async function commit(hashes: Hashes): Promise<void> {
      if (state !== 'settled') await settle(hashes);
      try {
        const target = fileOf(digest);
        await rename(file, target);
        onCommit(path.dirname(target));
        state = 'ended';
        running.delete(digest);
      } catch (error) {
        await abort().catch(() => undefined);
        throw error;
      }
    }
    return { digest, size, fd: handle.fd, handle, settle, commit, abort, close };
  }

  async function piecesOf(digest: Digest, size: number): Promise<readonly Piece[]> {
    const [note, there] = await Promise.all([
      readFileLimited(noteFile(digest), MAX_NOTE).catch(() => undefined),
      sizeOf(piecesFile(digest)),
    ]);
    return note && there !== undefined ? parseNote(note, Math.min(size, there)) : [];
  }

  /** What an earlier run left of a blob that comes whole now. */
  async function forget(digest: Digest): Promise<void> {
    await rm(noteFile(digest), { force: true });
    await rm(piecesFile(digest), { force: true });
  }

  return {
    get busy() {
      return running.size > 0;
    },
    piecesOf,
    async ingest(digest, size) {
      const file = nameOf(digest);
      const { settle, commit, abort, fd } = await begin(digest, size, file, async () => {
        // What an interrupted run left is not gone on with: nobody knows which of its bytes reached the disk.
        await rm(file, { force: true });
        await forget(digest);
        return openAs(file, 'wx+');
      });
      return { digest, size, fd, settle, commit, abort };
    },
    async ingestPieces(digest, size) {
      const file = piecesFile(digest);
      let there = await piecesOf(digest, size);
      const resumed = there.length > 0;
      const one = await begin(digest, size, file, async () => {
        if (!resumed) await forget(digest);
        const handle = await reopenPartial(file, constants.O_CREAT);
        await fsyncDirectory(directory);
        return handle;
      });
      return {
        digest,
        size,
        fd: one.fd,
        resumed,
        pieces: () => there,
        async note(piece) {
          await one.handle.datasync();
          await appendLine(noteFile(digest), `piece ${piece.at} ${piece.size}`);
          there = mergePieces([...there, piece]);
        },
        settle: one.settle,
        async commit(hashes) {
          await one.commit(hashes).catch(async (error: unknown) => {
            await forget(digest).catch(() => undefined);
            throw error;
          });
          await rm(noteFile(digest), { force: true });
        },
        async abort() {
          await one.abort();
          await rm(noteFile(digest), { force: true });
        },
        leave: one.close,
      };
    },
  };
}

/** @throws SealiftError `digest-mismatch` */
export function assertHash(digest: Digest, hashes: Hashes): void {
  const got = hashes[digestAlgorithm(digest)];
  if (got === undefined) throw new SealiftError('internal', `blob was not hashed: ${digest}`);
  if (got === digestHex(digest)) return;
  const found = formatDigest(digestAlgorithm(digest), got);
  throw new SealiftError('digest-mismatch', `content has another digest: got ${found}, want ${digest}`, {
    subject: digest,
    got: found,
    want: digest,
  });
}

function sizeMismatch(digest: Digest, got: number, want: number): SealiftError {
  return new SealiftError('size-mismatch', `content has another size: got ${got} bytes, want ${want}`, {
    subject: digest,
    got,
    want,
  });
}

async function sizeOf(file: string): Promise<number | undefined> {
  const { lstat } = await import('node:fs/promises');
  const stats = await lstat(file).catch(() => undefined);
  return stats?.isFile() ? stats.size : undefined;
}

async function appendLine(file: string, line: string): Promise<void> {
  const handle = await openAs(file, 'a');
  try {
    // Closes off what a torn write may have left.
    await handle.appendFile(`\n${line}\n`);
    await handle.datasync();
  } finally {
    await handle.close();
  }
}

/** Pieces within the first `size` bytes; what follows the last newline is a torn write. */
function parseNote(bytes: Uint8Array, size: number): readonly Piece[] {
  const pieces = Buffer.from(bytes)
    .toString('latin1')
    .split('\n')
    .slice(0, -1)
    .flatMap((line): Piece[] => {
      const match = LINE.exec(line);
      if (!match) return [];
      const piece = { at: Number(match[1]), size: Number(match[2]) };
      return piece.size > 0 && piece.at + piece.size <= size ? [piece] : [];
    });
  return mergePieces(pieces);
}

/** Ascending; what touches or overlaps becomes one. */
export function mergePieces(pieces: readonly Piece[]): readonly Piece[] {
  const merged: { at: number; size: number }[] = [];
  for (const { at, size } of [...pieces].sort((a, b) => a.at - b.at)) {
    const last = merged.at(-1);
    if (last && at <= last.at + last.size) last.size = Math.max(last.size, at + size - last.at);
    else merged.push({ at, size });
  }
  return merged;
}

/** What is between the pieces, before the first and behind the last. */
export function missingPieces(pieces: readonly Piece[], size: number): readonly Piece[] {
  const gaps: Piece[] = [];
  let at = 0;
  for (const piece of mergePieces(pieces)) {
    if (piece.at > at) gaps.push({ at, size: piece.at - at });
    at = Math.max(at, piece.at + piece.size);
  }
  if (at < size) gaps.push({ at, size: size - at });
  return gaps;
}
