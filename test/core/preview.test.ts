import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { imageDetails } from '../../core/image-details.ts';
import { listNames, previewExport, previewImages } from '../../core/preview.ts';
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

describe('previewImages', () => {
  const preview = async (platforms: string[], includeEvidence = true) => {
    const [found, ...more] = await previewImages(
      {
        images: [parseLocation(`${registry.host}/acme/signed:2.1`)],
        platforms,
        includeEvidence,
        concurrency: 4,
        source: SOURCE,
      },
      world.context(),
    );
    if (found === undefined || more.length > 0) throw new Error('want exactly one image');
    return found;
  };
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
    const images = [parseLocation(`${registry.host}/acme/none:1`)];
    const options = { images, platforms: [], includeEvidence: true, concurrency: 4, source: SOURCE };
    for (const look of [previewImages, previewExport])
      await expect(look(options, world.context())).rejects.toMatchObject({ code: 'source-not-found' });
  });
  test('several images: the blobs of each are its own, and the sum counts shared ones once', async () => {
    const names = ['signed:2.1', 'signed:latest', 'one:1'];
    await pushImage(registry.url, 'acme/one', '1', singleImage('one'));
    const images = names.map((name) => parseLocation(`${registry.host}/acme/${name}`));
    const options = { images, platforms: [], includeEvidence: true, concurrency: 4, source: SOURCE };
    const found = await previewImages(options, world.context());
    expect(found.map(({ name }) => name)).toEqual(names.map((name) => `${registry.host}/acme/${name}`));
    const [first, second, third] = found.map(({ blobs }) => new Map(blobs.map((b) => [b.digest, b.size])));
    expect(second).toEqual(first);
    expect([...(third ?? [])].some(([digest]) => first?.has(digest))).toBe(false);
    const all = new Map([...(first ?? []), ...(third ?? [])]);
    const { blobs } = await previewExport(options, world.context());
    expect(blobs).toEqual({ count: all.size, bytes: [...all.values()].reduce((sum, size) => sum + size, 0) });
  });
});

describe('listNames', () => {
  test('of a repository', async () => {
    const { locations, truncated } = await listNames(
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
    const { locations } = await listNames({ location: `oci:${layout}`, source: SOURCE }, world.context());
    expect(locations).toEqual([`oci:${layout}:a`, `oci:${layout}:docker.io/acme/b:1`]);
  });
  test('of a registry: its repositories, which can be listed in turn', async () => {
    const list = await listNames({ location: registry.host, source: SOURCE }, world.context());
    expect(list).toEqual({
      of: 'repositories',
      locations: expect.arrayContaining([`${registry.host}/acme/signed`]),
      truncated: false,
    });
    const [first = ''] = list.locations;
    expect((await listNames({ location: first, source: SOURCE }, world.context())).of).toBe('images');
  });
  test('a registry that does not list its repositories: the words say that names can be typed', async () => {
    const shut = await startOciRegistry({ catalog: false });
    try {
      await expect(
        listNames({ location: `${shut.host}/`, source: SOURCE }, world.context()),
      ).rejects.toMatchObject({
        code: 'source-not-found',
        message: expect.stringContaining('does not list its repositories'),
        hint: expect.stringContaining('type the name'),
      });
    } finally {
      await shut.stop();
    }
  });
  test('repositories that are none never become a location', async () => {
    const faulty = await startFaultRegistry();
    try {
      const body = JSON.stringify({ repositories: ['ok/app', '../x', 'a b', 'UP', 'x:1', 7, 'e\u001b[31m'] });
      faulty.script('/v2/_catalog', reply(200, { 'content-type': 'application/json' }, body));
      const { locations } = await listNames({ location: faulty.host, source: SOURCE }, world.context());
      expect(locations).toEqual([`${faulty.host}/ok/app`]);
    } finally {
      await faulty.stop();
    }
  });
  test('of a bundle and a store', async () => {
    const names = ['docker.io/acme/a:1', 'docker.io/acme/b:1'];
    const { output } = await world.export({
      'docker.io/acme/a:1': singleImage('a'),
      'docker.io/acme/b:1': singleImage('b'),
    });
    const { locations } = await listNames({ location: `bundle:${output}`, source: SOURCE }, world.context());
    expect(locations).toEqual(names.map((name) => `bundle:${output}:${name}`));
  });
  const withAnswer = async (
    ...steps: Parameters<Awaited<ReturnType<typeof startFaultRegistry>>['script']>[1][]
  ) => {
    const faulty = await startFaultRegistry();
    try {
      faulty.script('/v2/acme/app/tags/list', ...steps);
      return await listNames({ location: `${faulty.host}/acme/app`, source: SOURCE }, world.context());
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
