/** login and logout with the program, against a real registry; and what other tools make of the file. */
import { chmodSync, mkdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { programFile, runProgram, succeeded } from '../../fixtures/cli.ts';
import {
  blob,
  type FaultRegistry,
  manifest,
  reply,
  startFaultRegistry,
} from '../../fixtures/fault-registry.ts';
import { type IdentityServerOptions, identityServer, wantsToken } from '../../fixtures/identity-tokens.ts';
import { blobsOf, pushImage, singleImage } from '../../fixtures/images.ts';
import { hasPeer } from '../../fixtures/peers.ts';
import {
  REGISTRY_PASSWORD,
  REGISTRY_USER,
  type RunningRegistry,
  startAnyRegistry,
} from '../../fixtures/registry.ts';
import { makeWalk, type Walk } from '../../fixtures/walk.ts';
import { HAS_TERMINAL, runInTerminal } from './terminal.ts';

let registry: RunningRegistry;
let walk: Walk;
const PAIR = Buffer.from(`${REGISTRY_USER}:${REGISTRY_PASSWORD}`).toString('base64');

beforeAll(async () => {
  registry = await startAnyRegistry({ auth: true });
});
afterAll(() => registry.stop());
beforeEach(() => {
  walk = makeWalk();
});
afterEach(() => walk.sandbox.remove());

const config = (): string => walk.sandbox.path('home', '.docker', 'config.json');
const readConfig = (file = config()): Record<string, unknown> =>
  JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
function writeConfig(document: unknown, file = config()): void {
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, JSON.stringify(document));
}
const login = (args: readonly string[] = [], password = REGISTRY_PASSWORD, scope = registry.host) =>
  walk.sandbox.run(
    ['login', scope, '--plain-http', '--username', REGISTRY_USER, '--password-stdin', ...args],
    { input: `${password}\n` },
  );

describe('login', () => {
  it('keeps what the registry takes, for its owner alone, and logout forgets it', async () => {
    const result = succeeded(await login(), 'login');
    expect(result.stdout).toContain(`Logged in to ${registry.host} as ${REGISTRY_USER}`);
    expect(result.stdout + result.stderr).not.toContain(REGISTRY_PASSWORD);
    expect(readConfig()).toEqual({ auths: { [registry.host]: { auth: PAIR } } });
    expect(statSync(config()).mode & 0o777).toBe(0o600);
    succeeded(await walk.sandbox.run(['logout', registry.host]), 'logout');
    expect(readConfig()).toEqual({ auths: {} });
    const again = succeeded(await walk.sandbox.run(['logout', registry.host]), 'logout');
    expect(again.stdout).toContain('Was not logged in');
  });

  it('keeps nothing the registry refuses', async () => {
    const result = await login([], 'wrong-password');
    expect(result.code).toBe(6);
    expect(result.stderr).toContain('refuses the login');
    expect(result.stderr).not.toContain('wrong-password');
    expect(() => readConfig()).toThrow(/ENOENT/);
  });

  it('leaves everything else in the file as it is, and a link a link', async () => {
    const real = walk.sandbox.path('real.json');
    const others = { 'other.example': { auth: 'eDp5' }, 'https://index.docker.io/v1/': { auth: 'eDp6' } };
    writeConfig({ HttpHeaders: { a: 'b' }, auths: others, plugins: { x: { n: 1 } } }, real);
    mkdirSync(path.dirname(config()), { recursive: true });
    symlinkSync(real, config());
    succeeded(await login(), 'login');
    expect(readConfig(real)).toEqual({
      HttpHeaders: { a: 'b' },
      auths: { ...others, [registry.host]: { auth: PAIR } },
      plugins: { x: { n: 1 } },
    });
  });

  it('goes to the file that is asked first for that registry', async () => {
    const auth = walk.sandbox.path('home', 'run', 'containers', 'auth.json');
    writeConfig({ auths: { [registry.host]: { auth: 'eDp5' } } }, auth);
    succeeded(await login(), 'login');
    expect(readConfig(auth)).toEqual({ auths: { [registry.host]: { auth: PAIR } } });
    expect(() => readConfig()).toThrow(/ENOENT/);
  });

  it('gives the secret to the helper the file names, and logout tells it to erase', async () => {
    const bin = walk.sandbox.path('bin');
    mkdirSync(bin);
    const program = path.join(bin, 'docker-credential-test');
    writeFileSync(program, `#!/bin/sh\n{ echo "$@"; cat; echo; } >> "${walk.sandbox.path('told')}"\n`);
    chmodSync(program, 0o755);
    const env = { PATH: `${bin}:${process.env['PATH']}` };
    writeConfig({ credsStore: 'test' });
    const args = ['login', registry.host, '--plain-http', '-u', REGISTRY_USER, '--password-stdin'];
    succeeded(await walk.sandbox.run(args, { env, input: REGISTRY_PASSWORD }), 'login');
    expect(readConfig()).toEqual({ credsStore: 'test', auths: { [registry.host]: {} } });
    succeeded(await walk.sandbox.run(['logout', registry.host], { env }), 'logout');
    expect(readConfig()).toEqual({ credsStore: 'test', auths: {} });
    expect(readFileSync(walk.sandbox.path('told'), 'utf8').trim().split(/\n+/)).toEqual([
      'store',
      JSON.stringify({ ServerURL: registry.host, Username: REGISTRY_USER, Secret: REGISTRY_PASSWORD }),
      'erase',
      registry.host,
    ]);
  });

  it.skipIf(!HAS_TERMINAL)('asks at a terminal, where the password does not show', async () => {
    const { screen, code, left } = await runInTerminal(
      [process.execPath, programFile(), 'login', registry.host, '--plain-http'],
      { ...(walk.sandbox.env as Record<string, string>), TERM: 'xterm' },
      [
        [`User name at ${registry.host}: `, `${REGISTRY_USER}\r`],
        [`Password of ${REGISTRY_USER}: `, `${REGISTRY_PASSWORD}\r`],
      ],
    );
    expect([code, left]).toEqual([0, 0]);
    expect(screen).not.toContain(REGISTRY_PASSWORD);
    expect(readConfig()).toEqual({ auths: { [registry.host]: { auth: PAIR } } });
  });

  it('asks nobody where there is nobody, and takes no password as an argument', async () => {
    const silent = await walk.sandbox.run(['login', registry.host, '--plain-http', '--no-input']);
    expect(silent.stderr).toContain('--password-stdin');
    expect(silent.code).not.toBe(0);
    const typed = await walk.sandbox.run(['login', registry.host, '-u', 'me', '--password', 'word-on-line']);
    expect(typed.code).toBe(2);
  });

  it.each(['', 'a b', '../x', 'host/UPPER', 'host:port', 'https://'])(
    'refuses the registry %j',
    async (text) => {
      expect((await login([], 'x', text)).code).toBe(2);
    },
  );

  it.runIf(hasPeer('skopeo'))('is a login for skopeo and podman too, and theirs is one here', async () => {
    const file = walk.sandbox.path('auth.json');
    succeeded(await login(['--authfile', file]), 'login');
    const options = { env: walk.sandbox.env as Record<string, string> };
    const asked = ['login', '--get-login', '--authfile', file, registry.host];
    expect((await runProgram('skopeo', asked, options)).stdout.trim()).toBe(REGISTRY_USER);
    const other = walk.sandbox.path('skopeo.json');
    const theirs = ['login', '--tls-verify=false', '--authfile', other, '-u', REGISTRY_USER];
    const input = REGISTRY_PASSWORD;
    succeeded(
      await runProgram('skopeo', [...theirs, '--password-stdin', registry.host], { ...options, input }),
      'skopeo login',
    );
    const out = succeeded(await walk.sandbox.run(['logout', registry.host, '--authfile', other]), 'logout');
    expect(out.stdout).toContain(other);
  });
});

