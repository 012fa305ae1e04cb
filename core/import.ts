/**
 * Import: everything is decided before the first layer is read, every byte is hashed on its way in, and an image
 * appears under its name only when all of it is there. Trust is kept as soon as it has verified, whatever happens
 * to the rest.
 */
import { createHash } from 'node:crypto';
import { auditImport } from './admission/audit.ts';
import type { BundleManifest } from './bundle/manifest.ts';
import type { BlobPiece, BundleReader, FileBundle, StreamBlob, StreamBundle } from './bundle/reader.ts';
import type { Context } from './context.ts';
import { recordArrival } from './delta/arrivals.ts';
import { baseSummary } from './delta/base.ts';
import { paperCode } from './delta/code.ts';
import { type ImportBase, openImportBase } from './delta/import-base.ts';
import { isSealiftError, SealiftError, toSealiftError } from './errors.ts';
import { formatTimestamp } from './fs/document.ts';
import { type Gate, type KeptChange, type KeptState, openGate } from './gate/gate.ts';
import {
  applyDecisions,
  Checklist,
  type ContentJudgement,
  claimedCollectionId,
  judgeContent,
  judgeTrust,
  type ManifestReader,
  type PolicyInForce,
  type TrustJudgement,
  weakeningsOf,
} from './judge.ts';
import { type Digest, digestAlgorithm } from './oci/digest.ts';
import type { HashAlgorithm, Hashes } from './pool/pool.ts';
import type { ImageVerdict, ImportResult, VerifyResult } from './results.ts';
import { type ImageRecord, type Ingest, openStore, type Store } from './store/store.ts';
import { rootFingerprint } from './trust/metadata.ts';
import { resolveTarget } from './trust/search.ts';
import type { TrustedSet } from './trust/trusted-set.ts';
import { forEachLimited } from './util/concurrency.ts';
import { formatBytes } from './util/format.ts';
import {
  blobPlaces,
  digestOfName,
  findAnchor,
  findPolicy,
  heldManifests,
  nameOf,
  namingVolume,
  openBundle,
  policyInUse,
  readSmallBlobs,
  selectImages,
  tellPieces,
} from './verify.ts';
import type { ImportOptions } from './workflow-options.ts';

interface Written {
  bytes: number;
  blobs: number;
  reusedBytes: number;
}

/**
 * Imports the carried images of a bundle into a store.
 *
 * @throws SealiftError the first check that refuses, with `check`; the store's images are then as they were, and trust
 *   has moved as far as it had verified
 */
export async function importBundle(options: ImportOptions, context: Context): Promise<ImportResult> {
  const gate = await openGate(options.gate, { create: false });
  const gateLock = await gate.lock(options.pid);
  try {
    const store = await openStore(options.store, { create: true, limits: context.limits });
    const storeLock = await store.lock(options.pid);
    try {
      return await admitBundle(gate, store, options, context);
    } catch (error) {
      throw await auditRefusal(gate, error, options, context);
    } finally {
      await storeLock.release();
    }
  } finally {
    await gateLock.release();
  }
}

async function auditRefusal(
  gate: Gate,
  error: unknown,
  options: ImportOptions,
  context: Context,
): Promise<SealiftError> {
  const known = toSealiftError(error);
  if (known.category !== 'cancelled') {
    await gate.audit({
      now: context.now,
      actor: options.actor,
      event: 'refused',
      fields: {
        bundle: nameOf(options.bundle),
        code: known.code,
        check: known.check ?? '',
        subject: known.subject ?? '',
        message: known.message,
      },
    });
  }
  return known;
}

