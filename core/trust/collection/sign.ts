/** Signing metadata: envelopes, target roles, timestamps. */
import { createHash } from 'node:crypto';
import type { JsonObject, JsonValue } from '../../json/strict.ts';
import { MAX_NAME_PARTS } from '../../oci/reference.ts';
import type { Purpose } from '../keys.ts';
import {
  encodeMetadata,
  formatDate,
  MEDIA_TYPE_FIELD,
  type MetadataType,
  signedForm,
  type Target,
  type TargetsMetadata,
} from '../metadata.ts';
import type { Signer } from '../signer.ts';
import type { ImageTarget } from './types.ts';

export const DAY_MS = 24 * 60 * 60 * 1000;
export const DEFAULT_LIFETIMES = {
  root: 3 * 365 * DAY_MS,
  targets: 365 * DAY_MS,
  images: 180 * DAY_MS,
  timestamp: 90 * DAY_MS,
} as const;
const SPEC_VERSION = '1.0.34';
export const MAX_COMPONENTS = MAX_NAME_PARTS;
export const seconds = (date: Date): Date => new Date(Math.floor(date.getTime() / 1000) * 1000);
export const after = (date: Date, ms: number): string => formatDate(new Date(date.getTime() + ms));
export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

interface MetaFile {
  readonly version: number;
  readonly length: number;
  readonly hashes: { readonly sha256: string };
}

export function metaOf(version: number, bytes: Uint8Array): MetaFile {
  return { version, length: bytes.length, hashes: { sha256: sha256(bytes) } };
}

/** Signs what stands in `signed` with all of `signers`, whoever they are. */
export async function signMetadata(
  signed: JsonObject & { readonly _type: MetadataType },
  signers: readonly Signer[],
  created: Date,
): Promise<Buffer> {
  const bytes = signedForm(signed);
  const purpose: Purpose = `tuf-${signed._type}`;
  const signatures = new Map<string, string>();
  for (const signer of signers) signatures.set(signer.keyId, await signer.sign(bytes, purpose, created));
  return encodeMetadata(signed, signatures, bytes);
}

/** The fields every metadata file begins with. */
export function envelope<T extends MetadataType>(type: T, version: number, expires: string) {
  return { _type: type, spec_version: SPEC_VERSION, version, expires };
}

function toJsonTarget(image: ImageTarget): JsonObject {
  const hashes: Record<string, string> = { sha256: image.sha256 };
  if (image.sha512 !== undefined) hashes['sha512'] = image.sha512;
  return { custom: { [MEDIA_TYPE_FIELD]: image.mediaType }, hashes, length: image.length };
}

export function toImageTarget(target: Target): ImageTarget {
  const mediaType = target.custom?.[MEDIA_TYPE_FIELD];
  return {
    length: target.length,
    sha256: target.hashes.get('sha256') ?? '',
    sha512: target.hashes.get('sha512'),
    mediaType: typeof mediaType === 'string' ? mediaType : '',
  };
}

export async function signTimestamp(
  version: number,
  expires: string,
  snapshot: Buffer,
  signers: readonly Signer[],
  created: Date,
): Promise<Buffer> {
  return await signMetadata(
    {
      ...envelope('timestamp', version, expires),
      meta: { 'snapshot.json': metaOf(version, snapshot) } as unknown as JsonObject,
      'x-created': formatDate(created),
    },
    signers,
    created,
  );
}

export interface StagedRole {
  readonly version: number;
  readonly bytes: Uint8Array;
  readonly expires: Date;
}

/** How a target role is to change. What stands in it and is not named here stays: delegations, unknown fields. */
export interface TargetsChange {
  readonly role: string;
  readonly version: number;
  readonly created: Date;
  /** Milliseconds; the profile's default of the role unless given. */
  readonly lifetimeMs?: number | undefined;
  /** Names added or moved; a tombstone of such a name goes. */
  readonly images?: ReadonlyMap<string, ImageTarget> | undefined;
  /** Names taken away, with the reason. */
  readonly withdraw?: ReadonlyMap<string, string> | undefined;
  /** Replaces the delegations. */
  readonly delegations?: JsonObject | undefined;
  /** Takes over the names and tombstones of a role that goes: it ruled them, whatever stands here still. */
  readonly inherit?: TargetsMetadata | undefined;
}

/** Signs a target role anew. */
export async function signTargets(
  metadata: TargetsMetadata,
  change: TargetsChange,
  signers: readonly Signer[],
): Promise<StagedRole> {
  const { role, version, created, images, withdraw } = change;
  const targets: Record<string, JsonValue> = Object.create(null) as Record<string, JsonValue>;
  const known = metadata.signed['targets'] as JsonObject;
  for (const name of Object.keys(known)) if (!withdraw?.has(name)) targets[name] = known[name] ?? null;
  const inherited = new Map((change.inherit?.withdrawn ?? []).map((entry) => [entry.name, entry]));
  for (const name of inherited.keys()) delete targets[name];
  const taken = (change.inherit?.signed['targets'] ?? {}) as JsonObject;
  for (const name of Object.keys(taken)) targets[name] = taken[name] ?? null;
  for (const [name, image] of images ?? []) targets[name] = toJsonTarget(image);
  const signed: Record<string, JsonValue> = { ...metadata.signed };
  delete signed['x-withdrawn'];
  if (change.delegations) signed['delegations'] = change.delegations;
  const before = new Map(metadata.withdrawn.map((entry) => [entry.name, entry]));
  const withdrawn = [
    ...[...new Map([...before, ...inherited]).values()].filter(
      ({ name }) => targets[name] === undefined && !withdraw?.has(name),
    ),
    ...[...(withdraw ?? [])].flatMap(([name, reason]) => {
      const target = metadata.targets.get(name);
      if (!target) return [];
      const sha512 = target.hashes.get('sha512');
      const digest =
        sha512 === undefined ? `sha256:${target.hashes.get('sha256') ?? ''}` : `sha512:${sha512}`;
      return [{ name, digest, reason, at: formatDate(created) }];
    }),
  ].sort((a, b) => (a.name < b.name ? -1 : 1));
  if (withdrawn.length > 0) signed['x-withdrawn'] = withdrawn.map((entry) => ({ ...entry }));
  const lifetime =
    change.lifetimeMs ?? (role === 'images' ? DEFAULT_LIFETIMES.images : DEFAULT_LIFETIMES.targets);
  const expires = new Date(created.getTime() + lifetime);
  const bytes = await signMetadata(
    { ...signed, ...envelope('targets', version, formatDate(expires)), targets },
    signers,
    created,
  );
  return { version, bytes, expires };
}
