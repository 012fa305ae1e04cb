import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseBundleManifest } from '../../../core/bundle/manifest.ts';
import { checkDockerManifest, openBundleFile, openBundleStream } from '../../../core/bundle/reader.ts';
import { END_BLOCKS, tarHeader } from '../../../core/bundle/tar.ts';
import { DEFAULT_LIMITS } from '../../../core/limits.ts';
import {
  codeOf,
  hex,
  type MadeBundle,
  makeBundle,
  readOptions,
  SOME_BLOBS,
  temporaryDirectory,
} from './helpers.ts';

const MTIME = Date.parse('2026-01-02T03:04:05Z') / 1000;

async function* pieces(bytes: Uint8Array, size = 700): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

let count = 0;
const directory = temporaryDirectory();

function toFile(bytes: Uint8Array): string {
  count += 1;
  const file = path.join(directory, `${count}.tar`);
  writeFileSync(file, bytes);
  return file;
}

/** Reads a bundle to its end at random access, blobs included; the code it is refused with. */
function readFile(bytes: Uint8Array, made: MadeBundle, limits = {}): Promise<string> {
  return codeOf(async () => {
    const bundle = await openBundleFile(toFile(bytes), readOptions(limits));
    try {
      bundle.accept(made.manifest);
      await bundle.verifyFrame();
      for (const name of made.blobs.keys()) await bundle.readBlob(name, DEFAULT_LIMITS.blob);
    } finally {
      await bundle.close();
    }
  });
}

/** The same in one pass. */
function readStream(bytes: Uint8Array, made: MadeBundle, limits = {}): Promise<string> {
  return codeOf(async () => {
    const bundle = await openBundleStream(pieces(bytes), readOptions(limits));
    try {
      bundle.accept(made.manifest);
      for await (const blob of bundle.blobs()) expect(blob.size).toBe(made.blobs.get(blob.name)?.length);
    } finally {
      await bundle.close();
    }
  });
}

async function readBoth(bytes: Uint8Array, made: MadeBundle, limits = {}): Promise<string> {
  const [file, stream] = [await readFile(bytes, made, limits), await readStream(bytes, made, limits)];
  return file === stream ? file : `file: ${file}, stream: ${stream}`;
}

const made = makeBundle();
const readme = made.plan.layout.entries[1]!;
const firstBlob = made.plan.blobs[0]!;

/** A header with fields changed and its checksum put right. */
function header(name: string, size: number, change: (block: Buffer) => void, mtime = MTIME): Buffer {
  const block = Buffer.from(tarHeader(name, size, mtime));
  change(block);
  block.fill(0x20, 148, 156);
  let sum = 0;
  for (const byte of block) sum += byte;
  block.write(`${sum.toString(8).padStart(6, '0')} \0`, 148, 'latin1');
  return block;
}

/** The bundle with `inserted` at `offset`. */
function insert(offset: number, ...inserted: Uint8Array[]): Buffer {
  return Buffer.concat([made.bytes.subarray(0, offset), ...inserted, made.bytes.subarray(offset)]);
}

/** The bundle with other bytes at `offset`. */
function replace(offset: number, bytes: Uint8Array): Buffer {
  const copy = Buffer.from(made.bytes);
  copy.set(bytes, offset);
  return copy;
}

const ofType = (type: string, name = 'README.txt') =>
  header(name, 0, (block) => block.write(type, 156, 'latin1'));

