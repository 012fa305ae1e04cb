/** The form of a message, and every way in which it may be wrong. */
import { deflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import {
  createMessage,
  decrypt,
  encrypt,
  generateKey,
  type PrivateKey,
  readMessage,
  readPrivateKey,
} from 'openpgp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decryptStream } from '../../../core/encryption/decrypt.ts';
import { encryptStream, readRecipients } from '../../../core/encryption/encrypt.ts';
import { messageOverhead } from '../../../core/encryption/names.ts';
import { createPacketReader, encodeLength } from '../../../core/encryption/packets.ts';
import type { WorkerPool } from '../../../core/pool/pool.ts';
import { createWorkerPool } from '../../../core/pool/worker-pool.ts';
import { randomContent } from '../../../fixtures/images.ts';
import {
  checked,
  literal,
  literalBody,
  longLength,
  MDC_HEADER,
  newReader,
  oldPacket,
  packet,
  partialPacket,
  protectedBody,
  sessionPackets,
} from './crafted.ts';

const NOW = new Date('2026-03-01T00:00:00Z');
const CONTENT = Buffer.from('what nobody else is to read, and is longer than a block of the cipher');
const PART = 1024 * 1024;

let secret: string;
let certificate: string;
let session: Buffer;
const none = createWorkerPool({ size: 0 });
const threads = createWorkerPool({ size: 2 });

beforeAll(async () => {
  ({ secret, certificate } = await newReader());
  session = await sessionPackets(certificate);
});
afterAll(() => Promise.all([none.close(), threads.close()]));

async function* cut(bytes: Uint8Array, sizes: readonly number[]): AsyncGenerator<Uint8Array> {
  for (let at = 0, i = 0; at < bytes.length; i += 1) {
    const size = sizes[i % sizes.length] ?? bytes.length;
    yield Uint8Array.from(bytes.subarray(at, at + size));
    at += size;
  }
}

async function gather(content: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of content) chunks.push(Uint8Array.from(chunk));
  return Buffer.concat(chunks);
}

async function open(message: Uint8Array, sizes = [100_000], pool: WorkerPool = none): Promise<Buffer> {
  const key = await readPrivateKey({ armoredKey: secret });
  return gather(decryptStream(cut(message, sizes), { own: [key], held: [] }, { now: NOW, pool }));
}

async function seal(content: Uint8Array, sizes = [100_000], pool: WorkerPool = none): Promise<Buffer> {
  const to = await readRecipients([{ path: 'reader.asc', bytes: Buffer.from(certificate) }], NOW);
  return gather(encryptStream(cut(content, sizes), to, { now: NOW, pool }));
}

const message = (plain: Uint8Array): Buffer => Buffer.concat([session, packet(18, protectedBody(plain))]);
const GOOD = () => message(checked(literal(CONTENT)));

async function refused(bytes: Uint8Array, why?: string): Promise<void> {
  await expect(open(bytes).then((content) => content.toString())).rejects.toMatchObject({
    code: 'decryption-failed',
    ...(why === undefined ? {} : { message: expect.stringContaining(why) }),
  });
}

/** Lengths at which a part, a block of the cipher, or the check behind it begins anew. */
const BORDERS = [0, 1, 15, PART - 30, PART - 7, PART - 6, PART - 5, PART, PART + 1];
const MORE_BORDERS = [2 * PART - 70, 2 * PART - 48, 2 * PART - 6, 2 * PART + 3, 3 * PART];

