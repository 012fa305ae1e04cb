/** Locations of kinds sealift does not know, read by a program that does (docs/drivers.md). */
import type { Context } from '../../context.ts';
import { inert, SealiftError } from '../../errors.ts';
import {
  asArray,
  asBoolean,
  asInteger,
  asObject,
  asString,
  asStrings,
  type JsonObject,
  parseJson,
} from '../../json/strict.ts';
import { attachedTags } from '../../oci/attached-tag.ts';
import { type Descriptor, parseDescriptor } from '../../oci/descriptor.ts';
import { assertDigest, type Digest, isDigest } from '../../oci/digest.ts';
import { isMediaType } from '../../oci/media-types.ts';
import { parseImageName } from '../../oci/reference.ts';
import { type Environment, findProgram, programEnvironment } from '../../programs.ts';
import { DRIVER_NAME, type Location, unknownLocation } from '../location.ts';
import type { Source, SourceManifest, SourceName, SourceOptions, TaggedEvidence } from '../source.ts';
import { askDriver, DRIVER_PROTOCOL, type Driver, type DriverAction } from './ask.ts';

type DriverLocation = Extract<Location, { kind: 'driver' }>;

const CODE = 'source-protocol';
/** What a driver may be able to do beyond what each has to. */
const OPTIONAL = ['list', 'referrers', 'tags'] as const;
type Optional = (typeof OPTIONAL)[number];
const MOST_CAPABILITIES = 64 * 1024;
const MOST_REFERENCE = 4096;
/** Times the longest silence that a small answer may take. */
const WHOLE = 10;

/**
 * @throws SealiftError `unknown-location` where there is no such program; `format-unsupported` where it speaks another
 *   version of the protocol; those of `askDriver`
 */
export async function openDriverSource(
  location: DriverLocation,
  options: SourceOptions,
  context: Context,
): Promise<Source> {
  const { driver: name, place } = location;
  const text = inert(`${name}:${place}`);
  // The name becomes a part of a file's name.
  const program = DRIVER_NAME.test(name) ? `sealift-transport-${name}` : undefined;
  const found = program === undefined ? undefined : await findProgram([program], options.environment);
  if (!program || !found) {
    throw unknownLocation(
      `${name}:${place}`,
      `there is no ${program} on the PATH; docs/drivers.md says how to write one`,
    );
  }
  const driver: Driver = {
    program,
    file: found.file,
    location: text,
    environment: environmentFor(name, options.environment ?? {}),
    timeoutMs: options.timeoutMs,
    endGroup: options.endGroup,
  };
  const questions = asking(driver, place, context);
  const can = await questions.capabilities();

  const wrong = (field: string, got: string, want: string) =>
    new SealiftError(CODE, `${program} resolve: got ${inert(got, 160)} as ${field}, want ${want}`, {
      subject: text,
      got: inert(got, 160),
      want,
    });
  const readManifest = async (digest: Digest): Promise<Uint8Array> => {
    const bytes = await questions.bytes('manifest', { digest }, context.limits.manifest);
    assertDigest(bytes, digest);
    return bytes;
  };
  const resolve = async (reference: string): Promise<SourceManifest> => {
    const answer = await questions.object('resolve', { reference }, MOST_CAPABILITIES);
    const digest = asString(answer['digest'], 'digest', CODE);
    const mediaType = asString(answer['mediaType'] ?? '', 'mediaType', CODE);
    if (!isDigest(digest)) throw wrong('digest', digest, 'a digest');
    if (mediaType !== '' && !isMediaType(mediaType)) throw wrong('mediaType', mediaType, 'a media type');
    return {
      bytes: await readManifest(digest),
      mediaType,
      digest,
      ...(answer['digestMadeHere'] !== undefined &&
      asBoolean(answer['digestMadeHere'], 'digestMadeHere', CODE)
        ? { digestMadeHere: true }
        : {}),
    };
  };
  return {
    location: text,
    manifest: async (wanted) =>
      isDigest(wanted)
        ? { bytes: await readManifest(wanted), mediaType: '', digest: wanted }
        : resolve(wanted),
    blob: async (blob) => readBlob(driver, place, blob, context),
    async referrers(subject) {
      if (!can.has('referrers')) return { descriptors: [], via: 'layout' };
      const { registryDocument, manifestsPerImage } = context.limits;
      const answer = await questions.object('referrers', { digest: subject }, registryDocument);
      const descriptors = asArray(answer['manifests'], 'manifests', CODE).map((value, i) =>
        parseDescriptor(value, `manifests[${i}]`),
      );
      if (descriptors.length > manifestsPerImage) {
        throw new SealiftError(
          'source-too-large',
          `too many referrers: got ${descriptors.length}, want at most ${manifestsPerImage}`,
          { subject, got: descriptors.length, want: manifestsPerImage },
        );
      }
      return { descriptors: distinct(descriptors, subject), via: 'referrers-api' };
    },
    ...(can.has('tags') ? { tagged: (subject: Digest) => readTags(subject, resolve) } : {}),
    ...(can.has('list') ? { names: () => readNames(questions, context) } : {}),
    close: async () => {},
  };
}

type Questions = ReturnType<typeof asking>;

