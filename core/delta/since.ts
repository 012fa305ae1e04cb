/** What `--since` says the other side holds. Whatever it is, a wrong answer costs a bundle that asks for its base. */
import { createHash } from 'node:crypto';
import { encodeBundleManifest } from '../bundle/manifest.ts';
import { readClaims } from '../claims.ts';
import type { Context } from '../context.ts';
import { inert, SealiftError } from '../errors.ts';
import { blobPath, type Digest } from '../oci/digest.ts';
import type { Collection } from '../trust/collection.ts';
import type { SinceSpec } from '../workflow-options.ts';
import { lastWhole } from './arrivals.ts';
import { parseCode } from './code.ts';
import { assertPinned, noteReceipt, readGates } from './gates.ts';
import { type Ledger, layersOf, openLedger, type PastExport } from './ledger.ts';
import { assertCurrent, isReceiptFile, keyedHash, type Receipt, readReceipt } from './receipt.ts';

/** What the other side holds. */
export interface Held {
  readonly version: number;
  has(digest: Digest): boolean;
}

/**
 * @param remember writes down what is confirmed; the collection's lock is held then
 * @throws SealiftError `code-unknown`; `fork`, `rollback` where the other side accepted what this collection did not
 *   make; `receipt-mismatch` for another collection's; and what a malformed file gives
 */
export async function resolveSince(
  collection: Collection,
  since: SinceSpec,
  context: Context,
  remember = true,
): Promise<Held> {
  const ledger = openLedger(collection.directory, collection.id);
  switch (since.kind) {
    case 'last':
      return heldAfterLast(collection, ledger, context);
    case 'code': {
      const past = await exportOfCode(ledger, since.code);
      if (remember) await ledger.confirm({ by: 'code', version: past.version }, context.now);
      return heldBy(past);
    }
    case 'base-of':
      return heldByBaseOf(collection, since.bundles, context);
    case 'file':
      if (await isReceiptFile(since.path))
        return heldByReceipt(collection, ledger, since.path, context, remember);
      return heldByBundle(collection, ledger, since.path, context);
  }
}

function heldBy({ version, layers }: Pick<PastExport, 'version' | 'layers'>): Held {
  const digests = new Set<string>(layers.map(({ digest }) => digest));
  return { version, has: (digest) => digests.has(digest) };
}

/**
 * The newest export of each image of the collection: what is there when all of them have arrived. A bundle of a few
 * images, or of metadata only, takes nothing away from what came before.
 */
async function heldAfterLast(collection: Collection, ledger: Ledger, context: Context): Promise<Held> {
  const open = new Set(collection.images.keys());
  const layers: PastExport['layers'][number][] = [];
  let newest: number | undefined;
  for (const version of [...(await ledger.versions())].reverse()) {
    if (open.size === 0) break;
    const past = await ledger.read(version);
    if (!past?.images.some(({ name }) => open.has(name))) continue;
    for (const { name } of past.images) open.delete(name);
    for (const layer of past.layers) layers.push(layer);
    newest ??= version;
  }
  if (newest === undefined) {
    throw new SealiftError('code-unknown', 'no export of this collection is remembered', {
      subject: '--since',
      hint: 'export without --since first, or name the bundle: --since FILE',
    });
  }
  const confirmed = Math.max(0, ...(await ledger.confirmed()).map((known) => known.version));
  if (confirmed < newest) {
    context.emit({
      type: 'notice',
      level: 'info',
      code: 'base-unconfirmed',
      message: `nothing has confirmed that version ${newest} arrived; if it did not, the import will ask for it`,
    });
  }
  return heldBy({ version: newest, layers });
}

async function exportOfCode(ledger: Ledger, text: string): Promise<PastExport> {
  const { code, version } = parseCode(text);
  const past = await ledger.read(version);
  if (past?.code === code) return past;
  const known = await ledger.versions();
  throw new SealiftError(
    'code-unknown',
    past
      ? `the code is not that of version ${version} as it was exported here`
      : `no export with the version ${version} is remembered`,
    {
      subject: '--since',
      got: code,
      hint: past
        ? 'have it read out again; if it is right, the other side accepted a bundle that a copy of this collection made'
        : `remembered: ${known.length === 0 ? 'none' : known.slice(-8).join(', ')}; name the bundle instead: --since FILE`,
    },
  );
}

/**
 * What deltas of this collection leave out; of several with another base each, from the oldest base on.
 * @throws SealiftError `invalid-argument` where none of them is a delta
 */
