/** A repository in a registry (OCI distribution specification 1.1), read only. */
import type { Context } from '../../context.ts';
import { inert, isSealiftError, SealiftError } from '../../errors.ts';
import { asArray, asObject, parseJson } from '../../json/strict.ts';
import { attachedTags } from '../../oci/attached-tag.ts';
import { type Descriptor, parseDescriptor } from '../../oci/descriptor.ts';
import { type Digest, digestAlgorithm, digestHex, digestOf, isDigest } from '../../oci/digest.ts';
import { parseManifest } from '../../oci/manifest.ts';
import type { Reference } from '../../oci/reference.ts';
import { endpointsFor } from '../mirrors.ts';
import type { Referrers, Source, SourceManifest, SourceOptions, TaggedEvidence } from '../source.ts';
import { ask, type Repository } from './authorization.ts';
import { readBlob } from './blob.ts';
import type { Blob } from './blob-answer.ts';
import { showUrl } from './failures.ts';
import { openMirroredSource } from './mirrored.ts';
import { type Answer, discardBody, readAll, refuseEncoding, statusFailure } from './request.ts';
import { retrying } from './retry.ts';
import { type Session, takeSession } from './session.ts';

const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
const MANIFEST_TYPES = [
  'application/vnd.oci.image.manifest.v1+json',
  OCI_INDEX,
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
].join(', ');

const TAG = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/;
const MEDIA_TYPE = /^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}\/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}$/;
const MAX_REFERRERS_PAGES = 100;
/** Statuses by which registries without the referrers API say so; only 404 is in the specification. */
const NO_REFERRERS_API = new Set([400, 404, 405, 406, 501]);

/** Docker Hub's images are named docker.io and served by another host. */
const HUB = 'docker.io';
const HUB_HOST = 'registry-1.docker.io';

/** A repository at one place. */
export interface RepositorySource extends Source {
  tagged(subject: Digest): Promise<readonly TaggedEvidence[]>;
  /** The content of a blob from `start` on. */
  blobFrom(blob: Blob, start: number): AsyncIterable<Uint8Array>;
  /** @throws SealiftError `source-too-large` */
  checkSize(blob: Blob): void;
}

/**
 * A repository in a registry, or in the mirrors `options` names for it. Connects at the first question.
 * @throws SealiftError `invalid-reference`, `invalid-argument` where the registry is blocked; later `invalid-argument`
 * where the CA file is unreadable
 */
export function openRegistrySource(reference: Reference, options: SourceOptions, context: Context): Source {
  const { domain, path } = reference;
  const endpoints = options.mirrors ? endpointsFor(reference, options.mirrors) : [];
  const [only] = endpoints;
  const isPlain = only?.domain === domain && only.path === path && !only.insecure;
  if (only === undefined || (endpoints.length === 1 && isPlain)) {
    return openRepositorySource(reference, options, context);
  }
  return openMirroredSource(endpoints, options, context);
}

/** A repository at one place. @throws as openRegistrySource */
export function openRepositorySource(
  reference: Pick<Reference, 'domain' | 'path'>,
  options: SourceOptions,
  context: Context,
): RepositorySource {
  const repository = repositoryOf(reference, options.plainHttp);
  const session = takeSession(options);
  const registry = { session, repository, context };
  let isOpen = true;
  const checkSize = (blob: Blob): void => {
    if (!Number.isSafeInteger(blob.size) || blob.size < 0 || blob.size > context.limits.blob) {
      throw new SealiftError(
        'source-too-large',
        `blob is too large: got ${blob.size} bytes, want at most ${context.limits.blob}`,
        {
          subject: blob.digest,
          got: blob.size,
          want: context.limits.blob,
        },
      );
    }
  };
  return {
    location: inert(`docker://${reference.domain}/${reference.path}`),
    manifest: (wanted) => fetchManifest(registry, wanted),
    blob: async (blob) => {
      checkSize(blob);
      return readBlob(session, repository, blob, context);
    },
    blobFrom: (blob, start) => readBlob(session, repository, blob, context, start),
    checkSize,
    referrers: (subject) => fetchReferrers(registry, subject),
    tagged: (subject) => fetchTagged(registry, subject),
    close: async () => {
      if (isOpen) session.release();
      isOpen = false;
    },
  };
}

