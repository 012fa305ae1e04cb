/** What goes wrong below HTTP, in sealift's words. */
import { inert, SealiftError } from '../../errors.ts';
import { showProxy } from './proxy.ts';
import { Transient } from './retry.ts';

/** A URL for messages: no user information, no query (signed URLs hold secrets there), no fragment. */
export function showUrl(url: URL): string {
  return inert(`${url.protocol}//${url.host}${url.pathname}`);
}

/** Thrown into a connection on which nothing came for too long. */
export class Stall extends Error {
  override readonly name = 'Stall';
}

const CERTIFICATE_CODES = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_GET_CRL',
  'UNABLE_TO_DECRYPT_CERT_SIGNATURE',
  'CERT_HAS_EXPIRED',
  'CERT_NOT_YET_VALID',
  'CERT_REVOKED',
  'CERT_UNTRUSTED',
  'CERT_REJECTED',
  'CERT_SIGNATURE_FAILURE',
  'CERT_CHAIN_TOO_LONG',
  'HOSTNAME_MISMATCH',
  'INVALID_CA',
  'INVALID_PURPOSE',
  'PATH_LENGTH_EXCEEDED',
]);

/** Codes of failures that another attempt would only repeat. */
const FINAL_CODES = new Set(['ENOTFOUND', 'EINVAL', 'ERR_INVALID_URL', 'ERR_INVALID_CHAR']);

const TLS_HINT = 'the server may want TLS; try without --plain-http';
const PLAIN_HTTP_HINT = 'the server may speak plain HTTP; if that is meant, give --plain-http';

/**
 * An error of a connection as something to try again (Transient) or to report (SealiftError).
 * @param got how far a body had come, in words
 * @param proxy that the connection goes through
 */
export function connectionFailure(
  error: unknown,
  url: URL,
  signal: AbortSignal,
  got?: string,
  proxy?: URL,
): Transient | SealiftError {
  if (error instanceof Transient || error instanceof SealiftError) return error;
  if (signal.aborted) return new SealiftError('cancelled', 'stopped', { cause: error });
  const subject = showUrl(url);
  const code = codeOf(error);
  const text = inert(error instanceof Error ? error.message : String(error));
  if (proxy && code === 'ERR_PROXY_TUNNEL') return tunnelFailure(error, url, proxy);
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID' || CERTIFICATE_CODES.has(code)) {
    return new SealiftError('source-tls', `the certificate of ${inert(url.host)} is not trusted: ${text}`, {
      subject,
      got: code,
      hint:
        code === 'ERR_TLS_CERT_ALTNAME_INVALID'
          ? 'the certificate is for another host name; check the name in the reference'
          : 'give the certificate authority with --ca-file, or check the clock of this machine',
      cause: error,
    });
  }
  if (
    code === 'ERR_SSL_WRONG_VERSION_NUMBER' ||
    code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG' ||
    /wrong version number|packet length too long/.test(text)
  ) {
    return new SealiftError('source-tls', `${inert(url.host)} does not speak TLS`, {
      subject,
      got: code,
      hint: PLAIN_HTTP_HINT,
      cause: error,
    });
  }
  if (code === 'EPROTO' || code.startsWith('ERR_SSL_') || code.startsWith('ERR_TLS_')) {
    return new SealiftError('source-tls', `no TLS connection to ${inert(url.host)}: ${text}`, {
      subject,
      got: code,
      hint: /alert (?:number )?(?:116|42|40|48)\b|certificate required|bad certificate/i.test(text)
        ? `the server may want a client certificate: put client.cert and client.key into certs.d/${inert(url.host)} (docs/registries.md)`
        : undefined,
      cause: error,
    });
  }
  if (code.startsWith('HPE_')) {
    return new SealiftError('source-protocol', `answer is not HTTP: ${text}`, {
      subject,
      got: code,
      hint: url.protocol === 'http:' ? TLS_HINT : undefined,
      cause: error,
    });
  }
  const what = error instanceof Stall ? error.message : `connection failed: ${text}`;
  const failure = new SealiftError('source-unreachable', got === undefined ? what : `${what}, ${got}`, {
    subject,
    got: got ?? (code === '' ? undefined : code),
    hint: proxy ? proxyHint(url, proxy) : hintFor(code, text, url, got),
    cause: error,
  });
  return FINAL_CODES.has(code) ? failure : new Transient(failure);
}

function proxyHint(url: URL, proxy: URL): string {
  return `the connection goes through the proxy ${showProxy(proxy)}; check that it runs, or add ${inert(url.hostname)} to NO_PROXY`;
}

export const PROXY_LOGIN_HINT =
  'put them into the address of the proxy: http://USER:PASSWORD@HOST:PORT in HTTP_PROXY and HTTPS_PROXY';

/** Statuses of CONNECT by which proxies say that they could not get through, this time. */
const TUNNEL_TRANSIENT = new Set([429, 500, 502, 503, 504]);

/** A proxy that did not open a way to the registry. */
function tunnelFailure(error: unknown, url: URL, proxy: URL): Transient | SealiftError {
  const subject = showUrl(url);
  const { statusCode } = error as { statusCode?: unknown };
  const status = typeof statusCode === 'number' ? statusCode : undefined;
  // tinyproxy says 401 where credentials are wrong, and 407 where there are none.
  if (status === 407 || status === 401) {
    return new SealiftError(
      'source-unauthorized',
      `the proxy ${showProxy(proxy)} wants other credentials (status ${status})`,
      { subject, got: status, hint: PROXY_LOGIN_HINT, cause: error },
    );
  }
  const failure = new SealiftError(
    'source-unreachable',
    `the proxy ${showProxy(proxy)} opens no way to ${inert(url.host)}${status === undefined ? '' : ` (status ${status})`}`,
    { subject, got: status, hint: proxyHint(url, proxy), cause: error },
  );
  return status === undefined || TUNNEL_TRANSIENT.has(status) ? new Transient(failure) : failure;
}

/** Servers that are spoken to in the wrong protocol mostly hang up. */
function hintFor(code: string, text: string, url: URL, got: string | undefined): string {
  if (got === undefined && code === 'ECONNRESET') {
    if (/before secure TLS connection/.test(text)) return PLAIN_HTTP_HINT;
    if (url.protocol === 'http:') return TLS_HINT;
  }
  return 'check the name, the network and that the registry runs; --retry-times tries more often';
}

/** Where a host has several addresses, the code is in the errors of an AggregateError. */
function codeOf(error: unknown): string {
  const { code, errors } = error as { code?: unknown; errors?: unknown };
  if (typeof code === 'string') return code;
  return Array.isArray(errors) && errors.length > 0 ? codeOf(errors[0]) : '';
}
