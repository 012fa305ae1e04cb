/** Registries that want a password and show a certificate of their own: said explicitly, or refused by name. */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type RunResult, succeeded } from '../../fixtures/cli.ts';
import { type FixtureManifest, multiArchImage, pushImage } from '../../fixtures/images.ts';
import { describePeer } from '../../fixtures/peers.ts';
import {
  REGISTRY_PASSWORD,
  REGISTRY_USER,
  type RunningRegistry,
  startAnyRegistry,
  startDockerRegistry,
  TLS_CERTIFICATE_FILE,
} from '../../fixtures/registry.ts';
import { makeWalk, type Walk } from '../../fixtures/walk.ts';

const image: FixtureManifest = multiArchImage();
let registry: RunningRegistry;
let walk: Walk;
let right: string;
let wrong: string;

beforeAll(async () => {
  registry = await startAnyRegistry({ tls: true, auth: true });
  await pushImage(registry.url, 'team/multi', 'v1', image, {
    ca: readFileSync(TLS_CERTIFICATE_FILE),
    auth: `${REGISTRY_USER}:${REGISTRY_PASSWORD}`,
  });
  walk = makeWalk();
  await walk.init({ keys: 'native' });
  const authfile = (name: string, password: string): string => {
    const file = walk.sandbox.path(name);
    const auth = Buffer.from(`${REGISTRY_USER}:${password}`).toString('base64');
    writeFileSync(file, JSON.stringify({ auths: { [registry.host]: { auth } } }), { mode: 0o600 });
    return file;
  };
  right = authfile('right.json', REGISTRY_PASSWORD);
  wrong = authfile('wrong.json', 'wrong');
});
afterAll(async () => {
  await registry?.stop();
  walk?.sandbox.remove();
});

let runs = 0;
function attempt(args: readonly string[], env: Record<string, string> = {}): Promise<RunResult> {
  runs += 1;
  return walk.sandbox.run(
    [
      'export',
      `registry.example/team/multi:v1=docker://${registry.host}/team/multi:v1`,
      ...['--output', walk.sandbox.path(`${runs}.sealift`)],
      ...['--passphrase-file', walk.passphraseFile, '--no-input', '--json', '--retry-times', '0'],
      ...args,
    ],
    { env },
  );
}

function expectRefused(result: RunResult, code: string): void {
  expect(result.stdout).not.toContain(REGISTRY_PASSWORD);
  expect(result.stderr).not.toContain(REGISTRY_PASSWORD);
  expect(JSON.parse(result.stdout)).toMatchObject({ error: { code } });
  expect(result.code).toBe(6);
}

it('refuses a certificate nobody vouched for', async () => {
  expectRefused(await attempt(['--authfile', right]), 'source-tls');
});

it('takes --ca-file with the right password', async () => {
  succeeded(await attempt(['--authfile', right, '--ca-file', TLS_CERTIFICATE_FILE]), 'export');
});

it('takes --insecure-skip-tls-verify, and says what that weakens', async () => {
  const result = succeeded(await attempt(['--authfile', right, '--insecure-skip-tls-verify']), 'export');
  const { weakened } = (JSON.parse(result.stdout) as { result: { weakened: { option: string }[] } }).result;
  expect(weakened.map((one) => one.option).join()).toContain('insecure-skip-tls-verify');
});

it.each([
  ['no password', []],
  ['a wrong password', ['wrong']],
])('refuses with %s', async (_, file) => {
  const authfile = file.length > 0 ? ['--authfile', wrong] : [];
  expectRefused(await attempt([...authfile, '--ca-file', TLS_CERTIFICATE_FILE]), 'source-unauthorized');
});

it('says so where nobody answers, and where there is no such image', async () => {
  const nobody = await walk.sandbox.run([
    'export',
    'registry.example/a:v1=docker://127.0.0.1:1/a:v1',
    ...[
      '--output',
      walk.sandbox.path('nobody.sealift'),
      '--plain-http',
      '--no-input',
      '--json',
      '--retry-times',
      '0',
    ],
    ...['--passphrase-file', walk.passphraseFile],
  ]);
  expectRefused(nobody, 'source-unreachable');
  const missing = await walk.sandbox.run([
    'export',
    `registry.example/a:v1=docker://${registry.host}/team/multi:none`,
    ...['--output', walk.sandbox.path('missing.sealift'), '--no-input', '--json', '--retry-times', '0'],
    ...['--passphrase-file', walk.passphraseFile, '--authfile', right, '--ca-file', TLS_CERTIFICATE_FILE],
  ]);
  expectRefused(missing, 'source-not-found');
});

it.each(['SSL_CERT_FILE', 'SSL_CERT_DIR'])('takes the authorities of %s', async (variable) => {
  const directory = walk.sandbox.path('authorities');
  mkdirSync(directory, { recursive: true });
  copyFileSync(TLS_CERTIFICATE_FILE, `${directory}/authority.pem`);
  const place = variable === 'SSL_CERT_DIR' ? directory : TLS_CERTIFICATE_FILE;
  succeeded(await attempt(['--authfile', right], { [variable]: place }), 'export');
});

it('takes the login for a part of the registry before that for all of it, and one of ~/.dockercfg', async () => {
  const auth = (password: string) => ({
    auth: Buffer.from(`${REGISTRY_USER}:${password}`).toString('base64'),
  });
  const file = walk.sandbox.path('parts.json');
  const keep = (auths: object) => writeFileSync(file, JSON.stringify({ auths }), { mode: 0o600 });
  const trusted = ['--ca-file', TLS_CERTIFICATE_FILE];
  keep({ [registry.host]: auth('wrong'), [`${registry.host}/team`]: auth(REGISTRY_PASSWORD) });
  succeeded(await attempt([...trusted, '--authfile', file]), 'export');
  keep({ [registry.host]: auth(REGISTRY_PASSWORD), [`${registry.host}/team/multi`]: auth('wrong') });
  expectRefused(await attempt([...trusted, '--authfile', file]), 'source-unauthorized');

  const old = walk.sandbox.path('home', '.dockercfg');
  writeFileSync(old, JSON.stringify({ [registry.host]: auth(REGISTRY_PASSWORD) }), { mode: 0o600 });
  succeeded(await attempt(trusted), 'export');
});

const hasIpv6 = Object.values(os.networkInterfaces())
  .flat()
  .some((one) => one?.address === '::1');

describePeer(['docker-registry'], 'over IPv6', () => {
  it.runIf(hasIpv6)('reads from an address in brackets', async () => {
    const six = await startDockerRegistry({ address: '[::1]' });
    try {
      await pushImage(six.url, 'team/multi', 'v1', image);
      const bundle = walk.sandbox.path('six.sealift');
      await walk.export([`${six.host}/team/multi:v1`], bundle);
      const { images } = await walk.json<{ images: { name: string }[] }>(['inspect', bundle]);
      expect(images.map(({ name }) => name)).toEqual([`${six.host}/team/multi:v1`]);
    } finally {
      await six.stop();
    }
  });
});
