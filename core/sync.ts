/** Sync: what was let into a store is put where any client can pull it. Nothing else ever is. */
import type { Context } from './context.ts';
import { SealiftError } from './errors.ts';
import { openLedger } from './importing/ledger.ts';
import { applyPlan, type DestinationResult } from './publish/apply.ts';
import { catalogDocument } from './publish/catalog.ts';
import { sourceOfStore, storeReader } from './publish/content.ts';
import type { Destination, OpenDestination } from './publish/destination.ts';
import { type PlacementOptions, withdrawnPlaces } from './publish/placement.ts';
import { planPublication } from './publish/plan.ts';
import { openStore } from './store/store.ts';
import { withdrawnInGate } from './withdrawn.ts';

export type { DestinationResult } from './publish/apply.ts';

export interface SyncOptions {
  /** Directory of the store. */
  readonly store: string;
  readonly destinations: readonly OpenDestination[];
  readonly placement: PlacementOptions;
  /** How clients reach the destination, for the catalog: `images.example`. */
  readonly host?: string | undefined;
  /** Takes away what is not in the store; milliseconds an object stays after nothing needs it any more. */
  readonly prune?: { readonly grace: number } | undefined;
  /** Looks at what is there and sends again what is wrong; with `deep` every blob is read. */
  readonly repair?: { readonly deep: boolean } | undefined;
  readonly dryRun: boolean;
  /** Objects in transfer at once. */
  readonly concurrency: number;
  /** Number of this process, for locks. */
  readonly pid: number;
  /** Directory of the gate, where there is one: what its collections have withdrawn is shown, and loses its tags. */
  readonly gate?: string | undefined;
}

export interface SyncResult {
  readonly store: string;
  readonly dryRun: boolean;
  readonly images: readonly {
    readonly name: string;
    readonly digest: string;
    /** `REPOSITORY:TAG` at every destination, the one to show first. */
    readonly places: readonly string[];
  }[];
  readonly destinations: readonly DestinationResult[];
}

/**
 * Brings every destination to what the store holds. The plan is computed once; a destination that has everything is left
 * as it is.
 *
 * @throws SealiftError `store-not-found`; `invalid-argument`, `name-conflict` where a name has no place of its own: nothing
 *   is written anywhere then; `blob-missing`, `digest-mismatch` where the store is damaged; `destination-…`
 */
export async function syncStore(options: SyncOptions, context: Context): Promise<SyncResult> {
  const store = await openStore(options.store, { create: false, limits: context.limits });
  // No image may be removed by a garbage collection while it is read.
  const lock = options.dryRun ? undefined : await store.lock(options.pid);
  try {
    const { images: records, notAdmitted } = await store.list();
    for (const { name, reason } of notAdmitted) {
      context.emit({
        type: 'notice',
        level: 'warning',
        code: 'not-admitted',
        message: `${name} is left out, it came in through no gate: ${reason}`,
      });
    }
    if (records.length === 0 && !options.prune) {
      throw new SealiftError('name-not-found', 'there is no image in the store', {
        subject: options.store,
        hint: 'import a bundle first; to empty a destination add --prune',
      });
    }
    const plan = await planPublication(storeReader(store), records, options.placement, context.limits);
    const withdrawn = options.gate === undefined ? [] : await withdrawnInGate(options.gate, context);
    const catalog = catalogDocument(plan, { host: options.host, now: context.now, withdrawn });
    const { prefix } = options.placement;
    const destinations: DestinationResult[] = [];
    for (const open of options.destinations) {
      const destination = await open(context);
      try {
        await refuseLedger(destination, options, context);
        destinations.push(
          await applyPlan(
            plan,
            destination,
            sourceOfStore(store),
            {
              concurrency: options.concurrency,
              dryRun: options.dryRun,
              repair: options.repair,
              prune: options.prune && {
                ...options.prune,
                scope: prefix === undefined ? 'v2/' : `v2/${prefix}/`,
              },
              withdrawn: withdrawnPlaces(withdrawn, options.placement),
              documents: new Map([catalog]),
            },
            context,
          ),
        );
      } finally {
        await destination.close();
      }
    }
    return {
      store: store.directory,
      dryRun: options.dryRun,
      images: plan.images.map(({ record: { name, digest }, places }) => ({ name, digest, places })),
      destinations,
    };
  } finally {
    await lock?.release();
  }
}

/** A destination belongs to one store, or to the bundles that are imported straight into it. */
async function refuseLedger(
  destination: Destination,
  { gate }: SyncOptions,
  { limits }: Context,
): Promise<void> {
  const ledger = gate === undefined ? undefined : await openLedger(gate, destination.identity, { limits });
  if (!ledger || ledger.records.length === 0) return;
  throw new SealiftError(
    'name-conflict',
    'the destination is filled straight from bundles, and a store would be in their way',
    {
      subject: destination.location,
      hint: `sealift import BUNDLE --to ${destination.location}; to hand it over to the store, remove ${ledger.directory} first`,
    },
  );
}
