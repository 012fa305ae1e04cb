/**
 * Where images come from. One interface for all kinds of location; everything below it is untrusted input.
 */
import type { Context } from '../context.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import type { Location } from './location.ts';

export interface SourceManifest {
  readonly bytes: Uint8Array;
  /** As the source announced it, without parameters; empty where the source announces none. */
  readonly mediaType: string;
  /** Computed from `bytes`. */
  readonly digest: Digest;
}

/** How evidence was found; goes into the bundle manifest. */
export type ReferrersVia = 'referrers-api' | 'referrers-tag' | 'layout';

export interface Referrers {
  readonly descriptors: readonly Descriptor[];
  /** Where both the referrers API and the fallback tag answered, `referrers-api`. */
  readonly via: ReferrersVia;
}

export interface Source {
  /** For messages: inert, without secrets. */
  readonly location: string;
  /**
   * Manifest by tag or digest (what `referenceIn()` gives); a manifest asked for by digest has that digest.
   * @throws SealiftError `source-*`, `digest-mismatch`, `size-mismatch`
   */
  manifest(reference: string): Promise<SourceManifest>;
  /**
   * Content of a blob: exactly `size` bytes or an error; goes on by itself after a broken connection. The
   * caller hashes and compares. Nothing is asked before the iteration begins, and it can be done once. Ending
   * it early closes the connection. Chunks are the consumer's to keep.
   * @throws SealiftError `source-*`, `size-mismatch`; also from the iteration
   */
  blob(descriptor: {
    readonly digest: Digest;
    readonly size: number;
    readonly mediaType: string;
  }): Promise<AsyncIterable<Uint8Array>>;
  /**
   * Manifests whose `subject` is this manifest, as the source claims; each without duplicates.
   * @throws SealiftError `source-*`, `json-*`, `manifest-invalid`
   */
  referrers(subject: Digest): Promise<Referrers>;
  close(): Promise<void>;
}

export type Credentials =
  | { readonly username: string; readonly password: string }
  | { readonly identityToken: string };

export interface SourceOptions {
  /** Speak HTTP. Never chosen silently, not even for loopback. */
  readonly plainHttp: boolean;
  readonly insecureSkipTlsVerify: boolean;
  /** PEM certificates trusted in addition to the system's. */
  readonly caFile?: Uint8Array | undefined;
  /**
   * Credentials for a registry host (`HOST[:PORT]` as in the reference; `docker.io` for Docker Hub).
   * @param repository path within the registry, for keys that name a repository
   */
  readonly credentials: (host: string, repository?: string) => Promise<Credentials | undefined>;
  /** How often a failed request is tried again. */
  readonly retryTimes: number;
  /** Requests in flight to one host, over all sources opened with the same options object. */
  readonly concurrencyPerHost: number;
  /** Milliseconds without a byte after which a connection counts as dead. */
  readonly timeoutMs: number;
  /** For tests: waits for that many milliseconds. */
  readonly sleep?: ((milliseconds: number, signal: AbortSignal) => Promise<void>) | undefined;
  /** For tests: a number from 0 up to 1, for the jitter of retries. */
  readonly random?: (() => number) | undefined;
}

/**
 * Opens a source. Nothing is read or connected before the first question to it, except the index of a layout.
 * @throws SealiftError `layout-invalid` where a directory is no OCI image layout
 */
export async function openSource(
  location: Location,
  options: SourceOptions,
  context: Context,
): Promise<Source> {
  switch (location.kind) {
    case 'docker': {
      const { openRegistrySource } = await import('./registry/source.ts');
      return openRegistrySource(location.reference, options, context);
    }
    case 'oci': {
      const { openLayoutSource } = await import('./layout/source.ts');
      return openLayoutSource(location, context);
    }
  }
}
