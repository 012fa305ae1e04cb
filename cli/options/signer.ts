/** Keys that gpg holds: how the program is reached, and the option that names one. */
import { readlinkSync } from 'node:fs';
import path from 'node:path';
import type { GpgSettings } from '../../core/workflow-options.ts';
import type { OptionGroup } from '../args.ts';

export const signerOptions = {
  signer: {
    kind: 'list',
    value: 'gpg:FINGERPRINT',
    describe: 'a key that gpg holds signs, in its keyring or on a card; may be given again',
  },
} as const satisfies OptionGroup;

/** A key that gpg holds. */
export const isHeld = (text: string): boolean => text.startsWith('gpg:');

/** A path, or a key that gpg holds, which is none. */
export const keyPath = (text: string, cwd: string): string => (isHeld(text) ? text : path.resolve(cwd, text));

export interface GpgSurroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdin: { readonly isTTY?: boolean | undefined };
  readonly signal: AbortSignal;
  readonly noInput: boolean;
  /** An option says where the passphrase comes from. */
  readonly passphraseGiven: boolean;
}

export function gpgSettings(surroundings: GpgSurroundings): GpgSettings {
  const { env, stdin, signal, noInput, passphraseGiven } = surroundings;
  return {
    environment: { ...env, GPG_TTY: env['GPG_TTY'] ?? (stdin.isTTY === true ? terminalName() : undefined) },
    ask: passphraseGiven ? 'provider' : noInput ? 'never' : 'agent',
    signal,
  };
}

/** gpg finds its terminal by standard input, which carries what is to be signed. */
function terminalName(): string | undefined {
  try {
    const name = readlinkSync('/proc/self/fd/0');
    return name.startsWith('/dev/') ? name : undefined;
  } catch {
    return undefined; // no /proc: its prompts may still have a window
  }
}