describe('what is sealed', () => {
  test.each([...BORDERS, ...MORE_BORDERS])('%i bytes come out as they went in', async (length) => {
    const content = randomContent(length, 'border');
    const sealed = await seal(content, [300_000], threads);
    expect((await open(sealed, [70_001], threads)).equals(content)).toBe(true);
    // The library as the judge of the form.
    const { data } = await decrypt({
      message: await readMessage({ binaryMessage: Uint8Array.from(sealed) }),
      decryptionKeys: await readPrivateKey({ armoredKey: secret }),
      format: 'binary',
      date: NOW,
    });
    expect(Buffer.from(data as Uint8Array).equals(content)).toBe(true);
  });

  test.each([[0], [2]])('comes out however it is cut, with %i threads', async (size) => {
    const pool = size === 0 ? none : threads;
    const piece = fc.integer({ min: 1, max: 700_000 });
    const sizes = fc.array(piece, { minLength: 1, maxLength: 5 });
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 3_000_000 }),
        sizes,
        sizes,
        async (length, inward, outward) => {
          const content = randomContent(length, `${length}`);
          const sealed = await seal(content, inward, pool);
          expect((await open(sealed, outward, pool)).equals(content)).toBe(true);
        },
      ),
      { numRuns: 12 },
    );
  });

  test('is no larger than is told beforehand', async () => {
    const to = await readRecipients([{ path: 'reader.asc', bytes: Buffer.from(certificate) }], NOW);
    for (const size of [0, 3 * PART + 5]) {
      const sealed = await seal(randomContent(size, 'size'), [300_000], none);
      expect(sealed.length - size).toBeLessThan(messageOverhead(to, size));
    }
    // By what a MiB takes more than none: for a medium of 200 GiB too.
    const parts = [2, 3].map(async (n) => (await seal(Buffer.alloc(n * PART))).length - n * PART);
    const [two = 0, three = 0] = await Promise.all(parts);
    const size = 200 * 1024 * PART;
    expect(two + (size / PART) * (three - two)).toBeLessThan(messageOverhead(to, size));
  });

  test('is never sealed twice alike', async () => {
    const [one, other] = await Promise.all([seal(CONTENT), seal(CONTENT)]);
    expect(one.equals(other)).toBe(false);
  });
});

describe('packets', () => {
  const header = fc.constantFrom('short', 'long', 'parts', 'old 0', 'old 1', 'old 2');
  const exponents = fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 12 });
  const body = fc.uint8Array({ maxLength: 255 });

  test('are read whatever form their lengths have, and however they are cut', () => {
    const plan = fc.array(fc.record({ header, exponents, body }), { maxLength: 6 });
    const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(plan, sizes, (packets, cuts) => {
        const bytes = Buffer.concat(
          packets.map(({ header: form, exponents: parts, body: content }) => {
            if (form === 'short')
              return Buffer.concat([Buffer.of(0xc0 | 11), encodeLength(content.length), content]);
            if (form === 'long') return packet(11, content);
            if (form === 'parts') return partialPacket(11, content, parts);
            return oldPacket(11, content, Number(form.slice(4)) as 0 | 1 | 2);
          }),
        );
        const reader = createPacketReader();
        const found: Buffer[] = [];
        let open = Buffer.alloc(0);
        for (let at = 0, i = 0; at < bytes.length; i += 1) {
          const size = cuts[i % cuts.length] ?? 1;
          for (const part of reader.read(bytes.subarray(at, at + size))) {
            if (part.type === 'start') open = Buffer.alloc(0);
            else if (part.type === 'body') open = Buffer.concat([open, part.bytes]);
            else found.push(open);
          }
          at += size;
        }
        expect([...reader.finish()]).toEqual([]);
        expect(found.map((one) => one.toString('hex'))).toEqual(
          packets.map((one) => Buffer.from(one.body).toString('hex')),
        );
      }),
    );
  });

  test('have the lengths that were written', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), (length) => {
        const reader = createPacketReader();
        const [start] = [...reader.read(Buffer.concat([Buffer.of(0xc0 | 11), encodeLength(length)]))];
        expect(start).toEqual({ type: 'start', tag: 11 });
        // One byte less is half a packet.
        if (length > 0) expect(() => [...reader.finish()]).toThrow('in the middle of a packet');
        else expect([...reader.finish()]).toEqual([]);
      }),
    );
  });
});

