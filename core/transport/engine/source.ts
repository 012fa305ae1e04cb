/**
 * Images in engines on this machine. Each gives an archive, which is written out and read like any other.
 * docker and containers-storage keep layers unpacked and know no digest of a registry; containerd keeps what it pulled.
 */
import { rm } from 'node:fs/promises';
import http from 'node:http';
import path from 'node:path';
import type { Context } from '../../context.ts';
import { inert, SealiftError } from '../../errors.ts';
import { blobPath } from '../../oci/digest.ts';
import { formatReference, imageName } from '../../oci/reference.ts';
import { findProgram } from '../../programs.ts';
import { dockerArchive } from '../archive/docker.ts';
import { makeTemporary, type OpenArchive, openArchiveFile, spoolStream } from '../archive/spool.ts';
import { indexTar } from '../archive/tar-index.ts';
import { archivedLayout } from '../layout/source.ts';
import type { Location } from '../location.ts';
import type { Source, SourceOptions } from '../source.ts';
import { runProgram } from './programs.ts';

type EngineLocation = Extract<Location, { kind: 'docker-daemon' | 'containers-storage' | 'containerd' }>;

const DOCKER_SOCKET = '/var/run/docker.sock';
const MOST_MESSAGE = 4096;

/**
 * @throws SealiftError `source-unreachable` where the engine or its program is not there, `source-not-found` where it
 *   has no such image; those of archives
 */
export async function openEngineSource(
  location: EngineLocation,
  options: SourceOptions,
  context: Context,
): Promise<Source> {
  const place = inert(`${location.kind}:${formatReference(location.reference)}`);
  context.emit({ type: 'phase', phase: 'engine', title: `asking ${location.kind} for its image` });
  switch (location.kind) {
    case 'docker-daemon': {
      const archive = await saveFromDaemon(location, place, options, context);
      return dockerArchive(archive, place, context);
    }
    case 'containers-storage': {
      const archive = await saveFromStorage(location, place, options, context);
      return dockerArchive(archive, place, context);
    }
    case 'containerd':
      return exportFromContainerd(location, place, options, context);
  }
}

// ---------------------------------------------------------------- docker

function socketOf(options: SourceOptions, place: string): string {
  const host = options.environment?.['DOCKER_HOST'];
  if (host === undefined || host === '') return DOCKER_SOCKET;
  const unix = /^unix:\/\/(\/.+)$/.exec(host)?.[1];
  if (unix !== undefined) return unix;
  throw new SealiftError('invalid-argument', `DOCKER_HOST is no local socket: got ${inert(host, 80)}`, {
    subject: place,
    want: 'unix:///PATH',
    hint: 'run sealift where the engine runs, or docker save there and give docker-archive:FILE',
  });
}

async function saveFromDaemon(
  { reference }: EngineLocation,
  place: string,
  options: SourceOptions,
  context: Context,
): Promise<OpenArchive> {
  const socketPath = socketOf(options, place);
  const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
    // The name is of the grammar of references: nothing in it has a meaning in a path.
    const request = http.get(
      {
        socketPath,
        path: `/images/${formatReference(reference)}/get`,
        headers: { host: 'docker' },
        signal: context.signal,
        agent: false,
      },
      resolve,
    );
    request.once('error', reject);
  }).catch((cause: NodeJS.ErrnoException) => {
    if (context.signal.aborted) throw context.signal.reason;
    const denied = cause.code === 'EACCES' || cause.code === 'EPERM';
    throw new SealiftError(
      'source-unreachable',
      denied ? "docker's socket may not be used" : 'docker does not answer on its socket',
      {
        subject: inert(socketPath),
        hint: denied
          ? 'run sealift as a user who may use docker'
          : 'start docker, or name its socket in DOCKER_HOST as unix:///PATH',
        cause,
      },
    );
  });
  if (response.statusCode !== 200) throw await daemonRefusal(response, place);
  try {
    return await spoolStream(response, place, options.temporary, context);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ECONNRESET') throw error;
    throw new SealiftError('source-unreachable', 'docker broke off while it gave the image', {
      subject: place,
      cause: error,
    });
  } finally {
    response.destroy();
  }
}

