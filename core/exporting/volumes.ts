/**
 * An export into volumes, written in order and hashed on the way, into one directory or onto one medium after another. Any
 * interruption leaves a partial volume, a journal and a log of the volumes that are whole, and the same command goes on.
 */
import { createHash } from 'node:crypto';
import { rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { type Journal, openJournal } from '../bundle/journal.ts';
import { forgetOldest, type LoggedVolume, openVolumeLog, type VolumeLog } from '../bundle/volumes/log.ts';
import { cutVolumes, type VolumeCut, volumeIndexName, volumesText } from '../bundle/volumes/names.ts';
import { createVolumeFiles, type VolumeTarget } from '../bundle/volumes/sink.ts';
import { encodeVolumeIndex } from '../bundle/volumes/volume-index.ts';
import { TaintedVolumes, writeVolumes } from '../bundle/volumes/writer.ts';
import type { Context } from '../context.ts';
import { inert, SealiftError, toSealiftError } from '../errors.ts';
import { makeDirectory, writeFileDurably } from '../fs/durable.ts';
import { NotKept } from '../fs/read-back.ts';
import type { ExportResult, VolumeSummary } from '../results.ts';
import type { Collection } from '../trust/collection.ts';
import { formatBytes } from '../util/format.ts';
import { chooseVolumes } from '../volumes.ts';
import type { ExportOptions, VolumeOutput } from '../workflow-options.ts';
import { exportResult, publish } from './finish.ts';
import { planExport, requestHash, type SignedPlan } from './plan.ts';
import { findInterrupted, planFromJournal, sizeOf } from './resume.ts';
import type { SourceSet } from './sources.ts';
import { announceTransfer, digestOfPath, openTransfer, type Transfer } from './transfer.ts';
import { type Form, formOf, keptOf, partialOf, removePartials, volumesThere } from './volume-form.ts';
import { createMedia, type Media } from './volume-media.ts';

type FileOutput = Extract<ExportOptions['output'], { kind: 'file' }>;
type VolumeExport = ExportOptions & { readonly volumes: VolumeOutput };

/** Bytes after which finished blobs are made durable and entered in the journal. */
const SYNC_EVERY = 64 * 1024 * 1024;
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
    const { stretch, written } = await transfer(
      job,
      (directory) => whereToGoOn(job, directory, context),
      sources,
      options,
      context,
    );
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

/** Volumes that are whole, from the first on without a gap. */
function contiguous(volumes: readonly LoggedVolume[]): readonly LoggedVolume[] {
  return volumes.filter(({ number }, index) => number === index + 1);
}

/** Behind the volumes that are whole, and in the partial one behind the blobs that are. */
async function whereToGoOn(
  { form, journal, log, plan, cuts }: Job,
  /** Where the next volume goes. */
  directory: string,
  context: Context,
): Promise<Stretch> {
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
  const partial = await keptOf(form, directory, whole.length + 1);
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

/** How often one volume is begun anew before the run ends. */
const MAX_ATTEMPTS = 5;

interface Transferred {
  /** What the first attempt set out to write. */
  readonly stretch: Stretch;
  readonly written: readonly VolumeSummary[];
}

/**
 * Writes the bundle into its volumes. Where a place gave wrong bytes and there is another, and where a medium was full or
 * kept other bytes and there is somebody to change it, the volumes concerned are written again in the same run.
 */
async function transfer(
  job: Job,
  whereTo: (directory: string) => Promise<Stretch>,
  sources: SourceSet,
  options: VolumeExport,
  context: Context,
): Promise<Transferred> {
  const { form, cuts } = job;
  const media = createMedia(form, cuts.length, options.volumes, context);
  const written = new Map<number, VolumeSummary>();
  const attempts = new Map<number, number>();
  let first: Stretch | undefined;
  const source = await openTransfer(job.plan, sources, context);
  try {
    for (;;) {
      const stretch = await whereTo(media.directory());
      first ??= stretch;
      const progress: Progress = { cut: undefined, failure: undefined };
      try {
        await writeStretch(job, stretch, { media, source, written, progress }, options, context);
        return { stretch: first, written: [...written.values()] };
      } catch (error) {
        const number = error instanceof TaintedVolumes ? error.first : (progress.cut?.number ?? 0);
        const tried = (attempts.get(number) ?? 0) + 1;
        attempts.set(number, tried);
        if (error instanceof TaintedVolumes) {
          await discard(error.first, media.directory(), job, options.volumes.only);
          for (const known of [...written.keys()]) if (known >= error.first) written.delete(known);
          const { size = 0 } = job.plan.bundle.layout.byName.get(error.blob) ?? {};
          if (tried >= MAX_ATTEMPTS || !(await source.distrust(error.blob, size))) throw error.cause;
          tellOtherPlace(error, context);
          continue;
        }
        const problem =
          error === progress.failure
            ? problemOfMedium(error, progress.cut, cuts.length, media.directory())
            : undefined;
        if (!problem || !progress.cut) throw error;
        if (tried >= MAX_ATTEMPTS || !(await media.change(progress.cut, problem))) throw problem;
      }
    }
  } finally {
    await source.close();
  }
}

function tellOtherPlace({ blob, first }: TaintedVolumes, context: Context): void {
  context.emit({
    type: 'notice',
    level: 'warning',
    code: 'source-damaged',
    message: `a place gave wrong bytes for ${digestOfPath(blob)}; another one is asked, and what was written from volume ${first} on is written again`,
  });
}

/** A medium that is full or keeps other bytes, told of the volume; undefined for everything else. */
function problemOfMedium(
  error: unknown,
  cut: VolumeCut | undefined,
  total: number,
  directory: string,
): SealiftError | undefined {
  const known = toSealiftError(error);
  if (!cut || !(known instanceof NotKept || known.code === 'destination-full')) return undefined;
  const { number, size } = cut;
  const whole =
    number === 1 ? '' : `${volumesText(range(number - 1))} ${number === 2 ? 'is' : 'are'} whole; `;
  const goesOn = `run the same command again; it goes on with volume ${number}`;
  if (known instanceof NotKept) {
    return new SealiftError('destination-failed', `the medium did not keep volume ${number} of ${total}`, {
      subject: known.subject,
      hint: `${whole}put another medium in its place and ${goesOn}`,
      cause: known,
    });
  }
  return new SealiftError(
    'destination-full',
    `the medium is full in the middle of volume ${number} of ${total}, ${formatBytes(size)}`,
    {
      subject: inert(directory, 4096),
      got: number - 1,
      want: total,
      hint: `${whole}free some space, or put a larger medium in its place, and ${goesOn}`,
      cause: known,
    },
  );
}

function range(to: number): readonly number[] {
  return Array.from({ length: to }, (_, index) => index + 1);
}

interface Progress {
  /** The volume that is being written. */
  cut: VolumeCut | undefined;
  /** What the medium answered last, where that was an error; everything else is no matter of the medium. */
  failure: unknown;
}

interface Writing {
  readonly media: Media;
  readonly source: Transfer;
  /** By number. */
  readonly written: Map<number, VolumeSummary>;
  readonly progress: Progress;
}

/** Writes a stretch of the bundle. */
async function writeStretch(
  { form, journal, log, plan, cuts }: Job,
  { start, end }: Stretch,
  { media, source, written, progress }: Writing,
  options: VolumeExport,
  context: Context,
): Promise<void> {
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
  const readBack = options.volumes.readBack ?? options.readBack ?? (async () => false);
  const { recipients, nameOf } = form;
  const files = recipients
    ? (await import('../encryption/sink.ts')).createEncryptedFiles(
        { directory: media.directory, nameOf, readBack, recipients },
        context,
      )
    : createVolumeFiles({ directory: media.directory, base, readBack }, context);
  const onMedium = <T>(work: Promise<T>): Promise<T> =>
    work.catch((error: unknown) => {
      progress.failure = error;
      throw error;
    });
  const target: VolumeTarget = {
    async open(cut, from) {
      if (from === 0) await media.prepare(cut);
      progress.cut = cut;
      const sink = await onMedium(files.open(cut, from));
      return {
        write: (chunk) => onMedium(sink.write(chunk)),
        sync: () => onMedium(sink.sync()),
        finish: () => onMedium(sink.finish()),
        close: () => sink.close(),
      };
    },
  };
  const coming = bundle.blobs.filter(
    ({ contentOffset, size }) => contentOffset < end && contentOffset + size > start,
  );
  const sizes = new Map(coming.map(({ name, size }) => [name, size]));
  announceTransfer(coming, options.volumes.only === undefined ? start : 0, context);
  /** Verified, and perhaps not durable yet. */
  let pending: string[] = [];
  let pendingBytes = 0;
  const mark = async (): Promise<void> => {
    const names = pending;
    pending = [];
    pendingBytes = 0;
    await journal.markDone(names);
  };
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
      written.set(cut.number, { number: cut.number, path: place, size: cut.size, sha256 });
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
}

/** Volumes that hold bytes of a blob that was not right are nothing to go on from. */
async function discard(
  first: number,
  directory: string,
  { form, log, cuts }: Pick<Job, 'form' | 'log' | 'cuts'>,
  only: number | undefined,
): Promise<void> {
  // A volume that is made again says nothing about the others, which were whole.
  if (only !== undefined) {
    await rm(partialOf(form, directory, only), { force: true });
    return;
  }
  await log.forget(first);
  for (const { number } of cuts.slice(first - 1)) {
    await rm(partialOf(form, directory, number), { force: true });
    await rm(path.join(directory, form.nameOf(number)), { force: true });
  }
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
  const job = { form, journal, log, plan, cuts };
  const { written } = await transfer(job, async () => stretch, sources, options, context);
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
