import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { reformatKey, revokeKey } from 'openpgp';
import { describe, expect, it } from 'vitest';
import type { SealiftError } from '../../../core/errors.ts';
import { advance, type TrustStep } from '../../../core/trust/advance.ts';
import { encodeMetadata, formatDate, signedForm } from '../../../core/trust/metadata.ts';
import { listTargets } from '../../../core/trust/search.ts';
import { type KeptMetadata, TrustedSet } from '../../../core/trust/trusted-set.ts';
import {
  nativeKeyOf,
  nativeTestSigner,
  testSigner,
  unlockTestKey,
} from '../../../fixtures/keys/test-keys.ts';
import { DAY, SIMULATOR_NOW, TufSimulator } from '../../../fixtures/tuf-simulator.ts';

const HOUR = 60 * 60 * 1000;
const later = (ms: number): Date => new Date(SIMULATOR_NOW.getTime() + ms);

async function codeOf(action: Promise<unknown>): Promise<string> {
  try {
    await action;
  } catch (error) {
    return (error as SealiftError).code ?? `not a SealiftError: ${String(error)}`;
  }
  return 'accepted';
}

/** A repository with one image that a gate has accepted once. */
async function accepted(options = {}): Promise<{ sim: TufSimulator; kept: KeptMetadata }> {
  const sim = await TufSimulator.make(options);
  sim.addImage('docker.io/library/alpine:3.20');
  sim.bump('images', 'bundles');
  await sim.publish();
  return { sim, kept: (await sim.first()).kept() };
}

describe('the good way', () => {
  it('accepts a first bundle by its pin and stores after each step', async () => {
    const sim = await TufSimulator.make();
    const steps: [TrustStep, KeptMetadata][] = [];
    const set = await sim.first({}, steps);
    expect(steps.map(([step]) => step)).toEqual(['timestamp', 'snapshot', 'targets', 'delegated']);
    expect(steps[0]?.[1].timestamp).toEqual(sim.files.get('timestamp.json'));
    expect(steps[0]?.[1].snapshot).toBeUndefined();
    expect([...set.delegated.keys()]).toEqual(['bundles', 'images']);
    expect(set.collectionId).toBe(sim.id);
    expect(set.kept().floor).toEqual(SIMULATOR_NOW);
    expect(set.roleSummaries().map(({ role }) => role)).toEqual([
      'root',
      'timestamp',
      'snapshot',
      'targets',
      'bundles',
      'images',
    ]);
    expect(set.effectiveExpiry()).toEqual(later(90 * DAY));
  });

  it('goes on with what it kept, also with the same bundle again', async () => {
    const { sim, kept } = await accepted();
    const again = await sim.next(kept);
    expect(again.timestamp?.version).toBe(2);
    sim.bump('images');
    await sim.publish();
    expect((await sim.next(again.kept())).timestamp?.version).toBe(3);
  });

  it('follows a root chain from a pin in its middle', async () => {
    const sim = await TufSimulator.make();
    await sim.rotate({ root: [nativeTestSigner()] });
    await sim.rotate({ root: [nativeTestSigner()], timestamp: [nativeTestSigner()] });
    sim.bump();
    await sim.publish();
    const set = await TrustedSet.fromPin(sim.pinOf(2), sim.roots, sim.options());
    await advance(set, sim.files, async () => {});
    expect(set.root.version).toBe(3);
  });

  it('takes openpgp keys of every algorithm for every role', async () => {
    for (const name of ['rsa-a', 'ed25519-a', 'ecdsa', 'subkey'] as const) {
      const sim = await TufSimulator.make({ signers: { default: [await testSigner(name)] } });
      const set = await sim.first();
      expect(set.kept().certificates.size).toBe(1);
    }
  });

  it('takes every native key type', async () => {
    for (const type of ['ed25519', 'ecdsa', 'rsa'] as const) {
      const sim = await TufSimulator.make({ signers: { default: [nativeTestSigner(type)] } });
      expect(await codeOf(sim.first())).toBe('accepted');
    }
  });

  it('refuses steps out of order', async () => {
    const sim = await TufSimulator.make();
    const set = await TrustedSet.fromPin(sim.pinOf(1), sim.roots, sim.options());
    const timestamp = sim.files.get('timestamp.json')!;
    expect(await codeOf(set.updateTimestamp(timestamp))).toBe('internal');
    await set.finishRoots();
    expect(await codeOf(set.updateRoot(sim.roots[0]!))).toBe('internal');
    expect(await codeOf(set.updateSnapshot(sim.files.get('1.snapshot.json')!))).toBe('internal');
  });
});

