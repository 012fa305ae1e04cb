/** At most so many at once; first come, first served. */
export interface Limiter {
  /**
   * Resolves to the function that gives the place back; calling it again does nothing. Rejects when `signal` aborts.
   * @param urgent takes a place although none is free
   */
  acquire(signal: AbortSignal, urgent?: boolean): Promise<() => void>;
  /** A place that nobody waits for, as `acquire()` gives it; undefined where there is none. */
  tryAcquire(): (() => void) | undefined;
  /** Whether tryAcquire() would give one. */
  hasIdle(): boolean;
}

export function createLimiter(places: number): Limiter {
  let free = Math.max(1, places);
  const waiting: (() => void)[] = [];
  const releaseOnce = (): (() => void) => {
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      free += 1;
      if (free <= 0) return;
      const next = waiting.shift();
      if (!next) return;
      free -= 1;
      next();
    };
  };
  return {
    // Whoever waits takes a place as soon as one is free: those that are left are wanted by nobody.
    hasIdle: () => free > 0,
    tryAcquire() {
      if (free <= 0) return undefined;
      free -= 1;
      return releaseOnce();
    },
    async acquire(signal, urgent = false) {
      signal.throwIfAborted();
      if (free > 0 || urgent) {
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
