/**
 * Export: resolve, plan, sign, lay out, transfer. Everything small is fetched first; what is signed fixes every
 * offset; layers then go straight to their place. A journal lets an interrupted export go on with the bytes that
 * were signed.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, open, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import type { Writable } from 'node:stream';
import { dockerManifestJson, indexJson, ociLayoutFile, sha256Sums, sha512Sums } from './bundle/computed.ts';
import {
  type Journal,
  type JournalPlan,
  type NamedBytes,
  openJournal,
  type ReusableFile,
} from './bundle/journal.ts';
import { type BundlePlan, layoutBundle } from './bundle/layout.ts';
import {
  BUNDLE_FORMAT_VERSION,
  BUNDLE_MEDIA_TYPE,
  type BundleManifest,
  createdSeconds,
  encodeBundleManifest,
  formatCreated,
  listEntries,
  parseBundleManifest,
  parseEntryName,
} from './bundle/manifest.ts';
import { readmeText } from './bundle/readme.ts';
import { createPositionalWriter, type PositionalWriter } from './bundle/writer-positional.ts';
import type { Context } from './context.ts';
import { isSealiftError, SealiftError } from './errors.ts';
import { fsyncDirectory, makeDirectory } from './fs/durable.ts';
import { assertFits, inspectFileSystem } from './fs/space.ts';
import { canonicalJson } from './json/canonical.ts';
import { blobPath, type Digest, digestAlgorithm, digestHex, formatDigest } from './oci/digest.ts';
import { type ParsedManifest, parseManifest } from './oci/manifest.ts';
import { isImageConfig, isTarLayer } from './oci/media-types.ts';
import type { HashAlgorithm } from './pool/pool.ts';
import type { CollectionSummary, ExportPreview, ExportResult, Weakening } from './results.ts';
import { imageSummaries } from './summaries.ts';
import { fullName } from './transport/bundle/names.ts';
import { type CollectedImage, type Content, collectContent, type ImageRequest } from './transport/collect.ts';
import { givenName, imageNameOf, type NamedLocation, placeOf, referenceIn } from './transport/location.ts';
import { openSource, type Source } from './transport/source.ts';
import { type Collection, openCollection, requireSigners, rulerOf } from './trust/collection.ts';
import type { Signer } from './trust/signer.ts';
import { forEachLimited } from './util/concurrency.ts';
import { GENERATOR } from './version.ts';
import type { ExportOptions } from './workflow-options.ts';

/** Bytes after which finished blobs are made durable and entered in the journal. */
const SYNC_EVERY = 64 * 1024 * 1024;
/** Bytes after which a blob's progress is told. */
const PROGRESS_STEP = 1024 * 1024;
/** A resumed export whose trust ends sooner than this is planned anew. */
const LEAST_LIFETIME_LEFT = 60 * 60 * 1000;

type FileOutput = Extract<ExportOptions['output'], { kind: 'file' }>;

/**
 * Exports images of a collection into one bundle.
 *
 * @throws SealiftError of every kind: `source-*` for the places images come from, `destination-*` for the output,
 *   `collection-not-found`, `passphrase-needed`, `metadata-expired` where a role of the collection ends before the bundle would
 */
export async function exportBundle(options: ExportOptions, context: Context): Promise<ExportResult> {
  if (options.metadataOnly !== true) refuseEmpty(options);
  else if (options.images.length > 0) {
    throw new SealiftError('invalid-argument', 'a bundle of metadata only carries no images', {
      subject: '--metadata-only',
      hint: 'leave the images out, or leave --metadata-only out',
    });
  }
  const collection = await openCollection(options.collection, context.limits);
  const lock = await collection.lock(options.pid);
  const sources = new SourceSet(options, context);
  try {
    const { output } = options;
    options = { ...options, images: await sources.named() };
    return output.kind === 'stream'
      ? await exportToStream(collection, sources, output.stream as Writable, options, context)
      : await exportToFile(collection, sources, output, options, context);
  } finally {
    await sources.close();
    await lock.release();
  }
}

