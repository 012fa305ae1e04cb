/** What a registry lists (OCI distribution specification 1.1, "Listing Tags"; distribution's catalog). */
import type { Context } from '../../context.ts';
import { isSealiftError, SealiftError } from '../../errors.ts';
import { isTag, parseReference, type Reference } from '../../oci/reference.ts';
import type { SourceOptions } from '../source.ts';
import { type RegistryList, readList } from './listing.ts';
import { repositoryOf } from './source.ts';

/**
 * Tags of a repository, in the order the registry has them; what is no tag is passed over.
 * @throws SealiftError `source-*`, `json-*`
 */
export function listRepositoryTags(
  reference: Pick<Reference, 'domain' | 'path'>,
  options: SourceOptions,
  context: Context,
): Promise<RegistryList> {
  const repository = repositoryOf(reference, options.plainHttp);
  return readList(
    repository,
    { first: new URL('tags/list?n=1000', repository.base), field: 'tags', isName: isTag },
    options,
    context,
  );
}

/**
 * Repositories of a registry (`/v2/_catalog`), which many registries do not tell; what is no repository is passed over.
 * @param domain `HOST[:PORT]` as in a reference
 * @throws SealiftError `source-*`, with the hint that names can still be typed; `json-*`
 */
export async function listRepositories(
  domain: string,
  options: SourceOptions,
  context: Context,
): Promise<RegistryList> {
  const { base } = repositoryOf({ domain, path: 'x' }, options.plainHttp);
  const root = new URL('../', base);
  const repository = { credentialsHost: domain, base: root, path: '', scope: 'registry:catalog:*' };
  try {
    return await readList(
      repository,
      {
        first: new URL('_catalog?n=1000', root),
        field: 'repositories',
        isName: (path) => isRepository(domain, path),
      },
      options,
      context,
    );
  } catch (error) {
    if (!isSealiftError(error) || (error.code !== 'source-not-found' && error.code !== 'source-unauthorized'))
      throw error;
    throw new SealiftError(error.code, `the registry does not list its repositories: ${error.message}`, {
      subject: error.subject,
      got: error.got,
      want: error.want,
      cause: error,
      hint: 'type the name of a repository or an image instead; its tags can be listed all the same',
    });
  }
}

function isRepository(domain: string, path: string): boolean {
  try {
    return parseReference(`${domain}/${path}`).path === path && !/[:@]/.test(path);
  } catch (error) {
    if (isSealiftError(error)) return false;
    throw error;
  }
}
