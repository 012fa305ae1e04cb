/** Signatures and policies, with gpg and skopeo as the judges of what is right. */
import { execFileSync, spawn } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Context } from '../../core/context.ts';
import { findAttached } from '../../core/evidence/attached.ts';
import { readRegistriesD } from '../../core/evidence/lookaside.ts';
import { DEFAULT_LIMITS } from '../../core/limits.ts';
import type { Digest } from '../../core/oci/digest.ts';
import { parseManifest } from '../../core/oci/manifest.ts';
import { createWorkerPool } from '../../core/pool/worker-pool.ts';
import type { VerifyResult } from '../../core/results.ts';
import { parseLocation } from '../../core/transport/location.ts';
import { PolicyJudge } from '../../core/trust/policy/evaluate.ts';
import { loadPolicyFile } from '../../core/trust/policy/load.ts';
import { type Gpg, type GpgKey, makeGpg } from '../../fixtures/gpg.ts';
import { type FixtureManifest, pushImage, singleImage } from '../../fixtures/images.ts';
import { describePeer, findPeer } from '../../fixtures/peers.ts';
import { type RunningRegistry, startDockerRegistry } from '../../fixtures/registry.ts';
import { makeWalk, type Walk } from '../../fixtures/walk.ts';
import { SOURCE_OPTIONS } from '../../fixtures/world.ts';

const image: FixtureManifest = singleImage('policy');
const other: FixtureManifest = singleImage('another');
let home: string;
let registry: RunningRegistry;
let host: string;
let gpg: Gpg;
let keys: Record<'a' | 'b', GpgKey>;
const at = (...parts: string[]): string => path.join(home, ...parts);
const env = (): NodeJS.ProcessEnv => gpg.environment;

/** A signature as skopeo makes it. */
function sign(key: 'a' | 'b', reference: string, manifest: FixtureManifest = image): Buffer {
  writeFileSync(at('manifest.json'), manifest.bytes);
  execFileSync(
    'skopeo',
    ['standalone-sign', '--output', at('signature'), at('manifest.json'), reference, keys[key].fingerprint],
    { env: env(), stdio: 'ignore' },
  );
  return readFileSync(at('signature'));
}

function corrupted(signature: Buffer): Buffer {
  const changed = Buffer.from(signature);
  changed.writeUInt8(changed.readUInt8(changed.length - 40) ^ 1, changed.length - 40);
  return changed;
}

function expiredSignature(reference: string): Buffer {
  const payload = {
    critical: {
      identity: { 'docker-reference': reference },
      image: { 'docker-manifest-digest': image.digest },
      type: 'atomic container signature',
    },
    optional: {},
  };
  const when = ['--faked-system-time', '20250601T000000', '--default-sig-expire', '1d'];
  return gpg.run([...when, '--local-user', keys.a.fingerprint, '--sign'], JSON.stringify(payload));
}

/** Signatures that lie in the lookaside, by repository. */
const SETS: Readonly<Record<string, (name: string) => readonly Buffer[]>> = {
  none: () => [],
  own: (name) => [sign('a', name)],
  by: (name) => [sign('b', name)],
  both: (name) => [sign('b', name), sign('a', name)],
  tag: (name) => [sign('a', name.replace(':v1', ':v2'))],
  repo: () => [sign('a', `${host}/team/own:v1`)],
  host: () => [sign('a', 'registry.example/team/host:v1')],
  digest: (name) => [sign('a', name, other)],
  corrupt: (name) => [corrupted(sign('a', name))],
  mixed: (name) => [corrupted(sign('a', name)), sign('b', name), sign('a', name)],
  expired: (name) => [expiredSignature(name)],
};

const PLAIN_HTTP = { ...SOURCE_OPTIONS, plainHttp: true };
const nameOf = (repository: string): string => `${host}/team/${repository}:v1`;

