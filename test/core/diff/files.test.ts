import { createHash } from 'node:crypto';
import { getEventListeners } from 'node:events';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { Header } from 'tar/header';
import { Pax } from 'tar/pax';
import { afterAll, describe, expect, test } from 'vitest';
import type { Context } from '../../../core/context.ts';
import { applyLayer, compareTrees, emptyTree, type FileTree } from '../../../core/diff/files.ts';
import type { FileChange } from '../../../core/diff/result.ts';
import { DEFAULT_LIMITS } from '../../../core/limits.ts';
import { formatDigest } from '../../../core/oci/digest.ts';
import { createWorkerPool } from '../../../core/pool/worker-pool.ts';
import { tarOf } from '../../../fixtures/images.ts';

const pool = createWorkerPool({ size: 0 });
afterAll(() => pool.close());

function context(over: Partial<Context> = {}): Context {
  return {
    now: new Date('2026-03-01T00:00:00Z'),
    signal: new AbortController().signal,
    emit: () => undefined,
    limits: DEFAULT_LIMITS,
    pool,
    ...over,
  };
}

async function add(tree: FileTree, bytes: Uint8Array, within = context()): Promise<void> {
  const digest = formatDigest('sha256', createHash('sha256').update(bytes).digest('hex'));
  await applyLayer(tree, { digest, content: async () => inPieces(bytes) }, within);
}

async function* inPieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let i = 0; i < bytes.length; i += 1000) yield Uint8Array.from(bytes.subarray(i, i + 1000));
}

async function treeOf(...layers: readonly Readonly<Record<string, string>>[]): Promise<FileTree> {
  const tree = emptyTree();
  for (const files of layers) await add(tree, tarOf(files));
  return tree;
}

const brief = (changes: readonly FileChange[]) =>
  changes.map(({ path, state, what }) => [state, path, ...what].join(' '));

describe('files in layers', () => {
  test('are added, gone and changed, with their directories', async () => {
    const before = await treeOf({ 'etc/a': 'one', 'etc/b': 'two', 'bin/x': 'run' });
    const after = await treeOf({ 'etc/a': 'one', 'etc/b': 'TWO', 'usr/lib/y': 'lib' });
    expect(brief(compareTrees(before, after))).toEqual([
      'removed /bin',
      'removed /bin/x',
      'changed /etc/b content',
      'added /usr',
      'added /usr/lib',
      'added /usr/lib/y',
    ]);
  });

  test('of the same content in another number of layers are the same', async () => {
    const before = await treeOf({ 'etc/a': 'one', 'etc/b': 'two' });
    const after = await treeOf({ 'etc/a': 'zero' }, { 'etc/b': 'two' }, { 'etc/a': 'one' });
    expect(compareTrees(before, after)).toEqual([]);
  });

  test('are hidden by a whiteout, wherever it stands in its layer, and by nothing else of that layer', async () => {
    const tree = await treeOf({ 'etc/a': 'one', 'etc/b': 'two' }, { 'etc/.wh.a': '', 'etc/c': 'three' });
    expect(brief(compareTrees(tree, await treeOf({ 'etc/b': 'two', 'etc/c': 'three' })))).toEqual([]);
  });

  test('below an opaque directory are those of its own layer', async () => {
    const tree = await treeOf(
      { 'opt/old/deep/file': 'x', 'opt/keep': 'y' },
      { 'opt/old/.wh..wh..opq': '', 'opt/old/new': 'z' },
    );
    expect(brief(compareTrees(tree, await treeOf({ 'opt/keep': 'y', 'opt/old/new': 'z' })))).toEqual([]);
  });

  test('take the place of a directory with all below it', async () => {
    const tree = await treeOf({ 'opt/app/file': 'x' }, { 'opt/app': 'now a file' });
    expect(brief(compareTrees(tree, await treeOf({ 'opt/app': 'now a file' })))).toEqual([]);
  });

  test.each([
    ['plain', (bytes: Buffer) => bytes],
    ['gzip', (bytes: Buffer) => gzipSync(bytes)],
    ['zstd', (bytes: Buffer) => zstdCompressSync(bytes)],
  ])('are read from a layer that is %s', async (_, pack) => {
    const files = { 'etc/a': 'one', 'srv/big': 'x'.repeat(100_000) };
    const tree = emptyTree();
    await add(tree, pack(tarOf(files)));
    expect(compareTrees(tree, await treeOf(files))).toEqual([]);
    expect(brief(compareTrees(emptyTree(), tree))).toEqual([
      'added /etc',
      'added /etc/a',
      'added /srv',
      'added /srv/big',
    ]);
  });
});

