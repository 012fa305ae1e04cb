/**
 * Signatures across the air gap: made by skopeo, podman and sealift, carried, judged at the import, and judged again by
 * skopeo and podman with the same policy, from `serve` and from a registry that was filled from the store.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { BundleManifest } from '../../core/bundle/manifest.ts';
import type { ImportResult } from '../../core/results.ts';
import { type RunResult, runProgram, succeeded } from '../../fixtures/cli.ts';
import { type Gpg, type GpgKey, makeGpg } from '../../fixtures/gpg.ts';
import { type FixtureManifest, multiArchImage, pushImage, singleImage } from '../../fixtures/images.ts';
import { startOciRegistry } from '../../fixtures/oci-registry.ts';
import { describePeer, findPeer } from '../../fixtures/peers.ts';
import { type RunningRegistry, startDockerRegistry } from '../../fixtures/registry.ts';
import { makeWalk, type Walk } from '../../fixtures/walk.ts';
import { filesOf } from '../../fixtures/world.ts';

const PEERS = ['skopeo', 'podman', 'gpg', 'docker-registry'] as const;
const ORIGIN = 'registry.example';

const image = multiArchImage();
const other = singleImage('another');
let home: string;
let gpg: Gpg;
let keys: Record<'a' | 'b' | 'revoked' | 'lapsed', GpgKey>;
let registry: RunningRegistry;
const at = (...parts: string[]): string => path.join(home, ...parts);

/** What skopeo and podman find in their home: which mirror stands for the origin, and where signatures lie. */
function surroundings(name: string, mirror: string | undefined, lookaside: string): NodeJS.ProcessEnv {
  const config = at(name, '.config', 'containers');
  mkdirSync(path.join(config, 'registries.d'), { recursive: true });
  writeFileSync(
    path.join(config, 'registries.d', 'default.yaml'),
    `default-docker:\n  sigstore: file://${lookaside}\n  sigstore-staging: file://${lookaside}\n`,
  );
  const conf = path.join(config, 'registries.conf');
  const mirrors =
    mirror === undefined
      ? ''
      : `[[registry]]\nlocation = "${ORIGIN}"\n[[registry.mirror]]\nlocation = "${mirror}"\ninsecure = true\n`;
  writeFileSync(conf, mirrors);
  return { ...gpg.environment, HOME: at(name), CONTAINERS_REGISTRIES_CONF: conf };
}

const skopeo = (env: NodeJS.ProcessEnv, ...args: string[]): Promise<RunResult> =>
  runProgram('skopeo', args, { env, timeout: 60_000 });

const podman = (env: NodeJS.ProcessEnv, ...args: string[]): Promise<RunResult> => {
  const place = ['--root', at('podman', 'root'), '--runroot', at('podman', 'run'), '--storage-driver', 'vfs'];
  const quiet = ['--cgroup-manager', 'cgroupfs', '--events-backend', 'file'];
  return runProgram('podman', [...place, ...quiet, ...args], { env, timeout: 60_000 });
};

/** Signs what is at the registry already, as skopeo copies it. */
async function signBySkopeo(env: NodeJS.ProcessEnv, host: string, name: string, key: GpgKey): Promise<void> {
  const place = `docker://${host}/team/${name}:v1`;
  const run = await skopeo(
    env,
    ...['--policy', at('accept.json'), 'copy', '--all', '--sign-by', key.fingerprint],
    ...['--src-tls-verify=false', '--dest-tls-verify=false', place, place],
  );
  succeeded(run, `skopeo copy --sign-by to ${name}`);
}

function placesIn(lookaside: string, name: string): string[] {
  return [image, ...image.children].map(({ digest }) =>
    path.join(lookaside, 'team', `${name}@${digest.replace(':', '=')}`),
  );
}

/** Changes every signature of an image in a lookaside. */
function editSignatures(name: string, edit: (signature: Buffer) => Buffer): void {
  for (const place of placesIn(at('lookaside'), name)) {
    const file = path.join(place, 'signature-1');
    writeFileSync(file, edit(readFileSync(file)));
  }
}

function putSignature(name: string, subject: FixtureManifest, signature: Buffer): void {
  const place = at('lookaside', 'team', `${name}@${subject.digest.replace(':', '=')}`);
  mkdirSync(place, { recursive: true });
  writeFileSync(path.join(place, 'signature-1'), signature);
}

