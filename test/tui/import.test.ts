/** Letting in: scopes of a pin, a policy that refuses, another store, what changes, the gate itself. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { otherFacts } from '../../cli/tui/facts.ts';
import { setPolicy } from '../../core/trust/policy/admin.ts';
import { type FixtureManifest, multiArchImage, signedImage, singleImage } from '../../fixtures/images.ts';
import { DAY, makeWorld, START, type World } from '../../fixtures/world.ts';
import { KEYS, openScreen, type ScreenOptions, type TestScreen } from './screen.ts';

let world: World;
let first: string;
let second: string;
let screen: TestScreen | undefined;

const LATER = new Date(START.getTime() + DAY);
const BEFORE: Record<string, FixtureManifest> = {
  'docker.io/acme/web:1.0': singleImage('old'),
  'docker.io/acme/job:7': singleImage('job'),
};
const AFTER: Record<string, FixtureManifest> = {
  'docker.io/acme/web:1.0': multiArchImage(),
  'docker.io/acme/job:7': singleImage('job'),
  'docker.io/acme/signed:2.1': signedImage(),
};

beforeAll(async () => {
  world = await makeWorld();
  first = path.join(world.directory, 'first.tar');
  second = path.join(world.directory, 'second.tar');
  await world.export(BEFORE, { file: first });
  await world.export(AFTER, { file: second, now: LATER });
});
afterEach(async () => {
  await screen?.close();
  screen = undefined;
});
afterAll(() => world.close());

/** A gate that has pinned the collection, and a store with the first bundle in it. */
async function side(): Promise<Pick<World, 'gate' | 'store'>> {
  const { importBundle } = await import('../../core/import.ts');
  const { pinRoot, readRoot } = await import('../../core/trust-admin.ts');
  const directory = mkdtempSync(path.join(world.directory, 'side-'));
  const gate = path.join(directory, 'gate');
  const store = path.join(directory, 'store');
  const { fingerprint } = await readRoot(world.collection, world.context());
  const who = { pid: process.pid, actor: 'tester' };
  await pinRoot({ gate, source: first, fingerprint, scopes: [], ...who }, world.context());
  await importBundle(
    {
      bundle: { kind: 'file', path: first },
      gate,
      store,
      only: [],
      overrides: { allowClockJump: false },
      concurrency: 2,
      ...who,
    },
    world.context(),
  );
  return { gate, store };
}

async function verdicts(
  state: Partial<World>,
  file = second,
  options: ScreenOptions = {},
): Promise<TestScreen> {
  screen = await openScreen(
    { ...world, ...state },
    { columns: 120, rows: 40, ...options, options: { readNow: () => LATER } },
  );
  await screen.waitFor('On this machine');
  await screen.type(KEYS.enter);
  await screen.waitFor('Which bundle?');
  await screen.type('n');
  await screen.type(`${file}${KEYS.enter}`);
  return screen;
}

describe('a second bundle', () => {
  test('what it changes: in the list, for one image, and all of it with layers and files', async () => {
    const shown = await verdicts(await side());
    const list = await shown.waitFor('every check passed');
    expect(list).toMatch(/job:7\s.*same/);
    expect(list).toMatch(/web:1\.0\s.*changed/);
    expect(list).toMatch(/signed:2\.1\s.*new\s+5/);
    expect(list).toContain('no policy is set');
    await shown.type('G');
    await shown.type(KEYS.enter);
    await shown.waitFor('in the store');
    expect(shown.text()).toContain(`replaces ${BEFORE['docker.io/acme/web:1.0']?.digest}`);
    await shown.type(KEYS.esc);
    await shown.type('d');
    const changes = await shown.waitFor('images: 1 added, 1 moved, 1 unchanged');
    expect(changes).toMatch(/~ moved {2}docker\.io\/acme\/web:1\.0/);
    expect(changes).toContain('linux/arm64');
    await shown.type('d');
    await shown.waitFor(/files: \d+ added/);
    await shown.type(KEYS.esc);
    await shown.type('i');
    const checks = await shown.waitFor('What was checked');
    expect(checks).toMatch(/passed\s+root-chain/);
    expect(checks).toContain('no evidence is demanded');
  });

  test('into another store: what is new is judged by that one', async () => {
    const state = await side();
    const other = path.join(world.directory, 'other-store');
    const shown = await verdicts(state);
    await shown.waitFor(/job:7\s.*same/);
    await shown.type('o');
    await shown.waitFor('Into which store?');
    await shown.type(`\u0015${other}${KEYS.enter}`);
    await shown.waitFor(/job:7\s.*new/);
    expect(shown.text()).toContain(`into ${other}`);
    await shown.type('d');
    await shown.waitFor('every image is new');
    await shown.type('c');
    await shown.waitFor('Let 3 images');
    expect(shown.text()).toContain(other);
    await shown.type('y');
    await shown.waitFor('✓ imported');
    expect(shown.text()).toContain(`sealift serve ${other}`);
  });
});

