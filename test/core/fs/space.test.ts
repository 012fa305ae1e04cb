import os from 'node:os';
import { describe, expect, test } from 'vitest';
import { assertFits, inspectFileSystem } from '../../../core/fs/space.ts';

const GIB = 1024 ** 3;
const fat = { name: 'FAT32', freeBytes: 100 * GIB, maxFileSize: 2 ** 32 - 1, holes: false };
const ext4 = { name: 'ext4', freeBytes: 2 * GIB, holes: true };

describe('what fits is known before the first byte', () => {
  test('FAT32 holds no file of 4 GiB, however much is free', () => {
    expect(() => assertFits(fat, 4 * GIB, 4 * GIB, 'stick')).toThrow(
      expect.objectContaining({ code: 'destination-limit' }),
    );
    expect(() => assertFits(fat, 4 * GIB - 1, 4 * GIB - 1, 'stick')).not.toThrow();
  });

  test('free space counts what is still to be written, not what is there already', () => {
    expect(() => assertFits(ext4, 3 * GIB, 3 * GIB, 'disk')).toThrow(
      expect.objectContaining({ code: 'destination-full', got: 2 * GIB, want: 3 * GIB }),
    );
    expect(() => assertFits(ext4, 1 * GIB, 3 * GIB, 'disk')).not.toThrow();
  });

  test('a file system that does not count is not full', () => {
    expect(() =>
      assertFits({ ...ext4, freeBytes: Number.POSITIVE_INFINITY }, 3 * GIB, 3 * GIB, 'ram'),
    ).not.toThrow();
  });

  test('a real directory has a name and free bytes', async () => {
    const facts = await inspectFileSystem(os.tmpdir());
    expect(facts.name).not.toBe('');
    expect(facts.freeBytes).toBeGreaterThan(0);
  });
});
