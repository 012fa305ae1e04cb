import { expect, test } from 'vitest';
import { reportHtml } from '../../cli/output/report-html.ts';
import type { VerifyResult } from '../../core/results.ts';
import { FINGERPRINT, image, NOW, verified } from './fakes.ts';

const judged: VerifyResult = {
  ...verified,
  policy: { from: 'gate', sha256: FINGERPRINT },
  images: [
    {
      ...image,
      verdict: 'expired',
      reason: 'signature expired',
      role: 'images',
      admitted: false,
      policyScope: 'default',
      requirement: 'line 3: signedBy',
    },
  ],
};

test('a page says in words what was decided and by what', () => {
  const page = reportHtml(judged, NOW);
  for (const text of [
    'refused, expired',
    'line 3: signedBy',
    FINGERPRINT,
    image.name,
    image.digest,
    'signature</div>',
  ])
    expect(page).toContain(text);
  expect(reportHtml(verified, NOW)).toContain('none is set');
});

test('a page runs nothing and fetches nothing', () => {
  const page = reportHtml(judged, NOW);
  expect(page).not.toMatch(/<script|<img|<link|<iframe|<object|@import|url\(|\ssrc=|\shref=|\son[a-z]+=/i);
  expect(page).toContain("default-src 'none'");
});

test('no text from a bundle is markup', () => {
  const evil = `"><script>alert(1)</script><img src=x onerror='x'>\u202e`;
  const piece = {
    digest: evil,
    artifactType: evil,
    subject: evil,
    via: evil,
    size: 1,
    state: 'invalid' as const,
  };
  const page = reportHtml(
    {
      ...verified,
      bundle: evil,
      collection: { ...verified.collection, name: evil, id: evil },
      checks: [{ check: 'format', status: 'failed', detail: evil }],
      images: [
        {
          ...image,
          name: evil,
          digest: evil,
          platforms: [evil],
          verdict: 'invalid',
          reason: evil,
          role: evil,
          admitted: false,
          requirement: evil,
          policyScope: evil,
          evidence: [{ ...piece, reason: evil, claimedName: evil, signer: evil, format: evil }],
        },
      ],
      withdrawn: [{ name: evil, digest: evil, reason: evil, at: evil }],
      vanished: [evil],
      weakened: [{ option: evil, effect: evil }],
    },
    NOW,
  );
  expect(page).not.toContain('<script');
  expect(page).not.toContain('<img');
  expect(page).not.toContain('\u202e');
  expect(page).toContain('&#60;script&#62;');
});
