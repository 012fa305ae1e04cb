/** Garbage collection: the audit log hears of it before anything goes. */
import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { collectGarbage } from '../../core/collect-garbage.ts';
import { openGate } from '../../core/gate/gate.ts';
import { singleImage } from '../../fixtures/images.ts';
import { blobDigests } from '../../fixtures/store.ts';
import { makePublishing, type Publishing } from './publish/publishing.ts';

let world: Publishing;
let gate: string;
beforeEach(async () => {
  world = makePublishing();
  gate = path.join(world.directory, 'gate');
  await world.admit({ 'quay.io/acme/a:v1': singleImage(), 'quay.io/acme/b:v1': singleImage('2') });
});
afterEach(() => world.close());

const collect = (dryRun = false) =>
  collectGarbage(
    { store: world.store, gate, dryRun, pid: process.pid, actor: 'sam' },
    { now: world.context().now, limits: world.context().limits },
  );
const entries = async () => (await (await openGate(gate, { create: true })).verifyAudit()).entries;

it('writes one entry for what is removed, none for a dry run or for nothing', async () => {
  await openGate(gate, { create: true });
  expect(await collect()).not.toHaveProperty('auditHead');
  await world.withdraw('quay.io/acme/b:v1');
  const planned = await collect(true);
  expect(await entries()).toBe(0);
  const { auditHead, ...done } = await collect();
  expect(done).toEqual({ ...planned, dryRun: false });
  expect(done.removedBlobs).toBeGreaterThan(0);
  const log = await openGate(gate, { create: false });
  expect(await log.auditHead()).toBe(auditHead);
  expect(await entries()).toBe(1);
});

it('removes nothing where the log cannot be written', async () => {
  await openGate(gate, { create: true });
  await world.withdraw('quay.io/acme/b:v1');
  writeFileSync(path.join(gate, 'audit.log'), 'not a log\nat all\n');
  const before = blobDigests(world.store);
  await expect(collect()).rejects.toMatchObject({ code: 'state-damaged' });
  expect(blobDigests(world.store)).toEqual(before);
});

it('cleans a store that no gate is here for', async () => {
  await world.withdraw('quay.io/acme/b:v1');
  rmSync(gate, { recursive: true, force: true });
  const result = await collect();
  expect(result.removedBlobs).toBeGreaterThan(0);
  expect(result.auditHead).toBeUndefined();
});
