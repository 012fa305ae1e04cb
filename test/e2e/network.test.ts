/** The program in a network that is not simple: mirrors that lie, a proxy, certificates of single registries. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Authority, makeAuthority } from '../../fixtures/certificates.ts';
import { succeeded } from '../../fixtures/cli.ts';
import {
  blob,
  endless,
  type FaultRegistry,
  type FaultRegistryOptions,
  manifest,
  reply,
  type Step,
  startFaultRegistry,
} from '../../fixtures/fault-registry.ts';
import { blobsOf, type FixtureManifest, largeImage, singleImage } from '../../fixtures/images.ts';
import { describePeer } from '../../fixtures/peers.ts';
import { type RunningProxy, startProxy, startWire, type Wire } from '../../fixtures/proxy.ts';
import { makeWalk, type Walk } from '../../fixtures/walk.ts';

let walk: Walk;
let started: { stop(): Promise<void> }[];

beforeEach(async () => {
  walk = makeWalk();
  started = [];
  await walk.init({ keys: 'native' });
});
afterEach(async () => {
  for (const one of started) await one.stop();
  walk.sandbox.remove();
});

async function serve(
  image: FixtureManifest,
  options: FaultRegistryOptions & { readonly spoilt?: boolean } = {},
): Promise<FaultRegistry> {
  const registry = await startFaultRegistry(options);
  started.push(registry);
  for (const reference of ['v1', image.digest]) {
    registry.script(`/v2/team/app/manifests/${reference}`, manifest(image.bytes, image.mediaType));
  }
  for (const one of blobsOf(image)) {
    const bytes = Buffer.from(one.bytes());
    if (options.spoilt === true) bytes[0] = (bytes[0] ?? 0) ^ 1;
    registry.script(`/v2/team/app/blobs/${one.digest}`, blob(bytes));
  }
  return registry;
}

describe('two mirrors, of which one is corrupt', () => {
  const image = largeImage(10, 4_500_000);

  async function start(): Promise<{ bad: FaultRegistry; good: FaultRegistry; own: FaultRegistry }> {
    const bad = await serve(image, { spoilt: true });
    return { bad, good: await serve(image), own: await serve(image) };
  }

  it('give a right bundle; the corrupt one is named, and asked for few blobs', async () => {
    const { bad, good, own } = await start();
    const bundle = walk.sandbox.path('out.tar');
    const result = await walk.export([`${own.host}/team/app:v1`], bundle, {
      args: ['--mirror', `${own.host}=${bad.host},${good.host}`],
    });
    expect(result.stderr).toContain(`${bad.host}/team/app: sends something else than was asked for`);
    // The config tells already; nothing large is read from it.
    expect(bad.requests.filter(({ url }) => url.includes('/blobs/')).length).toBeLessThanOrEqual(4);
    expect(own.requests.filter(({ url }) => url.includes('/blobs/'))).toEqual([]);
    await walk.pin(bundle, await walk.rootFingerprint());
    await walk.import(bundle);
  });

  it('hold for a stream, and from registries.conf', async () => {
    const { bad, good, own } = await start();
    const directory = walk.sandbox.path('home', '.config', 'containers');
    mkdirSync(directory, { recursive: true });
    writeFileSync(
      `${directory}/registries.conf`,
      `[[registry]]\nlocation = "${own.host}"\n${[bad, good]
        .map(({ host }) => `[[registry.mirror]]\nlocation = "${host}"\n`)
        .join('')}`,
    );
    const result = await walk.export([`${own.host}/team/app:v1`], '-');
    expect(result.stderr).toContain(`${bad.host}/team/app: sends something else`);
    expect(good.requests.filter(({ url }) => url.includes('/blobs/')).length).toBeGreaterThan(9);
    const file = walk.sandbox.path('streamed.tar');
    writeFileSync(file, result.stdoutBytes);
    await walk.pin(file, await walk.rootFingerprint());
    await walk.import(file);
  });
});

describe('a registry that sends', () => {
  const image = singleImage();
  const blobs = blobsOf(image);
  const layer = blobs.at(-1);
  const layerBytes = Buffer.from(layer?.bytes() ?? []);
  const json = 'application/vnd.oci.image.manifest.v1+json';
  const cases: [string, string, string, Step][] = [
    ['a layer with another digest', 'blob', 'digest-mismatch', blob(Buffer.from(layerBytes).fill(1, 3, 9))],
    ['a layer that is shorter', 'blob', 'size-mismatch', reply(200, {}, layerBytes.subarray(1))],
    [
      'a layer that is longer',
      'blob',
      'size-mismatch',
      reply(200, {}, Buffer.concat([layerBytes, layerBytes])),
    ],
    ['a layer without end', 'blob', 'source-too-large', endless()],
    ['no layer', 'blob', 'source-not-found', reply(404)],
    ['half a JSON manifest', 'manifest', 'json-invalid', manifest(Buffer.from('{"schemaVersion":2,'), json)],
    ['a page for a manifest', 'manifest', 'json-invalid', manifest(Buffer.from('<html>'), 'text/html')],
    [
      'a manifest of another type',
      'manifest',
      'media-type-mismatch',
      manifest(image.bytes, 'application/vnd.oci.image.index.v1+json'),
    ],
    ['a manifest without end', 'manifest', 'source-too-large', endless(200, { 'content-type': json })],
  ];

  it.each(cases)('%s ends the export with a code of its own', async (_what, kind, code, step) => {
    const own = await serve(image);
    own.script(kind === 'blob' ? `/v2/team/app/blobs/${layer?.digest}` : '/v2/team/app/manifests/v1', step);
    const file = walk.sandbox.path('out.tar');
    const result = await walk.tryExport([`${own.host}/team/app:v1`], file, {
      args: ['--json', '--retry-times', '0'],
    });
    const document = JSON.parse(result.stdout) as { ok: boolean; error: { code: string } };
    expect([document.ok, document.error.code]).toEqual([false, code]);
    expect(existsSync(file)).toBe(false);
  });
});

describe('a cache', () => {
  it('serves the next export', async () => {
    const image = largeImage(3, 300_000);
    const own = await serve(image);
    const attempt = (name: string) =>
      walk.export([`${own.host}/team/app:v1`], walk.sandbox.path(name), { args: ['--cache', 'kept'] });
    await attempt('one.tar');
    const before = own.requests.filter(({ url }) => url.includes('/blobs/')).length;
    expect(before).toBeGreaterThan(2);
    await attempt('two.tar');
    expect(own.requests.filter(({ url }) => url.includes('/blobs/'))).toHaveLength(before);
  });
});

describePeer(['tinyproxy', 'openssl'], 'behind a proxy that wants a login', () => {
  let authority: Authority;
  let proxy: RunningProxy;
  let wire: Wire;
  let registry: FaultRegistry;
  let host: string;

  beforeEach(async () => {
    authority = makeAuthority();
    proxy = await startProxy('tinyproxy');
    wire = await startWire(proxy.port);
    started.push(wire, proxy);
    registry = await serve(singleImage(), {
      tls: authority.issue('registry', 'subjectAltName=IP:0.0.0.0'),
    });
    // This machine, but no loopback address by its looks.
    host = registry.host.replace('127.0.0.1', '0.0.0.0');
    mkdirSync(walk.sandbox.path('home', '.config', 'containers', 'certs.d', host), { recursive: true });
  });
  afterEach(() => authority.remove());

  const attempt = (env: Record<string, string>) =>
    walk.sandbox.run(
      [
        ...[
          'export',
          `${host}/team/app:v1`,
          '--output',
          walk.sandbox.path('out.tar'),
          '--no-input',
          '--force',
        ],
        ...['--passphrase-file', walk.passphraseFile, '--retry-times', '0'],
      ],
      { env },
    );
  const throughWire = (): string => proxy.url.replace(`:${proxy.port}`, `:${wire.port}`);

  it('goes through HTTPS_PROXY with a CA from SSL_CERT_FILE, and past it with NO_PROXY', async () => {
    const file = walk.sandbox.path('system.pem');
    writeFileSync(file, authority.ca);
    const env = { HTTPS_PROXY: throughWire(), SSL_CERT_FILE: file };
    const result = succeeded(await attempt(env), 'export');
    expect(wire.sent()).toContain(`CONNECT ${host} HTTP/1.1`);
    expect(result.stderr + result.stdout).not.toContain(new URL(proxy.url).password);
    const before = wire.sent().length;
    succeeded(await attempt({ ...env, no_proxy: '0.0.0.0' }), 'export');
    expect(wire.sent()).toHaveLength(before);
  });

  it('takes the lower-case variable, and a CA from certs.d', async () => {
    const env = { https_proxy: throughWire() };
    expect((await attempt(env)).stderr).toContain('--ca-file');
    const directory = walk.sandbox.path('home', '.config', 'containers', 'certs.d', host);
    writeFileSync(`${directory}/ca.crt`, authority.ca);
    succeeded(await attempt(env), 'export');
    expect(wire.sent()).toContain(`CONNECT ${host} HTTP/1.1`);
  });

  it('says so where the login is wrong', async () => {
    const result = await attempt({ HTTPS_PROXY: `http://x:wrong-secret@127.0.0.1:${proxy.port}` });
    expect(result.code).toBe(6);
    expect(result.stderr).toContain('HTTPS_PROXY');
    expect(result.stderr).not.toContain('wrong-secret');
  });
});
