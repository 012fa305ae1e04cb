import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Lock } from '../../../core/fs/lock.ts';
import { type Gate, openGate } from '../../../core/gate/gate.ts';
import { changeOf, FPR, hex, NOW, pinOf, plain } from './samples.ts';

let directory: string;
let gate: Gate;
let lock: Lock;

beforeEach(async () => {
  directory = await mkdtemp(path.join(os.tmpdir(), 'gate-'));
  gate = await openGate(path.join(directory, 'gate'), { create: true });
  lock = await gate.lock(process.pid);
});

afterEach(async () => {
  await lock.release();
  await rm(directory, { recursive: true, force: true });
});

const reopen = (): Promise<Gate> => openGate(gate.directory, { create: false });
const home = (name: string): string => path.join(gate.directory, 'collections', hex(name));

describe('openGate', () => {
  it('refuses a place without a gate and names the command that makes one', async () => {
    const none = openGate(path.join(directory, 'none'), { create: false });
    await expect(none).rejects.toMatchObject({
      code: 'not-pinned',
      hint: expect.stringContaining('trust pin'),
    });
    await expect(readdir(path.join(directory, 'none'))).rejects.toThrow();
  });

  it('does not make a gate of a directory that holds something else', async () => {
    await mkdir(path.join(directory, 'home'));
    await writeFile(path.join(directory, 'home', 'letter.txt'), 'dear');
    await expect(openGate(path.join(directory, 'home'), { create: true })).rejects.toMatchObject({
      code: 'invalid-argument',
    });
  });

  it('does not take a gate that lost gate.json for a new one', async () => {
    await gate.pin(pinOf('acme'));
    await rm(path.join(gate.directory, 'gate.json'));
    await expect(openGate(gate.directory, { create: true })).rejects.toMatchObject({ code: 'state-damaged' });
  });

  it.each([
    ['a newer format', '{"formatVersion":2,"requires":[]}', 'format-unsupported'],
    ['an unknown required feature', '{"formatVersion":1,"requires":["witness"]}', 'format-unsupported'],
    ['a cut file', '{"formatVersion":1,', 'state-damaged'],
    ['a duplicate key', '{"formatVersion":2,"formatVersion":1,"requires":[]}', 'state-damaged'],
    ['no list of features', '{"formatVersion":1}', 'state-damaged'],
  ])('refuses %s', async (_what, content, code) => {
    await writeFile(path.join(gate.directory, 'gate.json'), content);
    await expect(reopen()).rejects.toMatchObject({ code, subject: path.join(gate.directory, 'gate.json') });
  });

  it('is for its owner alone', async () => {
    await gate.pin(pinOf('acme'));
    await gate.audit({ now: NOW, actor: 'test', event: 'pin' });
    const modes: string[] = [];
    for (const entry of await readdir(gate.directory, { recursive: true, withFileTypes: true })) {
      if (entry.name === 'lock') continue;
      const { mode } = await stat(path.join(entry.parentPath, entry.name));
      modes.push(`${entry.isDirectory() ? 'd' : 'f'}${(mode & 0o777).toString(8)}`);
    }
    expect(new Set(modes)).toEqual(new Set(['d700', 'f600']));
    expect((await stat(gate.directory)).mode & 0o777).toBe(0o700);
  });
});

