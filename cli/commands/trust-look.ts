import path from 'node:path';
import { SealiftError } from '../../core/errors.ts';
import type { Command } from '../command.ts';
import { EXIT_CODES } from '../exit-codes.ts';
import { parseFingerprint } from '../options/values.ts';
import { auditText, clockText, namesText } from '../output/trust-report.ts';

export const trustListCommand: Command = {
  words: ['trust', 'list'],
  summary: 'list the names of a collection and the roles that rule them',
  positionals: [{ name: 'COLLECTION', describe: 'its directory (default: the path of --collection)' }],
  options: {
    role: { kind: 'list', alias: 'r', value: 'ROLE', describe: 'only this role; may be given again' },
  },
  examples: ['sealift trust list', 'sealift trust list -r images'],
  run: async (runtime) => {
    const given = runtime.args.positional('COLLECTION');
    const collection =
      given === undefined
        ? runtime.paths.collection.path
        : path.resolve(runtime.cwd, given.replace(/^collection:/, ''));
    const operations = await runtime.workflows.trustOperations();
    const result = await operations.listNames(
      { collection, roles: runtime.args.list('role') },
      await runtime.context(),
    );
    return {
      result,
      text: (view) => namesText(result, view),
      quiet: result.images.map(({ name }) => name).join('\n'),
    };
  },
};

export const trustAuditCommand: Command = {
  words: ['trust', 'audit'],
  summary: 'show the audit log of the gate and verify its chain',
  about:
    'Every line has the hash of the one before, so that a line that was changed, removed or added is found. Lines cut off the end are found only by a head that was written down elsewhere, such as on a receipt or in the output of an import.',
  options: {
    head: {
      kind: 'text',
      value: 'SHA256',
      describe: 'a head of the log that was seen before; it must be in it',
    },
    last: { kind: 'text', value: 'N', describe: 'show the last N entries (default: 20)' },
  },
  examples: ['sealift trust audit --last 100', 'sealift trust audit --head 1f3c… --json'],
  run: async (runtime) => {
    const head = runtime.args.text('head');
    const operations = await runtime.workflows.trustOperations();
    const result = await operations.auditGate(
      {
        gate: runtime.paths.gate.path,
        knownHead: head === undefined ? undefined : parseFingerprint(head, '--head'),
        last: runtime.args.integer('last', 0, 1_000_000) ?? 20,
      },
      await runtime.context(),
    );
    return {
      result,
      text: (view) => auditText(result, view),
      quiet: result.head,
      exitCode: result.whole ? EXIT_CODES.done[0] : EXIT_CODES.malformed[0],
    };
  },
};

export const trustClockCommand: Command = {
  words: ['trust', 'clock'],
  summary: 'show the clock floor of the gate, or clear it',
  about:
    'Time never falls behind the moment at which the last accepted bundle was made. Where a wrong clock has pushed that floor into the future, put the clock of this host right first; then "reset" clears the floor, and the audit log says who did it.',
  positionals: [
    { name: 'ACTION', describe: 'reset; without it the floor is only shown' },
    { name: 'ID', describe: 'of a collection (default: all)' },
  ],
  options: {},
  examples: ['sealift trust clock', 'sealift trust clock reset'],
  run: async (runtime) => {
    const action = runtime.args.positional('ACTION');
    const id = runtime.args.positional('ID');
    if (action !== undefined && action !== 'reset') {
      throw new SealiftError('invalid-argument', 'unknown action, want reset', { subject: 'ACTION' });
    }
    const operations = await runtime.workflows.trustOperations();
    const result = await operations.gateClock(
      {
        gate: runtime.paths.gate.path,
        reset: action === undefined ? undefined : id === undefined ? 'all' : [parseFingerprint(id, 'ID')],
        pid: runtime.pid,
        actor: runtime.actor,
      },
      await runtime.context(),
    );
    return { result, text: (view) => clockText(result, view) };
  },
};
