/**
 * Strict, typed TUF metadata (docs/tuf-profile.md; specification section 4). Reads bytes and keeps them: what is
 * signed is never what was understood, but what stands there.
 */
import { createHash } from 'node:crypto';
import { canonicalize } from '@tufjs/canonical-json';
import { inert, SealiftError } from '../errors.ts';
import {
  asArray,
  asBoolean,
  asInteger,
  asObject,
  asString,
  asStrings,
  assertOnlyKeys,
  type JsonObject,
  type JsonValue,
  parseJson,
} from '../json/strict.ts';
import type { Limits } from '../limits.ts';
import { KEY_ID, parseTufKey, type TufKey } from './keys.ts';

export type MetadataType = 'root' | 'timestamp' | 'snapshot' | 'targets';
export const TOP_LEVEL_ROLES = ['root', 'timestamp', 'snapshot', 'targets'] as const;
export const MEDIA_TYPE_FIELD = 'mediaType';
/** Target paths below this are bundle manifests, never images. */
export const BUNDLE_PREFIX = '_bundle/';

export interface ParseOptions {
  /** Role name, for messages and for the rules of the top-level `targets`. */
  readonly role: string;
  readonly limits: Limits;
  /** The profile of collections; false reads any TUF repository. */
  readonly strict: boolean;
}

export interface Metadata {
  readonly type: MetadataType;
  /** The file as it was read. */
  readonly bytes: Uint8Array;
  /** Canonical form of `signed`: what is signed, and what is hashed for pins. */
  readonly signedBytes: Uint8Array;
  readonly signed: JsonObject;
  /** sig by key id. */
  readonly signatures: ReadonlyMap<string, string>;
  readonly version: number;
  readonly expires: Date;
}

export interface RoleKeys {
  readonly keyids: readonly string[];
  readonly threshold: number;
}

export interface RootMetadata extends Metadata {
  readonly type: 'root';
  readonly consistentSnapshot: boolean;
  readonly keys: ReadonlyMap<string, TufKey>;
  readonly roles: Readonly<Record<MetadataType, RoleKeys>>;
}

/** What timestamp and snapshot say of a file. */
export interface MetaEntry {
  readonly version: number;
  readonly length?: number | undefined;
  /** Lower-case hex by algorithm. */
  readonly hashes: ReadonlyMap<string, string>;
}

export interface TimestampMetadata extends Metadata {
  readonly type: 'timestamp';
  readonly snapshot: MetaEntry;
  /** `x-created`; always there in the strict profile. */
  readonly created?: Date | undefined;
}

export interface SnapshotMetadata extends Metadata {
  readonly type: 'snapshot';
  /** By role name, without `.json`. */
  readonly meta: ReadonlyMap<string, MetaEntry>;
}

export interface Target {
  readonly length: number;
  readonly hashes: ReadonlyMap<string, string>;
  readonly custom?: JsonObject | undefined;
}

export interface Tombstone {
  readonly name: string;
  readonly digest: string;
  readonly reason: string;
  readonly at: string;
}

export interface Delegation extends RoleKeys {
  readonly name: string;
  readonly terminating: boolean;
  readonly paths: readonly string[];
  /** Only outside the strict profile. */
  readonly pathHashPrefixes?: readonly string[] | undefined;
}

/** Hash bins (TAP 15); only outside the strict profile. */
export interface SuccinctRoles extends RoleKeys {
  readonly namePrefix: string;
  readonly bitLength: number;
}

export interface Delegations {
  readonly keys: ReadonlyMap<string, TufKey>;
  readonly roles: readonly Delegation[];
  readonly succinct?: SuccinctRoles | undefined;
}

export interface TargetsMetadata extends Metadata {
  readonly type: 'targets';
  readonly targets: ReadonlyMap<string, Target>;
  readonly delegations?: Delegations | undefined;
  readonly withdrawn: readonly Tombstone[];
}

const CODE = 'metadata-malformed';
const HEX = /^(?:[0-9a-f]{2})+$/;
const SHA256 = /^[0-9a-f]{64}$/;
const SHA512 = /^[0-9a-f]{128}$/;
export const ROLE_NAME = /^[a-z0-9][a-z0-9._-]{0,127}$/;
const DIGEST = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;
const SPEC_VERSION = /^1\.[0-9]+(?:\.[0-9]+)?$/;
const DATE = /^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$/;
/** Outside the profile a role's name may be nearly anything; it never becomes a path here. */
const MAX_NAME = 1024;

