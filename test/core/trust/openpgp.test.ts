import type { KeyObject } from 'node:crypto';
import fc from 'fast-check';
import { enums, generateKey, type PrivateKey, reformatKey, revokeKey } from 'openpgp';
import { beforeAll, describe, expect, it } from 'vitest';
import type { SealiftError } from '../../../core/errors.ts';
import { DEFAULT_LIMITS } from '../../../core/limits.ts';
import { type Certificate, CertificateStore, readCertificate } from '../../../core/trust/certificates.ts';
import type { Purpose } from '../../../core/trust/keys.ts';
import { armoredIssuer, verifyArmored, verifyOpenpgp } from '../../../core/trust/openpgp.ts';
import { framePacket, PACKET, splitPackets } from '../../../core/trust/openpgp-packets.ts';
import { openNativeSigner, openOpenpgpSigner, type Signer } from '../../../core/trust/signer.ts';
import {
  nativeKeyOf,
  readTestKey,
  TEST_PASSPHRASE,
  testSigner,
  unlockTestKey,
} from '../../../fixtures/keys/test-keys.ts';
import {
  buildSignature,
  buildSignatureBody,
  buildV3Signature,
  createdSubpacket,
  HASH,
  issuerFingerprint,
  issuerKeyId,
  keyFlags,
  keyHashForm,
  notation,
  subpacket,
} from '../../../fixtures/openpgp-builder.ts';

const NOW = new Date('2026-06-01T00:00:00Z');
const HOUR = 60 * 60 * 1000;
const DATA = Buffer.from('what is signed\n');
const later = (ms: number): Date => new Date(NOW.getTime() + ms);

async function codeOf(action: Promise<unknown>): Promise<string> {
  try {
    await action;
  } catch (error) {
    return (error as SealiftError).code ?? `not a SealiftError: ${String(error)}`;
  }
  return 'accepted';
}

async function certificateOf(signer: Signer): Promise<Certificate> {
  return await readCertificate(signer.certificate!, DEFAULT_LIMITS);
}

let rsa: Certificate;
let rsaKey: KeyObject;

beforeAll(async () => {
  rsa = await certificateOf(await testSigner('rsa-a'));
  rsaKey = await nativeKeyOf('rsa-a');
});

interface Bend {
  type?: number;
  hash?: number;
  hashed?: readonly Uint8Array[];
  unhashed?: readonly Uint8Array[];
  tail?: Uint8Array;
}

const good = (): Buffer[] => [
  createdSubpacket(NOW),
  issuerFingerprint(rsa.fingerprint),
  notation('purpose@sealift', 'tuf-root'),
];
const built = (bend: Bend = {}): Buffer =>
  buildSignature({ data: DATA, privateKey: rsaKey, hashed: good(), ...bend });

async function judge(
  packet: Uint8Array | string,
  options: {
    certificate?: Certificate;
    mode?: 'final' | 'link';
    purpose?: Purpose;
    now?: Date;
    allowFuture?: boolean;
  } = {},
): Promise<string> {
  const { certificate = rsa, mode = 'final', purpose = 'tuf-root', now = NOW, allowFuture } = options;
  const sig = typeof packet === 'string' ? packet : Buffer.from(packet).toString('hex');
  return await codeOf(verifyOpenpgp(certificate, DATA, sig, { purpose, now, mode, allowFuture }));
}