beforeAll(async () => {
  if (!['skopeo', 'gpg', 'docker-registry'].every((name) => findPeer(name))) return;
  home = mkdtempSync(path.join(os.tmpdir(), 'sealift-policy-'));
  gpg = makeGpg(home);
  keys = { a: gpg.makeKey('a'), b: gpg.makeKey('b') };
  registry = await startDockerRegistry();
  host = registry.host;
  mkdirSync(at('registries.d'));
  // The word of skopeo 1.9 and older; newer ones know it too.
  writeFileSync(
    at('registries.d', 'default.yaml'),
    `default-docker:\n  sigstore: file://${at('lookaside')}\n`,
  );
  for (const [repository, make] of Object.entries(SETS)) {
    await pushImage(registry.url, `team/${repository}`, 'v1', image);
    const place = at('lookaside', 'team', `${repository}@${image.digest.replace(':', '=')}`);
    mkdirSync(place, { recursive: true });
    for (const [index, signature] of make(nameOf(repository)).entries())
      writeFileSync(path.join(place, `signature-${index + 1}`), signature);
  }
}, 60_000);

afterAll(async () => {
  await registry?.stop();
  if (home === undefined) return;
  gpg.stop();
  rmSync(home, { recursive: true, force: true });
});

type Requirement = Record<string, unknown>;
interface Case {
  readonly title: string;
  readonly repository: string;
  readonly policy: unknown;
}

const signedBy = (key: 'a' | 'b', signedIdentity?: Requirement): Requirement => ({
  type: 'signedBy',
  keyType: 'GPGKeys',
  keyPath: keys[key].publicFile,
  ...(signedIdentity ? { signedIdentity } : {}),
});
const ACCEPT = { type: 'insecureAcceptAnything' };
const REJECT = { type: 'reject' };
const inScope = (scope: string, requirements: readonly Requirement[], base: Requirement = REJECT) => ({
  default: [base],
  transports: { docker: { [scope]: requirements } },
});

function cases(): Case[] {
  const identities: readonly (Requirement | undefined)[] = [
    undefined,
    { type: 'matchExact' },
    { type: 'matchRepository' },
    { type: 'exactReference', dockerReference: nameOf('own') },
    { type: 'exactRepository', dockerRepository: `${host}/team/own` },
    { type: 'remapIdentity', prefix: host, signedPrefix: 'registry.example' },
    { type: 'remapIdentity', prefix: `${host}/team/hos`, signedPrefix: 'registry.example/team/hos' },
  ];
  const found: Case[] = [];
  for (const repository of Object.keys(SETS)) {
    for (const identity of identities) {
      found.push({
        title: `${repository}, ${identity ? JSON.stringify(identity) : 'no signedIdentity'}`,
        repository,
        policy: { default: [signedBy('a', identity)] },
      });
    }
  }
  const scopes = [nameOf('own'), `${host}/team/own`, `${host}/team`, host, '*.0.0.1', '*.1', ''];
  const misses = [
    `${host}/team/ow`,
    `${host}/tea`,
    '127.0.0.1',
    '*.127.0.0.1',
    'docker.io',
    `${host}/team/own:v2`,
  ];
  for (const scope of [...scopes, ...misses]) {
    found.push({
      title: `scope "${scope}" accepts`,
      repository: 'none',
      policy: inScope(scope.replaceAll('own', 'none'), [ACCEPT]),
    });
    found.push({
      title: `scope "${scope}" rejects`,
      repository: 'none',
      policy: inScope(scope.replaceAll('own', 'none'), [REJECT], ACCEPT),
    });
  }
  const lists: readonly (readonly Requirement[])[] = [
    [ACCEPT, REJECT],
    [REJECT, ACCEPT],
    [ACCEPT, signedBy('a')],
    [signedBy('a'), signedBy('b')],
    [signedBy('a'), signedBy('a')],
  ];
  for (const list of lists) {
    for (const repository of ['own', 'both', 'none'])
      found.push({
        title: `all of ${list.map(({ type }) => type).join(', ')} for ${repository}`,
        repository,
        policy: { default: list },
      });
  }
  const data = {
    type: 'signedBy',
    keyType: 'GPGKeys',
    keyData: readFileSync(keys.a.publicFile).toString('base64'),
  };
  const broken: readonly unknown[] = [
    { default: [data] },
    { default: [{ ...data, keyData: Buffer.from('no key').toString('base64') }] },
    { default: [{ ...data, keyType: 'X509Certificates' }] },
    { default: [{ ...data, keyPath: '/x' }] },
    { default: [{ ...signedBy('a'), keyPath: at('missing.gpg') }] },
    { default: [] },
    { default: [{ type: 'other' }] },
    { default: [ACCEPT], more: 1 },
    { default: [{ ...ACCEPT, more: 1 }] },
    { transports: {} },
    { default: [ACCEPT], transports: { docker: { 'a.example': [] } } },
    { default: [ACCEPT], transports: { dir: { 'not/absolute': [ACCEPT] } } },
  ];
  for (const policy of broken)
    found.push({ title: JSON.stringify(policy).slice(0, 120), repository: 'own', policy });
  return found;
}