function asking(driver: Driver, place: string, context: Context) {
  const bytes = async (
    action: DriverAction,
    request: Readonly<Record<string, string>>,
    limit: number,
  ): Promise<Buffer> => {
    const parts: Uint8Array[] = [];
    const longestMs = driver.timeoutMs * WHOLE;
    const question = { action, request: { place, ...request }, limit, longestMs };
    for await (const part of askDriver(driver, question, context)) parts.push(part);
    return Buffer.concat(parts);
  };
  const object = async (
    action: DriverAction,
    request: Readonly<Record<string, string>>,
    limit: number,
  ): Promise<JsonObject> => {
    const answer = await bytes(action, request, limit);
    const what = `${driver.program} ${action}`;
    try {
      return asObject(
        parseJson(answer, { what, maxBytes: limit, maxDepth: context.limits.jsonDepth }),
        'answer',
        CODE,
      );
    } catch (error) {
      if (!(error instanceof SealiftError)) throw error;
      throw new SealiftError(CODE, `${inert(what)} gave another answer than it should: ${error.message}`, {
        subject: driver.location,
        cause: error,
      });
    }
  };
  return {
    bytes,
    object,
    async capabilities(): Promise<ReadonlySet<Optional>> {
      const answer = await object('capabilities', {}, MOST_CAPABILITIES);
      const protocol = asInteger(answer['protocol'], 'protocol', CODE);
      if (protocol !== DRIVER_PROTOCOL) {
        throw new SealiftError(
          'format-unsupported',
          `${inert(driver.program)} speaks another version of the protocol: got ${protocol}, want ${DRIVER_PROTOCOL}`,
          { subject: driver.location, got: protocol, want: DRIVER_PROTOCOL },
        );
      }
      const actions = answer['actions'] === undefined ? [] : asStrings(answer['actions'], 'actions', CODE);
      // What is not known here is not asked for.
      return new Set(OPTIONAL.filter((action) => actions.includes(action)));
    },
  };
}

async function* readBlob(
  driver: Driver,
  place: string,
  { digest, size, mediaType }: { readonly digest: Digest; readonly size: number; readonly mediaType: string },
  context: Context,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { blob: limit } = context.limits;
  if (!Number.isSafeInteger(size) || size < 0 || size > limit) {
    throw new SealiftError(
      'source-too-large',
      `blob is too large: got ${size} bytes, want at most ${limit}`,
      {
        subject: digest,
        got: size,
        want: limit,
      },
    );
  }
  const mismatch = (got: string | number) =>
    new SealiftError(
      'size-mismatch',
      `${inert(driver.program)} gave another amount than announced: got ${got} bytes, want ${size}`,
      { subject: digest, got, want: size },
    );
  let received = 0;
  const question = { action: 'blob' as const, request: { place, digest, size, mediaType }, limit };
  for await (const part of askDriver(driver, question, context)) {
    received += part.length;
    if (received > size) throw mismatch(`more than ${size}`);
    yield part;
  }
  if (received !== size) throw mismatch(received);
}

async function readTags(
  subject: Digest,
  resolve: (reference: string) => Promise<SourceManifest>,
): Promise<readonly TaggedEvidence[]> {
  const found: TaggedEvidence[] = [];
  for (const tag of attachedTags(subject)) {
    try {
      found.push({ tag, manifest: await resolve(tag) });
    } catch (error) {
      if (!(error instanceof SealiftError) || error.code !== 'source-not-found') throw error;
    }
  }
  return found;
}

async function readNames(questions: Questions, { limits }: Context): Promise<readonly SourceName[]> {
  const answer = await questions.object('list', {}, limits.registryDocument);
  return asArray(answer['images'], 'images', CODE).map((value, i) => {
    const image = asObject(value, `images[${i}]`, CODE);
    const name = asString(image['name'], `images[${i}].name`, CODE);
    const reference = asString(image['reference'] ?? name, `images[${i}].reference`, CODE);
    if (!isImageName(name) || reference.length > MOST_REFERENCE) {
      throw new SealiftError(CODE, `images[${i}] has no full name, or a reference that is too long`, {
        subject: inert(name),
        want: 'HOST/PATH:TAG or HOST/PATH@DIGEST',
      });
    }
    return { name, reference };
  });
}

function isImageName(text: string): boolean {
  try {
    parseImageName(text);
    return true;
  } catch (error) {
    if (error instanceof SealiftError) return false;
    throw error;
  }
}

function distinct(descriptors: readonly Descriptor[], subject: Digest): readonly Descriptor[] {
  const byDigest = new Map(descriptors.map((descriptor) => [descriptor.digest, descriptor]));
  byDigest.delete(subject);
  return [...byDigest.values()];
}

/** What a driver needs of its own goes by its name: `SEALIFT_TRANSPORT_NAME_…`. */
function environmentFor(
  name: string,
  environment: Environment,
): Readonly<Record<string, string | undefined>> {
  const prefix = `SEALIFT_TRANSPORT_${name.toUpperCase().replaceAll('-', '_')}_`;
  const own = Object.entries(environment).filter(([key]) => key.startsWith(prefix));
  return { ...programEnvironment(environment), ...Object.fromEntries(own) };
}
