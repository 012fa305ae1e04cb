/**
 * Whose a gate, a store or a collection is. Whoever can write to a gate decides what is trusted, so its owner and, where
 * it is shared (core/fs/access.ts), one group are the only ones who may.
 */
import { constants, type Stats } from 'node:fs';
import { lstat, readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { inert, SealiftError } from '../errors.ts';
import { sharedMode } from '../fs/access.ts';

const WRITABLE_BY_ALL = constants.S_IWOTH;
const STICKY = 0o1000;
/** Files that are looked at; more than the top of any gate, store or collection has. */
const MOST = 1000;

/** @throws SealiftError `gate-unsafe` */
export async function assertNotEverybodys(directory: string): Promise<void> {
  const mode = (await stat(directory).catch(() => undefined))?.mode ?? 0;
  if ((mode & WRITABLE_BY_ALL) === 0) return;
  throw new SealiftError(
    'gate-unsafe',
    `every user may write to the gate: got mode ${(mode & 0o7777).toString(8)}, want 700, or 2770 where a group shares it`,
    {
      subject: inert(directory),
      hint: `look through it first (sealift trust status, sealift trust audit --head HASH, on a copy); then chmod o-w ${inert(directory)}`,
    },
  );
}

/** That somebody may not read a gate, in words; any other error as it is. */
export function explainDenied(error: unknown, directory: string): unknown {
  if ((error as NodeJS.ErrnoException).code !== 'EACCES') return error;
  return new SealiftError('destination-failed', 'the gate is for other users: you may not read it', {
    subject: inert(directory),
    hint: `ls -ld ${inert(directory)} shows its owner and group; whoever looks after it adds you to the group (and you log in anew), or --gate names another`,
    cause: error,
  });
}

/** As notices are told. */
export type Tell = (level: 'warning', code: string, message: string) => void;

/**
 * Tells what is odd about modes and owners at the top of a gate, store or collection.
 * @param uid of whoever runs this; where it is not known, owners are not looked at
 */
export async function tellOddities(
  what: 'gate' | 'store' | 'collection',
  directory: string,
  uid: number | undefined,
  tell: Tell,
): Promise<void> {
  const top = await stat(directory).catch(() => undefined);
  if (!top) return;
  const place = inert(directory, 4096);
  const shared = (await sharedMode(directory)) !== undefined;
  // A gate of that kind is refused anyway.
  if (what !== 'gate' && (top.mode & WRITABLE_BY_ALL) !== 0)
    tell('warning', 'state-writable-by-all', `every user may write to the ${what}: chmod o-w ${place}`);
  if (shared && (top.mode & STICKY) !== 0) {
    const why = 'its sticky bit keeps one from replacing what another wrote';
    tell(
      'warning',
      'state-not-shareable',
      `the ${what} is shared with group ${top.gid}, but ${why}: chmod -t ${place}`,
    );
  }
  if (uid === undefined) return;
  if (!shared && top.uid !== uid && top.uid !== 0 && uid !== 0) {
    tell(
      'warning',
      'state-of-strangers',
      `the ${what} belongs to user ${top.uid}, who can change it at any time: ${place}`,
    );
    return;
  }
  const strange = (await filesAt(directory)).filter(
    ({ stats }) => ![0, uid, top.uid].includes(stats.uid) && !(shared && stats.gid === top.gid),
  );
  const [first] = strange;
  if (!first) return;
  const owner = `its owner${shared ? ' or its group' : ''}`;
  tell(
    'warning',
    'state-of-strangers',
    `not of ${owner}, find out how it came into the ${what}: ${inert(first.file, 4096)}, of user ${first.stats.uid}${strange.length > 1 ? `, and ${strange.length - 1} more` : ''}`,
  );
}

/** What lies at the top, and of a gate what each collection is known by. */
async function filesAt(directory: string): Promise<readonly { file: string; stats: Stats }[]> {
  const names = await readdir(directory).catch(() => []);
  const collections = path.join(directory, 'collections');
  const ids = await readdir(collections).catch(() => []);
  const places = [
    ...names.map((name) => path.join(directory, name)),
    ...ids.flatMap((id) => [path.join(collections, id), path.join(collections, id, 'state.json')]),
  ];
  const found: { file: string; stats: Stats }[] = [];
  for (const file of places.slice(0, MOST)) {
    const stats = await lstat(file).catch(() => undefined);
    if (stats) found.push({ file, stats });
  }
  return found;
}
