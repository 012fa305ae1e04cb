/** The front end as a program of its own over workflows that only wait or ask; run in a terminal by terminal.test.ts. */
import { setTimeout as sleep } from 'node:timers/promises';
import { runProcess } from '../../cli/process.ts';
import { collection, exported, fakeWorkflows, imported, verified } from './fakes.ts';

await runProcess(
  fakeWorkflows({
    createCollection: (options) => {
      process.stderr.write(`made with a passphrase of ${options.passphrase.length} characters\n`);
      return Promise.resolve(collection);
    },
    exportBundle: async (options, { signal, emit }) => {
      emit({ type: 'phase', phase: 'transfer', title: 'transferring' });
      emit({ type: 'transfer', bytes: 1000, blobs: 2, skippedBytes: 0 });
      emit({ type: 'blob', state: 'started', digest: `sha256:${'ab'.repeat(32)}`, bytes: 400, size: 800 });
      if (options.force) {
        // Does not listen when it is told to stop.
        await sleep(60_000);
      }
      await sleep(60_000, undefined, { signal });
      return exported;
    },
    importBundle: async (options, { emit }) => {
      emit({ type: 'check', check: 'format', status: 'passed', detail: 'fine' });
      if (options.confirm !== undefined && !(await options.confirm(verified))) {
        throw new (await import('../../core/errors.ts')).SealiftError('cancelled', 'not imported');
      }
      emit({ type: 'check', check: 'commit', status: 'passed', detail: 'all in' });
      return imported;
    },
  }),
);
