import type { Command } from '../command.ts';
import { parseStoreLocation } from '../options/paths.ts';
import { garbageText } from '../output/report.ts';

export const gcCommand: Command = {
  words: ['gc'],
  summary: 'remove blobs from the store that no image needs',
  about: 'Layers that an unexpired receipt lists stay too, since the other side may leave them out.',
  positionals: [{ name: 'STORE', describe: 'store:DIR (default: the path of --store)' }],
  options: {
    'dry-run': { kind: 'flag', alias: 'n', describe: 'say what would be removed, and remove nothing' },
  },
  examples: ['sealift gc --dry-run', 'sealift gc store:/srv/images'],
  run: async ({ args, paths, workflows, pid, cwd, now }) => {
    const given = args.positional('STORE');
    const store = given === undefined ? paths.store.path : parseStoreLocation(given, cwd);
    const result = await workflows.collectGarbage(store, { dryRun: args.flag('dry-run'), pid, now });
    return { result, text: (view) => garbageText(result, view) };
  },
};
