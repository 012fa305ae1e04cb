import path from 'node:path';
import type { KeyFile } from '../../core/trust-ops/index.ts';
import type { OptionGroup } from '../args.ts';
import type { Runtime } from '../command.ts';
import { keyPath } from './signer.ts';

/** Options of commands whose result may need other people's signatures. */
export const requestOptions = {
  request: {
    kind: 'text',
    value: 'FILE',
    describe: 'write what is to be signed to a file that goes from holder to holder (sealift trust sign)',
  },
} as const satisfies OptionGroup;

export function requestFrom({ args, cwd }: Runtime): string | undefined {
  const file = args.text('request');
  return file === undefined ? undefined : path.resolve(cwd, file);
}

/** Secret keys in files of their own, each asked for its passphrase, or held by gpg. */
export function keyFiles(
  { args, cwd, gpg }: Runtime,
  option: string,
  passphrase: KeyFile['passphrase'],
): readonly KeyFile[] {
  return args.list(option).map((file) => ({ file: keyPath(file, cwd), passphrase, gpg }));
}
