/** Volumes as encrypted files: one OpenPGP message each. A message cannot be gone on with; its volume is written anew. */
import { type FileHandle, rename } from 'node:fs/promises';
import path from 'node:path';
import type { VolumeSink, VolumeTarget } from '../bundle/volumes/sink.ts';
import { assertKept } from '../bundle/volumes/sink.ts';
import type { Context } from '../context.ts';
import { SealiftError } from '../errors.ts';
import { createPartial, fsyncDirectory, makeDirectory } from '../fs/durable.ts';
import { encryptStream, type Recipients } from './encrypt.ts';

export interface EncryptedFilesOptions {
  /** Where the next volume goes; asked for each. */
  readonly directory: () => string;
  /** File name of a volume, `images.tar.003.gpg`. */
  readonly nameOf: (number: number) => string;
  readonly readBack: (directory: string) => Promise<boolean>;
  readonly recipients: Recipients;
}

/** Where a message is while it is being written. */
export function partialMessage(directory: string, name: string): string {
  return path.join(directory, `.${name}.partial`);
}

/** Hashes are those of what is encrypted: no two messages of the same content are alike. */
export function createEncryptedFiles(options: EncryptedFilesOptions, context: Context): VolumeTarget {
  const { directory, nameOf, readBack, recipients } = options;
  return {
    async open(cut, from) {
      if (from > 0) throw new SealiftError('internal', 'an encrypted volume cannot be gone on with');
      const where = directory();
      await makeDirectory(where);
      const name = nameOf(cut.number);
      const partial = partialMessage(where, name);
      const handle = await createPartial(partial);
      const checked = await readBack(where);
      return createMessageSink(
        { handle, partial, final: path.join(where, name), recipients, checked },
        context,
      );
    },
  };
}

interface OpenMessage {
  readonly handle: FileHandle;
  readonly partial: string;
  readonly final: string;
  readonly recipients: Recipients;
  /** Read back once it is written. */
  readonly checked: boolean;
}

function createMessageSink(
  { handle, partial, final, recipients, checked }: OpenMessage,
  context: Context,
): VolumeSink {
  const plain = context.pool.stream({ algorithms: ['sha256'] });
  const sealed = checked ? context.pool.stream({ algorithms: ['sha256'] }) : undefined;
  const channel = createChannel();
  let closed = false;

  const pump = (async () => {
    for await (const chunk of encryptStream(channel.content(), recipients, context)) {
      for (let done = 0; done < chunk.length; ) {
        const { bytesWritten } = await handle.write(chunk, done, chunk.length - done);
        done += bytesWritten;
      }
      await sealed?.give(chunk);
    }
  })();
  // Told to whoever writes or finishes next.
  pump.catch((error: unknown) => channel.fail(error));

  async function close(): Promise<void> {
    if (closed) return;
    closed = true;
    channel.fail(new SealiftError('cancelled', 'the volume was given up'));
    await pump.catch(() => undefined);
    plain.abort();
    sealed?.abort();
    await handle.close();
  }

  return {
    async write(chunk) {
      const hashed = plain.write(chunk);
      await channel.put(chunk);
      await hashed;
    },
    // There is nothing in a half message worth keeping.
    async sync() {},
    async finish() {
      await channel.end();
      await pump;
      const { hashes } = await plain.finish();
      const written = await sealed?.finish();
      await handle.sync();
      closed = true;
      await handle.close();
      if (written) await assertKept(partial, written.hashes.sha256 ?? '', context);
      await rename(partial, final);
      await fsyncDirectory(path.dirname(final));
      return { sha256: hashes.sha256 ?? '' };
    },
    close,
  };
}

/** Hands pieces from one side to the other, one at a time, so that memory stays flat. */
function createChannel() {
  let waiting: { readonly chunk: Uint8Array | undefined; readonly taken: () => void } | undefined;
  let wake: (() => void) | undefined;
  let failure: { readonly error: unknown } | undefined;
  let refuse: ((error: unknown) => void) | undefined;

  function put(chunk: Uint8Array | undefined): Promise<void> {
    if (failure) return Promise.reject(failure.error);
    return new Promise((resolve, reject) => {
      refuse = reject;
      waiting = { chunk, taken: resolve };
      wake?.();
    });
  }
  return {
    put,
    end: () => put(undefined),
    fail(error: unknown): void {
      failure ??= { error };
      refuse?.(error);
      wake?.();
    },
    async *content(): AsyncGenerator<Uint8Array> {
      for (;;) {
        if (failure) throw failure.error;
        if (!waiting) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
          wake = undefined;
          continue;
        }
        const { chunk, taken } = waiting;
        waiting = undefined;
        // Whoever put it may use its memory again once the other side is done with it.
        if (chunk !== undefined) yield chunk;
        taken();
        if (chunk === undefined) return;
      }
    },
  };
}
