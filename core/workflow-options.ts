/** What the workflows take. The front ends build these; core never reads options from anywhere else. */

import type { CheckCommand } from './admission/check-command.ts';
import type { MediumProvider } from './bundle/volumes/medium.ts';
import type { ContentTrustSettings } from './evidence/content-trust/settings.ts';
import type { LookasideSettings } from './evidence/registries-d.ts';
import type { DeviceFacts } from './fs/device.ts';
import type { DirectOptions } from './importing/publications.ts';
import type { NamedLocation } from './transport/location.ts';
import type { SourceOptions } from './transport/source.ts';

/** Asks for a passphrase. `purpose` is for people. Resolves to undefined where there is no way to ask. */
export type PassphraseProvider = (purpose: string) => Promise<string | undefined>;

/** How the gpg program is reached. */
export interface GpgSettings {
  /** What it runs with: PATH to find it, GNUPGHOME, GPG_TTY for its prompts. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The program itself; `gpg` on that PATH unless given. */
  readonly program?: string | undefined;
  /**
   * Who is asked for the passphrase or PIN: `agent` leaves it to gpg's own prompts, `provider` asks the passphrase
   * provider and hands the answer on, `never` makes do with what the agent remembers.
   */
  readonly ask: 'agent' | 'provider' | 'never';
  /** Ends the program. */
  readonly signal?: AbortSignal | undefined;
}

/** How secret keys are opened. */
export interface KeyAccess {
  readonly passphrase: PassphraseProvider;
  /** Keys that gpg holds cannot be used without. */
  readonly gpg?: GpgSettings | undefined;
  /** Keys that sign beside those of the collection's keys/, such as `gpg:FINGERPRINT`. */
  readonly signers?: readonly string[] | undefined;
}

/** What a delta starts from: the last export, a code that was read out, or a file (receipt, request or bundle). */
export type SinceSpec =
  | { readonly kind: 'last' }
  | { readonly kind: 'code'; readonly code: string }
  | { readonly kind: 'file'; readonly path: string }
  /** What these deltas leave out is left out again. */
  | { readonly kind: 'base-of'; readonly bundles: readonly string[] };

export interface VolumeOutput {
  /** Bytes of each volume but the last. */
  readonly size: number;
  /** Makes this volume again, alone, of an export that was finished. */
  readonly only?: number | undefined;
  /** Each volume goes to a medium of its own; otherwise the medium is changed where the next volume does not fit. */
  readonly changeMedia?: boolean | undefined;
  /** Has the medium changed; without it a full one ends the run. */
  readonly medium?: MediumProvider | undefined;
  /** Whether volumes in a directory are read back; as the export says unless given. */
  readonly readBack?: ((directory: string) => Promise<boolean>) | undefined;
}

export interface ExportOptions extends KeyAccess {
  readonly collection: string;
  readonly images: readonly NamedLocation[];
  /** File path, or a writable for the sequential writer. */
  readonly output:
    | { readonly kind: 'file'; readonly path: string }
    | { readonly kind: 'stream'; readonly stream: NodeJS.WritableStream };
  /** No images at all: a bundle of kilobytes that renews, rotates and withdraws. */
  readonly metadataOnly?: boolean | undefined;
  /** `os/arch[/variant]`; empty for every platform. */
  readonly platforms: readonly string[];
  /** Milliseconds from `created` to the expiry of timestamp, snapshot and bundles. */
  readonly lifetime: number;
  /** When the bundle says it was made; the run's clock unless given. */
  readonly created?: Date | undefined;
  readonly includeEvidence: boolean;
  /** Leaves out what the source lists as referrers. */
  readonly excludeReferrers?: boolean | undefined;
  /** Leaves out what tags such as `sha256-HEX.sig` lead to (cosign). */
  readonly excludeTagged?: boolean | undefined;
  /** Leaves out attestations that are part of an index (BuildKit). */
  readonly excludeAttestations?: boolean | undefined;
  /** Where signatures lie beside registries (registries.d); none are looked for unless given. */
  readonly lookaside?: LookasideSettings | undefined;
  /** Notary servers that are asked about images of registries; none unless given. */
  readonly contentTrust?: ContentTrustSettings | undefined;
  /** Policy file that every image must meet before anything is signed or transferred. */
  readonly policy?: string | undefined;
  /** Carries layers that say they may only be had from their vendor; they are refused otherwise. */
  readonly includeForeign?: boolean | undefined;
  /** Writes manifest.json also where it is not the default. */
  readonly dockerArchive: boolean;
  /** What the other side holds already: its layers are left out (docs/receipts-and-deltas.md). */
  readonly since?: SinceSpec | undefined;
  /** Earlier bundles and stores in which layers are looked for that a delta among the sources leaves out. */
  readonly blobsFrom?: readonly string[] | undefined;
  /** Whether a bundle in a directory is read back from its medium; never unless given. */
  readonly readBack?: ((directory: string) => Promise<boolean>) | undefined;
  /** Cuts the bundle into volumes, beside each other at the output's path or on one medium after another. */
  readonly volumes?: VolumeOutput | undefined;
  /** Certificates to encrypt to: each volume, or the whole, becomes an OpenPGP message. */
  readonly encryptTo?: readonly { readonly path: string; readonly bytes: Uint8Array }[] | undefined;
  /** Replaces a file that is already at the output. */
  readonly force: boolean;
  /** Forces the sequential (archiver) or the positional writer; chosen by the output otherwise. */
  readonly writer?: 'sequential' | 'positional' | undefined;
  /** Number of blobs in transfer at once. */
  readonly concurrency: number;
  readonly source: SourceOptions;
  /** Number of this process, for locks. */
  readonly pid: number;
}

