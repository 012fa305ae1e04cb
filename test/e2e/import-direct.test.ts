/** The command: from a bundle straight to where clients pull from, with nothing in between. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ImportResult } from '../../core/results.ts';
import { succeeded } from '../../fixtures/cli.ts';
import { FAKE_CREDENTIALS, type FakeS3, startFakeS3 } from '../../fixtures/fake-s3.ts';
import { makeLayout, multiArchImage, sharingImages, signedImage } from '../../fixtures/images.ts';
import { snapshotOf, timesOf } from '../../fixtures/store.ts';
import { makeWalk, type Walk } from '../../fixtures/walk.ts';

const POINTS = 8;
const HOOK = path.join(import.meta.dirname, '../../fixtures/kill-at-step.cjs');
const WITHOUT_STATE = (file: string): boolean => file === 'index.html' || file.startsWith('.sealift');

let walk: Walk;
let bundle: string;
let tree: string;
let layout: string;
beforeAll(async () => {
  walk = makeWalk();
  tree = walk.sandbox.path('tree');
  layout = walk.sandbox.path('layout');
  const sharing = sharingImages();
  const images = { signed: signedImage(), one: sharing[0], two: sharing[1], multi: multiArchImage() };
  makeLayout(
    layout,
    Object.entries(images).map(([name, root]) => ({ name, root })),
  );
  await walk.init({ keys: 'native' });
  bundle = await exported('images', Object.keys(images));
  await walk.pin(bundle, await walk.rootFingerprint());
});
afterAll(() => walk?.sandbox.remove());

async function exported(name: string, images: readonly string[], ...args: string[]): Promise<string> {
  const file = walk.sandbox.path(`${name}.tar`);
  const sources = images.map((image) => `docker.io/acme/${image}:v1=oci:${layout}:${image}`);
  await walk.export(sources, file, { args });
  return file;
}

const importTo = (where: string, ...args: string[]) =>
  walk.sandbox.run(['import', bundle, '--to', where, '--yes', '--no-input', ...args]);

describe('sealift import --to static:', () => {
  it('puts there what a store and a sync would, and nothing in a store', async () => {
    const first = succeeded(await importTo(`static:${tree}`, '--host', 'images.example'), 'import');
    expect(first.stdout).toContain('published  4 images');
    expect(existsSync(walk.sandbox.path('store'))).toBe(false);
    const store = walk.sandbox.path('beside');
    await walk.import(bundle, { store });
    const synced = walk.sandbox.path('synced');
    succeeded(await walk.sandbox.run(['sync', `store:${store}`, `static:${synced}`, '--no-input']), 'sync');
    const published = (directory: string) =>
      snapshotOf(directory, (file) => WITHOUT_STATE(file) || file.startsWith('config'));
    expect(published(tree)).toEqual(published(synced));
    expect(readFileSync(path.join(tree, 'index.html'), 'utf8')).toContain(
      'docker pull images.example/docker.io/acme/one:v1',
    );
  });

  it('changes nothing the second time, and says so', async () => {
    const times = timesOf(tree);
    const result = await walk.json<ImportResult>([
      ...['import', bundle, '--to', `static:${tree}`, '--yes', '--no-input', '--host', 'images.example'],
    ]);
    expect(result).toMatchObject({
      store: '',
      imported: [],
      unchanged: expect.arrayContaining(['docker.io/acme/one:v1']),
      written: { blobs: 0, bytes: 0 },
      destinations: [{ changed: false, images: { imported: [], damaged: [] } }],
    });
    expect(timesOf(tree)).toEqual(times);
  });

  it('keeps in the gate what was let in: records and manifests, no layers', async () => {
    const log = readFileSync(path.join(gateOf(walk), 'audit.log'), 'utf8');
    expect(log).toContain(`"destinations":["static:${tree}"]`);
    const [key = ''] = readdirSync(path.join(gateOf(walk), 'destinations'));
    expect(key).toBe(createHash('sha256').update(`static:${tree}`).digest('hex'));
    const ledger = path.join(gateOf(walk), 'destinations', key);
    const { map, destination } = JSON.parse(readFileSync(path.join(ledger, 'destination.json'), 'utf8'));
    expect({ map, destination }).toEqual({ map: [], destination: `static:${tree}` });
    for (const name of readdirSync(path.join(ledger, 'admitted/blobs/sha256'))) {
      const bytes = readFileSync(path.join(ledger, 'admitted/blobs/sha256', name));
      expect(bytes.subarray(0, 1).toString(), name).toBe('{');
    }
  });

  it('is not mixed with what a store publishes', async () => {
    const refused = await walk.sandbox.run(
      ['sync', `store:${walk.sandbox.path('beside')}`, `static:${tree}`, '--no-input'],
      {},
    );
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain('sealift import BUNDLE --to static:');
  });

  it('takes part of a bundle beside what came before, and leaves the rest as it is', async () => {
    const other = walk.sandbox.path('other');
    succeeded(await importTo(`static:${other}`, '--only', 'docker.io/acme/one:v1'), 'import --only one');
    succeeded(await importTo(`static:${other}`, '--only', 'docker.io/acme/two:v1'), 'import --only two');
    expect(JSON.parse(readFileSync(path.join(other, '.sealift/state.json'), 'utf8')).images).toHaveLength(2);
    expect(existsSync(path.join(other, 'v2/acme/one/manifests/v1'))).toBe(true);
    expect(existsSync(path.join(other, 'v2/acme/two/manifests/v1'))).toBe(true);
  });

  it('fills a store and a directory from one bundle, and from a stream with a store', async () => {
    const both = walk.sandbox.path('both');
    const store = walk.sandbox.path('both-store');
    const args = ['--to', `store:${store}`, '--to', `static:${both}`, '--yes', '--no-input'];
    succeeded(await walk.sandbox.run(['import', '-', ...args], { input: readFileSync(bundle) }), 'import -');
    expect(readdirSync(path.join(store, 'blobs/sha256')).length).toBeGreaterThan(10);
    const published = (directory: string) =>
      snapshotOf(directory, (file) => WITHOUT_STATE(file) || file.startsWith('config'));
    expect(published(both)).toEqual(published(tree));
  });

  it('asks a check command first, about images written out to a directory', async () => {
    const place = walk.sandbox.path('scanned');
    const scratch = walk.sandbox.path('scratch');
    mkdirSync(scratch);
    const check = (program: string) =>
      importTo(`static:${place}`, '--check-command', program, '--tmpdir', scratch);
    const refused = await check('false');
    expect(refused.code).toBe(5);
    expect(refused.stderr).toContain('check-refused');
    expect(existsSync(path.join(place, 'v2'))).toBe(false);
    const passed = succeeded(await check('test -e {}'), 'import');
    expect(passed.stdout).toContain('published  4 images');
    expect(readdirSync(scratch)).toEqual([]);
  });

  it.each([
    ['a stream without a store', ['-', '--to', 'static:x'], 'a stream is read once'],
    ['two stores', ['x.tar', '--to', 'store:a', '--to', 'store:b'], 'two stores'],
    ['options of a destination for a store', ['x.tar', '--prune'], '--prune means nothing'],
    ['a location nobody knows', ['x.tar', '--to', 'ftp://there'], 'ftp'],
  ])('refuses %s', async (_what, args, text) => {
    const result = await walk.sandbox.run(['import', ...args, '--no-input'], { input: Buffer.alloc(0) });
    expect(result.code).toBe(2);
    expect(result.stderr).toContain(text);
  });

  it('is verified against what the gate has written down, and repaired from the bundle', async () => {
    const place = walk.sandbox.path('checked');
    const verify = (...args: string[]) => walk.sandbox.run(['verify', `static:${place}`, ...args]);
    succeeded(await importTo(`static:${place}`), 'import');
    const good = succeeded(await verify('--deep'), 'verify');
    expect(good.stdout).toMatch(/right.*4 images.*as the gate has it/);
    const foreign = path.join(place, 'v2/acme/one/manifests/planted');
    writeFileSync(foreign, '{}');
    const beside = await verify();
    expect(beside.code).toBe(3);
    expect(beside.stdout).toContain('nothing here put it there: v2/acme/one/manifests/planted');
    rmSync(foreign);
    const [blob = ''] = readdirSync(path.join(place, 'v2/acme/signed/blobs'));
    const file = path.join(place, 'v2/acme/signed/blobs', blob);
    const bytes = readFileSync(file);
    bytes[0] = (bytes[0] ?? 0) ^ 1;
    writeFileSync(file, bytes);
    const damaged = await verify('--deep', '--json');
    expect(damaged.code).toBe(4);
    const { result, ok } = JSON.parse(damaged.stdout);
    expect({ ok, ...result }).toMatchObject({ ok: false, wantedBy: 'gate', good: false, missing: 0 });
    expect(result.images).toContainEqual(
      expect.objectContaining({ name: 'docker.io/acme/signed:v1', whole: false }),
    );
    succeeded(await importTo(`static:${place}`, '--repair', '--deep'), 'import --repair');
    succeeded(await verify('--deep'), 'verify');
    expect((await verify('docker.io/acme/one:v1')).code).toBe(2);
  });

  it(`ends in the same tree after kill -9 at ${POINTS} points, and what has a name is whole`, async () => {
    const to = walk.sandbox.path('killed');
    const counter = walk.sandbox.path('steps');
    const env = { NODE_OPTIONS: `--require ${HOOK}`, SEALIFT_KILL_COUNTER: counter };
    const ledgers = path.join(gateOf(walk), 'destinations');
    const key = createHash('sha256').update(`static:${to}`).digest('hex');
    const attempt = (more: Record<string, string> = {}) =>
      walk.sandbox.run(['import', bundle, '--to', `static:${to}`, '--yes', '--no-input'], {
        env: { ...env, ...more },
      });
    const fresh = (): void => {
      for (const one of [to, counter, path.join(ledgers, key)]) rmSync(one, { recursive: true, force: true });
    };
    fresh();
    succeeded(await attempt(), 'import');
    const wanted = snapshotOf(to, WITHOUT_STATE);
    const steps = statSync(counter).size;
    for (let index = 0; index < POINTS; index++) {
      const at = 1 + Math.round((index * (steps * 0.95 - 1)) / (POINTS - 1));
      fresh();
      const killed = await attempt({ SEALIFT_KILL_AT: String(at) });
      expect(killed.signal, `step ${at}: ${killed.stderr}`).toBe('SIGKILL');
      expectWhole(to, path.join(ledgers, key), `killed at step ${at} of ${steps}`);
      succeeded(await attempt(), `import after a kill at step ${at}`);
      expect(snapshotOf(to, WITHOUT_STATE), `step ${at} of ${steps}`).toEqual(wanted);
    }
  }, 120_000);
});

const gateOf = (one: Walk): string => one.sandbox.path('gate');

/** A tag is in the gate's record, and leads to blobs that are there and right. */
function expectWhole(directory: string, ledger: string, when: string): void {
  const records = path.join(ledger, 'admitted/.sealift/records');
  const known = existsSync(records)
    ? readdirSync(records)
        .filter((file) => !file.startsWith('.'))
        .map((file) => JSON.parse(readFileSync(path.join(records, file), 'utf8')).name)
    : [];
  const isTag = (key: string): boolean => /^v2\/acme\/[^/]+\/manifests\/v1$/.test(key);
  for (const key of Object.keys(snapshotOf(directory)).filter(isTag)) {
    const repository = key.slice(0, key.lastIndexOf('/manifests/'));
    expect(known, when).toContain(`docker.io/${repository.slice(3)}:v1`);
    const document = JSON.parse(readFileSync(path.join(directory, key), 'utf8'));
    const children = document.manifests ?? [];
    for (const child of children)
      expect(existsSync(path.join(directory, repository, 'manifests', child.digest)), when).toBe(true);
    for (const blob of [...(document.config ? [document.config] : []), ...(document.layers ?? [])]) {
      const bytes = readFileSync(path.join(directory, repository, 'blobs', blob.digest));
      expect(`sha256:${createHash('sha256').update(bytes).digest('hex')}`, when).toBe(blob.digest);
    }
  }
}

