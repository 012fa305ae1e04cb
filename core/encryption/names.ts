/** What an encrypted bundle is called, and how much larger it is. */

/** Behind the name of a bundle, or of a volume. */
export const ENCRYPTED_ENDING = '.gpg';

/**
 * Bytes that a message takes beyond its content, at the most: a session key for each recipient, the headers of its
 * pieces, the integrity check.
 */
export function messageOverhead({ keys }: { readonly keys: readonly unknown[] }): number {
  return 128 * 1024 + keys.length * 2048;
}
