/**
 * Approvals: an officer's signature over one bundle (docs/approvals.md). They lie in the gate, beside the bundle, or where
 * they are named; wherever they come from, only signatures by the officers of the gate count.
 */
import { createHash } from 'node:crypto';
import { lstat, readdir } from 'node:fs/promises';
import path from 'node:path';
import type { Context } from '../context.ts';
import { inert, isSealiftError, SealiftError } from '../errors.ts';
import {
  checkFormat,
  type DocumentReader,
  formatTimestamp,
  parseDocument,
  SHA256_HEX,
  TIMESTAMP,
} from '../fs/document.ts';
import { makeDirectory, readFileLimited, writeFileDurably } from '../fs/durable.ts';
import { openGate } from '../gate/gate.ts';
import { canonicalJson, parseCanonicalJson } from '../json/canonical.ts';
import type { JsonObject } from '../json/strict.ts';
import type { Checklist } from '../judge.ts';
import type { ApprovalSummary, VerifyResult } from '../results.ts';
import { readCertificate } from '../trust/certificates.ts';
import { tellExpiringSigners } from '../trust/expiring.ts';
import { KEY_ID, verifyNative } from '../trust/keys.ts';
import { verifyOpenpgp } from '../trust/openpgp.ts';
import type { Signer } from '../trust/signer.ts';
import { type KeyFile, openKeyFile } from '../trust-ops/common.ts';
import type { BundleInput } from '../workflow-options.ts';
import { countOfficers, type Officer, type Officers, readOfficers } from './officers.ts';

export const APPROVAL_MEDIA_TYPE = 'application/vnd.sealift.approval.v1+json';
const FORMAT = 1;
const MAX_APPROVAL = 64 * 1024;
const MAX_SIGNATURES = 16;
/** Files that are looked at for one bundle. */
const MAX_FILES = 200;
const ENDING = '.approval';

/** What an approval is about. */
export interface ApprovedBundle {
  /** Id of the collection. */
  readonly collection: string;
  readonly version: number;
  /** SHA-256 of sealift.json, lower-case hex. */
  readonly manifest: string;
}

interface Approval extends ApprovedBundle {
  readonly approvedAt: string;
  /** What was signed. */
  readonly bytes: Uint8Array;
  readonly signatures: ReadonlyMap<string, string>;
}

export function bundleToApprove(collection: string, version: number, manifest: Uint8Array): ApprovedBundle {
  return { collection, version, manifest: createHash('sha256').update(manifest).digest('hex') };
}

/** The bytes of an approval. */
async function encodeApproval(bundle: ApprovedBundle, signer: Signer, now: Date): Promise<Buffer> {
  const signed = {
    formatVersion: FORMAT,
    mediaType: APPROVAL_MEDIA_TYPE,
    requires: [],
    collection: bundle.collection,
    version: bundle.version,
    manifest: bundle.manifest,
    approvedAt: formatTimestamp(now),
  };
  const sig = await signer.sign(canonicalJson(signed), 'approval', now);
  return canonicalJson({ signatures: [{ keyid: signer.keyId, sig }], signed });
}

/** @throws SealiftError `metadata-malformed`, `format-unsupported` */
export function parseApproval(bytes: Uint8Array, file: string): Approval {
  const malformed = (problem: string): SealiftError =>
    new SealiftError('metadata-malformed', `approval: ${problem}`, { subject: inert(file) });
  let document: DocumentReader;
  let signed: DocumentReader;
  try {
    parseCanonicalJson(bytes, { what: 'approval', maxBytes: MAX_APPROVAL, maxDepth: 8 });
    document = parseDocument(bytes, { file: inert(file), hint: '', maxBytes: MAX_APPROVAL });
    signed = document.object('signed');
    checkFormat(signed, inert(file), FORMAT, []);
    if (signed.string('mediaType') !== APPROVAL_MEDIA_TYPE) throw malformed('is of another type');
    const signatures = document.objects('signatures');
    if (signatures.length === 0 || signatures.length > MAX_SIGNATURES)
      throw malformed(`got ${signatures.length} signatures, want 1 to ${MAX_SIGNATURES}`);
    return {
      collection: signed.string('collection', SHA256_HEX),
      version: signed.integer('version'),
      manifest: signed.string('manifest', SHA256_HEX),
      approvedAt: signed.string('approvedAt', TIMESTAMP),
      bytes: canonicalJson(signed.value as JsonObject),
      signatures: new Map(signatures.map((one) => [one.string('keyid', KEY_ID), one.string('sig')])),
    };
  } catch (error) {
    if (!isSealiftError(error) || error.code === 'format-unsupported') throw error;
    throw malformed(error.message);
  }
}

// ---------------------------------------------------------------- finding

