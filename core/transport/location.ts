/**
 * Locations: where bytes come from, spelt as skopeo users know it. A location never changes a name; the name
 * of an image is its own (`NAME=LOCATION`), and only where none is given it is read from the location.
 */
import { statSync } from 'node:fs';
import { inert, isSealiftError, SealiftError } from '../errors.ts';
import { imageName, parseReference, type Reference } from '../oci/reference.ts';

export type Location =
  /** A registry: `docker://REFERENCE`, or a bare name. */
  | { readonly kind: 'docker'; readonly reference: Reference }
  /** An OCI image layout: `oci:DIR[:NAME]`. */
  | { readonly kind: 'oci'; readonly directory: string; readonly name?: string | undefined };

export interface NamedLocation {
  /** Normalised full image name, where one was given before `=`. */
  readonly name?: string | undefined;
  readonly location: Location;
  /** As it was written. */
  readonly text: string;
}

const KNOWN_KINDS = ['docker://REFERENCE', 'oci:DIRECTORY[:NAME]', 'NAME (an image in a registry)'] as const;

/** Kinds the design knows and this version does not read yet, so that they get their own words. */
const FUTURE_KINDS = new Set([
  'oci-archive',
  'docker-archive',
  'docker-daemon',
  'containers-storage',
  'containerd',
  'bundle',
  'store',
  'static',
  's3',
  'file',
  'dir',
]);

function isDirectoryOnDisk(file: string): boolean {
  return statSync(file, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/**
 * Parses `[NAME=]LOCATION`.
 * @param isDirectory tells where the directory ends and the name begins in `oci:DIR:NAME`
 * @throws SealiftError `unknown-location`, naming the kinds sealift knows; `invalid-reference`
 */
export function parseLocation(
  text: string,
  isDirectory: (file: string) => boolean = isDirectoryOnDisk,
): NamedLocation {
  const split = splitName(text);
  if (split.name === undefined) return { location: parseBare(split.rest, isDirectory), text };
  return {
    name: imageName(parseReference(split.name)),
    location: parseBare(split.rest, isDirectory),
    text,
  };
}

/** No image reference holds `=`, so the first one ends the name; behind a prefix it belongs to a path. */
function splitName(text: string): { readonly name?: string; readonly rest: string } {
  const equals = text.indexOf('=');
  if (equals < 0 || /^(?:[a-z][a-z0-9+.-]*:\/\/|oci:)/i.test(text.slice(0, equals))) return { rest: text };
  return { name: text.slice(0, equals), rest: text.slice(equals + 1) };
}

function isReference(text: string): boolean {
  try {
    parseReference(text);
    return true;
  } catch (error) {
    if (isSealiftError(error)) return false;
    throw error;
  }
}

function parseBare(text: string, isDirectory: (file: string) => boolean): Location {
  if (text.startsWith('docker://')) {
    return { kind: 'docker', reference: parseReference(text.slice('docker://'.length)) };
  }
  // Always a layout: there is no image of that name that could not be written docker://oci:TAG.
  if (text.startsWith('oci:')) return parseLayout(text, isDirectory);
  const prefix = text.slice(0, Math.max(text.indexOf(':'), 0));
  const isUrl = /^[a-z][a-z0-9+.-]*:\/\//i.test(text);
  if (isUrl || FUTURE_KINDS.has(prefix)) throw unknownLocation(text);
  if (text === '' || /^[./~]/.test(text)) throw unknownLocation(text);
  return { kind: 'docker', reference: parseReference(text) };
}

function parseLayout(text: string, isDirectory: (file: string) => boolean): Location {
  const rest = text.slice('oci:'.length);
  if (rest === '' || rest.startsWith(':') || rest.includes('\0')) throw unknownLocation(text);
  // Directories may hold colons and so do names; the longest one that exists is meant.
  for (let end = rest.length; end > 0; end = rest.lastIndexOf(':', end - 1)) {
    const directory = rest.slice(0, end);
    if (isDirectory(directory)) {
      return end === rest.length
        ? { kind: 'oci', directory }
        : { kind: 'oci', directory, name: rest.slice(end + 1) };
    }
  }
  const colon = rest.indexOf(':');
  return colon < 0
    ? { kind: 'oci', directory: rest }
    : { kind: 'oci', directory: rest.slice(0, colon), name: rest.slice(colon + 1) };
}

function unknownLocation(text: string): SealiftError {
  return new SealiftError(
    'unknown-location',
    `unknown kind of location, got ${inert(text)}, want one of ${KNOWN_KINDS.join(', ')}`,
    {
      subject: inert(text),
      want: KNOWN_KINDS.join(', '),
      hint: 'write [NAME=]docker://REFERENCE or [NAME=]oci:DIRECTORY[:NAME]; a bare name is an image in a registry; an image that is called like a kind is written docker://NAME',
    },
  );
}

/**
 * The full name the image has in the bundle.
 * @throws SealiftError `invalid-reference` where neither a name was given nor the location holds a full one
 */
export function imageNameOf(named: NamedLocation): string {
  if (named.name !== undefined) return named.name;
  const { location } = named;
  if (location.kind === 'docker') return imageName(location.reference);
  if (location.name !== undefined && looksFull(location.name))
    return imageName(parseReference(location.name));
  throw new SealiftError(
    'invalid-reference',
    `a layout does not say what its image is called, got ${inert(named.text)}`,
    {
      subject: inert(named.text),
      want: 'NAME=LOCATION',
      hint: `write the image's full name in front, as in docker.io/library/NAME:TAG=${inert(named.text)}`,
    },
  );
}

/** `host/path:tag`: only then the annotation is surely a name, and not merely a tag such as `3.20`. */
function looksFull(name: string): boolean {
  const first = name.split('/', 1)[0] ?? '';
  return (
    name.includes('/') &&
    (first.includes('.') || first.includes(':') || first === 'localhost') &&
    isReference(name)
  );
}

/** What to ask `Source.manifest()` for: digest or tag; in a layout the name, or empty for its only image. */
export function referenceIn(location: Location): string {
  if (location.kind === 'oci') return location.name ?? '';
  return location.reference.digest ?? location.reference.tag ?? 'latest';
}
