/** What is left when the bytes are out. */
import type { JournalPlan } from '../bundle/journal.ts';
import { baseSummary } from '../delta/base.ts';
import { openLedger } from '../delta/ledger.ts';
import { SealiftError } from '../errors.ts';
import type { CollectionSummary, ExportResult, Weakening } from '../results.ts';
import { imageSummaries } from '../summaries.ts';
import type { Collection } from '../trust/collection.ts';
import type { ExportOptions } from '../workflow-options.ts';
import type { Written } from './file.ts';
import type { SignedPlan } from './plan.ts';

/** Makes the signed metadata the collection's own; nothing to do where an interrupted run got that far. */
export async function publish(collection: Collection, journal: JournalPlan): Promise<Collection> {
  if (collection.state.timestamp.version >= journal.version) return collection;
  return collection.publish(journal.head.filter(({ name }) => name.startsWith('metadata/')));
}

export async function exportResult(
  collection: Collection,
  output: string,
  plan: SignedPlan,
  written: Written,
  resumed: boolean,
  options: ExportOptions,
): Promise<ExportResult> {
  const summary: CollectionSummary = plan.summary ?? (await collection.summary());
  await recordExport(collection, plan);
  return {
    output,
    size: plan.bundle.layout.size,
    collection: summary,
    images: imageSummaries(plan.manifest),
    blobs: {
      count: plan.bundle.blobs.length,
      bytes: plan.bundle.blobs.reduce((sum, { size }) => sum + size, 0),
    },
    written,
    resumed,
    base: baseSummary(plan.manifest),
    weakened: weakenedBy(options),
  };
}

/** Enters a bundle that is out in the ledger. */
async function recordExport(collection: Collection, { journal, manifest }: SignedPlan): Promise<void> {
  const bytes = journal.head.find(({ name }) => name === 'sealift.json')?.bytes;
  if (!bytes) throw new SealiftError('internal', 'a written bundle has no manifest');
  await openLedger(collection.directory, collection.id).record(manifest, bytes, journal.expires);
}

function weakenedBy(options: ExportOptions): Weakening[] {
  const weakened: Weakening[] = [];
  if (options.source.insecureSkipTlsVerify) {
    weakened.push({
      option: '--insecure-skip-tls-verify',
      effect: 'the registry was not authenticated; tags were taken from whoever answered',
    });
  }
  if (options.source.plainHttp) {
    weakened.push({
      option: '--plain-http',
      effect: 'the registry was asked without encryption; tags were taken from whoever answered',
    });
  }
  return weakened;
}
