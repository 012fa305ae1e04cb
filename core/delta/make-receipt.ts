/** Makes receipts on the sealed side: what of a collection is in the store, signed by the gate's own key. */
import { createHash, randomBytes } from 'node:crypto';
import path from 'node:path';
import type { Context } from '../context.ts';
import { inert, isSealiftError, SealiftError } from '../errors.ts';
import { checkFormat, formatTimestamp, parseDocument } from '../fs/document.ts';
import { fsyncDirectory, makeDirectory, readFileLimited, writeFileDurably } from '../fs/durable.ts';
import { type Gate, type KeptState, openGate } from '../gate/gate.ts';
import { readGatePolicy } from '../gate/policy-file.ts';
import { canonicalJson } from '../json/canonical.ts';
import type { Digest } from '../oci/digest.ts';
import { parseManifest } from '../oci/manifest.ts';
import { isIndexType, isManifestType } from '../oci/media-types.ts';
import type { ReceiptResult, ReceiptSummary } from '../results.ts';
import { type ImageRecord, openStore, type Store } from '../store/store.ts';
import { type GateKey, makeGateKey, openGateKey } from '../trust/gate-key.ts';
import { BUNDLE_PREFIX, parseTargets } from '../trust/metadata.ts';
import { mapLimited } from '../util/concurrency.ts';
import { lastWhole, readArrivals } from './arrivals.ts';
import type { Shortfall } from './base.ts';
import { paperCode } from './code.ts';
import { noteKept } from './kept.ts';
import {
  encodeReceipt,
  isReceiptFile,
  keyedHash,
  MAX_LIFETIME,
  parseReceipt,
  type Receipt,
  type ReceiptContent,
} from './receipt.ts';

const LANES = 16;
const KEY_FORMAT = 1;
const MAX_KEY = 64 * 1024;
export const DEFAULT_RECEIPT_LIFETIME = 90 * 24 * 60 * 60 * 1000;

export interface ReceiptOptions {
  readonly gate: string;
  readonly store: string;
  /** Id of a pinned collection, the beginning of it, or its name; the only one unless given. */
  readonly collection?: string | undefined;
  /** Milliseconds. */
  readonly lifetime: number;
  /** Where the receipt goes; without it only its code is of use. */
  readonly output?:
    | { readonly kind: 'file'; readonly path: string; readonly force: boolean }
    | { readonly kind: 'stream'; readonly stream: NodeJS.WritableStream }
    | undefined;
  readonly pid: number;
  readonly actor: string;
}

/**
 * Makes a receipt, notes in the store what it lists, so that no garbage collection takes it away before it expires, and
 * enters it in the audit log before it goes out.
 * @throws SealiftError `not-pinned`, `store-not-found`, `invalid-argument`, `destination-exists`, `policy-missing`
 */
export async function makeReceipt(options: ReceiptOptions, context: Context): Promise<ReceiptResult> {
  if (!(options.lifetime > 0 && options.lifetime <= MAX_LIFETIME)) {
    throw new SealiftError('invalid-argument', 'a receipt is good for at most 400 days', {
      subject: '--expires',
    });
  }
  const { output } = options;
  if (output?.kind === 'file' && !output.force) await refuseOther(output.path);
  const gate = await openGate(options.gate, { create: false });
  const gateLock = await gate.lock(options.pid);
  try {
    const state = chooseCollection(await gate.collections(), options.collection);
    const store = await openStore(options.store, { create: false, limits: context.limits });
    const storeLock = await store.lock(options.pid);
    try {
      const place = output?.kind === 'file' ? output.path : output ? '-' : undefined;
      const made = await issueReceipt(gate, store, state, { ...options, place }, context);
      if (output?.kind === 'file') {
        await makeDirectory(path.dirname(output.path));
        await writeFileDurably(output.path, made.bytes);
      } else if (output) {
        await new Promise<void>((resolve, reject) => {
          output.stream.write(made.bytes, (error) => (error ? reject(error) : resolve()));
        });
      }
      return made.result;
    } finally {
      await storeLock.release();
    }
  } finally {
    await gateLock.release();
  }
}

