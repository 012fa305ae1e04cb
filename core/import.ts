/**
 * Import: everything is decided before the first layer is read, every byte is hashed on its way in, and an image
 * appears under its name only when all of it is there. Trust is kept as soon as it has verified, whatever happens
 * to the rest.
 */
import { createHash } from 'node:crypto';
import { bundleToApprove, checkApprovals } from './admission/approvals.ts';
import { auditImport } from './admission/audit.ts';
import {
  askCheckCommand,
  type CheckCommand,
  type CheckOutcome,
  type CheckPlace,
  checkPlaceIn,
  checkRefusal,
  discardRefused,
  findCheckCommand,
} from './admission/check-command.ts';
import type { BundleReader } from './bundle/reader.ts';
import type { Context } from './context.ts';
import { recordArrival } from './delta/arrivals.ts';
import { baseSummary } from './delta/base.ts';
import { paperCode } from './delta/code.ts';
import { type ImportBase, openImportBase } from './delta/import-base.ts';
import { isSealiftError, SealiftError, toSealiftError } from './errors.ts';
import type { DeviceFacts } from './fs/device.ts';
import { formatTimestamp } from './fs/document.ts';
import { type Gate, type KeptChange, type KeptState, openGate } from './gate/gate.ts';
import { tellOddities } from './gate/ownership.ts';
import { openDirectBase } from './importing/direct-base.ts';
import { type Intake, openIntake, type Written } from './importing/intake.ts';
import {
  type Carried,
  type DirectResult,
  type PreparedDestination,
  type PrepareOptions,
  prepareDestination,
} from './importing/publications.ts';
import { type Outcome, type PlannedChange, planChange } from './importing/records.ts';
import {
  applyDecisions,
  Checklist,
  type ContentJudgement,
  claimedCollectionId,
  judgeContent,
  judgeTrust,
  type PolicyInForce,
  type TrustJudgement,
  waivedExpiries,
  weakeningsOf,
} from './judge.ts';
import { mediaFields, recordMedia } from './media.ts';
import { blobPath, type Digest, isDigest } from './oci/digest.ts';
import { assertSpace } from './publish/apply.ts';
import { sourceOfStore } from './publish/content.ts';
import type { ImageVerdict, ImportResult, VerifyResult } from './results.ts';
import { openStore, type Store } from './store/store.ts';
import { tellExpiringIn } from './trust/expiring.ts';
import { rootFingerprint } from './trust/metadata.ts';
import type { TrustedSet } from './trust/trusted-set.ts';
import { formatBytes } from './util/format.ts';
import {
  findAnchor,
  findPolicy,
  nameOf,
  namingVolume,
  openBundle,
  policyInUse,
  selectImages,
} from './verify.ts';
import { withdrawnInGate } from './withdrawn.ts';
import type { ImportOptions } from './workflow-options.ts';

/**
 * Imports the carried images of a bundle into a store, into destinations that clients pull from, or both.
 *
 * @throws SealiftError the first check that refuses, with `check`; images are then as they were, and trust has moved as far
 *   as it had verified. `destination-…` where a destination fails: what was reached stays, and the same import goes on
 */
export async function importBundle(given: ImportOptions, context: Context): Promise<ImportResult> {
  refuseNowhere(given);
  const { bundle, media } = recordMedia(given.bundle, given.device);
  const options = { ...given, bundle };
  if (options.checkCommand) await findCheckCommand(options.checkCommand);
  const gate = await openGate(options.gate, { create: false });
  const gateLock = await gate.lock(options.pid);
  try {
    const store =
      options.store === undefined
        ? undefined
        : await openStore(options.store, { create: true, limits: context.limits });
    if (store) {
      await tellOddities('store', store.directory, undefined, (level, code, message) =>
        context.emit({ type: 'notice', level, code, message }),
      );
    }
    const storeLock = await store?.lock(options.pid);
    try {
      return await admitBundle(gate, store, options, media, context);
    } catch (error) {
      throw await auditRefusal(gate, error, options, media(), context);
    } finally {
      await storeLock?.release();
    }
  } finally {
    await gateLock.release();
  }
}