describe('a bundle is read', () => {
  it('at random access and in one pass, whatever blobs it has', async () => {
    const blobs = fc.array(
      fc.record({
        bytes: fc.uint8Array({ maxLength: 2000 }),
        kind: fc.constantFrom('manifest' as const, 'evidence' as const, 'layer' as const),
        algorithm: fc.constantFrom('sha256' as const, 'sha512' as const),
      }),
      { maxLength: 8 },
    );
    await fc.assert(
      fc.asyncProperty(blobs, fc.boolean(), async (some, signedSums) => {
        const bundle = makeBundle({ blobs: some, signedSums });
        expect(await readBoth(bundle.bytes, bundle)).toBe('accepted');
      }),
      { numRuns: 30 },
    );
  });

  it('with all files of its head', async () => {
    const bundle = await openBundleFile(toFile(made.bytes), readOptions());
    const stream = await openBundleStream(pieces(made.bytes), readOptions());
    expect(stream.head).toEqual(bundle.head);
    const { head } = bundle;
    expect([...head.files.keys()]).toEqual(made.head.map(({ name }) => name));
    expect(Buffer.from(head.readme).toString()).toBe('A bundle.\n');
    expect(head.roots.map(({ version }) => version)).toEqual([1, 2]);
    expect(head.delegated.map(({ role, version }) => [role, version])).toEqual([
      ['bundles', 7],
      ['images', 3],
    ]);
    expect(head.snapshot.version).toBe(7);
    expect(head.certificates).toHaveLength(1);
    expect(Buffer.from(head.sha256SumsSignature ?? []).toString()).toBe('signature');
    expect(parseBundleManifest(head.manifest, DEFAULT_LIMITS)).toEqual(made.manifest);
    expect(head.size).toBe(firstBlob.headerOffset);
    await bundle.close();
    await stream.close();
  });

  it('with a role name that needs a prefix or a pax record', async () => {
    for (const length of [90, 95, 100, 128]) {
      const bundle = makeBundle({ role: 'r'.repeat(length) });
      expect(await readBoth(bundle.bytes, bundle)).toBe('accepted');
    }
  });

  it('from its small blobs to a decision, and only then on to the layers', async () => {
    let asked = 0;
    async function* counted(): AsyncGenerator<Uint8Array> {
      for await (const piece of pieces(made.bytes, 512)) {
        asked += piece.length;
        yield piece;
      }
    }
    const bundle = await openBundleStream(counted(), readOptions());
    bundle.accept(made.manifest);
    const small: string[] = [];
    for await (const blob of bundle.blobs('small')) small.push(Buffer.from(await blob.bytes(100)).toString());
    expect(small.sort()).toEqual(['evidence', '{"a config":1}', '{"a manifest":1}']);
    const layer = made.plan.blobs[3];
    expect(asked).toBeLessThanOrEqual(layer?.headerOffset ?? 0);
    const layers: number[] = [];
    for await (const blob of bundle.blobs()) {
      let bytes = 0;
      for await (const piece of blob.content) bytes += piece.length;
      layers.push(bytes);
    }
    expect(layers.sort()).toEqual([1024, 7]);
    expect(await bundle.nextBlob()).toBeUndefined();
    expect(bundle.position).toBe(made.bytes.length);
    await bundle.close();
  });

  it('with the place of each blob', async () => {
    const bundle = await openBundleFile(toFile(made.bytes), readOptions());
    expect(() => bundle.blob(firstBlob.name)).toThrow(/before the bundle manifest/);
    bundle.accept(made.manifest);
    expect(bundle.blob(firstBlob.name)).toMatchObject({
      offset: firstBlob.contentOffset,
      size: firstBlob.size,
    });
    expect(bundle.blob('blobs/sha256/none')).toBeUndefined();
    expect(await codeOf(() => bundle.readBlob('blobs/sha256/none', 10))).toBe('blob-missing');
    expect(await codeOf(() => bundle.readBlob(firstBlob.name, 3))).toBe('bundle-too-large');
    await bundle.close();
  });

  it('until it is told to stop', async () => {
    const controller = new AbortController();
    async function* stuck(): AsyncGenerator<Uint8Array> {
      yield made.bytes.subarray(0, 1000);
      setImmediate(() => controller.abort());
      await new Promise(() => {});
    }
    expect(
      await codeOf(() => openBundleStream(stuck(), { ...readOptions(), signal: controller.signal })),
    ).toBe('cancelled');
    expect(
      await codeOf(() => openBundleFile(toFile(made.bytes), { ...readOptions(), signal: controller.signal })),
    ).toBe('cancelled');
  });

  it('but a content left in the middle is not taken for read', async () => {
    const bundle = await openBundleStream(pieces(made.bytes, 5), readOptions());
    bundle.accept(made.manifest);
    const blob = await bundle.nextBlob();
    for await (const _ of blob?.content ?? []) break;
    expect(await codeOf(() => bundle.nextBlob())).toBe('internal');
    await bundle.close();
  });

  it('and closing it destroys the stream', async () => {
    const readable = Readable.from([made.bytes], { objectMode: false });
    const bundle = await openBundleStream(readable, readOptions());
    await bundle.close();
    expect(readable.destroyed).toBe(true);
  });
});

