/**
 * Result objects of the workflows, format 1 (docs/json-output.md): what `--json` prints, what the text output
 * and the TUI show. Plain data, no classes; new fields may be added at any time.
 */

import type { CheckedImage } from './admission/check-command.ts';
import type { ReceiptContent } from './delta/receipt.ts';
import type { ImageFailure } from './errors.ts';
import type { CheckName } from './events.ts';
import type { ContentTrustClaims } from './evidence/content-trust/claims.ts';
import type { EvidenceKind, KindCount } from './evidence/kinds.ts';
import type { DeviceFacts } from './fs/device.ts';

/** The five states an image can be in, and no others. */
export type Verdict = 'verified' | 'carried' | 'unsigned' | 'invalid' | 'expired';

export interface CheckResult {
  readonly check: CheckName;
  readonly status: 'passed' | 'failed' | 'skipped';
  /** What was found, in words. */
  readonly detail: string;
}

export interface RoleSummary {
  readonly role: string;
  readonly version: number;
  readonly expires: string;
  readonly threshold: number;
  readonly keys: readonly KeySummary[];
}

export interface KeySummary {
  readonly keyId: string;
  readonly type: string;
  /** Fingerprint of an OpenPGP primary key; absent for native keys. */
  readonly fingerprint?: string | undefined;
  readonly userId?: string | undefined;
  /** When the certificate ends; absent where it never does. */
  readonly expires?: string | undefined;
}

/** An OpenPGP key that ends within 90 days, or has. */
export interface ExpiringKey {
  readonly fingerprint: string;
  readonly userId: string;
  /** When nothing of it can sign any more. */
  readonly expires: string;
  readonly expired: boolean;
  /** What it signs. */
  readonly roles: readonly string[];
}

/** What the keys that sign each export could do besides. */
export interface CarrierReach {
  /** They meet the threshold of root: they can replace any key. */
  readonly root: boolean;
  /** They meet that of targets: they can take any namespace over. */
  readonly targets: boolean;
  /** `images` with the empty prefix is that of all other names. */
  readonly namespaces: readonly {
    readonly role: string;
    readonly prefix: string;
    /** By their own keys, or by putting those in the place of the holders'. */
    readonly canSign: boolean;
  }[];
}

export interface CollectionSummary {
  readonly id: string;
  readonly name: string;
  readonly version: number;
  readonly created: string;
  /** Effective expiry: the earliest of all metadata and certificates. */
  readonly expires: string;
  /** Hash of the newest root: what to pin. */
  readonly rootFingerprint: string;
  readonly rootVersion: number;
  readonly roles: readonly RoleSummary[];
  readonly carrier?: CarrierReach | undefined;
}

export interface EvidenceSummary {
  readonly digest: string;
  readonly artifactType: string;
  /** What it is, as far as its type tells. */
  readonly kind?: EvidenceKind | undefined;
  readonly subject: string;
  readonly via: string;
  /** The tag that says what it is about, where it has one: `sha256-HEX.sig`. */
  readonly tag?: string | undefined;
  readonly size: number;
  /** `carried` until a verifier of its format has judged it. */
  readonly state: 'verified' | 'carried' | 'invalid' | 'expired';
  /** Why, in words; absent for what was not judged, like all below. */
  readonly reason?: string | undefined;
  readonly format?: string | undefined;
  /** Fingerprint of the key that signed. */
  readonly signer?: string | undefined;
  /** The name the signature is for. */
  readonly claimedName?: string | undefined;
  readonly signedAt?: string | undefined;
  readonly expires?: string | undefined;
  /** Of `content-trust`, where `inspect` has read it: what its files claim, judged by nothing. */
  readonly contentTrust?: ContentTrustClaims | undefined;
}

export interface ImageSummary {
  readonly name: string;
  readonly digest: string;
  readonly mediaType: string;
  readonly platforms: readonly string[];
  readonly omitted: readonly {
    readonly digest: string;
    readonly platform?: string | undefined;
    readonly reason: string;
  }[];
  /** Bytes of all distinct blobs of the image, without evidence. */
  readonly size: number;
  readonly evidence: readonly EvidenceSummary[];
  readonly digestMadeHere: boolean;
}

export interface ImageVerdict extends ImageSummary {
  readonly verdict: Verdict;
  /** Why, in words; names the role that answered for the name. */
  readonly reason: string;
  /** The role that rules the name. */
  readonly role: string;
  /** The part of the policy that applied; absent without a policy, like `requirement`. */
  readonly policyScope?: string | undefined;
  /** The requirement that decided, with its line in the policy. */
  readonly requirement?: string | undefined;
  readonly admitted: boolean;
}

/** A check that was weakened by an option, as it goes into the report and the audit log. */
export interface Weakening {
  readonly option: string;
  readonly effect: string;
}

