/** Witnessing: what stands in a role is signed again by keys that count, with not a word of it changed. */
import type { Context } from '../context.ts';
import { inert, SealiftError } from '../errors.ts';
import { type CollectionState, keysOfRole, openCollection } from '../trust/collection.ts';
import { assertRole, type TrustOptions } from './common.ts';
import { renewRoles } from './renew.ts';
import type { Pending } from './request.ts';
import { countPersons, validSignatures } from './signatures.ts';

export interface WitnessOptions extends TrustOptions {
  /** Roles of images and namespaces; empty for those whose signatures do not suffice any more. */
  readonly roles: readonly string[];
  /** Where they go for others to sign; staged here unless given. */
  readonly request?: string | undefined;
}

export interface WitnessedRole {
  readonly role: string;
  /** Whoever signs vouches for so many images. */
  readonly images: number;
  readonly withdrawn: number;
  /** People whose signature on what stood there counts today. */
  readonly counted: number;
  readonly threshold: number;
}

export interface WitnessResult extends Pending {
  /** As it was before. */
  readonly witnessed: readonly WitnessedRole[];
}

/**
 * Signs roles anew whose signatures do not suffice any more, because a key was taken from the role, has expired or
 * was revoked, or roles that are named. Their content stays; whoever signs vouches for it from now on.
 * @throws SealiftError `signature-needed`, `passphrase-needed`, `name-not-found`, `invalid-argument` for roles that are
 * signed otherwise, and where all signatures suffice
 */
export async function witnessRoles(options: WitnessOptions, context: Context): Promise<WitnessResult> {
  const { state } = await openCollection(options.collection, context.limits);
  for (const role of options.roles) {
    assertRole(state, role);
    if (role === 'bundles' || !state.delegated.has(role)) {
      throw new SealiftError('invalid-argument', `${inert(role)} lists no images`, {
        subject: inert(role),
        hint:
          role === 'root' || role === 'targets'
            ? `sealift trust renew --role ${role} signs it anew`
            : 'every export signs it anew',
      });
    }
  }
  const judged: WitnessedRole[] = [];
  for (const role of state.delegated.keys())
    if (role !== 'bundles') judged.push(await judgeRole(state, role, context));
  const witnessed =
    options.roles.length > 0
      ? judged.filter(({ role }) => options.roles.includes(role))
      : judged.filter(({ counted, threshold }) => counted < threshold);
  if (witnessed.length === 0) {
    throw new SealiftError('invalid-argument', 'every role has the signatures it needs', {
      subject: inert(state.directory),
      hint: 'name a role to have it signed again all the same',
    });
  }
  const pending = await renewRoles({ ...options, roles: witnessed.map(({ role }) => role) }, context);
  return { ...pending, witnessed };
}

async function judgeRole(state: CollectionState, role: string, context: Context): Promise<WitnessedRole> {
  const metadata = state.delegated.get(role);
  const found = keysOfRole(state, role);
  if (!metadata || !found) throw new SealiftError('internal', 'a role has no keys', { subject: inert(role) });
  const valid = await validSignatures(metadata, found.keys, state.certificates, context);
  return {
    role,
    images: metadata.targets.size,
    withdrawn: metadata.withdrawn.length,
    counted: await countPersons(found.keyids, valid, found.keys, state.certificates, context),
    threshold: found.threshold,
  };
}
