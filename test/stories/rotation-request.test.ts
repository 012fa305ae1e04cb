/** Rotation where the keys that must sign lie on several machines. */
import { existsSync, mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { SealiftError } from '../../core/errors.ts';
import { DEFAULT_LIMITS } from '../../core/limits.ts';
import { openCollection } from '../../core/trust/collection.ts';
import {
  changeRoleKeys,
  exportKey,
  generateKey,
  publishRequest,
  type RoleKeysOptions,
  resetStaged,
  signRequest,
} from '../../core/trust-ops/index.ts';
import { TEST_PASSPHRASE } from '../../fixtures/world.ts';
import { ALPINE, at, codeOf, image, NGINX, type Story, tell } from './story.ts';

let story: Story;
afterEach(async () => {
  await story?.world.close();
});

const passphrase = async () => TEST_PASSPHRASE;
const ops = () => ({ collection: story.world.collection, passphrase, pid: process.pid });
const context = (day: number) => story.world.context(at(day));
const inWorld = (name: string): string => path.join(story.world.directory, name);
const secrets = (folder = ''): string[] =>
  readdirSync(path.join(story.world.collection, 'keys', folder), { withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ name }) => name);

/** A person whose secret key lies on another machine. */
async function person(name: string) {
  const made = await generateKey({ ...ops(), newPassphrase: passphrase, kind: 'native' }, context(0));
  const machine = inWorld(name);
  mkdirSync(machine);
  const [secret, open] = [path.join(machine, 'secret.pem'), path.join(machine, 'public.pem')];
  writeFileSync(open, (await exportKey({ ...ops(), key: made.keyId }, context(0))).text);
  renameSync(made.file, secret);
  return { open, keyId: made.keyId, key: { file: secret, passphrase } };
}

/** The collection's key, Anna's and Berta's; two of them must sign. The gate knows it. */
async function twoOfThree(role: string, more: Partial<RoleKeysOptions> = {}) {
  const first = await story.bundle(0, { [ALPINE]: image('one') });
  await story.world.pin(first.output);
  await story.import(first, 0);
  const [anna, berta] = [await person('anna'), await person('berta')];
  const request = inWorld('two-of-three.json');
  const add = [anna.open, berta.open];
  await changeRoleKeys({ ...ops(), role, add, remove: [], threshold: 2, ...more, request }, context(1));
  await signRequest({ request, keys: [anna.key], passphrase }, context(1));
  await publishRequest({ ...ops(), requests: [request] }, context(1));
  await story.import(await story.bundle(1), 1);
  return { anna, berta };
}

/** The recovery key's id: that of the root which does not lie in the collection. */
async function recoveryId(): Promise<string> {
  const { state } = await openCollection(story.world.collection, DEFAULT_LIMITS);
  const { timestamp, root } = state.root.roles;
  return root.keyids.find((keyId) => !timestamp.keyids.includes(keyId)) ?? '';
}

async function refusal(action: Promise<unknown>): Promise<SealiftError> {
  const error: unknown = await action.catch((thrown: unknown) => thrown);
  if (!(error instanceof SealiftError)) throw error;
  return error;
}

