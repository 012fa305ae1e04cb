import path from 'node:path';
import { getCACertificates } from 'node:tls';
import type { Context } from '../../core/context.ts';
import { inert, SealiftError } from '../../core/errors.ts';
import type { OpenDestination } from '../../core/publish/destination.ts';
import type { PlacementOptions } from '../../core/publish/placement.ts';
import type { SyncOptions, SyncResult } from '../../core/sync.ts';
import type { VerifyDestinationResult } from '../../core/verify-destination.ts';
import type { Args, OptionGroup } from '../args.ts';
import { readCaFile } from './source.ts';
import { parseDuration } from './values.ts';

/** Where images are published to, as it was written on the command line. */
export type DestinationSpec =
  | { readonly kind: 'static'; readonly directory: string }
  | { readonly kind: 'bucket'; readonly bucket: string; readonly prefix: string };

/** How a bucket is reached. */
export interface BucketAccess {
  readonly endpoint: string | undefined;
  readonly region: string | undefined;
  readonly profile: string | undefined;
  readonly pathStyle: boolean;
  /** PEM, beside the system's. */
  readonly ca: Uint8Array | undefined;
  readonly retryTimes: number;
}

/** Options of commands that write to a bucket. */
export const bucketOptions = {
  'endpoint-url': {
    kind: 'text',
    value: 'URL',
    describe: 'the S3-compatible server (default: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, else AWS itself)',
  },
  region: { kind: 'text', value: 'NAME', describe: "the bucket's region (default: AWS's settings)" },
  profile: { kind: 'text', value: 'NAME', describe: "a profile of AWS's configuration files" },
  addressing: {
    kind: 'text',
    value: 'STYLE',
    choices: ['path', 'virtual'],
    describe:
      'whether the bucket is in the path or in the host (default: path with an endpoint, else virtual)',
  },
  'ca-file': {
    kind: 'text',
    value: 'FILE',
    describe:
      'certificates (PEM) that the endpoint may be signed by, beside those of the system (default: AWS_CA_BUNDLE)',
  },
  'retry-times': {
    kind: 'text',
    value: 'N',
    describe: 'how often a failed request to a bucket is tried again (default 5)',
  },
} as const satisfies OptionGroup;

