/**
 * kill -9 in the middle of an export into volumes and of an import from them, then the same command again. How many points
 * are tried is for SEALIFT_KILL_POINTS to say; `node test/bench/kill-volumes.ts` tries 40 of each.
 */
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type RunResult, succeeded } from '../../fixtures/cli.ts';
import { largeImage, makeLayout, manyLayersImage } from '../../fixtures/images.ts';
import { blobDigests } from '../../fixtures/store.ts';
import { makeWalk, nowInSeconds, type Walk } from '../../fixtures/walk.ts';

const POINTS = Number(process.env['SEALIFT_KILL_POINTS'] ?? 10);
const HOOK = path.join(import.meta.dirname, '../../fixtures/kill-at-step.cjs');
const VOLUME = ['--volume-size', '64KiB'];

let walk: Walk;
let sources: string[];
let created: string;

beforeAll(async () => {
  walk = makeWalk();
  const layout = walk.sandbox.path('layout');
  const images = { large: largeImage(2, 150_000), many: manyLayersImage(5) };
  makeLayout(
    layout,
    Object.entries(images).map(([name, root]) => ({ name, root })),
  );
  sources = Object.keys(images).map((name) => `registry.example/${name}:v1=oci:${layout}:${name}`);
  await walk.init({ keys: 'native' });
  created = nowInSeconds();
});
afterAll(() => walk?.sandbox.remove());

/** Environment that counts steps on the file system and, with `at`, kills before that one. */
function hooked(counter: string, at?: number): Record<string, string> {
  return {
    NODE_OPTIONS: `--require ${HOOK}`,
    SEALIFT_KILL_COUNTER: counter,
    ...(at === undefined ? {} : { SEALIFT_KILL_AT: String(at) }),
  };
}

const spread = (total: number): number[] =>
  Array.from(
    { length: POINTS },
    (_, index) => 1 + Math.round((index * (total - 1)) / Math.max(1, POINTS - 1)),
  );

function volumesIn(directory: string): Map<string, Buffer> {
  if (!existsSync(directory)) return new Map();
  return new Map(
    readdirSync(directory)
      .filter((name) => /\.\d{3}$/.test(name))
      .sort()
      .map((name) => [name, readFileSync(path.join(directory, name))]),
  );
}

const codeOf = (result: RunResult): string | undefined =>
  (JSON.parse(result.stdout) as { error?: { code: string } }).error?.code;

