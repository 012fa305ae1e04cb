/** What surrounds a connection to a registry: proxies, certificates of single hosts, mirrors. */
import type { SourceOptions } from '../../core/transport/source.ts';
import type { OptionGroup } from '../args.ts';
import { certificateRoots, loadHostCertificates } from './certificates-directory.ts';

/** Options of commands that read images from registries. */
export const mirrorOptions = {
  mirror: {
    kind: 'list',
    value: 'HOST=MIRROR,…',
    describe: 'ask MIRROR before the registry HOST; may be given again (registries.conf holds as well)',
  },
  cache: {
    kind: 'text',
    value: 'DIR',
    describe: 'keep blobs of registries here for the next export (default: nothing is kept)',
  },
} as const satisfies OptionGroup;

export interface NetworkSurroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly homedir: string;
}

/** Upper case before lower case, as Go's tools have it. */
function variable(env: NetworkSurroundings['env'], name: string): string | undefined {
  return env[name] || env[name.toLowerCase()] || undefined;
}

/** The part of `SourceOptions` that comes from the environment and the machine's configuration. */
export function networkFrom({
  env,
  homedir,
}: NetworkSurroundings): Pick<SourceOptions, 'proxies' | 'hostCertificates'> {
  return {
    proxies: {
      http: variable(env, 'HTTP_PROXY'),
      https: variable(env, 'HTTPS_PROXY'),
      no: variable(env, 'NO_PROXY'),
    },
    hostCertificates: loadHostCertificates(certificateRoots(homedir)),
  };
}

/** Mirrors of `--mirror` and of registries.conf. @throws SealiftError `invalid-argument` */
export async function mirrorsFrom(
  options: readonly string[],
  surroundings: NetworkSurroundings,
): Promise<Pick<SourceOptions, 'mirrors'>> {
  const { loadMirrors } = await import('./mirrors.ts');
  return { mirrors: await loadMirrors(options, surroundings) };
}