/**
 * What an export of `options.images` would carry: everything small is fetched, nothing is signed or written.
 * @throws SealiftError of the sources; `invalid-argument` where nothing was asked for
 */
export async function previewExport(
  options: Pick<
    ExportOptions,
    | 'images'
    | 'platforms'
    | 'includeEvidence'
    | 'excludeReferrers'
    | 'lookaside'
    | 'includeForeign'
    | 'concurrency'
    | 'source'
  >,
  context: Context,
): Promise<Omit<ExportPreview, 'skipped'>> {
  refuseEmpty(options);
  const sources = new SourceSet(options, context);
  try {
    context.emit({ type: 'phase', phase: 'resolve', title: 'resolving images' });
    const images = await sources.named();
    const content = await collectContent(
      await requestsOf(images, sources, options, context),
      options,
      context,
    );
    const texts = new Map(images.map((named) => [imageNameOf(named), named.text]));
    return {
      dryRun: true,
      images: content.images.map((image) => ({
        name: image.name,
        location: texts.get(image.name) ?? image.name,
        digest: image.manifest.digest,
        mediaType: image.manifest.mediaType,
        platforms: image.platforms,
        size: image.contentSize,
        evidence: image.evidence.length,
        digestMadeHere: image.digestMadeHere,
      })),
      blobs: {
        count: content.blobs.size,
        bytes: [...content.blobs.values()].reduce((sum, { size }) => sum + size, 0),
      },
    };
  } finally {
    await sources.close();
  }
}

/**
 * What a collection would say of `options.images`: length and hashes of their manifests, by full name.
 * @throws SealiftError of the sources; `invalid-argument` where nothing was asked for
 */
export async function resolveTargets(
  options: Pick<ExportOptions, 'images' | 'concurrency' | 'source'>,
  context: Context,
): Promise<ReturnType<typeof targetsOf>> {
  refuseEmpty(options);
  const sources = new SourceSet(options, context);
  try {
    context.emit({ type: 'phase', phase: 'resolve', title: 'resolving images' });
    const bare = { ...options, platforms: [], includeEvidence: false };
    const requests = await requestsOf(await sources.named(), sources, bare, context);
    return targetsOf(await collectContent(requests, bare, context));
  } finally {
    await sources.close();
  }
}

function requestsOf(
  images: readonly NamedLocation[],
  sources: SourceSet,
  options: Pick<ExportOptions, 'source' | 'lookaside'>,
  context: Context,
): Promise<ImageRequest[]> {
  const { source: sourceOptions, lookaside } = options;
  return Promise.all(
    images.map(async (named, index) => {
      const name = imageNameOf(named);
      const request = { name, reference: referenceIn(named.location), source: await sources.get(index) };
      if (!lookaside) return request;
      return {
        ...request,
        attached: async (manifest: ParsedManifest) => {
          const { findAttached } = await import('./evidence/attached.ts');
          return findAttached(named, name, manifest, lookaside, sourceOptions, context);
        },
      };
    }),
  );
}

function unnamed(named: NamedLocation): unknown {
  try {
    imageNameOf(named);
  } catch (error) {
    return error;
  }
  return new SealiftError('internal', 'an image that has a name was taken for one without');
}

function refuseEmpty(options: Pick<ExportOptions, 'images'>): void {
  if (options.images.length === 0) {
    throw new SealiftError('invalid-argument', 'nothing to export', {
      hint: 'name at least one image; --metadata-only exports none and renews what is in',
    });
  }
}

// ---------------------------------------------------------------- sources

/** The sources of a request, opened when first needed. */
class SourceSet {
  readonly #options: Pick<ExportOptions, 'images' | 'source'>;
  readonly #context: Context;
  /** By place, since an archive of many images is opened, and written out, once. */
  readonly #open = new Map<string, Promise<Source>>();
  #images: readonly NamedLocation[];

  constructor(options: Pick<ExportOptions, 'images' | 'source'>, context: Context) {
    this.#options = options;
    this.#context = context;
    this.#images = options.images;
  }

