/** User names and passwords from the command line and from people. */
import { inert, SealiftError } from '../../core/errors.ts';
import type { NamedLocation } from '../../core/transport/location.ts';
import type { SourceOptions } from '../../core/transport/source.ts';
import type { OptionGroup } from '../args.ts';
import type { Runtime } from '../command.ts';

/** A password never comes as an argument or an environment variable: other users of the machine can read those. */
export const loginOptions = {
  username: { kind: 'text', alias: 'u', value: 'NAME', describe: 'user name at the registry' },
  'password-stdin': { kind: 'flag', describe: 'the password is read from standard input' },
} as const satisfies OptionGroup;

const MOST_BYTES = 64 * 1024;

/** All of standard input but a line end at its end. @throws SealiftError `invalid-argument` */
export async function readPassword(stdin: Runtime['stdin']): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stdin) {
    const bytes = Buffer.from(chunk as Uint8Array);
    length += bytes.length;
    if (length > MOST_BYTES) {
      throw new SealiftError('invalid-argument', `the password is longer than ${MOST_BYTES} bytes`, {
        subject: '--password-stdin',
      });
    }
    chunks.push(bytes);
  }
  const password = Buffer.concat(chunks)
    .toString('utf8')
    .replace(/\r?\n$/, '');
  if (password === '') {
    throw new SealiftError('invalid-argument', 'the password on standard input is empty', {
      subject: '--password-stdin',
    });
  }
  return password;
}

/** @throws SealiftError `invalid-argument` where one of the two options is there without the other */
export async function loginFromOptions({
  args,
  stdin,
}: Pick<Runtime, 'args' | 'stdin'>): Promise<{ username: string; password: string } | undefined> {
  const username = args.text('username');
  const fromStdin = args.flag('password-stdin');
  if (username === undefined && !fromStdin) return undefined;
  if (username === undefined || !fromStdin) {
    throw new SealiftError('invalid-argument', '--username and --password-stdin want each other', {
      subject: username === undefined ? '--username' : '--password-stdin',
      hint: 'as in: sealift export … --username NAME --password-stdin < password-file',
    });
  }
  refuseColon(username);
  return { username, password: await readPassword(stdin) };
}

/** Basic authentication (RFC 7617) ends the user name at the first colon. */
export function refuseColon(username: string): void {
  if (!username.includes(':')) return;
  throw new SealiftError(
    'invalid-argument',
    `got the user name ${inert(username)}, want one without a colon`,
    {
      subject: '--username',
    },
  );
}

/**
 * Credentials for the one registry of `images`; for other hosts, such as its mirrors, those of the files.
 * @throws SealiftError `invalid-argument` where the images are in several registries or in none
 */
export function withLogin(
  login: { readonly username: string; readonly password: string },
  images: readonly NamedLocation[],
  others: SourceOptions['credentials'],
): SourceOptions['credentials'] {
  const hosts = new Set(
    images.flatMap(({ location }) => (location.kind === 'docker' ? [location.reference.domain] : [])),
  );
  if (hosts.size !== 1) {
    throw new SealiftError(
      'invalid-argument',
      `--username is for one registry, got images in ${hosts.size === 0 ? 'none' : [...hosts].map((host) => inert(host)).join(', ')}`,
      { subject: '--username', hint: 'log in to each with sealift login, and leave --username out' },
    );
  }
  return async (host, repository) => (hosts.has(host) ? login : others(host, repository));
}
