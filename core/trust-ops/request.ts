/**
 * Requests: metadata that needs more signatures than one machine holds, in a file that goes from holder to holder.
 * A request carries no trust: what is in it counts only where a threshold of the collection's own keys has signed.
 */
import { createHash } from 'node:crypto';
import path from 'node:path';
import type { Context } from '../context.ts';
import { inert, isSealiftError, SealiftError } from '../errors.ts';
import { checkFormat, type DocumentReader, parseDocument, SHA256_HEX } from '../fs/document.ts';
import { readFileLimited, writeFileDurably } from '../fs/durable.ts';
import { canonicalJson } from '../json/canonical.ts';
import { asArray, asInteger, asObject, asString, type JsonObject, parseJson } from '../json/strict.ts';
import { readCertificate } from '../trust/certificates.ts';
import {
  type Collection,
  type CollectionState,
  keysOfRole,
  leavingKeys,
  metadataOf,
  openCollection,
  requireSigners,
  stateAfter,
} from '../trust/collection.ts';
import { tellExpiringSigners } from '../trust/expiring.ts';
import { FINGERPRINT, KEY_ID, type Purpose, parseTufKey, type TufKey } from '../trust/keys.ts';
import {
  encodeMetadata,
  type Metadata,
  type MetadataType,
  parseRoot,
  parseTargets,
  type RootMetadata,
  signedForm,
  type TargetsMetadata,
} from '../trust/metadata.ts';
import type { Signer } from '../trust/signer.ts';
import type { KeyAccess } from '../workflow-options.ts';
import {
  type KeyFile,
  openKeyFile,
  type StagedRoles,
  stagedRoles,
  type TrustOptions,
  withCollection,
} from './common.ts';
import { retireUnused, revocationsFor } from './retire.ts';
import { countPersons, validSignatures } from './signatures.ts';
import { statementsOf } from './statements.ts';

const FORMAT = 1;
const MAX_REQUEST = 64 * 1024 * 1024;
const FILE_NAME = /^([1-9][0-9]{0,15})\.([a-z0-9][a-z0-9._-]{0,127})\.json$/;
const HINT = 'ask whoever sent it for another copy';

/** Who must sign a file: a threshold of each group. */
export interface Signatories {
  readonly keyids: readonly string[];
  readonly threshold: number;
}

export interface RequestFile {
  /** Below metadata/. */
  readonly name: string;
  readonly role: string;
  readonly signed: JsonObject;
  readonly signatures: ReadonlyMap<string, string>;
  readonly groups: readonly Signatories[];
  /** The content of the role that it was written from; absent for a new role, and in requests of older programs. */
  readonly base?: Base | undefined;
}

interface Base {
  readonly version: number;
  /** Of the canonical `signed`, lower-case hex. */
  readonly sha256: string;
}

export interface SigningRequest {
  readonly collectionId: string;
  readonly collectionName: string;
  readonly created: Date;
  readonly files: readonly RequestFile[];
  /** The keys that the groups name. */
  readonly keys: ReadonlyMap<string, TufKey>;
  /** Certificates of OpenPGP keys among them, by fingerprint. */
  readonly certificates: ReadonlyMap<string, Uint8Array>;
}

/** What is missing of a file, by group. */
export interface MissingSignatures {
  readonly role: string;
  readonly have: number;
  readonly want: number;
  /** Key ids or fingerprints of those who have not signed. */
  readonly by: readonly string[];
}

function encodeRequest(request: SigningRequest): Buffer {
  return canonicalJson({
    formatVersion: FORMAT,
    requires: [],
    collection: { id: request.collectionId, name: request.collectionName },
    created: `${request.created.toISOString().slice(0, 19)}Z`,
    files: request.files.map(({ name, signed, signatures, groups, base }) => ({
      name,
      ...(base ? { base: { ...base } } : {}),
      content: encodeMetadata(signed, signatures).toString('base64'),
      groups: groups.map(({ keyids, threshold }) => ({ keyids: [...keyids], threshold })),
    })),
    keys: Buffer.from(signedForm(Object.fromEntries(request.keys))).toString('base64'),
    certificates: Object.fromEntries(
      [...request.certificates].map(([fingerprint, bytes]) => [
        fingerprint,
        Buffer.from(bytes).toString('base64'),
      ]),
    ),
  });
}

