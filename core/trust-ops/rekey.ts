/** Who signs what: keys and thresholds of roles, and namespaces handed to others. */
import { createPublicKey, type KeyObject, X509Certificate } from 'node:crypto';
import type { Context } from '../context.ts';
import { inert, SealiftError } from '../errors.ts';
import { readFileLimited } from '../fs/durable.ts';
import type { JsonObject, JsonValue } from '../json/strict.ts';
import type { ExpiringKey } from '../results.ts';
import { readCertificate } from '../trust/certificates.ts';
import {
  type CollectionState,
  DEFAULT_LIFETIMES,
  envelope,
  findSecretFile,
  keysOfRole,
  metadataOf,
  openCollection,
  readHeld,
  signMetadata,
  signTargets,
} from '../trust/collection.ts';
import { tellExpiring, withExpiring } from '../trust/expiring.ts';
import { isGpgReference, readGpgCertificate } from '../trust/gpg.ts';
import { keyIdOf, nativeTufKey, openpgpTufKey, type TufKey } from '../trust/keys.ts';
import {
  type Delegation,
  type Delegations,
  formatDate,
  ROLE_NAME,
  type RoleKeys,
  type TargetsMetadata,
  TOP_LEVEL_ROLES,
} from '../trust/metadata.ts';
import { loadOpenpgp } from '../trust/openpgp-packets.ts';
import { carrierReach, prefixOf } from '../trust/reach.ts';
import { prefixPatterns } from '../trust/search.ts';
import { type Signer, withoutHeaders } from '../trust/signer.ts';
import type { GpgSettings, KeyAccess } from '../workflow-options.ts';
import {
  assertRole,
  editableRoot,
  type KeyFile,
  openKeyFile,
  signRootWith,
  type TrustOptions,
  withCollection,
} from './common.ts';
import { finishChange, type Pending, type SignedSoFar, signersHere } from './request.ts';

/** A public key from a file. */
export interface PublicKey {
  readonly key: TufKey;
  readonly keyId: string;
  readonly fingerprint?: string | undefined;
  readonly certificate?: Uint8Array | undefined;
}

/**
 * Reads an OpenPGP certificate, an X.509 certificate or a public key in PEM; `gpg:FINGERPRINT` asks gpg for one. Of an X.509 certificate only the key
 * counts: who vouches for it is the collection, by delegating to it.
 * @throws SealiftError `invalid-argument`, `weak-algorithm`, `metadata-malformed`
 */
export async function readPublicKey(
  file: string,
  context: Context,
  gpg?: GpgSettings | undefined,
): Promise<PublicKey> {
  if (isGpgReference(file)) {
    const { fingerprint, bytes: certificate } = await readGpgCertificate(file, gpg);
    const key = openpgpTufKey(fingerprint);
    return { key, keyId: keyIdOf(key), fingerprint, certificate };
  }
  const bytes = await readFileLimited(file, context.limits.certificate);
  if (!bytes)
    throw new SealiftError('invalid-argument', 'there is no key at that place', { subject: inert(file) });
  const text = bytes.toString('latin1');
  if (/^-----BEGIN [A-Z ]*PRIVATE KEY/m.test(text)) {
    throw new SealiftError('invalid-argument', 'that is a secret key, want a public one', {
      subject: inert(file),
      hint: 'sealift trust key export writes the public half',
    });
  }
  if (/^-----BEGIN (?:PUBLIC KEY|CERTIFICATE)-----/m.test(text)) {
    try {
      const isCertificate = /^-----BEGIN CERTIFICATE-----/m.test(text);
      const key = nativeTufKey(
        isCertificate ? certifiedKey(text, file, context) : createPublicKey(withoutHeaders(bytes)),
      );
      return { key, keyId: keyIdOf(key) };
    } catch (cause) {
      if (cause instanceof SealiftError) throw cause;
      throw new SealiftError('invalid-argument', 'the public key cannot be read', {
        subject: inert(file),
        cause,
      });
    }
  }
  let binary: Uint8Array = bytes;
  if (text.includes('-----BEGIN PGP')) {
    const { readKey } = await loadOpenpgp();
    try {
      binary = (await readKey({ armoredKey: text })).toPublic().write();
    } catch (cause) {
      throw new SealiftError('invalid-argument', 'the OpenPGP certificate cannot be read', {
        subject: inert(file),
        cause,
      });
    }
  }
  const { fingerprint } = await readCertificate(binary, context.limits);
  const key = openpgpTufKey(fingerprint);
  return { key, keyId: keyIdOf(key), fingerprint, certificate: binary };
}

