/**
 * The audit log, format 1 (docs/state.md): JSON lines, each with the hash of the line before. Lines are only ever
 * appended; the one exception is a last line that broke off, which is moved aside whole and reported by an entry.
 */
import { createHash } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { type FileHandle, open, readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { inert, isSealiftError, SealiftError } from '../errors.ts';
import { openAs } from '../fs/access.ts';
import { damagedDocument, formatTimestamp, parseDocument, SHA256_HEX, TIMESTAMP } from '../fs/document.ts';
import { fsyncDirectory, writeFileDurably } from '../fs/durable.ts';
import { canonicalJson } from '../json/canonical.ts';
import type { JsonObject, JsonValue } from '../json/strict.ts';

export const AUDIT_EVENTS = [
  'pin',
  'scopes',
  'trust-moved',
  'import',
  'checked',
  'refused',
  'removed',
  'gc',
  'weakened',
  'clock-reset',
  'policy',
  'officers',
  'approved',
  'receipt',
  'log-damaged',
] as const;
export type AuditEvent = (typeof AUDIT_EVENTS)[number];

export interface AuditEntry {
  /** SHA-256 of the line before without its newline, lower-case hex; 64 zeros in the first. */
  readonly prev: string;
  /** From 1, without gaps. */
  readonly seq: number;
  /** `YYYY-MM-DDTHH:MM:SSZ` */
  readonly at: string;
  readonly actor: string;
  readonly event: AuditEvent;
  readonly fields: JsonObject;
}

export interface AuditInput {
  readonly now: Date;
  readonly actor: string;
  readonly event: AuditEvent;
  /** What the event is about; no floats. Texts are made inert here. */
  readonly fields?: JsonObject | undefined;
}

export interface AuditVerification {
  readonly entries: number;
  readonly head: string;
  /** Lines that broke off while they were written; each was kept aside and an entry of the log says so. */
  readonly damaged: readonly string[];
  /** What is wrong, in words, with the number of the line; empty where the chain is whole. */
  readonly problems: readonly { readonly line: number; readonly problem: string }[];
}

export interface AuditLog {
  /** Appends an entry; resolves to the new head when it is durable. Calls must not overlap. */
  append(entry: AuditInput): Promise<string>;
  /** Forgets what is known of the file, because others may have written since. */
  forget(): void;
  head(): Promise<string>;
  verify(options?: { readonly knownHead?: string | undefined }): Promise<AuditVerification>;
}

export const EMPTY_HEAD = '0'.repeat(64);
/** A line with the names of a very large import. */
const MAX_LINE = 16 * 1024 * 1024;
const TAIL = 64 * 1024;
const NEWLINE = 0x0a;

interface Tail {
  /** Bytes up to and including the last whole line. */
  readonly size: number;
  readonly head: string;
  readonly seq: number;
  /** What is behind the last whole line. */
  readonly torn: Buffer;
}

/** The log at `file`; nothing is read or written yet. */
export function openAuditLog(file: string): AuditLog {
  const name = path.basename(file);
  const documentOptions = {
    file,
    hint: 'restore it from a backup; or move it away to begin a new log, and keep the old one for the auditor',
    maxBytes: MAX_LINE,
  };
  let known: Tail | undefined;

  function parseEntry(line: Uint8Array): AuditEntry {
    const document = parseDocument(line, documentOptions);
    const event = document.string('event');
    if (!isAuditEvent(event)) throw document.damaged(`unknown event ${inert(event)}`);
    const entry: AuditEntry = {
      prev: document.string('prev', SHA256_HEX),
      seq: document.integer('seq'),
      at: document.string('at', TIMESTAMP),
      actor: document.string('actor'),
      event,
      fields: document.object('fields').value,
    };
    if (Buffer.compare(encode(entry), line) !== 0) throw document.damaged('line is not canonical');
    return entry;
  }

  async function readTail(): Promise<Tail> {
    let handle: FileHandle;
    try {
      handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW);
    } catch (error) {
      if (isMissing(error)) return { size: 0, head: EMPTY_HEAD, seq: 0, torn: Buffer.alloc(0) };
      throw error;
    }
    try {
      const { size } = await handle.stat();
      // Two line ends are wanted: of the last whole line and of the one before it.
      let window = Math.min(size, TAIL);
      for (;;) {
        const bytes = Buffer.alloc(window);
        await readFully(handle, bytes, size - window);
        const tail = splitTail(bytes, size);
        if (tail) return tail;
        if (window === size || window > 4 * MAX_LINE)
          throw damagedDocument(documentOptions, 'no whole line was found at its end');
        window = Math.min(size, window * 8);
      }
    } finally {
      await handle.close();
    }
  }

  /** The tail out of the file's last bytes; undefined where they do not hold enough. */
  function splitTail(bytes: Buffer, size: number): Tail | undefined {
    const start = size - bytes.length;
    let end = bytes.lastIndexOf(NEWLINE) + 1;
    for (let attempt = 0; attempt < 2; attempt += 1) {
      if (end === 0) return start === 0 ? { size: 0, head: EMPTY_HEAD, seq: 0, torn: bytes } : undefined;
      const before = end < 2 ? -1 : bytes.lastIndexOf(NEWLINE, end - 2);
      if (before === -1 && start !== 0) return undefined;
      const line = bytes.subarray(before + 1, end - 1);
      const torn = bytes.subarray(end);
      try {
        return { size: start + end, head: hashOf(line), seq: parseEntry(line).seq, torn };
      } catch (error) {
        if (!isSealiftError(error)) throw error;
        // A power cut may leave a last line of the right length with blocks that were never written. Only ever one line.
        if (torn.length > 0 || attempt > 0) throw error;
        end = before + 1;
      }
    }
    return undefined;
  }

  async function append(input: AuditInput): Promise<string> {
    let tail = known ?? (await readTail());
    known = undefined;
    if (tail.torn.length > 0) {
      // First kept aside, under the number of the entry that will tell of it; then cut off. A crash in between repeats it.
      await writeFileDurably(asidePath(tail.seq + 1), tail.torn, 'state');
      const handle = await open(file, constants.O_WRONLY | constants.O_NOFOLLOW);
      try {
        await handle.truncate(tail.size);
        await handle.sync();
      } finally {
        await handle.close();
      }
      tail = { ...tail, torn: Buffer.alloc(0) };
    }
    const aside = await fileHash(asidePath(tail.seq + 1));
    if (aside) {
      const fields = { file: path.basename(asidePath(tail.seq + 1)), sha256: aside.sha256, size: aside.size };
      tail = await write(tail, { now: input.now, actor: input.actor, event: 'log-damaged', fields });
    }
    known = await write(tail, input);
    return known.head;
  }

  function asidePath(seq: number): string {
    return `${file}.damaged-${seq}`;
  }

  async function write(tail: Tail, input: AuditInput): Promise<Tail> {
    const seq = tail.seq + 1;
    const line = encode({
      prev: tail.head,
      seq,
      at: formatTimestamp(input.now),
      actor: inert(input.actor),
      event: input.event,
      fields: inertObject(input.fields ?? {}),
    });
    if (line.length >= MAX_LINE) {
      throw new SealiftError(
        'internal',
        `audit entry is too large: got ${line.length} bytes, want less than ${MAX_LINE}`,
      );
    }
    const bytes = Buffer.concat([line, Buffer.from([NEWLINE])]);
    const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW;
    const handle = await openAs(file, flags, 'state');
    try {
      const { size } = await handle.stat();
      if (size !== tail.size) throw damagedDocument(documentOptions, 'it changed while it was locked');
      const { bytesWritten } = await handle.write(bytes);
      if (bytesWritten !== bytes.length) {
        throw new SealiftError(
          'destination-full',
          `only ${bytesWritten} of ${bytes.length} bytes could be written`,
          {
            subject: file,
            hint: 'free some space and run the same command again; it goes on where it stopped',
          },
        );
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
    if (tail.seq === 0) await fsyncDirectory(path.dirname(file));
    return { size: tail.size + bytes.length, head: hashOf(line), seq, torn: Buffer.alloc(0) };
  }

  async function verify(
    options: { readonly knownHead?: string | undefined } = {},
  ): Promise<AuditVerification> {
    const problems: { line: number; problem: string }[] = [];
    const damaged: string[] = [];
    let prev = EMPTY_HEAD;
    let seq = 0;
    let number = 0;
    let seen = options.knownHead === undefined || options.knownHead === EMPTY_HEAD;
    for await (const { line, whole } of readLines(file)) {
      number += 1;
      const report = (problem: string): void => void problems.push({ line: number, problem });
      if (!whole) {
        report('line broke off');
        break;
      }
      let entry: AuditEntry;
      try {
        entry = parseEntry(line);
      } catch (error) {
        if (!isSealiftError(error)) throw error;
        report(error.message);
        prev = hashOf(line);
        seq += 1;
        seen ||= prev === options.knownHead;
        continue;
      }
      if (entry.prev !== prev)
        report('does not follow the line before it: a line was changed, removed, added or moved');
      if (entry.seq !== seq + 1) report(`wrong number: got ${entry.seq}, want ${seq + 1}`);
      seq = entry.seq;
      prev = hashOf(line);
      seen ||= prev === options.knownHead;
      const aside = entry.event === 'log-damaged' ? entry.fields['file'] : undefined;
      if (typeof aside === 'string') damaged.push(aside);
    }
    if (!seen)
      problems.push({
        line: number,
        problem: 'the head that is known from elsewhere is not in the log: lines were removed or changed',
      });
    const beside = await readdir(path.dirname(file)).catch(() => []);
    const prefix = `${name}.damaged-`;
    for (const found of beside) {
      if (found.startsWith(prefix) && !damaged.includes(found)) {
        problems.push({ line: number, problem: `${inert(found)} is not reported by an entry yet` });
      }
    }
    return { entries: number, head: prev, damaged, problems };
  }

  return {
    append,
    verify,
    forget: () => {
      known = undefined;
    },
    head: async () => (known ?? (await readTail())).head,
  };
}

function isAuditEvent(text: string): text is AuditEvent {
  return (AUDIT_EVENTS as readonly string[]).includes(text);
}

function encode(entry: AuditEntry): Buffer {
  return canonicalJson({
    actor: entry.actor,
    at: entry.at,
    event: entry.event,
    fields: entry.fields,
    prev: entry.prev,
    seq: entry.seq,
  });
}

function hashOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT';
}

function inertObject(object: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [inert(key), inertValue(value)]));
}

