/**
 * Signers whose secret half gpg holds, `gpg:FINGERPRINT`: in its keyring, or on a card that its agent talks to.
 * The program makes every signature; what it made is verified here before anything leaves.
 */
import { spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { type ErrorCode, inert, SealiftError } from '../errors.ts';
import { DEFAULT_LIMITS } from '../limits.ts';
import { findProgram } from '../programs.ts';
import type { GpgSettings, KeyAccess, PassphraseProvider } from '../workflow-options.ts';
import { type Certificate, readCertificate } from './certificates.ts';
import { keyIdOf, openpgpTufKey, type Purpose } from './keys.ts';
import { armorSignature, MAX_AHEAD_MS, PURPOSE_NOTATION, verifyOpenpgp } from './openpgp.ts';
import type { Signer } from './signer.ts';

const PREFIX = 'gpg:';
const MOST_OUTPUT = 4 * 1024 * 1024;
const MOST_MESSAGE = 4096;

/** A signer that can also make signed messages. */
export interface GpgSigner extends Signer {
  readonly fingerprint: string;
  readonly certificate: Uint8Array;
  /** What opens it again. */
  readonly reference: string;
  /** An OpenPGP signed message (RFC 4880 section 11.3) with `bytes` in it, not compressed. */
  signMessage(bytes: Uint8Array): Promise<Uint8Array>;
}

export const isGpgReference = (text: string): boolean => text.startsWith(PREFIX);

export interface GpgReference {
  /** Of the primary key or a subkey, upper case. */
  readonly fingerprint: string;
  /** What --local-user is given: a `!` makes gpg take that very key. */
  readonly exact: boolean;
}

/** @throws SealiftError `invalid-argument` */
export function parseReference(text: string): GpgReference {
  const [, digits = '', mark = ''] = /^gpg:(?:0x)?([0-9A-Fa-f ]*?)(!?)$/.exec(text) ?? [];
  const fingerprint = digits.replaceAll(' ', '').toUpperCase();
  if (!/^[0-9A-F]{40}$/.test(fingerprint)) {
    // Key ids are short enough to be made on purpose.
    throw new SealiftError('invalid-argument', 'a key that gpg holds is named by its whole fingerprint', {
      subject: inert(text),
      want: 'gpg: and 40 hexadecimal digits',
      hint: 'gpg --list-secret-keys --with-subkey-fingerprint shows them',
    });
  }
  return { fingerprint, exact: mark !== '' };
}

export interface GpgRun {
  readonly code: number | null;
  readonly output: Buffer;
  /** Lines of --status-fd without their prefix. */
  readonly status: readonly string[];
  /** The end of what it said. */
  readonly said: string;
}

export async function runGpg(
  settings: GpgSettings,
  args: readonly string[],
  input: Uint8Array | undefined,
  passphrase?: string,
): Promise<GpgRun> {
  settings.signal?.throwIfAborted();
  const program = settings.program ?? (await findProgram(['gpg', 'gpg2'], settings.environment))?.file;
  if (program === undefined) {
    throw new SealiftError(
      'signature-needed',
      'a key that gpg holds needs the gpg program, which is not here',
      {
        subject: 'gpg',
        hint: 'install gnupg, or use a key file',
      },
    );
  }
  const { signal } = settings;
  // Without the user's gpg.conf: a second signer, an expiry or armor from there would spoil the signature.
  const child = spawn(
    program,
    ['--no-options', '--batch', '--no-tty', '--no-auto-check-trustdb', '--status-fd', '3', ...args],
    {
      env: { ...settings.environment } as NodeJS.ProcessEnv,
      stdio: ['pipe', 'pipe', 'pipe', 'pipe', 'pipe'],
      ...(signal ? { signal } : {}),
    },
  );
  const [, , , statusPipe, passphrasePipe] = child.stdio;
  const output = collect(child.stdout, () => child.kill('SIGKILL'));
  const status = collect(statusPipe as Readable, () => child.kill('SIGKILL'));
  let said = '';
  child.stderr.on('data', (part: Buffer) => {
    said = (said + part.toString('utf8')).slice(-MOST_MESSAGE);
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve(code));
  });
  // One that ends early closes its side; why is in its status.
  for (const [pipe, bytes] of [
    [child.stdin, input ?? ''],
    [passphrasePipe as NodeJS.WritableStream, passphrase === undefined ? '' : `${passphrase}\n`],
  ] as const) {
    pipe.on('error', () => {});
    pipe.end(bytes);
  }
  let code: number | null;
  try {
    code = await ended;
  } catch (cause) {
    signal?.throwIfAborted();
    throw new SealiftError('signature-needed', 'gpg cannot be started', {
      subject: inert(program),
      cause,
    });
  }
  return {
    code,
    output: output(),
    status: status()
      .toString('utf8')
      .split('\n')
      .flatMap((line) => (line.startsWith('[GNUPG:] ') ? [line.slice(9)] : [])),
    said: inert(
      said
        .trim()
        .split('\n')
        .at(-1)
        ?.replace(/^gpg: /, '') ?? '',
      400,
    ),
  };
}