describe('a message by hand', () => {
  test('is read', async () => {
    expect((await open(GOOD())).equals(CONTENT)).toBe(true);
  });

  test.each([
    ['in parts of odd sizes', [9, 0, 0, 3, 5, 1, 0]],
    ['in parts of one byte', new Array<number>(150).fill(0)],
  ])('is read %s, outside and inside', async (_, exponents) => {
    const inner = checked(partialPacket(11, literalBody(randomContent(3000, 'odd')), exponents));
    const bytes = Buffer.concat([session, partialPacket(18, protectedBody(inner), exponents)]);
    for (const size of [1, 7, 5000])
      expect((await open(bytes, [size])).equals(randomContent(3000, 'odd'))).toBe(true);
  });

  test.each([0, 1, 2, 3] as const)('is read with a file in the old form, length type %i', async (type) => {
    const inner = checked(oldPacket(11, literalBody(CONTENT), type));
    expect((await open(message(inner))).equals(CONTENT)).toBe(true);
  });

  test('is read with the longest name a file may have, and without it', async () => {
    const inner = checked(packet(11, literalBody(CONTENT, 'n'.repeat(127))));
    expect((await open(message(inner), [3])).equals(CONTENT)).toBe(true);
  });

  test('is read with a signature around its file', async () => {
    const inner = checked(
      Buffer.concat([packet(4, Buffer.alloc(13)), literal(CONTENT), packet(2, Buffer.alloc(300))]),
    );
    expect((await open(message(inner))).equals(CONTENT)).toBe(true);
  });

  test('is read behind a marker and padding', async () => {
    const bytes = Buffer.concat([packet(10, Buffer.from('PGP')), packet(21, Buffer.alloc(99)), GOOD()]);
    expect((await open(bytes)).equals(CONTENT)).toBe(true);
  });
});

