/**
 * The policy of a gate (docs/state.md): `policy.json`, and in `gate.json` its hash. A policy that was set and is gone
 * or changed refuses; a sealift that knows no policies refuses the gate, because `gate.json` requires them.
 */
import { createHash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { SealiftError } from '../errors.ts';
import { checkFormat, formatTimestamp, parseDocument, SHA256_HEX, TIMESTAMP } from '../fs/document.ts';
import { fsyncDirectory, readFileLimited, writeFileDurably } from '../fs/durable.ts';
import { canonicalJson } from '../json/canonical.ts';

/** In `requires` of gate.json where a policy is set. */
export const POLICY_FEATURE = 'policy';

const FILE_MODE = 0o600;
const MAX_BYTES = 32 * 1024 * 1024;
const HINT = 'set it again: sealift policy set FILE; until then this gate lets nothing in';

export interface GatePolicy {
  readonly file: string;
  readonly bytes: Uint8Array;
  readonly sha256: string;
  readonly setAt: string;
}

function placesOf(directory: string) {
  return { gate: path.join(directory, 'gate.json'), policy: path.join(directory, 'policy.json') };
}

/**
 * The policy that was set in the gate at `directory`; undefined where none was, and where there is no gate.
 * @throws SealiftError `policy-missing`; `state-damaged`, `format-unsupported`
 */
export async function readGatePolicy(directory: string): Promise<GatePolicy | undefined> {
  const places = placesOf(directory);
  const gate = await readFileLimited(places.gate, MAX_BYTES);
  if (!gate) return undefined;
  const document = parseDocument(gate, {
    file: places.gate,
    hint: 'restore the gate from a backup',
    maxBytes: MAX_BYTES,
  });
  checkFormat(document, places.gate, 1, [POLICY_FEATURE]);
  const set = document.optionalObject('policy');
  const required = document.strings('requires').includes(POLICY_FEATURE);
  if (!set && !required) return undefined;
  if (!set || !required) throw document.damaged('the policy is named by one of "policy" and "requires" only');
  const sha256 = set.string('sha256', SHA256_HEX);
  const setAt = set.string('setAt', TIMESTAMP);
  const bytes = await readFileLimited(places.policy, MAX_BYTES).catch((cause: unknown) => {
    throw missing(places.policy, 'it cannot be read', cause);
  });
  if (!bytes) throw missing(places.policy, 'it is gone');
  const got = createHash('sha256').update(bytes).digest('hex');
  if (got !== sha256)
    throw missing(places.policy, `it is not the one that was set: got sha256 ${got}, want ${sha256}`);
  return { file: places.policy, bytes, sha256, setAt };
}

function missing(file: string, problem: string, cause?: unknown): SealiftError {
  return new SealiftError('policy-missing', `policy of the gate: ${problem}`, {
    subject: file,
    check: 'policy',
    hint: HINT,
    cause,
  });
}

/**
 * Sets the policy of the gate at `directory`, or takes it away. The caller holds the lock of the gate and has written
 * the audit entry. A crash in between leaves the old policy, or one that refuses.
 */
export async function writeGatePolicy(
  directory: string,
  bytes: Uint8Array | undefined,
  now: Date,
): Promise<string | undefined> {
  const places = placesOf(directory);
  if (!bytes) {
    await writeFileDurably(places.gate, canonicalJson({ formatVersion: 1, requires: [] }), FILE_MODE);
    await rm(places.policy, { force: true });
    await fsyncDirectory(directory);
    return undefined;
  }
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  await writeFileDurably(places.policy, bytes, FILE_MODE);
  await writeFileDurably(
    places.gate,
    canonicalJson({
      formatVersion: 1,
      requires: [POLICY_FEATURE],
      policy: { sha256, setAt: formatTimestamp(now) },
    }),
    FILE_MODE,
  );
  return sha256;
}