function refuseNowhere({ store, direct, bundle, checkCommand, request }: ImportOptions): void {
  if (store !== undefined) return;
  if (checkCommand && checkCommand.temporary === undefined)
    throw needsStore('the check command has nowhere to look at images, as no directory for them is given');
  if (!direct || direct.open.length === 0) throw new SealiftError('internal', 'an import that goes nowhere');
  if (request !== undefined) {
    throw new SealiftError('invalid-argument', 'a request lists what a store has, and there is none', {
      subject: '--request',
      hint: 'leave --request out; or let the import fill a store on the way: --to store:DIR --to LOCATION',
    });
  }
  if (bundle.kind === 'file') return;
  throw needsStore('a stream is read once, and a destination may need a part again');
}

function needsStore(
  why: string,
  hint = 'let the import fill a store on the way, --to store:DIR --to LOCATION; or save the bundle to a file first',
): SealiftError {
  return new SealiftError('invalid-argument', `this bundle cannot go straight to a destination: ${why}`, {
    subject: '--to',
    hint,
  });
}

async function auditRefusal(
  gate: Gate,
  error: unknown,
  options: ImportOptions,
  media: readonly DeviceFacts[],
  context: Context,
): Promise<SealiftError> {
  const known = toSealiftError(error);
  if (known.category !== 'cancelled') {
    await gate.audit({
      now: context.now,
      actor: options.actor,
      event: 'refused',
      fields: {
        bundle: nameOf(options.bundle),
        code: known.code,
        check: known.check ?? '',
        subject: known.subject ?? '',
        message: known.message,
        ...mediaFields(media),
      },
    });
  }
  return known;
}