async function admitBundle(
  gate: Gate,
  store: Store,
  options: ImportOptions,
  context: Context,
): Promise<ImportResult> {
  const checklist = new Checklist(context);
  const reader = await openBundle(options.bundle, checklist, context);
  try {
    const anchor = await findAnchor(reader, { gate: options.gate }, context);
    const collectionId = claimedCollectionId(reader.head, context);
    const keeper = createKeeper(gate, collectionId, await gate.kept(collectionId), options, context);
    const trust = await namingVolume(
      reader,
      judgeTrust(
        reader,
        checklist,
        { anchor, overrides: options.overrides, onStep: (set) => keeper.keep(set) },
        context,
      ),
    );
    await keeper.finish(trust);
    selectImages(trust.images, options.only);
    const policy = await findPolicy({ gate: options.gate }, trust.set.time, context);
    const base = await openImportBase(trust.manifest, store, options, context, async () => {});
    const intake = await openIntake(reader, trust.manifest, store, context).catch(async (error: unknown) => {
      await base.close();
      throw error;
    });
    try {
      const content = await judgeContent(
        trust.manifest,
        reader.head,
        intake.readManifest,
        checklist,
        context,
        policy,
        base.holder,
      );
      const asked = selectImages(applyDecisions(trust.images, content), options.only);
      const chosen = choosePassing(asked, content, options);
      const report = reportOf(trust, asked, checklist, intake, options, policy);
      if (options.confirm && !(await options.confirm(report)))
        throw new SealiftError('cancelled', 'import was declined');
      const wanted = blobsOf(chosen, content);
      await checklist.run('space', async () => {
        const needed = await intake.missingBytes(wanted);
        const free = await store.freeBytes();
        if (needed > free) {
          throw new SealiftError(
            'destination-full',
            `not enough free space: got ${formatBytes(free)}, want ${formatBytes(needed)}`,
            {
              subject: store.directory,
              got: free,
              want: needed,
              hint: 'free some space, or run sealift gc, and run the import again',
            },
          );
        }
        return [undefined, `${formatBytes(needed)} needed, ${formatBytes(free)} free`];
      });
      const written = await checklist.run('layers', async () => {
        const done = await takeAll(base, intake, wanted).catch((error: unknown) => {
          throw nameImage(error, chosen, content);
        });
        return [
          done,
          `${done.blobs} blobs, ${formatBytes(done.bytes)} taken in, ${formatBytes(done.reusedBytes)} there already`,
        ];
      });
      const refused = asked.filter((image) => !chosen.includes(image));
      const { plan, outcome, auditHead } = await checklist.run('commit', async () => {
        const plan = await planCommit(store, trust, chosen, context);
        // Told first: a crash in between leaves an entry too many, never a change nobody hears of.
        const head = await auditImport(
          gate,
          trust,
          { chosen, refused, policy, withdrawn: plan.withdrawn },
          options,
          context,
        );
        const done = await commit(store, plan);
        return [
          { plan, outcome: done, auditHead: head },
          `${done.imported.length} imported, ${done.unchanged.length} unchanged, ${done.removed.length} removed`,
        ];
      });
      const code = await noteArrival(gate, reader, trust, plan, refused.length, context);
      return {
        ...report,
        size: intake.size(),
        checks: checklist.results,
        images: asked.map((image) => (chosen.includes(image) ? { ...image, admitted: true } : image)),
        store: store.directory,
        ...outcome,
        written,
        ...(code === undefined ? {} : { code }),
        auditHead,
      };
    } finally {
      await intake.abandon();
      await base.close();
    }
  } finally {
    await reader.close();
  }
}

/**
 * What may be let in of what was asked for.
 * @throws SealiftError `requirement-unmet` where the policy refuses all of it, or a part and the rest is not to be let in alone
 */
function choosePassing(
  asked: readonly ImageVerdict[],
  { decisions }: ContentJudgement,
  options: ImportOptions,
): readonly ImageVerdict[] {
  const refused = asked.filter(({ name }) => decisions.get(name)?.allowed === false);
  const [first] = refused;
  if (!first || (options.admitPassing === true && refused.length < asked.length))
    return asked.filter((image) => !refused.includes(image));
  const number = refused.length === asked.length ? `${asked.length}` : `${refused.length} of ${asked.length}`;
  throw new SealiftError(
    'requirement-unmet',
    `the policy refuses ${number} image${asked.length === 1 ? '' : 's'}: ${first.verdict}: ${first.reason}`,
    {
      subject: first.name,
      check: 'policy',
      hint:
        refused.length < asked.length
          ? 'sealift verify BUNDLE shows each; --admit-passing lets the others in'
          : 'sealift verify BUNDLE shows each; sealift policy explain NAME shows what is demanded',
    },
  );
}

function reportOf(
  trust: TrustJudgement,
  images: readonly ImageVerdict[],
  checklist: Checklist,
  intake: Intake,
  options: ImportOptions,
  policy: PolicyInForce | undefined,
): VerifyResult {
  return {
    bundle: nameOf(options.bundle),
    size: intake.size(),
    collection: trust.collection,
    checks: [...checklist.results],
    images,
    withdrawn: trust.withdrawn,
    vanished: trust.vanished,
    deep: true,
    base: baseSummary(trust.manifest),
    policy: policyInUse(policy),
    weakened: trust.weakened,
  };
}

