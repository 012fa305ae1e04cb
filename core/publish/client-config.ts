/** Configurations of clients that take a published tree, or `sealift serve`, for the registries the images came from. */
import { inert, SealiftError } from '../errors.ts';

export type Client = 'docker' | 'podman' | 'containerd' | 'k3s';
export const CLIENTS: readonly Client[] = ['docker', 'podman', 'containerd', 'k3s'];

export interface ClientConfigOptions {
  /** `images.example` or `images.example:5000`. */
  readonly host: string;
  readonly client: Client;
  /** Registries whose images are found at the host. */
  readonly registries: readonly string[];
  /** Repositories are below this at the host, as `--prefix` of a sync put them. */
  readonly prefix?: string | undefined;
  /** The host speaks HTTP without TLS. */
  readonly plainHttp: boolean;
}

export interface ClientConfigFile {
  /** Where it goes on the client. */
  readonly path: string;
  readonly content: string;
}

export interface ClientConfig {
  readonly files: readonly ClientConfigFile[];
  /** What to do then, and what does not work. */
  readonly notes: readonly string[];
}

const HOST = /^(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(?::[1-9][0-9]{0,4})?$/;
const REGISTRY = /^[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?$/;
const PREFIX = /^[a-z0-9]+(?:[._/-]+[a-z0-9]+)*$/;

/**
 * What to write on a client so that `FROM alpine` is pulled from the host.
 * @throws SealiftError `invalid-argument` where the host, a registry or the prefix is none
 */
export function clientConfig(options: ClientConfigOptions): ClientConfig {
  const { host, registries, prefix } = options;
  if (!HOST.test(host)) throw refuse('HOST', host, 'HOST or HOST:PORT, without a scheme or path');
  for (const registry of registries) {
    if (!REGISTRY.test(registry))
      throw refuse('--registry', registry, 'the name of a registry such as quay.io');
  }
  if (prefix !== undefined && !PREFIX.test(prefix))
    throw refuse('--prefix', prefix, 'a repository such as mirror');
  return MAKERS[options.client](options);
}

const MAKERS: Readonly<Record<Client, (options: ClientConfigOptions) => ClientConfig>> = {
  docker({ host, registries, prefix, plainHttp }) {
    const scheme = plainHttp ? 'http' : 'https';
    const mirrored = prefix === undefined && registries.includes('docker.io');
    const content = {
      ...(mirrored && { 'registry-mirrors': [`${scheme}://${host}`] }),
      ...(plainHttp && { 'insecure-registries': [host] }),
    };
    const below = prefix === undefined ? host : `${host}/${prefix}`;
    return {
      files: [{ path: '/etc/docker/daemon.json', content: `${JSON.stringify(content, null, 2)}\n` }],
      notes: [
        'Merge it into the file where there is one, and restart docker.',
        ...(mirrored ? [] : ['Docker takes no mirror whose repositories are below a prefix.']),
        `Docker has mirrors for docker.io only; images of other registries are pulled as ${below}/REGISTRY/NAME.`,
        'Where the mirror does not have an image, docker asks docker.io; without a way out that fails.',
      ],
    };
  },
  podman({ host, registries, prefix, plainHttp }) {
    const base = prefix === undefined ? host : `${host}/${prefix}`;
    const insecure = plainHttp ? 'insecure = true\n' : '';
    const entries = registries.map(
      (registry) => `[[registry]]\nprefix = "${registry}"\nlocation = "${base}/${registry}"\n${insecure}`,
    );
    const own = plainHttp ? [`[[registry]]\nlocation = "${host}"\n${insecure}`] : [];
    const search = registries.includes('docker.io')
      ? 'unqualified-search-registries = ["docker.io"]\n\n'
      : '';
    return {
      files: [
        {
          path: '/etc/containers/registries.conf.d/010-sealift.conf',
          content: `${search}${[...entries, ...own].join('\n')}`,
        },
      ],
      notes: [
        'It works at once, for podman, buildah, skopeo and CRI-O; nothing is asked from anywhere else.',
      ],
    };
  },
  containerd({ host, registries, prefix, plainHttp }) {
    const scheme = plainHttp ? 'http' : 'https';
    return {
      files: registries.map((registry) => {
        const url = `${scheme}://${host}/v2/${prefix === undefined ? '' : `${prefix}/`}${registry}`;
        return {
          path: `/etc/containerd/certs.d/${registry}/hosts.toml`,
          content: `server = "${url}"\n\n[host."${url}"]\n  capabilities = ["pull", "resolve"]\n  override_path = true\n`,
        };
      }),
      notes: [
        'The CRI plugin needs config_path = "/etc/containerd/certs.d" under plugins."io.containerd.grpc.v1.cri".registry in /etc/containerd/config.toml; containerd is restarted once.',
        'ctr takes it with --hosts-dir /etc/containerd/certs.d, and nerdctl by itself.',
      ],
    };
  },
  k3s({ host, registries, prefix, plainHttp }) {
    const scheme = plainHttp ? 'http' : 'https';
    const lines = registries.flatMap((registry) => [
      `  "${registry}":`,
      '    endpoint:',
      `      - "${scheme}://${host}"`,
      '    rewrite:',
      `      "^(.*)$": "${prefix === undefined ? '' : `${prefix}/`}${registry}/$1"`,
    ]);
    return {
      files: [{ path: '/etc/rancher/k3s/registries.yaml', content: `mirrors:\n${lines.join('\n')}\n` }],
      notes: [
        'Restart k3s on every node (systemctl restart k3s, or k3s-agent).',
        `Where ${host} does not have an image, k3s asks its registry; with disable-default-registry-endpoint: true in /etc/rancher/k3s/config.yaml (since January 2024) it says at once that there is none.`,
      ],
    };
  },
};

function refuse(subject: string, got: string, want: string): SealiftError {
  return new SealiftError('invalid-argument', `got ${inert(got)}, want ${want}`, { subject });
}
