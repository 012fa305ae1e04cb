/**
 * A read-only registry over a store: the pull half of the OCI distribution specification 1.1, with referrers.
 *
 * Nothing of a request ever becomes a path: names are looked up in a map of what was let in, digests in a map of
 * what those images reach. A manifest is hashed again before it is sent; a blob is streamed, its client hashes it.
 */
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { inert, SealiftError } from '../errors.ts';
import { DEFAULT_LIMITS, type Limits } from '../limits.ts';
import { type Digest, digestHex, isDigest } from '../oci/digest.ts';
import { OCI_INDEX } from '../oci/media-types.ts';
import { isTag, parseReference, repositoryName } from '../oci/reference.ts';
import type { Store } from '../store/store.ts';
import { referrersIndex } from './content.ts';
import { parseRange } from './range.ts';
import { type RegistryView, type Repository, readRegistryView } from './registry-view.ts';
import { TRUST_PREFIX, type TrustMetadata } from './trust-metadata.ts';

export interface RequestLogEntry {
  readonly method: string;
  /** Path and query, inert. */
  readonly url: string;
  readonly status: number;
  readonly client: string;
  /** False where the client went away before the answer was through. */
  readonly complete: boolean;
}

export interface RegistryOptions {
  readonly limits?: Limits | undefined;
  /** Answers what lies below `/_trust/`; nothing does where it is absent. */
  readonly trust?: TrustMetadata | undefined;
  /** Told of every request when its answer has ended. */
  readonly onRequest?: ((entry: RequestLogEntry) => void) | undefined;
  /** Told of failures that a client sees as status 500, and of images that cannot be shown. */
  readonly onError?: ((error: unknown) => void) | undefined;
}

export interface ServeOptions extends RegistryOptions {
  readonly store: Store;
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  readonly signal: AbortSignal;
}

export interface RunningRegistry {
  /** `http://127.0.0.1:5000` */
  readonly url: string;
  readonly host: string;
  readonly port: number;
  /** Resolves when nothing is open any more; also after `signal`. */
  close(): Promise<void>;
}

export type RegistryHandler = (request: http.IncomingMessage, response: http.ServerResponse) => void;

/** A client has this long to send a request's head, milliseconds. */
const HEAD_TIMEOUT = 20_000;
/** An answer of which the client takes nothing for this long is given up, milliseconds. */
const IDLE_TIMEOUT = 120_000;
const MAX_URL = 4096;
const MAX_PAGE = 10_000;
const FALLBACK_TAG = /^(sha256|sha512)-([0-9a-f]{64}|[0-9a-f]{128})$/;
const ARTIFACT_TYPE_MAX = 255;
const SIGNATURES_HEADER = { 'x-registry-supports-signatures': '1' };

/** An answer that is not a success (distribution specification, "Error Codes"). */
class HttpError extends Error {
  readonly status: number;
  readonly code: string;
  readonly headers: http.OutgoingHttpHeaders;
  constructor(status: number, code: string, message: string, headers: http.OutgoingHttpHeaders = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.headers = headers;
  }
}

interface Exchange {
  readonly request: http.IncomingMessage;
  readonly response: http.ServerResponse;
  readonly isHead: boolean;
  readonly query: URLSearchParams;
}