/** Layers that a delta left out come first: where they fail, nothing else has to be read. */
async function takeAll(base: ImportBase, intake: Intake, wanted: ReadonlySet<Digest>): Promise<Written> {
  const before = await base.take(wanted);
  const carried = new Set([...wanted].filter((digest) => !base.leftOut.has(digest)));
  const { bytes, blobs, reusedBytes } = await intake.take(carried);
  return {
    bytes: before.bytes + bytes,
    blobs: before.blobs + blobs,
    reusedBytes: before.reusedBytes + reusedBytes,
  };
}

/** An error about a blob, told of the image that needs it. */
function nameImage(error: unknown, images: readonly ImageVerdict[], content: ContentJudgement): unknown {
  if (!isSealiftError(error)) return error;
  const image = images.find(({ name }) =>
    [...(content.blobs.get(name) ?? [])].some((digest) => digest === error.subject),
  );
  if (!image) return error;
  const { code, got, want, hint, check, cause } = error;
  return new SealiftError(code, `a blob of the image is wrong: ${error.message}`, {
    subject: image.name,
    got,
    want,
    hint,
    check,
    cause,
  });
}

function blobsOf(images: readonly ImageVerdict[], content: ContentJudgement): Set<Digest> {
  const wanted = new Set<Digest>();
  for (const { name } of images) for (const digest of content.blobs.get(name) ?? []) wanted.add(digest);
  return wanted;
}

// ---------------------------------------------------------------- trust

/** Writes what is trusted into the gate, step by step; the audit log hears of it first. */
function createKeeper(
  gate: Gate,
  collectionId: string,
  before: KeptState | undefined,
  options: ImportOptions,
  context: Context,
) {
  const { now } = context;
  const { actor } = options;
  let isTold = false;
  const earlierRoots = new Map(before?.earlierRoots);
  let last = before?.root;
  const change = (set: TrustedSet): KeptChange => {
    const made = changeOf(set);
    if (last && made.root && made.root.version > last.version) earlierRoots.set(last.version, last.bytes);
    last = made.root;
    return { ...made, earlierRoots };
  };
  const tellWeakened = async (): Promise<void> => {
    if (isTold) return;
    isTold = true;
    for (const { option, effect } of weakeningsOf(options.overrides))
      await gate.audit({
        now,
        actor,
        event: 'weakened',
        fields: { collection: collectionId, option, effect },
      });
  };
  return {
    async keep(set: TrustedSet): Promise<void> {
      await tellWeakened();
      await gate.save(collectionId, change(set));
    },
    async finish(trust: TrustJudgement): Promise<void> {
      const { collection } = trust;
      const { version, expires } = collection;
      await gate.audit({
        now,
        actor,
        event: 'trust-moved',
        fields: { collection: collectionId, version, root: collection.rootVersion, expires },
      });
      await gate.save(collectionId, {
        ...change(trust.set),
        collectionName: collection.name,
        version,
        expires,
      });
    },
  };
}

function changeOf(set: TrustedSet): KeptChange {
  const kept = set.kept();
  return {
    root: { version: set.root.version, fingerprint: rootFingerprint(set.root), bytes: kept.root },
    timestamp: kept.timestamp ?? null,
    snapshot: kept.snapshot ?? null,
    targets: kept.targets ?? null,
    delegated: kept.delegated,
    certificates: kept.certificates,
    clockFloor: kept.floor ? formatTimestamp(kept.floor) : null,
  };
}

// ---------------------------------------------------------------- blobs

/** How blobs get from a bundle into the store. */
interface Intake {
  readonly readManifest: ManifestReader;
  size(): number;
  /** Bytes of `wanted` that the store does not have. */
  missingBytes(wanted: ReadonlySet<Digest>): Promise<number>;
  /** Takes in what is wanted and not there. */
  take(wanted: ReadonlySet<Digest>): Promise<Written>;
  /** Lets go of what was taken into quarantine and not committed. */
  abandon(): Promise<void>;
}

