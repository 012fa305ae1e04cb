import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inspectDevice } from '../../../core/fs/device.ts';

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(path.join(os.tmpdir(), 'sealift-device-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function put(file: string, text: string): void {
  const full = path.join(directory, file);
  mkdirSync(path.dirname(full), { recursive: true });
  writeFileSync(full, text);
}

const places = (number: string) => ({
  sys: path.join(directory, 'sys'),
  udev: path.join(directory, 'udev'),
  numberOf: async () => number,
});

describe('a medium', () => {
  it('is known by what its disk and udev say', async () => {
    const disk = 'sys/devices/pci0000:00/0000:00:14.0/usb2/2-1/host6/block/sdb';
    put(`${disk}/removable`, '1\n');
    put(`${disk}/sdb1/partition`, '1\n');
    put(`${disk}/device/vendor`, 'SanDisk \n');
    put(`${disk}/device/model`, 'Ultra\n');
    mkdirSync(path.join(directory, 'sys/dev/block'), { recursive: true });
    symlinkSync(path.join(directory, disk, 'sdb1'), path.join(directory, 'sys/dev/block/8:17'));
    expect(await inspectDevice('/media/stick', places('8:17'))).toEqual({
      device: 'sdb1',
      model: 'SanDisk Ultra',
      removable: true,
    });
    put(
      'udev/b8:17',
      'S:disk/by-id/x\nE:ID_MODEL=Ultra_Fit\nE:ID_SERIAL_SHORT=4C53\\x1b[31m\nE:ID_FS_LABEL=CARRY\n',
    );
    expect(await inspectDevice('/media/stick', places('8:17'))).toEqual({
      device: 'sdb1',
      model: 'SanDisk Ultra Fit',
      // A stick says of itself what it likes; it is made harmless to show.
      serial: '4C53\\u{1b}[31m',
      label: 'CARRY',
      removable: true,
    });
  });

  it('is a fixed disk, or nobody knows', async () => {
    const disk = 'sys/devices/pci0000:00/nvme/nvme0/nvme0n1';
    put(`${disk}/removable`, '0\n');
    put(`${disk}/serial`, 'S4EW\n');
    symlinkSync(path.join(directory, disk), path.join(directory, 'sys/dev/block/259:0'));
    expect(await inspectDevice('/', places('259:0'))).toEqual({
      device: 'nvme0n1',
      serial: 'S4EW',
      removable: false,
    });
    expect(await inspectDevice('/tmp', places('0:42'))).toBeUndefined();
    expect(await inspectDevice(path.join(directory, 'nowhere'))).toBeUndefined();
  });
});
