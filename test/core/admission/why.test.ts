import { appendFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { explainAdmission } from '../../../core/admission/why.ts';
import { parseRegistriesD } from '../../../core/evidence/registries-d.ts';
import type { Digest } from '../../../core/oci/digest.ts';
import { makeSimpleSignature } from '../../../core/trust/evidence/simple-signing.ts';
import { setPolicy } from '../../../core/trust/policy/admin.ts';
import { singleImage } from '../../../fixtures/images.ts';
import { unlockTestKey } from '../../../fixtures/keys/test-keys.ts';
import { makeWorld, START, type World } from '../../../fixtures/world.ts';

const NAME = 'a.example/team/app:v1';
const first = singleImage('first');
const second = singleImage('second');
let world: World;
let signer: string;

const why = (image: string, store = world.store) =>
  explainAdmission({ image, gate: world.gate, store }, world.context());

beforeAll(async () => {
  world = await makeWorld();
  const key = await unlockTestKey('rsa-a');
  signer = key.getFingerprint();
  const base = path.join(world.directory, 'lookaside');
  for (const { digest } of [first, second]) {
    const place = path.join(base, `team/app@${digest.replace(':', '=')}`);
    mkdirSync(place, { recursive: true });
    writeFileSync(
      path.join(place, 'signature-1'),
      await makeSimpleSignature(key, NAME, digest as Digest, START),
    );
  }
  const lookaside = await parseRegistriesD([], base);
  const one = path.join(world.directory, 'one.tar');
  const two = path.join(world.directory, 'two.tar');
  await world.export({ [NAME]: first }, { file: one, lookaside });
  await world.pin(one);
  await world.import(one);
  const keyData = Buffer.from(key.toPublic().write()).toString('base64');
  const policy = path.join(world.directory, 'policy.json');
  writeFileSync(
    policy,
    JSON.stringify({ default: [{ type: 'signedBy', keyType: 'GPGKeys', keyData }] }, undefined, 1),
  );
  await setPolicy({ gate: world.gate, file: policy, pid: process.pid, actor: 'tester' }, world.context());
  await world.export({ [NAME]: second }, { file: two, lookaside });
  await world.import(two);
  await world.import(two);
});
afterAll(() => world.close());

describe('why an image is in', () => {
  it('is told with bundle, role and keys, policy line and signer', async () => {
    const report = await why(`${NAME}@${second.digest}`);
    expect(report.auditWhole).toBe(true);
    expect(report.admissions).toHaveLength(2);
    expect(report.admissions[0]).toMatchObject({
      actor: 'tester',
      name: NAME,
      digest: second.digest,
      bundle: path.join(world.directory, 'two.tar'),
      store: world.store,
      collectionName: 'test',
      version: 3,
      role: 'images',
      threshold: 1,
      keys: [expect.stringMatching(/^[0-9a-f]{64}$/)],
      policy: { scope: 'default', requirement: expect.stringMatching(/^line \d+: signedBy/) },
      signers: [{ format: 'simple-signing', signer }],
    });
    expect(report.store.images).toMatchObject([{ name: NAME, digest: second.digest, bundleVersion: 3 }]);
  });

  it('is told of what is not in any more, and of what came in without a policy', async () => {
    const report = await why(`a.example/team/app@${first.digest}`);
    expect(report.admissions).toHaveLength(1);
    expect(report.admissions[0]?.policy).toBeUndefined();
    expect(report.store.images).toEqual([]);
  });

  it('is found by name for all digests, and by digest for all names', async () => {
    const digests = (await why(NAME)).admissions.map(({ digest }) => digest);
    expect(digests).toEqual([first.digest, second.digest, second.digest]);
    expect((await why(second.digest)).admissions).toHaveLength(2);
  });

  it('is told from the log alone where the store is gone', async () => {
    const report = await why(NAME, path.join(world.directory, 'nowhere'));
    expect(report.admissions).toHaveLength(3);
    expect(report.store.images).toEqual([]);
  });

  it.each([
    ['another name', 'a.example/team/other:v1'],
    ['another tag', 'a.example/team/app:v2'],
    ['another digest', `${NAME}@sha256:${'0'.repeat(64)}`],
  ])('is not told of %s', async (_, image) => {
    await expect(why(image)).rejects.toMatchObject({ code: 'name-not-found' });
  });

  it('says so where the log was changed', async () => {
    const log = path.join(world.gate, 'audit.log');
    const before = readFileSync(log);
    writeFileSync(log, String(before).replaceAll('two.tar', 'own.tar'));
    const report = await why(`${NAME}@${second.digest}`);
    expect(report.auditWhole).toBe(false);
    rmSync(log);
    appendFileSync(log, before);
    expect((await why(NAME)).auditWhole).toBe(true);
  });
});
