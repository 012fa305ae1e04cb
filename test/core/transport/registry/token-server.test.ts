/** A registry that takes tokens only: docker-registry decides whether they are good. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { parseDigest } from '../../../../core/oci/digest.ts';
import { parseLocation } from '../../../../core/transport/location.ts';
import { type Credentials, openSource, type SourceOptions } from '../../../../core/transport/source.ts';
import { type Authority, makeAuthority, type Pair } from '../../../../fixtures/certificates.ts';
import { blobsOf, type FixtureManifest, largeImage, pushImage } from '../../../../fixtures/images.ts';
import { describePeer } from '../../../../fixtures/peers.ts';
import { startWire, type Wire } from '../../../../fixtures/proxy.ts';
import { type RunningRegistry, startDockerRegistry } from '../../../../fixtures/registry.ts';
import { startTokenServer, type TokenServer } from '../../../../fixtures/token-server.ts';
import {
  collect,
  failureOf,
  registrySource,
  surroundings,
  type TestSource,
  visible,
} from '../surroundings.ts';

const USER = 'puller';
const PASSWORD = 'correct-horse-battery';
const REFRESH = 'refresh-token-of-a-person';
const image: FixtureManifest = largeImage(2, 6_000_000);
const layers = blobsOf(image).slice(-2);

describePeer(['docker-registry', 'openssl'], 'docker-registry with a token server', () => {
  let authority: Authority;
  let signer: Pair;
  let home: string;
  let stops: (() => Promise<void>)[] = [];
  let opened: TestSource[] = [];

  beforeAll(() => {
    authority = makeAuthority();
    signer = authority.issue('token signer');
    home = mkdtempSync(path.join(os.tmpdir(), 'sealift-token-'));
    writeFileSync(path.join(home, 'authorities.pem'), authority.ca);
  });
  afterAll(() => {
    authority.remove();
    rmSync(home, { recursive: true, force: true });
  });
  afterEach(async () => {
    for (const { source } of opened) await source.close();
    for (const stop of stops.toReversed()) await stop();
    opened = [];
    stops = [];
  });

  interface Running {
    readonly registry: RunningRegistry;
    readonly tokens: TokenServer;
    readonly wire: Wire;
  }

  async function start(seconds = 300, repositories = ['team/app']): Promise<Running> {
    const login = { username: USER, password: PASSWORD, refreshToken: REFRESH };
    const tokens = await startTokenServer({ signer, ...login, seconds });
    stops.push(tokens.stop);
    const authorities = path.join(home, 'authorities.pem');
    const registry = await startDockerRegistry({ token: { realm: tokens.realm, authorities } });
    stops.push(registry.stop);
    for (const repository of repositories) {
      const headers = { authorization: `Bearer ${tokens.token(repository)}` };
      await pushImage(registry.url, repository, '1', image, { headers });
    }
    const wire = await startWire(Number(new URL(registry.url).port));
    stops.push(wire.stop);
    return { registry, tokens, wire };
  }

  async function open(
    { wire }: Running,
    credentials: Credentials | undefined,
    options: Partial<SourceOptions> = {},
  ): Promise<TestSource> {
    const test = await registrySource(`127.0.0.1:${wire.port}`, {
      credentials: async () => credentials,
      ...options,
    });
    opened.push(test);
    return test;
  }

  it.each<[string, Credentials, string]>([
    ['user name and password', { username: USER, password: PASSWORD }, 'GET'],
    ['an identity token', { identityToken: REFRESH }, 'POST'],
  ])('lets in with %s, which the registry itself never sees', async (_title, credentials, method) => {
    const running = await start();
    const { source } = await open(running, credentials);
    expect((await source.manifest('1')).digest).toBe(image.digest);
    for (const { digest, size, bytes } of layers)
      expect((await collect(source, { digest: parseDigest(digest), size })).equals(bytes())).toBe(true);
    expect(running.tokens.requests).toHaveLength(1);
    const [request] = running.tokens.requests;
    expect([request?.method, request?.parameters.get('scope')]).toEqual([method, 'repository:team/app:pull']);
    expect(running.wire.sent()).not.toContain(PASSWORD);
    expect(running.wire.sent()).not.toContain(Buffer.from(`${USER}:${PASSWORD}`).toString('base64'));
    expect(running.wire.sent()).not.toContain(REFRESH);
  });

  it.each<[string, Credentials | undefined]>([
    ['a wrong password', { username: USER, password: 'wrong-password' }],
    ['a wrong identity token', { identityToken: 'another-refresh-token' }],
    ['nothing', undefined],
  ])('keeps out with %s, and shows none of it', async (_title, credentials) => {
    const test = await open(await start(), credentials);
    const error = await failureOf(test.source.manifest('1'));
    expect(error.code).toBe('source-unauthorized');
    expect(visible(error, test.events)).not.toMatch(/wrong-password|another-refresh-token/);
  });

  it('takes one token for each repository', async () => {
    const running = await start(300, ['team/app', 'other/app']);
    const asked: (string | undefined)[] = [];
    const { context } = surroundings();
    const options: SourceOptions = {
      plainHttp: true,
      insecureSkipTlsVerify: false,
      credentials: async (_host, repository) => {
        asked.push(repository);
        return { username: USER, password: PASSWORD };
      },
      retryTimes: 0,
      concurrencyPerHost: 4,
      timeoutMs: 5000,
    };
    for (const repository of ['team/app', 'other/app']) {
      const location = parseLocation(`docker://127.0.0.1:${running.wire.port}/${repository}:1`).location;
      const source = await openSource(location, options, context);
      expect((await source.manifest('1')).digest).toBe(image.digest);
      await source.close();
    }
    expect(asked).toEqual(['team/app', 'other/app']);
    expect(running.tokens.requests.map(({ parameters }) => parameters.get('scope'))).toEqual([
      'repository:team/app:pull',
      'repository:other/app:pull',
    ]);
  });

  it('is asked with a new token where the old one ends between blobs and within one', async () => {
    const running = await start(2);
    const { tokens, wire } = running;
    const { source } = await open(running, { username: USER, password: PASSWORD });
    await source.manifest('1');
    expect(tokens.given).toHaveLength(1);
    const [layer] = layers;
    if (!layer) throw new Error('the image has no layer');
    await wait(3100);
    const chunks: Uint8Array[] = [];
    for await (const chunk of await source.blob({ ...layer, digest: parseDigest(layer.digest) })) {
      if (chunks.length === 0) {
        expect(tokens.given).toHaveLength(2);
        await wait(3100);
        wire.cut();
      }
      chunks.push(chunk);
    }
    expect(Buffer.concat(chunks).equals(layer.bytes())).toBe(true);
    expect(wire.sent()).toMatch(/\r\nrange: bytes=\d+-/i);
    expect(new Set(tokens.given).size).toBe(3);
  });
});
