/** The second stick, on the built program: receipt back, delta out, and what is said where its base is missing. */
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ReceiptResult } from '../../core/results.ts';
import { makeImage, makeLargeLayer, makeLayer, makeLayout } from '../../fixtures/images.ts';
import { makeWalk, type Walk } from '../../fixtures/walk.ts';

const NAMES = ['docker.io/acme/web:1', 'docker.io/acme/db:1'];
/** Programs one after another, on a machine that may be busy. */
const LONG = { timeout: 180_000 };
let walk: Walk;
let gate: string;

/** The images as they are in a month, as arguments of export. */
function month(number: number): string[] {
  const layout = walk.sandbox.path(`month-${number}`);
  if (!existsSync(layout)) {
    const root = (name: string) =>
      makeImage({
        layers: [
          makeLargeLayer(400_000, 'base'),
          makeLayer({ app: `${name} in month ${number}\n`.repeat(2000) }),
        ],
      });
    makeLayout(
      layout,
      NAMES.map((name) => ({ name, root: root(name) })),
    );
  }
  return NAMES.map((name) => `oci:${layout}:${name}`);
}

const file = (name: string): string => walk.sandbox.path(name);

beforeAll(async () => {
  walk = makeWalk();
  await walk.init({ keys: 'native' });
  await walk.export(month(1), file('1.tar'));
  await walk.pin(file('1.tar'), await walk.rootFingerprint());
});
afterAll(() => walk.sandbox.remove());

test('an import prints the code, and a receipt is written, read and pinned', LONG, async () => {
  const { stdout } = await walk.import(file('1.tar'));
  const [code = ''] = /\b2-[0-9A-Z]{4}-[0-9A-Z]{4}\b/.exec(stdout) ?? [];
  expect(code).not.toBe('');
  const paper = await walk.sandbox.run(['receipt', '--quiet']);
  expect(paper.stdout.trim()).toBe(code);
  const made = await walk.json<ReceiptResult>(['receipt', '--output', file('receipt.json')]);
  expect(made.receipt).toMatchObject({ number: 2, images: 2, accepted: { version: 2 } });
  gate = made.receipt.gate;
  const shown = await walk.sandbox.run(['inspect', file('receipt.json')]);
  expect(shown.stdout).toContain('2 images, 3 layers, as keyed hashes');
  expect(readFileSync(file('receipt.json'), 'utf8')).not.toContain('acme');
  const piped = await walk.sandbox.run(['receipt', '-o', '-']);
  expect((JSON.parse(piped.stdout) as { signed: object }).signed).toMatchObject({ number: 3 });

  const early = await walk.tryExport(month(2), file('2.tar'), { args: ['--since', file('receipt.json')] });
  expect({ code: early.code, said: early.stderr }).toMatchObject({
    code: 5,
    said: expect.stringContaining('trust pin-gate') as string,
  });
  const pinned = await walk.sandbox.run(['trust', 'pin-gate', file('receipt.json'), '--fingerprint', gate]);
  expect(pinned.code).toBe(0);
});

test('the next bundle is a delta, rehearsed before the walk, and imported', LONG, async () => {
  const { stdout } = await walk.export(month(2), file('2.tar'), { args: ['--since', file('receipt.json')] });
  expect(stdout).toContain('on version 2: 1 layer');
  expect(statSync(file('2.tar')).size).toBeLessThan(statSync(file('1.tar')).size / 2);
  const rehearsed = await walk.sandbox.run(['verify', file('2.tar'), '--as', file('receipt.json')]);
  expect(rehearsed.code).toBe(0);
  expect(rehearsed.stdout).toContain(`gate ${gate}, by its receipt 2`);
  const imported = await walk.import(file('2.tar'));
  expect(imported.stdout).toContain('were there already');
  const stale = await walk.sandbox.run(['verify', file('1.tar'), '--as', file('receipt.json')]);
  expect(stale.code).toBe(0);
});

test('a lost stick is named, asked for, and made good', LONG, async () => {
  await walk.export(month(3), file('3.tar'), { args: ['--since', 'last'] });
  await walk.export(month(3), file('4.tar'), { args: ['--since', 'last'] });
  const refused = await walk.tryImport(file('4.tar'));
  expect(refused.code).toBe(8);
  expect(refused.stderr).toContain('docker.io/acme/web:1 lacks sha256:');
  expect(refused.stderr).toContain('--blobs-from');
  const asking = await walk.tryImport(file('4.tar'), { args: ['--request', file('request.json')] });
  expect(asking.code).toBe(8);
  const shown = await walk.sandbox.run(['inspect', file('request.json')]);
  expect(shown.stdout).toContain('what version 5 lacks: 2 layers');
  await walk.export(month(3), file('5.tar'), { args: ['--since', file('request.json')] });
  await walk.import(file('4.tar'), { args: ['--blobs-from', file('3.tar')] });
  await walk.import(file('5.tar'));
});

test('a code that was mistyped, and one of nobody, are told apart', LONG, async () => {
  const typo = await walk.tryExport(month(3), file('6.tar'), { args: ['--since', '2-AAAA-AAAB'] });
  expect({ code: typo.code, said: typo.stderr }).toMatchObject({
    code: 2,
    said: expect.stringContaining('misread or mistyped') as string,
  });
  const { stdout } = await walk.sandbox.run(['receipt', '--quiet']);
  await walk.export(month(3), file('6.tar'), { args: ['--since', stdout.trim().toLowerCase()] });
  rmSync(walk.sandbox.path('collection', 'exports'), { recursive: true });
  const unknown = await walk.tryExport(month(3), file('7.tar'), { args: ['--since', stdout.trim()] });
  expect({ code: unknown.code, said: unknown.stderr }).toMatchObject({
    code: 2,
    said: expect.stringContaining('code-unknown') as string,
  });
});

test('a receipt that was changed is refused', LONG, async () => {
  const text = readFileSync(file('receipt.json'), 'utf8');
  writeFileSync(file('forged.json'), text.replace('"number":2', '"number":3'));
  const forged = await walk.tryExport(month(3), file('8.tar'), { args: ['--since', file('forged.json')] });
  expect({ code: forged.code, said: forged.stderr }).toMatchObject({
    code: 5,
    said: expect.stringContaining('signature-invalid') as string,
  });
  const shown = await walk.sandbox.run(['inspect', file('forged.json')]);
  expect(shown.code).toBe(5);
});
