import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Delegations } from '../../../core/trust/metadata.ts';
import {
  delegationOf,
  findName,
  findNameLoading,
  listTargets,
  listWithdrawn,
  matchesPattern,
  prefixPatterns,
  resolveTarget,
} from '../../../core/trust/search.ts';
import { TrustedSet } from '../../../core/trust/trusted-set.ts';
import { nativeTestSigner } from '../../../fixtures/keys/test-keys.ts';
import { TufSimulator } from '../../../fixtures/tuf-simulator.ts';

/** The definition, by recursion: exponential, and short enough to be believed. */
function oracle(pattern: string, name: string): boolean {
  if (pattern === '') return name === '';
  const [p, rest] = [pattern[0], pattern.slice(1)];
  if (p === '*')
    return oracle(rest, name) || (name !== '' && name[0] !== '/' && oracle(pattern, name.slice(1)));
  if (name === '') return false;
  return (p === name[0] || (p === '?' && name[0] !== '/')) && oracle(rest, name.slice(1));
}

describe('patterns', () => {
  it('know * and ?, and neither crosses /', () => {
    const cases: [string, string, boolean][] = [
      ['*', 'alpine:3.20', true],
      ['*', 'a/b', false],
      ['*', '', true],
      ['a/*', 'a/', true],
      ['a/*', 'a', false],
      ['a/*/c', 'a/b/c', true],
      ['a/*/c', 'a/b/b/c', false],
      ['a?c', 'abc', true],
      ['a?c', 'a/c', false],
      ['*c/*', 'abc/x', true],
      ['[a-z]', 'a', false],
      ['[a-z]', '[a-z]', true],
      ['{a,b}', 'a', false],
      ['!a', 'b', false],
      ['a\\*', 'a*', false],
      ['.*', 'a', false],
      ['**', 'a/b', false],
      ['**', 'ab', true],
    ];
    for (const [pattern, name, expected] of cases)
      expect(matchesPattern(pattern, name), `${pattern} ${name}`).toBe(expected);
  });

  it('match what the definition says', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', '/', '*', '?'), maxLength: 8 });
    const name = fc.string({ unit: fc.constantFrom('a', 'b', '/'), maxLength: 8 });
    fc.assert(
      fc.property(text, name, (p, n) => matchesPattern(p, n) === oracle(p, n)),
      { numRuns: 5000 },
    );
  });

  it('do not take exponential time', () => {
    // A backtracking matcher would not come back from this.
    expect(matchesPattern(`${'*a'.repeat(200)}b`, 'a'.repeat(1000))).toBe(false);
  });

  it('of a prefix cover every depth and nothing else', () => {
    const patterns = prefixPatterns('docker.io/acme/');
    expect(patterns.slice(0, 2)).toEqual(['docker.io/acme/*', 'docker.io/acme/*/*']);
    expect(patterns.at(-1)?.split('/')).toHaveLength(32);
    const matches = (name: string) => patterns.some((pattern) => matchesPattern(pattern, name));
    expect(matches('docker.io/acme/app:1')).toBe(true);
    expect(matches('docker.io/acme/a/b/c:1')).toBe(true);
    expect(matches('docker.io/acme')).toBe(false);
    expect(matches('docker.io/acmeevil/app:1')).toBe(false);
    expect(prefixPatterns('')).toHaveLength(32);
    expect(() => prefixPatterns('docker.io/acme')).toThrow('ends with /');
  });
});

async function build(shape: (sim: TufSimulator) => void): Promise<TrustedSet> {
  const sim = await TufSimulator.make();
  shape(sim);
  sim.bump('targets');
  await sim.publish();
  return await sim.first();
}

const roleOf = (set: TrustedSet, name: string) => resolveTarget(set, name)?.role;

describe('who a name is handed to', () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '/', '*', '?'), maxLength: 6 });
  const name = fc.string({ unit: fc.constantFrom('a', 'b', '/'), maxLength: 8 });
  const roles = fc.array(fc.array(text, { maxLength: 3 }), { maxLength: 6 });
  const delegations = (paths: readonly (readonly string[])[]): Delegations => ({
    keys: new Map(),
    roles: paths.map((patterns, at) => ({
      name: `role-${at}`,
      keyids: [],
      threshold: 1,
      paths: patterns,
      terminating: true,
    })),
  });

  it('is the first whose patterns match, as if each were tried', () => {
    fc.assert(
      fc.property(roles, name, (paths, wanted) => {
        const all = delegations(paths);
        const first = all.roles.find((role) => role.paths.some((pattern) => oracle(pattern, wanted)));
        expect(delegationOf(all, wanted)).toBe(first);
      }),
      { numRuns: 5000 },
    );
  });

  it('is nobody where nothing is delegated', () => {
    expect(delegationOf(undefined, 'a/b')).toBeUndefined();
    expect(delegationOf(delegations([]), 'a/b')).toBeUndefined();
  });
});

