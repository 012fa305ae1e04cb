/** What is decided behind the air gap opens no socket: every way to one throws, and is told. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Digest } from '../../core/oci/digest.ts';
import { makeSimpleSignature } from '../../core/trust/evidence/simple-signing.ts';
import { PROJECT, succeeded } from '../../fixtures/cli.ts';
import { makeLayout, multiArchImage, signedImage } from '../../fixtures/images.ts';
import { unlockTestKey } from '../../fixtures/keys/test-keys.ts';
import { makeWalk, type Walk } from '../../fixtures/walk.ts';

const image = multiArchImage();
let walk: Walk;
let bundle: string;
let told: string;

const env = (): Record<string, string> => ({
  NODE_OPTIONS: `--require ${path.join(PROJECT, 'fixtures', 'no-sockets.cjs')}`,
  SEALIFT_TEST_SOCKETS: told,
});
const socketsOpened = (): string => (existsSync(told) ? readFileSync(told, 'utf8') : '');

beforeAll(async () => {
  walk = makeWalk();
  const { path: at } = walk.sandbox;
  told = at('sockets');
  bundle = at('bundle.tar');
  const key = await unlockTestKey('rsa-a');
  const place = at('lookaside', 'team', `app@${image.digest.replace(':', '=')}`);
  mkdirSync(place, { recursive: true });
  writeFileSync(
    path.join(place, 'signature-1'),
    await makeSimpleSignature(key, 'a.example/team/app:v1', image.digest as Digest, new Date()),
  );
  mkdirSync(at('registries.d'));
  writeFileSync(
    at('registries.d', 'd.yaml'),
    `default-docker:\n  lookaside: file://${at('lookaside')}\ndocker:\n  a.example/team/other:\n    lookaside: file://${at('none')}\n`,
  );
  makeLayout(at('layout'), [
    { name: 'a.example/team/app:v1', root: image },
    { name: 'a.example/team/other:v1', root: signedImage() },
  ]);
  await walk.init({ keys: 'native' });
  await walk.export([`oci:${at('layout')}`], bundle, { args: ['--registries-d', at('registries.d')] });
  await walk.pin(bundle, await walk.rootFingerprint());
  const keyData = Buffer.from(key.toPublic().write()).toString('base64');
  const signedBy = { type: 'signedBy', keyType: 'GPGKeys', keyData };
  // Its image has no such signature; the carrier's word for the others is not asked for either.
  const anything = { type: 'insecureAcceptAnything' };
  writeFileSync(
    at('policy.json'),
    JSON.stringify({
      default: [signedBy],
      transports: { docker: { 'a.example/team/other': [anything] } },
    }),
  );
  succeeded(await walk.sandbox.run(['policy', 'set', at('policy.json')]), 'policy set');
}, 60_000);
afterAll(() => walk?.sandbox.remove());

it('the check itself works: a registry cannot be asked', async () => {
  const run = await walk.tryExport(['127.0.0.1:1/team/app:v1'], walk.sandbox.path('none.tar'), {
    env: env(),
    args: ['--retry-times', '0'],
  });
  expect(run.code).not.toBe(0);
  expect(socketsOpened()).toContain('net.Socket.connect');
  writeFileSync(told, '');
});

it.each([
  ['verify', ['verify', '--policy', 'policy.json']],
  ['verify with the policy of the gate, every byte', ['verify']],
  ['verify --json', ['verify', '--json']],
  ['policy explain', ['policy', 'explain', 'a.example/team/app:v1']],
])('%s opens none', async (_, args) => {
  const target = args[0] === 'verify' ? [bundle] : [];
  succeeded(await walk.sandbox.run([...args, ...target], { env: env() }), args.join(' '));
  expect(socketsOpened()).toBe('');
});

it('import opens none, of a file and of a stream', async () => {
  const imported = await walk.import(bundle, { env: env(), args: ['--json'] });
  const { result } = JSON.parse(imported.stdout) as { result: { images: { verdict: string }[] } };
  expect(result.images.map(({ verdict }) => verdict)).toEqual(['verified', 'verified']);
  const streamed = await walk.import('-', {
    env: env(),
    store: walk.sandbox.path('store-2'),
    input: readFileSync(bundle),
  });
  expect(streamed.code).toBe(0);
  expect(socketsOpened()).toBe('');
});
