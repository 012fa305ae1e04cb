/**
 * What the gate knows of a destination that is filled straight from bundles (docs/state.md, "Destinations"): which images
 * were let in there, and their manifests. It is a store without layers, because those lie at the destination, which is
 * never asked what ought to be in it.
 */
import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { checkFormat, parseDocument } from '../fs/document.ts';
import { makeDirectory, readFileLimited, writeFileDurably } from '../fs/durable.ts';
import type { Lock } from '../fs/lock.ts';
import { canonicalJson } from '../json/canonical.ts';
import type { Limits } from '../limits.ts';
import type { Digest } from '../oci/digest.ts';
import type { PlacementOptions } from '../publish/placement.ts';
import type { GraphReader } from '../store/graph.ts';
import { type ImageRecord, openStore } from '../store/store.ts';

const FORMAT = 1;
const MAX_FILE = 1024 * 1024;

export interface Ledger {
  readonly directory: string;
  /** The destination, and at which server. */
  readonly identity: string;
  readonly placement: PlacementOptions;
  /** Ascending by name. */
  readonly records: readonly ImageRecord[];
  /** Manifests of the records. What an index lists counts as there, unless it is known to have been left out. */
  readonly reader: GraphReader;
  has(digest: Digest, size: number): Promise<boolean>;
  /** Holds a manifest or small piece of evidence for what is let in next. */
  hold(digest: Digest, bytes: Uint8Array): Promise<void>;
  /** Images come and names go in one durable step, and with them where they are placed. */
  commit(
    changed: readonly ImageRecord[],
    withdrawn: readonly string[],
    placement: PlacementOptions,
  ): Promise<void>;
  close(): Promise<void>;
}

export interface LedgerOptions {
  readonly limits: Limits;
  /** Makes it where there is none, and takes its lock: number of this process. Without it, it is only read. */
  readonly pid?: number | undefined;
}

function directoryOf(gate: string, identity: string): string {
  const key = createHash('sha256').update(identity, 'utf8').digest('hex');
  return path.join(gate, 'destinations', key);
}

/**
 * The ledger of a destination; undefined where there is none and none is to be made.
 * @throws SealiftError `state-damaged`, `format-unsupported`, `destination-locked`
 */
export async function openLedger(
  gate: string,
  identity: string,
  options: LedgerOptions,
): Promise<Ledger | undefined> {
  const { limits, pid } = options;
  const directory = directoryOf(gate, identity);
  const file = path.join(directory, 'destination.json');
  const bytes = await readFileLimited(file, MAX_FILE);
  if (!bytes && pid === undefined) return undefined;
  const placement = bytes ? parsePlacement(bytes, file) : {};
  if (!bytes) {
    await makeDirectory(directory, 'state');
    await writeFileDurably(file, encode(identity, {}));
  }
  const store = await openStore(path.join(directory, 'admitted'), { create: pid !== undefined, limits });
  const lock: Lock | undefined = pid === undefined ? undefined : await store.lock(pid);
  const { images } = await store.list();
  const omitted = new Set<string>(images.flatMap((record) => record.omitted));
  const isHere = async (digest: Digest): Promise<boolean> => {
    const blob = await store.openBlob(digest);
    await blob?.handle.close();
    return blob !== undefined;
  };
  return {
    directory,
    identity,
    placement,
    records: images,
    reader: {
      exists: async (digest) => !omitted.has(digest) || (await isHere(digest)),
      read: (digest, max) => store.readBlob(digest, max),
    },
    has: (digest, size) => store.has(digest, size),
    hold: (digest, content) => store.putBytes(digest, content),
    async commit(changed, withdrawn, placed) {
      const before = await readFileLimited(file, MAX_FILE);
      const now = encode(identity, placed);
      if (!before?.equals(now)) await writeFileDurably(file, now);
      if (changed.length + withdrawn.length === 0) return;
      await store.admit(changed, { withdraw: withdrawn });
      // Manifests of what was there before are of no use any more.
      await store.gc({ dryRun: false });
    },
    async close() {
      await lock?.release();
    },
  };
}

/** Places that are filled straight from bundles, as they were written down. */
export async function listLedgers(gate: string): Promise<readonly string[]> {
  const folder = path.join(gate, 'destinations');
  const names = await readdir(folder).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  });
  const identities: string[] = [];
  for (const name of names.sort()) {
    const file = path.join(folder, name, 'destination.json');
    const bytes = await readFileLimited(file, MAX_FILE);
    if (bytes) identities.push(parse(bytes, file).string('destination'));
  }
  return identities;
}

function encode(identity: string, { prefix, map = [] }: PlacementOptions): Buffer {
  return canonicalJson({
    formatVersion: FORMAT,
    requires: [],
    destination: identity,
    ...(prefix !== undefined && { prefix }),
    map: map.map(({ from, to }) => ({ from, to })),
  });
}

function parse(bytes: Uint8Array, file: string) {
  const hint = 'restore it from a backup; or remove its directory and import the newest bundle again';
  const document = parseDocument(bytes, { file, hint, maxBytes: MAX_FILE });
  checkFormat(document, file, FORMAT, []);
  return document;
}

function parsePlacement(bytes: Uint8Array, file: string): PlacementOptions {
  const document = parse(bytes, file);
  return {
    prefix: document.optionalString('prefix'),
    map: document.objects('map').map((item) => ({ from: item.string('from'), to: item.string('to') })),
  };
}