/** A signature by gpg over what skopeo would sign. */
function gpgSignature(name: string, digest: string, args: readonly string[]): Buffer {
  const payload = {
    critical: {
      identity: { 'docker-reference': `${registry.host}/team/${name}:v1` },
      image: { 'docker-manifest-digest': digest },
      type: 'atomic container signature',
    },
    optional: {},
  };
  return gpg.run([...args, '--sign'], JSON.stringify(payload));
}

/** Every image, and what a policy that demands a signature by key a has to say of it. */
const VERDICTS: Readonly<Record<string, boolean>> = {
  'by-skopeo': true,
  'by-podman': true,
  'by-sealift': true,
  stripped: false,
  'other-image': false,
  'other-name': false,
  'other-key': false,
  expired: false,
  'key-expired': false,
  'key-revoked': false,
  corrupted: false,
};
const SINGLE = ['by-podman'];

function policy(): unknown {
  const signedBy = ({ publicFile }: GpgKey) => ({
    type: 'signedBy',
    keyType: 'GPGKeys',
    keyPath: publicFile,
    signedIdentity: { type: 'remapIdentity', prefix: ORIGIN, signedPrefix: registry.host },
  });
  return {
    default: [{ type: 'reject' }],
    transports: {
      docker: {
        [ORIGIN]: [signedBy(keys.a)],
        [`${ORIGIN}/team/key-revoked`]: [signedBy(keys.revoked)],
        [`${ORIGIN}/team/key-expired`]: [signedBy(keys.lapsed)],
        [`${ORIGIN}/team/by-sealift`]: [{ ...signedBy(keys.a), signedIdentity: { type: 'matchExact' } }],
      },
    },
  };
}

async function makeImages(walk: Walk): Promise<void> {
  const env = surroundings('signer', undefined, at('lookaside'));
  const { host } = registry;
  for (const name of Object.keys(VERDICTS)) {
    const root = SINGLE.includes(name) ? singleImage(name) : image;
    await pushImage(registry.url, `team/${name}`, 'v1', root);
  }
  await signBySkopeo(env, host, 'by-skopeo', keys.a);
  for (const name of ['corrupted', 'other-name']) await signBySkopeo(env, host, name, keys.a);
  await signBySkopeo(env, host, 'other-key', keys.b);
  await signBySkopeo(env, host, 'key-revoked', keys.revoked);
  gpg.revoke(keys.revoked);
  const reference = `${host}/team/by-podman:v1`;
  const accept = ['--signature-policy', at('accept.json'), '--tls-verify=false'];
  succeeded(await podman(env, 'pull', '-q', ...accept, reference), 'podman pull');
  succeeded(
    await podman(env, 'push', '-q', '--sign-by', keys.a.fingerprint, ...accept, reference),
    'podman push --sign-by',
  );
  succeeded(
    await walk.sandbox.run([
      ...['sign', `${ORIGIN}/team/by-sealift:v1=docker://${host}/team/by-sealift:v1`, '--plain-http'],
      ...['--key', keys.a.secretFile, '--lookaside', at('lookaside')],
    ]),
    'sealift sign',
  );
  editSignatures('corrupted', (signature) => {
    const changed = Buffer.from(signature);
    const last = changed.length - 40;
    changed.writeUInt8(changed.readUInt8(last) ^ 1, last);
    return changed;
  });
  editSignatures('other-name', () =>
    readFileSync(path.join(placesIn(at('lookaside'), 'by-skopeo')[0] ?? '', 'signature-1')),
  );
  for (const subject of [image, ...image.children]) {
    const by = ['--local-user', keys.a.fingerprint];
    putSignature('other-image', subject, gpgSignature('other-image', other.digest, by));
    const brief = ['--faked-system-time', '20250601T000000', '--default-sig-expire', '1d'];
    putSignature('expired', subject, gpgSignature('expired', subject.digest, [...brief, ...by]));
    const early = ['--faked-system-time', '20250115T000000', '--local-user', keys.lapsed.fingerprint];
    putSignature('key-expired', subject, gpgSignature('key-expired', subject.digest, early));
  }
}

