import { SealiftError } from '../../core/errors.ts';
import type { Args, OptionGroup } from '../args.ts';
import type { Command } from '../command.ts';
import { EXIT_CODES } from '../exit-codes.ts';
import { baseFrom, baseOptions } from '../options/base.ts';
import { approvalsFrom, bundleFrom, decryptOptions, encryptedFrom, judgeOptions } from '../options/bundle.ts';
import { checkCommandFrom, checkCommandOptions } from '../options/check-command.ts';
import { transferOptions } from '../options/common.ts';
import {
  bucketOptions,
  type DestinationSpec,
  isDestination,
  openPublishing,
  parseDestination,
  publishOptions,
  publishRequest,
} from '../options/destination.ts';
import { parseStoreLocation } from '../options/paths.ts';
import { mediumOptions } from '../options/volumes.ts';
import { importText, refusedImages } from '../output/report.ts';

export const importCommand: Command = {
  words: ['import'],
  summary: 'let verified images into the store, or straight to where clients pull them',
  about:
    'All checks are made before the first layer is read; what fails them never appears in the store. On a terminal you are asked before anything is let in (--yes does not ask); without a terminal nothing is asked. Of a bundle in volumes the first one is enough where the others lie beside it; those that do not are asked for, medium by medium, in any order. An import that was interrupted goes on when the same command is run again. With --to static:DIRECTORY or s3://BUCKET[/PREFIX] the images go straight from the bundle to a directory or bucket that any client pulls from, without a copy in a store; the gate keeps what was let in there.',
  positionals: [
    {
      name: 'BUNDLE',
      describe: 'the file, a directory of volumes, or volumes; - is standard input',
      required: true,
      many: true,
    },
  ],
  options: {
    to: {
      kind: 'list',
      value: 'LOCATION',
      describe:
        'store:DIR, static:DIR or s3://BUCKET[/PREFIX]; may be given again (default: the path of --store)',
    },
    only: { kind: 'list', value: 'NAME', describe: 'only this image; may be given again' },
    'admit-passing': {
      kind: 'flag',
      describe: 'let in what the policy takes where it refuses other images (without it: nothing then)',
    },
    ...checkCommandOptions,
    ...mediumOptions,
    ...decryptOptions,
    ...baseOptions,
    ...publishOptions,
    ...bucketOptions,
    ...judgeOptions,
    ...transferOptions,
  },
  examples: [
    'sealift import /media/stick/images.tar',
    'sealift import /media/stick/images.tar.001',
    'sealift import /media/a/images.tar.001 /media/b/images.tar.002',
    'sealift import images.tar.gpg --decrypt-key gatekeeper.asc',
    'sealift import images.tar.gpg --decrypt-key gpg:FINGERPRINT',
    'sealift import delta.tar --blobs-from last-month.tar',
    'sealift import images.tar --check-command "clamscan --recursive --infected {}"',
    'sealift import --yes --only docker.io/library/alpine:3.20 --to store:/srv/images images.tar',
    'sealift import --to static:/srv/www/images /media/stick/images.tar',
    'sealift import --to static:/srv/www/images delta.tar',
    'sealift import --to s3://images --endpoint-url https://s3.example /media/stick/images.tar',
  ],
  run: async (runtime) => {
    const { args, paths, workflows, confirm } = runtime;
    const to = args.list('to');
    if (to.length > 0 && args.text('store') !== undefined) {
      throw new SealiftError('invalid-argument', 'got both --to and --store, want one of them', {
        subject: '--to',
      });
    }
    const { stores, published } = sortLocations(to, runtime.cwd);
    const store = to.length === 0 ? paths.store.path : stores[0];
    const publish = publishRequest(args, published, runtime.env);
    refuseUnused(args, published.length > 0);
    const concurrency = args.integer('concurrency', 1, 64) ?? 4;
    const bundle = (await encryptedFrom(runtime)) ?? bundleFrom(runtime);
    const checkCommand = checkCommandFrom(runtime);
    const context = await runtime.context();
    const result = await workflows.importBundle(
      {
        bundle,
        gate: paths.gate.path,
        store,
        ...(published.length > 0 && {
          direct: {
            ...(await openPublishing(publish, runtime.pid)),
            host: publish.host,
            prune: publish.prune,
            repair: publish.repair,
          },
        }),
        only: args.list('only'),
        admitPassing: args.flag('admit-passing'),
        ...approvalsFrom(runtime),
        ...(checkCommand === undefined ? {} : { checkCommand }),
        ...baseFrom(runtime),
        device: async (file) => (await import('../../core/fs/device.ts')).inspectDevice(file),
        overrides: { allowClockJump: args.flag('allow-clock-jump') },
        ...(confirm === undefined
          ? {}
          : { confirm: (found) => confirm(found, to.length === 0 ? paths.store.path : to.join(', ')) }),
        concurrency,
        pid: runtime.pid,
        actor: runtime.actor,
      },
      context,
    );
    const damaged = (result.destinations ?? []).some(({ images }) => images.damaged.length > 0);
    const refused = damaged || refusedImages(result).length > 0;
    const some = result.imported.length + result.unchanged.length > 0;
    return {
      result,
      text: (view) => importText(result, view),
      exitCode: !refused ? EXIT_CODES.done[0] : some ? EXIT_CODES.partly[0] : EXIT_CODES.trust[0],
    };
  },
};

/** Stores and places that clients pull from, of what --to names. */
function sortLocations(
  to: readonly string[],
  cwd: string,
): { readonly stores: readonly string[]; readonly published: readonly DestinationSpec[] } {
  const stores = to.filter((text) => !isDestination(text)).map((text) => parseStoreLocation(text, cwd));
  if (stores.length > 1) {
    throw new SealiftError('invalid-argument', 'option --to: got two stores, want one at most', {
      subject: '--to',
      hint: 'import the bundle into each',
    });
  }
  const published = to.filter(isDestination).map((text) => parseDestination(text, cwd));
  return { stores, published };
}

function refuseUnused(args: Args, publishes: boolean): void {
  if (publishes) return;
  const options: OptionGroup = { ...publishOptions, ...bucketOptions };
  const unused = Object.keys(options).find((name) => {
    const kind = options[name]?.kind;
    if (kind === 'flag') return args.flag(name);
    return kind === 'list' ? args.list(name).length > 0 : args.text(name) !== undefined;
  });
  if (unused === undefined) return;
  throw new SealiftError('invalid-argument', `option --${unused} means nothing for a store`, {
    subject: `--${unused}`,
    hint: 'name where clients pull from, as in --to static:/srv/www/images',
  });
}
