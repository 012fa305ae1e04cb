/** The trust commands of the built program, over several bundles and one gate. */
import { existsSync, readdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { succeeded } from '../../fixtures/cli.ts';
import { makeLayout, singleImage } from '../../fixtures/images.ts';
import { makeWalk, type Walk } from '../../fixtures/walk.ts';

let walk: Walk;
const NAME = 'registry.example/team/app:v1';
const signing = () => ['--no-input', '--passphrase-file', walk.passphraseFile];

beforeAll(async () => {
  walk = makeWalk();
  await walk.init({ keys: 'native' });
  makeLayout(walk.sandbox.path('layout'), [{ name: 'v1', root: singleImage() }]);
});
afterAll(() => walk?.sandbox.remove());

it('renews, rotates, withdraws, and shows it all', async () => {
  const { sandbox } = walk;
  const run = (...args: string[]) => sandbox.run(args);
  const bundle = sandbox.path('one.tar');
  await walk.export([`${NAME}=oci:${sandbox.path('layout')}:v1`], bundle);
  await walk.pin(bundle, await walk.rootFingerprint());
  await walk.import(bundle);

  const listed = succeeded(await run('trust', 'list', '-r', 'images'), 'trust list');
  expect(listed.stdout).toMatch(/NAME +DIGEST +SIZE \(BYTES\) +ROLE\n/);
  expect(listed.stdout).toContain(NAME);

  const renewed = succeeded(
    await run('trust', 'renew', '--role', 'targets', '--expires', '2y', ...signing()),
    'trust renew',
  );
  expect(renewed.stdout).toContain('sealift export --metadata-only');
  succeeded(await run('trust', 'key', 'rotate', '--role', 'all', ...signing()), 'trust key rotate');
  expect(readdirSync(sandbox.path('collection/keys/retired'))).toHaveLength(1);
  const removed = succeeded(
    await run('trust', 'remove', NAME, '--reason', 'it has a hole', ...signing()),
    'trust remove',
  );
  expect(removed.stdout).toContain('it has a hole');

  const renewal = sandbox.path('renewal.tar');
  succeeded(
    await run('export', '--metadata-only', '--output', renewal, ...signing()),
    'export --metadata-only',
  );
  expect(statSync(renewal).size).toBeLessThan(100_000);
  expect(existsSync(sandbox.path('collection/staged.json'))).toBe(false);
  const shown = succeeded(await run('inspect', renewal), 'inspect');
  expect(shown.stdout).toContain('0 images');
  const imported = await walk.import(renewal);
  expect(imported.stdout).toMatch(/removed, withdrawn +registry\.example/);
  expect((await run('ls')).stdout).not.toContain(NAME);

  const audit = await walk.json<{ whole: boolean; head: string; shown: { event: string }[] }>([
    'trust',
    'audit',
  ]);
  expect(audit.whole).toBe(true);
  expect(audit.shown.map(({ event }) => event)).toEqual(expect.arrayContaining(['pin', 'import', 'removed']));
  succeeded(await run('trust', 'audit', '--head', audit.head), 'trust audit --head');
  expect((await run('trust', 'audit', '--head', 'f'.repeat(64))).code).toBe(4);

  const clock = await walk.json<{ collections: { floor?: string }[] }>(['trust', 'clock']);
  expect(clock.collections[0]?.floor).toMatch(/Z$/);
  succeeded(await run('trust', 'clock', 'reset'), 'trust clock reset');
  const after = await walk.json<{ collections: { floor?: string }[] }>(['trust', 'clock']);
  expect(after.collections[0]?.floor).toBeUndefined();
  const events = await walk.json<{ shown: { event: string }[] }>(['trust', 'audit', '--last', '1']);
  expect(events.shown).toMatchObject([{ event: 'clock-reset' }]);
  expect((await run('trust', 'status')).code).toBe(0);
});

it('hands a namespace over: signed by its holder on another machine, published here', async () => {
  const { sandbox } = walk;
  const run = (...args: string[]) => sandbox.run(args);
  const made = await walk.json<{ keyId: string; file: string }>(['trust', 'key', 'generate', ...signing()]);
  const open = succeeded(await run('trust', 'key', 'export', made.keyId, ...signing()), 'trust key export');
  expect(open.stdout).toMatch(/^-----BEGIN PUBLIC KEY-----\n/);
  const [secret, half, request] = ['acme.secret', 'acme.pem', 'acme.json'].map((name) => sandbox.path(name));
  if (!secret || !half || !request) throw new Error('no paths');
  writeFileSync(half, open.stdout);
  renameSync(made.file, secret);
  const prefix = 'registry.example/acme/';
  const refused = await run('trust', 'delegation', 'add', prefix, '--key', half, ...signing());
  expect(refused.code).toBe(8);
  expect(refused.stderr).toContain(made.keyId);
  const asked = succeeded(
    await run('trust', 'delegation', 'add', prefix, '--key', half, '--request', request, ...signing()),
    'trust delegation add',
  );
  expect(asked.stdout).toContain('sealift trust sign');
  expect((await run('trust', 'publish', request)).code).toBe(8);
  expect((await run('trust', 'sign', request, '--key', secret, ...signing())).code).toBe(2);
  const told = succeeded(
    await run('trust', 'sign', request, '--key', secret, '--yes', ...signing()),
    'trust sign',
  );
  expect(told.stdout).toContain('delegation registry.example-acme');
  succeeded(await run('trust', 'publish', request), 'trust publish');
  const listed = succeeded(await run('trust', 'delegation', 'list'), 'trust delegation list');
  expect(listed.stdout).toMatch(/registry\.example-acme +registry\.example\/acme\/ +1 of 1/);
  const name = `${prefix}app:1`;
  const location = `${name}=oci:${sandbox.path('layout')}:v1`;
  const lacking = await walk.tryExport([location], sandbox.path('acme.tar'));
  expect(lacking.code).toBe(8);
  const wish = sandbox.path('wish.json');
  succeeded(await run('trust', 'add', location, '--request', wish, ...signing()), 'trust add');
  succeeded(await run('trust', 'sign', wish, '--key', secret, '--yes', ...signing()), 'trust sign');
  succeeded(await run('trust', 'publish', wish), 'trust publish');
  await walk.export([location], sandbox.path('acme.tar'));
  const imported = await walk.import(sandbox.path('acme.tar'));
  expect(imported.stdout).toContain(name);
  const keys = await walk.json<{ keys: { roles: string[] }[] }>(['trust', 'key', 'list']);
  expect(keys.keys.flatMap(({ roles }) => roles)).toContain('registry.example-acme');
});

it('says what is missing', async () => {
  const run = (...args: string[]) => walk.sandbox.run(args);
  expect((await run('trust', 'remove', NAME, ...signing())).stderr).toContain('--reason');
  expect((await run('trust', 'key', 'rotate', ...signing())).stderr).toContain('--role all');
  expect((await run('trust', 'renew', '--role', 'timestamp', ...signing())).code).toBe(2);
  expect((await run('trust', 'list', '-r', 'nobody')).code).toBe(2);
  const both = await walk.tryExport([`${NAME}=oci:${walk.sandbox.path('layout')}:v1`], 'x.tar', {
    args: ['--metadata-only'],
  });
  expect(both.code).toBe(2);
});
