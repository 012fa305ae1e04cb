import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { layoutEntries } from '../../../core/bundle/layout.ts';
import {
  createdSeconds,
  encodeBundleManifest,
  formatCreated,
  listEntries,
  parseBundleManifest,
  parseEntryName,
} from '../../../core/bundle/manifest.ts';
import { isSealiftError } from '../../../core/errors.ts';
import { canonicalJson } from '../../../core/json/canonical.ts';
import { DEFAULT_LIMITS } from '../../../core/limits.ts';
import { makeBundle, SOME_BLOBS } from './helpers.ts';

type Plain = Record<string, unknown>;

const SHA = (digit: string) => `sha256:${digit.repeat(64)}`;
/** Evidence about SHA('3') with a tag. */
const tagged = (tag: string) => ({
  digest: SHA('1'),
  mediaType: 'application/vnd.oci.image.manifest.v1+json',
  artifactType: '',
  size: 1,
  subject: SHA('3'),
  via: 'cosign-tag',
  tag,
});
const blob = (digit: string, kind = 'layer', size = 1) => ({
  name: `blobs/sha256/${digit.repeat(64)}`,
  size,
  sha256: digit.repeat(64),
  kind,
});

function plain(): Plain & { entries: Plain[]; images: Plain[] } {
  return JSON.parse(JSON.stringify(makeBundle().manifest)) as Plain & { entries: Plain[]; images: Plain[] };
}

/** The code that a manifest, changed by `change`, is refused with. */
function refusal(change: (manifest: ReturnType<typeof plain>) => void): string {
  const manifest = plain();
  change(manifest);
  try {
    parseBundleManifest(canonicalJson(manifest), DEFAULT_LIMITS);
    return 'accepted';
  } catch (error) {
    if (isSealiftError(error)) return error.code;
    throw error;
  }
}

const indexOf = (manifest: { entries: Plain[] }, name: string) =>
  manifest.entries.findIndex((entry) => entry['name'] === name);
const entryOf = (manifest: { entries: Plain[] }, name: string) => manifest.entries[indexOf(manifest, name)]!;

