/**
 * Settings of a gate that must not go away unnoticed (docs/state.md): each a file of its own, and in `gate.json` its hash.
 * One that was set and is gone or changed refuses; a sealift that does not know one refuses the gate, because `gate.json`
 * requires it.
 */
import { createHash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { type ErrorCode, SealiftError } from '../errors.ts';
import { checkFormat, formatTimestamp, parseDocument, SHA256_HEX, TIMESTAMP } from '../fs/document.ts';
import { fsyncDirectory, readFileLimited, writeFileDurably } from '../fs/durable.ts';
import { canonicalJson } from '../json/canonical.ts';

interface SettingKind {
  readonly file: string;
  /** Where it is gone, or another than the one that was set. */
  readonly missing: ErrorCode;
  readonly what: string;
  readonly check: string;
  readonly hint: string;
}

const KINDS = {
  policy: {
    file: 'policy.json',
    missing: 'policy-missing',
    what: 'policy of the gate',
    check: 'policy',
    hint: 'set it again: sealift policy set FILE; until then this gate lets nothing in',
  },
  officers: {
    file: 'officers.json',
    missing: 'officers-missing',
    what: 'officers of the gate',
    check: 'approvals',
    hint: 'set them again: sealift officers set KEY…; until then this gate lets nothing in',
  },
} as const satisfies Record<string, SettingKind>;

/** Also the names of the features that `gate.json` requires where they are set. */
export type GateSetting = keyof typeof KINDS;
export const GATE_SETTINGS = Object.keys(KINDS) as readonly GateSetting[];

export interface SettingFile {
  readonly file: string;
  readonly bytes: Uint8Array;
  readonly sha256: string;
  readonly setAt: string;
}

const MAX_BYTES = 32 * 1024 * 1024;

interface Noted {
  readonly sha256: string;
  readonly setAt: string;
}

/** What `gate.json` names; undefined where there is no gate. */
async function readNotes(directory: string): Promise<ReadonlyMap<GateSetting, Noted> | undefined> {
  const file = path.join(directory, 'gate.json');
  const bytes = await readFileLimited(file, MAX_BYTES);
  if (!bytes) return undefined;
  const hint = 'restore the gate from a backup';
  const document = parseDocument(bytes, { file, hint, maxBytes: MAX_BYTES });
  checkFormat(document, file, 1, GATE_SETTINGS);
  const requires = document.strings('requires');
  const notes = new Map<GateSetting, Noted>();
  for (const kind of GATE_SETTINGS) {
    const set = document.optionalObject(kind);
    const required = requires.includes(kind);
    if (!set && !required) continue;
    if (!set || !required)
      throw document.damaged(`the ${KINDS[kind].what} is named by one of "${kind}" and "requires" only`);
    notes.set(kind, { sha256: set.string('sha256', SHA256_HEX), setAt: set.string('setAt', TIMESTAMP) });
  }
  return notes;
}

/**
 * A setting of the gate at `directory`; undefined where it was not set, and where there is no gate.
 * @throws SealiftError `policy-missing`, `officers-missing`; `state-damaged`, `format-unsupported`
 */
export async function readGateSetting(
  directory: string,
  kind: GateSetting,
): Promise<SettingFile | undefined> {
  const noted = (await readNotes(directory))?.get(kind);
  if (!noted) return undefined;
  const { file: name, missing, what, check, hint } = KINDS[kind];
  const file = path.join(directory, name);
  const gone = (problem: string, cause?: unknown): SealiftError =>
    new SealiftError(missing, `${what}: ${problem}`, { subject: file, check, hint, cause });
  const bytes = await readFileLimited(file, MAX_BYTES).catch((cause: unknown) => {
    throw gone('it cannot be read', cause);
  });
  if (!bytes) throw gone('it is gone');
  const got = createHash('sha256').update(bytes).digest('hex');
  if (got !== noted.sha256)
    throw gone(`it is not the one that was set: got sha256 ${got}, want ${noted.sha256}`);
  return { file, bytes, ...noted };
}

/**
 * Sets a setting, or takes it away. The caller holds the lock of the gate and has written the audit entry. A crash in
 * between leaves the old setting, or one that refuses.
 */
export async function writeGateSetting(
  directory: string,
  kind: GateSetting,
  bytes: Uint8Array | undefined,
  now: Date,
): Promise<string | undefined> {
  const notes = new Map(await readNotes(directory));
  const file = path.join(directory, KINDS[kind].file);
  const sha256 = bytes && createHash('sha256').update(bytes).digest('hex');
  if (bytes && sha256 !== undefined) {
    await writeFileDurably(file, bytes, 'state');
    notes.set(kind, { sha256, setAt: formatTimestamp(now) });
  } else notes.delete(kind);
  const settings = Object.fromEntries([...notes].map(([name, noted]) => [name, { ...noted }]));
  const gate = canonicalJson({ formatVersion: 1, requires: [...notes.keys()].sort(), ...settings });
  await writeFileDurably(path.join(directory, 'gate.json'), gate, 'state');
  if (!bytes) {
    await rm(file, { force: true });
    await fsyncDirectory(directory);
  }
  return sha256;
}
