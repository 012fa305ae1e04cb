/** Blobs that lie in several volumes, taken in over several runs: what is durable is not asked for again. */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { MediumRequest } from '../../../../core/bundle/volumes/medium.ts';
import { collectGarbage } from '../../../../core/collect-garbage.ts';
import { mergePieces, missingPieces } from '../../../../core/store/ingest.ts';
import { largeImage, singleImage } from '../../../../fixtures/images.ts';
import { blobDigests } from '../../../../fixtures/store.ts';
import { makeWorld, type World } from '../../../../fixtures/world.ts';
import { cutByHand, flipByte } from './helpers.ts';

const LARGE = 'registry.example/large:1';
const SMALL = 'registry.example/small:1';
const VOLUME = 48 * 1024;

let world: World;
let bundle: string;
/** One directory for each volume, as if each were a stick. */
let sticks: string[];

function cut(size: number): string[] {
  const directory = path.join(world.directory, 'cut');
  return cutByHand(bundle, directory, size).map((file, at) => {
    const stick = path.join(world.directory, `stick-${size}-${at + 1}`);
    mkdirSync(stick);
    renameSync(file, path.join(stick, path.basename(file)));
    return stick;
  });
}

beforeEach(async () => {
  world = await makeWorld();
  // Two layers of 200 kB: each lies in five volumes or six.
  bundle = (await world.export({ [LARGE]: largeImage(2, 200_000), [SMALL]: singleImage('small') })).output;
  await world.pin(bundle);
  sticks = cut(VOLUME);
  expect(sticks.length).toBeGreaterThan(8);
});
afterEach(() => world.close());

const ingest = () => readdirSync(path.join(world.store, '.sealift/ingest'));

interface Walk {
  readonly asked: MediumRequest[];
  readonly read: number[];
}

/** Imports stick by stick; `order` chooses among what is wanted, and its end is the operator going home. */
async function walk(
  order: (wanted: readonly number[]) => number | undefined,
  from = sticks,
): Promise<Walk & { readonly error?: { code: string } }> {
  const seen: Walk = { asked: [], read: [] };
  try {
    await world.import('', {
      bundle: {
        kind: 'file',
        path: path.join(from[0] ?? '', 'images.tar.001'),
        medium: async (request) => {
          seen.asked.push(request);
          const number = order(request.wanted);
          if (number === undefined) return undefined;
          seen.read.push(number);
          return from[number - 1];
        },
      },
    });
    return seen;
  } catch (error) {
    return { ...seen, error: error as { code: string } };
  }
}

const first = (wanted: readonly number[]): number | undefined => wanted[0];
const last = (wanted: readonly number[]): number | undefined => wanted.at(-1);
const atMost = (count: number, order: typeof first) => {
  let left = count;
  return (wanted: readonly number[]) => {
    left -= 1;
    return left < 0 ? undefined : order(wanted);
  };
};