describe('a signature by the profile', () => {
  it('is taken, made by hand and made by a signer', async () => {
    expect(await judge(built())).toBe('accepted');
    expect(
      await judge(
        built({
          hashed: [
            createdSubpacket(NOW),
            issuerKeyId(rsa.fingerprint),
            notation('purpose@sealift', 'tuf-root'),
          ],
        }),
      ),
    ).toBe('accepted');
    for (const hash of [HASH.sha256, HASH.sha384, HASH.sha512])
      expect(await judge(built({ hash }))).toBe('accepted');
    for (const name of ['rsa-a', 'ed25519-a', 'ecdsa', 'subkey'] as const) {
      const signer = await testSigner(name);
      const sig = await signer.sign(DATA, 'tuf-root', NOW);
      expect(await judge(sig, { certificate: await certificateOf(signer) }), name).toBe('accepted');
    }
  });

  it('is the same each time for RSA and legacy EdDSA', async () => {
    for (const name of ['rsa-a', 'ed25519-a', 'subkey'] as const) {
      const signer = await testSigner(name);
      expect(await signer.sign(DATA, 'tuf-targets', NOW)).toBe(await signer.sign(DATA, 'tuf-targets', NOW));
      expect(await signer.detached?.(DATA, NOW)).toBe(await signer.detached?.(DATA, NOW));
    }
  });

  it('may come in a packet with an old header', async () => {
    const body = buildSignatureBody({ data: DATA, privateKey: rsaKey, hashed: good() });
    const old = Buffer.concat([Buffer.from([0x89, body.length >> 8, body.length & 0xff]), body]);
    expect(await judge(old)).toBe('accepted');
  });
});

