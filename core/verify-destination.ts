/** Verify what clients pull from: a directory or bucket, held against what the gate or the store says was let in. */
import type { Context } from './context.ts';
import { SealiftError } from './errors.ts';
import { openLedger } from './importing/ledger.ts';
import { sourceOfStore, storeReader } from './publish/content.ts';
import type { OpenDestination, Proof } from './publish/destination.ts';
import { type Examination, examineDestination } from './publish/examine.ts';
import type { PlacementOptions } from './publish/placement.ts';
import { planPublication } from './publish/plan.ts';
import { openStore } from './store/store.ts';
import { withdrawnInGate } from './withdrawn.ts';

export interface VerifyDestinationOptions {
  readonly open: OpenDestination;
  readonly gate: string;
  /** Directory of the store that is published there; looked at where the gate knows nothing of the destination. */
  readonly store: string;
  /** Undefined: as the gate has written it down, or none. */
  readonly placement?: PlacementOptions | undefined;
  /** How clients reach it: where the catalog page has to send them. */
  readonly host?: string | undefined;
  readonly deep: boolean;
  readonly concurrency: number;
}

export interface VerifyDestinationResult extends Examination {
  readonly location: string;
  /** Who says what ought to be there. */
  readonly wantedBy: 'gate' | 'store';
  /** Number of objects by how they were found to be right. */
  readonly proofs: { readonly [P in Proof]: number };
  readonly missing: number;
  readonly wrong: number;
  readonly deep: boolean;
  /** Nothing is missing, wrong or foreign. */
  readonly good: boolean;
}

/**
 * Looks at every object, and changes nothing. What ought to be there is never asked of the destination.
 * @throws SealiftError `store-not-found` where neither the gate nor a store knows of it; `destination-…`
 */
export async function verifyDestination(
  options: VerifyDestinationOptions,
  context: Context,
): Promise<VerifyDestinationResult> {
  const { limits } = context;
  const destination = await options.open(context);
  try {
    const ledger = await openLedger(options.gate, destination.identity, { limits });
    const fromGate = ledger !== undefined && ledger.records.length > 0;
    const store = fromGate ? undefined : await openStore(options.store, { create: false, limits });
    const records = fromGate ? ledger.records : ((await store?.list())?.images ?? []);
    const reader = fromGate ? ledger.reader : store && storeReader(store);
    if (!reader || records.length === 0) {
      throw new SealiftError(
        'name-not-found',
        'nothing says what ought to be there: the store has no image',
        {
          subject: options.store,
          hint: 'name the store that is published there with --store',
        },
      );
    }
    const placement = options.placement ?? ledger?.placement ?? {};
    const plan = await planPublication(reader, records, placement, limits);
    const found = await examineDestination(
      plan,
      destination,
      {
        deep: options.deep,
        concurrency: options.concurrency,
        scope: placement.prefix === undefined ? 'v2/' : `v2/${placement.prefix}/`,
        source: store && sourceOfStore(store),
        host: options.host,
        withdrawn: await withdrawnInGate(options.gate, context),
      },
      context,
    );
    const proofs = { content: 0, checksum: 0, etag: 0, size: 0 };
    let missing = 0;
    let wrong = 0;
    for (const { proof, fault } of found.objects) {
      if (proof) proofs[proof] += 1;
      else if (fault === 'missing') missing += 1;
      else wrong += 1;
    }
    return {
      location: destination.location,
      wantedBy: fromGate ? 'gate' : 'store',
      ...found,
      proofs,
      missing,
      wrong,
      deep: options.deep,
      good: missing + wrong + found.foreign.length === 0,
    };
  } finally {
    await destination.close();
  }
}
