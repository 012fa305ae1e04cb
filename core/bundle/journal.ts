/**
 * The journal of an export, format 1 (docs/state.md): what makes an interrupted export go on where it stopped,
 * with the bytes that were signed and without asking for a passphrase again.
 *
 *     COLLECTION/journal/KEY/plan.json   what is being written; its presence means the export has been signed
 *                            signed.bin  the signed files and the small blobs that were held in memory
 *                            done.log    a line for each blob that is in the partial file and durable
 */
import { createHash } from 'node:crypto';
import { type FileHandle, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { openAs } from '../fs/access.ts';
import { checkFormat, type DocumentReader, parseDocument, TIMESTAMP } from '../fs/document.ts';
import { makeDirectory, readFileLimited, writeFileDurably } from '../fs/durable.ts';
import { canonicalJson } from '../json/canonical.ts';
import { type Digest, parseDigest } from '../oci/digest.ts';

const FORMAT_VERSION = 1;
const PLAN_LIMIT = 64 * 1024 * 1024;
const SIGNED_LIMIT = 1024 * 1024 * 1024;

export interface NamedBytes {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** Blobs that an earlier, abandoned partial file already holds. */
export interface ReusableFile {
  readonly path: string;
  readonly blobs: readonly { readonly digest: Digest; readonly offset: number; readonly size: number }[];
}

export interface JournalPlan {
  /** SHA-256 of what was asked for; another request is not the same export. */
  readonly request: string;
  /** Absolute path of the bundle to be. */
  readonly output: string;
  readonly partial: string;
  readonly version: number;
  readonly created: string;
  readonly expires: string;
  /** The files before the blobs, in archive order. */
  readonly head: readonly NamedBytes[];
  /** Small blobs held in memory, by entry name. */
  readonly held: readonly NamedBytes[];
  /** For each blob to transfer, by entry name: indexes into the images of the request whose sources have it. */
  readonly sources: readonly {
    readonly name: string;
    readonly mediaType: string;
    readonly images: readonly number[];
  }[];
  readonly reuse?: ReusableFile | undefined;
}

export interface Journal {
  /** Where it lies. */
  readonly directory: string;
  /** The signed plan of an interrupted export to this output; undefined where there is none. */
  read(): Promise<JournalPlan | undefined>;
  /** Records a signed plan, durably. */
  begin(plan: JournalPlan): Promise<void>;
  /** Names of the blobs that are in the partial file and durable. */
  done(): Promise<Set<string>>;
  /** Records blobs; call it after the partial file was fsynced. */
  markDone(names: readonly string[]): Promise<void>;
  /** Forgets everything. */
  end(): Promise<void>;
  close(): Promise<void>;
}

/** @param output absolute path of the bundle; the journal is found by it */
export function openJournal(collectionDirectory: string, output: string): Journal {
  const key = createHash('sha256').update(output).digest('hex').slice(0, 32);
  const directory = path.join(collectionDirectory, 'journal', key);
  const planFile = path.join(directory, 'plan.json');
  const signedFile = path.join(directory, 'signed.bin');
  const doneFile = path.join(directory, 'done.log');
  let log: FileHandle | undefined;

  async function close(): Promise<void> {
    await log?.close();
    log = undefined;
  }

  return {
    directory,
    async read() {
      const planBytes = await readFileLimited(planFile, PLAN_LIMIT);
      if (!planBytes) return undefined;
      const signed = await readFileLimited(signedFile, SIGNED_LIMIT);
      return parsePlan(planBytes, signed ?? Buffer.alloc(0), planFile);
    },
    async begin(plan) {
      await close();
      await makeDirectory(directory, 'state');
      // plan.json goes first and comes last: it says that the other two belong to it.
      await rm(planFile, { force: true });
      const signed = Buffer.concat([...plan.head, ...plan.held].map(({ bytes }) => bytes));
      await writeFileDurably(doneFile, '', 'state');
      await writeFileDurably(signedFile, signed, 'state');
      await writeFileDurably(planFile, encodePlan(plan, signed), 'state');
    },
    async done() {
      const bytes = await readFileLimited(doneFile, PLAN_LIMIT);
      const text = bytes?.toString('latin1') ?? '';
      // What follows the last newline is a torn write.
      return new Set(
        text
          .split('\n')
          .slice(0, -1)
          .filter((line) => line !== ''),
      );
    },
    async markDone(names) {
      if (names.length === 0) return;
      if (!log) {
        log = await openAs(doneFile, 'a', 'state');
        // Closes off what a torn write may have left.
        await log.appendFile('\n');
      }
      await log.appendFile(names.map((name) => `${name}\n`).join(''));
      await log.datasync();
    },
    async end() {
      await close();
      await rm(planFile, { force: true });
      await rm(directory, { recursive: true, force: true });
    },
    close,
  };
}

/**
 * Forgets exports that were signed and not finished, above the last version that was published: they hold what has been
 * thrown away since. One whose plan cannot be read is refused when it is gone on with.
 */
export async function forgetUnpublished(collectionDirectory: string, published: number): Promise<void> {
  const home = path.join(collectionDirectory, 'journal');
  for (const name of await readdir(home).catch(() => [])) {
    const file = path.join(home, name, 'plan.json');
    const bytes = await readFileLimited(file, PLAN_LIMIT).catch(() => undefined);
    if (!bytes) continue;
    const version = versionOf(bytes, file);
    if (version === undefined || version <= published) continue;
    await rm(file, { force: true });
    await rm(path.join(home, name), { recursive: true, force: true });
  }
}

function versionOf(bytes: Uint8Array, file: string): number | undefined {
  try {
    return parseDocument(bytes, { file, hint: '', maxBytes: PLAN_LIMIT }).integer('version');
  } catch {
    return undefined;
  }
}

function encodePlan(plan: JournalPlan, signed: Uint8Array): Buffer {
  const sizes = (files: readonly NamedBytes[]) =>
    files.map(({ name, bytes }) => ({ name, size: bytes.length }));
  return canonicalJson({
    formatVersion: FORMAT_VERSION,
    requires: [],
    request: plan.request,
    output: plan.output,
    partial: plan.partial,
    version: plan.version,
    created: plan.created,
    expires: plan.expires,
    head: sizes(plan.head),
    held: sizes(plan.held),
    signedSha256: createHash('sha256').update(signed).digest('hex'),
    sources: plan.sources.map(({ name, mediaType, images }) => ({ name, mediaType, images: [...images] })),
    ...(plan.reuse
      ? { reuse: { path: plan.reuse.path, blobs: plan.reuse.blobs.map((blob) => ({ ...blob })) } }
      : {}),
  });
}

function parsePlan(planBytes: Buffer, signed: Buffer, file: string): JournalPlan {
  const plan = parseDocument(planBytes, {
    file,
    hint: `remove ${path.dirname(file)} and run the export again; it starts anew`,
    maxBytes: PLAN_LIMIT,
  });
  checkFormat(plan, file, FORMAT_VERSION, []);
  if (createHash('sha256').update(signed).digest('hex') !== plan.string('signedSha256')) {
    throw plan.damaged('the signed files are not those of the plan');
  }
  let offset = 0;
  const cut = (entry: DocumentReader): NamedBytes => {
    const start = offset;
    offset += entry.integer('size');
    return { name: entry.string('name'), bytes: signed.subarray(start, offset) };
  };
  const head = plan.objects('head').map(cut);
  const held = plan.objects('held').map(cut);
  const reuse = plan.optionalObject('reuse');
  return {
    request: plan.string('request'),
    output: plan.string('output'),
    partial: plan.string('partial'),
    version: plan.integer('version'),
    created: plan.string('created', TIMESTAMP),
    expires: plan.string('expires', TIMESTAMP),
    head,
    held,
    sources: plan.objects('sources').map((entry) => ({
      name: entry.string('name'),
      mediaType: entry.string('mediaType'),
      images: entry.integers('images'),
    })),
    ...(reuse
      ? { reuse: { path: reuse.string('path'), blobs: reuse.objects('blobs').map(parseReusable) } }
      : {}),
  };
}

function parseReusable(blob: DocumentReader): ReusableFile['blobs'][number] {
  return {
    digest: parseDigest(blob.string('digest')),
    offset: blob.integer('offset'),
    size: blob.integer('size'),
  };
}
