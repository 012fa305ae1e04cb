/** What a bare path is: looked at, never guessed from its name. */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { findVolumes } from './bundle/volumes/set.ts';
import { SealiftError } from './errors.ts';

export type PathKind = 'bundle' | 'store' | 'collection' | 'layout' | 'gate' | 'directory';

async function exists(file: string): Promise<boolean> {
  try {
    await stat(file);
    return true;
  } catch {
    return false;
  }
}

/** @throws SealiftError `bundle-not-found` where there is nothing */
export async function kindOfPath(location: string): Promise<PathKind> {
  let isDirectory: boolean;
  try {
    isDirectory = (await stat(location)).isDirectory();
  } catch (cause) {
    throw new SealiftError('bundle-not-found', 'there is nothing at that path', { subject: location, cause });
  }
  if (!isDirectory) return 'bundle';
  const has = (name: string) => exists(path.join(location, name));
  if (await has('collection.json')) return 'collection';
  if (await has('gate.json')) return 'gate';
  if (await has('.sealift/store.json')) return 'store';
  if (await has('oci-layout')) return 'layout';
  if ((await findVolumes(location)).length > 0) return 'bundle';
  return 'directory';
}

export async function isDirectoryPath(location: string): Promise<boolean> {
  return (await kindOfPath(location)) !== 'bundle';
}
