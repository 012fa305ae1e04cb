/**
 * Scopes: which names a pinned collection may speak about. A scope is `*`, a name prefix that ends in `/`, or one
 * repository without tag (`docker.io/library/alpine`).
 */
import { inert, SealiftError } from '../errors.ts';
import { parseImageName } from '../oci/reference.ts';

/** All names. */
export const EVERYTHING = '*';

/**
 * A scope as it is kept.
 * @throws SealiftError `invalid-argument`
 */
export function parseScope(text: string): string {
  if (text === EVERYTHING) return text;
  try {
    // Any name below a prefix stands for all of them: the reference grammar judges host and path.
    parseImageName(text.endsWith('/') ? `${text}a/a:a` : `${text}:a`);
    return text;
  } catch (cause) {
    throw new SealiftError('invalid-argument', `malformed scope ${inert(text)}`, {
      subject: inert(text),
      want: 'HOST/PREFIX/ or HOST/REPOSITORY or *',
      hint: 'a scope begins with the host: docker.io/acme/ for all of acme, docker.io/library/alpine for one repository',
      cause,
    });
  }
}

/** Scopes checked, sorted, each once; none means everything. @throws SealiftError `invalid-argument` */
export function normaliseScopes(scopes: readonly string[]): readonly string[] {
  const all = scopes.length === 0 ? [EVERYTHING] : scopes.map(parseScope);
  return [...new Set(all)].sort();
}

/** Whether any name can be in both scopes. */
export function scopesOverlap(a: string, b: string): boolean {
  if (a === EVERYTHING || b === EVERYTHING) return true;
  if (a.endsWith('/') && b.endsWith('/')) return a.startsWith(b) || b.startsWith(a);
  return scopeCovers(a, b) || scopeCovers(b, a);
}

/** Whether any of `scopes` covers the full image name `name` (`docker.io/library/alpine:3.20`, or with `@sha256:…`). */
export function nameInScope(name: string, scopes: readonly string[]): boolean {
  const repository = repositoryOf(name);
  return scopes.some((scope) => scopeCovers(scope, repository));
}

/** The repository part of a full image name. A colon or at sign behind the last slash begins the tag or digest. */
export function repositoryOf(name: string): string {
  const at = name.indexOf('@');
  const untagged = at === -1 ? name : name.slice(0, at);
  const colon = untagged.indexOf(':', untagged.lastIndexOf('/') + 1);
  return colon === -1 ? untagged : untagged.slice(0, colon);
}

function scopeCovers(scope: string, repository: string): boolean {
  if (scope === EVERYTHING) return true;
  return scope.endsWith('/') ? repository.startsWith(scope) : repository === scope;
}
