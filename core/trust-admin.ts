/** Pins, and what a gate, a collection or a bundle says of its roots. */
import { openBundleAt } from './bundle/open.ts';
import type { BundleHead } from './bundle/reader.ts';
import { openBundleStream } from './bundle/reader.ts';
import type { Context } from './context.ts';
import { openEncrypted } from './encryption/open.ts';
import { SealiftError } from './errors.ts';
import { readFileLimited } from './fs/durable.ts';
import { type KeptRoot, type KeptState, openGate } from './gate/gate.ts';
import { claimedCollectionId } from './judge.ts';
import { isDirectoryPath } from './locate.ts';
import type { ExpiringKey, KeySummary, PinResult, TrustStatus } from './results.ts';
import { readCertificate } from './trust/certificates.ts';
import { openCollection, rolesByKey } from './trust/collection.ts';
import { announceExpiring, findExpiring, tellExpiring, withExpiring } from './trust/expiring.ts';
import { parseRoot, parseTargets, type RootMetadata, rootFingerprint } from './trust/metadata.ts';
import { TrustedSet } from './trust/trusted-set.ts';
import type { BundleInput } from './workflow-options.ts';

/** What somebody can read out over the phone. */
export interface RootSummary {
  readonly location: string;
  readonly kind: 'collection' | 'bundle' | 'root';
  readonly collectionId: string;
  /** Empty where only a root file was given. */
  readonly collectionName: string;
  readonly fingerprint: string;
  readonly rootVersion: number;
  readonly expires: string;
  readonly threshold: number;
  readonly keys: readonly KeySummary[];
  /** Of a collection; absent where no key ends soon. */
  readonly expiringKeys?: readonly ExpiringKey[] | undefined;
}

export interface PinOptions {
  readonly gate: string;
  /** Path of a bundle, or of a root file where its keys are native. */
  readonly source: string;
  /** The bundle at `source`, where it is encrypted. */
  readonly encrypted?: Extract<BundleInput, { kind: 'encrypted' }> | undefined;
  /** SHA-256 of the canonical `signed` of a root, 64 hex digits, from another way than the medium. */
  readonly fingerprint: string;
  /** Names the collection may speak about; empty for all. */
  readonly scopes: readonly string[];
  readonly pid: number;
  readonly actor: string;
}

interface RootMaterial {
  readonly kind: 'bundle' | 'root';
  readonly collectionId: string;
  readonly collectionName: string;
  readonly roots: readonly { readonly version: number; readonly bytes: Uint8Array }[];
  readonly certificates: readonly { readonly fingerprint: string; readonly bytes: Uint8Array }[];
}

/**
 * Pins a root in the gate, making the gate where there is none.
 * @throws SealiftError `pin-mismatch` where no root has that fingerprint; `scope-conflict`; `root-chain-broken`
 */
export async function pinRoot(options: PinOptions, context: Context): Promise<PinResult> {
  const fingerprint = options.fingerprint.replace(/[\s:]/g, '').toLowerCase();
  if (!/^[0-9a-f]{64}$/.test(fingerprint)) {
    throw new SealiftError(
      'invalid-argument',
      `no root fingerprint: got ${options.fingerprint.length} characters, want 64 hex digits`,
      {
        subject: '--fingerprint',
        hint: 'the sender reads it out with: sealift trust root',
      },
    );
  }
  const material = await readMaterial(options.source, context, options.encrypted);
  const { root, certificates } = await findPinned(fingerprint, material, context);
  const gate = await openGate(options.gate, { create: true });
  const lock = await gate.lock(options.pid);
  try {
    const outcome = await gate.pin({
      collectionId: material.collectionId,
      collectionName: material.collectionName,
      root,
      certificates,
      scopes: options.scopes,
      now: context.now,
      entry: ({ state, alreadyPinned }) => ({
        now: context.now,
        actor: options.actor,
        event: alreadyPinned ? 'scopes' : 'pin',
        fields: {
          collection: material.collectionId,
          fingerprint,
          rootVersion: root.version,
          scopes: [...state.pin.scopes],
        },
      }),
    });
    return {
      collectionId: material.collectionId,
      collectionName: material.collectionName,
      fingerprint,
      rootVersion: root.version,
      scopes: outcome.state.pin.scopes,
      gate: gate.directory,
      alreadyPinned: outcome.alreadyPinned,
    };
  } finally {
    await lock.release();
  }
}

