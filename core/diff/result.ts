/** What a diff says; part of the JSON output (docs/json-output.md). */

export interface DiffSide {
  readonly location: string;
  readonly kind: 'bundle' | 'store' | 'images' | 'receipt';
  /** Of a bundle or a receipt, as it claims. */
  readonly collection?:
    | { readonly id: string; readonly name: string; readonly version: number; readonly expires: string }
    | undefined;
  readonly images: number;
}

export interface DiffImage {
  readonly name: string;
  readonly digest: string;
}

export interface DiffLayer {
  readonly digest: string;
  readonly size: number;
}

/** A label or a setting of the config; absent on the side that does not have it. */
export interface ValueChange {
  readonly name: string;
  readonly before?: string | undefined;
  readonly after?: string | undefined;
}

export type FileType = 'file' | 'directory' | 'symlink' | 'hardlink' | 'device' | 'fifo';

export interface FileFacts {
  readonly type: FileType;
  /** Bytes. */
  readonly size: number;
  /** Permission bits, octal. */
  readonly mode: string;
  readonly owner: string;
  readonly target?: string | undefined;
}

export interface FileChange {
  readonly path: string;
  readonly state: 'added' | 'removed' | 'changed';
  readonly before?: FileFacts | undefined;
  readonly after?: FileFacts | undefined;
  /** What differs: content, type, mode, owner, target. */
  readonly what: readonly string[];
}

export interface PlatformDiff {
  /** `os/arch[/variant]`; empty where the image does not say. */
  readonly platform: string;
  readonly state: 'added' | 'removed' | 'changed';
  readonly before?: string | undefined;
  readonly after?: string | undefined;
  readonly layers: {
    readonly kept: number;
    readonly added: readonly DiffLayer[];
    readonly removed: readonly DiffLayer[];
  };
  readonly labels: readonly ValueChange[];
  readonly settings: readonly ValueChange[];
  /** Where files were asked for; paths ascending. */
  readonly files?: readonly FileChange[] | undefined;
}

/** Pieces of one artifact type on each side; `same` of them are the same piece. */
export interface EvidenceDiff {
  readonly artifactType: string;
  readonly before: number;
  readonly after: number;
  readonly same: number;
}

export interface PackageChange {
  readonly name: string;
  /** Versions, ascending; absent on the side that does not have the package. */
  readonly before?: readonly string[] | undefined;
  readonly after?: readonly string[] | undefined;
}

export interface ImageDiff {
  readonly name: string;
  /** Where two images of different names were compared. */
  readonly afterName?: string | undefined;
  readonly before: string;
  readonly after: string;
  /** Platforms that differ. */
  readonly platforms: readonly PlatformDiff[];
  /** Types of which a piece was gained, lost or replaced. */
  readonly evidence: readonly EvidenceDiff[];
  /** Where both images have an SBOM that sealift reads. */
  readonly packages?: readonly PackageChange[] | undefined;
  /** Bytes of this image that the other side does not have anywhere. */
  readonly bytes: number;
}

export interface DiffResult {
  readonly before: DiffSide;
  readonly after: DiffSide;
  /** Not in the first; where that is a receipt, which names nothing, moved images too. */
  readonly added: readonly (DiffImage & { readonly platforms: readonly string[]; readonly bytes: number })[];
  /** Gone, and nobody says why. */
  readonly removed: readonly DiffImage[];
  /** Taken back by who signs for the name. */
  readonly withdrawn: readonly (DiffImage & { readonly reason: string; readonly at: string })[];
  /** Still spoken for by the bundle, which does not carry it. `moved` where it speaks for another digest now. */
  readonly notCarried: readonly (DiffImage & { readonly moved: boolean })[];
  /** Same name, other digest. */
  readonly moved: readonly ImageDiff[];
  /** Same name and digest, other evidence. */
  readonly evidenceChanged: readonly ImageDiff[];
  readonly unchanged: readonly DiffImage[];
  /** Distinct blobs the second side has and the first has not: what is to be carried. */
  readonly carry: { readonly blobs: number; readonly bytes: number };
  /** Distinct blobs both have. */
  readonly shared: { readonly blobs: number; readonly bytes: number };
}