describe('5.2 the pinned root', () => {
  it('refuses a bundle without the pinned root', async () => {
    const sim = await TufSimulator.make();
    expect(await codeOf(TrustedSet.fromPin('0'.repeat(64), sim.roots, sim.options()))).toBe('pin-mismatch');
    expect(await codeOf(TrustedSet.fromPin(sim.pinOf(1).toUpperCase(), sim.roots, sim.options()))).toBe(
      'invalid-argument',
    );
    expect(await codeOf(TrustedSet.fromPin(sim.pinOf(1), [], sim.options()))).toBe('pin-mismatch');
  });

  it('refuses a forged root that lists the genuine certificate', async () => {
    const genuine = await testSigner('rsa-a');
    const sim = await TufSimulator.make({ signers: { default: [genuine] } });
    const forged = await TufSimulator.make({ signers: { default: [nativeTestSigner()] } });
    forged.root.keys[genuine.keyId] = genuine.key;
    forged.root.roles.root.keyids.push(genuine.keyId);
    await forged.publishRoot();
    expect(await codeOf(TrustedSet.fromPin(sim.pinOf(1), forged.roots, forged.options()))).toBe(
      'pin-mismatch',
    );
  });

  it('refuses a pinned root without its own threshold', async () => {
    const [a, b] = [nativeTestSigner(), nativeTestSigner()];
    const sim = await TufSimulator.make({ signers: { root: [a, b] }, thresholds: { root: 2 } });
    sim.files.set('1.root.json', await sim.sign(sim.root, [a]));
    expect(await codeOf(TrustedSet.fromPin(sim.pinOf(1), sim.roots, sim.options()))).toBe(
      'signature-threshold',
    );
  });

  it('skips candidates that cannot be read', async () => {
    const sim = await TufSimulator.make();
    const roots = [Buffer.from('garbage'), ...sim.roots];
    expect(await codeOf(TrustedSet.fromPin(sim.pinOf(1), roots, sim.options()))).toBe('accepted');
  });
});

describe('5.3 the root chain', () => {
  it('refuses a version that is not exactly one higher', async () => {
    const sim = await TufSimulator.make();
    const set = await TrustedSet.fromPin(sim.pinOf(1), sim.roots, sim.options());
    expect(await codeOf(set.updateRoot(sim.roots[0]!))).toBe('root-chain-broken');
    sim.root.version = 3;
    expect(await codeOf(set.updateRoot(await sim.publishRoot()))).toBe('root-chain-broken');
  });

  it('refuses a root that the old keys have not signed', async () => {
    const sim = await TufSimulator.make();
    await sim.rotate({ root: [nativeTestSigner()] });
    sim.files.set('2.root.json', await sim.sign(sim.root, sim.signers.get('root')!));
    expect(await codeOf(sim.first())).toBe('signature-threshold');
  });

  it('refuses a root that its own keys have not signed', async () => {
    const sim = await TufSimulator.make();
    const old = sim.signers.get('root')!;
    await sim.rotate({ root: [nativeTestSigner()] });
    sim.files.set('2.root.json', await sim.sign(sim.root, old));
    expect(await codeOf(sim.first())).toBe('signature-threshold');
  });

  it('looks at the expiry of the last root only', async () => {
    const sim = await TufSimulator.make();
    const good = sim.root.expires;
    sim.root.version = 2;
    sim.root.expires = formatDate(later(-DAY));
    await sim.publishRoot();
    expect(await codeOf(sim.first())).toBe('metadata-expired');
    sim.root.version = 3;
    sim.root.expires = good;
    await sim.publishRoot();
    expect(await codeOf(sim.first())).toBe('accepted');
  });

  it('keeps a verified new root although the rest of the bundle is damaged', async () => {
    const { sim, kept } = await accepted();
    await sim.rotate({ root: [nativeTestSigner()] });
    sim.files.set('timestamp.json', Buffer.from('{}'));
    const steps: [TrustStep, KeptMetadata][] = [];
    expect(await codeOf(sim.next(kept, {}, steps))).toBe('metadata-malformed');
    expect(steps.at(-1)?.[0]).toBe('root');
    expect(steps.at(-1)?.[1].root).toEqual(sim.files.get('2.root.json'));
  });

  it('refuses another root of the trusted version (fork)', async () => {
    const { sim, kept } = await accepted();
    sim.root.expires = formatDate(later(500 * DAY));
    await sim.publishRoot();
    expect(await codeOf(sim.next(kept))).toBe('fork');
  });

  it('wants 2 of 3 from two different keys', async () => {
    const [a, b, c] = [nativeTestSigner(), nativeTestSigner(), nativeTestSigner()];
    const sim = await TufSimulator.make({ signers: { root: [a, b, c] }, thresholds: { root: 2 } });
    expect(await codeOf(sim.first())).toBe('accepted');
    sim.files.set('1.root.json', await sim.sign(sim.root, [b]));
    expect(await codeOf(sim.first())).toBe('signature-threshold');
    const lent = await b.sign(signedForm(sim.root), 'tuf-root', sim.now);
    sim.files.set(
      '1.root.json',
      encodeMetadata(
        sim.root,
        new Map([
          [a.keyId, lent],
          [b.keyId, lent],
        ]),
      ),
    );
    expect(await codeOf(sim.first())).toBe('signature-invalid');
  });
});

