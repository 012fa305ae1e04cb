/** README.txt of a bundle: its own facts, and the exact commands to check it by hand with stock tools. */
import { inert } from '../errors.ts';

export interface ReadmeFacts {
  readonly collection: { readonly id: string; readonly name: string };
  readonly version: number;
  readonly created: string;
  readonly expires: string;
  readonly rootFingerprint: string;
  /** Fingerprint of the OpenPGP key that signed SHA256SUMS; absent for native keys. */
  readonly signerFingerprint?: string | undefined;
  readonly images: readonly {
    readonly name: string;
    readonly digest: string;
    readonly platforms: readonly string[];
  }[];
  /** True where some blobs are named by sha512. */
  readonly sha512: boolean;
  readonly dockerArchive: boolean;
  /** Of a delta. */
  readonly base?: { readonly version: number; readonly blobs: number } | undefined;
}

/** Named one by one; more of them would make a text that nobody reads, and in the end one that a reader refuses. */
const MOST_IMAGES = 1000;

/** Plain ASCII, lines of at most 100 characters save for names and digests. */
export function readmeText(facts: ReadmeFacts): Buffer {
  const lines = [
    `sealift bundle ${facts.version} of the collection "${ascii(facts.collection.name)}"`,
    '',
    `Collection id     ${facts.collection.id}`,
    `Root fingerprint  ${facts.rootFingerprint}`,
    ...(facts.signerFingerprint ? [`Signing key       ${facts.signerFingerprint.toUpperCase()}`] : []),
    `Created           ${facts.created}`,
    `Expires           ${facts.expires}`,
    '',
    `Images (${facts.images.length})`,
    ...facts.images
      .slice(0, MOST_IMAGES)
      .flatMap(({ name, digest, platforms }) => [
        `  ${name}`,
        `    ${digest}${platforms.length > 0 ? `  ${platforms.join(' ')}` : ''}`,
      ]),
    ...(facts.images.length > MOST_IMAGES
      ? [`  and ${facts.images.length - MOST_IMAGES} more: index.json and sealift.json have them all`]
      : []),
    ...(facts.images.length === 0
      ? ['  none: this bundle renews, rotates or withdraws what earlier ones brought']
      : []),
    '',
    ...(facts.base
      ? [
          `This is a delta on version ${facts.base.version}: it leaves out ${facts.base.blobs} layer(s) that the other side`,
          'holds already, and sealift import asks for them where they are not there. "base" in sealift.json',
          'lists them. Signatures, manifests, configs and evidence are all here.',
          '',
        ]
      : []),
    'Import it',
    '  sealift verify BUNDLE',
    '  sealift import BUNDLE',
    '',
    'Check it by hand',
    '  mkdir bundle && tar -xf BUNDLE -C bundle && cd bundle',
    '  sha256sum -c --quiet SHA256SUMS',
    ...(facts.sha512 ? ['  sha512sum -c --quiet SHA512SUMS'] : []),
    ...(facts.signerFingerprint
      ? [
          '  gpg --verify SHA256SUMS.asc SHA256SUMS',
          '',
          '  Give gpg both file names: with one it takes any text that this key ever signed inline.',
          '  The key must come to you by another way than this medium. gpg must name exactly the signing',
          '  key above, and that line is only worth something where you have the fingerprint from elsewhere.',
        ]
      : [
          '',
          '  This collection signs with native TUF keys, so there is no SHA256SUMS.asc; the signatures are in',
          '  metadata/ and any TUF client checks them.',
        ]),
    '',
    'What checking by hand does not cover: whether this bundle has expired or is an old one played back,',
    'whether a key or an image has been withdrawn since, and which key may speak for which image name.',
    'sealift import checks all of these.',
    '',
    ...(facts.images.length === 0 || facts.base
      ? []
      : [
          'Read it without sealift (the archive is an OCI image layout)',
          '  skopeo copy oci-archive:BUNDLE:NAME docker://REGISTRY/NAME',
          ...(facts.dockerArchive ? ['  docker load -i BUNDLE'] : []),
          '',
        ]),
  ];
  return Buffer.from(lines.join('\n'), 'latin1');
}

function ascii(text: string): string {
  return inert(text).replace(/[^\x20-\x7e]/gu, '?');
}
