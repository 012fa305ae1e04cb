/** What images consist of, and what hangs on them: the one walk that a registry and a published tree are made from. */
import { SealiftError } from '../errors.ts';
import type { Limits } from '../limits.ts';
import type { Digest } from '../oci/digest.ts';
import { artifactTypeOf } from '../oci/manifest.ts';
import { OCI_INDEX } from '../oci/media-types.ts';
import { type GraphNode, type GraphReader, walkGraph } from '../store/graph.ts';
import type { ImageRecord, Store } from '../store/store.ts';
import { SIMPLE_SIGNING_ARTIFACT, SIMPLE_SIGNING_LAYER } from '../trust/evidence/media-types.ts';
import type { BlobSource } from './destination.ts';

/** An entry of the referrers API. */
export interface Referrer {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly artifactType?: string | undefined;
  readonly annotations?: { readonly [key: string]: string } | undefined;
}

/** The answer of the referrers API, and what the fallback tag names. */
export function referrersIndex(manifests: readonly Referrer[]): string {
  return JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests });
}

/** Walks in a store: an index may list what was not carried. */
export function storeReader(store: Pick<Store, 'blobSize' | 'readBlob'>): GraphReader {
  return {
    exists: async (digest) => (await store.blobSize(digest)) !== undefined,
    read: (digest, max) => store.readBlob(digest, max),
  };
}

/**
 * All that the records reach, evidence included, by digest.
 * @param onError told of an image that cannot be walked; where it returns, the others are walked all the same
 */
export async function walkRecords(
  reader: GraphReader,
  records: readonly ImageRecord[],
  limits: Limits,
  onError: (error: unknown, record: ImageRecord) => void,
): Promise<ReadonlyMap<string, GraphNode>> {
  const seen = new Map<string, GraphNode>();
  for (const record of records) {
    for (const start of [record, ...record.evidence]) {
      try {
        await walkGraph(reader, { digest: start.digest, mediaType: start.mediaType }, limits, seen);
      } catch (error) {
        onError(error, record);
      }
    }
  }
  return seen;
}

/** What hangs on each manifest by `subject`, ascending by digest. */
export function referrersOf(nodes: Iterable<GraphNode>): ReadonlyMap<Digest, readonly Referrer[]> {
  const hanging = new Map<Digest, Referrer[]>();
  for (const { digest, mediaType, size, manifest } of nodes) {
    if (!manifest?.subject) continue;
    const artifactType = artifactTypeOf(manifest);
    const hasAnnotations = Object.keys(manifest.annotations).length > 0;
    const referrer: Referrer = {
      mediaType,
      digest,
      size,
      ...(artifactType !== undefined && { artifactType }),
      ...(hasAnnotations && { annotations: manifest.annotations }),
    };
    const others = hanging.get(manifest.subject.digest);
    if (others) others.push(referrer);
    else hanging.set(manifest.subject.digest, [referrer]);
  }
  for (const list of hanging.values()) list.sort((a, b) => (a.digest < b.digest ? -1 : 1));
  return hanging;
}

/** A simple-signing signature, as it lies in a lookaside. */
export interface StoredSignature {
  readonly digest: Digest;
  readonly size: number;
}

/** What clients read of the signatures of one manifest at most (containers/image: 4 MiB, as base64 in JSON). */
const MAX_SIGNATURES_BYTES = 2.5 * 1024 * 1024;

/** Simple-signing signatures by the manifest they were found for, in the order of the manifests that wrap them. */
export function signaturesOf(nodes: Iterable<GraphNode>): ReadonlyMap<Digest, readonly StoredSignature[]> {
  const found = new Map<Digest, StoredSignature[]>();
  const ascending = [...nodes].sort((a, b) => (a.digest < b.digest ? -1 : 1));
  for (const { manifest } of ascending) {
    if (manifest?.artifactType !== SIMPLE_SIGNING_ARTIFACT || !manifest.subject) continue;
    const list = found.get(manifest.subject.digest) ?? [];
    found.set(manifest.subject.digest, list);
    for (const { mediaType, digest, size } of manifest.layers) {
      const total = list.reduce((sum, one) => sum + one.size, size);
      if (mediaType !== SIMPLE_SIGNING_LAYER || total > MAX_SIGNATURES_BYTES) continue;
      if (!list.some((one) => one.digest === digest)) list.push({ digest, size });
    }
  }
  return found;
}

/** Blobs of a store, to be published. */
export function sourceOfStore(store: Store): BlobSource & Required<Pick<BlobSource, 'has'>> {
  return {
    has: async (digest) => (await store.blobSize(digest)) !== undefined,
    fileOf: (digest) => store.blobFile(digest),
    async open(digest) {
      const blob = await store.openBlob(digest);
      if (!blob) throw new SealiftError('blob-missing', 'the store has no such blob', { subject: digest });
      const { handle, size, file } = blob;
      return { fd: handle.fd, offset: 0, size, file, close: () => handle.close() };
    },
    read: (digest, max) => store.readBlob(digest, max),
  };
}