/** Everything a stream says, up to the limit; `tooMuch` is called beyond. */
function collect(stream: Readable, tooMuch: () => void): () => Buffer {
  const chunks: Buffer[] = [];
  let length = 0;
  stream.on('data', (chunk: Buffer) => {
    length += chunk.length;
    if (length > MOST_OUTPUT) tooMuch();
    else chunks.push(chunk);
  });
  stream.on('error', () => {});
  return () => Buffer.concat(chunks);
}

/** The certificate of a key in gpg's keyring: its own signatures only. */
async function exportCertificate(settings: GpgSettings, fingerprint: string): Promise<Certificate> {
  const { output, said } = await runGpg(
    settings,
    ['--export-options', 'export-minimal,no-export-attributes', '--export', '--', fingerprint],
    undefined,
  );
  if (output.length === 0) throw unknownKey(fingerprint, said);
  return await readCertificate(output, DEFAULT_LIMITS);
}

const unknownKey = (fingerprint: string, said: string): SealiftError =>
  new SealiftError('signature-needed', `gpg has no key ${fingerprint}${said === '' ? '' : `: ${said}`}`, {
    subject: fingerprint,
    hint: 'gpg --list-secret-keys shows what it has; GNUPGHOME says where it looks',
  });

/**
 * The public half of a key that gpg knows, by the fingerprint of the primary key or a subkey.
 * @throws SealiftError `signature-needed` where gpg or the key is not here, `weak-algorithm`, `metadata-malformed`
 */
export async function readGpgCertificate(
  reference: string,
  settings: GpgSettings | undefined,
): Promise<Certificate> {
  return await exportCertificate(required(settings), parseReference(reference).fingerprint);
}

function required(settings: GpgSettings | undefined): GpgSettings {
  if (settings) return settings;
  throw new SealiftError('signature-needed', 'the key is held by gpg, which may not be used here', {
    subject: 'gpg',
  });
}

interface SecretKey {
  readonly primary: string;
  /** Some secret part is on a card: every use of it may want a touch or a PIN. */
  readonly onCard: boolean;
}

/**
 * Fields of --with-colons (doc/DETAILS of GnuPG): 2 is validity, 12 what a key can do (upper case: the whole of it,
 * today), 15 of sec and ssb is a card's serial number, `+` or `#`.
 */
