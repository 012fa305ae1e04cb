/**
 * What all sources opened with one options object share: connections, limits per host, tokens.
 *
 * node:http and not fetch: connections are kept alive and counted here, a body can be read as fast as the
 * socket gives it, redirects are followed by our own rules, and nothing decodes a body behind our back.
 */
import { X509Certificate } from 'node:crypto';
import http from 'node:http';
import https from 'node:https';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import { inert, isSealiftError, SealiftError } from '../../errors.ts';
import type { HostCertificates, SourceOptions } from '../source.ts';
import type { RepositoryAccess } from './authorization.ts';
import { createLimiter, type Limiter } from './limiter.ts';
import type { PartsShared } from './parts.ts';
import { proxyFor } from './proxy.ts';
import type { Exchanged } from './token-server.ts';

/** Buffer of a socket and a body. Measured: more of it costs memory and collections and gains nothing. */
const HIGH_WATER_MARK = 64 * 1024;

export interface Session {
  readonly options: SourceOptions;
  /**
   * @param registry whose own authorities count for `url` too
   * @throws SealiftError `invalid-argument` where certificates or the proxy cannot be used
   */
  agentFor(url: URL, registry?: URL): Promise<http.Agent>;
  /** The proxy a request to `url` goes through. @throws SealiftError `invalid-argument` */
  proxyFor(url: URL): URL | undefined;
  limiterFor(url: URL): Limiter;
  /** Hosts whose running out of requests was told. */
  readonly rateTold: Set<string>;
  /** What blobs read in parts share. */
  readonly parts: PartsShared;
  /** By registry origin and repository. */
  readonly access: Map<string, RepositoryAccess>;
  /** Identity tokens, by token server and what they were at first. */
  readonly exchanged: Map<string, Exchanged>;
  /** `text` without any secret this session has used. */
  redact(text: string): string;
  addSecret(secret: string): void;
  /** Gives the session back; the last one closes its connections. */
  release(): void;
}

const sessions = new WeakMap<SourceOptions, { session: Session; users: number }>();

/** The session of `options`; to be released as often as it was taken. */
export function takeSession(options: SourceOptions): Session {
  const known = sessions.get(options);
  if (known) {
    known.users += 1;
    return known.session;
  }
  const entry = { session: createSession(options, () => release()), users: 1 };
  const release = (): boolean => {
    entry.users -= 1;
    if (entry.users > 0) return false;
    sessions.delete(options);
    return true;
  };
  sessions.set(options, entry);
  return entry.session;
}

function createSession(options: SourceOptions, isLast: () => boolean): Session {
  const agents = new Map<string, http.Agent>();
  const limiters = new Map<string, Limiter>();
  const secrets = new Set<string>();
  const addSecret = (secret: string): void => {
    // Shorter ones would black out half of every message.
    if (secret.length >= 4) secrets.add(secret);
  };
  const certificates = new Map<string, Promise<HostCertificates | undefined>>();
  const certificatesFor = async ({ host, protocol }: URL): Promise<HostCertificates | undefined> => {
    if (protocol !== 'https:') return undefined;
    let found = certificates.get(host);
    if (!found) {
      found = options.hostCertificates?.(host) ?? Promise.resolve(undefined);
      certificates.set(host, found);
    }
    return found;
  };
  return {
    options,
    rateTold: new Set(),
    parts: { held: 0, refused: new Set() },
    access: new Map(),
    exchanged: new Map(),
    async agentFor(url, registry) {
      const proxy = proxyFor(url, options.proxies);
      const [own, other] =
        url.protocol === 'https:'
          ? await Promise.all([certificatesFor(url), registry && certificatesFor(registry)])
          : [];
      const key = [url.protocol, proxy?.href, own && url.host, other && registry?.host].join(' ');
      let agent = agents.get(key);
      if (!agent) {
        for (const secret of proxy ? proxySecrets(proxy) : []) addSecret(secret);
        agent = createAgent(url, options, proxy, own, other);
        agents.set(key, agent);
      }
      return agent;
    },
    proxyFor: (url) => proxyFor(url, options.proxies),
    limiterFor(url) {
      let limiter = limiters.get(url.origin);
      if (!limiter) {
        limiter = createLimiter(options.concurrencyPerHost);
        limiters.set(url.origin, limiter);
      }
      return limiter;
    },
    addSecret,
    redact(text) {
      let clean = text;
      for (const secret of secrets) clean = clean.replaceAll(secret, '[secret]');
      return clean;
    },
    release() {
      if (!isLast()) return;
      for (const agent of agents.values()) agent.destroy();
    },
  };
}

