/** Opens a bundle at random access, in whatever pieces it comes. */
import type { Context } from '../context.ts';
import { type FileBundle, openBundleBytes, openBundleFile } from './reader.ts';
import type { MediumProvider } from './volumes/medium.ts';
import { locateVolumes, openVolumes } from './volumes/set.ts';

export interface BundlePaths {
  /** A file, a directory of volumes, or a volume. */
  readonly path: string;
  /** Further volumes, in any order. */
  readonly volumes?: readonly string[] | undefined;
  /** Asked for volumes that are on another medium. */
  readonly medium?: MediumProvider | undefined;
  /** Told of every file that is opened, while its medium is there. */
  readonly onMedium?: ((file: string) => Promise<void>) | undefined;
}

/**
 * A bundle in one file, or in volumes: a directory of them, one with its siblings, or all by name.
 * @throws SealiftError as openBundleFile(); `volume-missing`, `volume-duplicate`, `volume-foreign`, `volume-damaged`,
 *   `volume-index-invalid`
 */
export async function openBundleAt(paths: BundlePaths, context: Context): Promise<FileBundle> {
  const found = await locateVolumes([paths.path, ...(paths.volumes ?? [])]);
  if (found) return openBundleBytes(await openVolumes(found, context, paths), context);
  const bundle = await openBundleFile(paths.path, context);
  await paths.onMedium?.(paths.path);
  return bundle;
}