describe('the bundle manifest', () => {
  it('is encoded and read again', () => {
    const { manifest } = makeBundle({
      blobs: [...SOME_BLOBS, { bytes: Buffer.from('x'), kind: 'layer', algorithm: 'sha512' }],
    });
    expect(parseBundleManifest(encodeBundleManifest(manifest), DEFAULT_LIMITS)).toEqual(manifest);
  });

  it('may have fields of a later format that change nothing', () => {
    const change = (manifest: ReturnType<typeof plain>) => {
      manifest['later'] = { a: [1] };
      manifest.images[0]!['later'] = 'x';
      manifest.entries[0]!['later'] = 'x';
      manifest['features'] = ['something-nice'];
    };
    expect(refusal(change)).toBe('accepted');
  });

  it('may carry nothing, or a delta', () => {
    expect(
      refusal((m) => {
        m.images = [];
      }),
    ).toBe('accepted');
    const delta = (m: ReturnType<typeof plain>) => {
      m['requires'] = ['delta'];
      m['base'] = {
        collection: 'c'.repeat(64),
        version: 3,
        missing: [{ name: `blobs/sha256/${'0'.repeat(64)}`, size: 4, sha256: '0'.repeat(64) }],
      };
    };
    expect(refusal(delta)).toBe('accepted');
    expect(
      refusal((m) => {
        delta(m);
        m['requires'] = [];
      }),
    ).toBe('bundle-not-canonical');
    expect(
      refusal((m) => {
        delta(m);
        delete m['base'];
      }),
    ).toBe('bundle-not-canonical');
    expect(
      refusal((m) => {
        delta(m);
        (m['base'] as Plain)['missing'] = [{ name: 'README.txt', size: 1, sha256: '0'.repeat(64) }];
      }),
    ).toBe('bundle-not-canonical');
    const there = makeBundle().manifest.entries.find(({ kind }) => kind === 'layer');
    expect(
      refusal((m) => {
        delta(m);
        (m['base'] as Plain)['missing'] = [{ name: there?.name, size: 1, sha256: there?.sha256 }];
      }),
    ).toBe('bundle-not-canonical');
  });

  it('of another format is refused by its version', () => {
    expect(
      refusal((m) => {
        m['formatVersion'] = 2;
      }),
    ).toBe('format-unsupported');
  });

  it('with an unknown required feature is refused by its name, whatever else it has', () => {
    const manifest = { ...plain(), requires: ['delta', 'time-travel'], entries: 'quite different' };
    expect(() => parseBundleManifest(canonicalJson(manifest), DEFAULT_LIMITS)).toThrow(/time-travel/);
    expect(
      refusal((m) => {
        m['requires'] = ['time-travel'];
      }),
    ).toBe('format-unsupported');
  });

  const wrong: readonly (readonly [string, (m: ReturnType<typeof plain>) => void])[] = [
    [
      'media type',
      (m) => {
        m['mediaType'] = 'application/json';
      },
    ],
    [
      'generator',
      (m) => {
        m['generator'] = 1;
      },
    ],
    [
      'features',
      (m) => {
        m['features'] = 'x';
      },
    ],
    [
      'feature twice',
      (m) => {
        m['features'] = ['x', 'x'];
      },
    ],
    [
      'collection',
      (m) => {
        m['collection'] = 'x';
      },
    ],
    [
      'collection id in upper case',
      (m) => {
        m['collection'] = { id: 'C0'.repeat(32), name: 'x' };
      },
    ],
    [
      'version zero',
      (m) => {
        m['version'] = 0;
      },
    ],
    [
      'version as text',
      (m) => {
        m['version'] = '7';
      },
    ],
    [
      'created with a fraction',
      (m) => {
        m['created'] = '2026-01-02T03:04:05.000Z';
      },
    ],
    [
      'created on the 30th of February',
      (m) => {
        m['created'] = '2026-02-30T03:04:05Z';
      },
    ],
    [
      'created at 24 hours',
      (m) => {
        m['created'] = '2026-02-20T24:00:00Z';
      },
    ],
    [
      'created later than a header can say',
      (m) => {
        m['created'] = '2300-01-01T00:00:00Z';
      },
    ],
    [
      'created before 1970',
      (m) => {
        m['created'] = '1969-02-20T00:00:00Z';
      },
    ],
    [
      'images',
      (m) => {
        m['images'] = {} as never;
      },
    ],
    [
      'image name without a registry',
      (m) => {
        m.images[0]!['name'] = 'alpine:3.20';
      },
    ],
    [
      'image digest',
      (m) => {
        m.images[0]!['digest'] = 'sha256:00';
      },
    ],
    [
      'image size',
      (m) => {
        m.images[0]!['size'] = -1;
      },
    ],
    [
      'image twice',
      (m) => {
        m.images.push(m.images[0]!);
      },
    ],
    [
      'images not ascending',
      (m) => {
        m.images.push({ ...m.images[0]!, name: 'docker.io/library/aaa:1' });
      },
    ],
    [
      'platforms not ascending',
      (m) => {
        m.images[0]!['platforms'] = ['linux/arm64', 'linux/amd64'];
      },
    ],
    [
      'platform',
      (m) => {
        m.images[0]!['platforms'] = ['linux'];
      },
    ],
    [
      'reason of an omission',
      (m) => {
        m.images[0]!['omitted'] = [{ digest: SHA('1'), reason: 'mood' }];
      },
    ],
    [
      'digestMadeHere false',
      (m) => {
        m.images[0]!['digestMadeHere'] = false;
      },
    ],
    [
      'a tag of evidence that is about something else',
      (m) => {
        m['requires'] = ['tagged-evidence'];
        m['evidence'] = [tagged(`sha256-${'2'.repeat(64)}.sig`)];
      },
    ],
    [
      'a tag of evidence in a bundle that old readers would take',
      (m) => {
        m['evidence'] = [tagged(`sha256-${'3'.repeat(64)}.sig`)];
      },
    ],
    [
      'evidence of an image that is not listed',
      (m) => {
        m.images[0]!['evidence'] = [SHA('1')];
      },
    ],
    [
      'evidence',
      (m) => {
        m['evidence'] = [{ digest: SHA('1') }];
      },
    ],
    [
      'entry name',
      (m) => {
        m.entries[0]!['name'] = '../x';
      },
    ],
    [
      'entry without a size',
      (m) => {
        delete m.entries[0]!['size'];
      },
    ],
    [
      'entry without a hash',
      (m) => {
        delete m.entries[0]!['sha256'];
      },
    ],
    [
      'size of a late entry',
      (m) => {
        entryOf(m, 'SHA256SUMS')['size'] = 1;
      },
    ],
    [
      'hash of a late entry',
      (m) => {
        entryOf(m, 'metadata/7.bundles.json')['sha256'] = '0'.repeat(64);
      },
    ],
    [
      'kind of a head file',
      (m) => {
        m.entries[0]!['kind'] = 'layer';
      },
    ],
    [
      'blob without a kind',
      (m) => {
        delete m.entries.at(-1)!['kind'];
      },
    ],
    [
      'kind of a blob',
      (m) => {
        m.entries.at(-1)!['kind'] = 'thing';
      },
    ],
    [
      'hash of a blob that is not its name',
      (m) => {
        m.entries.at(-1)!['sha256'] = '0'.repeat(64);
      },
    ],
    [
      'hash of a sha512 blob',
      (m) => {
        m.entries.push({
          name: `blobs/sha512/${'f'.repeat(128)}`,
          size: 1,
          sha256: '0'.repeat(64),
          kind: 'layer',
        });
      },
    ],
    [
      'sha512 blob without SHA512SUMS',
      (m) => {
        m.entries.push({ name: `blobs/sha512/${'f'.repeat(128)}`, size: 1, kind: 'layer' });
      },
    ],
    [
      'SHA512SUMS without a sha512 blob',
      (m) => {
        m.entries.splice(indexOf(m, 'SHA256SUMS') + 1, 0, { name: 'SHA512SUMS' });
      },
    ],
    [
      'entry twice',
      (m) => {
        m.entries.splice(1, 0, m.entries[0]!);
      },
    ],
    [
      'entries in another order',
      (m) => {
        m.entries.reverse();
      },
    ],
    [
      'blobs not ascending',
      (m) => {
        m.entries.push(blob('0'));
      },
    ],
    [
      'small blob behind a layer',
      (m) => {
        m.entries.push(blob('f', 'config'));
      },
    ],
    [
      'blob in both groups',
      (m) => {
        m.entries.push({ ...m.entries.find(({ kind }) => kind === 'config')!, kind: 'layer' });
      },
    ],
    [
      'first root missing',
      (m) => {
        m.entries.splice(indexOf(m, 'metadata/1.root.json'), 1);
      },
    ],
    [
      'root from nowhere',
      (m) => {
        entryOf(m, 'metadata/2.root.json')['name'] = 'metadata/3.root.json';
      },
    ],
    [
      'role twice',
      (m) => {
        m.entries.splice(indexOf(m, 'metadata/3.images.json'), 0, {
          ...entryOf(m, 'metadata/3.images.json'),
          name: 'metadata/2.images.json',
        });
      },
    ],
    [
      'role with a top-level name',
      (m) => {
        entryOf(m, 'metadata/3.images.json')['name'] = 'metadata/3.timestamp.json';
      },
    ],
    [
      'snapshot of another version',
      (m) => {
        entryOf(m, 'metadata/7.snapshot.json')['name'] = 'metadata/8.snapshot.json';
      },
    ],
    [
      'bundles of another version',
      (m) => {
        entryOf(m, 'metadata/7.bundles.json')['name'] = 'metadata/8.bundles.json';
      },
    ],
    [
      'version with a leading zero',
      (m) => {
        entryOf(m, 'metadata/1.targets.json')['name'] = 'metadata/01.targets.json';
      },
    ],
    [
      'sizes that overflow together',
      (m) => {
        m.entries.push(blob('e', 'layer', 2 ** 53 - 1), blob('f', 'layer', 2 ** 53 - 1));
      },
    ],
  ];
  for (const [what, change] of wrong) {
    it(`is refused for its ${what}`, () => {
      expect(refusal(change)).toBe('bundle-not-canonical');
    });
  }

  for (const name of [
    'oci-layout',
    'README.txt',
    'metadata/timestamp.json',
    'metadata/7.snapshot.json',
    'metadata/1.targets.json',
    'metadata/7.bundles.json',
    'sealift.json',
    'SHA256SUMS',
    'index.json',
  ]) {
    it(`is refused without the entry ${name}`, () => {
      expect(
        refusal((m) => {
          m.entries.splice(indexOf(m, name), 1);
        }),
      ).toBe('bundle-not-canonical');
    });
  }

  it('is refused where it is not canonical', () => {
    const bytes = Buffer.from(JSON.stringify(plain(), undefined, 1));
    expect(() => parseBundleManifest(bytes, DEFAULT_LIMITS)).toThrow(/canonical/);
  });

  it('that cannot be read is not written', () => {
    const { manifest } = makeBundle();
    expect(() => encodeBundleManifest({ ...manifest, version: 8 })).toThrow(/version 8/);
  });

  it('whatever stands in it, is refused with a code', () => {
    const paths = [
      'formatVersion',
      'mediaType',
      'generator',
      'requires',
      'features',
      'collection',
      'version',
      'created',
      'images',
      'evidence',
      'entries',
      'base',
    ];
    fc.assert(
      fc.property(
        fc.constantFrom(...paths),
        fc.jsonValue({ noUnicodeString: true } as never),
        (field, value) => {
          let bytes: Buffer;
          try {
            bytes = canonicalJson({ ...plain(), [field]: value });
          } catch {
            return;
          }
          try {
            parseBundleManifest(bytes, DEFAULT_LIMITS);
          } catch (error) {
            expect(isSealiftError(error) && error.category === 'malformed').toBe(true);
          }
        },
      ),
    );
  });
});