describe('what is no signature by the profile', () => {
  it('upper-case hex, odd hex, a bad tail', async () => {
    const hex = built().toString('hex');
    expect(await judge(hex.toUpperCase())).toBe('signature-invalid');
    expect(await judge(`${hex}0`)).toBe('signature-invalid');
    expect(await judge(`${hex}zz`)).toBe('signature-invalid');
    expect(await judge(` ${hex}`)).toBe('signature-invalid');
    expect(await judge('')).toBe('signature-invalid');
  });

  it('an extra packet behind it, of whatever kind', async () => {
    for (const tag of [PACKET.signature, PACKET.trust, PACKET.userId, 10, 21, 63]) {
      const extra = tag === PACKET.signature ? built() : framePacket(tag, Buffer.from('x'));
      expect(await judge(Buffer.concat([built(), extra]))).toBe('signature-invalid');
      expect(await judge(Buffer.concat([extra, built()]))).toBe('signature-invalid');
    }
    expect(await judge(Buffer.concat([built(), Buffer.from([0])]))).toBe('signature-invalid');
  });

  it('octets behind the signature values inside the packet', async () => {
    expect(await judge(built({ tail: Buffer.from([0]) }))).toBe('signature-invalid');
  });

  it('a packet of partial or indeterminate length', async () => {
    const body = buildSignatureBody({ data: DATA, privateKey: rsaKey, hashed: good() });
    expect(
      await judge(
        Buffer.concat([
          Buffer.from([0xc2, 0xe0 + 8]),
          body.subarray(0, 256),
          Buffer.from([192, body.length - 256 - 192]),
          body.subarray(256),
        ]),
      ),
    ).toBe('signature-invalid');
    expect(await judge(Buffer.concat([Buffer.from([0x8b]), body]))).toBe('signature-invalid');
  });

  it('a text-type signature, which would survive changed line ends', async () => {
    const data = Buffer.from('what is signed\r\n');
    expect(await judge(buildSignature({ data, privateKey: rsaKey, type: 0x01, hashed: good() }))).toBe(
      'signature-invalid',
    );
  });

  it('any type but binary, though it is over the same bytes', async () => {
    for (const type of [0x01, 0x02, 0x10, 0x40])
      expect(await judge(built({ type }))).toBe('signature-invalid');
  });

  it('a critical subpacket the library knows and the profile does not', async () => {
    const policy = Buffer.from('https://example.invalid');
    expect(await judge(built({ hashed: [...good(), subpacket(26, policy)] }))).toBe('accepted');
    expect(await judge(built({ hashed: [...good(), subpacket(26, policy, true)] }))).toBe(
      'signature-invalid',
    );
  });

  it('a version 3 signature', async () => {
    const packet = buildV3Signature({
      data: DATA,
      privateKey: rsaKey,
      created: NOW,
      fingerprint: rsa.fingerprint,
    });
    expect(await judge(packet)).toBe('signature-invalid');
  });

  it('SHA-1 and SHA-224', async () => {
    expect(await judge(built({ hash: HASH.sha1 }))).toBe('weak-algorithm');
    expect(await judge(built({ hash: HASH.sha224 }))).toBe('weak-algorithm');
  });

  it('no notation, the notation twice, in the unhashed area, or not as text', async () => {
    const purpose = notation('purpose@sealift', 'tuf-root');
    const bare = [createdSubpacket(NOW), issuerFingerprint(rsa.fingerprint)];
    expect(await judge(built({ hashed: bare }))).toBe('signature-invalid');
    expect(await judge(built({ hashed: [...bare, purpose, purpose] }))).toBe('signature-invalid');
    expect(await judge(built({ hashed: bare, unhashed: [purpose] }))).toBe('signature-invalid');
    expect(
      await judge(built({ hashed: [...bare, notation('purpose@sealift', 'tuf-root', { text: false })] })),
    ).toBe('signature-invalid');
  });

  it('the notation for another purpose', async () => {
    for (const purpose of ['tuf-timestamp', 'tuf-snapshot', 'tuf-targets', 'sha256sums'] as const) {
      expect(await judge(built(), { purpose })).toBe('signature-invalid');
    }
  });

  it('a purpose with something behind it', async () => {
    const bare = [createdSubpacket(NOW), issuerFingerprint(rsa.fingerprint)];
    expect(await judge(built({ hashed: [...bare, notation('purpose@sealift', 'tuf-root\0')] }))).toBe(
      'signature-invalid',
    );
    expect(await judge(built({ hashed: [...bare, notation('purpose@sealift.example', 'tuf-root')] }))).toBe(
      'signature-invalid',
    );
  });

  it('the creation time in the unhashed area, twice, or missing', async () => {
    const rest = good().slice(1);
    expect(await judge(built({ hashed: rest, unhashed: [createdSubpacket(NOW)] }))).toBe('signature-invalid');
    expect(await judge(built({ hashed: rest }))).toBe('signature-invalid');
    expect(await judge(built({ hashed: [createdSubpacket(later(-HOUR)), ...good()] }))).toBe(
      'signature-invalid',
    );
  });

  it('the issuer in the unhashed area only, or two that disagree', async () => {
    const [created, issuer, purpose] = good() as [Buffer, Buffer, Buffer];
    expect(
      await judge(built({ hashed: [created, purpose], unhashed: [issuer, issuerKeyId(rsa.fingerprint)] })),
    ).toBe('signature-invalid');
    const other = await testSigner('rsa-b');
    expect(await judge(built({ hashed: [created, purpose, issuer, issuerKeyId(other.fingerprint!)] }))).toBe(
      'signature-invalid',
    );
    expect(await judge(built({ hashed: [created, purpose, issuerFingerprint(other.fingerprint!)] }))).toBe(
      'signature-invalid',
    );
  });

  it('critical subpackets and notations nobody knows, and an expiry of its own', async () => {
    expect(await judge(built({ hashed: [...good(), subpacket(99, Buffer.from('x'), true)] }))).toBe(
      'signature-invalid',
    );
    expect(await judge(built({ hashed: [...good(), subpacket(99, Buffer.from('x'))] }))).toBe('accepted');
    expect(
      await judge(built({ hashed: [...good(), notation('other@example.org', 'x', { critical: true })] })),
    ).toBe('signature-invalid');
    expect(await judge(built({ hashed: [...good(), notation('other@example.org', 'x')] }))).toBe('accepted');
    expect(await judge(built({ hashed: [...good(), subpacket(3, Buffer.from([0, 0, 1, 0]))] }))).toBe(
      'signature-invalid',
    );
  });

  it('a subpacket that runs over the end of its area', async () => {
    const bent = Buffer.from(subpacket(99, Buffer.from('xyz')));
    bent[0] = 40;
    expect(await judge(built({ hashed: [...good(), bent] }))).toBe('signature-invalid');
    expect(await judge(built({ unhashed: [bent] }))).toBe('signature-invalid');
  });

  it('a signature from the future, and one older than its key', async () => {
    const at = (date: Date) => built({ hashed: [createdSubpacket(date), ...good().slice(1)] });
    expect(await judge(at(later(48 * HOUR)))).toBe('accepted');
    expect(await judge(at(later(48 * HOUR + 1000)))).toBe('signature-invalid');
    expect(await judge(at(later(48 * HOUR + 1000)), { mode: 'link' })).toBe('signature-invalid');
    expect(await judge(at(later(48 * HOUR + 1000)), { allowFuture: true })).toBe('accepted');
    expect(await judge(at(new Date('2025-12-31T23:59:59Z')))).toBe('signature-invalid');
  });

  it('a good signature over other bytes, and one by another key', async () => {
    expect(
      await codeOf(
        verifyOpenpgp(rsa, Buffer.from('else'), built().toString('hex'), {
          purpose: 'tuf-root',
          now: NOW,
          mode: 'final',
        }),
      ),
    ).toBe('signature-invalid');
    const forged = buildSignature({ data: DATA, privateKey: await nativeKeyOf('rsa-b'), hashed: good() });
    expect(await judge(forged)).toBe('signature-invalid');
  });

  it('any other byte: what is signed is refused, what is not signed changes nothing', async () => {
    const unhashed = [subpacket(99, Buffer.from('comment')), issuerKeyId('0'.repeat(40))];
    const packet = built({ unhashed });
    expect(await judge(packet)).toBe('accepted');
    const loose = packet.indexOf(Buffer.concat(unhashed));
    const looseEnd = loose + Buffer.concat(unhashed).length;
    for (let at = 0; at < packet.length; at += 1) {
      const bent = Buffer.from(packet);
      bent[at] = bent[at]! ^ (1 << (at % 8));
      const code = await judge(bent);
      if (code === 'accepted') expect(at >= loose && at < looseEnd, `byte ${at}`).toBe(true);
    }
  });

  it('never anything but a refusal, whatever the bytes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 400 }), async (bytes) => {
        expect(await judge(bytes)).toMatch(/^(signature-invalid|weak-algorithm)$/);
        expect(await codeOf(readCertificate(bytes, DEFAULT_LIMITS))).toMatch(
          /^(metadata-malformed|weak-algorithm)$/,
        );
      }),
      { numRuns: 200 },
    );
  });
});

