/** One side of a diff: where its images are, and what its trust metadata says of names it does not carry. */
import { readClaims } from '../claims.ts';
import type { Context } from '../context.ts';
import { inert, isSealiftError, SealiftError } from '../errors.ts';
import { kindOfPath } from '../locate.ts';
import { assertDigest, type Digest } from '../oci/digest.ts';
import { type CollectedImage, type Content, collectContent } from '../transport/collect.ts';
import { givenName, type Location, parseLocation, referenceIn } from '../transport/location.ts';
import { openSource, type Source, type SourceOptions } from '../transport/source.ts';
import { listTargets } from '../trust/search.ts';
import type { DiffSide } from './result.ts';

export interface Side {
  readonly facts: DiffSide;
  readonly images: readonly CollectedImage[];
  readonly content: Content;
  /** A small blob or a manifest. @throws SealiftError as the source gives, `blob-missing` among them */
  read(digest: Digest, max: number): Promise<Uint8Array>;
  /** Content of a layer, not yet hashed. @throws SealiftError as the source gives */
  open(layer: {
    readonly digest: Digest;
    readonly size: number;
    readonly mediaType: string;
  }): Promise<AsyncIterable<Uint8Array>>;
  /** Digest by name for which the side's metadata speaks; undefined where it only has what it carries. */
  readonly spokenFor: ReadonlyMap<string, string> | undefined;
  readonly withdrawn: ReadonlyMap<
    string,
    { readonly digest: string; readonly reason: string; readonly at: string }
  >;
  /** True where one image was named rather than a place. */
  readonly single: boolean;
  close(): Promise<void>;
}

/**
 * @param text a location; a path that is there is looked at
 * @throws SealiftError of the source, `unknown-location`, and what a malformed bundle gives
 */
export async function openSide(text: string, options: SourceOptions, context: Context): Promise<Side> {
  const quiet: Context = { ...context, emit: () => undefined };
  const location = await locate(text);
  const claims = location.kind === 'bundle' ? await readClaims(location.file, context) : undefined;
  // What a bundle tells of itself is told here already.
  const source = await openSource(location, options, location.kind === 'bundle' ? quiet : context);
  try {
    const requests = (await namesOf(location, source, text)).map((request) => ({ ...request, source }));
    const content = await collectContent(
      requests,
      { platforms: [], includeEvidence: true, includeForeign: true, concurrency: 4 },
      quiet,
    );
    return {
      facts: {
        location: inert(text, 4096),
        kind: location.kind === 'bundle' || location.kind === 'store' ? location.kind : 'images',
        ...(claims
          ? {
              collection: {
                id: claims.collection.id,
                name: claims.collection.name,
                version: claims.collection.version,
                expires: claims.collection.expires,
              },
            }
          : {}),
        images: content.images.length,
      },
      images: content.images,
      content,
      read: (digest, max) => readSmall(source, content, digest, max),
      open: (layer) => source.blob(layer),
      spokenFor:
        claims && new Map(listTargets(claims.set).map(({ name, digest }) => [name, digest] as const)),
      withdrawn: new Map(claims?.withdrawn.map((tombstone) => [tombstone.name, tombstone])),
      single: isSingle(location),
      close: () => source.close(),
    };
  } catch (error) {
    await source.close();
    throw error;
  }
}

async function locate(text: string): Promise<Location> {
  const kind = await kindOfPath(text).catch((error: unknown) => {
    if (isSealiftError(error) && error.code === 'bundle-not-found') return undefined;
    throw error;
  });
  switch (kind) {
    case undefined:
      return parseLocation(text).location;
    case 'bundle':
      return { kind, file: text };
    case 'store':
      return { kind, directory: text };
    case 'layout':
      return { kind: 'oci', directory: text };
    default:
      throw new SealiftError('unknown-location', `nothing to compare: got a ${kind}`, {
        subject: inert(text, 4096),
        hint: 'name a bundle, a store or an image on each side',
      });
  }
}

function isSingle(location: Location): boolean {
  return 'reference' in location || location.kind === 'file' || referenceIn(location) !== '';
}

async function namesOf(
  location: Location,
  source: Source,
  text: string,
): Promise<readonly { readonly name: string; readonly reference: string }[]> {
  const given = givenName({ location, text });
  if (isSingle(location)) return [{ name: given ?? text, reference: referenceIn(location) }];
  const names = await source.names?.();
  if (names) return names.map(({ name, reference }) => ({ name, reference }));
  return [{ name: given ?? text, reference: '' }];
}

async function readSmall(source: Source, content: Content, digest: Digest, max: number): Promise<Uint8Array> {
  const blob = content.blobs.get(digest);
  if (blob?.bytes) return blob.bytes;
  if (!blob) throw new SealiftError('blob-missing', `there is no blob ${digest}`, { subject: digest });
  if (blob.size > max) {
    throw new SealiftError(
      'source-too-large',
      `${digest} is too large: got ${blob.size} bytes, want at most ${max}`,
      {
        subject: digest,
      },
    );
  }
  const chunks: Uint8Array[] = [];
  for await (const chunk of await source.blob(blob)) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  assertDigest(bytes, digest);
  return bytes;
}
