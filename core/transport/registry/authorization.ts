/**
 * Who asks: anonymous, Basic (RFC 7617), or Bearer with a token server (token-server.ts). Credentials go to the
 * registry and to the realm it names, nowhere else.
 */
import { performance } from 'node:perf_hooks';
import type { Context } from '../../context.ts';
import { inert, SealiftError } from '../../errors.ts';
import { type Challenge, parseChallenges } from './challenge.ts';
import { showUrl } from './failures.ts';
import { type Answer, discardBody, type Question, send, statusFailure, tellRateLimit } from './request.ts';
import type { Session } from './session.ts';
import { basic, fetchToken, type TokenServer } from './token-server.ts';

/** What is known about access to one repository; shared by all who read from it. */
export interface RepositoryAccess {
  scheme?: 'basic' | 'bearer';
  /** Value of the Authorization field, and when it ends by the monotonic clock. */
  current?: { readonly value: string; readonly until: number };
  bearer?: TokenServer;
  /** A renewal under way, so that many requests ask for one token. */
  renewal?: Promise<void> | undefined;
}

export interface Repository {
  /** `HOST[:PORT]` that credentials are filed under. */
  readonly credentialsHost: string;
  /** Where they may be filed else: asked where there are none under the first. */
  readonly otherCredentials?: { readonly host: string; readonly path: string } | undefined;
  readonly base: URL;
  readonly path: string;
  /** What a token is asked for; pulling from the repository unless given. */
  readonly scope?: string | undefined;
  /** Makes it a login: an identity token is asked for, and told here once it has been used. */
  readonly onIdentityToken?: ((token: string) => void) | undefined;
}

/** A token that ends sooner than this is renewed first. */
const MARGIN_MS = 5_000;

/**
 * Asks a registry, with whatever authorization it wants. One 401 is answered with fresh credentials.
 * @throws SealiftError `source-unauthorized`, and as `send()`
 * @throws Transient for statuses that may be gone next time
 */
export async function ask(
  session: Session,
  repository: Repository,
  question: Omit<Question, 'authorization' | 'form' | 'registry'>,
  context: Context,
): Promise<Answer> {
  const access = accessTo(session, repository);
  if (access.renewal !== undefined) await access.renewal;
  if (access.scheme === 'bearer' && access.current && access.current.until - MARGIN_MS < performance.now()) {
    await renew(session, repository, access, access.current.value, context);
  }
  for (let isFresh = false; ; isFresh = true) {
    const authorization = question.url.origin === repository.base.origin ? access.current?.value : undefined;
    const urgent = question.urgent === true || isFresh;
    const answer = await send(
      session,
      { ...question, authorization, urgent, registry: repository.base },
      context,
    );
    tellRateLimit(session, answer, context);
    if (answer.status !== 401) return answer;
    if (isFresh || answer.url.origin !== repository.base.origin) {
      throw await statusFailure(answer, session, context, 'not authorized');
    }
    await adoptChallenge(answer, access, session, context);
    await renew(session, repository, access, authorization, context);
  }
}

function accessTo(session: Session, repository: Repository): RepositoryAccess {
  const key = `${repository.base.origin} ${repository.path} ${repository.scope ?? ''}`;
  let access = session.access.get(key);
  if (!access) {
    access = {};
    session.access.set(key, access);
  }
  return access;
}

/** Takes the strongest challenge sealift knows. @throws SealiftError `source-unauthorized`, `source-protocol` */
async function adoptChallenge(
  answer: Answer,
  access: RepositoryAccess,
  session: Session,
  context: Context,
): Promise<void> {
  const challenges = parseChallenges(answer.field('www-authenticate'));
  const bearer = challenges.find(
    (challenge) => challenge.scheme === 'bearer' && challenge.parameters.has('realm'),
  );
  if (bearer) {
    await discardBody(answer, session);
    access.bearer = { realm: readRealm(bearer, answer.url), service: bearer.parameters.get('service') };
    access.scheme = 'bearer';
    return;
  }
  if (challenges.some((challenge) => challenge.scheme === 'basic')) {
    await discardBody(answer, session);
    access.scheme = 'basic';
    return;
  }
  const names = challenges.map((challenge) => inert(challenge.scheme, 30)).join(', ');
  throw await statusFailure(
    answer,
    session,
    context,
    `not authorized, and asked for ${names === '' ? 'no scheme at all' : names}, want Basic or Bearer`,
  );
}

function readRealm(challenge: Challenge, registry: URL): URL {
  const text = challenge.parameters.get('realm') ?? '';
  const refuse = (message: string) =>
    new SealiftError('source-protocol', `the token server named by the registry cannot be used: ${message}`, {
      subject: showUrl(registry),
    });
  if (text.length > 2048 || !URL.canParse(text)) throw refuse('its address is no URL');
  const realm = new URL(text);
  if (realm.protocol !== 'https:' && realm.protocol !== 'http:')
    throw refuse('its address is neither https nor http');
  if (registry.protocol === 'https:' && realm.protocol !== 'https:')
    throw refuse('it speaks http, and the registry https');
  if (realm.username !== '' || realm.password !== '') throw refuse('its address holds credentials');
  realm.hash = '';
  return realm;
}

/**
 * Makes `access.current` another value than `used`.
 * @throws SealiftError `source-unauthorized` where there is nothing to offer
 */
async function renew(
  session: Session,
  repository: Repository,
  access: RepositoryAccess,
  used: string | undefined,
  context: Context,
): Promise<void> {
  if (access.renewal === undefined) {
    // Another request has renewed it since this one was sent.
    if (access.current !== undefined && access.current.value !== used) return;
    access.renewal = obtain(session, repository, access, context).finally(() => {
      access.renewal = undefined;
    });
  }
  await access.renewal;
}

async function obtain(
  session: Session,
  repository: Repository,
  access: RepositoryAccess,
  context: Context,
): Promise<void> {
  delete access.current;
  const { credentialsHost, otherCredentials: other } = repository;
  let credentials = await session.options.credentials(credentialsHost, repository.path);
  if (!credentials && other) credentials = await session.options.credentials(other.host, other.path);
  if (credentials)
    session.addSecret('identityToken' in credentials ? credentials.identityToken : credentials.password);
  if (access.scheme === 'bearer') {
    if (!access.bearer) throw new SealiftError('internal', 'no token server is known');
    access.current = await fetchToken(session, repository, access.bearer, credentials, context);
    return;
  }
  if (!credentials || 'identityToken' in credentials) {
    throw new SealiftError('source-unauthorized', 'the registry wants a user name and a password, got none', {
      subject: showUrl(repository.base),
      want: 'credentials',
      hint: `log in with sealift login ${inert(credentialsHost)} (docker login and podman login will do too), or give --authfile`,
    });
  }
  access.current = { value: basic(session, credentials), until: Number.POSITIVE_INFINITY };
}
