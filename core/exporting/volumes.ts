/**
 * An export into volumes, written in order and hashed on the way, into one directory or onto one medium after another. Any
 * interruption leaves a partial volume, a journal and a log of the volumes that are whole, and the same command goes on.
 */
import { createHash } from 'node:crypto';
import { readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { type Journal, openJournal } from '../bundle/journal.ts';
import { forgetOldest, type LoggedVolume, openVolumeLog, type VolumeLog } from '../bundle/volumes/log.ts';
import {
  assertPortableName,
  cutVolumes,
  MAX_VOLUMES,
  MIN_VOLUME_SIZE,
  type VolumeCut,
  volumeIndexName,
  volumeName,
} from '../bundle/volumes/names.ts';
import { createVolumeFiles, partialSize, type VolumeTarget } from '../bundle/volumes/sink.ts';
import { encodeVolumeIndex } from '../bundle/volumes/volume-index.ts';
import { TaintedVolumes, writeVolumes } from '../bundle/volumes/writer.ts';
import type { Context } from '../context.ts';
import type { Recipients } from '../encryption/encrypt.ts';
import { ENCRYPTED_ENDING, messageOverhead } from '../encryption/names.ts';
import { inert, isSealiftError, SealiftError } from '../errors.ts';
import { makeDirectory, writeFileDurably } from '../fs/durable.ts';
import { assertFits, inspectFileSystem } from '../fs/space.ts';
import type { ExportResult, VolumeSummary } from '../results.ts';
import type { Collection } from '../trust/collection.ts';
import { formatBytes } from '../util/format.ts';
import { chooseVolumes } from '../volumes.ts';
import type { ExportOptions, VolumeOutput } from '../workflow-options.ts';
import { exportResult, publish } from './finish.ts';
import { planExport, requestHash, type SignedPlan } from './plan.ts';
import { findInterrupted, planFromJournal, sizeOf } from './resume.ts';
import type { SourceSet } from './sources.ts';
import { announceTransfer, digestOfPath, openTransfer } from './transfer.ts';

type FileOutput = Extract<ExportOptions['output'], { kind: 'file' }>;
type VolumeExport = ExportOptions & { readonly volumes: VolumeOutput };

/** What the volumes are files of, and what these are called. */
interface Form {
  /** Path of the bundle the volumes make. */
  readonly file: string;
  /** File name of a volume. */
  nameOf(number: number): string;
  /** Whom they are encrypted to, each volume a message of its own; absent where they are the plain bytes. */
  readonly recipients?: Recipients | undefined;
  /** Plain bytes of each volume but the last. */
  readonly size: number;
  /** False where one file is the whole. */
  readonly numbered: boolean;
}

/** Bytes after which finished blobs are made durable and entered in the journal. */
const SYNC_EVERY = 64 * 1024 * 1024;
/** Room for the list of volumes and what a file system needs for names. */
const SLACK = 256 * 1024;

/** The stretch of the bundle that this run writes. */
interface Stretch {
  readonly start: number;
  readonly end: number;
}

export async function exportToVolumes(
  collection: Collection,
  sources: SourceSet,
  output: FileOutput,
  given: ExportOptions,
  context: Context,
): Promise<ExportResult> {
  const form = await formOf(output, given, context);
  // A single message is a volume that holds everything.
  const options: VolumeExport = {
    ...given,
    volumes: given.volumes ?? { size: form.size },
  };
  const { file } = form;
  await makeDirectory(path.dirname(file));
  const journal = openJournal(collection.directory, file);
  const log = openVolumeLog(journal.directory);
  try {
    if (options.volumes.only !== undefined)
      return await remakeVolume(collection, sources, { form, journal, log }, options, context);
    const finished = (await log.read()).finished;
    const found = finished
      ? ({ state: 'none' } as const)
      : await findInterrupted(journal, collection, options, context);
    const resumed = found.state !== 'none';
    if (!resumed) await refuseExisting(form, options.force);
    const plan = resumed
      ? found.plan
      : await planExport(
          collection,
          sources,
          { output: file, partial: '' },
          options,
          context,
          'reuse' in found ? found.reuse : undefined,
        );
    const cuts = cutVolumes(plan.bundle.layout.size, form.size);
    if (resumed) {
      context.emit({
        type: 'notice',
        level: 'info',
        code: 'resumed',
        message: `going on with the interrupted export of version ${plan.journal.version}`,
      });
    } else {
      await log.remove();
      await removePartials(form, cuts);
      await journal.begin(plan.journal);
    }
    // The first volume may leave the house while the last is being written.
    const published = await publish(collection, plan.journal);
    const job: Job = { form, journal, log, plan, cuts };
    const stretch = await whereToGoOn(job, context);
    const written = await transfer(job, stretch, sources, options, context);
    await log.finish();
    if (plan.journal.reuse) await rm(plan.journal.reuse.path, { force: true });
    await forgetOldest(path.dirname(journal.directory));
    const result = await exportResult(
      published,
      file,
      plan,
      { bytes: stretch.end - stretch.start, resumedBytes: stretch.start },
      resumed,
      options,
    );
    return toldOf(result, form, given.volumes && { total: cuts.length, written });
  } finally {
    await journal.close();
  }
}

async function formOf(
  output: FileOutput,
  { volumes, encryptTo }: ExportOptions,
  context: Context,
): Promise<Form> {
  const file = path.resolve(output.path);
  const base = path.basename(file);
  if (volumes) assertPortableName(encryptTo ? `${base}${ENCRYPTED_ENDING}` : base);
  if (!encryptTo) {
    const size = volumes?.size ?? Number.MAX_SAFE_INTEGER;
    return { file, size, numbered: true, nameOf: (number) => volumeName(base, number) };
  }
  const { readRecipients } = await import('../encryption/encrypt.ts');
  const recipients = await readRecipients(encryptTo, context.now);
  if (!volumes)
    return { file, size: Number.MAX_SAFE_INTEGER, numbered: false, nameOf: () => base, recipients };
  // The message has to fit where the volume was to fit.
  const size = volumes.size - messageOverhead(recipients);
  if (size < MIN_VOLUME_SIZE) {
    throw new SealiftError('invalid-argument', 'a volume is too small to be encrypted', {
      subject: '--volume-size',
      got: volumes.size,
      want: MIN_VOLUME_SIZE + messageOverhead(recipients),
    });
  }
  const nameOf = (number: number) => `${volumeName(base, number)}${ENCRYPTED_ENDING}`;
  return { file, size, numbered: true, nameOf, recipients };
}

function toldOf(
  result: ExportResult,
  { size, recipients }: Form,
  volumes: { readonly total: number; readonly written: readonly VolumeSummary[] } | undefined,
): ExportResult {
  return {
    ...result,
    ...(volumes ? { volumes: { size, ...volumes } } : {}),
    ...(recipients ? { encryptedTo: recipients.fingerprints } : {}),
  };
}

interface Job {
  readonly form: Form;
  readonly journal: Journal;
  readonly log: VolumeLog;
  readonly plan: SignedPlan;
  readonly cuts: readonly VolumeCut[];
}

async function refuseExisting(form: Form, force: boolean): Promise<void> {
  if (force) return;
  const { file } = form;
  const [first] = await volumesThere(path.dirname(file), form);
  const subject = first ?? ((await sizeOf(file)) === undefined ? undefined : file);
  if (subject === undefined) return;
  throw new SealiftError('destination-exists', 'the output is there already', {
    subject: inert(subject),
    hint: 'choose another name with -o, or replace it with --force',
  });
}

/** Paths of volumes of this bundle in a directory. */
async function volumesThere(directory: string, form: Form, but?: number): Promise<readonly string[]> {
  const known = new Set(Array.from({ length: MAX_VOLUMES }, (_, index) => form.nameOf(index + 1)));
  if (but !== undefined) known.delete(form.nameOf(but));
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  return names.filter((name) => known.has(name)).map((name) => path.join(directory, name));
}

/** Where a volume is while it is being written. */
function partialOf({ nameOf }: Form, directory: string, number: number): string {
  return path.join(directory, `.${nameOf(number)}.partial`);
}

async function removePartials(form: Form, cuts: readonly VolumeCut[]): Promise<void> {
  for (const { number } of cuts) await rm(partialOf(form, path.dirname(form.file), number), { force: true });
}

/** Bytes of a partial volume that can be gone on from; none of a message. */
async function keptOf(form: Form, directory: string, number: number): Promise<number> {
  return form.recipients ? 0 : partialSize(directory, path.basename(form.file), number);
}

/** Volumes that are whole, from the first on without a gap. */
function contiguous(volumes: readonly LoggedVolume[]): readonly LoggedVolume[] {
  return volumes.filter(({ number }, index) => number === index + 1);
}

/** Behind the volumes that are whole, and in the partial one behind the blobs that are. */
async function whereToGoOn({ form, journal, log, plan, cuts }: Job, context: Context): Promise<Stretch> {
  const { layout, blobs } = plan.bundle;
  const end = layout.size;
  const done = await journal.done();
  const first = blobs.find(({ name }) => !done.has(name));
  const safe = first?.headerOffset ?? layout.endOffset;
  let whole = contiguous((await log.read()).volumes);
  const endOf = (volumes: readonly LoggedVolume[]): number => {
    const last = cuts[volumes.length - 1];
    return last ? last.offset + last.size : 0;
  };
  if (first && first.headerOffset < endOf(whole)) {
    // A blob that nobody has seen the end of lies in volumes that are whole. Their hashes of it so far must be known.
    const from = cuts.findIndex((cut) => first.contentOffset < cut.offset + cut.size);
    const behind = first.contentOffset + first.size <= endOf(whole);
    const known = whole.slice(from).every(({ prefix }) => prefix !== undefined);
    if (first.contentOffset < endOf(whole) && (behind || !known)) {
      await log.forget(from + 1);
      whole = whole.slice(0, from);
    }
  }
  const border = endOf(whole);
  const { file } = form;
  const there = await missingOf(form, whole);
  if (there.length > 0) {
    context.emit({
      type: 'notice',
      level: 'info',
      code: 'volumes-elsewhere',
      message: `volumes 1 to ${whole.length} were written earlier; ${there.length} of them are not in ${inert(path.dirname(file))}. If they are on no other medium either, --only-volume makes one again`,
    });
  }
  const partial = await keptOf(form, path.dirname(file), whole.length + 1);
  const start = safe > border && safe <= border + partial ? safe : border;
  return { start, end };
}

async function missingOf({ file, nameOf }: Form, volumes: readonly LoggedVolume[]): Promise<number[]> {
  const missing: number[] = [];
  for (const { number } of volumes) {
    if (!(await stat(path.join(path.dirname(file), nameOf(number))).catch(() => undefined)))
      missing.push(number);
  }
  return missing;
}

/** Writes a stretch of the bundle into its volumes; those that were written. */
async function transfer(
  { form, journal, log, plan, cuts }: Job,
  { start, end }: Stretch,
  sources: SourceSet,
  options: VolumeExport,
  context: Context,
): Promise<VolumeSummary[]> {
  const base = path.basename(form.file);
  const { bundle } = plan;
  const before = (await log.read()).volumes;
  const hashes: (string | undefined)[] = [];
  for (const { number, sha256 } of before) hashes[number - 1] = sha256;
  const prefixes = new Map(
    before.flatMap(({ number, prefix }) => (prefix === undefined ? [] : [[number, prefix] as const])),
  );
  const manifestBytes =
    plan.journal.head.find(({ name }) => name === 'sealift.json')?.bytes ?? Buffer.alloc(0);
  const manifestSha256 = createHash('sha256').update(manifestBytes).digest('hex');
  const media = createMedia(form, cuts.length, options.volumes, context);
  const readBack = options.volumes.readBack ?? options.readBack ?? (async () => false);
  const { recipients, nameOf } = form;
  const files = recipients
    ? (await import('../encryption/sink.ts')).createEncryptedFiles(
        { directory: media.directory, nameOf, readBack, recipients },
        context,
      )
    : createVolumeFiles({ directory: media.directory, base, readBack }, context);
  const target: VolumeTarget = {
    async open(cut, from) {
      if (from === 0) await media.prepare(cut);
      return files.open(cut, from);
    },
  };
  const coming = bundle.blobs.filter(
    ({ contentOffset, size }) => contentOffset < end && contentOffset + size > start,
  );
  const sizes = new Map(coming.map(({ name, size }) => [name, size]));
  announceTransfer(coming, options.volumes.only === undefined ? start : 0, context);
  const written: VolumeSummary[] = [];
  /** Verified, and perhaps not durable yet. */
  let pending: string[] = [];
  let pendingBytes = 0;
  const mark = async (): Promise<void> => {
    const names = pending;
    pending = [];
    pendingBytes = 0;
    await journal.markDone(names);
  };
  const source = await openTransfer(plan, sources, context);
  try {
    await writeVolumes({
      plan: bundle,
      cuts,
      start,
      end,
      target,
      pool: context.pool,
      signal: context.signal,
      prefixes,
      async blob(name, size) {
        context.emit({ type: 'blob', state: 'started', digest: digestOfPath(name), bytes: 0, size });
        return source.open(name, size);
      },
      async onVolume(cut, sha256, prefix) {
        const known = before.find(({ number }) => number === cut.number);
        if (options.volumes.only !== undefined && known && known.sha256 !== sha256) {
          throw new SealiftError('internal', `volume ${cut.number} has other bytes than before`, {
            got: sha256,
            want: known.sha256,
          });
        }
        await mark();
        hashes[cut.number - 1] = sha256;
        const directory = media.directory();
        // Of messages there is no list: each finds its own damage, and nothing of the bundle is told.
        if (!recipients) {
          await writeFileDurably(
            path.join(directory, volumeIndexName(base)),
            encodeVolumeIndex({
              name: base,
              manifestSha256,
              size: bundle.layout.size,
              volumeSize: form.size,
              hashes,
            }),
          );
        }
        if (options.volumes.only === undefined)
          await log.add({ number: cut.number, sha256, ...(prefix === undefined ? {} : { prefix }) });
        const place = path.join(directory, nameOf(cut.number));
        written.push({ number: cut.number, path: place, size: cut.size, sha256 });
        if (!form.numbered) return;
        context.emit({
          type: 'notice',
          level: 'info',
          code: 'volume-written',
          message: `volume ${cut.number} of ${cuts.length}: ${inert(place, 4096)}`,
        });
      },
      onVerified(name, size) {
        pending.push(name);
        pendingBytes += size;
      },
      async onBlob(sync) {
        if (pendingBytes < SYNC_EVERY) return;
        await sync();
        await mark();
      },
      onProgress(name, bytes, size) {
        context.emit({
          type: 'blob',
          state: bytes === sizes.get(name) ? 'done' : 'progress',
          digest: digestOfPath(name),
          bytes,
          size,
        });
      },
    });
    await mark();
  } catch (error) {
    if (!(error instanceof TaintedVolumes)) throw error;
    await discard(error.first, media.directory(), { form, log, cuts });
    throw error.cause;
  } finally {
    await source.close();
  }
  return written;
}

/** Volumes that hold bytes of a blob that was not right are nothing to go on from. */
async function discard(
  first: number,
  directory: string,
  { form, log, cuts }: Pick<Job, 'form' | 'log' | 'cuts'>,
): Promise<void> {
  await log.forget(first);
  for (const { number } of cuts.slice(first - 1)) {
    await rm(partialOf(form, directory, number), { force: true });
    await rm(path.join(directory, form.nameOf(number)), { force: true });
  }
}

interface Media {
  /** Where the volume that is being written goes. */
  readonly directory: () => string;
  /** Sees to it that the next volume has a place; asks for another medium where it has none here. */
  prepare(cut: VolumeCut): Promise<void>;
}

function createMedia(form: Form, total: number, volumes: VolumeOutput, context: Context): Media {
  const base = path.basename(form.file);
  const overhead = form.recipients ? messageOverhead(form.recipients) : 0;
  let directory = path.dirname(form.file);
  /** The file system that was written to last; undefined where a person has just said that there is one. */
  let device: bigint | undefined;

  /**
   * A stick that is pulled out may leave its directory behind, or somebody makes it anew: what is written then goes to the
   * disk below.
   */
  async function assertStill(): Promise<void> {
    const { dev } = await stat(directory, { bigint: true });
    if (device !== undefined && device !== dev) {
      throw new SealiftError('destination-failed', 'the medium is not there any more', {
        subject: inert(directory, 4096),
        hint: 'put it back and run the same command again; it goes on where it stopped',
      });
    }
    device = dev;
  }

  /** What a run that was killed left of a list. */
  async function sweep(): Promise<void> {
    const start = `.${volumeIndexName(base)}~`;
    for (const name of await readdir(directory))
      if (name.startsWith(start)) await rm(path.join(directory, name), { force: true });
  }

  /** Why a volume cannot go where the medium is now; undefined where it can. */
  async function unfit(cut: VolumeCut): Promise<SealiftError | undefined> {
    const others = await volumesThere(directory, form, cut.number);
    const needed = cut.size + overhead - (await keptOf(form, directory, cut.number));
    const facts = await inspectFileSystem(directory);
    try {
      assertFits(facts, needed + SLACK, cut.size + overhead, directory);
    } catch (error) {
      if (isSealiftError(error) && error.code === 'destination-full') return error;
      throw error;
    }
    if (volumes.changeMedia !== true || others.length === 0) return undefined;
    return new SealiftError('destination-exists', 'there is a volume of this bundle on it already');
  }

  return {
    directory: () => directory,
    async prepare(cut) {
      for (let asked = 0; ; asked += 1) {
        context.signal.throwIfAborted();
        await assertStill();
        await sweep();
        const problem = await unfit(cut);
        if (!problem) return;
        const { medium } = volumes;
        const answer = await medium?.({
          purpose: 'write',
          wanted: [cut.number],
          total,
          name: base,
          directory,
          ...(asked === 0 ? {} : { problem: problem.message }),
        });
        if (answer === undefined) {
          throw new SealiftError(
            'medium-needed',
            `volume ${cut.number} of ${total}, ${formatBytes(cut.size)}, needs another medium: ${problem.message}`,
            {
              subject: inert(directory, 4096),
              got: cut.number - 1,
              want: total,
              hint: `put another medium in its place and run the same command again; it goes on with volume ${cut.number}`,
            },
          );
        }
        directory = answer;
        device = undefined;
        await makeDirectory(directory);
      }
    },
  };
}

/**
 * One volume of an export that was finished, the same bytes again.
 * @throws SealiftError `invalid-argument` where nothing is known of such an export, or it was another one
 */
async function remakeVolume(
  collection: Collection,
  sources: SourceSet,
  { form, journal, log }: Pick<Job, 'form' | 'journal' | 'log'>,
  options: VolumeExport,
  context: Context,
): Promise<ExportResult> {
  const { only = 1 } = options.volumes;
  const { file } = form;
  const place = path.join(path.dirname(file), form.nameOf(only));
  const found = await journal.read();
  const known = (await log.read()).volumes;
  if (!found || known.length === 0) {
    throw new SealiftError('invalid-argument', 'no export into these volumes is remembered here', {
      subject: inert(file),
      hint: 'the name and place of --output must be those of that export; where the whole bundle is at hand: sealift bundle split BUNDLE --volume-size SIZE --only-volume N -o DIR',
    });
  }
  if (found.request !== requestHash(options)) {
    throw new SealiftError('invalid-argument', 'the volumes at this output were made by another command', {
      subject: inert(file),
      hint: 'run the command that made them, with --only-volume added',
    });
  }
  const plan = planFromJournal(found, context);
  const cuts = cutVolumes(plan.bundle.layout.size, form.size);
  const [cut] = chooseVolumes(cuts, only);
  if (!cut || !known.some(({ number }) => number === only)) {
    throw new SealiftError('invalid-argument', `volume ${only} has not been written yet`, {
      subject: '--only-volume',
      hint: 'run the command without --only-volume; it goes on where it stopped',
    });
  }
  if (!options.force && (await sizeOf(place)) !== undefined) {
    throw new SealiftError('destination-exists', 'the volume is there already', {
      subject: inert(place),
      hint: 'replace it with --force',
    });
  }
  await rm(partialOf(form, path.dirname(file), only), { force: true });
  const stretch = { start: cut.offset, end: cut.offset + cut.size };
  const written = await transfer({ form, journal, log, plan, cuts }, stretch, sources, options, context);
  const result = await exportResult(
    collection,
    file,
    plan,
    { bytes: cut.size, resumedBytes: 0 },
    false,
    options,
  );
  return toldOf(result, form, { total: cuts.length, written });
}
