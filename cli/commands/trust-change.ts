import path from 'node:path';
import { SealiftError } from '../../core/errors.ts';
import type { KeyFile } from '../../core/trust-ops/index.ts';
import type { OptionGroup } from '../args.ts';
import type { Command, Runtime } from '../command.ts';
import { passphraseOptions, readPassphraseFile } from '../options/passphrase.ts';
import { requestFrom, requestOptions } from '../options/request.ts';
import { keyPath, signerOptions } from '../options/signer.ts';
import { parseDuration } from '../options/values.ts';
import { pendingText, rotateText, withdrawText } from '../output/trust-report.ts';
import { passphraseMissing } from './init.ts';

const recoveryOptions = {
  'recovery-key': {
    kind: 'text',
    value: 'FILE',
    describe: 'the recovery key signs the new root, where the key of the collection is lost or stolen',
  },
  'recovery-passphrase-file': {
    kind: 'text',
    value: 'FILE',
    describe: "the first line of a file is the recovery key's passphrase (default: the same passphrase)",
  },
} as const satisfies OptionGroup;

/** The same with the keys that --signer names. */
export function signingWith(runtime: Runtime) {
  return { ...signing(runtime), signers: runtime.args.list('signer') };
}

/** What every command that signs is given. */
export function signing(runtime: Runtime) {
  return {
    collection: runtime.paths.collection.path,
    pid: runtime.pid,
    gpg: runtime.gpg,
    passphrase: async (purpose: string) => {
      const answer = await runtime.passphrase(purpose);
      if (answer === undefined) throw passphraseMissing();
      return answer;
    },
  };
}

function recoveryFrom(runtime: Runtime): KeyFile | undefined {
  const { args, cwd, gpg } = runtime;
  const file = args.text('recovery-key');
  const passphraseFile = args.text('recovery-passphrase-file');
  if (file === undefined) {
    if (passphraseFile === undefined) return undefined;
    throw new SealiftError('invalid-argument', 'a passphrase was given for a recovery key, and no key', {
      subject: '--recovery-passphrase-file',
      hint: 'add --recovery-key FILE',
    });
  }
  return {
    file: keyPath(file, cwd),
    gpg,
    passphrase:
      passphraseFile === undefined
        ? signing(runtime).passphrase
        : async () => readPassphraseFile(path.resolve(cwd, passphraseFile), runtime),
  };
}

export const trustRenewCommand: Command = {
  words: ['trust', 'renew'],
  summary: 'sign roles anew before they expire',
  about:
    'Timestamp, snapshot and bundles are signed by every export; this is for the others: targets (a year), images (180 days), root (three years). Without --role it signs those whose keys are here, and root only in its last year. What was signed waits in the collection for the next bundle.',
  options: {
    role: { kind: 'list', value: 'ROLE', describe: 'only this role; may be given again' },
    expires: {
      kind: 'text',
      value: 'TIME',
      describe: 'for how long, such as 1y or 180d (default: as when it was made)',
    },
    ...requestOptions,
    ...recoveryOptions,
    ...signerOptions,
    ...passphraseOptions,
  },
  examples: ['sealift trust renew', 'sealift trust renew --role root --expires 3y'],
  run: async (runtime) => {
    const { args, workflows } = runtime;
    const expires = args.text('expires');
    const operations = await workflows.trustOperations();
    const result = await operations.renewRoles(
      {
        ...signingWith(runtime),
        roles: args.list('role'),
        lifetime: expires === undefined ? undefined : parseDuration(expires, '--expires'),
        recoveryKey: recoveryFrom(runtime),
        request: requestFrom(runtime),
      },
      await runtime.context(),
    );
    return { result, text: (view) => pendingText(result, view) };
  },
};

