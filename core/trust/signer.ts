/** Signers: what signs TUF metadata and the list of checksums. */
import type { Purpose, TufKey } from './keys.ts';

export interface Signer {
  readonly key: TufKey;
  readonly keyId: string;
  /** Fingerprint of the OpenPGP primary key; absent for native keys. */
  readonly fingerprint?: string | undefined;
  /** Transferable public key, binary; absent for native keys. */
  readonly certificate?: Uint8Array | undefined;
  /** The `sig` field: lower-case hex. `created` goes into OpenPGP signatures. */
  sign(bytes: Uint8Array, purpose: Purpose, created: Date): Promise<string>;
  /** Armored detached signature with the purpose sha256sums; only OpenPGP signers have it. */
  readonly detached?: ((bytes: Uint8Array, created: Date) => Promise<string>) | undefined;
}
