import path from 'node:path';
import { inert, SealiftError } from '../../core/errors.ts';
import type { Command } from '../command.ts';
import { passphraseOptions, readPassphraseFile } from '../options/passphrase.ts';
import { parseMoment } from '../options/values.ts';
import { initText } from '../output/report.ts';
import { continueFrom, continueOptions } from './init-from.ts';

export const initCommand: Command = {
  words: ['init'],
  summary: 'make a collection, its key and a recovery key',
  about:
    "A collection is the connected side's signing state. The passphrase protects its key; on a terminal it is asked for twice. The recovery key goes to a file of its own: keep it on another medium. With --from it makes no keys, and goes on with a collection whose machine is gone, from the newest bundle there is.",
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
    signer: {
      kind: 'text',
      value: 'gpg:FINGERPRINT',
      describe: 'the key of the collection is one that gpg holds, in its keyring or on a card; none is made',
    },
    ...continueOptions,
    created: {
      kind: 'text',
      value: 'TIME',
      describe: 'the moment of making, such as 2026-11-23T12:00:00Z (default: now)',
    },
    ...passphraseOptions,
  },
  examples: [
    'sealift init',
    'sealift init ./acme --name acme --recovery-key /media/safe/acme-recovery.key',
    'sealift init --signer gpg:FINGERPRINT',
    'sealift init ./acme --from last.tar --fingerprint 1f3c… --key backup/acme.asc --last-version 41',
    'sealift init ./acme --from last.tar --fingerprint 1f3c… --key backup/acme.asc --receipt receipt.json',
  ],
  run: async (runtime) => {
    const {
      args,
      paths,
      workflows,
      passphrase: existing,
      newPassphrase,
      gpg,
      now,
      cwd,
      notice,
      context,
    } = runtime;
    const given = args.positional('DIR');
    if (given !== undefined && args.text('collection') !== undefined) {
      throw new SealiftError('invalid-argument', 'got both DIR and --collection, want one of them', {
        subject: 'DIR',
      });
    }
    const directory = given === undefined ? paths.collection.path : path.resolve(cwd, given);
    if (args.text('from') !== undefined) return await continueFrom(runtime, directory);
    const name = args.text('name') ?? path.basename(directory);
    const recoveryFile = path.resolve(
      cwd,
      args.text('recovery-key') ?? `${name.replace(/[^A-Za-z0-9._-]/g, '_')}-recovery.key`,
    );
    const created = args.text('created');
    const { limits } = await context();
    const signer = args.text('signer');
    if (signer !== undefined && args.text('keys') === 'native') {
      throw new SealiftError('invalid-argument', 'gpg holds OpenPGP keys, got --keys native', {
        subject: '--signer',
      });
    }
    const ask = async (whose: string): Promise<string> => {
      const answer = await newPassphrase(whose);
      if (answer === undefined) throw passphraseMissing();
      return answer;
    };
    const recoveryPassphraseFile = args.text('recovery-passphrase-file');
    // Of a key that gpg holds, the passphrase is gpg's affair.
    const passphrase = signer === undefined ? await ask(`the new key of ${inert(name)}`) : undefined;
    const recoveryPassphrase =
      recoveryPassphraseFile === undefined
        ? (passphrase ?? (await ask(`the recovery key of ${inert(name)}`)))
        : readPassphraseFile(path.resolve(cwd, recoveryPassphraseFile), { notice });
    const summary = await workflows.createCollection({
      directory,
      name,
      keys: args.text('keys') === 'native' ? 'native' : 'openpgp',
      passphrase: passphrase ?? '',
      ...(signer === undefined
        ? {}
        : { signer: { reference: signer, access: { passphrase: existing, gpg } } }),
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
