import { SealiftError } from '../../core/errors.ts';
import { CLIENTS, type Client } from '../../core/publish/client-config.ts';
import type { Command } from '../command.ts';

const DEFAULT_REGISTRIES = [
  'docker.io',
  'quay.io',
  'ghcr.io',
  'registry.k8s.io',
  'gcr.io',
  'mcr.microsoft.com',
];

export const clientConfigCommand: Command = {
  words: ['client-config'],
  summary: 'print the configuration with which a client pulls from here, names unchanged',
  about:
    'HOST is where clients reach a published tree or sealift serve. With what this prints, FROM alpine and quay.io/NAME are pulled from HOST. Nothing is written; put the text where it says.',
  positionals: [
    { name: 'HOST', describe: 'HOST or HOST:PORT', required: true },
    { name: 'CLIENT', describe: CLIENTS.join(', '), required: true },
  ],
  options: {
    registry: {
      kind: 'list',
      value: 'NAME',
      describe: `a registry whose images are at HOST; may be given again (default: ${DEFAULT_REGISTRIES.join(', ')})`,
    },
    prefix: { kind: 'text', value: 'REPOSITORY', describe: 'as it was given to sync' },
    'plain-http': { kind: 'flag', describe: 'HOST speaks HTTP without TLS' },
  },
  examples: [
    'sealift client-config images.example podman',
    'sealift client-config images.example:5000 docker --plain-http',
    'sealift client-config images.example containerd --registry docker.io --registry quay.io',
  ],
  run: async ({ args, workflows }) => {
    const host = args.positional('HOST') ?? '';
    const client = args.positional('CLIENT') ?? '';
    if (!CLIENTS.includes(client as Client)) {
      throw new SealiftError('invalid-argument', `want one of ${CLIENTS.join(', ')}`, { subject: 'CLIENT' });
    }
    const registries = args.list('registry');
    const result = await workflows.clientConfig({
      host,
      client: client as Client,
      registries: registries.length === 0 ? DEFAULT_REGISTRIES : registries,
      prefix: args.text('prefix'),
      plainHttp: args.flag('plain-http'),
    });
    // Everything but the files is a comment in all of the formats but JSON, and stands in front of it.
    const text = [
      ...result.files.map(({ path, content }) => `# ${path}\n${content}`),
      ...result.notes.map((note) => `# ${note}`),
    ].join('\n');
    return {
      result,
      text: () => text,
      quiet: result.files
        .map(({ content }) => content)
        .join('\n')
        .trimEnd(),
    };
  },
};