describe('the search', () => {
  it('lets a namespace answer for its names, and nobody else', async () => {
    const set = await build((sim) => {
      sim.addDelegation('acme', prefixPatterns('docker.io/acme/'), { first: true });
      sim.addImage('docker.io/acme/app:1', 'genuine', 'acme');
      sim.addImage('docker.io/acme/app:1', 'forged');
      sim.addImage('docker.io/acme/other:1', 'forged too');
      sim.addImage('docker.io/library/alpine:3', 'x');
      sim.addImage('docker.io/library/alpine:3', 'out of its place', 'acme');
    });
    expect(roleOf(set, 'docker.io/acme/app:1')).toBe('acme');
    // Terminating: what acme does not name is not there, whatever the catch-all says.
    expect(roleOf(set, 'docker.io/acme/other:1')).toBeUndefined();
    expect(roleOf(set, 'docker.io/library/alpine:3')).toBe('images');
    expect(listTargets(set).map(({ name, role }) => [name, role])).toEqual([
      ['docker.io/acme/app:1', 'acme'],
      ['docker.io/library/alpine:3', 'images'],
    ]);
  });

  it('goes in pre-order, and on behind roles that do not terminate', async () => {
    const set = await build((sim) => {
      sim.addDelegation('second', ['a/*'], { first: true, terminating: false });
      sim.addDelegation('first', ['a/*'], { first: true, terminating: false });
      sim.addDelegation('below', ['a/*'], { delegator: 'first', terminating: false });
      sim.addImage('a/1', 'x', 'below');
      sim.addImage('a/1', 'y', 'second');
      sim.addImage('a/2', 'x', 'second');
      sim.addImage('a/3', 'x', 'images');
    });
    expect(roleOf(set, 'a/1')).toBe('below');
    expect(roleOf(set, 'a/2')).toBe('second');
    expect(roleOf(set, 'a/3')).toBe('images');
  });

  it('is ended by a terminating role further down', async () => {
    const set = await build((sim) => {
      sim.addDelegation('first', ['a/*'], { first: true, terminating: false });
      sim.addDelegation('below', ['a/*'], { delegator: 'first', terminating: true });
      sim.addImage('a/1', 'x', 'images');
    });
    expect(findName(set, 'a/1').kind).toBe('none');
  });

  it('ends on a cycle', async () => {
    const set = await build((sim) => {
      sim.addDelegation('a', ['a/*'], { first: true, terminating: false });
      sim.addDelegation('b', ['a/*'], { delegator: 'a', terminating: false });
      sim.addDelegation('a', ['a/*'], { delegator: 'b', terminating: false });
    });
    expect(findName(set, 'a/1').kind).toBe('none');
  });

  it('finds tombstones only in the role that rules the name', async () => {
    const grave = (name: string) => ({
      at: '2026-05-01T00:00:00Z',
      digest: `sha256:${'0'.repeat(64)}`,
      name,
      reason: 'bad',
    });
    const set = await build((sim) => {
      sim.addDelegation('acme', prefixPatterns('acme/'), { first: true });
      sim.addImage('acme/app', 'x', 'acme');
      sim.delegated.get('acme')['x-withdrawn'] = [grave('acme/old')];
      sim.delegated.get('images')['x-withdrawn'] = [grave('acme/app'), grave('gone')];
    });
    expect(roleOf(set, 'acme/app')).toBe('acme');
    expect(findName(set, 'acme/old').kind).toBe('withdrawn');
    expect(resolveTarget(set, 'gone')).toBeUndefined();
    expect(listWithdrawn(set).map(({ name, role }) => [name, role])).toEqual([
      ['acme/old', 'acme'],
      ['gone', 'images'],
    ]);
  });

  it('finds the bundle manifest in its role and lists it as no image', async () => {
    const sim = await TufSimulator.make();
    const name = `_bundle/${sim.id}/7.json`;
    sim.addImage(name, 'manifest', 'bundles');
    sim.addImage(name, 'forged', 'images');
    sim.bump('bundles', 'images');
    await sim.publish();
    const set = await sim.first();
    expect(roleOf(set, name)).toBe('bundles');
    expect(listTargets(set)).toEqual([]);
  });

  it('takes sha512 as the digest where there is one', async () => {
    const set = await build((sim) => {
      sim.addImage('a');
      sim.delegated.get('images').targets['a'].hashes.sha512 = 'ab'.repeat(64);
    });
    expect(resolveTarget(set, 'a')?.digest).toBe(`sha512:${'ab'.repeat(64)}`);
  });

  it('is not confused by names that objects have by themselves', async () => {
    const set = await build((sim) => sim.addImage('a'));
    for (const name of ['constructor', '__proto__', 'toString'])
      expect(findName(set, name).kind).toBe('none');
  });

  it('comes through 10,000 names in 200 roles', async () => {
    const signer = nativeTestSigner();
    const set = await build((sim) => {
      for (let i = 0; i < 200; i += 1) {
        sim.signers.set(`ns${i}`, [signer]);
        sim.addDelegation(`ns${i}`, prefixPatterns(`registry.example/ns${i}/`), { first: true });
        for (let j = 0; j < 50; j += 1) sim.addImage(`registry.example/ns${i}/image${j}:1`, 'x', `ns${i}`);
      }
    });
    const all = listTargets(set);
    expect(all).toHaveLength(10_000);
    expect(all.every(({ name, role }) => name.startsWith(`registry.example/${role}/`))).toBe(true);
  });

  it('does not go over an edge that was not verified, to a role that was over another', async () => {
    const sim = await TufSimulator.make();
    sim.addDelegation('a', ['a/*'], { first: true });
    sim.addDelegation('b', ['b/*'], { first: true });
    sim.addDelegation('shared', ['a/*'], { delegator: 'a' });
    sim.addDelegation('shared', ['b/*'], { delegator: 'b' });
    sim.addImage('b/1', 'x', 'shared');
    sim.bump('targets');
    await sim.publish();
    const set = await TrustedSet.fromPin(sim.pinOf(1), sim.roots, sim.options());
    await set.finishRoots();
    await set.updateTimestamp(sim.files.get('timestamp.json')!);
    await set.updateSnapshot(sim.files.get('2.snapshot.json')!);
    await set.updateTargets(sim.files.get('2.targets.json')!);
    for (const [role, delegator] of [
      ['a', 'targets'],
      ['b', 'targets'],
      ['shared', 'a'],
    ] as const) {
      await set.updateDelegated(role, delegator, sim.files.get(`1.${role}.json`)!);
    }
    expect(() => findName(set, 'b/1')).toThrow('not been verified');
    await set.updateDelegated('shared', 'b', sim.files.get('1.shared.json')!);
    expect(roleOf(set, 'b/1')).toBe('shared');
  });

  it('lists nothing silently where nothing has been verified', async () => {
    const sim = await TufSimulator.make();
    const set = await TrustedSet.fromPin(sim.pinOf(1), sim.roots, sim.options());
    expect(() => listTargets(set)).toThrow('not been verified');
    expect(() => listWithdrawn(set)).toThrow('not been verified');
  });

  it('asks for roles one by one where they are not loaded', async () => {
    const sim = await TufSimulator.make();
    sim.addDelegation('acme', ['acme/*'], { first: true });
    sim.addImage('acme/app', 'x', 'acme');
    sim.bump('targets');
    await sim.publish();
    const set = await TrustedSet.fromPin(sim.pinOf(1), sim.roots, sim.options());
    await set.finishRoots();
    await set.updateTimestamp(sim.files.get('timestamp.json')!);
    await set.updateSnapshot(sim.files.get('2.snapshot.json')!);
    await set.updateTargets(sim.files.get('2.targets.json')!);
    expect(() => findName(set, 'acme/app')).toThrow('not been verified');
    const asked: string[] = [];
    const answer = await findNameLoading(set, 'acme/app', async (role, delegator) => {
      asked.push(role);
      await set.updateDelegated(role, delegator, sim.files.get(`1.${role}.json`)!);
    });
    expect(answer.kind).toBe('target');
    expect(asked).toEqual(['acme']);
  });
});
