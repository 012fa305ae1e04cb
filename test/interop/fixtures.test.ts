/** The fixtures themselves, judged by real programs: without this, a green end-to-end test would mean little. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runProgram, succeeded } from '../../fixtures/cli.ts';
import { send } from '../../fixtures/http.ts';
import * as images from '../../fixtures/images.ts';
import { startOciRegistry } from '../../fixtures/oci-registry.ts';
import { describePeer } from '../../fixtures/peers.ts';
import {
  REGISTRY_PASSWORD,
  REGISTRY_USER,
  type RunningRegistry,
  startDockerRegistry,
  TLS_CERTIFICATE_FILE,
} from '../../fixtures/registry.ts';

const scratch = mkdtempSync(path.join(os.tmpdir(), 'sealift-fixtures-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const SAMPLES: Record<string, () => images.FixtureManifest> = {
  'multi-arch': images.multiArchImage,
  'schema-2': images.schema2Image,
  'schema-2-list': images.schema2List,
  artifact: images.artifactImage,
  signed: images.signedImage,
  nested: images.nestedIndex,
  many: images.manyLayersImage,
};

describe('images', () => {
  it('are the same at every call', () => {
    for (const make of Object.values(SAMPLES))
      expect(images.digestsOf(make())).toEqual(images.digestsOf(make()));
  });

  it('share layers where they say so', () => {
    const layers = images
      .sharingImages()
      .flatMap((image) => images.blobsOf(image).map((blob) => blob.digest));
    expect(layers.length - new Set(layers).size).toBe(4);
  });

  it('hang evidence on the index, a child and other evidence', () => {
    const image = images.signedImage();
    expect(images.manifestsOf(image).length - images.manifestsOf(image, false).length).toBe(5);
    expect(image.children[0]?.referrers).toHaveLength(1);
    expect(image.referrers.every((one) => one.referrers.length === 1)).toBe(true);
  });
});

describe('the in-process registry', () => {
  it('answers with what was pushed, ranges and referrers', async () => {
    const registry = await startOciRegistry();
    try {
      const image = images.signedImage();
      await images.pushImage(registry.url, 'a/b', 'v1', image);
      const manifest = await send(`${registry.url}/v2/a/b/manifests/v1`);
      expect(manifest.body.equals(image.bytes)).toBe(true);
      expect(manifest.headers['docker-content-digest']).toBe(image.digest);
      const layer = images.blobsOf(image).at(-1) as images.FixtureBlob;
      const part = await send(`${registry.url}/v2/a/b/blobs/${layer.digest}`, {
        headers: { range: 'bytes=1-2' },
      });
      expect(part.status).toBe(206);
      expect(part.body.equals(Buffer.from(layer.bytes()).subarray(1, 3))).toBe(true);
      const referrers = await send(`${registry.url}/v2/a/b/referrers/${image.digest}`);
      const { manifests } = JSON.parse(referrers.body.toString()) as { manifests: { digest: string }[] };
      expect(manifests.map((one) => one.digest).sort()).toEqual(
        image.referrers.map((one) => one.digest).sort(),
      );
      expect((await send(`${registry.url}/v2/a/b/manifests/nope`)).status).toBe(404);
    } finally {
      await registry.stop();
    }
  });

  it('keeps blobs in a directory and names by sha512', async () => {
    const registry = await startOciRegistry({ directory: path.join(scratch, 'blobs'), referrersApi: false });
    try {
      const image = images.sha512Image();
      await images.pushImage(registry.url, 'a', 'v1', image);
      expect((await send(`${registry.url}/v2/a/manifests/${image.digest}`)).body.equals(image.bytes)).toBe(
        true,
      );
      expect((await send(`${registry.url}/v2/a/referrers/${image.digest}`)).status).toBe(404);
    } finally {
      await registry.stop();
    }
  });
});

describePeer(['skopeo', 'docker-registry'], 'fixtures with skopeo and docker-registry', () => {
  let registry: RunningRegistry;
  beforeAll(async () => {
    registry = await startDockerRegistry();
  });
  afterAll(() => registry.stop());

  it.each(Object.keys(SAMPLES))('%s comes back from docker-registry byte for byte', async (name) => {
    const image = (SAMPLES[name] as () => images.FixtureManifest)();
    await images.pushImage(registry.url, `samples/${name}`, 'v1', image);
    const raw = succeeded(
      await runProgram('skopeo', [
        'inspect',
        '--raw',
        '--tls-verify=false',
        `docker://${registry.host}/samples/${name}:v1`,
      ]),
      'skopeo inspect',
    );
    expect(raw.stdoutBytes.equals(image.bytes)).toBe(true);
  });

  it('copies an image of many layers into a directory', async () => {
    const directory = path.join(scratch, 'many');
    await images.pushImage(registry.url, 'samples/copied', 'v1', images.manyLayersImage());
    succeeded(
      await runProgram('skopeo', [
        'copy',
        '-q',
        '--src-tls-verify=false',
        `docker://${registry.host}/samples/copied:v1`,
        `dir:${directory}`,
      ]),
      'skopeo copy',
    );
  });

  it('keeps a referrers tag where there is no referrers API', async () => {
    const image = images.signedImage();
    await images.pushImage(registry.url, 'samples/referred', 'v1', image);
    const answer = await send(
      `${registry.url}/v2/samples/referred/manifests/${image.digest.replace(':', '-')}`,
      {
        headers: { accept: images.MEDIA.index },
      },
    );
    expect(answer.status).toBe(200);
    expect((JSON.parse(answer.body.toString()) as { manifests: unknown[] }).manifests).toHaveLength(2);
  });

  it('asks for a password and shows its certificate', async () => {
    const guarded = await startDockerRegistry({ tls: true, auth: true });
    try {
      const ca = readFileSync(TLS_CERTIFICATE_FILE);
      expect((await send(`${guarded.url}/v2/`, { ca })).status).toBe(401);
      await expect(send(`${guarded.url}/v2/`)).rejects.toThrow();
      await images.pushImage(guarded.url, 'a', 'v1', images.singleImage(), {
        ca,
        auth: `${REGISTRY_USER}:${REGISTRY_PASSWORD}`,
      });
    } finally {
      await guarded.stop();
    }
  });
});

describePeer(['skopeo', 'umoci'], 'fixtures as a layout', () => {
  it('are read by skopeo and umoci', async () => {
    const layout = path.join(scratch, 'layout');
    images.makeLayout(layout, [
      { name: 'multi', root: images.multiArchImage() },
      { name: 'large', root: images.largeImage(2, 100_000) },
    ]);
    succeeded(
      await runProgram('skopeo', ['copy', '-q', '--all', `oci:${layout}:multi`, `dir:${scratch}/multi`]),
      'skopeo',
    );
    succeeded(
      await runProgram('umoci', [
        'unpack',
        '--rootless',
        '--image',
        `${layout}:large`,
        `${scratch}/unpacked`,
      ]),
      'umoci',
    );
    const made = readFileSync(path.join(scratch, 'unpacked/rootfs/srv/large-1.bin'));
    expect(made.equals(images.randomContent(100_000, 'large-1'))).toBe(true);
  });
});
