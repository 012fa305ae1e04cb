/**
 * The one error type of sealift, and every code it can carry.
 *
 * Codes are a contract (docs/errors.md): scripts branch on them, so a code is never renamed and never
 * changes its category. The category decides the exit code; the table from category to number lives in cli.
 */

export type ErrorCategory =
  | 'unexpected'
  | 'usage'
  | 'malformed'
  | 'trust'
  | 'source'
  | 'destination'
  | 'needed'
  | 'cancelled';

/** Every error code: its category and what it means in one line. */
export const ERROR_CODES = {
  // usage
  'invalid-argument': ['usage', 'an option or argument has a value sealift does not take'],
  'invalid-reference': ['usage', 'an image reference does not follow the grammar'],
  'invalid-digest': ['usage', 'a digest is not of the form sha256:HEX or sha512:HEX'],
  'unknown-location': ['usage', 'a location has a prefix or form sealift does not know'],
  'terminal-needed': ['usage', 'this needs a terminal; the hint names the command that does not'],
  'collection-exists': ['usage', 'there is a collection already where a new one was to be made'],
  'collection-not-found': ['usage', 'there is no collection at that place'],
  'bundle-not-found': ['usage', 'there is no bundle at that place'],
  'store-not-found': ['usage', 'there is no store at that place'],
  'name-not-found': ['usage', 'that name is not in the bundle or the store'],
  'name-conflict': ['usage', 'one name was given two different images'],
  'code-unknown': ['usage', 'no past export of the collection is remembered by that code, or any'],
  // malformed
  'bundle-not-canonical': ['malformed', 'a byte of the archive is not what the format prescribes'],
  'bundle-truncated': ['malformed', 'the archive ends too early'],
  'bundle-trailing-data': ['malformed', 'there is data behind the end of the archive'],
  'bundle-compressed': ['malformed', 'the archive is compressed or encrypted; a bundle never is'],
  'decryption-failed': ['malformed', 'an encrypted bundle does not decrypt, or its integrity check failed'],
  'bundle-too-large': ['malformed', 'a part of the archive is larger than the format allows'],
  'derived-file-mismatch': ['malformed', 'a computed file of the archive is not what is computed'],
  'blob-missing': ['malformed', 'a blob that a carried image needs is not there'],
  'digest-mismatch': ['malformed', 'content does not have the digest it was named by'],
  'size-mismatch': ['malformed', 'content does not have the size that was announced'],
  'media-type-mismatch': ['malformed', 'a manifest is of another type than was announced'],
  'json-invalid': ['malformed', 'a document is not JSON, or not the JSON sealift takes'],
  'json-duplicate-key': ['malformed', 'a JSON object has the same key twice'],
  'json-too-deep': ['malformed', 'a JSON document is nested too deeply'],
  'json-too-large': ['malformed', 'a JSON document is larger than the limit'],
  'manifest-invalid': ['malformed', 'an image manifest or index does not follow its specification'],
  'schema1-unsupported': ['malformed', 'Docker image manifest schema 1 is not carried'],
  'layout-invalid': ['malformed', 'a directory is not an OCI image layout'],
  'archive-invalid': ['malformed', 'a file is not an archive of images that sealift reads'],
  'list-invalid': [
    'malformed',
    'a list of images is neither lines nor YAML nor JSON, or larger than the limits',
  ],
  'metadata-malformed': ['malformed', 'trust metadata does not follow the TUF profile'],
  'format-unsupported': ['malformed', 'a format version or a required feature this sealift does not know'],
  'policy-invalid': ['malformed', 'a policy is not one that sealift can apply; the message names the line'],
  'receipt-invalid': ['malformed', 'a receipt does not follow its format'],
  'state-damaged': ['malformed', 'a file of a gate, store, collection or journal is damaged'],
  'volume-damaged': ['malformed', 'a volume of the bundle is damaged; the message says which'],
  'volume-duplicate': ['malformed', 'the same volume of a bundle is there twice'],
  'volume-foreign': ['malformed', 'a volume belongs to another bundle'],
  'volume-misplaced': ['malformed', 'a volume has the number of another one'],
  'volume-unexpected': ['malformed', 'there are more volumes than the bundle has'],
  'volume-index-invalid': ['malformed', 'the list of volumes beside them cannot be used'],
  // trust
  'not-pinned': ['trust', 'no root of this collection has been pinned'],
  'gate-unsafe': ['trust', 'every user of the machine may write to the gate, so that nothing it says counts'],
  'pin-mismatch': ['trust', 'no root in the bundle has the pinned fingerprint'],
  'scope-conflict': ['trust', "two collections' scopes overlap, or a name is outside its collection's scope"],
  'root-chain-broken': ['trust', 'the roots do not follow one another'],
  'signature-threshold': ['trust', 'too few valid signatures by distinct keys of the role'],
  'signature-invalid': ['trust', 'a signature is malformed, for another purpose, or does not verify'],
  'weak-algorithm': ['trust', 'a signature or key uses an algorithm that is not accepted'],
  'key-expired': ['trust', 'a key that is needed has expired'],
  'key-revoked': ['trust', 'a key that is needed has been revoked'],
  'metadata-expired': ['trust', 'trust metadata has expired'],
  rollback: ['trust', 'a version is lower than one accepted before'],
  fork: ['trust', 'the same version was accepted before with other content'],
  'mix-and-match': ['trust', 'metadata files do not belong together'],
  'target-mismatch': ['trust', 'a name, digest, length or type is not what the trust metadata says'],
  'name-withdrawn': ['trust', 'the image has been withdrawn'],
  'clock-jump': ['trust', 'the bundle is from too far in the future, or would move the clock too far'],
  'lifetime-too-long': ['trust', 'metadata wants to be valid for longer than 400 days'],
  'policy-missing': ['trust', 'the policy that was set is gone, or is not the one that was set'],
  'officers-missing': ['trust', 'the officers that were set are gone, or are not those that were set'],
  'signature-expired': ['trust', 'a signature has expired'],
  'requirement-unmet': ['trust', 'evidence the publisher or the policy demands is not there'],
  'check-refused': ['trust', 'the check command of the import refuses an image'],
  'gate-unknown': ['trust', 'a receipt is by a gate whose key was not pinned'],
  'receipt-expired': ['trust', 'a receipt has expired'],
  'receipt-mismatch': ['trust', 'a receipt or an earlier bundle is of another collection'],
  // source
  'source-unreachable': ['source', 'a registry could not be reached, or broke off'],
  'source-unauthorized': ['source', 'a registry refused the credentials, or wants some'],
  'source-not-found': ['source', 'the source has no such image or blob'],
  'source-rate-limited': ['source', 'a registry asks to slow down for longer than sealift waits'],
  'source-protocol': ['source', 'a registry answered what the protocol does not allow'],
  'source-too-large': ['source', 'an answer is larger than announced or allowed'],
  'foreign-layer': ['source', 'a layer may only be had from its vendor'],
  'bundle-unreadable': ['source', 'the medium of a bundle was pulled out, or fails'],
  'source-tls': ['source', "a registry's TLS certificate is not trusted"],
  // destination
  'destination-full': ['destination', 'there is not enough free space'],
  'destination-exists': ['destination', 'the output is there already'],
  'destination-limit': ['destination', 'the file system cannot hold a file this large'],
  'destination-failed': ['destination', 'writing failed'],
  'destination-locked': ['destination', 'another sealift is working on it'],
  // needed
  'passphrase-needed': ['needed', 'a passphrase is needed and there is no way to ask for it'],
  'signature-needed': ['needed', 'a signature by a key that is not here is needed'],
  'decryption-key-needed': ['needed', 'a bundle is encrypted to keys that are not here'],
  'approval-needed': ['needed', 'too few officers have approved the bundle'],
  'base-needed': ['needed', 'the bundle is a delta and its base is not here'],
  'volume-missing': ['needed', 'a volume of the bundle is needed that is not here'],
  'medium-needed': [
    'needed',
    'another medium is needed to write the next volume, and there is no way to ask for it',
  ],
  // cancelled
  cancelled: ['cancelled', 'stopped by a signal or by the answer to a question'],
  // unexpected
  internal: ['unexpected', 'a defect of sealift itself'],
} as const satisfies Record<string, readonly [ErrorCategory, string]>;

