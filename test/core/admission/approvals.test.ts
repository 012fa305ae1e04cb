import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { copyFileSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ApproveOptions, approveBundle } from '../../../core/admission/approvals.ts';
import { setOfficers } from '../../../core/admission/officers.ts';
import { explainAdmission } from '../../../core/admission/why.ts';
import type { SealiftEvent } from '../../../core/events.ts';
import { importBundle } from '../../../core/import.ts';
import { canonicalJson } from '../../../core/json/canonical.ts';
import { setPolicy } from '../../../core/trust/policy/admin.ts';
import { singleImage } from '../../../fixtures/images.ts';
import { unlockTestKey } from '../../../fixtures/keys/test-keys.ts';
import { makeWorld, type World } from '../../../fixtures/world.ts';

const NAME = 'a.example/app:1';
let world: World;
let bundle: string;
let snapshot: Uint8Array;

const at = (name: string): string => path.join(world.directory, name);

/** Files of a key: NAME.pub and NAME.key. */
function makeNative(name: string): void {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  writeFileSync(at(`${name}.pub`), publicKey.export({ type: 'spki', format: 'pem' }));
  writeFileSync(at(`${name}.key`), privateKey.export({ type: 'pkcs8', format: 'pem' }));
}

async function makeOpenpgp(name: string): Promise<void> {
  const key = await unlockTestKey('rsa-a');
  writeFileSync(at(`${name}.pub`), key.toPublic().armor());
  writeFileSync(at(`${name}.key`), key.armor());
}

const officers = (threshold: number, ...names: string[]) =>
  setOfficers(
    {
      gate: world.gate,
      keys: names.map((name) => at(`${name}.pub`)),
      threshold,
      pid: process.pid,
      actor: 'tester',
    },
    world.context(),
  );

const approve = (name: string, options: Partial<ApproveOptions> = {}) =>
  approveBundle(
    {
      bundle: { kind: 'file', path: bundle },
      gate: world.gate,
      signer: { file: at(`${name}.key`), passphrase: async () => '' },
      pid: process.pid,
      actor: name,
      ...options,
    },
    world.context(),
  );

const importWith = (approvals: readonly string[] = [], file = bundle) =>
  importBundle(
    {
      bundle: { kind: 'file', path: file },
      gate: world.gate,
      store: world.store,
      only: [],
      approvals,
      overrides: { allowClockJump: false },
      concurrency: 2,
      pid: process.pid,
      actor: 'tester',
    },
    world.context(),
  );

const needed = { code: 'approval-needed', category: 'needed', check: 'approvals' };
const ignored = (): string[] =>
  world.events.flatMap((event: SealiftEvent) =>
    event.type === 'notice' && event.code === 'approval-ignored' ? [event.message] : [],
  );

beforeEach(async () => {
  world = await makeWorld();
  bundle = at('bundle.tar');
  await world.export({ [NAME]: singleImage() }, { file: bundle });
  await world.pin(bundle);
  for (const name of ['anna', 'berta', 'stranger']) makeNative(name);
  await makeOpenpgp('carla');
  snapshot = readFileSync(bundle);
});
afterEach(() => world.close());

describe('a gate with officers', () => {
  it('lets a bundle in when as many as it asks for have approved it, and not before', async () => {
    await officers(2, 'anna', 'berta', 'carla');
    await expect(importWith()).rejects.toMatchObject({ ...needed, got: 0, want: 2 });
    await approve('anna');
    await expect(importWith()).rejects.toMatchObject({ ...needed, got: 1, want: 2 });
    await approve('anna');
    await expect(importWith()).rejects.toMatchObject({ ...needed, got: 1 });
    const { file } = await approve('carla');
    expect(file.startsWith(path.join(world.gate, 'approvals'))).toBe(true);
    const result = await importWith();
    expect(result.imported).toEqual([NAME]);
    expect(result.approvals).toMatchObject({
      needed: 2,
      given: [{ approvedAt: '2026-03-01T00:00:00Z' }, { approvedAt: '2026-03-01T00:00:00Z' }],
    });
    // In the order of their keys, which are new for each run.
    expect(result.approvals?.given.map(({ officer }) => officer)).toContain('anna.pub');
    expect(result.checks.find(({ check }) => check === 'approvals')).toMatchObject({ status: 'passed' });
    const why = await explainAdmission(
      { image: NAME, gate: world.gate, store: world.store },
      world.context(),
    );
    expect(why.admissions[0]?.approvals.map(({ approvedAt }) => approvedAt)).toEqual([
      '2026-03-01T00:00:00Z',
      '2026-03-01T00:00:00Z',
    ]);
    expect(readFileSync(path.join(world.gate, 'audit.log'), 'utf8')).toContain('"event":"approved"');
  });

  it('finds approvals beside the bundle and where they are named, and writes none there', async () => {
    await officers(2, 'anna', 'berta');
    await approve('anna', { output: at('bundle.tar.anna.approval') });
    await approve('berta', { output: at('elsewhere') });
    const before = readdirSync(world.directory);
    await expect(importWith()).rejects.toMatchObject({ ...needed, got: 1 });
    expect((await importWith([at('elsewhere')])).imported).toEqual([NAME]);
    expect(readdirSync(world.directory).filter((name) => !before.includes(name))).toEqual(['store']);
    expect(readFileSync(bundle).equals(snapshot)).toBe(true);
  });

  it('beside the bundle that are pipes, devices or links are not opened', async () => {
    await officers(1, 'anna');
    execFileSync('mkfifo', [`${bundle}.0.approval`]);
    symlinkSync('/dev/zero', `${bundle}.1.approval`);
    symlinkSync(at('anna.key'), `${bundle}.2.approval`);
    await approve('anna', { output: `${bundle}.3.approval` });
    expect((await importWith()).approvals?.given).toHaveLength(1);
    expect(ignored()).toEqual([]);
  });

  it('tells a verification how many are missing, without refusing', async () => {
    await officers(2, 'anna', 'berta');
    await approve('anna');
    const { checks, approvals } = await world.verify(bundle);
    expect(checks.find(({ check }) => check === 'approvals')).toMatchObject({
      status: 'skipped',
      detail: expect.stringContaining('1 of 2 needed: anna.pub'),
    });
    expect(approvals?.given).toHaveLength(1);
  });

  it('demands none where no image is let in, so that withdrawals are not held up', async () => {
    await officers(1, 'anna');
    const renewal = at('renewal.tar');
    await world.export({}, { file: renewal, metadataOnly: true, images: [] });
    expect((await importWith([], renewal)).imported).toEqual([]);
  });
});

