import path from 'node:path';
import { SealiftError } from '../../core/errors.ts';
import type { NamedLocation } from '../../core/transport/location.ts';
import type { Command, Runtime } from '../command.ts';
import { transferOptions } from '../options/common.ts';
import { passphraseOptions } from '../options/passphrase.ts';
import { keyFiles, requestFrom, requestOptions } from '../options/request.ts';
import { signerOptions } from '../options/signer.ts';
import { archiveOptions, sourceOptions } from '../options/source.ts';
import { sourceOptionsOf } from '../options/source-settings.ts';
import { createStyle } from '../output/style.ts';
import { addText, publishedText, requestText } from '../output/trust-report.ts';
import { signing, signingWith } from './trust-change.ts';

export const trustAddCommand: Command = {
  words: ['trust', 'add'],
  summary: 'sign names without exporting them',
  about:
    "Looks the image up, as export does, and signs its digest in the role that rules the name. Publishers run it on a copy of the collection, with their own key in its keys/, and hand over what --request writes; whoever exports takes it over with publish. An export of a name whose role needs other people's signatures goes on once they are there.",
  positionals: [{ name: 'IMAGE', describe: '[NAME=]LOCATION', required: true, many: true }],
  options: {
    digest: {
      kind: 'text',
      value: 'sha256:HEX',
      describe: 'sign this digest, and look nothing up; wants --size and --media-type',
    },
    size: { kind: 'text', value: 'BYTES', describe: 'size of the manifest that has this digest' },
    'media-type': { kind: 'text', value: 'TYPE', describe: 'media type of that manifest' },
    ...requestOptions,
    ...sourceOptions,
    ...archiveOptions,
    ...transferOptions,
    ...signerOptions,
    ...passphraseOptions,
  },
  examples: [
    'sealift trust add docker.io/acme/app:1.0 --request app.json',
    'sealift trust add docker.io/acme/app:1.0=oci:./build/app --collection ./copy --request app.json',
    'sealift trust add docker.io/acme/app:1.0 --digest sha256:9f86… --size 1234 --media-type application/vnd.oci.image.index.v1+json',
  ],
  run: async (runtime) => {
    const { args, workflows } = runtime;
    const images = await Promise.all(
      args.positionals('IMAGE').map((image) => workflows.parseLocation(image)),
    );
    const concurrency = args.integer('concurrency', 1, 64) ?? 4;
    const context = await runtime.context();
    const operations = await workflows.trustOperations();
    const targets =
      boundDigest(runtime, images, operations.bindName) ??
      (await operations.resolveTargets(
        { images, concurrency, source: await sourceOptionsOf(runtime, { concurrency }) },
        context,
      ));
    const pending = await operations.addNames(
      { ...signingWith(runtime), images: targets, request: requestFrom(runtime) },
      context,
    );
    const names = [...targets].map(([name, { sha256, sha512 }]) => ({
      name,
      digest: sha512 === undefined ? `sha256:${sha256}` : `sha512:${sha512}`,
    }));
    const result = { ...pending, names };
    return { result, text: (view) => addText(result, view) };
  },
};

/** The one name with the digest that the options give it; undefined where they give none. */
function boundDigest(
  { args }: Runtime,
  images: readonly NamedLocation[],
  bindName: typeof import('../../core/trust-ops/index.ts').bindName,
) {
  const digest = args.text('digest');
  const size = args.integer('size', 1, Number.MAX_SAFE_INTEGER);
  const mediaType = args.text('media-type');
  if (digest === undefined && size === undefined && mediaType === undefined) return undefined;
  const [image, ...others] = images;
  if (!image || others.length > 0 || digest === undefined || size === undefined || mediaType === undefined) {
    throw new SealiftError(
      'invalid-argument',
      'a digest is signed for one name, with --digest, --size and --media-type together',
      { subject: '--digest', hint: 'crane manifest NAME | wc -c, or sealift inspect, show size and type' },
    );
  }
  return bindName(image, { digest, size, mediaType });
}

export const trustSignCommand: Command = {
  words: ['trust', 'sign'],
  summary: 'add a signature to a request, after showing what it says',
  about:
    'Needs no network and no collection: the request file and a key are enough. Where a copy of the collection is at hand, only the differences are shown. The signature is added to the file, which goes back to whoever wrote it.',
  positionals: [{ name: 'REQUEST', describe: 'the file', required: true }],
  options: {
    key: {
      kind: 'list',
      value: 'FILE',
      describe:
        'a secret key that signs, or gpg:FINGERPRINT; may be given again (default: those in the collection)',
    },
    ...passphraseOptions,
  },
  examples: [
    'sealift trust sign rekey.json --key ~/keys/anna.pem',
    'sealift trust sign rekey.json --key gpg:FINGERPRINT',
  ],
  run: async (runtime) => {
    const { args, workflows, cwd, paths } = runtime;
    const { passphrase, gpg } = signing(runtime);
    const style = createStyle({ color: false, unicode: false, columns: runtime.columns });
    const operations = await workflows.trustOperations();
    const result = await operations.signRequest(
      {
        request: path.resolve(cwd, args.positional('REQUEST') ?? ''),
        keys: keyFiles(runtime, 'key', passphrase),
        collection: paths.collection.path,
        passphrase,
        gpg,
        confirm: args.flag('yes')
          ? undefined
          : async (found) => {
              const words = requestText(found, { style, now: runtime.now, checksShown: false });
              const answer = await runtime.ask(`${words}\nSign this? [y/N] `, true);
              if (answer !== undefined) return /^y(?:es)?$/i.test(answer.trim());
              throw new SealiftError('terminal-needed', 'a request is signed by somebody who has read it', {
                hint: 'run it on a terminal, or add --yes',
              });
            },
      },
      await runtime.context(),
    );
    return { result, text: (view) => requestText(result, view) };
  },
};

export const trustPublishCommand: Command = {
  words: ['trust', 'publish'],
  summary: 'take over what was signed, once all signatures are there',
  about:
    'Merges the signatures of several copies of one request. Only a full threshold of the collection’s own keys counts, whatever the file says; what is taken over travels with the next bundle. A secret key in keys/ that no role has any more goes to keys/retired. Exit code 8 where signatures are missing.',
  positionals: [
    { name: 'REQUEST', describe: 'a file, or several of one content', required: true, many: true },
  ],
  options: {
    stolen: {
      kind: 'flag',
      describe: 'a key that goes is in wrong hands: with OpenPGP its revocation certificate is published',
    },
  },
  examples: ['sealift trust publish rekey.json', 'sealift trust publish from-anna.json from-berta.json'],
  run: async (runtime) => {
    const { args, workflows, cwd } = runtime;
    const operations = await workflows.trustOperations();
    const result = await operations.publishRequest(
      {
        collection: runtime.paths.collection.path,
        pid: runtime.pid,
        passphrase: () => Promise.resolve(undefined),
        requests: args.positionals('REQUEST').map((file) => path.resolve(cwd, file)),
        stolen: args.flag('stolen'),
      },
      await runtime.context(),
    );
    return { result, text: (view) => publishedText(result, view) };
  },
};
