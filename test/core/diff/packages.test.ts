import { describe, expect, test } from 'vitest';
import { parsePackages } from '../../../core/diff/packages.ts';

const parse = (document: unknown) => parsePackages(Buffer.from(JSON.stringify(document)), 64);

const cyclone = {
  bomFormat: 'CycloneDX',
  components: [
    {
      type: 'library',
      name: 'left-pad',
      version: '1.3.0',
      purl: 'pkg:npm/left-pad@1.3.0',
      components: [{ name: 'inner', version: '2' }],
    },
    { type: 'file', name: '/etc/passwd' },
  ],
};
const spdx = {
  spdxVersion: 'SPDX-2.3',
  packages: [{ name: 'musl', versionInfo: '1.2.4' }, { name: 'bare' }],
};

describe('packages of an SBOM', () => {
  test('in SPDX and in CycloneDX, components within components too', () => {
    expect(parse(spdx)).toEqual([
      ['musl', '1.2.4'],
      ['bare', ''],
    ]);
    expect(parse(cyclone)).toEqual([
      ['npm/left-pad', '1.3.0'],
      ['inner', '2'],
    ]);
  });

  test('in an in-toto statement, in that of cosign, and in a DSSE envelope', () => {
    const statement = {
      _type: 'https://in-toto.io/Statement/v1',
      predicateType: 'https://spdx.dev/Document',
      predicate: spdx,
    };
    const envelope = {
      payloadType: 'application/vnd.in-toto+json',
      payload: Buffer.from(JSON.stringify({ ...statement, predicate: { Data: cyclone } })).toString('base64'),
      signatures: [],
    };
    expect(parse(statement)).toEqual(parse(spdx));
    expect(parse(envelope)).toEqual(parse(cyclone));
  });

  test('of no SBOM there are none', () => {
    for (const document of [
      null,
      [],
      'x',
      {},
      { predicate: {} },
      { spdxVersion: 2, packages: [] },
      { payload: 'e30=', payloadType: 'x' },
    ])
      expect(parse(document)).toBeUndefined();
  });

  test('an envelope in an envelope is none', () => {
    const wrap = (document: unknown) => ({
      payloadType: 'x',
      payload: Buffer.from(JSON.stringify(document)).toString('base64'),
    });
    expect(parse(wrap(wrap(spdx)))).toBeUndefined();
  });
});
