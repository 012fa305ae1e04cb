/** A bundle into volumes and back. */
import path from 'node:path';
import { parseVolumeSize } from '../../core/bundle/volumes/names.ts';
import { SealiftError } from '../../core/errors.ts';
import type { Command } from '../command.ts';
import { outputFile } from '../options/paths.ts';
import { mediumFrom, mediumOptions, readBackFrom, readBackOptions } from '../options/volumes.ts';
import { joinText, splitText } from '../output/volumes.ts';

export const bundleSplitCommand: Command = {
  words: ['bundle', 'split'],
  summary: 'cut a bundle into volumes that a medium or a file system holds',
  about:
    'The volumes are the bytes of the bundle: cat NAME.tar.??? gives it back. NAME.volumes.json beside them tells later which one is damaged. Sizes: fat32 (4 GiB less one byte), dvd, bd25, or a number with KiB, MiB, GiB, KB, MB, GB.',
  positionals: [{ name: 'BUNDLE', describe: 'the bundle', required: true }],
  options: {
    'volume-size': {
      kind: 'text',
      value: 'SIZE',
      describe: 'bytes of a volume: 4GiB, 700MB, fat32, dvd, bd25',
    },
    output: { kind: 'text', alias: 'o', value: 'DIR', describe: 'the directory for the volumes' },
    'only-volume': { kind: 'text', value: 'N', describe: 'write this volume alone, to replace one' },
    force: { kind: 'flag', describe: 'replace volumes that are already there' },
    ...readBackOptions,
  },
  examples: [
    'sealift bundle split images.tar --volume-size fat32 -o /media/stick',
    'sealift bundle split images.tar --volume-size dvd --only-volume 3 -o ./again',
  ],
  run: async (runtime) => {
    const { args, cwd, workflows } = runtime;
    const size = args.text('volume-size');
    const output = args.text('output');
    if (size === undefined || output === undefined) {
      const missing = size === undefined ? '--volume-size' : '--output';
      throw new SealiftError('invalid-argument', `${missing} is missing`, {
        subject: missing,
        hint: 'sealift bundle split images.tar --volume-size fat32 -o /media/stick',
      });
    }
    const result = await workflows.splitBundle(
      {
        bundle: path.resolve(cwd, args.positional('BUNDLE') ?? ''),
        volumeSize: parseVolumeSize(size),
        directory: path.resolve(cwd, output),
        only: args.integer('only-volume', 1, 999),
        force: args.flag('force'),
        readBack: readBackFrom(runtime),
      },
      await runtime.context(),
    );
    return { result, text: (view) => splitText(result, view), quiet: result.directory };
  },
};

export const bundleJoinCommand: Command = {
  words: ['bundle', 'join'],
  summary: 'put the volumes of a bundle together into one file',
  about:
    'Headers, padding and the hash of every blob are checked on the way; signatures are not: sealift verify does that. Nothing need be joined to be imported: sealift import takes volumes.',
  positionals: [
    {
      name: 'VOLUME',
      describe: 'a directory of volumes, or volumes in any order',
      required: true,
      many: true,
    },
  ],
  options: {
    output: { kind: 'text', alias: 'o', value: 'FILE', describe: 'the bundle to write' },
    force: { kind: 'flag', describe: 'replace a file that is already there' },
    ...mediumOptions,
  },
  examples: [
    'sealift bundle join /media/stick -o images.tar',
    'sealift bundle join /media/a/images.tar.001 /media/b/images.tar.002 -o images.tar',
  ],
  run: async (runtime) => {
    const { args, cwd, workflows } = runtime;
    const output = args.text('output');
    if (output === undefined || output === '-') {
      throw new SealiftError('invalid-argument', 'where does the bundle go? want --output FILE', {
        subject: '--output',
        hint: 'to standard output: cat images.tar.???',
      });
    }
    const [first = '', ...more] = args.positionals('VOLUME').map((one) => path.resolve(cwd, one));
    const result = await workflows.joinBundle(
      {
        volumes: [first, ...more],
        output: outputFile(output, cwd),
        force: args.flag('force'),
        medium: mediumFrom(runtime),
      },
      await runtime.context(),
    );
    return { result, text: (view) => joinText(result, view), quiet: result.output };
  },
};
