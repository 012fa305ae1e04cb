/** Workflows that do nothing but tell what they were given, and a run of the front end over them. */
import { PassThrough } from 'node:stream';
import { COMMANDS } from '../../cli/commands/index.ts';
import { runSealift, type Surroundings } from '../../cli/run.ts';
import type { Workflows } from '../../cli/workflows.ts';
import { SealiftError } from '../../core/errors.ts';
import { DEFAULT_LIMITS } from '../../core/limits.ts';
import type {
  CollectionSummary,
  ExportResult,
  ImageSummary,
  ImportResult,
  VerifyResult,
} from '../../core/results.ts';
import { imageNameOf, parseLocation } from '../../core/transport/location.ts';

export const NOW = new Date('2026-11-23T12:00:00Z');
export const FINGERPRINT = '0123456789abcdef'.repeat(4);
const ID = 'fedcba9876543210'.repeat(4);
const DIGEST = `sha256:${'ab'.repeat(32)}`;

export const collection: CollectionSummary = {
  id: ID,
  name: 'main',
  version: 3,
  created: '2026-11-23T12:00:00Z',
  expires: '2027-02-21T12:00:00Z',
  rootFingerprint: FINGERPRINT,
  rootVersion: 1,
  roles: [
    {
      role: 'root',
      version: 1,
      expires: '2029-11-22T12:00:00Z',
      threshold: 1,
      keys: [{ keyId: ID, type: 'openpgp', fingerprint: 'ab'.repeat(20), userId: 'Jo <jo@example.org>' }],
    },
  ],
};

export const image: ImageSummary = {
  name: 'docker.io/library/alpine:3.20',
  digest: DIGEST,
  mediaType: 'application/vnd.oci.image.index.v1+json',
  platforms: ['linux/amd64', 'linux/arm64'],
  omitted: [{ digest: DIGEST, platform: 'linux/s390x', reason: 'platform' }],
  size: 8_000_000,
  evidence: [
    {
      digest: DIGEST,
      artifactType: 'application/vnd.dev.cosign.artifact.sig.v1+json',
      subject: DIGEST,
      via: 'referrers-api',
      size: 812,
      state: 'carried',
    },
  ],
  digestMadeHere: false,
};

export const exported: ExportResult = {
  output: '/media/stick/images.tar',
  size: 8_100_000,
  collection,
  images: [image],
  blobs: { count: 7, bytes: 8_000_000 },
  written: { bytes: 8_100_000, resumedBytes: 0 },
  resumed: false,
  weakened: [],
};

export const verified: VerifyResult = {
  bundle: '/media/stick/images.tar',
  size: 8_100_000,
  collection,
  checks: [
    { check: 'format', status: 'passed', detail: '14 entries' },
    { check: 'policy', status: 'skipped', detail: 'no policy is set' },
  ],
  images: [{ ...image, verdict: 'verified', reason: 'signed by images', role: 'images', admitted: true }],
  withdrawn: [],
  vanished: [],
  deep: true,
  policy: 'none',
  weakened: [],
};

export const imported: ImportResult = {
  ...verified,
  store: '/srv/images',
  imported: [image.name],
  unchanged: [],
  removed: [],
  written: { bytes: 8_000_000, blobs: 7, reusedBytes: 0 },
  auditHead: FINGERPRINT,
};

function missing(name: string): () => Promise<never> {
  return () => Promise.reject(new SealiftError('internal', `${name} is not faked`));
}

/** Everything fails but what a front end needs to get going. */
export function fakeWorkflows(over: Partial<Workflows> = {}): Workflows {
  return {
    createPool: () =>
      Promise.resolve({
        size: 1,
        warm: () => undefined,
        range: missing('range'),
        place: missing('place'),
        stream: () => {
          throw new Error('stream is not faked');
        },
        cipher: () => {
          throw new Error('cipher is not faked');
        },
        close: () => Promise.resolve(),
      }),
    limits: () => Promise.resolve(DEFAULT_LIMITS),
    parseLocation: (text) => {
      const location = parseLocation(text, () => false);
      imageNameOf(location);
      return Promise.resolve(location);
    },
    parsePlatform: (text) => Promise.resolve(text),
    credentials: () => Promise.resolve(() => Promise.resolve(undefined)),
    checkLogin: () => Promise.resolve({ checked: true }),
    createCollection: missing('createCollection'),
    parseImageList: missing('parseImageList'),
    exportBundle: missing('exportBundle'),
    previewExport: missing('previewExport'),
    verifyBundle: missing('verifyBundle'),
    importBundle: missing('importBundle'),
    inspect: missing('inspect'),
    diff: missing('diff'),
    rebundle: missing('rebundle'),
    splitBundle: missing('splitBundle'),
    joinBundle: missing('joinBundle'),
    imageDetails: missing('imageDetails'),
    previewImages: missing('previewImages'),
    listNames: missing('listNames'),
    pinRoot: missing('pinRoot'),
    trustStatus: missing('trustStatus'),
    readRoot: missing('readRoot'),
    listStore: missing('listStore'),
    collectGarbage: missing('collectGarbage'),
    makeReceipt: missing('makeReceipt'),
    pinGate: missing('pinGate'),
    serve: missing('serve'),
    sync: missing('sync'),
    verifyDestination: missing('verifyDestination'),
    clientConfig: missing('clientConfig'),
    trustOperations: missing('trustOperations'),
    ...over,
  };
}

export interface FakeRun {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the front end in this process, off a terminal unless `surroundings` says otherwise. */
export async function runFake(
  argv: readonly string[],
  workflows: Partial<Workflows> = {},
  surroundings: Partial<Surroundings> = {},
): Promise<FakeRun> {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const text = { stdout: '', stderr: '' };
  stdout.on('data', (part: Buffer) => {
    text.stdout += part.toString();
  });
  stderr.on('data', (part: Buffer) => {
    text.stderr += part.toString();
  });
  const code = await runSealift(argv, {
    env: { LANG: 'C.UTF-8' },
    platform: 'linux',
    cwd: '/nowhere',
    home: '/home/jo',
    uid: 1000,
    pid: 4711,
    stdin: new PassThrough(),
    stdout,
    stderr,
    now: NOW,
    clock: () => 0,
    signal: new AbortController().signal,
    stoppedBy: () => undefined,
    onAbandon: () => {},
    commands: COMMANDS,
    workflows: fakeWorkflows(workflows),
    ...surroundings,
  });
  return { code, ...text };
}

/** `run.stdout` as the one JSON document it must be. */
export function documentOf(run: FakeRun): Record<string, unknown> {
  if (!run.stdout.endsWith('\n') || run.stdout.trimEnd().includes('\n')) {
    throw new Error(`not one line on standard output: ${JSON.stringify(run.stdout)}`);
  }
  return JSON.parse(run.stdout) as Record<string, unknown>;
}
