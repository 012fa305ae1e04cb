/**
 * What a destination shall hold, computed once from the store, in the order it is written: every beginning of that order
 * can be pulled from.
 */
import { isSealiftError, SealiftError } from '../errors.ts';
import { canonicalJson } from '../json/canonical.ts';
import type { Limits } from '../limits.ts';
import { type Digest, digestAlgorithm, digestHex, digestOf } from '../oci/digest.ts';
import { OCI_INDEX } from '../oci/media-types.ts';
import { parseImageName } from '../oci/reference.ts';
import type { GraphNode, GraphReader } from '../store/graph.ts';
import { taggedEvidence } from '../store/records.ts';
import type { ImageRecord } from '../store/store.ts';
import { referrersIndex, referrersOf, walkRecords } from './content.ts';
import { type PlacementOptions, placesOf } from './placement.ts';

export type ObjectKind = 'root' | 'blob' | 'manifest' | 'referrers' | 'tag';

/** One object of the destination. */
export interface PlannedObject {
  /** Without a leading slash: `v2/library/alpine/manifests/3.20`. */
  readonly key: string;
  readonly kind: ObjectKind;
  readonly mediaType: string;
  readonly size: number;
  readonly digest: Digest;
  /** Of documents that are made here; everything else is read from the source by its digest. */
  readonly bytes?: Uint8Array | undefined;
}

export interface PlannedImage {
  readonly record: ImageRecord;
  /** `library/alpine:3.20`, or with `@` and the digest; the one to show first. */
  readonly places: readonly string[];
}

export interface PublishPlan {
  readonly images: readonly PlannedImage[];
  /** Each is durable before the next one begins: what answers `/v2/`, blobs, manifests by height, referrers, tags. */
  readonly stages: readonly (readonly PlannedObject[])[];
  /** Tags by repository, sorted; without those that are only in the destination. */
  readonly tags: ReadonlyMap<string, readonly string[]>;
  /** Everything the images reach, by digest. */
  readonly graph: ReadonlyMap<string, GraphNode>;
}

interface Draft {
  readonly tags: Map<string, ImageRecord>;
  readonly records: Map<string, ImageRecord>;
}

/** Key of the object that answers `GET /v2/`. */
export const ROOT_KEY = 'v2/';

export function tagsListKey(repository: string): string {
  return `v2/${repository}/tags/list`;
}

export function tagsList(repository: string, tags: readonly string[]): Buffer {
  return Buffer.from(JSON.stringify({ name: repository, tags }));
}

/**
 * The plan for `records`, whose manifests `reader` has.
 * @throws SealiftError `invalid-argument` for names that have no place; `name-conflict` where two images want the same
 *   place; `blob-missing`, `manifest-invalid`, `digest-mismatch` where an image of the store is damaged
 */
export async function planPublication(
  reader: GraphReader,
  records: readonly ImageRecord[],
  placement: PlacementOptions,
  limits: Limits,
): Promise<PublishPlan> {
  const drafts = new Map<string, Draft>();
  const images = records.map((record) => ({ record, places: placeImage(record, placement, drafts) }));

  const root = Buffer.from('{}');
  const blobs: PlannedObject[] = [];
  const manifests: PlannedObject[][] = [];
  const referrers: PlannedObject[] = [];
  const tags: PlannedObject[] = [];
  const graph = new Map<string, GraphNode>();
  const tagNames = new Map<string, readonly string[]>();
  const walked = new Map<string, ReadonlyMap<string, GraphNode>>();

  for (const [repository, draft] of [...drafts].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const base = `v2/${repository}`;
    const list = [...draft.records.values()];
    // The two names of one repository hold the same images.
    const identity = list
      .flatMap(({ digest, evidence }) => [digest, ...evidence.map((one) => one.digest)])
      .join();
    const nodes = walked.get(identity) ?? (await walkRecords(reader, list, limits, damagedImage));
    walked.set(identity, nodes);
    for (const [digest, node] of nodes) graph.set(digest, node);
    const heights = heightsOf(nodes);
    for (const node of nodes.values()) {
      const { digest, mediaType, size, manifest } = node;
      if (!manifest) {
        blobs.push({ key: `${base}/blobs/${digest}`, kind: 'blob', digest, size, mediaType: OCTETS });
        continue;
      }
      const height = heights.get(digest) ?? 0;
      manifests[height] ??= [];
      manifests[height]?.push({
        key: `${base}/manifests/${digest}`,
        kind: 'manifest',
        digest,
        size,
        mediaType,
      });
    }
    for (const [subject, found] of referrersOf(nodes.values())) {
      const bytes = Buffer.from(referrersIndex(found));
      const common = { mediaType: OCI_INDEX, size: bytes.length, digest: digestOf(bytes), bytes } as const;
      referrers.push({ ...common, key: `${base}/referrers/${subject}`, kind: 'referrers' });
      // A tag has at most 128 characters, which a fallback tag of sha512 would not.
      if (digestAlgorithm(subject) === 'sha256') {
        referrers.push({
          ...common,
          key: `${base}/manifests/sha256-${digestHex(subject)}`,
          kind: 'referrers',
        });
      }
    }
    for (const [tag, { digest, size, mediaType }] of taggedEvidence(list)) {
      if (draft.tags.has(tag)) continue;
      referrers.push({ key: `${base}/manifests/${tag}`, kind: 'referrers', digest, size, mediaType });
    }
    for (const [tag, { digest, size, mediaType }] of draft.tags) {
      tags.push({ key: `${base}/manifests/${tag}`, kind: 'tag', digest, size, mediaType });
    }
    tagNames.set(repository, [...draft.tags.keys()].sort());
  }
  const rootObject: PlannedObject = {
    key: ROOT_KEY,
    kind: 'root',
    mediaType: 'application/json',
    size: root.length,
    digest: digestOf(root),
    bytes: root,
  };
  return {
    images,
    stages: [[rootObject], blobs, ...manifests.map((stage) => stage ?? []), referrers, tags],
    tags: tagNames,
    graph,
  };
}

