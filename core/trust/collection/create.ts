/** Making a collection. */

import { readdir, rename, rm, rmdir } from 'node:fs/promises';
import path from 'node:path';
import { inert, SealiftError } from '../../errors.ts';
import { fsyncDirectory, makeDirectory, temporaryName, writeFileDurably } from '../../fs/durable.ts';
import { canonicalJson } from '../../json/canonical.ts';
import type { JsonObject, JsonValue } from '../../json/strict.ts';
import { DEFAULT_LIMITS, type Limits } from '../../limits.ts';
import type { KeyAccess } from '../../workflow-options.ts';
import { BUNDLE_PREFIX, formatDate, parseRoot, rootFingerprint } from '../metadata.ts';
import { prefixPatterns } from '../search.ts';
import type { Signer } from '../signer.ts';
import { exists, makeKey, takeGpgKey } from './keys.ts';
import { openCollection } from './open.ts';
import {
  after,
  DEFAULT_LIFETIMES,
  envelope,
  MAX_COMPONENTS,
  metaOf,
  seconds,
  signMetadata,
  signTimestamp,
} from './sign.ts';
import { type CollectionState, DIRECTORIES, FILES, FORMAT_VERSION } from './state.ts';
import type { Collection } from './types.ts';

export interface CreateCollectionOptions {
  readonly directory: string;
  readonly name: string;
  readonly keys: 'openpgp' | 'native';
  /** Of the key that is made; not looked at where gpg holds it. */
  readonly passphrase: string;
  /** The collection's key is one that gpg holds. */
  readonly signer?: { readonly reference: string; readonly access: KeyAccess } | undefined;
  readonly recoveryPassphrase: string;
  /** Where the recovery key goes; it belongs on another medium. */
  readonly recoveryFile: string;
  /** User id of the OpenPGP keys, `Name <mail@example.org>`; the name of the collection unless given. */
  readonly userId?: string | undefined;
  readonly created: Date;
  /** Milliseconds; the profile's defaults unless given. */
  readonly lifetimes?:
    | {
        readonly root?: number;
        readonly targets?: number;
        readonly images?: number;
        readonly timestamp?: number;
      }
    | undefined;
  /** For tests; 3072 unless given. */
  readonly rsaBits?: number | undefined;
  readonly limits: Limits;
}

/**
 * Makes a collection: its keys, its recovery key, and complete metadata of version 1. It appears under its name
 * only when it is whole.
 * @throws SealiftError `collection-exists`, `destination-exists` (the directory is not empty, or the recovery file
 * is there), `passphrase-needed` for an empty passphrase, `invalid-argument`
 */
export async function createCollection(options: CreateCollectionOptions): Promise<Collection> {
  const directory = path.resolve(options.directory);
  const recoveryFile = path.resolve(options.recoveryFile);
  const created = seconds(options.created);
  await assertFree(directory);
  if (await exists(recoveryFile)) {
    throw new SealiftError('destination-exists', 'there is a file where the recovery key is to go', {
      subject: inert(recoveryFile),
    });
  }
  if (options.name === '' || /[\p{Cc}\p{Cs}]/u.test(options.name)) {
    throw new SealiftError('invalid-argument', 'a collection needs a name without control characters', {
      subject: inert(options.name),
    });
  }
  const userId = options.userId ?? options.name;
  const main = options.signer
    ? await takeGpgKey(options.signer.reference, options.signer.access)
    : await makeKey(options, options.passphrase, userId, created);
  const recovery = await makeKey(options, options.recoveryPassphrase, recoveryUserId(userId), created);
  const metadata = await firstMetadata(main.signer, recovery.signer, created, options.lifetimes ?? {});
  const root = metadata.get('1.root.json') ?? Buffer.alloc(0);
  const id = rootFingerprint(parseRoot(root, { role: 'root', limits: options.limits, strict: true }));

  const certificates = new Map<string, Uint8Array>();
  const revocations = new Map<string, string>();
  for (const { signer, revocation } of [main, recovery]) {
    if (signer.fingerprint === undefined || signer.certificate === undefined) continue;
    certificates.set(signer.fingerprint, signer.certificate);
    if (revocation !== undefined) revocations.set(signer.fingerprint, revocation);
  }
  let hasRecoveryFile = false;
  try {
    await placeCollection(
      directory,
      {
        facts: { created, id, keys: options.keys, name: options.name },
        counter: 1,
        metadata,
        certificates,
        revocations,
        secrets: new Map([[main.fileName, main.secret]]),
      },
      async () => {
        await makeDirectory(path.dirname(recoveryFile));
        await writeFileDurably(recoveryFile, recovery.secret, 'secret');
        hasRecoveryFile = true;
      },
    );
  } catch (error) {
    if (hasRecoveryFile) await rm(recoveryFile, { force: true });
    throw error;
  }
  return await openCollection(directory, options.limits);
}

/** @throws SealiftError `collection-exists`, `destination-exists` */
export async function assertFree(directory: string): Promise<void> {
  if (await exists(path.join(directory, FILES.collection))) {
    throw new SealiftError('collection-exists', 'there is a collection already', {
      subject: inert(directory),
    });
  }
  if ((await exists(directory)) && (await readdir(directory)).length > 0) {
    throw new SealiftError('destination-exists', 'the directory for the collection is not empty', {
      subject: inert(directory),
    });
  }
}

/** What a collection is made of. */
export interface CollectionParts {
  readonly facts: Pick<CollectionState, 'created' | 'id' | 'keys' | 'name'>;
  /** The last version that was given out. */
  readonly counter: number;
  /** By name below metadata/. */
  readonly metadata: ReadonlyMap<string, Uint8Array>;
  /** By fingerprint. */
  readonly certificates: ReadonlyMap<string, Uint8Array>;
  readonly revocations: ReadonlyMap<string, string>;
  /** By name below keys/. */
  readonly secrets: ReadonlyMap<string, string>;
}

