/** Real clients pull from a published tree, behind each web server a configuration is written for. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { clientConfig } from '../../core/publish/client-config.ts';
import {
  artifactImage,
  digestsOf,
  manyLayersImage,
  multiArchImage,
  schema2Image,
  signedImage,
  singleImage,
} from '../../fixtures/images.ts';
import { describePeer, type Peer } from '../../fixtures/peers.ts';
import { endProcess } from '../../fixtures/registry.ts';
import { startCaddyOver, startNginxOver, type WebServer } from '../../fixtures/web-server.ts';
import { makePublishing, type Publishing } from '../core/publish/publishing.ts';

const run = promisify(execFile);
const images = {
  'docker.io/library/alpine:3.20': multiArchImage(),
  'docker.io/library/alpine:old': singleImage('old'),
  'quay.io/acme/signed:v1': signedImage(),
  'quay.io/acme/docker:v1': schema2Image(),
  'quay.io/acme/many:v1': manyLayersImage(12),
  'ghcr.io/acme/chart:v1': artifactImage(),
};
type Name = keyof typeof images;

let world: Publishing;
beforeAll(async () => {
  world = makePublishing();
  await world.admit(images);
  await world.sync();
});
afterAll(() => world.close());

const work = (name: string): string => path.join(world.directory, name);

const WAYS: readonly (readonly [string, Peer, (work: string) => Promise<WebServer>])[] = [
  ['nginx with suffixed files', 'nginx', (place) => startNginxOver(world.tree, place, 'suffixes')],
  ['nginx with maps', 'nginx', (place) => startNginxOver(world.tree, place, 'maps')],
  ['Caddy', 'caddy', (place) => startCaddyOver(world.tree, place)],
];

describe.each(WAYS)('behind %s', (title, server, start) => {
  describePeer([server, 'skopeo'], 'skopeo', () => {
    let web: WebServer;
    beforeAll(async () => {
      web = await start(work(`web-${title.replaceAll(' ', '-')}`));
    });
    afterAll(() => web?.stop());

    const copy = async (reference: string, target: string): Promise<string> => {
      await run('skopeo', [
        ...['--insecure-policy', 'copy', '--all', '--preserve-digests', '--src-tls-verify=false'],
        ...[`docker://${web.host}/${reference}`, `oci:${target}:v1`],
      ]);
      const { manifests } = JSON.parse(await readFile(path.join(target, 'index.json'), 'utf8'));
      return manifests[0].digest;
    };

    it.each(Object.keys(images) as Name[])('copies %s by tag and by digest', async (name) => {
      const target = work(`copy-${title}-${name}`.replaceAll(/[^a-z0-9]/gi, '-'));
      const { digest } = images[name];
      expect(await copy(name, target)).toBe(digest);
      const blobs = (await readdir(path.join(target, 'blobs/sha256'))).map((hex) => `sha256:${hex}`);
      expect(blobs.sort()).toEqual([...new Set(digestsOf(images[name], false))].sort());
      const repository = name.slice(0, name.lastIndexOf(':'));
      expect(await copy(`${repository}@${digest}`, `${target}-d`)).toBe(digest);
    });

    it('lists tags, finds evidence, and is told what is not there', async () => {
      const { stdout } = await run('skopeo', [
        ...['list-tags', '--tls-verify=false', `docker://${web.host}/library/alpine`],
      ]);
      expect(JSON.parse(stdout).Tags).toEqual(['3.20', 'old']);
      const { digest } = images['quay.io/acme/signed:v1'];
      const fallback = `quay.io/acme/signed:${digest.replace(':', '-')}`;
      const raw = await run('skopeo', [
        ...['inspect', '--raw', '--tls-verify=false', `docker://${web.host}/${fallback}`],
      ]);
      expect(JSON.parse(raw.stdout).manifests).toHaveLength(2);
      const missing = run('skopeo', [
        ...['inspect', '--tls-verify=false', `docker://${web.host}/library/alpine:none`],
      ]);
      await expect(missing).rejects.toThrow(/manifest unknown|404/i);
    });

    it('answers writes with an error and shows nothing but the registry and the page', async () => {
      const put = await fetch(`${web.url}/v2/library/alpine/manifests/3.20`, { method: 'PUT', body: 'x' });
      expect(put.status).toBeGreaterThanOrEqual(400);
      for (const place of [
        '/.sealift/state.json',
        '/config/Caddyfile',
        '/v2/library/alpine/manifests/none',
      ]) {
        expect((await fetch(web.url + place)).status, place).toBe(404);
      }
      const page = await fetch(web.url);
      expect(page.headers.get('content-type')).toMatch(/^text\/html/);
      expect(await page.text()).toContain('docker.io/library/alpine');
    });
  });
});

describePeer(['nginx', 'podman'], 'podman, configured by client-config', () => {
  let web: WebServer;
  const podman = async (...args: string[]): Promise<string> => {
    const own = ['--root', work('root'), '--runroot', work('runroot'), '--storage-driver', 'vfs'];
    const quiet = ['--cgroup-manager', 'cgroupfs', '--events-backend', 'file'];
    const env = { ...process.env, CONTAINERS_REGISTRIES_CONF: work('registries.conf') };
    return (await run('podman', [...own, ...quiet, ...args], { env })).stdout.trim();
  };
  beforeAll(async () => {
    web = await startNginxOver(world.tree, work('web-podman'), 'suffixes');
    const { files } = clientConfig({
      host: web.host,
      client: 'podman',
      registries: ['docker.io', 'quay.io'],
      plainHttp: true,
    });
    await writeFile(work('registries.conf'), files[0]?.content ?? '');
    await writeFile(work('policy.json'), '{"default":[{"type":"insecureAcceptAnything"}]}');
  });
  afterAll(() => web?.stop());

  it.each([
    ['alpine:3.20', 'docker.io/library/alpine:3.20'],
    ['docker.io/library/alpine:old', 'docker.io/library/alpine:old'],
    ['quay.io/acme/docker:v1', 'quay.io/acme/docker:v1'],
    [`quay.io/acme/signed@${images['quay.io/acme/signed:v1'].digest}`, 'quay.io/acme/signed:v1'],
  ] as const)('pulls %s, its name unchanged', async (reference, name) => {
    await podman('pull', '--quiet', '--signature-policy', work('policy.json'), reference);
    const [found] = JSON.parse(await podman('image', 'inspect', reference));
    expect(found.RepoDigests.some((one: string) => one.endsWith(images[name].digest))).toBe(true);
  });
});

describePeer(['nginx', 'containerd', 'ctr'], 'containerd, configured by client-config', () => {
  let web: WebServer;
  let daemon: ChildProcess | undefined;
  const ctr = (...args: string[]) => run('ctr', ['-a', work('c/sock'), '-n', 'test', ...args]);

  beforeAll(async () => {
    web = await startNginxOver(world.tree, work('web-containerd'), 'maps');
    await mkdir(work('c'));
    await writeFile(
      work('c/config.toml'),
      `version = 2
root = "${work('c/root')}"
state = "${work('c/state')}"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "${work('c/sock')}"
[ttrpc]
  address = "${work('c/ttrpc')}"
`,
    );
    daemon = spawn('containerd', ['--config', work('c/config.toml')], { stdio: 'ignore' });
    for (let attempt = 0; attempt < 100 && !existsSync(work('c/sock')); attempt++) {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    const { files } = clientConfig({
      host: web.host,
      client: 'containerd',
      registries: ['docker.io', 'quay.io'],
      plainHttp: true,
    });
    for (const file of files) {
      const target = file.path.replace('/etc/containerd/certs.d', work('certs.d'));
      await mkdir(path.dirname(target), { recursive: true });
      await writeFile(target, file.content);
    }
  });
  afterAll(async () => {
    if (daemon) await endProcess(daemon);
    await web?.stop();
  });

  it.each([
    ['docker.io/library/alpine:3.20', 'docker.io/library/alpine:3.20'],
    ['quay.io/acme/docker:v1', 'quay.io/acme/docker:v1'],
    [`quay.io/acme/many@${images['quay.io/acme/many:v1'].digest}`, 'quay.io/acme/many:v1'],
  ] as const)('fetches %s', async (reference, name) => {
    await ctr('content', 'fetch', '--hosts-dir', work('certs.d'), '--all-platforms', reference);
    const { stdout } = await ctr('image', 'ls');
    expect(stdout).toContain(reference);
    expect(stdout).toContain(images[name].digest);
  });
});

describePeer(['nginx', 'dockerd', 'docker', 'containerd'], 'docker, configured by client-config', () => {
  let web: WebServer;
  const children: ChildProcess[] = [];
  const docker = async (...args: string[]): Promise<string> =>
    (await run('docker', ['-H', `unix://${work('d/sock')}`, ...args])).stdout.trim();
  const appeared = async (file: string): Promise<void> => {
    for (let attempt = 0; attempt < 200 && !existsSync(file); attempt++) {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  };

  beforeAll(async () => {
    web = await startNginxOver(world.tree, work('web-docker'), 'suffixes');
    await mkdir(work('d'));
    const { files } = clientConfig({
      host: web.host,
      client: 'docker',
      registries: ['docker.io'],
      plainHttp: true,
    });
    await writeFile(work('d/daemon.json'), files[0]?.content ?? '');
    await writeFile(
      work('d/containerd.toml'),
      `version = 2
root = "${work('d/c-root')}"
state = "${work('d/c-state')}"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "${work('d/c-sock')}"
[ttrpc]
  address = "${work('d/c-ttrpc')}"
`,
    );
    children.push(spawn('containerd', ['--config', work('d/containerd.toml')], { stdio: 'ignore' }));
    await appeared(work('d/c-sock'));
    children.push(
      spawn(
        'dockerd',
        [
          ...['--config-file', work('d/daemon.json'), '--host', `unix://${work('d/sock')}`],
          ...['--data-root', work('d/data'), '--exec-root', work('d/exec'), '--pidfile', work('d/pid')],
          ...['--iptables=false', '--ip6tables=false', '--bridge=none', '--storage-driver=vfs'],
          ...['--containerd', work('d/c-sock')],
        ],
        { stdio: 'ignore' },
      ),
    );
    await appeared(work('d/sock'));
  });
  afterAll(async () => {
    for (const child of children.reverse()) await endProcess(child);
    await run('umount', [work('d/exec/netns/default')]).catch(() => undefined);
    await web?.stop();
  });

  it('pulls alpine, its name unchanged', async () => {
    await docker('pull', '--quiet', 'alpine:3.20');
    expect(await docker('image', 'inspect', '--format', '{{join .RepoDigests " "}}', 'alpine:3.20')).toBe(
      `alpine@${images['docker.io/library/alpine:3.20'].digest}`,
    );
  });

  it.each(['quay.io/acme/docker:v1', 'quay.io/acme/signed:v1', 'quay.io/acme/many:v1'] as const)(
    'pulls %s under the host, by tag and by digest',
    async (name) => {
      await docker('pull', '--quiet', `${web.host}/${name}`);
      const byDigest = `${web.host}/${name.slice(0, name.lastIndexOf(':'))}@${images[name].digest}`;
      expect(await docker('pull', '--quiet', byDigest)).toBe(byDigest);
    },
  );
});