describe('a threshold counts persons', () => {
  it('counts one key under two key types once', async () => {
    const { privateKey } = generateKeyPairSync('ed25519');
    const once = nativeTestSigner('ed25519', privateKey);
    // The same key as PEM is another key object with another id.
    const pem = { keytype: 'ed25519', scheme: 'ed25519', keyval: { public: '' } };
    pem.keyval.public = createPublicKey(privateKey).export({ type: 'spki', format: 'pem' }).toString();
    const { keyIdOf } = await import('../../../core/trust/keys.ts');
    const twice = { ...once, key: pem, keyId: keyIdOf(pem) };
    expect(twice.keyId).not.toBe(once.keyId);
    const sim = await TufSimulator.make({ signers: { timestamp: [once, twice] } });
    expect(await codeOf(sim.first())).toBe('accepted');
    const two = await TufSimulator.make({
      signers: { timestamp: [once, twice] },
      thresholds: { timestamp: 2 },
    });
    expect(await codeOf(two.first())).toBe('signature-threshold');
  });

  it('counts one RSA key as openpgp and as native once', async () => {
    const openpgp = await testSigner('rsa-a');
    const native = nativeTestSigner('rsa', await nativeKeyOf('rsa-a'));
    const sim = await TufSimulator.make({
      signers: { timestamp: [openpgp, native] },
      thresholds: { timestamp: 2 },
    });
    expect(await codeOf(sim.first())).toBe('signature-threshold');
    const other = await TufSimulator.make({
      signers: { timestamp: [openpgp, nativeTestSigner('rsa')] },
      thresholds: { timestamp: 2 },
    });
    expect(await codeOf(other.first())).toBe('accepted');
  });

  it('counts one primary key under two key objects once', async () => {
    const { keyIdOf } = await import('../../../core/trust/keys.ts');
    const once = await testSigner('ed25519-a');
    const key = { ...once.key, note: 'another key id' };
    const twice = { ...once, key, keyId: keyIdOf(key) };
    const sim = await TufSimulator.make({ signers: { targets: [once, twice] }, thresholds: { targets: 2 } });
    expect(await codeOf(sim.first())).toBe('signature-threshold');
  });

  it('takes one openpgp and one native key of different people for two', async () => {
    const sim = await TufSimulator.make({
      signers: { root: [await testSigner('rsa-a'), nativeTestSigner()] },
      thresholds: { root: 2 },
    });
    expect(await codeOf(sim.first())).toBe('accepted');
  });
});

