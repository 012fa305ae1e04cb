import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { proxyFor } from '../../../../core/transport/registry/proxy.ts';
import { type Authority, makeAuthority } from '../../../../fixtures/certificates.ts';
import {
  blob,
  type FaultRegistry,
  manifest,
  reply,
  type Step,
  startFaultRegistry,
} from '../../../../fixtures/fault-registry.ts';
import { randomContent, singleImage } from '../../../../fixtures/images.ts';
import { describePeer } from '../../../../fixtures/peers.ts';
import {
  PROXY_PASSWORD,
  PROXY_USER,
  type RunningProxy,
  startProxy,
  startWire,
  type Wire,
} from '../../../../fixtures/proxy.ts';
import { blobOf, collect, failureOf, registrySource, type TestSource, visible } from '../surroundings.ts';

describe('which proxy', () => {
  const settings = { http: 'http://plain.example:1', https: 'secure.example:2' };
  const through = (url: string, no?: string) => proxyFor(new URL(url), { ...settings, no })?.host;

  it('goes by the scheme of the URL; a proxy without a scheme speaks http', () => {
    expect(through('http://registry.example/')).toBe('plain.example:1');
    expect(through('https://registry.example/')).toBe('secure.example:2');
    expect(proxyFor(new URL('https://registry.example/'), settings)?.protocol).toBe('http:');
    expect(proxyFor(new URL('https://registry.example/'), undefined)).toBeUndefined();
    expect(proxyFor(new URL('https://registry.example/'), { http: 'http://plain.example' })).toBeUndefined();
  });

  it.each([
    ['https://localhost:5000/'],
    ['https://app.localhost/'],
    ['http://127.0.0.1:5000/'],
    ['http://127.9.9.9/'],
    ['http://[::1]:5000/'],
  ])('speaks to this machine itself: %s', (url) => expect(through(url)).toBeUndefined());

  it.each([
    ['*', 'https://registry.example/', true],
    ['registry.example', 'https://registry.example/', true],
    ['registry.example', 'https://eu.registry.example/', true],
    ['registry.example', 'https://notregistry.example/', false],
    ['.registry.example', 'https://registry.example/', false],
    ['.registry.example', 'https://eu.registry.example/', true],
    ['*.registry.example', 'https://eu.registry.example/', true],
    ['REGISTRY.example', 'https://registry.EXAMPLE/', true],
    ['registry.example:443', 'https://registry.example/', true],
    ['registry.example:5000', 'https://registry.example/', false],
    ['registry.example:5000', 'https://registry.example:5000/', true],
    ['10.0.0.0/8', 'https://10.200.3.4:5000/', true],
    ['10.0.0.0/8', 'https://11.0.0.1/', false],
    ['10.0.0.0/8', 'https://10.registry.example/', false],
    ['10.1.2.3', 'https://10.1.2.3/', true],
    ['10.1.2.3:5000', 'https://10.1.2.3:5001/', false],
    ['fd00::/8', 'https://[fd12::1]:5000/', true],
    ['[fd12::1]:5000', 'https://[fd12::1]:5000/', true],
    ['fd12:0::1', 'https://[fd12::1]/', true],
    ['fd00::/8', 'https://[fe80::1]/', false],
    ['10.0.0.0/99, ::/200, :, /8, .', 'https://10.0.0.1/', false],
    ['other.example, registry.example', 'https://registry.example/', true],
    ['', 'https://registry.example/', false],
  ])('NO_PROXY=%s with %s: direct is %s', (no, url, direct) => {
    expect(through(url, no) === undefined).toBe(direct);
  });

  it.each([
    ['socks5://proxy.example:1080'],
    ['http://user:secret-word@:80:80'],
    ['http://user:%zz-secret-word@proxy.example'],
  ])('refuses %s without quoting it', (https) => {
    try {
      proxyFor(new URL('https://registry.example/'), { https });
      expect.unreachable();
    } catch (error) {
      expect(error).toMatchObject({ code: 'invalid-argument', subject: 'HTTPS_PROXY' });
      expect(JSON.stringify(error) + String(error)).not.toContain('secret-word');
    }
  });
});

