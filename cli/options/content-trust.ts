import { inert, SealiftError } from '../../core/errors.ts';
import type { ContentTrustSettings } from '../../core/evidence/content-trust/settings.ts';
import { parseReference } from '../../core/oci/reference.ts';
import type { OptionGroup } from '../args.ts';

export const contentTrustOptions = {
  'notary-server': {
    kind: 'list',
    value: 'URL',
    describe:
      "carry what this notary server has of the images (Docker Content Trust), or with REGISTRY=URL of that registry's; may be given again (default: as docker's environment says, else none)",
  },
} as const satisfies OptionGroup;

const HUB = 'docker.io';
const HUB_SERVER = 'https://notary.docker.io';
/** What docker takes for yes. */
const YES = new Set(['1', 't', 'T', 'TRUE', 'true', 'True']);

/**
 * Which notary servers are asked: those of the options, else those the environment names for docker. Nobody else is
 * asked anything.
 * @param given values of `--notary-server`
 * @throws SealiftError `invalid-argument`
 */
export function contentTrustFrom(
  given: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): { readonly contentTrust?: ContentTrustSettings } {
  const servers = new Map<string, string>();
  let otherwise: string | undefined;
  for (const value of given) {
    const [, registry, url = ''] = /^(?:([^=/]+)=)?(.*)$/.exec(value) ?? [];
    if (!/^https?:\/\//.test(url)) throw unusable(`got ${inert(url)}, want an https: URL`);
    if (registry === undefined) {
      if (otherwise !== undefined)
        throw unusable('two servers are given for all registries, want REGISTRY=URL');
      otherwise = url;
    } else {
      const domain = registryOf(registry);
      if (servers.has(domain)) throw unusable(`two servers are given for ${inert(domain)}`);
      servers.set(domain, url);
    }
  }
  if (given.length === 0) {
    otherwise = env['DOCKER_CONTENT_TRUST_SERVER'] || undefined;
    if (otherwise === undefined && YES.has(env['DOCKER_CONTENT_TRUST'] ?? '')) servers.set(HUB, HUB_SERVER);
  }
  if (servers.size === 0 && otherwise === undefined) return {};
  return { contentTrust: { servers, ...(otherwise === undefined ? {} : { otherwise }) } };
}

function registryOf(text: string): string {
  const wrong = `got ${inert(text)}, want REGISTRY=URL with HOST[:PORT] as in the names of its images`;
  let domain: string;
  try {
    ({ domain } = parseReference(`${text}/x/x`));
  } catch {
    throw unusable(wrong);
  }
  // What is no host is the beginning of a path at the default one.
  if (domain !== text) throw unusable(wrong);
  return domain;
}

function unusable(problem: string): SealiftError {
  return new SealiftError('invalid-argument', `option --notary-server: ${problem}`, {
    subject: '--notary-server',
    hint: 'for example --notary-server docker.io=https://notary.docker.io',
  });
}
