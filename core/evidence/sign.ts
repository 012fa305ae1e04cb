/** Makes simple-signing signatures of images and puts them into a lookaside. */
import type { Context } from '../context.ts';
import { SealiftError } from '../errors.ts';
import type { ExpiringKey } from '../results.ts';
import { collectContent } from '../transport/collect.ts';
import { imageNameOf, type NamedLocation, pinOf, referenceIn } from '../transport/location.ts';
import { openSource, type SourceOptions } from '../transport/source.ts';
import { readCertificate } from '../trust/certificates.ts';
import { readKeyring } from '../trust/evidence/keyring.ts';
import { makeSimpleSignature, verifySimpleSignature } from '../trust/evidence/simple-signing.ts';
import { tellExpiringSigners, withExpiring } from '../trust/expiring.ts';
import { openGpgSigner } from '../trust/gpg.ts';
import { openpgpTufKey } from '../trust/keys.ts';
import { loadOpenpgp } from '../trust/openpgp-packets.ts';
import type { KeyAccess } from '../workflow-options.ts';
import { childrenOf } from './export-policy.ts';
import { writeLookaside } from './lookaside.ts';

export interface SignImageOptions extends KeyAccess {
  readonly image: NamedLocation;
  /** An OpenPGP secret key, armored or binary; absent where gpg holds it. */
  readonly key?: Uint8Array | undefined;
  /** Where the key is from, for messages, or `gpg:FINGERPRINT`. */
  readonly keyFile: string;
  /** Base directory of the lookaside. */
  readonly lookaside: string;
  readonly source: SourceOptions;
}

export interface SignResult {
  /** The name that was signed. */
  readonly name: string;
  readonly signer: string;
  /** The manifest or index first, then the manifest of each platform. */
  readonly signatures: readonly { readonly digest: string; readonly file: string }[];
  /** Absent where the key does not end soon. */
  readonly expiringKeys?: readonly ExpiringKey[] | undefined;
}

/**
 * Signs the manifest an image stands for, and where that is an index each platform's: engines that pull one platform
 * look for the signature of that one.
 * @throws SealiftError `source-*`; `passphrase-needed`; `invalid-argument` where the key is none that can sign;
 *   `weak-algorithm`, `key-expired`, `key-revoked` where nobody would accept it
 */
export async function signImage(options: SignImageOptions, context: Context): Promise<SignResult> {
  const { key } = options;
  const privateKey = key
    ? await unlockKey({ ...options, key })
    : await openGpgSigner(options.keyFile, options);
  const certificate = 'signMessage' in privateKey ? privateKey.certificate : privateKey.toPublic().write();
  const keyring = await readKeyring([certificate], context.limits);
  const { fingerprint } = await readCertificate(certificate, context.limits);
  const signer = { key: openpgpTufKey(fingerprint), fingerprint, certificate };
  const expiring = await tellExpiringSigners([signer], context);
  const name = imageNameOf(options.image);
  const source = await openSource(options.image.location, options.source, context);
  try {
    const content = await collectContent(
      [{ name, reference: referenceIn(options.image.location), pin: pinOf(options.image), source }],
      { platforms: [], includeEvidence: false, concurrency: 4 },
      context,
    );
    const [image] = content.images;
    if (!image)
      throw new SealiftError('internal', 'an image was collected and is not there', { subject: name });
    const made = [];
    let signer = '';
    for (const subject of [image.manifest, ...childrenOf(image, content, context)]) {
      const signature = await makeSimpleSignature(privateKey, name, subject.digest, context.now);
      // What others would refuse, for whatever reason, must not leave this side.
      const verified = await verifySimpleSignature(signature, subject, keyring, context.now);
      ({ signer } = verified);
      made.push({ digest: subject.digest, signature });
    }
    const signatures = [];
    for (const { digest, signature } of made)
      signatures.push({ digest, file: await writeLookaside(options.lookaside, name, digest, signature) });
    return withExpiring({ name, signer, signatures }, expiring);
  } finally {
    await source.close();
  }
}

async function unlockKey({ key, keyFile, passphrase }: SignImageOptions & { readonly key: Uint8Array }) {
  const { readPrivateKey, decryptKey } = await loadOpenpgp();
  const text = Buffer.from(key).toString('latin1');
  const locked = await (text.startsWith('-----BEGIN ')
    ? readPrivateKey({ armoredKey: text })
    : readPrivateKey({ binaryKey: key })
  ).catch((cause: unknown) => {
    throw new SealiftError('invalid-argument', 'not one OpenPGP secret key', { subject: keyFile, cause });
  });
  if (locked.isDecrypted()) return locked;
  const word = await passphrase(`key ${keyFile}`);
  if (word === undefined) {
    throw new SealiftError('passphrase-needed', 'the key is locked', {
      subject: keyFile,
      hint: 'run it on a terminal, or give --passphrase-file FILE',
    });
  }
  return decryptKey({ privateKey: locked, passphrase: word }).catch((cause: unknown) => {
    throw new SealiftError('passphrase-needed', 'the passphrase does not open the key', {
      subject: keyFile,
      cause,
    });
  });
}