describe('armored signatures', () => {
  const options = { purpose: 'sha256sums', now: NOW, mode: 'final' } as const;
  const verify = async (text: string) => await codeOf(verifyArmored(rsa, DATA, Buffer.from(text), options));

  it('are taken, and name their issuer', async () => {
    const armored = (await (await testSigner('rsa-a')).detached?.(DATA, NOW)) ?? '';
    expect(armored).toMatch(/^-----BEGIN PGP SIGNATURE-----\n/);
    expect(await verify(armored)).toBe('accepted');
    expect(await verify(armored.replaceAll('\n', '\r\n'))).toBe('accepted');
    expect(await armoredIssuer(Buffer.from(armored))).toBe(rsa.fingerprint);
  });

  it('are refused as garbage', async () => {
    const armored = (await (await testSigner('rsa-a')).detached?.(DATA, NOW)) ?? '';
    expect(await verify('')).toBe('signature-invalid');
    expect(await verify('-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n')).toBe(
      'signature-invalid',
    );
    expect(await verify('-----BEGIN PGP SIGNATURE-----\n\n=====\n-----END PGP SIGNATURE-----\n')).toBe(
      'signature-invalid',
    );
    expect(await verify(armored.replaceAll('SIGNATURE', 'MESSAGE'))).toBe('signature-invalid');
    expect(await verify(`x\n${armored}`)).toBe('signature-invalid');
    expect(await verify(armored + armored)).toBe('signature-invalid');
    expect(await verify(`-----BEGIN PGP SIGNED MESSAGE-----\n\n${DATA.toString()}${armored}`)).toBe(
      'signature-invalid',
    );
    expect(await verify(armored.slice(0, armored.length / 2))).toBe('signature-invalid');
  });

  it('are no signatures over metadata', async () => {
    const signer = await testSigner('rsa-a');
    const armored = (await signer.detached?.(DATA, NOW)) ?? '';
    expect(
      await codeOf(verifyArmored(rsa, DATA, Buffer.from(armored), { ...options, purpose: 'tuf-targets' })),
    ).toBe('signature-invalid');
  });
});

