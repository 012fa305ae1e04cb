/** Caps on everything that is read from outside. Bytes unless said otherwise. Handed in, so that tests can lower them. */
export interface Limits {
  readonly metadataFile: number;
  readonly certificate: number;
  readonly readme: number;
  /** sealift.json, SHA256SUMS, SHA512SUMS, index.json, manifest.json; each. */
  readonly bundleFile: number;
  /** All files of a bundle before the blobs together, headers included; they are held in memory. */
  readonly head: number;
  /** Number of roots in a bundle. */
  readonly roots: number;
  /** Number of entries in a bundle. */
  readonly entries: number;
  readonly manifest: number;
  readonly config: number;
  /** Nesting of JSON. */
  readonly jsonDepth: number;
  /** Number of manifests one image may consist of, evidence included. */
  readonly manifestsPerImage: number;
  /** Depth of index in index, and of evidence on evidence. */
  readonly graphDepth: number;
  /** One blob. */
  readonly blob: number;
  /** A registry's JSON answer that is no manifest: tokens, tags, referrers, errors. */
  readonly registryDocument: number;
  /** An archive that is written out to a temporary directory. */
  readonly spool: number;
  /** A list of images to read: lines, YAML or JSON. */
  readonly listFile: number;
  /** Delegated roles searched. */
  readonly delegatedRoles: number;
}

export const DEFAULT_LIMITS: Limits = {
  metadataFile: 16 * 1024 * 1024,
  certificate: 1024 * 1024,
  readme: 1024 * 1024,
  bundleFile: 64 * 1024 * 1024,
  head: 512 * 1024 * 1024,
  roots: 1024,
  entries: 1_000_000,
  manifest: 4 * 1024 * 1024,
  config: 8 * 1024 * 1024,
  jsonDepth: 64,
  manifestsPerImage: 4096,
  graphDepth: 16,
  blob: 1024 ** 4,
  registryDocument: 8 * 1024 * 1024,
  spool: 1024 ** 4,
  listFile: 32 * 1024 * 1024,
  delegatedRoles: 1000,
};
