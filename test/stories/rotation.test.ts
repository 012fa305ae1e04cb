import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { exportBundle } from '../../core/export.ts';
import { openGate } from '../../core/gate/gate.ts';
import { DEFAULT_LIMITS } from '../../core/limits.ts';
import type { ExportResult } from '../../core/results.ts';
import { parseLocation } from '../../core/transport/location.ts';
import {
  type CollectionState,
  keysOfRole,
  openCollection,
  signMetadata,
} from '../../core/trust/collection.ts';
import type { TargetsMetadata } from '../../core/trust/metadata.ts';
import { openNativeSigner, type Signer } from '../../core/trust/signer.ts';
import { addDelegation, exportKey, generateKey } from '../../core/trust-ops/index.ts';
import type { ExportOptions } from '../../core/workflow-options.ts';
import { type FixtureManifest, makeLayout } from '../../fixtures/images.ts';
import {
  DAY,
  filesOf,
  flip,
  forge,
  layerNames,
  SOURCE_OPTIONS,
  TEST_PASSPHRASE,
} from '../../fixtures/world.ts';
import {
  ALPINE,
  at,
  codeOf,
  endKey,
  image,
  NEW_PASSPHRASE,
  NGINX,
  reseal,
  type Story,
  tell,
} from './story.ts';

let story: Story;
afterEach(async () => {
  await story?.world.close();
});

const secrets = (): string[] =>
  readdirSync(path.join(story.world.collection, 'keys'), { withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ name }) => name);

const common = () => ({
  collection: story.world.collection,
  passphrase: async () => TEST_PASSPHRASE,
  pid: process.pid,
});

const toTarget = ({ size, digest, mediaType }: FixtureManifest) => ({
  custom: { mediaType },
  hashes: { sha256: digest.replace('sha256:', '') },
  length: size,
});

/** The one key of a role, and its secret half. */
function keyOf(state: CollectionState, role: string): { keyId: string; secret: Buffer } {
  const [keyId = ''] = keysOfRole(state, role)?.keyids ?? [];
  return { keyId, secret: readFileSync(path.join(state.directory, 'keys', `${keyId}.pem`)) };
}

describe('rotation of every role', () => {
  it('one at a time, over bundles a gate that saw the earlier ones takes', async () => {
    story = await tell();
    const first = await story.bundle(0, { [ALPINE]: image('one') });
    await story.world.pin(first.output);
    await story.import(first, 0);
    const [old = ''] = secrets();
    const oldKey = old.replace('.pem', '');
    const holders = await generateKey(
      { ...common(), newPassphrase: common().passphrase, kind: 'native' },
      story.world.context(at(0)),
    );
    const open = path.join(story.world.directory, 'acme.pem');
    const half = await exportKey({ ...common(), key: holders.keyId }, story.world.context(at(0)));
    writeFileSync(open, half.text);
    const namespace = { ...common(), prefix: 'docker.io/acme/', add: [open] };
    await addDelegation(namespace, story.world.context(at(0)));
    let day = 1;
    for (const role of ['docker.io-acme', 'images', 'bundles', 'snapshot', 'timestamp', 'targets', 'root']) {
      const before = role === 'docker.io-acme' ? holders.keyId : oldKey;
      const rotated = await story.rotate(day, { roles: [role] });
      expect(rotated.replaced.map((entry) => entry.role)).toEqual([role]);
      // The key goes when its last role has another one.
      expect(rotated.retired.length > 0).toBe(role === 'root' || role === 'docker.io-acme');
      const bundle = await story.bundle(day, { [NGINX]: image(role) });
      const imported = await story.import(bundle, day);
      expect(imported.imported).toEqual([NGINX]);
      const keys = imported.collection.roles.find((entry) => entry.role === role)?.keys ?? [];
      expect(keys.map(({ keyId }) => keyId)).toContain(rotated.newKey.keyId);
      expect(keys.map(({ keyId }) => keyId)).not.toContain(before);
      day += 1;
    }
    expect(secrets()).not.toContain(old);
    expect(existsSync(path.join(story.world.collection, 'keys/retired', old))).toBe(true);
    const { state } = await openCollection(story.world.collection, DEFAULT_LIMITS);
    // Four roles of the root had a new key, one after the other.
    expect(state.root.version).toBe(5);
  });

  it.each(['native', 'openpgp'] as const)(
    'all at once, %s keys, with a passphrase of its own',
    async (keys) => {
      story = await tell({ keys });
      const first = await story.bundle(0, { [ALPINE]: image('one') });
      await story.world.pin(first.output);
      await story.import(first, 0);
      const before = secrets();
      const rotated = await story.rotate(1, { newPassphrase: async () => NEW_PASSPHRASE });
      expect(rotated.replaced.map(({ role }) => role).sort()).toEqual([
        'bundles',
        'images',
        'root',
        'snapshot',
        'targets',
        'timestamp',
      ]);
      expect(secrets()).toHaveLength(1);
      expect(secrets()).not.toEqual(before);
      const wrong = await codeOf(story.bundle(2));
      expect(wrong).toBe('passphrase-needed');
      const bundle = await story.world.export(
        { [NGINX]: image('two') },
        { now: at(2), passphrase: async () => NEW_PASSPHRASE },
      );
      const imported = await story.import(bundle, 2);
      expect(imported).toMatchObject({ imported: [NGINX], collection: { rootVersion: 2 } });
      expect((await story.world.verify(bundle.output, { now: at(2) })).images).toHaveLength(1);
    },
  );
});

