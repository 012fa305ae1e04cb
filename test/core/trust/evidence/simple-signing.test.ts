import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { isSealiftError } from '../../../../core/errors.ts';
import { DEFAULT_LIMITS } from '../../../../core/limits.ts';
import { digestOf } from '../../../../core/oci/digest.ts';
import { readKeyring } from '../../../../core/trust/evidence/keyring.ts';
import { SIMPLE_SIGNING_ARTIFACT } from '../../../../core/trust/evidence/media-types.ts';
import {
  parsePayload,
  verifyEnvelope,
  verifySimpleSignature,
} from '../../../../core/trust/evidence/simple-signing.ts';
import { PolicyJudge } from '../../../../core/trust/policy/evaluate.ts';
import { identityMatches } from '../../../../core/trust/policy/identity.ts';
import { loadPolicy } from '../../../../core/trust/policy/load.ts';

/** Signed data of other programs; not part of this repository. */
const VECTORS = path.resolve(import.meta.dirname, '../../../../../shared/vectors/containers-image');
const NOW = new Date('2026-03-01T00:00:00Z');
const SIGNER = '08cd26e446e2e95249b7a405e932f44b23e8dd43';
const file = (name: string): Buffer => {
  const bytes = readFileSync(path.join(VECTORS, name));
  // Links came along as files that hold the path they point to.
  return bytes.length < 200 && bytes.subarray(0, 3).toString() === '../'
    ? file(path.join(path.dirname(name), bytes.toString().trim()))
    : bytes;
};

/** Signatures of another format in the same place: none of them is one of OpenPGP. */
function cosignDirectories(): readonly string[] {
  if (!existsSync(VECTORS)) return [];
  return readdirSync(VECTORS).filter(
    (name) => name.startsWith('dir-img-cosign-') && existsSync(path.join(VECTORS, name, 'manifest.json')),
  );
}

async function outcome(signature: Uint8Array, manifest: Uint8Array, key: string): Promise<string> {
  const keyring = await readKeyring([file(key)], DEFAULT_LIMITS);
  try {
    const subject = { digest: digestOf(manifest), bytes: manifest };
    const verified = await verifySimpleSignature(signature, subject, keyring, NOW);
    return `${verified.claimedName} by ${verified.signer}`;
  } catch (error) {
    if (isSealiftError(error)) return error.code;
    throw error;
  }
}

