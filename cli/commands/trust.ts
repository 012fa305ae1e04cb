import path from 'node:path';
import { SealiftError } from '../../core/errors.ts';
import type { Command } from '../command.ts';
import { EXIT_CODES } from '../exit-codes.ts';
import { decryptOptions, encryptedFrom, openingOf } from '../options/bundle.ts';
import { parseFingerprint } from '../options/values.ts';
import { pinText, rootText, trustStatusText } from '../output/report.ts';

function plainPath(text: string, cwd: string): string {
  return path.resolve(cwd, text.replace(/^(?:bundle|collection):/, ''));
}

export const trustPinCommand: Command = {
  words: ['trust', 'pin'],
  summary: 'trust a collection by the fingerprint of its root',
  about:
    'The fingerprint must reach you another way than the bundle did: over the phone, on paper, in person. It is compared with the roots in the file; the file itself is not believed.',
  positionals: [{ name: 'ROOT', describe: 'a bundle, or a root file (N.root.json)', required: true }],
  options: {
    fingerprint: {
      kind: 'text',
      value: 'SHA256',
      describe: '64 hexadecimal digits; blanks between them do no harm',
    },
    scope: {
      kind: 'list',
      value: 'PATTERN',
      describe:
        'names this collection may sign, such as docker.io/acme/; may be given again (default: every name)',
    },
    ...decryptOptions,
  },
  examples: [
    'sealift trust pin /media/stick/images.tar --fingerprint 1f3c…',
    'sealift trust pin acme.tar --fingerprint 1f3c… --scope docker.io/acme/',
  ],
  run: async (runtime) => {
    const { args, paths, workflows } = runtime;
    const source = plainPath(args.positional('ROOT') ?? '', runtime.cwd);
    const fingerprint = args.text('fingerprint');
    if (fingerprint === undefined) {
      throw new SealiftError('invalid-argument', 'which root is to be trusted? --fingerprint is missing', {
        subject: '--fingerprint',
        hint: 'ask the other side: sealift trust root COLLECTION prints it there; never take it from the medium itself',
      });
    }
    const result = await workflows.pinRoot(
      {
        gate: paths.gate.path,
        source,
        encrypted: await encryptedFrom(runtime, [args.positional('ROOT') ?? '']),
        fingerprint: parseFingerprint(fingerprint, '--fingerprint'),
        scopes: args.list('scope'),
        actor: runtime.actor,
        pid: runtime.pid,
      },
      await runtime.context(),
    );
    return { result, text: (view) => pinText(result, source, view, openingOf(runtime)) };
  },
};

export const trustStatusCommand: Command = {
  words: ['trust', 'status'],
  summary: 'show which collections are trusted, and until when',
  about: 'Ends with exit code 5 where the last accepted bundle of a collection has expired.',
  options: {},
  examples: ['sealift trust status'],
  run: async (runtime) => {
    const result = await runtime.workflows.trustStatus(
      { gate: runtime.paths.gate.path },
      await runtime.context(),
    );
    const expired = result.collections.some((collection) => collection.expired);
    return {
      result,
      text: (view) => trustStatusText(result, view),
      exitCode: expired ? EXIT_CODES.trust[0] : EXIT_CODES.done[0],
    };
  },
};

export const trustRootCommand: Command = {
  words: ['trust', 'root'],
  summary: 'show the root of a collection or a bundle and its fingerprint',
  about:
    'On the connected side, this is what to read out. A root shown from a bundle is a claim like any other.',
  positionals: [
    {
      name: 'LOCATION',
      describe: 'a collection, a bundle or a root file (default: the path of --collection)',
    },
  ],
  options: {},
  examples: ['sealift trust root', 'sealift trust root --quiet'],
  run: async (runtime) => {
    const given = runtime.args.positional('LOCATION');
    const location = given === undefined ? runtime.paths.collection.path : plainPath(given, runtime.cwd);
    const result = await runtime.workflows.readRoot(location, await runtime.context());
    return { result, text: (view) => rootText(result, view), quiet: result.fingerprint };
  },
};
