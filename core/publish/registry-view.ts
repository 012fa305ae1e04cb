/** What a read-only registry shows of a store: repositories, their tags and all that their images reach. */
import type { Limits } from '../limits.ts';
import type { Digest } from '../oci/digest.ts';
import { parseImageName, repositoryName } from '../oci/reference.ts';
import { taggedEvidence } from '../store/records.ts';
import type { ImageRecord, Store } from '../store/store.ts';
import {
  type Referrer,
  referrersOf,
  type StoredSignature,
  signaturesOf,
  storeReader,
  walkRecords,
} from './content.ts';

/** A manifest or blob that may be fetched under a repository. */
export interface Reachable {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly size: number;
  readonly isManifest: boolean;
}

export interface RepositoryContent {
  readonly reachable: ReadonlyMap<string, Reachable>;
  /** By digest of the subject, ascending by their own. */
  readonly referrers: ReadonlyMap<string, readonly Referrer[]>;
  /** Manifests by tags that say what they are about (`sha256-HEX.sig`), which no list of tags names. */
  readonly attached: ReadonlyMap<string, Digest>;
  /** Simple-signing signatures by the manifest they are about. */
  readonly signatures: ReadonlyMap<string, readonly StoredSignature[]>;
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
  // One damaged image must not take the others of its repository away.
  const nodes = await walkRecords(storeReader(store), records, limits, options.onError);
  const reachable = new Map<string, Reachable>();
  // The parsed manifests are not kept: memory stays small however many images there are.
  for (const { digest, mediaType, size, manifest } of nodes.values())
    reachable.set(digest, { digest, mediaType, size, isManifest: manifest !== undefined });
  const attached = new Map([...taggedEvidence(records)].map(([tag, { digest }]) => [tag, digest]));
  return {
    reachable,
    referrers: referrersOf(nodes.values()),
    attached,
    signatures: signaturesOf(nodes.values()),
  };
}