describe('5.3.11 fast-forward recovery', () => {
  it('lets versions go back once the timestamp key has been rotated, and forgets the clock floor', async () => {
    const { sim, kept } = await accepted();
    sim.timestamp.version = 1_000_000;
    sim.timestamp['x-created'] = formatDate(later(40 * HOUR));
    await sim.publishTimestamp();
    const poisoned = (await sim.next(kept)).kept();
    expect(poisoned.floor).toEqual(later(40 * HOUR));

    sim.timestamp.version = 3;
    sim.timestamp['x-created'] = formatDate(SIMULATOR_NOW);
    await sim.publish();
    expect(await codeOf(sim.next(poisoned))).toBe('rollback');
    await sim.rotate({ timestamp: [nativeTestSigner()] });
    await sim.publish();
    const recovered = await sim.next(poisoned);
    expect(recovered.timestamp?.version).toBe(3);
    expect(recovered.kept().floor).toEqual(SIMULATOR_NOW);
    expect(recovered.time).toEqual(SIMULATOR_NOW);
  });

  it('lets role versions go back once the snapshot key has been rotated, and keeps the clock floor', async () => {
    const { sim, kept } = await accepted();
    sim.bump('targets');
    sim.targets.version = 500;
    await sim.publish();
    const poisoned = (await sim.next(kept)).kept();
    sim.targets.version = 3;
    sim.bump();
    await sim.publish();
    expect(await codeOf(sim.next(poisoned))).toBe('rollback');
    await sim.rotate({ snapshot: [nativeTestSigner()] });
    await sim.publish();
    const set = await sim.next(poisoned, { now: later(-HOUR) });
    expect(set.targets?.version).toBe(3);
    expect(set.time).toEqual(SIMULATOR_NOW);
  });

  it('is not lost when the run ends right behind the root', async () => {
    const { sim, kept } = await accepted();
    sim.timestamp.version = 1_000_000;
    await sim.publishTimestamp();
    const poisoned = (await sim.next(kept)).kept();
    // The new role keeps one old key, so that the old timestamp would still verify.
    sim.timestamp.version = 3;
    await sim.rotate({ timestamp: [...sim.signers.get('timestamp')!, nativeTestSigner()] });
    const set = await TrustedSet.fromKept(poisoned, sim.options());
    await set.updateRoot(sim.files.get('2.root.json')!);
    const interrupted = set.kept();
    await sim.publish();
    expect((await sim.next(interrupted)).timestamp?.version).toBe(3);
  });

  it('does not happen when the targets key is rotated', async () => {
    const { sim, kept } = await accepted();
    await sim.rotate({ targets: [nativeTestSigner()] });
    sim.timestamp.version = 1;
    await sim.publish();
    expect(await codeOf(sim.next(kept))).toBe('rollback');
  });
});

describe('5.4 the timestamp', () => {
  it('refuses a rollback of the timestamp: last year’s bundle, validly signed', async () => {
    const { sim, kept } = await accepted();
    const old = new Map(sim.files);
    sim.bump('images');
    await sim.publish();
    const newer = (await sim.next(kept)).kept();
    sim.files.clear();
    for (const [name, bytes] of old) sim.files.set(name, bytes);
    expect(await codeOf(sim.next(newer))).toBe('rollback');
  });

  it('refuses a rollback of the snapshot under a new timestamp', async () => {
    const { sim, kept } = await accepted();
    sim.timestamp.version += 1;
    sim.snapshot.version = 1;
    await sim.publish();
    expect(await codeOf(sim.next(kept))).toBe('rollback');
  });

  it('refuses a fork: the same version with other content', async () => {
    const { sim, kept } = await accepted();
    sim.timestamp['x-created'] = formatDate(later(HOUR));
    await sim.publishTimestamp();
    expect(await codeOf(sim.next(kept))).toBe('fork');
  });

  it('refuses to be frozen: an expired timestamp', async () => {
    const { sim, kept } = await accepted();
    expect(await codeOf(sim.next(kept, { now: later(91 * DAY) }))).toBe('metadata-expired');
    expect(await codeOf(sim.next(kept, { now: later(90 * DAY) }))).toBe('metadata-expired');
    expect(await codeOf(sim.next(kept, { now: later(90 * DAY - 1000) }))).toBe('accepted');
  });

  it('refuses to be frozen by a clock set back: the floor counts', async () => {
    const { sim, kept } = await accepted();
    const withFloor = { ...kept, floor: later(91 * DAY) };
    expect(await codeOf(sim.next(withFloor, { now: later(-300 * DAY), allowClockJump: true }))).toBe(
      'metadata-expired',
    );
  });

  it('refuses a wrong signer', async () => {
    const { sim } = await accepted();
    sim.signers.set('timestamp', [nativeTestSigner()]);
    await sim.publishTimestamp();
    expect(await codeOf(sim.first())).toBe('signature-threshold');
  });

  it('refuses a signature of the role’s key over something else', async () => {
    const { sim } = await accepted();
    const sig = await sim.signers.get('timestamp')![0]!.sign(Buffer.from('else'), 'tuf-timestamp', sim.now);
    sim.files.set(
      'timestamp.json',
      encodeMetadata(sim.timestamp, new Map([[sim.signers.get('timestamp')![0]!.keyId, sig]])),
    );
    expect(await codeOf(sim.first())).toBe('signature-invalid');
  });

  it('refuses a superfluous signature by a stranger, which would be bytes nobody vouches for', async () => {
    const { sim } = await accepted();
    sim.files.set(
      'timestamp.json',
      await sim.sign(sim.timestamp, [...sim.signers.get('timestamp')!, nativeTestSigner()]),
    );
    expect(await codeOf(sim.first())).toBe('signature-invalid');
  });

  it('refuses a jump of the clock by more than 48 h, and takes it when allowed', async () => {
    const { sim } = await accepted();
    for (const [ahead, code] of [
      [48 * HOUR, 'accepted'],
      [48 * HOUR + 1000, 'clock-jump'],
    ] as const) {
      sim.timestamp['x-created'] = formatDate(later(ahead));
      await sim.publishTimestamp();
      expect(await codeOf(sim.first())).toBe(code);
    }
    const set = await sim.first({ allowClockJump: true });
    expect(set.kept().floor).toEqual(later(48 * HOUR + 1000));
  });

  it('measures the jump from the host’s clock, not from the floor', async () => {
    const { sim, kept } = await accepted();
    sim.bump();
    sim.timestamp['x-created'] = formatDate(later(60 * HOUR));
    await sim.publish();
    expect(await codeOf(sim.next({ ...kept, floor: later(40 * HOUR) }))).toBe('clock-jump');
  });

  it('refuses a lifetime of more than 400 days', async () => {
    const { sim } = await accepted();
    sim.timestamp.expires = formatDate(later(400 * DAY + 1000));
    await sim.publishTimestamp();
    expect(await codeOf(sim.first())).toBe('lifetime-too-long');
    expect(await codeOf(sim.first({ allowClockJump: true }))).toBe('accepted');
  });
});

