import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatDigest } from '../../../core/oci/digest.ts';
import {
  familiarName,
  formatReference,
  imageName,
  isTag,
  parseImageName,
  parseReference,
  type Reference,
  repositoryName,
} from '../../../core/oci/reference.ts';
import { codeOf } from './code-of.ts';

const HEX = '0123456789abcdef'.repeat(4);
const DIGEST = `sha256:${HEX}`;

const word = fc.stringMatching(/^[a-z0-9]{1,6}$/);
const separated = (separators: string[], max: number): fc.Arbitrary<string> =>
  fc
    .tuple(word, fc.array(fc.tuple(fc.constantFrom(...separators), word), { maxLength: max }))
    .map(([first, rest]) => first + rest.map(([s, w]) => s + w).join(''));
const component = separated(['.', '_', '__', '-', '--', '---'], 2);
const port = fc.option(fc.integer({ min: 1, max: 65535 }), { nil: undefined });
const host = fc.oneof(
  fc.constantFrom('docker.io', 'localhost', 'ghcr.io', '[::1]', '[fe80::1:2]', '127.0.0.1'),
  fc.tuple(separated(['-', '--'], 1), separated(['.', '-'], 2)).map(([a, b]) => `${a}.${b}`),
);
const domain = fc
  .tuple(host, port)
  .map(([h, p]) => (p === undefined || h === 'docker.io' ? h : `${h}:${p}`))
  .filter((d) => d !== 'index.docker.io');
const tag = fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/);
const digest = fc.oneof(
  fc.stringMatching(/^[0-9a-f]{64}$/).map((hex) => formatDigest('sha256', hex)),
  fc.stringMatching(/^[0-9a-f]{128}$/).map((hex) => formatDigest('sha512', hex)),
);
/** Every reference parseReference can return. */
const reference: fc.Arbitrary<Reference> = fc
  .tuple(
    domain,
    fc.array(component, { minLength: 1, maxLength: 4 }),
    fc.oneof(fc.record({ tag }), fc.record({ digest }), fc.record({ tag, digest })),
  )
  .map(([d, components, rest]) => {
    const path = components.join('/');
    return { domain: d, path: d === 'docker.io' && !path.includes('/') ? `library/${path}` : path, ...rest };
  })
  .filter((r) => repositoryName(r).length <= 255);

