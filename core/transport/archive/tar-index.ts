/**
 * Where the members of a foreign tar archive lie: ustar, pax and GNU long names. Only looked at, never unpacked:
 * a member's name is compared with names sealift asks for and becomes no path.
 */
import type { FileHandle } from 'node:fs/promises';
import { Header } from 'tar/header';
import type { Context } from '../../context.ts';
import { inert, SealiftError } from '../../errors.ts';
import type { OpenedBlob } from '../../oci/layout.ts';
import type { OpenArchive } from './spool.ts';

const BLOCK = 512;
/** Headers are read in pieces of this size, so that an archive of many small members needs few reads. */
const WINDOW = 64 * 1024;
/** A pax header or a long name. */
const MOST_EXTENDED = 1024 * 1024;
const MOST_LINKS = 8;

export interface Member {
  readonly name: string;
  readonly offset: number;
  readonly size: number;
  /** Name of the member this one stands for, where it is a link. */
  readonly link?: string;
}

export interface TarIndex {
  readonly archive: OpenArchive;
  /** Names of regular files and links, in archive order. */
  names(): Iterable<string>;
  /**
   * The file called `name`, links followed inside the archive; undefined where there is none.
   * @throws SealiftError `archive-invalid` where the name is there twice with other content, or links lead nowhere
   */
  find(name: string): Member | undefined;
  /** Opens a member; closing it leaves the archive open. */
  open(name: string): OpenedBlob | undefined;
  /** A whole member. @throws SealiftError `archive-invalid` above `max` bytes */
  read(name: string, max: number): Promise<Buffer | undefined>;
}

/**
 * Reads all headers of an archive.
 * @throws SealiftError `archive-invalid`
 */