test('compressed layers leave no listener behind', async () => {
  const { signal } = new AbortController();
  const tree = emptyTree();
  for (const name of ['a', 'b', 'c']) await add(tree, gzipSync(tarOf({ [name]: 'x' })), context({ signal }));
  expect(getEventListeners(signal, 'abort')).toHaveLength(0);
});

/** Empty files with any path, and no directory of their own. */
function bareTar(...paths: readonly string[]): Buffer {
  const entries = paths.flatMap((path) => {
    const header = Buffer.alloc(512);
    new Header({ path: 'short', type: 'File', size: 0, mode: 0o644 }).encode(header);
    return [new Pax({ path }).encode(), header];
  });
  return Buffer.concat([...entries, Buffer.alloc(1024)]);
}

describe('a layer is refused', () => {
  test('with another digest than its own', async () => {
    const digest = formatDigest('sha256', '0'.repeat(64));
    const layer = { digest, content: async () => inPieces(gzipSync(tarOf({ a: 'x' }))) };
    await expect(applyLayer(emptyTree(), layer, context())).rejects.toMatchObject({
      code: 'digest-mismatch',
    });
  });

  test.each([
    ['no archive', Buffer.from('hello '.repeat(500))],
    ['cut short', gzipSync(tarOf({ a: 'x'.repeat(5000) })).subarray(0, 40)],
    ['compressed twice', gzipSync(gzipSync(tarOf({ a: 'x' })))],
  ])('where it is %s', async (_, bytes) => {
    await expect(add(emptyTree(), bytes)).rejects.toMatchObject({ code: 'archive-invalid' });
  });

  test('with more files than the limit', async () => {
    const limits = { ...DEFAULT_LIMITS, entries: 3 };
    await expect(
      add(emptyTree(), tarOf({ a: '1', b: '2', c: '3', d: '4' }), context({ limits })),
    ).rejects.toMatchObject({ code: 'archive-invalid' });
  });

  test('with more whiteouts, or more directories on the way to its files, than the limit', async () => {
    const limits = { ...DEFAULT_LIMITS, entries: 3 };
    for (const paths of [
      ['.wh.a', '.wh.b', '.wh.c', '.wh.d'],
      ['a/.wh..wh..opq', 'b/.wh..wh..opq', 'c/.wh..wh..opq', 'd/.wh..wh..opq'],
      ['a/b/c/d'],
      ['a/1', 'b/2'],
    ])
      await expect(add(emptyTree(), bareTar(...paths), context({ limits }))).rejects.toMatchObject({
        code: 'archive-invalid',
      });
  });

  test('with a path of a hundred thousand directories', async () => {
    await expect(add(emptyTree(), bareTar(`${'a/'.repeat(100_000)}b`))).rejects.toMatchObject({
      code: 'archive-invalid',
    });
  });

  test('with names that would be paths: they stay names', async () => {
    const tree = await treeOf({ '../../etc/shadow': 'x', ['__proto__']: 'y', 'constructor/prototype': 'z' });
    expect(compareTrees(emptyTree(), tree).map(({ path }) => path)).toContain('/../../etc/shadow');
    expect(Object.hasOwn(Object.prototype, 'facts')).toBe(false);
  });
});
