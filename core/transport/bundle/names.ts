/** Looks an image up in what lists its images by full name. */
import { inert, isSealiftError, SealiftError } from '../../errors.ts';
import { imageName, parseReference } from '../../oci/reference.ts';

/**
 * The image called `name`, in any spelling; without a name the only one.
 * @throws SealiftError `name-not-found`, `name-conflict`
 */
export function findByName<T extends { readonly name: string }>(
  images: readonly T[],
  name: string,
  what: string,
): T {
  const hint = `it has: ${images
    .slice(0, 8)
    .map((image) => inert(image.name))
    .join(', ')}${images.length > 8 ? ', …' : ''}`;
  const [first, second] = name === '' ? images : images.filter((image) => image.name === fullName(name));
  if (!first) {
    throw new SealiftError('name-not-found', `the ${what} has no such image`, {
      subject: name === '' ? undefined : inert(name, 160),
      hint: images.length === 0 ? `the ${what} is empty` : hint,
    });
  }
  if (second)
    throw new SealiftError('name-conflict', `the ${what} has several images, want the name of one`, { hint });
  return first;
}

/** `name` as a full one, or as it stands where it is none. */
export function fullName(name: string): string {
  try {
    return imageName(parseReference(name));
  } catch (error) {
    if (isSealiftError(error)) return name;
    throw error;
  }
}

/** What a bundle or a store keeps of where the digest of an image came from. */
export function madeHere(image: { readonly digestMadeHere?: true | undefined } | undefined): {
  readonly digestMadeHere?: true;
} {
  return image?.digestMadeHere === true ? { digestMadeHere: true } : {};
}
