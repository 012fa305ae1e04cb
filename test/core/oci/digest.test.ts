import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  assertDigest,
  blobPath,
  type Digest,
  digestAlgorithm,
  digestHex,
  digestOf,
  formatDigest,
  isDigest,
  parseDigest,
} from '../../../core/oci/digest.ts';
import { codeOf } from './code-of.ts';

const HEX = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

describe('digests', () => {
  it('of known content', () => {
    expect(digestOf(new Uint8Array())).toBe(`sha256:${HEX}`);
    expect(digestOf(Buffer.from('abc'), 'sha512')).toBe(
      'sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f',
    );
  });

  it('are taken apart and put together again', () => {
    fc.assert(
      fc.property(
        fc.uint8Array(),
        fc.constantFrom('sha256' as const, 'sha512' as const),
        (bytes, algorithm) => {
          const digest = digestOf(bytes, algorithm);
          expect(parseDigest(digest)).toBe(digest);
          expect(digestAlgorithm(digest)).toBe(algorithm);
          expect(formatDigest(algorithm, digestHex(digest))).toBe(digest);
          expect(blobPath(digest)).toBe(`blobs/${algorithm}/${digestHex(digest)}`);
          expect(() => assertDigest(bytes, digest)).not.toThrow();
        },
      ),
    );
  });

  it.each([
    ['empty', ''],
    ['hex alone', HEX],
    ['too short', `sha256:${HEX.slice(1)}`],
    ['too long', `sha256:${HEX}0`],
    ['sha256 length under sha512', `sha512:${HEX}`],
    ['sha512 length under sha256', `sha256:${HEX}${HEX}`],
    ['upper case', `sha256:${HEX.toUpperCase()}`],
    ['upper-case algorithm', `SHA256:${HEX}`],
    ['md5', 'md5:d41d8cd98f00b204e9800998ecf8427e'],
    ['sha384', `sha384:${HEX}${HEX.slice(32)}`],
    ['newline at the end', `sha256:${HEX}\n`],
    ['space before', ` sha256:${HEX}`],
    ['path instead of hex', `sha256:../../../../../../etc/passwd`],
    ['path of the right length', `sha256:${'../'.repeat(21)}x`],
    ['path before the digest', `../sha256:${HEX}`],
    ['slash in the algorithm', `sha256/x:${HEX}`],
    ['NUL', `sha256:${HEX.slice(1)}\0`],
    ['full-width digits', `sha256:${'０'.repeat(64)}`],
    ['prototype key as algorithm', `constructor:${HEX}`],
  ])('refuses: %s', (_, text) => {
    expect(isDigest(text)).toBe(false);
    expect(codeOf(() => parseDigest(text))).toBe('invalid-digest');
    // A cast cannot make a path of it either.
    expect(codeOf(() => blobPath(text as Digest))).toBe('invalid-digest');
  });

  it('of other content is refused, naming both', () => {
    const want = digestOf(Buffer.from('a'));
    expect(() => assertDigest(Buffer.from('b'), want)).toThrow(
      expect.objectContaining({ code: 'digest-mismatch', want, got: digestOf(Buffer.from('b')) }),
    );
  });

  it('hints at lower case', () => {
    expect(() => parseDigest(`sha256:${HEX.toUpperCase()}`)).toThrow(
      expect.objectContaining({ hint: expect.stringContaining(`sha256:${HEX}`) as string }),
    );
  });
});