describe('an approval does not count', () => {
  it('by a key that is no officer’s, wherever it lies', async () => {
    await approve('stranger', { output: at('bundle.tar.stranger.approval') });
    await officers(1, 'anna');
    await expect(approve('stranger')).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(importWith()).rejects.toMatchObject({ ...needed, got: 0 });
    expect(ignored().join()).toContain('no officer of this gate');
  });

  it('of another bundle of the same collection', async () => {
    await officers(1, 'anna');
    await approve('anna', { output: at('old.approval') });
    const next = at('next.tar');
    await world.export({ [NAME]: singleImage('next') }, { file: next });
    await expect(importWith([at('old.approval')], next)).rejects.toMatchObject(needed);
    expect(ignored().join()).toContain('another bundle');
  });

  it('that was changed to be about this one', async () => {
    await officers(1, 'anna');
    const other = at('other.tar');
    await world.export({ [NAME]: singleImage('other') }, { file: other });
    await approve('anna', { output: at('mine') });
    await approve('anna', { bundle: { kind: 'file', path: other }, output: at('forged') });
    const mine = JSON.parse(readFileSync(at('mine'), 'utf8')) as { signed: Record<string, never> };
    const forged = JSON.parse(readFileSync(at('forged'), 'utf8')) as Record<string, never>;
    writeFileSync(at('forged'), canonicalJson({ ...forged, signed: mine.signed }));
    await expect(importWith([at('forged')])).rejects.toMatchObject(needed);
  });

  it.each([
    ['no JSON', 'nonsense'],
    ['another type', '{"signatures":[],"signed":{}}'],
    ['far too large', 'x'.repeat(100_000)],
  ])('that is %s', async (_, content) => {
    await officers(1, 'anna');
    writeFileSync(at('bad.approval'), content);
    await expect(importWith([at('bad.approval')])).rejects.toMatchObject(needed);
    expect(ignored().length).toBe(1);
  });

  it('by an officer who is none any more', async () => {
    await officers(1, 'anna');
    await approve('anna');
    await officers(1, 'berta');
    await expect(importWith()).rejects.toMatchObject(needed);
  });
});

describe('officers', () => {
  it('of one person are refused as two', async () => {
    copyFileSync(at('anna.pub'), at('anna-again.pub'));
    await expect(officers(1, 'anna', 'anna-again')).rejects.toMatchObject({
      code: 'invalid-argument',
      message: expect.stringContaining('one person'),
    });
  });

  it('cannot be asked for more approvals than there are of them', async () => {
    await expect(officers(3, 'anna', 'berta')).rejects.toMatchObject({ code: 'invalid-argument' });
  });

  it('that were set and are gone let nothing in, and a policy stays beside them', async () => {
    const policy = at('policy.json');
    writeFileSync(policy, '{"default":[{"type":"insecureAcceptAnything"}]}');
    await setPolicy({ gate: world.gate, file: policy, pid: process.pid, actor: 'tester' }, world.context());
    await officers(1, 'anna');
    const file = path.join(world.gate, 'officers.json');
    const kept = readFileSync(file);
    rmSync(file);
    await expect(importWith()).rejects.toMatchObject({ code: 'officers-missing' });
    await expect(world.verify(bundle)).rejects.toMatchObject({ code: 'officers-missing' });
    writeFileSync(file, String(kept).replace('"threshold":1', '"threshold":2'));
    await expect(importWith()).rejects.toMatchObject({ code: 'officers-missing' });
    await setOfficers(
      { gate: world.gate, keys: [], threshold: 0, pid: process.pid, actor: 'tester' },
      world.context(),
    );
    const result = await importWith();
    expect(result.policy).toMatchObject({ from: 'gate' });
    expect(result.approvals).toBeUndefined();
  });

  it('approve only what verifies, and nothing where they decline', async () => {
    await officers(1, 'anna');
    const damaged = Buffer.from(snapshot);
    damaged.writeUInt8(damaged.readUInt8(damaged.length - 1500) ^ 1, damaged.length - 1500);
    writeFileSync(at('damaged.tar'), damaged);
    await expect(
      approve('anna', { bundle: { kind: 'file', path: at('damaged.tar') } }),
    ).rejects.toMatchObject({ category: 'malformed' });
    await expect(approve('anna', { confirm: async () => false })).rejects.toMatchObject({
      code: 'cancelled',
    });
    await expect(importWith()).rejects.toMatchObject(needed);
  });

  it('without a gate of their own judge by a fingerprint, into a file', async () => {
    await officers(1, 'anna');
    const fingerprint = (await world.verify(bundle)).collection.rootFingerprint;
    const gate = at('no-gate');
    await expect(approve('anna', { gate, fingerprint })).rejects.toMatchObject({ code: 'invalid-argument' });
    await approve('anna', { gate, fingerprint, output: at('bundle.tar.anna.approval') });
    expect((await importWith()).imported).toEqual([NAME]);
  });
});
