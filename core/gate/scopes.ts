/**
 * Scopes: which names a pinned collection may speak about. A scope is `*`, a name prefix that ends in `/`, or one
 * repository without tag (`docker.io/library/alpine`).
 */

/** Whether any of `scopes` covers the full image name `name` (`docker.io/library/alpine:3.20`, or with `@sha256:…`). */
export function nameInScope(name: string, scopes: readonly string[]): boolean {
  return scopes.some((scope) => scopeCovers(scope, repositoryOf(name)));
}

/** The repository part of a full image name. A colon or at sign behind the last slash begins the tag or digest. */
export function repositoryOf(name: string): string {
  const at = name.indexOf('@');
  const untagged = at === -1 ? name : name.slice(0, at);
  const slash = untagged.lastIndexOf('/');
  const colon = untagged.indexOf(':', slash + 1);
  return colon === -1 ? untagged : untagged.slice(0, colon);
}

function scopeCovers(scope: string, repository: string): boolean {
  if (scope === '*') return true;
  return scope.endsWith('/') ? repository.startsWith(scope) : repository === scope;
}
