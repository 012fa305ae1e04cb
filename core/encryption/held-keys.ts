/**
 * Secret keys that gpg holds, in its keyring or on a card: gpg is shown the head of a message and tells the session key
 * that is in it for one of them. The body it never sees: that is decrypted and checked here, as with any other key.
 */
import { inert, SealiftError } from '../errors.ts';
import {
  askingGpg,
  explainFailure,
  type GpgReference,
  type GpgRun,
  parseReference,
  runGpg,
} from '../trust/gpg.ts';
import { framePacket, splitPackets } from '../trust/openpgp-packets.ts';
import type { GpgSettings, PassphraseProvider } from '../workflow-options.ts';
import { TAG } from './packets.ts';
import type { SessionKey } from './seal.ts';
import { cipherOf, isHidden } from './session-keys.ts';

/** Whichever key it has; or the one with a fingerprint behind it. */
const ANY = 'gpg:';

/** Hidden recipients for whom gpg tries each of its keys, on a card one second after another. */
const MOST_HIDDEN = 32;

/** Ciphers by their numbers (RFC 4880, section 9.2). */
const NAMES: Readonly<Record<string, string>> = { 7: 'aes128', 8: 'aes192', 9: 'aes256' };

export interface HeldKey {
  /** As it was given. */
  readonly reference: string;
  /** Ids of the keys it stands for, lower-case hex; undefined for all that gpg has. */
  readonly ids: ReadonlySet<string> | undefined;
  /**
   * The session key of a message, by its session key packets and the first bytes of its body; undefined where gpg has no
   * key that it is for.
   * @throws SealiftError `passphrase-needed`, `cancelled`, `decryption-key-needed` where a card or gpg is not here
   */
  sessionKey(packets: Uint8Array, start: Uint8Array): Promise<SessionKey | undefined>;
}

/**
 * @param reference `gpg:`, or `gpg:` and a fingerprint
 * @throws SealiftError `invalid-argument`, `decryption-key-needed` where gpg or the key is not here
 */
export async function openHeldKey(
  reference: string,
  settings: GpgSettings,
  passphrase: PassphraseProvider,
): Promise<HeldKey> {
  const named = reference === ANY ? undefined : parseReference(reference);
  const ids = named && (await needed(() => findIds(settings, named)));
  const purpose = named
    ? `the key ${named.fingerprint.toLowerCase()} that gpg holds`
    : 'the key that gpg holds';
  const ask = askingGpg(settings, passphrase, purpose);
  return {
    reference,
    ids,
    async sessionKey(packets, start) {
      const chosen = splitPackets(packets).filter(({ body }) => isFor(idOf(body), ids));
      const hidden = chosen.filter(({ body }) => isHidden(idOf(body)));
      if (chosen.length === 0) return undefined;
      if (hidden.length > MOST_HIDDEN) {
        throw new SealiftError('decryption-failed', 'the bundle hides too many of those it is for', {
          got: hidden.length,
          want: `at most ${MOST_HIDDEN} for keys that gpg holds`,
          hint: 'let gpg decrypt: gpg --decrypt BUNDLE | sealift import -',
        });
      }
      // The octets that tell whether the key fits, and nothing of the content.
      const head = Buffer.concat([
        ...chosen.map(({ tag, body }) => framePacket(tag, body)),
        framePacket(TAG.integrityProtected, Buffer.concat([Buffer.of(1), start])),
      ]);
      const only = named ? ['--try-secret-key', named.fingerprint] : [];
      const run = await needed(() =>
        ask([...only, '--show-session-key', '--yes', '--output', '/dev/null', '--decrypt'], head),
      );
      settings.signal?.throwIfAborted();
      return sessionKeyIn(run, reference);
    },
  };
}

/** Version 3: the id of the key behind the octet of the version (RFC 4880, section 5.1). */
const idOf = (body: Uint8Array): string => Buffer.from(body.subarray(1, 9)).toString('hex');

const isFor = (id: string, ids: ReadonlySet<string> | undefined): boolean =>
  ids === undefined || ids.has(id) || isHidden(id);

/** Of the key and its subkeys, whichever of them is named: field 5 of pub and sub (doc/DETAILS of GnuPG). */
async function findIds(settings: GpgSettings, { fingerprint }: GpgReference): Promise<ReadonlySet<string>> {
  const { output, said } = await runGpg(
    settings,
    ['--with-colons', '--list-keys', '--', fingerprint],
    undefined,
  );
  const ids = output
    .toString('utf8')
    .split('\n')
    .map((line) => line.split(':'))
    .flatMap(([kind, , , , id]) =>
      (kind === 'pub' || kind === 'sub') && id !== undefined ? [id.toLowerCase()] : [],
    );
  if (ids.length > 0) return new Set(ids);
  throw new SealiftError(
    'decryption-key-needed',
    `gpg has no key ${fingerprint}${said === '' ? '' : `: ${said}`}`,
    {
      subject: fingerprint,
      hint: 'gpg --list-secret-keys shows what it has; GNUPGHOME says where it looks',
    },
  );
}

function sessionKeyIn(run: GpgRun, reference: string): SessionKey | undefined {
  const told = run.status.find((line) => line.startsWith('SESSION_KEY '));
  const [, number = '', hex = ''] = /^SESSION_KEY (\d+):([0-9A-F]+)$/.exec(told ?? '') ?? [];
  if (told !== undefined) return cipherOf(NAMES[number], Buffer.from(hex, 'hex'));
  const known = explainFailure(run, inert(reference));
  if (known) throw known.code === 'signature-needed' ? withCode(known) : known;
  return undefined;
}

/** What a key is not there for is said by the code. */
async function needed<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw error instanceof SealiftError && error.code === 'signature-needed' ? withCode(error) : error;
  }
}

function withCode({ message, subject, hint, cause }: SealiftError): SealiftError {
  return new SealiftError('decryption-key-needed', message, { subject, hint, cause });
}
