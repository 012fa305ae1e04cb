/** What people do with policies: check one, ask what it says of a name, set the gate's. */
import { createHash } from 'node:crypto';
import type { Context } from '../../context.ts';
import { SealiftError } from '../../errors.ts';
import { openGate } from '../../gate/gate.ts';
import { readGatePolicy, writeGatePolicy } from '../../gate/policy-file.ts';
import { formatReference, imageName, parseReference } from '../../oci/reference.ts';
import { inlineKeys, type LoadedPolicy, loadPolicy, loadPolicyFile, readPolicyFile } from './load.ts';
import { type Requirement, requirementText, UNJUDGED_TYPES } from './policy.ts';
import { findScope, scopeText } from './scopes.ts';

export interface RequirementSummary {
  /** In the file, from 1. */
  readonly line: number;
  readonly type: string;
  readonly text: string;
  /** False where this sealift refuses the requirement whatever evidence there is. */
  readonly judged: boolean;
  /** Why the requirement cannot be met: keys that are not there. */
  readonly problem?: string | undefined;
}

export interface PolicyCheck {
  readonly policy: string;
  readonly sha256: string;
  readonly scopes: number;
  readonly requirements: readonly RequirementSummary[];
}

export interface PolicyExplanation {
  readonly name: string;
  readonly policy: string;
  readonly from: 'gate' | 'file';
  readonly sha256: string;
  /** The scope that applies, in words. */
  readonly scope: string;
  /** Scopes that were looked for, the most specific first. */
  readonly tried: readonly string[];
  readonly requirements: readonly RequirementSummary[];
}

export interface PolicySetResult {
  readonly gate: string;
  /** Of the policy as the gate keeps it; absent where it was taken away. */
  readonly sha256?: string | undefined;
  readonly auditHead: string;
}

/**
 * Reads a policy and all keys it names.
 * @throws SealiftError `policy-invalid`, `invalid-argument`
 */
export async function checkPolicy(file: string, context: Context): Promise<PolicyCheck> {
  const loaded = await loadPolicyFile(file, context.limits);
  const { policy } = loaded;
  const scopes = [...policy.transports.values()].flatMap((found) => [...found.values()]);
  return {
    policy: file,
    sha256: loaded.sha256,
    scopes: scopes.length,
    requirements: await summarise([...policy.default, ...scopes.flat()], loaded),
  };
}

/**
 * Which scope of a policy applies to a name, and what it demands.
 * @param options `policy`: a file; the gate's policy where it is absent
 * @throws SealiftError `policy-missing`, `policy-invalid`; `invalid-argument` where there is no policy
 */
export async function explainPolicy(
  options: { readonly name: string; readonly gate: string; readonly policy?: string | undefined },
  context: Context,
): Promise<PolicyExplanation> {
  const name = imageName(parseReference(formatReference(parseReference(options.name))));
  const { loaded, file, from } = await findLoaded(options, context);
  const { scope, requirements, tried } = findScope(loaded.policy, name);
  return {
    name,
    policy: file,
    from,
    sha256: loaded.sha256,
    scope: scopeText(scope),
    tried: tried.map((text) => (text === '' ? 'all names' : text)),
    requirements: await summarise(requirements, loaded),
  };
}

async function findLoaded(
  options: { readonly gate: string; readonly policy?: string | undefined },
  context: Context,
): Promise<{ loaded: LoadedPolicy; file: string; from: 'gate' | 'file' }> {
  if (options.policy !== undefined)
    return {
      loaded: await loadPolicyFile(options.policy, context.limits),
      file: options.policy,
      from: 'file',
    };
  const kept = await readGatePolicy(options.gate);
  if (!kept) {
    throw new SealiftError(
      'invalid-argument',
      'no policy is set in this gate, so the collection alone decides',
      {
        subject: options.gate,
        hint: 'name a file with --policy, or set one: sealift policy set FILE',
      },
    );
  }
  return { loaded: loadPolicy(kept.bytes, kept.file, context.limits), file: kept.file, from: 'gate' };
}

async function summarise(
  requirements: readonly Requirement[],
  loaded: LoadedPolicy,
): Promise<readonly RequirementSummary[]> {
  const summaries: RequirementSummary[] = [];
  for (const requirement of requirements) {
    const { line, type } = requirement;
    const unjudged: readonly string[] = UNJUDGED_TYPES;
    const judged =
      !unjudged.includes(type) && (requirement.type !== 'signedBy' || requirement.keyType === 'GPGKeys');
    const keyring = requirement.type === 'signedBy' && judged ? await loaded.keyring(requirement) : undefined;
    summaries.push({
      line,
      type,
      text: requirementText(requirement),
      judged,
      ...(keyring instanceof SealiftError ? { problem: keyring.message } : {}),
    });
  }
  return summaries;
}

/**
 * Sets the policy of a gate, with the keys of `signedBy` in it; or takes it away where `file` is undefined.
 * @throws SealiftError `policy-invalid`; `signature-invalid` for a keyring without a usable key; `not-pinned` where there is no gate
 */
export async function setPolicy(
  options: {
    readonly gate: string;
    readonly file: string | undefined;
    readonly pid: number;
    readonly actor: string;
  },
  context: Context,
): Promise<PolicySetResult> {
  const { file, actor } = options;
  const original = file === undefined ? undefined : await readPolicyFile(file);
  const bytes = original && file !== undefined ? await inlineKeys(original, file, context.limits) : undefined;
  const gate = await openGate(options.gate, { create: false });
  const lock = await gate.lock(options.pid);
  try {
    const sha256 = bytes && createHash('sha256').update(bytes).digest('hex');
    // Told first: better an entry for a change that a crash has prevented than a change without an entry.
    const auditHead = await gate.audit({
      now: context.now,
      actor,
      event: 'policy',
      fields: sha256 === undefined ? { cleared: true } : { file: file ?? '', sha256 },
    });
    await writeGatePolicy(gate.directory, bytes, context.now);
    return { gate: gate.directory, sha256, auditHead };
  } finally {
    await lock.release();
  }
}