export async function writeRequest(file: string, request: SigningRequest): Promise<void> {
  await writeFileDurably(path.resolve(file), encodeRequest(request));
}

/** @throws SealiftError `invalid-argument` where there is none, `metadata-malformed`, `format-unsupported` */
export async function readRequest(file: string, context: Context): Promise<SigningRequest> {
  const bytes = await readFileLimited(file, MAX_REQUEST);
  if (!bytes) {
    throw new SealiftError('invalid-argument', 'there is no request at that place', { subject: inert(file) });
  }
  try {
    const document = parseDocument(bytes, { file, hint: HINT, maxBytes: MAX_REQUEST });
    checkFormat(document, file, FORMAT, []);
    return parseRequest(document, context);
  } catch (error) {
    if (!isSealiftError(error) || error.code !== 'state-damaged') throw error;
    throw new SealiftError('metadata-malformed', error.message, {
      subject: inert(file),
      hint: HINT,
      cause: error,
    });
  }
}

function parseRequest(document: DocumentReader, context: Context): SigningRequest {
  const code = 'metadata-malformed';
  const { limits } = context;
  const json = (text: string, what: string): JsonObject => {
    const bytes = Buffer.from(text, 'base64');
    if (bytes.toString('base64') !== text) throw document.damaged(`${what} is not base64`);
    // Line ends stand raw in the signed form of PEM keys; a file has them escaped.
    const escaped = Buffer.from(bytes.toString('utf8').replaceAll('\n', '\\n'), 'utf8');
    const options = { what, maxBytes: MAX_REQUEST, maxDepth: limits.jsonDepth };
    return asObject(parseJson(escaped, options), what, code);
  };
  const keyObjects = json(document.string('keys'), 'keys');
  const keys = new Map(
    Object.keys(keyObjects).map((id) => [id, parseTufKey(id, keyObjects[id] ?? null, true)] as const),
  );
  const files = document.objects('files').map((entry): RequestFile => {
    const name = entry.string('name', FILE_NAME);
    const [, version, role = ''] = FILE_NAME.exec(name) ?? [];
    const content = json(entry.string('content'), inert(name));
    const signed = asObject(content['signed'], name, code);
    const type = role === 'root' ? 'root' : 'targets';
    if (signed['_type'] !== type || asInteger(signed['version'], name, code) !== Number(version))
      throw document.damaged('a file has another type or version than its name says');
    const signatures = new Map<string, string>();
    for (const item of asArray(content['signatures'], name, code)) {
      const signature = asObject(item, name, code);
      signatures.set(
        asString(signature['keyid'], 'keyid', code, KEY_ID),
        asString(signature['sig'], 'sig', code),
      );
    }
    const groups = entry
      .objects('groups')
      .map((group) => ({ keyids: group.strings('keyids', KEY_ID), threshold: group.integer('threshold') }));
    const from = entry.optionalObject('base');
    const base = from && { version: from.integer('version'), sha256: from.string('sha256', SHA256_HEX) };
    return { name, role, signed, signatures, groups, base };
  });
  if (files.length === 0) throw document.damaged('there is nothing to sign');
  const certificates = new Map<string, Uint8Array>();
  const given = document.object('certificates');
  for (const fingerprint of given.keys()) {
    if (!FINGERPRINT.test(fingerprint)) throw document.damaged('a certificate has no fingerprint');
    certificates.set(fingerprint, Buffer.from(given.string(fingerprint), 'base64'));
  }
  const collection = document.object('collection');
  return {
    collectionId: collection.string('id', KEY_ID),
    collectionName: inert(collection.string('name')),
    created: new Date(document.string('created')),
    files,
    keys,
    certificates,
  };
}