/** A request for what a delta wants and the store has not; the caller holds both locks. */
export async function writeRequest(
  gate: Gate,
  store: Store,
  collectionId: string,
  shortfall: Shortfall,
  options: { readonly file: string; readonly actor: string },
  context: Context,
): Promise<void> {
  const state = await gate.kept(collectionId);
  if (!state) throw new SealiftError('internal', 'a judged collection is not in the gate');
  await refuseOther(options.file);
  const { bytes } = await issueReceipt(
    gate,
    store,
    state,
    { lifetime: DEFAULT_RECEIPT_LIFETIME, actor: options.actor, place: options.file, shortfall },
    context,
  );
  await writeFileDurably(options.file, bytes);
}

/** A receipt is replaced by the next one; anything else is not. @throws SealiftError `destination-exists` */
async function refuseOther(file: string): Promise<void> {
  const there = await readFileLimited(file, 1).catch(() => Buffer.alloc(1));
  if (!there || (await isReceiptFile(file))) return;
  throw new SealiftError('destination-exists', 'there is something else at that place already', {
    subject: inert(file, 4096),
    hint: 'choose another name',
  });
}

function chooseCollection(states: readonly KeptState[], wanted: string | undefined): KeptState {
  const found = states.filter(
    ({ collectionId, collectionName }) =>
      wanted === undefined || collectionId.startsWith(wanted.toLowerCase()) || collectionName === wanted,
  );
  const [only, other] = found;
  const known = states.map(
    ({ collectionId, collectionName }) => `${collectionId} (${inert(collectionName)})`,
  );
  if (!only) {
    throw new SealiftError('not-pinned', 'no such collection is pinned in this gate', {
      subject: wanted === undefined ? undefined : inert(wanted),
      hint:
        known.length === 0
          ? 'pin one: sealift trust pin BUNDLE --fingerprint SHA256'
          : `pinned: ${known.join(', ')}`,
    });
  }
  if (other) {
    throw new SealiftError('invalid-argument', 'a receipt is about one collection, and several are meant', {
      subject: wanted === undefined ? undefined : inert(wanted),
      hint: `name one of: ${known.join(', ')}`,
    });
  }
  return only;
}

interface Issue {
  readonly lifetime: number;
  readonly actor: string;
  /** For the audit log. */
  readonly place: string | undefined;
  readonly shortfall?: Shortfall | undefined;
}

async function issueReceipt(
  gate: Gate,
  store: Store,
  state: KeptState,
  { lifetime, actor, place, shortfall }: Issue,
  context: Context,
): Promise<{ readonly bytes: Buffer; readonly result: ReceiptResult }> {
  const { collectionId } = state;
  const { now } = context;
  context.emit({ type: 'phase', phase: 'receipt', title: 'looking at what has arrived' });
  const { images } = await store.list();
  const mine = images.filter((record) => record.collectionId === collectionId);
  const layers = await layersInStore(store, mine, context);
  const imports = await readArrivals(gate.directory, collectionId);
  const accepted = acceptedBundle(state, context);
  const made = new Date(Math.max(now.getTime(), Date.parse(state.clockFloor ?? '') || 0));
  const expires = formatTimestamp(new Date(made.getTime() + lifetime));
  const key = await takeKey(gate.directory);
  const nonce = randomBytes(32).toString('hex');
  const policy = await readGatePolicy(gate.directory);
  const content: ReceiptContent = {
    number: key.number,
    collection: { id: collectionId, name: state.collectionName },
    created: formatTimestamp(made),
    expires,
    pin: {
      fingerprint: state.pin.fingerprint,
      rootVersion: state.pin.rootVersion,
      scopes: state.pin.scopes,
    },
    root: { version: state.root.version, fingerprint: state.root.fingerprint },
    accepted,
    imports,
    policy: policy?.sha256,
    auditHead: await gate.auditHead(),
    nonce,
    images: new Set(mine.map(({ name, digest }) => keyedHash(nonce, 'image', `${name}@${digest}`))),
    blobs: new Set(layers.map((digest) => keyedHash(nonce, 'blob', digest))),
    request: shortfall && {
      version: shortfall.version,
      images: shortfall.images.length,
      blobs: shortfall.blobs,
      bytes: shortfall.bytes,
    },
  };
  const bytes = encodeReceipt(content, key);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  await noteKept(store.directory, { receipt: sha256, collection: collectionId, expires, layers });
  const auditHead = await gate.audit({
    now,
    actor,
    event: 'receipt',
    fields: {
      collection: collectionId,
      number: key.number,
      sha256,
      expires,
      images: mine.length,
      layers: layers.length,
      gate: key.keyId,
      ...(place === undefined ? {} : { output: place }),
      ...(shortfall ? { request: shortfall.version } : {}),
    },
  });
  const whole = lastWhole(imports, accepted);
  const code =
    whole && paperCode({ collection: collectionId, version: whole.version, manifest: whole.manifest });
  return {
    bytes,
    result: {
      ...(place === undefined ? {} : { output: place }),
      size: bytes.length,
      sha256,
      ...(code === undefined ? {} : { code }),
      newKey: key.isNew,
      receipt: summariseReceipt(parseReceipt(bytes, place ?? 'the new receipt')),
      auditHead,
    },
  };
}

