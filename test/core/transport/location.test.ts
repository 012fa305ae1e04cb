import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isSealiftError, SealiftError } from '../../../core/errors.ts';
import { imageNameOf, parseLocation, placeOf, referenceIn } from '../../../core/transport/location.ts';

const HEX = 'a'.repeat(64);

function parse(text: string, ...directories: string[]) {
  return parseLocation(text, (file) => directories.includes(file));
}

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof SealiftError) return error.code;
    throw error;
  }
  return 'none';
}

describe('registries', () => {
  it.each([
    ['alpine', 'docker.io/library/alpine:latest', 'latest'],
    ['alpine:3.20', 'docker.io/library/alpine:3.20', '3.20'],
    ['docker://alpine:3.20', 'docker.io/library/alpine:3.20', '3.20'],
    ['quay.io/acme/app', 'quay.io/acme/app:latest', 'latest'],
    ['localhost:5000/app:1', 'localhost:5000/app:1', '1'],
    ['docker://[::1]:5000/app:1', '[::1]:5000/app:1', '1'],
    [`alpine:3.20@sha256:${HEX}`, 'docker.io/library/alpine:3.20', `sha256:${HEX}`],
    [`alpine@sha256:${HEX}`, `docker.io/library/alpine@sha256:${HEX}`, `sha256:${HEX}`],
    ['docker.io/acme/app:1=docker://mirror.example:5000/x/app:7', 'docker.io/acme/app:1', '7'],
    ['app:1=mirror.example/x/app', 'docker.io/library/app:1', 'latest'],
    ['docker://store:1', 'docker.io/library/store:1', '1'],
  ])('%s is %s, asked for as %s', (text, name, reference) => {
    const named = parse(text);
    expect(named.location.kind).toBe('docker');
    expect(named.text).toBe(text);
    expect(imageNameOf(named)).toBe(name);
    expect(referenceIn(named.location)).toBe(reference);
  });
});

describe('layouts', () => {
  it.each([
    ['oci:dir', [], { directory: 'dir' }],
    ['oci:dir:3.20', [], { directory: 'dir', name: '3.20' }],
    ['oci:dir:quay.io/a/b:1', ['dir'], { directory: 'dir', name: 'quay.io/a/b:1' }],
    ['oci:a:b:c', ['a', 'a:b'], { directory: 'a:b', name: 'c' }],
    ['oci:a:b:c', ['a', 'a:b', 'a:b:c'], { directory: 'a:b:c' }],
    ['oci:a:b:c', [], { directory: 'a', name: 'b:c' }],
    ['oci:/srv/x=1:tag', ['/srv/x=1'], { directory: '/srv/x=1', name: 'tag' }],
  ] as const)('%s with %j', (text, directories, want) => {
    expect(parse(text, ...directories).location).toEqual({ kind: 'oci', ...want });
  });

  it('take their name from what stands before =', () => {
    const named = parse('quay.io/acme/app:1=oci:dir=2:x', 'dir=2');
    expect(named.location).toEqual({ kind: 'oci', directory: 'dir=2', name: 'x' });
    expect(imageNameOf(named)).toBe('quay.io/acme/app:1');
  });

  it('take their name from a full name in the layout', () => {
    expect(imageNameOf(parse('oci:dir:quay.io/acme/app:1', 'dir'))).toBe('quay.io/acme/app:1');
  });

  it.each(['oci:dir', 'oci:dir:3.20', 'oci:dir:app', 'oci:dir:acme/app:1'])('%s needs a name', (text) => {
    expect(codeOf(() => imageNameOf(parse(text, 'dir')))).toBe('invalid-reference');
  });

  it('ask for their only image where none is named', () => {
    expect(referenceIn(parse('oci:dir').location)).toBe('');
    expect(referenceIn(parse('oci:dir:x').location)).toBe('x');
  });
});

