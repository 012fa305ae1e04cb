/** Deltas and volumes straight to where clients pull from: what is there is read before it counts. */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openBucket } from '../../../core/publish/bucket.ts';
import type { OpenDestination } from '../../../core/publish/destination.ts';
import { openStaticDirectory } from '../../../core/publish/static-directory.ts';
import { verifyDestination } from '../../../core/verify-destination.ts';
import type { ImportOptions } from '../../../core/workflow-options.ts';
import { FAKE_CREDENTIALS, type FakeS3, startFakeS3 } from '../../../fixtures/fake-s3.ts';
import {
  type FixtureManifest,
  largeImage,
  makeImage,
  makeLayer,
  singleImage,
} from '../../../fixtures/images.ts';
import { snapshotOf } from '../../../fixtures/store.ts';
import { DAY, makeWorld, START, type World } from '../../../fixtures/world.ts';
import { cutByHand, errorOf, flipByte } from '../bundle/volumes/helpers.ts';

const APP = 'registry.example/team/app:1';
const LIB = 'registry.example/team/lib:2';
const later = (days: number) => new Date(START.getTime() + days * DAY);
const BASE_LAYER = makeLayer({ 'base.txt': 'the same in all'.repeat(500) });
const BASE_BLOB = `v2/registry.example/team/app/blobs/${BASE_LAYER.blob.digest}`;

function grown(label: string): FixtureManifest {
  const layers = [BASE_LAYER, makeLayer({ 'own.txt': label.repeat(300) })];
  return makeImage({ platform: { os: 'linux', architecture: 'amd64' }, layers });
}

const saved = { ...process.env };
beforeAll(() => {
  Object.assign(process.env, FAKE_CREDENTIALS, { AWS_EC2_METADATA_DISABLED: 'true' });
});
afterAll(() => {
  for (const name of [...Object.keys(FAKE_CREDENTIALS), 'AWS_EC2_METADATA_DISABLED']) {
    if (saved[name] === undefined) delete process.env[name];
    else process.env[name] = saved[name];
  }
});

let world: World;
let tree: string;
let first: string;
let delta: string;
beforeEach(async () => {
  world = await makeWorld();
  tree = path.join(world.directory, 'tree');
  first = (await world.export({ [APP]: grown('one'), [LIB]: singleImage('lib') })).output;
  const since = { kind: 'last' } as const;
  delta = (await world.export({ [APP]: grown('two') }, { now: later(1), since })).output;
  await world.pin(first);
});
afterEach(() => world.close());

const toTree: OpenDestination = async (context) =>
  openStaticDirectory({ directory: tree, pid: process.pid }, context);

function direct(
  file: string,
  over: Partial<ImportOptions> = {},
  open: readonly OpenDestination[] = [toTree],
) {
  return world.import(file, {
    now: later(1),
    store: undefined,
    direct: { open, placement: {} },
    ...over,
  });
}

const check = async (open = toTree) =>
  verifyDestination(
    { open, gate: world.gate, store: world.store, deep: true, concurrency: 2 },
    world.context(later(1)),
  );

