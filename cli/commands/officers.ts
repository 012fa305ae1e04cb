import type { OfficersResult } from '../../core/admission/officers.ts';
import { inert, SealiftError } from '../../core/errors.ts';
import type { Command, TextView } from '../command.ts';
import { keyPath } from '../options/signer.ts';
import { table } from '../output/format.ts';

const officers = () => import('../../core/admission/officers.ts');

function officersText(result: OfficersResult, { style }: TextView): string {
  const { threshold, officers: list, gate, auditHead } = result;
  return [
    threshold === 0
      ? `No approvals are demanded by ${style.bold(inert(gate, 4096))}`
      : `${style.bold(`${threshold} of ${list.length}`)} officers have to approve a bundle before ${style.bold(inert(gate, 4096))} lets it in:`,
    ...table(
      list.map(({ name, keyId, fingerprint }) => [inert(name), fingerprint ?? keyId]),
      '  ',
    ),
    ...(auditHead === undefined ? [] : [`  audit log head  ${auditHead}`]),
  ].join('\n');
}

export const officersSetCommand: Command = {
  words: ['officers', 'set'],
  summary: 'say whose approval a bundle needs, and how many of them',
  about:
    'KEY is a public key: an OpenPGP certificate, a public key in PEM, or gpg:FINGERPRINT. From then on an import ends with exit code 8 until that many officers have approved the bundle (sealift approve). The keys given replace those that were set; the audit log says so.',
  positionals: [{ name: 'KEY', describe: "an officer's public key", required: true, many: true }],
  options: {
    need: { kind: 'text', value: 'K', describe: 'how many of them have to approve (default: all)' },
  },
  examples: ['sealift officers set --need 2 anna.asc berta.asc carla.pem'],
  run: async (runtime) => {
    const { args, paths, pid, actor, gpg, cwd } = runtime;
    const keys = args.positionals('KEY').map((file) => keyPath(file, cwd));
    const threshold = args.integer('need', 1, 100) ?? keys.length;
    if (keys.length === 0)
      throw new SealiftError('invalid-argument', 'want at least one key', { subject: 'KEY' });
    const result = await (await officers()).setOfficers(
      { gate: paths.gate.path, keys, threshold, gpg, pid, actor },
      await runtime.context(),
    );
    return { result, text: (view) => officersText(result, view), quiet: result.auditHead };
  },
};

export const officersListCommand: Command = {
  words: ['officers', 'list'],
  summary: 'show whose approval counts',
  options: {},
  examples: ['sealift officers list'],
  run: async (runtime) => {
    const result = await (await officers()).listOfficers(
      { gate: runtime.paths.gate.path },
      await runtime.context(),
    );
    return {
      result,
      text: (view) => officersText(result, view),
      quiet: result.officers.map(({ keyId }) => keyId).join('\n'),
    };
  },
};

export const officersClearCommand: Command = {
  words: ['officers', 'clear'],
  summary: 'demand no approvals any more',
  about: 'The audit log says who did it.',
  options: {},
  examples: ['sealift officers clear'],
  run: async (runtime) => {
    const { paths, pid, actor } = runtime;
    const result = await (await officers()).setOfficers(
      { gate: paths.gate.path, keys: [], threshold: 0, pid, actor },
      await runtime.context(),
    );
    return { result, text: (view) => officersText(result, view), quiet: result.auditHead };
  },
};
