/** What is at a destination and not wanted there: what it is, when it may go, and in which order. */
import type { Context } from '../context.ts';
import { isSealiftError } from '../errors.ts';
import { formatTimestamp, parseDocument, TIMESTAMP } from '../fs/document.ts';
import { type Digest, digestAlgorithm, digestOf } from '../oci/digest.ts';
import type { Destination, Listed } from './destination.ts';
import { ROOT_KEY, STATE_KEY } from './plan.ts';

export const STATE_MAX = 256 * 1024 * 1024;
export const TAG_KEY = /^v2\/(.+)\/manifests\/([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})$/;
/** Tags of evidence: those that list referrers, and cosign's. */
const FALLBACK = /^sha256-[0-9a-f]{64}(?:\.(?:sig|att|sbom))?$/;
const DIGEST_KEY = /^v2\/.+\/(?:manifests|blobs|referrers)\/sha(?:256:[0-9a-f]{64}|512:[0-9a-f]{128})$/;
const LIST_KEY = /^v2\/.+\/tags\/list$/;

export interface Strays {
  readonly tags: readonly string[];
  readonly lists: readonly string[];
  /** Keys that are named by a digest, and fallback tags. */
  readonly objects: readonly string[];
}

/** What is there and not wanted, of the kinds a sync makes; anything else is nobody's business. */
export function straysOf(
  there: ReadonlyMap<string, Listed>,
  wanted: ReadonlySet<string>,
  repositories: ReadonlySet<string>,
  scope: string | undefined,
): Strays {
  const tags: string[] = [];
  const lists: string[] = [];
  const objects: string[] = [];
  for (const key of there.keys()) {
    if (wanted.has(key) || key === ROOT_KEY || (scope !== undefined && !key.startsWith(scope))) continue;
    const [, repository, tag] = TAG_KEY.exec(key) ?? [];
    // A nested repository of somebody else's was listed only because its key begins alike.
    if (scope === undefined && repository !== undefined && !repositories.has(repository)) continue;
    if (tag !== undefined && !FALLBACK.test(tag)) tags.push(key);
    else if (tag !== undefined || DIGEST_KEY.test(key)) objects.push(key);
    else if (LIST_KEY.test(key)) lists.push(key);
  }
  return { tags: tags.sort(), lists: lists.sort(), objects: objects.sort() };
}

/** Which strays have been unneeded for long enough, in the order they go, and which wait. */
export async function decide(
  strays: Strays,
  state: ReadonlyMap<string, string>,
  grace: number,
  destination: Destination,
  context: Context,
): Promise<{ now: readonly (readonly string[])[]; waiting: Map<string, string> }> {
  const waiting = new Map<string, string>();
  const due: string[] = [];
  for (const key of strays.objects) {
    const since = state.get(key) ?? formatTimestamp(context.now);
    const age = context.now.getTime() - Date.parse(since);
    // A time ahead of this clock would keep an object for ever.
    if (age >= grace) due.push(key);
    else waiting.set(key, age < 0 ? formatTimestamp(context.now) : since);
  }
  const isReferrers = (key: string): boolean => key.includes('/referrers/') || TAG_KEY.test(key);
  const manifests = due.filter((key) => key.includes('/manifests/') && !isReferrers(key));
  const indexes = new Set<string>();
  for (const key of manifests) {
    if (await isIndex(destination, key, context.limits.manifest)) indexes.add(key);
  }
  return {
    now: [
      due.filter(isReferrers),
      manifests.filter((key) => indexes.has(key)),
      manifests.filter((key) => !indexes.has(key)),
      due.filter((key) => key.includes('/blobs/')),
    ],
    waiting,
  };
}

/** Only decides the order in which manifests go that nothing needs; what cannot be read goes first. */
async function isIndex(destination: Destination, key: string, max: number): Promise<boolean> {
  try {
    const bytes = await destination.read(key, max);
    return (
      bytes === undefined ||
      Array.isArray((JSON.parse(bytes.toString('utf8')) as { manifests?: unknown }).manifests)
    );
  } catch (error) {
    if (isSealiftError(error) || error instanceof SyntaxError || error instanceof TypeError) return true;
    throw error;
  }
}

/** A tag that was withdrawn, and what it led to then. */
export interface WithdrawnTag {
  readonly key: string;
  readonly digest: Digest;
}

/** Tags that still lead to what was withdrawn; one that leads elsewhere is somebody else's. */
export async function withdrawnTags(
  tags: readonly string[],
  withdrawn: readonly WithdrawnTag[],
  destination: Destination,
  max: number,
): Promise<readonly string[]> {
  const gone: string[] = [];
  for (const key of tags) {
    for (const { digest } of withdrawn.filter((one) => one.key === key)) {
      const bytes = await destination.read(key, max);
      if (bytes && digestOf(bytes, digestAlgorithm(digest)) === digest) gone.push(key);
    }
  }
  return [...new Set(gone)];
}

/** Since when objects are unneeded. A note that is damaged or of a newer kind only makes every grace period begin anew. */
export function parseState(bytes: Uint8Array | undefined): ReadonlyMap<string, string> {
  if (!bytes) return new Map();
  try {
    const document = parseDocument(bytes, { file: STATE_KEY, hint: '', maxBytes: STATE_MAX });
    if (document.integer('formatVersion') !== 1) return new Map();
    return new Map(
      document
        .objects('unneeded')
        .map((item) => [item.string('key'), item.string('since', TIMESTAMP)] as const),
    );
  } catch (error) {
    if (isSealiftError(error)) return new Map();
    throw error;
  }
}
