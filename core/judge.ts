/**
 * The judgement of a bundle: the checks of docs/bundle-format.md and docs/tuf-profile.md in their order, from the
 * first byte to the evidence, before any layer is read. verify and import share it; only import keeps what it learns.
 */
import { createHash } from 'node:crypto';
import { type BundleManifest, parseBundleManifest } from './bundle/manifest.ts';
import { type BundleHead, type BundleReader, checkDockerManifest } from './bundle/reader.ts';
import type { Context } from './context.ts';
import { type BaseHolder, checkBase } from './delta/base.ts';
import { inert, isSealiftError, SealiftError, toSealiftError } from './errors.ts';
import type { CheckName } from './events.ts';
import type { KeptState } from './gate/gate.ts';
import { nameInScope } from './gate/scopes.ts';
import { isAttestation } from './oci/attestation.ts';
import { blobPath, type Digest } from './oci/digest.ts';
import { type ParsedManifest, parseManifest } from './oci/manifest.ts';
import { isIndexType, isManifestType } from './oci/media-types.ts';
import type {
  CheckResult,
  CollectionSummary,
  ImageVerdict,
  PolicyInUse,
  VerifyResult,
  Weakening,
} from './results.ts';
import { imageSummaries } from './summaries.ts';
import { advance, type TrustStep } from './trust/advance.ts';
import { readCertificate } from './trust/certificates.ts';
import type { Evidence, EvidenceSubject } from './trust/evidence/verifier.ts';
import { parseRoot, rootFingerprint } from './trust/metadata.ts';
import { verifyArmored } from './trust/openpgp.ts';
import type { ImageEvidence, PolicyDecision } from './trust/policy/evaluate.ts';
import type { LoadedPolicy } from './trust/policy/load.ts';
import { carrierReach } from './trust/reach.ts';
import { listTargets, listWithdrawn, resolveTarget } from './trust/search.ts';
import { type KeptMetadata, TrustedSet } from './trust/trusted-set.ts';
import type { TrustOverrides } from './workflow-options.ts';

/** What a judgement starts from: what the gate keeps of the collection, or a fingerprint somebody vouches for. */
export type Anchor =
  | { readonly kind: 'kept'; readonly state: KeptState }
  | {
      readonly kind: 'fingerprint';
      readonly fingerprint: string;
      /** Names it may speak about; all unless given. */
      readonly scopes?: readonly string[] | undefined;
    };

export interface JudgeOptions {
  readonly anchor: Anchor;
  readonly overrides: TrustOverrides;
  /** Called after each step of the client workflow, with what is trusted from then on. Awaited before the next step. */
  readonly onStep?: ((set: TrustedSet, step: TrustStep, detail: string) => Promise<void>) | undefined;
}

/** Runs named checks, tells of each, and remembers the answers. */
export class Checklist {
  readonly results: CheckResult[] = [];
  readonly #context: Context;

  constructor(context: Context) {
    this.#context = context;
  }

  /** @throws what `work` throws, with the name of the check */
  async run<T>(
    check: CheckName,
    work: () => Promise<readonly [T, string]> | readonly [T, string],
  ): Promise<T> {
    this.#context.signal.throwIfAborted();
    try {
      const [value, detail] = await work();
      this.#note({ check, status: 'passed', detail });
      return value;
    } catch (error) {
      const known = toSealiftError(error).with({ check });
      if (known.category !== 'cancelled') this.#note({ check, status: 'failed', detail: known.message });
      throw known;
    }
  }

  /** An answer that refuses some of the images and stops nothing. */
  fail(check: CheckName, detail: string): void {
    this.#note({ check, status: 'failed', detail });
  }

  skip(check: CheckName, detail: string): void {
    this.#note({ check, status: 'skipped', detail });
  }

  #note(result: CheckResult): void {
    this.results.push(result);
    this.#context.emit({ type: 'check', ...result });
  }
}