describe('keys that have ended', () => {
  const certificate = async (key: { write(): Uint8Array }) =>
    await readCertificate(key.write(), DEFAULT_LIMITS);
  const revoked = async (flag: number, date = NOW) => {
    const { publicKey } = await revokeKey({
      key: await unlockTestKey('rsa-a'),
      reasonForRevocation: { flag, string: 'test' },
      date,
      format: 'object',
    });
    return await certificate(publicKey);
  };

  it('expired: refused in final metadata, ignored in a link', async () => {
    const { publicKey } = await reformatKey({
      privateKey: await unlockTestKey('rsa-a'),
      userIDs: [{ name: 'expiring' }],
      keyExpirationTime: 30 * 24 * 3600,
      date: new Date('2026-01-01T00:00:00Z'),
      format: 'object',
      config: { v6Keys: false },
    });
    const expired = await certificate(publicKey);
    expect(expired.expires).toEqual(new Date('2026-01-31T00:00:00Z'));
    expect(await judge(built(), { certificate: expired })).toBe('key-expired');
    expect(await judge(built(), { certificate: expired, mode: 'link' })).toBe('accepted');
    const early = built({ hashed: [createdSubpacket(new Date('2026-01-02T00:00:00Z')), ...good().slice(1)] });
    expect(await judge(early, { certificate: expired, now: new Date('2026-01-30T23:59:59Z') })).toBe(
      'accepted',
    );
    expect(await judge(early, { certificate: expired })).toBe('key-expired');
  });

  it('soft-revoked: refused in final metadata, ignored in a link', async () => {
    for (const flag of [enums.reasonForRevocation.keySuperseded, enums.reasonForRevocation.keyRetired]) {
      const soft = await revoked(flag);
      expect(soft.revocation).toBe('soft');
      expect(await judge(built(), { certificate: soft })).toBe('key-revoked');
      expect(await judge(built(), { certificate: soft, mode: 'link' })).toBe('accepted');
    }
  });

  it('hard-revoked: refused everywhere, whenever it was revoked', async () => {
    for (const flag of [enums.reasonForRevocation.noReason, enums.reasonForRevocation.keyCompromised]) {
      for (const date of [NOW, later(1000 * HOUR)]) {
        const hard = await revoked(flag, date);
        expect(hard.revocation).toBe('hard');
        expect(await judge(built(), { certificate: hard })).toBe('key-revoked');
        expect(await judge(built(), { certificate: hard, mode: 'link' })).toBe('key-revoked');
      }
    }
  });

  it('hard-revoked for a reason nobody knows, for none, and by a weak hash', async () => {
    for (const [hash, reason] of [
      [HASH.sha256, [subpacket(29, Buffer.from([100]))]],
      [HASH.sha256, []],
      [HASH.sha1, []],
    ] as const) {
      const [primary, ...rest] = splitPackets(rsa.bytes);
      const revocation = buildSignatureBody({
        data: keyHashForm(primary!),
        privateKey: rsaKey,
        type: 0x20,
        hash,
        hashed: [createdSubpacket(NOW), issuerKeyId(rsa.fingerprint), ...reason],
      });
      const bytes = Buffer.concat([
        framePacket(PACKET.publicKey, primary!.body),
        framePacket(PACKET.signature, revocation),
        ...rest.map(({ tag, body }) => framePacket(tag, body)),
      ]);
      expect((await readCertificate(bytes, DEFAULT_LIMITS)).revocation).toBe('hard');
    }
  });

  it('stay revoked when another rendering does not say so', async () => {
    const hard = await revoked(enums.reasonForRevocation.keyCompromised);
    for (const order of [
      [hard, rsa],
      [rsa, hard],
    ]) {
      const store = new CertificateStore(DEFAULT_LIMITS);
      for (const { bytes } of order) await store.add(bytes);
      const merged = store.get(rsa.fingerprint)!;
      expect(merged.revocation).toBe('hard');
      expect((await readCertificate(merged.bytes, DEFAULT_LIMITS)).revocation).toBe('hard');
    }
  });

  it('are not revoked by somebody else, nor by a revocation with a flipped bit', async () => {
    const foreign = buildSignatureBody({
      data: keyHashForm(splitPackets(rsa.bytes)[0]!),
      privateKey: await nativeKeyOf('rsa-b'),
      type: 0x20,
      hashed: [createdSubpacket(NOW), issuerFingerprint(rsa.fingerprint)],
    });
    const [primary, ...rest] = splitPackets(rsa.bytes);
    const bytes = Buffer.concat([
      framePacket(PACKET.publicKey, primary!.body),
      framePacket(PACKET.signature, foreign),
      ...rest.map(({ tag, body }) => framePacket(tag, body)),
    ]);
    expect((await readCertificate(bytes, DEFAULT_LIMITS)).revocation).toBe('none');
  });

  it('are renewed by a merged certificate', async () => {
    const reformat = async (name: string, days: number, date: string) => {
      const { publicKey } = await reformatKey({
        privateKey: await unlockTestKey('rsa-a'),
        userIDs: [{ name }],
        keyExpirationTime: days * 24 * 3600,
        date: new Date(date),
        format: 'object',
        config: { v6Keys: false },
      });
      return publicKey.write();
    };
    const store = new CertificateStore(DEFAULT_LIMITS);
    await store.add(await reformat('same', 30, '2026-01-01T00:00:00Z'));
    const renewed = await store.add(await reformat('same', 300, '2026-01-20T00:00:00Z'));
    expect(renewed.expires).toEqual(new Date('2026-10-28T00:00:00Z'));
    // The older rendering, brought again, takes nothing back.
    const again = await store.add(await reformat('same', 30, '2026-01-01T00:00:00Z'));
    expect(again.expires).toEqual(renewed.expires);
  });
});

