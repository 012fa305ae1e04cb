/**
 * Walks an image at its source: index, children, configs, layers, and all evidence that hangs on any of them.
 * Manifests are fetched and checked here, because they are small and everything else is planned from them;
 * configs and layers are only listed.
 */
import type { Context } from '../context.ts';
import { type ImageFailure, inert, isSealiftError, SealiftError } from '../errors.ts';
import { countKinds, evidenceKind, type KindCount } from '../evidence/kinds.ts';
import type { AttachedEvidence } from '../evidence/wrap.ts';
import { asObject, parseJson } from '../json/strict.ts';
import { attestationSubject, isAttestation } from '../oci/attestation.ts';
import {
  type Descriptor,
  formatPlatform,
  type Platform,
  parsePlatform,
  platformMatches,
} from '../oci/descriptor.ts';
import { type Digest, digestAlgorithm, digestOf } from '../oci/digest.ts';
import { type ParsedManifest, parseManifest } from '../oci/manifest.ts';
import { isForeignLayer, isImageConfig, isIndexType, isManifestType } from '../oci/media-types.ts';
import { forEachLimited, mapLimited } from '../util/concurrency.ts';
import type { Source, SourceManifest } from './source.ts';

/** What a blob is for; where it has several uses, the first of these that applies. */
export const BLOB_KINDS = ['manifest', 'config', 'evidence', 'layer'] as const;
export type BlobKind = (typeof BLOB_KINDS)[number];

export interface ContentBlob {
  readonly digest: Digest;
  readonly size: number;
  readonly mediaType: string;
  kind: BlobKind;
  /** Held for manifests and for configs that had to be read. */
  bytes?: Uint8Array;
  /** Indexes of the images (in the order they were asked for) whose sources have it. */
  readonly images: Set<number>;
}

export interface CollectedEvidence {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly artifactType: string;
  readonly size: number;
  readonly subject: Digest;
  readonly via: string;
  /** The tag that says what it is about: `sha256-HEX.sig`. */
  readonly tag?: string;
  /** It was found good here, by who signed it. */
  readonly verified?: { readonly signer: string };
}

export interface OmittedChild {
  readonly digest: Digest;
  readonly platform?: string;
  /** `evidence`: an attestation about a platform that is carried. */
  readonly reason: 'platform' | 'evidence';
}

export interface CollectedImage {
  readonly name: string;
  readonly manifest: ParsedManifest;
  /** `os/arch[/variant]` of what is carried, ascending. */
  readonly platforms: readonly string[];
  readonly omitted: readonly OmittedChild[];
  /** Bytes of all distinct blobs of the image without evidence. */
  readonly contentSize: number;
  /** Digests of evidence manifests, ascending. */
  readonly evidence: readonly Digest[];
  /** What the evidence is, with the attestations that are part of an index. */
  readonly evidenceKinds: readonly KindCount[];
  /** The digest is that of no registry: what signs the registry's image cannot apply. */
  readonly digestMadeHere: boolean;
}

export interface Content {
  readonly images: CollectedImage[];
  /** Every blob to carry, by digest. */
  readonly blobs: Map<Digest, ContentBlob>;
  readonly evidence: Map<Digest, CollectedEvidence>;
  /** Images that could not be had; empty unless `tolerant`. */
  readonly failed: readonly FailedImage[];
}

export interface FailedImage {
  /** Full name, or the location as it was asked for where that could not be learnt. */
  readonly name: string;
  readonly error: SealiftError;
}

export interface ImageRequest {
  readonly name: string;
  /** Tag or digest at the source. */
  readonly reference: string;
  /** What its digest has to be. */
  readonly pin?: Digest | undefined;
  readonly source: Source;
  /** Registry the source is in; once it cannot be reached, no further image is asked for there. */
  readonly host?: string | undefined;
  /** Evidence beside the source, for a manifest of the image; `isTop` for the one that its name leads to. */
  readonly attached?:
    | ((manifest: ParsedManifest, isTop: boolean) => Promise<readonly AttachedEvidence[]>)
    | undefined;
}

export interface CollectOptions {
  /** Platforms to carry; empty for all. */
  readonly platforms: readonly string[];
  readonly includeEvidence: boolean;
  /** Leaves out what the source lists as referrers. */
  readonly excludeReferrers?: boolean | undefined;
  /** Leaves out what tags such as `sha256-HEX.sig` lead to. */
  readonly excludeTagged?: boolean | undefined;
  /** Leaves out attestations that are part of an index (BuildKit), and notes that in the image. */
  readonly excludeAttestations?: boolean | undefined;
  /** Takes layers that may only be had from their vendor, as far as the source has them. */
  readonly includeForeign?: boolean | undefined;
  /** Tells in `failed` what could not be had, instead of throwing. */
  readonly tolerant?: boolean | undefined;
  readonly concurrency: number;
}

