import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { createStyle } from '../../cli/output/style.ts';
import { createApp } from '../../cli/tui/app.ts';
import { createField } from '../../cli/tui/field.ts';
import { frame } from '../../cli/tui/frame.ts';
import { actionOf, decodeKeys, type InkKey, KEY_MAP, keyTable } from '../../cli/tui/keys.ts';
import { createList, LIST_ACTIONS } from '../../cli/tui/list.ts';
import { createMachine } from '../../cli/tui/machine.ts';
import { verdictsPage } from '../../cli/tui/pages/import/verdicts.ts';
import { textPage } from '../../cli/tui/pages/text.ts';
import { clip, clipStart, fold, padTo, textWidth } from '../../cli/tui/text.ts';
import type { Context } from '../../core/context.ts';
import type { ImageVerdict, VerifyResult } from '../../core/results.ts';
import { appOptions } from './screen.ts';

const PLAIN: InkKey = {
  upArrow: false,
  downArrow: false,
  leftArrow: false,
  rightArrow: false,
  pageUp: false,
  pageDown: false,
  home: false,
  end: false,
  return: false,
  escape: false,
  ctrl: false,
  meta: false,
  tab: false,
  backspace: false,
  delete: false,
};
const style = createStyle({ color: true, unicode: true, columns: 80 });
const NOWHERE = {
  directory: '/nonexistent',
  collection: '/nonexistent/c',
  gate: '/nonexistent/g',
  store: '/nonexistent/s',
};

describe('keys', () => {
  test('many letters in one read are many keys', () => {
    expect(decodeKeys('jjj', PLAIN).map(({ name }) => name)).toEqual(['j', 'j', 'j']);
    expect(decodeKeys('a b\r', PLAIN).map(({ name }) => name)).toEqual(['a', 'space', 'b', 'enter']);
  });
  test('Ctrl and Alt are not their letter', () => {
    expect(decodeKeys('d', { ...PLAIN, ctrl: true })).toEqual([{ name: 'ctrl-d', text: '' }]);
    expect(decodeKeys('q', { ...PLAIN, meta: true })).toEqual([]);
  });
  test('a page decides between two meanings of one key', () => {
    expect(actionOf('y', ['yes'])).toBe('yes');
    expect(actionOf('y', ['copy'])).toBe('copy');
    expect(actionOf('z', ['copy'])).toBeUndefined();
    expect(actionOf('q', [])).toBe('quit');
  });
  test('the table in docs/tui.md is the key map', () => {
    const text = readFileSync(path.join(import.meta.dirname, '../../docs/tui.md'), 'utf8');
    expect(text).toContain(keyTable());
    for (const { help } of Object.values(KEY_MAP)) expect(text).toContain(help);
  });
});

describe('text', () => {
  test('widths: wide characters take two columns, marks and colours none', () => {
    expect(textWidth('abc')).toBe(3);
    expect(textWidth('日本')).toBe(4);
    expect(textWidth('é')).toBe(1);
    expect(textWidth(style.good('ok'))).toBe(2);
  });
  test('cut to exactly the room there is', () => {
    expect(clip('abcdef', 4)).toBe('abc…');
    expect(clip('日本語', 4)).toBe('日…');
    expect(clip('abcdef', 4, false)).toBe('abc~');
    expect(clipStart('/a/b/c.tar', 6)).toBe('…c.tar');
    expect(padTo('ab', 4)).toBe('ab  ');
    expect(clip(style.good('abcdef'), 4).endsWith('\u001b[0m')).toBe(true);
  });
  test('long words are broken, not lost', () => {
    expect(fold('x'.repeat(25), 10).join('')).toBe('x'.repeat(25));
    expect(fold('one two three', 8)).toEqual(['one two', 'three']);
  });
});

