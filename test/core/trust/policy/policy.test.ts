import { describe, expect, it } from 'vitest';
import { isSealiftError } from '../../../../core/errors.ts';
import { DEFAULT_LIMITS } from '../../../../core/limits.ts';
import { identityMatches } from '../../../../core/trust/policy/identity.ts';
import { type Policy, parsePolicy, type SignedIdentity } from '../../../../core/trust/policy/policy.ts';
import { findScope, scopesOf } from '../../../../core/trust/policy/scopes.ts';

const read = (text: string): Policy => parsePolicy(Buffer.from(text), 'policy.json', DEFAULT_LIMITS);
const withRequirement = (requirement: unknown): string =>
  `{\n  "default": [{"type": "reject"}],\n  "transports": {"docker": {"a.example":\n    [${JSON.stringify(requirement)}]\n  }}\n}`;

function refusal(text: string): string {
  try {
    read(text);
  } catch (error) {
    if (isSealiftError(error) && error.code === 'policy-invalid') return error.message;
    throw error;
  }
  return 'accepted';
}

const KEY = { type: 'signedBy', keyType: 'GPGKeys', keyData: 'mQENBA==' };

describe('a policy is read strictly', () => {
  it.each([
    ['text that is no JSON', '{\n"default": [,]\n}', /line 2/],
    [
      'a key that stands twice',
      '{\n"default": [{"type": "reject"}],\n"default": [{"type": "reject"}]}',
      /line 3.*twice/,
    ],
    ['no default', '{"transports": {}}', /no "default"/],
    ['an empty default', '{"default": []}', /empty list/],
    ['an unknown field', '{"default": [{"type": "reject"}],\n"extra": 1}', /line 2.*unknown field "extra"/],
    ['an unknown type', withRequirement({ type: 'trustMe' }), /line 4.*trustMe/],
    ['a requirement without a type', withRequirement({}), /no "type"/],
    ['an unknown field of a requirement', withRequirement({ type: 'reject', why: 1 }), /unknown field "why"/],
    ['no keys', withRequirement({ type: 'signedBy', keyType: 'GPGKeys' }), /exactly one of keyPath/],
    ['two kinds of keys', withRequirement({ ...KEY, keyPath: '/a' }), /keyPath and keyData/],
    [
      'an empty list of keys',
      withRequirement({ type: 'signedBy', keyType: 'GPGKeys', keyPaths: [] }),
      /empty list/,
    ],
    ['an unknown type of keys', withRequirement({ ...KEY, keyType: 'Keys' }), /keyType/],
    ['keys that are not base64', withRequirement({ ...KEY, keyData: '*' }), /base64/],
    ['an unknown matcher', withRequirement({ ...KEY, signedIdentity: { type: 'matchAll' } }), /matchAll/],
    [
      'an exact reference without a tag',
      withRequirement({ ...KEY, signedIdentity: { type: 'exactReference', dockerReference: 'a.example/b' } }),
      /tag or digest/,
    ],
    [
      'a remap to something with a tag',
      withRequirement({
        ...KEY,
        signedIdentity: { type: 'remapIdentity', prefix: 'a.example', signedPrefix: 'b/c:1' },
      }),
      /signedPrefix/,
    ],
    [
      'a relative path as a scope',
      '{"default": [{"type": "reject"}], "transports": {"dir": {"a/b": [{"type": "reject"}]}}}',
      /absolute path/,
    ],
    [
      'sigstoreSigned without a root of trust',
      withRequirement({ type: 'sigstoreSigned' }),
      /exactly one of keyPath/,
    ],
    [
      'fulcio without a key of Rekor',
      withRequirement({
        type: 'sigstoreSigned',
        fulcio: { caPath: '/a', oidcIssuer: 'https://i', subjectEmail: 'a@b' },
      }),
      /Rekor/,
    ],
    [
      'an attestation without a signer',
      withRequirement({ type: 'attestation', predicateType: 'https://x' }),
      /no "signer"/,
    ],
    [
      'a condition of two kinds',
      withRequirement({
        type: 'attestation',
        predicateType: 'https://x',
        signer: KEY,
        conditions: [{ pointer: '/a', equals: 1, in: [1] }],
      }),
      /exactly one of equals/,
    ],
    ['an age of no days', withRequirement({ type: 'maxAge', days: 0 }), /at least 1/],
  ])('%s is refused', (_, text, message) => {
    expect(refusal(text)).toMatch(message);
  });

  it.each([
    ['insecureAcceptAnything', { type: 'insecureAcceptAnything' }],
    ['signedBy', KEY],
    [
      'sigstoreSigned',
      { type: 'sigstoreSigned', keyPath: '/a', signedIdentity: { type: 'matchRepository' } },
    ],
    ['signedBaseLayer', { type: 'signedBaseLayer', baseLayerIdentity: { type: 'matchExact' } }],
    ['notation', { type: 'notation', caPath: '/ca', trustedIdentities: ['*'], expiry: 'log' }],
    ['contentTrust', { type: 'contentTrust', rootKeyIds: ['ab'], expiry: 'enforce' }],
    [
      'attestation',
      {
        type: 'attestation',
        predicateType: 'https://slsa.dev/provenance/v1',
        signer: KEY,
        conditions: [{ pointer: '/a~1b', matches: '^x' }],
      },
    ],
    ['provenance', { type: 'provenance', builders: ['https://b'], signer: KEY }],
    ['certifiedBy', { type: 'certifiedBy', keyPaths: ['/a'], threshold: 2 }],
    ['maxAge', { type: 'maxAge', days: 30, of: 'signature' }],
  ])('%s has a grammar', (type, requirement) => {
    const policy = read(withRequirement(requirement));
    expect(policy.transports.get('docker')?.get('a.example')?.[0]).toMatchObject({ type, line: 4 });
  });
});