describe('what is no bundle file', () => {
  it('nothing at that place', async () => {
    expect(await codeOf(() => openBundleFile(path.join(directory, 'none.tar'), readOptions()))).toBe(
      'bundle-not-found',
    );
  });

  it('a directory', async () => {
    const place = path.join(directory, 'a-directory');
    mkdirSync(place);
    expect(await codeOf(() => openBundleFile(place, readOptions()))).toBe('invalid-argument');
  });

  it('a FIFO, without waiting for a writer', async () => {
    const fifo = path.join(directory, 'fifo');
    execFileSync('mkfifo', [fifo]);
    expect(await codeOf(() => openBundleFile(fifo, readOptions()))).toBe('invalid-argument');
  });

  it('a device', async () => {
    expect(await codeOf(() => openBundleFile('/dev/zero', readOptions()))).toBe('invalid-argument');
  });

  it('a file that changes while it is read', async () => {
    const file = toFile(made.bytes);
    const bundle = await openBundleFile(file, readOptions());
    bundle.accept(made.manifest);
    await bundle.verifyFrame();
    writeFileSync(file, made.bytes);
    utimesSync(file, 1, 1);
    expect(await codeOf(() => bundle.assertUnchanged())).toBe('bundle-not-canonical');
    expect(await codeOf(() => bundle.verifyFrame())).toBe('bundle-not-canonical');
    await bundle.close();
  });

  it('a file that shrinks while it is read', async () => {
    const file = toFile(made.bytes);
    const bundle = await openBundleFile(file, readOptions());
    bundle.accept(made.manifest);
    truncateSync(file, firstBlob.contentOffset + 1);
    expect(await codeOf(() => bundle.verifyFrame())).toBe('bundle-truncated');
    expect(await codeOf(() => bundle.readBlob(firstBlob.name, 100))).toBe('bundle-truncated');
    await bundle.close();
  });

  it('a file that grew before its frame is looked at', async () => {
    const file = toFile(made.bytes);
    const bundle = await openBundleFile(file, readOptions());
    bundle.accept(made.manifest);
    appendFileSync(file, 'x');
    expect(await codeOf(() => bundle.verifyFrame())).toBe('bundle-not-canonical');
    await bundle.close();
  });
});

describe('something around the archive', () => {
  it('gzip', async () => {
    expect(await readBoth(gzipSync(made.bytes), made)).toBe('bundle-compressed');
  });

  it('zstd', async () => {
    expect(await readBoth(zstdCompressSync(made.bytes), made)).toBe('bundle-compressed');
  });

  it('a skippable zstd frame', async () => {
    expect(await readBoth(Buffer.concat([Buffer.from([0x50, 0x2a, 0x4d, 0x18]), made.bytes]), made)).toBe(
      'bundle-compressed',
    );
  });

  it('xz', async () => {
    expect(await readBoth(execFileSync('xz', ['-c'], { input: made.bytes }), made)).toBe('bundle-compressed');
  });

  it('bzip2', async () => {
    expect(await readBoth(Buffer.concat([Buffer.from('BZh91AY&SY'), made.bytes]), made)).toBe(
      'bundle-compressed',
    );
  });

  it('an OpenPGP message, binary or armored, old packets or new', async () => {
    for (const start of [
      [0x85, 0x02, 0x0c],
      [0xc1, 0xc0],
      [0x8c, 0x0d],
      [0xa3, 0x01],
      [0xd2, 0xff],
      [0x90, 0x0d],
    ]) {
      expect(await readBoth(Buffer.concat([Buffer.from(start), made.bytes]), made)).toBe('bundle-compressed');
    }
    expect(await readBoth(Buffer.from('-----BEGIN PGP MESSAGE-----\n\nxxxx'), made)).toBe(
      'bundle-compressed',
    );
  });
});

describe('what is no archive', () => {
  it('an empty file', async () => {
    expect(await readBoth(Buffer.alloc(0), made)).toBe('bundle-truncated');
  });

  it('text', async () => {
    expect(await readBoth(Buffer.alloc(2000, 'hello '), made)).toBe('bundle-not-canonical');
  });

  it('zeros', async () => {
    expect(await readBoth(Buffer.alloc(20_000), made)).toBe('bundle-not-canonical');
  });

  it('end blocks alone', async () => {
    expect(await readBoth(Buffer.from(END_BLOCKS), made)).toBe('bundle-not-canonical');
  });
});