  /**
   * What was asked for with a name for each image: where a location names none of its images, all that it has.
   * @throws SealiftError `invalid-reference` where the location knows no name either
   */
  async named(): Promise<readonly NamedLocation[]> {
    const images: NamedLocation[] = [];
    for (const named of this.#options.images) {
      if (givenName(named) !== undefined) {
        images.push(named);
        continue;
      }
      const { location, text } = named;
      const source = await this.#at(location, text);
      const wanted = referenceIn(location);
      const digest = wanted === '' ? undefined : (await source.manifest(wanted)).digest;
      let found = [];
      for (const known of (await source.names?.()) ?? []) {
        if (digest === undefined || (await source.manifest(known.reference)).digest === digest)
          found.push(known);
      }
      // An image of several names that was asked for by one of them has that one.
      const asked = found.filter(({ name }) => name === fullName(wanted));
      if (asked.length > 0) found = asked;
      if (found.length === 0 || 'reference' in location || location.kind === 'file') throw unnamed(named);
      for (const { name, reference } of found)
        images.push({ name, location: { ...location, name: reference }, text: `${name}=${text}` });
    }
    this.#images = images;
    return images;
  }

  get(image: number): Promise<Source> {
    const named = this.#images[image];
    if (!named)
      throw new SealiftError('state-damaged', `the journal names image ${image}, which was not asked for`);
    return this.#at(named.location, `image ${image}`);
  }

  #at(location: NamedLocation['location'], otherwise: string): Promise<Source> {
    const key = placeOf(location) ?? otherwise;
    const source = this.#open.get(key) ?? openSource(location, this.#options.source, this.#context);
    this.#open.set(key, source);
    return source;
  }

  async close(): Promise<void> {
    for (const source of this.#open.values()) {
      // A source that could not be opened has reported that where it was asked for.
      await source.then((opened) => opened.close()).catch(() => undefined);
    }
  }
}

// ---------------------------------------------------------------- plan and sign

interface SignedPlan {
  readonly journal: JournalPlan;
  readonly bundle: BundlePlan;
  readonly manifest: BundleManifest;
}

async function planExport(
  collection: Collection,
  sources: SourceSet,
  paths: { readonly output: string; readonly partial: string },
  options: ExportOptions,
  context: Context,
  reuse: ReusableFile | undefined,
): Promise<SignedPlan> {
  const signers = await unlock(collection, options, context);
  context.emit({ type: 'phase', phase: 'resolve', title: 'resolving images' });
  const requests = await requestsOf(options.images, sources, options, context);
  const content = await collectContent(requests, options, context);
  if (options.policy !== undefined) {
    const { assertPolicyMet } = await import('./evidence/export-policy.ts');
    await assertPolicyMet(options.policy, content, requests, context);
  }

  context.emit({ type: 'phase', phase: 'sign', title: 'signing' });
  const created = wholeSeconds(options.created ?? context.now);
  const version = await collection.reserveVersion();
  const { head, manifest, expires } = await signContent(
    collection,
    signers,
    content,
    { version, created },
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
  return { journal, bundle, manifest };
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
  const signers = await collection.keyring([...roles], options.passphrase);
  const [first, ...more] = requireSigners(state, 'timestamp', signers);
  if (!first) throw new SealiftError('internal', 'a role has a threshold of none');
  return [first, ...more, ...signers.filter((signer) => signer !== first && !more.includes(signer))];
}

function wholeSeconds(date: Date): Date {
  return new Date(Math.floor(date.getTime() / 1000) * 1000);
}

/** Signs from the inside out: images, bundle manifest, bundles, snapshot, timestamp, list of checksums. */
async function signContent(
  collection: Collection,
  signers: readonly [Signer, ...Signer[]],
  content: Content,
  { version, created }: { readonly version: number; readonly created: Date },
  options: ExportOptions,
): Promise<{ head: NamedBytes[]; manifest: BundleManifest; expires: string }> {
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
  const docker = dockerManifestOf(content, options.dockerArchive);
  const blobs = [...content.blobs.values()].map(({ digest, size, kind }) => ({
    name: blobPath(digest),
    size,
    kind,
  }));
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
    }),
  );
  files.set('index.json', indexJson(images));
  if (docker) files.set('manifest.json', docker);
  for (const { name, bytes } of staged.metadataFiles) if (bytes) files.set(name, bytes);

  const manifest: BundleManifest = {
    formatVersion: BUNDLE_FORMAT_VERSION,
    mediaType: BUNDLE_MEDIA_TYPE,
    generator: GENERATOR,
    requires: [],
    features: [],
    collection: { id: collection.id, name: collection.name },
    version,
    created: formatCreated(created),
    images,
    evidence: [...content.evidence.values()].sort((a, b) => compareText(a.digest, b.digest)),
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
  };
  const manifestBytes = encodeBundleManifest(manifest);
  files.set('sealift.json', manifestBytes);
  for (const { name, bytes } of (await staged.finish(manifestBytes)).files) files.set(name, bytes);
  await addSums(files, manifest, signer, created);

  const head = manifest.entries.flatMap(({ name }) => {
    if (parseEntryName(name)?.type === 'blob') return [];
    const bytes = files.get(name);
    if (!bytes) throw new SealiftError('internal', `no bytes for ${name}`);
    return [{ name, bytes }];
  });
  return { head, manifest, expires };
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

