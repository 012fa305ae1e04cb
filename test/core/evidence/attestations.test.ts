/** BuildKit's attestations, which are part of an index: carried with it, or left out by choice, and never silently. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { reportHtml } from '../../../cli/output/report-html.ts';
import { type BundleManifest, parseBundleManifest } from '../../../core/bundle/manifest.ts';
import { isSealiftError, SealiftError } from '../../../core/errors.ts';
import { inspectLocation } from '../../../core/inspect.ts';
import { canonicalJson } from '../../../core/json/canonical.ts';
import { Checklist, judgeContent } from '../../../core/judge.ts';
import { DEFAULT_LIMITS } from '../../../core/limits.ts';
import { previewExport } from '../../../core/preview.ts';
import { openStaticDirectory } from '../../../core/publish/static-directory.ts';
import type { InspectResult, VerifyResult } from '../../../core/results.ts';
import { syncStore } from '../../../core/sync.ts';
import { parseLocation } from '../../../core/transport/location.ts';
import type { ExportOptions } from '../../../core/workflow-options.ts';
import { attestedImage, type FixtureManifest } from '../../../fixtures/images.ts';
import { filesOf, makeWorld, SOURCE_OPTIONS, START, type World } from '../../../fixtures/world.ts';

const NAME = 'a.example/app:1';
const image = attestedImage();
const [amd64, arm64, ofAmd64, ofArm64] = image.children as [
  FixtureManifest,
  FixtureManifest,
  FixtureManifest,
  FixtureManifest,
];

let world: World;
let bundle: string;
beforeEach(async () => {
  world = await makeWorld();
  bundle = path.join(world.directory, 'bundle.tar');
});
afterEach(() => world.close());

async function carry(options: Partial<ExportOptions> = {}): Promise<BundleManifest> {
  await world.export({ [NAME]: image }, { file: bundle, force: true, ...options });
  return manifestOf(bundle);
}
const manifestOf = (file: string): BundleManifest =>
  JSON.parse(String(filesOf(file).get('sealift.json'))) as BundleManifest;
const omittedOf = ({ images: [found] }: Pick<VerifyResult | InspectResult, 'images'> | BundleManifest) =>
  found?.omitted.map(({ digest, platform, reason }) => [digest, platform, reason]);
const entry = ({ digest }: FixtureManifest): string => `blobs/${digest.replace(':', '/')}`;

const BOTH = [ofAmd64, ofArm64]
  .map(({ digest }) => [digest, undefined, 'evidence'])
  .sort(([a], [b]) => (String(a) < String(b) ? -1 : 1));

describe('attestations in an index', () => {
  it('go with the images they are about', async () => {
    expect((await carry()).images[0]).toMatchObject({ omitted: [] });
    const one = await carry({ platforms: ['linux/amd64'] });
    expect(filesOf(bundle).has(entry(ofAmd64))).toBe(true);
    expect(omittedOf(one)?.map(([digest, , reason]) => [digest, reason])).toEqual(
      [arm64, ofArm64].map(({ digest }) => [digest, 'platform']).sort(),
    );
    expect(one.requires).toEqual([]);
  });

  it('are left out by choice: the index stays as it is, and the bundle says what is not there', async () => {
    const manifest = await carry({ excludeAttestations: true });
    expect(manifest.images[0]?.digest).toBe(image.digest);
    expect(manifest.requires).toEqual(['omitted-evidence']);
    expect(omittedOf(manifest)).toEqual(BOTH);
    const files = filesOf(bundle);
    for (const child of [amd64, arm64]) expect(files.has(entry(child))).toBe(true);
    for (const left of [ofAmd64, ofArm64]) {
      expect(files.has(entry(left))).toBe(false);
      for (const { digest } of left.blobs.slice(1))
        expect(files.has(`blobs/${digest.replace(':', '/')}`)).toBe(false);
    }
  });

  it('of a platform that is left out are so because of it', async () => {
    const manifest = await carry({ excludeAttestations: true, platforms: ['linux/amd64'] });
    const reasons = new Map(omittedOf(manifest)?.map(([digest, , reason]) => [digest, reason]));
    expect(reasons).toEqual(
      new Map([
        [ofAmd64.digest, 'evidence'],
        [arm64.digest, 'platform'],
        [ofArm64.digest, 'platform'],
      ]),
    );
  });

  it('are shown as left out by preview, verify, its printed page, import and the store', async () => {
    await carry({ excludeAttestations: true });
    await world.pin(bundle);
    const verified = await world.verify(bundle);
    expect(verified.images[0]).toMatchObject({ verdict: 'verified' });
    expect(omittedOf(verified)).toEqual(BOTH);
    expect(reportHtml(verified, START)).toContain('2 BuildKit attestations');
    expect(omittedOf(await world.import(bundle))).toEqual(BOTH);
    const stored = await inspectLocation({ location: world.store, names: [] }, world.context());
    expect(omittedOf(stored)).toEqual(BOTH);
  });

  it('are not counted where they are left out', async () => {
    await carry();
    const look = (excludeAttestations: boolean) =>
      previewExport(
        {
          images: [parseLocation(`bundle:${bundle}:${NAME}`)],
          platforms: [],
          includeEvidence: true,
          excludeAttestations,
          concurrency: 1,
          source: SOURCE_OPTIONS,
        },
        world.context(),
      );
    expect((await look(false)).images[0]?.evidenceKinds).toEqual([
      { kind: 'buildkit-attestation', count: 2 },
    ]);
    expect((await look(true)).images[0]?.evidenceKinds).toEqual([]);
  });

  it.each(['store', 'bundle'])('stay left out, and said to be, on the way on from a %s', async (kind) => {
    await carry({ excludeAttestations: true });
    await world.pin(bundle);
    await world.import(bundle);
    const again = path.join(world.directory, 'again.tar');
    const place = kind === 'store' ? world.store : bundle;
    await world.export({}, { images: [parseLocation(`${kind}:${place}:${NAME}`)], file: again });
    expect(omittedOf(manifestOf(again))).toEqual(BOTH);
    expect((await world.verify(again)).images[0]).toMatchObject({ verdict: 'verified' });
  });

  it('that are left out keep nothing from being published', async () => {
    await carry({ excludeAttestations: true });
    await world.pin(bundle);
    await world.import(bundle);
    const tree = path.join(world.directory, 'tree');
    await syncStore(
      {
        store: world.store,
        destinations: [
          async (context) => openStaticDirectory({ directory: tree, pid: process.pid }, context),
        ],
        placement: {},
        dryRun: false,
        concurrency: 2,
        pid: process.pid,
      },
      world.context(),
    );
    expect(existsSync(path.join(tree, 'v2/a.example/app/manifests', amd64.digest))).toBe(true);
  });
});

describe('a bundle is refused that', () => {
  it('calls a platform evidence to leave it out', async () => {
    const manifest = await carry({ platforms: ['linux/amd64'] });
    const files = filesOf(bundle);
    const images = manifest.images.map((one) => ({
      ...one,
      omitted: one.omitted.map((part) => ({ ...part, reason: 'evidence' as const })),
    }));
    const context = world.context();
    const error = await judgeContent(
      { ...manifest, images },
      { dockerManifest: undefined } as never,
      async (name) => {
        const bytes = files.get(name);
        if (!bytes) throw new SealiftError('blob-missing', 'not in the archive');
        return bytes;
      },
      new Checklist(context),
      context,
    ).catch((cause: unknown) => cause);
    expect(isSealiftError(error) && error.code).toBe('manifest-invalid');
  });

  it('leaves evidence out and would be taken by readers that do not know that', async () => {
    const manifest = await carry({ excludeAttestations: true });
    const parse = (requires: readonly string[]) => () =>
      parseBundleManifest(canonicalJson({ ...manifest, requires } as never), DEFAULT_LIMITS);
    expect(parse(['omitted-evidence'])).not.toThrow();
    expect(parse([])).toThrow(/omitted-evidence/);
  });
});
