/** OpenPGP keys that are about to end: a bundle is valid no longer than the keys that carry it. */
import type { Context } from '../context.ts';
import { SealiftError } from '../errors.ts';
import type { ExpiringKey } from '../results.ts';
import { type Certificate, readCertificate } from './certificates.ts';
import { type CollectionState, type Roles, rolesByKey } from './collection/state.ts';
import type { TufKey } from './keys.ts';
import { formatDate } from './metadata.ts';
import { PACKET, readSignatureBody, SUBPACKET, splitPackets } from './openpgp-packets.ts';
import type { Signer } from './signer.ts';
import type { TrustedSet } from './trusted-set.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
/** Days before its end from which a key is announced at every use: as long as a bundle is valid by default. */
export const KEY_NOTICE_DAYS = 90;

/** When nothing of a certificate can sign any more; undefined where that is never. */
function usableUntil({ keys, expires }: Certificate): Date | undefined {
  let last = 0;
  for (const key of keys) {
    if (!key.canSign || key.revocation !== 'none') continue;
    const ends = [expires, key.expires].filter((date) => date !== undefined).map((date) => date.getTime());
    if (ends.length === 0) return undefined;
    last = Math.max(last, Math.min(...ends));
  }
  return last === 0 ? expires : new Date(last);
}

/**
 * False where no signature in a certificate names an end, as in most. To say when one ends takes verifying them, which
 * a collection of many keys would pay for at each command.
 */
function mayEnd(bytes: Uint8Array): boolean {
  try {
    return splitPackets(bytes).some(
      ({ tag, body }) =>
        tag === PACKET.signature &&
        readSignatureBody(body).hashed.some(
          ({ type }) => type === SUBPACKET.expires || type === SUBPACKET.keyExpires,
        ),
    );
  } catch {
    return true;
  }
}

/**
 * The keys that end within {@link KEY_NOTICE_DAYS}, or have, soonest first.
 * @param used the keys, and the roles each of them signs
 */
export async function findExpiring(
  used: Iterable<{ readonly key: TufKey; readonly roles: readonly string[] }>,
  certificates: ReadonlyMap<string, Uint8Array>,
  context: Pick<Context, 'now' | 'limits'>,
): Promise<readonly ExpiringKey[]> {
  const found: ExpiringKey[] = [];
  for (const { key, roles } of used) {
    const bytes = key.keytype === 'openpgp' ? certificates.get(key.keyval.public) : undefined;
    if (!bytes || !mayEnd(bytes)) continue;
    const certificate = await readCertificate(bytes, context.limits).catch(() => undefined);
    const ends = certificate && usableUntil(certificate);
    if (!certificate || !ends || ends.getTime() > context.now.getTime() + KEY_NOTICE_DAYS * DAY_MS) continue;
    found.push({
      fingerprint: certificate.fingerprint,
      userId: certificate.userId,
      expires: formatDate(ends),
      expired: ends <= context.now,
      roles: [...roles],
    });
  }
  return found.sort((a, b) => (a.expires < b.expires ? -1 : 1));
}

/** The same of a result: it says which keys end soon where any do. */
export function withExpiring<T extends object>(
  result: T,
  expiringKeys: readonly ExpiringKey[],
): T & { readonly expiringKeys?: readonly ExpiringKey[] | undefined } {
  return expiringKeys.length > 0 ? { ...result, expiringKeys } : result;
}

/** Finds those of a collection, tells of them, and hands them back. */
export async function tellExpiring(
  state: Roles & Pick<CollectionState, 'certificates'>,
  context: Pick<Context, 'now' | 'limits' | 'emit'>,
): Promise<readonly ExpiringKey[]> {
  const expiring = await findExpiring(rolesByKey(state).values(), state.certificates, context);
  announceExpiring(expiring, context);
  return expiring;
}

/** The same of keys that somebody signs with. */
export async function tellExpiringSigners(
  signers: readonly Pick<Signer, 'key' | 'fingerprint' | 'certificate'>[],
  context: Pick<Context, 'now' | 'limits' | 'emit'>,
): Promise<readonly ExpiringKey[]> {
  const certificates = new Map<string, Uint8Array>();
  for (const { fingerprint, certificate } of signers)
    if (fingerprint !== undefined && certificate) certificates.set(fingerprint, certificate);
  const used = signers.map(({ key }) => ({ key, roles: [] }));
  const expiring = await findExpiring(used, certificates, context);
  announceExpiring(expiring, context);
  return expiring;
}

/** The same of what a bundle brings, for those who only receive it. */
export async function tellExpiringIn(
  set: TrustedSet,
  context: Pick<Context, 'now' | 'limits' | 'emit'>,
): Promise<readonly ExpiringKey[]> {
  const { root, targets, delegated } = set;
  if (!targets) throw new SealiftError('internal', 'targets have not been verified');
  const { certificates } = set.kept();
  const expiring = await findExpiring(
    rolesByKey({ root, targets, delegated }).values(),
    certificates,
    context,
  );
  announceExpiring(expiring, context, 'sealed');
  return expiring;
}

/** On the sealed side nobody can do anything about it but tell those who can. */
export type Side = 'connected' | 'sealed';

/** Tells of each. */
export function announceExpiring(
  expiring: readonly ExpiringKey[],
  context: Pick<Context, 'now' | 'emit'>,
  side: Side = 'connected',
): void {
  const remedy =
    side === 'connected'
      ? 'give it more time (gpg --quick-set-expire) and run sealift trust key refresh, or replace it: sealift trust key rotate'
      : 'tell those who export: they give it more time (sealift trust key refresh) or replace it (sealift trust key rotate)';
  for (const { fingerprint, userId, expires, expired, roles } of expiring) {
    const days = Math.ceil((Date.parse(expires) - context.now.getTime()) / DAY_MS);
    const when = expired
      ? `expired on ${expires}`
      : `expires on ${expires}, in ${days} day${days === 1 ? '' : 's'}`;
    const signs = roles.length === 0 ? '' : `; it signs ${roles.join(', ')}, and bundles end with it`;
    context.emit({
      type: 'notice',
      level: 'warning',
      code: expired ? 'key-expired' : 'key-expires',
      message: `the key ${fingerprint} (${userId}) ${when}${signs}; ${remedy}`,
    });
  }
}
