/** The client workflow of TUF over the files of a bundle, step by step. */
import { inert, isSealiftError, SealiftError } from '../errors.ts';
import type { CheckName } from '../events.ts';
import { outOfOrder, type TrustedSet } from './trusted-set.ts';

/** Metadata files by their name below `metadata/`: `3.root.json`, `timestamp.json`, `7.images.json`. */
export type MetadataFiles = ReadonlyMap<string, Uint8Array>;

export type TrustStep = 'root' | 'timestamp' | 'snapshot' | 'targets' | 'delegated';

/**
 * The whole workflow over the files of a bundle: the remaining roots, timestamp, snapshot, targets, and every
 * delegated role that can be reached, in search order. `onStep` is awaited after each step, to store
 * `set.kept()` before the next begins: trust moves forward, and moves first.
 *
 * @throws SealiftError what the steps throw; `fork` where the file of the trusted root's version is another root
 */
export async function advance(
  set: TrustedSet,
  files: MetadataFiles,
  onStep: (step: TrustStep, detail: string) => Promise<void>,
): Promise<void> {
  const need = (name: string): Uint8Array => {
    const bytes = files.get(name);
    if (!bytes)
      throw new SealiftError('mix-and-match', `metadata file ${inert(name)} is not there`, {
        subject: inert(name),
      });
    return bytes;
  };
  await asCheck('root-chain', async () => {
    // A key vouches for its own revocation: that is learnt even if nothing else of the bundle holds.
    if (set.hasNewCertificates)
      await onStep('root', `root version ${set.root.version}, certificates brought up to date`);
    set.checkSameRoot(files.get(`${set.root.version}.root.json`));
    for (;;) {
      const bytes = files.get(`${set.root.version + 1}.root.json`);
      if (!bytes) break;
      await set.updateRoot(bytes);
      await onStep('root', `root version ${set.root.version}`);
    }
    await set.finishRoots();
  });

  const state = await asCheck('timestamp', () => set.updateTimestamp(need('timestamp.json')));
  const timestamp = set.timestamp;
  if (!timestamp) throw outOfOrder('timestamp');
  await onStep('timestamp', `timestamp version ${timestamp.version}${state === 'same' ? ', known' : ''}`);

  const prefix = (version: number): string => (set.root.consistentSnapshot ? `${version}.` : '');
  await asCheck('snapshot', () =>
    set.updateSnapshot(need(`${prefix(timestamp.snapshot.version)}snapshot.json`)),
  );
  const snapshot = set.snapshot;
  if (!snapshot) throw outOfOrder('snapshot');
  await onStep('snapshot', `snapshot version ${snapshot.version}`);

  const fileOf = (role: string): Uint8Array => {
    const version = snapshot.meta.get(role)?.version;
    if (version === undefined)
      throw new SealiftError('mix-and-match', `snapshot does not list the role ${inert(role)}`, {
        subject: inert(role),
      });
    return need(`${prefix(version)}${role}.json`);
  };
  await asCheck('targets', () => set.updateTargets(fileOf('targets')));
  await onStep('targets', `targets version ${snapshot.meta.get('targets')?.version}`);

  // Pre-order; every edge is verified, also the one to a role that was reached before.
  const visited = new Set<string>();
  const open: { role: string; next: number }[] = [{ role: 'targets', next: 0 }];
  for (let top = open.at(-1); top; top = open.at(-1)) {
    const delegation = set.delegationsOf(top.role)?.roles[top.next];
    top.next += 1;
    if (!delegation) {
      open.pop();
      continue;
    }
    const { role } = top;
    await asCheck('targets', () => set.updateDelegated(delegation.name, role, fileOf(delegation.name)));
    if (visited.has(delegation.name)) continue;
    visited.add(delegation.name);
    open.push({ role: delegation.name, next: 0 });
  }
  await onStep('delegated', `${visited.size} delegated roles`);
}

/** Names the check that refused. `work` may also throw before it gives a promise. */
async function asCheck<T>(check: CheckName, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw isSealiftError(error) ? error.with({ check }) : error;
  }
}