function inertValue(value: JsonValue): JsonValue {
  if (typeof value === 'string') return inert(value, 4096);
  if (Array.isArray(value)) return value.map(inertValue);
  if (typeof value === 'object' && value !== null) return inertObject(value as JsonObject);
  return value;
}

async function readFully(handle: FileHandle, target: Buffer, position: number): Promise<void> {
  let done = 0;
  while (done < target.length) {
    const { bytesRead } = await handle.read(target, done, target.length - done, position + done);
    if (bytesRead === 0) throw new SealiftError('state-damaged', 'the file shrank while it was read');
    done += bytesRead;
  }
}

async function fileHash(file: string): Promise<{ sha256: string; size: number } | undefined> {
  try {
    const { size } = await stat(file);
    const hash = createHash('sha256');
    for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer);
    return { sha256: hash.digest('hex'), size };
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/** Lines without their newline; `whole` is false for one without, or one that is longer than any line may be. */
async function* readLines(file: string): AsyncGenerator<{ line: Buffer; whole: boolean }> {
  let rest: Buffer[] = [];
  let pending = 0;
  try {
    for await (const chunk of createReadStream(file, { flags: 'r' })) {
      let from = 0;
      const bytes = chunk as Buffer;
      for (;;) {
        const end = bytes.indexOf(NEWLINE, from);
        if (end === -1) break;
        yield { line: Buffer.concat([...rest, bytes.subarray(from, end)]), whole: true };
        rest = [];
        pending = 0;
        from = end + 1;
      }
      if (from < bytes.length) {
        rest.push(bytes.subarray(from));
        pending += bytes.length - from;
        if (pending > MAX_LINE) break;
      }
    }
  } catch (error) {
    if (isMissing(error)) return;
    throw error;
  }
  if (rest.length > 0) yield { line: Buffer.concat(rest), whole: false };
}
