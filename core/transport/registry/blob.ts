/** A blob's content, over as many connections as it takes. */
import type { Context } from '../../context.ts';
import { inert, SealiftError } from '../../errors.ts';
import type { Digest } from '../../oci/digest.ts';
import { ask, type Repository } from './authorization.ts';
import { showUrl } from './failures.ts';
import { type Answer, contentLength, refuseEncoding, statusFailure } from './request.ts';
import { Transient, waitForRetry } from './retry.ts';
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
  blob: { readonly digest: Digest; readonly size: number },
  context: Context,
  start = 0,
): AsyncGenerator<Uint8Array, void, undefined> {
  const url = new URL(`blobs/${blob.digest}`, repository.base);
  const { size } = blob;
  let delivered = start;
  let etag: string | undefined;
  let failed = 0;
  let mark = start;
  for (let tried = false; ; tried = true) {
    try {
      const headers: Record<string, string> = { Accept: '*/*' };
      if (delivered > 0) headers['Range'] = `bytes=${delivered}-`;
      if (delivered > 0 && etag !== undefined) headers['If-Range'] = etag;
      const answer = await ask(session, repository, { url, headers, urgent: tried }, context);
      let skip = await checkHead(answer, blob, delivered, session, context);
      etag = strongTag(answer) ?? etag;
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
        delivered += fresh.length;
        yield fresh;
      }
      if (delivered === size) return;
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
      await waitForRetry(failure, failed, session.options, context);
    }
  }
}

function cutShort(
  blob: { readonly digest: Digest; readonly size: number },
  delivered: number,
  why: string,
  cause?: SealiftError,
): SealiftError {
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

/** @returns number of bytes at the beginning of the body that were delivered before */
async function checkHead(
  answer: Answer,
  blob: { readonly digest: Digest; readonly size: number },
  delivered: number,
  session: Session,
  context: Context,
): Promise<number> {
  const subject = blob.digest;
  const refuse = (error: SealiftError): SealiftError => {
    answer.discard();
    return error;
  };
  if (answer.status !== 200 && !(answer.status === 206 && delivered > 0)) {
    throw await statusFailure(answer, session, context, `no blob ${blob.digest}`);
  }
  refuseEncoding(answer);
  const named = answer.headers['docker-content-digest'];
  if (typeof named === 'string' && named !== blob.digest) {
    throw refuse(
      new SealiftError(
        'digest-mismatch',
        `registry sends another blob: got ${inert(named, 140)}, want ${blob.digest}`,
        {
          subject,
          got: inert(named, 140),
          want: blob.digest,
        },
      ),
    );
  }
  const isPart = answer.status === 206;
  const want = isPart ? blob.size - delivered : blob.size;
  const length = contentLength(answer);
  if (isPart) {
    const range = answer.headers['content-range'] ?? '';
    const exact = `bytes ${delivered}-${blob.size - 1}/`;
    if (range !== `${exact}${blob.size}` && range !== `${exact}*`) {
      throw refuse(
        new SealiftError(
          'source-protocol',
          `registry sends another part: got ${inert(range, 80)}, want ${exact}${blob.size}`,
          {
            subject: showUrl(answer.url),
            got: inert(range, 80),
            want: `${exact}${blob.size}`,
          },
        ),
      );
    }
  }
  if (length !== undefined && length !== want) {
    throw refuse(
      new SealiftError('size-mismatch', `registry announces another size: got ${length}, want ${want}`, {
        subject,
        got: length,
        want,
      }),
    );
  }
  return isPart ? 0 : delivered;
}

/** If-Range takes strong validators only (RFC 9110 section 13.1.5). */
function strongTag(answer: Answer): string | undefined {
  const tag = answer.headers.etag;
  return tag !== undefined && /^"[\x21\x23-\x7e]{0,256}"$/.test(tag) ? tag : undefined;
}