function context(): Context {
  return {
    now: new Date(),
    signal: new AbortController().signal,
    emit: () => {},
    limits: DEFAULT_LIMITS,
    pool: createWorkerPool({ size: 0 }),
  };
}

async function verdictHere(repository: string, policy: string): Promise<boolean> {
  const name = nameOf(repository);
  const top = parseManifest(image.bytes, {
    mediaType: image.mediaType,
    digest: image.digest as Digest,
    limits: DEFAULT_LIMITS,
  });
  const settings = await readRegistriesD(at('registries.d'), undefined);
  const found = await findAttached(
    parseLocation(`docker://${name}`),
    name,
    top,
    settings,
    PLAIN_HTTP,
    context(),
  );
  const pieces = found.map(({ manifest, blobs }) => ({
    digest: manifest.digest,
    artifactType: manifest.artifactType ?? '',
    subject: top.digest,
    payloads: manifest.layers.map(({ digest }) => blobs.get(digest) ?? new Uint8Array()),
  }));
  try {
    const judge = new PolicyJudge(await loadPolicyFile(policy, DEFAULT_LIMITS), new Date());
    return (await judge.judge({ name, top, children: [], pieces })).allowed;
  } catch {
    return false;
  }
}

function verdictOfSkopeo(repository: string, policy: string, out: string): Promise<boolean> {
  const child = spawn(
    'skopeo',
    [
      '--policy',
      policy,
      '--registries.d',
      at('registries.d'),
      'copy',
      '--src-tls-verify=false',
      `docker://${nameOf(repository)}`,
      `dir:${out}`,
    ],
    { env: env(), stdio: 'ignore' },
  );
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => resolve(code === 0));
  });
}

describePeer(['skopeo', 'gpg', 'docker-registry'], 'policies', () => {
  it('give the same verdict here and in skopeo', async () => {
    const all = cases();
    expect(all.length).toBeGreaterThan(100);
    const differences: string[] = [];
    let accepted = 0;
    const one = async ({ title, repository, policy }: Case, index: number): Promise<void> => {
      const file = at(`policy-${index}.json`);
      writeFileSync(file, JSON.stringify(policy));
      const [here, there] = await Promise.all([
        verdictHere(repository, file),
        verdictOfSkopeo(repository, file, at(`out-${index}`)),
      ]);
      if (here) accepted += 1;
      if (here !== there) differences.push(`${title}: here ${here}, skopeo ${there}`);
    };
    const queue = [...all.entries()];
    await Promise.all(
      [0, 1, 2].map(async () => {
        for (let next = queue.shift(); next; next = queue.shift()) await one(next[1], next[0]);
      }),
    );
    expect(differences).toEqual([]);
    expect(accepted).toBeGreaterThan(20);
    expect(accepted).toBeLessThan(all.length - 40);
  });
});