async function daemonRefusal(response: http.IncomingMessage, place: string): Promise<SealiftError> {
  let said = '';
  for await (const part of response) {
    said += String(part);
    if (said.length > MOST_MESSAGE) break;
  }
  const message = /"message":"((?:[^"\\]|\\.)*)"/.exec(said)?.[1] ?? said.trim();
  if (response.statusCode === 404) {
    return new SealiftError('source-not-found', 'docker has no such image', {
      subject: place,
      hint: `docker pull it first, or export it from its registry; docker says: ${inert(message, 300)}`,
    });
  }
  return new SealiftError(
    'source-protocol',
    `docker refused the image: got ${response.statusCode}: ${inert(message, 300)}`,
    { subject: place },
  );
}

// ---------------------------------------------------------------- podman, buildah, cri-o

async function saveFromStorage(
  { reference }: EngineLocation,
  place: string,
  options: SourceOptions,
  context: Context,
): Promise<OpenArchive> {
  const program = await findProgram(['podman', 'skopeo'], options.environment);
  if (!program) throw noProgram('podman or skopeo', place);
  const name = formatReference(reference);
  return throughFile(place, options, context, async (file) => {
    const args =
      program.name === 'podman'
        ? ['save', '--quiet', '--format', 'docker-archive', '--output', file, name]
        : ['copy', '--quiet', `containers-storage:${name}`, `docker-archive:${file}:${imageName(reference)}`];
    const { failure } = await runProgram(program.file, args, options.environment, context);
    if (failure !== undefined) throw refused(program.name, failure, place);
  });
}

// ---------------------------------------------------------------- containerd

async function exportFromContainerd(
  { reference }: EngineLocation,
  place: string,
  options: SourceOptions,
  context: Context,
): Promise<Source> {
  const program = await findProgram(['ctr'], options.environment);
  if (!program) throw noProgram('ctr', place);
  const name = formatReference(reference);
  let isPart = false;
  const archive = await throughFile(place, options, context, async (file) => {
    const run = (...flags: string[]) =>
      runProgram(program.file, ['images', 'export', ...flags, file, name], options.environment, context);
    const all = await run('--all-platforms');
    if (all.failure === undefined) return;
    // containerd holds what it pulled, which for most images is one platform of many.
    await rm(file, { force: true });
    isPart = true;
    const { failure } = await run();
    if (failure !== undefined) throw refused('ctr', failure, place);
  });
  try {
    const tar = await indexTar(archive, context);
    const source = await archivedLayout(tar, place, context);
    if (!isPart) return source;
    return { ...source, omits: (digest) => tar.find(blobPath(digest)) === undefined };
  } catch (error) {
    await archive.close();
    throw error;
  }
}

// ---------------------------------------------------------------- what they share

/** Lets a program write a file in a directory of its own, and opens it; the file has no name afterwards. */
async function throughFile(
  place: string,
  options: SourceOptions,
  context: Context,
  write: (file: string) => Promise<void>,
): Promise<OpenArchive> {
  const directory = await makeTemporary(options.temporary, place);
  try {
    const file = path.join(directory, 'image.tar');
    await write(file);
    return { ...(await openArchiveFile(file, options.temporary, context)), place };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function noProgram(programs: string, place: string): SealiftError {
  return new SealiftError('source-unreachable', `this location needs ${programs} on the PATH`, {
    subject: place,
    hint: `install ${programs}, or save the image on the machine that has it and give the archive`,
  });
}

function refused(program: string, failure: string, place: string): SealiftError {
  const missing = /not found|not known|no such image|does not exist|unknown image/i.test(failure);
  return new SealiftError(
    missing ? 'source-not-found' : 'source-unreachable',
    missing ? `${program} has no such image` : `${program} gave no image`,
    { subject: place, hint: `${program} says: ${inert(failure, 400)}` },
  );
}
