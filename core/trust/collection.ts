/** The connected side's collection: a directory that is a TUF repository, with its keys. */
import type { Lock } from '../fs/lock.ts';
import type { Limits } from '../limits.ts';
import type { CollectionSummary } from '../results.ts';
import type { Signer } from './signer.ts';

export interface CreateCollectionOptions {
  readonly directory: string;
  readonly name: string;
  readonly keys: 'openpgp' | 'native';
  readonly passphrase: string;
  readonly recoveryPassphrase: string;
  /** Where the recovery key goes; it belongs on another medium. */
  readonly recoveryFile: string;
  /** User id of the OpenPGP keys; the name of the collection unless given. */
  readonly userId?: string | undefined;
  readonly created: Date;
  /** Milliseconds; the profile's defaults unless given. */
  readonly lifetimes?:
    | {
        readonly root?: number;
        readonly targets?: number;
        readonly images?: number;
        readonly timestamp?: number;
      }
    | undefined;
  /** For tests; 3072 unless given. */
  readonly rsaBits?: number | undefined;
  readonly limits: Limits;
}

export interface ImageTarget {
  readonly length: number;
  /** Lower-case hex. */
  readonly sha256: string;
  readonly sha512?: string | undefined;
  readonly mediaType: string;
}

/** A file of the bundle below `metadata/`. `bytes` is undefined while it is still to be signed. */
export interface StagedFile {
  /** Entry name, `metadata/…`. */
  readonly name: string;
  readonly bytes: Uint8Array | undefined;
}

export interface FinishedFile {
  readonly name: string;
  readonly bytes: Uint8Array;
}

export interface StageOptions {
  /** From `reserveVersion()`. */
  readonly version: number;
  readonly created: Date;
  /** Milliseconds from created to the expiry of timestamp, snapshot and bundles. */
  readonly lifetimeMs: number;
  /** Names added or moved; names not given stay. */
  readonly images: ReadonlyMap<string, ImageTarget>;
}

export interface StagedCollection {
  readonly version: number;
  /** Every metadata entry of the bundle in its order; those signed later without bytes. */
  readonly metadataFiles: readonly StagedFile[];
  /** Signs bundles, snapshot, timestamp. */
  finish(bundleManifest: Uint8Array): Promise<FinishedCollection>;
}

export interface FinishedCollection {
  /** In the bundle's order. */
  readonly files: readonly FinishedFile[];
  readonly summary: CollectionSummary;
}

export interface Collection {
  readonly directory: string;
  readonly id: string;
  readonly name: string;
  readonly created: Date;
  readonly keys: 'openpgp' | 'native';
  /** Certificates by fingerprint. */
  readonly certificates: ReadonlyMap<string, Uint8Array>;
  /** What to pin: the fingerprint of the newest root. */
  readonly rootFingerprint: string;
  readonly rootVersion: number;
  /** All names and what they are bound to. */
  readonly images: ReadonlyMap<string, ImageTarget>;
  summary(): CollectionSummary;
  /** Held while a version is reserved, staged and published. */
  lock(pid: number): Promise<Lock>;
  /** Raises the counter durably; a number is never given twice. Hold the lock. */
  reserveVersion(): Promise<number>;
  /** @throws SealiftError `passphrase-needed` where the passphrase is wrong */
  unlock(passphrase: string): Promise<Signer>;
  stage(options: StageOptions, signer: Signer): Promise<StagedCollection>;
  /** Makes these the collection's current metadata, in one step. Hold the lock. Returns the collection reopened. */
  publish(files: readonly FinishedFile[]): Promise<Collection>;
}

/** @throws SealiftError `collection-exists`, `destination-exists` */
export async function createCollection(_options: CreateCollectionOptions): Promise<Collection> {
  throw new Error('not yet');
}

/** @throws SealiftError `collection-not-found`, `state-damaged` */
export async function openCollection(_directory: string, _limits: Limits): Promise<Collection> {
  throw new Error('not yet');
}