/** The last accepted bundle as the gate keeps it; its manifest is named by the role that signs bundles. */
function acceptedBundle(state: KeptState, context: Context): ReceiptContent['accepted'] {
  const { version, expires, clockFloor, collectionId } = state;
  const bytes = state.delegated.get('bundles');
  if (version === undefined || expires === undefined || clockFloor === undefined || !bytes) return undefined;
  const role = parseTargets(bytes, { role: 'bundles', limits: context.limits, strict: true });
  const manifest = role.targets.get(`${BUNDLE_PREFIX}${collectionId}/${version}.json`)?.hashes.get('sha256');
  return manifest === undefined ? undefined : { version, expires, manifest, clockFloor };
}

/** Layers of these images that are there with the right size. What cannot be read is not listed, and travels again. */
async function layersInStore(
  store: Store,
  records: readonly ImageRecord[],
  context: Context,
): Promise<readonly Digest[]> {
  const sizes = new Map<Digest, number>();
  const seen = new Set<Digest>();
  await mapLimited(records, LANES, context.signal, async (record) => {
    const open = [record.digest];
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      if (seen.has(next)) continue;
      seen.add(next);
      try {
        const bytes = await store.readBlob(next, context.limits.manifest);
        const manifest = parseManifest(bytes, { digest: next, limits: context.limits });
        for (const { digest, size } of manifest.layers) sizes.set(digest, size);
        for (const { digest, size, mediaType } of manifest.manifests) {
          if (isManifestType(mediaType) || isIndexType(mediaType)) open.push(digest);
          else sizes.set(digest, size);
        }
      } catch (error) {
        if (!isSealiftError(error)) throw error;
      }
    }
  });
  const there = await mapLimited([...sizes], LANES, context.signal, async ([digest, size]) =>
    (await store.has(digest, size)) ? digest : undefined,
  );
  return there.filter((digest) => digest !== undefined).sort();
}

/** The gate's key, made where there is none, with the next number; the number is taken durably. */
async function takeKey(
  gate: string,
): Promise<GateKey & { readonly number: number; readonly isNew: boolean }> {
  const file = path.join(gate, 'receipt-key.json');
  const bytes = await readFileLimited(file, MAX_KEY);
  let key: GateKey;
  let number = 1;
  if (bytes) {
    const hint =
      'restore it from a backup; or remove it: a new key is made, which the other side must pin again';
    const document = parseDocument(bytes, { file, hint, maxBytes: MAX_KEY });
    checkFormat(document, file, KEY_FORMAT, []);
    key = openGateKey(Buffer.from(document.string('key', /^[A-Za-z0-9+/=]+$/), 'base64'), file);
    number = document.integer('number') + 1;
  } else {
    key = makeGateKey();
  }
  await writeFileDurably(
    file,
    canonicalJson({ formatVersion: KEY_FORMAT, requires: [], key: key.secret.toString('base64'), number }),
    'state',
  );
  await fsyncDirectory(gate);
  return { ...key, number, isNew: !bytes };
}

/** A receipt as results show it: counts instead of lists. */
export function summariseReceipt(receipt: Receipt): ReceiptSummary {
  const { images, blobs, nonce: _nonce, generator: _generator, ...rest } = receipt;
  return { ...rest, images: images.size, blobs: blobs.size };
}