/** Kinds of failure that are about one image, so that the others are worth looking at. */
const OF_ONE_IMAGE: ReadonlySet<string> = new Set(['source', 'malformed', 'usage', 'trust']);

/**
 * Collects the content of all `requests`, in order. All of them are tried, so that everything that is wrong with a long
 * list is known at once.
 * @throws SealiftError of the source, or one that names all images that failed; `name-conflict` where one name is asked
 *   for with two digests; `source-not-found` where an image has none of the platforms asked for; `foreign-layer` for
 *   layers a registry may not hand out
 */
export async function collectContent(
  requests: readonly ImageRequest[],
  options: CollectOptions,
  context: Context,
): Promise<Content> {
  const failed: FailedImage[] = [];
  const content: Content = { images: [], blobs: new Map(), evidence: new Map(), failed };
  const down = new Map<string, SealiftError>();
  const wanted = options.platforms.map((text) => parsePlatform(text));
  const images = await mapLimited(
    [...requests.entries()],
    options.concurrency,
    context.signal,
    async ([index, request]) => {
      const collector = new ImageCollector(request, index, wanted, options, context, content);
      try {
        refuseWhatIsDown(request, down);
        return await collector.run();
      } catch (error) {
        if (!isSealiftError(error) || !OF_ONE_IMAGE.has(error.category)) throw error;
        if (request.host !== undefined && isDown(error) && !down.has(request.host))
          down.set(request.host, error);
        return error;
      }
    },
  );
  const failures = new Set<number>();
  for (const [index, image] of images.entries()) {
    const name = requests[index]?.name ?? '';
    if (!(image instanceof SealiftError)) continue;
    failures.add(index);
    failed.push({ name, error: image });
  }
  if (options.tolerant !== true) throwFailures(failed, requests.length);
  for (const [digest, blob] of content.blobs)
    if ([...blob.images].every((index) => failures.has(index))) content.blobs.delete(digest);
  const seen = new Map<string, Digest>();
  for (const image of images) {
    if (image instanceof SealiftError) continue;
    const before = seen.get(image.name);
    if (before !== undefined && before !== image.manifest.digest) {
      throw new SealiftError(
        'name-conflict',
        `two different images for one name: got ${image.manifest.digest} and ${before}`,
        {
          subject: image.name,
          hint: 'name the image once, or give one of them another name with NAME=LOCATION',
        },
      );
    }
    if (before === undefined) content.images.push(image);
    seen.set(image.name, image.manifest.digest);
  }
  return content;
}

/** True where the next request to the same registry would fail in the same way. */
function isDown({ code, got }: SealiftError): boolean {
  // With a number it is a status or a count of bytes, so somebody answered.
  return (
    code === 'source-rate-limited' || (/^source-(?:unreachable|tls)$/.test(code) && typeof got !== 'number')
  );
}

function refuseWhatIsDown({ host }: ImageRequest, down: ReadonlyMap<string, SealiftError>): void {
  const before = host === undefined ? undefined : down.get(host);
  if (before === undefined) return;
  const { code, hint } = before;
  throw new SealiftError(code, `not asked for, as ${inert(host ?? '')} failed before: ${before.message}`, {
    hint,
    cause: before,
  });
}

/**
 * Throws what failed, if anything did: a single failure as it is, several as one that has them all.
 * @param asked how many images were asked for
 */
export function throwFailures(failed: readonly FailedImage[], asked: number): void {
  const [first] = failed;
  if (first === undefined) return;
  if (failed.length === 1) throw first.error;
  const { error } = failed.find((one) => one.error.category === 'source') ?? first;
  throw new SealiftError(error.code, `${failed.length} of ${asked} images cannot be had`, {
    failures: failed.map(imageFailure),
    hint: 'correct what is named, or leave it out; nothing was signed or written',
    cause: error,
  });
}

export function imageFailure({ name, error: { code, message, hint } }: FailedImage): ImageFailure {
  return { name, code, message, ...(hint === undefined ? {} : { hint }) };
}

