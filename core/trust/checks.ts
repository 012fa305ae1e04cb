/** What each step of the client workflow compares: versions, hashes, expiry, clocks. */
import { createHash } from 'node:crypto';
import { inert, SealiftError } from '../errors.ts';
import { formatDate, type Metadata, type MetaEntry } from './metadata.ts';
import { MAX_AHEAD_MS } from './openpgp.ts';

const MAX_LIFETIME_MS = 400 * 24 * 60 * 60 * 1000;

export function rollback(role: string, got: number, want: number): SealiftError {
  return new SealiftError(
    'rollback',
    `${inert(role)} goes back: got version ${got}, want ${want} at least, which was accepted before`,
    {
      subject: inert(role),
      got,
      want,
      hint: 'this is an older bundle than one that was accepted; use the newest',
    },
  );
}

/** What tells two contents of one version apart for the people who made them. */
function madeWhen(metadata: Metadata): string {
  const fingerprint = createHash('sha256').update(metadata.signedBytes).digest('hex').slice(0, 16);
  const created = metadata.signed['x-created'];
  return typeof created === 'string' ? `${fingerprint} made ${inert(created)}` : fingerprint;
}

/** Versions only rise, and one version has one content. */
export function compareVersions(next: Metadata, previous: Metadata | undefined, role: string): void {
  if (!previous) return;
  if (next.version < previous.version) throw rollback(role, next.version, previous.version);
  if (next.version === previous.version && !Buffer.from(next.signedBytes).equals(previous.signedBytes)) {
    throw new SealiftError(
      'fork',
      `version ${next.version} of ${inert(role)} was accepted before with other content`,
      {
        subject: inert(role),
        got: madeWhen(next),
        want: madeWhen(previous),
        hint: 'two copies of one collection sign under one name; decide which goes on, and export from that one alone',
      },
    );
  }
}

/** @throws SealiftError `metadata-expired` */
export function checkExpiry(
  metadata: Metadata,
  role: string,
  time: Date,
  check: 'root-chain' | 'timestamp' | 'snapshot' | 'targets',
): void {
  if (metadata.expires > time) return;
  throw new SealiftError(
    'metadata-expired',
    `${inert(role)} expired: got ${formatDate(metadata.expires)}, want later than ${formatDate(time)}`,
    {
      subject: inert(role),
      got: formatDate(metadata.expires),
      want: formatDate(time),
      hint: 'bring a newer bundle',
      check,
    },
  );
}

/**
 * When the timestamp was made, beside the host's clock.
 * @throws SealiftError `clock-jump`, `lifetime-too-long`
 */
export function checkClock(created: Date, expires: Date, now: Date): void {
  if (created.getTime() > now.getTime() + MAX_AHEAD_MS) {
    throw new SealiftError(
      'clock-jump',
      `timestamp was made more than 48 h from now: got ${formatDate(created)}, host clock ${formatDate(now)}`,
      {
        subject: 'timestamp',
        got: formatDate(created),
        want: formatDate(now),
        hint: 'set the clock of this host; if it is right, --allow-clock-jump takes the bundle',
        check: 'timestamp',
      },
    );
  }
  if (expires.getTime() - created.getTime() > MAX_LIFETIME_MS) {
    throw new SealiftError(
      'lifetime-too-long',
      `timestamp is to be valid until ${formatDate(expires)}, made ${formatDate(created)}, want at most 400 days`,
      {
        subject: 'timestamp',
        got: formatDate(expires),
        hint: 'export with a shorter --expires; --allow-clock-jump takes the bundle',
        check: 'timestamp',
      },
    );
  }
}

export function checkEntry(bytes: Uint8Array, entry: MetaEntry, role: string): void {
  const mismatch = (what: string) =>
    new SealiftError('mix-and-match', `${inert(role)} has another ${what} than the metadata above it says`, {
      subject: inert(role),
      hint: 'the metadata files are not of one and the same bundle, or one is damaged',
    });
  if (entry.length !== undefined && entry.length !== bytes.length) throw mismatch('length');
  let known = 0;
  for (const [algorithm, hash] of entry.hashes) {
    if (algorithm !== 'sha256' && algorithm !== 'sha512') continue;
    known += 1;
    if (createHash(algorithm).update(bytes).digest('hex') !== hash) throw mismatch('hash');
  }
  // A check that finds nothing fails.
  if (entry.hashes.size > 0 && known === 0) throw mismatch('hash algorithm');
}

export function checkVersion(metadata: Metadata, entry: MetaEntry, role: string): void {
  if (metadata.version === entry.version) return;
  throw new SealiftError(
    'mix-and-match',
    `${inert(role)} has version ${metadata.version}, want ${entry.version}`,
    {
      subject: inert(role),
      got: metadata.version,
      want: entry.version,
    },
  );
}
