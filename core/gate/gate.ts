/**
 * The gate: the sealed side's trust state, a directory, format 1 (docs/state.md). It keeps raw bytes and says
 * nothing about what they mean; core/trust judges them.
 *
 * Everything that writes wants the gate's lock to be held by this object.
 */
import { SealiftError } from '../errors.ts';
import type { Lock } from '../fs/lock.ts';
import type { AuditEntry, AuditEvent, AuditVerification } from './audit.ts';

/** What an operator vouched for. */
export interface Pin {
  /** SHA-256 of the canonical `signed` of the pinned root version, lower-case hex. */
  readonly fingerprint: string;
  readonly rootVersion: number;
  /** `YYYY-MM-DDTHH:MM:SSZ` */
  readonly pinnedAt: string;
  /** Names this collection may speak about; never empty: `*` stands for all. */
  readonly scopes: readonly string[];
}

export interface KeptRoot {
  readonly version: number;
  /** SHA-256 of the canonical `signed`, lower-case hex. */
  readonly fingerprint: string;
  readonly bytes: Uint8Array;
}

/** All the gate knows about one collection: the pin and the whole last metadata, byte for byte. */
export interface KeptState {
  readonly collectionId: string;
  /** For display only. */
  readonly collectionName: string;
  readonly pin: Pin;
  readonly root: KeptRoot;
  readonly timestamp?: Uint8Array | undefined;
  readonly snapshot?: Uint8Array | undefined;
  readonly targets?: Uint8Array | undefined;
  /** Delegated target roles by name. */
  readonly delegated: ReadonlyMap<string, Uint8Array>;
  /** Certificates by primary fingerprint, 40 lower-case hex digits. */
  readonly certificates: ReadonlyMap<string, Uint8Array>;
  /** `x-created` of the last accepted timestamp. */
  readonly clockFloor?: string | undefined;
  /** Version of the last accepted bundle. */
  readonly version?: number | undefined;
  /** Effective expiry of the last accepted bundle. */
  readonly expires?: string | undefined;
}

/** A step forward. What is left out stays as it is, null forgets; maps replace the whole set. */
export interface KeptChange {
  readonly collectionName?: string | undefined;
  readonly root?: KeptRoot | undefined;
  readonly timestamp?: Uint8Array | null | undefined;
  readonly snapshot?: Uint8Array | null | undefined;
  readonly targets?: Uint8Array | null | undefined;
  readonly delegated?: ReadonlyMap<string, Uint8Array> | undefined;
  readonly certificates?: ReadonlyMap<string, Uint8Array> | undefined;
  readonly clockFloor?: string | null | undefined;
  readonly version?: number | null | undefined;
  readonly expires?: string | null | undefined;
}

export interface PinRequest {
  readonly collectionId: string;
  readonly collectionName: string;
  /** The root that has the pinned fingerprint; the caller has checked that it has. */
  readonly root: KeptRoot;
  readonly certificates: ReadonlyMap<string, Uint8Array>;
  /** Empty: everything, or what it was where the collection is pinned already. */
  readonly scopes: readonly string[];
  readonly now: Date;
}

export interface PinOutcome {
  readonly state: KeptState;
  /** The collection was pinned by this fingerprint before; kept metadata stays. */
  readonly alreadyPinned: boolean;
  /** True where it was pinned before and has other scopes now. */
  readonly scopesChanged: boolean;
}

export interface AuditInput {
  readonly now: Date;
  readonly actor: string;
  readonly event: AuditEvent;
  /** What the event is about; plain JSON without floats. Texts from outside are made inert here. */
  readonly fields?: AuditEntry['fields'] | undefined;
}

export interface Gate {
  readonly directory: string;
  /** @throws SealiftError `destination-locked` */
  lock(pid: number): Promise<Lock>;
  /** Every pinned collection, by id. */
  collections(): Promise<readonly KeptState[]>;
  /** @throws SealiftError `state-damaged`, `format-unsupported` */
  kept(collectionId: string): Promise<KeptState | undefined>;
  /**
   * Pins a root. Writes no audit entry; the caller does.
   * @throws SealiftError `scope-conflict`; `invalid-argument` for a malformed scope; `pin-mismatch` where the
   * collection is pinned by another fingerprint
   */
  pin(request: PinRequest): Promise<PinOutcome>;
  /**
   * Keeps a verified step, durably: after a crash at any point the old state is there, or the new.
   * @throws SealiftError `not-pinned`
   */
  save(collectionId: string, change: KeptChange): Promise<KeptState>;
  /** Appends an entry; resolves to the new head of the log when it is durable. */
  audit(entry: AuditInput): Promise<string>;
  /** SHA-256 of the last line of the audit log, 64 zeros where it is empty. */
  auditHead(): Promise<string>;
  /** Walks the whole audit log. */
  verifyAudit(): Promise<AuditVerification>;
}

export interface GateOptions {
  /** Makes the gate where there is none. */
  readonly create: boolean;
}

/**
 * @throws SealiftError `not-pinned` where there is no gate and none is to be made; `format-unsupported`,
 * `state-damaged`
 */
export async function openGate(directory: string, options: GateOptions): Promise<Gate> {
  throw new SealiftError('internal', 'not built yet', { subject: `${directory} ${options.create}` });
}
