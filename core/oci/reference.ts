/**
 * Image references by the grammar and the normalisation of Docker (distribution/reference), stricter in two
 * points: host names are lower-case, because names are compared byte for byte, and ports are 1 to 65535.
 */
import { inert, SealiftError } from '../errors.ts';
import { type Digest, isDigest, parseDigest } from './digest.ts';

export interface Reference {
  /** Host, with port where given: `docker.io`, `localhost:5000`, `[::1]:5000`. */
  readonly domain: string;
  /** `library/alpine` */
  readonly path: string;
  readonly tag?: string;
  readonly digest?: Digest;
}

const DEFAULT_DOMAIN = 'docker.io';
const LEGACY_DEFAULT_DOMAIN = 'index.docker.io';
const OFFICIAL_PREFIX = 'library/';
const DEFAULT_TAG = 'latest';
/** Of `DOMAIN/PATH`. */
const MAX_NAME_LENGTH = 255;
/** Longest sensible text: name, tag, sha512 digest. Bounds the work of the expressions below. */
const MAX_TEXT_LENGTH = MAX_NAME_LENGTH + 1 + 128 + 1 + 135;

const DOMAIN =
  /^(?:[a-z0-9]+(?:-+[a-z0-9]+)*(?:\.[a-z0-9]+(?:-+[a-z0-9]+)*)*|\[[0-9a-f:]+\])(?::([1-9][0-9]{0,4}))?$/;
