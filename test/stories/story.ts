/** A collection and a gate that live through several bundles. */
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { decryptKey, readPrivateKey, reformatKey } from 'openpgp';
import { isSealiftError } from '../../core/errors.ts';
import type { JsonObject } from '../../core/json/strict.ts';
import { DEFAULT_LIMITS } from '../../core/limits.ts';
import type { ExportResult, ImportResult } from '../../core/results.ts';
import { openCollection, signMetadata } from '../../core/trust/collection.ts';
import { openNativeSigner } from '../../core/trust/signer.ts';
import {
  type RenewOptions,
  type RotateOptions,
  renewRoles,
  rotateKeys,
  withdrawNames,
} from '../../core/trust-ops/index.ts';
import { type FixtureManifest, singleImage } from '../../fixtures/images.ts';
import {
  DAY,
  filesOf,
  forge,
  makeWorld,
  START,
  TEST_PASSPHRASE,
  type World,
  type WorldOptions,
} from '../../fixtures/world.ts';

export const at = (days: number): Date => new Date(START.getTime() + days * DAY);
export const NEW_PASSPHRASE = 'another passphrase, of the new key';
export const ALPINE = 'docker.io/library/alpine:3.20';
export const NGINX = 'docker.io/library/nginx:1.29';

export interface Story {
  readonly world: World;
  readonly recoveryKey: NonNullable<RotateOptions['recoveryKey']>;
  /** Exports on a day; without images a bundle of metadata only. */
  bundle(
    day: number,
    images?: Readonly<Record<string, FixtureManifest>>,
    from?: World,
  ): Promise<ExportResult>;
  import(bundle: ExportResult, day: number): Promise<ImportResult>;
  renew(day: number, options?: Partial<RenewOptions>): ReturnType<typeof renewRoles>;
  rotate(day: number, options?: Partial<RotateOptions>): ReturnType<typeof rotateKeys>;
  withdraw(day: number, names: readonly string[], reason?: string): ReturnType<typeof withdrawNames>;
}

/** Passphrases of whichever key is asked for: the first that has not been tried. */
const passphrase = async (): Promise<string> => TEST_PASSPHRASE;

export async function tell(options: WorldOptions = {}): Promise<Story> {
  const world = await makeWorld(options);
  const common = { collection: world.collection, passphrase, pid: process.pid };
  let bundles = 0;
  return {
    world,
    recoveryKey: { file: path.join(world.directory, 'recovery-key'), passphrase },
    bundle(day, images = {}, from = world) {
      bundles += 1;
      return from.export(images, {
        now: at(day),
        file: path.join(from.directory, `story-${bundles}.tar`),
        metadataOnly: Object.keys(images).length === 0,
      });
    },
    import: (bundle, day) => world.import(bundle.output, { now: at(day) }),
    renew: (day, more = {}) => renewRoles({ ...common, roles: [], ...more }, world.context(at(day))),
    rotate: (day, more = {}) =>
      rotateKeys(
        { ...common, roles: [], newPassphrase: passphrase, stolen: false, rsaBits: 2048, ...more },
        world.context(at(day)),
      ),
    withdraw: (day, names, reason = 'it has a hole') =>
      withdrawNames({ ...common, names, reason }, world.context(at(day))),
  };
}

/** The code of the refusal, or `accepted`. */
export async function codeOf(action: Promise<unknown>): Promise<string> {
  try {
    await action;
    return 'accepted';
  } catch (error) {
    if (isSealiftError(error)) return error.code;
    throw error;
  }
}

export const image = (label: string): FixtureManifest => singleImage(label);

/**
 * A bundle whose target roles were exchanged by somebody whose work an honest carrier seals: snapshot and timestamp are
 * made anew over them with the collection's own (native) keys. Roles by name, without version.
 */
export async function reseal(
  collection: string,
  source: string,
  target: string,
  created: Date,
  edit: (roles: Map<string, Buffer>) => void,
): Promise<string> {
  const { state } = await openCollection(collection, DEFAULT_LIMITS);
  const signerOf = (role: 'snapshot' | 'timestamp') => {
    const [keyId = ''] = state.root.roles[role].keyids;
    const secret = readFileSync(path.join(collection, 'keys', `${keyId}.pem`));
    return openNativeSigner(secret, TEST_PASSPHRASE, role);
  };
  const roles = new Map<string, Buffer>();
  edit(roles);
  const files = filesOf(source);
  const signedOf = (name: string) =>
    (JSON.parse(String(files.get(name))) as { signed: JsonObject & { version: number } }).signed;
  const metaOf = (bytes: Buffer) => ({
    version: (JSON.parse(String(bytes)) as { signed: { version: number } }).signed.version,
    length: bytes.length,
    hashes: { sha256: createHash('sha256').update(bytes).digest('hex') },
  });
  const before = [...files.keys()].find((name) => name.endsWith('.snapshot.json')) ?? '';
  const old = signedOf(before);
  const meta = { ...(old['meta'] as JsonObject) };
  for (const [role, bytes] of roles) meta[`${role}.json`] = metaOf(bytes);
  const version = old.version + 1;
  const snapshot = await signMetadata(
    { ...old, _type: 'snapshot', version, meta },
    [signerOf('snapshot')],
    created,
  );
  const timestamp = await signMetadata(
    {
      ...signedOf('metadata/timestamp.json'),
      _type: 'timestamp',
      version,
      meta: { 'snapshot.json': metaOf(snapshot) },
    },
    [signerOf('timestamp')],
    created,
  );
  return forge(source, target, (all, manifest) => {
    const exchange = (name: string, role: string, bytes: Buffer): void => {
      const next = `metadata/${metaOf(bytes).version}.${role}.json`;
      all.delete(name);
      all.set(next, bytes);
      const listed = manifest.entries.find((entry) => entry.name === name) as { name: string } | undefined;
      if (listed) listed.name = next;
    };
    for (const [role, bytes] of roles)
      exchange([...all.keys()].find((name) => name.endsWith(`.${role}.json`)) ?? '', role, bytes);
    exchange(before, 'snapshot', snapshot);
    all.set('metadata/timestamp.json', timestamp);
  });
}

/** Gives an OpenPGP key an end, so many days after the start, as its holder would with gpg. */
export async function endKey(secret: string, certificate: string, days: number): Promise<void> {
  const locked = await readPrivateKey({ armoredKey: readFileSync(secret, 'utf8') });
  const { privateKey, publicKey } = await reformatKey({
    privateKey: await decryptKey({ privateKey: locked, passphrase: TEST_PASSPHRASE }),
    userIDs: [{ name: 'test' }],
    passphrase: TEST_PASSPHRASE,
    keyExpirationTime: days * 24 * 60 * 60,
    date: at(0),
    format: 'object',
  });
  writeFileSync(secret, privateKey.armor());
  writeFileSync(certificate, publicKey.write());
}
