import { inert, SealiftError } from '../../core/errors.ts';
import type { SyncResult } from '../../core/sync.ts';
import type { Command, TextView } from '../command.ts';
import { transferOptions } from '../options/common.ts';
import { bucketAccess, bucketOptions, parseDestination, parseGrace } from '../options/destination.ts';
import { parseStoreLocation } from '../options/paths.ts';
import { formatSize, plural } from '../output/format.ts';

const DEFAULT_GRACE = '24h';

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
    prefix: {
      kind: 'text',
      value: 'REPOSITORY',
      describe: 'put it before every repository at the destination',
    },
    map: {
      kind: 'list',
      value: 'FROM=TO',
      describe: 'repositories whose names begin with FROM are put under TO; may be given again',
    },
    host: {
      kind: 'text',
      value: 'HOST',
      describe: 'how clients reach the destination, for the catalog page',
    },
    prune: { kind: 'flag', describe: 'take away at the destination what is not in the store' },
    grace: {
      kind: 'text',
      value: 'TIME',
      describe: `with --prune: how long content stays after its last tag went away (default ${DEFAULT_GRACE})`,
    },
    'dry-run': { kind: 'flag', alias: 'n', describe: 'say what would be done, and do nothing' },
    ...bucketOptions,
    ...transferOptions,
  },
  examples: [
    'sealift sync static:/srv/images',
    'sealift sync static:/srv/images --prune --dry-run',
    'sealift sync static:/srv/images --map docker.io/acme=acme --host images.example',
    'sealift sync s3://images --endpoint-url https://s3.example',
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
    const graceText = args.text('grace');
    const prune = args.flag('prune');
    if (graceText !== undefined && !prune) {
      throw new SealiftError('invalid-argument', 'option --grace means nothing without --prune', {
        subject: '--grace',
      });
    }
    const result = await workflows.sync(
      {
        store,
        destinations: locations.map((location) => parseDestination(location, cwd)),
        access: bucketAccess(args, runtime.env),
        prefix: args.text('prefix'),
        map: args.list('map'),
        host: args.text('host'),
        prune: prune ? { grace: parseGrace(graceText ?? DEFAULT_GRACE, '--grace') } : undefined,
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
  const lines: string[] = [];
  const { dryRun } = result;
  for (const one of result.destinations) {
    const location = inert(one.location, 4096);
    if (!one.changed) {
      lines.push(
        `${style.pass} ${style.good('unchanged')}  ${location}: all ${plural(result.images.length, 'image')} were there already`,
      );
    } else {
      const mark = dryRun ? style.skip : style.pass;
      lines.push(
        `${mark} ${dryRun ? 'would publish' : style.good('published')}  ${plural(result.images.length, 'image')} at ${location}`,
      );
      lines.push(
        `  ${dryRun ? 'to send' : 'sent'} ${plural(one.sent.blobs, 'blob')}, ${formatSize(one.sent.bytes)}; there already ${plural(one.present.blobs, 'blob')}, ${formatSize(one.present.bytes)}; ${dryRun ? 'to copy' : 'copied'} over there ${plural(one.copied.blobs, 'blob')}`,
      );
      lines.push(
        `  tags ${dryRun ? 'to set' : 'set'} ${one.tags.set.length}, unchanged ${one.tags.unchanged}, ${dryRun ? 'to remove' : 'removed'} ${one.tags.removed.length}`,
      );
      for (const tag of one.tags.removed)
        lines.push(`  ${dryRun ? 'would remove' : 'removed'} ${inert(tag)}`);
      if (one.removed.objects > 0)
        lines.push(
          `  ${dryRun ? 'would delete' : 'deleted'} ${plural(one.removed.objects, 'object')}, ${formatSize(one.removed.bytes)}`,
        );
    }
    if (one.waiting.objects > 0) {
      lines.push(
        `  ${plural(one.waiting.objects, 'object')}, ${formatSize(one.waiting.bytes)}, ${one.waiting.objects === 1 ? 'is' : 'are'} not needed any more; a later sync with --prune deletes what has waited long enough`,
      );
    }
    if (one.tags.unknown.length > 0) {
      lines.push(
        `  ${style.attention} ${plural(one.tags.unknown.length, 'tag')} at the destination, not in the store: ${one.tags.unknown
          .slice(0, 5)
          .map((tag) => inert(tag))
          .join(', ')}${one.tags.unknown.length > 5 ? ', …' : ''}; --prune takes them away`,
      );
    }
  }
  if (dryRun) lines.push('  nothing was changed (--dry-run)');
  return lines.join('\n');
}
