/**
 * Who may read and write what sealift makes. A directory that is writable for its group and has the set-group-ID bit
 * (`chmod 2770`) is shared: whatever is made in it belongs to that group too, whatever the umask says, and so does
 * what is made in the directories made in it (docs/state.md). Nothing else has to be configured, and nothing that is
 * written down can say otherwise than the file system.
 */
import { constants } from 'node:fs';
import { chmod, type FileHandle, open, stat } from 'node:fs/promises';
import path from 'node:path';

/**
 * `public`: everybody may read it, as far as umask and, where it is shared, the directory allow. `state`: its owner
 * alone, and in a shared directory the group. `secret`: its owner alone, everywhere.
 */
export type Access = 'public' | 'state' | 'secret';

const SHARED = constants.S_IWGRP | 0o2000;

/** Mode of `directory` where it is shared; undefined where it is not, or where there is none. */
export async function sharedMode(directory: string): Promise<number | undefined> {
  const mode = (await stat(directory).catch(() => undefined))?.mode ?? 0;
  return (mode & SHARED) === SHARED ? mode : undefined;
}

/** As `open()`, for what may have to be made. */
export async function openAs(
  file: string,
  flags: string | number,
  access: Access = 'public',
): Promise<FileHandle> {
  const handle = await open(file, flags, access === 'public' ? 0o644 : 0o600);
  try {
    if (access !== 'secret') await shareFile(handle, file, access);
  } catch (error) {
    await handle.close();
    throw error;
  }
  return handle;
}

async function shareFile(handle: FileHandle, file: string, access: Access): Promise<void> {
  const directory = await sharedMode(path.dirname(file));
  if (directory === undefined) return;
  const { mode } = await handle.stat();
  // A new file never has it, since no mode above has; with it, the file was made by somebody who has done this already.
  if ((mode & constants.S_IWGRP) !== 0) return;
  await handle.chmod(0o660 | (access === 'public' ? directory & constants.S_IROTH : 0));
}

/** Mode for new directories that nobody shares. */
export function directoryMode(access: Access): number {
  return access === 'public' ? 0o755 : 0o700;
}

/** Gives a new directory to the group of its parent, where that is shared. */
export async function shareDirectory(directory: string, access: Access): Promise<void> {
  if (access === 'secret') return;
  const parent = await sharedMode(path.dirname(directory));
  if (parent === undefined) return;
  await chmod(directory, 0o2770 | (access === 'public' ? parent & 0o005 : 0));
}