describe('a delta straight to a directory', () => {
  it('leaves there what the whole bundle would, and reads what it builds on', async () => {
    await direct(first);
    const result = await direct(delta);
    expect(result).toMatchObject({ imported: [APP], base: { blobs: 1 }, written: { blobs: 2 } });
    expect((await check()).good).toBe(true);
    expect(existsSync(world.store)).toBe(false);
    const wanted = { name: APP, digest: grown('two').digest };
    expect((await check()).images).toContainEqual({ ...wanted, whole: true });
  });

  it('whose base is not there is refused, names what lacks, and changes nothing', async () => {
    const error = await errorOf(() => direct(delta));
    expect(error).toMatchObject({ code: 'base-needed', check: 'base', subject: APP });
    expect(error.message).toContain(`static:${tree}`);
    expect(error.hint).toContain('--blobs-from');
    expect(existsSync(path.join(tree, 'v2'))).toBe(false);
  });

  it.each([
    ['other bytes of the same size', (file: string) => flipByte(file, 40)],
    ['another size', (file: string) => writeFileSync(file, 'short')],
    ['nothing at all', (file: string) => rmSync(file)],
  ])('does not believe a directory that has %s of the base', async (_, damage) => {
    await direct(first);
    const blob = path.join(tree, BASE_BLOB);
    // A file of its own, not one with two names.
    const bytes = readFileSync(blob);
    rmSync(blob);
    writeFileSync(blob, bytes);
    damage(blob);
    const before = snapshotOf(tree);
    expect(await errorOf(() => direct(delta))).toMatchObject({ code: 'base-needed', check: 'base' });
    expect(snapshotOf(tree)).toEqual(before);
    // The earlier bundle has it, and what is wrong is put right.
    await direct(delta, {
      blobsFrom: [first],
      direct: { open: [toTree], placement: {}, repair: { deep: true } },
    });
    expect((await check()).good).toBe(true);
  });

  it('takes its base from an earlier bundle where the directory is new', async () => {
    const { imported } = await direct(delta, { blobsFrom: [first] });
    expect(imported).toEqual([APP]);
    expect((await check()).good).toBe(true);
  });

  it('lets no wrong byte of an earlier bundle in', async () => {
    const bad = path.join(world.directory, 'bad.tar');
    const bytes = readFileSync(first);
    const at = bytes.indexOf(BASE_LAYER.blob.bytes());
    expect(at).toBeGreaterThan(0);
    bytes[at + 30] = (bytes[at + 30] ?? 0) ^ 1;
    writeFileSync(bad, bytes);
    const error = await errorOf(() => direct(delta, { blobsFrom: [bad] }));
    expect(error.code).toBe('digest-mismatch');
    expect(existsSync(path.join(tree, BASE_BLOB))).toBe(false);
    expect(existsSync(path.join(tree, 'v2/registry.example/team/app/manifests/1'))).toBe(false);
  });

  it('needs it in every destination', async () => {
    await direct(first);
    const other = path.join(world.directory, 'other');
    const toOther: OpenDestination = async (context) =>
      openStaticDirectory({ directory: other, pid: process.pid }, context);
    expect(await errorOf(() => direct(delta, {}, [toTree, toOther]))).toMatchObject({ code: 'base-needed' });
    await direct(delta, { blobsFrom: [first] }, [toTree, toOther]);
    expect((await check(toOther)).good).toBe(true);
  });

  it('writes no request, as there is no store to list', async () => {
    const request = path.join(world.directory, 'request.json');
    expect(await errorOf(() => direct(delta, { request }))).toMatchObject({
      code: 'invalid-argument',
      subject: '--request',
    });
  });
});

describe('a delta straight to a bucket', () => {
  let server: FakeS3;
  const toBucket: OpenDestination = (context) =>
    openBucket(
      {
        bucket: 'images',
        prefix: '',
        endpoint: server.url,
        region: 'us-east-1',
        pathStyle: true,
        retryTimes: 1,
        retryDelayMs: 1,
        timeoutMs: 2000,
      },
      context,
    );
  const key = BASE_BLOB;
  beforeEach(async () => {
    server = await startFakeS3();
    await direct(first, {}, [toBucket]);
    server.log.length = 0;
  });
  afterEach(() => server.close());

  it('reads and hashes the layers it builds on, where the server only tells their size', async () => {
    await direct(delta, {}, [toBucket]);
    expect(server.log.filter((line) => line === `get ${key}`)).toHaveLength(1);
    expect((await check(toBucket)).good).toBe(true);
  });

  it('makes do with the SHA-256 that the server keeps', async () => {
    server.tells = 'sha256';
    await direct(delta, {}, [toBucket]);
    expect(server.log.filter((line) => line === `get ${key}`)).toHaveLength(0);
    expect((await check(toBucket)).good).toBe(true);
  });

  it('with --check-base reads them all the same', async () => {
    server.tells = 'sha256';
    await direct(delta, { checkBase: true }, [toBucket]);
    expect(server.log.filter((line) => line === `get ${key}`)).toHaveLength(1);
  });

  it('is refused by a bucket whose layer somebody has exchanged', async () => {
    const before = server.objects.get(key);
    if (!before) throw new Error('no base');
    server.objects.set(key, { ...before, bytes: Buffer.alloc(before.bytes.length, 7) });
    const tags = [...server.objects.keys()].filter((name) => name.endsWith('/manifests/1'));
    const tag = server.objects.get(tags[0] ?? '')?.etag;
    expect(await errorOf(() => direct(delta, {}, [toBucket]))).toMatchObject({ code: 'base-needed' });
    expect(server.objects.get(tags[0] ?? '')?.etag).toBe(tag);
  });
});

