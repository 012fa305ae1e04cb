/** What an interrupted export left, and whether to go on with it. */
import { open, rename, stat } from 'node:fs/promises';
import type { Journal, JournalPlan, NamedBytes, ReusableFile } from '../bundle/journal.ts';
import { type BundlePlan, layoutBundle } from '../bundle/layout.ts';
import { createdSeconds, parseBundleManifest, parseEntryName } from '../bundle/manifest.ts';
import type { Context } from '../context.ts';
import { SealiftError } from '../errors.ts';
import type { Collection } from '../trust/collection.ts';
import type { ExportOptions } from '../workflow-options.ts';
import { requestHash, type SignedPlan } from './plan.ts';
import { digestOfPath } from './transfer.ts';

/** A resumed export whose trust ends sooner than this is planned anew. */
const LEAST_LIFETIME_LEFT = 60 * 60 * 1000;
type Interrupted =
  /** Nothing to go on with; perhaps bytes that can be used again. */
  | { readonly state: 'none'; readonly reuse?: ReusableFile | undefined }
  | { readonly state: 'resume'; readonly plan: SignedPlan }
  /** The bundle is at its final name already; only the journal was left. */
  | { readonly state: 'written'; readonly plan: SignedPlan };

export async function findInterrupted(
  journal: Journal,
  collection: Collection,
  options: ExportOptions,
  context: Context,
): Promise<Interrupted> {
  const found = await journal.read();
  if (!found) return { state: 'none' };
  const plan = planFromJournal(found, context);
  const partialSize = await sizeOf(found.partial);
  if (
    partialSize === undefined &&
    (await startsWith(found.output, found.head, plan.bundle)) &&
    found.request === requestHash(options)
  ) {
    return { state: 'written', plan };
  }
  const current = Math.max(collection.state.timestamp.version, collection.stagedVersion ?? 0);
  const stale =
    current > found.version || Date.parse(found.expires) < context.now.getTime() + LEAST_LIFETIME_LEFT;
  if (found.request === requestHash(options) && !stale) return { state: 'resume', plan };
  context.emit({
    type: 'notice',
    level: 'info',
    code: 'planned-anew',
    message: stale
      ? 'the interrupted export is out of date; it is planned anew and uses what was transferred'
      : 'the interrupted export to this file was another one; what it transferred is used where it fits',
  });
  return { state: 'none', reuse: await keepPartial(journal, found, plan.bundle) };
}

/** Sets the abandoned partial file aside as a source of bytes for the new plan. */
async function keepPartial(
  journal: Journal,
  found: JournalPlan,
  bundle: BundlePlan,
): Promise<ReusableFile | undefined> {
  const done = await journal.done();
  const blobs = bundle.blobs
    .filter(({ name }) => done.has(name))
    .map(({ name, contentOffset, size }) => ({ digest: digestOfPath(name), offset: contentOffset, size }));
  if (blobs.length === 0 || (await sizeOf(found.partial)) === undefined) return found.reuse;
  const aside = `${found.partial}.old`;
  await rename(found.partial, aside);
  return { path: aside, blobs };
}

/** The plan an earlier run has signed. */
export function planFromJournal(journal: JournalPlan, context: Context): SignedPlan {
  const manifestBytes = journal.head.find(({ name }) => name === 'sealift.json')?.bytes;
  if (!manifestBytes)
    throw new SealiftError('state-damaged', 'the journal has no bundle manifest', {
      subject: journal.output,
    });
  const manifest = parseBundleManifest(manifestBytes, context.limits);
  const blobs = manifest.entries.flatMap(({ name, size }) =>
    parseEntryName(name)?.type === 'blob' && size !== undefined ? [{ name, size }] : [],
  );
  return {
    journal,
    manifest,
    bundle: layoutBundle(journal.head, blobs, createdSeconds(manifest.created) ?? 0),
  };
}

export async function sizeOf(file: string): Promise<number | undefined> {
  try {
    return (await stat(file)).size;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** True where `file` has the size of the bundle and begins with its signed files. */
async function startsWith(file: string, head: readonly NamedBytes[], bundle: BundlePlan): Promise<boolean> {
  if ((await sizeOf(file)) !== bundle.layout.size) return false;
  const handle = await open(file, 'r');
  try {
    for (const { name, bytes } of head) {
      const { contentOffset } = bundle.layout.byName.get(name) ?? { contentOffset: 0 };
      const { buffer, bytesRead } = await handle.read(
        Buffer.alloc(bytes.length),
        0,
        bytes.length,
        contentOffset,
      );
      if (bytesRead !== bytes.length || Buffer.compare(buffer, bytes) !== 0) return false;
    }
    return true;
  } finally {
    await handle.close();
  }
}