const OCTETS = 'application/octet-stream';

function placeImage(
  record: ImageRecord,
  placement: PlacementOptions,
  drafts: Map<string, Draft>,
): readonly string[] {
  const { tag } = parseImageName(record.name);
  return placesOf(record.name, placement).map((repository) => {
    let draft = drafts.get(repository);
    if (!draft) {
      draft = { tags: new Map(), records: new Map() };
      drafts.set(repository, draft);
    }
    draft.records.set(record.name, record);
    if (tag === undefined) return `${repository}@${record.digest}`;
    const other = draft.tags.get(tag);
    if (other && other.digest !== record.digest) {
      throw new SealiftError('name-conflict', `two images want the place ${repository}:${tag}`, {
        subject: record.name,
        got: other.name,
        hint: 'give one of them another place with --map FROM=TO',
      });
    }
    draft.tags.set(tag, record);
    return `${repository}:${tag}`;
  });
}

function damagedImage(error: unknown, record: ImageRecord): never {
  if (!isSealiftError(error)) throw error;
  throw new SealiftError(error.code, `the image is damaged in the store: ${error.message}`, {
    subject: record.name,
    got: error.got,
    want: error.want,
    hint: 'import its bundle again',
    cause: error,
  });
}

/** Of each manifest: how many levels of manifests are below it. */
function heightsOf(nodes: ReadonlyMap<string, GraphNode>): ReadonlyMap<string, number> {
  const heights = new Map<string, number>();
  const height = (digest: string): number => {
    const known = heights.get(digest);
    if (known !== undefined) return known;
    const below = (nodes.get(digest)?.manifest?.manifests ?? [])
      .filter((child) => nodes.get(child.digest)?.manifest)
      .map((child) => height(child.digest) + 1);
    const own = Math.max(0, ...below);
    heights.set(digest, own);
    return own;
  };
  for (const [digest, { manifest }] of nodes) if (manifest) height(digest);
  return heights;
}

/**
 * The stages of the plan at a destination. Where the referrers API cannot answer for every manifest there is nothing of it,
 * and clients go by the fallback tags (distribution specification 1.1, "Unavailable Referrers API").
 */
export function stagesAt(
  plan: PublishPlan,
  { hasReferrersApi }: { readonly hasReferrersApi: boolean },
): PublishPlan['stages'] {
  if (hasReferrersApi) return plan.stages;
  return plan.stages.map((stage) => stage.filter(({ key }) => !REFERRERS_KEY.test(key)));
}

/** For sha512 there are no fallback tags, so this is the only place. */
const REFERRERS_KEY = /\/referrers\/sha256:[0-9a-f]{64}$/;

/** The note that a destination keeps of what was put there (docs/static-bucket.md). */
export const STATE_KEY = '.sealift/state.json';

export interface DestinationState {
  /** Objects nothing needs any more, and since when that is so. */
  readonly unneeded: ReadonlyMap<string, string>;
}

export function encodeState(plan: PublishPlan, unneeded: ReadonlyMap<string, string>): Buffer {
  return canonicalJson({
    formatVersion: 1,
    requires: [],
    images: plan.images.map(({ record, places }) => ({
      name: record.name,
      digest: record.digest,
      places: [...places],
    })),
    unneeded: [...unneeded].sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, since]) => ({ key, since })),
  });
}
