/** The library (docs/library.md): workflows and the types they take and give. Nothing else is a public interface. */
export type { MediumProvider, MediumRequest } from './bundle/volumes/medium.ts';
export { parseVolumeSize } from './bundle/volumes/names.ts';
export type { Context } from './context.ts';
export { makeReceipt, type ReceiptOptions } from './delta/make-receipt.ts';
export { type PinGateOptions, pinGateOfReceipt } from './delta/pin-gate.ts';
export { type DiffOptions, type DiffResult, diffLocations } from './diff.ts';
export {
  ERROR_CODES,
  type ErrorCategory,
  type ErrorCode,
  inert,
  isSealiftError,
  SealiftError,
} from './errors.ts';
export { CHECKS, type CheckName, type EventSink, type SealiftEvent } from './events.ts';
export { exportBundle } from './export.ts';
export { type DeviceFacts, inspectDevice, isRemovable } from './fs/device.ts';
export { importBundle } from './import.ts';
export { type InspectOptions, inspectLocation } from './inspect.ts';
export { DEFAULT_LIMITS, type Limits } from './limits.ts';
export { type ImageList, type ListedImage, parseImageList, type SkippedValue } from './lists/list.ts';
export type { HashAlgorithm, Hashes, RangeJob, StreamJob, StreamSink, WorkerPool } from './pool/pool.ts';
export { createWorkerPool } from './pool/worker-pool.ts';
export { previewExport } from './preview.ts';
export { type BucketOptions, openBucket } from './publish/bucket.ts';
export { type ClientConfig, type ClientConfigOptions, clientConfig } from './publish/client-config.ts';
export type { Destination, OpenDestination } from './publish/destination.ts';
export type { PlacementOptions } from './publish/placement.ts';
export { openStaticDirectory, type StaticDirectoryOptions } from './publish/static-directory.ts';
export { type RebundleOptions, rebundle } from './rebundle.ts';
export type * from './results.ts';
export type { ImageRecord, StoreListing } from './store/store.ts';
export { type DestinationResult, type SyncOptions, type SyncResult, syncStore } from './sync.ts';
export { type NamedLocation, parseLocation } from './transport/location.ts';
export type { Mirror, MirrorRule, MirrorSettings } from './transport/mirrors.ts';
export type { ProxySettings } from './transport/registry/proxy.ts';
export type { Credentials, HostCertificates, SourceOptions } from './transport/source.ts';
export { type CreateCollectionOptions, createCollection } from './trust/collection.ts';
export { type PinOptions, pinRoot, type RootSummary, readRoot, trustStatus } from './trust-admin.ts';
export { verifyBundle } from './verify.ts';
export { VERSION } from './version.ts';
export { type JoinOptions, joinBundle, type SplitOptions, splitBundle } from './volumes.ts';
export type {
  BundleInput,
  ExportOptions,
  ImportOptions,
  PassphraseProvider,
  SinceSpec,
  TrustOverrides,
  VerifyOptions,
  VolumeOutput,
} from './workflow-options.ts';
