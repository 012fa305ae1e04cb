/**
 * A rehearsal (docs/receipts-and-deltas.md): the verdict of a gate, on the side where the gate is not, as far as its
 * receipt tells.
 */
import { createHash } from 'node:crypto';
import type { Context } from '../context.ts';
import { SealiftError } from '../errors.ts';
import type { Anchor, TrustJudgement } from '../judge.ts';
import type { RehearsalSummary } from '../results.ts';
import type { TrustStep } from '../trust/advance.ts';
import { openCollection } from '../trust/collection.ts';
import type { TrustedSet } from '../trust/trusted-set.ts';
import type { BaseHolder } from './base.ts';
import { openLedger } from './ledger.ts';
import { keyedHash } from './receipt.ts';
import { openReceipt } from './since.ts';

export interface RehearsalSpec {
  /** Path of the receipt. */
  readonly receipt: string;
  /** Directory of the collection that has pinned the gate. */
  readonly collection: string;
}

export interface Rehearsal {
  readonly anchor: Anchor;
  /** This context, not before the time the gate knows of. */
  readonly context: Context;
  readonly base: BaseHolder;
  /** @throws SealiftError `rollback` where the gate accepted a later version */
  onStep(set: TrustedSet, step: TrustStep): Promise<void>;
  /** @throws SealiftError `fork` where the gate accepted this version with other content */
  finish(trust: TrustJudgement, manifest: Uint8Array): RehearsalSummary;
}

/**
 * @param policy file that stands for the gate's
 * @throws SealiftError as `openReceipt()`
 */
export async function prepareRehearsal(
  spec: RehearsalSpec,
  policy: string | undefined,
  names: readonly string[],
  context: Context,
): Promise<Rehearsal> {
  const collection = await openCollection(spec.collection, context.limits);
  const ledger = openLedger(collection.directory, collection.id);
  const { receipt } = await openReceipt(collection, ledger, spec.receipt, context);
  const { accepted, nonce, blobs } = receipt;
  const policyState = await comparePolicy(receipt.policy, policy, context);
  const floor = accepted ? Date.parse(accepted.clockFloor) : 0;
  return {
    anchor: { kind: 'fingerprint', fingerprint: receipt.root.fingerprint, scopes: receipt.pin.scopes },
    context: { ...context, now: new Date(Math.max(context.now.getTime(), floor)) },
    base: {
      words: 'the store, as the receipt tells',
      only: names,
      holds: async (digest) => blobs.has(keyedHash(nonce, 'blob', digest)),
    },
    async onStep(set, step) {
      const version = set.timestamp?.version;
      if (step !== 'timestamp' || !accepted || version === undefined || version >= accepted.version) return;
      throw new SealiftError(
        'rollback',
        `the gate has accepted version ${accepted.version} already: got version ${version}`,
        {
          subject: 'timestamp',
          got: version,
          want: `at least ${accepted.version}`,
          check: 'timestamp',
          hint: 'export again; an earlier bundle is of use there as a source of bytes only (--blobs-from)',
        },
      );
    },
    finish(trust, manifest) {
      const hash = createHash('sha256').update(manifest).digest('hex');
      if (accepted?.version === trust.manifest.version && accepted.manifest !== hash) {
        throw new SealiftError('fork', 'the gate has accepted this version with other content', {
          subject: 'sealift.json',
          got: hash,
          want: accepted.manifest,
          check: 'bundle-manifest',
          hint: 'a copy of this collection has exported too: find out who, and export again',
        });
      }
      const there = ({ name, digest }: { readonly name: string; readonly digest: string }) =>
        receipt.images.has(keyedHash(nonce, 'image', `${name}@${digest}`));
      return {
        gate: receipt.gate,
        number: receipt.number,
        created: receipt.created,
        accepted: accepted?.version,
        unchanged: trust.manifest.images.filter(there).map(({ name }) => name),
        policy: policyState,
      };
    },
  };
}

/** Whether the policy that was given is the gate's: as it is, or with its keys in it, as gates keep them. */
async function comparePolicy(
  wanted: string | undefined,
  file: string | undefined,
  context: Context,
): Promise<RehearsalSummary['policy']> {
  const warn = (code: string, message: string) =>
    context.emit({ type: 'notice', level: 'warning', code, message });
  if (file === undefined) {
    if (wanted === undefined) return 'none';
    warn(
      'policy-not-given',
      `the gate judges by a policy (sha256 ${wanted}) that is not here: name it with --policy`,
    );
    return 'not-given';
  }
  const { inlineKeys, readPolicyFile } = await import('../trust/policy/load.ts');
  const bytes = await readPolicyFile(file);
  const kept = await inlineKeys(bytes, file, context.limits);
  const hashes = [bytes, kept].map((text) => createHash('sha256').update(text).digest('hex'));
  if (wanted !== undefined && hashes.includes(wanted)) return 'same';
  warn(
    'policy-differs',
    wanted === undefined
      ? 'the gate has no policy; it is judged here by the one that was given'
      : `the gate judges by another policy (sha256 ${wanted}) than the one that was given`,
  );
  return 'other';
}
