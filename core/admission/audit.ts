/** What the audit log of a gate says of an import (docs/state.md): enough to tell years later why an image is in. */
import type { Context } from '../context.ts';
import type { DeviceFacts } from '../fs/device.ts';
import type { Gate } from '../gate/gate.ts';
import type { PolicyInForce, TrustJudgement } from '../judge.ts';
import { mediaFields } from '../media.ts';
import type { ApprovalSummary, ImageVerdict } from '../results.ts';
import { nameOf } from '../verify.ts';
import type { ImportOptions } from '../workflow-options.ts';

/** What was decided about the images that were asked for. */
export interface Decided {
  readonly chosen: readonly ImageVerdict[];
  readonly refused: readonly ImageVerdict[];
  readonly policy: PolicyInForce | undefined;
  readonly approvals: readonly ApprovalSummary[];
  /** Names that are in the store, or at a destination, and have been withdrawn. */
  readonly withdrawn: readonly string[];
  /** Places that are filled straight from the bundle. */
  readonly destinations?: readonly string[] | undefined;
}

/**
 * Writes the entries `removed`, where names go, and `import`.
 * @returns the head of the log
 */
export async function auditImport(
  gate: Gate,
  trust: TrustJudgement,
  { chosen, refused, policy, approvals, withdrawn, destinations }: Decided,
  options: ImportOptions,
  media: readonly DeviceFacts[],
  context: Context,
): Promise<string> {
  const { now } = context;
  const { actor } = options;
  if (withdrawn.length > 0) {
    await gate.audit({
      now,
      actor,
      event: 'removed',
      fields: {
        collection: trust.collectionId,
        names: [...withdrawn],
        withdrawn: trust.withdrawn
          .filter(({ name }) => withdrawn.includes(name))
          .map(({ name, digest, reason, at }) => ({ name, digest, reason, at })),
      },
    });
  }
  const roles = new Set(chosen.map(({ role }) => role));
  return gate.audit({
    now,
    actor,
    event: 'import',
    fields: {
      collection: trust.collectionId,
      collectionName: trust.collection.name,
      version: trust.collection.version,
      bundle: nameOf(options.bundle),
      ...(options.store === undefined ? {} : { store: options.store }),
      ...(destinations === undefined ? {} : { destinations: [...destinations] }),
      roles: trust.collection.roles
        .filter(({ role }) => roles.has(role))
        .map(({ role, version, threshold, keys }) => ({
          role,
          version,
          threshold,
          keys: keys.map(({ fingerprint, keyId }) => fingerprint ?? keyId),
        })),
      images: chosen.map((image) => imageFields(image, chosen.length <= MOST_DETAILED)),
      ...(policy ? { policy: policy.loaded.sha256 } : {}),
      ...(approvals.length > 0 ? { approvals: approvals.map((one) => ({ ...one })) } : {}),
      ...mediaFields(media),
      ...(refused.length > 0
        ? { refused: refused.map(({ name, digest, reason }) => ({ name, digest, reason })) }
        : {}),
    },
  });
}

/** Above this number of images only names, digests and roles: a line of the log has a limit. */
const MOST_DETAILED = 10_000;

function imageFields(image: ImageVerdict, detailed: boolean) {
  const { name, digest, role, reason, policyScope, requirement, evidence } = image;
  if (!detailed) return { name, digest, role };
  const signers = evidence
    .filter(({ state }) => state === 'verified')
    .map(({ digest: piece, format = '', signer = '' }) => ({ digest: piece, format, signer }));
  return {
    name,
    digest,
    role,
    reason,
    ...(policyScope === undefined ? {} : { scope: policyScope }),
    ...(requirement === undefined ? {} : { requirement }),
    ...(signers.length === 0 ? {} : { signers }),
  };
}
