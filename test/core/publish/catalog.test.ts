/** The catalog page: what it shows, and that hostile texts are only texts. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { renderCatalog } from '../../../core/publish/catalog.ts';
import type { PublishPlan } from '../../../core/publish/plan.ts';
import type { ImageRecord } from '../../../core/store/store.ts';
import { signedImage, singleImage } from '../../../fixtures/images.ts';
import { describePeer } from '../../../fixtures/peers.ts';
import { recordOf } from '../store/fill.ts';
import { makePublishing, NOW } from './publishing.ts';

const HOSTILE = [
  '<script>document.title="owned"</script>',
  '"><img src=x onerror=alert(1)>',
  "' style='background:url(//evil.example)",
  '</dd></dl><base href="https://evil.example/">',
  '\u202Eevil\u2066',
  '&lt;b&gt;',
];

function planOf(...records: readonly ImageRecord[]): PublishPlan {
  const images = records.map((record) => ({ record, places: [record.name] }));
  return { images, stages: [], tags: new Map(), graph: new Map() };
}

const judgedAs = (text: string) => ({
  reason: text,
  format: text,
  signer: text,
  claimedName: text,
  signedAt: text,
  expires: text,
});

function hostilePlan(): PublishPlan {
  const [evidence] = recordOf('quay.io/a/b:v1', signedImage()).evidence;
  if (!evidence) throw new Error('no evidence');
  return planOf(
    ...HOSTILE.map((text, at) =>
      recordOf(`quay.io/acme/app:v${at}`, singleImage(), {
        role: text,
        platforms: [text],
        collectionId: text,
        evidence: [
          { ...evidence, artifactType: text },
          { ...evidence, judged: { state: 'verified', ...judgedAs(text) } },
          { ...evidence, judged: { state: 'invalid', ...judgedAs(text) } },
        ],
      }),
    ),
  );
}

describe('the page', () => {
  it('lists what was withdrawn and why, whatever the reason holds', () => {
    const at = '2026-02-01T00:00:00Z';
    const withdrawn = HOSTILE.map((reason, number) => ({
      name: `docker.io/acme/bad${number}:v1`,
      digest: `sha256:${'ab'.repeat(32)}`,
      reason,
      at,
    }));
    const page = renderCatalog(planOf(), { now: NOW, withdrawn });
    expect(page).toContain(`<a href="#withdrawn">${HOSTILE.length} images were withdrawn</a>`);
    for (const { name } of withdrawn) expect(page).toContain(`<h3>${name}</h3>`);
    expect(page.match(/<(?:script|img|base|b)\b/g)).toBeNull();
    expect(page).not.toContain('\u202E');
    expect(renderCatalog(planOf(), { now: NOW })).not.toContain('withdrawn');
  });

  it('says of an image what it is, how to pull it, and until when its trust lasts', async () => {
    const world = makePublishing();
    try {
      await world.admit({ 'docker.io/library/alpine:3.20': signedImage() });
      await world.sync({ host: 'images.example' });
      const page = readFileSync(path.join(world.tree, 'index.html'), 'utf8');
      for (const text of [
        'docker.io/library/alpine',
        signedImage().digest,
        'linux/amd64',
        '5 pieces: 5 carried (not judged)',
        '1 SBOM (<code>application/spdx+json</code>)',
        'expires on <time datetime="2026-06-01T00:00:00Z">2026-06-01</time>',
        'docker pull images.example/docker.io/library/alpine:3.20',
        `docker pull images.example/docker.io/library/alpine@${signedImage().digest}`,
        '</span>verified</span></p>',
      ])
        expect(page).toContain(text);
    } finally {
      await world.close();
    }
  });

  it('says of each piece of evidence what was made of it, and by whom it is', () => {
    const { evidence } = recordOf('quay.io/a/b:v1', signedImage());
    const [one, two, three, ...others] = evidence;
    if (!one || !two || !three) throw new Error('the fixture has too little evidence');
    const signed = {
      format: 'simple-signing',
      signer: 'ab'.repeat(20),
      claimedName: 'quay.io/a/b:v1',
      signedAt: '2026-02-01T00:00:00Z',
    };
    const judged = [
      { ...one, judged: { state: 'verified', reason: 'by a key of the policy', ...signed } },
      { ...two, judged: { state: 'invalid', reason: 'the digest is another one' } },
      { ...three, judged: { state: 'expired', reason: 'too old', expires: '2026-03-01T00:00:00Z' } },
    ] as const;
    const record = recordOf('quay.io/a/b:v1', signedImage(), { evidence: [...judged, ...others] });
    const page = renderCatalog(planOf(record), { now: NOW }).replaceAll(/<[^>]*>/g, '');
    expect(page).toContain('5 pieces: 1 verified, 1 invalid, 1 expired, 2 carried (not judged)');
    expect(page).toMatch(
      /\u2713 verified: .*simple-signing\), by (?:ab){20}, for quay\.io\/a\/b:v1, signed on 2026-02-01\n/,
    );
    expect(page).toMatch(/\u2717 invalid: .*, the digest is another one\n/);
    expect(page).toMatch(/\u2717 expired: .*, expired on 2026-03-01, too old\n/);
    expect(page).toMatch(/\u2013 carried \(not judged\): 1 /);
  });

  it('says in words that trust has expired', () => {
    const plan = planOf(recordOf('quay.io/a/b:v1', singleImage()));
    expect(renderCatalog(plan, { now: NOW })).not.toContain('expired');
    const page = renderCatalog(plan, { now: new Date('2026-06-01T00:00:00Z') });
    expect(page).toContain('verified, trust expired');
    expect(page).toContain('The trust of 1 image has expired');
  });

  it('shows hostile texts as texts', () => {
    const page = renderCatalog(hostilePlan(), { now: NOW, host: '"><script>' });
    expect(page).not.toMatch(/<script|<img|<base|onerror=alert\(1\)>"/i);
    expect(page).not.toMatch(/[\u202e\u2066]/);
    expect(page).toContain('&lt;script&gt;');
    expect(page).toContain('&amp;lt;b&amp;gt;');
    // Every tag on it is one that the page is made of.
    const tags = new Set([...page.matchAll(/<\/?([a-z0-9]+)/gi)].map((match) => match[1]));
    const known =
      'html head meta title style body header h1 p nav ul li a main section h2 article h3 dl dt dd code time pre span';
    for (const tag of tags) expect(known.split(' ')).toContain(tag);
  });

  it('forbids everything but its own style', () => {
    const page = renderCatalog(hostilePlan(), { now: NOW });
    const style = /<style>([\s\S]*?)<\/style>/.exec(page)?.[1] ?? '';
    const hash = createHash('sha256').update(style).digest('base64');
    const policy = /Content-Security-Policy" content="([^"]*)"/.exec(page)?.[1];
    expect(policy).toBe(
      `default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'`,
    );
    expect(page).not.toMatch(/https?:\/\/(?!evil)/);
  });
});

describePeer(['chromium'], 'in a browser', () => {
  it('runs nothing, asks for nothing, and is styled', async () => {
    const directory = mkdtempSync(path.join(os.tmpdir(), 'catalog-'));
    const asked: string[] = [];
    const page = renderCatalog(hostilePlan(), { now: NOW });
    const server = http.createServer((request, response) => {
      asked.push(request.url ?? '');
      response.setHeader('content-type', 'text/html; charset=utf-8');
      response.end(request.url === '/' ? page : '');
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    try {
      const { port } = server.address() as AddressInfo;
      const { stdout } = await promisify(execFile)('chromium', [
        ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'],
        ...['--disable-background-networking', '--disable-component-update', '--disable-sync'],
        ...[`--user-data-dir=${path.join(directory, 'profile')}`, '--dump-dom', `http://127.0.0.1:${port}/`],
      ]);
      expect(stdout).toContain('<title>Container images</title>');
      expect(stdout).not.toMatch(/<script>|<img/);
      expect(asked.filter((url) => url !== '/' && url !== '/favicon.ico')).toEqual([]);
    } finally {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      rmSync(directory, { recursive: true, force: true });
    }
  });
});