describe('sealift import --to s3:', () => {
  let server: FakeS3;
  beforeAll(async () => {
    server = await startFakeS3();
  });
  afterAll(() => server?.close());
  const env = { ...FAKE_CREDENTIALS, AWS_EC2_METADATA_DISABLED: 'true' };
  const run = (file: string, ...args: string[]) =>
    walk.sandbox.run(
      [
        ...['import', file, '--to', 's3://images/reg', '--endpoint-url', server.url, '--yes', '--no-input'],
        ...['--retry-times', '0', ...args],
      ],
      { env },
    );

  it('goes on after a failure, and sends nothing again', async () => {
    let puts = 0;
    server.fault = (operation, key) =>
      operation === 'put' && key.includes('/blobs/') && ++puts > 4
        ? { status: 503, code: 'SlowDown' }
        : undefined;
    const failed = await run(bundle);
    expect(failed.code).toBe(7);
    expect([...server.objects.keys()].filter((key) => key.includes('/manifests/'))).toEqual([]);
    const sent = server.log.filter((line) => line.startsWith('put') && line.includes('/blobs/')).length;
    server.fault = undefined;
    server.log.length = 0;
    const before = new Set(server.objects.keys());
    succeeded(await run(bundle), 'import');
    expect(sent).toBeGreaterThan(4);
    const again = server.log.filter((line) => line.startsWith('put ') && before.has(line.slice(4)));
    expect(again.filter((line) => line.includes('/blobs/'))).toEqual([]);
  });

  it('takes a withdrawn image away: off the list, then its tag, and the rest after the grace period', async () => {
    server.log.length = 0;
    succeeded(
      await walk.sandbox.run([
        ...['trust', 'remove', 'docker.io/acme/two:v1', '--reason', 'it <b>phones</b> home'],
        ...['--yes', '--no-input', '--passphrase-file', walk.passphraseFile],
      ]),
      'trust remove',
    );
    const newer = await exported('newer', ['one']);
    const result = succeeded(await run(newer), 'import');
    expect(result.stdout).toContain('removed acme/two:v1');
    const tag = 'reg/v2/acme/two/manifests/v1';
    expect(server.objects.has(tag)).toBe(false);
    expect(server.objects.has('reg/v2/acme/two/tags/list')).toBe(false);
    expect(server.log.indexOf('delete reg/v2/acme/two/tags/list')).toBeLessThan(
      server.log.indexOf(`delete ${tag}`),
    );
    expect([...server.objects.keys()].some((key) => key.startsWith('reg/v2/acme/two/blobs/'))).toBe(true);
    const page = server.objects.get('reg/index.html')?.bytes.toString() ?? '';
    expect(page).toContain('it &lt;b&gt;phones&lt;/b&gt; home');
    succeeded(await run(newer, '--prune', '--grace', '0'), 'import --prune');
    expect([...server.objects.keys()].filter((key) => key.startsWith('reg/v2/acme/two/'))).toEqual([]);
    expect(server.objects.has('reg/v2/acme/signed/manifests/v1')).toBe(true);
  });

  it('leaves an earlier image alone of which the bucket has lost a layer, and says so', async () => {
    const blob = [...server.objects.keys()].find((key) =>
      key.startsWith('reg/v2/docker.io/acme/signed/blobs/'),
    );
    const digest = blob?.split('/').at(-1) ?? '';
    for (const key of [...server.objects.keys()].filter((one) => one.endsWith(`/blobs/${digest}`)))
      server.objects.delete(key);
    server.objects.delete('reg/v2/acme/signed/manifests/v1');
    const newer = walk.sandbox.path('newer.tar');
    const result = await run(newer);
    expect(result.code).toBe(3);
    expect(result.stdout).toContain('docker.io/acme/signed:v1: a part of it is gone there');
    // Its tag is not set again while what it leads to is not whole.
    expect(server.objects.has('reg/v2/acme/signed/manifests/v1')).toBe(false);
  });
});
