import { describe, expect, test } from 'vitest';
import { errorText } from '../../cli/output/error-text.ts';
import {
  formatDistance,
  formatSeconds,
  formatSize,
  formatTime,
  groupedFingerprint,
  shellQuote,
  table,
} from '../../cli/output/format.ts';
import { pictureLines } from '../../cli/output/picture.ts';
import { createProgressStore } from '../../cli/output/progress-store.ts';
import { exportText, importText, verifyText } from '../../cli/output/report.ts';
import { createPlainStatus } from '../../cli/output/status.ts';
import { createStyle, wantsAnimation, wantsColor, wantsUnicode } from '../../cli/output/style.ts';
import { SealiftError } from '../../core/errors.ts';
import { exported, image, imported, NOW, verified } from './fakes.ts';

const plain = createStyle({ color: false, unicode: true, columns: 80 });
const ascii = createStyle({ color: false, unicode: false, columns: 80 });
const view = { style: plain, checksShown: false, now: NOW };

describe('an error in words', () => {
  test('says what, where, got, want, what to do', () => {
    const error = new SealiftError('rollback', 'the timestamp is older than one accepted before', {
      subject: 'timestamp',
      got: 3,
      want: 'at least 4',
      check: 'timestamp',
      hint: 'ask for a newer bundle',
    });
    expect(errorText(error, plain)).toBe(
      [
        'sealift: error: the timestamp is older than one accepted before',
        '  got:   3',
        '  want:  at least 4',
        '  code:  rollback',
        'sealift: hint: ask for a newer bundle',
      ].join('\n'),
    );
  });

  test('does not repeat what the message says', () => {
    const error = new SealiftError('size-mismatch', 'blob is too long, got 5 bytes, want 4', {
      subject: 'docker.io/a/b:1',
      got: 5,
      want: 4,
    });
    expect(errorText(error, plain)).toBe(
      'sealift: error: blob is too long, got 5 bytes, want 4\n  where: docker.io/a/b:1\n  code:  size-mismatch',
    );
  });

  test('carries no escape sequence from outside', () => {
    const evil = '\u001b]0;owned\u0007\u202e\r\n';
    const error = new SealiftError('invalid-reference', evil, { subject: evil, got: evil, hint: evil });
    expect(errorText(error, plain)).not.toMatch(/[\u001b\u0007\u202e\r]/);
    expect(errorText(error, plain).split('\n')).toHaveLength(3);
  });

  test('shows a stack with --debug only', () => {
    const error = new SealiftError('internal', 'boom');
    expect(errorText(error, plain)).not.toContain('    at ');
    expect(errorText(error, plain)).toContain('run the same with --debug');
    expect(errorText(error, plain, true)).toContain('    at ');
  });
});

