/** Finds the blobs that no image of the store needs. */
import { isSealiftError, SealiftError } from '../errors.ts';
import type { Limits } from '../limits.ts';
import { type Digest, formatDigest, isDigest } from '../oci/digest.ts';
import { parseManifest } from '../oci/manifest.ts';
import { isManifestType } from '../oci/media-types.ts';
import { type GraphNode, type GraphReader, walkGraph } from './graph.ts';
import type { IndexFile } from './index-file.ts';
import type { ImageRecord } from './records.ts';

export interface BlobFile {
  readonly algorithm: 'sha256' | 'sha512';
  readonly hex: string;
  readonly size: number;
}

/**
 * Digests that must stay: all that index.json reaches, evidence in the records, `keep`, and manifests whose subject stays.
 * @throws SealiftError `state-damaged` where a manifest that index.json names is missing or does not parse: what it
 * needs cannot be known then
 */
export async function markReachable(options: {
  readonly reader: GraphReader;
  readonly index: IndexFile;
  readonly records: readonly ImageRecord[];
  readonly blobs: readonly BlobFile[];
  readonly keep: readonly Digest[];
  readonly limits: Limits;
}): Promise<ReadonlySet<string>> {
  const { reader, limits } = options;
  const seen = new Map<string, GraphNode>();
  const kept = new Set<string>();

  async function mark(digest: Digest, mediaType: string | undefined, what: string): Promise<void> {
    if (mediaType !== undefined && !isManifestType(mediaType)) {
      kept.add(digest);
      return;
    }
    try {
      await walkGraph(reader, { digest, mediaType }, limits, seen);
    } catch (error) {
      if (!isSealiftError(error)) throw error;
      throw new SealiftError(
        'state-damaged',
        `nothing is removed, because ${what} cannot be read: ${error.message}`,
        {
          subject: digest,
          hint: 'import the bundle again, or take the image out of the store, then collect garbage',
          cause: error,
        },
      );
    }
  }

  for (const entry of options.index.entries) {
    if (!isDigest(entry.digest)) {
      throw new SealiftError(
        'state-damaged',
        'nothing is removed, because index.json names something without a digest',
        {
          subject: entry.name,
          hint: 'repair index.json, then collect garbage',
        },
      );
    }
    await mark(
      entry.digest,
      entry.mediaType === '' ? undefined : entry.mediaType,
      `the manifest of ${entry.name || 'an image'}`,
    );
  }
  for (const record of options.records) {
    for (const evidence of record.evidence) {
      if (await reader.exists(evidence.digest)) {
        await mark(evidence.digest, evidence.mediaType, `evidence of ${record.name}`);
      } else {
        kept.add(evidence.digest);
      }
    }
  }
  for (const digest of options.keep) kept.add(digest);

  const stays = (digest: string): boolean => kept.has(digest) || seen.has(digest);
  const hanging = await findSubjects(options.reader, options.blobs, stays, limits);
  // Evidence may hang on evidence: again until nothing more is found.
  for (let found = true; found; ) {
    found = false;
    for (const [digest, subject] of hanging) {
      if (stays(digest) || !stays(subject)) continue;
      await mark(digest, undefined, `evidence of ${subject}`);
      found = true;
    }
  }
  return new Set([...seen.keys(), ...kept]);
}

/** Blobs that are a manifest with a subject, among those that are not marked yet. */
async function findSubjects(
  reader: GraphReader,
  blobs: readonly BlobFile[],
  stays: (digest: string) => boolean,
  limits: Limits,
): Promise<Map<Digest, Digest>> {
  const hanging = new Map<Digest, Digest>();
  for (const blob of blobs) {
    const digest = formatDigest(blob.algorithm, blob.hex);
    if (stays(digest) || blob.size > limits.manifest) continue;
    try {
      const bytes = await reader.read(digest, limits.manifest);
      if (bytes[0] !== 0x7b) continue;
      const { subject } = parseManifest(bytes, { digest, limits });
      if (subject) hanging.set(digest, subject.digest);
    } catch (error) {
      // A layer, a config, or damaged: no evidence in any case.
      if (!isSealiftError(error)) throw error;
    }
  }
  return hanging;
}
