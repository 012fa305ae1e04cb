/**
 * kill -9 while trust moves and images come and go: whatever the store and the gate show, the audit log has told
 * before, and the same command goes on.
 */
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { succeeded } from '../../fixtures/cli.ts';
import { makeLayout, singleImage } from '../../fixtures/images.ts';
import { makeWalk, type Walk } from '../../fixtures/walk.ts';

const HOOK = path.join(import.meta.dirname, '../../fixtures/kill-at-step.cjs');
/** Steps at the end of a run, where the store is committed, and a few before. */
const LAST = 7;
const BEFORE = 1;
const OLD = 'registry.example/old:v1';
const NEW = 'registry.example/new:v1';

interface Line {
  readonly event: string;
  readonly fields: { readonly names?: string[]; readonly images?: { name: string }[]; readonly pin?: string };
}

let walk: Walk;
let layout: string;

beforeAll(async () => {
  walk = makeWalk();
  layout = walk.sandbox.path('layout');
  makeLayout(layout, [
    { name: 'old', root: singleImage('old') },
    { name: 'new', root: singleImage('new') },
  ]);
  await walk.init({ keys: 'native' });
});
afterAll(() => walk?.sandbox.remove());

function logOf(gate: string): Line[] {
  const file = path.join(gate, 'audit.log');
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Line);
}

function namesOf(store: string): string[] {
  const index = JSON.parse(readFileSync(path.join(store, 'index.json'), 'utf8')) as {
    manifests: { annotations: Record<string, string> }[];
  };
  return index.manifests.map(({ annotations }) => annotations['org.opencontainers.image.ref.name'] ?? '');
}

it('a name leaves or enters the store only after the audit log has said so', async () => {
  const first = walk.sandbox.path('first.tar');
  await walk.export([`${OLD}=oci:${layout}:old`], first);
  await walk.pin(first, await walk.rootFingerprint());
  await walk.import(first);
  const passphrase = ['--passphrase-file', walk.passphraseFile, '--no-input'];
  succeeded(
    await walk.sandbox.run(['trust', 'remove', OLD, '--reason', 'it has a hole', ...passphrase]),
    'trust remove',
  );
  const second = walk.sandbox.path('second.tar');
  await walk.export([`${NEW}=oci:${layout}:new`], second);
  const [gate, store] = [walk.sandbox.path('gate'), walk.sandbox.path('store')];
  const kept = [gate, store].map((directory) => [directory, `${directory}-before`] as const);
  for (const [from, to] of kept) cpSync(from, to, { recursive: true });
  const counter = walk.sandbox.path('steps');
  const fresh = (): void => {
    rmSync(counter, { force: true });
    for (const [to, from] of kept) {
      rmSync(to, { recursive: true });
      cpSync(from, to, { recursive: true });
    }
  };
  const hooked = (at?: number) => ({
    NODE_OPTIONS: `--require ${HOOK}`,
    SEALIFT_KILL_COUNTER: counter,
    ...(at === undefined ? {} : { SEALIFT_KILL_AT: String(at) }),
  });

  await walk.import(second, { env: hooked() });
  expect(namesOf(store)).toEqual([NEW]);
  const steps = statSync(counter).size;
  const spread = Array.from({ length: BEFORE }, (_, index) =>
    Math.round(((index + 1) * (steps - LAST)) / (BEFORE + 1)),
  );
  const last = Array.from({ length: LAST }, (_, index) => steps - index);
  let changed = 0;
  for (const point of [...spread, ...last]) {
    fresh();
    const killed = await walk.tryImport(second, { env: hooked(point) });
    expect(killed.signal, `step ${point} of ${steps}: ${killed.stderr}`).toBe('SIGKILL');
    const names = namesOf(store);
    const log = logOf(gate);
    const said = (event: string) => log.filter((line) => line.event === event).at(-1)?.fields;
    if (!names.includes(OLD)) {
      changed += 1;
      expect(said('removed')?.names, `step ${point} of ${steps}`).toEqual([OLD]);
    }
    if (names.includes(NEW))
      expect(
        said('import')?.images?.map(({ name }) => name),
        `step ${point} of ${steps}`,
      ).toEqual([NEW]);
    succeeded(await walk.tryImport(second), `import after a kill at step ${point} of ${steps}`);
    expect(namesOf(store)).toEqual([NEW]);
    expect(logOf(gate).filter(({ event }) => event === 'removed').length).toBeGreaterThan(0);
  }
  // Some of the points lie between the change and the end of the run, or nothing was tried.
  expect(changed).toBeGreaterThan(0);
}, 120_000);

it('a collection is pinned only after the audit log has said so', async () => {
  const bundle = walk.sandbox.path('pin.tar');
  await walk.export([`${NEW}=oci:${layout}:new`], bundle);
  const gate = walk.sandbox.path('pinned');
  const counter = walk.sandbox.path('pin-steps');
  const fingerprint = await walk.rootFingerprint();
  const pin = (at?: number) =>
    walk.sandbox.run(['trust', 'pin', bundle, '--fingerprint', fingerprint, '--gate', gate], {
      env: {
        NODE_OPTIONS: `--require ${HOOK}`,
        SEALIFT_KILL_COUNTER: counter,
        ...(at === undefined ? {} : { SEALIFT_KILL_AT: String(at) }),
      },
    });
  succeeded(await pin(), 'trust pin');
  const steps = statSync(counter).size;
  for (let point = steps; point > steps - LAST; point -= 1) {
    for (const one of [gate, counter]) rmSync(one, { recursive: true, force: true });
    const killed = await pin(point);
    expect(killed.signal, `step ${point} of ${steps}`).toBe('SIGKILL');
    const collections = path.join(gate, 'collections');
    if (readdirSync(collections).some((id) => existsSync(path.join(collections, id, 'state.json'))))
      expect(
        logOf(gate).map(({ event }) => event),
        `step ${point} of ${steps}`,
      ).toEqual(['pin']);
  }
}, 60_000);
