import path from 'node:path';
import type { Command } from '../command.ts';
import { passphraseOptions } from '../options/passphrase.ts';
import { keyFiles, requestFrom, requestOptions } from '../options/request.ts';
import { signerOptions } from '../options/signer.ts';
import { lookupText, resetText, stagedListText } from '../output/staged-report.ts';
import { pendingText } from '../output/trust-report.ts';
import { signing, signingWith } from './trust-change.ts';

export const trustStagedCommand: Command = {
  words: ['trust', 'staged'],
  summary: 'show what is signed and waits for the next bundle',
  about: 'Each role that differs from what the last bundle has, and the differences in words.',
  options: {},
  examples: ['sealift trust staged', 'sealift trust staged --json'],
  run: async (runtime) => {
    const operations = await runtime.workflows.trustOperations();
    const result = await operations.listStaged(
      { collection: runtime.paths.collection.path },
      await runtime.context(),
    );
    return {
      result,
      text: (view) => stagedListText(result, view),
      quiet: result.roles.map(({ role }) => role).join('\n'),
    };
  },
};

export const trustResetCommand: Command = {
  words: ['trust', 'reset'],
  summary: 'throw away what waits for the next bundle',
  about:
    'No gate has seen it. Key files that were put aside come back; keys that were made stay in keys/ and sign nothing. Version numbers that it took stay used. A revocation (trust key rotate --stolen) is not taken back.',
  options: {},
  examples: ['sealift trust staged', 'sealift trust reset'],
  run: async (runtime) => {
    const operations = await runtime.workflows.trustOperations();
    const result = await operations.resetStaged(signing(runtime), await runtime.context());
    return { result, text: (view) => resetText(result, view) };
  },
};

export const trustLookupCommand: Command = {
  words: ['trust', 'lookup'],
  summary: 'show what a name is bound to, and who says so',
  positionals: [
    { name: 'NAME', describe: 'full name, such as docker.io/library/nginx:1.29', required: true },
    { name: 'COLLECTION', describe: 'its directory (default: the path of --collection)' },
  ],
  options: {},
  examples: [
    'sealift trust lookup docker.io/library/nginx:1.29',
    'sealift trust lookup docker.io/library/nginx:1.29 --quiet',
  ],
  run: async (runtime) => {
    const given = runtime.args.positional('COLLECTION');
    const collection =
      given === undefined
        ? runtime.paths.collection.path
        : path.resolve(runtime.cwd, given.replace(/^collection:/, ''));
    const operations = await runtime.workflows.trustOperations();
    const name = runtime.args.positional('NAME') ?? '';
    const result = await operations.lookUpName({ collection, name }, await runtime.context());
    return { result, text: (view) => lookupText(result, view), quiet: result.digest };
  },
};

export const trustDelegationPurgeCommand: Command = {
  words: ['trust', 'delegation', 'purge'],
  summary: 'take a key out of every namespace',
  about:
    'For a person who leaves, in one change. Each namespace must have enough keys left, and those sign it anew; one that would not is named, and nothing is changed.',
  positionals: [{ name: 'KEY', describe: 'key id or fingerprint', required: true }],
  options: {
    'sign-with': {
      kind: 'list',
      value: 'FILE',
      describe: 'a secret key that signs this change too; or gpg:FINGERPRINT',
    },
    ...requestOptions,
    ...signerOptions,
    ...passphraseOptions,
  },
  examples: ['sealift trust delegation purge KEY --request purge.json'],
  run: async (runtime) => {
    const operations = await runtime.workflows.trustOperations();
    const result = await operations.purgeKey(
      {
        ...signingWith(runtime),
        key: runtime.args.positional('KEY') ?? '',
        signWith: keyFiles(runtime, 'sign-with', signing(runtime).passphrase),
        request: requestFrom(runtime),
      },
      await runtime.context(),
    );
    return { result, text: (view) => pendingText(result, view) };
  },
};