describe('reports', () => {
  test('an export says what was written and what to do on the other side', () => {
    expect(exportText(exported, view)).toMatchInlineSnapshot(`
      "✓ written  /media/stick/images.tar  7.7 MiB
        collection  main, version 3
        made        2026-11-23 12:00 UTC
        expires     2027-02-21 12:00 UTC (in 90 days)
        blobs       7, 7.6 MiB

      1 image
        docker.io/library/alpine:3.20
          sha256:abababababababababababababababababababababababababababababababab
          linux/amd64, linux/arm64, 7.6 MiB
          1 piece of evidence, carried as it is, not judged:
            1 x vnd.dev.cosign.artifact.sig.v1+json
          left out: linux/s390x

      On the sealed side
        the first time, pin the root; read the fingerprint out over the phone, it must not come from the stick:
          0123 4567 89ab cdef 0123 4567 89ab cdef
          0123 4567 89ab cdef 0123 4567 89ab cdef
          sealift trust pin images.tar --fingerprint 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
        every time:
          sealift import images.tar
        by hand, with stock tools; README.txt in the bundle has the commands:
          tar -xOf images.tar README.txt"
    `);
  });

  test('a verification names checks and verdicts', () => {
    expect(verifyText(verified, view)).toMatchInlineSnapshot(`
      "✓ verified  /media/stick/images.tar  7.7 MiB
        collection  main, version 3
        id          fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210
        made        2026-11-23 12:00 UTC
        expires     2027-02-21 12:00 UTC (in 90 days)
        root        version 1, fingerprint 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef

      Checks
      ✓ passed  format          14 entries
      - skipped policy          no policy is set

      1 image
      ✓ verified  docker.io/library/alpine:3.20
          signed by images
          sha256:abababababababababababababababababababababababababababababababab
          linux/amd64, linux/arm64, 7.6 MiB
          1 piece of evidence, carried as it is, not judged:
            1 x vnd.dev.cosign.artifact.sig.v1+json
          left out: linux/s390x

      No policy is set: the signatures of the collection decide, and no evidence is demanded.

      Next
          sealift import /media/stick/images.tar"
    `);
  });

  test('checks that were shown on the same screen are not listed again', () => {
    expect(verifyText(verified, { ...view, checksShown: true })).not.toContain('format');
  });

  test('an import says what to run next', () => {
    expect(importText(imported, view)).toContain('sealift serve /srv/images');
    expect(importText(imported, view)).toContain('  imported   docker.io/library/alpine:3.20');
  });

  test('a refused image is refused in words and by symbol', () => {
    const [first] = verified.images;
    const text = verifyText(
      { ...verified, images: [{ ...first!, verdict: 'invalid', reason: 'no role' }] },
      view,
    );
    expect(text).toContain('✗ refused, invalid  docker.io/library/alpine:3.20');
    expect(text.startsWith('✗ refused')).toBe(true);
    expect(text).not.toContain('sealift import');
  });

  test('an expired collection is called expired', () => {
    const past = { ...verified, collection: { ...verified.collection, expires: '2026-11-20T12:00:00Z' } };
    expect(verifyText(past, view)).toContain('(expired 3 days ago)');
  });

  test('names, reasons and platforms of a hostile bundle reach the terminal inert', () => {
    const evil = 'x\u001b[2J\u202e\n\u009b31m';
    const text = exportText(
      {
        ...exported,
        collection: { ...exported.collection, name: evil },
        images: [
          {
            ...image,
            name: evil,
            platforms: [evil],
            omitted: [{ digest: image.digest, platform: evil, reason: 'platform' }],
            evidence: [{ ...image.evidence[0]!, artifactType: evil }],
          },
        ],
        weakened: [{ option: evil, effect: evil }],
      },
      view,
    );
    expect(text).not.toMatch(/[\u001b\u009b\u202e]/);
  });

  test('are ASCII where the locale is', () => {
    const texts = [
      exportText(exported, { ...view, style: ascii }),
      verifyText(verified, { ...view, style: ascii }),
    ];
    for (const text of texts) expect(text).toMatch(/^[\n -~]*$/);
  });
});

describe('numbers and times', () => {
  test.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.0 KiB'],
    [10_240, '10 KiB'],
    [1_048_575, '1.0 MiB'],
    [8_000_000, '7.6 MiB'],
    [33_285_996_544, '31 GiB'],
  ])('%d bytes are %s', (bytes, text) => expect(formatSize(bytes)).toBe(text));

  test('times are UTC', () => {
    expect(formatTime('2026-11-23T12:00:00+02:00')).toBe('2026-11-23 10:00 UTC');
    expect(formatDistance('2027-02-21T11:59:59Z', NOW)).toBe('in 90 days');
    expect(formatDistance('2026-11-23T11:00:00Z', NOW)).toBe('1 hour ago');
    expect([formatSeconds(8), formatSeconds(245), formatSeconds(7800)]).toEqual(['8s', '4m 05s', '2h 10m']);
  });

  test('a fingerprint is grouped to be read out', () => {
    expect(groupedFingerprint('0123456789abcdef'.repeat(4))).toHaveLength(2);
    expect(groupedFingerprint('0123456789abcdef'.repeat(4)).join(' ').replaceAll(' ', '')).toHaveLength(64);
  });

  test('commands to copy are quoted', () => {
    expect(shellQuote('/media/a b')).toBe("'/media/a b'");
    expect(shellQuote("it's; rm -rf ~")).toBe("'it'\\''s; rm -rf ~'");
    expect(shellQuote('docker.io/a/b:1@sha256:00')).toBe('docker.io/a/b:1@sha256:00');
  });

  test('columns line up', () => {
    expect(
      table([
        ['a', 'bb'],
        ['ccc', 'd'],
      ]),
    ).toEqual(['a    bb', 'ccc  d']);
  });
});