describe('a hostile entry', () => {
  const at = readme.headerOffset;
  const types: readonly (readonly [string, string])[] = [
    ['symbolic link', '2'],
    ['hard link', '1'],
    ['character device', '3'],
    ['block device', '4'],
    ['directory', '5'],
    ['FIFO', '6'],
    ['contiguous file', '7'],
    ['GNU sparse file', 'S'],
    ['GNU long name', 'L'],
    ['GNU long link name', 'K'],
    ['global pax header', 'g'],
    ['file of the old type', '\0'],
    ['entry of an unknown type', 'Z'],
  ];
  for (const [what, type] of types) {
    it(`in the head: ${what}`, async () => {
      expect(await readBoth(insert(at, ofType(type)), made)).toBe('bundle-not-canonical');
    });
    it(`in place of a blob: ${what}`, async () => {
      const { name, size, headerOffset } = firstBlob;
      const block = header(name, size, (bytes) => bytes.write(type, 156, 'latin1'));
      expect(await readBoth(replace(headerOffset, block), made)).toBe('bundle-not-canonical');
    });
  }

  it('a symbolic link with a target', async () => {
    const link = header('README.txt', 0, (block) => {
      block.write('2', 156, 'latin1');
      block.write('/etc/passwd', 157, 'latin1');
    });
    expect(await readBoth(insert(at, link), made)).toBe('bundle-not-canonical');
  });

  it('a name that leads out: ..', async () => {
    expect(await readBoth(insert(at, tarHeader('metadata/../../x', 0, MTIME)), made)).toBe(
      'bundle-not-canonical',
    );
  });

  it('an absolute name', async () => {
    expect(await readBoth(insert(at, tarHeader('/etc/passwd', 0, MTIME)), made)).toBe('bundle-not-canonical');
  });

  it('an unknown name', async () => {
    expect(await readBoth(insert(at, tarHeader('extra.txt', 0, MTIME)), made)).toBe('bundle-not-canonical');
  });

  it('an empty name', async () => {
    expect(
      await readBoth(
        insert(
          at,
          header('x', 0, (block) => block.fill(0, 0, 100)),
        ),
        made,
      ),
    ).toBe('bundle-not-canonical');
  });

  it('a duplicate of a head file', async () => {
    const copy = made.bytes.subarray(readme.headerOffset, readme.contentOffset + 512);
    expect(await readBoth(insert(at, copy), made)).toBe('bundle-not-canonical');
  });

  it('a duplicate of a blob', async () => {
    const copy = made.bytes.subarray(firstBlob.headerOffset, firstBlob.contentOffset + 512);
    expect(await readBoth(insert(firstBlob.headerOffset, copy), made)).toBe('bundle-not-canonical');
  });

  it('files in another order', async () => {
    const one = made.bytes.subarray(0, readme.headerOffset);
    const two = made.bytes.subarray(readme.headerOffset, readme.contentOffset + 512);
    const rest = made.bytes.subarray(readme.contentOffset + 512);
    expect(await readBoth(Buffer.concat([two, one, rest]), made)).toBe('bundle-not-canonical');
  });

  it('a head file behind a blob', async () => {
    const moved = insert(made.plan.layout.endOffset, tarHeader('manifest.json', 0, MTIME));
    expect(await readBoth(moved, made)).toBe('bundle-not-canonical');
  });

  it('a head file left out', async () => {
    const without = Buffer.concat([
      made.bytes.subarray(0, at),
      made.bytes.subarray(readme.contentOffset + 512),
    ]);
    expect(await readBoth(without, made)).toBe('bundle-not-canonical');
  });

  it('a root left out', async () => {
    const some = makeBundle({ roots: 3 });
    const root = some.plan.layout.byName.get('metadata/2.root.json');
    const without = Buffer.concat([
      some.bytes.subarray(0, root?.headerOffset),
      some.bytes.subarray((root?.contentOffset ?? 0) + 512),
    ]);
    expect(await readBoth(without, some)).toBe('bundle-not-canonical');
  });

  it('a pax header that overrides the size', async () => {
    const record = Buffer.alloc(512);
    record.write('12 size=999\n', 'latin1');
    const pax = header('PaxHeader', 12, (block) => block.write('x', 156, 'latin1'));
    expect(await readBoth(insert(at, pax, record), made)).toBe('bundle-not-canonical');
  });

  it('a pax header for a name that needs none', async () => {
    const record = Buffer.alloc(512);
    record.write('19 path=README.txt\n', 'latin1');
    const pax = header('PaxHeader', 19, (block) => block.write('x', 156, 'latin1'));
    expect(await readBoth(insert(at, pax, record), made)).toBe('bundle-not-canonical');
  });

  it('a pax header with a further record', async () => {
    const role = 'r'.repeat(128);
    const some = makeBundle({ role });
    const place = some.plan.layout.byName.get(`metadata/3.${role}.json`);
    const offset = place?.headerOffset ?? 0;
    const content = some.bytes.subarray(offset + 512, offset + 1024);
    const length = content.indexOf(0);
    const more = Buffer.from(content);
    more.write('15 comment=abc\n', length, 'latin1');
    const copy = Buffer.from(some.bytes);
    copy.set(
      header('PaxHeader', length + 15, (block) => block.write('x', 156, 'latin1')),
      offset,
    );
    copy.set(more, offset + 512);
    expect(await readBoth(copy, some)).toBe('bundle-not-canonical');
  });

  it('two pax headers in a row', async () => {
    const some = makeBundle({ role: 'r'.repeat(128) });
    const place = some.plan.layout.byName.get(`metadata/3.${'r'.repeat(128)}.json`);
    const offset = place?.headerOffset ?? 0;
    const twice = Buffer.concat([
      some.bytes.subarray(0, offset + 1024),
      some.bytes.subarray(offset, offset + 1024),
      some.bytes.subarray(offset + 1024),
    ]);
    expect(await readBoth(twice, some)).toBe('bundle-not-canonical');
  });

  it('a pax header of gigabytes', async () => {
    const pax = header('PaxHeader', 2 ** 32, (block) => block.write('x', 156, 'latin1'));
    expect(await readBoth(insert(at, pax), made)).toBe('bundle-not-canonical');
  });

  it('a size over the cap', async () => {
    const large = replace(at, tarHeader('README.txt', DEFAULT_LIMITS.readme + 1, MTIME));
    expect(await readBoth(large, made)).toBe('bundle-too-large');
  });

  it('a size of terabytes', async () => {
    expect(await readBoth(replace(at, tarHeader('README.txt', 2 ** 50, MTIME)), made)).toBe(
      'bundle-too-large',
    );
  });

  it('a size behind the end of the file', async () => {
    expect(await readBoth(replace(at, tarHeader('README.txt', 500_000, MTIME)), made)).toBe(
      'bundle-truncated',
    );
  });

  it('a negative size in base 256', async () => {
    const block = header('README.txt', 0, (bytes) => bytes.fill(0xff, 124, 136));
    expect(await readBoth(replace(at, block), made)).toBe('bundle-not-canonical');
  });

  it('a size over 2^53 in base 256', async () => {
    const block = header('README.txt', 0, (bytes) => {
      bytes[124] = 0x80;
      bytes.fill(0xff, 125, 136);
    });
    expect(await readBoth(replace(at, block), made)).toBe('bundle-not-canonical');
  });

  it('a small size in base 256', async () => {
    const block = header('README.txt', 0, (bytes) => {
      bytes.fill(0, 124, 136);
      bytes[124] = 0x80;
      bytes[135] = readme.size;
    });
    expect(await readBoth(replace(at, block), made)).toBe('bundle-not-canonical');
  });

  it('a checksum with other spaces', async () => {
    const block = Buffer.from(tarHeader('README.txt', readme.size, MTIME));
    const digits = block.toString('latin1', 148, 154);
    for (const text of [`${digits}\0 `, ` ${digits}\0`, `${digits}  `, `0${digits} `]) {
      block.write(text, 148, 'latin1');
      expect(await readBoth(replace(at, block), made)).toBe('bundle-not-canonical');
    }
  });

  it('a wrong checksum', async () => {
    const block = Buffer.from(tarHeader('README.txt', readme.size, MTIME));
    block.write('000000', 148, 'latin1');
    expect(await readBoth(replace(at, block), made)).toBe('bundle-not-canonical');
  });

  const fields: readonly (readonly [string, number, string])[] = [
    ['mode', 100, '000755 '],
    ['set-user-id mode', 100, '004644 '],
    ['owner', 108, '000001 '],
    ['group', 116, '000001 '],
    ['link name', 157, 'x'],
    ['magic of GNU tar', 257, 'ustar  \0'],
    ['owner name', 265, 'root'],
    ['group name', 297, 'root'],
    ['device number', 329, '000001 '],
    ['prefix', 345, 'x'],
    ['byte behind the fields', 511, 'x'],
  ];
  for (const [what, offset, text] of fields) {
    it(`another ${what}`, async () => {
      const change = (block: Buffer) => block.write(text, offset, 'latin1');
      expect(await readBoth(replace(at, header('README.txt', readme.size, change)), made)).toBe(
        'bundle-not-canonical',
      );
      const blob = header(firstBlob.name, firstBlob.size, change);
      expect(await readBoth(replace(firstBlob.headerOffset, blob), made)).toBe('bundle-not-canonical');
    });
  }

  it('another time in one header', async () => {
    expect(await readBoth(replace(at, tarHeader('README.txt', readme.size, MTIME + 1)), made)).toBe(
      'bundle-not-canonical',
    );
    const blob = tarHeader(firstBlob.name, firstBlob.size, MTIME + 1);
    expect(await readBoth(replace(firstBlob.headerOffset, blob), made)).toBe('bundle-not-canonical');
  });

  it('another time in all headers', async () => {
    const copy = Buffer.from(made.bytes);
    for (const { name, size, headerOffset } of made.plan.layout.entries)
      copy.set(tarHeader(name, size, MTIME + 1), headerOffset);
    expect(await readBoth(copy, made)).toBe('bundle-not-canonical');
  });

  it('padding that is not zero', async () => {
    expect(await readBoth(replace(readme.contentOffset + readme.size, Buffer.from('x')), made)).toBe(
      'bundle-not-canonical',
    );
    const last = made.plan.blobs.find(({ paddingSize }) => paddingSize > 0);
    const padding = (last?.contentOffset ?? 0) + (last?.size ?? 0);
    expect(await readBoth(replace(padding, Buffer.from('x')), made)).toBe('bundle-not-canonical');
  });
});

