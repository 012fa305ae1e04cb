/**
 * The search for a target (specification section 5.6.7): pre-order, the first role that has the name answers,
 * a terminating role ends it. Patterns know `*` and `?` only, and neither crosses `/`.
 */
import { createHash } from 'node:crypto';
import { SealiftError } from '../errors.ts';
import {
  BUNDLE_PREFIX,
  type Delegation,
  type Delegations,
  MEDIA_TYPE_FIELD,
  type Target,
  type TargetsMetadata,
  type Tombstone,
} from './metadata.ts';

export interface ResolvedTarget {
  readonly name: string;
  /** Role that answers for the name. */
  readonly role: string;
  readonly target: Target;
  /** sha512 where the target has one, else sha256: `sha256:HEX`. */
  readonly digest: string;
  readonly mediaType: string | undefined;
}

export interface WithdrawnTarget extends Tombstone {
  /** Role that rules the name. */
  readonly role: string;
}

/** What a search goes through: a TrustedSet, or what it kept from the last run (`set.previous`). */
export interface SearchView {
  readonly targets: TargetsMetadata | undefined;
  readonly delegated: ReadonlyMap<string, TargetsMetadata>;
  /** True where the signatures of `role` have been verified with the keys of `delegator`. */
  isVerifiedEdge(delegator: string, role: string): boolean;
}

/** What the search finds for a name: an image, its tombstone, or nothing. */
export type Answer =
  | { readonly kind: 'target'; readonly target: ResolvedTarget }
  | { readonly kind: 'withdrawn'; readonly tombstone: WithdrawnTarget }
  | { readonly kind: 'none' };

const NONE: Answer = { kind: 'none' };
const SLASH = 0x2f;
const STAR = 0x2a;
const QUESTION = 0x3f;

/**
 * True where `pattern` matches `name`. `*` is any number of characters, `?` is one, `/` is matched by neither;
 * every other character stands for itself. Time is at most the product of the two lengths, whatever they hold.
 */
export function matchesPattern(pattern: string, name: string): boolean {
  let p = 0;
  let n = 0;
  // Where to go on after a mismatch: behind the last star, one character further in the name.
  let starAt = -1;
  let starName = 0;
  while (n < name.length) {
    const c = name.charCodeAt(n);
    const q = p < pattern.length ? pattern.charCodeAt(p) : -1;
    if (q === STAR) {
      starAt = p;
      starName = n;
      p += 1;
    } else if (q === c || (q === QUESTION && c !== SLASH)) {
      if (c === SLASH) starAt = -1; // a star before it cannot reach beyond it
      p += 1;
      n += 1;
    } else if (starAt >= 0 && name.charCodeAt(starName) !== SLASH) {
      starName += 1;
      n = starName;
      p = starAt + 1;
    } else {
      return false;
    }
  }
  while (p < pattern.length && pattern.charCodeAt(p) === STAR) p += 1;
  return p === pattern.length;
}

function depthOf(text: string): number {
  let depth = 1;
  for (let i = 0; i < text.length; i += 1) if (text.charCodeAt(i) === SLASH) depth += 1;
  return depth;
}

/**
 * One pattern for each depth, so that they match every name that begins with `prefix` and has at most `depth`
 * components in all: the prefix with one star, with two stars in two components, and so on.
 * @param prefix empty for all names; ends with `/` otherwise
 */
export function prefixPatterns(prefix: string, depth = 32): readonly string[] {
  if (prefix !== '' && !prefix.endsWith('/')) {
    throw new SealiftError('invalid-argument', 'a prefix of names ends with /', { subject: prefix });
  }
  const patterns: string[] = [];
  let pattern = `${prefix}*`;
  for (let i = depthOf(pattern); i <= depth; i += 1) {
    patterns.push(pattern);
    pattern += '/*';
  }
  return patterns;
}

/** Patterns of a delegation by their depth: a pattern and a name with different numbers of `/` never match. */
const compiled = new WeakMap<Delegation, ReadonlyMap<number, readonly string[]>>();

function patternsOf(delegation: Delegation): ReadonlyMap<number, readonly string[]> {
  const known = compiled.get(delegation);
  if (known) return known;
  const byDepth = new Map<number, string[]>();
  for (const pattern of delegation.paths) {
    const depth = depthOf(pattern);
    const list = byDepth.get(depth);
    if (list) list.push(pattern);
    else byDepth.set(depth, [pattern]);
  }
  compiled.set(delegation, byDepth);
  return byDepth;
}