describe('names of many parts', () => {
  const deep = (parts: number) =>
    `registry.example/${Array(parts - 1)
      .fill('a')
      .join('/')}:1`;

  it('are taken up to 32, and refused beyond before anything is asked', () => {
    expect(imageNameOf(parse(deep(32)))).toBe(deep(32));
    for (const text of [deep(33), `${deep(33)}=oci:dir`, `oci:dir:${deep(40)}`])
      expect(codeOf(() => imageNameOf(parse(text, 'dir')))).toBe('invalid-reference');
    // Where it is fetched from may be deeper.
    expect(imageNameOf(parse(`acme/app:1=docker://${deep(40)}`))).toBe('docker.io/acme/app:1');
  });

  it('are taken up to 255 characters', () => {
    const long = `registry.example/${'a'.repeat(238)}`;
    expect(imageNameOf(parse(`${long}:${'t'.repeat(128)}`))).toBe(`${long}:${'t'.repeat(128)}`);
    expect(codeOf(() => parse(`${long}a:1`))).toBe('invalid-reference');
  });
});

describe('archives, bundles and stores', () => {
  const inFiles = (text: string, ...files: string[]) =>
    parseLocation(
      text,
      () => false,
      (file) => files.includes(file),
    ).location;
  it.each([
    ['oci-archive:x.tar', [], { kind: 'oci-archive', file: 'x.tar' }],
    ['oci-archive:x.tar:a/b:1', [], { kind: 'oci-archive', file: 'x.tar', name: 'a/b:1' }],
    ['docker-archive:a:b.tar:c', ['a:b.tar'], { kind: 'docker-archive', file: 'a:b.tar', name: 'c' }],
    ['docker-archive:x.tar:@1', ['x.tar'], { kind: 'docker-archive', file: 'x.tar', name: '@1' }],
    ['bundle:x=1.tar', [], { kind: 'bundle', file: 'x=1.tar' }],
    ['store:/srv/store:alpine:3', [], { kind: 'store', directory: '/srv/store', name: 'alpine:3' }],
  ] as const)('%s with %j', (text, files, want) => {
    expect(inFiles(text, ...files)).toEqual(want);
  });
});

describe('plain files', () => {
  it('need a name, and take the whole path', () => {
    const named = parse('quay.io/acme/rules:7=file:./a=b:c');
    expect(named.location).toEqual({ kind: 'file', file: './a=b:c' });
    expect(imageNameOf(named)).toBe('quay.io/acme/rules:7');
    expect(codeOf(() => imageNameOf(parse('file:/etc/hosts')))).toBe('invalid-reference');
    expect(codeOf(() => parse('acme/x:1=file:'))).toBe('unknown-location');
  });
});

describe('engines', () => {
  it.each(['docker-daemon', 'containers-storage', 'containerd'])(
    '%s takes a reference and nothing else',
    (kind) => {
      const named = parse(`${kind}:alpine:3.20`);
      expect(named.location).toMatchObject({ kind, reference: { path: 'library/alpine', tag: '3.20' } });
      expect(imageNameOf(named)).toBe('docker.io/library/alpine:3.20');
      expect(imageNameOf(parse(`quay.io/acme/app:1=${kind}:alpine`))).toBe('quay.io/acme/app:1');
      for (const evil of ['', '--help', '-o/etc/x', 'a b', '../x', 'a?b', 'a;b', '$(id)'])
        expect(codeOf(() => parse(`${kind}:${evil}`))).toBe('invalid-reference');
    },
  );
});