describe('a billion entries', () => {
  async function* endless(name: (i: number) => string): AsyncGenerator<Uint8Array> {
    yield made.bytes.subarray(0, readme.contentOffset + 512);
    for (let i = 1; i < 1_000_000_000; i += 1) yield tarHeader(name(i), 0, MTIME);
  }

  it('of roots are cut off by number', async () => {
    const work = () =>
      openBundleStream(
        endless((i) => `metadata/${i}.root.json`),
        readOptions({ roots: 50 }),
      );
    expect(await codeOf(work)).toBe('bundle-too-large');
  });

  it('of certificates are cut off by number', async () => {
    const name = (i: number) => `metadata/certificates/${String(i).padStart(40, '0')}.pgp`;
    expect(await codeOf(() => openBundleStream(endless(name), readOptions({ roots: 50 })))).toBe(
      'bundle-too-large',
    );
  });

  it('of roles are cut off by number', async () => {
    const bundles = made.plan.layout.byName.get('metadata/7.bundles.json')?.headerOffset ?? 0;
    async function* roles(): AsyncGenerator<Uint8Array> {
      yield made.bytes.subarray(0, bundles);
      for (let i = 1; i < 1_000_000_000; i += 1) yield tarHeader(`metadata/1.role${i}.json`, 0, MTIME);
    }
    expect(await codeOf(() => openBundleStream(roles(), readOptions({ delegatedRoles: 50 })))).toBe(
      'bundle-too-large',
    );
  });

  it('are cut off by the size of the head', async () => {
    const work = () =>
      openBundleStream(
        endless((i) => `metadata/${i}.root.json`),
        readOptions({ head: 20_000 }),
      );
    expect(await codeOf(work)).toBe('bundle-too-large');
  });

  it('that the manifest lists are refused', async () => {
    const head = makeBundle().head.find(({ name }) => name === 'sealift.json');
    const limits = { ...DEFAULT_LIMITS, entries: 10 };
    expect(await codeOf(() => parseBundleManifest(head?.bytes ?? new Uint8Array(), limits))).toBe(
      'bundle-too-large',
    );
  });
});

