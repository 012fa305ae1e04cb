import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { JsonValue } from '../../../core/json/strict.ts';
import {
  formatPlatform,
  parseDescriptor,
  parsePlatform,
  platformMatches,
} from '../../../core/oci/descriptor.ts';
import { digestOf } from '../../../core/oci/digest.ts';
import {
  isForeignLayer,
  isImageType,
  isIndexType,
  isManifestType,
  isMediaType,
  isSchema1Type,
  isTarLayer,
  withoutParameters,
} from '../../../core/oci/media-types.ts';
import { codeOf } from './code-of.ts';

const CONTENT = Buffer.from('{}');
const DIGEST = digestOf(CONTENT);
const GOOD = { mediaType: 'application/octet-stream', digest: DIGEST, size: 2 };

function parse(extra: Record<string, unknown>): ReturnType<typeof parseDescriptor> {
  return parseDescriptor({ ...GOOD, ...extra } as JsonValue, 'layers[0]');
}

describe('descriptors', () => {
  it('have only the fields they were given', () => {
    expect(parse({})).toEqual(GOOD);
  });

  it('keep every field', () => {
    const all = {
      annotations: { a: 'b' },
      platform: { os: 'windows', architecture: 'arm64', variant: 'v8', 'os.version': '10.0.17763.1' },
      artifactType: 'application/vnd.x',
      urls: ['https://example.com/a'],
    };
    expect(parse({ ...all, data: CONTENT.toString('base64') })).toEqual({ ...GOOD, ...all, data: CONTENT });
  });

  it('take null and empty text where Go writes them for nothing', () => {
    expect(parse({ annotations: null, platform: null, urls: null, artifactType: '', data: null })).toEqual(
      GOOD,
    );
    expect(parse({ platform: { os: '', architecture: '' } })).toEqual(GOOD);
  });

  it('ignore fields the specification does not know', () => {
    expect(parse({ 'x-unknown': [1] })).toEqual(GOOD);
  });

  it.each([
    ['no media type', { mediaType: undefined }],
    ['empty media type', { mediaType: '' }],
    ['media type with parameters', { mediaType: 'application/json; charset=utf-8' }],
    ['media type without slash', { mediaType: 'json' }],
    ['media type with a newline', { mediaType: 'a/b\n' }],
    ['no digest', { digest: undefined }],
    ['path-like digest', { digest: 'sha256:../../../etc/passwd' }],
    ['path-like digest of the right length', { digest: `sha256:${'../'.repeat(21)}x` }],
    ['upper-case digest', { digest: DIGEST.toUpperCase() }],
    ['unknown algorithm', { digest: DIGEST.replace('sha256', 'sha257') }],
    ['no size', { size: undefined }],
    ['size as text', { size: '2' }],
    ['negative size', { size: -1 }],
    ['fractional size', { size: 1.5 }],
    ['size beyond 2^53-1', { size: 2 ** 53 }],
    ['size that is infinite', { size: Infinity }],
    ['annotation that is a number', { annotations: { a: 1 } }],
    ['annotations in an array', { annotations: [] }],
    ['urls as text', { urls: 'https://example.com' }],
    ['number among urls', { urls: [1] }],
    ['artifact type that is none', { artifactType: 'x y' }],
    ['platform as text', { platform: 'linux/amd64' }],
    ['platform without os', { platform: { architecture: 'amd64' } }],
    ['platform without architecture', { platform: { os: 'linux' } }],
    ['platform with a slash', { platform: { os: 'linux/..', architecture: 'amd64' } }],
    ['platform with an escape sequence', { platform: { os: 'linux', architecture: '\u001b[2J' } }],
    ['data that is no base64', { data: '***' }],
    ['data in base64url', { data: '-_-_' }],
    ['data with a tail', { data: 'e30= ' }],
    ['data without padding', { data: 'e30' }],
    ['data as an object', { data: {} }],
  ])('refuse: %s', (_, extra) => {
    expect(codeOf(() => parse(extra))).toBe('manifest-invalid');
  });

  it('refuse embedded data of another size or digest', () => {
    expect(codeOf(() => parse({ data: 'e30K' }))).toBe('size-mismatch');
    expect(codeOf(() => parse({ data: Buffer.from('[]').toString('base64') }))).toBe('digest-mismatch');
    expect(codeOf(() => parse({ data: '' }))).toBe('size-mismatch');
  });

  it.each(['Digest', 'SIZE', 'mediatype', 'mediaTYPE', '\u017fize', 'URLs'])(
    'refuse the field %s, which readers that ignore case would take',
    (key) => {
      expect(codeOf(() => parse({ [key]: 'x' }))).toBe('manifest-invalid');
    },
  );

  it.each([null, 1, 'x', [], undefined])('are no %j', (value) => {
    expect(codeOf(() => parseDescriptor(value, 'x'))).toBe('manifest-invalid');
  });

  it('say where the fault is', () => {
    expect(() => parse({ size: -1 })).toThrow('layers[0].size: got -1');
  });
});

