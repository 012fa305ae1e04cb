import { createReadStream, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { isSealiftError } from '../../../../core/errors.ts';
import { parseRegistriesD } from '../../../../core/evidence/registries-d.ts';
import { importBundle } from '../../../../core/import.ts';
import { DEFAULT_LIMITS } from '../../../../core/limits.ts';
import { type Digest, digestOf } from '../../../../core/oci/digest.ts';
import { readKeyring } from '../../../../core/trust/evidence/keyring.ts';
import { SIMPLE_SIGNING_ARTIFACT } from '../../../../core/trust/evidence/media-types.ts';
import { makeSimpleSignature } from '../../../../core/trust/evidence/simple-signing.ts';
import { explainPolicy, setPolicy } from '../../../../core/trust/policy/admin.ts';
import { PolicyJudge } from '../../../../core/trust/policy/evaluate.ts';
import { loadPolicy } from '../../../../core/trust/policy/load.ts';
import { verifyBundle } from '../../../../core/verify.ts';
import { multiArchImage, singleImage } from '../../../../fixtures/images.ts';
import { unlockTestKey } from '../../../../fixtures/keys/test-keys.ts';
import { makeWorld, START, type World } from '../../../../fixtures/world.ts';

const good = singleImage('good');
const bare = singleImage('bare');
const multi = multiArchImage();
let world: World;
let bundle: string;
let policy: unknown;
let policyFile: string;

beforeAll(async () => {
  world = await makeWorld();
  const key = await unlockTestKey('rsa-a');
  const base = path.join(world.directory, 'lookaside');
  const sign = async (name: string, repository: string, digest: string): Promise<void> => {
    const place = path.join(base, `${repository}@${digest.replace(':', '=')}`);
    mkdirSync(place, { recursive: true });
    writeFileSync(
      path.join(place, 'signature-1'),
      await makeSimpleSignature(key, name, digest as Digest, START),
    );
  };
  await sign('a.example/good:1', 'good', good.digest);
  for (const child of multi.children) await sign('a.example/multi:1', 'multi', child.digest);
  bundle = path.join(world.directory, 'bundle.tar');
  const lookaside = await parseRegistriesD([], base);
  await world.export(
    { 'a.example/good:1': good, 'a.example/bare:1': bare, 'a.example/multi:1': multi },
    { file: bundle, lookaside },
  );
  await world.pin(bundle);
  policy = {
    default: [
      {
        type: 'signedBy',
        keyType: 'GPGKeys',
        keyData: Buffer.from(key.toPublic().write()).toString('base64'),
      },
    ],
  };
  policyFile = path.join(world.directory, 'policy.json');
  writeFileSync(policyFile, JSON.stringify(policy));
  await setPolicy({ gate: world.gate, file: policyFile, pid: process.pid, actor: 'tester' }, world.context());
});
afterAll(() => world.close());

const importWith = (options: {
  admitPassing?: boolean;
  stream?: boolean;
  only?: readonly string[];
  store?: string;
}) =>
  importBundle(
    {
      bundle: options.stream
        ? { kind: 'stream', stream: createReadStream(bundle) }
        : { kind: 'file', path: bundle },
      gate: world.gate,
      store: options.store ?? world.store,
      only: options.only ?? [],
      admitPassing: options.admitPassing,
      overrides: { allowClockJump: false },
      concurrency: 2,
      pid: process.pid,
      actor: 'tester',
    },
    world.context(),
  );

async function codeOf(run: Promise<unknown>): Promise<string> {
  try {
    await run;
  } catch (error) {
    if (isSealiftError(error)) return error.code;
    throw error;
  }
  return 'accepted';
}

describe('a policy of the gate', () => {
  it('says of each image what decided', async () => {
    const { images, checks, policy: inUse } = await world.verify(bundle);
    expect(images.map(({ name, verdict }) => [name, verdict])).toEqual([
      ['a.example/bare:1', 'unsigned'],
      ['a.example/good:1', 'verified'],
      ['a.example/multi:1', 'verified'],
    ]);
    expect(images[1]).toMatchObject({
      requirement: expect.stringContaining('signedBy'),
      policyScope: 'default',
    });
    expect(images[2]?.reason).toContain("each platform's manifest");
    expect(checks.find(({ check }) => check === 'policy')).toMatchObject({ status: 'failed' });
    expect(inUse).toMatchObject({ from: 'gate' });
  });

  it('lets nothing in where it refuses one image, and says so in the audit log', async () => {
    expect(await codeOf(importWith({}))).toBe('requirement-unmet');
    expect(readFileSync(path.join(world.gate, 'audit.log'), 'utf8').trimEnd().split('\n').at(-1)).toContain(
      '"requirement-unmet"',
    );
    expect(await codeOf(importWith({ only: ['a.example/bare:1'], admitPassing: true }))).toBe(
      'requirement-unmet',
    );
  });

  it('lets in what passes where that is asked for, from a file and from a stream', async () => {
    for (const stream of [false, true]) {
      const store = path.join(world.directory, `store-${stream}`);
      const result = await importWith({ admitPassing: true, stream, store });
      expect(result.imported).toEqual(['a.example/good:1', 'a.example/multi:1']);
      expect(result.images.map(({ admitted }) => admitted)).toEqual([false, true, true]);
    }
  });

  it('opens no socket while it judges', async () => {
    const connect = vi.spyOn(net.Socket.prototype, 'connect').mockImplementation(() => {
      throw new Error('a socket was opened');
    });
    try {
      const { images } = await world.verify(bundle);
      expect(images[1]?.verdict).toBe('verified');
      expect(connect).not.toHaveBeenCalled();
    } finally {
      connect.mockRestore();
    }
  });

  it('gives way to a file that is named', async () => {
    const file = path.join(world.directory, 'reject.json');
    writeFileSync(file, '{"default": [{"type": "reject"}]}');
    const result = await verifyBundle(
      {
        bundle: { kind: 'file', path: bundle },
        gate: world.gate,
        names: [],
        deep: false,
        policy: file,
        overrides: { allowClockJump: false },
      },
      world.context(),
    );
    expect(result.images.every(({ verdict }) => verdict === 'invalid')).toBe(true);
    expect(result.policy).toMatchObject({ from: 'file' });
  });

  it('is explained', async () => {
    const told = await explainPolicy({ name: 'a.example/good:1', gate: world.gate }, world.context());
    expect(told).toMatchObject({
      scope: 'default',
      from: 'gate',
      requirements: [{ type: 'signedBy', judged: true }],
    });
    expect(told.tried.slice(0, 3)).toEqual(['a.example/good:1', 'a.example/good', 'a.example']);
  });
});

describe('nothing is accepted by absence', () => {
  const decide = async (requirement: unknown, pieces: readonly { artifactType: string }[] = []) => {
    const loaded = loadPolicy(
      Buffer.from(JSON.stringify({ default: [requirement] })),
      'policy.json',
      DEFAULT_LIMITS,
    );
    const top = { digest: good.digest as Digest, bytes: good.bytes };
    const judge = new PolicyJudge(loaded, START);
    return judge.judge({
      name: 'a.example/good:1',
      top,
      children: [],
      pieces: pieces.map((piece, index) => ({
        ...piece,
        digest: digestOf(Buffer.from(`piece ${index}`)),
        subject: top.digest,
        payloads: [Buffer.from('nothing')],
      })),
    });
  };
  const keyed = () => (policy as { default: unknown[] }).default[0];

  it('no signature', async () => {
    expect(await decide(keyed())).toMatchObject({ allowed: false, verdict: 'unsigned' });
  });
  it('a format nobody knows', async () => {
    const decision = await decide(keyed(), [{ artifactType: 'application/x-other' }]);
    expect(decision).toMatchObject({ allowed: false, verdict: 'unsigned' });
  });
  it('something that is no signature', async () => {
    const decision = await decide(keyed(), [{ artifactType: SIMPLE_SIGNING_ARTIFACT }]);
    expect(decision).toMatchObject({ allowed: false, verdict: 'invalid' });
  });
  it('a keyring without keys', async () => {
    const none = { type: 'signedBy', keyType: 'GPGKeys', keyData: 'AAAA' };
    expect(await decide(none)).toMatchObject({
      allowed: false,
      reason: expect.stringContaining('no usable OpenPGP key'),
    });
  });
  it.each(['sigstoreSigned', 'notation'])('a requirement without a verifier: %s', async (type) => {
    const rest = type === 'notation' ? { caPath: '/x', trustedIdentities: ['*'] } : { keyPath: '/x' };
    expect(await decide({ type, ...rest })).toMatchObject({
      allowed: false,
      reason: expect.stringContaining(type),
    });
  });
});

it('a thousand images with three signatures each are judged one by one', async () => {
  const key = await unlockTestKey('rsa-a');
  const signatures = await Promise.all(
    [1, 2, 3].map((tag) => makeSimpleSignature(key, `a.example/good:${tag}`, good.digest as Digest, START)),
  );
  expect((await readKeyring([key.toPublic().write()], DEFAULT_LIMITS)).certificates).toHaveLength(1);
  const judge = new PolicyJudge(
    loadPolicy(Buffer.from(JSON.stringify(policy)), 'policy.json', DEFAULT_LIMITS),
    START,
  );
  const top = { digest: good.digest as Digest, bytes: good.bytes };
  let allowed = 0;
  for (let image = 0; image < 1000; image += 1) {
    const pieces = signatures.map((signature, index) => ({
      digest: digestOf(Buffer.from(`piece ${image} ${index}`)),
      artifactType: SIMPLE_SIGNING_ARTIFACT,
      subject: top.digest,
      payloads: [signature],
    }));
    const decision = await judge.judge({ name: 'a.example/good:3', top, children: [], pieces });
    if (decision.allowed && decision.pieces.size === 3) allowed += 1;
  }
  expect(allowed).toBe(1000);
});
