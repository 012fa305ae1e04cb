/** Evidence that lies beside a source, found for one manifest. */
import type { Context } from '../context.ts';
import type { ParsedManifest } from '../oci/manifest.ts';
import { imageName, type Reference } from '../oci/reference.ts';
import type { NamedLocation } from '../transport/location.ts';
import { endpointsFor } from '../transport/mirrors.ts';
import type { SourceOptions } from '../transport/source.ts';
import { readLookaside } from './lookaside.ts';
import { type LookasideSettings, lookasideFor } from './registries-d.ts';
import { readSignaturesApi } from './signatures-api.ts';
import { type AttachedEvidence, wrapSignature } from './wrap.ts';

/**
 * Signatures of a manifest in the lookaside of its repository (that of the source, or of the name where the source is
 * no registry), and those the registry keeps itself.
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
  const beside =
    base === undefined ? [] : await readLookaside(base, repository, manifest.digest, options, context);
  // Behind a mirror the registry itself may be out of reach, and mirrors do not have the extension.
  const kept =
    location.kind === 'docker' && isDirect(location.reference, options)
      ? await readSignaturesApi(location.reference, manifest.digest, options, context)
      : [];
  const wrap = (via: string) => (signature: Uint8Array) =>
    wrapSignature(signature, manifest, via, context.limits);
  return [...beside.map(wrap('lookaside')), ...kept.map(wrap('signatures-api'))];
}

/** Whether a repository is read from its own registry and from nowhere else. */
function isDirect(reference: Reference, { mirrors }: SourceOptions): boolean {
  if (mirrors === undefined) return true;
  const [only, ...others] = endpointsFor(reference, mirrors);
  return (
    others.length === 0 &&
    only?.domain === reference.domain &&
    only.path === reference.path &&
    !only.isMirror &&
    !only.insecure
  );
}
