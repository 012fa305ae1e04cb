/** Digests (OCI image specification 1.1, descriptor.md "Digests"): sha256 and sha512, exactly spelt. */
import { createHash } from 'node:crypto';
import { inert, SealiftError } from '../errors.ts';

declare const digestBrand: unique symbol;
/** `sha256:` and 64, or `sha512:` and 128 lower-case hex digits. Made by parseDigest, formatDigest or digestOf only. */
export type Digest = string & { readonly [digestBrand]: true };
export type DigestAlgorithm = 'sha256' | 'sha512';

const DIGEST = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;

export function isDigest(text: string): text is Digest {
  return DIGEST.test(text);
}

/** @throws SealiftError `invalid-digest` where `text` is no digest, in exactly this spelling */
export function parseDigest(text: string): Digest {
  if (isDigest(text)) return text;
  const lower = text.toLowerCase();
  throw new SealiftError(
    'invalid-digest',
    `not a digest: got "${inert(text, 160)}", want sha256: and 64, or sha512: and 128 lower-case hex digits`,
    {
      got: inert(text, 160),
      want: 'sha256:HEX or sha512:HEX',
      hint: isDigest(lower) ? `digests are lower-case: ${lower}` : undefined,
    },
  );
}

/** The digest with these parts. @throws SealiftError `invalid-digest` */
export function formatDigest(algorithm: DigestAlgorithm, hex: string): Digest {
  return parseDigest(`${algorithm}:${hex}`);
}

/** The digest of `bytes`. */
export function digestOf(bytes: Uint8Array, algorithm: DigestAlgorithm = 'sha256'): Digest {
  return formatDigest(algorithm, createHash(algorithm).update(bytes).digest('hex'));
}

export function digestAlgorithm(digest: Digest): DigestAlgorithm {
  return digest.startsWith('sha512:') ? 'sha512' : 'sha256';
}

export function digestHex(digest: Digest): string {
  return digest.slice(digest.indexOf(':') + 1);
}

/**
 * Where a blob lies in an image layout, with forward slashes: `blobs/sha256/HEX`.
 * Checks the digest again, because a cast can fake the type and this becomes a path.
 * @throws SealiftError `invalid-digest`
 */
export function blobPath(digest: Digest): string {
  const checked = parseDigest(digest);
  return `blobs/${digestAlgorithm(checked)}/${digestHex(checked)}`;
}

/** The digest that {@link blobPath} made a name of: `blobs/sha256/HEX`. @throws SealiftError `invalid-digest` */
export function digestOfBlobPath(name: string): Digest {
  const [, algorithm, hex] = name.split('/');
  return formatDigest(algorithm === 'sha512' ? 'sha512' : 'sha256', hex ?? '');
}

/** @throws SealiftError `digest-mismatch` where `bytes` do not have that digest */
export function assertDigest(bytes: Uint8Array, want: Digest, subject?: string): void {
  const got = digestOf(bytes, digestAlgorithm(want));
  if (got !== want) {
    throw new SealiftError('digest-mismatch', `content has another digest: got ${got}, want ${want}`, {
      subject: subject ?? want,
      got,
      want,
    });
  }
}
