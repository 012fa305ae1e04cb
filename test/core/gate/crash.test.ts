/** A crash or a full disk at every step of a write leaves the old state or the new. */
import { cp, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Gate, openGate } from '../../../core/gate/gate.ts';
import { arm, disarm, faults } from '../store/fs-faults.ts';
import { changeOf, hex, NOW, pinOf, plain } from './samples.ts';

vi.mock('node:fs/promises', async (original) => {
  const { withFaults } = await import('../store/fs-faults.ts');
  return withFaults(await original());
});

let directory: string;
let base: string;

beforeEach(async () => {
  directory = await mkdtemp(path.join(os.tmpdir(), 'gate-crash-'));
  base = path.join(directory, 'base');
});

afterEach(async () => {
  disarm();
  await rm(directory, { recursive: true, force: true });
});

async function within<T>(place: string, create: boolean, work: (gate: Gate) => Promise<T>): Promise<T> {
  const gate = await openGate(place, { create });
  const lock = await gate.lock(process.pid);
  try {
    return await work(gate);
  } finally {
    disarm();
    await lock.release();
  }
}

/** Runs `work` on copies of the gate, failing at one step after the other, until it comes through. */
async function atEveryStep(
  mode: 'crash' | 'full',
  work: (gate: Gate) => Promise<unknown>,
  check: (gate: Gate, failed: boolean, at: number) => Promise<void>,
): Promise<number> {
  for (let at = 0; ; at += 1) {
    const copy = path.join(directory, `copy-${at}`);
    await cp(base, copy, { recursive: true });
    const failed = await within(copy, false, async (gate) => {
      arm(at, mode);
      return work(gate).then(
        () => false,
        () => true,
      );
    });
    const reached = faults.steps.length > at;
    await check(await openGate(copy, { create: false }), failed, at);
    await rm(copy, { recursive: true });
    if (!reached) return at;
  }
}

describe.each(['crash', 'full'] as const)('%s', (mode) => {
  it('while metadata is saved', async () => {
    await within(base, true, async (gate) => {
      await gate.pin(pinOf('acme'));
      await gate.save(hex('acme'), changeOf(1));
    });
    const before = plain(await (await openGate(base, { create: false })).kept(hex('acme')));
    const seen = new Set<string>();
    let after: unknown;
    const steps = await atEveryStep(
      mode,
      async (gate) => {
        after = plain({ ...(await gate.kept(hex('acme')))!, ...changeOf(2) } as never);
        await gate.save(hex('acme'), changeOf(2));
      },
      async (gate, failed) => {
        const found = plain(await gate.kept(hex('acme')));
        const isOld = JSON.stringify(found) === JSON.stringify(before);
        if (!isOld) expect(found).toEqual(after);
        if (!failed) expect(isOld).toBe(false);
        seen.add(`${failed ? 'failed' : 'done'} ${isOld ? 'old' : 'new'}`);
        // The same command again goes on, and nothing is left over.
        await within(gate.directory, false, (again) => again.save(hex('acme'), changeOf(2)));
        expect(plain(await gate.kept(hex('acme')))).toEqual(after);
        expect(await readdir(path.join(gate.directory, 'collections', hex('acme'), 'kept'))).toHaveLength(7);
      },
    );
    expect(steps).toBeGreaterThan(10);
    expect([...seen]).toEqual(expect.arrayContaining(['failed old', 'done new']));
  });

  it('while a root is pinned', async () => {
    await within(base, true, async () => undefined);
    await atEveryStep(
      mode,
      (gate) => gate.pin(pinOf('acme')),
      async (gate, failed) => {
        const found = await gate.collections();
        if (!failed) expect(found).toHaveLength(1);
        await within(gate.directory, false, (again) => again.pin(pinOf('acme')));
        expect(await gate.collections()).toHaveLength(1);
      },
    );
  });

  it('while an entry is appended to the audit log', async () => {
    await within(base, true, (gate) => gate.audit({ now: NOW, actor: 'keeper', event: 'pin' }));
    const first = await readFile(path.join(base, 'audit.log'), 'utf8');
    await atEveryStep(
      mode,
      (gate) => gate.audit({ now: NOW, actor: 'keeper', event: 'import' }),
      async (gate, failed) => {
        expect((await readFile(path.join(gate.directory, 'audit.log'), 'utf8')).startsWith(first)).toBe(true);
        await within(gate.directory, false, (again) =>
          again.audit({ now: NOW, actor: 'keeper', event: 'import' }),
        );
        const { entries, problems } = await gate.verifyAudit();
        expect(problems).toEqual([]);
        expect(entries).toBeGreaterThanOrEqual(failed ? 2 : 3);
      },
    );
  });

  it('while a torn line of the audit log is repaired', async () => {
    await within(base, true, async (gate) => {
      await gate.audit({ now: NOW, actor: 'keeper', event: 'pin' });
      arm(1);
      await gate.audit({ now: NOW, actor: 'keeper', event: 'import' }).catch(() => undefined);
    });
    expect((await readFile(path.join(base, 'audit.log'), 'utf8')).endsWith('\n')).toBe(false);
    await atEveryStep(
      mode,
      (gate) => gate.audit({ now: NOW, actor: 'keeper', event: 'import' }),
      async (gate) => {
        await within(gate.directory, false, (again) =>
          again.audit({ now: NOW, actor: 'keeper', event: 'import' }),
        );
        const { damaged, problems } = await gate.verifyAudit();
        expect(problems).toEqual([]);
        expect(damaged.length).toBeGreaterThan(0);
      },
    );
  });
});

it('kept files and their directory are on the disk before state.json names them', async () => {
  await within(base, true, (gate) => gate.pin(pinOf('acme')));
  await within(base, false, async (gate) => {
    arm(Number.POSITIVE_INFINITY);
    await gate.save(hex('acme'), changeOf(1));
  });
  const steps = faults.steps;
  const commit = steps.findIndex((step) => step.startsWith('rename') && step.endsWith('state.json'));
  const kept = steps.map((step, at) => ({ step, at })).filter(({ step }) => step.startsWith('rename kept/'));
  expect(kept).toHaveLength(6);
  for (const { at } of kept) {
    expect(at).toBeLessThan(commit);
    expect(steps[at - 1]).toMatch(/^sync kept\//);
    expect(steps.slice(at, commit)).toContain(`sync ${hex('acme')}/kept`);
  }
  expect(steps[commit - 1]).toContain('sync');
  expect(steps.slice(commit)).toContain(`sync collections/${hex('acme')}`);
});
