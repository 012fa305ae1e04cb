/** Adding names without exporting them: what a publisher does on a copy of the collection. */
import type { Context } from '../context.ts';
import { inert, SealiftError } from '../errors.ts';
import { imageNameOf, type NamedLocation, pinOf } from '../transport/location.ts';
import { type ImageTarget, rulerOf, signTargets } from '../trust/collection.ts';
import { type TrustOptions, withCollection } from './common.ts';
import { finishChange, type Pending, signersHere } from './request.ts';

export interface AddOptions extends TrustOptions {
  /** By full name; length and hashes are of the manifest's bytes. */
  readonly images: ReadonlyMap<string, ImageTarget>;
  /** Where the signed names go for others to sign or to take over; staged here unless given. */
  readonly request?: string | undefined;
}

/**
 * A name bound to a digest that nobody fetches: what it says was learnt elsewhere.
 * @param size bytes of the manifest
 * @throws SealiftError `invalid-digest`, `invalid-argument`
 */
export function bindName(
  named: NamedLocation,
  { digest, size, mediaType }: { readonly digest: string; readonly size: number; readonly mediaType: string },
): ReadonlyMap<string, ImageTarget> {
  const [, sha256] = /^sha256:([0-9a-f]{64})$/.exec(digest) ?? [];
  if (sha256 === undefined) {
    throw new SealiftError('invalid-digest', 'a digest is sha256: and 64 lower-case hexadecimal digits', {
      subject: inert(digest),
    });
  }
  if (!/^[a-z0-9][a-z0-9.+-]*\/[a-z0-9][a-z0-9.+-]*$/.test(mediaType)) {
    throw new SealiftError('invalid-argument', 'that is no media type', { subject: inert(mediaType) });
  }
  const pin = pinOf(named);
  if (pin !== undefined && pin !== digest) {
    throw new SealiftError(
      'invalid-argument',
      `the name says another digest: got ${inert(digest)}, want ${pin}`,
      {
        subject: inert(named.text),
      },
    );
  }
  return new Map([[imageNameOf(named), { length: size, sha256, mediaType }]]);
}

/**
 * Signs names in the roles that rule them.
 * @throws SealiftError `signature-needed`, `passphrase-needed`, `invalid-argument`
 */
export async function addNames(options: AddOptions, context: Context): Promise<Pending> {
  return await withCollection(options, context, async (collection, created) => {
    const { state } = collection;
    const byRole = new Map<string, Map<string, ImageTarget>>();
    for (const [name, image] of options.images) {
      const role = rulerOf(state, name);
      if (role === undefined) {
        throw new SealiftError('invalid-argument', `no role of the collection may name ${inert(name)}`, {
          subject: inert(name),
        });
      }
      const group = byRole.get(role) ?? new Map<string, ImageTarget>();
      byRole.set(role, group.set(name, image));
    }
    const signers = await collection.keyring([...byRole.keys()], options);
    const isRequest = options.request !== undefined;
    for (const role of byRole.keys()) signersHere(state, role, signers, isRequest);
    const version = await collection.reserveVersion();
    const files: { role: string; bytes: Uint8Array }[] = [];
    for (const [role, images] of byRole) {
      const metadata = state.delegated.get(role);
      if (!metadata) continue;
      const mine = signersHere(state, role, signers, isRequest);
      files.push({
        role,
        bytes: (await signTargets(metadata, { role, version, created, images }, mine)).bytes,
      });
    }
    return await finishChange(collection, { version, created, files }, options.request, context);
  });
}
