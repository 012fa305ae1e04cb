/** One request, with its redirects: what comes back is an answer of any status, or a failure. */
import http from 'node:http';
import https from 'node:https';
import type { Context } from '../../context.ts';
import { inert, SealiftError } from '../../errors.ts';
import { connectionFailure, PROXY_LOGIN_HINT, Stall, showUrl } from './failures.ts';
import { showProxy } from './proxy.ts';
import { parseRetryAfter, Transient } from './retry.ts';
import { type Session, TunnelAgent } from './session.ts';

export interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  /** All fields of that name. */
  field(name: string): readonly string[];
  /** Where it came from in the end. */
  readonly url: URL;
  /**
   * The body, once. Ending early drops the connection.
   * @throws Transient, SealiftError as connectionFailure says
   */
  body(): AsyncIterable<Uint8Array>;
  /** Drops the connection, unless the body was read. */
  discard(): void;
}

export interface Question {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  /** Goes to the origin of `url` and nowhere else. */
  readonly authorization?: string | undefined;
  /**
   * Does not wait for a place. For what goes on with something begun: its place may have gone to a request
   * whose body nobody reads until this one is done.
   */
  readonly urgent?: boolean | undefined;
  /** Whoever asks holds a place, and gives it back. */
  readonly placed?: boolean | undefined;
  /** The registry this is about; its own authorities count wherever the request goes. */
  readonly registry?: URL | undefined;
  /** Makes it a POST; such a request follows no redirect. */
  readonly form?: URLSearchParams | undefined;
  /** Asks for the status alone (HEAD). */
  readonly statusOnly?: boolean | undefined;
}

const REDIRECTS = new Set([301, 302, 303, 307, 308]);
const MAX_REDIRECTS = 5;
const MAX_HEADER_BYTES = 32 * 1024;
/** Of a body nobody wants: read so that the connection can be used again. */
const MAX_DISCARDED_BYTES = 64 * 1024;
const MAX_LOCATION_LENGTH = 16 * 1024;

/**
 * Sends a request and follows its redirects: at most 5, none twice, none from https to http. The Authorization
 * header ends with the first redirect to another host, port or scheme and does not come back.
 * @throws SealiftError `source-protocol`, `source-tls`, `source-unreachable`, `cancelled`
 * @throws Transient
 */
export async function send(session: Session, question: Question, context: Context): Promise<Answer> {
  // One place for a request with its redirects and its body, so that requests are served in their order.
  let release: () => void;
  try {
    release =
      question.placed === true
        ? () => {}
        : await session.limiterFor(question.url).acquire(context.signal, question.urgent);
  } catch (error) {
    throw connectionFailure(error, question.url, context.signal);
  }
  try {
    return await follow(session, question, context, release);
  } catch (error) {
    release();
    throw error;
  }
}

async function follow(
  session: Session,
  question: Question,
  context: Context,
  release: () => void,
): Promise<Answer> {
  let { url, authorization } = question;
  const seen = new Set([url.href]);
  for (;;) {
    const message = await exchange(session, { ...question, url, authorization }, context.signal, true).catch(
      (error: unknown) => {
        throw connectionFailure(error, url, context.signal, undefined, session.proxyFor(url));
      },
    );
    const answer = createAnswer(message, url, session, context.signal);
    if (!REDIRECTS.has(answer.status)) {
      if (message.closed) release();
      else message.once('close', release);
      return answer;
    }
    await discardBody(answer, session);
    if (question.form !== undefined) {
      throw new SealiftError('source-protocol', `answered a POST with a redirect (status ${answer.status})`, {
        subject: showUrl(url),
      });
    }
    const target = redirectTarget(answer);
    if (seen.has(target.href)) {
      throw refuseRedirect(url, `redirects go in a circle, to ${showUrl(target)}`, showUrl(target));
    }
    if (seen.size > MAX_REDIRECTS)
      throw refuseRedirect(url, `too many redirects, want at most ${MAX_REDIRECTS}`);
    seen.add(target.href);
    if (target.origin !== url.origin) authorization = undefined;
    url = target;
  }
}

