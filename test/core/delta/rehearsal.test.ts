/** `verify --as`: on the connected side, the verdict that the gate gives later. */
import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { makeReceipt } from '../../../core/delta/make-receipt.ts';
import { pinGateOfReceipt } from '../../../core/delta/pin-gate.ts';
import { setPolicy } from '../../../core/trust/policy/admin.ts';
import type { VerifyOptions } from '../../../core/workflow-options.ts';
import { makeImage, makeLayer } from '../../../fixtures/images.ts';
import { DAY, makeWorld, START, type World } from '../../../fixtures/world.ts';

const APP = 'registry.example/team/app:1';
const LIB = 'registry.example/team/lib:2';
const later = (days: number) => new Date(START.getTime() + days * DAY);
const grown = (label: string) =>
  makeImage({
    layers: [
      makeLayer({ 'base.txt': 'the same in all'.repeat(500) }),
      makeLayer({ 'own.txt': label.repeat(300) }),
    ],
  });

let world: World;
let receipt: string;
let first: string;
beforeEach(async () => {
  world = await makeWorld();
  receipt = path.join(world.directory, 'receipt.json');
  first = (await world.export({ [APP]: grown('one') })).output;
  await world.pin(first);
  await world.import(first);
  const made = await makeNew(START);
  await pinGateOfReceipt(
    { collection: world.collection, receipt, fingerprint: made.receipt.gate, pid: process.pid },
    world.context(),
  );
});
afterEach(() => world.close());

function makeNew(now: Date, output = receipt) {
  return makeReceipt(
    {
      gate: world.gate,
      store: world.store,
      lifetime: 90 * DAY,
      output: { kind: 'file', path: output, force: false },
      pid: process.pid,
      actor: 'tester',
    },
    world.context(now),
  );
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'accepted',
    (error: { code: string; check?: string }) => `${error.code} ${error.check ?? ''}`.trim(),
  );
}

/** The connected side has neither gate nor store. */
const rehearse = (file: string, now: Date, more: Partial<VerifyOptions> = {}) =>
  world.verify(file, {
    now,
    gate: path.join(world.directory, 'no-gate'),
    rehearse: { receipt, collection: world.collection },
    ...more,
  });

/** What the rehearsal says and what the gate then does. */
async function both(file: string, now: Date): Promise<[string, string]> {
  const before = await codeOf(rehearse(file, now));
  return [before, await codeOf(world.import(file, { now }))];
}

test('accepts what the gate accepts, and says what is there already', async () => {
  const { output } = await world.export(
    { [APP]: grown('one'), [LIB]: grown('two') },
    { now: later(1), since: { kind: 'file', path: receipt } },
  );
  const result = await rehearse(output, later(1));
  expect(result.rehearsal).toMatchObject({ number: 1, accepted: 2, unchanged: [APP], policy: 'none' });
  expect(result.checks.find(({ check }) => check === 'base')).toMatchObject({ status: 'passed' });
  expect(await both(output, later(1))).toEqual(['accepted', 'accepted']);
  expect(await both(output, later(1))).toEqual(['accepted', 'accepted']);
});

test('refuses a version below the one that was accepted', async () => {
  const old = (await world.export({ [APP]: grown('two') }, { now: later(1) })).output;
  const newer = (await world.export({ [APP]: grown('three') }, { now: later(2) })).output;
  await world.import(newer, { now: later(2) });
  await makeNew(later(2));
  expect(await both(old, later(2))).toEqual(['rollback timestamp', 'rollback timestamp']);
});

test('refuses a version that was accepted with other content', async () => {
  const copy = world.fork();
  const theirs = (await copy.export({ [APP]: grown('theirs') }, { now: later(1) })).output;
  const ours = (await world.export({ [APP]: grown('ours') }, { now: later(1) })).output;
  await world.import(ours, { now: later(1) });
  await makeNew(later(1));
  const [rehearsed, gate] = await both(theirs, later(1));
  expect([rehearsed.split(' ')[0], gate.split(' ')[0]]).toEqual(['fork', 'fork']);
});

test('refuses a delta whose base the gate has not', async () => {
  await world.export({ [LIB]: grown('lost on the way') }, { now: later(1) });
  const { output } = await world.export(
    { [LIB]: grown('lost on the way') },
    { now: later(2), since: { kind: 'last' } },
  );
  expect(await both(output, later(2))).toEqual(['base-needed base', 'base-needed base']);
});

test('refuses names that the collection was not pinned for, and what has expired', async () => {
  const { output } = await world.export({ [LIB]: grown('two') }, { now: later(1), lifetime: 10 * DAY });
  expect(await both(output, later(12))).toEqual(['metadata-expired timestamp', 'metadata-expired timestamp']);
  await world.pin(first, { scopes: ['registry.example/team/app'] });
  await makeNew(later(1));
  expect(await both(output, later(1))).toEqual([
    'scope-conflict bundle-manifest',
    'scope-conflict bundle-manifest',
  ]);
});

test('judges at the time the gate knows of, where this clock is behind', async () => {
  const newer = (await world.export({ [APP]: grown('two') }, { now: later(20), lifetime: 10 * DAY })).output;
  await world.import(newer, { now: later(20) });
  await makeNew(later(20));
  const short = (await world.export({ [APP]: grown('three') }, { now: later(5), lifetime: 10 * DAY })).output;
  expect((await both(short, later(6))).map((text) => text.split(' ')[0])).toEqual([
    'metadata-expired',
    'metadata-expired',
  ]);
});

test('compares the policy, as it is and with its keys in it', async () => {
  const { output } = await world.export({ [APP]: grown('two') }, { now: later(1) });
  const policy = path.join(world.directory, 'policy.json');
  writeFileSync(policy, '{"default":[{"type":"reject"}]}');
  expect((await rehearse(output, later(1), { policy })).rehearsal?.policy).toBe('other');
  await setPolicy({ gate: world.gate, file: policy, pid: process.pid, actor: 'tester' }, world.context());
  await makeNew(later(1));
  const result = await rehearse(output, later(1), { policy });
  expect(result).toMatchObject({ rehearsal: { policy: 'same' }, policy: { from: 'file' } });
  expect(result.images.map(({ verdict }) => verdict)).not.toContain('verified');
  const without = await rehearse(output, later(1));
  expect(without).toMatchObject({ rehearsal: { policy: 'not-given' }, policy: 'none' });
  expect(world.events).toContainEqual(expect.objectContaining({ type: 'notice', code: 'policy-not-given' }));
});

test('asks no gate and no store of this machine', async () => {
  const { output } = await world.export({ [APP]: grown('two') }, { now: later(1), since: { kind: 'last' } });
  rmSync(world.store, { recursive: true });
  rmSync(world.gate, { recursive: true });
  expect(await codeOf(rehearse(output, later(1), { store: world.store, gate: world.gate }))).toBe('accepted');
});