class ImageCollector {
  readonly #request: ImageRequest;
  readonly #index: number;
  readonly #wanted: readonly Platform[];
  readonly #options: CollectOptions;
  readonly #context: Context;
  readonly #content: Content;
  readonly #platforms = new Set<string>();
  readonly #omitted = new Map<Digest, OmittedChild>();
  readonly #evidence = new Set<Digest>();
  /** Sizes of the image's own blobs, without evidence. */
  readonly #own = new Map<Digest, number>();
  readonly #visited = new Set<Digest>();
  #manifests = 0;
  /** Children of indexes that are attestations about other children. */
  #attestations = 0;

  constructor(
    request: ImageRequest,
    index: number,
    wanted: readonly Platform[],
    options: CollectOptions,
    context: Context,
    content: Content,
  ) {
    this.#request = request;
    this.#index = index;
    this.#wanted = wanted;
    this.#options = options;
    this.#context = context;
    this.#content = content;
  }

  async run(): Promise<CollectedImage> {
    const { source, reference, name, pin } = this.#request;
    try {
      const answer = await source.manifest(reference);
      if (pin !== undefined) refuseOther(answer, pin);
      const manifest = parseManifest(answer.bytes, {
        mediaType: answer.mediaType,
        digest: answer.digest,
        limits: this.#context.limits,
      });
      await this.#visit(manifest, undefined, 0);
      this.#refuseMissingPlatforms();
      const image: CollectedImage = {
        name,
        manifest,
        platforms: [...this.#platforms].sort(),
        omitted: [...this.#omitted.values()].sort((a, b) => (a.digest < b.digest ? -1 : 1)),
        contentSize: [...this.#own.values()].reduce((sum, size) => sum + size, 0),
        evidence: [...this.#evidence].sort(),
        evidenceKinds: this.#evidenceKinds(),
        digestMadeHere: answer.digestMadeHere === true,
      };
      this.#context.emit({
        type: 'image',
        name,
        digest: manifest.digest,
        platforms: image.platforms,
        size: image.contentSize,
        evidence: image.evidence.length,
        evidenceKinds: image.evidenceKinds,
      });
      return image;
    } catch (error) {
      if (error instanceof SealiftError) throw error.with({ subject: name });
      throw error;
    }
  }

  #evidenceKinds(): readonly KindCount[] {
    const pieces = [...this.#evidence].flatMap((digest) => this.#content.evidence.get(digest) ?? []);
    const within = Array.from({ length: this.#attestations }, () => 'buildkit-attestation' as const);
    return countKinds([...pieces.map(evidenceKind), ...within]);
  }

  /** Takes up a manifest of the image itself and all below it. */
  async #visit(manifest: ParsedManifest, platform: Platform | undefined, depth: number): Promise<void> {
    if (this.#visited.has(manifest.digest)) return;
    this.#visited.add(manifest.digest);
    this.#countManifest(depth);
    this.#addManifest(manifest, 'manifest');
    this.#own.set(manifest.digest, manifest.bytes.length);
    if (manifest.kind === 'image') await this.#visitImage(manifest, platform);
    else await this.#visitIndex(manifest, depth);
    await this.#collectEvidence(manifest.digest, depth);
    await this.#collectTagged(manifest.digest, depth);
    await this.#collectAttached(manifest, depth);
  }

  async #visitImage(manifest: ParsedManifest, platform: Platform | undefined): Promise<void> {
    for (const layer of manifest.layers) {
      if (isForeignLayer(layer.mediaType) && !this.#options.includeForeign) {
        throw new SealiftError(
          'foreign-layer',
          `layer ${layer.digest} may only be had from its vendor (type ${inert(layer.mediaType)})`,
          {
            hint: 'if its licence lets you pass it on, add --include-foreign; else choose another platform with --platform, or leave the image out',
          },
        );
      }
      this.#add(layer, 'layer');
      this.#own.set(layer.digest, layer.size);
    }
    const { config } = manifest;
    if (!config) return;
    this.#own.set(config.digest, config.size);
    const blob = this.#add(config, 'config');
    let found = platform;
    if (!found && isImageConfig(config.mediaType) && config.size <= this.#context.limits.config) {
      blob.bytes ??= await this.#readBlob(config);
      found = platformOfConfig(blob.bytes, this.#context);
    }
    if (found) this.#platforms.add(formatPlatform(found));
    // A lone image of another platform than asked for; children of an index were chosen before.
    if (!platform && found && this.#wanted.length > 0 && !this.#isWanted(found)) {
      throw new SealiftError(
        'source-not-found',
        `image is for another platform: got ${formatPlatform(found)}, want ${this.#wantedText()}`,
        {
          got: formatPlatform(found),
          want: this.#wantedText(),
          hint: 'leave --platform out for this image',
        },
      );
    }
  }

  async #visitIndex(index: ParsedManifest, depth: number): Promise<void> {
    const children = index.manifests.filter(
      (child) => isManifestType(child.mediaType) || isIndexType(child.mediaType),
    );
    for (const child of index.manifests) {
      // OCI allows any content in an index; what is no manifest travels as a blob.
      if (!children.includes(child)) {
        this.#add(child, 'layer');
        this.#own.set(child.digest, child.size);
      }
    }
    const chosen = this.#choose(children);
    await forEachLimited(chosen, 4, this.#context.signal, async (child) => {
      const manifest = await this.#fetch(child);
      if (isAttestation(child) && !this.#visited.has(child.digest)) this.#attestations += 1;
      await this.#visit(
        manifest,
        isAttestation(child) || isUnknown(child.platform) ? undefined : child.platform,
        depth + 1,
      );
    });
  }

  /** Children to carry under --platform; an attestation goes with the image it is about, or is left out by its kind. */
  #choose(children: readonly Descriptor[]): Descriptor[] {
    const { source } = this.#request;
    const all = this.#wanted.length === 0;
    const left = new Set(children.flatMap(({ digest }) => (source.omits?.(digest) ? [digest] : [])));
    const images = new Set<string>();
    for (const child of children) {
      const { platform } = child;
      if (isAttestation(child) || left.has(child.digest)) continue;
      const matches = all || !platform || isUnknown(platform) || this.#isWanted(platform);
      if (matches) images.add(child.digest);
    }
    const chosen: Descriptor[] = [];
    for (const child of children) {
      if (images.has(child.digest)) {
        chosen.push(child);
      } else if (isAttestation(child)) {
        const isAboutCarried = images.has(attestationSubject(child));
        const wasLeft = left.has(child.digest);
        const goes = isAboutCarried || (all && !wasLeft);
        if (goes && !wasLeft && this.#options.excludeAttestations !== true) chosen.push(child);
        else this.#omit(child, goes ? 'evidence' : 'platform');
      } else this.#omit(child, 'platform');
    }
    return chosen;
  }

  #isWanted(platform: Platform): boolean {
    return this.#wanted.some((want) => platformMatches(want, platform));
  }

  #omit(child: Descriptor, reason: OmittedChild['reason']): void {
    const platform =
      child.platform && !isUnknown(child.platform) ? { platform: formatPlatform(child.platform) } : {};
    this.#omitted.set(child.digest, { digest: child.digest, ...platform, reason });
  }