/**
 * Writes a collection beside its place and puts it there whole, after `last`. Into a directory that is there already,
 * for its owner, group and mode are somebody's choice, it goes part by part; the last one makes it a collection.
 */
export async function placeCollection(
  directory: string,
  parts: CollectionParts,
  last: () => Promise<void> = async () => {},
): Promise<void> {
  await makeDirectory(path.dirname(directory));
  const isThere = await exists(directory);
  const temporary = temporaryName(isThere ? path.join(directory, 'new') : directory);
  const moved: string[] = [];
  try {
    for (const part of [DIRECTORIES.metadata, DIRECTORIES.certificates])
      await makeDirectory(path.join(temporary, part));
    for (const part of [DIRECTORIES.keys, DIRECTORIES.revocation])
      await makeDirectory(path.join(temporary, part), 'state');
    for (const [name, bytes] of parts.metadata)
      await writeFileDurably(path.join(temporary, DIRECTORIES.metadata, name), bytes);
    for (const [fingerprint, bytes] of parts.certificates)
      await writeFileDurably(path.join(temporary, DIRECTORIES.certificates, `${fingerprint}.pgp`), bytes);
    for (const [fingerprint, text] of parts.revocations) {
      const file = path.join(temporary, DIRECTORIES.revocation, `${fingerprint}.asc`);
      await writeFileDurably(file, text, 'state');
    }
    for (const [name, secret] of parts.secrets)
      await writeFileDurably(path.join(temporary, DIRECTORIES.keys, name), secret, 'state');
    await writeFileDurably(path.join(temporary, FILES.counter), `${parts.counter}\n`);
    const { created, ...facts } = parts.facts;
    await writeFileDurably(
      path.join(temporary, FILES.collection),
      canonicalJson({ ...facts, created: formatDate(created), formatVersion: FORMAT_VERSION }),
    );
    await last();
    if (isThere) {
      for (const name of await readdir(temporary)) {
        if (name === FILES.collection) continue;
        moved.push(path.join(directory, name));
        await rename(path.join(temporary, name), path.join(directory, name));
      }
      await fsyncDirectory(directory);
      await rename(path.join(temporary, FILES.collection), path.join(directory, FILES.collection));
      await rmdir(temporary);
      await fsyncDirectory(directory);
    } else {
      await rename(temporary, directory);
      await fsyncDirectory(path.dirname(directory));
    }
  } catch (error) {
    for (const left of [temporary, ...moved]) await rm(left, { recursive: true, force: true });
    throw error;
  }
}

function recoveryUserId(userId: string): string {
  const match = /^(.*?)\s*(<[^<>]+>)$/s.exec(userId);
  return match ? `${match[1]} (recovery) ${match[2]}` : `${userId} (recovery)`;
}

async function firstMetadata(
  main: Signer,
  recovery: Signer,
  created: Date,
  lifetimes: NonNullable<CreateCollectionOptions['lifetimes']>,
): Promise<ReadonlyMap<string, Buffer>> {
  const life = { ...DEFAULT_LIFETIMES, ...lifetimes };
  const version = 1;
  const keyObject = (signer: Signer): Record<string, JsonValue> => ({
    [signer.keyId]: signer.key as unknown as JsonValue,
  });
  const byMain = { keyids: [main.keyId], threshold: 1 };
  const root = await signMetadata(
    {
      ...envelope('root', 1, after(created, life.root)),
      consistent_snapshot: true,
      keys: { ...keyObject(main), ...keyObject(recovery) },
      roles: {
        root: { keyids: [main.keyId, recovery.keyId], threshold: 1 },
        snapshot: byMain,
        targets: byMain,
        timestamp: byMain,
      },
    },
    [main, recovery],
    created,
  );
  const id = rootFingerprint(parseRoot(root, { role: 'root', limits: DEFAULT_LIMITS, strict: true }));
  const delegation = (name: string, paths: readonly string[]): JsonObject => ({
    name,
    ...byMain,
    paths,
    terminating: true,
  });
  const targets = await signMetadata(
    {
      ...envelope('targets', version, after(created, life.targets)),
      delegations: {
        keys: keyObject(main),
        roles: [
          delegation('bundles', [`${BUNDLE_PREFIX}${id}/*.json`]),
          delegation('images', prefixPatterns('', MAX_COMPONENTS)),
        ],
      },
      targets: {},
    },
    [main],
    created,
  );
  const empty = async (lifetime: number): Promise<Buffer> =>
    await signMetadata(
      { ...envelope('targets', version, after(created, lifetime)), targets: {} },
      [main],
      created,
    );
  const bundles = await empty(life.timestamp);
  const images = await empty(life.images);
  const snapshot = await signMetadata(
    {
      ...envelope('snapshot', version, after(created, life.timestamp)),
      meta: {
        'bundles.json': metaOf(version, bundles),
        'images.json': metaOf(version, images),
        'targets.json': metaOf(version, targets),
      } as unknown as JsonObject,
    },
    [main],
    created,
  );
  const timestamp = await signTimestamp(version, after(created, life.timestamp), snapshot, [main], created);
  return new Map([
    ['1.root.json', root],
    [`${version}.targets.json`, targets],
    [`${version}.bundles.json`, bundles],
    [`${version}.images.json`, images],
    [`${version}.snapshot.json`, snapshot],
    ['timestamp.json', timestamp],
  ]);
}
