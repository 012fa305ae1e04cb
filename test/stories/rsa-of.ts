/** The RSA key inside an OpenPGP key, as PEM. */
import { createPrivateKey, createPublicKey } from 'node:crypto';
import { decryptKey, readPrivateKey } from 'openpgp';

const url = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url');

export async function privateKeyOf(
  armored: string,
  passphrase: string,
): Promise<{ secret: string; open: string }> {
  const locked = await readPrivateKey({ armoredKey: armored });
  const { keyPacket } = await decryptKey({ privateKey: locked, passphrase });
  const { n, e } = keyPacket.publicParams as { n: Uint8Array; e: Uint8Array };
  const { d, p, q } = (keyPacket as unknown as { privateParams: Record<'d' | 'p' | 'q', Uint8Array> })
    .privateParams;
  const number = (bytes: Uint8Array): bigint => BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
  const modular = (value: bigint): string => {
    const hex = value.toString(16);
    return url(Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex'));
  };
  const inverse = (a: bigint, m: bigint): bigint => {
    let [r, s, x, y] = [a % m, m, 1n, 0n];
    while (r > 1n) {
      const quotient = r / s;
      [r, s] = [s, r % s];
      [x, y] = [y, x - quotient * y];
    }
    return ((x % m) + m) % m;
  };
  const key = createPrivateKey({
    key: {
      kty: 'RSA',
      n: url(n),
      e: url(e),
      d: url(d),
      p: url(p),
      q: url(q),
      dp: modular(number(d) % (number(p) - 1n)),
      dq: modular(number(d) % (number(q) - 1n)),
      qi: modular(inverse(number(q), number(p))),
    },
    format: 'jwk',
  });
  return {
    secret: key.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase }).toString(),
    open: createPublicKey(key).export({ type: 'spki', format: 'pem' }).toString(),
  };
}