describePeer(['skopeo', 'gpg', 'docker-registry'], 'a signed image through the air gap', () => {
  let walk: Walk;
  const policyFile = (): string => at('demand.json');
  const bundle = (name: string): string => walk.sandbox.path(`${name}.tar`);

  async function carry(repository: string, file: string, args: readonly string[] = []): Promise<void> {
    await walk.export(
      [`registry.example/team/${repository}:v1=docker://${nameOf(repository)}`],
      bundle(file),
      {
        args: ['--registries-d', at('registries.d'), ...args],
      },
    );
  }
  /** Exit code, error code and what a verification says of the one image. */
  async function importOutcome(file: string, args: readonly string[] = []): Promise<unknown> {
    const run = await walk.tryImport(bundle(file), { args: ['--json', ...args] });
    const document = JSON.parse(run.stdout) as { error?: { code: string; message: string } };
    return {
      exit: run.code,
      ...(document.error ? { code: document.error.code, message: document.error.message } : {}),
    };
  }

  beforeAll(async () => {
    walk = makeWalk();
    await walk.init({ keys: 'native' });
    // In the order in which they are imported: a gate takes no older bundle after a newer one.
    for (const name of ['by', 'tag', 'corrupt', 'expired', 'digest']) await carry(name, name);
    await carry('own', 'stripped', ['--exclude-evidence', 'lookaside']);
    await carry('own', 'own');
    const program = await walk.sandbox.run([
      ...['sign', `registry.example/team/none:v1=docker://${nameOf('none')}`, '--plain-http'],
      ...['--key', keys.a.secretFile, '--lookaside', at('made')],
    ]);
    expect(program.code, program.stderr).toBe(0);
    mkdirSync(at('made.d'));
    writeFileSync(at('made.d', 'd.yaml'), `docker:\n  ${host}:\n    lookaside: file://${at('made')}\n`);
    await walk.export([`registry.example/team/none:v1=docker://${nameOf('none')}`], bundle('made'), {
      args: ['--registries-d', at('made.d')],
    });
    await walk.pin(bundle('own'), await walk.rootFingerprint());
    const identity = { type: 'remapIdentity', prefix: 'registry.example', signedPrefix: host };
    writeFileSync(
      policyFile(),
      JSON.stringify({
        default: [{ type: 'reject' }],
        transports: {
          docker: {
            'registry.example': [signedBy('a', identity)],
            'registry.example/team/none': [signedBy('a')],
          },
        },
      }),
    );
    const set = await walk.sandbox.run(['policy', 'set', policyFile()]);
    expect(set.code, set.stderr).toBe(0);
  }, 120_000);
  afterAll(() => walk?.sandbox.remove());

  it('is told of as verified, with who signed and which requirement decided', async () => {
    const run = await walk.sandbox.run(['verify', bundle('own'), '--json']);
    expect(run.code, run.stdout).toBe(0);
    const { result } = JSON.parse(run.stdout) as { result: VerifyResult };
    expect(result.policy).toMatchObject({ from: 'gate' });
    expect(result.images[0]).toMatchObject({
      verdict: 'verified',
      policyScope: 'transports.docker, registry.example',
    });
    expect(result.images[0]?.evidence[0]).toMatchObject({
      via: 'lookaside',
      state: 'verified',
      signer: keys.a.fingerprint.toLowerCase(),
      claimedName: nameOf('own'),
    });
  });

  it.each([
    ['by', 'is by another key', 'not accepted'],
    ['tag', 'is for another name', 'signature is for'],
    ['corrupt', 'was corrupted', 'invalid'],
    ['expired', 'has expired', 'expired'],
    ['digest', 'is about another image', 'not about this manifest'],
    ['stripped', 'was stripped', 'unsigned'],
  ])('%s: is refused where its signature %s', async (file, _, words) => {
    const outcome = await importOutcome(file);
    expect(outcome).toMatchObject({ exit: 5, code: 'requirement-unmet' });
    expect((outcome as { message: string }).message).toContain(words);
    expect(readdirSync(walk.sandbox.path('store', 'blobs', 'sha256'))).toEqual([]);
  });

  it('is refused before anything is written where export is given the policy', async () => {
    const run = await walk.tryExport(
      [`registry.example/team/by:v1=docker://${nameOf('by')}`],
      bundle('never'),
      {
        args: ['--registries-d', at('registries.d'), '--policy', policyFile(), '--json'],
      },
    );
    expect(run.code).toBe(5);
    expect(JSON.parse(run.stdout)).toMatchObject({ error: { code: 'requirement-unmet' } });
    expect(existsSync(bundle('never'))).toBe(false);
    await carry('own', 'passing', ['--policy', policyFile()]);
  });

  it('is refused while the policy that was set is gone, or is another', async () => {
    const kept = walk.sandbox.path('gate', 'policy.json');
    cpSync(kept, at('kept.json'));
    rmSync(kept);
    expect(await importOutcome('own')).toMatchObject({ exit: 5, code: 'policy-missing' });
    writeFileSync(kept, JSON.stringify({ default: [ACCEPT] }));
    expect(await importOutcome('own')).toMatchObject({ exit: 5, code: 'policy-missing' });
    cpSync(at('kept.json'), kept);
  });

  it('is let in with the registry gone, signed by skopeo or by sealift', async () => {
    await registry.stop();
    expect(await importOutcome('own')).toEqual({ exit: 0 });
    expect(await importOutcome('made')).toEqual({ exit: 0 });
  });
});
