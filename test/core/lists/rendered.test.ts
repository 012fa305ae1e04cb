/** What the tools print for real: a chart by `helm template`, a project by `docker-compose config`. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { DEFAULT_LIMITS } from '../../../core/limits.ts';
import { type ImageList, parseImageList } from '../../../core/lists/list.ts';
import { describePeer, findPeer } from '../../../fixtures/peers.ts';

const FIXTURES = path.join(import.meta.dirname, '../../../fixtures');
const CHART = path.join(FIXTURES, 'charts/shop');
const RENDERED = path.join(FIXTURES, 'charts/shop.rendered.yaml');
const COMPOSE = path.join(FIXTURES, 'compose/shop.yaml');
const NORMALISED = path.join(FIXTURES, 'compose/shop.normalised.yaml');

const read = (file: string): Promise<ImageList> =>
  parseImageList(readFileSync(file), path.basename(file), DEFAULT_LIMITS);
const images = (list: ImageList): string[] => list.images.map(({ location: { text } }) => text).sort();

const PINNED = 'sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef';

describe('helm template', () => {
  it('gives exactly the images that run', async () => {
    const list = await read(RENDERED);
    expect(images(list)).toEqual([
      'docker.io/acme/os-shell:12',
      'docker.io/acme/postgres-exporter:0.15.0',
      'docker.io/acme/postgresql:16.4.0-debian-12-r0',
      'docker.io/library/busybox:latest',
      'docker.io/library/redis:7.4',
      'ghcr.io/acme/plugin@sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824',
      'quay.io/acme/models:2026-11',
      'quay.io/acme/proxy:v1.2.3',
      `quay.io/acme/proxy:v1.2.3@${PINNED}`,
      'quay.io/acme/redis-exporter:v1.62.0',
      'quay.io/acme/schema:7',
      'registry.example:5000/acme/shop:3.20',
    ]);
    expect(list.skipped.map(({ value, reason }) => [value, reason])).toEqual([
      ['acme/in-the-data:1', 'it stands among labels, variables or data'],
      ['shop-disk', 'it is the image of a block device'],
      ['busybox', 'it stands among labels, variables or data'],
      [
        'quay.io/acme/only-an-argument:1',
        'it looks like an image, and stands where none is looked for; where it is needed, name it too',
      ],
    ]);
  });

  it('gives each once, with every place it stands in', async () => {
    const { images: found } = await read(RENDERED);
    const busybox = found.find(({ location }) => location.text.includes('busybox'));
    expect(busybox?.places).toHaveLength(2);
    const database = found.find(({ location }) => location.text.includes('postgresql'));
    expect(database?.places.map((place) => place.replace(/^document \d+: /, ''))).toEqual([
      'spec.template.spec.initContainers[1].image',
      'spec.template.spec.containers[0].image',
    ]);
  });

  // No package of Debian has it.
  it.runIf(findPeer('helm'))('gives the same as it is printed here', async () => {
    const output = execFileSync(findPeer('helm') ?? '', ['template', 'demo', CHART, '--include-crds']);
    const list = await parseImageList(output, 'helm', DEFAULT_LIMITS);
    expect(images(list)).toEqual(images(await read(RENDERED)));
  });
});

const SERVICES = [
  'docker.io/acme/worker:1.9',
  'docker.io/acme/worker:2.0',
  'docker.io/library/nginx:1.29',
  `docker.io/library/postgres@${PINNED}`,
  'docker.io/library/redis:latest',
  'registry.example:5000/acme/api:3.20',
];

describe('compose', () => {
  it('gives exactly the images of a normalised project', async () => {
    const list = await read(NORMALISED);
    expect(images(list)).toEqual(SERVICES);
    expect(list.skipped.map(({ place }) => place)).toEqual([
      'services.api.build.args.image',
      'services.api.environment.image',
      'services.local.build',
      'services.web.labels.image',
    ]);
  });

  it('gives those of the file as it is written, and tells which hold variables', async () => {
    const list = await read(COMPOSE);
    expect(images(list)).toEqual(SERVICES.filter((name) => !/nginx|api/.test(name)));
    expect(list.skipped.map(({ place }) => place)).toEqual([
      'services.web.image',
      'services.web.labels.image',
      'services.api.image',
      'services.api.build.args.image',
      'services.api.environment.image',
      'services.local.build',
    ]);
  });
});

describePeer(['docker-compose'], 'docker-compose', () => {
  it('gives the same as it is printed here, whatever its version', async () => {
    const output = execFileSync(findPeer('docker-compose') ?? '', ['-f', COMPOSE, 'config']);
    expect(images(await parseImageList(output, 'compose', DEFAULT_LIMITS))).toEqual(SERVICES);
  });
});
