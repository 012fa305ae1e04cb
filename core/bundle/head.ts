/**
 * The head of a bundle: all files before the blobs. It is read before anything is trusted, so reading is
 * bounded, and every header is decoded, encoded again and compared.
 */
import { createHash } from 'node:crypto';
import { Header } from 'tar/header';
import { inert, SealiftError } from '../errors.ts';
import { DEFAULT_LIMITS, type Limits } from '../limits.ts';
import { dockerManifestJson, indexJson, ociLayoutFile, sha256Sums, sha512Sums } from './computed.ts';
import type { Input } from './input.ts';
import { type BundleLayout, layoutEntries } from './layout.ts';
import {
  type BundleManifest,
  createdSeconds,
  ENTRY_ORDER,
  type EntryName,
  type EntryType,
  NEEDED_ENTRIES,
  parseEntryName,
  REPEATED_ENTRIES,
} from './manifest.ts';
import { BLOCK_SIZE, isZero, MAX_MTIME, paddingOf, tarHeader } from './tar.ts';

export interface HeadEntry {
  readonly name: string;
  readonly size: number;
  readonly headerOffset: number;
  readonly contentOffset: number;
  readonly bytes: Uint8Array;
}

/** All files before the blobs with their raw bytes. Canonical as tar, in order, within the caps; otherwise unchecked. */
export interface BundleHead {
  readonly files: ReadonlyMap<string, HeadEntry>;
  /** Time of all headers, seconds since 1970. */
  readonly mtime: number;
  /** Bytes of the head. */
  readonly size: number;
  readonly ociLayout: Uint8Array;
  readonly readme: Uint8Array;
  readonly certificates: readonly { readonly fingerprint: string; readonly bytes: Uint8Array }[];
  /** Ascending from version 1. */
  readonly roots: readonly { readonly version: number; readonly bytes: Uint8Array }[];
  readonly timestamp: Uint8Array;
  readonly snapshot: { readonly version: number; readonly bytes: Uint8Array };
  readonly targets: { readonly version: number; readonly bytes: Uint8Array };
  /** In archive order. */
  readonly delegated: readonly {
    readonly role: string;
    readonly version: number;
    readonly bytes: Uint8Array;
  }[];
  /** sealift.json */
  readonly manifest: Uint8Array;
  readonly sha256Sums: Uint8Array;
  readonly sha512Sums?: Uint8Array | undefined;
  readonly sha256SumsSignature?: Uint8Array | undefined;
  readonly index: Uint8Array;
  readonly dockerManifest?: Uint8Array | undefined;
}

const OCI_LAYOUT_CAP = 4096;

function refuse(message: string, subject?: string, more: { got?: string; want?: string } = {}): SealiftError {
  return new SealiftError('bundle-not-canonical', message, {
    subject: subject === undefined ? undefined : inert(subject, 200),
    ...more,
  });
}

