import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ImageSummary } from '../../../../core/results.ts';
import { parseLocation } from '../../../../core/transport/location.ts';
import { openSource } from '../../../../core/transport/source.ts';
import { dockerArchiveOf, tarDirectory } from '../../../../fixtures/archives.ts';
import { makeLayout, multiArchImage, singleImage } from '../../../../fixtures/images.ts';
import { describePeer } from '../../../../fixtures/peers.ts';
import { makeWorld, SOURCE_OPTIONS, type World } from '../../../../fixtures/world.ts';
import { failureOf } from '../surroundings.ts';

const NAME = 'quay.io/acme/engine:1';
const isRoot = process.getuid?.() === 0;
let world: World;
let temporary: string;
/** Sockets have short names, wherever tests put their files. */
let short: string;
let count = 0;
const archive = () => dockerArchiveOf([{ root: singleImage('engine'), tags: [NAME] }]);
beforeAll(async () => {
  world = await makeWorld();
  temporary = path.join(world.directory, 'tmp');
  mkdirSync(temporary);
  short = mkdtempSync(path.join(os.tmpdir(), 'sl-'));
  writeFileSync(path.join(short, 'image.tar'), archive());
});
afterAll(async () => {
  await world.close();
  rmSync(short, { recursive: true, force: true });
});

async function exported(
  text: string,
  environment: Record<string, string | undefined>,
  platforms: readonly string[] = [],
): Promise<readonly ImageSummary[]> {
  count += 1;
  const { images } = await world.export(
    {},
    {
      images: [parseLocation(text)],
      file: path.join(world.directory, `engine-${count}.tar`),
      source: { ...SOURCE_OPTIONS, temporary, environment },
      platforms,
    },
  );
  expect(readdirSync(temporary)).toEqual([]);
  return images;
}

/** What the same image is called out of its archive. */
async function fromArchive(): Promise<string> {
  const [image] = await exported(`docker-archive:${path.join(short, 'image.tar')}`, {});
  return image?.digest ?? '';
}

async function answers(ask: () => unknown): Promise<void> {
  let failure: unknown;
  for (let i = 0; i < 300; i += 1) {
    try {
      await ask();
      return;
    } catch (error) {
      failure = error;
      await wait(100);
    }
  }
  throw failure;
}

async function end(child: ChildProcess | undefined): Promise<void> {
  if (!child || child.exitCode !== null) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await gone;
}

describe('docker-daemon', () => {
  async function daemon(
    answer: http.RequestListener,
  ): Promise<{ server: http.Server; env: Record<string, string> }> {
    count += 1;
    const socket = path.join(short, `fake-${count}.sock`);
    const server = http.createServer(answer);
    await new Promise<void>((resolve) => server.listen(socket, resolve));
    return { server, env: { DOCKER_HOST: `unix://${socket}` } };
  }
  const cases: [string, http.RequestListener, string][] = [
    [
      'an image it does not have',
      (_request, response) => {
        response.writeHead(404).end('{"message":"No such image: \\u001b[31m"}');
      },
      'source-not-found',
    ],
    [
      'a refusal',
      (_request, response) => {
        response.writeHead(500).end('{"message":"out of order"}');
      },
      'source-protocol',
    ],
    [
      'an archive that breaks off',
      (_request, response) => {
        response.writeHead(200);
        response.write(archive().subarray(0, 5000), () => response.destroy());
      },
      'source-unreachable',
    ],
    [
      'something that is no archive',
      (_request, response) => {
        response.writeHead(200).end('hello');
      },
      'archive-invalid',
    ],
  ];
  it.each(cases)('%s gives an error of its own', async (_title, answer, code) => {
    const { server, env } = await daemon(answer);
    const failure = await failureOf(exported(`docker-daemon:${NAME}`, env));
    server.close();
    expect(failure.code).toBe(code);
    expect(`${failure.message}${failure.hint}`).not.toContain('\u001b');
  });

  it('asks for the full name and makes the digest of the archive', async () => {
    const asked: (string | undefined)[] = [];
    const { server, env } = await daemon((request, response) => {
      asked.push(request.url);
      response.end(archive());
    });
    const [image] = await exported(`docker-daemon:${NAME}`, env);
    server.close();
    expect(asked).toEqual([`/images/${NAME}/get`]);
    expect(image).toMatchObject({ name: NAME, digest: await fromArchive(), digestMadeHere: true });
  });

  it('is not asked over the network, and told apart from one that is not there', async () => {
    const remote = exported(`docker-daemon:${NAME}`, { DOCKER_HOST: 'tcp://192.0.2.1:2375' });
    expect((await failureOf(remote)).code).toBe('invalid-argument');
    const none = exported(`docker-daemon:${NAME}`, { DOCKER_HOST: `unix://${short}/none.sock` });
    expect((await failureOf(none)).code).toBe('source-unreachable');
  });
});

