import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { keepRenewed } from '../../../cli/options/credential-store.ts';
import { loadCredentials } from '../../../cli/options/credentials.ts';
import { isSealiftError, type SealiftError } from '../../../core/errors.ts';

let home: string;
beforeEach(() => {
  home = mkdtempSync(path.join(os.tmpdir(), 'sealift-credentials-'));
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

const pair = (user: string, password: string): string =>
  Buffer.from(`${user}:${password}`).toString('base64');

const token = (identityToken: string) => ({ identityToken, renewed: expect.any(Function) as () => void });

function write(file: string, document: unknown): string {
  const full = path.join(home, file);
  mkdirSync(path.dirname(full), { recursive: true });
  writeFileSync(full, typeof document === 'string' ? document : JSON.stringify(document));
  return full;
}

function load(env: Record<string, string> = {}, authFile?: string) {
  return loadCredentials({ env, homedir: home, authFile }, async () => {});
}

async function failureOf(promise: Promise<unknown>): Promise<SealiftError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!isSealiftError(error)) throw new Error(`want a SealiftError, got ${String(error)}`);
  return error;
}

describe('entries', () => {
  it.each([
    ['auth', { auth: pair('me', 'pass:word') }, { username: 'me', password: 'pass:word' }],
    ['padded auth', { auth: pair('me', 'pw\0\0') }, { username: 'me', password: 'pw' }],
    ['user name and password', { username: 'me', password: 'pw' }, { username: 'me', password: 'pw' }],
    ['identity token', { auth: pair('me', ''), identitytoken: 'idt' }, { ...token('idt') }],
    ['the user name of a token', { auth: pair('<token>', 'idt') }, { ...token('idt') }],
    ['nothing', {}, undefined],
  ])('with %s', async (_what, entry, want) => {
    write('.docker/config.json', { auths: { 'r.example:5000': entry } });
    expect(await load()('r.example:5000', 'a/b')).toEqual(want);
  });

  it('are for their host only', async () => {
    write('.docker/config.json', { auths: { 'r.example': { auth: pair('me', 'pw') } } });
    const find = load();
    for (const host of ['r.example:5000', 'example', 'x.r.example', 'r.example.evil.test', 'docker.io']) {
      expect(await find(host, 'r.example/app')).toBeUndefined();
    }
  });

  it.each(['https://index.docker.io/v1/', 'docker.io', 'index.docker.io', 'https://registry-1.docker.io'])(
    'for Docker Hub may be filed under %s',
    async (key) => {
      write('.docker/config.json', { auths: { [key]: { auth: pair('hub', 'pw') } } });
      expect(await load()('docker.io', 'library/alpine')).toMatchObject({ username: 'hub' });
    },
  );

  it.each(['https://r.example', 'https://r.example/v1/', 'http://r.example/v2/', 'r.example/'])(
    'may be filed under the URL %s',
    async (key) => {
      write('.docker/config.json', { auths: { [key]: { auth: pair('me', 'pw') } } });
      expect(await load()('r.example', 'app')).toMatchObject({ username: 'me' });
    },
  );

  it('for a repository come before those for its host', async () => {
    write('.docker/config.json', {
      auths: {
        'r.example': { auth: pair('host', 'pw') },
        'r.example/team': { auth: pair('team', 'pw') },
        'r.example/team/app': { auth: pair('app', 'pw') },
      },
    });
    const find = load();
    expect(await find('r.example', 'team/app')).toMatchObject({ username: 'app' });
    expect(await find('r.example', 'team/other')).toMatchObject({ username: 'team' });
    expect(await find('r.example', 'teamster/app')).toMatchObject({ username: 'host' });
    expect(await find('r.example')).toMatchObject({ username: 'host' });
  });
});