const MAGICS: readonly (readonly [string, readonly number[]])[] = [
  ['gzip', [0x1f, 0x8b]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
  ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ['bzip2', [0x42, 0x5a, 0x68]],
  ['lzip', [0x4c, 0x5a, 0x49, 0x50]],
  ['lz4', [0x04, 0x22, 0x4d, 0x18]],
  ['zip', [0x50, 0x4b, 0x03, 0x04]],
  ['an armored OpenPGP message', [...Buffer.from('-----BEGIN PGP', 'latin1')]],
];

/** First packets of an OpenPGP message: session keys, signatures, compressed, encrypted or literal data, marker. */
const OPENPGP_TAGS: ReadonlySet<number> = new Set([1, 2, 3, 4, 8, 9, 10, 11, 18, 20]);

/** What the file is packed in, by its first bytes; undefined where it is nothing known. */
function packedAs(block: Uint8Array): string | undefined {
  for (const [name, magic] of MAGICS) {
    if (magic.every((byte, i) => block[i] === byte)) return name;
  }
  // zstd's skippable frames: 0x184D2A50 to 0x184D2A5F, little-endian.
  const [b0 = 0, b1, b2, b3] = block;
  if ((b0 & 0xf0) === 0x50 && b1 === 0x2a && b2 === 0x4d && b3 === 0x18) return 'zstd';
  if ((b0 & 0x80) === 0) return undefined;
  const tag = (b0 & 0x40) === 0 ? (b0 >> 2) & 0x0f : b0 & 0x3f;
  return OPENPGP_TAGS.has(tag) ? 'an OpenPGP message' : undefined;
}

/** What other types of entries are called, by their type byte. */
const OTHER_TYPES: Readonly<Record<string, string>> = {
  '\u0000': 'an entry of the old type',
  '1': 'a hard link',
  '2': 'a symbolic link',
  '3': 'a character device',
  '4': 'a block device',
  '5': 'a directory',
  '6': 'a FIFO',
  '7': 'a contiguous file',
  g: 'a global pax header',
  S: 'a sparse file',
  L: 'a GNU long name',
  K: 'a GNU long link name',
  D: 'a GNU directory dump',
  M: 'a continued volume',
  V: 'a volume label',
};

interface ReadHeader {
  readonly name: string;
  readonly size: number;
  readonly mtime: number;
  readonly raw: Buffer;
}

function decode(block: Buffer, where: string): Header {
  try {
    const header = new Header(block);
    if (header.cksumValid) return header;
  } catch {
    // A number out of range; the same refusal.
  }
  throw refuse(`no valid tar header ${where}`);
}

/** Name, size and time of a header as `tar` understands them. */
function fieldsOf(block: Buffer, where: string): { name: string; size: number; mtime: number; type: string } {
  const header = decode(block, where);
  const type = String.fromCharCode(block[156] ?? 0);
  const name = header.path ?? '';
  if (type !== '0' && type !== 'x') {
    const what = OTHER_TYPES[type] ?? `an entry of type ${inert(JSON.stringify(type))}`;
    throw refuse(`${inert(name, 120)} is ${what}, want only ordinary files`, name, {
      got: what,
      want: 'a file',
    });
  }
  const { size } = header;
  const mtime = header.mtime === undefined ? Number.NaN : header.mtime.getTime() / 1000;
  if (size === undefined || !Number.isSafeInteger(size) || size < 0) {
    throw refuse(`${inert(name, 120)} has no valid size in its header`, name);
  }
  if (!Number.isSafeInteger(mtime) || mtime < 0 || mtime > MAX_MTIME) {
    throw refuse(`${inert(name, 120)} has no valid time in its header`, name);
  }
  return { name, size, mtime, type };
}

function pathOfRecord(content: Buffer, size: number, where: string): string {
  const text = content.toString('latin1', 0, size);
  const match = /^([1-9][0-9]{0,3}) path=([\x21-\x7e]{101,450})\n$/.exec(text);
  if (!match || Number(match[1]) !== size) {
    throw refuse(`a pax header ${where} has more or other records than the one path a long name needs`);
  }
  return match[2] ?? '';
}

/** The next header; undefined, and nothing taken, where the end blocks begin. */
async function readHeader(input: Input, where: string): Promise<ReadHeader | undefined> {
  const first = await input.read(BLOCK_SIZE, `a header ${where}`);
  if (isZero(first)) {
    input.unread(first);
    return undefined;
  }
  let raw = first;
  let { name, size, mtime, type } = fieldsOf(first, where);
  if (type === 'x') {
    if (size > BLOCK_SIZE)
      throw refuse(`a pax header ${where} is too large: got ${size} bytes, want at most 512`);
    const content = await input.read(BLOCK_SIZE, `a pax header ${where}`);
    const path = pathOfRecord(content, size, where);
    const main = await input.read(BLOCK_SIZE, `a header ${where}`);
    ({ name, size, mtime, type } = fieldsOf(main, where));
    if (type !== '0') throw refuse(`two pax headers in a row ${where}`);
    name = path;
    raw = Buffer.concat([first, content, main]);
  }
  return { name, size, mtime, raw };
}

function checkName(name: string): EntryName {
  const parsed = parseEntryName(name);
  if (parsed) return parsed;
  const shown = inert(name, 120);
  if (name.startsWith('/')) throw refuse(`an entry has an absolute name: got ${shown}`, name);
  if (name.split('/').includes('..')) throw refuse(`an entry leads out of the archive: got ${shown}`, name);
  throw refuse(`an entry has a name the format does not know: got ${shown}`, name);
}

function capOf(type: EntryType, limits: Limits): number {
  switch (type) {
    case 'oci-layout':
      return OCI_LAYOUT_CAP;
    case 'readme':
      return limits.readme;
    case 'certificate':
    case 'sha256sums-signature':
      return limits.certificate;
    case 'root':
    case 'timestamp':
    case 'snapshot':
    case 'targets':
    case 'delegated':
      return limits.metadataFile;
    default:
      return limits.bundleFile;
  }
}

function tooLarge(name: string, what: string, got: number, want: number): SealiftError {
  return new SealiftError('bundle-too-large', `${what}: got ${got}, want at most ${want}`, {
    subject: inert(name, 200),
    got,
    want,
  });
}

/** Keeps track of what may follow, over the head. */
function createOrder(limits: Limits): { next(name: string, parsed: EntryName): void; finish(): void } {
  const counts = new Map<EntryType, number>();
  const names = new Set<string>();
  const roles = new Set<string>();
  let last: { name: string; parsed: EntryName } | undefined;
  return {
    next(name, parsed) {
      const { type } = parsed;
      const count = (counts.get(type) ?? 0) + 1;
      counts.set(type, count);
      if (names.has(name)) throw refuse(`${name} is there twice`, name);
      names.add(name);
      if (!last && type !== 'oci-layout') throw refuse(`the first entry is ${name}, want oci-layout`, name);
      const rise = last ? ENTRY_ORDER[type] - ENTRY_ORDER[last.parsed.type] : 1;
      if (last && (rise < 0 || (rise === 0 && !REPEATED_ENTRIES.has(type)))) {
        throw refuse(`${name} comes after ${last.name}, want another order`, name);
      }
      if (type === 'certificate' && last?.parsed.type === 'certificate' && !(last.name < name)) {
        throw refuse(`certificates are not in ascending order: ${name} comes after ${last.name}`, name);
      }
      if (type === 'root' && parsed.version !== count) {
        throw refuse(`roots do not follow one another: got ${name}, want metadata/${count}.root.json`, name);
      }
      if (type === 'delegated') {
        if (roles.has(parsed.role)) throw refuse(`the role ${inert(parsed.role)} is there twice`, name);
        roles.add(parsed.role);
        if (count > limits.delegatedRoles)
          throw tooLarge(name, 'too many delegated roles', count, limits.delegatedRoles);
      }
      if ((type === 'root' || type === 'certificate') && count > limits.roots) {
        throw tooLarge(name, `too many ${type}s`, count, limits.roots);
      }
      last = { name, parsed };
    },
    finish() {
      const missing = NEEDED_ENTRIES.find((type) => !counts.has(type));
      if (missing !== undefined) throw refuse(`the entry ${missing} is not there`, missing);
    },
  };
}

/** Files of the head sorted by what they are; the order has been checked. */
function collectHead(files: ReadonlyMap<string, HeadEntry>, mtime: number, size: number): BundleHead {
  const certificates: { fingerprint: string; bytes: Uint8Array }[] = [];
  const roots: { version: number; bytes: Uint8Array }[] = [];
  const delegated: { role: string; version: number; bytes: Uint8Array }[] = [];
  const single = new Map<EntryType, { version: number; bytes: Uint8Array }>();
  for (const { name, bytes } of files.values()) {
    const parsed = checkName(name);
    if (parsed.type === 'certificate') certificates.push({ fingerprint: parsed.fingerprint, bytes });
    else if (parsed.type === 'root') roots.push({ version: parsed.version, bytes });
    else if (parsed.type === 'delegated')
      delegated.push({ role: parsed.role, version: parsed.version, bytes });
    else single.set(parsed.type, { version: 'version' in parsed ? parsed.version : 0, bytes });
  }
  const need = (type: EntryType) => {
    const file = single.get(type);
    if (!file) throw refuse(`the entry ${type} is not there`, type);
    return file;
  };
  return {
    files,
    mtime,
    size,
    ociLayout: need('oci-layout').bytes,
    readme: need('readme').bytes,
    certificates,
    roots,
    timestamp: need('timestamp').bytes,
    snapshot: need('snapshot'),
    targets: need('targets'),
    delegated,
    manifest: need('manifest').bytes,
    sha256Sums: need('sha256sums').bytes,
    sha512Sums: single.get('sha512sums')?.bytes,
    sha256SumsSignature: single.get('sha256sums-signature')?.bytes,
    index: need('index').bytes,
    dockerManifest: single.get('docker-manifest')?.bytes,
  };
}

/**
 * Reads the head and leaves `input` at the first blob's header, or at the end blocks.
 * @throws SealiftError `bundle-compressed`, `bundle-not-canonical`, `bundle-truncated`, `bundle-too-large`
 */
export async function readHead(input: Input, limits: Limits): Promise<BundleHead> {
  const start = await input.readUpTo(BLOCK_SIZE);
  const packed = packedAs(start);
  if (packed !== undefined) {
    throw new SealiftError(
      'bundle-compressed',
      `the bundle is packed: got ${packed}, want a plain tar archive`,
      {
        got: packed,
        want: 'tar',
        hint: packed.endsWith('OpenPGP message')
          ? 'where it is encrypted, trust pin, verify and import take --decrypt-key KEY; for all others decrypt into a file first: gpg --decrypt FILE > images.tar'
          : 'unpack it first',
      },
    );
  }
  if (start.length === BLOCK_SIZE && isZero(start)) throw refuse('the archive is empty');
  input.unread(start);

  const files = new Map<string, HeadEntry>();
  const order = createOrder(limits);
  let mtime: number | undefined;
  for (;;) {
    const where = `at byte ${input.position}`;
    const headerOffset = input.position;
    const header = await readHeader(input, where);
    if (!header) break;
    const { name, size, raw } = header;
    const parsed = checkName(name);
    if (parsed.type === 'blob') {
      input.unread(raw);
      break;
    }
    order.next(name, parsed);
    const cap = capOf(parsed.type, limits);
    if (size > cap) throw tooLarge(name, `${name} is too large`, size, cap);
    mtime ??= header.mtime;
    if (header.mtime !== mtime || !raw.equals(tarHeader(name, size, mtime))) {
      throw refuse(`the header of ${name} is not the one the format prescribes`, name);
    }
    const contentOffset = input.position;
    const total = contentOffset + size + paddingOf(size);
    if (total > limits.head)
      throw tooLarge(name, 'the files before the blobs are too large together', total, limits.head);
    const bytes = await input.read(size, name);
    const padding = await input.read(paddingOf(size), `the padding of ${name}`);
    if (!isZero(padding)) throw refuse(`the padding of ${name} is not zero`, name);
    files.set(name, { name, size, headerOffset, contentOffset, bytes });
  }
  order.finish();
  return collectHead(files, mtime ?? 0, input.position);
}

function checkComputed(name: string, got: Uint8Array | undefined, want: Uint8Array | undefined): void {
  if (got === undefined && want === undefined) return;
  if (got !== undefined && want !== undefined && Buffer.compare(got, want) === 0) return;
  const how =
    got === undefined ? 'is missing' : want === undefined ? 'should not be there' : 'is not what is computed';
  throw new SealiftError('derived-file-mismatch', `${name} ${how}`, { subject: name });
}

/**
 * Check 4 over the head: its entries are exactly those the manifest lists, sizes and hashes agree, headers have
 * the time of `created`, computed files are what is computed. The manifest has been bound by the trust chain
 * before; `manifest.json` also needs checkDockerManifest() once the image's manifest is known.
 * @returns where everything in the archive lies
 * @throws SealiftError `bundle-not-canonical`, `digest-mismatch`, `derived-file-mismatch`, `bundle-too-large`
 */
export function checkHead(
  head: BundleHead,
  manifest: BundleManifest,
  limits: Pick<Limits, 'blob'> = DEFAULT_LIMITS,
): BundleLayout {
  const mtime = createdSeconds(manifest.created);
  if (mtime !== head.mtime) {
    throw refuse(`headers have another time than the bundle: got ${head.mtime}, want ${manifest.created}`);
  }
  const found = [...head.files.values()];
  const listed = manifest.entries.filter(({ kind }) => kind === undefined);
  for (let i = 0; i < Math.max(found.length, listed.length); i += 1) {
    const [here, want] = [found[i]?.name ?? 'nothing', listed[i]?.name ?? 'nothing'];
    if (here !== want) {
      throw refuse(`entries are not those of the bundle manifest: got ${here}, want ${want}`, here, {
        got: here,
        want,
      });
    }
  }
  const hashes = new Map<string, string>();
  for (const { name, bytes } of found) hashes.set(name, createHash('sha256').update(bytes).digest('hex'));

  checkComputed('oci-layout', head.ociLayout, ociLayoutFile());
  checkComputed('index.json', head.index, indexJson(manifest.images));
  const sums = manifest.entries.map(({ name, sha256 }) => ({ name, sha256: hashes.get(name) ?? sha256 }));
  checkComputed('SHA256SUMS', head.sha256Sums, sha256Sums(sums));
  checkComputed('SHA512SUMS', head.sha512Sums, sha512Sums(manifest.entries));
  for (const { name, size, sha256 } of listed) {
    const got = hashes.get(name);
    if (sha256 !== undefined && got !== sha256) {
      throw new SealiftError('digest-mismatch', `${name} is not the file the bundle manifest lists`, {
        subject: name,
        got,
        want: sha256,
      });
    }
    const bytes = head.files.get(name)?.size;
    if (size !== undefined && bytes !== size) {
      throw new SealiftError('size-mismatch', `${name} has another size: got ${bytes} bytes, want ${size}`, {
        subject: name,
        got: bytes,
        want: size,
      });
    }
  }
  const large = manifest.entries.find(({ kind, size = 0 }) => kind !== undefined && size > limits.blob);
  if (large) throw tooLarge(large.name, 'a blob is too large', large.size ?? 0, limits.blob);
  return layoutEntries(
    manifest.entries.map(({ name, size }) => ({ name, size: size ?? head.files.get(name)?.size ?? 0 })),
    mtime,
  );
}

/**
 * Checks `manifest.json` against the manifest of the one image it describes; nothing to do where there is none.
 * @throws SealiftError `derived-file-mismatch`
 */
export function checkDockerManifest(
  head: Pick<BundleHead, 'dockerManifest'>,
  image: { readonly name: string; readonly config: string; readonly layers: readonly string[] },
): void {
  if (head.dockerManifest) checkComputed('manifest.json', head.dockerManifest, dockerManifestJson(image));
}
