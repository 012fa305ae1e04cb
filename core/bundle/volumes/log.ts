/**
 * What an export in volumes has written, beside its journal (docs/state.md): a line for each volume that is whole. It stays
 * when the export is done, so that one volume can be made again alone.
 *
 *     COLLECTION/journal/KEY/volumes.log
 */
import { type FileHandle, readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { openAs } from '../../fs/access.ts';
import { SHA256_HEX } from '../../fs/document.ts';
import { readFileLimited } from '../../fs/durable.ts';
import { MAX_VOLUMES } from './names.ts';

const LIMIT = 4 * 1024 * 1024;

export interface LoggedVolume {
  readonly number: number;
  /** Of the file, lower-case hex. */
  readonly sha256: string;
  /**
   * Where the volume ends inside a blob: SHA-256 of the blob up to there. A later run that fetches the blob again knows by
   * it that the volume holds the same bytes.
   */
  readonly prefix?: string | undefined;
}

export interface VolumeLog {
  read(): Promise<{ readonly volumes: readonly LoggedVolume[]; readonly finished: boolean }>;
  /** Records a volume, durably. */
  add(volume: LoggedVolume): Promise<void>;
  /** Records that all are written. */
  finish(): Promise<void>;
  /** Forgets the volumes from this number on. */
  forget(from: number): Promise<void>;
  remove(): Promise<void>;
}

const LINE = /^volume ([1-9][0-9]{0,2}) ([0-9a-f]{64}) ([0-9a-f]{64}|-)$/;

/** @param directory of the journal */
export function openVolumeLog(directory: string): VolumeLog {
  const file = path.join(directory, 'volumes.log');

  async function append(line: string): Promise<void> {
    let handle: FileHandle | undefined;
    try {
      handle = await openAs(file, 'a', 'state');
      // Closes off what a torn write may have left.
      await handle.appendFile(`\n${line}\n`);
      await handle.datasync();
    } finally {
      await handle?.close();
    }
  }

  return {
    async read() {
      const bytes = await readFileLimited(file, LIMIT);
      const volumes = new Map<number, LoggedVolume>();
      let finished = false;
      // What follows the last newline is a torn write.
      for (const line of (bytes?.toString('latin1') ?? '').split('\n').slice(0, -1)) {
        const match = LINE.exec(line);
        const number = Number(match?.[1]);
        if (match?.[2] !== undefined && number <= MAX_VOLUMES) {
          const prefix = match[3] !== undefined && SHA256_HEX.test(match[3]) ? match[3] : undefined;
          volumes.set(number, { number, sha256: match[2], ...(prefix === undefined ? {} : { prefix }) });
        }
        const forgotten = /^forget ([1-9][0-9]{0,2})$/.exec(line);
        if (forgotten)
          for (const known of [...volumes.keys()]) if (known >= Number(forgotten[1])) volumes.delete(known);
        if (forgotten) finished = false;
        if (line === 'finished') finished = true;
      }
      return { volumes: [...volumes.values()].sort((a, b) => a.number - b.number), finished };
    },
    add: ({ number, sha256, prefix }) => append(`volume ${number} ${sha256} ${prefix ?? '-'}`),
    finish: () => append('finished'),
    forget: (from) => append(`forget ${from}`),
    remove: () => rm(file, { force: true }),
  };
}

/** Finished exports whose volumes can be made again; older ones are forgotten. */
const KEPT_FINISHED = 4;

/** Removes the journals of exports in volumes that were finished long ago. @param home directory of all journals */
export async function forgetOldest(home: string): Promise<void> {
  const finished: { readonly directory: string; readonly at: number }[] = [];
  for (const name of await readdir(home).catch(() => [])) {
    const directory = path.join(home, name);
    const log = await openVolumeLog(directory)
      .read()
      .catch(() => undefined);
    const found = log?.finished
      ? await stat(path.join(directory, 'volumes.log')).catch(() => undefined)
      : undefined;
    if (found) finished.push({ directory, at: found.mtimeMs });
  }
  finished.sort((a, b) => b.at - a.at);
  for (const { directory } of finished.slice(KEPT_FINISHED))
    await rm(directory, { recursive: true, force: true });
}