describe('pin', () => {
  it('keeps root, certificates and scopes', async () => {
    const outcome = await gate.pin(pinOf('acme', ['docker.io/acme/']));
    expect(outcome).toMatchObject({ alreadyPinned: false, scopesChanged: false });
    const state = await (await reopen()).kept(hex('acme'));
    expect(plain(state)).toMatchObject({
      collectionName: 'acme',
      pin: {
        fingerprint: hex('acme root 1'),
        rootVersion: 1,
        pinnedAt: '2026-03-01T12:00:00Z',
        scopes: ['docker.io/acme/'],
      },
      root: { version: 1, bytes: 'acme root 1' },
      certificates: [[FPR, 'acme certificate']],
      delegated: [],
    });
    expect(state?.timestamp).toBeUndefined();
  });

  it('takes no scope for everything, and then no second collection', async () => {
    await gate.pin(pinOf('acme'));
    await expect(gate.pin(pinOf('other', ['quay.io/']))).rejects.toMatchObject({
      code: 'scope-conflict',
      hint: expect.stringContaining('--scope'),
    });
    expect(await gate.kept(hex('other'))).toBeUndefined();
    await gate.pin(pinOf('acme', ['docker.io/acme/']));
    await gate.pin(pinOf('other', ['quay.io/']));
    expect((await gate.collections()).map((state) => state.collectionName).sort()).toEqual(['acme', 'other']);
  });

  it('refuses a second collection without scopes, and one inside another', async () => {
    await gate.pin(pinOf('acme', ['docker.io/acme/']));
    await expect(gate.pin(pinOf('other'))).rejects.toMatchObject({ code: 'scope-conflict' });
    await expect(gate.pin(pinOf('other', ['quay.io/', 'docker.io/acme/app']))).rejects.toMatchObject({
      code: 'scope-conflict',
    });
  });

  it('leaves what was learnt since when the same root is pinned again', async () => {
    await gate.pin(pinOf('acme', ['docker.io/acme/']));
    await gate.save(hex('acme'), changeOf(7));
    const again = await gate.pin(pinOf('acme'));
    expect(again).toMatchObject({ alreadyPinned: true, scopesChanged: false });
    expect(again.state).toMatchObject({
      version: 7,
      pin: { scopes: ['docker.io/acme/'] },
      root: { version: 2 },
    });
  });

  it('takes the root it has learnt since for pinned already', async () => {
    await gate.pin(pinOf('acme'));
    await gate.save(hex('acme'), changeOf(7));
    const request = pinOf('acme');
    const again = await gate.pin({ ...request, root: changeOf(7).root! });
    expect(again).toMatchObject({
      alreadyPinned: true,
      state: { pin: { fingerprint: request.root.fingerprint, rootVersion: 1 } },
    });
  });

  it('refuses another root of a pinned collection', async () => {
    await gate.pin(pinOf('acme'));
    const request = pinOf('acme');
    const other = { ...request, root: { ...request.root, fingerprint: hex('forged') } };
    await expect(gate.pin(other)).rejects.toMatchObject({ code: 'pin-mismatch' });
  });

  it('makes a name from outside inert', async () => {
    const { state } = await gate.pin({ ...pinOf('acme'), collectionName: 'a\u001b[31m\u202e' });
    expect(state.collectionName).toBe('a\\u{1b}[31m\\u{202e}');
  });
});