/** Adds signatures of `signers` wherever they are asked for and have not signed. */
export async function addSignatures(
  request: SigningRequest,
  signers: readonly Signer[],
  created: Date,
): Promise<{ readonly request: SigningRequest; readonly added: readonly string[] }> {
  const added: string[] = [];
  const files: RequestFile[] = [];
  for (const file of request.files) {
    const signatures = new Map(file.signatures);
    for (const signer of signers) {
      const isAsked = file.groups.some(({ keyids }) => keyids.includes(signer.keyId));
      if (!isAsked || signatures.has(signer.keyId)) continue;
      const purpose: Purpose = `tuf-${file.signed['_type'] as MetadataType}`;
      signatures.set(signer.keyId, await signer.sign(signedForm(file.signed), purpose, created));
      added.push(file.role);
    }
    files.push({ ...file, signatures });
  }
  return { request: { ...request, files }, added };
}

const statementOf = ({ signed, signatures }: RequestFile) => ({
  type: signed['_type'] as MetadataType,
  signedBytes: signedForm(signed),
  signatures,
});

/** Each lack once: a root that changes wants a threshold of the old keys and of the new, often the same people. */
export function missingOf(request: SigningRequest): readonly MissingSignatures[] {
  const lacks = request.files.flatMap(({ role, signatures, groups }) =>
    groups.flatMap(({ keyids, threshold }) => {
      const have = keyids.filter((keyId) => signatures.has(keyId)).length;
      if (have >= threshold) return [];
      const by = keyids
        .filter((keyId) => !signatures.has(keyId))
        .map((keyId) => {
          const key = request.keys.get(keyId);
          return key?.keytype === 'openpgp' ? key.keyval.public : keyId;
        });
      return [{ role, have, want: threshold, by }];
    }),
  );
  return [...new Map(lacks.map((lack) => [JSON.stringify(lack), lack])).values()];
}

export function signatureNeeded(missing: readonly MissingSignatures[], file: string): SealiftError {
  const [first] = missing;
  return new SealiftError(
    'signature-needed',
    missing
      .map(
        ({ role, have, want, by }) =>
          `${inert(role)} has ${have} of ${want} signatures, missing ${by.join(' or ')}`,
      )
      .join('; '),
    {
      subject: first && inert(first.role),
      got: first?.have,
      want: first?.want,
      hint: `each holder runs: sealift trust sign ${inert(file)}; then, here: sealift trust publish ${inert(file)}`,
    },
  );
}

// What is being signed, in words

export interface RequestSummary {
  readonly request: string;
  readonly collectionId: string;
  readonly collectionName: string;
  readonly created: string;
  /** True where it could be compared with a copy of the collection; else everything is told. */
  readonly compared: boolean;
  readonly files: readonly {
    readonly role: string;
    readonly version: number;
    readonly expires: string;
    readonly statements: readonly string[];
  }[];
  readonly added: readonly string[];
  readonly missing: readonly MissingSignatures[];
}

export function describeRequest(
  file: string,
  request: SigningRequest,
  added: readonly string[],
  state: CollectionState | undefined,
): RequestSummary {
  const known = state?.id === request.collectionId ? state : undefined;
  return {
    request: file,
    collectionId: request.collectionId,
    collectionName: request.collectionName,
    created: request.created.toISOString(),
    compared: known !== undefined,
    files: request.files.map(({ role, signed }) => ({
      role,
      version: Number(signed['version']),
      expires: inert(String(signed['expires'])),
      statements: statementsOf(role, signed, known && (metadataOf(known, role)?.signed as JsonObject)),
    })),
    added,
    missing: missingOf(request),
  };
}

// Signing and publishing