/** A handler for node:http that shows the images of `store`. Follows changes of the store by itself. */
export function createRegistryHandler(store: Store, options: RegistryOptions = {}): RegistryHandler {
  const limits = options.limits ?? DEFAULT_LIMITS;
  const onError = options.onError ?? (() => undefined);
  let view: RegistryView | undefined;
  let reading: Promise<RegistryView> | undefined;

  async function currentView(): Promise<RegistryView> {
    if (view && (await store.revision()) === view.revision) return view;
    reading ??= readRegistryView({ store, limits, onError }).finally(() => {
      reading = undefined;
    });
    view = await reading;
    return view;
  }

  async function answer(exchange: Exchange, path: string): Promise<void> {
    if (options.trust && path.startsWith(TRUST_PREFIX)) {
      const { status, type, bytes } = await options.trust(path);
      return sendTrust(exchange, status, type, bytes);
    }
    if (path === '/') return sendText(exchange, await describeRegistry(await currentView()));
    if (path === '/v2/' || path === '/v2') return sendJson(exchange, {}, SIGNATURES_HEADER);
    const signatures = /^\/extensions\/v2\/(.+)\/signatures\/([^/]+)$/.exec(path);
    if (signatures?.[1] !== undefined) {
      const repository = findRepository(await currentView(), signatures[1], exchange.query);
      return sendSignatures(exchange, repository, requireDigest(signatures[2] ?? ''));
    }
    if (!path.startsWith('/v2/')) throw new HttpError(404, 'NOT_FOUND', 'there is nothing here');
    if (path === '/v2/_catalog') return sendCatalog(exchange, await currentView());
    const list = /^\/v2\/(.+)\/tags\/list$/.exec(path);
    if (list?.[1] !== undefined) {
      return sendTags(exchange, list[1], findRepository(await currentView(), list[1], exchange.query));
    }
    const match = /^\/v2\/(.+)\/(manifests|blobs|referrers)\/([^/]+)$/.exec(path);
    const [, name, kind, reference] = match ?? [];
    if (name === undefined || reference === undefined)
      throw new HttpError(404, 'NOT_FOUND', 'there is nothing here');
    const repository = findRepository(await currentView(), name, exchange.query);
    if (kind === 'manifests') return sendManifest(exchange, repository, reference);
    if (kind === 'referrers') return sendReferrers(exchange, repository, requireDigest(reference));
    return sendBlob(exchange, repository, requireDigest(reference));
  }

  async function sendManifest(exchange: Exchange, repository: Repository, reference: string): Promise<void> {
    const { reachable, referrers, attached } = await repository.content();
    if (!isDigest(reference) && !isTag(reference))
      throw new HttpError(404, 'MANIFEST_UNKNOWN', 'malformed tag or digest');
    const digest = isDigest(reference)
      ? reference
      : (repository.tags.get(reference)?.digest ?? attached.get(reference));
    if (digest === undefined) {
      const match = FALLBACK_TAG.exec(reference);
      const list = match && referrers.get(`${match[1]}:${match[2]}`);
      if (list) return sendBytes(exchange, Buffer.from(referrersIndex(list)), OCI_INDEX);
      throw new HttpError(404, 'MANIFEST_UNKNOWN', 'manifest unknown');
    }
    const found = reachable.get(digest);
    // A tag whose image could not be read, which `onError` was told: not the same as one that is not there.
    if (!found && !isDigest(reference)) throw new HttpError(500, 'UNKNOWN', 'the image is damaged');
    if (!found?.isManifest) throw new HttpError(404, 'MANIFEST_UNKNOWN', 'manifest unknown');
    const headers = {
      'content-type': found.mediaType,
      'content-length': found.size,
      'docker-content-digest': digest,
      etag: `"${digest}"`,
    };
    if (isNotModified(exchange, digest)) return sendEmpty(exchange, 304, headers);
    if (exchange.isHead) {
      if (!(await store.has(digest, found.size)))
        throw new HttpError(404, 'MANIFEST_UNKNOWN', 'manifest unknown');
      return sendEmpty(exchange, 200, headers);
    }
    const bytes = await store.readBlob(digest, limits.manifest);
    exchange.response.writeHead(200, headers).end(bytes);
  }

  /** The answer of the signatures API extension, which skopeo and podman ask where `/v2/` says that there is one. */
  async function sendSignatures(exchange: Exchange, repository: Repository, subject: Digest): Promise<void> {
    const { reachable, signatures } = await repository.content();
    if (!reachable.get(subject)?.isManifest) throw new HttpError(404, 'MANIFEST_UNKNOWN', 'manifest unknown');
    const list: Record<string, unknown>[] = [];
    for (const { digest, size } of signatures.get(subject) ?? []) {
      const bytes = await store.readBlob(digest, size);
      const name = `${subject}@${digestHex(digest).slice(0, 32)}`;
      list.push({ schemaVersion: 2, name, type: 'atomic', content: bytes.toString('base64') });
    }
    return sendJson(exchange, { signatures: list });
  }

  async function sendBlob(exchange: Exchange, repository: Repository, digest: Digest): Promise<void> {
    const { reachable } = await repository.content();
    const found = reachable.get(digest);
    const blob = found && (await store.openBlob(digest));
    if (!blob) throw new HttpError(404, 'BLOB_UNKNOWN', 'blob unknown to registry');
    let handed = false;
    try {
      if (blob.size !== found.size) {
        throw new SealiftError('size-mismatch', 'blob in the store has another size than its image says', {
          subject: digest,
          got: blob.size,
          want: found.size,
        });
      }
      const { headers: asked } = exchange.request;
      const headers = {
        'content-type': 'application/octet-stream',
        'docker-content-digest': digest,
        'accept-ranges': 'bytes',
        'cache-control': 'public, max-age=31536000, immutable',
        etag: `"${digest}"`,
      };
      if (isNotModified(exchange, digest)) return sendEmpty(exchange, 304, headers);
      const ifRange = asked['if-range'];
      const isFresh = ifRange === undefined || ifRange === `"${digest}"`;
      const range = isFresh ? parseRange(asked.range, blob.size) : { kind: 'whole' as const };
      if (range.kind === 'unsatisfiable') {
        throw new HttpError(416, 'RANGE_INVALID', 'the range lies outside the blob', {
          'content-range': `bytes */${blob.size}`,
        });
      }
      const start = range.kind === 'part' ? range.start : 0;
      const end = range.kind === 'part' ? range.end : blob.size - 1;
      const partHeaders =
        range.kind === 'part' ? { 'content-range': `bytes ${start}-${end}/${blob.size}` } : {};
      exchange.response.writeHead(range.kind === 'part' ? 206 : 200, {
        ...headers,
        ...partHeaders,
        'content-length': end - start + 1,
      });
      if (exchange.isHead || blob.size === 0) {
        exchange.response.end();
        return;
      }
      handed = true;
      await pipeline(
        blob.handle.createReadStream({ start, end, highWaterMark: 256 * 1024 }),
        exchange.response,
      );
    } finally {
      if (!handed) await blob.handle.close();
    }
  }

  return (request, response) => {
    const url = request.url ?? '';
    if (options.onRequest) {
      const { onRequest } = options;
      const client = request.socket.remoteAddress ?? '';
      response.once('close', () => {
        const complete = response.writableFinished;
        onRequest({
          method: inert(request.method ?? ''),
          url: inert(url),
          status: response.statusCode,
          client,
          complete,
        });
      });
    }
    response.setHeader('docker-distribution-api-version', 'registry/2.0');
    response.setHeader('x-content-type-options', 'nosniff');
    const isHead = request.method === 'HEAD';
    const [path, query] = splitUrl(url);
    const exchange: Exchange = { request, response, isHead, query: new URLSearchParams(query) };
    const work = async (): Promise<void> => {
      if (!isHead && request.method !== 'GET') {
        throw new HttpError(405, 'UNSUPPORTED', 'this registry is read-only', {
          allow: 'GET, HEAD',
          connection: 'close',
        });
      }
      if (url.length > MAX_URL) throw new HttpError(414, 'NAME_INVALID', 'the address is too long');
      await answer(exchange, path);
    };
    work().catch((error: unknown) => {
      if (error instanceof HttpError) return sendError(exchange, error);
      // A client that goes away is no failure.
      if (!response.destroyed && !response.writableEnded) onError(error);
      sendError(exchange, new HttpError(500, 'UNKNOWN', 'the store cannot be read'));
    });
  };
}

