/**
 * Progress as a stream of typed events, format 1 (docs/json-output.md). The text output, the JSON output
 * and the TUI are readers of the same events; a workflow never prints.
 */

import type { KindCount } from './evidence/kinds.ts';

/** The named checks of a verification and an import, in order. */
export const CHECKS = [
  'format',
  'root-chain',
  'timestamp',
  'snapshot',
  'targets',
  'bundle-manifest',
  'derived-files',
  'base',
  'manifests',
  'evidence',
  'policy',
  'approvals',
  'space',
  'layers',
  'commit',
] as const;
export type CheckName = (typeof CHECKS)[number];

export type SealiftEvent =
  /** A part of the work begins. `phase` is stable, `title` is for people. */
  | { readonly type: 'phase'; readonly phase: string; readonly title: string }
  /** A named check has an answer. */
  | {
      readonly type: 'check';
      readonly check: CheckName;
      readonly status: 'passed' | 'failed' | 'skipped';
      readonly detail: string;
    }
  /** An image was resolved at its source. */
  | {
      readonly type: 'image';
      readonly name: string;
      readonly digest: string;
      readonly platforms: readonly string[];
      readonly size: number;
      readonly evidence: number;
      /** What it is, with the attestations that are part of an index and not counted in `evidence`. */
      readonly evidenceKinds?: readonly KindCount[] | undefined;
    }
  /** The size of the transfer is known. */
  | {
      readonly type: 'transfer';
      readonly bytes: number;
      readonly blobs: number;
      readonly skippedBytes: number;
    }
  | {
      readonly type: 'blob';
      readonly state: 'started' | 'progress' | 'done';
      readonly digest: string;
      /** Bytes of this blob moved so far. */
      readonly bytes: number;
      readonly size: number;
    }
  /** Something worth a line: a retry, a resume, a weakened check. */
  | {
      readonly type: 'notice';
      readonly level: 'info' | 'warning';
      readonly code: string;
      readonly message: string;
    };

export type EventSink = (event: SealiftEvent) => void;
