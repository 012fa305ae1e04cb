import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { makeLayout, multiArchImage, signedImage, singleImage } from '../../fixtures/images.ts';
import { flip, layerNames, makeWorld, TEST_PASSPHRASE, type World } from '../../fixtures/world.ts';
import { KEYS, openScreen, type ScreenOptions, type TestScreen } from './screen.ts';

let world: World;
let bundle: string;
let screen: TestScreen | undefined;

const IMAGES = {
  'docker.io/acme/web:1.0': multiArchImage(),
  'docker.io/acme/signed:2.1': signedImage(),
  'docker.io/acme/job:7': singleImage(),
};

beforeAll(async () => {
  world = await makeWorld();
  bundle = path.join(world.directory, 'images.tar');
  await world.export(IMAGES, { file: bundle });
});
afterEach(async () => {
  await screen?.close();
  screen = undefined;
});
afterAll(() => world.close());

async function open(options: ScreenOptions = {}, state: Partial<World> = {}): Promise<TestScreen> {
  screen = await openScreen({ ...world, ...state }, options);
  return screen;
}

/** A gate and a store of their own for one test. */
function fresh(): Pick<World, 'gate' | 'store'> {
  const directory = mkdtempSync(path.join(world.directory, 'side-'));
  return { gate: path.join(directory, 'gate'), store: path.join(directory, 'store') };
}

async function fingerprint(): Promise<string> {
  const { readRoot } = await import('../../core/trust-admin.ts');
  return (await readRoot(world.collection, world.context())).fingerprint;
}

/** From the first page to the page of verdicts, pinning on the way. */
async function toVerdicts(shown: TestScreen, file = bundle): Promise<void> {
  await shown.waitFor('images.tar');
  await shown.type(KEYS.enter);
  await shown.waitFor('Which bundle?');
  await shown.type('n');
  await shown.type(`${file}${KEYS.enter}`);
  await shown.waitFor('by telephone');
  await shown.type((await fingerprint()).slice(-8));
  await shown.type(KEYS.enter);
}