/**
 * The key of the first certificate. Its dates are looked at once, now: the metadata has no place for them, and who
 * vouches for the key from now on is the collection.
 */
function certifiedKey(pem: string, file: string, context: Context): KeyObject {
  const { publicKey, validFromDate, validToDate } = new X509Certificate(pem);
  if (validToDate <= context.now || validFromDate > context.now) {
    throw new SealiftError('key-expired', 'the X.509 certificate is not valid today', {
      subject: inert(file),
      got: `${formatDate(validFromDate)} to ${formatDate(validToDate)}`,
      hint: `bring a valid one; or take its key alone: openssl x509 -in ${inert(file)} -noout -pubkey`,
    });
  }
  return publicKey;
}

interface ChangeOptions extends TrustOptions {
  /** Public keys that sign from now on. */
  readonly add: readonly string[];
  readonly threshold?: number | undefined;
  /** Further secret keys that sign this change, such as the recovery key. */
  readonly signWith?: readonly KeyFile[] | undefined;
  /** Where it goes for others to sign; staged here unless given. */
  readonly request?: string | undefined;
}

export interface RoleKeysOptions extends ChangeOptions {
  readonly role: string;
  /** Key ids or fingerprints that sign no more. */
  readonly remove: readonly string[];
}

/**
 * Changes keys and threshold of a role.
 * @throws SealiftError `signature-needed`, `invalid-argument`, `name-not-found`
 */
export async function changeRoleKeys(options: RoleKeysOptions, context: Context): Promise<Pending> {
  return await withCollection(options, context, async (collection, created) => {
    const { state } = collection;
    const { role } = options;
    assertRole(state, role);
    const found = keysOfRole(state, role);
    if (!found) throw new SealiftError('internal', 'a role has no keys');
    const added = await Promise.all(options.add.map((file) => readPublicKey(file, context, options.gpg)));
    const gone = options.remove.map((text) => {
      const keyId = found.keyids.find(
        (id) => id === text.toLowerCase() || found.keys.get(id)?.keyval.public === text.toLowerCase(),
      );
      if (keyId === undefined) {
        throw new SealiftError('name-not-found', `that key does not sign ${inert(role)}`, {
          subject: inert(text),
          want: found.keyids.join(', '),
        });
      }
      return keyId;
    });
    const keyids = [
      ...new Set([...found.keyids.filter((id) => !gone.includes(id)), ...added.map(({ keyId }) => keyId)]),
    ];
    const next = checkedKeys(role, { keyids, threshold: options.threshold ?? found.threshold });
    const fresh = new Map(added.map(({ keyId, key }) => [keyId, key]));
    const isRequest = options.request !== undefined;
    const signers = await openSigners(
      collection,
      options,
      [role, found.delegator],
      fresh,
      context,
      new Set(gone),
    );
    const version = await collection.reserveVersion();
    const files: { role: string; bytes: Uint8Array }[] = [];
    if ((TOP_LEVEL_ROLES as readonly string[]).includes(role)) {
      const edit = editableRoot(state);
      const roles = { ...edit.roles, [role]: { ...next, keyids: [...next.keyids] } };
      const keys = new Map([...edit.keys, ...fresh]);
      const able = signers.filter(
        ({ keyId }) => state.root.roles.root.keyids.includes(keyId) || roles.root.keyids.includes(keyId),
      );
      const bytes = await signRootWith(state, { roles, keys }, able, created, DEFAULT_LIFETIMES.root);
      files.push({ role: 'root', bytes });
    } else {
      const delegator = metadataOf(state, found.delegator) as TargetsMetadata;
      const delegations = editDelegations(delegator.delegations, fresh, (roles) =>
        roles.map((entry) => (entry.name === role ? { ...entry, ...next } : entry)),
      );
      files.push(await signed(state, found.delegator, { version, created, delegations }, signers, isRequest));
    }
    // By its own new keys; those that every export signs are signed by the next one.
    if (
      role === 'targets' ||
      (role !== 'bundles' && !(TOP_LEVEL_ROLES as readonly string[]).includes(role))
    ) {
      const metadata = metadataOf(state, role) as TargetsMetadata;
      const able = signers
        .filter(({ keyId }) => next.keyids.includes(keyId))
        .slice(0, isRequest ? undefined : next.threshold);
      files.push({ role, bytes: (await signTargets(metadata, { role, version, created }, able)).bytes });
    }
    return await finishChange(
      collection,
      { version, created, files, keys: fresh, certificates: certificatesOf(added) },
      options.request,
      context,
    );
  });
}

