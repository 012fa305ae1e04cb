/**
 * Locations: where bytes come from, spelt as skopeo users know it. A location never changes a name; the name
 * of an image is its own (`NAME=LOCATION`), and only where none is given it is read from the location.
 */
import { statSync } from 'node:fs';
import path from 'node:path';
import { inert, isSealiftError, SealiftError } from '../errors.ts';
import type { Digest } from '../oci/digest.ts';
import {
  assertNameDepth,
  formatReference,
  imageName,
  parseReference,
  type Reference,
} from '../oci/reference.ts';

export type Location =
  /** A registry: `docker://REFERENCE`, or a bare name. */
  | { readonly kind: 'docker'; readonly reference: Reference }
  /** An OCI image layout: `oci:DIR[:NAME]`. */
  | { readonly kind: 'oci'; readonly directory: string; readonly name?: string | undefined }
  /** A tar of such a layout, compressed or not: `oci-archive:FILE[:NAME]`. */
  | { readonly kind: 'oci-archive'; readonly file: string; readonly name?: string | undefined }
  /** What docker save and podman save write: `docker-archive:FILE[:NAME]`, or `:@N` for the image of that number. */
  | { readonly kind: 'docker-archive'; readonly file: string; readonly name?: string | undefined }
  /** A sealift bundle: `bundle:FILE[:NAME]`. */
  | { readonly kind: 'bundle'; readonly file: string; readonly name?: string | undefined }
  /** A sealift store: `store:DIR[:NAME]`. */
  | { readonly kind: 'store'; readonly directory: string; readonly name?: string | undefined }
  /** A directory in the key layout of a registry, as sync writes it: `static:DIR:NAME`. */
  | { readonly kind: 'static'; readonly directory: string; readonly reference: Reference }
  /** A plain file, wrapped as an artifact: `NAME=file:PATH`. */
  | { readonly kind: 'file'; readonly file: string }
  /** An image in an engine on this machine: `docker-daemon:NAME`, `containers-storage:NAME`, `containerd:NAME`. */
  | {
      readonly kind: 'docker-daemon' | 'containers-storage' | 'containerd';
      readonly reference: Reference;
    }
  /** What a program on the PATH reads, `sealift-transport-DRIVER`: `DRIVER:PLACE`, where PLACE begins with `/` or `.`. */
  | {
      readonly kind: 'driver';
      readonly driver: string;
      /** As it is written, `//` included. */
      readonly place: string;
      readonly name?: string | undefined;
    };

export interface NamedLocation {
  /** Normalised full image name, where one was given before `=`. */
  readonly name?: string | undefined;
  /** Digest the image must have, where one was given before `=` (`NAME:TAG@DIGEST=LOCATION`). */
  readonly pin?: Digest | undefined;
  readonly location: Location;
  /** As it was written. */
  readonly text: string;
}

const KNOWN_KINDS = [
  'docker://REFERENCE',
  'oci:DIRECTORY[:NAME]',
  'oci-archive:FILE[:NAME]',
  'docker-archive:FILE[:NAME]',
  'bundle:FILE[:NAME]',
  'store:DIRECTORY[:NAME]',
  'static:DIRECTORY:NAME',
  'docker-daemon:NAME',
  'containers-storage:NAME',
  'containerd:NAME',
  'NAME=file:PATH',
  'NAME (an image in a registry)',
  'DRIVER://PLACE (read by sealift-transport-DRIVER on the PATH)',
] as const;

/** Kinds that name a place on disk and, behind a colon, an image in it. */
const FILE_KINDS = ['oci-archive', 'docker-archive', 'bundle'] as const;
const DIRECTORY_KINDS = ['oci', 'store'] as const;
const ENGINE_KINDS = ['docker-daemon', 'containers-storage', 'containerd'] as const;
const PREFIX = new RegExp(
  `^(?:[a-z][a-z0-9+.-]*:[/.]|(?:${[...FILE_KINDS, ...DIRECTORY_KINDS, ...ENGINE_KINDS, 'file', 'static'].join('|')}):)`,
  'i',
);

