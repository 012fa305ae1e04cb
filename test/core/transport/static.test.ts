import { mkdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ImageSummary } from '../../../core/results.ts';
import { parseLocation } from '../../../core/transport/location.ts';
import { multiArchImage, schema2Image, sha512Image, signedImage } from '../../../fixtures/images.ts';
import { makeWorld, type World } from '../../../fixtures/world.ts';
import { makePublishing, type Publishing } from '../publish/publishing.ts';
import { failureOf } from './surroundings.ts';

const IMAGES = {
  'docker.io/library/alpine:3.20': multiArchImage(),
  'quay.io/acme/signed:1': signedImage(),
  'quay.io/acme/docker:1': schema2Image(),
  'quay.io/acme/long:1': sha512Image(),
};

let world: World;
let publishing: Publishing;
beforeAll(async () => {
  world = await makeWorld();
  publishing = makePublishing();
  await publishing.admit(IMAGES);
  await publishing.sync();
});
afterAll(async () => {
  await world.close();
  await publishing.close();
});

let count = 0;
async function exported(...texts: string[]): Promise<readonly ImageSummary[]> {
  count += 1;
  const file = path.join(world.directory, `static-${count}.tar`);
  return (await world.export({}, { file, images: texts.map((text) => parseLocation(text)) })).images;
}

describe('a directory that sync wrote', () => {
  it('gives its images with digests, types and evidence', async () => {
    const names = Object.keys(IMAGES) as (keyof typeof IMAGES)[];
    // A tree does not say which digest a tag was given by; sha256 is meant unless it is written out.
    const pinned = (name: keyof typeof IMAGES) => (name.includes('long') ? `@${IMAGES[name].digest}` : '');
    const images = await exported(...names.map((name) => `static:${publishing.tree}:${name}${pinned(name)}`));
    expect(images.map(({ name, digest, mediaType }) => [name, digest, mediaType])).toEqual(
      names.sort().map((name) => [name, IMAGES[name].digest, IMAGES[name].mediaType]),
    );
    expect(images.find(({ name }) => name.includes('signed'))?.evidence.length).toBeGreaterThan(0);
    const [short] = await exported(`quay.io/acme/other:2=static:${publishing.tree}:alpine:3.20`);
    expect(short).toMatchObject({ name: 'quay.io/acme/other:2', digest: multiArchImage().digest });
  });

  it('has only what it has', async () => {
    const none = await failureOf(exported(`static:${publishing.tree}:acme/none:1`));
    expect(none.code).toBe('source-not-found');
    expect((await failureOf(exported('static:/nonexistent:acme/none:1'))).code).toBe('source-not-found');
  });

  it('is not followed out of itself, and not believed', async () => {
    const repository = path.join(publishing.tree, 'v2/quay.io/acme/evil');
    mkdirSync(path.join(repository, 'manifests'), { recursive: true });
    const secret = path.join(world.directory, 'secret');
    writeFileSync(secret, '{}');
    symlinkSync(secret, path.join(repository, 'manifests', '1'));
    expect((await failureOf(exported(`static:${publishing.tree}:quay.io/acme/evil:1`))).code).toBe(
      'source-unreachable',
    );
    const { digest } = signedImage();
    const manifests = path.join(publishing.tree, 'v2/quay.io/acme/signed/manifests');
    renameSync(path.join(manifests, digest), path.join(manifests, 'aside'));
    writeFileSync(path.join(manifests, digest), schema2Image().bytes);
    const lying = await failureOf(exported(`static:${publishing.tree}:quay.io/acme/signed:1@${digest}`));
    expect(lying.code).toBe('digest-mismatch');
  });
});
