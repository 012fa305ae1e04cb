/**
 * Tokens of a token server (distribution specification, "Token Authentication" and "OAuth2"): by user name and password,
 * or by an identity token, which is the specification's refresh token and what docker keeps in place of a password.
 */
import { performance } from 'node:perf_hooks';
import type { Context } from '../../context.ts';
import { inert, isSealiftError, SealiftError } from '../../errors.ts';
import { asInteger, asObject, asString, parseJson } from '../../json/strict.ts';
import type { Credentials, IdentityToken, Login } from '../source.ts';
import type { Repository } from './authorization.ts';
import { showUrl } from './failures.ts';
import { type Question, readAll, refuseEncoding, send, statusFailure } from './request.ts';
import { Transient } from './retry.ts';
import type { Session } from './session.ts';

/** As a registry's challenge names it. */
export interface TokenServer {
  readonly realm: URL;
  readonly service: string | undefined;
}

/** Value of the Authorization field, and when it ends by the monotonic clock. */
export interface AccessToken {
  readonly value: string;
  readonly until: number;
}

interface TokenAnswer extends AccessToken {
  /** A token to get further ones with. */
  readonly refresh: string | undefined;
}

/** What became of one identity token in a session. */
export interface Exchanged {
  /** The token to use now: a server may give a new one with every answer and take the old one back. */
  current: string;
  /** The exchange under way; more than one at a time only where the server gives no new ones. */
  turn: Promise<unknown>;
  isConstant: boolean;
}

const TOKEN_DOCUMENT_BYTES = 256 * 1024;
const MAX_TOKEN_LENGTH = 24 * 1024;
/** Where the server does not say (distribution specification). */
const DEFAULT_LIFETIME_SECONDS = 60;
const LONGEST_LIFETIME_SECONDS = 24 * 3600;
const CLIENT = 'sealift';

/**
 * A token for `repository`.
 * @throws SealiftError `source-unauthorized`, `source-protocol`, and as `send()`
 * @throws Transient for statuses that may be gone next time
 */
export async function fetchToken(
  session: Session,
  repository: Repository,
  server: TokenServer,
  credentials: Credentials | undefined,
  context: Context,
): Promise<AccessToken> {
  const asker: Asker = { session, server, repository, context };
  if (credentials && 'identityToken' in credentials) return exchange(asker, credentials);
  if (credentials && repository.onIdentityToken) return logIn(asker, credentials, repository.onIdentityToken);
  return askToken(asker, byGet(asker, credentials));
}

/** Value of the Authorization field (RFC 7617). */
export function basic(session: Session, { username, password }: Login): string {
  const encoded = Buffer.from(`${username}:${password}`).toString('base64');
  session.addSecret(encoded);
  return `Basic ${encoded}`;
}

interface Asker {
  readonly session: Session;
  readonly server: TokenServer;
  readonly repository: Repository;
  readonly context: Context;
}

function scopeOf({ scope, path }: Repository): string | undefined {
  // A login is checked without a repository.
  return scope ?? (path === '' ? undefined : `repository:${path}:pull`);
}

/** What every token server has. */
function byGet(
  { session, server, repository }: Asker,
  login: Login | undefined,
  more: Readonly<Record<string, string>> = {},
): Question {
  const url = new URL(server.realm);
  const scope = scopeOf(repository);
  if (server.service !== undefined) url.searchParams.set('service', server.service);
  if (scope !== undefined) url.searchParams.set('scope', scope);
  for (const [name, value] of Object.entries(more)) url.searchParams.set(name, value);
  return {
    url,
    headers: { Accept: 'application/json' },
    urgent: true,
    registry: repository.base,
    authorization: login ? basic(session, login) : undefined,
  };
}

/** OAuth 2 (RFC 6749), which most token servers have; the secret is in the body, and in no address. */
function byPost({ server, repository }: Asker, grant: Readonly<Record<string, string>>): Question {
  const form = new URLSearchParams({ ...grant, client_id: CLIENT });
  const scope = scopeOf(repository);
  if (scope !== undefined) form.set('scope', scope);
  if (server.service !== undefined) form.set('service', server.service);
  return {
    url: new URL(server.realm),
    headers: { Accept: 'application/json' },
    form,
    urgent: true,
    registry: repository.base,
  };
}

/**
 * A token for an identity token. Where the server gives a new identity token with it, that one is used from then on and
 * handed to whoever keeps it.
 */
async function exchange(asker: Asker, identity: IdentityToken): Promise<AccessToken> {
  const { session, server } = asker;
  const key = `${server.realm.href} ${identity.identityToken}`;
  let known = session.exchanged.get(key);
  if (!known) {
    known = { current: identity.identityToken, turn: Promise.resolve(), isConstant: false };
    session.exchanged.set(key, known);
  }
  if (known.isConstant) return exchangeNow(asker, identity, known);
  // A token that can be used once only would be refused to the second of two who use it at a time.
  const state = known;
  const mine = state.turn.then(() => exchangeNow(asker, identity, state));
  state.turn = mine.catch(() => {});
  return mine;
}