async function openIntake(
  reader: BundleReader,
  manifest: BundleManifest,
  store: Store,
  context: Context,
): Promise<Intake> {
  const sizes = new Map(
    [...manifest.entries.filter(({ kind }) => kind), ...(manifest.base?.missing ?? [])].flatMap(
      ({ name, size }) => (size === undefined ? [] : [[digestOfName(name), size] as const]),
    ),
  );
  const missingBytes = async (wanted: ReadonlySet<Digest>): Promise<number> => {
    let bytes = 0;
    for (const digest of wanted) {
      const size = sizes.get(digest) ?? 0;
      if (!(await store.has(digest, size))) bytes += size;
    }
    return bytes;
  };
  return reader.kind === 'file'
    ? fileIntake(reader, manifest, store, missingBytes, context)
    : streamIntake(reader, store, sizes, missingBytes, context);
}

function fileIntake(
  bundle: FileBundle,
  manifest: BundleManifest,
  store: Store,
  missingBytes: Intake['missingBytes'],
  context: Context,
): Intake {
  return {
    readManifest: (name) => bundle.readBlob(name, context.limits.manifest),
    size: () => bundle.size,
    missingBytes,
    async take(wanted) {
      const written: Written = { bytes: 0, blobs: 0, reusedBytes: 0 };
      const places = [];
      for (const place of blobPlaces(bundle, manifest)) {
        const digest = digestOfName(place.name);
        if (!wanted.has(digest)) continue;
        if (await store.has(digest, place.size)) written.reusedBytes += place.size;
        else places.push(place);
      }
      announce(places, written.reusedBytes, context);
      const told = tellPieces(context);
      const cut = createCutBlobs(store, context);
      const took = (size: number): void => {
        written.bytes += size;
        written.blobs += 1;
      };
      const takePiece = async (piece: BlobPiece, signal: AbortSignal): Promise<void> => {
        const { blob, fd, offset, size, whole } = piece;
        const digest = digestOfName(blob.name);
        if (!whole) {
          if (!(await cut.take(piece, signal, told.progress(piece)))) return;
        } else {
          await ingest(store, digest, size, (target) =>
            context.pool.range({
              source: { fd, offset },
              size,
              target: { fd: target.fd, offset: 0 },
              algorithms: [digestAlgorithm(digest)],
              signal,
              onProgress: told.progress(piece),
            }),
          );
        }
        told.done(piece);
        took(blob.size);
      };
      try {
        await bundle.take(places, (pieces) =>
          forEachLimited(pieces, Math.max(1, context.pool.size), context.signal, (piece, signal) =>
            takePiece(piece, signal).catch(async (error: unknown) => {
              throw await bundle.explain(error, piece.blob);
            }),
          ),
        );
      } finally {
        await cut.close();
      }
      await bundle.assertUnchanged();
      return written;
    },
    async abandon() {},
  };
}

/**
 * Blobs that lie in several volumes: their pieces come in any order into one quarantined file, which is hashed when it is
 * whole. Nobody knows before that whether any of it is right.
 */
function createCutBlobs(store: Store, context: Context) {
  const open = new Map<Digest, { readonly target: Ingest; left: number }>();
  return {
    /** True with the last piece, when the blob has been taken in. */
    async take(
      { blob, fd, offset, size, at }: BlobPiece,
      signal: AbortSignal,
      onProgress: (bytes: number) => void,
    ): Promise<boolean> {
      const digest = digestOfName(blob.name);
      const state = open.get(digest) ?? { target: await store.ingest(digest, blob.size), left: blob.size };
      open.set(digest, state);
      await context.pool.range({
        source: { fd, offset },
        size,
        target: { fd: state.target.fd, offset: at },
        algorithms: [],
        signal,
        onProgress,
      });
      state.left -= size;
      if (state.left > 0) return false;
      open.delete(digest);
      try {
        const source = { fd: state.target.fd, offset: 0 };
        const algorithms = [digestAlgorithm(digest)];
        await state.target.commit(await context.pool.range({ source, size: blob.size, algorithms, signal }));
      } catch (error) {
        await state.target.abort();
        throw error;
      }
      return true;
    },
    async close(): Promise<void> {
      for (const { target } of open.values()) await target.abort();
    },
  };
}

/** Runs `fill` on a quarantined file, and takes the blob in where its hash is right. */
async function ingest(
  store: Store,
  digest: Digest,
  size: number,
  fill: (target: Ingest) => Promise<Hashes>,
): Promise<void> {
  const target = await store.ingest(digest, size);
  try {
    await target.commit(await fill(target));
  } catch (error) {
    await target.abort();
    if (isSealiftError(error))
      throw error.with({
        subject: digest,
        hint: 'the medium is damaged or was tampered with; copy the bundle again',
      });
    throw error;
  }
}

