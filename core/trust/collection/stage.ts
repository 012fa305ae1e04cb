/** Signing what names the images of an export. */
import { inert, SealiftError } from '../../errors.ts';
import type { JsonValue } from '../../json/strict.ts';
import type { CollectionSummary } from '../../results.ts';
import { advance } from '../advance.ts';
import { BUNDLE_PREFIX, formatDate, rootFingerprint, type Target } from '../metadata.ts';
import type { Signer } from '../signer.ts';
import { TrustedSet } from '../trusted-set.ts';
import { requireSigners, signersFor } from './keys.ts';
import {
  DAY_MS,
  envelope,
  MAX_COMPONENTS,
  metaOf,
  type StagedRole,
  seconds,
  sha256,
  signMetadata,
  signTargets,
  signTimestamp,
  toImageTarget,
} from './sign.ts';
import { type CollectionState, damaged, keysOfRole, METADATA, rulerOf } from './state.ts';
import type { FinishedCollection, ImageTarget, StagedCollection, StagedFile, StageOptions } from './types.ts';

const MAX_LIFETIME_MS = 400 * DAY_MS;
const MAX_NAME_LENGTH = 1024;
export async function verifyAsGate(
  files: ReadonlyMap<string, Uint8Array>,
  state: Pick<CollectionState, 'root' | 'certificates' | 'limits'>,
  now: Date,
): Promise<TrustedSet> {
  const set = await TrustedSet.fromPin(rootFingerprint(state.root), [state.root.bytes], {
    now,
    limits: state.limits,
    certificates: [...state.certificates.values()],
  });
  await advance(set, files, async () => {});
  return set;
}

const SHA256_HEX = /^[0-9a-f]{64}$/;
const SHA512_HEX = /^[0-9a-f]{128}$/;

function checkImage(name: string, image: ImageTarget): void {
  const components = name.split('/');
  if (
    name === '' ||
    name.length > MAX_NAME_LENGTH ||
    !/^[\x21-\x7e]+$/.test(name) ||
    name.startsWith(BUNDLE_PREFIX) ||
    components.length > MAX_COMPONENTS ||
    components.includes('')
  ) {
    throw new SealiftError('invalid-argument', `not a name for an image: ${inert(name)}`, {
      subject: inert(name),
    });
  }
  if (
    !SHA256_HEX.test(image.sha256) ||
    (image.sha512 !== undefined && !SHA512_HEX.test(image.sha512)) ||
    !Number.isSafeInteger(image.length) ||
    image.length < 0
  ) {
    throw new SealiftError('internal', 'an image was staged with a malformed digest or length', {
      subject: inert(name),
    });
  }
}

function isSame(image: ImageTarget, target: Target): boolean {
  const known = toImageTarget(target);
  return (
    known.length === image.length &&
    known.sha256 === image.sha256 &&
    known.sha512 === image.sha512 &&
    known.mediaType === image.mediaType
  );
}