async function admitBundle(
  gate: Gate,
  store: Store | undefined,
  options: ImportOptions,
  media: () => readonly DeviceFacts[],
  context: Context,
): Promise<ImportResult> {
  const checklist = new Checklist(context);
  const reader = await openBundle(options.bundle, checklist, context);
  try {
    if (!store && reader.kind === 'stream') throw needsStore('it is read once, from end to end');
    const anchor = await findAnchor(reader, { gate: options.gate }, context);
    const collectionId = claimedCollectionId(reader.head, context);
    const before = anchor.kind === 'kept' ? anchor.state : undefined;
    const keeper = createKeeper(gate, collectionId, before, options, context);
    const trust = await namingVolume(
      reader,
      judgeTrust(
        reader,
        checklist,
        { anchor, overrides: options.overrides, onStep: (set) => keeper.keep(set) },
        context,
      ),
    );
    await keeper.finish(trust);
    const expiring = await tellExpiringIn(trust.set, context);
    if (!store && reader.kind === 'file' && !reader.complete)
      throw needsStore(
        'its volumes come one medium after another, and a destination may need a part again',
        'put all volumes into one directory, or name them all; or let the import fill a store on the way: --to store:DIR --to LOCATION',
      );
    selectImages(trust.images, options.only);
    const policy = await findPolicy({ gate: options.gate }, trust.set.time, context);
    const base = store
      ? await openImportBase(trust.manifest, store, options, context, async (shortfall) => {
          const { request: file, actor } = options;
          if (file === undefined) return;
          const { writeRequest } = await import('./delta/make-receipt.ts');
          await writeRequest(gate, store, trust.collectionId, shortfall, { file, actor }, context);
        })
      : await openDirectBase(trust.manifest, options.direct?.open ?? [], options, context);
    // What is decrypted proves to be whole only at its end.
    const untilEnd = options.bundle.kind === 'encrypted';
    const intake = await openIntake(reader, trust.manifest, store, untilEnd, context).catch(
      async (error: unknown) => {
        await base.close();
        throw error;
      },
    );
    let discard = false;
    try {
      const content = await judgeContent(
        trust.manifest,
        reader.head,
        intake.readManifest,
        checklist,
        context,
        policy,
        base.holder,
      );
      const asked = selectImages(applyDecisions(trust.images, content), options.only);
      let chosen = choosePassing(asked, content, options);
      const waived = waivedExpiries(content, chosen);
      for (const { option, effect } of waived) {
        const fields = { collection: trust.collectionId, option, effect };
        await gate.audit({ now: context.now, actor: options.actor, event: 'weakened', fields });
      }
      const approved = bundleToApprove(trust.collectionId, trust.collection.version, reader.head.manifest);
      const { time } = trust.set;
      const approvals = await checkApprovals(approved, options, chosen.length > 0, time, checklist, context);
      const report: VerifyResult = {
        ...reportOf(trust, asked, checklist, intake, options, policy),
        manifest: approved.manifest,
        weakened: [...trust.weakened, ...waived],
        ...(approvals ? { approvals } : {}),
        ...(expiring.length > 0 ? { expiringKeys: expiring } : {}),
      };
      if (options.confirm && !(await options.confirm(report)))
        throw new SealiftError('cancelled', 'import was declined');
      let wanted = blobsOf(chosen, content);
      // What is refused must not be sent: destinations hear of nothing before the program has answered.
      const check = chosen.length > 0 ? options.checkCommand : undefined;
      const prepared: PreparedDestination[] = [];
      const prepare = async (): Promise<readonly string[]> => {
        const told: string[] = [];
        const judged = { trust, content, chosen, wanted, base };
        const carried = await carriedOf(reader, store, judged, options, context);
        for (const open of options.direct?.open ?? []) {
          const one = await prepareDestination(open, carried, directOptions(options), context);
          prepared.push(one);
          assertSpace(one.publication);
          const { location, toSend, free } = one.publication;
          const room = free === undefined ? 'free space not known' : `${formatBytes(free)} free`;
          told.push(`${location}: ${formatBytes(toSend.bytes)} to send, ${room}`);
        }
        return told;
      };
      const named = (error: unknown): never => {
        throw nameImage(error, chosen, content);
      };
      const send = async (written: Written): Promise<void> => {
        for (const { publication } of prepared) {
          await publication
            .sendBlobs()
            .catch(async (error: unknown) => named(await explained(error, reader)));
          written.blobs += publication.toSend.blobs;
          written.bytes += publication.toSend.bytes;
          written.reusedBytes += publication.presentBytes;
        }
        if (reader.kind === 'file') await reader.assertUnchanged();
      };
      try {
        await checklist.run('space', async () => {
          const needed = await intake.missingBytes(wanted);
          if (store) assertFree(needed, await store.freeBytes(), store.directory);
          const told = store
            ? [`${formatBytes(needed)} needed, ${formatBytes(await store.freeBytes())} free`]
            : [];
          // What a stream brings can be looked at only when it is in the store.
          if (reader.kind === 'file' && !check) told.push(...(await prepare()));
          if (check && options.direct) told.push('destinations are asked after the check command');
          return [undefined, told.join('; ')];
        });
        const takeIn = (isLast: boolean): Promise<Written> =>
          checklist.run('layers', async () => {
            const done = await takeAll(base, intake, wanted).catch(named);
            if (isLast) {
              if (prepared.length === 0) await prepare();
              await send(done);
            }
            return [
              done,
              `${done.blobs} blobs, ${formatBytes(done.bytes)} taken in, ${formatBytes(done.reusedBytes)} there already`,
            ];
          });
        // Without a store the program is asked before, from the bundle.
        const early = store || !check ? await takeIn(!check) : undefined;
        const checks =
          check &&
          (await askAbout(gate, reader, store, chosen, { trust, content, base }, check, options, context));
        if (checks) {
          discard = checks.refused.length > 0;
          const refusal = checkRefusal(checks, options.admitPassing);
          if (refusal) throw refusal;
          chosen = checks.passing;
          wanted = blobsOf(chosen, content);
        }
        const written = early ?? (await takeIn(true));
        const refused = asked.flatMap((image) =>
          chosen.includes(image) ? [] : (checks?.refused.find(({ name }) => name === image.name) ?? image),
        );
        const { plan, outcome, destinations, auditHead } = await checklist.run('commit', async () => {
          if (store && check) {
            await prepare();
            await send(written);
          }
          const plan = store && planChange((await store.list()).images, trust, chosen, context);
          const withdrawn = new Set([
            ...(plan?.withdrawn ?? []),
            ...prepared.flatMap((one) => one.withdrawn),
          ]);
          const judged = {
            chosen,
            refused,
            policy,
            approvals: approvals?.given ?? [],
            withdrawn: [...withdrawn],
            ...(options.direct && { destinations: prepared.map(({ publication }) => publication.location) }),
          };
          // Told first: a crash in between leaves an entry too many, never a change nobody hears of.
          const head = await auditImport(gate, trust, judged, options, media(), context);
          const stored = store && plan && (await commitToStore(store, plan));
          const results: DirectResult[] = [];
          for (const one of prepared) results.push(await one.finish());
          const done = mergeOutcomes([...(stored ? [stored] : []), ...results.map(({ images }) => images)]);
          return [
            { plan, outcome: done, destinations: results, auditHead: head },
            `${done.imported.length} imported, ${done.unchanged.length} unchanged, ${done.removed.length} removed`,
          ];
        });
        const code = plan && (await noteArrival(gate, reader, trust, plan, refused.length, context));
        return {
          ...report,
          ...(media().length === 0 ? {} : { media: media() }),
          size: intake.size(),
          checks: checklist.results,
          images: asked.map((image) =>
            chosen.includes(image)
              ? { ...image, admitted: true }
              : (refused.find(({ name }) => name === image.name) ?? image),
          ),
          store: store?.directory ?? '',
          ...(options.direct && { destinations }),
          ...outcome,
          written,
          ...(checks ? { checked: checks.checked } : {}),
          ...(code === undefined ? {} : { code }),
          auditHead,
        };
      } finally {
        for (const one of prepared) await one.close();
      }
    } finally {
      await intake.abandon();
      await base.close();
      if (discard && store) await discardRefused(store, context);
    }
  } finally {
    await reader.close();
  }
}