/** Where approvals are looked for beside the gate. */
export interface ApprovalSources {
  readonly bundle: BundleInput;
  readonly gate: string;
  /** Judged by this instead of a pin: then no gate demands anything. */
  readonly fingerprint?: string | undefined;
  /** Judged as another gate would: its officers are not known here. */
  readonly rehearse?: unknown;
  /** Files that were named. */
  readonly approvals?: readonly string[] | undefined;
}

function directoryInGate(gate: string, { manifest }: ApprovedBundle): string {
  return path.join(gate, 'approvals', manifest);
}

async function findFiles(sources: ApprovalSources, bundle: ApprovedBundle): Promise<readonly string[]> {
  const { bundle: input, gate, approvals = [] } = sources;
  const list = async (directory: string, wanted: (name: string) => boolean): Promise<string[]> => {
    const names = await readdir(directory).catch(() => []);
    return names
      .filter(wanted)
      .sort()
      .map((name) => path.join(directory, name));
  };
  const kept = await list(directoryInGate(gate, bundle), (name) => name.endsWith('.json'));
  const beside =
    'path' in input && typeof input.path === 'string'
      ? await list(
          path.dirname(input.path),
          (name) => name.startsWith(`${path.basename(input.path)}.`) && name.endsWith(ENDING),
        )
      : [];
  const found = [...approvals, ...kept].slice(0, MAX_FILES);
  // The medium is anybody's: what is no ordinary file there may never end, or lead elsewhere.
  for (const file of beside.slice(0, MAX_FILES - found.length)) {
    const facts = await lstat(file).catch(() => undefined);
    if (facts?.isFile()) found.push(file);
  }
  return found;
}

// ---------------------------------------------------------------- judging

async function isSignedBy(
  officer: Officer,
  { bytes, signatures }: Approval,
  now: Date,
  context: Context,
): Promise<boolean> {
  const sig = signatures.get(officer.keyId);
  if (sig === undefined) return false;
  if (officer.fingerprint === undefined) return verifyNative(officer.key, bytes, sig);
  const certificate = await readCertificate(officer.certificate ?? new Uint8Array(), context.limits);
  await verifyOpenpgp(certificate, bytes, sig, { purpose: 'approval', now, mode: 'final' });
  return true;
}

/** Who of the officers has approved the bundle; what does not count is told. */
async function countApprovals(
  bundle: ApprovedBundle,
  officers: Officers,
  sources: ApprovalSources,
  now: Date,
  context: Context,
): Promise<{ readonly given: readonly ApprovalSummary[]; readonly people: number }> {
  const given = new Map<string, ApprovalSummary>();
  for (const file of await findFiles(sources, bundle)) {
    try {
      const bytes = await readFileLimited(file, MAX_APPROVAL);
      if (!bytes)
        throw new SealiftError('invalid-argument', 'there is no such file', { subject: inert(file) });
      const approval = parseApproval(bytes, file);
      if (
        approval.collection !== bundle.collection ||
        approval.version !== bundle.version ||
        approval.manifest !== bundle.manifest
      )
        throw new SealiftError('target-mismatch', 'it is about another bundle', { subject: inert(file) });
      let counts = false;
      for (const officer of officers.officers) {
        if (!(await isSignedBy(officer, approval, now, context))) continue;
        counts = true;
        const { name, keyId } = officer;
        given.set(keyId, { officer: name, keyId, approvedAt: approval.approvedAt });
      }
      if (!counts)
        throw new SealiftError('signature-invalid', 'no officer of this gate has signed it', {
          subject: inert(file),
        });
    } catch (error) {
      // Whatever lies there and cannot be read is as good as none.
      if (typeof (error as NodeJS.ErrnoException).code !== 'string') throw error;
      context.emit({
        type: 'notice',
        level: 'warning',
        code: 'approval-ignored',
        message: `${inert(file, 4096)}: does not count: ${inert((error as Error).message)}`,
      });
    }
  }
  const approving = officers.officers.filter(({ keyId }) => given.has(keyId));
  const inOrder = approving.flatMap(({ keyId }) => given.get(keyId) ?? []);
  return { given: inOrder, people: await countOfficers(approving, context) };
}

/**
 * The check `approvals`.
 * @param demand false where too few are only told (a verification)
 * @throws SealiftError `approval-needed`; `officers-missing`
 */