describe('5.5 the snapshot', () => {
  it('refuses another snapshot than the timestamp says (mix-and-match)', async () => {
    const { sim } = await accepted();
    const other = await TufSimulator.make({ signers: Object.fromEntries(sim.signers) });
    other.bump();
    await other.publish();
    sim.files.set('2.snapshot.json', other.files.get('2.snapshot.json')!);
    expect(await codeOf(sim.first())).toBe('mix-and-match');
  });

  it('refuses a version that the timestamp does not say', async () => {
    const { sim } = await accepted();
    sim.timestamp.meta['snapshot.json'].version = 7;
    await sim.publishTimestamp();
    sim.files.set('7.snapshot.json', sim.files.get('2.snapshot.json')!);
    expect(await codeOf(sim.first())).toBe('mix-and-match');
  });

  it('refuses a wrong signer', async () => {
    const { sim } = await accepted();
    sim.signers.set('snapshot', [nativeTestSigner()]);
    await sim.publishSnapshot();
    await sim.publishTimestamp();
    expect(await codeOf(sim.first())).toBe('signature-threshold');
  });

  it('refuses a lower version of a role, and a role that is gone', async () => {
    const { sim, kept } = await accepted();
    sim.bump();
    sim.delegated.get('images').version = 1;
    await sim.publish();
    expect(await codeOf(sim.next(kept))).toBe('rollback');
    sim.bump('images', 'images', 'images');
    await sim.publish();
    delete sim.snapshot.meta['bundles.json'];
    await sim.publishSnapshot();
    await sim.publishTimestamp();
    expect(await codeOf(sim.next(kept))).toBe('rollback');
  });

  it('refuses a fork and an expired one', async () => {
    const { sim, kept } = await accepted();
    sim.timestamp.version += 1;
    sim.snapshot.expires = formatDate(later(50 * DAY));
    await sim.publishSnapshot();
    await sim.publishTimestamp();
    expect(await codeOf(sim.next(kept))).toBe('fork');
    sim.snapshot.version += 1;
    sim.snapshot.expires = formatDate(later(-1000));
    await sim.publishSnapshot();
    await sim.publishTimestamp();
    expect(await codeOf(sim.next(kept))).toBe('metadata-expired');
  });
});

