import path from 'node:path';
import type { Command } from '../command.ts';
import { receiptText } from '../output/receipt.ts';
import { inspectText } from '../output/report.ts';

export const inspectCommand: Command = {
  words: ['inspect'],
  summary: 'show what a bundle, a store, a collection or a receipt holds, who signed it, when it expires',
  about: 'Shows claims; it does not judge them. What is true of a bundle, sealift verify tells.',
  positionals: [
    { name: 'LOCATION', describe: 'a bundle, a store, a collection or a receipt', required: true },
    { name: 'NAME', describe: 'only these images', many: true },
  ],
  options: {
    format: {
      kind: 'text',
      value: 'KIND',
      choices: ['text', 'json'],
      describe: 'text (default), or json: the same as --json',
    },
  },
  examples: ['sealift inspect images.tar', 'sealift inspect --format json images.tar | jq .result.images'],
  run: async (runtime) => {
    const { args, workflows, cwd } = runtime;
    const location = args.positional('LOCATION') ?? '';
    const plain = location.replace(/^(?:bundle|store|collection):/, '');
    const context = await runtime.context();
    const result = await workflows.inspect(
      { location: path.resolve(cwd, plain), names: args.positionals('NAME') },
      context,
    );
    return {
      result,
      text: (view) =>
        result.receipt === undefined
          ? inspectText(result, view)
          : receiptText(result.location, result.receipt, view),
    };
  },
};
