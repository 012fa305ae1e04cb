import { createHash, randomBytes } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createWorkerPool } from '../../../core/pool/worker-pool.ts';

/** A chunk that owns its buffer, as sockets give them, or a view into a larger one. */
const chunks = fc.array(
  fc.record({ size: fc.integer({ min: 1, max: 200_000 }), whole: fc.boolean(), given: fc.boolean() }),
  {
    maxLength: 40,
  },
);

describe.each([[0], [2]])('chunks given away, with %i threads', (size) => {
  test('are hashed and written in order with those that are copied', async () => {
    const directory = mkdtempSync(path.join(os.tmpdir(), 'sealift-give-'));
    const pool = createWorkerPool({ size });
    const file = path.join(directory, 'out');
    try {
      await fc.assert(
        fc.asyncProperty(chunks, async (plan) => {
          const fd = openSync(file, 'w+');
          const wanted = createHash('sha256');
          const content: Buffer[] = [];
          const sink = pool.stream({ target: { fd, offset: 0 }, algorithms: ['sha256'] });
          for (const { size: bytes, whole, given } of plan) {
            const source = randomBytes(bytes + 7);
            const chunk = whole
              ? new Uint8Array(source.subarray(0, bytes))
              : new Uint8Array(source.buffer, source.byteOffset + 3, bytes);
            content.push(Buffer.from(chunk));
            wanted.update(chunk);
            await (given ? sink.give(chunk) : sink.write(chunk));
          }
          const { hashes, bytes } = await sink.finish();
          closeSync(fd);
          expect(hashes.sha256).toBe(wanted.digest('hex'));
          expect(readFileSync(file).equals(Buffer.concat(content))).toBe(true);
          expect(bytes).toBe(content.reduce((sum, { length }) => sum + length, 0));
        }),
        { numRuns: 30 },
      );
    } finally {
      await pool.close();
      rmSync(directory, { recursive: true, force: true });
    }
  });

  test('are empty afterwards', async () => {
    const pool = createWorkerPool({ size });
    const sink = pool.stream({ algorithms: ['sha256'] });
    const chunk = new Uint8Array(100_000);
    await sink.give(chunk);
    await sink.finish();
    expect(chunk.length).toBe(0);
    await pool.close();
  });
});
