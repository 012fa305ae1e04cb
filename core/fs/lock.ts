/**
 * Advisory locks between sealift processes. A lock is a file that names its holder, so that a stale one (the
 * process is gone, or its number belongs to another process now) is recognised and taken over.
 */
import { access, link, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { inert, SealiftError } from '../errors.ts';
import { openAs } from './access.ts';
import { readFileLimited, temporaryName } from './durable.ts';

export interface Holder {
  readonly host: string;
  readonly pid: number;
  /** Start time of the process as the kernel counts it; tells a reused number from the holder. Empty where unknown. */
  readonly started: string;
}

export interface Lock {
  release(): Promise<void>;
}

/** Start time of a process from /proc; empty where it cannot be known, undefined where the process is gone. */
async function startTime(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'latin1');
    // The command name may hold spaces and parentheses; fields are counted from the last one. Start time is field 22.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (os.platform() !== 'linux' || (code !== 'ENOENT' && code !== 'ESRCH')) return '';
    return (await showsEverybody()) ? undefined : '';
  }
}

/** False where /proc shows each user their own processes only (mount option `hidepid`): the first is there always. */
async function showsEverybody(): Promise<boolean> {
  return await access('/proc/1').then(
    () => true,
    () => false,
  );
}

async function isAlive(holder: Holder): Promise<boolean> {
  if (holder.host !== os.hostname()) return true; // cannot be known from here
  const started = await startTime(holder.pid);
  return started !== undefined && (holder.started === '' || started === '' || holder.started === started);
}

function parseHolder(text: string): Holder | undefined {
  const [host, pid, started] = text.trim().split(' ');
  const number = Number(pid);
  return host && Number.isSafeInteger(number) && number > 0
    ? { host, pid: number, started: started ?? '' }
    : undefined;
}

/** More than a host name, two numbers and the blanks between them. */
const LONGEST = 4096;

/** What a lock file says; undefined where there is none, or something that is no lock. */
async function readHeld(file: string): Promise<string | undefined> {
  return (await readFileLimited(file, LONGEST).catch(() => undefined))?.toString('utf8');
}

/**
 * Takes a stale lock away. Only whoever holds the guard beside it may: between reading and removing, another process
 * might else have taken the lock over, and its live lock would be removed.
 */
async function removeStale(file: string, text: string, mine: string): Promise<void> {
  const guard = `${file}.takeover`;
  try {
    await link(mine, guard);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return; // swept up; it is written again
    if (code !== 'EEXIST') throw error;
    const holder = parseHolder((await readHeld(guard)) ?? '');
    if (holder && !(await isAlive(holder))) await rm(guard, { force: true });
    await setTimeout(10);
    return;
  }
  try {
    if ((await readHeld(file)) === text) await rm(file, { force: true });
  } finally {
    await rm(guard, { force: true });
  }
}

/**
 * Takes the lock at `file`.
 * @param pid number of this process
 * @throws SealiftError `destination-locked` naming the holder, where another live process has it
 */
export async function acquireLock(file: string, pid: number): Promise<Lock> {
  const mine: Holder = { host: os.hostname(), pid, started: (await startTime(pid)) ?? '' };
  const temporary = temporaryName(file);
  const write = async () => {
    const handle = await openAs(temporary, 'w');
    await handle.writeFile(`${mine.host} ${mine.pid} ${mine.started}\n`).finally(() => handle.close());
  };
  await write();
  try {
    for (let attempt = 0; attempt < 100; attempt += 1) {
      try {
        // link() is atomic and fails where the lock exists; a half-written lock file can never be seen.
        await link(temporary, file);
        return { release: () => rm(file, { force: true }) };
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        // Whoever holds the lock sweeps up temporary files, ours too.
        if (code === 'ENOENT') await write();
        else if (code !== 'EEXIST') throw error;
      }
      const text = await readHeld(file);
      if (text === undefined) continue;
      const holder = parseHolder(text);
      if (holder && (await isAlive(holder))) {
        throw new SealiftError(
          'destination-locked',
          `in use by process ${holder.pid} on ${inert(holder.host)}`,
          {
            subject: path.dirname(file),
            hint: `wait for it to end; if there is no such process, remove ${file}`,
          },
        );
      }
      await removeStale(file, text, temporary);
    }
  } finally {
    await rm(temporary, { force: true });
  }
  throw new SealiftError('destination-locked', 'the lock is taken again and again by others', {
    subject: path.dirname(file),
  });
}
