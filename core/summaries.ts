/** Result objects made from a bundle manifest; shared by export, verify, import and inspect. */
import type { BundleManifest } from './bundle/manifest.ts';
import { evidenceKind } from './evidence/kinds.ts';
import type { EvidenceSummary, ImageSummary } from './results.ts';

/** Carried images as results show them, in the order of the manifest. */
export function imageSummaries(manifest: BundleManifest): ImageSummary[] {
  const evidence = new Map<string, EvidenceSummary>(
    manifest.evidence.map(({ digest, artifactType, subject, via, size, tag }) => [
      digest,
      {
        digest,
        artifactType,
        kind: evidenceKind({ artifactType, tag }),
        subject,
        via,
        ...(tag === undefined ? {} : { tag }),
        size,
        state: 'carried',
      },
    ]),
  );
  return manifest.images.map((image) => ({
    name: image.name,
    digest: image.digest,
    mediaType: image.mediaType,
    platforms: image.platforms,
    omitted: image.omitted,
    size: image.contentSize,
    evidence: image.evidence.flatMap((digest) => evidence.get(digest) ?? []),
    digestMadeHere: image.digestMadeHere === true,
  }));
}
