/** What a place that images are published to can do. The engine (apply.ts) decides what is done, and in which order. */
import type { Context } from '../context.ts';
import type { Digest } from '../oci/digest.ts';

/** An object that is there. */
export interface Listed {
  readonly size: number;
  /** Whatever the destination wants to know again. */
  readonly etag?: string | undefined;
}

/** What is to be put at a key. */
export interface ObjectToPut {
  readonly key: string;
  readonly mediaType: string;
  readonly size: number;
  readonly digest: Digest;
  /** False for what is named by its digest and never changes. */
  readonly mutable: boolean;
}

/**
 * How an object was found to be right, strongest first: read whole and hashed here; the server has its SHA-256; the server
 * has its MD5, and that is the one of the blob at hand; it has the right size.
 */
export type Proof = 'content' | 'checksum' | 'etag' | 'size';

export interface Examined {
  readonly proof?: Proof | undefined;
  /** Instead of a proof. */
  readonly fault?: 'missing' | 'wrong' | undefined;
  readonly detail?: string | undefined;
}

/** Where blobs come from. */
export interface BlobSource {
  /** Whether it can be opened; all of them where this is not there. */
  has?(digest: Digest): Promise<boolean>;
  /** The file that holds the blob and nothing else, where it is known without looking whether it is there. */
  fileOf?(digest: Digest): string | undefined;
  /** @throws SealiftError `blob-missing` */
  open(digest: Digest): Promise<OpenBlob>;
  /** A small blob, whole and verified. */
  read(digest: Digest, max: number): Promise<Uint8Array>;
}

/** What is to be put at several keys; all have one digest and size. */
export type SmallBlob = readonly [ObjectToPut, ...ObjectToPut[]];

/** A blob to be read from `offset`; the descriptor is open until `close`. */
export interface OpenBlob {
  readonly fd: number;
  readonly offset: number;
  readonly size: number;
  /** The file, where it holds nothing but the blob. */
  readonly file?: string | undefined;
  close(): Promise<void>;
}

export interface Destination {
  /** As it was written, for reports: `static:/srv/images`. */
  readonly location: string;
  /** Tells it from every other destination: the location, and at which server. */
  readonly identity: string;
  /** Whatever serves it answers the referrers API for every manifest, with nothing where nothing is put. */
  readonly hasReferrersApi: boolean;
  /** Takes the destination for this run alone, as far as it can, and clears what an interrupted run left. */
  lock(): Promise<void>;
  /** Refuses what cannot be held here, before anything is written. @throws SealiftError `invalid-argument`, `destination-failed` */
  check(keys: readonly string[]): Promise<void>;
  /** Everything whose key begins with one of the prefixes; `v2/` itself is not listed. */
  list(prefixes: readonly string[]): Promise<Map<string, Listed>>;
  /** Whether exactly this content, under this type, is at the key: by its digest, never by size or time. */
  holds(object: ObjectToPut, listed: Listed | undefined): Promise<boolean>;
  /** Finds out whether the object is there and right; documents are always read, blobs where `deep` says so. */
  examine(
    object: ObjectToPut,
    listed: Listed | undefined,
    options: { readonly deep: boolean; readonly source?: BlobSource | undefined },
  ): Promise<Examined>;
  /** A small object; undefined where there is none. @throws SealiftError `destination-failed` above `max` bytes */
  read(key: string, max: number): Promise<Buffer | undefined>;
  /** Puts a blob, which is hashed on its way. @throws SealiftError `digest-mismatch` where the source is damaged */
  putBlob(object: ObjectToPut, source: BlobSource, progress: (bytes: number) => void): Promise<void>;
  /**
   * Puts small blobs (`PLACE_MAX`), each at all its keys, and hashes each on its way. Absent where many at once are no faster
   * than one after the other.
   * @throws SealiftError `blob-missing`; `digest-mismatch` where the source is damaged. Others may have been put then.
   */
  putSmall?(blobs: readonly SmallBlob[], source: BlobSource): Promise<void>;
  /** Puts a blob that is at another key already. False where that is not possible; then it is sent. */
  copyBlob(from: string, object: ObjectToPut): Promise<boolean>;
  /** Puts a document in one step: readers see the old one or the new one. */
  putDocument(object: ObjectToPut, bytes: Uint8Array): Promise<void>;
  /** Makes everything put so far durable. */
  flush(): Promise<void>;
  remove(keys: readonly string[]): Promise<void>;
  /** Bytes that can still be put; undefined where nobody knows. */
  freeBytes(): Promise<number | undefined>;
  /** Documents for the people who run it, such as configurations of web servers; part of what a sync keeps up to date. */
  companions(
    objects: readonly ObjectToPut[],
    options?: { readonly ownTagsOnly?: boolean },
  ): Promise<ReadonlyMap<string, Companion>>;
  close(): Promise<void>;
}

export interface Companion {
  readonly bytes: Uint8Array;
  readonly mediaType: string;
}

/** Opens a destination. Nothing is read or written before `lock` or `list`. */
export type OpenDestination = (context: Context) => Promise<Destination>;
