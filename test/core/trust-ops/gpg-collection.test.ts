/** A collection whose keys gpg holds, from its making to the next key, over bundles that a gate takes. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { DEFAULT_LIMITS } from '../../../core/limits.ts';
import { createCollection, openCollection } from '../../../core/trust/collection.ts';
import {
  addDelegation,
  changePassphrase,
  exportKey,
  importKey,
  listKeys,
  publishRequest,
  refreshKey,
  renewRoles,
  retireKey,
  rotateKeys,
  signRequest,
} from '../../../core/trust-ops/index.ts';
import { type GpgHome, makeGpgHome } from '../../../fixtures/gpg-home.ts';
import { singleImage } from '../../../fixtures/images.ts';
import { describePeer } from '../../../fixtures/peers.ts';
import { DAY, makeWorld, START, TEST_PASSPHRASE, type World } from '../../../fixtures/world.ts';
import { codeOf } from '../../stories/story.ts';

const ALPINE = 'docker.io/library/alpine:3.20';
const passphrase = async (): Promise<string> => TEST_PASSPHRASE;
const at = (days: number): Date => new Date(START.getTime() + days * DAY);

let home: GpgHome;
let world: World;
let main: string;
let trust: { collection: string; passphrase: typeof passphrase; pid: number; gpg: GpgHome['settings'] };

describePeer(['gpg'], 'a collection whose key gpg holds', () => {
  beforeAll(() => {
    home = makeGpgHome(START);
  });
  afterAll(async () => {
    await home?.close();
  });
  beforeEach(async () => {
    home.setClock(START);
    main = await home.make('Main <main@example.invalid>', { expires: '1y' });
    const made = await makeWorld();
    world = { ...made, collection: path.join(made.directory, 'by-gpg') };
    trust = { collection: world.collection, passphrase, pid: process.pid, gpg: home.settings };
    await createCollection({
      directory: world.collection,
      name: 'test',
      keys: 'openpgp',
      passphrase: '',
      signer: { reference: `gpg:${main}`, access: trust },
      recoveryPassphrase: TEST_PASSPHRASE,
      recoveryFile: path.join(world.directory, 'gpg-recovery-key'),
      created: START,
      rsaBits: 2048,
      limits: DEFAULT_LIMITS,
    });
  });
  afterEach(async () => {
    await world?.close();
  });

  const bundle = async (day: number, label = 'one') => {
    home.setClock(at(day));
    const { gpg } = trust;
    return await world.export(
      { [ALPINE]: singleImage(label) },
      { collection: world.collection, gpg, now: at(day) },
    );
  };
  const pinned = async (day = 0) => {
    const exported = await bundle(day);
    const fingerprint = (await openCollection(world.collection, DEFAULT_LIMITS)).rootFingerprint;
    await world.pin(exported.output, { fingerprint, now: at(day) });
    return exported;
  };

  it('keeps no secret, and exports what a gate takes', async () => {
    const keys = path.join(world.collection, 'keys');
    expect(readdirSync(keys)).toEqual([`${main.toLowerCase()}.gpg`]);
    expect(readFileSync(path.join(keys, `${main.toLowerCase()}.gpg`), 'utf8')).toBe(
      `{"formatVersion":1,"requires":[],"signer":"gpg:${main}"}`,
    );
    expect((await world.import((await pinned()).output)).imported).toEqual([ALPINE]);
    const [first] = (await listKeys({ collection: world.collection }, world.context())).keys;
    expect(first).toMatchObject({ fingerprint: main.toLowerCase(), heldByGpg: true });
    const exported = await exportKey({ ...trust, key: main }, world.context());
    const other = await home.make('Held');
    const held = await importKey({ ...trust, file: `gpg:${other}` }, world.context());
    expect(held.file).toBe(path.join(keys, `${other.toLowerCase()}.gpg`));
    expect(await codeOf(importKey({ ...trust, file: `gpg:${other}` }, world.context()))).toBe(
      'destination-exists',
    );
    expect(exported.text).toContain('BEGIN PGP PUBLIC KEY');
    expect(
      await codeOf(changePassphrase({ ...trust, key: main, newPassphrase: passphrase }, world.context())),
    ).toBe('invalid-argument');
  });

  it('is exported where gpg is reached, by --signer too where nothing notes who holds the key', async () => {
    expect(await codeOf(world.export({ [ALPINE]: singleImage('x') }, { collection: world.collection }))).toBe(
      'signature-needed',
    );
    await retireKey({ ...trust, key: main, force: true }, world.context());
    expect(await codeOf(bundle(0))).toBe('signature-needed');
    const exported = await world.export(
      { [ALPINE]: singleImage('x') },
      { collection: world.collection, gpg: home.settings, signers: [`gpg:${main}`] },
    );
    expect(exported.collection.version).toBeGreaterThan(1);
  });

  it('refuses a note that names another key than its file', async () => {
    const other = await home.make('Other');
    const file = path.join(world.collection, 'keys', `${main.toLowerCase()}.gpg`);
    writeFileSync(file, `{"formatVersion":1,"requires":[],"signer":"gpg:${other}"}`);
    expect(await codeOf(bundle(0))).toBe('state-damaged');
    writeFileSync(file, `{"formatVersion":1,"requires":[],"signer":"gpg:--version"}`);
    expect(await codeOf(bundle(0))).toBe('state-damaged');
  });

  it('goes on with another key that gpg holds', async () => {
    await world.import((await pinned()).output);
    const next = await home.make('Next');
    const rotated = await rotateKeys(
      { ...trust, roles: [], newPassphrase: passphrase, newSigner: `gpg:${next}`, stolen: false },
      world.context(at(1)),
    );
    expect(rotated.newKey.fingerprint).toBe(next.toLowerCase());
    expect(rotated.retired).toEqual([
      path.join(world.collection, 'keys/retired', `${main.toLowerCase()}.gpg`),
    ]);
    const imported = await world.import((await bundle(1, 'two')).output, { now: at(1) });
    expect(imported.imported).toEqual([ALPINE]);
  });

  it('outlives the expiry of its key, once what gpg renewed is taken in', async () => {
    await world.import((await pinned()).output);
    home.setClock(at(300));
    await renewRoles({ ...trust, roles: ['targets'] }, world.context(at(300)));
    await home.run(['--quick-set-expire', main, '3y']);
    // The gate would have a certificate that ends within the year.
    const { expires } = await (await openCollection(world.collection, DEFAULT_LIMITS)).summary();
    expect(expires < '2027-03-02').toBe(true);
    const source = `gpg:${main}`;
    const refreshed = await refreshKey({ ...trust, source }, world.context(at(300)));
    expect(refreshed).toMatchObject({ fingerprint: main.toLowerCase(), changed: true });
    expect((await refreshKey({ ...trust, source }, world.context(at(300)))).changed).toBe(false);
    const late = await world.import((await bundle(380, 'two')).output, { now: at(380) });
    expect(late.imported).toEqual([ALPINE]);
    expect(late.collection.expires > '2027-03-16').toBe(true);
  });

  it('hands a namespace to another key in gpg, whose holder signs the request with it', async () => {
    await world.import((await pinned()).output);
    const acme = await home.make('Acme');
    const request = path.join(world.directory, 'acme.json');
    const pending = await addDelegation(
      { ...trust, prefix: 'docker.io/acme/', add: [`gpg:${acme}`], request },
      world.context(at(1)),
    );
    expect(pending.missing.flatMap(({ by }) => by)).toEqual([acme.toLowerCase()]);
    home.setClock(at(1));
    const signed = await signRequest(
      { request, keys: [{ file: `gpg:${acme}`, passphrase, gpg: home.settings }], passphrase },
      world.context(at(1)),
    );
    expect(signed.missing).toEqual([]);
    await publishRequest({ ...trust, requests: [request] }, world.context(at(1)));
    expect((await world.import((await bundle(1, 'two')).output, { now: at(1) })).imported).toEqual([ALPINE]);
  });
});