describe('files', () => {
  const entry = (user: string) => ({ auths: { 'r.example': { auth: pair(user, 'pw') } } });

  it('are looked through in the order of podman, then docker', async () => {
    write('.docker/config.json', entry('docker'));
    expect(await load()('r.example')).toMatchObject({ username: 'docker' });
    write('.config/containers/auth.json', entry('config'));
    expect(await load()('r.example')).toMatchObject({ username: 'config' });
    write('run/containers/auth.json', entry('runtime'));
    const env = { XDG_RUNTIME_DIR: path.join(home, 'run') };
    expect(await load(env)('r.example')).toMatchObject({ username: 'runtime' });
    const file = write('named.json', entry('named'));
    expect(await load({ ...env, REGISTRY_AUTH_FILE: file })('r.example')).toMatchObject({
      username: 'named',
    });
    const option = write('option.json', entry('option'));
    expect(await load({ ...env, REGISTRY_AUTH_FILE: file }, option)('r.example')).toMatchObject({
      username: 'option',
    });
  });

  it('may be where DOCKER_CONFIG says', async () => {
    write('elsewhere/config.json', entry('elsewhere'));
    const find = load({ DOCKER_CONFIG: path.join(home, 'elsewhere') });
    expect(await find('r.example')).toMatchObject({ username: 'elsewhere' });
  });

  it('may be missing, but not the one that was named', async () => {
    expect(await load()('r.example')).toBeUndefined();
    const error = await failureOf(load({}, path.join(home, 'missing.json'))('r.example'));
    expect(error).toMatchObject({ code: 'invalid-argument', subject: path.join(home, 'missing.json') });
  });

  it.each([
    ['no JSON', '{"auths":{"r.example":{"auth":"SECRET'],
    ['a key twice', '{"auths":{"SECRET":{},"SECRET":{}}}'],
    ['an array', '["SECRET"]'],
    ['auths in words', '{"auths":"SECRET"}'],
    ['an entry in words', '{"auths":{"r.example":"SECRET"}}'],
    ['auth that is not base64', '{"auths":{"r.example":{"auth":"SECRET!"}}}'],
    ['auth without a colon', '{"auths":{"r.example":{"auth":"SECRETSE"}}}'],
    ['a number', '{"auths":{"r.example":{"password":1234567}}}'],
    ['helpers in words', '{"credHelpers":"SECRET"}'],
  ])('with %s are refused without quoting them', async (_what, text) => {
    write('.docker/config.json', text);
    const error = await failureOf(load()('r.example'));
    expect(error.code).toBe('invalid-argument');
    expect(`${error.message} ${error.hint} ${JSON.stringify(error)} ${String(error.cause)}`).not.toMatch(
      /SECRET|1234567/,
    );
  });

  it('above the limit are refused', async () => {
    write('.docker/config.json', `{"auths":{},"x":"${'x'.repeat(5_000_000)}"}`);
    expect((await failureOf(load()('r.example'))).code).toBe('invalid-argument');
  });

  it('of any content give credentials or an error of ours', async () => {
    const value = fc.oneof(fc.jsonValue(), fc.record({ auth: fc.string(), identitytoken: fc.jsonValue() }));
    await fc.assert(
      fc.asyncProperty(fc.record({ auths: fc.record({ 'r.example': value }) }), async (document) => {
        write('.docker/config.json', document);
        const error: unknown = await load()('r.example').then(
          () => undefined,
          (reason: unknown) => reason,
        );
        expect(error === undefined || isSealiftError(error)).toBe(true);
      }),
      { numRuns: 50 },
    );
  });
});