/**
 * Serves the store over HTTP until `signal` or `close()`.
 * @throws SealiftError `destination-failed` where the address cannot be taken
 */
export async function serveRegistry(options: ServeOptions): Promise<RunningRegistry> {
  const { signal } = options;
  signal.throwIfAborted();
  const server = http.createServer(
    {
      headersTimeout: HEAD_TIMEOUT,
      requestTimeout: HEAD_TIMEOUT,
      keepAliveTimeout: 30_000,
      connectionsCheckingInterval: 5_000,
      maxHeaderSize: 32 * 1024,
    },
    createRegistryHandler(options.store, options),
  );
  server.setTimeout(IDLE_TIMEOUT);
  // Malformed requests are answered by nobody in particular; the connection ends.
  server.on('clientError', (_error, socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => {
      const place = `${options.host}:${options.port}`;
      reject(
        new SealiftError('destination-failed', `cannot listen on ${place}: ${inert(cause.message)}`, {
          subject: place,
          cause,
        }),
      );
    });
    server.listen(options.port, options.host, resolve);
  });
  server.removeAllListeners('error');
  server.on('error', options.onError ?? (() => undefined));

  const closed = new Promise<void>((resolve) => server.once('close', resolve));
  const stop = (): void => {
    server.close();
    server.closeAllConnections();
  };
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  const { address, port } = server.address() as AddressInfo;
  const host = address.includes(':') ? `[${address}]` : address;
  return {
    url: `http://${host}:${port}`,
    host: address,
    port,
    close: async () => {
      signal.removeEventListener('abort', stop);
      stop();
      await closed;
    },
  };
}

