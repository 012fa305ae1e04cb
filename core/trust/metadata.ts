/** Strict, typed TUF metadata (docs/tuf-profile.md; specification section 4). */

import type { JsonObject } from '../json/strict.ts';
import type { Limits } from '../limits.ts';
import type { TufKey } from './keys.ts';

export type MetadataType = 'root' | 'timestamp' | 'snapshot' | 'targets';

export interface ParseOptions {
  /** Role name, for messages. */
  readonly role: string;
  readonly limits: Limits;
  /** The profile of collections; false reads any TUF repository. */
  readonly strict: boolean;
}

export interface Metadata {
  readonly type: MetadataType;
  /** The file as it was read. */
  readonly bytes: Uint8Array;
  /** Canonical form of `signed`: what is signed, and what is hashed for pins. */
  readonly signedBytes: Uint8Array;
  readonly signed: JsonObject;
  /** sig by key id. */
  readonly signatures: ReadonlyMap<string, string>;
  readonly version: number;
  readonly expires: Date;
}

export interface RoleKeys {
  readonly keyids: readonly string[];
  readonly threshold: number;
}

export interface RootMetadata extends Metadata {
  readonly type: 'root';
  readonly consistentSnapshot: boolean;
  readonly keys: ReadonlyMap<string, TufKey>;
  readonly roles: Readonly<Record<MetadataType, RoleKeys>>;
}

/** What timestamp and snapshot say of a file. */
export interface MetaEntry {
  readonly version: number;
  readonly length?: number | undefined;
  /** Lower-case hex by algorithm. */
  readonly hashes: ReadonlyMap<string, string>;
}

export interface TimestampMetadata extends Metadata {
  readonly type: 'timestamp';
  readonly snapshot: MetaEntry;
  /** `x-created`; always there in the strict profile. */
  readonly created?: Date | undefined;
}

export interface SnapshotMetadata extends Metadata {
  readonly type: 'snapshot';
  /** By role name, without `.json`. */
  readonly meta: ReadonlyMap<string, MetaEntry>;
}

export interface Target {
  readonly length: number;
  readonly hashes: ReadonlyMap<string, string>;
  readonly custom?: JsonObject | undefined;
}

export interface Tombstone {
  readonly name: string;
  readonly digest: string;
  readonly reason: string;
  readonly at: string;
}

export interface Delegation extends RoleKeys {
  readonly name: string;
  readonly terminating: boolean;
  readonly paths: readonly string[];
  /** Only outside the strict profile. */
  readonly pathHashPrefixes?: readonly string[] | undefined;
}

export interface Delegations {
  readonly keys: ReadonlyMap<string, TufKey>;
  readonly roles: readonly Delegation[];
}

export interface TargetsMetadata extends Metadata {
  readonly type: 'targets';
  readonly targets: ReadonlyMap<string, Target>;
  readonly delegations?: Delegations | undefined;
  readonly withdrawn: readonly Tombstone[];
}

const todo = (): never => {
  throw new Error('not yet');
};

/** @throws SealiftError `metadata-malformed`, `json-*` */
export function parseRoot(_bytes: Uint8Array, _options: ParseOptions): RootMetadata {
  return todo();
}
export function parseTimestamp(_bytes: Uint8Array, _options: ParseOptions): TimestampMetadata {
  return todo();
}
export function parseSnapshot(_bytes: Uint8Array, _options: ParseOptions): SnapshotMetadata {
  return todo();
}
export function parseTargets(_bytes: Uint8Array, _options: ParseOptions): TargetsMetadata {
  return todo();
}
/** SHA-256 of the canonical `signed` of a root, lower-case hex: its fingerprint, what is pinned. */
export function rootFingerprint(_root: RootMetadata): string {
  return todo();
}
