/**
 * Export: resolve, plan, sign, lay out, transfer. Everything small is fetched first; what is signed fixes every
 * offset; layers then go straight to their place. A journal lets an interrupted export go on with the bytes that
 * were signed.
 */
import type { Writable } from 'node:stream';
import type { Context } from './context.ts';
import { SealiftError } from './errors.ts';
import { exportToFile } from './exporting/file.ts';
import { targetsOf } from './exporting/plan.ts';
import { refuseNothing, requestsOf, SourceSet } from './exporting/sources.ts';
import { exportToStream } from './exporting/stream.ts';
import type { ExportResult } from './results.ts';
import { collectContent, throwFailures } from './transport/collect.ts';
import { lockCollection, openCollection } from './trust/collection.ts';
import { tellExpiring, withExpiring } from './trust/expiring.ts';
import type { ExportOptions } from './workflow-options.ts';

/**
 * Exports images of a collection into one bundle.
 *
 * @throws SealiftError of every kind: `source-*` for the places images come from, `destination-*` for the output,
 *   `collection-not-found`, `passphrase-needed`, `metadata-expired` where a role of the collection ends before the bundle would
 */
export async function exportBundle(options: ExportOptions, context: Context): Promise<ExportResult> {
  if (options.metadataOnly !== true) refuseNothing(options.images);
  else if (options.images.length > 0) {
    throw new SealiftError('invalid-argument', 'a bundle of metadata only carries no images', {
      subject: '--metadata-only',
      hint: 'leave the images out, or leave --metadata-only out',
    });
  }
  const lock = await lockCollection(options.collection, options.pid);
  const sources = new SourceSet(options, context);
  try {
    const collection = await openCollection(options.collection, context.limits);
    const { output } = options;
    const { state } = collection;
    const expiring = await tellExpiring(state, context);
    options = { ...options, images: await namedBy(sources, options) };
    if (options.volumes || options.encryptTo) {
      if (output.kind === 'stream') throw options.volumes ? volumesToStream() : encryptedToStream();
      const { exportToVolumes } = await import('./exporting/volumes.ts');
      return withExpiring(await exportToVolumes(collection, sources, output, options, context), expiring);
    }
    const result =
      output.kind === 'stream'
        ? await exportToStream(collection, sources, output.stream as Writable, options, context)
        : await exportToFile(collection, sources, output, options, context);
    return withExpiring(result, expiring);
  } finally {
    await sources.close();
    await lock.release();
  }
}

/**
 * What a collection would say of `options.images`: length and hashes of their manifests, by full name.
 * @throws SealiftError of the sources; `invalid-argument` where nothing was asked for
 */
export async function resolveTargets(
  options: Pick<ExportOptions, 'images' | 'concurrency' | 'source'>,
  context: Context,
): Promise<ReturnType<typeof targetsOf>> {
  refuseNothing(options.images);
  const sources = new SourceSet(options, context);
  try {
    context.emit({ type: 'phase', phase: 'resolve', title: 'resolving images' });
    const bare = { ...options, platforms: [], includeEvidence: false };
    const requests = await requestsOf(await namedBy(sources, options), sources, bare, context);
    return targetsOf(await collectContent(requests, bare, context));
  } finally {
    await sources.close();
  }
}

async function namedBy(
  sources: SourceSet,
  { images }: Pick<ExportOptions, 'images'>,
): Promise<typeof images> {
  const named = await sources.named();
  throwFailures(sources.failed, images.length);
  return named;
}

function encryptedToStream(): SealiftError {
  return new SealiftError('invalid-argument', 'an encrypted bundle does not go to standard output', {
    subject: '--encrypt-to',
    hint: 'name a file with --output images.tar.gpg, or let gpg encrypt: sealift export … -o - | gpg --encrypt -z 0 -r RECIPIENT',
  });
}

function volumesToStream(): SealiftError {
  return new SealiftError('invalid-argument', 'volumes are files: they do not go to standard output', {
    subject: '--volume-size',
    hint: 'name the bundle with --output images.tar; the volumes are images.tar.001 and so on',
  });
}
