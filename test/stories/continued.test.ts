/** The machine with the collection died; a bundle, the holder's keys and a fingerprint are left. */
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { makeReceipt } from '../../core/delta/make-receipt.ts';
import { encodeReceipt, readReceipt } from '../../core/delta/receipt.ts';
import { DEFAULT_LIMITS } from '../../core/limits.ts';
import { openCollection } from '../../core/trust/collection.ts';
import { makeGateKey } from '../../core/trust/gate-key.ts';
import { type ContinueOptions, continueCollection } from '../../core/trust-ops/index.ts';
import { TEST_PASSPHRASE } from '../../fixtures/world.ts';
import { ALPINE, at, codeOf, image, NGINX, type Story, tell } from './story.ts';

const passphrase = async (): Promise<string> => TEST_PASSPHRASE;

let story: Story;
afterEach(async () => {
  await story?.world.close();
});

/** Three bundles, all of them seen by the gate; then the collection is gone, but for its keys. */
async function lost(keys: 'native' | 'openpgp' = 'native') {
  story = await tell({ keys });
  const { world } = story;
  const bundles = [await story.bundle(0, { [ALPINE]: image('one') })];
  await world.pin(bundles[0]?.output ?? '');
  bundles.push(
    await story.bundle(1, { [NGINX]: image('two') }),
    await story.bundle(2, { [ALPINE]: image('three') }),
  );
  for (const [day, bundle] of bundles.entries()) await story.import(bundle, day);
  const fingerprint = (await openCollection(world.collection, DEFAULT_LIMITS)).rootFingerprint;
  const backup = path.join(world.directory, 'backup');
  cpSync(path.join(world.collection, 'keys'), backup, { recursive: true });
  rmSync(world.collection, { recursive: true });
  const key = path.join(backup, readdirSync(backup)[0] ?? '');
  const [first, , last] = bundles;
  if (!first || !last) throw new Error('no bundles were made');
  const go = (more: Partial<ContinueOptions> = {}, day = 3) =>
    continueCollection(
      {
        bundle: last.output,
        fingerprint,
        directory: world.collection,
        keys: [key],
        passphrase,
        pid: process.pid,
        ...more,
      },
      world.context(at(day)),
    );
  return { first, last, go, key };
}

