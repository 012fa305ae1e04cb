/**
 * The tar subset of the bundle format (docs/bundle-format.md, "Tar, canonical"): one valid header for a name, a
 * size and a time. Both writers and the reader take it from here.
 */
import { SealiftError } from '../errors.ts';

export const BLOCK_SIZE = 512;
/** Two zero blocks; behind them a bundle ends. */
export const END_BLOCKS: Uint8Array = new Uint8Array(2 * BLOCK_SIZE);
/** Last second that eleven octal digits hold. */
export const MAX_MTIME = 0o77777777777;

const NAME_LENGTH = 100;
const PREFIX_LENGTH = 155;
const MODE = 0o644;
const MAX_OCTAL_SIZE = 0o77777777777;

/** True where all bytes are zero. */
export function isZero(bytes: Uint8Array): boolean {
  for (let i = 0; i < bytes.length; i += 1) if (bytes[i] !== 0) return false;
  return true;
}

/** Zero bytes behind a content of `size` bytes. */
export function paddingOf(size: number): number {
  return (BLOCK_SIZE - (size % BLOCK_SIZE)) % BLOCK_SIZE;
}

/** A name as the fields `name` and `prefix` hold it; undefined where it needs a pax record. */
function splitName(name: string): { readonly name: string; readonly prefix: string } | undefined {
  let rest = name;
  let prefix = '';
  while (rest.length > NAME_LENGTH) {
    const slash = rest.indexOf('/');
    if (slash === -1) return undefined;
    prefix += prefix === '' ? rest.slice(0, slash) : `/${rest.slice(0, slash)}`;
    rest = rest.slice(slash + 1);
  }
  return prefix.length > PREFIX_LENGTH ? undefined : { name: rest, prefix };
}

function octal(value: number, digits: number): string {
  return `${value.toString(8).padStart(digits, '0')} `;
}

function writeBlock(
  target: Buffer,
  fields: { name: string; prefix: string; size: number; mtime: number; type: string },
): void {
  target.write(fields.name, 0, 'latin1');
  target.write(octal(MODE, 6), 100, 'latin1');
  target.write(octal(0, 6), 108, 'latin1');
  target.write(octal(0, 6), 116, 'latin1');
  if (fields.size > MAX_OCTAL_SIZE) {
    target[124] = 0x80;
    target.writeBigUInt64BE(BigInt(fields.size), 128);
  } else {
    target.write(octal(fields.size, 11), 124, 'latin1');
  }
  target.write(octal(fields.mtime, 11), 136, 'latin1');
  target.fill(0x20, 148, 156);
  target.write(fields.type, 156, 'latin1');
  target.write('ustar\u000000', 257, 'latin1');
  target.write(octal(0, 6), 329, 'latin1');
  target.write(octal(0, 6), 337, 'latin1');
  target.write(fields.prefix, 345, 'latin1');
  let sum = 0;
  for (let i = 0; i < BLOCK_SIZE; i += 1) sum += target[i] ?? 0;
  target.write(octal(sum, 6), 148, 'latin1');
  target[155] = 0;
}

/** The record `LEN path=NAME\n`, where LEN counts itself. */
function paxRecord(name: string): string {
  const rest = ` path=${name}\n`;
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length += 1;
  return `${length}${rest}`;
}

/** Bytes of the header of `name`: 512, or 1536 where a pax record goes before it. */
export function headerSizeOf(name: string): number {
  return splitName(name) === undefined ? 3 * BLOCK_SIZE : BLOCK_SIZE;
}

/**
 * The header of an entry: 512 bytes, or 1536 with a pax extended header.
 * @param name ASCII, at most 450 characters
 * @param size bytes of the content, a safe integer
 * @param mtimeSeconds seconds since 1970, at most MAX_MTIME
 * @throws SealiftError `internal` for arguments out of these ranges
 */
export function tarHeader(name: string, size: number, mtimeSeconds: number): Buffer {
  if (!/^[\x21-\x7e]{1,450}$/.test(name)) {
    throw new SealiftError('internal', `no name for an archive entry: got ${JSON.stringify(name)}`);
  }
  if (!Number.isSafeInteger(size) || size < 0) {
    throw new SealiftError('internal', `no size for an archive entry: got ${size}`);
  }
  if (!Number.isSafeInteger(mtimeSeconds) || mtimeSeconds < 0 || mtimeSeconds > MAX_MTIME) {
    throw new SealiftError('internal', `no time for an archive entry: got ${mtimeSeconds}`);
  }
  const split = splitName(name);
  if (split) {
    const header = Buffer.alloc(BLOCK_SIZE);
    writeBlock(header, { ...split, size, mtime: mtimeSeconds, type: '0' });
    return header;
  }
  const record = paxRecord(name);
  const header = Buffer.alloc(3 * BLOCK_SIZE);
  const pax = { name: 'PaxHeader', prefix: '', mtime: mtimeSeconds };
  writeBlock(header.subarray(0, BLOCK_SIZE), { ...pax, size: record.length, type: 'x' });
  header.write(record, BLOCK_SIZE, 'latin1');
  writeBlock(header.subarray(2 * BLOCK_SIZE), { ...pax, size, type: '0' });
  return header;
}
