/** The plan of an export: what is carried, where each byte goes, and everything that is signed. */
import { createHash } from 'node:crypto';
import { dockerManifestJson, indexJson, ociLayoutFile, sha256Sums, sha512Sums } from '../bundle/computed.ts';
import type { JournalPlan, NamedBytes, ReusableFile } from '../bundle/journal.ts';
import { type BundlePlan, layoutBundle } from '../bundle/layout.ts';
import {
  BUNDLE_FORMAT_VERSION,
  BUNDLE_MEDIA_TYPE,
  type BundleBase,
  type BundleManifest,
  createdSeconds,
  encodeBundleManifest,
  formatCreated,
  listEntries,
  omitsEvidence,
  parseEntryName,
} from '../bundle/manifest.ts';
import { readmeText } from '../bundle/readme.ts';
import type { Context } from '../context.ts';
import { assertComplete } from '../delta/completeness.ts';
import { type LeftOut, leaveOut } from '../delta/leave-out.ts';
import { resolveSince } from '../delta/since.ts';
import { SealiftError } from '../errors.ts';
import { canonicalJson } from '../json/canonical.ts';
import { blobPath, digestAlgorithm, digestHex } from '../oci/digest.ts';
import { type ParsedManifest, parseManifest } from '../oci/manifest.ts';
import { isImageConfig, isTarLayer } from '../oci/media-types.ts';
import type { CollectionSummary } from '../results.ts';
import { type CollectedImage, type Content, collectContent } from '../transport/collect.ts';
import { imageNameOf } from '../transport/location.ts';
import { type Collection, requireSigners, rulerOf } from '../trust/collection.ts';
import type { Signer } from '../trust/signer.ts';
import { GENERATOR } from '../version.ts';
import type { ExportOptions } from '../workflow-options.ts';
import { requestsOf, type SourceSet } from './sources.ts';

export interface SignedPlan {
  readonly journal: JournalPlan;
  readonly bundle: BundlePlan;
  readonly manifest: BundleManifest;
  /** Of the collection as this run has signed and verified it; absent where an earlier run has. */
  readonly summary?: CollectionSummary | undefined;
}

export async function planExport(
  collection: Collection,
  sources: SourceSet,
  paths: { readonly output: string; readonly partial: string },
  options: ExportOptions,
  context: Context,
  reuse: ReusableFile | undefined,
): Promise<SignedPlan> {
  const there = options.since && (await resolveSince(collection, options.since, context));
  const signers = await unlock(collection, options, context);
  context.emit({ type: 'phase', phase: 'resolve', title: 'resolving images' });
  const requests = await requestsOf(options.images, sources, options, context);
  const content = await collectContent(requests, options, context);
  tellEvidence(content, context);
  if (options.policy !== undefined) {
    const { assertPolicyMet } = await import('../evidence/export-policy.ts');
    await assertPolicyMet(options.policy, content, requests, context);
  }

  const leftOut = there && leaveOut(content, there);
  await assertComplete(content, leftOut, requests, sources, context);
  context.emit({ type: 'phase', phase: 'sign', title: 'signing' });
  const created = wholeSeconds(options.created ?? context.now);
  const version = await collection.reserveVersion();
  const { head, manifest, expires, summary } = await signContent(
    collection,
    signers,
    content,
    { version, created, leftOut },
    options,
  );
  const blobs = manifest.entries.flatMap(({ name, size }) =>
    parseEntryName(name)?.type === 'blob' && size !== undefined ? [{ name, size }] : [],
  );
  const bundle = layoutBundle(head, blobs, createdSeconds(manifest.created) ?? 0);
  const held: NamedBytes[] = [];
  const places: JournalPlan['sources'][number][] = [];
  for (const blob of content.blobs.values()) {
    const name = blobPath(blob.digest);
    if (leftOut?.digests.has(blob.digest)) continue;
    if (blob.bytes) held.push({ name, bytes: blob.bytes });
    else places.push({ name, mediaType: blob.mediaType, images: [...blob.images].sort((a, b) => a - b) });
  }
  const journal: JournalPlan = {
    request: requestHash(options),
    ...paths,
    version,
    created: manifest.created,
    expires,
    head,
    held,
    sources: places,
    reuse,
  };
  return { journal, bundle, manifest, summary };
}

