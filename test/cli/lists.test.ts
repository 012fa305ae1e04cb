import { existsSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeSandbox, type Sandbox, succeeded } from '../../fixtures/cli.ts';
import { makeLayout, multiArchImage, singleImage } from '../../fixtures/images.ts';

let box: Sandbox;
beforeAll(() => {
  box = makeSandbox();
  makeLayout(box.path('layout'), [
    { name: 'quay.io/acme/app:1', root: singleImage() },
    { name: 'quay.io/acme/multi:1', root: multiArchImage() },
  ]);
  writeFileSync(
    box.path('list.txt'),
    '# both\nquay.io/acme/app:1=oci:layout:quay.io/acme/app:1\noci:layout:quay.io/acme/multi:1 # second\n',
  );
});
afterAll(() => box.remove());

it('--dry-run shows what a list names, with digests and sizes, and needs no collection', async () => {
  const text = succeeded(await box.run(['export', '-f', 'list.txt', '--dry-run']), 'dry run').stdout;
  expect(text).toContain(`quay.io/acme/app:1\n  ${singleImage().digest}\n`);
  expect(text).toContain('2 images');
  const json = succeeded(
    await box.run(['export', '--list', '-', '--dry-run', '--json', '--platform', 'linux/amd64'], {
      input: 'oci:layout\n',
    }),
    'dry run from standard input',
  );
  const { result } = JSON.parse(json.stdout);
  expect(result.images.map(({ name, digest }: Record<string, string>) => [name, digest])).toEqual([
    ['quay.io/acme/app:1', singleImage().digest],
    ['quay.io/acme/multi:1', multiArchImage().digest],
  ]);
  expect(result.blobs.bytes).toBeGreaterThan(0);
  expect(existsSync(box.path('collection'))).toBe(false);
});

it('tells what is no image, and refuses a list without any', async () => {
  const run = await box.run(['export', '-f', '-', '--dry-run', '--json'], {
    input: 'a: {image: "{{ x }}"}\nb: {image: scratch}\n',
  });
  expect(run.code).not.toBe(0);
  expect(JSON.parse(run.stdout).error).toMatchObject({ code: 'list-invalid', subject: 'standard input' });
  const both = ['export', '-f', '-', '--username', 'me', '--password-stdin', '--dry-run', '--json'];
  expect(JSON.parse((await box.run(both, { input: 'x' })).stdout).error).toMatchObject({
    code: 'invalid-argument',
    subject: '--list',
  });
  expect((await box.run(['export', '-f', 'none.txt', '--dry-run'])).stderr).toContain('none.txt');
  expect((await box.run(['export', '-o', 'x.tar'])).stderr).toContain('nothing to export');
});

/** Two images that are there, and four that are not, each in its own way. */
const MIXED = `
quay.io/acme/app:1=oci:layout:quay.io/acme/app:1
quay.io/acme/gone:1=oci:layout:quay.io/acme/gone:1
quay.io/acme/far:1=docker://127.0.0.1:1/far:1
quay.io/acme/multi:1=oci:layout:quay.io/acme/multi:1
quay.io/acme/nowhere:1=oci:nowhere:1
quay.io/acme/farther:1=docker://127.0.0.1:1/farther:1
`;
const UNHURRIED = ['--plain-http', '--retry-times', '0', '--concurrency', '1'];
const GONE = [
  ['quay.io/acme/gone:1', 'name-not-found'],
  ['quay.io/acme/far:1', 'source-unreachable'],
  ['quay.io/acme/nowhere:1', 'layout-invalid'],
  ['quay.io/acme/farther:1', 'source-unreachable'],
];
const namesAndCodes = (failures: Record<string, string>[]) => failures.map(({ name, code }) => [name, code]);

it('--dry-run tries every image, and tells of each what it fails with', async () => {
  const dry = ['export', '-f', '-', '--dry-run', ...UNHURRIED];
  const run = await box.run([...dry, '--json'], { input: MIXED });
  expect(run.code).toBe(3);
  const { ok, result } = JSON.parse(run.stdout);
  expect(ok).toBe(false);
  expect(result.images.map(({ name }: { name: string }) => name)).toEqual([
    'quay.io/acme/app:1',
    'quay.io/acme/multi:1',
  ]);
  expect(namesAndCodes(result.failed)).toEqual(GONE);
  expect(result.failed[3].message).toMatch(/^not asked for, as 127\.0\.0\.1:1 failed before/);
  const two = await box.run(['export', '-f', 'list.txt', '--dry-run', '--json']);
  expect(result.blobs).toEqual(JSON.parse(two.stdout).result.blobs);

  const text = (await box.run(dry, { input: MIXED })).stdout;
  for (const [name, code] of GONE) expect(text).toMatch(new RegExp(`${name}\\n.*\\(${code}\\)`));
  expect(text).toContain('4 images cannot be had');
});

it('--dry-run ends with the code of the failure where no image can be had', async () => {
  const input = MIXED.replaceAll(/^.*(?:app|multi|nowhere):1$/gm, '');
  const run = await box.run(['export', '-f', '-', '--dry-run', '--json', ...UNHURRIED], { input });
  expect(run.code).toBe(6);
  expect(namesAndCodes(JSON.parse(run.stdout).error.failures)).toEqual(
    GONE.filter(([name]) => name !== 'quay.io/acme/nowhere:1'),
  );
});

it('an export names every image that cannot be had, before it signs or writes', async () => {
  writeFileSync(box.path('passphrase'), 'a test passphrase of some length\n', { mode: 0o600 });
  const collection = ['--collection', box.path('mixed'), '--passphrase-file', box.path('passphrase')];
  succeeded(await box.run(['init', '--keys', 'native', ...collection]), 'init');
  const mixed = ['export', '-f', '-', '-o', 'mixed.tar', '--json', ...UNHURRIED, ...collection];
  const run = await box.run(mixed, { input: MIXED });
  expect(run.code).toBe(6);
  const { error } = JSON.parse(run.stdout);
  expect(error.message).toBe('4 of 6 images cannot be had');
  expect(namesAndCodes(error.failures)).toEqual(GONE);
  for (const [name] of GONE) expect(run.stderr).toContain(name);
  expect(existsSync(box.path('mixed.tar'))).toBe(false);
  const rest = await box.run(['export', '-f', 'list.txt', '-o', 'mixed.tar', '--json', ...collection]);
  expect(JSON.parse(succeeded(rest, 'the rest').stdout).result.collection.version).toBe(2);
});
