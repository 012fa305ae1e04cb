/**
 * Signatures that live beside a registry have no manifest. Here each becomes the one layer of a small artifact
 * manifest whose `subject` is what it is about (docs/bundle-format.md, "Wrapped signatures"); so do the files of a
 * notary server together ("Wrapped content trust"). The same content always gives the same bytes, so that two exports
 * of it carry one piece.
 */

import type { Limits } from '../limits.ts';
import { digestOf } from '../oci/digest.ts';
import { type ParsedManifest, parseManifest } from '../oci/manifest.ts';
import { OCI_EMPTY, OCI_EMPTY_CONTENT, OCI_MANIFEST } from '../oci/media-types.ts';
import {
  CONTENT_TRUST_ARTIFACT,
  CONTENT_TRUST_GUN,
  CONTENT_TRUST_LAYER,
  SIMPLE_SIGNING_ARTIFACT,
  SIMPLE_SIGNING_LAYER,
} from '../trust/evidence/media-types.ts';
import type { MetadataFile } from './content-trust/server.ts';

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
  return wrap(
    SIMPLE_SIGNING_ARTIFACT,
    [{ mediaType: SIMPLE_SIGNING_LAYER, bytes: signature }],
    undefined,
    subject,
    via,
    limits,
  );
}

/** Title of a layer (OCI image specification, annotations.md): the name of the file it is. */
export const TITLE = 'org.opencontainers.image.title';

/**
 * The manifest around the metadata of a notary server, as evidence of `subject`.
 * @param gun the repository as the server calls it: `docker.io/library/alpine`
 */
export function wrapContentTrust(
  gun: string,
  files: readonly MetadataFile[],
  subject: ParsedManifest,
  limits: Limits,
): AttachedEvidence {
  return wrap(
    CONTENT_TRUST_ARTIFACT,
    files.map(({ name, bytes }) => ({
      mediaType: CONTENT_TRUST_LAYER,
      bytes,
      annotations: { [TITLE]: name },
    })),
    { [CONTENT_TRUST_GUN]: gun },
    subject,
    'notary',
    limits,
  );
}

interface Part {
  readonly mediaType: string;
  readonly bytes: Uint8Array;
  readonly annotations?: Readonly<Record<string, string>>;
}

function wrap(
  artifactType: string,
  parts: readonly Part[],
  annotations: Readonly<Record<string, string>> | undefined,
  subject: ParsedManifest,
  via: string,
  limits: Limits,
): AttachedEvidence {
  const config = Buffer.from(OCI_EMPTY_CONTENT);
  const layers = parts.map(({ bytes, ...part }) => ({ ...part, bytes, digest: digestOf(bytes) }));
  const text = JSON.stringify({
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    artifactType,
    config: { mediaType: OCI_EMPTY, digest: digestOf(config), size: config.length },
    layers: layers.map(({ mediaType, digest, bytes, annotations: own }) => ({
      mediaType,
      digest,
      size: bytes.length,
      ...(own ? { annotations: own } : {}),
    })),
    subject: { mediaType: subject.mediaType, digest: subject.digest, size: subject.bytes.length },
    ...(annotations ? { annotations } : {}),
  });
  const bytes = Buffer.from(text);
  return {
    manifest: parseManifest(bytes, { mediaType: OCI_MANIFEST, digest: digestOf(bytes), limits }),
    blobs: new Map<string, Uint8Array>([
      [digestOf(config), config],
      ...layers.map(({ digest, bytes: content }) => [digest, content] as const),
    ]),
    via,
  };
}
