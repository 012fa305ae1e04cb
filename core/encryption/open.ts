/** An encrypted bundle as a stream of its bytes: one message, or one for each volume, read in order. */
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import type { PrivateKey } from 'openpgp';
import { openRegularFile } from '../bundle/bytes.ts';
import { readPieces } from '../bundle/input.ts';
import { parseVolumeName, volumeName } from '../bundle/volumes/names.ts';
import type { Context } from '../context.ts';
import { inert, SealiftError } from '../errors.ts';
import type { BundleInput } from '../workflow-options.ts';
import { decryptStream, openDecryptionKey } from './decrypt.ts';
import { type HeldKey, openHeldKey } from './held-keys.ts';
import { ENCRYPTED_ENDING } from './names.ts';
import type { DecryptionKeys } from './session-keys.ts';

export type EncryptedInput = Extract<BundleInput, { kind: 'encrypted' }>;

/**
 * Opens the keys, and the messages one after another while they are read. Each ends with its own integrity check, before
 * the first byte of the next.
 * @throws SealiftError `bundle-not-found`, `volume-missing`, `volume-foreign`, `passphrase-needed`; from the stream what
 *   decryptStream() gives
 */
export async function openEncrypted(input: EncryptedInput, context: Context): Promise<Readable> {
  const files = input.stream ? [] : await locateMessages(input.paths);
  const own: PrivateKey[] = [];
  for (const key of input.keys) own.push(await openDecryptionKey(key, input.passphrase));
  const held: HeldKey[] = [];
  for (const reference of input.held?.references ?? [])
    if (input.held) held.push(await openHeldKey(reference, input.held.gpg, input.passphrase));
  const keys: DecryptionKeys = { own, held };
  const { stream } = input;
  async function* content(): AsyncGenerator<Uint8Array> {
    if (stream) yield* decryptStream(stream as unknown as AsyncIterable<Uint8Array>, keys, context);
    for (const file of files) {
      const { handle } = await openRegularFile(file);
      try {
        yield* decryptStream(readPieces(handle), keys, context);
      } finally {
        await handle.close();
      }
    }
  }
  return Readable.from(content(), { objectMode: false, signal: context.signal });
}

/** The messages in order: one file, a directory of volumes, one of them with its siblings, or all by name. */
export async function locateMessages(paths: readonly string[]): Promise<readonly string[]> {
  const [first = '', ...more] = paths;
  const isDirectory = await stat(first).then(
    (facts) => facts.isDirectory(),
    () => false,
  );
  if (more.length === 0 && !isDirectory && volumeOf(first) === undefined) return [first];
  const listed =
    more.length > 0
      ? paths
      : await listMessages(isDirectory ? first : path.dirname(first), volumeOf(first)?.base);
  const volumes = listed.map((file) => ({ file, name: volumeOf(file) }));
  const bases = [...new Set(volumes.map(({ name }) => name?.base))];
  const [base] = bases;
  if (volumes.length === 0) {
    throw new SealiftError('bundle-not-found', 'there is no encrypted bundle at that place', {
      subject: inert(first, 4096),
    });
  }
  if (bases.length > 1 || base === undefined) {
    throw new SealiftError('volume-foreign', 'not volumes of one bundle', {
      subject: inert(first, 4096),
      got: bases.map((name) => inert(name ?? 'no volume')).join(', '),
      hint: `name the volumes of one bundle, NAME.tar.001${ENCRYPTED_ENDING} and so on`,
    });
  }
  const byNumber = new Map(volumes.map(({ file, name }) => [name?.number ?? 0, file]));
  return Array.from({ length: Math.max(...byNumber.keys()) }, (_, index) => {
    const file = byNumber.get(index + 1);
    if (file !== undefined) return file;
    throw new SealiftError('volume-missing', `volume ${index + 1} is missing`, {
      subject: inert(`${volumeName(base, index + 1)}${ENCRYPTED_ENDING}`),
      hint: 'bring all encrypted volumes together in one directory, or name them all',
    });
  });
}

function volumeOf(file: string): ReturnType<typeof parseVolumeName> {
  const name = path.basename(file);
  return name.endsWith(ENCRYPTED_ENDING)
    ? parseVolumeName(name.slice(0, -ENCRYPTED_ENDING.length))
    : undefined;
}

async function listMessages(directory: string, base: string | undefined): Promise<readonly string[]> {
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return [];
    throw error;
  });
  return names
    .filter((name) => {
      const volume = volumeOf(name);
      return volume !== undefined && (base ?? volume.base) === volume.base;
    })
    .map((name) => path.join(directory, name));
}