export interface DelegationOptions extends ChangeOptions {
  /** Ends with `/`: `docker.io/acme/`. */
  readonly prefix: string;
  /** Role name; made from the prefix unless given. */
  readonly role?: string | undefined;
}

/**
 * Hands the names below a prefix to other keys. Names that are there already stay what they are: they are written
 * into the new role, which its holders sign.
 * @throws SealiftError `signature-needed` until the holders have signed the role, `invalid-argument`, `name-conflict`
 */
export async function addDelegation(options: DelegationOptions, context: Context): Promise<Pending> {
  return await withCollection(options, context, async (collection, created) => {
    const { state } = collection;
    const { prefix } = options;
    if (!/^[a-z0-9][a-z0-9._:-]*(?:\/[a-z0-9][a-z0-9._-]*)*\/$/.test(prefix)) {
      throw new SealiftError('invalid-argument', 'a namespace is a host and a path that ends in /', {
        subject: inert(prefix),
        hint: 'such as docker.io/acme/ or registry.example/',
      });
    }
    const role = options.role ?? prefix.slice(0, -1).replace(/[^a-z0-9._-]+/g, '-');
    if (!ROLE_NAME.test(role) || (TOP_LEVEL_ROLES as readonly string[]).includes(role))
      throw new SealiftError('invalid-argument', 'that is no name for a role', { subject: inert(role) });
    if (keysOfRole(state, role)) {
      throw new SealiftError('name-conflict', 'there is a role of that name', {
        subject: role,
        hint: 'sealift trust key add changes its keys',
      });
    }
    if (options.add.length === 0) {
      throw new SealiftError('invalid-argument', 'who signs the names below the prefix? --key is missing', {
        subject: '--key',
      });
    }
    // The deepest namespace that holds the prefix hands it on; above it nobody could.
    const probe = `${prefix}a`;
    let delegator = 'targets';
    for (;;) {
      const here = metadataOf(state, delegator) as TargetsMetadata;
      const next = here.delegations?.roles.find((entry) => covers(entry, probe));
      if (!next || next.name === 'images' || !state.delegated.has(next.name)) break;
      delegator = next.name;
    }
    const added = await Promise.all(options.add.map((file) => readPublicKey(file, context, options.gpg)));
    const keyids = [...new Set(added.map(({ keyId }) => keyId))];
    const next = checkedKeys(role, { keyids, threshold: options.threshold ?? 1 });
    const fresh = new Map(added.map(({ keyId, key }) => [keyId, key]));
    const isRequest = options.request !== undefined;
    const signers = await openSigners(collection, options, [delegator], fresh, context);
    const version = await collection.reserveVersion();
    const above = metadataOf(state, delegator) as TargetsMetadata;
    const entry = { name: role, ...next, paths: prefixPatterns(prefix), terminating: true };
    const delegations = editDelegations(above.delegations, fresh, (roles) => {
      const at = roles.findIndex(({ name, paths }) => name === 'images' || isAbove(paths, prefix));
      return at < 0 ? [...roles, entry] : [...roles.slice(0, at), entry, ...roles.slice(at)];
    });
    const files = [await signed(state, delegator, { version, created, delegations }, signers, isRequest)];
    const inherited = namesBelow(state, prefix);
    const first = {
      ...envelope('targets', version, formatDate(new Date(created.getTime() + DEFAULT_LIFETIMES.targets))),
      targets: inherited.targets,
      ...(inherited.withdrawn.length > 0 ? { 'x-withdrawn': inherited.withdrawn } : {}),
    };
    const holders = signers.filter(({ keyId }) => keyids.includes(keyId));
    files.push({ role, bytes: await signMetadata(first, holders, created) });
    return await finishChange(
      collection,
      { version, created, files, keys: fresh, certificates: certificatesOf(added) },
      options.request,
      context,
    );
  });
}