describe('5.6 targets and delegations', () => {
  it('refuses a role from another version of the collection (mix-and-match)', async () => {
    const { sim } = await accepted();
    for (const role of ['images', 'targets']) {
      const name = `${role === 'images' ? 2 : 1}.${role}.json`;
      const before = sim.files.get(name)!;
      const signed = structuredClone(role === 'targets' ? sim.targets : sim.delegated.get(role));
      signed.expires = formatDate(later(77 * DAY));
      sim.files.set(name, await sim.sign(signed, sim.signers.get(role)!));
      expect(await codeOf(sim.first())).toBe('mix-and-match');
      sim.files.set(name, before);
    }
  });

  it('refuses a missing role', async () => {
    const { sim } = await accepted();
    sim.files.delete('2.images.json');
    expect(await codeOf(sim.first())).toBe('mix-and-match');
  });

  it('refuses a role that the snapshot does not list', async () => {
    const { sim } = await accepted();
    delete sim.snapshot.meta['images.json'];
    await sim.publishSnapshot();
    await sim.publishTimestamp();
    expect(await codeOf(sim.first())).toBe('mix-and-match');
  });

  it('refuses wrong signers and too few of them', async () => {
    const { sim } = await accepted();
    sim.signers.set('images', [nativeTestSigner()]);
    await sim.publish();
    expect(await codeOf(sim.first())).toBe('signature-threshold');
    const [a, b] = [nativeTestSigner(), nativeTestSigner()];
    const two = await TufSimulator.make({ signers: { images: [a, b] }, thresholds: { images: 2 } });
    expect(await codeOf(two.first())).toBe('accepted');
    two.signers.set('images', [b]);
    await two.publish();
    expect(await codeOf(two.first())).toBe('signature-threshold');
  });

  it('refuses expired roles', async () => {
    for (const role of ['targets', 'images', 'bundles']) {
      const { sim } = await accepted();
      (role === 'targets' ? sim.targets : sim.delegated.get(role)).expires = formatDate(later(-1000));
      sim.bump(role);
      await sim.publish();
      expect(await codeOf(sim.first())).toBe('metadata-expired');
    }
  });

  it('refuses a fork of a delegated role', async () => {
    const { sim, kept } = await accepted();
    sim.addImage('docker.io/library/busybox:1');
    sim.bump();
    await sim.publish();
    expect(await codeOf(sim.next(kept))).toBe('fork');
  });

  it('verifies a role anew for each of its delegators', async () => {
    const build = async (sameKeys: boolean) => {
      const sim = await TufSimulator.make();
      sim.addDelegation('a', ['a/*'], { first: true });
      sim.addDelegation('b', ['b/*'], { first: true });
      sim.addDelegation('shared', ['a/*'], { delegator: 'a' });
      const real = sim.signers.get('shared')!;
      if (!sameKeys) sim.signers.set('shared', [nativeTestSigner()]);
      sim.addDelegation('shared', ['b/*'], { delegator: 'b' });
      sim.signers.set('shared', real);
      sim.bump('targets');
      await sim.publish();
      return sim;
    };
    expect(await codeOf((await build(true)).first())).toBe('accepted');
    expect(await codeOf((await build(false)).first())).toBe('signature-threshold');
  });

  it('verifies a role anew when its delegator has changed its keys since it was kept', async () => {
    const { sim, kept } = await accepted();
    const thief = sim.signers.get('images')!;
    sim.targets.delegations = { keys: {}, roles: [] };
    sim.signers.set('images', [nativeTestSigner()]);
    sim.addDelegation('bundles', [`_bundle/${sim.id}/*.json`]);
    sim.addDelegation('images', ['*']);
    sim.signers.set('images', thief);
    sim.bump('targets');
    await sim.publish();
    expect(await codeOf(sim.next(kept))).toBe('signature-threshold');
  });

  it('ends on a cycle of delegations', async () => {
    const sim = await TufSimulator.make();
    sim.addDelegation('a', ['a/*'], { first: true });
    sim.addDelegation('b', ['a/*'], { delegator: 'a' });
    sim.addDelegation('a', ['a/*'], { delegator: 'b' });
    sim.bump('targets');
    await sim.publish();
    expect(await codeOf(sim.first())).toBe('accepted');
  });

  it('caps the number of roles', async () => {
    const sim = await TufSimulator.make();
    expect(await codeOf(sim.first({ limits: { ...sim.limits, delegatedRoles: 1 } }))).toBe(
      'metadata-malformed',
    );
  });
});

