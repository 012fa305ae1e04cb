/** At most so many at once; first come, first served. */
export interface Limiter {
  /** Resolves to the function that gives the place back; calling it again does nothing. Rejects when `signal` aborts. */
  acquire(signal: AbortSignal): Promise<() => void>;
}

export function createLimiter(places: number): Limiter {
  let free = Math.max(1, places);
  const waiting: (() => void)[] = [];
  const releaseOnce = (): (() => void) => {
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      const next = waiting.shift();
      if (next) next();
      else free += 1;
    };
  };
  return {
    async acquire(signal) {
      signal.throwIfAborted();
      if (free > 0) {
        free -= 1;
        return releaseOnce();
      }
      return new Promise((resolve, reject) => {
        const start = () => {
          signal.removeEventListener('abort', abort);
          resolve(releaseOnce());
        };
        const abort = () => {
          waiting.splice(waiting.indexOf(start), 1);
          reject(signal.reason as Error);
        };
        waiting.push(start);
        signal.addEventListener('abort', abort, { once: true });
      });
    },
  };
}
