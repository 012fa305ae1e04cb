import path from 'node:path';
import { inert } from '../../core/errors.ts';
import type { Command } from '../command.ts';
import { plural } from '../output/format.ts';

export const lookasideCommand: Command = {
  words: ['lookaside'],
  summary: 'write the OpenPGP signatures of the store where podman and skopeo look for them',
  about:
    'sealift serve hands signatures out itself. Clients that pull from a static tree, a bucket or a registry of your own find them in a lookaside: a directory that this command fills, that any web server serves, and that registries.d names (lookaside: https://images.example/signatures). What is there stays; nothing is written twice.',
  positionals: [{ name: 'DIRECTORY', describe: 'where the signatures are written', required: true }],
  options: {},
  examples: ['sealift lookaside /srv/www/signatures'],
  run: async (runtime) => {
    const { args, cwd, paths } = runtime;
    const { writeStoreLookaside } = await import('../../core/evidence/store-lookaside.ts');
    const result = await writeStoreLookaside(
      { store: paths.store.path, directory: path.resolve(cwd, args.positional('DIRECTORY') ?? '') },
      await runtime.context(),
    );
    const signed = new Set(result.signatures.map(({ name }) => name)).size;
    return {
      result,
      text: ({ style }) =>
        [
          `${style.pass} ${style.good('written')}  ${style.bold(inert(result.directory, 4096))}: ${plural(result.signatures.length, 'signature file')} of ${plural(signed, 'image')}`,
          ...result.unsigned.map((name) => `  no signature: ${inert(name)}`),
        ].join('\n'),
      quiet: result.directory,
    };
  },
};
