import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll } from 'vitest';
import {
  dockerManifestJson,
  indexJson,
  ociLayoutFile,
  sha256Sums,
  sha512Sums,
} from '../../../core/bundle/computed.ts';
import { type BundlePlan, type HeadFile, layoutBundle } from '../../../core/bundle/layout.ts';
import {
  type BlobKind,
  type BundleManifest,
  createdSeconds,
  encodeBundleManifest,
  listEntries,
} from '../../../core/bundle/manifest.ts';
import { END_BLOCKS, tarHeader } from '../../../core/bundle/tar.ts';
import { isSealiftError } from '../../../core/errors.ts';
import { DEFAULT_LIMITS } from '../../../core/limits.ts';
import { digestOf } from '../../../core/oci/digest.ts';
import type { WorkerPool } from '../../../core/pool/pool.ts';
import { createWorkerPool } from '../../../core/pool/worker-pool.ts';

export const CREATED = '2026-01-02T03:04:05Z';

export interface MadeBlob {
  readonly bytes: Uint8Array;
  readonly kind: BlobKind;
  readonly algorithm?: 'sha256' | 'sha512' | undefined;
}

export interface MadeBundle {
  readonly manifest: BundleManifest;
  readonly head: readonly HeadFile[];
  readonly blobs: ReadonlyMap<string, Uint8Array>;
  readonly plan: BundlePlan;
  /** The bundle, put together without any writer. */
  readonly bytes: Buffer;
}

export interface MakeOptions {
  readonly blobs?: readonly MadeBlob[] | undefined;
  readonly signedSums?: boolean | undefined;
  readonly certificates?: number | undefined;
  readonly roots?: number | undefined;
  /** Another delegated role, so that its file name needs a prefix or a pax record. */
  readonly role?: string | undefined;
  readonly dockerManifest?: boolean | undefined;
  readonly readme?: string | undefined;
}

const hex = (bytes: Uint8Array, algorithm = 'sha256') => createHash(algorithm).update(bytes).digest('hex');

export function blobName({ bytes, algorithm = 'sha256' }: MadeBlob): string {
  return `blobs/${algorithm}/${hex(bytes, algorithm)}`;
}

export const SOME_BLOBS: readonly MadeBlob[] = [
  { bytes: Buffer.from('{"a manifest":1}'), kind: 'manifest' },
  { bytes: Buffer.from('{"a config":1}'), kind: 'config' },
  { bytes: Buffer.from('evidence'), kind: 'evidence' },
  { bytes: Buffer.from('a layer'), kind: 'layer' },
  { bytes: Buffer.alloc(1024, 'l'), kind: 'layer' },
];