describe('two of three must sign the root', () => {
  it('its rotation is signed on two machines, and the gate follows', async () => {
    story = await tell();
    const { anna, berta } = await twoOfThree('root', { remove: [await recoveryId()] });
    const before = secrets();
    const [old = ''] = before;

    // Alone it cannot be done: whose signature lacks is said before a key is made.
    const refused = await refusal(story.rotate(2, { roles: ['root'] }));
    expect(refused.code).toBe('signature-needed');
    for (const { keyId } of [anna, berta]) expect(refused.message).toContain(keyId);
    expect(refused.hint).toContain('--request');
    expect(secrets()).toEqual(before);

    const request = inWorld('root.json');
    const asked = await story.rotate(2, { request });
    expect(asked.replaced).toHaveLength(6);
    expect(asked.request).toBe(request);
    expect(asked.retired).toEqual([]);
    // A threshold of the old keys and of the new ones: the same people, told once.
    expect(asked.missing.filter(({ role }) => role === 'root')).toEqual([
      { role: 'root', have: 1, want: 2, by: expect.arrayContaining([anna.keyId, berta.keyId]) },
    ]);
    expect(await codeOf(publishRequest({ ...ops(), requests: [request] }, context(2)))).toBe(
      'signature-needed',
    );

    // Until it is published the old key is in use.
    const meanwhile = await story.import(await story.bundle(2), 2);
    expect(meanwhile.collection.rootVersion).toBe(2);
    expect(secrets()).toContain(old);

    const told = await signRequest({ request, keys: [berta.key], passphrase }, context(3));
    expect(told.files.find(({ role }) => role === 'root')?.statements.join('\n')).toContain(
      asked.newKey.keyId,
    );
    expect(told.missing).toEqual([]);
    const published = await publishRequest({ ...ops(), requests: [request] }, context(3));
    expect(published.rootVersion).toBe(3);
    expect(published.retired.map((file) => path.basename(file))).toEqual([old]);
    expect(secrets()).toEqual([`${asked.newKey.keyId}.pem`]);

    const imported = await story.import(await story.bundle(4, { [NGINX]: image('two') }), 4);
    expect(imported.imported).toEqual([NGINX]);
    expect(imported.collection.rootVersion).toBe(3);
    for (const { role, keys } of imported.collection.roles)
      expect(
        keys.map(({ keyId }) => keyId),
        role,
      ).toContain(asked.newKey.keyId);
  });

  it('a key that is elsewhere is replaced by one that is made here', async () => {
    story = await tell();
    const { anna, berta } = await twoOfThree('root', { remove: [await recoveryId()] });
    const request = inWorld('root.json');
    await story.rotate(2, { roles: ['root'], replace: anna.keyId, request });
    await signRequest({ request, keys: [berta.key], passphrase }, context(2));
    await publishRequest({ ...ops(), requests: [request] }, context(2));
    const { state } = await openCollection(story.world.collection, DEFAULT_LIMITS);
    expect(state.root.roles.root.keyids).not.toContain(anna.keyId);
    const imported = await story.import(await story.bundle(2), 2);
    expect(imported.collection.rootVersion).toBe(3);
  });

  it('a rotation that was published and not yet exported is thrown away whole', async () => {
    story = await tell();
    const { anna } = await twoOfThree('root', { remove: [await recoveryId()] });
    const [old = ''] = secrets();
    const request = inWorld('root.json');
    await story.rotate(2, { request });
    await signRequest({ request, keys: [anna.key], passphrase }, context(2));
    await publishRequest({ ...ops(), requests: [request] }, context(2));
    const { restored } = await resetStaged(ops(), context(2));
    expect(restored.map((file) => path.basename(file))).toEqual([old]);
    const imported = await story.import(await story.bundle(3, { [NGINX]: image('two') }), 3);
    expect(imported.imported).toEqual([NGINX]);
  });
});

describe('two of three must sign the images', () => {
  it('the rotation of one key of theirs is signed by another of them', async () => {
    story = await tell();
    const { anna, berta } = await twoOfThree('images');
    const before = secrets();
    const refused = await refusal(story.rotate(2, { roles: ['images'] }));
    expect(refused.code).toBe('signature-needed');
    expect(refused.message).toContain(anna.keyId);
    expect(refused.hint).toContain('--request');
    expect(secrets()).toEqual(before);
    const request = inWorld('images.json');
    const asked = await story.rotate(2, { roles: ['images'], request });
    expect(asked.missing).toMatchObject([{ role: 'images', have: 1, want: 2 }]);
    await signRequest({ request, keys: [berta.key], passphrase }, context(2));
    const published = await publishRequest({ ...ops(), requests: [request] }, context(2));
    // The old key signs exports still.
    expect(published.retired).toEqual([]);
    const imported = await story.import(await story.bundle(2), 2);
    const images = imported.collection.roles.find(({ role }) => role === 'images');
    expect(images?.keys.map(({ keyId }) => keyId)).toContain(asked.newKey.keyId);
  });
});

describe('a stolen key', () => {
  it('is revoked when the request is published; a gate that slept follows', async () => {
    story = await tell({ keys: 'openpgp' });
    const slept = await story.bundle(0, { [ALPINE]: image('one') });
    const anna = await person('anna');
    await story.world.pin(slept.output);
    await story.import(slept, 0);
    // The collection's key, the recovery key and Anna's; two of them.
    const rekey = inWorld('rekey.json');
    const add = [anna.open];
    await changeRoleKeys(
      { ...ops(), role: 'root', add, remove: [], threshold: 2, request: rekey },
      context(1),
    );
    await signRequest({ request: rekey, keys: [anna.key], passphrase }, context(1));
    await publishRequest({ ...ops(), requests: [rekey] }, context(1));
    await story.bundle(1);

    const request = inWorld('stolen.json');
    const { recoveryKey } = story;
    const asked = await story.rotate(2, { request, stolen: true, recoveryKey });
    // What the stolen key could sign is worth nothing.
    expect(asked.missing.filter(({ role }) => role === 'root')[0]).toMatchObject({ have: 1, want: 2 });
    expect(asked.revoked).toEqual([]);
    await signRequest({ request, keys: [anna.key], passphrase }, context(2));
    const published = await publishRequest({ ...ops(), requests: [request], stolen: true }, context(2));
    expect(published.revoked).toHaveLength(1);
    expect(secrets('revoked')).toEqual([`${published.revoked[0]}.asc`]);
    expect(existsSync(path.join(story.world.collection, 'keys', `${published.revoked[0]}.asc`))).toBe(false);
    const imported = await story.import(await story.bundle(2), 2);
    expect(imported.collection.rootVersion).toBe(3);
  });
});
