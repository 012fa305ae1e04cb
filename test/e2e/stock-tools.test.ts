/** What an auditor and a consumer do with tools of their own, without the program. */
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type RunOptions, type RunResult, runProgram, succeeded } from '../../fixtures/cli.ts';
import {
  type FixtureManifest,
  makeLayout,
  multiArchImage,
  signedImage,
  singleImage,
} from '../../fixtures/images.ts';
import { describePeer, hasPeer } from '../../fixtures/peers.ts';
import { makeWalk, type Walk } from '../../fixtures/walk.ts';

const images: Record<string, FixtureManifest> = {
  'registry.example/team/multi:v1': multiArchImage(),
  'registry.example/team/signed:v1': signedImage(),
  'registry.example/team/single:v1': singleImage(),
};

let walk: Walk;
let bundle: string;
let single: string;

beforeAll(async () => {
  walk = makeWalk();
  const layout = walk.sandbox.path('layout');
  const list = Object.entries(images).map(([name, root]) => ({ name, root }));
  makeLayout(layout, list);
  await walk.init({ keys: 'openpgp' });
  bundle = walk.sandbox.path('out.sealift');
  single = walk.sandbox.path('single.sealift');
  await walk.export(
    list.map(({ name }) => `${name}=oci:${layout}:${name}`),
    bundle,
  );
  await walk.export(
    [`registry.example/team/single:v1=oci:${layout}:registry.example/team/single:v1`],
    single,
  );
  await walk.pin(bundle, await walk.rootFingerprint());
  await walk.import(bundle);
});
afterAll(() => walk?.sandbox.remove());

async function run(program: string, args: readonly string[], options?: RunOptions): Promise<RunResult> {
  return succeeded(await runProgram(program, args, options), `${program} ${args.join(' ')}`);
}

/** The bundle unpacked by tar, once. */
let unpacked: string | undefined;
async function unpack(): Promise<string> {
  if (unpacked !== undefined) return unpacked;
  const directory = walk.sandbox.path('unpacked');
  mkdirSync(directory);
  const { stderr } = await run('tar', ['-xf', bundle, '-C', directory]);
  expect(stderr).toBe('');
  unpacked = directory;
  return directory;
}

describePeer(['tar', 'sha256sum'], 'tar and sha256sum on a bundle', () => {
  it('unpacks without a warning and every checksum holds', async () => {
    const directory = await unpack();
    const { stdout } = await run('sha256sum', ['--strict', '-c', 'SHA256SUMS'], { cwd: directory });
    const lines = stdout.trimEnd().split('\n');
    const files = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) =>
      entry.isFile(),
    );
    // Every file in the archive but the sums and their signature.
    expect(lines).toHaveLength(files.length - 2);
    expect(lines.every((line) => line.endsWith(': OK'))).toBe(true);
  });
});

describePeer(['tar', 'gpg'], 'gpg on a bundle', () => {
  const gpg = async (args: readonly string[], cwd: string): Promise<RunResult> => {
    const home = walk.sandbox.path('gnupg');
    mkdirSync(home, { recursive: true, mode: 0o700 });
    chmodSync(home, 0o700);
    return runProgram('gpg', ['--batch', '--no-autostart', '--status-fd', '1', ...args], {
      cwd,
      env: { ...process.env, GNUPGHOME: home, LC_ALL: 'C' },
    });
  };

  it('verifies SHA256SUMS.asc with the certificate, and refuses sums that were changed', async () => {
    const directory = await unpack();
    const certificates = readdirSync(path.join(directory, 'metadata/certificates'));
    expect(certificates.length).toBeGreaterThan(0);
    for (const file of certificates) {
      succeeded(await gpg(['--import', path.join('metadata/certificates', file)], directory), 'gpg --import');
    }
    const good = succeeded(
      await gpg(['--verify', 'SHA256SUMS.asc', 'SHA256SUMS'], directory),
      'gpg --verify',
    );
    const signer = /^\[GNUPG:\] VALIDSIG .* ([0-9A-F]{40})$/m.exec(good.stdout)?.[1]?.toLowerCase();
    expect(certificates.map((file) => file.replace('.pgp', ''))).toContain(signer);

    const sums = readFileSync(path.join(directory, 'SHA256SUMS'));
    const forged = path.join(directory, 'FORGED');
    writeFileSync(
      forged,
      sums.toString().replace(/^./, (digit) => (digit === '0' ? '1' : '0')),
    );
    const bad = await gpg(['--verify', 'SHA256SUMS.asc', 'FORGED'], directory);
    expect(bad.code).not.toBe(0);
    expect(bad.stdout).toContain('BADSIG');
  });
});

