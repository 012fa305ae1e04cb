import os from 'node:os';
import { inert } from '../../core/errors.ts';
import type { Command } from '../command.ts';
import { sourceOptions } from '../options/source.ts';

export const logoutCommand: Command = {
  words: ['logout'],
  summary: 'forget a login',
  about:
    'Takes the entry for the registry out of every file that sealift reads (or out of --authfile), and out of the credential helpers these name. The registry is not asked.',
  positionals: [{ name: 'REGISTRY', describe: 'as it was given to login', required: true }],
  options: { authfile: { ...sourceOptions.authfile, describe: 'only this file' } },
  examples: ['sealift logout registry.example:5000', 'sealift logout docker.io'],
  run: async ({ args, env }) => {
    const { parseLoginScope, removeLogin, showScope } = await import('../options/credential-store.ts');
    const scope = parseLoginScope(args.positional('REGISTRY') ?? '');
    const removed = await removeLogin(scope, { authFile: args.text('authfile'), env, homedir: os.homedir() });
    return {
      result: {
        registry: showScope(scope),
        removed: removed.map(({ file, helper }) => ({ file, helper: helper ?? null })),
      },
      text: () =>
        removed.length === 0
          ? `Was not logged in to ${showScope(scope)}`
          : `Logged out of ${showScope(scope)}; removed from ${removed.map(({ file }) => inert(file, 4096)).join(', ')}`,
    };
  },
};