/** The root that has the fingerprint, reached from the first root, so that the collection's id is its own. */
async function findPinned(
  fingerprint: string,
  material: RootMaterial,
  context: Context,
): Promise<{ readonly root: KeptRoot; readonly certificates: ReadonlyMap<string, Uint8Array> }> {
  const options = {
    now: context.now,
    limits: context.limits,
    certificates: material.certificates.map(({ bytes }) => bytes),
  };
  const roots = material.roots.map(({ bytes }) => bytes);
  const pinned = await TrustedSet.fromPin(fingerprint, roots, options);
  if (pinned.root.version > 1) {
    const walk = await TrustedSet.fromPin(material.collectionId, roots, options);
    for (const { version, bytes } of material.roots) {
      if (version > 1 && version <= pinned.root.version) await walk.updateRoot(bytes);
    }
  }
  const mine = new Set([...pinned.root.keys.values()].map(({ keyval }) => keyval.public));
  return {
    root: { version: pinned.root.version, fingerprint, bytes: pinned.root.bytes },
    certificates: new Map(
      material.certificates.flatMap((entry) =>
        mine.has(entry.fingerprint) ? [[entry.fingerprint, entry.bytes]] : [],
      ),
    ),
  };
}

async function readMaterial(
  source: string,
  context: Context,
  encrypted?: PinOptions['encrypted'],
): Promise<RootMaterial> {
  const text = await readRootFile(source, context);
  if (text) {
    const root = parseRoot(text, { role: 'root', limits: context.limits, strict: true });
    if (root.version !== 1) {
      throw new SealiftError(
        'root-chain-broken',
        `a root file alone can only be the first: got version ${root.version}`,
        {
          subject: source,
          hint: 'give the bundle instead; it has every root',
        },
      );
    }
    return {
      kind: 'root',
      collectionId: rootFingerprint(root),
      collectionName: '',
      roots: [root],
      certificates: [],
    };
  }
  const bundle = encrypted
    ? await openBundleStream(await openEncrypted(encrypted, context), context)
    : await openBundleAt({ path: source }, context);
  try {
    const { head } = bundle;
    return {
      kind: 'bundle',
      collectionId: claimedCollectionId(head, context),
      collectionName: claimedName(head),
      roots: head.roots,
      certificates: head.certificates,
    };
  } finally {
    await bundle.close();
  }
}

/** The collection's name as the bundle has it: for display, until the bundle is verified. */
function claimedName(head: BundleHead): string {
  const match = /"collection":\{"id":"[0-9a-f]{64}","name":"([A-Za-z0-9._-]{1,100})"\}/.exec(
    Buffer.from(head.manifest).toString('latin1'),
  );
  return match?.[1] ?? '';
}

/** The file where it begins as JSON does; undefined for anything else, which is then read as a bundle. */
async function readRootFile(source: string, context: Context): Promise<Buffer | undefined> {
  if (!source.endsWith('.json')) return undefined;
  const bytes = await readFileLimited(source, context.limits.metadataFile);
  return bytes?.[0] === 0x7b ? bytes : undefined;
}

/**
 * The newest root of a collection, a bundle or a root file. Of a bundle it is a claim: nothing has been verified.
 * @throws SealiftError `collection-not-found`, `bundle-not-found`
 */