function refuseRedirect(url: URL, message: string, got?: string): SealiftError {
  return new SealiftError('source-protocol', message, {
    subject: showUrl(url),
    got: got === undefined ? undefined : inert(got),
  });
}

/** @throws SealiftError `source-protocol` */
function redirectTarget({ url, status, headers: { location } }: Answer): URL {
  if (location === undefined || location.length > MAX_LOCATION_LENGTH || !URL.canParse(location, url.href)) {
    throw refuseRedirect(url, `redirect without a usable target (status ${status})`);
  }
  const target = new URL(location, url);
  target.hash = '';
  if (target.protocol !== 'https:' && target.protocol !== 'http:') {
    throw refuseRedirect(url, 'redirect to another protocol', target.protocol);
  }
  if (target.username !== '' || target.password !== '') {
    throw refuseRedirect(url, 'redirect to a URL with credentials', target.host);
  }
  if (url.protocol === 'https:' && target.protocol === 'http:') {
    throw refuseRedirect(url, `redirect from https to http, to ${showUrl(target)}`, showUrl(target));
  }
  return target;
}

/** @param mayRepeat once more at once, where a kept connection turns out to be closed by the other side */
async function exchange(
  session: Session,
  question: Question,
  signal: AbortSignal,
  mayRepeat: boolean,
): Promise<http.IncomingMessage> {
  const { url, form, statusOnly } = question;
  const headers: Record<string, string> = {
    'User-Agent': 'sealift',
    'Accept-Encoding': 'identity',
    ...question.headers,
  };
  if (question.authorization !== undefined) headers['Authorization'] = question.authorization;
  const payload = form === undefined ? undefined : Buffer.from(form.toString());
  if (payload) {
    headers['Content-Type'] = 'application/x-www-form-urlencoded';
    headers['Content-Length'] = String(payload.length);
  }
  const agent = await session.agentFor(url, question.registry);
  return new Promise((resolve, reject) => {
    const request = (url.protocol === 'https:' ? https : http).request(url, {
      agent,
      headers,
      method: payload ? 'POST' : statusOnly ? 'HEAD' : 'GET',
      signal,
      maxHeaderSize: MAX_HEADER_BYTES,
    });
    const opening = agent instanceof TunnelAgent ? agent.takeOpening() : undefined;
    const giveUp = (error: Error): void => {
      request.destroy(error);
      // Until the way through a proxy is open, the request hears of its end from there.
      opening?.destroy(error);
    };
    const abort = () => giveUp(new Error('stopped', { cause: signal.reason }));
    if (opening) signal.addEventListener('abort', abort, { once: true });
    const { timeoutMs } = session.options;
    const timer = setTimeout(() => giveUp(new Stall(`no answer within ${timeoutMs} ms`)), timeoutMs);
    request.once('close', () => signal.removeEventListener('abort', abort));
    request.once('socket', (socket) => {
      signal.removeEventListener('abort', abort);
      timer.refresh();
      if (request.reusedSocket) return;
      socket.once(url.protocol === 'https:' ? 'secureConnect' : 'connect', () => timer.refresh());
    });
    request.on('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      const wasClosed = request.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
      if (mayRepeat && wasClosed && !signal.aborted)
        exchange(session, question, signal, false).then(resolve, reject);
      else reject(error);
    });
    request.once('response', (message) => {
      clearTimeout(timer);
      // An error without a listener would end the process; readers of the body get it from the body.
      message.on('error', () => {});
      resolve(message);
    });
    request.end(payload);
  });
}

function createAnswer(
  message: http.IncomingMessage,
  url: URL,
  session: Session,
  signal: AbortSignal,
): Answer {
  return {
    status: message.statusCode ?? 0,
    headers: message.headers,
    field: (name) => message.headersDistinct[name] ?? [],
    url,
    body: () => readBody(message, url, session.options.timeoutMs, signal),
    discard() {
      if (!message.readableEnded) message.destroy();
    },
  };
}

