/** Runs `work` over `items`, at most `limit` at once. The first failure stops the rest and is thrown once all have ended. */
export async function forEachLimited<T>(
  items: Iterable<T>,
  limit: number,
  signal: AbortSignal,
  work: (item: T, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const failed = new AbortController();
  const both = AbortSignal.any([signal, failed.signal]);
  const iterator = items[Symbol.iterator]();
  let failure: { error: unknown } | undefined;
  async function lane(): Promise<void> {
    while (!failure) {
      both.throwIfAborted();
      const next = iterator.next();
      if (next.done) return;
      await work(next.value, both);
    }
  }
  await Promise.all(
    Array.from({ length: Math.max(1, limit) }, () =>
      lane().catch((error: unknown) => {
        // The others fail because they are stopped; only the first failure tells anything.
        failure ??= { error };
        failed.abort();
      }),
    ),
  );
  if (failure) {
    signal.throwIfAborted();
    throw failure.error;
  }
}

/** As `forEachLimited`, with results in the order of the items. */
export async function mapLimited<T, R>(
  items: readonly T[],
  limit: number,
  signal: AbortSignal,
  work: (item: T, signal: AbortSignal) => Promise<R>,
): Promise<R[]> {
  const results: R[] = new Array(items.length);
  await forEachLimited(items.entries(), limit, signal, async ([index, item], inner) => {
    results[index] = await work(item, inner);
  });
  return results;
}

/** A bound on how many run at once across independent callers. */
export function createSemaphore(limit: number): <T>(work: () => Promise<T>) => Promise<T> {
  let running = 0;
  const waiting: (() => void)[] = [];
  return async (work) => {
    if (running >= limit) await new Promise<void>((resolve) => waiting.push(resolve));
    else running += 1;
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else running -= 1;
    }
  };
}
