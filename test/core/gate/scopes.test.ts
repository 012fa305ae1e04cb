import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  nameInScope,
  normaliseScopes,
  parseScope,
  repositoryOf,
  scopesOverlap,
} from '../../../core/gate/scopes.ts';

describe('scopesOverlap', () => {
  it.each([
    ['*', '*', true],
    ['*', 'docker.io/acme/', true],
    ['*', 'docker.io/library/alpine', true],
    ['docker.io/', 'docker.io/acme/', true],
    ['docker.io/acme/', 'docker.io/acme/', true],
    ['docker.io/acme/', 'docker.io/acme/team/', true],
    ['docker.io/acme/', 'docker.io/acme/app', true],
    ['docker.io/acme/', 'docker.io/acme/team/app', true],
    ['docker.io/acme/', 'docker.io/acme', false],
    ['docker.io/acme/', 'docker.io/acme-evil/', false],
    ['docker.io/acme/', 'docker.io/acmes/app', false],
    ['docker.io/acme/app', 'docker.io/acme/app', true],
    ['docker.io/acme/app', 'docker.io/acme/app2', false],
    ['docker.io/acme/app', 'docker.io/acme/app/', false],
    ['docker.io/acme/', 'quay.io/acme/', false],
    ['localhost:5000/a/', 'localhost/a/', false],
  ])('%s and %s: %s', (a, b, want) => {
    expect(scopesOverlap(a, b)).toBe(want);
    expect(scopesOverlap(b, a)).toBe(want);
  });

  it('holds wherever one name is in both', () => {
    const component = fc.constantFrom('a', 'b', 'ab');
    const path = fc
      .array(component, { minLength: 1, maxLength: 3 })
      .map((parts) => `h.io/${parts.join('/')}`);
    const scope = fc.oneof(
      path,
      path.map((p) => `${p}/`),
      fc.constant('h.io/'),
      fc.constant('*'),
    );
    fc.assert(
      fc.property(scope, scope, path, (a, b, repository) => {
        const name = `${repository}:v1`;
        if (nameInScope(name, [a]) && nameInScope(name, [b])) expect(scopesOverlap(a, b)).toBe(true);
      }),
    );
  });
});

describe('nameInScope', () => {
  it.each([
    ['docker.io/acme/app:v1', ['docker.io/acme/'], true],
    ['docker.io/acme/app@sha256:00', ['docker.io/acme/app'], true],
    ['docker.io/acme/app:v1', ['docker.io/acme/app'], true],
    ['docker.io/acme/app/more:v1', ['docker.io/acme/app'], false],
    ['docker.io/acme-evil/app:v1', ['docker.io/acme/'], false],
    ['docker.io/library/alpine:3', ['quay.io/', 'docker.io/library/alpine'], true],
    ['localhost:5000/app', ['localhost:5000/app'], true],
    ['docker.io/acme/app:v1', ['*'], true],
    ['docker.io/acme/app:v1', [], false],
  ])('%s in %j: %s', (name, scopes, want) => {
    expect(nameInScope(name, scopes)).toBe(want);
  });

  it('does not take a port for a tag', () => {
    expect(repositoryOf('localhost:5000/app:v1@sha256:00')).toBe('localhost:5000/app');
  });
});

describe('parseScope', () => {
  it.each([
    '*',
    'docker.io/',
    'docker.io/acme/',
    'docker.io/library/alpine',
    'localhost:5000/a/',
    'quay.io/a/b/c',
  ])('takes %s', (scope) => expect(parseScope(scope)).toBe(scope));

  it.each([
    '',
    '/',
    '**',
    'acme/',
    'alpine',
    'docker.io',
    'docker.io/alpine',
    'docker.io/acme/*',
    'docker.io/Acme/',
    'docker.io//acme/',
    'docker.io/../',
    'docker.io/library/alpine:3',
    'https://docker.io/acme/',
    'docker.io/acme/\u202e',
    `docker.io/${'a'.repeat(300)}/`,
  ])('refuses %j', (scope) => {
    expect(() => parseScope(scope)).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
  });

  it('sorts, drops doubles, and takes none for everything', () => {
    expect(normaliseScopes(['quay.io/b/', 'docker.io/a/', 'quay.io/b/'])).toEqual([
      'docker.io/a/',
      'quay.io/b/',
    ]);
    expect(normaliseScopes([])).toEqual(['*']);
  });
});
