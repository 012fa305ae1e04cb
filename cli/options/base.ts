import path from 'node:path';
import type { OptionGroup } from '../args.ts';
import type { Runtime } from '../command.ts';
import { bundlePath } from './bundle.ts';

/** Options of commands that take a delta in. */
export const baseOptions = {
  'blobs-from': {
    kind: 'list',
    value: 'BUNDLE',
    describe:
      'take layers that a delta left out from this earlier bundle, whatever its age; its bytes are checked, nothing else of it counts; may be given again',
  },
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
export function baseFrom({ args, cwd }: Pick<Runtime, 'args' | 'cwd'>): {
  readonly blobsFrom: readonly string[];
  readonly checkBase: boolean;
  readonly request?: string;
} {
  const request = args.text('request');
  return {
    ...(request === undefined ? {} : { request: path.resolve(cwd, request) }),
    blobsFrom: args.list('blobs-from').map((text) => bundlePath(text, cwd)),
    checkBase: args.flag('check-base'),
  };
}