/** Path and query. Only the colon of a digest may be escaped; with any other escape a path matches nothing. */
function splitUrl(url: string): [path: string, query: string] {
  const mark = url.indexOf('?');
  const path = mark === -1 ? url : url.slice(0, mark);
  return [path.replace(/%3a/gi, ':'), mark === -1 ? '' : url.slice(mark + 1)];
}

/**
 * The repository a request means: `docker.io/library/alpine`, and by Docker's normalisation `library/alpine` and
 * `alpine`. With containerd's `ns` the name is one of that host and of no other.
 */
function findRepository(view: RegistryView, name: string, query: URLSearchParams): Repository {
  const ns = query.get('ns');
  const full = ns === null ? name : `${ns}/${name}`;
  let repository = view.repositories.get(full);
  // A mirror may be configured with the host as part of the path, as a static tree wants it.
  if (!repository && ns !== null && name.startsWith(`${ns}/`)) repository = view.repositories.get(name);
  if (!repository) {
    try {
      const reference = parseReference(`${full}:a`);
      const isSameHost = ns === null || reference.domain === ns;
      repository = isSameHost ? view.repositories.get(repositoryName(reference)) : undefined;
    } catch {
      throw new HttpError(404, 'NAME_INVALID', 'invalid repository name');
    }
  }
  if (!repository) throw new HttpError(404, 'NAME_UNKNOWN', 'repository name not known to registry');
  return repository;
}

function requireDigest(text: string): Digest {
  if (!isDigest(text))
    throw new HttpError(400, 'DIGEST_INVALID', 'want sha256: or sha512: and lower-case hex digits');
  return text;
}

function isNotModified(exchange: Exchange, digest: Digest): boolean {
  const header = exchange.request.headers['if-none-match'];
  if (header === undefined) return false;
  return header.split(',').some((tag) => ['*', `"${digest}"`, `W/"${digest}"`].includes(tag.trim()));
}

function sendTags(exchange: Exchange, name: string, repository: Repository): void {
  const { page, link } = paginate([...repository.tags.keys()], exchange.query, `/v2/${name}/tags/list`);
  sendJson(exchange, { name, tags: page }, link);
}

function sendCatalog(exchange: Exchange, view: RegistryView): void {
  const { page, link } = paginate([...view.repositories.keys()], exchange.query, '/v2/_catalog');
  sendJson(exchange, { repositories: page }, link);
}