async function heldByBaseOf(
  collection: Collection,
  bundles: readonly string[],
  context: Context,
): Promise<Held> {
  const missing = new Set<string>();
  let oldest = Number.POSITIVE_INFINITY;
  for (const file of bundles) {
    const { collectionId, manifest } = await readClaims(file, context);
    if (!manifest.base) continue;
    assertCollection(collection, collectionId, file);
    oldest = Math.min(oldest, manifest.base.version);
    for (const { name } of manifest.base.missing) missing.add(name);
  }
  if (missing.size > 0) return { version: oldest, has: (digest) => missing.has(blobPath(digest)) };
  throw new SealiftError('invalid-argument', 'no bundle that was given is a delta', {
    subject: '--keep-delta',
    hint: 'leave --keep-delta out: nothing is missing',
  });
}

/**
 * A receipt that this collection may act on: by a pinned gate, about this collection, not expired, about a version that
 * was made here.
 * @throws SealiftError `receipt-invalid`, `signature-invalid`, `gate-unknown`, `receipt-mismatch`, `receipt-expired`,
 *   `fork`, `rollback`
 */
export async function openReceipt(
  collection: Collection,
  ledger: Ledger,
  file: string,
  context: Context,
): Promise<{ readonly receipt: Receipt; readonly newest: number }> {
  const receipt = await readReceipt(file);
  const known = assertPinned(await readGates(collection.directory), receipt, file);
  assertCollection(collection, receipt.collection.id, file);
  assertCurrent(receipt, context.now, file);
  if (receipt.accepted) await assertOurs(collection, ledger, receipt.accepted, file);
  return { receipt, newest: known.number };
}

async function heldByReceipt(
  collection: Collection,
  ledger: Ledger,
  file: string,
  context: Context,
  remember: boolean,
): Promise<Held> {
  const { receipt, newest } = await openReceipt(collection, ledger, file, context);
  const { accepted, gate, number, nonce, blobs } = receipt;
  if (number < newest) {
    context.emit({
      type: 'notice',
      level: 'warning',
      code: 'receipt-older',
      message: `receipt ${number} is older than receipt ${newest} of the same gate, which was taken before`,
    });
  }
  const arrived = lastWhole(receipt.imports, accepted);
  if (remember) await noteReceipt(collection.directory, receipt);
  if (remember && arrived) await ledger.confirm({ by: gate, version: arrived.version }, context.now);
  return { version: accepted?.version ?? 0, has: (digest) => blobs.has(keyedHash(nonce, 'blob', digest)) };
}

/** A bundle of this collection: its signatures must be good, its age is no matter. */
async function heldByBundle(
  collection: Collection,
  ledger: Ledger,
  file: string,
  context: Context,
): Promise<Held> {
  const { collectionId, manifest } = await readClaims(file, context);
  assertCollection(collection, collectionId, file);
  const hash = createHash('sha256').update(encodeBundleManifest(manifest)).digest('hex');
  await assertOurs(collection, ledger, { version: manifest.version, manifest: hash }, file);
  return heldBy({ version: manifest.version, layers: layersOf(manifest) });
}

/** @throws SealiftError `receipt-mismatch` */
export function assertCollection(collection: Collection, id: string, file: string): void {
  if (id === collection.id) return;
  throw new SealiftError('receipt-mismatch', 'it is of another collection', {
    subject: inert(file, 4096),
    got: id,
    want: collection.id,
    hint: 'name the collection it belongs to with --collection',
  });
}

/**
 * A version that was accepted there must be one that was made here.
 * @throws SealiftError `rollback` where it is ahead of this collection, `fork` where it has other content
 */
export async function assertOurs(
  collection: Collection,
  ledger: Ledger,
  accepted: { readonly version: number; readonly manifest: string },
  file: string,
): Promise<void> {
  const current = collection.state.timestamp.version;
  if (accepted.version > current) {
    throw new SealiftError(
      'rollback',
      `it is about version ${accepted.version}, and this collection is at ${current}: a gate would refuse what is exported here`,
      {
        subject: inert(file, 4096),
        got: accepted.version,
        want: `at most ${current}`,
        hint: 'this directory is an older copy of the collection: use the newest one',
      },
    );
  }
  const past = await ledger.read(accepted.version);
  if (past && past.manifest !== accepted.manifest) {
    throw new SealiftError(
      'fork',
      `version ${accepted.version} there is not the one that was exported here`,
      {
        subject: inert(file, 4096),
        got: accepted.manifest,
        want: past.manifest,
        hint: 'a copy of this collection has exported too: find out who, and replace the keys if nobody should have: sealift trust key rotate',
      },
    );
  }
}
