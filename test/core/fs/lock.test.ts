import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { sweepTemporary } from '../../../core/fs/durable.ts';
import { acquireLock } from '../../../core/fs/lock.ts';

let directory: string;
let file: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(os.tmpdir(), 'sealift-lock-'));
  file = path.join(directory, 'lock');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

test('a lock is held by one at a time, and leaves nothing behind', async () => {
  const lock = await acquireLock(file, process.pid);
  await expect(acquireLock(file, process.pid)).rejects.toMatchObject({
    code: 'destination-locked',
    hint: expect.stringContaining(file),
  });
  expect(readdirSync(directory)).toEqual(['lock']);
  await lock.release();
  expect(readdirSync(directory)).toEqual([]);
  await (await acquireLock(file, process.pid)).release();
});

test('the lock of a process that is gone is taken over', async () => {
  // No process has this number: it is above the largest the kernel gives.
  writeFileSync(file, `${os.hostname()} 4194305 1\n`);
  await (await acquireLock(file, process.pid)).release();
});

test('the lock of a process whose number another one has now is taken over', async () => {
  writeFileSync(file, `${os.hostname()} ${process.pid} 1\n`);
  const take = acquireLock(file, process.pid);
  // Only where the system tells when a process was started.
  if (os.platform() === 'linux') await (await take).release();
  else await expect(take).rejects.toMatchObject({ code: 'destination-locked' });
});

test('the lock of another host is not taken over', async () => {
  writeFileSync(file, 'elsewhere.example 1 1\n');
  await expect(acquireLock(file, process.pid)).rejects.toMatchObject({ code: 'destination-locked' });
});

test('of many that find a stale lock exactly one gets it', async () => {
  writeFileSync(file, `${os.hostname()} 4194305 1\n`);
  const takes = await Promise.allSettled(Array.from({ length: 8 }, () => acquireLock(file, process.pid)));
  expect(takes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
});

test('only what runs that were killed left half-written is swept up', async () => {
  writeFileSync(path.join(directory, '.index.json~0123456789ab'), '');
  writeFileSync(path.join(directory, 'index.json'), '');
  writeFileSync(path.join(directory, '.hidden'), '');
  await sweepTemporary([directory, path.join(directory, 'missing')]);
  expect(readdirSync(directory).sort()).toEqual(['.hidden', 'index.json']);
});
