/**
 * Placements: under which repository names an image can be pulled. A placement is a location; the image keeps its name.
 */
import { inert, isSealiftError, SealiftError } from '../errors.ts';
import { type Digest, isDigest } from '../oci/digest.ts';
import { parseImageName, repositoryName } from '../oci/reference.ts';

export interface PlacementOptions {
  /** Put before every repository: `mirror` makes `mirror/docker.io/library/alpine`. */
  readonly prefix?: string | undefined;
  /** Repositories by the beginning of their names; the longest that fits counts. */
  readonly map?: readonly { readonly from: string; readonly to: string }[] | undefined;
}

/** A repository by the grammar of the distribution specification 1.1, "Pulling manifests". */
const COMPONENT = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*';
const REPOSITORY = new RegExp(`^${COMPONENT}(?:/${COMPONENT})*$`);
/** What clients allow for host, slash and repository together, less a short host. */
const MAX_REPOSITORY = 240;
const DEFAULT_HOST = 'docker.io/';
/** Components that are folders of the key layout; below one of these a repository and a file could be in each other's way. */
const RESERVED = new Set(['manifests', 'blobs', 'tags', 'referrers']);

export function isRepository(text: string): boolean {
  return text.length <= MAX_REPOSITORY && REPOSITORY.test(text);
}

/**
 * Reads `FROM=TO` of `--map`.
 * @throws SealiftError `invalid-argument`
 */
export function parseMapping(text: string): { readonly from: string; readonly to: string } {
  const equals = text.indexOf('=');
  const from = text.slice(0, Math.max(0, equals)).replace(/\/$/, '');
  const to = text.slice(equals + 1).replace(/\/$/, '');
  if (equals <= 0 || from === '' || !isRepository(to)) {
    throw new SealiftError('invalid-argument', `option --map: got ${inert(text)}, want FROM=TO`, {
      subject: '--map',
      hint: 'FROM is the beginning of a full name, TO a repository: --map docker.io/acme=acme',
    });
  }
  return { from, to };
}

/**
 * Repositories in which the image of that full name is put, the one to show first. An image of the default host is also
 * found without it, as docker and containerd ask a mirror for it.
 *
 * @throws SealiftError `invalid-argument` where a client could not ask for the repository, or where the layout has no place
 *   for it
 */
export function placesOf(name: string, options: PlacementOptions = {}): readonly string[] {
  const full = repositoryName(parseImageName(name));
  const mapping = [...(options.map ?? [])]
    .sort((a, b) => b.from.length - a.from.length)
    .find(({ from }) => full === from || full.startsWith(`${from}/`));
  const bare =
    mapping !== undefined
      ? [`${mapping.to}${full.slice(mapping.from.length)}`]
      : full.startsWith(DEFAULT_HOST)
        ? [full, full.slice(DEFAULT_HOST.length)]
        : [full];
  const { prefix } = options;
  const places = prefix === undefined ? bare : bare.map((one) => `${prefix}/${one}`);
  for (const place of places) assertPlace(place, name);
  return places;
}

function assertPlace(place: string, name: string): void {
  const shown = inert(place);
  const hint = `place it elsewhere: --map ${inert(repositoryName(parseImageName(name)))}=NEW/NAME`;
  if (!isRepository(place)) {
    throw new SealiftError(
      'invalid-argument',
      `no client could ask for the repository ${shown}: want lower-case path components without a port, ${MAX_REPOSITORY} characters at most`,
      { subject: name, got: shown, hint },
    );
  }
  const [first, ...rest] = place.split('/');
  const reserved = [first ?? '', ...rest].find((component) => RESERVED.has(component));
  if (reserved !== undefined || first === 'index.json') {
    throw new SealiftError(
      'invalid-argument',
      `the repository ${shown} has a component that the layout needs for itself: got ${reserved ?? first}`,
      { subject: name, got: shown, hint },
    );
  }
}

/** Keys of the tags that withdrawn names had, and the digests they had then. Names that never had a place are left out. */
export function withdrawnPlaces(
  withdrawn: readonly { readonly name: string; readonly digest: string }[],
  options: PlacementOptions,
): readonly { readonly key: string; readonly digest: Digest }[] {
  return withdrawn.flatMap(({ name, digest }) => {
    if (!isDigest(digest)) return [];
    try {
      const { tag } = parseImageName(name);
      if (tag === undefined) return [];
      return placesOf(name, options).map((place) => ({ key: `v2/${place}/manifests/${tag}`, digest }));
    } catch (error) {
      if (isSealiftError(error)) return [];
      throw error;
    }
  });
}