/** The trust decision over the head of a bundle. */
export interface TrustJudgement {
  readonly set: TrustedSet;
  readonly collectionId: string;
  readonly manifest: BundleManifest;
  readonly collection: CollectionSummary;
  readonly images: readonly ImageVerdict[];
  readonly withdrawn: VerifyResult['withdrawn'];
  readonly vanished: readonly string[];
  readonly weakened: readonly Weakening[];
}

/** SHA-256 of the canonical `signed` of a bundle's first root: the id its collection must turn out to have. */
export function claimedCollectionId(head: BundleHead, context: Context): string {
  const [first] = head.roots;
  if (first?.version !== 1)
    throw new SealiftError('root-chain-broken', 'the first root is missing', { check: 'root-chain' });
  return rootFingerprint(parseRoot(first.bytes, { role: 'root', limits: context.limits, strict: true }));
}

/** Checks root-chain to derived-files: what the bundle is, and which names it may speak for. */
export async function judgeTrust(
  reader: BundleReader,
  checklist: Checklist,
  options: JudgeOptions,
  context: Context,
): Promise<TrustJudgement> {
  const { head } = reader;
  const id = claimedCollectionId(head, context);
  const before = options.anchor.kind === 'kept' ? await namesBefore(options.anchor.state, context) : [];
  const set = await followChain(head, id, checklist, options, context);
  const manifest = await checklist.run('bundle-manifest', () => {
    const found = checkBundleManifest(set, head, id, context);
    return [found, `version ${found.version}, ${count(found.images.length, 'image')}`];
  });
  await checklist.run('derived-files', async () => {
    reader.accept(manifest);
    // Of a file every header and all padding are looked at here; it costs no reading of layers. A stream is checked as it passes.
    if (reader.kind === 'file') await reader.verifyFrame();
    const signer = await checkSums(set, head, options, context);
    return [undefined, signer ? `SHA256SUMS signed by ${signer}` : 'SHA256SUMS as computed, native keys'];
  });
  const withdrawn = listWithdrawn(set).map(({ name, digest, reason, at }) => ({ name, digest, reason, at }));
  const { anchor } = options;
  const scopes = anchor.kind === 'kept' ? anchor.state.pin.scopes : (anchor.scopes ?? ['*']);
  const images = resolveImages(set, manifest, scopes, withdrawn);
  const now = new Set(listTargets(set).map(({ name }) => name));
  for (const { name } of withdrawn) now.add(name);
  return {
    set,
    collectionId: id,
    manifest,
    collection: summarise(set, id, manifest),
    images,
    withdrawn,
    vanished: before.filter((name) => !now.has(name)),
    weakened: weakeningsOf(options.overrides),
  };
}

/** What an operator has switched off, as it goes into report and audit log. */
export function weakeningsOf({ allowClockJump }: TrustOverrides): readonly Weakening[] {
  return allowClockJump
    ? [{ option: '--allow-clock-jump', effect: 'a bundle from the future was allowed to move the clock' }]
    : [];
}

/** The client workflow (TUF specification section 5), each of its steps an answer of its own. */
async function followChain(
  head: BundleHead,
  id: string,
  checklist: Checklist,
  options: JudgeOptions,
  context: Context,
): Promise<TrustedSet> {
  const order: readonly CheckName[] = ['root-chain', 'timestamp', 'snapshot', 'targets'];
  const details = new Map<CheckName, string>();
  let told = 0;
  /** Tells that all checks before `check` have passed. */
  async function tellUntil(check: CheckName | undefined): Promise<void> {
    const end = check === undefined ? order.length : order.indexOf(check);
    for (; told < end; told += 1) {
      const passed = order[told];
      if (passed) await checklist.run(passed, () => [undefined, details.get(passed) ?? '']);
    }
  }
  try {
    const set = await openTrustedSet(head, options, context);
    details.set('root-chain', `root ${set.root.version}`);
    await advance(set, metadataFiles(head), async (step, detail) => {
      const check = STEP_CHECKS[step];
      await tellUntil(check);
      details.set(check, detail);
      await options.onStep?.(set, step, detail);
    });
    if (set.collectionId !== id) {
      throw new SealiftError('mix-and-match', 'first root and targets are of different collections', {
        got: set.collectionId ?? 'none',
        want: id,
        check: 'targets',
      });
    }
    await tellUntil(undefined);
    return set;
  } catch (error) {
    const known = toSealiftError(error);
    const check = order.find((name) => name === known.check) ?? 'root-chain';
    await tellUntil(check);
    return checklist.run(check, () => {
      throw known;
    });
  }
}

