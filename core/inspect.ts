/** Inspect: what is inside a bundle, a store or a collection. It shows claims; only verify says whether they hold. */

import { parseBundleManifest } from './bundle/manifest.ts';
import { openBundleAt } from './bundle/open.ts';
import { readClaims } from './claims.ts';
import type { Context } from './context.ts';
import { baseSummary } from './delta/base.ts';
import { summariseReceipt } from './delta/make-receipt.ts';
import { isReceiptFile, readReceipt } from './delta/receipt.ts';
import { isSealiftError, SealiftError } from './errors.ts';
import { evidenceKind } from './evidence/kinds.ts';
import type { ReadBlob } from './image-details.ts';
import { kindOfPath } from './locate.ts';
import { attestationSubject, isAttestation } from './oci/attestation.ts';
import { formatPlatform } from './oci/descriptor.ts';
import { blobPath } from './oci/digest.ts';
import { parseManifest } from './oci/manifest.ts';
import type { EvidenceSummary, ImageSummary, InspectResult } from './results.ts';
import { type ImageRecord, openStore, type Store } from './store/store.ts';
import { fullName } from './transport/bundle/names.ts';
import { openCollection } from './trust/collection.ts';
import { tellExpiring, tellExpiringIn, withExpiring } from './trust/expiring.ts';

export interface InspectOptions {
  readonly location: string;
  /** Names to show; empty for all. */
  readonly names: readonly string[];
}

/**
 * @throws SealiftError `bundle-not-found`, `unknown-location`, `name-not-found`, and what a malformed bundle gives
 */
export async function inspectLocation(options: InspectOptions, context: Context): Promise<InspectResult> {
  const { location } = options;
  const kind = await kindOfPath(location);
  if (kind === 'bundle' && (await isReceiptFile(location))) return inspectReceipt(location);
  if (kind === 'bundle') {
    const result = select(await inspectBundle(location, context), options);
    return hasContentTrust(result) ? withBundleClaims(result, context) : result;
  }
  if (kind === 'store') {
    const result = select(await inspectStore(location, context), options);
    if (!hasContentTrust(result)) return result;
    const store = await openStore(location, { create: false, limits: context.limits });
    return withClaims(result, (digest, max) => store.readBlob(digest, max), context);
  }
  if (kind === 'collection') return select(await inspectCollection(location, context), options);
  throw new SealiftError('unknown-location', `neither a bundle nor a store nor a collection: got a ${kind}`, {
    subject: location,
    hint: 'name the bundle file, or the directory of a store or a collection',
  });
}

function select(result: InspectResult, { names }: InspectOptions): InspectResult {
  if (names.length === 0) return result;
  const images = names.map((name) => {
    const image = result.images.find((candidate) => candidate.name === fullName(name));
    if (!image) throw new SealiftError('name-not-found', 'there is no image of that name', { subject: name });
    return image;
  });
  return { ...result, images };
}

function hasContentTrust({ images }: InspectResult): boolean {
  return images.some(({ evidence }) => evidence.some(({ kind }) => kind === 'content-trust'));
}

async function withBundleClaims(result: InspectResult, context: Context): Promise<InspectResult> {
  const bundle = await openBundleAt({ path: result.location }, context);
  try {
    bundle.accept(parseBundleManifest(bundle.head.manifest, context.limits));
    return await withClaims(result, (digest, max) => bundle.readBlob(blobPath(digest), max), context);
  } finally {
    await bundle.close();
  }
}

/** What notary's files claim of the images, beside each piece of that kind. */
async function withClaims(result: InspectResult, read: ReadBlob, context: Context): Promise<InspectResult> {
  const { readContentTrust } = await import('./evidence/content-trust/carried.ts');
  const images: ImageSummary[] = [];
  for (const image of result.images) {
    const evidence: EvidenceSummary[] = [];
    for (const piece of image.evidence) {
      const claims =
        piece.kind === 'content-trust'
          ? await readContentTrust(piece, image, read, context.limits)
          : undefined;
      evidence.push(claims === undefined ? piece : { ...piece, contentTrust: claims });
    }
    images.push({ ...image, evidence });
  }
  return { ...result, images };
}

/** A receipt whose signature fits; whether its key is that of the gate meant is for the reader to compare. */
async function inspectReceipt(location: string): Promise<InspectResult> {
  const receipt = summariseReceipt(await readReceipt(location));
  return { kind: 'receipt', location, images: [], receipt, verified: false };
}

async function inspectBundle(location: string, context: Context): Promise<InspectResult> {
  const { collection, images, manifest, set } = await readClaims(location, context);
  const base = baseSummary(manifest);
  const expiring = await tellExpiringIn(set, context);
  return withExpiring({ kind: 'bundle', location, collection, images, base, verified: false }, expiring);
}

async function inspectStore(location: string, context: Context): Promise<InspectResult> {
  const store = await openStore(location, { create: false, limits: context.limits });
  const { images } = await store.list();
  const omitted = new Map<string, ImageSummary['omitted']>();
  for (const record of images) omitted.set(record.name, await omittedOf(record, store, context));
  return {
    kind: 'store',
    location,
    images: images.map(
      (record): ImageSummary => ({
        name: record.name,
        digest: record.digest,
        mediaType: record.mediaType,
        platforms: record.platforms,
        omitted: omitted.get(record.name) ?? [],
        size: record.contentSize,
        evidence: record.evidence.map(({ digest, artifactType, subject, size, tag }) => ({
          digest,
          artifactType,
          kind: evidenceKind({ artifactType, tag }),
          subject,
          via: 'bundle',
          ...(tag === undefined ? {} : { tag }),
          size,
          state: 'carried',
        })),
        digestMadeHere: record.digestMadeHere === true,
      }),
    ),
    verified: true,
  };
}

/** A store remembers what was left out, and the image's index what that is. */
async function omittedOf(
  { digest, mediaType, size, omitted }: ImageRecord,
  store: Store,
  { limits }: Context,
): Promise<ImageSummary['omitted']> {
  if (omitted.length === 0) return [];
  const gone = new Set<string>(omitted);
  const children = await store
    .readBlob(digest, Math.min(size, limits.manifest))
    .then((bytes) => parseManifest(bytes, { mediaType, digest, limits }).manifests)
    .catch((error: unknown) => {
      // A damaged store is still looked at.
      if (isSealiftError(error)) return [];
      throw error;
    });
  return omitted.map((part) => {
    const child = children.find((one) => one.digest === part);
    if (child && isAttestation(child) && !gone.has(attestationSubject(child)))
      return { digest: part, reason: 'evidence' };
    const isTold = child?.platform && child.platform.os !== 'unknown';
    return {
      digest: part,
      ...(isTold && child.platform ? { platform: formatPlatform(child.platform) } : {}),
      reason: 'platform',
    };
  });
}

async function inspectCollection(location: string, context: Context): Promise<InspectResult> {
  const collection = await openCollection(location, context.limits);
  const result: InspectResult = {
    kind: 'collection',
    location,
    collection: await collection.summary(),
    images: [...collection.images].map(([name, target]) => ({
      name,
      digest: target.sha512 ? `sha512:${target.sha512}` : `sha256:${target.sha256}`,
      mediaType: target.mediaType,
      platforms: [],
      omitted: [],
      size: target.length,
      evidence: [],
      digestMadeHere: false,
    })),
    verified: true,
  };
  return withExpiring(result, await tellExpiring(collection.state, context));
}
