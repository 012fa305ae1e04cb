/**
 * Straight from a bundle to where clients pull from: no store, no staging copy. What was let in is written down in the gate
 * (ledger.ts) when all that a tag leads to is there, and before the first tag is set.
 */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import type { FileBundle } from '../bundle/reader.ts';
import type { Context } from '../context.ts';
import type { ImportBase } from '../delta/import-base.ts';
import { SealiftError } from '../errors.ts';
import { openAs } from '../fs/access.ts';
import { sweepTemporary, temporaryName } from '../fs/durable.ts';
import { type ContentJudgement, MAX_HELD_EVIDENCE, type TrustJudgement } from '../judge.ts';
import { blobPath, type Digest } from '../oci/digest.ts';
import { type DestinationResult, type Publication, preparePublication } from '../publish/apply.ts';
import { catalogDocument } from '../publish/catalog.ts';
import type { BlobSource, Destination, OpenBlob, OpenDestination } from '../publish/destination.ts';
import { type PlacementOptions, withdrawnPlaces } from '../publish/placement.ts';
import { type PublishPlan, planPublication } from '../publish/plan.ts';
import type { ImageVerdict } from '../results.ts';
import type { GraphReader } from '../store/graph.ts';
import type { ImageRecord } from '../store/store.ts';
import type { Withdrawal } from '../withdrawn.ts';
import { type Ledger, openLedger } from './ledger.ts';
import { type Outcome, type PlannedChange, planChange } from './records.ts';

export interface DirectOptions {
  readonly open: readonly OpenDestination[];
  readonly placement: PlacementOptions;
  /** How clients reach the destination, for the catalog. */
  readonly host?: string | undefined;
  /** Milliseconds what nothing needs stays; undefined removes nothing but withdrawn tags. */
  readonly prune?: { readonly grace: number } | undefined;
  /** Looks at what is there and sends again what is wrong; with `deep` every blob is read. */
  readonly repair?: { readonly deep: boolean } | undefined;
}

/** What an import did at one destination. */
export interface DirectResult extends DestinationResult {
  readonly images: Outcome & {
    /** Images of earlier imports of which blobs are gone there, and which this bundle does not carry. */
    readonly damaged: readonly string[];
  };
}

export interface PreparedDestination {
  readonly publication: Publication;
  /** Names that go. */
  readonly withdrawn: readonly string[];
  /** Writes down what is let in, sets tags, and tells what was done. */
  finish(): Promise<DirectResult>;
  close(): Promise<void>;
}

/** What is published: the judged bundle, and how to read it. */
export interface Carried {
  readonly trust: TrustJudgement;
  readonly content: ContentJudgement;
  readonly chosen: readonly ImageVerdict[];
  /** All blobs of these images. */
  readonly wanted: ReadonlySet<Digest>;
  /** What a delta leaves out, and the bundles and stores that were named for it. */
  readonly base: Pick<ImportBase, 'leftOut' | 'named'>;
  /** The open bundle; undefined for a stream, whose blobs are in `taken` then. */
  readonly bundle: FileBundle | undefined;
  /** A store that the same import fills first. */
  readonly taken?: BlobSource | undefined;
  /** Of all collections of the gate. */
  readonly withdrawn: readonly Withdrawal[];
}

export interface PrepareOptions extends DirectOptions {
  readonly gate: string;
  readonly concurrency: number;
  readonly pid: number;
}

