import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SealiftError } from '../../../core/errors.ts';
import { DEFAULT_LIMITS } from '../../../core/limits.ts';
import { digestOf } from '../../../core/oci/digest.ts';
import {
  artifactTypeOf,
  type ParsedManifest,
  type ParseManifestOptions,
  parseManifest,
} from '../../../core/oci/manifest.ts';
import {
  DOCKER_CONFIG,
  DOCKER_LAYER_GZIP,
  DOCKER_LIST,
  DOCKER_MANIFEST,
  DOCKER_SCHEMA1,
  DOCKER_SCHEMA1_SIGNED,
  OCI_CONFIG,
  OCI_EMPTY,
  OCI_EMPTY_CONTENT,
  OCI_INDEX,
  OCI_LAYER_GZIP,
  OCI_MANIFEST,
} from '../../../core/oci/media-types.ts';
import { codeOf } from './code-of.ts';

const limits = DEFAULT_LIMITS;
const describeBytes = (mediaType: string, text: string) => ({
  mediaType,
  digest: digestOf(Buffer.from(text)),
  size: Buffer.byteLength(text),
});
const CONFIG = describeBytes(OCI_CONFIG, 'config');
const LAYER = describeBytes(OCI_LAYER_GZIP, 'layer');
const IMAGE = { schemaVersion: 2, mediaType: OCI_MANIFEST, config: CONFIG, layers: [LAYER] };
const CHILD = { ...describeBytes(OCI_MANIFEST, 'child'), platform: { os: 'linux', architecture: 'amd64' } };
const INDEX = { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [CHILD] };

function parse(document: unknown, options: Partial<ParseManifestOptions> = {}): ParsedManifest {
  const bytes = Buffer.from(typeof document === 'string' ? document : JSON.stringify(document));
  return parseManifest(bytes, { limits, ...options });
}

describe('kinds', () => {
  it('OCI image', () => {
    expect(parse(IMAGE)).toMatchObject({
      kind: 'image',
      mediaType: OCI_MANIFEST,
      config: CONFIG,
      layers: [LAYER],
      manifests: [],
    });
  });

  it('OCI index', () => {
    expect(parse(INDEX)).toMatchObject({
      kind: 'index',
      mediaType: OCI_INDEX,
      layers: [],
      manifests: [CHILD],
    });
    expect(parse(INDEX).config).toBeUndefined();
  });

  it('Docker schema 2', () => {
    const config = { ...CONFIG, mediaType: DOCKER_CONFIG };
    const layers = [{ ...LAYER, mediaType: DOCKER_LAYER_GZIP }];
    expect(parse({ schemaVersion: 2, mediaType: DOCKER_MANIFEST, config, layers })).toMatchObject({
      kind: 'image',
      mediaType: DOCKER_MANIFEST,
      config,
      layers,
    });
    const list = {
      schemaVersion: 2,
      mediaType: DOCKER_LIST,
      manifests: [{ ...CHILD, mediaType: DOCKER_MANIFEST }],
    };
    expect(parse(list)).toMatchObject({ kind: 'index', mediaType: DOCKER_LIST });
  });

  it('artifact with the empty config', () => {
    const config = { ...describeBytes(OCI_EMPTY, OCI_EMPTY_CONTENT), data: 'e30=' };
    const subject = describeBytes(OCI_MANIFEST, 'subject');
    const manifest = parse({
      ...IMAGE,
      artifactType: 'application/vnd.example.sbom',
      config,
      layers: [config],
      subject,
      annotations: { 'org.opencontainers.image.created': '2024-01-01T00:00:00Z' },
    });
    expect(manifest).toMatchObject({
      kind: 'image',
      artifactType: 'application/vnd.example.sbom',
      subject,
      config: { mediaType: OCI_EMPTY, data: Buffer.from('{}') },
      annotations: { 'org.opencontainers.image.created': '2024-01-01T00:00:00Z' },
    });
    expect(artifactTypeOf(manifest)).toBe('application/vnd.example.sbom');
  });

  it('artifact type comes from the config where there is no field, and container images have none', () => {
    const helm = { ...CONFIG, mediaType: 'application/vnd.cncf.helm.config.v1+json' };
    expect(artifactTypeOf(parse({ ...IMAGE, config: helm }))).toBe(helm.mediaType);
    expect(artifactTypeOf(parse(IMAGE))).toBeUndefined();
    expect(
      artifactTypeOf(parse({ ...IMAGE, config: { ...CONFIG, mediaType: DOCKER_CONFIG } })),
    ).toBeUndefined();
    expect(artifactTypeOf(parse(INDEX))).toBeUndefined();
    expect(artifactTypeOf(parse({ ...INDEX, artifactType: 'application/x' }))).toBe('application/x');
  });

  it('without the mediaType field, as umoci and older builders write', () => {
    const { mediaType: _, ...image } = IMAGE;
    const { mediaType: __, ...index } = INDEX;
    expect(parse(image).mediaType).toBe(OCI_MANIFEST);
    expect(parse(index).mediaType).toBe(OCI_INDEX);
    expect(parse({ ...image, mediaType: '' }).mediaType).toBe(OCI_MANIFEST);
    expect(parse(image, { mediaType: DOCKER_MANIFEST }).mediaType).toBe(DOCKER_MANIFEST);
  });

  it('descriptors in an index may have types nobody knows', () => {
    const child = { ...CHILD, mediaType: 'application/vnd.example.unheard+of' };
    expect(parse({ ...INDEX, manifests: [child, CHILD] }).manifests.map((d) => d.mediaType)).toEqual([
      child.mediaType,
      OCI_MANIFEST,
    ]);
  });

  it('empty lists, also as Go writes them', () => {
    expect(parse({ ...IMAGE, layers: [] }).layers).toEqual([]);
    expect(parse({ ...IMAGE, layers: null }).layers).toEqual([]);
    expect(parse({ ...INDEX, manifests: null }).manifests).toEqual([]);
    expect(parse({ ...INDEX, subject: null, annotations: null, artifactType: '' }).annotations).toEqual({});
  });
});