export const trustRemoveCommand: Command = {
  words: ['trust', 'remove'],
  summary: 'withdraw an image: every gate drops its tag',
  about:
    'Signs a tombstone with name, digest, reason and time. The next bundle carries it (one of metadata only is enough); a gate that imports it takes the tag out of the store and writes down why. The image comes back only when its name is exported again.',
  positionals: [
    { name: 'NAME', describe: 'full name, such as docker.io/library/nginx:1.29', required: true, many: true },
  ],
  options: {
    reason: { kind: 'text', value: 'TEXT', describe: 'why; shown to everybody who had the image' },
    ...requestOptions,
    ...signerOptions,
    ...passphraseOptions,
  },
  examples: [
    'sealift trust remove docker.io/library/nginx:1.29 --reason "CVE-2026-1234"',
    'sealift export --metadata-only --output withdrawal.tar',
  ],
  run: async (runtime) => {
    const { args, workflows } = runtime;
    const reason = args.text('reason');
    if (reason === undefined) {
      throw new SealiftError('invalid-argument', 'why is it withdrawn? --reason is missing', {
        subject: '--reason',
        hint: 'those who have the image will read it',
      });
    }
    const operations = await workflows.trustOperations();
    const result = await operations.withdrawNames(
      { ...signingWith(runtime), names: args.positionals('NAME'), reason, request: requestFrom(runtime) },
      await runtime.context(),
    );
    return { result, text: (view) => withdrawText(result, view) };
  },
};

export const trustKeyRotateCommand: Command = {
  words: ['trust', 'key', 'rotate'],
  summary: 'replace a key by a new one, everywhere or for some roles',
  about:
    'The new root is signed by the old keys and by the new one, so that every gate follows by itself, however long it slept. The old secret key is kept aside in keys/retired (with --stolen in keys/revoked). A new timestamp key makes gates forget the versions the old one signed, so that a thief who signed the highest number is recovered from. Where others must sign as well, --request writes what they are to sign; the old key stays in use until it is published.',
  options: {
    role: {
      kind: 'list',
      value: 'ROLE|all',
      describe: 'the role that gets a new key; may be given again',
    },
    replace: {
      kind: 'text',
      value: 'KEY',
      describe: 'key id or fingerprint of the key that goes, where a role has several',
    },
    stolen: {
      kind: 'flag',
      describe: 'the old key is in wrong hands: with OpenPGP its revocation certificate is published',
    },
    'new-passphrase-file': {
      kind: 'text',
      value: 'FILE',
      describe: "the first line of a file is the new key's passphrase (default: the same passphrase)",
    },
    'user-id': {
      kind: 'text',
      value: 'TEXT',
      describe: 'user id of a new OpenPGP key (default: the name of the collection)',
    },
    'new-signer': {
      kind: 'text',
      value: 'gpg:FINGERPRINT',
      describe: 'a key that gpg holds takes the place, instead of one that is made',
    },
    ...recoveryOptions,
    ...requestOptions,
    ...signerOptions,
    ...passphraseOptions,
  },
  examples: [
    'sealift trust key rotate --role images',
    'sealift trust key rotate --role root --request root.json',
    'sealift trust key rotate --role all --stolen --recovery-key /media/safe/acme-recovery.key',
  ],
  run: async (runtime) => {
    const { args, workflows, cwd } = runtime;
    const roles = args.list('role');
    if (roles.length === 0 || (roles.includes('all') && roles.length > 1)) {
      throw new SealiftError(
        'invalid-argument',
        'which role gets a new key? want --role ROLE or --role all',
        {
          subject: '--role',
          hint: 'sealift inspect COLLECTION shows roles and keys',
        },
      );
    }
    const newFile = args.text('new-passphrase-file');
    const operations = await workflows.trustOperations();
    const result = await operations.rotateKeys(
      {
        ...signingWith(runtime),
        roles: roles.includes('all') ? [] : roles,
        replace: args.text('replace'),
        stolen: args.flag('stolen'),
        userId: args.text('user-id'),
        newSigner: args.text('new-signer'),
        newPassphrase:
          newFile === undefined
            ? runtime.newPassphrase
            : async () => readPassphraseFile(path.resolve(cwd, newFile), runtime),
        recoveryKey: recoveryFrom(runtime),
        request: requestFrom(runtime),
      },
      await runtime.context(),
    );
    return {
      result,
      text: (view) => rotateText(result, view, args.flag('stolen')),
      quiet: result.newKey.fingerprint ?? result.newKey.keyId,
    };
  },
};