/**
 * Takes a namespace back. Names in it stay what they are: they go back to the role above, which signs them.
 * @throws SealiftError `name-not-found`, `signature-needed`
 */
export async function removeDelegation(
  options: TrustOptions & { readonly role: string; readonly request?: string | undefined },
  context: Context,
): Promise<Pending> {
  return await withCollection(options, context, async (collection, created) => {
    const { state } = collection;
    const { role } = options;
    assertRole(state, role);
    const found = keysOfRole(state, role);
    const metadata = state.delegated.get(role);
    if (!found || !metadata || role === 'images' || role === 'bundles') {
      throw new SealiftError('invalid-argument', 'that role is no namespace', { subject: inert(role) });
    }
    if ((metadata.delegations?.roles.length ?? 0) > 0) {
      throw new SealiftError('name-conflict', 'the namespace hands names on; take those back first', {
        subject: inert(role),
        want: metadata.delegations?.roles.map(({ name }) => name).join(', '),
      });
    }
    const heir = found.delegator === 'targets' ? 'images' : found.delegator;
    const isRequest = options.request !== undefined;
    const signers = await collection.keyring([found.delegator, heir], options);
    const version = await collection.reserveVersion();
    const above = metadataOf(state, found.delegator) as TargetsMetadata;
    const delegations = editDelegations(above.delegations, new Map(), (roles) =>
      roles.filter(({ name }) => name !== role),
    );
    const files: { role: string; bytes: Uint8Array }[] = [];
    if (found.delegator === heir) {
      files.push(await inherit(state, heir, metadata, { version, created, delegations }, signers, isRequest));
    } else {
      files.push(await signed(state, found.delegator, { version, created, delegations }, signers, isRequest));
      files.push(await inherit(state, heir, metadata, { version, created }, signers, isRequest));
    }
    return await finishChange(collection, { version, created, files }, options.request, context);
  });
}

export interface PurgeOptions extends TrustOptions {
  /** Key id or fingerprint. */
  readonly key: string;
  readonly signWith?: readonly KeyFile[] | undefined;
  readonly request?: string | undefined;
}

/**
 * Takes a key out of every namespace that has it, in one change. The keys that are left sign the roles anew.
 * @throws SealiftError `name-not-found`; `invalid-argument` where a namespace would have too few keys left
 */
export async function purgeKey(options: PurgeOptions, context: Context): Promise<Pending> {
  return await withCollection(options, context, async (collection, created) => {
    const { state } = collection;
    const wanted = options.key.toLowerCase();
    const next = new Map<string, RoleKeys>();
    const delegators = new Set<string>();
    const leaving = new Set<string>();
    for (const role of state.delegated.keys()) {
      const found = keysOfRole(state, role);
      if (!found || role === 'bundles') continue;
      const keyids = found.keyids.filter(
        (id) => id !== wanted && found.keys.get(id)?.keyval.public !== wanted,
      );
      if (keyids.length === found.keyids.length) continue;
      if (keyids.length < found.threshold) {
        throw new SealiftError('invalid-argument', `${inert(role)} would have too few keys left`, {
          subject: inert(role),
          got: keyids.length,
          want: found.threshold,
          hint: `give it another first: sealift trust key add --role ${inert(role)} FILE --replace ${inert(options.key)}; or take the namespace back: sealift trust delegation remove ${inert(role)}`,
        });
      }
      next.set(role, { keyids, threshold: found.threshold });
      for (const id of found.keyids) if (!keyids.includes(id)) leaving.add(id);
      delegators.add(found.delegator);
    }
    if (next.size === 0) {
      throw new SealiftError('name-not-found', 'no namespace has that key', {
        subject: inert(options.key),
        hint: 'sealift trust delegation list shows the namespaces and their keys',
      });
    }
    const isRequest = options.request !== undefined;
    const roles = [...new Set([...delegators, ...next.keys()])];
    const signers = await openSigners(collection, options, roles, new Map(), context, leaving);
    const version = await collection.reserveVersion();
    const files: { role: string; bytes: Uint8Array }[] = [];
    for (const role of roles) {
      const metadata = metadataOf(state, role) as TargetsMetadata;
      const delegations = delegators.has(role)
        ? editDelegations(metadata.delegations, new Map(), (entries) =>
            entries.map((entry) => ({ ...entry, ...next.get(entry.name) })),
          )
        : undefined;
      const { keyids = [], threshold = 1 } = next.get(role) ?? keysOfRole(state, role) ?? {};
      const able = signers.filter(({ keyId }) => keyids.includes(keyId));
      const mine = isRequest ? able : able.slice(0, threshold);
      const change = { role, version, created, delegations };
      files.push({ role, bytes: (await signTargets(metadata, change, mine)).bytes });
    }
    return await finishChange(collection, { version, created, files }, options.request, context);
  });
}