describe('save', () => {
  it('changes what is given, forgets what is null and leaves the rest', async () => {
    await gate.pin(pinOf('acme'));
    await gate.save(hex('acme'), changeOf(7));
    const root = { version: 3, fingerprint: hex('root 3'), bytes: Buffer.from('root 3') };
    await gate.save(hex('acme'), { root, timestamp: null, snapshot: null, clockFloor: null });
    const state = await (await reopen()).kept(hex('acme'));
    expect(plain(state)).toMatchObject({
      root: { version: 3, bytes: 'root 3' },
      targets: 'targets',
      version: 7,
    });
    expect(state?.timestamp).toBeUndefined();
    expect(state?.snapshot).toBeUndefined();
    expect(state?.clockFloor).toBeUndefined();
    expect([...(state?.delegated.keys() ?? [])].sort()).toEqual(['bundles', 'images']);
  });

  it('keeps only files that the state names', async () => {
    await gate.pin(pinOf('acme'));
    for (const version of [1, 2, 3]) await gate.save(hex('acme'), changeOf(version));
    // root, certificate, timestamp, snapshot, targets, two roles
    expect(await readdir(path.join(home('acme'), 'kept'))).toHaveLength(7);
  });

  it('refuses a root that goes back', async () => {
    await gate.pin(pinOf('acme'));
    await gate.save(hex('acme'), changeOf(1));
    await expect(gate.save(hex('acme'), { root: pinOf('acme').root })).rejects.toMatchObject({
      code: 'rollback',
    });
  });

  it('refuses a collection that nobody pinned', async () => {
    await expect(gate.save(hex('stranger'), changeOf(1))).rejects.toMatchObject({ code: 'not-pinned' });
  });

  it('refuses an id or a role name that would be a path', async () => {
    await expect(gate.kept('../../etc')).rejects.toMatchObject({ code: 'internal' });
    await gate.pin(pinOf('acme'));
    const delegated = new Map([['../evil', Buffer.from('x')]]);
    await expect(gate.save(hex('acme'), { delegated })).rejects.toMatchObject({ code: 'internal' });
  });

  it('wants the lock', async () => {
    const other = await reopen();
    await expect(other.save(hex('acme'), changeOf(1))).rejects.toMatchObject({ code: 'internal' });
    await expect(other.audit({ now: NOW, actor: 'test', event: 'pin' })).rejects.toMatchObject({
      code: 'internal',
    });
    await expect(other.lock(process.pid)).rejects.toMatchObject({ code: 'destination-locked' });
  });

  it('can be read while another process moves on', async () => {
    await gate.pin(pinOf('acme'));
    const reader = await reopen();
    const writing = (async () => {
      for (let version = 1; version <= 30; version += 1) await gate.save(hex('acme'), changeOf(version));
    })();
    for (let round = 0; round < 60; round += 1) {
      const state = await reader.kept(hex('acme'));
      // Never a mixture of two versions.
      if (state?.timestamp)
        expect(Buffer.from(state.timestamp).toString()).toBe(`timestamp ${state.version}`);
    }
    await writing;
  });
});

describe('damage', () => {
  beforeEach(async () => {
    await gate.pin(pinOf('acme'));
    await gate.save(hex('acme'), changeOf(7));
  });

  it('is found at every byte of state.json', async () => {
    const file = path.join(home('acme'), 'state.json');
    const good = await readFile(file);
    for (let at = 0; at < good.length; at += 7) {
      const bad = Buffer.from(good);
      bad[at] = (bad[at] ?? 0) ^ 0x01;
      await writeFile(file, bad);
      await expect(gate.kept(hex('acme')), `byte ${at}`).rejects.toMatchObject({
        code: 'state-damaged',
        subject: file,
      });
    }
  });

  it('is found in every kept file, which is named with what to do', async () => {
    const kept = path.join(home('acme'), 'kept');
    for (const name of await readdir(kept)) {
      const good = await readFile(path.join(kept, name));
      await writeFile(path.join(kept, name), Buffer.concat([good, Buffer.from('x')]));
      await expect(gate.kept(hex('acme'))).rejects.toMatchObject({
        code: 'state-damaged',
        subject: path.join(kept, name),
        hint: expect.stringContaining('backup'),
      });
      await rm(path.join(kept, name));
      await expect(gate.kept(hex('acme'))).rejects.toMatchObject({ code: 'state-damaged' });
      await writeFile(path.join(kept, name), good);
    }
  });

  it('is found where one collection has the state of another', async () => {
    await cp(home('acme'), home('other'), { recursive: true });
    await expect(gate.kept(hex('other'))).rejects.toMatchObject({ code: 'state-damaged' });
    await expect(gate.collections()).rejects.toMatchObject({ code: 'state-damaged' });
  });
});

describe('golden files', () => {
  it('state.json stays what it is', async () => {
    await gate.pin(pinOf('acme', ['docker.io/acme/', 'quay.io/acme/app']));
    await gate.save(hex('acme'), changeOf(7));
    const bytes = await readFile(path.join(home('acme'), 'state.json'), 'utf8');
    await expect(bytes).toMatchFileSnapshot(path.resolve('test/golden/gate/state.json'));
  });

  it('gate.json stays what it is', async () => {
    expect(await readFile(path.join(gate.directory, 'gate.json'), 'utf8')).toBe(
      '{"formatVersion":1,"requires":[]}',
    );
  });
});