/** Asks the program, about images in the store where they are in one, else as they are written out of the bundle. */
async function askAbout(
  gate: Gate,
  reader: BundleReader,
  store: Store | undefined,
  chosen: readonly ImageVerdict[],
  { trust: { manifest }, content, base }: Pick<Carried, 'trust' | 'content' | 'base'>,
  check: CheckCommand,
  options: ImportOptions,
  context: Context,
): Promise<CheckOutcome> {
  const ask = (place: CheckPlace) =>
    askCheckCommand(gate, place, chosen, { manifest, content }, check, options, context);
  if (store) return ask(checkPlaceIn(store.directory));
  if (reader.kind !== 'file' || check.temporary === undefined)
    throw new SealiftError('internal', 'there is no place to write images out to');
  const images = chosen.map(({ name }) => content.blobs.get(name) ?? []);
  const { openQuarantine } = await import('./importing/quarantine.ts');
  const quarantine = await openQuarantine(reader, check.temporary, images, base, context);
  try {
    return await ask(quarantine);
  } finally {
    await quarantine.close();
  }
}

function assertFree(needed: number, free: number, subject: string): void {
  if (needed <= free) return;
  throw new SealiftError(
    'destination-full',
    `not enough free space: got ${formatBytes(free)}, want ${formatBytes(needed)}`,
    {
      subject,
      got: free,
      want: needed,
      hint: 'free some space, or run sealift gc, and run the import again',
    },
  );
}

function directOptions(options: ImportOptions): PrepareOptions {
  const { direct, gate, concurrency, pid } = options;
  if (!direct) throw new SealiftError('internal', 'no destinations were asked for');
  return { ...direct, gate, concurrency, pid };
}

