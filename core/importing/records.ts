/** What an import changes in what was let in: the same for a store and for a destination. */
import type { Context } from '../context.ts';
import { SealiftError } from '../errors.ts';
import { formatTimestamp } from '../fs/document.ts';
import type { TrustJudgement } from '../judge.ts';
import type { EvidenceSummary, ImageVerdict } from '../results.ts';
import { type EvidenceJudgement, judgementOf } from '../store/records.ts';
import type { ImageRecord } from '../store/store.ts';
import { resolveTarget } from '../trust/search.ts';

export interface Outcome {
  readonly imported: readonly string[];
  readonly unchanged: readonly string[];
  readonly removed: readonly string[];
}

export interface PlannedChange {
  /** All that are let in or renewed. */
  readonly records: readonly ImageRecord[];
  /** Those of them that are not there as they are. */
  readonly changed: readonly ImageRecord[];
  /** Digests by name, as they are then. */
  readonly after: ReadonlyMap<string, string>;
  /** Names that were there and are withdrawn, ascending. */
  readonly withdrawn: readonly string[];
  readonly imported: readonly string[];
  readonly unchanged: readonly string[];
}

/** Withdrawn names go, chosen ones come, and what the collection still vouches for has its trust renewed. */
export function planChange(
  stored: readonly ImageRecord[],
  trust: TrustJudgement,
  chosen: readonly ImageVerdict[],
  context: Context,
): PlannedChange {
  const mine = new Map(
    stored
      .filter(({ collectionId }) => collectionId === trust.collectionId)
      .map((record) => [record.name, record]),
  );
  const withdrawn = trust.withdrawn.filter(({ name }) => mine.has(name)).map(({ name }) => name);
  const records = chosen.map((image) =>
    recordOf(
      image,
      trust,
      context,
      stored.find(({ name }) => name === image.name),
    ),
  );
  const names = new Set(records.map(({ name }) => name));
  const renewed = [...mine.values()].filter(({ name, digest }) => {
    if (names.has(name) || withdrawn.includes(name)) return false;
    return resolveTarget(trust.set, name)?.digest === digest;
  });
  const renewedRecords = renewed.map((record) => ({ ...record, trustExpires: trust.collection.expires }));
  const known = new Map(stored.map((record) => [record.name, JSON.stringify(record)]));
  const all = [...records, ...renewedRecords];
  const before = new Map(stored.map((record) => [record.name, record.digest]));
  const isNew = ({ name, digest }: ImageRecord) => before.get(name) !== digest;
  const after = new Map([...before, ...records.map(({ name, digest }) => [name, digest] as const)]);
  for (const name of withdrawn) after.delete(name);
  return {
    records: all,
    after,
    changed: all.filter((record) => known.get(record.name) !== JSON.stringify(record)),
    withdrawn: withdrawn.sort(),
    imported: records.filter(isNew).map(({ name }) => name),
    unchanged: records.filter((record) => !isNew(record)).map(({ name }) => name),
  };
}

/** What a policy made of a piece of evidence; nothing where none looked at it. */
function judgedAs(piece: EvidenceSummary | undefined): { readonly judged?: EvidenceJudgement } {
  if (piece?.reason === undefined) return {};
  return { judged: judgementOf({ ...piece, reason: piece.reason }) };
}

function recordOf(
  image: ImageVerdict,
  trust: TrustJudgement,
  context: Context,
  before: ImageRecord | undefined,
): ImageRecord {
  const listed = trust.manifest.images.find(({ name }) => name === image.name);
  if (!listed)
    throw new SealiftError('internal', 'a chosen image is not in the bundle manifest', {
      subject: image.name,
    });
  const evidence = new Set(listed.evidence);
  return {
    name: listed.name,
    digest: listed.digest,
    mediaType: listed.mediaType,
    size: listed.size,
    contentSize: listed.contentSize,
    platforms: listed.platforms,
    omitted: listed.omitted.map(({ digest }) => digest),
    evidence: trust.manifest.evidence
      .filter(({ digest }) => evidence.has(digest))
      .map(({ digest, mediaType, artifactType, size, subject, tag }) => ({
        digest,
        mediaType,
        artifactType,
        size,
        subject,
        ...(tag === undefined ? {} : { tag }),
        ...judgedAs(image.evidence.find((piece) => piece.digest === digest)),
      })),
    ...(listed.digestMadeHere === true ? { digestMadeHere: true as const } : {}),
    collectionId: trust.collectionId,
    bundleVersion: trust.manifest.version,
    role: image.role,
    // An image that is there already was let in then, not now; what is renewed is its trust.
    importedAt: before?.digest === listed.digest ? before.importedAt : formatTimestamp(context.now),
    trustExpires: trust.collection.expires,
  };
}
