import path from 'node:path';
import { SealiftError } from '../../core/errors.ts';
import type { Command } from '../command.ts';
import { EXIT_CODES } from '../exit-codes.ts';
import { bundleFrom, decryptOptions, encryptedFrom, judgeOptions, volumesAmong } from '../options/bundle.ts';
import { parseFingerprint } from '../options/values.ts';
import { mediumOptions } from '../options/volumes.ts';
import { refusedImages, verifyText } from '../output/report.ts';

export const verifyCommand: Command = {
  words: ['verify'],
  summary: 'make every check an import makes, and change nothing',
  about:
    'Judges by the root that was pinned (sealift trust pin), or by the one root with the fingerprint given. Every layer is read and hashed too, unless --no-deep says otherwise.',
  positionals: [
    {
      name: 'BUNDLE',
      describe: 'the file, a directory of volumes, or a volume; - is standard input',
      required: true,
    },
    { name: 'NAME', describe: 'only these images; or further volumes of the bundle', many: true },
  ],
  options: {
    fingerprint: {
      kind: 'text',
      value: 'SHA256',
      describe: 'judge by the root with this fingerprint instead of a pin',
    },
    policy: { kind: 'text', value: 'FILE', describe: "judge by this policy instead of the gate's" },
    report: { kind: 'text', value: 'FILE.html', describe: 'write the result as one page to print and sign' },
    deep: { kind: 'flag', describe: 'read and hash the layers too (default)' },
    'no-deep': { kind: 'flag', describe: 'stop before the layers: signatures, expiry, manifests only' },
    silent: { kind: 'flag', alias: 's', describe: 'print nothing at all; the exit code is the answer' },
    ...mediumOptions,
    ...decryptOptions,
    ...judgeOptions,
  },
  examples: [
    'sealift verify /media/stick/images.tar',
    'sealift verify --fingerprint 1f3c… images.tar docker.io/library/alpine:3.20',
    'sealift verify /media/stick/images.tar.001',
    'sealift verify --policy policy.json images.tar',
    'sealift verify --report sheet.html images.tar',
    'sealift verify --silent images.tar && echo good',
  ],
  run: async (runtime) => {
    const { args, paths, workflows } = runtime;
    if (args.flag('deep') && args.flag('no-deep')) {
      throw new SealiftError('invalid-argument', 'got both --deep and --no-deep, want one of them', {
        subject: '--deep',
      });
    }
    const fingerprint = args.text('fingerprint');
    const pinned = fingerprint === undefined ? undefined : parseFingerprint(fingerprint, '--fingerprint');
    const policy = args.text('policy');
    const bundle = args.positional('BUNDLE') ?? '';
    const { volumes, others } = volumesAmong(bundle, args.positionals('NAME'), runtime.cwd);
    const context = await runtime.context();
    const result = await workflows.verifyBundle(
      {
        bundle:
          (await encryptedFrom(runtime, [bundle, ...volumes])) ?? bundleFrom(runtime, [bundle, ...volumes]),
        gate: paths.gate.path,
        fingerprint: pinned,
        names: others,
        deep: !args.flag('no-deep'),
        ...(policy === undefined ? {} : { policy: path.resolve(runtime.cwd, policy) }),
        store: paths.store.path,
        overrides: { allowClockJump: args.flag('allow-clock-jump') },
      },
      context,
    );
    const report = args.text('report');
    if (report !== undefined) {
      const [{ writeFileDurably }, { reportHtml }] = await Promise.all([
        import('../../core/fs/durable.ts'),
        import('../output/report-html.ts'),
      ]);
      await writeFileDurably(
        path.resolve(runtime.cwd, report),
        Buffer.from(reportHtml(result, runtime.now)),
        0o644,
      );
    }
    const good =
      refusedImages(result).length === 0 && result.checks.every((check) => check.status !== 'failed');
    return {
      result,
      text: (view) => verifyText(result, view),
      exitCode: good ? EXIT_CODES.done[0] : EXIT_CODES.trust[0],
    };
  },
};