describePeer(['skopeo'], 'skopeo on a bundle', () => {
  it.each(Object.keys(images))('copies %s out of it with its digest', async (name) => {
    const image = images[name] as FixtureManifest;
    const directory = walk.sandbox.path(`skopeo-${path.basename(name)}`);
    await run('skopeo', [
      '--insecure-policy',
      'copy',
      '-q',
      '--all',
      '--preserve-digests',
      `oci-archive:${bundle}:${name}`,
      `dir:${directory}`,
    ]);
    expect(readFileSync(path.join(directory, 'manifest.json')).equals(image.bytes)).toBe(true);
  });

  it('reads a bundle of one image as a docker archive too', async () => {
    const inspected = await run('skopeo', ['inspect', '--config', '--raw', `docker-archive:${single}`]);
    expect(inspected.stdoutBytes.equals(singleConfig())).toBe(true);
  });

  it('reads the store as an OCI layout', async () => {
    for (const [name, image] of Object.entries(images)) {
      const raw = await run('skopeo', ['inspect', '--raw', `oci:${walk.sandbox.path('store')}:${name}`]);
      expect(raw.stdoutBytes.equals(image.bytes)).toBe(true);
    }
  });
});

function singleConfig(): Buffer {
  return Buffer.from(
    (images['registry.example/team/single:v1'] as FixtureManifest).blobs[0]?.bytes() as Uint8Array,
  );
}

describePeer(['podman'], 'podman', () => {
  const podman = (args: readonly string[]): Promise<RunResult> => {
    const base = walk.sandbox.path('podman');
    mkdirSync(base, { recursive: true });
    const options = [
      '--root',
      path.join(base, 'root'),
      '--runroot',
      path.join(base, 'run'),
      '--storage-driver',
      'vfs',
    ];
    return run('podman', [...options, '--cgroup-manager', 'cgroupfs', '--events-backend', 'file', ...args], {
      env: { ...walk.sandbox.env },
      timeout: 120_000,
    });
  };

  it('pulls from serve, by tag and by digest', async () => {
    const server = await walk.serve();
    try {
      for (const [name, image] of Object.entries(images)) {
        const repository = name.replace(/:v1$/, '');
        for (const reference of [`${repository}:v1`, `${repository}@${image.digest}`]) {
          await podman(['pull', '-q', '--tls-verify=false', `${server.host}/${reference}`]);
        }
        const { stdout } = await podman([
          'image',
          'inspect',
          '--format',
          '{{json .RepoDigests}}',
          `${server.host}/${repository}:v1`,
        ]);
        expect(stdout).toContain(image.digest);
      }
    } finally {
      await server.stop();
    }
  });

  it('loads a bundle of one image', async () => {
    const { stdout } = await podman(['load', '-i', single]);
    expect(stdout).toContain('registry.example/team/single:v1');
  });
});

describePeer(['umoci'], 'umoci', () => {
  it('lists the store', async () => {
    const { stdout } = await run('umoci', ['ls', '--layout', walk.sandbox.path('store')]);
    for (const name of Object.keys(images)) expect(stdout).toContain(name);
  });
});

// Not in Debian's stable archive, so not required; used where somebody has them.
it.skipIf(!hasPeer('oras'))('oras copies from serve and discovers evidence', async () => {
  const server = await walk.serve();
  try {
    const image = images['registry.example/team/signed:v1'] as FixtureManifest;
    const reference = `${server.host}/registry.example/team/signed:v1`;
    await run('oras', [
      'cp',
      '--from-plain-http',
      reference,
      '--to-oci-layout',
      `${walk.sandbox.path('oras')}:v1`,
    ]);
    const { stdout } = await run('oras', ['discover', '--plain-http', '--format', 'json', reference]);
    for (const evidence of image.referrers) expect(stdout).toContain(evidence.digest);
  } finally {
    await server.stop();
  }
});

it.skipIf(!hasPeer('crane'))('crane finds the digests on serve', async () => {
  const server = await walk.serve();
  try {
    for (const [name, image] of Object.entries(images)) {
      const { stdout } = await run('crane', ['digest', '--insecure', `${server.host}/${name}`]);
      expect(stdout.trim()).toBe(image.digest);
    }
  } finally {
    await server.stop();
  }
});