describe('the most specific scope applies, alone', () => {
  it('goes from the name over its parents to domains with a wildcard', () => {
    expect(scopesOf('r.a.example:5000/ns/app:1')).toEqual([
      'r.a.example:5000/ns/app:1',
      'r.a.example:5000/ns/app',
      'r.a.example:5000/ns',
      'r.a.example:5000',
      '*.a.example',
      '*.example',
      '',
    ]);
    expect(scopesOf('busybox')).toContain('docker.io/library/busybox:latest');
  });

  it('falls back to default, and not from a scope to its parent', () => {
    const policy = read(
      '{"default": [{"type": "reject"}], "transports": {"docker": {"a.example/b": [{"type": "insecureAcceptAnything"}]}}}',
    );
    expect(findScope(policy, 'a.example/b:1')).toMatchObject({ scope: 'a.example/b' });
    expect(findScope(policy, 'a.example/bb:1')).toMatchObject({
      scope: undefined,
      requirements: [{ type: 'reject' }],
    });
  });
});

describe('signedIdentity', () => {
  const DIGEST = `sha256:${'ab'.repeat(32)}`;
  const identity = (value: object): SignedIdentity => {
    const [requirement] =
      read(withRequirement({ ...KEY, signedIdentity: value }))
        .transports.get('docker')
        ?.get('a.example') ?? [];
    if (requirement?.type !== 'signedBy') throw new Error('no signedBy');
    return requirement.identity;
  };
  const remap = (prefix: string, signedPrefix: string) => ({ type: 'remapIdentity', prefix, signedPrefix });
  it.each([
    [{ type: 'matchExact' }, 'a.example/b:1', 'a.example/b:1', true],
    [{ type: 'matchExact' }, 'a.example/b:1', 'a.example/b:2', false],
    [{ type: 'matchExact' }, 'a.example/b:1', 'a.example/b', false],
    [{ type: 'matchExact' }, 'docker.io/library/b:1', 'b:1', true],
    [{ type: 'matchRepoDigestOrExact' }, `a.example/b@${DIGEST}`, 'a.example/b:7', true],
    [{ type: 'matchRepoDigestOrExact' }, `a.example/b@${DIGEST}`, 'a.example/b', false],
    [{ type: 'matchRepoDigestOrExact' }, `a.example/b@${DIGEST}`, 'a.example/c:7', false],
    [{ type: 'matchRepoDigestOrExact' }, 'a.example/b:1', 'a.example/b:7', false],
    [{ type: 'matchRepository' }, 'a.example/b:1', 'a.example/b', true],
    [{ type: 'matchRepository' }, 'a.example/b:1', 'a.example/bb:1', false],
    [{ type: 'matchRepository' }, 'a.example/b:1', 'NOT A NAME', false],
    [{ type: 'exactReference', dockerReference: 'x.example/y:3' }, 'a.example/b:1', 'x.example/y:3', true],
    [{ type: 'exactReference', dockerReference: 'x.example/y:3' }, 'a.example/b:1', 'a.example/b:1', false],
    [{ type: 'exactRepository', dockerRepository: 'x.example/y' }, 'a.example/b:1', 'x.example/y:9', true],
    [remap('a.example', 'x.example'), 'a.example/b:1', 'x.example/b:1', true],
    [remap('a.example', 'x.example'), 'a.example/b:1', 'a.example/b:1', false],
    [remap('a.example/b', 'x.example/y'), 'a.example/bb:1', 'a.example/bb:1', true],
    [remap('a.example/b', 'x.example/y'), 'a.example/b:1', 'x.example/y:1', true],
    [remap('a.example', 'short'), 'a.example/b:1', 'short/b:1', false],
  ])('%j: image %s, signature for %s: %s', (value, name, claimed, want) => {
    expect(identityMatches(identity(value), name, claimed)).toBe(want);
  });
});