describe('signing subkeys', () => {
  it('are taken with a valid back-signature', async () => {
    const signer = await testSigner('subkey');
    const certificate = await certificateOf(signer);
    expect(certificate.keys.map(({ isPrimary, canSign }) => [isPrimary, canSign])).toEqual([
      [true, true],
      [false, true],
    ]);
    const verified = await verifyOpenpgp(certificate, DATA, await signer.sign(DATA, 'tuf-root', NOW), {
      purpose: 'tuf-root',
      now: NOW,
      mode: 'final',
    });
    expect(verified.key.isPrimary).toBe(false);
    expect(verified.fingerprint).toBe(certificate.fingerprint);
  });

  it('are refused without a back-signature: somebody else’s key adopted as a subkey', async () => {
    const [primary, ...rest] = splitPackets(rsa.bytes);
    // rsa-b's key, bound to rsa-a with the flag for signing, without a word of rsa-b.
    const stolen = splitPackets((await testSigner('rsa-b')).certificate!)[0]!;
    const binding = (embedded: readonly Uint8Array[]) =>
      buildSignatureBody({
        data: keyHashForm(primary!, stolen),
        privateKey: rsaKey,
        type: 0x18,
        hashed: [
          createdSubpacket(NOW),
          issuerFingerprint(rsa.fingerprint),
          issuerKeyId(rsa.fingerprint),
          keyFlags(0x02),
          ...embedded,
        ],
      });
    const assemble = (body: Uint8Array) =>
      Buffer.concat([
        framePacket(PACKET.publicKey, primary!.body),
        ...rest.map((packet) => framePacket(packet.tag, packet.body)),
        framePacket(PACKET.publicSubkey, stolen.body),
        framePacket(PACKET.signature, body),
      ]);
    const stolenKey = await nativeKeyOf('rsa-b');
    const stolenFingerprint = (await testSigner('rsa-b')).fingerprint!;
    const signature = buildSignature({
      data: DATA,
      privateKey: stolenKey,
      hashed: [
        createdSubpacket(NOW),
        issuerFingerprint(stolenFingerprint),
        notation('purpose@sealift', 'tuf-root'),
      ],
    });
    const without = await readCertificate(assemble(binding([])), DEFAULT_LIMITS);
    expect(await judge(signature, { certificate: without })).toBe('signature-invalid');

    const long = (body: Uint8Array): Buffer => {
      const size = body.length + 1;
      return Buffer.concat([Buffer.from([255, 0, 0, size >> 8, size & 0xff, 32]), body]);
    };
    const back = (privateKey: KeyObject, data: Uint8Array) =>
      long(
        buildSignatureBody({
          data,
          privateKey,
          type: 0x19,
          hashed: [createdSubpacket(NOW), issuerKeyId(stolenFingerprint)],
        }),
      );
    const forms = keyHashForm(primary!, stolen);
    // Made by the primary instead of by the subkey; made over another primary key.
    for (const wrong of [back(rsaKey, forms), back(stolenKey, keyHashForm(stolen, primary!))]) {
      const certificate = await readCertificate(assemble(binding([wrong])), DEFAULT_LIMITS);
      expect(await judge(signature, { certificate })).toBe('signature-invalid');
    }
    const right = await readCertificate(assemble(binding([back(stolenKey, forms)])), DEFAULT_LIMITS);
    expect(await judge(signature, { certificate: right })).toBe('accepted');
  });

  it('that are revoked: soft refused in final metadata, hard everywhere', async () => {
    const key: PrivateKey = await unlockTestKey('subkey');
    const signer = await testSigner('subkey');
    const sig = await signer.sign(DATA, 'tuf-root', NOW);
    for (const [flag, final, link] of [
      [enums.reasonForRevocation.keyRetired, 'key-revoked', 'accepted'],
      [enums.reasonForRevocation.noReason, 'key-revoked', 'key-revoked'],
    ] as const) {
      const subkey = await key.subkeys[0]!.revoke(key.keyPacket as never, { flag, string: '' }, NOW);
      const publicKey = key.toPublic();
      publicKey.subkeys = [{ ...subkey, toPacketList: undefined } as never];
      const primary = splitPackets(signer.certificate!);
      const at = primary.findIndex(({ tag }) => tag === PACKET.publicSubkey);
      const revocation = framePacket(
        PACKET.signature,
        (
          subkey as unknown as { revocationSignatures: { write(): Uint8Array }[] }
        ).revocationSignatures[0]!.write(),
      );
      const bytes = Buffer.concat([
        ...primary.slice(0, at + 1).map((p) => framePacket(p.tag, p.body)),
        revocation,
        ...primary.slice(at + 1).map((p) => framePacket(p.tag, p.body)),
      ]);
      const certificate = await readCertificate(bytes, DEFAULT_LIMITS);
      expect(certificate.revocation).toBe('none');
      expect(await judge(sig, { certificate })).toBe(final);
      expect(await judge(sig, { certificate, mode: 'link' })).toBe(link);
    }
  });
});