const STEP_CHECKS: Readonly<Record<TrustStep, CheckName>> = {
  root: 'root-chain',
  timestamp: 'timestamp',
  snapshot: 'snapshot',
  targets: 'targets',
  delegated: 'targets',
};

async function openTrustedSet(
  head: BundleHead,
  options: JudgeOptions,
  context: Context,
): Promise<TrustedSet> {
  const { anchor } = options;
  const setOptions = {
    now: context.now,
    limits: context.limits,
    allowClockJump: options.overrides.allowClockJump,
    certificates: head.certificates.map(({ bytes }) => bytes),
  };
  if (anchor.kind === 'kept') return TrustedSet.fromKept(keptMetadata(anchor.state), setOptions);
  const roots = head.roots.map(({ bytes }) => bytes);
  return TrustedSet.fromPin(anchor.fingerprint, roots, setOptions);
}

export function keptMetadata(state: KeptState): KeptMetadata {
  return {
    root: state.root.bytes,
    timestamp: state.timestamp,
    snapshot: state.snapshot,
    targets: state.targets,
    delegated: state.delegated,
    certificates: state.certificates,
    floor: state.clockFloor === undefined ? undefined : new Date(state.clockFloor),
  };
}

/** Names the last accepted metadata ruled; empty before the first bundle. */
async function namesBefore(state: KeptState, context: Context): Promise<readonly string[]> {
  if (!state.targets) return [];
  const set = await TrustedSet.fromKept(keptMetadata(state), { now: context.now, limits: context.limits });
  return listTargets(set.previous).map(({ name }) => name);
}

/** Metadata of a bundle by its name below metadata/. */
export function metadataFiles(head: BundleHead): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  for (const [name, { bytes }] of head.files) {
    if (name.startsWith('metadata/') && name.endsWith('.json'))
      files.set(name.slice('metadata/'.length), bytes);
  }
  return files;
}

/** The bundle manifest is the one target of the bundles role, and belongs to this timestamp. */
function checkBundleManifest(
  set: TrustedSet,
  head: BundleHead,
  id: string,
  context: Context,
): BundleManifest {
  const { timestamp } = set;
  if (!timestamp?.created) throw new SealiftError('internal', 'no timestamp after the client workflow');
  const name = `_bundle/${id}/${timestamp.version}.json`;
  const found = resolveTarget(set, name);
  if (found?.role !== 'bundles') {
    throw new SealiftError('target-mismatch', `the trust metadata names no bundle ${timestamp.version}`, {
      subject: name,
    });
  }
  const got = createHash('sha256').update(head.manifest).digest('hex');
  const want = found.target.hashes.get('sha256');
  if (got !== want || head.manifest.length !== found.target.length) {
    throw new SealiftError(
      'target-mismatch',
      `bundle manifest is not the signed one: got sha256 ${got}, want ${want}`,
      {
        subject: 'sealift.json',
        got,
        want,
      },
    );
  }
  const manifest = parseBundleManifest(head.manifest, context.limits);
  const created = `${timestamp.created.toISOString().slice(0, 19)}Z`;
  if (
    manifest.version !== timestamp.version ||
    manifest.created !== created ||
    manifest.collection.id !== id
  ) {
    throw new SealiftError(
      'mix-and-match',
      `bundle manifest and timestamp do not belong together: got version ${manifest.version} of ${manifest.created}, want version ${timestamp.version} of ${created}`,
      { subject: 'sealift.json', got: manifest.version, want: timestamp.version },
    );
  }
  return manifest;
}

