import path from 'node:path';
import { SealiftError } from '../../core/errors.ts';
import type { Command } from '../command.ts';
import { parseDuration, parseFingerprint } from '../options/values.ts';
import { gatePinnedText, receiptMadeText } from '../output/receipt.ts';

const DEFAULT_LIFETIME = '90d';

export const receiptCommand: Command = {
  words: ['receipt'],
  summary: 'say what has arrived, so that the next bundle carries only what has not',
  about:
    'Written on the sealed side, carried back, and taken there by sealift export --since. It lists the images of one collection and their layers as keyed hashes, with versions, dates, the policy and the head of the audit log; the key that signs it is made on first use and pinned on the other side once (sealift trust pin-gate). Without --output only the code is shown, which a person can read out. What it lists is kept by sealift gc until it expires.',
  positionals: [
    {
      name: 'COLLECTION',
      describe: 'id of a pinned collection, the beginning of it, or its name (default: the only one)',
    },
  ],
  options: {
    output: {
      kind: 'text',
      alias: 'o',
      value: 'FILE|-',
      describe: 'the receipt to write; - is standard output',
    },
    expires: {
      kind: 'text',
      value: 'TIME',
      describe: `how long it is taken, and what it lists is kept (default ${DEFAULT_LIFETIME})`,
    },
    force: { kind: 'flag', describe: 'replace a file that is no receipt' },
  },
  examples: [
    'sealift receipt -o /media/stick/receipt.json',
    'sealift receipt',
    'sealift receipt --expires 30d -o receipt.json 1f3c',
    'sealift inspect receipt.json',
  ],
  run: async (runtime) => {
    const { args, paths, workflows, cwd } = runtime;
    const output = args.text('output');
    if (output === '-' && args.flag('json')) {
      throw new SealiftError(
        'invalid-argument',
        'standard output cannot take both the receipt and the JSON document',
        {
          subject: '--json',
          hint: 'write the receipt to a file with --output FILE',
        },
      );
    }
    const lifetime = parseDuration(args.text('expires') ?? DEFAULT_LIFETIME, '--expires');
    const target =
      output === undefined
        ? undefined
        : output === '-'
          ? ({ kind: 'stream', stream: runtime.claimStdout() } as const)
          : ({ kind: 'file', path: path.resolve(cwd, output), force: args.flag('force') } as const);
    const result = await workflows.makeReceipt(
      {
        gate: paths.gate.path,
        store: paths.store.path,
        collection: args.positional('COLLECTION'),
        lifetime,
        output: target,
        pid: runtime.pid,
        actor: runtime.actor,
      },
      await runtime.context(),
    );
    return { result, text: (view) => receiptMadeText(result, view), quiet: result.code ?? result.output };
  },
};

export const trustPinGateCommand: Command = {
  words: ['trust', 'pin-gate'],
  summary: 'take the receipts of a gate from now on',
  about:
    'On the connected side, once for each sealed side. The fingerprint is read out by the sealed side, where sealift receipt shows it; it must not come with the receipt.',
  positionals: [{ name: 'RECEIPT', describe: 'a receipt of the gate', required: true }],
  options: {
    fingerprint: { kind: 'text', value: 'SHA256', describe: "fingerprint of the gate's key" },
  },
  examples: ['sealift trust pin-gate receipt.json --fingerprint 1f3c…'],
  run: async (runtime) => {
    const { args, paths, workflows, cwd } = runtime;
    const fingerprint = args.text('fingerprint');
    if (fingerprint === undefined) {
      throw new SealiftError('invalid-argument', '--fingerprint is missing', {
        subject: '--fingerprint',
        hint: 'have it read out by the sealed side: sealift receipt shows it',
      });
    }
    const result = await workflows.pinGate(
      {
        collection: paths.collection.path,
        receipt: path.resolve(cwd, args.positional('RECEIPT') ?? ''),
        fingerprint: parseFingerprint(fingerprint, '--fingerprint'),
        pid: runtime.pid,
      },
      await runtime.context(),
    );
    return { result, text: (view) => gatePinnedText(result, view), quiet: result.gate };
  },
};
