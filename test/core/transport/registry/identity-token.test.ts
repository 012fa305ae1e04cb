/** Identity tokens: asked for at a login, used instead of a password, replaced where the server replaces them. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SealiftError } from '../../../../core/errors.ts';
import { parseLocation } from '../../../../core/transport/location.ts';
import { checkLogin } from '../../../../core/transport/registry/login.ts';
import { openSource, type Source, type SourceOptions } from '../../../../core/transport/source.ts';
import {
  type FaultRegistry,
  manifest,
  reply,
  reset,
  type Step,
  startFaultRegistry,
} from '../../../../fixtures/fault-registry.ts';
import {
  type IdentityServer,
  type IdentityServerOptions,
  identityServer,
  wantsToken,
} from '../../../../fixtures/identity-tokens.ts';
import { singleImage } from '../../../../fixtures/images.ts';
import { failureOf, surroundings, visible } from '../surroundings.ts';

const IMAGE = singleImage();
const LOGIN = { username: 'user', password: 'correct-horse' };
const SECRETS = /correct-horse|identity-token-number|access-token-\d|dXNlcjpjb3JyZWN0/;

let registry: FaultRegistry;
let opened: Source[];

beforeEach(async () => {
  registry = await startFaultRegistry();
  opened = [];
});
afterEach(async () => {
  for (const source of opened) await source.close();
  await registry.stop();
});

const OPTIONS: Omit<SourceOptions, 'credentials'> = {
  plainHttp: true,
  insecureSkipTlsVerify: false,
  retryTimes: 2,
  concurrencyPerHost: 4,
  timeoutMs: 5000,
  random: () => 0,
  sleep: async () => {},
};

function serve(options: Partial<IdentityServerOptions> = {}, base: Step = reply(200, {}, '{}')) {
  const tokens = identityServer({ ...LOGIN, ...options });
  const realm = `${registry.url}/token`;
  registry.script('/token', tokens.step);
  registry.script('/v2/', wantsToken(realm, base));
  for (const name of ['a', 'b', 'c', 'd'])
    registry.script(`/v2/team/${name}/manifests/1`, wantsToken(realm, manifest(IMAGE.bytes)));
  return tokens;
}

const logIn = (login = LOGIN, around = surroundings()) =>
  checkLogin(registry.host, { ...OPTIONS, credentials: async () => login }, around.context);

describe('a login', () => {
  it('asks by POST for an identity token, uses it once, and hands it out', async () => {
    const tokens = serve();
    expect(await logIn()).toEqual({ checked: true, identityToken: tokens.identity() });
    expect(tokens.asked).toEqual(['POST password', 'POST refresh_token']);
    const [first] = registry.requestsFor('/token');
    expect([first?.url, first?.headers.authorization]).toEqual(['/token', undefined]);
    expect(Object.fromEntries(new URLSearchParams(first?.body))).toEqual({
      grant_type: 'password',
      ...LOGIN,
      access_type: 'offline',
      client_id: 'sealift',
      service: 'reg',
    });
  });

  it.each<[string, Step]>([
    ['404', reply(404)],
    ['401, as some do for every POST', reply(401)],
    ['400', reply(400, {}, '{"error":"unsupported_grant_type"}')],
    ['500', reply(500)],
    ['a redirect, which would carry the password on', reply(307, { location: '/elsewhere' })],
    ['a page', reply(200, { 'content-type': 'text/html' }, '<html>')],
    ['a broken connection', reset],
  ])('asks by GET where POST is answered with %s', async (_title, refusesPost) => {
    const tokens = serve({ refusesPost });
    expect(await logIn()).toEqual({ checked: true, identityToken: tokens.identity() });
    // A kept connection that breaks is tried once more.
    expect([...new Set(tokens.asked)]).toEqual(['POST password', 'GET', 'POST refresh_token']);
    const get = registry.requestsFor('/token').find(({ method }) => method === 'GET');
    expect(get?.url).toBe('/token?service=reg&offline_token=true&client_id=sealift');
    expect(registry.requestsFor('/elsewhere')).toEqual([]);
  });

  it('hands none out where the server gives none', async () => {
    const tokens = serve({ givesNone: true });
    expect(await logIn()).toEqual({ checked: true, identityToken: undefined });
    expect(tokens.asked).toEqual(['POST password']);
  });

  it('hands none out that the server itself does not take', async () => {
    serve({ takesNone: true });
    expect(await logIn()).toEqual({ checked: true, identityToken: undefined });
  });

  it('hands out the one that is good after it was used once', async () => {
    const tokens = serve({ rotates: true });
    expect(await logIn()).toEqual({ checked: true, identityToken: 'identity-token-number-2' });
    expect(tokens.identity()).toBe('identity-token-number-2');
  });

  it('with a wrong password is refused, and shows nothing', async () => {
    serve();
    const around = surroundings();
    const error = await failureOf(logIn({ username: 'user', password: 'wrong-horse' }, around));
    expect(error.code).toBe('source-unauthorized');
    expect(visible(error, around.events)).not.toMatch(/wrong-horse/);
  });

  it('is no login where the registry refuses the token it led to', async () => {
    serve({}, reply(403, {}, '{"errors":[{"code":"DENIED"}]}'));
    expect((await failureOf(logIn())).code).toBe('source-unauthorized');
  });

  it.each(['x'.repeat(30_000), 'two words', 'line\nend', '', 7, null])(
    'takes %j for no identity token',
    async (refresh) => {
      serve();
      const document = JSON.stringify({ access_token: 'access-token-1', refresh_token: refresh });
      registry.script('/token', reply(200, {}, document));
      expect(await logIn()).toEqual({ checked: true, identityToken: undefined });
    },
  );
});

describe('reading with an identity token', () => {
  async function pull(
    tokens: IdentityServer,
    names: readonly string[],
    renewed?: (token: string) => Promise<void>,
  ) {
    const around = surroundings();
    const options: SourceOptions = {
      ...OPTIONS,
      credentials: async () => ({ identityToken: 'identity-token-number-1', renewed }),
    };
    const sources = await Promise.all(
      names.map((name) =>
        openSource(
          parseLocation(`docker://${registry.host}/team/${name}:1`).location,
          options,
          around.context,
        ),
      ),
    );
    opened.push(...sources);
    const done = Promise.all(sources.map((source) => source.manifest('1')));
    return { done, around, tokens };
  }

  it('exchanges one for each repository', async () => {
    const { done, tokens } = await pull(serve(), ['a', 'b', 'c']);
    await done;
    expect(tokens.asked.toSorted()).toEqual(
      ['a', 'b', 'c'].map((name) => `POST refresh_token repository:team/${name}:pull`),
    );
  });

  it('goes on with the new one where each can be used once, and has every one kept', async () => {
    const kept: string[] = [];
    const { done } = await pull(serve({ rotates: true }), ['a', 'b', 'c', 'd'], async (token) => {
      kept.push(token);
    });
    await done;
    expect(kept).toEqual([2, 3, 4, 5].map((number) => `identity-token-number-${number}`));
  });

  it('goes on and says so where a new one cannot be kept', async () => {
    const { done, around } = await pull(serve({ rotates: true }), ['a', 'b'], async () => {
      throw new SealiftError('invalid-argument', 'the file cannot be written (EROFS)');
    });
    await done;
    expect(around.events.filter(({ type }) => type === 'notice')).toMatchObject([
      { level: 'warning', code: 'identity-token-not-kept' },
      { level: 'warning', code: 'identity-token-not-kept' },
    ]);
    expect(visible(undefined, around.events)).not.toMatch(SECRETS);
  });

  it('one that was taken back is refused with what to do, and is not shown', async () => {
    const tokens = serve({ takesNone: true });
    registry.script('/token', reply(400, {}, '{"error":"invalid_grant","seen":"identity-token-number-1"}'));
    const { done, around } = await pull(tokens, ['a']);
    const error = await failureOf(done);
    expect(error.code).toBe('source-unauthorized');
    expect(error.hint).toContain('sealift login');
    expect(visible(error, around.events)).not.toMatch(SECRETS);
  });
});
