import { SealiftError } from '../../core/errors.ts';
import type { SyncResult } from '../../core/sync.ts';
import type { Command, TextView } from '../command.ts';
import { transferOptions } from '../options/common.ts';
import { bucketOptions, parseDestination, publishOptions, publishRequest } from '../options/destination.ts';
import { parseStoreLocation } from '../options/paths.ts';
import { destinationLines } from '../output/publish-text.ts';

export const syncCommand: Command = {
  words: ['sync'],
  summary: 'publish what is in the store where any client can pull it',
  about:
    'LOCATION is static:DIRECTORY, a tree of files that any web server turns into a registry, with configurations for nginx and Caddy beside it; or s3://BUCKET[/PREFIX], with credentials as AWS tools find them. A catalog page is put there too. What is there already is not sent again, and an interrupted sync goes on when the same command is run again. Only images that were let in through a gate are published.',
  positionals: [
    {
      name: 'LOCATION',
      describe: 'where to: static:DIRECTORY or s3://BUCKET[/PREFIX]',
      required: true,
      many: true,
    },
  ],
  options: {
    ...publishOptions,
    'hard-link': {
      kind: 'flag',
      describe:
        'share blobs with the store instead of copying them, on one file system; whoever can write to the tree can then write to the store',
    },
    'dry-run': { kind: 'flag', alias: 'n', describe: 'say what would be done, and do nothing' },
    ...bucketOptions,
    ...transferOptions,
  },
  examples: [
    'sealift sync static:/srv/images',
    'sealift sync static:/srv/images --hard-link',
    'sealift sync static:/srv/images --prune --dry-run',
    'sealift sync static:/srv/images --map docker.io/acme=acme --host images.example',
    'sealift sync s3://images --endpoint-url https://s3.example',
    'sealift sync s3://images --endpoint-url https://s3.example --repair',
    'sealift sync --store /srv/store static:/srv/images static:/mnt/mirror',
  ],
  run: async (runtime) => {
    const { args, paths, workflows, cwd, pid } = runtime;
    const given = args.positionals('LOCATION');
    const [first] = given;
    const fromStore = first?.startsWith('store:') === true;
    const locations = fromStore ? given.slice(1) : given;
    const store = fromStore && first !== undefined ? parseStoreLocation(first, cwd) : paths.store.path;
    if (locations.length === 0) {
      throw new SealiftError('invalid-argument', 'where are the images to go? there is no LOCATION', {
        subject: 'LOCATION',
        hint: 'add one, as in sealift sync static:/srv/images',
      });
    }
    const result = await workflows.sync(
      {
        store,
        ...publishRequest(
          args,
          locations.map((location) => parseDestination(location, cwd)),
          runtime.env,
        ),
        hardLink: args.flag('hard-link'),
        gate: paths.gate.path,
        dryRun: args.flag('dry-run'),
        concurrency: args.integer('concurrency', 1, 64) ?? 4,
        pid,
      },
      await runtime.context(),
    );
    return { result, text: (view) => syncText(result, view) };
  },
};

function syncText(result: SyncResult, { style }: TextView): string {
  const { dryRun } = result;
  const lines = result.destinations.flatMap((one) =>
    destinationLines(one, result.images.length, dryRun, style),
  );
  if (dryRun) lines.push('  nothing was changed (--dry-run)');
  return lines.join('\n');
}
