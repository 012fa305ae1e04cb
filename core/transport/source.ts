/**
 * Where images come from. One interface for all kinds of location; everything below it is untrusted input.
 */
import type { Context } from '../context.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import type { Location } from './location.ts';
import type { MirrorSettings } from './mirrors.ts';
import type { PartSettings } from './registry/parts.ts';
import type { ProxySettings } from './registry/proxy.ts';

export interface SourceManifest {
  readonly bytes: Uint8Array;
  /** As the source announced it, without parameters; empty where the source announces none. */
  readonly mediaType: string;
  /** Computed from `bytes`. */
  readonly digest: Digest;
  /** True where the manifest was made from what the source holds, so that its digest is that of no registry. */
  readonly digestMadeHere?: boolean;
}

/** An image by the name it has at its source. */
export interface SourceName {
  /** Full name. */
  readonly name: string;
  /** What to ask `manifest()` for. */
  readonly reference: string;
}

/** How evidence was found; goes into the bundle manifest. */
export type ReferrersVia = 'referrers-api' | 'referrers-tag' | 'layout';

/** A manifest that a tag such as `sha256-HEX.sig` says to be about another. */
export interface TaggedEvidence {
  readonly tag: string;
  readonly manifest: SourceManifest;
}

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
   * True where the last reading of that blob ended with `digest-mismatch`, and `blob()` would now read it from somewhere
   * else.
   */
  hasOther?(digest: Digest): boolean;
  /**
   * Manifests whose `subject` is this manifest, as the source claims; each without duplicates.
   * @throws SealiftError `source-*`, `json-*`, `manifest-invalid`
   */
  referrers(subject: Digest): Promise<Referrers>;
  /**
   * What the tags `attachedTags()` of this manifest lead to.
   * @throws SealiftError `source-*`
   */
  tagged?(subject: Digest): Promise<readonly TaggedEvidence[]>;
  /** Full names of the images, where the source holds a fixed number of them and knows their names. */
  names?(): Promise<readonly SourceName[]>;
  /** Whether the blob lies here with that size; only what can tell without asking anybody. */
  holds?(blob: { readonly digest: Digest; readonly size: number }): Promise<boolean>;
  /** Version of the bundle whose layers it leaves out, where it is a delta. */
  readonly base?: number | undefined;
  /** True for a child of an index that was left out when the index came here. */
  omits?(digest: Digest): boolean;
  close(): Promise<void>;
}

export interface Login {
  readonly username: string;
  readonly password: string;
}

/** What a token server gave at a login in place of the password; it is of use there only. */
export interface IdentityToken {
  readonly identityToken: string;
  /**
   * Told where the token server gives another one in its place; to be kept before the old one is of no use any more.
   * @throws SealiftError where it cannot be kept, which the run survives
   */
  readonly renewed?: ((identityToken: string) => Promise<void>) | undefined;
}

export type Credentials = Login | IdentityToken;

/** What is trusted of one host and shown to it, beside what holds for all; each as PEM. */
export interface HostCertificates {
  /** Authorities its certificate may be signed by. */
  readonly authorities: readonly Uint8Array[];
  /** Shown to the host where it asks who we are. */
  readonly client?: { readonly certificate: Uint8Array; readonly key: Uint8Array } | undefined;
}

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
  /** Milliseconds a server may ask to wait before another attempt (default 5 minutes); for longer, the request fails. */
  readonly longestWaitMs?: number | undefined;
  /** Requests in flight to one host, over all sources opened with the same options object. */
  readonly concurrencyPerHost: number;
  /** Milliseconds without a byte after which a connection counts as dead. */
  readonly timeoutMs: number;
  /**
   * Certificates for a host, `HOST[:PORT]` of a URL; asked once for each. Authorities of a registry also hold for its
   * token server and for where it redirects to; a client certificate is shown to its own host alone.
   */
  readonly hostCertificates?: ((host: string) => Promise<HostCertificates | undefined>) | undefined;
  /** Directory in which blobs of registries are kept from one export to the next; none unless given. */
  readonly cache?: string | undefined;
  /** Where else registries' content may be had. */
  readonly mirrors?: MirrorSettings | undefined;
  /** Proxies between here and the registries; none unless given. */
  readonly proxies?: ProxySettings | undefined;
  /** Directory for archives that cannot be read where they lie; without it such locations are refused. */
  readonly temporary?: string | undefined;
  /** For programs that are asked (podman, skopeo, ctr), and to find the engine's socket; empty unless given. */
  readonly environment?: Readonly<Record<string, string | undefined>> | undefined;
  /** Ends a group of processes: what a driver has started ends with it. Without it, the driver alone is ended. */
  readonly endGroup?: ((group: number, signal: 'SIGTERM' | 'SIGKILL') => void) | undefined;
  /** When and how very large blobs are read over several connections; as `DEFAULT_PARTS` unless given. */
  readonly parts?: PartSettings | undefined;
  /** For tests: milliseconds that have passed since any moment, for the speed of connections. */
  readonly clock?: (() => number) | undefined;
  /** For tests: waits for that many milliseconds. */
  readonly sleep?: ((milliseconds: number, signal: AbortSignal) => Promise<void>) | undefined;
  /** For tests: a number from 0 up to 1, for the jitter of retries. */
  readonly random?: (() => number) | undefined;
}

/**
 * Opens a source. Registries are not connected to before the first question; of everything else the index is read,
 * and what is compressed or comes from an engine is written out.
 * @throws SealiftError `layout-invalid`, `archive-invalid`, `source-*`, `bundle-*`, `store-not-found`, `destination-full`
 */
export async function openSource(
  location: Location,
  options: SourceOptions,
  context: Context,
): Promise<Source> {
  switch (location.kind) {
    case 'docker': {
      const { openRegistrySource } = await import('./registry/source.ts');
      const source = openRegistrySource(location.reference, options, context);
      if (options.cache === undefined) return source;
      const { cachedSource, openBlobCache } = await import('./cache.ts');
      return cachedSource(source, openBlobCache(options.cache, context));
    }
    case 'oci': {
      const { openLayoutSource } = await import('./layout/source.ts');
      return openLayoutSource(location, context);
    }
    case 'oci-archive': {
      const { openLayoutArchive } = await import('./layout/source.ts');
      return openLayoutArchive(location, options, context);
    }
    case 'docker-archive': {
      const { openDockerArchive } = await import('./archive/docker.ts');
      return openDockerArchive(location, options, context);
    }
    case 'bundle': {
      const { openBundleSource } = await import('./bundle/source.ts');
      return openBundleSource(location, context);
    }
    case 'store': {
      const { openStoreSource } = await import('./store/source.ts');
      return openStoreSource(location, context);
    }
    case 'static': {
      const { openStaticSource } = await import('./static/source.ts');
      return openStaticSource(location, context);
    }
    case 'file': {
      const { openFileSource } = await import('./file/source.ts');
      return openFileSource(location, context);
    }
    case 'docker-daemon':
    case 'containers-storage':
    case 'containerd': {
      const { openEngineSource } = await import('./engine/source.ts');
      return openEngineSource(location, options, context);
    }
    case 'driver': {
      const { openDriverSource } = await import('./driver/source.ts');
      return openDriverSource(location, options, context);
    }
  }
}
