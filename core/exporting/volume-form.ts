/** What the volumes of an export are: plain bytes or messages, how large, and what their files are called. */
import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import {
  assertPortableName,
  MAX_VOLUMES,
  MIN_VOLUME_SIZE,
  type VolumeCut,
  volumeName,
} from '../bundle/volumes/names.ts';
import { partialSize } from '../bundle/volumes/sink.ts';
import type { Context } from '../context.ts';
import type { Recipients } from '../encryption/encrypt.ts';
import { ENCRYPTED_ENDING, messageOverhead } from '../encryption/names.ts';
import { SealiftError } from '../errors.ts';
import type { ExportOptions } from '../workflow-options.ts';

/** What the volumes are files of, and what these are called. */
export interface Form {
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

export async function formOf(
  output: { readonly path: string },
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
  const overhead = messageOverhead(recipients, volumes.size);
  const size = volumes.size - overhead;
  if (size < MIN_VOLUME_SIZE) {
    throw new SealiftError('invalid-argument', 'a volume is too small to be encrypted', {
      subject: '--volume-size',
      got: volumes.size,
      want: MIN_VOLUME_SIZE + overhead,
    });
  }
  const nameOf = (number: number) => `${volumeName(base, number)}${ENCRYPTED_ENDING}`;
  return { file, size, numbered: true, nameOf, recipients };
}

/** Paths of volumes of this bundle in a directory. */
export async function volumesThere(directory: string, form: Form, but?: number): Promise<readonly string[]> {
  const known = new Set(Array.from({ length: MAX_VOLUMES }, (_, index) => form.nameOf(index + 1)));
  if (but !== undefined) known.delete(form.nameOf(but));
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  return names.filter((name) => known.has(name)).map((name) => path.join(directory, name));
}

/** Where a volume is while it is being written. */
export function partialOf({ nameOf }: Form, directory: string, number: number): string {
  return path.join(directory, `.${nameOf(number)}.partial`);
}

export async function removePartials(form: Form, cuts: readonly VolumeCut[]): Promise<void> {
  for (const { number } of cuts) await rm(partialOf(form, path.dirname(form.file), number), { force: true });
}

/** Bytes of a partial volume that can be gone on from; none of a message. */
export async function keptOf(form: Form, directory: string, number: number): Promise<number> {
  return form.recipients ? 0 : partialSize(directory, path.basename(form.file), number);
}
