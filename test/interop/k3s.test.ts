/**
 * What client-config says for k3s. k3s makes a hosts.toml of each mirror in registries.yaml (pkg/agent/containerd), and its
 * own build of containerd rewrites repositories by it; both are tried, the second where there is a k3s.
 */
import { type ChildProcess, execFile } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { clientConfig } from '../../core/publish/client-config.ts';
import { send } from '../../fixtures/http.ts';
import { multiArchImage, schema2Image, signedImage } from '../../fixtures/images.ts';
import { describePeer } from '../../fixtures/peers.ts';
import { startContainerd } from '../../fixtures/pull-clients.ts';
import { endProcess } from '../../fixtures/registry.ts';
import { startNginxOver, type WebServer } from '../../fixtures/web-server.ts';
import { makePublishing, type Publishing } from '../core/publish/publishing.ts';

const run = promisify(execFile);
const images = {
  'docker.io/library/alpine:3.20': multiArchImage(),
  'quay.io/acme/signed:v1': signedImage(),
  'quay.io/acme/docker:v1': schema2Image(),
};

interface Mirrors {
  readonly mirrors: Readonly<
    Record<
      string,
      { readonly endpoint: readonly string[]; readonly rewrite: Readonly<Record<string, string>> }
    >
  >;
}

let world: Publishing;
let web: WebServer;
const work = (name: string): string => path.join(world.directory, name);

/** registries.yaml as k3s reads it. */
function registriesFor(prefix?: string): Mirrors {
  const { files } = clientConfig({
    host: web.host,
    client: 'k3s',
    registries: ['docker.io', 'quay.io'],
    prefix,
    plainHttp: true,
  });
  return parse(files[0]?.content ?? '', { strict: true });
}

/** hosts.toml as k3s writes it; the address of the registry itself is one where nobody listens. */
function hostsOf({ endpoint, rewrite }: Mirrors['mirrors'][string]): string {
  const hosts = endpoint.map(
    (url) => `[host."${url}/v2"]
  capabilities = ["pull", "resolve"]
  [host."${url}/v2".rewrite]
${Object.entries(rewrite)
  .map(([pattern, replacement]) => `    "${pattern}" = "${replacement}"\n`)
  .join('')}`,
  );
  return `server = "http://127.0.0.1:9/v2"\n\n${hosts.join('\n')}`;
}

describePeer(['nginx'], 'k3s, configured by client-config', () => {
  beforeAll(async () => {
    world = makePublishing();
    await world.admit(images);
    await world.sync();
    await world.sync({
      destinations: [world.static(work('below'))],
      placement: { prefix: 'mirror/all' },
    });
    web = await startNginxOver(world.tree, work('web'), 'suffixes');
  });
  afterAll(async () => {
    await web?.stop();
    await world?.close();
  });

  it.each([undefined, 'mirror/all'])(
    'is told of each registry where its images are, below %s',
    async (prefix) => {
      const below =
        prefix === undefined ? web : await startNginxOver(work('below'), work('web-below'), 'maps');
      try {
        const { mirrors, ...others } = registriesFor(prefix);
        expect(others).toEqual({});
        for (const [name, { digest }] of Object.entries(images)) {
          const [, registry = '', repository = '', tag = ''] = /^([^/]+)\/(.+):(.+)$/.exec(name) ?? [];
          const { endpoint, rewrite, ...unknown } = mirrors[registry] ?? { endpoint: [], rewrite: {} };
          expect(unknown).toEqual({});
          expect(endpoint).toEqual([`http://${web.host}`]);
          const [[pattern = '', replacement = ''] = []] = Object.entries(rewrite);
          const rewritten = repository.replace(new RegExp(pattern, 'g'), replacement);
          for (const reference of [tag, digest]) {
            const answer = await send(`${below.url}/v2/${rewritten}/manifests/${reference}`);
            expect(answer.status, `${name} as ${rewritten}`).toBe(200);
          }
        }
      } finally {
        if (below !== web) await below.stop();
      }
    },
  );

  describePeer(['containerd', 'k3s'], "k3s's own containerd", () => {
    let daemon: ChildProcess | undefined;
    beforeAll(async () => {
      daemon = await startContainerd(work('c'));
      for (const [registry, mirror] of Object.entries(registriesFor().mirrors)) {
        mkdirSync(work(`certs.d/${registry}`), { recursive: true });
        writeFileSync(work(`certs.d/${registry}/hosts.toml`), hostsOf(mirror));
      }
    });
    afterAll(async () => {
      if (daemon) await endProcess(daemon);
    });
    const ctr = (...args: string[]) => run('k3s', ['ctr', '-a', work('c/sock'), '-n', 'k8s.io', ...args]);

    describe.each(Object.entries(images))('%s', (name, { digest }) => {
      it.each([name, `${name.slice(0, name.lastIndexOf(':'))}@${digest}`])(
        'is pulled as %s, its name unchanged',
        async (reference) => {
          await ctr(
            ...['image', 'pull', '--local', '--hosts-dir', work('certs.d'), '--snapshotter', 'native'],
            ...['--platform', 'linux/amd64', reference],
          );
          const { stdout } = await ctr('image', 'ls', `name==${reference}`);
          expect(stdout).toContain(digest);
          await ctr('image', 'rm', '--sync', reference);
        },
      );
    });
  });
});