/** Where a repository is served, and under which host its credentials are filed. @throws SealiftError `invalid-reference` */
export function repositoryOf(
  { domain, path }: Pick<Reference, 'domain' | 'path'>,
  plainHttp: boolean,
): Repository {
  return {
    credentialsHost: domain,
    base: baseUrl(domain === HUB ? HUB_HOST : domain, path, plainHttp),
    path,
  };
}

/** URLs know more spellings of addresses than references do (`1.2`, `0x7f.1`); none of them is meant. */
function baseUrl(host: string, path: string, plainHttp: boolean): URL {
  const text = `${plainHttp ? 'http' : 'https'}://${host}/v2/${path}/`;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !(host.startsWith('[') || host.replace(/:\d+$/, '') === url.hostname)) {
    throw new SealiftError('invalid-reference', `not the address of a host: got ${inert(host)}`, {
      subject: inert(`${host}/${path}`),
      got: inert(host),
    });
  }
  return url;
}

interface Registry {
  readonly session: Session;
  readonly repository: Repository;
  readonly context: Context;
}

async function fetchManifest(registry: Registry, wanted: string): Promise<SourceManifest> {
  const { session, repository, context } = registry;
  if (!isDigest(wanted) && !TAG.test(wanted)) {
    throw new SealiftError('invalid-reference', `not a tag or digest: got ${inert(wanted)}`, {
      subject: inert(wanted),
    });
  }
  const url = new URL(`manifests/${wanted}`, repository.base);
  return retrying(
    async () => {
      const answer = await ask(session, repository, { url, headers: { Accept: MANIFEST_TYPES } }, context);
      if (answer.status !== 200) throw await statusFailure(answer, session, context, `no manifest ${wanted}`);
      refuseEncoding(answer);
      const bytes = await readAll(answer, context.limits.manifest, session);
      return { bytes, mediaType: mediaTypeOf(answer), digest: checkDigest(answer, bytes, wanted) };
    },
    session.options,
    context,
  );
}

/** The digest of `bytes`, which has to be the one asked for and the one the registry names. */
function checkDigest(answer: Answer, bytes: Uint8Array, wanted: string): Digest {
  const digest = digestOf(bytes, isDigest(wanted) ? digestAlgorithm(wanted) : 'sha256');
  const named = answer.headers['docker-content-digest'];
  const mismatch = (got: string, want: string, who: string) =>
    new SealiftError('digest-mismatch', `manifest is not the one ${who}: got ${got}, want ${want}`, {
      subject: showUrl(answer.url),
      got,
      want,
    });
  if (isDigest(wanted) && digest !== wanted) throw mismatch(digest, wanted, 'asked for');
  if (typeof named === 'string') {
    if (!isDigest(named)) throw mismatch(inert(named, 140), digest, 'the registry names');
    const same = digestOf(bytes, digestAlgorithm(named));
    if (same !== named) throw mismatch(same, named, 'the registry names');
  }
  return digest;
}

/** Content-Type without parameters; empty where there is none. */
function mediaTypeOf(answer: Answer): string {
  const type = (answer.headers['content-type'] ?? '').split(';', 1)[0]?.trim() ?? '';
  if (type === '' || MEDIA_TYPE.test(type)) return type;
  throw new SealiftError('source-protocol', 'Content-Type is no media type', {
    subject: showUrl(answer.url),
    got: inert(type),
  });
}