describe('login at a token server', () => {
  let server: FaultRegistry;
  beforeEach(async () => {
    server = await startFaultRegistry();
  });
  afterEach(() => server.stop());

  it('asks for a token without a scope, and shows it to the registry', async () => {
    server.script('/v2/', (request, response, body) =>
      (request.headers.authorization === 'Bearer token-for-login'
        ? reply(200, {}, '{}')
        : reply(401, { 'www-authenticate': `Bearer realm="${server.url}/token",service="reg"` }))(
        request,
        response,
        body,
      ),
    );
    server.script('/token', reply(404), reply(200, {}, JSON.stringify({ token: 'token-for-login' })));
    const result = succeeded(await login(['--json'], REGISTRY_PASSWORD, server.host), 'login');
    expect(JSON.parse(result.stdout)).toMatchObject({ result: { checked: true, kept: 'password' } });
    const [post, get, ...more] = server.requestsFor('/token');
    expect(post?.method).toBe('POST');
    expect(new URLSearchParams(post?.body).has('scope')).toBe(false);
    expect(get).toMatchObject({ headers: { authorization: `Basic ${PAIR}` } });
    expect(new URL(get?.url ?? '', server.url).searchParams.has('scope')).toBe(false);
    expect(more).toEqual([]);
    expect(readConfig()).toEqual({ auths: { [server.host]: { auth: PAIR } } });
  });

  const image = singleImage();
  const TOKEN = 'identity-token-number-';
  const entry = (number: number) => ({
    auth: Buffer.from(`${REGISTRY_USER}:`).toString('base64'),
    identitytoken: `${TOKEN}${number}`,
  });
  function serve(options: Partial<IdentityServerOptions> = {}) {
    const tokens = identityServer({ username: REGISTRY_USER, password: REGISTRY_PASSWORD, ...options });
    const realm = `${server.url}/token`;
    server.script('/token', tokens.step);
    server.script('/v2/', wantsToken(realm, reply(200, {}, '{}')));
    server.script('/v2/app/manifests/1', wantsToken(realm, manifest(image.bytes)));
    for (const { digest, bytes } of blobsOf(image))
      server.script(`/v2/app/blobs/${digest}`, wantsToken(realm, blob(bytes())));
    return tokens;
  }
  const pull = () =>
    walk.tryExport([`${server.host}/app:1`], walk.sandbox.path('out.tar'), {
      args: ['--dry-run', '--retry-times', '0'],
    });

  it('keeps an identity token in place of the password, as docker does, and reads with it', async () => {
    const tokens = serve();
    const result = succeeded(await login([], REGISTRY_PASSWORD, server.host), 'login');
    expect(result.stdout).toContain('kept an identity token, not the password, in');
    expect(result.stdout + result.stderr).not.toContain(TOKEN);
    expect(readConfig()).toEqual({ auths: { [server.host]: entry(1) } });
    succeeded(await pull(), 'export');
    expect(tokens.asked.at(-1)).toBe('POST refresh_token repository:app:pull');
  });

  it('gives it to a helper under the user name that docker has for it', async () => {
    serve({ rotates: true });
    const bin = walk.sandbox.path('bin');
    mkdirSync(bin);
    // Keeps one login, as it was given.
    const kept = walk.sandbox.path('kept');
    const script = `#!/bin/sh\ncase "$1" in store) cat > "${kept}";; get) cat > /dev/null; cat "${kept}";; esac\n`;
    writeFileSync(path.join(bin, 'docker-credential-test'), script, { mode: 0o755 });
    const env = { PATH: `${bin}:${process.env['PATH']}` };
    writeConfig({ credsStore: 'test' });
    const args = ['login', server.host, '--plain-http', '-u', REGISTRY_USER, '--password-stdin'];
    succeeded(await walk.sandbox.run(args, { env, input: REGISTRY_PASSWORD }), 'login');
    expect(readConfig()).toEqual({ credsStore: 'test', auths: { [server.host]: {} } });
    const login_ = (number: number) => ({
      ServerURL: server.host,
      Username: '<token>',
      Secret: `${TOKEN}${number}`,
    });
    expect(readConfig(kept)).toEqual(login_(2));
    const image_ = [`${server.host}/app:1`];
    const options = { args: ['--dry-run'], env };
    succeeded(await walk.tryExport(image_, walk.sandbox.path('out.tar'), options), 'export');
    expect(readConfig(kept)).toEqual(login_(3));
  });

  it('keeps the token that the server gives in place of the one it took, and nothing else changes', async () => {
    const tokens = serve({ rotates: true });
    const other = walk.sandbox.path('gone', 'auth.json');
    writeConfig({ auths: { [server.host]: entry(1) } }, other);
    server.script('/token', (request, response, body) => {
      rmSync(other, { force: true });
      tokens.step(request, response, body);
    });
    const result = await walk.tryExport([`${server.host}/app:1`], walk.sandbox.path('out.tar'), {
      args: ['--dry-run', '--authfile', other],
    });
    succeeded(result, 'export');
    expect(result.stderr).toContain('gave a new identity token, which could not be kept');
    expect(result.stdout + result.stderr).not.toContain(TOKEN);
  });

  it('says where a registry wants no login', async () => {
    server.script('/v2/', reply(200, {}, '{}'));
    const result = succeeded(await login([], REGISTRY_PASSWORD, server.host), 'login');
    expect(result.stderr).toContain('answers without a login');
  });
});

