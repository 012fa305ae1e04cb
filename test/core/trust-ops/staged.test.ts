/** Looking at what waits for the next bundle, throwing it away, and the smaller commands that notary has too. */
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { Context } from '../../../core/context.ts';
import { exportBundle } from '../../../core/export.ts';
import { DEFAULT_LIMITS } from '../../../core/limits.ts';
import { parseLocation } from '../../../core/transport/location.ts';
import { keysOfRole, openCollection } from '../../../core/trust/collection.ts';
import {
  addDelegation,
  addNames,
  bindName,
  changeRoleKeys,
  exportKey,
  generateKey,
  listStaged,
  lookUpName,
  purgeKey,
  removeDelegation,
  resetStaged,
  retireKey,
} from '../../../core/trust-ops/index.ts';
import { makeLayout } from '../../../fixtures/images.ts';
import { DAY, SOURCE_OPTIONS, TEST_PASSPHRASE } from '../../../fixtures/world.ts';
import { ALPINE, at, codeOf, image, NGINX, type Story, tell } from '../../stories/story.ts';

const passphrase = async (): Promise<string> => TEST_PASSPHRASE;
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const DIGEST = `sha256:${'ab'.repeat(32)}`;

let story: Story;
afterEach(async () => {
  await story?.world.close();
});

const trust = () => ({ collection: story.world.collection, passphrase, pid: process.pid });
const context = (day = 0) => story.world.context(at(day));
const staged = () => listStaged({ collection: story.world.collection }, context());
const files = () => readdirSync(path.join(story.world.collection, 'keys'), { withFileTypes: true });

describe('what is staged', () => {
  it('is nothing at first, told by role and in words, and gone with the next bundle', async () => {
    story = await tell();
    expect(await staged()).toMatchObject({ staged: false, roles: [] });
    await story.bundle(0, { [ALPINE]: image('one') });
    await story.withdraw(1, [ALPINE], 'it has a hole');
    const [role, ...others] = (await staged()).roles;
    expect(others).toEqual([]);
    expect(role?.role).toBe('images');
    expect(role?.statements.join('\n')).toContain(`image ${ALPINE} goes`);
    expect(role?.statements.join('\n')).toContain('it has a hole');
    await story.bundle(2);
    expect((await staged()).staged).toBe(false);
  });

  it('says that a namespace goes', async () => {
    story = await tell();
    const key = path.join(story.world.directory, 'acme.pem');
    const made = await generateKey({ ...trust(), newPassphrase: passphrase }, context());
    writeFileSync(key, (await exportKey({ ...trust(), key: made.keyId }, context())).text);
    await addDelegation({ ...trust(), prefix: 'docker.io/acme/', add: [key] }, context());
    expect((await staged()).roles.map(({ role }) => role)).toEqual(['targets', 'docker.io-acme']);
    await story.bundle(0, { [ALPINE]: image('one') });
    await removeDelegation({ ...trust(), role: 'docker.io-acme' }, context(1));
    expect((await staged()).roles.find(({ role }) => role === 'docker.io-acme')?.statements).toEqual([
      'goes',
    ]);
  });
});

describe('what was staged before', () => {
  it('is not written again by the next command, and is read again', async () => {
    story = await tell();
    await story.bundle(0, { [ALPINE]: image('one') });
    await story.withdraw(1, [ALPINE]);
    const home = path.join(story.world.collection, 'staged');
    const [first = ''] = readdirSync(home);
    const written = statSync(path.join(home, first)).ino;
    await story.renew(1, { roles: ['targets'] });
    expect(readdirSync(home)).toHaveLength(2);
    expect(statSync(path.join(home, first)).ino).toBe(written);
    writeFileSync(path.join(home, first), 'something else');
    expect(await codeOf(story.renew(1, { roles: ['targets'] }))).toBe('state-damaged');
  });
});