describe('killed', () => {
  it('an export into volumes goes on: the same bytes, and no volume that is whole is written twice', async () => {
    const start = walk.sandbox.path('collection-start');
    cpSync(walk.sandbox.path('collection'), start, { recursive: true });
    const collection = walk.sandbox.path('collection-killed');
    const directory = walk.sandbox.path('volumes');
    const counter = walk.sandbox.path('steps');
    const attempt = (options: { passphrase: boolean; env?: Record<string, string> }): Promise<RunResult> =>
      walk.tryExport(sources, path.join(directory, 'images.tar'), {
        passphrase: options.passphrase,
        args: [...VOLUME, '--created', created, '--json'],
        env: { SEALIFT_COLLECTION: collection, ...options.env },
      });
    const fresh = (): void => {
      for (const one of [collection, directory, counter]) rmSync(one, { recursive: true, force: true });
      cpSync(start, collection, { recursive: true });
    };
    fresh();
    succeeded(await attempt({ passphrase: true, env: hooked(counter) }), 'export');
    const wanted = volumesIn(directory);
    expect(wanted.size).toBeGreaterThan(4);
    const steps = statSync(counter).size;

    for (const at of spread(steps)) {
      fresh();
      const killed = await attempt({ passphrase: true, env: hooked(counter, at) });
      expect(killed.signal, `step ${at} of ${steps}: ${killed.stderr}`).toBe('SIGKILL');
      const there = volumesIn(directory);
      for (const [name, bytes] of there)
        expect(bytes.equals(wanted.get(name) as Buffer), `step ${at}: ${name} is whole or not there`).toBe(
          true,
        );
      const times = new Map(
        [...there.keys()].map((name) => [name, statSync(path.join(directory, name)).ino]),
      );

      let again = await attempt({ passphrase: false });
      if (again.code !== 0 && codeOf(again) === 'passphrase-needed') {
        expect(there.size, `step ${at}: nothing was out before it was signed`).toBe(0);
        again = await attempt({ passphrase: true });
        succeeded(again, `export after a kill at step ${at} of ${steps}`);
        // A version number was spent, so the bytes are those of the next one.
        expect([...volumesIn(directory).keys()]).toEqual([...wanted.keys()]);
        continue;
      }
      if (again.code !== 0)
        expect(codeOf(again), `step ${at} of ${steps}: ${again.stderr}`).toBe('destination-exists');
      const after = volumesIn(directory);
      expect([...after.keys()]).toEqual([...wanted.keys()]);
      for (const [name, bytes] of after)
        expect(bytes.equals(wanted.get(name) as Buffer), `step ${at} of ${steps}: ${name}`).toBe(true);
      // The last one may have had its name and no line in the log yet.
      const rewritten = [...times].filter(
        ([name, inode]) => statSync(path.join(directory, name)).ino !== inode,
      );
      expect(rewritten.length, `step ${at}: ${rewritten.map(([name]) => name).join()}`).toBeLessThanOrEqual(
        1,
      );
      expect(readdirSync(directory).filter((name) => name.startsWith('.'))).toEqual([]);
    }
  }, 600_000);

  it('an import from volumes goes on: the same store, and never a blob that is not what its name says', async () => {
    const directory = walk.sandbox.path('import-volumes');
    await walk.export(sources, path.join(directory, 'images.tar'), { args: VOLUME });
    await walk.pin(directory, await walk.rootFingerprint());
    const gate = walk.sandbox.path('gate');
    const pinned = walk.sandbox.path('gate-pinned');
    cpSync(gate, pinned, { recursive: true });
    const store = walk.sandbox.path('store');
    const counter = walk.sandbox.path('steps');
    const fresh = (): void => {
      for (const one of [gate, store, counter]) rmSync(one, { recursive: true, force: true });
      cpSync(pinned, gate, { recursive: true });
    };
    fresh();
    await walk.import(directory, { env: hooked(counter) });
    const steps = statSync(counter).size;
    const wanted = blobDigests(store);
    const index = readFileSync(path.join(store, 'index.json'), 'utf8');

    for (const at of spread(steps)) {
      fresh();
      const killed = await walk.tryImport(directory, { env: hooked(counter, at) });
      expect(killed.signal, `step ${at} of ${steps}: ${killed.stderr}`).toBe('SIGKILL');
      // Throws where a blob is not what its name says.
      blobDigests(store);
      succeeded(await walk.tryImport(directory), `import after a kill at step ${at} of ${steps}`);
      expect(blobDigests(store)).toEqual(wanted);
      expect(readFileSync(path.join(store, 'index.json'), 'utf8')).toBe(index);
    }
  }, 600_000);

  it('an import from one stick after another asks again only for those it has not read', async () => {
    const directory = walk.sandbox.path('sticks');
    await walk.export(sources, path.join(directory, 'images.tar'), { args: VOLUME });
    await walk.pin(directory, await walk.rootFingerprint());
    const store = walk.sandbox.path('store-sticks');
    const shelf = walk.sandbox.path('shelf');
    mkdirSync(shelf);
    const names = readdirSync(directory).filter((name) => /\.\d{3}$/.test(name));
    expect(names.length).toBeGreaterThan(5);
    for (const name of names.slice(1)) renameSync(path.join(directory, name), path.join(shelf, name));
    // Puts in what is wanted, one stick at a time; in the middle the machine dies instead: kill -9, no goodbye.
    const log = walk.sandbox.path('read');
    const swap = walk.sandbox.path('swap-sticks');
    const script = (until: number) =>
      writeFileSync(
        swap,
        [
          '#!/bin/sh',
          `echo $SEALIFT_VOLUME >> ${log}`,
          `[ $(wc -l < ${log}) -le ${until} ] || { kill -9 $SEALIFT_PROGRAM_PID; exit 1; }`,
          `rm -f ${directory}/images.tar.*`,
          `cp ${shelf}/images.tar.$(printf %03d $SEALIFT_VOLUME) ${directory}/`,
          '',
        ].join('\n'),
      );
    script(4);
    chmodSync(swap, 0o755);
    const head = readFileSync(path.join(directory, names[0] ?? ''));
    const attempt = () =>
      walk.tryImport(path.join(directory, names[0] ?? ''), {
        store,
        // The shell that runs this is the program's own child.
        args: ['--volume-command', `SEALIFT_PROGRAM_PID=$PPID ${swap}`],
      });
    const killed = await attempt();
    expect(killed.signal, killed.stderr).toBe('SIGKILL');
    const before = readFileSync(log, 'utf8').trim().split('\n');
    expect(before.length).toBe(5);
    // Throws where a blob is not what its name says.
    blobDigests(store);
    for (const name of names) rmSync(path.join(directory, name), { force: true });
    writeFileSync(path.join(directory, names[0] ?? ''), head);
    script(1000);
    rmSync(log);
    succeeded(await attempt(), 'import after the kill');
    const after = readFileSync(log, 'utf8').trim().split('\n');
    expect(after.filter((number) => before.slice(0, -1).includes(number))).toEqual([]);
    expect(after.length + before.length - 1).toBe(names.length - 1);
    expect(blobDigests(store).length).toBeGreaterThan(4);
    expect(readdirSync(path.join(store, '.sealift/ingest'))).toEqual([]);
  }, 120_000);
});