describe('an import from one stick after another that was stopped', () => {
  it.each([
    ['from the first on', first],
    ['from the last on', last],
  ])('asks for no stick twice but the first: %s', async (_, order) => {
    const read: number[] = [];
    for (let rounds = 0; ; rounds += 1) {
      expect(rounds).toBeLessThan(20);
      const { error, read: now } = await walk(atMost(2, order));
      read.push(...now);
      if (!error) break;
      expect(error.code).toBe('volume-missing');
    }
    expect(new Set(read).size).toBe(read.length);
    expect(read.length).toBe(sticks.length - 1);
    expect(ingest()).toEqual([]);
    // Throws where a blob is not what its name says.
    expect(blobDigests(world.store).length).toBeGreaterThan(4);
    expect((await world.import(bundle)).unchanged).toEqual([LARGE, SMALL]);
  });

  it('does not believe what an earlier run has left: a wrong piece is read again, with all of its blob', async () => {
    const whole = readFileSync(path.join(sticks[2] ?? '', 'images.tar.003'));
    flipByte(path.join(sticks[2] ?? '', 'images.tar.003'), 5000);
    const { error } = await walk(atMost(3, first));
    expect(error?.code).toBe('volume-missing');
    // A sound copy of the stick, at the next try.
    writeFileSync(path.join(sticks[2] ?? '', 'images.tar.003'), whole);
    const again = await walk(first);
    expect(again.error).toBeUndefined();
    expect(again.read).toContain(3);
    expect(
      world.events.filter((event) => event.type === 'notice' && event.code === 'pieces-wrong'),
    ).toHaveLength(1);
    expect(ingest()).toEqual([]);
    blobDigests(world.store);
  });

  it('refuses a stick that is wrong for good, and lets no blob of it in', async () => {
    flipByte(path.join(sticks[2] ?? '', 'images.tar.003'), 5000);
    await walk(atMost(3, first));
    const { error } = await walk(first);
    expect(error?.code).toBe('volume-damaged');
    blobDigests(world.store);
    expect(existsSync(path.join(world.store, 'blobs/sha256'))).toBe(true);
    expect((await world.import(bundle)).imported).toEqual([LARGE, SMALL]);
  });

  it('finds damage of the quarantined file itself', async () => {
    await walk(atMost(3, first));
    const file = ingest().find((name) => name.endsWith('.pieces')) ?? '';
    flipByte(path.join(world.store, '.sealift/ingest', file), 1000);
    const { error } = await walk(first);
    expect(error).toBeUndefined();
    blobDigests(world.store);
  });

  it('goes on from volumes of another size, and from the whole bundle', async () => {
    await walk(atMost(3, first));
    expect(ingest().length).toBeGreaterThan(0);
    const others = cut(80 * 1024);
    expect((await walk(atMost(3, first), others)).error?.code).toBe('volume-missing');
    await world.import(bundle);
    expect(ingest()).toEqual([]);
    blobDigests(world.store);
  });

  it('does not take a note about a file that is not there, or is shorter, for pieces', async () => {
    await walk(atMost(3, first));
    const [pieces = '', note = ''] = ['.pieces', '.note'].map((end) =>
      path.join(world.store, '.sealift/ingest', ingest().find((name) => name.endsWith(end)) ?? ''),
    );
    rmSync(pieces);
    writeFileSync(note, '\npiece 0 99999999999\npiece 3 x\npiece 0 -1\npiece 7');
    const { error, read } = await walk(first);
    expect(error).toBeUndefined();
    expect(read).toContain(2);
    blobDigests(world.store);
  });

  it('leaves pieces that garbage collection takes away', async () => {
    await walk(atMost(3, first));
    expect(ingest().length).toBe(2);
    const result = await collectGarbage(
      { store: world.store, gate: world.gate, dryRun: false, pid: process.pid, actor: 'tester' },
      world.context(),
    );
    expect(result.removedBlobs).toBeGreaterThan(0);
    expect(ingest()).toEqual([]);
    expect((await walk(first)).error).toBeUndefined();
  });
});

it('pieces and what is missing between them cover the whole, once', () => {
  const piece = fc.record({ at: fc.integer({ min: 0, max: 50 }), size: fc.integer({ min: 1, max: 20 }) });
  fc.assert(
    fc.property(fc.array(piece), fc.integer({ min: 1, max: 80 }), (pieces, size) => {
      const covered = new Set<number>();
      for (const { at, size: length } of pieces)
        for (let byte = at; byte < Math.min(size, at + length); byte += 1) covered.add(byte);
      const missing = new Set<number>();
      for (const { at, size: length } of missingPieces(pieces, size)) {
        expect(length).toBeGreaterThan(0);
        for (let byte = at; byte < at + length; byte += 1) {
          expect(missing.has(byte)).toBe(false);
          missing.add(byte);
        }
      }
      for (let byte = 0; byte < size; byte += 1) expect(missing.has(byte)).toBe(!covered.has(byte));
      for (const [at, one] of mergePieces(pieces).entries()) {
        const before = mergePieces(pieces)[at - 1];
        if (before) expect(one.at).toBeGreaterThan(before.at + before.size);
      }
    }),
  );
});