function malformed(role: string, message: string): SealiftError {
  return new SealiftError(CODE, message, { subject: inert(role) });
}

/** `YYYY-MM-DDTHH:MM:SSZ`, the one form of dates in metadata. */
export function formatDate(date: Date): string {
  return `${date.toISOString().slice(0, 19)}Z`;
}

/** @throws SealiftError `metadata-malformed` for any other form, or a day that does not exist */
export function parseDate(value: JsonValue | undefined, path: string): Date {
  const text = asString(value, path, CODE, DATE);
  const date = new Date(text);
  if (Number.isNaN(date.getTime()) || formatDate(date) !== text) {
    throw new SealiftError(CODE, `${path}: got ${inert(text)}, want a date`);
  }
  return date;
}

/** What is signed: the canonical form (OLPC), in which strings stand as they are, line ends of PEM keys included. */
export function signedForm(signed: unknown): Buffer {
  return Buffer.from(canonicalText(signed), 'utf8');
}

/**
 * What stands in a file: the canonical form, in which the one control character there may be, the line end in a
 * PEM key, is written as JSON demands. Strings are the only place where it can stand.
 */
export function fileForm(value: unknown): Buffer {
  return Buffer.from(escapeLineEnds(canonicalText(value)), 'utf8');
}

const escapeLineEnds = (text: string): string => text.replaceAll('\n', '\\n');

/**
 * A metadata file from its parts.
 * @param signedBytes the signed form of `signed`, where it has been made already
 */
export function encodeMetadata(
  signed: unknown,
  signatures: ReadonlyMap<string, string>,
  signedBytes: Uint8Array = signedForm(signed),
): Buffer {
  const list = [...signatures].map(([keyid, sig]) => ({ keyid, sig }));
  list.sort((a, b) => (a.keyid < b.keyid ? -1 : 1));
  const text = `{"signatures":${canonicalText(list)},"signed":${Buffer.from(signedBytes).toString('utf8')}}`;
  return Buffer.from(escapeLineEnds(text), 'utf8');
}

function canonicalText(value: unknown): string {
  try {
    return canonicalize(value) as string;
  } catch (cause) {
    throw new SealiftError('json-invalid', 'value has no canonical form', { cause });
  }
}