beforeAll(async () => {
  if (!PEERS.every((name) => findPeer(name))) return;
  home = mkdtempSync(path.join(os.tmpdir(), 'sealift-signatures-'));
  gpg = makeGpg(home);
  keys = {
    a: gpg.makeKey('a'),
    b: gpg.makeKey('b'),
    revoked: gpg.makeKey('revoked'),
    lapsed: gpg.makeKey('lapsed', '2025-02-01'),
  };
  registry = await startDockerRegistry();
  writeFileSync(at('accept.json'), '{"default":[{"type":"insecureAcceptAnything"}]}');
}, 60_000);

afterAll(async () => {
  if (home === undefined) return;
  await registry.stop();
  gpg.stop();
  rmSync(home, { recursive: true, force: true });
});

describePeer(PEERS, 'signatures of a lookaside', () => {
  let walk: Walk;
  let open: Walk;
  const found: Record<'import' | 'serve' | 'podman' | 'pushed' | 'beside', Record<string, boolean>> = {
    import: {},
    serve: {},
    podman: {},
    pushed: {},
    beside: {},
  };
  const names = Object.keys(VERDICTS);
  /** Exit code of an import of all of them. */
  let whole: number | null;
  const nameOf = (name: string): string => `${ORIGIN}/team/${name}:v1`;
  const bundle = (): string => walk.sandbox.path('all.tar');

  beforeAll(async () => {
    walk = makeWalk();
    // A second gate without a policy: what a policy refuses has to get past the gap for others to refuse it too.
    open = makeWalk();
    await makeImages(walk);
    await walk.init({ keys: 'native' });
    const sources = names.map((name) => `${nameOf(name)}=docker://${registry.host}/team/${name}:v1`);
    const settings = at('signer', '.config', 'containers', 'registries.d');
    await walk.export(sources, bundle(), { args: ['--registries-d', settings] });
    await registry.stop();
    const root = await walk.rootFingerprint();
    await walk.pin(bundle(), root);
    await open.pin(bundle(), root);
    writeFileSync(at('policy.json'), JSON.stringify(policy()));
    succeeded(await walk.sandbox.run(['policy', 'set', at('policy.json')]), 'policy set');
    await open.import(bundle());
    await judge();
  }, 180_000);
  afterAll(() => {
    walk?.sandbox.remove();
    open?.sandbox.remove();
  });

  async function judge(): Promise<void> {
    whole = (await walk.tryImport(bundle())).code;
    const part = await walk.tryImport(bundle(), { args: ['--admit-passing', '--json'] });
    expect(part.code, part.stderr).toBe(3);
    const { result } = JSON.parse(part.stdout) as { result: ImportResult };
    for (const one of result.images) found.import[one.name.replace(/^.*\/(.+):v1$/, '$1')] = one.admitted;
    const served = await open.serve();
    const target = await startDockerRegistry();
    try {
      const client = surroundings('client', `${served.host}/${ORIGIN}`, at('nothing'));
      // Copies take each signature along, from the API of `serve` into the lookaside of the registry.
      const pusher = surroundings('pusher', undefined, at('lookaside-2'));
      for (const name of names) {
        found.serve[name] = await copies(client, name, 'serve');
        succeeded(
          await skopeo(
            pusher,
            ...['--policy', at('accept.json'), 'copy', '--all'],
            ...['--src-tls-verify=false', '--dest-tls-verify=false'],
            `docker://${served.host}/${nameOf(name)}`,
            `docker://${target.host}/team/${name}:v1`,
          ),
          `skopeo copy ${name} to the other registry`,
        );
        const pulled = await podman(
          client,
          'pull',
          '-q',
          '--signature-policy',
          at('policy.json'),
          nameOf(name),
        );
        found.podman[name] = pulled.code === 0;
      }
      await served.stop();
      const after = surroundings('after', target.host, at('lookaside-2'));
      for (const name of names) found.pushed[name] = await copies(after, name, 'pushed');
      succeeded(await open.sandbox.run(['lookaside', at('lookaside-3')]), 'sealift lookaside');
      const beside = surroundings('beside', target.host, at('lookaside-3'));
      for (const name of names) found.beside[name] = await copies(beside, name, 'beside');
    } finally {
      await served.stop();
      await target.stop();
    }
  }

  async function copies(env: NodeJS.ProcessEnv, name: string, out: string): Promise<boolean> {
    const copy = ['copy', '--all', `docker://${nameOf(name)}`, `dir:${at('out', out, name)}`];
    mkdirSync(at('out', out), { recursive: true });
    return (await skopeo(env, '--policy', at('policy.json'), ...copy)).code === 0;
  }

  it('are judged at the import, with the registry gone', () => {
    expect(whole).toBe(5);
    expect(found.import).toEqual(VERDICTS);
  });
  it('are judged the same by skopeo, from serve', () => {
    expect(found.serve).toEqual(VERDICTS);
  });
  it('are judged the same by podman, from serve', () => {
    expect(found.podman).toEqual(VERDICTS);
  });
  it('are judged the same by skopeo, with the lookaside that sealift writes from the store', () => {
    expect(found.beside).toEqual(VERDICTS);
  });
  it('are judged the same by skopeo, from a registry that was filled from the store', () => {
    expect(found.pushed).toEqual(VERDICTS);
  });
  it('are on the page with state, format and signer, as they were judged when they were let in', async () => {
    const tree = walk.sandbox.path('tree');
    const sync = ['sync', `static:${tree}`, '--no-input'];
    succeeded(await walk.sandbox.run(sync), 'sync');
    const page = readFileSync(path.join(tree, 'index.html'), 'utf8');
    const of = page.split('<h2 ').find((section) => section.includes('/team/by-skopeo</h2>'));
    expect(of).toMatch(/[1-5] pieces?: .*\b[1-5] verified/);
    expect(of).toContain(`verified</span>: OpenPGP signature (<code>`);
    expect(of?.toLowerCase()).toContain(`by <code>${keys.a.fingerprint.toLowerCase()}</code>`);
    // The gate without a policy judged nothing.
    succeeded(await open.sandbox.run([...sync.slice(0, 1), `static:${tree}-open`, '--no-input']), 'sync');
    const unjudged = readFileSync(`${tree}-open/index.html`, 'utf8');
    expect(unjudged).toContain('5 pieces: 5 carried (not judged)');
    expect(unjudged).not.toMatch(/<\/span>verified<\/span>: /);
    // Letting the same in again changes nothing in what is known of it.
    const again = await walk.tryImport(bundle(), { args: ['--admit-passing'] });
    expect(again.code).toBe(3);
    expect(succeeded(await walk.sandbox.run(sync), 'sync').stdout).toContain('unchanged');
  });
});