function paginate(
  items: readonly string[],
  query: URLSearchParams,
  path: string,
): { page: readonly string[]; link: http.OutgoingHttpHeaders } {
  const sorted = [...items].sort();
  const last = query.get('last');
  const rest = last === null ? sorted : sorted.filter((item) => item > last);
  const n = query.get('n');
  if (n === null) return { page: rest, link: {} };
  if (!/^\d{1,9}$/.test(n))
    throw new HttpError(400, 'PAGINATION_NUMBER_INVALID', 'n is no number of 0 or more');
  const page = rest.slice(0, Math.min(Number(n), MAX_PAGE));
  const end = page.at(-1);
  if (end === undefined || page.length === rest.length) return { page, link: {} };
  const next = new URLSearchParams(query);
  next.set('last', end);
  return { page, link: { link: `<${encodeURI(path)}?${next.toString()}>; rel="next"` } };
}

async function sendReferrers(exchange: Exchange, repository: Repository, subject: Digest): Promise<void> {
  const { referrers } = await repository.content();
  const all = referrers.get(subject) ?? [];
  const wanted = exchange.query.get('artifactType');
  if (wanted === null || wanted === '')
    return sendBytes(exchange, Buffer.from(referrersIndex(all)), OCI_INDEX);
  if (wanted.length > ARTIFACT_TYPE_MAX)
    throw new HttpError(400, 'UNSUPPORTED', 'the artifact type is too long');
  const filtered = all.filter((referrer) => referrer.artifactType === wanted);
  sendBytes(exchange, Buffer.from(referrersIndex(filtered)), OCI_INDEX, {
    'oci-filters-applied': 'artifactType',
  });
}

async function describeRegistry(view: RegistryView): Promise<string> {
  const images = [...view.repositories.values()].reduce((sum, repository) => sum + repository.tags.size, 0);
  return [
    'This is a read-only container registry, served by sealift from images that were verified on the way in.',
    '',
    `Repositories: ${view.repositories.size}, tags: ${images}`,
    '',
    'Pull with docker, podman, skopeo or containerd, for example:',
    '  skopeo list-tags docker://HOST/docker.io/library/alpine',
    'The default host may be left out: HOST/library/alpine.',
    'GET /v2/_catalog lists what is here.',
    '',
  ].join('\n');
}

function sendJson(exchange: Exchange, value: unknown, headers: http.OutgoingHttpHeaders = {}): void {
  sendBytes(exchange, Buffer.from(JSON.stringify(value)), 'application/json', headers);
}

function sendText(exchange: Exchange, text: string): void {
  sendBytes(exchange, Buffer.from(text), 'text/plain; charset=utf-8');
}

function sendBytes(
  exchange: Exchange,
  bytes: Buffer,
  type: string,
  headers: http.OutgoingHttpHeaders = {},
): void {
  exchange.response.writeHead(200, { ...headers, 'content-type': type, 'content-length': bytes.length });
  exchange.response.end(exchange.isHead ? undefined : bytes);
}

/** Always asked for anew: a client that follows a collection must not be held back by a cache. */
function sendTrust(exchange: Exchange, status: number, type: string, bytes: Uint8Array): void {
  const headers = { 'content-type': type, 'content-length': bytes.length, 'cache-control': 'no-cache' };
  exchange.response.writeHead(status, headers).end(exchange.isHead ? undefined : bytes);
}

function sendEmpty(exchange: Exchange, status: number, headers: http.OutgoingHttpHeaders): void {
  exchange.response.writeHead(status, headers).end();
}

function sendError(exchange: Exchange, error: HttpError): void {
  const { response } = exchange;
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  const bytes = Buffer.from(JSON.stringify({ errors: [{ code: error.code, message: error.message }] }));
  response.writeHead(error.status, {
    ...error.headers,
    'content-type': 'application/json',
    'content-length': bytes.length,
  });
  response.end(exchange.isHead ? undefined : bytes);
}