describe('list', () => {
  const list = (count: number) => {
    const made = createList<string>({
      items: Array.from({ length: count }, (_, at) => `item ${at}`),
      key: (item) => item,
      text: (item) => item,
      marks: true,
    });
    made.lines(10, style, (item) => item);
    return made;
  };
  test('moves by line, page and end, and never out of the list', () => {
    const made = list(100);
    for (const action of ['up', 'pageUp', 'first'] as const) made.act(action);
    expect(made.current()).toBe('item 0');
    made.act('pageDown');
    expect(made.current()).toBe('item 9');
    made.act('last');
    expect(made.current()).toBe('item 99');
    made.act('down');
    expect(made.current()).toBe('item 99');
    expect(made.lines(10, style, (item) => item)).toHaveLength(10);
    expect(LIST_ACTIONS).toContain('filter');
  });
  test('makes only the lines that fit', () => {
    const made = list(10_000);
    let rows = 0;
    made.act('last');
    made.lines(20, style, (item) => {
      rows += 1;
      return item;
    });
    expect(rows).toBe(20);
  });
  test('a filter hides, marks stay, esc brings all back', () => {
    const made = list(30);
    made.act('mark');
    made.act('filter');
    for (const character of 'm 2') made.field?.take({ name: character, text: character });
    made.filterChanged();
    expect(made.shown).toHaveLength(11);
    made.act('open');
    made.act('markAll');
    expect(made.marked.size).toBe(12);
    expect(made.act('back')).toBe(true);
    expect(made.shown).toHaveLength(30);
    expect(made.act('back')).toBe(false);
  });
  test('an empty list has no current line', () => {
    const made = list(0);
    made.act('down');
    expect(made.current()).toBeUndefined();
  });
});

test('names that would steer the terminal are shown as escapes', () => {
  const evil = 'x\u001b]0;owned\u0007\u202egpj.exe';
  const image: ImageVerdict = {
    name: evil,
    digest: `sha256:${'a'.repeat(64)}`,
    mediaType: evil,
    platforms: [evil],
    omitted: [],
    size: 1,
    evidence: [],
    digestMadeHere: false,
    verdict: 'verified',
    reason: evil,
    role: evil,
    admitted: false,
  };
  const result: VerifyResult = {
    bundle: evil,
    size: 1,
    collection: {
      id: 'a',
      name: evil,
      version: 1,
      created: '2026-03-01T00:00:00Z',
      expires: '2026-04-01T00:00:00Z',
      rootFingerprint: 'a'.repeat(64),
      rootVersion: 1,
      roles: [],
    },
    checks: [],
    images: [image],
    withdrawn: [{ name: evil, digest: '', reason: evil, at: '' }],
    vanished: [evil],
    deep: false,
    policy: 'none',
    weakened: [],
  };
  const options = appOptions(NOWHERE, { color: false });
  const app = createApp(options, () => textPage({ kind: 'start', title: 'Start', lines: () => [] }));
  app.push(verdictsPage(app, `/x/${evil}`, result, []));
  const text = frame(app, { columns: 200, rows: 40 }).join('\n');
  expect(text).not.toMatch(/[\u001b\u0007\u202e]/);
  expect(text).toContain('\\u{1b}]0;owned');
});

test('a name with escapes on a stick reaches the terminal neither as a note nor as a completed path', () => {
  const evil = '/media/\u001b]0;owned\u0007\u202e\u009b2Jstick/';
  const field = createField({ value: evil });
  const app = createApp(appOptions(NOWHERE, { color: false }), () =>
    textPage({ kind: 'start', title: 'Start', lines: () => [field.line(200, style)] }),
  );
  app.say(evil);
  const text = frame(app, { columns: 200, rows: 40 }).join('\n');
  expect(text).not.toMatch(/[\u001b\u0007\u202e\u009b]/);
  expect(text.split('\\u{1b}]0;owned')).toHaveLength(3);
  expect(field.value).toBe(evil);
});

