/** A store filled with fixture images, and syncs of it, without the program. */
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Context } from '../../../core/context.ts';
import type { SealiftEvent } from '../../../core/events.ts';
import { DEFAULT_LIMITS } from '../../../core/limits.ts';
import { createWorkerPool } from '../../../core/pool/worker-pool.ts';
import type { OpenDestination } from '../../../core/publish/destination.ts';
import { openStaticDirectory } from '../../../core/publish/static-directory.ts';
import type { ImageRecord } from '../../../core/store/store.ts';
import { openStore } from '../../../core/store/store.ts';
import { type SyncOptions, type SyncResult, syncStore } from '../../../core/sync.ts';
import type { FixtureManifest } from '../../../fixtures/images.ts';
import { putBlobs, recordOf } from '../store/fill.ts';

export const NOW = new Date('2026-03-02T00:00:00Z');
export const HOUR = 3_600_000;

export interface Publishing {
  readonly directory: string;
  readonly store: string;
  readonly tree: string;
  readonly events: SealiftEvent[];
  context(now?: Date, signal?: AbortSignal): Context;
  /** Lets images in beside those that are there; a name that is there is moved. */
  admit(images: Readonly<Record<string, FixtureManifest>>, changes?: Partial<ImageRecord>): Promise<void>;
  withdraw(...names: string[]): Promise<void>;
  static(directory?: string): OpenDestination;
  /** Into the tree, unless another destination is named. */
  sync(options?: Partial<SyncOptions> & { readonly now?: Date }): Promise<SyncResult>;
  close(): Promise<void>;
}

export function makePublishing(): Publishing {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'publish-'));
  const store = path.join(directory, 'store');
  const tree = path.join(directory, 'tree');
  const pool = createWorkerPool({ size: 0 });
  const events: SealiftEvent[] = [];
  const change = async (work: (opened: Awaited<ReturnType<typeof openStore>>) => Promise<unknown>) => {
    const opened = await openStore(store, { create: true });
    const lock = await opened.lock(process.pid);
    try {
      await work(opened);
    } finally {
      await lock.release();
    }
  };
  const publishing: Publishing = {
    directory,
    store,
    tree,
    events,
    context: (now = NOW, signal = new AbortController().signal) => ({
      now,
      signal,
      emit: (event) => events.push(event),
      limits: DEFAULT_LIMITS,
      pool,
    }),
    admit: (images, changes) =>
      change(async (opened) => {
        await putBlobs(opened, Object.values(images));
        await opened.admit(Object.entries(images).map(([name, root]) => recordOf(name, root, changes)));
      }),
    withdraw: (...names) => change((opened) => opened.withdraw(names)),
    static:
      (to = tree) =>
      async (context) =>
        openStaticDirectory({ directory: to, pid: process.pid }, context),
    async sync({ now, ...options } = {}) {
      events.length = 0;
      return syncStore(
        {
          store,
          destinations: [publishing.static()],
          placement: {},
          dryRun: false,
          concurrency: 4,
          pid: process.pid,
          ...options,
        },
        publishing.context(now),
      );
    },
    async close() {
      await pool.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
  return publishing;
}