/** SHA256SUMS.asc is by a key of the timestamp role, where that has OpenPGP keys. Resolves to the fingerprint. */
async function checkSums(
  set: TrustedSet,
  head: BundleHead,
  options: JudgeOptions,
  context: Context,
): Promise<string | undefined> {
  const armored = head.sha256SumsSignature;
  if (!armored) return undefined;
  const { certificates } = set.kept();
  let failure: unknown;
  for (const keyId of set.root.roles.timestamp.keyids) {
    const key = set.root.keys.get(keyId);
    const bytes = key?.keytype === 'openpgp' ? certificates.get(key.keyval.public) : undefined;
    if (!bytes) continue;
    try {
      const verified = await verifyArmored(
        await readCertificate(bytes, context.limits),
        head.sha256Sums,
        armored,
        {
          purpose: 'sha256sums',
          now: set.time,
          mode: 'final',
          allowFuture: options.overrides.allowClockJump,
        },
      );
      return verified.fingerprint;
    } catch (error) {
      failure ??= error;
    }
  }
  const known = failure === undefined ? undefined : toSealiftError(failure);
  throw new SealiftError(
    known?.code ?? 'signature-invalid',
    `SHA256SUMS.asc: ${known?.message ?? 'no OpenPGP key may sign it'}`,
    {
      subject: 'SHA256SUMS.asc',
      cause: failure,
    },
  );
}

/**
 * Every carried name is resolved from the top; it counts only if role, digest, length and type are the answer.
 * @throws SealiftError `target-mismatch`, `name-withdrawn`, `scope-conflict`, `requirement-unmet`; with check bundle-manifest
 */
function resolveImages(
  set: TrustedSet,
  manifest: BundleManifest,
  scopes: readonly string[],
  withdrawn: VerifyResult['withdrawn'],
): ImageVerdict[] {
  const gone = new Map(withdrawn.map((entry) => [entry.name, entry]));
  const sizes = new Map(manifest.images.map(({ name, size }) => [name, size]));
  const refuse = (
    code: 'target-mismatch' | 'name-withdrawn' | 'scope-conflict' | 'requirement-unmet',
    message: string,
    name: string,
  ) => new SealiftError(code, message, { subject: name, check: 'bundle-manifest' });
  return imageSummaries(manifest).map((image) => {
    const { name } = image;
    if (!nameInScope(name, scopes))
      throw refuse(
        'scope-conflict',
        `the collection was pinned for other names: want ${scopes.join(', ')}`,
        name,
      );
    const tombstone = gone.get(name);
    if (tombstone)
      throw refuse(
        'name-withdrawn',
        `the image was withdrawn at ${tombstone.at}: ${inert(tombstone.reason)}`,
        name,
      );
    const answer = resolveTarget(set, name);
    if (!answer) throw refuse('target-mismatch', 'no role vouches for this name', name);
    if (
      answer.digest !== image.digest ||
      answer.target.length !== sizes.get(name) ||
      answer.mediaType !== image.mediaType
    ) {
      throw refuse(
        'target-mismatch',
        `role ${answer.role} says otherwise: got ${image.digest}, want ${answer.digest}`,
        name,
      );
    }
    const demands = answer.target.custom?.['require'];
    if (demands !== undefined && !(Array.isArray(demands) && demands.length === 0)) {
      throw refuse(
        'requirement-unmet',
        `the publisher demands evidence this sealift cannot judge: ${inert(JSON.stringify(demands))}`,
        name,
      );
    }
    return {
      ...image,
      verdict: 'verified',
      reason: `signed by role ${answer.role}`,
      role: answer.role,
      admitted: false,
    };
  });
}

