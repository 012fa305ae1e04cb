/** Serving a store, and the trust metadata of the gate it was filled through. */
import { isSealiftError } from '../errors.ts';
import { type Gate, openGate } from '../gate/gate.ts';
import { DEFAULT_LIMITS } from '../limits.ts';
import { openStore } from '../store/store.ts';
import { type ServeOptions, serveRegistry } from './registry.ts';
import { createTrustMetadata, TRUST_PREFIX } from './trust-metadata.ts';

export interface ServeStoreOptions extends Omit<ServeOptions, 'store' | 'trust'> {
  /** Of the store. */
  readonly directory: string;
  /** Directory of the gate; nothing of one is served where it is absent, or where there is none. */
  readonly gate?: string | undefined;
}

export interface ServedStore {
  readonly url: string;
  readonly images: number;
  /** Where a TUF client finds the collections of the gate; absent where there is no gate. */
  readonly trustUrl?: string | undefined;
  /** Settles when the server has ended, after `signal`. */
  readonly closed: Promise<void>;
}

/**
 * Serves until `signal`.
 * @throws SealiftError `destination-failed`, `state-damaged`, `format-unsupported`
 */
export async function serveStore(options: ServeStoreOptions): Promise<ServedStore> {
  const { directory, gate: gateDirectory, signal } = options;
  const store = await openStore(directory, { create: false });
  const { images } = await store.list();
  const gate = gateDirectory === undefined ? undefined : await findGate(gateDirectory);
  const limits = options.limits ?? DEFAULT_LIMITS;
  const trust = gate && createTrustMetadata({ gate, store, limits });
  const server = await serveRegistry({ ...options, store, trust });
  const stopped = new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
  return {
    url: server.url,
    images: images.length,
    trustUrl: gate && `${server.url}${TRUST_PREFIX}`,
    closed: stopped.then(() => server.close()),
  };
}

async function findGate(directory: string): Promise<Gate | undefined> {
  try {
    return await openGate(directory, { create: false });
  } catch (error) {
    // A host that only serves has none.
    if (isSealiftError(error) && (error.code === 'not-pinned' || error.code === 'invalid-argument'))
      return undefined;
    throw error;
  }
}
