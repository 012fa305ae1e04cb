/** Rotation: a new key in the place of an old one, whether that is retired, lost or stolen. */
import path from 'node:path';
import type { Context } from '../context.ts';
import { inert, SealiftError } from '../errors.ts';
import { writeFileDurably } from '../fs/durable.ts';
import type { JsonObject, JsonValue } from '../json/strict.ts';
import {
  type Collection,
  type CollectionState,
  DEFAULT_LIFETIMES,
  findSecretFile,
  keysOfRole,
  makeKey,
  metadataOf,
  requireSigners,
  signTargets,
  takeGpgKey,
} from '../trust/collection.ts';
import { keyIdOf, type TufKey } from '../trust/keys.ts';
import {
  type Delegations,
  encodeMetadata,
  type TargetsMetadata,
  TOP_LEVEL_ROLES,
} from '../trust/metadata.ts';
import type { Signer } from '../trust/signer.ts';
import type { PassphraseProvider } from '../workflow-options.ts';
import {
  assertRole,
  BY_EXPORT,
  editableRoot,
  type KeyFile,
  openKeyFile,
  signRoot,
  signRootWith,
  stagedRoles,
  type TrustOptions,
  withCollection,
} from './common.ts';
import { finishChange, type Pending } from './request.ts';
import { retireUnused, revocationsFor } from './retire.ts';

export interface RotateOptions extends TrustOptions {
  /** Roles that get the new key; empty for all. */
  readonly roles: readonly string[];
  /** The key that goes, by key id or OpenPGP fingerprint; needed where a role has several that may be meant. */
  readonly replace?: string | undefined;
  /** The key's own passphrase. */
  readonly newPassphrase: PassphraseProvider;
  /** A key that gpg holds, `gpg:FINGERPRINT`, instead of one that is made. */
  readonly newSigner?: string | undefined;
  /** Signs the new root where the collection's key is lost, or not to be used any more. */
  readonly recoveryKey?: KeyFile | undefined;
  /** The old key is in wrong hands: its revocation certificate, where there is one, travels with the next bundle. */
  readonly stolen: boolean;
  /** Where it goes for others to sign; staged here unless given. Old keys stay in use until it is published. */
  readonly request?: string | undefined;
  /** User id of a new OpenPGP key; the collection's name unless given. */
  readonly userId?: string | undefined;
  /** For tests; 3072 unless given. */
  readonly rsaBits?: number | undefined;
}

export interface RotateResult extends Pending {
  readonly newKey: {
    readonly keyId: string;
    readonly type: string;
    readonly fingerprint?: string | undefined;
  };
  readonly replaced: readonly { readonly role: string; readonly keyId: string }[];
  /** Secret keys that sign nothing any more, where they lie now. */
  readonly retired: readonly string[];
  /** Fingerprints of certificates that say now that they are revoked. */
  readonly revoked: readonly string[];
  /** The recovery key signed the root. */
  readonly byRecoveryKey: boolean;
}

const HINT =
  'the same command with --request FILE writes what the others are to sign; a key that is lost is replaced with --recovery-key FILE';

/**
 * Replaces keys: the new root is signed by a threshold of the old keys and one of the new, so that every gate
 * follows. New timestamp keys make gates forget the versions the old ones signed. With `request` the signatures that
 * can be made here go into a file, and others add theirs.
 * @throws SealiftError `signature-needed`, before a key is made, `passphrase-needed`, `name-not-found`,
 * `invalid-argument`
 */