describe('reset', () => {
  it('takes back a withdrawal: the name is in the next bundle as before', async () => {
    story = await tell();
    const first = await story.bundle(0, { [ALPINE]: image('one') });
    await story.world.pin(first.output);
    await story.import(first, 0);
    await story.withdraw(1, [ALPINE]);
    const before = (await openCollection(story.world.collection, DEFAULT_LIMITS)).stagedVersion ?? 0;
    const result = await resetStaged(trust(), context(1));
    expect(result.roles.map(({ role }) => role)).toEqual(['images']);
    expect((await staged()).staged).toBe(false);
    const next = await story.bundle(2);
    // A number is never given twice.
    expect(next.collection.version).toBeGreaterThan(before);
    expect((await story.import(next, 2)).removed).toEqual([]);
  });

  it('takes it out of an export that was stopped half-way, too', async () => {
    story = await tell();
    const first = await story.bundle(0, { [ALPINE]: image('one') });
    await story.world.pin(first.output);
    await story.import(first, 0);
    await story.withdraw(1, [ALPINE]);
    const layout = path.join(story.world.directory, 'layout-stopped');
    makeLayout(layout, [{ name: NGINX, root: image('two') }]);
    const run = (over: Partial<Context> = {}) =>
      exportBundle(
        {
          collection: story.world.collection,
          images: [parseLocation(`${NGINX}=oci:${layout}:${NGINX}`)],
          output: { kind: 'file', path: path.join(story.world.directory, 'stopped.tar') },
          platforms: [],
          lifetime: 90 * DAY,
          includeEvidence: true,
          dockerArchive: false,
          force: false,
          concurrency: 1,
          source: SOURCE_OPTIONS,
          passphrase,
          pid: process.pid,
        },
        { ...context(1), ...over },
      );
    const stop = new AbortController();
    const emit: Context['emit'] = ({ type }) => type === 'transfer' && stop.abort();
    await expect(run({ signal: stop.signal, emit })).rejects.toThrow();
    await resetStaged(trust(), context(1));
    const next = await run();
    expect(next.resumed).toBe(false);
    expect((await story.import(next, 1)).removed).toEqual([]);
  });

  it('brings back the key that a rotation put aside', async () => {
    story = await tell();
    const first = await story.bundle(0, { [ALPINE]: image('one') });
    await story.world.pin(first.output);
    await story.import(first, 0);
    const [old] = files();
    const rotated = await story.rotate(1);
    expect(rotated.retired).toHaveLength(1);
    const { restored } = await resetStaged(trust(), context(1));
    expect(restored.map((file) => path.basename(file))).toEqual([old?.name]);
    expect(existsSync(rotated.retired[0] ?? '')).toBe(false);
    const next = await story.import(await story.bundle(2, { [NGINX]: image('two') }), 2);
    expect(next.imported).toEqual([NGINX]);
    expect(next.collection.rootVersion).toBe(1);
  });

  it('leaves aside a key that somebody retired although a role counts on it', async () => {
    story = await tell();
    await story.bundle(0, { [ALPINE]: image('one') });
    const [old] = files();
    const { state } = await openCollection(story.world.collection, DEFAULT_LIMITS);
    const [key = ''] = state.root.roles.timestamp.keyids;
    await story.withdraw(1, [ALPINE]);
    const retired = await retireKey({ ...trust(), key, force: true }, context(1));
    expect((await resetStaged(trust(), context(1))).restored).toEqual([]);
    expect(path.basename(retired.file)).toBe(old?.name);
    expect(existsSync(retired.file)).toBe(true);
    // Also where a rotation has come after it.
    await story.rotate(2, { recoveryKey: story.recoveryKey });
    expect((await resetStaged(trust(), context(2))).restored).toEqual([]);
    expect(existsSync(retired.file)).toBe(true);
  });

  it('of what an older program staged brings back what the staged roles have no use for', async () => {
    story = await tell();
    await story.bundle(0, { [ALPINE]: image('one') });
    const [old] = files();
    await story.rotate(1);
    const index = path.join(story.world.collection, 'staged.json');
    const { aside, ...older } = JSON.parse(readFileSync(index, 'utf8')) as { aside: string[] };
    expect(aside).toEqual([old?.name]);
    writeFileSync(index, JSON.stringify(older));
    const { restored } = await resetStaged(trust(), context(1));
    expect(restored.map((file) => path.basename(file))).toEqual([old?.name]);
  });

  it('does not take back a revocation', async () => {
    story = await tell({ keys: 'openpgp' });
    await story.bundle(0, { [ALPINE]: image('one') });
    await story.rotate(1, { stolen: true, recoveryKey: story.recoveryKey });
    expect(await codeOf(resetStaged(trust(), context(1)))).toBe('invalid-argument');
    expect((await staged()).staged).toBe(true);
  });

  it('of nothing changes nothing', async () => {
    story = await tell();
    const counter = () => readFileSync(path.join(story.world.collection, 'counter'), 'utf8');
    const before = counter();
    expect((await resetStaged(trust(), context())).staged).toBe(false);
    expect(counter()).toBe(before);
  });
});

