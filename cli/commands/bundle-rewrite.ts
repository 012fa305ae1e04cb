/** New versions from bundles there are: merge, subset, repack. One workflow, three ways to say what goes in. */
import path from 'node:path';
import { SealiftError } from '../../core/errors.ts';
import type { SourceOptions } from '../../core/transport/source.ts';
import type { OptionGroup } from '../args.ts';
import type { Command, Outcome, Runtime } from '../command.ts';
import { blobsFrom, blobsFromOptions } from '../options/base.ts';
import { encryptionFrom, encryptOptions } from '../options/encrypt.ts';
import { makingFrom, makingOptions } from '../options/making.ts';
import { passphraseOptions } from '../options/passphrase.ts';
import { outputFile } from '../options/paths.ts';
import { readBackFrom, volumeOptions, volumesFrom } from '../options/volumes.ts';
import { exportText } from '../output/report.ts';
import { passphraseMissing } from './init.ts';

const rewriteOptions = {
  output: { kind: 'text', alias: 'o', value: 'FILE', describe: 'the bundle to write' },
  platform: {
    kind: 'list',
    value: 'OS/ARCH',
    describe: 'only this platform; may be given again (default: all there are)',
  },
  fingerprint: {
    kind: 'list',
    value: 'SHA256',
    describe: 'takes a bundle of another collection, whose root has this fingerprint; may be given again',
  },
  'keep-delta': {
    kind: 'flag',
    describe: 'of a delta: leave out again what it leaves out, for a store that has it',
  },
  ...blobsFromOptions,
  ...makingOptions,
  ...volumeOptions,
  ...encryptOptions,
  ...passphraseOptions,
} as const satisfies OptionGroup;

const ABOUT =
  'The result is a new version of the collection, signed by you; evidence and what publishers signed stay as they are. Names keep the digests the collection has today: a bundle that says otherwise is refused, unless another one that is given has moved on. A delta is completed by the other bundles and by --blobs-from, or stays a delta with --keep-delta.';

export const bundleMergeCommand: Command = {
  words: ['bundle', 'merge'],
  summary: 'write what several bundles carry into one, as a new version',
  about: ABOUT,
  positionals: [{ name: 'BUNDLE', describe: 'a bundle', required: true, many: true }],
  options: rewriteOptions,
  examples: [
    'sealift bundle merge march.tar april.tar -o both.tar',
    'sealift bundle merge march.tar delta-april.tar -o whole.tar',
    'sealift bundle merge ours.tar theirs.tar --fingerprint SHA256 -o both.tar',
  ],
  run: (runtime) => rewrite(runtime, runtime.args.positionals('BUNDLE'), []),
};

export const bundleSubsetCommand: Command = {
  words: ['bundle', 'subset'],
  summary: 'write some images of a bundle into one of their own, as a new version',
  about: ABOUT,
  positionals: [
    { name: 'BUNDLE', describe: 'a bundle', required: true },
    { name: 'NAME', describe: 'the images to keep', required: true, many: true },
  ],
  options: rewriteOptions,
  examples: [
    'sealift bundle subset images.tar nginx:1.29 alpine:3.20 -o small.tar',
    'sealift bundle subset delta.tar nginx:1.29 --keep-delta -o small-delta.tar',
  ],
  run: (runtime) =>
    rewrite(runtime, [runtime.args.positional('BUNDLE') ?? ''], runtime.args.positionals('NAME')),
};

export const bundleRepackCommand: Command = {
  words: ['bundle', 'repack'],
  summary: 'write a bundle anew: another expiry, fewer platforms, another form',
  about: ABOUT,
  positionals: [{ name: 'BUNDLE', describe: 'a bundle', required: true }],
  options: rewriteOptions,
  examples: ['sealift bundle repack expired.tar --platform linux/amd64 -o fresh.tar'],
  run: (runtime) => rewrite(runtime, [runtime.args.positional('BUNDLE') ?? ''], []),
};

/** Bundles lie on disk: no host is asked for anything. */
const NO_NETWORK: SourceOptions = {
  plainHttp: false,
  insecureSkipTlsVerify: false,
  credentials: async () => undefined,
  retryTimes: 0,
  concurrencyPerHost: 1,
  timeoutMs: 60_000,
};

async function rewrite(
  runtime: Runtime,
  bundles: readonly string[],
  names: readonly string[],
): Promise<Outcome> {
  const { args, paths, workflows, cwd, passphrase } = runtime;
  const output = args.text('output');
  if (output === undefined || output === '-') {
    throw new SealiftError('invalid-argument', 'where does the bundle go? want --output FILE', {
      subject: '--output',
    });
  }
  const result = await workflows.rebundle(
    {
      collection: paths.collection.path,
      bundles: bundles.map((bundle) => path.resolve(cwd, bundle)),
      fingerprints: args.list('fingerprint').map((text) => text.replaceAll(/\s/g, '').toLowerCase()),
      names,
      output: { kind: 'file', path: outputFile(output, cwd) },
      platforms: await Promise.all(args.list('platform').map((text) => workflows.parsePlatform(text))),
      keepDelta: args.flag('keep-delta'),
      blobsFrom: blobsFrom(runtime),
      ...makingFrom(args),
      volumes: volumesFrom(runtime),
      ...(await encryptionFrom(runtime)),
      readBack: readBackFrom(runtime),
      includeEvidence: true,
      // They came in once, under somebody's eyes.
      includeForeign: true,
      concurrency: 4,
      source: NO_NETWORK,
      passphrase: async (purpose) => {
        const answer = await passphrase(purpose);
        if (answer === undefined) throw passphraseMissing();
        return answer;
      },
      gpg: runtime.gpg,
      pid: runtime.pid,
    },
    await runtime.context(),
  );
  return { result, text: (view) => exportText(result, view) };
}