async function* readBody(
  message: http.IncomingMessage,
  url: URL,
  timeoutMs: number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  // Only waiting for the other side counts, not a consumer that takes its time.
  let waiting = false;
  const timer = setTimeout(() => {
    if (waiting) message.destroy(new Stall(`no byte within ${timeoutMs} ms`));
  }, timeoutMs);
  let received = 0;
  try {
    const iterator = message[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
    try {
      for (;;) {
        waiting = true;
        timer.refresh();
        const next = await iterator.next();
        waiting = false;
        if (next.done === true) return;
        received += next.value.length;
        yield next.value;
      }
    } finally {
      await iterator.return?.();
    }
  } catch (error) {
    throw connectionFailure(error, url, signal, `after ${received} bytes`);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * A whole body of at most `limit` bytes.
 * @throws SealiftError `source-too-large`; otherwise as `Answer.body()`
 */
export async function readAll(answer: Answer, limit: number, session: Session): Promise<Buffer> {
  const subject = showUrl(answer.url);
  const tooLarge = (got: string | number) =>
    new SealiftError('source-too-large', `answer is too large: got ${got} bytes, want at most ${limit}`, {
      subject,
      got,
      want: limit,
    });
  const announced = contentLength(answer);
  if (announced !== undefined && announced > limit) {
    answer.discard();
    throw tooLarge(announced);
  }
  // A server that drips would never be silent for long enough; documents are small, so they have an end.
  const longest = session.options.timeoutMs * 10;
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    answer.discard();
  }, longest);
  try {
    const chunks: Uint8Array[] = [];
    let length = 0;
    for await (const chunk of answer.body()) {
      length += chunk.length;
      if (length > limit) throw tooLarge(`more than ${limit}`);
      chunks.push(chunk);
    }
    return Buffer.concat(chunks, length);
  } catch (error) {
    if (!late) throw error;
    throw new Transient(
      new SealiftError('source-unreachable', `answer did not end within ${longest} ms`, { subject }),
    );
  } finally {
    clearTimeout(timer);
  }
}

/** Reads the beginning of a body nobody waits for, and not for long; failures do not matter. */
export async function discardBody(answer: Answer, session: Session): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  const timer = setTimeout(() => answer.discard(), session.options.timeoutMs);
  try {
    for await (const chunk of answer.body()) {
      chunks.push(chunk);
      length += chunk.length;
      if (length >= MAX_DISCARDED_BYTES) break;
    }
  } catch (error) {
    if (error instanceof SealiftError && error.code === 'cancelled') throw error;
  } finally {
    clearTimeout(timer);
  }
  return Buffer.concat(chunks).subarray(0, MAX_DISCARDED_BYTES);
}

/** @throws SealiftError `source-protocol` where the field is no number */
export function contentLength(answer: Answer): number | undefined {
  const text = answer.headers['content-length'];
  if (text === undefined) return undefined;
  const length = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(length)) {
    answer.discard();
    throw new SealiftError('source-protocol', 'Content-Length is no number', {
      subject: showUrl(answer.url),
      got: inert(text),
    });
  }
  return length;
}

/** @throws SealiftError `source-protocol` where the body is not sent as it is */
export function refuseEncoding(answer: Answer): void {
  const encoding = answer.headers['content-encoding'];
  if (encoding === undefined || encoding.toLowerCase() === 'identity') return;
  answer.discard();
  throw new SealiftError(
    'source-protocol',
    `answer has Content-Encoding ${inert(encoding)}, want the bytes as they are`,
    {
      subject: showUrl(answer.url),
      got: inert(encoding),
      want: 'identity',
      hint: 'a proxy in between may compress; it must not for /v2/',
    },
  );
}

/** Part of a rate limit that is little. */
const LOW = 0.2;

