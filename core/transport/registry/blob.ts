/** A blob's content, over as many connections as it takes. */
import type { Context } from '../../context.ts';
import { SealiftError } from '../../errors.ts';
import { ask, type Repository } from './authorization.ts';
import { type Blob, checkBlobAnswer, strongTag } from './blob-answer.ts';
import { createPartReader } from './parts.ts';
import { LONGEST_RETRY_AFTER, Transient, waitForRetry } from './retry.ts';
import type { Session } from './session.ts';

/** Progress after which failures are counted anew: a long download over a bad line must be able to end. */
const PROGRESS = 1024 * 1024;

/**
 * Yields exactly `size` bytes, or those from `start` on. After a failure it goes on from where it was by Range; where the server sends
 * the whole again, what was delivered is skipped. That both are the same content only the digest can tell.
 * @throws SealiftError `source-*`, `size-mismatch`, `digest-mismatch`
 */
export async function* readBlob(
  session: Session,
  repository: Repository,
  blob: Blob,
  context: Context,
  start = 0,
): AsyncGenerator<Uint8Array, void, undefined> {
  const url = new URL(`blobs/${blob.digest}`, repository.base);
  const { size } = blob;
  const parts = createPartReader({ session, repository, url, blob }, context);
  let delivered = start;
  let etag: string | undefined;
  let failed = 0;
  let mark = start;
  try {
    for (let tried = false; ; tried = true) {
      const place = parts.takePlace();
      try {
        let isCut = false;
        const headers: Record<string, string> = { Accept: '*/*' };
        if (delivered > 0) headers['Range'] = `bytes=${delivered}-`;
        if (delivered > 0 && etag !== undefined) headers['If-Range'] = etag;
        const placed = place !== undefined;
        const answer = await ask(session, repository, { url, headers, urgent: tried, placed }, context);
        let skip = await checkBlobAnswer(answer, blob, { start: delivered, end: size }, session, context);
        etag = strongTag(answer) ?? etag;
        parts.begin(answer, delivered);
        for await (const chunk of answer.body()) {
          let fresh = chunk;
          if (skip > 0) {
            const old = Math.min(skip, chunk.length);
            skip -= old;
            fresh = chunk.subarray(old);
            if (fresh.length === 0) continue;
          }
          if (delivered + fresh.length > size) {
            throw new SealiftError(
              'source-too-large',
              `blob does not end: got more than ${size} bytes, want ${size}`,
              {
                subject: blob.digest,
                got: `more than ${size}`,
                want: size,
              },
            );
          }
          const room = parts.room(delivered);
          isCut = fresh.length >= room && parts.areComing();
          if (isCut) fresh = fresh.subarray(0, room);
          delivered += fresh.length;
          yield fresh;
          if (isCut) break;
          parts.passed(delivered);
        }
        if (isCut) {
          place?.();
          for await (const piece of parts.take()) {
            delivered += piece.length;
            yield piece;
          }
          if (delivered < size) await waitAsAsked(parts.refusal(), session, context);
        }
        if (delivered === size) return;
        if (isCut) continue;
        throw new Transient(cutShort(blob, delivered, 'body ended too early'));
      } catch (error) {
        if (!(error instanceof Transient)) throw error;
        // Nothing is missing: the connection broke after the last byte.
        if (delivered === size && size > 0) return;
        if (delivered - mark >= PROGRESS) failed = 0;
        mark = delivered;
        failed += 1;
        const failure =
          error.failure.code === 'source-unreachable'
            ? new Transient(cutShort(blob, delivered, error.failure.message, error.failure), error.retryAfter)
            : error;
        place?.();
        await waitForRetry(failure, failed, session.options, context);
      } finally {
        place?.();
      }
    }
  } finally {
    parts.end();
  }
}

/** A host that refused a part wants to be left alone for a while, if not for so long that the blob would fail by it. */
async function waitAsAsked(
  refusal: Transient | undefined,
  { options }: Session,
  context: Context,
): Promise<void> {
  const longest = options.longestWaitMs ?? LONGEST_RETRY_AFTER;
  if (!refusal || options.retryTimes === 0 || (refusal.retryAfter ?? 0) > longest) return;
  await waitForRetry(refusal, 1, options, context);
}

function cutShort(blob: Blob, delivered: number, why: string, cause?: SealiftError): SealiftError {
  return new SealiftError(
    'source-unreachable',
    `blob is incomplete: got ${delivered} of ${blob.size} bytes: ${why}`,
    {
      subject: blob.digest,
      got: delivered,
      want: blob.size,
      hint: cause?.hint ?? 'run the same command again',
      cause,
    },
  );
}