/** Before anything is signed or transferred: what evidence there is, and which images have none. */
function tellEvidence({ images }: Content, context: Context): void {
  if (images.length === 0) return;
  const kinds = images.flatMap(({ evidenceKinds }) => evidenceKinds);
  const found = kinds.reduce((sum, { count }) => sum + count, 0);
  const bare = images.filter(({ evidenceKinds }) => evidenceKinds.length === 0).map(({ name }) => name);
  const names = bare.length > 5 ? [...bare.slice(0, 5), `${bare.length - 5} more`] : bare;
  context.emit({
    type: 'notice',
    level: 'info',
    code: 'evidence-found',
    message:
      found === 0
        ? 'no evidence found on any image'
        : `evidence found: ${found} on ${images.length - bare.length} of ${images.length}${
            bare.length === 0 ? '' : `; none on ${names.join(', ')}`
          }`,
  });
}

/**
 * The keys of every role that this export may have to sign: the first is the timestamp's. All are asked for at the
 * start, so that nobody has to come back.
 */
async function unlock(
  collection: Collection,
  options: ExportOptions,
  context: Context,
): Promise<readonly [Signer, ...Signer[]]> {
  const { state } = collection;
  const until = (options.created ?? context.now).getTime() + options.lifetime;
  const roles = new Set<string>(['timestamp', 'snapshot', 'bundles']);
  for (const named of options.images) roles.add(rulerOf(state, imageNameOf(named)) ?? 'images');
  for (const [role, { expires }] of state.delegated) if (expires.getTime() < until) roles.add(role);
  const signers = await collection.keyring([...roles], options);
  const [first, ...more] = requireSigners(state, 'timestamp', signers);
  if (!first) throw new SealiftError('internal', 'a role has a threshold of none');
  return [first, ...more, ...signers.filter((signer) => signer !== first && !more.includes(signer))];
}

function wholeSeconds(date: Date): Date {
  return new Date(Math.floor(date.getTime() / 1000) * 1000);
}

function baseOf(content: Content, { version, digests }: LeftOut, collection: string): BundleBase {
  return {
    collection,
    version,
    missing: [...content.blobs.values()]
      .filter(({ digest }) => digests.has(digest))
      .map(({ digest, size }) => ({
        name: blobPath(digest),
        size,
        ...(digestAlgorithm(digest) === 'sha256' ? { sha256: digestHex(digest) } : {}),
      }))
      .sort((a, b) => compareText(a.name, b.name)),
  };
}

