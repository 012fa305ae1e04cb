/** Which requirements of a policy hold for a name (containers-policy.json(5), "Supported transports and their scopes"). */
import { inert } from '../../errors.ts';
import { imageName, parseReference, repositoryName } from '../../oci/reference.ts';
import type { Policy, Requirement } from './policy.ts';

export interface AppliedScope {
  /** As the policy spells it; empty for all names of the transport. Undefined where `default` applies. */
  readonly scope: string | undefined;
  readonly requirements: readonly Requirement[];
  /** Scopes that were looked for, most specific first; the last one is the one that applies. */
  readonly tried: readonly string[];
}

/** Scopes that could speak about a name under the transport `docker`, the most specific first. */
export function scopesOf(name: string): readonly string[] {
  const reference = parseReference(name);
  const scopes = [imageName(reference)];
  let parent = repositoryName(reference);
  for (;;) {
    scopes.push(parent);
    const slash = parent.lastIndexOf('/');
    if (slash < 0) break;
    parent = parent.slice(0, slash);
  }
  const colon = parent.indexOf(':');
  let host = colon < 0 ? parent : parent.slice(0, colon);
  for (let dot = host.indexOf('.'); dot >= 0; dot = host.indexOf('.')) {
    host = host.slice(dot + 1);
    scopes.push(`*.${host}`);
  }
  scopes.push('');
  return scopes;
}

/** The one scope that applies to `name`; scopes are never added up. */
export function findScope(policy: Policy, name: string): AppliedScope {
  const scopes = policy.transports.get('docker');
  const tried: string[] = [];
  for (const scope of scopesOf(name)) {
    tried.push(scope);
    const requirements = scopes?.get(scope);
    if (requirements) return { scope, requirements, tried };
  }
  return { scope: undefined, requirements: policy.default, tried };
}

/** How a scope is named to people. */
export function scopeText(scope: string | undefined): string {
  if (scope === undefined) return 'default';
  return scope === '' ? 'transports.docker, all names' : `transports.docker, ${inert(scope)}`;
}