describe.skipIf(!existsSync(VECTORS))('signatures of containers/image (needs ../shared/vectors)', () => {
  it.each([
    ['image.signature', 'public-key.gpg', `testing/manifest by ${SIGNER}`],
    ['image.signature', 'public-key-1.gpg', `testing/manifest by ${SIGNER}`],
    ['no-optional-fields.signature', 'public-key.gpg', `testing/manifest by ${SIGNER}`],
    [
      'subkey.signature',
      'public-key-with-subkey.gpg',
      'testing/manifest:latest by b9f4cdb9fd8c475bfa340ac38d54a947ee396f36',
    ],
    [
      'subkey.signature-v3',
      'public-key-with-subkey.gpg',
      'testing/manifest:latest by b9f4cdb9fd8c475bfa340ac38d54a947ee396f36',
    ],
    ['image.signature', 'public-key-2.gpg', 'signature-invalid'],
    ['corrupt.signature', 'public-key.gpg', 'signature-invalid'],
    ['corrupt.signature-v3', 'public-key.gpg', 'signature-invalid'],
    ['expired.signature', 'public-key.gpg', 'signature-expired'],
    ['invalid-blob.signature', 'public-key.gpg', 'signature-invalid'],
    ['invalid-blob.signature-v3', 'public-key.gpg', 'signature-invalid'],
    ['invalid-cleartext.signature', 'public-key.gpg', 'signature-invalid'],
    ['subkey-revoked.signature', 'public-key-with-revoked-subkey.gpg', 'key-revoked'],
    ['subkey-revoked.signature-v3', 'public-key-with-revoked-subkey.gpg', 'key-revoked'],
    ['unknown-key.signature', 'public-key.gpg', 'signature-invalid'],
    ['unknown-key.signature-v3', 'public-key.gpg', 'signature-invalid'],
    ['unsigned-encrypted.signature', 'public-key.gpg', 'signature-invalid'],
    ['unsigned-literal.signature', 'public-key.gpg', 'signature-invalid'],
    ['unknown-cosign-key.signature', 'public-key.gpg', 'signature-invalid'],
  ])('%s with %s: %s', async (name, key, want) => {
    expect(await outcome(file(name), file('image.manifest.json'), key)).toBe(want);
  });

  it('of version 3 in invalid-blob is a good signature over something that is no JSON', async () => {
    const keyring = await readKeyring([file('public-key.gpg')], DEFAULT_LIMITS);
    const { content } = await verifyEnvelope(file('invalid-blob.signature-v3'), keyring, NOW);
    expect(Buffer.from(content).toString()).toBe('This is not JSON\n');
  });

  it('for a name that is no reference match nothing', async () => {
    const claimed = await outcome(
      file('invalid-reference.signature'),
      file('image.manifest.json'),
      'public-key.gpg',
    );
    expect(claimed).toBe(`UPPERCASEISINVALID by ${SIGNER}`);
    for (const type of ['matchExact', 'matchRepoDigestOrExact', 'matchRepository'] as const)
      expect(
        identityMatches({ type }, 'docker.io/library/uppercaseisinvalid:latest', 'UPPERCASEISINVALID'),
      ).toBe(false);
  });

  it.each([
    ['dir-img-valid', 'signature-1', true],
    ['dir-img-valid-2', 'signature-1', true],
    ['dir-img-valid-2', 'signature-2', true],
    ['dir-img-mixed', 'signature-1', false],
    ['dir-img-mixed', 'signature-2', true],
    ['dir-img-modified-manifest', 'signature-1', false],
  ])('%s/%s verifies: %s', async (directory, name, good) => {
    const found = await outcome(
      file(`${directory}/${name}`),
      file(`${directory}/manifest.json`),
      'public-key.gpg',
    );
    expect(found.endsWith(SIGNER)).toBe(good);
  });

  it.each([
    ['dir-img-valid', 'public-key.gpg', 'verified'],
    ['dir-img-valid-2', 'public-key.gpg', 'verified'],
    ['dir-img-valid-subkey', 'public-key-with-subkey.gpg', 'verified'],
    ['dir-img-mixed', 'public-key.gpg', 'verified'],
    ['dir-img-unsigned', 'public-key.gpg', 'unsigned'],
    ['dir-img-modified-manifest', 'public-key.gpg', 'invalid'],
    ['dir-img-manifest-digest-error', 'public-key.gpg', 'invalid'],
    ['dir-img-valid', 'public-key-2.gpg', 'invalid'],
    ...cosignDirectories().map((name) => [name, 'public-key.gpg', 'invalid'] as const),
  ] as const)('%s is, for a policy with %s, %s', async (directory, key, verdict) => {
    const requirement = {
      type: 'signedBy',
      keyType: 'GPGKeys',
      keyData: file(key).toString('base64'),
      signedIdentity: { type: 'exactRepository', dockerRepository: 'testing/manifest' },
    };
    const policy = Buffer.from(JSON.stringify({ default: [requirement] }));
    const judge = new PolicyJudge(loadPolicy(policy, 'policy.json', DEFAULT_LIMITS), NOW);
    const manifest = file(`${directory}/manifest.json`);
    const top = { digest: digestOf(manifest), bytes: manifest };
    const names = readdirSync(path.join(VECTORS, directory)).filter((name) => name.startsWith('signature-'));
    const pieces = names.map((name) => ({
      digest: digestOf(Buffer.from(name)),
      artifactType: SIMPLE_SIGNING_ARTIFACT,
      subject: top.digest,
      payloads: [file(`${directory}/${name}`)],
    }));
    const name = 'docker.io/testing/manifest:latest';
    const decision = await judge.judge({ name, top, children: [], pieces });
    expect([decision.verdict, decision.allowed]).toEqual([verdict, verdict === 'verified']);
  });

  it('the example of a policy is read, and rejects what it does not name', async () => {
    const loaded = loadPolicy(file('policy.json'), 'policy.json', DEFAULT_LIMITS);
    const judge = new PolicyJudge(loaded, NOW);
    const top = { digest: digestOf(Buffer.from('x')), bytes: Buffer.from('x') };
    const verdict = async (name: string) =>
      (await judge.judge({ name, top, children: [], pieces: [] })).allowed;
    expect(await verdict('example.com/playground:1')).toBe(true);
    for (const name of ['example.com/hardened:1', 'example.com/hardened-x509:1', 'other.example/x:1'])
      expect(await verdict(name)).toBe(false);
  });

  it('never say something else with one byte changed', async () => {
    const bytes = file('image.signature');
    const manifest = file('image.manifest.json');
    for (let at = 0; at < bytes.length; at += 13) {
      const changed = Buffer.from(bytes);
      changed.writeUInt8(changed.readUInt8(at) ^ 0x20, at);
      const found = await outcome(changed, manifest, 'public-key.gpg');
      // Octets that nobody signed (a file name, a date beside the content) may change; what it says may not.
      const harmless = ['signature-invalid', 'weak-algorithm', `testing/manifest by ${SIGNER}`];
      expect(harmless, `byte ${at}`).toContain(found);
    }
  });

  it('an empty keyring accepts nobody', async () => {
    await expect(readKeyring([new Uint8Array()], DEFAULT_LIMITS)).rejects.toThrow('no usable OpenPGP key');
  });
});

describe('what was signed', () => {
  const DIGEST = `sha256:${'ab'.repeat(32)}`;
  const good = {
    critical: {
      type: 'atomic container signature',
      image: { 'docker-manifest-digest': DIGEST },
      identity: { 'docker-reference': 'a/b:1' },
    },
    optional: { creator: 'x', timestamp: 1, other: [{}] },
  };
  const read = (value: unknown): unknown =>
    parsePayload(Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)));
  it('is read', () => {
    expect(read(good)).toMatchObject({ reference: 'a/b:1', digest: DIGEST, timestamp: 1 });
  });
  const { critical, optional } = good;
  it.each<[string, unknown]>([
    ['no optional', { critical }],
    ['something beside critical and optional', { ...good, more: 1 }],
    ['an unknown critical field', { critical: { ...critical, more: 1 }, optional }],
    ['another type', { critical: { ...critical, type: 'other' }, optional }],
    ['no identity', { critical: { type: critical.type, image: critical.image }, optional }],
    ['two names', { critical: { ...critical, identity: { 'docker-reference': 'a', x: 'b' } }, optional }],
    [
      'a digest that is none',
      { critical: { ...critical, image: { 'docker-manifest-digest': 'sha256:ab' } }, optional },
    ],
    ['a creator that is no text', { critical, optional: { creator: 1 } }],
    ['a fraction of a second', { critical, optional: { timestamp: 1.5 } }],
    ['a field that stands twice', JSON.stringify(good).replace('{"critical"', '{"optional":{},"critical"')],
    ['data behind it', `${JSON.stringify(good)} {}`],
  ])('with %s is refused', (_, value) => {
    expect(() => read(value)).toThrow(expect.objectContaining({ code: 'signature-invalid' }));
  });
});
