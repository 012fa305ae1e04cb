/** Every page there is, from real state, reached and left by keys alone, at every size and in every look. */
import { mkdtempSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PAGE_KINDS, type PageKind } from '../../cli/tui/page.ts';
import { spokenStyle } from '../../cli/tui/run.ts';
import type { coreWorkflows } from '../../cli/workflows.ts';
import { makeLayout, multiArchImage, signedImage, singleImage } from '../../fixtures/images.ts';
import { makeWorld, TEST_PASSPHRASE, type World } from '../../fixtures/world.ts';
import { appOptions, KEYS, openScreen, type ScreenOptions, type TestScreen } from './screen.ts';

let world: World;
let bundle: string;
let layout: string;

const IMAGES = {
  'docker.io/acme/web:1.0': multiArchImage(),
  'docker.io/acme/signed:2.1': signedImage(),
  'docker.io/acme/job:7': singleImage(),
};

beforeAll(async () => {
  world = await makeWorld();
  bundle = path.join(world.directory, 'images.tar');
  layout = path.join(world.directory, 'layout');
  await world.export(IMAGES, { file: bundle });
  makeLayout(
    layout,
    Object.entries(IMAGES).map(([name, root]) => ({ name, root })),
  );
});
afterAll(() => world.close());

interface Visits {
  readonly seen: ReadonlySet<PageKind>;
  /** Kinds that were the uppermost page once and are no more. */
  readonly left: ReadonlySet<PageKind>;
}

/** Notes which pages come and go. */
function watch({ app }: TestScreen): Visits {
  const seen = new Set<PageKind>();
  const left = new Set<PageKind>();
  let before = app.page.kind;
  const look = (): void => {
    const { kind } = app.page;
    seen.add(kind);
    if (kind !== before) left.add(before);
    before = kind;
  };
  look();
  app.subscribe(look);
  return { seen, left };
}

async function fingerprintEnd(): Promise<string> {
  const { readRoot } = await import('../../core/trust-admin.ts');
  return (await readRoot(world.collection, world.context())).fingerprint.slice(-8);
}

/**
 * Goes through all pages with a gate and a store of their own; `check` is called on each, when it has what it is for.
 * The way back is the arrow: after escape a terminal waits for more.
 */
async function walkAll(shown: TestScreen, check: (page: PageKind) => void): Promise<void> {
  const at = async (kind: PageKind, text: string | RegExp): Promise<void> => {
    await shown.waitFor(text).catch((error: Error) => {
      throw new Error(`${kind}: ${error.message}`);
    });
    expect(shown.app.page.kind).toBe(kind);
    check(kind);
  };
  const back = (): Promise<void> => shown.type(KEYS.left);
  const enter = (): Promise<void> => shown.type(KEYS.enter);

  await at('start', 'images.tar');
  await shown.type('?');
  await at('help', 'On this page');
  await back();
  // What is no bundle is refused on a page.
  await enter();
  await at('choose', 'Which bundle?');
  await shown.type('n');
  await shown.type(path.join(layout, 'index.json'));
  await enter();
  await at('refusal', 'Refused');
  await back();
  // In a field the arrow belongs to the text.
  await shown.type(KEYS.esc);
  await shown.type('n');
  await shown.type(`\u0015${bundle}`);
  await enter();
  await at('pin', 'by telephone');
  await shown.type(await fingerprintEnd());
  await enter();
  await at('verdicts', 'every check passed');
  await enter();
  await at('image', 'digest');
  await shown.type('J');
  await at('json', '"digest"');
  await back();
  await back();
  await shown.type('i');
  await at('checks', 'What was checked');
  await back();
  await shown.type('o');
  await at('destination', 'Into which store?');
  await shown.type(KEYS.esc);
  await shown.type('c');
  await at('confirm', 'Let 3 images');
  await shown.type('y');
  await at('result', 'to the start');
  await shown.type('h');
  await at('verdicts', /3 of 3 images chosen/);
  await shown.type('d');
  await at('changes', '3 unchanged');
  await back();
  await back();
  await shown.type(KEYS.esc);
  await shown.waitFor('Which bundle?');
  await back();
  await at('start', 'Removable media');

  // The gate that was made, and what is in the bundle.
  await shown.type('/gate');
  await enter();
  // Looked at anew when the page came back.
  await shown.waitFor(/gate +\S*\/gate/);
  await enter();
  await at('gate', 'collection pinned');
  await back();
  await shown.type(KEYS.esc);
  await shown.type('/images.tar');
  await enter();
  await shown.type('i');
  await at('inspect', 'these are claims');
  await shown.type(KEYS.tab);
  await at('roles', 'fingerprint');
  await back();
  await back();
  await shown.type(KEYS.esc);
  await shown.type('g');

  await shown.type('j');
  await enter();
  await at('images', 'image: ');
  await shown.type(`./layout`);
  await enter();
  await at('names', '0 of 3 chosen');
  await shown.type('a');
  await shown.type('c');
  await shown.waitFor(/3 of 3 images, [1-9]/);
  await shown.waitFor(() => !shown.text().includes('asking'), 'every image has an answer');
  check('images');
  await enter();
  await at('preview', 'platforms');
  await back();
  await shown.type('o');
  await at('sources', 'How are sources asked');
  await shown.type(KEYS.down);
  await shown.type(KEYS.esc);
  await shown.type('c');
  await at('platforms', 'Which platforms?');
  await shown.type('c');
  await at('settings', 'Where to');
  await shown.type(`\u0015${path.basename(path.dirname(shown.app.options.paths.gate.path))}.tar`);
  await enter();
  await at('review', 'Sign and write 3 images?');
  await shown.type('c');
  await at('passphrase', 'Passphrase for');
  await shown.type(KEYS.esc);
  await at('refusal', 'Stopped');
  await shown.type('r');
  await at('passphrase', 'Passphrase for');
  await shown.type(TEST_PASSPHRASE);
  await enter();
  await at('result', 'to the start');
  await enter();
  await at('start', 'What do you want to do?');
}