describe('parseReference', () => {
  it.each([
    ['alpine', 'docker.io/library/alpine:latest'],
    ['alpine:3.20', 'docker.io/library/alpine:3.20'],
    ['library/alpine', 'docker.io/library/alpine:latest'],
    ['docker.io/alpine', 'docker.io/library/alpine:latest'],
    ['docker.io/library/alpine', 'docker.io/library/alpine:latest'],
    ['index.docker.io/alpine', 'docker.io/library/alpine:latest'],
    ['index.docker.io/library/alpine:1', 'docker.io/library/alpine:1'],
    ['acme/app', 'docker.io/acme/app:latest'],
    ['acme/team/app', 'docker.io/acme/team/app:latest'],
    ['localhost/app', 'localhost/app:latest'],
    ['localhost', 'docker.io/library/localhost:latest'],
    ['localhost:5000', 'docker.io/library/localhost:5000'],
    ['localhost:5000/app', 'localhost:5000/app:latest'],
    ['localhost:5000/app:1', 'localhost:5000/app:1'],
    ['host:80/app', 'host:80/app:latest'],
    ['ghcr.io/a/b/c:v1', 'ghcr.io/a/b/c:v1'],
    ['127.0.0.1:5000/a', '127.0.0.1:5000/a:latest'],
    ['[::1]/a', '[::1]/a:latest'],
    ['[2001:db8::1]:5000/a/b:1', '[2001:db8::1]:5000/a/b:1'],
    ['a.b/c_d/e__f/g--h/i.j', 'a.b/c_d/e__f/g--h/i.j:latest'],
    ['xn--bcher-kva.example/a', 'xn--bcher-kva.example/a:latest'],
    ['a:UPPER_tag.1-x', 'docker.io/library/a:UPPER_tag.1-x'],
    ['a:_', 'docker.io/library/a:_'],
    [`alpine@${DIGEST}`, `docker.io/library/alpine@${DIGEST}`],
    [`alpine:3@${DIGEST}`, `docker.io/library/alpine:3@${DIGEST}`],
    [`${HEX}:tag`, `docker.io/library/${HEX}:tag`],
    [HEX.slice(1), `docker.io/library/${HEX.slice(1)}:latest`],
    [`library/${HEX}`, `docker.io/library/${HEX}:latest`],
    [`a:${'t'.repeat(128)}`, `docker.io/library/a:${'t'.repeat(128)}`],
  ])('%s is %s', (text, want) => {
    expect(formatReference(parseReference(text))).toBe(want);
  });

  it.each([
    ['nothing', ''],
    ['space', ' alpine'],
    ['newline at the end', 'alpine\n'],
    ['newline behind the tag', 'alpine:1\n'],
    ['image id', HEX],
    ['upper case in the path', 'acme/App'],
    ['upper-case repository', 'Alpine'],
    ['upper-case host', 'Docker.io/library/alpine'],
    ['upper-case first part', 'Acme/app'],
    ['URL', 'https://docker.io/library/alpine'],
    ['transport prefix', 'docker://alpine'],
    ['empty tag', 'alpine:'],
    ['empty digest', 'alpine@'],
    ['tag with a slash', 'alpine:a/b:'],
    ['tag that begins with a dot', 'alpine:.1'],
    ['tag that begins with a dash', 'alpine:-1'],
    ['tag of 129 characters', `a:${'t'.repeat(129)}`],
    ['two tags', 'a:b:c'],
    ['no repository', 'localhost:5000/'],
    ['leading slash', '/alpine'],
    ['trailing slash', 'acme/'],
    ['empty component', 'acme//app'],
    ['parent directory', '../alpine'],
    ['parent directory within', 'ghcr.io/a/../b'],
    ['dot component', 'ghcr.io/./a'],
    ['component that begins with a dot', 'ghcr.io/.a'],
    ['component that ends with a dash', 'ghcr.io/a-'],
    ['two dots', 'ghcr.io/a..b'],
    ['three underscores', 'ghcr.io/a___b'],
    ['mixed separators', 'ghcr.io/a._b'],
    ['backslash', 'ghcr.io\\a'],
    ['percent', 'ghcr.io/a%2fb'],
    ['user name', 'user@ghcr.io/a'],
    ['host that begins with a dash', '-a.b/c'],
    ['host with an underscore', 'a_b.c/d'],
    ['host with an empty label', 'a..b/c'],
    ['host with a dot at the end', 'docker.io./a'],
    ['port 0', 'localhost:0/a'],
    ['port 65536', 'localhost:65536/a'],
    ['empty port', 'localhost:/a'],
    ['port with a leading zero', 'localhost:080/a'],
    ['IPv6 without brackets', '::1/a'],
    ['IPv6 with a zone', '[fe80::1%25eth0]/a'],
    ['IPv6 in upper case', '[FE80::1]/a'],
    ['text behind IPv6', '[::1]x/a'],
    ['repository of 256 characters', `ghcr.io/${'a'.repeat(248)}`],
    ['a megabyte', 'a'.repeat(1 << 20)],
    ['letter that is not ASCII', 'ghcr.io/ä'],
    ['Kelvin sign', '\u212aernel/a'],
    ['right-to-left override', 'alpine\u202e'],
    ['NUL', 'alpine\0'],
  ])('refuses: %s', (_, text) => {
    expect(['invalid-reference', 'invalid-digest']).toContain(codeOf(() => parseReference(text)));
  });

  it('takes a repository of 255 characters', () => {
    expect(codeOf(() => parseReference(`ghcr.io/${'a'.repeat(247)}`))).toBe('accepted');
  });

  it.each([
    ['short', 'alpine@sha256:abc'],
    ['upper case', `alpine@sha256:${HEX.toUpperCase()}`],
    ['other algorithm', `alpine@sha384:${HEX}${HEX.slice(32)}`],
    ['path', 'alpine@sha256:../../etc/passwd'],
    ['two', `alpine@${DIGEST}@${DIGEST}`],
    ['tag behind it', `alpine@${DIGEST}:tag`],
  ])('refuses a digest: %s', (_, text) => {
    expect(codeOf(() => parseReference(text))).toBe('invalid-digest');
  });

  it('says how to write what is in upper case, and keeps the case of the tag', () => {
    expect(() => parseReference('GHCR.io/Acme/App:V1')).toThrow(
      expect.objectContaining({ code: 'invalid-reference', hint: 'write ghcr.io/acme/app:V1' }),
    );
    expect(() => parseReference(`Acme/App@${DIGEST}`)).toThrow(
      expect.objectContaining({ hint: `write acme/app@${DIGEST}` }),
    );
    expect(() => parseReference('Localhost:5000/App')).toThrow(
      expect.objectContaining({ hint: 'write localhost:5000/app' }),
    );
  });

  it('shows hostile text inert', () => {
    expect(() => parseReference('a\u001b[2Jb')).toThrow(expect.objectContaining({ subject: 'a\\u{1b}[2Jb' }));
  });

  it('reads back every reference it can return', () => {
    fc.assert(
      fc.property(reference, (r) => {
        expect(parseReference(formatReference(r))).toEqual(r);
      }),
      { numRuns: 1000 },
    );
  });

  it('returns what is stable under a second reading, or refuses, for any text', () => {
    const piece = fc.constantFrom(
      'a',
      'b1',
      'A',
      '.',
      '_',
      '-',
      '/',
      ':',
      '@',
      'docker.io',
      'index.docker.io',
      'library',
      'localhost',
      '[::1]',
      '5000',
      DIGEST,
      HEX,
      ' ',
      'é',
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.array(piece, { maxLength: 8 }).map((p) => p.join('')),
        ),
        (text) => {
          let first: Reference;
          try {
            first = parseReference(text);
          } catch {
            expect(['invalid-reference', 'invalid-digest']).toContain(codeOf(() => parseReference(text)));
            return;
          }
          expect(parseReference(formatReference(first))).toEqual(first);
          expect(imageName(first)).toMatch(/^[\x21-\x7e]+$/);
          expect(imageName(first).split(/[/:@]/)).not.toContain('..');
        },
      ),
      { numRuns: 3000 },
    );
  });
});