describe.skipIf(process.platform === 'win32')('credential helpers', () => {
  function helper(name: string, body: string): Record<string, string> {
    const file = write(
      `bin/docker-credential-${name}`,
      `#!/bin/sh\ncat > "${home}/asked"\necho "$@" >> "${home}/asked"\n${body}\n`,
    );
    chmodSync(file, 0o755);
    return { PATH: `${path.join(home, 'bin')}${path.delimiter}/usr/bin${path.delimiter}/bin` };
  }
  const answer = (user: string, secret: string) =>
    `printf '{"ServerURL":"x","Username":"${user}","Secret":"${secret}"}'`;
  const asked = (): string => readFileSync(path.join(home, 'asked'), 'utf8');

  it('are asked for the host on standard input', async () => {
    write('.docker/config.json', { credsStore: 'test' });
    const env = helper('test', answer('me', 'pw'));
    expect(await load(env)('r.example:5000', 'app')).toEqual({ username: 'me', password: 'pw' });
    expect(asked()).toBe('r.example:5000\nget\n');
  });

  it('are asked for Docker Hub by its old address', async () => {
    write('.docker/config.json', { credHelpers: { 'docker.io': 'test' } });
    await load(helper('test', answer('me', 'pw')))('docker.io', 'library/alpine');
    expect(asked()).toBe('https://index.docker.io/v1/\nget\n');
  });

  it('may hold an identity token', async () => {
    write('.docker/config.json', { credsStore: 'test' });
    expect(await load(helper('test', answer('<token>', 'idt')))('r.example')).toEqual(token('idt'));
  });

  it('are asked once for each repository', async () => {
    write('.docker/config.json', { credsStore: 'test' });
    const find = load(helper('test', `echo x >> "${home}/count"; ${answer('me', 'pw')}`));
    await Promise.all([find('r.example', 'a'), find('r.example', 'a'), find('r.example', 'a')]);
    expect(readFileSync(path.join(home, 'count'), 'utf8')).toBe('x\n');
  });

  it('for one host are not asked for another', async () => {
    write('.docker/config.json', { credHelpers: { 'other.example': 'test' } });
    expect(await load(helper('test', answer('me', 'pw')))('r.example')).toBeUndefined();
  });

  it('that know nothing leave it to the file', async () => {
    write('.docker/config.json', {
      credsStore: 'test',
      auths: { 'r.example': { auth: pair('file', 'pw') } },
    });
    const env = helper('test', 'echo "credentials not found in native keychain"; exit 1');
    expect(await load(env)('r.example')).toMatchObject({ username: 'file' });
  });

  it.each([
    ['fail', 'echo SECRET; exit 3'],
    ['answer with something else', 'echo SECRET'],
    ['answer by half', `printf '{"Username":"SECRET"}'`],
    ['do not end', 'yes SECRET'],
  ])('that %s are refused without quoting them', async (_what, body) => {
    write('.docker/config.json', { credsStore: 'test' });
    const error = await failureOf(load(helper('test', body))('r.example'));
    expect(error.code).toBe('invalid-argument');
    expect(error.message).toContain('docker-credential-test');
    expect(`${error.message} ${error.hint}`).not.toContain('SECRET');
  });

  it('that are not there are named', async () => {
    write('.docker/config.json', { credsStore: 'absent' });
    const error = await failureOf(load({ PATH: path.join(home, 'bin') })('r.example'));
    expect(error.message).toContain('docker-credential-absent is not on the PATH');
  });

  it.each(['../../bin/sh', 'x; touch pwned', 'a b', '$(id)', 'x\n'])(
    'are not started by the name %j',
    async (name) => {
      write('.docker/config.json', { credsStore: name });
      const error = await failureOf(load({ PATH: '/usr/bin:/bin' })('r.example'));
      expect(error.message).toContain('bad name');
    },
  );
});

describe('an identity token that is replaced', () => {
  const ENV = {};
  const read = (file: string): unknown => JSON.parse(readFileSync(path.join(home, file), 'utf8'));
  const entries = (value: string) => ({
    'r.example': { auth: pair('me', ''), identitytoken: value, more: 1 },
    'r.example/team': { auth: pair('<token>', value) },
    'other.example': { identitytoken: 'another' },
  });

  it.each([
    ['config.json', (auths: object) => ({ auths, credHelpers: {} })],
    ['.dockercfg', (auths: object) => auths],
  ])('is replaced in %s wherever it stands', async (name, form) => {
    const file = write(name, form(entries('old')));
    await keepRenewed({ file, identityToken: 'old' }, 'new', ENV);
    expect(read(name)).toEqual(form(entries('new')));
  });

  it('is left alone where somebody has logged in since', async () => {
    const file = write('config.json', { auths: entries('newest') });
    const before = readFileSync(file, 'utf8');
    await keepRenewed({ file, identityToken: 'old' }, 'new', ENV);
    expect(readFileSync(file, 'utf8')).toBe(before);
  });

  it('is followed over several replacements', async () => {
    write('.docker/config.json', { auths: { 'r.example': { identitytoken: 'one' } } });
    const told: string[] = [];
    const find = loadCredentials({ env: ENV, homedir: home }, async ({ identityToken }, now) => {
      told.push(`${identityToken} ${now}`);
    });
    const found = await find('r.example');
    if (!found || !('renewed' in found)) throw new Error('want an identity token');
    await found.renewed?.('two');
    await found.renewed?.('three');
    expect(told).toEqual(['one two', 'two three']);
  });
});
