/**
 * What a notary server has of one repository: everything that a client of Docker Content Trust would ask for, byte for
 * byte. From the timestamp on each file is asked for by the hash that the one before names, so that what is carried
 * belongs together even where somebody publishes meanwhile.
 */
import { createHash } from 'node:crypto';
import type { Context } from '../../context.ts';
import { isSealiftError, SealiftError } from '../../errors.ts';
import type { Reference } from '../../oci/reference.ts';
import { ask, type Repository } from '../../transport/registry/authorization.ts';
import { showUrl } from '../../transport/registry/failures.ts';
import { discardBody, readAll, refuseEncoding, statusFailure } from '../../transport/registry/request.ts';
import { retrying } from '../../transport/registry/retry.ts';
import { takeSession } from '../../transport/registry/session.ts';
import type { SourceOptions } from '../../transport/source.ts';
import {
  delegationsOf,
  expiryOf,
  type FileMeta,
  filesNamed,
  readSigned,
  tagsIn,
  versionOf,
} from './metadata.ts';
import type { NotaryServer } from './settings.ts';

/** A file by the name it has in a client's directory: `root.json`, `1.root.json`, `targets/releases.json`. */
export interface MetadataFile {
  readonly name: string;
  readonly bytes: Uint8Array;
}

const MAX_TIMESTAMP = 256 * 1024;
const MAX_FILE = 4 * 1024 * 1024;
/** Bytes of all files of a repository together. */
export const MAX_CONTENT_TRUST = 16 * 1024 * 1024;
const MAX_DELEGATIONS = 256;
/** A rotation of the root key is an event of years. */
const MAX_ROOTS = 256;

const HINT = 'to do without Docker Content Trust, add --exclude-evidence notary';

/**
 * The metadata of a repository: the last root and all before it, timestamp, snapshot, targets, delegated roles.
 * @returns undefined where the server has nothing of it
 * @throws SealiftError `source-*`; `digest-mismatch` where a file is not the one that another names; `json-*`
 */
export async function fetchContentTrust(
  { base, isOfRegistry }: NotaryServer,
  { domain, path }: Pick<Reference, 'domain' | 'path'>,
  options: SourceOptions,
  context: Context,
): Promise<readonly MetadataFile[] | undefined> {
  const gun = `${domain}/${path}`;
  const session = takeSession(options);
  const repository: Repository = {
    base: new URL(`v2/${gun}/_trust/tuf/`, base),
    path: gun,
    scope: `repository:${gun}:pull`,
    credentialsHost: base.host,
    ...(isOfRegistry ? { otherCredentials: { host: domain, path } } : {}),
  };
  let total = 0;
  const get = (name: string, most: number): Promise<Uint8Array | undefined> =>
    retrying(
      async () => {
        const url = new URL(`${name}.json`, repository.base);
        const answer = await ask(session, repository, { url, headers: {} }, context);
        if (answer.status === 404) {
          await discardBody(answer, session);
          return undefined;
        }
        if (answer.status !== 200)
          throw await statusFailure(answer, session, context, `no metadata ${name}.json`);
        refuseEncoding(answer);
        const bytes = await readAll(answer, most, session);
        total += bytes.length;
        if (total > MAX_CONTENT_TRUST)
          throw tooMuch(`the files are too large together, want at most ${MAX_CONTENT_TRUST} bytes`);
        return bytes;
      },
      session.options,
      context,
    );
  const tooMuch = (problem: string) =>
    new SealiftError('source-too-large', `the metadata of a notary server: ${problem}`, {
      subject: showUrl(repository.base),
    });
  const named = (role: string, meta: FileMeta | undefined) => getNamed(get, repository, role, meta);
  const signed = (bytes: Uint8Array, type: string, role: string) => {
    const found = readSigned(bytes, type, showUrl(new URL(`${role}.json`, repository.base)), context.limits);
    // What claims are read from has to be readable, here where it can still be left out.
    expiryOf(found);
    if (type === 'Targets') tagsIn(found);
    return found;
  };
  try {
    const timestamp = await get('timestamp', MAX_TIMESTAMP);
    if (timestamp === undefined) return undefined;
    const snapshotMeta = filesNamed(signed(timestamp, 'Timestamp', 'timestamp')).get('snapshot');
    const snapshot = await named('snapshot', snapshotMeta);
    const meta = filesNamed(signed(snapshot, 'Snapshot', 'snapshot'));
    const root = await named('root', meta.get('root'));
    const version = versionOf(signed(root, 'Root', 'root'));
    if (version > MAX_ROOTS) throw tooMuch(`version ${version} of the root, want at most ${MAX_ROOTS}`);
    const files: MetadataFile[] = [];
    for (let number = 1; number < version; number += 1) {
      // Servers may have forgotten the first ones; which of them count is for who judges.
      const bytes = await get(`${number}.root`, MAX_FILE);
      if (bytes) files.push({ name: `${number}.root.json`, bytes });
    }
    files.push({ name: 'root.json', bytes: root });
    files.push({ name: 'timestamp.json', bytes: timestamp }, { name: 'snapshot.json', bytes: snapshot });
    const waiting = ['targets'];
    const seen = new Set(waiting);
    for (const role of waiting) {
      // A delegation that nobody has signed anything for yet has no file.
      if (role !== 'targets' && !meta.has(role)) continue;
      const bytes = await named(role, meta.get(role));
      files.push({ name: `${role}.json`, bytes });
      for (const child of delegationsOf(signed(bytes, 'Targets', role), role)) {
        if (seen.has(child)) continue;
        seen.add(child);
        waiting.push(child);
      }
      if (seen.size > MAX_DELEGATIONS)
        throw tooMuch(`${seen.size} delegated roles, want at most ${MAX_DELEGATIONS}`);
    }
    return files;
  } catch (error) {
    throw explained(error, repository, isOfRegistry ? undefined : domain);
  } finally {
    session.release();
  }
}