describe('image names', () => {
  it('have a tag or a digest, not both', () => {
    expect(imageName(parseReference(`alpine:3@${DIGEST}`))).toBe('docker.io/library/alpine:3');
    expect(imageName(parseReference(`alpine@${DIGEST}`))).toBe(`docker.io/library/alpine@${DIGEST}`);
    expect(repositoryName(parseReference('alpine:3'))).toBe('docker.io/library/alpine');
  });

  it('are read back', () => {
    fc.assert(
      fc.property(reference, (r) => {
        const name = imageName(r);
        expect(imageName(parseImageName(name))).toBe(name);
      }),
    );
  });

  it.each([
    'alpine',
    'alpine:3',
    'docker.io/alpine:3',
    'docker.io/library/alpine',
    'index.docker.io/library/alpine:3',
    `docker.io/library/alpine:3@${DIGEST}`,
    'localhost/a',
  ])('are not: %s', (text) => {
    expect(codeOf(() => parseImageName(text))).toBe('invalid-reference');
  });

  it('have a familiar form', () => {
    expect(familiarName('docker.io/library/alpine:3.20')).toBe('alpine:3.20');
    expect(familiarName('docker.io/acme/app:1')).toBe('acme/app:1');
    expect(familiarName('docker.io/library/a/b:1')).toBe('library/a/b:1');
    expect(familiarName('ghcr.io/a/b:1')).toBe('ghcr.io/a/b:1');
    expect(familiarName(`docker.io/library/alpine@${DIGEST}`)).toBe(`alpine@${DIGEST}`);
    expect(familiarName('no name at all')).toBe('no name at all');
  });

  it('keep the full form where the familiar one would name another image', () => {
    expect(familiarName('docker.io/localhost/app:1')).toBe('docker.io/localhost/app:1');
    expect(familiarName('docker.io/ghcr.io/app:1')).toBe('docker.io/ghcr.io/app:1');
  });

  it('mean the same in familiar form', () => {
    fc.assert(
      fc.property(reference, (r) => {
        const name = imageName(r);
        expect(imageName(parseReference(familiarName(name)))).toBe(name);
      }),
    );
  });
});

it('tags', () => {
  expect(['latest', '_', 'A.b-c', 'x'.repeat(128)].every(isTag)).toBe(true);
  expect(['', '.a', '-a', 'a/b', 'a:b', 'a\n', 'x'.repeat(129), 'ä'].some(isTag)).toBe(false);
});