  /** Each platform asked for by name must be there, or the operator finds out in the sealed room. */
  #refuseMissingPlatforms(): void {
    if (this.#omitted.size === 0 && this.#platforms.size === 0) return;
    const have = [...this.#platforms].map((text) => parsePlatform(text));
    for (const want of this.#wanted) {
      if (have.some((platform) => platformMatches(want, platform))) continue;
      const all = [
        ...this.#platforms,
        ...[...this.#omitted.values()].flatMap(({ platform }) => platform ?? []),
      ].sort();
      throw new SealiftError(
        'source-not-found',
        `image has no ${formatPlatform(want)}: got ${all.join(', ')}`,
        {
          got: all.join(', '),
          want: formatPlatform(want),
          hint: 'name one of its platforms with --platform, or leave --platform out',
        },
      );
    }
  }

  /** Evidence of a manifest, and evidence of that evidence. */
  async #collectEvidence(subject: Digest, depth: number): Promise<void> {
    if (!this.#options.includeEvidence || this.#options.excludeReferrers === true) return;
    const { descriptors, via } = await this.#request.source.referrers(subject);
    for (const descriptor of descriptors) {
      if (this.#evidence.has(descriptor.digest)) continue;
      if (!isManifestType(descriptor.mediaType) && !isIndexType(descriptor.mediaType)) continue;
      const manifest = await this.#fetch(descriptor);
      // A registry that lists what is about something else is wrong or lying; the document itself decides.
      if (manifest.subject?.digest !== subject) {
        this.#context.emit({
          type: 'notice',
          level: 'warning',
          code: 'not-evidence',
          message: `${descriptor.digest} is listed as evidence of ${subject} but is not about it; left out`,
        });
        continue;
      }
      this.#evidence.add(manifest.digest);
      this.#countManifest(depth + 1);
      this.#addManifest(manifest, 'evidence');
      this.#content.evidence.set(manifest.digest, {
        digest: manifest.digest,
        mediaType: manifest.mediaType,
        artifactType: manifest.artifactType ?? manifest.config?.mediaType ?? '',
        size: manifest.bytes.length,
        subject,
        via,
      });
      for (const blob of [manifest.config, ...manifest.layers]) if (blob) this.#add(blob, 'evidence');
      await this.#collectEvidence(manifest.digest, depth + 1);
      await this.#collectTagged(manifest.digest, depth + 1);
    }
  }

  /** Evidence that only a tag ties to what it is about, as cosign's, and evidence of that evidence. */
  async #collectTagged(subject: Digest, depth: number): Promise<void> {
    const { source } = this.#request;
    const { includeEvidence, excludeTagged } = this.#options;
    if (!includeEvidence || excludeTagged === true || !source.tagged) return;
    for (const { tag, manifest: answer } of await source.tagged(subject)) {
      const known = this.#content.evidence.get(answer.digest);
      const manifest = this.#readTagged(tag, answer, known?.subject ?? subject, subject);
      if (!manifest) continue;
      const { digest } = manifest;
      const isNew = !this.#evidence.has(digest);
      this.#evidence.add(digest);
      this.#content.evidence.set(digest, {
        digest,
        mediaType: manifest.mediaType,
        // Every such manifest calls itself an image; what it holds says what it is.
        artifactType: manifest.artifactType ?? manifest.layers[0]?.mediaType ?? '',
        size: manifest.bytes.length,
        subject,
        via: 'cosign-tag',
        ...known,
        tag,
      });
      if (!isNew) continue;
      this.#countManifest(depth + 1);
      this.#addManifest(manifest, 'evidence');
      for (const blob of [manifest.config, ...manifest.layers]) if (blob) this.#add(blob, 'evidence');
      await this.#collectEvidence(digest, depth + 1);
      await this.#collectTagged(digest, depth + 1);
    }
  }

  /** The manifest behind a tag; undefined, and told, where it is no evidence of `subject`. */
  #readTagged(
    tag: string,
    { bytes, mediaType, digest }: SourceManifest,
    known: Digest,
    subject: Digest,
  ): ParsedManifest | undefined {
    let problem: string;
    try {
      const manifest = parseManifest(bytes, { mediaType, digest, limits: this.#context.limits });
      const about = manifest.subject?.digest ?? known;
      if (manifest.kind === 'image' && about === subject) return manifest;
      problem = manifest.kind === 'image' ? `it is about ${about}` : 'it is an index';
    } catch (error) {
      if (!isSealiftError(error)) throw error;
      problem = error.message;
    }
    this.#context.emit({
      type: 'notice',
      level: 'warning',
      code: 'not-evidence',
      message: `${tag} is taken for no evidence: ${problem}; left out`,
    });
    return undefined;
  }

  /** Evidence that no registry lists: found beside the source and wrapped. */
  async #collectAttached(subject: ParsedManifest, depth: number): Promise<void> {
    const { attached } = this.#request;
    if (!this.#options.includeEvidence || !attached) return;
    for (const { manifest, blobs, via } of await attached(subject, depth === 0)) {
      if (this.#evidence.has(manifest.digest)) continue;
      this.#evidence.add(manifest.digest);
      this.#countManifest(depth + 1);
      this.#addManifest(manifest, 'evidence');
      this.#content.evidence.set(manifest.digest, {
        digest: manifest.digest,
        mediaType: manifest.mediaType,
        artifactType: manifest.artifactType ?? '',
        size: manifest.bytes.length,
        subject: subject.digest,
        via,
      });
      for (const blob of [manifest.config, ...manifest.layers]) {
        const bytes = blob && blobs.get(blob.digest);
        if (blob && bytes) this.#add(blob, 'evidence').bytes ??= bytes;
      }
    }
  }

  async #fetch(descriptor: Descriptor): Promise<ParsedManifest> {
    const held = this.#content.blobs.get(descriptor.digest)?.bytes;
    if (descriptor.size > this.#context.limits.manifest) {
      throw new SealiftError(
        'source-too-large',
        `manifest ${descriptor.digest} is too large: got ${descriptor.size} bytes, want at most ${this.#context.limits.manifest}`,
      );
    }
    const bytes = held ?? (await this.#request.source.manifest(descriptor.digest)).bytes;
    if (bytes.length !== descriptor.size) {
      throw new SealiftError(
        'size-mismatch',
        `manifest ${descriptor.digest} has another size than announced: got ${bytes.length}, want ${descriptor.size}`,
        {
          got: bytes.length,
          want: descriptor.size,
        },
      );
    }
    return parseManifest(bytes, {
      mediaType: descriptor.mediaType,
      digest: descriptor.digest,
      limits: this.#context.limits,
    });
  }

  async #readBlob(descriptor: Descriptor): Promise<Uint8Array> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of await this.#request.source.blob(descriptor))
      chunks.push(Uint8Array.from(chunk));
    const bytes = Buffer.concat(chunks);
    const got = digestOf(bytes, digestAlgorithm(descriptor.digest));
    if (got !== descriptor.digest) {
      throw new SealiftError(
        'digest-mismatch',
        `blob has another digest: got ${got}, want ${descriptor.digest}`,
        {
          got,
          want: descriptor.digest,
        },
      );
    }
    return bytes;
  }

  #countManifest(depth: number): void {
    this.#manifests += 1;
    const { manifestsPerImage, graphDepth } = this.#context.limits;
    if (this.#manifests > manifestsPerImage) {
      throw new SealiftError(
        'manifest-invalid',
        `image consists of too many manifests: want at most ${manifestsPerImage}`,
      );
    }
    if (depth > graphDepth)
      throw new SealiftError(
        'manifest-invalid',
        `image is nested too deeply: want at most ${graphDepth} levels`,
      );
  }

  #addManifest(manifest: ParsedManifest, kind: BlobKind): void {
    const blob = this.#add(
      { digest: manifest.digest, size: manifest.bytes.length, mediaType: manifest.mediaType },
      kind,
    );
    blob.bytes ??= manifest.bytes;
    // An evidence manifest is a manifest to the archive: it comes with the small files, and readers parse it.
    blob.kind = 'manifest';
  }

  #add(descriptor: Pick<Descriptor, 'digest' | 'size' | 'mediaType'>, kind: BlobKind): ContentBlob {
    const { digest, size, mediaType } = descriptor;
    const blob = this.#content.blobs.get(digest);
    if (!blob) {
      if (size > this.#context.limits.blob) {
        throw new SealiftError(
          'source-too-large',
          `blob ${digest} is too large: got ${size} bytes, want at most ${this.#context.limits.blob}`,
        );
      }
      const added: ContentBlob = { digest, size, mediaType, kind, images: new Set([this.#index]) };
      this.#content.blobs.set(digest, added);
      return added;
    }
    if (blob.size !== size) {
      throw new SealiftError(
        'size-mismatch',
        `two sizes are announced for ${digest}: got ${size} and ${blob.size}`,
        {
          got: size,
          want: blob.size,
        },
      );
    }
    if (BLOB_KINDS.indexOf(kind) < BLOB_KINDS.indexOf(blob.kind)) blob.kind = kind;
    blob.images.add(this.#index);
    return blob;
  }

  #wantedText(): string {
    return this.#wanted.map(formatPlatform).join(', ');
  }
}

/** @throws SealiftError `digest-mismatch` */
function refuseOther({ bytes, digestMadeHere }: SourceManifest, pin: Digest): void {
  const got = digestOf(bytes, digestAlgorithm(pin));
  if (got === pin) return;
  throw new SealiftError('digest-mismatch', `the name pins another image: got ${got}, want ${pin}`, {
    got,
    want: pin,
    hint:
      digestMadeHere === true
        ? 'this location has no digest of a registry; leave the digest out of the name'
        : 'the location holds another image than the one that is pinned; name the digest it has, or leave it out',
  });
}

function isUnknown(platform: Platform | undefined): boolean {
  return platform?.os === 'unknown' && platform.architecture === 'unknown';
}

/** The platform an image config names; undefined where it is not readable as one. */
function platformOfConfig(bytes: Uint8Array, context: Context): Platform | undefined {
  try {
    const config = asObject(
      parseJson(bytes, {
        what: 'image config',
        maxBytes: context.limits.config,
        maxDepth: context.limits.jsonDepth,
      }),
      'config',
      'json-invalid',
    );
    const { architecture, os, variant } = config as Record<string, unknown>;
    if (typeof architecture !== 'string' || typeof os !== 'string' || !architecture || !os) return undefined;
    return { architecture, os, ...(typeof variant === 'string' && variant ? { variant } : {}) };
  } catch {
    // The config is the image's own business; a strange one is carried as it is and has no platform to show.
    return undefined;
  }
}