/** A file that another one names, by its hash where the server has it under that, else by its role. */
async function getNamed(
  get: (name: string, most: number) => Promise<Uint8Array | undefined>,
  repository: Repository,
  role: string,
  meta: FileMeta | undefined,
): Promise<Uint8Array> {
  const subject = showUrl(new URL(`${role}.json`, repository.base));
  if (meta === undefined)
    throw new SealiftError('source-protocol', `the snapshot or timestamp names no ${role}`, { subject });
  if (meta.length > MAX_FILE) {
    throw new SealiftError('source-too-large', `${role}.json is too large: got ${meta.length} bytes`, {
      subject,
      got: meta.length,
      want: MAX_FILE,
    });
  }
  const bytes = (await get(`${role}.${meta.sha256}`, meta.length)) ?? (await get(role, MAX_FILE));
  if (bytes === undefined) {
    throw new SealiftError('source-protocol', `the server has no ${role}.json, which other metadata names`, {
      subject,
    });
  }
  const got = createHash('sha256').update(bytes).digest('hex');
  if (got !== meta.sha256) {
    throw new SealiftError(
      'digest-mismatch',
      `${role}.json is not the file that other metadata names: got sha256 ${got}, want ${meta.sha256}`,
      { subject, got, want: meta.sha256 },
    );
  }
  return bytes;
}

/** @param domain of a registry that the server was not named for */
function explained(error: unknown, { base }: Repository, domain: string | undefined): unknown {
  if (!isSealiftError(error) || error.category === 'cancelled') return error;
  const { code, message, subject, got, want } = error;
  const also =
    domain === undefined
      ? ''
      : `, or say --notary-server ${domain}=${base.origin} if it may see the credentials for ${domain}`;
  const hint =
    code === 'source-unauthorized' ? `log in with sealift login ${base.host}${also}; ${HINT}` : HINT;
  return new SealiftError(code, `notary server: ${message}`, {
    subject: subject ?? showUrl(base),
    got,
    want,
    hint,
    cause: error,
  });
}
