import { describe, expect, test } from 'vitest';
import { diffText } from '../../cli/output/diff-report.ts';
import { createStyle } from '../../cli/output/style.ts';
import type { DiffResult } from '../../core/diff/result.ts';
import { NOW } from './fakes.ts';

const view = (unicode = true) => ({
  style: createStyle({ color: false, unicode, columns: 100 }),
  checksShown: false,
  now: NOW,
});
const DIGEST = `sha256:${'a'.repeat(64)}`;
const OTHER = `sha256:${'b'.repeat(64)}`;

const nothing: DiffResult = {
  before: { location: '/srv/march.tar', kind: 'store', images: 0 },
  after: { location: '/srv/april.tar', kind: 'images', images: 0 },
  added: [],
  removed: [],
  withdrawn: [],
  notCarried: [],
  moved: [],
  evidenceChanged: [],
  unchanged: [],
  carry: { blobs: 0, bytes: 0 },
  shared: { blobs: 0, bytes: 0 },
};

const moved: DiffResult = {
  ...nothing,
  moved: [
    {
      name: 'docker.io/acme/web:1',
      before: DIGEST,
      after: OTHER,
      bytes: 4096,
      platforms: [
        {
          platform: 'linux/amd64',
          state: 'changed',
          layers: { kept: 2, added: [{ digest: OTHER, size: 4096 }], removed: [] },
          labels: [{ name: 'version', before: '1', after: '2' }],
          settings: [{ name: 'User', after: '0' }],
          files: [
            {
              path: '/bin/su',
              state: 'changed',
              before: { type: 'file', size: 5, mode: '0755', owner: '0:0' },
              after: { type: 'file', size: 5, mode: '4755', owner: '0:0' },
              what: ['mode'],
            },
          ],
        },
      ],
      evidence: [{ artifactType: 'application/spdx+json', before: 2, after: 3, same: 1 }],
      packages: [{ name: 'openssl', before: ['3.0.1'], after: ['3.0.2'] }],
    },
  ],
  carry: { blobs: 1, bytes: 4096 },
};

describe('a diff in words', () => {
  test('says what moved, down to the file', () => {
    expect(diffText(moved, view(), false)).toBe(`first   /srv/march.tar  store, 0 images
second  /srv/april.tar  0 images
! not verified: this compares what they claim; sealift verify tells what is true

images: 1 moved
to carry: 4.0 KiB in 1 blob; there already: 0 B in 0 blobs

~ moved  docker.io/acme/web:1
    sha256:aaaaaaaaaaaa -> ${OTHER}
    4.0 KiB to carry
    linux/amd64: layers: 2 kept, 1 new, 0 gone
        + layer ${OTHER}  4.0 KiB
        label version: 1 -> 2
        User: added 0
        files: 0 added, 0 gone, 1 changed
            ~ /bin/su  mode 0755 -> 4755
    evidence application/spdx+json: 1 replaced, 1 gained
    packages: 1 changed, as the SBOMs say
        openssl: 3.0.1 -> 3.0.2`);
  });

  test('is drawn as a tree, in ASCII where the terminal wants that', () => {
    const tree = diffText(moved, view(false), true).split('\n').slice(6);
    expect(tree[2]).toBe(`|-- sha256:aaaaaaaaaaaa -> ${OTHER}`);
    expect(tree.at(-2)).toBe('`-- packages: 1 changed, as the SBOMs say');
    expect(tree.at(-1)).toBe('    `-- openssl: 3.0.1 -> 3.0.2');
  });

  test('shows names, labels and paths from images inert', () => {
    const evil = '\u001b]0;owned\u0007\u202e\r\nspoof';
    const [image] = moved.moved;
    if (!image) throw new Error('no image');
    const hostile: DiffResult = {
      ...nothing,
      moved: [
        {
          ...image,
          name: evil,
          platforms: image.platforms.map((platform) => ({
            ...platform,
            platform: evil,
            labels: [{ name: evil, before: evil, after: evil }],
            files: [
              {
                path: evil,
                state: 'added',
                after: { type: 'symlink', size: 0, mode: '0777', owner: '0:0', target: evil },
                what: [],
              },
            ],
          })),
          evidence: [{ artifactType: evil, before: 0, after: 1, same: 0 }],
          packages: [{ name: evil, before: [evil] }],
        },
      ],
      withdrawn: [{ name: evil, digest: DIGEST, reason: evil, at: '2026-01-01T00:00:00Z' }],
      notCarried: [{ name: evil, digest: DIGEST, moved: true }],
    };
    const text = diffText(hostile, view(), true);
    expect(text).not.toMatch(/[\u001b\u0007\u202e\r]/);
    expect(text).not.toMatch(/^spoof/m);
  });

  test('of long lists says how many more there are', () => {
    const names = Array.from({ length: 100 }, (_, i) => ({
      name: `docker.io/a/b:${i}`,
      digest: DIGEST,
      moved: false,
    }));
    expect(diffText({ ...nothing, notCarried: names }, view(), false)).toContain(
      'and 60 more; --format json lists them all',
    );
  });
});
