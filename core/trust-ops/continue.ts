/** Going on with a collection whose machine is gone, from a bundle that it made. */
import path from 'node:path';
import { readClaims } from '../claims.ts';
import type { Context } from '../context.ts';
import { readReceipt } from '../delta/receipt.ts';
import { inert, isSealiftError, SealiftError } from '../errors.ts';
import { metadataFiles } from '../judge.ts';
import { assertFree, keysOfRole, openCollection, placeCollection } from '../trust/collection.ts';
import { formatDate, TOP_LEVEL_ROLES } from '../trust/metadata.ts';
import type { KeyAccess } from '../workflow-options.ts';
import { type HeldKey, importKey, listKeys } from './keys.ts';

export interface ContinueOptions extends KeyAccess {
  /** The newest bundle there is. */
  readonly bundle: string;
  /** Of one of its roots, from another way than the bundle. */
  readonly fingerprint: string;
  readonly directory: string;
  /** Secret keys: files, or `gpg:FINGERPRINT`. */
  readonly keys: readonly string[];
  /** The highest version that any gate has accepted, where that may be a later one than the bundle's. */
  readonly lastVersion?: number | undefined;
  /** Receipts of gates, which tell that version themselves; pinned or not, they can only raise it a little. */
  readonly receipts?: readonly string[] | undefined;
  readonly pid: number;
}

export interface ContinueResult {
  readonly directory: string;
  readonly id: string;
  readonly name: string;
  /** Of the bundle. */
  readonly version: number;
  readonly created: string;
  /** The next bundle has a higher one. */
  readonly lastVersion: number;
  readonly rootFingerprint: string;
  readonly images: number;
  /** The bundle is past its end: what it says was right when it was made. */
  readonly expired: boolean;
  readonly keys: readonly HeldKey[];
  /** Roles of which too few keys are here. */
  readonly unsigned: readonly string[];
}

/** Numbers behind it have room for more exports than anybody makes. */
const MAX_LAST_VERSION = Number.MAX_SAFE_INTEGER - 1_000_000;
/** Versions that a receipt may be ahead of the newest bundle there is. */
const MOST_AHEAD = 10_000;
const OVER: ReadonlySet<string> = new Set(['metadata-expired', 'key-expired']);

/**
 * Makes the collection anew from the metadata of a verified bundle. Gates that pinned it take what it exports next,
 * provided that its version is higher than any they have seen.
 * @throws SealiftError what verifying the bundle throws; `collection-exists`, `destination-exists`, `invalid-argument`;
 *   `receipt-invalid`, `receipt-mismatch`, `signature-invalid` of receipts
 */
export async function continueCollection(
  options: ContinueOptions,
  context: Context,
): Promise<ContinueResult> {
  const directory = path.resolve(options.directory);
  await assertFree(directory);
  const given = options.lastVersion ?? 0;
  if (!Number.isSafeInteger(given) || given < 0 || given > MAX_LAST_VERSION) {
    throw new SealiftError('invalid-argument', 'no version that could be continued from', {
      got: given,
      want: `at most ${MAX_LAST_VERSION}`,
    });
  }
  const { claims, expired } = await judged(options, context);
  const { set, head, collection, manifest } = claims;
  const { timestamp, snapshot } = set;
  if (!timestamp?.created || !snapshot)
    throw new SealiftError('internal', 'no timestamp after the client workflow');
  const lastVersion = Math.max(
    given,
    await acceptedVersion(options, claims.collectionId, timestamp.version),
    timestamp.version,
    snapshot.version,
    ...[...snapshot.meta.values()].map(({ version }) => version),
  );
  const [first] = set.root.roles.timestamp.keyids;
  const isOpenpgp = set.root.keys.get(first ?? '')?.keytype === 'openpgp';
  await placeCollection(directory, {
    facts: {
      created: timestamp.created,
      id: claims.collectionId,
      keys: isOpenpgp ? 'openpgp' : 'native',
      name: manifest.collection.name,
    },
    counter: lastVersion,
    metadata: metadataFiles(head),
    certificates: new Map(head.certificates.map(({ fingerprint, bytes }) => [fingerprint, bytes])),
    revocations: new Map(),
    secrets: new Map(),
  });
  const keys: HeldKey[] = [];
  for (const file of options.keys)
    keys.push(await importKey({ ...options, collection: directory, file }, context));
  const opened = await openCollection(directory, context.limits);
  return {
    directory,
    id: opened.id,
    name: opened.name,
    version: timestamp.version,
    created: formatDate(timestamp.created),
    lastVersion,
    rootFingerprint: collection.rootFingerprint,
    images: opened.images.size,
    expired,
    keys,
    unsigned: await unsignedRoles(directory, context),
  };
}

/**
 * The highest version that the receipts say was accepted. Nobody has pinned their gates on this machine, so a version far
 * above the bundle's is taken for a lie: it would use up the numbers there are.
 */
async function acceptedVersion(
  { receipts = [] }: ContinueOptions,
  collectionId: string,
  version: number,
): Promise<number> {
  let highest = 0;
  for (const file of receipts) {
    const { collection, accepted } = await readReceipt(file);
    if (collection.id !== collectionId) {
      throw new SealiftError('receipt-mismatch', 'the receipt is of another collection', {
        subject: inert(file, 4096),
        got: collection.id,
        want: collectionId,
      });
    }
    const got = accepted?.version ?? 0;
    if (got > version + MOST_AHEAD) {
      throw new SealiftError('receipt-invalid', `the receipt speaks of a version far ahead: got ${got}`, {
        subject: inert(file, 4096),
        got,
        want: `at most ${version + MOST_AHEAD}`,
        hint: 'if the sealed side has really accepted that version, give it with --last-version',
      });
    }
    highest = Math.max(highest, got);
  }
  return highest;
}

/** By today's clock, or else, where it is only past its end, by the time it was made. */
async function judged({ bundle, fingerprint }: ContinueOptions, context: Context) {
  try {
    const claims = await readClaims(bundle, context, { fingerprint, now: context.now });
    return { claims, expired: false };
  } catch (error) {
    if (!isSealiftError(error) || !OVER.has(error.code)) throw error;
  }
  const { collection } = await readClaims(bundle, context);
  const now = new Date(collection.created);
  // A bundle from the future is refused by the first attempt, by its date.
  return { claims: await readClaims(bundle, context, { fingerprint, now }), expired: true };
}

async function unsignedRoles(directory: string, context: Context): Promise<string[]> {
  const { state } = await openCollection(directory, context.limits);
  const { keys } = await listKeys({ collection: directory }, context);
  const here = new Set(keys.flatMap(({ keyId, file }) => (file === undefined ? [] : [keyId])));
  return [...TOP_LEVEL_ROLES, ...state.delegated.keys()].filter((role) => {
    const found = keysOfRole(state, role);
    return found && found.keyids.filter((keyId) => here.has(keyId)).length < found.threshold;
  });
}
