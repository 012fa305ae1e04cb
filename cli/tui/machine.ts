/** What the program finds around it: media, bundles, state. Looks, changes nothing. */
import { existsSync, readFileSync } from 'node:fs';
import { open, readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { inert } from '../../core/errors.ts';
import { type FileSystemFacts, inspectFileSystem } from '../../core/fs/space.ts';
import { asObject, parseJson } from '../../core/json/strict.ts';
import { dataDirectory, type StatePath } from '../options/paths.ts';
import { formatSize } from '../output/format.ts';

export type { FileSystemFacts } from '../../core/fs/space.ts';

export interface FoundBundle {
  readonly file: string;
  readonly size: number;
  readonly modified: Date;
}

export interface Medium {
  readonly directory: string;
  readonly facts: FileSystemFacts;
  readonly bundles: readonly FoundBundle[];
}

export interface Activity {
  readonly at: string;
  readonly event: string;
  readonly detail: string;
}

export interface Machine {
  /** Media that can be taken out, and the bundles in their uppermost directory. */
  media(): Promise<readonly Medium[]>;
  bundlesIn(directory: string): Promise<readonly FoundBundle[]>;
  /** Directories of collections: the chosen one and, where none was named, those beside it. */
  collections(chosen: StatePath): Promise<readonly string[]>;
  exists(file: string): boolean;
  /** The last entries of a gate's audit log, newest first. */
  activity(gate: string, count: number): Promise<readonly Activity[]>;
  space(directory: string): Promise<FileSystemFacts | undefined>;
  /** A path as a location that can be listed, such as `oci:DIR`; undefined where it holds no images that can be told. */
  kindOf(place: string): Promise<string | undefined>;
  /** What a path that was begun could be; directories end in a slash. Spelt as it was begun. */
  complete(text: string): Promise<readonly string[]>;
}

export interface MachineOptions {
  readonly mounts?: string;
  readonly roots?: readonly string[];
  readonly data?: string;
}

const MOST_ENTRIES = 2000;
const TAIL_BYTES = 64 * 1024;

export function createMachine(
  surroundings: Parameters<typeof dataDirectory>[0],
  {
    mounts = '/proc/mounts',
    roots = ['/media', '/run/media', '/mnt'],
    data = dataDirectory(surroundings),
  }: MachineOptions = {},
): Machine {
  const machine: Machine = {
    media: async () => {
      const directories = mountPoints(mounts, roots);
      const found = await Promise.all(
        directories.map(async (directory) => {
          const facts = await machine.space(directory);
          return facts === undefined ? [] : [{ directory, facts, bundles: await bundlesIn(directory) }];
        }),
      );
      return found.flat();
    },
    bundlesIn,
    collections: async (chosen) => {
      const beside = path.join(data, 'collections');
      // Whoever names one means that one.
      const names = chosen.from === 'default' ? await readdir(beside).catch(() => []) : [];
      const all = [chosen.path, ...names.sort().map((name) => path.join(beside, name))];
      return [...new Set(all)].filter((directory) => existsSync(path.join(directory, 'collection.json')));
    },
    exists: existsSync,
    activity: async (gate, count) => {
      const text = await tailOf(path.join(gate, 'audit.log')).catch(() => '');
      return text
        .split('\n')
        .slice(0, -1)
        .reverse()
        .flatMap((line) => readActivity(line) ?? [])
        .slice(0, count);
    },
    space: (directory) => inspectFileSystem(directory).catch(() => undefined),
    kindOf: async (place) => {
      if (existsSync(path.join(place, '.sealift', 'store.json'))) return `store:${place}`;
      if (existsSync(path.join(place, 'oci-layout'))) return `oci:${place}`;
      return (await beginsAsBundle(place).catch(() => false)) ? `bundle:${place}` : undefined;
    },
    complete: async (text) => {
      // A location may have its kind in front: oci:./layout.
      const prefix = /^(?:[A-Za-z0-9][^=/]*=)?(?:[a-z-]+:)?(?=[./~]|$)/.exec(text)?.[0] ?? '';
      const begun = text.slice(prefix.length);
      const slash = begun.lastIndexOf('/') + 1;
      const directory = path.resolve(
        surroundings.cwd,
        begun.slice(0, slash).replace(/^~\//, `${surroundings.home}/`) || '.',
      );
      const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
      const start = begun.slice(slash);
      return entries
        .filter(({ name }) => name.startsWith(start) && (start !== '' || !name.startsWith('.')))
        .slice(0, MOST_ENTRIES)
        .map((entry) => `${prefix}${begun.slice(0, slash)}${entry.name}${entry.isDirectory() ? '/' : ''}`)
        .sort();
    },
  };
  return machine;
}

/** Mount points below `roots`; octal escapes as proc(5) has them. */
function mountPoints(file: string, roots: readonly string[]): readonly string[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return [];
  }
  const points = text.split('\n').flatMap((line) => {
    const escaped = line.split(' ')[1] ?? '';
    const point = escaped.replace(/\\([0-7]{3})/g, (_, digits: string) =>
      String.fromCharCode(Number.parseInt(digits, 8)),
    );
    // /run/media/PERSON/LABEL is the deepest; what is mounted below that is no medium of its own.
    const within = (root: string): boolean =>
      point === root || (point.startsWith(`${root}/`) && point.slice(root.length).split('/').length <= 3);
    return roots.some(within) ? [point] : [];
  });
  return [...new Set(points)];
}

async function bundlesIn(directory: string): Promise<readonly FoundBundle[]> {
  const names = await readdir(directory).catch(() => []);
  const found = await Promise.all(
    names
      .filter((name) => name.endsWith('.tar'))
      .slice(0, MOST_ENTRIES)
      .sort()
      .map(async (name) => {
        const file = path.join(directory, name);
        try {
          const facts = await stat(file);
          return facts.isFile() && (await beginsAsBundle(file))
            ? [{ file, size: facts.size, modified: facts.mtime }]
            : [];
        } catch {
          return [];
        }
      }),
  );
  return found.flat();
}

/** A bundle's first two members; whether all of it is right, the checks tell. */
async function beginsAsBundle(file: string): Promise<boolean> {
  const handle = await open(file, 'r');
  try {
    const bytes = Buffer.alloc(1536);
    await handle.read(bytes, 0, bytes.length, 0);
    const text = bytes.toString('latin1');
    return text.startsWith('oci-layout\0') && text.startsWith('README.txt\0', 1024);
  } finally {
    await handle.close();
  }
}

async function tailOf(file: string): Promise<string> {
  const handle = await open(file, 'r');
  try {
    const { size } = await handle.stat();
    const length = Math.min(size, TAIL_BYTES);
    const bytes = Buffer.alloc(length);
    await handle.read(bytes, 0, length, size - length);
    return bytes.toString('utf8');
  } finally {
    await handle.close();
  }
}

/** A line of the audit log; undefined for one that was cut. What matters is checked by those who judge the log. */
function readActivity(line: string): Activity | undefined {
  try {
    const value = parseJson(Buffer.from(line), { what: 'audit log', maxBytes: TAIL_BYTES, maxDepth: 8 });
    const entry = asObject(value, 'entry', 'json-invalid') as Record<string, unknown>;
    const fields = (entry['fields'] ?? {}) as Record<string, unknown>;
    const of = (name: string): string => {
      const field = fields[name];
      return field === undefined || field === '' ? '' : inert(String(field), 80);
    };
    const detail =
      [of('bundle'), of('code'), of('version') === '' ? '' : `version ${of('version')}`]
        .filter((part) => part !== '')
        .join(', ') || of('collection').slice(0, 12);
    return { at: String(entry['at']), event: inert(String(entry['event']), 40), detail };
  } catch {
    return undefined;
  }
}

/** Room, kind and limit of a file system, in a few words. */
export function mediumText({ freeBytes, name, maxFileSize }: FileSystemFacts): string {
  const limit = maxFileSize === undefined ? '' : `, no file over ${formatSize(maxFileSize + 1)}`;
  return `${formatSize(freeBytes)} free, ${name}${limit}`;
}
