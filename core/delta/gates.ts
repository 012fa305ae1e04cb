/** Gates whose receipts a collection takes: `gates.json` in its directory. Written under the collection's lock. */
import path from 'node:path';
import { inert, SealiftError } from '../errors.ts';
import { checkFormat, formatTimestamp, parseDocument, SHA256_HEX, TIMESTAMP } from '../fs/document.ts';
import { readFileLimited, writeFileDurably } from '../fs/durable.ts';
import { canonicalJson } from '../json/canonical.ts';
import type { Receipt } from './receipt.ts';

const FORMAT = 1;
const MAX_BYTES = 1024 * 1024;

export interface PinnedGate {
  /** Key id. */
  readonly gate: string;
  readonly pinnedAt: string;
  /** Number of the newest receipt that was taken. */
  readonly number: number;
}

/** @throws SealiftError `state-damaged`, `format-unsupported` */
export async function readGates(directory: string): Promise<readonly PinnedGate[]> {
  const file = path.join(directory, 'gates.json');
  const bytes = await readFileLimited(file, MAX_BYTES);
  if (!bytes) return [];
  const hint = 'remove it and pin the gates again: sealift trust pin-gate RECEIPT --fingerprint SHA256';
  const document = parseDocument(bytes, { file, hint, maxBytes: MAX_BYTES });
  checkFormat(document, file, FORMAT, []);
  return document.objects('gates').map((item) => ({
    gate: item.string('gate', SHA256_HEX),
    pinnedAt: item.string('pinnedAt', TIMESTAMP),
    number: item.integer('number'),
  }));
}

async function writeGates(directory: string, gates: readonly PinnedGate[]): Promise<void> {
  const sorted = [...gates].sort((a, b) => (a.gate < b.gate ? -1 : 1));
  await writeFileDurably(
    path.join(directory, 'gates.json'),
    canonicalJson({ formatVersion: FORMAT, requires: [], gates: sorted.map((gate) => ({ ...gate })) }),
    'state',
  );
}

/** Takes receipts by the key `gate` from now on; resolves to false where it did before. */
export async function pinGate(directory: string, gate: string, now: Date): Promise<boolean> {
  const gates = await readGates(directory);
  if (gates.some((known) => known.gate === gate)) return false;
  await writeGates(directory, [...gates, { gate, pinnedAt: formatTimestamp(now), number: 0 }]);
  return true;
}

/** @throws SealiftError `gate-unknown` */
export function assertPinned(gates: readonly PinnedGate[], receipt: Receipt, file: string): PinnedGate {
  const known = gates.find(({ gate }) => gate === receipt.gate);
  if (known) return known;
  throw new SealiftError('gate-unknown', 'the receipt is by a gate that was never pinned here', {
    subject: inert(file, 4096),
    got: receipt.gate,
    want:
      gates.length === 0 ? 'a gate that was pinned; there is none' : gates.map(({ gate }) => gate).join(', '),
    hint: `have the fingerprint read out on the sealed side, then: sealift trust pin-gate ${inert(file, 4096)} --fingerprint SHA256`,
  });
}

/** Remembers that a receipt was taken. */
export async function noteReceipt(directory: string, receipt: Receipt): Promise<void> {
  const gates = await readGates(directory);
  await writeGates(
    directory,
    gates.map((known) =>
      known.gate === receipt.gate ? { ...known, number: Math.max(known.number, receipt.number) } : known,
    ),
  );
}