export async function readRoot(location: string, context: Context): Promise<RootSummary> {
  if (await isDirectoryPath(location)) {
    const collection = await openCollection(location, context.limits);
    const summary = await collection.summary();
    const role = summary.roles.find((entry) => entry.role === 'root');
    if (!role)
      throw new SealiftError('state-damaged', 'the collection has no root role', { subject: location });
    const found: RootSummary = {
      location,
      kind: 'collection',
      collectionId: summary.id,
      collectionName: summary.name,
      fingerprint: summary.rootFingerprint,
      rootVersion: summary.rootVersion,
      expires: role.expires,
      threshold: role.threshold,
      keys: role.keys,
    };
    return withExpiring(found, await tellExpiring(collection.state, context));
  }
  const material = await readMaterial(location, context);
  const last = material.roots.at(-1);
  if (!last) throw new SealiftError('root-chain-broken', 'there is no root', { subject: location });
  const root = parseRoot(last.bytes, { role: 'root', limits: context.limits, strict: true });
  return {
    location,
    kind: material.kind,
    collectionId: material.collectionId,
    collectionName: material.collectionName,
    fingerprint: rootFingerprint(root),
    rootVersion: root.version,
    expires: `${root.expires.toISOString().slice(0, 19)}Z`,
    threshold: root.roles.root.threshold,
    keys: await rootKeysOf(root, material, context),
  };
}

async function rootKeysOf(
  root: RootMetadata,
  material: RootMaterial,
  context: Context,
): Promise<KeySummary[]> {
  const certificates = new Map(material.certificates.map(({ fingerprint, bytes }) => [fingerprint, bytes]));
  return Promise.all(
    root.roles.root.keyids.map(async (keyId): Promise<KeySummary> => {
      const key = root.keys.get(keyId);
      if (key?.keytype !== 'openpgp') return { keyId, type: key?.keytype ?? 'unknown' };
      const bytes = certificates.get(key.keyval.public);
      const certificate = bytes ? await readCertificate(bytes, context.limits) : undefined;
      return {
        keyId,
        type: key.keytype,
        fingerprint: key.keyval.public,
        userId: certificate?.userId,
        expires: certificate?.expires ? `${certificate.expires.toISOString().slice(0, 19)}Z` : undefined,
      };
    }),
  );
}

/** Everything the gate has pinned. @throws SealiftError `not-pinned` where there is no gate */
export async function trustStatus(
  { gate: directory }: { readonly gate: string },
  context: Context,
): Promise<TrustStatus> {
  const gate = await openGate(directory, { create: false });
  const collections = await gate.collections();
  const expiring = new Map<string, readonly ExpiringKey[]>();
  for (const state of collections) {
    const found = await expiringIn(state, context);
    announceExpiring(found, context, 'sealed');
    if (found.length > 0) expiring.set(state.collectionId, found);
  }
  return {
    gate: gate.directory,
    auditHead: await gate.auditHead(),
    collections: collections.map((state) => ({
      id: state.collectionId,
      name: state.collectionName,
      pin: state.pin.fingerprint,
      pinnedAt: state.pin.pinnedAt,
      scopes: state.pin.scopes,
      rootVersion: state.root.version,
      rootFingerprint: state.root.fingerprint,
      version: state.version,
      expires: state.expires,
      expired:
        state.expires !== undefined && Date.parse(state.expires) <= laterOf(context.now, state.clockFloor),
      clockFloor: state.clockFloor,
      expiringKeys: expiring.get(state.collectionId),
    })),
  };
}

/** Keys of the roles that the gate goes by. */
async function expiringIn(state: KeptState, context: Context): Promise<readonly ExpiringKey[]> {
  const options = (role: string) => ({ role, limits: context.limits, strict: true });
  const root = parseRoot(state.root.bytes, options('root'));
  // Before the first bundle there is a root only.
  if (!state.targets) return await findExpiring(keysOf(root), state.certificates, context);
  const delegated = new Map(
    [...state.delegated].map(([role, bytes]) => [role, parseTargets(bytes, options(role))] as const),
  );
  const targets = parseTargets(state.targets, options('targets'));
  return await findExpiring(rolesByKey({ root, targets, delegated }).values(), state.certificates, context);
}

const keysOf = (root: RootMetadata) =>
  root.roles.root.keyids.flatMap((keyId) => {
    const key = root.keys.get(keyId);
    return key ? [{ key, roles: ['root'] }] : [];
  });

function laterOf(now: Date, floor: string | undefined): number {
  return Math.max(now.getTime(), floor === undefined ? 0 : Date.parse(floor));
}
