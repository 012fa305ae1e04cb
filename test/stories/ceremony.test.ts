import { cpSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { isSealiftError } from '../../core/errors.ts';
import { DEFAULT_LIMITS } from '../../core/limits.ts';
import { openCollection } from '../../core/trust/collection.ts';
import {
  addDelegation,
  addNames,
  changePassphrase,
  changeRoleKeys,
  exportKey,
  generateKey,
  importKey,
  listDelegations,
  listKeys,
  publishRequest,
  removeDelegation,
  retireKey,
  signRequest,
  withdrawNames,
} from '../../core/trust-ops/index.ts';
import type { FixtureManifest } from '../../fixtures/images.ts';
import { TEST_PASSPHRASE } from '../../fixtures/world.ts';
import { privateKeyOf } from './rsa-of.ts';
import { ALPINE, at, codeOf, image, NEW_PASSPHRASE, type Story, tell } from './story.ts';

let story: Story;
afterEach(async () => {
  await story?.world.close();
});

const passphrase = async () => TEST_PASSPHRASE;
const ops = (directory = story.world.collection) => ({
  collection: directory,
  passphrase,
  pid: process.pid,
});
const context = (day: number) => story.world.context(at(day));
const inWorld = (name: string): string => path.join(story.world.directory, name);

/** A person with a key of their own; its secret half leaves the collection. */
async function person(name: string, day = 0, kind: 'native' | 'openpgp' = 'native') {
  const made = await generateKey(
    { ...ops(), newPassphrase: passphrase, kind, userId: name, rsaBits: 2048 },
    context(day),
  );
  const secret = inWorld(`${name}.secret`);
  const open = inWorld(`${name}.public`);
  const half = await exportKey({ ...ops(), key: made.fingerprint ?? made.keyId }, context(day));
  writeFileSync(open, half.text);
  renameSync(made.file, secret);
  return { secret, open, keyId: made.keyId, key: { file: secret, passphrase } };
}

const targetOf = (root: FixtureManifest) => ({
  length: root.size,
  sha256: root.digest.replace('sha256:', ''),
  mediaType: root.mediaType,
});

async function firstBundle(): Promise<void> {
  const first = await story.bundle(0, { [ALPINE]: image('one') });
  await story.world.pin(first.output);
  await story.import(first, 0);
}

describe('two of three must sign the images', () => {
  it('an export says whose signature is missing, and goes on when it was brought; one signer is gone', async () => {
    story = await tell();
    await firstBundle();
    const [anna, berta, carla] = [await person('anna'), await person('berta'), await person('carla')];
    const { state } = await openCollection(story.world.collection, DEFAULT_LIMITS);
    const [old = ''] = state.targets.delegations?.roles.find(({ name }) => name === 'images')?.keyids ?? [];
    const request = inWorld('rekey.json');
    const asked = await changeRoleKeys(
      {
        ...ops(),
        role: 'images',
        add: [anna.open, berta.open, carla.open],
        remove: [old],
        threshold: 2,
        request,
      },
      context(1),
    );
    // targets is signed by the collection's own key; the role by none of its new ones yet.
    expect(asked.missing).toMatchObject([{ role: 'images', have: 0, want: 2 }]);
    expect(asked.missing[0]?.by).toHaveLength(3);
    for (const { key } of [anna, berta]) {
      await signRequest({ request, keys: [key], passphrase }, context(1));
    }
    await publishRequest({ ...ops(), requests: [request] }, context(1));
    await story.import(await story.bundle(1), 1);

    const two = image('two');
    const refused: unknown = await story.bundle(2, { [ALPINE]: two }).catch((error: unknown) => error);
    expect(isSealiftError(refused) && refused.code).toBe('signature-needed');
    expect(isSealiftError(refused) && refused.message).toContain(anna.keyId);

    // Anna is gone; Berta and Carla sign on their own machines, each a copy.
    const wish = inWorld('add.json');
    const wanted = await addNames(
      { ...ops(), images: new Map([[ALPINE, targetOf(two)]]), request: wish },
      context(2),
    );
    expect(wanted.missing).toMatchObject([{ role: 'images', have: 0, want: 2 }]);
    const [one, other] = [inWorld('berta.json'), inWorld('carla.json')];
    cpSync(wish, one);
    cpSync(wish, other);
    const told = await signRequest({ request: one, keys: [berta.key], passphrase }, context(2));
    expect(told.files[0]?.statements.join('\n')).toContain(two.digest.replace('sha256:', ''));
    expect(told.missing).toMatchObject([{ role: 'images', have: 1, want: 2 }]);
    expect(await codeOf(publishRequest({ ...ops(), requests: [one] }, context(2)))).toBe('signature-needed');
    await signRequest({ request: other, keys: [carla.key], passphrase }, context(2));
    await publishRequest({ ...ops(), requests: [one, other] }, context(2));
    const imported = await story.import(await story.bundle(2, { [ALPINE]: two }), 3);
    expect(imported.imported).toEqual([ALPINE]);
    expect(imported.collection.roles.find(({ role }) => role === 'images')).toMatchObject({ threshold: 2 });
  });

  it('the same signature twice, one by a stranger, and a changed request are worth nothing', async () => {
    story = await tell();
    await firstBundle();
    const [anna, berta, stranger] = [await person('anna'), await person('berta'), await person('eve')];
    const request = inWorld('rekey.json');
    await changeRoleKeys(
      { ...ops(), role: 'images', add: [anna.open, berta.open], remove: [], threshold: 3, request },
      context(1),
    );
    await signRequest({ request, keys: [anna.key], passphrase }, context(1));
    expect(await codeOf(signRequest({ request, keys: [anna.key], passphrase }, context(1)))).toBe(
      'signature-needed',
    );
    expect(await codeOf(signRequest({ request, keys: [stranger.key], passphrase }, context(1)))).toBe(
      'signature-needed',
    );
    await signRequest({ request, keys: [berta.key], passphrase }, context(1));
    const document = JSON.parse(readFileSync(request, 'utf8')) as {
      files: { name: string; content: string }[];
    };
    for (const file of document.files) {
      const content = Buffer.from(file.content, 'base64')
        .toString()
        .replaceAll('"threshold":3', '"threshold":1');
      file.content = Buffer.from(content).toString('base64');
    }
    const forged = inWorld('forged.json');
    writeFileSync(forged, JSON.stringify(document));
    expect(await codeOf(publishRequest({ ...ops(), requests: [forged] }, context(1)))).toBe(
      'signature-needed',
    );
    expect(await codeOf(publishRequest({ ...ops(), requests: [request, forged] }, context(1)))).toBe(
      'mix-and-match',
    );
    await publishRequest({ ...ops(), requests: [request] }, context(1));
    // Published once, it is old.
    expect(await codeOf(publishRequest({ ...ops(), requests: [request] }, context(1)))).toBe('rollback');
    await story.import(await story.bundle(2), 2);
  });

  it('the same person’s two keys do not make two', async () => {
    story = await tell();
    await firstBundle();
    // One RSA key, as OpenPGP and as a plain public key.
    const anna = await person('anna', 0, 'openpgp');
    const plain = await privateKeyOf(readFileSync(anna.secret, 'utf8'), TEST_PASSPHRASE);
    const [secret, open] = [inWorld('plain.secret'), inWorld('plain.public')];
    writeFileSync(secret, plain.secret);
    writeFileSync(open, plain.open);
    const request = inWorld('rekey.json');
    const keys = { ...ops(), role: 'images', add: [anna.open, open], remove: [], threshold: 3, request };
    await changeRoleKeys(keys, context(1));
    await signRequest({ request, keys: [anna.key, { file: secret, passphrase }], passphrase }, context(1));
    expect(await codeOf(publishRequest({ ...ops(), requests: [request] }, context(1)))).toBe(
      'signature-threshold',
    );
    await story.import(await story.bundle(1), 1);
  });

  it('can be asked of the root too, and then one holder alone moves nothing', async () => {
    story = await tell();
    await firstBundle();
    const anna = await person('anna');
    const request = inWorld('root.json');
    const keys = { ...ops(), role: 'root', add: [anna.open], remove: [], threshold: 2, request };
    await changeRoleKeys(keys, context(1));
    await signRequest({ request, keys: [anna.key], passphrase }, context(1));
    await publishRequest({ ...ops(), requests: [request] }, context(1));
    await story.import(await story.bundle(1), 1);
    expect(await codeOf(story.renew(2, { roles: ['root'] }))).toBe('signature-needed');
    const again = inWorld('renew.json');
    await story.renew(2, { roles: ['root'], request: again });
    await signRequest({ request: again, keys: [anna.key], passphrase }, context(2));
    await publishRequest({ ...ops(), requests: [again] }, context(2));
    const imported = await story.import(await story.bundle(2), 2);
    expect(imported.collection.rootVersion).toBe(3);
  });
});

describe('a namespace', () => {
  const ACME = 'docker.io/acme/app:1.0';

  it('is handed over: its publisher signs on a copy, the carrier cannot, and takes it back in the end', async () => {
    story = await tell();
    const { world } = story;
    const before = image('before');
    const first = await story.bundle(0, { [ALPINE]: image('one'), [ACME]: before });
    await world.pin(first.output);
    await story.import(first, 0);
    const acme = await person('acme', 0, 'openpgp');
    const request = inWorld('delegation.json');
    const options = { ...ops(), prefix: 'docker.io/acme/', add: [acme.open], request };
    const asked = await addDelegation(options, context(1));
    expect(asked.missing).toMatchObject([{ role: 'docker.io-acme', have: 0, want: 1 }]);
    await signRequest({ request, keys: [acme.key], passphrase }, context(1));
    await publishRequest({ ...ops(), requests: [request] }, context(1));
    // What was there is vouched for by the new role, unchanged.
    const moved = await story.import(await story.bundle(1, { [ACME]: before }), 1);
    expect(moved.images).toMatchObject([{ name: ACME, role: 'docker.io-acme', digest: before.digest }]);

    // The carrier alone cannot name another image there.
    const next = image('next');
    expect(await codeOf(story.bundle(2, { [ACME]: next }))).toBe('signature-needed');

    // The publisher works on a copy without the carrier's keys.
    const copy = inWorld('copy');
    cpSync(world.collection, copy, { recursive: true });
    rmSync(path.join(copy, 'keys'), { recursive: true });
    mkdirSync(path.join(copy, 'keys'), { mode: 0o700 });
    await importKey({ ...ops(copy), file: acme.secret }, context(2));
    const parcel = inWorld('parcel.json');
    const images = new Map([[ACME, targetOf(next)]]);
    const signed = await addNames({ ...ops(copy), images, request: parcel }, context(2));
    expect(signed.missing).toEqual([]);
    const others = new Map([[ALPINE, targetOf(next)]]);
    expect(await codeOf(addNames({ ...ops(copy), images: others }, context(2)))).toBe('signature-needed');
    await publishRequest({ ...ops(), requests: [parcel] }, context(2));
    const imported = await story.import(await story.bundle(3, { [ACME]: next }), 3);
    expect(imported.images).toMatchObject([{ name: ACME, role: 'docker.io-acme', digest: next.digest }]);

    const listed = (await listDelegations({ collection: world.collection }, context(2))).delegations;
    expect(listed.map(({ role, prefix }) => [role, prefix])).toEqual([
      ['docker.io-acme', 'docker.io/acme/'],
      ['images', ''],
    ]);
    // One key holds root and targets here: who has it can always put themselves in acme's place.
    expect(listed[0]?.carrierCanSign).toBe(true);

    // The publisher withdraws; the carrier takes the namespace back, and the tombstone stays.
    const notice = inWorld('notice.json');
    await publishRequest({ ...ops(), requests: [await copyOf(world.collection, copy, notice)] }, context(4));
    expect((await story.import(await story.bundle(4), 4)).removed).toEqual([ACME]);
    await removeDelegation({ ...ops(), role: 'docker.io-acme' }, context(5));
    const back = await story.import(await story.bundle(5), 5);
    expect(back.withdrawn.map(({ name }) => name)).toEqual([ACME]);
    const again = await story.import(await story.bundle(6, { [ACME]: image('ours') }), 6);
    expect(again.images).toMatchObject([{ name: ACME, role: 'images' }]);
  });

  /** A fresh copy of the carrier's metadata with the publisher's key, and a withdrawal signed there. */
  async function copyOf(from: string, copy: string, request: string): Promise<string> {
    for (const part of ['metadata', 'certificates', 'counter'])
      cpSync(path.join(from, part), path.join(copy, part), { recursive: true });
    await withdrawNames({ ...ops(copy), names: [ACME], reason: 'ours no more', request }, context(4));
    return request;
  }

  it('below a namespace is handed on by its publisher, not by the carrier', async () => {
    story = await tell();
    await firstBundle();
    const [acme, team] = [await person('acme'), await person('team')];
    const request = inWorld('one.json');
    await addDelegation({ ...ops(), prefix: 'docker.io/acme/', add: [acme.open], request }, context(1));
    await signRequest({ request, keys: [acme.key], passphrase }, context(1));
    await publishRequest({ ...ops(), requests: [request] }, context(1));
    const deeper = { ...ops(), prefix: 'docker.io/acme/team/', add: [team.open] };
    expect(await codeOf(addDelegation(deeper, context(2)))).toBe('signature-needed');
    const second = inWorld('two.json');
    const asked = await addDelegation({ ...deeper, request: second }, context(2));
    expect(asked.missing.map(({ role }) => role)).toEqual(['docker.io-acme', 'docker.io-acme-team']);
    await signRequest({ request: second, keys: [acme.key, team.key], passphrase }, context(2));
    await publishRequest({ ...ops(), requests: [second] }, context(2));
    const imported = await story.import(await story.bundle(2), 2);
    expect(imported.collection.roles.map(({ role }) => role)).toContain('docker.io-acme-team');
    const app = image('team');
    const name = 'docker.io/acme/team/app:1';
    const wish = inWorld('wish.json');
    await addNames({ ...ops(), images: new Map([[name, targetOf(app)]]), request: wish }, context(3));
    await signRequest({ request: wish, keys: [team.key], passphrase }, context(3));
    await publishRequest({ ...ops(), requests: [wish] }, context(3));
    const last = await story.import(await story.bundle(3, { [name]: app }), 3);
    expect(last.images).toMatchObject([{ name, role: 'docker.io-acme-team' }]);
  });
});

describe('keys of a collection', () => {
  it('are listed, given another passphrase, exported, imported and retired', async () => {
    for (const keys of ['native', 'openpgp'] as const) {
      story = await tell({ keys });
      const listed = await listKeys({ collection: story.world.collection }, context(0));
      expect(listed.keys.map(({ roles, file }) => [roles.length, file !== undefined])).toEqual(
        expect.arrayContaining([
          [6, true],
          [1, false],
        ]),
      );
      const main = listed.keys.find(({ file }) => file !== undefined);
      const name = main?.fingerprint ?? main?.keyId ?? '';
      await changePassphrase({ ...ops(), key: name, newPassphrase: async () => NEW_PASSPHRASE }, context(0));
      expect(await codeOf(story.bundle(0, { [ALPINE]: image('one') }))).toBe('passphrase-needed');
      const other = { ...ops(), key: name, passphrase: async () => NEW_PASSPHRASE };
      await changePassphrase({ ...other, newPassphrase: passphrase }, context(0));
      await story.bundle(0, { [ALPINE]: image('one') });
      const half = await exportKey({ ...ops(), key: name }, context(0));
      expect(half.text).toMatch(/^-----BEGIN (?:PUBLIC KEY|PGP PUBLIC KEY BLOCK)-----\n/);
      expect(half.text).not.toContain('PRIVATE');
      expect(await codeOf(retireKey({ ...ops(), key: name, force: false }, context(0)))).toBe(
        'invalid-argument',
      );
      const spare = await generateKey({ ...ops(), newPassphrase: passphrase, rsaBits: 2048 }, context(0));
      const after = await listKeys({ collection: story.world.collection }, context(0));
      expect(after.unused).toEqual([spare.file]);
      await retireKey({ ...ops(), key: spare.fingerprint ?? spare.keyId, force: false }, context(0));
      expect((await listKeys({ collection: story.world.collection }, context(0))).unused).toEqual([]);
      await story.world.close();
    }
  });
});