/** Signs from the inside out: images, bundle manifest, bundles, snapshot, timestamp, list of checksums. */
async function signContent(
  collection: Collection,
  signers: readonly [Signer, ...Signer[]],
  content: Content,
  {
    version,
    created,
    leftOut,
  }: { readonly version: number; readonly created: Date; readonly leftOut: LeftOut | undefined },
  options: ExportOptions,
): Promise<{
  head: NamedBytes[];
  manifest: BundleManifest;
  expires: string;
  summary: CollectionSummary;
}> {
  const [signer] = signers;
  const staged = await collection.stage(
    { version, created, lifetimeMs: options.lifetime, images: targetsOf(content) },
    signers,
  );
  const images = content.images
    .map((image) => ({
      name: image.name,
      digest: image.manifest.digest,
      mediaType: image.manifest.mediaType,
      size: image.manifest.bytes.length,
      platforms: image.platforms,
      omitted: image.omitted,
      contentSize: image.contentSize,
      evidence: image.evidence,
      ...(image.digestMadeHere ? { digestMadeHere: true as const } : {}),
    }))
    .sort((a, b) => compareText(a.name, b.name));
  if (leftOut && options.dockerArchive) {
    throw new SealiftError('invalid-argument', 'a delta is no docker archive: it leaves layers out', {
      subject: '--docker-archive',
      hint: 'leave --docker-archive out, or --since',
    });
  }
  const docker = leftOut ? undefined : dockerManifestOf(content, options.dockerArchive);
  const base = leftOut && baseOf(content, leftOut, collection.id);
  const blobs = [...content.blobs.values()].flatMap(({ digest, size, kind }) =>
    leftOut?.digests.has(digest) ? [] : [{ name: blobPath(digest), size, kind }],
  );
  const expires = formatCreated(new Date(created.getTime() + options.lifetime));

  const files = new Map<string, Uint8Array>();
  files.set('oci-layout', ociLayoutFile());
  files.set(
    'README.txt',
    readmeText({
      collection,
      version,
      created: formatCreated(created),
      expires,
      rootFingerprint: collection.rootFingerprint,
      signerFingerprint: signer.fingerprint,
      images,
      sha512: blobs.some(({ name }) => name.startsWith('blobs/sha512/')),
      dockerArchive: docker !== undefined,
      base: base && { version: base.version, blobs: base.missing.length },
    }),
  );
  files.set('index.json', indexJson(images));
  if (docker) files.set('manifest.json', docker);
  for (const { name, bytes } of staged.metadataFiles) if (bytes) files.set(name, bytes);

  const evidence = [...content.evidence.values()].sort((a, b) => compareText(a.digest, b.digest));
  const manifest: BundleManifest = {
    formatVersion: BUNDLE_FORMAT_VERSION,
    mediaType: BUNDLE_MEDIA_TYPE,
    generator: GENERATOR,
    requires: [
      ...(base ? ['delta'] : []),
      ...(evidence.some(({ tag }) => tag !== undefined) ? ['tagged-evidence'] : []),
      ...(images.some(omitsEvidence) ? ['omitted-evidence'] : []),
    ],
    features: [],
    collection: { id: collection.id, name: collection.name },
    version,
    created: formatCreated(created),
    images,
    evidence,
    entries: listEntries({
      version,
      files: new Map(
        [...files].map(([name, bytes]) => [name, { size: bytes.length, sha256: sha256Hex(bytes) }]),
      ),
      delegated: staged.metadataFiles.flatMap(({ name }) => {
        const parsed = parseEntryName(name);
        return parsed?.type === 'delegated' ? [{ role: parsed.role, version: parsed.version }] : [];
      }),
      signedSums: signer.detached !== undefined,
      blobs,
    }),
    ...(base ? { base } : {}),
  };
  const manifestBytes = encodeBundleManifest(manifest);
  files.set('sealift.json', manifestBytes);
  const finished = await staged.finish(manifestBytes);
  for (const { name, bytes } of finished.files) files.set(name, bytes);
  await addSums(files, manifest, signer, created);

  const head = manifest.entries.flatMap(({ name }) => {
    if (parseEntryName(name)?.type === 'blob') return [];
    const bytes = files.get(name);
    if (!bytes) throw new SealiftError('internal', `no bytes for ${name}`);
    return [{ name, bytes }];
  });
  return { head, manifest, expires, summary: finished.summary };
}

async function addSums(
  files: Map<string, Uint8Array>,
  manifest: BundleManifest,
  signer: Signer,
  created: Date,
): Promise<void> {
  const sums512 = sha512Sums(manifest.entries);
  if (sums512) files.set('SHA512SUMS', sums512);
  const sums256 = sha256Sums(
    manifest.entries.map(({ name, sha256 }) => {
      const bytes = files.get(name);
      return { name, sha256: sha256 ?? (bytes && sha256Hex(bytes)) };
    }),
  );
  files.set('SHA256SUMS', sums256);
  if (signer.detached)
    files.set('SHA256SUMS.asc', Buffer.from(await signer.detached(sums256, created), 'latin1'));
}