export async function rotateKeys(options: RotateOptions, context: Context): Promise<RotateResult> {
  return await withCollection(options, context, async (collection, created) => {
    const { state } = collection;
    for (const role of options.roles) assertRole(state, role);
    const all = [...TOP_LEVEL_ROLES, ...state.delegated.keys()];
    const recovery = options.recoveryKey && (await openKeyFile(options.recoveryKey, context));
    if (recovery && !state.root.roles.root.keyids.includes(recovery.keyId)) {
      throw new SealiftError('invalid-argument', 'that key signs no root of this collection', {
        subject: inert(options.recoveryKey?.file ?? ''),
        got: recovery.fingerprint ?? recovery.keyId,
      });
    }
    const roles = options.roles.length > 0 ? [...new Set(options.roles)] : all;
    const replaced = new Map<string, string>();
    for (const role of roles) {
      const keyId = await keyToReplace(state, role, options, recovery);
      if (keyId !== undefined) replaced.set(role, keyId);
    }
    if (replaced.size === 0) {
      throw new SealiftError('name-not-found', 'no role has the key that is to be replaced', {
        subject: inert(options.replace ?? ''),
        hint: 'sealift inspect COLLECTION shows which key signs which role',
      });
    }
    // Everything that cannot be done without somebody else must be known before a key is made.
    const delegators = new Set(
      [...replaced.keys()].map((role) => keysOfRole(state, role)?.delegator ?? 'root'),
    );
    const changesRoot = delegators.delete('root');
    const resigned = new Set([...delegators, ...replaced.keys()]);
    for (const role of [...resigned]) if (BY_EXPORT.has(role) || role === 'root') resigned.delete(role);
    const byOthers = [...resigned].filter((role) => !replaced.has(role) || thresholdOf(state, role) > 1);
    const isRecovered = recovery !== undefined && thresholdOf(state, 'root') === 1;
    const rootKeys = changesRoot && !isRecovered ? ['root'] : [];
    const opened = await collection.keyring([...rootKeys, ...byOthers], options, new Set(replaced.values()));
    const known = recovery ? [recovery, ...opened] : [...opened];
    const leaving = [...replaced].flatMap(([role, keyId]) => keysOfRole(state, role)?.keys.get(keyId) ?? []);
    // A revoked certificate takes back the signatures of today as well.
    const isWorthless = ({ keyId, key }: Signer): boolean =>
      options.stolen && key.keytype === 'openpgp' && leaving.some((gone) => keyIdOf(gone) === keyId);
    const rootSigners = known.filter((signer) => !isWorthless(signer));
    if (options.request === undefined) {
      if (changesRoot) {
        requireSigners(state, 'root', rootSigners, HINT);
        requireRest(state, 'root', replaced, rootSigners);
      }
      for (const role of resigned) requireRest(state, role, replaced, known);
    }
    const revoked = options.stolen ? await revocationsFor(collection, leaving, context) : new Map();

    const made = await makeNewKey(collection, options, created);
    const fresh = made.signer;
    const signers = [fresh, ...known];
    const version = await collection.reserveVersion();
    const roots: Uint8Array[] = recovery ? await countersign(state, recovery, created) : [];
    const files: { role: string; bytes: Uint8Array }[] = [];
    if (changesRoot) {
      const edit = editableRoot(state);
      for (const role of TOP_LEVEL_ROLES) {
        const old = replaced.get(role);
        if (old !== undefined) edit.roles[role].keyids = exchange(edit.roles[role].keyids, old, fresh.keyId);
      }
      const keys = new Map([...edit.keys, [fresh.keyId, fresh.key]]);
      const asked = new Set([...state.root.roles.root.keyids, ...edit.roles.root.keyids]);
      const able = [fresh, ...rootSigners].filter(({ keyId }) => asked.has(keyId));
      const sign = options.request === undefined ? signRoot : signRootWith;
      const bytes = await sign(state, { ...edit, keys }, able, created, DEFAULT_LIFETIMES.root);
      files.push({ role: 'root', bytes });
    }
    for (const role of resigned) {
      const metadata = metadataOf(state, role) as TargetsMetadata;
      const found = keysOfRole(state, role);
      const keyids = exchange(found?.keyids ?? [], replaced.get(role), fresh.keyId);
      const able = signers.filter(({ keyId }) => keyids.includes(keyId));
      const mine = options.request === undefined ? able.slice(0, found?.threshold) : able;
      const delegations = metadata.delegations && exchangeDelegations(metadata.delegations, replaced, fresh);
      const change = { role, version, created, delegations };
      files.push({ role, bytes: (await signTargets(metadata, change, mine)).bytes });
    }
    await writeFileDurably(path.join(collection.directory, 'keys', made.fileName), made.secret, 'state');
    const writeRevocation = async (): Promise<void> => {
      if (made.revocation === undefined) return;
      const file = path.join(collection.directory, 'revocation', `${fresh.fingerprint}.asc`);
      await writeFileDurably(file, made.revocation, 'state');
    };
    const certificates = new Map<string, Uint8Array>();
    if (fresh.fingerprint !== undefined && fresh.certificate !== undefined) {
      certificates.set(fresh.fingerprint, fresh.certificate);
    }
    const facts = {
      newKey: { keyId: fresh.keyId, type: fresh.key.keytype, fingerprint: fresh.fingerprint },
      replaced: [...replaced].map(([role, keyId]) => ({ role, keyId })),
      byRecoveryKey: recovery !== undefined,
    };
    if (options.request !== undefined) {
      await writeRevocation();
      // Further signatures on roots that everybody has: they need nobody else, and the revocation needs them first.
      if (roots.length > 0) await collection.stageRoles({ version, created, roots });
      const keys = new Map([[fresh.keyId, fresh.key]]);
      const change = { version, created, files, keys, certificates };
      const pending = await finishChange(collection, change, options.request, context);
      return { ...pending, ...facts, retired: [], revoked: [] };
    }
    for (const [fingerprint, bytes] of revoked) certificates.set(fingerprint, bytes);
    const targets = new Map<string, Uint8Array>();
    for (const { role, bytes } of files)
      if (role === 'root') roots.push(bytes);
      else targets.set(role, bytes);
    const staged = await collection.stageRoles({ version, created, roots, roles: targets, certificates });
    await writeRevocation();
    return {
      ...stagedRoles(staged, [...replaced.keys(), ...resigned]),
      ...facts,
      missing: [],
      retired: await retireUnused(state, staged.state, options.stolen ? 'revoked' : 'retired'),
      revoked: [...revoked.keys()],
    };
  });
}

