import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Credentials } from '../../../../core/transport/source.ts';
import {
  blob,
  cut,
  endless,
  type FaultRegistry,
  manifest,
  reply,
  reset,
  type Step,
  startFaultRegistry,
} from '../../../../fixtures/fault-registry.ts';
import { randomContent, singleImage } from '../../../../fixtures/images.ts';
import { blobOf, collect, failureOf, registrySource, type TestSource, visible } from '../surroundings.ts';

const IMAGE = singleImage();
const TAG_PATH = '/v2/team/app/manifests/1';
const OTHER_PATH = '/v2/team/app/manifests/2';
const CONTENT = randomContent(300_000, 'blob');
const BLOB = blobOf(CONTENT);
const BLOB_PATH = `/v2/team/app/blobs/${BLOB.digest}`;
const PASSWORD = 'correct-horse';
const PAIR = Buffer.from(`user:${PASSWORD}`).toString('base64');

let registry: FaultRegistry;
let tokens: FaultRegistry;
let opened: TestSource[];

beforeEach(async () => {
  registry = await startFaultRegistry();
  tokens = await startFaultRegistry();
  opened = [];
});

afterEach(async () => {
  for (const { source } of opened) await source.close();
  await registry.stop();
  await tokens.stop();
});

async function open(credentials?: Credentials, asked: string[] = []): Promise<TestSource> {
  const test = await registrySource(registry.host, {
    credentials: async (host, repository) => {
      asked.push(`${host} ${repository}`);
      return credentials;
    },
  });
  opened.push(test);
  return test;
}

const login = { username: 'user', password: PASSWORD };

/** Answers only requests with this Authorization, and asks others for it. */
function guarded(expected: () => string, challenge: () => string, step: Step): Step {
  return (request, response, body) =>
    (request.headers.authorization === expected()
      ? step
      : reply(401, { 'www-authenticate': challenge() }, '{"errors":[{"code":"UNAUTHORIZED"}]}'))(
      request,
      response,
      body,
    );
}

const bearer = (realm = `${tokens.url}/token`): string => `Bearer realm="${realm}",service="reg"`;
const token = (value: string, more: object = {}): Step =>
  reply(200, { 'content-type': 'application/json' }, JSON.stringify({ token: value, ...more }));

describe('Basic', () => {
  it('sends credentials when asked, and from then on at once', async () => {
    const step = guarded(
      () => `Basic ${PAIR}`,
      () => 'Basic realm="r"',
      manifest(IMAGE.bytes),
    );
    registry.script(TAG_PATH, step);
    const asked: string[] = [];
    const { source } = await open(login, asked);
    await source.manifest('1');
    await source.manifest('1');
    expect(registry.requests.map(({ headers }) => headers.authorization)).toEqual([
      undefined,
      `Basic ${PAIR}`,
      `Basic ${PAIR}`,
    ]);
    expect(asked).toEqual([`${registry.host} team/app`]);
  });

  it('refuses without credentials, naming how to log in', async () => {
    registry.script(TAG_PATH, reply(401, { 'www-authenticate': 'Basic realm="r"' }));
    const error = await failureOf((await open()).source.manifest('1'));
    expect(error.code).toBe('source-unauthorized');
    expect(error.hint).toContain('docker login');
  });

  it('ends a loop of 401 after one attempt with credentials', async () => {
    registry.script(
      TAG_PATH,
      reply(401, { 'www-authenticate': 'Basic realm="r"' }, `you sent ${PAIR} and ${PASSWORD}`),
    );
    const test = await open(login);
    const error = await failureOf(test.source.manifest('1'));
    expect(error.code).toBe('source-unauthorized');
    expect(registry.requests).toHaveLength(2);
    expect(error.message).toContain('you sent [secret]');
    expect(visible(error, test.events)).not.toMatch(new RegExp(`${PASSWORD}|${PAIR}`));
  });

  it('refuses a scheme it does not know', async () => {
    registry.script(TAG_PATH, reply(401, { 'www-authenticate': 'Negotiate' }));
    const error = await failureOf((await open(login)).source.manifest('1'));
    expect(error).toMatchObject({ code: 'source-unauthorized' });
    expect(error.message).toContain('negotiate');
    expect(registry.requests).toHaveLength(1);
  });

  it('refuses a 401 that asks for nothing', async () => {
    registry.script(TAG_PATH, reply(401));
    expect((await failureOf((await open(login)).source.manifest('1'))).code).toBe('source-unauthorized');
  });
});

