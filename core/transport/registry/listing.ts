/** What registries list page by page: tags of a repository, repositories of a registry. */
import type { Context } from '../../context.ts';
import { SealiftError } from '../../errors.ts';
import { asArray, asObject, parseJson } from '../../json/strict.ts';
import type { SourceOptions } from '../source.ts';
import { ask, type Repository } from './authorization.ts';
import { showUrl } from './failures.ts';
import { readAll, refuseEncoding, statusFailure } from './request.ts';
import { retrying } from './retry.ts';
import { takeSession } from './session.ts';
import { nextPage } from './source.ts';

const MOST_PAGES = 100;
const MOST_NAMES = 20_000;

export interface RegistryList {
  /** In the order the registry has them, each once. */
  readonly names: readonly string[];
  /** It has more than were read. */
  readonly truncated: boolean;
}

/**
 * @param first URL of the first page
 * @param field of the document that holds the list
 * @param isName what is none is passed over
 * @throws SealiftError `source-*`, `json-*`
 */
export async function readList(
  repository: Repository,
  { first, field, isName }: { first: URL; field: string; isName: (text: string) => boolean },
  options: SourceOptions,
  context: Context,
): Promise<RegistryList> {
  const session = takeSession(options);
  const names = new Set<string>();
  try {
    let url: URL | undefined = first;
    for (let pages = 0; url !== undefined; pages += 1) {
      if (pages >= MOST_PAGES || names.size >= MOST_NAMES) return { names: [...names], truncated: true };
      const at: URL = url;
      const page = await retrying(
        async () => {
          const answer = await ask(
            session,
            repository,
            { url: at, headers: { Accept: 'application/json' } },
            context,
          );
          if (answer.status !== 200)
            throw await statusFailure(answer, session, context, `no list of ${field}`);
          refuseEncoding(answer);
          const bytes = await readAll(answer, context.limits.registryDocument, session);
          return { found: parseNames(bytes, at, field, context), next: nextPage(answer, at) };
        },
        session.options,
        context,
      );
      for (const name of page.found) if (isName(name)) names.add(name);
      url = page.next;
    }
    return { names: [...names], truncated: false };
  } finally {
    session.release();
  }
}

function parseNames(bytes: Uint8Array, url: URL, field: string, context: Context): string[] {
  const what = showUrl(url);
  const parsed = parseJson(bytes, {
    what,
    maxBytes: context.limits.registryDocument,
    maxDepth: context.limits.jsonDepth,
  });
  const list = (asObject(parsed, what, 'json-invalid') as Record<string, unknown>)[field];
  // Registries write null where there is nothing.
  if (list === null || list === undefined) return [];
  if (!Array.isArray(list))
    throw new SealiftError('source-protocol', `list of ${field} is no list`, { subject: what });
  return asArray(list, what, 'json-invalid').filter((name) => typeof name === 'string');
}
