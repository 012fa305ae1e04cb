/** Garbage collection of a store, and the entry of the audit log that tells of it. */
import type { Context } from './context.ts';
import { keptByReceipts } from './delta/kept.ts';
import { isSealiftError } from './errors.ts';
import { type Gate, openGate } from './gate/gate.ts';
import type { GarbageResult } from './results.ts';
import { openStore } from './store/store.ts';

export interface GarbageOptions {
  readonly store: string;
  /** Directory of the gate whose log is told; a store can be cleaned where there is none. */
  readonly gate: string;
  readonly dryRun: boolean;
  readonly pid: number;
  /** Who runs this, for the audit log. */
  readonly actor: string;
}

/**
 * Removes blobs that no image of the store needs.
 * @throws SealiftError `store-not-found`, `destination-locked`; `state-damaged` where what is needed cannot be known, or the
 *   audit log cannot be written: nothing is removed then
 */
export async function collectGarbage(
  options: GarbageOptions,
  { now, limits }: Pick<Context, 'now' | 'limits'>,
): Promise<GarbageResult> {
  const { dryRun, pid, actor } = options;
  const gate = dryRun ? undefined : await gateIfAny(options.gate);
  const gateLock = await gate?.lock(pid);
  try {
    const store = await openStore(options.store, { create: false, limits });
    const lock = await store.lock(pid);
    try {
      const keep = await keptByReceipts(options.store, now, !dryRun);
      const planned = await store.gc({ dryRun: true, keep });
      if (dryRun) return planned;
      const { removedBlobs, removedBytes, keptBlobs } = planned;
      if (!gate || removedBlobs === 0) return await store.gc({ dryRun: false, keep });
      // Told first: a crash in between leaves an entry too many, never a removal nobody hears of.
      const fields = { store: options.store, removedBlobs, removedBytes, keptBlobs };
      const auditHead = await gate.audit({ now, actor, event: 'gc', fields });
      return { ...(await store.gc({ dryRun: false, keep })), auditHead };
    } finally {
      await lock.release();
    }
  } finally {
    await gateLock?.release();
  }
}

async function gateIfAny(directory: string): Promise<Gate | undefined> {
  try {
    return await openGate(directory, { create: false });
  } catch (error) {
    if (isSealiftError(error) && error.code === 'not-pinned') return undefined;
    throw error;
  }
}