describe('effective expiry', () => {
  it('is the earliest of the metadata', async () => {
    const { sim } = await accepted();
    sim.delegated.get('images').expires = formatDate(later(20 * DAY));
    sim.bump('images');
    await sim.publish();
    expect((await sim.first()).effectiveExpiry()).toEqual(later(20 * DAY));
  });
});

describe('what was accepted before', () => {
  it('can be searched, so that vanished names are seen', async () => {
    const { sim, kept } = await accepted();
    const images = sim.delegated.get('images');
    images.targets = {};
    sim.bump('images');
    await sim.publish();
    const set = await sim.next(kept);
    expect(listTargets(set)).toEqual([]);
    expect(listTargets(set.previous).map(({ name }) => name)).toEqual(['docker.io/library/alpine:3.20']);
  });

  it('learns a revocation before anything else of the bundle is looked at', async () => {
    const signer = await testSigner('rsa-a');
    const { sim, kept } = await accepted({ signers: { default: [signer] } });
    const { publicKey } = await revokeKey({
      key: await unlockTestKey('rsa-a'),
      date: sim.now,
      format: 'object',
    });
    sim.replacedCertificates.set(signer.fingerprint!, publicKey.write());
    const steps: [TrustStep, KeptMetadata][] = [];
    expect(await codeOf(sim.next(kept, {}, steps))).toBe('key-revoked');
    expect(steps.map(([step]) => step)).toEqual(['root']);
    // The next stick brings the certificate without the revocation.
    sim.replacedCertificates.clear();
    expect(await codeOf(sim.next(steps[0]![1]))).toBe('key-revoked');
    expect(await codeOf(sim.next(kept))).toBe('accepted');
  });

  it('recovers from a lost key by the recovery key: a new root replaces it', async () => {
    const [main, recovery] = [await testSigner('rsa-a'), await testSigner('ed25519-b')];
    const others = { timestamp: [main], snapshot: [main], targets: [main], bundles: [main], images: [main] };
    const { sim, kept } = await accepted({ signers: { root: [main, recovery], ...others } });
    const { publicKey } = await revokeKey({
      key: await unlockTestKey('rsa-a'),
      date: sim.now,
      format: 'object',
    });
    sim.replacedCertificates.set(main.fingerprint!, publicKey.write());
    const fresh = await testSigner('ed25519-a');
    await sim.rotate({ root: [fresh, recovery], timestamp: [fresh], snapshot: [fresh], targets: [fresh] });
    // Only the recovery key can vouch for the link.
    sim.files.set('2.root.json', await sim.sign(sim.root, [recovery, fresh]));
    sim.targets.delegations = { keys: {}, roles: [] };
    for (const role of ['bundles', 'images']) sim.signers.set(role, [fresh]);
    sim.addDelegation('bundles', [`_bundle/${sim.id}/*.json`]);
    sim.addDelegation('images', ['*', '*/*', '*/*/*']);
    sim.bump('targets', 'bundles', 'images');
    await sim.publish();
    const certificates = [...sim.certificates, publicKey.write()];
    expect((await sim.next(kept, { certificates })).root.version).toBe(2);
    // With the stolen key alone there is no link.
    sim.files.set('2.root.json', await sim.sign(sim.root, [main, fresh]));
    expect(await codeOf(sim.next(kept, { certificates }))).toBe('key-revoked');
  });
});

describe('effective expiry of certificates', () => {
  it('counts the certificate that carries the threshold', async () => {
    const name = 'rsa-a';
    const { publicKey } = await reformatKey({
      privateKey: await unlockTestKey(name),
      userIDs: [{ name: 'ends soon' }],
      keyExpirationTime: 181 * 24 * 3600,
      date: new Date('2026-01-01T00:00:00Z'),
      format: 'object',
      config: { v6Keys: false },
    });
    const signer = await testSigner(name);
    const sim = await TufSimulator.make({ signers: { timestamp: [signer] } });
    sim.replacedCertificates.set(signer.fingerprint!, publicKey.write());
    expect((await sim.first()).effectiveExpiry()).toEqual(new Date('2026-07-01T00:00:00Z'));
    // A second signer who stays carries it alone.
    const two = await TufSimulator.make({ signers: { timestamp: [signer, nativeTestSigner()] } });
    two.replacedCertificates.set(signer.fingerprint!, publicKey.write());
    expect((await two.first()).effectiveExpiry()).toEqual(later(90 * DAY));
    const both = await TufSimulator.make({
      signers: { timestamp: [signer, nativeTestSigner()] },
      thresholds: { timestamp: 2 },
    });
    both.replacedCertificates.set(signer.fingerprint!, publicKey.write());
    expect((await both.first()).effectiveExpiry()).toEqual(new Date('2026-07-01T00:00:00Z'));
    expect(await codeOf(both.first({ now: new Date('2026-07-02T00:00:00Z') }))).toBe('key-expired');
  });
});

