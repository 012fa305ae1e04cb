import path from 'node:path';
import { inert, SealiftError } from '../../core/errors.ts';
import type { Command } from '../command.ts';
import { passphraseOptions, readPassphraseFile } from '../options/passphrase.ts';
import { parseMoment } from '../options/values.ts';
import { initText } from '../output/report.ts';

export const initCommand: Command = {
  words: ['init'],
  summary: 'make a collection, its key and a recovery key',
  about:
    "A collection is the connected side's signing state. The passphrase protects its key; on a terminal it is asked for twice. The recovery key goes to a file of its own: keep it on another medium.",
  positionals: [{ name: 'DIR', describe: 'where the collection goes (default: the path of --collection)' }],
  options: {
    name: {
      kind: 'text',
      value: 'NAME',
      describe: "the collection's name, for display (default: the directory's)",
    },
    keys: {
      kind: 'text',
      value: 'KIND',
      choices: ['openpgp', 'native'],
      describe: 'openpgp (default): one OpenPGP key; native: an ed25519 key',
    },
    'user-id': {
      kind: 'text',
      value: 'TEXT',
      describe: 'user id of the OpenPGP key, such as "Jo <jo@example.org>"',
    },
    'recovery-key': {
      kind: 'text',
      value: 'FILE',
      describe: 'where the recovery key goes (default: NAME-recovery.key here)',
    },
    'recovery-passphrase-file': {
      kind: 'text',
      value: 'FILE',
      describe: "the first line of a file is the recovery key's passphrase (default: the same passphrase)",
    },
    created: {
      kind: 'text',
      value: 'TIME',
      describe: 'the moment of making, such as 2026-11-23T12:00:00Z (default: now)',
    },
    ...passphraseOptions,
  },
  examples: ['sealift init', 'sealift init ./acme --name acme --recovery-key /media/safe/acme-recovery.key'],
  run: async ({ args, paths, workflows, newPassphrase, now, cwd, notice, context }) => {
    const given = args.positional('DIR');
    if (given !== undefined && args.text('collection') !== undefined) {
      throw new SealiftError('invalid-argument', 'got both DIR and --collection, want one of them', {
        subject: 'DIR',
      });
    }
    const directory = given === undefined ? paths.collection.path : path.resolve(cwd, given);
    const name = args.text('name') ?? path.basename(directory);
    const recoveryFile = path.resolve(
      cwd,
      args.text('recovery-key') ?? `${name.replace(/[^A-Za-z0-9._-]/g, '_')}-recovery.key`,
    );
    const created = args.text('created');
    const { limits } = await context();
    const passphrase = await newPassphrase(`the new key of ${inert(name)}`);
    if (passphrase === undefined) throw passphraseMissing();
    const recoveryPassphraseFile = args.text('recovery-passphrase-file');
    const recoveryPassphrase =
      recoveryPassphraseFile === undefined
        ? passphrase
        : readPassphraseFile(path.resolve(cwd, recoveryPassphraseFile), { notice });
    const summary = await workflows.createCollection({
      directory,
      name,
      keys: args.text('keys') === 'native' ? 'native' : 'openpgp',
      passphrase,
      recoveryPassphrase,
      recoveryFile,
      userId: args.text('user-id'),
      created: created === undefined ? now : parseMoment(created, '--created'),
      limits,
    });
    const result = { ...summary, directory, recoveryFile };
    return {
      result,
      text: (view) => initText({ ...result, samePassphrase: recoveryPassphrase === passphrase }, view),
      quiet: summary.rootFingerprint,
    };
  },
};

export function passphraseMissing(): SealiftError {
  return new SealiftError('passphrase-needed', 'a passphrase is needed and there is no terminal to ask at', {
    hint: 'give --passphrase-file FILE, --passphrase-fd N or --passphrase-command COMMAND',
  });
}
