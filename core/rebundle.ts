/**
 * Merge, subset and repack: a new version from bundles there are, signed by the carrier; what publishers signed stays
 * as it is. Nothing here moves a name: an old bundle must not bring back what its collection has moved on from.
 */
import { readClaims } from './claims.ts';
import type { Context } from './context.ts';
import { inert, isSealiftError, SealiftError } from './errors.ts';
import { exportBundle } from './export.ts';
import type { TrustJudgement } from './judge.ts';
import type { ExportResult, ImageVerdict } from './results.ts';
import { fullName } from './transport/bundle/names.ts';
import type { NamedLocation } from './transport/location.ts';
import { type Collection, openCollection } from './trust/collection.ts';
import type { ExportOptions } from './workflow-options.ts';

export interface RebundleOptions extends Omit<ExportOptions, 'images' | 'metadataOnly' | 'since'> {
  /** Paths. */
  readonly bundles: readonly string[];
  /** Fingerprints of the roots of other collections whose bundles are taken; those must not have expired. */
  readonly fingerprints: readonly string[];
  /** Names in any spelling; empty for all that the bundles carry. */
  readonly names: readonly string[];
  /** Leaves out again what a delta among the bundles leaves out. */
  readonly keepDelta?: boolean | undefined;
}

/**
 * Exports what bundles carry as a new version of `options.collection`. Of one name in several bundles of the collection
 * the digest it has today is taken. A delta is completed by the other bundles and by `blobsFrom`, or stays a delta.
 * @throws SealiftError as `exportBundle()`, `base-needed` among them; what a bundle that does not verify gives; `not-pinned` for a bundle of another
 *   collection without a fingerprint; `name-not-found`; `name-conflict` where two bundles, or a bundle and the collection,
 *   have another digest for a name; `name-withdrawn`
 */
export async function rebundle(options: RebundleOptions, context: Context): Promise<ExportResult> {
  const { bundles, fingerprints, keepDelta, ...rest } = options;
  const names = options.names.map(fullName);
  const collection = await openCollection(options.collection, context.limits);
  const verified: Verified[] = [];
  for (const path of bundles) {
    context.emit({ type: 'phase', phase: 'verify', title: `verifying ${path}` });
    verified.push(await verifiedImages(path, fingerprints, collection, context));
  }
  const found = new Map<string, { readonly image: ImageVerdict; readonly path: string }>();
  for (const { path, images, own } of verified) {
    for (const image of images) {
      if (names.length > 0 && !names.includes(image.name)) continue;
      if (own && isSuperseded(image, verified, collection)) {
        tellSuperseded(image, path, context);
        continue;
      }
      checkCurrent(image, collection, own);
      const before = found.get(image.name);
      if (before && before.image.digest !== image.digest) {
        throw conflict(image, `${inert(before.path, 4096)} has ${before.image.digest}`);
      }
      if (!before) found.set(image.name, { image, path });
    }
  }
  for (const name of names) {
    if (found.has(name)) continue;
    throw new SealiftError('name-not-found', 'the bundle carries no image of that name', {
      subject: name,
      hint: 'sealift inspect BUNDLE lists the names',
    });
  }
  const images = [...found].map(
    ([name, { image, path }]): NamedLocation => ({
      name,
      // By digest: whatever lies at that path by then, only what was verified goes on.
      location: { kind: 'bundle', file: path, name: image.digest },
      text: `${name}=bundle:${path}:${image.digest}`,
    }),
  );
  // Bundles of which no image is taken may still hold what a delta leaves out.
  const sources = new Set([...found.values()].map(({ path }) => path));
  const others = bundles.filter((path) => !sources.has(path));
  return exportBundle(
    {
      ...rest,
      images,
      blobsFrom: [...others, ...(options.blobsFrom ?? [])],
      ...(keepDelta ? { since: { kind: 'base-of', bundles } } : {}),
    },
    withoutNotice(context),
  );
}

