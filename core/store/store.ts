/**
 * The store: a directory that is an OCI image layout (`oci:DIR:NAME` for skopeo), format 1 (docs/state.md), filled
 * only through a gate. Blobs, then their directories, then the records of what was let in, then index.json: after a
 * crash at any point index.json names only what is whole.
 *
 * Everything that writes wants the store's lock to be held by this object.
 */
import { SealiftError } from '../errors.ts';
import type { Lock } from '../fs/lock.ts';
import type { Limits } from '../limits.ts';
import type { Digest } from '../oci/digest.ts';
import type { Hashes } from '../pool/pool.ts';
import type { GarbageResult } from '../results.ts';

export interface EvidenceRecord {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly artifactType: string;
  /** Bytes of the evidence manifest. */
  readonly size: number;
  readonly subject: Digest;
}

/** What was let in under a name, and on whose word. */
export interface ImageRecord {
  /** Full name: `docker.io/library/alpine:3.20`. */
  readonly name: string;
  readonly digest: Digest;
  readonly mediaType: string;
  /** Bytes of the manifest itself. */
  readonly size: number;
  /** Bytes of all distinct blobs of the image, without evidence. */
  readonly contentSize: number;
  readonly platforms: readonly string[];
  /** Children of an index that were not carried. */
  readonly omitted: readonly Digest[];
  readonly evidence: readonly EvidenceRecord[];
  readonly collectionId: string;
  readonly bundleVersion: number;
  /** The role that answered for the name. */
  readonly role: string;
  /** `YYYY-MM-DDTHH:MM:SSZ`, as is `trustExpires`. */
  readonly importedAt: string;
  /** When the trust it was let in on expires. */
  readonly trustExpires: string;
}

/** A name in index.json that came in through no gate, and why it is taken for such. */
export interface NotAdmitted {
  readonly name: string;
  readonly digest: string;
  readonly reason: string;
}

export interface StoreListing {
  /** Ascending by name. */
  readonly images: readonly ImageRecord[];
  readonly notAdmitted: readonly NotAdmitted[];
}

/** A blob on its way in. Its file is in quarantine until `commit`. */
export interface Ingest {
  readonly digest: Digest;
  readonly size: number;
  /** Open for reading and writing, empty. Write from offset 0. */
  readonly fd: number;
  /**
   * Takes the blob in where size and hash are right; closes `fd`. Durable after the next `sync()` or `admit()`.
   * @throws SealiftError `digest-mismatch`, `size-mismatch`; the quarantined file is gone then
   */
  commit(hashes: Hashes): Promise<void>;
  /** Gives up and removes the quarantined file; safe to call at any time, also after commit. */
  abort(): Promise<void>;
}

export interface Store {
  readonly directory: string;
  /** @throws SealiftError `destination-locked` */
  lock(pid: number): Promise<Lock>;
  /** Whether the blob is there with that size; its content is believed (see `verifyBlob`). */
  has(digest: Digest, size: number): Promise<boolean>;
  /** Reads and hashes a blob that is there. A wrong one is removed (where the lock is held), and false is the answer. */
  verifyBlob(digest: Digest, size: number, signal?: AbortSignal): Promise<boolean>;
  /** Begins to take a blob in. Nothing else may be ingesting the same digest. */
  ingest(digest: Digest, size: number): Promise<Ingest>;
  /** Takes in a blob that is in memory. @throws SealiftError `digest-mismatch` */
  putBytes(digest: Digest, bytes: Uint8Array): Promise<void>;
  /** Makes all blobs taken in so far durable. */
  sync(): Promise<void>;
  /**
   * Lets images in: their records, then index.json in one step. A name that is there is moved. Wants all blobs to be there;
   * calls `sync` first.
   * @throws SealiftError `blob-missing` for a manifest that is not there
   */
  admit(images: readonly ImageRecord[]): Promise<void>;
  /** Takes names out; their blobs stay until `gc`. Resolves to the names that were there. */
  withdraw(names: readonly string[]): Promise<readonly string[]>;
  list(): Promise<StoreListing>;
  /** One admitted image by its full name. */
  image(name: string): Promise<ImageRecord | undefined>;
  /**
   * A whole blob of at most `max` bytes, its digest checked.
   * @throws SealiftError `blob-missing`, `digest-mismatch`, `size-mismatch`
   */
  readBlob(digest: Digest, max: number): Promise<Buffer>;
  /** Bytes free for an ordinary user on the store's file system. */
  freeBytes(): Promise<number>;
  /**
   * Removes blobs no image needs, and quarantined leftovers.
   * @throws SealiftError `state-damaged` where an image's manifest is missing or does not parse: nothing is removed then
   */
  gc(options: { readonly dryRun: boolean; readonly keep?: readonly Digest[] | undefined }): Promise<GarbageResult>;
}

export interface StoreOptions {
  /** Makes the store where there is none. */
  readonly create: boolean;
  readonly limits?: Limits | undefined;
}

/** @throws SealiftError `store-not-found`, `layout-invalid`, `format-unsupported`, `state-damaged` */
export async function openStore(directory: string, options: StoreOptions): Promise<Store> {
  throw new SealiftError('internal', 'not built yet', { subject: `${directory} ${options.create}` });
}
