/** What an encrypted bundle is called, and how much larger it is. */

/** Behind the name of a bundle, or of a volume. */
export const ENCRYPTED_ENDING = '.gpg';

/** Both packets tell a length for each MiB. */
const PART = 1024 * 1024;
const LEAST = 128 * 1024;

/**
 * Bytes that a message of `size` bytes takes beyond its content, at the most: a session key for each recipient, the
 * lengths of its parts, the integrity check. The same for most sizes, because volumes are cut by it: what one release has
 * begun the next goes on with.
 */
export function messageOverhead({ keys }: { readonly keys: readonly unknown[] }, size: number): number {
  return Math.max(LEAST, 1024 + 2 * Math.ceil(size / PART)) + keys.length * 2048;
}
