import type { Command } from '../command.ts';
import { parseStoreLocation } from '../options/paths.ts';
import { listText } from '../output/report.ts';

export const lsCommand: Command = {
  words: ['ls'],
  summary: 'list the images in the store',
  positionals: [{ name: 'STORE', describe: 'store:DIR (default: the path of --store)' }],
  options: {},
  examples: ['sealift ls', 'sealift ls --json | jq -r .result.images[].name'],
  run: async ({ args, paths, workflows, cwd }) => {
    const given = args.positional('STORE');
    const store = given === undefined ? paths.store.path : parseStoreLocation(given, cwd);
    const listing = await workflows.listStore(store);
    return {
      result: { store, ...listing },
      text: (view) => listText(listing, store, view),
      quiet: listing.images.map((image) => image.name).join('\n'),
    };
  },
};