describe('the end', () => {
  it('data behind it', async () => {
    expect(await readBoth(Buffer.concat([made.bytes, Buffer.from('x')]), made)).toBe('bundle-trailing-data');
  });

  it('a record of zeros behind it, as other writers of tar do', async () => {
    expect(await readBoth(Buffer.concat([made.bytes, Buffer.alloc(512)]), made)).toBe('bundle-trailing-data');
  });

  it('a second archive behind it', async () => {
    expect(await readBoth(Buffer.concat([made.bytes, made.bytes]), made)).toBe('bundle-trailing-data');
  });

  it('without end blocks', async () => {
    expect(await readBoth(made.bytes.subarray(0, made.plan.layout.endOffset), made)).toBe('bundle-truncated');
  });

  it('with one end block', async () => {
    expect(await readBoth(made.bytes.subarray(0, made.bytes.length - 512), made)).toBe('bundle-truncated');
  });

  it('anywhere too early', async () => {
    for (let length = 0; length < made.bytes.length; length += 331) {
      expect(await readBoth(made.bytes.subarray(0, length), made)).toBe('bundle-truncated');
    }
  });

  it('in place of the blobs', async () => {
    const cut = Buffer.concat([made.bytes.subarray(0, firstBlob.headerOffset), END_BLOCKS]);
    expect(await readFile(cut, made)).toBe('bundle-truncated');
    expect(await readStream(cut, made)).toBe('bundle-truncated');
  });
});