export interface TrustOverrides {
  /** Accept a bundle from more than 48 h in the future, or one that would move the clock that far. */
  readonly allowClockJump: boolean;
}

/** A bundle to read. */
export type BundleInput =
  /** A file, a directory of volumes, or the first of several volumes; the others beside it, or in `volumes`. */
  | {
      readonly kind: 'file';
      readonly path: string;
      /** Further volumes of the bundle, in any order. */
      readonly volumes?: readonly string[] | undefined;
      /** Asked for volumes that are on another medium. */
      readonly medium?: MediumProvider | undefined;
      /** Told of every file that is opened, while its medium is there. */
      readonly onMedium?: ((file: string) => Promise<void>) | undefined;
    }
  | { readonly kind: 'stream'; readonly stream: NodeJS.ReadableStream }
  /** Encrypted to OpenPGP keys: read in order, like a stream. */
  | {
      readonly kind: 'encrypted';
      /** A file, a directory of encrypted volumes, one of them, or all; empty with `stream`. */
      readonly paths: readonly string[];
      readonly stream?: NodeJS.ReadableStream | undefined;
      /** Secret keys to try. */
      readonly keys: readonly { readonly path: string; readonly bytes: Uint8Array }[];
      /** Keys that gpg holds: `gpg:FINGERPRINT`, or `gpg:` for whichever it has. */
      readonly held?: { readonly references: readonly string[]; readonly gpg: GpgSettings } | undefined;
      readonly passphrase: PassphraseProvider;
    };

export interface VerifyOptions {
  readonly bundle: BundleInput;
  /** Directory of the gate. */
  readonly gate: string;
  /** Judges by this root fingerprint instead of a pin of the gate. */
  readonly fingerprint?: string | undefined;
  /** Names to look at; empty for all. */
  readonly names: readonly string[];
  /** Reads and hashes every blob too. */
  readonly deep: boolean;
  /** Policy file to judge by instead of the gate's. */
  readonly policy?: string | undefined;
  /** Files with approvals, beside those in the gate and next to the bundle. */
  readonly approvals?: readonly string[] | undefined;
  /** Judges as the gate of this receipt would, on the other side; `collection` is the one that has pinned the gate. */
  readonly rehearse?: { readonly receipt: string; readonly collection: string } | undefined;
  /** Store in which the base of a delta is looked for, where there is one. */
  readonly store?: string | undefined;
  /** Earlier bundles and other stores in which the base of a delta is looked for; what is only there is hashed. */
  readonly blobsFrom?: readonly string[] | undefined;
  readonly overrides: TrustOverrides;
}

export interface ImportOptions {
  readonly bundle: VerifyOptions['bundle'];
  readonly gate: string;
  /** Directory of the store; undefined where the images go to destinations alone. */
  readonly store?: string | undefined;
  /** Where clients pull from, filled straight from the bundle. */
  readonly direct?: DirectOptions | undefined;
  /** Names to let in; empty for all. */
  readonly only: readonly string[];
  /** Lets in what the policy takes where it refuses other images; without it nothing is let in then. */
  readonly admitPassing?: boolean | undefined;
  /** Files with approvals, beside those in the gate and next to the bundle. */
  readonly approvals?: readonly string[] | undefined;
  /** Asked about each image when its blobs are there and before it is let in. */
  readonly checkCommand?: CheckCommand | undefined;
  /** Earlier bundles and other stores in which the base of a delta is looked for, as bags of bytes. */
  readonly blobsFrom?: readonly string[] | undefined;
  /** Reads and hashes what the store has of a delta's base, instead of believing name and size. */
  readonly checkBase?: boolean | undefined;
  /** Where a request for what is missing of a delta's base goes; none is written unless given. */
  readonly request?: string | undefined;
  /** What is known of the medium a file lies on, for the audit log. */
  readonly device?: ((file: string) => Promise<DeviceFacts | undefined>) | undefined;
  readonly overrides: TrustOverrides;
  /** Asked once when everything is decided and before the first layer is read; false stops with `cancelled`. */
  readonly confirm?: ((result: import('./results.ts').VerifyResult) => Promise<boolean>) | undefined;
  readonly concurrency: number;
  readonly pid: number;
  /** Who runs this, for the audit log. */
  readonly actor: string;
}