export interface SignRequestOptions extends KeyAccess {
  readonly request: string;
  /** Secret keys that sign. */
  readonly keys: readonly KeyFile[];
  /** Directory of a copy of the collection to compare with, where there is one; what is in its keys/ signs too. */
  readonly collection?: string | undefined;
  /** Asked before anything is signed; false stops with `cancelled`. */
  readonly confirm?: ((summary: RequestSummary) => Promise<boolean>) | undefined;
}

/**
 * Adds signatures to a request, in place.
 * @throws SealiftError `signature-needed` where no key that is here is asked for; `cancelled`
 */
export async function signRequest(options: SignRequestOptions, context: Context): Promise<RequestSummary> {
  const request = await readRequest(options.request, context);
  const collection = await openCopy(options.collection, context);
  const state = collection?.state;
  const before = describeRequest(options.request, request, [], state);
  if (options.confirm && !(await options.confirm(before)))
    throw new SealiftError('cancelled', 'signing was declined');
  const signers = await Promise.all(options.keys.map((key) => openKeyFile(key, context)));
  if (signers.length === 0 && collection?.id === request.collectionId)
    signers.push(
      ...(await collection.keyring(
        request.files.map(({ role }) => role),
        options,
      )),
    );
  // The file of a secret key may be older than what the collection has of its certificate.
  const known = ({ fingerprint = '', certificate }: Signer) =>
    request.certificates.get(fingerprint) ?? certificate;
  await tellExpiringSigners(
    signers.map((signer) => ({ ...signer, certificate: known(signer) })),
    context,
  );
  const created = new Date(Math.floor(context.now.getTime() / 1000) * 1000);
  const { request: signed, added } = await addSignatures(request, signers, created);
  if (added.length === 0) {
    throw new SealiftError('signature-needed', 'no key that is here is asked for, or it has signed already', {
      subject: inert(options.request),
      hint: `missing: ${
        missingOf(request)
          .flatMap(({ by }) => by)
          .join(', ') || 'nothing'
      }; name a key with --key FILE`,
    });
  }
  const certificates = new Map(signed.certificates);
  for (const { fingerprint, certificate } of signers)
    if (fingerprint !== undefined && certificate && !certificates.has(fingerprint))
      certificates.set(fingerprint, certificate);
  await writeRequest(options.request, { ...signed, certificates });
  return describeRequest(options.request, signed, added, state);
}

async function openCopy(directory: string | undefined, context: Context): Promise<Collection | undefined> {
  if (directory === undefined) return undefined;
  try {
    return await openCollection(directory, context.limits);
  } catch (error) {
    if (isSealiftError(error) && error.code === 'collection-not-found') return undefined;
    throw error;
  }
}

/**
 * Merges signed requests of one content, and stages it where every threshold is met.
 * @throws SealiftError `signature-needed`, `mix-and-match` where they are of different content or of another
 * collection, `rollback` where the collection has moved on since, `fork` where it was changed on two copies,
 * `invalid-argument` where the revocation certificate of a stolen key is not here
 */
export async function publishRequest(
  options: TrustOptions & {
    readonly requests: readonly string[];
    /** The keys that go are in wrong hands: their revocation certificates travel with the next bundle. */
    readonly stolen?: boolean | undefined;
  },
  context: Context,
): Promise<PublishedRequest> {
  return await withCollection(options, context, async (collection, created) => {
    const [first = '', ...others] = options.requests;
    const request = await readRequest(first, context);
    const merged = new Map(request.files.map((file) => [file.name, new Map(file.signatures)]));
    const certificates = new Map(request.certificates);
    for (const other of others) {
      const more = await readRequest(other, context);
      for (const file of more.files) {
        const mine = request.files.find(({ name }) => name === file.name);
        if (!mine || !signedForm(mine.signed).equals(signedForm(file.signed)))
          throw mismatch('the requests are not of the same content', other);
        for (const [keyId, sig] of file.signatures) {
          const all = merged.get(file.name);
          if (!all?.has(keyId)) all?.set(keyId, sig);
        }
      }
      for (const [fingerprint, bytes] of more.certificates)
        if (!certificates.has(fingerprint)) certificates.set(fingerprint, bytes);
    }
    if (request.collectionId !== collection.id)
      throw mismatch('the request is of another collection', request.collectionId);
    const whole: SigningRequest = {
      ...request,
      certificates,
      files: request.files.map((file) => ({ ...file, signatures: merged.get(file.name) ?? new Map() })),
    };
    const how = { name: first, stolen: options.stolen };
    const { staged, revoked } = await stageRequest(collection, whole, created, context, how);
    return {
      ...stagedRoles(
        staged,
        whole.files.map(({ role }) => role),
      ),
      retired: await retireUnused(collection.state, staged.state, options.stolen ? 'revoked' : 'retired'),
      revoked: [...revoked.keys()],
    };
  });
}

