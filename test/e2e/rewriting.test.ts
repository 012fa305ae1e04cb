import { readdirSync, rmSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeLayout, singleImage } from '../../fixtures/images.ts';
import { makeWalk, type Walk } from '../../fixtures/walk.ts';

const ONE = 'registry.example/team/one:v1';
const TWO = 'registry.example/team/two:v1';

let walk: Walk;

beforeAll(async () => {
  walk = makeWalk();
  await walk.init({ keys: 'native' });
  for (const [name, file] of [
    [ONE, 'one.tar'],
    [TWO, 'two.tar'],
  ] as const) {
    const layout = walk.sandbox.path(`layout-${file}`);
    makeLayout(layout, [{ name, root: singleImage(name) }]);
    await walk.export([`${name}=oci:${layout}:${name}`], walk.sandbox.path(file));
  }
});
afterAll(() => walk?.sandbox.remove());

const run = (...args: string[]) =>
  walk.sandbox.run([
    ...args,
    '--json',
    ...(args[0] === 'bundle' ? ['--passphrase-file', walk.passphraseFile] : []),
  ]);

it('merges two bundles, cuts a subset of them into volumes, and lets that in', async () => {
  const at = (name: string) => walk.sandbox.path(name);
  const merged = await run('bundle', 'merge', at('one.tar'), at('two.tar'), '-o', at('both.tar'));
  expect(JSON.parse(merged.stdout)).toMatchObject({
    ok: true,
    result: { images: [{ name: ONE }, { name: TWO }] },
  });
  const subset = await run(
    ...['bundle', 'subset', at('both.tar'), TWO, '--volume-size', '16KiB', '-o', at('out/small.tar')],
  );
  const { total } = JSON.parse(subset.stdout).result.volumes;
  expect(readdirSync(at('out')).filter((name) => /\.\d{3}$/.test(name))).toHaveLength(total);
  expect(total).toBeGreaterThan(1);
  // From here on only the volumes are there.
  for (const name of ['one.tar', 'two.tar', 'both.tar']) rmSync(at(name));
  await walk.pin(at('out'), await walk.rootFingerprint());
  const again = await run('bundle', 'repack', at('out'), '-o', at('whole.tar'));
  expect(JSON.parse(again.stdout).result.images).toMatchObject([{ name: TWO }]);
  const imported = await run('import', '--yes', at('whole.tar'));
  expect(JSON.parse(imported.stdout).result.imported).toEqual([TWO]);
});