describe('a sealed side that slept', () => {
  it('follows three roots at once, after the first key has expired and is long gone', async () => {
    story = await tell({ lifetimes: { root: 30 * DAY } });
    const first = await story.bundle(0, { [ALPINE]: image('one') }).catch(() => undefined);
    // A root that ends in 30 days carries no bundle of 90.
    expect(first).toBeUndefined();
    const short = await story.world.export({ [ALPINE]: image('one') }, { now: at(0), lifetime: 20 * DAY });
    await story.world.pin(short.output);
    await story.import(short, 1);
    for (const day of [10, 40, 70]) await story.rotate(day);
    rmSync(path.join(story.world.collection, 'keys/retired'), { recursive: true });
    const bundle = await story.bundle(400 - 320, { [ALPINE]: image('two') });
    const roots = [...filesOf(bundle.output).keys()].filter((name) => name.endsWith('.root.json'));
    expect(roots).toEqual([1, 2, 3, 4].map((version) => `metadata/${version}.root.json`));
    const imported = await story.import(bundle, 81);
    expect(imported).toMatchObject({ imported: [ALPINE], collection: { rootVersion: 4 } });
  });

  it('follows them too where the first key itself has expired; what that key signs now is refused', async () => {
    story = await tell({ keys: 'openpgp' });
    const { world } = story;
    const [file = ''] = secrets();
    await endKey(
      path.join(world.collection, 'keys', file),
      path.join(world.collection, 'certificates', file.replace('.asc', '.pgp')),
      60,
    );
    const short = await world.export({ [ALPINE]: image('one') }, { now: at(0), lifetime: 20 * DAY });
    expect(short.collection.expires).toBe(at(20).toISOString().replace('.000', ''));
    await world.pin(short.output);
    await story.import(short, 1);
    const sleeper = world.fork();
    for (const day of [10, 40, 70]) await story.rotate(day);
    const bundle = await story.bundle(80, { [ALPINE]: image('two') });
    const imported = await story.import(bundle, 81);
    expect(imported).toMatchObject({ imported: [ALPINE], collection: { rootVersion: 4 } });
    // Who still has the first key only, and its collection, exports nothing any more.
    expect(await codeOf(story.bundle(80, { [ALPINE]: image('late') }, sleeper))).toBe('key-expired');
  });
});

describe('a lost key', () => {
  it('is replaced with the recovery key, and the gate follows', async () => {
    story = await tell({ keys: 'openpgp' });
    const first = await story.bundle(0, { [ALPINE]: image('one') });
    await story.world.pin(first.output);
    await story.import(first, 0);
    for (const name of secrets()) rmSync(path.join(story.world.collection, 'keys', name));
    expect(await codeOf(story.bundle(1))).toBe('signature-needed');
    expect(await codeOf(story.rotate(1))).toBe('signature-needed');
    expect(secrets()).toEqual([]);
    const rotated = await story.rotate(1, { recoveryKey: story.recoveryKey });
    expect(rotated.replaced).toHaveLength(6);
    const imported = await story.import(await story.bundle(2, { [NGINX]: image('two') }), 3);
    expect(imported).toMatchObject({ imported: [NGINX], collection: { rootVersion: 2 } });
  });

  it('is not replaced by somebody else’s recovery key', async () => {
    story = await tell();
    const stranger = await story.world.stranger();
    const file = path.join(stranger.directory, 'recovery-key');
    const theirs = { file, passphrase: async () => TEST_PASSPHRASE };
    expect(await codeOf(story.rotate(1, { recoveryKey: theirs }))).toBe('invalid-argument');
  });
});