export type ErrorCode = keyof typeof ERROR_CODES;

export interface ErrorDetails {
  /** What the error is about: an image name, a digest, a file, a role. */
  readonly subject?: string | undefined;
  /** What was found. */
  readonly got?: string | number | undefined;
  /** What was wanted. */
  readonly want?: string | number | undefined;
  /** What to do, naming the command to run. */
  readonly hint?: string | undefined;
  /** The named check (docs/json-output.md) that refused, where one did. */
  readonly check?: string | undefined;
  /** Where several images failed: each of them. */
  readonly failures?: readonly ImageFailure[] | undefined;
  readonly cause?: unknown;
}

/** Why one image of several could not be had. */
export interface ImageFailure {
  /** Full name, or the location as it was asked for where that could not be learnt. */
  readonly name: string;
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint?: string | undefined;
}

/**
 * An error with a stable code. `message` is lower-case, without a full stop, and says what was found and
 * what was wanted; texts from outside that enter it are made inert by `inert()`.
 */
export class SealiftError extends Error {
  override readonly name = 'SealiftError';
  readonly code: ErrorCode;
  readonly subject: string | undefined;
  readonly got: string | number | undefined;
  readonly want: string | number | undefined;
  readonly hint: string | undefined;
  readonly check: string | undefined;
  readonly failures: readonly ImageFailure[] | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.subject = details.subject;
    this.got = details.got;
    this.want = details.want;
    this.hint = details.hint;
    this.check = details.check;
    this.failures = details.failures;
  }

  get category(): ErrorCategory {
    return ERROR_CODES[this.code][0];
  }

  /** The same error with details filled in where they were not yet known further down. */
  with(details: ErrorDetails): SealiftError {
    const error = new SealiftError(this.code, this.message, {
      subject: this.subject ?? details.subject,
      got: this.got ?? details.got,
      want: this.want ?? details.want,
      hint: this.hint ?? details.hint,
      check: this.check ?? details.check,
      failures: this.failures ?? details.failures,
      cause: this.cause,
    });
    if (this.stack !== undefined) error.stack = this.stack;
    return error;
  }
}