/** What destinations are filled from. */
async function carriedOf(
  reader: BundleReader,
  store: Store | undefined,
  judged: Pick<Carried, 'trust' | 'content' | 'chosen' | 'wanted' | 'base'>,
  options: ImportOptions,
  context: Context,
): Promise<Carried> {
  const stored = store && sourceOfStore(store);
  return {
    ...judged,
    bundle: reader.kind === 'file' ? reader : undefined,
    taken: stored && {
      ...stored,
      // By the time a destination is filled, the store has all of it; what a delta left out is in no bundle.
      has: async (digest) => judged.wanted.has(digest) || stored.has(digest),
    },
    withdrawn: options.direct ? await withdrawnInGate(options.gate, context) : [],
  };
}

/** Imported is what is new anywhere, unchanged what is so everywhere. */
function mergeOutcomes(all: readonly Outcome[]): Outcome {
  const union = (pick: (one: Outcome) => readonly string[]) => [...new Set(all.flatMap(pick))].sort();
  const imported = union((one) => one.imported);
  return {
    imported,
    unchanged: union((one) => one.unchanged).filter((name) => !imported.includes(name)),
    removed: union((one) => one.removed),
  };
}

async function commitToStore(
  store: Store,
  { changed, withdrawn, imported, unchanged }: PlannedChange,
): Promise<Outcome> {
  // The same bundle once more leaves every file as it is.
  const removed =
    changed.length + withdrawn.length > 0 ? await store.admit(changed, { withdraw: withdrawn }) : [];
  return { imported, unchanged, removed };
}

/**
 * What may be let in of what was asked for.
 * @throws SealiftError `requirement-unmet` where the policy refuses all of it, or a part and the rest is not to be let in alone
 */
function choosePassing(
  asked: readonly ImageVerdict[],
  { decisions }: ContentJudgement,
  options: ImportOptions,
): readonly ImageVerdict[] {
  const refused = asked.filter(({ name }) => decisions.get(name)?.allowed === false);
  const [first] = refused;
  if (!first || (options.admitPassing === true && refused.length < asked.length))
    return asked.filter((image) => !refused.includes(image));
  const number = refused.length === asked.length ? `${asked.length}` : `${refused.length} of ${asked.length}`;
  throw new SealiftError(
    'requirement-unmet',
    `the policy refuses ${number} image${asked.length === 1 ? '' : 's'}: ${first.verdict}: ${first.reason}`,
    {
      subject: first.name,
      check: 'policy',
      hint:
        refused.length < asked.length
          ? 'sealift verify BUNDLE shows each; --admit-passing lets the others in'
          : 'sealift verify BUNDLE shows each; sealift policy explain NAME shows what is demanded',
    },
  );
}

function reportOf(
  trust: TrustJudgement,
  images: readonly ImageVerdict[],
  checklist: Checklist,
  intake: Intake,
  options: ImportOptions,
  policy: PolicyInForce | undefined,
): VerifyResult {
  return {
    bundle: nameOf(options.bundle),
    size: intake.size(),
    collection: trust.collection,
    checks: [...checklist.results],
    images,
    withdrawn: trust.withdrawn,
    vanished: trust.vanished,
    deep: true,
    base: baseSummary(trust.manifest),
    policy: policyInUse(policy),
    weakened: trust.weakened,
  };
}

/** Layers that a delta left out come first: where they fail, nothing else has to be read. */
async function takeAll(base: ImportBase, intake: Intake, wanted: ReadonlySet<Digest>): Promise<Written> {
  const before = await base.take(wanted);
  const carried = new Set([...wanted].filter((digest) => !base.leftOut.has(digest)));
  const { bytes, blobs, reusedBytes } = await intake.take(carried);
  return {
    bytes: before.bytes + bytes,
    blobs: before.blobs + blobs,
    reusedBytes: before.reusedBytes + reusedBytes,
  };
}

/** An error about a blob that was sent from volumes, told of the volume it lies in. */
async function explained(error: unknown, reader: BundleReader): Promise<unknown> {
  if (reader.kind !== 'file' || reader.isOneFile || !isSealiftError(error)) return error;
  const { subject = '' } = error;
  const place = isDigest(subject) ? reader.blob(blobPath(subject)) : undefined;
  return place ? reader.explain(error, place) : error;
}