describe('bytes', () => {
  it('are kept as they came, white space and unknown fields included', () => {
    const text = `${JSON.stringify({ ...IMAGE, 'x-new': { a: [1.5] } }, undefined, 3)}\n`;
    const bytes = Buffer.from(text);
    const manifest = parseManifest(bytes, { limits });
    expect(manifest.bytes).toBe(bytes);
    expect(manifest.digest).toBe(digestOf(bytes));
  });

  it('have the digest that is asked for, sha512 too', () => {
    const bytes = Buffer.from(JSON.stringify(IMAGE));
    const digest = digestOf(bytes, 'sha512');
    expect(parseManifest(bytes, { limits, digest }).digest).toBe(digest);
    expect(codeOf(() => parseManifest(Buffer.concat([bytes, Buffer.from('\n')]), { limits, digest }))).toBe(
      'digest-mismatch',
    );
  });

  it('are hashed before anything in them is believed', () => {
    expect(codeOf(() => parse('not json', { digest: digestOf(Buffer.from('x')) }))).toBe('digest-mismatch');
  });

  it('are not above the cap', () => {
    expect(codeOf(() => parse(IMAGE, { limits: { ...limits, manifest: 100 } }))).toBe('json-too-large');
  });
});

describe('types', () => {
  it('announced with parameters', () => {
    expect(parse(IMAGE, { mediaType: `${OCI_MANIFEST}; charset=utf-8` }).mediaType).toBe(OCI_MANIFEST);
  });

  it.each([
    ['field and announcement differ', IMAGE, DOCKER_MANIFEST],
    ['an index where an image was announced', INDEX, OCI_MANIFEST],
    ['an image where an index was announced', IMAGE, OCI_INDEX],
    ['an index without field where an image was announced', { ...INDEX, mediaType: undefined }, OCI_MANIFEST],
    ['an image without field where an index was announced', { ...IMAGE, mediaType: undefined }, DOCKER_LIST],
    ['the field of an index over the content of an image', { ...IMAGE, mediaType: OCI_INDEX }, undefined],
    [
      'the field of an image over the content of an index',
      { ...INDEX, mediaType: DOCKER_MANIFEST },
      undefined,
    ],
  ])('%s', (_, document, mediaType) => {
    expect(codeOf(() => parse(document, { mediaType }))).toBe('media-type-mismatch');
  });

  it.each([
    [
      'the withdrawn artifact manifest',
      { ...IMAGE, mediaType: 'application/vnd.oci.artifact.manifest.v1+json' },
      undefined,
    ],
    ['a config', { ...IMAGE, mediaType: OCI_CONFIG }, undefined],
    ['a number', { ...IMAGE, mediaType: 2 }, undefined],
    ['plain JSON, announced', IMAGE, 'application/json'],
    ['nothing, announced', IMAGE, ''],
  ])('unknown: %s', (_, document, mediaType) => {
    expect(codeOf(() => parse(document, { mediaType }))).toBe('manifest-invalid');
  });
});

