/** Changing media: the person at the terminal is asked, or a command is run. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import type { MediumProvider, MediumRequest } from '../../core/bundle/volumes/medium.ts';
import { parseVolumeSize, volumeName, volumesText } from '../../core/bundle/volumes/names.ts';
import { inert, SealiftError } from '../../core/errors.ts';
import type { VolumeOutput } from '../../core/workflow-options.ts';
import type { OptionGroup } from '../args.ts';
import type { Runtime } from '../command.ts';

export const mediumOptions = {
  'volume-command': {
    kind: 'text',
    value: 'COMMAND',
    describe:
      'run this instead of asking for the next medium; it finds SEALIFT_VOLUME and SEALIFT_VOLUME_PATH in its environment',
  },
} as const satisfies OptionGroup;

export const readBackOptions = {
  'no-read-back': {
    kind: 'flag',
    describe: 'do not read removable media back after writing',
  },
  'read-back': { kind: 'flag', describe: 'read back from any medium, past the page cache' },
} as const satisfies OptionGroup;

export const volumeOptions = {
  'volume-size': {
    kind: 'text',
    value: 'SIZE',
    describe: 'cut the bundle into volumes OUTPUT.001 and so on: 4GiB, 700MB, fat32, dvd, bd25',
  },
  'change-media': {
    kind: 'flag',
    describe: 'one volume to each medium: ask before each (without it: where the next one does not fit)',
  },
  'only-volume': {
    kind: 'text',
    value: 'N',
    describe: 'write volume N of a finished export again, alone, the same bytes',
  },
  ...mediumOptions,
  ...readBackOptions,
} as const satisfies OptionGroup;

/** How an export is cut; undefined where it is not. @throws SealiftError `invalid-argument` */
export function volumesFrom(runtime: Runtime): VolumeOutput | undefined {
  const { args } = runtime;
  const size = args.text('volume-size');
  const only = args.integer('only-volume', 1, 999);
  if (size === undefined) {
    const other =
      only !== undefined ? '--only-volume' : args.flag('change-media') ? '--change-media' : undefined;
    if (other === undefined) return undefined;
    throw new SealiftError('invalid-argument', `${other} is about volumes: --volume-size is missing`, {
      subject: other,
    });
  }
  return {
    size: parseVolumeSize(size),
    ...(only === undefined ? {} : { only }),
    changeMedia: args.flag('change-media'),
    medium: mediumFrom(runtime),
  };
}

/** Which media are read back: removable ones, unless the options say all or none. */
export function readBackFrom({ args }: Runtime): (directory: string) => Promise<boolean> {
  if (args.flag('no-read-back')) return async () => false;
  if (args.flag('read-back')) return async () => true;
  return async (directory) => (await import('../../core/fs/device.ts')).isRemovable(directory);
}

/** How media are changed: `--volume-command`, else a question; undefined where neither is possible. */
export function mediumFrom(runtime: Runtime): MediumProvider | undefined {
  const { args, cwd, signal, stdin } = runtime;
  const command = args.text('volume-command');
  if (command !== undefined) {
    return async (request) => {
      if (request.problem !== undefined) {
        throw new SealiftError(
          request.purpose === 'read' ? 'volume-missing' : 'medium-needed',
          `the volume command did not bring ${request.purpose === 'read' ? '' : 'a medium for '}${volumesText(request.wanted)}: ${request.problem}`,
          { subject: '--volume-command' },
        );
      }
      await runVolumeCommand(command, request, runtime);
      return request.directory;
    };
  }
  // Where nobody can answer, what is missing is said at once.
  if (args.flag('no-input') || args.flag('json') || !('isTTY' in stdin && stdin.isTTY)) return undefined;
  return async (request) => {
    signal.throwIfAborted();
    const answer = await runtime.ask(questionOf(request), true);
    if (answer === undefined) return undefined;
    const typed = answer.trim();
    return typed === '' ? request.directory : path.resolve(cwd, typed);
  };
}

function questionOf({ purpose, wanted, total, name, directory, problem }: MediumRequest): string {
  const of = total === undefined ? '' : ` of ${total}`;
  const which = `${purpose === 'read' && wanted.length > 1 ? 'one of ' : ''}${volumesText(wanted)}${of}`;
  const what =
    purpose === 'read'
      ? `the medium with ${which} of ${inert(name)}`
      : `a medium for ${which} of ${inert(name)}`;
  const before = problem === undefined ? '' : `Not this one: ${problem}.\n`;
  return `${before}Insert ${what}, then press Enter (or type where it is; now ${inert(directory, 4096)}): `;
}

function runVolumeCommand(command: string, request: MediumRequest, runtime: Runtime): Promise<void> {
  const { env, signal } = runtime;
  const [first = 1] = request.wanted;
  return new Promise((resolve, reject) => {
    const child = spawn('/bin/sh', ['-c', command], {
      // Its output is for people: standard output may carry a document.
      stdio: ['ignore', 2, 2],
      signal,
      env: {
        ...env,
        SEALIFT_VOLUME: String(first),
        SEALIFT_VOLUMES: request.total === undefined ? '' : String(request.total),
        SEALIFT_VOLUMES_WANTED: request.wanted.join(' '),
        SEALIFT_VOLUME_PURPOSE: request.purpose,
        SEALIFT_VOLUME_PATH: path.join(request.directory, volumeName(request.name, first)),
      },
    });
    child.on('error', (error) =>
      reject(
        signal.aborted
          ? new SealiftError('cancelled', 'stopped')
          : new SealiftError('invalid-argument', 'the volume command cannot be run', {
              subject: '--volume-command',
              cause: error,
            }),
      ),
    );
    child.on('close', (code) => {
      if (code === 0) {
        resolve();
        return;
      }
      const message = `the volume command failed, got exit code ${code ?? 'none'}, want 0`;
      reject(
        new SealiftError(request.purpose === 'read' ? 'volume-missing' : 'medium-needed', message, {
          subject: '--volume-command',
        }),
      );
    });
  });
}