const tombstones = new WeakMap<TargetsMetadata, ReadonlyMap<string, Tombstone>>();

function tombstonesOf(metadata: TargetsMetadata): ReadonlyMap<string, Tombstone> {
  let known = tombstones.get(metadata);
  if (!known) {
    known = new Map(metadata.withdrawn.map((entry) => [entry.name, entry] as const));
    tombstones.set(metadata, known);
  }
  return known;
}

/** Which delegations may match a name, by the directory their pattern spells out: `docker.io/acme/` of all its depths. */
interface DelegationIndex {
  readonly byPrefix: ReadonlyMap<string, readonly number[]>;
  /** Those that go by the hash of a name. */
  readonly byHash: readonly number[];
}

const indexes = new WeakMap<Delegations, DelegationIndex>();

function indexOf(delegations: Delegations): DelegationIndex {
  const known = indexes.get(delegations);
  if (known) return known;
  const byPrefix = new Map<string, number[]>();
  const byHash: number[] = [];
  for (const [at, { paths, pathHashPrefixes }] of delegations.roles.entries()) {
    if (pathHashPrefixes) byHash.push(at);
    for (const pattern of paths) {
      const wild = pattern.search(/[*?]/);
      const prefix = pattern.slice(0, pattern.lastIndexOf('/', wild === -1 ? undefined : wild) + 1);
      const list = byPrefix.get(prefix);
      if (!list) byPrefix.set(prefix, [at]);
      else if (list.at(-1) !== at) list.push(at);
    }
  }
  const index = { byPrefix, byHash };
  indexes.set(delegations, index);
  return index;
}

/** Delegations that the name is handed to, in their order: one search in a map for each of its directories. */
function* matching(delegations: Delegations, query: Query): Generator<Delegation, void, void> {
  const { byPrefix, byHash } = indexOf(delegations);
  const found = new Set(byHash);
  for (let end = 0; end >= 0; ) {
    for (const at of byPrefix.get(query.name.slice(0, end)) ?? []) found.add(at);
    const slash = query.name.indexOf('/', end);
    end = slash === -1 ? -1 : slash + 1;
  }
  for (const at of found.size > 1 ? [...found].sort((a, b) => a - b) : found) {
    const delegation = delegations.roles[at];
    if (delegation && isDelegated(delegation, query)) yield delegation;
  }
}

/** The first delegation that a name is handed to. */
export function delegationOf(delegations: Delegations | undefined, name: string): Delegation | undefined {
  if (!delegations) return undefined;
  for (const delegation of matching(delegations, { name, depth: depthOf(name) })) return delegation;
  return undefined;
}

interface Query {
  readonly name: string;
  readonly depth: number;
  /** Lower-case hex SHA-256 of the name; only made where somebody delegates by it. */
  hash?: string;
}

function hashOf(query: Query): string {
  query.hash ??= createHash('sha256').update(query.name, 'utf8').digest('hex');
  return query.hash;
}

function isDelegated(delegation: Delegation, query: Query): boolean {
  if (delegation.pathHashPrefixes) {
    const hash = hashOf(query);
    return delegation.pathHashPrefixes.some((prefix) => hash.startsWith(prefix));
  }
  return (
    patternsOf(delegation)
      .get(query.depth)
      ?.some((pattern) => matchesPattern(pattern, query.name)) ?? false
  );
}

/** Roles that a delegator hands the name to, in order, up to and with the first terminating one. */
function delegatedTo(
  delegations: Delegations,
  query: Query,
): { readonly roles: readonly string[]; readonly isTerminated: boolean } {
  if (delegations.succinct) {
    const { bitLength, namePrefix } = delegations.succinct;
    const bin = Number.parseInt(hashOf(query).slice(0, 8), 16) >>> (32 - bitLength);
    const digits = (2 ** bitLength - 1).toString(16).length;
    return { roles: [`${namePrefix}-${bin.toString(16).padStart(digits, '0')}`], isTerminated: true };
  }
  const roles: string[] = [];
  for (const delegation of matching(delegations, query)) {
    roles.push(delegation.name);
    if (delegation.terminating) return { roles, isTerminated: true };
  }
  return { roles, isTerminated: false };
}