async function fetchReferrers(registry: Registry, subject: Digest): Promise<Referrers> {
  const fromApi = await askReferrersApi(registry, subject);
  const fromTag = await readFallbackTag(registry, subject, fromApi !== undefined);
  const byDigest = new Map<Digest, Descriptor>();
  for (const descriptor of [...(fromApi ?? []), ...fromTag]) {
    if (!byDigest.has(descriptor.digest)) byDigest.set(descriptor.digest, descriptor);
  }
  byDigest.delete(subject);
  return { descriptors: [...byDigest.values()], via: fromApi ? 'referrers-api' : 'referrers-tag' };
}

async function fetchTagged(registry: Registry, subject: Digest): Promise<readonly TaggedEvidence[]> {
  const found = await Promise.all(attachedTags(subject).map((tag) => fetchTag(registry, tag)));
  return found.flatMap((one) => one ?? []);
}

/**
 * Whether there surely is no such tag. Most are not there, and registries count only what is fetched against their
 * limits. A list of tags would answer for all at once, and cannot be believed: caches list what they hold, and fetch
 * the rest when it is asked for.
 */
async function isAbsent({ session, repository, context }: Registry, tag: string): Promise<boolean> {
  const url = new URL(`manifests/${tag}`, repository.base);
  return retrying(
    async () => {
      const answer = await ask(
        session,
        repository,
        { url, headers: { Accept: MANIFEST_TYPES }, statusOnly: true },
        context,
      );
      const { status } = answer;
      if (status === 429 || (status >= 500 && status !== 501))
        throw await statusFailure(answer, session, context, `no manifest ${tag}`);
      await discardBody(answer, session);
      // Whoever cannot answer such a question is asked for the manifest.
      return status === 404;
    },
    session.options,
    context,
  );
}

/** Undefined where there is no such tag; any other failure might hide a signature. */
async function fetchTag(registry: Registry, tag: string): Promise<TaggedEvidence | undefined> {
  try {
    if (await isAbsent(registry, tag)) return undefined;
    return { tag, manifest: await fetchManifest(registry, tag) };
  } catch (error) {
    if (!isSealiftError(error)) throw error;
    if (error.code === 'source-not-found') return undefined;
    throw error.with({ hint: 'to do without what is behind it, add --exclude-evidence cosign' });
  }
}

/** Descriptors of all pages (distribution specification, "Listing Referrers"); undefined where there is no such API. */
async function askReferrersApi(registry: Registry, subject: Digest): Promise<Descriptor[] | undefined> {
  const { repository, context } = registry;
  const descriptors: Descriptor[] = [];
  const seen = new Set<string>();
  let url: URL | undefined = new URL(`referrers/${subject}`, repository.base);
  while (url !== undefined) {
    if (seen.has(url.href) || seen.size >= MAX_REFERRERS_PAGES) {
      throw new SealiftError(
        'source-protocol',
        `list of referrers does not end, want at most ${MAX_REFERRERS_PAGES} different pages`,
        {
          subject: showUrl(url),
          want: MAX_REFERRERS_PAGES,
        },
      );
    }
    seen.add(url.href);
    const page = await fetchReferrersPage(registry, url, seen.size === 1);
    if (page === undefined) return undefined;
    descriptors.push(...page.descriptors);
    if (descriptors.length > context.limits.manifestsPerImage) {
      throw new SealiftError(
        'source-too-large',
        `too many referrers: got ${descriptors.length}, want at most ${context.limits.manifestsPerImage}`,
        {
          subject,
          got: descriptors.length,
          want: context.limits.manifestsPerImage,
        },
      );
    }
    url = page.next;
  }
  return descriptors;
}

