/**
 * Makes the file system fail at a chosen step, to stand for a crash or a full disk. Used as
 * `vi.mock('node:fs/promises', async (original) => withFaults(await original()))`.
 */
import type * as FsPromises from 'node:fs/promises';

export interface Faults {
  /** Number of the step that fails, from 0. */
  failAt: number | undefined;
  /** `crash`: nothing works from then on, and a write is torn; `full`: every write fails, the rest works. */
  mode: 'crash' | 'full';
  /** Every step that changes something, in order. */
  steps: string[];
  down: boolean;
}

export const faults: Faults = { failAt: undefined, mode: 'crash', steps: [], down: false };

export function arm(failAt: number, mode: Faults['mode'] = 'crash'): void {
  Object.assign(faults, { failAt, mode, steps: [], down: false });
}

/** Ends the faults; the steps that were counted stay. */
export function disarm(): void {
  Object.assign(faults, { failAt: undefined, down: false });
}

function fault(code: string): Error {
  return Object.assign(new Error(`${code}: injected`), { code });
}

/** Counts a step; true where it must fail half way. */
function stepFails(step: string, isWrite: boolean): boolean {
  if (faults.failAt === undefined) return false;
  const number = faults.steps.length;
  faults.steps.push(step);
  if (faults.down) return faults.mode === 'crash' || isWrite;
  if (number !== faults.failAt) return false;
  if (faults.mode === 'full' && !isWrite) return false;
  faults.down = true;
  return true;
}

function injected(): Error {
  return fault(faults.mode === 'crash' ? 'EIO' : 'ENOSPC');
}

export function withFaults(real: typeof FsPromises): typeof FsPromises {
  function patch(handle: FsPromises.FileHandle, name: string): FsPromises.FileHandle {
    const writeFile = handle.writeFile.bind(handle);
    const write = handle.write.bind(handle);
    const sync = handle.sync.bind(handle);
    const truncate = handle.truncate.bind(handle);
    handle.writeFile = async (data, options) => {
      if (stepFails(`write ${name}`, true)) {
        const bytes = Buffer.from(data as Uint8Array);
        await writeFile(bytes.subarray(0, Math.floor(bytes.length / 2)));
        throw injected();
      }
      return writeFile(data, options);
    };
    handle.write = (async (data: Uint8Array, ...rest: never[]) => {
      if (stepFails(`write ${name}`, true)) {
        await write(data.subarray(0, Math.floor(data.length / 2)));
        throw injected();
      }
      return write(data, ...rest);
    }) as typeof handle.write;
    handle.sync = async () => {
      if (stepFails(`sync ${name}`, false)) throw injected();
      return sync();
    };
    handle.truncate = async (length) => {
      if (stepFails(`truncate ${name}`, false)) throw injected();
      return truncate(length);
    };
    return handle;
  }
  const base = (file: unknown): string =>
    String(file)
      .split('/')
      .slice(-2)
      .join('/')
      .replace(/~[0-9a-f]+/, '~');
  return {
    ...real,
    open: async (file, flags, mode) => {
      const writes = typeof flags === 'number' ? (flags & 3) !== 0 : /[wax+]/.test(String(flags ?? 'r'));
      if (writes && stepFails(`open ${base(file)}`, true)) throw injected();
      return patch(await real.open(file, flags, mode), base(file));
    },
    rename: async (from, to) => {
      if (stepFails(`rename ${base(to)}`, false)) throw injected();
      return real.rename(from, to);
    },
    rm: async (file, options) => {
      if (stepFails(`rm ${base(file)}`, false)) throw injected();
      return real.rm(file, options);
    },
    mkdir: (async (file: string, options?: FsPromises.FileHandle) => {
      if (stepFails(`mkdir ${base(file)}`, true)) throw injected();
      return real.mkdir(file, options as never);
    }) as typeof real.mkdir,
  };
}