export function isSealiftError(error: unknown): error is SealiftError {
  return error instanceof SealiftError;
}

/** `error` as a SealiftError: aborts become `cancelled`, what is unknown becomes `internal`. */
export function toSealiftError(error: unknown): SealiftError {
  if (isSealiftError(error)) return error;
  if (error instanceof Error) {
    if (error.name === 'AbortError') return new SealiftError('cancelled', 'stopped', { cause: error });
    const system = fromSystemError(error);
    if (system) return system;
    return new SealiftError('internal', error.message, { cause: error });
  }
  return new SealiftError('internal', String(error));
}

/** A file system error in sealift's words, or undefined where the code is none we know. */
function fromSystemError(error: Error): SealiftError | undefined {
  const { code, path } = error as NodeJS.ErrnoException;
  const subject = path === undefined ? undefined : inert(path);
  switch (code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new SealiftError('destination-full', 'no space left on the device', {
        subject,
        cause: error,
        hint: 'free some space and run the same command again; it goes on where it stopped',
      });
    case 'EFBIG':
      return new SealiftError('destination-limit', 'the file system cannot hold a file this large', {
        subject,
        cause: error,
      });
    case 'EIO':
    case 'ENODEV':
    case 'ENXIO':
    case 'ENOTCONN':
    case 'ECONNABORTED':
    case 'ESTALE':
    case 'ENOMEDIUM':
    case 'EREMOTEIO':
      return new SealiftError('destination-failed', `the medium cannot be written any more: got ${code}`, {
        subject,
        got: code,
        cause: error,
        hint: 'put the medium back, or take another one, and run the same command again; it goes on where it stopped',
      });
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new SealiftError('destination-failed', `${inert(error.message)}`, { subject, cause: error });
    default:
      return undefined;
  }
}

/**
 * Text from outside made safe to show: control characters, bidirectional overrides and other invisible
 * characters become `\u{…}`, and it is cut to `max` characters.
 */
export function inert(text: string, max = 300): string {
  const cut = text.length > max ? `${text.slice(0, max)}…` : text;
  return cut.replace(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cs}]/gu,
    (c) => `\\u{${c.codePointAt(0)?.toString(16)}}`,
  );
}
