/** Which notary server is asked about which registry's images. */
import { inert, SealiftError } from '../../errors.ts';

export interface ContentTrustSettings {
  /** Base URL by registry, `HOST[:PORT]` as in references. */
  readonly servers: ReadonlyMap<string, string>;
  /** For images of every other registry; nobody is asked about them unless given. */
  readonly otherwise?: string | undefined;
}

export interface NotaryServer {
  /** Ends with a slash. */
  readonly base: URL;
  /** It was named for this very registry, whose credentials it may see. */
  readonly isOfRegistry: boolean;
}

/**
 * The server for images of a registry.
 * @throws SealiftError `invalid-argument` where its address cannot be used
 */
export function notaryServerFor(
  { servers, otherwise }: ContentTrustSettings,
  domain: string,
  plainHttp: boolean,
): NotaryServer | undefined {
  const own = servers.get(domain);
  const text = own ?? otherwise;
  if (text === undefined) return undefined;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const refuse = (problem: string, hint?: string) =>
    new SealiftError('invalid-argument', `the notary server cannot be asked: ${problem}`, {
      subject: inert(url === undefined ? text : `${url.origin}${url.pathname}`),
      want: 'https://HOST[:PORT]',
      hint,
    });
  if (url === undefined || !/^https?:$/.test(url.protocol)) throw refuse('its address is no https: URL');
  if (url.username !== '' || url.password !== '')
    throw refuse('its address holds credentials', `log in with sealift login ${inert(url.host)}`);
  if (url.search !== '' || url.hash !== '') throw refuse('its address has more than a path');
  if (url.protocol === 'http:' && !plainHttp)
    throw refuse('it would be spoken to without TLS', 'if that is meant, add --plain-http');
  return { base: new URL(`${url.href.replace(/\/+$/, '')}/`), isOfRegistry: own !== undefined };
}
