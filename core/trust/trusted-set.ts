/**
 * The client workflow of TUF (specification section 5) as an ordered state machine over bytes that were read
 * already. It opens nothing and reads no clock.
 */
import type { Limits } from '../limits.ts';
import type { RoleSummary } from '../results.ts';
import type { RootMetadata, SnapshotMetadata, TargetsMetadata, TimestampMetadata } from './metadata.ts';

/** What the gate stores: raw files, exactly as they were verified. */
export interface KeptMetadata {
  readonly root: Uint8Array;
  readonly timestamp?: Uint8Array | undefined;
  readonly snapshot?: Uint8Array | undefined;
  readonly targets?: Uint8Array | undefined;
  /** Delegated roles by name. */
  readonly delegated: ReadonlyMap<string, Uint8Array>;
  /** Certificates by fingerprint, merged over all that was ever seen: a revocation stays. */
  readonly certificates: ReadonlyMap<string, Uint8Array>;
  /** The clock floor; undefined where there is none (yet, or any more). */
  readonly floor?: Date | undefined;
}

export interface TrustedSetOptions {
  /** The one reading of the host's clock. */
  readonly now: Date;
  readonly limits: Limits;
  /** The profile of collections; false reads any TUF repository. Default true. */
  readonly strictProfile?: boolean | undefined;
  readonly allowClockJump?: boolean | undefined;
  /** Certificates of the bundle, binary. */
  readonly certificates?: readonly Uint8Array[] | undefined;
}

/** Metadata files by their name below `metadata/`: `3.root.json`, `timestamp.json`, `7.images.json`. */
export type MetadataFiles = ReadonlyMap<string, Uint8Array>;

export type TrustStep = 'root' | 'timestamp' | 'snapshot' | 'targets' | 'delegated';

const todo = (): never => {
  throw new Error('not yet');
};

export class TrustedSet {
  /**
   * Starts from a pin: the candidate whose fingerprint equals it, which must carry its own threshold.
   * @throws SealiftError `pin-mismatch`
   */
  static async fromPin(
    _pin: string,
    _roots: readonly Uint8Array[],
    _options: TrustedSetOptions,
  ): Promise<TrustedSet> {
    return todo();
  }
  /** Starts from what was kept. */
  static async fromKept(_kept: KeptMetadata, _options: TrustedSetOptions): Promise<TrustedSet> {
    return todo();
  }

  get root(): RootMetadata {
    return todo();
  }
  get timestamp(): TimestampMetadata | undefined {
    return todo();
  }
  get snapshot(): SnapshotMetadata | undefined {
    return todo();
  }
  get targets(): TargetsMetadata | undefined {
    return todo();
  }
  /** Verified delegated roles by name. */
  get delegated(): ReadonlyMap<string, TargetsMetadata> {
    return todo();
  }
  /** Time of the run: the later of the host's clock and the floor. */
  get time(): Date {
    return todo();
  }
  /** Collection id as the path of the bundles role has it; undefined before targets, or where there is none. */
  get collectionId(): string | undefined {
    return todo();
  }
  /** What to store now. Call it after each step. */
  kept(): KeptMetadata {
    return todo();
  }

  /** 5.3.3 to 5.3.9: the next root. */
  async updateRoot(_bytes: Uint8Array): Promise<void> {
    todo();
  }
  /** 5.3.10, 5.3.11: no more roots. */
  async finishRoots(): Promise<void> {
    todo();
  }
  /** 5.4. `same` where the version and content are those kept. */
  async updateTimestamp(_bytes: Uint8Array): Promise<'new' | 'same'> {
    return todo();
  }
  async updateSnapshot(_bytes: Uint8Array): Promise<void> {
    todo();
  }
  async updateTargets(_bytes: Uint8Array): Promise<void> {
    todo();
  }
  /** One delegated role, verified against this delegator. */
  async updateDelegated(_role: string, _delegator: string, _bytes: Uint8Array): Promise<void> {
    todo();
  }
  /** Earliest of all metadata and of the certificates that count. */
  effectiveExpiry(): Date {
    return todo();
  }
  /** Roles in order root, timestamp, snapshot, targets, delegated in search order. */
  roleSummaries(): readonly RoleSummary[] {
    return todo();
  }
}

/**
 * The whole workflow over the files of a bundle: remaining roots, timestamp, snapshot, targets, every delegated
 * role reachable. `onStep` is awaited after each step, to store `set.kept()` before the next begins.
 */
export async function advance(
  _set: TrustedSet,
  _files: MetadataFiles,
  _onStep: (step: TrustStep, detail: string) => Promise<void>,
): Promise<void> {
  todo();
}