describe('a policy', () => {
  const rules = {
    default: [{ type: 'reject' }],
    transports: { docker: { 'docker.io/acme/job': [{ type: 'insecureAcceptAnything' }] } },
  };
  async function guarded(document: object): Promise<Pick<World, 'gate' | 'store'>> {
    const state = await side();
    const file = path.join(path.dirname(state.gate), 'policy.json');
    writeFileSync(file, JSON.stringify(document));
    await setPolicy({ gate: state.gate, file, pid: process.pid, actor: 'tester' }, world.context());
    return state;
  }

  test('refuses a part: each with its reason, not chosen; the rest can be let in', async () => {
    const shown = await verdicts(await guarded(rules));
    const list = await shown.waitFor('the policy refuses 2 of 3 images');
    expect(list).not.toContain('every check passed;');
    expect(list).toContain('policy of the gate');
    expect(list).toMatch(/\[x\] \S+ \w+\s+docker\.io\/acme\/job:7/);
    expect(list).toMatch(/\[ \] ✗ \w+\s+docker\.io\/acme\/web:1\.0/);
    // Marking one by hand does not get it in.
    await shown.type('a');
    await shown.type('c');
    await shown.waitFor('is refused; take it out');
    await shown.type('j');
    await shown.type(KEYS.enter);
    await shown.waitFor('decided by');
    await shown.type(KEYS.esc);
    await shown.type('a');
    await shown.waitFor('0 of 3 images chosen');
    await shown.type('g');
    await shown.type(' ');
    await shown.type('c');
    const question = await shown.waitFor('Let 1 image into');
    expect(question).toContain('2 images, left out');
    expect(question).toContain('Judged by the policy of the gate');
    await shown.type('y');
    await shown.waitFor('partly imported');
    expect(shown.app.summary.join('\n')).toMatch(/refused.*docker\.io\/acme\/web:1\.0/);
  });

  test('refuses all: nothing can be chosen', async () => {
    const shown = await verdicts(await guarded({ default: [{ type: 'reject' }] }));
    await shown.waitFor('the policy refuses 3 of 3 images');
    await shown.type('c');
    await shown.waitFor('none of these images may be let in');
  });
});

describe('pinning', () => {
  test('with scopes: what is malformed is said on the page, what is pinned is narrow', async () => {
    const { readRoot, trustStatus } = await import('../../core/trust-admin.ts');
    const { fingerprint } = await readRoot(world.collection, world.context());
    const directory = mkdtempSync(path.join(world.directory, 'side-'));
    const state = { gate: path.join(directory, 'gate'), store: path.join(directory, 'store') };
    const shown = await verdicts(state);
    await shown.waitFor('by telephone');
    await shown.type(KEYS.tab);
    await shown.waitFor('What it may speak about');
    await shown.type('acme');
    await shown.type(KEYS.tab);
    await shown.type(`${fingerprint.slice(-8)}${KEYS.enter}`);
    await shown.waitFor('malformed scope');
    await shown.type('\u0015docker.io/acme/');
    await shown.type(KEYS.enter);
    await shown.waitFor('every check passed');
    const { collections } = await trustStatus({ gate: state.gate }, world.context());
    expect(collections.map(({ scopes }) => scopes)).toEqual([['docker.io/acme/']]);
  });

  test('a second collection is told what the first speaks for', async () => {
    const stranger = await world.stranger();
    const file = path.join(world.directory, 'stranger.tar');
    await stranger.export(AFTER, { file });
    const shown = await verdicts(await side(), file);
    await shown.waitFor('pinned here');
    expect(shown.text()).toContain('a second collection needs that to be narrowed first');
  });
});

test('the gate: pins, expiry, clock, audit log; by keys alone', async () => {
  const state = await side();
  screen = await openScreen({ ...world, ...state }, { columns: 120, rows: 40 });
  await screen.waitFor(state.gate);
  await screen.type('/gate');
  await screen.type(KEYS.enter);
  await screen.type(KEYS.enter);
  const page = await screen.waitFor('1 collection pinned');
  expect(page).toMatch(/speaks for\s+every name/);
  expect(page).toMatch(/clock\s+never before 2026-03-01/);
  await screen.type('G');
  await screen.waitFor(/UTC pin/);
  await screen.type('y');
  await screen.waitFor('audit log sent');
  await screen.type('J');
  await screen.waitFor('"clockFloor"');
  await screen.type(KEYS.left);
  await screen.type(KEYS.left);
  await screen.waitFor('filter: gate');
});

test('a store: how an image came in, and trust that has ended', async () => {
  const state = await side();
  const now = new Date(START.getTime() + 200 * DAY);
  screen = await openScreen(
    { ...world, ...state },
    { columns: 120, rows: 40, options: { readNow: () => now } },
  );
  await screen.waitFor(/store, 2 images/);
  await screen.type('/2 images');
  await screen.type(KEYS.enter);
  await screen.type('i');
  await screen.waitFor('trust in 2 images has ended');
  await screen.type(KEYS.enter);
  const page = await screen.waitFor('let in');
  expect(page).toMatch(/let in\s+2026-03-01 .*by version \d, role images/);
  expect(page).toMatch(/trust ends\s+2026-05-30 .*expired/);
});

test('fields that come later are shown, inert', () => {
  const style = { dim: (text: string) => text } as Parameters<typeof otherFacts>[3];
  const lines = otherFacts(
    {
      known: 1,
      volumeCount: 3,
      approvals: ['a', 'b\u001b[31m'],
      base: { id: 'x' },
      none: undefined,
      empty: [],
    },
    ['known'],
    80,
    style,
  );
  expect(lines).toEqual(['volume count 3', 'approvals    a, b\\u{1b}[31m', 'base         {"id":"x"}']);
});
