/** What a read-only registry shows of a store: repositories, their tags and all that their images reach. */
import type { Limits } from '../limits.ts';
import type { Digest } from '../oci/digest.ts';
import { artifactTypeOf } from '../oci/manifest.ts';
import { OCI_INDEX } from '../oci/media-types.ts';
import { parseImageName, repositoryName } from '../oci/reference.ts';
import { type GraphNode, walkGraph } from '../store/graph.ts';
import type { ImageRecord, Store } from '../store/store.ts';

/** A manifest or blob that may be fetched under a repository. */
export interface Reachable {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly size: number;
  readonly isManifest: boolean;
}

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

export interface RepositoryContent {
  readonly reachable: ReadonlyMap<string, Reachable>;
  /** By digest of the subject, ascending by their own. */
  readonly referrers: ReadonlyMap<string, readonly Referrer[]>;
}

export interface Repository {
  /** Full: `docker.io/library/alpine`. */
  readonly name: string;
  readonly tags: ReadonlyMap<string, ImageRecord>;
  /** Read when it is first asked for. */
  content(): Promise<RepositoryContent>;
}

export interface RegistryView {
  readonly revision: string;
  /** By full name. */
  readonly repositories: ReadonlyMap<string, Repository>;
}

export interface RegistryViewOptions {
  readonly store: Store;
  readonly limits: Limits;
  /** Told of images that cannot be shown. */
  readonly onError: (error: unknown) => void;
}

/** The images of the store as they are now. Only what came in through a gate is shown. */
export async function readRegistryView(options: RegistryViewOptions): Promise<RegistryView> {
  // Read before the list: a change in between makes the view look older than it is, and it is read once more.
  const revision = await options.store.revision();
  const { images } = await options.store.list();
  const grouped = new Map<string, ImageRecord[]>();
  for (const record of images) {
    const name = repositoryName(parseImageName(record.name));
    const group = grouped.get(name);
    if (group) group.push(record);
    else grouped.set(name, [record]);
  }
  const repositories = new Map<string, Repository>();
  for (const [name, records] of grouped) repositories.set(name, repositoryOf(name, records, options));
  return { revision, repositories };
}

function repositoryOf(
  name: string,
  records: readonly ImageRecord[],
  options: RegistryViewOptions,
): Repository {
  const tags = new Map<string, ImageRecord>();
  for (const record of records) {
    const { tag } = parseImageName(record.name);
    if (tag !== undefined) tags.set(tag, record);
  }
  let content: Promise<RepositoryContent> | undefined;
  return {
    name,
    tags,
    content: () => {
      content ??= readContent(records, options).catch((error: unknown) => {
        content = undefined;
        throw error;
      });
      return content;
    },
  };
}

async function readContent(
  records: readonly ImageRecord[],
  options: RegistryViewOptions,
): Promise<RepositoryContent> {
  const { store, limits } = options;
  const reader = {
    exists: async (digest: Digest): Promise<boolean> => {
      const blob = await store.openBlob(digest);
      await blob?.handle.close();
      return blob !== undefined;
    },
    read: (digest: Digest, max: number): Promise<Uint8Array> => store.readBlob(digest, max),
  };
  const seen = new Map<string, GraphNode>();
  for (const record of records) {
    for (const start of [record, ...record.evidence]) {
      try {
        await walkGraph(reader, { digest: start.digest, mediaType: start.mediaType }, limits, seen);
      } catch (error) {
        // One damaged image must not take the others of its repository away.
        options.onError(error);
      }
    }
  }
  const reachable = new Map<string, Reachable>();
  const referrers = new Map<string, Referrer[]>();
  // The parsed manifests are not kept: memory stays small however many images there are.
  for (const { digest, mediaType, size, manifest } of seen.values()) {
    reachable.set(digest, { digest, mediaType, size, isManifest: manifest !== undefined });
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
    const others = referrers.get(manifest.subject.digest);
    if (others) others.push(referrer);
    else referrers.set(manifest.subject.digest, [referrer]);
  }
  for (const list of referrers.values()) list.sort((a, b) => (a.digest < b.digest ? -1 : 1));
  return { reachable, referrers };
}
