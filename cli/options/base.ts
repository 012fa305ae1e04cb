import path from 'node:path';
import type { OptionGroup } from '../args.ts';
import type { Runtime } from '../command.ts';
import { bundlePath } from './bundle.ts';

/** Where the layers of a delta are looked for. */
export const blobsFromOptions = {
  'blobs-from': {
    kind: 'list',
    value: 'PLACE',
    describe:
      'look for layers that a delta left out in this earlier bundle or store, whatever its age; its bytes are checked, nothing else of it counts; may be given again',
  },
} as const satisfies OptionGroup;

/** Paths of `--blobs-from`. */
export function blobsFrom({ args, cwd }: Pick<Runtime, 'args' | 'cwd'>): readonly string[] {
  return args.list('blobs-from').map((text) => bundlePath(text.replace(/^store:/, ''), cwd));
}

/** Options of commands that take a delta in. */
export const baseOptions = {
  ...blobsFromOptions,
  request: {
    kind: 'text',
    value: 'FILE',
    describe:
      "where a delta's base is missing, write what the other side takes with export --since; nothing is written otherwise",
  },
  'check-base': {
    kind: 'flag',
    describe: 'read and hash what the store has of the layers that a delta left out',
  },
} as const satisfies OptionGroup;

/** Values of {@link baseOptions}. */
export function baseFrom(runtime: Pick<Runtime, 'args' | 'cwd'>): {
  readonly blobsFrom: readonly string[];
  readonly checkBase: boolean;
  readonly request?: string;
} {
  const { args, cwd } = runtime;
  const request = args.text('request');
  return {
    ...(request === undefined ? {} : { request: path.resolve(cwd, request) }),
    blobsFrom: blobsFrom(runtime),
    checkBase: args.flag('check-base'),
  };
}
