/**
 * The files of a stack of layers, read as streams: whiteouts applied (OCI image specification, layer.md), content
 * hashed, nothing written. Names are keys of a map and never paths.
 */
import { createHash, type Hash } from 'node:crypto';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { Parser } from 'tar/parse';
import type { ReadEntry } from 'tar/read-entry';
import type { Context } from '../context.ts';
import { inert, isSealiftError, SealiftError } from '../errors.ts';
import { type Digest, digestAlgorithm, formatDigest } from '../oci/digest.ts';
import { compressionOf } from '../transport/archive/spool.ts';
import type { FileChange, FileFacts, FileType } from './result.ts';

/** Decompressed bytes of one layer: more is a bomb. */
const MAX_LAYER = 256 * 1024 ** 3;
/** Characters of a path: more than file systems take. */
const MAX_PATH = 4096;
/** Characters of all paths of one layer. */
const MAX_NAMES = 256 * 1024 * 1024;
const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';

const TYPES: Readonly<Record<string, FileType>> = {
  File: 'file',
  OldFile: 'file',
  ContiguousFile: 'file',
  Directory: 'directory',
  GNUDumpDir: 'directory',
  SymbolicLink: 'symlink',
  Link: 'hardlink',
  CharacterDevice: 'device',
  BlockDevice: 'device',
  FIFO: 'fifo',
};

interface Node {
  facts?: FileFacts & { readonly hash?: string };
  readonly children: Map<string, Node>;
}

export interface TreeLayer {
  readonly digest: Digest;
  readonly content: () => Promise<AsyncIterable<Uint8Array>>;
}

/** A root file system as far as layers have built it. */
export interface FileTree {
  readonly root: Node;
  /** Files and whiteouts that were read. */
  entries: number;
  /** Files and the directories they lie in, whether a layer lists those or not. */
  nodes: number;
}

export function emptyTree(): FileTree {
  return { root: { children: new Map() }, entries: 0, nodes: 0 };
}

/** A copy that further layers may change. */
export function copyTree({ root, entries, nodes }: FileTree): FileTree {
  const copy = (node: Node): Node => ({
    ...(node.facts ? { facts: node.facts } : {}),
    children: new Map([...node.children].map(([name, child]) => [name, copy(child)])),
  });
  return { root: copy(root), entries, nodes };
}

/**
 * Adds a layer to a tree, gzip, zstd or plain, whatever its type says.
 * @throws SealiftError `digest-mismatch`, `archive-invalid` where it is no tar or larger than the limits; what the source gives
 */
export async function applyLayer(tree: FileTree, layer: TreeLayer, context: Context): Promise<void> {
  const refuse = (message: string, cause?: unknown) =>
    new SealiftError('archive-invalid', message, { subject: layer.digest, cause });
  const tooMany = () => refuse(`the layers have too many files: want at most ${context.limits.entries}`);
  let names = 0;
  // What a layer hides is of the layers below it, wherever in the layer the whiteout stands.
  const entries: [readonly string[], NonNullable<Node['facts']>][] = [];
  const hidden: { readonly place: readonly string[]; readonly opaque: boolean }[] = [];

  const parser = new Parser({
    onReadEntry: (entry: ReadEntry) => {
      names += entry.path.length;
      if (entry.path.length > MAX_PATH || names > MAX_NAMES) {
        parser.abort(refuse('the layer has too long paths'));
        return;
      }
      const place = segments(entry.path);
      const last = place.at(-1) ?? '';
      tree.entries += 1;
      if (tree.entries > context.limits.entries) {
        parser.abort(tooMany());
        return;
      }
      if (last === OPAQUE) hidden.push({ place: place.slice(0, -1), opaque: true });
      else if (last.startsWith(WHITEOUT))
        hidden.push({ place: [...place.slice(0, -1), last.slice(WHITEOUT.length)], opaque: false });
      const type = TYPES[entry.type];
      if (last === '' || last.startsWith(WHITEOUT) || type === undefined) {
        entry.resume();
        return;
      }
      takeEntry(entry, type, (facts) => entries.push([place, facts]));
    },
    onwarn: (code, message) => {
      // What makes the parser stop, or lose its place, is no listing.
      if (code === 'TAR_BAD_ARCHIVE' || code === 'TAR_ABORT' || code === 'TAR_ENTRY_INVALID')
        failure ??= refuse(`the layer is no tar archive sealift can read: ${inert(String(message), 160)}`);
    },
  });
  let failure: SealiftError | undefined;
  try {
    let size = 0;
    for await (const chunk of decompressed(layer, context)) {
      context.signal.throwIfAborted();
      size += chunk.length;
      if (size > MAX_LAYER) throw refuse(`the layer is too large: want at most ${MAX_LAYER} bytes`);
      if (!parser.write(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length)))
        await once(parser, 'drain');
      if (failure) throw failure;
    }
    const ended = once(parser, 'end');
    parser.end();
    await ended;
  } catch (error) {
    if (isSealiftError(error) || context.signal.aborted) throw error;
    throw (
      failure ?? refuse(`the layer cannot be read: ${inert(String((error as Error).message), 160)}`, error)
    );
  }
  if (failure) throw failure;

  for (const { place, opaque } of hidden) hide(tree.root, place, opaque);
  for (const [place, facts] of entries) {
    tree.nodes += put(tree.root, place, facts);
    if (tree.nodes > context.limits.entries) throw tooMany();
  }
}

