import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SealiftError } from '../../../core/errors.ts';
import { DEFAULT_LIMITS } from '../../../core/limits.ts';
import { keyIdOf } from '../../../core/trust/keys.ts';
import {
  encodeMetadata,
  fileForm,
  parseRoot,
  parseSnapshot,
  parseTargets,
  parseTimestamp,
  rootFingerprint,
} from '../../../core/trust/metadata.ts';
import { nativeTestSigner, testSigner } from '../../../fixtures/keys/test-keys.ts';
import { TufSimulator } from '../../../fixtures/tuf-simulator.ts';

const parsers = {
  root: parseRoot,
  timestamp: parseTimestamp,
  snapshot: parseSnapshot,
  targets: parseTargets,
  images: parseTargets,
  bundles: parseTargets,
};
type Role = keyof typeof parsers;

function codeOf(role: Role, bytes: Uint8Array, strict = true, limits = DEFAULT_LIMITS): string {
  try {
    parsers[role](bytes, { role, limits, strict });
  } catch (error) {
    return error instanceof SealiftError ? error.code : `not a SealiftError: ${String(error)}`;
  }
  return 'accepted';
}

// biome-ignore lint/suspicious/noExplicitAny: anything may be put into metadata here
type Loose = any;

const SIG = new Map([['0'.repeat(64), 'ab']]);
const sim = await TufSimulator.make({
  signers: { snapshot: [nativeTestSigner('ecdsa')], targets: [await testSigner('ed25519-a')] },
});
sim.addImage('docker.io/library/alpine:3.20');
await sim.publish();

function signedOf(role: Role): Loose {
  const live = {
    root: sim.root,
    timestamp: sim.timestamp,
    snapshot: sim.snapshot,
    targets: sim.targets,
    images: sim.delegated.get('images'),
    bundles: sim.delegated.get('bundles'),
  };
  return structuredClone(live[role]);
}

const bent = (role: Role, bend: (signed: Loose) => void): string => {
  const signed = signedOf(role);
  bend(signed);
  return codeOf(role, encodeMetadata(signed, SIG));
};

const IMAGE = 'docker.io/library/alpine:3.20';
const MALFORMED = 'metadata-malformed';

