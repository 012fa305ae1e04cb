import type { Command } from '../command.ts';
import { passphraseOptions } from '../options/passphrase.ts';
import { requestFrom, requestOptions } from '../options/request.ts';
import { signerOptions } from '../options/signer.ts';
import { witnessText } from '../output/trust-report.ts';
import { signingWith } from './trust-change.ts';

export const trustWitnessCommand: Command = {
  words: ['trust', 'witness'],
  summary: 'sign again what stands in a role whose signatures no longer suffice',
  about:
    'For a namespace whose key was taken away, has expired or was revoked: until other keys of the role sign it, every gate would refuse the whole bundle, and so no export is made. Names, digests and tombstones stay as they are; whoever signs vouches for them from now on, so look at them first (sealift trust list -r ROLE). Without ROLE it signs every role that needs it.',
  positionals: [
    { name: 'ROLE', describe: 'images, or the role of a namespace', required: false, many: true },
  ],
  options: { ...requestOptions, ...signerOptions, ...passphraseOptions },
  examples: ['sealift trust witness', 'sealift trust witness docker.io-acme --request acme.json'],
  run: async (runtime) => {
    const { args, workflows } = runtime;
    const operations = await workflows.trustOperations();
    const result = await operations.witnessRoles(
      { ...signingWith(runtime), roles: args.positionals('ROLE'), request: requestFrom(runtime) },
      await runtime.context(),
    );
    return { result, text: (view) => witnessText(result, view) };
  },
};
