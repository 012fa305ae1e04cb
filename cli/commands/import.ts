import { SealiftError } from '../../core/errors.ts';
import type { Command } from '../command.ts';
import { EXIT_CODES } from '../exit-codes.ts';
import { baseFrom, baseOptions } from '../options/base.ts';
import { bundleFrom, judgeOptions } from '../options/bundle.ts';
import { transferOptions } from '../options/common.ts';
import { parseStoreLocation } from '../options/paths.ts';
import { mediumOptions } from '../options/volumes.ts';
import { importText, refusedImages } from '../output/report.ts';

export const importCommand: Command = {
  words: ['import'],
  summary: 'let verified images into the store',
  about:
    'All checks are made before the first layer is read; what fails them never appears in the store. On a terminal you are asked before anything is let in (--yes does not ask); without a terminal nothing is asked. Of a bundle in volumes the first one is enough where the others lie beside it; those that do not are asked for, medium by medium, in any order. An import that was interrupted goes on when the same command is run again.',
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
      kind: 'text',
      value: 'store:DIR',
      describe: 'the store to import into (default: the path of --store)',
    },
    only: { kind: 'list', value: 'NAME', describe: 'only this image; may be given again' },
    'admit-passing': {
      kind: 'flag',
      describe: 'let in what the policy takes where it refuses other images (without it: nothing then)',
    },
    ...mediumOptions,
    ...baseOptions,
    ...judgeOptions,
    ...transferOptions,
  },
  examples: [
    'sealift import /media/stick/images.tar',
    'sealift import /media/stick/images.tar.001',
    'sealift import /media/a/images.tar.001 /media/b/images.tar.002',
    'sealift import delta.tar --blobs-from last-month.tar',
    'sealift import --yes --only docker.io/library/alpine:3.20 --to store:/srv/images images.tar',
  ],
  run: async (runtime) => {
    const { args, paths, workflows, confirm } = runtime;
    const to = args.text('to');
    if (to !== undefined && args.text('store') !== undefined) {
      throw new SealiftError('invalid-argument', 'got both --to and --store, want one of them', {
        subject: '--to',
      });
    }
    const store = to === undefined ? paths.store.path : parseStoreLocation(to, runtime.cwd);
    const concurrency = args.integer('concurrency', 1, 64) ?? 4;
    const bundle = bundleFrom(runtime);
    const context = await runtime.context();
    const result = await workflows.importBundle(
      {
        bundle,
        gate: paths.gate.path,
        store,
        only: args.list('only'),
        admitPassing: args.flag('admit-passing'),
        ...baseFrom(runtime),
        overrides: { allowClockJump: args.flag('allow-clock-jump') },
        ...(confirm === undefined ? {} : { confirm: (found) => confirm(found, store) }),
        concurrency,
        pid: runtime.pid,
        actor: runtime.actor,
      },
      context,
    );
    const refused = refusedImages(result).length > 0;
    const some = result.imported.length + result.unchanged.length > 0;
    return {
      result,
      text: (view) => importText(result, view),
      exitCode: !refused ? EXIT_CODES.done[0] : some ? EXIT_CODES.partly[0] : EXIT_CODES.trust[0],
    };
  },
};