describe('strict metadata', () => {
  it('is read as it was written', () => {
    for (const role of Object.keys(parsers) as Role[])
      expect(codeOf(role, encodeMetadata(signedOf(role), SIG)), role).toBe('accepted');
  });

  it('keeps fields it does not know, because they are signed', () => {
    const signed = { ...signedOf('images'), 'x-new': { a: [1, true, null] } };
    const { signedBytes } = parseTargets(encodeMetadata(signed, SIG), {
      role: 'images',
      limits: DEFAULT_LIMITS,
      strict: true,
    });
    expect(Buffer.from(signedBytes).toString()).toContain('"x-new":{"a":[1,true,null]}');
  });

  it('must be in canonical form', () => {
    const good = encodeMetadata(signedOf('images'), SIG).toString();
    expect(codeOf('images', Buffer.from(`${good}\n`))).toBe(MALFORMED);
    expect(codeOf('images', Buffer.from(good.replace('":', '": ')))).toBe(MALFORMED);
    expect(codeOf('images', Buffer.from(good.replace('docker.io/', 'docker.io\\/')))).toBe(MALFORMED);
    expect(codeOf('images', Buffer.from(good.replace('alpine', '\\u0061lpine')))).toBe(MALFORMED);
    expect(
      codeOf('images', Buffer.from(JSON.stringify({ signed: signedOf('images'), signatures: [] }))),
    ).toBe(MALFORMED);
    expect(codeOf('images', Buffer.from(`\ufeff${good}`))).toBe('json-invalid');
    expect(codeOf('images', Buffer.from(`${good}{}`))).toBe('json-invalid');
    expect(codeOf('images', Buffer.from(good.replace('"targets":{', '"targets":{},"targets":{')))).toBe(
      'json-duplicate-key',
    );
    expect(codeOf('images', Buffer.from(good.replace('"version":1', '"version":1.0')))).toBe('json-invalid');
    expect(codeOf('images', Buffer.from(good.replace('"version":1', '"version":1e0')))).toBe('json-invalid');
    expect(codeOf('images', Buffer.from(good.replace('"version":1', '"version":9007199254740993')))).toBe(
      'json-invalid',
    );
    expect(
      codeOf('images', Buffer.from(`${good.slice(0, -2)},"x":${'['.repeat(70)}${']'.repeat(70)}}}`)),
    ).toBe('json-too-deep');
    expect(codeOf('images', Buffer.from(good), true, { ...DEFAULT_LIMITS, metadataFile: 50 })).toBe(
      'json-too-large',
    );
  });

  it('has no control characters but the line ends of PEM keys', () => {
    expect(Buffer.from(encodeMetadata(signedOf('root'), SIG)).toString()).toContain(
      '-----BEGIN PUBLIC KEY-----\\n',
    );
    for (const c of ['\n', '\r', '\t', '\u0000', '\u007f']) {
      expect(
        bent('images', (s) => {
          s['x-note'] = `a${c}b`;
        }),
        JSON.stringify(c),
      ).toBe('json-invalid');
      expect(
        bent('images', (s) => {
          s[`x${c}`] = 1;
        }),
      ).toBe('json-invalid');
    }
    expect(
      bent('root', (s) => {
        s['x-note'] = 'a\nb';
      }),
    ).toBe('json-invalid');
  });

  it('has an envelope of the right kind', () => {
    for (const role of Object.keys(parsers) as Role[]) {
      expect(
        bent(role, (s) => {
          s._type = 'mirrors';
        }),
      ).toBe(MALFORMED);
      expect(
        bent(role, (s) => {
          s.spec_version = '2.0.0';
        }),
      ).toBe(MALFORMED);
      expect(
        bent(role, (s) => {
          delete s.spec_version;
        }),
      ).toBe(MALFORMED);
      for (const version of [0, -1, '1', null])
        expect(
          bent(role, (s) => {
            s.version = version;
          }),
        ).toBe(MALFORMED);
      for (const expires of [
        '2026-13-01T00:00:00Z',
        '2026-02-30T00:00:00Z',
        '2026-01-01T00:00:00.000Z',
        '2026-01-01',
        '2026-01-01T00:00:00+00:00',
        5,
      ]) {
        expect(
          bent(role, (s) => {
            s.expires = expires;
          }),
          String(expires),
        ).toBe(MALFORMED);
      }
    }
    expect(codeOf('images', fileForm({ signatures: [], signed: signedOf('images') }))).toBe(MALFORMED);
    expect(
      codeOf('images', fileForm({ signatures: [{ keyid: 'A', sig: '' }], signed: signedOf('images') })),
    ).toBe(MALFORMED);
    const twice = { keyid: '0'.repeat(64), sig: 'ab' };
    expect(
      codeOf(
        'images',
        fileForm({ signatures: [twice, { ...twice, sig: 'cd' }], signed: signedOf('images') }),
      ),
    ).toBe(MALFORMED);
    expect(
      codeOf('images', fileForm({ signatures: [{ ...twice, extra: 1 }], signed: signedOf('images') })),
    ).toBe(MALFORMED);
    expect(codeOf('images', fileForm({ extra: 1, signatures: [twice], signed: signedOf('images') }))).toBe(
      MALFORMED,
    );
  });

  it('has roots whose roles hold', () => {
    expect(
      bent('root', (s) => {
        s.consistent_snapshot = false;
      }),
    ).toBe(MALFORMED);
    expect(
      bent('root', (s) => {
        delete s.roles.timestamp;
      }),
    ).toBe(MALFORMED);
    expect(
      bent('root', (s) => {
        s.roles.mirrors = s.roles.timestamp;
      }),
    ).toBe(MALFORMED);
    for (const threshold of [0, -1, 2, '1']) {
      expect(
        bent('root', (s) => {
          s.roles.root = { ...s.roles.root, threshold };
        }),
      ).toBe(MALFORMED);
    }
    expect(
      bent('root', (s) => {
        s.roles.root.keyids.push('f'.repeat(64));
      }),
    ).toBe(MALFORMED);
    expect(
      bent('root', (s) => {
        s.roles.root.keyids.push(s.roles.root.keyids[0]);
      }),
    ).toBe(MALFORMED);
  });

  it('has keys whose id is their hash, of kinds that are known', () => {
    expect(
      bent('root', (s) => {
        s.keys['f'.repeat(64)] = Object.values(s.keys)[0];
      }),
    ).toBe(MALFORMED);
    const add = (key: Loose) =>
      bent('root', (s) => {
        s.keys[keyIdOf(key)] = key;
      });
    expect(add({ keytype: 'ed25519', scheme: 'ed25519', keyval: { public: 'AB'.repeat(32) } })).toBe(
      MALFORMED,
    );
    expect(add({ keytype: 'openpgp', scheme: 'openpgp-v4', keyval: { public: 'AB'.repeat(20) } })).toBe(
      MALFORMED,
    );
    expect(add({ keytype: 'openpgp', scheme: 'pgp+rsa', keyval: { public: 'ab'.repeat(20) } })).toBe(
      MALFORMED,
    );
    expect(add({ keytype: 'openpgp', scheme: 'openpgp-v4', keyval: { public: 'ab'.repeat(20) } })).toBe(
      'accepted',
    );
    expect(add({ ...nativeTestSigner('rsa').key, scheme: 'rsassa-pkcs1v15-sha256' })).toBe('weak-algorithm');
    expect(add({ ...nativeTestSigner('ecdsa').key, scheme: 'ecdsa-sha2-nistp384' })).toBe('weak-algorithm');
    expect(add({ keytype: 'sphincs', scheme: 'x', keyval: { public: 'y' } })).toBe(MALFORMED);
  });

  it('has timestamps and snapshots that name files with version, length and hash', () => {
    for (const field of ['version', 'length', 'hashes']) {
      expect(
        bent('timestamp', (s) => {
          delete s.meta['snapshot.json'][field];
        }),
      ).toBe(MALFORMED);
      expect(
        bent('snapshot', (s) => {
          delete s.meta['images.json'][field];
        }),
      ).toBe(MALFORMED);
    }
    expect(
      bent('timestamp', (s) => {
        s.meta['snapshot.json'].hashes = { sha512: 'ab'.repeat(64) };
      }),
    ).toBe(MALFORMED);
    expect(
      bent('timestamp', (s) => {
        s.meta['snapshot.json'].hashes.md5 = 'ab';
      }),
    ).toBe(MALFORMED);
    expect(
      bent('timestamp', (s) => {
        s.meta['images.json'] = s.meta['snapshot.json'];
      }),
    ).toBe(MALFORMED);
    expect(
      bent('timestamp', (s) => {
        delete s['x-created'];
      }),
    ).toBe(MALFORMED);
    expect(
      bent('snapshot', (s) => {
        delete s.meta['targets.json'];
      }),
    ).toBe(MALFORMED);
    for (const name of [
      'root.json',
      'timestamp.json',
      'images',
      '../x.json',
      'A.json',
      '.json',
      '.hidden.json',
    ]) {
      expect(
        bent('snapshot', (s) => {
          s.meta[name] = s.meta['images.json'];
        }),
        name,
      ).toBe(MALFORMED);
    }
  });

  it('has delegations by the profile', () => {
    for (const name of ['root', 'targets', 'Images', '../x', '', 'a'.repeat(129), '-x']) {
      expect(
        bent('targets', (s) => {
          s.delegations.roles[0].name = name;
        }),
        name,
      ).toBe(MALFORMED);
    }
    expect(
      bent('targets', (s) => {
        s.delegations.roles[0].name = 'images';
      }),
    ).toBe(MALFORMED);
    expect(
      bent('targets', (s) => {
        s.delegations.roles[0].paths = [];
      }),
    ).toBe(MALFORMED);
    expect(
      bent('targets', (s) => {
        s.delegations.roles[0].paths = [''];
      }),
    ).toBe(MALFORMED);
    expect(
      bent('targets', (s) => {
        delete s.delegations.roles[0].terminating;
      }),
    ).toBe(MALFORMED);
    expect(
      bent('targets', (s) => {
        s.delegations.roles[0].path_hash_prefixes = ['a'];
      }),
    ).toBe(MALFORMED);
    expect(
      bent('targets', (s) => {
        delete s.delegations.roles;
        s.delegations.succinct_roles = {};
      }),
    ).toBe(MALFORMED);
    expect(
      bent('targets', (s) => {
        s.delegations.roles[0].threshold = 2;
      }),
    ).toBe(MALFORMED);
    expect(
      bent('targets', (s) => {
        s.targets = signedOf('images').targets;
      }),
    ).toBe(MALFORMED);
  });

  it('has targets and tombstones by the profile', () => {
    const target = (bend: (t: Loose) => void) => bent('images', (s) => bend(s.targets[IMAGE]));
    expect(
      target((t) => {
        delete t.hashes.sha256;
      }),
    ).toBe(MALFORMED);
    expect(
      target((t) => {
        t.hashes.sha256 = t.hashes.sha256.toUpperCase();
      }),
    ).toBe(MALFORMED);
    expect(
      target((t) => {
        t.length = -1;
      }),
    ).toBe(MALFORMED);
    expect(
      target((t) => {
        delete t.custom;
      }),
    ).toBe(MALFORMED);
    expect(
      target((t) => {
        t.custom.mediaType = 5;
      }),
    ).toBe(MALFORMED);
    expect(
      target((t) => {
        t.custom.require = 'sbom';
      }),
    ).toBe(MALFORMED);
    const grave = (name: string) => ({
      at: '2026-05-01T00:00:00Z',
      digest: `sha256:${'0'.repeat(64)}`,
      name,
      reason: 'bad',
    });
    const withdrawn = (list: Loose) =>
      bent('images', (s) => {
        s['x-withdrawn'] = list;
      });
    expect(withdrawn([grave('a'), grave('b')])).toBe('accepted');
    expect(withdrawn([grave('b'), grave('a')])).toBe(MALFORMED);
    expect(withdrawn([grave('a'), grave('a')])).toBe(MALFORMED);
    expect(withdrawn([grave(IMAGE)])).toBe(MALFORMED);
    expect(withdrawn([{ ...grave('a'), digest: 'md5:00' }])).toBe(MALFORMED);
    expect(withdrawn([{ ...grave('a'), extra: 1 }])).toBe(MALFORMED);
    expect(withdrawn({})).toBe(MALFORMED);
  });

  it('never gives anything but a SealiftError, whatever the JSON', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...(Object.keys(parsers) as Role[])),
        fc.json(),
        fc.boolean(),
        (role, text, strict) => {
          expect(codeOf(role, Buffer.from(text), strict)).not.toMatch(/^not a/);
          expect(codeOf(role, Buffer.from(`{"signatures":[],"signed":${text}}`), strict)).not.toMatch(
            /^not a/,
          );
        },
      ),
    );
  });
});