async function fetchReferrersPage(
  registry: Registry,
  url: URL,
  isFirst: boolean,
): Promise<{ descriptors: Descriptor[]; next: URL | undefined } | undefined> {
  const { session, repository, context } = registry;
  return retrying(
    async () => {
      const answer = await ask(session, repository, { url, headers: { Accept: OCI_INDEX } }, context);
      const missing = async (why: string): Promise<undefined> => {
        await discardBody(answer, session);
        context.emit({
          type: 'notice',
          level: 'info',
          code: 'referrers-unsupported',
          message: `${showUrl(url)}: ${why}; looking for the tag of the same purpose instead`,
        });
        return undefined;
      };
      if (isFirst && answer.status === 404) {
        await discardBody(answer, session);
        return undefined;
      }
      if (isFirst && NO_REFERRERS_API.has(answer.status)) return missing(`status ${answer.status}`);
      if (answer.status !== 200) throw await statusFailure(answer, session, context, 'no list of referrers');
      const type = mediaTypeOf(answer);
      // Some servers answer every path with a page of theirs.
      if (isFirst && type !== OCI_INDEX)
        return missing(`answer is of type ${inert(type)}, want ${OCI_INDEX}`);
      refuseEncoding(answer);
      const bytes = await readAll(answer, context.limits.registryDocument, session);
      return { descriptors: parseReferrers(bytes, url, context), next: nextPage(answer, url) };
    },
    session.options,
    context,
  );
}

function parseReferrers(bytes: Uint8Array, url: URL, context: Context): Descriptor[] {
  const what = showUrl(url);
  const document = asObject(
    parseJson(bytes, { what, maxBytes: context.limits.registryDocument, maxDepth: context.limits.jsonDepth }),
    'referrers',
    'manifest-invalid',
  );
  // Registries in Go write null for an empty list.
  const manifests = document['manifests'] ?? [];
  return asArray(manifests, 'manifests', 'manifest-invalid').map((value, i) =>
    parseDescriptor(value, `manifests[${i}]`),
  );
}

/** The `next` of a Link field (RFC 8288), which has to lead to the same registry. */
export function nextPage(answer: Answer, url: URL): URL | undefined {
  for (const field of answer.field('link')) {
    for (const match of field.slice(0, 16_384).matchAll(/<([^<>]*)>((?:\s*;\s*[^,;"]+(?:"[^"]*")?)*)/g)) {
      if (!/;\s*rel\s*=\s*(?:"next"|next)(?:\s*(?:;|$))/i.test(match[2] ?? '')) continue;
      const target = match[1] ?? '';
      const next = URL.canParse(target, url.href) ? new URL(target, url) : undefined;
      if (next?.origin !== url.origin || next.username !== '' || next.password !== '') {
        throw new SealiftError('source-protocol', 'the next page is not in the same registry', {
          subject: showUrl(url),
          got: next === undefined ? 'no URL' : inert(next.origin),
          want: url.origin,
        });
      }
      next.hash = '';
      return next;
    }
  }
  return undefined;
}

/** `ALG-HEX`, cut as the distribution specification says ("Referrers Tag Schema"). */
function fallbackTag(subject: Digest): string {
  return `${digestAlgorithm(subject)}-${digestHex(subject).slice(0, 64)}`;
}

/** @param isUnlikely the registry has the API, so that only old clients have written such a tag */
async function readFallbackTag(
  registry: Registry,
  subject: Digest,
  isUnlikely: boolean,
): Promise<readonly Descriptor[]> {
  const { context, repository } = registry;
  const tag = fallbackTag(subject);
  const ignore = (why: string): readonly Descriptor[] => {
    context.emit({
      type: 'notice',
      level: 'warning',
      code: 'referrers-tag-ignored',
      message: `${showUrl(new URL(`manifests/${tag}`, repository.base))}: ${why}; evidence it lists is not taken`,
    });
    return [];
  };
  let answer: SourceManifest;
  if (isUnlikely && (await isAbsent(registry, tag))) return [];
  try {
    answer = await fetchManifest(registry, tag);
  } catch (error) {
    if (isSealiftError(error) && error.code === 'source-not-found') return [];
    throw error;
  }
  try {
    const manifest = parseManifest(answer.bytes, {
      ...(answer.mediaType === '' ? {} : { mediaType: answer.mediaType }),
      digest: answer.digest,
      limits: context.limits,
    });
    return manifest.kind === 'index' ? manifest.manifests : ignore('it is no index');
  } catch (error) {
    if (isSealiftError(error)) return ignore(inert(error.message));
    throw error;
  }
}