export function targetsOf(
  content: Content,
): Map<string, { length: number; sha256: string; sha512?: string; mediaType: string }> {
  return new Map(
    content.images.map(({ name, manifest }) => [
      name,
      {
        length: manifest.bytes.length,
        sha256: sha256Hex(manifest.bytes),
        ...(digestAlgorithm(manifest.digest) === 'sha512' ? { sha512: digestHex(manifest.digest) } : {}),
        mediaType: manifest.mediaType,
      },
    ]),
  );
}

/**
 * manifest.json where it is honest: for one image of one platform. Several images would lose their digests in
 * engines that read this file.
 * @throws SealiftError `invalid-argument` where it was asked for and cannot be
 */
function dockerManifestOf(content: Content, demanded: boolean): Buffer | undefined {
  const [image] = content.images;
  // Engines take no digest for a tag.
  const tagged = image !== undefined && !image.name.includes('@');
  const single =
    content.images.length === 1 && tagged ? singlePlatformManifest(image, content, demanded) : undefined;
  if (image && single?.config) {
    return dockerManifestJson({
      name: image.name,
      config: single.config.digest,
      layers: single.layers.map(({ digest }) => digest),
    });
  }
  if (demanded) {
    throw new SealiftError(
      'invalid-argument',
      'a docker archive holds one image of one platform, with a tag',
      {
        subject: '--docker-archive',
        hint: 'export one image with --platform, or leave --docker-archive out',
      },
    );
  }
  return undefined;
}

function singlePlatformManifest(
  image: CollectedImage,
  content: Content,
  demanded: boolean,
): ParsedManifest | undefined {
  const isDockerImage = ({ config, layers }: ParsedManifest) =>
    config !== undefined &&
    isImageConfig(config.mediaType) &&
    layers.every(({ mediaType }) => isTarLayer(mediaType));
  if (image.manifest.kind === 'image') return isDockerImage(image.manifest) ? image.manifest : undefined;
  if (!demanded || image.platforms.length !== 1) return undefined;
  const carried = image.manifest.manifests.flatMap(({ digest, mediaType }) => {
    const bytes = content.blobs.get(digest)?.bytes;
    if (!bytes) return [];
    const child = parseManifest(bytes, {
      mediaType,
      digest,
      limits: { manifest: bytes.length, jsonDepth: 64 },
    });
    return isDockerImage(child) ? [child] : [];
  });
  return carried.length === 1 ? carried[0] : undefined;
}

function sinceOf(since: NonNullable<ExportOptions['since']>) {
  return since.kind === 'base-of' ? { ...since, bundles: [...since.bundles] } : { ...since };
}

/** What makes two exports the same request, so that the second goes on with the first. */
export function requestHash(options: ExportOptions): string {
  return sha256Hex(
    canonicalJson({
      images: options.images.map(({ name, text }) => ({ name: name ?? '', text })),
      platforms: [...options.platforms].sort(),
      lifetime: options.lifetime,
      created: options.created ? formatCreated(options.created) : '',
      evidence: options.includeEvidence,
      dockerArchive: options.dockerArchive,
      ...(options.includeForeign ? { foreign: true } : {}),
      ...(options.excludeReferrers ? { excludeReferrers: true } : {}),
      ...(options.excludeTagged ? { excludeTagged: true } : {}),
      ...(options.excludeAttestations ? { excludeAttestations: true } : {}),
      ...(options.lookaside ? { lookaside: true } : {}),
      ...(options.contentTrust ? { contentTrust: true } : {}),
      ...(options.policy === undefined ? {} : { policy: options.policy }),
      ...(options.metadataOnly ? { metadataOnly: true } : {}),
      ...(options.volumes ? { volumeSize: options.volumes.size } : {}),
      ...(options.encryptTo ? { encryptTo: options.encryptTo.map(({ bytes }) => sha256Hex(bytes)) } : {}),
      ...(options.since ? { since: sinceOf(options.since) } : {}),
    }),
  );
}

function sha256Hex(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
