/** Asks a registry whether it takes a login, before it is kept. */
import type { Context } from '../../context.ts';
import { inert, isSealiftError, SealiftError } from '../../errors.ts';
import type { SourceOptions } from '../source.ts';
import { ask } from './authorization.ts';
import { discardBody, statusFailure } from './request.ts';
import { retrying } from './retry.ts';
import { takeSession } from './session.ts';
import { repositoryOf } from './source.ts';

export interface CheckedLogin {
  /** False where the registry wanted no credentials for this, so that nothing is known about them. */
  readonly checked: boolean;
  /** What its token server takes in place of the password from now on, where it has such a thing. */
  readonly identityToken?: string | undefined;
}

/**
 * Asks the base of a registry's API (distribution specification, "Determining Support") with the credentials of
 * `options`.
 * @param host `HOST[:PORT]`; `docker.io` for Docker Hub
 * @throws SealiftError `source-unauthorized` where it refuses them, other `source-*`, `invalid-reference`
 */
export async function checkLogin(
  host: string,
  options: SourceOptions,
  context: Context,
): Promise<CheckedLogin> {
  const { base } = repositoryOf({ domain: host, path: 'x' }, options.plainHttp);
  let identityToken: string | undefined;
  const repository = {
    credentialsHost: host,
    base: new URL('../', base),
    path: '',
    onIdentityToken: (token: string) => {
      identityToken = token;
    },
  };
  const session = takeSession(options);
  let asked = false;
  const spying: SourceOptions['credentials'] = (name, path) => {
    asked = true;
    return options.credentials(name, path);
  };
  try {
    await retrying(
      async () => {
        const answer = await ask(
          { ...session, options: { ...options, credentials: spying } },
          repository,
          { url: repository.base, headers: { Accept: 'application/json' } },
          context,
        );
        if (answer.status !== 200) throw await statusFailure(answer, session, context, 'not a registry');
        await discardBody(answer, session);
      },
      options,
      context,
    );
    return { checked: asked, identityToken };
  } catch (error) {
    if (!isSealiftError(error) || error.code !== 'source-unauthorized' || error.got === 407) throw error;
    throw new SealiftError('source-unauthorized', `${inert(host)} refuses the login: ${error.message}`, {
      subject: inert(host),
      got: error.got,
      hint: 'check the user name and the password; where passwords are switched off, use an access token instead',
    });
  } finally {
    session.release();
  }
}
