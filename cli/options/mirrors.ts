/** Mirrors from `--mirror` and from registries.conf, as podman and skopeo have them (containers-registries.conf(5)). */
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import type { TomlTable, TomlValue } from 'smol-toml';
import { inert, isSealiftError, SealiftError } from '../../core/errors.ts';
import { readFileLimited } from '../../core/fs/durable.ts';
import type { Mirror, MirrorRule, MirrorSettings } from '../../core/transport/mirrors.ts';

const MAX_FILE_BYTES = 1024 * 1024;
const MAX_FILES = 200;
const LOCATION =
  /^(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?(?:\/[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)?$/;

export interface MirrorSurroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly homedir: string;
  /** `/etc/containers`; another one in tests. */
  readonly system?: string;
}

/**
 * @param options values of `--mirror`
 * @throws SealiftError `invalid-argument` where an option or a file cannot be used
 */
export async function loadMirrors(
  options: readonly string[],
  surroundings: MirrorSurroundings,
): Promise<MirrorSettings> {
  return { first: options.map(parseMirrorOption), rules: await readRules(surroundings) };
}

/** `HOST[/PATH]=MIRROR[,MIRROR…]`; a mirror is `[http://]HOST[:PORT][/PATH]`. */
export function parseMirrorOption(text: string): MirrorRule {
  const equals = text.indexOf('=');
  const prefix = text.slice(0, Math.max(0, equals));
  const mirrors = text.slice(equals + 1).split(',');
  const refuse = () =>
    new SealiftError(
      'invalid-argument',
      `option --mirror: got ${inert(text)}, want REGISTRY=MIRROR[,MIRROR]`,
      {
        subject: '--mirror',
        hint: 'as in --mirror docker.io=mirror.example:5000/hub',
      },
    );
  if (!LOCATION.test(prefix)) throw refuse();
  return {
    prefix,
    insecure: false,
    blocked: false,
    mirrors: mirrors.map((one): Mirror => {
      const location = one.replace(/^https?:\/\//, '').replace(/\/$/, '');
      if (!LOCATION.test(location)) throw refuse();
      return { location, insecure: false, plainHttp: one.startsWith('http://'), pull: 'all' };
    }),
  };
}

async function readRules({
  env,
  homedir,
  system = '/etc/containers',
}: MirrorSurroundings): Promise<MirrorRule[]> {
  const user = path.join(homedir, '.config', 'containers');
  const named = env['CONTAINERS_REGISTRIES_CONF'];
  const main = named ? [named] : [path.join(user, 'registries.conf'), path.join(system, 'registries.conf')];
  const rules = new Map<string, MirrorRule>();
  for (const file of main) {
    const found = await readFile(file, Boolean(named));
    for (const rule of found ?? []) rules.set(rule.prefix, rule);
    if (found) break;
  }
  for (const directory of [path.join(system, 'registries.conf.d'), path.join(user, 'registries.conf.d')]) {
    const names = await readdir(directory).catch(() => []);
    for (const name of names
      .filter((one) => one.endsWith('.conf'))
      .sort()
      .slice(0, MAX_FILES)) {
      for (const rule of (await readFile(path.join(directory, name), true)) ?? [])
        rules.set(rule.prefix, rule);
    }
  }
  return [...rules.values()];
}

async function readFile(file: string, required: boolean): Promise<MirrorRule[] | undefined> {
  let bytes: Buffer | undefined;
  try {
    bytes = await readFileLimited(file, MAX_FILE_BYTES);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    // Somebody else's file, such as one below another home.
    if (!required && (code === 'EACCES' || code === 'ENOTDIR')) return undefined;
    throw unusable(
      file,
      isSealiftError(error) ? `larger than ${MAX_FILE_BYTES} bytes` : inert(code ?? 'unreadable'),
    );
  }
  if (bytes === undefined) {
    if (required) throw unusable(file, 'it is not there');
    return undefined;
  }
  const { parse } = await import('smol-toml');
  let document: TomlTable;
  try {
    document = parse(bytes.toString('utf8'), { maxDepth: 16 });
  } catch (error) {
    throw unusable(file, inert((error as Error).message.split('\n', 1)[0] ?? 'it is not TOML'));
  }
  const list = document['registry'];
  if (list === undefined) return [];
  if (!Array.isArray(list)) throw unusable(file, 'want [[registry]] tables');
  return list.map((entry, index) =>
    readRule(entry, (what) => unusable(file, `registry ${index + 1}: ${what}`)),
  );
}

type Refuse = (what: string) => SealiftError;

function readRule(value: TomlValue, refuse: Refuse): MirrorRule {
  const table = tableOf(value, refuse);
  const location = textOf(table, 'location', refuse);
  const prefix = textOf(table, 'prefix', refuse) ?? location;
  if (prefix === undefined) throw refuse('want a prefix or a location');
  if (!(prefix.startsWith('*.') ? /^\*\.[A-Za-z0-9.-]+$/ : LOCATION).test(prefix)) {
    throw refuse(`prefix: got ${inert(prefix)}, want HOST[:PORT][/PATH] or *.DOMAIN`);
  }
  const digestOnly = flagOf(table, 'mirror-by-digest-only', refuse);
  const mirrors = table['mirror'] ?? [];
  if (!Array.isArray(mirrors)) throw refuse('want [[registry.mirror]] tables');
  return {
    prefix,
    location: location === prefix ? undefined : location,
    insecure: flagOf(table, 'insecure', refuse),
    blocked: flagOf(table, 'blocked', refuse),
    mirrors: mirrors.map((entry) => readMirror(entry, digestOnly, refuse)),
  };
}

function readMirror(value: TomlValue, digestOnly: boolean, refuse: Refuse): Mirror {
  const table = tableOf(value, refuse);
  const location = textOf(table, 'location', refuse);
  if (location === undefined) throw refuse('a mirror wants a location');
  const pull = textOf(table, 'pull-from-mirror', refuse) ?? 'all';
  if (pull !== 'all' && pull !== 'digest-only' && pull !== 'tag-only') {
    throw refuse(`pull-from-mirror: got ${inert(pull)}, want all, digest-only or tag-only`);
  }
  return { location, insecure: flagOf(table, 'insecure', refuse), pull: digestOnly ? 'digest-only' : pull };
}

function tableOf(value: TomlValue, refuse: Refuse): TomlTable {
  if (typeof value === 'object' && !Array.isArray(value) && !(value instanceof Date))
    return value as TomlTable;
  throw refuse('want a table');
}

function textOf(table: TomlTable, name: string, refuse: Refuse): string | undefined {
  const value = table[name];
  if (value === undefined || value === '') return undefined;
  if (typeof value !== 'string') throw refuse(`${name}: want a string`);
  if (name === 'location' && !LOCATION.test(value)) {
    throw refuse(`location: got ${inert(value)}, want HOST[:PORT][/PATH]`);
  }
  return value;
}

function flagOf(table: TomlTable, name: string, refuse: Refuse): boolean {
  const value = table[name] ?? false;
  if (typeof value !== 'boolean') throw refuse(`${name}: want true or false`);
  return value;
}

function unusable(file: string, what: string): SealiftError {
  return new SealiftError('invalid-argument', `registries.conf cannot be used: ${what}`, {
    subject: inert(file),
    hint: 'containers-registries.conf(5) says what it may hold',
  });
}
