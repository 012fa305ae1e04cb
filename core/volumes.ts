/** Split and join: a bundle into volumes and back, the same bytes. */
import { createHash } from 'node:crypto';
import { rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { parseBundleManifest } from './bundle/manifest.ts';
import { openBundleAt } from './bundle/open.ts';
import { openBundleStream } from './bundle/reader.ts';
import type { MediumProvider } from './bundle/volumes/medium.ts';
import {
  assertPortableName,
  cutVolumes,
  parseVolumeName,
  type VolumeCut,
  volumeIndexName,
  volumeName,
} from './bundle/volumes/names.ts';
import { createRoller } from './bundle/volumes/roller.ts';
import { createVolumeFiles } from './bundle/volumes/sink.ts';
import { encodeVolumeIndex, MAX_VOLUME_INDEX, parseVolumeIndex } from './bundle/volumes/volume-index.ts';
import type { Context } from './context.ts';
import { inert, SealiftError } from './errors.ts';
import {
  createPartial,
  fsyncDirectory,
  makeDirectory,
  readFileLimited,
  writeFileDurably,
} from './fs/durable.ts';
import { assertFits, inspectFileSystem } from './fs/space.ts';
import type { JoinResult, SplitResult, VolumeSummary } from './results.ts';

export interface SplitOptions {
  /** The bundle: a file, or volumes of another size. */
  readonly bundle: string;
  /** Bytes of a volume. */
  readonly volumeSize: number;
  /** Directory the volumes go to. */
  readonly directory: string;
  /** Only this volume. */
  readonly only?: number | undefined;
  /** Replaces volumes that are there. */
  readonly force: boolean;
  /** Reads every volume from its medium before it gets its name. */
  readonly readBack: (directory: string) => Promise<boolean>;
}

export interface JoinOptions {
  /** A directory of volumes, or volumes. */
  readonly volumes: readonly [string, ...string[]];
  readonly output: string;
  readonly force: boolean;
  readonly medium?: MediumProvider | undefined;
}

/** Name of a bundle without the number of a volume. */
function baseOf(file: string): string {
  const name = path.basename(file);
  return parseVolumeName(name)?.base ?? name;
}

/** The volumes to write. @throws SealiftError `invalid-argument` where there is no volume `only` */
export function chooseVolumes(cuts: readonly VolumeCut[], only: number | undefined): readonly VolumeCut[] {
  if (only === undefined) return cuts;
  const cut = cuts[only - 1];
  if (cut) return [cut];
  throw new SealiftError('invalid-argument', `there is no volume ${only}: the bundle has ${cuts.length}`, {
    subject: '--only-volume',
    got: only,
    want: cuts.length,
  });
}

/**
 * Cuts a bundle into volumes. Headers, padding and names are checked, signatures and contents are not.
 * @throws SealiftError as openBundleFile(); `invalid-argument`, `destination-exists`, `destination-full`
 */
export async function splitBundle(options: SplitOptions, context: Context): Promise<SplitResult> {
  const { directory, volumeSize, only } = options;
  const bundle = await openBundleAt({ path: options.bundle }, context);
  try {
    bundle.accept(parseBundleManifest(bundle.head.manifest, context.limits));
    await bundle.verifyFrame();
    const base = baseOf(options.bundle);
    assertPortableName(base);
    const { size } = bundle;
    const cuts = cutVolumes(size, volumeSize);
    const chosen = chooseVolumes(cuts, only);
    await makeDirectory(directory);
    await refuseThere(
      chosen.map(({ number }) => path.join(directory, volumeName(base, number))),
      options.force,
    );
    const bytes = chosen.reduce((sum, cut) => sum + cut.size, 0);
    assertFits(await inspectFileSystem(directory), bytes, chosen[0]?.size ?? 0, directory);
    const indexFile = path.join(directory, volumeIndexName(base));
    const manifestSha256 = createHash('sha256').update(bundle.head.manifest).digest('hex');
    const written: VolumeSummary[] = [];
    const hashes = await knownHashes(indexFile, base, { manifestSha256, size, volumeSize });
    const target = createVolumeFiles(
      { directory: () => directory, base, readBack: options.readBack },
      context,
    );
    const start = chosen[0]?.offset ?? 0;
    const end = start + bytes;
    const roller = createRoller({
      cuts,
      start,
      end,
      target,
      async onVolume(cut, sha256) {
        hashes[cut.number - 1] = sha256;
        await writeFileDurably(
          indexFile,
          encodeVolumeIndex({ name: base, manifestSha256, size, volumeSize, hashes }),
        );
        written.push({
          number: cut.number,
          path: path.join(directory, volumeName(base, cut.number)),
          size: cut.size,
          sha256,
        });
      },
    });
    context.emit({ type: 'phase', phase: 'transfer', title: 'splitting' });
    try {
      let offset = start;
      for await (const piece of bundle.bytes(start, end - start)) {
        await roller.put(offset, piece);
        offset += piece.length;
      }
      await roller.finish();
    } finally {
      await roller.close();
    }
    await bundle.assertUnchanged();
    return { bundle: options.bundle, directory, size, volumeSize, total: cuts.length, volumes: written };
  } finally {
    await bundle.close();
  }
}

async function refuseThere(files: readonly string[], force: boolean): Promise<void> {
  const { stat } = await import('node:fs/promises');
  for (const file of files) {
    if (force || !(await stat(file).catch(() => undefined))) continue;
    throw new SealiftError('destination-exists', 'the output is there already', {
      subject: inert(file),
      hint: 'choose another place with -o, or replace it with --force',
    });
  }
}

/** Hashes of the same volumes from an earlier run, where there are any. */
async function knownHashes(
  file: string,
  base: string,
  bundle: { readonly manifestSha256: string; readonly size: number; readonly volumeSize: number },
): Promise<(string | undefined)[]> {
  const bytes = await readFileLimited(file, MAX_VOLUME_INDEX).catch(() => undefined);
  if (!bytes) return [];
  try {
    const found = parseVolumeIndex(bytes, base, file);
    const same =
      found.manifestSha256 === bundle.manifestSha256 &&
      found.size === bundle.size &&
      found.volumeSize === bundle.volumeSize;
    return same ? [...found.hashes] : [];
  } catch {
    return [];
  }
}

/**
 * Puts volumes together into one file. Every byte is checked on the way but for signatures: headers, padding and the hash
 * of each blob; nothing appears under the file's name before.
 * @throws SealiftError as openBundleAt(); `digest-mismatch`, `volume-damaged`, `destination-exists`, `destination-full`
 */
export async function joinBundle(options: JoinOptions, context: Context): Promise<JoinResult> {
  const [first, ...more] = options.volumes;
  const output = path.resolve(options.output);
  const bundle = await openBundleAt({ path: first, volumes: more, medium: options.medium }, context);
  try {
    await refuseThere([output], options.force);
    const manifest = parseBundleManifest(bundle.head.manifest, context.limits);
    bundle.accept(manifest);
    const { size } = bundle;
    await makeDirectory(path.dirname(output));
    assertFits(await inspectFileSystem(path.dirname(output)), size, size, path.dirname(output));
    const partial = path.join(path.dirname(output), `.${path.basename(output)}.partial`);
    const handle = await createPartial(partial);
    const hash = context.pool.stream({ algorithms: ['sha256'] });
    let offset = 0;
    try {
      async function* tee(): AsyncGenerator<Uint8Array, void, void> {
        for await (const piece of bundle.bytes(0, size)) {
          const hashed = hash.write(piece);
          for (let done = 0; done < piece.length; ) {
            const { bytesWritten } = await handle.write(piece, done, piece.length - done, offset + done);
            done += bytesWritten;
          }
          offset += piece.length;
          await hashed;
          yield piece;
        }
      }
      context.emit({ type: 'phase', phase: 'transfer', title: 'joining' });
      const stream = await openBundleStream(tee(), context);
      stream.accept(manifest);
      for (let blob = await stream.nextBlob(); blob; blob = await stream.nextBlob()) {
        const place = bundle.blob(blob.name);
        await blob.skip().catch(async (error: unknown) => {
          throw await bundle.explain(error, place);
        });
      }
      await handle.sync();
    } catch (error) {
      hash.abort();
      // What was not right is nothing to keep.
      await rm(partial, { force: true });
      throw error;
    } finally {
      await handle.close();
    }
    const { hashes } = await hash.finish();
    await rename(partial, output);
    await fsyncDirectory(path.dirname(output));
    return { output, size, sha256: hashes.sha256 ?? '' };
  } finally {
    await bundle.close();
  }
}
