/** Evidence that expires between export and import: refused, or accepted and told, as the policy says. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { generateKey, type PrivateKey } from 'openpgp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BundleManifest } from '../../../../core/bundle/manifest.ts';
import { parseRegistriesD } from '../../../../core/evidence/registries-d.ts';
import { DEFAULT_LIMITS } from '../../../../core/limits.ts';
import { type Digest, digestOf } from '../../../../core/oci/digest.ts';
import { SIMPLE_SIGNING_ARTIFACT } from '../../../../core/trust/evidence/media-types.ts';
import { makeSimpleSignature } from '../../../../core/trust/evidence/simple-signing.ts';
import { setPolicy } from '../../../../core/trust/policy/admin.ts';
import { PolicyJudge } from '../../../../core/trust/policy/evaluate.ts';
import { loadPolicy } from '../../../../core/trust/policy/load.ts';
import { singleImage } from '../../../../fixtures/images.ts';
import { DAY, filesOf, makeWorld, START, type World } from '../../../../fixtures/world.ts';

const NAME = 'a.example/team/app:v1';
const image = singleImage();
const LATER = new Date(START.getTime() + 20 * DAY);
let world: World;
let key: PrivateKey;
let signature: Uint8Array;
let stated: string;
let unstated: string;

const requirement = (expiry?: string): Record<string, unknown> => ({
  type: 'signedBy',
  keyType: 'GPGKeys',
  keyData: Buffer.from(key.toPublic().write()).toString('base64'),
  ...(expiry === undefined ? {} : { expiry }),
});

async function demand(expiry?: string): Promise<string> {
  const file = path.join(world.directory, 'policy.json');
  writeFileSync(file, JSON.stringify({ default: [requirement(expiry)] }));
  await setPolicy({ gate: world.gate, file, pid: process.pid, actor: 'tester' }, world.context());
  return file;
}

beforeAll(async () => {
  world = await makeWorld();
  const made = await generateKey({
    userIDs: [{ email: 'short@example.org' }],
    type: 'rsa',
    rsaBits: 2048,
    format: 'object',
    date: new Date(START.getTime() - 10 * DAY),
    keyExpirationTime: (20 * DAY) / 1000,
  });
  key = made.privateKey;
  const base = path.join(world.directory, 'lookaside');
  const place = path.join(base, `team/app@${image.digest.replace(':', '=')}`);
  mkdirSync(place, { recursive: true });
  signature = await makeSimpleSignature(key, NAME, image.digest as Digest, START);
  writeFileSync(path.join(place, 'signature-1'), signature);
  const lookaside = await parseRegistriesD([], base);
  unstated = path.join(world.directory, 'unstated.tar');
  stated = path.join(world.directory, 'stated.tar');
  await world.export({ [NAME]: image }, { file: unstated, lookaside });
  await world.pin(unstated);
  const policy = await demand();
  await world.export({ [NAME]: image }, { file: stated, lookaside, policy });
});
afterAll(() => world.close());

describe('a key that expired on the way', () => {
  it('is stated in the bundle manifest where the export asked a policy, and only then', () => {
    const listed = (file: string) =>
      (JSON.parse(String(filesOf(file).get('sealift.json'))) as BundleManifest).evidence[0]?.verified;
    expect(listed(stated)).toEqual({ signer: key.getFingerprint() });
    expect(listed(unstated)).toBeUndefined();
  });

  // Before the others: what an import has seen, refused or not, makes older bundles unacceptable.
  it('is refused where nobody states that it was good, whatever the policy says', async () => {
    await demand('log');
    const { images, weakened } = await world.verify(unstated, { now: LATER });
    expect(images[0]).toMatchObject({ verdict: 'expired' });
    expect(weakened).toEqual([]);
  });

  it.each([undefined, 'enforce'])('is refused (expiry: %s)', async (expiry) => {
    await demand(expiry);
    const { images } = await world.verify(stated, { now: LATER });
    expect(images[0]).toMatchObject({ verdict: 'expired' });
    await expect(world.import(stated, { now: LATER })).rejects.toMatchObject({ code: 'requirement-unmet' });
  });

  it('is accepted where it was good at the export and the policy says log; and that is told', async () => {
    await demand('log');
    const result = await world.import(stated, { now: LATER });
    expect(result.imported).toEqual([NAME]);
    expect(result.images[0]).toMatchObject({
      verdict: 'verified',
      reason: expect.stringContaining('the carrier found it good on 2026-03-01'),
      requirement: expect.stringContaining('expiry log'),
      evidence: [{ state: 'expired' }],
    });
    expect(result.weakened).toEqual([
      { option: 'expiry log', effect: expect.stringContaining(`${NAME}: evidence sha256:`) },
    ]);
    const log = readFileSync(path.join(world.gate, 'audit.log'), 'utf8');
    expect(log).toMatch(/"event":"weakened","fields":\{[^\n]*expiry log/);
  });
});

describe('a statement alone', () => {
  const decide = async (statement: { signer: string; at: Date } | undefined, payload = signature) => {
    const policy = Buffer.from(JSON.stringify({ default: [requirement('log')] }));
    const judge = new PolicyJudge(loadPolicy(policy, 'policy.json', DEFAULT_LIMITS), LATER);
    const top = { digest: image.digest as Digest, bytes: image.bytes };
    const piece = {
      digest: digestOf(payload),
      artifactType: SIMPLE_SIGNING_ARTIFACT,
      subject: top.digest,
      payloads: [payload],
      statement,
    };
    return judge.judge({ name: NAME, top, children: [], pieces: [piece] });
  };

  it('is enough with a signature that was good then', async () => {
    expect(await decide({ signer: key.getFingerprint(), at: START })).toMatchObject({ allowed: true });
  });
  it.each([
    ['about another signer', '0'.repeat(40), START],
    ['from before the key was made', '', new Date(START.getTime() - 30 * DAY)],
    ['from after it expired', '', new Date(START.getTime() + 15 * DAY)],
    ['from the future', '', new Date(LATER.getTime() + DAY)],
  ])('is not, %s', async (_, signer, at) => {
    const decision = await decide({ signer: signer || key.getFingerprint(), at });
    expect(decision).toMatchObject({ allowed: false, verdict: 'expired' });
  });
  it('is not, for a signature that does not verify', async () => {
    const changed = Buffer.from(signature);
    changed.writeUInt8(changed.readUInt8(changed.length - 20) ^ 1, changed.length - 20);
    const decision = await decide({ signer: key.getFingerprint(), at: START }, changed);
    expect(decision).toMatchObject({ allowed: false, verdict: 'invalid' });
  });
});
