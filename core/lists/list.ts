/**
 * Lists of images to export: one a line, or whatever YAML or JSON a cluster is described with. The text is looked
 * through for images; nothing in it is executed, and what is no image is reported instead of guessed at.
 */
import { inert, isSealiftError, SealiftError } from '../errors.ts';
import type { Limits } from '../limits.ts';
import { formatReference, parseReference } from '../oci/reference.ts';
import { type NamedLocation, parseLocation } from '../transport/location.ts';

/** An image a list asks for, and where it stands there. */
export interface ListedImage {
  readonly location: NamedLocation;
  /** `line 3`, or `document 2: spec.containers[0].image`. */
  readonly places: readonly string[];
}

/** What stands where an image could, and is none. */
export interface SkippedValue {
  /** Inert. */
  readonly value: string;
  readonly place: string;
  /** Why, in words. */
  readonly reason: string;
}

export interface ImageList {
  /** In the order of their first mention, each once. */
  readonly images: readonly ListedImage[];
  readonly skipped: readonly SkippedValue[];
}

/** What a YAML document may be nested. */
const MOST_DEPTH = 200;
/** Uses of anchors, weighted with the anchors inside them. */
const MOST_ALIASES = 10_000;
const MOST_IMAGES = 100_000;
const MOST_SHOWN = 160;
/** Longest text that could be a reference behind an option. */
const MOST_MENTIONED = 800;
const MENTIONED =
  'it looks like an image, and stands where none is looked for; where it is needed, name it too';

/**
 * Reads a list.
 * @param name of the list, for messages
 * @throws SealiftError `list-invalid`; for lists of lines also `invalid-reference`, `invalid-digest`, `unknown-location`
 */
export async function parseImageList(
  bytes: Uint8Array,
  name: string,
  limits: Pick<Limits, 'listFile'>,
): Promise<ImageList> {
  if (bytes.length > limits.listFile)
    throw invalid(name, `the list is too large: want at most ${limits.listFile} bytes`);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw invalid(name, 'the list is not UTF-8 text', cause);
  }
  const found = new Findings(name);
  const lines = linesOf(text);
  if (lines.every(({ content }) => isPlainLine(content))) {
    for (const { content, number } of lines) readLine(content, number, found);
  } else {
    await readDocuments(text, found);
  }
  return found.list();
}

function invalid(name: string, message: string, cause?: unknown, hint?: string): SealiftError {
  return new SealiftError('list-invalid', message, { subject: inert(name), cause, hint });
}

class Findings {
  readonly name: string;
  readonly #images = new Map<string, { location: NamedLocation; places: string[] }>();
  readonly #skipped: SkippedValue[] = [];
  readonly #mentioned = new Map<string, string>();

  constructor(name: string) {
    this.name = name;
  }

  add(key: string, location: NamedLocation, place: string): void {
    const known = this.#images.get(key);
    if (known) known.places.push(place);
    else this.#images.set(key, { location, places: [place] });
    this.#count();
  }

  skip(value: string, place: string, reason: string): void {
    this.#skipped.push({ value: inert(value, MOST_SHOWN), place: inert(place, 400), reason });
    this.#count();
  }

