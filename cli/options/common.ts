import type { OptionGroup } from '../args.ts';

/** Options every command takes. */
export const commonOptions = {
  collection: {
    kind: 'text',
    value: 'NAME|DIR',
    describe: 'the collection on the connected side',
  },
  gate: { kind: 'text', value: 'DIR', describe: "the sealed side's trust state" },
  store: { kind: 'text', value: 'DIR', describe: 'the directory images are imported into' },
  json: { kind: 'flag', describe: 'one JSON document on standard output, success or failure' },
  quiet: {
    kind: 'flag',
    alias: 'q',
    describe: 'no messages but errors, and of the result at most its one value',
  },
  verbose: { kind: 'flag', alias: 'v', describe: 'a line for every image and blob as well' },
  debug: { kind: 'flag', describe: 'the stack of an unexpected error' },
  'no-color': { kind: 'flag', describe: 'no colours (NO_COLOR does the same)' },
  'no-progress': { kind: 'flag', describe: 'no progress, only warnings and errors' },
  'progress-json': { kind: 'flag', describe: 'progress as JSON lines on standard error' },
  yes: { kind: 'flag', alias: 'y', describe: 'do not ask before something is changed' },
  'no-input': { kind: 'flag', describe: 'never ask anything' },
} as const satisfies OptionGroup;

/** Options of commands that move bytes. */
export const transferOptions = {
  concurrency: { kind: 'text', value: 'N', describe: 'blobs in transfer at once (default 4)' },
} as const satisfies OptionGroup;
