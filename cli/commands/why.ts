import type { Command } from '../command.ts';
import { EXIT_CODES } from '../exit-codes.ts';
import { whyText } from '../output/why.ts';

export const whyCommand: Command = {
  words: ['why'],
  summary: 'tell why an image is in: bundle, signers, policy, by whom and when',
  about:
    'Read from the audit log of the gate, whose chain is verified, and from the store. A name without a digest stands for everything that was ever let in under it.',
  positionals: [{ name: 'IMAGE', describe: 'NAME@DIGEST, NAME or DIGEST', required: true }],
  options: {},
  examples: [
    'sealift why docker.io/library/alpine:3.20',
    'sealift why alpine@sha256:9cacb71397b640eca97488cf08582ae4e4068513101088e9f96c9814bfda95e0',
  ],
  run: async (runtime) => {
    const { args, paths } = runtime;
    const { explainAdmission } = await import('../../core/admission/why.ts');
    const result = await explainAdmission(
      { image: args.positional('IMAGE') ?? '', gate: paths.gate.path, store: paths.store.path },
      await runtime.context(),
    );
    return {
      result,
      text: (view) => whyText(result, view),
      quiet: result.admissions.at(-1)?.bundle,
      exitCode: result.auditWhole ? EXIT_CODES.done[0] : EXIT_CODES.malformed[0],
    };
  },
};
