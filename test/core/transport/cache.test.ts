import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  blob,
  cut,
  type FaultRegistry,
  reply,
  startFaultRegistry,
} from '../../../fixtures/fault-registry.ts';
import { randomContent } from '../../../fixtures/images.ts';
import { blobOf, collect, failureOf, NOW, registrySource, type TestSource } from './surroundings.ts';

const CONTENT = randomContent(700_000, 'cached');
const BLOB = blobOf(CONTENT);
const HEX = BLOB.digest.slice('sha256:'.length);
const BLOB_PATH = `/v2/team/app/blobs/${BLOB.digest}`;

let directory: string;
let cache: string;
let kept: string;
let registry: FaultRegistry;
let opened: TestSource[];

beforeEach(async () => {
  directory = mkdtempSync(path.join(os.tmpdir(), 'sealift-cache-'));
  cache = path.join(directory, 'deep', 'cache');
  kept = path.join(cache, 'sha256', HEX);
  registry = await startFaultRegistry();
  registry.script(BLOB_PATH, blob(CONTENT));
  opened = [];
});
afterEach(async () => {
  for (const { source } of opened) await source.close();
  await registry.stop();
  rmSync(directory, { recursive: true, force: true });
});

async function open(): Promise<TestSource> {
  const test = await registrySource(registry.host, { cache });
  opened.push(test);
  return test;
}
const partials = (): string[] => readdirSync(cache).filter((name) => name.startsWith('partial-'));
const codes = ({ events }: TestSource): string[] =>
  events.flatMap((event) => (event.type === 'notice' ? [event.code] : []));

describe('the cache', () => {
  it('keeps a blob, and the next run asks nobody for it', async () => {
    expect(await collect((await open()).source, BLOB)).toEqual(CONTENT);
    expect(readFileSync(kept)).toEqual(CONTENT);
    expect(await collect((await open()).source, BLOB)).toEqual(CONTENT);
    expect(registry.requests).toHaveLength(1);
    expect(partials()).toEqual([]);
  });

  it.each([
    ['changed', Buffer.from(CONTENT).fill(0, 5, 9)],
    ['cut', CONTENT.subarray(1)],
  ])('throws away what was %s, says so, and asks the source', async (_how, bytes) => {
    await collect((await open()).source, BLOB);
    writeFileSync(kept, bytes);
    const test = await open();
    expect(await collect(test.source, BLOB)).toEqual(CONTENT);
    expect(codes(test)).toEqual(['cache-damaged']);
    expect(readFileSync(kept)).toEqual(CONTENT);
  });

  it('keeps nothing that is wrong', async () => {
    registry.script(BLOB_PATH, blob(Buffer.from(CONTENT).fill(0, 5, 9)));
    await collect((await open()).source, BLOB);
    expect(existsSync(kept)).toBe(false);
    expect(partials()).toEqual([]);
  });

  it('keeps nothing of what failed or was not read to its end', async () => {
    registry.script(BLOB_PATH, cut(CONTENT, 1000), reply(404));
    expect((await failureOf(collect((await open()).source, BLOB))).code).toBe('source-not-found');
    registry.script(BLOB_PATH, blob(CONTENT));
    const { source } = await open();
    for await (const _ of await source.blob({ ...BLOB, mediaType: '' })) break;
    expect(existsSync(kept)).toBe(false);
    expect(partials()).toEqual([]);
  });

  it('is used by many at once', async () => {
    const sources = await Promise.all(Array.from({ length: 8 }, open));
    const all = await Promise.all(sources.map(({ source }) => collect(source, BLOB)));
    for (const bytes of all) expect(bytes.equals(CONTENT)).toBe(true);
    expect(readFileSync(kept)).toEqual(CONTENT);
    expect(partials()).toEqual([]);
  });

  it('that cannot be written is told, and done without', async () => {
    writeFileSync(path.join(directory, 'deep'), 'a file');
    const test = await open();
    expect(await collect(test.source, BLOB)).toEqual(CONTENT);
    expect(await collect(test.source, BLOB)).toEqual(CONTENT);
    expect(codes(test)).toEqual(['cache-failed']);
  });

  it('sweeps what killed runs left, and only that', async () => {
    await collect((await open()).source, BLOB);
    const [old, fresh, other] = [
      'partial-0123456789abcdef01234567',
      'partial-76543210fedcba9876543210',
      'mine',
    ];
    for (const name of [old, fresh, other]) writeFileSync(path.join(cache, name), 'x');
    const day = 24 * 3600 * 1000;
    for (const name of [old, other]) {
      utimesSync(path.join(cache, name), NOW, new Date(NOW.getTime() - day - 1000));
    }
    utimesSync(path.join(cache, fresh), NOW, new Date(NOW.getTime() - day + 1000));
    await collect((await open()).source, BLOB);
    expect(readdirSync(cache).sort()).toEqual([other, fresh, 'sha256', 'sha512'].sort());
  });
});
