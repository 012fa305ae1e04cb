/**
 * kill -9 at 60 points of export and import, then the same command again: the same bytes, the same store,
 * and no passphrase asked twice. The points are steps on the file system, spread over the whole run.
 */
import { cpSync, existsSync, readFileSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type RunResult, succeeded } from '../../fixtures/cli.ts';
import { makeLayout, manyLayersImage, sharingImages, signedImage } from '../../fixtures/images.ts';
import { blobDigests, snapshotOf } from '../../fixtures/store.ts';
import { makeWalk, nowInSeconds, type Walk } from '../../fixtures/walk.ts';

const POINTS = 30;
const HOOK = path.join(import.meta.dirname, '../../fixtures/kill-at-step.cjs');

let walk: Walk;
let sources: string[];
let created: string;

beforeAll(async () => {
  walk = makeWalk();
  const layout = walk.sandbox.path('layout');
  const sharing = sharingImages();
  const images = { signed: signedImage(), one: sharing[0], two: sharing[1], many: manyLayersImage(8) };
  makeLayout(
    layout,
    Object.entries(images).map(([name, root]) => ({ name, root })),
  );
  sources = Object.keys(images).map((name) => `registry.example/${name}:v1=oci:${layout}:${name}`);
  await walk.init({ keys: 'native' });
  created = nowInSeconds();
});
afterAll(() => walk?.sandbox.remove());

/** Environment that counts steps and, with `at`, kills before that step. */
function hooked(counter: string, at?: number): Record<string, string> {
  return {
    NODE_OPTIONS: `--require ${HOOK}`,
    SEALIFT_KILL_COUNTER: counter,
    ...(at === undefined ? {} : { SEALIFT_KILL_AT: String(at) }),
  };
}

/** POINTS steps of `total`, the first and the last among them. */
function spread(total: number): number[] {
  return Array.from({ length: POINTS }, (_, index) => 1 + Math.round((index * (total - 1)) / (POINTS - 1)));
}

function errorCode(result: RunResult): string | undefined {
  if (result.stdout === '')
    throw new Error(`exit ${result.code ?? result.signal} without a document: ${result.stderr}`);
  return (JSON.parse(result.stdout) as { error?: { code: string } }).error?.code;
}

describe('export', () => {
  it('goes on after kill -9 at any point, without a passphrase once it has signed', async () => {
    const start = walk.sandbox.path('collection-start');
    cpSync(walk.sandbox.path('collection'), start, { recursive: true });
    const collection = walk.sandbox.path('collection-killed');
    const output = walk.sandbox.path('killed.sealift');
    const counter = walk.sandbox.path('steps');
    const attempt = (options: { passphrase: boolean; env?: Record<string, string> }): Promise<RunResult> =>
      walk.tryExport(sources, output, {
        passphrase: options.passphrase,
        args: ['--created', created, '--json'],
        env: { SEALIFT_COLLECTION: collection, ...options.env },
      });
    const fresh = (): void => {
      for (const one of [collection, output, counter]) rmSync(one, { recursive: true, force: true });
      // Partial files and journals lie beside the output.
      for (const name of Object.keys(snapshotOf(walk.sandbox.directory, (file) => file.includes('/')))) {
        if (name.includes('killed.sealift')) rmSync(walk.sandbox.path(name), { force: true });
      }
      cpSync(start, collection, { recursive: true });
    };

    fresh();
    succeeded(await attempt({ passphrase: true, env: hooked(counter) }), 'export');
    const wanted = readFileSync(output);
    const steps = statSync(counter).size;
    expect(steps).toBeGreaterThan(POINTS);

    const resumedWithout: boolean[] = [];
    for (const at of spread(steps)) {
      fresh();
      const killed = await attempt({ passphrase: true, env: hooked(counter, at) });
      expect(killed.signal, `step ${at} of ${steps}: ${killed.stderr}`).toBe('SIGKILL');
      if (existsSync(output))
        expect(readFileSync(output).equals(wanted), `step ${at}: a whole bundle or none`).toBe(true);

      const again = await attempt({ passphrase: false });
      if (again.code !== 0 && errorCode(again) === 'destination-exists') {
        // Killed between the rename and the tidying up: the bundle is there and whole.
        expect(readFileSync(output).equals(wanted), `step ${at}`).toBe(true);
        resumedWithout.push(true);
        continue;
      }
      resumedWithout.push(again.code === 0);
      if (again.code === 0) {
        expect(readFileSync(output).equals(wanted), `step ${at} of ${steps}: the same bytes`).toBe(true);
        continue;
      }
      // Nothing was signed yet, so nothing is lost but a version number at most.
      expect(errorCode(again), `step ${at} of ${steps}: ${again.stdout}${again.stderr}`).toBe(
        'passphrase-needed',
      );
      const third = succeeded(await attempt({ passphrase: true }), `export after a kill at step ${at}`);
      expect(readFileSync(output).length, third.stderr).toBe(wanted.length);
    }
    // Once it has signed, it stays so; and that is not only at the very end.
    const first = resumedWithout.indexOf(true);
    expect(first).toBeGreaterThanOrEqual(0);
    expect(resumedWithout.slice(first).every(Boolean), resumedWithout.join()).toBe(true);
    expect(first).toBeLessThan(POINTS / 2);
  }, 240_000);
});