describe('platforms', () => {
  it.each([
    ['linux/amd64', 'linux/amd64'],
    ['linux/arm64/v8', 'linux/arm64/v8'],
    ['linux/x86_64', 'linux/amd64'],
    ['linux/aarch64', 'linux/arm64'],
    ['Linux/AMD64', 'linux/amd64'],
    ['linux/armhf', 'linux/arm/v7'],
    ['linux/armel', 'linux/arm/v6'],
    ['linux/i686', 'linux/386'],
    ['unknown/unknown', 'unknown/unknown'],
  ])('%s is %s', (text, want) => {
    expect(formatPlatform(parsePlatform(text))).toBe(want);
  });

  it.each([
    '',
    'linux',
    'linux/',
    '/amd64',
    'linux/amd64/',
    'linux/arm/v7/x',
    'linux/am d64',
    'linux/../amd64',
    'linux/a\n',
    '*/*',
  ])('refuses %j', (text) => {
    expect(codeOf(() => parsePlatform(text))).toBe('invalid-argument');
  });

  it('are read back, whatever is in an index', () => {
    const word = fc.stringMatching(/^[a-z0-9][a-z0-9_.+-]{0,10}$/);
    fc.assert(
      fc.property(word, word, fc.option(word, { nil: undefined }), (os, architecture, variant) => {
        const text = formatPlatform({ os, architecture, ...(variant === undefined ? {} : { variant }) });
        const once = formatPlatform(parsePlatform(text));
        expect(formatPlatform(parsePlatform(once))).toBe(once);
      }),
    );
  });

  it.each([
    ['linux/amd64', 'linux/amd64', true],
    ['linux/amd64', 'linux/arm64', false],
    ['linux/amd64', 'windows/amd64', false],
    ['linux/arm', 'linux/arm/v6', true],
    ['linux/arm/v7', 'linux/arm/v6', false],
    ['linux/arm/v7', 'linux/arm', true],
    ['linux/arm/v6', 'linux/arm', false],
    ['linux/arm64/v8', 'linux/arm64', true],
    ['linux/arm64', 'linux/arm64/v8', true],
    ['linux/amd64/v3', 'linux/amd64', false],
    ['linux/amd64/v1', 'linux/amd64', true],
  ])('%s takes %s: %s', (want, have, matches) => {
    expect(platformMatches(parsePlatform(want), parsePlatform(have))).toBe(matches);
  });

  it('of Windows are told apart by version where one is wanted', () => {
    const have = { os: 'windows', architecture: 'amd64', 'os.version': '10.0.1' };
    expect(platformMatches(parsePlatform('windows/amd64'), have)).toBe(true);
    expect(platformMatches({ ...have, 'os.version': '10.0.2' }, have)).toBe(false);
  });
});

describe('media types', () => {
  it.each([
    ['application/vnd.oci.image.index.v1+json', 'index'],
    ['application/vnd.docker.distribution.manifest.list.v2+json', 'index'],
    ['application/vnd.oci.image.manifest.v1+json', 'image'],
    ['application/vnd.docker.distribution.manifest.v2+json', 'image'],
    ['application/vnd.docker.distribution.manifest.v1+json', 'schema1'],
    ['application/vnd.docker.distribution.manifest.v1+prettyjws', 'schema1'],
    ['application/vnd.oci.image.layer.v1.tar', 'tar'],
    ['application/vnd.oci.image.layer.v1.tar+gzip', 'tar'],
    ['application/vnd.oci.image.layer.v1.tar+zstd', 'tar'],
    ['application/vnd.docker.image.rootfs.diff.tar.gzip', 'tar'],
    ['application/vnd.docker.image.rootfs.foreign.diff.tar.gzip', 'foreign'],
    ['application/vnd.oci.image.layer.nondistributable.v1.tar+gzip', 'foreign'],
    ['application/vnd.oci.image.config.v1+json', 'other'],
    ['application/vnd.cncf.helm.chart.content.v1.tar+gzip', 'other'],
    ['application/vnd.oci.image.manifest.v1+json ', 'other'],
  ])('%s is %s', (type, kind) => {
    expect({
      index: isIndexType(type),
      image: isImageType(type),
      manifest: isManifestType(type),
      schema1: isSchema1Type(type),
      tar: isTarLayer(type),
      foreign: isForeignLayer(type),
    }).toEqual({
      index: kind === 'index',
      image: kind === 'image',
      manifest: kind === 'index' || kind === 'image',
      schema1: kind === 'schema1',
      tar: kind === 'tar' || kind === 'foreign',
      foreign: kind === 'foreign',
    });
  });

  it('lose their parameters', () => {
    expect(withoutParameters('application/json; charset=utf-8')).toBe('application/json');
    expect(withoutParameters(' a/b ')).toBe('a/b');
    expect(isMediaType(withoutParameters(''))).toBe(false);
  });
});