export interface DelegationListing {
  readonly collection: string;
  readonly delegations: readonly {
    readonly role: string;
    readonly delegator: string;
    /** The first pattern without its star. */
    readonly prefix: string;
    readonly threshold: number;
    readonly keys: readonly string[];
    readonly images: number;
    /** True where the keys that sign the export could sign these names too, or take them over. */
    readonly carrierCanSign: boolean;
  }[];
  /** Absent where no key ends soon. */
  readonly expiringKeys?: readonly ExpiringKey[] | undefined;
}

/** The namespaces of a collection. @throws SealiftError `collection-not-found` */
export async function listDelegations(
  options: { readonly collection: string },
  context: Context,
): Promise<DelegationListing> {
  const { directory, state } = await openCollection(options.collection, context.limits);
  const expiringKeys = await tellExpiring(state, context);
  const reached = new Set(
    carrierReach(state)
      .namespaces.filter(({ canSign }) => canSign)
      .map(({ role }) => role),
  );
  const delegations: DelegationListing['delegations'][number][] = [];
  for (const [delegator, metadata] of [['targets', state.targets] as const, ...state.delegated]) {
    for (const entry of metadata.delegations?.roles ?? []) {
      if (entry.name === 'bundles') continue;
      delegations.push({
        role: entry.name,
        delegator,
        prefix: prefixOf(entry),
        threshold: entry.threshold,
        keys: entry.keyids.map((id) => {
          const key = metadata.delegations?.keys.get(id);
          return key?.keytype === 'openpgp' ? key.keyval.public : id;
        }),
        images: state.delegated.get(entry.name)?.targets.size ?? 0,
        carrierCanSign: reached.has(entry.name),
      });
    }
  }
  return withExpiring({ collection: directory, delegations }, expiringKeys);
}

// Parts

const certificatesOf = (keys: readonly PublicKey[]): Map<string, Uint8Array> =>
  new Map(
    keys.flatMap(({ fingerprint, certificate }) =>
      fingerprint !== undefined && certificate ? [[fingerprint, certificate] as const] : [],
    ),
  );

function checkedKeys(role: string, next: RoleKeys): RoleKeys {
  if (!Number.isSafeInteger(next.threshold) || next.threshold < 1 || next.threshold > next.keyids.length) {
    throw new SealiftError(
      'invalid-argument',
      `${inert(role)} cannot want ${next.threshold} of ${next.keyids.length} keys`,
      { subject: inert(role), got: next.threshold, want: `1 to ${next.keyids.length}` },
    );
  }
  return next;
}

