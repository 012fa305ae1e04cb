/** One medium after another at a real terminal: the questions, the wrong answers, and what comes of them. */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { EXIT_CODES } from '../../cli/exit-codes.ts';
import { programFile, succeeded } from '../../fixtures/cli.ts';
import { largeImage, makeLayout } from '../../fixtures/images.ts';
import { blobDigests } from '../../fixtures/store.ts';
import { makeWalk, type Walk } from '../../fixtures/walk.ts';
import { HAS_TERMINAL, runInTerminal, type TerminalRun } from '../cli/terminal.ts';
import { newReader } from '../core/encryption/crafted.ts';

const ENTER = '\r';
const CTRL_C = '\u0003';
const STICKS = ['one', 'two', 'three'] as const;

type Step = readonly [waitFor: string, type: string];

let walk: Walk;
let image: string;
/** Where media are put in; each is a directory of its own. */
let sticks: string;
const stick = (name: string) => path.join(sticks, name);

function inTerminal(args: readonly string[], steps: readonly Step[]): Promise<TerminalRun> {
  return runInTerminal(
    [process.execPath, programFile(), ...args],
    { ...(walk.sandbox.env as Record<string, string>), TERM: 'xterm-256color' },
    steps,
    sticks,
  );
}

const exporting = (output: string, size = '256KiB', ...more: readonly string[]) => [
  ...['export', image, '--output', output, '--volume-size', size, '--change-media'],
  ...['--passphrase-file', walk.passphraseFile, ...more],
];

function expectDone(run: TerminalRun): void {
  expect(run.left, run.screen).toBe(0);
  expect(run.code, run.screen).toBe(0);
  expect(run.same).toBe(true);
}

const volumesOn = (name: string): readonly string[] =>
  readdirSync(stick(name)).filter((file) => /\.\d{3}(\.gpg)?$/.test(file));

describe.skipIf(!HAS_TERMINAL)('media that are changed', () => {
  beforeAll(async () => {
    walk = makeWalk();
    const layout = walk.sandbox.path('layout');
    makeLayout(layout, [{ name: 'app', root: largeImage(2, 300_000) }]);
    image = `registry.example/app:v1=oci:${layout}:app`;
    await walk.init({ keys: 'native' });
    await walk.export([image], walk.sandbox.path('first.tar'));
    await walk.pin(walk.sandbox.path('first.tar'), await walk.rootFingerprint());
  });
  afterAll(() => walk?.sandbox.remove());
  beforeEach(() => {
    sticks = walk.sandbox.path('sticks');
    rmSync(sticks, { recursive: true, force: true });
    for (const name of ['one', 'two', 'three', 'place']) mkdirSync(stick(name), { recursive: true });
    rmSync(walk.sandbox.path('store'), { recursive: true, force: true });
  });

  test('an export asks for each, does not take one twice, and an import asks in any order', async () => {
    const out = await inTerminal(exporting(`${stick('one')}/images.tar`), [
      ['Insert a medium for volume 2 of 3', ENTER],
      ['Not this one: there is a volume of this bundle on it already', `${stick('two')}${ENTER}`],
      ['Insert a medium for volume 3 of 3', `${stick('three')}${ENTER}`],
    ]);
    expectDone(out);
    for (const [at, name] of STICKS.entries()) expect(volumesOn(name)).toEqual([`images.tar.00${at + 1}`]);

    // The last comes first, and is asked for again when the first one has told what belongs together.
    const read = await inTerminal(
      ['import', `${stick('three')}/images.tar.003`, '--yes'],
      [
        ['Insert the medium with volume 1', `${stick('place')}${ENTER}`],
        ['Not this one: no volume of images.tar is there', `${stick('two')}${ENTER}`],
        ['Not this one: there is volume 2', `${stick('one')}${ENTER}`],
        ['Insert the medium with one of volumes 2 and 3 of 3', `${stick('three')}${ENTER}`],
        ['Insert the medium with volume 2 of 3', `${stick('two')}${ENTER}`],
      ],
    );
    expectDone(read);
    expect(blobDigests(walk.sandbox.path('store')).length).toBeGreaterThan(3);
  });

  test('Ctrl-C at the question ends an export, and the same command asks for the same medium', async () => {
    const command = exporting(`${stick('one')}/images.tar`);
    const stopped = await inTerminal(command, [['Insert a medium for volume 2 of 3', CTRL_C]]);
    expect(stopped.left, stopped.screen).toBe(0);
    expect(stopped.code, stopped.screen).toBe(EXIT_CODES.cancelled[0]);
    expect(stopped.same).toBe(true);
    const whole = readFileSync(path.join(stick('one'), 'images.tar.001'));
    expectDone(
      await inTerminal(command, [
        ['Insert a medium for volume 2 of 3', `${stick('two')}${ENTER}`],
        ['Insert a medium for volume 3 of 3', `${stick('three')}${ENTER}`],
      ]),
    );
    expect(readFileSync(path.join(stick('one'), 'images.tar.001')).equals(whole)).toBe(true);
    const all = walk.sandbox.path('all');
    mkdirSync(all);
    for (const name of STICKS)
      for (const file of volumesOn(name)) renameSync(path.join(stick(name), file), path.join(all, file));
    succeeded(await walk.sandbox.run(['import', all, '--yes']), 'import of what was gone on with');
  });

  test('encrypted volumes are asked for in the same way', async () => {
    const { certificate, secret } = await newReader();
    const [to, key] = [walk.sandbox.path('reader.asc'), walk.sandbox.path('secret.asc')];
    writeFileSync(to, certificate);
    writeFileSync(key, secret);
    expectDone(
      await inTerminal(exporting(`${stick('one')}/images.tar`, '400KiB', '--encrypt-to', to), [
        ['Insert a medium for volume 2 of 3', ENTER],
        ['Not this one: there is a volume of this bundle on it already', `${stick('two')}${ENTER}`],
        ['Insert a medium for volume 3 of 3', `${stick('three')}${ENTER}`],
      ]),
    );
    const files = STICKS.flatMap((name) => volumesOn(name).map((file) => path.join(stick(name), file)));
    expect(files.map((file) => path.basename(file))).toEqual(
      [1, 2, 3].map((number) => `images.tar.00${number}.gpg`),
    );
    succeeded(await walk.sandbox.run(['import', ...files, '--decrypt-key', key, '--yes']), 'import');
  });
});
