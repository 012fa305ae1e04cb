import { existsSync } from 'node:fs';
import path from 'node:path';
import type { Command, Runtime } from '../command.ts';
import { blobsFrom, blobsFromOptions } from '../options/base.ts';
import { archiveOptions, sourceOptions } from '../options/source.ts';
import { sourceOptionsOf } from '../options/source-settings.ts';
import { diffText } from '../output/diff-report.ts';

export const diffCommand: Command = {
  words: ['diff'],
  summary: 'show what changed between two bundles, stores or images',
  about:
    'Compares names, platforms, layers, labels, settings and evidence, and packages where both sides have SBOMs; --files reads the layers and compares the files in them. FIRST is what you have, SECOND what would come. It compares claims and judges nothing: what is true of a bundle, sealift verify tells.',
  positionals: [
    { name: 'FIRST', describe: 'a bundle, a store, a receipt or an image', required: true },
    { name: 'SECOND', describe: 'a bundle, a store or an image', required: true },
  ],
  options: {
    files: { kind: 'flag', describe: 'compare the files in the layers of images that moved' },
    format: {
      kind: 'text',
      value: 'KIND',
      choices: ['text', 'tree', 'json'],
      describe: 'text (default), tree, or json: the same as --json',
    },
    ...blobsFromOptions,
    ...sourceOptions,
    ...archiveOptions,
  },
  examples: [
    'sealift diff /var/lib/sealift/store /media/stick/april.tar',
    'sealift diff --files --format tree march.tar april.tar',
    'sealift diff --files delta-april.tar delta-may.tar --blobs-from march.tar',
    'sealift diff receipt.json april.tar',
    'sealift diff alpine:3.20 alpine:3.21',
  ],
  run: async (runtime) => {
    const { args, workflows } = runtime;
    const result = await workflows.diff(
      {
        before: place(args.positional('FIRST') ?? '', runtime),
        after: place(args.positional('SECOND') ?? '', runtime),
        files: args.flag('files'),
        blobsFrom: blobsFrom(runtime),
        source: await sourceOptionsOf(runtime),
      },
      await runtime.context(),
    );
    return { result, text: (view) => diffText(result, view, args.text('format') === 'tree') };
  },
};

/** A bare path is looked at; everything else is spelt as a location. */
function place(text: string, { cwd }: Runtime): string {
  const file = path.resolve(cwd, text.replace(/^(?:bundle|store):(?=[^:]*$)/, ''));
  return existsSync(file) ? file : text;
}