describe('a digest that nobody fetched', () => {
  it('is bound to a name, and looked up', async () => {
    story = await tell();
    const images = bindName(parseLocation('nginx:1.29'), { digest: DIGEST, size: 7, mediaType: MANIFEST });
    await addNames({ ...trust(), images }, context());
    const found = await lookUpName({ collection: story.world.collection, name: NGINX }, context());
    expect(found).toMatchObject({
      digest: DIGEST,
      size: 7,
      mediaType: MANIFEST,
      role: 'images',
      staged: true,
    });
    await story.bundle(1);
    expect((await lookUpName({ collection: story.world.collection, name: NGINX }, context())).staged).toBe(
      false,
    );
  });

  it.each([
    ['sha512', { digest: `sha512:${'a'.repeat(128)}`, mediaType: MANIFEST }, 'invalid-digest'],
    ['a short digest', { digest: 'sha256:abc', mediaType: MANIFEST }, 'invalid-digest'],
    ['no media type', { digest: DIGEST, mediaType: 'manifest' }, 'invalid-argument'],
  ])('is refused with %s', async (_, given, code) => {
    expect(await codeOf((async () => bindName(parseLocation('nginx:1.29'), { size: 7, ...given }))())).toBe(
      code,
    );
  });
});

describe('looking up a name', () => {
  it('says that it is not there, or was withdrawn', async () => {
    story = await tell();
    const lookUp = (name: string) => lookUpName({ collection: story.world.collection, name }, context());
    await story.bundle(0, { [ALPINE]: image('one') });
    expect(await codeOf(lookUp(NGINX))).toBe('name-not-found');
    expect(await codeOf(lookUp(ALPINE))).toBe('accepted');
    await story.withdraw(1, [ALPINE]);
    expect(await codeOf(lookUp(ALPINE))).toBe('name-withdrawn');
  });
});

describe('purging a key', () => {
  const NAMESPACES = ['docker.io/acme/', 'docker.io/acme/deep/', 'quay.io/acme/'];

  it('takes it out of every namespace at once, also where one hands names on to another', async () => {
    story = await tell();
    const make = async (name: string) => {
      const made = await generateKey({ ...trust(), newPassphrase: passphrase }, context());
      const file = path.join(story.world.directory, `${name}.pem`);
      writeFileSync(file, (await exportKey({ ...trust(), key: made.keyId }, context())).text);
      return { ...made, public: file };
    };
    const anna = await make('anna');
    const berta = await make('berta');
    for (const prefix of NAMESPACES)
      await addDelegation({ ...trust(), prefix, add: [anna.public, berta.public] }, context());
    const first = await story.bundle(0, { [ALPINE]: image('one') });
    await story.world.pin(first.output);
    await story.import(first, 0);
    const purged = await purgeKey({ ...trust(), key: anna.keyId }, context(1));
    expect(purged.roles.map(({ role }) => role).sort()).toEqual([
      'docker.io-acme',
      'docker.io-acme-deep',
      'quay.io-acme',
      'targets',
    ]);
    const { collection } = await story.import(await story.bundle(1), 1);
    for (const role of collection.roles.filter((entry) => entry.role.includes('acme')))
      expect(role.keys.map(({ keyId }) => keyId)).toEqual([berta.keyId]);
    // Nobody would be left.
    expect(await codeOf(purgeKey({ ...trust(), key: berta.keyId }, context(2)))).toBe('invalid-argument');
    expect(await codeOf(purgeKey({ ...trust(), key: anna.keyId }, context(2)))).toBe('name-not-found');
    expect((await staged()).staged).toBe(false);
  });
});

describe('taking a key from a role', () => {
  it('lets those that are left sign, though the one that goes could', async () => {
    story = await tell();
    await story.bundle(0, { [ALPINE]: image('one') });
    const made = await generateKey({ ...trust(), newPassphrase: passphrase }, context());
    const file = path.join(story.world.directory, 'anna.pem');
    writeFileSync(file, (await exportKey({ ...trust(), key: made.keyId }, context())).text);
    const role = 'images';
    await changeRoleKeys({ ...trust(), role, add: [file], remove: [] }, context());
    const { state } = await openCollection(story.world.collection, DEFAULT_LIMITS);
    const [first = ''] = keysOfRole(state, role)?.keyids ?? [];
    await changeRoleKeys({ ...trust(), role, add: [], remove: [first] }, context());
    const after = (await openCollection(story.world.collection, DEFAULT_LIMITS)).state;
    expect(keysOfRole(after, role)?.keyids).toEqual([made.keyId]);
  });
});
