import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createArgs } from '../../../cli/args.ts';
import type { Runtime } from '../../../cli/command.ts';
import { mediumFrom, volumeOptions, volumesFrom } from '../../../cli/options/volumes.ts';
import type { MediumRequest } from '../../../core/bundle/volumes/medium.ts';

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(path.join(os.tmpdir(), 'sealift-volumes-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const FLAGS = { 'no-input': { kind: 'flag', describe: '' }, json: { kind: 'flag', describe: '' } } as const;

function runtimeOf(
  parsed: Record<string, unknown>,
  { isTTY = true, answers = [] }: { isTTY?: boolean; answers?: readonly string[] } = {},
): { readonly runtime: Runtime; readonly asked: string[] } {
  const asked: string[] = [];
  const left = [...answers];
  const runtime = {
    args: createArgs(parsed, { ...volumeOptions, ...FLAGS }, (text) => text),
    cwd: directory,
    env: { PATH: process.env['PATH'] },
    signal: new AbortController().signal,
    stdin: { isTTY },
    ask: async (prompt: string) => {
      asked.push(prompt);
      return left.shift();
    },
  } as unknown as Runtime;
  return { runtime, asked };
}

const REQUEST: MediumRequest = {
  purpose: 'read',
  wanted: [2, 4],
  total: 5,
  name: 'images.tar',
  directory: '/media/stick',
};

describe('another medium', () => {
  it('is asked for in words that say which; Enter is the same place', async () => {
    const { runtime, asked } = runtimeOf({}, { answers: ['', 'b', ''] });
    const medium = mediumFrom(runtime);
    expect(await medium?.(REQUEST)).toBe('/media/stick');
    expect(asked[0]).toBe(
      'Insert the medium with one of volumes 2 and 4 of 5 of images.tar, then press Enter (or type where it is; now /media/stick): ',
    );
    expect(await medium?.({ ...REQUEST, wanted: [3], purpose: 'write' })).toBe(path.join(directory, 'b'));
    expect(asked[1]).toContain('a medium for volume 3 of 5 of images.tar');
    await medium?.({ ...REQUEST, problem: 'there is volume 1' });
    expect(asked[2]).toMatch(/^Not this one: there is volume 1\.\n/);
  });

  it('cannot be asked for without a terminal, with --no-input or with --json', () => {
    expect(mediumFrom(runtimeOf({}, { isTTY: false }).runtime)).toBeUndefined();
    expect(mediumFrom(runtimeOf({ 'no-input': true }).runtime)).toBeUndefined();
    expect(mediumFrom(runtimeOf({ json: true }).runtime)).toBeUndefined();
  });

  it('is brought by a command that is told what is wanted, also where nobody can be asked', async () => {
    const file = path.join(directory, 'told');
    const command = `env | grep ^SEALIFT_ | sort > ${file}`;
    const medium = mediumFrom(runtimeOf({ 'volume-command': command, 'no-input': true }).runtime);
    expect(await medium?.(REQUEST)).toBe('/media/stick');
    expect(readFileSync(file, 'utf8')).toBe(
      [
        'SEALIFT_VOLUME=2',
        'SEALIFT_VOLUMES=5',
        'SEALIFT_VOLUMES_WANTED=2 4',
        'SEALIFT_VOLUME_PATH=/media/stick/images.tar.002',
        'SEALIFT_VOLUME_PURPOSE=read\n',
      ].join('\n'),
    );
    await expect(medium?.({ ...REQUEST, problem: 'nothing' })).rejects.toMatchObject({
      code: 'volume-missing',
    });
    const failing = mediumFrom(runtimeOf({ 'volume-command': 'exit 3' }).runtime);
    await expect(failing?.(REQUEST)).rejects.toMatchObject({ code: 'volume-missing' });
    await expect(failing?.({ ...REQUEST, purpose: 'write' })).rejects.toMatchObject({
      code: 'medium-needed',
    });
  });
});

describe('volumes of an export', () => {
  it('are what the options say, and nothing without a size', () => {
    expect(volumesFrom(runtimeOf({}).runtime)).toBeUndefined();
    expect(volumesFrom(runtimeOf({ 'volume-size': 'fat32' }).runtime)).toMatchObject({
      size: 2 ** 32 - 1,
      changeMedia: false,
    });
    expect(
      volumesFrom(runtimeOf({ 'volume-size': '1MiB', 'only-volume': '3', 'change-media': true }).runtime),
    ).toMatchObject({
      size: 2 ** 20,
      only: 3,
      changeMedia: true,
    });
    expect(() => volumesFrom(runtimeOf({ 'only-volume': '3' }).runtime)).toThrow(/--volume-size is missing/);
    expect(() => volumesFrom(runtimeOf({ 'volume-size': '1 furlong' }).runtime)).toThrow(
      /no size of a volume/,
    );
  });
});
