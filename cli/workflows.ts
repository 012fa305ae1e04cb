/**
 * The way from the commands to the library: everything behind `await import()`, so that a command loads only
 * what it uses, and in one interface, so that tests can put something else in its place.
 */
import type { GarbageOptions } from '../core/collect-garbage.ts';
import type { Context } from '../core/context.ts';
import type { ReceiptOptions } from '../core/delta/make-receipt.ts';
import type { PinGateOptions } from '../core/delta/pin-gate.ts';
import type { DiffOptions, DiffResult } from '../core/diff.ts';
import type { ImageDetails, ImageDetailsOptions } from '../core/image-details.ts';
import type { InspectOptions } from '../core/inspect.ts';
import type { Limits } from '../core/limits.ts';
import type { ImageList } from '../core/lists/list.ts';
import type { WorkerPool } from '../core/pool/pool.ts';
import type {
  DeltaPreview,
  ImagePreview,
  NameList,
  NameListOptions,
  PreviewOptions,
} from '../core/preview.ts';
import type { ClientConfig, ClientConfigOptions } from '../core/publish/client-config.ts';
import type { RegistryOptions } from '../core/publish/registry.ts';
import type { RebundleOptions } from '../core/rebundle.ts';
import type {
  CollectionSummary,
  ExportPreview,
  ExportResult,
  GarbageResult,
  ImportResult,
  InspectResult,
  JoinResult,
  PinGateResult,
  PinResult,
  ReceiptResult,
  SplitResult,
  TrustStatus,
  VerifyResult,
} from '../core/results.ts';
import type { StoreListing } from '../core/store/store.ts';
import type { SyncResult } from '../core/sync.ts';
import type { NamedLocation } from '../core/transport/location.ts';
import type { CheckedLogin } from '../core/transport/registry/login.ts';
import type { SourceOptions } from '../core/transport/source.ts';
import type { CreateCollectionOptions } from '../core/trust/collection.ts';
import type { PinOptions, RootSummary } from '../core/trust-admin.ts';
import type { VerifyDestinationResult } from '../core/verify-destination.ts';
import type { joinBundle, splitBundle } from '../core/volumes.ts';
import type { ExportOptions, ImportOptions, VerifyOptions } from '../core/workflow-options.ts';
import type { CredentialSettings } from './options/credentials.ts';
import type { SyncRequest, VerifyDestinationRequest } from './options/destination.ts';

export interface ServeRequest {
  readonly store: string;
  /** Its trust metadata is served too; nothing where there is no gate. */
  readonly gate?: string | undefined;
  readonly host: string;
  readonly port: number;
  readonly signal: AbortSignal;
  readonly onRequest: NonNullable<RegistryOptions['onRequest']>;
  readonly onError: NonNullable<RegistryOptions['onError']>;
}

export interface RunningServer {
  readonly url: string;
  readonly images: number;
  /** Where a TUF client finds the collections of the gate; absent where there is no gate. */
  readonly trustUrl?: string | undefined;
  /** Settles when the server has ended. */
  readonly closed: Promise<void>;
}

export interface Workflows {
  createPool(size: number): Promise<WorkerPool>;
  limits(): Promise<Limits>;
  parseLocation(text: string): Promise<NamedLocation>;
  parsePlatform(text: string): Promise<string>;
  parseImageList(bytes: Uint8Array, name: string, limits: Limits): Promise<ImageList>;
  /** Credentials by registry host, from `authFile` or the usual places. */
  credentials(settings: CredentialSettings): Promise<SourceOptions['credentials']>;
  checkLogin(host: string, options: SourceOptions, context: Context): Promise<CheckedLogin>;
  createCollection(options: CreateCollectionOptions): Promise<CollectionSummary>;
  exportBundle(options: ExportOptions, context: Context): Promise<ExportResult>;
  previewExport(
    options: PreviewOptions & { delta?: DeltaPreview | undefined },
    context: Context,
  ): Promise<Omit<ExportPreview, 'skipped'>>;
  verifyBundle(options: VerifyOptions, context: Context): Promise<VerifyResult>;
  importBundle(options: ImportOptions, context: Context): Promise<ImportResult>;
  inspect(options: InspectOptions, context: Context): Promise<InspectResult>;
  diff(options: DiffOptions, context: Context): Promise<DiffResult>;
  rebundle(options: RebundleOptions, context: Context): Promise<ExportResult>;
  imageDetails(options: ImageDetailsOptions, context: Context): Promise<ImageDetails>;
  previewImages(options: PreviewOptions, context: Context): Promise<readonly ImagePreview[]>;
  listNames(options: NameListOptions, context: Context): Promise<NameList>;
  pinRoot(options: PinOptions, context: Context): Promise<PinResult>;
  trustStatus(options: { gate: string }, context: Context): Promise<TrustStatus>;
  readRoot(location: string, context: Context): Promise<RootSummary>;
  listStore(store: string): Promise<StoreListing>;
  splitBundle(...args: Parameters<typeof splitBundle>): Promise<SplitResult>;
  joinBundle(...args: Parameters<typeof joinBundle>): Promise<JoinResult>;
  collectGarbage(options: GarbageOptions, context: Pick<Context, 'now' | 'limits'>): Promise<GarbageResult>;
  serve(request: ServeRequest): Promise<RunningServer>;
  sync(request: SyncRequest, context: Context): Promise<SyncResult>;
  verifyDestination(request: VerifyDestinationRequest, context: Context): Promise<VerifyDestinationResult>;
  clientConfig(options: ClientConfigOptions): Promise<ClientConfig>;
  makeReceipt(options: ReceiptOptions, context: Context): Promise<ReceiptResult>;
  pinGate(options: PinGateOptions, context: Context): Promise<PinGateResult>;
  /** What is behind `sealift trust`, loaded together. */
  trustOperations(): Promise<typeof import('../core/trust-ops/index.ts')>;
}

