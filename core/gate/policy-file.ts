/** The policy of a gate (docs/state.md): one of its settings. */
import { readGateSetting, type SettingFile, writeGateSetting } from './settings.ts';

export type GatePolicy = SettingFile;

/**
 * The policy that was set in the gate at `directory`; undefined where none was, and where there is no gate.
 * @throws SealiftError `policy-missing`; `state-damaged`, `format-unsupported`
 */
export function readGatePolicy(directory: string): Promise<GatePolicy | undefined> {
  return readGateSetting(directory, 'policy');
}

/** As {@link writeGateSetting}. */
export function writeGatePolicy(
  directory: string,
  bytes: Uint8Array | undefined,
  now: Date,
): Promise<string | undefined> {
  return writeGateSetting(directory, 'policy', bytes, now);
}
