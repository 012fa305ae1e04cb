import { createReadStream } from 'node:fs';
import path from 'node:path';
import { inert, SealiftError } from '../../core/errors.ts';
import type { Limits } from '../../core/limits.ts';
import type { SkippedListValue } from '../../core/results.ts';
import type { NamedLocation } from '../../core/transport/location.ts';
import type { OptionGroup } from '../args.ts';
import type { Runtime } from '../command.ts';

/** Options of commands that take lists of images. */
export const listOptions = {
  list: {
    kind: 'list',
    alias: 'f',
    value: 'FILE|-',
    describe:
      'the images in this list: one a line, or any YAML or JSON (Kubernetes, compose, helm template); - is standard input',
  },
} as const satisfies OptionGroup;

export interface ReadLists {
  readonly images: readonly NamedLocation[];
  readonly skipped: readonly SkippedListValue[];
}

/**
 * The images of all lists that were named; tells of every value that could be an image and is none.
 * @throws SealiftError `list-invalid`, `invalid-argument`
 */
export async function readLists(runtime: Runtime): Promise<ReadLists> {
  const { args, workflows, cwd } = runtime;
  const files = args.list('list');
  if (files.length === 0) return { images: [], skipped: [] };
  const fromStdin = files.filter((file) => file === '-').length;
  if (fromStdin > 1 || (fromStdin === 1 && args.flag('password-stdin')))
    throw new SealiftError('invalid-argument', 'standard input can be read once', { subject: '--list' });
  const limits = await workflows.limits();
  const images: NamedLocation[] = [];
  const skipped: SkippedListValue[] = [];
  for (const file of files) {
    const name = file === '-' ? 'standard input' : file;
    const stream = file === '-' ? runtime.stdin : createReadStream(path.resolve(cwd, file));
    const list = await workflows.parseImageList(await readAll(stream, name, limits), name, limits);
    for (const { value, place, reason } of list.skipped) {
      const where = `${inert(name)}, ${place}`;
      runtime.notice(
        'warning',
        'no-image',
        `${where}: ${value === '' ? '""' : value} is left out, ${reason}`,
      );
      skipped.push({ value, place: where, reason });
    }
    if (list.images.length === 0)
      throw new SealiftError('list-invalid', 'the list names no image', { subject: inert(name) });
    images.push(...list.images.map(({ location }) => location));
  }
  return { images, skipped };
}

async function readAll(stream: NodeJS.ReadableStream, name: string, limits: Limits): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of stream) {
      const piece = Buffer.from(chunk as Uint8Array | string);
      bytes += piece.length;
      if (bytes > limits.listFile) {
        throw new SealiftError(
          'list-invalid',
          `the list is too large: want at most ${limits.listFile} bytes`,
          {
            subject: inert(name),
          },
        );
      }
      chunks.push(piece);
    }
  } catch (error) {
    if (error instanceof SealiftError) throw error;
    throw new SealiftError('invalid-argument', `cannot read the list: ${inert((error as Error).message)}`, {
      subject: inert(name),
      cause: error,
    });
  }
  return Buffer.concat(chunks);
}
