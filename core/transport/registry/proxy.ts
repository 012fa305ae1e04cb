/** Which proxy a request goes through: the variables HTTP_PROXY, HTTPS_PROXY and NO_PROXY as Go's tools read them. */
import { BlockList, isIP } from 'node:net';
import { inert, SealiftError } from '../../errors.ts';

/** As the environment variables have them; core does not read these itself. */
export interface ProxySettings {
  /** For requests to http URLs: `[http://][USER:PASSWORD@]HOST[:PORT]`, or https. */
  readonly http?: string | undefined;
  /** For requests to https URLs, which go through it by CONNECT. */
  readonly https?: string | undefined;
  /**
   * Hosts spoken to without a proxy, separated by commas: `HOST` (and all below it), `.HOST` (only those below it), an
   * address, `ADDRESS/BITS`, each with `:PORT` or without; `*` is all.
   */
  readonly no?: string | undefined;
}

const DEFAULT_PORTS: Readonly<Record<string, string>> = { 'http:': '80', 'https:': '443' };

/**
 * The proxy for `url`; undefined where it is spoken to directly. localhost and loopback addresses always are: another
 * machine's proxy would reach itself there.
 * @throws SealiftError `invalid-argument` where the setting is no URL of a proxy
 */
export function proxyFor(url: URL, settings: ProxySettings | undefined): URL | undefined {
  const text = url.protocol === 'https:' ? settings?.https : settings?.http;
  if (text === undefined || text === '') return undefined;
  const host = plainHost(url.hostname);
  if (host === 'localhost' || host.endsWith('.localhost') || isLoopback(host)) return undefined;
  const port = url.port === '' ? (DEFAULT_PORTS[url.protocol] ?? '') : url.port;
  if (isExempt(host, port, settings?.no ?? '')) return undefined;
  return parseProxy(text, url.protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY');
}

/** @throws SealiftError `invalid-argument`, without the text, which may hold a password */
export function parseProxy(text: string, name: string): URL {
  const refuse = (message: string, got?: string) =>
    new SealiftError('invalid-argument', `the proxy cannot be used: ${message}`, {
      subject: name,
      got,
      want: 'http://HOST:PORT',
      hint: `set ${name} to a URL such as http://user:password@proxy.example:3128`,
    });
  const whole = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`;
  if (!URL.canParse(whole)) throw refuse('its address is no URL');
  const proxy = new URL(whole);
  if (proxy.protocol !== 'http:' && proxy.protocol !== 'https:') {
    throw refuse(`got ${inert(proxy.protocol)}//, want http:// or https://`, inert(proxy.protocol));
  }
  if (proxy.hostname === '') throw refuse('its address has no host');
  for (const part of [proxy.username, proxy.password]) {
    try {
      decodeURIComponent(part);
    } catch {
      throw refuse('a % in its user name or password has to be written %25');
    }
  }
  return proxy;
}

/** Address of a proxy for messages, without user and password. */
export function showProxy(proxy: URL): string {
  return inert(`${proxy.protocol}//${proxy.host}`);
}

function plainHost(hostname: string): string {
  return hostname
    .replace(/^\[|\]$/g, '')
    .replace(/\.$/, '')
    .toLowerCase();
}

function family(address: string): 'ipv4' | 'ipv6' {
  return isIP(address) === 6 ? 'ipv6' : 'ipv4';
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

function isLoopback(host: string): boolean {
  return isIP(host) !== 0 && LOOPBACK.check(host, family(host));
}

function isExempt(host: string, port: string, list: string): boolean {
  return list
    .split(/[\s,]+/)
    .map((entry) => entry.toLowerCase())
    .some((entry) => entry !== '' && matches(entry, host, port));
}

function matches(entry: string, host: string, port: string): boolean {
  if (entry === '*') return true;
  const range = /^\[?([0-9a-f.:]+)\]?\/(\d{1,3})$/.exec(entry);
  if (range) return inRange(host, range[1] ?? '', Number(range[2]));
  const { name, port: wantedPort } = splitPort(entry);
  if (wantedPort !== undefined && wantedPort !== port) return false;
  if (isIP(name) !== 0) {
    const one = new BlockList();
    one.addAddress(name, family(name));
    return isIP(host) !== 0 && one.check(host, family(host));
  }
  if (isIP(host) !== 0) return false;
  const suffix = name.replace(/^\*(?=\.)/, '').replace(/(?<=.)\.$/, '');
  if (suffix === '' || suffix === '.') return false;
  return suffix.startsWith('.') ? host.endsWith(suffix) : host === suffix || host.endsWith(`.${suffix}`);
}

function splitPort(entry: string): { name: string; port: string | undefined } {
  if (isIP(entry) === 6) return { name: entry, port: undefined };
  const match = /^(?:\[([^\]]*)\]|([^:]*))(?::(\d{1,5}))?$/.exec(entry);
  return { name: match?.[1] ?? match?.[2] ?? '', port: match?.[3] };
}

function inRange(host: string, address: string, bits: number): boolean {
  const version = isIP(address);
  if (version === 0 || isIP(host) === 0 || bits > (version === 6 ? 128 : 32)) return false;
  const range = new BlockList();
  range.addSubnet(address, bits, family(address));
  return range.check(host, family(host));
}