/** What a driver may be called. */
export const DRIVER_NAME: RegExp = /^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$/;
/** Names that are understood elsewhere, so that no program on the PATH takes their place. */
const NO_DRIVERS: ReadonlySet<string> = new Set([
  ...FILE_KINDS,
  ...DIRECTORY_KINDS,
  ...ENGINE_KINDS,
  'docker',
  'file',
  'http',
  'https',
  's3',
  'static',
]);

function isDirectoryOnDisk(file: string): boolean {
  return statSync(file, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function isFileOnDisk(file: string): boolean {
  return statSync(file, { throwIfNoEntry: false })?.isFile() ?? false;
}

/**
 * Parses `[NAME=]LOCATION`.
 * @param isDirectory tells where the directory ends and the name begins in `oci:DIR:NAME`
 * @param isFile the same for `oci-archive:FILE:NAME`
 * @throws SealiftError `unknown-location`, naming the kinds sealift knows; `invalid-reference`
 */
export function parseLocation(
  text: string,
  isDirectory: (file: string) => boolean = isDirectoryOnDisk,
  isFile: (file: string) => boolean = isFileOnDisk,
): NamedLocation {
  const split = splitName(text);
  const location = parseBare(split.rest, isDirectory, isFile);
  if (split.name === undefined) return { location, text };
  const reference = parseReference(split.name);
  const { digest: pin } = reference;
  const name = imageName(reference);
  return pin === undefined ? { name, location, text } : { name, pin, location: pinned(location, pin), text };
}

/** A registry is asked for the digest itself: there the tag may have moved on. */
function pinned(location: Location, pin: Digest): Location {
  if (location.kind !== 'docker' || location.reference.digest !== undefined) return location;
  return { kind: 'docker', reference: { ...location.reference, digest: pin } };
}

/** No image reference holds `=`, so the first one ends the name; behind a prefix it belongs to a path. */
function splitName(text: string): { readonly name?: string; readonly rest: string } {
  const equals = text.indexOf('=');
  if (equals < 0 || PREFIX.test(text.slice(0, equals))) return { rest: text };
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

function parseBare(
  text: string,
  isDirectory: (file: string) => boolean,
  isFile: (file: string) => boolean,
): Location {
  if (text.startsWith('docker://')) {
    return { kind: 'docker', reference: parseReference(text.slice('docker://'.length)) };
  }
  const prefix = text.slice(0, Math.max(text.indexOf(':'), 0));
  // No image is written like that: behind a colon comes a tag or a port.
  const place = /^[^:]*:([/.].*)$/s.exec(text)?.[1];
  if (place !== undefined && DRIVER_NAME.test(prefix) && !NO_DRIVERS.has(prefix) && !place.includes('\0'))
    return { kind: 'driver', driver: prefix, place };
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(text) || prefix === 's3') throw unknownLocation(text);
  // Always a place: there is no image of such a name that could not be written docker://oci:TAG.
  for (const kind of DIRECTORY_KINDS) {
    if (kind !== prefix) continue;
    const { path: directory, name } = splitPath(text, prefix, isDirectory);
    return { kind, directory, ...(name === undefined ? {} : { name }) };
  }
  for (const kind of FILE_KINDS) {
    if (kind !== prefix) continue;
    const { path: file, name } = splitPath(text, prefix, isFile);
    return { kind, file, ...(name === undefined ? {} : { name }) };
  }
  if (prefix === 'file') {
    const file = text.slice('file:'.length);
    if (file === '' || file.includes('\0')) throw unknownLocation(text);
    return { kind: 'file', file };
  }
  if (prefix === 'static') {
    const { path: directory, name } = splitPath(text, prefix, isDirectory);
    if (name === undefined || name === '' || /^https?$/.test(directory)) throw unknownLocation(text);
    return { kind: 'static', directory, reference: parseReference(name) };
  }
  for (const kind of ENGINE_KINDS)
    if (kind === prefix) return { kind, reference: parseReference(text.slice(prefix.length + 1)) };
  if (text === '' || /^[./~]/.test(text)) throw unknownLocation(text, pathHint(text));
  return { kind: 'docker', reference: parseReference(text) };
}

/** `PATH[:NAME]`. Paths may hold colons and so do names; the longest path that exists is meant. */
function splitPath(
  text: string,
  prefix: string,
  exists: (file: string) => boolean,
): { readonly path: string; readonly name?: string } {
  const rest = text.slice(prefix.length + 1);
  if (rest === '' || rest.startsWith(':') || rest.includes('\0')) throw unknownLocation(text);
  for (let end = rest.length; end > 0; end = rest.lastIndexOf(':', end - 1)) {
    const place = rest.slice(0, end);
    if (exists(place)) {
      return end === rest.length ? { path: place } : { path: place, name: rest.slice(end + 1) };
    }
  }
  const colon = rest.indexOf(':');
  return colon < 0 ? { path: rest } : { path: rest.slice(0, colon), name: rest.slice(colon + 1) };
}

/** How a path would be written, as far as it can be told from outside. */
function pathHint(text: string): string | undefined {
  const shown = inert(text);
  const has = (name: string) => statSync(path.join(text, name), { throwIfNoEntry: false }) !== undefined;
  try {
    if (isFileOnDisk(text)) {
      return `say what the file is: bundle:${shown}, oci-archive:${shown} or docker-archive:${shown}; NAME=file:${shown} wraps it as it is`;
    }
    if (!isDirectoryOnDisk(text)) return undefined;
    if (has('.sealift/store.json')) return `write store:${shown}`;
    if (has('oci-layout')) return `write oci:${shown}`;
    if (has('v2')) return `write static:${shown}:NAME`;
    return undefined;
  } catch {
    // What cannot be looked at cannot be told.
    return undefined;
  }
}

/** @param hint where more is known than the text alone */
export function unknownLocation(text: string, hint?: string): SealiftError {
  return new SealiftError(
    'unknown-location',
    `unknown kind of location, got ${inert(text)}, want one of ${KNOWN_KINDS.join(', ')}`,
    {
      subject: inert(text),
      want: KNOWN_KINDS.join(', '),
      hint:
        hint ??
        'a bare name is an image in a registry; an image that is called like a kind is written docker://NAME; NAME=LOCATION gives an image its name',
    },
  );
}

/**
 * The full name the image has in the bundle, as far as it can be told without looking into the location.
 * @throws SealiftError `invalid-reference` where no collection could hold it
 */
export function givenName(named: NamedLocation): string | undefined {
  const name = nameIn(named);
  return name === undefined ? undefined : assertNameDepth(name);
}

function nameIn(named: NamedLocation): string | undefined {
  if (named.name !== undefined) return named.name;
  const { location } = named;
  if ('reference' in location) return imageName(location.reference);
  if (location.kind === 'file') return undefined;
  if (location.name !== undefined && looksFull(location.name))
    return imageName(parseReference(location.name));
  return undefined;
}

/**
 * The full name the image has in the bundle.
 * @throws SealiftError `invalid-reference` where neither a name was given nor the location holds a full one
 */
export function imageNameOf(named: NamedLocation): string {
  const name = givenName(named);
  if (name !== undefined) return name;
  throw new SealiftError(
    'invalid-reference',
    `the location does not say what its image is called, got ${inert(named.text)}`,
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

/**
 * The digest that the image's name promises, if any.
 * @throws SealiftError `invalid-reference`
 */
export function pinOf(named: NamedLocation): Digest | undefined {
  if (named.pin !== undefined) return named.pin;
  const name = givenName(named);
  return name === undefined ? undefined : parseReference(name).digest;
}

/** What to ask `Source.manifest()` for: digest or tag; elsewhere the name, or empty for the only image. */
export function referenceIn(location: Location): string {
  if (location.kind === 'docker') return location.reference.digest ?? location.reference.tag ?? 'latest';
  return 'name' in location ? (location.name ?? '') : '';
}

/** What locations have in common that one source can serve; undefined for registries, which share connections anyway. */
export function placeOf(location: Location): string | undefined {
  switch (location.kind) {
    case 'docker':
      return undefined;
    case 'oci':
    case 'store':
      return `${location.kind}:${location.directory}`;
    case 'static':
      return `static:${location.directory}:${formatReference(location.reference)}`;
    case 'docker-daemon':
    case 'containers-storage':
    case 'containerd':
      return `${location.kind}:${formatReference(location.reference)}`;
    case 'driver':
      return `${location.driver}:${location.place}`;
    default:
      return `${location.kind}:${location.file}`;
  }
}