describe('a message is refused', () => {
  test('cut anywhere', async () => {
    const good = GOOD();
    for (let length = 0; length < good.length; length += 1) await refused(good.subarray(0, length));
  });

  test('cut anywhere where its length is not told at the beginning', async () => {
    const body = protectedBody(checked(partialPacket(11, literalBody(CONTENT), [4, 4, 0])));
    const good = Buffer.concat([session, partialPacket(18, body, [5, 5, 0, 1])]);
    expect((await open(good)).equals(CONTENT)).toBe(true);
    for (let length = session.length; length < good.length; length += 1)
      await refused(good.subarray(0, length));
  });

  test('with one byte changed, wherever it is', async () => {
    const good = GOOD();
    for (let at = session.length; at < good.length; at += 1) {
      for (const bit of [1, 0x80]) {
        const bad = Buffer.from(good);
        bad[at] = (bad[at] ?? 0) ^ bit;
        await refused(bad);
      }
    }
  });

  test('or read as it was, with one byte changed in its session key', async () => {
    const good = GOOD();
    for (let at = 0; at < session.length; at += 1) {
      const bad = Buffer.from(good);
      bad[at] = (bad[at] ?? 0) ^ 1;
      // Some bits of a point on the curve, and of what it is called, say nothing.
      const got = await open(bad).catch((error: { code: string }) => error.code);
      expect(['decryption-failed', 'decryption-key-needed', CONTENT.toString()]).toContain(String(got));
    }
  });

  test('with a byte changed at any border of the blocks that threads share', async () => {
    const content = randomContent(2 * PART + 100, 'borders');
    const good = await seal(content);
    const start = good.length - content.length;
    for (const border of [PART, 2 * PART]) {
      for (const near of [-24, -1, 0, 1, 16]) {
        const bad = Buffer.from(good);
        const at = start + border + near;
        bad[at] = (bad[at] ?? 0) ^ 1;
        await expect(open(bad, [500_000], threads).then(String)).rejects.toMatchObject({
          code: 'decryption-failed',
        });
      }
    }
  });

  test('with blocks that were exchanged', async () => {
    const bad = await seal(randomContent(3 * PART, 'exchanged'));
    const start = session.length + 100;
    const one = Buffer.from(bad.subarray(start, start + 64));
    bad.copyWithin(start, start + PART, start + PART + 64);
    one.copy(bad, start + PART);
    await refused(bad, 'integrity check');
  });

  test.each([
    ['without its check', literal(CONTENT)],
    ['with nothing in it', Buffer.alloc(0)],
    [
      'with the check of other content',
      Buffer.concat([literal(CONTENT), checked(literal(Buffer.from('x'))).subarray(-22)]),
    ],
    ['with half a check', checked(literal(CONTENT)).subarray(0, -10)],
    ['with a check of no hash', Buffer.concat([literal(CONTENT), MDC_HEADER, Buffer.alloc(20)])],
    [
      'with a check of another length',
      Buffer.concat([literal(CONTENT), Buffer.of(0xd3, 0x13), checked(literal(CONTENT)).subarray(-20)]),
    ],
  ])('%s', async (_, plain) => {
    await refused(message(plain), 'integrity check');
  });

  test.each([
    ['of nothing', Buffer.alloc(0), 'no file'],
    ['of a check alone, twice', checked(Buffer.alloc(0)), 'packet of type 19'],
    [
      'of a check and something behind it',
      Buffer.concat([checked(literal(CONTENT)), packet(2, Buffer.alloc(3))]),
      'packet of type 19',
    ],
    ['of two files', Buffer.concat([literal(CONTENT), literal(CONTENT)]), 'more than one file'],
    ['of a file cut off', literal(CONTENT).subarray(0, -1), 'in the middle of a packet'],
    ['of a file without its header', packet(11, Buffer.from('b\u0009short')), 'half a file'],
    ['of a file without its header or a length', oldPacket(11, Buffer.from('b'), 3), 'half a file'],
    ['of bytes that are no packet', Buffer.from('plain text'), 'no packet begins'],
    ['of a file and bytes', Buffer.concat([literal(CONTENT), Buffer.alloc(30)]), 'no packet begins'],
    ['of another message', packet(18, protectedBody(checked(literal(CONTENT)))), 'packet of type 18'],
    ['of a session key', packet(1, Buffer.alloc(80)), 'packet of type 1'],
    [
      'of something compressed',
      packet(8, Buffer.concat([Buffer.of(1), deflateRawSync(Buffer.alloc(10 ** 7))])),
      'compressed',
    ],
    [
      'of a signature without end',
      Buffer.concat([packet(2, Buffer.alloc(66_000)), literal(CONTENT)]),
      'without end',
    ],
    [
      'of a signature in parts',
      Buffer.concat([partialPacket(2, Buffer.alloc(900), [9]), literal(CONTENT)]),
      'comes in parts',
    ],
    ['of a signature without a length', oldPacket(2, Buffer.alloc(9), 3), 'has no length'],
  ])('that is right, %s', async (_, inner, why) => {
    await refused(message(checked(inner)), why);
  });

  test.each([
    ['a zero', Buffer.alloc(1)],
    ['a packet', packet(21, Buffer.alloc(3))],
    ['another message', literal(CONTENT)],
    ['half a packet', Buffer.of(0xcb)],
  ])('with %s behind it', async (_, garbage) => {
    await refused(Buffer.concat([GOOD(), garbage]));
  });

  test('whose session key is of another one', async () => {
    const other = await sessionPackets(certificate, Buffer.alloc(32, 8));
    const body = packet(18, protectedBody(checked(literal(CONTENT))));
    await refused(Buffer.concat([other, body]), 'session key is of another message');
  });

  test.each([
    ['that is armored', Buffer.from('-----BEGIN PGP MESSAGE-----\n\n'), 'armored'],
    ['that is a tar archive', Buffer.concat([Buffer.from('oci-layout'), Buffer.alloc(502)]), 'no OpenPGP'],
    ['with a passphrase', packet(3, Buffer.from('04090308aabbccddeeff001160', 'hex')), 'a passphrase'],
  ])('%s, and says so', async (_, start, why) => {
    await refused(Buffer.concat([start, packet(18, protectedBody(checked(literal(CONTENT))))]), why);
  });

  test('whose session key has the length of another cipher', async () => {
    const short = await sessionPackets(certificate, Buffer.alloc(16, 7));
    await refused(Buffer.concat([short, packet(18, protectedBody(checked(literal(CONTENT))))]));
  });

  test('whose beginning fits a session key that is not its own', async () => {
    // The octets that are there twice look right; only the check tells.
    const body = protectedBody(checked(literal(CONTENT)));
    body[1 + 3] = (body[1 + 3] ?? 0) ^ 0xff;
    await refused(Buffer.concat([session, packet(18, body)]));
  });

  test('that is encrypted without a check', async () => {
    const body = protectedBody(literal(CONTENT)).subarray(1);
    await refused(Buffer.concat([session, packet(9, body)]));
    await refused(Buffer.concat([session, oldPacket(9, body, 1)]));
  });

  test.each([0, 2, 3, 255])('of version %i that says it is one', async (version) => {
    const body = protectedBody(checked(literal(CONTENT)));
    body[0] = version;
    await refused(Buffer.concat([session, packet(18, body)]));
  });

  test('with a session key in parts, or longer than a key can be', async () => {
    const body = session.subarray(session.length - 94);
    await refused(Buffer.concat([partialPacket(1, body, [5]), GOOD().subarray(session.length)]));
    await refused(Buffer.concat([Buffer.of(0xc1), longLength(2 ** 31), session]));
  });
});

