/**
 * The gate: the sealed side's trust state, a directory, format 1 (docs/state.md). It keeps raw bytes and says
 * nothing about what they mean; core/trust judges them.
 *
 * Everything that writes wants the gate's lock to be held by this object.
 */
import { createHash } from 'node:crypto';
import { readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { inert, SealiftError } from '../errors.ts';
import {
  checkFormat,
  type DocumentReader,
  damagedDocument,
  formatTimestamp,
  parseDocument,
  SHA256_HEX,
  TIMESTAMP,
} from '../fs/document.ts';
import { makeDirectory, readFileLimited, sweepTemporary, writeFileDurably } from '../fs/durable.ts';
import { acquireLock, type Lock } from '../fs/lock.ts';
import { canonicalJson } from '../json/canonical.ts';
import type { JsonObject } from '../json/strict.ts';
import { type AuditInput, type AuditVerification, openAuditLog } from './audit.ts';
import { assertNotEverybodys, explainDenied } from './ownership.ts';
import { normaliseScopes, scopesOverlap } from './scopes.ts';
import { GATE_SETTINGS } from './settings.ts';

export type { AuditEntry, AuditEvent, AuditInput, AuditVerification } from './audit.ts';
export { nameInScope } from './scopes.ts';

export const GATE_FORMAT = 1;
/** Required features this sealift knows. */
const KNOWN_FEATURES: readonly string[] = [];
/** Of gate.json; settings are read by whoever judges (settings.ts). */
const GATE_FEATURES: readonly string[] = GATE_SETTINGS;

/** What an operator vouched for. */
export interface Pin {
  /** SHA-256 of the canonical `signed` of the pinned root version, lower-case hex. */
  readonly fingerprint: string;
  readonly rootVersion: number;
  /** `YYYY-MM-DDTHH:MM:SSZ` */
  readonly pinnedAt: string;
  /** Names this collection may speak about; never empty: `*` stands for all. */
  readonly scopes: readonly string[];
}

export interface KeptRoot {
  readonly version: number;
  /** SHA-256 of the canonical `signed`, lower-case hex. */
  readonly fingerprint: string;
  readonly bytes: Uint8Array;
}

/** All the gate knows about one collection: the pin and the whole last metadata, byte for byte. */
export interface KeptState {
  readonly collectionId: string;
  /** For display only. */
  readonly collectionName: string;
  readonly pin: Pin;
  readonly root: KeptRoot;
  /** The roots before it, ascending from the pinned one, where each was trusted here; for those who follow. */
  readonly earlierRoots: ReadonlyMap<number, Uint8Array>;
  readonly timestamp?: Uint8Array | undefined;
  readonly snapshot?: Uint8Array | undefined;
  readonly targets?: Uint8Array | undefined;
  /** Delegated target roles by name. */
  readonly delegated: ReadonlyMap<string, Uint8Array>;
  /** Certificates by primary fingerprint, 40 lower-case hex digits. */
  readonly certificates: ReadonlyMap<string, Uint8Array>;
  /** `x-created` of the last accepted timestamp. */
  readonly clockFloor?: string | undefined;
  /** Version of the last accepted bundle. */
  readonly version?: number | undefined;
  /** Effective expiry of the last accepted bundle. */
  readonly expires?: string | undefined;
}

/** A step forward. What is left out stays as it is, null forgets; maps replace the whole set. */
export interface KeptChange {
  readonly collectionName?: string | undefined;
  readonly root?: KeptRoot | undefined;
  readonly earlierRoots?: ReadonlyMap<number, Uint8Array> | undefined;
  readonly timestamp?: Uint8Array | null | undefined;
  readonly snapshot?: Uint8Array | null | undefined;
  readonly targets?: Uint8Array | null | undefined;
  readonly delegated?: ReadonlyMap<string, Uint8Array> | undefined;
  readonly certificates?: ReadonlyMap<string, Uint8Array> | undefined;
  readonly clockFloor?: string | null | undefined;
  readonly version?: number | null | undefined;
  readonly expires?: string | null | undefined;
}

export interface PinRequest {
  readonly collectionId: string;
  readonly collectionName: string;
  /** The root that has the pinned fingerprint; the caller has checked that it has. */
  readonly root: KeptRoot;
  readonly certificates: ReadonlyMap<string, Uint8Array>;
  /** Empty: everything, or what it was where the collection is pinned already. */
  readonly scopes: readonly string[];
  readonly now: Date;
  /** The entry for the audit log where something changes; it is durable before the change is. */
  readonly entry?: ((outcome: PinOutcome) => AuditInput) | undefined;
}

export interface PinOutcome {
  readonly state: KeptState;
  /** The collection was pinned before; its pin and kept metadata stay. */
  readonly alreadyPinned: boolean;
  /** True where it was pinned before and has other scopes now. */
  readonly scopesChanged: boolean;
}

export interface Gate {
  readonly directory: string;
  /** @throws SealiftError `destination-locked` */
  lock(pid: number): Promise<Lock>;
  /** Every pinned collection, by id. */
  collections(): Promise<readonly KeptState[]>;
  /** Another text after every change of what is kept. */
  revision(): Promise<string>;
  /** @throws SealiftError `state-damaged`, `format-unsupported` */
  kept(collectionId: string): Promise<KeptState | undefined>;
  /**
   * Pins a root. A collection that is pinned already, by that root or one it has led to, keeps its pin and what was learnt since;
   * only its scopes may change.
   * @throws SealiftError `scope-conflict`; `invalid-argument` for a malformed scope; `pin-mismatch` where the
   * collection is pinned, and not by that root
   */
  pin(request: PinRequest): Promise<PinOutcome>;
  /**
   * Keeps a verified step, durably: after a crash at any point the old state is there, or the new.
   * @throws SealiftError `not-pinned`
   */
  save(collectionId: string, change: KeptChange): Promise<KeptState>;
  /** Appends an entry; resolves to the new head of the log when it is durable. */
  audit(entry: AuditInput): Promise<string>;
  /** SHA-256 of the last line of the audit log, 64 zeros where it is empty. */
  auditHead(): Promise<string>;
  /**
   * Walks the whole audit log. Lines cut off its end leave a whole chain: give `knownHead`, a head that was printed or
   * written down elsewhere, and it is looked for.
   */
  verifyAudit(options?: { readonly knownHead?: string | undefined }): Promise<AuditVerification>;
}

export interface GateOptions {
  /** Makes the gate where there is none. */
  readonly create: boolean;
}

const FINGERPRINT = /^[0-9a-f]{40}$/;
const ROOT_VERSION = /^[1-9][0-9]{0,15}$/;
const ROLE = /^[a-z0-9][a-z0-9._-]{0,127}$/;
const MAX_STATE = 16 * 1024 * 1024;
const MAX_KEPT = 16 * 1024 * 1024;
const NEW_GATE_HINT =
  'restore the gate from a backup; or move it away and pin each collection again, which gives up protection against replays of old bundles';

/** How state.json names a kept file: the name in `kept/` is the hash. */
interface FileEntry {
  readonly sha256: string;
  readonly size: number;
}

/** state.json without the bytes. */
interface StateDocument {
  readonly collectionId: string;
  readonly collectionName: string;
  readonly pin: Pin;
  readonly root: FileEntry & { readonly version: number; readonly fingerprint: string };
  readonly earlierRoots: ReadonlyMap<string, FileEntry>;
  readonly timestamp?: FileEntry | undefined;
  readonly snapshot?: FileEntry | undefined;
  readonly targets?: FileEntry | undefined;
  readonly delegated: ReadonlyMap<string, FileEntry>;
  readonly certificates: ReadonlyMap<string, FileEntry>;
  readonly clockFloor?: string | undefined;
  readonly version?: number | undefined;
  readonly expires?: string | undefined;
}

/**
 * Opens the gate at `directory`. Reading it writes nothing.
 * @throws SealiftError `not-pinned` where there is no gate and none is to be made; `invalid-argument` where the
 * directory holds something else; `gate-unsafe` where everybody may write to it; `format-unsupported`; `state-damaged`
 */
export async function openGate(directory: string, options: GateOptions): Promise<Gate> {
  const gateFile = path.join(directory, 'gate.json');
  const collectionsDirectory = path.join(directory, 'collections');
  await assertNotEverybodys(directory);
  const bytes = await readFileLimited(gateFile, MAX_STATE).catch((error: unknown) => {
    throw explainDenied(error, directory);
  });
  if (bytes) {
    const document = parseDocument(bytes, { file: gateFile, hint: NEW_GATE_HINT, maxBytes: MAX_STATE });
    checkFormat(document, gateFile, GATE_FORMAT, GATE_FEATURES);
  } else {
    const found = (await listDirectory(directory)).filter(
      (name) => !name.startsWith('.') && name !== 'lost+found',
    );
    if (found.includes('collections') || found.includes('audit.log')) {
      throw damagedDocument(
        { file: gateFile, hint: NEW_GATE_HINT },
        'it is not there, but the rest of a gate is',
      );
    }
    if (!options.create) {
      throw new SealiftError('not-pinned', 'there is no gate here, so no collection is trusted', {
        subject: directory,
        hint: 'pin a collection: sealift trust pin BUNDLE --fingerprint SHA256',
      });
    }
    if (found.length > 0) {
      throw new SealiftError(
        'invalid-argument',
        'directory is not empty and no gate, want a gate or an empty directory',
        {
          subject: directory,
        },
      );
    }
    await makeDirectory(directory, 'state');
    await writeFileDurably(
      gateFile,
      canonicalJson({ formatVersion: GATE_FORMAT, requires: KNOWN_FEATURES }),
      'state',
    );
  }

  const log = openAuditLog(path.join(directory, 'audit.log'));
  let locks = 0;
  /** What was written last, while the lock is held: nobody else writes, so that it need not be read again. */
  let settled:
    | { readonly bytes: Buffer; readonly state: KeptState; readonly named: ReadonlySet<string> }
    | undefined;
  let last: Promise<unknown> = Promise.resolve();

  /** One writer at a time within this process; the lock keeps other processes out. */
  function write<T>(work: () => Promise<T>): Promise<T> {
    if (locks === 0)
      return Promise.reject(new SealiftError('internal', 'the gate is written to without its lock'));
    const result = last.then(work);
    last = result.catch(() => undefined);
    return result;
  }

  function placeOf(collectionId: string): { home: string; stateFile: string; kept: string } {
    if (!SHA256_HEX.test(collectionId)) {
      throw new SealiftError('internal', `not a collection id: ${inert(collectionId)}`);
    }
    const home = path.join(collectionsDirectory, collectionId);
    return { home, stateFile: path.join(home, 'state.json'), kept: path.join(home, 'kept') };
  }

  async function readState(
    collectionId: string,
  ): Promise<{ document: StateDocument; bytes: Buffer } | undefined> {
    const { stateFile } = placeOf(collectionId);
    const bytes = await readFileLimited(stateFile, MAX_STATE);
    return bytes && { document: parseState(bytes, stateFile, collectionId), bytes };
  }

  async function kept(collectionId: string): Promise<KeptState | undefined> {
    const place = placeOf(collectionId);
    let state = await readState(collectionId);
    for (let attempt = 0; state && attempt < 5; attempt += 1) {
      try {
        return await readKept(state.document, place.kept);
      } catch (error) {
        // A writer may have moved on and swept what the state that was read here names.
        const again = await readState(collectionId);
        if (!again || again.bytes.equals(state.bytes)) throw error;
        state = again;
      }
    }
    return undefined;
  }

  const listIds = async (): Promise<string[]> =>
    (await listDirectory(collectionsDirectory)).filter((name) => SHA256_HEX.test(name)).sort();

  async function revision(): Promise<string> {
    const parts: string[] = [];
    for (const id of await listIds()) {
      // Every write is a rename, which brings another file.
      const found = await stat(placeOf(id).stateFile, { bigint: true }).catch(() => undefined);
      if (found) parts.push(`${id} ${found.ino} ${found.size} ${found.mtimeNs}`);
    }
    return parts.join('\n');
  }

  async function collections(): Promise<readonly KeptState[]> {
    const ids = await listIds();
    const states: KeptState[] = [];
    for (const id of ids) {
      // A directory without state.json is what a pin leaves that broke off.
      const state = await kept(id);
      if (state) states.push(state);
    }
    return states;
  }

  /** What is kept, by the last write where the file is still what that left. */
  async function keptBefore(collectionId: string): Promise<KeptState | undefined> {
    if (settled?.state.collectionId !== collectionId) return await kept(collectionId);
    const bytes = await readFileLimited(placeOf(collectionId).stateFile, MAX_STATE);
    return bytes?.equals(settled.bytes) ? settled.state : await kept(collectionId);
  }

  /** Kept files first, then state.json in one step, then what is no longer named goes. */
  async function commit(state: KeptState): Promise<void> {
    const { home, stateFile, kept: keptDirectory } = placeOf(state.collectionId);
    await makeDirectory(keptDirectory, 'state');
    const there = settled?.state.collectionId === state.collectionId ? settled.named : new Set<string>();
    settled = undefined;
    const named = new Set<string>();
    async function keep(bytes: Uint8Array): Promise<FileEntry> {
      const sha256 = hashOf(bytes);
      const file = path.join(keptDirectory, sha256);
      if (!named.has(sha256)) {
        named.add(sha256);
        if (there.has(sha256)) return { sha256, size: bytes.length };
        const found = await readFileLimited(file, MAX_KEPT).catch(() => undefined);
        if (!found?.equals(bytes)) await writeFileDurably(file, bytes, 'state');
      }
      return { sha256, size: bytes.length };
    }
    async function keepAll(
      map: ReadonlyMap<string, Uint8Array>,
      names: RegExp,
    ): Promise<Map<string, FileEntry>> {
      const entries = new Map<string, FileEntry>();
      for (const [name, bytes] of map) {
        if (!names.test(name))
          throw new SealiftError('internal', `not a name the gate keeps: ${inert(name)}`);
        entries.set(name, await keep(bytes));
      }
      return entries;
    }
    const document: StateDocument = {
      collectionId: state.collectionId,
      collectionName: state.collectionName,
      pin: state.pin,
      root: {
        ...(await keep(state.root.bytes)),
        version: state.root.version,
        fingerprint: state.root.fingerprint,
      },
      earlierRoots: await keepAll(
        new Map([...state.earlierRoots].map(([version, bytes]) => [String(version), bytes])),
        ROOT_VERSION,
      ),
      timestamp: state.timestamp && (await keep(state.timestamp)),
      snapshot: state.snapshot && (await keep(state.snapshot)),
      targets: state.targets && (await keep(state.targets)),
      delegated: await keepAll(state.delegated, ROLE),
      certificates: await keepAll(state.certificates, FINGERPRINT),
      clockFloor: state.clockFloor,
      version: state.version,
      expires: state.expires,
    };
    const bytes = encodeState(document);
    // What cannot be read back must not become the state.
    parseState(bytes, stateFile, state.collectionId);
    // The same bundle again changes nothing, and writes nothing.
    const before = await readFileLimited(stateFile, MAX_STATE);
    if (!before?.equals(bytes)) await writeFileDurably(stateFile, bytes, 'state');
    settled = { bytes, state, named };
    await sweep(home, keptDirectory, named);
  }

  async function pin(request: PinRequest): Promise<PinOutcome> {
    const before = await kept(request.collectionId);
    if (before && ![before.pin.fingerprint, before.root.fingerprint].includes(request.root.fingerprint)) {
      throw new SealiftError('pin-mismatch', 'the collection is pinned by another root', {
        subject: request.collectionId,
        got: request.root.fingerprint,
        want: before.pin.fingerprint,
        hint: 'newer roots are learnt from bundles; nothing has to be pinned again',
      });
    }
    const scopes =
      before && request.scopes.length === 0 ? before.pin.scopes : normaliseScopes(request.scopes);
    for (const other of await collections()) {
      if (other.collectionId !== request.collectionId) assertDisjoint(scopes, other);
    }
    if (before) {
      const scopesChanged = JSON.stringify(scopes) !== JSON.stringify(before.pin.scopes);
      const state: KeptState = { ...before, pin: { ...before.pin, scopes } };
      const outcome: PinOutcome = { state, alreadyPinned: true, scopesChanged };
      if (scopesChanged) {
        if (request.entry) await log.append(request.entry(outcome));
        await commit(state);
      }
      return outcome;
    }
    const state: KeptState = {
      collectionId: request.collectionId,
      collectionName: inert(request.collectionName),
      pin: {
        fingerprint: request.root.fingerprint,
        rootVersion: request.root.version,
        pinnedAt: formatTimestamp(request.now),
        scopes,
      },
      root: request.root,
      earlierRoots: new Map(),
      delegated: new Map(),
      certificates: request.certificates,
    };
    const outcome: PinOutcome = { state, alreadyPinned: false, scopesChanged: false };
    if (request.entry) await log.append(request.entry(outcome));
    await commit(state);
    return outcome;
  }

  async function save(collectionId: string, change: KeptChange): Promise<KeptState> {
    const before = await keptBefore(collectionId);
    if (!before) {
      throw new SealiftError('not-pinned', 'no root of this collection has been pinned', {
        subject: collectionId,
      });
    }
    const root = change.root ?? before.root;
    if (root.version < before.root.version) {
      throw new SealiftError(
        'rollback',
        `the root would go back: got version ${root.version}, want ${before.root.version}`,
        {
          subject: collectionId,
          got: root.version,
          want: before.root.version,
        },
      );
    }
    const state: KeptState = {
      collectionId,
      collectionName:
        change.collectionName === undefined ? before.collectionName : inert(change.collectionName),
      pin: before.pin,
      root,
      earlierRoots: change.earlierRoots ?? before.earlierRoots,
      timestamp: step(before.timestamp, change.timestamp),
      snapshot: step(before.snapshot, change.snapshot),
      targets: step(before.targets, change.targets),
      delegated: change.delegated ?? before.delegated,
      certificates: change.certificates ?? before.certificates,
      clockFloor: step(before.clockFloor, change.clockFloor),
      version: step(before.version, change.version),
      expires: step(before.expires, change.expires),
    };
    await commit(state);
    return state;
  }

  return {
    directory,
    lock: async (pid) => {
      const lock = await acquireLock(path.join(directory, 'lock'), pid);
      if (locks === 0) await sweepTemporary([directory]);
      locks += 1;
      log.forget();
      settled = undefined;
      let released = false;
      return {
        release: async () => {
          if (released) return;
          released = true;
          await last;
          locks -= 1;
          await lock.release();
        },
      };
    },
    collections,
    revision,
    kept,
    pin: (request) => write(() => pin(request)),
    save: (collectionId, change) => write(() => save(collectionId, change)),
    audit: (entry) => write(() => log.append(entry)),
    auditHead: () => log.head(),
    verifyAudit: (verifyOptions) => log.verify(verifyOptions),
  };
}

function step<T>(before: T | undefined, change: T | null | undefined): T | undefined {
  return change === null ? undefined : (change ?? before);
}

function assertDisjoint(scopes: readonly string[], other: KeptState): void {
  for (const scope of scopes) {
    const conflict = other.pin.scopes.find((theirs) => scopesOverlap(scope, theirs));
    if (conflict !== undefined) {
      throw new SealiftError(
        'scope-conflict',
        `scope ${scope} overlaps ${conflict} of collection ${other.collectionName}`,
        {
          subject: other.collectionId,
          got: scope,
          hint: `give both collections scopes that do not overlap; for the one that is pinned: sealift trust pin BUNDLE --fingerprint ${other.pin.fingerprint} --scope PREFIX/`,
        },
      );
    }
  }
}

function fileHint(stateFile: string): string {
  return `restore ${path.dirname(stateFile)} from a backup; or move it away and pin the collection again, which gives up protection against replays of its old bundles`;
}

/** `{"sha256":HASH,"state":{…}}`: the hash finds a damaged disk, it is no protection against people. */
function encodeState(document: StateDocument): Buffer {
  const state = {
    formatVersion: GATE_FORMAT,
    requires: KNOWN_FEATURES,
    collection: { id: document.collectionId, name: document.collectionName },
    pin: { ...document.pin },
    root: { ...document.root },
    delegated: Object.fromEntries([...document.delegated].map(([name, entry]) => [name, { ...entry }])),
    certificates: Object.fromEntries([...document.certificates].map(([name, entry]) => [name, { ...entry }])),
    ...(document.earlierRoots.size > 0 && {
      earlierRoots: Object.fromEntries(
        [...document.earlierRoots].map(([version, entry]) => [version, { ...entry }]),
      ),
    }),
    ...(document.timestamp && { timestamp: { ...document.timestamp } }),
    ...(document.snapshot && { snapshot: { ...document.snapshot } }),
    ...(document.targets && { targets: { ...document.targets } }),
    ...(document.clockFloor !== undefined && { clockFloor: document.clockFloor }),
    ...(document.version !== undefined && { version: document.version }),
    ...(document.expires !== undefined && { expires: document.expires }),
  };
  return canonicalJson({ sha256: hashOf(canonicalJson(state)), state });
}

function parseState(bytes: Uint8Array, file: string, collectionId: string): StateDocument {
  const outer = parseDocument(bytes, { file, hint: fileHint(file), maxBytes: MAX_STATE });
  const sha256 = outer.string('sha256', SHA256_HEX);
  const state = outer.object('state');
  if (hashOf(canonicalOrNothing(state.value)) !== sha256)
    throw outer.damaged('its content does not have the hash it names');
  checkFormat(state, file, GATE_FORMAT, KNOWN_FEATURES);
  const collection = state.object('collection');
  if (collection.string('id') !== collectionId) throw outer.damaged('it is about another collection');
  const pin = state.object('pin');
  const scopes = pin.strings('scopes');
  if (scopes.length === 0) throw outer.damaged('pin.scopes is empty');
  const root = state.object('root');
  const optionalFile = (key: string): FileEntry | undefined => {
    const found = state.optionalObject(key);
    return found && fileEntry(found);
  };
  return {
    collectionId,
    collectionName: collection.string('name'),
    pin: {
      fingerprint: pin.string('fingerprint', SHA256_HEX),
      rootVersion: pin.integer('rootVersion'),
      pinnedAt: pin.string('pinnedAt', TIMESTAMP),
      scopes,
    },
    root: {
      ...fileEntry(root),
      version: root.integer('version'),
      fingerprint: root.string('fingerprint', SHA256_HEX),
    },
    earlierRoots: fileEntries(state.optionalObject('earlierRoots'), ROOT_VERSION),
    timestamp: optionalFile('timestamp'),
    snapshot: optionalFile('snapshot'),
    targets: optionalFile('targets'),
    delegated: fileEntries(state.object('delegated'), ROLE),
    certificates: fileEntries(state.object('certificates'), FINGERPRINT),
    clockFloor: state.optionalString('clockFloor', TIMESTAMP),
    version: state.optionalInteger('version'),
    expires: state.optionalString('expires', TIMESTAMP),
  };
}

function fileEntry(reader: DocumentReader): FileEntry {
  return { sha256: reader.string('sha256', SHA256_HEX), size: reader.integer('size') };
}

function fileEntries(reader: DocumentReader | undefined, names: RegExp): Map<string, FileEntry> {
  const entries = new Map<string, FileEntry>();
  if (!reader) return entries;
  for (const name of reader.keys()) {
    if (!names.test(name)) throw reader.damaged(`unknown name ${inert(name)}`);
    entries.set(name, fileEntry(reader.object(name)));
  }
  return entries;
}

async function readKept(document: StateDocument, directory: string): Promise<KeptState> {
  async function read(entry: FileEntry, what: string): Promise<Buffer> {
    const file = path.join(directory, entry.sha256);
    const bytes = await readFileLimited(file, MAX_KEPT);
    const fault = { file, hint: fileHint(directory) };
    if (!bytes) throw damagedDocument(fault, `kept ${what} is not there`);
    if (bytes.length !== entry.size || hashOf(bytes) !== entry.sha256) {
      throw damagedDocument(fault, `kept ${what} does not have the hash state.json names`);
    }
    return bytes;
  }
  async function readAll(
    entries: ReadonlyMap<string, FileEntry>,
    what: string,
  ): Promise<Map<string, Buffer>> {
    const all = new Map<string, Buffer>();
    for (const [name, entry] of entries) all.set(name, await read(entry, `${what} ${name}`));
    return all;
  }
  const { root } = document;
  return {
    collectionId: document.collectionId,
    collectionName: document.collectionName,
    pin: document.pin,
    root: { version: root.version, fingerprint: root.fingerprint, bytes: await read(root, 'root') },
    earlierRoots: new Map(
      [...(await readAll(document.earlierRoots, 'root'))]
        .map(([version, bytes]) => [Number(version), bytes] as const)
        .sort(([a], [b]) => a - b),
    ),
    timestamp: document.timestamp && (await read(document.timestamp, 'timestamp')),
    snapshot: document.snapshot && (await read(document.snapshot, 'snapshot')),
    targets: document.targets && (await read(document.targets, 'targets')),
    delegated: await readAll(document.delegated, 'role'),
    certificates: await readAll(document.certificates, 'certificate'),
    clockFloor: document.clockFloor,
    version: document.version,
    expires: document.expires,
  };
}

/** Removes what no state names. Failing is harmless: the next write tries again. */
async function sweep(home: string, keptDirectory: string, named: ReadonlySet<string>): Promise<void> {
  try {
    for (const name of await readdir(keptDirectory)) {
      if (!named.has(name)) await rm(path.join(keptDirectory, name), { force: true });
    }
    for (const name of await readdir(home)) {
      if (name.startsWith('.state.json~')) await rm(path.join(home, name), { force: true });
    }
  } catch {
    // The state is durable already.
  }
}

async function listDirectory(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

function hashOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Empty for what has no canonical form, which has no hash that anything names either. */
function canonicalOrNothing(value: JsonObject): Uint8Array {
  try {
    return canonicalJson(value);
  } catch {
    return new Uint8Array();
  }
}
