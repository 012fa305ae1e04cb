/** OpenPGP keyrings as policies name them: binary or armored, one certificate or many, one behind the other. */
import { SealiftError } from '../../errors.ts';
import type { Limits } from '../../limits.ts';
import { type Certificate, type CertificateKey, CertificateStore } from '../certificates.ts';
import { framePacket, loadOpenpgp, PACKET, type Packet, splitPackets } from '../openpgp-packets.ts';

export interface Keyring {
  readonly certificates: readonly Certificate[];
  /** Keys and subkeys that a signature with this issuer could be by. */
  find(issuer: string): readonly { readonly certificate: Certificate; readonly key: CertificateKey }[];
}

const MAX_CERTIFICATES = 1000;
const ARMOR = /-----BEGIN PGP PUBLIC KEY BLOCK-----[\s\S]*?-----END PGP PUBLIC KEY BLOCK-----/g;

/**
 * Reads a keyring. Certificates that sealift does not take (too weak, malformed) are left out.
 * @throws SealiftError `signature-invalid` where nothing usable is left: an empty keyring accepts nobody
 */
export async function readKeyring(sources: readonly Uint8Array[], limits: Limits): Promise<Keyring> {
  // Renderings of one certificate are merged, so that a revocation in one of them counts.
  const store = new CertificateStore(limits);
  let seen = 0;
  let failure: unknown;
  for (const source of sources) {
    if (source.length > limits.certificate * 4) throw unusable('keyring is too large');
    for (const bytes of await binaryCertificates(source)) {
      seen += 1;
      if (seen > MAX_CERTIFICATES) throw unusable('keyring has too many keys');
      try {
        await store.add(bytes);
      } catch (error) {
        failure ??= error;
      }
    }
  }
  const certificates = [...store.all.values()];
  if (certificates.length === 0) throw unusable('keyring has no usable OpenPGP key', failure);
  const byKeyId = new Map<string, { certificate: Certificate; key: CertificateKey }[]>();
  for (const certificate of certificates) {
    for (const key of certificate.keys) {
      const id = key.fingerprint.slice(-16);
      const found = byKeyId.get(id) ?? [];
      found.push({ certificate, key });
      byKeyId.set(id, found);
    }
  }
  return {
    certificates,
    find: (issuer) =>
      (byKeyId.get(issuer.slice(-16)) ?? []).filter(({ key }) => key.fingerprint.endsWith(issuer)),
  };
}

function unusable(message: string, cause?: unknown): SealiftError {
  return new SealiftError('signature-invalid', message, { cause });
}

/** The binary form of a keyring. @throws SealiftError `signature-invalid` */
export async function binaryKeyring(source: Uint8Array): Promise<Uint8Array> {
  return Buffer.concat(await binaryCertificates(source));
}

async function binaryCertificates(source: Uint8Array): Promise<Buffer[]> {
  const blocks: Uint8Array[] = [];
  if ((source[0] ?? 0) & 0x80) blocks.push(source);
  else {
    const { unarmor, enums } = await loadOpenpgp();
    for (const [block] of Buffer.from(source).toString('latin1').matchAll(ARMOR)) {
      try {
        const { type, data } = await unarmor(block);
        if (type !== enums.armor.publicKey) throw new Error('another type of armor');
        const chunks: Uint8Array[] = [];
        if (data instanceof Uint8Array) chunks.push(data);
        else for await (const chunk of data as unknown as AsyncIterable<Uint8Array>) chunks.push(chunk);
        blocks.push(Buffer.concat(chunks));
      } catch (cause) {
        throw unusable('keyring has an armored block that does not decode', cause);
      }
    }
  }
  const found: Buffer[] = [];
  for (const block of blocks) {
    let open: Packet[] = [];
    const close = (): void => {
      if (open.length > 0) found.push(Buffer.concat(open.map(({ tag, body }) => framePacket(tag, body))));
    };
    for (const packet of splitPackets(block)) {
      // gpg keeps trust packets in its own files; they say nothing to others.
      if (packet.tag === PACKET.trust) continue;
      if (packet.tag === PACKET.publicKey) {
        close();
        open = [];
      }
      open.push(packet);
    }
    close();
  }
  return found;
}