/** Says once for each host that few requests are left, as Docker Hub tells (`ratelimit-remaining: 17;w=21600`). */
export function tellRateLimit(session: Session, answer: Answer, context: Context): void {
  const read = (name: string) =>
    /^(\d{1,9})(?:\s*;\s*w=(\d{1,9}))?/.exec(answer.field(name)[0]?.trim() ?? '');
  const limit = read('ratelimit-limit');
  const remaining = read('ratelimit-remaining');
  if (!limit || !remaining || session.rateTold.has(answer.url.host)) return;
  const [most, left] = [Number(limit[1]), Number(remaining[1])];
  if (left > most * LOW) return;
  session.rateTold.add(answer.url.host);
  const window =
    limit[2] === undefined ? '' : ` in ${Math.max(1, Math.round(Number(limit[2]) / 60))} minutes`;
  context.emit({
    type: 'notice',
    level: 'warning',
    code: 'rate-limit-low',
    message: `${inert(answer.url.host)} lets ${left} of ${most} requests through${window} before it refuses; logging in often raises the limit`,
  });
}

/** Statuses that may be gone next time. */
const TRANSIENT = new Set([408, 429, 500, 502, 503, 504]);

/**
 * An answer that is none of those wanted, as an error; reads the beginning of its body for the registry's words.
 */
export async function statusFailure(
  answer: Answer,
  session: Session,
  context: Context,
  what: string,
): Promise<Transient | SealiftError> {
  const subject = showUrl(answer.url);
  const { status } = answer;
  const words = registryWords(await discardBody(answer, session), session);
  const details = { subject, got: status };
  const message = `${what}: status ${status}${words === '' ? '' : ` (${words})`}`;
  if (TRANSIENT.has(status)) {
    const failure = new SealiftError(status === 429 ? 'source-rate-limited' : 'source-unreachable', message, {
      ...details,
      hint:
        status === 429
          ? 'run the same command again later; logging in to the registry often raises the limit'
          : undefined,
    });
    return new Transient(
      failure,
      parseRetryAfter(answer.headers['retry-after'], answer.headers.date, context.now),
    );
  }
  if (status === 401 || status === 403) {
    return new SealiftError('source-unauthorized', message, {
      ...details,
      hint: 'log in with sealift login (docker login and podman login will do too), or give another --authfile; the name may also be wrong, as registries hide what they do not show',
    });
  }
  if (status === 407) {
    const proxy = session.proxyFor(answer.url);
    return new SealiftError(
      'source-unauthorized',
      `the proxy${proxy ? ` ${showProxy(proxy)}` : ''} wants other credentials (status ${status})`,
      { ...details, hint: PROXY_LOGIN_HINT },
    );
  }
  if (status === 404) {
    return new SealiftError('source-not-found', message, { ...details, hint: 'check the name and the tag' });
  }
  return new SealiftError('source-protocol', message, {
    ...details,
    hint:
      status === 400 && answer.url.protocol === 'http:' && /HTTPS/i.test(words)
        ? 'the server wants TLS; try without --plain-http'
        : undefined,
  });
}

/** The registry's own error (distribution specification, "Error Codes"), or the beginning of a text, inert and short. */
function registryWords(body: Buffer, session: Session): string {
  let text = body.toString('utf8');
  try {
    const parsed = JSON.parse(text) as { errors?: { code?: unknown; message?: unknown }[] };
    const first = Array.isArray(parsed.errors) ? parsed.errors[0] : undefined;
    if (first) text = [first.code, first.message].filter((part) => typeof part === 'string').join(': ');
  } catch {
    // A page says it in its title; a sentence is shown as it is.
    if (/^\s*<(?:!doctype|html|\?xml)/i.test(text)) text = /<title>([^<]{0,200})/i.exec(text)?.[1] ?? '';
  }
  // Redacted before it is cut: half a secret would no longer be recognised.
  return inert(session.redact(text).replace(/\s+/g, ' ').trim(), 200);
}
