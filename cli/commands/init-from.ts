/** `sealift init --from`: going on where a machine died. */
import path from 'node:path';
import { SealiftError } from '../../core/errors.ts';
import type { OptionGroup } from '../args.ts';
import type { Outcome, Runtime } from '../command.ts';
import { keyPath } from '../options/signer.ts';
import { parseFingerprint } from '../options/values.ts';
import { continueText } from '../output/continue-report.ts';

export const continueOptions = {
  from: {
    kind: 'text',
    value: 'BUNDLE',
    describe: 'go on with the collection that made this bundle; wants --fingerprint',
  },
  fingerprint: {
    kind: 'text',
    value: 'SHA256',
    describe: 'of its root, as the sealed side pinned it (sealift trust status there)',
  },
  key: {
    kind: 'list',
    value: 'FILE',
    describe: 'a secret key of the collection from its backup, or gpg:FINGERPRINT; may be given again',
  },
  'last-version': {
    kind: 'text',
    value: 'N',
    describe: 'the version the sealed side has accepted, where the bundle may be an older one',
  },
  receipt: {
    kind: 'list',
    value: 'FILE',
    describe: 'a receipt of the sealed side, which tells that version itself; may be given again',
  },
} as const satisfies OptionGroup;

export async function continueFrom(runtime: Runtime, directory: string): Promise<Outcome> {
  const { args, cwd } = runtime;
  for (const option of [
    'name',
    'keys',
    'user-id',
    'recovery-key',
    'recovery-passphrase-file',
    'signer',
    'created',
  ])
    if (args.text(option) !== undefined) {
      throw new SealiftError('invalid-argument', `--from makes no keys and no name, got --${option}`, {
        subject: `--${option}`,
      });
    }
  const fingerprint = args.text('fingerprint');
  if (fingerprint === undefined) {
    throw new SealiftError('invalid-argument', 'which root is the right one? --fingerprint is missing', {
      subject: '--fingerprint',
      hint: 'sealift trust status shows it on the sealed side; never take it from the bundle itself',
    });
  }
  const operations = await runtime.workflows.trustOperations();
  const result = await operations.continueCollection(
    {
      bundle: path.resolve(cwd, (args.text('from') ?? '').replace(/^bundle:/, '')),
      fingerprint: parseFingerprint(fingerprint, '--fingerprint'),
      directory,
      keys: args.list('key').map((file) => keyPath(file, cwd)),
      lastVersion: args.integer('last-version', 1, Number.MAX_SAFE_INTEGER),
      receipts: args.list('receipt').map((file) => path.resolve(cwd, file)),
      passphrase: runtime.passphrase,
      gpg: runtime.gpg,
      pid: runtime.pid,
    },
    await runtime.context(),
  );
  return { result, text: (view) => continueText(result, view), quiet: result.rootFingerprint };
}