test('10,000 images: a key and a picture take no more than a few lines of work', () => {
  const images = Array.from({ length: 10_000 }, (_, at) => ({
    name: `docker.io/acme/image-${at}:1`,
    digest: `sha256:${'a'.repeat(64)}`,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    platforms: ['linux/amd64'],
    omitted: [],
    size: at,
    evidence: [],
    digestMadeHere: false,
    verdict: 'verified' as const,
    reason: 'signed by role images',
    role: 'images',
    admitted: false,
  }));
  const app = createApp(appOptions(NOWHERE, {}), () =>
    textPage({ kind: 'start', title: 'Start', lines: () => [] }),
  );
  const result = {
    images,
    withdrawn: [],
    vanished: [],
    weakened: [],
    policy: 'none',
    collection: { name: 'x', version: 1, expires: '2027-01-01T00:00:00Z' },
  };
  app.push(verdictsPage(app, '/x.tar', result as unknown as VerifyResult, []));
  const lines = frame(app, { columns: 80, rows: 24 });
  expect(lines).toHaveLength(24);
  app.press(decodeKeys('G', PLAIN));
  expect(frame(app, { columns: 80, rows: 24 }).join('\n')).toContain('image-9999');
});

test('told that blobs move from the first transfer to the end of the last, however they end', async () => {
  const told: boolean[] = [];
  const app = createApp({ ...appOptions(NOWHERE, {}), onTransfer: (moving) => told.push(moving) }, () =>
    textPage({ kind: 'start', title: 'Start', lines: () => [] }),
  );
  const move = (context: Context): void =>
    context.emit({ type: 'transfer', bytes: 1, blobs: 1, skippedBytes: 0 });
  await app.work(async (context) => context.emit({ type: 'phase', phase: 'verify', title: 'x' }), {});
  expect(told).toEqual([]);
  const gate = Promise.withResolvers<void>();
  const long = app.work(async (context) => {
    move(context);
    move(context);
    await gate.promise;
  }, {});
  const failing = app.work(async (context) => {
    move(context);
    throw new Error('no');
  }, {});
  await expect(failing).rejects.toThrow('no');
  expect(told).toEqual([true]);
  gate.resolve();
  await long;
  expect(told).toEqual([true, false]);
  await app.close();
});

describe('machine', () => {
  test('media: mounts below the usual places, names with blanks, bundles by their first members', async () => {
    const directory = mkdtempSync(path.join(os.tmpdir(), 'sealift-media-'));
    try {
      const stick = path.join(directory, 'media/me/MY STICK');
      mkdirSync(stick, { recursive: true });
      const bundle = Buffer.alloc(2048);
      bundle.write('oci-layout\0', 0);
      bundle.write('README.txt\0', 1024);
      writeFileSync(path.join(stick, 'images.tar'), bundle);
      writeFileSync(path.join(stick, 'holiday.tar'), Buffer.alloc(2048));
      writeFileSync(path.join(stick, 'short.tar'), 'oci-layout\0');
      const mounts = path.join(directory, 'mounts');
      writeFileSync(
        mounts,
        [
          `/dev/sda1 / ext4 rw 0 0`,
          `/dev/sdb1 ${stick.replaceAll(' ', '\\040')} vfat rw 0 0`,
          `/dev/sdc1 ${directory}/media/me/gone vfat rw 0 0`,
          '',
        ].join('\n'),
      );
      const machine = createMachine(
        { env: {}, uid: 1000, home: directory, cwd: directory },
        { mounts, roots: [path.join(directory, 'media')] },
      );
      const media = await machine.media();
      expect(media.map((medium) => medium.directory)).toEqual([stick]);
      expect(media[0]?.bundles.map(({ file }) => path.basename(file))).toEqual(['images.tar']);
      expect(media[0]?.facts.freeBytes).toBeGreaterThan(0);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
  test('the audit log: newest first, lines that are none are passed over', async () => {
    const gate = path.join(import.meta.dirname, '../golden/gate');
    const machine = createMachine({ env: {}, uid: 1000, home: '/', cwd: '/' });
    const found = await machine.activity(gate, 2);
    expect(found.length).toBe(2);
    expect((found[0]?.at ?? '') >= (found[1]?.at ?? '')).toBe(true);
    expect(await machine.activity('/nonexistent', 3)).toEqual([]);
  });
});
