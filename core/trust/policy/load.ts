/** Policies with their keys: read once, so that judging a thousand images opens no file. */
import { createHash } from 'node:crypto';
import path from 'node:path';
import { inert, isSealiftError, SealiftError, toSealiftError } from '../../errors.ts';
import { readFileLimited } from '../../fs/durable.ts';
import type { Limits } from '../../limits.ts';
import { binaryKeyring, type Keyring, readKeyring } from '../evidence/keyring.ts';
import { type KeySource, MAX_POLICY_BYTES, type Policy, parsePolicy, type Requirement } from './policy.ts';

export interface LoadedPolicy {
  readonly policy: Policy;
  /** Of the file, lower-case hex. */
  readonly sha256: string;
  /** Keys of a requirement, or why there are none: then it refuses. */
  keyring(requirement: Requirement): Promise<Keyring | SealiftError>;
}

/**
 * Reads a policy file.
 * @throws SealiftError `policy-invalid`; `invalid-argument` where there is no such file
 */
export async function loadPolicyFile(file: string, limits: Limits): Promise<LoadedPolicy> {
  return loadPolicy(await readPolicyFile(file), file, limits);
}

/** @throws SealiftError `invalid-argument` where there is no such file */
export async function readPolicyFile(file: string): Promise<Uint8Array> {
  const bytes = await readFileLimited(file, MAX_POLICY_BYTES + 1).catch((error: unknown) => {
    throw toSealiftError(error).with({ subject: inert(file) });
  });
  if (!bytes)
    throw new SealiftError('invalid-argument', 'there is no policy at that place', { subject: inert(file) });
  return bytes;
}

/**
 * A policy from its bytes; paths of keys are relative to the directory of `file`.
 * @throws SealiftError `policy-invalid`
 */
export function loadPolicy(bytes: Uint8Array, file: string, limits: Limits): LoadedPolicy {
  const policy = parsePolicy(bytes, file, limits);
  const keyrings = new Map<Requirement, Promise<Keyring | SealiftError>>();
  return {
    policy,
    sha256: createHash('sha256').update(bytes).digest('hex'),
    keyring(requirement) {
      const known = keyrings.get(requirement);
      if (known) return known;
      const reading = openKeyring(requirement, file, limits).catch((error: unknown) => toSealiftError(error));
      keyrings.set(requirement, reading);
      return reading;
    },
  };
}

async function openKeyring(requirement: Requirement, file: string, limits: Limits): Promise<Keyring> {
  if (requirement.type !== 'signedBy') throw new SealiftError('internal', 'a requirement without keys');
  return readKeyring(await readKeys(requirement.keys, file, limits), limits);
}

async function readKeys(keys: KeySource, file: string, limits: Limits): Promise<readonly Uint8Array[]> {
  if (keys.kind === 'data') return keys.data.map((text) => Buffer.from(text, 'base64'));
  return Promise.all(
    keys.paths.map(async (name) => {
      const place = path.resolve(path.dirname(file), name);
      const bytes = await readFileLimited(place, limits.certificate * 4).catch((error: unknown) => {
        throw isSealiftError(error)
          ? error
          : new SealiftError('signature-invalid', `key file cannot be read: ${inert(place)}`);
      });
      if (!bytes) throw new SealiftError('signature-invalid', `there is no key file ${inert(place)}`);
      return bytes;
    }),
  );
}

/**
 * The policy with the keys of `signedBy` in it instead of their paths: what a gate keeps, so that nobody changes
 * what is accepted by changing a file elsewhere.
 * @throws SealiftError `policy-invalid`; `signature-invalid` where a keyring is not there or holds no usable key
 */
export async function inlineKeys(bytes: Uint8Array, file: string, limits: Limits): Promise<Uint8Array> {
  parsePolicy(bytes, file, limits);
  const value = JSON.parse(Buffer.from(bytes).toString('utf8')) as {
    default: unknown[];
    transports?: Record<string, Record<string, unknown[]>>;
  };
  const lists = [
    value.default,
    ...Object.values(value.transports ?? {}).flatMap((scopes) => Object.values(scopes)),
  ];
  for (const list of lists) {
    for (const item of list) {
      const requirement = item as { type: string; keyPath?: string; keyPaths?: string[]; keyData?: string };
      if (requirement.type !== 'signedBy') continue;
      const { keyPath, keyPaths, keyData } = requirement;
      const source: KeySource =
        keyData !== undefined
          ? { kind: 'data', data: [keyData] }
          : { kind: 'paths', paths: keyPaths ?? [keyPath ?? ''] };
      const rings = await readKeys(source, file, limits);
      await readKeyring(rings, limits);
      if (keyData !== undefined) continue;
      delete requirement.keyPath;
      delete requirement.keyPaths;
      const binary = await Promise.all(rings.map((ring) => binaryKeyring(ring)));
      requirement.keyData = Buffer.concat(binary).toString('base64');
    }
  }
  return Buffer.from(`${JSON.stringify(value, undefined, 2)}\n`);
}
