/** Choosing what to export: type-ahead, catalog and tags, list files, settings. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createField } from '../../cli/tui/field.ts';
import { commandWords, createDraft } from '../../cli/tui/pages/export/draft.ts';
import { makeLayout, multiArchImage, pushImage, signedImage, singleImage } from '../../fixtures/images.ts';
import { type OciRegistry, startOciRegistry } from '../../fixtures/oci-registry.ts';
import { makeWorld, type World } from '../../fixtures/world.ts';
import { KEYS, openScreen, type ScreenOptions, type TestScreen } from './screen.ts';

let world: World;
let registry: OciRegistry;
let shut: OciRegistry;
let screen: TestScreen | undefined;

beforeAll(async () => {
  world = await makeWorld();
  [registry, shut] = await Promise.all([startOciRegistry(), startOciRegistry({ catalog: false })]);
  await pushImage(registry.url, 'acme/web', '1.0', multiArchImage());
  await pushImage(registry.url, 'acme/web', '1.1', multiArchImage());
  await pushImage(registry.url, 'acme/signed', '2.1', signedImage());
  await pushImage(shut.url, 'acme/job', '7', singleImage());
});
afterEach(async () => {
  await screen?.close();
  screen = undefined;
});
afterAll(async () => {
  await Promise.all([registry.stop(), shut.stop()]);
  await world.close();
});

/** The page that lists the images, where nothing is typed and registries are spoken to without TLS. */
async function images(options: ScreenOptions = {}): Promise<TestScreen> {
  screen = await openScreen(world, { columns: 120, rows: 30, ...options });
  await screen.waitFor('On this machine');
  await screen.type('j');
  await screen.type(KEYS.enter);
  await screen.waitFor('image: ');
  await screen.type(KEYS.esc);
  await screen.waitFor('add image');
  await screen.type('p');
  await screen.waitFor('asked without TLS');
  return screen;
}

describe('choosing images', () => {
  test('a registry that lists its repositories: catalog, tags, several at once, shared bytes', async () => {
    const shown = await images();
    await shown.type('t');
    await shown.type(`${registry.host}${KEYS.enter}`);
    await shown.waitFor('2 repositories');
    expect(shown.text()).toMatch(/acme\/signed\s*\n.*acme\/web/);
    await shown.type('/web');
    await shown.type(KEYS.enter);
    await shown.waitFor('1 of 2');
    await shown.type(KEYS.enter);
    await shown.waitFor('0 of 2 chosen');
    await shown.type('a');
    await shown.waitFor('2 of 2 chosen');
    await shown.type('c');
    await shown.waitFor(/2 of 2 images, (?!0 B)/);
    const page = await shown.waitFor(/web:1\.1\s+[\d.]+ KiB\s+[\d.]+ KiB\s+none\s+linux\/amd64/);
    // The second has the blobs of the first and brings nothing.
    expect(page).toMatch(/web:1\.0\s+[\d.]+ KiB\s+0 B/);
    // Left out of the sum when it is not chosen.
    const before = /images, ([\d.]+ KiB)/.exec(page)?.[1];
    await shown.type(' ');
    await shown.waitFor('1 of 2 images');
    expect(/images, ([\d.]+ KiB)/.exec(shown.text())?.[1]).toBe(before);
  });

  test('one that does not: its words, and names can be typed', async () => {
    const shown = await images();
    await shown.type('t');
    await shown.type(`${shut.host}${KEYS.enter}`);
    await shown.waitFor('does not list its repositories');
    expect(shown.text().replace(/\s+/g, ' ')).toContain('type the name of a repository');
    await shown.type(KEYS.esc);
    await shown.waitFor('add image');
    await shown.type('n');
    await shown.type(`${shut.host}/acme/job:`);
    await shown.waitFor(`${shut.host}/acme/job:7`);
    await shown.type(KEYS.tab);
    await shown.waitFor(`image: ${shut.host}/acme/job:7`);
    await shown.type(KEYS.enter);
    await shown.waitFor(/job:7\s+[\d.]+ KiB/);
  });

  test('type-ahead: repositories behind a host, then tags; the pointer picks one', async () => {
    const shown = await images();
    await shown.type('n');
    await shown.type(`${registry.host}/acme/w`);
    await shown.waitFor(`    ${registry.host}/acme/web`);
    await shown.type(KEYS.down);
    await shown.type(KEYS.enter);
    await shown.waitFor(`image: ${registry.host}/acme/web`);
    await shown.type(':');
    await shown.waitFor(/web:1\.0\s*\n.*web:1\.1/);
    await shown.type(KEYS.down);
    await shown.type(KEYS.down);
    await shown.waitFor(/▸ \S+web:1\.1/);
    await shown.type(KEYS.enter);
    await shown.waitFor(/\[x\] \S+web:1\.1\s+[\d.]+ KiB/);
  });

  test('a host alone opens its list; a repository without that tag leads to its tags', async () => {
    const shown = await images();
    await shown.waitFor('none yet: n types one');
    await shown.type('n');
    await shown.type(`${registry.host}${KEYS.enter}`);
    await shown.waitFor('2 repositories');
    await shown.type(KEYS.left);
    await shown.waitFor('none yet');
    await shown.type('n');
    await shown.type(`${shut.host}/acme/job:7${KEYS.enter}`);
    await shown.type(`${registry.host}/acme/web${KEYS.enter}`);
    // The pointer is at what was added last, so that what is said is about it.
    await shown.waitFor('no manifest latest');
    await shown.type(KEYS.esc);
    await shown.type(KEYS.enter);
    await shown.waitFor('0 of 2 chosen');
    await shown.type(KEYS.enter);
    await shown.waitFor(/web:1\.0\s+[\d.]+ KiB/);
  });

  test('a list file: images are added, what is none is named', async () => {
    writeFileSync(
      path.join(world.directory, 'images.yaml'),
      `spec:\n  containers:\n    - image: ${registry.host}/acme/signed:2.1\n    - image: "{{ .Values.image }}"\n`,
    );
    const shown = await images();
    await shown.type('f');
    await shown.type(`none.yaml${KEYS.enter}`);
    await shown.waitFor('there is no such list');
    await shown.type(`\u0015./images.y`);
    await shown.waitFor('    ./images.yaml');
    await shown.type(KEYS.tab);
    await shown.type(KEYS.enter);
    await shown.waitFor('1 image from the list; left out: {{ .Values.image }}');
    await shown.waitFor(/signed:2\.1.*\s5 {2}linux/);
    await shown.waitFor('evidence: 1 x');
  });

  test('a directory of a layout, by the path alone', async () => {
    makeLayout(path.join(world.directory, 'plain'), [{ name: 'v1', root: singleImage() }]);
    const shown = await images();
    await shown.type('n');
    await shown.type(`./plain${KEYS.enter}`);
    await shown.waitFor('0 of 1 chosen');
    await shown.type(KEYS.enter);
    // A tag alone is no name; the directory gives the rest.
    await shown.waitFor(/localhost\/plain:v1\s+[\d.]+ KiB/);
  });

  test('what the sources are asked with: a CA file that is not there, no evidence', async () => {
    const shown = await images();
    await shown.type('n');
    await shown.type(`${registry.host}/acme/signed:2.1${KEYS.enter}`);
    await shown.waitFor(/signed:2\.1.*\s5 {2}linux/);
    await shown.type(KEYS.esc);
    await shown.type('o');
    await shown.waitFor('How are sources asked');
    await shown.type(KEYS.down);
    await shown.type(`nowhere.pem${KEYS.enter}`);
    await shown.waitFor('there is nothing at');
    await shown.type('\u0015');
    await shown.type(KEYS.down);
    await shown.type(KEYS.down);
    await shown.type(' ');
    await shown.waitFor('may refuse images without evidence');
    await shown.type(KEYS.enter);
    await shown.waitFor(/signed:2\.1.*\snone {2}linux/);
  });
});