describePeer(['skopeo', 'gpg', 'docker-registry'], 'signatures of a registry that keeps them', () => {
  it('are carried, judged with the registry gone, and handed out again', async () => {
    const keeper = await startOciRegistry({ signaturesApi: true });
    const walk = makeWalk();
    try {
      await pushImage(keeper.url, 'team/kept', 'v1', image);
      await signBySkopeo(surroundings('keeper', undefined, at('unused')), keeper.host, 'kept', keys.a);
      const name = `${ORIGIN}/team/kept:v1`;
      const source = `${name}=docker://${keeper.host}/team/kept:v1`;
      await walk.init({ keys: 'native' });
      const bundle = walk.sandbox.path('kept.tar');
      await walk.export([source], bundle);
      await walk.export([source], walk.sandbox.path('stripped.tar'), {
        args: ['--exclude-evidence', 'lookaside'],
      });
      await keeper.stop();
      const { evidence } = JSON.parse(String(filesOf(bundle).get('sealift.json'))) as BundleManifest;
      expect(evidence.map(({ via }) => via)).toEqual(Array(5).fill('signatures-api'));
      await walk.pin(bundle, await walk.rootFingerprint());
      const signedIdentity = { type: 'remapIdentity', prefix: ORIGIN, signedPrefix: keeper.host };
      const demand = { type: 'signedBy', keyType: 'GPGKeys', keyPath: keys.a.publicFile, signedIdentity };
      writeFileSync(at('kept.json'), JSON.stringify({ default: [demand] }));
      succeeded(await walk.sandbox.run(['policy', 'set', at('kept.json')]), 'policy set');
      await walk.import(bundle);
      expect((await walk.tryImport(walk.sandbox.path('stripped.tar'))).code).toBe(5);
      const served = await walk.serve();
      try {
        const env = surroundings('kept', `${served.host}/${ORIGIN}`, at('unused'));
        const copy = ['copy', '--all', `docker://${name}`, `dir:${at('kept-out')}`];
        succeeded(await skopeo(env, '--policy', at('kept.json'), ...copy), 'skopeo copy from serve');
      } finally {
        await served.stop();
      }
    } finally {
      await keeper.stop();
      walk.sandbox.remove();
    }
  }, 60_000);
});
