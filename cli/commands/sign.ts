import { inert, SealiftError } from '../../core/errors.ts';
import { readFileLimited } from '../../core/fs/durable.ts';
import type { Command } from '../command.ts';
import { passphraseOptions } from '../options/passphrase.ts';
import { keyPath } from '../options/signer.ts';
import { archiveOptions, sourceOptions } from '../options/source.ts';
import { sourceOptionsOf } from '../options/source-settings.ts';

const MAX_KEY_BYTES = 1024 * 1024;

export const signCommand: Command = {
  words: ['sign'],
  summary: 'sign an image with an OpenPGP key, as podman and skopeo accept it',
  about:
    'Writes simple-signing signatures (containers-signature(5)) of the image, and of each of its platforms, into a lookaside directory: sealift export, podman and skopeo find them there over registries.d. IMAGE is what export takes; NAME=LOCATION signs under that name. Use an RSA key: not every engine knows others.',
  positionals: [{ name: 'IMAGE', describe: '[NAME=]LOCATION', required: true }],
  options: {
    key: {
      kind: 'text',
      value: 'FILE',
      describe: 'the OpenPGP secret key (gpg --export-secret-keys), or gpg:FINGERPRINT',
    },
    lookaside: { kind: 'text', value: 'DIRECTORY', describe: 'where the signatures are written' },
    ...sourceOptions,
    ...archiveOptions,
    ...passphraseOptions,
  },
  examples: [
    'sealift sign registry.example.com/app/web:1.0 --key gpg:FINGERPRINT --lookaside /srv/signatures',
    'sealift sign registry.example.com/app/web:1.0 --key release.asc --lookaside /srv/signatures',
    'sealift sign registry.example.com/app/web:1.0=oci:./build --key release.asc --lookaside signatures',
  ],
  run: async (runtime) => {
    const { args, workflows, cwd, passphrase } = runtime;
    const needed = (name: string): string => {
      const text = args.text(name);
      if (text === undefined)
        throw new SealiftError('invalid-argument', `option --${name} is missing`, { subject: `--${name}` });
      return keyPath(text, cwd);
    };
    const keyFile = needed('key');
    const lookaside = needed('lookaside');
    const isHeld = keyFile.startsWith('gpg:');
    const key = isHeld ? undefined : await readFileLimited(keyFile, MAX_KEY_BYTES);
    if (!key && !isHeld)
      throw new SealiftError('invalid-argument', 'there is no key at that place', { subject: keyFile });
    const image = await workflows.parseLocation(args.positional('IMAGE') ?? '');
    const { signImage } = await import('../../core/evidence/sign.ts');
    const result = await signImage(
      {
        image,
        key,
        keyFile,
        passphrase,
        gpg: runtime.gpg,
        lookaside,
        source: await sourceOptionsOf(runtime),
      },
      await runtime.context(),
    );
    return {
      result,
      text: ({ style }) =>
        [
          `${style.pass} ${style.good('signed')}  ${style.bold(inert(result.name))}`,
          `  by ${result.signer}`,
          ...result.signatures.map(({ digest, file }) => `  ${digest}  ${inert(file, 4096)}`),
        ].join('\n'),
      quiet: result.signatures[0]?.file,
    };
  },
};
