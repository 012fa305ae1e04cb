/** A signed bundle cut by hand into volumes, with its list, and the faults volumes can have. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { cutVolumes, volumeIndexName, volumeName } from '../../../../core/bundle/volumes/names.ts';
import { encodeVolumeIndex } from '../../../../core/bundle/volumes/volume-index.ts';
import { type SealiftError, toSealiftError } from '../../../../core/errors.ts';
import { filesOf } from '../../../../fixtures/world.ts';

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Cuts `file` with nothing but a knife: as `split -b` would. */
export function cutByHand(
  file: string,
  directory: string,
  volumeSize: number,
  options: { readonly index?: boolean; readonly base?: string } = {},
): string[] {
  const { index = true, base = 'images.tar' } = options;
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const bytes = readFileSync(file);
  const cuts = cutVolumes(bytes.length, volumeSize).map(({ number, offset, size }) => ({
    file: path.join(directory, volumeName(base, number)),
    bytes: bytes.subarray(offset, offset + size),
  }));
  for (const cut of cuts) writeFileSync(cut.file, cut.bytes);
  if (index) {
    writeFileSync(
      path.join(directory, volumeIndexName(base)),
      encodeVolumeIndex({
        name: base,
        manifestSha256: sha256(filesOf(file).get('sealift.json') as Buffer),
        size: bytes.length,
        volumeSize,
        hashes: cuts.map((cut) => sha256(cut.bytes)),
      }),
    );
  }
  return cuts.map((cut) => cut.file);
}

export async function errorOf(run: () => Promise<unknown>): Promise<SealiftError> {
  try {
    await run();
  } catch (error) {
    const known = toSealiftError(error);
    if (known.code === 'internal') throw error;
    return known;
  }
  throw new Error('nothing was refused');
}

/** Changes one byte of a file. */
export function flipByte(file: string, at: number): void {
  const bytes = readFileSync(file);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  writeFileSync(file, bytes);
}