/** What a delta leaves out. */
export interface BaseSummary {
  /** The version that the other side is taken to hold. */
  readonly version: number;
  /** Layers left out. */
  readonly blobs: number;
  readonly bytes: number;
}

export interface ExportResult {
  /** Path of the bundle; `-` for standard output. */
  readonly output: string;
  readonly size: number;
  /** SHA-256 of the whole file, lower-case hex; absent where the output was not written in order. */
  readonly sha256?: string | undefined;
  readonly collection: CollectionSummary;
  readonly images: readonly ImageSummary[];
  readonly blobs: { readonly count: number; readonly bytes: number };
  /** Bytes written to the output in this run and, where it went on from an earlier one, bytes already there. */
  readonly written: { readonly bytes: number; readonly resumedBytes: number };
  readonly resumed: boolean;
  /** Where the bundle was cut: bytes of a volume, how many there are, and those written by this run. */
  readonly volumes?:
    | { readonly size: number; readonly total: number; readonly written: readonly VolumeSummary[] }
    | undefined;
  /** Fingerprints of the certificates it was encrypted to; `size` is that of the bundle inside. */
  readonly encryptedTo?: readonly string[] | undefined;
  /** Absent where nothing was left out. */
  readonly base?: BaseSummary | undefined;
  readonly weakened: readonly Weakening[];
  /** Absent where no key ends soon. */
  readonly expiringKeys?: readonly ExpiringKey[] | undefined;
}

/** A volume that was written. */
export interface VolumeSummary {
  /** From 1. */
  readonly number: number;
  readonly path: string;
  readonly size: number;
  /** Lower-case hex. */
  readonly sha256: string;
}

export interface SplitResult {
  readonly bundle: string;
  readonly directory: string;
  /** Bytes of the bundle. */
  readonly size: number;
  readonly volumeSize: number;
  /** Number of volumes of the bundle. */
  readonly total: number;
  /** Those written by this run. */
  readonly volumes: readonly VolumeSummary[];
}

export interface JoinResult {
  readonly output: string;
  readonly size: number;
  /** Of the whole file, lower-case hex. */
  readonly sha256: string;
}

/** What an export would carry: `export --dry-run`. */
export interface ExportPreview {
  readonly dryRun: true;
  readonly images: readonly {
    readonly name: string;
    /** As it was asked for. */
    readonly location: string;
    readonly digest: string;
    readonly mediaType: string;
    readonly platforms: readonly string[];
    /** Bytes of all distinct blobs of the image, without evidence. */
    readonly size: number;
    /** Number of signatures, attestations and whatever else hangs on it. */
    readonly evidence: number;
    /** What it is, with the attestations that are part of an index and not counted in `evidence`. */
    readonly evidenceKinds: readonly KindCount[];
    readonly digestMadeHere: boolean;
  }[];
  /** Images that an export would stop at. */
  readonly failed: readonly ImageFailure[];
  /** Distinct blobs of all images and their evidence, without what a delta would leave out. */
  readonly blobs: { readonly count: number; readonly bytes: number };
  /** What a delta would leave out. */
  readonly base?: BaseSummary | undefined;
  /** Values of lists that are no image. */
  readonly skipped: readonly SkippedListValue[];
}

export interface SkippedListValue {
  readonly value: string;
  /** List and place in it. */
  readonly place: string;
  readonly reason: string;
}

export interface PolicyInUse {
  readonly from: 'gate' | 'file';
  /** Of the policy file as it was read, lower-case hex. */
  readonly sha256: string;
}

export interface ApprovalSummary {
  /** Name of the officer, for people. */
  readonly officer: string;
  readonly keyId: string;
  readonly approvedAt: string;
}

export interface VerifyResult {
  readonly bundle: string;
  readonly size: number;
  readonly collection: CollectionSummary;
  readonly checks: readonly CheckResult[];
  readonly images: readonly ImageVerdict[];
  /** Names of the collection that were withdrawn. */
  readonly withdrawn: readonly {
    readonly name: string;
    readonly digest: string;
    readonly reason: string;
    readonly at: string;
  }[];
  /** Names known from the last accepted version that are gone without a tombstone; they are kept. */
  readonly vanished: readonly string[];
  /** True where blobs were read and hashed too. */
  readonly deep: boolean;
  /** Absent for a whole bundle. */
  readonly base?: BaseSummary | undefined;
  /** Of a rehearsal only. */
  readonly rehearsal?: RehearsalSummary | undefined;
  /** The policy that was applied; that there is none is stated in every report. */
  readonly policy: 'none' | PolicyInUse;
  /** SHA-256 of sealift.json, lower-case hex: what officers sign. */
  readonly manifest?: string | undefined;
  /** How many officers have to approve, and who has; absent where none have to. */
  readonly approvals?: { readonly needed: number; readonly given: readonly ApprovalSummary[] } | undefined;
  readonly weakened: readonly Weakening[];
  /** Absent where no key ends soon. */
  readonly expiringKeys?: readonly ExpiringKey[] | undefined;
}