describe('programs that are not there', () => {
  it.each(['containers-storage', 'containerd'])('%s names what it needs', async (kind) => {
    const failure = await failureOf(exported(`${kind}:${NAME}`, { PATH: `${short}:relative` }));
    expect(failure.code).toBe('source-unreachable');
    expect(failure.message).toMatch(/needs (podman or skopeo|ctr)/);
  });
});

describe('a program that takes its time', () => {
  it('is ended with the run, and leaves nothing', async () => {
    const bin = path.join(short, 'slow');
    mkdirSync(bin);
    const pidFile = path.join(bin, 'pid');
    writeFileSync(
      path.join(bin, 'podman'),
      `#!/bin/sh\necho $$ >${pidFile}.new\nmv ${pidFile}.new ${pidFile}\nexec sleep 600\n`,
      {
        mode: 0o755,
      },
    );
    const stop = new AbortController();
    const opened = openSource(
      parseLocation(`containers-storage:${NAME}`).location,
      { ...SOURCE_OPTIONS, temporary, environment: { PATH: `${bin}:${process.env['PATH']}` } },
      { ...world.context(), signal: stop.signal },
    );
    await answers(() => readFileSync(pidFile));
    stop.abort();
    await expect(opened).rejects.toThrow();
    expect(() => process.kill(Number(readFileSync(pidFile, 'utf8')), 0)).toThrow('ESRCH');
    expect(readdirSync(temporary)).toEqual([]);
  });
});

describePeer(['podman', 'skopeo'], 'containers-storage', () => {
  it('is read through podman and through skopeo, with the same digest', async () => {
    const home = path.join(short, 'podman');
    mkdirSync(home);
    const conf = path.join(home, 'storage.conf');
    writeFileSync(conf, `[storage]\ndriver="vfs"\nrunroot="${home}/run"\ngraphroot="${home}/graph"\n`);
    writeFileSync(
      path.join(home, 'containers.conf'),
      '[engine]\ncgroup_manager="cgroupfs"\nevents_logger="file"\n',
    );
    const env = {
      PATH: process.env['PATH'],
      HOME: home,
      XDG_RUNTIME_DIR: home,
      TMPDIR: home,
      CONTAINERS_STORAGE_CONF: conf,
      CONTAINERS_CONF: path.join(home, 'containers.conf'),
    };
    execFileSync('podman', ['load', '-q', '-i', path.join(short, 'image.tar')], { env, stdio: 'pipe' });
    const want = await fromArchive();
    const [viaPodman] = await exported(`containers-storage:${NAME}`, env);
    expect(viaPodman).toMatchObject({ name: NAME, digest: want, digestMadeHere: true });

    const only = path.join(home, 'bin');
    mkdirSync(only);
    const skopeo = execFileSync('sh', ['-c', 'command -v skopeo']).toString().trim();
    writeFileSync(path.join(only, 'skopeo'), `#!/bin/sh\nexec ${skopeo} --insecure-policy "$@"\n`, {
      mode: 0o755,
    });
    const [viaSkopeo] = await exported(`containers-storage:${NAME}`, { ...env, PATH: only });
    expect(viaSkopeo).toMatchObject({ name: NAME, digest: want });
    const none = await failureOf(exported('containers-storage:quay.io/acme/none:1', env));
    expect(none.code).toBe('source-not-found');
  });
});

