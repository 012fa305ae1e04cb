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
