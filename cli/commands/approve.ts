import path from 'node:path';
import { inert, SealiftError } from '../../core/errors.ts';
import type { VerifyResult } from '../../core/results.ts';
import type { Command, Runtime } from '../command.ts';
import { bundleFrom } from '../options/bundle.ts';
import { passphraseOptions } from '../options/passphrase.ts';
import { keyPath } from '../options/signer.ts';
import { parseFingerprint } from '../options/values.ts';
import { mediumOptions } from '../options/volumes.ts';
import { verifyText } from '../output/report.ts';
import { createStyle } from '../output/style.ts';
import { passphraseMissing } from './init.ts';

export const approveCommand: Command = {
  words: ['approve'],
  summary: 'sign, as an officer, that a bundle may be let in',
  about:
    'Verifies the bundle, every byte of it, shows what is inside, and signs its manifest: this collection, this version, this content and no other. The approval goes into the gate, or with --output into a file that the gatekeeper keeps beside the bundle as BUNDLE.NAME.approval, or names with --approval. On a terminal you are asked before anything is signed (--yes does not ask).',
  positionals: [
    { name: 'BUNDLE', describe: 'the file, a directory of volumes, or volumes', required: true, many: true },
  ],
  options: {
    signer: { kind: 'text', value: 'KEY', describe: "the officer's secret key: a file, or gpg:FINGERPRINT" },
    output: {
      kind: 'text',
      alias: 'o',
      value: 'FILE',
      describe: 'write the approval to this file (default: into the gate)',
    },
    fingerprint: {
      kind: 'text',
      value: 'SHA256',
      describe: 'judge by the root with this fingerprint instead of a pin; needs --output',
    },
    ...mediumOptions,
    ...passphraseOptions,
  },
  examples: [
    'sealift approve /media/stick/images.tar --signer gpg:FINGERPRINT',
    'sealift approve images.tar --signer anna.asc -o images.tar.anna.approval',
  ],
  run: async (runtime) => {
    const { args, cwd, paths, pid, actor, gpg, passphrase } = runtime;
    const signer = args.text('signer');
    if (signer === undefined) {
      throw new SealiftError('invalid-argument', 'who approves? --signer is missing', {
        subject: '--signer',
        hint: 'add --signer FILE, or --signer gpg:FINGERPRINT',
      });
    }
    const output = args.text('output');
    const fingerprint = args.text('fingerprint');
    const { approveBundle } = await import('../../core/admission/approvals.ts');
    const result = await approveBundle(
      {
        bundle: bundleFrom(runtime),
        gate: paths.gate.path,
        ...(fingerprint === undefined ? {} : { fingerprint: parseFingerprint(fingerprint, '--fingerprint') }),
        signer: {
          file: keyPath(signer, cwd),
          gpg,
          passphrase: async (purpose) => {
            const answer = await passphrase(purpose);
            if (answer === undefined) throw passphraseMissing();
            return answer;
          },
        },
        ...(output === undefined ? {} : { output: path.resolve(cwd, output) }),
        ...(args.flag('yes') ? {} : { confirm: (found: VerifyResult) => ask(runtime, found) }),
        pid,
        actor,
      },
      await runtime.context(),
    );
    return {
      result,
      text: ({ style }) =>
        [
          `${style.pass} ${style.good('approved')}  ${style.bold(inert(result.bundle, 4096))}, version ${result.version}`,
          `  officer   ${inert(result.officer)}`,
          `  manifest  ${result.manifest}`,
          `  written   ${inert(result.file, 4096)}`,
          ...(result.auditHead === undefined ? [] : [`  audit log head  ${result.auditHead}`]),
        ].join('\n'),
      quiet: result.file,
    };
  },
};

async function ask(runtime: Runtime, found: VerifyResult): Promise<boolean> {
  const style = createStyle({ color: false, unicode: false, columns: runtime.columns });
  const words = verifyText(found, { style, now: runtime.now, checksShown: true });
  const answer = await runtime.ask(`${words}\nApprove this bundle? [y/N] `, true);
  if (answer !== undefined) return /^y(?:es)?$/i.test(answer.trim());
  throw new SealiftError('terminal-needed', 'a bundle is approved by somebody who has looked at it', {
    hint: 'run it on a terminal, or add --yes',
  });
}