describe('attacks', () => {
  it.each([
    ['manifests beside layers and config', { ...IMAGE, manifests: [CHILD] }],
    ['manifests beside config', { ...INDEX, config: CONFIG }],
    ['manifests beside layers', { ...INDEX, layers: [LAYER] }],
    ['manifests beside empty layers', { ...INDEX, layers: [] }],
    ['empty manifests in an image', { ...IMAGE, manifests: [] }],
    ['null manifests in an image', { ...IMAGE, manifests: null }],
  ])('a document that is image and index at once: %s', (_, document) => {
    expect(codeOf(() => parse(document))).toBe('manifest-invalid');
    expect(codeOf(() => parse({ ...document, mediaType: undefined }))).toBe('manifest-invalid');
    expect(codeOf(() => parse(document, { mediaType: document.mediaType }))).toBe('manifest-invalid');
  });

  it.each([
    'Layers',
    'LAYERS',
    'Manifests',
    'Config',
    'layer\u017f',
    'MediaType',
    'SchemaVersion',
    'FSLayers',
  ])('the field %s, which readers that ignore case would take', (key) => {
    expect(codeOf(() => parse({ ...IMAGE, [key]: [] }))).toBe('manifest-invalid');
  });

  it.each([
    ['by version', { schemaVersion: 1, name: 'a', tag: 'b', fsLayers: [], history: [] }, undefined],
    ['by version alone', { ...IMAGE, schemaVersion: 1 }, undefined],
    ['by field', { ...IMAGE, mediaType: DOCKER_SCHEMA1 }, undefined],
    ['by signed field', { ...IMAGE, mediaType: DOCKER_SCHEMA1_SIGNED }, undefined],
    ['by announcement', IMAGE, DOCKER_SCHEMA1],
    ['by signed announcement with parameters', IMAGE, `${DOCKER_SCHEMA1_SIGNED}; charset=utf-8`],
    ['by layers beside those of schema 2', { ...IMAGE, fsLayers: [] }, undefined],
  ])('schema 1: %s', (_, document, mediaType) => {
    expect(codeOf(() => parse(document, { mediaType }))).toBe('schema1-unsupported');
  });

  it('duplicate key: layers twice', () => {
    const text = JSON.stringify(IMAGE).replace('"layers"', '"layers":[],"l\\u0061yers"');
    expect(codeOf(() => parse(text))).toBe('json-duplicate-key');
  });

  it('deep nesting', () => {
    const text = `{"schemaVersion":2,"x":${'['.repeat(1_000_000)}`;
    expect(codeOf(() => parse(text))).toBe('json-too-deep');
  });

  it('byte order mark', () => {
    expect(codeOf(() => parse(`\ufeff${JSON.stringify(IMAGE)}`))).toBe('json-invalid');
  });

  it('bad UTF-8', () => {
    const bytes = Buffer.from(JSON.stringify({ ...IMAGE, annotations: { a: 'X' } }));
    bytes[bytes.indexOf('X')] = 0xff;
    expect(codeOf(() => parseManifest(bytes, { limits }))).toBe('json-invalid');
  });

  it('data behind the document', () => {
    expect(codeOf(() => parse(JSON.stringify(IMAGE) + JSON.stringify(INDEX)))).toBe('json-invalid');
  });

  it.each(['1e999', '1e3', '5.0', '9007199254740993', '18446744073709551621'])(
    'a huge or disguised size: %s',
    (size) => {
      const text = JSON.stringify(IMAGE).replace(`"size":${LAYER.size}`, `"size":${size}`);
      expect(text).toContain(size);
      expect(codeOf(() => parse(text))).toBe('json-invalid');
    },
  );

  it('path-like digest of a layer', () => {
    expect(codeOf(() => parse({ ...IMAGE, layers: [{ ...LAYER, digest: 'sha256:../../etc/shadow' }] }))).toBe(
      'manifest-invalid',
    );
  });

  it('keys of Object.prototype', () => {
    const text = `{"__proto__":{"config":{},"layers":[]},${JSON.stringify(INDEX).slice(1)}`;
    expect(parse(text).kind).toBe('index');
    expect(codeOf(() => parse('{"__proto__":{"schemaVersion":2,"manifests":[]}}'))).toBe('manifest-invalid');
  });
});