/** What a request has staged, and what became of the keys that no role has any more. */
export interface PublishedRequest extends StagedRoles {
  /** Secret keys that sign nothing any more, where they lie now. */
  readonly retired: readonly string[];
  /** Fingerprints of certificates that say now that they are revoked. */
  readonly revoked: readonly string[];
}

const mismatch = (message: string, subject: string) =>
  new SealiftError('mix-and-match', message, { subject: inert(subject) });

/** The rules that count are the collection's, not those the request names. */
function groupsFor(state: CollectionState, request: SigningRequest, file: RequestFile): Signatories[] {
  if (file.role === 'root') {
    const next = (file.signed['roles'] as JsonObject | undefined)?.['root'];
    return [state.root.roles.root, ...(next ? [toGroup(next, file.role)] : [])];
  }
  const root = request.files.find(({ role }) => role === 'root')?.signed['roles'] as JsonObject | undefined;
  if (file.role === 'targets') return [root ? toGroup(root['targets'], file.role) : state.root.roles.targets];
  // Whoever hands the role out has a say, each of them: a namespace that hands out a role of others makes nobody its signer.
  const changed = new Map(request.files.map(({ role, signed }) => [role, signed]));
  const groups: Signatories[] = [];
  for (const delegator of new Set(['targets', ...state.delegated.keys(), ...changed.keys()])) {
    const signed = changed.get(delegator);
    const metadata = delegator === 'targets' ? state.targets : state.delegated.get(delegator);
    const roles = signed
      ? (((signed['delegations'] as JsonObject | undefined)?.['roles'] ??
          []) as unknown as readonly JsonObject[])
      : (metadata?.delegations?.roles ?? []);
    for (const role of roles) if (role.name === file.role) groups.push(toGroup(role, file.role));
  }
  if (groups.length === 0) throw mismatch('the collection has no such role', file.role);
  return groups;
}

/** Keys and threshold as a request has them, which nobody has looked at yet. */
function toGroup(value: unknown, role: string): Signatories {
  const { keyids, threshold } = (value ?? {}) as Partial<Signatories>;
  if (!Array.isArray(keyids) || !Number.isSafeInteger(threshold) || (threshold ?? 0) < 1)
    throw mismatch('the request hands out a role that nobody need sign', role);
  return { keyids, threshold: threshold ?? 1 };
}

/**
 * Known before it is staged, not when the gate refuses it.
 * @throws SealiftError `signature-threshold`
 */
async function requirePersons(request: SigningRequest, file: RequestFile, context: Context): Promise<void> {
  const { keys, certificates } = request;
  for (const { keyids, threshold } of file.groups) {
    const persons = await countPersons(keyids, file.signatures, keys, certificates, context);
    if (persons < threshold) {
      throw new SealiftError(
        'signature-threshold',
        `${inert(file.role)} has signatures of too few people: got ${persons}, want ${threshold}; keys of one person count once`,
        { subject: inert(file.role), got: persons, want: threshold },
      );
    }
  }
}

/**
 * What was signed must follow what the collection has, or the change that came in between would be undone unseen.
 * @throws SealiftError `rollback` where the role has a later version; `fork` where two copies of the collection have
 * changed it
 */