describe('import', () => {
  it('goes on after kill -9 at any point, and never shows a blob that is not what its name says', async () => {
    const bundle = walk.sandbox.path('import.sealift');
    await walk.export(sources, bundle);
    await walk.pin(bundle, await walk.rootFingerprint());
    const pinned = walk.sandbox.path('gate-pinned');
    cpSync(walk.sandbox.path('gate'), pinned, { recursive: true });
    const gate = walk.sandbox.path('gate');
    const store = walk.sandbox.path('store');
    const counter = walk.sandbox.path('steps');
    const fresh = (): void => {
      for (const one of [gate, store, counter]) rmSync(one, { recursive: true, force: true });
      cpSync(pinned, gate, { recursive: true });
    };
    const listed = async (): Promise<unknown> =>
      JSON.parse(
        JSON.stringify(await walk.json(['ls'])).replaceAll(/"importedAt":"[^"]*"/g, '"importedAt":"then"'),
      ) as unknown;

    fresh();
    await walk.import(bundle, { env: hooked(counter) });
    const steps = statSync(counter).size;
    expect(steps).toBeGreaterThan(POINTS);
    const wantedBlobs = blobDigests(store);
    const wantedFiles = Object.keys(snapshotOf(store)).sort();
    const wantedGate = Object.keys(snapshotOf(gate)).sort();
    const leftovers = new Set<string>();
    const wantedIndex = readFileSync(path.join(store, 'index.json'), 'utf8');
    const wantedList = await listed();

    for (const at of spread(steps)) {
      fresh();
      const killed = await walk.tryImport(bundle, { env: hooked(counter, at) });
      expect(killed.signal, `step ${at} of ${steps}: ${killed.stderr}`).toBe('SIGKILL');
      const there = new Set(blobDigests(store));
      const index = path.join(store, 'index.json');
      if (existsSync(index)) {
        const { manifests } = JSON.parse(readFileSync(index, 'utf8')) as { manifests: { digest: string }[] };
        for (const { digest } of manifests)
          expect(there.has(digest), `step ${at}: index.json before its blobs`).toBe(true);
      }
      succeeded(await walk.tryImport(bundle), `import after a kill at step ${at} of ${steps}`);
      expect(blobDigests(store)).toEqual(wantedBlobs);
      expect(readFileSync(index, 'utf8')).toBe(wantedIndex);
      expect(await listed()).toEqual(wantedList);
      for (const [directory, wanted] of [
        [store, wantedFiles],
        [gate, wantedGate],
      ] as const) {
        const files = new Set(Object.keys(snapshotOf(directory)));
        expect(
          wanted.filter((file) => !files.has(file)),
          `step ${at} of ${steps}: missing`,
        ).toEqual([]);
        for (const file of files) if (!wanted.includes(file)) leftovers.add(`step ${at}: ${file}`);
      }
    }
    // Temporary files of the run that was killed are gone after the next.
    expect([...leftovers]).toEqual([]);
  }, 240_000);
});