describe('certificates', () => {
  it('are refused unless exactly one public key that certifies itself', async () => {
    const other = (await testSigner('rsa-b')).certificate!;
    const secret = (await unlockTestKey('rsa-a')).write();
    const packets = splitPackets(rsa.bytes);
    const bare = framePacket(PACKET.publicKey, packets[0]!.body);
    const cases: [string, Uint8Array][] = [
      ['empty', Buffer.alloc(0)],
      ['two keys', Buffer.concat([rsa.bytes, other])],
      ['a secret key', secret],
      ['garbage behind', Buffer.concat([rsa.bytes, Buffer.from('x')])],
      ['a trust packet', Buffer.concat([rsa.bytes, framePacket(PACKET.trust, Buffer.from('x'))])],
      ['no self-signature', bare],
      ['cut off', rsa.bytes.subarray(0, -1)],
      ['armored', Buffer.from((await unlockTestKey('rsa-a')).toPublic().armor())],
      [
        'a user id of somebody else',
        Buffer.concat([
          bare,
          ...splitPackets(other)
            .slice(1)
            .map((p) => framePacket(p.tag, p.body)),
        ]),
      ],
    ];
    for (const [what, bytes] of cases)
      expect(await codeOf(readCertificate(bytes, DEFAULT_LIMITS)), what).toBe('metadata-malformed');
    expect(await codeOf(readCertificate(rsa.bytes, { ...DEFAULT_LIMITS, certificate: 100 }))).toBe(
      'metadata-malformed',
    );
  });

  it('are refused with weak or unknown algorithms and versions', async () => {
    const make = async (options: object) => {
      const { publicKey } = await generateKey({
        userIDs: [{ name: 'x' }],
        format: 'binary',
        subkeys: [],
        ...options,
      } as never);
      return publicKey as unknown as Uint8Array;
    };
    expect(await codeOf(readCertificate(await make({ type: 'curve25519' }), DEFAULT_LIMITS))).toBe(
      'weak-algorithm',
    );
    expect(
      await codeOf(
        readCertificate(
          await make({ type: 'rsa', rsaBits: 1024, config: { minRSABits: 1024 } }),
          DEFAULT_LIMITS,
        ),
      ),
    ).toBe('weak-algorithm');
    expect(
      await codeOf(
        readCertificate(await make({ type: 'curve25519', config: { v6Keys: true } }), DEFAULT_LIMITS),
      ),
    ).toBe('metadata-malformed');
  });

  it('show the user id inert', async () => {
    const { publicKey } = await generateKey({
      type: 'ecc',
      curve: 'ed25519Legacy',
      userIDs: [{ name: 'a\u001b[31mb\u202e' }],
      format: 'binary',
      subkeys: [],
      config: { v6Keys: false },
    });
    const { userId } = await readCertificate(publicKey, DEFAULT_LIMITS);
    expect(userId).toBe('a\\u{1b}[31mb\\u{202e}');
  });
});