describe('export', () => {
  it('reads with the login, with another for a part of the registry, or with --username', async () => {
    const image = singleImage();
    await pushImage(registry.url, 'team/app', 'v1', image, { auth: `${REGISTRY_USER}:${REGISTRY_PASSWORD}` });
    await walk.init({ keys: 'native' });
    const name = `${registry.host}/team/app:v1`;
    const attempt = (options?: Parameters<Walk['tryExport']>[2]) =>
      walk.tryExport([name], walk.sandbox.path('out.tar'), {
        ...options,
        args: ['--force', ...(options?.args ?? [])],
      });
    const refused = await attempt();
    expect(refused.code).toBe(6);
    expect(refused.stderr).toContain(`sealift login ${registry.host}`);
    const given = await attempt({
      args: ['--username', REGISTRY_USER, '--password-stdin'],
      input: `${REGISTRY_PASSWORD}\n`,
    });
    succeeded(given, 'export with --username');
    expect(given.stderr + given.stdout).not.toContain(REGISTRY_PASSWORD);
    // The host's login is wrong; the one for the part is right.
    writeConfig({ auths: { [registry.host]: { auth: 'eDp5' } } });
    expect((await attempt()).code).toBe(6);
    succeeded(await login([], REGISTRY_PASSWORD, `${registry.host}/team`), 'login for a part');
    succeeded(await attempt(), 'export');
    expect((await attempt({ args: ['--username', 'x'] })).code).toBe(2);
  });
});
