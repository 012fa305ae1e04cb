import path from 'node:path';
import { SealiftError } from '../../core/errors.ts';
import type { Command, Outcome, Runtime } from '../command.ts';
import { EXIT_CODES } from '../exit-codes.ts';
import { blobsFrom, blobsFromOptions } from '../options/base.ts';
import {
  approvalsFrom,
  bundleFrom,
  decryptOptions,
  encryptedFrom,
  judgeOptions,
  openingOf,
  volumesAmong,
} from '../options/bundle.ts';
import { transferOptions } from '../options/common.ts';
import {
  bucketAccess,
  bucketOptions,
  isDestination,
  parseDestination,
  placementOptions,
} from '../options/destination.ts';
import { parseFingerprint } from '../options/values.ts';
import { mediumOptions } from '../options/volumes.ts';
import { examinationText } from '../output/publish-text.ts';
import { refusedImages, verifyText } from '../output/report.ts';

export const verifyCommand: Command = {
  words: ['verify'],
  summary: 'make every check an import makes, and change nothing',
  about:
    'Judges by the root that was pinned (sealift trust pin), or by the one root with the fingerprint given. Every layer is read and hashed too, unless --no-deep says otherwise. Of a place that clients pull from, static:DIR or s3://BUCKET[/PREFIX], every object is held against what the gate or the store says was let in, and the answer tells how strongly each was verified; --deep reads all of them whole.',
  positionals: [
    {
      name: 'BUNDLE',
      describe:
        'the file, a directory of volumes, or a volume; - is standard input; or static:DIR, s3://BUCKET[/PREFIX]',
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
    as: {
      kind: 'text',
      value: 'RECEIPT',
      describe: 'judge as the gate of this receipt would, on the other side, before the walk',
    },
    policy: { kind: 'text', value: 'FILE', describe: "judge by this policy instead of the gate's" },
    report: { kind: 'text', value: 'FILE.html', describe: 'write the result as one page to print and sign' },
    deep: { kind: 'flag', describe: 'read and hash the layers too (default for a bundle)' },
    'no-deep': { kind: 'flag', describe: 'stop before the layers: signatures, expiry, manifests only' },
    silent: { kind: 'flag', alias: 's', describe: 'print nothing at all; the exit code is the answer' },
    ...blobsFromOptions,
    ...mediumOptions,
    ...decryptOptions,
    ...judgeOptions,
    ...placementOptions,
    host: {
      kind: 'text',
      value: 'HOST',
      describe: 'of static: or s3:, where the catalog page has to send clients to',
    },
    ...bucketOptions,
    ...transferOptions,
  },
  examples: [
    'sealift verify /media/stick/images.tar',
    'sealift verify --fingerprint 1f3c… images.tar docker.io/library/alpine:3.20',
    'sealift verify /media/stick/images.tar.001',
    'sealift verify delta.tar --blobs-from last-month.tar',
    'sealift verify --policy policy.json images.tar',
    'sealift verify --as receipt.json --policy policy.json delta.tar',
    'sealift verify --report sheet.html images.tar',
    'sealift verify --silent images.tar && echo good',
    'sealift verify static:/srv/images',
    'sealift verify --deep s3://images --endpoint-url https://s3.example',
  ],
  run: async (runtime) => {
    const { args, paths, workflows } = runtime;
    if (args.flag('deep') && args.flag('no-deep')) {
      throw new SealiftError('invalid-argument', 'got both --deep and --no-deep, want one of them', {
        subject: '--deep',
      });
    }
    const location = args.positional('BUNDLE') ?? '';
    if (isDestination(location)) return verifyPublished(runtime, location);
    const fingerprint = args.text('fingerprint');
    const pinned = fingerprint === undefined ? undefined : parseFingerprint(fingerprint, '--fingerprint');
    const policy = args.text('policy');
    const receipt = args.text('as');
    if (receipt !== undefined && fingerprint !== undefined) {
      throw new SealiftError('invalid-argument', 'got both --as and --fingerprint, want one of them', {
        subject: '--as',
        hint: 'the receipt says which root its gate trusts',
      });
    }
    if (receipt !== undefined && args.list('blobs-from').length > 0) {
      throw new SealiftError('invalid-argument', 'got both --as and --blobs-from, want one of them', {
        subject: '--blobs-from',
        hint: 'the receipt says which layers its gate holds',
      });
    }
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
        ...approvalsFrom(runtime),
        store: paths.store.path,
        blobsFrom: blobsFrom(runtime),
        ...(receipt === undefined
          ? {}
          : { rehearse: { receipt: path.resolve(runtime.cwd, receipt), collection: paths.collection.path } }),
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
      await writeFileDurably(path.resolve(runtime.cwd, report), Buffer.from(reportHtml(result, runtime.now)));
    }
    const good =
      refusedImages(result).length === 0 && result.checks.every((check) => check.status !== 'failed');
    return {
      result,
      text: (view) => verifyText(result, view, openingOf(runtime)),
      exitCode: good ? EXIT_CODES.done[0] : EXIT_CODES.trust[0],
    };
  },
};

async function verifyPublished(runtime: Runtime, location: string): Promise<Outcome> {
  const { args, paths, workflows } = runtime;
  const meaningless = ['fingerprint', 'policy', 'report'].find((name) => args.text(name) !== undefined);
  if (meaningless !== undefined || args.positionals('NAME').length > 0) {
    const subject = meaningless === undefined ? 'NAME' : `--${meaningless}`;
    throw new SealiftError(
      'invalid-argument',
      `${subject} means nothing for a place that clients pull from`,
      {
        subject,
        hint: 'it is for bundles; a place is verified as a whole',
      },
    );
  }
  const result = await workflows.verifyDestination(
    {
      destination: parseDestination(location, runtime.cwd),
      access: bucketAccess(args, runtime.env),
      prefix: args.text('prefix'),
      map: args.list('map'),
      host: args.text('host'),
      gate: paths.gate.path,
      store: paths.store.path,
      deep: args.flag('deep'),
      concurrency: args.integer('concurrency', 1, 64) ?? 4,
      pid: runtime.pid,
    },
    await runtime.context(),
  );
  const { good, missing, wrong } = result;
  const code = good ? EXIT_CODES.done : missing + wrong > 0 ? EXIT_CODES.malformed : EXIT_CODES.partly;
  return { result, text: (view) => examinationText(result, view), exitCode: code[0] };
}
