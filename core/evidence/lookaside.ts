/** Lookaside storage of simple-signing signatures: `BASE/REPOSITORY@ALG=HEX/signature-N`, N from 1 without a gap. */
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Context } from '../context.ts';
import { inert, SealiftError } from '../errors.ts';
import { makeDirectory, readFileLimited, writeFileDurably } from '../fs/durable.ts';
import { type Digest, digestAlgorithm, digestHex } from '../oci/digest.ts';
import { parseReference } from '../oci/reference.ts';
import { discardBody, readAll, send, statusFailure } from '../transport/registry/request.ts';
import { retrying } from '../transport/registry/retry.ts';
import { takeSession } from '../transport/registry/session.ts';
import type { SourceOptions } from '../transport/source.ts';
import { MAX_SIMPLE_SIGNATURE } from '../trust/evidence/simple-signing.ts';
import { type LookasideSettings, MAX_REGISTRIES_D, parseRegistriesD } from './registries-d.ts';

const MAX_SIGNATURES = 128;

/**
 * The settings of a registries.d directory; one that is not there says nothing.
 * @throws SealiftError `invalid-argument`
 */
export async function readRegistriesD(
  directory: string,
  fallback: string | undefined,
): Promise<LookasideSettings> {
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  const files: { name: string; text: string }[] = [];
  for (const name of names.filter((found) => found.endsWith('.yaml')).sort()) {
    const file = path.join(directory, name);
    files.push({ name: file, text: String(await readFileLimited(file, MAX_REGISTRIES_D)) });
  }
  return parseRegistriesD(files, fallback);
}

/** Path of the signatures of a manifest below the base; the host is not part of it. */
function placeOf(name: string, digest: Digest): string {
  // The grammar of references leaves no `..` and no separator of any system in it.
  return `${parseReference(name).path}@${digestAlgorithm(digest)}=${digestHex(digest)}`;
}

/**
 * Every signature of a manifest in a lookaside, in order.
 * @param name of the image, whose repository is looked for
 * @throws SealiftError `source-*`; `invalid-argument` where the base is no URL it reads
 */
export async function readLookaside(
  base: string,
  name: string,
  digest: Digest,
  options: SourceOptions,
  context: Context,
): Promise<readonly Uint8Array[]> {
  const url = new URL(base);
  const place = placeOf(name, digest);
  const one =
    url.protocol === 'file:'
      ? (number: number) => readSignatureFile(path.join(fileURLToPath(url), place, `signature-${number}`))
      : (number: number) =>
          fetchSignature(`${base.replace(/\/+$/, '')}/${place}/signature-${number}`, options, context);
  const found: Uint8Array[] = [];
  for (;;) {
    context.signal.throwIfAborted();
    const bytes = await one(found.length + 1);
    if (!bytes) return found;
    if (found.length >= MAX_SIGNATURES) {
      throw new SealiftError('source-too-large', `too many signatures, want at most ${MAX_SIGNATURES}`, {
        subject: inert(base),
      });
    }
    found.push(bytes);
  }
}

async function readSignatureFile(file: string): Promise<Uint8Array | undefined> {
  return readFileLimited(file, MAX_SIMPLE_SIGNATURE);
}

async function fetchSignature(
  text: string,
  options: SourceOptions,
  context: Context,
): Promise<Uint8Array | undefined> {
  const session = takeSession(options);
  try {
    return await retrying(
      async () => {
        const answer = await send(session, { url: new URL(text), headers: {} }, context);
        if (answer.status === 404) {
          await discardBody(answer, session);
          return undefined;
        }
        if (answer.status !== 200) throw await statusFailure(answer, session, context, 'no signature');
        return readAll(answer, MAX_SIMPLE_SIGNATURE, session);
      },
      session.options,
      context,
    );
  } finally {
    session.release();
  }
}

/**
 * Adds a signature behind those that are there; one that is there already is not added again.
 * @param directory base of the lookaside
 * @returns path of the file
 */
export async function writeLookaside(
  directory: string,
  name: string,
  digest: Digest,
  signature: Uint8Array,
): Promise<string> {
  const place = path.join(directory, placeOf(name, digest));
  await makeDirectory(place);
  for (let number = 1; ; number += 1) {
    const file = path.join(place, `signature-${number}`);
    const there = await readSignatureFile(file);
    if (there && !Buffer.from(there).equals(signature)) continue;
    if (!there) await writeFileDurably(file, signature);
    return file;
  }
}
