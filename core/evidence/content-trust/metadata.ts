/**
 * The metadata of Docker Content Trust (notary, an early dialect of TUF), read as far as it has to be to fetch all of
 * it and to tell what it claims. No signature is looked at here.
 */
import { inert, SealiftError } from '../../errors.ts';
import { asArray, asInteger, asObject, asString, type JsonObject, parseJson } from '../../json/strict.ts';
import type { Limits } from '../../limits.ts';

/** Bytes and hash of another file, as a snapshot or a timestamp names it. */
export interface FileMeta {
  readonly length: number;
  /** Lower-case hex. */
  readonly sha256: string;
}

/** A tag and what it is said to be. */
export interface SignedTag {
  readonly tag: string;
  /** Lower-case hex; absent where there is none of this algorithm. */
  readonly sha256: string | undefined;
}

const CODE = 'source-protocol';
/** As notary has it (tuf/data, "delegation names"). */
const DELEGATION = /^targets(?:\/[-a-z0-9_]+)+$/;
const MAX_ROLE_LENGTH = 255;
const MAX_DEPTH = 32;

/** Whether this is the name of a delegated role such as `targets/releases`. */
export function isDelegation(role: string): boolean {
  return role.length <= MAX_ROLE_LENGTH && DELEGATION.test(role);
}

/**
 * The `signed` part of a file.
 * @param type the `_type` it must have
 * @throws SealiftError `json-*`, `source-protocol`
 */
export function readSigned(bytes: Uint8Array, type: string, what: string, limits: Limits): JsonObject {
  const document = asObject(
    parseJson(bytes, { what, maxBytes: bytes.length, maxDepth: Math.min(MAX_DEPTH, limits.jsonDepth) }),
    what,
    CODE,
  );
  const signed = asObject(document['signed'], 'signed', CODE);
  if (asString(signed['_type'], 'signed._type', CODE) !== type) {
    throw new SealiftError(CODE, `metadata of another type, want ${type}`, { subject: what, want: type });
  }
  return signed;
}

/** @throws SealiftError `source-protocol` */
export function versionOf(signed: JsonObject): number {
  return asInteger(signed['version'], 'signed.version', CODE);
}

/** The files a timestamp or a snapshot names, by role. @throws SealiftError `source-protocol` */
export function filesNamed(signed: JsonObject): ReadonlyMap<string, FileMeta> {
  const meta = asObject(signed['meta'], 'signed.meta', CODE);
  return new Map(
    Object.entries(meta).map(([role, value]) => {
      const path = `signed.meta.${role}`;
      const file = asObject(value, path, CODE);
      const sha256 = hashOf(file, path);
      if (sha256 === undefined) throw new SealiftError(CODE, `${inert(path)} has no hash of sha256`);
      return [role, { length: asInteger(file['length'], `${path}.length`, CODE), sha256 }];
    }),
  );
}

function hashOf(file: JsonObject, path: string): string | undefined {
  const hashes = asObject(file['hashes'], `${path}.hashes`, CODE);
  if (hashes['sha256'] === undefined) return undefined;
  const text = asString(hashes['sha256'], `${path}.hashes.sha256`, CODE);
  const bytes = Buffer.from(text, 'base64');
  // 32 bytes have one spelling; Buffer takes others too.
  if (bytes.length !== 32 || bytes.toString('base64') !== text)
    throw new SealiftError(CODE, `${inert(path)}.hashes.sha256 is no hash of sha256 as base64`);
  return bytes.toString('hex');
}

/** The tags of targets or of a delegated role. @throws SealiftError `source-protocol` */
export function tagsIn(signed: JsonObject): readonly SignedTag[] {
  const targets = asObject(signed['targets'] ?? {}, 'signed.targets', CODE);
  return Object.entries(targets).map(([tag, value]) => {
    const path = `signed.targets.${tag}`;
    return { tag, sha256: hashOf(asObject(value, path, CODE), path) };
  });
}

/** The roles that targets or a delegated role delegates to. @throws SealiftError `source-protocol` */
export function delegationsOf(signed: JsonObject, parent: string): readonly string[] {
  const delegations = asObject(signed['delegations'] ?? {}, 'signed.delegations', CODE);
  return asArray(delegations['roles'] ?? [], 'signed.delegations.roles', CODE).map((value, index) => {
    const path = `signed.delegations.roles[${index}]`;
    const role = asString(asObject(value, path, CODE)['name'], `${path}.name`, CODE);
    const isChild = role.slice(0, role.lastIndexOf('/')) === parent;
    if (!isDelegation(role) || !isChild)
      throw new SealiftError(CODE, `${inert(path)}.name is not the name of a role below ${parent}`);
    return role;
  });
}

/** @throws SealiftError `source-protocol` */
export function expiryOf(signed: JsonObject): Date {
  const text = asString(signed['expires'], 'signed.expires', CODE);
  const time = /^\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)$/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(time)) throw new SealiftError(CODE, 'signed.expires is no time');
  return new Date(time);
}