async function findSecretKey(
  settings: GpgSettings,
  { fingerprint, exact }: GpgReference,
): Promise<SecretKey> {
  const { output, said } = await runGpg(
    settings,
    ['--with-colons', '--list-secret-keys', '--', fingerprint],
    undefined,
  );
  const keys: { validity: string; uses: string; token: string; fingerprint: string }[] = [];
  for (const line of output.toString('utf8').split('\n')) {
    const fields = line.split(':');
    const last = keys.at(-1);
    if (fields[0] === 'sec' || fields[0] === 'ssb') {
      keys.push({
        validity: fields[1] ?? '',
        uses: fields[11] ?? '',
        token: fields[14] ?? '',
        fingerprint: '',
      });
    } else if (fields[0] === 'fpr' && last) last.fingerprint = fields[9] ?? '';
  }
  const [primary] = keys;
  const named = keys.find((key) => key.fingerprint === fingerprint);
  if (!primary || !named) throw unknownKey(fingerprint, said);
  if (!/^[0-9A-F]{40}$/.test(primary.fingerprint)) {
    throw new SealiftError('weak-algorithm', 'the key is of another version than 4', {
      subject: inert(primary.fingerprint),
    });
  }
  const subject = primary.fingerprint.toLowerCase();
  const isExact = exact || named !== primary;
  const candidates = isExact ? [primary, named] : [primary, ...keys.filter(({ uses }) => uses.includes('s'))];
  const usable = isExact
    ? named.uses.includes('s') && !candidates.some(({ validity }) => /[er]/.test(validity))
    : primary.uses.includes('S');
  if (!usable) {
    if (candidates.some(({ validity }) => validity === 'r'))
      throw new SealiftError('key-revoked', 'the key has been revoked', { subject });
    if (candidates.some(({ validity }) => validity === 'e')) {
      throw new SealiftError('key-expired', 'the key has expired', {
        subject,
        hint: `give it more time: gpg --quick-set-expire ${subject} 2y; then: sealift trust key refresh gpg:${subject}`,
      });
    }
    throw new SealiftError('invalid-argument', 'the key is not one that signs', { subject });
  }
  return { primary: subject, onCard: keys.some(({ token }) => /^[0-9A-F]{16,}$/i.test(token)) };
}

/** Codes of libgpg-error that say why a signature was not made; the lower 16 bits of what FAILURE carries. */
const FAILURES: Readonly<Record<number, readonly [ErrorCode, string, string]>> = {
  11: [
    'passphrase-needed',
    'the passphrase does not open the key',
    'type or give the passphrase of this key',
  ],
  87: ['passphrase-needed', 'the card did not take the PIN', 'a card is blocked after three wrong PINs'],
  130: ['signature-needed', 'the PIN of the card is blocked', 'unblock it: gpg --card-edit, passwd'],
  99: ['cancelled', 'the passphrase was not given', ''],
  198: ['cancelled', 'the passphrase was not given', ''],
  62: ['passphrase-needed', 'nobody typed the passphrase in time', ''],
  108: ['signature-needed', 'the card cannot be read', 'put it in again'],
  110: ['signature-needed', 'the card was taken out', 'put it in, and run the same command again'],
  111: ['signature-needed', 'the card was reset', 'run the same command again'],
  112: ['signature-needed', 'the card is not there', 'put it in, and run the same command again'],
  17: ['signature-needed', 'gpg has only the public half of the key', 'bring the secret key or its card'],
};
/** No way to ask: no pinentry, none that could start, no passphrase in the cache. */
const CANNOT_ASK: ReadonlySet<number> = new Set([85, 86, 177, 178]);
const SYSTEM_ERROR = 0x8000;
const ASK_HINT =
  'on a terminal: export GPG_TTY=$(tty); elsewhere give --passphrase-file FILE, which gpg is handed';

const failureCode = ({ status }: GpgRun): number | undefined => {
  const line = status.find((one) => one.startsWith('FAILURE ') || one.startsWith('ERROR pkdecrypt_failed '));
  const text = line?.split(' ')[2];
  return text === undefined ? undefined : Number(text) % 0x10000;
};

const cannotAsk = (run: GpgRun): boolean => {
  const code = failureCode(run);
  return code !== undefined && (CANNOT_ASK.has(code) || code >= SYSTEM_ERROR);
};

/** What gpg itself says of why it did not use a key; undefined where it says nothing that is known. */
export function explainFailure(run: GpgRun, subject: string): SealiftError | undefined {
  const [kind, message, hint] = FAILURES[failureCode(run) ?? -1] ?? [];
  if (kind !== undefined && message !== undefined)
    return new SealiftError(kind, message, { subject, hint: hint === '' ? undefined : hint });
  if (cannotAsk(run)) {
    return new SealiftError('passphrase-needed', 'gpg had no way to ask for the passphrase of the key', {
      subject,
      hint: ASK_HINT,
    });
  }
  return undefined;
}

function failureOf(run: GpgRun, subject: string): SealiftError {
  const known = explainFailure(run, subject);
  if (known) return known;
  return new SealiftError(
    'signature-needed',
    `gpg made no signature: ${run.said || `exit code ${run.code}`}`,
    {
      subject,
      hint: `try it by hand: echo | gpg --detach-sign --local-user ${subject}`,
    },
  );
}

