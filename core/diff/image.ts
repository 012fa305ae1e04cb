/** Two images side by side: platforms, layers, labels, settings, evidence. */
import type { Context } from '../context.ts';
import { describeImage, type PlatformDetails } from '../image-details.ts';
import type { Digest } from '../oci/digest.ts';
import type { CollectedImage, ContentBlob } from '../transport/collect.ts';
import { comparePackages } from './packages.ts';
import type { EvidenceDiff, FileChange, ImageDiff, PlatformDiff, ValueChange } from './result.ts';
import type { Side } from './side.ts';

/** Compares the files of two stacks of layers, bottom first; undefined where a layer is no tar (artifacts, encrypted layers). */
export type CompareFiles = (
  before: PlatformDetails['layers'],
  after: PlatformDetails['layers'],
) => Promise<readonly FileChange[] | undefined>;

export interface Pair {
  readonly before: CollectedImage;
  readonly after: CollectedImage;
}

/**
 * @param bytesOf see {@link sizesOf}
 * @throws SealiftError `manifest-invalid` and what the sources give
 */
export async function diffImages(
  { before, after }: Pair,
  sides: { readonly before: Side; readonly after: Side },
  bytesOf: (image: CollectedImage) => number,
  compareFiles: CompareFiles | undefined,
  context: Context,
): Promise<ImageDiff> {
  const evidence = compareEvidence(before, after, sides);
  const same = before.manifest.digest === after.manifest.digest;
  const packages =
    same && evidence.length === 0 ? undefined : await comparePackages({ before, after }, sides, context);
  return {
    name: before.name,
    ...(after.name === before.name ? {} : { afterName: after.name }),
    before: before.manifest.digest,
    after: after.manifest.digest,
    platforms: same ? [] : await comparePlatforms({ before, after }, sides, compareFiles, context),
    evidence,
    ...(packages ? { packages } : {}),
    bytes: bytesOf(after),
  };
}

/**
 * Bytes of each image of a side, evidence included, that the other side lacks. One pass over all blobs, however many images
 * there are.
 */
export function sizesOf(
  { images, content }: Side,
  isHeld: (blob: ContentBlob) => boolean,
): (image: CollectedImage) => number {
  const sizes: number[] = images.map(() => 0);
  for (const blob of content.blobs.values()) {
    if (isHeld(blob)) continue;
    for (const index of blob.images) sizes[index] = (sizes[index] ?? 0) + blob.size;
  }
  const byImage = new Map(images.map((image, index) => [image, sizes[index] ?? 0]));
  return (image) => byImage.get(image) ?? 0;
}

async function comparePlatforms(
  pair: Pair,
  sides: { readonly before: Side; readonly after: Side },
  compareFiles: CompareFiles | undefined,
  context: Context,
): Promise<readonly PlatformDiff[]> {
  const [before, after] = await Promise.all([
    describeImage(pair.before.manifest.digest, (digest, max) => sides.before.read(digest, max), context),
    describeImage(pair.after.manifest.digest, (digest, max) => sides.after.read(digest, max), context),
  ]);
  const found: PlatformDiff[] = [];
  for (const [old, young] of pairUp(before.platforms, after.platforms)) {
    if (old && young && old.digest === young.digest) continue;
    const had = new Set(old?.layers.map(({ digest }) => digest));
    const has = new Set(young?.layers.map(({ digest }) => digest));
    const files = compareFiles && old && young && (await compareFiles(old.layers, young.layers));
    const bare = ({ digest, size }: { readonly digest: string; readonly size: number }) => ({ digest, size });
    found.push({
      platform: (young ?? old)?.platform ?? '',
      state: !old ? 'added' : !young ? 'removed' : 'changed',
      ...(old ? { before: old.digest } : {}),
      ...(young ? { after: young.digest } : {}),
      layers: {
        kept: [...has].filter((digest) => had.has(digest)).length,
        added: (young?.layers ?? []).filter(({ digest }) => !had.has(digest)).map(bare),
        removed: (old?.layers ?? []).filter(({ digest }) => !has.has(digest)).map(bare),
      },
      labels: compareValues(old?.labels ?? [], young?.labels ?? []),
      settings: compareValues(old?.settings ?? [], young?.settings ?? []),
      ...(files ? { files } : {}),
    });
  }
  return found;
}

type Paired = readonly [PlatformDetails | undefined, PlatformDetails | undefined];

/** By platform; several of one platform (attestations have none) by their place among them. */
function pairUp(before: readonly PlatformDetails[], after: readonly PlatformDetails[]): readonly Paired[] {
  const keyed = (list: readonly PlatformDetails[]) => {
    const count = new Map<string, number>();
    return new Map(
      list.map((platform) => {
        const number = count.get(platform.platform) ?? 0;
        count.set(platform.platform, number + 1);
        return [`${platform.platform}#${number}`, platform] as const;
      }),
    );
  };
  const [old, young] = [keyed(before), keyed(after)];
  return [...new Set([...old.keys(), ...young.keys()])].map((key) => [old.get(key), young.get(key)] as const);
}

function compareValues(
  before: readonly (readonly [string, string])[],
  after: readonly (readonly [string, string])[],
): readonly ValueChange[] {
  const [old, young] = [new Map(before), new Map(after)];
  return [...new Set([...old.keys(), ...young.keys()])]
    .sort()
    .filter((name) => old.get(name) !== young.get(name) || old.has(name) !== young.has(name))
    .map((name) => {
      const [was, is] = [old.get(name), young.get(name)];
      return {
        name,
        ...(was === undefined ? {} : { before: was }),
        ...(is === undefined ? {} : { after: is }),
      };
    });
}

function compareEvidence(
  before: CollectedImage,
  after: CollectedImage,
  sides: { readonly before: Side; readonly after: Side },
): readonly EvidenceDiff[] {
  const types = new Map<string, { before: number; after: number; same: number }>();
  const count = (side: Side, digest: Digest, key: 'before' | 'after', same: boolean) => {
    const artifactType = side.content.evidence.get(digest)?.artifactType ?? '';
    const entry = types.get(artifactType) ?? { before: 0, after: 0, same: 0 };
    entry[key] += 1;
    if (same) entry.same += 1;
    types.set(artifactType, entry);
  };
  const old = new Set(before.evidence);
  for (const digest of before.evidence) count(sides.before, digest, 'before', false);
  for (const digest of after.evidence) count(sides.after, digest, 'after', old.has(digest));
  return [...types]
    .filter(([, { before: had, after: has, same }]) => had !== same || has !== same)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([artifactType, counts]) => ({ artifactType, ...counts }));
}