async function exchangeNow(asker: Asker, identity: IdentityToken, known: Exchanged): Promise<AccessToken> {
  const grant = { grant_type: 'refresh_token', refresh_token: known.current };
  const answer = await askToken(asker, byPost(asker, grant));
  if (answer.refresh === undefined || answer.refresh === known.current) {
    known.isConstant = true;
    return answer;
  }
  known.isConstant = false;
  known.current = answer.refresh;
  try {
    await identity.renewed?.(answer.refresh);
  } catch (error) {
    if (!isSealiftError(error)) throw error;
    asker.context.emit({
      type: 'notice',
      level: 'warning',
      code: 'identity-token-not-kept',
      message: `${inert(asker.repository.credentialsHost)} gave a new identity token, which could not be kept: ${error.message}; the next run may have to log in again`,
    });
  }
  return answer;
}

/**
 * Asks as docker and containerd do: by POST, where that gives nothing by GET, both saying that an identity token is
 * wanted. One that is given is told only where a token can be had for it.
 */
async function logIn(asker: Asker, login: Login, tell: (token: string) => void): Promise<AccessToken> {
  const { username, password } = login;
  const grant = { grant_type: 'password', username, password, access_type: 'offline' };
  // What POST is answered with proves nothing: servers without it say anything from 400 to 500, even 401.
  const answer =
    (await unlessRefused(askToken(asker, byPost(asker, grant)))) ??
    (await askToken(asker, byGet(asker, login, { offline_token: 'true', client_id: CLIENT })));
  if (answer.refresh === undefined) return answer;
  let identityToken = answer.refresh;
  const tried = exchange(asker, {
    identityToken,
    renewed: async (token) => {
      identityToken = token;
    },
  });
  if ((await unlessRefused(tried)) !== undefined) tell(identityToken);
  return answer;
}

async function unlessRefused<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof Transient) return undefined;
    if (!isSealiftError(error) || error.code === 'cancelled') throw error;
    return undefined;
  }
}

async function askToken({ session, context }: Asker, question: Question): Promise<TokenAnswer> {
  const started = performance.now();
  const answer = await send(session, question, context);
  if (answer.status !== 200) {
    const failure = await statusFailure(answer, session, context, 'the token server gave no token');
    if (failure instanceof Transient || failure.code === 'source-unauthorized') throw failure;
    if (answer.status !== 400) throw failure;
    throw new SealiftError('source-unauthorized', failure.message, {
      subject: failure.subject,
      got: failure.got,
      hint: 'log in anew with sealift login',
    });
  }
  refuseEncoding(answer);
  return readToken(
    await readAll(answer, TOKEN_DOCUMENT_BYTES, session),
    answer.url,
    started,
    session,
    context,
  );
}

function readToken(
  bytes: Uint8Array,
  url: URL,
  started: number,
  session: Session,
  context: Context,
): TokenAnswer {
  const subject = showUrl(url);
  const refuse = (message: string, cause?: unknown) =>
    new SealiftError('source-protocol', `the token server's answer cannot be used: ${message}`, {
      subject,
      cause,
    });
  try {
    const document = asObject(
      parseJson(bytes, { what: 'token', maxBytes: TOKEN_DOCUMENT_BYTES, maxDepth: context.limits.jsonDepth }),
      'token',
      'source-protocol',
    );
    const token =
      document['token'] === undefined || document['token'] === ''
        ? document['access_token']
        : document['token'];
    // Only what RFC 6750 calls b64token, and no word of it in a message.
    if (!isToken(token)) throw refuse('want a token of printable characters');
    session.addSecret(token);
    const refresh = isToken(document['refresh_token']) ? document['refresh_token'] : undefined;
    if (refresh !== undefined) session.addSecret(refresh);
    const expiresIn = document['expires_in'];
    const seconds =
      expiresIn === undefined || expiresIn === null || expiresIn === 0
        ? DEFAULT_LIFETIME_SECONDS
        : asInteger(expiresIn, 'expires_in', 'source-protocol');
    if (document['token_type'] !== undefined)
      asString(document['token_type'], 'token_type', 'source-protocol');
    const until = started + Math.min(seconds, LONGEST_LIFETIME_SECONDS) * 1000;
    return { value: `Bearer ${token}`, until, refresh };
  } catch (error) {
    if (error instanceof SealiftError && error.subject === subject) throw error;
    // The reader quotes what it stumbles over, and that may be the token.
    const code = error instanceof SealiftError ? error.code : 'json-invalid';
    throw refuse(`it is not the JSON that was wanted (${code})`);
  }
}

function isToken(value: unknown): value is string {
  return typeof value === 'string' && value.length <= MAX_TOKEN_LENGTH && /^[\x21-\x7e]+$/.test(value);
}