/**
 * Agent for https through a proxy. Node forgets a connection whose CONNECT has no answer yet when its request is given up,
 * and leaves it open; here whoever made the request can have it.
 */
export class TunnelAgent extends https.Agent {
  #opening: Duplex | undefined;

  override createConnection(
    options: http.ClientRequestArgs,
    callback?: (error: Error | null, stream: Duplex) => void,
  ): Duplex | null | undefined {
    const socket = super.createConnection(options, callback);
    this.#opening = socket ?? undefined;
    return socket;
  }

  /** The connection to the proxy that the last request began, once. */
  takeOpening(): Duplex | undefined {
    const opening = this.#opening;
    this.#opening = undefined;
    return opening;
  }
}

/** What a proxy may quote of its own credentials. */
function proxySecrets(proxy: URL): string[] {
  const [username, password] = [decodeURIComponent(proxy.username), decodeURIComponent(proxy.password)];
  if (password === '') return [];
  return [password, proxy.password, Buffer.from(`${username}:${password}`).toString('base64')];
}

function createAgent(
  { protocol, host }: URL,
  options: SourceOptions,
  proxy: URL | undefined,
  own: HostCertificates | undefined,
  other: HostCertificates | undefined,
): http.Agent {
  // The number of connections is bounded by the limiters; an agent's own queue would count as a stall.
  const common = {
    keepAlive: true,
    scheduling: 'lifo' as const,
    highWaterMark: HIGH_WATER_MARK,
    // Any address that answers will do: the first one may be an IPv6 one that leads nowhere.
    autoSelectFamily: true,
    // Node's agents speak to proxies themselves: CONNECT for https, and the proxy's credentials to the proxy alone. Which
    // requests go there is decided here, as their NO_PROXY knows no CIDR.
    ...(proxy ? { proxyEnv: { HTTP_PROXY: proxy.href, HTTPS_PROXY: proxy.href } } : {}),
  };
  if (protocol === 'http:') return new http.Agent(common);
  return new (proxy ? TunnelAgent : https.Agent)({
    ...common,
    minVersion: 'TLSv1.2',
    rejectUnauthorized: !options.insecureSkipTlsVerify,
    secureContext: secureContext(host, options, own, other),
  });
}

/** @throws SealiftError `invalid-argument` where what is handed in holds no certificates or keys that can be used */
function secureContext(
  host: string,
  options: SourceOptions,
  own: HostCertificates | undefined,
  other: HostCertificates | undefined,
): tls.SecureContext {
  const more = [...(own?.authorities ?? []), ...(other?.authorities ?? [])];
  try {
    return tls.createSecureContext({
      minVersion: 'TLSv1.2',
      ca: trustedRoots([...(options.caFile === undefined ? [] : [options.caFile]), ...more]),
      ...(own?.client ? { cert: Buffer.from(own.client.certificate), key: Buffer.from(own.client.key) } : {}),
    });
  } catch (error) {
    if (isSealiftError(error)) throw error;
    // OpenSSL's words name what is wrong with the file, and quote nothing of it.
    throw new SealiftError(
      'invalid-argument',
      `the client certificate and key for ${inert(host)} cannot be used: ${inert((error as Error).message)}`,
      {
        subject: inert(host),
        want: 'a certificate and its key without a passphrase, both as PEM',
        cause: error,
      },
    );
  }
}

/** @throws SealiftError `invalid-argument` where one of `files` holds no certificates */
function trustedRoots(files: readonly Uint8Array[]): string[] {
  const roots = new Set([...tls.getCACertificates('default'), ...tls.getCACertificates('system')]);
  for (const file of files) for (const certificate of readCertificates(file)) roots.add(certificate);
  return [...roots];
}

/** @throws SealiftError `invalid-argument` */
export function readCertificates(pem: Uint8Array): string[] {
  const blocks =
    Buffer.from(pem)
      .toString('latin1')
      .match(
        /-----BEGIN (?:TRUSTED )?CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END (?:TRUSTED )?CERTIFICATE-----/g,
      ) ?? [];
  const bad = (cause?: unknown) =>
    new SealiftError(
      'invalid-argument',
      'the CA file holds no readable certificate, want certificates as PEM',
      { cause },
    );
  if (blocks.length === 0) throw bad();
  try {
    return blocks.map((block) => new X509Certificate(block).toString());
  } catch (error) {
    throw bad(error);
  }
}
