/**
 * Signatures that live beside a registry have no manifest. Here each becomes the one layer of a small artifact
 * manifest whose `subject` is what it is about (docs/bundle-format.md, "Wrapped signatures"). The same signature
 * always gives the same bytes, so that two exports of it carry one piece.
 */

import type { Limits } from '../limits.ts';
import { digestOf } from '../oci/digest.ts';
import { type ParsedManifest, parseManifest } from '../oci/manifest.ts';
import { OCI_EMPTY, OCI_EMPTY_CONTENT, OCI_MANIFEST } from '../oci/media-types.ts';
import { SIMPLE_SIGNING_ARTIFACT, SIMPLE_SIGNING_LAYER } from '../trust/evidence/media-types.ts';

/** Evidence that was found beside the source, as it goes into a bundle. */
export interface AttachedEvidence {
  readonly manifest: ParsedManifest;
  /** Content of config and layer, by digest. */
  readonly blobs: ReadonlyMap<string, Uint8Array>;
  /** Where it was found: a token for the bundle manifest. */
  readonly via: string;
}

/** The manifest around one simple-signing signature of `subject`. */
export function wrapSignature(
  signature: Uint8Array,
  subject: ParsedManifest,
  via: string,
  limits: Limits,
): AttachedEvidence {
  const config = Buffer.from(OCI_EMPTY_CONTENT);
  const layer = digestOf(signature);
  const text = JSON.stringify({
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    artifactType: SIMPLE_SIGNING_ARTIFACT,
    config: { mediaType: OCI_EMPTY, digest: digestOf(config), size: config.length },
    layers: [{ mediaType: SIMPLE_SIGNING_LAYER, digest: layer, size: signature.length }],
    subject: { mediaType: subject.mediaType, digest: subject.digest, size: subject.bytes.length },
  });
  const bytes = Buffer.from(text);
  return {
    manifest: parseManifest(bytes, { mediaType: OCI_MANIFEST, digest: digestOf(bytes), limits }),
    blobs: new Map<string, Uint8Array>([
      [digestOf(config), config],
      [layer, signature],
    ]),
    via,
  };
}