function targetsOf(
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

/** What makes two exports the same request, so that the second goes on with the first. */
function requestHash(options: ExportOptions): string {
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
      ...(options.lookaside ? { lookaside: true } : {}),
      ...(options.policy === undefined ? {} : { policy: options.policy }),
      ...(options.metadataOnly ? { metadataOnly: true } : {}),
    }),
  );
}

function sha256Hex(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

// ---------------------------------------------------------------- to a file

async function exportToFile(
  collection: Collection,
  sources: SourceSet,
  output: FileOutput,
  options: ExportOptions,
  context: Context,
): Promise<ExportResult> {
  const file = path.resolve(output.path);
  const partial = path.join(path.dirname(file), `.${path.basename(file)}.partial`);
  await makeDirectory(path.dirname(file));
  const journal = openJournal(collection.directory, file);
  try {
    const found = await findInterrupted(journal, collection, options, context);
    if (found.state === 'written') {
      await journal.end();
      return await exportResult(
        collection,
        file,
        found.plan,
        { bytes: 0, resumedBytes: found.plan.bundle.layout.size },
        true,
        options,
      );
    }
    await refuseExisting(file, options.force);
    const plan =
      found.state === 'resume'
        ? found.plan
        : await planExport(collection, sources, { output: file, partial }, options, context, found.reuse);
    if (found.state === 'resume') {
      context.emit({
        type: 'notice',
        level: 'info',
        code: 'resumed',
        message: `going on with the interrupted export of version ${plan.journal.version}`,
      });
    } else {
      await rm(partial, { force: true });
      await journal.begin(plan.journal);
    }
    const written = await transferToFile(journal, plan, partial, sources, options, context);
    // The collection learns of the version before the bundle appears: a bundle that is out is never unknown at home.
    const published = await publish(collection, plan.journal);
    await rename(partial, file);
    await fsyncDirectory(path.dirname(file));
    if (plan.journal.reuse) await rm(plan.journal.reuse.path, { force: true });
    await journal.end();
    return await exportResult(published, file, plan, written, found.state === 'resume', options);
  } finally {
    await journal.close();
  }
}

type Interrupted =
  /** Nothing to go on with; perhaps bytes that can be used again. */
  | { readonly state: 'none'; readonly reuse?: ReusableFile | undefined }
  | { readonly state: 'resume'; readonly plan: SignedPlan }
  /** The bundle is at its final name already; only the journal was left. */
  | { readonly state: 'written'; readonly plan: SignedPlan };

async function findInterrupted(
  journal: Journal,
  collection: Collection,
  options: ExportOptions,
  context: Context,
): Promise<Interrupted> {
  const found = await journal.read();
  if (!found) return { state: 'none' };
  const plan = planFromJournal(found, context);
  const partialSize = await sizeOf(found.partial);
  if (
    partialSize === undefined &&
    (await startsWith(found.output, found.head, plan.bundle)) &&
    found.request === requestHash(options)
  ) {
    return { state: 'written', plan };
  }
  const current = Math.max(collection.summary().version, collection.stagedVersion ?? 0);
  const stale =
    current > found.version || Date.parse(found.expires) < context.now.getTime() + LEAST_LIFETIME_LEFT;
  if (found.request === requestHash(options) && !stale) return { state: 'resume', plan };
  context.emit({
    type: 'notice',
    level: 'info',
    code: 'planned-anew',
    message: stale
      ? 'the interrupted export is out of date; it is planned anew and uses what was transferred'
      : 'the interrupted export to this file was another one; what it transferred is used where it fits',
  });
  return { state: 'none', reuse: await keepPartial(journal, found, plan.bundle) };
}

/** Sets the abandoned partial file aside as a source of bytes for the new plan. */
async function keepPartial(
  journal: Journal,
  found: JournalPlan,
  bundle: BundlePlan,
): Promise<ReusableFile | undefined> {
  const done = await journal.done();
  const blobs = bundle.blobs
    .filter(({ name }) => done.has(name))
    .map(({ name, contentOffset, size }) => ({ digest: digestOfPath(name), offset: contentOffset, size }));
  if (blobs.length === 0 || (await sizeOf(found.partial)) === undefined) return found.reuse;
  const aside = `${found.partial}.old`;
  await rename(found.partial, aside);
  return { path: aside, blobs };
}

function planFromJournal(journal: JournalPlan, context: Context): SignedPlan {
  const manifestBytes = journal.head.find(({ name }) => name === 'sealift.json')?.bytes;
  if (!manifestBytes)
    throw new SealiftError('state-damaged', 'the journal has no bundle manifest', {
      subject: journal.output,
    });
  const manifest = parseBundleManifest(manifestBytes, context.limits);
  const blobs = manifest.entries.flatMap(({ name, size }) =>
    parseEntryName(name)?.type === 'blob' && size !== undefined ? [{ name, size }] : [],
  );
  return {
    journal,
    manifest,
    bundle: layoutBundle(journal.head, blobs, createdSeconds(manifest.created) ?? 0),
  };
}

async function sizeOf(file: string): Promise<number | undefined> {
  try {
    return (await stat(file)).size;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** True where `file` has the size of the bundle and begins with its signed files. */
async function startsWith(file: string, head: readonly NamedBytes[], bundle: BundlePlan): Promise<boolean> {
  if ((await sizeOf(file)) !== bundle.layout.size) return false;
  const handle = await open(file, 'r');
  try {
    for (const { name, bytes } of head) {
      const { contentOffset } = bundle.layout.byName.get(name) ?? { contentOffset: 0 };
      const { buffer, bytesRead } = await handle.read(
        Buffer.alloc(bytes.length),
        0,
        bytes.length,
        contentOffset,
      );
      if (bytesRead !== bytes.length || Buffer.compare(buffer, bytes) !== 0) return false;
    }
    return true;
  } finally {
    await handle.close();
  }
}

async function refuseExisting(file: string, force: boolean): Promise<void> {
  if (!force && (await sizeOf(file)) !== undefined) {
    throw new SealiftError('destination-exists', 'the output is there already', {
      subject: file,
      hint: 'choose another name with -o, or replace it with --force',
    });
  }
}

interface Written {
  readonly bytes: number;
  readonly resumedBytes: number;
}

async function transferToFile(
  journal: Journal,
  plan: SignedPlan,
  partial: string,
  sources: SourceSet,
  options: ExportOptions,
  context: Context,
): Promise<Written> {
  const { layout, blobs } = plan.bundle;
  const directory = path.dirname(partial);
  const facts = await inspectFileSystem(directory);
  // Without its partial file a journal vouches for nothing.
  const there = await stat(partial).catch(() => undefined);
  const present = await stillThere(journal, plan.bundle, there?.size ?? 0);
  const allocated = there ? there.blocks * 512 : 0;
  assertFits(facts, Math.max(0, layout.size - allocated), layout.size, directory);

  if (options.writer === 'sequential') {
    const handle = await open(partial, 'w');
    try {
      const stream = handle.createWriteStream({ autoClose: false, highWaterMark: 4 * 1024 * 1024 });
      await writeInOrder(plan, sources, stream, options, context);
      await handle.sync();
    } finally {
      await handle.close();
    }
    return { bytes: layout.size, resumedBytes: 0 };
  }

  const writer = await createPositionalWriter({
    file: partial,
    plan: plan.bundle,
    signal: context.signal,
    ordered: !facts.holes,
    present,
    held: new Map(plan.journal.held.map(({ name, bytes }) => [name, bytes])),
  });
  try {
    const missing = new Set(writer.missing);
    const waiting = blobs.filter(({ name }) => missing.has(name));
    const resumedBytes = blobs
      .filter(({ name }) => present.has(name))
      .reduce((sum, { size }) => sum + size, 0);
    announceTransfer(waiting, resumedBytes, context);
    const marker = createMarker(writer, journal);
    const transfer = await openTransfer(plan, sources, context);
    try {
      await forEachLimited(
        waiting,
        writer.ordered ? 1 : options.concurrency,
        context.signal,
        async ({ name, size }, signal) => {
          await transfer.toFile(name, size, writer.target(name), signal);
          writer.done(name);
          await marker.finished(name, size);
        },
      );
      await marker.flush();
    } finally {
      await marker.settle();
      await transfer.close();
    }
    await writer.finish();
    return { bytes: writer.bytesWritten + waiting.reduce((sum, { size }) => sum + size, 0), resumedBytes };
  } finally {
    await writer.close();
  }
}

/** Blobs the journal vouches for, as far as the partial file reaches. */
async function stillThere(journal: Journal, bundle: BundlePlan, size: number): Promise<Set<string>> {
  const done = await journal.done();
  return new Set(
    bundle.blobs.flatMap((blob) =>
      done.has(blob.name) && blob.contentOffset + blob.size <= size ? [blob.name] : [],
    ),
  );
}

function announceTransfer(
  blobs: readonly { readonly size: number }[],
  skippedBytes: number,
  context: Context,
): void {
  context.emit({ type: 'phase', phase: 'transfer', title: 'transferring' });
  context.emit({
    type: 'transfer',
    bytes: blobs.reduce((sum, { size }) => sum + size, 0),
    blobs: blobs.length,
    skippedBytes,
  });
}

/** Enters finished blobs in the journal after they are durable, some at a time and beside the transfer. */
function createMarker(writer: PositionalWriter, journal: Journal) {
  let names: string[] = [];
  let bytes = 0;
  let running: Promise<void> | undefined;
  async function mark(): Promise<void> {
    const batch = names;
    names = [];
    bytes = 0;
    await writer.sync();
    await journal.markDone(batch);
  }
  return {
    async finished(name: string, size: number): Promise<void> {
      names.push(name);
      bytes += size;
      if (bytes < SYNC_EVERY) return;
      // One at a time; whoever comes while one runs waits, so that what is not durable stays bounded.
      while (running) await running;
      if (bytes < SYNC_EVERY) return;
      running = mark().finally(() => {
        running = undefined;
      });
      await running;
    },
    async flush(): Promise<void> {
      while (running) await running;
      await mark();
    },
    /** Waits for what runs; used on the way out, where its failure has been or will be reported elsewhere. */
    async settle(): Promise<void> {
      await running?.catch(() => undefined);
    },
  };
}

// ---------------------------------------------------------------- blobs

interface Transfer {
  toFile(
    name: string,
    size: number,
    target: { readonly fd: number; readonly offset: number },
    signal: AbortSignal,
  ): Promise<void>;
  /** The content in order; hashed by whoever takes it. */
  open(name: string, size: number): Promise<AsyncIterable<Uint8Array>>;
  close(): Promise<void>;
}

async function openTransfer(plan: SignedPlan, sources: SourceSet, context: Context): Promise<Transfer> {
  const held = new Map(plan.journal.held.map(({ name, bytes }) => [name, bytes]));
  const places = new Map(plan.journal.sources.map((place) => [place.name, place]));
  const { reuse } = plan.journal;
  const old = reuse ? await open(reuse.path, 'r').catch(() => undefined) : undefined;
  const reusable = new Map(old && reuse ? reuse.blobs.map((blob) => [blobPath(blob.digest), blob]) : []);

  async function openFrom(image: number, name: string, size: number): Promise<AsyncIterable<Uint8Array>> {
    const source = await sources.get(image);
    return source.blob({ digest: digestOfPath(name), size, mediaType: places.get(name)?.mediaType ?? '' });
  }

  async function copyOnce(
    content: AsyncIterable<Uint8Array>,
    name: string,
    size: number,
    target: { readonly fd: number; readonly offset: number },
    signal: AbortSignal,
  ): Promise<void> {
    const digest = digestOfPath(name);
    const algorithm = digestAlgorithm(digest);
    const sink = context.pool.stream({ target, algorithms: [algorithm] });
    let told = 0;
    let bytes = 0;
    context.emit({ type: 'blob', state: 'started', digest, bytes, size });
    try {
      for await (const chunk of content) {
        signal.throwIfAborted();
        // Before it is given away, and with it its length.
        bytes += chunk.length;
        if (bytes > size) break;
        await sink.give(chunk);
        if (bytes - told >= PROGRESS_STEP) {
          told = bytes;
          context.emit({ type: 'blob', state: 'progress', digest, bytes, size });
        }
      }
      const { hashes } = await sink.finish();
      checkBlob(digest, algorithm, hashes[algorithm], bytes, size);
    } catch (error) {
      sink.abort();
      // The descriptor may be closed next, and its number given to another file.
      await sink.released;
      throw error;
    }
    context.emit({ type: 'blob', state: 'done', digest, bytes: size, size });
  }

  return {
    async toFile(name, size, target, signal) {
      const before = reusable.get(name);
      if (old && before && (await copyReusable(old, before, target, signal, context))) return;
      let failure: unknown;
      const digest = digestOfPath(name);
      for (const image of places.get(name)?.images ?? []) {
        do {
          try {
            return await copyOnce(await openFrom(image, name, size), name, size, target, signal);
          } catch (error) {
            // The digest decides, so any source will do; a full disk will not get emptier by asking another one.
            if (!isSealiftError(error) || (error.category !== 'source' && error.category !== 'malformed'))
              throw error;
            failure ??= error.with({ subject: digest });
          }
        } while ((await sources.get(image)).hasOther?.(digest) === true);
      }
      throw (
        failure ??
        new SealiftError('source-not-found', 'no source has the blob', { subject: digestOfPath(name) })
      );
    },
    async open(name, size) {
      const bytes = held.get(name);
      if (bytes) return once(bytes);
      const [image] = places.get(name)?.images ?? [];
      if (image === undefined)
        throw new SealiftError('source-not-found', 'no source has the blob', { subject: digestOfPath(name) });
      return openFrom(image, name, size);
    },
    async close() {
      await old?.close();
    },
  };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** Takes a blob from an abandoned partial file; false where it is not what it should be. */
async function copyReusable(
  old: FileHandle,
  blob: ReusableFile['blobs'][number],
  target: { readonly fd: number; readonly offset: number },
  signal: AbortSignal,
  context: Context,
): Promise<boolean> {
  const algorithm = digestAlgorithm(blob.digest);
  const { digest, size } = blob;
  context.emit({ type: 'blob', state: 'started', digest, bytes: 0, size });
  try {
    const hashes = await context.pool.range({
      source: { fd: old.fd, offset: blob.offset },
      size,
      target,
      algorithms: [algorithm],
      signal,
    });
    if (hashes[algorithm] !== digestHex(digest)) return false;
  } catch (error) {
    if (isSealiftError(error) && error.code === 'bundle-truncated') return false;
    throw error;
  }
  context.emit({ type: 'blob', state: 'done', digest, bytes: size, size });
  return true;
}

function checkBlob(
  digest: Digest,
  algorithm: HashAlgorithm,
  hex: string | undefined,
  bytes: number,
  size: number,
): void {
  if (bytes !== size) {
    throw new SealiftError(
      'size-mismatch',
      `blob has another size than announced: got ${bytes}, want ${size}`,
      {
        subject: digest,
        got: bytes,
        want: size,
      },
    );
  }
  const got = formatDigest(algorithm, hex ?? '');
  if (got !== digest) {
    throw new SealiftError('digest-mismatch', `blob has another digest: got ${got}, want ${digest}`, {
      subject: digest,
      got,
      want: digest,
      hint: 'the source holds damaged content; repair it there, or name another source with NAME=LOCATION',
    });
  }
}

/** `blobs/sha256/HEX` as a digest. */
function digestOfPath(name: string): Digest {
  const [, algorithm, hex] = name.split('/');
  return formatDigest(algorithm === 'sha512' ? 'sha512' : 'sha256', hex ?? '');
}

// ---------------------------------------------------------------- to a stream

async function exportToStream(
  collection: Collection,
  sources: SourceSet,
  stream: Writable,
  options: ExportOptions,
  context: Context,
): Promise<ExportResult> {
  const plan = await planExport(
    collection,
    sources,
    { output: '-', partial: '' },
    options,
    context,
    undefined,
  );
  // There is no later moment at which it is sure that the other end has everything.
  const published = await publish(collection, plan.journal);
  const { sha256 } = await writeInOrder(plan, sources, stream, options, context);
  const written = { bytes: plan.bundle.layout.size, resumedBytes: 0 };
  return { ...(await exportResult(published, '-', plan, written, false, options)), sha256 };
}

async function writeInOrder(
  plan: SignedPlan,
  sources: SourceSet,
  output: Writable,
  _options: ExportOptions,
  context: Context,
): Promise<{ readonly size: number; readonly sha256: string }> {
  const { writeSequentially } = await import('./bundle/writer-sequential.ts');
  announceTransfer(plan.bundle.blobs, 0, context);
  const sizes = new Map(plan.bundle.blobs.map(({ name, size }) => [name, size]));
  const transfer = await openTransfer(plan, sources, context);
  try {
    return await writeSequentially({
      output,
      plan: plan.bundle,
      pool: context.pool,
      signal: context.signal,
      blob: (name, size) => {
        context.emit({ type: 'blob', state: 'started', digest: digestOfPath(name), bytes: 0, size });
        return transfer.open(name, size);
      },
      onProgress: (name, bytes) => {
        const size = sizes.get(name) ?? bytes;
        context.emit({
          type: 'blob',
          state: bytes === size ? 'done' : 'progress',
          digest: digestOfPath(name),
          bytes,
          size,
        });
      },
    });
  } finally {
    await transfer.close();
  }
}

// ---------------------------------------------------------------- the end

/** Makes the signed metadata the collection's own; nothing to do where an interrupted run got that far. */
async function publish(collection: Collection, journal: JournalPlan): Promise<Collection> {
  if (collection.summary().version >= journal.version) return collection;
  return collection.publish(journal.head.filter(({ name }) => name.startsWith('metadata/')));
}

async function exportResult(
  collection: Collection,
  output: string,
  plan: SignedPlan,
  written: Written,
  resumed: boolean,
  options: ExportOptions,
): Promise<ExportResult> {
  const summary: CollectionSummary = collection.summary();
  return {
    output,
    size: plan.bundle.layout.size,
    collection: summary,
    images: imageSummaries(plan.manifest),
    blobs: {
      count: plan.bundle.blobs.length,
      bytes: plan.bundle.blobs.reduce((sum, { size }) => sum + size, 0),
    },
    written,
    resumed,
    weakened: weakenedBy(options),
  };
}

function weakenedBy(options: ExportOptions): Weakening[] {
  const weakened: Weakening[] = [];
  if (options.source.insecureSkipTlsVerify) {
    weakened.push({
      option: '--insecure-skip-tls-verify',
      effect: 'the registry was not authenticated; tags were taken from whoever answered',
    });
  }
  if (options.source.plainHttp) {
    weakened.push({
      option: '--plain-http',
      effect: 'the registry was asked without encryption; tags were taken from whoever answered',
    });
  }
  return weakened;
}
