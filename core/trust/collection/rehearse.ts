/** What is to be staged, as a gate would judge it in the next bundle: what that would refuse must not be waiting here. */
import { inert, SealiftError } from '../../errors.ts';
import { CertificateStore } from '../certificates.ts';
import { checkExpiry } from '../checks.ts';
import type { TufKey } from '../keys.ts';
import { BUNDLE_PREFIX, type RoleKeys, type TargetsMetadata } from '../metadata.ts';
import { type SignatureRules, verifyThreshold } from '../threshold.ts';
import { type CollectionState, type Roles, rulerOf } from './state.ts';

const HINT = 'nothing of it was taken over; whoever wrote it must write it anew';

/** A role as one of its delegators hands it out. */
interface Edge {
  readonly delegator: string;
  readonly role: string;
  readonly roleKeys: RoleKeys;
  readonly keys: ReadonlyMap<string, TufKey>;
}

const edgeName = ({ delegator, role }: Edge): string => `${delegator}\0${role}`;

/** Every delegation that can be reached from the root. */
function* edgesOf({ root, targets, delegated }: Roles): Generator<Edge, void, void> {
  yield { delegator: 'root', role: 'targets', roleKeys: root.roles.targets, keys: root.keys };
  const reached = new Set<string>();
  const open: { delegator: string; metadata: TargetsMetadata }[] = [
    { delegator: 'targets', metadata: targets },
  ];
  for (let next = open.pop(); next; next = open.pop()) {
    const { delegator, metadata } = next;
    for (const entry of metadata.delegations?.roles ?? []) {
      const role = entry.name;
      yield { delegator, role, roleKeys: entry, keys: metadata.delegations?.keys ?? new Map() };
      const child = delegated.get(role);
      if (!child || reached.has(role)) continue;
      reached.add(role);
      open.push({ delegator: role, metadata: child });
    }
  }
}

/**
 * Looks at what a change brings: what has been wrong before, such as a key that has expired since, stops no other change.
 * @param changed roles whose metadata is another
 * @param certificates those of the collection, and those the change brings
 * @throws SealiftError `name-conflict` where a role is handed out that somebody else hands out; `mix-and-match` where it
 * has no metadata, its key no certificate, or bundles are signed by nobody any more; `signature-threshold` and its kin;
 * `metadata-expired`; `metadata-malformed` where there are too many roles
 */
export async function assertStageable(
  before: CollectionState,
  after: Roles,
  changed: ReadonlySet<string>,
  certificates: ReadonlyMap<string, Uint8Array>,
  now: Date,
): Promise<void> {
  const known = new Map([...edgesOf(before)].map((edge) => [edgeName(edge), edge]));
  const edges = [...edgesOf(after)];
  const isNew = (edge: Edge): boolean => !known.has(edgeName(edge));
  const handedOut = new Map<string, Edge>();
  for (const edge of edges) {
    const other = handedOut.get(edge.role);
    if (other && (isNew(edge) || isNew(other))) throw conflict(edge, other);
    handedOut.set(edge.role, edge);
  }
  // Without targets, which no other role hands out.
  if (handedOut.size - 1 > before.limits.delegatedRoles) {
    throw new SealiftError('metadata-malformed', 'there would be more roles than a gate searches', {
      got: handedOut.size - 1,
      want: before.limits.delegatedRoles,
      hint: HINT,
    });
  }
  if (rulerOf(after, `${BUNDLE_PREFIX}${before.id}/1.json`) !== 'bundles')
    throw refused('no gate would find who signs bundles', 'bundles');
  const judged = edges.filter((edge) => changed.has(edge.role) || isOther(edge, known.get(edgeName(edge))));
  const store = new CertificateStore(before.limits);
  for (const { role, keys, roleKeys } of judged) {
    for (const keyId of roleKeys.keyids) {
      const key = keys.get(keyId);
      if (key?.keytype !== 'openpgp' || store.get(key.keyval.public)) continue;
      const bytes = certificates.get(key.keyval.public);
      if (!bytes) throw refused(`the certificate of key ${inert(key.keyval.public)} is not there`, role);
      await store.add(bytes);
    }
  }
  const rules: SignatureRules = { certificates: store, time: now, mode: 'final' };
  for (const { delegator, role, roleKeys, keys } of judged) {
    // Signed anew by the export that takes the change along.
    if (role === 'bundles') continue;
    const metadata = role === 'targets' ? after.targets : after.delegated.get(role);
    if (!metadata) throw refused(`${inert(delegator)} hands out a role that nobody has signed`, role);
    try {
      await verifyThreshold(metadata, roleKeys, keys, rules, role);
      if (changed.has(role)) checkExpiry(metadata, role, now, 'targets');
    } catch (error) {
      throw error instanceof SealiftError ? error.with({ hint: HINT }) : error;
    }
  }
}

function isOther(edge: Edge, before: Edge | undefined): boolean {
  if (!before) return true;
  if (edge.roleKeys === before.roleKeys) return false;
  const { keyids, threshold } = edge.roleKeys;
  return (
    threshold !== before.roleKeys.threshold ||
    keyids.length !== before.roleKeys.keyids.length ||
    keyids.some((keyId) => !before.roleKeys.keyids.includes(keyId))
  );
}

function conflict(one: Edge, other: Edge): SealiftError {
  const [first, second] = [one.delegator, other.delegator].map((name) => inert(name)).sort();
  return new SealiftError(
    'name-conflict',
    first === second
      ? `${first} hands out the role ${inert(one.role)} twice`
      : `the role ${inert(one.role)} would be handed out by ${first} and by ${second}`,
    { subject: inert(one.role), hint: `a role has one delegator: take another name; ${HINT}` },
  );
}

const refused = (message: string, role: string): SealiftError =>
  new SealiftError('mix-and-match', `${inert(role)}: ${message}`, { subject: inert(role), hint: HINT });