describe('Bearer', () => {
  it('gets a token without credentials, for pulling from that repository only', async () => {
    registry.script(
      TAG_PATH,
      guarded(() => 'Bearer anonymous', bearer, manifest(IMAGE.bytes)),
    );
    tokens.script('/token', token('anonymous'));
    await (await open()).source.manifest('1');
    const [request] = tokens.requests;
    const query = new URL(request?.url ?? '', tokens.url).searchParams;
    expect([...query]).toEqual([
      ['service', 'reg'],
      ['scope', 'repository:team/app:pull'],
    ]);
    expect(request?.headers.authorization).toBeUndefined();
  });

  it('gets a token with user name and password, and keeps it', async () => {
    const step = guarded(() => 'Bearer mine', bearer, manifest(IMAGE.bytes));
    registry.script(TAG_PATH, step);
    registry.script(OTHER_PATH, step);
    tokens.script('/token', token('mine', { expires_in: 300 }));
    const { source } = await open(login);
    await source.manifest('1');
    await source.manifest('2');
    expect(tokens.requests).toHaveLength(1);
    expect(tokens.requests[0]?.headers.authorization).toBe(`Basic ${PAIR}`);
    expect(registry.requests.every(({ headers }) => !headers.authorization?.startsWith('Basic'))).toBe(true);
  });

  it('gets one token for many requests at once', async () => {
    registry.script(
      TAG_PATH,
      guarded(() => 'Bearer mine', bearer, manifest(IMAGE.bytes)),
    );
    tokens.script('/token', token('mine', { expires_in: 300 }));
    const { source } = await open(login);
    await Promise.all(Array.from({ length: 8 }, () => source.manifest('1')));
    expect(tokens.requests).toHaveLength(1);
  });

  it('takes access_token too', async () => {
    registry.script(
      TAG_PATH,
      guarded(() => 'Bearer other', bearer, manifest(IMAGE.bytes)),
    );
    tokens.script('/token', reply(200, {}, '{"access_token":"other"}'));
    await (await open()).source.manifest('1');
  });

  it('exchanges an identity token by POST, never in a URL', async () => {
    registry.script(
      TAG_PATH,
      guarded(() => 'Bearer exchanged', bearer, manifest(IMAGE.bytes)),
    );
    tokens.script('/token', reply(200, {}, '{"access_token":"exchanged"}'));
    await (await open({ identityToken: 'identity-secret' })).source.manifest('1');
    const [request] = tokens.requests;
    expect(request).toMatchObject({ method: 'POST', url: '/token' });
    expect(Object.fromEntries(new URLSearchParams(request?.body))).toEqual({
      grant_type: 'refresh_token',
      refresh_token: 'identity-secret',
      client_id: 'sealift',
      scope: 'repository:team/app:pull',
      service: 'reg',
    });
  });

  it('does not follow a redirect with an identity token', async () => {
    registry.script(TAG_PATH, reply(401, { 'www-authenticate': bearer() }));
    tokens.script('/token', reply(307, { location: '/elsewhere' }));
    const error = await failureOf((await open({ identityToken: 'identity-secret' })).source.manifest('1'));
    expect(error.code).toBe('source-protocol');
    expect(tokens.requests).toHaveLength(1);
  });

  it('renews a token that has expired by the clock before it is sent', async () => {
    let current = 'first';
    registry.script(
      TAG_PATH,
      guarded(() => `Bearer ${current}`, bearer, manifest(IMAGE.bytes)),
    );
    tokens.script('/token', token('first', { expires_in: 1 }), token('second', { expires_in: 300 }));
    const { source } = await open(login);
    await source.manifest('1');
    current = 'second';
    await source.manifest('1');
    expect(registry.requests.map(({ headers }) => headers.authorization)).toEqual([
      undefined,
      'Bearer first',
      'Bearer second',
    ]);
  });

  it('renews a token that expires in the middle of a blob', async () => {
    let current = 'first';
    const expire: Step = (request, response, body) => {
      current = 'second';
      cut(CONTENT, 100_000)(request, response, body);
    };
    let step = expire;
    registry.script(
      BLOB_PATH,
      guarded(
        () => `Bearer ${current}`,
        bearer,
        (request, response, body) => {
          const now = step;
          step = blob(CONTENT);
          now(request, response, body);
        },
      ),
    );
    tokens.script('/token', token('first', { expires_in: 300 }), token('second', { expires_in: 300 }));
    expect(await collect((await open(login)).source, BLOB)).toEqual(CONTENT);
    expect(tokens.requests).toHaveLength(2);
    expect(registry.requests.at(-1)?.headers.range).toMatch(/^bytes=\d+-$/);
  });

  it('ends a loop of 401 after one fresh token', async () => {
    registry.script(TAG_PATH, reply(401, { 'www-authenticate': bearer() }));
    tokens.script('/token', token('useless-token'));
    const test = await open(login);
    expect((await failureOf(test.source.manifest('1'))).code).toBe('source-unauthorized');
    expect(registry.requests).toHaveLength(2);
    expect(tokens.requests).toHaveLength(1);
  });

  it('tries the token server again when it is down for a moment', async () => {
    registry.script(
      TAG_PATH,
      guarded(() => 'Bearer mine', bearer, manifest(IMAGE.bytes)),
    );
    tokens.script('/token', reset, reply(503), token('mine'));
    const test = await open(login);
    await test.source.manifest('1');
    expect(test.waits).toHaveLength(2);
  });

  it('says that the token server refused the credentials, and not which', async () => {
    registry.script(TAG_PATH, reply(401, { 'www-authenticate': bearer() }));
    tokens.script('/token', reply(401, {}, `{"details":"incorrect ${PASSWORD}"}`));
    const test = await open(login);
    const error = await failureOf(test.source.manifest('1'));
    expect(error).toMatchObject({ code: 'source-unauthorized', subject: `${tokens.url}/token` });
    expect(visible(error, test.events)).not.toContain(PASSWORD);
  });

  it('refuses a token document without end', async () => {
    registry.script(TAG_PATH, reply(401, { 'www-authenticate': bearer() }));
    tokens.script('/token', endless());
    expect((await failureOf((await open()).source.manifest('1'))).code).toBe('source-too-large');
  });

  it.each([
    ['no JSON', 'secret-token <html>'],
    ['no token', '{}'],
    ['an empty token', '{"token":""}'],
    ['a token with a line break', '{"token":"secret-token\\r\\nX-Injected: 1"}'],
    ['a number', '{"token":5}'],
    ['two tokens', '{"token":"secret-token","token":"secret-other"}'],
    ['an array', '["secret-token"]'],
    ['a lifetime in words', '{"token":"secret-token","expires_in":"soon"}'],
  ])('refuses a token document with %s, without quoting it', async (_what, body) => {
    registry.script(TAG_PATH, reply(401, { 'www-authenticate': bearer() }));
    tokens.script('/token', reply(200, {}, body));
    const test = await open(login);
    const error = await failureOf(test.source.manifest('1'));
    expect(error.code).toBe('source-protocol');
    expect(visible(error, test.events)).not.toMatch(/secret-/);
    expect(registry.requests).toHaveLength(1);
  });

  it.each(['file:///etc/passwd', 'token', 'gopher://127.0.0.1/', 'http://user:pw@127.0.0.1/token'])(
    'refuses the realm %s',
    async (realm) => {
      registry.script(TAG_PATH, reply(401, { 'www-authenticate': bearer(realm) }));
      expect((await failureOf((await open(login)).source.manifest('1'))).code).toBe('source-protocol');
    },
  );

  it('does not send the password on where the token server redirects to another host', async () => {
    const thief = await startFaultRegistry();
    try {
      registry.script(
        TAG_PATH,
        guarded(() => 'Bearer stolen', bearer, manifest(IMAGE.bytes)),
      );
      tokens.script('/token', reply(302, { location: `${thief.url}/token` }));
      thief.script('/token', token('stolen'));
      await (await open(login)).source.manifest('1');
      expect(thief.requests[0]?.headers.authorization).toBeUndefined();
    } finally {
      await thief.stop();
    }
  });
});
