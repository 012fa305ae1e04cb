/** Puts fixture images into a store, as an import does once everything has been judged. */
import { parseDigest } from '../../../core/oci/digest.ts';
import type { ImageRecord, Store } from '../../../core/store/store.ts';
import { blobsOf, type FixtureManifest, manifestsOf } from '../../../fixtures/images.ts';

export function recordOf(
  name: string,
  root: FixtureManifest,
  changes: Partial<ImageRecord> = {},
): ImageRecord {
  const own = new Set(manifestsOf(root, false).map((manifest) => manifest.digest));
  const hanging = new Map<string, string>();
  const visit = (manifest: FixtureManifest): void => {
    for (const child of manifest.children) visit(child);
    for (const referrer of manifest.referrers) {
      hanging.set(referrer.digest, manifest.digest);
      visit(referrer);
    }
  };
  visit(root);
  const evidence = manifestsOf(root).filter((manifest) => !own.has(manifest.digest));
  return {
    name,
    digest: parseDigest(root.digest),
    mediaType: root.mediaType,
    size: root.size,
    contentSize: [...manifestsOf(root, false), ...blobsOf(root, false)].reduce(
      (sum, { size }) => sum + size,
      0,
    ),
    platforms: ['linux/amd64'],
    omitted: [],
    evidence: evidence
      .map((manifest) => ({
        digest: parseDigest(manifest.digest),
        mediaType: manifest.mediaType,
        artifactType: manifest.artifactType ?? '',
        size: manifest.size,
        subject: parseDigest(hanging.get(manifest.digest) ?? ''),
      }))
      .sort((a, b) => (a.digest < b.digest ? -1 : 1)),
    collectionId: 'c'.repeat(64),
    bundleVersion: 7,
    role: 'images',
    importedAt: '2026-03-01T12:00:00Z',
    trustExpires: '2026-06-01T00:00:00Z',
    ...changes,
  };
}

/** Takes in all blobs of the images; `without` are left out. */
export async function putBlobs(
  store: Store,
  roots: readonly FixtureManifest[],
  without: readonly string[] = [],
): Promise<void> {
  for (const root of roots) {
    for (const { digest, bytes } of [...manifestsOf(root), ...blobsOf(root)]) {
      if (without.includes(digest)) continue;
      await store.putBytes(parseDigest(digest), typeof bytes === 'function' ? bytes() : bytes);
    }
  }
}

/** Takes in images by name; the store's lock is held meanwhile. */
export async function fill(store: Store, images: Readonly<Record<string, FixtureManifest>>): Promise<void> {
  const lock = await store.lock(process.pid);
  try {
    await putBlobs(store, Object.values(images));
    await store.admit(Object.entries(images).map(([name, root]) => recordOf(name, root)));
  } finally {
    await lock.release();
  }
}
