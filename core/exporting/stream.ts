/** An export to what cannot seek: a pipe, a tape. */
import type { Writable } from 'node:stream';
import type { Context } from '../context.ts';
import type { ExportResult } from '../results.ts';
import type { Collection } from '../trust/collection.ts';
import type { ExportOptions } from '../workflow-options.ts';
import { exportResult, publish } from './finish.ts';
import { planExport, type SignedPlan } from './plan.ts';
import type { SourceSet } from './sources.ts';
import { announceTransfer, digestOfPath, openTransfer } from './transfer.ts';

export async function exportToStream(
  collection: Collection,
  sources: SourceSet,
  stream: Writable,
  options: ExportOptions,
  context: Context,
): Promise<ExportResult> {
  const plan = await planExport(
    collection,
    sources,
    { output: '-', partial: '' },
    options,
    context,
    undefined,
  );
  // There is no later moment at which it is sure that the other end has everything.
  const published = await publish(collection, plan.journal);
  const { sha256 } = await writeInOrder(plan, sources, stream, options, context);
  const written = { bytes: plan.bundle.layout.size, resumedBytes: 0 };
  return { ...(await exportResult(published, '-', plan, written, false, options)), sha256 };
}

export async function writeInOrder(
  plan: SignedPlan,
  sources: SourceSet,
  output: Writable,
  _options: ExportOptions,
  context: Context,
): Promise<{ readonly size: number; readonly sha256: string }> {
  const { writeSequentially } = await import('../bundle/writer-sequential.ts');
  announceTransfer(plan.bundle.blobs, 0, context);
  const sizes = new Map(plan.bundle.blobs.map(({ name, size }) => [name, size]));
  const transfer = await openTransfer(plan, sources, context);
  try {
    return await writeSequentially({
      output,
      plan: plan.bundle,
      pool: context.pool,
      signal: context.signal,
      blob: (name, size) => {
        context.emit({ type: 'blob', state: 'started', digest: digestOfPath(name), bytes: 0, size });
        return transfer.open(name, size);
      },
      onProgress: (name, bytes) => {
        const size = sizes.get(name) ?? bytes;
        context.emit({
          type: 'blob',
          state: bytes === size ? 'done' : 'progress',
          digest: digestOfPath(name),
          bytes,
          size,
        });
      },
    });
  } finally {
    await transfer.close();
  }
}
