/** The media of an export into volumes: whether the next volume fits, and asking for another one. */
import { readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { type VolumeCut, volumeIndexName } from '../bundle/volumes/names.ts';
import type { Context } from '../context.ts';
import { messageOverhead } from '../encryption/names.ts';
import { inert, isSealiftError, SealiftError } from '../errors.ts';
import { makeDirectory } from '../fs/durable.ts';
import { assertFits, inspectFileSystem } from '../fs/space.ts';
import { formatBytes } from '../util/format.ts';
import type { VolumeOutput } from '../workflow-options.ts';
import { type Form, keptOf, partialOf, volumesThere } from './volume-form.ts';

/** Room for the list of volumes and what a file system needs for names. */
const SLACK = 256 * 1024;

export interface Media {
  /** Where the volume that is being written goes. */
  readonly directory: () => string;
  /** Sees to it that the next volume has a place; asks for another medium where it has none here. */
  prepare(cut: VolumeCut): Promise<void>;
  /** Asks for another medium for a volume that could not be written here; false where there is no way to ask. */
  change(cut: VolumeCut, problem: SealiftError): Promise<boolean>;
}

export function createMedia(form: Form, total: number, volumes: VolumeOutput, context: Context): Media {
  const base = path.basename(form.file);
  const overheadOf = ({ size }: VolumeCut) => (form.recipients ? messageOverhead(form.recipients, size) : 0);
  let directory = path.dirname(form.file);
  /** The file system that was written to last; undefined where a person has just said that there is one. */
  let device: bigint | undefined;

  /**
   * A stick that is pulled out may leave its directory behind, or somebody makes it anew: what is written then goes to the
   * disk below.
   */
  async function assertStill(): Promise<void> {
    const { dev } = await stat(directory, { bigint: true });
    if (device !== undefined && device !== dev) {
      throw new SealiftError('destination-failed', 'the medium is not there any more', {
        subject: inert(directory, 4096),
        hint: 'put it back and run the same command again; it goes on where it stopped',
      });
    }
    device = dev;
  }

  /** What a run that was killed left of a list. */
  async function sweep(): Promise<void> {
    const start = `.${volumeIndexName(base)}~`;
    for (const name of await readdir(directory))
      if (name.startsWith(start)) await rm(path.join(directory, name), { force: true });
  }

  /** Why a volume cannot go where the medium is now; undefined where it can. */
  async function unfit(cut: VolumeCut): Promise<SealiftError | undefined> {
    const others = await volumesThere(directory, form, cut.number);
    const size = cut.size + overheadOf(cut);
    const needed = size - (await keptOf(form, directory, cut.number));
    const facts = await inspectFileSystem(directory);
    try {
      assertFits(facts, needed + SLACK, size, directory);
    } catch (error) {
      if (isSealiftError(error) && error.code === 'destination-full') return error;
      throw error;
    }
    if (volumes.changeMedia !== true || others.length === 0) return undefined;
    return new SealiftError('destination-exists', 'there is a volume of this bundle on it already');
  }

  /** Has the medium changed; false where there is no way to ask. */
  async function ask(cut: VolumeCut, problem: string | undefined): Promise<boolean> {
    const answer = await volumes.medium?.({
      purpose: 'write',
      wanted: [cut.number],
      total,
      name: base,
      directory,
      ...(problem === undefined ? {} : { problem }),
    });
    if (answer === undefined) return false;
    directory = answer;
    device = undefined;
    await makeDirectory(directory);
    return true;
  }

  return {
    directory: () => directory,
    async change(cut, problem) {
      const before = directory;
      if (!(await ask(cut, problem.message))) return false;
      // A part of a volume is of no use beside the whole one on another medium.
      if (directory !== before)
        await rm(partialOf(form, before, cut.number), { force: true }).catch(() => undefined);
      return true;
    },
    async prepare(cut) {
      for (let asked = 0; ; asked += 1) {
        context.signal.throwIfAborted();
        await assertStill();
        await sweep();
        const problem = await unfit(cut);
        if (!problem) return;
        if (!(await ask(cut, asked === 0 ? undefined : problem.message))) {
          throw new SealiftError(
            'medium-needed',
            `volume ${cut.number} of ${total}, ${formatBytes(cut.size)}, needs another medium: ${problem.message}`,
            {
              subject: inert(directory, 4096),
              got: cut.number - 1,
              want: total,
              hint: `put another medium in its place and run the same command again; it goes on with volume ${cut.number}`,
            },
          );
        }
      }
    },
  };
}
