import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { createWorkerPool } from '../../../core/pool/worker-pool.ts';

const KEY = Buffer.alloc(32, 5);
const START = Buffer.alloc(16);
const JOB = { algorithm: 'aes-256-cfb', key: KEY } as const;

describe.each([[0], [1], [2]])('a cipher, with %i threads', (size) => {
  const pool = createWorkerPool({ size });
  afterAll(() => pool.close());

  test('goes on behind the block before, however the blocks are cut', async () => {
    const blocks = fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(blocks, fc.boolean(), async (sizes, shared) => {
        const plain = sizes.map((length) => {
          const bytes = randomBytes(length);
          if (!shared) return bytes;
          const block = new Uint8Array(new SharedArrayBuffer(length));
          block.set(bytes);
          return block;
        });
        const cipher = pool.cipher({ ...JOB, direction: 'encrypt' });
        const done = await Promise.all(plain.map((block) => cipher.update(block)));
        cipher.close();
        const want = createCipheriv('aes-256-cfb', KEY, START).update(Buffer.concat(plain));
        expect(Buffer.concat(done).equals(want)).toBe(true);
        // Whoever takes a block may give its memory away.
        expect(done.every(({ buffer, byteLength }) => buffer.byteLength === byteLength)).toBe(true);
      }),
      { numRuns: 20 },
    );
  });

  test('begins where it is told, so that several can share a message', async () => {
    const plain = randomBytes(64 * 7 + 5);
    const secret = createCipheriv('aes-256-cfb', KEY, START).update(plain);
    const lanes = [0, 1, 2].map(() => pool.cipher({ ...JOB, direction: 'decrypt' }));
    const done: Promise<Uint8Array>[] = [];
    for (let at = 0; at < secret.length; at += 64) {
      const iv = at === 0 ? START : secret.subarray(at - 16, at);
      const block = lanes[(at / 64) % 3]?.update(secret.subarray(at, at + 64), iv);
      if (block) done.push(block);
    }
    expect(Buffer.concat(await Promise.all(done)).equals(plain)).toBe(true);
    for (const lane of lanes) lane.close();
    expect(createDecipheriv('aes-256-cfb', KEY, START).update(secret).equals(plain)).toBe(true);
  });

  test('rejects what a key cannot be for, and everything behind it', async () => {
    const cipher = pool.cipher({ ...JOB, key: Buffer.alloc(7), direction: 'encrypt' });
    const results = await Promise.allSettled([1, 2].map(() => cipher.update(Buffer.alloc(16))));
    expect(results.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    await expect(cipher.update(Buffer.alloc(16))).rejects.toThrow();
    cipher.close();
  });

  test('that is closed rejects what is not done', async () => {
    const cipher = pool.cipher({ ...JOB, direction: 'encrypt' });
    const waiting = cipher.update(Buffer.alloc(1_000_000));
    cipher.close();
    cipher.close();
    await expect(waiting).rejects.toMatchObject({ code: 'cancelled' });
    await expect(cipher.update(Buffer.alloc(1))).rejects.toMatchObject({ code: 'cancelled' });
  });
});

test('a pool that is closed has no cipher, and those it had are told', async () => {
  const pool = createWorkerPool({ size: 1 });
  const cipher = pool.cipher({ ...JOB, direction: 'encrypt' });
  const waiting = cipher.update(Buffer.alloc(1_000_000));
  const told = expect(waiting).rejects.toMatchObject({ code: 'cancelled' });
  await pool.close();
  await told;
  expect(() => pool.cipher({ ...JOB, direction: 'encrypt' })).toThrow('closed');
});