describe('a collection whose machine died', () => {
  it.each(['native', 'openpgp'] as const)(
    'goes on, and the gate takes the next bundle: %s keys',
    async (keys) => {
      const { last, go } = await lost(keys);
      const continued = await go();
      expect(continued).toMatchObject({
        version: last.collection.version,
        lastVersion: last.collection.version,
        images: 2,
        expired: false,
        unsigned: [],
        rootFingerprint: last.collection.rootFingerprint,
      });
      const next = await story.bundle(3, { [NGINX]: image('four') });
      expect(next.collection.version).toBe(last.collection.version + 1);
      const imported = await story.import(next, 3);
      expect(imported.imported).toEqual([NGINX]);
      expect(imported.vanished).toEqual([]);
      // Everything works on it as before.
      await story.rotate(4, { roles: ['images'] });
      await story.withdraw(5, [ALPINE]);
      expect((await story.import(await story.bundle(5), 5)).removed).toEqual([ALPINE]);
    },
  );

  it('goes on from an older bundle, above the version that the gate has seen', async () => {
    const { first, last, go } = await lost();
    const continued = await go({ bundle: first.output, lastVersion: last.collection.version });
    expect(continued.lastVersion).toBe(last.collection.version);
    const next = await story.bundle(3, { [ALPINE]: image('three'), [NGINX]: image('two') });
    expect((await story.import(next, 3)).collection.version).toBe(last.collection.version + 1);
  });

  it('learns from a receipt what the gate has seen since, and from no other and no absurd one', async () => {
    const { first, last, go } = await lost();
    const { world } = story;
    const receipt = path.join(world.directory, 'receipt.json');
    const write = async (gate: typeof world, file: string) =>
      makeReceipt(
        {
          gate: gate.gate,
          store: gate.store,
          lifetime: 1000 * 60 * 60,
          output: { kind: 'file', path: file, force: true },
          pid: process.pid,
          actor: 'tester',
        },
        world.context(at(3)),
      );
    await write(world, receipt);
    const other = await world.stranger();
    const theirs = await other.export({ [ALPINE]: image('theirs') }, { now: at(2) });
    await other.pin(theirs.output, { now: at(2) });
    await other.import(theirs.output, { now: at(2) });
    const foreign = path.join(world.directory, 'foreign.json');
    await write(other, foreign);
    expect(await codeOf(go({ bundle: first.output, receipts: [foreign] }))).toBe('receipt-mismatch');
    const { gate: _, generator: __, ...content } = await readReceipt(receipt);
    const absurd = path.join(world.directory, 'absurd.json');
    writeFileSync(
      absurd,
      encodeReceipt(
        {
          ...content,
          accepted: content.accepted && { ...content.accepted, version: 2 ** 40 },
          imports: [],
        },
        makeGateKey(),
      ),
    );
    expect(await codeOf(go({ bundle: first.output, receipts: [absurd] }))).toBe('receipt-invalid');
    const continued = await go({ bundle: first.output, receipts: [receipt] });
    expect(continued.lastVersion).toBe(last.collection.version);
    const next = await story.bundle(4, { [NGINX]: image('five') });
    expect((await story.import(next, 4)).imported).toEqual([NGINX]);
  });

  it('would be refused by the gate without that version', async () => {
    const { first, go } = await lost();
    await go({ bundle: first.output });
    const again = await story.bundle(3, { [ALPINE]: image('four') });
    expect(['rollback', 'fork']).toContain(await codeOf(story.import(again, 3)));
  });

  it('goes on from a bundle that has expired, says so, and renews', async () => {
    const { go } = await lost();
    const late = 250;
    const continued = await go({}, late);
    expect(continued.expired).toBe(true);
    await story.renew(late);
    const next = await story.bundle(late, { [ALPINE]: image('late') });
    expect((await story.import(next, late)).imported).toEqual([ALPINE]);
  });

  it('tells which roles have no key here', async () => {
    const { go } = await lost();
    const continued = await go({ keys: [] });
    expect(continued.unsigned).toEqual(['root', 'timestamp', 'snapshot', 'targets', 'bundles', 'images']);
    expect(await codeOf(story.bundle(3, { [ALPINE]: image('x') }))).toBe('signature-needed');
    await story.rotate(3, { recoveryKey: story.recoveryKey });
    expect((await story.import(await story.bundle(3), 3)).collection.rootVersion).toBe(2);
  });
});

describe('nothing is made', () => {
  it('of a bundle whose root is another one, is damaged, or where something is already', async () => {
    const { last, go } = await lost();
    const collection = () => codeOf(openCollection(story.world.collection, DEFAULT_LIMITS));
    expect(await codeOf(go({ fingerprint: 'ab'.repeat(32) }))).toBe('pin-mismatch');
    const bytes = readFileSync(last.output);
    bytes[bytes.indexOf('"x-created"') + 14] = 0x39;
    const damaged = path.join(story.world.directory, 'damaged.tar');
    writeFileSync(damaged, bytes);
    expect(await codeOf(go({ bundle: damaged }))).not.toBe('accepted');
    expect(await codeOf(go({ lastVersion: Number.MAX_SAFE_INTEGER }))).toBe('invalid-argument');
    expect(await collection()).toBe('collection-not-found');
    await go();
    expect(await codeOf(go())).toBe('collection-exists');
  });

  it('of a stranger: their bundle under the fingerprint of ours', async () => {
    const { go } = await lost();
    const stranger = await story.world.stranger();
    const forged = await stranger.export({ [ALPINE]: image('evil') });
    expect(await codeOf(go({ bundle: forged.output }))).toBe('pin-mismatch');
  });
});
