/** The search for a target (specification section 5.6.7): pre-order, terminating roles end it. */
import type { Target } from './metadata.ts';
import type { TrustedSet } from './trusted-set.ts';

export interface ResolvedTarget {
  readonly name: string;
  /** Role that answers for the name. */
  readonly role: string;
  readonly target: Target;
  /** sha512 where the target has one, else sha256: `sha256:HEX`. */
  readonly digest: string;
  readonly mediaType: string | undefined;
}

/** The answer for a name, or undefined. */
export function resolveTarget(_set: TrustedSet, _name: string): ResolvedTarget | undefined {
  throw new Error('not yet');
}

/** Every image name of the repository with the answer of its search; without bundle manifests. Ascending by name. */
export function listTargets(_set: TrustedSet): readonly ResolvedTarget[] {
  throw new Error('not yet');
}

/** Tombstones that hold: the role that has it is the one that rules the name. */
export function listWithdrawn(_set: TrustedSet): readonly {
  readonly name: string;
  readonly digest: string;
  readonly reason: string;
  readonly at: string;
  readonly role: string;
}[] {
  throw new Error('not yet');
}
