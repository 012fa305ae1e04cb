/** Content that lies in a file, handed out as sources hand it out. */
import { SealiftError } from '../errors.ts';
import type { Digest } from '../oci/digest.ts';
import type { OpenedBlob } from '../oci/layout.ts';

const CHUNK = 1024 * 1024;

/**
 * The content of a blob in pieces of their own; closes it in the end.
 * @throws SealiftError `size-mismatch` where the file has another amount
 */
export async function* readContent(
  open: () => Promise<OpenedBlob>,
  blob: { readonly digest: Digest; readonly size: number },
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { digest, size } = blob;
  const opened = await open();
  const mismatch = (got: number) =>
    new SealiftError('size-mismatch', `blob has another size: got ${got} bytes, want ${size}`, {
      subject: digest,
      got,
      want: size,
    });
  try {
    if (opened.size !== size) throw mismatch(opened.size);
    for (let position = 0; position < size; ) {
      signal.throwIfAborted();
      const buffer = Buffer.allocUnsafeSlow(Math.min(CHUNK, size - position));
      const { bytesRead } = await opened.handle.read(buffer, 0, buffer.length, opened.offset + position);
      // The file shrank while it was read.
      if (bytesRead === 0) throw mismatch(position);
      position += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await opened.close();
  }
}
