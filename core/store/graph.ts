/** Walks what an image consists of, from its manifest down. */
import { SealiftError } from '../errors.ts';
import type { Limits } from '../limits.ts';
import type { Digest } from '../oci/digest.ts';
import { type ParsedManifest, parseManifest } from '../oci/manifest.ts';
import { isManifestType } from '../oci/media-types.ts';

export interface GraphNode {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly size: number;
  /** The manifest itself; absent for configs, layers and other blobs. */
  readonly manifest?: ParsedManifest | undefined;
}

export interface GraphStart {
  readonly digest: Digest;
  /** Undefined where nobody announced one. */
  readonly mediaType?: string | undefined;
}

/** What the walk reads from. */
export interface GraphReader {
  /** Whether a child is there; children of an index may have been left out. */
  exists(digest: Digest): Promise<boolean>;
  read(digest: Digest, max: number): Promise<Uint8Array>;
}

/**
 * Visits `start` and all that is below it and is there, each digest once across all walks that share `seen`.
 * @throws SealiftError as the reader and `parseManifest` do; `manifest-invalid` where the nesting is too deep
 */
export async function walkGraph(
  reader: GraphReader,
  start: GraphStart,
  limits: Limits,
  seen: Map<string, GraphNode>,
): Promise<void> {
  const open: (GraphStart & { readonly depth: number })[] = [{ ...start, depth: 0 }];
  for (let next = open.pop(); next; next = open.pop()) {
    if (seen.get(next.digest)?.manifest) continue;
    if (next.depth > limits.graphDepth) {
      throw new SealiftError(
        'manifest-invalid',
        `manifests are nested too deeply: want at most ${limits.graphDepth} levels`,
        {
          subject: start.digest,
          want: limits.graphDepth,
        },
      );
    }
    const bytes = await reader.read(next.digest, limits.manifest);
    const manifest = parseManifest(bytes, { digest: next.digest, mediaType: next.mediaType, limits });
    seen.set(next.digest, {
      digest: next.digest,
      mediaType: manifest.mediaType,
      size: bytes.length,
      manifest,
    });
    for (const child of manifest.manifests) {
      if (!(await reader.exists(child.digest))) continue;
      if (isManifestType(child.mediaType)) {
        open.push({ digest: child.digest, mediaType: child.mediaType, depth: next.depth + 1 });
      } else if (!seen.has(child.digest)) {
        seen.set(child.digest, { digest: child.digest, mediaType: child.mediaType, size: child.size });
      }
    }
    for (const blob of manifest.config ? [manifest.config, ...manifest.layers] : manifest.layers) {
      if (!seen.has(blob.digest)) {
        seen.set(blob.digest, { digest: blob.digest, mediaType: blob.mediaType, size: blob.size });
      }
    }
  }
}