export async function indexTar(archive: OpenArchive, context: Context): Promise<TarIndex> {
  const members = new Map<string, Member[]>();
  for await (const member of readHeaders(archive, context)) {
    const known = members.get(member.name);
    if (known) known.push(member);
    else members.set(member.name, [member]);
  }
  const refuse = (message: string) => invalid(archive, message);
  const find = (name: string): Member | undefined => {
    let wanted = name;
    for (let links = 0; links <= MOST_LINKS; links += 1) {
      const [first, ...others] = members.get(wanted) ?? [];
      if (!first) {
        if (links === 0) return undefined;
        throw refuse(`${inert(name)} is a link to ${inert(wanted)}, which is not in the archive`);
      }
      // Which of them counts depends on the program, so none does; content named by its digest is checked anyway.
      if (others.length > 0 && !/^blobs\/sha(?:256|512)\//.test(wanted))
        throw refuse(`${inert(wanted)} is in the archive ${others.length + 1} times`);
      if (first.link === undefined) return first;
      wanted = first.link;
    }
    throw refuse(`${inert(name)} is a link to a link to a link`);
  };
  const opened = (member: Member): OpenedBlob => ({
    handle: archive.handle,
    offset: member.offset,
    size: member.size,
    close: async () => {},
  });
  return {
    archive,
    names: () => members.keys(),
    find,
    open(name) {
      const member = find(name);
      return member && opened(member);
    },
    async read(name, max) {
      const member = find(name);
      if (!member) return undefined;
      if (member.size > max)
        throw refuse(`${inert(name)} is too large: got ${member.size} bytes, want at most ${max}`);
      return readExactly(archive, member.offset, member.size);
    },
  };
}

function invalid(archive: OpenArchive, message: string, hint?: string): SealiftError {
  return new SealiftError('archive-invalid', message, { subject: inert(archive.place), hint });
}

async function readExactly(archive: OpenArchive, offset: number, size: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(size);
  for (let done = 0; done < size; ) {
    const { bytesRead } = await archive.handle.read(bytes, done, size - done, offset + done);
    if (bytesRead === 0) throw invalid(archive, 'the archive ends too early');
    done += bytesRead;
  }
  return bytes;
}

/** What an extended header says about the next member. */
interface Extended {
  path?: string;
  linkpath?: string;
  size?: number;
}

async function* readHeaders(archive: OpenArchive, context: Context): AsyncGenerator<Member, void, undefined> {
  const { size: end } = archive;
  const window = createWindow(archive.handle, end);
  let extended: Extended = {};
  let count = 0;
  for (let offset = 0; ; ) {
    context.signal.throwIfAborted();
    const block = await window(offset);
    if (block === undefined) {
      if (count > 0 && offset >= end) return; // Some programs leave the end blocks out.
      throw invalid(archive, count === 0 ? 'not a tar archive' : 'the archive ends too early');
    }
    if (block.every((byte) => byte === 0)) {
      if (count === 0) throw invalid(archive, 'the archive is empty');
      return;
    }
    const header = decode(block);
    if (!header) {
      throw invalid(
        archive,
        count === 0 ? 'not a tar archive' : `no tar header at byte ${offset}`,
        'name the file that docker save, podman save or skopeo wrote',
      );
    }
    count += 1;
    if (count > context.limits.entries)
      throw invalid(archive, `the archive has too many members: want at most ${context.limits.entries}`);
    const { type } = header;
    const isExtension = type === 'x' || type === 'g' || type === 'L' || type === 'K';
    const size = isExtension ? header.size : (extended.size ?? header.size);
    // Links and directories have no content, whatever their header says.
    const stored = isExtension || isFile(type) ? size : 0;
    const content = offset + BLOCK;
    if (!Number.isSafeInteger(stored) || stored < 0 || content + stored > end)
      throw invalid(archive, `${inert(header.path, 120)} is cut short: the archive ends too early`);
    offset = content + Math.ceil(stored / BLOCK) * BLOCK;
    if (isExtension) {
      if (stored > MOST_EXTENDED) throw invalid(archive, 'an extended header is too large');
      // Global headers speak of the archive as a whole and never of names in what writes images.
      if (type === 'g') continue;
      const bytes = await readExactly(archive, content, stored);
      extended = { ...extended, ...(type === 'x' ? parsePax(bytes, archive) : longName(type, bytes)) };
      continue;
    }
    const name = normalise(extended.path ?? header.path);
    const target = extended.linkpath ?? header.linkpath;
    extended = {};
    if (isFile(type)) yield { name, offset: content, size };
    else if (type === '1') yield { name, offset: 0, size: 0, link: normalise(target) };
    else if (type === '2') yield { name, offset: 0, size: 0, link: resolveLink(name, target) };
    else if (type === 'S') throw invalid(archive, `${inert(name)} is a sparse file`);
  }
}

function isFile(type: string): boolean {
  return type === '0' || type === '\0' || type === '' || type === '7';
}

interface Decoded {
  readonly path: string;
  readonly linkpath: string;
  readonly size: number;
  readonly type: string;
}

function decode(block: Buffer): Decoded | undefined {
  let header: Header;
  try {
    header = new Header(block);
  } catch {
    return undefined;
  }
  if (!header.cksumValid) return undefined;
  return {
    path: header.path ?? '',
    linkpath: header.linkpath ?? '',
    size: header.size ?? 0,
    type: String.fromCharCode(block[156] ?? 0),
  };
}

function longName(type: string, bytes: Buffer): Extended {
  const text = bytes.toString('utf8').replace(/\0.*$/s, '');
  return type === 'L' ? { path: text } : { linkpath: text };
}

/** `LEN KEY=VALUE\n` (POSIX.1-2001, pax interchange format). */
function parsePax(bytes: Buffer, archive: OpenArchive): Extended {
  const found: Extended = {};
  for (let offset = 0; offset < bytes.length; ) {
    const space = bytes.indexOf(0x20, offset);
    const digits = space < 0 ? '' : bytes.toString('latin1', offset, space);
    const length = /^[1-9]\d{0,8}$/.test(digits) ? Number(digits) : 0;
    const record = bytes.toString('utf8', space + 1, offset + length);
    const equals = record.indexOf('=');
    if (length === 0 || offset + length > bytes.length || equals < 0 || !record.endsWith('\n'))
      throw invalid(archive, 'a pax header is malformed');
    const [key, value] = [record.slice(0, equals), record.slice(equals + 1, -1)];
    if (key === 'path') found.path = value;
    else if (key === 'linkpath') found.linkpath = value;
    else if (key === 'size') {
      if (!/^\d{1,15}$/.test(value)) throw invalid(archive, 'a pax header has a malformed size');
      found.size = Number(value);
    } else if (key.startsWith('GNU.sparse.')) throw invalid(archive, 'the archive holds sparse files');
    offset += length;
  }
  return found;
}

/** `./a//b/` as `a/b`; what climbs out of the archive keeps its `..` and so matches nothing sealift asks for. */
function normalise(name: string): string {
  return name
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .join('/');
}

function resolveLink(name: string, target: string): string {
  const parts = target.startsWith('/') ? [] : name.split('/').slice(0, -1);
  for (const part of target.split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..' && parts.length > 0 && parts.at(-1) !== '..') parts.pop();
    else parts.push(part);
  }
  return parts.join('/');
}

/** Blocks of 512 bytes by offset, through a window that moves forward. */
function createWindow(handle: FileHandle, end: number): (offset: number) => Promise<Buffer | undefined> {
  let held: Buffer = Buffer.alloc(0);
  let from = 0;
  return async (offset) => {
    if (offset + BLOCK > end) return undefined;
    if (offset < from || offset + BLOCK > from + held.length) {
      const buffer = Buffer.allocUnsafe(WINDOW);
      let got = 0;
      while (got < BLOCK) {
        const { bytesRead } = await handle.read(buffer, got, WINDOW - got, offset + got);
        if (bytesRead === 0) return undefined;
        got += bytesRead;
      }
      held = buffer.subarray(0, got);
      from = offset;
    }
    return held.subarray(offset - from, offset - from + BLOCK);
  };
}