/** The library itself. */
export const coreWorkflows: Workflows = {
  createPool: async (size) => {
    const { createWorkerPool } = await import('../core/pool/worker-pool.ts');
    return createWorkerPool({ size });
  },
  limits: async () => (await import('../core/limits.ts')).DEFAULT_LIMITS,
  trustOperations: () => import('../core/trust-ops/index.ts'),
  makeReceipt: async (options, context) =>
    (await import('../core/delta/make-receipt.ts')).makeReceipt(options, context),
  pinGate: async (options, context) =>
    (await import('../core/delta/pin-gate.ts')).pinGateOfReceipt(options, context),
  parseLocation: async (text) => {
    const { parseLocation } = await import('../core/transport/location.ts');
    return parseLocation(text);
  },
  parsePlatform: async (text) => {
    const { formatPlatform, parsePlatform } = await import('../core/oci/descriptor.ts');
    return formatPlatform(parsePlatform(text));
  },
  parseImageList: async (bytes, name, limits) =>
    (await import('../core/lists/list.ts')).parseImageList(bytes, name, limits),
  credentials: async (settings) => {
    const { loadCredentials } = await import('./options/credentials.ts');
    return loadCredentials(settings, async (kept, token) => {
      const { keepRenewed } = await import('./options/credential-store.ts');
      return keepRenewed(kept, token, settings.env);
    });
  },
  checkLogin: async (host, options, context) =>
    (await import('../core/transport/registry/login.ts')).checkLogin(host, options, context),
  createCollection: async (options) => {
    const { createCollection } = await import('../core/trust/collection.ts');
    return await (await createCollection(options)).summary();
  },
  exportBundle: async (options, context) =>
    (await import('../core/export.ts')).exportBundle(options, context),
  previewExport: async (options, context) =>
    (await import('../core/preview.ts')).previewExport(options, context),
  verifyBundle: async (options, context) =>
    (await import('../core/verify.ts')).verifyBundle(options, context),
  importBundle: async (options, context) => {
    // Its threads start while this one loads what it needs.
    context.pool.warm();
    return (await import('../core/import.ts')).importBundle(options, context);
  },
  inspect: async (options, context) => (await import('../core/inspect.ts')).inspectLocation(options, context),
  diff: async (options, context) => (await import('../core/diff.ts')).diffLocations(options, context),
  rebundle: async (options, context) => (await import('../core/rebundle.ts')).rebundle(options, context),
  imageDetails: async (options, context) =>
    (await import('../core/image-details.ts')).imageDetails(options, context),
  previewImages: async (options, context) =>
    (await import('../core/preview.ts')).previewImages(options, context),
  listNames: async (options, context) => (await import('../core/preview.ts')).listNames(options, context),
  pinRoot: async (options, context) => (await import('../core/trust-admin.ts')).pinRoot(options, context),
  trustStatus: async (options, context) =>
    (await import('../core/trust-admin.ts')).trustStatus(options, context),
  readRoot: async (location, context) => (await import('../core/trust-admin.ts')).readRoot(location, context),
  listStore: async (directory) => {
    const { openStore } = await import('../core/store/store.ts');
    return (await openStore(directory, { create: false })).list();
  },
  splitBundle: async (options, context) => (await import('../core/volumes.ts')).splitBundle(options, context),
  joinBundle: async (options, context) => (await import('../core/volumes.ts')).joinBundle(options, context),
  collectGarbage: async (options, context) =>
    (await import('../core/collect-garbage.ts')).collectGarbage(options, context),
  serve: async ({ store: directory, gate, ...options }) =>
    (await import('../core/publish/serve.ts')).serveStore({ directory, gate, ...options }),
  sync: async (request, context) => (await import('./options/destination.ts')).runSync(request, context),
  verifyDestination: async (request, context) =>
    (await import('./options/destination.ts')).runVerifyDestination(request, context),
  clientConfig: async (options) => (await import('../core/publish/client-config.ts')).clientConfig(options),
};
