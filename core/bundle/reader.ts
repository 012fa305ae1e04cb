/** Reads bundles: a file at random access, or a stream in one pass. Nothing here trusts what it reads. */
import type { Readable } from 'node:stream';
import { SealiftError } from '../errors.ts';
import type { Limits } from '../limits.ts';
import type { WorkerPool } from '../pool/pool.ts';
import type { BundleLayout } from './layout.ts';
import type { BlobKind, BundleManifest } from './manifest.ts';

export interface ReadOptions {
  readonly limits: Limits;
  readonly signal: AbortSignal;
  readonly pool: WorkerPool;
}

export interface HeadEntry {
  readonly name: string;
  readonly size: number;
  readonly headerOffset: number;
  readonly contentOffset: number;
  readonly bytes: Uint8Array;
}

/** All files before the blobs with their raw bytes. Canonical as tar, in order, within the caps; otherwise unchecked. */
export interface BundleHead {
  readonly files: ReadonlyMap<string, HeadEntry>;
  /** Time of all headers, seconds since 1970. */
  readonly mtime: number;
  /** Bytes of the head. */
  readonly size: number;
  readonly ociLayout: Uint8Array;
  readonly readme: Uint8Array;
  readonly certificates: readonly { readonly fingerprint: string; readonly bytes: Uint8Array }[];
  /** Ascending from version 1. */
  readonly roots: readonly { readonly version: number; readonly bytes: Uint8Array }[];
  readonly timestamp: Uint8Array;
  readonly snapshot: { readonly version: number; readonly bytes: Uint8Array };
  readonly targets: { readonly version: number; readonly bytes: Uint8Array };
  /** In archive order. */
  readonly delegated: readonly {
    readonly role: string;
    readonly version: number;
    readonly bytes: Uint8Array;
  }[];
  /** sealift.json */
  readonly manifest: Uint8Array;
  readonly sha256Sums: Uint8Array;
  readonly sha512Sums?: Uint8Array | undefined;
  readonly sha256SumsSignature?: Uint8Array | undefined;
  readonly index: Uint8Array;
  readonly dockerManifest?: Uint8Array | undefined;
}

export interface BlobInfo {
  readonly name: string;
  readonly size: number;
  /** Lower-case hex; absent for blobs named by sha512. */
  readonly sha256?: string | undefined;
  readonly kind: BlobKind;
}

export interface BlobPlace extends BlobInfo {
  readonly fd: number;
  readonly offset: number;
}

export interface FileBundle {
  readonly kind: 'file';
  readonly head: BundleHead;
  /** Bytes of the file. */
  readonly size: number;
  /** Check 4 for the head (checkHead); needed before blobs can be asked for. */
  accept(manifest: BundleManifest): void;
  /** Headers, paddings, end blocks, end of file: every byte that is no content of a blob. */
  verifyFrame(): Promise<void>;
  /** Where a blob lies; undefined where the bundle has none of that name (`blobs/ALG/HEX`). */
  blob(name: string): BlobPlace | undefined;
  /** A whole blob, at most `max` bytes, its hash checked. */
  readBlob(name: string, max: number): Promise<Buffer>;
  /** @throws SealiftError where the file is not as it was when it was opened */
  assertUnchanged(): Promise<void>;
  close(): Promise<void>;
}

export interface StreamBlob extends BlobInfo {
  /** Exactly `size` bytes, not hashed here. Once only. */
  readonly content: AsyncIterable<Uint8Array>;
  /** The content as a whole, at most `max` bytes, its hash checked. */
  bytes(max: number): Promise<Buffer>;
  /** Reads over the content, checking its hash. */
  skip(): Promise<void>;
}

export interface StreamBundle {
  readonly kind: 'stream';
  readonly head: BundleHead;
  accept(manifest: BundleManifest): void;
  /**
   * The next blob; a content that was not touched is skipped with its hash checked. Undefined after the last
   * one, when end blocks and end of stream have been checked too.
   */
  nextBlob(): Promise<StreamBlob | undefined>;
  /** The blobs still to come: `small` stops before the first layer, else to the end. May be left and called again. */
  blobs(which?: 'small' | 'all'): AsyncIterable<StreamBlob>;
  close(): Promise<void>;
}

export type BundleReader = FileBundle | StreamBundle;

/** Check 4 over the head. Returns the layout of the whole archive. */
export function checkHead(_head: BundleHead, _manifest: BundleManifest): BundleLayout {
  throw new SealiftError('internal', 'not made yet');
}

/** `manifest.json` is what follows from the one image; nothing to do where there is none. */
export function checkDockerManifest(
  _head: BundleHead,
  _image: { readonly name: string; readonly config: string; readonly layers: readonly string[] },
): void {
  throw new SealiftError('internal', 'not made yet');
}

export async function openBundleFile(_file: string, _options: ReadOptions): Promise<FileBundle> {
  throw new SealiftError('internal', 'not made yet');
}

export async function openBundleStream(
  _stream: Readable | AsyncIterable<Uint8Array>,
  _options: ReadOptions,
): Promise<StreamBundle> {
  throw new SealiftError('internal', 'not made yet');
}