  /** What looks like an image where none is looked for: told unless it is among the images anyway. */
  mention(key: string, place: string): void {
    if (!this.#mentioned.has(key)) this.#mentioned.set(key, inert(place, 400));
    this.#count();
  }

  #count(): void {
    if (this.#images.size + this.#skipped.length + this.#mentioned.size > MOST_IMAGES)
      throw invalid(this.name, `the list has too many images: want at most ${MOST_IMAGES}`);
  }

  list(): ImageList {
    const mentioned = [...this.#mentioned]
      .filter(([key]) => !this.#images.has(key))
      .map(([key, place]) => ({ value: inert(key, MOST_SHOWN), place, reason: MENTIONED }));
    return { images: [...this.#images.values()], skipped: [...this.#skipped, ...mentioned] };
  }
}

// ---------------------------------------------------------------- lines

function linesOf(text: string): { readonly content: string; readonly number: number }[] {
  return text.split(/\r?\n/).flatMap((line, i) => {
    const content = line.replace(/(?:^|\s)#.*$/, '').trim();
    return content === '' ? [] : [{ content, number: i + 1 }];
  });
}

/** One word that is no punctuation of YAML or JSON; all lines together decide. */
function isPlainLine(content: string): boolean {
  return (
    !/[\s"'{}[\],]/.test(content.replace(/\[[0-9a-f:]+\]/i, '')) && !/^(?:-|---|\.\.\.)$|:$/.test(content)
  );
}

function readLine(content: string, number: number, found: Findings): void {
  const place = `line ${number}`;
  try {
    const location = parseLocation(content);
    const key =
      location.name === undefined && location.location.kind === 'docker'
        ? formatReference(location.location.reference)
        : content;
    found.add(key, location, place);
  } catch (error) {
    if (!isSealiftError(error)) throw error;
    throw new SealiftError(error.code, `${place}: ${error.message}`, {
      subject: inert(found.name),
      hint: error.hint,
      cause: error,
    });
  }
}

// ---------------------------------------------------------------- YAML and JSON

type Value = string | readonly Value[] | { readonly [key: string]: Value } | null | undefined;

/** What JSON says, numbers as they are written; undefined where it is no JSON, which YAML may still be. */
function readJson(text: string): Value {
  if (!/^\s*[[{]/.test(text)) return undefined;
  try {
    return JSON.parse(text, (_key, value: unknown, context?: { readonly source?: string }) =>
      typeof value === 'number' ? (context?.source ?? String(value)) : value,
    ) as Value;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

async function parseDocuments(text: string, found: Findings): Promise<Value[]> {
  // The same text would be YAML too; this is ten times faster.
  const json = readJson(text);
  if (json !== undefined) return [json];
  const { parseAllDocuments } = await import('yaml');
  // Only strings: the tag 3.20 is no number, and no tag makes an object of a class.
  const parsed = parseAllDocuments(text, {
    schema: 'failsafe',
    merge: true,
    uniqueKeys: false,
    logLevel: 'silent',
  });
  return [...parsed].map((document) => {
    const [error] = document.errors;
    if (error) {
      const line = error.linePos?.[0].line;
      throw invalid(
        found.name,
        `neither lines nor YAML nor JSON${line === undefined ? '' : `, line ${line}`}: ${inert(error.message.split('\n', 1)[0] ?? '', 200)}`,
        error,
        text.includes('{{') ? 'a chart is no list yet: give the output of helm template' : undefined,
      );
    }
    return document.toJS({ maxAliasCount: MOST_ALIASES }) as Value;
  });
}

async function readDocuments(text: string, found: Findings): Promise<void> {
  let documents: Value[];
  try {
    documents = await parseDocuments(text, found);
  } catch (error) {
    if (isSealiftError(error)) throw error;
    // The parser says so of anchors that blow up, and the engine of nesting without end.
    if (error instanceof ReferenceError || error instanceof RangeError)
      throw invalid(found.name, 'the list is nested too deeply, or its anchors blow up', error);
    throw invalid(found.name, 'neither lines nor YAML nor JSON', error);
  }
  const seen = new Set<object>();
  for (const [i, document] of documents.entries()) {
    const prefix = documents.length > 1 ? `document ${i + 1}: ` : '';
    if (typeof document === 'string' && !isEmpty(document))
      throw invalid(found.name, 'neither lines nor YAML nor JSON: a line is one reference, without blanks');
    visit(document, { path: '', prefix, key: '', depth: 0 }, seen, found);
    // A list in YAML: a document of nothing but strings.
    if (Array.isArray(document)) strings(document, '', prefix, found);
  }
}

interface Spot {
  readonly path: string;
  readonly prefix: string;
  /** The key the value stands under, or that of the list it is in. */
  readonly key: string;
  readonly depth: number;
  /** `kind` of the Kubernetes object it is in. */
  readonly kind?: string | undefined;
}

/** Maps whose keys are anybody's own words, `image` among them. */
const FREE_KEYS: ReadonlySet<string> = new Set([
  'labels',
  'matchLabels',
  'nodeSelector',
  'annotations',
  'environment',
  'args',
]);

function isFree({ key, kind }: Spot): boolean {
  return (
    FREE_KEYS.has(key) || (/^(?:data|stringData)$/.test(key) && /^(?:ConfigMap|Secret)$/.test(kind ?? ''))
  );
}

function strings(list: readonly Value[], path: string, prefix: string, found: Findings): void {
  for (const [i, item] of list.entries())
    if (typeof item === 'string') candidate(item, `${prefix}${path}[${i}]`, found);
}

function visit(value: Value, spot: Spot, seen: Set<object>, found: Findings): void {
  if (typeof value !== 'object' || value === null) return;
  // What an anchor names was looked through where it stands first.
  if (seen.has(value)) return;
  seen.add(value);
  if (spot.depth > MOST_DEPTH) throw invalid(found.name, 'the list is nested too deeply');
  if (Array.isArray(value)) {
    for (const [i, item] of (value as readonly Value[]).entries()) {
      const path = `${spot.path}[${i}]`;
      if (typeof item === 'string') mention(item, spot.key, `${spot.prefix}${path}`, found);
      else visit(item, { ...spot, path, depth: spot.depth + 1 }, seen, found);
    }
    return;
  }
  const object = value as { readonly [key: string]: Value };
  readObject(object, spot, found);
  const kind = text(object['kind']) ?? spot.kind;
  for (const [key, child] of Object.entries(object)) {
    const path = spot.path === '' ? key : `${spot.path}.${key}`;
    if (typeof child === 'string') {
      if (!READ_KEYS.has(key)) mention(child, key, `${spot.prefix}${path}`, found);
      continue;
    }
    visit(child, { path, prefix: spot.prefix, key, depth: spot.depth + 1, kind }, seen, found);
  }
}

/** What `readObject` reads or tells of itself. */
const READ_KEYS: ReadonlySet<string> = new Set(['image', 'imageRef']);
/** A whole text, or the value of an option, that has a host with a dot, a path, and a tag or a digest. */
const FULL_REFERENCE =
  /^(?:--?[A-Za-z0-9][A-Za-z0-9._-]*=)?((?:[a-z0-9-]+\.)+[a-z]{2,}(?::[0-9]{1,5})?\/[a-z0-9._/-]+(?::[A-Za-z0-9_][A-Za-z0-9_.-]*(?:@sha256:[0-9a-f]{64})?|@sha256:[0-9a-f]{64}))$/;
/** What a value under a key such as `proxyImage` has to look like. */
const SHORT_REFERENCE =
  /^([a-z0-9._/-]+(?::[A-Za-z0-9_][A-Za-z0-9_.-]*(?:@sha256:[0-9a-f]{64})?|@sha256:[0-9a-f]{64}))$/;

/** Operators keep images in arguments, variables and fields of their own; what is not told is missed on the other side. */
function mention(value: string, key: string, place: string, found: Findings): void {
  if (value.length > MOST_MENTIONED) return;
  const match = FULL_REFERENCE.exec(value) ?? (/[a-z]Image$/.test(key) ? SHORT_REFERENCE.exec(value) : null);
  const reference = match?.[1];
  if (reference !== undefined && whyNoImage(reference) === undefined)
    found.mention(formatReference(parseReference(reference)), place);
}

function readObject(object: { readonly [key: string]: Value }, spot: Spot, found: Findings): void {
  const at = (key: string) => `${spot.prefix}${spot.path === '' ? key : `${spot.path}.${key}`}`;
  if (isFree(spot)) {
    for (const key of ['image', 'imageRef'])
      if (text(object[key]) !== undefined)
        found.skip(text(object[key]) ?? '', at(key), 'it stands among labels, variables or data');
    return;
  }
  if (object['image'] === null) found.skip('', at('image'), 'it is empty');
  const { image, imageRef, images, repository, reference, build } = object;
  if (typeof image === 'string') {
    const tag = text(object['tag']) ?? text(object['imageTag']);
    if (spot.key === 'rbd') found.skip(image, at('image'), 'it is the image of a block device');
    else if (tag !== undefined && !isEmpty(image) && !/[:@][^/]*$/.test(image))
      found.skip(image, at('image'), 'its tag stands in another value; give the output of helm template');
    else candidate(image, at('image'), found);
  } else if (build !== undefined && image === undefined && isServiceBuild(spot)) {
    found.skip(text(build) ?? 'build', at('build'), 'it is built from a directory and has no name');
  }
  if (typeof imageRef === 'string') candidate(imageRef, at('imageRef'), found);
  if (Array.isArray(images))
    strings(images, spot.path === '' ? 'images' : `${spot.path}.images`, spot.prefix, found);
  if (typeof repository === 'string') readPair(object, repository, spot, at, found);
  // An OCI volume of Kubernetes.
  else if (typeof reference === 'string' && spot.key === 'image')
    candidate(reference, at('reference'), found);
}

/** Only a service of compose: others have keys called build too. */
function isServiceBuild(spot: Spot): boolean {
  return /^services\.[^.]+$/.test(spot.path);
}

/** Helm's values: registry, repository, tag, digest. */
function readPair(
  object: { readonly [key: string]: Value },
  repository: string,
  spot: Spot,
  at: (key: string) => string,
  found: Findings,
): void {
  const [registry, tag, digest] = [text(object['registry']), text(object['tag']), text(object['digest'])];
  const isImage = 'tag' in object || 'digest' in object || /image$/i.test(spot.key);
  // Charts name repositories of charts, and much else is called so.
  if (!isImage || /^[a-z][a-z0-9+.-]*:\/\//i.test(repository)) return;
  if (isEmpty(repository)) return;
  if (tag === undefined && digest === undefined) {
    found.skip(repository, at('repository'), 'it has no tag; give the output of helm template, which has it');
    return;
  }
  const name = registry === undefined ? repository : `${registry}/${repository}`;
  candidate(
    `${name}${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`,
    at('repository'),
    found,
  );
}

function text(value: Value): string | undefined {
  return typeof value === 'string' && !isEmpty(value) ? value : undefined;
}

function isEmpty(value: string): boolean {
  const bare = value.trim();
  return bare === '' || bare === '~' || bare === 'null';
}

function candidate(value: string, place: string, found: Findings): void {
  const bare = value.trim();
  const reason = whyNoImage(bare);
  if (reason !== undefined) {
    found.skip(bare, place, reason);
    return;
  }
  const reference = parseReference(bare);
  const text = formatReference(reference);
  found.add(text, { location: { kind: 'docker', reference }, text }, inert(place, 400));
}

function whyNoImage(bare: string): string | undefined {
  if (isEmpty(bare)) return 'it is empty';
  if (bare === 'scratch') return 'scratch is no image';
  if (bare.includes('{{')) return 'it is a template; give the output of helm template';
  if (/\$[{(A-Za-z_]/.test(bare)) return 'it holds a variable; give the output of docker compose config';
  try {
    parseReference(bare);
    return undefined;
  } catch (error) {
    if (isSealiftError(error)) return 'it is no image reference';
    throw error;
  }
}
