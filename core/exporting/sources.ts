/** The sources of an export: each opened once, when first needed. */
import type { Context } from '../context.ts';
import type { BlobReading, BlobSources } from '../delta/blobs-from.ts';
import { inert, isSealiftError, SealiftError } from '../errors.ts';
import type { ContentTrustFinder } from '../evidence/content-trust/find.ts';
import type { ContentTrustSettings } from '../evidence/content-trust/settings.ts';
import type { Digest } from '../oci/digest.ts';
import type { ParsedManifest } from '../oci/manifest.ts';
import { fullName } from '../transport/bundle/names.ts';
import type { FailedImage, ImageRequest } from '../transport/collect.ts';
import {
  givenName,
  imageNameOf,
  type Location,
  type NamedLocation,
  pinOf,
  placeOf,
  referenceIn,
} from '../transport/location.ts';
import { openSource, type Source } from '../transport/source.ts';
import type { ExportOptions } from '../workflow-options.ts';

/** @throws SealiftError `invalid-argument` where nothing was asked for */
export function refuseNothing(images: readonly NamedLocation[]): void {
  if (images.length === 0) {
    throw new SealiftError('invalid-argument', 'nothing to export', {
      hint: 'name at least one image; --metadata-only exports none and renews what is in',
    });
  }
}

type SetOptions = Pick<ExportOptions, 'images' | 'source' | 'blobsFrom'>;

/** The sources of a request, opened when first needed. */
export class SourceSet {
  readonly #options: SetOptions;
  readonly #context: Context;
  /** By place, since an archive of many images is opened, and written out, once. */
  readonly #open = new Map<string, Promise<Source>>();
  readonly #failed: FailedImage[] = [];
  #images: readonly NamedLocation[];
  /** Bundles and stores among the locations. */
  #places: readonly Location[] | undefined;
  #bag: Promise<BlobSources> | undefined;

  constructor(options: SetOptions, context: Context) {
    this.#options = options;
    this.#context = context;
    this.#images = options.images;
  }

  /** Locations whose images `named()` could not learn. */
  get failed(): readonly FailedImage[] {
    return this.#failed;
  }

  /**
   * What was asked for with a name for each image: where a location names none of its images, all that it has. A location
   * that cannot be read, or knows no name either (`invalid-reference`), is in `failed`.
   */
  async named(): Promise<readonly NamedLocation[]> {
    const images: NamedLocation[] = [];
    for (const named of this.#options.images) {
      try {
        images.push(...(givenName(named) === undefined ? await this.#namesOf(named) : [named]));
      } catch (error) {
        if (!isSealiftError(error) || error.category === 'cancelled') throw error;
        this.#failed.push({ name: inert(named.text), error });
      }
    }
    this.#images = images;
    this.#places = undefined;
    return images;
  }

  async #namesOf(named: NamedLocation): Promise<readonly NamedLocation[]> {
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
    return found.map(({ name, reference }) => ({
      name,
      location: { ...location, name: reference },
      text: `${name}=${text}`,
    }));
  }

  get(image: number): Promise<Source> {
    const named = this.#images[image];
    if (!named)
      throw new SealiftError('state-damaged', `the journal names image ${image}, which was not asked for`);
    return this.#at(named.location, `image ${image}`);
  }

  /**
   * Where else than at the sources of its images a blob lies, so that bundles complete one another: in bundles and stores
   * that other images come from, and in what `blobsFrom` names.
   */
  async elsewhere(blob: { readonly digest: Digest; readonly size: number }): Promise<readonly BlobReading[]> {
    const found: BlobReading[] = [];
    this.#places ??= placesAmong(this.#images);
    for (const location of this.#places) {
      const source = await this.#at(location, '');
      if (!(await source.holds?.(blob))) continue;
      found.push({ file: source.location, read: () => source.blob({ ...blob, mediaType: '' }) });
    }
    const { blobsFrom = [] } = this.#options;
    if (blobsFrom.length === 0) return found;
    this.#bag ??= import('../delta/blobs-from.ts').then(({ openBlobSources }) =>
      openBlobSources(blobsFrom, this.#context),
    );
    return [...found, ...(await (await this.#bag).readings(blob.digest, blob.size))];
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
    await this.#bag?.then((bag) => bag.close()).catch(() => undefined);
  }
}

function placesAmong(images: readonly NamedLocation[]): readonly Location[] {
  const places = new Map<string, Location>();
  for (const { location } of images)
    if (location.kind === 'bundle' || location.kind === 'store')
      places.set(placeOf(location) ?? '', location);
  return [...places.values()];
}

export function requestsOf(
  images: readonly NamedLocation[],
  sources: SourceSet,
  options: Pick<ExportOptions, 'source' | 'lookaside' | 'contentTrust'>,
  context: Context,
): Promise<ImageRequest[]> {
  const { source: sourceOptions, lookaside, contentTrust } = options;
  // One for all images: a server is asked once about a repository.
  let finder: Promise<ContentTrustFinder> | undefined;
  const trustOf = (settings: ContentTrustSettings): Promise<ContentTrustFinder> => {
    finder ??= import('../evidence/content-trust/find.ts').then(({ contentTrustFinder }) =>
      contentTrustFinder(settings, sourceOptions, context),
    );
    return finder;
  };
  return Promise.all(
    images.map(async (named, index) => {
      const name = imageNameOf(named);
      const { location } = named;
      const request = {
        name,
        reference: referenceIn(location),
        pin: pinOf(named),
        source: await sources.get(index).catch(unavailable),
        ...(location.kind === 'docker' ? { host: location.reference.domain } : {}),
      };
      if (!lookaside && !contentTrust) return request;
      return {
        ...request,
        attached: async (manifest: ParsedManifest, isTop: boolean) => {
          const { findAttached } = await import('../evidence/attached.ts');
          const beside = lookaside
            ? await findAttached(named, name, manifest, lookaside, sourceOptions, context)
            : [];
          if (!contentTrust || location.kind !== 'docker') return beside;
          const find = await trustOf(contentTrust);
          return [...beside, ...(await find(location.reference, manifest, isTop))];
        },
      };
    }),
  );
}

/** Stands for a source that cannot be opened, which is told when its image's turn comes. */
function unavailable(error: unknown): Source {
  if (!isSealiftError(error)) throw error;
  const fail = (): Promise<never> => Promise.reject(error);
  return { location: '', manifest: fail, blob: fail, referrers: fail, close: async () => {} };
}

function unnamed(named: NamedLocation): unknown {
  try {
    imageNameOf(named);
  } catch (error) {
    return error;
  }
  return new SealiftError('internal', 'an image that has a name was taken for one without');
}
