/** What the collections of a gate have withdrawn, from the metadata that was accepted last. */
import type { Context } from './context.ts';
import { isSealiftError } from './errors.ts';
import { openGate } from './gate/gate.ts';
import { nameInScope } from './gate/scopes.ts';
import { keptMetadata } from './judge.ts';
import { listWithdrawn } from './trust/search.ts';
import { TrustedSet } from './trust/trusted-set.ts';

export interface Withdrawal {
  readonly name: string;
  readonly digest: string;
  readonly reason: string;
  /** `YYYY-MM-DDTHH:MM:SSZ` */
  readonly at: string;
}

/**
 * Names that were withdrawn, ascending; none where there is no gate. A collection speaks only about the names it was pinned for.
 * @throws SealiftError `state-damaged`, `format-unsupported`
 */
export async function withdrawnInGate(directory: string, context: Context): Promise<readonly Withdrawal[]> {
  const gate = await openGate(directory, { create: false }).catch((error: unknown) => {
    if (isSealiftError(error) && error.code === 'not-pinned') return undefined;
    throw error;
  });
  const found: Withdrawal[] = [];
  for (const state of (await gate?.collections()) ?? []) {
    if (!state.targets) continue;
    const { now, limits } = context;
    const set = await TrustedSet.fromKept(keptMetadata(state), { now, limits });
    for (const { name, digest, reason, at } of listWithdrawn(set.previous))
      if (nameInScope(name, state.pin.scopes)) found.push({ name, digest, reason, at });
  }
  return found.sort((a, b) => (a.name < b.name ? -1 : 1));
}
