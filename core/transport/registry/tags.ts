/** Tags of a repository (OCI distribution specification 1.1, "Listing Tags"). */
import type { Context } from '../../context.ts';
import { SealiftError } from '../../errors.ts';
import { asArray, asObject, parseJson } from '../../json/strict.ts';
import { isTag, type Reference } from '../../oci/reference.ts';
import type { SourceOptions } from '../source.ts';
import { ask } from './authorization.ts';
import { showUrl } from './failures.ts';
import { readAll, refuseEncoding, statusFailure } from './request.ts';
import { retrying } from './retry.ts';
import { takeSession } from './session.ts';
import { nextPage, repositoryOf } from './source.ts';

const MOST_PAGES = 100;
const MOST_TAGS = 20_000;

/**
 * In the order the registry has them; what is no tag is passed over.
 * @throws SealiftError `source-*`, `json-*`
 */
export async function listRepositoryTags(
  reference: Reference,
  options: SourceOptions,
  context: Context,
): Promise<{ readonly tags: readonly string[]; readonly truncated: boolean }> {
  const repository = repositoryOf(reference, options.plainHttp);
  const session = takeSession(options);
  const tags = new Set<string>();
  try {
    let url: URL | undefined = new URL('tags/list?n=1000', repository.base);
    for (let pages = 0; url !== undefined; pages += 1) {
      if (pages >= MOST_PAGES || tags.size >= MOST_TAGS) return { tags: [...tags], truncated: true };
      const at: URL = url;
      const page = await retrying(
        async () => {
          const answer = await ask(
            session,
            repository,
            { url: at, headers: { Accept: 'application/json' } },
            context,
          );
          if (answer.status !== 200) throw await statusFailure(answer, session, context, 'no list of tags');
          refuseEncoding(answer);
          const bytes = await readAll(answer, context.limits.registryDocument, session);
          return { found: parseTags(bytes, at, context), next: nextPage(answer, at) };
        },
        session.options,
        context,
      );
      for (const tag of page.found) tags.add(tag);
      url = page.next;
    }
    return { tags: [...tags], truncated: false };
  } finally {
    session.release();
  }
}

function parseTags(bytes: Uint8Array, url: URL, context: Context): string[] {
  const what = showUrl(url);
  const parsed = parseJson(bytes, {
    what,
    maxBytes: context.limits.registryDocument,
    maxDepth: context.limits.jsonDepth,
  });
  const { tags } = asObject(parsed, what, 'json-invalid') as Record<string, unknown>;
  // Registries write null for a repository without tags.
  if (tags === null || tags === undefined) return [];
  if (!Array.isArray(tags))
    throw new SealiftError('source-protocol', 'list of tags is no list', { subject: what });
  return asArray(tags, what, 'json-invalid').flatMap((tag) =>
    typeof tag === 'string' && isTag(tag) ? [tag] : [],
  );
}