/** An error about a blob, told of the image that needs it. */
function nameImage(error: unknown, images: readonly ImageVerdict[], content: ContentJudgement): unknown {
  if (!isSealiftError(error)) return error;
  const image = images.find(({ name }) =>
    [...(content.blobs.get(name) ?? [])].some((digest) => digest === error.subject),
  );
  if (!image) return error;
  const { code, got, want, hint, check, cause } = error;
  return new SealiftError(code, `a blob of the image is wrong: ${error.message}`, {
    subject: image.name,
    got,
    want,
    hint,
    check,
    cause,
  });
}

function blobsOf(images: readonly ImageVerdict[], content: ContentJudgement): Set<Digest> {
  const wanted = new Set<Digest>();
  for (const { name } of images) for (const digest of content.blobs.get(name) ?? []) wanted.add(digest);
  return wanted;
}

// ---------------------------------------------------------------- trust

/** Writes what is trusted into the gate, step by step; the audit log hears of it first. */
function createKeeper(
  gate: Gate,
  collectionId: string,
  before: KeptState | undefined,
  options: ImportOptions,
  context: Context,
) {
  const { now } = context;
  const { actor } = options;
  let isTold = false;
  const earlierRoots = new Map(before?.earlierRoots);
  let last = before?.root;
  const change = (set: TrustedSet): KeptChange => {
    const made = changeOf(set);
    if (last && made.root && made.root.version > last.version) earlierRoots.set(last.version, last.bytes);
    last = made.root;
    return { ...made, earlierRoots };
  };
  const tellWeakened = async (): Promise<void> => {
    if (isTold) return;
    isTold = true;
    for (const { option, effect } of weakeningsOf(options.overrides))
      await gate.audit({
        now,
        actor,
        event: 'weakened',
        fields: { collection: collectionId, option, effect },
      });
  };
  return {
    async keep(set: TrustedSet): Promise<void> {
      await tellWeakened();
      const { version } = set.root;
      if (last && version > last.version) {
        // It stays, whatever becomes of the rest of the bundle.
        const fields = { collection: collectionId, root: version, fingerprint: rootFingerprint(set.root) };
        await gate.audit({ now, actor, event: 'trust-moved', fields });
      }
      await gate.save(collectionId, change(set));
    },
    async finish(trust: TrustJudgement): Promise<void> {
      const { collection } = trust;
      const { version, expires } = collection;
      await gate.audit({
        now,
        actor,
        event: 'trust-moved',
        fields: { collection: collectionId, version, root: collection.rootVersion, expires },
      });
      await gate.save(collectionId, {
        ...change(trust.set),
        collectionName: collection.name,
        version,
        expires,
      });
    },
  };
}

function changeOf(set: TrustedSet): KeptChange {
  const kept = set.kept();
  return {
    root: { version: set.root.version, fingerprint: rootFingerprint(set.root), bytes: kept.root },
    timestamp: kept.timestamp ?? null,
    snapshot: kept.snapshot ?? null,
    targets: kept.targets ?? null,
    delegated: kept.delegated,
    certificates: kept.certificates,
    clockFloor: kept.floor ? formatTimestamp(kept.floor) : null,
  };
}

/** Notes for receipts what has arrived; resolves to its code where every image of the bundle is in the store. */
async function noteArrival(
  gate: Gate,
  { head }: BundleReader,
  { collectionId, manifest }: TrustJudgement,
  { after }: PlannedChange,
  refused: number,
  context: Context,
): Promise<string | undefined> {
  const arrival = {
    version: manifest.version,
    manifest: createHash('sha256').update(head.manifest).digest('hex'),
    at: formatTimestamp(context.now),
    images: manifest.images.length,
    admitted: manifest.images.filter(({ name, digest }) => after.get(name) === digest).length,
    refused,
  };
  await recordArrival(gate.directory, collectionId, arrival);
  return arrival.admitted === arrival.images
    ? paperCode({ collection: collectionId, ...arrival })
    : undefined;
}