describe('what a stream can show', () => {
  test('colours follow --no-color, NO_COLOR, FORCE_COLOR, TERM and the terminal, in this order', () => {
    expect(wantsColor({}, true, false)).toBe(true);
    expect(wantsColor({}, false, false)).toBe(false);
    expect(wantsColor({ FORCE_COLOR: '1' }, true, true)).toBe(false);
    expect(wantsColor({ NO_COLOR: '1', FORCE_COLOR: '1' }, true, false)).toBe(false);
    expect(wantsColor({ NO_COLOR: '' }, true, false)).toBe(true);
    expect(wantsColor({ FORCE_COLOR: '1' }, false, false)).toBe(true);
    expect(wantsColor({ FORCE_COLOR: '0' }, true, false)).toBe(false);
    expect(wantsColor({ TERM: 'dumb' }, true, false)).toBe(false);
  });

  test('a picture moves on a real terminal only', () => {
    expect(wantsAnimation({ TERM: 'xterm' }, true)).toBe(true);
    expect(wantsAnimation({ TERM: 'dumb' }, true)).toBe(false);
    expect(wantsAnimation({ CI: 'true' }, true)).toBe(false);
    expect(wantsAnimation({ CI: 'false' }, true)).toBe(true);
    expect(wantsAnimation({}, false)).toBe(false);
  });

  test('symbols follow the locale', () => {
    expect(wantsUnicode({ LANG: 'de_DE.UTF-8' }, 'linux')).toBe(true);
    expect(wantsUnicode({ LC_ALL: 'C', LANG: 'de_DE.UTF-8' }, 'linux')).toBe(false);
    expect(wantsUnicode({}, 'linux')).toBe(false);
    expect(createStyle({ color: false, unicode: false, columns: 80 }).pass).toBe('+');
  });
});

describe('progress', () => {
  const blob = (state: 'started' | 'progress' | 'done', name: string, bytes: number, size: number) =>
    ({ type: 'blob', state, digest: `sha256:${name.repeat(64)}`, bytes, size }) as const;

  test('counts what is moved, also when a blob begins again', () => {
    const store = createProgressStore();
    store.take({ type: 'transfer', bytes: 300, blobs: 2, skippedBytes: 0 }, 0);
    store.take(blob('started', 'a', 0, 200), 0);
    store.take(blob('progress', 'a', 150, 200), 1000);
    store.take(blob('progress', 'a', 50, 200), 1100);
    expect(store.doneBytes).toBe(50);
    store.take(blob('done', 'a', 200, 200), 2000);
    store.take(blob('done', 'b', 100, 100), 2100);
    expect(store.doneBytes).toBe(300);
    expect(store.doneBlobs).toBe(2);
    expect(store.active()).toEqual([]);
    expect(store.left(3000)).toBe(0);
  });

  test('the rate is that of the last seconds', () => {
    const store = createProgressStore();
    store.take({ type: 'transfer', bytes: 10_000, blobs: 1, skippedBytes: 0 }, 0);
    for (let at = 0; at <= 10_000; at += 250)
      store.take(blob('progress', 'a', at < 5000 ? 0 : at - 5000, 10_000), at);
    expect(store.rate(10_000)).toBeCloseTo(1000, -2);
    expect(store.rate(60_000)).toBeLessThan(200);
  });

  test('many blobs do not outgrow the screen, and no line is wider than it', () => {
    const store = createProgressStore();
    store.take({ type: 'phase', phase: 'transfer', title: 'transferring' }, 0);
    store.take({ type: 'transfer', bytes: 1e9, blobs: 64, skippedBytes: 0 }, 0);
    for (let i = 0; i < 64; i++) {
      store.take(
        {
          type: 'blob',
          state: 'started',
          digest: `sha256:${String(i).padStart(64, '0')}`,
          bytes: 0,
          size: 1e6,
        },
        0,
      );
    }
    for (const [columns, rows] of [
      [80, 24],
      [40, 10],
      [200, 60],
    ] as const) {
      const lines = pictureLines(store, plain, 1000, columns, rows);
      expect(lines.length).toBeLessThan(rows);
      for (const line of lines) expect(line.length).toBeLessThan(columns);
      expect(lines.some((line) => line.includes('more blobs'))).toBe(true);
    }
  });

  test('off a terminal it is lines, and how far it is comes seldom', () => {
    const lines: string[] = [];
    let now = 0;
    const status = createPlainStatus((line) => lines.push(line), plain, { verbose: false, clock: () => now });
    status.take({ type: 'transfer', bytes: 100_000, blobs: 1, skippedBytes: 5 });
    for (; now < 12_000; now += 10) status.take(blob('progress', 'a', now, 100_000));
    expect(lines).toHaveLength(3);
    expect(lines[0]).toContain('5 B there already');
    expect(lines[1]).toMatch(/^ {2}\d+ %, .*\/s, .* left$/);
    expect(lines.join('')).not.toContain('\u001b');
  });
});