describe('each step by itself', () => {
  const until = async (sim: TufSimulator, kept: KeptMetadata) => {
    const set = await TrustedSet.fromKept(kept, sim.options());
    await set.finishRoots();
    return set;
  };

  it('the timestamp refuses a lower snapshot, before the snapshot is looked at', async () => {
    const { sim, kept } = await accepted();
    sim.timestamp.version += 1;
    sim.timestamp.meta['snapshot.json'].version = 1;
    await sim.publishTimestamp();
    const set = await until(sim, kept);
    expect(await codeOf(set.updateTimestamp(sim.files.get('timestamp.json')!))).toBe('rollback');
    expect(set.timestamp).toBeUndefined();
  });

  it('the snapshot refuses a lower role, before the role is looked at', async () => {
    const { sim, kept } = await accepted();
    sim.bump();
    sim.snapshot.meta['images.json'].version = 1;
    await sim.publishSnapshot();
    await sim.publishTimestamp();
    const set = await until(sim, kept);
    await set.updateTimestamp(sim.files.get('timestamp.json')!);
    expect(await codeOf(set.updateSnapshot(sim.files.get('3.snapshot.json')!))).toBe('rollback');
    expect(set.snapshot).toBeUndefined();
  });

  it('a link of the root chain needs its own threshold even when a better root follows', async () => {
    const sim = await TufSimulator.make();
    const old = sim.signers.get('root')!;
    const next = nativeTestSigner();
    await sim.rotate({ root: [next] });
    sim.files.set('2.root.json', await sim.sign(sim.root, old));
    await sim.rotate({ root: [next] });
    expect(await codeOf(sim.first())).toBe('signature-threshold');
  });

  it('an expired key may have signed a link, and not the last root', async () => {
    const signer = await testSigner('rsa-a');
    const { publicKey } = await reformatKey({
      privateKey: await unlockTestKey('rsa-a'),
      userIDs: [{ name: 'ended' }],
      keyExpirationTime: 30 * 24 * 3600,
      date: new Date('2026-01-01T00:00:00Z'),
      format: 'object',
      config: { v6Keys: false },
    });
    const sim = await TufSimulator.make({ signers: { root: [signer] } });
    const certificates = [publicKey.write()];
    expect(await codeOf(sim.first({ certificates }))).toBe('key-expired');
    await sim.rotate({ root: [nativeTestSigner()] });
    expect(await codeOf(sim.first({ certificates }))).toBe('accepted');
  });
});

describe('damaged state', () => {
  it('says so instead of starting afresh', async () => {
    const { kept, sim } = await accepted();
    for (const damage of [
      { root: Buffer.from('x') },
      { timestamp: Buffer.from('{}') },
      { snapshot: Buffer.from('') },
    ]) {
      expect(await codeOf(TrustedSet.fromKept({ ...kept, ...damage }, sim.options()))).toBe('state-damaged');
    }
  });
});

describe('any single byte of a metadata file', () => {
  it('is refused when flipped', async () => {
    for (const signers of [{}, { default: [await testSigner('ed25519-a')] }]) {
      const sim = await TufSimulator.make({ signers });
      sim.addImage('docker.io/library/alpine:3.20');
      sim.delegated.get('images').version = 2;
      sim.files.delete('1.images.json');
      await sim.publish();
      const pin = sim.pinOf(1);
      const result = async () =>
        await codeOf(
          TrustedSet.fromPin(pin, sim.roots, sim.options()).then((set) =>
            advance(set, sim.files, async () => {}),
          ),
        );
      expect(await result()).toBe('accepted');
      for (const [name, bytes] of [...sim.files]) {
        // A prime step, so that the places and the bits differ from file to file.
        for (let at = name.length; at < bytes.length; at += 29) {
          const bent = Buffer.from(bytes);
          bent[at] = bent[at]! ^ (1 << (at % 8));
          sim.files.set(name, bent);
          expect(await result(), `${name} byte ${at}`).not.toBe('accepted');
        }
        sim.files.set(name, bytes);
      }
    }
  });
});
