/**
 * The signatures API extension (`X-Registry-Supports-Signatures`): registries that keep simple-signing signatures
 * themselves hand them out at `/extensions/v2/REPOSITORY/signatures/DIGEST`.
 */
import type { Context } from '../context.ts';
import { SealiftError } from '../errors.ts';
import { asArray, asObject, asString, parseJson } from '../json/strict.ts';
import type { Digest } from '../oci/digest.ts';
import type { Reference } from '../oci/reference.ts';
import { ask } from '../transport/registry/authorization.ts';
import { discardBody, readAll, statusFailure } from '../transport/registry/request.ts';
import { retrying } from '../transport/registry/retry.ts';
import { takeSession } from '../transport/registry/session.ts';
import { repositoryOf } from '../transport/registry/source.ts';
import type { SourceOptions } from '../transport/source.ts';

const HEADER = 'x-registry-supports-signatures';
/** Whether a registry has the extension, by its origin; asked once for each set of options. */
const known = new WeakMap<SourceOptions, Map<string, Promise<boolean>>>();

/**
 * Signatures the registry itself keeps of a manifest; none where it has no such extension.
 * @throws SealiftError `source-*`; `source-protocol` where the answer is not of that form
 */
export async function readSignaturesApi(
  reference: Reference,
  digest: Digest,
  options: SourceOptions,
  context: Context,
): Promise<readonly Uint8Array[]> {
  const session = takeSession(options);
  const repository = repositoryOf(reference, options.plainHttp);
  const get = async <T>(
    path: string,
    read: (answer: Awaited<ReturnType<typeof ask>>) => Promise<T>,
  ): Promise<T> =>
    retrying(
      async () =>
        read(
          await ask(
            session,
            repository,
            { url: new URL(path, repository.base.origin), headers: {} },
            context,
          ),
        ),
      options,
      context,
    );
  try {
    const registries = known.get(options) ?? new Map<string, Promise<boolean>>();
    known.set(options, registries);
    const { origin } = repository.base;
    const supported =
      registries.get(origin) ??
      get('/v2/', async (answer) => {
        await discardBody(answer, session);
        return answer.status === 200 && answer.headers[HEADER] === '1';
      });
    registries.set(origin, supported);
    if (!(await supported)) return [];
    const bytes = await get(`/extensions/v2/${repository.path}/signatures/${digest}`, async (answer) => {
      if (answer.status === 404) {
        await discardBody(answer, session);
        return undefined;
      }
      if (answer.status !== 200) throw await statusFailure(answer, session, context, 'no signatures');
      return readAll(answer, context.limits.registryDocument, session);
    });
    return bytes ? parseAnswer(bytes, digest, context) : [];
  } finally {
    session.release();
  }
}

function parseAnswer(bytes: Uint8Array, digest: Digest, context: Context): readonly Uint8Array[] {
  const code = 'source-protocol';
  const { registryDocument, jsonDepth } = context.limits;
  const what = `signatures of ${digest}`;
  const document = asObject(
    parseJson(bytes, { what, maxBytes: registryDocument, maxDepth: jsonDepth }),
    what,
    code,
  );
  const found: Uint8Array[] = [];
  for (const [index, value] of asArray(document['signatures'] ?? [], 'signatures', code).entries()) {
    const path = `signatures[${index}]`;
    const signature = asObject(value, path, code);
    // Other versions and types are other formats; skopeo passes over them too.
    if (signature['schemaVersion'] !== 2 || signature['type'] !== 'atomic') continue;
    const content = asString(signature['content'], `${path}.content`, code);
    if (!/^[A-Za-z0-9+/]+={0,2}$/.test(content))
      throw new SealiftError(code, `${path}.content is not base64`, { subject: digest });
    found.push(Buffer.from(content, 'base64'));
  }
  return found;
}
