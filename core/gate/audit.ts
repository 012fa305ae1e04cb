/** The audit log, format 1 (docs/state.md): JSON lines, each with the hash of the line before. */
import type { JsonObject } from '../json/strict.ts';

export type AuditEvent =
  | 'pin'
  | 'scopes'
  | 'trust-moved'
  | 'import'
  | 'refused'
  | 'removed'
  | 'gc'
  | 'weakened'
  | 'log-damaged';

export interface AuditEntry {
  /** SHA-256 of the line before without its newline, lower-case hex; 64 zeros in the first. */
  readonly prev: string;
  /** From 1, without gaps. */
  readonly seq: number;
  /** `YYYY-MM-DDTHH:MM:SSZ` */
  readonly at: string;
  readonly actor: string;
  readonly event: AuditEvent;
  readonly fields: JsonObject;
}

export interface AuditVerification {
  readonly entries: number;
  readonly head: string;
  /** Lines that broke off while they were written; each was kept aside and an entry of the log says so. */
  readonly damaged: readonly string[];
  /** What is wrong, in words, with the number of the line; empty where the chain is whole. */
  readonly problems: readonly { readonly line: number; readonly problem: string }[];
}
