/**
 * What all sources opened with one options object share: connections, limits per host, tokens.
 *
 * node:http and not fetch: connections are kept alive and counted here, a body can be read as fast as the
 * socket gives it, redirects are followed by our own rules, and nothing decodes a body behind our back.
 */
import { X509Certificate } from 'node:crypto';
import http from 'node:http';
import https from 'node:https';
import tls from 'node:tls';
import { SealiftError } from '../../errors.ts';
import type { SourceOptions } from '../source.ts';
import type { RepositoryAccess } from './authorization.ts';
import { createLimiter, type Limiter } from './limiter.ts';

/** Buffer of a socket and a body. Measured: more of it costs memory and collections and gains nothing. */
const HIGH_WATER_MARK = 64 * 1024;

export interface Session {
  readonly options: SourceOptions;
  agentFor(url: URL): http.Agent;
  limiterFor(url: URL): Limiter;
  /** By registry origin and repository. */
  readonly access: Map<string, RepositoryAccess>;
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
  return {
    options,
    access: new Map(),
    agentFor(url) {
      let agent = agents.get(url.protocol);
      if (!agent) {
        agent = createAgent(url.protocol, options);
        agents.set(url.protocol, agent);
      }
      return agent;
    },
    limiterFor(url) {
      let limiter = limiters.get(url.origin);
      if (!limiter) {
        limiter = createLimiter(options.concurrencyPerHost);
        limiters.set(url.origin, limiter);
      }
      return limiter;
    },
    addSecret(secret) {
      // Shorter ones would black out half of every message.
      if (secret.length >= 4) secrets.add(secret);
    },
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

function createAgent(protocol: string, options: SourceOptions): http.Agent {
  // The number of connections is bounded by the limiters; an agent's own queue would count as a stall.
  const common = {
    keepAlive: true,
    scheduling: 'lifo' as const,
    highWaterMark: HIGH_WATER_MARK,
    // Any address that answers will do: the first one may be an IPv6 one that leads nowhere.
    autoSelectFamily: true,
  };
  if (protocol === 'http:') return new http.Agent(common);
  return new https.Agent({
    ...common,
    minVersion: 'TLSv1.2',
    rejectUnauthorized: !options.insecureSkipTlsVerify,
    secureContext: tls.createSecureContext({ ca: trustedRoots(options.caFile), minVersion: 'TLSv1.2' }),
  });
}

/** @throws SealiftError `invalid-argument` where `caFile` holds no certificates */
function trustedRoots(caFile: Uint8Array | undefined): string[] {
  const roots = new Set([...tls.getCACertificates('default'), ...tls.getCACertificates('system')]);
  if (caFile !== undefined) for (const certificate of readCertificates(caFile)) roots.add(certificate);
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