/**
 * Earlier roots with the recovery key's signature added where it was not needed then: a sealed side that slept must
 * still follow them when the key that signed them has been revoked since.
 */
async function countersign(state: CollectionState, recovery: Signer, created: Date): Promise<Uint8Array[]> {
  const roots: Uint8Array[] = [];
  for (const { roles, signatures, signed, signedBytes } of state.roots) {
    if (!roles.root.keyids.includes(recovery.keyId) || signatures.has(recovery.keyId)) continue;
    const sig = await recovery.sign(signedBytes, 'tuf-root', created);
    roots.push(encodeMetadata(signed, new Map([...signatures, [recovery.keyId, sig]])));
  }
  return roots;
}

const thresholdOf = (state: CollectionState, role: string): number => keysOfRole(state, role)?.threshold ?? 1;

const exchange = (keyids: readonly string[], old: string | undefined, fresh: string): string[] =>
  keyids.map((keyId) => (keyId === old ? fresh : keyId));

async function makeNewKey(collection: Collection, options: RotateOptions, created: Date) {
  if (options.newSigner !== undefined) return await takeGpgKey(options.newSigner, options);
  const passphrase = await options.newPassphrase(`the new key of the collection ${collection.name}`);
  if (passphrase === undefined) {
    throw new SealiftError('passphrase-needed', 'the new key needs a passphrase', {
      hint: 'run it on a terminal, or give --passphrase-file FILE',
    });
  }
  const userId = options.userId ?? collection.name;
  return await makeKey({ keys: collection.keys, rsaBits: options.rsaBits }, passphrase, userId, created);
}

/** The key of a role that goes; undefined where the one that was named is none of its keys. */
async function keyToReplace(
  state: CollectionState,
  role: string,
  options: RotateOptions,
  recovery: Signer | undefined,
): Promise<string | undefined> {
  const found = keysOfRole(state, role);
  if (!found) return undefined;
  const named = options.replace?.toLowerCase();
  if (named !== undefined) {
    return found.keyids.find((keyId) => keyId === named || found.keys.get(keyId)?.keyval.public === named);
  }
  const candidates = found.keyids.filter((keyId) => keyId !== recovery?.keyId);
  if (candidates.length === 1) return candidates[0];
  const here: string[] = [];
  for (const keyId of candidates) {
    const key = found.keys.get(keyId);
    if (key && (await findSecretFile(state.directory, key)) !== undefined) here.push(keyId);
  }
  if (here.length === 1) return here[0];
  if (here.length === 0) {
    throw new SealiftError('signature-needed', `no key that signs ${inert(role)} is here`, {
      subject: inert(role),
      want: candidates.join(', '),
      hint: 'put the key file back below keys/; a lost key is replaced with --recovery-key FILE',
    });
  }
  throw new SealiftError('invalid-argument', `${inert(role)} has several keys; which one is to go?`, {
    subject: inert(role),
    want: candidates.join(', '),
    hint: 'name it with --replace KEY',
  });
}

/**
 * Whoever signs a role beside the new key must be here.
 * @throws SealiftError `signature-needed`, naming the keys that are not
 */
function requireRest(
  state: CollectionState,
  role: string,
  replaced: ReadonlyMap<string, string>,
  known: readonly Signer[],
): void {
  const old = replaced.get(role);
  const found = keysOfRole(state, role);
  if (old === undefined || !found) {
    requireSigners(state, role, known, HINT);
    return;
  }
  const staying = found.keyids.filter((keyId) => keyId !== old);
  const absent = staying.filter((keyId) => !known.some((signer) => signer.keyId === keyId));
  const have = staying.length - absent.length + 1;
  if (have >= found.threshold) return;
  const names = absent.map((keyId) => {
    const key = found.keys.get(keyId);
    return key?.keytype === 'openpgp' ? key.keyval.public : keyId;
  });
  throw new SealiftError(
    'signature-needed',
    `${inert(role)} needs ${found.threshold} signatures, got ${have} with that of the new key; not here: ${names.join(', ')}`,
    {
      subject: inert(role),
      got: have,
      want: found.threshold,
      hint: HINT,
    },
  );
}

function exchangeDelegations(
  delegations: Delegations,
  replaced: ReadonlyMap<string, string>,
  fresh: Signer,
): JsonObject {
  const roles = delegations.roles.map(({ name, keyids, threshold, paths, terminating }) => {
    const old = replaced.get(name);
    return {
      name,
      keyids: old === undefined ? [...keyids] : exchange(keyids, old, fresh.keyId),
      threshold,
      paths: [...paths],
      terminating,
    };
  });
  const used = new Set(roles.flatMap(({ keyids }) => keyids));
  const keys: Record<string, JsonValue> = {};
  const known: ReadonlyMap<string, TufKey> = new Map([...delegations.keys, [fresh.keyId, fresh.key]]);
  for (const [id, key] of known) if (used.has(id)) keys[id] = key as unknown as JsonValue;
  return { keys, roles };
}