describe('a stolen key', () => {
  it('of the timestamp can freeze and cannot forge; rotated away, its signatures are worth nothing', async () => {
    story = await tell();
    const { world } = story;
    await story.rotate(0, { roles: ['timestamp'] });
    const first = await story.bundle(0, { [ALPINE]: image('one') });
    await world.pin(first.output);
    await story.import(first, 0);
    const { state } = await openCollection(world.collection, DEFAULT_LIMITS);
    const stolen = keysOfRole(state, 'timestamp')?.keyids[0] ?? '';
    const key = readFileSync(path.join(world.collection, 'keys', `${stolen}.pem`));
    const thief = openNativeSigner(key, TEST_PASSPHRASE, 'the stolen key');
    /** A bundle whose timestamp the thief has made, over a snapshot of theirs or the honest one. */
    const forged = async (name: string, own: boolean): Promise<string> => {
      const files = filesOf(first.output);
      const entry = `metadata/${first.collection.version}.snapshot.json`;
      const honest = files.get(entry) ?? Buffer.alloc(0);
      const { signed } = JSON.parse(String(honest)) as { signed: Record<string, unknown> };
      const snapshot = own
        ? await signMetadata(
            { ...signed, _type: 'snapshot', expires: '2027-01-01T00:00:00Z' },
            [thief],
            at(0),
          )
        : honest;
      const old = JSON.parse(String(files.get('metadata/timestamp.json'))) as {
        signed: Record<string, unknown>;
      };
      const hashes = { sha256: createHash('sha256').update(snapshot).digest('hex') };
      const meta = { version: first.collection.version, length: snapshot.length, hashes };
      const timestamp = await signMetadata(
        { ...old.signed, _type: 'timestamp', version: own ? 1000 : 1001, meta: { 'snapshot.json': meta } },
        [thief],
        at(0),
      );
      return forge(first.output, path.join(world.directory, name), (all) => {
        all.set(entry, snapshot);
        all.set('metadata/timestamp.json', timestamp);
      });
    };
    const before = world.imagesState();
    const own = await forged('own.tar', true);
    expect(await codeOf(world.import(own, { now: at(1) }))).toBe('signature-threshold');
    const frozen = await forged('frozen.tar', false);
    expect(await codeOf(world.import(frozen, { now: at(1) }))).toBe('target-mismatch');
    expect(world.imagesState()).toEqual(before);
    expect(await codeOf(story.import(await story.bundle(1, { [ALPINE]: image('two') }), 1))).toBe('rollback');

    await story.rotate(2, { roles: ['timestamp'], stolen: true });
    expect(existsSync(path.join(world.collection, 'keys/revoked', `${stolen}.pem`))).toBe(true);
    const next = await story.bundle(2, { [ALPINE]: image('two') });
    await story.import(next, 2);
    // Whatever the stolen key has signed is refused from now on.
    expect(await codeOf(world.import(frozen, { now: at(3) }))).toBe('signature-threshold');
    expect(await codeOf(story.import(first, 3))).toBe('signature-threshold');
  });

  it('of images is rotated away: what it signs is taken by no gate that has seen the rotation', async () => {
    story = await tell();
    const { world } = story;
    await story.rotate(0, { roles: ['images'] });
    const first = await story.bundle(0, { [ALPINE]: image('one') });
    await world.pin(first.output);
    await story.import(first, 0);
    const { state } = await openCollection(world.collection, DEFAULT_LIMITS);
    const stolen = keyOf(state, 'images');
    const evil = image('evil');

    // The thief has the one key. With luck somebody carries what they sign: they get a bundle that is sealed with
    // the honest keys, over their own list of images.
    const listBy = async (signer: Signer, version: number): Promise<Buffer> => {
      const { state: now } = await openCollection(world.collection, DEFAULT_LIMITS);
      const { signed } = now.delegated.get('images') as TargetsMetadata;
      const targets = { [ALPINE]: toTarget(evil) };
      return await signMetadata({ ...signed, _type: 'targets', version, targets }, [signer], at(2));
    };
    const carried = async (name: string, over: ExportResult, signer: Signer, delegations?: Buffer) => {
      const images = await listBy(signer, over.collection.version + 1);
      const file = path.join(world.directory, name);
      return await reseal(world.collection, over.output, file, at(2), (roles) => {
        roles.set('images', images);
        if (delegations) roles.set('targets', delegations);
      });
    };
    const thief = openNativeSigner(stolen.secret, TEST_PASSPHRASE, 'the stolen key');
    // Alone it is worth nothing: no snapshot names what it signs.
    const list = await listBy(thief, 9);
    const alone = forge(first.output, path.join(world.directory, 'alone.tar'), (files) => {
      const entry = [...files.keys()].find((name) => name.endsWith('.images.json')) ?? '';
      files.set(entry, list);
    });
    expect(await codeOf(world.import(alone, { now: at(1) }))).toBe('mix-and-match');
    // Before the rotation the list is taken: only the bundle manifest, which another key signs, still speaks against it.
    const early = await carried('early.tar', first, thief);
    expect(await codeOf(world.verify(early, { now: at(1) }))).toBe('target-mismatch');

    await story.rotate(1, { roles: ['images'], stolen: true });
    expect(existsSync(path.join(world.collection, 'keys/revoked', `${stolen.keyId}.pem`))).toBe(true);
    const honest = await story.bundle(1);
    await story.import(honest, 1);
    const before = world.imagesState();
    const late = await carried('late.tar', honest, thief);
    expect(await codeOf(world.verify(late, { now: at(3) }))).toBe('signature-threshold');
    // Nor do the delegations of before, which still name the stolen key, come back.
    const old = Buffer.from(state.targets.bytes);
    const delegated = await carried('old-targets.tar', honest, thief, old);
    expect(await codeOf(world.verify(delegated, { now: at(3) }))).toBe('rollback');
    // The right key in its place gets as far as before: it is the key that is refused, not the bundle.
    const { state: now } = await openCollection(world.collection, DEFAULT_LIMITS);
    const right = openNativeSigner(keyOf(now, 'images').secret, TEST_PASSPHRASE, 'the new key');
    const control = await carried('control.tar', honest, right);
    expect(await codeOf(world.verify(control, { now: at(3) }))).toBe('target-mismatch');
    expect(await codeOf(world.import(late, { now: at(3) }))).toBe('signature-threshold');
    expect(world.imagesState()).toEqual(before);
  });

  it('of a whole OpenPGP collection is revoked: the certificate says so to every gate', async () => {
    story = await tell({ keys: 'openpgp' });
    const { world } = story;
    const first = await story.bundle(0, { [ALPINE]: image('one') });
    await world.pin(first.output);
    await story.import(first, 0);
    const thief = world.fork();
    const rotated = await story.rotate(1, { recoveryKey: story.recoveryKey, stolen: true });
    expect(rotated.revoked).toHaveLength(1);
    await story.import(await story.bundle(2, { [NGINX]: image('two') }), 3);
    const gate = await openGate(world.gate, { create: false });
    const [state] = await gate.collections();
    expect([...(state?.certificates.keys() ?? [])]).toEqual(expect.arrayContaining([...rotated.revoked]));
    for (let i = 0; i < 5; i += 1) await story.bundle(4, { [ALPINE]: image('evil') }, thief);
    const evil = await story.bundle(4, { [ALPINE]: image('evil') }, thief);
    expect(await codeOf(story.import(evil, 4))).toBe('signature-threshold');
    // A sealed side that pins today still follows from the first root, by the recovery key's signature.
    const fresh = await story.world.stranger();
    const later = await story.bundle(5);
    await expect(
      fresh.pin(later.output, { fingerprint: rotated.collectionId, now: at(5) }),
    ).resolves.toMatchObject({ rootVersion: 1 });
    await expect(fresh.import(later.output, { now: at(5) })).resolves.toMatchObject({
      collection: { rootVersion: 2 },
    });
  });

  it('that was revoked had signed earlier roots: who slept since the first follows all the same', async () => {
    story = await tell({ keys: 'openpgp' });
    const { world } = story;
    const first = await story.bundle(0, { [ALPINE]: image('one') });
    await world.pin(first.output);
    await story.import(first, 0);
    await story.rotate(1);
    await story.renew(2, { roles: ['root'] });
    await story.bundle(2);
    await story.rotate(3, { recoveryKey: story.recoveryKey, stolen: true });
    const last = await story.bundle(4, { [NGINX]: image('two') });
    const imported = await story.import(last, 4);
    expect(imported).toMatchObject({ imported: [NGINX], collection: { rootVersion: 4 } });
    const roots = filesOf(last.output);
    for (const version of [2, 3]) {
      const { signatures } = JSON.parse(String(roots.get(`metadata/${version}.root.json`))) as {
        signatures: unknown[];
      };
      expect(signatures).toHaveLength(version === 2 ? 3 : 2);
    }
    // And those who had followed half-way.
    expect((await story.import(await story.bundle(5), 5)).collection.rootVersion).toBe(4);
  });

  it('that signed version 2^53-1 is recovered from by a new timestamp key', async () => {
    story = await tell();
    const { world } = story;
    const first = await story.bundle(0, { [ALPINE]: image('one') });
    await world.pin(first.output);
    await story.import(first, 0);
    const thief = world.fork();
    writeFileSync(path.join(thief.collection, 'counter'), `${Number.MAX_SAFE_INTEGER - 1}\n`);
    const last = await story.bundle(1, { [ALPINE]: image('evil') }, thief);
    expect(last.collection.version).toBe(2 ** 53 - 1);
    await story.import(last, 1);
    expect(await codeOf(story.import(await story.bundle(2), 2))).toBe('rollback');
    await story.rotate(3, { recoveryKey: story.recoveryKey, stolen: true });
    const good = await story.bundle(3, { [ALPINE]: image('two') });
    const imported = await story.import(good, 3);
    expect(imported.imported).toEqual([ALPINE]);
    expect(imported.collection.version).toBeLessThan(100);
    expect(await codeOf(story.import(last, 4))).toBe('signature-threshold');
  });
});

