/** The matchers of signedIdentity (containers-policy.json(5)): whether a signature's name is one for the image. */
import { formatReference, parseReference, type Reference, repositoryName } from '../../oci/reference.ts';
import { isNameOnly, type SignedIdentity } from './policy.ts';

interface Named {
  /** Repository with host. */
  readonly repository: string;
  /** Whole, normalised, without an added tag. */
  readonly full: string;
  readonly kind: 'name' | 'tagged' | 'digested';
}

/** `text` as containers/image reads it: normalised, and nothing is added. Undefined where it is no reference. */
function read(text: string): Named | undefined {
  let reference: Reference;
  try {
    reference = parseReference(text);
  } catch {
    return undefined;
  }
  const repository = repositoryName(reference);
  if (isNameOnly(text)) return { repository, full: repository, kind: 'name' };
  return {
    repository,
    full: formatReference(reference),
    kind: reference.tag === undefined ? 'digested' : 'tagged',
  };
}

/**
 * Whether a signature that names `claimed` is accepted for the image called `name`.
 * @param name full name with a tag or a digest
 */
export function identityMatches(identity: SignedIdentity, name: string, claimed: string): boolean {
  const image = read(name);
  const signed = read(claimed);
  if (!image || !signed) return false;
  switch (identity.type) {
    case 'matchExact':
      return image.kind !== 'name' && signed.kind !== 'name' && image.full === signed.full;
    case 'matchRepoDigestOrExact':
      return matchesRepoDigestOrExact(image, signed);
    case 'matchRepository':
      return image.repository === signed.repository;
    case 'exactReference':
      return signed.kind !== 'name' && formatReference(identity.reference) === signed.full;
    case 'exactRepository':
      return repositoryName(identity.reference) === signed.repository;
    case 'remapIdentity': {
      const { prefix, signedPrefix } = identity;
      if (image.repository !== prefix && !image.repository.startsWith(`${prefix}/`))
        return matchesRepoDigestOrExact(image, signed);
      const text = signedPrefix + image.full.slice(prefix.length);
      const remapped = read(text);
      // What is not written in full would mean another name after normalisation.
      return remapped?.full === text && matchesRepoDigestOrExact(remapped, signed);
    }
  }
}

function matchesRepoDigestOrExact(image: Named, signed: Named): boolean {
  if (signed.kind === 'name') return false;
  if (image.kind === 'tagged') return image.full === signed.full;
  // The digest itself is compared with the manifest, not with the name.
  return image.kind === 'digested' && image.repository === signed.repository;
}
