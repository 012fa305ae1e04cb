/**
 * What has been signed and waits for the next bundle: roles that were renewed, rotated or changed by hand, not yet
 * named by a snapshot. `staged.json` is the one commit point: it names the files by their metadata name and hash,
 * and they lie in `staged/` by their hash.
 */
import { createHash } from 'node:crypto';
import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { SealiftError } from '../errors.ts';
import { checkFormat, parseDocument, SHA256_HEX } from '../fs/document.ts';
import { fsyncDirectory, makeDirectory, readFileLimited, writeFileDurably } from '../fs/durable.ts';
import { canonicalJson } from '../json/canonical.ts';
import type { Limits } from '../limits.ts';

const FORMAT = 1;
const INDEX = 'staged.json';
const DIRECTORY = 'staged';
const MAX_INDEX = 16 * 1024 * 1024;
const FILE_NAME = /^[1-9][0-9]{0,15}\.[a-z0-9][a-z0-9._-]{0,127}\.json$/;
const SECRET_NAME = /^[0-9a-f]{40,64}\.(?:asc|gpg|pem)$/;
const HINT = 'restore the collection from its backup, or remove staged.json to give up what was staged';

export interface Staged {
  /** From the collection's counter: later than all that was published when it was staged. */
  readonly version: number;
  /** Metadata files by their name below metadata/. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  /**
   * Secret keys that were in use until what is staged took their roles, by their name below keys/: what comes back
   * when it is thrown away. Undefined in what older programs staged.
   */
  readonly aside?: readonly string[] | undefined;
  /** Of files that were read, by name: SHA-256 in hex. */
  readonly hashes?: ReadonlyMap<string, string> | undefined;
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/**
 * @param known what this run has read or written there: of the same hash, a file is not read again
 * @throws SealiftError `state-damaged`, `format-unsupported`
 */
export async function readStaged(
  directory: string,
  limits: Limits,
  known?: Staged | undefined,
): Promise<Staged | undefined> {
  const file = path.join(directory, INDEX);
  const bytes = await readFileLimited(file, MAX_INDEX);
  if (!bytes) return undefined;
  const document = parseDocument(bytes, { file, hint: HINT, maxBytes: MAX_INDEX });
  checkFormat(document, file, FORMAT, []);
  const entries = document.object('files');
  const files = new Map<string, Uint8Array>();
  const hashes = new Map<string, string>();
  for (const name of entries.keys()) {
    if (!FILE_NAME.test(name)) throw entries.damaged('a staged file has a name that no metadata has');
    const hash = entries.string(name, SHA256_HEX);
    hashes.set(name, hash);
    const before = known?.hashes?.get(name) === hash ? known.files.get(name) : undefined;
    if (before) {
      files.set(name, before);
      continue;
    }
    const content = await readFileLimited(path.join(directory, DIRECTORY, hash), limits.metadataFile);
    if (!content || sha256(content) !== hash) {
      throw new SealiftError('state-damaged', 'a staged file is missing or is not the one that was signed', {
        subject: path.join(directory, DIRECTORY, hash),
        hint: HINT,
      });
    }
    files.set(name, content);
  }
  const aside = document.value['aside'] === undefined ? undefined : document.strings('aside', SECRET_NAME);
  return { version: document.integer('version'), files, aside, hashes };
}

/**
 * Replaces all that is staged, in one step.
 * @param before what was read from there: its files are on disk already, under the hash that was checked
 */
export async function writeStaged(
  directory: string,
  staged: Staged,
  before?: Staged | undefined,
): Promise<Staged> {
  const home = path.join(directory, DIRECTORY);
  await makeDirectory(home);
  const files: Record<string, string> = {};
  for (const [name, bytes] of staged.files) {
    if (!FILE_NAME.test(name)) throw new SealiftError('internal', 'a staged file has no metadata name');
    const there = before?.files.get(name) === bytes ? before.hashes?.get(name) : undefined;
    const hash = there ?? sha256(bytes);
    files[name] = hash;
    if (there === undefined) await writeFileDurably(path.join(home, hash), bytes);
  }
  await writeFileDurably(
    path.join(directory, INDEX),
    canonicalJson({
      formatVersion: FORMAT,
      requires: [],
      version: staged.version,
      files,
      ...(staged.aside ? { aside: [...staged.aside] } : {}),
    }),
  );
  await sweep(home, new Set(Object.values(files)));
  return { ...staged, hashes: new Map(Object.entries(files)) };
}

/** Nothing is staged any more. */
export async function clearStaged(directory: string): Promise<void> {
  await rm(path.join(directory, INDEX), { force: true });
  await fsyncDirectory(directory);
  await rm(path.join(directory, DIRECTORY), { recursive: true, force: true });
}

async function sweep(home: string, named: ReadonlySet<string>): Promise<void> {
  for (const name of await readdir(home)) {
    if (!named.has(name)) await rm(path.join(home, name), { force: true });
  }
}
