/** An export to a file: any interruption leaves a partial file and a journal, and the same command goes on. */
import { rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { type Journal, openJournal } from '../bundle/journal.ts';
import type { BundlePlan } from '../bundle/layout.ts';
import { openBundleStream } from '../bundle/reader.ts';
import { createPositionalWriter, type PositionalWriter } from '../bundle/writer-positional.ts';
import type { Context } from '../context.ts';
import { isSealiftError, SealiftError } from '../errors.ts';
import { createPartial, finalName, fsyncDirectory, makeDirectory } from '../fs/durable.ts';
import { NotKept, readPastCache, tellReadBackImpossible } from '../fs/read-back.ts';
import { assertFits, inspectFileSystem } from '../fs/space.ts';
import type { ExportResult } from '../results.ts';
import { inTrialOrder } from '../transport/mirrors.ts';
import type { Collection } from '../trust/collection.ts';
import { forEachLimited } from '../util/concurrency.ts';
import type { ExportOptions } from '../workflow-options.ts';
import { exportResult, publish } from './finish.ts';
import { planExport, type SignedPlan } from './plan.ts';
import { findInterrupted, sizeOf } from './resume.ts';
import type { SourceSet } from './sources.ts';
import { writeInOrder } from './stream.ts';
import { announceTransfer, openTransfer } from './transfer.ts';

type FileOutput = Extract<ExportOptions['output'], { kind: 'file' }>;
/** Bytes after which finished blobs are made durable and entered in the journal. */
const SYNC_EVERY = 64 * 1024 * 1024;
export async function exportToFile(
  collection: Collection,
  sources: SourceSet,
  output: FileOutput,
  options: ExportOptions,
  context: Context,
): Promise<ExportResult> {
  const file = path.resolve(output.path);
  const partial = path.join(path.dirname(file), `.${path.basename(file)}.partial`);
  await makeDirectory(path.dirname(file));
  const journal = openJournal(collection.directory, file);
  try {
    const found = await findInterrupted(journal, collection, options, context);
    if (found.state === 'written') {
      await journal.end();
      return await exportResult(
        collection,
        file,
        found.plan,
        { bytes: 0, resumedBytes: found.plan.bundle.layout.size },
        true,
        options,
      );
    }
    await refuseExisting(file, options.force);
    const plan =
      found.state === 'resume'
        ? found.plan
        : await planExport(collection, sources, { output: file, partial }, options, context, found.reuse);
    if (found.state === 'resume') {
      context.emit({
        type: 'notice',
        level: 'info',
        code: 'resumed',
        message: `going on with the interrupted export of version ${plan.journal.version}`,
      });
    } else {
      await rm(partial, { force: true });
      await journal.begin(plan.journal);
    }
    const written = await transferToFile(journal, plan, partial, sources, options, context);
    if (await options.readBack?.(path.dirname(file))) await readBack(partial, plan, context);
    // The collection learns of the version before the bundle appears: a bundle that is out is never unknown at home.
    const published = await publish(collection, plan.journal);
    await rename(partial, file);
    await fsyncDirectory(path.dirname(file));
    if (plan.journal.reuse) await rm(plan.journal.reuse.path, { force: true });
    await journal.end();
    return await exportResult(published, file, plan, written, found.state === 'resume', options);
  } finally {
    await journal.close();
  }
}

/**
 * Reads the bundle from its medium, every byte.
 * @throws SealiftError `destination-failed` where the medium has other bytes than were written; the file is then removed
 */
async function readBack(partial: string, plan: SignedPlan, context: Context): Promise<void> {
  context.emit({ type: 'phase', phase: 'read-back', title: 'reading the bundle back from the medium' });
  const pieces = await readPastCache(partial, context.signal);
  if (!pieces) {
    tellReadBackImpossible(path.dirname(partial), context);
    return;
  }
  try {
    const stream = await openBundleStream(pieces, context);
    stream.accept(plan.manifest);
    for (const { name, bytes } of plan.journal.head) {
      const found = stream.head.files.get(name)?.bytes;
      if (!found || Buffer.compare(found, bytes) !== 0)
        throw new SealiftError('digest-mismatch', `${name} has other bytes`);
    }
    for (let blob = await stream.nextBlob(); blob; blob = await stream.nextBlob()) await blob.skip();
  } catch (error) {
    if (!isSealiftError(error) || error.category !== 'malformed') throw error;
    // It would be gone on with as if it were good.
    await rm(partial, { force: true });
    throw new NotKept(finalName(partial), error);
  } finally {
    await pieces.return();
  }
}

async function refuseExisting(file: string, force: boolean): Promise<void> {
  if (!force && (await sizeOf(file)) !== undefined) {
    throw new SealiftError('destination-exists', 'the output is there already', {
      subject: file,
      hint: 'choose another name with -o, or replace it with --force',
    });
  }
}

export interface Written {
  readonly bytes: number;
  readonly resumedBytes: number;
}

async function transferToFile(
  journal: Journal,
  plan: SignedPlan,
  partial: string,
  sources: SourceSet,
  options: ExportOptions,
  context: Context,
): Promise<Written> {
  const { layout, blobs } = plan.bundle;
  const directory = path.dirname(partial);
  const facts = await inspectFileSystem(directory);
  // Without its partial file a journal vouches for nothing.
  const there = await stat(partial).catch(() => undefined);
  const present = await stillThere(journal, plan.bundle, there?.size ?? 0);
  const allocated = there ? there.blocks * 512 : 0;
  assertFits(facts, Math.max(0, layout.size - allocated), layout.size, directory);

  if (options.writer === 'sequential') {
    const handle = await createPartial(partial);
    try {
      // It closes the file itself, made durable: a handle with a stream on it waits for that stream.
      const stream = handle.createWriteStream({ flush: true, highWaterMark: 4 * 1024 * 1024 });
      const closed = new Promise<void>((resolve) => stream.once('close', resolve));
      await writeInOrder(plan, sources, stream, options, context);
      await closed;
    } finally {
      await handle.close();
    }
    return { bytes: layout.size, resumedBytes: 0 };
  }

  const writer = await createPositionalWriter({
    file: partial,
    plan: plan.bundle,
    signal: context.signal,
    ordered: !facts.holes,
    present,
    held: new Map(plan.journal.held.map(({ name, bytes }) => [name, bytes])),
  });
  try {
    const missing = new Set(writer.missing);
    const waiting = blobs.filter(({ name }) => missing.has(name));
    const resumedBytes = blobs
      .filter(({ name }) => present.has(name))
      .reduce((sum, { size }) => sum + size, 0);
    announceTransfer(waiting, resumedBytes, context);
    const marker = createMarker(writer, journal);
    const transfer = await openTransfer(plan, sources, context);
    try {
      const lanes = writer.ordered ? 1 : options.concurrency;
      await forEachLimited(
        writer.ordered ? waiting : inTrialOrder(waiting, options.source.mirrors, lanes),
        lanes,
        context.signal,
        async ({ name, size }, signal) => {
          await transfer.toFile(name, size, writer.target(name), signal);
          writer.done(name);
          await marker.finished(name, size);
        },
      );
      await marker.flush();
    } finally {
      await marker.settle();
      await transfer.close();
    }
    await writer.finish();
    return { bytes: writer.bytesWritten + waiting.reduce((sum, { size }) => sum + size, 0), resumedBytes };
  } finally {
    await writer.close();
  }
}

/** Blobs the journal vouches for, as far as the partial file reaches. */
async function stillThere(journal: Journal, bundle: BundlePlan, size: number): Promise<Set<string>> {
  const done = await journal.done();
  return new Set(
    bundle.blobs.flatMap((blob) =>
      done.has(blob.name) && blob.contentOffset + blob.size <= size ? [blob.name] : [],
    ),
  );
}

/** Enters finished blobs in the journal after they are durable, some at a time and beside the transfer. */
function createMarker(writer: PositionalWriter, journal: Journal) {
  let names: string[] = [];
  let bytes = 0;
  let running: Promise<void> | undefined;
  async function mark(): Promise<void> {
    const batch = names;
    names = [];
    bytes = 0;
    await writer.sync();
    await journal.markDone(batch);
  }
  return {
    async finished(name: string, size: number): Promise<void> {
      names.push(name);
      bytes += size;
      if (bytes < SYNC_EVERY) return;
      // One at a time; whoever comes while one runs waits, so that what is not durable stays bounded.
      while (running) await running;
      if (bytes < SYNC_EVERY) return;
      running = mark().finally(() => {
        running = undefined;
      });
      await running;
    },
    async flush(): Promise<void> {
      while (running) await running;
      await mark();
    },
    /** Waits for what runs; used on the way out, where its failure has been or will be reported elsewhere. */
    async settle(): Promise<void> {
      await running?.catch(() => undefined);
    },
  };
}