describe('a check command', () => {
  const seen = () => path.join(world.directory, 'seen');
  // Hashes what it is shown: a blob that was put together wrongly would be told by its name.
  const checkCommand = () => ({
    command: [
      '/bin/sh',
      '-c',
      `cd "$1/blobs/sha256" && for f in *; do echo "$f  $f"; done | sha256sum -c --quiet && ls | wc -l >> ${seen()}`,
      'sh',
      '{}',
    ] as const,
    environment: process.env,
    timeoutMs: 10_000,
    temporary: world.directory,
    kill: () => {},
  });

  it('looks at images of a delta with what was named for it, and not with what only the destination has', async () => {
    await direct(first);
    const error = await errorOf(() => direct(delta, { checkCommand: checkCommand() }));
    expect(error).toMatchObject({ code: 'base-needed' });
    expect(error.hint).toContain('--blobs-from');
    await direct(delta, { checkCommand: checkCommand(), blobsFrom: [first] });
    expect(readFileSync(seen(), 'utf8').trim()).toBe('4');
  });

  it('looks at images in volumes', async () => {
    const large = await world.export({ [APP]: largeImage(2, 150_000) }, { now: later(1) });
    const directory = path.join(world.directory, 'volumes');
    cutByHand(large.output, directory, 40_000);
    await direct(directory, { checkCommand: checkCommand() });
    expect(readFileSync(seen(), 'utf8').trim()).toBe('4');
  });
});

describe('volumes straight to a directory', () => {
  let large: string;
  let volumes: string[];
  beforeEach(async () => {
    large = (
      await world.export({ [APP]: largeImage(2, 150_000), [LIB]: singleImage('lib') }, { now: later(1) })
    ).output;
    volumes = cutByHand(large, path.join(world.directory, 'volumes'), 40_000);
  });

  it('leave there what the bundle in one file would, blobs across volumes too', async () => {
    const { imported } = await direct(path.dirname(volumes[0] ?? ''));
    expect(imported).toEqual([APP, LIB]);
    expect((await check()).good).toBe(true);
    const whole = path.join(world.directory, 'whole');
    const open: OpenDestination = async (context) =>
      openStaticDirectory({ directory: whole, pid: process.pid }, context);
    await direct(large, {}, [open]);
    const published = (directory: string) =>
      snapshotOf(directory, (file) => file === 'index.html' || /^(?:\.sealift|config)/.test(file));
    expect(published(tree)).toEqual(published(whole));
    const kept = readdirSync(path.join(world.gate, 'destinations'), { recursive: true }).map(String);
    expect(kept.filter((name) => name.includes('.blob~'))).toEqual([]);
  });

  it('of which one is damaged let nothing wrong in, and name it', async () => {
    flipByte(volumes[3] ?? '', 20_000);
    const error = await errorOf(() => direct(path.dirname(volumes[0] ?? '')));
    expect(error).toMatchObject({ code: 'volume-damaged', subject: volumes[3] });
    expect(existsSync(path.join(tree, 'v2/registry.example/team/app/manifests/1'))).toBe(false);
  });

  it('that come one medium after another are refused, with what to do', async () => {
    const elsewhere = path.join(world.directory, 'elsewhere');
    mkdirSync(elsewhere);
    for (const file of volumes.slice(2)) renameSync(file, path.join(elsewhere, path.basename(file)));
    const error = await errorOf(() =>
      direct('', {
        bundle: { kind: 'file', path: volumes[0] ?? '', medium: async () => elsewhere },
      }),
    );
    expect(error).toMatchObject({ code: 'invalid-argument', subject: '--to' });
    expect(error.hint).toContain('into one directory');
    expect(existsSync(tree)).toBe(false);
  });
});