describe('the list of entries', () => {
  it('is in the order of the format, whatever order its parts come in', () => {
    const { manifest } = makeBundle({
      roots: 12,
      certificates: 3,
      dockerManifest: true,
      blobs: [...SOME_BLOBS, { bytes: Buffer.from('x'), kind: 'layer', algorithm: 'sha512' }],
    });
    const known = manifest.entries.flatMap(({ name, size, sha256, kind }) =>
      kind === undefined && size !== undefined && sha256 !== undefined
        ? [[name, { size, sha256 }] as const]
        : [],
    );
    const blobs = manifest.entries.flatMap(({ name, size = 0, kind }) =>
      kind ? [{ name, size, kind }] : [],
    );
    fc.assert(
      fc.property(
        fc.shuffledSubarray(known, { minLength: known.length }),
        fc.shuffledSubarray(blobs, { minLength: blobs.length }),
        (files, some) => {
          const entries = listEntries({
            version: 7,
            files: new Map(files),
            delegated: [
              { role: 'bundles', version: 7 },
              { role: 'images', version: 3 },
            ],
            signedSums: true,
            blobs: some,
          });
          expect(entries).toEqual(manifest.entries);
        },
      ),
    );
  });
});

describe('names and times', () => {
  it('of entries are known or not', () => {
    expect(parseEntryName('metadata/12.root.json')).toEqual({ type: 'root', version: 12 });
    expect(parseEntryName('metadata/1.a.b.json')).toEqual({ type: 'delegated', version: 1, role: 'a.b' });
    for (const name of [
      '',
      'x',
      './oci-layout',
      'oci-layout/',
      'metadata/',
      'metadata/0.root.json',
      'metadata/1.timestamp.json',
      'metadata/1.ROOT.json',
      'metadata/9999999999999999.root.json',
      'blobs/sha256/00',
      'blobs/md5/00',
      `blobs/sha256/${'A'.repeat(64)}`,
      `blobs/sha256/${'a'.repeat(64)}\n`,
      '__proto__',
    ]) {
      expect(parseEntryName(name), name).toBeUndefined();
    }
  });

  it('go to seconds and back', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 33 - 1 }), (seconds) => {
        expect(createdSeconds(formatCreated(new Date(seconds * 1000 + 999)))).toBe(seconds);
      }),
    );
  });
});

describe('the layout', () => {
  it('puts one entry behind the other, without gaps', () => {
    const size = fc.nat({ max: 10_000 });
    fc.assert(
      fc.property(fc.array(size, { maxLength: 20 }), (sizes) => {
        const {
          entries,
          endOffset,
          size: total,
        } = layoutEntries(
          sizes.map((bytes, i) => ({ name: `f${i}`, size: bytes })),
          0,
        );
        let offset = 0;
        for (const entry of entries) {
          expect(entry.headerOffset).toBe(offset);
          expect(entry.contentOffset % 512).toBe(0);
          offset = entry.contentOffset + entry.size + entry.paddingSize;
        }
        expect([endOffset, total]).toEqual([offset, offset + 1024]);
      }),
    );
  });

  it('is refused where it would be larger than numbers go', () => {
    const entries = [
      { name: 'a', size: Number.MAX_SAFE_INTEGER - 5000 },
      { name: 'b', size: 5000 },
    ];
    expect(() => layoutEntries(entries, 0)).toThrow(/2\^53/);
  });
});
