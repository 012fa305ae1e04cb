/**
 * Certificates where docker and podman keep them for each registry: `certs.d/HOST[:PORT]/`, in it authorities as `*.crt`
 * and client certificates as `*.cert` with a `*.key` of the same name (containers-certs.d(5)).
 */
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { inert, isSealiftError, SealiftError } from '../../core/errors.ts';
import { readFileLimited } from '../../core/fs/durable.ts';
import type { HostCertificates, SourceOptions } from '../../core/transport/source.ts';

const MAX_FILE_BYTES = 1024 * 1024;
const MAX_FILES = 100;
const HUB = 'docker.io';
const HUB_HOST = 'registry-1.docker.io';

/** In the order they are looked at. */
export function certificateRoots(homedir: string): string[] {
  return [
    path.join(homedir, '.config', 'containers', 'certs.d'),
    '/etc/containers/certs.d',
    '/etc/docker/certs.d',
  ];
}

/**
 * The first directory there is for a host counts, alone, as it does for podman.
 * @returns for `SourceOptions.hostCertificates`; it rejects with SealiftError `invalid-argument` where a file cannot be
 * read or one of a pair is missing
 */
export function loadHostCertificates(
  roots: readonly string[],
): NonNullable<SourceOptions['hostCertificates']> {
  return async (host) => {
    for (const root of roots) {
      for (const name of directoryNames(host)) {
        const found = await readDirectory(path.join(root, name));
        if (found) return found;
      }
    }
    return undefined;
  };
}

function directoryNames(host: string): string[] {
  // Redirects bring names from outside.
  if (!/^(?:[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::\d{1,5})?$/i.test(host)) return [];
  const names = /:\d+$/.test(host) && !host.endsWith(']') ? [host] : [host, `${host}:443`];
  return host === HUB_HOST ? [...names, HUB] : names;
}

async function readDirectory(directory: string): Promise<HostCertificates | undefined> {
  let names: string[];
  try {
    names = (await readdir(directory)).sort();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw unusable(directory, inert(code ?? 'unreadable'));
  }
  if (names.length > MAX_FILES)
    throw unusable(directory, `got ${names.length} files, want at most ${MAX_FILES}`);
  const read = async (name: string): Promise<Uint8Array> => readFile(path.join(directory, name));
  const authorities = await Promise.all(names.filter((name) => name.endsWith('.crt')).map(read));
  const bases = (ending: string) =>
    names.filter((name) => name.endsWith(ending)).map((name) => name.slice(0, -ending.length));
  const [certificates, keys] = [bases('.cert'), bases('.key')];
  for (const [have, want, other, ending] of [
    [certificates, keys, '.cert', '.key'],
    [keys, certificates, '.key', '.cert'],
  ] as const) {
    const alone = have.find((base) => !want.includes(base));
    if (alone !== undefined) {
      throw unusable(
        path.join(directory, `${alone}${other}`),
        `there is no ${inert(alone)}${ending} beside it, and .crt is the ending of authorities`,
      );
    }
  }
  const [first] = certificates;
  return {
    authorities,
    client:
      first === undefined
        ? undefined
        : { certificate: await read(`${first}.cert`), key: await read(`${first}.key`) },
  };
}

async function readFile(file: string): Promise<Uint8Array> {
  try {
    const bytes = await readFileLimited(file, MAX_FILE_BYTES);
    if (bytes) return bytes;
  } catch (error) {
    const why = isSealiftError(error)
      ? `larger than ${MAX_FILE_BYTES} bytes`
      : ((error as NodeJS.ErrnoException).code ?? 'unreadable');
    throw unusable(file, inert(why));
  }
  throw unusable(file, 'it is not there');
}

function unusable(file: string, what: string): SealiftError {
  return new SealiftError('invalid-argument', `certificates of a registry cannot be used: ${what}`, {
    subject: inert(file),
    hint: 'a directory for a registry holds authorities as NAME.crt, and NAME.cert with NAME.key to show to it',
  });
}
