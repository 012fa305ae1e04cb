import type { SealiftEvent } from '../../core/events.ts';

/** A blob on its way. */
export interface ActiveBlob {
  readonly digest: string;
  readonly size: number;
  bytes: number;
}

/** A line that stays: a check, a notice, a phase that is over. */
export interface DoneLine {
  readonly key: number;
  readonly event: Extract<SealiftEvent, { type: 'check' | 'notice' | 'phase' }>;
}

/**
 * What the progress view shows, kept outside React and changed in place: events come by the thousand a second,
 * the view looks ten times a second.
 */
export interface ProgressStore {
  readonly lines: readonly DoneLine[];
  readonly phase: string;
  /** In the order they began. */
  active(): readonly ActiveBlob[];
  readonly doneBytes: number;
  readonly doneBlobs: number;
  /** Undefined until the size of the transfer is known. */
  readonly total: { readonly bytes: number; readonly blobs: number } | undefined;
  /** Bytes a second over the last seconds. */
  rate(now: number): number | undefined;
  /** Seconds left at that rate. */
  left(now: number): number | undefined;
  take(event: SealiftEvent, now: number): void;
}

const WINDOW = 5000;

/** @param now in `rate`, `left` and `take`: milliseconds of a clock that never goes back */
export function createProgressStore(): ProgressStore {
  const active = new Map<string, ActiveBlob>();
  const samples: { at: number; bytes: number }[] = [];
  let lines: DoneLine[] = [];
  let key = 0;
  let phase = '';
  let finishedBytes = 0;
  let activeBytes = 0;
  let doneBlobs = 0;
  let total: { bytes: number; blobs: number } | undefined;

  function keep(event: DoneLine['event']): void {
    key += 1;
    lines = [...lines, { key, event }];
  }
  function sample(now: number): void {
    const last = samples.at(-1);
    if (last === undefined || now - last.at >= 200)
      samples.push({ at: now, bytes: finishedBytes + activeBytes });
    while (samples.length > 2 && now - (samples[0]?.at ?? now) > WINDOW) samples.shift();
  }
  const store: ProgressStore = {
    get lines() {
      return lines;
    },
    get phase() {
      return phase;
    },
    get doneBytes() {
      return finishedBytes + activeBytes;
    },
    get doneBlobs() {
      return doneBlobs;
    },
    get total() {
      return total;
    },
    active: () => [...active.values()],
    rate: (now) => {
      const oldest = samples[0];
      if (oldest === undefined || now - oldest.at < 500) return undefined;
      return Math.max(0, ((finishedBytes + activeBytes - oldest.bytes) * 1000) / (now - oldest.at));
    },
    left: (now) => {
      const rate = store.rate(now);
      if (total === undefined || rate === undefined || rate < 1) return undefined;
      return Math.max(0, total.bytes - store.doneBytes) / rate;
    },
    take: (event, now) => {
      switch (event.type) {
        case 'phase':
          phase = event.title;
          break;
        case 'check':
        case 'notice':
          keep(event);
          break;
        case 'transfer':
          total = { bytes: event.bytes, blobs: event.blobs };
          // Another transfer of the same run (verify, then import) is counted anew.
          finishedBytes = 0;
          activeBytes = 0;
          doneBlobs = 0;
          active.clear();
          samples.length = 0;
          sample(now);
          break;
        case 'blob': {
          const known = active.get(event.digest);
          if (event.state === 'done') {
            active.delete(event.digest);
            activeBytes -= known?.bytes ?? 0;
            finishedBytes += event.size;
            doneBlobs += 1;
          } else if (known === undefined) {
            active.set(event.digest, { digest: event.digest, size: event.size, bytes: event.bytes });
            activeBytes += event.bytes;
          } else {
            // Fewer than before: a transfer that was begun again.
            activeBytes += event.bytes - known.bytes;
            known.bytes = event.bytes;
          }
          sample(now);
          break;
        }
        case 'image':
          break;
      }
    },
  };
  return store;
}