describe('what goes wrong on the way', () => {
  it('a damaged bundle still delivers its root', async () => {
    story = await tell();
    const { world } = story;
    const first = await story.bundle(0, { [ALPINE]: image('one') });
    await world.pin(first.output);
    await story.import(first, 0);
    await story.rotate(1, { recoveryKey: story.recoveryKey, stolen: true });
    const next = await story.bundle(1, { [ALPINE]: image('two') });
    const damaged = flip(next.output, `${next.output}.damaged`, layerNames(next.output)[0] ?? '', 0);
    const before = world.imagesState();
    expect(await codeOf(world.import(damaged, { now: at(2) }))).toBe('digest-mismatch');
    expect(world.imagesState()).toEqual(before);
    const gate = await openGate(world.gate, { create: false });
    expect((await gate.collections())[0]?.root.version).toBe(2);
    // The log says so, although the bundle was refused.
    const log = readFileSync(path.join(world.gate, 'audit.log'), 'utf8').trimEnd().split('\n').slice(-3);
    expect(log.map((line) => (JSON.parse(line) as { event: string }).event)).toEqual([
      'trust-moved',
      'trust-moved',
      'refused',
    ]);
    expect(log[0]).toContain('"root":2');
    // The stolen key is worth nothing from here on.
    expect(await codeOf(story.import(first, 2))).toBe('signature-threshold');
    // Also where no other part of the metadata arrived.
    const bare = forge(next.output, `${next.output}.bare`, (files) => {
      const name = [...files.keys()].find((entry) => entry.endsWith('.snapshot.json')) ?? '';
      files.set(name, Buffer.from('{}'));
    });
    expect(await codeOf(world.import(bare, { now: at(2) }))).toBe('mix-and-match');
    expect((await gate.collections())[0]?.root.version).toBe(2);
  });

  it('an export that was interrupted before a rotation is planned anew after it', async () => {
    story = await tell();
    const { world } = story;
    const first = await story.bundle(0, { [ALPINE]: image('one') });
    await world.pin(first.output);
    const file = path.join(world.directory, 'interrupted.tar');
    const two = image('two');
    const layout = path.join(world.directory, 'layout-two');
    makeLayout(layout, [{ name: NGINX, root: two }]);
    const options: ExportOptions = {
      collection: world.collection,
      images: [parseLocation(`${NGINX}=oci:${layout}:${NGINX}`)],
      output: { kind: 'file', path: file },
      platforms: [],
      lifetime: 90 * DAY,
      includeEvidence: true,
      dockerArchive: false,
      force: false,
      concurrency: 1,
      source: SOURCE_OPTIONS,
      passphrase: async () => TEST_PASSPHRASE,
      pid: process.pid,
    };
    const stop = new AbortController();
    const stopped = exportBundle(options, {
      ...world.context(at(1)),
      signal: stop.signal,
      emit: (event) => {
        if (event.type === 'transfer') stop.abort();
      },
    });
    await expect(stopped).rejects.toThrow();
    expect(existsSync(path.join(world.directory, '.interrupted.tar.partial'))).toBe(true);
    await story.rotate(1, { recoveryKey: story.recoveryKey });
    const bundle = await exportBundle(options, world.context(at(1)));
    expect(bundle.resumed).toBe(false);
    expect(bundle.collection.rootVersion).toBe(2);
    expect((await story.import(bundle, 1)).imported).toEqual([NGINX]);
  });

  it('what is staged and damaged is named', async () => {
    story = await tell();
    await story.renew(1, { roles: ['targets'] });
    const directory = path.join(story.world.collection, 'staged');
    const file = path.join(directory, readdirSync(directory)[0] ?? '');
    writeFileSync(file, `${readFileSync(file, 'utf8')} `);
    expect(await codeOf(openCollection(story.world.collection, DEFAULT_LIMITS))).toBe('state-damaged');
  });
});
