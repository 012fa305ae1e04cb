/** Keys that end soon are announced wherever they are used. */
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { signImage } from '../../../core/evidence/sign.ts';
import { inspectLocation } from '../../../core/inspect.ts';
import { DEFAULT_LIMITS } from '../../../core/limits.ts';
import { parseLocation } from '../../../core/transport/location.ts';
import { createCollection, openCollection } from '../../../core/trust/collection.ts';
import { findExpiring, KEY_NOTICE_DAYS } from '../../../core/trust/expiring.ts';
import { openpgpTufKey } from '../../../core/trust/keys.ts';
import { readRoot, trustStatus } from '../../../core/trust-admin.ts';
import {
  listDelegations,
  listKeys,
  listNames,
  listStaged,
  lookUpName,
  renewRoles,
} from '../../../core/trust-ops/index.ts';
import { type GpgHome, makeGpgHome } from '../../../fixtures/gpg-home.ts';
import { makeLayout, singleImage } from '../../../fixtures/images.ts';
import { describePeer } from '../../../fixtures/peers.ts';
import {
  DAY,
  makeWorld,
  SOURCE_OPTIONS,
  START,
  TEST_PASSPHRASE,
  type World,
} from '../../../fixtures/world.ts';

const ALPINE = 'docker.io/library/alpine:3.20';
const ENDS = '2026-12-31T12:00:00Z';
const passphrase = async (): Promise<string> => TEST_PASSPHRASE;
const before = (days: number): Date => new Date(Date.parse(ENDS) - days * DAY);

let home: GpgHome;
let world: World;
let trust: { collection: string; passphrase: typeof passphrase; pid: number; gpg: GpgHome['settings'] };

describePeer(['gpg'], 'a key that ends', () => {
  let key: string;
  beforeAll(async () => {
    home = makeGpgHome(START);
    key = await home.make('Jo <jo@example.invalid>', { expires: '2026-12-31' });
  });
  afterAll(async () => {
    await home?.close();
  });
  beforeEach(async () => {
    home.setClock(START);
    const made = await makeWorld();
    world = { ...made, collection: path.join(made.directory, 'by-gpg') };
    trust = { collection: world.collection, passphrase, pid: process.pid, gpg: home.settings };
    await createCollection({
      directory: world.collection,
      name: 'test',
      keys: 'openpgp',
      passphrase: '',
      signer: { reference: `gpg:${key}`, access: trust },
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

  const codes = () =>
    world.events.flatMap((event) =>
      event.type === 'notice' && event.code.startsWith('key-') ? [event.code] : [],
    );
  const use = async (now: Date) => {
    home.setClock(now);
    const { gpg, collection } = trust;
    const lifetime = 5 * DAY;
    const { gate } = world;
    const pin = (await openCollection(collection, DEFAULT_LIMITS)).rootFingerprint;
    const told: Record<string, readonly unknown[]> = {};
    const note = (what: string, result: { readonly expiringKeys?: readonly unknown[] | undefined }) => {
      told[what] = [codes().length, result.expiringKeys?.length ?? 0];
      world.events.length = 0;
    };
    const exported = await world.export({ [ALPINE]: singleImage('one') }, { collection, gpg, now, lifetime });
    note('export', exported);
    await world.pin(exported.output, { fingerprint: pin, now });
    world.events.length = 0;
    note('import', await world.import(exported.output, { now }));
    note('verify', await world.verify(exported.output, { now }));
    for (const location of [exported.output, collection])
      note(
        location === collection ? 'inspect' : 'inspect bundle',
        await inspectLocation({ location, names: [] }, world.context(now)),
      );
    note('root', await readRoot(collection, world.context(now)));
    note('list', await listNames({ collection, roles: [] }, world.context(now)));
    note('lookup', await lookUpName({ collection, name: ALPINE }, world.context(now)));
    note('staged', await listStaged({ collection }, world.context(now)));
    note('delegation list', await listDelegations({ collection }, world.context(now)));
    note('renew', await renewRoles({ ...trust, roles: ['images'] }, world.context(now)));
    note('key list', await listKeys({ collection }, world.context(now)));
    const status = await trustStatus({ gate }, world.context(now));
    note('status', status.collections[0] ?? {});
    const layout = path.join(world.directory, `signed-${now.getTime()}`);
    makeLayout(layout, [{ name: ALPINE, root: singleImage('one') }]);
    const image = parseLocation(`${ALPINE}=oci:${layout}:${ALPINE}`);
    const lookaside = path.join(world.directory, 'lookaside');
    const source = SOURCE_OPTIONS;
    note(
      'sign',
      await signImage(
        { image, keyFile: `gpg:${key}`, lookaside, source, passphrase, gpg },
        world.context(now),
      ),
    );
    return told;
  };

  it('is announced at every use from 90 days before, and not earlier', async () => {
    expect(KEY_NOTICE_DAYS).toBe(90);
    const connected = ['export', 'renew', 'key list', 'list', 'lookup', 'root', 'staged', 'delegation list'];
    const uses = [...connected, 'inspect', 'inspect bundle', 'import', 'verify', 'status', 'sign'];
    expect(await use(before(91))).toEqual(Object.fromEntries(uses.map((name) => [name, [0, 0]])));
    expect(await use(before(89))).toEqual(Object.fromEntries(uses.map((name) => [name, [1, 1]])));
  });

  it('is announced by name and date, with what it signs, and as one that has ended', async () => {
    const soon = await listKeys({ collection: world.collection }, world.context(before(10)));
    expect(soon.expiringKeys).toEqual([
      {
        fingerprint: key.toLowerCase(),
        userId: 'Jo <jo@example.invalid>',
        expires: ENDS,
        expired: false,
        roles: ['root', 'timestamp', 'snapshot', 'targets', 'bundles', 'images'],
      },
    ]);
    expect(codes()).toEqual(['key-expires']);
    world.events.length = 0;
    const over = await listKeys({ collection: world.collection }, world.context(before(-1)));
    expect(over.expiringKeys?.[0]?.expired).toBe(true);
    expect(codes()).toEqual(['key-expired']);
  });

  it('is not announced where another signing subkey goes on, and is where the subkey ends first', async () => {
    const primary = await home.make('Subkeys', { usage: 'cert' });
    await home.run(['--passphrase', '', '--quick-add-key', primary, 'ed25519', 'sign', '2026-04-01']);
    const expiring = async () => {
      const bytes = (await home.run(['--export', primary])).stdout;
      const fingerprint = primary.toLowerCase();
      const used = [{ key: openpgpTufKey(fingerprint), roles: ['images'] }];
      return await findExpiring(used, new Map([[fingerprint, bytes]]), world.context(START));
    };
    expect((await expiring()).map(({ expires }) => expires.slice(0, 10))).toEqual(['2026-04-01']);
    await home.run(['--passphrase', '', '--quick-add-key', primary, 'ed25519', 'sign', 'never']);
    expect(await expiring()).toEqual([]);
  });
});