function summarise(set: TrustedSet, id: string, manifest: BundleManifest): CollectionSummary {
  return {
    id,
    name: inert(manifest.collection.name),
    version: manifest.version,
    created: manifest.created,
    expires: `${set.effectiveExpiry().toISOString().slice(0, 19)}Z`,
    rootFingerprint: rootFingerprint(set.root),
    rootVersion: set.root.version,
    roles: set.roleSummaries(),
    ...(set.targets
      ? { carrier: carrierReach({ root: set.root, targets: set.targets, delegated: set.delegated }) }
      : {}),
  };
}

function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? '' : 's'}`;
}

// ---------------------------------------------------------------- content

/** What each image consists of. */
export interface ContentJudgement {
  /** Digests of all blobs, by image name: the image itself, and its evidence. */
  readonly blobs: ReadonlyMap<string, ReadonlySet<Digest>>;
  /** What the policy says, by image name; empty where there is none. */
  readonly decisions: ReadonlyMap<string, PolicyDecision>;
}

/** The policy a judgement applies. */
export interface PolicyInForce {
  readonly from: PolicyInUse['from'];
  readonly loaded: LoadedPolicy;
  /** Time of the run, or that of the last accepted bundle where the clock is behind it. */
  readonly now: Date;
}

/** Gives the bytes of a manifest that the bundle lists. */
export type ManifestReader = (name: string) => Promise<Uint8Array>;

/**
 * Checks base, manifests and evidence: all that the carried images need is in the bundle or, of layers, in its base,
 * and nothing else is.
 * @param base where the layers may be that a delta left out; absent where there is nobody to ask
 */
export async function judgeContent(
  manifest: BundleManifest,
  head: BundleHead,
  read: ManifestReader,
  checklist: Checklist,
  context: Context,
  policy?: PolicyInForce | undefined,
  base?: BaseHolder | undefined,
): Promise<ContentJudgement> {
  const layers = async () => {
    const finder = new ContentWalker(manifest, read, context);
    for (const image of manifest.images) await finder.image(image);
    return finder.blobs;
  };
  await checkBase(manifest, base, layers, checklist, context);
  const walker = new ContentWalker(manifest, read, context);
  await checklist.run('manifests', async () => {
    for (const image of manifest.images) await walker.image(image);
    const [only] = manifest.images;
    if (head.dockerManifest) await walker.dockerManifest(head, only);
    return [undefined, count(walker.manifests, 'manifest')];
  });
  await checklist.run('evidence', async () => {
    for (const image of manifest.images) await walker.evidence(image);
    walker.refuseStrays();
    const { length } = manifest.evidence;
    const fate = policy ? 'whole' : 'not judged';
    return [undefined, length === 0 ? 'none carried' : `${count(length, 'piece')} carried, ${fate}`];
  });
  const decisions = await judgePolicy(manifest, walker, checklist, policy);
  return { blobs: walker.blobs, decisions };
}

/** Asks the policy about every image. That it refuses some is for the caller to act on. */
async function judgePolicy(
  manifest: BundleManifest,
  walker: ContentWalker,
  checklist: Checklist,
  policy: PolicyInForce | undefined,
): Promise<ReadonlyMap<string, PolicyDecision>> {
  const decisions = new Map<string, PolicyDecision>();
  if (!policy) {
    checklist.skip('policy', "no policy is set: the collection's chain decides");
    return decisions;
  }
  const { PolicyJudge } = await import('./trust/policy/evaluate.ts');
  const judge = new PolicyJudge(policy.loaded, policy.now);
  try {
    for (const image of manifest.images)
      decisions.set(image.name, await judge.judge(await walker.imageEvidence(image)));
  } catch (error) {
    await checklist.run('policy', () => {
      throw error;
    });
  }
  const refused = [...decisions.values()].filter(({ allowed }) => !allowed).length;
  if (refused > 0) checklist.fail('policy', `${refused} of ${count(decisions.size, 'image')} refused`);
  else await checklist.run('policy', () => [undefined, `${count(decisions.size, 'image')} accepted`]);
  return decisions;
}

/** Expired evidence that the policy accepts, as it goes into reports and the audit log. */
export function waivedExpiries(
  { decisions }: Pick<ContentJudgement, 'decisions'>,
  images: readonly Pick<ImageVerdict, 'name'>[],
): readonly Weakening[] {
  const names = new Set(images.map(({ name }) => name));
  return [...decisions.values()].flatMap(({ name, allowed, pieces }) =>
    allowed && names.has(name)
      ? [...pieces]
          .filter(([, { waived }]) => waived)
          .map(([digest, { reason }]) => ({
            option: 'expiry log',
            effect: `${name}: evidence ${digest}: ${inert(reason)}`,
          }))
      : [],
  );
}

/** The images with what the policy said of them. */
export function applyDecisions(
  images: readonly ImageVerdict[],
  { decisions }: Pick<ContentJudgement, 'decisions'>,
): readonly ImageVerdict[] {
  return images.map((image) => {
    const decision = decisions.get(image.name);
    if (!decision) return image;
    const evidence = image.evidence.map((piece) => {
      const judged = [...decision.pieces].find(([digest]) => digest === piece.digest)?.[1];
      if (!judged) return piece;
      const { state, reason, verified } = judged;
      if (!verified) return { ...piece, state, reason: inert(reason) };
      return {
        ...piece,
        state,
        reason: inert(reason),
        format: verified.format,
        signer: verified.signer,
        claimedName: inert(verified.claimedName),
        signedAt: `${verified.signedAt.toISOString().slice(0, 19)}Z`,
        ...(verified.expires ? { expires: `${verified.expires.toISOString().slice(0, 19)}Z` } : {}),
      };
    });
    return {
      ...image,
      evidence,
      verdict: decision.verdict,
      reason: decision.allowed ? `${image.reason}; ${decision.reason}` : decision.reason,
      policyScope: decision.scope,
      requirement: decision.requirement,
    };
  });
}

type ListedImage = BundleManifest['images'][number];

/** Content of evidence up to this size is held while a stream is judged. */
export const MAX_HELD_EVIDENCE = 256 * 1024;

class ContentWalker {
  readonly blobs = new Map<string, Set<Digest>>();
  manifests = 0;
  readonly #manifest: BundleManifest;
  readonly #read: ManifestReader;
  readonly #context: Context;
  readonly #sizes: ReadonlyMap<string, number>;
  /** Layers that a delta left out. */
  readonly #leftOut: ReadonlyMap<string, number>;
  readonly #parsed = new Map<Digest, ParsedManifest>();
  readonly #used = new Set<string>();
  #listed: ReadonlyMap<Digest, BundleManifest['evidence'][number]> | undefined;

  constructor(manifest: BundleManifest, read: ManifestReader, context: Context) {
    this.#manifest = manifest;
    this.#read = read;
    this.#context = context;
    this.#sizes = new Map(
      manifest.entries.flatMap(({ name, size, kind }) => (kind && size !== undefined ? [[name, size]] : [])),
    );
    this.#leftOut = new Map(manifest.base?.missing.map(({ name, size }) => [name, size]));
  }

  async image(image: ListedImage): Promise<void> {
    const mine = new Set<Digest>();
    this.blobs.set(image.name, mine);
    const omitted = new Map<string, string>(image.omitted.map(({ digest, reason }) => [digest, reason]));
    const skipped = new Set<string>();
    const visit = async (digest: Digest, size: number, mediaType: string, depth: number): Promise<void> => {
      if (mine.has(digest)) return;
      if (depth > this.#context.limits.graphDepth)
        throw this.#refuse('manifest-invalid', image, 'image is nested too deeply');
      const parsed = await this.#take(digest, size, mediaType, image, mine);
      if (parsed.config) this.#need(parsed.config.digest, parsed.config.size, image, mine);
      for (const layer of parsed.layers) this.#need(layer.digest, layer.size, image, mine, true);
      for (const child of parsed.manifests) {
        const reason = omitted.get(child.digest);
        if (reason === 'evidence' && !isAttestation(child))
          throw this.#refuse(
            'manifest-invalid',
            image,
            `${child.digest} was left out as evidence and is none`,
          );
        if (reason !== undefined) skipped.add(child.digest);
        else if (isManifestType(child.mediaType) || isIndexType(child.mediaType)) {
          await visit(child.digest, child.size, child.mediaType, depth + 1);
        } else this.#need(child.digest, child.size, image, mine, true);
      }
    };
    await visit(image.digest, image.size, image.mediaType, 0);
    // What is said to be left out must be part of the image, or the list would be a place to say anything.
    for (const digest of omitted.keys()) {
      if (!skipped.has(digest))
        throw this.#refuse(
          'manifest-invalid',
          image,
          `${digest} is listed as left out and is no part of the image`,
        );
    }
  }

  async evidence(image: ListedImage): Promise<void> {
    const mine = this.blobs.get(image.name) ?? new Set<Digest>();
    const waiting = new Set<Digest>(image.evidence);
    const listed = new Map(this.#manifest.evidence.map((entry) => [entry.digest, entry]));
    // Evidence hangs on the image, on a child, or on other evidence: taken up until nothing more fits.
    for (let before = -1; before !== waiting.size; ) {
      before = waiting.size;
      for (const digest of waiting) {
        const entry = listed.get(digest);
        if (!entry || !mine.has(entry.subject)) continue;
        waiting.delete(digest);
        const parsed = await this.#take(digest, entry.size, entry.mediaType, image, mine);
        const about = parsed.subject?.digest ?? (entry.tag === undefined ? undefined : entry.subject);
        if (about !== entry.subject) {
          throw this.#refuse(
            'manifest-invalid',
            image,
            `evidence ${digest} is about ${about ?? 'nothing'}, not about ${entry.subject}`,
          );
        }
        for (const blob of [parsed.config, ...parsed.layers])
          if (blob) this.#need(blob.digest, blob.size, image, mine);
      }
    }
    const [stray] = waiting;
    if (stray !== undefined)
      throw this.#refuse('manifest-invalid', image, `evidence ${stray} hangs on nothing of the image`);
  }

  /** An image and its evidence as a policy judges them, with the content of what a verifier reads. */
  async imageEvidence(image: ListedImage): Promise<ImageEvidence> {
    const subjects: EvidenceSubject[] = [];
    const omitted = new Set<string>(image.omitted.map(({ digest }) => digest));
    const seen = new Set<Digest>();
    const visit = (digest: Digest): void => {
      const parsed = this.#parsed.get(digest);
      if (!parsed || seen.has(digest)) return;
      seen.add(digest);
      if (digest !== image.digest && parsed.kind === 'image') subjects.push(parsed);
      for (const child of parsed.manifests) {
        if (!omitted.has(child.digest) && !isAttestation(child)) visit(child.digest);
      }
    };
    visit(image.digest);
    const top = this.#parsed.get(image.digest);
    if (!top) throw new SealiftError('internal', 'an image was not walked', { subject: image.name });
    const { simpleSigningVerifier } = await import('./trust/evidence/simple-signing.ts');
    const pieces: Evidence[] = [];
    const at = new Date(this.#manifest.created);
    this.#listed ??= new Map(this.#manifest.evidence.map((entry) => [entry.digest, entry]));
    const listed = this.#listed;
    for (const digest of image.evidence) {
      const parsed = this.#parsed.get(digest);
      const { artifactType } = parsed ?? {};
      if (!parsed?.subject || artifactType === undefined || !simpleSigningVerifier.accepts(artifactType))
        continue;
      const payloads: Uint8Array[] = [];
      for (const layer of parsed.layers) payloads.push(await this.#payload(layer));
      const { verified } = listed.get(digest) ?? {};
      const statement = verified && { signer: verified.signer, at };
      pieces.push({ digest, artifactType, subject: parsed.subject.digest, payloads, statement });
    }
    return { name: image.name, top, children: subjects, pieces };
  }

  /** Empty where it is too large to be one: then it is no signature. */
  async #payload({ digest, size }: { readonly digest: Digest; readonly size: number }): Promise<Uint8Array> {
    return size > MAX_HELD_EVIDENCE ? new Uint8Array() : this.#read(blobPath(digest));
  }

  /** Blobs that nothing refers to have no business in a bundle. */
  refuseStrays(): void {
    for (const name of [...this.#sizes.keys(), ...this.#leftOut.keys()]) {
      if (!this.#used.has(name)) {
        throw new SealiftError(
          'bundle-not-canonical',
          'the bundle has or left out a blob that no image needs',
          {
            subject: name,
          },
        );
      }
    }
  }

  async dockerManifest(head: BundleHead, image: ListedImage | undefined): Promise<void> {
    if (!image || this.#manifest.images.length !== 1) {
      throw new SealiftError('derived-file-mismatch', 'manifest.json goes with exactly one image', {
        subject: 'manifest.json',
      });
    }
    const root = this.#parsed.get(image.digest);
    const candidates =
      root?.kind === 'image'
        ? [root]
        : (root?.manifests ?? []).flatMap(({ digest }) => this.#parsed.get(digest) ?? []);
    const matches = candidates.some((candidate) => {
      if (!candidate.config) return false;
      try {
        checkDockerManifest(head, {
          name: image.name,
          config: candidate.config.digest,
          layers: candidate.layers.map(({ digest }) => digest),
        });
        return true;
      } catch (error) {
        if (isSealiftError(error)) return false;
        throw error;
      }
    });
    if (!matches)
      throw new SealiftError('derived-file-mismatch', 'manifest.json does not follow from the image', {
        subject: 'manifest.json',
      });
  }

  async #take(
    digest: Digest,
    size: number,
    mediaType: string,
    image: ListedImage,
    mine: Set<Digest>,
  ): Promise<ParsedManifest> {
    this.#need(digest, size, image, mine);
    const known = this.#parsed.get(digest);
    if (known) {
      if (known.mediaType !== mediaType)
        throw this.#refuse(
          'media-type-mismatch',
          image,
          `${digest} is used as ${inert(mediaType)} and as ${known.mediaType}`,
        );
      return known;
    }
    if (size > this.#context.limits.manifest)
      throw this.#refuse('bundle-too-large', image, `manifest ${digest} is too large: got ${size} bytes`);
    this.#context.signal.throwIfAborted();
    const bytes = await this.#read(blobPath(digest));
    const parsed = parseManifest(bytes, { mediaType, digest, limits: this.#context.limits });
    this.#parsed.set(digest, parsed);
    this.manifests += 1;
    return parsed;
  }

  /** Only layers may have been left out: what anything is decided by is in the bundle itself. */
  #need(digest: Digest, size: number, image: ListedImage, mine: Set<Digest>, isLayer = false): void {
    const name = blobPath(digest);
    const found = this.#sizes.get(name) ?? (isLayer ? this.#leftOut.get(name) : undefined);
    if (found === undefined) throw this.#refuse('blob-missing', image, `${digest} is not in the bundle`);
    if (found !== size)
      throw this.#refuse(
        'size-mismatch',
        image,
        `${digest} has another size than the image says: got ${found}, want ${size}`,
      );
    mine.add(digest);
    this.#used.add(name);
  }

  #refuse(
    code: 'manifest-invalid' | 'media-type-mismatch' | 'bundle-too-large' | 'blob-missing' | 'size-mismatch',
    image: ListedImage,
    message: string,
  ): SealiftError {
    return new SealiftError(code, message, { subject: image.name });
  }
}