function announce(
  places: readonly { readonly size: number }[],
  skippedBytes: number,
  context: Context,
): void {
  const bytes = places.reduce((sum, { size }) => sum + size, 0);
  context.emit({ type: 'phase', phase: 'layers', title: 'importing' });
  context.emit({ type: 'transfer', bytes, blobs: places.length, skippedBytes });
}

/**
 * A stream gives its small blobs before anything is decided: manifests are held, the others wait in quarantine, and
 * nothing of either is in the store until the decision. Layers follow and go straight in.
 */
async function streamIntake(
  bundle: StreamBundle,
  store: Store,
  sizes: ReadonlyMap<Digest, number>,
  missingBytes: Intake['missingBytes'],
  context: Context,
): Promise<Intake> {
  const waiting = new Map<Digest, { readonly target: Ingest; readonly hashes: Hashes }>();
  let bytesRead = bundle.head.size;
  const manifests = await readSmallBlobs(bundle, context, async (blob) => {
    const digest = digestOfName(blob.name);
    bytesRead += blob.size;
    if (await store.has(digest, blob.size)) return blob.skip();
    const target = await store.ingest(digest, blob.size);
    try {
      const hashes = await pour(blob, target, context);
      await target.settle(hashes);
      waiting.set(digest, { target, hashes });
    } catch (error) {
      await target.abort();
      throw error;
    }
  });
  return {
    readManifest: heldManifests(manifests),
    size: () => bytesRead,
    missingBytes,
    async take(wanted) {
      const written: Written = { bytes: 0, blobs: 0, reusedBytes: 0 };
      const coming = [];
      for (const digest of wanted) {
        const size = sizes.get(digest) ?? 0;
        if (await store.has(digest, size)) written.reusedBytes += size;
        else coming.push({ digest, size });
      }
      announce(coming, written.reusedBytes, context);
      const took = (size: number) => {
        written.bytes += size;
        written.blobs += 1;
      };
      for (const [name, bytes] of manifests) {
        const digest = digestOfName(name);
        if (!wanted.has(digest) || (await store.has(digest, bytes.length))) continue;
        await store.putBytes(digest, bytes);
        took(bytes.length);
      }
      for (const [digest, { target, hashes }] of waiting) {
        if (!wanted.has(digest)) continue;
        await target.commit(hashes);
        took(target.size);
      }
      for (let blob = await bundle.nextBlob(); blob; blob = await bundle.nextBlob()) {
        context.signal.throwIfAborted();
        const { name, size } = blob;
        const digest = digestOfName(name);
        bytesRead += size;
        if (!wanted.has(digest) || (await store.has(digest, size))) {
          await blob.skip();
          continue;
        }
        const layer = blob;
        await ingest(store, digest, size, (target) => pour(layer, target, context));
        took(size);
      }
      return written;
    },
    async abandon() {
      for (const { target } of waiting.values()) await target.abort();
    },
  };
}

async function pour(blob: StreamBlob, target: Ingest, context: Context): Promise<Hashes> {
  const { digest } = target;
  const algorithm: HashAlgorithm = digestAlgorithm(digest);
  const sink = context.pool.stream({ target: { fd: target.fd, offset: 0 }, algorithms: [algorithm] });
  let bytes = 0;
  let told = 0;
  context.emit({ type: 'blob', state: 'started', digest, bytes, size: blob.size });
  try {
    for await (const chunk of blob.content) {
      context.signal.throwIfAborted();
      await sink.write(chunk);
      bytes += chunk.length;
      if (bytes - told >= 1024 * 1024) {
        told = bytes;
        context.emit({ type: 'blob', state: 'progress', digest, bytes, size: blob.size });
      }
    }
    const { hashes } = await sink.finish();
    context.emit({ type: 'blob', state: 'done', digest, bytes, size: blob.size });
    return hashes;
  } catch (error) {
    sink.abort();
    await sink.released;
    throw error;
  }
}

// ---------------------------------------------------------------- commit

interface Outcome {
  readonly imported: readonly string[];
  readonly unchanged: readonly string[];
  readonly removed: readonly string[];
}

/** What a commit will change in the store. */
interface CommitPlan {
  readonly records: readonly ImageRecord[];
  /** Those that are not there as they are. */
  readonly changed: readonly ImageRecord[];
  readonly withdrawn: readonly string[];
  /** Digests by name. */
  readonly before: ReadonlyMap<string, Digest>;
}