export async function checkApprovals(
  bundle: ApprovedBundle,
  sources: ApprovalSources,
  demand: boolean,
  now: Date,
  checklist: Checklist,
  context: Context,
): Promise<VerifyResult['approvals']> {
  const officers =
    sources.fingerprint === undefined && sources.rehearse === undefined
      ? await readOfficers(sources.gate, context.limits).catch((error: unknown) =>
          checklist.run<Officers>('approvals', () => {
            throw error;
          }),
        )
      : undefined;
  if (!officers) {
    checklist.skip('approvals', 'none demanded');
    return undefined;
  }
  const { given, people } = await countApprovals(bundle, officers, sources, now, context);
  const { threshold } = officers;
  const names = given.map(({ officer }) => officer).join(', ');
  const detail = `${people} of ${threshold} needed${names === '' ? '' : `: ${names}`}`;
  if (people < threshold && !demand) checklist.skip('approvals', `${detail}; an import waits for the others`);
  else {
    await checklist.run('approvals', () => {
      if (people >= threshold) return [undefined, detail];
      throw new SealiftError('approval-needed', `too few officers have approved the bundle: ${detail}`, {
        subject: bundle.manifest,
        got: people,
        want: threshold,
        hint: `an officer runs: sealift approve BUNDLE --signer KEY; the officers are ${officers.officers
          .map(({ name }) => name)
          .join(', ')}`,
      });
    });
  }
  return { needed: threshold, given };
}

// ---------------------------------------------------------------- approving

export interface ApproveOptions {
  readonly bundle: BundleInput;
  readonly gate: string;
  /** Judges by this root fingerprint instead of a pin of the gate; then the approval goes into a file. */
  readonly fingerprint?: string | undefined;
  readonly signer: KeyFile;
  /** File to write; into the gate unless given. */
  readonly output?: string | undefined;
  /** Asked when the bundle has verified; false stops with `cancelled`. */
  readonly confirm?: ((found: VerifyResult) => Promise<boolean>) | undefined;
  readonly pid: number;
  readonly actor: string;
}

export interface ApproveResult extends ApprovedBundle {
  readonly bundle: string;
  readonly officer: string;
  readonly keyId: string;
  readonly approvedAt: string;
  /** Where the approval was written. */
  readonly file: string;
  /** Absent where the gate was not written to. */
  readonly auditHead?: string | undefined;
}

/**
 * Verifies a bundle, every byte of it, and signs that it may be let in.
 * @throws SealiftError what refuses the bundle; `passphrase-needed`; `invalid-argument` where the key is none of the gate's
 *   officers; `requirement-unmet` where the policy refuses every image
 */
export async function approveBundle(options: ApproveOptions, context: Context): Promise<ApproveResult> {
  const { verifyBundle } = await import('../verify.ts');
  const { gate: directory, output, fingerprint, actor } = options;
  if (fingerprint !== undefined && output === undefined) {
    throw new SealiftError('invalid-argument', 'without a pin in the gate the approval goes into a file', {
      subject: '--output',
      hint: 'add --output FILE, and hand the file to the gatekeeper',
    });
  }
  const found = await verifyBundle(
    {
      bundle: options.bundle,
      gate: directory,
      names: [],
      deep: true,
      ...(fingerprint === undefined ? {} : { fingerprint }),
      overrides: { allowClockJump: false },
    },
    context,
  );
  const { collection, manifest } = found;
  if (manifest === undefined) throw new SealiftError('internal', 'a verification without a manifest');
  if (options.confirm && !(await options.confirm(found)))
    throw new SealiftError('cancelled', 'the bundle was not approved');
  const signer = await openKeyFile(options.signer, context);
  const officers = fingerprint === undefined ? await readOfficers(directory, context.limits) : undefined;
  const officer = officers?.officers.find(({ keyId }) => keyId === signer.keyId);
  if (officers && !officer) {
    throw new SealiftError('invalid-argument', 'the key is of no officer of this gate', {
      subject: signer.fingerprint ?? signer.keyId,
      hint: 'sealift officers list shows whose approval counts',
    });
  }
  const certificate = officer?.certificate ?? signer.certificate;
  await tellExpiringSigners([{ ...signer, certificate }], context);
  const bundle: ApprovedBundle = { collection: collection.id, version: collection.version, manifest };
  const bytes = await encodeApproval(bundle, signer, context.now);
  parseApproval(bytes, 'the new approval');
  const result = {
    ...bundle,
    bundle: found.bundle,
    officer: officer?.name ?? signer.fingerprint ?? signer.keyId,
    keyId: signer.keyId,
    approvedAt: formatTimestamp(context.now),
  };
  if (output !== undefined) {
    await writeFileDurably(output, bytes);
    return { ...result, file: output };
  }
  const gate = await openGate(directory, { create: false });
  const lock = await gate.lock(options.pid);
  try {
    const place = directoryInGate(gate.directory, bundle);
    const auditHead = await gate.audit({
      now: context.now,
      actor,
      event: 'approved',
      fields: { ...bundle, bundle: found.bundle, officer: result.officer, keyId: result.keyId },
    });
    await makeDirectory(place, 'state');
    const file = path.join(place, `${signer.keyId}.json`);
    await writeFileDurably(file, bytes, 'state');
    return { ...result, file, auditHead };
  } finally {
    await lock.release();
  }
}
