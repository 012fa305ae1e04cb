import { existsSync, readFileSync, statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { inert, SealiftError } from '../../core/errors.ts';
import type { Args } from '../args.ts';

/** Where state lives, and what decided it. */
export interface StatePath {
  readonly path: string;
  readonly from: 'option' | 'environment' | 'default';
}

export interface StatePaths {
  readonly collection: StatePath;
  readonly gate: StatePath;
  readonly store: StatePath;
  /** The gate of the person behind sudo, where it is another one and there is one. */
  readonly gateBehindSudo: string | undefined;
}

export interface PathSurroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly uid: number | undefined;
  readonly home: string;
  readonly cwd: string;
}

/** `/var/lib/sealift` for root, the XDG data directory for everybody else. */
export function dataDirectory({ env, uid, home }: PathSurroundings): string {
  if (uid === 0) return '/var/lib/sealift';
  const data = env['XDG_DATA_HOME'];
  // The XDG specification: a relative path is to be ignored.
  return path.join(
    data !== undefined && path.isAbsolute(data) ? data : path.join(home, '.local/share'),
    'sealift',
  );
}

/** Options before environment before defaults. */
export function resolvePaths(
  args: Args,
  surroundings: PathSurroundings,
  userList = '/etc/passwd',
): StatePaths {
  const { env, cwd } = surroundings;
  const data = dataDirectory(surroundings);
  function choose(
    option: string,
    variable: string,
    fallback: string,
    read: (text: string) => string,
  ): StatePath {
    const given = args.text(option);
    if (given !== undefined) return { path: read(given), from: 'option' };
    const set = env[variable];
    if (set !== undefined && set !== '') return { path: read(set), from: 'environment' };
    return { path: fallback, from: 'default' };
  }
  const gate = choose('gate', 'SEALIFT_GATE', path.join(data, 'gate'), (text) => path.resolve(cwd, text));
  return {
    collection: choose('collection', 'SEALIFT_COLLECTION', path.join(data, 'collections', 'main'), (text) =>
      collectionPath(text, data, cwd),
    ),
    gate,
    store: choose('store', 'SEALIFT_STORE', path.join(data, 'store'), (text) => path.resolve(cwd, text)),
    gateBehindSudo: gate.from === 'default' ? gateBehindSudo(surroundings, gate.path, userList) : undefined,
  };
}

/** A bare word is a collection's name; whatever has a slash, or is `.` or `..`, is a directory. */
export function collectionPath(text: string, data: string, cwd: string): string {
  if (text.includes('/') || text === '.' || text === '..') return path.resolve(cwd, text);
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(text)) {
    throw new SealiftError(
      'invalid-argument',
      `got ${inert(text)}, want a collection's name or a directory`,
      {
        subject: '--collection',
        hint: 'a name has letters, digits, dots, dashes and underscores; a directory has a slash, as in ./here',
      },
    );
  }
  return path.join(data, 'collections', text);
}

/** Home directory of a user by number, from the local user list; undefined where it is not there. */
function homeOf(uid: string, userList: string): string | undefined {
  try {
    const line = readFileSync(userList, 'utf8')
      .split('\n')
      .find((entry) => entry.split(':')[2] === uid);
    return line?.split(':')[5];
  } catch {
    return undefined;
  }
}

function gateBehindSudo({ env, uid }: PathSurroundings, used: string, userList: string): string | undefined {
  const behind = env['SUDO_UID'];
  if (uid !== 0 || behind === undefined || behind === '0') return undefined;
  const home = homeOf(behind, userList);
  if (home === undefined || home === '') return undefined;
  const gate = path.join(home, '.local/share/sealift/gate');
  return gate !== used && existsSync(gate) ? gate : undefined;
}

/** `store:DIR`, or DIR. */
export function parseStoreLocation(text: string, cwd: string): string {
  const plain = text.startsWith('store:') ? text.slice('store:'.length) : text;
  if (plain === '' || /^[a-z][a-z0-9+.-]*:/i.test(plain)) {
    throw new SealiftError('unknown-location', `got ${inert(text)}, want store:DIRECTORY`, {
      subject: inert(text),
      hint: 'an import goes into a store, a directory: --to store:/srv/images',
    });
  }
  return path.resolve(cwd, plain);
}

/**
 * The file an export writes to. A directory is refused: the name would have to hold the version, which is taken
 * only when signing begins, and the same command could then not go on with what an interrupted one left.
 */
export function outputFile(text: string, cwd: string): string {
  const file = path.resolve(cwd, text);
  if (text.endsWith('/') || (statSync(file, { throwIfNoEntry: false })?.isDirectory() ?? false)) {
    throw new SealiftError(
      'invalid-argument',
      `option --output: got the directory ${inert(text)}, want a file or -`,
      {
        subject: '--output',
        hint: `give the file a name, as in --output ${inert(path.join(text, 'images.tar'))}`,
      },
    );
  }
  return file;
}

/** Name of whoever runs this: user, and the user behind sudo. */
export function actorName(env: PathSurroundings['env']): string {
  let name: string;
  try {
    name = os.userInfo().username;
  } catch {
    name = `uid ${process.getuid?.() ?? 'unknown'}`;
  }
  const behind = env['SUDO_USER'];
  return behind !== undefined && behind !== '' && behind !== name
    ? `${name} (sudo by ${inert(behind, 64)})`
    : name;
}