describe('signers', () => {
  it('refuse a wrong passphrase without repeating it', async () => {
    for (const action of [
      async () => openOpenpgpSigner(await readTestKey('rsa-a'), 'wrong horse', 'keys/a.asc'),
      async () =>
        openNativeSigner(
          Buffer.from(
            rsaKey.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'right' }),
          ),
          'wrong horse',
          'keys/a.pem',
        ),
    ]) {
      const error = await action().then(
        () => undefined,
        (e: SealiftError) => e,
      );
      expect(error?.code).toBe('passphrase-needed');
      expect(`${error?.message} ${error?.hint} ${error?.stack} ${String(error?.cause)}`).not.toContain(
        'wrong horse',
      );
    }
    expect((await openOpenpgpSigner(await readTestKey('rsa-a'), TEST_PASSPHRASE, 'a')).fingerprint).toBe(
      rsa.fingerprint,
    );
  });

  it('refuse what is no key', async () => {
    expect(await codeOf(openOpenpgpSigner(Buffer.from('x'), 'p', 'f'))).toBe('state-damaged');
    expect(() => openNativeSigner(Buffer.from('x'), 'p', 'f')).toThrow('private key');
  });

  it('refuse to sign before their key was made', async () => {
    expect(
      await codeOf((await testSigner('rsa-a')).sign(DATA, 'tuf-root', new Date('2025-01-01T00:00:00Z'))),
    ).toBe('key-expired');
  });
});
