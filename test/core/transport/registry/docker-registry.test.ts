import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parseDigest } from '../../../../core/oci/digest.ts';
import type { Source, SourceOptions } from '../../../../core/transport/source.ts';
import {
  blobsOf,
  type FixtureManifest,
  largeImage,
  makeLayout,
  manifestsOf,
  multiArchImage,
  pushImage,
  schema2Image,
  signedImage,
} from '../../../../fixtures/images.ts';
import { describePeer } from '../../../../fixtures/peers.ts';
import {
  REGISTRY_PASSWORD,
  REGISTRY_USER,
  type RunningRegistry,
  startDockerRegistry,
  TLS_CERTIFICATE_FILE,
} from '../../../../fixtures/registry.ts';
import { collect, failureOf, registrySource } from '../surroundings.ts';

/** Every manifest and blob of an image, byte for byte. */
async function expectAll(source: Source, tag: string, root: FixtureManifest): Promise<void> {
  const top = await source.manifest(tag);
  expect(top).toMatchObject({ digest: root.digest, mediaType: root.mediaType });
  for (const one of manifestsOf(root, false)) {
    expect(Buffer.from((await source.manifest(one.digest)).bytes)).toEqual(one.bytes);
  }
  for (const blob of blobsOf(root, false)) {
    const bytes = await collect(source, { digest: parseDigest(blob.digest), size: blob.size });
    expect(bytes.equals(blob.bytes())).toBe(true);
  }
}

describePeer(['docker-registry', 'skopeo'], 'docker-registry', () => {
  let registry: RunningRegistry;
  let secured: RunningRegistry;
  let directory: string;
  const images: Record<string, FixtureManifest> = {
    multi: multiArchImage(),
    large: largeImage(2, 5_000_000),
  };
  const schema2 = schema2Image();
  const signed = signedImage();

  beforeAll(async () => {
    directory = mkdtempSync(path.join(os.tmpdir(), 'sealift-registry-source-'));
    [registry, secured] = await Promise.all([
      startDockerRegistry(),
      startDockerRegistry({ auth: true, tls: true }),
    ]);
    for (const [name, root] of Object.entries(images)) {
      makeLayout(path.join(directory, name), [{ name: '1', root }]);
      execFileSync(
        'skopeo',
        [
          'copy',
          '--all',
          '--preserve-digests',
          '--dest-tls-verify=false',
          `oci:${path.join(directory, name)}:1`,
          `docker://${registry.host}/team/app:${name}`,
        ],
        { stdio: 'pipe' },
      );
    }
    await pushImage(registry.url, 'team/app', 'schema2', schema2);
    await pushImage(registry.url, 'team/app', 'signed', signed);
    await pushImage(secured.url, 'team/app', '1', signed, {
      auth: `${REGISTRY_USER}:${REGISTRY_PASSWORD}`,
      ca: readFileSync(TLS_CERTIFICATE_FILE),
    });
  });
  afterAll(async () => {
    rmSync(directory, { recursive: true, force: true });
    await Promise.all([registry.stop(), secured.stop()]);
  });

  it.each(Object.keys(images))('serves the %s image that skopeo pushed', async (name) => {
    const { source } = await registrySource(registry.host);
    await expectAll(source, name, images[name] as FixtureManifest);
    await source.close();
  });

  it('serves a Docker schema 2 image', async () => {
    const { source } = await registrySource(registry.host);
    await expectAll(source, 'schema2', schema2);
    await source.close();
  });

  it('serves evidence by the tag, as it has no referrers API', async () => {
    const { source, events } = await registrySource(registry.host);
    const answer = await source.referrers(parseDigest(signed.digest));
    expect(answer.via).toBe('referrers-tag');
    expect(answer.descriptors.map(({ digest }) => digest).sort()).toEqual(
      signed.referrers.map(({ digest }) => digest).sort(),
    );
    expect(events).toEqual([]);
    await source.close();
  });

  it('does not find what is not there', async () => {
    const { source } = await registrySource(registry.host);
    expect((await failureOf(source.manifest('nothing'))).code).toBe('source-not-found');
    const missing = { digest: parseDigest(`sha256:${'0'.repeat(64)}`), size: 1 };
    expect((await failureOf(collect(source, missing))).code).toBe('source-not-found');
    await source.close();
  });

  const secure: Partial<SourceOptions> = { plainHttp: false, caFile: readFileSync(TLS_CERTIFICATE_FILE) };

  it('lets in over TLS with a password', async () => {
    const credentials = async () => ({ username: REGISTRY_USER, password: REGISTRY_PASSWORD });
    const { source } = await registrySource(secured.host, { ...secure, credentials });
    await expectAll(source, '1', signed);
    await source.close();
  });

  it('keeps out with a wrong password, and without one', async () => {
    const credentials = async () => ({ username: REGISTRY_USER, password: 'wrong-password' });
    for (const options of [{ ...secure, credentials }, secure]) {
      const { source } = await registrySource(secured.host, options);
      expect((await failureOf(source.manifest('1'))).code).toBe('source-unauthorized');
      await source.close();
    }
  });

  it('wants TLS, and says so when spoken to in HTTP', async () => {
    const { source } = await registrySource(secured.host, { plainHttp: true });
    expect((await failureOf(source.manifest('1'))).hint).toContain('--plain-http');
    await source.close();
  });
});
