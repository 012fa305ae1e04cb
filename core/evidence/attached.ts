/** Evidence that lies beside a source, found for one manifest. */
import type { Context } from '../context.ts';
import type { ParsedManifest } from '../oci/manifest.ts';
import { imageName } from '../oci/reference.ts';
import type { NamedLocation } from '../transport/location.ts';
import type { SourceOptions } from '../transport/source.ts';
import { readLookaside } from './lookaside.ts';
import { type LookasideSettings, lookasideFor } from './registries-d.ts';
import { type AttachedEvidence, wrapSignature } from './wrap.ts';

/**
 * Signatures of a manifest in the lookaside of its repository: that of the source, or of the name where the source is
 * no registry.
 * @throws SealiftError `source-*`
 */
export async function findAttached(
  named: NamedLocation,
  name: string,
  manifest: ParsedManifest,
  settings: LookasideSettings,
  options: SourceOptions,
  context: Context,
): Promise<readonly AttachedEvidence[]> {
  const { location } = named;
  const repository = location.kind === 'docker' ? imageName(location.reference) : name;
  const base = lookasideFor(settings, repository);
  if (base === undefined) return [];
  const signatures = await readLookaside(base, repository, manifest.digest, options, context);
  return signatures.map((signature) => wrapSignature(signature, manifest, 'lookaside', context.limits));
}