export function bucketAccess(args: Args, env: Readonly<Record<string, string | undefined>>): BucketAccess {
  const endpoint = args.text('endpoint-url') ?? env['AWS_ENDPOINT_URL_S3'] ?? env['AWS_ENDPOINT_URL'];
  if (endpoint !== undefined && !/^https?:\/\/[^/?#\s@]+\/?$/.test(endpoint)) {
    throw new SealiftError(
      'invalid-argument',
      `option --endpoint-url: got ${inert(endpoint)}, want a URL such as https://s3.example`,
      { subject: '--endpoint-url' },
    );
  }
  const region = args.text('region') ?? env['AWS_REGION'] ?? env['AWS_DEFAULT_REGION'];
  const profile = args.text('profile');
  const addressing = args.text('addressing') ?? (endpoint === undefined ? 'virtual' : 'path');
  const caFile = args.text('ca-file') ?? (env['AWS_CA_BUNDLE'] || undefined);
  return {
    endpoint,
    // Servers that are not AWS's have a region for the signature only, and this is the one they expect.
    region: region ?? (endpoint !== undefined && profile === undefined ? 'us-east-1' : undefined),
    profile,
    pathStyle: addressing === 'path',
    ca: caFile === undefined ? undefined : readCaFile(caFile),
    retryTimes: args.integer('retry-times', 0, 100) ?? 5,
  };
}

const KINDS = 'static:DIRECTORY or s3://BUCKET[/PREFIX]';

/** `static:DIR` or `s3://BUCKET[/PREFIX]`. */
export function parseDestination(text: string, cwd: string): DestinationSpec {
  if (text.startsWith('static:') && text.length > 'static:'.length) {
    return { kind: 'static', directory: path.resolve(cwd, text.slice('static:'.length)) };
  }
  const [, bucket, prefix = ''] =
    /^s3:\/\/([A-Za-z0-9][A-Za-z0-9._-]{1,62})(?:\/([A-Za-z0-9!_.*'()/-]*))?$/.exec(text) ?? [];
  const trimmed = prefix.replace(/\/+$/, '');
  if (
    bucket !== undefined &&
    !trimmed.split('/').some((part, at) => (part === '' && at > 0) || /^\.\.?$/.test(part)) &&
    !trimmed.startsWith('/')
  ) {
    return { kind: 'bucket', bucket, prefix: trimmed };
  }
  throw new SealiftError('unknown-location', `got ${inert(text)}, want ${KINDS}`, {
    subject: inert(text),
    want: KINDS,
    hint: 'images are published into a directory, static:/srv/images, or a bucket, s3://images',
  });
}

/** As `parseDuration`; nothing but `0` is shorter than a minute. */
export function parseGrace(text: string, option: string): number {
  return text === '0' ? 0 : parseDuration(text, option);
}

/** Options of commands that place images at a destination. */
export const placementOptions = {
  prefix: {
    kind: 'text',
    value: 'REPOSITORY',
    describe: 'put it before every repository at the destination',
  },
  map: {
    kind: 'list',
    value: 'FROM=TO',
    describe: 'repositories whose names begin with FROM are put under TO; may be given again',
  },
} as const satisfies OptionGroup;

const DEFAULT_GRACE = '24h';

export const repairOptions = {
  repair: {
    kind: 'flag',
    describe: 'look at what is there as verify does, and send again what is wrong',
  },
  deep: { kind: 'flag', describe: 'with --repair: read every object at the destination whole' },
} as const satisfies OptionGroup;

/** Options of commands that publish. */
export const publishOptions = {
  ...placementOptions,
  host: {
    kind: 'text',
    value: 'HOST',
    describe: 'how clients reach the destination, for the catalog page',
  },
  ...repairOptions,
  prune: { kind: 'flag', describe: 'take away at the destination what is not wanted there any more' },
  grace: {
    kind: 'text',
    value: 'TIME',
    describe: `with --prune: how long content stays after its last tag went away (default ${DEFAULT_GRACE})`,
  },
} as const satisfies OptionGroup;

/** Where a command publishes, and how. */
export interface PublishRequest {
  readonly destinations: readonly DestinationSpec[];
  readonly access: BucketAccess;
  readonly prefix: string | undefined;
  /** `FROM=TO` */
  readonly map: readonly string[];
  readonly host: string | undefined;
  readonly prune: { readonly grace: number } | undefined;
  readonly repair: { readonly deep: boolean } | undefined;
  /** Shares blobs with the store instead of copying them, where that is possible. */
  readonly hardLink?: boolean | undefined;
}

export function publishRequest(
  args: Args,
  destinations: readonly DestinationSpec[],
  env: Readonly<Record<string, string | undefined>>,
): PublishRequest {
  const grace = args.text('grace');
  const prune = args.flag('prune');
  if (grace !== undefined && !prune) {
    throw new SealiftError('invalid-argument', 'option --grace means nothing without --prune', {
      subject: '--grace',
    });
  }
  const repair = args.flag('repair');
  if (args.flag('deep') && !repair) {
    throw new SealiftError('invalid-argument', 'option --deep means nothing without --repair', {
      subject: '--deep',
      hint: 'sealift verify LOCATION --deep reads everything and changes nothing',
    });
  }
  return {
    destinations,
    repair: repair ? { deep: args.flag('deep') } : undefined,
    access: bucketAccess(args, env),
    prefix: args.text('prefix'),
    map: args.list('map'),
    host: args.text('host'),
    prune: prune ? { grace: parseGrace(grace ?? DEFAULT_GRACE, '--grace') } : undefined,
  };
}

/** What the command asks for, before anything of the library is loaded. */
export interface SyncRequest
  extends Omit<SyncOptions, 'destinations' | 'placement' | 'host' | 'prune' | 'repair'>,
    PublishRequest {}

/** Loads what the destinations need, and syncs. */
export async function runSync(request: SyncRequest, context: Context): Promise<SyncResult> {
  // They start while this thread loads what it needs.
  if (!request.dryRun) context.pool.warm();
  const { syncStore } = await import('../../core/sync.ts');
  const { prefix: _prefix, map: _map, destinations: _destinations, access: _access, ...rest } = request;
  const { open, placement } = await openPublishing(request, request.pid);
  return syncStore({ ...rest, destinations: open, placement }, context);
}

/** Loads what an import straight into destinations needs. */
export async function openPublishing(
  {
    prefix,
    map,
    destinations,
    access,
    hardLink,
  }: Pick<PublishRequest, 'prefix' | 'map' | 'destinations' | 'access' | 'hardLink'>,
  pid: number,
): Promise<{ readonly open: readonly OpenDestination[]; readonly placement: PlacementOptions }> {
  const { isRepository, parseMapping } = await import('../../core/publish/placement.ts');
  if (prefix !== undefined && !isRepository(prefix)) {
    throw new SealiftError('invalid-argument', `option --prefix: got ${inert(prefix)}, want a repository`, {
      subject: '--prefix',
    });
  }
  return {
    open: await Promise.all(destinations.map((spec) => openerOf(spec, pid, access, hardLink))),
    placement: { prefix, map: map.map(parseMapping) },
  };
}

/** Whether a location is one that images are published to. */
export function isDestination(text: string): boolean {
  return text.startsWith('static:') || text.startsWith('s3:');
}

async function openerOf(
  spec: DestinationSpec,
  pid: number,
  access: BucketAccess,
  hardLink?: boolean,
): Promise<OpenDestination> {
  if (spec.kind === 'static') {
    const { openStaticDirectory } = await import('../../core/publish/static-directory.ts');
    return async (context) => openStaticDirectory({ directory: spec.directory, pid, hardLink }, context);
  }
  const { openBucket } = await import('../../core/publish/bucket.ts');
  const { ca, ...rest } = access;
  // A list of one's own takes the place of the system's, so both are given.
  const certificates =
    ca === undefined ? undefined : [...getCACertificates('default'), Buffer.from(ca).toString('utf8')];
  return (context) =>
    openBucket(
      { ...rest, ca: certificates, bucket: spec.bucket, prefix: spec.prefix, timeoutMs: 60_000 },
      context,
    );
}

/** What `verify LOCATION` asks for. */
export interface VerifyDestinationRequest {
  readonly destination: DestinationSpec;
  readonly access: BucketAccess;
  readonly prefix: string | undefined;
  readonly map: readonly string[];
  readonly host: string | undefined;
  readonly gate: string;
  readonly store: string;
  readonly deep: boolean;
  readonly concurrency: number;
  readonly pid: number;
}

export async function runVerifyDestination(
  request: VerifyDestinationRequest,
  context: Context,
): Promise<VerifyDestinationResult> {
  const { verifyDestination } = await import('../../core/verify-destination.ts');
  const { destination, access, prefix, map, host, gate, store, deep, concurrency, pid } = request;
  const { open, placement } = await openPublishing({ destinations: [destination], access, prefix, map }, pid);
  const [first] = open;
  if (!first) throw new SealiftError('internal', 'a destination was not opened');
  const isPlaced = prefix !== undefined || map.length > 0;
  return verifyDestination(
    { open: first, host, gate, store, deep, concurrency, ...(isPlaced && { placement }) },
    context,
  );
}