/** A bundle with placeholder metadata: right in every byte the bundle format speaks of, not signed by anyone. */
export function makeBundle(options: MakeOptions = {}): MadeBundle {
  const version = 7;
  const unique = new Map((options.blobs ?? SOME_BLOBS).map((blob) => [blobName(blob), blob]));
  const image = [...unique.values()].find(({ kind }) => kind === 'manifest');
  const images = image
    ? [
        {
          name: 'docker.io/library/alpine:3.20',
          digest: digestOf(image.bytes, image.algorithm),
          mediaType: 'application/vnd.oci.image.manifest.v1+json',
          size: image.bytes.length,
          platforms: ['linux/amd64'],
          omitted: [],
          contentSize: 1,
          evidence: [],
        },
      ]
    : [];
  const role = options.role ?? 'images';
  const early = new Map<string, Uint8Array>();
  early.set('oci-layout', ociLayoutFile());
  early.set('README.txt', Buffer.from(options.readme ?? 'A bundle.\n'));
  for (let i = 0; i < (options.certificates ?? 1); i += 1) {
    early.set(`metadata/certificates/${String(i).padStart(40, 'a')}.pgp`, Buffer.from(`certificate ${i}`));
  }
  for (let i = 1; i <= (options.roots ?? 2); i += 1)
    early.set(`metadata/${i}.root.json`, Buffer.from(`root ${i}`));
  early.set('metadata/1.targets.json', Buffer.from('targets'));
  early.set(`metadata/3.${role}.json`, Buffer.from('images'));
  early.set('index.json', indexJson(images));
  if (options.dockerManifest) {
    const name = images[0]?.name ?? '';
    early.set('manifest.json', dockerManifestJson({ name, config: `sha256:${'c'.repeat(64)}`, layers: [] }));
  }
  const entries = listEntries({
    version,
    files: new Map([...early].map(([name, bytes]) => [name, { size: bytes.length, sha256: hex(bytes) }])),
    delegated: [
      { role: 'bundles', version },
      { role, version: 3 },
    ],
    signedSums: options.signedSums ?? true,
    blobs: [...unique].map(([name, { bytes, kind }]) => ({ name, size: bytes.length, kind })),
  });
  const manifest: BundleManifest = {
    formatVersion: 1,
    mediaType: 'application/vnd.sealift.bundle.v1+json',
    generator: 'sealift test',
    requires: [],
    features: [],
    collection: { id: 'c0'.repeat(32), name: 'test' },
    version,
    created: CREATED,
    images,
    evidence: [],
    entries,
  };
  const files = new Map(early);
  files.set('metadata/timestamp.json', Buffer.from('timestamp'));
  files.set(`metadata/${version}.snapshot.json`, Buffer.from('snapshot'));
  files.set(`metadata/${version}.bundles.json`, Buffer.from('bundles'));
  files.set('sealift.json', encodeBundleManifest(manifest));
  files.set('SHA256SUMS.asc', Buffer.from('signature'));
  const sums512 = sha512Sums(entries);
  if (sums512) files.set('SHA512SUMS', sums512);
  const hashed = entries.map(({ name, sha256 }) => {
    const bytes = files.get(name);
    return { name, sha256: bytes ? hex(bytes) : sha256 };
  });
  files.set('SHA256SUMS', sha256Sums(hashed));
  const head = entries
    .filter(({ kind }) => kind === undefined)
    .map(({ name }) => ({ name, bytes: files.get(name) ?? new Uint8Array() }));
  const listed = entries.filter(({ kind }) => kind !== undefined);
  const blobs = new Map(listed.map(({ name }) => [name, unique.get(name)?.bytes ?? new Uint8Array()]));
  const mtime = createdSeconds(CREATED) ?? 0;
  const plan = layoutBundle(
    head,
    listed.map(({ name, size = 0 }) => ({ name, size })),
    mtime,
  );
  const parts: Uint8Array[] = [];
  for (const { name, size, paddingSize } of plan.layout.entries) {
    parts.push(tarHeader(name, size, mtime), files.get(name) ?? blobs.get(name) ?? Buffer.alloc(0));
    parts.push(Buffer.alloc(paddingSize));
  }
  parts.push(END_BLOCKS);
  return { manifest, head, blobs, plan, bytes: Buffer.concat(parts) };
}

const directories: string[] = [];
const pools: WorkerPool[] = [];

afterAll(async () => {
  for (const directory of directories) rmSync(directory, { recursive: true, force: true });
  await Promise.all(pools.map((pool) => pool.close()));
});

/** A directory that goes away when the tests of the file are over. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'sealift-bundle-'));
  directories.push(directory);
  return directory;
}

export function inlinePool(): WorkerPool {
  const pool = createWorkerPool({ size: 0 });
  pools.push(pool);
  return pool;
}

export function readOptions(limits: Partial<typeof DEFAULT_LIMITS> = {}) {
  return {
    limits: { ...DEFAULT_LIMITS, ...limits },
    signal: new AbortController().signal,
    pool: inlinePool(),
  };
}

/** The code of the error that `work` throws; the text `accepted` where it throws none. */
export async function codeOf(work: () => unknown): Promise<string> {
  try {
    await work();
    return 'accepted';
  } catch (error) {
    if (isSealiftError(error)) return error.code;
    throw error;
  }
}

export { hex, randomBytes };
