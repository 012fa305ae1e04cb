import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { makeReceipt } from '../../../core/delta/make-receipt.ts';
import { diffLocations } from '../../../core/diff.ts';
import { makeImage, makeLayer } from '../../../fixtures/images.ts';
import { DAY, makeWorld, SOURCE_OPTIONS, type World } from '../../../fixtures/world.ts';

const WEB = 'docker.io/acme/web:1';
const API = 'docker.io/acme/api:1';
const BASE = makeLayer({ 'etc/os-release': 'test '.repeat(2000) });
const image = (label: string) => makeImage({ layers: [BASE, makeLayer({ 'srv/label': label })] });

let world: World;
let receipt: string;
beforeEach(async () => {
  world = await makeWorld();
  receipt = path.join(world.directory, 'receipt.json');
  const first = await world.export({ [WEB]: image('web'), [API]: image('api') });
  await world.pin(first.output);
  await world.import(first.output);
  await makeReceipt(
    {
      gate: world.gate,
      store: world.store,
      lifetime: 90 * DAY,
      output: { kind: 'file', path: receipt, force: false },
      pid: process.pid,
      actor: 'tester',
    },
    world.context(),
  );
});
afterEach(() => world.close());

const run = (before: string, after: string) =>
  diffLocations({ before, after, files: false, source: SOURCE_OPTIONS }, world.context());

describe('a receipt and a bundle', () => {
  test('show what is new to the gate, and what is to be carried', async () => {
    const moved = image('web, again');
    const second = await world.export({ [WEB]: moved });
    const result = await run(receipt, second.output);
    expect(result.before).toMatchObject({ kind: 'receipt', images: 2, collection: { version: 2 } });
    expect(result.added.map(({ name }) => name)).toEqual([WEB]);
    expect(result.notCarried.map(({ name }) => name)).toEqual([API]);
    expect(result.shared).toEqual({ blobs: 1, bytes: BASE.blob.size });
    const all = moved.size + moved.blobs.reduce((sum, { size }) => sum + size, 0);
    expect(result.carry.bytes).toBe(all - BASE.blob.size);
  });

  test('show what has arrived as unchanged', async () => {
    const second = await world.export({ [WEB]: image('web') });
    const result = await run(receipt, second.output);
    expect(result.unchanged.map(({ name }) => name)).toEqual([WEB]);
    expect(result.added).toEqual([]);
  });
});

describe('a receipt is refused', () => {
  test('where a byte of it was changed', async () => {
    const second = await world.export({ [WEB]: image('web') });
    writeFileSync(receipt, readFileSync(receipt, 'utf8').replace('"number":1', '"number":2'));
    await expect(run(receipt, second.output)).rejects.toMatchObject({ code: 'signature-invalid' });
  });

  test('beside a bundle of another collection', async () => {
    const other = await world.stranger();
    const theirs = await other.export({ [WEB]: image('web') });
    await expect(run(receipt, theirs.output)).rejects.toMatchObject({ code: 'receipt-mismatch' });
  });

  test('as the second side', async () => {
    await expect(run(world.store, receipt)).rejects.toMatchObject({ code: 'unknown-location' });
  });
});
