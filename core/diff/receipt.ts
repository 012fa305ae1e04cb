/** What a bundle or an image would bring to the gate that wrote a receipt: the receipt can be matched, not read. */
import { keyedHash, type Receipt, readReceipt } from '../delta/receipt.ts';
import { inert, SealiftError } from '../errors.ts';
import type { ContentBlob } from '../transport/collect.ts';
import { sizesOf } from './image.ts';
import type { DiffResult } from './result.ts';
import type { Side } from './side.ts';

/**
 * @param file the receipt; its signature is checked, by whatever gate it is
 * @throws SealiftError `receipt-invalid`, `signature-invalid`; `receipt-mismatch` where the bundle is of another collection
 */
export async function diffReceipt(file: string, after: Side): Promise<DiffResult> {
  const receipt = await readReceipt(file);
  const { collection } = after.facts;
  if (collection && collection.id !== receipt.collection.id) {
    throw new SealiftError('receipt-mismatch', 'the receipt is of another collection', {
      subject: inert(file, 4096),
      got: receipt.collection.id,
      want: collection.id,
    });
  }
  const has = (name: string, digest: string) =>
    receipt.images.has(keyedHash(receipt.nonce, 'image', `${name}@${digest}`));
  const bytesOf = sizesOf(after, (blob) => held(blob, receipt));
  const brought = after.images.map((image) => {
    const { name, platforms, manifest } = image;
    return { name, digest: manifest.digest, platforms, bytes: bytesOf(image) };
  });
  const names = new Set(brought.map(({ name }) => name));
  return {
    before: factsOf(receipt, file),
    after: after.facts,
    added: brought.filter(({ name, digest }) => !has(name, digest)),
    unchanged: brought
      .filter(({ name, digest }) => has(name, digest))
      .map(({ name, digest }) => ({ name, digest })),
    withdrawn: [...after.withdrawn].flatMap(([name, { digest, reason, at }]) =>
      has(name, digest) ? [{ name, digest, reason, at }] : [],
    ),
    notCarried: [...(after.spokenFor ?? [])].flatMap(([name, digest]) =>
      !names.has(name) && has(name, digest) ? [{ name, digest, moved: false }] : [],
    ),
    removed: [],
    moved: [],
    evidenceChanged: [],
    ...countBlobs(after, receipt),
  };
}

function factsOf(receipt: Receipt, file: string): DiffResult['before'] {
  const { accepted, collection } = receipt;
  return {
    location: inert(file, 4096),
    kind: 'receipt',
    ...(accepted
      ? { collection: { ...collection, version: accepted.version, expires: accepted.expires } }
      : {}),
    images: receipt.images.size,
  };
}

/** Receipts list layers; everything else of an image travels in every bundle. */
function held(blob: ContentBlob, receipt: Receipt): boolean {
  return blob.kind === 'layer' && receipt.blobs.has(keyedHash(receipt.nonce, 'blob', blob.digest));
}

function countBlobs(side: Side, receipt: Receipt): Pick<DiffResult, 'carry' | 'shared'> {
  const carry = { blobs: 0, bytes: 0 };
  const shared = { blobs: 0, bytes: 0 };
  for (const blob of side.content.blobs.values()) {
    const sum = held(blob, receipt) ? shared : carry;
    sum.blobs += 1;
    sum.bytes += blob.size;
  }
  return { carry, shared };
}