/** Line ends that stand in public keys, where alone they may. */
function countKeyLineEnds(signed: JsonObject): number {
  let count = 0;
  const delegations = signed['delegations'];
  for (const holder of [signed, delegations]) {
    if (!isObject(holder)) continue;
    const keys = holder['keys'];
    if (!isObject(keys)) continue;
    for (const id of Object.keys(keys)) {
      const key = keys[id];
      const keyval = isObject(key) ? key['keyval'] : undefined;
      const text = isObject(keyval) ? keyval['public'] : undefined;
      if (typeof text === 'string') count += text.split('\n').length - 1;
    }
  }
  return count;
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parseEnvelope(bytes: Uint8Array, type: MetadataType, options: ParseOptions): Metadata {
  const { role, limits, strict } = options;
  const value = parseJson(bytes, {
    what: `${role} metadata`,
    maxBytes: limits.metadataFile,
    maxDepth: limits.jsonDepth,
    plainIntegers: true,
  });
  const file = asObject(value, role, CODE);
  const signed = asObject(file['signed'], `${role}.signed`, CODE);
  const signedText = canonicalText(signed);
  if (strict) {
    assertOnlyKeys(file, ['signatures', 'signed'], role, CODE);
    // The signed part is by far the largest, and wanted by itself below.
    const text = `{"signatures":${canonicalText(file['signatures'] ?? null)},"signed":${signedText}}`;
    if (
      /[\u0000-\u0009\u000b-\u001f\u007f]/.test(text) ||
      text.split('\n').length - 1 !== countKeyLineEnds(signed)
    ) {
      throw new SealiftError('json-invalid', 'a string has a control character', { subject: inert(role) });
    }
    if (/\p{Cs}/u.test(text))
      throw new SealiftError('json-invalid', 'a string has a lone surrogate', { subject: inert(role) });
    if (!Buffer.from(escapeLineEnds(text), 'utf8').equals(bytes)) {
      throw malformed(role, 'metadata file is not in canonical form');
    }
  }
  const signatures = new Map<string, string>();
  const list = asArray(file['signatures'], `${role}.signatures`, CODE);
  for (const [i, item] of list.entries()) {
    const path = `${role}.signatures[${i}]`;
    const entry = asObject(item, path, CODE);
    if (strict) assertOnlyKeys(entry, ['keyid', 'sig'], path, CODE);
    const keyid = asString(entry['keyid'], `${path}.keyid`, CODE, strict ? KEY_ID : undefined);
    if (signatures.has(keyid)) throw malformed(role, `two signatures have the key id ${inert(keyid)}`);
    signatures.set(keyid, asString(entry['sig'], `${path}.sig`, CODE));
  }
  if (strict && list.length === 0) throw malformed(role, 'metadata has no signature');
  const typeField = asString(signed['_type'], `${role}._type`, CODE);
  if (typeField !== type) throw malformed(role, `metadata is of type ${inert(typeField)}, want ${type}`);
  asString(signed['spec_version'], `${role}.spec_version`, CODE, SPEC_VERSION);
  return {
    type,
    bytes,
    signedBytes: Buffer.from(signedText, 'utf8'),
    signed,
    signatures,
    version: asInteger(signed['version'], `${role}.version`, CODE, { min: 1 }),
    expires: parseDate(signed['expires'], `${role}.expires`),
  };
}

function parseKeys(value: JsonValue | undefined, path: string, strict: boolean): ReadonlyMap<string, TufKey> {
  const object = asObject(value, path, CODE);
  return new Map(Object.keys(object).map((id) => [id, parseTufKey(id, object[id] ?? null, strict)] as const));
}

function parseRoleKeys(
  object: JsonObject,
  path: string,
  keys: ReadonlyMap<string, TufKey>,
  strict: boolean,
): RoleKeys {
  const keyids = asStrings(object['keyids'], `${path}.keyids`, CODE);
  const threshold = asInteger(object['threshold'], `${path}.threshold`, CODE, { min: 1 });
  if (new Set(keyids).size !== keyids.length) throw malformed(path, 'a role lists a key id twice');
  if (strict) {
    const missing = keyids.find((id) => !keys.has(id));
    if (missing !== undefined)
      throw malformed(path, `a role lists the key id ${inert(missing)}, which is no key`);
    if (threshold > keyids.length) {
      throw malformed(path, `a role has a threshold of ${threshold} and ${keyids.length} keys`);
    }
  }
  return { keyids, threshold };
}

/** @throws SealiftError `metadata-malformed`, `weak-algorithm`, `json-*` */
export function parseRoot(bytes: Uint8Array, options: ParseOptions): RootMetadata {
  const { strict } = options;
  const envelope = parseEnvelope(bytes, 'root', options);
  const { signed } = envelope;
  const keys = parseKeys(signed['keys'], 'root.keys', strict);
  const roles = asObject(signed['roles'], 'root.roles', CODE);
  if (strict) assertOnlyKeys(roles, TOP_LEVEL_ROLES, 'root.roles', CODE);
  const roleOf = (name: MetadataType): RoleKeys => {
    const path = `root.roles.${name}`;
    return parseRoleKeys(asObject(roles[name], path, CODE), path, keys, strict);
  };
  const consistent = signed['consistent_snapshot'];
  const consistentSnapshot =
    consistent === undefined ? false : asBoolean(consistent, 'root.consistent_snapshot', CODE);
  if (strict && !consistentSnapshot) throw malformed('root', 'consistent_snapshot is not true');
  return {
    ...envelope,
    type: 'root',
    consistentSnapshot,
    keys,
    roles: {
      root: roleOf('root'),
      timestamp: roleOf('timestamp'),
      snapshot: roleOf('snapshot'),
      targets: roleOf('targets'),
    },
  };
}

function parseHashes(
  value: JsonValue | undefined,
  path: string,
  strict: boolean,
): ReadonlyMap<string, string> {
  if (value === undefined && !strict) return new Map();
  const object = asObject(value, path, CODE);
  const names = Object.keys(object);
  if (names.length === 0) throw malformed(path, 'there is no hash');
  if (strict) {
    assertOnlyKeys(object, ['sha256', 'sha512'], path, CODE);
    asString(object['sha256'], `${path}.sha256`, CODE, SHA256);
    if (object['sha512'] !== undefined) asString(object['sha512'], `${path}.sha512`, CODE, SHA512);
  }
  return new Map(names.map((name) => [name, asString(object[name], `${path}.${name}`, CODE, HEX)] as const));
}

function parseMetaEntry(value: JsonValue | undefined, path: string, strict: boolean): MetaEntry {
  const object = asObject(value, path, CODE);
  const length = object['length'];
  return {
    version: asInteger(object['version'], `${path}.version`, CODE, { min: 1 }),
    length:
      length === undefined && !strict ? undefined : asInteger(length, `${path}.length`, CODE, { min: 1 }),
    hashes: parseHashes(object['hashes'], `${path}.hashes`, strict),
  };
}

/** @throws SealiftError `metadata-malformed`, `json-*` */
export function parseTimestamp(bytes: Uint8Array, options: ParseOptions): TimestampMetadata {
  const { strict } = options;
  const envelope = parseEnvelope(bytes, 'timestamp', options);
  const meta = asObject(envelope.signed['meta'], 'timestamp.meta', CODE);
  assertOnlyKeys(meta, ['snapshot.json'], 'timestamp.meta', CODE);
  return {
    ...envelope,
    type: 'timestamp',
    snapshot: parseMetaEntry(meta['snapshot.json'], 'timestamp.meta["snapshot.json"]', strict),
    created: strict ? parseDate(envelope.signed['x-created'], 'timestamp.x-created') : undefined,
  };
}

/** @throws SealiftError `metadata-malformed`, `json-*` */
export function parseSnapshot(bytes: Uint8Array, options: ParseOptions): SnapshotMetadata {
  const { strict } = options;
  const envelope = parseEnvelope(bytes, 'snapshot', options);
  const object = asObject(envelope.signed['meta'], 'snapshot.meta', CODE);
  const meta = new Map<string, MetaEntry>();
  for (const file of Object.keys(object)) {
    const name = file.endsWith('.json') ? file.slice(0, -'.json'.length) : '';
    if (name === '' || (strict && name !== 'targets' && !isDelegatedRoleName(name))) {
      throw malformed('snapshot', `meta names ${inert(file)}, which is no role's file`);
    }
    meta.set(name, parseMetaEntry(object[file], `snapshot.meta["${inert(file)}"]`, strict));
  }
  if (!meta.has('targets')) throw malformed('snapshot', 'meta does not name targets.json');
  return { ...envelope, type: 'snapshot', meta };
}

/** True for the name of a delegated role by the profile. */
export function isDelegatedRoleName(name: string): boolean {
  return ROLE_NAME.test(name) && !(TOP_LEVEL_ROLES as readonly string[]).includes(name);
}

function parseTarget(name: string, value: JsonValue | undefined, path: string, strict: boolean): Target {
  const object = asObject(value, path, CODE);
  const custom =
    object['custom'] === undefined ? undefined : asObject(object['custom'], `${path}.custom`, CODE);
  if (strict && !name.startsWith(BUNDLE_PREFIX)) {
    asString(custom?.[MEDIA_TYPE_FIELD], `${path}.custom.${MEDIA_TYPE_FIELD}`, CODE);
  }
  if (strict && custom?.['require'] !== undefined)
    asStrings(custom['require'], `${path}.custom.require`, CODE);
  const hashes = parseHashes(object['hashes'], `${path}.hashes`, strict);
  if (hashes.size === 0) throw malformed(path, 'there is no hash');
  return { length: asInteger(object['length'], `${path}.length`, CODE), hashes, custom };
}

function parseDelegation(
  value: JsonValue,
  path: string,
  keys: ReadonlyMap<string, TufKey>,
  strict: boolean,
): Delegation {
  const object = asObject(value, path, CODE);
  const name = asString(object['name'], `${path}.name`, CODE);
  if (
    strict
      ? !isDelegatedRoleName(name)
      : name === '' || name.length > MAX_NAME || (TOP_LEVEL_ROLES as readonly string[]).includes(name)
  ) {
    throw malformed(path, `${inert(name)} is no name for a delegated role`);
  }
  const prefixes = object['path_hash_prefixes'];
  const hasPaths = object['paths'] !== undefined;
  if (prefixes !== undefined && (strict || hasPaths))
    throw malformed(path, 'path_hash_prefixes are not taken here');
  if (!hasPaths && prefixes === undefined) throw malformed(path, 'a delegation has no paths');
  const paths = hasPaths ? asStrings(object['paths'], `${path}.paths`, CODE) : [];
  if (
    strict &&
    (paths.length === 0 || paths.some((pattern) => pattern === '' || pattern.length > MAX_NAME))
  ) {
    throw malformed(path, `a path of a delegation is empty or longer than ${MAX_NAME} characters`);
  }
  return {
    name,
    ...parseRoleKeys(object, path, keys, strict),
    terminating: asBoolean(object['terminating'], `${path}.terminating`, CODE),
    paths,
    pathHashPrefixes:
      prefixes === undefined ? undefined : asStrings(prefixes, `${path}.path_hash_prefixes`, CODE),
  };
}

function parseDelegations(value: JsonValue, path: string, strict: boolean): Delegations {
  const object = asObject(value, path, CODE);
  const keys = parseKeys(object['keys'], `${path}.keys`, strict);
  const succinct = object['succinct_roles'];
  if (succinct !== undefined && (strict || object['roles'] !== undefined)) {
    throw malformed(path, 'succinct_roles are not taken here');
  }
  if (succinct !== undefined) {
    const bins = asObject(succinct, `${path}.succinct_roles`, CODE);
    return {
      keys,
      roles: [],
      succinct: {
        ...parseRoleKeys(bins, `${path}.succinct_roles`, keys, strict),
        namePrefix: asString(bins['name_prefix'], `${path}.succinct_roles.name_prefix`, CODE),
        bitLength: asInteger(bins['bit_length'], `${path}.succinct_roles.bit_length`, CODE, {
          min: 1,
          max: 32,
        }),
      },
    };
  }
  const roles = asArray(object['roles'], `${path}.roles`, CODE).map((role, i) =>
    parseDelegation(role, `${path}.roles[${i}]`, keys, strict),
  );
  if (new Set(roles.map(({ name }) => name)).size !== roles.length)
    throw malformed(path, 'a role is delegated to twice');
  return { keys, roles };
}

function parseTombstones(
  value: JsonValue,
  targets: ReadonlyMap<string, Target>,
  role: string,
): readonly Tombstone[] {
  let before: string | undefined;
  return asArray(value, `${role}.x-withdrawn`, CODE).map((item, i) => {
    const path = `${role}.x-withdrawn[${i}]`;
    const object = asObject(item, path, CODE);
    assertOnlyKeys(object, ['at', 'digest', 'name', 'reason'], path, CODE);
    const name = asString(object['name'], `${path}.name`, CODE);
    if (name === '' || (before !== undefined && name <= before))
      throw malformed(role, 'x-withdrawn is not ascending by name');
    before = name;
    if (targets.has(name)) throw malformed(role, `${inert(name)} is both a target and withdrawn`);
    parseDate(object['at'], `${path}.at`);
    return {
      name,
      digest: asString(object['digest'], `${path}.digest`, CODE, DIGEST),
      reason: asString(object['reason'], `${path}.reason`, CODE),
      at: asString(object['at'], `${path}.at`, CODE),
    };
  });
}

/** @throws SealiftError `metadata-malformed`, `weak-algorithm`, `json-*` */
export function parseTargets(bytes: Uint8Array, options: ParseOptions): TargetsMetadata {
  const { role, strict } = options;
  const envelope = parseEnvelope(bytes, 'targets', options);
  const { signed } = envelope;
  const object = asObject(signed['targets'], `${role}.targets`, CODE);
  const targets = new Map<string, Target>();
  for (const name of Object.keys(object)) {
    targets.set(name, parseTarget(name, object[name], `${role}.targets["${inert(name)}"]`, strict));
  }
  const withdrawn = signed['x-withdrawn'];
  const tombstones = strict && withdrawn !== undefined ? parseTombstones(withdrawn, targets, role) : [];
  if (strict && role === 'targets' && (targets.size > 0 || tombstones.length > 0)) {
    throw malformed(role, 'the top-level targets role names images; it only delegates');
  }
  const delegations = signed['delegations'];
  return {
    ...envelope,
    type: 'targets',
    targets,
    delegations:
      delegations === undefined ? undefined : parseDelegations(delegations, `${role}.delegations`, strict),
    withdrawn: tombstones,
  };
}

/** SHA-256 of the canonical `signed` of a root, lower-case hex: its fingerprint, what is pinned. */
export function rootFingerprint(root: RootMetadata): string {
  return createHash('sha256').update(root.signedBytes).digest('hex');
}
