/** Files of a bundle that follow from others (docs/bundle-format.md, "Computed files"). */
import { canonicalJson } from '../json/canonical.ts';
import type { BundleImage } from './manifest.ts';

const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';

/** Content of `oci-layout`. */
export function ociLayoutFile(): Buffer {
  return Buffer.from('{"imageLayoutVersion":"1.0.0"}', 'latin1');
}

/** A line of a sums file. */
export interface SumLine {
  readonly name: string;
  /** Lower-case hex. */
  readonly hash: string;
}

function sums(lines: Iterable<SumLine>): Buffer {
  let text = '';
  for (const { hash, name } of lines) text += `${hash}  ${name}\n`;
  return Buffer.from(text, 'latin1');
}

/**
 * Content of `SHA256SUMS`.
 * @param entries name and lower-case hex SHA-256 of all entries in archive order; entries that do not belong
 * into the file (the sums, their signature, blobs by sha512) are left out here
 */
export function sha256Sums(
  entries: Iterable<{ readonly name: string; readonly sha256?: string | undefined }>,
): Buffer {
  const lines: SumLine[] = [];
  for (const { name, sha256 } of entries) {
    if (name === 'SHA256SUMS' || name === 'SHA256SUMS.asc' || name.startsWith('blobs/sha512/')) continue;
    if (sha256 === undefined) throw new TypeError(`no SHA-256 of ${name}`);
    lines.push({ name, hash: sha256 });
  }
  return sums(lines);
}

/** Content of `SHA512SUMS`, from all entry names in archive order; undefined where no blob is named by sha512. */
export function sha512Sums(entries: Iterable<{ readonly name: string }>): Buffer | undefined {
  const prefix = 'blobs/sha512/';
  const lines: SumLine[] = [];
  for (const { name } of entries) {
    if (name.startsWith(prefix)) lines.push({ name, hash: name.slice(prefix.length) });
  }
  return lines.length === 0 ? undefined : sums(lines);
}

/** Content of `index.json`: one descriptor for each carried image, in the order given (ascending by name). */
export function indexJson(
  images: Iterable<Pick<BundleImage, 'name' | 'digest' | 'mediaType' | 'size'>>,
): Buffer {
  const manifests = Array.from(images, ({ name, digest, mediaType, size }) => ({
    annotations: { 'io.containerd.image.name': name, 'org.opencontainers.image.ref.name': name },
    digest,
    mediaType,
    size,
  }));
  return canonicalJson({ manifests, mediaType: OCI_INDEX, schemaVersion: 2 });
}

/** Content of `manifest.json` for one single-platform image; `config` and `layers` are digests. */
export function dockerManifestJson(image: {
  readonly name: string;
  readonly config: string;
  readonly layers: readonly string[];
}): Buffer {
  const path = (digest: string) => `blobs/${digest.replace(':', '/')}`;
  return canonicalJson([
    { Config: path(image.config), Layers: image.layers.map(path), RepoTags: [image.name] },
  ]);
}