function segments(path: string): readonly string[] {
  return path.split('/').filter((part) => part !== '' && part !== '.');
}

function takeEntry(
  entry: ReadEntry,
  type: FileType,
  take: (facts: NonNullable<Node['facts']>) => void,
): void {
  const hash: Hash | undefined = type === 'file' ? createHash('sha256') : undefined;
  entry.on('data', (chunk: Buffer) => hash?.update(chunk));
  entry.on('end', () => {
    take({
      type,
      size: type === 'file' ? entry.size : 0,
      mode: ((entry.mode ?? 0) & 0o7777).toString(8).padStart(4, '0'),
      owner: `${entry.uid ?? 0}:${entry.gid ?? 0}`,
      ...(type === 'symlink' || type === 'hardlink' ? { target: entry.linkpath ?? '' } : {}),
      ...(hash ? { hash: hash.digest('hex') } : {}),
    });
  });
}

/** The content of a layer, its compressed bytes checked against the digest on the way. */
async function* decompressed(layer: TreeLayer, context: Context): AsyncGenerator<Uint8Array> {
  const algorithm = digestAlgorithm(layer.digest);
  const hash = createHash(algorithm);
  const source = (await layer.content())[Symbol.asyncIterator]();
  const first = await source.next();
  const head = first.done ? Buffer.alloc(0) : first.value;
  async function* hashed(): AsyncGenerator<Uint8Array> {
    for (let step = first; !step.done; step = await source.next()) {
      hash.update(step.value);
      yield step.value;
    }
    const got = formatDigest(algorithm, hash.digest('hex'));
    if (got !== layer.digest) {
      throw new SealiftError(
        'digest-mismatch',
        `layer has another digest: got ${got}, want ${layer.digest}`,
        {
          subject: layer.digest,
          got,
          want: layer.digest,
        },
      );
    }
  }
  const compression = compressionOf(head);
  try {
    if (typeof compression === 'object' || compression === 'none') {
      yield* hashed();
      return;
    }
    const unpack = compression === 'gzip' ? createGunzip() : createZstdDecompress();
    const input = Readable.from(hashed());
    let broken: unknown;
    input.on('error', (error) => {
      broken = error;
      unpack.destroy(error as Error);
    });
    const stop = (): void => {
      unpack.destroy();
    };
    context.signal.addEventListener('abort', stop, { once: true });
    let begun = false;
    try {
      for await (const chunk of input.pipe(unpack) as AsyncIterable<Buffer>) {
        // The parser would unpack it once more.
        if (!begun && compressionOf(chunk) !== 'none')
          throw new SealiftError('archive-invalid', 'the layer is compressed twice', {
            subject: layer.digest,
          });
        begun = true;
        yield chunk;
      }
    } catch (error) {
      throw broken ?? error;
    } finally {
      context.signal.removeEventListener('abort', stop);
      input.destroy();
    }
  } finally {
    await source.return?.();
  }
}

function hide(root: Node, place: readonly string[], opaque: boolean): void {
  let node: Node | undefined = root;
  const way = opaque ? place : place.slice(0, -1);
  for (const name of way) node = node?.children.get(name);
  if (opaque) node?.children.clear();
  else node?.children.delete(place.at(-1) ?? '');
}

/** Number of nodes that had to be made. */
function put(root: Node, place: readonly string[], facts: NonNullable<Node['facts']>): number {
  let made = 0;
  let node = root;
  for (const name of place) {
    let child = node.children.get(name);
    if (!child) {
      child = { children: new Map() };
      node.children.set(name, child);
      made += 1;
    }
    node = child;
  }
  node.facts = facts;
  if (facts.type !== 'directory') node.children.clear();
  return made;
}

/** What differs, paths ascending within each directory; times of files do not count. */
export function compareTrees(before: FileTree, after: FileTree): readonly FileChange[] {
  const changes: FileChange[] = [];
  walk(before.root, after.root, '', changes);
  return changes;
}

function walk(before: Node | undefined, after: Node | undefined, path: string, changes: FileChange[]): void {
  const change = path === '' ? undefined : compareFacts(before?.facts, after?.facts, path);
  if (change) changes.push(change);
  const names = new Set([...(before?.children.keys() ?? []), ...(after?.children.keys() ?? [])]);
  for (const name of [...names].sort())
    walk(before?.children.get(name), after?.children.get(name), `${path}/${name}`, changes);
}

function compareFacts(before: Node['facts'], after: Node['facts'], path: string): FileChange | undefined {
  const shown = (facts: NonNullable<Node['facts']>): FileFacts => {
    const { hash: _, ...rest } = facts;
    return rest;
  };
  if (!before && !after) return undefined;
  if (!before || !after) {
    return {
      path,
      state: after ? 'added' : 'removed',
      ...(before ? { before: shown(before) } : {}),
      ...(after ? { after: shown(after) } : {}),
      what: [],
    };
  }
  const what = [
    ...(before.type === after.type ? [] : ['type']),
    ...(before.type === after.type && (before.hash !== after.hash || before.size !== after.size)
      ? ['content']
      : []),
    ...(before.target === after.target ? [] : ['target']),
    ...(before.mode === after.mode ? [] : ['mode']),
    ...(before.owner === after.owner ? [] : ['owner']),
  ];
  return what.length === 0
    ? undefined
    : { path, state: 'changed', before: shown(before), after: shown(after), what };
}