export async function stage(
  state: CollectionState,
  options: StageOptions,
  signers: readonly Signer[],
): Promise<StagedCollection> {
  const { version, images } = options;
  const created = seconds(options.created);
  if (options.lifetimeMs > MAX_LIFETIME_MS || options.lifetimeMs <= 0) {
    throw new SealiftError('lifetime-too-long', 'a bundle is valid for 400 days at most', {
      got: Math.round(options.lifetimeMs / DAY_MS),
      want: MAX_LIFETIME_MS / DAY_MS,
      hint: 'give a shorter --expires',
    });
  }
  if (version <= Math.max(state.timestamp.version, state.stagedVersion ?? 0))
    throw new SealiftError('internal', 'a version was staged that was not reserved');
  const until = new Date(created.getTime() + options.lifetimeMs);
  const timestampSigners = requireSigners(state, 'timestamp', signers);
  const snapshotSigners = requireSigners(state, 'snapshot', signers);
  if (!state.delegated.has('bundles'))
    throw damaged('the collection has no role for bundles', state.directory);
  const bundlesSigners = requireSigners(state, 'bundles', signers);
  refuseEarlyEnd('root', state.root.expires, until);
  refuseEarlyEnd('targets', state.targets.expires, until);

  const changes = new Map<string, Map<string, ImageTarget>>();
  for (const [name, image] of images) {
    checkImage(name, image);
    const ruler = rulerOf(state, name);
    if (ruler === undefined)
      throw new SealiftError('invalid-argument', `no role of the collection may name ${inert(name)}`, {
        subject: inert(name),
      });
    const known = state.delegated.get(ruler)?.targets.get(name);
    if (known && isSame(image, known)) continue;
    const group = changes.get(ruler) ?? new Map<string, ImageTarget>();
    changes.set(ruler, group.set(name, image));
  }

  const roles = new Map<string, StagedRole>();
  for (const [role, metadata] of state.delegated) {
    if (role === 'bundles') continue;
    const keys = keysOfRole(state, role);
    const changed = changes.get(role);
    const able = changed ? requireSigners(state, role, signers) : keys && signersFor(keys, signers);
    // Without the second condition a collection at rest could not be exported any more half-way to the role's end.
    const staged =
      able && (changed || metadata.expires < until)
        ? await signTargets(metadata, { role, version, created, images: changed }, able)
        : metadata;
    refuseEarlyEnd(role, staged.expires, until);
    roles.set(role, staged);
  }

  const roleFile = (role: string, roleVersion: number): string => `${METADATA}${roleVersion}.${role}.json`;
  const metadataFiles: StagedFile[] = [
    ...[...state.certificates].map(([fingerprint, bytes]) => ({
      name: `${METADATA}certificates/${fingerprint}.pgp`,
      bytes,
    })),
    ...state.roots.map((root) => ({ name: roleFile('root', root.version), bytes: root.bytes })),
    { name: `${METADATA}timestamp.json`, bytes: undefined },
    { name: roleFile('snapshot', version), bytes: undefined },
    { name: roleFile('targets', state.targets.version), bytes: state.targets.bytes },
    ...[...state.delegated.keys()].map((role) =>
      role === 'bundles'
        ? { name: roleFile(role, version), bytes: undefined }
        : { name: roleFile(role, roles.get(role)?.version ?? 0), bytes: roles.get(role)?.bytes },
    ),
  ];

  const finish = async (bundleManifest: Uint8Array): Promise<FinishedCollection> => {
    const expires = formatDate(until);
    const bundles = await signMetadata(
      {
        ...envelope('targets', version, expires),
        targets: {
          [`${BUNDLE_PREFIX}${state.id}/${version}.json`]: {
            hashes: { sha256: sha256(bundleManifest) },
            length: bundleManifest.length,
          },
        },
      },
      bundlesSigners,
      created,
    );
    const meta: Record<string, JsonValue> = {};
    // 5.5.5: what was listed once stays listed, also a role that nobody delegates to any more.
    for (const [role, entry] of state.snapshot.meta) {
      meta[`${role}.json`] = {
        version: entry.version,
        length: entry.length ?? 0,
        hashes: Object.fromEntries(entry.hashes),
      };
    }
    for (const [role, staged] of roles) meta[`${role}.json`] = { ...metaOf(staged.version, staged.bytes) };
    meta['targets.json'] = { ...metaOf(state.targets.version, state.targets.bytes) };
    meta['bundles.json'] = { ...metaOf(version, bundles) };
    const snapshot = await signMetadata(
      { ...envelope('snapshot', version, expires), meta },
      snapshotSigners,
      created,
    );
    const timestamp = await signTimestamp(version, expires, snapshot, timestampSigners, created);
    const late = new Map<string, Uint8Array>([
      [`${METADATA}timestamp.json`, timestamp],
      [roleFile('snapshot', version), snapshot],
      [roleFile('bundles', version), bundles],
    ]);
    const files = metadataFiles.map(({ name, bytes }) => {
      const content = bytes ?? late.get(name);
      if (!content)
        throw new SealiftError('internal', 'a metadata file was staged without content', { subject: name });
      return { name, bytes: content };
    });
    // What a gate would refuse must not leave this side.
    const set = await verifyAsGate(
      new Map(files.map(({ name, bytes }) => [name.slice(METADATA.length), bytes] as const)),
      state,
      created,
    );
    const summary: CollectionSummary = {
      id: state.id,
      name: inert(state.name),
      version,
      created: formatDate(created),
      expires: formatDate(set.effectiveExpiry()),
      rootFingerprint: rootFingerprint(state.root),
      rootVersion: state.root.version,
      roles: set.roleSummaries(),
    };
    return { files, summary };
  };
  return { version, metadataFiles, finish };
}

function refuseEarlyEnd(role: string, expires: Date, until: Date): void {
  if (expires >= until) return;
  throw new SealiftError(
    'metadata-expired',
    `${inert(role)} would end before the bundle: got ${formatDate(expires)}, want ${formatDate(until)} at least`,
    {
      subject: inert(role),
      got: formatDate(expires),
      want: formatDate(until),
      hint: `sign it anew: sealift trust renew --role ${inert(role)}; or give a shorter --expires`,
    },
  );
}
