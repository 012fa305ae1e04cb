/** Real clients pull from the registry over the store. */
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type RunningRegistry, serveRegistry } from '../../../core/publish/registry.ts';
import { openStore } from '../../../core/store/store.ts';
import {
  artifactImage,
  digestsOf,
  largeImage,
  manyLayersImage,
  multiArchImage,
  schema2Image,
  signedImage,
  singleImage,
} from '../../../fixtures/images.ts';
import { describePeer } from '../../../fixtures/peers.ts';
import { fill } from '../store/fill.ts';

const run = promisify(execFile);
const images = {
  'docker.io/library/alpine:3.20': multiArchImage(),
  'docker.io/library/alpine:old': singleImage('old'),
  'docker.io/acme/signed:v1': signedImage(),
  'docker.io/acme/chart:v1': artifactImage(),
  'quay.io/acme/docker:v1': schema2Image(),
  'quay.io/acme/many:v1': manyLayersImage(20),
  'quay.io/acme/large:v1': largeImage(4, 4_000_000),
};
type Name = keyof typeof images;

let directory: string;
let registry: RunningRegistry;
let host: string;

beforeAll(async () => {
  directory = await mkdtemp(path.join(os.tmpdir(), 'clients-'));
  const store = await openStore(path.join(directory, 'store'), { create: true });
  await fill(store, images);
  registry = await serveRegistry({ store, host: '127.0.0.1', port: 0, signal: new AbortController().signal });
  host = `127.0.0.1:${registry.port}`;
});

afterAll(async () => {
  await registry.close();
  await rm(directory, { recursive: true, force: true });
});

describePeer(['skopeo'], 'skopeo', () => {
  const skopeo = async (...args: string[]): Promise<string> =>
    (await run('skopeo', ['--insecure-policy', ...args], { maxBuffer: 1 << 26 })).stdout;

  it.each([
    'docker.io/library/alpine:3.20',
    'library/alpine:3.20',
    'alpine:3.20',
    'quay.io/acme/docker:v1',
    'acme/chart:v1',
  ])('inspects %s', async (reference) => {
    const name = (
      reference.startsWith('quay.io')
        ? reference
        : Object.keys(images).find((full) => full.endsWith(reference))
    ) as Name;
    const raw = await skopeo('inspect', '--raw', '--tls-verify=false', `docker://${host}/${reference}`);
    expect(raw).toBe(images[name].bytes.toString());
  });

  it.each(Object.keys(images) as Name[])('copies all of %s with its digests', async (name) => {
    const target = path.join(directory, `copy-${name.replaceAll(/[/:]/g, '-')}`);
    await skopeo(
      'copy',
      '--all',
      '--preserve-digests',
      '--src-tls-verify=false',
      `docker://${host}/${name}`,
      `oci:${target}:v1`,
    );
    const { manifests } = JSON.parse(await readFile(path.join(target, 'index.json'), 'utf8'));
    expect(manifests.map((manifest: { digest: string }) => manifest.digest)).toEqual([images[name].digest]);
    const blobs = await readdir(path.join(target, 'blobs', 'sha256'));
    expect(blobs.map((hex) => `sha256:${hex}`).sort()).toEqual(
      [...new Set(digestsOf(images[name], false))].sort(),
    );
  });

  it('copies by digest', async () => {
    const { digest } = images['docker.io/acme/signed:v1'];
    const target = path.join(directory, 'by-digest');
    await skopeo(
      'copy',
      '--all',
      '--src-tls-verify=false',
      `docker://${host}/acme/signed@${digest}`,
      `oci:${target}:v1`,
    );
    expect(await readFile(path.join(target, 'index.json'), 'utf8')).toContain(digest);
  });

  it('lists tags', async () => {
    const listed = JSON.parse(
      await skopeo('list-tags', '--tls-verify=false', `docker://${host}/library/alpine`),
    );
    expect(listed.Tags).toEqual(['3.20', 'old']);
  });

  it('is told that an image is unknown, and that nothing can be pushed', async () => {
    const missing = skopeo('inspect', '--tls-verify=false', `docker://${host}/library/none:v1`);
    await expect(missing).rejects.toThrow(/name unknown|not known/i);
    const source = `docker://${host}/library/alpine:old`;
    const push = skopeo(
      'copy',
      '--src-tls-verify=false',
      '--dest-tls-verify=false',
      source,
      `docker://${host}/library/new:v1`,
    );
    await expect(push).rejects.toThrow(/read-only|unsupported/i);
  });
});

describePeer(['podman'], 'podman', () => {
  async function podman(...args: string[]): Promise<string> {
    const settings = ['--root', path.join(directory, 'root'), '--runroot', path.join(directory, 'runroot')];
    const quiet = ['--storage-driver', 'vfs', '--cgroup-manager', 'cgroupfs', '--events-backend', 'file'];
    const configuration = path.join(directory, 'registries.conf');
    const env = { ...process.env, CONTAINERS_REGISTRIES_CONF: configuration };
    return (await run('podman', [...settings, ...quiet, ...args], { env })).stdout.trim();
  }

  beforeAll(async () => {
    // What a client of a sealed network is configured with: docker.io is asked for here and nowhere else.
    const mirror = `[[registry]]\nprefix = "docker.io"\nlocation = "${host}"\ninsecure = true\n`;
    const plain = `[[registry]]\nlocation = "${host}"\ninsecure = true\n`;
    await writeFile(
      path.join(directory, 'registries.conf'),
      `unqualified-search-registries = ["docker.io"]\n\n${mirror}\n${plain}`,
    );
    await writeFile(path.join(directory, 'policy.json'), '{"default":[{"type":"insecureAcceptAnything"}]}');
  });

  it.each([
    ['by the mirror', 'docker.io/library/alpine:3.20'],
    ['by a short name, as in FROM', 'alpine:3.20'],
    ['under its full name', 'HOST/docker.io/library/alpine:3.20'],
    ['in schema 2', 'HOST/quay.io/acme/docker:v1'],
  ])('pulls %s', async (_how, reference) => {
    const name = reference.replace('HOST', host);
    await podman('pull', '--quiet', '--signature-policy', path.join(directory, 'policy.json'), name);
    const digests = JSON.parse(await podman('image', 'inspect', name))[0].RepoDigests as string[];
    const full = (
      reference.includes('docker:v1') ? 'quay.io/acme/docker:v1' : 'docker.io/library/alpine:3.20'
    ) as Name;
    expect(digests.some((digest) => digest.endsWith(images[full].digest))).toBe(true);
  });
});
