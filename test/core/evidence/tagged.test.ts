/** Evidence that only a tag ties to its image (cosign's), from the registry to whoever pulls behind the air gap. */
import { mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { BundleManifest } from '../../../core/bundle/manifest.ts';
import { serveRegistry } from '../../../core/publish/registry.ts';
import { openStaticDirectory } from '../../../core/publish/static-directory.ts';
import { openStore } from '../../../core/store/store.ts';
import { syncStore } from '../../../core/sync.ts';
import { parseLocation } from '../../../core/transport/location.ts';
import type { ExportOptions } from '../../../core/workflow-options.ts';
import { type CosignKind, cosignManifest, cosignTag } from '../../../fixtures/cosign.ts';
import { send } from '../../../fixtures/http.ts';
import {
  attachEvidence,
  type FixtureManifest,
  makeIndex,
  makeLayout,
  multiArchImage,
  pushImage,
  singleImage,
} from '../../../fixtures/images.ts';
import { type OciRegistry, startOciRegistry } from '../../../fixtures/oci-registry.ts';
import { filesOf, forge, makeWorld, SOURCE_OPTIONS, type World } from '../../../fixtures/world.ts';

const NAME = 'registry.example/team/app:v1';

let registry: OciRegistry;
let world: World;

beforeEach(async () => {
  registry = await startOciRegistry();
  world = await makeWorld();
});

afterEach(async () => {
  await registry.stop();
  await world.close();
});

interface Piece {
  readonly about: FixtureManifest;
  readonly kind: CosignKind;
  readonly manifest: FixtureManifest;
}

const image = multiArchImage();
const [child] = image.children as [FixtureManifest];
const signature = cosignManifest('sig', 'of the index');
const attestation = cosignManifest('att', 'about a platform');
const PIECES: readonly Piece[] = [
  { about: image, kind: 'sig', manifest: signature },
  { about: image, kind: 'sbom', manifest: cosignManifest('sbom', 'packages') },
  { about: child, kind: 'att', manifest: attestation },
  { about: attestation, kind: 'sig', manifest: cosignManifest('sig', 'of the attestation') },
];
const tagOf = ({ about, kind }: Piece): string => cosignTag(about.digest, kind);

async function push(pieces: readonly Piece[] = PIECES, root: FixtureManifest = image): Promise<void> {
  await pushImage(registry.url, 'team/app', 'v1', root);
  for (const piece of pieces) await pushImage(registry.url, 'team/app', tagOf(piece), piece.manifest);
}

async function carry(
  options: Partial<ExportOptions> & { file?: string } = {},
  from?: string,
): Promise<BundleManifest> {
  const text = `${NAME}=${from ?? `docker://${registry.host}/team/app:v1`}`;
  const { output } = await world.export(
    {},
    {
      images: [parseLocation(text)],
      source: { ...SOURCE_OPTIONS, plainHttp: true },
      file: bundle(),
      force: true,
      ...options,
    },
  );
  return JSON.parse(String(filesOf(output).get('sealift.json'))) as BundleManifest;
}

const bundle = (): string => path.join(world.directory, 'bundle.tar');
const listed = ({ evidence }: BundleManifest) =>
  evidence.map(({ tag, digest, subject, via }) => ({ tag, digest, subject, via })).sort(byTag);
const wanted = (pieces: readonly Piece[], via = 'cosign-tag') =>
  pieces
    .map((piece) => ({
      tag: tagOf(piece),
      digest: piece.manifest.digest,
      subject: piece.about.digest,
      via,
    }))
    .sort(byTag);
function byTag(one: { tag?: string | undefined }, other: { tag?: string | undefined }): number {
  return String(one.tag) < String(other.tag) ? -1 : 1;
}

async function admit(): Promise<void> {
  await world.pin(bundle());
  await world.import(bundle());
}

async function syncTo(tree: string): Promise<void> {
  await syncStore(
    {
      store: world.store,
      destinations: [async (context) => openStaticDirectory({ directory: tree, pid: process.pid }, context)],
      placement: {},
      dryRun: false,
      concurrency: 2,
      pid: process.pid,
    },
    world.context(),
  );
}

describe('tags of cosign', () => {
  it('travel with the index, with each platform and with other evidence', async () => {
    await push();
    const manifest = await carry();
    expect(listed(manifest)).toEqual(wanted(PIECES));
    expect(manifest.evidence.find(({ digest }) => digest === signature.digest)?.artifactType).toBe(
      'application/vnd.dev.cosign.simplesigning.v1+json',
    );
    expect(manifest.requires).toEqual(['tagged-evidence']);
  });

  it('of a bundle without any ask nothing new of a reader', async () => {
    await push([]);
    expect(await carry()).toMatchObject({ requires: [], evidence: [] });
  });

  it('cost no more than the question whether they are there, where they are not', async () => {
    await push([PIECES[0] as Piece]);
    const before = registry.requests.length;
    await carry();
    const asked = registry.requests.slice(before);
    const count = (pattern: RegExp) => asked.filter((line) => pattern.test(line)).length;
    const manifests = 1 + image.children.length + 1;
    expect(count(/^GET .*\/referrers\//)).toBe(manifests);
    // The index by its tag, its children, and the signature by its own tag.
    expect(count(/^GET .*\/manifests\//)).toBe(manifests);
    expect(count(/^HEAD .*\.(sig|att|sbom)$/)).toBe(3 * manifests);
    // The tag that lists evidence where there is no API.
    expect(count(/^HEAD .*\/manifests\/sha256-[0-9a-f]{64}$/)).toBe(manifests);
    expect(count(/^HEAD /)).toBe(4 * manifests);
  });

  it('are left behind where that is asked for', async () => {
    await push();
    expect((await carry({ excludeTagged: true })).evidence).toEqual([]);
    expect(registry.requests.filter((line) => /^(?:GET|HEAD) .*\.(sig|att|sbom)$/.test(line))).toEqual([]);
    expect((await carry({ includeEvidence: false })).evidence).toEqual([]);
  });

  it('are answered again by serve and by a static tree', async () => {
    await push();
    await carry();
    await registry.stop();
    await admit();
    const store = await openStore(world.store, { create: false });
    const served = await serveRegistry({
      store,
      host: '127.0.0.1',
      port: 0,
      signal: new AbortController().signal,
    });
    const tree = path.join(world.directory, 'tree');
    await syncTo(tree);
    try {
      for (const piece of PIECES) {
        const base = `${served.url}/v2/registry.example/team/app`;
        const answer = await send(`${base}/manifests/${tagOf(piece)}`);
        expect(answer.status, tagOf(piece)).toBe(200);
        expect(answer.body.equals(piece.manifest.bytes)).toBe(true);
        expect(answer.headers['content-type']).toBe(piece.manifest.mediaType);
        for (const { digest } of piece.manifest.blobs)
          expect((await send(`${base}/blobs/${digest}`)).status).toBe(200);
        const file = path.join(tree, 'v2/registry.example/team/app/manifests', tagOf(piece));
        expect(readFileSync(file).equals(piece.manifest.bytes)).toBe(true);
      }
      const missing = cosignTag(signature.digest, 'att');
      expect((await send(`${served.url}/v2/registry.example/team/app/manifests/${missing}`)).status).toBe(
        404,
      );
      const tags = await send(`${served.url}/v2/registry.example/team/app/tags/list`);
      expect(JSON.parse(String(tags.body))).toMatchObject({ tags: ['v1'] });
    } finally {
      await served.close();
    }
  });

  it('outlive garbage collection, and go on from a bundle, a store, a tree and a layout', async () => {
    await push();
    await carry();
    await registry.stop();
    await admit();
    const store = await openStore(world.store, { create: false });
    const lock = await store.lock(process.pid);
    await store.gc({ dryRun: false });
    await lock.release();
    const tree = path.join(world.directory, 'tree');
    await syncTo(tree);
    const layout = path.join(world.directory, 'by-hand');
    mkdirSync(layout);
    makeLayout(layout, [
      { name: 'v1', root: image },
      ...PIECES.map((piece) => ({ name: tagOf(piece), root: piece.manifest })),
    ]);
    const copy = path.join(world.directory, 'copy.tar');
    const places = [`bundle:${copy}:${NAME}`, `store:${world.store}:${NAME}`, `static:${tree}:${NAME}`];
    await carry({ file: copy }, `store:${world.store}:${NAME}`);
    for (const place of [...places, `oci:${layout}:v1`])
      expect(listed(await carry({}, place)), place).toEqual(wanted(PIECES));
  });

  it('and referrers of one manifest are one piece, found both ways', async () => {
    const root = makeIndex([singleImage()]);
    const both = cosignManifest('sig', 'with a subject', root);
    root.referrers.push(both);
    const plain = attachEvidence(root, 'application/vnd.example', '{}');
    await push([{ about: root, kind: 'sig', manifest: both }], root);
    const manifest = await carry();
    expect(listed(manifest)).toEqual([
      ...wanted([{ about: root, kind: 'sig', manifest: both }], 'referrers-api'),
      { tag: undefined, digest: plain.digest, subject: root.digest, via: 'referrers-api' },
    ]);
  });

  it('that lead to evidence of something else are told of and left out', async () => {
    const stray = cosignManifest('att', 'about another', singleImage());
    await push([
      { about: image, kind: 'att', manifest: stray },
      { about: image, kind: 'sbom', manifest: makeIndex([]) },
    ]);
    expect((await carry()).evidence).toEqual([]);
    const told = world.events.flatMap((event) => (event.type === 'notice' ? [event.code] : []));
    expect(told.filter((code) => code === 'not-evidence')).toHaveLength(2);
  });
});

describe('a bundle refuses', () => {
  beforeEach(async () => {
    await push();
    await carry();
    await world.pin(bundle());
  });

  it('evidence whose tag was moved to another image, by whoever wrote it', async () => {
    const forged = forge(bundle(), path.join(world.directory, 'forged.tar'), (_files, manifest) => {
      const [piece] = manifest.evidence as unknown as { tag: string }[];
      if (piece) piece.tag = cosignTag(signature.digest, 'sig');
    });
    await expect(world.verify(forged)).rejects.toMatchObject({ code: 'target-mismatch' });
  });

  it('a stripped signature', async () => {
    const forged = forge(bundle(), path.join(world.directory, 'forged.tar'), (files) => {
      files.delete(`blobs/sha256/${signature.digest.slice(7)}`);
    });
    await expect(world.verify(forged)).rejects.toMatchObject({ code: 'target-mismatch' });
    await expect(world.import(forged)).rejects.toMatchObject({ code: 'target-mismatch' });
  });
});
