/** Where else a registry's content may be had: the rules of containers-registries.conf(5), and our own. */
import { inert, SealiftError } from '../errors.ts';

export interface Mirror {
  /** `HOST[:PORT][/PATH]`, which takes the place of the rule's prefix. */
  readonly location: string;
  /** Any certificate will do, and where there is no TLS at all, HTTP. */
  readonly insecure: boolean;
  /** Speak HTTP from the start. */
  readonly plainHttp?: boolean | undefined;
  /** What it is asked for. */
  readonly pull: 'all' | 'digest-only' | 'tag-only';
}

export interface MirrorRule {
  /** `HOST[:PORT][/PATH]` of names it is for, or `*.DOMAIN`; the longest that fits counts. */
  readonly prefix: string;
  /** What takes the place of the prefix at the registry itself; undefined where names stay as they are. */
  readonly location?: string | undefined;
  /** As for mirrors, of the registry itself. */
  readonly insecure: boolean;
  readonly blocked: boolean;
  /** In the order they are asked. */
  readonly mirrors: readonly Mirror[];
}

export interface MirrorSettings {
  /** Asked before all others: one rule for each registry, of which only the mirrors count. */
  readonly first: readonly MirrorRule[];
  readonly rules: readonly MirrorRule[];
}

/** One place to ask for a repository. */
export interface Endpoint {
  readonly domain: string;
  readonly path: string;
  readonly isMirror: boolean;
  readonly insecure: boolean;
  readonly plainHttp: boolean;
  readonly pull: Mirror['pull'];
}

/**
 * The places for a repository, in order; the registry itself is the last.
 * @throws SealiftError `invalid-argument` where the registry is blocked, or a rule makes no name of it
 */
export function endpointsFor(
  repository: { readonly domain: string; readonly path: string },
  settings: MirrorSettings,
): Endpoint[] {
  const name = `${repository.domain}/${repository.path}`;
  const rule = longest(name, settings.rules);
  if (rule?.blocked === true) {
    throw new SealiftError('invalid-argument', `${inert(name)} is blocked by registries.conf`, {
      subject: inert(name),
      hint: `it has blocked = true for ${inert(rule.prefix)}`,
    });
  }
  const endpoints: Endpoint[] = [];
  for (const one of [longest(name, settings.first), rule]) {
    for (const mirror of one?.mirrors ?? []) {
      const place = { insecure: mirror.insecure, plainHttp: mirror.plainHttp === true, pull: mirror.pull };
      endpoints.push({
        ...split(replace(name, one?.prefix ?? '', mirror.location)),
        ...place,
        isMirror: true,
      });
    }
  }
  const own = rule?.location === undefined ? name : replace(name, rule.prefix, rule.location);
  const insecure = rule?.insecure === true;
  endpoints.push({ ...split(own), isMirror: false, insecure, plainHttp: false, pull: 'all' });
  return endpoints.flatMap((endpoint) =>
    endpoint.insecure ? [endpoint, { ...endpoint, plainHttp: true }] : [endpoint],
  );
}

function longest(name: string, rules: readonly MirrorRule[]): MirrorRule | undefined {
  let best: MirrorRule | undefined;
  for (const rule of rules) {
    if (fits(name, rule.prefix) && rule.prefix.length > (best?.prefix.length ?? -1)) best = rule;
  }
  return best;
}

function fits(name: string, prefix: string): boolean {
  if (!prefix.startsWith('*.')) return name === prefix || name.startsWith(`${prefix}/`);
  return (name.split('/', 1)[0] ?? '').endsWith(prefix.slice(1));
}

function replace(name: string, prefix: string, location: string): string {
  const rest = prefix.startsWith('*.') ? name.slice(name.indexOf('/')) : name.slice(prefix.length);
  return `${location}${rest}`;
}

function split(name: string): { domain: string; path: string } {
  const slash = name.indexOf('/');
  const [domain, path] = [name.slice(0, slash), name.slice(slash + 1)];
  if (slash > 0 && /^[a-z0-9]+(?:[._/-]+[a-z0-9]+)*$/.test(path)) return { domain, path };
  throw new SealiftError('invalid-argument', `a mirror makes no repository's name: got ${inert(name)}`, {
    subject: inert(name),
    want: 'HOST/PATH',
  });
}

/** Blobs from this size on take long enough to be shared between mirrors of which nothing is known. */
export const SHARED_FROM = 256 * 1024;

/**
 * Where there are mirrors, the smallest blobs that tell anything about one come first: a corrupt mirror is then found out
 * by little. The others stay in their order.
 * @param lanes how many are read at once
 */
export function inTrialOrder<T extends { readonly size: number }>(
  blobs: readonly T[],
  settings: MirrorSettings | undefined,
  lanes: number,
): readonly T[] {
  const hasMirrors = [...(settings?.first ?? []), ...(settings?.rules ?? [])].some(
    ({ mirrors }) => mirrors.length > 0,
  );
  if (!hasMirrors) return blobs;
  const trials = new Set(
    blobs
      .filter(({ size }) => size >= SHARED_FROM)
      .sort((one, other) => one.size - other.size)
      .slice(0, lanes),
  );
  return [...trials, ...blobs.filter((blob) => !trials.has(blob))];
}

/** For messages. */
export function showEndpoint({ domain, path }: Endpoint): string {
  return inert(`${domain}/${path}`);
}
