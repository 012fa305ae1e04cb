/** Verify: every check an import makes, and no change anywhere. */
import { read } from 'node:fs';
import type { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { bundleToApprove, checkApprovals } from './admission/approvals.ts';
import type { BundleManifest } from './bundle/manifest.ts';
import { openBundleAt } from './bundle/open.ts';
import {
  type BlobPiece,
  type BlobPlace,
  type BundleReader,
  type FileBundle,
  openBundleStream,
  type StreamBlob,
  type StreamBundle,
} from './bundle/reader.ts';
import type { Context } from './context.ts';
import { baseSummary } from './delta/base.ts';
import type { Rehearsal } from './delta/rehearsal.ts';
import { openVerifyBase } from './delta/verify-base.ts';
import { SealiftError } from './errors.ts';
import { openGate } from './gate/gate.ts';
import { readGatePolicy } from './gate/policy-file.ts';
import {
  type Anchor,
  applyDecisions,
  Checklist,
  claimedCollectionId,
  judgeContent,
  judgeTrust,
  MAX_HELD_EVIDENCE,
  type ManifestReader,
  type PolicyInForce,
  waivedExpiries,
} from './judge.ts';
import { blobPath, digestAlgorithm, digestHex, digestOfBlobPath } from './oci/digest.ts';
import type { HashAlgorithm, Hashes, StreamSink } from './pool/pool.ts';
import type { ImageVerdict, VerifyResult } from './results.ts';
import { fullName } from './transport/bundle/names.ts';
import { tellExpiringIn } from './trust/expiring.ts';
import { forEachLimited } from './util/concurrency.ts';
import { formatBytes } from './util/format.ts';
import type { VerifyOptions } from './workflow-options.ts';

const readFd = promisify(read);

/**
 * Verifies a bundle against the gate's pins, or against a fingerprint.
 *
 * @throws SealiftError the first check that refuses, with `check`; `not-pinned` where the gate knows no such collection
 */
export async function verifyBundle(options: VerifyOptions, context: Context): Promise<VerifyResult> {
  const rehearsal = await rehearsalOf(options, context);
  if (rehearsal) ({ context } = rehearsal);
  const checklist = new Checklist(context);
  const reader = await openBundle(options.bundle, checklist, context);
  const closing: ({ close(): Promise<void> } | undefined)[] = [reader];
  try {
    const anchor = rehearsal?.anchor ?? (await findAnchor(reader, options, context));
    const { overrides } = options;
    const trust = await namingVolume(
      reader,
      judgeTrust(reader, checklist, { anchor, overrides, onStep: rehearsal?.onStep }, context),
    );
    const expiring = await tellExpiringIn(trust.set, context);
    const rehearsed = rehearsal?.finish(trust, reader.head.manifest);
    selectImages(trust.images, options.names);
    // The gate of this machine has no say in a rehearsal.
    const policy =
      rehearsal && options.policy === undefined
        ? undefined
        : await findPolicy(options, trust.set.time, context);
    const contents = await openContents(reader, trust.manifest, context);
    const base = rehearsal ? undefined : await openVerifyBase(trust.manifest, options, context);
    closing.push(base);
    const judged = await judgeContent(
      trust.manifest,
      reader.head,
      contents.readManifest,
      checklist,
      context,
      policy,
      rehearsal?.base ?? base?.holder,
    );
    const approved = bundleToApprove(trust.collectionId, trust.collection.version, reader.head.manifest);
    const approvals = await checkApprovals(approved, options, false, trust.set.time, checklist, context);
    const images = selectImages(applyDecisions(trust.images, judged), options.names);
    if (options.deep) {
      await checklist.run('layers', async () => {
        const { blobs, bytes } = await contents.hashAll();
        const named = await base?.hashNamed(judged.blobs);
        const more = named?.blobs ? `, ${named.blobs} of the base, ${formatBytes(named.bytes)}` : '';
        return [undefined, `${blobs} blobs, ${formatBytes(bytes)} hashed${more}`];
      });
    } else {
      checklist.skip('layers', 'not asked for: contents of layers were not read');
    }
    return {
      bundle: nameOf(options.bundle),
      size: contents.size(),
      collection: trust.collection,
      checks: checklist.results,
      images,
      withdrawn: trust.withdrawn,
      vanished: trust.vanished,
      deep: options.deep,
      base: baseSummary(trust.manifest),
      ...(rehearsed ? { rehearsal: rehearsed } : {}),
      policy: policyInUse(policy),
      manifest: approved.manifest,
      ...(approvals ? { approvals } : {}),
      weakened: [...trust.weakened, ...waivedExpiries(judged, images)],
      ...(expiring.length > 0 ? { expiringKeys: expiring } : {}),
    };
  } finally {
    for (const one of closing) await one?.close();
  }
}

async function rehearsalOf(options: VerifyOptions, context: Context): Promise<Rehearsal | undefined> {
  if (!options.rehearse) return undefined;
  const { prepareRehearsal } = await import('./delta/rehearsal.ts');
  return prepareRehearsal(options.rehearse, options.policy, options.names, context);
}

/**
 * The policy to judge by: the file that was named, or the gate's; undefined where there is neither.
 * @throws SealiftError `policy-missing`, `policy-invalid`, `invalid-argument`
 */
export async function findPolicy(
  options: { readonly gate: string; readonly policy?: string | undefined },
  now: Date,
  context: Context,
): Promise<PolicyInForce | undefined> {
  const { loadPolicy, loadPolicyFile } = await import('./trust/policy/load.ts');
  if (options.policy !== undefined)
    return { from: 'file', loaded: await loadPolicyFile(options.policy, context.limits), now };
  const kept = await readGatePolicy(options.gate);
  return kept && { from: 'gate', loaded: loadPolicy(kept.bytes, kept.file, context.limits), now };
}

export function policyInUse(policy: PolicyInForce | undefined): VerifyResult['policy'] {
  return policy ? { from: policy.from, sha256: policy.loaded.sha256 } : 'none';
}

export function nameOf(bundle: VerifyOptions['bundle']): string {
  if (bundle.kind === 'encrypted') return bundle.paths[0] ?? '-';
  return bundle.kind === 'file' ? bundle.path : '-';
}

/** What `promise` gives; damage of the head is told of the volume it lies in. */
export async function namingVolume<T>(reader: BundleReader, promise: Promise<T>): Promise<T> {
  return promise.catch(async (error: unknown) => {
    throw reader.kind === 'file' ? await reader.explain(error) : error;
  });
}

/** Opens a bundle as the named check `format`. */
export async function openBundle(
  bundle: VerifyOptions['bundle'],
  checklist: Checklist,
  context: Context,
): Promise<BundleReader> {
  context.emit({ type: 'phase', phase: 'verify', title: 'verifying' });
  return checklist.run('format', async () => {
    const reader = await openReader(bundle, context);
    return [reader, `bundle format 1, ${reader.head.files.size} files before the blobs`];
  });
}

async function openReader(bundle: VerifyOptions['bundle'], context: Context): Promise<BundleReader> {
  switch (bundle.kind) {
    case 'file':
      return openBundleAt(bundle, context);
    case 'stream':
      return openBundleStream(bundle.stream as Readable, context);
    case 'encrypted': {
      const { openEncrypted } = await import('./encryption/open.ts');
      return openBundleStream(await openEncrypted(bundle, context), context);
    }
  }
}

/** @throws SealiftError `not-pinned` */
export async function findAnchor(
  reader: BundleReader,
  options: Pick<VerifyOptions, 'gate' | 'fingerprint'>,
  context: Context,
): Promise<Anchor> {
  if (options.fingerprint !== undefined) return { kind: 'fingerprint', fingerprint: options.fingerprint };
  const id = claimedCollectionId(reader.head, context);
  const gate = await openGate(options.gate, { create: false });
  const state = await gate.kept(id);
  if (!state) throw notPinned(id, options.gate);
  return { kind: 'kept', state };
}

function notPinned(id: string, gate: string): SealiftError {
  return new SealiftError('not-pinned', `the collection ${id} is not pinned in this gate`, {
    subject: gate,
    got: id,
    check: 'root-chain',
    hint: 'get the root fingerprint from the sender by another way than the medium, then: sealift trust pin BUNDLE --fingerprint SHA256',
  });
}

/** @throws SealiftError `name-not-found` */
export function selectImages(
  images: readonly ImageVerdict[],
  names: readonly string[],
): readonly ImageVerdict[] {
  if (names.length === 0) return images;
  const byName = new Map(images.map((image) => [image.name, image]));
  return names.map((name) => {
    const image = byName.get(fullName(name));
    if (!image) {
      throw new SealiftError('name-not-found', 'the bundle carries no image of that name', {
        subject: name,
        hint: 'sealift inspect BUNDLE lists the names',
      });
    }
    return image;
  });
}

export interface BundleContents {
  readonly readManifest: ManifestReader;
  /** Reads and hashes every blob that has not been read, and the frame of the archive. */
  hashAll(): Promise<{ readonly blobs: number; readonly bytes: number }>;
  /** Bytes of the bundle as far as they are known. */
  size(): number;
}

async function openContents(
  reader: BundleReader,
  manifest: BundleManifest,
  context: Context,
): Promise<BundleContents> {
  return reader.kind === 'file' ? fileContents(reader, manifest, context) : streamContents(reader, context);
}

/** Every blob of a bundle file and where it lies, in archive order. */
export function blobPlaces(bundle: FileBundle, manifest: BundleManifest): BlobPlace[] {
  return manifest.entries.flatMap(({ name, kind }) => {
    if (!kind) return [];
    const place = bundle.blob(name);
    if (!place) throw new SealiftError('internal', 'a listed blob has no place', { subject: name });
    return [place];
  });
}

function fileContents(bundle: FileBundle, manifest: BundleManifest, context: Context): BundleContents {
  return {
    readManifest: (name) => bundle.readBlob(name, context.limits.manifest),
    size: () => bundle.size,
    async hashAll() {
      const places = blobPlaces(bundle, manifest);
      const total = places.reduce((sum, { size }) => sum + size, 0);
      context.emit({ type: 'phase', phase: 'hash', title: 'hashing contents' });
      context.emit({ type: 'transfer', bytes: total, blobs: places.length, skippedBytes: 0 });
      const told = tellPieces(context);
      const cut = cutHashes(context);
      try {
        const hash = async (piece: BlobPiece, signal: AbortSignal): Promise<void> => {
          const { blob, fd, offset, size, whole } = piece;
          const algorithm = digestAlgorithm(digestOfName(blob.name));
          if (!whole) {
            const hashes = await cut.take(piece, signal, told.progress(piece));
            if (hashes) refuseOtherDigest(blob.name, algorithm, hashes[algorithm]);
            return;
          }
          const hashes = await context.pool.range({
            source: { fd, offset },
            size,
            algorithms: [algorithm],
            signal,
            onProgress: told.progress(piece),
          });
          refuseOtherDigest(blob.name, algorithm, hashes[algorithm]);
          told.done(piece);
        };
        await bundle.take(
          places,
          (pieces) =>
            forEachLimited(pieces, Math.max(1, context.pool.size), context.signal, (piece, signal) =>
              hash(piece, signal).catch(async (error: unknown) => {
                throw await bundle.explain(error, piece.blob);
              }),
            ),
          // A volume may hold nothing but headers, padding or the end.
          { inOrder: true, everything: true },
        );
      } finally {
        await cut.close();
      }
      await bundle.assertUnchanged();
      return { blobs: places.length, bytes: total };
    },
  };
}

/** Progress of blobs that come piece by piece. */
export function tellPieces(context: Context): {
  progress(piece: BlobPiece): (bytes: number) => void;
  done(piece: BlobPiece): void;
} {
  const tell = ({ blob, at }: BlobPiece, state: 'started' | 'progress' | 'done', bytes: number) =>
    context.emit({
      type: 'blob',
      state,
      digest: digestOfName(blob.name),
      bytes: at + bytes,
      size: blob.size,
    });
  return {
    progress(piece) {
      if (piece.at === 0) tell(piece, 'started', 0);
      return (bytes) => tell(piece, 'progress', bytes);
    },
    done: (piece) => tell(piece, 'done', piece.size),
  };
}

/** Hashes of blobs that lie in several volumes, which come in order. */
function cutHashes(context: Context) {
  const open = new Map<string, StreamSink>();
  return {
    /** The hashes, with the last piece. */
    async take(
      { blob, fd, offset, size, at }: BlobPiece,
      signal: AbortSignal,
      progress: (bytes: number) => void,
    ): Promise<Hashes | undefined> {
      const sink =
        open.get(blob.name) ??
        context.pool.stream({ algorithms: [digestAlgorithm(digestOfName(blob.name))] });
      open.set(blob.name, sink);
      for (let done = 0; done < size; ) {
        signal.throwIfAborted();
        const buffer = Buffer.allocUnsafeSlow(Math.min(1024 * 1024, size - done));
        const { bytesRead } = await readFd(fd, buffer, 0, buffer.length, offset + done);
        if (bytesRead === 0) throw new SealiftError('bundle-truncated', 'the volume ends too early');
        done += bytesRead;
        await sink.write(buffer.subarray(0, bytesRead));
        progress(done);
      }
      if (at + size < blob.size) return undefined;
      open.delete(blob.name);
      return (await sink.finish()).hashes;
    },
    async close(): Promise<void> {
      for (const sink of open.values()) {
        sink.abort();
        await sink.released;
      }
    },
  };
}

async function streamContents(bundle: StreamBundle, context: Context): Promise<BundleContents> {
  let bytes = bundle.head.size;
  let blobs = 0;
  const manifests = await readSmallBlobs(bundle, context, async (blob) => {
    await blob.skip();
    blobs += 1;
    bytes += blob.size;
  });
  for (const held of manifests.values()) bytes += held.length;
  return {
    readManifest: heldManifests(manifests),
    size: () => bytes,
    async hashAll() {
      for (let blob = await bundle.nextBlob(); blob; blob = await bundle.nextBlob()) {
        context.signal.throwIfAborted();
        await blob.skip();
        blobs += 1;
        bytes += blob.size;
      }
      return { blobs: blobs + manifests.size, bytes };
    },
  };
}

/** Manifests and small evidence of a stream, which come before all layers, held in memory; other small blobs go to `other`. */
export async function readSmallBlobs(
  bundle: StreamBundle,
  context: Context,
  other: (blob: StreamBlob) => Promise<void>,
): Promise<Map<string, Uint8Array>> {
  const manifests = new Map<string, Uint8Array>();
  let held = 0;
  for await (const blob of bundle.blobs('small')) {
    context.signal.throwIfAborted();
    const isHeld = blob.kind === 'manifest' || (blob.kind === 'evidence' && blob.size <= MAX_HELD_EVIDENCE);
    if (!isHeld) {
      await other(blob);
      continue;
    }
    held += blob.size;
    if (held > context.limits.bundleFile * 4) {
      throw new SealiftError('bundle-too-large', 'too many manifests for a stream', {
        subject: blob.name,
        hint: 'save the bundle to a file and give its path',
      });
    }
    manifests.set(blob.name, await blob.bytes(context.limits.manifest));
  }
  return manifests;
}

export function heldManifests(manifests: ReadonlyMap<string, Uint8Array>): ManifestReader {
  return async (name) => {
    const bytes = manifests.get(name);
    if (!bytes) throw new SealiftError('blob-missing', 'a manifest is not listed as one', { subject: name });
    return bytes;
  };
}

export const digestOfName: typeof digestOfBlobPath = digestOfBlobPath;

export function refuseOtherDigest(name: string, algorithm: HashAlgorithm, hex: string | undefined): void {
  const want = digestOfName(name);
  if (hex === digestHex(want)) return;
  throw new SealiftError(
    'digest-mismatch',
    `content has another digest: got ${algorithm}:${hex}, want ${want}`,
    {
      subject: blobPath(want),
      got: `${algorithm}:${hex}`,
      want,
      hint: 'the medium is damaged or was tampered with; copy the bundle again',
    },
  );
}