(isRoot ? describe : describe.skip)(isRoot ? 'as root' : 'engines (needs root)', () => {
  describePeer(['containerd', 'ctr', 'dockerd'], 'containerd and dockerd', () => {
    let containerd: ChildProcess | undefined;
    let dockerd: ChildProcess | undefined;
    let socket: string;
    let env: Record<string, string | undefined>;
    beforeAll(async () => {
      socket = path.join(short, 'c.sock');
      writeFileSync(
        path.join(short, 'c.toml'),
        `version = 2\nroot = "${short}/c"\nstate = "${short}/cs"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "${socket}"\n[ttrpc]\naddress = "${socket}.ttrpc"\n`,
      );
      containerd = spawn('containerd', ['--config', path.join(short, 'c.toml')], { stdio: 'ignore' });
      env = { PATH: process.env['PATH'], CONTAINERD_ADDRESS: socket, CONTAINERD_NAMESPACE: 'sealift' };
      await answers(() => execFileSync('ctr', ['version'], { env, stdio: 'pipe' }));
    });
    afterAll(async () => {
      await end(dockerd);
      await end(containerd);
    });

    it('containerd gives images with their own digest', async () => {
      const layout = path.join(short, 'layout');
      makeLayout(layout, [{ name: 'quay.io/acme/multi:1', root: multiArchImage() }]);
      writeFileSync(path.join(short, 'multi.tar'), tarDirectory(layout));
      execFileSync(
        'ctr',
        ['images', 'import', '--no-unpack', '--all-platforms', path.join(short, 'multi.tar')],
        {
          env,
          stdio: 'pipe',
        },
      );
      const [image] = await exported('containerd:quay.io/acme/multi:1', env);
      expect(image).toMatchObject({
        name: 'quay.io/acme/multi:1',
        digest: multiArchImage().digest,
        digestMadeHere: false,
      });
      expect(image?.platforms.length).toBeGreaterThan(1);
      expect((await failureOf(exported('containerd:quay.io/acme/none:1', env))).code).toBe(
        'source-not-found',
      );
    });

    it('dockerd gives an image with a digest made here', async () => {
      const host = `unix://${short}/d.sock`;
      dockerd = spawn(
        'dockerd',
        [
          ...[
            '--host',
            host,
            '--data-root',
            `${short}/d`,
            '--exec-root',
            `${short}/de`,
            '--pidfile',
            `${short}/d.pid`,
          ],
          ...[
            '--iptables=false',
            '--ip6tables=false',
            '--bridge=none',
            '--storage-driver=vfs',
            '--containerd',
            socket,
          ],
        ],
        { stdio: 'ignore' },
      );
      const dockerEnv = { PATH: process.env['PATH'], DOCKER_HOST: host };
      const load = () =>
        new Promise<void>((resolve, reject) => {
          const request = http.request(
            { socketPath: `${short}/d.sock`, path: '/images/load', method: 'POST', agent: false },
            (response) => {
              response.resume().once('end', () => {
                if (response.statusCode === 200) resolve();
                else reject(new Error(`docker load: status ${response.statusCode}`));
              });
            },
          );
          request.once('error', reject);
          request.end(archive());
        });
      await answers(load);
      const [image] = await exported(`docker-daemon:${NAME}`, dockerEnv);
      expect(image).toMatchObject({ name: NAME, digest: await fromArchive(), digestMadeHere: true });
      expect((await failureOf(exported('docker-daemon:acme/none:1', dockerEnv))).code).toBe(
        'source-not-found',
      );
      await end(dockerd);
      try {
        execFileSync('umount', [`${short}/de/netns/default`], { stdio: 'pipe' });
      } catch {
        // It was not mounted.
      }
    });
  });
});
