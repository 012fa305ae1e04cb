/** Whether the head of an answer announces what was asked of a blob. */
import type { Context } from '../../context.ts';
import { inert, SealiftError } from '../../errors.ts';
import type { Digest } from '../../oci/digest.ts';
import { showUrl } from './failures.ts';
import { type Answer, contentLength, refuseEncoding, statusFailure } from './request.ts';
import type { Session } from './session.ts';

export interface Blob {
  readonly digest: Digest;
  readonly size: number;
}

/** Bytes from `start` up to but without `end`. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/**
 * An answer that has what was asked for: that part, or the whole where `span` goes to the end.
 * @returns number of bytes of its body that come before `span`
 * @throws SealiftError `source-*`, `size-mismatch`, `digest-mismatch`
 * @throws Transient as statusFailure says
 */
export async function checkBlobAnswer(
  answer: Answer,
  blob: Blob,
  span: Span,
  session: Session,
  context: Context,
): Promise<number> {
  const subject = blob.digest;
  const { start, end } = span;
  const refuse = (error: SealiftError): SealiftError => {
    answer.discard();
    return error;
  };
  const isPart = answer.status === 206 && (start > 0 || end < blob.size);
  if (answer.status === 200 && end < blob.size) {
    throw refuse(
      new SealiftError('source-protocol', 'registry sends the whole blob, want a part of it', {
        subject: showUrl(answer.url),
        got: answer.status,
        want: 206,
      }),
    );
  }
  if (answer.status !== 200 && !isPart) {
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
  const want = isPart ? end - start : blob.size;
  const length = contentLength(answer);
  if (isPart) {
    const range = answer.headers['content-range'] ?? '';
    const exact = `bytes ${start}-${end - 1}/`;
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
  return isPart ? 0 : start;
}

/** If-Range takes strong validators only (RFC 9110 section 13.1.5). */
export function strongTag(answer: Answer): string | undefined {
  const tag = answer.headers.etag;
  return tag !== undefined && /^"[\x21\x23-\x7e]{0,256}"$/.test(tag) ? tag : undefined;
}