function fresh(): World {
  const directory = mkdtempSync(path.join(world.directory, 'side-'));
  return {
    ...world,
    gate: path.join(directory, 'gate'),
    store: path.join(directory, 'store'),
    collection: path.join(directory, 'collection'),
  };
}

async function open(options: ScreenOptions): Promise<TestScreen> {
  const side = fresh();
  const { cpSync } = await import('node:fs');
  // Each walk exports; none may wait for another's versions.
  cpSync(world.collection, side.collection, { recursive: true });
  return openScreen(side, options);
}

describe.each([
  [80, 24],
  [120, 40],
  [60, 16],
])('at %d x %d', (columns, rows) => {
  test.each([
    ['colour', { color: true, unicode: true }],
    ['no colour', { color: false, unicode: true }],
    ['ASCII', { color: false, unicode: false }],
  ])('%s: every page fits, tells where one is and which keys matter', async (_, look) => {
    const shown = await open({ columns, rows, ...look });
    try {
      const visits = watch(shown);
      await walkAll(shown, (page) => {
        const lines = shown.lines();
        expect(lines).toHaveLength(rows);
        expect(lines[0], page).toMatch(/^sealift/);
        expect(lines.at(-1), page).toMatch(/esc|quit|Ctrl-C|do not/);
        expect(lines.slice(2, -2).join('').trim(), page).not.toBe('');
        expect(shown.styled(), page).toBe(look.color);
        if (!look.unicode) expect(shown.text(), page).toMatch(/^[\x20-\x7e\n]*$/);
      });
      expect([...visits.seen].sort()).toEqual([...PAGE_KINDS].sort());
      expect([...visits.left].sort()).toEqual([...PAGE_KINDS].sort());
    } finally {
      await shown.close();
    }
  });
});

test('read out: every page as words, on the normal screen, without pictures', async () => {
  const style = appOptions(world, { color: false, unicode: false }).style;
  const shown = await open({
    columns: 100,
    rows: 60,
    spoken: true,
    options: { style: spokenStyle(style) },
  });
  try {
    expect(shown.alternate()).toBe(false);
    const visits = watch(shown);
    const said = new Map<PageKind, string>();
    await walkAll(shown, (page) => {
      if (!said.has(page)) said.set(page, shown.text());
      expect(shown.text(), page).not.toMatch(/[─█░▸▏✓✗]|\[[x ]\]|-{6,}/);
    });
    expect([...visits.seen].sort()).toEqual([...PAGE_KINDS].sort());
    expect(said.get('start')).toMatch(/current line: Import a bundle/);
    expect(said.get('verdicts')).toMatch(/current line: chosen, +verified +docker\.io\/acme\/job:7/);
    expect(said.get('platforms')).toMatch(/chosen, linux\/amd64/);
    expect(said.get('result')).toMatch(/written/);
  } finally {
    await shown.close();
  }
});

test('work that hangs is left by a key, and what it was doing is stopped', async () => {
  let stopped = false;
  const { promise, resolve } = Promise.withResolvers<void>();
  const hang: typeof coreWorkflows.verifyBundle = (_, context) =>
    new Promise((_resolve, reject) => {
      context.signal.addEventListener('abort', () => {
        stopped = true;
        resolve();
        reject(context.signal.reason as Error);
      });
    });
  const { workflows } = appOptions(world, {});
  const shown = await openScreen(fresh(), { options: { workflows: { ...workflows, verifyBundle: hang } } });
  try {
    await shown.waitFor('images.tar');
    await shown.type(KEYS.enter);
    await shown.waitFor('Which bundle?');
    await shown.type(KEYS.enter);
    await shown.waitFor('Checking');
    expect(shown.app.page.kind).toBe('work');
    await shown.type(KEYS.left);
    await promise;
    await shown.waitFor('Which bundle?');
    expect(stopped).toBe(true);
  } finally {
    await shown.close();
  }
});
