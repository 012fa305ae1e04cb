import type { Command } from '../command.ts';
import { parseStoreLocation } from '../options/paths.ts';
import { garbageText } from '../output/report.ts';

export const gcCommand: Command = {
  words: ['gc'],
  summary: 'remove blobs from the store that no image needs',
  about:
    'Layers that an unexpired receipt lists stay too, since the other side may leave them out. The audit log of the gate is told what is removed.',
  positionals: [{ name: 'STORE', describe: 'store:DIR (default: the path of --store)' }],
  options: {
    'dry-run': { kind: 'flag', alias: 'n', describe: 'say what would be removed, and remove nothing' },
  },
  examples: ['sealift gc --dry-run', 'sealift gc store:/srv/images'],
  run: async (runtime) => {
    const { args, paths, workflows, pid, cwd, actor, now } = runtime;
    const given = args.positional('STORE');
    const store = given === undefined ? paths.store.path : parseStoreLocation(given, cwd);
    const limits = await workflows.limits();
    const result = await workflows.collectGarbage(
      { store, gate: paths.gate.path, dryRun: args.flag('dry-run'), pid, actor },
      { now, limits },
    );
    return { result, text: (view) => garbageText(result, view) };
  },
};