/** Runs gpg for something that takes a secret key; its passphrase is asked for as the settings say, and once. */
export function askingGpg(
  settings: GpgSettings,
  provider: PassphraseProvider,
  purpose: string,
): (args: readonly string[], input: Uint8Array) => Promise<GpgRun> {
  let passphrase: string | undefined;
  return async (args, input) => {
    const run = (mode: readonly string[]) => runGpg(settings, [...mode, ...args], input, passphrase);
    if (settings.ask === 'agent') return await run([]);
    if (passphrase === undefined) {
      // What the agent remembers needs no asking, and a key may have no passphrase.
      const first = await run(['--pinentry-mode', 'error']);
      if (settings.ask === 'never' || !cannotAsk(first)) return first;
      passphrase = await provider(purpose);
      if (passphrase === undefined) return first;
    }
    return await run(['--pinentry-mode', 'loopback', '--passphrase-fd', '4']);
  };
}

/**
 * Opens a key that gpg holds, and sees to it that it can sign: the passphrase is asked for now, not in the middle.
 * A key on a card is not tried, because every use of it may want a touch.
 * @param reference `gpg:` and a fingerprint, of the primary key or of a signing subkey; `!` behind it takes that very key
 * @throws SealiftError `signature-needed` where gpg, the key or its card is not here; `passphrase-needed`, `cancelled`,
 * `key-expired`, `key-revoked`, `weak-algorithm`, `invalid-argument`
 */
export async function openGpgSigner(reference: string, access: KeyAccess): Promise<GpgSigner> {
  const settings = required(access.gpg);
  const parsed = parseReference(reference);
  const { primary, onCard } = await findSecretKey(settings, parsed);
  const certificate = await exportCertificate(settings, primary);
  if (certificate.fingerprint !== primary)
    throw new SealiftError('internal', 'gpg gave out another key than the one asked for', {
      subject: primary,
    });
  const isPrimary = parsed.fingerprint.toLowerCase() === primary;
  const user = `${parsed.fingerprint}${isPrimary && !parsed.exact ? '' : '!'}`;
  const ask = askingGpg(settings, access.passphrase, `the key ${primary} that gpg holds`);
  const attempt = (args: readonly string[], bytes: Uint8Array): Promise<GpgRun> =>
    ask([...SIGNING, ...args, '--local-user', user], bytes);
  const make = async (args: readonly string[], bytes: Uint8Array): Promise<Buffer> => {
    const run = await attempt(args, bytes);
    settings.signal?.throwIfAborted();
    if (run.code !== 0 || run.output.length === 0) throw failureOf(run, primary);
    return run.output;
  };
  const detached = async (bytes: Uint8Array, purpose: Purpose, created: Date): Promise<Buffer> => {
    const packet = await make(['--detach-sign', '--sig-notation', `${PURPOSE_NOTATION}=${purpose}`], bytes);
    const verified = await verifyOpenpgp(certificate, bytes, packet.toString('hex'), {
      purpose,
      now: created,
      mode: 'final',
      allowFuture: true,
    });
    if (verified.created.getTime() > created.getTime() + MAX_AHEAD_MS) {
      throw new SealiftError(
        'invalid-argument',
        `gpg signs with the time of its own clock: got ${verified.created.toISOString()}, want at most 48 h after ${created.toISOString()}`,
        { subject: primary, hint: 'leave --created out, or use a key file' },
      );
    }
    return packet;
  };
  if (!onCard) await make(['--detach-sign'], PROBE);

  const key = openpgpTufKey(primary);
  return {
    key,
    keyId: keyIdOf(key),
    fingerprint: primary,
    certificate: certificate.bytes,
    reference: `${PREFIX}${user}`,
    sign: async (bytes, purpose, created) => (await detached(bytes, purpose, created)).toString('hex'),
    detached: async (bytes, created) => await armorSignature(await detached(bytes, 'sha256sums', created)),
    signMessage: async (bytes) =>
      await make(['--sign', '-z', '0', '--set-filesize', String(bytes.length)], bytes),
  };
}

/** Signed to see whether the key can; it has no purpose, so that nobody takes it for anything. */
const PROBE = Buffer.from('sealift asks whether this key can sign\n');
const SIGNING = ['--no-armor', '--digest-algo', 'SHA512', '--default-sig-expire', '0', '--output', '-'];
