/** How far the keys that sign each export reach: what whoever carries could do besides carrying. */
import type { CarrierReach } from '../results.ts';
import type { Delegation, RoleKeys, RootMetadata, TargetsMetadata } from './metadata.ts';

export interface ReachedMetadata {
  readonly root: RootMetadata;
  readonly targets: TargetsMetadata;
  readonly delegated: ReadonlyMap<string, TargetsMetadata>;
}

/** The part of a name that a delegation is about. */
export const prefixOf = ({ paths }: Delegation): string => (paths[0] ?? '').replace(/\*.*$/, '');

/**
 * What the holders of the timestamp's keys can do together. Whoever signs a role above a namespace, or the root, can
 * put their own key in the place of its holders'.
 */
export function carrierReach({ root, targets, delegated }: ReachedMetadata): CarrierReach {
  const carriers = new Set(root.roles.timestamp.keyids);
  const able = ({ keyids, threshold }: RoleKeys): boolean =>
    keyids.filter((keyId) => carriers.has(keyId)).length >= threshold;
  const holdsRoot = able(root.roles.root);
  const holdsTargets = able(root.roles.targets);
  const reached = new Map([['targets', holdsRoot || holdsTargets]]);
  const namespaces: CarrierReach['namespaces'][number][] = [];
  // In search order, so that a role is known before those it delegates to.
  for (const [delegator, metadata] of [['targets', targets] as const, ...delegated]) {
    for (const entry of metadata.delegations?.roles ?? []) {
      if (reached.has(entry.name)) continue;
      const canSign = reached.get(delegator) === true || able(entry);
      reached.set(entry.name, canSign);
      if (entry.name !== 'bundles') namespaces.push({ role: entry.name, prefix: prefixOf(entry), canSign });
    }
  }
  return { root: holdsRoot, targets: holdsTargets, namespaces };
}
