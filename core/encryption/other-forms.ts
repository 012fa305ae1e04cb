/**
 * Messages of other forms than sealift and gpg 2.2 write (RFC 9580, gpg 2.4, old ciphers): the library reads them, all of
 * it on the calling thread.
 */
import { Readable } from 'node:stream';
import type { ReadableStream } from 'node:stream/web';
import { inert, isSealiftError } from '../errors.ts';
import { loadOpenpgp } from '../trust/openpgp-packets.ts';
import { malformed } from './packets.ts';
import { type DecryptionKeys, keysFor } from './session-keys.ts';

/** Bytes that may go in before any come out: a few pieces as large as the format allows, and packets nobody asked for. */
const MOST_AHEAD = 64 * 1024 * 1024;

/** As decryptStream(). */
export async function* decryptOtherForm(
  content: AsyncIterable<Uint8Array>,
  keys: DecryptionKeys,
  now: Date,
): AsyncGenerator<Uint8Array> {
  const { decrypt, readMessage } = await loadOpenpgp();
  let sourceFailure: unknown;
  /** What went in since the last piece came out; undefined while nobody waits for one. */
  let ahead: number | undefined = 0;
  async function* watched(): AsyncGenerator<Uint8Array> {
    try {
      for await (const piece of content) {
        if (ahead !== undefined) ahead += piece.length;
        // The library holds every packet but the content itself in memory, and a piece of that until it is authentic.
        if (ahead !== undefined && ahead > MOST_AHEAD)
          throw malformed(`got ${ahead} bytes of packets that are no content, want at most ${MOST_AHEAD}`);
        // Given away as it is: the library keeps no reference once it has read a piece.
        yield piece;
      }
    } catch (error) {
      sourceFailure = error;
      throw error;
    }
  }
  try {
    const message = await readMessage({ binaryMessage: webStream(watched()) });
    const { own } = keysFor(
      message.getEncryptionKeyIDs().map((id) => id.toHex()),
      keys,
    );
    if (own.length === 0) throw malformed('keys that gpg holds open messages of RFC 4880 with AES alone');
    // The library's own decrypt(): only there does the end of the data wait for the integrity check.
    const { data } = await decrypt({
      message,
      decryptionKeys: [...own],
      format: 'binary',
      date: now,
      config: {
        allowUnauthenticatedStream: true,
        // Without an integrity check there is nothing to wait for at the end.
        allowUnauthenticatedMessages: false,
        // Nothing compressed: a bundle is not, and what unpacks has no end.
        maxDecompressedMessageSize: 0,
      },
    });
    for await (const piece of data as unknown as AsyncIterable<Uint8Array>) {
      ahead = undefined;
      yield piece;
      ahead = 0;
    }
  } catch (error) {
    if (sourceFailure !== undefined) throw sourceFailure;
    if (isSealiftError(error)) throw error;
    throw malformed(inert((error as Error).message), error);
  }
}

/** As the library takes streams. */
function webStream(content: AsyncIterable<Uint8Array>): ReadableStream<Uint8Array> {
  // One piece at a time: pieces are large, and the default is to hold sixteen of them.
  const stream = Readable.from(content, { objectMode: true, highWaterMark: 1 });
  return Readable.toWeb(stream, {
    strategy: { highWaterMark: 0, size: () => 1 },
  }) as ReadableStream<Uint8Array>;
}
