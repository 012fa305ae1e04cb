import os from 'node:os';
import { SealiftError } from '../../core/errors.ts';
import type { Command, Runtime } from '../command.ts';
import { loginOptions, readPassword, refuseColon } from '../options/login.ts';
import { networkFrom } from '../options/network.ts';
import { readCaFile, sourceOptions } from '../options/source.ts';

async function readLogin(
  runtime: Runtime,
  registry: string,
): Promise<{ username: string; password: string }> {
  const { args, ask, stdin } = runtime;
  const missing = (subject: string) =>
    new SealiftError('passphrase-needed', 'there is nobody to ask for user name and password', {
      subject,
      hint: `give both: sealift login ${registry} --username NAME --password-stdin < password-file`,
    });
  const fromStdin = args.flag('password-stdin');
  const given = args.text('username');
  if (given === undefined && fromStdin) throw missing('--username');
  const username = given ?? (await ask(`User name at ${registry}: `, true));
  if (username === undefined) throw missing('--username');
  if (username === '') {
    throw new SealiftError('invalid-argument', 'the user name is empty', { subject: '--username' });
  }
  refuseColon(username);
  const password = fromStdin ? await readPassword(stdin) : await ask(`Password of ${username}: `, false);
  if (password === undefined) throw missing('--password-stdin');
  if (password === '') {
    throw new SealiftError('invalid-argument', 'the password is empty', { subject: '--password-stdin' });
  }
  return { username, password };
}

const {
  authfile,
  'ca-file': caOption,
  'plain-http': plainHttp,
  'insecure-skip-tls-verify': insecure,
} = sourceOptions;

export const loginCommand: Command = {
  words: ['login'],
  summary: 'log in to a registry',
  about:
    'The login is tried at the registry and then kept where docker, podman and skopeo find it too: in --authfile, in the file that has an entry for the registry, or else in ~/.docker/config.json; in a credential helper where that file names one. Where the registry has a token server that gives identity tokens, such a token is kept in place of the password, as docker does. A path behind the registry makes the login one for that part alone.',
  positionals: [
    { name: 'REGISTRY', describe: 'HOST[:PORT][/PATH]; docker.io is Docker Hub', required: true },
  ],
  options: {
    ...loginOptions,
    authfile: { ...authfile, describe: 'the file the login is kept in' },
    'ca-file': caOption,
    'plain-http': plainHttp,
    'insecure-skip-tls-verify': insecure,
  },
  examples: [
    'sealift login registry.example:5000',
    'sealift login quay.io --username robot --password-stdin < token',
    'sealift login registry.example/team-a --username a',
  ],
  run: async (runtime) => {
    const { args, env, workflows } = runtime;
    const { parseLoginScope, saveLogin, showScope } = await import('../options/credential-store.ts');
    const scope = parseLoginScope(args.positional('REGISTRY') ?? '');
    const caFile = args.text('ca-file');
    const ca = caFile === undefined ? undefined : readCaFile(caFile);
    const login = await readLogin(runtime, showScope(scope));
    const homedir = os.homedir();
    const { checked, identityToken } = await workflows.checkLogin(
      scope.host,
      {
        plainHttp: args.flag('plain-http'),
        insecureSkipTlsVerify: args.flag('insecure-skip-tls-verify'),
        ...(ca === undefined ? {} : { caFile: ca }),
        ...networkFrom({ env, homedir }),
        credentials: async () => login,
        retryTimes: 2,
        concurrencyPerHost: 1,
        timeoutMs: 30_000,
      },
      await runtime.context(),
    );
    if (!checked) {
      runtime.notice(
        'warning',
        'login-not-checked',
        `${showScope(scope)} answers without a login; this one was kept unchecked`,
      );
    }
    const kept = await saveLogin(
      scope,
      { ...login, identityToken },
      { authFile: args.text('authfile'), env, homedir },
    );
    const where = kept.helper === undefined ? kept.file : `docker-credential-${kept.helper} (${kept.file})`;
    return {
      result: {
        registry: showScope(scope),
        username: login.username,
        checked,
        kept: identityToken === undefined ? 'password' : 'identity-token',
        file: kept.file,
        helper: kept.helper ?? null,
      },
      text: () =>
        `Logged in to ${showScope(scope)} as ${login.username}; kept${identityToken === undefined ? '' : ' an identity token, not the password,'} in ${where}`,
    };
  },
};