function refuseOvertaken(
  role: string,
  next: Metadata,
  base: Base | undefined,
  current: Metadata | undefined,
): void {
  if (!current) return;
  const hint = 'write the request anew, on a fresh copy of the collection';
  const isOther = !Buffer.from(next.signedBytes).equals(current.signedBytes);
  if (next.version < current.version || (next.version === current.version && !isOther)) {
    throw new SealiftError('rollback', `${inert(role)} has moved on since the request was written`, {
      subject: inert(role),
      got: next.version,
      want: current.version + 1,
      hint,
    });
  }
  const here = baseOf(current);
  if (next.version === current.version || (base && base.sha256 !== here.sha256)) {
    const from = base ? `, from version ${base.version}` : '';
    throw new SealiftError(
      'fork',
      `${inert(role)} was changed on two copies of the collection: the request has version ${next.version}${from}, the collection another version ${here.version}`,
      { subject: inert(role), got: base?.sha256, want: here.sha256, hint },
    );
  }
}

const baseOf = ({ version, signedBytes }: Metadata): Base => ({
  version,
  sha256: createHash('sha256').update(signedBytes).digest('hex'),
});

export async function stageRequest(
  collection: Collection,
  given: SigningRequest,
  created: Date,
  context: Context,
  { name, stolen = false }: { readonly name: string; readonly stolen?: boolean | undefined },
): Promise<{ readonly staged: Collection; readonly revoked: ReadonlyMap<string, Uint8Array> }> {
  const { state } = collection;
  // Whoever wrote the request may bring certificates of new keys, and no others: what is known here stays.
  const fresh = new Map<string, Uint8Array>();
  for (const [fingerprint, bytes] of given.certificates) {
    if (state.certificates.has(fingerprint)) continue;
    const certificate = await readCertificate(bytes, context.limits);
    if (certificate.fingerprint !== fingerprint)
      throw mismatch('a certificate of the request has another fingerprint', fingerprint);
    fresh.set(fingerprint, bytes);
  }
  const next = () => given.files.map((file) => [file.role, parseFile(file, context)] as const);
  const gone = stolen ? leavingKeys(state, stateAfter(state, next())) : [];
  const revoked = await revocationsFor(collection, gone, context);
  const request = { ...given, certificates: new Map([...fresh, ...state.certificates, ...revoked]) };
  const files: (RequestFile & { readonly signedBytes: Uint8Array })[] = [];
  for (const file of request.files) {
    const statement = statementOf(file);
    files.push({
      ...file,
      signedBytes: statement.signedBytes,
      signatures: await validSignatures(statement, request.keys, request.certificates, context),
      groups: groupsFor(state, request, file),
    });
  }
  const checked: SigningRequest = { ...request, files };
  const missing = missingOf(checked);
  if (missing.length > 0) throw signatureNeeded(missing, name);
  for (const file of checked.files) await requirePersons(checked, file, context);
  const version = await collection.reserveVersion();
  const roots: Uint8Array[] = [];
  const roles = new Map<string, TargetsMetadata>();
  for (const file of files) {
    const { role, base } = file;
    const parsed = parseFile(file, context, file.signedBytes);
    refuseOvertaken(role, parsed, base, metadataOf(state, role));
    if (parsed.type === 'root') roots.push(parsed.bytes);
    else roles.set(role, parsed);
  }
  const staged = await collection.stageRoles({
    version,
    created,
    roots,
    roles,
    certificates: new Map([...fresh, ...revoked]),
  });
  return { staged, revoked };
}

function parseFile(
  { role, signed, signatures }: RequestFile,
  { limits }: Context,
  signedBytes?: Uint8Array | undefined,
): RootMetadata | TargetsMetadata {
  const bytes = encodeMetadata(signed, signatures, signedBytes);
  const options = { role, limits, strict: true };
  return role === 'root' ? parseRoot(bytes, options) : parseTargets(bytes, options);
}

