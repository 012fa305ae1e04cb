/** What one image of a bundle or a store consists of: its platforms, their layers and labels. Claims, like inspect. */
import { parseBundleManifest } from './bundle/manifest.ts';
import { openBundleAt } from './bundle/open.ts';
import type { Context } from './context.ts';
import { isSealiftError, SealiftError } from './errors.ts';
import { asObject, parseJson } from './json/strict.ts';
import { kindOfPath } from './locate.ts';
import { formatPlatform } from './oci/descriptor.ts';
import { blobPath, type Digest, parseDigest } from './oci/digest.ts';
import { type ParsedManifest, parseManifest } from './oci/manifest.ts';
import { isImageConfig, isIndexType, isManifestType } from './oci/media-types.ts';
import { openStore } from './store/store.ts';

export interface ImageDetailsOptions {
  /** Path of a bundle or a store. */
  readonly location: string;
  /** Digest of the image. */
  readonly image: string;
}

export interface PlatformDetails {
  /** `os/arch[/variant]`; empty where the image does not say. */
  readonly platform: string;
  readonly digest: string;
  readonly layers: readonly { readonly digest: string; readonly size: number; readonly mediaType: string }[];
  /** Labels of the config, ascending by name. */
  readonly labels: readonly (readonly [name: string, value: string])[];
  /** What else of the config decides how a container runs (config.md, "Properties"); ascending by name. */
  readonly settings: readonly (readonly [name: string, value: string])[];
}

export interface ImageDetails {
  readonly digest: string;
  readonly platforms: readonly PlatformDetails[];
}

export type ReadBlob = (digest: Digest, max: number) => Promise<Uint8Array>;

/**
 * Reads manifests and configs, never layers. Children of an index that are not there are passed over.
 * @throws SealiftError `unknown-location`, `blob-missing`, `manifest-invalid` and what a malformed bundle gives
 */
export async function imageDetails(options: ImageDetailsOptions, context: Context): Promise<ImageDetails> {
  const { location } = options;
  const image = parseDigest(options.image);
  const kind = await kindOfPath(location);
  if (kind === 'store') {
    const store = await openStore(location, { create: false, limits: context.limits });
    return describeImage(image, (digest, max) => store.readBlob(digest, max), context);
  }
  if (kind !== 'bundle') {
    throw new SealiftError('unknown-location', `neither a bundle nor a store: got a ${kind}`, {
      subject: location,
    });
  }
  const bundle = await openBundleAt({ path: location }, context);
  try {
    bundle.accept(parseBundleManifest(bundle.head.manifest, context.limits));
    return await describeImage(image, (digest, max) => bundle.readBlob(blobPath(digest), max), context);
  } finally {
    await bundle.close();
  }
}

/**
 * The platforms of an image whose manifests and configs `read` gives.
 * @throws SealiftError `manifest-invalid` and what `read` throws; a child of an index that is `blob-missing` is passed over
 */
export async function describeImage(image: Digest, read: ReadBlob, context: Context): Promise<ImageDetails> {
  const platforms: PlatformDetails[] = [];
  const seen = new Set<Digest>();
  const load = async (digest: Digest, mediaType?: string): Promise<ParsedManifest> =>
    parseManifest(await read(digest, context.limits.manifest), { mediaType, digest, limits: context.limits });

  async function visit(manifest: ParsedManifest, platform: string, depth: number): Promise<void> {
    context.signal.throwIfAborted();
    if (depth > context.limits.graphDepth || seen.has(manifest.digest)) return;
    seen.add(manifest.digest);
    if (manifest.kind === 'image') {
      platforms.push(await platformDetails(manifest, platform, read, context));
      return;
    }
    for (const child of manifest.manifests) {
      if (!isManifestType(child.mediaType) && !isIndexType(child.mediaType)) continue;
      const parsed = await load(child.digest, child.mediaType).catch((error: unknown) => {
        if (isSealiftError(error) && error.code === 'blob-missing') return undefined;
        throw error;
      });
      if (parsed) await visit(parsed, child.platform ? formatPlatform(child.platform) : '', depth + 1);
    }
  }
  await visit(await load(image), '', 0);
  return { digest: image, platforms };
}

async function platformDetails(
  manifest: ParsedManifest,
  platform: string,
  read: ReadBlob,
  context: Context,
): Promise<PlatformDetails> {
  const config = await readConfig(manifest, read, context);
  const { os, architecture, variant } = config;
  const own = [os, architecture, variant].filter((part) => typeof part === 'string' && part !== '').join('/');
  const labels = labelsOf(config['config']);
  return {
    platform: platform || own,
    digest: manifest.digest,
    layers: manifest.layers.map(({ digest, size, mediaType }) => ({ digest, size, mediaType })),
    labels,
    settings: settingsOf(config['config']),
  };
}

async function readConfig(
  manifest: ParsedManifest,
  read: ReadBlob,
  context: Context,
): Promise<Record<string, unknown>> {
  const { config } = manifest;
  if (!config || !isImageConfig(config.mediaType) || config.size > context.limits.config) return {};
  try {
    const bytes = await read(config.digest, context.limits.config);
    return asObject(
      parseJson(bytes, {
        what: 'image config',
        maxBytes: context.limits.config,
        maxDepth: context.limits.jsonDepth,
      }),
      'config',
      'json-invalid',
    );
  } catch (error) {
    // A strange config is carried as it is; there is nothing to tell of it.
    if (isSealiftError(error)) return {};
    throw error;
  }
}

function labelsOf(config: unknown): [string, string][] {
  const labels = (config as { Labels?: unknown } | undefined)?.Labels;
  if (typeof labels !== 'object' || labels === null || Array.isArray(labels)) return [];
  return Object.entries(labels)
    .flatMap(([name, value]): [string, string][] => (typeof value === 'string' ? [[name, value]] : []))
    .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
}

/** One name for each variable, port and volume, so that two configs compare entry by entry. */
function settingsOf(config: unknown): [string, string][] {
  if (typeof config !== 'object' || config === null || Array.isArray(config)) return [];
  const settings: [string, string][] = [];
  for (const [name, value] of Object.entries(config)) {
    if (name === 'Labels' || value === null || value === '') continue;
    if (name === 'Env' && Array.isArray(value)) {
      for (const entry of value) {
        if (typeof entry !== 'string') continue;
        const [variable = '', ...rest] = entry.split('=');
        settings.push([`Env ${variable}`, rest.join('=')]);
      }
    } else if ((name === 'ExposedPorts' || name === 'Volumes') && typeof value === 'object') {
      for (const key of Object.keys(value as object)) settings.push([`${name} ${key}`, '']);
    } else {
      settings.push([name, typeof value === 'string' ? value : JSON.stringify(value)]);
    }
  }
  return settings.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
}
