import os from 'node:os';
import path from 'node:path';
import { inert, SealiftError } from '../../core/errors.ts';
import type { Command } from '../command.ts';
import { EXIT_CODES } from '../exit-codes.ts';
import { blobsFrom, blobsFromOptions } from '../options/base.ts';
import { transferOptions } from '../options/common.ts';
import { contentTrustFrom, contentTrustOptions } from '../options/content-trust.ts';
import { encryptionFrom, encryptOptions } from '../options/encrypt.ts';
import { listOptions, readLists } from '../options/lists.ts';
import { loginFromOptions, loginOptions, withLogin } from '../options/login.ts';
import { lookasideFrom, lookasideOptions } from '../options/lookaside.ts';
import { makingFrom, makingOptions } from '../options/making.ts';
import { mirrorOptions } from '../options/network.ts';
import { passphraseOptions } from '../options/passphrase.ts';
import { outputFile } from '../options/paths.ts';
import { signerOptions } from '../options/signer.ts';
import { sinceFrom } from '../options/since.ts';
import { archiveOptions, sourceOptions } from '../options/source.ts';
import { sourceOptionsOf } from '../options/source-settings.ts';
import { readBackFrom, volumeOptions, volumesFrom } from '../options/volumes.ts';
import { previewText } from '../output/preview.ts';
import { exportText } from '../output/report.ts';
import { passphraseMissing } from './init.ts';

const EVIDENCE_KINDS: readonly string[] = ['all', 'referrers', 'cosign', 'lookaside', 'notary', 'buildkit'];

function resolved(text: string | undefined, cwd: string): string | undefined {
  return text === undefined ? undefined : path.resolve(cwd, text);
}

