/** What unexpired receipts list stays in the store (docs/state.md): notes in `.sealift/receipts`, under the store's lock. */
import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { checkFormat, formatTimestamp, parseDocument, SHA256_HEX, TIMESTAMP } from '../fs/document.ts';
import { makeDirectory, readFileLimited, writeFileDurably } from '../fs/durable.ts';
import { canonicalJson } from '../json/canonical.ts';
import { type Digest, isDigest } from '../oci/digest.ts';

const FORMAT = 1;
const MAX_NOTE = 128 * 1024 * 1024;
const NOTE = /^[0-9a-f]{64}\.json$/;

export interface ReceiptNote {
  /** SHA-256 of the receipt. */
  readonly receipt: string;
  readonly collection: string;
  readonly expires: string;
  readonly layers: readonly Digest[];
}

const homeOf = (store: string) => path.join(store, '.sealift', 'receipts');

export async function noteKept(store: string, note: ReceiptNote): Promise<void> {
  const home = homeOf(store);
  await makeDirectory(home);
  await writeFileDurably(
    path.join(home, `${note.receipt}.json`),
    canonicalJson({ formatVersion: FORMAT, requires: [], ...note, layers: [...note.layers] }),
  );
}

/**
 * Layers that receipts list which have not expired.
 * @param forget removes the notes of those that have
 * @throws SealiftError `state-damaged`, `format-unsupported`: then nothing may be removed
 */
export async function keptByReceipts(store: string, now: Date, forget: boolean): Promise<readonly Digest[]> {
  const home = homeOf(store);
  const names = await readdir(home).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  const kept = new Set<Digest>();
  for (const name of names) {
    if (!NOTE.test(name)) continue;
    const file = path.join(home, name);
    const bytes = await readFileLimited(file, MAX_NOTE);
    if (!bytes) continue;
    const hint =
      'remove it; what the receipt lists may then be removed too, and a delta made with it asks for its base';
    const document = parseDocument(bytes, { file, hint, maxBytes: MAX_NOTE });
    checkFormat(document, file, FORMAT, []);
    document.string('collection', SHA256_HEX);
    // Both are spelt alike, so that the order of the texts is that of the times.
    if (document.string('expires', TIMESTAMP) <= formatTimestamp(now)) {
      if (forget) await rm(file, { force: true });
      continue;
    }
    for (const digest of document.strings('layers')) {
      if (!isDigest(digest)) throw document.damaged('malformed digest');
      kept.add(digest);
    }
  }
  return [...kept];
}
