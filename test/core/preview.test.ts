import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { imageDetails } from '../../core/image-details.ts';
import { listTags, previewImage } from '../../core/preview.ts';
import { parseLocation } from '../../core/transport/location.ts';
import { reply, startFaultRegistry } from '../../fixtures/fault-registry.ts';
import { makeLayout, pushImage, signedImage, singleImage } from '../../fixtures/images.ts';
import { type OciRegistry, startOciRegistry } from '../../fixtures/oci-registry.ts';
import { makeWorld, SOURCE_OPTIONS, type World } from '../../fixtures/world.ts';

const SOURCE = { ...SOURCE_OPTIONS, plainHttp: true };
let world: World;
let registry: OciRegistry;
const signed = signedImage();

beforeAll(async () => {
  world = await makeWorld();
  registry = await startOciRegistry();
  await pushImage(registry.url, 'acme/signed', '2.1', signed);
  await pushImage(registry.url, 'acme/signed', 'latest', signed);
});
afterAll(async () => {
  await registry.stop();
  await world.close();
});

describe('previewImage', () => {
  const preview = (platforms: string[], includeEvidence = true) =>
    previewImage(
      {
        image: parseLocation(`${registry.host}/acme/signed:2.1`),
        platforms,
        includeEvidence,
        source: SOURCE,
      },
      world.context(),
    );
  test('tells digest, platforms, evidence and every blob', async () => {
    const found = await preview([]);
    expect(found.digest).toBe(signed.digest);
    expect(found.platforms).toEqual(['linux/amd64', 'linux/arm64/v8']);
    expect(found.evidence).toHaveLength(5);
    expect(new Set(found.blobs.map(({ digest }) => digest)).size).toBe(found.blobs.length);
  });
  test('one platform: the rest is named as left out, and there are fewer bytes', async () => {
    const [all, one] = await Promise.all([preview([], false), preview(['linux/amd64'], false)]);
    expect(one.platforms).toEqual(['linux/amd64']);
    expect(one.omitted).toContain('linux/arm64/v8');
    expect(one.size).toBeLessThan(all.size);
    expect(one.evidence).toEqual([]);
  });
  test('an image that is not there is refused as an export refuses it', async () => {
    const image = parseLocation(`${registry.host}/acme/none:1`);
    await expect(
      previewImage({ image, platforms: [], includeEvidence: true, source: SOURCE }, world.context()),
    ).rejects.toMatchObject({ code: 'source-not-found' });
  });
});

describe('listTags', () => {
  test('of a repository', async () => {
    const { locations, truncated } = await listTags(
      { location: `${registry.host}/acme/signed`, source: SOURCE },
      world.context(),
    );
    expect(locations).toContain(`docker://${registry.host}/acme/signed:2.1`);
    expect(locations).toContain(`docker://${registry.host}/acme/signed:latest`);
    expect(truncated).toBe(false);
  });
  test('of a layout', async () => {
    const layout = path.join(world.directory, 'tags-layout');
    makeLayout(layout, [
      { name: 'a', root: singleImage('a') },
      { name: 'docker.io/acme/b:1', root: singleImage('b') },
    ]);
    const { locations } = await listTags({ location: `oci:${layout}`, source: SOURCE }, world.context());
    expect(locations).toEqual([`oci:${layout}:a`, `oci:${layout}:docker.io/acme/b:1`]);
  });
  const withAnswer = async (
    ...steps: Parameters<Awaited<ReturnType<typeof startFaultRegistry>>['script']>[1][]
  ) => {
    const faulty = await startFaultRegistry();
    try {
      faulty.script('/v2/acme/app/tags/list', ...steps);
      return await listTags({ location: `${faulty.host}/acme/app`, source: SOURCE }, world.context());
    } finally {
      await faulty.stop();
    }
  };
  test('what is no tag never becomes a location', async () => {
    const body = JSON.stringify({
      name: 'acme/app',
      tags: ['ok', '../../x', 'a b', '', 7, `${'x'.repeat(129)}`, 'e\u001b[31m'],
    });
    const { locations } = await withAnswer(reply(200, { 'content-type': 'application/json' }, body));
    expect(locations.map((location) => location.slice(location.lastIndexOf(':') + 1))).toEqual(['ok']);
  });
  test('no tags at all, as registries write it', async () => {
    const answer = reply(200, { 'content-type': 'application/json' }, '{"name":"acme/app","tags":null}');
    expect((await withAnswer(answer)).locations).toEqual([]);
  });
  test('a next page elsewhere is not followed', async () => {
    const answer = reply(
      200,
      { 'content-type': 'application/json', link: '<http://127.0.0.1:1/v2/x/tags/list>; rel="next"' },
      '{"tags":["a"]}',
    );
    await expect(withAnswer(answer)).rejects.toMatchObject({ code: 'source-protocol' });
  });
});

describe('imageDetails', () => {
  test('of a bundle, and of the store it was imported into', async () => {
    const single = singleImage('labelled');
    const { output } = await world.export({
      'docker.io/acme/one:1': single,
      'docker.io/acme/signed:2.1': signed,
    });
    await world.pin(output);
    await world.import(output);
    for (const location of [output, world.store]) {
      const one = await imageDetails({ location, image: single.digest }, world.context());
      expect(one.platforms).toHaveLength(1);
      expect(one.platforms[0]?.platform).toBe('linux/amd64');
      expect(one.platforms[0]?.labels).toEqual([['org.example.label', 'labelled']]);
      const many = await imageDetails({ location, image: signed.digest }, world.context());
      expect(many.platforms.map(({ platform }) => platform)).toEqual(['linux/amd64', 'linux/arm64/v8']);
      expect(many.platforms[0]?.layers.length).toBeGreaterThan(1);
    }
    await expect(
      imageDetails({ location: output, image: `sha256:${'0'.repeat(64)}` }, world.context()),
    ).rejects.toMatchObject({ code: 'blob-missing' });
  });
});
