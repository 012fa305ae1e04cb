import path from 'node:path';
import { SealiftError } from '../../core/errors.ts';
import { readFileLimited } from '../../core/fs/durable.ts';
import type { ExportOptions } from '../../core/workflow-options.ts';
import type { OptionGroup } from '../args.ts';
import type { Runtime } from '../command.ts';

export const encryptOptions = {
  'encrypt-to': {
    kind: 'list',
    value: 'CERT',
    describe:
      'encrypt to this OpenPGP certificate, so that only its owner can read the bundle; may be given again. It keeps the content secret and is no signature',
  },
} as const satisfies OptionGroup;

const MAX_CERTIFICATE = 1024 * 1024;

/** @throws SealiftError `invalid-argument` where there is no such file */
export async function encryptionFrom({ args, cwd }: Runtime): Promise<Pick<ExportOptions, 'encryptTo'>> {
  const files = args.list('encrypt-to').map((file) => path.resolve(cwd, file));
  if (files.length === 0) return {};
  const encryptTo = await Promise.all(
    files.map(async (file) => {
      const bytes = await readFileLimited(file, MAX_CERTIFICATE);
      if (bytes) return { path: file, bytes };
      throw new SealiftError('invalid-argument', 'there is no certificate at that place', {
        subject: file,
        hint: 'write one with: gpg --export --armor FINGERPRINT > recipient.asc',
      });
    }),
  );
  return { encryptTo };
}
