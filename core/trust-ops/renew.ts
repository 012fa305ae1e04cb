/** Renewal: roles signed anew with a later expiry and nothing else changed. */
import type { Context } from '../context.ts';
import { SealiftError } from '../errors.ts';
import {
  type Collection,
  DEFAULT_LIFETIMES,
  keysOfRole,
  metadataOf,
  signTargets,
} from '../trust/collection.ts';
import type { TargetsMetadata } from '../trust/metadata.ts';
import type { Signer } from '../trust/signer.ts';
import {
  assertRole,
  BY_EXPORT,
  editableRoot,
  type KeyFile,
  openKeyFile,
  signRoot,
  signRootWith,
  type TrustOptions,
  withCollection,
} from './common.ts';
import { finishChange, type Pending, signersHere } from './request.ts';

export interface RenewOptions extends TrustOptions {
  /** Empty for every role whose keys are here; root among them in its last year only. */
  readonly roles: readonly string[];
  /** Milliseconds; the profile's default of each role unless given. */
  readonly lifetime?: number | undefined;
  /** For a root whose other keys are not here. */
  readonly recoveryKey?: KeyFile | undefined;
  /** Where the roles go for others to sign; staged here unless given. */
  readonly request?: string | undefined;
}

const YEAR_MS = 365 * 24 * 60 * 60 * 1000;

/**
 * Signs roles anew; the next bundle takes them along. All of them are renewed, or none.
 * @throws SealiftError `signature-needed`, `passphrase-needed`, `name-not-found`, `invalid-argument`
 */
export async function renewRoles(options: RenewOptions, context: Context): Promise<Pending> {
  return await withCollection(options, context, async (collection, created) => {
    const { state } = collection;
    for (const role of options.roles) {
      assertRole(state, role);
      if (BY_EXPORT.has(role)) {
        throw new SealiftError('invalid-argument', `${role} is signed by every export`, {
          subject: role,
          hint: 'sealift export renews it; with --metadata-only it carries no images',
        });
      }
    }
    const given = options.recoveryKey ? [await openKeyFile(options.recoveryKey, context)] : [];
    const wanted = options.roles.length > 0 ? new Set(options.roles) : renewable(collection, created);
    const opened = await collection.keyring(
      [...wanted].filter((role) => role !== 'root' || given.length === 0),
      options,
    );
    const signers = [...opened, ...given];
    const roles =
      options.roles.length > 0
        ? [...wanted]
        : [...wanted].filter((role) => isHeld(collection, role, signers));
    if (roles.length === 0) {
      throw new SealiftError('signature-needed', 'no role can be signed with the keys that are here', {
        subject: collection.directory,
        hint: 'name a role with --role to see which keys it needs',
      });
    }
    const version = await collection.reserveVersion();
    const isRequest = options.request !== undefined;
    const files: { role: string; bytes: Uint8Array }[] = [];
    for (const role of roles) {
      if (role === 'root') {
        const life = options.lifetime ?? DEFAULT_LIFETIMES.root;
        const mine = signersHere(state, 'root', signers, isRequest);
        const bytes = isRequest
          ? await signRootWith(state, editableRoot(state), mine, created, life)
          : await signRoot(state, editableRoot(state), mine, created, life);
        files.push({ role, bytes });
        continue;
      }
      const mine = signersHere(state, role, signers, isRequest);
      const change = { role, version, created, lifetimeMs: options.lifetime };
      const { bytes } = await signTargets(metadataOf(state, role) as TargetsMetadata, change, mine);
      files.push({ role, bytes });
    }
    return await finishChange(collection, { version, created, files }, options.request, context);
  });
}

function renewable({ state }: Collection, created: Date): Set<string> {
  const roles = new Set(['targets', ...[...state.delegated.keys()].filter((role) => !BY_EXPORT.has(role))]);
  if (state.root.expires.getTime() < created.getTime() + YEAR_MS) roles.add('root');
  return roles;
}

function isHeld({ state }: Collection, role: string, signers: readonly Signer[]): boolean {
  const keys = keysOfRole(state, role);
  return (
    keys !== undefined && signers.filter(({ keyId }) => keys.keyids.includes(keyId)).length >= keys.threshold
  );
}