const PATH = /^[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;

function refuse(text: string, why: string, hint?: string): SealiftError {
  const shown = inert(text, 160);
  return new SealiftError('invalid-reference', `not an image reference: got "${shown}": ${why}`, {
    subject: shown,
    want: '[HOST[:PORT]/]PATH[:TAG][@DIGEST]',
    hint,
  });
}

export function isTag(text: string): boolean {
  return TAG.test(text);
}

/**
 * A reference as people write it, normalised: `alpine` is `docker.io/library/alpine:latest`,
 * `index.docker.io/x` is `docker.io/library/x`. With a digest and no tag it gets no tag.
 *
 * @throws SealiftError `invalid-reference`; `invalid-digest` where the part behind `@` is no digest
 */
export function parseReference(text: string): Reference {
  const parts = split(text);
  if (parts.tag === undefined && parts.digest === undefined) return { ...parts, tag: DEFAULT_TAG };
  return parts;
}

/**
 * The strict inverse of imageName: the name must be full and normalised, with a tag or a digest and not both.
 *
 * @throws SealiftError `invalid-reference`, `invalid-digest`
 */
export function parseImageName(text: string): Reference {
  const reference = parseReference(text);
  const want = imageName(reference);
  if (want !== text) throw refuse(text, `want the full name ${want}`);
  return reference;
}

function split(text: string): Reference {
  if (text.length > MAX_TEXT_LENGTH) throw refuse(text, `want at most ${MAX_TEXT_LENGTH} characters`);
  if (text === '') throw refuse(text, 'it is empty');
  if (/^[0-9a-f]{64}$/.test(text)) {
    throw refuse(text, 'this is an image id, which names no repository', `write REPOSITORY@sha256:${text}`);
  }
  const lone = text.replace(/^@/, '');
  if (isDigest(lone)) {
    throw refuse(text, 'this is a digest, which names no repository', `write REPOSITORY@${lone}`);
  }
  const scheme = /^[a-z][a-z0-9+.-]*:\/\//i.exec(text);
  if (scheme) throw refuse(text, 'it is a URL', `leave out ${inert(scheme[0])}`);

  const at = text.indexOf('@');
  const digest = at < 0 ? undefined : parseDigest(text.slice(at + 1));
  const named = at < 0 ? text : text.slice(0, at);
  // A colon behind the last slash begins a tag; before it, a port.
  const colon = named.indexOf(':', named.lastIndexOf('/') + 1);
  const tag = colon < 0 ? undefined : named.slice(colon + 1);
  if (tag !== undefined && !isTag(tag)) {
    throw refuse(
      text,
      'a tag is 1 to 128 letters, digits, "_", "." and "-", beginning with none of the last two',
    );
  }
  const { domain, path } = splitDomain(colon < 0 ? named : named.slice(0, colon));
  assertDomainAndPath(domain, path, text);
  return {
    domain,
    path,
    ...(tag === undefined ? {} : { tag }),
    ...(digest === undefined ? {} : { digest }),
  };
}

function splitDomain(name: string): { domain: string; path: string } {
  const slash = name.indexOf('/');
  const first = slash < 0 ? '' : name.slice(0, slash);
  // Docker takes the first part for a host where it could not be a path component, or is localhost.
  const isDomain =
    slash >= 0 && (/[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase());
  let domain = isDomain ? first : DEFAULT_DOMAIN;
  let path = isDomain ? name.slice(slash + 1) : name;
  if (domain === LEGACY_DEFAULT_DOMAIN) domain = DEFAULT_DOMAIN;
  if (domain === DEFAULT_DOMAIN && path !== '' && !path.includes('/')) path = OFFICIAL_PREFIX + path;
  return { domain, path };
}

function assertDomainAndPath(domain: string, path: string, text: string): void {
  const name = `${domain}/${path}`;
  if (name !== name.toLowerCase()) {
    throw refuse(
      text,
      'repository names and hosts are lower-case',
      `write ${inert(
        text.replace(/^[^@]*?(?=(?::[^/@]*)?(?:@|$))/, (s) => s.toLowerCase()),
        160,
      )}`,
    );
  }
  if (name.length > MAX_NAME_LENGTH) {
    throw refuse(text, `its repository has ${name.length} characters, want at most ${MAX_NAME_LENGTH}`);
  }
  const match = DOMAIN.exec(domain);
  if (!match || Number(match[1] ?? 1) > 65535) throw refuse(text, 'the host is not valid');
  if (!PATH.test(path)) {
    throw refuse(
      text,
      'path components are lower-case letters and digits, joined by ".", "_", "__" or dashes',
    );
  }
}

/** Parts between slashes that the name of an image may have, its host among them: delegations name one pattern for each. */
export const MAX_NAME_PARTS = 32;

/** @throws SealiftError `invalid-reference` where no collection could hold the name */
export function assertNameDepth(name: string): string {
  const parts = name.split('/').length;
  if (parts <= MAX_NAME_PARTS) return name;
  throw new SealiftError(
    'invalid-reference',
    `the name of an image has too many parts: got ${parts}, want at most ${MAX_NAME_PARTS} between slashes`,
    { subject: inert(name), got: parts, want: MAX_NAME_PARTS, hint: 'give it a shorter name: NAME=LOCATION' },
  );
}

/** `docker.io/library/alpine` */
export function repositoryName(reference: Reference): string {
  return `${reference.domain}/${reference.path}`;
}

/** The name an image has in a collection: with the tag, else with the digest. `docker.io/library/alpine:3.20` */
export function imageName(reference: Reference): string {
  const repository = repositoryName(reference);
  if (reference.tag !== undefined) return `${repository}:${reference.tag}`;
  if (reference.digest !== undefined) return `${repository}@${reference.digest}`;
  return `${repository}:${DEFAULT_TAG}`;
}

/** Everything the reference says, tag and digest. parseReference of it is the reference again. */
export function formatReference(reference: Reference): string {
  const name = imageName(reference);
  return reference.tag !== undefined && reference.digest !== undefined ? `${name}@${reference.digest}` : name;
}

/** A full name as people know it, for display: `alpine:3.20`. Left as it is where the short form would mean another. */
export function familiarName(name: string): string {
  const prefix = `${DEFAULT_DOMAIN}/`;
  if (!name.startsWith(prefix)) return name;
  const path = name.slice(prefix.length);
  const official = path.startsWith(OFFICIAL_PREFIX) ? path.slice(OFFICIAL_PREFIX.length) : path;
  const short = official.includes('/') ? path : official;
  try {
    return formatReference(parseReference(short)) === name ? short : name;
  } catch {
    return name;
  }
}

/** Whether `text` is what stands behind `@` in a reference, else it is a tag: for registry requests. */
export function isDigestReference(text: string): text is Digest {
  return isDigest(text);
}