describe('the command line that does the same', () => {
  test('is what a shell reads back as the same words, whatever the names', async () => {
    const shown = await openScreen(world, {});
    screen = shown;
    const { app } = shown;
    const draft = createDraft(app);
    const odd = [
      'a b',
      "it's",
      '$(id)',
      '`id`',
      'new\nline',
      'tab\t',
      '\u202egpj',
      'ü',
      '-x',
      '*',
      'a\\b',
      '~',
    ];
    draft.items = odd.map((text) => ({
      text,
      named: { text, location: { kind: 'file', file: text } as const },
    }));
    for (const text of odd) draft.chosen.add(text);
    draft.output = "out dir/it's.tar";
    draft.sources = {
      connection: 'unverified',
      caFile: 'c a.pem',
      authFile: '',
      evidence: false,
      foreign: true,
    };
    const { commandLines, shellQuote } = await import('../../cli/output/format.ts');
    const words = commandWords(app, draft);
    for (const text of [words.map(shellQuote).join(' '), commandLines(words, 40).join('\n')]) {
      expect(text.replaceAll('\n', '')).toMatch(/^[^\p{Cc}\p{Cf}]*$/u);
      const read = execFileSync('bash', ['-c', `set -- ${text}\nprintf '%s\\0' "$@"`]).toString();
      expect(read.split('\0').slice(0, -1)).toEqual(words);
    }
    expect(words).toEqual(
      expect.arrayContaining(['--insecure-skip-tls-verify', '--include-foreign', '--exclude-evidence']),
    );
  });
});

test('a line that is typed can be edited in the middle', () => {
  const field = createField({ value: 'quay.io/acme/app:1' });
  const press = (...names: string[]): void => {
    for (const name of names) field.take({ name, text: name.length === 1 ? name : '' });
  };
  press('left', 'left', '2');
  expect(field.value).toBe('quay.io/acme/app2:1');
  press('end', 'ctrl-w');
  expect(field.value).toBe('quay.io/acme/app2:');
  press('ctrl-w');
  expect(field.value).toBe('quay.io/acme/');
  press('home', 'x', 'delete', 'backspace', 'ctrl-k');
  expect(field.value).toBe('');
});

test('no file system, no completion; a directory ends in a slash', async () => {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'sealift-complete-'));
  try {
    makeLayout(path.join(directory, 'layout'), []);
    writeFileSync(path.join(directory, 'list.txt'), '');
    writeFileSync(path.join(directory, '.hidden'), '');
    const { createMachine } = await import('../../cli/tui/machine.ts');
    const machine = createMachine({ env: {}, uid: 1, home: directory, cwd: directory }, { mounts: '/none' });
    expect(await machine.complete('./l')).toEqual(['./layout/', './list.txt']);
    expect(await machine.complete('~/')).toEqual(['~/layout/', '~/list.txt']);
    expect(await machine.complete('oci:./la')).toEqual(['oci:./layout/']);
    expect(await machine.complete(`${directory}/none/`)).toEqual([]);
    expect(await machine.kindOf(path.join(directory, 'layout'))).toBe(`oci:${directory}/layout`);
    expect(await machine.kindOf(path.join(directory, 'list.txt'))).toBeUndefined();
  } finally {
    rmSync(directory, { recursive: true });
  }
});
