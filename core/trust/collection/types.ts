/** What a collection offers, and what it is asked for. */
import type { Lock } from '../../fs/lock.ts';
import type { CollectionSummary } from '../../results.ts';
import type { KeyAccess } from '../../workflow-options.ts';
import type { TargetsMetadata } from '../metadata.ts';
import type { Signer } from '../signer.ts';
import type { CollectionState } from './state.ts';

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
  /** Signs bundles, snapshot, timestamp; checks the whole as a gate would. */
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
  /** What to pin: the fingerprint of the newest root that a bundle has. */
  readonly rootFingerprint: string;
  readonly rootVersion: number;
  /** All names and what they are bound to. */
  readonly images: ReadonlyMap<string, ImageTarget>;
  /** The current metadata, what is staged included. */
  readonly state: CollectionState;
  /** Number of what waits for the next bundle; absent where nothing does. */
  readonly stagedVersion: number | undefined;
  summary(): Promise<CollectionSummary>;
  /** Held while a version is reserved, staged and published. */
  lock(pid: number): Promise<Lock>;
  /** Raises the counter durably; a number is never given twice. Hold the lock. */
  reserveVersion(): Promise<number>;
  /**
   * Opens the collection's key.
   * @throws SealiftError `passphrase-needed` where the passphrase is wrong, `signature-needed` where the key is elsewhere
   */
  unlock(passphrase: string): Promise<Signer>;
  /**
   * Opens keys that lie in keys/, for each of `roles` as many as its threshold asks for. Fewer where the others are
   * elsewhere: whoever signs says what is missing. A passphrase that opened one key is tried on the next.
   * @param leaving key ids that are opened only where there are no others
   * @throws SealiftError `passphrase-needed`, and what `openGpgSigner` throws of keys that gpg holds
   */
  keyring(
    roles: readonly string[],
    access: KeyAccess,
    leaving?: ReadonlySet<string>,
  ): Promise<readonly Signer[]>;
  /**
   * Keeps signed roots and target roles until the next bundle takes them along; all or none. Hold the lock.
   * @throws SealiftError what a gate would say of them: `root-chain-broken`, `signature-threshold` and its kin
   */
  stageRoles(change: RoleChange): Promise<Collection>;
  /**
   * Signs what names the images. A role is signed anew when its names change, and when it would end before the
   * new timestamp although the signer could renew it.
   * @throws SealiftError `metadata-expired` where a role would end before the timestamp, `signature-needed` where
   * another key is needed, `lifetime-too-long`, `invalid-argument`
   */
  stage(options: StageOptions, signers: Signer | readonly Signer[]): Promise<StagedCollection>;
  /**
   * Makes these the collection's current metadata: timestamp.json is replaced last, and until then a reader sees
   * the old state. Hold the lock. Returns the collection reopened. The same files again change nothing.
   * @throws SealiftError `rollback` where the collection has moved on since they were staged
   */
  publish(files: readonly FinishedFile[]): Promise<Collection>;
}

/** Signed files that are to replace the current ones of their roles. */
export interface RoleChange {
  /** From `reserveVersion()`. */
  readonly version: number;
  readonly created: Date;
  /** Further roots, ascending; before them earlier ones to which a signature was added. */
  readonly roots?: readonly Uint8Array[] | undefined;
  /** Targets and delegated roles by name, parsed where they have been; each with a version it has not had yet. */
  readonly roles?: ReadonlyMap<string, Uint8Array | TargetsMetadata> | undefined;
  /** Certificates of keys that are new, by fingerprint. */
  readonly certificates?: ReadonlyMap<string, Uint8Array> | undefined;
}
