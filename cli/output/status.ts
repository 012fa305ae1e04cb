import { inert } from '../../core/errors.ts';
import type { SealiftEvent } from '../../core/events.ts';
import { kindsText } from './evidence-kinds.ts';
import { formatSeconds, formatSize, plural, shortDigest } from './format.ts';
import { createProgressStore } from './progress-store.ts';
import type { Style } from './style.ts';

/** Shows how a run goes. Chosen once; a command knows nothing of it. */
export interface StatusHandler {
  take(event: SealiftEvent): void;
  /** Makes way for a question or a result, and waits until the screen is free. */
  pause(): Promise<void>;
  resume(): void;
  /** The end; nothing is shown after it. */
  stop(): Promise<void>;
  /** Puts the terminal right on the shortest way out. */
  abandon(): void;
  /** Checks are shown as they end. */
  readonly showsChecks: boolean;
}

const NOTHING = {
  pause: () => Promise.resolve(),
  resume: () => {},
  stop: () => Promise.resolve(),
  abandon: () => {},
};

export type WriteLine = (line: string) => void;

/** The line for a check or a notice; the same in every mode. */
export function statusLine(event: Extract<SealiftEvent, { type: 'check' | 'notice' }>, style: Style): string {
  if (event.type === 'notice') {
    const message = inert(event.message, 1000);
    return event.level === 'warning'
      ? `${style.attention} ${style.warn('warning')}: ${message}`
      : `  ${message}`;
  }
  const [symbol, word] =
    event.status === 'passed'
      ? [style.pass, 'passed ']
      : event.status === 'failed'
        ? [style.fail, style.bad('failed ')]
        : [style.skip, 'skipped'];
  return `${symbol} ${word} ${event.check.padEnd(15)} ${style.dim(inert(event.detail, 500))}`.trimEnd();
}

/** Warnings only. */
export function createQuietStatus(write: WriteLine, style: Style): StatusHandler {
  return {
    ...NOTHING,
    showsChecks: false,
    take: (event) => {
      if (event.type === 'notice' && event.level === 'warning') write(statusLine(event, style));
    },
  };
}

/** Every event as one JSON line. */
export function createJsonStatus(write: WriteLine): StatusHandler {
  return { ...NOTHING, showsChecks: false, take: (event) => write(JSON.stringify(event)) };
}

const PERCENT_EVERY = 5000;

/** Lines for logs and for terminals that cannot move: phases, checks, and now and then how far it is. */
export function createPlainStatus(
  write: WriteLine,
  style: Style,
  options: { readonly verbose: boolean; readonly clock: () => number },
): StatusHandler {
  const store = createProgressStore();
  let lastPercent: number | undefined;
  function progressLine(now: number): string {
    const { total } = store;
    const rate = store.rate(now);
    const left = store.left(now);
    const share =
      total === undefined || total.bytes === 0
        ? ''
        : `${Math.floor((100 * store.doneBytes) / total.bytes)} %, `;
    const of = total === undefined ? '' : ` of ${formatSize(total.bytes)}`;
    const speed = rate === undefined ? '' : `, ${formatSize(rate)}/s`;
    const rest = left === undefined ? '' : `, ${formatSeconds(left)} left`;
    return `  ${share}${formatSize(store.doneBytes)}${of}${speed}${rest}`;
  }
  return {
    ...NOTHING,
    showsChecks: true,
    take: (event) => {
      const now = options.clock();
      store.take(event, now);
      switch (event.type) {
        case 'phase':
          write(`${inert(event.title)}`);
          break;
        case 'check':
        case 'notice':
          write(statusLine(event, style));
          break;
        case 'image':
          write(
            `  ${inert(event.name)}  ${options.verbose ? event.digest : shortDigest(event.digest)}  ${formatSize(event.size)}${
              event.evidenceKinds === undefined ? '' : `, ${kindsText(event.evidenceKinds)}`
            }`,
          );
          break;
        case 'transfer': {
          lastPercent = now;
          const skipped = event.skippedBytes === 0 ? '' : `, ${formatSize(event.skippedBytes)} there already`;
          write(`  ${formatSize(event.bytes)} in ${plural(event.blobs, 'blob')}${skipped}`);
          break;
        }
        case 'blob':
          if (event.state === 'done') {
            if (options.verbose) write(`  ${event.digest}  ${formatSize(event.size)}`);
          } else if (lastPercent !== undefined && now - lastPercent >= PERCENT_EVERY) {
            lastPercent = now;
            write(progressLine(now));
          }
          break;
      }
    },
  };
}