/** The walk as a generator: yields the edges it needs, so that one walk serves loaded and unloaded sets. */
function* walk(
  set: SearchView,
  name: string,
  maxRoles: number,
): Generator<{ readonly role: string; readonly delegator: string }, Answer, void> {
  const query: Query = { name, depth: depthOf(name) };
  const visited = new Set<string>();
  let open: { role: string; delegator: string }[] = [{ role: 'targets', delegator: 'root' }];
  for (let next = open.pop(); next; next = open.pop()) {
    const { role, delegator } = next;
    if (visited.has(role)) continue;
    if (visited.size >= maxRoles) return NONE; // 5.6.7.1
    visited.add(role);
    yield { role, delegator };
    const metadata = role === 'targets' ? set.targets : set.delegated.get(role);
    if (!metadata || !set.isVerifiedEdge(delegator, role)) {
      throw new SealiftError('internal', 'the search came to a role that has not been verified', {
        subject: role,
      });
    }
    const target = metadata.targets.get(name);
    if (target) return { kind: 'target', target: toResolved(name, role, target) };
    const tombstone = metadata.withdrawn.length > 0 ? tombstonesOf(metadata).get(name) : undefined;
    if (tombstone) return { kind: 'withdrawn', tombstone: { ...tombstone, role } };
    if (!metadata.delegations) continue;
    const { roles, isTerminated } = delegatedTo(metadata.delegations, query);
    if (isTerminated) open = [];
    for (const child of roles.toReversed()) open.push({ role: child, delegator: role });
  }
  return NONE;
}

function toResolved(name: string, role: string, target: Target): ResolvedTarget {
  const sha512 = target.hashes.get('sha512');
  const mediaType = target.custom?.[MEDIA_TYPE_FIELD];
  return {
    name,
    role,
    target,
    digest: sha512 === undefined ? `sha256:${target.hashes.get('sha256') ?? ''}` : `sha512:${sha512}`,
    mediaType: typeof mediaType === 'string' ? mediaType : undefined,
  };
}

const MAX_ROLES = 1000;

/** What the search finds for a name, over a set in which every reachable role is verified (`advance`). */
export function findName(set: SearchView, name: string): Answer {
  const steps = walk(set, name, MAX_ROLES);
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}

/**
 * The same for a set whose delegated roles are fetched when the search comes to them.
 * @param load verifies the role with `set.updateDelegated(role, delegator, …)`; called for each edge of the walk
 */
export async function findNameLoading(
  set: SearchView,
  name: string,
  load: (role: string, delegator: string) => Promise<void>,
): Promise<Answer> {
  const steps = walk(set, name, MAX_ROLES);
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
    if (value.role !== 'targets') await load(value.role, value.delegator);
  }
}

/** The answer for a name, or undefined where there is none or it has been withdrawn. */
export function resolveTarget(set: SearchView, name: string): ResolvedTarget | undefined {
  const answer = findName(set, name);
  return answer.kind === 'target' ? answer.target : undefined;
}

const ascending = (a: { readonly name: string }, b: { readonly name: string }): number =>
  a.name < b.name ? -1 : 1;

/** An empty answer must not come from having looked at nothing. */
function assertLoaded(set: SearchView): void {
  if (set.targets) return;
  throw new SealiftError(
    'internal',
    'targets have not been verified; what was accepted before is searched over `previous`',
  );
}

/**
 * Every image name of the repository with the answer of its search, ascending by name; without bundle
 * manifests, and without names in roles that have no say over them.
 */
export function listTargets(set: SearchView): readonly ResolvedTarget[] {
  assertLoaded(set);
  const names = new Set<string>();
  for (const { targets } of set.delegated.values()) for (const name of targets.keys()) names.add(name);
  const found: ResolvedTarget[] = [];
  for (const name of names) {
    if (name.startsWith(BUNDLE_PREFIX)) continue;
    const target = resolveTarget(set, name);
    if (target) found.push(target);
  }
  return found.sort(ascending);
}

/** Tombstones that hold: those of the role that rules the name. Ascending by name. */
export function listWithdrawn(set: SearchView): readonly WithdrawnTarget[] {
  assertLoaded(set);
  const names = new Set<string>();
  for (const { withdrawn } of set.delegated.values()) for (const { name } of withdrawn) names.add(name);
  const found: WithdrawnTarget[] = [];
  for (const name of names) {
    const answer = findName(set, name);
    if (answer.kind === 'withdrawn') found.push(answer.tombstone);
  }
  return found.sort(ascending);
}