/** On whose behalf a bundle was judged on the other side. */
export interface RehearsalSummary {
  /** Fingerprint of the gate's key. */
  readonly gate: string;
  /** Of the receipt. */
  readonly number: number;
  readonly created: string;
  /** Version that the gate had accepted; absent before the first. */
  readonly accepted?: number | undefined;
  /** Names that the gate has let in with the same digest already. */
  readonly unchanged: readonly string[];
  /** Whether the policy that was applied is the gate's; `none` where it has none and none was given. */
  readonly policy: 'none' | 'same' | 'other' | 'not-given';
}

export interface ImportResult extends VerifyResult {
  /** Empty where nothing went into a store. */
  readonly store: string;
  /** What was done at each place that was filled straight from the bundle; absent where there is none. */
  readonly destinations?: readonly import('./importing/publications.ts').DirectResult[] | undefined;
  /** Names let in by this run; without those that were in the store with the same digest. */
  readonly imported: readonly string[];
  readonly unchanged: readonly string[];
  /** Names that were taken out of the store because they are withdrawn. */
  readonly removed: readonly string[];
  readonly written: { readonly bytes: number; readonly blobs: number; readonly reusedBytes: number };
  /** What the check command said of each image; absent where none was given. */
  readonly checked?: readonly CheckedImage[] | undefined;
  /** What `export --since` takes on the other side; absent where an image of the bundle is not in the store. */
  readonly code?: string | undefined;
  /** Removable media the bundle came on, where the system knows them; absent where it does not. */
  readonly media?: readonly DeviceFacts[] | undefined;
  /** Head of the audit log after this run, lower-case hex. */
  readonly auditHead: string;
}

/** What a receipt says, with counts instead of its keyed hashes. */
export interface ReceiptSummary extends Omit<ReceiptContent, 'nonce' | 'images' | 'blobs'> {
  /** Fingerprint of the gate's key. */
  readonly gate: string;
  /** Images of the collection in the store, and their layers. */
  readonly images: number;
  readonly blobs: number;
}

export interface PinGateResult {
  readonly collectionId: string;
  /** Fingerprint of the gate's key. */
  readonly gate: string;
  readonly alreadyPinned: boolean;
}

export interface ReceiptResult {
  /** Path of the receipt, `-` for standard output; absent where only the code was wanted. */
  readonly output?: string | undefined;
  readonly size: number;
  readonly sha256: string;
  /** The paper receipt; absent where the last bundle was not let in as a whole. */
  readonly code?: string | undefined;
  /** The gate's key was made just now: the other side has to pin it. */
  readonly newKey: boolean;
  readonly receipt: ReceiptSummary;
  /** Head of the audit log after this run. */
  readonly auditHead: string;
}

export interface InspectResult {
  readonly kind: 'bundle' | 'store' | 'collection' | 'receipt';
  /** Of a receipt. */
  readonly receipt?: ReceiptSummary | undefined;
  readonly location: string;
  readonly collection?: CollectionSummary | undefined;
  readonly images: readonly ImageSummary[];
  /** Of a delta: what it leaves out. */
  readonly base?: BaseSummary | undefined;
  /** False for a bundle nobody has vouched for yet: inspect shows claims, it does not verify. */
  readonly verified: boolean;
  /** Absent where no key ends soon. */
  readonly expiringKeys?: readonly ExpiringKey[] | undefined;
}

export interface PinResult {
  readonly collectionId: string;
  readonly collectionName: string;
  readonly fingerprint: string;
  readonly rootVersion: number;
  readonly scopes: readonly string[];
  readonly gate: string;
  readonly alreadyPinned: boolean;
}

export interface TrustStatus {
  readonly gate: string;
  readonly auditHead: string;
  readonly collections: readonly {
    readonly id: string;
    readonly name: string;
    readonly pin: string;
    readonly pinnedAt: string;
    readonly scopes: readonly string[];
    readonly rootVersion: number;
    readonly rootFingerprint: string;
    /** Absent until the first bundle was accepted. */
    readonly version?: number | undefined;
    readonly expires?: string | undefined;
    readonly expired: boolean;
    readonly clockFloor?: string | undefined;
    /** Absent where no key ends soon. */
    readonly expiringKeys?: readonly ExpiringKey[] | undefined;
  }[];
}

export interface GarbageResult {
  readonly store: string;
  readonly removedBlobs: number;
  readonly removedBytes: number;
  readonly keptBlobs: number;
  readonly dryRun: boolean;
  /** Head of the audit log, lower-case hex; absent where nothing was removed, or where there is no gate. */
  readonly auditHead?: string | undefined;
}
