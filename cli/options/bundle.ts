import { existsSync } from 'node:fs';
import path from 'node:path';
import { parseVolumeName } from '../../core/bundle/volumes/names.ts';
import { SealiftError } from '../../core/errors.ts';
import { readFileLimited } from '../../core/fs/durable.ts';
import type { BundleInput } from '../../core/workflow-options.ts';
import type { OptionGroup } from '../args.ts';
import type { Runtime } from '../command.ts';
import { passphraseOptions } from './passphrase.ts';
import { isHeld } from './signer.ts';
import { mediumFrom } from './volumes.ts';

/** Options of commands that judge a bundle. */
export const judgeOptions = {
  approval: {
    kind: 'list',
    value: 'FILE',
    describe:
      "an officer's approval of the bundle; may be given again (those in the gate, and BUNDLE.*.approval beside the bundle, are found)",
  },
  'allow-clock-jump': {
    kind: 'flag',
    describe: 'accept a bundle from more than 48 hours ahead of this clock (is recorded)',
  },
} as const satisfies OptionGroup;

/** Options of commands that read a bundle from the beginning to the end, and so may decrypt it on the way. */
export const decryptOptions = {
  'decrypt-key': {
    kind: 'list',
    value: 'KEY',
    describe:
      'the bundle is encrypted: an OpenPGP secret key that opens it, a file; or gpg:FINGERPRINT, which gpg holds, in its keyring or on a card (gpg: for whichever it has); may be given again',
  },
  ...passphraseOptions,
} as const satisfies OptionGroup;

/** The same options again, for a command that is to come next. */
export const openingOf = ({ args }: Runtime): readonly string[] =>
  args.list('decrypt-key').flatMap((key) => ['--decrypt-key', key]);

const MAX_KEY_BYTES = 1024 * 1024;

/** An encrypted bundle, where `--decrypt-key` says that it is one. */
export async function encryptedFrom(
  runtime: Runtime,
  given = runtime.args.positionals('BUNDLE'),
): Promise<Extract<BundleInput, { kind: 'encrypted' }> | undefined> {
  const wanted = runtime.args.list('decrypt-key');
  if (wanted.length === 0) return undefined;
  const references = wanted.filter(isHeld);
  const files = wanted.filter((text) => !isHeld(text)).map((file) => path.resolve(runtime.cwd, file));
  const keys = await Promise.all(
    files.map(async (file) => {
      const bytes = await readFileLimited(file, MAX_KEY_BYTES);
      if (bytes) return { path: file, bytes };
      throw new SealiftError('invalid-argument', 'there is no key at that place', { subject: file });
    }),
  );
  const held = references.length === 0 ? undefined : { references, gpg: runtime.gpg };
  const common = { kind: 'encrypted', keys, passphrase: runtime.passphrase, held } as const;
  return given.length === 1 && given[0] === '-'
    ? { ...common, paths: [], stream: runtime.stdin }
    : { ...common, paths: given.map((text) => bundlePath(text, runtime.cwd)) };
}

/** The bundle a command is to read: a file or volumes, or standard input for `-`. */
export function bundleFrom(runtime: Runtime, given = runtime.args.positionals('BUNDLE')): BundleInput {
  const [text, ...more] = given;
  if (text === undefined) throw new SealiftError('internal', 'no bundle among the positionals');
  if (given.includes('-')) {
    if (more.length > 0) {
      throw new SealiftError('invalid-argument', 'standard input is one bundle: got further arguments', {
        subject: '-',
        hint: 'feed it all volumes in order: cat images.tar.??? | sealift import -',
      });
    }
    return { kind: 'stream', stream: runtime.stdin };
  }
  const medium = mediumFrom(runtime);
  return {
    kind: 'file',
    path: bundlePath(text, runtime.cwd),
    ...(more.length === 0 ? {} : { volumes: more.map((one) => bundlePath(one, runtime.cwd)) }),
    ...(medium === undefined ? {} : { medium }),
  };
}

/**
 * Of the words behind a bundle those that are further volumes of it, and those that are something else: a file that is
 * there, with the number of a volume at its end, and the bundle's own file name before it where that is a volume too.
 */
export function volumesAmong(
  bundle: string,
  words: readonly string[],
  cwd: string,
): { readonly volumes: readonly string[]; readonly others: readonly string[] } {
  const base = parseVolumeName(path.basename(bundle.replace(/\.gpg$/, '')))?.base;
  const isVolume = (word: string): boolean => {
    const name = parseVolumeName(path.basename(word.replace(/\.gpg$/, '')));
    return name !== undefined && (base ?? name.base) === name.base && existsSync(bundlePath(word, cwd));
  };
  return { volumes: words.filter(isVolume), others: words.filter((word) => !isVolume(word)) };
}

/** `bundle:FILE`, or FILE. */
export function bundlePath(text: string, cwd: string): string {
  return path.resolve(cwd, text.startsWith('bundle:') ? text.slice('bundle:'.length) : text);
}

/** Files with approvals that were named. */
export function approvalsFrom({ args, cwd }: Runtime): { readonly approvals?: readonly string[] } {
  const files = args.list('approval').map((file) => path.resolve(cwd, file));
  return files.length === 0 ? {} : { approvals: files };
}