async function openSigners(
  collection: Parameters<typeof finishChange>[0],
  options: Pick<ChangeOptions, 'signWith' | keyof KeyAccess>,
  roles: readonly string[],
  fresh: ReadonlyMap<string, TufKey>,
  context: Context,
  leaving: ReadonlySet<string> = new Set(),
): Promise<readonly Signer[]> {
  const given: Signer[] = [];
  for (const key of options.signWith ?? []) given.push(await openKeyFile(key, context));
  const opened = await collection.keyring(roles, options, leaving);
  // New keys whose secret half lies here already.
  for (const key of fresh.values()) {
    const keyId = keyIdOf(key);
    if ([...given, ...opened].some((signer) => signer.keyId === keyId)) continue;
    const file = await findSecretFile(collection.directory, key);
    const bytes = file === undefined ? undefined : await readFileLimited(file, context.limits.certificate);
    if (file === undefined || !bytes) continue;
    given.push(await openKeyFile({ ...options, file: readHeld(file, bytes) ?? file }, context));
  }
  return [...opened.filter(({ keyId }) => !given.some((key) => key.keyId === keyId)), ...given];
}

async function signed(
  state: CollectionState,
  role: string,
  change: Pick<SignedSoFar, 'version' | 'created'> & { readonly delegations?: JsonObject | undefined },
  signers: readonly Signer[],
  isRequest: boolean,
): Promise<{ role: string; bytes: Uint8Array }> {
  const metadata = metadataOf(state, role) as TargetsMetadata;
  const mine = signersHere(state, role, signers, isRequest);
  return { role, bytes: (await signTargets(metadata, { role, ...change }, mine)).bytes };
}

async function inherit(
  state: CollectionState,
  heir: string,
  from: TargetsMetadata,
  change: Pick<SignedSoFar, 'version' | 'created'> & { readonly delegations?: JsonObject | undefined },
  signers: readonly Signer[],
  isRequest: boolean,
): Promise<{ role: string; bytes: Uint8Array }> {
  const metadata = metadataOf(state, heir) as TargetsMetadata;
  const mine = signersHere(state, heir, signers, isRequest);
  const bytes = await signTargets(metadata, { role: heir, ...change, inherit: from }, mine);
  return { role: heir, bytes: bytes.bytes };
}

function editDelegations(
  delegations: Delegations | undefined,
  fresh: ReadonlyMap<string, TufKey>,
  edit: (roles: readonly Delegation[]) => readonly Delegation[],
): JsonObject {
  const roles = edit(delegations?.roles ?? []).map(({ name, keyids, threshold, paths, terminating }) => ({
    name,
    keyids: [...keyids],
    threshold,
    paths: [...paths],
    terminating,
  }));
  const used = new Set(roles.flatMap(({ keyids }) => keyids));
  const keys: Record<string, JsonValue> = {};
  for (const [id, key] of [...(delegations?.keys ?? []), ...fresh])
    if (used.has(id)) keys[id] = key as unknown as JsonValue;
  return { keys, roles };
}

const covers = (entry: Delegation, name: string): boolean => {
  const prefix = (entry.paths[0] ?? '').replace(/\*.*$/, '');
  return (
    prefix !== '_bundle/' && name.startsWith(prefix) && entry.paths.some((pattern) => pattern.includes('*'))
  );
};

/** A wider namespace must stand behind a narrower one, or it would take its names. */
const isAbove = (paths: readonly string[], prefix: string): boolean => {
  const other = (paths[0] ?? '').replace(/\*.*$/, '');
  return other !== '' && !paths[0]?.startsWith('_bundle/') && prefix.startsWith(other);
};

/** Names and tombstones that somebody else ruled so far. */
function namesBelow(
  state: CollectionState,
  prefix: string,
): { readonly targets: JsonObject; readonly withdrawn: JsonValue[] } {
  const targets: Record<string, JsonValue> = {};
  const withdrawn = new Map<string, JsonValue>();
  for (const metadata of state.delegated.values()) {
    const known = metadata.signed['targets'] as JsonObject;
    for (const name of Object.keys(known))
      if (name.startsWith(prefix) && targets[name] === undefined) targets[name] = known[name] ?? null;
    for (const entry of metadata.withdrawn)
      if (entry.name.startsWith(prefix)) withdrawn.set(entry.name, { ...entry });
  }
  const names = [...withdrawn.keys()].filter((name) => targets[name] === undefined).sort();
  return { targets, withdrawn: names.map((name) => withdrawn.get(name) ?? null) };
}
