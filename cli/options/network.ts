/** What surrounds a connection to a registry: proxies and certificates of single hosts. */
import type { SourceOptions } from '../../core/transport/source.ts';
import { certificateRoots, loadHostCertificates } from './certificates-directory.ts';

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
