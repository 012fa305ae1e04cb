/** What has arrived (docs/state.md): the last imports of a collection, in the gate, for receipts. Under the gate's lock. */
import path from 'node:path';
import { checkFormat, parseDocument, SHA256_HEX, TIMESTAMP } from '../fs/document.ts';
import { makeDirectory, readFileLimited, writeFileDurably } from '../fs/durable.ts';
import { canonicalJson } from '../json/canonical.ts';

const FORMAT = 1;
const MAX_BYTES = 1024 * 1024;
/** Imports that are remembered. */
export const REMEMBERED_ARRIVALS = 64;

export interface ImportRecord {
  readonly version: number;
  /** SHA-256 of sealift.json, lower-case hex. */
  readonly manifest: string;
  readonly at: string;
  /** Images that the bundle carried. */
  readonly images: number;
  /** Of these, how many were in the store afterwards. */
  readonly admitted: number;
  /** Of these, how many a policy refused. */
  readonly refused: number;
}

function fileOf(gate: string, collectionId: string): string {
  return path.join(gate, 'arrivals', `${collectionId}.json`);
}

/** Oldest first. @throws SealiftError `state-damaged`, `format-unsupported` */
export async function readArrivals(gate: string, collectionId: string): Promise<readonly ImportRecord[]> {
  const file = fileOf(gate, collectionId);
  const bytes = await readFileLimited(file, MAX_BYTES);
  if (!bytes) return [];
  const hint = 'remove it; receipts then know nothing of earlier imports';
  const document = parseDocument(bytes, { file, hint, maxBytes: MAX_BYTES });
  checkFormat(document, file, FORMAT, []);
  return document.objects('arrivals').map((item) => ({
    version: item.integer('version'),
    manifest: item.string('manifest', SHA256_HEX),
    at: item.string('at', TIMESTAMP),
    images: item.integer('images'),
    admitted: item.integer('admitted'),
    refused: item.integer('refused'),
  }));
}

/** Remembers an import; another one of the same version takes its place. */
export async function recordArrival(
  gate: string,
  collectionId: string,
  arrival: ImportRecord,
): Promise<void> {
  const file = fileOf(gate, collectionId);
  const before = await readArrivals(gate, collectionId);
  const kept = before.filter(({ version }) => version !== arrival.version);
  const arrivals = [...kept, arrival].slice(-REMEMBERED_ARRIVALS);
  const bytes = canonicalJson({
    formatVersion: FORMAT,
    requires: [],
    arrivals: arrivals.map((item) => ({ ...item })),
  });
  await makeDirectory(path.dirname(file), 'state');
  await writeFileDurably(file, bytes, 'state');
}

/**
 * The last bundle that carried images, where all of it was let in and what was accepted since carried none; undefined
 * where `accepted`, the last accepted one, was not imported to its end.
 */
export function lastWhole(
  imports: readonly ImportRecord[],
  accepted: { readonly version: number; readonly manifest: string } | undefined,
): ImportRecord | undefined {
  const at = imports.findIndex(
    ({ version, manifest }) => version === accepted?.version && manifest === accepted.manifest,
  );
  const last = imports.slice(0, at + 1).findLast(({ images }) => images > 0);
  return last && last.admitted === last.images ? last : undefined;
}