describe('import', () => {
  test('pin, verdicts, one image, confirm, result: every page, by keys alone', async () => {
    const side = fresh();
    const shown = await open({}, side);
    expect(shown.alternate()).toBe(true);
    await toVerdicts(shown);
    const verdicts = await shown.waitFor('every check passed');
    expect(verdicts).toMatch(/\[x\] ✓ verified\s+docker\.io\/acme\/job:7\s.*new/);
    expect(verdicts).toContain('why: signed by role images');
    await shown.type('j');
    await shown.type(KEYS.enter);
    const image = await shown.waitFor('linux/arm64');
    expect(image).toContain('5 pieces of evidence, carried, not judged');
    expect(image).toContain('application/vnd.cncf.notary.signature');
    await shown.type('y');
    expect(shown.written.join('')).toContain('\u001b]52;c;');
    expect(Buffer.from(shown.written.at(-1)?.slice(7, -1) ?? '', 'base64').toString()).toMatch(
      /^sha256:[0-9a-f]{64}$/,
    );
    await shown.waitFor('OSC 52');
    await shown.type(KEYS.esc);
    await shown.waitFor('3 of 3 images chosen');
    // The one the pointer is at is left out.
    await shown.type(' ');
    await shown.waitFor('2 of 3 images chosen');
    await shown.type('c');
    const question = await shown.waitFor('Let 2 images into the store?');
    expect(question).not.toContain('acme/signed');
    await shown.type('q');
    await shown.waitFor('answer with y or n');
    await shown.type('y');
    const result = await shown.waitFor('✓ imported');
    expect(result).toContain('imported   docker.io/acme/web:1.0');
    expect(shown.app.summary.join('\n')).toContain('passed  layers');
    await shown.type(KEYS.enter);
    await shown.waitFor('What do you want to do?');
    // What was done is on the first page now.
    await shown.type('G');
    await shown.waitFor(/store, 2 images/);
    expect(shown.text()).toMatch(/UTC {2}import/);
  });

  test('no at the question changes nothing', async () => {
    const side = fresh();
    const shown = await open({}, side);
    await toVerdicts(shown);
    await shown.waitFor('every check passed');
    await shown.type('c');
    await shown.waitFor('Let 3 images');
    await shown.type('n');
    await shown.waitFor('nothing was imported');
    expect(shown.text()).toContain('3 of 3 images chosen');
  });

  test('another fingerprint pins nothing; what is hidden of it is not on the screen', async () => {
    const side = fresh();
    const shown = await open({}, side);
    await shown.waitFor('images.tar');
    await shown.type(KEYS.enter);
    await shown.waitFor('Which bundle?');
    await shown.type('n');
    await shown.type(`${bundle}${KEYS.enter}`);
    const pin = await shown.waitFor('by telephone');
    const end = (await fingerprint()).slice(-8);
    expect(pin).not.toContain(end.slice(0, 4));
    expect(pin).not.toContain(end.slice(4));
    await shown.type('0000000g');
    await shown.type(KEYS.enter);
    await shown.waitFor('1 to go');
    await shown.type('0');
    await shown.type(KEYS.enter);
    await shown.waitFor('nothing was pinned');
    await shown.waitFor('1 wrong answer');
    await shown.type(KEYS.esc);
    await shown.type(KEYS.esc);
    await shown.type(KEYS.esc);
    await shown.waitFor('gate  ');
    expect(shown.text()).toMatch(/gate\s+none; the first import makes one/);
  });

  test('a damaged layer is a page that explains, and names the image', async () => {
    const side = fresh();
    const damaged = flip(
      bundle,
      path.join(world.directory, 'damaged.tar'),
      layerNames(bundle)[0] as string,
      3,
    );
    const shown = await open({ columns: 120, rows: 40 }, side);
    await toVerdicts(shown, damaged);
    await shown.waitFor('every check passed');
    await shown.type('c');
    await shown.waitFor('Let 3 images');
    await shown.type('y');
    const page = await shown.waitFor('refused').catch(() => shown.text());
    expect(page).toContain('digest-mismatch');
    expect(page).toMatch(/about\s+docker\.io\/acme\//);
    expect(page).toMatch(/check\s+layers/);
    expect(page).toMatch(/what to do\s+the medium is damaged/);
    expect(page).toMatch(/✗ failed\s+layers/);
    expect(page).toContain('nothing was let in');
    expect(shown.app.summary.at(-1)).toContain('code:  digest-mismatch');
    await shown.type(KEYS.esc);
    await shown.waitFor('every check passed');
  });

  test('no bundle at all, and a path that is none', async () => {
    const file = path.join(world.directory, 'none.tar');
    writeFileSync(file, 'not a bundle\u001b[31m');
    const shown = await open({}, fresh());
    await shown.waitFor('images.tar');
    await shown.type(KEYS.enter);
    await shown.waitFor('Which bundle?');
    await shown.type('n');
    await shown.type(`nowhere${KEYS.enter}`);
    await shown.waitFor('there is nothing at');
    await shown.type('\u0015');
    await shown.type(`none.tar${KEYS.enter}`);
    const page = await shown.waitFor('Refused');
    expect(page).toMatch(/meaning\s/);
    expect(page).toMatch(/check\s+format/);
  });
});

describe('inspect', () => {
  test('a bundle: claims, roles and keys, JSON; then the store', async () => {
    const shown = await open({ columns: 120, rows: 40 }, { store: world.store, gate: world.gate });
    await shown.waitFor('images.tar');
    await shown.type('/images.tar');
    await shown.type(KEYS.enter);
    await shown.type('i');
    await shown.waitFor('these are claims');
    await shown.type(KEYS.tab);
    const roles = await shown.waitFor('timestamp');
    expect(roles).toMatch(/root\s+version 1, 1 of 2 keys/);
    await shown.type(KEYS.esc);
    await shown.type('J');
    await shown.waitFor('"kind": "bundle"');
  });
});

describe('export', () => {
  test('from a layout: images, platforms, output, review, passphrase, result', async () => {
    const layout = path.join(world.directory, 'a-layout');
    makeLayout(
      layout,
      Object.entries(IMAGES).map(([name, root]) => ({ name, root })),
    );
    const shown = await open({ columns: 120, rows: 40 }, fresh());
    await shown.waitFor('images.tar');
    await shown.type('jj');
    await shown.type(KEYS.up);
    await shown.type(KEYS.enter);
    await shown.waitFor('Images to carry');
    await shown.type(`a-layout${KEYS.enter}`);
    await shown.waitFor('0 of 3 chosen');
    await shown.type('/web');
    await shown.type(KEYS.enter);
    await shown.type(' ');
    await shown.type(KEYS.esc);
    await shown.type('G');
    await shown.type('k');
    await shown.type(' ');
    await shown.waitFor('2 of 3 chosen');
    await shown.type('c');
    await shown.waitFor('2 of 2 images');
    await shown.waitFor(/signed:2\.1\s+\d+ KiB\s+\S+ K?i?B\s+5/);
    await shown.waitFor(/web:1\.0\s+\d+ KiB/);
    await shown.type('c');
    await shown.waitFor('Which platforms?');
    await shown.type('a');
    await shown.type('a');
    await shown.type('a');
    await shown.type('c');
    await shown.waitFor('choose at least one platform');
    await shown.type(' ');
    await shown.type('c');
    await shown.waitFor('Where to, and for how long?');
    await shown.type(KEYS.down);
    await shown.type(`\u001530d${KEYS.enter}`);
    await shown.waitFor('is there already');
    await shown.type(`\u0015out.tar${KEYS.enter}`);
    const review = await shown.waitFor('Sign and write 2 images?');
    expect(review.replace(/\s+/g, ' ')).toMatch(
      /sealift export .*a-layout:docker\.io\/acme\/signed:2\.1 .*--platform linux\/amd64 --expires 30d/,
    );
    await shown.waitFor(/needs +about/);
    await shown.type('c');
    await shown.waitFor('Passphrase for the key of the collection');
    await shown.type(TEST_PASSPHRASE);
    expect(shown.text()).not.toContain('test passphrase');
    await shown.type(KEYS.enter);
    const result = await shown.waitFor('✓ written');
    expect(result).toContain('On the sealed side');
    expect(result).toContain('sealift import out.tar');
    expect(shown.app.summary.at(-1)).toContain('written');
    rmSync(layout, { recursive: true });
  });

  test('a wrong passphrase is explained and can be tried again', async () => {
    const layout = path.join(world.directory, 'b-layout');
    makeLayout(layout, [{ name: 'docker.io/acme/job:7', root: singleImage() }]);
    const shown = await open({}, fresh());
    await shown.waitFor('images.tar');
    await shown.type('j');
    await shown.type(KEYS.enter);
    await shown.type(`oci:${layout}:docker.io/acme/job:7${KEYS.enter}`);
    await shown.waitFor(/job:7\s.*KiB/);
    await shown.type(KEYS.esc);
    await shown.type('c');
    await shown.waitFor('Where to');
    await shown.type('\u0015wrong.tar');
    await shown.type(KEYS.enter);
    await shown.waitFor('Sign and write 1 image?');
    await shown.type('c');
    await shown.waitFor('Passphrase for');
    await shown.type(`nonsense${KEYS.enter}`);
    await shown.waitFor('The export');
    await shown.type('r');
    await shown.waitFor('Passphrase for');
    await shown.type(KEYS.esc);
    await shown.waitFor('Stopped');
  });

  test('what cannot be had says why', async () => {
    const shown = await open({}, fresh());
    await shown.waitFor('images.tar');
    await shown.type('j');
    await shown.type(KEYS.enter);
    await shown.type(`/x:y:z${KEYS.enter}`);
    await shown.waitFor(/not an image reference|neither|got/);
    await shown.type('\u0015');
    await shown.type(`127.0.0.1:1/a:b${KEYS.enter}`);
    await shown.waitFor('cannot be had');
    await shown.type(KEYS.esc);
    await shown.type('c');
    await shown.waitFor('take it out with x');
    await shown.type('x');
    await shown.waitFor('0 images');
  });
});

test('a window that is too small says so, and everything is there again when it grows', async () => {
  const shown = await open();
  await shown.waitFor('images.tar');
  await shown.resize(50, 12);
  await shown.waitFor('needs a larger window');
  expect(shown.text()).not.toContain('images.tar');
  await shown.resize(100, 30);
  await shown.waitFor('images.tar');
  expect(shown.lines()[29]).toContain('quit');
});