/** Opens one destination and finds out what it has; writes nothing there but its lock. */
export async function prepareDestination(
  open: OpenDestination,
  carried: Carried,
  options: PrepareOptions,
  context: Context,
): Promise<PreparedDestination> {
  const destination = await open(context);
  let ledger: Ledger | undefined;
  const close = async (): Promise<void> => {
    await ledger?.close();
    await destination.close();
  };
  try {
    const opened = await openLedger(options.gate, destination.identity, {
      limits: context.limits,
      pid: options.pid,
    });
    if (!opened) throw new SealiftError('internal', 'a ledger was not made');
    ledger = opened;
    // What a run that was killed left of a blob that was put together.
    await sweepTemporary([opened.directory]);
    const change = planChange(opened.records, carried.trust, carried.chosen, context);
    const { publication, plan, damaged } = await publicationOf(
      opened,
      change,
      destination,
      carried,
      options,
      context,
    );
    refuseBroken(carried, publication);
    return {
      publication,
      withdrawn: change.withdrawn,
      async finish() {
        const result = await publication.finish(async () => {
          await holdSmall(opened, change, plan, carried, context);
          await opened.commit(change.changed, change.withdrawn, options.placement);
        });
        const { imported, unchanged, withdrawn: removed } = change;
        return { ...result, images: { imported, unchanged, removed, damaged } };
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** An image of this bundle whose base was looked for, and is not where it is needed, must not get its tag. */
function refuseBroken({ chosen }: Carried, { broken, location }: Publication): void {
  const image = chosen.find(({ digest }) => broken.has(digest));
  if (!image) return;
  throw new SealiftError(
    'base-needed',
    `${location} does not have all layers of the image where it needs them`,
    {
      subject: image.name,
      hint: 'name what has them: sealift import BUNDLE --to LOCATION --blobs-from EARLIER',
    },
  );
}

async function publicationOf(
  ledger: Ledger,
  change: PlannedChange,
  destination: Destination,
  carried: Carried,
  options: PrepareOptions,
  context: Context,
): Promise<{ publication: Publication; plan: PublishPlan; damaged: readonly string[] }> {
  const { placement, host, prune, repair, concurrency } = options;
  const records = recordsAfter(ledger, change);
  const source = sourceOf(carried, ledger);
  const plan = await planPublication(readerOf(ledger, source, records), records, placement, context.limits);
  const catalog = catalogDocument(plan, { host, now: context.now, withdrawn: carried.withdrawn });
  const publication = await preparePublication(
    plan,
    destination,
    source,
    {
      concurrency,
      dryRun: false,
      repair,
      prune: prune && {
        ...prune,
        scope: placement.prefix === undefined ? 'v2/' : `v2/${placement.prefix}/`,
      },
      withdrawn: withdrawnPlaces(carried.trust.withdrawn, placement),
      documents: new Map([catalog]),
    },
    context,
  );
  const damaged = records.filter(({ digest }) => publication.broken.has(digest)).map(({ name }) => name);
  for (const name of damaged) {
    context.emit({
      type: 'notice',
      level: 'warning',
      code: 'image-damaged',
      message: `${name} was let in earlier, ${destination.location} has lost a part of it, and this bundle does not carry it`,
    });
  }
  return { publication, plan, damaged };
}

function recordsAfter(ledger: Ledger, change: PlannedChange): readonly ImageRecord[] {
  const gone = new Set([...change.withdrawn, ...change.records.map(({ name }) => name)]);
  return [...ledger.records.filter(({ name }) => !gone.has(name)), ...change.records].sort((a, b) =>
    a.name < b.name ? -1 : 1,
  );
}

/** Blobs of the bundle, or of the store it was just taken into; manifests of earlier imports from the gate. */
function sourceOf(
  { bundle, taken, base }: Carried,
  ledger: Ledger,
): BlobSource & Required<Pick<BlobSource, 'has'>> {
  const find = async (digest: Digest): Promise<OpenBlob | undefined> => {
    // What was just taken into a store need not be read from the medium once more.
    if (await taken?.has?.(digest)) return taken?.open(digest);
    const found = bundle && (await openInBundle(bundle, digest, ledger.directory));
    if (found) return found;
    const size = base.leftOut.get(digest) ?? 0;
    const [reading] = await base.named.readings(digest, size);
    return reading && spool(await reading.read(), ledger.directory);
  };
  return {
    has: async (digest) =>
      bundle?.blob(blobPath(digest)) !== undefined ||
      (await taken?.has?.(digest)) === true ||
      (base.leftOut.has(digest) && (await base.named.has(digest, base.leftOut.get(digest) ?? 0))),
    async open(digest) {
      const found = await find(digest);
      if (found) return found;
      throw new SealiftError('blob-missing', 'neither the bundle nor the destination has this blob', {
        subject: digest,
      });
    },
    async read(digest, max) {
      if (bundle?.blob(blobPath(digest))) return bundle.readBlob(blobPath(digest), max);
      if (await taken?.has?.(digest)) return (taken as BlobSource).read(digest, max);
      return ledger.reader.read(digest, max);
    },
  };
}

/**
 * A blob where it lies in a bundle; the bundle's descriptor is lent until `close`. One that lies in several volumes is put
 * together first.
 */
async function openInBundle(
  bundle: FileBundle,
  digest: Digest,
  scratch: string,
): Promise<OpenBlob | undefined> {
  const place = bundle.blob(blobPath(digest));
  if (!place) return undefined;
  const { promise: returned, resolve: giveBack } = Promise.withResolvers<void>();
  const whole = await new Promise<OpenBlob | undefined>((resolve, reject) => {
    const lent = bundle.take([place], async ([piece]) => {
      if (!piece?.whole) {
        resolve(undefined);
        return;
      }
      const { fd, offset, size } = piece;
      resolve({ fd, offset, size, close: async () => giveBack() });
      await returned;
    });
    lent.catch(reject);
  });
  return whole ?? spool(bundle.content(place), scratch);
}

/** Content in a file that has no name, so that nothing of it stays; it is hashed by whoever sends it. */
async function spool(content: AsyncIterable<Uint8Array>, scratch: string): Promise<OpenBlob> {
  const file = temporaryName(path.join(scratch, 'blob'));
  const handle = await openAs(file, 'wx+', 'state');
  try {
    await rm(file);
    let offset = 0;
    for await (const chunk of content) {
      for (let done = 0; done < chunk.length; ) {
        const { bytesWritten } = await handle.write(chunk, done, chunk.length - done, offset);
        done += bytesWritten;
        offset += bytesWritten;
      }
    }
    return { fd: handle.fd, offset: 0, size: offset, close: () => handle.close() };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

function readerOf(
  ledger: Ledger,
  source: BlobSource & Required<Pick<BlobSource, 'has'>>,
  records: readonly ImageRecord[],
): GraphReader {
  const omitted = new Set<string>(records.flatMap((record) => record.omitted));
  return {
    exists: async (digest) =>
      !omitted.has(digest) || (await source.has(digest)) || (await ledger.reader.exists(digest)),
    read: (digest, max) => source.read(digest, max),
  };
}

/** Manifests, and what is small of the evidence, so that the gate knows later what ought to be there. */
async function holdSmall(
  ledger: Ledger,
  change: PlannedChange,
  plan: PublishPlan,
  carried: Carried,
  context: Context,
): Promise<void> {
  const source = sourceOf(carried, ledger);
  const evidence = new Set(
    carried.trust.manifest.entries.flatMap(({ name, kind, size = 0 }) =>
      kind === 'evidence' && size <= MAX_HELD_EVIDENCE ? [name] : [],
    ),
  );
  for (const { name } of change.changed) {
    for (const digest of carried.content.blobs.get(name) ?? []) {
      const node = plan.graph.get(digest);
      if (!node || !(node.manifest || evidence.has(blobPath(digest)))) continue;
      if (await ledger.has(digest, node.size)) continue;
      context.signal.throwIfAborted();
      await ledger.hold(digest, await source.read(digest, context.limits.manifest));
    }
  }
}
