/**
 * The client command line of the TUF conformance suite (init, refresh, download) over the code that imports a
 * bundle. Only here is the strict profile off: it reads other people's repositories, over HTTP.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { DEFAULT_LIMITS } from '../../core/limits.ts';
import { type MetaEntry, parseRoot, rootFingerprint } from '../../core/trust/metadata.ts';
import { findNameLoading } from '../../core/trust/search.ts';
import { TrustedSet } from '../../core/trust/trusted-set.ts';

const TOP = ['root', 'timestamp', 'snapshot', 'targets'];
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    'metadata-dir': { type: 'string' },
    'metadata-url': { type: 'string' },
    'target-name': { type: 'string', multiple: true },
    'target-base-url': { type: 'string' },
    'target-dir': { type: 'string' },
    'max-root-rotations': { type: 'string' },
  },
});

function need(name: 'metadata-dir' | 'metadata-url' | 'target-base-url' | 'target-dir'): string {
  const value = values[name];
  if (value === undefined) throw new Error(`--${name} is missing`);
  return value;
}

const localFile = (role: string): string =>
  path.join(need('metadata-dir'), `${encodeURIComponent(role)}.json`);

function readLocal(role: string): Buffer | undefined {
  try {
    return readFileSync(localFile(role));
  } catch {
    return undefined;
  }
}

/** At most `limit` bytes; undefined where the server has no such file. */
async function fetchBytes(url: string, limit: number): Promise<Buffer | undefined> {
  const response = await fetch(url, { redirect: 'error', signal: AbortSignal.timeout(30_000) });
  if (response.status === 404 || response.status === 403) return undefined;
  if (!response.ok || !response.body) throw new Error(`${url}: status ${response.status}`);
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body) {
    size += chunk.length;
    if (size > limit) throw new Error(`${url}: more than ${limit} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function fetchMetadata(name: string, entry?: MetaEntry): Promise<Buffer> {
  const limit = entry?.length ?? DEFAULT_LIMITS.metadataFile;
  const url = `${need('metadata-url').replace(/\/$/, '')}/${encodeURIComponent(name)}.json`;
  const bytes = await fetchBytes(url, limit);
  if (!bytes) throw new Error(`${name}: not there`);
  return bytes;
}

/** What lies here already, where it is what is wanted; else from the server. */
async function obtain(role: string, entry: MetaEntry, consistent: boolean): Promise<Buffer> {
  const local = readLocal(role);
  if (local && isWanted(local, entry)) return local;
  return await fetchMetadata(consistent ? `${entry.version}.${role}` : role, entry);
}

function isWanted(bytes: Buffer, entry: MetaEntry): boolean {
  const document = JSON.parse(bytes.toString('utf8')) as { signed?: { version?: unknown } };
  if (document.signed?.version !== entry.version) return false;
  if (entry.length !== undefined && entry.length !== bytes.length) return false;
  return [...entry.hashes].every(([name, hash]) => createHash(name).update(bytes).digest('hex') === hash);
}

async function refresh(): Promise<TrustedSet> {
  const root = readLocal('root');
  if (!root) throw new Error('not initialised');
  const delegated = new Map<string, Uint8Array>();
  for (const file of readdirSync(need('metadata-dir'))) {
    const role = decodeURIComponent(file.replace(/\.json$/, ''));
    const bytes = file.endsWith('.json') && !TOP.includes(role) ? readLocal(role) : undefined;
    if (bytes) delegated.set(role, bytes);
  }
  const set = await TrustedSet.fromKept(
    {
      root,
      timestamp: readLocal('timestamp'),
      snapshot: readLocal('snapshot'),
      targets: readLocal('targets'),
      delegated,
      certificates: new Map(),
    },
    { now: new Date(), limits: DEFAULT_LIMITS, strictProfile: false },
  );
  const keep = (): void => {
    const kept = set.kept();
    for (const role of ['root', 'timestamp', 'snapshot', 'targets'] as const) {
      const bytes = kept[role];
      if (bytes) writeFileSync(localFile(role), bytes);
      else rmSync(localFile(role), { force: true });
    }
    for (const [role, bytes] of kept.delegated) writeFileSync(localFile(role), bytes);
  };
  const most = Number(values['max-root-rotations'] ?? 256);
  for (let i = 0; i < most; i += 1) {
    const url = `${need('metadata-url').replace(/\/$/, '')}/${set.root.version + 1}.root.json`;
    const next = await fetchBytes(url, DEFAULT_LIMITS.metadataFile);
    if (!next) break;
    await set.updateRoot(next);
    keep();
  }
  await set.finishRoots();
  await set.updateTimestamp(await fetchMetadata('timestamp'));
  keep();
  const entry = set.timestamp?.snapshot;
  if (!entry) throw new Error('no timestamp');
  const { consistentSnapshot } = set.root;
  await set.updateSnapshot(await obtain('snapshot', entry, consistentSnapshot));
  keep();
  const targets = set.snapshot?.meta.get('targets');
  if (!targets) throw new Error('snapshot does not list targets');
  await set.updateTargets(await obtain('targets', targets, consistentSnapshot));
  keep();
  return set;
}

async function download(names: readonly string[]): Promise<void> {
  const set = await refresh();
  const { consistentSnapshot } = set.root;
  for (const name of names) {
    const answer = await findNameLoading(set, name, async (role, delegator) => {
      const entry = set.snapshot?.meta.get(role);
      if (!entry) throw new Error(`snapshot does not list ${role}`);
      const bytes = await obtain(role, entry, consistentSnapshot);
      await set.updateDelegated(role, delegator, bytes);
      writeFileSync(localFile(role), bytes);
    });
    if (answer.kind !== 'target') throw new Error(`${name}: no role has it`);
    const { target } = answer.target;
    const [algorithm = '', hash = ''] = [...target.hashes][0] ?? [];
    const here = path.join(need('target-dir'), encodeURIComponent(name));
    if (existsSync(here) && isContent(readFileSync(here), target.length, algorithm, hash)) continue;
    const parts = name.split('/');
    const last = parts.pop() ?? '';
    const file = consistentSnapshot ? [...parts, `${hash}.${last}`] : [...parts, last];
    const url = `${need('target-base-url').replace(/\/$/, '')}/${file.map(encodeURIComponent).join('/')}`;
    const bytes = await fetchBytes(url, target.length);
    if (!bytes) throw new Error(`${name}: not there`);
    if (!isContent(bytes, target.length, algorithm, hash))
      throw new Error(`${name}: another length or another hash`);
    mkdirSync(need('target-dir'), { recursive: true });
    writeFileSync(here, bytes);
  }
}

const isContent = (bytes: Buffer, length: number, algorithm: string, hash: string): boolean =>
  bytes.length === length && createHash(algorithm).update(bytes).digest('hex') === hash;

/** Keeps a root that carries its own threshold of signatures, and no other. */
async function init(file: string): Promise<void> {
  const bytes = readFileSync(file);
  const options = { now: new Date(), limits: DEFAULT_LIMITS, strictProfile: false };
  const pin = rootFingerprint(parseRoot(bytes, { role: 'root', limits: DEFAULT_LIMITS, strict: false }));
  await TrustedSet.fromPin(pin, [bytes], options);
  mkdirSync(need('metadata-dir'), { recursive: true });
  writeFileSync(localFile('root'), bytes);
}

async function main(): Promise<void> {
  const [command, root] = positionals;
  switch (command) {
    case 'init':
      await init(root ?? '');
      return;
    case 'refresh':
      await refresh();
      return;
    case 'download':
      await download(values['target-name'] ?? []);
      return;
    default:
      throw new Error(`unknown command, want init, refresh or download`);
  }
}

try {
  await main();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