/** Withdrawn names go, chosen ones come, and what the collection still vouches for has its trust renewed. */
async function planCommit(
  store: Store,
  trust: TrustJudgement,
  chosen: readonly ImageVerdict[],
  context: Context,
): Promise<CommitPlan> {
  const { images: stored } = await store.list();
  const byName = new Map(stored.map((record) => [record.name, record]));
  const mine = new Map([...byName].filter(([, { collectionId }]) => collectionId === trust.collectionId));
  const withdrawn = trust.withdrawn.filter(({ name }) => mine.has(name)).map(({ name }) => name);
  const records = chosen.map((image) => recordOf(image, trust, context, byName.get(image.name)));
  const names = new Set([...records.map(({ name }) => name), ...withdrawn]);
  const renewed = [...mine.values()].filter(
    ({ name, digest }) => !names.has(name) && resolveTarget(trust.set, name)?.digest === digest,
  );
  const renewedRecords = renewed.map((record) => ({ ...record, trustExpires: trust.collection.expires }));
  const known = new Map(stored.map((record) => [record.name, JSON.stringify(record)]));
  return {
    records,
    // The same bundle once more leaves every file as it is.
    changed: [...records, ...renewedRecords].filter(
      (record) => known.get(record.name) !== JSON.stringify(record),
    ),
    withdrawn,
    before: new Map(stored.map((record) => [record.name, record.digest])),
  };
}

async function commit(store: Store, plan: CommitPlan): Promise<Outcome> {
  const { records, changed, withdrawn, before } = plan;
  const removed =
    changed.length + withdrawn.length > 0 ? await store.admit(changed, { withdraw: withdrawn }) : [];
  const isNew = ({ name, digest }: ImageRecord) => before.get(name) !== digest;
  return {
    imported: records.filter(isNew).map(({ name }) => name),
    unchanged: records.filter((record) => !isNew(record)).map(({ name }) => name),
    removed,
  };
}

/** Notes for receipts what has arrived; resolves to its code where every image of the bundle is in the store. */
async function noteArrival(
  gate: Gate,
  { head }: BundleReader,
  { collectionId, manifest }: TrustJudgement,
  { before, records, withdrawn }: CommitPlan,
  refused: number,
  context: Context,
): Promise<string | undefined> {
  const after = new Map([...before, ...records.map(({ name, digest }) => [name, digest] as const)]);
  for (const name of withdrawn) after.delete(name);
  const arrival = {
    version: manifest.version,
    manifest: createHash('sha256').update(head.manifest).digest('hex'),
    at: formatTimestamp(context.now),
    images: manifest.images.length,
    admitted: manifest.images.filter(({ name, digest }) => after.get(name) === digest).length,
    refused,
  };
  await recordArrival(gate.directory, collectionId, arrival);
  return arrival.admitted === arrival.images
    ? paperCode({ collection: collectionId, ...arrival })
    : undefined;
}

function recordOf(
  image: ImageVerdict,
  trust: TrustJudgement,
  context: Context,
  before: ImageRecord | undefined,
): ImageRecord {
  const listed = trust.manifest.images.find(({ name }) => name === image.name);
  if (!listed)
    throw new SealiftError('internal', 'a chosen image is not in the bundle manifest', {
      subject: image.name,
    });
  const evidence = new Set(listed.evidence);
  return {
    name: listed.name,
    digest: listed.digest,
    mediaType: listed.mediaType,
    size: listed.size,
    contentSize: listed.contentSize,
    platforms: listed.platforms,
    omitted: listed.omitted.map(({ digest }) => digest),
    evidence: trust.manifest.evidence
      .filter(({ digest }) => evidence.has(digest))
      .map(({ digest, mediaType, artifactType, size, subject, tag }) => ({
        digest,
        mediaType,
        artifactType,
        size,
        subject,
        ...(tag === undefined ? {} : { tag }),
      })),
    ...(listed.digestMadeHere === true ? { digestMadeHere: true as const } : {}),
    collectionId: trust.collectionId,
    bundleVersion: trust.manifest.version,
    role: image.role,
    // An image that is there already was let in then, not now; what is renewed is its trust.
    importedAt: before?.digest === listed.digest ? before.importedAt : formatTimestamp(context.now),
    trustExpires: trust.collection.expires,
  };
}