const IMAGE = singleImage();
const TAG_PATH = '/v2/team/app/manifests/1';
const CONTENT = randomContent(300_000, 'proxied');
const BLOB = blobOf(CONTENT);
const BLOB_PATH = `/v2/team/app/blobs/${BLOB.digest}`;
const PASSWORD = 'correct-horse';
const PAIR = Buffer.from(`user:${PASSWORD}`).toString('base64');
const PROXY_PAIR = Buffer.from(`${PROXY_USER}:${PROXY_PASSWORD}`).toString('base64');

const guarded =
  (step: Step): Step =>
  (request, response, body) =>
    (request.headers.authorization === `Basic ${PAIR}`
      ? step
      : reply(401, { 'www-authenticate': 'Basic realm="r"' }))(request, response, body);

for (const program of ['tinyproxy', 'squid'] as const) {
  describePeer([program, 'openssl'], `through ${program}, which wants a login`, () => {
    let authority: Authority;
    let proxy: RunningProxy;
    let wire: Wire;
    let registry: FaultRegistry;
    let opened: TestSource | undefined;
    const others: FaultRegistry[] = [];

    beforeAll(async () => {
      authority = makeAuthority();
      proxy = await startProxy(program);
    });
    afterAll(async () => {
      await proxy.stop();
      authority.remove();
    });
    afterEach(async () => {
      await opened?.source.close();
      opened = undefined;
      await wire.stop();
      await registry.stop();
      for (const other of others.splice(0)) await other.stop();
    });

    /** On Linux 0.0.0.0 is this machine too, and no loopback address by its looks. */
    const outside = (server: FaultRegistry) => server.host.replace('127.0.0.1', '0.0.0.0');

    async function start(
      tls: boolean,
      options: { login?: string; no?: string; secure?: boolean } = {},
    ): Promise<TestSource> {
      registry = await startFaultRegistry(
        tls ? { tls: authority.issue('registry', 'subjectAltName=IP:0.0.0.0,IP:127.0.0.1') } : {},
      );
      registry.script(TAG_PATH, guarded(manifest(IMAGE.bytes)));
      registry.script(BLOB_PATH, guarded(blob(CONTENT)));
      wire = await startWire(proxy.port);
      const address = `http://${options.login ?? `${PROXY_USER}:${PROXY_PASSWORD}`}@127.0.0.1:${wire.port}`;
      opened = await registrySource(outside(registry), {
        plainHttp: !tls,
        caFile: authority.ca,
        credentials: async () => ({ username: 'user', password: PASSWORD }),
        proxies: { http: address, https: address, no: options.no },
      });
      return opened;
    }

    it('reads over https by CONNECT: the proxy sees no login of the registry, the registry none of the proxy', async () => {
      const { source } = await start(true);
      expect((await source.manifest('1')).digest).toBe(IMAGE.digest);
      expect(await collect(source, BLOB)).toEqual(CONTENT);
      const seen = wire.sent();
      expect(seen).toContain(`CONNECT ${outside(registry)} HTTP/1.1`);
      expect(seen).toMatch(new RegExp(`proxy-authorization: Basic ${PROXY_PAIR}`, 'i'));
      expect(seen).not.toMatch(/\r\nauthorization:|\/v2\//i);
      expect(seen).not.toContain(PAIR);
      const headers = registry.requests.map((request) => JSON.stringify(request.headers));
      expect(headers.filter((text) => text.includes(PAIR))).not.toHaveLength(0);
      expect(headers.join()).not.toMatch(/proxy-/i);
      expect(headers.join()).not.toContain(PROXY_PAIR);
    });

    it('reads over http: the login of the proxy ends at the proxy', async () => {
      const { source } = await start(false);
      expect((await source.manifest('1')).digest).toBe(IMAGE.digest);
      expect(wire.sent()).toContain(`GET http://${outside(registry)}${TAG_PATH} HTTP/1.1`);
      expect(JSON.stringify(registry.requests)).not.toContain(PROXY_PAIR);
    });

    it('names the proxy where it wants a login and there is none', async () => {
      const { source } = await start(false, { login: 'x' });
      const error = await failureOf(source.manifest('1'));
      expect(error).toMatchObject({ code: 'source-unauthorized' });
      expect(registry.requests).toHaveLength(0);
    });

    it.each([true, false])('gives up at once where its login is wrong (https: %s)', async (tls) => {
      const test = await start(tls, { login: `${PROXY_USER}:other-secret` });
      const error = await failureOf(test.source.manifest('1'));
      expect(error.code).toBe('source-unauthorized');
      expect(error.message).toMatch(tls ? /the proxy http:\/\/127/ : /tinyproxy|401|the proxy http:\/\/127/);
      if (tls) expect(error.hint).toContain('HTTPS_PROXY');
      expect(registry.requests).toHaveLength(0);
      expect(test.waits).toHaveLength(0);
      expect(visible(error, test.events)).not.toMatch(/other-secret|b3RoZXItc2VjcmV0/);
    });

    it('checks the certificate of the registry through the proxy', async () => {
      await start(true);
      const test = await registrySource(outside(registry), {
        plainHttp: false,
        proxies: { https: `http://${PROXY_USER}:${PROXY_PASSWORD}@127.0.0.1:${wire.port}` },
      });
      const error = await failureOf(test.source.manifest('1'));
      await test.source.close();
      expect(error.code).toBe('source-tls');
      expect(registry.requests).toHaveLength(0);
    });

    it('speaks to a host in NO_PROXY itself', async () => {
      const { source } = await start(true, { no: '0.0.0.0/32' });
      expect((await source.manifest('1')).digest).toBe(IMAGE.digest);
      expect(wire.sent()).toBe('');
    });

    it('follows the redirect of a blob to another host through the proxy, without the Authorization header', async () => {
      const { source } = await start(false);
      const storage = await startFaultRegistry();
      others.push(storage);
      storage.script('/stored', blob(CONTENT));
      registry.script(
        BLOB_PATH,
        guarded(reply(307, { location: `http://${outside(storage)}/stored?signature=x` })),
      );
      expect(await collect(source, BLOB)).toEqual(CONTENT);
      expect(storage.requests[0]?.headers.authorization).toBeUndefined();
      expect(wire.sent()).toContain(`GET http://${outside(storage)}/stored?signature=x HTTP/1.1`);
    });
  });
}

describe('a proxy in trouble', () => {
  let proxy: FaultRegistry;
  afterEach(() => proxy.stop());

  it('that is silent counts as a stall, and is named', async () => {
    proxy = await startFaultRegistry();
    proxy.script('http', () => {});
    const address = `http://user:secret-word@${proxy.host}`;
    const test = await registrySource('registry.example', {
      plainHttp: true,
      retryTimes: 1,
      timeoutMs: 100,
      proxies: { http: address },
    });
    proxy.script(`http://registry.example${TAG_PATH}`, () => {});
    const error = await failureOf(test.source.manifest('1'));
    await test.source.close();
    expect(error.code).toBe('source-unreachable');
    expect(error.hint).toContain(proxy.url);
    expect(test.waits).toHaveLength(1);
    expect(visible(error, test.events)).not.toContain('secret-word');
  });

  it('that does not run is named, and asked again', async () => {
    proxy = await startFaultRegistry();
    const { url } = proxy;
    await proxy.stop();
    const test = await registrySource('registry.example', { plainHttp: false, proxies: { https: url } });
    const error = await failureOf(test.source.manifest('1'));
    await test.source.close();
    expect(error.code).toBe('source-unreachable');
    expect(error.hint).toContain(`${url}; check`);
    expect(test.waits).toHaveLength(3);
  });

  it.each([
    ['after the time limit', 100, 'source-unreachable'],
    ['when the run is stopped', 60_000, 'cancelled'],
  ])(
    'that never answers CONNECT is given up %s, and its connections closed',
    async (_when, timeoutMs, code) => {
      proxy = await startFaultRegistry();
      let open = 0;
      const silent = net.createServer((socket) => {
        open += 1;
        silent.emit('opened');
        socket.on('error', () => {}).resume();
        socket.once('close', () => {
          open -= 1;
          if (open === 0) silent.emit('all-closed');
        });
      });
      await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
      const address = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
      const test = await registrySource('registry.example', {
        plainHttp: false,
        retryTimes: 0,
        timeoutMs,
        proxies: { https: address },
      });
      const opened = once(silent, 'opened');
      const failing = failureOf(test.source.manifest('1'));
      await opened;
      if (code === 'cancelled') test.abort.abort();
      const error = await failing;
      await test.source.close();
      expect(error.code).toBe(code);
      if (code !== 'cancelled') expect(error.hint).toContain(address);
      if (open > 0) await once(silent, 'all-closed');
      silent.close();
    },
  );
});
