import { isIP } from 'node:net';
import { inert, SealiftError, toSealiftError } from '../../core/errors.ts';
import type { Command } from '../command.ts';
import { parseStoreLocation } from '../options/paths.ts';
import { plural } from '../output/format.ts';

/** `HOST:PORT`, `[::1]:PORT`, `PORT` or `:PORT`. */
export function parseListen(text: string): { readonly host: string; readonly port: number } {
  const match = /^(?:(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]*):)?(\d{1,5})$/.exec(text);
  const host = match?.[1]?.replace(/^\[|\]$/g, '') || '127.0.0.1';
  const port = Number(match?.[2] ?? Number.NaN);
  if (!(port <= 65_535)) {
    throw new SealiftError(
      'invalid-argument',
      `option --listen: got ${inert(text)}, want HOST:PORT such as 127.0.0.1:5000`,
      {
        subject: '--listen',
      },
    );
  }
  return { host, port };
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

export const serveCommand: Command = {
  words: ['serve'],
  summary: 'let docker, podman and others pull from the store (read-only registry)',
  about:
    'Answers until it is stopped with Ctrl-C or SIGTERM. Nothing can be pushed. Where the gate is on this machine, the trust metadata of its collections is below /_trust/, for any client of The Update Framework.',
  positionals: [{ name: 'STORE', describe: 'store:DIR (default: the path of --store)' }],
  options: {
    listen: {
      kind: 'text',
      value: 'HOST:PORT',
      describe: 'where to listen; port 0 takes any free one (default 127.0.0.1:5000)',
    },
  },
  examples: ['sealift serve', 'sealift serve store:/srv/images --listen 0.0.0.0:5000'],
  run: async (runtime) => {
    const { args, paths, workflows, signal } = runtime;
    const given = args.positional('STORE');
    const store = given === undefined ? paths.store.path : parseStoreLocation(given, runtime.cwd);
    const { host, port } = parseListen(args.text('listen') ?? '127.0.0.1:5000');
    const server = await workflows.serve({
      store,
      gate: paths.gate.path,
      host,
      port,
      signal,
      onRequest: ({ method, url, status, client, complete }) => {
        if (!runtime.verbose) return;
        const broken = complete ? '' : ' (broken off)';
        runtime.notice('info', 'request', `${client} ${method} ${url} ${status}${broken}`);
      },
      onError: (error) => {
        const { code, message, subject } = toSealiftError(error);
        runtime.notice('warning', code, subject === undefined ? message : `${subject}: ${message}`);
      },
    });
    if (!isLoopback(host)) {
      runtime.notice(
        'warning',
        'plain-http',
        'what is served can be read by everybody who reaches this address, and goes without TLS; put a web server with TLS in front, or keep to a network you trust',
      );
    }
    return {
      result: { url: server.url, store, images: server.images, trustUrl: server.trustUrl },
      // The URL comes first and alone on its line, so that a script can read it.
      text: ({ style }) =>
        `${server.url}\n${style.dim(`${plural(server.images, 'image')} of ${inert(store, 4096)}; stop with Ctrl-C`)}${server.trustUrl === undefined ? '' : `\n${style.dim(`trust metadata: ${server.trustUrl}`)}`}`,
      quiet: server.url,
      running: server.closed,
    };
  },
};
