import { renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, expect, it } from 'vitest';
import {
  addDelegation,
  exportKey,
  generateKey,
  listNames,
  publishRequest,
  signRequest,
  witnessRoles,
} from '../../core/trust-ops/index.ts';
import { TEST_PASSPHRASE } from '../../fixtures/world.ts';
import { ALPINE, at, codeOf, endKey, image, type Story, tell } from './story.ts';

const APP = 'docker.io/acme/app:1.0';

let story: Story;
afterEach(async () => {
  await story?.world.close();
});

const ops = () => ({
  collection: story.world.collection,
  passphrase: async () => TEST_PASSPHRASE,
  pid: process.pid,
});
const inWorld = (name: string): string => path.join(story.world.directory, name);

/** A namespace of two, of whom one has signed; their key ends on day 30. The other's secret half stays or goes. */
async function namespaceOfTwo(): Promise<{ other: string }> {
  const context = story.world.context(at(0));
  const secrets: string[] = [];
  const add: string[] = [];
  for (const kind of ['openpgp', 'native'] as const) {
    const key = { newPassphrase: ops().passphrase, kind, userId: kind, rsaBits: 2048 };
    const made = await generateKey({ ...ops(), ...key }, context);
    if (made.fingerprint) {
      const certificate = inWorld('ending.pgp');
      await endKey(made.file, certificate, 30);
      add.push(certificate);
    } else {
      const { text } = await exportKey({ ...ops(), key: made.keyId }, context);
      writeFileSync(inWorld(`${kind}.public`), text);
      add.push(inWorld(`${kind}.public`));
    }
    const secret = inWorld(`${kind}.secret`);
    renameSync(made.file, secret);
    secrets.push(secret);
  }
  const [ending = '', other = ''] = secrets;
  const request = inWorld('namespace.json');
  await addDelegation({ ...ops(), prefix: 'docker.io/acme/', add, request }, context);
  const signing = { request, keys: [{ file: ending, passphrase: ops().passphrase }] };
  await signRequest({ ...signing, passphrase: ops().passphrase }, context);
  await publishRequest({ ...ops(), requests: [request] }, context);
  return { other };
}

it('a role whose key has ended is signed again by its other holder, and nothing in it changes', async () => {
  story = await tell();
  const app = image('app');
  await story.bundle(0, { [ALPINE]: image('one'), [APP]: app });
  const { other } = await namespaceOfTwo();
  const first = await story.world.export(
    {},
    { now: at(1), metadataOnly: true, lifetime: 20 * 24 * 3600_000 },
  );
  await story.world.pin(first.output);
  await story.import(first, 1);
  const names = async () =>
    (await listNames({ ...ops(), roles: ['docker.io-acme'] }, story.world.context(at(1)))).images;
  const before = await names();
  expect(before).toMatchObject([{ name: APP, digest: app.digest }]);
  const at40 = story.world.context(at(40));
  expect(await codeOf(witnessRoles({ ...ops(), roles: [] }, story.world.context(at(1))))).toBe(
    'invalid-argument',
  );

  // One key of one namespace stops every export, until the role is witnessed.
  expect(await codeOf(story.bundle(40))).toBe('key-expired');
  const refused = await codeOf(witnessRoles({ ...ops(), roles: [] }, at40));
  expect(refused).toBe('signature-needed');
  const request = inWorld('witness.json');
  const asked = await witnessRoles({ ...ops(), roles: [], request }, at40);
  expect(asked.witnessed).toEqual([
    { role: 'docker.io-acme', images: 1, withdrawn: 0, counted: 0, threshold: 1 },
  ]);
  const keys = [{ file: other, passphrase: ops().passphrase }];
  const told = await signRequest({ request, keys, ...ops() }, at40);
  // Against a copy of the collection there is nothing to tell: no name differs.
  expect(told.files.map(({ statements }) => statements)).toEqual([[]]);
  await publishRequest({ ...ops(), requests: [request] }, at40);
  const imported = await story.import(await story.bundle(40), 40);
  expect(imported.vanished).toEqual([]);
  expect(await names()).toEqual(before);
});

it('is for roles that list images', async () => {
  story = await tell();
  const witness = (role: string) =>
    codeOf(witnessRoles({ ...ops(), roles: [role] }, story.world.context(at(1))));
  expect(await witness('targets')).toBe('invalid-argument');
  expect(await witness('bundles')).toBe('invalid-argument');
  expect(await witness('nobody')).toBe('name-not-found');
  expect(await witness('images')).toBe('accepted');
});
