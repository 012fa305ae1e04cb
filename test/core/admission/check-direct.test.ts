/** The check command before images that go straight to where clients pull from: nothing is there before it has answered. */
import { createReadStream, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { CheckCommand } from '../../../core/admission/check-command.ts';
import { isSealiftError } from '../../../core/errors.ts';
import { openStaticDirectory } from '../../../core/publish/static-directory.ts';
import type { ImportResult } from '../../../core/results.ts';
import type { ImportOptions } from '../../../core/workflow-options.ts';
import { digestsOf, multiArchImage, singleImage } from '../../../fixtures/images.ts';
import { flip, layerNames, makeWorld, type World } from '../../../fixtures/world.ts';

const good = multiArchImage();
const bad = singleImage('bad');
const GOOD = 'a.example/good:1';
const BAD = 'a.example/bad:1';
let world: World;
let bundle: string;
let tree: string;
let scratch: string;

beforeEach(async () => {
  world = await makeWorld();
  bundle = path.join(world.directory, 'bundle.tar');
  tree = path.join(world.directory, 'tree');
  scratch = path.join(world.directory, 'scratch');
  mkdirSync(scratch);
  await world.export({ [GOOD]: good, [BAD]: bad }, { file: bundle });
  await world.pin(bundle);
});
afterEach(() => world.close());

function importTo(
  text: string,
  options: Partial<ImportOptions> = {},
  file: string = bundle,
): Promise<ImportResult> {
  const program = path.join(world.directory, 'scanner');
  writeFileSync(program, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  const checkCommand: CheckCommand = {
    command: [program],
    environment: { PATH: process.env['PATH'], WORLD: world.directory },
    timeoutMs: 20_000,
    temporary: scratch,
    kill: () => {},
  };
  return world.import(file, {
    store: undefined,
    checkCommand,
    direct: {
      open: [async (context) => openStaticDirectory({ directory: tree, pid: process.pid }, context)],
      placement: {},
    },
    ...options,
  });
}

const REFUSE_BAD = `case "$SEALIFT_IMAGE" in *bad*) echo FOUND; exit 1;; esac`;
/** What the program sees of the destination, and of the images beside the one it is asked about. */
const LOOK = `
  { test -e "$WORLD/tree/v2" && echo published; ls "$(dirname "$SEALIFT_LAYOUT")" | wc -l; } >> "$WORLD/seen"
  (cd "$SEALIFT_LAYOUT/blobs/sha256" && for f in *; do echo "$f  $f"; done | sha256sum -c --quiet) || exit 9
  ls "$SEALIFT_LAYOUT/blobs/sha256" | sort > "$WORLD/blobs-$(basename "$SEALIFT_IMAGE")"`;
const published = (): string[] =>
  existsSync(tree)
    ? readdirSync(tree, { recursive: true })
        .map(String)
        .filter((file) => /\/(?:blobs|manifests)\/./.test(file))
    : [];
async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'done',
    (error: unknown) => (isSealiftError(error) ? error.code : String(error)),
  );
}

describe('straight to a destination', () => {
  it('every image is shown whole, alone, and before anything is sent', async () => {
    const result = await importTo(LOOK);
    expect(result.imported).toEqual([BAD, GOOD]);
    expect(readFileSync(path.join(world.directory, 'seen'), 'utf8').trim().split(/\s+/)).toEqual(['1', '1']);
    const shown = readFileSync(path.join(world.directory, 'blobs-good:1'), 'utf8').trim().split('\n');
    expect(shown).toEqual(
      digestsOf(good)
        .map((digest) => digest.replace('sha256:', ''))
        .sort(),
    );
    expect(published()).not.toEqual([]);
    expect(readdirSync(scratch)).toEqual([]);
    expect(existsSync(world.store)).toBe(false);
  });

  it('nothing is sent where the program refuses one image', async () => {
    expect(await codeOf(importTo(REFUSE_BAD))).toBe('check-refused');
    expect(published()).toEqual([]);
    expect(readdirSync(scratch)).toEqual([]);
    expect(readFileSync(path.join(world.gate, 'audit.log'), 'utf8')).toContain('FOUND');
  });

  it.each([
    ['from the bundle', {}],
    ['over a store', { store: 'store' }],
    ['over a store, from a stream', { store: 'store', streamed: true }],
  ])('what passes is sent where that is asked for, and no blob of the other: %s', async (_how, how) => {
    const { store, streamed } = how as { store?: string; streamed?: boolean };
    const result = await importTo(REFUSE_BAD, {
      admitPassing: true,
      store: store && world.store,
      ...(streamed ? { bundle: { kind: 'stream', stream: createReadStream(bundle) } } : {}),
    });
    expect(result.imported).toEqual([GOOD]);
    const there = published().join('\n');
    for (const digest of digestsOf(good)) expect(there).toContain(digest);
    const shared = new Set(digestsOf(good));
    for (const digest of digestsOf(bad)) if (!shared.has(digest)) expect(there).not.toContain(digest);
    expect(result.images.find(({ name }) => name === BAD)).toMatchObject({
      verdict: 'invalid',
      admitted: false,
    });
  });

  it('a damaged layer is found before the program sees it', async () => {
    const [layer = ''] = layerNames(bundle);
    const damaged = flip(bundle, path.join(world.directory, 'damaged.tar'), layer, 3);
    expect(await codeOf(importTo('exit 0', {}, damaged))).toBe('digest-mismatch');
    expect(published()).toEqual([]);
    expect(readdirSync(scratch)).toEqual([]);
  });

  it('without a place to write images out to there is nothing to look at', async () => {
    const checkCommand: CheckCommand = {
      command: ['true'],
      environment: process.env,
      timeoutMs: 1,
      kill: () => {},
    };
    expect(await codeOf(importTo('exit 0', { checkCommand }))).toBe('invalid-argument');
    expect(published()).toEqual([]);
  });
});