/** What an operation has signed so far, with whatever keys were here. */
export interface SignedSoFar {
  readonly version: number;
  readonly created: Date;
  readonly files: readonly { readonly role: string; readonly bytes: Uint8Array }[];
  /** Keys that the collection does not have yet, and their certificates. */
  readonly keys?: ReadonlyMap<string, TufKey> | undefined;
  readonly certificates?: ReadonlyMap<string, Uint8Array> | undefined;
}

/** An operation's result: staged, or waiting in a request file for other people's signatures. */
export interface Pending extends StagedRoles {
  /** Where the request was written; absent where everything is signed and staged. */
  readonly request?: string | undefined;
  readonly missing: readonly MissingSignatures[];
}

/**
 * Stages what was signed, or writes the request where `file` is given. With a file it is always written, because
 * who signs on a copy of the collection must hand over something.
 * @throws SealiftError `signature-needed` where signatures are missing and there is no file to ask for them
 */
export async function finishChange(
  collection: Collection,
  change: SignedSoFar,
  file: string | undefined,
  context: Context,
): Promise<Pending> {
  const { state } = collection;
  const limits = { what: 'metadata', maxBytes: MAX_REQUEST, maxDepth: context.limits.jsonDepth };
  const bare = change.files.map(({ role, bytes }): RequestFile => {
    const parsed = asObject(parseJson(bytes, limits), role, 'metadata-malformed');
    const signed = parsed['signed'] as JsonObject;
    const signatures = new Map(
      (parsed['signatures'] as { keyid: string; sig: string }[]).map(({ keyid, sig }) => [keyid, sig]),
    );
    const before = metadataOf(state, role);
    const base = before && baseOf(before);
    return { name: `${String(signed['version'])}.${role}.json`, role, signed, signatures, groups: [], base };
  });
  const draft: SigningRequest = {
    collectionId: collection.id,
    collectionName: collection.name,
    created: change.created,
    files: bare,
    keys: new Map(),
    certificates: new Map([...state.certificates, ...(change.certificates ?? [])]),
  };
  const files = bare.map((entry) => ({ ...entry, groups: groupsFor(state, draft, entry) }));
  const request: SigningRequest = { ...draft, files, keys: keysFor(state, files, change.keys) };
  const missing = missingOf(request);
  if (file === undefined) {
    const how = { name: 'REQUEST' };
    const { staged } = await stageRequest(collection, request, change.created, context, how);
    return {
      ...stagedRoles(
        staged,
        files.map(({ role }) => role),
      ),
      missing: [],
    };
  }
  await writeRequest(file, request);
  return {
    ...stagedRoles(collection, []),
    roles: files.map(({ role, signed }) => ({
      role,
      version: Number(signed['version']),
      expires: String(signed['expires']),
    })),
    request: file,
    missing,
  };
}

/** The keys that the groups name, from the collection, from the files themselves or from `more`. */
function keysFor(
  state: CollectionState,
  files: readonly RequestFile[],
  more: ReadonlyMap<string, TufKey> = new Map(),
): ReadonlyMap<string, TufKey> {
  const sets: ReadonlyMap<string, TufKey>[] = [state.root.keys, more];
  for (const { delegations } of [state.targets, ...state.delegated.values()])
    if (delegations) sets.push(delegations.keys);
  const keys = new Map<string, TufKey>();
  for (const { groups } of files)
    for (const { keyids } of groups)
      for (const keyId of keyids) {
        const key = sets.map((set) => set.get(keyId)).find((found) => found !== undefined);
        if (key) keys.set(keyId, key);
      }
  return keys;
}

/** Those of `signers` who sign for a role; too few of them are enough where a request is written. */
export function signersHere(
  state: CollectionState,
  role: string,
  signers: readonly Signer[],
  isRequest: boolean,
): readonly Signer[] {
  if (!isRequest) return requireSigners(state, role, signers);
  const keyids = keysOfRole(state, role)?.keyids ?? [];
  return signers.filter(({ keyId }) => keyids.includes(keyId));
}
