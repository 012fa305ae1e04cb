/** Withdrawal: a signed tombstone in the role that rules the name. */
import type { Context } from '../context.ts';
import { inert, SealiftError } from '../errors.ts';
import { rulerOf, signTargets } from '../trust/collection.ts';
import { type TrustOptions, withCollection } from './common.ts';
import { finishChange, type Pending, signersHere } from './request.ts';

export interface WithdrawOptions extends TrustOptions {
  /** Full image names. */
  readonly names: readonly string[];
  /** Shown to everybody who had the image. */
  readonly reason: string;
  /** Where the tombstones go for others to sign; staged here unless given. */
  readonly request?: string | undefined;
}

export interface WithdrawResult extends Pending {
  readonly withdrawn: readonly {
    readonly name: string;
    readonly digest: string;
    readonly role: string;
    readonly reason: string;
  }[];
}

const MAX_REASON = 1000;

/**
 * Withdraws images. The next bundle tells every gate, which drops their tags; they come back only by a later
 * export of the name.
 * @throws SealiftError `name-not-found`, `signature-needed`, `passphrase-needed`, `invalid-argument`
 */
export async function withdrawNames(options: WithdrawOptions, context: Context): Promise<WithdrawResult> {
  const { reason } = options;
  if (reason.trim() === '' || reason.length > MAX_REASON || /[\p{Cc}\p{Cs}]/u.test(reason)) {
    throw new SealiftError(
      'invalid-argument',
      `a reason is one line of at most ${MAX_REASON} characters, without control characters`,
      { subject: '--reason' },
    );
  }
  return await withCollection(options, context, async (collection, created) => {
    const { state } = collection;
    const byRole = new Map<string, Map<string, string>>();
    for (const name of options.names) {
      const role = rulerOf(state, name);
      if (role === undefined || !state.delegated.get(role)?.targets.has(name)) {
        const gone = role && state.delegated.get(role)?.withdrawn.some((entry) => entry.name === name);
        throw new SealiftError(
          'name-not-found',
          gone ? 'the image has been withdrawn already' : 'the collection has no image of that name',
          { subject: inert(name), hint: 'sealift trust list shows the names' },
        );
      }
      const names = byRole.get(role) ?? new Map<string, string>();
      byRole.set(role, names.set(name, reason));
    }
    const signers = await collection.keyring([...byRole.keys()], options);
    const isRequest = options.request !== undefined;
    for (const role of byRole.keys()) signersHere(state, role, signers, isRequest);
    const version = await collection.reserveVersion();
    const files: { role: string; bytes: Uint8Array }[] = [];
    const withdrawn: WithdrawResult['withdrawn'][number][] = [];
    for (const [role, withdraw] of byRole) {
      const metadata = state.delegated.get(role);
      if (!metadata) continue;
      const { bytes } = await signTargets(
        metadata,
        { role, version, created, withdraw },
        signersHere(state, role, signers, isRequest),
      );
      files.push({ role, bytes });
      for (const name of withdraw.keys()) {
        const sha512 = metadata.targets.get(name)?.hashes.get('sha512');
        const sha256 = metadata.targets.get(name)?.hashes.get('sha256') ?? '';
        const digest = sha512 === undefined ? `sha256:${sha256}` : `sha512:${sha512}`;
        withdrawn.push({ name, digest, role, reason });
      }
    }
    const change = { version, created, files };
    return { ...(await finishChange(collection, change, options.request, context)), withdrawn };
  });
}