export const exportCommand: Command = {
  words: ['export'],
  summary: 'write images and their evidence into one signed file',
  about:
    'IMAGE is a name (alpine:3.20) or a place: docker://REFERENCE, oci:DIRECTORY, oci-archive:FILE, docker-archive:FILE, bundle:FILE or store:DIRECTORY, those five with :NAME behind to choose one image; static:DIRECTORY:NAME for a tree that sync wrote; docker-daemon:NAME, containers-storage:NAME or containerd:NAME for an engine on this machine; NAME=file:PATH wraps a plain file; DRIVER://PLACE is read by the program sealift-transport-DRIVER. NAME=LOCATION gives an image another full name. An export that was interrupted goes on when the same command is run again.',
  positionals: [{ name: 'IMAGE', describe: '[NAME=]LOCATION', many: true }],
  options: {
    ...listOptions,
    output: {
      kind: 'text',
      alias: 'o',
      value: 'FILE|-',
      describe: 'the bundle to write; - is standard output',
    },
    platform: {
      kind: 'list',
      value: 'OS/ARCH',
      describe: 'only this platform; may be given again (default: all)',
    },
    'exclude-evidence': {
      kind: 'list',
      value: 'KIND',
      describe: `leave evidence of this kind behind: ${EVIDENCE_KINDS.join(', ')}; may be given again`,
    },
    policy: {
      kind: 'text',
      value: 'FILE',
      describe: 'refuse images that this policy refuses, before anything is signed or transferred',
    },
    ...lookasideOptions,
    ...contentTrustOptions,
    'include-foreign': {
      kind: 'flag',
      describe: 'carry layers that say they may only be had from their vendor; see to it that you may',
    },
    'dry-run': {
      kind: 'flag',
      describe: 'show what would be exported, with digests and sizes; sign and write nothing',
    },
    'metadata-only': {
      kind: 'flag',
      describe: 'carry no images: a bundle of kilobytes that renews trust, rotates keys and withdraws images',
    },
    since: {
      kind: 'text',
      value: 'WHAT',
      describe:
        'leave out layers that the other side holds: a receipt or request, a code that was read out, an earlier bundle, or last',
    },
    ...blobsFromOptions,
    ...makingOptions,
    writer: {
      kind: 'text',
      value: 'KIND',
      choices: ['sequential', 'positional'],
      describe: 'sequential or positional (default: what the output allows)',
    },
    ...volumeOptions,
    ...encryptOptions,
    ...sourceOptions,
    ...mirrorOptions,
    ...loginOptions,
    ...archiveOptions,
    ...transferOptions,
    ...signerOptions,
    ...passphraseOptions,
  },
  examples: [
    'sealift export alpine:3.20 -o images.tar',
    'sealift export --mirror docker.io=mirror.example/hub alpine:3.20 -o images.tar',
    'sealift export --notary-server docker.io=https://notary.docker.io alpine:3.20 -o images.tar',
    'sealift export --platform linux/amd64 nginx:1.29 quay.io/prometheus/prometheus:v3.0.0 -o images.tar',
    'helm template ./chart | sealift export -f - --dry-run',
    'sealift export -f images.txt -f compose.yaml -o images.tar',
    'sealift export -f images.txt --volume-size fat32 -o /media/stick/images.tar',
    'sealift export -f images.txt --volume-size dvd --only-volume 3 -o /media/stick/images.tar',
    'sealift export alpine:3.20 --encrypt-to gatekeeper.asc -o images.tar.gpg',
    'sealift export --metadata-only -o renewal.tar',
    'sealift export --since receipt.json -f images.txt -o delta.tar',
    'sealift export --since 17-T6QK-0TH7 -f images.txt -o delta.tar',
    'sealift export docker-archive:saved.tar.gz bundle:last-month.tar:quay.io/acme/app:1 -o images.tar',
    'sealift export bundle:delta.tar --blobs-from last-month.tar -o whole.tar',
    'sealift export registry.example/acme/rules:7=file:./rules.json -o rules.tar',
    'sealift export docker-daemon:acme/app:1.0 -o app.tar',
    'sealift export docker.io/acme/app:1.0=oci:./build/app -o - | ssh carrier "cat > app.tar"',
  ],
  run: async (runtime) => {
    const { args, paths, workflows, passphrase } = runtime;
    const output = args.text('output');
    const dryRun = args.flag('dry-run');
    if (output === undefined && !dryRun) {
      throw new SealiftError('invalid-argument', 'where does the bundle go? --output is missing', {
        subject: '--output',
        hint: 'add --output images.tar, or --output - for standard output',
      });
    }
    const making = makingFrom(args);
    const writer = args.text('writer') as 'sequential' | 'positional' | undefined;
    const since = await sinceFrom(runtime);
    const concurrency = args.integer('concurrency', 1, 64) ?? 4;
    const given = await Promise.all(args.positionals('IMAGE').map((image) => workflows.parseLocation(image)));
    const listed = await readLists(runtime);
    const images = [...given, ...listed.images];
    const platforms = await Promise.all(
      args.list('platform').map((platform) => workflows.parsePlatform(platform)),
    );
    const insecureSkipTlsVerify = args.flag('insecure-skip-tls-verify');
    if (insecureSkipTlsVerify) {
      runtime.notice(
        'warning',
        'tls-not-verified',
        "registries' certificates are not checked (--insecure-skip-tls-verify)",
      );
    }
    const toStdout = output === '-' && !dryRun;
    if (toStdout && args.flag('json')) {
      throw new SealiftError(
        'invalid-argument',
        'standard output cannot take both the bundle and the JSON document',
        {
          subject: '--json',
          hint: 'write the bundle to a file with --output FILE',
        },
      );
    }
    const homedir = os.homedir();
    const login = await loginFromOptions(runtime);
    const source = await sourceOptionsOf(runtime, {
      mirrors: args.list('mirror'),
      cache: args.text('cache'),
      concurrency,
      login: (files) => (login === undefined ? files : withLogin(login, images, files)),
    });
    const excluded = args.list('exclude-evidence');
    for (const kind of excluded) {
      if (!EVIDENCE_KINDS.includes(kind)) {
        throw new SealiftError(
          'invalid-argument',
          `no kind of evidence: got ${inert(kind)}, want ${EVIDENCE_KINDS.join(', ')}`,
          {
            subject: '--exclude-evidence',
          },
        );
      }
    }
    const policy = resolved(args.text('policy'), runtime.cwd);
    if (dryRun && policy !== undefined) {
      throw new SealiftError('invalid-argument', 'a dry run asks no policy', {
        subject: '--policy',
        hint: 'leave --dry-run out; an export that a policy refuses writes nothing either',
      });
    }
    const common = {
      images,
      platforms,
      includeEvidence: !excluded.includes('all'),
      ...(excluded.includes('referrers') ? { excludeReferrers: true } : {}),
      ...(excluded.includes('cosign') ? { excludeTagged: true } : {}),
      ...(excluded.includes('buildkit') ? { excludeAttestations: true } : {}),
      ...(excluded.includes('lookaside') || excluded.includes('all')
        ? {}
        : { lookaside: await lookasideFrom(resolved(args.text('registries-d'), runtime.cwd), homedir) }),
      ...(excluded.includes('notary') || excluded.includes('all')
        ? {}
        : contentTrustFrom(args.list('notary-server'), runtime.env)),
      includeForeign: args.flag('include-foreign'),
      concurrency,
      source,
      blobsFrom: blobsFrom(runtime),
    };
    if (output === undefined || dryRun) {
      const preview = await workflows.previewExport(
        since === undefined ? common : { ...common, delta: { collection: paths.collection.path, since } },
        await runtime.context(),
      );
      const result = { ...preview, skipped: listed.skipped };
      return {
        result,
        text: (view) => previewText(result, view),
        ...(result.failed.length === 0 ? {} : { exitCode: EXIT_CODES.partly[0] }),
      };
    }
    const target = toStdout
      ? ({ kind: 'stream', stream: runtime.claimStdout() } as const)
      : ({ kind: 'file', path: outputFile(output, runtime.cwd) } as const);
    const volumes = volumesFrom(runtime);
    const context = await runtime.context();
    const result = await workflows.exportBundle(
      {
        collection: paths.collection.path,
        ...common,
        ...(policy === undefined ? {} : { policy }),
        output: target,
        ...making,
        metadataOnly: args.flag('metadata-only'),
        ...(since === undefined ? {} : { since }),
        volumes,
        ...(await encryptionFrom(runtime)),
        readBack: readBackFrom(runtime),
        writer,
        passphrase: async (purpose) => {
          const answer = await passphrase(purpose);
          if (answer === undefined) throw passphraseMissing();
          return answer;
        },
        gpg: runtime.gpg,
        signers: args.list('signer'),
        pid: runtime.pid,
      },
      context,
    );
    return { result, text: (view) => exportText(result, view) };
  },
};