describe('faults', () => {
  it.each([
    ['array', []],
    ['null', null],
    ['empty object', {}],
    ['nothing but a version', { schemaVersion: 2 }],
    ['no version', { ...IMAGE, schemaVersion: undefined }],
    ['version 3', { ...IMAGE, schemaVersion: 3 }],
    ['version as text', { ...IMAGE, schemaVersion: '2' }],
    ['no config', { ...IMAGE, config: undefined }],
    ['null config', { ...IMAGE, config: null }],
    ['no layers', { ...IMAGE, layers: undefined }],
    ['layers in an object', { ...IMAGE, layers: {} }],
    ['layer that is text', { ...IMAGE, layers: ['x'] }],
    ['manifests in an object', { ...INDEX, manifests: {} }],
    ['subject that is text', { ...IMAGE, subject: 'x' }],
    ['annotations that are numbers', { ...IMAGE, annotations: { a: 1 } }],
    ['artifact type that is none', { ...IMAGE, artifactType: 'none' }],
  ])('%s', (_, document) => {
    expect(codeOf(() => parse(document))).toBe('manifest-invalid');
  });

  it('name the manifest and the place', () => {
    const text = JSON.stringify({ ...INDEX, manifests: [CHILD, { ...CHILD, size: -1 }] });
    expect(() => parse(text)).toThrow(
      expect.objectContaining({
        subject: digestOf(Buffer.from(text)),
        message: expect.stringContaining('manifests[1].size') as string,
      }),
    );
  });
});

it('any change of a field gives a manifest or a refusal, never another failure', () => {
  const fields = [
    'schemaVersion',
    'mediaType',
    'config',
    'layers',
    'manifests',
    'subject',
    'artifactType',
    'annotations',
  ];
  fc.assert(
    fc.property(
      fc.constantFrom(IMAGE, INDEX),
      fc.dictionary(
        fc.constantFrom(...fields),
        fc.oneof(fc.jsonValue(), fc.constant(LAYER), fc.constant([LAYER])),
        { maxKeys: 3 },
      ),
      (base, changes) => {
        try {
          const manifest = parse({ ...base, ...changes });
          expect(manifest.kind === 'index' ? manifest.layers : manifest.manifests).toEqual([]);
          expect(manifest.config === undefined).toBe(manifest.kind === 'index');
        } catch (error) {
          expect(error).toBeInstanceOf(SealiftError);
          expect((error as SealiftError).category).toBe('malformed');
        }
      },
    ),
    { numRuns: 500 },
  );
});