describe('the newer form', () => {
  let reader: PrivateKey;
  beforeAll(async () => {
    ({ privateKey: reader } = await generateKey({
      type: 'ecc',
      curve: 'curve25519Legacy',
      userIDs: [{ name: 'modern reader (test key)' }],
      date: new Date('2026-01-01T00:00:00Z'),
      config: { aeadProtect: true },
      format: 'object',
    }));
  });
  const read = (bytes: Uint8Array) =>
    gather(decryptStream(cut(bytes, [1000]), { own: [reader], held: [] }, { now: NOW, pool: none }));
  const versionOf = (bytes: Uint8Array): number | undefined => {
    let tag = 0;
    for (const part of createPacketReader().read(bytes)) {
      if (part.type === 'start') tag = part.tag;
      if (part.type === 'body' && tag === 18) return part.bytes[0];
    }
    return undefined;
  };

  test('is read, and refused where a byte was changed or is missing', async () => {
    const encrypted = await encrypt({
      message: await createMessage({ binary: Uint8Array.from(CONTENT), date: NOW }),
      encryptionKeys: reader.toPublic(),
      format: 'binary',
      date: NOW,
      config: { aeadProtect: true },
    });
    const good = Buffer.from(encrypted as Uint8Array);
    expect(versionOf(good)).toBe(2);
    expect((await read(good)).equals(CONTENT)).toBe(true);
    const bad = Buffer.from(good);
    bad[bad.length - 20] = (bad[bad.length - 20] ?? 0) ^ 1;
    for (const wrong of [bad, good.subarray(0, -1)])
      await expect(read(wrong).then(String)).rejects.toMatchObject({ code: 'decryption-failed' });
  });

  test('is not what is written, not even to those who read it', async () => {
    const certificateFile = { path: 'reader.asc', bytes: Buffer.from(reader.toPublic().armor()) };
    const to = await readRecipients([certificateFile], NOW);
    const sealed = await gather(encryptStream(cut(CONTENT, [10]), to, { now: NOW, pool: none }));
    expect(versionOf(sealed)).toBe(1);
    expect((await read(sealed)).equals(CONTENT)).toBe(true);
  });
});