describe('drivers', () => {
  it.each([
    ['vault://team/app', 'vault', '//team/app'],
    ['dir:/srv/app:1=x', 'dir', '/srv/app:1=x'],
    ['my-driver-2:./a b', 'my-driver-2', './a b'],
    ['x:../../y', 'x', '../../y'],
  ])('%s', (text, driver, place) => {
    expect(parse(text).location).toEqual({ kind: 'driver', driver, place });
    expect(codeOf(() => imageNameOf(parse(text)))).toBe('invalid-reference');
    expect(imageNameOf(parse(`quay.io/acme/app:1=${text}`))).toBe('quay.io/acme/app:1');
    expect(placeOf(parse(text).location)).toBe(text);
  });

  it.each([
    'docker-daemon://x',
    'store://x',
    'S3://x',
    'Vault://x',
    '-x://y',
    'x-://y',
    'a.b://c',
    'a_b:/c',
    `${'a'.repeat(65)}://c`,
    'http://x',
    'x://a\0b',
  ])('are none of %j', (text) => {
    let kind: string | undefined;
    try {
      ({ kind } = parse(text).location);
    } catch (error) {
      expect(isSealiftError(error)).toBe(true);
    }
    expect(kind).not.toBe('driver');
  });

  it.each(['vault:team', 'vault:1', 'host:5000/app', 'host:5000/app:1'])('take no image: %s', (text) => {
    expect(parse(text).location.kind).toBe('docker');
  });
});

describe('a bare path', () => {
  it('is told how to be written, as far as looking at it says', () => {
    const home = mkdtempSync(path.join(os.tmpdir(), 'sealift-path-'));
    const hint = (name: string): string => {
      try {
        parseLocation(path.join(home, name));
      } catch (error) {
        if (isSealiftError(error)) return error.hint ?? '';
      }
      return '';
    };
    for (const directory of ['store/.sealift', 'layout', 'tree/v2', 'empty'])
      mkdirSync(path.join(home, directory), { recursive: true });
    for (const file of ['store/.sealift/store.json', 'store/oci-layout', 'layout/oci-layout', 'x.tar'])
      writeFileSync(path.join(home, file), '');
    try {
      expect(hint('store')).toBe(`write store:${home}/store`);
      expect(hint('layout')).toBe(`write oci:${home}/layout`);
      expect(hint('tree')).toBe(`write static:${home}/tree:NAME`);
      expect(hint('x.tar')).toContain(`docker-archive:${home}/x.tar`);
      for (const other of ['empty', 'missing', 'a\0b'])
        expect(hint(other)).toContain('a bare name is an image');
    } finally {
      rmSync(home, { recursive: true, force: true });
    }
  });
});

describe('what sealift does not read', () => {
  it.each([
    '',
    'oci:',
    'oci::x',
    'oci-archive:',
    'docker-archive::x',
    'bundle:',
    'store:',
    'static:x',
    's3://bucket/x',
    'file:///etc/shadow',
    'https://registry.example/v2/',
    './dir',
    '/srv/dir',
    'app:1=s3://bucket',
  ])('%j is refused, naming what it reads', (text) => {
    expect(codeOf(() => parse(text))).toBe('unknown-location');
    expect(() => parse(text)).toThrow(/docker:\/\/REFERENCE, oci:DIRECTORY/);
  });

  it.each(['Alpine', 'docker://', 'a b', '=docker://alpine', 'UPPER=docker://alpine', 'a@sha256:12'])(
    '%j is no reference',
    (text) => {
      expect(codeOf(() => parse(text))).toMatch(/^invalid-(reference|digest)$/);
    },
  );

  it('shows no control characters of a location', () => {
    expect(() => parse('s3://\u001b[31m')).toThrow('s3://\\u{1b}[31m');
  });

  it('is always refused with an error of ours', () => {
    const piece = fc.constantFrom(
      'oci:',
      'docker://',
      '=',
      ':',
      '@',
      '/',
      'a',
      '.',
      '..',
      '\0',
      's3://',
      'sha256:',
    );
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.array(piece).map((parts) => parts.join('')),
    );
    fc.assert(
      fc.property(text, (input) => {
        try {
          const { location } = parse(input);
          if (location.kind === 'oci') expect(location.directory).not.toMatch(/^$|\0/);
        } catch (error) {
          expect(isSealiftError(error)).toBe(true);
        }
      }),
    );
  });
});
