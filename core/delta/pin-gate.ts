/** Pins the key of a gate in a collection, so that its receipts are taken. */
import type { Context } from '../context.ts';
import { inert, SealiftError } from '../errors.ts';
import type { PinGateResult } from '../results.ts';
import { openCollection } from '../trust/collection.ts';
import { pinGate } from './gates.ts';
import { readReceipt } from './receipt.ts';
import { assertCollection } from './since.ts';

export interface PinGateOptions {
  readonly collection: string;
  /** A receipt of the gate. */
  readonly receipt: string;
  /** What the sealed side read out: the key id, 64 lower-case hex digits. */
  readonly fingerprint: string;
  readonly pid: number;
}

/** @throws SealiftError `pin-mismatch` where the receipt is by another key; `receipt-mismatch`, `receipt-invalid`, `signature-invalid` */
export async function pinGateOfReceipt(options: PinGateOptions, context: Context): Promise<PinGateResult> {
  const collection = await openCollection(options.collection, context.limits);
  const lock = await collection.lock(options.pid);
  try {
    const receipt = await readReceipt(options.receipt);
    assertCollection(collection, receipt.collection.id, options.receipt);
    if (receipt.gate !== options.fingerprint) {
      throw new SealiftError('pin-mismatch', 'the receipt is by another gate than the fingerprint says', {
        subject: inert(options.receipt, 4096),
        got: receipt.gate,
        want: options.fingerprint,
        hint: 'have the fingerprint read out again; it must not come with the receipt',
      });
    }
    const isNew = await pinGate(collection.directory, receipt.gate, context.now);
    return { collectionId: collection.id, gate: receipt.gate, alreadyPinned: !isNew };
  } finally {
    await lock.release();
  }
}