describe('the head against the manifest', () => {
  const changed = (change: (manifest: typeof made.manifest) => typeof made.manifest) =>
    readBoth(made.bytes, { ...made, manifest: change(made.manifest) });
  const entry = (name: string, change: object) =>
    changed((manifest) => ({
      ...manifest,
      entries: manifest.entries.map((one) => (one.name === name ? { ...one, ...change } : one)),
    }));

  it('another hash of a file', async () => {
    expect(await entry('README.txt', { sha256: hex(Buffer.from('other')) })).toBe('digest-mismatch');
  });

  it('another size of a file', async () => {
    expect(await entry('README.txt', { size: 11 })).toBe('size-mismatch');
  });

  it('another entry', async () => {
    expect(await entry('metadata/1.targets.json', { name: 'metadata/2.targets.json' })).toBe(
      'bundle-not-canonical',
    );
  });

  it('an entry more', async () => {
    const more = (manifest: typeof made.manifest) => ({
      ...manifest,
      entries: [...manifest.entries, { name: 'manifest.json', size: 0, sha256: hex(Buffer.alloc(0)) }],
    });
    expect(await changed(more)).not.toBe('accepted');
  });

  it('another image than index.json has', async () => {
    const other = (manifest: typeof made.manifest) => ({
      ...manifest,
      images: manifest.images.map((image) => ({ ...image, name: 'docker.io/library/alpine:3.21' })),
    });
    expect(await changed(other)).toBe('derived-file-mismatch');
  });

  it('another hash in SHA256SUMS', async () => {
    const sums = made.plan.layout.byName.get('SHA256SUMS');
    const bytes = Buffer.from(made.bytes);
    const at = sums?.contentOffset ?? 0;
    bytes.set(Buffer.from(bytes[at] === 0x30 ? '1' : '0'), at);
    expect(await readBoth(bytes, made)).toBe('derived-file-mismatch');
  });

  it('another hash in SHA512SUMS', async () => {
    const some = makeBundle({
      blobs: [...SOME_BLOBS, { bytes: Buffer.from('x'), kind: 'layer', algorithm: 'sha512' }],
    });
    const at = some.plan.layout.byName.get('SHA512SUMS')?.contentOffset ?? 0;
    const bytes = Buffer.from(some.bytes);
    bytes.set(Buffer.from(bytes[at] === 0x30 ? '1' : '0'), at);
    expect(await readBoth(bytes, some)).toBe('derived-file-mismatch');
  });

  it('another manifest.json than the image has', async () => {
    const some = makeBundle({ dockerManifest: true });
    const bundle = await openBundleFile(toFile(some.bytes), readOptions());
    const image = { name: 'docker.io/library/alpine:3.20', config: `sha256:${'c'.repeat(64)}`, layers: [] };
    checkDockerManifest(bundle.head, image);
    const other = () => checkDockerManifest(bundle.head, { ...image, layers: [`sha256:${'d'.repeat(64)}`] });
    expect(await codeOf(other)).toBe('derived-file-mismatch');
    await bundle.close();
  });

  it('a blob over the limit', async () => {
    expect(await readBoth(made.bytes, made, { blob: 1000 })).toBe('bundle-too-large');
  });

  it('a large blob with another content, read or skipped', async () => {
    const large = makeBundle({
      blobs: [
        { bytes: Buffer.alloc(200_000, 'x'), kind: 'layer' },
        { bytes: Buffer.alloc(200_000, 'y'), kind: 'layer', algorithm: 'sha512' },
      ],
    });
    expect(await readBoth(large.bytes, large)).toBe('accepted');
    for (const { contentOffset, size } of large.plan.blobs) {
      const copy = Buffer.from(large.bytes);
      copy[contentOffset + size - 1] = 0;
      expect(await readBoth(copy, large)).toBe('digest-mismatch');
    }
  });

  it('a blob with another content', async () => {
    expect(await readBoth(replace(firstBlob.contentOffset, Buffer.from('x')), made)).toBe('digest-mismatch');
  });
});