interface Verified {
  readonly path: string;
  readonly images: readonly ImageVerdict[];
  readonly digests: ReadonlyMap<string, string>;
  /** Of the collection that signs the result. */
  readonly own: boolean;
  /** Names the bundle withdraws. */
  readonly withdrawn: ReadonlySet<string>;
}

/** True where a newer bundle of the same collection, among those given, has the name as it is today, or withdraws it. */
function isSuperseded(
  { name, digest }: ImageVerdict,
  verified: readonly Verified[],
  collection: Collection,
): boolean {
  const today = currentDigest(name, collection);
  if (today === digest) return false;
  return verified.some(
    ({ own, digests, withdrawn }) =>
      own && (today === undefined ? withdrawn.has(name) : digests.get(name) === today),
  );
}

function tellSuperseded({ name, digest }: ImageVerdict, path: string, context: Context): void {
  context.emit({
    type: 'notice',
    level: 'info',
    code: 'superseded',
    message: `${name}: ${inert(path, 4096)} has ${digest}, which another bundle that was given has moved on from or withdraws; left out`,
  });
}

async function verifiedImages(
  path: string,
  fingerprints: readonly string[],
  collection: Collection,
  context: Context,
): Promise<Verified> {
  let claims: TrustJudgement = await readClaims(path, context);
  const own = claims.collectionId === collection.id;
  if (!own) {
    claims = await anchored(
      path,
      fingerprints,
      context,
      () =>
        new SealiftError('not-pinned', 'the bundle is of another collection', {
          subject: inert(path, 4096),
          got: claims.collectionId,
          want: collection.id,
          hint: 'get the fingerprint of its root from its sender by another way than the medium, then add --fingerprint SHA256',
        }),
    );
  }
  return {
    path,
    images: claims.images,
    digests: new Map(claims.images.map(({ name, digest }) => [name, digest])),
    own,
    withdrawn: new Set(claims.withdrawn.map(({ name }) => name)),
  };
}

/** The bundle of another collection, by the first of the fingerprints that its root has. */
async function anchored(
  path: string,
  fingerprints: readonly string[],
  context: Context,
  unknown: () => SealiftError,
): Promise<TrustJudgement> {
  for (const fingerprint of fingerprints) {
    try {
      return await readClaims(path, context, { fingerprint, now: context.now });
    } catch (error) {
      if (!isSealiftError(error) || error.code !== 'pin-mismatch') throw error;
    }
  }
  throw unknown();
}

function currentDigest(name: string, collection: Collection): string | undefined {
  const target = collection.images.get(name);
  return target && (target.sha512 === undefined ? `sha256:${target.sha256}` : `sha512:${target.sha512}`);
}

/** What the collection says of a name today must be what the bundle brings. */
function checkCurrent(image: ImageVerdict, collection: Collection, own: boolean): void {
  const digest = currentDigest(image.name, collection);
  if (digest === undefined) {
    if (!own) return;
    throw new SealiftError(
      'name-withdrawn',
      'the collection has withdrawn this name since, or never had it',
      {
        subject: image.name,
        hint: `to bring it back on purpose: sealift export ${inert(image.name)}=LOCATION`,
      },
    );
  }
  if (digest !== image.digest) throw conflict(image, `the collection has ${digest}`);
}

function conflict(image: ImageVerdict, other: string): SealiftError {
  return new SealiftError('name-conflict', `one name has two digests: got ${image.digest}, but ${other}`, {
    subject: image.name,
    got: image.digest,
    hint: `choose with: sealift export ${inert(image.name)}=bundle:FILE, or leave the name out`,
  });
}

/** Exports warn of bundles nobody has verified; these were. */
function withoutNotice(context: Context): Context {
  return {
    ...context,
    emit: (event) => {
      if (event.type !== 'notice' || event.code !== 'bundle-not-verified') context.emit(event);
    },
  };
}