describe('other people’s repositories', () => {
  it('may be formatted and keyed as they like', () => {
    const root = signedOf('root');
    delete root.consistent_snapshot;
    root.keys['any-id'] = { keytype: 'sphincs', scheme: 'x', keyval: { public: 'y' } };
    expect(
      codeOf('root', Buffer.from(JSON.stringify({ signed: root, signatures: [], extra: 1 }, null, 2)), false),
    ).toBe('accepted');
    const timestamp = signedOf('timestamp');
    delete timestamp['x-created'];
    timestamp.meta['snapshot.json'] = { version: 1 };
    expect(
      codeOf('timestamp', Buffer.from(JSON.stringify({ signed: timestamp, signatures: [] })), false),
    ).toBe('accepted');
    const targets = signedOf('targets');
    targets.delegations = {
      keys: {},
      succinct_roles: { keyids: [], threshold: 1, bit_length: 4, name_prefix: 'bin' },
    };
    expect(codeOf('targets', Buffer.from(JSON.stringify({ signed: targets, signatures: [] })), false)).toBe(
      'accepted',
    );
  });
});

describe('fingerprints', () => {
  it('are of what is signed, not of the file', () => {
    const options = { role: 'root', limits: DEFAULT_LIMITS, strict: true };
    const a = parseRoot(encodeMetadata(signedOf('root'), SIG), options);
    const b = parseRoot(encodeMetadata(signedOf('root'), new Map([['1'.repeat(64), 'cd']])), options);
    expect(rootFingerprint(a)).toBe(rootFingerprint(b));
    expect(rootFingerprint(a)).toMatch(/^[0-9a-f]{64}$/);
  });
});