describe('every byte', () => {
  const small = makeBundle({
    blobs: [
      { bytes: Buffer.from('{}'), kind: 'manifest' },
      { bytes: Buffer.from('layer'), kind: 'layer' },
      { bytes: Buffer.alloc(512, 1), kind: 'layer', algorithm: 'sha512' },
    ],
    roots: 1,
    certificates: 0,
  });
  /** Far most bytes of the manifest are like each other to everything here: its hash decides. */
  const alike = small.plan.layout.byName.get('sealift.json');
  const strideAt = (at: number) =>
    at >= (alike?.contentOffset ?? 0) && at < (alike?.contentOffset ?? 0) + (alike?.size ?? 0) - 20 ? 19 : 1;
  const signature = small.plan.layout.byName.get('SHA256SUMS.asc');

  const from = signature?.contentOffset ?? 0;
  const inSignature = (at: number) => at >= from && at < from + (signature?.size ?? 0);
  const options = readOptions();

  it('counts in one pass: a changed one is refused, save where the signature over SHA256SUMS lies', async () => {
    // SHA256SUMS names the hash of every other head file, so even bytes that only the trust chain binds are seen.
    const copy = Buffer.from(small.bytes);
    const accepted: number[] = [];
    for (let at = 0; at < copy.length; at += strideAt(at)) {
      const byte = small.bytes[at] ?? 0;
      copy[at] = byte ^ (1 << (at % 8));
      const code = await codeOf(async () => {
        const bundle = await openBundleStream(pieces(copy, 65_536), options);
        bundle.accept(small.manifest);
        for await (const blob of bundle.blobs()) await blob.bytes(1000);
      });
      if (code === 'accepted') accepted.push(at);
      copy[at] = byte;
    }
    expect(accepted).toEqual(Array.from({ length: signature?.size ?? 0 }, (_, i) => from + i));
  });

  it('counts at random access: one behind the head, or any other, however it is changed', async () => {
    const accepted: string[] = [];
    const file = toFile(small.bytes);
    const fd = openSync(file, 'r+');
    const head = small.plan.blobs[0]?.headerOffset ?? 0;
    for (let at = 0; at < small.bytes.length; at += at < head ? 127 : 1) {
      if (inSignature(at)) continue;
      const byte = small.bytes[at] ?? 0;
      const values = at < head ? [0, 0x20, 0x30, 0xff] : [byte ^ (1 << (at % 8))];
      for (const value of values) {
        if (value === byte) continue;
        writeSync(fd, Buffer.of(value), 0, 1, at);
        const code = await codeOf(async () => {
          const bundle = await openBundleFile(file, options);
          try {
            bundle.accept(small.manifest);
            await bundle.verifyFrame();
            for (const name of small.blobs.keys()) await bundle.readBlob(name, 1000);
          } finally {
            await bundle.close();
          }
        });
        if (code === 'accepted') accepted.push(`${at}: ${byte} as ${value}`);
      }
      writeSync(fd, Buffer.of(byte), 0, 1, at);
    }
    closeSync(fd);
    expect(accepted).toEqual([]);
  });
});

describe('blocks', () => {
  it('left out, doubled, exchanged or made of anything are refused with a code', async () => {
    const total = made.bytes.length / 512;
    const block = (i: number) => made.bytes.subarray(i * 512, (i + 1) * 512);
    const index = fc.nat({ max: total - 1 });
    const filler = fc.uint8Array({ minLength: 512, maxLength: 512 });
    const operation = fc.constantFrom('omit', 'double', 'exchange', 'fill');
    await fc.assert(
      fc.asyncProperty(operation, index, index, filler, async (what, a, b, noise) => {
        const blocks: Uint8Array[] = Array.from({ length: total }, (_, i) => block(i));
        if (what === 'omit') blocks.splice(a, 1 + (b % 4));
        if (what === 'double') blocks.splice(b, 0, block(a));
        if (what === 'exchange') [blocks[a], blocks[b]] = [block(b), block(a)];
        if (what === 'fill') blocks[a] = noise;
        const bytes = Buffer.concat(blocks);
        const same = bytes.equals(made.bytes);
        // Only the signature over SHA256SUMS is bound by nothing here.
        const place = made.plan.layout.byName.get('SHA256SUMS.asc');
        fc.pre(a * 512 !== place?.contentOffset && b * 512 !== place?.contentOffset);
        const [file, stream] = [await readFile(bytes, made), await readStream(bytes, made)];
        expect([file === 'accepted', stream === 'accepted']).toEqual([same, same]);
      }),
      { numRuns: 300 },
    );
  });
});

describe('the golden bundle of format 1', () => {
  it('is read', async () => {
    const golden = readFileSync(new URL('../../golden/bundle-v1.tar', import.meta.url));
    const bundle = await openBundleStream(pieces(golden), readOptions());
    const manifest = parseBundleManifest(bundle.head.manifest, DEFAULT_LIMITS);
    bundle.accept(manifest);
    let blobs = 0;
    for await (const _ of bundle.blobs()) blobs += 1;
    expect(blobs).toBe(6);
    expect(hex(golden)).toBe('ef285ce7bef8cd459b8b5bfba37187a3ad6e2225eef708b120c45af7a663f86a');
    await bundle.close();
  });
});
