/**
 * What a directory's medium is: name, serial number, whether it can be taken out. Linux only, read from sysfs and udev's
 * database; whoever has neither gets undefined. Nothing here decides about trust: a stick says of itself what it likes.
 */
import { type FileHandle, open, realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { inert } from '../errors.ts';
import { inspectFileSystem } from './space.ts';

export interface DeviceFacts {
  /** The kernel's name, `sdb1`. */
  readonly device: string;
  /** Vendor and model, where known. */
  readonly model?: string | undefined;
  readonly serial?: string | undefined;
  /** Label of the file system, where known. */
  readonly label?: string | undefined;
  /** True for sticks, cards and discs. */
  readonly removable: boolean;
}

export interface DevicePlaces {
  /** `/sys` */
  readonly sys: string;
  /** `/run/udev/data` */
  readonly udev: string;
  /** Device number of a path as `major:minor`; from stat(2) unless given. */
  readonly numberOf?: ((file: string) => Promise<string>) | undefined;
}

const PLACES: DevicePlaces = { sys: '/sys', udev: '/run/udev/data' };
const LONGEST = 64 * 1024;

async function textOf(file: string): Promise<string | undefined> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(file, 'r');
    // By what is read, since files of sysfs tell no size of their own.
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(LONGEST + 1), 0, LONGEST + 1, 0);
    const text = buffer.toString('utf8', 0, bytesRead).trim();
    return text === '' || bytesRead > LONGEST ? undefined : text;
  } catch {
    return undefined;
  } finally {
    await handle?.close();
  }
}

/** `major:minor` as Linux packs them into st_dev. */
async function deviceNumber(file: string): Promise<string> {
  const { dev } = await stat(file, { bigint: true });
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & 0xfffff000n);
  const minor = (dev & 0xffn) | ((dev >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}

/** The device a path lies on; undefined where it is none (network, memory), or nobody knows. */
export async function inspectDevice(
  file: string,
  { sys, udev, numberOf = deviceNumber }: DevicePlaces = PLACES,
): Promise<DeviceFacts | undefined> {
  const number = await numberOf(file).catch(() => undefined);
  if (number === undefined) return undefined;
  const place = await realpath(path.join(sys, 'dev', 'block', number)).catch(() => undefined);
  if (place === undefined) return undefined;
  // A partition lies below its disk, and only the disk knows what it is.
  const isPartition = (await textOf(path.join(place, 'partition'))) !== undefined;
  const disk = isPartition ? path.dirname(place) : place;
  const properties = new Map<string, string>();
  for (const line of ((await textOf(path.join(udev, `b${number}`))) ?? '').split('\n')) {
    const match = /^E:([A-Z0-9_]+)=(.*)$/.exec(line);
    if (match?.[1] !== undefined && match[2]) properties.set(match[1], plainText(match[2]));
  }
  const words = [
    properties.get('ID_VENDOR') ?? (await textOf(path.join(disk, 'device', 'vendor'))),
    properties.get('ID_MODEL') ?? (await textOf(path.join(disk, 'device', 'model'))),
  ].flatMap((word) => (word === undefined ? [] : [word.replaceAll('_', ' ').trim()]));
  const serial =
    properties.get('ID_SERIAL_SHORT') ??
    properties.get('ID_SERIAL') ??
    (await textOf(path.join(disk, 'device', 'serial'))) ??
    (await textOf(path.join(disk, 'serial')));
  const label = properties.get('ID_FS_LABEL');
  const onUsb = properties.get('ID_BUS') === 'usb' || /\/usb\d+\//.test(place);
  const flag = await textOf(path.join(disk, 'removable'));
  return {
    device: inert(path.basename(place), 64),
    ...(words.length === 0 ? {} : { model: inert(words.join(' '), 128) }),
    ...(serial === undefined ? {} : { serial: inert(serial, 128) }),
    ...(label === undefined ? {} : { label: inert(label, 64) }),
    removable: flag === '1' || onUsb,
  };
}

/** True where a medium can be taken out, as far as the system or its file system tells. */
export async function isRemovable(directory: string): Promise<boolean> {
  if ((await inspectDevice(directory))?.removable === true) return true;
  const { name } = await inspectFileSystem(directory);
  return name === 'FAT32' || name === 'exFAT';
}

/** udev writes odd bytes as `\x2f`. */
function plainText(text: string): string {
  return text.replace(/\\x([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}
