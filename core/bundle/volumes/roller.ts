/** One run of bytes into volumes: opens the next where one is full. */
import { SealiftError } from '../../errors.ts';
import type { VolumeCut } from './names.ts';
import type { VolumeSink, VolumeTarget } from './sink.ts';

export interface RollerOptions {
  /** All volumes of the bundle. */
  readonly cuts: readonly VolumeCut[];
  /** Offset in the bundle of the first byte that is written; those before are passed over. */
  readonly start: number;
  /** Offset behind the last. */
  readonly end: number;
  readonly target: VolumeTarget;
  /** A volume is whole, durable and under its name. */
  readonly onVolume: (cut: VolumeCut, sha256: string) => Promise<void>;
}

export interface Roller {
  /** Takes bytes of the bundle from `offset` on, in ascending order; what lies outside of what is written is passed over. */
  put(offset: number, bytes: Uint8Array): Promise<void>;
  /** Makes durable what was taken. */
  sync(): Promise<void>;
  /** Everything has been put. @throws SealiftError `internal` where it has not */
  finish(): Promise<void>;
  /** Gives up; the volume that is open stays, to be gone on with. */
  close(): Promise<void>;
}

export function createRoller({ cuts, start, end, target, onVolume }: RollerOptions): Roller {
  let position = start;
  let open: { readonly cut: VolumeCut; readonly sink: VolumeSink } | undefined;

  const wrong = (what: string) => new SealiftError('internal', `volumes are written in order: ${what}`);

  async function current(): Promise<{ readonly cut: VolumeCut; readonly sink: VolumeSink }> {
    if (open) return open;
    const cut = cuts.find(({ offset, size }) => position >= offset && position < offset + size);
    if (!cut) throw wrong(`no volume has byte ${position}`);
    open = { cut, sink: await target.open(cut, position - cut.offset) };
    return open;
  }

  return {
    async put(offset, bytes) {
      const from = Math.max(offset, position);
      const to = Math.min(offset + bytes.length, end);
      if (from >= to) return;
      if (offset > position) throw wrong(`got byte ${offset}, want ${position}`);
      while (position < to) {
        const { cut, sink } = await current();
        const border = cut.offset + cut.size;
        const length = Math.min(to, border) - position;
        await sink.write(bytes.subarray(position - offset, position - offset + length));
        position += length;
        if (position < border) continue;
        const { sha256 } = await sink.finish();
        open = undefined;
        await onVolume(cut, sha256);
      }
    },
    sync: async () => open?.sink.sync(),
    async finish() {
      if (position !== end || open) throw wrong(`they end at byte ${position}, want ${end}`);
    },
    async close() {
      await open?.sink.close();
      open = undefined;
    },
  };
}
